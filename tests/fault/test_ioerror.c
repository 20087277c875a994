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
 * Every call site that the store has in its sources is failed at least once,
 * by number of its passage in one of several situations; the program has the
 * list of its sites (fault.h), and a site that was never failed fails the test.
 *
 *   test_ioerror [STEP [FIRST]]    every STEPth call, from FIRST on; 1: and
 *                                  each site in each situation and way
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
#include "ioerror.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/inode/inode.h"

enum { NR_FILES = 4, MAX_VERSIONS = 40, FILE_MAX = 200000, SECONDS = 30 };
enum { LARGE_BYTES = 3 << 19 };

static const char *const mode_names[] = { "eio", "enospc", "torn", "dead",
					  "slow" };
static const char *const situation_names[] = {
	"fresh", "crashed",	  "no index",  "bad checkpoint", "strays",
	"tight", "no allocation", "no memory", "large",
};
static char work[64], store[80];

static void wrong(const char *what, const char *name, long a)
{
	if (!ioe.sh->what[0])
		snprintf(ioe.sh->what, sizeof(ioe.sh->what), "%s (%s, %ld)",
			 what, name, a);
}

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
	bool refused; /* a write failed: who knows how much of it is there */
	bool whole;
};
static struct file files[NR_FILES + 1];
static bool large_acked;

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
	if (f->durable && f->nr == f->acked + 1 && len != f->v[f->acked].size)
		return "acknowledged size lost";
	for (size_t i = 0; i < len; i++) {
		bool found = f->refused && !p[i]; /* as before it */

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
		if (atomic_load(&ioe.flush_failed) &&
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
	f->refused |= bale_file_write(i, &iov, 1, off, false, false) != 0;
	w->op_failed |= f->refused;
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
	if (note_sync(w, bale_file_fsync(i, false)) && f->nr && !f->refused) {
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
		if (files[k].nr && !files[k].refused) {
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

/* The cleaner has to search for the second bale of the first segment. */
static void spoil_header(void)
{
	char path[sizeof(store) + 32];
	int fd;

	snprintf(path, sizeof(path), "%s/seg/%016x", store, 0);
	fd = open(path, O_WRONLY);
	if (fd < 0) /* removed */
		return;
	if (pwrite(fd, "spoilt", 6, 0) != 6)
		wrong("cannot spoil a header", "", 0);
	close(fd);
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

static void large_bytes(uint8_t *p)
{
	uint32_t x = 1;

	for (size_t i = 0; i < LARGE_BYTES; i++) {
		x = x * 1664525 + 1013904223;
		p[i] = (uint8_t)(x >> 24);
	}
}

/* One bale of more than 1 MiB, a log that fills, threads that had time. */
static void op_large(struct run *w)
{
	struct bale_cred cred = { 0 };
	struct iovec iov = { malloc(LARGE_BYTES), LARGE_BYTES };
	struct bale_inode *i;
	int r = bale_dir_create(w->root, "large", S_IFREG | 0644, 0, &cred, &i);

	if (r || !iov.iov_base) {
		w->op_failed = true;
		free(iov.iov_base);
		return;
	}
	large_bytes(iov.iov_base);
	r = bale_file_write(i, &iov, 1, 0, false, false);
	w->op_failed |= r != 0;
	if (!r && note_sync(w, bale_file_fsync(i, false)))
		large_acked = true;
	bale_inode_put(i);
	free(iov.iov_base);
	op_write(w, &files[0], 0, 1000, 199);
	for (unsigned int k = 0; k < 8; k++)
		op_bulk(w, 200 + 10 * k);
	usleep(80000);
}

static void check_large(struct bale_inode *root)
{
	uint8_t *want = malloc(LARGE_BYTES);
	struct bale_inode *i;
	struct bale_read rd;
	int r = bale_dir_lookup(root, "large", &i);

	if (r || !want) {
		wrong("not found", "large", r);
		return;
	}
	large_bytes(want);
	for (size_t at = 0; !r && at < LARGE_BYTES;) {
		r = bale_file_read(i, at, LARGE_BYTES - at, &rd);
		for (unsigned int k = 0; !r && k < rd.nr_iov; k++) {
			if (memcmp(want + at, rd.iov[k].iov_base,
				   rd.iov[k].iov_len))
				wrong("content", "large", (long)at);
			at += rd.iov[k].iov_len;
		}
		if (!r)
			bale_file_read_done(&rd);
	}
	if (r)
		wrong("cannot be read", "large", r);
	bale_inode_put(i);
	free(want);
}

/* Space set aside for more than one segment, and what statfs() asks. */
static void op_promise(struct run *w)
{
	struct bale_space_info info;
	struct bale_inode *i;

	bale_space_info(bale_fs_store(w->fs), &info);
	if (bale_dir_lookup(w->root, files[0].name, &i))
		return;
	w->op_failed |=
		bale_file_fallocate(i, FALLOC_FL_KEEP_SIZE, 0, 4 << 20) != 0;
	bale_inode_put(i);
}

static void op_no_room(struct run *w)
{
	ioe.room = 100000;
	op_replace(w, &files[NR_FILES], 90000, 30);
	ioe.room = IOE_TIGHT_BYTES;
	for (unsigned int k = 0; k < 16; k++)
		op_bulk(w, 300 + 10 * k);
}

static void before_script(void)
{
	const char *spec =
		ioe.situation == NO_MEMORY ?
			"segment.insert:1:ENOMEM,segment.insert:2:ENOMEM" :
		ioe.situation == LARGE ? "cleaner.eager:1+:EAGAIN" :
					 NULL;

	if (spec)
		bale_fault_arm(spec);
}

static void script(struct run *w)
{
	if (ioe.situation == LARGE) {
		op_large(w);
		return;
	}
	if (ioe.situation == TIGHT)
		op_no_room(w);
	if (ioe.situation != FRESH && ioe.situation != CRASHED)
		op_promise(w);
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
	if (ioe.situation == FRESH)
		spoil_header();
	op_maintain(w, 2);
	op_maintain(w, 1);
	op_write(w, &files[1], 100, 64, 26);
	op_fsync(w, &files[1]);
	op_maintain(w, 1);
	op_sync(w);
	if (ioe.situation != FRESH && ioe.situation != CRASHED)
		op_promise(w);
	if (ioe.situation == NO_MEMORY)
		bale_fault_arm("meta.apply:1:ENOSPC");
	for (unsigned int k = 0; ioe.situation == NO_ALLOCATE && k < 16; k++)
		op_bulk(w, 500 + 10 * k); /* a checkpoint is due at the end */
}

static void name_files(void)
{
	for (int k = 0; k <= NR_FILES; k++)
		snprintf(files[k].name, sizeof(files[k].name), "f%d", k);
	files[NR_FILES].whole = true;
}

static int open_fs(struct bale_fs **ret, bool with_faults, bool threads)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = !threads,
				     .commit_ns = 5000000,
				     .nr_workers = 1,
				     .cache_bytes = 32 << 20,
				     .untrusted = with_faults &&
						  ioe.situation == CRASHED,
				     .io_ops = with_faults ? &ioe_ops : NULL };

	return bale_fs_open(store, &o, ret);
}

/* Run the script under faults, then look at what is left. */
static void child(bool threads)
{
	struct run w = { 0 };
	int r, outcome = UNHURT;

	alarm(SECONDS);
	name_files();
	before_script();
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
	ioe.sh->outcomes[outcome]++;
	if (ioe.sh->failed_site < MAX_SITES)
		ioe.sh->site[ioe.sh->failed_site].outcomes[outcome]++;
	ioe.sh->calls = atomic_load(&ioe.calls);
	bale_fault_clear();
	r = open_fs(&w.fs, false, false);
	if (r || bale_inode_get(w.fs, BALE_ROOT_INO, &w.root)) {
		wrong("does not open again", "", r);
		_exit(1);
	}
	for (int k = 0; k <= NR_FILES; k++)
		check_file(w.root, &files[k], false);
	if (large_acked)
		check_large(w.root);
	bale_inode_put(w.root);
	if (bale_fs_close(w.fs))
		wrong("does not close", "", 0);
	_exit(ioe.sh->what[0] ? 1 : 0);
}

static bool one_run(const struct dm_image *m, enum mode how, unsigned int at,
		    bool threads)
{
	int status;
	pid_t pid;

	dm_remove_tree(store);
	dm_image_write(m, store);
	ioe.sh->what[0] = ioe.sh->failed_call[0] = 0;
	ioe.sh->calls = 0;
	ioe.sh->failed_site = MAX_SITES;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		if (!getenv("VERBOSE") && !freopen("/dev/null", "w", stderr))
			_exit(98);
		ioe.mode = how;
		ioe.fail_at = at;
		child(threads);
	}
	if (waitpid(pid, &status, 0) != pid)
		exit(1);
	if (!status)
		return true;
	fprintf(stderr, "FAIL %s: %s at call %u (%s)%s: status %#x: %s\n",
		situation_names[ioe.situation], mode_names[how], at,
		ioe.sh->failed_call, threads ? " with threads" : "",
		(unsigned int)status, ioe.sh->what);
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

static const struct bale_mkfs_options mkfs_over = {
	.size = sizeof(mkfs_over),
	.extent_bits = 16,
	.segment_bits = 20,
	.log_bits = 20,
	.codec = BALE_CODEC_auto,
	.force = true,
};

static bool mkfs_fails(struct bale_fault_site *site, unsigned int n, bool over)
{
	char spec[64];
	int r;

	snprintf(spec, sizeof(spec), "%s@%u:%u:EIO", bale_fault_site_file(site),
		 site->line, n);
	dm_remove_tree(store);
	if (over)
		must(bale_store_mkfs(store, &mkfs_options), "mkfs");
	must(bale_fault_arm(spec), spec);
	r = bale_store_mkfs(store, over ? &mkfs_over : &mkfs_options);
	bale_fault_clear();
	ioe.sh->outcomes[r ? OP_FAILED : UNHURT]++;
	ioe.sh->site[ioe_site_index(site)].failed++;
	ioe.sh->site[ioe_site_index(site)].outcomes[r ? OP_FAILED : UNHURT]++;
	r = r ? bale_store_mkfs(store, over ? &mkfs_over : &mkfs_options) : 0;
	if (r)
		fprintf(stderr, "FAIL mkfs after %s: %s\n", spec, strerror(-r));
	return !r;
}

/* Each call of mkfs fails: it says so or did without, leaves no store, and
 * works after; the same over a store that is there. */
static unsigned int check_mkfs(bool over, unsigned int *failures)
{
	static uint64_t passed[MAX_SITES];
	struct bale_fault_site *site;
	unsigned int runs = 0;

	dm_remove_tree(store);
	if (over)
		must(bale_store_mkfs(store, &mkfs_options), "mkfs");
	for (unsigned int k = 0; (site = bale_fault_site(k)); k++)
		site->passed = 0;
	must(bale_fault_arm("counting:1"), "counting");
	must(bale_store_mkfs(store, over ? &mkfs_over : &mkfs_options), "mkfs");
	bale_fault_clear();
	for (unsigned int k = 0; (site = bale_fault_site(k)); k++)
		passed[k] = site->name ? 0 : site->passed;
	for (unsigned int k = 0; (site = bale_fault_site(k)); k++)
		for (unsigned int n = 1; n <= passed[k]; n++, runs++)
			*failures += !mkfs_fails(site, n, over);
	return runs;
}

/* ---- the situations ---- */

static void drop_file(struct dm_image *m, const char *name)
{
	struct dm_file *f = dm_image_find(m, name);

	if (!f)
		return;
	free(f->data);
	*f = m->file[--m->nr];
}

static void add_file(struct dm_image *m, const char *name, size_t len)
{
	struct dm_file *f = &m->file[m->nr++];

	snprintf(f->name, sizeof(f->name), "%s", name);
	f->data = calloc(1, len);
	f->len = len;
	must(f->data ? 0 : -ENOMEM, "memory");
}

/* The last file of a folder. */
static struct dm_file *newest(struct dm_image *m, const char *folder)
{
	struct dm_file *f = NULL;

	for (unsigned int k = 0; k < m->nr; k++)
		if (!strncmp(m->file[k].name, folder, strlen(folder)) &&
		    (!f || strcmp(m->file[k].name, f->name) > 0))
			f = &m->file[k];
	must(f ? 0 : -ENOENT, folder);
	return f;
}

static void append_garbage(struct dm_file *f, size_t len)
{
	f->data = realloc(f->data, f->len + len);
	must(f->data ? 0 : -ENOMEM, "memory");
	memset(f->data + f->len, 0xa5, len);
	f->len += len;
}

static const struct bale_mkfs_options mkfs_large = {
	.size = sizeof(mkfs_large),
	.extent_bits = 16,
	.segment_bits = 22,
	.log_bits = 23,
	.codec = BALE_CODEC_auto,
};

static void load_fresh(struct dm_image *m, const struct bale_mkfs_options *o)
{
	dm_remove_tree(store);
	must(bale_store_mkfs(store, o), "mkfs");
	dm_image_load(m, store);
	dm_remove_tree(store);
}

static void load_images(struct dm_image *m)
{
	struct dm_master ma;

	load_fresh(&m[LARGE], &mkfs_large);
	load_fresh(&m[FRESH], &mkfs_options);
	dm_image_copy(&m[TIGHT], &m[FRESH]);
	dm_image_copy(&m[NO_ALLOCATE], &m[FRESH]);
	dm_image_copy(&m[NO_MEMORY], &m[FRESH]);
	dm_build(store, &ma);
	dm_image_free(&ma.stale);
	dm_image_copy(&m[STRAYS], &ma.crashed);
	append_garbage(newest(&m[STRAYS], "seg/"), 9000);
	add_file(&m[STRAYS], "seg/00000000000000ff", 5000);
	add_file(&m[STRAYS], "log/00000000000000ff", 5000);
	add_file(&m[STRAYS], "ckpt/new", 5000);
	dm_image_copy(&m[BAD_CKPT], &ma.closed);
	drop_file(&m[BAD_CKPT], "index/data.mdb");
	newest(&m[BAD_CKPT], "ckpt/")->data[600] ^= 1;
	m[NO_INDEX] = ma.closed;
	drop_file(&m[NO_INDEX], "index/data.mdb");
	m[CRASHED] = ma.crashed;
	drop_file(&m[CRASHED], "super.1");
}

struct sums {
	unsigned int calls, runs, failures;
};

static void all_calls(const struct dm_image *m, unsigned int first,
		      unsigned int step, struct sums *s)
{
	unsigned int total;

	s->failures += !one_run(m, EIO_ONCE, 0, false);
	total = ioe.sh->calls;
	ioe.sh->outcomes[UNHURT]--; /* that was no fault */
	s->calls += total;
	for (unsigned int n = first; n <= total; n += step)
		for (unsigned int how = 0; how < NR_MODES; how++, s->runs++)
			s->failures += !one_run(m, how, n, (n + how) % 4 == 3);
}

/* ---- each site ---- */

static unsigned int passed[NR_SITUATIONS][MAX_SITES];

static void count_sites(const struct dm_image *m, struct sums *s)
{
	for (ioe.situation = 0; ioe.situation < NR_SITUATIONS;
	     ioe.situation++) {
		for (unsigned int k = 0; k < MAX_SITES; k++)
			ioe.sh->site[k].passed = 0;
		s->failures += !one_run(&m[ioe.situation], EIO_ONCE, 0,
					ioe.situation == LARGE);
		ioe.sh->outcomes[UNHURT]--;
		for (unsigned int k = 0; k < MAX_SITES; k++)
			passed[ioe.situation][k] = ioe.sh->site[k].passed;
	}
}

/* The first passage, or all of first, middle, last. */
static void fail_one(const struct dm_image *m, unsigned int k, bool all,
		     struct sums *s)
{
	unsigned int total = passed[ioe.situation][k];
	unsigned int at[] = { 1, (total + 1) / 2, total };

	ioe.fail_site = bale_fault_site(k);
	for (unsigned int i = 0; i < 3; i++) {
		if (i && (!all || at[i] == at[i - 1]))
			continue;
		for (unsigned int how = 0; how < NR_MODES; how++) {
			if (!all && how != EIO_ONCE && how != DEAD)
				continue;
			s->failures += !one_run(&m[ioe.situation], how, at[i],
						ioe.situation == LARGE);
			s->runs++;
		}
	}
	ioe.fail_site = NULL;
}

static void each_site(const struct dm_image *m, bool all, struct sums *s)
{
	struct bale_fault_site *site;

	count_sites(m, s);
	for (unsigned int k = 0; (site = bale_fault_site(k)); k++) {
		bool once = false;

		for (ioe.situation = 0; ioe.situation < NR_SITUATIONS;
		     ioe.situation++) {
			if (site->name || !passed[ioe.situation][k] ||
			    (once && !all))
				continue;
			once = true;
			fail_one(m, k, all, s);
		}
	}
}

/* A row for each site; how many were never failed. */
static unsigned int report_sites(void)
{
	const struct bale_fault_site *site;
	unsigned int nr = 0, never = 0;

	printf("%-22s %-28s %-15s %6s %7s %9s %8s %6s\n", "call site",
	       "function", "operation", "failed", "unhurt", "read-only",
	       "no open", "failed");
	for (unsigned int k = 0; (site = bale_fault_site(k)); k++) {
		char place[40];

		if (site->name)
			continue;
		nr++;
		never += !ioe.sh->site[k].failed;
		snprintf(place, sizeof(place), "%s@%u",
			 bale_fault_site_file(site), site->line);
		printf("%-22s %-28s %-15s %6u %7u %9u %8u %6u%s\n", place,
		       site->func, ioe.sh->site[k].op, ioe.sh->site[k].failed,
		       ioe.sh->site[k].outcomes[UNHURT],
		       ioe.sh->site[k].outcomes[READ_ONLY],
		       ioe.sh->site[k].outcomes[OPEN_FAILED],
		       ioe.sh->site[k].outcomes[OP_FAILED],
		       ioe.sh->site[k].failed ? "" : " NEVER");
	}
	printf("%u of %u call sites were made to fail\n", nr - never, nr);
	return never;
}

int main(int argc, char **argv)
{
	unsigned int step = argc > 1 ? (unsigned int)atoi(argv[1]) : 1;
	unsigned int first = argc > 2 ? (unsigned int)atoi(argv[2]) : 1;
	unsigned int mkfs_runs, never;
	struct dm_image m[NR_SITUATIONS];
	struct sums s = { 0 };

	bale_log_set_level(BALE_LOG_ERR);
	snprintf(work, sizeof(work), "/dev/shm/balefs-ioerror-XXXXXX");
	if (!mkdtemp(work))
		return 77;
	snprintf(store, sizeof(store), "%s/store", work);
	setenv("TMPDIR", work, 1);
	ioe.sh = mmap(NULL, sizeof(*ioe.sh), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ioe.sh == MAP_FAILED || !step)
		return 1;
	mkfs_runs = check_mkfs(false, &s.failures);
	mkfs_runs += check_mkfs(true, &s.failures);
	load_images(m);
	for (ioe.situation = FRESH; ioe.situation <= CRASHED; ioe.situation++)
		all_calls(&m[ioe.situation], first, step, &s);
	each_site(m, step == 1, &s);
	never = report_sites();
	printf("%u calls, %u runs, %u of mkfs: %llu unhurt, %llu read-only, "
	       "%llu did not open, %llu with a failed call: %u failures\n",
	       s.calls, s.runs, mkfs_runs,
	       (unsigned long long)ioe.sh->outcomes[UNHURT],
	       (unsigned long long)ioe.sh->outcomes[READ_ONLY],
	       (unsigned long long)ioe.sh->outcomes[OPEN_FAILED],
	       (unsigned long long)ioe.sh->outcomes[OP_FAILED], s.failures);
	for (ioe.situation = 0; ioe.situation < NR_SITUATIONS; ioe.situation++)
		dm_image_free(&m[ioe.situation]);
	dm_remove_tree(work);
	return s.failures || never ? 1 : 0;
}
