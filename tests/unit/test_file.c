/* SPDX-License-Identifier: Apache-2.0 */
/* File data on an open filesystem: growth, holes, patches, sharing, damage. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/inode/file.h"
#include "fs/inode/flush.h"
#include "fs/inode/fs_stats.h"
#include "fs/store/store_internal.h"

enum { EXTENT = 128 << 10, BUF = 8 * EXTENT };

struct rig {
	char dir[64];
	struct bale_fs *fs;
	struct bale_inode *i;
	uint8_t *a, *b;
};

static void open_rig(struct rig *g, bool read_only)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = true,
				     .read_only = read_only,
				     .cache_bytes = 32 << 20,
				     .wait_ms = 2000 };

	assert_int_equal(bale_fs_open(g->dir, &o, &g->fs), 0);
}

static struct bale_inode *file(struct rig *g, const char *name)
{
	struct bale_cred c = { 0, 0, 022 };
	struct bale_inode *root, *i;
	int r;

	assert_int_equal(bale_inode_get(g->fs, BALE_ROOT_INO, &root), 0);
	r = bale_dir_lookup(root, name, &i);
	if (r == -ENOENT)
		r = bale_dir_create(root, name, S_IFREG | 0644, 0, &c, &i);
	assert_int_equal(r, 0);
	bale_inode_put(root);
	return i;
}

static int setup(void **state)
{
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.codec = BALE_CODEC_auto,
					.segment_bits = 22,
					.log_bits = 20 };
	struct rig *g = calloc(1, sizeof(*g));
	uint64_t s = 88172645463325252u;

	snprintf(g->dir, sizeof(g->dir), "/tmp/bale-test-file-%d", getpid());
	bale_log_set_level(BALE_LOG_ERR);
	assert_int_equal(bale_store_mkfs(g->dir, &mk), 0);
	g->a = malloc(BUF);
	g->b = malloc(BUF);
	/* Shrinks to about a half. */
	for (size_t k = 0; k < BUF; k++) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		g->a[k] = "abcdefghijklmnop"[s & 15];
	}
	open_rig(g, false);
	g->i = file(g, "f");
	*state = g;
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;
	char cmd[128];

	bale_fault_clear();
	if (g->i)
		bale_inode_put(g->i);
	if (g->fs)
		bale_fs_close(g->fs);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", g->dir);
	free(g->a);
	free(g->b);
	free(g);
	return system(cmd);
}

static void reopen(struct rig *g)
{
	bale_inode_put(g->i);
	assert_int_equal(bale_fs_close(g->fs), 0);
	open_rig(g, false);
	g->i = file(g, "f");
}

static int put(struct bale_inode *i, const void *p, size_t len, uint64_t off)
{
	struct iovec v = { (void *)p, len };

	return bale_file_write(i, &v, 1, off, false, false);
}

static int get(struct bale_inode *i, uint8_t *p, size_t len, uint64_t off,
	       size_t *ret_len)
{
	*ret_len = 0;
	while (*ret_len < len) {
		struct bale_read rd;
		int r = bale_file_read(i, off + *ret_len, len - *ret_len, &rd);

		if (r)
			return r;
		if (!rd.len)
			break;
		for (unsigned int k = 0; k < rd.nr_iov; k++) {
			memcpy(p + *ret_len, rd.iov[k].iov_base,
			       rd.iov[k].iov_len);
			*ret_len += rd.iov[k].iov_len;
		}
		bale_file_read_done(&rd);
	}
	return 0;
}

static void expect(struct rig *g, struct bale_inode *i, const void *want,
		   size_t len, uint64_t off)
{
	size_t n;

	assert_int_equal(get(i, g->b, len, off, &n), 0);
	assert_int_equal(n, len);
	assert_memory_equal(g->b, want, len);
}

static void expect_zeros(struct rig *g, size_t len, uint64_t off)
{
	size_t n;

	assert_int_equal(get(g->i, g->b, len, off, &n), 0);
	assert_int_equal(n, len);
	for (size_t k = 0; k < len; k++)
		assert_int_equal(g->b[k], 0);
}

static int truncate_to(struct rig *g, uint64_t size)
{
	struct bale_setattr a = { .valid = BALE_SET_SIZE, .size = size };

	return bale_inode_setattr(g->i, &a);
}

static void small_file_is_inline_until_it_grows(void **state)
{
	struct rig *g = *state;
	struct bale_inode_row row;

	assert_int_equal(put(g->i, g->a, 1000, 0), 0);
	reopen(g);
	bale_inode_attr(g->i, &row);
	assert_true(row.flags & BALE_INODE_HAS_INLINE);
	assert_true(row.stored > 0 && row.stored < 1000);
	expect(g, g->i, g->a, 1000, 0);
	/* Past its extent in one go, without touching extent 0. */
	assert_int_equal(put(g->i, g->a, 100, 3 * EXTENT), 0);
	expect(g, g->i, g->a, 1000, 0);
	expect_zeros(g, 3 * EXTENT - 1000, 1000);
	reopen(g);
	bale_inode_attr(g->i, &row);
	assert_false(row.flags & BALE_INODE_HAS_INLINE);
	expect(g, g->i, g->a, 1000, 0);
	expect(g, g->i, g->a, 100, 3 * EXTENT);
	assert_int_equal(truncate_to(g, 0), 0);
	bale_inode_attr(g->i, &row);
	assert_int_equal(row.stored, 0);
}

static void cut_and_grown_file_reads_zeros(void **state)
{
	struct rig *g = *state;

	for (int stored = 0; stored < 2; stored++) {
		assert_int_equal(put(g->i, g->a, 3 * EXTENT, 0), 0);
		if (stored)
			reopen(g);
		assert_int_equal(truncate_to(g, EXTENT + 100), 0);
		if (stored)
			reopen(g);
		assert_int_equal(truncate_to(g, 3 * EXTENT), 0);
		expect(g, g->i, g->a, EXTENT + 100, 0);
		expect_zeros(g, 2 * EXTENT - 100, EXTENT + 100);
		reopen(g);
		expect(g, g->i, g->a, EXTENT + 100, 0);
		expect_zeros(g, 2 * EXTENT - 100, EXTENT + 100);
	}
}

static void punched_range_is_a_hole(void **state)
{
	struct rig *g = *state;
	struct bale_inode_row before, after;
	uint64_t at;

	assert_int_equal(put(g->i, g->a, BUF, 0), 0);
	reopen(g);
	bale_inode_attr(g->i, &before);
	assert_int_equal(
		bale_file_fallocate(g->i,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    EXTENT - 10, 3 * EXTENT + 20),
		0);
	expect(g, g->i, g->a, EXTENT - 10, 0);
	expect_zeros(g, 3 * EXTENT + 20, EXTENT - 10);
	expect(g, g->i, g->a + 4 * EXTENT + 10, 100, 4 * EXTENT + 10);
	assert_int_equal(bale_file_seek(g->i, 0, SEEK_HOLE, &at), 0);
	assert_int_equal(at, EXTENT);
	assert_int_equal(bale_file_seek(g->i, at, SEEK_DATA, &at), 0);
	assert_int_equal(at, 4 * EXTENT);
	assert_int_equal(bale_file_seek(g->i, at, SEEK_HOLE, &at), 0);
	assert_int_equal(at, BUF);
	assert_int_equal(bale_file_seek(g->i, BUF, SEEK_DATA, &at), -ENXIO);
	reopen(g);
	bale_inode_attr(g->i, &after);
	assert_true(after.stored < before.stored);
	expect_zeros(g, 3 * EXTENT + 20, EXTENT - 10);
}

static void zeros_take_no_space(void **state)
{
	struct rig *g = *state;
	struct bale_inode_row row;
	uint64_t at;

	memset(g->b, 0, BUF);
	assert_int_equal(put(g->i, g->b, BUF, 0), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_inode_attr(g->i, &row);
	assert_int_equal(row.size, BUF);
	assert_int_equal(row.stored, 0);
	assert_int_equal(bale_file_seek(g->i, 0, SEEK_DATA, &at), -ENXIO);
}

/* A store left as a crash leaves it: copied while it is open. */
static void crash(struct rig *g)
{
	char cmd[256], copy[80];

	snprintf(copy, sizeof(copy), "%s.crash", g->dir);
	snprintf(cmd, sizeof(cmd), "rm -rf %s; cp -a %s %s", copy, g->dir,
		 copy);
	assert_int_equal(system(cmd), 0);
	bale_inode_put(g->i);
	bale_fs_close(g->fs);
	snprintf(cmd, sizeof(cmd), "rm -rf %s; mv %s %s", g->dir, copy, g->dir);
	assert_int_equal(system(cmd), 0);
}

/* A file was cut within an extent and grown again. An extent before that one
 * was stored first, and told the new size while the map still named the tail
 * as it was before the cut: a crash then brought back what had been cut. */
static void grown_size_waits_for_the_cut_tail(void **state)
{
	struct rig *g = *state;
	uint64_t bytes;

	assert_int_equal(put(g->i, g->a, 3 * EXTENT, 0), 0);
	reopen(g);
	assert_int_equal(truncate_to(g, EXTENT + 100), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	assert_int_equal(put(g->i, g->a, 100, 0), 0);
	assert_int_equal(put(g->i, g->a, 100, 5 * EXTENT), 0);
	g->fs->flush->bale_bytes = 1; /* one extent at a time */
	assert_int_equal(
		bale_flush_round(g->fs, g->i, UINT64_MAX, &bytes), 0);
	assert_int_equal(bale_meta_sync(g->fs->meta, 0), 0);
	crash(g);
	open_rig(g, false);
	g->i = file(g, "f");
	assert_int_equal(truncate_to(g, 3 * EXTENT), 0);
	expect(g, g->i, g->a, EXTENT + 100, 0);
	expect_zeros(g, 2 * EXTENT - 100, EXTENT + 100);
}

/* With patches about, every extent of every file counted as data: a look for a
 * hole in a sparse file took hours, and one for data missed the patches. */
static void holes_beside_patches(void **state)
{
	const uint64_t size = (uint64_t)1 << 50, there = (uint64_t)1 << 40;
	struct rig *g = *state;
	struct bale_inode *sparse;
	struct bale_setattr a = { .valid = BALE_SET_SIZE, .size = size };
	uint64_t at;

	sparse = file(g, "sparse");
	assert_int_equal(bale_inode_setattr(sparse, &a), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	assert_int_equal(put(sparse, g->a, 300, there), 0);
	assert_int_equal(bale_file_fsync(sparse, false), 0);
	bale_inode_put(sparse);
	crash(g);
	open_rig(g, true);
	assert_true(atomic_load(&g->fs->has_patches));
	sparse = file(g, "sparse");
	assert_int_equal(bale_file_seek(sparse, 0, SEEK_HOLE, &at), 0);
	assert_int_equal(at, 0);
	assert_int_equal(bale_file_seek(sparse, 0, SEEK_DATA, &at), 0);
	assert_int_equal(at, there);
	assert_int_equal(bale_file_seek(sparse, there, SEEK_HOLE, &at), 0);
	assert_int_equal(at, there + EXTENT);
	assert_int_equal(bale_file_seek(sparse, at, SEEK_DATA, &at), -ENXIO);
	bale_inode_put(sparse);
	assert_int_equal(bale_fs_close(g->fs), 0);
	open_rig(g, false);
	g->i = file(g, "f");
}

static void small_fsync_is_a_patch(void **state)
{
	struct rig *g = *state;
	struct bale_fs_stats s0, s1;
	uint8_t *want = malloc(4 * EXTENT);

	memcpy(want, g->a, 4 * EXTENT);
	assert_int_equal(put(g->i, g->a, 3 * EXTENT, 0), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_fs_stats(g->fs, &s0);
	for (unsigned int k = 0; k < 40; k++) {
		uint64_t off = k * 9000;

		memset(want + off, (int)k, 300);
		assert_int_equal(put(g->i, want + off, 300, off), 0);
		assert_int_equal(bale_file_fsync(g->i, false), 0);
	}
	/* And growth. */
	assert_int_equal(put(g->i, want + 3 * EXTENT, 5000, 3 * EXTENT), 0);
	assert_int_equal(bale_file_fsync(g->i, true), 0);
	bale_fs_stats(g->fs, &s1);
	assert_int_equal(s1.patch_fsyncs - s0.patch_fsyncs, 41);
	assert_int_equal(s1.flushes, s0.flushes);
	/* Not synced: may be lost. */
	assert_int_equal(put(g->i, want, 1, 3 * EXTENT + 6000), 0);
	crash(g);
	open_rig(g, true); /* read-only: patches apply on the way */
	g->i = file(g, "f");
	expect(g, g->i, want, 3 * EXTENT + 5000, 0);
	bale_inode_put(g->i);
	assert_int_equal(bale_fs_close(g->fs), 0);
	open_rig(g, false); /* folded */
	g->i = file(g, "f");
	expect(g, g->i, want, 3 * EXTENT + 5000, 0);
	reopen(g);
	assert_false(atomic_load(&g->fs->has_patches));
	expect(g, g->i, want, 3 * EXTENT + 5000, 0);
	free(want);
}

static void copy_shares_extents(void **state)
{
	struct rig *g = *state;
	struct bale_inode *to = file(g, "copy");
	struct bale_space_info s0, s1;
	size_t n;

	assert_int_equal(put(g->i, g->a, BUF, 0), 0);
	assert_int_equal(put(to, g->a + 77, 100, BUF), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_space_info(g->fs->store, &s0);
	assert_int_equal(bale_file_copy_range(g->i, 0, to, 0, BUF, &n), 0);
	assert_int_equal(n, BUF);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_space_info(g->fs->store, &s1);
	assert_int_equal(s0.live, s1.live);
	expect(g, to, g->a, BUF, 0);
	expect(g, to, g->a + 77, 100, BUF);
	/* One goes its own way, the other keeps its content. */
	assert_int_equal(put(g->i, g->a + 1, EXTENT, 0), 0);
	assert_int_equal(truncate_to(g, EXTENT), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	expect(g, to, g->a, BUF, 0);
	expect(g, g->i, g->a + 1, EXTENT, 0);
	/* Neither aligned nor whole. */
	assert_int_equal(
		bale_file_copy_range(to, 100, g->i, EXTENT + 5, 2 * EXTENT, &n),
		0);
	assert_int_equal(n, 2 * EXTENT);
	expect(g, g->i, g->a + 100, 2 * EXTENT, EXTENT + 5);
	bale_inode_put(to);
}

/*
 * Extents shared onto a short file whose only copy was on its way to become an
 * inline value: that was staged first, and hid the shared extent.
 */
static void copy_replaces_an_inline_value_in_flight(void **state)
{
	struct rig *g = *state;
	struct bale_inode *to = file(g, "copy");
	struct bale_setattr none = { .valid = BALE_SET_SIZE };
	struct bale_flush_batch *b;
	struct bale_inode_row row;
	size_t n;

	for (unsigned int flight = 0; flight < 3; flight++) {
		assert_int_equal(put(g->i, g->a, BUF, 0), 0);
		assert_int_equal(bale_inode_setattr(to, &none), 0);
		memset(g->b, 'i', 3000);
		assert_int_equal(put(to, g->b, 3000, 0), 0);
		/* Dirty, in flight, or an inline value. */
		if (flight == 1) {
			b = bale_flush_batch_new(g->fs->flush);
			assert_non_null(b);
			bale_rwlock_wrlock(&to->lock);
			assert_int_equal(bale_flush_collect_locked(b, to), 0);
			bale_rwlock_unlock(&to->lock);
			assert_int_equal(bale_flush_write(g->fs->flush, b), 0);
		} else if (flight == 2) {
			assert_int_equal(bale_fs_sync(g->fs), 0);
			bale_inode_attr(to, &row);
			assert_true(row.flags & BALE_INODE_HAS_INLINE);
		}
		assert_int_equal(bale_file_copy_range(g->i, 0, to, 0, BUF, &n),
				 0);
		assert_int_equal(n, BUF);
		if (flight == 1)
			bale_flush_batch_free(g->fs->flush, b);
		expect(g, to, g->a, BUF, 0);
		bale_inode_attr(to, &row);
		assert_false(row.flags & BALE_INODE_HAS_INLINE);
		assert_int_equal(bale_fs_sync(g->fs), 0);
		bale_inode_put(to);
		reopen(g);
		to = file(g, "copy");
		expect(g, to, g->a, BUF, 0);
	}
	bale_inode_put(to);
}

/* Extents were shared behind the end of a file whose content is inline. Until
 * its next flush it had both, which fsck mends by removing what is inline; and
 * that flush counted from zero what is stored. */
static void copy_behind_an_inline_value(void **state)
{
	struct rig *g = *state;
	struct bale_inode *to = file(g, "copy");
	struct bale_inode_row src, row;
	size_t n;

	assert_int_equal(put(g->i, g->a, BUF, 0), 0);
	assert_int_equal(put(to, g->a, 100, 0), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_inode_attr(to, &row);
	assert_true(row.flags & BALE_INODE_HAS_INLINE);
	assert_int_equal(bale_file_copy_range(g->i, 0, to, BUF, BUF, &n), 0);
	assert_int_equal(n, BUF);
	bale_inode_attr(to, &row);
	assert_false(row.flags & BALE_INODE_HAS_INLINE);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_inode_attr(g->i, &src);
	bale_inode_attr(to, &row);
	assert_true(src.stored > 0 && row.stored > src.stored);
	expect(g, to, g->a, 100, 0);
	expect(g, to, g->a, BUF, BUF);
	bale_inode_put(to);
}

/* Extents shared within a file across the border of two map rows: the file went
 * on with the first row as it was before, and wrote that again. */
static void copy_within_a_file_crosses_map_rows(void **state)
{
	struct rig *g = *state;
	const uint64_t to = (uint64_t)(BALE_MAP_SLOTS - 2) * EXTENT;
	struct bale_inode_row row;
	size_t n;

	assert_int_equal(put(g->i, g->a, BUF, 0), 0);
	assert_int_equal(put(g->i, g->a + 7, EXTENT, to), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	assert_int_equal(bale_file_copy_range(g->i, 0, g->i, to, BUF, &n), 0);
	assert_int_equal(n, BUF);
	/* Nothing of the second row: that would have the first read anew. */
	expect(g, g->i, g->a, EXTENT, to);
	expect(g, g->i, g->a + EXTENT, EXTENT, to + EXTENT);
	assert_int_equal(put(g->i, g->a, 1, (uint64_t)20 * EXTENT), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	reopen(g);
	bale_inode_attr(g->i, &row);
	assert_int_equal(row.size, to + BUF);
	expect(g, g->i, g->a, BUF, to);
	expect(g, g->i, g->a, BUF, 0);
}

static void recompress_changes_the_codec(void **state)
{
	struct rig *g = *state;
	struct bale_codec_policy raw = { BALE_CODEC_raw, 0 };
	struct bale_codec_policy zstd = { BALE_CODEC_zstd, 9 };
	uint64_t before, after, raw_size;

	assert_int_equal(put(g->i, g->a, BUF, 0), 0);
	assert_int_equal(bale_file_recompress(g->i, raw, &before, &raw_size),
			 0);
	assert_int_equal(raw_size, BUF);
	assert_int_equal(bale_file_recompress(g->i, zstd, &before, &after), 0);
	assert_int_equal(before, BUF);
	assert_true(after < BUF * 6 / 10);
	reopen(g);
	expect(g, g->i, g->a, BUF, 0);
}

static void failed_flush_fails_every_fsync(void **state)
{
	struct rig *g = *state;

	assert_int_equal(put(g->i, g->a, EXTENT, 0), 0);
	assert_int_equal(bale_file_fsync(g->i, false), 0);
	assert_int_equal(put(g->i, g->a + 1, 2 * EXTENT, EXTENT), 0);
	bale_log_set_level(BALE_LOG_ERR);
	assert_int_equal(bale_fault_arm("io.pwritev:1+:EIO"), 0);
	assert_int_equal(bale_file_fsync(g->i, false), -EIO);
	bale_fault_clear();
	assert_int_equal(bale_file_fsync(g->i, false), -EIO);
	assert_int_equal(put(g->i, g->a, 10, 0), -EROFS);
	/* What was accepted stays readable. */
	expect(g, g->i, g->a + 1, 2 * EXTENT, EXTENT);
	bale_inode_put(g->i);
	assert_int_not_equal(bale_fs_close(g->fs), 0);
	open_rig(g, false);
	g->i = file(g, "f");
	expect(g, g->i, g->a, EXTENT, 0);
}

static void locate(struct rig *g, uint64_t no, struct bale_extent_row *ret)
{
	uint64_t id;

	assert_int_equal(bale_map_get(g->i, no, &id), 0);
	assert_int_equal(bale_meta_extent(g->fs->meta, id, ret), 0);
}

/* The policy auto: numbers get a filter, text does not. */
static void numbers_are_filtered(void **state)
{
	struct rig *g = *state;
	struct bale_extent_row row;

	for (uint32_t k = 0, v = 0; k < BUF / 4; k++) {
		v += g->a[k] * 7;
		memcpy(g->b + k * 4, &v, 4);
	}
	assert_int_equal(put(g->i, g->b, 2 * EXTENT, 0), 0);
	assert_int_equal(put(g->i, g->a, 2 * EXTENT, 2 * EXTENT), 0);
	reopen(g);
	locate(g, 0, &row);
	assert_int_equal(row.codec, BALE_CODEC_zstd);
	assert_int_equal(row.filter, BALE_FILTER_delta4);
	assert_true(row.stored_len < EXTENT / 2);
	locate(g, 2, &row);
	assert_int_equal(row.codec, BALE_CODEC_zstd);
	assert_int_equal(row.filter, 0);
	expect(g, g->i, g->b, 2 * EXTENT, 0);
	expect(g, g->i, g->a, 2 * EXTENT, 2 * EXTENT);
}

static void flip_stored(struct rig *g, const struct bale_extent_row *row)
{
	char name[128];
	uint8_t byte;
	int fd;

	snprintf(name, sizeof(name), "%s/seg/%016x", g->dir, row->segment);
	fd = open(name, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, row->offset + 99), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, row->offset + 99), 1);
	close(fd);
}

static void damage_hurts_its_extent_only(void **state)
{
	struct rig *g = *state;
	struct bale_extent_row row;
	size_t n;

	assert_int_equal(put(g->i, g->a, 4 * EXTENT, 0), 0);
	reopen(g);
	locate(g, 1, &row);
	flip_stored(g, &row);
	expect(g, g->i, g->a, EXTENT, 0);
	assert_true(get(g->i, g->b, 10, EXTENT + 50, &n) < 0);
	expect(g, g->i, g->a + 2 * EXTENT, 2 * EXTENT, 2 * EXTENT);
	/* A part of it cannot be changed; all of it can. */
	assert_true(put(g->i, g->a, 10, EXTENT + 50) < 0);
	assert_int_equal(put(g->i, g->a, EXTENT, EXTENT), 0);
	reopen(g);
	expect(g, g->i, g->a, EXTENT, EXTENT);
}

/* Of what is appended: not yet staged, and promised to writers. */
static void expect_open_accounts(struct rig *g, bool any)
{
	struct bale_space_info info;
	uint64_t pool, pending;

	bale_segs_pool(g->fs->store, &pool, &pending);
	bale_space_info(g->fs->store, &info);
	assert_int_equal(pending > 0, any);
	assert_int_equal(info.reserved > 0, any);
}

/* It kept its segment from being cleaned for as long as the store was open,
 * and counted as room for others' writes. */
static void cut_while_being_stored_leaves_nothing(void **state)
{
	struct rig *g = *state;
	struct bale_flush *fl = g->fs->flush;
	struct bale_flush_batch *b;

	for (int cut = 0; cut < 2; cut++) {
		assert_int_equal(put(g->i, g->a, 4 * EXTENT, 0), 0);
		b = bale_flush_batch_new(fl);
		assert_non_null(b);
		bale_rwlock_wrlock(&g->i->lock);
		assert_int_equal(bale_flush_collect_locked(b, g->i), 0);
		bale_rwlock_unlock(&g->i->lock);
		assert_int_equal(bale_flush_write(fl, b), 0);
		/* The promise is kept until a row names what was appended:
		 * till then that backs it. */
		expect_open_accounts(g, true);
		if (cut)
			assert_int_equal(truncate_to(g, 0), 0);
		bale_rwlock_wrlock(&g->i->lock);
		assert_int_equal(bale_flush_settle_locked(g->i), 0);
		bale_rwlock_unlock(&g->i->lock);
		bale_flush_batch_free(fl, b);
		assert_int_equal(bale_fs_sync(g->fs), 0);
		expect_open_accounts(g, false);
	}
}

static uint64_t reserved(struct rig *g)
{
	struct bale_space_info info;

	bale_space_info(g->fs->store, &info);
	return info.reserved;
}

static void what_is_dirty_has_blocks(void **state)
{
	struct rig *g = *state;
	struct bale_inode_row seen, stored;

	assert_int_equal(put(g->i, g->a, 4 * EXTENT + 100, 0), 0);
	bale_inode_stat(g->i, &seen);
	assert_int_equal(seen.stored, 4 * EXTENT + 100);
	assert_int_equal(put(g->i, g->a, 200, 4 * EXTENT), 0);
	assert_int_equal(truncate_to(g, 3 * EXTENT), 0);
	bale_inode_stat(g->i, &seen);
	assert_int_equal(seen.stored, 3 * EXTENT);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_inode_stat(g->i, &seen);
	bale_inode_attr(g->i, &stored);
	assert_int_equal(seen.stored, stored.stored);
	assert_true(seen.stored > 0 && seen.stored < 3 * EXTENT);
	/* Its tail is dirty again, and the cut makes it shorter. */
	assert_int_equal(put(g->i, g->a, 100, 2 * EXTENT), 0);
	assert_int_equal(truncate_to(g, 2 * EXTENT + 50), 0);
	assert_int_equal(put(g->i, g->a, 10, 2 * EXTENT + 10), 0);
	assert_int_equal(truncate_to(g, 0), 0);
	bale_inode_stat(g->i, &seen);
	assert_int_equal(seen.stored, 0);
}

/* Whole extents set aside for the file, and its size. */
static void expect_set_aside(struct rig *g, unsigned int nr, uint64_t size)
{
	uint64_t one = bale_ext_need(g->fs, NULL, EXTENT);
	struct bale_inode_row row;

	bale_inode_stat(g->i, &row);
	assert_int_equal(reserved(g), nr * one);
	assert_int_equal(row.size, size);
	assert_true(row.stored >= (uint64_t)nr * EXTENT);
}

static void fallocate_sets_space_aside(void **state)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct rig *g = *state;
	struct bale_inode *i = g->i;

	assert_int_equal(bale_file_fallocate(i, 0, 0, 8 * EXTENT), 0);
	expect_set_aside(g, 8, 8 * EXTENT);
	/* Once is enough; what does not fit is refused whole. */
	assert_int_equal(bale_file_fallocate(i, 0, EXTENT, 2 * EXTENT), 0);
	assert_int_equal(bale_file_fallocate(i, 0, 0, (uint64_t)1 << 55),
			 -ENOSPC);
	expect_set_aside(g, 8, 8 * EXTENT);
	expect_zeros(g, 8 * EXTENT, 0);
	/* The first write of an extent takes it, the next one does not. */
	assert_int_equal(put(i, g->a, 2 * EXTENT, 0), 0);
	assert_int_equal(put(i, g->a, 100, 3 * EXTENT), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	expect_set_aside(g, 5, 8 * EXTENT);
	assert_int_equal(put(i, g->a, 2 * EXTENT, 0), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	expect_set_aside(g, 5, 8 * EXTENT);
	expect(g, i, g->a, 2 * EXTENT, 0);
	/* 2, 4, 5, 6, 7 are left: out of the middle, then the end. */
	assert_int_equal(bale_file_fallocate(i, punch, 5 * EXTENT, EXTENT), 0);
	expect_set_aside(g, 4, 8 * EXTENT);
	assert_int_equal(truncate_to(g, 7 * EXTENT), 0);
	expect_set_aside(g, 3, 7 * EXTENT);
	assert_int_equal(bale_file_fallocate(i, FALLOC_FL_KEEP_SIZE, 7 * EXTENT,
					     2 * EXTENT),
			 0);
	expect_set_aside(g, 5, 7 * EXTENT);
	reopen(g);
	expect_set_aside(g, 0, 7 * EXTENT);
	expect(g, g->i, g->a, 2 * EXTENT, 0);
}

/* A deleted file gives back what was set aside, though that kept it. */
static void deleted_file_keeps_no_space(void **state)
{
	struct rig *g = *state;
	struct bale_inode *root;

	assert_int_equal(bale_file_fallocate(g->i, 0, 0, 8 * EXTENT), 0);
	bale_inode_open(g->i);
	assert_int_equal(bale_inode_get(g->fs, BALE_ROOT_INO, &root), 0);
	assert_int_equal(bale_dir_unlink(root, "f"), 0);
	bale_inode_put(root);
	assert_int_equal(reserved(g), 8 * bale_ext_need(g->fs, NULL, EXTENT));
	bale_inode_release(g->i);
	bale_inode_put_unlocked(g->i);
	g->i = NULL;
	assert_int_equal(reserved(g), 0);
}

/*
 * Patches over an extent that cannot be read any more wait for it to be
 * mended. What replaces the extent instead must not get them.
 */
static void left_patches_go_with_their_extent(void **state)
{
	enum { OVERWRITTEN, PUNCHED, SHARED, CUT, NR };
	struct rig *g = *state;
	struct bale_extent_row rows[NR];
	struct bale_inode *from = file(g, "from");
	size_t n;

	assert_int_equal(put(from, g->a + 3, EXTENT, 0), 0);
	assert_int_equal(put(g->i, g->a, (size_t)NR * EXTENT, 0), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	bale_inode_put(from);
	for (unsigned int k = 0; k < NR; k++) {
		locate(g, k, &rows[k]);
		assert_int_equal(put(g->i, "patch", 5, k * EXTENT + 40), 0);
		assert_int_equal(bale_file_fsync(g->i, false), 0);
	}
	crash(g);
	for (unsigned int k = 0; k < NR; k++)
		flip_stored(g, &rows[k]);
	open_rig(g, false);
	g->i = file(g, "f");
	assert_true(atomic_load(&g->fs->has_patches));
	for (unsigned int k = 0; k < NR; k++)
		assert_true(get(g->i, g->b, 10, k * EXTENT, &n) < 0);
	assert_int_equal(put(g->i, g->a + 1, EXTENT, OVERWRITTEN * EXTENT), 0);
	assert_int_equal(
		bale_file_fallocate(g->i,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    PUNCHED * EXTENT, EXTENT),
		0);
	from = file(g, "from");
	assert_int_equal(bale_file_copy_range(from, 0, g->i, SHARED * EXTENT,
					      EXTENT, &n),
			 0);
	bale_inode_put(from);
	assert_int_equal(truncate_to(g, CUT * EXTENT), 0);
	assert_int_equal(truncate_to(g, (uint64_t)NR * EXTENT), 0);
	for (unsigned int k = 0; k < 2; k++) {
		expect(g, g->i, g->a + 1, EXTENT, OVERWRITTEN * EXTENT);
		expect(g, g->i, g->a + 3, EXTENT, SHARED * EXTENT);
		expect_zeros(g, EXTENT, PUNCHED * EXTENT);
		expect_zeros(g, EXTENT, CUT * EXTENT);
		reopen(g);
		assert_false(atomic_load(&g->fs->has_patches));
	}
}

/* In every page of the index file: also in old ones. */
static void damage_map_row(struct rig *g, uint64_t ino, uint64_t group)
{
	be64 key[2] = { be64_put(ino), be64_put(group) };
	unsigned int hits = 0;
	uint8_t *all, byte;
	char name[128];
	struct stat st;
	int fd;

	assert_int_equal(bale_meta_apply(g->fs->meta), 0);
	snprintf(name, sizeof(name), "%s/index/data.mdb", g->dir);
	fd = open(name, O_RDWR);
	assert_true(fd >= 0 && !fstat(fd, &st));
	all = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, all, (size_t)st.st_size, 0), st.st_size);
	for (off_t at = 0; at + 32 < st.st_size; at++) {
		if (memcmp(all + at, key, sizeof(key)))
			continue;
		byte = all[at + 16 + 4] ^ 0x40;
		assert_int_equal(pwrite(fd, &byte, 1, at + 16 + 4), 1);
		hits++;
	}
	assert_true(hits > 0);
	free(all);
	close(fd);
}

/* It turned the whole mount read-only. */
static void damaged_map_row_hurts_its_file_only(void **state)
{
	struct rig *g = *state;
	struct bale_inode *other = file(g, "other");
	struct bale_inode_row row;
	uint64_t id;

	assert_int_equal(put(g->i, g->a, 2 * EXTENT, 0), 0);
	assert_int_equal(put(g->i, g->a, EXTENT, 64ull * EXTENT), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	/* Accepted before the damage, met at the flush. */
	assert_int_equal(put(g->i, g->a, EXTENT, 3 * EXTENT), 0);
	assert_int_equal(bale_map_get(g->i, 64, &id), 0);
	damage_map_row(g, g->i->ino, 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	assert_int_equal(bale_store_error(g->fs->store), 0);
	assert_int_equal(bale_file_fsync(g->i, false), -EIO);
	assert_int_equal(bale_file_fsync(g->i, false), -EIO);
	expect_open_accounts(g, false);
	bale_inode_stat(g->i, &row);
	assert_true(row.stored < 4 * EXTENT);
	/* From now on it is told at once. */
	assert_true(put(g->i, g->a, EXTENT, 5 * EXTENT) < 0);
	assert_true(put(g->i, g->a, 10, 6 * EXTENT) < 0);
	/* The file's other rows, and other files. */
	expect(g, g->i, g->a, EXTENT, 64ull * EXTENT);
	assert_int_equal(put(g->i, g->a + 1, EXTENT, 65ull * EXTENT), 0);
	assert_int_equal(put(other, g->a, EXTENT, 0), 0);
	assert_int_equal(bale_file_fsync(other, false), 0);
	expect(g, g->i, g->a + 1, EXTENT, 65ull * EXTENT);
	bale_inode_put(other);
}

/* It was refused, but the file had the new size from then on. */
static void damaged_map_row_does_not_stop_a_cut(void **state)
{
	struct rig *g = *state;
	struct bale_inode_row row;
	uint64_t id;

	assert_int_equal(put(g->i, g->a, 2 * EXTENT, 0), 0);
	assert_int_equal(put(g->i, g->a, EXTENT, 64ull * EXTENT), 0);
	assert_int_equal(bale_fs_sync(g->fs), 0);
	assert_int_equal(bale_map_get(g->i, 0, &id), 0);
	damage_map_row(g, g->i->ino, 1);
	assert_int_equal(truncate_to(g, EXTENT), 0);
	bale_inode_attr(g->i, &row);
	assert_int_equal(row.size, EXTENT);
	/* What is behind the end is not known: nothing may uncover it. */
	assert_true(truncate_to(g, 66ull * EXTENT) < 0);
	assert_true(put(g->i, g->a, EXTENT, 70ull * EXTENT) < 0);
	bale_inode_attr(g->i, &row);
	assert_int_equal(row.size, EXTENT);
	expect(g, g->i, g->a, EXTENT, 0);
	/* The next mount has a new index, and frees the rest. */
	reopen(g);
	expect(g, g->i, g->a, EXTENT, 0);
	assert_int_equal(truncate_to(g, 66ull * EXTENT), 0);
	expect_zeros(g, EXTENT, EXTENT);
	expect_zeros(g, EXTENT, 64ull * EXTENT);
}

/* Whatever hindered a write of several extents, it was called a full disk. */
static void refusal_tells_its_reason(void **state)
{
	struct rig *g = *state;

	assert_int_equal(bale_fault_arm("segment.insert:1+:ENOMEM"), 0);
	assert_int_equal(put(g->i, g->a, 3 * EXTENT, 0), -ENOMEM);
	bale_fault_clear();
	assert_int_equal(put(g->i, g->a, 3 * EXTENT, 0), 0);
	expect(g, g->i, g->a, 3 * EXTENT, 0);
}

static void limits(void **state)
{
	struct rig *g = *state;
	size_t n;

	assert_int_equal(put(g->i, g->a, 10, BALE_FILE_MAX - 10), 0);
	assert_int_equal(put(g->i, g->a, 10, BALE_FILE_MAX - 9), -EFBIG);
	assert_int_equal(truncate_to(g, BALE_FILE_MAX + 1), -EFBIG);
	assert_int_equal(get(g->i, g->b, 10, BALE_FILE_MAX, &n), 0);
	assert_int_equal(n, 0);
	reopen(g);
	expect(g, g->i, g->a, 10, BALE_FILE_MAX - 10);
	assert_int_equal(truncate_to(g, 5), 0);
	expect_zeros(g, 5, 0);
}

/* Reads and writes of many times the cache. */
static void memory_stays_bounded(void **state)
{
	struct rig *g = *state;
	struct bale_fs_stats s;

	for (uint64_t k = 0; k < 100; k++)
		assert_int_equal(put(g->i, g->a + k, BUF - 128, k * BUF), 0);
	for (uint64_t k = 0; k < 100; k++)
		expect(g, g->i, g->a + k, BUF - 128, k * BUF);
	bale_fs_stats(g->fs, &s);
	assert_int_equal(s.cache.heap, 0);
	assert_true(s.cache.evicted > 0);
	assert_true(s.cache.used <= 32 << 20);
	assert_true(s.dirty_bytes <= s.dirty_limit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(small_file_is_inline_until_it_grows),
		T(cut_and_grown_file_reads_zeros),
		T(grown_size_waits_for_the_cut_tail),
		T(punched_range_is_a_hole),
		T(zeros_take_no_space),
		T(small_fsync_is_a_patch),
		T(holes_beside_patches),
		T(copy_shares_extents),
		T(copy_replaces_an_inline_value_in_flight),
		T(copy_behind_an_inline_value),
		T(copy_within_a_file_crosses_map_rows),
		T(recompress_changes_the_codec),
		T(numbers_are_filtered),
		T(failed_flush_fails_every_fsync),
		T(damage_hurts_its_extent_only),
		T(left_patches_go_with_their_extent),
		T(cut_while_being_stored_leaves_nothing),
		T(what_is_dirty_has_blocks),
		T(fallocate_sets_space_aside),
		T(deleted_file_keeps_no_space),
		T(damaged_map_row_hurts_its_file_only),
		T(damaged_map_row_does_not_stop_a_cut),
		T(refusal_tells_its_reason),
		T(limits),
		T(memory_stays_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
