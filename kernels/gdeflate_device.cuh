/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_device.cuh - one tile seen by one warp: lane i of the warp is lane i
 * of the tile (docs/format.md, "GDeflate tiles").
 *
 * Reader and writer hold the same picture of a lane: two words, and how many
 * bits of the first are used, 1 to 32. The tile says that a lane's next word
 * follows at the end of the slot in which more than 32 are, so both take
 * words at the same moments, in the order of the lanes, and a ballot tells each
 * lane which word is its own. Before the first slot there is one word: it
 * stands as the second, with all of an absent first one used.
 */
#ifndef BALE_GDEFLATE_DEVICE_CUH
#define BALE_GDEFLATE_DEVICE_CUH

#include "balefs/gdeflate.h"
#include "kernels/lane.cuh"

/* The or of v over the warp. */
static __device__ __forceinline__ uint32_t bale_gd_or(uint32_t v)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
	return __reduce_or_sync(bale_all_lanes, v);
#else
#pragma unroll
	for (int d = 16; d; d /= 2)
		v |= __shfl_xor_sync(bale_all_lanes, v, d);
	return v;
#endif
}

static __device__ __forceinline__ uint32_t bale_gd_load(const uint8_t *p,
							bool aligned)
{
	if (aligned)
		return __ldg((const uint32_t *)p);
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	       (uint32_t)p[3] << 24;
}

static __device__ __forceinline__ void bale_gd_store(uint8_t *p, bool aligned,
						     uint32_t v)
{
	if (aligned) {
		*(uint32_t *)p = v;
		return;
	}
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)(v >> 16);
	p[3] = (uint8_t)(v >> 24);
}

/* ---- reading ---- */

/*
 * Words come through a window of three times 32, one a lane, loaded long before
 * they are needed. All but the words, `used` and the window are the same in
 * every lane.
 */
struct bale_gd_reader {
	const uint8_t *src;
	uint32_t nr;   /* words of the tile */
	uint32_t next; /* words taken; past nr when the tile is too short */
	uint32_t window[3];
	uint32_t word[2];
	uint32_t used; /* bits of word[0] */
	bool aligned;
};

static __device__ __forceinline__ uint32_t
bale_gd_read_word(const struct bale_gd_reader *r, uint32_t i)
{
	return i < r->nr ? bale_gd_load(r->src + 4 * i, r->aligned) : 0;
}

/* len is a multiple of 4 and at least BALE_GD_TILE_MIN. */
static __device__ __forceinline__ void
bale_gd_reader_init(struct bale_gd_reader *r, const void *src, uint32_t len,
		    uint32_t lane)
{
	r->src = (const uint8_t *)src;
	r->aligned = ((uintptr_t)src & 3) == 0;
	r->nr = len / 4;
	r->word[0] = 0;
	r->word[1] = bale_gd_read_word(r, lane);
	r->used = 32;
	r->next = BALE_GD_LANES;
	for (uint32_t i = 0; i < 3; i++)
		r->window[i] = bale_gd_read_word(r, 32 * (i + 1) + lane);
}

/* The next 32 bits of this lane. */
static __device__ __forceinline__ uint32_t
bale_gd_peek(const struct bale_gd_reader *r)
{
	return __funnelshift_rc(r->word[0], r->word[1], r->used);
}

/* A slot of `bits` in each lane; 0 where the lane has none, else < 32. */
static __device__ __forceinline__ void
bale_gd_take(struct bale_gd_reader *r, uint32_t bits, uint32_t lane)
{
	uint32_t used = r->used + bits;
	bool more = used > 32;
	uint32_t all = __ballot_sync(bale_all_lanes, more);
	uint32_t at = (r->next & 31) + __popc(all & bale_lanes_below(lane));
	uint32_t a = __shfl_sync(bale_all_lanes, r->window[0], (int)(at & 31));
	uint32_t b = __shfl_sync(bale_all_lanes, r->window[1], (int)(at & 31));
	uint32_t before = r->next;

	if (more) {
		r->word[0] = r->word[1];
		r->word[1] = at < 32 ? a : b;
		used -= 32;
	}
	r->used = used;
	r->next += __popc(all);
	if ((before ^ r->next) & 32) {
		r->window[0] = r->window[1];
		r->window[1] = r->window[2];
		r->window[2] =
			bale_gd_read_word(r, (r->next & ~31u) + 64 + lane);
	}
}

/* Has more been taken than there is? */
static __device__ __forceinline__ bool
bale_gd_short(const struct bale_gd_reader *r)
{
	return r->next > r->nr;
}

/* ---- writing ---- */

/* Bits wait in value until their words are full. */
struct bale_gd_writer {
	uint8_t *dst;
	uint32_t cap;  /* in words */
	uint32_t next; /* words given to lanes */
	uint32_t word[2];
	uint32_t value[2];
	uint32_t used; /* bits of value[0] */
	bool aligned;
};

static const uint32_t bale_gd_no_word = 0xffffffffu;

/* cap: in bytes, at least BALE_GD_TILE_MIN. */
static __device__ __forceinline__ void
bale_gd_writer_init(struct bale_gd_writer *w, void *dst, uint32_t cap,
		    uint32_t lane)
{
	w->dst = (uint8_t *)dst;
	w->aligned = ((uintptr_t)dst & 3) == 0;
	w->cap = cap / 4;
	w->next = BALE_GD_LANES;
	w->word[0] = bale_gd_no_word;
	w->word[1] = lane;
	w->value[0] = 0;
	w->value[1] = 0;
	w->used = 32;
}

/*
 * A slot of `bits` in each lane, 0 where the lane has none, else < 32; value
 * has no bit above. False when there is no room: nothing may follow.
 */
static __device__ __forceinline__ bool bale_gd_put(struct bale_gd_writer *w,
						   uint32_t value,
						   uint32_t bits, uint32_t lane)
{
	uint64_t both = (uint64_t)value << w->used;
	uint32_t used = w->used + bits;
	bool more = used > 32;
	uint32_t all = __ballot_sync(bale_all_lanes, more);
	uint32_t mine = w->next + __popc(all & bale_lanes_below(lane));

	w->next += __popc(all);
	if (w->next > w->cap)
		return false;
	w->value[0] |= (uint32_t)both;
	w->value[1] |= (uint32_t)(both >> 32);
	if (more) {
		if (w->word[0] != bale_gd_no_word)
			bale_gd_store(w->dst + 4 * w->word[0], w->aligned,
				      w->value[0]);
		w->word[0] = w->word[1];
		w->value[0] = w->value[1];
		w->word[1] = mine;
		w->value[1] = 0;
		used -= 32;
	}
	w->used = used;
	return true;
}

/* What waits is written; all words of the tile then are. */
static __device__ __forceinline__ void
bale_gd_flush(const struct bale_gd_writer *w)
{
	if (w->word[0] != bale_gd_no_word)
		bale_gd_store(w->dst + 4 * w->word[0], w->aligned, w->value[0]);
	bale_gd_store(w->dst + 4 * w->word[1], w->aligned, w->value[1]);
}

#endif
