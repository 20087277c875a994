/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lz4: independent blocks of 64 KiB behind a table of their stored lengths
 * (format.h), so that a GPU, or many cores, can take the units of one extent
 * at once. A unit that saves too little is stored raw: copying it back is
 * several times cheaper than decoding it.
 */
#include <errno.h>
#include <lz4.h>
#include <string.h>

#include "balefs/format.h"
#include "balefs/le.h"
#include "fs/codec/codec_impl.h"

static size_t nr_units(size_t len)
{
	return (len + BALE_UNIT_SIZE - 1) / BALE_UNIT_SIZE;
}

static size_t unit_len(size_t len, size_t idx)
{
	size_t left = len - idx * BALE_UNIT_SIZE;

	return left < BALE_UNIT_SIZE ? left : BALE_UNIT_SIZE;
}

static void table_put(uint8_t *table, size_t idx, uint32_t v)
{
	le32 e = le32_put(v);

	memcpy(table + idx * sizeof(e), &e, sizeof(e));
}

static uint32_t table_get(const uint8_t *table, size_t idx)
{
	le32 e;

	memcpy(&e, table + idx * sizeof(e), sizeof(e));
	return le32_get(e);
}

static size_t lz4_bound(size_t len)
{
	/* A unit is raw before it grows. */
	return nr_units(len) * sizeof(le32) + len;
}

static int lz4_encode(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t len, uint8_t *dst, size_t cap, int level,
		      size_t *ret_len)
{
	size_t nr = nr_units(len), pos = nr * sizeof(le32);
	int r = bale_codec_ctx_need_lz4(ctx);

	(void)level;
	if (r)
		return r;
	if (pos > cap)
		return -ENOSPC;
	for (size_t i = 0; i < nr; i++) {
		const uint8_t *unit = src + i * BALE_UNIT_SIZE;
		size_t raw = unit_len(len, i);
		size_t room = cap - pos, worth = raw - raw / 16;
		int n = LZ4_compress_fast_extState(
			ctx->lz4, (const char *)unit, (char *)dst + pos,
			(int)raw, (int)(room < worth ? room : worth), 1);

		if (n > 0) {
			table_put(dst, i, (uint32_t)n);
			pos += (size_t)n;
			continue;
		}
		if (raw > room)
			return -ENOSPC;
		memcpy(dst + pos, unit, raw);
		table_put(dst, i, (uint32_t)raw | BALE_UNIT_RAW);
		pos += raw;
	}
	*ret_len = pos;
	return 0;
}

static int decode_unit(const uint8_t *src, uint32_t entry, uint8_t *dst,
		       size_t raw)
{
	uint32_t n = entry & ~BALE_UNIT_RAW;
	int r;

	if (entry & BALE_UNIT_RAW) {
		if (n != raw)
			return -EUCLEAN;
		memcpy(dst, src, raw);
		return 0;
	}
	/* n <= src_len of the job; 31 bits fit an int. */
	r = LZ4_decompress_safe((const char *)src, (char *)dst, (int)n,
				(int)raw);
	return r == (int)raw ? 0 : -EUCLEAN;
}

static int lz4_decode(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t src_len, uint8_t *dst, size_t len)
{
	size_t nr = nr_units(len), pos = nr * sizeof(le32);

	(void)ctx;
	if (src_len < pos)
		return -EUCLEAN;
	for (size_t i = 0; i < nr; i++) {
		uint32_t entry = table_get(src, i);
		size_t n = entry & ~BALE_UNIT_RAW;
		int r;

		if (!n || n > src_len - pos)
			return -EUCLEAN;
		r = decode_unit(src + pos, entry, dst + i * BALE_UNIT_SIZE,
				unit_len(len, i));
		if (r)
			return r;
		pos += n;
	}
	return pos == src_len ? 0 : -EUCLEAN;
}

const struct bale_codec bale_codec_lz4 = {
	.bound = lz4_bound,
	.encode = lz4_encode,
	.decode = lz4_decode,
};
