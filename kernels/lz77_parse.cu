// SPDX-License-Identifier: Apache-2.0
//
// Which matches are taken: a warp a unit, 32 positions at a time. Whether a
// match gives way to a better one just behind it is asked of each position
// alone, so the answer needs no history and all lanes find it at once; what is
// serial is the walk over the matches taken, a few a window.
#include "kernels/simt.h"
#include "kernels/lane.cuh"
#include "kernels/lz77.cuh"

namespace
{

constexpr uint32_t kWarps = 4;

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

// Which of the lanes in `wanted` are taken, from `from` on: each one ends
// behind its match. *len: of this lane's match, here made the true one.
// ret_end: where the last ends, in lanes from the window's start.
template <bool kPairs>
__device__ __forceinline__ uint32_t walk(const struct bale_lz77_job &job,
					 const uint8_t *src, uint32_t unit_len,
					 const struct Window<kPairs> &w,
					 uint32_t wanted, uint32_t from,
					 uint32_t *len, uint32_t lane,
					 uint32_t *ret_end)
{
	uint32_t taken = 0, end = from;

	while (end < 32 && (wanted &= ~bale_lanes_below(end))) {
		int first = __ffs((int)wanted) - 1;
		uint32_t n = __shfl_sync(bale_all_lanes, *len, first);

		if (n >= job.cap) {
			uint32_t p = w.base + (uint32_t)first;

			n = extend(src, p,
				   __shfl_sync(bale_all_lanes, w.now, first) &
					   0xffff,
				   n, bale_lz77_limit(job.p, unit_len, p),
				   lane);
			if ((int)lane == first)
				*len = n;
		}
		taken |= 1u << first;
		end = (uint32_t)first + n;
	}
	*ret_end = end;
	return taken;
}

// The end of a unit: what is behind the last match.
__device__ __forceinline__ uint32_t put_rest(struct bale_seq *seq, uint32_t nr,
					     uint32_t anchor, uint32_t len,
					     uint32_t lane)
{
	// A unit without a match may have one literal more than a sequence can.
	for (; anchor < len; nr++) {
		uint32_t lit = len - anchor;

		lit = lit < 0xffff ? lit : 0xffff;
		if (lane == 0)
			put_seq(seq + nr, lit, 0, anchor);
		anchor += lit;
	}
	return nr;
}

template <bool kLazy, bool kPairs>
__global__
__launch_bounds__(kWarps * 32) void parse_kernel(const struct bale_lz77_job job)
{
	const uint32_t lane = bale_lane();
	const uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32;

	if (unit >= job.nr)
		return;

	const uint32_t len = bale_lz77_unit_len(job, unit);
	const uint8_t *src = static_cast<const uint8_t *>(job.src[unit]);
	struct bale_seq *seq = job.seqs + (size_t)unit * job.seqs_stride;
	// No window is 32 behind that base.
	struct Window<kPairs> w = {
		job.match + (size_t)unit *job.stride *(kPairs ? 2 : 1), len, 1,
			0, 0, 0
	};
	uint32_t cur = 0, anchor = 0, nr = 0;

	while (cur < len) {
		w.go(cur & ~31u, lane);

		uint32_t n = w.now >> 16, end;
		bool want = n != 0;

		if (kLazy) {
			uint32_t m1 = w.ahead(1, lane), m2 = w.ahead(2, lane);

			if (want && n < job.cap)
				want = !gives_way(w.now, m1, m2);
		}

		uint32_t taken = walk(job, src, len, w,
				      __ballot_sync(bale_all_lanes, want),
				      cur & 31, &n, lane, &end);
		uint32_t below = taken & bale_lanes_below(lane);
		uint32_t before = __shfl_sync(bale_all_lanes, w.base + lane + n,
					      (31 - __clz((int)below)) & 31);

		if (taken >> lane & 1) {
			before = below ? before : anchor;
			put_seq(seq + nr + __popc(below),
				w.base + lane - before,
				n << 16 | (w.now & 0xffff), before);
		}
		nr += (uint32_t)__popc(taken);
		if (taken)
			anchor = w.base + end;
		cur = w.base + (end > 32 ? end : 32);
	}
	nr = put_rest(seq, nr, anchor, len, lane);
	if (lane == 0)
		job.nr_seqs[unit] = nr;
}

template <bool kLazy, bool kPairs> int launch(const struct bale_lz77_job *job)
{
	BALE_LAUNCH((parse_kernel<kLazy, kPairs>),
		    (job->nr + kWarps - 1) / kWarps, kWarps * 32, 0,
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
