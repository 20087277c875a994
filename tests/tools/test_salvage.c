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
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/codec/codec.h"
#include "tests/tools/fsck_fixture.h"
#include "tools/cmd.h"

static int nr_objects;
static bool index_opened; /* by the last salvage */
static const char *more;  /* one more argument */

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

/* Exit status; *ret_objects what is in the directory made, itself included.
 * x->out is what it printed. */
static int salvage(struct fx *x, int *ret_objects)
{
	char out[80], text[80], path[96], event[512];
	char *argv[] = { "salvage", x->store, out, (char *)more, NULL };
	int status, fd, watch = inotify_init1(IN_NONBLOCK);
	ssize_t len;
	pid_t pid;

	snprintf(out, sizeof(out), "%s/out", x->dir);
	snprintf(text, sizeof(text), "%s/text", x->dir);
	fd = open(text, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	fx_close(x);
	snprintf(path, sizeof(path), "%s/index/data.mdb", x->store);
	assert_true(inotify_add_watch(watch, path, IN_OPEN) >= 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		dup2(fd, 1);
		optind = 0;
		status = bale_cmd_salvage.fn(&bale_cmd_salvage, more ? 4 : 3,
					     argv);
		fflush(stdout);
		_exit(status);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	index_opened = read(watch, event, sizeof(event)) > 0;
	close(watch);
	assert_true(WIFEXITED(status));
	len = pread(fd, x->out, sizeof(x->out) - 1, 0);
	assert_true(len >= 0);
	x->out[len] = '\0';
	close(fd);
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

/* Whoever forged the store forged its index as well. */
static void the_index_is_left_alone(void **state)
{
	struct fx *x = *state;
	int nr;

	assert_int_equal(salvage(x, &nr), 0);
	assert_false(index_opened);
}

static void the_index_may_be_asked_for(void **state)
{
	struct fx *x = *state;
	int nr;

	more = "--use-index";
	assert_int_equal(salvage(x, &nr), 0);
	more = NULL;
	assert_int_equal(nr, 7);
	assert_true(index_opened);
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

static bool is_there(struct fx *x, const char *name, const char *text)
{
	char path[96], got[16] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/out/%s", x->dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	assert_true(read(fd, got, sizeof(got) - 1) >= 0);
	close(fd);
	return !text || !strcmp(got, text);
}

static void told(struct fx *x, const char *text)
{
	if (!strstr(x->out, text))
		fail_msg("\"%s\" is not in:\n%s", text, x->out);
}

/* Everything that cannot be read is told by its name; the rest is copied. */
static void the_list_of_what_is_missing(void **state)
{
	struct fx *x = *state;
	be64 ext = be64_put(x->ext[1]), inner = be64_put(x->inner);
	be64 sym = be64_put(x->sym), empty = be64_put(x->empty);
	struct bale_disk_inline d = { .raw_len = le32_put(500),
				      .codec = BALE_CODEC_lz4 };
	uint8_t val[sizeof(d) + 5] = { 0 };
	int nr;

	fx_del(x, BALE_TABLE_extent, &ext, 8);
	memcpy(val, &d, sizeof(d));
	fx_put(x, BALE_TABLE_inline, &inner, 8, val, sizeof(val));
	fx_del(x, BALE_TABLE_inline, &sym, 8);
	fx_del(x, BALE_TABLE_inode, &empty, 8);
	assert_int_equal(salvage(x, &nr), 4);
	told(x, "/dir/hard: bytes 131072-262143: ");
	told(x, "/dir/inner: bytes 0-");
	told(x, "/dir/sub: its inode cannot be read");
	told(x, "/sym: symbolic link: its target cannot be read");
	told(x, " 3 damaged, 2 left out"); /* hard, file, inner; sub, sym */
	assert_true(is_there(x, "file.damaged", NULL));
	assert_true(is_there(x, "dir/inner.damaged", NULL));
}

/* A name that is listed twice once ended the whole run. */
static void a_name_listed_twice(void **state)
{
	struct fx *x = *state;
	int nr;

	fx_put_cookie(x, BALE_ROOT_INO, "dir", x->subdir, DT_DIR, 6);
	fx_put_cookie(x, BALE_ROOT_INO, "file", x->file, DT_REG, 7);
	fx_put_cookie(x, BALE_ROOT_INO, "sym", x->sym, DT_LNK, 8);
	fx_put_dirent(x, BALE_ROOT_INO, "last", x->inner, DT_REG, 9);
	fx_put_cookie(x, BALE_ROOT_INO, "last", x->inner, DT_REG, 9);
	assert_int_equal(salvage(x, &nr), 4);
	assert_true(is_there(x, "last", "hello"));
}

/* A damaged file's new name once took the place of a good one. */
static void a_file_named_damaged(void **state)
{
	static const char *const names[] = { "file.damaged", "file.damaged.1" };
	struct fx *x = *state;
	struct bale_inode_row row;
	uint64_t ino = 40;
	int nr;

	/* One is copied before the damaged file, one after it. */
	fx_del_cookie(x, BALE_ROOT_INO, 4);
	fx_put_dirent(x, BALE_ROOT_INO, "file", x->file, DT_REG, 8);
	fx_put_cookie(x, BALE_ROOT_INO, "file", x->file, DT_REG, 8);
	fx_get_inode(x, x->inner, &row);
	for (unsigned int k = 0; k < 2; k++) {
		uint8_t val[sizeof(struct bale_disk_inline) + 5] = { 0 };
		struct bale_disk_inline d = { .raw_len = le32_put(5) };
		be64 key = be64_put(ino + k);

		fx_put_inode(x, ino + k, &row);
		memcpy(val, &d, sizeof(d));
		memcpy(val + sizeof(d), k ? "after" : "first", 5);
		fx_put(x, BALE_TABLE_inline, &key, 8, val, sizeof(val));
		fx_put_dirent(x, BALE_ROOT_INO, names[k], ino + k, DT_REG,
			      7 + 2 * k);
		fx_put_cookie(x, BALE_ROOT_INO, names[k], ino + k, DT_REG,
			      7 + 2 * k);
	}
	fx_close(x);
	fx_flip(x, "seg/0000000000000000", 100000);
	fx_open(x);
	assert_int_equal(salvage(x, &nr), 4);
	assert_true(is_there(x, "file.damaged", "first"));
	assert_true(is_there(x, "file.damaged.1", "after"));
	assert_true(is_there(x, "file.damaged.2", NULL));
	assert_false(is_there(x, "file", NULL));
	/* Its other name is one of the same file. */
	assert_true(is_there(x, "dir/hard.damaged", NULL));
	assert_int_equal(nr, 9);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)
	const struct CMUnitTest tests[] = {
		T(as_it_is),
		T(the_index_is_left_alone),
		T(the_index_may_be_asked_for),
		T(a_ring_of_directories),
		T(a_name_behind_a_link),
		T(set_id_and_devices),
		T(a_huge_file),
		T(the_list_of_what_is_missing),
		T(a_name_listed_twice),
		T(a_file_named_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
