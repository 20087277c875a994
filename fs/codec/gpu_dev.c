/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_dev.c - a device's queue, its slot threads, and its end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/codec/engine_gpu.h"

enum {
	/* The longest that closing waits beyond a hang for a thread that is
	   inside a call of the driver. */
	JOIN_SPARE_S = 5,
};

void bale_gpu_dev_queue(struct bale_gpu_dev *d, struct bale_list *pieces)
{
	bale_mutex_lock(&d->lock);
	bale_list_for_each_safe(n, pieces)
	{
		struct bale_gpu_piece *p =
			BALE_CONTAINER(n, struct bale_gpu_piece, node);

		bale_list_del(n);
		bale_list_push_back(&d->queue, n);
		d->backlog_ns += p->guess_ns;
	}
	bale_cond_broadcast(&d->work);
	bale_mutex_unlock(&d->lock);
}

void bale_gpu_dev_down(struct bale_gpu_dev *d, const char *why, bool for_good)
{
	bool first;

	bale_mutex_lock(&d->lock);
	first = d->state == BALE_GPU_READY;
	if (first) {
		d->state = for_good ? BALE_GPU_LEFT : BALE_GPU_DOWN;
		snprintf(d->reason, sizeof(d->reason), "%s", why);
	}
	bale_cond_broadcast(&d->work);
	bale_cond_broadcast(&d->keep);
	bale_mutex_unlock(&d->lock);
	if (first)
		bale_warn("gpu %u: %s; %s, the CPU codes instead", d->idx, why,
			  for_good ? "not used any more" :
				     "will be tried again");
}

/* Nanoseconds until the share of the device's time allows another piece. */
static uint64_t share_wait_locked(struct bale_gpu_dev *d) BALE_REQUIRES(d->lock)
{
	uint64_t now = bale_now_ns();

	if (d->stop || d->state != BALE_GPU_READY || d->not_before <= now)
		return 0;
	return d->not_before - now;
}

/* The oldest piece, with the device in use; NULL: the engine ends. */
static struct bale_gpu_piece *take_piece_locked(struct bale_gpu_dev *d,
						struct bale_gpu **ret_gpu)
	BALE_REQUIRES(d->lock)
{
	struct bale_gpu_piece *p;
	uint64_t wait;

	for (;;) {
		if (bale_list_empty(&d->queue)) {
			if (d->stop)
				return NULL;
			bale_cond_wait(&d->work, &d->lock);
			continue;
		}
		wait = share_wait_locked(d);
		if (!wait)
			break;
		bale_cond_wait_for(&d->work, &d->lock, wait);
	}
	p = BALE_CONTAINER(d->queue.next, struct bale_gpu_piece, node);
	bale_list_del(&p->node);
	*ret_gpu = d->state == BALE_GPU_READY ? d->gpu : NULL;
	d->in_use++;
	return p;
}

struct slot {
	struct bale_gpu_dev *d;
	uint32_t idx;
	struct bale_gpu_extent *x;
};

static void *slot_main(void *arg)
{
	struct slot s = *(struct slot *)arg;
	struct bale_gpu_dev *d = s.d;
	struct bale_gpu_piece *p;
	struct bale_gpu *gpu;

	free(arg);
	bale_mutex_lock(&d->lock);
	while ((p = take_piece_locked(d, &gpu))) {
		double guess = p->guess_ns;

		bale_mutex_unlock(&d->lock);
		bale_gpu_piece_run(d, s.idx, gpu, p, s.x);
		bale_mutex_lock(&d->lock);
		d->backlog_ns -= guess;
		d->in_use--;
		/* Who closes the device waits for that. */
		if (d->state != BALE_GPU_READY || d->stop)
			bale_cond_broadcast(&d->keep);
	}
	bale_mutex_unlock(&d->lock);
	free(s.x);
	return NULL;
}

static int start_slot(struct bale_gpu_dev *d)
{
	struct slot *s = malloc(sizeof(*s));
	char name[16];
	int r = -ENOMEM;

	if (!s)
		return -ENOMEM;
	s->d = d;
	s->idx = d->nr_slots;
	s->x = calloc(BALE_GPU_PIECE_UNITS, sizeof(*s->x));
	snprintf(name, sizeof(name), "bale-gpu%u-%u", d->idx % 100,
		 s->idx % 10);
	if (s->x)
		r = bale_thread_start(&d->slots[s->idx], name, slot_main, s);
	if (r) {
		free(s->x);
		free(s);
		return r;
	}
	d->nr_slots++;
	return 0;
}

/* False: it is stuck in the driver. */
static bool join(pthread_t t, uint64_t limit_ns)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(limit_ns / 1000000000) + JOIN_SPARE_S;
	return !pthread_timedjoin_np(t, NULL, &until);
}

bool bale_gpu_dev_destroy(struct bale_gpu_dev *d)
{
	bool clean = true;

	bale_mutex_lock(&d->lock);
	d->stop = true;
	bale_cond_broadcast(&d->work);
	bale_cond_broadcast(&d->keep);
	bale_mutex_unlock(&d->lock);
	/* The queue is worked off; each piece ends within the hang limit. */
	for (unsigned int i = 0; i < d->nr_slots; i++)
		pthread_join(d->slots[i], NULL);
	if (d->has_keeper)
		clean = join(d->keeper, d->e->o.hang_ns);
	if (!clean) {
		/* It refers to d when, some day, it comes back. */
		bale_warn("gpu %u: the driver does not answer; left alone",
			  d->idx);
		pthread_detach(d->keeper);
		return false;
	}
	bale_cond_fini(&d->work);
	bale_cond_fini(&d->keep);
	bale_mutex_fini(&d->lock);
	bale_cost_fini(&d->cost);
	free(d);
	return true;
}

int bale_gpu_dev_create(struct bale_gpu_engine *e, uint32_t idx,
			unsigned int bit, struct bale_gpu_dev **ret)
{
	struct bale_gpu_dev *d = calloc(1, sizeof(*d));
	struct bale_gpu_info info;
	int r;

	if (!d)
		return -ENOMEM;
	d->e = e;
	d->idx = idx;
	d->bit = bit;
	bale_cost_init(&d->cost);
	bale_mutex_init(&d->lock);
	bale_cond_init(&d->work);
	bale_cond_init(&d->keep);
	bale_list_init(&d->queue);
	r = e->ops->info(idx, &info);
	if (!r) {
		snprintf(d->stats.name, sizeof(d->stats.name), "%s", info.name);
		snprintf(d->reason, sizeof(d->reason), "opening");
	}
	while (!r && d->nr_slots < e->o.nr_slots)
		r = start_slot(d);
	if (!r)
		r = bale_thread_start(&d->keeper, "bale-gpu-keep",
				      bale_gpu_keeper_main, d);
	if (r) {
		bale_gpu_dev_destroy(d);
		return r;
	}
	d->has_keeper = true;
	*ret = d;
	return 0;
}
