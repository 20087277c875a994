/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_plain.cu - the codecs that need no coder: raw and fill, for device.h and
 * for what a batch's split() left to be copied.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "kernels/kernels.h"
#include "kernels/unit_copy.cuh"

namespace
{

constexpr int kThreads = 256;

/* What a thread of the block may ask of its chunk. */
struct Chunk {
	const uint8_t *src;
	uint8_t *dst;
	uint32_t src_len, dst_cap;
};

__device__ Chunk chunk_of(const bale_chunks &c)
{
	size_t i = blockIdx.x;

	return { static_cast<const uint8_t *>(c.src[i]),
		 static_cast<uint8_t *>(c.dst[i]), c.src_len[i], c.dst_cap[i] };
}

__device__ void finish(const bale_chunks &c, uint32_t status, uint32_t len)
{
	if (threadIdx.x)
		return;
	c.status[blockIdx.x] = status;
	c.dst_len[blockIdx.x] = status == BALE_CHUNK_OK ? len : 0;
}

/* A block a chunk; memory bound. */
__global__ void __launch_bounds__(kThreads)
	raw_kernel(bale_chunks c, bool encode)
{
	Chunk k = chunk_of(c);
	uint32_t status = BALE_CHUNK_OK;

	if ((encode ? k.src_len : k.dst_cap) > c.max_chunk)
		status = BALE_CHUNK_INVALID;
	else if (encode && k.src_len > k.dst_cap)
		status = BALE_CHUNK_NO_ROOM;
	else if (!encode && k.src_len != k.dst_cap)
		status = BALE_CHUNK_BAD;
	else
		bale_copy_bytes(k.dst, k.src, k.src_len, threadIdx.x, kThreads);
	finish(c, status, k.src_len);
}

__global__ void __launch_bounds__(kThreads) fill_encode_kernel(bale_chunks c)
{
	Chunk k = chunk_of(c);
	uint32_t status = BALE_CHUNK_OK, period = 0;

	if (k.src_len > c.max_chunk)
		status = BALE_CHUNK_INVALID;
	else if (k.src_len && k.dst_cap)
		period = bale_fill_period(k.src, k.src_len, threadIdx.x,
					  kThreads);
	if (!status && (!period || period > k.dst_cap))
		status = BALE_CHUNK_NO_ROOM;
	if (!status && threadIdx.x < period)
		k.dst[threadIdx.x] = k.src[threadIdx.x];
	finish(c, status, period);
}

__device__ bool is_period(uint32_t n)
{
	return n == 1 || n == 2 || n == 4 || n == 8;
}

__global__ void __launch_bounds__(kThreads) fill_decode_kernel(bale_chunks c)
{
	Chunk k = chunk_of(c);
	uint32_t status = BALE_CHUNK_OK;

	if (k.dst_cap > c.max_chunk)
		status = BALE_CHUNK_INVALID;
	else if (!is_period(k.src_len) || !k.dst_cap)
		status = BALE_CHUNK_BAD;
	else
		bale_fill_bytes(k.dst, k.dst_cap, k.src, k.src_len, threadIdx.x,
				kThreads);
	finish(c, status, k.dst_cap);
}

/* A thread a chunk. */
__global__ void __launch_bounds__(kThreads) raw_len_kernel(bale_chunks c)
{
	size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;

	if (i >= c.nr)
		return;
	c.dst_len[i] = c.src_len[i] <= c.max_chunk ? c.src_len[i] : 0;
	c.status[i] =
		c.src_len[i] <= c.max_chunk ? BALE_CHUNK_OK : BALE_CHUNK_BAD;
}

/* A block a unit; those of the coded kind end at once. */
__global__ void __launch_bounds__(kThreads)
	plain_kernel(bale_units u, const struct bale_unit_plain *plain)
{
	struct bale_unit_plain p = plain[blockIdx.x];
	uint8_t *dst = static_cast<uint8_t *>(p.dst);
	const uint8_t *src = static_cast<const uint8_t *>(p.src);

	if (p.kind == BALE_PLAIN_NOT)
		return;
	if (p.kind == BALE_PLAIN_RAW)
		bale_copy_bytes(dst, src, p.len, threadIdx.x, kThreads);
	else if (p.kind == BALE_PLAIN_PATTERN)
		bale_fill_bytes(dst, p.len, src, p.period, threadIdx.x,
				kThreads);
	if (threadIdx.x)
		return;
	u.status[blockIdx.x] =
		p.kind == BALE_PLAIN_BAD ? BALE_CHUNK_BAD : BALE_CHUNK_OK;
	u.dst_len[blockIdx.x] = p.kind == BALE_PLAIN_BAD ? 0 : p.len;
}

} // namespace

int bale_raw_encode(const struct bale_chunks *c)
{
	BALE_LAUNCH(raw_kernel, static_cast<unsigned int>(c->nr), kThreads, 0,
		    c->stream, *c, true);
	return bale_launch_check();
}

int bale_raw_decode(const struct bale_chunks *c)
{
	BALE_LAUNCH(raw_kernel, static_cast<unsigned int>(c->nr), kThreads, 0,
		    c->stream, *c, false);
	return bale_launch_check();
}

int bale_raw_decoded_len(const struct bale_chunks *c)
{
	BALE_LAUNCH(
		raw_len_kernel,
		static_cast<unsigned int>((c->nr + kThreads - 1) / kThreads),
		kThreads, 0, c->stream, *c);
	return bale_launch_check();
}

int bale_fill_encode(const struct bale_chunks *c)
{
	BALE_LAUNCH(fill_encode_kernel, static_cast<unsigned int>(c->nr),
		    kThreads, 0, c->stream, *c);
	return bale_launch_check();
}

int bale_fill_decode(const struct bale_chunks *c)
{
	BALE_LAUNCH(fill_decode_kernel, static_cast<unsigned int>(c->nr),
		    kThreads, 0, c->stream, *c);
	return bale_launch_check();
}

int bale_unit_copy_plain(const struct bale_units *u,
			 const struct bale_unit_plain *plain,
			 cudaStream_t stream)
{
	if (!u->nr)
		return 0;
	if (u->nr > BALE_UNITS_MAX)
		return -EINVAL;
	BALE_LAUNCH(plain_kernel, static_cast<unsigned int>(u->nr), kThreads, 0,
		    stream, *u, plain);
	return bale_launch_check();
}
