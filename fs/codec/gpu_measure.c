/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_measure.c - what a device just opened takes, and a core: read from the
 * last mount's file, or tried on made-up data in under a second.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/unit.h"
#include "config.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/engine_gpu.h"

enum {
	EXTENT = BALE_EXTENT_DEFAULT,
	SMALL = 8,   /* extents: 1 MiB, where the fixed time is most of it */
	LARGE = 128, /* 16 MiB */
	CPU_EXTENTS = 2,
	SLOW_NS = 20000000,
};

static const struct {
	uint8_t codec;
	int8_t level;
} tried[] = {
	{ BALE_CODEC_lz4, 0 },
	{ BALE_CODEC_gdeflate, 1 },
	{ BALE_CODEC_gdeflate, 2 },
	{ BALE_CODEC_gdeflate, 3 },
	{ BALE_CODEC_zstd, BALE_ZSTD_LEVEL_AUTO },
};

/* Buffers of one measurement; each extent has its room in both. */
struct bench {
	struct bale_gpu_dev *d;
	struct bale_gpu *g;
	uint8_t *src, *coded, *back;
	size_t room;
	struct bale_gpu_extent *x;
	uint32_t *len; /* of what is coded */
	size_t large;  /* extents of the large batch */
};

/* Words of a small vocabulary: shrinks as text does. */
static void make_data(uint8_t *p, size_t len)
{
	static const char words[16][9] = {
		"the ",	   "of ",      "measure ", "and ", "in ", "value ",
		"time ",   "[info] ",  "0x3f",	   "\n",   ", ",  "request ",
		"status ", "latency ", "200 ",	   "node",
	};
	uint64_t x = 0x9e3779b97f4a7c15u;
	size_t n = 0;

	while (n < len) {
		const char *w;
		size_t k;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		w = words[x >> 60];
		k = strlen(w);
		if (k > len - n)
			k = len - n;
		memcpy(p + n, w, k);
		n += k;
		if (n < len)
			p[n++] = (uint8_t)('a' + (x >> 40 & 15));
	}
}

static void set_extents(struct bench *b, enum bale_job_op op, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		struct bale_gpu_extent *x = &b->x[i];

		memset(x, 0, sizeof(*x));
		if (op == BALE_JOB_ENCODE) {
			x->src = b->src + i * EXTENT;
			x->src_len = EXTENT;
			x->dst = b->coded + i * b->room;
			x->dst_cap = (uint32_t)b->room;
		} else {
			x->src = b->coded + i * b->room;
			x->src_len = b->len[i];
			x->dst = b->back + i * EXTENT;
			x->dst_cap = EXTENT;
		}
	}
}

/* -EILSEQ: the device computes wrongly. */
static int check(struct bench *b, enum bale_job_op op, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		const struct bale_gpu_extent *x = &b->x[i];

		if (x->status)
			return -EILSEQ;
		if (op == BALE_JOB_ENCODE) {
			if (x->ret_codec == BALE_CODEC_raw)
				return -EILSEQ;
			b->len[i] = x->len;
		} else if (memcmp(b->back + i * EXTENT, b->src + i * EXTENT,
				  EXTENT)) {
			return -EILSEQ;
		}
	}
	return 0;
}

/* The faster of two, for the first one also loads code. */
static int time_batch(struct bench *b, enum bale_job_op op, size_t kind,
		      size_t nr, uint64_t *ret_ns)
{
	struct bale_gpu_batch batch = {
		.op = op,
		.codec = tried[kind].codec,
		.level = tried[kind].level,
		.extents = b->x,
		.nr = nr,
	};

	*ret_ns = UINT64_MAX;
	for (int pass = 0; pass < 2; pass++) {
		uint64_t start = bale_now_ns(), ns;
		int r;

		set_extents(b, op, nr);
		r = bale_gpu_call_submit(b->d, b->g, 0, &batch);
		if (!r)
			r = bale_gpu_call_wait(b->d, b->g, 0, &batch);
		ns = bale_now_ns() - start;
		if (!r)
			r = check(b, op, nr);
		if (r)
			return r;
		if (ns < *ret_ns)
			*ret_ns = ns;
	}
	return 0;
}

static int measure_device(struct bench *b, size_t kind)
{
	struct bale_gpu_dev *d = b->d;
	size_t nr = b->large; /* extents of the large batch */

	/* Encode first: decode takes what it made. */
	for (int op = BALE_JOB_ENCODE; op <= BALE_JOB_DECODE; op++) {
		uint64_t small, large;
		int r;

		if (!d->e->ops->can((enum bale_job_op)op, tried[kind].codec,
				    tried[kind].level, 0))
			return 0;
		r = time_batch(b, (enum bale_job_op)op, kind, SMALL, &small);
		/* So slow a device is known well enough by less. */
		if (small > SLOW_NS && nr > 2 * SMALL)
			nr = 2 * SMALL;
		if (!r)
			r = time_batch(b, (enum bale_job_op)op, kind, nr,
				       &large);
		if (r)
			return r;
		bale_cost_seed(
			&d->cost, BALE_COST_GPU, (enum bale_job_op)op,
			bale_cost_kind_of((enum bale_job_op)op,
					  tried[kind].codec, tried[kind].level),
			(size_t)SMALL * EXTENT, small, nr * EXTENT, large);
	}
	return 0;
}

/* One core, as each worker of the pool will be; jobs note the time. */
static void measure_cpu(struct bench *b, size_t kind)
{
	struct bale_cost *cost = &b->d->e->cost;
	enum bale_cost_kind k = bale_cost_kind_of(
		BALE_JOB_ENCODE, tried[kind].codec, tried[kind].level);

	if (!bale_codec_known(tried[kind].codec, 0) ||
	    bale_cost_guess(cost, BALE_COST_CPU, BALE_JOB_ENCODE, k, 1) >= 0)
		return;
	for (size_t i = 0; i < CPU_EXTENTS; i++) {
		struct bale_job enc = {
			.op = BALE_JOB_ENCODE,
			.codec = tried[kind].codec,
			.level = tried[kind].level,
			.src = b->src + i * EXTENT,
			.src_len = EXTENT,
			.dst = b->coded + i * b->room,
			.dst_cap = b->room,
		};
		struct bale_job dec = {
			.op = BALE_JOB_DECODE,
			.codec = tried[kind].codec,
			.src = b->coded + i * b->room,
			.dst = b->back + i * EXTENT,
			.dst_cap = EXTENT,
		};
		uint64_t start = bale_now_ns(), mid;

		bale_codec_run(&enc);
		mid = bale_now_ns();
		dec.src_len = enc.len;
		bale_codec_run(&dec);
		/* The first one makes the codec's memory. */
		if (!i)
			continue;
		bale_cost_note_job(cost, &enc, mid - start);
		bale_cost_note_job(cost, &dec, bale_now_ns() - mid);
	}
}

static int measure_all(struct bale_gpu_dev *d, struct bale_gpu *g)
{
	struct bench b = { .d = d, .g = g, .large = LARGE };
	struct bale_gpu_limits l;
	size_t most;
	int r = 0;

	d->e->ops->limits(g, &l);
	most = l.slot_units / bale_units_nr(EXTENT);
	if (b.large > most)
		b.large = most;
	if (b.large <= SMALL)
		return -ENOMEM; /* no room for a batch that pays */
	b.room = bale_codec_bound(EXTENT);
	b.src = malloc(b.large * EXTENT);
	b.back = malloc(b.large * EXTENT);
	b.coded = malloc(b.large * b.room);
	b.x = calloc(b.large, sizeof(*b.x));
	b.len = calloc(b.large, sizeof(*b.len));
	if (b.src && b.back && b.coded && b.x && b.len)
		make_data(b.src, b.large * EXTENT);
	else
		r = -ENOMEM;
	for (size_t k = 0; !r && k < sizeof(tried) / sizeof(tried[0]); k++) {
		r = measure_device(&b, k);
		if (!r)
			measure_cpu(&b, k);
	}
	free(b.src);
	free(b.back);
	free(b.coded);
	free(b.x);
	free(b.len);
	return r;
}

/* ---- the file ---- */

static int file_of(struct bale_gpu_dev *d, char *path, size_t cap)
{
	int r;
	size_t n;

	if (d->e->o.no_profile)
		return -ENOENT;
	r = bale_cost_path(path, cap);
	if (r)
		return r;
	n = strlen(path);
	return snprintf(path + n, cap - n, "-%u", d->idx) < (int)(cap - n) ?
		       0 :
		       -ENAMETOOLONG;
}

/* Another device, driver, build or number of workers has other times. */
static void name_of(struct bale_gpu_dev *d, char *who, size_t cap)
{
	struct bale_gpu_info info;

	if (d->e->ops->info(d->idx, &info))
		memset(&info, 0, sizeof(info));
	snprintf(who, cap, "%s %s %s %s sm%u workers%u slots%u", BALE_VERSION,
		 d->e->ops->name, info.name, info.pci_id, info.sm,
		 d->e->nr_workers, d->e->o.nr_slots);
}

int bale_gpu_measure(struct bale_gpu_dev *d, struct bale_gpu *g)
{
	char path[4096], who[240];
	uint64_t start = bale_now_ns();
	struct bale_cost_table t;
	int r;

	name_of(d, who, sizeof(who));
	if (!file_of(d, path, sizeof(path)) &&
	    !bale_cost_load(&d->cost, path, who)) {
		bale_cost_get(&d->cost, &t);
		bale_cost_adopt(&d->e->cost, &t, BALE_COST_CPU);
		return 0;
	}
	if (d->e->o.always && d->e->o.no_profile)
		return 0; /* nothing is chosen by it */
	r = measure_all(d, g);
	if (r)
		return r;
	bale_debug("gpu %u: measured in %llu ms", d->idx,
		   (unsigned long long)((bale_now_ns() - start) / 1000000));
	bale_gpu_measure_save(d);
	return 0;
}

void bale_gpu_measure_save(struct bale_gpu_dev *d)
{
	char path[4096], who[240];
	struct bale_cost_table t;
	int r = file_of(d, path, sizeof(path));

	if (r)
		return;
	name_of(d, who, sizeof(who));
	bale_cost_get(&d->e->cost, &t);
	bale_cost_adopt(&d->cost, &t, BALE_COST_CPU);
	r = bale_cost_save(&d->cost, path, who);
	if (r)
		bale_debug("%s: %s", path, strerror(-r));
}
