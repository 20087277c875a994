/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_run.c - one piece on one slot of a device, and what becomes of its jobs
 * when the device does not do its part. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/unit.h"
#include "fs/base/clock.h"
#include "fs/base/crc32c.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/engine_gpu.h"

enum {
	/* Batches in a row that fail without the device being lost: then it is
	   opened anew. */
	FAILURES_MAX = 8,
	/* Results that were wrong: then nothing that it says counts. */
	MISMATCHES_MAX = 16,
	/*
	 * Where the device writes to the caller's own memory, a hang is waited
	 * for longer: nobody may have that memory while a copy could still
	 * end. All kernels are over by then, so that the copy is all there is;
	 * one that takes so long will not come any more.
	 */
	HANG_FACTOR_IN_DST = 3,
};

int bale_gpu_call_open(struct bale_gpu_dev *d,
		       const struct bale_gpu_config *cfg, struct bale_gpu **ret)
{
	int r = bale_fault("gpu.open");

	return r ? r : d->e->ops->open(cfg, ret);
}

int bale_gpu_call_submit(struct bale_gpu_dev *d, struct bale_gpu *g,
			 uint32_t slot, struct bale_gpu_batch *b)
{
	int r = bale_fault("gpu.submit");

	if (!r)
		r = bale_fault("gpu.memory");
	if (r)
		return r == -ENODEV ? -EIO : r;
	return d->e->ops->submit(g, slot, b);
}

/* As if a bit had turned on the way from the device. */
static void spoil_payload(struct bale_gpu_batch *b)
{
	for (size_t i = 0; i < b->nr; i++) {
		if (b->extents[i].ret_codec == BALE_CODEC_raw)
			continue;
		if (bale_fault("gpu.crc"))
			b->extents[i].crc ^= 1;
		return;
	}
}

/* What was asked for by a test, in place of a result that came. */
static int spoil(struct bale_gpu_batch *b)
{
	int r;

	if (bale_fault("gpu.lost"))
		return -ENODEV;
	if (bale_fault("gpu.hang"))
		return -ETIMEDOUT;
	r = bale_fault("gpu.batch");
	if (!r && b->nr && bale_fault("gpu.mismatch"))
		b->extents[0].status = -EILSEQ;
	if (!r && b->op == BALE_JOB_ENCODE)
		spoil_payload(b);
	return r;
}

int bale_gpu_call_wait(struct bale_gpu_dev *d, struct bale_gpu *g,
		       uint32_t slot, struct bale_gpu_batch *b)
{
	const uint64_t limit = d->e->o.hang_ns;
	bool in_dst = false;
	int r = d->e->ops->wait(g, slot, limit, &in_dst);

	if (r == -ETIMEDOUT && in_dst)
		r = d->e->ops->wait(g, slot, limit * (HANG_FACTOR_IN_DST - 1),
				    &in_dst);
	return r ? r : spoil(b);
}

/* ---- jobs to extents and back ---- */

/* Jobs that need a coder, as extents; the others are complete. */
static void fill_batch(struct bale_gpu_engine *e, struct bale_gpu_piece *p,
		       struct bale_gpu_batch *b)
{
	size_t nr = 0;

	for (size_t i = 0; i < p->nr; i++) {
		struct bale_job *j = p->jobs[i];

		if (p->op == BALE_JOB_ENCODE && bale_codec_settle(j)) {
			if (j->want_crc && !j->status)
				bale_codec_checksum(j);
			bale_mutex_lock(&e->lock);
			bale_engine_account(&e->stats, j, 0);
			bale_mutex_unlock(&e->lock);
			continue;
		}
		b->extents[nr] = (struct bale_gpu_extent){
			.src = j->src,
			.dst = j->dst,
			.src_len = (uint32_t)j->src_len,
			.dst_cap = (uint32_t)j->dst_cap,
		};
		p->jobs[nr++] = j;
	}
	p->nr = nr;
	b->nr = nr;
}

/* False: the CPU is to do it. */
static bool take_extent(const struct bale_gpu_batch *b,
			const struct bale_gpu_extent *x, struct bale_job *j)
{
	if (x->status)
		return false;
	j->status = 0;
	j->len = x->len;
	if (b->op == BALE_JOB_DECODE) {
		j->ret_codec = BALE_CODEC_raw;
		j->ret_filter = 0;
		j->ret_level = 0;
		j->reason = BALE_RAW_none;
		return true;
	}
	j->ret_codec = x->ret_codec;
	j->reason = x->reason;
	j->has_crc = false;
	if (x->ret_codec == BALE_CODEC_raw) {
		if (j->want_crc)
			bale_codec_checksum(j);
		return true;
	}
	/* The device's checksum over what it made, ours over what arrived: from
	   here on it goes with the bytes. */
	if (x->len > j->dst_cap || bale_crc32c(0, j->dst, x->len) != x->crc)
		return false;
	j->has_crc = true;
	j->crc = x->crc;
	j->ret_filter = b->filter;
	j->ret_level = b->level;
	return true;
}

struct outcome {
	size_t nr_failed; /* moved to the front of the piece's jobs */
	uint64_t in, out;
	unsigned int mismatches;
};

static void take_results(struct bale_gpu_piece *p,
			 const struct bale_gpu_batch *b, struct outcome *o)
{
	for (size_t i = 0; i < p->nr; i++) {
		struct bale_job *j = p->jobs[i];

		if (take_extent(b, &b->extents[i], j)) {
			o->in += j->src_len;
			o->out += j->len;
			continue;
		}
		/* Bad stored bytes are an answer, which the CPU will repeat;
		 * anything else is the device's fault. */
		o->mismatches += b->extents[i].status != -EUCLEAN;
		p->jobs[o->nr_failed++] = j;
	}
}

/* ---- accounts ---- */

static void account(struct bale_gpu_dev *d, const struct bale_gpu_piece *p,
		    const struct bale_gpu_batch *b, const struct outcome *o)
{
	struct bale_engine_stats *st = &d->e->stats;
	size_t nr = p->nr - o->nr_failed;

	bale_mutex_lock(&d->e->lock);
	st->jobs[p->op] += nr;
	st->bytes_in[p->op] += o->in;
	st->bytes_out[p->op] += o->out;
	bale_mutex_unlock(&d->e->lock);
	bale_mutex_lock(&d->lock);
	d->stats.jobs[p->op] += nr;
	d->stats.bytes_in[p->op] += o->in;
	d->stats.bytes_out[p->op] += o->out;
	d->stats.batches++;
	d->stats.device_ns += b->device_ns;
	d->stats.failed_over += o->nr_failed;
	d->stats.mismatches += o->mismatches;
	bale_mutex_unlock(&d->lock);
}

/*
 * What the piece cost: the time since the device ended the one before, or
 * since this one's own start when that is later. So an idle device is judged by
 * how long a batch takes, a busy one by how often one comes out.
 */
static void note_time(struct bale_gpu_dev *d, const struct bale_gpu_piece *p,
		      const struct bale_gpu_batch *b, uint64_t start)
{
	unsigned int share = d->e->o.share;
	uint64_t end = bale_now_ns(), from = start;

	bale_mutex_lock(&d->lock);
	if (d->last_end > from)
		from = d->last_end;
	d->last_end = end;
	d->failures = 0;
	if (share < 100) {
		uint64_t base = d->not_before > start ? d->not_before : start;

		d->not_before = base + b->device_ns * 100 / share;
	}
	bale_mutex_unlock(&d->lock);
	if (end > from)
		bale_cost_note(&d->cost, BALE_COST_GPU, p->op,
			       bale_cost_kind_of(p->op, p->codec, p->level),
			       p->bytes, end - from);
}

/* The batch as a whole failed. */
static void note_failure(struct bale_gpu_dev *d, int r, size_t nr)
{
	unsigned int failures;
	bool first;

	bale_mutex_lock(&d->lock);
	d->stats.batches++;
	d->stats.failed_over += nr;
	d->stats.lost += r == -ENODEV && d->state == BALE_GPU_READY;
	d->stats.hung += r == -ETIMEDOUT;
	first = !d->told_failure;
	d->told_failure = true;
	failures = ++d->failures;
	bale_mutex_unlock(&d->lock);
	if (r == -ENODEV)
		bale_gpu_dev_down(d, "lost", false);
	else if (r == -ETIMEDOUT)
		bale_gpu_dev_down(d, "hangs", false);
	else if (failures >= FAILURES_MAX)
		bale_gpu_dev_down(d, "fails again and again", false);
	else if (first)
		bale_warn("gpu %u: a batch failed: %s; the CPU did it", d->idx,
			  strerror(-r));
}

static void note_mismatches(struct bale_gpu_dev *d, unsigned int nr)
{
	uint64_t all;

	if (!nr)
		return;
	bale_mutex_lock(&d->lock);
	all = d->stats.mismatches;
	bale_mutex_unlock(&d->lock);
	if (all == nr)
		bale_err("gpu %u: a result was wrong; the CPU did it again",
			 d->idx);
	if (all >= MISMATCHES_MAX)
		bale_gpu_dev_down(d, "too many wrong results", true);
}

static int run_batch(struct bale_gpu_dev *d, uint32_t slot,
		     struct bale_gpu *gpu, struct bale_gpu_batch *b)
{
	int r;

	if (!gpu)
		return -ECANCELED; /* went down while this was queued */
	r = bale_gpu_call_submit(d, gpu, slot, b);
	return r ? r : bale_gpu_call_wait(d, gpu, slot, b);
}

void bale_gpu_piece_run(struct bale_gpu_dev *d, uint32_t slot,
			struct bale_gpu *gpu, struct bale_gpu_piece *p,
			struct bale_gpu_extent *x)
{
	struct bale_gpu_work *w = p->work;
	struct bale_gpu_batch b = {
		.op = p->op,
		.codec = p->codec,
		.level = p->level,
		.filter = p->filter,
		.extents = x,
	};
	struct outcome o = { 0 };
	uint64_t start = bale_now_ns();
	int r = 0;

	fill_batch(d->e, p, &b);
	if (b.nr && gpu)
		bale_gpu_note_use(d, &b);
	if (b.nr)
		r = run_batch(d, slot, gpu, &b);
	if (r == -ECANCELED) {
		bale_mutex_lock(&d->lock);
		d->stats.failed_over += p->nr;
		bale_mutex_unlock(&d->lock);
	} else if (r) {
		note_failure(d, r, p->nr);
	} else if (b.nr) {
		take_results(p, &b, &o);
		account(d, p, &b, &o);
		note_time(d, p, &b, start);
		note_mismatches(d, o.mismatches);
	}
	if (r)
		o.nr_failed = p->nr;
	if (o.nr_failed)
		bale_gpu_on_cpu(w, p->jobs, o.nr_failed);
	free(p);
	bale_gpu_work_put(w);
}
