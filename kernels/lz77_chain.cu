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
// Entries of a table: 16 tables, and so 16 warps, fill the shared memory of a
// large device, which is what 2048 units on 132 processors ask for.
constexpr uint32_t kEntries = 7168;
constexpr uint32_t kMaxWarps = 16;
constexpr uint32_t kEntries3 = 4096;
constexpr uint32_t kWarps3 = 4;

__device__ __forceinline__ void clear_table(uint16_t *table, uint32_t nr,
					    uint32_t lane)
{
	uint32_t *words = reinterpret_cast<uint32_t *>(table);

	for (uint32_t i = lane; i < nr / 2; i += 32)
		words[i] = BALE_LZ77_NONE << 16 | BALE_LZ77_NONE;
}

// More lanes than this in shared groups, and all groups are found at once.
constexpr int kManyLost = 6;

// Lanes that share a hash with another: the group of each in turn. Most steps
// have no such lanes or few; __match_any_sync() takes as long as several
// groups.
__device__ uint32_t enter_shared(uint16_t *table, uint32_t hash, bool valid,
				 uint32_t p, uint32_t prev, uint32_t lost,
				 uint32_t lane)
{
	uint32_t group = 0, lower;

	if (__popc(lost) > kManyLost) {
		group = __match_any_sync(bale_all_lanes,
					 valid ? hash : 0x80000000u | lane);
	} else {
		for (uint32_t same; lost; lost &= ~same) {
			uint32_t h = __shfl_sync(bale_all_lanes, hash,
						 __ffs((int)lost) - 1);

			same = __ballot_sync(bale_all_lanes,
					     valid && hash == h);
			group = valid && hash == h ? same : group;
		}
	}
	lower = group & bale_lanes_below(lane);
	if (lower)
		prev = p - lane + 31 - (uint32_t)__clz((int)lower);
	if (valid && group && !(group >> lane >> 1))
		table[hash] = (uint16_t)p;
	__syncwarp();
	return prev;
}

// 128 positions as they are entered, 4 a lane.
struct Step {
	uint32_t hash[4];
	uint32_t prev[4];
	bool valid[4];
};

// Enter positions base + 32 * k + lane; their predecessors. A lane reads the
// table, writes it and reads it back, for all 4 without waiting. Of lanes with
// one hash an arbitrary one has its position in the table then, and the others
// see that: all is taken back and done with care.
__device__ __forceinline__ void enter(uint16_t *table, struct Step *s,
				      uint32_t base, uint32_t lane)
{
	bool lost[4], any = false;

#pragma unroll
	for (uint32_t k = 0; k < 4; k++) {
		uint32_t p = base + 32 * k + lane;

		s->prev[k] = s->valid[k] ? table[s->hash[k]] : BALE_LZ77_NONE;
		__syncwarp();
		if (s->valid[k])
			table[s->hash[k]] = (uint16_t)p;
		__syncwarp();
		lost[k] = s->valid[k] && table[s->hash[k]] != (uint16_t)p;
		any = any || lost[k];
	}
	if (!__any_sync(bale_all_lanes, any))
		return;
#pragma unroll
	for (uint32_t k = 4; k--;) {
		if (s->valid[k])
			table[s->hash[k]] = (uint16_t)s->prev[k];
		__syncwarp();
	}
#pragma unroll
	for (uint32_t k = 0; k < 4; k++) {
		uint32_t p = base + 32 * k + lane, others;

		s->prev[k] = s->valid[k] ? table[s->hash[k]] : BALE_LZ77_NONE;
		__syncwarp();
		if (s->valid[k])
			table[s->hash[k]] = (uint16_t)p;
		__syncwarp();
		others = __ballot_sync(bale_all_lanes, lost[k]);
		if (others)
			s->prev[k] =
				enter_shared(table, s->hash[k], s->valid[k], p,
					     s->prev[k], others, lane);
	}
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

template <bool kHash3> __device__ __forceinline__ uint32_t hash_of(uint2 v)
{
	uint32_t h = kHash3 ? (v.x & 0xffffff) * 2654435761u :
			      v.x * 2654435761u + (v.y & 0xff) * 2246822519u;

	return __umulhi(h, kHash3 ? kEntries3 : kEntries);
}

template <bool kHash3>
__global__ void chain_kernel(const struct bale_lz77_job job)
{
	constexpr uint32_t kTable = kHash3 ? kEntries3 : kEntries;
	constexpr uint32_t kBytes = kHash3 ? 3 : kHashBytes;
	BALE_DYN_SHARED(uint16_t, tables);
	const uint32_t lane = bale_lane(), warp = threadIdx.x / 32;
	const uint32_t unit = blockIdx.x * (blockDim.x / 32) + warp;

	if (unit >= job.nr)
		return;

	uint16_t *const table = tables + warp * kTable;
	const uint32_t len = bale_lz77_unit_len(job, unit);
	const struct bale_words src = bale_words_of(job.src[unit], len);
	uint16_t *const prev =
		(kHash3 ? job.prev3 : job.prev) + (size_t)unit * job.stride;
	struct Window w = { bale_word(src, lane), bale_word(src, 32 + lane) };

	clear_table(table, kTable, lane);
	__syncwarp();
	for (uint32_t base = 0; base < len; base += 128) {
		uint32_t after = bale_word(src, base / 4 + 64 + lane);
		struct Step s;

#pragma unroll
		for (uint32_t k = 0; k < 4; k++) {
			uint32_t p = base + 32 * k + lane;

			s.hash[k] = hash_of<kHash3>(
				window_at(w, k, src.first, lane));
			s.valid[k] = p + kBytes <= len;
		}
		enter(table, &s, base, lane);
#pragma unroll
		for (uint32_t k = 0; k < 4; k++) {
			uint32_t p = base + 32 * k + lane;

			if (p < len)
				prev[p] = (uint16_t)s.prev[k];
		}
		w.now = w.next;
		w.next = after;
	}
}

template <bool kHash3>
int launch(const struct bale_lz77_job *job, uint32_t warps, uint32_t table)
{
	uint32_t need = warps * table;

	if (cudaFuncSetAttribute(chain_kernel<kHash3>,
				 cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)need) != cudaSuccess)
		return bale_launch_check();
	BALE_LAUNCH(chain_kernel<kHash3>, (job->nr + warps - 1) / warps,
		    warps * 32, need, job->stream, *job);
	return bale_launch_check();
}

} // namespace

int bale_lz77_chain(const struct bale_lz77_job *job)
{
	uint32_t table = kEntries * sizeof(uint16_t), warps;
	int dev, room, r;

	if (cudaGetDevice(&dev) != cudaSuccess ||
	    cudaDeviceGetAttribute(&room,
				   cudaDevAttrMaxSharedMemoryPerBlockOptin,
				   dev) != cudaSuccess)
		return bale_launch_check();
	warps = (uint32_t)room / table;
	r = launch<false>(job, warps < kMaxWarps ? warps : kMaxWarps, table);
	if (!r && job->hash3)
		r = launch<true>(job, kWarps3, kEntries3 * sizeof(uint16_t));
	return r;
}
