// SPDX-License-Identifier: Apache-2.0
//
// LZ4 blocks from the match finder's sequences: each warp of a unit's block
// sizes a part of the sequences, and writes it when all sizes are known, 32
// sequences a step. A lane writes the token of one; the literals of all 32 are
// copied as one run of bytes spread over the lanes.
#include "kernels/simt.h"
#include "kernels/kernels.h"
#include "kernels/lane.cuh"

#include <errno.h>

namespace
{

constexpr uint32_t kWarps = 8;
constexpr uint32_t kMinMatch = 4;
// The format's: the last 5 bytes are literals, and no match starts in the last
// 12.
constexpr uint32_t kEndLits = 5, kLastMatch = 12;

struct EmitJob {
	uint32_t nr;
	uint32_t max_chunk;
	const void *const *src;
	const uint32_t *src_len;
	void *const *dst;
	const uint32_t *dst_cap;
	uint32_t *dst_len;
	uint32_t *status;
	const struct bale_seq *seqs;
	const uint32_t *nr_seqs;
	uint32_t seqs_stride;
};

// Bytes that a length of the token's 4 bits takes behind it.
__device__ __forceinline__ uint32_t ext_len(uint32_t v)
{
	return v < 15 ? 0 : 1 + (v - 15) / 255;
}

__device__ __forceinline__ uint8_t *put_ext(uint8_t *p, uint32_t v)
{
	if (v < 15)
		return p;
	for (v -= 15; v >= 255; v -= 255)
		*p++ = 255;
	*p++ = (uint8_t)v;
	return p;
}

// Sequence i of a unit, as lz4 has it: one a block ends with literals only.
struct Token {
	uint32_t lit, len, dist, pos;
};

__device__ __forceinline__ struct Token load_token(const struct bale_seq *seqs,
						   uint32_t i, uint32_t nr,
						   uint32_t unit_len)
{
	struct Token t = {};

	if (i >= nr)
		return t;
	t.lit = seqs[i].lit;
	t.len = seqs[i].len;
	t.dist = seqs[i].dist;
	t.pos = seqs[i].pos;
	if (!t.len) // 65536 literals came as two sequences
		t.lit = unit_len - t.pos;
	return t;
}

__device__ void copy_literals(uint8_t *dst, const uint8_t *src, uint32_t lit,
			      uint32_t from, uint32_t to, uint32_t lane)
{
	uint32_t sum = bale_scan_incl(lit, lane), excl = sum - lit;
	uint32_t total = __shfl_sync(bale_all_lanes, sum, 31);

	for (uint32_t i = 0; i < total; i += 32) {
		uint32_t owner = bale_scan_owner(excl, i + lane);
		uint32_t s =
			__shfl_sync(bale_all_lanes, from - excl, (int)owner) +
			i + lane;
		uint32_t d =
			__shfl_sync(bale_all_lanes, to - excl, (int)owner) + i +
			lane;

		if (i + lane < total)
			dst[d] = src[s];
	}
}

__device__ __forceinline__ uint32_t token_size(const struct Token &t)
{
	uint32_t size = 1 + ext_len(t.lit) + t.lit;

	return t.len ? size + 2 + ext_len(t.len - kMinMatch) : size;
}

__device__ __forceinline__ void put_token(uint8_t *p, const struct Token &t)
{
	uint32_t more = t.len ? t.len - kMinMatch : 0;

	*p = (uint8_t)((t.lit < 15 ? t.lit : 15) << 4 |
		       (more < 15 ? more : 15));
	put_ext(p + 1, t.lit);
	p += 1 + ext_len(t.lit) + t.lit;
	if (t.len) {
		p[0] = (uint8_t)t.dist;
		p[1] = (uint8_t)(t.dist >> 8);
		put_ext(p + 2, more);
	}
}

struct Sequences {
	const struct bale_seq *seqs;
	uint32_t nr, unit_len;
};

// Bytes of the sequences from..to, in all lanes.
__device__ __forceinline__ uint32_t size_of(const struct Sequences &s,
					    uint32_t from, uint32_t to,
					    uint32_t lane)
{
	uint32_t size = 0;

	for (uint32_t i = from + lane; i < to; i += 32)
		size += token_size(load_token(s.seqs, i, s.nr, s.unit_len));
	return __shfl_sync(bale_all_lanes, bale_scan_incl(size, lane), 31);
}

// The sequences from..to, at dst + out on.
__device__ void emit(const struct Sequences &s, uint8_t *dst,
		     const uint8_t *src, uint32_t from, uint32_t to,
		     uint32_t out, uint32_t lane)
{
	struct Token next = load_token(s.seqs, from + lane, to, s.unit_len);

	for (uint32_t i = from; i < to; i += 32) {
		struct Token t = next;
		bool active = i + lane < to;
		uint32_t size = active ? token_size(t) : 0;
		uint32_t sum = bale_scan_incl(size, lane);
		uint32_t at = out + sum - size;

		next = load_token(s.seqs, i + 32 + lane, to, s.unit_len);
		if (active)
			put_token(dst + at, t);
		copy_literals(dst, src, t.lit, t.pos, at + 1 + ext_len(t.lit),
			      lane);
		out += __shfl_sync(bale_all_lanes, sum, 31);
	}
}

// A block a unit, each warp a part of the sequences. The block's length, or
// more than cap when it does not fit: then nothing was written.
__device__ uint32_t emit_unit(const struct EmitJob &job, uint32_t unit,
			      uint32_t cap)
{
	__shared__ uint32_t sizes[kWarps];
	const uint32_t lane = bale_lane(), warp = threadIdx.x / 32;
	struct Sequences s = { job.seqs + (size_t)unit * job.seqs_stride,
			       job.nr_seqs[unit], job.src_len[unit] };
	uint32_t out = 0, total = 0;

	if (s.unit_len == 65536 && s.nr == 2 && !s.seqs[0].len)
		s.nr = 1;

	uint32_t part = (s.nr + kWarps * 32 - 1) / (kWarps * 32) * 32;
	uint32_t from = min(warp * part, s.nr), to = min(from + part, s.nr);
	uint32_t size = size_of(s, from, to, lane);

	if (lane == 0)
		sizes[warp] = size;
	__syncthreads();
	for (uint32_t i = 0; i < kWarps; i++) {
		out += i < warp ? sizes[i] : 0;
		total += sizes[i];
	}
	if (total <= cap)
		emit(s, static_cast<uint8_t *>(job.dst[unit]),
		     static_cast<const uint8_t *>(job.src[unit]), from, to, out,
		     lane);
	return total;
}

__global__ __launch_bounds__(kWarps *
			     32) void emit_kernel(const struct EmitJob job)
{
	const uint32_t unit = blockIdx.x;
	const uint32_t cap = job.dst_cap[unit];
	uint32_t status = BALE_CHUNK_OK, len;

	if (job.src_len[unit] > job.max_chunk) {
		status = BALE_CHUNK_INVALID;
		len = 0;
	} else if (!cap) { // the finder has not looked at it
		len = 1;
	} else if (!job.src_len[unit]) { // a block of no bytes is a token of 0
		len = 1;
		if (threadIdx.x == 0)
			*static_cast<uint8_t *>(job.dst[unit]) = 0;
	} else {
		len = emit_unit(job, unit, cap);
	}
	if (len > cap) {
		status = BALE_CHUNK_NO_ROOM;
		len = 0;
	}
	if (threadIdx.x == 0) {
		job.dst_len[unit] = len;
		job.status[unit] = status;
	}
}

struct bale_lz77_params params_of(int level)
{
	struct bale_lz77_params p = {};

	p.min_len = kMinMatch;
	p.max_len = 0xffff;
	p.max_dist = 0xffff;
	p.end_lits = kEndLits;
	p.last_match = kLastMatch;
	p.depth = level == 1 ? 1 : level == 2 ? 4 : 16;
	p.parse = level == 1 ? BALE_PARSE_GREEDY : BALE_PARSE_LAZY;
	return p;
}

constexpr size_t kAlign = 256;

size_t align_up(size_t v)
{
	return (v + kAlign - 1) / kAlign * kAlign;
}

size_t seqs_bytes(size_t nr, uint32_t max_chunk)
{
	return align_up(nr * bale_lz77_seqs_max(max_chunk) *
			sizeof(struct bale_seq));
}

size_t counts_bytes(size_t nr)
{
	return align_up(nr * sizeof(uint32_t));
}

} // namespace

size_t bale_lz4_encode_temp(int level, size_t nr, uint32_t max_chunk)
{
	struct bale_lz77_params p = params_of(level);

	return seqs_bytes(nr, max_chunk) + counts_bytes(nr) +
	       bale_lz77_temp(&p, nr, max_chunk);
}

int bale_lz4_encode(int level, const struct bale_chunks *c)
{
	struct bale_lz77_params p = params_of(level);
	size_t seqs_len = seqs_bytes(c->nr, c->max_chunk);
	size_t used = seqs_len + counts_bytes(c->nr);
	struct bale_seq *seqs = reinterpret_cast<struct bale_seq *>(c->temp);
	uint32_t *nr_seqs = reinterpret_cast<uint32_t *>(c->temp + seqs_len);
	struct EmitJob job = {};
	int r;

	if (level < 1 || level > 3 || c->max_chunk > BALE_UNIT_SIZE ||
	    c->temp_len < bale_lz4_encode_temp(level, c->nr, c->max_chunk))
		return -EINVAL;
	if (!c->nr)
		return 0;
	r = bale_lz77_find(&p, c, seqs, nr_seqs, c->temp + used,
			   c->temp_len - used);
	if (r)
		return r;
	job.nr = (uint32_t)c->nr;
	job.max_chunk = c->max_chunk;
	job.src = c->src;
	job.src_len = c->src_len;
	job.dst = c->dst;
	job.dst_cap = c->dst_cap;
	job.dst_len = c->dst_len;
	job.status = c->status;
	job.seqs = seqs;
	job.nr_seqs = nr_seqs;
	job.seqs_stride = (uint32_t)bale_lz77_seqs_max(c->max_chunk);
	BALE_LAUNCH(emit_kernel, job.nr, kWarps * 32, 0, c->stream, job);
	return bale_launch_check();
}
