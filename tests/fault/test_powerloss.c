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
 * found. The cleaner, recompression, the applier and checkpoints run in
 * between.
 *
 *   test_powerloss [SEED [STATES]]      deterministic for a seed
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

#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/inode/inode.h"
#include "recorder.h"

enum {
	NR_FILES = 6,
	NR_OPS = 160,
	FILE_BYTES = 300 << 10,
	DEFAULT_STATES = 600,
};

/* Content of one file number after one op; refcounting is not worth it. */
struct version {
	size_t size;
	uint8_t *data;
	unsigned int born; /* op that made it */
	bool atomic;	   /* whole content came by rename-over */
};

struct history {
	struct version v[NR_OPS + 2];
	unsigned int nr;
};

/* What is known behind each op. */
struct moment {
	size_t events;	       /* recorded when the op was acknowledged */
	int file_of[NR_FILES]; /* name -> history, -1: no such name */
	unsigned int len[NR_OPS + 2]; /* versions that each history had */
	int synced_upto; /* this op and all before it in the log: names */
	int synced_version[NR_OPS + 2]; /* per history: durable version or -1 */
};

static struct history *hist;
static unsigned int nr_hist;
static struct moment *moments;
static unsigned int nr_moments;
static uint64_t rng;
static unsigned int failures;
static unsigned int indexes_used; /* states whose index was good */

static uint64_t draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1du >> 11 ?
		       (rng * 0x2545f4914f6cdd1du >> 11) % n :
		       0;
}

static void must(int r, const char *what)
{
	if (!r)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

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

static void file_name(char buf[16], int f)
{
	snprintf(buf, 16, "file%d", f);
}

static void fill(uint8_t *p, size_t len, unsigned int tag)
{
	/* Compressible, and every byte depends on the op that wrote it. */
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
	must(bale_dir_create(b->root, name, S_IFREG | 0644, 0, &c, &b->ino[f]),
	     "create");
	b->now.file_of[f] = h;
	b->now.synced_version[h] = -1;
	add_version(h, NULL, op);
}

static void op_write(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f];
	struct version *v = add_version(h, newest(h), op);
	size_t off = draw(3) ? draw(v->size + 1) : draw(FILE_BYTES / 2);
	size_t len = 1 + draw(draw(4) ? 5000 : 150000);
	struct iovec iov;

	if (off + len > FILE_BYTES)
		len = FILE_BYTES - off;
	fill(v->data + off, len, op);
	if (off + len > v->size)
		v->size = off + len;
	iov = (struct iovec){ v->data + off, len };
	must(bale_file_write(b->ino[f], &iov, 1, off, false, false), "write");
}

static void op_truncate(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f];
	struct version *v = add_version(h, newest(h), op);
	struct bale_setattr a = { .valid = BALE_SET_SIZE };
	size_t size = draw(2) ? draw(v->size + 1) : draw(FILE_BYTES);

	if (size < v->size)
		memset(v->data + size, 0, v->size - size);
	v->size = size;
	a.size = size;
	must(bale_inode_setattr(b->ino[f], &a), "truncate");
}

/* Zeros, or what a punch leaves: the size stays. */
static void op_punch(struct bench *b, int f, unsigned int op)
{
	int h = b->now.file_of[f], mode = FALLOC_FL_KEEP_SIZE;
	struct version *v = add_version(h, newest(h), op);
	size_t off = draw(v->size + 1), len = 1 + draw(100000), end;

	end = off + len < v->size ? off + len : v->size;
	if (off < end)
		memset(v->data + off, 0, end - off);
	mode |= draw(2) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	must(bale_file_fallocate(b->ino[f], mode, off, len), "punch");
}

/* What nobody asked for, and nobody may notice. */
static void op_background(struct bench *b, int f)
{
	struct bale_codec_policy p = { .codec = draw(2) ? BALE_CODEC_lz4 :
							  BALE_CODEC_zstd };
	uint64_t before, after;

	if (draw(2))
		must(bale_cleaner_run(bale_fs_store(b->fs), UINT64_MAX),
		     "clean");
	else if (b->now.file_of[f] >= 0)
		must(bale_file_recompress(b->ino[f], p, &before, &after),
		     "recompress");
}

static void op_unlink(struct bench *b, int f)
{
	char name[16];

	file_name(name, f);
	must(bale_dir_unlink(b->root, name), "unlink");
	bale_inode_put(b->ino[f]);
	b->ino[f] = NULL;
	b->now.file_of[f] = -1;
}

/* Write a new file whole and rename it over the name, without any fsync. */
static void op_replace(struct bench *b, int f, unsigned int op)
{
	struct bale_cred c = { 0 };
	struct bale_inode *i;
	struct version *v;
	struct iovec iov;
	char name[16];
	int h = (int)nr_hist++;

	must(bale_dir_create(b->root, "new", S_IFREG | 0644, 0, &c, &i),
	     "create new");
	v = add_version(h, NULL, op);
	v->size = 1 + draw(200000);
	v->atomic = true;
	fill(v->data, v->size, op);
	iov = (struct iovec){ v->data, v->size };
	must(bale_file_write(i, &iov, 1, 0, false, false), "write new");
	file_name(name, f);
	must(bale_dir_rename(b->root, "new", b->root, name, 0), "rename");
	if (b->ino[f])
		bale_inode_put(b->ino[f]);
	b->ino[f] = i;
	b->now.file_of[f] = h;
	b->now.synced_version[h] = -1;
}

static void note_sync(struct bench *b, int h, unsigned int op)
{
	b->now.synced_upto = (int)op;
	b->now.synced_version[h] = (int)hist[h].nr - 1;
}

static void op_fsync(struct bench *b, int f, unsigned int op)
{
	must(bale_file_fsync(b->ino[f], draw(2)), "fsync");
	note_sync(b, b->now.file_of[f], op);
}

static void op_sync_all(struct bench *b, unsigned int op)
{
	must(bale_fs_sync(b->fs), "sync");
	for (unsigned int h = 0; h < nr_hist; h++)
		note_sync(b, (int)h, op);
}

static void one_op(struct bench *b, unsigned int op, const char *store)
{
	int f = (int)draw(NR_FILES);
	bool exists = b->now.file_of[f] >= 0;
	uint64_t what = draw(100);

	if (what < 3) {
		op_sync_all(b, op);
	} else if (what < 5) {
		op_sync_all(b, op);
		must(bale_meta_apply(bale_fs_meta(b->fs)), "apply");
		must(bale_rec_snapshot_index(store), "snapshot");
	} else if (what < 6) {
		must(bale_meta_checkpoint(bale_fs_meta(b->fs)), "checkpoint");
		must(bale_rec_snapshot_index(store), "snapshot");
	} else if (what < 16) {
		op_replace(b, f, op);
	} else if (what < 20) {
		op_background(b, f);
	} else if (!exists) {
		op_create(b, f, op);
	} else if (what < 25) {
		op_unlink(b, f);
	} else if (what < 32) {
		op_truncate(b, f, op);
	} else if (what < 38) {
		op_punch(b, f, op);
	} else if (what < 55) {
		op_fsync(b, f, op);
	} else {
		op_write(b, f, op);
	}
	b->now.events = bale_rec_count();
	for (unsigned int h = 0; h < nr_hist; h++)
		b->now.len[h] = hist[h].nr;
	moments[nr_moments++] = b->now;
}

static void run_workload(const char *store)
{
	struct bale_mkfs_options mo = { .size = sizeof(mo),
					.extent_bits = 16,
					.segment_bits = 20,
					.log_bits = 20,
					.codec = BALE_CODEC_auto };
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = true,
				     .nr_workers = 1,
				     .cache_bytes = 64 << 20,
				     .io_ops = &bale_rec_ops };
	struct bench b = { 0 };

	bale_rec_start();
	must(bale_store_mkfs(store, &mo), "mkfs");
	/* mkfs is not part of it: take its files as they are. */
	must(bale_rec_adopt(store), "adopt");
	must(bale_fs_open(store, &o, &b.fs), "open");
	must(bale_inode_get(b.fs, BALE_ROOT_INO, &b.root), "root");
	for (int f = 0; f < NR_FILES; f++)
		b.now.file_of[f] = -1;
	b.now.synced_upto = -1;
	for (unsigned int op = 0; op < NR_OPS; op++)
		one_op(&b, op, store);
	for (int f = 0; f < NR_FILES; f++)
		if (b.ino[f])
			bale_inode_put(b.ino[f]);
	bale_inode_put(b.root);
	must(bale_fs_close(b.fs), "close");
}

/* ---- checking a state ---- */

struct state {
	size_t k;
	const struct moment *low;   /* acknowledged: at least this */
	unsigned int low_i, high_i; /* high: issued at most */
	char label[96];
};

static void complain(const struct state *s, const char *what, int f)
{
	if (failures++ < 20)
		fprintf(stderr, "FAIL %s: file%d: %s\n", s->label, f, what);
}

static bool read_whole(struct bale_inode *i, uint8_t *buf, size_t *ret_len)
{
	struct bale_inode_row row;
	size_t done = 0;

	bale_inode_attr(i, &row);
	if (row.size > FILE_BYTES)
		return false;
	while (done < row.size) {
		struct bale_read rd;
		size_t at = done;

		if (bale_file_read(i, done, row.size - done, &rd))
			return false;
		for (unsigned int v = 0; v < rd.nr_iov; v++) {
			memcpy(buf + at, rd.iov[v].iov_base, rd.iov[v].iov_len);
			at += rd.iov[v].iov_len;
		}
		bale_file_read_done(&rd);
		if (at == done)
			return false;
		done = at;
	}
	*ret_len = done;
	return true;
}

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

	if (!read_whole(i, buf, &len)) {
		complain(s, "cannot be read", f);
		return;
	}
	if (!hi) {
		complain(s, "a name from the future", f);
		return;
	}
	what = check_content(&hist[h], lo, hi - 1, buf, len);
	/* Renamed into place: never less than the whole. */
	if (!what && hist[h].v[0].atomic && hi == 1 &&
	    (len != hist[h].v[0].size || memcmp(buf, hist[h].v[0].data, len)))
		what = "renamed over, but not whole";
	if (what)
		complain(s, what, f);
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
	unsigned int before = failures;

	for (int j = (int)s->high_i; j >= from && j >= 0; j--) {
		int h = moments[j].file_of[f];

		if (h < 0 || h == last)
			continue;
		last = h;
		failures = before + 100; /* be quiet */
		check_file(s, f, h, i);
		if (failures == before + 100) {
			failures = before;
			return;
		}
	}
	failures = before;
	if (last < 0)
		complain(s, "a name that was not there", f);
	else
		check_file(s, f, last, i);
}

static int digest(const char *dir, bool untrusted,
		  uint64_t ret[BALE_TABLE_NR][2], bool *ret_rebuilt)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.untrusted = untrusted,
					.manual_commit = true };
	struct bale_meta_stats ms;
	struct bale_store *st;
	int r = bale_store_open(dir, &o, &st);

	if (r)
		return r;
	r = bale_meta_digest(bale_store_meta(st), ret);
	bale_meta_stats(bale_store_meta(st), &ms);
	*ret_rebuilt = ms.index_rebuilt;
	bale_store_close(st);
	return r;
}

/* Rebuilt index = live index, all tables, before anything is mended. */
static void check_index(const char *dir, const struct state *s)
{
	uint64_t live[BALE_TABLE_NR][2], built[BALE_TABLE_NR][2];
	bool rebuilt = false, anew = false;
	int r = digest(dir, false, live, &rebuilt);

	if (!r)
		r = digest(dir, true, built, &anew);
	if (r)
		complain(s, "index: does not open", -1);
	else if (memcmp(live, built, sizeof(live)))
		complain(s, "index: rebuilt it has other rows", -1);
	if (!rebuilt)
		indexes_used++;
}

static void check_state(const char *dir, const struct state *s)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = true,
				     .nr_workers = 1,
				     .cache_bytes = 64 << 20 };
	struct bale_inode *root, *ino[NR_FILES] = { 0 };
	bool present[NR_FILES] = { 0 };
	struct bale_fs *fs;
	int r = bale_fs_open(dir, &o, &fs);

	if (r) {
		complain(s, strerror(-r), -1);
		return;
	}
	must(bale_inode_get(fs, BALE_ROOT_INO, &root), "root");
	for (int f = 0; f < NR_FILES; f++) {
		char name[16];

		file_name(name, f);
		r = bale_dir_lookup(root, name, &ino[f]);
		present[f] = !r;
		if (r && r != -ENOENT)
			complain(s, strerror(-r), f);
	}
	if (find_moment(s, present) == -2)
		complain(s, "names of no single moment", -1);
	for (int f = 0; f < NR_FILES; f++)
		if (present[f]) {
			check_any_history(s, f, ino[f]);
			bale_inode_put(ino[f]);
		}
	bale_inode_put(root);
	r = bale_fs_close(fs);
	if (r)
		complain(s, strerror(-r), -1);
}

static void remove_tree(const char *dir)
{
	char cmd[400];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	if (system(cmd))
		exit(1);
}

static void one_state(const char *work, uint64_t seed, size_t from)
{
	static const char *const mode_names[] = { "all", "none", "random" };
	struct state s = { 0 };
	char dir[300];
	enum bale_rec_mode mode = (enum bale_rec_mode)draw(3);
	bool with_index = draw(2);

	s.k = from + draw(bale_rec_count() - from + 1);
	/* low: the last op acknowledged by then; high: the next one. */
	while (s.low_i < nr_moments && moments[s.low_i].events <= s.k)
		s.low_i++;
	s.low = s.low_i ? &moments[s.low_i - 1] : NULL;
	s.high_i = s.low_i < nr_moments ? s.low_i : nr_moments - 1;
	snprintf(dir, sizeof(dir), "%.200s/state", work);
	remove_tree(dir);
	if (mkdir(dir, 0700))
		exit(1);
	must(bale_rec_build(dir, s.k, mode, seed), "build");
	if (with_index && bale_rec_copy_index(dir, s.k))
		with_index = false;
	snprintf(s.label, sizeof(s.label), "seed %llu events %zu (op %u) %s%s",
		 (unsigned long long)seed, s.k, s.low_i, mode_names[mode],
		 with_index ? " with index" : "");
	check_index(dir, &s);
	check_state(dir, &s);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	unsigned int states =
		argc > 2 ? (unsigned int)atoi(argv[2]) : DEFAULT_STATES;
	char work[] = "/dev/shm/balefs-powerloss-XXXXXX", store[64];
	size_t from;

	bale_log_set_level(BALE_LOG_ERR);
	if (!mkdtemp(work))
		return 77;
	hist = calloc(NR_OPS + 2, sizeof(*hist));
	moments = calloc(NR_OPS + 2, sizeof(*moments));
	assert(hist && moments);
	rng = seed * 0x9e3779b97f4a7c15u | 1;
	setenv("TMPDIR", work, 1);
	snprintf(store, sizeof(store), "%s/store", work);
	run_workload(store);
	from = bale_rec_adopted();
	for (unsigned int i = 0; i < states; i++)
		one_state(work, seed * 1000003 + i, from);
	printf("seed %llu: %u ops, %zu events, %u states (%u went on with "
	       "their index), %u failures\n",
	       (unsigned long long)seed, nr_moments, bale_rec_count(), states,
	       indexes_used, failures);
	remove_tree(work);
	bale_rec_free();
	return failures ? 1 : 0;
}
