/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_filter.cu - filters over arrays of chunks, and decoded units from their
 * slots to where their extents lie. A block a unit; memory bound but for the
 * bit shuffle.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "balefs/unit.h"
#include "kernels/kernels.h"
#include "kernels/unit_filter.cuh"

namespace
{

constexpr int kThreads = BALE_FILTER_THREADS;
/* Blocks that share a job of many units. */
constexpr unsigned int kSplit = 4;

__global__ void __launch_bounds__(kThreads)
	slots_kernel(size_t nr, uint8_t *slots, size_t stride, void **ret)
{
	size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;

	if (i < nr)
		ret[i] = slots + i * stride;
}

__global__ void __launch_bounds__(kThreads)
	filter_kernel(unsigned int filter, const void *const *from,
		      const uint32_t *len, void *const *to, uint32_t max_chunk)
{
	size_t i = blockIdx.x;

	if (len[i] <= max_chunk)
		bale_filter_unit(filter, static_cast<const uint8_t *>(from[i]),
				 len[i], static_cast<uint8_t *>(to[i]));
}

__global__ void __launch_bounds__(kThreads)
	unfilter_kernel(unsigned int filter, const void *const *from,
			const uint32_t *len, void *const *to,
			const uint32_t *status, uint32_t max_chunk)
{
	__shared__ struct bale_filter_shared sh;
	size_t i = blockIdx.x;

	if (status[i] == BALE_CHUNK_OK && len[i] <= max_chunk)
		bale_unfilter_unit(&sh, filter,
				   static_cast<const uint8_t *>(from[i]),
				   len[i], static_cast<uint8_t *>(to[i]));
}

/* Block (job, part): units part, part + kSplit, ... of the job. */
__global__ void __launch_bounds__(kThreads)
	restore_kernel(unsigned int filter, const struct bale_unit_job *jobs,
		       struct bale_units u, uint8_t *raw, size_t raw_cap,
		       const uint8_t *slots, size_t stride)
{
	__shared__ struct bale_filter_shared sh;
	struct bale_unit_job j = jobs[blockIdx.x];

	if (j.codec == BALE_CODEC_raw || j.codec == BALE_CODEC_fill ||
	    j.raw_len > BALE_EXTENT_MAX || j.raw_off > raw_cap ||
	    j.raw_len > raw_cap - j.raw_off ||
	    j.nr_units != bale_units_nr(j.raw_len) || j.first_unit > u.nr ||
	    j.nr_units > u.nr - j.first_unit)
		return;
	for (uint32_t k = blockIdx.y; k < j.nr_units; k += kSplit) {
		size_t i = static_cast<size_t>(j.first_unit) + k;

		if (u.status[i] != BALE_CHUNK_OK)
			continue;
		bale_unfilter_unit(
			&sh, filter, slots + i * stride,
			static_cast<uint32_t>(bale_unit_len(j.raw_len, k)),
			raw + j.raw_off +
				static_cast<size_t>(k) * BALE_UNIT_SIZE);
	}
}

bool bad_filter(unsigned int filter, size_t nr)
{
	return filter == BALE_FILTER_none || filter >= BALE_FILTER_NR ||
	       nr > BALE_UNITS_MAX;
}

} // namespace

int bale_unit_slots(size_t nr, void *slots, size_t slot_stride, void **ret,
		    cudaStream_t stream)
{
	if (!nr)
		return 0;
	if (nr > BALE_UNITS_MAX)
		return -EINVAL;
	BALE_LAUNCH(slots_kernel,
		    static_cast<unsigned int>((nr + kThreads - 1) / kThreads),
		    kThreads, 0, stream, nr, static_cast<uint8_t *>(slots),
		    slot_stride, ret);
	return bale_launch_check();
}

int bale_unit_filter(unsigned int filter, size_t nr, const void *const *from,
		     const uint32_t *len, void *const *to, uint32_t max_chunk,
		     cudaStream_t stream)
{
	if (bad_filter(filter, nr))
		return -EINVAL;
	if (!nr)
		return 0;
	BALE_LAUNCH(filter_kernel, static_cast<unsigned int>(nr), kThreads, 0,
		    stream, filter, from, len, to, max_chunk);
	return bale_launch_check();
}

int bale_unit_unfilter(unsigned int filter, size_t nr, const void *const *from,
		       const uint32_t *len, void *const *to,
		       const uint32_t *status, uint32_t max_chunk,
		       cudaStream_t stream)
{
	if (bad_filter(filter, nr))
		return -EINVAL;
	if (!nr)
		return 0;
	BALE_LAUNCH(unfilter_kernel, static_cast<unsigned int>(nr), kThreads, 0,
		    stream, filter, from, len, to, status, max_chunk);
	return bale_launch_check();
}

int bale_unit_restore(unsigned int filter, const struct bale_unit_job *jobs,
		      size_t nr_jobs, const struct bale_units *u, void *raw,
		      size_t raw_cap, const void *slots, size_t slot_stride,
		      cudaStream_t stream)
{
	if (bad_filter(filter, nr_jobs))
		return -EINVAL;
	if (!nr_jobs)
		return 0;
	BALE_LAUNCH(restore_kernel,
		    dim3(static_cast<unsigned int>(nr_jobs), kSplit), kThreads,
		    0, stream, filter, jobs, *u, static_cast<uint8_t *>(raw),
		    raw_cap, static_cast<const uint8_t *>(slots), slot_stride);
	return bale_launch_check();
}
