/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_crc.cu - CRC-32C of pieces of device memory, as fs/base/crc32c.c.
 *
 * A crc is linear: with 32-bit words w[0..n) and A the step over 4 zero bytes,
 * it is the sum of A^(n-i) w[i]. Thread t of T takes words t, t + T, ... (so
 * that reads coalesce), each step one application of A^T, which is four table
 * lookups; at the end it multiplies by A to the number of words that follow its
 * last one. The first 4 bytes are inverted, which is what a start value of ~0
 * means. Data that does not begin on a word is preceded by zeros, which change
 * nothing at a start value of 0.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "kernels/kernels.h"
#include "kernels/unit_copy.cuh"

namespace
{

constexpr int kThreads = 256;
constexpr uint32_t kPoly = 0x82f63b78u; /* reflected Castagnoli */
/* Below this one thread does it byte by byte. */
constexpr uint32_t kShort = 16;

constexpr uint32_t step_bits(uint32_t c, int bits)
{
	for (int i = 0; i < bits; i++)
		c = (c >> 1) ^ (c & 1 ? kPoly : 0);
	return c;
}

/* Products of polynomials; bit 31 is x^0. */
constexpr uint32_t multiply(uint32_t a, uint32_t b)
{
	uint32_t p = 0;

	for (uint32_t m = 1u << 31; m; m >>= 1) {
		if (a & m)
			p ^= b;
		b = (b >> 1) ^ (b & 1 ? kPoly : 0);
	}
	return p;
}

struct Tables {
	uint32_t skip[4][256];	      /* A^T by byte of the crc */
	uint32_t power[kThreads + 1]; /* x^(32 k) */
};

constexpr Tables make_tables()
{
	Tables t = {};
	uint32_t far = 0, bit[32] = {};

	t.power[0] = 1u << 31;
	for (int k = 1; k <= kThreads; k++)
		t.power[k] = step_bits(t.power[k - 1], 32);
	far = t.power[kThreads];
	for (int b = 0; b < 32; b++)
		bit[b] = multiply(1u << b, far);
	for (uint32_t v = 0; v < 256; v++)
		for (int k = 0; k < 4; k++)
			for (int b = 0; b < 8; b++)
				if (v >> b & 1)
					t.skip[k][v] ^= bit[8 * k + b];
	return t;
}

__device__ const Tables tables = make_tables();

struct Shared {
	uint32_t skip[4][256];
	uint32_t warps[kThreads / 32];
};

__device__ uint32_t product(uint32_t a, uint32_t b)
{
	uint32_t p = 0;

	for (int i = 31; i >= 0; i--) {
		p ^= a >> i & 1 ? b : 0;
		b = (b >> 1) ^ (b & 1 ? kPoly : 0);
	}
	return p;
}

__device__ uint32_t step_byte(uint32_t c, uint32_t byte)
{
	c ^= byte;
	for (int i = 0; i < 8; i++)
		c = (c >> 1) ^ (c & 1 ? kPoly : 0);
	return c;
}

/* Word w of the data behind `pad` zero bytes, its first 4 bytes inverted. */
__device__ uint32_t word_of(const uint8_t *src, uint32_t pad, uint32_t w)
{
	uint32_t v = 0;

	if (w || !pad)
		v = *reinterpret_cast<const uint32_t *>(src + 4 * w - pad);
	else
		for (uint32_t b = pad; b < 4; b++)
			v |= static_cast<uint32_t>(src[b - pad]) << (8 * b);
	if (!w)
		v ^= 0xffffffffu << (8 * pad);
	else if (w == 1 && pad)
		v ^= 0xffffffffu >> (32 - 8 * pad);
	return v;
}

/* The sum over the block, in thread 0. */
__device__ uint32_t block_xor(Shared &sh, uint32_t v)
{
	for (int d = 16; d; d /= 2)
		v ^= __shfl_xor_sync(0xffffffffu, v, d);
	if (!(threadIdx.x & 31))
		sh.warps[threadIdx.x / 32] = v;
	__syncthreads();
	v = 0;
	for (int w = 0; w < kThreads / 32; w++)
		v ^= sh.warps[w];
	return v;
}

/* Right in thread 0; all threads call. */
__device__ uint32_t crc_block(Shared &sh, const uint8_t *src, uint32_t len)
{
	uint32_t pad = bale_low_bits(src, 3), n, acc = 0, last = 0;

	for (uint32_t i = threadIdx.x; i < 4 * 256; i += kThreads)
		sh.skip[i / 256][i % 256] = tables.skip[i / 256][i % 256];
	__syncthreads();
	if (len < kShort) {
		uint32_t c = 0xffffffffu;

		for (uint32_t i = 0; i < len; i++)
			c = step_byte(c, src[i]);
		return ~c;
	}
	n = (pad + len) / 4;
#pragma unroll 4
	for (uint32_t w = threadIdx.x; w < n; w += kThreads) {
		uint32_t v = word_of(src, pad, w);

		acc = v ^ sh.skip[0][acc & 0xff] ^ sh.skip[1][acc >> 8 & 0xff] ^
		      sh.skip[2][acc >> 16 & 0xff] ^ sh.skip[3][acc >> 24];
		last = w;
	}
	/* Threads beyond n have nothing; theirs stays 0. */
	if (threadIdx.x < n)
		acc = product(acc, tables.power[n - last]);
	acc = block_xor(sh, acc);
	for (uint32_t i = n * 4 - pad; i < len; i++)
		acc = step_byte(acc, src[i]);
	return ~acc;
}

__global__ void __launch_bounds__(kThreads)
	many_kernel(const void *const *src, const uint32_t *len, uint32_t *crc)
{
	__shared__ Shared sh;
	uint32_t c =
		crc_block(sh, static_cast<const uint8_t *>(src[blockIdx.x]),
			  len[blockIdx.x]);

	if (!threadIdx.x)
		crc[blockIdx.x] = c;
}

__global__ void __launch_bounds__(kThreads)
	results_kernel(struct bale_unit_result *results, const uint8_t *packed)
{
	__shared__ Shared sh;
	struct bale_unit_result *r = &results[blockIdx.x];
	uint32_t c;

	if (r->status != BALE_CHUNK_OK)
		return;
	c = crc_block(sh, packed + r->off, r->len);
	if (!threadIdx.x)
		r->crc = c;
}

} // namespace

int bale_crc32c_many(size_t nr, const void *const *src, const uint32_t *len,
		     uint32_t *crc, cudaStream_t stream)
{
	if (!nr)
		return 0;
	if (nr > BALE_UNITS_MAX)
		return -EINVAL;
	BALE_LAUNCH(many_kernel, static_cast<unsigned int>(nr), kThreads, 0,
		    stream, src, len, crc);
	return bale_launch_check();
}

int bale_unit_crc(struct bale_unit_result *results, size_t nr_jobs,
		  const void *packed, cudaStream_t stream)
{
	if (!nr_jobs)
		return 0;
	if (nr_jobs > BALE_UNITS_MAX)
		return -EINVAL;
	BALE_LAUNCH(results_kernel, static_cast<unsigned int>(nr_jobs),
		    kThreads, 0, stream, results,
		    static_cast<const uint8_t *>(packed));
	return bale_launch_check();
}
