/* SPDX-License-Identifier: Apache-2.0 */
/* Space that died comes back, nothing that lives or may live again goes. */
#include "store_fixture.h"

#include <pthread.h>
#include <signal.h>

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
	assert_true(punched >= 8 * (FIX_EXTENT - 8192));
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

static struct bale_io_ops no_punch_ops;

static int no_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	(void)io;
	(void)fd;
	(void)off;
	(void)len;
	return -EOPNOTSUPP;
}

/* Holes are not to be had: what lives is copied while half is dead. */
static void reopen_no_punch(void)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true,
					.io_ops = &no_punch_ops };

	no_punch_ops = bale_io_posix;
	no_punch_ops.punch = no_punch;
	fix_close();
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
}

static void want_why(const struct bale_cleaner_stats *s, const char *text)
{
	if (!strstr(s->stuck_why, text))
		fail_msg("\"%s\" does not say \"%s\"", s->stuck_why, text);
}

/* It holds nothing else back, is told of, and not read over and over. */
static void test_damage_stays_where_it_is(void **state)
{
	struct bale_cleaner_stats s;
	uint64_t copied;
	char path[192];

	(void)state;
	add_all(FIX_EXTENT);
	reopen_no_punch();
	fix_seg_path(path, 0);
	fix_write_at(path, fix_row(ids[7]).offset + 10, "damage", 6);
	for (int i = 0; i < 3 * PER_SEGMENT; i++)
		if (i % PER_SEGMENT != 7 && i != 8)
			fix_unref(ids[i]);
	s = run();
	assert_true(s.segments_freed >= 2);
	assert_int_equal(-EBADMSG, fix_check(ids[7]));
	assert_int_equal(0, fix_check(ids[8]));
	assert_int_equal(0, fix_check(ids[7 + PER_SEGMENT]));
	assert_int_equal(0, fix_row(ids[7]).segment);
	/* What was behind it in the segment has left. */
	assert_int_not_equal(0, fix_row(ids[8]).segment);
	assert_int_equal(1, s.stuck_segments);
	assert_int_equal(FIX_EXTENT, s.stuck_bytes);
	want_why(&s, "segment 0: 1 extent not moved: Bad message");
	copied = s.bytes_copied;
	assert_int_equal(0, bale_fault_arm("io.pread:1000000"));
	s = run();
	assert_int_equal(0, bale_fault_count("io.pread"));
	bale_fault_clear();
	assert_int_equal(copied, s.bytes_copied);
	assert_int_equal(1, s.stuck_segments);
	/* Its death ends it. */
	fix_unref(ids[7]);
	fix_sync();
	s = run();
	assert_int_equal(0, s.stuck_segments);
	assert_string_equal("", s.stuck_why);
	assert_int_equal(-1, access(path, F_OK));
}

/* The disk fails while extents are read: they stay, the reason is told, and
 * when more has died it is tried again. */
static void test_unreadable_stays(void **state)
{
	struct bale_cleaner_stats s;

	(void)state;
	add_all(FIX_EXTENT);
	for (int i = 2; i < PER_SEGMENT; i++)
		fix_unref(ids[i]);
	fix_sync();
	assert_int_equal(0, bale_fault_arm("io.pread:1+:EIO"));
	s = run();
	bale_fault_clear();
	assert_int_equal(0, s.segments_freed);
	assert_int_equal(1, s.stuck_segments);
	want_why(&s, "segment 0: Input/output error");
	assert_int_equal(0, run().segments_freed);
	fix_unref(ids[1]);
	fix_sync();
	s = run();
	assert_int_equal(1, s.segments_freed);
	assert_int_equal(0, s.stuck_segments);
	assert_int_equal(0, fix_check(ids[0]));
}

/* No descriptor tells whose the bytes are: nothing is touched, and told. */
static void test_damaged_header_stays(void **state)
{
	struct bale_cleaner_stats s;
	char path[192];

	(void)state;
	add_all(FIX_EXTENT);
	fix_seg_path(path, 0);
	fix_write_at(path, fix_row(ids[0]).offset - 20, "damage", 6);
	for (int i = 1; i < PER_SEGMENT; i++)
		fix_unref(ids[i]);
	s = run();
	assert_int_equal(0, s.segments_freed);
	assert_int_equal(1, s.stuck_segments);
	want_why(&s, "segment 0: no header");
	assert_int_equal(0, fix_check(ids[0]));
}

/* In use, or in flight: left for another time, and told. */
static void test_in_use_waits(void **state)
{
	struct bale_extent_row row;
	struct bale_cleaner_stats s;
	uint64_t id;
	int fd;

	(void)state;
	add_all(FIX_EXTENT);
	assert_int_equal(0, bale_segs_fd_get(fix_st, 0, &fd));
	for (int i = 0; i < PER_SEGMENT; i++)
		fix_unref(ids[i]);
	s = run();
	assert_int_equal(0, s.segments_freed);
	assert_string_equal("idle, 1 segments in use", s.state);
	bale_segs_fd_put(fix_st, 0, fd);
	s = run();
	assert_int_equal(1, s.segments_freed);
	assert_string_equal("idle", s.state);
	/* Appended and not staged yet. */
	assert_int_equal(0, fix_append(FIX_EXTENT, &id, &row));
	for (int i = PER_SEGMENT; i < NR; i++)
		fix_unref(ids[i]);
	run();
	fix_stage(id, &row);
	fix_sync();
	assert_int_equal(0, fix_check(id));
}

/* Extents smaller than a block: no hole gives their space back. */
static void test_small_extents_are_copied(void **state)
{
	enum { SMALL = 1000, N = 3000 };
	static uint64_t small[N];
	uint64_t blocks = 0;
	struct bale_space_info info;

	(void)state;
	for (int i = 0; i < N; i++)
		small[i] = fix_add(SMALL);
	fix_sync();
	for (int i = 0; i < N; i++)
		if (i % 4)
			fix_unref(small[i]);
	fix_sync();
	run();
	bale_space_info(fix_st, &info);
	for (uint64_t no = 0; no < 16; no++)
		blocks += allocated(no);
	/* Four headers for each before; now some hundred extents have one. */
	assert_true(info.used < info.live * 3 / 2 + FIX_EXTENT);
	for (int i = 0; i < N; i += 4)
		assert_int_equal(0, fix_check(small[i]));
	fix_reopen();
	for (int i = 0; i < N; i += 4)
		assert_int_equal(0, fix_check(small[i]));
	assert_true(blocks > 0);
}

static void test_without_holes(void **state)
{
	struct bale_cleaner_stats s;

	(void)state;
	add_all(FIX_EXTENT);
	reopen_no_punch();
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

static struct bale_io_ops small_ops;
static uint64_t small_left;

static int small_space(struct bale_io *io, uint64_t *total, uint64_t *left)
{
	(void)io;
	*total = (uint64_t)1 << 30;
	*left = small_left;
	return 0;
}

/* On a disk that gets full it is awake long before its five seconds are over:
 * as soon as much has died. */
static void test_deaths_wake_it(void **state)
{
	struct bale_store_options o = { .size = sizeof(o),
					.commit_ns = 1000000000,
					.io_ops = &small_ops };
	struct bale_cleaner_stats s = { 0 };
	uint64_t start;

	(void)state;
	small_ops = bale_io_posix;
	small_ops.space = small_space;
	small_left = 14 << 20;
	add_all(FIX_EXTENT);
	fix_close();
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
	usleep(50000); /* it waits now */
	start = bale_now_ns();
	for (int i = 0; i < 3 * PER_SEGMENT; i++)
		fix_unref(ids[i]);
	while (!s.segments_freed && bale_now_ns() - start < 20000000000u) {
		usleep(5000);
		bale_cleaner_stats(fix_st, &s);
	}
	assert_true(bale_now_ns() - start < 3000000000u);
}

static unsigned int tries_left;

static int try_some(struct bale_store *st, uint64_t bytes)
{
	(void)st;
	assert_int_equal(4711, bytes);
	return tries_left && --tries_left ? -ENOSPC : 0;
}

/* Who waits for room waits for that, not for a whole pass. */
static void test_room_is_enough(void **state)
{
	struct bale_cleaner_stats s;

	(void)state;
	add_all(FIX_EXTENT);
	for (int i = 0; i < 3 * PER_SEGMENT; i++)
		fix_unref(ids[i]);
	fix_sync();
	tries_left = 4; /* one was removed before the fourth */
	assert_int_equal(0, bale_cleaner_make_room(fix_st, try_some, 4711));
	bale_cleaner_stats(fix_st, &s);
	assert_in_range(s.segments_freed, 1, 2);
	assert_int_equal(1, s.waits);
	/* All is tried before a no. */
	tries_left = UINT32_MAX;
	assert_int_equal(-ENOSPC,
			 bale_cleaner_make_room(fix_st, try_some, 4711));
	bale_cleaner_stats(fix_st, &s);
	assert_true(s.segments_freed >= 3);
}

static uint64_t clean_ns;

static void *clean_slowly(void *arg)
{
	uint64_t start = bale_now_ns();

	(void)arg;
	assert_int_equal(0, bale_cleaner_run(fix_st, 0));
	clean_ns = bale_now_ns() - start;
	return NULL;
}

/* Who was told to clean all makes way for a writer between two segments. */
static void test_writers_come_first(void **state)
{
	struct bale_cleaner_stats s;
	pthread_t t;

	(void)state;
	add_all(FIX_EXTENT);
	reopen_no_punch();
	for (int i = 0; i < NR; i++)
		if (i % 3)
			fix_unref(ids[i]);
	fix_sync();
	assert_int_equal(0, bale_fault_arm("io.pread:1+:delay=25"));
	assert_int_equal(0, pthread_create(&t, NULL, clean_slowly, NULL));
	usleep(150000);
	tries_left = 0;
	assert_int_equal(0, bale_cleaner_make_room(fix_st, try_some, 4711));
	pthread_join(t, NULL);
	bale_fault_clear();
	bale_cleaner_stats(fix_st, &s);
	assert_true(s.segments_freed >= 3); /* and went on */
	assert_true(s.wait_max_ns < clean_ns * 3 / 4);
}

/* ---- the moment between a death and its being told ---- */

static struct bale_io_ops late_ops;
static pthread_t late_thread;
static bool late_armed;

static void *late_unref(void *arg)
{
	(void)arg;
	fix_unref(ids[9]);
	return NULL;
}

static int late_size(struct bale_io *io, int fd, uint64_t *len, uint64_t *alloc)
{
	if (late_armed) {
		late_armed = false;
		assert_int_equal(0, bale_fault_arm("meta.publish:1:delay=600"));
		assert_int_equal(0, bale_fault_arm("meta.log:1+"));
		assert_int_equal(0, pthread_create(&late_thread, NULL,
						   late_unref, NULL));
		usleep(100000);
	}
	return bale_io_posix.size(io, fd, len, alloc);
}

/* An extent's row was seen to be gone before its segment was told when it
 * died: its bytes were punched without that being durable, and a crash brought
 * back a row without bytes. */
static void test_death_is_seen_early(void **state)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true,
					.io_ops = &late_ops };

	(void)state;
	late_ops = bale_io_posix;
	late_ops.size = late_size;
	add_all(FIX_EXTENT);
	fix_close();
	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
	for (int i = 0; i < 8; i++)
		fix_unref(ids[i]);
	fix_sync();
	late_armed = true;
	bale_cleaner_run(fix_st, 0);
	assert_false(late_armed);
	pthread_join(late_thread, NULL);
	bale_store_close(fix_st);
	bale_fault_clear();
	fix_open();
	for (int i = 8; i < NR; i++)
		assert_int_equal(0, fix_check(ids[i]));
}

/* ---- killed at any call ---- */

/* Segments with nothing, little and much alive. */
static bool is_kept(int i)
{
	return i >= PER_SEGMENT && (i < 2 * PER_SEGMENT ? i % 7 == 0 : i % 3);
}

static void make_garbage(void)
{
	add_all(FIX_EXTENT);
	for (int i = 0; i < NR; i++)
		if (!is_kept(i))
			fix_unref(ids[i]);
	fix_sync();
}

/* Open, clean, close in a child that dies at the n-th passage; false: it came
 * to its end. */
static bool killed_at(const char *point, int n)
{
	char spec[64];
	pid_t pid;
	int st;

	snprintf(spec, sizeof(spec), "%s:%d:kill", point, n);
	pid = fork();
	if (!pid) {
		fix_open();
		if (bale_fault_arm(spec) || bale_cleaner_run(fix_st, 0))
			_exit(1);
		_exit(bale_store_close(fix_st) ? 1 : 0);
	}
	assert_int_equal(pid, waitpid(pid, &st, 0));
	if (WIFSIGNALED(st)) {
		assert_int_equal(SIGKILL, WTERMSIG(st));
		return true;
	}
	assert_int_equal(0, WEXITSTATUS(st));
	return false;
}

static void check_kept(void)
{
	for (int i = 0; i < NR; i++)
		assert_int_equal(is_kept(i) ? 0 : -ENOENT, fix_check(ids[i]));
}

static void test_killed_anywhere(void **state)
{
	static const char *const points[] = { "io.pwritev",  "io.sync",
					      "io.punch",    "io.unlink",
					      "io.truncate", "io.allocate",
					      "meta.log",    "meta.commit",
					      "meta.stage",  "meta.publish" };
	unsigned int kills = 0;
	bool more;

	(void)state;
	for (size_t k = 0; k < sizeof(points) / sizeof(*points); k++) {
		more = true;
		for (int n = 1; more; n++) {
			make_garbage();
			fix_close();
			more = killed_at(points[k], n);
			kills += more;
			fix_open();
			check_kept();
			run();
			check_kept();
			/* An empty store for the next time. */
			for (int i = 0; i < NR; i++)
				if (is_kept(i))
					fix_unref(ids[i]);
			fix_sync();
			run();
			fix_reopen();
		}
	}
	print_message("%u kills\n", kills);
	assert_true(kills >= 20);
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
		T(test_unreadable_stays),
		T(test_damaged_header_stays),
		T(test_in_use_waits),
		T(test_small_extents_are_copied),
		T(test_deaths_wake_it),
		T(test_room_is_enough),
		T(test_writers_come_first),
		T(test_death_is_seen_early),
		T(test_killed_anywhere),
		T(test_read_only_cleans_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
