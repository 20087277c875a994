// SPDX-License-Identifier: Apache-2.0
//
// gpu.h: a device from open to close, and the life of a batch on a slot.
#include "kernels/simt.h"
#include "kernels/gpu_ctx.h"

#include <cerrno>
#include <cstdlib>
#include <ctime>

namespace
{

// Between looks at an event. The driver's own blocking wait has no limit, and
// its spinning one takes a core. A look costs some microseconds and a lock of
// the driver that all slots want, so there are few: none for most of the time
// that the last batch of this kind took, then one in each sixteenth of what has
// passed.
constexpr uint64_t kNapMinNs = 20000;
constexpr uint64_t kNapMaxNs = 500000;
constexpr uint64_t kNapsIn = 16;
constexpr uint64_t kDrainNs = 5000000000;

uint64_t now_ns()
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<uint64_t>(t.tv_sec) * 1000000000 +
	       static_cast<uint64_t>(t.tv_nsec);
}

void nap(uint64_t ns)
{
	struct timespec t = { static_cast<time_t>(ns / 1000000000),
			      static_cast<long>(ns % 1000000000) };

	nanosleep(&t, nullptr);
}

bool is_lost(const struct bale_gpu *g)
{
	return __atomic_load_n(&g->lost, __ATOMIC_RELAXED);
}

// 0; -ETIMEDOUT; -ENODEV. Before `sure` it will not have happened.
int wait_event(struct bale_gpu *g, cudaEvent_t ev, uint64_t until,
	       uint64_t sure)
{
	const uint64_t start = now_ns();

	for (uint64_t now = start;; now = now_ns()) {
		cudaError_t err = cudaEventQuery(ev);
		uint64_t ns;

		if (err != cudaErrorNotReady)
			return bale_gpu_error(g, err);
		(void)cudaGetLastError();
		if (now >= until)
			return -ETIMEDOUT;
		ns = bale_gpu_nap_ns(now - start, now < sure ? sure - now : 0);
		nap(ns < until - now ? ns : until - now);
	}
}

// Until when a batch is sure to be computed, going by the last one here: a
// larger one does not take less, a smaller one not less than in proportion.
uint64_t sure_until(const struct bale_gpu_slot *s)
{
	const struct bale_gpu_batch *b = s->b;
	const struct bale_gpu_pace *p = &s->pace;
	uint64_t ns = p->ns / 8 * 5;

	if (!p->ns || p->op != b->op || p->codec != b->codec ||
	    p->level != b->level)
		return 0;
	if (s->nr_units < p->nr_units)
		ns = ns / p->nr_units * s->nr_units;
	return s->submitted + ns;
}

void note_pace(struct bale_gpu_slot *s)
{
	const struct bale_gpu_batch *b = s->b;

	s->pace = { b->op, b->codec, b->level, s->nr_units,
		    now_ns() - s->submitted };
}

// After a failure in the middle of a batch: what was queued must end before
// anybody may have its memory.
int drain(struct bale_gpu *g, struct bale_gpu_slot *s, int r)
{
	uint64_t until = now_ns() + kDrainNs;
	cudaEvent_t ends[] = { s->up, s->report, s->down };
	cudaStream_t streams[] = { g->up, s->compute, g->down };
	int err = is_lost(g) ? -ENODEV : 0;

	for (int i = 0; i < 3 && !err; i++) {
		err = bale_gpu_error(g, cudaEventRecord(ends[i], streams[i]));
		if (!err)
			err = wait_event(g, ends[i], until, 0);
	}
	if (!err)
		return r;
	__atomic_store_n(&g->lost, true, __ATOMIC_RELAXED);
	return -ENODEV;
}

int open_streams(struct bale_gpu *g)
{
	int least = 0, most = 0, r;

	r = bale_gpu_error(g, cudaDeviceGetStreamPriorityRange(&least, &most));
	for (uint32_t i = 0; i < g->cfg.nr_slots + 2 && !r; i++) {
		cudaStream_t *st = i == 0 ? &g->up :
				   i == 1 ? &g->down :
					    &g->slots[i - 2].compute;

		r = bale_gpu_error(g,
				   cudaStreamCreateWithPriority(
					   st, cudaStreamNonBlocking,
					   g->cfg.low_priority ? least : most));
	}
	return r;
}

int open_events(struct bale_gpu *g)
{
	int r = 0;

	for (uint32_t i = 0; i < g->cfg.nr_slots; i++) {
		struct bale_gpu_slot *s = &g->slots[i];
		cudaEvent_t *plain[] = { &s->up, &s->report, &s->down };

		for (cudaEvent_t *ev : plain)
			if (!r)
				r = bale_gpu_error(
					g, cudaEventCreateWithFlags(
						   ev, cudaEventDisableTiming));
		if (!r)
			r = bale_gpu_error(g, cudaEventCreate(&s->begin));
		if (!r)
			r = bale_gpu_error(g, cudaEventCreate(&s->end));
	}
	return r;
}

void close_events(struct bale_gpu *g)
{
	for (uint32_t i = 0; i < g->cfg.nr_slots; i++) {
		struct bale_gpu_slot *s = &g->slots[i];
		cudaEvent_t all[] = { s->up, s->begin, s->end, s->report,
				      s->down };

		for (cudaEvent_t ev : all)
			if (ev)
				(void)cudaEventDestroy(ev);
	}
}

// The report is there: what took the time, and whether bytes follow.
int end_compute(struct bale_gpu *g, struct bale_gpu_slot *s, bool *ret_any)
{
	float ms = 0;
	int r = bale_gpu_error(g, cudaEventElapsedTime(&ms, s->begin, s->end));

	if (r)
		return r;
	s->b->device_ns = static_cast<uint64_t>(ms * 1e6f);
	return bale_gpu_queue_down(g, s, ret_any);
}

} // namespace

uint64_t bale_gpu_nap_ns(uint64_t waited, uint64_t sure)
{
	uint64_t ns = waited / kNapsIn;

	ns = ns < kNapMinNs ? kNapMinNs : ns > kNapMaxNs ? kNapMaxNs : ns;
	return ns < sure ? sure : ns;
}

int bale_gpu_error(struct bale_gpu *g, cudaError_t err)
{
	if (err == cudaSuccess)
		return 0;
	(void)cudaGetLastError();
	switch (err) {
	case cudaErrorMemoryAllocation:
		return -ENOMEM;
	case cudaErrorInvalidValue:
	case cudaErrorInvalidDevice:
	case cudaErrorNotSupported:
		return -EIO;
	default:
		// A sticky error, or one that nobody knows: not to be trusted.
		__atomic_store_n(&g->lost, true, __ATOMIC_RELAXED);
		return -ENODEV;
	}
}

bool bale_gpu_can(enum bale_job_op op, unsigned int codec, int level,
		  unsigned int filter)
{
	int min, max;

	if ((codec != BALE_CODEC_lz4 && codec != BALE_CODEC_gdeflate) ||
	    filter >= BALE_FILTER_NR || bale_device_levels(codec, &min, &max))
		return false;
	return op == BALE_JOB_DECODE || !level ||
	       (level >= min && level <= max);
}

int bale_gpu_open(const struct bale_gpu_config *cfg, struct bale_gpu **ret)
{
	struct bale_gpu *g;
	uint32_t nr;
	int r;

	if (cfg->struct_size != sizeof(*cfg) || !cfg->nr_slots ||
	    cfg->nr_slots > BALE_GPU_SLOTS_MAX ||
	    cfg->slot_units > BALE_GPU_UNITS_MAX)
		return -EINVAL;
	r = bale_gpu_count(&nr);
	if (r)
		return r;
	if (cfg->device >= nr)
		return -ENODEV;
	g = static_cast<struct bale_gpu *>(calloc(1, sizeof(*g)));
	if (!g)
		return -ENOMEM;
	g->cfg = *cfg;
	g->batch_copies = true;
	pthread_mutex_init(&g->lock, nullptr);
	r = bale_gpu_error(g, cudaSetDevice(static_cast<int>(cfg->device)));
	if (!r)
		r = bale_gpu_arena_open(g);
	if (!r)
		r = open_streams(g);
	if (!r)
		r = open_events(g);
	if (r) {
		bale_gpu_close(g);
		return r;
	}
	*ret = g;
	return 0;
}

void bale_gpu_limits_get(const struct bale_gpu *g, struct bale_gpu_limits *ret)
{
	*ret = g->limits;
}

int bale_gpu_quiet(struct bale_gpu *g)
{
	if (cudaSetDevice(static_cast<int>(g->cfg.device)) != cudaSuccess) {
		(void)cudaGetLastError();
		return -ENODEV;
	}
	for (uint32_t i = 0; i < g->cfg.nr_slots + 2; i++) {
		cudaError_t err =
			cudaStreamQuery(i == 0 ? g->up :
					i == 1 ? g->down :
						 g->slots[i - 2].compute);

		if (err == cudaErrorNotReady) {
			(void)cudaGetLastError();
			return -EAGAIN;
		}
		if (err != cudaSuccess) {
			(void)bale_gpu_error(g, err);
			return -ENODEV;
		}
	}
	return is_lost(g) ? -ENODEV : 0;
}

void bale_gpu_close(struct bale_gpu *g)
{
	(void)cudaSetDevice(static_cast<int>(g->cfg.device));
	close_events(g);
	for (uint32_t i = 0; i < g->cfg.nr_slots + 2; i++) {
		cudaStream_t st = i == 0 ? g->up :
				  i == 1 ? g->down :
					   g->slots[i - 2].compute;

		if (st)
			(void)cudaStreamDestroy(st);
	}
	bale_gpu_arena_close(g);
	// A sticky error lives as long as the context.
	if (is_lost(g))
		(void)cudaDeviceReset();
	(void)cudaGetLastError();
	pthread_mutex_destroy(&g->lock);
	free(g);
}

int bale_gpu_submit(struct bale_gpu *g, uint32_t slot, struct bale_gpu_batch *b)
{
	struct bale_gpu_slot *s = &g->slots[slot];
	bool any;
	int r;

	if (slot >= g->cfg.nr_slots || !b->nr || s->busy ||
	    !bale_gpu_can(b->op, b->codec, b->level, b->filter))
		return -EINVAL;
	if (is_lost(g))
		return -ENODEV;
	r = bale_gpu_error(g, cudaSetDevice(static_cast<int>(g->cfg.device)));
	if (r)
		return r;
	r = bale_gpu_queue(g, s, b, &any);
	if (r)
		return any ? drain(g, s, r) : r;
	s->b = b;
	s->busy = true;
	s->phase = s->BALE_GPU_COMPUTES;
	s->in_dst = false;
	s->submitted = now_ns();
	b->device_ns = 0;
	return 0;
}

int bale_gpu_wait(struct bale_gpu *g, uint32_t slot, uint64_t timeout_ns,
		  bool *ret_in_dst)
{
	struct bale_gpu_slot *s = &g->slots[slot];
	uint64_t until = now_ns() + timeout_ns;
	bool any = true;
	int r = 0;

	*ret_in_dst = false;
	if (slot >= g->cfg.nr_slots || !s->busy)
		return -EINVAL;
	if (cudaSetDevice(static_cast<int>(g->cfg.device)) != cudaSuccess)
		return bale_gpu_error(g, cudaErrorUnknown);
	if (s->phase == s->BALE_GPU_COMPUTES) {
		r = wait_event(g, s->report, until, sure_until(s));
		if (r == -ETIMEDOUT)
			return r;
		if (!r) {
			note_pace(s);
			r = end_compute(g, s, &any);
		}
		s->phase = s->BALE_GPU_DOWNLOADS;
	}
	if (!r && any)
		r = wait_event(g, s->down, until, 0);
	*ret_in_dst = s->in_dst;
	if (r == -ETIMEDOUT)
		return r;
	if (r && r != -ENODEV)
		r = drain(g, s, r);
	s->busy = false;
	if (!r)
		bale_gpu_deliver(g, s);
	return r;
}
