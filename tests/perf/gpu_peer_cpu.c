/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_peer_cpu.c - what the machine's cores do with the same units.
 *
 * Threads start together and take units off one counter; the time is that from
 * the start to the end of the last one. Every decoded unit is compared, outside
 * the timed passes.
 */
#include <lz4.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "fs/codec/codec.h"
#include "tests/perf/gpu_peer.h"

struct pool;

/* A thread's contexts. */
struct worker {
	struct pool *pool;
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	pthread_t thread;
};

typedef void unit_fn(struct worker *w, size_t i);

struct pool {
	const uint8_t *src;
	uint8_t *coded, *back;
	uint32_t *coded_len;
	uint8_t *bad; /* a unit failed */
	size_t nr, unit_len, cap;
	int level;
	unit_fn *fn; /* what a pass does with each unit; NULL: leave */
	atomic_size_t next;
	unsigned int nr_threads;
	pthread_barrier_t start, end;
	struct worker *workers;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double peer_median(double *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare_doubles);
	return nr ? values[nr / 2] : 0;
}

static void encode_lz4(struct worker *w, size_t i)
{
	struct pool *p = w->pool;

	p->coded_len[i] = (uint32_t)LZ4_compress_default(
		(const char *)p->src + i * p->unit_len,
		(char *)p->coded + i * p->cap, (int)p->unit_len, (int)p->cap);
}

static void decode_lz4(struct worker *w, size_t i)
{
	struct pool *p = w->pool;

	p->bad[i] = LZ4_decompress_safe((char *)p->coded + i * p->cap,
					(char *)p->back + i * p->unit_len,
					(int)p->coded_len[i],
					(int)p->unit_len) != (int)p->unit_len;
}

static void encode_zstd(struct worker *w, size_t i)
{
	struct pool *p = w->pool;
	size_t n = ZSTD_compressCCtx(w->cctx, p->coded + i * p->cap, p->cap,
				     p->src + i * p->unit_len, p->unit_len,
				     p->level);

	p->coded_len[i] = ZSTD_isError(n) ? 0 : (uint32_t)n;
}

static void decode_zstd(struct worker *w, size_t i)
{
	struct pool *p = w->pool;

	p->bad[i] = ZSTD_decompressDCtx(w->dctx, p->back + i * p->unit_len,
					p->unit_len, p->coded + i * p->cap,
					p->coded_len[i]) != p->unit_len;
}

/* Length 0 stands for a unit that is kept raw. */
static void encode_gdeflate(struct worker *w, size_t i)
{
	struct pool *p = w->pool;
	struct bale_job job = { .op = BALE_JOB_ENCODE,
				.codec = BALE_CODEC_gdeflate,
				.level = (int8_t)p->level,
				.src = p->src + i * p->unit_len,
				.src_len = p->unit_len,
				.dst = p->coded + i * p->cap,
				.dst_cap = p->cap };

	bale_codec_run(&job);
	p->bad[i] = job.status != 0;
	p->coded_len[i] =
		job.ret_codec == BALE_CODEC_gdeflate ? (uint32_t)job.len : 0;
}

static void decode_gdeflate(struct worker *w, size_t i)
{
	struct pool *p = w->pool;
	struct bale_job job = { .op = BALE_JOB_DECODE,
				.codec = BALE_CODEC_gdeflate,
				.src = p->coded + i * p->cap,
				.src_len = p->coded_len[i],
				.dst = p->back + i * p->unit_len,
				.dst_cap = p->unit_len };

	if (!p->coded_len[i]) {
		memcpy(job.dst, p->src + i * p->unit_len, p->unit_len);
		return;
	}
	bale_codec_run(&job);
	p->bad[i] = job.status || job.len != p->unit_len;
}

static void copy(struct worker *w, size_t i)
{
	struct pool *p = w->pool;

	memcpy(p->coded + i * p->cap, p->src + i * p->unit_len, p->unit_len);
	p->coded_len[i] = (uint32_t)p->unit_len;
}

static void copy_back(struct worker *w, size_t i)
{
	struct pool *p = w->pool;

	memcpy(p->back + i * p->unit_len, p->coded + i * p->cap, p->unit_len);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;

	w->cctx = ZSTD_createCCtx();
	w->dctx = ZSTD_createDCtx();
	for (;;) {
		pthread_barrier_wait(&p->start);
		if (!p->fn)
			break;
		for (size_t i; (i = atomic_fetch_add(&p->next, 1)) < p->nr;)
			p->fn(w, i);
		pthread_barrier_wait(&p->end);
	}
	ZSTD_freeCCtx(w->cctx);
	ZSTD_freeDCtx(w->dctx);
	return NULL;
}

static double one_pass(struct pool *p, unit_fn *fn)
{
	double start;

	p->fn = fn;
	atomic_store(&p->next, 0);
	start = now();
	pthread_barrier_wait(&p->start);
	if (!fn)
		return 0;
	pthread_barrier_wait(&p->end);
	return now() - start;
}

/* Two passes to warm up, then the median; fewer when they take long. */
static double measure(struct pool *p, unit_fn *fn, unsigned int passes)
{
	double seconds[PEER_PASSES_MAX], sum = 0;
	size_t n = 0;

	one_pass(p, fn);
	while (n < passes && n < PEER_PASSES_MAX && (n < 3 || sum < 0.3)) {
		seconds[n] = one_pass(p, fn);
		sum += seconds[n++];
	}
	return (double)(p->nr * p->unit_len) / 1e9 / peer_median(seconds, n);
}

static void judge(const struct pool *p, struct peer_result *ret)
{
	size_t packed = 0;

	for (size_t i = 0; i < p->nr; i++) {
		size_t len = p->coded_len[i];

		packed += len && len < p->unit_len ? len : p->unit_len;
		ret->bad_units += p->bad[i] || memcmp(p->src + i * p->unit_len,
						      p->back + i * p->unit_len,
						      p->unit_len) != 0;
	}
	ret->ratio = (double)(p->nr * p->unit_len) / (double)packed;
}

static bool pool_start(struct pool *p)
{
	pthread_barrier_init(&p->start, NULL, p->nr_threads + 1);
	pthread_barrier_init(&p->end, NULL, p->nr_threads + 1);
	for (unsigned int i = 0; i < p->nr_threads; i++) {
		p->workers[i].pool = p;
		if (pthread_create(&p->workers[i].thread, NULL, worker_main,
				   &p->workers[i]))
			return false;
	}
	return true;
}

static void pool_stop(struct pool *p)
{
	one_pass(p, NULL);
	for (unsigned int i = 0; i < p->nr_threads; i++)
		pthread_join(p->workers[i].thread, NULL);
	pthread_barrier_destroy(&p->start);
	pthread_barrier_destroy(&p->end);
}

static const struct {
	const char *name;
	unit_fn *encode, *decode;
} codecs[] = {
	{ "lz4", encode_lz4, decode_lz4 },
	{ "zstd", encode_zstd, decode_zstd },
	{ "gdeflate", encode_gdeflate, decode_gdeflate },
	{ "memcpy", copy, copy_back },
};

static int measure_codec(struct pool *p, const char *codec, unsigned int passes,
			 struct peer_result *ret)
{
	for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
		if (strcmp(codecs[i].name, codec))
			continue;
		if (!pool_start(p))
			exit(1); /* some wait at the barrier for ever */
		ret->enc_gbs = measure(p, codecs[i].encode, passes);
		memset(p->back, 0xa5, p->nr * p->unit_len);
		ret->dec_gbs = measure(p, codecs[i].decode, passes);
		pool_stop(p);
		judge(p, ret);
		return 0;
	}
	return -1;
}

int peer_cpu_measure(const char *codec, int level, const uint8_t *src,
		     size_t len, size_t unit_len, unsigned int nr_threads,
		     unsigned int passes, struct peer_result *ret)
{
	struct pool p = { .src = src,
			  .nr = len / unit_len,
			  .unit_len = unit_len,
			  .cap = unit_len + unit_len / 16 + 4096,
			  .level = level,
			  .nr_threads = nr_threads };
	int r = -1;

	if (!strcmp(codec, "gdeflate") &&
	    !bale_codec_known(BALE_CODEC_gdeflate, 0))
		return -1;
	memset(ret, 0, sizeof(*ret));
	p.coded = calloc(p.nr, p.cap);
	p.back = malloc(p.nr * unit_len);
	p.coded_len = calloc(p.nr, sizeof(*p.coded_len));
	p.bad = calloc(p.nr, 1);
	p.workers = calloc(nr_threads, sizeof(*p.workers));
	if (p.coded && p.back && p.coded_len && p.bad && p.workers)
		r = measure_codec(&p, codec, passes, ret);
	free(p.coded);
	free(p.back);
	free(p.coded_len);
	free(p.bad);
	free(p.workers);
	return r;
}
