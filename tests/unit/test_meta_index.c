/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index is a view: damaged in any way it is rebuilt, never served, and
 * never the end of the process. Reading a store writes nothing.
 */
#include <dirent.h>
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/meta_model.h"

enum { TXNS = 3000, PAGE = 4096 };

static struct store_dir dir;

static int teardown(void **state)
{
	(void)state;
	store_dir_remove(&dir);
	return 0;
}

static void fill(struct bale_store *st, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++)
		assert_int_equal(model_stage(bale_store_meta(st), i, NULL), 0);
}

/* Most rows in LMDB, ended cleanly. */
static int setup(void **state)
{
	struct bale_store *st;

	(void)state;
	store_dir_make(&dir);
	st = store_open(&dir, OPEN_MANUAL);
	fill(st, 1, TXNS);
	assert_int_equal(bale_meta_apply(bale_store_meta(st)), 0);
	assert_int_equal(bale_meta_checkpoint(bale_store_meta(st)), 0);
	store_close(st);
	return 0;
}

/* More transactions, then killed: rows in LMDB and beyond it. */
static void end_dirty(void)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct bale_store *st;
		uint64_t seq;

		if (store_try_open(&dir, OPEN_MANUAL, &st))
			_exit(1);
		for (uint64_t i = TXNS + 1; i <= TXNS + 50; i++)
			if (model_stage(bale_store_meta(st), i, &seq))
				_exit(1);
		if (bale_meta_apply(bale_store_meta(st)))
			_exit(1);
		for (uint64_t i = TXNS + 51; i <= TXNS + 100; i++)
			if (model_stage(bale_store_meta(st), i, &seq))
				_exit(1);
		if (bale_meta_sync(bale_store_meta(st), seq))
			_exit(1);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static uint8_t *load(const char *path, size_t *ret_len)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	uint8_t *buf;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	buf = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, buf, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_len = (size_t)st.st_size;
	return buf;
}

/* In place, as a disk would: same inode. */
static void overwrite(const char *path, const uint8_t *buf, size_t len)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, buf, len, 0), (ssize_t)len);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

static void damage(uint8_t *buf, size_t *len, int kind, uint64_t *rnd)
{
	size_t pages = *len / PAGE, page = test_rnd(rnd) % pages * PAGE;

	switch (kind) {
	case 0:
		buf[test_rnd(rnd) % *len] ^= (uint8_t)(1u << test_rnd(rnd) % 8);
		break;
	case 1:
		buf[page + test_rnd(rnd) % 64] ^=
			(uint8_t)(1u << test_rnd(rnd) % 8);
		break;
	case 2:
		memset(buf + page, 0, PAGE);
		break;
	case 3: {
		size_t other = test_rnd(rnd) % pages * PAGE;

		memmove(buf + page + 8, buf + other + 8, PAGE - 8);
		break;
	}
	default:
		*len = test_rnd(rnd) % *len;
	}
}

/* Open, compare everything, change something, in a child: a crash is seen. */
static void check_in_child(const struct store_dir *d, unsigned int flags,
			   uint64_t want, int round)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct bale_store *st;
		struct model *m = calloc(1, sizeof(*m));
		int r = store_try_open(d, flags, &st);

		if (r)
			_exit(2);
		if (model_seq(bale_store_meta(st)) != want)
			_exit(3);
		model_advance(m, want);
		model_check(bale_store_meta(st), m);
		if (!(flags & OPEN_READ_ONLY)) {
			for (uint64_t i = want + 1; i <= want + 200; i++)
				if (model_stage(bale_store_meta(st), i, NULL))
					_exit(4);
			if (bale_meta_apply(bale_store_meta(st)))
				_exit(5);
			model_advance(m, want + 200);
			model_check(bale_store_meta(st), m);
		}
		_exit(bale_store_close(st) ? 6 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status)
		fail_msg("round %d: status %#x", round, status);
}

static void damaged(bool dirty)
{
	enum { ROUNDS = 100 };
	uint64_t rnd = dirty ? 3 : 12345, want = TXNS + (dirty ? 100 : 0);
	struct store_dir d;
	uint8_t *good, *bad;
	size_t len, bad_len;

	if (dirty)
		end_dirty();
	store_dir_copy(&d, &dir);
	good = load(store_file(&dir, "index/data.mdb"), &len);
	bad = malloc(len);
	for (int i = 0; i < ROUNDS; i++) {
		memcpy(bad, good, len);
		bad_len = len;
		damage(bad, &bad_len, i % 5, &rnd);
		store_dir_remove(&d);
		store_dir_copy(&d, &dir);
		overwrite(store_file(&d, "index/data.mdb"), bad, bad_len);
		if (i % 4 == 0)
			check_in_child(&d, OPEN_MANUAL | OPEN_READ_ONLY, want,
				       i);
		check_in_child(&d, OPEN_MANUAL, want, i);
	}
	store_dir_remove(&d);
	free(good);
	free(bad);
}

static void a_damaged_index_of_a_clean_store(void **state)
{
	(void)state;
	damaged(false);
}

static void a_damaged_index_of_a_dirty_store(void **state)
{
	(void)state;
	damaged(true);
}

/* ---- reading writes nothing ---- */

struct snapshot {
	char text[8192];
};

static void note_files(const char *folder, struct snapshot *s)
{
	char names[64][32];
	size_t nr = store_list(&dir, folder, names, 64);

	for (size_t i = 0; i < nr; i++) {
		char path[80];
		struct stat st;
		size_t used = strlen(s->text);

		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		assert_int_equal(lstat(store_file(&dir, path), &st), 0);
		snprintf(s->text + used, sizeof(s->text) - used,
			 "%s %ld %ld.%09ld %ld.%09ld\n", path, (long)st.st_size,
			 st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
			 st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	}
}

static struct snapshot note_store(void)
{
	struct snapshot s = { "" };

	note_files(".", &s);
	note_files("log", &s);
	note_files("ckpt", &s);
	note_files("index", &s);
	note_files("seg", &s);
	return s;
}

static unsigned int entries_in(const char *path)
{
	DIR *d = opendir(path);
	unsigned int nr = 0;

	assert_non_null(d);
	while (readdir(d))
		nr++;
	closedir(d);
	return nr;
}

static void read_only(unsigned int flags, uint64_t want)
{
	struct snapshot before = note_store(), after;
	char tmp[] = "/tmp/balefs-ro-XXXXXX", *old = getenv("TMPDIR");
	struct bale_store *st, *second;
	struct bale_txn t;
	uint64_t ino;

	assert_non_null(mkdtemp(tmp));
	setenv("TMPDIR", tmp, 1);
	st = store_open(&dir, flags | OPEN_READ_ONLY);
	second = store_open(&dir, flags | OPEN_READ_ONLY);
	assert_int_equal(model_check_prefix(bale_store_meta(st), want), want);
	assert_int_equal(model_check_prefix(bale_store_meta(second), want),
			 want);
	assert_int_equal(model_stage(bale_store_meta(st), want + 1, NULL),
			 -EROFS);
	bale_txn_begin(bale_store_meta(st), &t);
	assert_int_equal(bale_meta_new_ino(bale_store_meta(st), &ino), -EROFS);
	bale_txn_abort(&t);
	assert_int_equal(bale_meta_sync(bale_store_meta(st), 0), 0);
	store_close(second);
	store_close(st);
	after = note_store();
	assert_string_equal(before.text, after.text);
	assert_int_equal(entries_in(tmp), 2); /* nothing is left behind */
	rmdir(tmp);
	if (old)
		setenv("TMPDIR", old, 1);
	else
		unsetenv("TMPDIR");
}

static void reading_a_clean_store_writes_nothing(void **state)
{
	(void)state;
	read_only(0, TXNS);
	read_only(OPEN_UNTRUSTED, TXNS);
}

static void reading_a_dirty_store_writes_nothing(void **state)
{
	(void)state;
	end_dirty();
	read_only(0, TXNS + 100);
	read_only(OPEN_UNTRUSTED, TXNS + 100);
	assert_int_equal(unlink(store_file(&dir, "index/data.mdb")), 0);
	read_only(0, TXNS + 100);
}

/* ---- which index is used ---- */

static bool was_rebuilt(unsigned int flags)
{
	struct bale_store *st = store_open(&dir, flags);
	struct bale_meta_stats s;

	bale_meta_stats(bale_store_meta(st), &s);
	model_check_prefix(bale_store_meta(st), TXNS);
	store_close(st);
	return s.index_rebuilt;
}

static size_t ckpt_count(void)
{
	char names[16][32];

	return store_list(&dir, "ckpt", names, 16);
}

static void a_good_index_is_kept(void **state)
{
	size_t before = ckpt_count();

	(void)state;
	assert_true(was_rebuilt(OPEN_MANUAL | OPEN_REBUILD));
	assert_false(was_rebuilt(OPEN_MANUAL));
	assert_false(was_rebuilt(OPEN_MANUAL));
	end_dirty();
	assert_false(was_rebuilt(OPEN_MANUAL)); /* it passed the audit */
	assert_true(was_rebuilt(OPEN_MANUAL | OPEN_UNTRUSTED));
	assert_true(was_rebuilt(OPEN_MANUAL | OPEN_REBUILD));
	assert_false(was_rebuilt(OPEN_MANUAL));
	assert_int_equal(ckpt_count(), before); /* no reason to write one */
}

/* Another store's index, sound in itself. */
static void a_foreign_index_is_not_used(void **state)
{
	struct store_dir other;
	struct bale_store *st;
	uint8_t *buf;
	size_t len;
	int fd;

	(void)state;
	store_dir_make(&other);
	st = store_open(&other, OPEN_MANUAL);
	fill(st, 1, 20);
	store_close(st);
	buf = load(store_file(&other, "index/data.mdb"), &len);
	assert_int_equal(unlink(store_file(&dir, "index/data.mdb")), 0);
	fd = open(store_file(&dir, "index/data.mdb"), O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	close(fd);
	free(buf);
	assert_true(was_rebuilt(OPEN_MANUAL));
	store_dir_remove(&other);
}

/* An index of the same store, but from before: the log goes on from it when it
 * still can, and the result is the same. */
static void an_old_index_catches_up(void **state)
{
	struct digest want, got;
	struct bale_store *st;
	uint8_t *buf;
	size_t len;

	(void)state;
	buf = load(store_file(&dir, "index/data.mdb"), &len);
	st = store_open(&dir, OPEN_MANUAL);
	fill(st, TXNS + 1, TXNS + 500);
	want = store_digest(st);
	store_close(st);
	overwrite(store_file(&dir, "index/data.mdb"), buf, len);
	st = store_open(&dir, OPEN_MANUAL);
	got = store_digest(st);
	assert_true(digest_equal(&want, &got));
	model_check_prefix(bale_store_meta(st), TXNS + 500);
	store_close(st);
	free(buf);
}

/* Leaf pages lose their last row, as if an older page had come back: no row's
 * own checksum tells. Pages with few rows are LMDB's own. */
static void drop_rows(uint8_t *buf, size_t len)
{
	enum { LEAF = 0x02, HEAD = 16, LOWER = 12, MANY = 12 };

	for (size_t at = 2 * PAGE; at + PAGE <= len; at += PAGE) {
		uint16_t flags, lower;

		memcpy(&flags, buf + at + 10, sizeof(flags));
		memcpy(&lower, buf + at + LOWER, sizeof(lower));
		if (flags != LEAF || lower < HEAD + 2 * MANY)
			continue;
		lower -= 2;
		memcpy(buf + at + LOWER, &lower, sizeof(lower));
	}
}

/* What scrub asks for. */
static void a_rotten_index_is_found_by_reading_it(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	size_t len;
	uint8_t *buf;

	(void)state;
	assert_int_equal(bale_meta_verify(bale_store_meta(st)), 0);
	fill(st, TXNS + 1, TXNS + 50);
	assert_int_equal(bale_meta_verify(bale_store_meta(st)), 0);
	assert_int_equal(bale_meta_apply(bale_store_meta(st)), 0);
	assert_int_equal(bale_meta_verify(bale_store_meta(st)), 0);
	buf = load(store_file(&dir, "index/data.mdb"), &len);
	drop_rows(buf, len);
	overwrite(store_file(&dir, "index/data.mdb"), buf, len);
	free(buf);
	assert_int_equal(bale_meta_verify(bale_store_meta(st)), -EUCLEAN);
	assert_int_equal(bale_store_error(st), -EUCLEAN);
	bale_store_close(st);
	assert_true(was_rebuilt(OPEN_MANUAL));
}

/* Found when it would have been copied into a checkpoint and the log, which
 * still has the rows, given back. */
static void a_checkpoint_of_a_rotten_index_is_refused(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	size_t before = ckpt_count(), len;
	uint8_t *buf;

	(void)state;
	assert_int_equal(bale_meta_apply(bale_store_meta(st)), 0);
	buf = load(store_file(&dir, "index/data.mdb"), &len);
	drop_rows(buf, len);
	overwrite(store_file(&dir, "index/data.mdb"), buf, len);
	free(buf);
	assert_int_equal(bale_meta_checkpoint(bale_store_meta(st)), -EUCLEAN);
	assert_int_equal(bale_store_error(st), -EUCLEAN);
	assert_int_equal(model_stage(bale_store_meta(st), TXNS + 1, NULL),
			 -EROFS);
	assert_int_equal(ckpt_count(), before);
	assert_int_equal(bale_store_close(st), -EUCLEAN);
	assert_true(was_rebuilt(OPEN_MANUAL));
}

static void copy_ckpt(const char *from, const char *to)
{
	size_t len;
	uint8_t *buf = load(store_file(&dir, from), &len);
	int fd = open(store_file(&dir, to), O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	close(fd);
	free(buf);
}

/* A copy under a higher number was taken for a newer one, as far as the log
 * would not be needed any more from before it. */
static void a_checkpoint_under_a_wrong_name_does_not_count(void **state)
{
	char names[16][32], path[48], wrong[48];
	struct bale_meta_stats s;
	struct bale_store *st;
	size_t nr = store_list(&dir, "ckpt", names, 16);

	(void)state;
	assert_true(nr > 0);
	snprintf(path, sizeof(path), "ckpt/%.31s", names[nr - 1]);
	snprintf(wrong, sizeof(wrong), "ckpt/%016x", 0x70000000);
	copy_ckpt(path, wrong);
	st = store_open(&dir, OPEN_MANUAL);
	bale_meta_stats(bale_store_meta(st), &s);
	assert_int_equal(s.ckpt_lsn, strtoull(names[nr - 1], NULL, 16));
	store_close(st);
	st = store_open(&dir, OPEN_MANUAL | OPEN_UNTRUSTED);
	bale_meta_stats(bale_store_meta(st), &s);
	assert_int_equal(s.ckpt_lsn, strtoull(names[nr - 1], NULL, 16));
	assert_int_equal(model_seq(bale_store_meta(st)), TXNS);
	store_close(st);
	assert_int_not_equal(access(store_file(&dir, wrong), F_OK), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_damaged_index_of_a_clean_store),
		T(a_damaged_index_of_a_dirty_store),
		T(reading_a_clean_store_writes_nothing),
		T(reading_a_dirty_store_writes_nothing),
		T(a_good_index_is_kept),
		T(a_foreign_index_is_not_used),
		T(an_old_index_catches_up),
		T(a_rotten_index_is_found_by_reading_it),
		T(a_checkpoint_of_a_rotten_index_is_refused),
		T(a_checkpoint_under_a_wrong_name_does_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
