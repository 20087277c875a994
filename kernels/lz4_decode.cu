// SPDX-License-Identifier: Apache-2.0
//
// The LZ4 decoder's host side, and the walk that finds a decoded length.
#include "kernels/simt.h"
#include "kernels/lz4_decode.cuh"

#include <errno.h>

namespace
{

// The decoded length, by walking the tokens: a thread a block.
__device__ bool walk(const uint8_t *src, uint32_t len, uint32_t *ret_len)
{
	const struct bale_lz4_block b = { src, nullptr, len, BALE_UNIT_SIZE };
	uint32_t at = 0, out = 0;

	while (at < len) {
		uint32_t token = src[at++];
		uint32_t lit = token >> 4, match = token & 15;

		if (lit == 15 && !bale_lz4_read_long(b, &at, &lit, b.cap))
			return false;
		if (lit > len - at || lit > b.cap - out)
			return false;
		at += lit;
		out += lit;
		if (at == len) {
			*ret_len = out;
			return true;
		}
		if (len - at < 2)
			return false;
		at += 2;
		if (match == 15 && !bale_lz4_read_long(b, &at, &match, b.cap))
			return false;
		match += BALE_LZ4_MIN_MATCH;
		if (match > b.cap - out)
			return false;
		out += match;
	}
	return false;
}

__global__ void decoded_len_kernel(const struct bale_lz4_decode_job job)
{
	uint32_t unit = blockIdx.x * blockDim.x + threadIdx.x, len = 0;

	if (unit >= job.nr)
		return;

	bool ok = walk(static_cast<const uint8_t *>(job.src[unit]),
		       job.src_len[unit], &len);

	job.dst_len[unit] = ok ? len : 0;
	job.status[unit] = ok ? BALE_CHUNK_OK : BALE_CHUNK_BAD;
}

struct bale_lz4_decode_job job_of(const struct bale_chunks *c)
{
	struct bale_lz4_decode_job job = {};

	job.nr = (uint32_t)c->nr;
	job.max_chunk = c->max_chunk;
	job.src = c->src;
	job.src_len = c->src_len;
	job.dst = c->dst;
	job.dst_cap = c->dst_cap;
	job.dst_len = c->dst_len;
	job.status = c->status;
	job.stream = c->stream;
	return job;
}

constexpr size_t kAlign = 256;

size_t align_up(size_t v)
{
	return (v + kAlign - 1) / kAlign * kAlign;
}

// A sequence with a match is 4 bytes at least; the last has none, and one more
// entry says where the unit ends.
size_t tokens_max(uint32_t max_chunk)
{
	return max_chunk / BALE_LZ4_MIN_MATCH + 2;
}

size_t tokens_bytes(size_t nr, uint32_t max_chunk)
{
	return align_up(nr * tokens_max(max_chunk) * sizeof(uint64_t));
}

} // namespace

size_t bale_lz4_decode_temp(size_t nr, uint32_t max_chunk)
{
	return tokens_bytes(nr, max_chunk) + align_up(nr * sizeof(uint32_t));
}

int bale_lz4_decode(const struct bale_chunks *c)
{
	struct bale_lz4_decode_job job = job_of(c);
	int r;

	if (c->nr > INT32_MAX || c->max_chunk > BALE_UNIT_SIZE)
		return -EINVAL;
	if (!c->nr)
		return 0;
	if (c->temp_len < bale_lz4_decode_temp(c->nr, c->max_chunk))
		return bale_lz4_decode_whole(&job);
	job.tokens = reinterpret_cast<uint64_t *>(c->temp);
	job.tokens_stride = (uint32_t)tokens_max(c->max_chunk);
	job.nr_tokens = reinterpret_cast<uint32_t *>(
		c->temp + tokens_bytes(c->nr, c->max_chunk));
	r = bale_lz4_decode_split(&job);
	return r == -EOPNOTSUPP ? bale_lz4_decode_whole(&job) : r;
}

int bale_lz4_decoded_len(const struct bale_chunks *c)
{
	constexpr unsigned int kThreads = 64;

	if (c->nr > INT32_MAX)
		return -EINVAL;
	if (!c->nr)
		return 0;
	BALE_LAUNCH(decoded_len_kernel,
		    (unsigned int)(c->nr + kThreads - 1) / kThreads, kThreads,
		    0, c->stream, job_of(c));
	return bale_launch_check();
}
