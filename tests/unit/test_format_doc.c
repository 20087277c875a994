/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docs/format.md against include/balefs/format.h and container.h: every structure there is,
 * with its size, and every field with its offset and size. Fields of a
 * structure leave no gap, so none is missing here either.
 * usage: test_format_doc FORMAT.MD
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/container.h"
#include "balefs/format.h"

struct field {
	const char *type, *name; /* name NULL: the structure itself */
	size_t off, size;
};

#define S(type)                                                                \
	{                                                                      \
#type, NULL, 0, sizeof(struct type)                            \
	}
#define F(type, mem)                                                           \
	{                                                                      \
#type, #mem, offsetof(struct type, mem),                       \
			sizeof(((struct type *)0)->mem)                        \
	}

static const struct field fields[] = {
	S(bale_disk_super),
	F(bale_disk_super, magic),
	F(bale_disk_super, version),
	F(bale_disk_super, crc),
	F(bale_disk_super, uuid),
	F(bale_disk_super, compat),
	F(bale_disk_super, ro_compat),
	F(bale_disk_super, incompat),
	F(bale_disk_super, seq),
	F(bale_disk_super, created_sec),
	F(bale_disk_super, extent_bits),
	F(bale_disk_super, segment_bits),
	F(bale_disk_super, log_bits),
	F(bale_disk_super, codec),
	F(bale_disk_super, level),
	F(bale_disk_super, filter),
	F(bale_disk_super, pad),
	F(bale_disk_super, label),
	F(bale_disk_super, reserved),
	S(bale_disk_bale),
	F(bale_disk_bale, magic),
	F(bale_disk_bale, uuid),
	F(bale_disk_bale, segment),
	F(bale_disk_bale, seq),
	F(bale_disk_bale, offset),
	F(bale_disk_bale, nr_extents),
	F(bale_disk_bale, payload_len),
	F(bale_disk_bale, flags),
	F(bale_disk_bale, crc),
	S(bale_disk_bale_extent),
	F(bale_disk_bale_extent, id),
	F(bale_disk_bale_extent, ino),
	F(bale_disk_bale_extent, extent_no),
	F(bale_disk_bale_extent, raw_len),
	F(bale_disk_bale_extent, stored_len),
	F(bale_disk_bale_extent, crc),
	F(bale_disk_bale_extent, codec),
	F(bale_disk_bale_extent, filter),
	F(bale_disk_bale_extent, level),
	F(bale_disk_bale_extent, reason),
	S(bale_disk_container),
	F(bale_disk_container, magic),
	F(bale_disk_container, version),
	F(bale_disk_container, chunk_size),
	F(bale_disk_container, raw_len),
	F(bale_disk_container, stored_len),
	F(bale_disk_container, nr_chunks),
	F(bale_disk_container, table_crc),
	F(bale_disk_container, codec),
	F(bale_disk_container, level),
	F(bale_disk_container, filter),
	F(bale_disk_container, reserved),
	F(bale_disk_container, crc),
	S(bale_disk_container_chunk),
	F(bale_disk_container_chunk, stored_len),
	F(bale_disk_container_chunk, crc),
	F(bale_disk_container_chunk, codec),
	F(bale_disk_container_chunk, filter),
	F(bale_disk_container_chunk, level),
	F(bale_disk_container_chunk, reserved),
	S(bale_disk_log),
	F(bale_disk_log, magic),
	F(bale_disk_log, uuid),
	F(bale_disk_log, lsn),
	F(bale_disk_log, seq),
	F(bale_disk_log, body_len),
	F(bale_disk_log, body_crc),
	F(bale_disk_log, nr_ops),
	F(bale_disk_log, flags),
	F(bale_disk_log, pad),
	F(bale_disk_log, reserved),
	F(bale_disk_log, crc),
	S(bale_disk_op),
	F(bale_disk_op, kind),
	F(bale_disk_op, table),
	F(bale_disk_op, key_len),
	F(bale_disk_op, val_len),
	S(bale_disk_ckpt),
	F(bale_disk_ckpt, magic),
	F(bale_disk_ckpt, uuid),
	F(bale_disk_ckpt, start_lsn),
	F(bale_disk_ckpt, start_seq),
	F(bale_disk_ckpt, version),
	F(bale_disk_ckpt, flags),
	F(bale_disk_ckpt, reserved),
	F(bale_disk_ckpt, crc),
	S(bale_disk_ckpt_end),
	F(bale_disk_ckpt_end, magic),
	F(bale_disk_ckpt_end, end_lsn),
	F(bale_disk_ckpt_end, nr_rows),
	F(bale_disk_ckpt_end, nr_chunks),
	F(bale_disk_ckpt_end, reserved),
	F(bale_disk_ckpt_end, crc),
	S(bale_disk_time),
	F(bale_disk_time, sec),
	F(bale_disk_time, nsec),
	S(bale_disk_inode),
	F(bale_disk_inode, mode),
	F(bale_disk_inode, nlink),
	F(bale_disk_inode, uid),
	F(bale_disk_inode, gid),
	F(bale_disk_inode, size),
	F(bale_disk_inode, stored),
	F(bale_disk_inode, rdev),
	F(bale_disk_inode, atime),
	F(bale_disk_inode, mtime),
	F(bale_disk_inode, ctime),
	F(bale_disk_inode, btime),
	F(bale_disk_inode, flags),
	F(bale_disk_inode, generation),
	F(bale_disk_inode, parent),
	F(bale_disk_inode, next_cookie),
	F(bale_disk_inode, nr_entries),
	F(bale_disk_inode, codec),
	F(bale_disk_inode, level),
	F(bale_disk_inode, filter),
	F(bale_disk_inode, reserved),
	S(bale_disk_dirent),
	F(bale_disk_dirent, ino),
	F(bale_disk_dirent, cookie),
	F(bale_disk_dirent, type),
	F(bale_disk_dirent, reserved),
	S(bale_disk_cookie),
	F(bale_disk_cookie, ino),
	F(bale_disk_cookie, type),
	F(bale_disk_cookie, reserved),
	S(bale_disk_extent),
	F(bale_disk_extent, segment),
	F(bale_disk_extent, offset),
	F(bale_disk_extent, stored_len),
	F(bale_disk_extent, raw_len),
	F(bale_disk_extent, crc),
	F(bale_disk_extent, refs),
	F(bale_disk_extent, codec),
	F(bale_disk_extent, filter),
	F(bale_disk_extent, level),
	F(bale_disk_extent, reason),
	S(bale_disk_inline),
	F(bale_disk_inline, raw_len),
	F(bale_disk_inline, codec),
	F(bale_disk_inline, filter),
	F(bale_disk_inline, level),
	F(bale_disk_inline, reason),
	S(bale_disk_segment),
	F(bale_disk_segment, used),
	F(bale_disk_segment, live),
};
enum { NR_FIELDS = sizeof(fields) / sizeof(*fields) };

static const struct {
	const char *name;
	uint64_t value;
} constants[] = {
#define C(name)                                                                \
	{                                                                      \
#name, name                                                    \
	}
	C(BALE_ALIGN),		C(BALE_NAME_MAX),	C(BALE_SYMLINK_MAX),
	C(BALE_XATTR_NAME_MAX), C(BALE_XATTR_SIZE_MAX), C(BALE_INLINE_MAX),
	C(BALE_MAP_SLOTS),	C(BALE_ROOT_INO),	C(BALE_FIRST_INO),
	C(BALE_KEY_MAX),	C(BALE_VALUE_MAX),
#undef C
};

static const char *doc_path;
static char *doc;

static int load(void **state)
{
	FILE *f = fopen(doc_path, "r");
	size_t len;

	(void)state;
	doc = calloc(1, 1 << 20);
	if (!f || !doc)
		return -1;
	len = fread(doc, 1, (1 << 20) - 1, f);
	fclose(f);
	return len ? 0 : -1;
}

static int unload(void **state)
{
	(void)state;
	free(doc);
	return 0;
}

/* The header file has no structure that this test forgot. */
static void test_fields_leave_no_gap(void **state)
{
	size_t at = 0, size = 0;

	(void)state;
	for (size_t i = 0; i < NR_FIELDS; i++) {
		if (!fields[i].name) {
			assert_int_equal(size, at);
			at = 0;
			size = fields[i].size;
			continue;
		}
		assert_int_equal(at, fields[i].off);
		at += fields[i].size;
	}
	assert_int_equal(size, at);
}

/* The text from a structure's heading to the next heading. */
static char *section(const char *type)
{
	char heading[64], *at, *end, *copy;

	snprintf(heading, sizeof(heading), "# `struct %s`, ", type);
	at = strstr(doc, heading);
	if (!at)
		fail_msg("no heading for struct %s", type);
	end = strstr(at, "\n#");
	copy = strndup(at, end ? (size_t)(end - at) : strlen(at));
	assert_non_null(copy);
	return copy;
}

static void check_struct(const struct field *s, const char *text)
{
	size_t size;

	assert_int_equal(1, sscanf(strchr(text, ','), ", %zu bytes", &size));
	assert_int_equal(s->size, size);
}

static void check_field(const struct field *f, const char *text)
{
	char row[96];

	snprintf(row, sizeof(row), "\n| %zu | %zu | %s |", f->off, f->size,
		 f->name);
	if (!strstr(text, row))
		fail_msg("struct %s: no row%s", f->type, row);
}

static void test_structures(void **state)
{
	char *text = NULL;

	(void)state;
	for (size_t i = 0; i < NR_FIELDS; i++) {
		if (!fields[i].name) {
			free(text);
			text = section(fields[i].type);
			check_struct(&fields[i], text);
		} else {
			check_field(&fields[i], text);
		}
	}
	free(text);
}

/* And the other way round: the document describes nothing else. */
static void test_nothing_else(void **state)
{
	size_t rows = 0, heads = 0, want_rows = 0, want_heads = 0, a, b;

	(void)state;
	for (char *p = doc; (p = strstr(p, "\n")); p++) {
		heads += p[1] == '#' &&
			 !strncmp(p + 1 + strspn(p + 1, "#"), " `struct ", 9);
		rows += sscanf(p, "\n| %zu | %zu |", &a, &b) == 2;
	}
	for (size_t i = 0; i < NR_FIELDS; i++) {
		want_rows += fields[i].name != NULL;
		want_heads += fields[i].name == NULL;
	}
	assert_int_equal(want_heads, heads);
	assert_int_equal(want_rows, rows);
}

static void test_constants(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(constants) / sizeof(*constants); i++) {
		char row[96];

		snprintf(row, sizeof(row), "\n| %s | %llu |", constants[i].name,
			 (unsigned long long)constants[i].value);
		if (!strstr(doc, row))
			fail_msg("no row%s", row);
	}
}

static void test_names(void **state)
{
	static const struct {
		unsigned int id;
		const char *name;
	} tables[] = {
#define X(id, name) { id, #name },
		BALE_TABLES(X)
#undef X
	};
	static const char *const magics[] = {
		BALE_SUPER_MAGIC, BALE_BALE_MAGIC,     BALE_LOG_MAGIC,
		BALE_CKPT_MAGIC,  BALE_CKPT_END_MAGIC,
	};

	(void)state;
	for (size_t i = 0; i < BALE_TABLE_NR; i++) {
		char row[64];

		snprintf(row, sizeof(row), "\n| %u | %s |", tables[i].id,
			 tables[i].name);
		assert_non_null(strstr(doc, row));
	}
	for (size_t i = 0; i < sizeof(magics) / sizeof(*magics); i++) {
		char row[64];

		snprintf(row, sizeof(row), "| magic | `%s` |", magics[i]);
		assert_non_null(strstr(doc, row));
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_leave_no_gap),
		cmocka_unit_test(test_structures),
		cmocka_unit_test(test_nothing_else),
		cmocka_unit_test(test_constants),
		cmocka_unit_test(test_names),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s FORMAT.MD\n", argv[0]);
		return 2;
	}
	doc_path = argv[1];
	return cmocka_run_group_tests(tests, load, unload);
}
