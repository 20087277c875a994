/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.cuh - what a warp of the codec kernels does again and again: scans,
 * masks of lanes, and a unit of any alignment seen as aligned 32-bit words.
 * All lanes of a warp call the collectives together.
 */
#ifndef BALE_LANE_CUH
#define BALE_LANE_CUH

#include <cuda_runtime.h>
#include <stdint.h>

static const uint32_t bale_all_lanes = 0xffffffffu;

static __device__ __forceinline__ uint32_t bale_lane(void)
{
	return threadIdx.x & 31;
}

/* The lanes below this one. */
static __device__ __forceinline__ uint32_t bale_lanes_below(uint32_t lane)
{
	return (1u << lane) - 1;
}

/* The sum of v over the lanes up to this one, itself included. */
static __device__ __forceinline__ uint32_t bale_scan_incl(uint32_t v,
							  uint32_t lane)
{
#pragma unroll
	for (uint32_t d = 1; d < 32; d *= 2) {
		uint32_t below = __shfl_up_sync(bale_all_lanes, v, d);

		if (lane >= d)
			v += below;
	}
	return v;
}

/*
 * The last lane whose excl is <= key. excl ascends over the lanes and is 0 in
 * lane 0: given the exclusive sums of sizes and key below their total, the lane
 * that owns item `key`.
 */
static __device__ __forceinline__ uint32_t bale_scan_owner(uint32_t excl,
							   uint32_t key)
{
	uint32_t at = 0;

#pragma unroll
	for (uint32_t d = 16; d; d /= 2) {
		uint32_t there =
			__shfl_sync(bale_all_lanes, excl, (int)(at + d));

		if (there <= key)
			at += d;
	}
	return at;
}

/* A unit as aligned words; bytes outside the unit read as 0. */
struct bale_words {
	const uint32_t *words;
	uint32_t first; /* where the unit starts in words[0], 0..3 */
	uint32_t end;	/* first + the unit's length */
};

static __device__ __forceinline__ struct bale_words
bale_words_of(const void *src, uint32_t len)
{
	struct bale_words w;
	uint32_t first = (uint32_t)((uintptr_t)src & 3);

	w.words = (const uint32_t *)((const uint8_t *)src - first);
	w.first = first;
	w.end = first + len;
	return w;
}

/* Never reads a byte that is not the unit's. */
static __device__ __forceinline__ uint32_t bale_word(const struct bale_words &w,
						     uint32_t i)
{
	uint32_t at = 4 * i, v = 0;

	if (at >= w.first && at + 4 <= w.end)
		return __ldg(w.words + i);
	for (uint32_t k = 0; k < 4; k++)
		if (at + k >= w.first && at + k < w.end)
			v |= (uint32_t)__ldg((const uint8_t *)w.words + at + k)
			     << (8 * k);
	return v;
}

#endif
