/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O errors: every call that a store makes of its I/O layer fails once, at
 * the n-th call for every n of a small workload, in one of several ways:
 *   eio      the call fails, nothing was done
 *   enospc   the same, for want of space
 *   torn     a write does half of its work and fails; a sync does it and fails
 *   dead     the call and every one after it fail
 *   slow     it takes 30 ms
 * Whatever happens: no crash, no hang; what an fsync acknowledged is there
 * afterwards; a failed flush is not followed by an fsync that succeeds; what
 * is read meanwhile is what was written, or an error; the store opens again.
 *
 *   test_ioerror [STEP [FIRST]]    every STEPth call, from FIRST on
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "damage.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/inode/inode.h"

enum { NR_FILES = 4, MAX_VERSIONS = 40, FILE_MAX = 200000, SECONDS = 30 };
enum { MAX_SITES = 256 };

enum mode { EIO_ONCE, ENOSPC_ONCE, TORN, DEAD, SLOW, NR_MODES };
static const char *const mode_names[] = { "eio", "enospc", "torn", "dead",
					  "slow" };

/* What a child tells its parent. */
struct shared {
	unsigned int calls;
	char failed_call[48]; /* "pwritev", ... */
	char what[160];	      /* why the run failed */
	unsigned int nr_sites;
	uintptr_t sites[MAX_SITES]; /* call sites that were made to fail */
	uint64_t outcomes[4];
};
enum { UNHURT, READ_ONLY, OPEN_FAILED, OP_FAILED };
static struct shared *sh;
static char work[64], store[80];

static void wrong(const char *what, const char *name, long a)
{
	if (!sh->what[0])
		snprintf(sh->what, sizeof(sh->what), "%s (%s, %ld)", what, name,
			 a);
}

/* ---- the I/O layer that fails ---- */

static enum mode mode;
static unsigned int fail_at; /* 0: never */
static atomic_uint calls;
static atomic_bool flush_failed; /* a write or sync was made to fail */

static void note_site(void *site, const char *op)
{
	for (unsigned int k = 0; k < sh->nr_sites; k++)
		if (sh->sites[k] == (uintptr_t)site)
			return;
	if (sh->nr_sites < MAX_SITES)
		sh->sites[sh->nr_sites++] = (uintptr_t)site;
	snprintf(sh->failed_call, sizeof(sh->failed_call), "%s", op);
}

/* 0, or the error that this call gets. */
static int strike(void *site, const char *op)
{
	unsigned int n = atomic_fetch_add(&calls, 1) + 1;

	if (!fail_at || n < fail_at || (n > fail_at && mode != DEAD))
		return 0;
	if (n == fail_at)
		note_site(site, op);
	if (mode == SLOW) {
		struct timespec ts = { 0, 30000000 };

		nanosleep(&ts, NULL);
		return 0;
	}
	return mode == ENOSPC_ONCE ? -ENOSPC : -EIO;
}
#define STRIKE(op) strike(__builtin_return_address(0), op)
#define REAL	   bale_io_posix

static int e_open(struct bale_io *io, const char *name, int flags, int *ret)
{
	int r = STRIKE("open");

	return r ? r : REAL.open(io, name, flags, ret);
}
static void e_close(struct bale_io *io, int fd)
{
	REAL.close(io, fd);
}
static int e_pread(struct bale_io *io, int fd, void *buf, size_t len,
		   uint64_t off, size_t *ret)
{
	int r = STRIKE("pread");

	return r ? r : REAL.pread(io, fd, buf, len, off, ret);
}
static int e_pwritev(struct bale_io *io, int fd, const struct iovec *iov,
		     int nr, uint64_t off)
{
	int r = STRIKE("pwritev");

	if (!r)
		return REAL.pwritev(io, fd, iov, nr, off);
	atomic_store(&flush_failed, true);
	if (mode == TORN && nr) {
		struct iovec half = iov[0];

		half.iov_len /= 2;
		REAL.pwritev(io, fd, nr > 1 ? iov : &half, nr > 1 ? nr / 2 : 1,
			     off);
	}
	return r;
}
static int e_sync(struct bale_io *io, int fd)
{
	int r = STRIKE("sync");

	if (r)
		atomic_store(&flush_failed, true);
	return r ? r : REAL.sync(io, fd);
}
static int e_start_writeback(struct bale_io *io, int fd, uint64_t off,
			     uint64_t len)
{
	int r = STRIKE("start_writeback");

	return r ? r : REAL.start_writeback(io, fd, off, len);
}
static int e_allocate(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	int r = STRIKE("allocate");

	return r ? r : REAL.allocate(io, fd, off, len);
}
static int e_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	int r = STRIKE("punch");

	return r ? r : REAL.punch(io, fd, off, len);
}
static int e_truncate(struct bale_io *io, int fd, uint64_t len)
{
	int r = STRIKE("truncate");

	return r ? r : REAL.truncate(io, fd, len);
}
static int e_size(struct bale_io *io, int fd, uint64_t *len, uint64_t *alloc)
{
	int r = STRIKE("size");

	return r ? r : REAL.size(io, fd, len, alloc);
}
static int e_rename(struct bale_io *io, const char *from, const char *to)
{
	int r = STRIKE("rename");

	return r ? r : REAL.rename(io, from, to);
}
static int e_unlink(struct bale_io *io, const char *name)
{
	int r = STRIKE("unlink");

	return r ? r : REAL.unlink(io, name);
}
static int e_mkdir(struct bale_io *io, const char *name)
{
	int r = STRIKE("mkdir");

	return r ? r : REAL.mkdir(io, name);
}
static int e_sync_dir(struct bale_io *io, const char *name)
{
	int r = STRIKE("sync_dir");

	return r ? r : REAL.sync_dir(io, name);
}
static int e_list(struct bale_io *io, const char *name, bale_io_list_fn *fn,
		  void *arg)
{
	int r = STRIKE("list");

	return r ? r : REAL.list(io, name, fn, arg);
}
static int e_space(struct bale_io *io, uint64_t *total, uint64_t *left)
{
	int r = STRIKE("space");

	return r ? r : REAL.space(io, total, left);
}

static const struct bale_io_ops failing = {
	.open = e_open,
	.close = e_close,
	.pread = e_pread,
	.pwritev = e_pwritev,
	.sync = e_sync,
	.start_writeback = e_start_writeback,
	.allocate = e_allocate,
	.punch = e_punch,
	.truncate = e_truncate,
	.size = e_size,
	.rename = e_rename,
	.unlink = e_unlink,
	.mkdir = e_mkdir,
	.sync_dir = e_sync_dir,
	.list = e_list,
	.space = e_space,
};

/* ---- what should be there ---- */

struct version {
	uint8_t *data;
	size_t size;
};
/* Versions from `acked` on may be seen; after an acknowledged fsync the one it
 * saw is the oldest. whole: content changes all at once (rename-over). */
struct file {
	char name[16];
	struct version v[MAX_VERSIONS];
	unsigned int nr, acked;
	bool durable; /* the name was acknowledged */
	bool whole;
};
static struct file files[NR_FILES + 1];

static struct version *add_version(struct file *f, const struct version *from)
{
	struct version *v = &f->v[f->nr++];

	if (f->nr > MAX_VERSIONS)
		_exit(97);
	v->data = calloc(1, FILE_MAX);
	if (!v->data)
		_exit(97);
	v->size = from ? from->size : 0;
	if (from)
		memcpy(v->data, from->data, FILE_MAX);
	return v;
}

static void fill(uint8_t *p, size_t len, unsigned int tag)
{
	uint32_t x = tag * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		p[i] = i / 1024 % 2 ? (uint8_t)(x >> 24) : (uint8_t)(tag + 1);
	}
}

static const char *check_bytes(const struct file *f, const uint8_t *p,
			       size_t len)
{
	size_t max = 0;

	if (f->whole) {
		for (unsigned int k = f->acked; k < f->nr; k++)
			if (len == f->v[k].size &&
			    !memcmp(p, f->v[k].data, len))
				return NULL;
		return "neither the old nor the new content";
	}
	for (unsigned int k = f->acked; k < f->nr; k++)
		max = f->v[k].size > max ? f->v[k].size : max;
	if (len > max)
		return "too long";
	if (f->nr == f->acked + 1 && len != f->v[f->acked].size)
		return "acknowledged size lost";
	for (size_t i = 0; i < len; i++) {
		bool found = false;

		for (unsigned int k = f->acked; k < f->nr && !found; k++)
			found = p[i] == f->v[k].data[i];
		if (!found)
			return "a byte that was not written there, or is lost";
	}
	return NULL;
}

/* live: errors are allowed. */
static void check_file(struct bale_inode *root, struct file *f, bool live)
{
	static uint8_t buf[FILE_MAX];
	struct bale_inode_row row;
	struct bale_inode *i;
	const char *what;
	size_t done = 0;
	int r = bale_dir_lookup(root, f->name, &i);

	if (r) {
		if (!live && (f->durable || r != -ENOENT))
			wrong("not found", f->name, r);
		return;
	}
	bale_inode_attr(i, &row);
	if (row.size > FILE_MAX)
		wrong("too large", f->name, (long)row.size);
	while (!r && done < row.size && row.size <= FILE_MAX) {
		struct bale_read rd;

		r = bale_file_read(i, done, row.size - done, &rd);
		if (r)
			break;
		for (unsigned int k = 0; k < rd.nr_iov; k++) {
			memcpy(buf + done, rd.iov[k].iov_base,
			       rd.iov[k].iov_len);
			done += rd.iov[k].iov_len;
		}
		bale_file_read_done(&rd);
	}
	bale_inode_put(i);
	if (r && !live)
		wrong("cannot be read", f->name, r);
	what = r ? NULL : check_bytes(f, buf, row.size);
	if (what)
		wrong(what, f->name, live);
}

/* ---- the workload ---- */

struct run {
	struct bale_fs *fs;
	struct bale_inode *root;
	bool failed_fsync, op_failed;
};

/* An fsync or sync returned r. Nothing succeeds behind a flush that failed. */
static bool note_sync(struct run *w, int r)
{
	if (r) {
		w->op_failed = true;
		if (atomic_load(&flush_failed) &&
		    bale_store_error(bale_fs_store(w->fs)))
			w->failed_fsync = true;
		return false;
	}
	if (w->failed_fsync)
		wrong("fsync succeeds behind a failed one", "", 0);
	return true;
}

static void op_write(struct run *w, struct file *f, size_t off, size_t len,
		     unsigned int tag)
{
	struct bale_cred cred = { 0 };
	struct bale_inode *i;
	struct version *v;
	struct iovec iov;
	int r = bale_dir_lookup(w->root, f->name, &i);

	if (r == -ENOENT)
		r = bale_dir_create(w->root, f->name, S_IFREG | 0644, 0, &cred,
				    &i);
	if (r) {
		w->op_failed = true;
		return;
	}
	v = add_version(f, f->nr ? &f->v[f->nr - 1] : NULL);
	fill(v->data + off, len, tag);
	if (off + len > v->size)
		v->size = off + len;
	iov = (struct iovec){ v->data + off, len };
	w->op_failed |= bale_file_write(i, &iov, 1, off, false, false) != 0;
	bale_inode_put(i);
}

static void op_truncate(struct run *w, struct file *f, size_t size)
{
	struct bale_setattr a = { .valid = BALE_SET_SIZE, .size = size };
	struct bale_inode *i;
	struct version *v;

	if (bale_dir_lookup(w->root, f->name, &i)) {
		w->op_failed = true;
		return;
	}
	v = add_version(f, &f->v[f->nr - 1]);
	memset(v->data + size, 0, FILE_MAX - size);
	v->size = size;
	w->op_failed |= bale_inode_setattr(i, &a) != 0;
	bale_inode_put(i);
}

static void op_fsync(struct run *w, struct file *f)
{
	struct bale_inode *i;

	if (bale_dir_lookup(w->root, f->name, &i)) {
		w->op_failed = true;
		return;
	}
	if (note_sync(w, bale_file_fsync(i, false)) && f->nr) {
		f->acked = f->nr - 1;
		f->durable = true;
	}
	bale_inode_put(i);
}

static void op_sync(struct run *w)
{
	if (!note_sync(w, bale_fs_sync(w->fs)))
		return;
	for (int k = 0; k <= NR_FILES; k++)
		if (files[k].nr) {
			files[k].acked = files[k].nr - 1;
			files[k].durable = true;
		}
}

static void op_replace(struct run *w, struct file *f, size_t len,
		       unsigned int tag)
{
	struct bale_cred cred = { 0 };
	struct bale_inode *i;
	struct version *v;
	struct iovec iov;
	int r = bale_dir_create(w->root, "new", S_IFREG | 0644, 0, &cred, &i);

	if (r) {
		w->op_failed = true;
		return;
	}
	v = add_version(f, NULL);
	fill(v->data, len, tag);
	v->size = len;
	iov = (struct iovec){ v->data, len };
	r = bale_file_write(i, &iov, 1, 0, false, false);
	if (!r)
		r = bale_dir_rename(w->root, "new", w->root, f->name, 0);
	if (r) {
		w->op_failed = true;
		bale_dir_unlink(w->root, "new");
	}
	bale_inode_put(i);
}

static void op_maintain(struct run *w, unsigned int k)
{
	struct bale_codec_policy zstd = { .codec = BALE_CODEC_zstd };
	struct bale_meta *m = bale_fs_meta(w->fs);
	uint64_t before, after;
	struct bale_inode *i;
	int r = 0;

	if (k == 0)
		r = bale_meta_apply(m);
	else if (k == 1)
		r = bale_meta_checkpoint(m);
	else if (k == 2)
		r = bale_cleaner_run(bale_fs_store(w->fs), UINT64_MAX);
	else if (!bale_dir_lookup(w->root, files[1].name, &i)) {
		r = bale_file_recompress(i, zstd, &before, &after);
		bale_inode_put(i);
	}
	w->op_failed |= r != 0;
}

/* Enough for the log and the segments to go on in new files. */
static void op_bulk(struct run *w, unsigned int tag)
{
	static uint8_t val[60000];
	struct bale_inode *i;
	int r = bale_dir_lookup(w->root, files[0].name, &i);

	for (unsigned int k = 0; k < 6 && !r; k++) {
		char name[16];

		fill(val, sizeof(val), tag + k);
		snprintf(name, sizeof(name), "user.%u", k);
		r = bale_xattr_set(i, name, val, sizeof(val), 0, false);
		if (r)
			bale_inode_put(i);
	}
	w->op_failed |= r != 0;
	if (!r)
		bale_inode_put(i);
	op_write(w, &files[3], 0, 190000, tag);
	op_write(w, &files[2], 0, 190000, tag + 1);
	op_sync(w);
}

static void script(struct run *w)
{
	for (unsigned int k = 0; k < NR_FILES; k++)
		op_write(w, &files[k], k * 1000, 90000 + 9000 * k, 10 + k);
	op_fsync(w, &files[0]);
	op_sync(w);
	op_replace(w, &files[NR_FILES], 120000, 20);
	op_write(w, &files[1], 5000, 300, 21);
	op_fsync(w, &files[1]); /* a patch */
	op_truncate(w, &files[2], 40000);
	op_maintain(w, 3);
	op_maintain(w, 0);
	op_write(w, &files[2], 30000, 60000, 22);
	op_sync(w);
	op_maintain(w, 1);
	op_write(w, &files[0], 0, 150000, 23);
	op_write(w, &files[3], 0, 150000, 24);
	op_replace(w, &files[NR_FILES], 70000, 25);
	op_fsync(w, &files[NR_FILES]);
	op_sync(w);
	for (unsigned int k = 0; k < 5; k++)
		op_bulk(w, 100 + 10 * k);
	op_maintain(w, 2);
	op_maintain(w, 1);
	op_write(w, &files[1], 100, 64, 26);
	op_fsync(w, &files[1]);
	op_maintain(w, 1);
	op_sync(w);
}

static void name_files(void)
{
	for (int k = 0; k <= NR_FILES; k++)
		snprintf(files[k].name, sizeof(files[k].name), "f%d", k);
	files[NR_FILES].whole = true;
}

static bool untrusted; /* the first open makes a new index */

static int open_fs(struct bale_fs **ret, bool with_faults, bool threads)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = !threads,
				     .commit_ns = 5000000,
				     .nr_workers = 1,
				     .cache_bytes = 32 << 20,
				     .untrusted = with_faults && untrusted,
				     .io_ops = with_faults ? &failing : NULL };

	return bale_fs_open(store, &o, ret);
}

/* Run the script under faults, then look at what is left. */
static void child(bool threads)
{
	struct run w = { 0 };
	int r, outcome = UNHURT;

	alarm(SECONDS);
	name_files();
	r = open_fs(&w.fs, true, threads);
	if (r) {
		outcome = OPEN_FAILED;
	} else if (bale_inode_get(w.fs, BALE_ROOT_INO, &w.root)) {
		outcome = OP_FAILED;
		bale_fs_close(w.fs);
	} else {
		script(&w);
		for (int k = 0; k <= NR_FILES; k++)
			check_file(w.root, &files[k], true);
		if (w.op_failed)
			outcome = OP_FAILED;
		if (bale_store_error(bale_fs_store(w.fs)))
			outcome = READ_ONLY;
		bale_inode_put(w.root);
		r = bale_fs_close(w.fs);
		if (outcome == READ_ONLY && !r)
			wrong("close says nothing of the failure", "", 0);
		/* Unmounted without complaint: all is there. */
		for (int k = 0; k <= NR_FILES && !r && !w.op_failed; k++)
			if (files[k].nr)
				files[k].acked = files[k].nr - 1;
	}
	sh->outcomes[outcome]++;
	sh->calls = atomic_load(&calls);
	r = open_fs(&w.fs, false, false);
	if (r || bale_inode_get(w.fs, BALE_ROOT_INO, &w.root)) {
		wrong("does not open again", "", r);
		_exit(1);
	}
	for (int k = 0; k <= NR_FILES; k++)
		check_file(w.root, &files[k], false);
	bale_inode_put(w.root);
	if (bale_fs_close(w.fs))
		wrong("does not close", "", 0);
	_exit(sh->what[0] ? 1 : 0);
}

static bool one_run(const struct dm_image *m, enum mode how, unsigned int at,
		    bool threads)
{
	int status;
	pid_t pid;

	dm_remove_tree(store);
	dm_image_write(m, store);
	sh->what[0] = sh->failed_call[0] = 0;
	sh->calls = 0;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		if (!getenv("VERBOSE") && !freopen("/dev/null", "w", stderr))
			_exit(98);
		mode = how;
		fail_at = at;
		child(threads);
	}
	if (waitpid(pid, &status, 0) != pid)
		exit(1);
	if (!status)
		return true;
	fprintf(stderr, "FAIL %s at call %u (%s)%s: status %#x: %s\n",
		mode_names[how], at, sh->failed_call,
		threads ? " with threads" : "", (unsigned int)status, sh->what);
	return false;
}

/* ---- mkfs ---- */

static void must(int r, const char *what)
{
	if (!r)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

static const struct bale_mkfs_options mkfs_options = {
	.size = sizeof(mkfs_options),
	.extent_bits = 16,
	.segment_bits = 20,
	.log_bits = 20,
	.codec = BALE_CODEC_auto,
};

/* Each call of mkfs fails: it says so, leaves no store, and works after. */
static unsigned int check_mkfs(unsigned int *failures)
{
	static const char *const ops[] = { "open",   "pwritev", "sync",
					   "rename", "mkdir",	"sync_dir",
					   "list",   "space" };
	unsigned int runs = 0;

	for (size_t k = 0; k < sizeof(ops) / sizeof(*ops); k++)
		for (unsigned int n = 1;; n++, runs++) {
			char spec[48];
			int r;

			snprintf(spec, sizeof(spec), "io.%s:%u:EIO", ops[k], n);
			dm_remove_tree(store);
			must(bale_fault_arm(spec), spec);
			r = bale_store_mkfs(store, &mkfs_options);
			bale_fault_clear();
			if (!r)
				break;
			r = bale_store_mkfs(store, &mkfs_options);
			if (!r)
				continue;
			fprintf(stderr, "FAIL mkfs after %s: %s\n", spec,
				strerror(-r));
			++*failures;
		}
	return runs;
}

/* A fresh store, or one that a crash left with a superblock lost: its log is
 * replayed and its index made anew under faults. */
static void load_image(struct dm_image *m, bool crashed)
{
	struct dm_master ma;
	struct dm_file *f;

	dm_remove_tree(store);
	untrusted = crashed;
	if (!crashed) {
		must(bale_store_mkfs(store, &mkfs_options), "mkfs");
		dm_image_load(m, store);
		return;
	}
	dm_build(store, &ma);
	dm_image_free(&ma.stale);
	dm_image_free(&ma.closed);
	*m = ma.crashed;
	f = dm_image_find(m, "super.1");
	free(f->data);
	*f = m->file[--m->nr];
}

struct sums {
	unsigned int calls, runs, failures;
};

static void all_calls(const struct dm_image *m, unsigned int first,
		      unsigned int step, struct sums *s)
{
	unsigned int total;

	s->failures += !one_run(m, EIO_ONCE, 0, false);
	total = sh->calls;
	sh->outcomes[UNHURT]--; /* that was no fault */
	s->calls += total;
	for (unsigned int n = first; n <= total; n += step)
		for (unsigned int how = 0; how < NR_MODES; how++, s->runs++)
			s->failures += !one_run(m, how, n, (n + how) % 4 == 3);
}

int main(int argc, char **argv)
{
	unsigned int step = argc > 1 ? (unsigned int)atoi(argv[1]) : 1;
	unsigned int first = argc > 2 ? (unsigned int)atoi(argv[2]) : 1;
	unsigned int mkfs_runs;
	struct sums s = { 0 };
	struct dm_image m;

	bale_log_set_level(BALE_LOG_ERR);
	snprintf(work, sizeof(work), "/dev/shm/balefs-ioerror-XXXXXX");
	if (!mkdtemp(work))
		return 77;
	snprintf(store, sizeof(store), "%s/store", work);
	setenv("TMPDIR", work, 1);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED || !step)
		return 1;
	mkfs_runs = check_mkfs(&s.failures);
	for (int crashed = 0; crashed < 2; crashed++) {
		load_image(&m, crashed);
		all_calls(&m, first, step, &s);
		dm_image_free(&m);
	}
	printf("%u calls, %u call sites made to fail, %u runs, %u of mkfs: "
	       "%llu unhurt, %llu read-only, %llu did not open, %llu with a "
	       "failed call: %u failures\n",
	       s.calls, sh->nr_sites, s.runs, mkfs_runs,
	       (unsigned long long)sh->outcomes[UNHURT],
	       (unsigned long long)sh->outcomes[READ_ONLY],
	       (unsigned long long)sh->outcomes[OPEN_FAILED],
	       (unsigned long long)sh->outcomes[OP_FAILED], s.failures);
	dm_remove_tree(work);
	return s.failures ? 1 : 0;
}
