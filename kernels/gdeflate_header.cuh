/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_header.cuh - what precedes the symbols of a block: its codes, the
 * list of their lengths with its runs, the code of that list, and all of it
 * written. One warp; what it makes lies in shared memory.
 */
#ifndef BALE_GDEFLATE_HEADER_CUH
#define BALE_GDEFLATE_HEADER_CUH

#include "kernels/gdeflate_code.cuh"

enum { BALE_GD_SYMBOLS = BALE_GD_LITLEN_NR + BALE_GD_DIST_NR };

struct bale_gd_block_code {
	uint32_t codes[BALE_GD_SYMBOLS]; /* litlen, then distances */
	uint32_t pre_counts[32];
	uint32_t pre_codes[32];
	uint32_t next[16];
	bale_gd_tree tree;
	uint16_t items[BALE_GD_SYMBOLS]; /* precode symbol, extra bits << 5 */
	uint8_t lens[BALE_GD_SYMBOLS];
	uint8_t pre_lens[32];
};

struct bale_gd_header {
	uint32_t litlen, dist, precode; /* how many of each there are */
	uint32_t items;
};

static __device__ __forceinline__ uint32_t bale_gd_sum(uint32_t v)
{
	for (int d = 16; d; d /= 2)
		v += __shfl_xor_sync(bale_all_lanes, v, d);
	return v;
}

/* Zeros: symbols 18 and 17, what is left in the open. One lane. */
static __device__ uint32_t bale_gd_zero_items(uint16_t *items, uint32_t run)
{
	uint32_t nr = 0;

	while (run >= 3) {
		uint32_t now = min(run, 138u);

		items[nr++] =
			(uint16_t)(now >= 11 ?
					   BALE_GD_RUN_ZEROS | (now - 11) << 5 :
					   BALE_GD_RUN_ZERO | (now - 3) << 5);
		run -= now;
	}
	while (run--)
		items[nr++] = 0;
	return nr;
}

/* A length and how often it comes again. One lane. */
static __device__ uint32_t bale_gd_run_items(uint16_t *items, uint32_t len,
					     uint32_t run)
{
	uint32_t nr = 0;

	items[nr++] = (uint16_t)len;
	for (run--; run >= 3;) {
		uint32_t now = min(run, 6u);

		items[nr++] = (uint16_t)(BALE_GD_RUN_LAST | (now - 3) << 5);
		run -= now;
	}
	while (run--)
		items[nr++] = (uint16_t)len;
	return nr;
}

/* The list of code lengths with its runs. One lane; returns its length. */
static __device__ uint32_t bale_gd_list_items(bale_gd_block_code *u,
					      const bale_gd_header &h)
{
	uint32_t all = h.litlen + h.dist, nr = 0, i = 0;

	while (i < all) {
		uint32_t len = u->lens[i], run = 1;

		while (i + run < all && u->lens[i + run] == len)
			run++;
		nr += len ? bale_gd_run_items(u->items + nr, len, run) :
			    bale_gd_zero_items(u->items + nr, run);
		i += run;
	}
	return nr;
}

static __device__ __forceinline__ uint32_t bale_gd_item_extra(uint32_t sym)
{
	return sym < BALE_GD_RUN_LAST  ? 0 :
	       sym == BALE_GD_RUN_LAST ? 2 :
	       sym == BALE_GD_RUN_ZERO ? 3 :
					 7;
}

/* How many of nr lengths there are up to the last that is not 0. */
static __device__ uint32_t bale_gd_used_lens(const uint8_t *lens, uint32_t nr,
					     uint32_t lane)
{
	uint32_t last = 0;

	for (uint32_t i = 0; i < nr; i += 32) {
		uint32_t has = __ballot_sync(bale_all_lanes,
					     i + lane < nr && lens[i + lane]);

		if (has)
			last = i + bale_gd_top_bit(has) + 1;
	}
	return last;
}

/* The codes of a block and its header; returns the bits of all but matches'
 * extra bits. */
static __device__ uint32_t bale_gd_make_codes(bale_gd_block_code *u,
					      const uint32_t *counts,
					      bale_gd_header *h, uint32_t lane)
{
	uint8_t *dist_lens;
	uint32_t bits = 0, used;

	bale_gd_lengths(&u->tree, counts, BALE_GD_LITLEN_NR,
			BALE_GD_LITLEN_BITS_ENCODED, u->lens, lane);
	h->litlen = bale_gd_used_lens(u->lens, BALE_GD_LITLEN_NR, lane);
	dist_lens = u->lens + h->litlen;
	bale_gd_assign(u->lens, h->litlen, u->codes, u->next, lane);
	bale_gd_lengths(&u->tree, counts + BALE_GD_LITLEN_NR, BALE_GD_DIST_NR,
			BALE_GD_CODE_BITS_MAX, dist_lens, lane);
	h->dist = max(bale_gd_used_lens(dist_lens, BALE_GD_DIST_NR, lane), 1u);
	bale_gd_assign(dist_lens, h->dist, u->codes + BALE_GD_LITLEN_NR,
		       u->next, lane);
	for (uint32_t i = lane; i < h->litlen; i += 32)
		bits += counts[i] * u->lens[i];
	if (lane < h->dist)
		bits += counts[BALE_GD_LITLEN_NR + lane] * dist_lens[lane];

	if (lane == 0)
		h->items = bale_gd_list_items(u, *h);
	h->items = __shfl_sync(bale_all_lanes, h->items, 0);
	u->pre_counts[lane] = 0;
	__syncwarp();
	for (uint32_t i = lane; i < h->items; i += 32)
		atomicAdd(&u->pre_counts[u->items[i] & 31], 1u);
	__syncwarp();
	/* A precode must be complete: it has two symbols at least. */
	used = __ballot_sync(bale_all_lanes, u->pre_counts[lane] != 0);
	if (lane == 0 && __popc(used) == 1)
		u->pre_counts[used & 1] = 1;
	__syncwarp();
	bale_gd_lengths(&u->tree, u->pre_counts, BALE_GD_PRECODE_NR,
			BALE_GD_PRECODE_BITS_MAX, u->pre_lens, lane);
	bale_gd_assign(u->pre_lens, BALE_GD_PRECODE_NR, u->pre_codes, u->next,
		       lane);
	used = __ballot_sync(bale_all_lanes,
			     lane < BALE_GD_PRECODE_NR &&
				     u->pre_lens[bale_gd_precode_order(lane)]);
	h->precode =
		max(bale_gd_top_bit(used) + 1, (uint32_t)BALE_GD_PRECODE_MIN);
	if (lane < BALE_GD_PRECODE_NR)
		bits += u->pre_counts[lane] *
			(u->pre_lens[lane] + bale_gd_item_extra(lane));
	return bale_gd_sum(bits) + BALE_GD_BLOCK_BITS + BALE_GD_DYNAMIC_BITS +
	       3 * h->precode;
}

static __device__ uint32_t bale_gd_extra_bits(const uint32_t *counts,
					      uint32_t lane)
{
	uint32_t bits =
		counts[BALE_GD_LITLEN_NR + lane] * bale_gd_dist_extra(lane);

	if (lane < BALE_GD_LITLEN_USED - BALE_GD_LEN_FIRST)
		bits += counts[BALE_GD_LEN_FIRST + lane] *
			bale_gd_len_extra(lane);
	return bale_gd_sum(bits);
}

static __device__ bool bale_gd_put_block(bale_gd_writer *w, bool last,
					 uint32_t type, uint32_t lane)
{
	return bale_gd_put(w, lane ? 0 : (uint32_t)last | type << 1,
			   lane ? 0 : BALE_GD_BLOCK_BITS, lane);
}

static __device__ bool bale_gd_put_header(bale_gd_writer *w,
					  const bale_gd_block_code *u,
					  const bale_gd_header &h, bool last,
					  uint32_t lane)
{
	uint32_t head = (h.litlen - BALE_GD_LITLEN_MIN) | (h.dist - 1) << 5 |
			(h.precode - BALE_GD_PRECODE_MIN) << 10;
	bool mine = lane < h.precode;

	if (!bale_gd_put_block(w, last, BALE_GD_DYNAMIC, lane) ||
	    !bale_gd_put(w, lane ? 0 : head, lane ? 0 : BALE_GD_DYNAMIC_BITS,
			 lane) ||
	    !bale_gd_put(w, mine ? u->pre_lens[bale_gd_precode_order(lane)] : 0,
			 mine ? 3 : 0, lane))
		return false;
	for (uint32_t i = 0; i < h.items; i += 32) {
		uint32_t value = 0, bits = 0;

		if (i + lane < h.items) {
			uint32_t item = u->items[i + lane], sym = item & 31;
			uint32_t code = u->pre_codes[sym];

			bits = bale_gd_code_bits(code);
			value = bale_gd_code_value(code) | item >> 5 << bits;
			bits += bale_gd_item_extra(sym);
		}
		if (!bale_gd_put(w, value, bits, lane))
			return false;
	}
	return true;
}

#endif
