/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/codec/codec_units.h"

#include <errno.h>
#include <string.h>

#include "balefs/format.h"
#include "balefs/le.h"
#include "balefs/unit.h"

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

size_t bale_units_bound(size_t len)
{
	/* A unit is raw before it grows. */
	return bale_units_nr(len) * sizeof(le32) + len;
}

int bale_units_encode(const uint8_t *src, size_t len, uint8_t *dst, size_t cap,
		      bale_unit_encode_fn *fn, void *arg, size_t *ret_len)
{
	size_t nr = bale_units_nr(len), pos = nr * sizeof(le32);

	if (pos > cap)
		return -ENOSPC;
	for (size_t i = 0; i < nr; i++) {
		const uint8_t *unit = src + i * BALE_UNIT_SIZE;
		size_t raw = bale_unit_len(len, i), room = cap - pos;
		size_t worth = bale_unit_worth(raw), n;
		int r = fn(arg, unit, raw, dst + pos,
			   room < worth ? room : worth, &n);

		if (!r) {
			table_put(dst, i, (uint32_t)n);
			pos += n;
			continue;
		}
		if (r != -ENOSPC)
			return r;
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
		       size_t raw, bale_unit_decode_fn *fn, void *arg)
{
	size_t n = entry & ~BALE_UNIT_RAW;

	if (!(entry & BALE_UNIT_RAW))
		return fn(arg, src, n, dst, raw);
	if (n != raw)
		return -EUCLEAN;
	memcpy(dst, src, raw);
	return 0;
}

int bale_units_decode(const uint8_t *src, size_t src_len, uint8_t *dst,
		      size_t len, bale_unit_decode_fn *fn, void *arg)
{
	size_t nr = bale_units_nr(len), pos = nr * sizeof(le32);

	if (src_len < pos)
		return -EUCLEAN;
	for (size_t i = 0; i < nr; i++) {
		uint32_t entry = table_get(src, i);
		size_t n = entry & ~BALE_UNIT_RAW;
		int r;

		if (!n || n > src_len - pos)
			return -EUCLEAN;
		r = decode_unit(src + pos, entry, dst + i * BALE_UNIT_SIZE,
				bale_unit_len(len, i), fn, arg);
		if (r)
			return r;
		pos += n;
	}
	return pos == src_len ? 0 : -EUCLEAN;
}
