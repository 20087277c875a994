/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in states that few paths produce: deleted while open, patches that wait
 * for their extent to be mended, damaged maps, commits that are refused in the
 * middle of something; and what a crash then leaves.
 */
#include "tests/support/names_fixture.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/inode/file.h"
#include "fs/inode/flush.h"
#include "fs/store/store_internal.h"

enum { EXTENT = 128 << 10 };

static uint8_t text[4 * EXTENT], seen[4 * EXTENT];

static int setup(void **state)
{
	uint64_t s = 88172645463325252u;

	bale_log_set_level(BALE_LOG_ERR);
	for (size_t k = 0; k < sizeof(text); k++) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		text[k] = "abcdefghijklmnop"[s & 15];
	}
	return fx_setup(state);
}

static int teardown(void **state)
{
	bale_fault_clear();
	return fx_teardown(state);
}

static int put(struct bale_inode *i, const void *p, size_t len, uint64_t off)
{
	struct iovec v = { (void *)p, len };

	return bale_file_write(i, &v, 1, off, false, false);
}

static int cut(struct bale_inode *i, uint64_t size)
{
	struct bale_setattr a = { .valid = BALE_SET_SIZE, .size = size };

	return bale_inode_setattr(i, &a);
}

static int punch(struct bale_inode *i, uint64_t off, uint64_t len)
{
	return bale_file_fallocate(
		i, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
}

/* len bytes at off, at most one extent. */
static const uint8_t *get(struct bale_inode *i, size_t len, uint64_t off)
{
	struct bale_read rd;
	size_t n = 0;

	assert_int_equal(bale_file_read(i, off, len, &rd), 0);
	assert_int_equal(rd.len, len);
	for (unsigned int k = 0; k < rd.nr_iov; k++) {
		memcpy(seen + n, rd.iov[k].iov_base, rd.iov[k].iov_len);
		n += rd.iov[k].iov_len;
	}
	bale_file_read_done(&rd);
	return seen;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	while (len && !*p) {
		p++;
		len--;
	}
	return !len;
}

/* What a crash leaves of the store: a copy made while it is open. */
static void crash(struct fixture *f)
{
	char cmd[256], copy[80];

	snprintf(copy, sizeof(copy), "%s.crash", f->store);
	snprintf(cmd, sizeof(cmd), "rm -rf %s; cp -a %s %s", copy, f->store,
		 copy);
	assert_int_equal(system(cmd), 0);
	bale_inode_put(f->root);
	bale_fs_close(f->fs);
	snprintf(cmd, sizeof(cmd), "rm -rf %s; mv %s %s", f->store, copy,
		 f->store);
	assert_int_equal(system(cmd), 0);
}

static void flip_stored(struct fixture *f, const struct bale_extent_row *row)
{
	char name[128];
	uint8_t byte;
	int fd;

	snprintf(name, sizeof(name), "%s/seg/%016x", f->store, row->segment);
	fd = open(name, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, row->offset + 9), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, row->offset + 9), 1);
	close(fd);
}

/*
 * Patches that were not folded at the mount, since their extent could not be
 * read just then: a crash with `len` bytes patched at off. Afterwards the
 * extent is well again.
 */
static struct bale_inode *leave_patch(struct fixture *f, struct bale_inode *i,
				      const void *p, size_t len, uint64_t off)
{
	struct bale_extent_row row;
	uint64_t id;

	assert_int_equal(bale_map_get(i, off / EXTENT, &id), 0);
	assert_int_equal(bale_meta_extent(f->fs->meta, id, &row), 0);
	assert_int_equal(put(i, p, len, off), 0);
	assert_int_equal(bale_file_fsync(i, false), 0);
	bale_inode_put(i);
	crash(f);
	flip_stored(f, &row);
	fx_open(f, false);
	assert_true(atomic_load(&f->fs->has_patches));
	flip_stored(f, &row);
	return fx_get(f->root, "f");
}

/* A copy that shares extents missed the patches that the original is read
 * with. */
static void left_patches_are_copied(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644), *to;
	size_t n;

	assert_int_equal(put(i, text, 2 * EXTENT, 0), 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	i = leave_patch(f, i, "patched", 7, EXTENT + 50);
	to = fx_mk(f->root, "to", S_IFREG | 0644);
	assert_int_equal(bale_file_copy_range(i, 0, to, 0, 2 * EXTENT, &n), 0);
	assert_int_equal(n, 2 * EXTENT);
	assert_memory_equal(get(i, 7, EXTENT + 50), "patched", 7);
	assert_memory_equal(get(to, 7, EXTENT + 50), "patched", 7);
	assert_memory_equal(get(to, 40, EXTENT + 57), text + EXTENT + 57, 40);
	bale_inode_put(to);
	bale_inode_put(i);
}

/* What a cut had taken away came back when the file grew. */
static void left_patches_beyond_a_cut_are_gone(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644);

	assert_int_equal(put(i, text, EXTENT + 100, 0), 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	i = leave_patch(f, i, text, 5000, EXTENT + 80);
	assert_int_equal(cut(i, EXTENT + 100), 0);
	assert_int_equal(cut(i, 2 * EXTENT), 0);
	assert_memory_equal(get(i, 20, EXTENT + 80), text, 20);
	assert_true(all_zero(get(i, EXTENT - 100, EXTENT + 100), EXTENT - 100));
	bale_inode_put(i);
	fx_remount(f);
	i = fx_get(f->root, "f");
	assert_memory_equal(get(i, 20, EXTENT + 80), text, 20);
	assert_true(all_zero(get(i, EXTENT - 100, EXTENT + 100), EXTENT - 100));
	bale_inode_put(i);
}

/* nr extents that share one. */
static void make_large(struct bale_inode *i, uint64_t nr)
{
	uint64_t have = 1;
	size_t n;

	assert_int_equal(put(i, text, EXTENT, 0), 0);
	while (have < nr) {
		uint64_t more = have < 1024 ? have : 1024;

		assert_int_equal(bale_file_copy_range(i, 0, i, have * EXTENT,
						      more * EXTENT, &n),
				 0);
		assert_int_equal(n, more * EXTENT);
		have += more;
	}
}

/*
 * A cut of many extents takes several transactions and an orphan row of its
 * own. It took away the row of a file without names: after a crash nobody
 * knew that it was to be freed.
 */
static void large_cut_of_a_deleted_file_leaves_it_an_orphan(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644), *again;
	uint64_t ino = i->ino;

	make_large(i, 24 << 10);
	bale_inode_open(i);
	assert_int_equal(bale_dir_unlink(f->root, "f"), 0);
	assert_int_equal(bale_fault_arm("truncate.step:1000"), 0);
	assert_int_equal(cut(i, EXTENT), 0);
	assert_true(bale_fault_count("truncate.step") > 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	bale_inode_put(i); /* a handle is what is left */
	crash(f);
	fx_open(f, false);
	assert_int_equal(bale_inode_get(f->fs, ino, &again), -ENOENT);
}

/*
 * A hole made of what was patched and fsynced: its patches went in one
 * transaction, what they were laid over in the next. A crash in between showed
 * what had been there before the patch.
 */
static void punched_patch_does_not_uncover_what_was_before(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644);
	const uint8_t *p;

	assert_int_equal(put(i, text, 3 * EXTENT, 0), 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	assert_int_equal(put(i, "patched", 7, EXTENT + 50), 0);
	assert_int_equal(bale_file_fsync(i, false), 0);
	/* The first transaction gets through, then the lights go out. */
	assert_int_equal(bale_fault_arm("meta.stage:2+:EIO"), 0);
	punch(i, EXTENT, EXTENT);
	bale_fault_clear();
	assert_int_equal(bale_meta_sync(f->fs->meta, 0), 0);
	bale_inode_put(i);
	crash(f);
	fx_open(f, false);
	i = fx_get(f->root, "f");
	p = get(i, 7, EXTENT + 50);
	assert_true(!memcmp(p, "patched", 7) || all_zero(p, 7));
	assert_memory_equal(get(i, EXTENT, 0), text, EXTENT);
	bale_inode_put(i);
}

/* Many map rows, which take several transactions. */
static void punched_range_of_many_rows_is_a_hole(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644);
	uint64_t nr = 10 << 10, at;

	make_large(i, nr);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	assert_int_equal(put(i, "dirty", 5, (nr - 2) * EXTENT), 0);
	assert_int_equal(bale_fault_arm("punch.step:1000"), 0);
	assert_int_equal(punch(i, EXTENT, (nr - 2) * EXTENT), 0);
	assert_true(bale_fault_count("punch.step") > 1);
	for (unsigned int k = 0; k < 2; k++) {
		assert_int_equal(bale_file_seek(i, EXTENT, SEEK_DATA, &at), 0);
		assert_int_equal(at, (nr - 1) * EXTENT);
		assert_true(
			all_zero(get(i, EXTENT, (nr - 2) * EXTENT), EXTENT));
		assert_memory_equal(get(i, EXTENT, (nr - 1) * EXTENT), text,
				    EXTENT);
		assert_memory_equal(get(i, EXTENT, 0), text, EXTENT);
		bale_inode_put(i);
		fx_remount(f);
		i = fx_get(f->root, "f");
	}
	bale_inode_put(i);
}

/* ---- commits that are refused ---- */

/* It had the new size nevertheless. */
static void refused_growth_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644);
	struct bale_inode_row row;

	assert_int_equal(put(i, text, 100, 0), 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	assert_int_equal(bale_fault_arm("meta.stage:1:ENOMEM"), 0);
	assert_int_equal(cut(i, 200), -ENOMEM);
	bale_fault_clear();
	bale_inode_attr(i, &row);
	assert_int_equal(row.size, 100);
	bale_inode_put(i);
}

/* What a rename puts over a file is stored before the name; when it cannot be,
 * the name stays. */
static void refused_order_keeps_the_name(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *old = fx_mk(f->root, "target", S_IFREG | 0644), *i;
	struct bale_inode *fresh = fx_mk(f->root, "fresh", S_IFREG | 0644);

	assert_int_equal(put(old, text, 100, 0), 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	assert_int_equal(put(fresh, text, sizeof(text), 0), 0);
	assert_int_equal(bale_fault_arm("flush.memory:1:ENOMEM"), 0);
	assert_int_equal(
		bale_dir_rename(f->root, "fresh", f->root, "target", 0),
		-ENOMEM);
	bale_fault_clear();
	assert_int_equal(bale_dir_lookup(f->root, "target", &i), 0);
	assert_ptr_equal(i, old);
	bale_inode_put(i);
	assert_int_equal(
		bale_dir_rename(f->root, "fresh", f->root, "target", 0), 0);
	assert_int_equal(bale_dir_lookup(f->root, "target", &i), 0);
	assert_ptr_equal(i, fresh);
	bale_inode_put(i);
	bale_inode_put(old);
	bale_inode_put(fresh);
}

/* After a failure that left memory ahead of the log no change is taken any
 * more; the store is as it was. */
static struct bale_inode *failed_and_opened_again(struct fixture *f,
						  struct bale_inode *i)
{
	bale_fault_clear();
	assert_int_equal(put(i, text, 10, 0), -EROFS);
	bale_inode_put(i);
	crash(f);
	fx_open(f, false);
	return fx_get(f->root, "f");
}

/* It went on, with what was cut away gone in memory only. */
static void refused_cut_stops_the_mount(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644);

	assert_int_equal(put(i, text, 3 * EXTENT, 0), 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	assert_int_equal(bale_fault_arm("meta.stage:1:ENOMEM"), 0);
	assert_int_equal(cut(i, EXTENT), -ENOMEM);
	i = failed_and_opened_again(f, i);
	assert_memory_equal(get(i, EXTENT, 2 * EXTENT), text + 2 * EXTENT,
			    EXTENT);
	bale_inode_put(i);
}

/*
 * Memory had the shared extents in the file's map, without references to them.
 * The next flush stored that row: with the original deleted, the copy named
 * extents that were gone.
 */
static void refused_share_stops_the_mount(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *from = fx_mk(f->root, "from", S_IFREG | 0644);
	struct bale_inode *i = fx_mk(f->root, "f", S_IFREG | 0644);
	size_t n;

	assert_int_equal(put(from, text + EXTENT, 2 * EXTENT, 0), 0);
	assert_int_equal(put(i, text, 3 * EXTENT, 0), 0);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	assert_int_equal(bale_fault_arm("meta.stage:1:ENOMEM"), 0);
	assert_int_equal(bale_file_copy_range(from, 0, i, 0, 2 * EXTENT, &n),
			 -ENOMEM);
	bale_fault_clear();
	if (!bale_store_error(f->fs->store)) {
		assert_int_equal(put(i, text, 10, 2 * EXTENT), 0);
		assert_int_equal(bale_dir_unlink(f->root, "from"), 0);
		assert_int_equal(bale_fs_sync(f->fs), 0);
		bale_inode_put(from);
		bale_inode_put(i);
		fx_remount(f);
		i = fx_get(f->root, "f");
	} else {
		bale_inode_put(from);
		i = failed_and_opened_again(f, i);
	}
	assert_memory_equal(get(i, EXTENT, 0), text, EXTENT);
	bale_inode_put(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(left_patches_are_copied),
		T(left_patches_beyond_a_cut_are_gone),
		T(large_cut_of_a_deleted_file_leaves_it_an_orphan),
		T(punched_patch_does_not_uncover_what_was_before),
		T(punched_range_of_many_rows_is_a_hole),
		T(refused_growth_changes_nothing),
		T(refused_order_keeps_the_name),
		T(refused_cut_stops_the_mount),
		T(refused_share_stops_the_mount),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
