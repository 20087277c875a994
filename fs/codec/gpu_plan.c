/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_plan.c - which jobs of a batch go to a device, by what both sides are
 * thought to take.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/unit.h"
#include "fs/base/clock.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/engine_gpu.h"

enum {
	KINDS_MAX = 8, /* of jobs in one batch; jobs of more stay here */
	/* An extent takes a unit of a slot, however short: below this most of
	   what the device does for it would be for nothing. */
	LEN_MIN = 4096,
	/* Of a piece, where a batch is divided among idle slots: below this the
	   fixed time of each is most of it. */
	PIECE_UNITS_MIN = 64,
};

/*
 * What the cores do costs cores, which the device is there to free. So they
 * take a batch, or a part of it, only where that ends it in so much of the time
 * that the device alone would take: about half for what is written, which
 * nobody waits for; for what is read, all of it as soon as that is faster.
 */
static const double whole_below[] = {
	[BALE_JOB_ENCODE] = 0.5, [BALE_JOB_DECODE] = 1
};
static const double split_below[] = {
	[BALE_JOB_ENCODE] = 0.55, [BALE_JOB_DECODE] = 0.7
};
/* And a part only where that is this much sooner than all of it. */
static const double split_gain = 0.7;

struct kind {
	enum bale_job_op op;
	uint8_t codec, filter;
	int8_t level;
	bool is_auto;
	size_t bytes;	/* of all jobs of it */
	size_t planned; /* that are in pieces by now */
	/* By filter: auto chooses one for each job. */
	struct bale_gpu_piece *open[BALE_FILTER_NR];
};

struct maker {
	struct bale_gpu_engine *e;
	struct bale_gpu_dev *dev;
	uint32_t slot_units;  /* at most, in a piece */
	unsigned int nr_idle; /* slots with nothing to do */
	uint64_t units;	      /* of all jobs that the device could do */
	struct kind kinds[KINDS_MAX];
	size_t nr_kinds;
	double share; /* of each kind's bytes that goes to the device */
};

static size_t content(const struct bale_job *j)
{
	return j->op == BALE_JOB_ENCODE ? j->src_len : j->dst_cap;
}

/* What a device would make of the job; false: nothing. */
static bool kind_of(const struct maker *m, const struct bale_job *j,
		    struct kind *ret)
{
	size_t len = content(j);
	const struct bale_codec *codec;

	if (len < LEN_MIN || len > BALE_EXTENT_MAX ||
	    bale_units_nr(len) > m->slot_units)
		return false;
	if (j->op == BALE_JOB_DECODE &&
	    (!j->src_len || j->src_len > len || j->filter >= BALE_FILTER_NR))
		return false;
	*ret = (struct kind){
		.op = j->op,
		.codec = j->codec,
		.level = j->level,
		.filter = j->filter,
		.is_auto = j->codec == BALE_CODEC_auto,
	};
	/* The codec that devices do best and every machine can read. */
	if (ret->is_auto)
		ret->codec = BALE_CODEC_gdeflate;
	codec = bale_codec_get(ret->codec);
	if (!codec)
		return false;
	if (j->op == BALE_JOB_DECODE)
		ret->level = 0;
	else if (!ret->level || ret->is_auto)
		ret->level = (int8_t)codec->level_default;
	/* Whether it can do what is chosen is asked when it is. */
	return ret->filter == BALE_FILTER_auto ||
	       m->e->ops->can(ret->op, ret->codec, ret->level, ret->filter);
}

static struct kind *find_kind(struct maker *m, const struct kind *k, bool add)
{
	for (size_t i = 0; i < m->nr_kinds; i++) {
		struct kind *o = &m->kinds[i];

		if (o->op == k->op && o->codec == k->codec &&
		    o->level == k->level && o->filter == k->filter &&
		    o->is_auto == k->is_auto)
			return o;
	}
	if (!add || m->nr_kinds == KINDS_MAX)
		return NULL;
	m->kinds[m->nr_kinds] = *k;
	return &m->kinds[m->nr_kinds++];
}

/* The device that would be done first; NULL: none is ready. */
static struct bale_gpu_dev *pick_dev(struct maker *m, double *ret_wait_ns)
{
	struct bale_gpu_engine *e = m->e;
	unsigned int nr =
		atomic_load_explicit(&e->nr_devs, memory_order_acquire);
	struct bale_gpu_dev *best = NULL;

	for (unsigned int i = 0; i < nr; i++) {
		struct bale_gpu_dev *d = e->devs[i];
		double wait;

		bale_mutex_lock(&d->lock);
		wait = d->backlog_ns;
		if (d->not_before) {
			uint64_t now = bale_now_ns();

			if (d->not_before > now)
				wait += (double)(d->not_before - now);
		}
		if (d->state == BALE_GPU_READY &&
		    (!best || wait < *ret_wait_ns)) {
			best = d;
			*ret_wait_ns = wait;
			m->slot_units = d->limits.slot_units;
			m->nr_idle = bale_list_empty(&d->queue) &&
						     d->in_use < d->nr_slots ?
					     d->nr_slots - d->in_use :
					     0;
		}
		bale_mutex_unlock(&d->lock);
	}
	if (best && m->slot_units > BALE_GPU_PIECE_UNITS)
		m->slot_units = BALE_GPU_PIECE_UNITS;
	return best;
}

/* Nanoseconds on the device, for all kinds; < 0: not known. */
static double device_time(struct maker *m)
{
	const size_t most = (size_t)m->slot_units * BALE_UNIT_SIZE;
	double all = 0;

	for (size_t i = 0; i < m->nr_kinds; i++) {
		struct kind *k = &m->kinds[i];
		enum bale_cost_kind kind =
			bale_cost_kind_of(k->op, k->codec, k->level);
		size_t full = k->bytes / most, rest = k->bytes % most;
		double a = bale_cost_guess(&m->dev->cost, BALE_COST_GPU, k->op,
					   kind, most);
		double b = rest ? bale_cost_guess(&m->dev->cost, BALE_COST_GPU,
						  k->op, kind, rest) :
				  0;

		if (a < 0 || b < 0)
			return -1;
		all += (double)full * a + b;
	}
	return all;
}

/* The same on all workers of the CPU engine. */
static double cpu_time(struct maker *m)
{
	double all = 0;

	for (size_t i = 0; i < m->nr_kinds; i++) {
		struct kind *k = &m->kinds[i];
		unsigned int codec = k->is_auto ? BALE_CODEC_auto : k->codec;
		double a = bale_cost_guess(
			&m->e->cost, BALE_COST_CPU, k->op,
			bale_cost_kind_of(k->op, codec, k->level), k->bytes);

		if (a < 0)
			return -1;
		all += a;
	}
	return all / m->e->nr_workers;
}

double bale_gpu_share_of(enum bale_job_op op, double dev_wait, double dev,
			 double cpu_wait, double cpu)
{
	double on_dev, on_cpu, s, both;

	dev_wait = dev_wait > 0 ? dev_wait : 0;
	on_dev = dev_wait + dev;
	on_cpu = cpu_wait + cpu;
	s = dev + cpu > 0 ? (on_cpu - dev_wait) / (dev + cpu) : 1;
	both = dev_wait + s * dev;
	if (s > 0 && s < 1 && both < split_below[op] * on_dev &&
	    both < split_gain * on_cpu)
		return s;
	return on_cpu < whole_below[op] * on_dev ? 0 : 1;
}

static double choose_share(struct maker *m, double dev_wait)
{
	double dev = device_time(m), cpu = cpu_time(m);
	double cpu_wait =
		(double)atomic_load(&m->e->cpu_backlog_ns) / m->e->nr_workers;

	if (m->e->o.always)
		return 1;
	if (dev < 0 || cpu < 0)
		return 0;
	return bale_gpu_share_of(m->kinds[0].op, dev_wait, dev, cpu_wait, cpu);
}

static struct bale_gpu_piece *new_piece(const struct maker *m,
					const struct kind *k,
					unsigned int filter, size_t nr_max)
{
	struct bale_gpu_piece *p;

	if (nr_max > m->slot_units)
		nr_max = m->slot_units;
	p = calloc(1, sizeof(*p) + nr_max * sizeof(p->jobs[0]));
	if (!p)
		return NULL;
	p->op = k->op;
	p->codec = k->codec;
	p->level = k->level;
	p->filter = (uint8_t)filter;
	return p;
}

static void end_piece(struct maker *m, struct kind *k, unsigned int filter,
		      struct bale_gpu_plan *pl)
{
	struct bale_gpu_piece *p = k->open[filter];

	if (!p)
		return;
	p->guess_ns = bale_cost_guess(
		&m->dev->cost, BALE_COST_GPU, p->op,
		bale_cost_kind_of(p->op, p->codec, p->level), p->bytes);
	if (p->guess_ns < 0)
		p->guess_ns = 0;
	bale_list_push_back(&pl->pieces, &p->node);
	pl->nr_pieces++;
	k->open[filter] = NULL;
}

/* The kind's, or what auto makes of these bytes. */
static unsigned int filter_of(const struct kind *k, const struct bale_job *j)
{
	struct bale_codec_ctx *ctx;

	if (k->filter != BALE_FILTER_auto)
		return k->filter;
	ctx = bale_codec_ctx_get();
	return ctx ? bale_filter_choose(ctx, j->src, j->src_len) : 0;
}

/* False: memory is short, or the device cannot filter so; the job stays
 * here. */
static bool add_to_piece(struct maker *m, struct kind *k, struct bale_job *j,
			 size_t nr_left, struct bale_gpu_plan *pl)
{
	unsigned int f = filter_of(k, j);
	struct bale_gpu_piece *p = k->open[f];
	size_t len = content(j);
	uint32_t units = (uint32_t)bale_units_nr(len);

	if (!m->e->ops->can(k->op, k->codec, k->level, f))
		return false;
	if (p && p->units + units > m->slot_units) {
		end_piece(m, k, f, pl);
		p = NULL;
	}
	if (!p)
		p = k->open[f] = new_piece(m, k, f, nr_left);
	if (!p)
		return false;
	p->jobs[p->nr++] = j;
	p->units += units;
	p->bytes += len;
	k->planned += len;
	return true;
}

static_assert((int)PIECE_UNITS_MIN * BALE_UNIT_SIZE >= (int)BALE_EXTENT_MAX,
	      "an extent fits any piece");

static void distribute(struct maker *m, struct bale_job *jobs, size_t nr,
		       struct bale_gpu_plan *pl)
{
	for (size_t i = 0; i < nr; i++) {
		struct kind this, *k = NULL;

		if (kind_of(m, &jobs[i], &this))
			k = find_kind(m, &this, false);
		if (k && (double)k->planned < m->share * (double)k->bytes &&
		    add_to_piece(m, k, &jobs[i], nr - i, pl))
			continue;
		pl->cpu[pl->nr_cpu++] = &jobs[i];
	}
	for (size_t i = 0; i < m->nr_kinds; i++)
		for (unsigned int f = 0; f < BALE_FILTER_NR; f++)
			end_piece(m, &m->kinds[i], f, pl);
}

/* All idle slots work on the one batch, and its copies run beside its
 * kernels. Where none is, equal pieces: a full one and a small rest would end
 * later. */
static void spread(struct maker *m)
{
	uint64_t nr = m->nr_idle, each;

	if (!nr)
		nr = (m->units + m->slot_units - 1) / m->slot_units;
	if (nr < 2)
		return;
	each = (m->units + nr - 1) / nr;
	if (each < PIECE_UNITS_MIN)
		each = PIECE_UNITS_MIN;
	if (each < m->slot_units)
		m->slot_units = (uint32_t)each;
}

void bale_gpu_plan_free(struct bale_gpu_plan *p)
{
	bale_list_for_each_safe(n, &p->pieces)
		free(BALE_CONTAINER(n, struct bale_gpu_piece, node));
	free(p->cpu);
}

int bale_gpu_plan_make(struct bale_gpu_engine *e, struct bale_job *jobs,
		       size_t nr, struct bale_gpu_plan *ret)
{
	struct maker m = { .e = e };
	double wait = 0;

	memset(ret, 0, sizeof(*ret));
	bale_list_init(&ret->pieces);
	m.dev = pick_dev(&m, &wait);
	if (!m.dev)
		return 0;
	for (size_t i = 0; i < nr; i++) {
		struct kind this, *k = NULL;

		if (kind_of(&m, &jobs[i], &this))
			k = find_kind(&m, &this, true);
		if (!k)
			continue;
		k->bytes += content(&jobs[i]);
		m.units += bale_units_nr(content(&jobs[i]));
	}
	spread(&m);
	if (m.nr_kinds)
		m.share = choose_share(&m, wait);
	if (m.share <= 0)
		return 0;
	ret->cpu = malloc(nr * sizeof(struct bale_job *));
	if (!ret->cpu)
		return -ENOMEM;
	distribute(&m, jobs, nr, ret);
	ret->dev = ret->nr_pieces ? m.dev : NULL;
	return 0;
}
