/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Promise 4 on small filesystems of our own: what was reserved can be stored,
 * whatever the disk says by then; deleting works on a full store. Skipped
 * where a test may not mount.
 */
#include "store_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>

#include "fs/base/clock.h"

enum { MAX = 4096, SKIP = 77 };

static const char *mount_command; /* %s: fix_dir */
static uint64_t ids[MAX];

static int setup(void **state)
{
	char command[512];

	(void)state;
	bale_log_set_level(BALE_LOG_ERR);
	strcpy(fix_dir, "/tmp/balefs-space-XXXXXX");
	if (!mkdtemp(fix_dir))
		return -1;
	snprintf(fix_path, sizeof(fix_path), "%s/store", fix_dir);
	snprintf(command, sizeof(command), mount_command, fix_dir, fix_dir,
		 fix_dir, fix_dir);
	if (system(command))
		return -1;
	fix_mkfs(20);
	fix_open();
	return 0;
}

static int teardown(void **state)
{
	char image[128];

	(void)state;
	bale_fault_clear();
	bale_store_close(fix_st);
	fix_st = NULL;
	umount(fix_dir);
	snprintf(image, sizeof(image), "%s.img", fix_dir);
	unlink(image);
	return rmdir(fix_dir);
}

static struct bale_space_info info(void)
{
	struct bale_space_info i;

	bale_space_info(fix_st, &i);
	return i;
}

static int reserve_all(size_t each)
{
	int nr = 0, r;

	while (!(r = bale_space_reserve(fix_st, each))) {
		nr++;
		assert_true(nr < MAX);
	}
	assert_int_equal(-ENOSPC, r);
	return nr;
}

/* Store nr reserved extents, each in a bale of its own: the dearest way. */
static void store_more(int from, int nr, size_t each)
{
	for (int i = from; i < nr; i++) {
		ids[i] = fix_add(each);
		bale_space_release(fix_st, each);
	}
	fix_sync();
}

static void store_all(int nr, size_t each)
{
	store_more(0, nr, each);
}

static void check_all(int nr)
{
	for (int i = 0; i < nr; i++)
		assert_int_equal(0, fix_check(ids[i]));
}

static void delete_all(int nr)
{
	for (int i = 0; i < nr; i++)
		fix_unref(ids[i]);
	fix_sync();
	assert_int_equal(0, bale_cleaner_run(fix_st, 0));
}

static void fill_and_empty(size_t each, unsigned int percent)
{
	struct bale_space_info before = info(), full;
	int nr = reserve_all(each), again;

	/* statfs tells what a user can write, but for what bales add. */
	assert_true((uint64_t)nr * each >= before.free / 100 * percent);
	assert_true((uint64_t)nr * each <= before.free);
	full = info();
	assert_int_equal((uint64_t)nr * each, full.reserved);
	assert_true(full.free < 2 * each + each / 4);
	store_all(nr, each);
	assert_int_equal(0, info().reserved);
	fix_reopen();
	check_all(nr);
	/* Rewritten in place of nothing: what is left is still promised. */
	again = reserve_all(each);
	for (int i = 0; i < again; i++)
		bale_space_release(fix_st, each);
	delete_all(nr);
	again = reserve_all(each);
	assert_true(again >= nr - nr / 10 - 1);
	for (int i = 0; i < again; i++)
		bale_space_release(fix_st, each);
	fix_reopen();
}

static void test_reserved_can_be_stored(void **state)
{
	(void)state;
	fill_and_empty(FIX_EXTENT, 70);
}

static void test_small_reservations(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++)
		fill_and_empty(16 << 10, 70);
}

/* Compressed extents need less than was reserved: more fits afterwards. */
static void test_release_gives_back(void **state)
{
	int nr = reserve_all(FIX_EXTENT);

	(void)state;
	for (int i = 0; i < nr; i++) {
		ids[i] = fix_add(FIX_EXTENT / 4);
		bale_space_release(fix_st, FIX_EXTENT);
	}
	fix_sync();
	assert_true(reserve_all(FIX_EXTENT) > nr / 2);
	check_all(nr);
}

/* Another program takes all the space there is; promises hold. */
static void test_disk_filled_from_outside(void **state)
{
	char path[128], block[65536] = { 1 };
	int fd, nr = 200, all;

	(void)state;
	for (int i = 0; i < nr; i++)
		assert_int_equal(0, bale_space_reserve(fix_st, FIX_EXTENT));
	snprintf(path, sizeof(path), "%s/other", fix_dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	store_all(nr, FIX_EXTENT);
	/* What was preallocated beside can be had, then it is full. */
	all = nr + reserve_all(FIX_EXTENT);
	assert_int_equal(-ENOSPC, bale_space_check_meta(fix_st));
	store_more(nr, all, FIX_EXTENT);
	check_all(all);
	/* Deleting works, and gives space back. */
	delete_all(all);
	assert_int_equal(0, bale_space_reserve(fix_st, FIX_EXTENT));
	bale_space_release(fix_st, FIX_EXTENT);
	close(fd);
	unlink(path);
	assert_int_equal(0, bale_space_check_meta(fix_st));
}

/* Preallocation that nobody needs any more does not starve metadata. */
static void test_idle_pool_is_given_back(void **state)
{
	int nr = reserve_all(FIX_EXTENT);

	(void)state;
	for (int i = 0; i < nr; i++)
		bale_space_release(fix_st, FIX_EXTENT);
	assert_int_equal(0, bale_space_check_meta(fix_st));
	assert_int_equal(nr, reserve_all(FIX_EXTENT));
}

/* A store that is not only driven by tests commits and cleans when it has to,
 * and does not do so again for every write that it refuses. */
static void test_full_store_reclaims(void **state)
{
	struct bale_store_options o = { .size = sizeof(o),
					.commit_ns = (uint64_t)1000000000000 };
	uint64_t start, first;
	int nr;

	(void)state;
	fix_close();
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
	nr = reserve_all(FIX_EXTENT);
	store_all(nr, FIX_EXTENT);
	reserve_all(FIX_EXTENT);
	for (int i = 0; i < nr; i++)
		fix_unref(ids[i]);
	/* Dead, and not even committed: found by the one who needs it. */
	start = bale_now_ns();
	for (int i = 0; i < nr / 2; i++)
		assert_int_equal(0, bale_space_reserve(fix_st, FIX_EXTENT));
	first = bale_now_ns() - start;
	reserve_all(FIX_EXTENT);
	start = bale_now_ns();
	for (int i = 0; i < 200; i++)
		assert_int_equal(-ENOSPC,
				 bale_space_reserve(fix_st, FIX_EXTENT));
	assert_true(bale_now_ns() - start < 2 * first + 100000000);
}

/* ---- threads ---- */

static atomic_int failed_appends, stored;

static void *writer(void *arg)
{
	struct bale_extent_row row;
	uint64_t id;

	(void)arg;
	while (!bale_space_reserve(fix_st, FIX_EXTENT)) {
		if (fix_append(FIX_EXTENT, &id, &row)) {
			failed_appends++;
		} else {
			fix_stage(id, &row);
			stored++;
		}
		bale_space_release(fix_st, FIX_EXTENT);
		if (stored % 16 == 0)
			fix_sync();
	}
	return NULL;
}

static void test_threads_to_the_end(void **state)
{
	uint64_t can = info().free / FIX_EXTENT;
	pthread_t t[4];

	(void)state;
	failed_appends = stored = 0;
	for (int i = 0; i < 4; i++)
		assert_int_equal(0, pthread_create(&t[i], NULL, writer, NULL));
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	fix_sync();
	assert_int_equal(0, failed_appends);
	/* Nobody is refused long before the end. */
	assert_true((uint64_t)stored >= can * 8 / 10);
	fix_reopen();
	for (int i = 1; i <= stored; i++)
		fix_check((uint64_t)i);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run(const char *name, const char *command)
{
	const struct CMUnitTest tests[] = {
		T(test_reserved_can_be_stored),
		T(test_small_reservations),
		T(test_release_gives_back),
		T(test_disk_filled_from_outside),
		T(test_idle_pool_is_given_back),
		T(test_full_store_reclaims),
		T(test_threads_to_the_end),
	};

	mount_command = command;
	return _cmocka_run_group_tests(
		name, tests, sizeof(tests) / sizeof(*tests), NULL, NULL);
}

int main(void)
{
	int r;

	/* Private mounts: whatever happens here, nothing of it stays. */
	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		fprintf(stderr, "no mounts here\n");
		return SKIP;
	}
	r = run("tmpfs", "mount -t tmpfs -o size=48m none %s");
	if (system("command -v mkfs.ext4 >/dev/null && test -e "
		   "/dev/loop-control"))
		return r;
	return r |
	       run("ext4", "truncate -s 64M %s.img && mkfs.ext4 -q %s.img && "
			   "mount -o loop %s.img %s");
}
