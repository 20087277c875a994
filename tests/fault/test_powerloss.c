/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power loss: a workload runs on a recorded store; then every kind of state
 * that a power cut could have left is built, opened and compared with what the
 * workload knows (promises 1 and 2 of the design):
 *   - what an fsync acknowledged is there, with the file's name;
 *   - the names are those of one moment, not before the last fsync;
 *   - every byte of a file is one that was written there, or the file is
 *     shorter;
 *   - write-new + rename-over shows the whole old or the whole new content;
 *   - an index built anew from checkpoint and log has the rows of the one
 *     found.
 * Appends, overwrites, truncates, holes, allocations, copies of ranges
 * (onto files that are inline, dirty, shared, themselves), nameless files that
 * are linked in; the cleaner, recompression, the applier and checkpoints run
 * in between.
 *
 *   test_powerloss [SEED [STATES|every [OPS]]]   deterministic for a seed
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "powerloss.h"

enum {
	NR_FILES = 6,
	MAX_OPS = 400,
	EXTENT = 1 << 16,
	FILE_BYTES = 300 << 10,
};

/* Content of one file number after one op; refcounting is not worth it. */
struct version {
	size_t size;
	uint8_t *data;
	unsigned int born; /* op that made it */
	bool atomic;	   /* whole before it had a name */
};

struct history {
	struct version v[MAX_OPS + 2];
	unsigned int nr;
};

/* What is known behind each op. */
struct moment {
	size_t events;	       /* recorded when the op was acknowledged */
	int file_of[NR_FILES]; /* name -> history, -1: no such name */
	unsigned int len[MAX_OPS + 2]; /* versions that each history had */
	int synced_upto; /* this op and all before it in the log: names */
	int synced_version[MAX_OPS +
			   2]; /* per history: durable version or -1 */
};

static struct history *hist;
static unsigned int nr_hist;
static struct moment *moments;
static unsigned int nr_moments;

/* ---- the workload ---- */

struct bench {
	struct bale_fs *fs;
	struct bale_inode *root;
	struct bale_inode *ino[NR_FILES];
	struct moment now;
};

static struct version *newest(int h)
{
	return &hist[h].v[hist[h].nr - 1];
}

static struct version *add_version(int h, const struct version *from,
				   unsigned int op)
{
	struct version *v = &hist[h].v[hist[h].nr++];

	v->data = calloc(1, FILE_BYTES);
	assert(v->data);
	v->born = op;
	v->size = from ? from->size : 0;
	v->atomic = false;
	if (from)
		memcpy(v->data, from->data, FILE_BYTES);
	return v;
}

static void note_sync(struct bench *b, int h, unsigned int op)
{
	b->now.synced_upto = (int)op;
	b->now.synced_version[h] = (int)hist[h].nr - 1;
}

static void file_name(char buf[16], int f)
{
	snprintf(buf, 16, "file%d", f);
}

static void fill(uint8_t *p, size_t len, unsigned int tag)
{
	/* Every byte depends on the op that wrote it; some shrink. */
	if (tag % 2) {
		bale_pl_noise(p, len, tag);
		return;
	}
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(1 + (tag * 7 + i / 64 * (tag % 3)) % 251);
}

static void op_create(struct bench *b, int f, unsigned int op)
{
	struct bale_cred c = { 0 };
	char name[16];
	int h = (int)nr_hist++;

	(void)op;
	file_name(name, f);
	bale_pl_must(bale_dir_create(b->root, name, S_IFREG | 0644, 0, &c,
				     &b->ino[f]),
		     "create");
	b->now.file_of[f] = h;
	b->now.synced_version[h] = -1;
	add_version(h, NULL, op);
}

static void op_write(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f];
	struct version *v = add_version(h, newest(h), op);
	size_t off = bale_pl_draw(3) ? bale_pl_draw(v->size + 1) :
				       bale_pl_draw(FILE_BYTES / 2);
	size_t len = 1 + bale_pl_draw(bale_pl_draw(4) ? 5000 : 150000);
	struct iovec iov;

	if (off + len > FILE_BYTES)
		len = FILE_BYTES - off;
	fill(v->data + off, len, op);
	if (off + len > v->size)
		v->size = off + len;
	iov = (struct iovec){ v->data + off, len };
	bale_pl_must(bale_file_write(b->ino[f], &iov, 1, off, false, false),
		     "write");
}

static void op_truncate(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f];
	struct version *v = add_version(h, newest(h), op);
	struct bale_setattr a = { .valid = BALE_SET_SIZE };
	size_t size = bale_pl_draw(2) ? bale_pl_draw(v->size + 1) :
					bale_pl_draw(FILE_BYTES);

	if (size < v->size)
		memset(v->data + size, 0, v->size - size);
	v->size = size;
	a.size = size;
	bale_pl_must(bale_inode_setattr(b->ino[f], &a), "truncate");
}

/* Zeros, or what a punch leaves: the size stays. */
static void op_punch(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f], mode = FALLOC_FL_KEEP_SIZE;
	struct version *v = add_version(h, newest(h), op);
	size_t off = bale_pl_draw(v->size + 1), len = 1 + bale_pl_draw(100000),
	       end;

	end = off + len < v->size ? off + len : v->size;
	if (off < end)
		memset(v->data + off, 0, end - off);
	mode |= bale_pl_draw(2) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	bale_pl_must(bale_file_fallocate(b->ino[f], mode, off, len), "punch");
}

/* Log-like: at the end, and safe when the call returns. */
static void op_append(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f];
	struct version *v = add_version(h, newest(h), op);
	size_t len = 1 + bale_pl_draw(3000);
	struct iovec iov;

	if (v->size + len > FILE_BYTES)
		return;
	fill(v->data + v->size, len, op);
	iov = (struct iovec){ v->data + v->size, len };
	v->size += len;
	bale_pl_must(bale_file_write(b->ino[f], &iov, 1, 0, true, false),
		     "append");
	bale_pl_must(bale_file_fsync(b->ino[f], true), "fsync");
	note_sync(b, h, op);
}

/* Space, and perhaps size. */
static void op_allocate(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f];
	struct version *v = add_version(h, newest(h), op);
	size_t off = bale_pl_draw(v->size + 1), len = 1 + bale_pl_draw(200000);
	bool keep = bale_pl_draw(2);

	if (off + len > FILE_BYTES)
		len = FILE_BYTES - off;
	if (!len)
		return;
	if (!keep && off + len > v->size)
		v->size = off + len;
	bale_pl_must(bale_file_fallocate(b->ino[f],
					 keep ? FALLOC_FL_KEEP_SIZE : 0, off,
					 len),
		     "allocate");
}

/* Mostly such that whole extents can be shared; of itself too. */
static void op_copy(struct bench *b, int f, unsigned int op)
{
	int g = (int)bale_pl_draw(NR_FILES), h = b->now.file_of[f];
	size_t from, to, len, got = 0, src_size;
	const struct version *src;
	struct version *v;

	if (b->now.file_of[g] < 0)
		g = f;
	src_size = newest(b->now.file_of[g])->size;
	from = bale_pl_draw(src_size + 1);
	to = bale_pl_draw(FILE_BYTES / 2);
	if (bale_pl_draw(4)) {
		from = from / EXTENT * EXTENT;
		to = to / EXTENT * EXTENT;
	}
	len = src_size - from;
	if (bale_pl_draw(2))
		len = bale_pl_draw(len + 1);
	if (to + len > FILE_BYTES)
		len = FILE_BYTES - to;
	if (!len || (f == g && from < to + len && to < from + len))
		return;
	v = add_version(h, newest(h), op);
	src = f == g ? &hist[h].v[hist[h].nr - 2] : newest(b->now.file_of[g]);
	memcpy(v->data + to, src->data + from, len);
	if (to + len > v->size)
		v->size = to + len;
	bale_pl_must(
		bale_file_copy_range(b->ino[g], from, b->ino[f], to, len, &got),
		"copy");
	if (got != len)
		bale_pl_must(-EIO, "copy of less than there is");
}

/* What nobody asked for, and nobody may notice. */
static void op_background(struct bench *b, int f, unsigned int op)
{
	struct bale_codec_policy p = { .codec = bale_pl_draw(2) ?
							BALE_CODEC_lz4 :
							BALE_CODEC_zstd };
	uint64_t before, after;

	(void)op;
	if (bale_pl_draw(2))
		bale_pl_must(bale_cleaner_run(bale_fs_store(b->fs), UINT64_MAX),
			     "clean");
	else
		bale_pl_must(
			bale_file_recompress(b->ino[f], p, &before, &after),
			"recompress");
}

static void op_unlink(struct bench *b, int f, unsigned int op)
{
	char name[16];

	(void)op;
	file_name(name, f);
	bale_pl_must(bale_dir_unlink(b->root, name), "unlink");
	bale_inode_put(b->ino[f]);
	b->ino[f] = NULL;
	b->now.file_of[f] = -1;
}

/* The content of a file that gets its name afterwards. */
static void write_whole(struct bale_inode *i, unsigned int op)
{
	struct version *v = add_version((int)nr_hist - 1, NULL, op);
	struct iovec iov;

	v->size = 1 + bale_pl_draw(bale_pl_draw(3) ? 200000 : 1000);
	v->atomic = true;
	fill(v->data, v->size, op);
	iov = (struct iovec){ v->data, v->size };
	bale_pl_must(bale_file_write(i, &iov, 1, 0, false, false), "write new");
}

static void take_name(struct bench *b, int f, struct bale_inode *i)
{
	int h = (int)nr_hist - 1;

	if (b->ino[f])
		bale_inode_put(b->ino[f]);
	b->ino[f] = i;
	b->now.file_of[f] = h;
	b->now.synced_version[h] = -1;
}

/* Write a new file whole and rename it over the name, without any fsync. */
static void op_replace(struct bench *b, int f, unsigned int op)
{
	struct bale_cred c = { 0 };
	struct bale_inode *i;
	char name[16];

	nr_hist++;
	bale_pl_must(bale_dir_create(b->root, "new", S_IFREG | 0644, 0, &c, &i),
		     "create new");
	write_whole(i, op);
	file_name(name, f);
	bale_pl_must(bale_dir_rename(b->root, "new", b->root, name, 0),
		     "rename");
	take_name(b, f, i);
}

/* O_TMPFILE, written whole, then linked in. */
static void op_link_in(struct bench *b, int f, unsigned int op)
{
	struct bale_cred c = { 0 };
	struct bale_inode *i;
	char name[16];

	nr_hist++;
	bale_pl_must(bale_dir_tmpfile(b->root, S_IFREG | 0644, &c, &i),
		     "tmpfile");
	write_whole(i, op);
	file_name(name, f);
	bale_pl_must(bale_dir_link(i, b->root, name), "link");
	take_name(b, f, i);
}

/* While it is mounted, what is there is what was written last. */
static void check_live(struct bench *b, int f)
{
	static uint8_t buf[FILE_BYTES];
	const struct version *v = newest(b->now.file_of[f]);
	size_t len;
	int r = bale_pl_read(b->ino[f], buf, sizeof(buf), &len);

	if (r || len != v->size || memcmp(buf, v->data, len))
		bale_pl_fail("mounted: file%d: not what was written: %d", f, r);
}

static void op_fsync(struct bench *b, int f, unsigned int op)
{
	check_live(b, f);
	bale_pl_must(bale_file_fsync(b->ino[f], bale_pl_draw(2)), "fsync");
	note_sync(b, b->now.file_of[f], op);
}

static void op_sync_all(struct bench *b, unsigned int op)
{
	bale_pl_must(bale_fs_sync(b->fs), "sync");
	for (unsigned int h = 0; h < nr_hist; h++)
		note_sync(b, (int)h, op);
}

static void on_the_store(struct bench *b, unsigned int op, uint64_t what,
			 const char *store)
{
	op_sync_all(b, op);
	if (what == 0)
		return;
	if (what == 1)
		bale_pl_must(bale_meta_apply(bale_fs_meta(b->fs)), "apply");
	else
		bale_pl_must(bale_meta_checkpoint(bale_fs_meta(b->fs)),
			     "checkpoint");
	bale_pl_must(bale_rec_snapshot_index(store), "snapshot");
}

/* One row an operation, the number of times in a hundred. */
static const struct {
	unsigned int share;
	void (*fn)(struct bench *b, int f, unsigned int op);
	bool fresh; /* for a name that is not there */
} file_ops[] = {
	{ 10, op_replace }, { 5, op_unlink },	     { 6, op_truncate },
	{ 6, op_punch },    { 5, op_allocate },	     { 12, op_copy },
	{ 6, op_append },   { 15, op_fsync },	     { 4, op_background },
	{ 26, op_write },   { 40, op_create, true }, { 20, op_link_in, true },
};

static void one_op(struct bench *b, unsigned int op, const char *store)
{
	int f = (int)bale_pl_draw(NR_FILES);
	bool fresh = b->now.file_of[f] < 0;
	uint64_t what = bale_pl_draw(100);

	if (bale_pl_draw(8) == 0)
		bale_pl_ballast(b->root);
	if (what < 5) {
		on_the_store(b, op, what < 3 ? 0 : what - 2, store);
	} else {
		unsigned int k = 0;

		what = bale_pl_draw(fresh ? 60 : 95);
		for (;; k++) {
			if (file_ops[k].fresh != fresh)
				continue;
			if (what < file_ops[k].share)
				break;
			what -= file_ops[k].share;
		}
		file_ops[k].fn(b, f, op);
	}
	b->now.events = bale_rec_count();
	for (unsigned int h = 0; h < nr_hist; h++)
		b->now.len[h] = hist[h].nr;
	moments[nr_moments++] = b->now;
}

static size_t run_workload(const char *store, unsigned int ops)
{
	struct bench b = { 0 };

	if (ops > MAX_OPS)
		ops = MAX_OPS;
	bale_pl_mkfs(store);
	bale_pl_must(bale_pl_open(store, &bale_rec_ops, 0, &b.fs, &b.root),
		     "open");
	for (int f = 0; f < NR_FILES; f++)
		b.now.file_of[f] = -1;
	b.now.synced_upto = -1;
	for (unsigned int op = 0; op < ops; op++)
		one_op(&b, op, store);
	for (int f = 0; f < NR_FILES; f++)
		if (b.ino[f]) {
			check_live(&b, f);
			bale_inode_put(b.ino[f]);
		}
	bale_pl_must(bale_pl_close(b.fs, b.root), "close");
	return bale_rec_adopted();
}

/* ---- checking a state ---- */

struct state {
	const struct moment *low;   /* acknowledged: at least this */
	unsigned int low_i, high_i; /* high: issued at most */
};

/* Bytes are from versions lo..hi of the history; size within theirs. */
static const char *check_content(const struct history *h, unsigned int lo,
				 unsigned int hi, const uint8_t *buf,
				 size_t len)
{
	size_t max = 0;

	for (unsigned int v = lo; v <= hi; v++)
		if (h->v[v].size > max)
			max = h->v[v].size;
	if (len > max)
		return "longer than it ever was";
	if (lo == hi && len != h->v[lo].size)
		return "synced size lost";
	for (size_t i = 0; i < len; i++) {
		bool found = false;

		for (unsigned int v = lo; !found && v <= hi; v++)
			found = (i < h->v[v].size &&
				 h->v[v].data[i] == buf[i]) ||
				(i >= h->v[v].size && v > lo && !buf[i]);
		if (!found)
			return "a byte that was never written there";
	}
	return NULL;
}

static void check_file(const struct state *s, int f, int h,
		       struct bale_inode *i)
{
	static uint8_t buf[FILE_BYTES];
	int synced = s->low ? s->low->synced_version[h] : -1;
	unsigned int hi = moments[s->high_i].len[h];
	unsigned int lo = synced >= 0 ? (unsigned int)synced : 0;
	const char *what;
	size_t len;

	if (bale_pl_read(i, buf, sizeof(buf), &len)) {
		bale_pl_fail("file%d: cannot be read", f);
		return;
	}
	if (!hi) {
		bale_pl_fail("file%d: a name from the future", f);
		return;
	}
	what = check_content(&hist[h], lo, hi - 1, buf, len);
	/* Renamed into place: never less than the whole. */
	if (!what && hist[h].v[0].atomic && hi == 1 &&
	    (len != hist[h].v[0].size || memcmp(buf, hist[h].v[0].data, len)))
		what = "renamed over, but not whole";
	if (what)
		bale_pl_fail("file%d: %s", f, what);
}

/* The names present are those behind one op j, low <= j <= high. */
static int find_moment(const struct state *s, const bool *present)
{
	int from = s->low ? s->low->synced_upto : -1;

	for (int j = (int)s->high_i; j >= from; j--) {
		bool same = true;

		for (int f = 0; same && f < NR_FILES; f++)
			same = present[f] ==
			       (j >= 0 && moments[j].file_of[f] >= 0);
		if (same)
			return j;
	}
	return -2;
}

/* Which history a file in the state belongs to: by its content, among those
 * that had the name between low and high. */
static void check_any_history(const struct state *s, int f,
			      struct bale_inode *i)
{
	int from = s->low ? s->low->synced_upto : -1, last = -1;

	for (int j = (int)s->high_i; j >= from && j >= 0; j--) {
		int h = moments[j].file_of[f];

		if (h < 0 || h == last)
			continue;
		last = h;
		bale_pl_quiet_begin();
		check_file(s, f, h, i);
		if (!bale_pl_quiet_end())
			return;
	}
	if (last < 0)
		bale_pl_fail("file%d: a name that was not there", f);
	else
		check_file(s, f, last, i);
}

static void check_names_and_files(const struct state *s,
				  struct bale_inode *root)
{
	struct bale_inode *ino[NR_FILES] = { 0 };
	bool present[NR_FILES] = { 0 };

	for (int f = 0; f < NR_FILES; f++) {
		char name[16];
		int r;

		file_name(name, f);
		r = bale_dir_lookup(root, name, &ino[f]);
		present[f] = !r;
		if (r && r != -ENOENT)
			bale_pl_fail("file%d: %s", f, strerror(-r));
	}
	if (find_moment(s, present) == -2)
		bale_pl_fail("names of no single moment");
	for (int f = 0; f < NR_FILES; f++)
		if (present[f]) {
			check_any_history(s, f, ino[f]);
			bale_inode_put(ino[f]);
		}
}

static void check_state(const char *dir, size_t k)
{
	struct state s = { 0 };
	struct bale_inode *root;
	struct bale_fs *fs;
	int r;

	bale_pl_check_index(dir);
	/* low: the last op acknowledged by then; high: the next one. */
	while (s.low_i < nr_moments && moments[s.low_i].events <= k)
		s.low_i++;
	s.low = s.low_i ? &moments[s.low_i - 1] : NULL;
	s.high_i = s.low_i < nr_moments ? s.low_i : nr_moments - 1;
	r = bale_pl_open(dir, NULL, 0, &fs, &root);
	if (r) {
		bale_pl_fail("%s", strerror(-r));
		return;
	}
	check_names_and_files(&s, root);
	r = bale_pl_close(fs, root);
	if (r)
		bale_pl_fail("close: %s", strerror(-r));
}

int main(int argc, char **argv)
{
	static const struct bale_pl_test test = {
		.name = "powerloss",
		.ops = 200,
		.states = 600,
		.work = run_workload,
		.check = check_state,
		.with_index = true,
	};

	hist = calloc(MAX_OPS + 2, sizeof(*hist));
	moments = calloc(MAX_OPS + 2, sizeof(*moments));
	assert(hist && moments);
	return bale_pl_run(&test, argc, argv);
}
