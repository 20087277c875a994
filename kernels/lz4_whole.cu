// SPDX-License-Identifier: Apache-2.0
//
// LZ4 blocks decoded by a warp each, for devices with little shared memory.
// Every lane reads one of the next 32 bytes as if a token were there; following
// the lengths from the first byte on tells which lanes were right. A step then
// writes all literals of its sequences at once and all matches whose sources
// are complete, several sequences in the latency of one. Lengths of more than
// one extra byte take a path of their own.
//
// Nothing that the block says is used before it is checked: reads end at the
// block's length, writes at the capacity.
#include "kernels/simt.h"
#include "kernels/lz4_decode.cuh"

namespace
{

constexpr uint32_t kWarps = 4;
__device__ __forceinline__ uint32_t byte_at(const uint8_t *src, uint32_t len,
					    uint32_t at)
{
	return at < len ? src[at] : 0;
}

// The sequence whose token is at `at`, if there is one.
__device__ __forceinline__ struct bale_lz4_sequence
read_sequence(const struct bale_lz4_block &b, uint32_t at)
{
	struct bale_lz4_sequence s = { BALE_LZ4_PLAIN, at + 1, 0, 0, 0 };
	uint32_t token = byte_at(b.src, b.len, at), end;

	s.lit = token >> 4;
	s.match = token & 15;
	if (at >= b.len)
		s.kind = BALE_LZ4_BAD;
	if (s.lit == 15) {
		uint32_t more = byte_at(b.src, b.len, s.lit_at++);

		s.lit += more;
		if (more == 255)
			s.kind = BALE_LZ4_LONG;
	}
	end = s.lit_at + s.lit;
	s.next = end + 2;
	if (s.kind != BALE_LZ4_PLAIN)
		return s;
	if (end >= b.len || b.len - end < 2) {
		s.kind = end == b.len ? BALE_LZ4_LAST : BALE_LZ4_BAD;
		s.match = 0;
		return s;
	}
	if (s.match == 15) {
		uint32_t more = byte_at(b.src, b.len, s.next++);

		s.match += more;
		if (more == 255)
			s.kind = BALE_LZ4_LONG;
	}
	s.match += BALE_LZ4_MIN_MATCH;
	return s;
}

// dst[to...] = n bytes from `dist` behind, all lanes together. Sources are
// complete: an overlapping match repeats what is behind its start.
__device__ void copy_match(uint8_t *dst, uint32_t to, uint32_t dist, uint32_t n,
			   uint32_t lane)
{
	const uint8_t *from = dst + to - dist;

	for (uint32_t i = lane; i < n; i += 32)
		dst[to + i] = from[i < dist ? i : i % dist];
}

// The bytes of all `ready` lanes' matches as one run, spread over the lanes.
__device__ __forceinline__ void copy_matches(uint8_t *dst, bool ready,
					     uint32_t to, uint32_t dist,
					     uint32_t match, uint32_t lane)
{
	uint32_t n = ready ? match : 0;
	uint32_t sum = bale_scan_incl(n, lane), excl = sum - n;
	uint32_t total = __shfl_sync(bale_all_lanes, sum, 31);

	for (uint32_t i = lane; i - lane < total; i += 32) {
		int owner = (int)bale_scan_owner(excl, i);
		uint32_t k = i - __shfl_sync(bale_all_lanes, excl, owner);
		uint32_t t = __shfl_sync(bale_all_lanes, to, owner);
		uint32_t d = __shfl_sync(bale_all_lanes, dist, owner);

		if (i < total)
			dst[t + k] = dst[t - d + (k < d ? k : k % d)];
	}
}

// Matches of the lanes in `pending`, in as few rounds as their sources allow:
// everything before the first pending match is complete.
__device__ __forceinline__ void write_matches(uint8_t *dst, uint32_t pending,
					      uint32_t to, uint32_t dist,
					      uint32_t match, uint32_t lane)
{
	uint32_t source_end = to - dist + (match < dist ? match : dist);

	while (pending) {
		uint32_t complete = __shfl_sync(bale_all_lanes, to,
						__ffs((int)pending) - 1);
		bool ready = (pending >> lane & 1) && source_end <= complete;

		__syncwarp();
		copy_matches(dst, ready, to, dist, match, lane);
		pending &= ~__ballot_sync(bale_all_lanes, ready);
	}
	__syncwarp();
}

// Literals of the lanes in `tokens`: a lane's byte of the window belongs to the
// last token at or before it; only the last token's may lie behind the window.
__device__ __forceinline__ void
write_literals(const struct bale_lz4_block &b, uint32_t at, uint32_t tokens,
	       const struct bale_lz4_sequence &s, uint32_t to, uint32_t lane)
{
	uint32_t seen = tokens & (bale_lanes_below(lane) | 1u << lane);
	int owner = 31 - __clz((int)seen);
	int last = 31 - __clz((int)tokens);
	uint32_t lit_at = __shfl_sync(bale_all_lanes, s.lit_at, owner);
	uint32_t lit = __shfl_sync(bale_all_lanes, s.lit, owner);
	uint32_t out = __shfl_sync(bale_all_lanes, to, owner);
	uint32_t i = at + lane - lit_at; // wraps for the bytes before literals

	if (i < lit)
		b.dst[out + i] = b.src[at + lane];
	lit_at = __shfl_sync(bale_all_lanes, s.lit_at, last);
	lit = __shfl_sync(bale_all_lanes, s.lit, last);
	out = __shfl_sync(bale_all_lanes, to, last);
	i = lit_at < at + 32 ? at + 32 - lit_at : 0;
	for (i += lane; i < lit; i += 32)
		b.dst[out + i] = b.src[lit_at + i];
}

// One sequence, by all lanes alike. *in and *out are its start; then its end.
__device__ bool decode_long(const struct bale_lz4_block &b, uint32_t *in,
			    uint32_t *out, bool *ret_last, uint32_t lane)
{
	uint32_t at = *in, to = *out, token = b.src[at++];
	uint32_t lit = token >> 4, match = token & 15, dist;

	if (lit == 15 && !bale_lz4_read_long(b, &at, &lit, b.cap - to))
		return false;
	if (lit > b.cap - to || lit > b.len - at)
		return false;
	for (uint32_t i = lane; i < lit; i += 32)
		b.dst[to + i] = b.src[at + i];
	at += lit;
	to += lit;
	*in = at;
	*out = to;
	*ret_last = at == b.len;
	if (*ret_last)
		return true;
	if (b.len - at < 2)
		return false;
	dist = b.src[at] | (uint32_t)b.src[at + 1] << 8;
	at += 2;
	if (match == 15 && !bale_lz4_read_long(b, &at, &match, b.cap - to))
		return false;
	match += BALE_LZ4_MIN_MATCH;
	if (!dist || dist > to || match > b.cap - to)
		return false;
	__syncwarp();
	copy_match(b.dst, to, dist, match, lane);
	__syncwarp();
	*in = at;
	*out = to + match;
	return true;
}

// The sequences that start in the next 32 bytes, as decode_long() else.
__device__ __forceinline__ bool decode_step(const struct bale_lz4_block &b,
					    uint32_t *in, uint32_t *out,
					    bool *ret_last, uint32_t lane)
{
	struct bale_lz4_sequence s = read_sequence(b, *in + lane);
	uint32_t next, tokens = bale_lz4_follow(s, *in + lane, &next);

	if (!tokens) // BALE_LZ4_LONG, or BALE_LZ4_BAD: that says why
		return decode_long(b, in, out, ret_last, lane);

	bool mine = tokens >> lane & 1;
	bool with_match = mine && s.kind == BALE_LZ4_PLAIN;
	uint32_t size = mine ? s.lit + s.match : 0;
	uint32_t sum = bale_scan_incl(size, lane);
	uint32_t total = __shfl_sync(bale_all_lanes, sum, 31);
	uint32_t to = *out + sum - size, dist = 1;
	uint32_t end = s.lit_at + s.lit;

	if (with_match)
		dist = b.src[end] | (uint32_t)b.src[end + 1] << 8;

	bool bad = with_match && (!dist || dist > to + s.lit);

	if (__any_sync(bale_all_lanes, bad) || total > b.cap - *out)
		return false;
	write_literals(b, *in, tokens, s, to, lane);
	write_matches(b.dst, __ballot_sync(bale_all_lanes, with_match),
		      to + s.lit, dist, s.match, lane);
	*ret_last = __any_sync(bale_all_lanes, mine && s.kind == BALE_LZ4_LAST);
	*in += next;
	*out += total;
	return true;
}

__global__ __launch_bounds__(kWarps * 32) void decode_kernel(
	const struct bale_lz4_decode_job job)
{
	const uint32_t lane = bale_lane();
	const uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32;

	if (unit >= job.nr)
		return;

	const struct bale_lz4_block b = bale_lz4_block_of(job, unit);
	uint32_t status = BALE_CHUNK_OK, in = 0, out = 0;
	bool last = false;

	if (b.cap > job.max_chunk)
		status = BALE_CHUNK_INVALID;
	while (status == BALE_CHUNK_OK && !last)
		if (in >= b.len || !decode_step(b, &in, &out, &last, lane))
			status = BALE_CHUNK_BAD;
	if (status == BALE_CHUNK_OK && out != b.cap)
		status = BALE_CHUNK_BAD;
	if (lane == 0) {
		job.dst_len[unit] = status == BALE_CHUNK_OK ? out : 0;
		job.status[unit] = status;
	}
}

} // namespace

int bale_lz4_decode_whole(const struct bale_lz4_decode_job *job)
{
	BALE_LAUNCH(decode_kernel, (job->nr + kWarps - 1) / kWarps, kWarps * 32,
		    0, job->stream, *job);
	return bale_launch_check();
}
