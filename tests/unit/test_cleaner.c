/* SPDX-License-Identifier: Apache-2.0 */
/* Space that died comes back, nothing that lives or may live again goes. */
#include "store_fixture.h"

#include "fs/base/clock.h"
#include "fs/store/store_internal.h"

/* Extents of 64 KiB, 15 to a segment of 1 MiB. */
enum { PER_SEGMENT = 15, NR = 4 * PER_SEGMENT };

static uint64_t ids[NR];

static void add_all(size_t len)
{
	for (int i = 0; i < NR; i++)
		ids[i] = fix_add(len);
	fix_sync();
	assert_true(fix_row(ids[NR - 1]).segment >= 3 || len < FIX_EXTENT);
}

static uint64_t allocated(uint64_t segment)
{
	struct stat st;
	char path[192];

	fix_seg_path(path, segment);
	return stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

static struct bale_cleaner_stats run(void)
{
	struct bale_cleaner_stats s;

	assert_int_equal(0, bale_cleaner_run(fix_st, 0));
	bale_cleaner_stats(fix_st, &s);
	return s;
}

static void test_empty_segments_go(void **state)
{
	char path[192];

	(void)state;
	add_all(FIX_EXTENT);
	for (int i = 0; i < PER_SEGMENT; i++)
		fix_unref(ids[i]);
	assert_int_equal(1, run().segments_freed);
	fix_seg_path(path, 0);
	assert_int_equal(-1, access(path, F_OK));
	for (int round = 0; round < 2; round++) {
		for (int i = PER_SEGMENT; i < NR; i++)
			assert_int_equal(0, fix_check(ids[i]));
		fix_reopen();
	}
	assert_int_equal(0, run().segments_freed);
}

static int count_bale(const struct bale_bale_info *info,
		      const struct bale_disk_bale_extent *d,
		      uint64_t payload_off, void *arg)
{
	(void)info;
	(void)d;
	(void)payload_off;
	++*(int *)arg;
	return 0;
}

static void test_dead_payload_is_punched(void **state)
{
	uint64_t before, after, punched;
	int bales = 0;

	(void)state;
	add_all(FIX_EXTENT);
	before = allocated(0);
	for (int i = 0; i < PER_SEGMENT; i += 2)
		fix_unref(ids[i]);
	punched = run().bytes_punched;
	after = allocated(0);
	assert_true(punched >= 8 * (FIX_EXTENT - 4096));
	assert_true(after + 8 * (FIX_EXTENT - 8192) <= before);
	for (int i = 1; i < NR; i += i < PER_SEGMENT ? 2 : 1)
		assert_int_equal(0, fix_check(ids[i]));
	/* Headers stay: the segment still describes itself. */
	assert_int_equal(
		0, bale_store_scan_segment(fix_st, 0, count_bale, &bales));
	assert_int_equal(PER_SEGMENT, bales);
	/* Nothing is looked at twice, after a mount neither. */
	assert_int_equal(punched, run().bytes_punched);
	fix_reopen();
	assert_int_equal(0, run().bytes_punched);
}

static void test_the_rest_is_copied(void **state)
{
	struct bale_cleaner_stats s;
	char path[192];

	(void)state;
	add_all(FIX_EXTENT);
	for (int i = 0; i < NR; i++)
		if (i % PER_SEGMENT != 7)
			fix_unref(ids[i]);
	s = run();
	assert_true(s.segments_freed >= 3);
	assert_true(s.bytes_copied >= 3 * FIX_EXTENT);
	for (int round = 0; round < 2; round++) {
		for (int i = 7; i < NR; i += PER_SEGMENT)
			assert_int_equal(0, fix_check(ids[i]));
		assert_true(fix_row(ids[7]).segment >= 4);
		fix_seg_path(path, 0);
		assert_int_equal(-1, access(path, F_OK));
		fix_reopen();
	}
}

/* An extent that was moved once may be moved again, and shared ones too. */
static void test_moves_keep_references(void **state)
{
	struct bale_txn t;

	(void)state;
	add_all(FIX_EXTENT);
	bale_txn_begin(bale_store_meta(fix_st), &t);
	bale_txn_extent_ref(&t, ids[3]);
	bale_txn_extent_ref(&t, ids[3]);
	assert_int_equal(0, bale_txn_commit(&t, NULL));
	for (int i = 0; i < PER_SEGMENT; i++)
		if (i != 3)
			fix_unref(ids[i]);
	run();
	assert_int_not_equal(0, fix_row(ids[3]).segment);
	assert_int_equal(3, fix_row(ids[3]).refs);
	fix_unref(ids[3]);
	fix_unref(ids[3]);
	assert_int_equal(0, fix_check(ids[3]));
	fix_unref(ids[3]);
	assert_int_equal(-ENOENT, fix_check(ids[3]));
	fix_reopen();
	assert_int_equal(-ENOENT, fix_check(ids[3]));
}

/* What is dead only by staged, not by durable rows, a crash brings back. */
static void test_nothing_goes_before_its_commit(void **state)
{
	(void)state;
	add_all(FIX_EXTENT);
	for (int i = 0; i < NR; i++)
		if (i % 3)
			fix_unref(ids[i]);
	for (int i = 0; i < PER_SEGMENT; i++)
		if (i % 3 == 0)
			fix_unref(ids[i]);
	assert_int_equal(0, bale_fault_arm("meta.log:1+"));
	assert_int_not_equal(0, bale_cleaner_run(fix_st, 0));
	assert_int_equal(-EIO, bale_store_close(fix_st));
	bale_fault_clear();
	fix_open();
	for (int i = 0; i < NR; i++)
		assert_int_equal(0, fix_check(ids[i]));
}

/* The same between the search and the destruction: extents of a segment that
 * is being punched die meanwhile, and that is never committed. */
static void test_dying_while_punched(void **state)
{
	(void)state;
	add_all(FIX_EXTENT);
	for (int i = 0; i < 8; i++)
		fix_unref(ids[i]);
	fix_sync();
	fix_unref(ids[9]);
	/* The pass may punch 0..7 once 9's death is durable too, or leave it.
	 */
	assert_int_equal(0, bale_fault_arm("meta.log:1+"));
	bale_cleaner_run(fix_st, 0);
	bale_store_close(fix_st);
	bale_fault_clear();
	fix_open();
	for (int i = 8; i < NR; i++)
		assert_int_equal(0, fix_check(ids[i]));
}

static void test_damage_stays_where_it_is(void **state)
{
	struct bale_cleaner_stats s;
	uint64_t copied;
	char path[192];

	(void)state;
	add_all(FIX_EXTENT);
	fix_seg_path(path, 0);
	fix_write_at(path, fix_row(ids[7]).offset + 10, "damage", 6);
	for (int i = 0; i < 3 * PER_SEGMENT; i++)
		if (i % PER_SEGMENT != 7)
			fix_unref(ids[i]);
	s = run();
	assert_true(s.segments_freed >= 2);
	assert_int_equal(-EBADMSG, fix_check(ids[7]));
	assert_int_equal(0, fix_check(ids[7 + PER_SEGMENT]));
	/* It is not tried over and over. */
	copied = s.bytes_copied;
	assert_int_equal(copied, run().bytes_copied);
	assert_int_equal(0, fix_row(ids[7]).segment);
}

static struct bale_io_ops no_punch_ops;

static int no_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	(void)io;
	(void)fd;
	(void)off;
	(void)len;
	return -EOPNOTSUPP;
}

static void test_without_holes(void **state)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true,
					.io_ops = &no_punch_ops };
	struct bale_cleaner_stats s;

	(void)state;
	no_punch_ops = bale_io_posix;
	no_punch_ops.punch = no_punch;
	add_all(FIX_EXTENT);
	fix_close();
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
	for (int i = 0; i < NR; i++)
		if (i % 3)
			fix_unref(ids[i]);
	s = run();
	assert_int_equal(0, s.bytes_punched);
	assert_true(s.segments_freed >= 3);
	for (int i = 0; i < NR; i += 3)
		assert_int_equal(0, fix_check(ids[i]));
}

/* An extent that dies while it is being copied holds no segment back. */
static void test_copy_of_the_dead(void **state)
{
	struct bale_extent_row from, to;
	struct bale_txn t;
	uint64_t unused;

	(void)state;
	add_all(FIX_EXTENT);
	from = fix_row(ids[0]);
	assert_int_equal(0, fix_append(FIX_EXTENT, &unused, &to));
	fix_unref(ids[0]);
	bale_txn_begin(bale_store_meta(fix_st), &t);
	bale_txn_extent_move(&t, ids[0], &from, &to);
	assert_int_equal(0, bale_txn_commit(&t, NULL));
	assert_int_equal(-ENOENT, fix_check(ids[0]));
	for (int i = 1; i < NR; i++)
		fix_unref(ids[i]);
	for (int i = 0; i < 20; i++) /* the next segment is opened */
		fix_add(FIX_EXTENT);
	fix_sync();
	assert_true(run().segments_freed >= 4);
}

static void test_thread_works_alone(void **state)
{
	struct bale_store_options o = { .size = sizeof(o),
					.commit_ns = 20000000 };
	struct bale_cleaner_stats s = { 0 };
	uint64_t end;

	(void)state;
	add_all(FIX_EXTENT);
	fix_close();
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
	for (int i = 0; i < 2 * PER_SEGMENT; i++)
		fix_unref(ids[i]);
	end = bale_now_ns() + (uint64_t)20 * 1000000000u;
	while (s.segments_freed < 2 && bale_now_ns() < end) {
		usleep(20000);
		bale_cleaner_wake(fix_st);
		bale_cleaner_stats(fix_st, &s);
	}
	assert_int_equal(2, s.segments_freed);
}

static void test_read_only_cleans_nothing(void **state)
{
	struct bale_store_options o = { .size = sizeof(o), .read_only = true };
	struct bale_cleaner_stats s;

	(void)state;
	add_all(FIX_EXTENT);
	for (int i = 0; i < PER_SEGMENT; i++)
		fix_unref(ids[i]);
	fix_close();
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
	assert_int_equal(-EROFS, bale_cleaner_run(fix_st, 0));
	bale_cleaner_stats(fix_st, &s);
	assert_int_equal(0, s.segments_freed);
	assert_int_equal(0, fix_check(ids[NR - 1]));
}

#define T(f) cmocka_unit_test_setup_teardown(f, fix_setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_empty_segments_go),
		T(test_dead_payload_is_punched),
		T(test_the_rest_is_copied),
		T(test_moves_keep_references),
		T(test_nothing_goes_before_its_commit),
		T(test_dying_while_punched),
		T(test_damage_stays_where_it_is),
		T(test_without_holes),
		T(test_copy_of_the_dead),
		T(test_thread_works_alone),
		T(test_read_only_cleans_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
