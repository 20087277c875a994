// SPDX-License-Identifier: Apache-2.0
//
// Hash chains of a unit, by one warp: 32 positions a step. A position's
// predecessor is the nearest lower lane with the same hash, or what the table
// has; the last lane of each hash then has the table's entry. So the chains
// are those of a serial encoder that enters every position, without a race.
#include "kernels/simt.h"
#include "kernels/lane.cuh"
#include "kernels/lz77.cuh"

namespace
{

// Bytes that the main chains hash. 5 rather than 4: candidates are fewer and
// longer (lz4: ratio 2.54 -> 2.71 with one candidate a position).
constexpr uint32_t kHashBytes = 5;
constexpr uint32_t kBits3 = 12;

__device__ __forceinline__ void clear_table(uint16_t *table, uint32_t nr,
					    uint32_t lane)
{
	uint32_t *words = reinterpret_cast<uint32_t *>(table);

	for (uint32_t i = lane; i < nr / 2; i += 32)
		words[i] = BALE_LZ77_NONE << 16 | BALE_LZ77_NONE;
}

// Lanes that share a hash with another: the group of each in turn. Few steps
// have such lanes, and those have few groups; __match_any_sync() for all steps
// took three times as long.
__device__ uint32_t enter_shared(uint16_t *table, uint32_t hash, bool valid,
				 uint32_t p, uint32_t prev, uint32_t lost,
				 uint32_t lane)
{
	while (lost) {
		uint32_t h =
			__shfl_sync(bale_all_lanes, hash, __ffs((int)lost) - 1);
		bool mine = valid && hash == h;
		uint32_t group = __ballot_sync(bale_all_lanes, mine);
		uint32_t lower = group & bale_lanes_below(lane);

		if (mine && lower)
			prev = p - lane + 31 - (uint32_t)__clz((int)lower);
		if (mine && !(group >> lane >> 1))
			table[hash] = (uint16_t)p;
		lost &= ~group;
	}
	__syncwarp();
	return prev;
}

// Enter position p, of this lane; its predecessor. Of lanes with one hash an
// arbitrary one has its position in the table at first: the others see that.
__device__ __forceinline__ uint32_t enter(uint16_t *table, uint32_t hash,
					  bool valid, uint32_t p, uint32_t lane)
{
	uint32_t prev = valid ? table[hash] : BALE_LZ77_NONE, lost;

	__syncwarp();
	if (valid)
		table[hash] = (uint16_t)p;
	__syncwarp();
	lost = __ballot_sync(bale_all_lanes, valid && table[hash] != p);
	if (lost)
		prev = enter_shared(table, hash, valid, p, prev, lost, lane);
	return prev;
}

// 128 positions as the warp holds them: a word a lane, and the next 128.
struct Window {
	uint32_t now, next;
};

// Bytes 0..3 and 4..7 from position 32 * step + lane of the window on.
__device__ __forceinline__ uint2 window_at(const struct Window &w,
					   uint32_t step, uint32_t first,
					   uint32_t lane)
{
	uint32_t byte = 32 * step + lane + first, i = byte / 4;
	uint32_t w0 = __shfl_sync(bale_all_lanes, w.now, (int)(i & 31));
	uint32_t w1 = __shfl_sync(bale_all_lanes, w.now, (int)((i + 1) & 31));

	if (step == 3) {
		uint32_t n0 = __shfl_sync(bale_all_lanes, w.next, (int)i & 31);
		uint32_t n1 =
			__shfl_sync(bale_all_lanes, w.next, (int)(i + 1) & 31);

		w0 = i < 32 ? w0 : n0;
		w1 = i + 1 < 32 ? w1 : n1;
	}
	return make_uint2(__funnelshift_r(w0, w1, 8 * (byte & 3)),
			  w1 >> (8 * (byte & 3)));
}

template <uint32_t kBits, bool kHash3>
__global__ void chain_kernel(const struct bale_lz77_job job)
{
	constexpr uint32_t kTable = (1u << kBits) + (kHash3 ? 1u << kBits3 : 0);
	BALE_DYN_SHARED(uint16_t, tables);
	const uint32_t lane = bale_lane(), warp = threadIdx.x / 32;
	const uint32_t unit = blockIdx.x * (blockDim.x / 32) + warp;

	if (unit >= job.nr)
		return;

	uint16_t *const table = tables + warp * kTable;
	uint16_t *const table3 = table + (1u << kBits);
	const uint32_t len = bale_lz77_unit_len(job, unit);
	const struct bale_words src = bale_words_of(job.src[unit], len);
	uint16_t *const prev = job.prev + (size_t)unit * job.stride;
	uint16_t *const prev3 = job.prev3 + (size_t)unit * job.stride;
	struct Window w = { bale_word(src, lane), bale_word(src, 32 + lane) };

	clear_table(table, kTable, lane);
	__syncwarp();
	for (uint32_t base = 0; base < len; base += 128) {
		uint32_t after = bale_word(src, base / 4 + 64 + lane);

#pragma unroll
		for (uint32_t step = 0; step < 4; step++) {
			uint32_t p = base + 32 * step + lane;
			uint2 v = window_at(w, step, src.first, lane);
			uint32_t h =
				v.x * 2654435761u + (v.y & 0xff) * 2246822519u;
			uint32_t at = enter(table, h >> (32 - kBits),
					    p + kHashBytes <= len, p, lane);

			if (p < len)
				prev[p] = (uint16_t)at;
			if (kHash3) {
				h = (v.x & 0xffffff) * 2654435761u;
				at = enter(table3, h >> (32 - kBits3),
					   p + 3 <= len, p, lane);
				if (p < len)
					prev3[p] = (uint16_t)at;
			}
		}
		w.now = w.next;
		w.next = after;
	}
}

template <uint32_t kBits, bool kHash3>
int launch(const struct bale_lz77_job *job)
{
	constexpr uint32_t kTable = (1u << kBits) + (kHash3 ? 1u << kBits3 : 0);
	constexpr uint32_t kBytes = kTable * sizeof(uint16_t);
	// 48 KiB a block are there without asking.
	constexpr uint32_t kWarps = kBytes > 16 << 10 ? 1 : (32 << 10) / kBytes;

	BALE_LAUNCH((chain_kernel<kBits, kHash3>),
		    (job->nr + kWarps - 1) / kWarps, kWarps * 32,
		    kWarps * kBytes, job->stream, *job);
	return bale_launch_check();
}

} // namespace

int bale_lz77_chain(const struct bale_lz77_job *job)
{
	if (job->hash_bits == 14)
		return job->hash3 ? launch<14, true>(job) :
				    launch<14, false>(job);
	return job->hash3 ? launch<13, true>(job) : launch<13, false>(job);
}
