/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_break.c - see fsck_break.h; in the order of docs/fsck.md. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fs/codec/codec.h"
#include "tests/tools/fsck_break.h"

static const char log0[] = "log/0000000000000000";
static const char segment0[] = "seg/0000000000000000";

/* ---- files of the store ---- */

static void super_damaged(struct fx *x)
{
	fx_close(x);
	fx_flip(x, "super.0", 100);
}

static void super_missing(struct fx *x)
{
	fx_close(x);
	fx_remove(x, "super.1");
}

static int note_ckpt(const char *name, void *arg)
{
	if (strlen(name) == 16)
		snprintf(arg, 32, "ckpt/%s", name);
	return 0;
}

static void checkpoint_damaged(struct fx *x)
{
	struct bale_io *io;
	char name[32] = "";

	assert_int_equal(bale_meta_checkpoint(x->m), 0);
	fx_close(x);
	assert_int_equal(bale_io_open(x->store, true, &io), 0);
	io->ops->list(io, "ckpt", note_ckpt, name);
	bale_io_close(io);
	fx_flip(x, name, 200);
}

/* Commits of one name each; the record of `which` is damaged. */
static void damage_log(struct fx *x, const char *which)
{
	static const char *const names[] = { "one", "two", "three" };
	long at;

	assert_int_equal(bale_meta_sync(x->m, 0), 0);
	for (int k = 0; k < 3; k++) {
		struct bale_inode_row d;

		fx_get_inode(x, x->empty, &d);
		fx_put_dirent(x, x->empty, names[k], x->sym, DT_LNK,
			      d.next_cookie);
		fx_put_cookie(x, x->empty, names[k], x->sym, DT_LNK,
			      d.next_cookie++);
		d.nr_entries++;
		fx_put_inode(x, x->empty, &d);
		fx_get_inode(x, x->sym, &d);
		d.nlink++;
		fx_put_inode(x, x->sym, &d);
		assert_int_equal(bale_meta_sync(x->m, 0), 0);
	}
	fx_close(x);
	at = fx_find(x, log0, which, strlen(which), 0);
	assert_true(at > 0);
	fx_flip(x, log0, at);
}

static void log_damaged(struct fx *x)
{
	damage_log(x, "two");
}

static void log_damaged_index_gone(struct fx *x)
{
	damage_log(x, "two");
	fx_remove(x, "index");
}

/* The damage is in the first file of several. */
static void log_files_damaged_index_gone(struct fx *x)
{
	static uint8_t text[4096];
	be64 key[2] = { be64_put(x->file), be64_put(0) };
	uint8_t name[12];
	long at;

	memcpy(name, key, 8);
	memcpy(name + 8, "user", 4);
	for (unsigned int k = 0; k < 700; k++) {
		memset(text, (int)('a' + k % 26), sizeof(text));
		fx_put(x, BALE_TABLE_xattr, name, sizeof(name), text,
		       sizeof(text));
		assert_int_equal(bale_meta_sync(x->m, 0), 0);
	}
	fx_close(x);
	memset(text, 'b', sizeof(text));
	at = fx_find(x, log0, text, sizeof(text), 300000);
	assert_true(at > 0);
	fx_flip(x, log0, at + 100);
	fx_remove(x, "index");
}

static void log_tail_torn(struct fx *x)
{
	long last = -1, at = -1;

	assert_int_equal(bale_meta_sync(x->m, 0), 0);
	fx_put_dirent(x, x->empty, "late", x->sym, DT_LNK, 3);
	fx_close(x);
	while ((at = fx_find(x, log0, BALE_LOG_MAGIC, 8, at + 1)) >= 0)
		last = at;
	fx_remove(x, "index");
	fx_flip(x, log0, last + 70);
}

static void index_damaged(struct fx *x)
{
	fx_close(x);
	for (long off = 100; off < 20000; off += 4096)
		fx_flip(x, "index/data.mdb", off);
}

static void index_missing(struct fx *x)
{
	fx_close(x);
	fx_remove(x, "index");
}

/* ---- names and inodes ---- */

static void name_of_nothing(struct fx *x)
{
	fx_put_dirent(x, BALE_ROOT_INO, "ghost", 4711, DT_REG, 9);
	fx_put_cookie(x, BALE_ROOT_INO, "ghost", 4711, DT_REG, 9);
	fx_close(x);
}

static void name_in_nothing(struct fx *x)
{
	fx_put_dirent(x, 4711, "inner", x->inner, DT_REG, 3);
	fx_put_cookie(x, 4711, "inner", x->inner, DT_REG, 3);
	fx_del_dirent(x, x->subdir, "inner");
	fx_del_cookie(x, x->subdir, 4);
	fx_close(x);
}

static void second_name_of_a_directory(struct fx *x)
{
	fx_put_dirent(x, x->subdir, "again", x->empty, DT_DIR, 9);
	fx_put_cookie(x, x->subdir, "again", x->empty, DT_DIR, 9);
	fx_close(x);
}

static void name_type(struct fx *x)
{
	fx_put_dirent(x, BALE_ROOT_INO, "file", x->file, DT_FIFO, 4);
	fx_put_cookie(x, BALE_ROOT_INO, "file", x->file, DT_FIFO, 4);
	fx_close(x);
}

static void cookies(struct fx *x)
{
	struct bale_inode_row d;

	fx_del_cookie(x, BALE_ROOT_INO, 3);
	fx_put_cookie(x, BALE_ROOT_INO, "file", x->inner, DT_REG, 4);
	fx_put_dirent(x, x->subdir, "inner", x->inner, DT_REG, 3);
	fx_put_cookie(x, x->empty, "none", x->inner, DT_REG, 3);
	fx_get_inode(x, x->subdir, &d);
	d.next_cookie = 4;
	fx_put_inode(x, x->subdir, &d);
	fx_close(x);
}

static void unreachable(struct fx *x)
{
	fx_del_dirent(x, BALE_ROOT_INO, "dir");
	fx_del_cookie(x, BALE_ROOT_INO, 3);
	fx_del_dirent(x, BALE_ROOT_INO, "sym");
	fx_del_cookie(x, BALE_ROOT_INO, 5);
	fx_close(x);
}

static void ring(struct fx *x)
{
	fx_del_dirent(x, BALE_ROOT_INO, "dir");
	fx_del_cookie(x, BALE_ROOT_INO, 3);
	fx_put_dirent(x, x->empty, "dir", x->subdir, DT_DIR, 3);
	fx_put_cookie(x, x->empty, "dir", x->subdir, DT_DIR, 3);
	fx_close(x);
}

static void counts(struct fx *x)
{
	struct bale_inode_row r;

	fx_get_inode(x, x->file, &r);
	r.nlink = 7;
	r.stored = 1;
	r.flags = 0;
	fx_put_inode(x, x->file, &r);
	fx_get_inode(x, x->subdir, &r);
	r.nlink = 9;
	r.nr_entries = 1;
	r.parent = x->empty;
	fx_put_inode(x, x->subdir, &r);
	fx_close(x);
}

static void inode_lost(struct fx *x)
{
	be64 k[2] = { be64_put(x->file), be64_put(x->inner) };

	fx_del(x, BALE_TABLE_inode, &k[0], 8);
	fx_del(x, BALE_TABLE_inode, &k[1], 8);
	fx_close(x);
}

static void rows_of_nobody(struct fx *x)
{
	be64 k[3] = { be64_put(4711), be64_put(0), be64_put(1) };
	uint8_t key[14];
	le64 reason = le64_put(1);

	memcpy(key, &k[0], 8);
	memcpy(key + 8, "user.x", 6);
	fx_put(x, BALE_TABLE_xattr, key, sizeof(key), "y", 1);
	fx_put(x, BALE_TABLE_patch, k, 24, "\0\0\0\0hello", 9);
	fx_put(x, BALE_TABLE_orphan, k, 8, &reason, 8);
	fx_close(x);
}

static void inline_of_a_directory(struct fx *x)
{
	be64 k = be64_put(x->empty);
	struct bale_disk_inline d = { .raw_len = le32_put(2) };
	uint8_t val[sizeof(d) + 2] = { 0 };

	memcpy(val, &d, sizeof(d));
	fx_put(x, BALE_TABLE_inline, &k, 8, val, sizeof(val));
	fx_close(x);
}

static void inline_gone(struct fx *x)
{
	be64 k = be64_put(x->inner);

	fx_del(x, BALE_TABLE_inline, &k, 8);
	fx_close(x);
}

static void inline_damaged(struct fx *x)
{
	be64 k = be64_put(x->inner);
	struct bale_disk_inline d = { .raw_len = le32_put(500),
				      .codec = BALE_CODEC_lz4 };
	uint8_t val[sizeof(d) + 5];

	memcpy(val, &d, sizeof(d));
	memcpy(val + sizeof(d), "hello", 5);
	fx_put(x, BALE_TABLE_inline, &k, 8, val, sizeof(val));
	fx_close(x);
}

static void counters(struct fx *x)
{
	le64 one = le64_put(1);

	fx_put(x, BALE_TABLE_meta, "next_ino", 8, &one, 8);
	fx_put(x, BALE_TABLE_meta, "next_extent", 11, &one, 8);
	fx_close(x);
}

/* ---- extents and segments ---- */

static void set_refs(struct fx *x, uint64_t id, uint32_t refs)
{
	struct bale_extent_row row;
	struct bale_disk_extent d;
	be64 k = be64_put(id);

	assert_int_equal(bale_meta_extent(x->m, id, &row), 0);
	row.refs = refs;
	bale_extent_encode(&row, &d);
	fx_put(x, BALE_TABLE_extent, &k, 8, &d, sizeof(d));
}

static void extent_missing(struct fx *x)
{
	be64 k = be64_put(x->ext[1]);

	fx_del(x, BALE_TABLE_extent, &k, 8);
	fx_close(x);
}

static void map_of_a_directory(struct fx *x)
{
	be64 key[2] = { be64_put(x->empty), be64_put(0) };
	le64 map = le64_put(x->ext[0]);

	fx_put(x, BALE_TABLE_map, key, 16, &map, 8);
	fx_close(x);
}

static void extent_refs(struct fx *x)
{
	set_refs(x, x->ext[0], 5);
	set_refs(x, x->ext[1], 4000000000u);
	fx_close(x);
}

static void extent_unused(struct fx *x)
{
	be64 key[2] = { be64_put(x->file), be64_put(0) };
	struct bale_extent_row row;
	struct bale_inode_row r;
	le64 map = le64_put(x->ext[0]);

	assert_int_equal(bale_meta_extent(x->m, x->ext[1], &row), 0);
	fx_put(x, BALE_TABLE_map, key, 16, &map, 8);
	fx_get_inode(x, x->file, &r);
	r.stored -= row.stored_len;
	r.size = FX_EXTENT;
	fx_put_inode(x, x->file, &r);
	fx_close(x);
}

static void bale_header_damaged(struct fx *x)
{
	assert_int_equal(bale_meta_sync(x->m, 0), 0);
	fx_close(x);
	fx_flip(x, segment0, 20);
}

static void bale_and_payload_damaged(struct fx *x)
{
	bale_header_damaged(x);
	fx_flip(x, segment0, 100000);
}

static void segment_gone(struct fx *x)
{
	fx_close(x);
	fx_remove(x, segment0);
}

static void segment_usage(struct fx *x)
{
	be64 k = be64_put(0);
	struct bale_disk_segment d;
	size_t len;

	assert_int_equal(bale_meta_sync(x->m, 0), 0);
	assert_int_equal(bale_meta_get(x->m, BALE_TABLE_segment, &k, 8, &d,
				       sizeof(d), &len),
			 0);
	d.live = le64_put(1000);
	fx_put(x, BALE_TABLE_segment, &k, 8, &d, sizeof(d));
	fx_close(x);
}

/* Much at once, in every pass. */
static void everything(struct fx *x)
{
	be64 k = be64_put(x->inner);
	le64 one = le64_put(1);

	fx_del(x, BALE_TABLE_inode, &k, 8);
	fx_put(x, BALE_TABLE_meta, "next_ino", 8, &one, 8);
	set_refs(x, x->ext[0], 9);
	fx_put_dirent(x, BALE_ROOT_INO, "ghost", 4711, DT_REG, 9);
	fx_put_dirent(x, BALE_ROOT_INO, "file", x->file, DT_FIFO, 4);
	fx_put_cookie(x, x->empty, "none", x->inner, DT_REG, 3);
	map_of_a_directory(x);
	fx_open(x);
	ring(x);
	fx_flip(x, segment0, 20);
	fx_flip(x, "super.1", 100);
}

#define B(fn)                                                                  \
	{                                                                      \
#fn, fn                                                        \
	}
const struct fx_break fx_breaks[] = {
	B(super_damaged),
	B(super_missing),
	B(checkpoint_damaged),
	B(log_damaged),
	B(log_damaged_index_gone),
	B(log_files_damaged_index_gone),
	B(log_tail_torn),
	B(index_damaged),
	B(index_missing),
	B(name_of_nothing),
	B(name_in_nothing),
	B(second_name_of_a_directory),
	B(name_type),
	B(cookies),
	B(unreachable),
	B(ring),
	B(counts),
	B(inode_lost),
	B(rows_of_nobody),
	B(inline_of_a_directory),
	B(inline_gone),
	B(inline_damaged),
	B(counters),
	B(extent_missing),
	B(map_of_a_directory),
	B(extent_refs),
	B(extent_unused),
	B(bale_header_damaged),
	B(bale_and_payload_damaged),
	B(segment_gone),
	B(segment_usage),
	B(everything),
};
#undef B
const unsigned int fx_nr_breaks = sizeof(fx_breaks) / sizeof(fx_breaks[0]);
