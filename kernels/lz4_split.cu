// SPDX-License-Identifier: Apache-2.0
//
// LZ4 blocks decoded in two kernels, because their limits are different.
// Finding the tokens is a chain of short steps: a warp a block, all blocks of a
// batch at once, bytes and lengths in registers. Copying is done in shared
// memory, a block of threads a unit: first the literals of all sequences, which
// depend on nothing, then matches, one a thread and in rounds, each of which
// takes those whose sources are written.
#include "kernels/simt.h"
#include "kernels/lz4_decode.cuh"

#include <errno.h>

namespace
{

// ---- tokens ----

constexpr uint32_t kWarps = 4;

// An entry of job.tokens: where literals are in src and where they go, and the
// length of the match behind them. How many they are, the next entry's
// destination says. 20 bits each: a block of 64 KiB is shorter than that, for a
// sequence takes two bytes more than it yields at most, and that seldom.
__device__ __forceinline__ uint64_t pack_token(uint32_t lit_at, uint32_t to,
					       uint32_t match)
{
	return (uint64_t)match << 40 | (uint64_t)to << 20 | lit_at;
}

constexpr uint32_t kField = (1u << 20) - 1;

// 384 bytes of a block in the registers of a warp, 4 a lane and register; the
// last 128 are on their way while the first are used.
struct Window {
	struct bale_words src;
	uint32_t base; // of the first byte, counted from the first word's
	uint32_t now, next, later;

	__device__ __forceinline__ void load(uint32_t at, uint32_t lane)
	{
		base = at & ~127u;
		now = bale_word(src, base / 4 + lane);
		next = bale_word(src, base / 4 + 32 + lane);
		later = bale_word(src, base / 4 + 64 + lane);
	}
	__device__ __forceinline__ void go(uint32_t at, uint32_t lane)
	{
		if (at - base >= 256) {
			load(at, lane);
		} else if (at - base >= 128) {
			base += 128;
			now = next;
			next = later;
			later = bale_word(src, base / 4 + 64 + lane);
		}
	}
	// Another place in each lane; all lanes call.
	__device__ __forceinline__ uint32_t byte(uint32_t at) const
	{
		uint32_t x = at - base, i = x / 4;
		uint32_t a = __shfl_sync(bale_all_lanes, now, (int)i & 31);
		uint32_t b = __shfl_sync(bale_all_lanes, next, (int)i & 31);

		if (x >= 256) // behind long literals
			return at < src.end ? reinterpret_cast<const uint8_t *>(
						      src.words)[at] :
					      0;
		return (i < 32 ? a : b) >> (8 * (at & 3)) & 0xff;
	}
};

// The sequence whose token is at `at`, if there is one.
__device__ __forceinline__ struct bale_lz4_sequence
read_sequence(const struct Window &w, uint32_t len, uint32_t at)
{
	struct bale_lz4_sequence s = { BALE_LZ4_PLAIN, at + 1, 0, 0, 0 };
	uint32_t q = at + w.src.first, token = w.byte(q);
	uint32_t more = w.byte(q + 1), end;

	s.lit = token >> 4;
	s.match = token & 15;
	if (s.lit == 15) {
		s.lit += more;
		s.lit_at++;
		if (more == 255)
			s.kind = BALE_LZ4_LONG;
	}
	end = s.lit_at + s.lit;
	more = w.byte(end + 2 + w.src.first);
	s.next = end + 2;
	if (s.match == 15) {
		s.match += more;
		s.next++;
		if (more == 255)
			s.kind = BALE_LZ4_LONG;
	}
	s.match += BALE_LZ4_MIN_MATCH;
	if (s.next >= len) { // no token behind it
		bool last = end == len && s.kind == BALE_LZ4_PLAIN;

		s.kind = last ? BALE_LZ4_LAST : BALE_LZ4_LONG;
		s.match = last ? 0 : s.match;
	}
	return s;
}

// One sequence, read by all lanes alike. *in: its token; then the next.
__device__ bool read_long(const struct bale_lz4_block &b, uint32_t *in,
			  uint32_t out, struct bale_lz4_sequence *ret)
{
	uint32_t at = *in, token = b.src[at++];

	ret->kind = BALE_LZ4_PLAIN;
	ret->lit = token >> 4;
	ret->match = token & 15;
	if (ret->lit == 15 &&
	    !bale_lz4_read_long(b, &at, &ret->lit, b.cap - out))
		return false;
	if (ret->lit > b.cap - out || ret->lit > b.len - at)
		return false;
	ret->lit_at = at;
	at += ret->lit;
	*in = at;
	if (at == b.len) {
		ret->kind = BALE_LZ4_LAST;
		ret->match = 0;
		return true;
	}
	if (b.len - at < 2)
		return false;
	at += 2; // the copy looks at the distance
	if (ret->match == 15 &&
	    !bale_lz4_read_long(b, &at, &ret->match, b.cap - out))
		return false;
	ret->match += BALE_LZ4_MIN_MATCH;
	*in = at;
	return ret->match <= b.cap - out - ret->lit;
}

struct Walk {
	uint32_t in, out, nr;
	bool last;
};

// The sequences that start in the next 32 bytes; false: the block is bad.
__device__ __forceinline__ bool step(const struct bale_lz4_block &b,
				     struct Window *w, struct Walk *walk,
				     uint64_t *tokens, uint32_t lane)
{
	w->go(walk->in + w->src.first, lane);

	struct bale_lz4_sequence s = read_sequence(*w, b.len, walk->in + lane);
	uint32_t next, found = bale_lz4_follow(s, walk->in + lane, &next);

	if (!found) {
		if (!read_long(b, &walk->in, walk->out, &s))
			return false;
		if (lane == 0)
			tokens[walk->nr] =
				pack_token(s.lit_at, walk->out, s.match);
		walk->nr++;
		walk->out += s.lit + s.match;
		walk->last = s.kind == BALE_LZ4_LAST;
		return true;
	}

	bool mine = found >> lane & 1;
	uint32_t size = mine ? s.lit + s.match : 0;
	uint32_t sum = bale_scan_incl(size, lane);
	uint32_t total = __shfl_sync(bale_all_lanes, sum, 31);

	if (total > b.cap - walk->out)
		return false;
	if (mine)
		tokens[walk->nr + __popc(found & bale_lanes_below(lane))] =
			pack_token(s.lit_at, walk->out + sum - size, s.match);
	walk->nr += (uint32_t)__popc(found);
	walk->out += total;
	walk->in += next;
	walk->last =
		__any_sync(bale_all_lanes, mine && s.kind == BALE_LZ4_LAST);
	return true;
}

__global__ __launch_bounds__(kWarps * 32) void token_kernel(
	const struct bale_lz4_decode_job job)
{
	const uint32_t lane = bale_lane();
	const uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32;

	if (unit >= job.nr)
		return;

	const struct bale_lz4_block b = bale_lz4_block_of(job, unit);
	uint64_t *tokens = job.tokens + (size_t)unit * job.tokens_stride;
	struct Window w = { bale_words_of(b.src, b.len), 0, 0, 0, 0 };
	struct Walk walk = { 0, 0, 0, false };
	uint32_t status = BALE_CHUNK_OK;

	w.load(w.src.first, lane);
	if (b.cap > job.max_chunk)
		status = BALE_CHUNK_INVALID;
	while (status == BALE_CHUNK_OK && !walk.last)
		if (walk.in >= b.len || !step(b, &w, &walk, tokens, lane))
			status = BALE_CHUNK_BAD;
	if (status == BALE_CHUNK_OK && walk.out != b.cap)
		status = BALE_CHUNK_BAD;
	if (lane == 0) {
		if (status == BALE_CHUNK_OK)
			tokens[walk.nr] = pack_token(0, walk.out, 0);
		job.nr_tokens[unit] = walk.nr;
		job.status[unit] = status;
	}
}

// ---- copies ----

constexpr uint32_t kThreads = 256;
// What a thread copies alone; its warp helps with longer runs.
constexpr uint32_t kAlone = 32;
constexpr int kFew = 5;

// What a token becomes when its literals are where they belong.
__device__ __forceinline__ uint64_t pack_match(uint32_t to, uint32_t match,
					       uint32_t dist)
{
	return pack_token(dist, to, match);
}

// n bytes by one lane, `batch` at a time so that loads wait together. `from` is
// read over again where the match overlaps itself: after `dist` bytes.
__device__ __forceinline__ void copy_alone(uint8_t *to, const uint8_t *from,
					   uint32_t dist, uint32_t n)
{
	constexpr uint32_t kBatch = 8;
	uint32_t k = 0;

	for (uint32_t i = 0; i < n; i += kBatch) {
		uint8_t v[kBatch];

#pragma unroll
		for (uint32_t j = 0; j < kBatch; j++) {
			v[j] = i + j < n ? from[k] : 0;
			k = k + 1 == dist ? 0 : k + 1;
		}
#pragma unroll
		for (uint32_t j = 0; j < kBatch; j++)
			if (i + j < n)
				to[i + j] = v[j];
	}
}

// Literals of a warp's sequences, a sequence a lane; n 0: none.
__device__ __forceinline__ void copy_literals(uint8_t *unit, const uint8_t *src,
					      uint32_t to, uint32_t from,
					      uint32_t n, uint32_t lane)
{
	uint32_t longer = __ballot_sync(bale_all_lanes, n > kAlone);

	if (n <= kAlone)
		copy_alone(unit + to, src + from, UINT32_MAX, n);
	for (; longer; longer &= longer - 1) {
		int owner = __ffs((int)longer) - 1;
		uint32_t t = __shfl_sync(bale_all_lanes, to, owner);
		uint32_t f = __shfl_sync(bale_all_lanes, from, owner);
		uint32_t m = __shfl_sync(bale_all_lanes, n, owner);

		for (uint32_t i = lane; i < m; i += 32)
			unit[t + i] = src[f + i];
	}
}

// Matches of a warp, a match a lane; n 0: none. Their sources are complete.
__device__ __forceinline__ void copy_matches(uint8_t *unit, uint32_t to,
					     uint32_t dist, uint32_t n,
					     uint32_t lane)
{
	uint32_t some = __ballot_sync(bale_all_lanes, n != 0);
	// A few are faster one by one, by all lanes.
	uint32_t alone = __popc(some) > kFew ? kAlone : 0;
	uint32_t longer = __ballot_sync(bale_all_lanes, n > alone);

	if (n <= alone)
		copy_alone(unit + to, unit + to - dist, dist, n);
	for (; longer; longer &= longer - 1) {
		int owner = __ffs((int)longer) - 1;
		uint32_t t = __shfl_sync(bale_all_lanes, to, owner);
		uint32_t d = __shfl_sync(bale_all_lanes, dist, owner);
		uint32_t m = __shfl_sync(bale_all_lanes, n, owner);

		for (uint32_t i = lane; i < m; i += 32)
			unit[t + i] = unit[t - d + (i < d ? i : i % d)];
	}
}

// The literals of kThreads sequences from `from` on; their tokens become
// matches. False: this thread's has a distance to before the unit.
__device__ __forceinline__ bool literal_step(uint8_t *unit, const uint8_t *src,
					     uint64_t *tokens, uint32_t from,
					     uint32_t nr, uint32_t lane)
{
	const uint32_t i = from + threadIdx.x;
	uint32_t lit_at = 0, lit = 0, to = 0, match = 0, match_to = 0, dist = 1;

	if (i < nr) {
		uint64_t t = tokens[i], next = tokens[i + 1];

		lit_at = (uint32_t)t & kField;
		to = (uint32_t)(t >> 20) & kField;
		match = (uint32_t)(t >> 40);
		match_to = ((uint32_t)(next >> 20) & kField) - match;
		lit = match_to - to;
	}
	if (match) {
		uint32_t at = lit_at + lit;

		dist = src[at] | (uint32_t)src[at + 1] << 8;
	}
	__syncthreads(); // the neighbour has read its next
	if (i < nr)
		tokens[i] = pack_match(match_to, match, dist);
	copy_literals(unit, src, to, lit_at, lit, lane);
	return dist && dist <= (match ? match_to : 1);
}

// The matches that a block of threads works on, one a thread. Both ends of what
// they write ascend. A thread without one has the highest place that there is.
struct Matches {
	uint32_t to[kThreads], end[kThreads];
	uint32_t pending[2][kThreads / 32]; // of this round, of the next
};

// How many of the ascending values are below v.
__device__ __forceinline__ uint32_t count_below(const uint32_t *values,
						uint32_t v)
{
	uint32_t nr = 0;

#pragma unroll
	for (uint32_t d = kThreads / 2; d; d /= 2)
		nr += values[nr + d - 1] < v ? d : 0;
	return nr;
}

// Is one of the matches first..behind still to be copied?
__device__ __forceinline__ bool any_pending(const uint32_t *pending,
					    uint32_t first, uint32_t behind)
{
	for (; first < behind; first = (first | 31) + 1) {
		uint32_t bits = pending[first / 32] >> (first & 31);

		if (behind - first < 32)
			bits &= bale_lanes_below(behind - first);
		if (bits)
			return true;
	}
	return false;
}

// kThreads matches, this thread's being m.
__device__ __forceinline__ void match_step(uint8_t *unit, struct Matches *all,
					   uint64_t m, uint32_t lane)
{
	const uint32_t dist = (uint32_t)m & kField;
	const uint32_t to = (uint32_t)(m >> 20) & kField;
	const uint32_t match = (uint32_t)(m >> 40);
	const uint32_t from = to - dist;
	bool pending = match != 0;
	uint32_t bits = __ballot_sync(bale_all_lanes, pending);

	all->to[threadIdx.x] = to;
	all->end[threadIdx.x] = to + match;
	if (lane == 0)
		all->pending[0][threadIdx.x / 32] = bits;
	__syncthreads();

	// Those that write some of what this one reads; all are before it.
	const uint32_t first = count_below(all->end, from + 1);
	const uint32_t behind =
		count_below(all->to, from + (match < dist ? match : dist));

	for (uint32_t round = 0;; round ^= 1) {
		bool ready = pending &&
			     !any_pending(all->pending[round], first, behind);

		copy_matches(unit, to, dist, ready ? match : 0, lane);
		pending = pending && !ready;
		bits = __ballot_sync(bale_all_lanes, pending);
		if (lane == 0)
			all->pending[round ^ 1][threadIdx.x / 32] = bits;
		if (!__syncthreads_or(pending))
			return;
	}
}

__device__ __forceinline__ void match_all(uint8_t *unit, struct Matches *all,
					  const uint64_t *tokens, uint32_t nr,
					  uint32_t lane)
{
	const uint64_t none = pack_match(kField, 0, 0);
	uint64_t next = threadIdx.x < nr ? tokens[threadIdx.x] : none;

	for (uint32_t i = threadIdx.x; i - threadIdx.x < nr; i += kThreads) {
		uint64_t now = next;

		next = i + kThreads < nr ? tokens[i + kThreads] : none;
		match_step(unit, all, now, lane);
	}
}

// The unit from shared memory, where it has dst's alignment.
__device__ __forceinline__ void write_unit(uint8_t *dst, const uint8_t *unit,
					   uint32_t len)
{
	uint32_t head = (uint32_t)(16 - ((uintptr_t)dst & 15)) & 15;

	head = head < len ? head : len;

	uint32_t nr = (len - head) / 16, tail = head + nr * 16;

	for (uint32_t i = threadIdx.x; i < head; i += kThreads)
		dst[i] = unit[i];
	for (uint32_t i = threadIdx.x; i < nr; i += kThreads)
		reinterpret_cast<uint4 *>(dst + head)[i] =
			reinterpret_cast<const uint4 *>(unit + head)[i];
	for (uint32_t i = tail + threadIdx.x; i < len; i += kThreads)
		dst[i] = unit[i];
}

__global__ __launch_bounds__(kThreads) void copy_kernel(
	const struct bale_lz4_decode_job job)
{
	BALE_DYN_SHARED(uint8_t, shared);
	__shared__ struct Matches matches;
	const uint32_t lane = bale_lane(), at = blockIdx.x;
	const struct bale_lz4_block b = bale_lz4_block_of(job, at);
	uint64_t *tokens = job.tokens + (size_t)at * job.tokens_stride;
	uint8_t *unit = shared + ((uintptr_t)b.dst & 15);
	const uint32_t nr = job.nr_tokens[at];
	bool good = job.status[at] == BALE_CHUNK_OK;

	if (!good) { // the same in all threads
		if (threadIdx.x == 0)
			job.dst_len[at] = 0;
		return;
	}
	for (uint32_t i = 0; i < nr; i += kThreads)
		good &= literal_step(unit, b.src, tokens, i, nr, lane);
	good = __syncthreads_and(good);
	if (good) { // the same in all threads
		match_all(unit, &matches, tokens, nr, lane);
		write_unit(b.dst, unit, b.cap);
	}
	if (threadIdx.x == 0) {
		job.dst_len[at] = good ? b.cap : 0;
		if (!good)
			job.status[at] = BALE_CHUNK_BAD;
	}
}

} // namespace

int bale_lz4_decode_split(const struct bale_lz4_decode_job *job)
{
	size_t need = (size_t)job->max_chunk + 32;
	int dev, room;

	if (cudaGetDevice(&dev) != cudaSuccess ||
	    cudaDeviceGetAttribute(&room,
				   cudaDevAttrMaxSharedMemoryPerBlockOptin,
				   dev) != cudaSuccess)
		return bale_launch_check();
	if (need + sizeof(struct Matches) > (size_t)room)
		return -EOPNOTSUPP;
	if (cudaFuncSetAttribute(copy_kernel,
				 cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)need) != cudaSuccess)
		return bale_launch_check();
	BALE_LAUNCH(token_kernel, (job->nr + kWarps - 1) / kWarps, kWarps * 32,
		    0, job->stream, *job);
	BALE_LAUNCH(copy_kernel, job->nr, kThreads, need, job->stream, *job);
	return bale_launch_check();
}
