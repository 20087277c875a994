/* SPDX-License-Identifier: Apache-2.0 */
/* Making, opening, locking and closing stores, and refusing to. */
#include "store_fixture.h"

#include <dirent.h>

#include "fs/base/clock.h"
#include "fs/base/crc32c.h"

static int setup(void **state)
{
	(void)state;
	bale_log_set_level(BALE_LOG_ERR);
	strcpy(fix_dir, "/tmp/balefs-store-XXXXXX");
	if (!mkdtemp(fix_dir))
		return -1;
	snprintf(fix_path, sizeof(fix_path), "%s/store", fix_dir);
	return 0;
}

static int make(bool force)
{
	struct bale_mkfs_options o = { .size = sizeof(o),
				       .log_bits = 20,
				       .codec = BALE_CODEC_auto,
				       .force = force };

	return bale_store_mkfs(fix_path, &o);
}

static int try_open(bool read_only)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true,
					.read_only = read_only };

	return bale_store_open(fix_path, &o, &fix_st);
}

static void put_file(const char *name, const char *content)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", fix_path, name);
	fix_write_at(path, 0, content, strlen(content));
}

static bool exists(const char *name)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", fix_path, name);
	return !access(path, F_OK);
}

static int count_files(const char *path)
{
	DIR *dir = opendir(path);
	int nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr - 2;
}

/* ---- mkfs ---- */

static void test_mkfs_makes_an_owner_only_store(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(0, make(false));
	assert_int_equal(0, stat(fix_path, &st));
	assert_int_equal(0700, st.st_mode & 07777);
	fix_open();
	assert_int_equal(17, bale_store_super(fix_st)->extent_bits);
	assert_int_equal(BALE_CODEC_auto, bale_store_super(fix_st)->codec);
	assert_int_equal(20, bale_store_super(fix_st)->log_bits);
	fix_close();
}

static void test_mkfs_refuses(void **state)
{
	const struct bale_mkfs_options bad[] = {
		{ .size = 1 },
		{ .size = sizeof(bad[0]), .extent_bits = 15 },
		{ .size = sizeof(bad[0]), .extent_bits = 23 },
		{ .size = sizeof(bad[0]), .segment_bits = 32 },
		{ .size = sizeof(bad[0]),
		  .segment_bits = 20,
		  .extent_bits = 20 },
		{ .size = sizeof(bad[0]), .log_bits = 19 },
		{ .size = sizeof(bad[0]), .codec = 77 },
		{ .size = sizeof(bad[0]),
		  .label = "a label of more than sixty-four bytes, which is "
			   "more "
			   "than there is room for" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(-EINVAL, bale_store_mkfs(fix_path, &bad[i]));
		assert_int_equal(-1, access(fix_path, F_OK));
	}
	/* Also when there is a store already: it is not wiped for them. */
	assert_int_equal(0, make(false));
	for (size_t i = 1; i < sizeof(bad) / sizeof(*bad); i++) {
		struct bale_mkfs_options o = bad[i];

		o.force = true;
		assert_int_equal(-EINVAL, bale_store_mkfs(fix_path, &o));
	}
	assert_int_equal(-ENOTEMPTY, make(false));
	fix_open();
	assert_int_equal(-EBUSY, make(true));
	fix_close();
}

/* Force replaces a store. Files of somebody else it does not touch, nor a
 * store that they are in. */
static void test_mkfs_force(void **state)
{
	uint64_t id;

	(void)state;
	assert_int_equal(0, make(false));
	fix_open();
	id = fix_add(1000);
	fix_close();
	put_file("seg/my thesis.txt", "years");
	assert_int_equal(-ENOTEMPTY, make(true));
	fix_open();
	assert_int_equal(0, fix_check(id));
	fix_close();
	assert_true(exists("seg/my thesis.txt"));
}

static void test_mkfs_force_on_other_folders(void **state)
{
	char path[192];

	(void)state;
	assert_int_equal(0, mkdir(fix_path, 0755));
	snprintf(path, sizeof(path), "%s/log", fix_path);
	assert_int_equal(0, mkdir(path, 0755));
	put_file("log/build.log", "mine");
	assert_int_equal(-ENOTEMPTY, make(true));
	assert_true(exists("log/build.log"));
	snprintf(path, sizeof(path), "%s/log/build.log", fix_path);
	unlink(path);
	put_file("README", "mine");
	assert_int_equal(-ENOTEMPTY, make(true));
	assert_true(exists("README"));
	assert_true(exists("log"));
}

static void test_mkfs_force_replaces(void **state)
{
	uint8_t uuid[16];
	uint64_t id;

	(void)state;
	assert_int_equal(0, make(false));
	fix_open();
	memcpy(uuid, bale_store_super(fix_st)->uuid, 16);
	id = fix_add(1000);
	fix_close();
	assert_int_equal(0, make(true));
	fix_open();
	assert_memory_not_equal(uuid, bale_store_super(fix_st)->uuid, 16);
	assert_int_equal(-ENOENT, fix_check(id));
	fix_close();
}

/* mkfs that fails anywhere leaves nothing; killed anywhere, something that it
 * takes for its own the next time, and that does not open as a store. */
static void test_mkfs_fails_anywhere(void **state)
{
	static const char *const points[] = { "io.open",     "io.pwritev",
					      "io.sync",     "io.rename",
					      "io.sync_dir", "io.mkdir",
					      "io.allocate" };
	char spec[64];

	(void)state;
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++)
		for (int n = 1; n <= 12; n++) {
			int r;

			snprintf(spec, sizeof(spec), "%s:%d:ENOSPC", points[i],
				 n);
			assert_int_equal(0, bale_fault_arm(spec));
			r = make(false);
			bale_fault_clear();
			if (!r) { /* there is no n-th, or it does not matter */
				assert_int_equal(0, try_open(false));
				fix_close();
				assert_int_equal(0,
						 nftw(fix_path, fix_remove, 16,
						      FTW_DEPTH | FTW_PHYS));
				continue;
			}
			assert_int_equal(-1, access(fix_path, F_OK));
		}
}

static void test_mkfs_killed_anywhere(void **state)
{
	static const char *const points[] = { "io.pwritev", "io.sync",
					      "io.rename", "io.sync_dir" };
	char spec[64];

	(void)state;
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++)
		for (int n = 1; n <= 6; n++) {
			int status;
			pid_t pid = fork();

			assert_true(pid >= 0);
			if (!pid) {
				snprintf(spec, sizeof(spec), "%s:%d:kill",
					 points[i], n);
				bale_fault_arm(spec);
				_exit(make(true) != 0);
			}
			assert_int_equal(pid, waitpid(pid, &status, 0));
			assert_int_equal(0, make(true));
			assert_int_equal(0, try_open(false));
			fix_close();
		}
}

/* ---- superblocks ---- */

static void damage_super(int copy)
{
	char path[192];

	fix_name(path, "super.%llu", (uint64_t)copy);
	fix_write_at(path, 1000, "damage", 6);
}

/* Each copy alone is enough, and the next open for writing mends the other. */
static void test_super_copies(void **state)
{
	char path[192];

	(void)state;
	assert_int_equal(0, make(false));
	for (int round = 0; round < 4; round++) {
		int copy = round % 2;

		damage_super(copy);
		assert_int_equal(0, try_open(true)); /* mends nothing */
		fix_close();
		assert_int_equal(0, try_open(false));
		fix_close();
	}
	fix_name(path, "super.%llu", 0);
	assert_int_equal(0, unlink(path));
	assert_int_equal(0, try_open(false));
	fix_close();
	assert_int_equal(0, access(path, F_OK));
	damage_super(0);
	damage_super(1);
	assert_int_equal(-EBADMSG, try_open(false));
	assert_int_equal(-EBADMSG, try_open(true));
}

static void patch_super(int copy, size_t off, uint64_t value, size_t len)
{
	struct bale_disk_super d;
	le64 v = le64_put(value);
	char path[192];
	int fd;

	fix_name(path, "super.%llu", (uint64_t)copy);
	fd = open(path, O_RDONLY);
	assert_int_equal(sizeof(d), read(fd, &d, sizeof(d)));
	close(fd);
	memcpy((uint8_t *)&d + off, &v, len);
	d.crc = le32_put(0);
	d.crc = le32_put(bale_crc32c(0, &d, sizeof(d)));
	fix_write_at(path, 0, &d, sizeof(d));
}

static void patch_both(size_t off, uint64_t value, size_t len)
{
	patch_super(0, off, value, len);
	patch_super(1, off, value, len);
}

static void test_super_of_the_future(void **state)
{
	(void)state;
	assert_int_equal(0, make(false));
	patch_both(offsetof(struct bale_disk_super, ro_compat), 4, 8);
	assert_int_equal(-EOPNOTSUPP, try_open(false));
	assert_int_equal(0, try_open(true));
	fix_close();
	patch_both(offsetof(struct bale_disk_super, incompat), 1ull << 40, 8);
	assert_int_equal(-EOPNOTSUPP, try_open(true));
	patch_both(offsetof(struct bale_disk_super, incompat), 0, 8);
	patch_both(offsetof(struct bale_disk_super, version), 2, 4);
	assert_int_equal(-EOPNOTSUPP, try_open(true));
}

/* The copy written last counts. */
static void test_super_newer_copy(void **state)
{
	(void)state;
	assert_int_equal(0, make(false));
	patch_super(1, offsetof(struct bale_disk_super, level), 9, 1);
	patch_super(1, offsetof(struct bale_disk_super, seq), 5, 8);
	assert_int_equal(0, try_open(false));
	assert_int_equal(9, bale_store_super(fix_st)->level);
	fix_close();
	damage_super(1);
	assert_int_equal(0, try_open(false));
	assert_int_equal(9, bale_store_super(fix_st)->level);
	fix_close();
}

/* What is no store is refused, and stays as it is. */
static void test_open_no_store(void **state)
{
	(void)state;
	assert_int_equal(-ENOENT, try_open(false));
	assert_int_equal(0, mkdir(fix_path, 0755));
	assert_int_equal(-EINVAL, try_open(false));
	assert_int_equal(-EINVAL, try_open(true));
	assert_int_equal(0, count_files(fix_path));
	assert_int_equal(0, rmdir(fix_path));
	fix_write_at(fix_path, 0, "x", 1);
	assert_int_equal(-ENOTDIR, try_open(false));
}

static void test_open_checks_options(void **state)
{
	struct bale_store_options o = { .size = 3 };

	(void)state;
	assert_int_equal(0, make(false));
	assert_int_equal(-EINVAL, bale_store_open(fix_path, &o, &fix_st));
}

/* Whatever call of an open fails, nothing leaks and the next open works. */
static void test_open_fails_anywhere(void **state)
{
	static const char *const points[] = { "io.open",    "io.pread",
					      "io.list",    "io.size",
					      "io.pwritev", "io.sync" };
	uint64_t id;
	char spec[64];
	int fds;

	(void)state;
	assert_int_equal(0, make(false));
	fix_open();
	id = fix_add(5000);
	fix_close();
	fds = count_files("/proc/self/fd");
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++)
		for (int n = 1; n <= 10; n++) {
			snprintf(spec, sizeof(spec), "%s:%d", points[i], n);
			assert_int_equal(0, bale_fault_arm(spec));
			if (!try_open(false))
				bale_store_close(fix_st);
			fix_st = NULL;
			bale_fault_clear();
			assert_int_equal(fds, count_files("/proc/self/fd"));
			fix_open();
			assert_int_equal(0, fix_check(id));
			fix_close();
		}
}

/* ---- lock ---- */

static void test_one_writer(void **state)
{
	struct bale_store *other;
	struct bale_store_options o = { .size = sizeof(o) };
	char holder[128], want[64];

	(void)state;
	assert_int_equal(0, make(false));
	assert_int_equal(-ENOENT,
			 bale_store_holder(fix_path, holder, sizeof(holder)));
	fix_open();
	assert_int_equal(-EBUSY, bale_store_open(fix_path, &o, &other));
	o.read_only = true;
	assert_int_equal(-EBUSY, bale_store_open(fix_path, &o, &other));
	assert_int_equal(0,
			 bale_store_holder(fix_path, holder, sizeof(holder)));
	snprintf(want, sizeof(want), "pid %d on host ", getpid());
	assert_memory_equal(want, holder, strlen(want));
	fix_close();
	assert_int_equal(-ENOENT,
			 bale_store_holder(fix_path, holder, sizeof(holder)));
	/* Readers share; they are named, not the last writer. */
	assert_int_equal(0, try_open(true));
	assert_int_equal(0, bale_store_open(fix_path, &o, &other));
	o.read_only = false;
	assert_int_equal(0,
			 bale_store_holder(fix_path, holder, sizeof(holder)));
	assert_string_equal("a read-only user", holder);
	fix_close();
	assert_int_equal(0, bale_store_close(other));
	assert_int_equal(0, try_open(false));
	fix_close();
}

static void test_lock_dies_with_its_process(void **state)
{
	int status, pipe_fd[2];
	char c;
	pid_t pid;

	(void)state;
	assert_int_equal(0, make(false));
	assert_int_equal(0, pipe(pipe_fd));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fix_open();
		if (write(pipe_fd[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(1, read(pipe_fd[0], &c, 1));
	assert_int_equal(-EBUSY, try_open(false));
	kill(pid, SIGKILL);
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_int_equal(0, try_open(false));
	fix_close();
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* A holder that is on its way out is waited for, one that stays is not. */
static void test_lock_waits(void **state)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true,
					.wait_ms = 300 };
	uint64_t start;
	int pipe_fd[2];
	char c;
	pid_t pid;

	(void)state;
	assert_int_equal(0, make(false));
	assert_int_equal(0, pipe(pipe_fd));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fix_open();
		if (write(pipe_fd[1], "x", 1) != 1)
			_exit(1);
		usleep(700000);
		_exit(bale_store_close(fix_st) != 0);
	}
	assert_int_equal(1, read(pipe_fd[0], &c, 1));
	start = bale_now_ns();
	assert_int_equal(-EBUSY, bale_store_open(fix_path, &o, &fix_st));
	assert_true(bale_now_ns() - start >= 300000000);
	o.wait_ms = 20000;
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
	fix_close();
	assert_int_equal(pid, waitpid(pid, NULL, 0));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

struct tree {
	uint64_t sum, nr;
};
static struct tree tree;

static int add_to_tree(const char *path, const struct stat *st, int flag,
		       struct FTW *ftw)
{
	(void)flag;
	(void)ftw;
	tree.nr++;
	tree.sum += (uint64_t)st->st_mtim.tv_nsec + (uint64_t)st->st_size * 3 +
		    (uint64_t)st->st_blocks * 5 +
		    bale_crc32c(0, path, strlen(path)) +
		    (uint64_t)st->st_ctim.tv_nsec;
	return 0;
}

static struct tree look_at_tree(void)
{
	tree = (struct tree){ 0 };
	assert_int_equal(0, nftw(fix_path, add_to_tree, 16, FTW_PHYS));
	return tree;
}

/* A read-only open of a dirty store shows it recovered, and writes nothing. */
static void test_read_only_writes_nothing(void **state)
{
	struct tree before, after;
	uint64_t id;
	int status;

	(void)state;
	assert_int_equal(0, make(false));
	fix_open();
	id = fix_add(100);
	fix_close();
	if (!fork()) { /* ends without closing */
		fix_open();
		fix_unref(id);
		fix_add(3000);
		fix_sync();
		_exit(0);
	}
	assert_true(wait(&status) > 0);
	assert_int_equal(0, status);
	before = look_at_tree();
	assert_int_equal(0, try_open(true));
	assert_int_equal(-ENOENT, fix_check(id));
	assert_int_equal(-EROFS, bale_space_reserve(fix_st, 1));
	fix_close();
	after = look_at_tree();
	assert_int_equal(before.nr, after.nr);
	assert_true(before.sum == after.sum);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_mkfs_makes_an_owner_only_store),
		T(test_mkfs_refuses),
		T(test_mkfs_force),
		T(test_mkfs_force_on_other_folders),
		T(test_mkfs_force_replaces),
		T(test_mkfs_fails_anywhere),
		T(test_mkfs_killed_anywhere),
		T(test_super_copies),
		T(test_super_of_the_future),
		T(test_super_newer_copy),
		T(test_open_no_store),
		T(test_open_checks_options),
		T(test_open_fails_anywhere),
		T(test_one_writer),
		T(test_lock_dies_with_its_process),
		T(test_lock_waits),
		T(test_read_only_writes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
