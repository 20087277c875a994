/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every structure goes out and comes back; every single-bit error in a
 * checksummed one is found; every bound is tested from both sides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "balefs/codec.h"
#include "fs/base/crc32c.h"
#include "fs/format/format.h"

static const uint8_t uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8 };

/* ---- superblock ---- */

static struct bale_super a_super(void)
{
	struct bale_super s = {
		.seq = 7,
		.created_sec = 1700000000,
		.extent_bits = 17,
		.segment_bits = 28,
		.log_bits = 24,
		.codec = BALE_CODEC_auto,
		.level = -3,
		.label = "label",
	};

	memcpy(s.uuid, uuid, sizeof(uuid));
	return s;
}

static void test_super_round_trip(void **state)
{
	struct bale_super s = a_super(), back;
	struct bale_disk_super d;

	(void)state;
	memset(s.label, 'x', BALE_LABEL_MAX); /* the longest: no NUL on disk */
	bale_super_encode(&s, &d);
	assert_int_equal(0, bale_super_decode(&d, sizeof(d), &back));
	assert_memory_equal(&s, &back, sizeof(s));
	assert_int_equal(-EUCLEAN, bale_super_decode(&d, sizeof(d) - 1, &back));
}

static void test_super_every_bit(void **state)
{
	struct bale_super s = a_super(), back;
	struct bale_disk_super d;
	uint8_t *p = (uint8_t *)&d;

	(void)state;
	bale_super_encode(&s, &d);
	for (size_t i = 0; i < sizeof(d) * 8; i++) {
		p[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_not_equal(0,
				     bale_super_decode(&d, sizeof(d), &back));
		p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	assert_int_equal(0, bale_super_decode(&d, sizeof(d), &back));
}

/* Give a superblock with a changed field its right checksum. */
static int decode_resealed(struct bale_disk_super *d)
{
	struct bale_super back;

	d->crc = le32_put(0);
	d->crc = le32_put(bale_crc32c(0, d, sizeof(*d)));
	return bale_super_decode(d, sizeof(*d), &back);
}

static void test_super_bounds(void **state)
{
	static const struct {
		size_t off;
		uint8_t bad[3];
	} cases[] = {
		{ offsetof(struct bale_disk_super, extent_bits),
		  { 15, 23, 255 } },
		{ offsetof(struct bale_disk_super, segment_bits),
		  { 18, 32, 0 } },
		{ offsetof(struct bale_disk_super, log_bits), { 19, 29, 0 } },
		{ offsetof(struct bale_disk_super, codec), { 6, 100, 254 } },
		{ offsetof(struct bale_disk_super, filter),
		  { BALE_FILTER_NR, 99, 255 } },
		{ offsetof(struct bale_disk_super, pad), { 1, 2, 255 } },
		{ offsetof(struct bale_disk_super, reserved), { 1, 2, 255 } },
		{ BALE_SUPER_SIZE - 1, { 1, 2, 255 } },
	};
	struct bale_super s = a_super();
	struct bale_disk_super d;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (int k = 0; k < 3; k++) {
			bale_super_encode(&s, &d);
			((uint8_t *)&d)[cases[i].off] = cases[i].bad[k];
			assert_int_equal(-EUCLEAN, decode_resealed(&d));
		}
	bale_super_encode(&s, &d);
	d.version = le32_put(BALE_FORMAT_VERSION + 1);
	assert_int_equal(-EOPNOTSUPP, decode_resealed(&d));
	s.segment_bits = 20;
	s.extent_bits = 19; /* two extents and a header do not fit */
	bale_super_encode(&s, &d);
	assert_int_equal(-EUCLEAN, decode_resealed(&d));
}

static void test_super_features(void **state)
{
	struct bale_super s = a_super();
	uint64_t bits = 1;

	(void)state;
	s.compat = ~(uint64_t)0;
	assert_int_equal(0, bale_super_features(&s, true, &bits));
	assert_int_equal(0, bits);
	s.ro_compat = 0x10;
	assert_int_equal(0, bale_super_features(&s, false, &bits));
	assert_int_equal(-EOPNOTSUPP, bale_super_features(&s, true, &bits));
	assert_int_equal(0x10, bits);
	s.incompat = (uint64_t)1 << 63;
	assert_int_equal(-EOPNOTSUPP, bale_super_features(&s, false, &bits));
	assert_true(bits == (uint64_t)1 << 63);
}

/* ---- bale ---- */

enum { NR_EXTENTS = 3 };

struct a_bale {
	struct bale_disk_bale h;
	struct bale_disk_bale_extent e[NR_EXTENTS];
};

static void make_bale(struct a_bale *b)
{
	struct bale_bale_info info = {
		.segment = 5,
		.seq = 99,
		.offset = 3 * BALE_ALIGN,
		.nr_extents = NR_EXTENTS,
	};

	memset(b, 0, sizeof(*b));
	for (unsigned int i = 0; i < NR_EXTENTS; i++) {
		b->e[i].id = le64_put(100 + i);
		b->e[i].ino = le64_put(17);
		b->e[i].extent_no = le64_put(i);
		b->e[i].raw_len = le32_put(1000);
		b->e[i].stored_len = le32_put(10 + i);
		info.payload_len += 10 + i;
	}
	bale_bale_seal(b, &info, uuid);
}

static int check_bale(const void *b, size_t len)
{
	struct bale_bale_info info;

	return bale_bale_check(b, len, uuid, 5, 3 * BALE_ALIGN, &info);
}

static void test_bale_round_trip(void **state)
{
	static const uint8_t other[16] = { 9 };
	struct bale_bale_info info;
	struct a_bale b;
	size_t total;

	(void)state;
	make_bale(&b);
	assert_int_equal(0, bale_bale_peek(&b, 64, uuid, &info, &total));
	assert_int_equal(sizeof(b), total);
	assert_int_equal(0, bale_bale_check(&b, sizeof(b), uuid, 5,
					    3 * BALE_ALIGN, &info));
	assert_int_equal(99, info.seq);
	assert_int_equal(33, info.payload_len);
	assert_int_equal(-EUCLEAN, check_bale(&b, sizeof(b) - 1));
	assert_int_equal(-EUCLEAN, bale_bale_peek(&b, 63, uuid, &info, &total));
	assert_int_equal(-EUCLEAN,
			 bale_bale_peek(&b, 64, other, &info, &total));
	/* In its place, and in no other: a copied segment is not believed. */
	assert_int_equal(-EUCLEAN, bale_bale_check(&b, sizeof(b), uuid, 6,
						   3 * BALE_ALIGN, &info));
	assert_int_equal(-EUCLEAN, bale_bale_check(&b, sizeof(b), uuid, 5,
						   4 * BALE_ALIGN, &info));
}

static void test_bale_every_bit(void **state)
{
	struct a_bale b;
	uint8_t *p = (uint8_t *)&b;

	(void)state;
	make_bale(&b);
	for (size_t i = 0; i < sizeof(b) * 8; i++) {
		p[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_not_equal(0, check_bale(&b, sizeof(b)));
		p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	assert_int_equal(0, check_bale(&b, sizeof(b)));
}

/* A forged bale: fields out of range under a right checksum. */
static int check_forged(struct a_bale *b)
{
	b->h.crc = le32_put(0);
	b->h.crc = le32_put(bale_crc32c(0, b, sizeof(*b)));
	return check_bale(b, sizeof(*b));
}

static void test_bale_forged(void **state)
{
	struct a_bale b;

	(void)state;
	make_bale(&b);
	assert_int_equal(0, check_forged(&b));
	b.e[1].stored_len = le32_put(1001); /* more than raw */
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.e[0].raw_len = le32_put(BALE_EXTENT_MAX + 1);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.e[0].raw_len = le32_put(0);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.e[2].id = le64_put(0);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.e[2].extent_no = le64_put(UINT64_MAX);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.h.payload_len = le64_put(34);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.h.nr_extents = le32_put(0);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.h.nr_extents = le32_put(UINT32_MAX);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.h.offset = le32_put(UINT32_MAX);
	assert_int_equal(-EUCLEAN, check_forged(&b));
	make_bale(&b);
	b.h.flags = le32_put(1);
	assert_int_equal(-EUCLEAN, check_forged(&b));
}

/* ---- log ---- */

static void test_log_record(void **state)
{
	struct bale_log_info i = {
		.lsn = (uint64_t)3 << 24 | 512,
		.seq = 12,
		.body_len = 77,
		.body_crc = 0xdeadbeef,
		.nr_ops = 4,
		.flags = BALE_LOG_MORE,
	}, back = { 0 };
	struct bale_disk_log d;
	uint8_t *p = (uint8_t *)&d;

	(void)state;
	bale_log_seal(&d, &i, uuid);
	assert_int_equal(0, bale_log_decode(&d, sizeof(d), uuid, &back));
	assert_int_equal(i.lsn, back.lsn);
	assert_int_equal(i.seq, back.seq);
	assert_int_equal(i.body_len, back.body_len);
	assert_int_equal(i.body_crc, back.body_crc);
	assert_int_equal(i.nr_ops, back.nr_ops);
	assert_int_equal(i.flags, back.flags);
	assert_int_equal(-EUCLEAN, bale_log_decode(&d, 63, uuid, &back));
	for (size_t k = 0; k < sizeof(d) * 8; k++) {
		p[k / 8] ^= (uint8_t)(1 << k % 8);
		assert_int_not_equal(
			0, bale_log_decode(&d, sizeof(d), uuid, &back));
		p[k / 8] ^= (uint8_t)(1 << k % 8);
	}
	i.lsn++;
	bale_log_seal(&d, &i, uuid);
	assert_int_equal(-EUCLEAN, bale_log_decode(&d, sizeof(d), uuid, &back));
	i.lsn--;
	i.flags = 2;
	bale_log_seal(&d, &i, uuid);
	assert_int_equal(-EUCLEAN, bale_log_decode(&d, sizeof(d), uuid, &back));
	i.flags = 0;
	i.body_len = UINT32_MAX;
	bale_log_seal(&d, &i, uuid);
	assert_int_equal(-EUCLEAN, bale_log_decode(&d, sizeof(d), uuid, &back));
}

static size_t put_op(uint8_t *p, unsigned int kind, unsigned int table,
		     const void *key, size_t key_len, const void *val,
		     size_t val_len)
{
	struct bale_disk_op op = {
		.kind = (uint8_t)kind,
		.table = (uint8_t)table,
		.key_len = le16_put((uint16_t)key_len),
		.val_len = le32_put((uint32_t)val_len),
	};

	memcpy(p, &op, sizeof(op));
	memcpy(p + sizeof(op), key, key_len);
	if (val_len)
		memcpy(p + sizeof(op) + key_len, val, val_len);
	return sizeof(op) + key_len + val_len;
}

static void test_ops_walk(void **state)
{
	const le64 one = le64_put(1);
	uint8_t body[256];
	struct bale_op op;
	size_t pos = 0, len = 0, end;

	(void)state;
	len += put_op(body, BALE_OP_PUT, BALE_TABLE_meta, "ino", 3, &one, 8);
	len += put_op(body + len, BALE_OP_DEL, BALE_TABLE_meta, "x", 1, NULL,
		      0);
	assert_int_equal(0, bale_op_next(body, len, &pos, &op));
	assert_int_equal(BALE_OP_PUT, op.kind);
	assert_int_equal(3, op.key_len);
	assert_memory_equal("ino", op.key, 3);
	assert_memory_equal(&one, op.val, 8);
	assert_int_equal(0, bale_op_next(body, len, &pos, &op));
	assert_int_equal(BALE_OP_DEL, op.kind);
	assert_int_equal(-ENOENT, bale_op_next(body, len, &pos, &op));
	/* Cut anywhere: an error at the cut, never a read behind it. */
	for (size_t cut = 1; cut < len; cut++) {
		uint8_t *copy = malloc(cut);
		int r;

		assert_non_null(copy);
		memcpy(copy, body, cut);
		for (pos = 0; !(r = bale_op_next(copy, cut, &pos, &op));)
			;
		end = sizeof(struct bale_disk_op) + 3 + 8;
		assert_int_equal(cut == end ? -ENOENT : -EUCLEAN, r);
		free(copy);
	}
}

static void test_ops_bad(void **state)
{
	const le64 one = le64_put(1);
	uint8_t body[256];
	struct bale_op op;
	size_t pos = 0, len;

	(void)state;
	len = put_op(body, 3, BALE_TABLE_meta, "ino", 3, &one, 8);
	assert_int_equal(-EUCLEAN, bale_op_next(body, len, &pos, &op));
	len = put_op(body, BALE_OP_DEL, BALE_TABLE_meta, "ino", 3, &one, 8);
	assert_int_equal(-EUCLEAN, bale_op_next(body, len, &pos, &op));
	len = put_op(body, BALE_OP_PUT, BALE_TABLE_NR, "ino", 3, &one, 8);
	assert_int_equal(-EUCLEAN, bale_op_next(body, len, &pos, &op));
	len = put_op(body, BALE_OP_PUT, BALE_TABLE_meta, "ino", 3, &one, 7);
	assert_int_equal(-EUCLEAN, bale_op_next(body, len, &pos, &op));
	assert_int_equal(0, pos);
	pos = len + 1; /* a caller that walked too far */
	assert_int_equal(-EUCLEAN, bale_op_next(body, len, &pos, &op));
}

/* ---- checkpoint ---- */

static void seal(void *d, size_t crc_off)
{
	le32 crc = le32_put(bale_crc32c(0, d, crc_off));

	memcpy((uint8_t *)d + crc_off, &crc, sizeof(crc));
}

static void test_ckpt(void **state)
{
	struct bale_disk_ckpt d = {
		.start_lsn = le64_put(1024),
		.start_seq = le64_put(8),
		.version = le32_put(BALE_FORMAT_VERSION),
	};
	const size_t crc_off = offsetof(struct bale_disk_ckpt, crc);
	uint64_t lsn, seq;

	(void)state;
	memcpy(d.magic, BALE_CKPT_MAGIC, 8);
	memcpy(d.uuid, uuid, 16);
	seal(&d, crc_off);
	assert_int_equal(0, bale_ckpt_decode(&d, sizeof(d), uuid, &lsn, &seq));
	assert_int_equal(1024, lsn);
	assert_int_equal(8, seq);
	for (size_t k = 0; k < sizeof(d) * 8; k++) {
		((uint8_t *)&d)[k / 8] ^= (uint8_t)(1 << k % 8);
		assert_int_not_equal(
			0, bale_ckpt_decode(&d, sizeof(d), uuid, &lsn, &seq));
		((uint8_t *)&d)[k / 8] ^= (uint8_t)(1 << k % 8);
	}
	d.version = le32_put(2);
	seal(&d, crc_off);
	assert_int_equal(-EOPNOTSUPP,
			 bale_ckpt_decode(&d, sizeof(d), uuid, &lsn, &seq));
	d.version = le32_put(1);
	d.reserved[3] = 1;
	seal(&d, crc_off);
	assert_int_equal(-EUCLEAN,
			 bale_ckpt_decode(&d, sizeof(d), uuid, &lsn, &seq));
	d.reserved[3] = 0;
	d.start_lsn = le64_put(1025);
	seal(&d, crc_off);
	assert_int_equal(-EUCLEAN,
			 bale_ckpt_decode(&d, sizeof(d), uuid, &lsn, &seq));
}

static void test_ckpt_end(void **state)
{
	struct bale_disk_ckpt_end d = {
		.end_lsn = le64_put(2048),
		.nr_rows = le64_put(5),
		.nr_chunks = le64_put(1),
	};
	const size_t crc_off = offsetof(struct bale_disk_ckpt_end, crc);
	uint64_t lsn, rows, chunks;

	(void)state;
	memcpy(d.magic, BALE_CKPT_END_MAGIC, 8);
	seal(&d, crc_off);
	assert_int_equal(
		0, bale_ckpt_end_decode(&d, sizeof(d), &lsn, &rows, &chunks));
	assert_int_equal(2048, lsn);
	assert_int_equal(5, rows);
	assert_int_equal(1, chunks);
	for (size_t k = 0; k < sizeof(d) * 8; k++) {
		((uint8_t *)&d)[k / 8] ^= (uint8_t)(1 << k % 8);
		assert_int_not_equal(0,
				     bale_ckpt_end_decode(&d, sizeof(d), &lsn,
							  &rows, &chunks));
		((uint8_t *)&d)[k / 8] ^= (uint8_t)(1 << k % 8);
	}
	d.reserved[27] = 1;
	seal(&d, crc_off);
	assert_int_equal(-EUCLEAN, bale_ckpt_end_decode(&d, sizeof(d), &lsn,
							&rows, &chunks));
}

/* ---- rows ---- */

static void test_inode_row(void **state)
{
	struct bale_inode_row r = {
		.mode = S_IFREG | S_ISUID | 0644,
		.nlink = 2,
		.uid = 1000,
		.gid = UINT32_MAX,
		.size = BALE_FILE_MAX,
		.stored = 12345,
		.rdev = 0x123456789,
		.atime = { -1, 999999999 },
		.mtime = { (int64_t)1 << 40, 0 },
		.ctime = { INT64_MIN, 1 },
		.btime = { 5, 6 },
		.flags = BALE_INODE_APPEND,
		.generation = 9,
		.parent = 1,
		.next_cookie = 3,
		.nr_entries = 4,
		.codec = 4,
		.level = -7,
		.filter = BALE_FILTER_delta8,
	}, back;
	struct bale_disk_inode d;

	(void)state;
	memset(&back, 0, sizeof(back));
	bale_inode_encode(&r, &d);
	assert_int_equal(0, bale_inode_decode(&d, sizeof(d), &back));
	assert_true(
		back.mode == r.mode && back.nlink == r.nlink &&
		back.uid == r.uid && back.gid == r.gid && back.size == r.size &&
		back.stored == r.stored && back.rdev == r.rdev &&
		back.flags == r.flags && back.generation == r.generation &&
		back.parent == r.parent && back.next_cookie == r.next_cookie &&
		back.nr_entries == r.nr_entries && back.codec == r.codec &&
		back.level == r.level && back.filter == r.filter);
	assert_memory_equal(&back.atime, &r.atime, sizeof(r.atime));
	assert_memory_equal(&back.mtime, &r.mtime, sizeof(r.mtime));
	assert_memory_equal(&back.ctime, &r.ctime, sizeof(r.ctime));
	assert_memory_equal(&back.btime, &r.btime, sizeof(r.btime));
	assert_int_equal(-EUCLEAN, bale_inode_decode(&d, sizeof(d) - 1, &back));
	d.filter = BALE_FILTER_NR;
	assert_int_equal(-EUCLEAN, bale_inode_decode(&d, sizeof(d), &back));
	d.filter = 0;
	d.atime.nsec = le32_put(1000000000);
	assert_int_equal(-EUCLEAN, bale_inode_decode(&d, sizeof(d), &back));
	r.size = BALE_FILE_MAX + 1;
	bale_inode_encode(&r, &d);
	assert_int_equal(-EUCLEAN, bale_inode_decode(&d, sizeof(d), &back));
	r.size = 0;
	r.mode = 0644; /* no type */
	bale_inode_encode(&r, &d);
	assert_int_equal(-EUCLEAN, bale_inode_decode(&d, sizeof(d), &back));
	r.mode = S_IFREG | 1 << 20;
	bale_inode_encode(&r, &d);
	assert_int_equal(-EUCLEAN, bale_inode_decode(&d, sizeof(d), &back));
}

static struct bale_extent_row an_extent(void)
{
	struct bale_extent_row r = {
		.segment = 3,
		.offset = 4096,
		.stored_len = 100,
		.raw_len = 131072,
		.crc = 0x12345678,
		.refs = 2,
		.codec = BALE_CODEC_lz4,
		.level = -1,
	};

	return r;
}

static int encode_decode_extent(const struct bale_extent_row *r)
{
	struct bale_disk_extent d;
	struct bale_extent_row back;

	bale_extent_encode(r, &d);
	return bale_extent_decode(&d, sizeof(d), &back);
}

static void test_extent_row(void **state)
{
	struct bale_extent_row r = an_extent(), back;
	struct bale_disk_extent d;

	(void)state;
	bale_extent_encode(&r, &d);
	memset(&back, 0, sizeof(back));
	assert_int_equal(0, bale_extent_decode(&d, sizeof(d), &back));
	assert_memory_equal(&r, &back, sizeof(r));
	assert_int_equal(-EUCLEAN, bale_extent_decode(&d, 27, &back));
	r.refs = 0;
	assert_int_equal(-EUCLEAN, encode_decode_extent(&r));
	r = an_extent();
	r.codec = BALE_CODEC_NR;
	assert_int_equal(-EUCLEAN, encode_decode_extent(&r));
	r = an_extent();
	r.codec = BALE_CODEC_raw; /* raw stores as many bytes as it has */
	assert_int_equal(-EUCLEAN, encode_decode_extent(&r));
	r.stored_len = r.raw_len;
	assert_int_equal(0, encode_decode_extent(&r));
	r.stored_len = r.raw_len + 1;
	assert_int_equal(-EUCLEAN, encode_decode_extent(&r));
	r = an_extent();
	r.raw_len = BALE_EXTENT_MAX + 1;
	assert_int_equal(-EUCLEAN, encode_decode_extent(&r));
	r = an_extent();
	r.offset = ((uint32_t)1 << 31) - 100;
	assert_int_equal(0, encode_decode_extent(&r));
	r.offset++;
	assert_int_equal(-EUCLEAN, encode_decode_extent(&r));
}

struct row_case {
	int want;
	unsigned int table;
	size_t key_len;
	const char *key;
	size_t val_len;
	const char *val; /* NULL: key only */
};

#define K1     "\0\0\0\0\0\0\0\1"
#define K0     "\0\0\0\0\0\0\0\0"
#define Z7     "\0\0\0\0\0\0\0"
#define L1     "\1\0\0\0\0\0\0\0"
#define DIRENT L1 L1 "\10" Z7
#define COOKIE L1 "\10" Z7
#define BAD    (-EUCLEAN)

static const struct row_case row_cases[] = {
	{ 0, BALE_TABLE_meta, 3, "ino", 8, L1 },
	{ 0, BALE_TABLE_meta, 3, "ino", 0, NULL },
	{ BAD, BALE_TABLE_meta, 0, "", 8, L1 },
	{ BAD, BALE_TABLE_meta, 3, "i\0o", 8, L1 },
	{ BAD, BALE_TABLE_meta, 3, "ino", 7, L1 },
	{ BAD, BALE_TABLE_inode, 8, K0, 0, NULL },
	{ BAD, BALE_TABLE_inode, 7, K1, 0, NULL },
	{ 0, BALE_TABLE_inode, 8, K1, 0, NULL },
	{ BAD, BALE_TABLE_inode, 8, K1, 8, L1 },
	{ 0, BALE_TABLE_dirent, 9, K1 "a", 24, DIRENT },
	{ 0, BALE_TABLE_dirent, 11, K1 "...", 24, DIRENT },
	{ 0, BALE_TABLE_dirent, 10, K1 ".a", 24, DIRENT },
	{ 0, BALE_TABLE_dirent, 10, K1 "\xff\n", 24, DIRENT },
	{ BAD, BALE_TABLE_dirent, 9, K0 "a", 24, DIRENT },
	{ BAD, BALE_TABLE_dirent, 9, K1 ".", 24, DIRENT },
	{ BAD, BALE_TABLE_dirent, 10, K1 "..", 24, DIRENT },
	{ BAD, BALE_TABLE_dirent, 8, K1, 24, DIRENT },
	{ BAD, BALE_TABLE_dirent, 11, K1 "a/b", 24, DIRENT },
	{ BAD, BALE_TABLE_dirent, 11, K1 "a\0b", 24, DIRENT },
	{ BAD, BALE_TABLE_dirent, 9, K1 "a", 24, K0 L1 "\10" Z7 },
	{ BAD, BALE_TABLE_dirent, 9, K1 "a", 24, L1 K0 "\10" Z7 },
	{ BAD, BALE_TABLE_dirent, 9, K1 "a", 24, L1 L1 "\10\1" Z7 },
	{ BAD, BALE_TABLE_dirent, 9, K1 "a", 24, L1 L1 "\3" Z7 },
	{ BAD, BALE_TABLE_dirent, 9, K1 "a", 23, DIRENT },
	{ 0, BALE_TABLE_cookie, 16, K1 K1, 17, COOKIE "a" },
	{ BAD, BALE_TABLE_cookie, 16, K1 K1, 16, COOKIE },
	{ BAD, BALE_TABLE_cookie, 16, K1 K1, 17, COOKIE "." },
	{ BAD, BALE_TABLE_cookie, 16, K1 K0, 17, COOKIE "a" },
	{ BAD, BALE_TABLE_cookie, 15, K1 K1, 17, COOKIE "a" },
	{ 0, BALE_TABLE_map, 16, K1 K0, 8, L1 },
	{ 0, BALE_TABLE_map, 16, K1 K0, 16, K0 L1 },
	{ BAD, BALE_TABLE_map, 16, K1 K0, 16, L1 K0 },
	{ BAD, BALE_TABLE_map, 16, K1 K0, 0, "" },
	{ BAD, BALE_TABLE_map, 16, K1 K0, 9, L1 "\1" },
	{ BAD, BALE_TABLE_map, 16, K1 "\xff" Z7, 8, L1 },
	{ 0, BALE_TABLE_extent, 8, K1, 0, NULL },
	{ BAD, BALE_TABLE_extent, 8, K0, 0, NULL },
	{ BAD, BALE_TABLE_extent, 8, K1, 8, L1 },
	{ 0, BALE_TABLE_xattr, 14, K1 "user.a", 0, "" },
	{ 0, BALE_TABLE_xattr, 14, K1 "user.a", 3, "abc" },
	{ BAD, BALE_TABLE_xattr, 8, K1, 3, "abc" },
	{ BAD, BALE_TABLE_xattr, 14, K1 "use\0.a", 3, "abc" },
	{ 0, BALE_TABLE_inline, 8, K1, 11, "\3\0\0\0\0\0\0\0abc" },
	{ BAD, BALE_TABLE_inline, 8, K1, 11, "\4\0\0\0\0\0\0\0abc" },
	{ 0, BALE_TABLE_inline, 8, K1, 11, "\4\0\0\0\2\0\0\0abc" },
	{ BAD, BALE_TABLE_inline, 8, K1, 11, "\4\0\0\0\6\0\0\0abc" },
	{ BAD, BALE_TABLE_inline, 8, K1, 8, "\0\0\0\0\0\0\0\0" },
	{ BAD, BALE_TABLE_inline, 8, K1, 3, "\0\0\0" },
	{ 0, BALE_TABLE_orphan, 8, K1, 8, L1 },
	{ BAD, BALE_TABLE_orphan, 8, K1, 9, L1 "x" },
	{ 0, BALE_TABLE_segment, 8, K0, 16, L1 L1 },
	{ 0, BALE_TABLE_segment, 8, K1, 16, L1 K0 },
	{ BAD, BALE_TABLE_segment, 8, K1, 16, K0 L1 },
	{ BAD, BALE_TABLE_segment, 8, "\0\0\0\1\0\0\0\0", 16, L1 L1 },
	{ 0, BALE_TABLE_patch, 24, K1 K0 K1, 5, "\0\0\0\0x" },
	{ 0, BALE_TABLE_patch, 24, K1 K0 K1, 5, "\xff\xff\x3f\0x" },
	{ BAD, BALE_TABLE_patch, 24, K1 K0 K1, 6, "\xff\xff\x3f\0xy" },
	{ BAD, BALE_TABLE_patch, 24, K1 K0 K1, 4, "\0\0\0\0" },
	{ BAD, BALE_TABLE_patch, 16, K1 K0, 5, "\0\0\0\0x" },
	{ BAD, BALE_TABLE_NR, 8, K1, 8, L1 },
	{ BAD, 255, 8, K1, 0, NULL },
};

static void test_row_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(row_cases) / sizeof(*row_cases); i++) {
		const struct row_case *c = &row_cases[i];
		int r = bale_row_check(c->table, c->key, c->key_len, c->val,
				       c->val_len);

		if (r != c->want)
			fail_msg("case %zu (table %s): %d, want %d", i,
				 bale_table_name(c->table), r, c->want);
	}
}

static void test_name_limits(void **state)
{
	uint8_t key[8 + 256];
	static const uint8_t dirent[24] = DIRENT;
	static uint8_t value[BALE_XATTR_SIZE_MAX + 1];

	(void)state;
	memset(key, 'n', sizeof(key));
	key[0] = 0; /* the directory's number */
	assert_int_equal(
		0, bale_row_check(BALE_TABLE_dirent, key, 8 + 255, dirent, 24));
	assert_int_equal(-EUCLEAN, bale_row_check(BALE_TABLE_dirent, key,
						  8 + 256, dirent, 24));
	assert_int_equal(0, bale_row_check(BALE_TABLE_xattr, key, 8 + 255,
					   value, BALE_XATTR_SIZE_MAX));
	assert_int_equal(-EUCLEAN,
			 bale_row_check(BALE_TABLE_xattr, key, 8 + 255, value,
					BALE_XATTR_SIZE_MAX + 1));
}

static void check_number(uint64_t n, int want)
{
	struct bale_disk_dirent d = { .ino = le64_put(17),
				      .cookie = le64_put(n),
				      .type = 8 };
	struct bale_disk_inode i = { .mode = le32_put(040755) };
	be64 k[3] = { be64_put(n), be64_put(n) };
	uint8_t name[9] = "";

	memcpy(name, k, 8);
	name[8] = 'a';
	assert_int_equal(want, bale_row_check(BALE_TABLE_inode, k, 8, NULL, 0));
	assert_int_equal(want,
			 bale_row_check(BALE_TABLE_extent, k, 8, NULL, 0));
	assert_int_equal(want,
			 bale_row_check(BALE_TABLE_cookie, k, 16, NULL, 0));
	assert_int_equal(want,
			 bale_row_check(BALE_TABLE_dirent, name, 9, NULL, 0));
	assert_int_equal(want,
			 bale_row_check(BALE_TABLE_xattr, name, 9, NULL, 0));
	k[1] = be64_put(0);
	assert_int_equal(want, bale_row_check(BALE_TABLE_map, k, 16, NULL, 0));
	assert_int_equal(want,
			 bale_row_check(BALE_TABLE_patch, k, 24, NULL, 0));
	name[7] = 1;
	memset(name, 0, 7);
	assert_int_equal(want, bale_row_check(BALE_TABLE_dirent, name, 9, &d,
					      sizeof(d)));
	/* The next one may be one more. */
	k[0] = be64_put(16);
	i.next_cookie = le64_put(n + 1);
	assert_int_equal(n && want, bale_row_check(BALE_TABLE_inode, k, 8, &i,
						   sizeof(i)) != 0);
}

/* A forged extent id of 2^64 - 1 made the counter behind it go round. */
static void test_number_limits(void **state)
{
	(void)state;
	check_number(1, 0);
	check_number(BALE_NUMBER_MAX - 1, 0);
	check_number(BALE_NUMBER_MAX, -EUCLEAN);
	check_number(UINT64_MAX - 1, -EUCLEAN);
	check_number(0, -EUCLEAN);
}

/* ---- text ---- */

static void test_to_text(void **state)
{
	struct bale_super s = a_super();
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	bale_super_to_text(f, &s);
	fputc('\n', f);
	for (size_t i = 0; i < sizeof(row_cases) / sizeof(*row_cases); i++) {
		const struct row_case *c = &row_cases[i];

		bale_row_to_text(f, c->table, c->key, c->key_len, c->val,
				 c->val_len);
		fputc('\n', f);
	}
	fclose(f);
	assert_non_null(strstr(text, "uuid 01020304-0506-0708"));
	assert_non_null(strstr(text, "meta \"ino\": 1\n"));
	assert_non_null(strstr(text, "dirent 1 \"\\xff\\x0a\": ino 1"));
	assert_non_null(strstr(text, "map 1 0: [1]=1\n"));
	assert_non_null(strstr(text, "segment damaged row"));
	assert_non_null(strstr(text, "? damaged row"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_super_round_trip),
		cmocka_unit_test(test_super_every_bit),
		cmocka_unit_test(test_super_bounds),
		cmocka_unit_test(test_super_features),
		cmocka_unit_test(test_bale_round_trip),
		cmocka_unit_test(test_bale_every_bit),
		cmocka_unit_test(test_bale_forged),
		cmocka_unit_test(test_log_record),
		cmocka_unit_test(test_ops_walk),
		cmocka_unit_test(test_ops_bad),
		cmocka_unit_test(test_ckpt),
		cmocka_unit_test(test_ckpt_end),
		cmocka_unit_test(test_inode_row),
		cmocka_unit_test(test_extent_row),
		cmocka_unit_test(test_row_cases),
		cmocka_unit_test(test_name_limits),
		cmocka_unit_test(test_number_limits),
		cmocka_unit_test(test_to_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
