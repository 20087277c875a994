/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate.h - the numbers of the GDeflate bitstream (docs/format.md, "GDeflate
 * tiles"), for the coders on the CPU and on the device alike: C17, C++17, and
 * callable on both sides of CUDA. Pure functions and constants, no state.
 *
 * A tile is at most 64 KiB of content: a stream of 32-bit words that feeds 32
 * lanes, each a bit stream of its own. Bases and extra bits are computed rather
 * than looked up: a table would have to exist twice, once in device memory.
 */
#ifndef BALE_GDEFLATE_H
#define BALE_GDEFLATE_H

#include <assert.h>
#include <stdint.h>

#include "balefs/codec.h"

#if defined(__CUDACC__)
#define BALE_GD_FN static inline __host__ __device__
#else
#define BALE_GD_FN static inline
#endif

enum {
	BALE_GD_LANES = 32,
	/* A lane's first word is always there. */
	BALE_GD_TILE_MIN = BALE_GD_LANES * 4,

	/* BFINAL 1, BTYPE 2; LEN 16; HLIT 5, HDIST 5, HCLEN 4. */
	BALE_GD_BLOCK_BITS = 3,
	BALE_GD_STORED_LEN_BITS = 16,
	BALE_GD_DYNAMIC_BITS = 14,

	BALE_GD_LITLEN_MIN = 257, /* symbols that HLIT 0 stands for */
	BALE_GD_LITLEN_NR = 288,
	BALE_GD_DIST_NR = 32,
	BALE_GD_PRECODE_NR = 19,
	BALE_GD_PRECODE_MIN = 4,

	BALE_GD_END = 256,	   /* of the block */
	BALE_GD_LEN_FIRST = 257,   /* length 3 */
	BALE_GD_LEN_LONG = 285,	   /* length 3 + 16 bits */
	BALE_GD_LITLEN_USED = 286, /* 286 and 287 are never valid */

	BALE_GD_CODE_BITS_MAX = 15,
	BALE_GD_PRECODE_BITS_MAX = 7,
	/* What our encoders keep to, so that tables of readers stay small. */
	BALE_GD_LITLEN_BITS_ENCODED = 14,

	BALE_GD_LENGTH_MIN = 3,
	/* From here on a length is symbol 285; 284 would reach 258. */
	BALE_GD_LENGTH_LONG = 258,
	BALE_GD_LEN_EXTRA_MAX = 16,
	BALE_GD_DIST_EXTRA_MAX = 14,

	/* Code lengths: 0 to 15 literally, then runs. */
	BALE_GD_RUN_LAST = 16,	/* 3 + 2 bits times the one before */
	BALE_GD_RUN_ZERO = 17,	/* 3 + 3 bits zeros */
	BALE_GD_RUN_ZEROS = 18, /* 11 + 7 bits zeros */
};

enum bale_gd_block {
	BALE_GD_STORED = 0,
	BALE_GD_STATIC = 1,
	BALE_GD_DYNAMIC = 2,
};

/* After its refill a lane holds at least 32 bits, so that one is enough. */
static_assert(BALE_GD_CODE_BITS_MAX + BALE_GD_LEN_EXTRA_MAX < 32 &&
		      BALE_GD_CODE_BITS_MAX + BALE_GD_DIST_EXTRA_MAX < 32 &&
		      BALE_GD_STORED_LEN_BITS < 32,
	      "no slot takes 32 bits");

/* Extra bits of length symbol idx = symbol - BALE_GD_LEN_FIRST, 0 to 28. */
BALE_GD_FN uint32_t bale_gd_len_extra(uint32_t idx)
{
	if (idx == BALE_GD_LEN_LONG - BALE_GD_LEN_FIRST)
		return BALE_GD_LEN_EXTRA_MAX;
	return idx < 8 ? 0 : (idx >> 2) - 1;
}

BALE_GD_FN uint32_t bale_gd_len_base(uint32_t idx)
{
	if (idx == BALE_GD_LEN_LONG - BALE_GD_LEN_FIRST)
		return BALE_GD_LENGTH_MIN;
	if (idx < 8)
		return BALE_GD_LENGTH_MIN + idx;
	return BALE_GD_LENGTH_MIN + ((4 + (idx & 3)) << ((idx >> 2) - 1));
}

/* Of distance symbol 0 to 31. */
BALE_GD_FN uint32_t bale_gd_dist_extra(uint32_t sym)
{
	return sym < 4 ? 0 : (sym >> 1) - 1;
}

BALE_GD_FN uint32_t bale_gd_dist_base(uint32_t sym)
{
	if (sym < 4)
		return 1 + sym;
	return 1 + ((2 + (sym & 1)) << ((sym >> 1) - 1));
}

/* Position of the highest bit of v >= 1. */
BALE_GD_FN uint32_t bale_gd_top_bit(uint32_t v)
{
#if defined(__CUDA_ARCH__)
	return 31 - (uint32_t)__clz((int)v);
#else
	return 31 - (uint32_t)__builtin_clz(v);
#endif
}

/* The index (see bale_gd_len_extra) of length 3 to 65535 + 3. */
BALE_GD_FN uint32_t bale_gd_len_index(uint32_t len)
{
	uint32_t v = len - BALE_GD_LENGTH_MIN, e;

	if (len >= BALE_GD_LENGTH_LONG)
		return BALE_GD_LEN_LONG - BALE_GD_LEN_FIRST;
	if (v < 8)
		return v;
	e = bale_gd_top_bit(v) - 2;
	return 4 * e + (v >> e);
}

/* The symbol of distance 1 to 65536. */
BALE_GD_FN uint32_t bale_gd_dist_symbol(uint32_t dist)
{
	uint32_t v = dist - 1, e;

	if (v < 4)
		return v;
	e = bale_gd_top_bit(v) - 1;
	return 2 * e + (v >> e);
}

/* The precode's lengths come in this order: k-th of 19. */
BALE_GD_FN uint32_t bale_gd_precode_order(uint32_t k)
{
	/* 16 17 18 0, then 8 and outwards: 7 9 6 10 ... 1 15. */
	if (k < 3)
		return 16 + k;
	if (k == 3)
		return 0;
	return k & 1 ? 8 - ((k - 3) >> 1) : 8 + ((k - 4) >> 1);
}

/* Code lengths of a static block: RFC 1951's, and 5 bits for a distance. */
BALE_GD_FN uint32_t bale_gd_static_litlen_bits(uint32_t sym)
{
	return sym < 144 ? 8 : sym < 256 ? 9 : sym < 280 ? 7 : 8;
}

enum { BALE_GD_STATIC_DIST_BITS = 5 };

/*
 * Largest tile of len <= BALE_UNIT_SIZE bytes that an encoder need make: stored
 * blocks, one a 65535 bytes, two words more in every lane than are full.
 */
BALE_GD_FN uint32_t bale_gd_tile_bound(uint32_t len)
{
	uint32_t blocks = len / 65535 + 1;
	uint32_t lane_bits =
		(len / BALE_GD_LANES + 2) * 8 +
		blocks * (BALE_GD_BLOCK_BITS + BALE_GD_STORED_LEN_BITS);

	return BALE_GD_LANES * 4 * (lane_bits / 32 + 2);
}

#endif
