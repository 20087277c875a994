/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every check of fs/format on any bytes. Input: one byte that says what the
 * rest is (see enum), with SEAL in it to give the rest its right checksums, so
 * that changes get past them. What is accepted must keep its promises: sizes
 * that lie inside the buffer, values that encode to the same bytes, text that
 * can be printed.
 */
#include <errno.h>
#include <string.h>

#include "balefs/codec.h"
#include "fs/base/crc32c.h"
#include "fs/format/format.h"
#include "tests/fuzz/fuzz.h"

enum { SUPER, BALE, LOG, OPS, CKPT, CKPT_END, ROW, NR_KINDS, SEAL = 0x80 };

static const uint8_t uuid[16] = "fuzzed-store-id";

static void put_crc(uint8_t *p, size_t off, uint32_t crc)
{
	le32 v = le32_put(crc);

	memcpy(p + off, &v, sizeof(v));
}

/* crc32c with the four bytes at `off` zero, put there. */
static void seal(uint8_t *p, size_t len, size_t off, size_t covered)
{
	if (len < off + 4 || len < covered)
		return;
	memset(p + off, 0, 4);
	put_crc(p, off, bale_crc32c(0, p, covered));
}

static void seal_kind(int kind, uint8_t *p, size_t len)
{
	switch (kind) {
	case SUPER:
		seal(p, len, offsetof(struct bale_disk_super, crc),
		     BALE_SUPER_SIZE);
		break;
	case BALE:
		seal(p, len, offsetof(struct bale_disk_bale, crc), len);
		break;
	case LOG:
		if (len >= 64)
			put_crc(p, 60, bale_crc32c(0, p, 60));
		break;
	case CKPT:
	case CKPT_END:
		if (len >= 64)
			put_crc(p, 60, bale_crc32c(0, p, 60));
		break;
	default:
		break;
	}
}

static void try_super(const uint8_t *p, size_t len, FILE *out)
{
	struct bale_disk_super again;
	struct bale_super s;
	uint64_t bits;

	if (bale_super_decode(p, len, &s))
		return;
	bale_super_features(&s, true, &bits);
	bale_super_to_text(out, &s);
	if (s.incompat)
		return;
	bale_super_encode(&s, &again);
	FUZZ_ASSERT(!memcmp(&again, p, sizeof(again)) ||
		    strlen(s.label) < BALE_LABEL_MAX);
}

static void try_bale(const uint8_t *p, size_t len)
{
	const struct bale_disk_bale *h = (const void *)p;
	struct bale_bale_info info;
	uint64_t sum = 0;
	size_t total;

	if (bale_bale_peek(p, len, uuid, &info, &total))
		return;
	if (bale_bale_check(p, len, uuid, info.segment, info.offset, &info))
		return;
	FUZZ_ASSERT(total <= len);
	for (uint32_t i = 0; i < info.nr_extents; i++) {
		const struct bale_disk_bale_extent *e =
			(const void *)(p + sizeof(*h) + i * sizeof(*e));

		FUZZ_ASSERT(le32_get(e->stored_len) <= BALE_EXTENT_MAX);
		sum += le32_get(e->stored_len);
	}
	FUZZ_ASSERT(sum == info.payload_len);
	/* In no other place. */
	FUZZ_ASSERT(bale_bale_check(p, len, uuid, info.segment + 1, info.offset,
				    &info));
}

static void try_row(unsigned int table, const uint8_t *key, size_t key_len,
		    const uint8_t *val, size_t val_len, FILE *out)
{
	int r = bale_row_check(table, key, key_len, val, val_len);

	/* A good row has a good key. */
	FUZZ_ASSERT(r || !bale_row_check(table, key, key_len, NULL, 0));
	bale_row_to_text(out, table, key, key_len, val, val_len);
	if (r || !val)
		return;
	if (table == BALE_TABLE_inode) {
		struct bale_inode_row row;
		struct bale_disk_inode d;

		FUZZ_ASSERT(!bale_inode_decode(val, val_len, &row));
		bale_inode_encode(&row, &d);
		FUZZ_ASSERT(!memcmp(&d, val, sizeof(d)));
	} else if (table == BALE_TABLE_extent) {
		struct bale_extent_row row;
		struct bale_disk_extent d;

		FUZZ_ASSERT(!bale_extent_decode(val, val_len, &row));
		bale_extent_encode(&row, &d);
		FUZZ_ASSERT(!memcmp(&d, val, sizeof(d)));
	}
}

static void try_ops(const uint8_t *p, size_t len, FILE *out)
{
	struct bale_op op;
	size_t pos = 0, before = 0;
	int r;

	while (!(r = bale_op_next(p, len, &pos, &op))) {
		FUZZ_ASSERT(pos > before && pos <= len);
		FUZZ_ASSERT(op.key >= p && op.key + op.key_len == op.val &&
			    op.val + op.val_len == p + pos);
		try_row(op.table, op.key, op.key_len,
			op.kind == BALE_OP_PUT ? op.val : NULL, op.val_len,
			out);
		before = pos;
	}
	FUZZ_ASSERT((pos == len) == (r == -ENOENT));
}

/* Row: table, key length (two bytes), key, value. */
static void try_raw_row(const uint8_t *p, size_t len, FILE *out)
{
	size_t key_len;

	if (len < 3)
		return;
	key_len = (size_t)p[1] | (size_t)p[2] << 8;
	if (key_len > len - 3)
		key_len = len - 3;
	try_row(p[0], p + 3, key_len, p + 3 + key_len, len - 3 - key_len, out);
}

static void try_kind(int kind, const uint8_t *p, size_t len, FILE *out)
{
	struct bale_log_info info;
	uint64_t a, b, c;

	switch (kind) {
	case SUPER:
		try_super(p, len, out);
		break;
	case BALE:
		try_bale(p, len);
		break;
	case LOG:
		if (!bale_log_decode(p, len, uuid, &info))
			FUZZ_ASSERT(info.lsn % BALE_ALIGN == 0);
		break;
	case OPS:
		try_ops(p, len, out);
		break;
	case CKPT:
		bale_ckpt_decode(p, len, uuid, &a, &b);
		break;
	case CKPT_END:
		bale_ckpt_end_decode(p, len, &a, &b, &c);
		break;
	default:
		try_raw_row(p, len, out);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = NULL;
	size_t text_len;
	uint8_t *copy;
	FILE *out;

	if (!size)
		return 0;
	copy = malloc(size);
	out = open_memstream(&text, &text_len);
	FUZZ_ASSERT(copy && out);
	memcpy(copy, data + 1, size - 1);
	if (data[0] & SEAL)
		seal_kind((data[0] & ~SEAL) % NR_KINDS, copy, size - 1);
	try_kind((data[0] & ~SEAL) % NR_KINDS, copy, size - 1, out);
	fclose(out);
	/* One line, whatever the names are. */
	for (size_t i = 0; i < text_len; i++)
		FUZZ_ASSERT((uint8_t)text[i] >= ' ' && text[i] != 0x7f);
	free(text);
	free(copy);
	return 0;
}
