/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_pack.cu - encode's frame: jobs cut into units, coded units compared with
 * their source, and what came out laid down as the payloads of format.h.
 *
 * cut, scan and place work with a warp a job; verify and gather with blocks
 * that move bytes. A job has 64 units at most.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "balefs/format.h"
#include "kernels/unit_copy.cuh"
#include "kernels/unit_job.cuh"

namespace
{

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kScanThreads = 1024;
constexpr unsigned int kSplit = 4; /* blocks that share a job in gather */
constexpr uint32_t kAll = 0xffffffffu;
constexpr uint64_t kNowhere = ~static_cast<uint64_t>(0);

unsigned int blocks_for(size_t nr, int per_block)
{
	return static_cast<unsigned int>((nr + per_block - 1) / per_block);
}

struct Cut {
	const struct bale_unit_job *jobs;
	size_t nr_jobs;
	const uint8_t *raw;
	size_t raw_cap;
	uint8_t *slots;
	size_t slot_stride;
	struct bale_units u;
};

__global__ void __launch_bounds__(kThreads) cut_kernel(Cut c)
{
	size_t at = bale_warp_job(c.nr_jobs, kWarps);
	struct bale_unit_job j;
	bool inside;

	if (at == SIZE_MAX)
		return;
	j = c.jobs[at];
	if (!bale_job_has_units(j, c.u.nr))
		return;
	inside = bale_inside(j.raw_off, j.raw_len, c.raw_cap);
	for (uint32_t k = threadIdx.x & 31; k < j.nr_units; k += 32) {
		size_t i = static_cast<size_t>(j.first_unit) + k;
		uint32_t len = bale_job_unit_len(j, k);

		/* Outside: nothing to read, which scan sees. */
		c.u.src[i] = inside ? c.raw + j.raw_off +
					      static_cast<size_t>(k) *
						      BALE_UNIT_SIZE :
				      c.raw;
		c.u.src_len[i] = inside ? len : 0;
		c.u.dst[i] = c.slots + i * c.slot_stride;
		c.u.dst_cap[i] =
			inside ? static_cast<uint32_t>(bale_unit_worth(len)) :
				 0;
	}
}

__global__ void __launch_bounds__(kThreads)
	verify_kernel(struct bale_units u, const void *const *dec,
		      const uint32_t *dec_len, const uint32_t *dec_status,
		      uint32_t *mismatches)
{
	size_t i = blockIdx.x;
	bool differ;

	if (u.status[i] != BALE_CHUNK_OK)
		return;
	differ = dec_status[i] != BALE_CHUNK_OK || dec_len[i] != u.src_len[i];
	if (!differ)
		differ = bale_bytes_differ(
			static_cast<const uint8_t *>(u.src[i]),
			static_cast<const uint8_t *>(dec[i]), u.src_len[i],
			threadIdx.x, kThreads);
	differ = __syncthreads_or(differ);
	if (threadIdx.x || !differ)
		return;
	u.status[i] = BALE_CHUNK_BAD;
	atomicAdd(mismatches, 1u);
}

struct Scan {
	const struct bale_unit_job *jobs;
	size_t nr_jobs;
	struct bale_units u;
	struct bale_unit_pack pack;
	struct bale_unit_result *results;
	uint64_t *unit_off;
	uint64_t *packed_len;
};

/* Stored bytes of a coded unit; 0 for one that is raw. */
__device__ uint32_t coded_len(const struct bale_units &u, size_t i)
{
	return u.status[i] == BALE_CHUNK_OK && u.dst_len[i] <= u.dst_cap[i] ?
		       u.dst_len[i] :
		       0;
}

/*
 * Where each unit of a payload begins in it (unit_off), and how long it is.
 * Returns the job's status; all lanes call and get the same.
 */
__device__ uint32_t lay_out(const Scan &s, const struct bale_unit_job &j,
			    uint32_t *ret_len)
{
	uint32_t pos = j.nr_units * 4, bad = 0, wrong = 0;

	for (uint32_t base = 0; base < j.nr_units; base += 32) {
		uint32_t k = base + (threadIdx.x & 31), size = 0, total, before;
		size_t i = static_cast<size_t>(j.first_unit) + k;

		if (k < j.nr_units) {
			size = coded_len(s.u, i);
			if (!size)
				size = s.u.src_len[i];
			bad |= s.u.status[i] == BALE_CHUNK_BAD;
			wrong |= s.u.src_len[i] != bale_job_unit_len(j, k) ||
				 s.u.status[i] == BALE_CHUNK_INVALID;
		}
		before = bale_warp_sum_before(size, &total);
		if (k < j.nr_units)
			s.unit_off[i] = pos + before;
		pos += total;
	}
	*ret_len = pos;
	if (__any_sync(kAll, wrong))
		return BALE_CHUNK_INVALID;
	if (__any_sync(kAll, bad))
		return BALE_CHUNK_BAD;
	return pos <= bale_extent_worth(j.raw_len) ? BALE_CHUNK_OK :
						     BALE_CHUNK_NO_ROOM;
}

__global__ void __launch_bounds__(kThreads) size_kernel(Scan s)
{
	size_t at = bale_warp_job(s.nr_jobs, kWarps);
	struct bale_unit_result r = {};
	struct bale_unit_job j;

	if (at == SIZE_MAX)
		return;
	j = s.jobs[at];
	r.codec = s.pack.codec;
	if (!bale_job_has_units(j, s.u.nr))
		r.status = BALE_CHUNK_INVALID;
	else
		r.status = lay_out(s, j, &r.len);
	if (r.status == BALE_CHUNK_NO_ROOM && s.pack.keep_raw) {
		r.status = BALE_CHUNK_OK;
		r.len = j.raw_len;
		r.codec = BALE_CODEC_raw;
	}
	if (r.status != BALE_CHUNK_OK) {
		r.len = 0;
		r.codec = BALE_CODEC_raw;
	}
	if (!(threadIdx.x & 31))
		s.results[at] = r;
}

/* One block: offsets of all payloads. */
__global__ void __launch_bounds__(kScanThreads) place_kernel(Scan s)
{
	__shared__ unsigned long long sums[kScanThreads];
	unsigned long long base = 0;

	for (size_t first = 0; first < s.nr_jobs; first += kScanThreads) {
		size_t at = first + threadIdx.x;
		uint64_t len = 0, room, off;

		if (at < s.nr_jobs)
			len = s.results[at].len;
		room = (len + s.pack.align - 1) / s.pack.align * s.pack.align;
		sums[threadIdx.x] = room;
		__syncthreads();
		for (unsigned int d = 1; d < kScanThreads; d *= 2) {
			unsigned long long v =
				threadIdx.x >= d ? sums[threadIdx.x - d] : 0;

			__syncthreads();
			sums[threadIdx.x] += v;
			__syncthreads();
		}
		off = base + sums[threadIdx.x] - room;
		if (at < s.nr_jobs)
			s.results[at].off = off;
		if (at < s.nr_jobs && len && off + len > s.pack.packed_cap) {
			s.results[at].status = BALE_CHUNK_NO_ROOM;
			s.results[at].len = 0;
			s.results[at].codec = BALE_CODEC_raw;
		}
		base += sums[kScanThreads - 1];
		__syncthreads();
	}
	if (!threadIdx.x)
		*s.packed_len = base;
}

/* Unit offsets from their payload's to the packed buffer's. */
__global__ void __launch_bounds__(kThreads) shift_kernel(Scan s)
{
	size_t at = bale_warp_job(s.nr_jobs, kWarps);
	struct bale_unit_result r;
	struct bale_unit_job j;

	if (at == SIZE_MAX)
		return;
	j = s.jobs[at];
	r = s.results[at];
	if (!bale_job_has_units(j, s.u.nr))
		return;
	for (uint32_t k = threadIdx.x & 31; k < j.nr_units; k += 32) {
		size_t i = static_cast<size_t>(j.first_unit) + k;

		if (r.status != BALE_CHUNK_OK)
			s.unit_off[i] = kNowhere;
		else if (r.codec == BALE_CODEC_raw)
			s.unit_off[i] = r.off + static_cast<uint64_t>(k) *
							BALE_UNIT_SIZE;
		else
			s.unit_off[i] += r.off;
	}
}

struct Gather {
	const struct bale_unit_job *jobs;
	struct bale_units u;
	const uint8_t *raw;
	const struct bale_unit_result *results;
	const uint64_t *unit_off;
	uint8_t *packed;
};

__device__ void put_table(const Gather &g, const struct bale_unit_job &j,
			  uint64_t off)
{
	for (uint32_t k = threadIdx.x; k < j.nr_units; k += kThreads) {
		size_t i = static_cast<size_t>(j.first_unit) + k;
		uint32_t v = coded_len(g.u, i);
		uint8_t *p = g.packed + off + 4 * static_cast<size_t>(k);

		if (!v)
			v = g.u.src_len[i] | BALE_UNIT_RAW;
		for (uint32_t b = 0; b < 4; b++)
			p[b] = static_cast<uint8_t>(v >> (8 * b));
	}
}

/* Block (job, part): units part, part + kSplit, ... */
__global__ void __launch_bounds__(kThreads) gather_kernel(Gather g)
{
	struct bale_unit_job j = g.jobs[blockIdx.x];
	struct bale_unit_result r = g.results[blockIdx.x];
	bool raw = r.codec == BALE_CODEC_raw;

	if (r.status != BALE_CHUNK_OK || !bale_job_has_units(j, g.u.nr))
		return;
	if (!raw && !blockIdx.y)
		put_table(g, j, r.off);
	for (uint32_t k = blockIdx.y; k < j.nr_units; k += kSplit) {
		size_t i = static_cast<size_t>(j.first_unit) + k;
		const void *src = g.u.dst[i];
		uint32_t len = coded_len(g.u, i);

		if (raw) {
			src = g.raw + j.raw_off +
			      static_cast<size_t>(k) * BALE_UNIT_SIZE;
			len = bale_job_unit_len(j, k);
		} else if (!len) {
			src = g.u.src[i];
			len = g.u.src_len[i];
		}
		bale_copy_bytes(g.packed + g.unit_off[i],
				static_cast<const uint8_t *>(src), len,
				threadIdx.x, kThreads);
	}
}

} // namespace

int bale_unit_cut(const struct bale_unit_job *jobs, size_t nr_jobs,
		  const void *raw, size_t raw_cap, void *slots,
		  size_t slot_stride, const struct bale_units *u,
		  cudaStream_t stream)
{
	Cut c = { jobs,
		  nr_jobs,
		  static_cast<const uint8_t *>(raw),
		  raw_cap,
		  static_cast<uint8_t *>(slots),
		  slot_stride,
		  *u };

	if (nr_jobs > BALE_UNITS_MAX || u->nr > BALE_UNITS_MAX ||
	    slot_stride % 16)
		return -EINVAL;
	if (!nr_jobs)
		return 0;
	BALE_LAUNCH(cut_kernel, blocks_for(nr_jobs, kWarps), kThreads, 0,
		    stream, c);
	return bale_launch_check();
}

int bale_unit_verify(const struct bale_units *u, const void *const *dec,
		     const uint32_t *dec_len, const uint32_t *dec_status,
		     uint32_t *mismatches, cudaStream_t stream)
{
	if (u->nr > BALE_UNITS_MAX)
		return -EINVAL;
	if (!u->nr)
		return 0;
	BALE_LAUNCH(verify_kernel, static_cast<unsigned int>(u->nr), kThreads,
		    0, stream, *u, dec, dec_len, dec_status, mismatches);
	return bale_launch_check();
}

int bale_unit_scan(const struct bale_unit_job *jobs, size_t nr_jobs,
		   const struct bale_units *u,
		   const struct bale_unit_pack *pack,
		   struct bale_unit_result *results, uint64_t *unit_off,
		   uint64_t *packed_len, cudaStream_t stream)
{
	Scan s = { jobs, nr_jobs, *u, *pack, results, unit_off, packed_len };
	int r;

	if (nr_jobs > BALE_UNITS_MAX || u->nr > BALE_UNITS_MAX ||
	    !pack->align || pack->align > 256 ||
	    (pack->align & (pack->align - 1)))
		return -EINVAL;
	if (nr_jobs)
		BALE_LAUNCH(size_kernel, blocks_for(nr_jobs, kWarps), kThreads,
			    0, stream, s);
	r = bale_launch_check();
	if (r)
		return r;
	/* With no jobs too: it says that nothing is packed. */
	BALE_LAUNCH(place_kernel, 1, kScanThreads, 0, stream, s);
	r = bale_launch_check();
	if (r || !nr_jobs)
		return r;
	BALE_LAUNCH(shift_kernel, blocks_for(nr_jobs, kWarps), kThreads, 0,
		    stream, s);
	return bale_launch_check();
}

int bale_unit_gather(const struct bale_unit_job *jobs, size_t nr_jobs,
		     const struct bale_units *u, const void *raw,
		     const struct bale_unit_result *results,
		     const uint64_t *unit_off, void *packed,
		     cudaStream_t stream)
{
	Gather g = { jobs,    *u,	static_cast<const uint8_t *>(raw),
		     results, unit_off, static_cast<uint8_t *>(packed) };

	if (nr_jobs > BALE_UNITS_MAX)
		return -EINVAL;
	if (!nr_jobs)
		return 0;
	BALE_LAUNCH(gather_kernel,
		    dim3(static_cast<unsigned int>(nr_jobs), kSplit), kThreads,
		    0, stream, g);
	return bale_launch_check();
}
