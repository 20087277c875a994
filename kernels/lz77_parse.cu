// SPDX-License-Identifier: Apache-2.0
//
// Which matches are taken: eight warps a unit, each a part of it and 32
// positions at a time. Whether a match gives way to a better one just behind it
// is asked of each position alone, so the answer needs no history and all lanes
// find it at once; what is serial is the walk over the matches taken, a few a
// window. No match crosses from part to part (seven places in 64 KiB, a few
// bytes each); one warp a unit took three times as long.
#include "kernels/simt.h"
#include "kernels/lane.cuh"
#include "kernels/lz77.cuh"

namespace
{

constexpr uint32_t kParts = 8;
constexpr uint32_t kThreads = kParts * 32;
constexpr uint32_t kMinPart = 4096; // what is shorter is not worth a cut

__device__ __forceinline__ void put_seq(struct bale_seq *seq, uint32_t lit,
					uint32_t match, uint32_t pos)
{
	seq->lit = (uint16_t)lit;
	seq->len = (uint16_t)(match >> 16);
	seq->dist = (uint16_t)match;
	seq->pos = (uint16_t)pos;
}

// The true length of a match that the search found to be `len` at least.
__device__ uint32_t extend(const uint8_t *src, uint32_t p, uint32_t dist,
			   uint32_t len, uint32_t limit, uint32_t lane)
{
	for (; len < limit; len += 32) {
		uint32_t i = p + len + lane;
		bool same = len + lane < limit && src[i] == src[i - dist];
		uint32_t differ = ~__ballot_sync(bale_all_lanes, same);

		if (differ)
			return len + (uint32_t)__ffs((int)differ) - 1;
	}
	return limit;
}

__device__ __forceinline__ int dist_bits(uint32_t match)
{
	return 31 - __clz((int)(match & 0xffff));
}

// Is the match at the next position, or the one after it, worth more? A byte
// more of length counts as 4 bits of distance.
__device__ __forceinline__ bool gives_way(uint32_t m, uint32_t m1, uint32_t m2)
{
	int len = (int)(m >> 16), bits = dist_bits(m);

	if (m1 && 4 * ((int)(m1 >> 16) - len) + bits - dist_bits(m1) > 2)
		return true;
	return m2 && 4 * ((int)(m2 >> 16) - len) + bits - dist_bits(m2) > 6;
}

// The matches of 32 positions from base on and of the next 64: what is behind
// arrives while the walk goes through the first.
template <bool kPairs> struct Window {
	const uint32_t *match;
	uint32_t len, base;
	uint32_t now, next, later;

	__device__ __forceinline__ uint32_t load(uint32_t p) const
	{
		if (p >= len)
			return 0;
		if (kPairs) {
			uint2 m = reinterpret_cast<const uint2 *>(match)[p];

			return m.y ? m.y : m.x;
		}
		return __ldcs(match + p);
	}
	__device__ __forceinline__ void go(uint32_t to, uint32_t lane)
	{
		if (to == base + 32) {
			now = next;
			next = later;
		} else {
			now = load(to + lane);
			next = load(to + 32 + lane);
		}
		base = to;
		later = load(to + 64 + lane);
	}
	// The match d positions on, d < 32.
	__device__ __forceinline__ uint32_t ahead(uint32_t d,
						  uint32_t lane) const
	{
		uint32_t a =
			__shfl_sync(bale_all_lanes, now, (int)(lane + d) & 31);
		uint32_t b =
			__shfl_sync(bale_all_lanes, next, (int)(lane + d) & 31);

		return lane + d < 32 ? a : b;
	}
};

// A warp's part of a unit.
struct Part {
	const uint8_t *src; // the unit's
	uint32_t from, to, unit_len;
	struct bale_seq *seqs;
};

// Which of the lanes in `wanted` are taken, from `from` on: each one ends
// behind its match. *len: of this lane's match, here made the true one.
// ret_end: where the last ends, in lanes from the window's start.
template <bool kPairs>
__device__ __forceinline__ uint32_t walk(const struct bale_lz77_job &job,
					 const struct Part &part,
					 const struct Window<kPairs> &w,
					 uint32_t wanted, uint32_t from,
					 uint32_t *len, uint32_t lane,
					 uint32_t *ret_end)
{
	uint32_t taken = 0, end = from;

	while (end < 32 && (wanted &= ~bale_lanes_below(end))) {
		int first = __ffs((int)wanted) - 1;
		uint32_t n = __shfl_sync(bale_all_lanes, *len, first);
		uint32_t p = w.base + (uint32_t)first;

		if (n >= job.cap) {
			uint32_t limit =
				bale_lz77_limit(job.p, part.unit_len, p);
			uint32_t m = __shfl_sync(bale_all_lanes, w.now, first);

			n = extend(part.src, p, m & 0xffff, n,
				   min(limit, max(part.to - p, n)), lane);
		}
		n = min(n, part.to - p);
		if ((int)lane == first)
			*len = n;
		if (n < job.p.min_len) { // cut off by the part's end
			wanted &= ~(1u << first);
			continue;
		}
		taken |= 1u << first;
		end = (uint32_t)first + n;
	}
	*ret_end = end;
	return taken;
}

// The sequences of a part, all with matches; ret_end: where the last ends.
template <bool kLazy, bool kPairs>
__device__ __forceinline__ uint32_t parse_part(const struct bale_lz77_job &job,
					       const uint32_t *match,
					       const struct Part &part,
					       uint32_t lane, uint32_t *ret_end)
{
	// No window is 32 behind that base.
	struct Window<kPairs> w = {
		match, part.unit_len, 1, 0, 0, 0
	};
	uint32_t cur = part.from, anchor = part.from, nr = 0;

	while (cur < part.to) {
		w.go(cur & ~31u, lane);

		uint32_t n = w.now >> 16, end;
		bool want = n != 0 && w.base + lane < part.to;

		if (kLazy) {
			uint32_t m1 = w.ahead(1, lane), m2 = w.ahead(2, lane);

			if (want && n < job.cap)
				want = !gives_way(w.now, m1, m2);
		}

		uint32_t taken =
			walk(job, part, w, __ballot_sync(bale_all_lanes, want),
			     cur & 31, &n, lane, &end);
		uint32_t below = taken & bale_lanes_below(lane);
		uint32_t before = __shfl_sync(bale_all_lanes, w.base + lane + n,
					      (31 - __clz((int)below)) & 31);

		if (taken >> lane & 1) {
			before = below ? before : anchor;
			put_seq(part.seqs + nr + __popc(below),
				w.base + lane - before,
				n << 16 | (w.now & 0xffff), before);
		}
		nr += (uint32_t)__popc(taken);
		if (taken)
			anchor = w.base + end;
		cur = w.base + (end > 32 ? end : 32);
	}
	*ret_end = anchor;
	return nr;
}

// What the warps of a unit's block found.
struct Found {
	uint32_t nr[kParts];
	uint32_t end[kParts]; // of the last match, or the part's start
};

// The parts' sequences close together, from where they are, a part's list `gap`
// behind the one before. Literals at a part's end go to the next match. Returns
// the number; *ret_anchor: where the last match ends.
__device__ __forceinline__ uint32_t join_parts(struct bale_seq *seqs,
					       const struct Found &found,
					       uint32_t gap,
					       uint32_t *ret_anchor)
{
	uint32_t nr = found.nr[0];
	uint32_t anchor = nr ? found.end[0] : 0;

	for (uint32_t k = 1; k < kParts; k++) {
		const struct bale_seq *from = seqs + k * gap;

		for (uint32_t i = threadIdx.x; i - threadIdx.x < found.nr[k];
		     i += kThreads) {
			struct bale_seq s = {};

			if (i < found.nr[k])
				s = from[i];
			if (i == 0) {
				s.lit = (uint16_t)(s.lit + s.pos - anchor);
				s.pos = (uint16_t)anchor;
			}
			__syncthreads();
			if (i < found.nr[k])
				seqs[nr + i] = s;
			__syncthreads();
		}
		nr += found.nr[k];
		if (found.nr[k])
			anchor = found.end[k];
	}
	*ret_anchor = anchor;
	return nr;
}

// The end of a unit: what is behind the last match. A unit without a match may
// have one literal more than a sequence can.
__device__ uint32_t put_rest(struct bale_seq *seqs, uint32_t nr,
			     uint32_t anchor, uint32_t len)
{
	for (; anchor < len; nr++) {
		uint32_t lit = min(len - anchor, 0xffffu);

		put_seq(seqs + nr, lit, 0, anchor);
		anchor += lit;
	}
	return nr;
}

template <bool kLazy, bool kPairs>
__global__
__launch_bounds__(kThreads) void parse_kernel(const struct bale_lz77_job job)
{
	__shared__ struct Found found;
	const uint32_t lane = bale_lane(), warp = threadIdx.x / 32;
	const uint32_t unit = blockIdx.x;
	const uint32_t len = bale_lz77_unit_len(job, unit);
	const uint32_t size =
		max((len + kThreads - 1) / kThreads * 32, kMinPart);
	// A part has no more sequences than a third of its bytes.
	const uint32_t gap = size / 3;
	struct bale_seq *seqs = job.seqs + (size_t)unit * job.seqs_stride;
	struct Part part = { static_cast<const uint8_t *>(job.src[unit]),
			     min(warp * size, len), min((warp + 1) * size, len),
			     len, seqs + warp * gap };
	uint32_t end, anchor;
	uint32_t nr = parse_part<kLazy, kPairs>(
		job, job.match + (size_t)unit * job.stride * (kPairs ? 2 : 1),
		part, lane, &end);

	if (lane == 0) {
		found.nr[warp] = nr;
		found.end[warp] = end;
	}
	__syncthreads();
	nr = join_parts(seqs, found, gap, &anchor);
	if (threadIdx.x == 0)
		job.nr_seqs[unit] = put_rest(seqs, nr, anchor, len);
}

template <bool kLazy, bool kPairs> int launch(const struct bale_lz77_job *job)
{
	BALE_LAUNCH((parse_kernel<kLazy, kPairs>), job->nr, kThreads, 0,
		    job->stream, *job);
	return bale_launch_check();
}

} // namespace

int bale_lz77_parse(const struct bale_lz77_job *job)
{
	if (job->pairs)
		return launch<true, true>(job);
	return job->p.parse == BALE_PARSE_GREEDY ? launch<false, false>(job) :
						   launch<true, false>(job);
}

int bale_lz77_take(const struct bale_lz77_job *job)
{
	struct bale_lz77_job take = *job;

	take.match = job->choice;
	take.pairs = false;
	return launch<false, false>(&take);
}
