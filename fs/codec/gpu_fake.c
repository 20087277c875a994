/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_fake.c - a device that is a thread with the CPU's codecs, so that all
 * that surrounds a device can be tested where there is none: by the mount
 * option gpu=fake too. It keeps gpu.h's promises: one batch a slot, results
 * only in wait(), nothing of the caller's touched otherwise; and it breaks
 * down on demand: fault point gpu.stuck, where it stays until it is closed, or
 * for a time (delay=).
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/unit.h"
#include "fs/base/clock.h"
#include "fs/base/crc32c.h"
#include "fs/base/fault.h"
#include "fs/base/thread.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/engine_gpu.h"

enum {
	UNITS_DEFAULT = 128,
	UNITS_PER_GIB = 256, /* gpu_mem= has an effect that tests can see */
};

struct fake_slot {
	struct bale_gpu_batch *b; /* NULL: free; the caller's, for wait() */
	/* All that the thread uses is its own: who gives a batch up takes the
	 * memory away. */
	struct bale_gpu_batch copy;
	struct bale_gpu_extent *x;
	uint8_t *in, *out;
	bool done, taken;
};

struct fake {
	struct bale_gpu_config cfg;
	uint32_t slot_units;
	struct bale_mutex lock; /* all below */
	struct bale_cond work, done;
	struct fake_slot slots[BALE_GPU_SLOTS_MAX];
	bool stop, stuck;
	unsigned int nr_pinned;
	pthread_t thread;
	bool has_thread;
};

static int fake_count(uint32_t *ret_nr)
{
	int r = bale_fault("gpu.count");

	if (!r)
		*ret_nr = 1;
	return r;
}

static int fake_info(uint32_t idx, struct bale_gpu_info *ret)
{
	if (idx)
		return -ENODEV;
	*ret = (struct bale_gpu_info){ .sm = 90, .nr_sms = 1 };
	snprintf(ret->name, sizeof(ret->name), "fake device");
	return 0;
}

static bool fake_can(enum bale_job_op op, unsigned int codec, int level,
		     unsigned int filter)
{
	(void)op;
	(void)level;
	return (codec == BALE_CODEC_lz4 || codec == BALE_CODEC_gdeflate) &&
	       bale_codec_known(codec, filter);
}

/* ---- the thread ---- */

static size_t room(const struct bale_gpu_batch *b,
		   const struct bale_gpu_extent *x)
{
	return b->op == BALE_JOB_ENCODE ? bale_codec_bound(x->src_len) :
					  x->dst_cap;
}

/* dst is the thread's own memory here. */
static void run_extent(const struct bale_gpu_batch *b,
		       struct bale_gpu_extent *x)
{
	struct bale_job j = {
		.op = b->op,
		.codec = b->codec,
		.level = b->level,
		.filter = b->filter,
		.src = x->src,
		.src_len = x->src_len,
		.dst = x->dst,
		.dst_cap = room(b, x),
	};

	bale_codec_run(&j);
	x->status = j.status;
	x->len = (uint32_t)j.len;
	x->ret_codec = j.ret_codec;
	x->reason = j.reason;
	if (b->op == BALE_JOB_ENCODE && j.ret_codec != BALE_CODEC_raw)
		x->crc = bale_crc32c(0, x->dst, x->len);
}

static void run_slot(struct fake_slot *s)
{
	uint64_t start = bale_now_ns();

	for (size_t i = 0; i < s->copy.nr; i++)
		run_extent(&s->copy, &s->x[i]);
	s->copy.device_ns = bale_now_ns() - start;
}

static struct fake_slot *next_slot_locked(struct fake *f) BALE_REQUIRES(f->lock)
{
	for (;;) {
		for (uint32_t i = 0; i < f->cfg.nr_slots; i++)
			if (f->slots[i].b && !f->slots[i].taken)
				return &f->slots[i];
		if (f->stop)
			return NULL;
		bale_cond_wait(&f->work, &f->lock);
	}
}

static void *fake_main(void *arg)
{
	struct fake *f = arg;
	struct fake_slot *s;

	bale_mutex_lock(&f->lock);
	while ((s = next_slot_locked(f))) {
		s->taken = true;
		f->stuck = true;
		bale_mutex_unlock(&f->lock);
		if (bale_fault("gpu.stuck")) {
			bale_mutex_lock(&f->lock);
			while (!f->stop)
				bale_cond_wait(&f->work, &f->lock);
			break;
		}
		run_slot(s);
		bale_mutex_lock(&f->lock);
		f->stuck = false;
		s->done = true;
		bale_cond_broadcast(&f->done);
	}
	bale_mutex_unlock(&f->lock);
	return NULL;
}

/* ---- the interface ---- */

static void fake_close(struct bale_gpu *g)
{
	struct fake *f = (struct fake *)g;

	bale_mutex_lock(&f->lock);
	f->stop = true;
	bale_cond_broadcast(&f->work);
	bale_mutex_unlock(&f->lock);
	if (f->has_thread)
		pthread_join(f->thread, NULL);
	for (uint32_t i = 0; i < f->cfg.nr_slots; i++) {
		struct fake_slot *s = &f->slots[i];

		free(s->x);
		free(s->in);
		free(s->out);
	}
	bale_cond_fini(&f->work);
	bale_cond_fini(&f->done);
	bale_mutex_fini(&f->lock);
	free(f);
}

static int alloc_slot(struct fake *f, struct fake_slot *s)
{
	size_t n = f->slot_units;

	/* A unit of any length has at most the bound of a whole one. */
	s->x = calloc(n, sizeof(*s->x));
	s->in = malloc(n * BALE_UNIT_SIZE);
	s->out = malloc(n * bale_codec_bound(BALE_UNIT_SIZE));
	return s->x && s->in && s->out ? 0 : -ENOMEM;
}

static int fake_open(const struct bale_gpu_config *cfg, struct bale_gpu **ret)
{
	struct fake *f;
	uint64_t units = cfg->mem_bytes * UNITS_PER_GIB >> 30;
	int r = 0;

	if (cfg->struct_size != sizeof(*cfg) || cfg->device)
		return -EINVAL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->cfg = *cfg;
	f->slot_units = cfg->slot_units ? cfg->slot_units : UNITS_DEFAULT;
	if (f->slot_units > units)
		f->slot_units = (uint32_t)units;
	bale_mutex_init(&f->lock);
	bale_cond_init(&f->work);
	bale_cond_init(&f->done);
	if (!f->slot_units)
		r = -ENOMEM;
	for (uint32_t i = 0; !r && i < cfg->nr_slots; i++)
		r = alloc_slot(f, &f->slots[i]);
	if (!r) {
		r = bale_thread_start(&f->thread, "bale-fake", fake_main, f);
		f->has_thread = !r;
	}
	if (r)
		fake_close((struct bale_gpu *)f);
	else
		*ret = (struct bale_gpu *)f;
	return r;
}

static void fake_limits(const struct bale_gpu *g, struct bale_gpu_limits *ret)
{
	const struct fake *f = (const struct fake *)g;
	uint64_t slots =
		(uint64_t)f->slot_units * BALE_UNIT_SIZE * f->cfg.nr_slots;

	*ret = (struct bale_gpu_limits){
		.slot_units = f->slot_units,
		.mem_bytes = slots,
		.pinned_bytes = slots,
	};
}

static int fake_quiet(struct bale_gpu *g)
{
	struct fake *f = (struct fake *)g;
	bool busy;

	bale_mutex_lock(&f->lock);
	busy = f->stuck;
	for (uint32_t i = 0; i < f->cfg.nr_slots; i++)
		busy |= f->slots[i].b && !f->slots[i].done;
	bale_mutex_unlock(&f->lock);
	return busy ? -EAGAIN : 0;
}

static int fake_pin(struct bale_gpu *g, void *p, size_t len)
{
	struct fake *f = (struct fake *)g;

	(void)p;
	(void)len;
	bale_mutex_lock(&f->lock);
	f->nr_pinned++;
	bale_mutex_unlock(&f->lock);
	return 0;
}

static void fake_unpin(struct bale_gpu *g, void *p)
{
	struct fake *f = (struct fake *)g;

	(void)p;
	bale_mutex_lock(&f->lock);
	f->nr_pinned--;
	bale_mutex_unlock(&f->lock);
}

static size_t units_of(const struct bale_gpu_batch *b)
{
	size_t units = 0;

	for (size_t i = 0; i < b->nr; i++)
		units += bale_units_nr(b->op == BALE_JOB_ENCODE ?
					       b->extents[i].src_len :
					       b->extents[i].dst_cap);
	return units;
}

/* What a device does with the bytes first, too. */
static void upload(struct fake_slot *s, struct bale_gpu_batch *b)
{
	size_t in = 0, out = 0;

	s->b = b;
	s->copy = *b;
	s->copy.extents = s->x;
	for (size_t i = 0; i < b->nr; i++) {
		struct bale_gpu_extent *x = &s->x[i];

		*x = b->extents[i];
		memcpy(s->in + in, x->src, x->src_len);
		x->src = s->in + in;
		x->dst = s->out + out;
		in += x->src_len;
		out += room(b, x);
	}
	s->done = false;
	s->taken = false;
}

static int fake_submit(struct bale_gpu *g, uint32_t slot,
		       struct bale_gpu_batch *b)
{
	struct fake *f = (struct fake *)g;
	int r = 0;

	if (units_of(b) > f->slot_units)
		return -E2BIG;
	bale_mutex_lock(&f->lock);
	if (f->slots[slot].b) {
		r = -EBUSY;
	} else {
		upload(&f->slots[slot], b);
		bale_cond_signal(&f->work);
	}
	bale_mutex_unlock(&f->lock);
	return r;
}

static void deliver(const struct fake_slot *s)
{
	struct bale_gpu_batch *b = s->b;

	b->device_ns = s->copy.device_ns;
	for (size_t i = 0; i < b->nr; i++) {
		const struct bale_gpu_extent *from = &s->x[i];
		struct bale_gpu_extent *x = &b->extents[i];

		x->status = from->status;
		x->len = from->len;
		x->crc = from->crc;
		x->ret_codec = from->ret_codec;
		x->reason = from->reason;
		if (!x->status && (b->op == BALE_JOB_DECODE ||
				   x->ret_codec != BALE_CODEC_raw))
			memcpy(x->dst, from->dst, x->len);
	}
}

static int fake_wait(struct bale_gpu *g, uint32_t slot, uint64_t timeout_ns,
		     bool *ret_in_dst)
{
	struct fake *f = (struct fake *)g;
	struct fake_slot *s = &f->slots[slot];
	uint64_t end = bale_now_ns() + timeout_ns, now;
	bool done;

	*ret_in_dst = false;
	bale_mutex_lock(&f->lock);
	while (!s->done && (now = bale_now_ns()) < end)
		bale_cond_wait_for(&f->done, &f->lock, end - now);
	done = s->done;
	bale_mutex_unlock(&f->lock);
	if (!done)
		return -ETIMEDOUT;
	deliver(s);
	bale_mutex_lock(&f->lock);
	s->b = NULL;
	bale_mutex_unlock(&f->lock);
	return 0;
}

const struct bale_gpu_ops bale_gpu_fake_ops = {
	.name = "fake",
	.count = fake_count,
	.info = fake_info,
	.can = fake_can,
	.open = fake_open,
	.limits = fake_limits,
	.quiet = fake_quiet,
	.close = fake_close,
	.pin = fake_pin,
	.unpin = fake_unpin,
	.submit = fake_submit,
	.wait = fake_wait,
};
