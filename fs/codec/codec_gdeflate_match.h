/* SPDX-License-Identifier: Apache-2.0 */
/* codec_gdeflate_match.h - comparing and hashing for the GDeflate parses; pure.
 */
#ifndef BALE_CODEC_CODEC_GDEFLATE_MATCH_H
#define BALE_CODEC_CODEC_GDEFLATE_MATCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Only hashed and compared, so the machine's byte order will do, where a shift
 * by 8 drops the last byte in memory. */
static inline uint32_t bale_gd_load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap32(v);
#endif
	return v;
}

static inline uint64_t bale_gd_load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

static inline uint32_t bale_gd_hash(uint32_t v, unsigned int bits)
{
	return v * 0x9e3779b1U >> (32 - bits);
}

/* How many of max bytes are the same. */
static inline size_t bale_gd_same(const uint8_t *a, const uint8_t *b,
				  size_t max)
{
	size_t n = 0;

	for (; n + 8 <= max; n += 8) {
		uint64_t x = bale_gd_load64(a + n) ^ bale_gd_load64(b + n);

		if (x)
			return n + (size_t)__builtin_ctzll(x) / 8;
	}
	while (n < max && a[n] == b[n])
		n++;
	return n;
}

#endif
