/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_copy.cuh - a block of threads copies, compares and fills bytes of any
 * alignment. Nothing outside [dst, dst + len) is written and nothing outside
 * [src, src + len) read, not even within an aligned word. No barrier inside:
 * the caller's threads, t of nt, all call.
 */
#ifndef BALE_UNIT_COPY_CUH
#define BALE_UNIT_COPY_CUH

#include <cuda_runtime.h>
#include <stdint.h>

static __device__ __forceinline__ uint32_t bale_low_bits(const void *p,
							 uint32_t mask)
{
	return (uint32_t)(reinterpret_cast<uintptr_t>(p) & mask);
}

/* Both 16-byte aligned relative to each other. */
static __device__ __forceinline__ void bale_copy_same(uint8_t *dst,
						      const uint8_t *src,
						      uint32_t len, uint32_t t,
						      uint32_t nt)
{
	uint32_t head = (16 - bale_low_bits(dst, 15)) & 15;
	uint32_t n;

	if (head > len)
		head = len;
	n = (len - head) / 16;
	for (uint32_t i = t; i < n; i += nt)
		reinterpret_cast<uint4 *>(dst + head)[i] =
			reinterpret_cast<const uint4 *>(src + head)[i];
	for (uint32_t i = t; i < head; i += nt)
		dst[i] = src[i];
	for (uint32_t i = head + n * 16 + t; i < len; i += nt)
		dst[i] = src[i];
}

static __device__ __forceinline__ void bale_copy_bytes(uint8_t *dst,
						       const uint8_t *src,
						       uint32_t len, uint32_t t,
						       uint32_t nt)
{
	uint32_t head, shift, n;

	if (bale_low_bits(dst, 15) == bale_low_bits(src, 15)) {
		bale_copy_same(dst, src, len, t, nt);
		return;
	}
	/* Words of dst, each from the two aligned words of src around it: both
	   of these must lie inside src. */
	head = (4 - bale_low_bits(dst, 3)) & 3;
	shift = bale_low_bits(src + head, 3);
	if (head < shift)
		head += 4;
	n = len + shift >= head + 8 ? (len + shift - 8 - head) / 4 + 1 : 0;
	if (!n)
		head = len;
	for (uint32_t i = t; i < n; i += nt) {
		const uint32_t *p = reinterpret_cast<const uint32_t *>(
			src + head + 4 * i - shift);

		reinterpret_cast<uint32_t *>(dst + head)[i] =
			__funnelshift_r(p[0], p[1], shift * 8);
	}
	for (uint32_t i = t; i < head; i += nt)
		dst[i] = src[i];
	for (uint32_t i = head + n * 4 + t; i < len; i += nt)
		dst[i] = src[i];
}

/* Do any of this thread's bytes differ? */
static __device__ __forceinline__ bool
bale_bytes_differ(const uint8_t *a, const uint8_t *b, uint32_t len, uint32_t t,
		  uint32_t nt)
{
	bool differ = false;
	uint32_t done = 0;

	if (!bale_low_bits(a, 15) && !bale_low_bits(b, 15)) {
		done = len / 16 * 16;
		for (uint32_t i = t; i < len / 16; i += nt) {
			uint4 x = reinterpret_cast<const uint4 *>(a)[i];
			uint4 y = reinterpret_cast<const uint4 *>(b)[i];

			differ |= x.x != y.x || x.y != y.y || x.z != y.z ||
				  x.w != y.w;
		}
	}
	for (uint32_t i = done + t; i < len; i += nt)
		differ |= a[i] != b[i];
	return differ;
}

/* The pattern of 1, 2, 4 or 8 bytes, from its first byte on. */
static __device__ __forceinline__ void
bale_fill_bytes(uint8_t *dst, uint32_t len, const uint8_t *pattern,
		uint32_t period, uint32_t t, uint32_t nt)
{
	uint32_t head = (16 - bale_low_bits(dst, 15)) & 15;
	uint32_t w[4] = { 0, 0, 0, 0 }, n;

	if (head > len)
		head = len;
		/* Periods divide 16: one vector, rotated by the head, serves
		 * all. */
#pragma unroll
	for (uint32_t i = 0; i < 16; i++)
		w[i / 4] |= static_cast<uint32_t>(
				    pattern[(head + i) & (period - 1)])
			    << (8 * (i % 4));
	n = (len - head) / 16;
	for (uint32_t i = t; i < n; i += nt)
		reinterpret_cast<uint4 *>(dst + head)[i] =
			make_uint4(w[0], w[1], w[2], w[3]);
	for (uint32_t i = t; i < head; i += nt)
		dst[i] = pattern[i & (period - 1)];
	for (uint32_t i = head + n * 16 + t; i < len; i += nt)
		dst[i] = pattern[i & (period - 1)];
}

/*
 * The smallest period, 1, 2, 4 or 8, of len >= 1 bytes, or 0: what fs/codec's
 * fill finds. All threads of the block call (barriers), with 1 << 31 > len.
 */
static __device__ __forceinline__ uint32_t bale_fill_period(const uint8_t *src,
							    uint32_t len,
							    uint32_t t,
							    uint32_t nt)
{
	/* Data that is no fill shows it in the first bytes. */
	uint32_t first = len < 8 + nt ? len : 8 + nt;
	bool differ = false;

	for (uint32_t i = 8 + t; i < first; i += nt)
		differ |= src[i] != src[i - 8];
	if (__syncthreads_or(differ))
		return 0;
	for (uint32_t i = first + t; i < len; i += nt)
		differ |= src[i] != src[i - 8];
	if (__syncthreads_or(differ))
		return 0;
	if (len > 8)
		len = 8;
	for (uint32_t p = 1; p < 8; p *= 2) {
		bool same = len >= p;

		for (uint32_t i = p; i < len; i++)
			same = same && src[i] == src[i - p];
		if (same)
			return p;
	}
	return len == 8 ? 8 : 0;
}

#endif
