/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_split.cu - decode's frame: stored payloads taken apart into units, and
 * the units' statuses joined to one per extent. The bytes are hostile, although
 * their checksum was right: a table that does not add up makes its job bad.
 *
 * A warp a job; 64 units at most.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "balefs/format.h"
#include "kernels/unit_job.cuh"

namespace
{

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr uint32_t kAll = 0xffffffffu;

struct Split {
	const struct bale_unit_job *jobs;
	size_t nr_jobs;
	const uint8_t *stored;
	size_t stored_cap;
	uint8_t *raw;
	size_t raw_cap;
	uint8_t *slots; /* NULL: decode in place */
	size_t slot_stride;
	struct bale_units u;
	struct bale_unit_plain *plain;
};

__device__ uint32_t load32(const uint8_t *p)
{
	return p[0] | static_cast<uint32_t>(p[1]) << 8 |
	       static_cast<uint32_t>(p[2]) << 16 |
	       static_cast<uint32_t>(p[3]) << 24;
}

/* Where unit k is decoded to: the extent's place, or the unit's slot. */
__device__ uint8_t *place_of(const Split &s, const struct bale_unit_job &j,
			     uint32_t k, bool slot)
{
	size_t i = static_cast<size_t>(j.first_unit) + k;

	return slot ? s.slots + i * s.slot_stride :
		      s.raw + j.raw_off +
			       static_cast<size_t>(k) * BALE_UNIT_SIZE;
}

/* One unit as its owner leaves it: plain, so that the decoder passes it. */
__device__ void put_plain(const Split &s, size_t i, const void *src, void *dst,
			  uint32_t len, uint32_t kind, uint32_t period)
{
	struct bale_unit_plain p = { src, dst, len, kind, period, 0 };

	s.plain[i] = p;
	s.u.src[i] = src;
	s.u.src_len[i] = 0;
	s.u.dst[i] = dst;
	s.u.dst_cap[i] = 0;
}

__device__ void put_bad(const Split &s, const struct bale_unit_job &j)
{
	for (uint32_t k = threadIdx.x & 31; k < j.nr_units; k += 32)
		put_plain(s, static_cast<size_t>(j.first_unit) + k, s.stored,
			  s.raw, 0, BALE_PLAIN_BAD, 0);
}

/* One pattern or one copy for the whole extent, by units. */
__device__ void split_plain(const Split &s, const struct bale_unit_job &j)
{
	const uint8_t *src = s.stored + j.src_off;
	bool raw = j.codec == BALE_CODEC_raw;

	for (uint32_t k = threadIdx.x & 31; k < j.nr_units; k += 32) {
		size_t skip = raw ? static_cast<size_t>(k) * BALE_UNIT_SIZE : 0;

		put_plain(s, static_cast<size_t>(j.first_unit) + k, src + skip,
			  place_of(s, j, k, false), bale_job_unit_len(j, k),
			  raw ? BALE_PLAIN_RAW : BALE_PLAIN_PATTERN,
			  raw ? 0 : j.src_len);
	}
}

/* Does the table fit the stored bytes, and every raw unit its length? All lanes
 * get the same answer. Sums of 64 lengths of 31 bits need 64 bits: a length
 * beyond what is left is wrong before it is added. */
__device__ bool table_is_right(const uint8_t *src,
			       const struct bale_unit_job &j)
{
	uint32_t pos = j.nr_units * 4, wrong = 0;

	if (j.src_len < pos)
		return false;
	for (uint32_t base = 0; base < j.nr_units; base += 32) {
		uint32_t k = base + (threadIdx.x & 31), n = 0, total;

		if (k < j.nr_units) {
			uint32_t e = load32(src + 4 * k);

			n = e & ~BALE_UNIT_RAW;
			wrong |= !n || n > j.src_len || n > BALE_EXTENT_MAX ||
				 (e & BALE_UNIT_RAW &&
				  n != bale_job_unit_len(j, k));
			n = wrong ? 0 : n;
		}
		bale_warp_sum_before(n, &total);
		pos += total;
	}
	return !__any_sync(kAll, wrong) && pos == j.src_len;
}

__device__ void split_units(const Split &s, const struct bale_unit_job &j)
{
	const uint8_t *src = s.stored + j.src_off;
	uint32_t pos = j.nr_units * 4;

	for (uint32_t base = 0; base < j.nr_units; base += 32) {
		uint32_t k = base + (threadIdx.x & 31), n = 0, e = 0, total, at;
		size_t i = static_cast<size_t>(j.first_unit) + k;

		if (k < j.nr_units) {
			e = load32(src + 4 * k);
			n = e & ~BALE_UNIT_RAW;
		}
		at = pos + bale_warp_sum_before(n, &total);
		pos += total;
		if (k >= j.nr_units)
			continue;
		if (e & BALE_UNIT_RAW) {
			put_plain(s, i, src + at,
				  place_of(s, j, k, s.slots != nullptr), n,
				  BALE_PLAIN_RAW, 0);
			continue;
		}
		s.plain[i] = {};
		s.u.src[i] = src + at;
		s.u.src_len[i] = n;
		s.u.dst[i] = place_of(s, j, k, s.slots != nullptr);
		s.u.dst_cap[i] = bale_job_unit_len(j, k);
	}
}

__device__ bool is_right(const Split &s, const struct bale_unit_job &j)
{
	if (!bale_inside(j.src_off, j.src_len, s.stored_cap) ||
	    !bale_inside(j.raw_off, j.raw_len, s.raw_cap))
		return false;
	if (j.codec == BALE_CODEC_raw)
		return j.src_len == j.raw_len;
	if (j.codec == BALE_CODEC_fill)
		return j.src_len == 1 || j.src_len == 2 || j.src_len == 4 ||
		       j.src_len == 8;
	return table_is_right(s.stored + j.src_off, j);
}

__global__ void __launch_bounds__(kThreads) split_kernel(Split s)
{
	size_t at = bale_warp_job(s.nr_jobs, kWarps);
	struct bale_unit_job j;

	if (at == SIZE_MAX)
		return;
	j = s.jobs[at];
	if (!bale_job_has_units(j, s.u.nr))
		return;
	if (!is_right(s, j))
		put_bad(s, j);
	else if (j.codec == BALE_CODEC_raw || j.codec == BALE_CODEC_fill)
		split_plain(s, j);
	else
		split_units(s, j);
}

__global__ void __launch_bounds__(kThreads)
	fold_kernel(const struct bale_unit_job *jobs, size_t nr_jobs,
		    struct bale_units u, struct bale_unit_result *results)
{
	size_t at = bale_warp_job(nr_jobs, kWarps);
	struct bale_unit_result r = {};
	struct bale_unit_job j;
	uint32_t bad = 0;

	if (at == SIZE_MAX)
		return;
	j = jobs[at];
	if (bale_job_has_units(j, u.nr)) {
		for (uint32_t k = threadIdx.x & 31; k < j.nr_units; k += 32) {
			size_t i = static_cast<size_t>(j.first_unit) + k;

			bad |= u.status[i] != BALE_CHUNK_OK ||
			       u.dst_len[i] != bale_job_unit_len(j, k);
		}
		r.status =
			__any_sync(kAll, bad) ? BALE_CHUNK_BAD : BALE_CHUNK_OK;
	} else {
		r.status = BALE_CHUNK_INVALID;
	}
	r.len = r.status == BALE_CHUNK_OK ? j.raw_len : 0;
	r.codec = j.codec;
	if (!(threadIdx.x & 31))
		results[at] = r;
}

unsigned int blocks_for(size_t nr_jobs)
{
	return static_cast<unsigned int>((nr_jobs + kWarps - 1) / kWarps);
}

} // namespace

int bale_unit_split(const struct bale_unit_job *jobs, size_t nr_jobs,
		    const void *stored, size_t stored_cap, void *raw,
		    size_t raw_cap, void *slots, size_t slot_stride,
		    const struct bale_units *u, struct bale_unit_plain *plain,
		    cudaStream_t stream)
{
	Split s = { jobs,
		    nr_jobs,
		    static_cast<const uint8_t *>(stored),
		    stored_cap,
		    static_cast<uint8_t *>(raw),
		    raw_cap,
		    static_cast<uint8_t *>(slots),
		    slot_stride,
		    *u,
		    plain };

	if (nr_jobs > BALE_UNITS_MAX || u->nr > BALE_UNITS_MAX ||
	    slot_stride % 16)
		return -EINVAL;
	if (!nr_jobs)
		return 0;
	BALE_LAUNCH(split_kernel, blocks_for(nr_jobs), kThreads, 0, stream, s);
	return bale_launch_check();
}

int bale_unit_fold(const struct bale_unit_job *jobs, size_t nr_jobs,
		   const struct bale_units *u, struct bale_unit_result *results,
		   cudaStream_t stream)
{
	if (nr_jobs > BALE_UNITS_MAX || u->nr > BALE_UNITS_MAX)
		return -EINVAL;
	if (!nr_jobs)
		return 0;
	BALE_LAUNCH(fold_kernel, blocks_for(nr_jobs), kThreads, 0, stream, jobs,
		    nr_jobs, *u, results);
	return bale_launch_check();
}
