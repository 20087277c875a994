// SPDX-License-Identifier: Apache-2.0
//
// The cheapest way through a unit, by bit costs as they come out of a first
// parse: cost[p] = min over what can start at p of its bits + cost[where it
// ends], from the end backwards. A thread takes 512 positions and starts 64
// behind them: costs of different ways have come together by then, so that it
// matters little where the sum starts (ratio within 0.01 %), and no thread
// waits for another.
#include "kernels/simt.h"
#include "kernels/lane.cuh"
#include "kernels/lz77.cuh"

namespace
{

constexpr uint32_t kThreads = 128;
constexpr uint32_t kPart = 512, kRunUp = 64;
constexpr uint32_t kRing = 64; // costs kept of the positions behind
static_assert(kThreads * kPart == BALE_UNIT_SIZE, "a block takes a unit");
static_assert(BALE_LZ77_CAP_OPTIMAL < kRing, "a match ends in the ring");

// Every length up to this is tried, of longer ones only the whole match.
constexpr uint32_t kEachLen = 16;
// Costs are in 1/8 bit and, summed over a part, in 16 bits.
constexpr uint32_t kBit = 8;
constexpr uint32_t kMaxCost = 13 * kBit;
static_assert((kPart + kRunUp) * kMaxCost < 65536, "costs fit");

// ---- the alphabets of deflate, with a length of 16 extra bits ----

constexpr uint32_t kLongLen = 258;
constexpr uint32_t kLenSyms = 29, kDistSyms = 32;

// Symbols of 2^n values each, `per` of them for each n: of v >= 0.
__device__ __forceinline__ uint32_t slot_of(uint32_t v, uint32_t per_log,
					    uint32_t *ret_extra)
{
	uint32_t top = 31 - (uint32_t)__clz((int)(v | 1));

	*ret_extra = top > per_log ? top - per_log : 0;
	return (v >> *ret_extra) + (*ret_extra << per_log);
}

__device__ __forceinline__ uint32_t len_sym(uint32_t len, uint32_t *ret_extra)
{
	uint32_t extra, sym = slot_of(len - 3, 2, &extra);

	if (len >= kLongLen) {
		sym = kLenSyms - 1;
		extra = 16;
	}
	*ret_extra = extra;
	return sym;
}

__device__ __forceinline__ uint32_t dist_sym(uint32_t dist, uint32_t *ret_extra)
{
	return slot_of(dist - 1, 1, ret_extra);
}

// ---- costs ----

struct Costs {
	uint16_t lit[256];
	uint16_t len[kLongLen + 1 + 1]; // even
	uint16_t dist[kDistSyms];
};

struct Counts {
	uint32_t lit[256], len[kLenSyms], dist[kDistSyms];
	uint32_t litlen, dists; // sums
};

// Literals of a warp's sequences: a lane counts its own, and all those that are
// left of long runs.
__device__ __forceinline__ void count_literals(const uint8_t *src, uint32_t pos,
					       uint32_t nr, uint32_t *lit,
					       uint32_t lane)
{
	const uint32_t alone = nr < 32 ? nr : 32;
	uint32_t longer = __ballot_sync(bale_all_lanes, nr > alone);

	for (uint32_t i = 0; i < alone; i++)
		atomicAdd(lit + src[pos + i], 1u);
	for (; longer; longer &= longer - 1) {
		int owner = __ffs((int)longer) - 1;
		uint32_t from = __shfl_sync(bale_all_lanes, pos, owner);
		uint32_t n = __shfl_sync(bale_all_lanes, nr, owner);

		for (uint32_t i = 32 + lane; i < n; i += 32)
			atomicAdd(lit + src[from + i], 1u);
	}
}

__device__ __forceinline__ void count(const struct bale_seq *seqs, uint32_t nr,
				      const uint8_t *src, struct Counts *c)
{
	const uint32_t lane = bale_lane();
	uint32_t litlen = 0, dists = 0;

	for (uint32_t i = threadIdx.x - lane; i < nr; i += kThreads) {
		struct bale_seq s = {};
		uint32_t extra;

		if (i + lane < nr)
			s = seqs[i + lane];
		count_literals(src, s.pos, s.lit, c->lit, lane);
		litlen += s.lit;
		if (!s.len)
			continue;
		atomicAdd(c->len + len_sym(s.len, &extra), 1u);
		atomicAdd(c->dist + dist_sym(s.dist, &extra), 1u);
		litlen++;
		dists++;
	}
	atomicAdd(&c->litlen, litlen);
	atomicAdd(&c->dists, dists);
}

// Of a symbol that was seen `nr` times in `total`.
__device__ __forceinline__ uint32_t cost_of(uint32_t nr, uint32_t total)
{
	float bits =
		__log2f((float)(total + 1)) - (nr ? __log2f((float)nr) : -1.0f);
	uint32_t cost = (uint32_t)(bits * (float)kBit + 0.5f);

	cost = cost ? cost : 1;
	return cost < kMaxCost ? cost : kMaxCost;
}

__device__ __forceinline__ void fill_costs(struct Costs *costs,
					   const struct Counts &c)
{
	uint32_t extra;

	for (uint32_t i = threadIdx.x; i < 256; i += kThreads)
		costs->lit[i] = (uint16_t)cost_of(c.lit[i], c.litlen);
	for (uint32_t i = 3 + threadIdx.x; i <= kLongLen; i += kThreads) {
		uint32_t sym = len_sym(i, &extra);

		costs->len[i] = (uint16_t)(cost_of(c.len[sym], c.litlen) +
					   extra * kBit);
	}
	for (uint32_t i = threadIdx.x; i < kDistSyms; i += kThreads) {
		extra = i < 4 ? 0 : i / 2 - 1;
		costs->dist[i] =
			(uint16_t)(cost_of(c.dist[i], c.dists) + extra * kBit);
	}
}

// ---- the way ----

// A thread's part: positions from `start` on, `len` of them with the run-up.
struct Part {
	const uint8_t *src;
	uint16_t *ring; // this thread's column
	uint32_t start, len;
	// The match that goes on at the position behind; 0: none. Matches are
	// cut at the cap, but neighbours with one distance are one match.
	uint32_t run_dist, run_end, run_cost;
};

__device__ __forceinline__ uint16_t *cost_at(const struct Part &part,
					     uint32_t i)
{
	return part.ring + i % kRing * kThreads;
}

// What is tried at a position: the cost and, to say which, a length.
constexpr uint32_t kRun = 255;

__device__ __forceinline__ uint32_t option(uint32_t cost, uint32_t len)
{
	return cost << 8 | len;
}

// What lengths up to kEachLen cost, in registers: all threads ask for the same
// at a time, and shared memory is what this kernel waits for.
struct ShortLens {
	uint32_t cost[kEachLen + 1];

	__device__ __forceinline__ void load(const struct Costs &costs,
					     uint32_t min_len)
	{
#pragma unroll
		for (uint32_t l = 3; l <= kEachLen; l++)
			cost[l] = l < min_len ? 1u << 20 : costs.len[l];
	}
};

// A match as it is tried: how long, what its distance costs.
struct Offer {
	uint32_t len, dist_cost;
};

__device__ __forceinline__ struct Offer offer_of(uint32_t match,
						 const struct Costs &costs)
{
	struct Offer o = { match >> 16, 0 };
	uint32_t extra;

	if (match)
		o.dist_cost = costs.dist[dist_sym(match & 0xffff, &extra)];
	return o;
}

__device__ __forceinline__ uint32_t try_whole(const struct Part &part,
					      const struct Costs &costs,
					      uint32_t i, const struct Offer &o,
					      uint32_t best)
{
	if (o.len <= kEachLen)
		return best;
	return min(best, option(*cost_at(part, i + o.len) + costs.len[o.len] +
					o.dist_cost,
				o.len));
}

// The nearest match, and of what is longer the far one; far.len 0: none.
__device__ __forceinline__ uint32_t
try_lens(const struct Part &part, const struct Costs &costs,
	 const struct ShortLens &lens, uint32_t i, const struct Offer &near,
	 const struct Offer &far, uint32_t best)
{
	const uint32_t most = max(near.len, far.len);

#pragma unroll
	for (uint32_t l = 3; l <= kEachLen; l++) {
		if (l > most)
			break;
		best = min(best,
			   option(*cost_at(part, i + l) + lens.cost[l] +
					  (l <= near.len ? near.dist_cost :
							   far.dist_cost),
				  l));
	}
	best = try_whole(part, costs, i, near, best);
	return try_whole(part, costs, i, far, best);
}

// The longest match at i, as long as it truly is, where that is known.
__device__ __forceinline__ uint32_t try_run(const struct bale_lz77_job &job,
					    struct Part *part,
					    const struct Costs &costs,
					    uint32_t i, uint32_t match,
					    uint32_t dist_cost, uint32_t best)
{
	uint32_t len = match >> 16, dist = match & 0xffff;

	if (len < job.cap || dist != part->run_dist ||
	    part->run_end - i > job.p.max_len) {
		part->run_dist = dist;
		part->run_end = i + len;
		part->run_cost = *cost_at(*part, i + len);
	}
	if (len < job.cap)
		return best;
	len = part->run_end - i;
	return min(best,
		   option(part->run_cost +
				  costs.len[len < kLongLen ? len : kLongLen] +
				  dist_cost,
			  kRun));
}

// Position i of the part: its cost, and the match to take there or 0. near is
// the nearest match, far a longer one or 0.
__device__ __forceinline__ uint32_t decide(const struct bale_lz77_job &job,
					   struct Part *part,
					   const struct Costs &costs,
					   const struct ShortLens &lens,
					   uint32_t i, uint32_t byte,
					   uint32_t near, uint32_t far)
{
	if (i >= part->len)
		return 0;

	uint32_t best = option(*cost_at(*part, i + 1) + costs.lit[byte], 0);

	if (!near) {
		part->run_dist = 0;
		*cost_at(*part, i) = (uint16_t)(best >> 8);
		return 0;
	}

	const struct Offer a = offer_of(near, costs), b = offer_of(far, costs);

	best = try_lens(*part, costs, lens, i, a, b, best);
	best = try_run(job, part, costs, i, far ? far : near,
		       far ? b.dist_cost : a.dist_cost, best);
	*cost_at(*part, i) = (uint16_t)(best >> 8);

	uint32_t len = best & 0xff;

	if (len == kRun)
		return (part->run_end - i) << 16 | part->run_dist;
	if (len > a.len)
		return len << 16 | (far & 0xffff);
	return len ? len << 16 | (near & 0xffff) : 0;
}

// What is known of 4 positions: pairs of matches, and the bytes.
struct Turn {
	uint4 a, b;
	uint32_t bytes;
};

__device__ __forceinline__ struct Turn load_turn(const struct Part &part,
						 const uint4 *pairs, uint32_t i)
{
	struct Turn t = {};
	const uint32_t p = part.start + i;

	if (i >= part.len)
		return t;
	t.a = pairs[p / 2];
	t.b = pairs[p / 2 + 1];
	for (uint32_t k = 0; k < 4; k++)
		if (i + k < part.len)
			t.bytes |= (uint32_t)part.src[p + k] << (8 * k);
	return t;
}

// 4 positions a turn: what is loaded and stored is a whole sector, and the next
// is on its way.
__device__ __forceinline__ void walk_back(const struct bale_lz77_job &job,
					  struct Part *part,
					  const struct Costs &costs,
					  const uint4 *pairs, uint4 *choice)
{
	struct ShortLens lens;
	struct Turn next = load_turn(*part, pairs, kPart + kRunUp - 4);

	lens.load(costs, job.p.min_len);
	for (uint32_t k = 0; k < kRing; k++)
		*cost_at(*part, k) = 0;
	for (uint32_t i = kPart + kRunUp; i;) {
		struct Turn t = next;
		uint4 out = {};

		i -= 4;
		if (i)
			next = load_turn(*part, pairs, i - 4);
#pragma unroll 1
		for (uint32_t k = 4; k--;) {
			uint32_t m = decide(job, part, costs, lens, i + k,
					    t.bytes >> 24, t.b.z, t.b.w);

			out = make_uint4(m, out.x, out.y, out.z);
			t.bytes <<= 8;
			t.b = make_uint4(t.a.z, t.a.w, t.b.x, t.b.y);
			t.a = make_uint4(0, 0, t.a.x, t.a.y);
		}
		if (i < kPart && i < part->len)
			choice[(part->start + i) / 4] = out;
	}
}

__global__
__launch_bounds__(kThreads) void optimal_kernel(const struct bale_lz77_job job)
{
	__shared__ struct Counts counts;
	__shared__ struct Costs costs;
	__shared__ uint16_t ring[kRing * kThreads];
	const uint32_t unit = blockIdx.x;
	const uint32_t len = bale_lz77_unit_len(job, unit);
	const uint8_t *src = static_cast<const uint8_t *>(job.src[unit]);
	const uint32_t start = threadIdx.x * kPart;
	const size_t at = (size_t)unit * job.stride;
	struct Part part = {};

	for (uint32_t i = threadIdx.x; i < sizeof(counts) / 4; i += kThreads)
		reinterpret_cast<uint32_t *>(&counts)[i] = 0;
	__syncthreads();
	count(job.seqs + (size_t)unit * job.seqs_stride, job.nr_seqs[unit], src,
	      &counts);
	__syncthreads();
	fill_costs(&costs, counts);
	__syncthreads();
	if (start >= len)
		return;
	part.src = src;
	part.ring = ring + threadIdx.x;
	part.start = start;
	part.len = min(len - start, kPart + kRunUp);
	walk_back(job, &part, costs,
		  reinterpret_cast<const uint4 *>(job.match + 2 * at),
		  reinterpret_cast<uint4 *>(job.choice + at));
}

} // namespace

int bale_lz77_optimal(const struct bale_lz77_job *job)
{
	BALE_LAUNCH(optimal_kernel, job->nr, kThreads, 0, job->stream, *job);
	return bale_launch_check();
}
