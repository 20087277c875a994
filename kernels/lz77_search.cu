// SPDX-License-Identifier: Apache-2.0
//
// The best match of every position, a position a thread, with the unit in
// shared memory: candidates are reads at random, which caches of a GPU serve
// slowly. Lengths end at job.cap; the parse extends the matches it takes.
#include "kernels/simt.h"
#include "kernels/lane.cuh"
#include "kernels/lz77.cuh"

namespace
{

// Matches of 3 bytes from farther away cost more bits than their literals.
constexpr uint32_t kMaxDist3 = 4096;
// Words behind the unit that a comparison may read.
constexpr uint32_t kPadWords = 4;

// The unit in shared memory, its words where they are in device memory.
struct StagedUnit {
	const uint32_t *words;
	uint32_t first;

	__device__ __forceinline__ uint32_t at(uint32_t p) const
	{
		uint32_t q = p + first;

		return __funnelshift_r(words[q / 4], words[q / 4 + 1],
				       8 * (q & 3));
	}
};

// The unit where it is, for devices with less shared memory.
struct RemoteUnit {
	struct bale_words src;

	__device__ __forceinline__ uint32_t at(uint32_t p) const
	{
		uint32_t q = p + src.first;

		return __funnelshift_r(bale_word(src, q / 4),
				       bale_word(src, q / 4 + 1), 8 * (q & 3));
	}
};

template <typename Unit>
__device__ __forceinline__ uint32_t match_len(const Unit &unit, uint32_t a,
					      uint32_t b, uint32_t limit)
{
	for (uint32_t n = 0; n < limit; n += 4) {
		uint32_t diff = unit.at(a + n) ^ unit.at(b + n);

		if (diff) {
			n += (uint32_t)(__ffs((int)diff) - 1) / 8;
			return n < limit ? n : limit;
		}
	}
	return limit;
}

// len << 16 | dist of the best candidate for position p, or 0.
template <typename Unit>
__device__ __forceinline__ uint32_t best_match(const struct bale_lz77_job &job,
					       const Unit &unit,
					       const uint16_t *prev, uint32_t p,
					       uint32_t cand3, uint32_t limit)
{
	uint32_t best = job.p.min_len - 1, dist = 0;
	const uint32_t own = unit.at(p);
	uint32_t want = own, off = 0;
	uint32_t cand = prev[p];

	if (cand3 < p && p - cand3 <= kMaxDist3 &&
	    p - cand3 <= job.p.max_dist && !((unit.at(cand3) ^ own) << 8)) {
		best = match_len(unit, p, cand3, limit);
		dist = p - cand3;
	}
	for (uint32_t i = 0; i < job.p.depth; i++) {
		if (cand >= p || p - cand > job.p.max_dist || best >= limit)
			break;
		if (best >= 4 && off != best - 3) {
			off = best - 3;
			want = unit.at(p + off);
		}
		if (unit.at(cand + off) == want) {
			uint32_t n = match_len(unit, p, cand, limit);

			if (n > best) {
				best = n;
				dist = p - cand;
			}
		}
		cand = prev[cand];
	}
	return dist ? best << 16 | dist : 0;
}

template <typename Unit>
__device__ __forceinline__ void search_unit(const struct bale_lz77_job &job,
					    const Unit &bytes, uint32_t unit,
					    uint32_t len)
{
	const uint16_t *prev = job.prev + (size_t)unit * job.stride;
	const uint16_t *prev3 = job.prev3 + (size_t)unit * job.stride;
	uint32_t *match = job.match + (size_t)unit * job.stride;

	for (uint32_t p = threadIdx.x; p < len; p += blockDim.x) {
		uint32_t limit = bale_lz77_limit(job.p, len, p), m = 0;

		limit = limit < job.cap ? limit : job.cap;
		if (limit >= job.p.min_len)
			m = best_match(job, bytes, prev, p,
				       job.prev3 ? prev3[p] : BALE_LZ77_NONE,
				       limit);
		match[p] = m;
	}
}

__global__ void search_staged_kernel(const struct bale_lz77_job job)
{
	BALE_DYN_SHARED(uint32_t, words);
	const uint32_t unit = blockIdx.x;
	const uint32_t len = bale_lz77_unit_len(job, unit);
	const struct bale_words src = bale_words_of(job.src[unit], len);
	const uint32_t nr_words = (src.end + 3) / 4;
	struct StagedUnit staged = { words, src.first };

	for (uint32_t i = threadIdx.x; i < nr_words; i += blockDim.x)
		words[i] = bale_word(src, i);
	if (threadIdx.x < kPadWords)
		words[nr_words + threadIdx.x] = 0;
	__syncthreads();
	search_unit(job, staged, unit, len);
}

__global__ void search_remote_kernel(const struct bale_lz77_job job)
{
	const uint32_t unit = blockIdx.x;
	const uint32_t len = bale_lz77_unit_len(job, unit);
	struct RemoteUnit remote = { bale_words_of(job.src[unit], len) };

	search_unit(job, remote, unit, len);
}

} // namespace

int bale_lz77_search(const struct bale_lz77_job *job)
{
	size_t need = ((size_t)job->max_chunk + 3 + 3) / 4 * 4 +
		      kPadWords * sizeof(uint32_t);
	int dev, room;

	if (cudaGetDevice(&dev) != cudaSuccess ||
	    cudaDeviceGetAttribute(&room,
				   cudaDevAttrMaxSharedMemoryPerBlockOptin,
				   dev) != cudaSuccess)
		return bale_launch_check();
	if (need > (size_t)room) {
		BALE_LAUNCH(search_remote_kernel, job->nr, 256, 0, job->stream,
			    *job);
		return bale_launch_check();
	}
	if (cudaFuncSetAttribute(search_staged_kernel,
				 cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)need) != cudaSuccess)
		return bale_launch_check();
	BALE_LAUNCH(search_staged_kernel, job->nr, 512, need, job->stream,
		    *job);
	return bale_launch_check();
}
