/* SPDX-License-Identifier: Apache-2.0 */
/* engine_gpu.c - the engine over GPUs and CPUs; engine_gpu.h tells how. */
#include "fs/codec/engine_gpu.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/codec/codec_impl.h"

enum {
	SLOTS_DEFAULT = 4,
	SHARE_DEFAULT = 100,
	/* Two bales on the devices, one on its way there, one being written. */
	WIDTH = 4,
	WAIT_US = 2000,
};
static const uint64_t hang_default_ns = 10000000000;
static const uint64_t retry_default_ns = 1000000000;

static_assert((int)BALE_GPU_DEVS_MAX == (int)BALE_ENGINE_DEVS_MAX, "stats");
static_assert((int)BALE_COST_KINDS <= (int)BALE_ENGINE_KINDS_MAX, "stats");

/* ---- what a batch is made of ---- */

void bale_gpu_work_put(struct bale_gpu_work *w)
{
	if (atomic_fetch_sub(&w->left, 1) != 1)
		return;
	w->done(w->arg);
	free(w);
}

/* A part for the CPU engine, which wants jobs in a row. */
struct part {
	struct bale_gpu_work *work;
	long long guess_ns;
	size_t nr;
	struct bale_job **orig;
	struct bale_job jobs[];
};

static void part_done(void *arg)
{
	struct part *p = arg;
	struct bale_gpu_work *w = p->work;

	for (size_t i = 0; i < p->nr; i++)
		*p->orig[i] = p->jobs[i];
	atomic_fetch_sub(&w->e->cpu_backlog_ns, p->guess_ns);
	free(p->orig);
	free(p);
	bale_gpu_work_put(w);
}

static long long guess_jobs(struct bale_gpu_engine *e,
			    const struct bale_job *jobs, size_t nr)
{
	double ns = 0;

	for (size_t i = 0; i < nr; i++) {
		const struct bale_job *j = &jobs[i];
		double one = bale_cost_guess(
			&e->cost, BALE_COST_CPU, j->op,
			bale_cost_kind_of(j->op, j->codec, j->level),
			j->op == BALE_JOB_ENCODE ? j->src_len : j->dst_cap);

		ns += one > 0 ? one : 0;
	}
	return (long long)ns;
}

void bale_gpu_on_cpu(struct bale_gpu_work *w, struct bale_job *const *jobs,
		     size_t nr)
{
	struct part *p = malloc(sizeof(*p) + nr * sizeof(p->jobs[0]));
	int r = -ENOMEM;

	atomic_fetch_add(&w->left, 1);
	if (p) {
		p->work = w;
		p->nr = nr;
		p->orig = malloc(nr * sizeof(struct bale_job *));
	}
	if (p && p->orig) {
		memcpy(p->orig, jobs, nr * sizeof(struct bale_job *));
		for (size_t i = 0; i < nr; i++)
			p->jobs[i] = *jobs[i];
		p->guess_ns = guess_jobs(w->e, p->jobs, nr);
		atomic_fetch_add(&w->e->cpu_backlog_ns, p->guess_ns);
		r = w->e->cpu->ops->submit(w->e->cpu, p->jobs, nr, part_done,
					   p);
		if (!r)
			return;
		atomic_fetch_sub(&w->e->cpu_backlog_ns, p->guess_ns);
	}
	/* No memory for that: right here, then. */
	for (size_t i = 0; i < nr; i++)
		bale_codec_run(jobs[i]);
	if (p)
		free(p->orig);
	free(p);
	bale_gpu_work_put(w);
}

static int gpu_submit(struct bale_engine *engine, struct bale_job *jobs,
		      size_t nr, bale_batch_done_fn *done, void *arg)
{
	struct bale_gpu_engine *e = (struct bale_gpu_engine *)engine;
	struct bale_gpu_work *w = NULL;
	struct bale_gpu_plan pl;
	int r = bale_gpu_plan_make(e, jobs, nr, &pl);

	if (!r && pl.dev)
		w = malloc(sizeof(*w));
	if (!w) {
		bale_gpu_plan_free(&pl);
		return e->cpu->ops->submit(e->cpu, jobs, nr, done, arg);
	}
	w->e = e;
	w->done = done;
	w->arg = arg;
	/* One for this function: w stays until both sides have theirs. */
	atomic_init(&w->left, pl.nr_pieces + 1);
	bale_list_for_each(n, &pl.pieces)
		BALE_CONTAINER(n, struct bale_gpu_piece, node)
			->work = w;
	bale_gpu_dev_queue(pl.dev, &pl.pieces);
	if (pl.nr_cpu)
		bale_gpu_on_cpu(w, pl.cpu, pl.nr_cpu);
	bale_gpu_plan_free(&pl);
	bale_gpu_work_put(w);
	return 0;
}

/* ---- memory ---- */

static void gpu_pin(struct bale_engine *engine, void *p, size_t len, bool now)
{
	struct bale_gpu_engine *e = (struct bale_gpu_engine *)engine;
	struct bale_gpu_slice *slices =
		calloc(len / BALE_GPU_SLICE + 1, sizeof(*slices));
	unsigned int nr;

	if (!slices)
		return; /* not pinned, then */
	bale_mutex_lock(&e->lock);
	for (int i = 0; i < BALE_GPU_RANGES_MAX; i++) {
		if (e->ranges[i].p)
			continue;
		e->ranges[i] = (struct bale_gpu_range){ p, len, now, slices };
		slices = NULL;
		break;
	}
	bale_mutex_unlock(&e->lock);
	free(slices);
	nr = atomic_load_explicit(&e->nr_devs, memory_order_acquire);
	for (unsigned int i = 0; now && i < nr; i++)
		bale_gpu_wake_keeper(e->devs[i]);
}

static void gpu_unpin(struct bale_engine *engine, void *p)
{
	struct bale_gpu_engine *e = (struct bale_gpu_engine *)engine;
	unsigned int nr;
	size_t len = 0;
	int range = -1;

	bale_mutex_lock(&e->lock);
	for (int i = 0; i < BALE_GPU_RANGES_MAX; i++)
		if (e->ranges[i].p == p)
			range = i;
	if (range >= 0) {
		len = e->ranges[range].len;
		e->ranges[range].len = 0; /* no slice of it from here on */
	}
	bale_mutex_unlock(&e->lock);
	nr = atomic_load_explicit(&e->nr_devs, memory_order_acquire);
	for (unsigned int i = 0; range >= 0 && i < nr; i++)
		bale_gpu_dev_unpin(e->devs[i], range, p, len);
	if (range < 0)
		return;
	bale_mutex_lock(&e->lock);
	free(e->ranges[range].slices);
	e->ranges[range] = (struct bale_gpu_range){ 0 };
	bale_mutex_unlock(&e->lock);
}

/* ---- stats ---- */

static void add_dev(struct bale_gpu_dev *d, struct bale_engine_stats *ret)
{
	struct bale_gpu_dev_stats *st = &ret->devs[ret->nr_devs++];

	bale_mutex_lock(&d->lock);
	*st = d->stats;
	snprintf(st->state, sizeof(st->state), "%s", d->reason);
	bale_mutex_unlock(&d->lock);
}

static uint64_t per_gib(double byte_ns)
{
	return (uint64_t)(byte_ns * (1 << 30));
}

/* Devices of one kind are alike: the first speaks for all. */
static void add_rates(struct bale_gpu_engine *e, struct bale_engine_stats *ret)
{
	struct bale_cost_table cpu, gpu;

	bale_cost_get(&e->cost, &cpu);
	bale_cost_get(&e->devs[0]->cost, &gpu);
	for (int k = 0; k < BALE_COST_KINDS; k++) {
		struct bale_engine_rate *rate = &ret->rates[k];

		snprintf(rate->kind, sizeof(rate->kind), "%s",
			 bale_cost_kind_name((enum bale_cost_kind)k));
		for (int op = 0; op < 2; op++) {
			rate->cpu_ns[op] =
				per_gib(cpu.at[BALE_COST_CPU][op][k].byte_ns);
			rate->gpu_ns[op] =
				per_gib(gpu.at[BALE_COST_GPU][op][k].byte_ns);
			rate->gpu_fixed_ns[op] =
				(uint64_t)gpu.at[BALE_COST_GPU][op][k].fixed_ns;
		}
	}
}

static void gpu_stats(struct bale_engine *engine, struct bale_engine_stats *ret)
{
	struct bale_gpu_engine *e = (struct bale_gpu_engine *)engine;
	unsigned int nr =
		atomic_load_explicit(&e->nr_devs, memory_order_acquire);

	e->cpu->ops->stats(e->cpu, ret);
	bale_mutex_lock(&e->lock);
	for (int op = 0; op < 2; op++) {
		ret->jobs[op] += e->stats.jobs[op];
		ret->bytes_in[op] += e->stats.bytes_in[op];
		ret->bytes_out[op] += e->stats.bytes_out[op];
	}
	ret->failed += e->stats.failed;
	bale_mutex_unlock(&e->lock);
	for (unsigned int i = 0; i < nr; i++)
		add_dev(e->devs[i], ret);
	if (nr)
		add_rates(e, ret);
}

/* ---- from create to destroy ---- */

int bale_gpu_options_parse(const char *text, struct bale_gpu_options *o)
{
	static const char *const modes[] = { [BALE_GPU_AUTO] = "auto",
					     [BALE_GPU_OFF] = "off",
					     [BALE_GPU_FAKE] = "fake" };
	uint64_t devices = 0;

	for (int k = 0; k <= BALE_GPU_FAKE; k++) {
		if (strcmp(text, modes[k]))
			continue;
		o->mode = (enum bale_gpu_mode)k;
		o->devices = 0;
		return 0;
	}
	for (;; text++) {
		unsigned long n;
		char *end;

		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		n = strtoul(text, &end, 10);
		if (n > 63 || (*end && *end != '+'))
			return -EINVAL;
		devices |= (uint64_t)1 << n;
		text = end;
		if (!*text)
			break;
	}
	o->mode = BALE_GPU_AUTO;
	o->devices = devices;
	return 0;
}

/* The devices that are there and wanted. */
static void *finder_main(void *arg)
{
	struct bale_gpu_engine *e = arg;
	uint64_t wanted = e->o.devices;
	uint32_t nr = 0;
	int r = e->ops->count(&nr);

	if (r)
		bale_warn("gpu: the driver does not work: %s; the CPU codes",
			  strerror(-r));
	for (unsigned int i = 0; i < 64; i++)
		if (wanted >> i & 1 && i >= nr)
			bale_warn("gpu %u: there is no such device", i);
	for (uint32_t i = 0; i < nr && i < 64 && !atomic_load(&e->stop); i++) {
		unsigned int n = atomic_load(&e->nr_devs);

		if (n == BALE_GPU_DEVS_MAX || (wanted && !(wanted >> i & 1)))
			continue;
		r = bale_gpu_dev_create(e, i, n, &e->devs[n]);
		if (r)
			bale_warn("gpu %u: not used: %s", i, strerror(-r));
		else
			atomic_store_explicit(&e->nr_devs, n + 1,
					      memory_order_release);
	}
	atomic_store(&e->found, true);
	return NULL;
}

bool bale_engine_gpu_wait(struct bale_engine *engine, uint64_t ns)
{
	struct bale_gpu_engine *e = (struct bale_gpu_engine *)engine;
	uint64_t end = bale_now_ns() + ns;

	for (;;) {
		unsigned int nr = atomic_load(&e->nr_devs);
		bool ready = false, opening = !atomic_load(&e->found);

		for (unsigned int i = 0; i < nr; i++) {
			bale_mutex_lock(&e->devs[i]->lock);
			ready |= e->devs[i]->state == BALE_GPU_READY;
			opening |= e->devs[i]->state == BALE_GPU_OPENING;
			bale_mutex_unlock(&e->devs[i]->lock);
		}
		if (ready || !opening || bale_now_ns() >= end)
			return ready;
		usleep(WAIT_US);
	}
}

/* Also of an engine whose creation failed half-way. */
static void gpu_destroy(struct bale_engine *engine)
{
	struct bale_gpu_engine *e = (struct bale_gpu_engine *)engine;

	atomic_store(&e->stop, true);
	if (e->has_finder)
		pthread_join(e->finder, NULL);
	for (unsigned int i = 0; i < atomic_load(&e->nr_devs); i++)
		if (!bale_gpu_dev_destroy(e->devs[i]))
			e->leave = true;
	/* What the devices handed back is among its jobs. */
	bale_engine_destroy(e->cpu);
	if (e->leave)
		return; /* a thread that the driver keeps still refers to e */
	for (int i = 0; i < BALE_GPU_RANGES_MAX; i++)
		free(e->ranges[i].slices);
	bale_cost_fini(&e->cost);
	bale_mutex_fini(&e->lock);
	free(e);
}

static const struct bale_engine_ops gpu_ops = {
	.name = "cpu+gpu",
	.width = WIDTH,
	.submit = gpu_submit,
	.stats = gpu_stats,
	.destroy = gpu_destroy,
	.pin = gpu_pin,
	.unpin = gpu_unpin,
};

static void fill_options(struct bale_gpu_engine *e,
			 const struct bale_gpu_options *o)
{
	e->o = *o;
	if (!e->o.share)
		e->o.share = SHARE_DEFAULT;
	if (!e->o.nr_slots)
		e->o.nr_slots = SLOTS_DEFAULT;
	if (!e->o.hang_ns)
		e->o.hang_ns = hang_default_ns;
	if (!e->o.retry_ns)
		e->o.retry_ns = retry_default_ns;
	/* There is nothing to choose by: its costs are the CPU's. */
	if (o->mode == BALE_GPU_FAKE) {
		e->o.always = true;
		e->o.no_profile = true;
	}
	e->ops = o->ops;
	if (!e->ops)
		e->ops = o->mode == BALE_GPU_FAKE ? &bale_gpu_fake_ops :
						    &bale_gpu_real_ops;
}

int bale_engine_gpu_create(const struct bale_gpu_options *o,
			   unsigned int nr_workers, struct bale_engine **ret)
{
	struct bale_gpu_engine *e;
	int r;

	if (o->share > 100 || o->nr_slots > BALE_GPU_SLOTS_MAX ||
	    o->slot_units > BALE_GPU_PIECE_UNITS)
		return -EINVAL;
	if (o->mode == BALE_GPU_OFF ||
	    (o->mode == BALE_GPU_AUTO && !o->ops && !bale_gpu_built()))
		return -ENODEV;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->engine.ops = &gpu_ops;
	bale_mutex_init(&e->lock);
	bale_cost_init(&e->cost);
	fill_options(e, o);
	r = bale_engine_cpu_create(nr_workers, &e->cpu);
	if (!r) {
		bale_engine_cpu_observe(e->cpu, &e->cost);
		e->nr_workers = bale_engine_cpu_workers(e->cpu);
		r = bale_thread_start(&e->finder, "bale-gpu-find", finder_main,
				      e);
		e->has_finder = !r;
	}
	if (r) {
		gpu_destroy(&e->engine);
		return r;
	}
	*ret = &e->engine;
	return 0;
}
