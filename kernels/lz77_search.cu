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
// Bytes compared before the limit is looked at, and so the words behind the
// unit that a comparison may read.
constexpr uint32_t kStep = 16;
constexpr uint32_t kPadWords = kStep / 4 + 2;

// The unit in shared memory, its words where they are in device memory.
struct StagedUnit {
	const uint32_t *words;
	uint32_t first;

	__device__ __forceinline__ uint32_t word(uint32_t i) const
	{
		return words[i];
	}
};

// The unit where it is, for devices with less shared memory.
struct RemoteUnit {
	struct bale_words src;
	uint32_t first;

	__device__ __forceinline__ uint32_t word(uint32_t i) const
	{
		return bale_word(src, i);
	}
};

// The 4 bytes at `at`, counted from the first word. (A funnel shift takes its
// amount modulo 32, so 8 * at will do.)
template <typename Unit>
__device__ __forceinline__ uint32_t bytes_at(const Unit &unit, uint32_t at)
{
	return __funnelshift_r(unit.word(at / 4), unit.word(at / 4 + 1),
			       8 * at);
}

// How many bytes are the same at a and at b; the first n are known to be, n
// being a multiple of 4. Looks at whole steps of 16 bytes.
template <typename Unit>
__device__ __forceinline__ uint32_t match_len(const Unit &unit, uint32_t a,
					      uint32_t b, uint32_t n,
					      uint32_t limit)
{
	uint32_t i = (a + n) / 4, j = (b + n) / 4;
	uint32_t a0 = unit.word(i), b0 = unit.word(j);

	for (; n < limit; n += kStep, i += kStep / 4, j += kStep / 4) {
#pragma unroll
		for (uint32_t k = 1; k <= kStep / 4; k++) {
			uint32_t a1 = unit.word(i + k), b1 = unit.word(j + k);
			uint32_t diff = __funnelshift_r(a0, a1, 8 * a) ^
					__funnelshift_r(b0, b1, 8 * b);

			if (diff) {
				n += 4 * (k - 1) +
				     (uint32_t)(__ffs((int)diff) - 1) / 8;
				return n < limit ? n : limit;
			}
			a0 = a1;
			b0 = b1;
		}
	}
	return limit;
}

// len << 16 | dist of the best candidate for position p, or 0; *ret_near: of
// the first that is long enough. cand: prev[p].
template <typename Unit>
__device__ __forceinline__ uint32_t best_match(const struct bale_lz77_job &job,
					       const Unit &unit,
					       const uint16_t *prev, uint32_t p,
					       uint32_t cand, uint32_t cand3,
					       uint32_t limit,
					       uint32_t *ret_near)
{
	const uint32_t at = p + unit.first;
	uint32_t best = job.p.min_len - 1, dist = 0, off = 0;
	*ret_near = 0;
	if (cand >= p && cand3 >= p)
		return 0;

	uint32_t want = bytes_at(unit, at);

	if (cand3 < p && p - cand3 <= kMaxDist3 &&
	    p - cand3 <= job.p.max_dist &&
	    !((bytes_at(unit, cand3 + unit.first) ^ want) << 8)) {
		best = match_len(unit, at, cand3 + unit.first, 0, limit);
		dist = p - cand3;
		*ret_near = best << 16 | dist;
	}
	for (uint32_t left = job.p.depth; left; left--) {
		if (cand >= p || p - cand > job.p.max_dist || best >= limit)
			break;
		if (best >= 4 && off != best - 3) {
			// What is longer has these 4 bytes, most others not.
			off = best - 3;
			want = bytes_at(unit, at + off);
		}
		if (bytes_at(unit, cand + unit.first + off) == want) {
			uint32_t n = match_len(unit, at, cand + unit.first,
					       off ? 0 : 4, limit);

			if (n > best) {
				best = n;
				dist = p - cand;
				if (!*ret_near)
					*ret_near = best << 16 | dist;
			}
		}
		if (left > 1)
			cand = prev[cand];
	}
	return dist ? best << 16 | dist : 0;
}

template <bool kHash3, bool kPairs, typename Unit>
__device__ __forceinline__ void search_unit(const struct bale_lz77_job &job,
					    const Unit &bytes, uint32_t unit,
					    uint32_t len)
{
	const size_t start = (size_t)unit * job.stride;
	const uint16_t *prev = job.prev + start;
	const uint16_t *prev3 = job.prev3 + start;
	uint32_t next = BALE_LZ77_NONE, next3 = BALE_LZ77_NONE;

	if (threadIdx.x < len) {
		next = prev[threadIdx.x];
		next3 = kHash3 ? prev3[threadIdx.x] : BALE_LZ77_NONE;
	}
	for (uint32_t p = threadIdx.x; p < len; p += blockDim.x) {
		uint32_t limit = bale_lz77_limit(job.p, len, p);
		uint32_t cand = next, cand3 = next3, m = 0, near = 0;

		if (p + blockDim.x < len) {
			next = prev[p + blockDim.x];
			if (kHash3)
				next3 = prev3[p + blockDim.x];
		}
		limit = limit < job.cap ? limit : job.cap;
		if (limit >= job.p.min_len)
			m = best_match(job, bytes, prev, p, cand, cand3, limit,
				       &near);
		if (kPairs)
			reinterpret_cast<uint2 *>(job.match)[start + p] =
				make_uint2(near, m == near ? 0 : m);
		else
			job.match[start + p] = m;
	}
}

// Words of shared memory for a unit of len bytes at any alignment.
__host__ __device__ __forceinline__ uint32_t staged_words(uint32_t len)
{
	return (len + 3 + 3) / 4 + kPadWords;
}

template <bool kHash3, bool kPairs>
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
	search_unit<kHash3, kPairs>(job, staged, unit, len);
}

template <bool kHash3, bool kPairs>
__global__ void search_remote_kernel(const struct bale_lz77_job job)
{
	const uint32_t unit = blockIdx.x;
	const uint32_t len = bale_lz77_unit_len(job, unit);
	const struct bale_words src = bale_words_of(job.src[unit], len);
	struct RemoteUnit remote = { src, src.first };

	search_unit<kHash3, kPairs>(job, remote, unit, len);
}

template <bool kHash3, bool kPairs>
int launch(const struct bale_lz77_job *job, size_t need, bool remote)
{
	constexpr auto kStaged = search_staged_kernel<kHash3, kPairs>;

	if (remote) {
		BALE_LAUNCH((search_remote_kernel<kHash3, kPairs>), job->nr,
			    256, 0, job->stream, *job);
		return bale_launch_check();
	}
	if (cudaFuncSetAttribute(kStaged,
				 cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)need) != cudaSuccess)
		return bale_launch_check();
	BALE_LAUNCH(kStaged, job->nr, job->search_threads, need, job->stream,
		    *job);
	return bale_launch_check();
}

} // namespace

int bale_lz77_search(const struct bale_lz77_job *job)
{
	size_t need = staged_words(job->max_chunk) * sizeof(uint32_t);
	bool remote;
	int dev, room;

	if (cudaGetDevice(&dev) != cudaSuccess ||
	    cudaDeviceGetAttribute(&room,
				   cudaDevAttrMaxSharedMemoryPerBlockOptin,
				   dev) != cudaSuccess)
		return bale_launch_check();
	remote = need > (size_t)room || job->search_remote;
	if (job->pairs)
		return job->hash3 ? launch<true, true>(job, need, remote) :
				    launch<false, true>(job, need, remote);
	return job->hash3 ? launch<true, false>(job, need, remote) :
			    launch<false, false>(job, need, remote);
}
