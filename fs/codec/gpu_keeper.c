/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_keeper.c - the thread that opens a device, keeps the caller's memory
 * pinned on it, and brings it back when it was lost. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/codec/engine_gpu.h"

static const uint64_t second_ns = 1000000000;

enum {
	QUIET_POLL_MS = 50,
	RETRY_MAX_S = 300,
};
/*
 * Taken without being told: a 16th of the device within these. Batches under
 * way at once are what fills a large device, and each takes 16 times its bytes.
 */
#define MEM_MIN ((uint64_t)1 << 30)
#define MEM_MAX ((uint64_t)4 << 30)

/* Wait on keep; false: the engine ends. */
static bool nap(struct bale_gpu_dev *d, uint64_t ns)
{
	uint64_t end = bale_now_ns() + ns;
	bool stop;

	bale_mutex_lock(&d->lock);
	while (!d->stop) {
		uint64_t now = bale_now_ns();

		if (now >= end)
			break;
		bale_cond_wait_for(&d->keep, &d->lock, end - now);
	}
	stop = d->stop;
	bale_mutex_unlock(&d->lock);
	return !stop;
}

static uint64_t default_mem(struct bale_gpu_dev *d)
{
	struct bale_gpu_info info;
	uint64_t mem;

	if (d->e->ops->info(d->idx, &info))
		return MEM_MIN;
	mem = info.mem_bytes / 16;
	return mem < MEM_MIN ? MEM_MIN : mem > MEM_MAX ? MEM_MAX : mem;
}

static int open_device(struct bale_gpu_dev *d, struct bale_gpu **ret)
{
	const struct bale_gpu_options *o = &d->e->o;
	uint64_t mem = o->mem_bytes ? o->mem_bytes : default_mem(d);
	struct bale_gpu_config cfg = {
		.struct_size = sizeof(cfg),
		.device = d->idx,
		.mem_bytes = mem,
		/* Staging both ways is less than what the device needs. */
		.pinned_bytes = mem,
		.slot_units = o->slot_units,
		.nr_slots = o->nr_slots,
		.low_priority = true,
		.verify = !o->no_verify,
	};
	struct bale_gpu *g;
	int r = bale_gpu_call_open(d, &cfg, &g);

	if (r)
		return r;
	r = bale_gpu_measure(d, g);
	if (!r) {
		*ret = g;
		return 0;
	}
	/* What was given up in the middle of a batch may not be closed. */
	while (d->e->ops->quiet(g) == -EAGAIN)
		if (!nap(d, QUIET_POLL_MS * 1000000ull))
			return r;
	d->e->ops->close(g);
	return r;
}

/* ---- pinned memory ---- */

/* A slice's entry, its memory and its length there. */
static struct bale_gpu_slice *slice_at(struct bale_gpu_range *a, size_t k,
				       void **ret, size_t *ret_len)
{
	size_t off = k * BALE_GPU_SLICE;

	*ret = a->p + off;
	*ret_len =
		a->len - off < BALE_GPU_SLICE ? a->len - off : BALE_GPU_SLICE;
	return &a->slices[k];
}

static bool is_wanted(const struct bale_gpu_range *a,
		      const struct bale_gpu_slice *s)
{
	return a->now ||
	       s->used_kib >= BALE_GPU_PIN_AFTER * (BALE_GPU_SLICE >> 10);
}

/* The next slice that is to be pinned and is not; NULL: there is none. Both
 * locks held. */
static struct bale_gpu_slice *find_slice(struct bale_gpu_dev *d, void **ret,
					 size_t *ret_len, int *ret_range)
{
	for (int i = 0; i < BALE_GPU_RANGES_MAX; i++) {
		struct bale_gpu_range *a = &d->e->ranges[i];

		if (!a->p || d->refused[i])
			continue;
		for (size_t k = 0; k * BALE_GPU_SLICE < a->len; k++) {
			struct bale_gpu_slice *s = slice_at(a, k, ret, ret_len);

			*ret_range = i;
			if (!(s->pinned >> d->bit & 1) && is_wanted(a, s))
				return s;
		}
	}
	return NULL;
}

/* One slice more; false: there is none. */
static bool pin_next(struct bale_gpu_dev *d)
{
	struct bale_gpu_slice *s = NULL;
	struct bale_gpu_engine *e = d->e;
	size_t len = 0;
	void *p = NULL;
	int i = 0, r;

	bale_mutex_lock(&e->lock);
	bale_mutex_lock(&d->lock);
	if (d->state == BALE_GPU_READY && !d->stop)
		s = find_slice(d, &p, &len, &i);
	d->pinning = s != NULL; /* so that the range stays */
	bale_mutex_unlock(&d->lock);
	bale_mutex_unlock(&e->lock);
	if (!s)
		return false;
	r = bale_fault("gpu.pin");
	if (!r)
		r = e->ops->pin(d->gpu, p, len);
	bale_mutex_lock(&e->lock);
	bale_mutex_lock(&d->lock);
	d->pinning = false;
	d->refused[i] = r != 0;
	if (!r) {
		s->pinned |= (uint16_t)(1u << d->bit);
		d->stats.pinned_bytes += len;
	}
	bale_cond_broadcast(&d->keep);
	bale_mutex_unlock(&d->lock);
	bale_mutex_unlock(&e->lock);
	if (r)
		bale_debug("gpu %u: memory stays unpinned: %s", d->idx,
			   strerror(-r));
	return true;
}

/* Engine lock held. */
static bool take_pinned_locked(struct bale_gpu_dev *d, int range, size_t k)
{
	struct bale_gpu_slice *s = &d->e->ranges[range].slices[k];
	bool was = s->pinned >> d->bit & 1;

	s->pinned &= (uint16_t) ~(1u << d->bit);
	return was;
}

void bale_gpu_dev_unpin(struct bale_gpu_dev *d, int range, uint8_t *p,
			size_t len)
{
	struct bale_gpu *g;

	bale_mutex_lock(&d->lock);
	while (d->pinning)
		bale_cond_wait(&d->keep, &d->lock);
	d->refused[range] = false;
	/* A device that is down has its own way to forget it. */
	g = d->state == BALE_GPU_READY ? d->gpu : NULL;
	d->in_use += g != NULL;
	bale_mutex_unlock(&d->lock);
	if (!g)
		return;
	for (size_t off = 0; off < len; off += BALE_GPU_SLICE) {
		bool was;

		bale_mutex_lock(&d->e->lock);
		was = take_pinned_locked(d, range, off / BALE_GPU_SLICE);
		bale_mutex_unlock(&d->e->lock);
		if (was)
			d->e->ops->unpin(g, p + off);
	}
	bale_mutex_lock(&d->lock);
	d->in_use--;
	bale_cond_broadcast(&d->keep);
	bale_mutex_unlock(&d->lock);
}

/* A device that was opened anew has nothing pinned. */
static void forget_pinned(struct bale_gpu_dev *d)
{
	struct bale_gpu_engine *e = d->e;

	bale_mutex_lock(&e->lock);
	for (int i = 0; i < BALE_GPU_RANGES_MAX; i++)
		for (size_t k = 0; k * BALE_GPU_SLICE < e->ranges[i].len; k++)
			(void)take_pinned_locked(d, i, k);
	bale_mutex_unlock(&e->lock);
}

static bool note_bytes_locked(struct bale_gpu_dev *d, const uint8_t *p,
			      size_t len)
{
	for (int i = 0; i < BALE_GPU_RANGES_MAX; i++) {
		struct bale_gpu_range *a = &d->e->ranges[i];
		struct bale_gpu_slice *s;

		if (!a->p || a->now || p < a->p || p >= a->p + a->len)
			continue;
		s = &a->slices[(size_t)(p - a->p) / BALE_GPU_SLICE];
		if (is_wanted(a, s))
			return false;
		s->used_kib += (uint32_t)(len >> 10);
		return is_wanted(a, s);
	}
	return false;
}

void bale_gpu_note_use(struct bale_gpu_dev *d, const struct bale_gpu_batch *b)
{
	bool wanted = false;

	bale_mutex_lock(&d->e->lock);
	for (size_t i = 0; i < b->nr; i++) {
		const struct bale_gpu_extent *x = &b->extents[i];

		wanted |= b->op == BALE_JOB_ENCODE ?
				  note_bytes_locked(d, x->src, x->src_len) :
				  note_bytes_locked(d, x->dst, x->dst_cap);
	}
	bale_mutex_unlock(&d->e->lock);
	if (wanted)
		bale_gpu_wake_keeper(d);
}

void bale_gpu_wake_keeper(struct bale_gpu_dev *d)
{
	bale_mutex_lock(&d->lock);
	bale_cond_broadcast(&d->keep);
	bale_mutex_unlock(&d->lock);
}

/* ---- from open to close ---- */

static void set_ready(struct bale_gpu_dev *d, struct bale_gpu *g)
{
	struct bale_gpu_limits l;

	d->e->ops->limits(g, &l);
	forget_pinned(d);
	bale_mutex_lock(&d->lock);
	d->gpu = g;
	d->limits = l;
	d->stats.slot_bytes = (uint64_t)l.slot_units * BALE_UNIT_SIZE;
	d->stats.mem_bytes = l.mem_bytes;
	d->stats.pinned_bytes = l.pinned_bytes;
	d->state = BALE_GPU_READY;
	d->failures = 0;
	memset(d->refused, 0, sizeof(d->refused));
	snprintf(d->reason, sizeof(d->reason), "ready");
	bale_cond_broadcast(&d->work);
	bale_mutex_unlock(&d->lock);
}

/* Until it is down or the engine ends. False: the engine ends. */
static bool attend(struct bale_gpu_dev *d)
{
	bool stop;

	bale_mutex_lock(&d->lock);
	while (d->state == BALE_GPU_READY && !d->stop) {
		bale_mutex_unlock(&d->lock);
		while (pin_next(d))
			;
		bale_mutex_lock(&d->lock);
		if (d->state == BALE_GPU_READY && !d->stop)
			bale_cond_wait_for(&d->keep, &d->lock, second_ns);
	}
	stop = d->stop;
	bale_mutex_unlock(&d->lock);
	return !stop;
}

/*
 * Closed once no thread of ours uses it and the device says that nothing runs.
 * False: the engine ends before that, so it stays as it is, with its memory.
 */
static bool close_device(struct bale_gpu_dev *d)
{
	struct bale_gpu *g;
	int r;

	bale_mutex_lock(&d->lock);
	while (d->in_use || (d->stop && !bale_list_empty(&d->queue)))
		bale_cond_wait(&d->keep, &d->lock);
	g = d->gpu;
	bale_mutex_unlock(&d->lock);
	while ((r = d->e->ops->quiet(g)) == -EAGAIN)
		if (!nap(d, QUIET_POLL_MS * 1000000ull) &&
		    d->e->ops->quiet(g) == -EAGAIN)
			return false;
	bale_mutex_lock(&d->lock);
	d->gpu = NULL;
	bale_mutex_unlock(&d->lock);
	d->e->ops->close(g);
	return true;
}

/* Once, not at every try. */
static void say_not_opened(struct bale_gpu_dev *d, int r)
{
	bool first;

	bale_mutex_lock(&d->lock);
	first = !strcmp(d->reason, "opening");
	d->state = BALE_GPU_DOWN;
	snprintf(d->reason, sizeof(d->reason), "cannot be opened: %s",
		 strerror(-r));
	bale_mutex_unlock(&d->lock);
	if (first)
		bale_warn("gpu %u: cannot be opened: %s; the CPU codes, and "
			  "it will be tried again",
			  d->idx, strerror(-r));
}

/* From an opened device to a closed one. False: the engine ends. */
static bool serve(struct bale_gpu_dev *d, struct bale_gpu *g)
{
	bool more, healthy;

	set_ready(d, g);
	more = attend(d);
	bale_mutex_lock(&d->lock);
	healthy = d->state == BALE_GPU_READY;
	bale_mutex_unlock(&d->lock);
	if (healthy)
		bale_gpu_measure_save(d);
	if (!close_device(d))
		return false;
	bale_mutex_lock(&d->lock);
	more = more && d->state != BALE_GPU_LEFT;
	bale_mutex_unlock(&d->lock);
	return more;
}

static void count_reopened(struct bale_gpu_dev *d)
{
	bale_mutex_lock(&d->lock);
	d->stats.reopened++;
	bale_mutex_unlock(&d->lock);
	bale_info("gpu %u: in use again", d->idx);
}

void *bale_gpu_keeper_main(void *arg)
{
	struct bale_gpu_dev *d = arg;
	const uint64_t first = d->e->o.retry_ns;
	uint64_t wait = first;
	bool again = false;

	do {
		struct bale_gpu *g;
		uint64_t since = bale_now_ns();
		int r = open_device(d, &g);

		if (r) {
			say_not_opened(d, r);
		} else {
			if (again)
				count_reopened(d);
			if (!serve(d, g))
				return NULL;
			again = true;
		}
		/* One that worked for long is worth a new start. */
		if (bale_now_ns() - since > RETRY_MAX_S * second_ns)
			wait = first;
		if (!nap(d, wait))
			return NULL;
		wait = wait * 2 < RETRY_MAX_S * second_ns ?
			       wait * 2 :
			       RETRY_MAX_S * second_ns;
	} while (true);
}
