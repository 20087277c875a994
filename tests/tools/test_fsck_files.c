/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck on stores whose own files are damaged: superblock copies, index, log,
 * checkpoints; and interrupted at every write.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/crc32c.h"
#include "fs/base/fault.h"
#include "fs/inode/inode.h"
#include "tests/tools/fsck_fixture.h"

static const char log0[] = "log/0000000000000000";

static void expect(struct fx *x, const char *args, int want, const char *text)
{
	int got = fx_fsck(x, args);

	if (got != want || (text && !strstr(x->out, text)))
		fail_msg("fsck %s: status %d, want %d, with \"%s\":\n%s", args,
			 got, want, text ? text : "", x->out);
}

/* Everything is still where it was. */
static void check_content(struct fx *x)
{
	fx_open(x);
	assert_int_equal(fx_lookup(x, 1, "file"), x->file);
	assert_int_equal(fx_lookup(x, x->subdir, "inner"), x->inner);
	fx_close(x);
}

static void super_copy(struct fx *x, const char *text)
{
	expect(x, "-n", 4, text);
	expect(x, "-n", 4, text);
	expect(x, "-p -f", 1, text);
	expect(x, "-n", 0, "clean");
	check_content(x);
	fx_open(x);
}

static void first_superblock_damaged(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	fx_flip(x, "super.0", 100);
	super_copy(x, "super.0: checksum mismatch; super.1 is good");
}

static void second_superblock_gone(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	fx_remove(x, "super.1");
	super_copy(x, "super.1: missing");
}

static void both_superblocks_damaged(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	fx_flip(x, "super.0", 100);
	fx_flip(x, "super.1", 100);
	expect(x, "-y", 8, NULL);
	fx_flip(x, "super.1", 100);
	fx_open(x);
}

/* ---- index ---- */

static void index_gone(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	fx_remove(x, "index");
	expect(x, "-n", 0, "clean"); /* it may be deleted at any time */
	expect(x, "-p", 0, "clean");
	fx_remove(x, "index");
	expect(x, "-y", 0, "clean");
	check_content(x);
	fx_open(x);
}

/* Any byte of the pages in use; never a crash, and nothing lost. */
static void index_damaged(void **state)
{
	struct fx *x = *state;
	char path[128];
	struct stat st;
	int found = 0;

	bale_meta_checkpoint(x->m);
	fx_close(x);
	snprintf(path, sizeof(path), "%s/index/data.mdb", x->store);
	for (long off = 16; off < 80000; off += 1237) {
		int r;

		assert_int_equal(stat(path, &st), 0);
		if (off >= st.st_size)
			break;
		fx_flip(x, "index/data.mdb", off);
		r = fx_fsck(x, "-n");
		if (r != 0 && r != 4)
			fail_msg("byte %ld: -n: status %d:\n%s", off, r,
				 x->out);
		found += r == 4;
		r = fx_fsck(x, "-y");
		if (r != 0 && r != 1)
			fail_msg("byte %ld: -y: status %d:\n%s", off, r,
				 x->out);
		expect(x, "-n", 0, "clean");
		check_content(x);
	}
	assert_true(found > 0);
	fx_open(x);
}

static void index_of_another_time(void **state)
{
	struct fx *x = *state;
	char cmd[400];

	fx_close(x);
	snprintf(cmd, sizeof(cmd), "cp -r %s/index %s/old", x->store, x->dir);
	assert_int_equal(system(cmd), 0);
	fx_open(x);
	fx_del_dirent(x, x->subdir, "inner");
	fx_put_dirent(x, x->subdir, "later", x->inner, 8, 4);
	fx_put_cookie(x, x->subdir, "later", x->inner, 8, 4);
	fx_close(x);
	snprintf(cmd, sizeof(cmd), "cp %s/old/data.mdb %s/index/data.mdb",
		 x->dir, x->store);
	assert_int_equal(system(cmd), 0);
	/* An older index is one from which the log goes on. */
	expect(x, "-n", 0, "clean");
	fx_open(x);
	assert_int_equal(fx_lookup(x, x->subdir, "later"), x->inner);
}

/* ---- log and checkpoints ---- */

static void log_tail_torn(void **state)
{
	struct fx *x = *state;
	long last = -1, at = -1;

	fx_close(x);
	while ((at = fx_find(x, log0, BALE_LOG_MAGIC, 8, at + 1)) >= 0)
		last = at;
	assert_true(last > 0);
	fx_remove(x, "index");
	fx_flip(x, log0, last + 70);
	/* What the last record held is gone, as if it had never been synced. */
	expect(x, "-y", 0, "clean");
	expect(x, "-n", 0, "clean");
	fx_open(x);
	assert_int_equal(fx_lookup(x, 1, "file"), 0);
}

/* Three commits; the middle one's record is damaged. */
static void damage_log_middle(struct fx *x)
{
	long first, second;
	const char *names[] = { "one", "two", "three" };

	for (int k = 0; k < 3; k++) {
		struct bale_inode_row d;
		struct bale_txn t;

		fx_get_inode(x, x->empty, &d);
		fx_put_dirent(x, x->empty, names[k], x->sym, 10, d.next_cookie);
		fx_put_cookie(x, x->empty, names[k], x->sym, 10,
			      d.next_cookie++);
		d.nr_entries++;
		fx_put_inode(x, x->empty, &d);
		fx_get_inode(x, x->sym, &d);
		d.nlink++;
		fx_put_inode(x, x->sym, &d);
		bale_txn_begin(x->m, &t);
		bale_txn_abort(&t);
		assert_int_equal(bale_meta_sync(x->m, 0), 0);
	}
	fx_close(x);
	first = fx_find(x, log0, "one", 3, 0);
	assert_true(first > 0);
	second = fx_find(x, log0, "two", 3, first);
	assert_true(second > first);
	fx_flip(x, log0, second);
}

static void log_damaged_index_whole(void **state)
{
	struct fx *x = *state;

	bale_meta_sync(x->m, 0);
	damage_log_middle(x);
	expect(x, "-n", 4, "log: damaged at");
	assert_non_null(strstr(x->out, "could not be built again"));
	expect(x, "-y", 1, "mended");
	expect(x, "-n", 0, "clean");
	fx_open(x);
	/* Nothing is lost: the index had it. */
	assert_int_equal(fx_lookup(x, x->empty, "three"), x->sym);
}

/* A new index, of what the log still has, would lose the rest. */
static void index_that_cannot_be_rebuilt_is_kept(void **state)
{
	struct fx *x = *state;

	bale_meta_sync(x->m, 0);
	damage_log_middle(x);
	expect(x, "-y --rebuild-index", 1, "the index is kept");
	fx_open(x);
	assert_int_equal(fx_lookup(x, x->empty, "three"), x->sym);
	fx_close(x);
	expect(x, "-y --rebuild-index", 0, "clean");
	fx_open(x);
	assert_int_equal(fx_lookup(x, x->empty, "three"), x->sym);
}

/* An error of the disk while the index is opened says nothing about it: it was
 * deleted before it turned out that the log could not make it again. */
static void index_not_opened_is_kept(void **state)
{
	struct fx *x = *state;

	bale_meta_sync(x->m, 0);
	damage_log_middle(x);
	assert_int_equal(bale_fault_arm("io.unlink:1:EIO"), 0);
	assert_int_equal(fx_fsck(x, "-y") & 8, 8);
	bale_fault_clear();
	expect(x, "-y", 1, "mended");
	fx_open(x);
	assert_int_equal(fx_lookup(x, x->empty, "three"), x->sym);
}

static int only_ckpt(const char *name, void *arg)
{
	if (strlen(name) == 16)
		snprintf(arg, 32, "ckpt/%s", name);
	return 0;
}

static void find_ckpt(struct fx *x, char name[32])
{
	struct bale_io *io;

	name[0] = 0;
	assert_int_equal(bale_io_open(x->store, true, &io), 0);
	io->ops->list(io, "ckpt", only_ckpt, name);
	bale_io_close(io);
	assert_true(name[0]);
}

/* The checkpoint was written while the log grew up to `end_lsn`. */
static void end_ckpt_at(struct fx *x, uint64_t end_lsn)
{
	struct bale_disk_ckpt_end end;
	char name[32], path[128];
	FILE *f;

	find_ckpt(x, name);
	snprintf(path, sizeof(path), "%s/%s", x->store, name);
	f = fopen(path, "r+");
	assert_non_null(f);
	fseek(f, -(long)sizeof(end), SEEK_END);
	assert_int_equal(fread(&end, sizeof(end), 1, f), 1);
	end.end_lsn = le64_put(end_lsn);
	end.crc = le32_put(
		bale_crc32c(0, &end, offsetof(struct bale_disk_ckpt_end, crc)));
	fseek(f, -(long)sizeof(end), SEEK_END);
	assert_int_equal(fwrite(&end, sizeof(end), 1, f), 1);
	assert_int_equal(fclose(f), 0);
}

/* The log ends before the checkpoint's end, and the index is gone: what there
 * is is put together. */
static void log_damaged_before_checkpoints_end(void **state)
{
	struct fx *x = *state;

	assert_int_equal(bale_meta_checkpoint(x->m), 0);
	damage_log_middle(x);
	end_ckpt_at(x, 1 << 20);
	fx_remove(x, "index");
	expect(x, "-p", 12, "-y gives them up");
	expect(x, "-y", 1, "the newest checkpoint needs it up to");
	expect(x, "-n", 0, "clean");
	fx_open(x);
	assert_int_equal(fx_lookup(x, x->empty, "one"), x->sym);
	assert_int_equal(fx_lookup(x, x->empty, "three"), 0);
	assert_int_equal(fx_lookup(x, 1, "file"), x->file);
}

static void add_to_log(struct fx *x, size_t len)
{
	uint8_t key[16], *val = calloc(1, len);
	be64 k = be64_put(x->file);

	memcpy(key, &k, 8);
	memcpy(key + 8, "user.b", 6);
	assert_non_null(val);
	fx_put(x, BALE_TABLE_xattr, key, 14, val, len);
	assert_int_equal(bale_meta_sync(x->m, 0), 0);
	free(val);
}

/* A checkpoint that begins with a log file, whose first record is damaged;
 * files before it are not needed. */
static void log_damaged_at_a_files_start(void **state)
{
	enum { FILE_SIZE = 1 << 20, HEADS = 64 + 8 + 14 };
	struct fx *x = *state;
	struct bale_meta_stats s;

	do { /* to its last byte */
		size_t left;

		assert_int_equal(bale_meta_sync(x->m, 0), 0);
		bale_meta_stats(x->m, &s);
		left = FILE_SIZE - s.log_end;
		add_to_log(x, left > 62000 ? 30000 : left - HEADS);
		bale_meta_stats(x->m, &s);
	} while (s.log_end < FILE_SIZE);
	assert_int_equal(s.log_end, FILE_SIZE);
	assert_int_equal(bale_meta_checkpoint(x->m), 0);
	add_to_log(x, 10);
	add_to_log(x, 20);
	fx_close(x);
	fx_remove(x, log0);
	fx_flip(x, "log/0000000000000001", 70);
	fx_remove(x, "index");
	expect(x, "-y", 1, "log: damaged at 0x100000");
	expect(x, "-n", 0, "clean");
	check_content(x);
	fx_open(x);
}

static void log_damaged_index_gone(void **state)
{
	struct fx *x = *state;
	char path[128];
	struct stat st;

	bale_meta_sync(x->m, 0);
	damage_log_middle(x);
	fx_remove(x, "index");
	expect(x, "-n", 12, "-y gives them up");
	expect(x, "-p", 12, "-y gives them up");
	expect(x, "-y", 1, "log: damaged at");
	expect(x, "-n", 0, "clean");
	snprintf(path, sizeof(path), "%s/damaged-log-0000000000000000",
		 x->store);
	assert_int_equal(stat(path, &st), 0); /* kept for whoever wants it */
	fx_open(x);
	assert_int_equal(fx_lookup(x, x->empty, "one"), x->sym);
	assert_int_equal(fx_lookup(x, x->empty, "two"), 0);
	assert_int_equal(fx_lookup(x, x->empty, "three"), 0);
}

static void checkpoint_damaged(void **state)
{
	struct fx *x = *state;
	char name[32];

	assert_int_equal(bale_meta_checkpoint(x->m), 0);
	fx_close(x);
	find_ckpt(x, name);
	fx_flip(x, name, 200);
	expect(x, "-n", 4, "checksum mismatch");
	expect(x, "-p -f", 1, "checksum mismatch: mended");
	expect(x, "-n", 0, "clean");
	fx_remove(x, "index");
	expect(x, "-y", 0, "clean");
	check_content(x);
	fx_open(x);
}

static void all_metadata_gone(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	fx_remove(x, "index");
	fx_remove(x, "log");
	fx_remove(x, "ckpt");
	expect(x, "-n", 12, "log: no files");
	assert_int_equal(fx_fsck(x, "-y") & 8, 8);
	/* The fixture wants something to close. */
	fx_remove(x, "seg");
	x->st = NULL;
}

/* Made, and never mounted: no lock file, no index yet. */
static void fresh_store(void **state)
{
	struct fx *x = *state;
	struct bale_mkfs_options mk = { .size = sizeof(mk), .force = true };

	fx_close(x);
	assert_int_equal(bale_store_mkfs(x->store, &mk), 0);
	expect(x, "-n", 0, "clean, 1 inodes, 0 extents");
	expect(x, "-p", 0, "clean");
	expect(x, "-y", 0, "clean");
	fx_open(x);
}

/* ---- interrupted ---- */

static void failed_at_every_write(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row r;
	char fault[64];
	int k, status = 0;

	/* A store with much to mend. */
	fx_del_dirent(x, x->subdir, "inner");
	fx_del_cookie(x, BALE_ROOT_INO, 4);
	fx_get_inode(x, x->file, &r);
	r.nlink = 7;
	fx_put_inode(x, x->file, &r);
	fx_close(x);
	for (k = 1; k < 200; k++) {
		snprintf(fault, sizeof(fault), "io.pwritev:%d:EIO", k);
		assert_int_equal(bale_fault_arm(fault), 0);
		status = fx_fsck(x, "-y"); /* a child: it inherits the fault */
		bale_fault_clear();
		if (!(status & 8))
			break;
	}
	assert_true(k > 1 && k < 200);
	status = fx_fsck(x, "-y");
	assert_true(status == 0 || status == 1);
	expect(x, "-n", 0, "clean");
	fx_open(x);
	assert_int_equal(fx_lookup(x, 1, "file"), x->file);
}

/* In a child: a file of more extents than one transaction lets go of. */
static void delete_and_die(struct fx *x)
{
	enum { CHUNK = 4 << 20 };
	struct bale_fs_options o = { .size = sizeof(o), .commit_ns = 1000000 };
	struct bale_cred cred = { 0 };
	struct iovec iov = { malloc(CHUNK), CHUNK };
	struct bale_inode *root, *i;
	struct bale_fs *fs;
	uint64_t size = CHUNK;
	size_t n;
	int r = bale_fs_open(x->store, &o, &fs);

	if (r || !iov.iov_base || bale_inode_get(fs, BALE_ROOT_INO, &root))
		_exit(1);
	memset(iov.iov_base, 'x', CHUNK);
	r = bale_dir_create(root, "many", S_IFREG | 0600, 0, &cred, &i);
	if (!r)
		r = bale_file_write(i, &iov, 1, 0, false, false);
	for (; !r && size < (uint64_t)2 << 30; size += n)
		r = bale_file_copy_range(i, 0, i, size, size, &n);
	if (!r)
		r = bale_dir_unlink(root, "many");
	if (!r)
		r = bale_fs_sync(fs);
	if (r || bale_fault_arm("delete.step:1:latekill"))
		_exit(2);
	bale_inode_put(i);
	_exit(3);
}

/* Steps took extents away, and what the inode said it had stayed. */
static void killed_while_deleting(void **state)
{
	struct fx *x = *state;
	int status;
	pid_t pid;

	fx_close(x);
	pid = fork();
	if (!pid)
		delete_and_die(x);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	expect(x, "-n", 0, "clean");
	fx_open(x);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)
	const struct CMUnitTest tests[] = {
		T(first_superblock_damaged),
		T(second_superblock_gone),
		T(both_superblocks_damaged),
		T(index_gone),
		T(index_damaged),
		T(index_of_another_time),
		T(log_tail_torn),
		T(log_damaged_index_whole),
		T(index_that_cannot_be_rebuilt_is_kept),
		T(index_not_opened_is_kept),
		T(log_damaged_before_checkpoints_end),
		T(log_damaged_at_a_files_start),
		T(log_damaged_index_gone),
		T(checkpoint_damaged),
		T(all_metadata_gone),
		T(fresh_store),
		T(failed_at_every_write),
		T(killed_while_deleting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
