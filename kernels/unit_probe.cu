/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_probe.cu - a guess whether a unit will shrink: what
 * fs/codec/codec_probe.c asks of 128 KiB windows, asked of units, with the same
 * samples, hash and limits. And whether it is one pattern, and at which
 * distance its bytes resemble each other, which is what numbers do.
 *
 * A block of 128 threads a unit; 20 KiB of shared memory. The table keeps the
 * position of the last string of each slot, so that the answer does not depend
 * on the order of threads.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "kernels/kernels.h"
#include "kernels/unit_copy.cuh"

namespace
{

constexpr int kThreads = 128;
constexpr uint32_t kSlices = 16, kSlice = 128, kSamples = kSlices * kSlice;
constexpr uint32_t kTableBits = 12, kStride = 64;
constexpr uint32_t kHitsMin = 2, kHitsMany = kSamples / 16;
constexpr float kFlatBits = 7.65F;
/* Shorter units are tried: nothing can be said of so few samples. */
constexpr uint32_t kProbeMin = 2 * kSamples;
/* Distances of which the resemblance is counted: 1 and 3 stand for chance. */
constexpr int kDistances = 5;

struct Shared {
	uint32_t count[256];
	uint32_t table[1 << kTableBits]; /* position + 1; 0: empty */
	float sums[kThreads];
	uint32_t hits;
	uint32_t alike[kDistances];
};

__device__ uint32_t load32(const uint8_t *p)
{
	return p[0] | static_cast<uint32_t>(p[1]) << 8 |
	       static_cast<uint32_t>(p[2]) << 16 |
	       static_cast<uint32_t>(p[3]) << 24;
}

__device__ uint32_t slot(uint32_t v)
{
	return v * 2654435761U >> (32 - kTableBits);
}

__device__ const uint8_t *slice(const uint8_t *src, uint32_t len, uint32_t idx)
{
	return src + static_cast<size_t>(len - kSlice) * idx / (kSlices - 1);
}

__device__ float entropy(Shared &sh, const uint8_t *src, uint32_t len)
{
	float sum = 0;

	for (uint32_t i = threadIdx.x; i < kSamples; i += kThreads)
		atomicAdd(&sh.count[slice(src, len, i / kSlice)[i % kSlice]],
			  1u);
	__syncthreads();
	for (uint32_t v = threadIdx.x; v < 256; v += kThreads) {
		float n = static_cast<float>(sh.count[v]);

		sum += n > 0 ? n * __log2f(n) : 0;
	}
	sh.sums[threadIdx.x] = sum;
	__syncthreads();
	for (int half = kThreads / 2; half; half /= 2) {
		if (threadIdx.x < static_cast<unsigned int>(half))
			sh.sums[threadIdx.x] += sh.sums[threadIdx.x + half];
		__syncthreads();
	}
	return 11.0F - sh.sums[0] / kSamples;
}
static_assert(kSamples == 1 << 11, "log2 of it above");

/* Positions of the slices whose 4 bytes stand at a multiple of kStride too. */
__device__ void count_hits(Shared &sh, const uint8_t *src, uint32_t len)
{
	uint32_t hits = 0;

	for (uint32_t i = threadIdx.x * kStride; i + 4 <= len;
	     i += kThreads * kStride)
		atomicMax(&sh.table[slot(load32(src + i))], i + 1);
	__syncthreads();
	/* Twice at a distance of a multiple of kStride. */
	for (uint32_t i = threadIdx.x * kStride; i + 4 <= len;
	     i += kThreads * kStride) {
		uint32_t v = load32(src + i), t = sh.table[slot(v)];

		hits += t != i + 1 && load32(src + t - 1) == v;
	}
	for (uint32_t i = threadIdx.x; i < kSamples; i += kThreads) {
		const uint8_t *p = slice(src, len, i / kSlice);
		uint32_t at = i % kSlice, v, t;

		if (at + 4 > kSlice ||
		    !((static_cast<uint32_t>(p - src) + at) % kStride))
			continue;
		v = load32(p + at);
		t = sh.table[slot(v)];
		hits += t ? load32(src + t - 1) == v : !v;
	}
	atomicAdd(&sh.hits, hits);
	__syncthreads();
}

/* Bytes of the slices that equal the one 1, 2, 3, 4 or 8 before them. */
__device__ uint32_t find_stride(Shared &sh, const uint8_t *src, uint32_t len)
{
	constexpr uint32_t dist[kDistances] = { 1, 2, 3, 4, 8 };
	uint32_t alike[kDistances] = { 0, 0, 0, 0, 0 }, best, noise;

	for (uint32_t i = threadIdx.x; i < kSamples; i += kThreads) {
		const uint8_t *p = slice(src, len, i / kSlice);
		uint32_t at = i % kSlice;

		for (int k = 0; at >= 8 && k < kDistances; k++)
			alike[k] += p[at] == p[at - dist[k]];
	}
	for (int k = 0; k < kDistances; k++)
		atomicAdd(&sh.alike[k], alike[k]);
	__syncthreads();
	best = max(max(sh.alike[1], sh.alike[3]), sh.alike[4]);
	noise = max(sh.alike[0], sh.alike[2]);
	if (best < noise + noise / 2 + kSamples / 32)
		return 0;
	/* A multiple of the right distance resembles nearly as much. */
	for (int k = 1; k < kDistances; k++)
		if (k != 2 && sh.alike[k] + best / 8 >= best)
			return dist[k];
	return 0;
}

__global__ void __launch_bounds__(kThreads)
	probe_kernel(struct bale_units u, struct bale_unit_look *looks,
		     bool skip)
{
	__shared__ Shared sh;
	size_t i = blockIdx.x;
	const uint8_t *src = static_cast<const uint8_t *>(u.src[i]);
	uint32_t len = u.src_len[i];
	struct bale_unit_look look = { BALE_UNIT_TRY, 0, 0, 0 };

	for (uint32_t k = threadIdx.x; k < 256; k += kThreads)
		sh.count[k] = 0;
	for (uint32_t k = threadIdx.x; k < 1 << kTableBits; k += kThreads)
		sh.table[k] = 0;
	if (threadIdx.x < kDistances)
		sh.alike[threadIdx.x] = 0;
	if (!threadIdx.x)
		sh.hits = 0;
	__syncthreads();
	if (len)
		look.fill = static_cast<uint8_t>(
			bale_fill_period(src, len, threadIdx.x, kThreads));
	if (len >= kProbeMin && !look.fill) {
		look.stride = static_cast<uint8_t>(find_stride(sh, src, len));
		if (entropy(sh, src, len) >= kFlatBits) {
			count_hits(sh, src, len);
			look.verdict = sh.hits >= kHitsMany ?
					       BALE_UNIT_REPEATS :
				       sh.hits >= kHitsMin ? BALE_UNIT_TRY :
							     BALE_UNIT_HOPELESS;
		}
	}
	if (threadIdx.x)
		return;
	looks[i] = look;
	if (skip && look.verdict == BALE_UNIT_HOPELESS)
		u.dst_cap[i] = 0;
}

} // namespace

int bale_unit_probe(const struct bale_units *u, struct bale_unit_look *looks,
		    bool skip, cudaStream_t stream)
{
	if (!u->nr)
		return 0;
	if (u->nr > BALE_UNITS_MAX)
		return -EINVAL;
	BALE_LAUNCH(probe_kernel, static_cast<unsigned int>(u->nr), kThreads, 0,
		    stream, *u, looks, skip);
	return bale_launch_check();
}
