/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_filter.cuh - one unit filtered, or unfiltered, by one block of
 * BALE_FILTER_THREADS threads; the bytes are those of fs/codec/filter.c
 * (docs/format.md, Filters). All threads of the block call; from and to do not
 * overlap and may have any alignment, though full units of aligned slots are
 * several times faster.
 */
#ifndef BALE_UNIT_FILTER_CUH
#define BALE_UNIT_FILTER_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "balefs/codec.h"
#include "kernels/unit_copy.cuh"

enum { BALE_FILTER_THREADS = 256 };

/* Shared memory of the block: what each warp adds to a running sum. */
struct bale_filter_shared {
	unsigned long long sums[BALE_FILTER_THREADS / 32 + 1];
};

/* An element of any alignment. */
template <typename T>
static __device__ __forceinline__ T bale_element_get(const uint8_t *p)
{
	T v = 0;

	if (!bale_low_bits(p, sizeof(T) - 1))
		return *reinterpret_cast<const T *>(p);
#pragma unroll
	for (uint32_t b = 0; b < sizeof(T); b++)
		v = static_cast<T>(v | static_cast<T>(p[b]) << (8 * b));
	return v;
}

template <typename T>
static __device__ __forceinline__ void bale_element_put(uint8_t *p, T v)
{
	if (!bale_low_bits(p, sizeof(T) - 1)) {
		*reinterpret_cast<T *>(p) = v;
		return;
	}
#pragma unroll
	for (uint32_t b = 0; b < sizeof(T); b++)
		p[b] = static_cast<uint8_t>(v >> (8 * b));
}

/* Up to 4 bytes of a plane: the low `count` of v. */
static __device__ __forceinline__ void bale_plane_put(uint8_t *p, uint32_t v,
						      uint32_t count)
{
	if (count == 4) {
		bale_element_put<uint32_t>(p, v);
		return;
	}
	for (uint32_t b = 0; b < count; b++)
		p[b] = static_cast<uint8_t>(v >> (8 * b));
}

static __device__ __forceinline__ uint32_t bale_plane_get(const uint8_t *p,
							  uint32_t count)
{
	uint32_t v = 0;

	if (count == 4)
		return bale_element_get<uint32_t>(p);
	for (uint32_t b = 0; b < count; b++)
		v |= static_cast<uint32_t>(p[b]) << (8 * b);
	return v;
}

/* A thread takes 4 elements: one word of each plane. */
template <typename T, bool Delta>
static __device__ __forceinline__ void
bale_planes_forward(const uint8_t *from, uint32_t n, uint8_t *to)
{
	for (uint32_t i = threadIdx.x * 4; i < n;
	     i += BALE_FILTER_THREADS * 4) {
		uint32_t count = n - i < 4 ? n - i : 4;
		T v[4] = { 0, 0, 0, 0 };
		T prev = 0;

		if (Delta && i)
			prev = bale_element_get<T>(from + (i - 1) * sizeof(T));
#pragma unroll
		for (uint32_t k = 0; k < 4; k++) {
			T x = k < count ? bale_element_get<T>(
						  from + (i + k) * sizeof(T)) :
					  prev;

			v[k] = Delta ? static_cast<T>(x - prev) : x;
			prev = x;
		}
#pragma unroll
		for (uint32_t b = 0; b < sizeof(T); b++) {
			uint32_t w = 0;

#pragma unroll
			for (uint32_t k = 0; k < 4; k++)
				w |= static_cast<uint32_t>(v[k] >> (8 * b) &
							   0xff)
				     << (8 * k);
			bale_plane_put(to + b * n + i, w, count);
		}
	}
}

/* The sum of v over the block's threads before this one; *total over all. */
static __device__ __forceinline__ unsigned long long
bale_block_sum_before(struct bale_filter_shared *sh, unsigned long long v,
		      unsigned long long *total)
{
	const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32;
	unsigned long long incl = v, base = 0;

#pragma unroll
	for (uint32_t d = 1; d < 32; d *= 2) {
		unsigned long long o = __shfl_up_sync(0xffffffffu, incl, d);

		if (lane >= d)
			incl += o;
	}
	if (lane == 31)
		sh->sums[warp] = incl;
	__syncthreads();
	*total = 0;
	for (uint32_t w = 0; w < BALE_FILTER_THREADS / 32; w++) {
		if (w == warp)
			base = *total;
		*total += sh->sums[w];
	}
	__syncthreads();
	return base + incl - v;
}

template <typename T, bool Delta>
static __device__ __forceinline__ void
bale_planes_backward(struct bale_filter_shared *sh, const uint8_t *from,
		     uint32_t n, uint8_t *to)
{
	unsigned long long carry = 0;

	/* All threads go round together: the sums have barriers. */
	for (uint32_t base = 0; base < n; base += BALE_FILTER_THREADS * 4) {
		uint32_t i = base + threadIdx.x * 4;
		uint32_t count = i >= n ? 0 : n - i < 4 ? n - i : 4;
		T v[4] = { 0, 0, 0, 0 };

#pragma unroll
		for (uint32_t b = 0; b < sizeof(T); b++) {
			uint32_t w = bale_plane_get(from + b * n + i, count);

#pragma unroll
			for (uint32_t k = 0; k < 4; k++)
				v[k] = static_cast<T>(
					v[k] |
					static_cast<T>(w >> (8 * k) & 0xff)
						<< (8 * b));
		}
		if (Delta) {
			unsigned long long total, before;

			/* Sums modulo 2^64 are right modulo 2^(8E). */
			v[1] = static_cast<T>(v[1] + v[0]);
			v[2] = static_cast<T>(v[2] + v[1]);
			v[3] = static_cast<T>(v[3] + v[2]);
			before =
				carry + bale_block_sum_before(sh, v[3], &total);
			carry += total;
#pragma unroll
			for (uint32_t k = 0; k < 4; k++)
				v[k] = static_cast<T>(v[k] + before);
		}
		for (uint32_t k = 0; k < count; k++)
			bale_element_put<T>(to + (i + k) * sizeof(T), v[k]);
	}
}

/*
 * Bit planes: a warp turns 32 elements of E bytes (a lane each) into a word of
 * each of 8E planes (a lane each), or back: 32 ballots either way.
 */
template <typename T>
static __device__ __forceinline__ void
bale_bits_forward(const uint8_t *from, uint32_t n, uint8_t *to)
{
	const uint32_t lane = threadIdx.x & 31, pitch = n / 8;

	for (uint32_t g = threadIdx.x / 32 * 32; g < n;
	     g += BALE_FILTER_THREADS) {
		uint32_t left = n - g < 32 ? n - g : 32, mine = 0;
		uint32_t v = lane < left ?
				     bale_element_get<T>(
					     from + (g + lane) * sizeof(T)) :
				     0;

#pragma unroll
		for (uint32_t b = 0; b < 8 * sizeof(T); b++) {
			uint32_t w = __ballot_sync(0xffffffffu, v >> b & 1);

			if (lane == b)
				mine = w;
		}
		if (lane < 8 * sizeof(T))
			bale_plane_put(to + lane * pitch + g / 8, mine,
				       left / 8);
	}
}

template <typename T>
static __device__ __forceinline__ void
bale_bits_backward(const uint8_t *from, uint32_t n, uint8_t *to)
{
	const uint32_t lane = threadIdx.x & 31, pitch = n / 8;

	for (uint32_t g = threadIdx.x / 32 * 32; g < n;
	     g += BALE_FILTER_THREADS) {
		uint32_t left = n - g < 32 ? n - g : 32, v = 0, w = 0;

		if (lane < 8 * sizeof(T))
			w = bale_plane_get(from + lane * pitch + g / 8,
					   left / 8);
#pragma unroll
		for (uint32_t i = 0; i < 32; i++) {
			uint32_t e = __ballot_sync(0xffffffffu, w >> i & 1);

			if (lane == i)
				v = e;
		}
		if (lane < left)
			bale_element_put<T>(to + (g + lane) * sizeof(T),
					    static_cast<T>(v));
	}
}

/* Bytes of an element. */
static __device__ __forceinline__ uint32_t bale_filter_size(unsigned int filter)
{
	switch (filter) {
#define X(id, name, size)                                                      \
	case id:                                                               \
		return size;
		BALE_FILTERS(X)
#undef X
	default:
		return 1;
	}
}

/* Elements that are filtered; what is behind them is copied. */
static __device__ __forceinline__ uint32_t
bale_filter_count(unsigned int filter, uint32_t len)
{
	uint32_t n = len / bale_filter_size(filter);

	if (filter == BALE_FILTER_none)
		return 0;
	if (filter == BALE_FILTER_bitshuffle2 ||
	    filter == BALE_FILTER_bitshuffle4)
		n &= ~7u;
	return n;
}

static __device__ __forceinline__ void bale_filter_tail(unsigned int filter,
							const uint8_t *from,
							uint32_t len,
							uint8_t *to)
{
	uint32_t done =
		bale_filter_count(filter, len) * bale_filter_size(filter);

	bale_copy_bytes(to + done, from + done, len - done, threadIdx.x,
			BALE_FILTER_THREADS);
}

static __device__ void bale_filter_unit(unsigned int filter,
					const uint8_t *from, uint32_t len,
					uint8_t *to)
{
	uint32_t n = bale_filter_count(filter, len);

	switch (filter) {
	case BALE_FILTER_shuffle2:
		bale_planes_forward<uint16_t, false>(from, n, to);
		break;
	case BALE_FILTER_shuffle4:
		bale_planes_forward<uint32_t, false>(from, n, to);
		break;
	case BALE_FILTER_shuffle8:
		bale_planes_forward<uint64_t, false>(from, n, to);
		break;
	case BALE_FILTER_bitshuffle2:
		bale_bits_forward<uint16_t>(from, n, to);
		break;
	case BALE_FILTER_bitshuffle4:
		bale_bits_forward<uint32_t>(from, n, to);
		break;
	case BALE_FILTER_delta1:
		bale_planes_forward<uint8_t, true>(from, n, to);
		break;
	case BALE_FILTER_delta2:
		bale_planes_forward<uint16_t, true>(from, n, to);
		break;
	case BALE_FILTER_delta4:
		bale_planes_forward<uint32_t, true>(from, n, to);
		break;
	case BALE_FILTER_delta8:
		bale_planes_forward<uint64_t, true>(from, n, to);
		break;
	}
	bale_filter_tail(filter, from, len, to);
}

static __device__ void bale_unfilter_unit(struct bale_filter_shared *sh,
					  unsigned int filter,
					  const uint8_t *from, uint32_t len,
					  uint8_t *to)
{
	uint32_t n = bale_filter_count(filter, len);

	switch (filter) {
	case BALE_FILTER_shuffle2:
		bale_planes_backward<uint16_t, false>(sh, from, n, to);
		break;
	case BALE_FILTER_shuffle4:
		bale_planes_backward<uint32_t, false>(sh, from, n, to);
		break;
	case BALE_FILTER_shuffle8:
		bale_planes_backward<uint64_t, false>(sh, from, n, to);
		break;
	case BALE_FILTER_bitshuffle2:
		bale_bits_backward<uint16_t>(from, n, to);
		break;
	case BALE_FILTER_bitshuffle4:
		bale_bits_backward<uint32_t>(from, n, to);
		break;
	case BALE_FILTER_delta1:
		bale_planes_backward<uint8_t, true>(sh, from, n, to);
		break;
	case BALE_FILTER_delta2:
		bale_planes_backward<uint16_t, true>(sh, from, n, to);
		break;
	case BALE_FILTER_delta4:
		bale_planes_backward<uint32_t, true>(sh, from, n, to);
		break;
	case BALE_FILTER_delta8:
		bale_planes_backward<uint64_t, true>(sh, from, n, to);
		break;
	}
	bale_filter_tail(filter, from, len, to);
}

#endif
