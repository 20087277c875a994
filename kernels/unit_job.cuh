/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_job.cuh - a job and its warp, and what every kernel asks of a job
 * before it believes it.
 */
#ifndef BALE_UNIT_JOB_CUH
#define BALE_UNIT_JOB_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "balefs/unit.h"
#include "kernels/kernels.h"

/* Its units are in the arrays, and are as many as its length needs. */
static __device__ __forceinline__ bool
bale_job_has_units(const struct bale_unit_job &j, size_t nr_units)
{
	return j.raw_len && j.raw_len <= BALE_EXTENT_MAX &&
	       j.nr_units == bale_units_nr(j.raw_len) &&
	       j.first_unit <= nr_units &&
	       j.nr_units <= nr_units - j.first_unit;
}

static __device__ __forceinline__ bool bale_inside(uint64_t off, uint32_t len,
						   size_t cap)
{
	return off <= cap && len <= cap - off;
}

static __device__ __forceinline__ uint32_t
bale_job_unit_len(const struct bale_unit_job &j, uint32_t k)
{
	return static_cast<uint32_t>(bale_unit_len(j.raw_len, k));
}

/* With blocks of nr_warps warps, the job of this warp; SIZE_MAX: none. */
static __device__ __forceinline__ size_t bale_warp_job(size_t nr_jobs,
						       int nr_warps)
{
	size_t j =
		static_cast<size_t>(blockIdx.x) * nr_warps + threadIdx.x / 32;

	return j < nr_jobs ? j : SIZE_MAX;
}

/* The sum of v over the lanes below; *total over all. The whole warp calls. */
static __device__ __forceinline__ uint32_t bale_warp_sum_before(uint32_t v,
								uint32_t *total)
{
	const uint32_t all = 0xffffffffu, lane = threadIdx.x & 31;
	uint32_t incl = v;

	for (uint32_t d = 1; d < 32; d *= 2) {
		uint32_t o = __shfl_up_sync(all, incl, d);

		if (lane >= d)
			incl += o;
	}
	*total = __shfl_sync(all, incl, 31);
	return incl - v;
}

#endif
