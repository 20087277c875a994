/* SPDX-License-Identifier: Apache-2.0 */
/*
 * salvage on stores whose rows were made to mislead it: it ends, and writes
 * nothing outside the directory that it was given.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/tools/fsck_fixture.h"
#include "tools/cmd.h"

static int nr_objects;

static int count(const char *path, const struct stat *st, int flag,
		 struct FTW *ftw)
{
	(void)path;
	(void)st;
	(void)flag;
	(void)ftw;
	nr_objects++;
	return 0;
}

/* Exit status; *ret_objects what is in the directory made, itself included. */
static int salvage(struct fx *x, int *ret_objects)
{
	char out[80], *argv[] = { "salvage", x->store, out, NULL };
	int status;
	pid_t pid;

	snprintf(out, sizeof(out), "%s/out", x->dir);
	fx_close(x);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		optind = 0;
		_exit(bale_cmd_salvage.fn(&bale_cmd_salvage, 3, argv));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	nr_objects = 0;
	nftw(out, count, 16, FTW_PHYS);
	*ret_objects = nr_objects;
	fx_open(x);
	return WEXITSTATUS(status);
}

static void as_it_is(void **state)
{
	struct fx *x = *state;
	char path[96], text[8] = "";
	int nr, fd;

	assert_int_equal(salvage(x, &nr), 0);
	assert_int_equal(nr, 7); /* out, dir, file, sym, hard, inner, sub */
	snprintf(path, sizeof(path), "%s/out/dir/inner", x->dir);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	close(fd);
}

static void a_ring_of_directories(void **state)
{
	struct fx *x = *state;
	int nr;

	/* /dir/sub/again is /dir. */
	fx_put_dirent(x, x->empty, "again", x->subdir, DT_DIR, 3);
	fx_put_cookie(x, x->empty, "again", x->subdir, DT_DIR, 3);
	/* ... and /dir/sub/top the root. */
	fx_put_dirent(x, x->empty, "top", BALE_ROOT_INO, DT_DIR, 4);
	fx_put_cookie(x, x->empty, "top", BALE_ROOT_INO, DT_DIR, 4);
	assert_int_equal(salvage(x, &nr), 4);
	assert_int_equal(nr, 7);
}

/* A link to the outside, and a directory's listing that has its name twice:
 * the second is not made inside of what the link leads to. */
static void a_name_behind_a_link(void **state)
{
	struct fx *x = *state;
	uint8_t val[sizeof(struct bale_disk_inline) + 64] = { 0 };
	struct bale_disk_inline d;
	char outside[80];
	be64 k = be64_put(x->sym);
	struct bale_inode_row row;
	struct stat st;
	int nr;

	snprintf(outside, sizeof(outside), "%s/outside", x->dir);
	assert_int_equal(mkdir(outside, 0700), 0);
	d = (struct bale_disk_inline){ .raw_len = le32_put(
					       (uint32_t)strlen(outside)) };
	memcpy(val, &d, sizeof(d));
	memcpy(val + sizeof(d), outside, strlen(outside));
	fx_put(x, BALE_TABLE_inline, &k, 8, val, sizeof(d) + strlen(outside));
	fx_get_inode(x, x->sym, &row);
	row.size = row.stored = strlen(outside);
	fx_put_inode(x, x->sym, &row);
	/* Listed again as what it is not. */
	fx_put_cookie(x, BALE_ROOT_INO, "sym", x->subdir, DT_DIR, 9);
	salvage(x, &nr);
	assert_int_equal(stat(outside, &st), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(rmdir(outside), 0); /* still empty */
}

static void set_id_and_devices(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row row, dev = { .mode = S_IFBLK | 0666,
					   .nlink = 1,
					   .rdev = 0x801,
					   .parent = BALE_ROOT_INO };
	struct stat st;
	char path[96];
	int nr;

	fx_get_inode(x, x->file, &row);
	row.mode |= S_ISUID | S_ISGID;
	fx_put_inode(x, x->file, &row);
	fx_put_inode(x, 99, &dev);
	fx_put_dirent(x, BALE_ROOT_INO, "disk", 99, DT_BLK, 12);
	fx_put_cookie(x, BALE_ROOT_INO, "disk", 99, DT_BLK, 12);
	fx_put(x, BALE_TABLE_xattr, "\0\0\0\0\0\0\0\x12security.capability", 27,
	       "\1\0\0\2", 4);
	assert_int_equal(salvage(x, &nr), 4);
	snprintf(path, sizeof(path), "%s/out/file", x->dir);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	snprintf(path, sizeof(path), "%s/out/disk", x->dir);
	assert_int_not_equal(lstat(path, &st), 0);
}

/* A store of a few KiB may name a file of many: 2^62 bytes of nothing. */
static void a_huge_file(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row row;
	struct stat st;
	char path[96];
	int nr;

	fx_get_inode(x, x->file, &row);
	row.size = (uint64_t)1 << 42;
	fx_put_inode(x, x->file, &row);
	assert_int_equal(salvage(x, &nr), 0);
	snprintf(path, sizeof(path), "%s/out/file", x->dir);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_size, (off_t)1 << 42);
	assert_true(st.st_blocks < 10000);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)
	const struct CMUnitTest tests[] = {
		T(as_it_is),
		T(a_ring_of_directories),
		T(a_name_behind_a_link),
		T(set_id_and_devices),
		T(a_huge_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
