/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: append, read, scan, usage, what a crash leaves behind. */
#include "store_fixture.h"

#include "fs/base/crc32c.h"

#include <pthread.h>

static void test_append_and_read(void **state)
{
	static const size_t lens[] = { 1, 511, 512, 513, 4096, FIX_EXTENT };
	uint64_t ids[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		ids[i] = fix_add(lens[i]);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 6; i++) {
			assert_int_equal(0, fix_check(ids[i]));
			assert_int_equal(lens[i], fix_row(ids[i]).raw_len);
			assert_int_equal(1, fix_row(ids[i]).refs);
		}
		fix_reopen();
	}
}

struct seen {
	uint64_t nr_bales, nr_extents, last_end, last_seq;
	uint64_t ids[256];
};

static int see_bale(const struct bale_bale_info *info,
		    const struct bale_disk_bale_extent *d, uint64_t payload_off,
		    void *arg)
{
	struct seen *s = arg;

	assert_true(info->offset >= s->last_end);
	assert_true(info->seq > s->last_seq);
	s->last_seq = info->seq;
	s->last_end = payload_off + info->payload_len;
	s->nr_bales++;
	for (uint32_t i = 0; i < info->nr_extents; i++)
		s->ids[s->nr_extents++ % 256] = le64_get(d[i].id);
	return 0;
}

static struct seen scan(uint64_t segment)
{
	struct seen s = { 0 };

	assert_int_equal(
		0, bale_store_scan_segment(fix_st, segment, see_bale, &s));
	return s;
}

enum { BIG_NR = 70 };

/* One append larger than several segments. */
static void test_append_splits(void **state)
{
	struct bale_extent_in in[BIG_NR] = { 0 };
	struct bale_extent_row rows[BIG_NR];
	uint8_t *buf = malloc((size_t)BIG_NR * FIX_EXTENT);
	uint64_t found = 0, used = 0;
	struct bale_txn t;

	(void)state;
	assert_non_null(buf);
	bale_txn_begin(bale_store_meta(fix_st), &t);
	for (int i = 0; i < BIG_NR; i++) {
		in[i].ino = 7;
		in[i].extent_no = (uint64_t)i;
		in[i].stored = buf + (size_t)i * FIX_EXTENT;
		in[i].raw_len = in[i].stored_len = FIX_EXTENT;
		assert_int_equal(0, bale_store_new_id(fix_st, &in[i].id));
		fix_fill(in[i].id, buf + (size_t)i * FIX_EXTENT, FIX_EXTENT);
	}
	assert_int_equal(0, bale_store_append(fix_st, in, BIG_NR, rows));
	for (int i = 0; i < BIG_NR; i++)
		bale_txn_extent_add(&t, in[i].id, &rows[i]);
	assert_int_equal(0, bale_txn_commit(&t, NULL));
	assert_true(rows[BIG_NR - 1].segment >= 4);
	fix_reopen();
	for (uint64_t g = 0; g <= rows[BIG_NR - 1].segment; g++) {
		struct seen s = scan(g);

		found += s.nr_extents;
		used += s.last_end;
		assert_true(s.last_end <= 1 << 20);
	}
	assert_int_equal(BIG_NR, found);
	for (int i = 0; i < BIG_NR; i++)
		assert_int_equal(0, fix_check(in[i].id));
	/* Headers and ends of segments do not eat the store. */
	assert_true(used < (uint64_t)BIG_NR * FIX_EXTENT + 70 * 64);
	free(buf);
}

/* A checksum that came with the bytes is kept: what spoils them on the way to
 * the segment is seen when they are read. */
static void test_checksum_comes_along(void **state)
{
	uint8_t bytes[8192], back[8192];
	struct bale_extent_in in = { .ino = 9,
				     .raw_len = sizeof(bytes),
				     .stored = bytes,
				     .stored_len = sizeof(bytes),
				     .has_crc = true };
	struct bale_extent_row row;

	(void)state;
	fix_fill(5, bytes, sizeof(bytes));
	for (int spoilt = 0; spoilt < 2; spoilt++) {
		in.crc = bale_crc32c(0, bytes, sizeof(bytes));
		bytes[4711] ^= (uint8_t)spoilt;
		assert_int_equal(0, bale_store_new_id(fix_st, &in.id));
		assert_int_equal(0, bale_store_append(fix_st, &in, 1, &row));
		assert_int_equal(in.crc, row.crc);
		fix_stage(in.id, &row);
		assert_int_equal(spoilt ? -EBADMSG : 0,
				 bale_store_read(fix_st, &row, back));
	}
}

static void test_read_many(void **state)
{
	enum { NR = 24 };
	struct bale_store_read_item items[NR + 1] = { 0 };
	uint64_t ids[NR];
	uint8_t want[5000], *bufs[NR];
	char path[192];

	(void)state;
	for (int i = 0; i < NR; i++)
		ids[i] = fix_add(5000);
	for (int i = 0; i < NR; i++) {
		int k = i * 7 % NR; /* in no order */

		bufs[k] = malloc(5000);
		items[i].row = fix_row(ids[k]);
		items[i].buf = bufs[k];
		items[i].cookie = &ids[k];
		items[i].status = 1;
	}
	items[NR].row = fix_row(ids[3]); /* the same one twice */
	items[NR].buf = malloc(5000);
	items[NR].cookie = &ids[3];
	items[4].row.segment = 77; /* is not there */
	fix_seg_path(path, 0);
	fix_write_at(path, fix_row(ids[10]).offset + 100, "damage", 6);
	bale_store_read_many(fix_st, items, NR + 1);
	for (int i = 0; i <= NR; i++) {
		uint64_t id = *(uint64_t *)items[i].cookie;

		if (items[i].row.segment == 77) {
			assert_int_equal(-EUCLEAN, items[i].status);
		} else if (id == ids[10]) {
			assert_int_equal(-EBADMSG, items[i].status);
		} else {
			assert_int_equal(0, items[i].status);
			fix_fill(id, want, sizeof(want));
			assert_memory_equal(want, items[i].buf, 5000);
		}
		free(items[i].buf);
	}
}

static void test_scan_resyncs(void **state)
{
	struct bale_extent_row row[6];
	struct bale_extent_in in = { .ino = 5,
				     .raw_len = 8192,
				     .stored_len = 8192 };
	uint64_t id[6];
	uint8_t fake[8192] = { 0 };
	char path[192];
	struct seen s;

	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(0, fix_append(3000, &id[i], &row[i]));
		fix_stage(id[i], &row[i]);
	}
	/* Content that looks like a bale where one could begin. */
	for (size_t i = 0; i + 8 <= sizeof(fake); i += 8)
		memcpy(fake + i, BALE_BALE_MAGIC, 8);
	in.stored = fake;
	assert_int_equal(0, bale_store_new_id(fix_st, &in.id));
	assert_int_equal(0, bale_store_append(fix_st, &in, 1, &row[5]));
	fix_stage(in.id, &row[5]);
	fix_add(600);
	fix_sync();
	assert_int_equal(7, scan(0).nr_bales);
	fix_seg_path(path, 0);
	/* A flipped byte in the second header, a zeroed fourth. */
	fix_write_at(path, row[1].offset - 40, "\xff", 1);
	fix_write_at(path, row[3].offset - 104, "\0\0\0\0\0\0\0\0", 8);
	/* And the sixth, so that its payload is searched through. */
	fix_write_at(path, row[5].offset - 1, "\xee", 1);
	s = scan(0);
	assert_int_equal(4, s.nr_bales);
	assert_int_equal(id[0], s.ids[0]);
	assert_int_equal(id[2], s.ids[1]);
	assert_int_equal(id[4], s.ids[2]);
	/* Cut in the middle of a header. */
	assert_int_equal(0, truncate(path, row[4].offset - 20));
	assert_int_equal(2, scan(0).nr_bales);
	assert_int_equal(0, truncate(path, 0));
	assert_int_equal(0, scan(0).nr_bales);
	/* Nothing of it crashed anything; reads say what is gone. */
	assert_int_equal(-EUCLEAN, fix_check(id[0]));
}

static int stop_at_once(const struct bale_bale_info *info,
			const struct bale_disk_bale_extent *d,
			uint64_t payload_off, void *arg)
{
	(void)info;
	(void)d;
	(void)payload_off;
	++*(int *)arg;
	return 42;
}

static void test_scan_stops_when_told(void **state)
{
	int calls = 0;

	(void)state;
	fix_add(100);
	fix_add(100);
	assert_int_equal(
		42, bale_store_scan_segment(fix_st, 0, stop_at_once, &calls));
	assert_int_equal(1, calls);
	assert_int_equal(-EUCLEAN, bale_store_scan_segment(
					   fix_st, 9, stop_at_once, &calls));
}

struct totals {
	uint64_t nr, used, live;
};

static int add_totals(uint64_t segment, uint64_t used, uint64_t live, void *arg)
{
	struct totals *t = arg;

	(void)segment;
	t->nr++;
	t->used += used;
	t->live += live;
	return 0;
}

static struct totals totals(void)
{
	struct totals t = { 0 };

	assert_int_equal(0, bale_store_for_segments(fix_st, add_totals, &t));
	return t;
}

static void test_usage(void **state)
{
	uint64_t a, b;
	struct bale_txn t;

	(void)state;
	a = fix_add(1000);
	b = fix_add(5000);
	assert_int_equal(6000, totals().live);
	assert_true(totals().used >= 6000 + 2 * 104);
	bale_txn_begin(bale_store_meta(fix_st), &t);
	bale_txn_extent_ref(&t, a);
	assert_int_equal(0, bale_txn_commit(&t, NULL));
	fix_unref(a);
	assert_int_equal(6000, totals().live);
	fix_unref(b);
	assert_int_equal(1000, totals().live);
	fix_reopen();
	assert_int_equal(1000, totals().live);
	assert_int_equal(0, fix_check(a));
	fix_unref(a);
	assert_int_equal(0, totals().live);
	assert_int_equal(-ENOENT, fix_check(a));
}

static void crash_uncommitted(void)
{
	struct bale_extent_row row;
	uint64_t id;

	for (int i = 0; i < 40; i++) /* into a third segment */
		assert_int_equal(0, fix_append(FIX_EXTENT, &id, &row));
}

/* What was appended and never committed is not there after a crash, and what
 * is appended later does not mix with it. */
static void test_crash_drops_uncommitted(void **state)
{
	uint64_t a = fix_add(3000), b;
	struct seen s;
	char path[192];
	struct stat st;

	(void)state;
	fix_crash(crash_uncommitted);
	assert_int_equal(0, fix_check(a));
	assert_int_equal(1, totals().nr);
	fix_seg_path(path, 0);
	assert_int_equal(0, stat(path, &st));
	assert_int_equal(104 + 3000, st.st_size);
	assert_true(st.st_blocks * 512 < 1 << 20); /* preallocation too */
	fix_seg_path(path, 2);
	assert_int_equal(-1, stat(path, &st));
	b = fix_add(3000);
	fix_sync();
	s = scan(0);
	assert_int_equal(2, s.nr_bales);
	assert_int_equal(b, s.ids[1]);
	assert_int_equal(0, fix_check(b));
}

static uint64_t crash_id;

static void crash_committed(void)
{
	for (int i = 0; i < 40; i++)
		fix_add(FIX_EXTENT);
	fix_sync();
	crash_uncommitted();
}

static void test_crash_keeps_committed(void **state)
{
	uint64_t live;

	(void)state;
	crash_id = fix_add(10);
	fix_crash(crash_committed);
	live = totals().live;
	assert_int_equal(40 * FIX_EXTENT + 10, live);
	for (int i = 0; i < 30; i++)
		fix_add(FIX_EXTENT);
	fix_reopen();
	assert_int_equal(live + 30 * FIX_EXTENT, totals().live);
	assert_int_equal(0, fix_check(crash_id));
}

/* A file above all rows is an uncommitted segment; one below them may be all
 * that is left of something. Neither is ever used again. */
static void test_stray_files(void **state)
{
	char above[192], below[192], other[192];
	uint64_t id;

	(void)state;
	for (int i = 0; i < 20; i++)
		fix_add(FIX_EXTENT);
	for (uint64_t i = 1; i <= 16; i++) /* empties segment 0 */
		fix_unref(i);
	fix_sync();
	assert_int_equal(0, bale_cleaner_run(fix_st, 0));
	fix_sync();
	fix_seg_path(below, 0);
	assert_int_equal(-1, access(below, F_OK));
	fix_close();
	fix_seg_path(above, 0x99);
	fix_seg_path(other, 0);
	strcat(other, ".bak");
	fix_write_at(above, 0, "x", 1);
	fix_write_at(below, 0, "y", 1);
	fix_write_at(other, 0, "z", 1);
	fix_open();
	assert_int_equal(-1, access(above, F_OK));
	assert_int_equal(0, access(below, F_OK));
	assert_int_equal(0, access(other, F_OK));
	id = fix_add(FIX_EXTENT);
	assert_int_equal(0, fix_check(id));
	fix_reopen();
	assert_int_equal(0, access(below, F_OK));
}

/* An extent's row has 32 bits for the segment: one more would be another one.
 */
static void test_numbers_end(void **state)
{
	struct bale_extent_row row;
	uint64_t a = fix_add(FIX_EXTENT), id;
	char path[192];

	(void)state;
	for (int i = 0; i < 12; i++)
		fix_add(FIX_EXTENT);
	fix_close();
	fix_seg_path(path, UINT32_MAX);
	fix_write_at(path, 0, "x", 1);
	fix_open();
	for (int i = 0; i < 20; i++)
		if (!fix_append(FIX_EXTENT, &id, &row)) {
			fix_stage(id, &row);
			assert_int_equal(0, fix_check(id));
		}
	assert_int_equal(-ENOSPC, fix_append(FIX_EXTENT, &id, &row));
	assert_int_equal(-ENOSPC, bale_space_reserve(fix_st, 8 << 20));
	fix_reopen();
	assert_int_equal(0, fix_check(a));
	id = fix_add(FIX_EXTENT);
	assert_int_equal(0, fix_check(id));
}

static void test_missing_segment(void **state)
{
	uint64_t a = fix_add(FIX_EXTENT), b = 0;
	char path[192];

	(void)state;
	for (int i = 0; i < 20; i++)
		b = fix_add(FIX_EXTENT);
	fix_close();
	fix_seg_path(path, 0);
	assert_int_equal(0, unlink(path));
	fix_open();
	assert_int_not_equal(0, fix_check(a));
	assert_int_equal(0, fix_check(b));
	b = fix_add(FIX_EXTENT);
	fix_reopen();
	assert_int_equal(0, fix_check(b));
}

/* ---- failures ---- */

static void test_append_fails_once(void **state)
{
	static const char *const faults[] = { "io.pwritev:1:EIO",
					      "io.pwritev:1:ENOSPC",
					      "io.open:1:EMFILE" };
	struct bale_extent_row row;
	uint64_t id, good[4];
	int r = 0;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		good[i] = fix_add(2000);
		fix_sync();
		assert_int_equal(0, bale_fault_arm(faults[i]));
		/* The last one fails when a new segment is due. */
		for (int k = 0; k < 20; k++) {
			r = fix_append(FIX_EXTENT, &id, &row);
			if (r)
				break;
			fix_stage(id, &row);
		}
		assert_int_not_equal(0, r);
		bale_fault_clear();
		/* The store goes on, and the gap hurts nobody. */
		fix_add(2000);
		fix_sync();
	}
	fix_reopen();
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(0, fix_check(good[i]));
	/* Failed appends hold no segment back. */
	for (uint64_t i = 1; i < 40; i++)
		if (!fix_check(i))
			fix_unref(i);
	fix_sync();
	assert_int_equal(0, totals().live);
}

static void test_failed_sync_is_final(void **state)
{
	struct bale_extent_row row;
	uint64_t a = fix_add(2000), id;

	(void)state;
	fix_sync();
	fix_add(2000);
	assert_int_equal(0, bale_fault_arm("io.sync:1"));
	assert_int_equal(-EIO, bale_meta_sync(bale_store_meta(fix_st), 0));
	bale_fault_clear();
	/* The next sync would succeed, and prove nothing. */
	assert_int_equal(-EIO, bale_meta_sync(bale_store_meta(fix_st), 0));
	assert_int_equal(-EROFS, fix_append(10, &id, &row));
	assert_int_equal(-EROFS, bale_space_reserve(fix_st, 1));
	assert_int_equal(-EROFS, bale_space_check_meta(fix_st));
	assert_int_equal(0, fix_check(a));
	assert_int_equal(-EIO, bale_store_close(fix_st));
	fix_open();
	assert_int_equal(0, fix_check(a));
}

/* ---- threads ---- */

enum { NR_THREADS = 4, NR_ROUNDS = 40 };

static void *hammer(void *arg)
{
	uint64_t mine[NR_ROUNDS];
	size_t len = (size_t)(uintptr_t)arg;
	long bad = 0;

	for (int i = 0; i < NR_ROUNDS; i++) {
		mine[i] = fix_add(len + (size_t)i);
		if (i % 8 == 3)
			fix_sync();
		if (i % 3 == 2)
			fix_unref(mine[i - 1]);
		bad += fix_check(mine[i]) != 0;
	}
	for (int i = 0; i < NR_ROUNDS; i++)
		bad += fix_check(mine[i]) !=
		       (i % 3 == 1 && i + 1 < NR_ROUNDS ? -ENOENT : 0);
	return (void *)bad;
}

static void test_threads(void **state)
{
	pthread_t t[NR_THREADS];
	void *bad;

	(void)state;
	for (uintptr_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(0, pthread_create(&t[i], NULL, hammer,
						   (void *)(5000 + i * 17000)));
	for (int i = 0; i < 20; i++)
		assert_int_equal(0, bale_cleaner_run(fix_st, 0));
	for (int i = 0; i < NR_THREADS; i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	fix_reopen();
}

#define T(f) cmocka_unit_test_setup_teardown(f, fix_setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_append_and_read),
		T(test_append_splits),
		T(test_checksum_comes_along),
		T(test_read_many),
		T(test_scan_resyncs),
		T(test_scan_stops_when_told),
		T(test_usage),
		T(test_crash_drops_uncommitted),
		T(test_crash_keeps_committed),
		T(test_stray_files),
		T(test_numbers_end),
		T(test_missing_segment),
		T(test_append_fails_once),
		T(test_failed_sync_is_final),
		T(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
