/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_fixture.h - a small store in a directory of its own, for the tests of
 * fs/store. Commits happen only when a test asks for them. Extents are filled
 * with bytes that follow from their id, so that any of them can be checked.
 */
#ifndef BALE_TESTS_STORE_FIXTURE_H
#define BALE_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "balefs/codec.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/store/store.h"

enum { FIX_EXTENT = 64 << 10 };

static char fix_dir[96], fix_path[128];
static struct bale_store *fix_st;

static inline int fix_remove(const char *path, const struct stat *st, int flag,
			     struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void fix_open(void)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true };

	assert_int_equal(0, bale_store_open(fix_path, &o, &fix_st));
}

static inline void fix_close(void)
{
	int r = bale_store_close(fix_st);

	fix_st = NULL;
	assert_int_equal(0, r);
}

static inline void fix_reopen(void)
{
	fix_close();
	fix_open();
}

static inline void fix_mkfs(unsigned int segment_bits)
{
	struct bale_mkfs_options o = {
		.size = sizeof(o),
		.extent_bits = 16,
		.segment_bits = (uint8_t)segment_bits,
		.log_bits = 20,
		.codec = BALE_CODEC_auto,
	};

	assert_int_equal(0, bale_store_mkfs(fix_path, &o));
}

/* A fresh store with 1 MiB segments, open. */
static inline int fix_setup(void **state)
{
	(void)state;
	bale_log_set_level(BALE_LOG_ERR);
	strcpy(fix_dir, "/tmp/balefs-store-XXXXXX");
	if (!mkdtemp(fix_dir))
		return -1;
	snprintf(fix_path, sizeof(fix_path), "%s/store", fix_dir);
	fix_mkfs(20);
	fix_open();
	return 0;
}

static inline int fix_teardown(void **state)
{
	(void)state;
	bale_fault_clear();
	bale_store_close(fix_st);
	fix_st = NULL;
	return nftw(fix_dir, fix_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fix_fill(uint64_t id, uint8_t *buf, size_t len)
{
	uint64_t x = id * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buf[i] = (uint8_t)x;
	}
}

/* Append one raw extent of len bytes, without staging it. */
static inline int fix_append(size_t len, uint64_t *ret_id,
			     struct bale_extent_row *ret)
{
	uint8_t *buf = malloc(len);
	struct bale_extent_in in = {
		.ino = 100,
		.raw_len = (uint32_t)len,
		.stored = buf,
		.stored_len = (uint32_t)len,
	};
	int r;

	assert_non_null(buf);
	assert_int_equal(0, bale_store_new_id(fix_st, &in.id));
	fix_fill(in.id, buf, len);
	r = bale_store_append(fix_st, &in, 1, ret);
	free(buf);
	*ret_id = in.id;
	return r;
}

static inline void fix_stage(uint64_t id, const struct bale_extent_row *row)
{
	struct bale_txn t;

	bale_txn_begin(bale_store_meta(fix_st), &t);
	bale_txn_extent_add(&t, id, row);
	assert_int_equal(0, bale_txn_commit(&t, NULL));
}

static inline uint64_t fix_add(size_t len)
{
	struct bale_extent_row row;
	uint64_t id;

	assert_int_equal(0, fix_append(len, &id, &row));
	fix_stage(id, &row);
	return id;
}

static inline void fix_unref(uint64_t id)
{
	struct bale_txn t;

	bale_txn_begin(bale_store_meta(fix_st), &t);
	bale_txn_extent_unref(&t, id);
	assert_int_equal(0, bale_txn_commit(&t, NULL));
}

static inline void fix_sync(void)
{
	assert_int_equal(0, bale_meta_sync(bale_store_meta(fix_st), 0));
}

static inline struct bale_extent_row fix_row(uint64_t id)
{
	struct bale_extent_row row;

	assert_int_equal(0,
			 bale_meta_extent(bale_store_meta(fix_st), id, &row));
	return row;
}

/* 0 when extent id can be read and is what was written. */
static inline int fix_check(uint64_t id)
{
	struct bale_extent_row row;
	uint8_t *got, *want;
	int r = bale_meta_extent(bale_store_meta(fix_st), id, &row);

	if (r)
		return r;
	got = malloc(row.stored_len);
	want = malloc(row.stored_len);
	assert_non_null(got);
	assert_non_null(want);
	fix_fill(id, want, row.stored_len);
	r = bale_store_read(fix_st, &row, got);
	if (!r && memcmp(got, want, row.stored_len))
		r = -EILSEQ;
	free(got);
	free(want);
	return r;
}

/* A macro, so that compilers see the format. */
#define fix_name(buf, fmt, number)                \
	snprintf(buf, 192, "%s/" fmt, fix_path, \
		 (unsigned long long)(number))

static inline void fix_seg_path(char buf[192], uint64_t segment)
{
	fix_name(buf, "seg/%016llx", segment);
}

/* Run fn in a child that ends without closing anything, as if killed. */
static inline void fix_crash(void (*fn)(void))
{
	pid_t pid;
	int status;

	fix_close();
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fix_open();
		fn();
		_exit(0);
	}
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_int_equal(0, status);
	fix_open();
}

static inline void fix_write_at(const char *path, off_t off, const void *buf,
				size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(len, pwrite(fd, buf, len, off));
	close(fd);
}

#endif
