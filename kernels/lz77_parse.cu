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

template <bool kLazy>
__global__
__launch_bounds__(kWarps * 32) void parse_kernel(const struct bale_lz77_job job)
{
	const uint32_t lane = bale_lane();
	const uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32;

	if (unit >= job.nr)
		return;

	const uint32_t len = bale_lz77_unit_len(job, unit);
	const uint8_t *src = static_cast<const uint8_t *>(job.src[unit]);
	const uint32_t *match = job.match + (size_t)unit * job.stride;
	struct bale_seq *seq = job.seqs + (size_t)unit * job.seqs_stride;
	uint32_t cur = 0, anchor = 0, nr = 0;

	while (cur < len) {
		uint32_t base = cur & ~31u, p = base + lane;
		uint32_t m = p < len ? match[p] : 0;
		bool take = m != 0;

		if (kLazy && m && m >> 16 < job.cap)
			take = !gives_way(m, p + 1 < len ? match[p + 1] : 0,
					  p + 2 < len ? match[p + 2] : 0);

		uint32_t taken = __ballot_sync(bale_all_lanes, take) &
				 ~bale_lanes_below(cur & 31);

		cur = base + 32;
		while (taken) {
			uint32_t first = (uint32_t)__ffs((int)taken) - 1;
			uint32_t found =
				__shfl_sync(bale_all_lanes, m, (int)first);
			uint32_t at = base + first, n = found >> 16;

			if (n >= job.cap)
				n = extend(src, at, found & 0xffff, n,
					   bale_lz77_limit(job.p, len, at),
					   lane);
			if (lane == 0)
				put_seq(seq + nr, at - anchor,
					n << 16 | (found & 0xffff), anchor);
			nr++;
			anchor = at + n;
			if (anchor >= base + 32) {
				cur = anchor;
				break;
			}
			taken &= ~bale_lanes_below(anchor - base);
		}
	}
	// A unit without a match may have one literal more than a sequence can.
	if (len - anchor > 0xffff) {
		if (lane == 0)
			put_seq(seq + nr, 0xffff, 0, anchor);
		nr++;
		anchor += 0xffff;
	}
	if (anchor < len) {
		if (lane == 0)
			put_seq(seq + nr, len - anchor, 0, anchor);
		nr++;
	}
	if (lane == 0)
		job.nr_seqs[unit] = nr;
}

} // namespace

int bale_lz77_parse(const struct bale_lz77_job *job)
{
	uint32_t grid = (job->nr + kWarps - 1) / kWarps;

	if (job->p.parse == BALE_PARSE_GREEDY)
		BALE_LAUNCH(parse_kernel<false>, grid, kWarps * 32, 0,
			    job->stream, *job);
	else
		BALE_LAUNCH(parse_kernel<true>, grid, kWarps * 32, 0,
			    job->stream, *job);
	return bale_launch_check();
}
