/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck on stores broken in every way it claims to know: what -n says, what -y
 * mends, and that a second run finds nothing more.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fs/codec/codec.h"
#include "tests/tools/fsck_fixture.h"

static void expect(struct fx *x, const char *args, int want, const char *text)
{
	int got = fx_fsck(x, args);

	if (got != want || (text && !strstr(x->out, text)))
		fail_msg("fsck %s: status %d, want %d, with \"%s\":\n%s", args,
			 got, want, text ? text : "", x->out);
}

/* Close; -n tells and leaves it, -y mends, then it is clean; open again. */
static void told_and_mended(struct fx *x, const char *text)
{
	fx_close(x);
	expect(x, "-n", 4, text);
	expect(x, "-n", 4, text);
	expect(x, "-y", 1, text);
	expect(x, "-n -f --deep", 0, "clean");
	fx_open(x);
}

/* Damage that stays: nothing may make it look like good data. */
static void told_and_kept(struct fx *x, const char *args, const char *text,
			  const char *path)
{
	char buf[64];

	fx_close(x);
	for (int k = 0; k < 2; k++) {
		snprintf(buf, sizeof(buf), "%s%s", k ? "-y" : "-n", args);
		expect(x, buf, 4, text);
		assert_non_null(strstr(x->out, path));
	}
	fx_open(x);
}

static void clean_store(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	expect(x, "", 0, "clean, 6 inodes, 2 extents");
	expect(x, "-n --deep", 0, "clean");
	expect(x, "-p", 0, "clean (-f");
	expect(x, "-p -f", 0, "clean, 6");
	expect(x, "-y --deep", 0, "clean");
	expect(x, "--rebuild-index", 0, "clean");
	expect(x, "--json", 0, "\"exit\": 0");
	fx_open(x);
}

static void wrong_calls(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	expect(x, "-n -y", 16, "only one of");
	expect(x, "--nonsense", 16, "--nonsense");
	expect(x, "a", 16, "want one STORE");
	snprintf(x->store, sizeof(x->store), "%s/none", x->dir);
	expect(x, "", 8, "none");
	snprintf(x->store, sizeof(x->store), "%s/store", x->dir);
	fx_open(x);
}

static void a_store_in_use_is_refused(void **state)
{
	struct fx *x = *state;

	expect(x, "-y", 8, "in use by pid");
	expect(x, "-n", 8, "in use by pid");
}

/* ---- names ---- */

static void dirent_gone(void **state)
{
	struct fx *x = *state;

	fx_del_dirent(x, x->subdir, "hard");
	told_and_mended(x, "hard, which is no name there");
	assert_int_equal(fx_lookup(x, BALE_ROOT_INO, "file"), x->file);
}

static void last_name_gone(void **state)
{
	struct fx *x = *state;
	char name[32];

	fx_del_dirent(x, x->subdir, "inner");
	fx_del_cookie(x, x->subdir, 4);
	told_and_mended(x, "no name leads to it");
	snprintf(name, sizeof(name), "#%d", (int)x->inner);
	assert_int_equal(fx_lookup(x, fx_lookup(x, 1, "lost+found"), name),
			 x->inner);
}

static void directory_without_name(void **state)
{
	struct fx *x = *state;

	fx_del_dirent(x, BALE_ROOT_INO, "dir");
	fx_del_cookie(x, BALE_ROOT_INO, 3);
	told_and_mended(x, "(directory): no name leads to it");
	assert_int_equal(fx_lookup(x, x->subdir, "inner"), x->inner);
}

static void name_of_nothing(void **state)
{
	struct fx *x = *state;

	fx_put_dirent(x, BALE_ROOT_INO, "ghost", 4711, DT_REG, 9);
	fx_put_cookie(x, BALE_ROOT_INO, "ghost", 4711, DT_REG, 9);
	told_and_mended(x, "ghost in directory 1: of an inode that does not");
	assert_int_equal(fx_lookup(x, 1, "ghost"), 0);
}

static void name_in_nothing(void **state)
{
	struct fx *x = *state;

	fx_put_dirent(x, 4711, "file", x->file, DT_REG, 3);
	fx_put_cookie(x, 4711, "file", x->file, DT_REG, 3);
	told_and_mended(x, "in a directory that does not exist");
}

static void name_in_a_file(void **state)
{
	struct fx *x = *state;

	fx_put_dirent(x, x->file, "inner", x->inner, DT_REG, 3);
	fx_put_cookie(x, x->file, "inner", x->inner, DT_REG, 3);
	told_and_mended(x, "in an inode that is no directory");
}

static void second_name_of_a_directory(void **state)
{
	struct fx *x = *state;

	fx_put_dirent(x, x->subdir, "again", x->empty, DT_DIR, 9);
	fx_put_cookie(x, x->subdir, "again", x->empty, DT_DIR, 9);
	told_and_mended(x, "is a directory's second name");
}

static void ring_of_directories(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row d;

	/* /dir moves into its own subdirectory. */
	fx_del_dirent(x, BALE_ROOT_INO, "dir");
	fx_del_cookie(x, BALE_ROOT_INO, 3);
	fx_put_dirent(x, x->empty, "dir", x->subdir, DT_DIR, 3);
	fx_put_cookie(x, x->empty, "dir", x->subdir, DT_DIR, 3);
	fx_get_inode(x, x->empty, &d);
	d.next_cookie = 4;
	fx_put_inode(x, x->empty, &d);
	told_and_mended(x, "its path is a ring");
	assert_int_equal(fx_lookup(x, x->subdir, "inner"), x->inner);
	/* Cut once: what hangs from it stays where it is. */
	assert_int_equal(fx_lookup(x, x->subdir, "sub"), x->empty);
}

static void cookie_gone(void **state)
{
	struct fx *x = *state;

	fx_del_cookie(x, BALE_ROOT_INO, 4);
	told_and_mended(x, "name file in directory 1: its place in the listing "
			   "is missing");
}

static void cookie_of_another_inode(void **state)
{
	struct fx *x = *state;

	fx_put_cookie(x, BALE_ROOT_INO, "file", x->inner, DT_REG, 4);
	told_and_mended(x, "tells another inode");
}

static void two_names_with_one_cookie(void **state)
{
	struct fx *x = *state;

	fx_put_dirent(x, BALE_ROOT_INO, "sym", x->sym, DT_LNK, 4);
	fx_del_cookie(x, BALE_ROOT_INO, 5);
	told_and_mended(x, "is another name's");
	assert_int_equal(fx_lookup(x, 1, "sym"), x->sym);
}

static void cookie_counter_behind(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row d;

	fx_get_inode(x, BALE_ROOT_INO, &d);
	d.next_cookie = 4;
	fx_put_inode(x, BALE_ROOT_INO, &d);
	told_and_mended(x, "next cookie 4");
}

static void name_with_wrong_type(void **state)
{
	struct fx *x = *state;

	fx_put_dirent(x, BALE_ROOT_INO, "file", x->file, DT_FIFO, 4);
	fx_put_cookie(x, BALE_ROOT_INO, "file", x->file, DT_FIFO, 4);
	told_and_mended(x, "type 1, its inode's is 8");
}

/* ---- inodes ---- */

static void wrong_counts(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row r;

	fx_get_inode(x, x->file, &r);
	r.nlink = 7;
	r.stored = 1;
	fx_put_inode(x, x->file, &r);
	fx_get_inode(x, x->subdir, &r);
	r.nlink = 9;
	r.nr_entries = 1;
	r.parent = x->empty;
	fx_put_inode(x, x->subdir, &r);
	fx_close(x);
	expect(x, "-n", 4, "link count 7, should be 2");
	assert_non_null(strstr(x->out, "stored bytes 1,"));
	assert_non_null(strstr(x->out, "link count 9, should be 3"));
	assert_non_null(strstr(x->out, "number of entries 1, should be 3"));
	assert_non_null(strstr(x->out, "parent directory"));
	expect(x, "-p -f", 1, "mended");
	expect(x, "-n", 0, "clean");
	fx_open(x);
}

static void xattrs_without_flag(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row r;

	fx_get_inode(x, x->file, &r);
	r.flags = 0;
	fx_put_inode(x, x->file, &r);
	told_and_mended(x, "extended attributes, but no flag");
}

static void inode_gone_content_there(void **state)
{
	struct fx *x = *state;
	be64 k[2] = { be64_put(x->file), be64_put(x->inner) };
	struct bale_inode_row r;

	fx_del(x, BALE_TABLE_inode, &k[0], 8);
	fx_del(x, BALE_TABLE_inode, &k[1], 8);
	told_and_mended(x, "is missing, its content is there");
	assert_int_equal(fx_lookup(x, 1, "file"), x->file);
	fx_get_inode(x, x->file, &r);
	assert_int_equal(r.size, 2 * FX_EXTENT);
	assert_int_equal(r.nlink, 2);
	fx_get_inode(x, x->inner, &r);
	assert_int_equal(r.size, 5);
}

static void rows_of_nobody(void **state)
{
	struct fx *x = *state;
	be64 k[3] = { be64_put(4711), be64_put(0), be64_put(1) };
	uint8_t key[16];
	le64 reason = le64_put(1);

	memcpy(key, &k[0], 8);
	memcpy(key + 8, "user.x", 6);
	fx_put(x, BALE_TABLE_xattr, key, 14, "y", 1);
	fx_put(x, BALE_TABLE_patch, k, 24, "\0\0\0\0hello", 9);
	fx_put(x, BALE_TABLE_orphan, k, 8, &reason, 8);
	fx_close(x);
	expect(x, "-n", 4, "attribute of inode 4711");
	assert_non_null(strstr(x->out, "patch of inode 4711: no such inode"));
	assert_non_null(strstr(x->out, "orphan list: inode 4711"));
	expect(x, "-y", 1, "mended");
	expect(x, "-n", 0, "clean");
	fx_open(x);
}

static void deleted_while_open_is_no_problem(void **state)
{
	struct fx *x = *state;
	struct bale_inode_row r = { .mode = S_IFREG | 0600 };
	be64 k = be64_put(x->inner + 100);
	le64 reason = le64_put(1);

	fx_put_inode(x, x->inner + 100, &r);
	fx_put(x, BALE_TABLE_orphan, &k, 8, &reason, 8);
	fx_close(x);
	expect(x, "-n", 0, "clean");
	fx_open(x);
}

static void inline_content_of_a_directory(void **state)
{
	struct fx *x = *state;
	be64 k = be64_put(x->empty);
	struct bale_disk_inline d = { .raw_len = le32_put(2) };
	uint8_t val[sizeof(d) + 2] = { 0 };

	memcpy(val, &d, sizeof(d));
	fx_put(x, BALE_TABLE_inline, &k, 8, val, sizeof(val));
	told_and_mended(x, "inline content that it cannot have");
}

static void inline_content_gone(void **state)
{
	struct fx *x = *state;
	be64 k = be64_put(x->inner);

	fx_del(x, BALE_TABLE_inline, &k, 8);
	told_and_kept(x, "", "its inline content is gone",
		      "damaged file: /dir/inner");
}

static void inline_content_does_not_decode(void **state)
{
	struct fx *x = *state;
	be64 k = be64_put(x->inner);
	struct bale_disk_inline d = { .raw_len = le32_put(500),
				      .codec = BALE_CODEC_lz4 };
	uint8_t val[sizeof(d) + 5];

	memcpy(val, &d, sizeof(d));
	memcpy(val + sizeof(d), "hello", 5);
	fx_put(x, BALE_TABLE_inline, &k, 8, val, sizeof(val));
	told_and_kept(x, "", "does not decode", "/dir/inner");
}

static void counters_behind(void **state)
{
	struct fx *x = *state;
	le64 one = le64_put(1);

	fx_put(x, BALE_TABLE_meta, "next_ino", 8, &one, 8);
	fx_put(x, BALE_TABLE_meta, "next_extent", 11, &one, 8);
	told_and_mended(x, "counter next_ino is 1");
}

/* ---- extents ---- */

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

static void too_many_references(void **state)
{
	struct fx *x = *state;

	set_refs(x, x->ext[0], 5);
	told_and_mended(x, "5 references, 1 in maps");
}

/* Once told as mended, and left as it was, beyond a million. */
static void far_too_many_references(void **state)
{
	struct fx *x = *state;

	set_refs(x, x->ext[0], 4000000000u);
	told_and_mended(x, "4000000000 references, 1 in maps");
}

static void too_few_references(void **state)
{
	struct fx *x = *state;
	be64 key[2] = { be64_put(x->file), be64_put(1) };
	struct bale_extent_row row;
	struct bale_inode_row r;
	le64 map = le64_put(x->ext[0]);

	fx_put(x, BALE_TABLE_map, key, 16, &map, 8);
	assert_int_equal(bale_meta_extent(x->m, x->ext[0], &row), 0);
	fx_get_inode(x, x->file, &r);
	r.stored += row.stored_len;
	r.size = 65 * FX_EXTENT;
	fx_put_inode(x, x->file, &r);
	told_and_mended(x, "1 references, 2 in maps");
}

static void extent_in_no_map(void **state)
{
	struct fx *x = *state;
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
	told_and_mended(x, "1 references, in no map");
}

static void map_names_a_missing_extent(void **state)
{
	struct fx *x = *state;
	be64 k = be64_put(x->ext[1]);

	fx_del(x, BALE_TABLE_extent, &k, 8);
	fx_close(x);
	expect(x, "-n", 4, "does not exist");
	assert_non_null(strstr(x->out, "damaged file: /file: bytes "
				       "131072-262143"));
	assert_non_null(strstr(x->out, "damaged file: /dir/hard"));
	/* The segment's live bytes are mended, the hole in the file is not. */
	assert_int_equal(fx_fsck(x, "-y") & 4, 4);
	expect(x, "-n", 4, "damaged file: /file");
	fx_open(x);
}

static void map_of_a_directory(void **state)
{
	struct fx *x = *state;
	be64 key[2] = { be64_put(x->empty), be64_put(0) };
	le64 map = le64_put(x->ext[0]);

	fx_put(x, BALE_TABLE_map, key, 16, &map, 8);
	told_and_mended(x, "is no regular file and has an extent map");
}

/* -p leaves the map, and so what it names: it may be all that is left of a
 * file. */
static void map_of_a_directory_keeps_its_extents(void **state)
{
	struct fx *x = *state;
	be64 from[2] = { be64_put(x->file), be64_put(0) };
	be64 to[2] = { be64_put(x->empty), be64_put(0) };
	le64 map[2] = { le64_put(x->ext[0]), le64_put(x->ext[1]) };
	struct bale_extent_row row;

	fx_del(x, BALE_TABLE_map, from, 16);
	fx_put(x, BALE_TABLE_map, to, 16, map, sizeof(map));
	fx_close(x);
	assert_int_equal(fx_fsck(x, "-p -f") & 4, 4);
	fx_open(x);
	for (int k = 0; k < 2; k++)
		assert_int_equal(bale_meta_extent(x->m, x->ext[k], &row), 0);
	fx_close(x);
	expect(x, "-y", 1, "is no regular file and has an extent map");
	expect(x, "-n", 0, "clean");
	fx_open(x);
}

static void segment_usage_wrong(void **state)
{
	struct fx *x = *state;
	be64 k = be64_put(0);
	struct bale_disk_segment d;
	size_t len;

	assert_int_equal(bale_meta_sync(x->m, 0), 0);
	assert_int_equal(bale_meta_get(x->m, BALE_TABLE_segment, &k, 8, &d,
				       sizeof(d), &len),
			 0);
	d.live = le64_put(1000);
	fx_put(x, BALE_TABLE_segment, &k, 8, &d, sizeof(d));
	told_and_mended(x, "1000 bytes alive");
}

static const char segment0[] = "seg/0000000000000000";

static void payload_damaged(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	fx_flip(x, segment0, 100000);
	expect(x, "-n", 0, "clean"); /* only --deep reads data */
	fx_open(x);
	told_and_kept(x, " --deep", "checksum mismatch",
		      "damaged file: /file: bytes 0-131071");
}

static void bale_header_damaged(void **state)
{
	struct fx *x = *state;

	bale_meta_sync(x->m, 0);
	fx_close(x);
	fx_flip(x, segment0, 20);
	fx_open(x);
	told_and_mended(x, "description is damaged, its bytes are good");
}

static void segment_gone(void **state)
{
	struct fx *x = *state;

	fx_close(x);
	fx_remove(x, segment0);
	expect(x, "-n", 4, "damaged file: /file");
	/* Each is told once, by fsck: there may be millions. */
	assert_null(strstr(x->out, "segment 0 offset"));
	assert_int_equal(fx_fsck(x, "-y") & 4, 4);
	expect(x, "-n", 4, "damaged file: /dir/hard");
	fx_open(x);
	assert_int_equal(fx_lookup(x, x->subdir, "inner"), x->inner);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)
	const struct CMUnitTest tests[] = {
		T(clean_store),
		T(wrong_calls),
		T(a_store_in_use_is_refused),
		T(dirent_gone),
		T(last_name_gone),
		T(directory_without_name),
		T(name_of_nothing),
		T(name_in_nothing),
		T(name_in_a_file),
		T(second_name_of_a_directory),
		T(ring_of_directories),
		T(cookie_gone),
		T(cookie_of_another_inode),
		T(two_names_with_one_cookie),
		T(cookie_counter_behind),
		T(name_with_wrong_type),
		T(wrong_counts),
		T(xattrs_without_flag),
		T(inode_gone_content_there),
		T(rows_of_nobody),
		T(deleted_while_open_is_no_problem),
		T(inline_content_of_a_directory),
		T(inline_content_gone),
		T(inline_content_does_not_decode),
		T(counters_behind),
		T(too_many_references),
		T(far_too_many_references),
		T(too_few_references),
		T(extent_in_no_map),
		T(map_names_a_missing_extent),
		T(map_of_a_directory),
		T(map_of_a_directory_keeps_its_extents),
		T(segment_usage_wrong),
		T(payload_damaged),
		T(bale_header_damaged),
		T(segment_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
