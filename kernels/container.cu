/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container.cu - container.h's device side: chunks are jobs of the frame that
 * batches of extents go through (kernels.h), so that their bytes are the same.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "kernels/container_plan.cuh"

namespace
{

constexpr int kThreads = 256, kScanThreads = 1024;
constexpr uint32_t kPoly = 0x82f63b78u;

__device__ uint32_t get32(const uint8_t *p)
{
	return p[0] | static_cast<uint32_t>(p[1]) << 8 |
	       static_cast<uint32_t>(p[2]) << 16 |
	       static_cast<uint32_t>(p[3]) << 24;
}

__device__ uint64_t get64(const uint8_t *p)
{
	return get32(p) | static_cast<uint64_t>(get32(p + 4)) << 32;
}

__device__ void put(uint8_t *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = static_cast<uint8_t>(v >> (8 * i));
}

__device__ uint32_t small_crc(const uint8_t *p, size_t len)
{
	uint32_t c = 0xffffffffu;

	for (size_t i = 0; i < len; i++) {
		c ^= p[i];
		for (int b = 0; b < 8; b++)
			c = (c >> 1) ^ (c & 1 ? kPoly : 0);
	}
	return ~c;
}

struct Geometry {
	uint64_t raw_len;
	uint32_t chunk_size, nr_chunks, per_chunk;
};

Geometry geometry_of(const Plan &p)
{
	return { p.raw_len, p.chunk_size, p.nr_chunks,
		 static_cast<uint32_t>(p.per_chunk) };
}

__device__ struct bale_unit_job job_of(const Geometry &g, uint32_t idx)
{
	struct bale_unit_job j = {};
	uint64_t left;

	j.raw_off = static_cast<uint64_t>(idx) * g.chunk_size;
	left = g.raw_len - j.raw_off;
	j.raw_len = left < g.chunk_size ? static_cast<uint32_t>(left) :
					  g.chunk_size;
	j.first_unit = idx * g.per_chunk;
	j.nr_units = static_cast<uint32_t>(bale_units_nr(j.raw_len));
	return j;
}

unsigned int blocks_for(size_t n)
{
	return static_cast<unsigned int>((n + kThreads - 1) / kThreads);
}

/* ---- encode ---- */

__global__ void __launch_bounds__(kThreads)
	jobs_kernel(Geometry g, struct bale_unit_job *jobs)
{
	uint32_t i = blockIdx.x * kThreads + threadIdx.x;

	if (i < g.nr_chunks)
		jobs[i] = job_of(g, i);
}

/* A unit array of one value: units that no coder has seen. */
__global__ void __launch_bounds__(kThreads)
	no_room_kernel(size_t nr, uint32_t *status, uint32_t *len)
{
	size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;

	if (i >= nr)
		return;
	status[i] = BALE_CHUNK_NO_ROOM;
	len[i] = 0;
}

__global__ void __launch_bounds__(kThreads)
	table_kernel(Geometry g, const struct bale_unit_result *results,
		     uint8_t filter, int8_t level, uint8_t *table,
		     uint32_t *status)
{
	uint32_t i = blockIdx.x * kThreads + threadIdx.x;
	struct bale_unit_result r;
	uint8_t *e = table + static_cast<size_t>(i) * kEntry;

	if (i >= g.nr_chunks)
		return;
	r = results[i];
	put(e, r.len, 4);
	put(e + 4, r.crc, 4);
	e[8] = r.codec;
	e[9] = r.codec == BALE_CODEC_raw ? 0 : filter;
	e[10] = r.codec == BALE_CODEC_raw ? 0 : static_cast<uint8_t>(level);
	e[11] = 0;
	if (r.status != BALE_CHUNK_OK)
		atomicMax(status, r.status);
}

__global__ void set_kernel(uint32_t *status, uint32_t v, const void **piece,
			   uint32_t *piece_len, const void *p, uint32_t len)
{
	*status = v;
	*piece = p;
	*piece_len = len;
}

__global__ void head_kernel(Geometry g, uint8_t codec, uint8_t filter,
			    int8_t level, const uint64_t *packed_len,
			    const uint32_t *table_crc, uint8_t *dst,
			    uint64_t *d_len, const uint32_t *status)
{
	static const char magic[9] = BALE_CONTAINER_MAGIC;
	uint64_t len = kHead + g.nr_chunks * kEntry + *packed_len;
	uint8_t h[kHead];

	if (*status != BALE_CHUNK_OK) {
		*d_len = 0;
		return;
	}
	for (size_t i = 0; i < kHead; i++)
		h[i] = i < 8 ? static_cast<uint8_t>(magic[i]) : 0;
	put(h + 8, BALE_CONTAINER_VERSION, 4);
	put(h + 12, g.chunk_size, 4);
	put(h + 16, g.raw_len, 8);
	put(h + 24, len, 8);
	put(h + 32, g.nr_chunks, 4);
	put(h + 36, *table_crc, 4);
	h[40] = codec;
	h[41] = static_cast<uint8_t>(level);
	h[42] = filter;
	put(h + 60, small_crc(h, kHead), 4);
	for (size_t i = 0; i < kHead; i++)
		dst[i] = h[i];
	*d_len = len;
}

/* cut, filter, encode. */
int code_units(const Plan &p, const void *src, cudaStream_t st)
{
	const Parts &a = p.at;
	struct bale_units u = a.u;
	int r = bale_unit_cut(a.jobs, p.nr_chunks, src, p.raw_len, a.slots,
			      BALE_UNIT_SIZE, &u, st);

	if (r)
		return r;
	if (!p.coded) {
		BALE_LAUNCH(no_room_kernel, blocks_for(p.nr_units), kThreads, 0,
			    st, p.nr_units, u.status, u.dst_len);
		return bale_launch_check();
	}
	if (p.filter) {
		r = bale_unit_slots(p.nr_units, a.filtered, BALE_UNIT_SIZE,
				    a.filtered_at, st);
		if (!r)
			r = bale_unit_filter(p.filter, p.nr_units, u.src,
					     u.src_len, a.filtered_at,
					     BALE_UNIT_SIZE, st);
		if (r)
			return r;
		u.src = const_cast<const void **>(a.filtered_at);
	}
	return bale_device_encode(&p.dev, p.nr_units, u.src, u.src_len, u.dst,
				  u.dst_cap, u.dst_len, u.status, a.codec,
				  a.codec_len, st);
}

/* scan, gather, checksums. */
int pack_units(const Plan &p, const void *src, uint8_t *dst, uint64_t room,
	       cudaStream_t st)
{
	const Parts &a = p.at;
	struct bale_units u = a.u;
	struct bale_unit_pack pack = { 1, true, p.dev.codec,
				       static_cast<size_t>(room) };
	uint8_t *packed = dst + kHead + p.nr_chunks * kEntry;
	int r = bale_unit_scan(a.jobs, p.nr_chunks, &u, &pack, a.results,
			       a.unit_off, a.packed_len, st);

	if (p.filter)
		u.src = const_cast<const void **>(a.filtered_at);
	if (!r)
		r = bale_unit_gather(a.jobs, p.nr_chunks, &u, src, a.results,
				     a.unit_off, packed, st);
	if (!r)
		r = bale_unit_crc(a.results, p.nr_chunks, packed, st);
	return r;
}

int plan_encode(const struct bale_container_opts *o, uint64_t raw_len,
		void *temp, Plan *ret)
{
	if (!o || o->struct_size != sizeof(*o) || o->reserved)
		return -EINVAL;
	return plan(o->codec, o->level, o->filter, raw_len,
		    o->chunk_size ? o->chunk_size :
				    static_cast<uint32_t>(BALE_EXTENT_DEFAULT),
		    true, temp, ret);
}

bool bad_temp(const Plan &p, const void *temp, size_t len)
{
	return !temp || len < p.at.total ||
	       (reinterpret_cast<uintptr_t>(temp) & 255);
}

/* ---- decode ---- */

struct Open {
	Geometry g;
	const uint8_t *src;
	uint64_t stored_len;
	uint8_t codec, filter;
	Parts at;
	uint32_t *status;
};

/* Is this the header that info was read from? And the table's checksum. One
 * thread. */
__global__ void check_head_kernel(Open o)
{
	const uint8_t *s = o.src;
	uint8_t h[kHead];
	bool good;

	for (size_t i = 0; i < kHead; i++)
		h[i] = i < kHead - 4 ? s[i] : 0;
	good = small_crc(h, kHead) == get32(s + 60) &&
	       get32(h + 12) == o.g.chunk_size &&
	       get64(h + 16) == o.g.raw_len && get64(h + 24) == o.stored_len &&
	       get32(h + 32) == o.g.nr_chunks && h[40] == o.codec &&
	       h[42] == o.filter &&
	       get32(h + 36) == o.at.piece_crc[o.g.nr_chunks];
	*o.status = good ? BALE_CHUNK_OK : BALE_CHUNK_BAD;
}

/* May the chunk be so? n is its stored length. */
__device__ bool entry_in_range(const Open &o, const uint8_t *e, uint32_t raw)
{
	uint32_t n = get32(e);
	bool plain = e[8] == BALE_CODEC_raw || e[8] == BALE_CODEC_fill;

	return n && n <= raw && !e[11] &&
	       (plain ? !e[9] : e[8] == o.codec && e[9] == o.filter);
}

/*
 * One block: jobs with the offsets of their stored bytes. A chunk that is out
 * of range, or begins beyond the end, becomes one of no bytes, which split()
 * calls bad. Lengths of up to 4 MiB sum to less than 2^63.
 */
__global__ void __launch_bounds__(kScanThreads) open_kernel(Open o)
{
	__shared__ unsigned long long sums[kScanThreads];
	const uint8_t *table = o.src + kHead;
	unsigned long long base = kHead + o.g.nr_chunks * kEntry;

	for (uint32_t first = 0; first < o.g.nr_chunks; first += kScanThreads) {
		uint32_t i = first + threadIdx.x;
		struct bale_unit_job j = {};
		const uint8_t *e = table + static_cast<size_t>(i) * kEntry;
		bool good = false;
		uint64_t n = 0;

		if (i < o.g.nr_chunks) {
			j = job_of(o.g, i);
			good = entry_in_range(o, e, j.raw_len);
			n = good ? get32(e) : 0;
		}
		sums[threadIdx.x] = n;
		__syncthreads();
		for (unsigned int d = 1; d < kScanThreads; d *= 2) {
			unsigned long long v =
				threadIdx.x >= d ? sums[threadIdx.x - d] : 0;

			__syncthreads();
			sums[threadIdx.x] += v;
			__syncthreads();
		}
		if (i < o.g.nr_chunks) {
			j.src_off = base + sums[threadIdx.x] - n;
			good = good && j.src_off <= o.stored_len &&
			       n <= o.stored_len - j.src_off;
			j.src_len = good ? static_cast<uint32_t>(n) : 0;
			j.codec = good ? e[8] :
					 static_cast<uint8_t>(BALE_CODEC_lz4);
			if (!good)
				j.src_off = 0;
			o.at.jobs[i] = j;
			o.at.piece[i] = o.src + j.src_off;
			o.at.piece_len[i] = j.src_len;
		}
		base += sums[kScanThreads - 1];
		__syncthreads();
	}
	/* Nothing may follow. */
	if (!threadIdx.x && base != o.stored_len)
		*o.status = BALE_CHUNK_BAD;
}

/* Chunks whose bytes are not those that were written are not decoded. */
__global__ void __launch_bounds__(kThreads) match_kernel(Open o)
{
	uint32_t i = blockIdx.x * kThreads + threadIdx.x;

	if (i >= o.g.nr_chunks)
		return;
	if (o.at.piece_crc[i] ==
	    get32(o.src + kHead + static_cast<size_t>(i) * kEntry + 4))
		return;
	o.at.jobs[i].src_len = 0;
	o.at.jobs[i].codec = BALE_CODEC_lz4;
}

__global__ void __launch_bounds__(kThreads) close_kernel(Open o)
{
	uint32_t i = blockIdx.x * kThreads + threadIdx.x;

	if (i < o.g.nr_chunks && o.at.results[i].status != BALE_CHUNK_OK)
		*o.status = BALE_CHUNK_BAD;
}

/* The table of an honest header, checked chunks. */
int open_chunks(const Open &o, cudaStream_t st)
{
	const Parts &a = o.at;
	uint32_t n = o.g.nr_chunks;
	int r;

	BALE_LAUNCH(set_kernel, 1, 1, 0, st, o.status, BALE_CHUNK_BAD,
		    a.piece + n, a.piece_len + n, o.src + kHead,
		    static_cast<uint32_t>(n * kEntry));
	r = bale_crc32c_many(1, a.piece + n, a.piece_len + n, a.piece_crc + n,
			     st);
	if (r)
		return r;
	BALE_LAUNCH(check_head_kernel, 1, 1, 0, st, o);
	BALE_LAUNCH(open_kernel, 1, kScanThreads, 0, st, o);
	r = bale_launch_check();
	if (r || !n)
		return r;
	r = bale_crc32c_many(n, a.piece, a.piece_len, a.piece_crc, st);
	BALE_LAUNCH(match_kernel, blocks_for(n), kThreads, 0, st, o);
	return r ? r : bale_launch_check();
}

int decode_chunks(const Plan &p, const Open &o, void *dst, cudaStream_t st)
{
	const Parts &a = o.at;
	uint8_t *slots = p.filter ? a.slots : nullptr;
	int r = bale_unit_split(a.jobs, p.nr_chunks, o.src, o.stored_len, dst,
				p.raw_len, slots, BALE_UNIT_SIZE, &a.u, a.plain,
				st);

	if (!r && p.coded)
		r = bale_device_decode(&p.dev, p.nr_units, a.u.src, a.u.src_len,
				       a.u.dst, a.u.dst_cap, a.u.dst_len,
				       a.u.status, a.codec, a.codec_len, st);
	if (!r)
		r = bale_unit_copy_plain(&a.u, a.plain, st);
	if (!r && p.filter)
		r = bale_unit_restore(p.filter, a.jobs, p.nr_chunks, &a.u, dst,
				      p.raw_len, slots, BALE_UNIT_SIZE, st);
	if (!r)
		r = bale_unit_fold(a.jobs, p.nr_chunks, &a.u, a.results, st);
	if (r)
		return r;
	BALE_LAUNCH(close_kernel, blocks_for(p.nr_chunks), kThreads, 0, st, o);
	return bale_launch_check();
}

} // namespace

int bale_container_device_encode_temp(const struct bale_container_opts *opts,
				      uint64_t raw_len, size_t *ret_len)
{
	Plan p;
	int r = plan_encode(opts, raw_len, nullptr, &p);

	if (!r)
		*ret_len = p.at.total;
	return r;
}

int bale_container_device_encode(const struct bale_container_opts *opts,
				 const void *d_src, uint64_t len, void *d_dst,
				 uint64_t cap, uint64_t *d_len,
				 uint32_t *d_status, void *d_temp,
				 size_t temp_len, bale_stream stream)
{
	cudaStream_t st = static_cast<cudaStream_t>(stream);
	uint8_t *dst = static_cast<uint8_t *>(d_dst);
	uint64_t head;
	Geometry g;
	Plan p;
	int r = plan_encode(opts, len, d_temp, &p);

	if (r)
		return r;
	g = geometry_of(p);
	head = kHead + g.nr_chunks * kEntry;
	if ((!d_src && len) || !dst || !d_len || !d_status || cap < head ||
	    bad_temp(p, d_temp, temp_len))
		return -EINVAL;
	BALE_LAUNCH(set_kernel, 1, 1, 0, st, d_status, BALE_CHUNK_OK,
		    p.at.piece, p.at.piece_len, dst + kHead,
		    static_cast<uint32_t>(g.nr_chunks * kEntry));
	if (g.nr_chunks) {
		BALE_LAUNCH(jobs_kernel, blocks_for(g.nr_chunks), kThreads, 0,
			    st, g, p.at.jobs);
		r = code_units(p, d_src, st);
		if (r)
			return r;
	}
	r = pack_units(p, d_src, dst, cap - head, st);
	if (r)
		return r;
	if (g.nr_chunks)
		BALE_LAUNCH(table_kernel, blocks_for(g.nr_chunks), kThreads, 0,
			    st, g, p.at.results, p.filter, p.level, dst + kHead,
			    d_status);
	r = bale_crc32c_many(1, p.at.piece, p.at.piece_len, p.at.piece_crc, st);
	if (r)
		return r;
	BALE_LAUNCH(head_kernel, 1, 1, 0, st, g, p.dev.codec, p.filter, p.level,
		    p.at.packed_len, p.at.piece_crc, dst, d_len, d_status);
	return bale_launch_check();
}

int bale_container_device_decode_temp(const struct bale_container_info *info,
				      size_t *ret_len)
{
	Plan p;
	int r = info ? plan(info->codec, info->level, info->filter,
			    info->raw_len, info->chunk_size, false, nullptr,
			    &p) :
		       -EINVAL;

	if (!r)
		*ret_len = p.at.total;
	return r;
}

int bale_container_device_decode(const struct bale_container_info *info,
				 const void *d_src, uint64_t len, void *d_dst,
				 uint64_t cap, uint32_t *d_status, void *d_temp,
				 size_t temp_len, bale_stream stream)
{
	cudaStream_t st = static_cast<cudaStream_t>(stream);
	Open o = {};
	Plan p;
	int r = info ? plan(info->codec, info->level, info->filter,
			    info->raw_len, info->chunk_size, false, d_temp,
			    &p) :
		       -EINVAL;

	if (r)
		return r;
	if (!d_src || (!d_dst && info->raw_len) || !d_status ||
	    cap < info->raw_len || p.nr_chunks != info->nr_chunks ||
	    len != info->stored_len || len < kHead + p.nr_chunks * kEntry ||
	    bad_temp(p, d_temp, temp_len))
		return -EINVAL;
	o = { geometry_of(p),
	      static_cast<const uint8_t *>(d_src),
	      len,
	      info->codec,
	      info->filter,
	      p.at,
	      d_status };
	r = open_chunks(o, st);
	if (r || !p.nr_chunks)
		return r;
	return decode_chunks(p, o, d_dst, st);
}
