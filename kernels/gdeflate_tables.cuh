/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_tables.cuh - decoding tables in shared memory, built by one warp
 * from code lengths.
 *
 * A table is looked up with the next bits of the stream. Codes longer than
 * its index are found by their numerical order: the codes of one length are
 * consecutive numbers, left-aligned to 15 bits they ascend with the length.
 */
#ifndef BALE_GDEFLATE_TABLES_CUH
#define BALE_GDEFLATE_TABLES_CUH

#include "kernels/gdeflate_device.cuh"

enum bale_gd_code_kind {
	BALE_GD_CODE_PRECODE,
	BALE_GD_CODE_LITLEN,
	BALE_GD_CODE_DIST,
};

/*
 * An entry: bits 0-3 the code's length, 4-8 with its extra bits, 9-10 what it
 * stands for, 16-31 literal, base, or precode symbol.
 */
enum bale_gd_entry_kind {
	BALE_GD_IS_LITERAL,
	BALE_GD_IS_MATCH, /* or a distance */
	BALE_GD_IS_END,
	BALE_GD_IS_OTHER, /* a longer code, or none */
};

/* Symbols in the order of their codes, and where each length's begin. */
struct bale_gd_order {
	uint32_t limit[16]; /* first code that is longer, of 15 bits */
	uint32_t first[16]; /* index in sorted of the length's first */
	uint32_t next[16];  /* scratch of building */
	uint16_t sorted[BALE_GD_LITLEN_NR];
};

static __device__ __forceinline__ uint32_t bale_gd_entry_kind_of(uint32_t e)
{
	return e >> 9 & 3;
}

static __device__ __forceinline__ uint32_t bale_gd_entry_bits(uint32_t e)
{
	return e >> 4 & 31;
}

/* Base and extra bits, which follow the code in `bits`. */
static __device__ __forceinline__ uint32_t bale_gd_entry_value(uint32_t e,
							       uint32_t bits)
{
	uint32_t slot = bits & ((1u << bale_gd_entry_bits(e)) - 1);

	return (e >> 16) + (slot >> (e & 15));
}

static __device__ __forceinline__ uint32_t
bale_gd_entry_make(enum bale_gd_entry_kind kind, uint32_t value, uint32_t len,
		   uint32_t extra)
{
	return len | (len + extra) << 4 | (uint32_t)kind << 9 | value << 16;
}

static __device__ __forceinline__ uint32_t
bale_gd_entry(enum bale_gd_code_kind code, uint32_t sym, uint32_t len)
{
	uint32_t i = sym - BALE_GD_LEN_FIRST;

	if (code == BALE_GD_CODE_DIST)
		return bale_gd_entry_make(BALE_GD_IS_MATCH,
					  bale_gd_dist_base(sym), len,
					  bale_gd_dist_extra(sym));
	if (code == BALE_GD_CODE_PRECODE)
		return bale_gd_entry_make(BALE_GD_IS_LITERAL, sym, len,
					  sym < BALE_GD_RUN_LAST   ? 0 :
					  sym == BALE_GD_RUN_LAST  ? 2 :
					  sym == BALE_GD_RUN_ZEROS ? 7 :
								     3);
	if (sym < BALE_GD_END)
		return bale_gd_entry_make(BALE_GD_IS_LITERAL, sym, len, 0);
	if (sym == BALE_GD_END)
		return bale_gd_entry_make(BALE_GD_IS_END, 0, len, 0);
	if (sym >= BALE_GD_LITLEN_USED)
		return bale_gd_entry_make(BALE_GD_IS_OTHER, 0, len, 0);
	return bale_gd_entry_make(BALE_GD_IS_MATCH, bale_gd_len_base(i), len,
				  bale_gd_len_extra(i));
}

/* The symbol whose code, at least `len` bits long, begins `code`, left-aligned
 * to 15 bits; false where there is none. */
static __device__ __forceinline__ bool
bale_gd_find(const struct bale_gd_order *o, uint32_t code, uint32_t *len,
	     uint32_t max, uint32_t *ret_sym)
{
	uint32_t l = *len;

	while (l <= max && code >= o->limit[l])
		l++;
	if (l > max)
		return false;
	*len = l;
	*ret_sym =
		o->sorted[o->first[l] + ((code - o->limit[l - 1]) >> (15 - l))];
	return true;
}

/* The entry of a code of `len` bits or more, where the table has none; a code
 * that is shorter is that of an unused symbol. No collective. */
static __device__ uint32_t bale_gd_find_long(const struct bale_gd_order *o,
					     enum bale_gd_code_kind kind,
					     uint32_t bits, uint32_t len)
{
	uint32_t code = __brev(bits) >> 17, sym;

	if (code < o->limit[len - 1] ||
	    !bale_gd_find(o, code, &len, BALE_GD_CODE_BITS_MAX, &sym))
		return bale_gd_entry_make(BALE_GD_IS_OTHER, 0, 0, 0);
	return bale_gd_entry(kind, sym, len);
}

/* Counts, limits and first indexes. False for lengths that make no code. */
static __device__ __forceinline__ bool
bale_gd_order_count(struct bale_gd_order *o, enum bale_gd_code_kind kind,
		    const uint8_t *lens, uint32_t nr, uint32_t lane)
{
	uint32_t count, space, sum, syms;

	if (lane < 16)
		o->next[lane] = 0;
	__syncwarp();
	for (uint32_t i = lane; i < nr; i += 32)
		if (lens[i])
			atomicAdd(&o->next[lens[i]], 1u);
	__syncwarp();
	count = lane < 16 ? o->next[lane] : 0;
	space = lane < 16 ? count << (15 - lane) : 0;
	sum = bale_scan_incl(space, lane);
	syms = bale_scan_incl(count, lane);
	if (lane < 16) {
		o->limit[lane] = sum;
		o->first[lane] = syms - count;
		o->next[lane] = syms - count;
	}
	__syncwarp();
	sum = __shfl_sync(bale_all_lanes, sum, 31);
	syms = __shfl_sync(bale_all_lanes, syms, 31);
	if (sum == 1u << 15)
		return true;
	/* Incomplete: a single code of one bit; no distance at all. */
	if (kind != BALE_GD_CODE_PRECODE && syms == 1 && sum == 1u << 14)
		return true;
	return kind == BALE_GD_CODE_DIST && syms == 0;
}

static __device__ __forceinline__ void
bale_gd_order_sort(struct bale_gd_order *o, const uint8_t *lens, uint32_t nr,
		   uint32_t lane)
{
	for (uint32_t i = 0; i < nr; i += 32) {
		uint32_t len = i + lane < nr ? lens[i + lane] : 0;
		uint32_t same = __match_any_sync(bale_all_lanes, len);
		uint32_t rank = __popc(same & bale_lanes_below(lane));
		uint32_t at = o->next[len] + rank;

		__syncwarp();
		if (len) {
			o->sorted[at] = (uint16_t)(i + lane);
			if (rank == 0)
				o->next[len] = at + __popc(same);
		}
		__syncwarp();
	}
}

/*
 * lens: nr code lengths of 0 to 15, in shared memory. table has 1 << bits
 * entries. False, with the table undefined, where they are not a code.
 */
static __device__ bool bale_gd_build(uint32_t *table, uint32_t bits,
				     struct bale_gd_order *o,
				     enum bale_gd_code_kind kind,
				     const uint8_t *lens, uint32_t nr,
				     uint32_t lane)
{
	if (!bale_gd_order_count(o, kind, lens, nr, lane))
		return false;
	bale_gd_order_sort(o, lens, nr, lane);
	for (uint32_t i = lane; i < 1u << bits; i += 32) {
		uint32_t len = 1, sym, e;

		e = bale_gd_entry_make(BALE_GD_IS_OTHER, 0, 0, 0);
		if (bale_gd_find(o, __brev(i) >> 17, &len, bits, &sym))
			e = bale_gd_entry(kind, sym, len);
		table[i] = e;
	}
	__syncwarp();
	return true;
}

#endif
