/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power loss under several threads: each works in a directory of its own on
 * files of its own, while another runs the cleaner, recompression and
 * checkpoints and the filesystem commits by itself. Everything is recorded,
 * then stores are built as a power cut could have left them.
 *
 * A thread's n-th operation ends with the rename of its mark to the name "n",
 * so a state tells which of a thread's operations are in it. Wanted:
 *   - what a thread's fsync acknowledged is there, and what any thread had
 *     done before another's fsync or sync began;
 *   - the moment is one: when an operation is in the state, so is every
 *     operation of any thread that had ended before that one began;
 *   - every byte of a file was written there, not before what was fsynced.
 *
 *   test_powerloss_threads [SEED [STATES|every [OPS]]]
 *
 * The order of the threads is the machine's: a seed gives the operations only.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "powerloss.h"

enum {
	NR_THREADS = 4,
	NR_FILES = 4, /* a thread */
	MAX_OPS = 300,
	MAX_VERSIONS = 3 * MAX_OPS + 1,
	BLOCK = 4096,	/* written whole, with the operation's number in it */
	NR_BLOCKS = 96, /* a file: six extents */
	EXTENT_BLOCKS = 16,
};
static const uint64_t commit_ns = 20 * 1000 * 1000;

/* What one operation made of a file: the tag of each block, 0: a hole. */
struct version {
	unsigned int size; /* blocks */
	uint64_t tag[NR_BLOCKS];
};

enum sync { NO_SYNC, FILE_SYNC, WHOLE_SYNC };

struct op {
	unsigned long begin, end; /* tickets of all threads; 0: not ended */
	size_t began;		  /* events recorded by then */
	enum sync sync;
	size_t synced;	   /* events recorded when it was acknowledged */
	unsigned int file; /* FILE_SYNC */
	unsigned int nr_versions[NR_FILES]; /* with this one */
};

struct worker {
	unsigned int no;
	uint64_t rng;
	struct bale_inode *dir, *files[NR_FILES];
	struct version *history[NR_FILES];
	unsigned int nr_versions[NR_FILES];
	struct op ops[MAX_OPS + 1];
	unsigned int nr_ops; /* ops[0] made the directory */
};

static struct worker workers[NR_THREADS];
static struct bale_fs *fs;
static struct bale_inode *root;
static atomic_ulong tickets;
static atomic_bool over;

static uint64_t draw(struct worker *w, uint64_t n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (w->rng * 0x2545f4914f6cdd1du >> 11) % n;
}

/* ---- the work ---- */

static struct version *newest(struct worker *w, unsigned int f)
{
	return &w->history[f][w->nr_versions[f] - 1];
}

static struct version *add_version(struct worker *w, unsigned int f)
{
	struct version *v = &w->history[f][w->nr_versions[f]++];

	*v = v[-1];
	return v;
}

/* 8 bytes tell who wrote them, where and when; every other operation's do not
 * shrink. */
static uint64_t word(uint64_t tag, size_t at)
{
	uint64_t s = tag ^ at * 0x9e3779b97f4a7c15u;

	if (!tag || !(tag >> 32 & 1))
		return tag;
	s = (s ^ s >> 30) * 0xbf58476d1ce4e5b9u;
	s = (s ^ s >> 27) * 0x94d049bb133111ebu;
	return s ^ s >> 31;
}

static void fill_block(struct worker *w, uint8_t *p, uint64_t *ret_tag,
		       unsigned int f, unsigned int block, unsigned int op)
{
	*ret_tag = (uint64_t)op << 32 | block << 16 | (w->no + 1) << 8 | f;
	for (size_t k = 0; k < BLOCK; k += sizeof(uint64_t)) {
		uint64_t w8 = word(*ret_tag, k);

		memcpy(p + k, &w8, sizeof(w8));
	}
}

static void write_blocks(struct worker *w, struct bale_inode *i,
			 struct version *v, unsigned int f, unsigned int first,
			 unsigned int nr, unsigned int op)
{
	static _Thread_local uint8_t buf[NR_BLOCKS * BLOCK];
	struct iovec iov = { buf, nr * BLOCK };

	for (unsigned int k = 0; k < nr; k++)
		fill_block(w, buf + k * BLOCK, &v->tag[first + k], f, first + k,
			   op);
	if (first + nr > v->size)
		v->size = first + nr;
	bale_pl_must(bale_file_write(i, &iov, 1, first * BLOCK, false, false),
		     "write");
}

static void op_write(struct worker *w, unsigned int f, unsigned int op)
{
	struct version *v = add_version(w, f);
	unsigned int first = (unsigned int)draw(w, v->size + 1);
	unsigned int nr = 1 + (unsigned int)draw(w, draw(w, 3) ? 3 : 40);

	if (first + nr > NR_BLOCKS)
		nr = NR_BLOCKS - first;
	if (nr)
		write_blocks(w, w->files[f], v, f, first, nr, op);
}

static void op_append(struct worker *w, unsigned int f, unsigned int op)
{
	struct version *v = add_version(w, f);

	if (v->size < NR_BLOCKS)
		write_blocks(w, w->files[f], v, f, v->size, 1, op);
}

static void op_truncate(struct worker *w, unsigned int f, unsigned int op)
{
	struct version *v = add_version(w, f);
	struct bale_setattr a = { .valid = BALE_SET_SIZE };

	(void)op;
	v->size = (unsigned int)draw(w, NR_BLOCKS);
	memset(v->tag + v->size, 0, (NR_BLOCKS - v->size) * sizeof(*v->tag));
	a.size = v->size * BLOCK;
	bale_pl_must(bale_inode_setattr(w->files[f], &a), "truncate");
}

static void op_punch(struct worker *w, unsigned int f, unsigned int op)
{
	struct version *v = add_version(w, f);
	unsigned int first = (unsigned int)draw(w, v->size + 1);
	unsigned int nr = 1 + (unsigned int)draw(w, 30);
	int mode = draw(w, 2) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

	(void)op;
	for (unsigned int k = first; k < first + nr && k < v->size; k++)
		v->tag[k] = 0;
	bale_pl_must(bale_file_fallocate(w->files[f],
					 mode | FALLOC_FL_KEEP_SIZE,
					 first * BLOCK, nr * BLOCK),
		     "punch");
}

/* Little enough for an inline value, and on its way into the store. */
static void make_small(struct worker *w, unsigned int f, unsigned int op)
{
	struct version *v = add_version(w, f);
	struct bale_setattr a = { .valid = BALE_SET_SIZE };

	memset(v, 0, sizeof(*v));
	bale_pl_must(bale_inode_setattr(w->files[f], &a), "truncate");
	v = add_version(w, f);
	write_blocks(w, w->files[f], v, f, 0, 1 + (unsigned int)draw(w, 4), op);
	if (draw(w, 4))
		bale_file_flush_hint(w->files[f]);
	if (draw(w, 2))
		usleep((unsigned int)draw(w, 300));
}

/* From a file and onto one that may be dirty, in flight, or being recoded. */
static void op_copy(struct worker *w, unsigned int f, unsigned int op)
{
	unsigned int g = (f + 1) % NR_FILES, from, to, nr;
	bool small = draw(w, 3) == 0;
	const struct version *src = newest(w, g);
	struct version *v;
	size_t got;

	if (!src->size)
		return;
	from = (unsigned int)draw(w, src->size) / EXTENT_BLOCKS * EXTENT_BLOCKS;
	to = small ? 0 : (unsigned int)draw(w, 3) * EXTENT_BLOCKS;
	if (small)
		make_small(w, f, op);
	v = add_version(w, f);
	nr = src->size - from;
	if (to + nr > NR_BLOCKS)
		nr = NR_BLOCKS - to;
	memcpy(v->tag + to, src->tag + from, nr * sizeof(*v->tag));
	if (to + nr > v->size)
		v->size = to + nr;
	bale_pl_must(bale_file_copy_range(w->files[g], from * BLOCK,
					  w->files[f], to * BLOCK, nr * BLOCK,
					  &got),
		     "copy");
	if (got != nr * BLOCK)
		bale_pl_must(-EIO, "copy of less than there is");
}

/* A new file, whole, renamed over the old one. */
static void op_replace(struct worker *w, unsigned int f, unsigned int op)
{
	struct version *v = add_version(w, f);
	struct bale_cred c = { 0 };
	struct bale_inode *i;
	char name[8];

	memset(v, 0, sizeof(*v));
	bale_pl_must(bale_dir_create(w->dir, "new", S_IFREG | 0644, 0, &c, &i),
		     "create");
	write_blocks(w, i, v, f, 0, 1 + (unsigned int)draw(w, 40), op);
	snprintf(name, sizeof(name), "f%u", f);
	bale_pl_must(bale_dir_rename(w->dir, "new", w->dir, name, 0),
		     "rename over");
	bale_inode_put(w->files[f]);
	w->files[f] = i;
}

/* The close of a file: it is being written out when the call returns. */
static void op_flush(struct worker *w, unsigned int f, unsigned int op)
{
	(void)op;
	bale_file_flush_hint(w->files[f]);
}

/* 8 bytes of a block are those of one of the versions. */
static bool is_known(const struct version *v, unsigned int lo, unsigned int hi,
		     size_t at, uint64_t got)
{
	for (unsigned int n = lo; n <= hi; n++)
		if (word(v[n].tag[at / BLOCK], at % BLOCK) == got)
			return true;
	return false;
}

static const char *check_bytes(const struct version *v, unsigned int lo,
			       unsigned int hi, const uint8_t *buf, size_t len)
{
	unsigned int most = 0, least = NR_BLOCKS;
	uint64_t got;

	for (unsigned int n = lo; n <= hi; n++) {
		most = v[n].size > most ? v[n].size : most;
		least = v[n].size < least ? v[n].size : least;
	}
	if (len > most * BLOCK)
		return "longer than it ever was";
	if (len < least * BLOCK && lo == hi)
		return "shorter than what was synced";
	for (size_t at = 0; at + sizeof(got) <= len; at += sizeof(got)) {
		memcpy(&got, buf + at, sizeof(got));
		if (!is_known(v, lo, hi, at, got))
			return "bytes that were not written there";
	}
	return NULL;
}

/* While it is mounted, what is there is what was written last. */
static void check_live(struct worker *w, unsigned int f)
{
	static _Thread_local uint8_t buf[NR_BLOCKS * BLOCK];
	unsigned int last = w->nr_versions[f] - 1;
	const char *what = NULL;
	size_t len;
	int r = bale_pl_read(w->files[f], buf, sizeof(buf), &len);

	if (r)
		what = strerror(-r);
	else if (len != w->history[f][last].size * BLOCK)
		what = "another size";
	else
		what = check_bytes(w->history[f], last, last, buf, len);
	if (what)
		bale_pl_fail("mounted: t%u/f%u: %s", w->no, f, what);
}

static void op_fsync(struct worker *w, unsigned int f, unsigned int op)
{
	struct op *o = &w->ops[op];

	if (draw(w, 2))
		check_live(w, f);
	bale_pl_must(bale_file_fsync(w->files[f], draw(w, 2)), "fsync");
	o->synced = bale_rec_count();
	o->file = f;
	o->sync = FILE_SYNC;
}

static void op_sync(struct worker *w, unsigned int f, unsigned int op)
{
	struct op *o = &w->ops[op];

	(void)f;
	bale_pl_must(bale_fs_sync(fs), "sync");
	o->synced = bale_rec_count();
	o->sync = WHOLE_SYNC;
}

static const struct {
	unsigned int share;
	void (*fn)(struct worker *w, unsigned int f, unsigned int op);
} file_ops[] = {
	{ 30, op_write }, { 15, op_append }, { 6, op_truncate },
	{ 7, op_punch },  { 12, op_copy },   { 7, op_replace },
	{ 5, op_flush },  { 16, op_fsync },  { 2, op_sync },
};

static void one_op(struct worker *w, unsigned int n)
{
	unsigned int f = (unsigned int)draw(w, NR_FILES), k = 0;
	uint64_t what = draw(w, 100);
	char from[16], to[16];
	struct op *o = &w->ops[n];

	o->began = bale_rec_count();
	o->begin = atomic_fetch_add(&tickets, 1) + 1;
	for (; what >= file_ops[k].share; k++)
		what -= file_ops[k].share;
	file_ops[k].fn(w, f, n);
	snprintf(from, sizeof(from), "%u", n - 1);
	snprintf(to, sizeof(to), "%u", n);
	bale_pl_must(bale_dir_rename(w->dir, from, w->dir, to, 0), "mark");
	o->end = atomic_fetch_add(&tickets, 1) + 1;
	memcpy(o->nr_versions, w->nr_versions, sizeof(o->nr_versions));
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;

	for (unsigned int n = 1; n <= w->nr_ops; n++)
		one_op(w, n);
	return NULL;
}

/* By name: its worker may have replaced it. */
static void recompress_one(struct worker *w, uint64_t any)
{
	struct bale_codec_policy p = { .codec = any & 1 ? BALE_CODEC_lz4 :
							  BALE_CODEC_zstd };
	uint64_t before, after;
	struct bale_inode *i;
	char name[8];

	snprintf(name, sizeof(name), "f%u", (unsigned int)(any / 2 % NR_FILES));
	if (bale_dir_lookup(w->dir, name, &i))
		return;
	bale_pl_must(bale_file_recompress(i, p, &before, &after), "recompress");
	bale_inode_put_unlocked(i);
}

static void *background_thread(void *arg)
{
	struct worker *w = arg; /* for its random numbers */

	while (!atomic_load(&over)) {
		struct bale_meta *m = bale_fs_meta(fs);

		switch (draw(w, 5)) {
		case 0:
			bale_pl_must(
				bale_cleaner_run(bale_fs_store(fs), UINT64_MAX),
				"clean");
			break;
		case 1:
			bale_pl_must(bale_meta_checkpoint(m), "checkpoint");
			break;
		case 2:
			bale_pl_must(bale_meta_apply(m), "apply");
			break;
		case 3:
			bale_pl_ballast(root); /* the one user of that draw */
			break;
		default:
			recompress_one(&workers[draw(w, NR_THREADS)],
				       draw(w, 64));
		}
		usleep(1000);
	}
	return NULL;
}

static void start_worker(struct worker *w, unsigned int ops)
{
	struct bale_cred c = { 0 };
	struct bale_inode *mark;
	char name[8];

	w->no = (unsigned int)(w - workers);
	w->rng = bale_pl_draw(UINT32_MAX) << 8 | (w->no + 1);
	w->nr_ops = ops;
	snprintf(name, sizeof(name), "t%u", w->no);
	bale_pl_must(bale_dir_mkdir(root, name, 0755, &c, &w->dir), "mkdir");
	bale_pl_must(bale_dir_create(w->dir, "0", S_IFREG | 0644, 0, &c, &mark),
		     "mark");
	bale_inode_put(mark);
	for (unsigned int f = 0; f < NR_FILES; f++) {
		snprintf(name, sizeof(name), "f%u", f);
		bale_pl_must(bale_dir_create(w->dir, name, S_IFREG | 0644, 0,
					     &c, &w->files[f]),
			     "create");
		w->history[f] = calloc(MAX_VERSIONS, sizeof(struct version));
		if (!w->history[f])
			bale_pl_must(-ENOMEM, "histories");
		w->nr_versions[f] = w->ops[0].nr_versions[f] = 1;
	}
}

static void end_worker(struct worker *w)
{
	for (unsigned int f = 0; f < NR_FILES; f++) {
		check_live(w, f);
		bale_inode_put(w->files[f]);
	}
	bale_inode_put(w->dir);
}

static size_t run_workload(const char *store, unsigned int ops)
{
	struct worker background = { .rng = bale_pl_draw(UINT32_MAX) | 1 };
	pthread_t threads[NR_THREADS], other;
	size_t from;

	if (ops > MAX_OPS)
		ops = MAX_OPS;
	bale_pl_mkfs(store);
	bale_pl_must(bale_pl_open(store, &bale_rec_ops, commit_ns, &fs, &root),
		     "open");
	for (unsigned int t = 0; t < NR_THREADS; t++)
		start_worker(&workers[t], ops);
	bale_pl_must(bale_fs_sync(fs), "sync");
	from = bale_rec_count();
	for (unsigned int t = 0; t < NR_THREADS; t++)
		bale_pl_must(-pthread_create(&threads[t], NULL, worker_thread,
					     &workers[t]),
			     "thread");
	bale_pl_must(
		-pthread_create(&other, NULL, background_thread, &background),
		"thread");
	for (unsigned int t = 0; t < NR_THREADS; t++)
		pthread_join(threads[t], NULL);
	atomic_store(&over, true);
	pthread_join(other, NULL);
	for (unsigned int t = 0; t < NR_THREADS; t++)
		end_worker(&workers[t]);
	bale_pl_must(bale_pl_close(fs, root), "close");
	return from;
}

/* ---- a state ---- */

/* The last operation of a thread that had ended by a ticket. */
static unsigned int ended_by(const struct worker *w, unsigned long ticket)
{
	unsigned int n = w->nr_ops;

	while (n && w->ops[n].end >= ticket)
		n--;
	return n;
}

static unsigned int begun_by(const struct worker *w, size_t k)
{
	unsigned int n = w->nr_ops;

	while (n && w->ops[n].began > k)
		n--;
	return n;
}

/* The newest beginning among the syncs that were acknowledged within k. */
static unsigned long last_sync(size_t k, enum sync least)
{
	unsigned long last = 0;

	for (unsigned int t = 0; t < NR_THREADS; t++)
		for (unsigned int n = 1; n <= workers[t].nr_ops; n++) {
			const struct op *o = &workers[t].ops[n];

			if (o->sync >= least && o->synced <= k &&
			    o->begin > last)
				last = o->begin;
		}
	return last;
}

/* The first version of a file that may still be there. */
static unsigned int oldest_version(const struct worker *w, unsigned int f,
				   size_t k)
{
	unsigned int n = ended_by(w, last_sync(k, WHOLE_SYNC));
	unsigned int lo = w->ops[n].nr_versions[f] - 1;

	for (n = 1; n <= w->nr_ops; n++) {
		const struct op *o = &w->ops[n];

		if (o->sync == FILE_SYNC && o->file == f && o->synced <= k &&
		    o->nr_versions[f] - 1 > lo)
			lo = o->nr_versions[f] - 1;
	}
	return lo;
}

static void check_file(struct worker *w, struct bale_inode *dir, unsigned int f,
		       size_t k)
{
	static uint8_t buf[NR_BLOCKS * BLOCK];
	unsigned int lo = oldest_version(w, f, k), hi;
	const char *what;
	struct bale_inode *i;
	char name[8];
	size_t len;
	int r;

	hi = w->ops[begun_by(w, k)].nr_versions[f] - 1;
	snprintf(name, sizeof(name), "f%u", f);
	r = bale_dir_lookup(dir, name, &i);
	if (r) {
		bale_pl_fail("t%u/%s: %s", w->no, name, strerror(-r));
		return;
	}
	r = bale_pl_read(i, buf, sizeof(buf), &len);
	bale_inode_put(i);
	what = r ? strerror(-r) : check_bytes(w->history[f], lo, hi, buf, len);
	if (what)
		bale_pl_fail("t%u/%s: versions %u to %u: %s", w->no, name, lo,
			     hi, what);
}

struct marks {
	unsigned int nr, n;
};

static int see_mark(const struct bale_dir_entry *e, void *arg)
{
	struct marks *m = arg;

	if (e->name[0] < '0' || e->name[0] > '9')
		return 0;
	m->nr++;
	m->n = (unsigned int)strtoul(e->name, NULL, 10);
	return 0;
}

/* What all threads' marks say together. */
static void check_moment(const unsigned int seen[NR_THREADS], size_t k)
{
	unsigned long newest_begin = 0, synced = last_sync(k, FILE_SYNC);

	for (unsigned int t = 0; t < NR_THREADS; t++)
		if (workers[t].ops[seen[t]].begin > newest_begin)
			newest_begin = workers[t].ops[seen[t]].begin;
	for (unsigned int t = 0; t < NR_THREADS; t++) {
		struct worker *w = &workers[t];

		if (seen[t] < ended_by(w, synced))
			bale_pl_fail("t%u: at %u, but %u was acknowledged", t,
				     seen[t], ended_by(w, synced));
		if (seen[t] < ended_by(w, newest_begin))
			bale_pl_fail("t%u: at %u, but others are behind %u", t,
				     seen[t], ended_by(w, newest_begin));
		if (seen[t] > begun_by(w, k))
			bale_pl_fail("t%u: at %u, which had not begun", t,
				     seen[t]);
	}
}

static void check_all(size_t k)
{
	unsigned int seen[NR_THREADS] = { 0 };

	for (unsigned int t = 0; t < NR_THREADS; t++) {
		struct marks m = { 0 };
		struct bale_inode *dir;
		char name[8];
		int r;

		snprintf(name, sizeof(name), "t%u", t);
		r = bale_dir_lookup(root, name, &dir);
		if (r) {
			bale_pl_fail("%s: %s", name, strerror(-r));
			return;
		}
		r = bale_dir_read(dir, 0, see_mark, &m);
		if (r || m.nr != 1 || m.n > workers[t].nr_ops)
			bale_pl_fail("%s: %u marks, %d", name, m.nr, r);
		else
			seen[t] = m.n;
		for (unsigned int f = 0; f < NR_FILES; f++)
			check_file(&workers[t], dir, f, k);
		bale_inode_put(dir);
	}
	check_moment(seen, k);
}

static void check_state(const char *dir, size_t k)
{
	int r;

	bale_pl_check_index(dir);
	r = bale_pl_open(dir, NULL, 0, &fs, &root);
	if (r) {
		bale_pl_fail("%s", strerror(-r));
		return;
	}
	check_all(k);
	r = bale_pl_close(fs, root);
	if (r)
		bale_pl_fail("close: %s", strerror(-r));
}

int main(int argc, char **argv)
{
	static const struct bale_pl_test test = {
		.name = "powerloss_threads",
		.ops = 120,
		.states = 300,
		.work = run_workload,
		.check = check_state,
	};
	int r = bale_pl_run(&test, argc, argv);

	for (unsigned int t = 0; t < NR_THREADS; t++)
		for (unsigned int f = 0; f < NR_FILES; f++)
			free(workers[t].history[f]);
	return r;
}
