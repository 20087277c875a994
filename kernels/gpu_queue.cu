// SPDX-License-Identifier: Apache-2.0
//
// What a batch puts onto the three streams, and what comes back from them.
#include "kernels/simt.h"
#include "kernels/gpu_ctx.h"

#include <cerrno>
#include <cstring>

#include "balefs/unit.h"

namespace
{

size_t align_up(size_t n)
{
	return (n + BALE_GPU_ALIGN - 1) / BALE_GPU_ALIGN * BALE_GPU_ALIGN;
}

void copies_reset(struct bale_gpu_copies *c)
{
	c->nr = 0;
	c->last = -2;
}

// One more copy; where tells apart registered ranges, across whose ends no
// copy may go.
void copies_add(struct bale_gpu_copies *c, void *dst, const void *src,
		size_t len, int where)
{
	if (c->nr && c->last == where) {
		size_t k = c->nr - 1;

		if (static_cast<uint8_t *>(c->dst[k]) + c->len[k] == dst &&
		    static_cast<const uint8_t *>(c->src[k]) + c->len[k] ==
			    src) {
			c->len[k] += len;
			return;
		}
	}
	c->dst[c->nr] = dst;
	c->src[c->nr] = src;
	c->len[c->nr] = len;
	c->nr++;
	c->last = where;
}

int copies_one_by_one(struct bale_gpu *g, const struct bale_gpu_copies *c,
		      cudaMemcpyKind kind, cudaStream_t stream)
{
	int r = 0;

	for (size_t i = 0; i < c->nr && !r; i++)
		r = bale_gpu_error(g, cudaMemcpyAsync(c->dst[i], c->src[i],
						      c->len[i], kind, stream));
	return r;
}

// In one call where the driver has that: a call a copy would take longer than
// the copies.
int copies_run(struct bale_gpu *g, const struct bale_gpu_copies *c,
	       cudaMemcpyKind kind, cudaStream_t stream)
{
#if defined(__CUDACC__) && CUDART_VERSION >= 13000
	if (c->nr > 2 && __atomic_load_n(&g->batch_copies, __ATOMIC_RELAXED)) {
		struct cudaMemcpyAttributes attr = {};
		size_t first = 0;
		cudaError_t err;

		attr.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
		attr.flags = cudaMemcpyFlagPreferOverlapWithCompute;
		err = cudaMemcpyBatchAsync(c->dst, c->src, c->len, c->nr, &attr,
					   &first, 1, stream);
		if (err == cudaSuccess)
			return 0;
		(void)cudaGetLastError();
		__atomic_store_n(&g->batch_copies, false, __ATOMIC_RELAXED);
	}
#endif
	return copies_one_by_one(g, c, kind, stream);
}

// In which registered range the extents' sources, or destinations, lie.
void find_places(struct bale_gpu *g, struct bale_gpu_slot *s,
		 const struct bale_gpu_batch *b, bool dst)
{
	pthread_mutex_lock(&g->lock);
	for (size_t i = 0; i < b->nr; i++) {
		const struct bale_gpu_extent *x = &b->extents[i];

		s->where[i] = dst ? bale_gpu_where(g, x->dst, x->dst_cap) :
				    bale_gpu_where(g, x->src, x->src_len);
	}
	pthread_mutex_unlock(&g->lock);
}

// The sources of all extents to d_in: at raw_off (encode) or src_off. What is
// not pinned goes through h_in, at the same offset.
void list_sources(struct bale_gpu *g, struct bale_gpu_slot *s,
		  const struct bale_gpu_batch *b)
{
	bool decode = b->op == BALE_JOB_DECODE;

	copies_reset(&s->copies);
	find_places(g, s, b, false);
	for (size_t i = 0; i < b->nr; i++) {
		const struct bale_gpu_extent *x = &b->extents[i];
		size_t off =
			decode ? s->h_jobs[i].src_off : s->h_jobs[i].raw_off;
		const void *src = x->src;
		int where = x->src_len < BALE_GPU_COPY_MIN ? -1 : s->where[i];

		if (where < 0) {
			memcpy(s->h_in + off, src, x->src_len);
			src = s->h_in + off;
		}
		copies_add(&s->copies, s->d_in + off, src,
			   where < 0 ? align_up(x->src_len) : x->src_len,
			   where);
	}
}

// -E2BIG, -EINVAL: before anything was queued.
int make_jobs(struct bale_gpu *g, struct bale_gpu_slot *s,
	      const struct bale_gpu_batch *b)
{
	bool decode = b->op == BALE_JOB_DECODE;
	uint64_t units = 0, raw_off = 0, src_off = 0;

	if (b->nr > g->limits.slot_units)
		return -E2BIG;
	for (size_t i = 0; i < b->nr; i++) {
		const struct bale_gpu_extent *x = &b->extents[i];
		uint32_t raw = decode ? x->dst_cap : x->src_len;
		struct bale_unit_job *j = &s->h_jobs[i];

		if (!raw || raw > BALE_EXTENT_MAX || !x->src_len ||
		    x->src_len > raw)
			return -EINVAL;
		memset(j, 0, sizeof(*j));
		j->raw_off = raw_off;
		j->raw_len = raw;
		j->src_off = src_off;
		j->src_len = x->src_len;
		j->first_unit = static_cast<uint32_t>(units);
		j->nr_units = static_cast<uint32_t>(bale_units_nr(raw));
		j->codec = b->codec;
		units += j->nr_units;
		if (units > g->limits.slot_units)
			return -E2BIG;
		raw_off += align_up(raw);
		src_off += align_up(x->src_len);
	}
	s->nr_units = static_cast<uint32_t>(units);
	return 0;
}

// Jobs and sources up, and compute after that.
int queue_up(struct bale_gpu *g, struct bale_gpu_slot *s,
	     const struct bale_gpu_batch *b)
{
	int r = bale_gpu_error(g,
			       cudaMemcpyAsync(s->d_jobs, s->h_jobs,
					       b->nr * sizeof(*s->h_jobs),
					       cudaMemcpyHostToDevice, g->up));

	if (!r)
		r = copies_run(g, &s->copies, cudaMemcpyHostToDevice, g->up);
	if (!r)
		r = bale_gpu_error(g, cudaEventRecord(s->up, g->up));
	return r;
}

int begin_compute(struct bale_gpu *g, struct bale_gpu_slot *s)
{
	int r = bale_gpu_error(g, cudaStreamWaitEvent(s->compute, s->up, 0));

	if (!r)
		r = bale_gpu_error(g, cudaEventRecord(s->begin, s->compute));
	if (!r)
		r = bale_gpu_error(g, cudaMemsetAsync(s->d_report, 0,
						      sizeof(*s->d_report),
						      s->compute));
	return r;
}

int queue_report(struct bale_gpu *g, struct bale_gpu_slot *s)
{
	int r = bale_gpu_error(g, cudaEventRecord(s->end, s->compute));

	if (!r)
		r = bale_gpu_error(g, cudaMemcpyAsync(s->h_report, s->d_report,
						      g->report_len,
						      cudaMemcpyDeviceToHost,
						      s->compute));
	if (!r)
		r = bale_gpu_error(g, cudaEventRecord(s->report, s->compute));
	return r;
}

struct bale_device_opts opts_of(const struct bale_gpu_batch *b)
{
	struct bale_device_opts o = {};

	o.struct_size = sizeof(o);
	o.codec = b->codec;
	o.level = b->level;
	o.max_chunk = BALE_UNIT_SIZE;
	return o; // filters are the engine's steps, not the codec's
}

// Decode what was coded, from its places into d_out, which is free until the
// payloads are gathered there, and compare.
int verify(struct bale_gpu *g, struct bale_gpu_slot *s,
	   const struct bale_device_opts *o, const struct bale_units *u)
{
	int r = bale_unit_slots(s->nr_units, s->d_out, BALE_UNIT_SIZE, s->v.dst,
				s->compute);

	if (!r)
		r = bale_device_decode(o, s->nr_units, u->dst, u->dst_len,
				       s->v.dst, u->src_len, s->v.dst_len,
				       s->v.status, s->temp, g->temp_len,
				       s->compute);
	if (!r)
		r = bale_unit_verify(u,
				     const_cast<const void *const *>(s->v.dst),
				     s->v.dst_len, s->v.status,
				     &s->d_report->mismatches, s->compute);
	return r;
}

// The units' sources become their filtered bytes.
int filter(struct bale_gpu_slot *s, unsigned int id, struct bale_units *u)
{
	int r = bale_unit_slots(s->nr_units, s->filtered, BALE_UNIT_SIZE,
				s->filtered_at, s->compute);

	if (!r)
		r = bale_unit_filter(id, s->nr_units,
				     const_cast<const void *const *>(u->src),
				     u->src_len, s->filtered_at, BALE_UNIT_SIZE,
				     s->compute);
	u->src = const_cast<const void **>(s->filtered_at);
	return r;
}

int compute_encode(struct bale_gpu *g, struct bale_gpu_slot *s,
		   const struct bale_gpu_batch *b)
{
	struct bale_device_opts o = opts_of(b);
	struct bale_units u = s->u;
	struct bale_unit_result *res = bale_gpu_results(s->d_report);
	struct bale_unit_pack pack = {};
	int r;

	u.nr = s->nr_units;
	pack.align = BALE_GPU_ALIGN;
	pack.codec = b->codec;
	pack.packed_cap = g->slot_bytes;
	r = bale_unit_cut(s->d_jobs, b->nr, s->d_in, g->slot_bytes, s->coded,
			  BALE_UNIT_SIZE, &u, s->compute);
	if (!r)
		r = bale_unit_probe(&u, bale_gpu_looks(g, s->d_report),
				    !b->filter, s->compute);
	if (!r && b->filter)
		r = filter(s, b->filter, &u);
	if (!r)
		r = bale_device_encode(&o, u.nr, u.src, u.src_len, u.dst,
				       u.dst_cap, u.dst_len, u.status, s->temp,
				       g->temp_len, s->compute);
	if (!r && g->cfg.verify)
		r = verify(g, s, &o, &u);
	if (!r)
		r = bale_unit_scan(s->d_jobs, b->nr, &u, &pack, res,
				   s->unit_off, &s->d_report->packed_len,
				   s->compute);
	if (!r)
		r = bale_unit_gather(s->d_jobs, b->nr, &u, s->d_in, res,
				     s->unit_off, s->d_out, s->compute);
	if (!r)
		r = bale_unit_crc(res, b->nr, s->d_out, s->compute);
	return r;
}

int compute_decode(struct bale_gpu *g, struct bale_gpu_slot *s,
		   const struct bale_gpu_batch *b)
{
	struct bale_device_opts o = opts_of(b);
	struct bale_units u = s->u;
	uint8_t *slots = b->filter ? s->filtered : nullptr;
	int r;

	u.nr = s->nr_units;
	r = bale_unit_split(s->d_jobs, b->nr, s->d_in, g->slot_bytes, s->d_out,
			    g->slot_bytes, slots, BALE_UNIT_SIZE, &u, s->plain,
			    s->compute);
	if (!r)
		r = bale_device_decode(&o, u.nr, u.src, u.src_len, u.dst,
				       u.dst_cap, u.dst_len, u.status, s->temp,
				       g->temp_len, s->compute);
	if (!r)
		r = bale_unit_copy_plain(&u, s->plain, s->compute);
	if (!r && b->filter)
		r = bale_unit_restore(b->filter, s->d_jobs, b->nr, &u, s->d_out,
				      g->slot_bytes, slots, BALE_UNIT_SIZE,
				      s->compute);
	if (!r)
		r = bale_unit_fold(s->d_jobs, b->nr, &u,
				   bale_gpu_results(s->d_report), s->compute);
	return r;
}

// Decoded bytes: straight into pinned destinations, the rest through h_out.
void list_decoded(struct bale_gpu *g, struct bale_gpu_slot *s)
{
	const struct bale_unit_result *res = bale_gpu_results(s->h_report);
	const struct bale_gpu_batch *b = s->b;

	copies_reset(&s->copies);
	find_places(g, s, b, true);
	for (size_t i = 0; i < b->nr; i++) {
		const struct bale_gpu_extent *x = &b->extents[i];
		uint8_t *from = s->d_out + s->h_jobs[i].raw_off;
		int where = s->where[i];

		s->staged[i] = false;
		if (res[i].status != BALE_CHUNK_OK)
			continue;
		s->staged[i] = where < 0;
		s->in_dst |= where >= 0;
		if (where < 0)
			copies_add(&s->copies, s->h_out + s->h_jobs[i].raw_off,
				   from, align_up(x->dst_cap), where);
		else
			copies_add(&s->copies, x->dst, from, x->dst_cap, where);
	}
}

// Why nothing was gained: nobody tried, or it did not shrink.
enum bale_raw_reason reason_of(struct bale_gpu *g, struct bale_gpu_slot *s,
			       const struct bale_unit_job *j)
{
	const struct bale_unit_look *looks = bale_gpu_looks(g, s->h_report);

	if (s->b->filter)
		return BALE_RAW_grew;
	for (uint32_t i = 0; i < j->nr_units; i++)
		if (looks[j->first_unit + i].verdict != BALE_UNIT_HOPELESS)
			return BALE_RAW_grew;
	return BALE_RAW_probe;
}

void deliver_payload(struct bale_gpu *g, struct bale_gpu_slot *s, size_t i)
{
	const struct bale_unit_result *res = &bale_gpu_results(s->h_report)[i];
	struct bale_gpu_extent *x = &s->b->extents[i];

	x->ret_codec = BALE_CODEC_raw;
	x->reason = BALE_RAW_none;
	x->crc = 0;
	switch (res->status) {
	case BALE_CHUNK_NO_ROOM:
		x->status = 0;
		x->len = x->src_len;
		x->reason =
			static_cast<uint8_t>(reason_of(g, s, &s->h_jobs[i]));
		return;
	case BALE_CHUNK_OK:
		break;
	default:
		x->status = res->status == BALE_CHUNK_BAD ? -EILSEQ : -EIO;
		return;
	}
	/* The device's word, but not about where our memory ends. */
	if (res->len > x->dst_cap || res->off > g->slot_bytes ||
	    res->len > g->slot_bytes - res->off) {
		x->status = -EIO;
		return;
	}
	memcpy(x->dst, s->h_out + res->off, res->len);
	x->status = 0;
	x->len = res->len;
	x->crc = res->crc;
	x->ret_codec = res->codec;
}

void deliver_decoded(struct bale_gpu_slot *s, size_t i)
{
	const struct bale_unit_result *res = &bale_gpu_results(s->h_report)[i];
	struct bale_gpu_extent *x = &s->b->extents[i];

	x->len = 0;
	if (res->status != BALE_CHUNK_OK) {
		x->status = res->status == BALE_CHUNK_BAD ? -EUCLEAN : -EIO;
		return;
	}
	if (s->staged[i])
		memcpy(x->dst, s->h_out + s->h_jobs[i].raw_off, x->dst_cap);
	x->status = 0;
	x->len = x->dst_cap;
}

} // namespace

int bale_gpu_queue(struct bale_gpu *g, struct bale_gpu_slot *s,
		   const struct bale_gpu_batch *b, bool *ret_any)
{
	int r = make_jobs(g, s, b);

	*ret_any = false;
	if (r)
		return r;
	list_sources(g, s, b);
	*ret_any = true;
	r = queue_up(g, s, b);
	if (r)
		return r;
	r = begin_compute(g, s);
	if (!r)
		r = b->op == BALE_JOB_ENCODE ? compute_encode(g, s, b) :
					       compute_decode(g, s, b);
	if (!r)
		r = queue_report(g, s);
	return r;
}

int bale_gpu_queue_down(struct bale_gpu *g, struct bale_gpu_slot *s,
			bool *ret_any)
{
	int r;

	if (s->b->op == BALE_JOB_DECODE) {
		list_decoded(g, s);
	} else {
		uint64_t len = s->h_report->packed_len;

		copies_reset(&s->copies);
		if (len > g->slot_bytes)
			return -EIO;
		if (len)
			copies_add(&s->copies, s->h_out, s->d_out, len, -1);
	}
	*ret_any = s->copies.nr != 0;
	if (!s->copies.nr)
		return 0;
	r = copies_run(g, &s->copies, cudaMemcpyDeviceToHost, g->down);
	if (!r)
		r = bale_gpu_error(g, cudaEventRecord(s->down, g->down));
	return r;
}

void bale_gpu_deliver(struct bale_gpu *g, struct bale_gpu_slot *s)
{
	for (size_t i = 0; i < s->b->nr; i++) {
		if (s->b->op == BALE_JOB_ENCODE)
			deliver_payload(g, s, i);
		else
			deliver_decoded(s, i);
	}
}
