/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_engine.c - content in host memory through an engine and back.
 *
 * A measurement owns the jobs of all extents, in batches of b->batches bytes,
 * of which b->in_flight are with the engine at a time. What was encoded stays,
 * so that decoding, by this engine or another, works on the same bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/base/mem.h"
#include "fs/base/thread.h"
#include "tools/bench.h"
#include "tools/cmd.h"

enum {
	PASSES_MAX = 64,
	SAMPLE_MAX = 16 << 20, /* of the pairs of engines */
	SLOT_ALIGN = 64,
	PIN_POLL_US = 50000,
	PIN_STILL = 10, /* polls: half a second */
};

struct measurement {
	const struct bale_bench *b;
	const struct bale_bench_extent *extents;
	size_t nr;
	size_t bytes; /* of content, in all extents */
	/* Whole pages: for what encoders make of it, and for it again. */
	size_t room, mapped;
	uint8_t *coded, *back; /* bale_bench_map() */
	struct bale_job *encode, *decode;
	size_t batch; /* bytes */
	struct bale_mutex lock;
	struct bale_cond cond;
	size_t in_flight; /* batches; lock */
};

static void measurement_fini(struct measurement *m)
{
	bale_bench_unmap(m->coded, m->room);
	bale_bench_unmap(m->back, m->mapped);
	free(m->encode);
	free(m->decode);
	bale_cond_fini(&m->cond);
	bale_mutex_fini(&m->lock);
}

static size_t slot_len(size_t len)
{
	return (bale_codec_bound(len) + SLOT_ALIGN - 1) / SLOT_ALIGN *
	       SLOT_ALIGN;
}

static int measurement_init(struct measurement *m, const struct bale_bench *b,
			    const struct bale_bench_extent *extents, size_t nr,
			    size_t batch)
{
	size_t room = 0, back = 0;

	*m = (struct measurement){
		.b = b, .extents = extents, .nr = nr, .batch = batch
	};
	bale_mutex_init(&m->lock);
	bale_cond_init(&m->cond);
	for (size_t i = 0; i < nr; i++) {
		m->room += slot_len(extents[i].len);
		m->bytes += extents[i].len;
	}
	m->room = bale_bench_pages(m->room);
	m->mapped = bale_bench_pages(m->bytes);
	m->coded = bale_bench_map(m->room);
	m->back = bale_bench_map(m->mapped);
	m->encode = calloc(nr, sizeof(*m->encode));
	m->decode = calloc(nr, sizeof(*m->decode));
	if (!m->coded || !m->back || !m->encode || !m->decode) {
		measurement_fini(m);
		bale_cmd_error("no memory to code %zu bytes", m->bytes);
		return -ENOMEM;
	}
	/* The faults of new pages belong to nobody's pass. */
	memset(m->coded, 1, m->room);
	for (size_t i = 0; i < nr; i++) {
		m->encode[i].src = b->data.bytes + extents[i].off;
		m->encode[i].src_len = extents[i].len;
		m->encode[i].dst = m->coded + room;
		m->encode[i].dst_cap = slot_len(extents[i].len);
		m->decode[i].dst = m->back + back;
		m->decode[i].dst_cap = extents[i].len;
		room += slot_len(extents[i].len);
		back += extents[i].len;
	}
	return 0;
}

static void batch_done(void *arg)
{
	struct measurement *m = arg;

	bale_mutex_lock(&m->lock);
	m->in_flight--;
	bale_cond_signal(&m->cond);
	bale_mutex_unlock(&m->lock);
}

static void wait_for_room(struct measurement *m, size_t in_flight)
{
	bale_mutex_lock(&m->lock);
	while (m->in_flight > in_flight)
		bale_cond_wait(&m->cond, &m->lock);
	bale_mutex_unlock(&m->lock);
}

/* All jobs once. */
static int run_pass(struct measurement *m, struct bale_engine *e,
		    struct bale_job *jobs)
{
	size_t first = 0;
	int r = 0;

	while (first < m->nr && !r) {
		size_t n = 0, len = 0;

		while (first + n < m->nr &&
		       (!n || len + m->extents[first + n].len <= m->batch))
			len += m->extents[first + n++].len;
		wait_for_room(m, m->b->in_flight - 1);
		if (bale_bench_stopped()) {
			r = -EINTR;
			break;
		}
		bale_mutex_lock(&m->lock);
		m->in_flight++;
		bale_mutex_unlock(&m->lock);
		r = e->ops->submit(e, jobs + first, n, batch_done, m);
		if (r) {
			bale_cmd_error("engine %s: %s", e->ops->name,
				       strerror(-r));
			batch_done(m);
		}
		first += n;
	}
	wait_for_room(m, 0);
	return r;
}

static void ask_encode(struct measurement *m, struct bale_codec_policy p)
{
	for (size_t i = 0; i < m->nr; i++) {
		m->encode[i].op = BALE_JOB_ENCODE;
		m->encode[i].codec = p.codec;
		m->encode[i].filter = p.codec == BALE_CODEC_auto ?
					      BALE_FILTER_auto :
					      p.filter;
		m->encode[i].level = p.level;
	}
}

static void ask_decode(struct measurement *m)
{
	for (size_t i = 0; i < m->nr; i++) {
		const struct bale_job *e = &m->encode[i];
		bool raw = e->ret_codec == BALE_CODEC_raw;

		m->decode[i].op = BALE_JOB_DECODE;
		m->decode[i].codec = e->ret_codec;
		m->decode[i].filter = e->ret_filter;
		m->decode[i].src = raw ? e->src : e->dst;
		m->decode[i].src_len = e->len;
	}
	memset(m->back, 0xa5, m->bytes);
}

/* Extents that are not what they were; the fault point is for tests. */
static uint64_t count_wrong(const struct measurement *m)
{
	uint64_t wrong = 0;

	if (bale_fault("bench.decoded"))
		m->back[m->bytes / 2] ^= 1;
	for (size_t i = 0; i < m->nr; i++) {
		const struct bale_job *e = &m->encode[i], *d = &m->decode[i];

		wrong += e->status || d->status || d->len != e->src_len ||
			 memcmp(e->src, d->dst, e->src_len) != 0;
	}
	return wrong;
}

static double ratio_of(const struct measurement *m)
{
	size_t packed = 0;

	for (size_t i = 0; i < m->nr; i++)
		packed += m->encode[i].len;
	return (double)m->bytes / (double)(packed ? packed : 1);
}

/* One pass to warm up, then the median of b->passes, or of what b->seconds
 * allow; a warm-up that takes all of them is the measurement. */
static int time_passes(struct measurement *m, struct bale_engine *e,
		       struct bale_job *jobs, double *ret_rate, double *ret_cpu)
{
	double rates[PASSES_MAX], cpus[PASSES_MAX], spent = 0;
	size_t n = 0, passes = m->b->passes;
	bool warm = false;

	while (n < passes && n < PASSES_MAX &&
	       (!warm || !n || spent < m->b->seconds)) {
		uint64_t start = bale_now_ns(), cpu = bale_cpu_ns();
		int r = run_pass(m, e, jobs);
		double ns = (double)(bale_now_ns() - start + 1);

		if (r)
			return r;
		spent += ns / 1e9;
		rates[n] = (double)m->bytes * 1e9 / ns;
		cpus[n] = (double)(bale_cpu_ns() - cpu) / (double)m->bytes;
		if (warm || spent >= m->b->seconds)
			n++;
		warm = true;
	}
	*ret_rate = bale_bench_median(rates, n);
	*ret_cpu = bale_bench_median(cpus, n);
	return 0;
}

static int measure_one(struct bale_bench *b, struct measurement *m,
		       const struct bale_bench_engine *e,
		       struct bale_codec_policy p, size_t extent)
{
	struct bale_bench_row row = { .layer = "engine",
				      .extent = extent,
				      .batch = m->batch };
	int r;

	snprintf(row.engine, sizeof(row.engine), "%s", e->name);
	bale_codec_policy_text(p, row.codec, sizeof(row.codec));
	ask_encode(m, p);
	r = time_passes(m, e->engine, m->encode, &row.encode, &row.encode_cpu);
	if (r)
		return r;
	ask_decode(m);
	r = time_passes(m, e->engine, m->decode, &row.decode, &row.decode_cpu);
	if (r)
		return r;
	row.ratio = ratio_of(m);
	row.wrong = count_wrong(m);
	return bale_bench_add(b, &row);
}

/* Of all devices of an engine. */
struct device_sums {
	uint64_t jobs, failed_over, pinned;
};

static void sum_devices(struct bale_engine *e, struct device_sums *ret)
{
	bale_autofree struct bale_engine_stats *s = calloc(1, sizeof(*s));

	memset(ret, 0, sizeof(*ret));
	if (!s)
		return;
	e->ops->stats(e, s);
	for (uint32_t i = 0; i < s->nr_devs; i++) {
		ret->jobs += s->devs[i].jobs[0] + s->devs[i].jobs[1];
		ret->failed_over += s->devs[i].failed_over;
		ret->pinned += s->devs[i].pinned_bytes;
	}
}

/* Buffers as a mount has them. Pinning goes on behind us; it is over when
 * there is nothing more for a while. */
static void pin_buffers(struct measurement *m, struct bale_engine *e)
{
	struct device_sums now, last = { 0 };
	unsigned int still = 0;

	if (!e->ops->pin)
		return;
	bale_engine_pin(e, m->b->data.bytes, m->b->data.mapped, true);
	bale_engine_pin(e, m->coded, m->room, true);
	bale_engine_pin(e, m->back, m->mapped, true);
	while (still < PIN_STILL && !bale_bench_stopped()) {
		usleep(PIN_POLL_US);
		sum_devices(e, &now);
		still = now.pinned == last.pinned ? still + 1 : 0;
		last = now;
	}
}

static void unpin_buffers(struct measurement *m, struct bale_engine *e)
{
	bale_engine_unpin(e, m->b->data.bytes);
	bale_engine_unpin(e, m->coded);
	bale_engine_unpin(e, m->back);
}

/* A figure of a device that the CPU has helped out says so. */
static int measure_device(struct bale_bench *b, struct measurement *m,
			  const struct bale_bench_engine *e,
			  struct bale_codec_policy p, size_t extent)
{
	struct device_sums before, after;
	char text[BALE_BENCH_TEXT];
	int r;

	sum_devices(e->engine, &before);
	r = measure_one(b, m, e, p, extent);
	sum_devices(e->engine, &after);
	bale_codec_policy_text(p, text, sizeof(text));
	if (!r && after.failed_over != before.failed_over)
		bale_cmd_error("engine %s, %s: the CPU did %llu jobs that the "
			       "device failed",
			       e->name, text,
			       (unsigned long long)(after.failed_over -
						    before.failed_over));
	else if (!r && after.jobs == before.jobs)
		bale_cmd_error("engine %s, %s: all was done by the CPU",
			       e->name, text);
	return r;
}

static int measure_engine(struct bale_bench *b, struct measurement *m,
			  const struct bale_bench_engine *e, size_t extent)
{
	int r = 0;

	pin_buffers(m, e->engine);
	for (size_t c = 0; c < b->nr_codecs && !r; c++)
		for (size_t k = 0; k < b->nr_batches && !r; k++) {
			m->batch = b->batches[k];
			if (!e->is_device)
				r = measure_one(b, m, e, b->codecs[c], extent);
			else if (bale_bench_on_device(b->codecs[c]))
				r = measure_device(b, m, e, b->codecs[c],
						   extent);
		}
	unpin_buffers(m, e->engine);
	return r;
}

static int measure_extent_size(struct bale_bench *b, size_t extent)
{
	bale_autofree struct bale_bench_extent *extents = NULL;
	struct measurement m;
	size_t nr;
	int r = bale_bench_cut(&b->data, extent, &extents, &nr);

	if (!r)
		r = measurement_init(&m, b, extents, nr, 0);
	if (r)
		return r;
	for (size_t e = 0; e < b->nr_engines && !r; e++)
		if (b->engines[e].measured)
			r = measure_engine(b, &m, &b->engines[e], extent);
	measurement_fini(&m);
	return r;
}

int bale_bench_engines(struct bale_bench *b)
{
	int r = 0;

	for (size_t i = 0; i < b->nr_extents && !r; i++)
		r = measure_extent_size(b, b->extents[i]);
	return r;
}

/* ---- every engine decodes what every engine has encoded ---- */

static int check_pair(struct bale_bench *b, struct measurement *m,
		      const struct bale_bench_engine *from,
		      const struct bale_bench_engine *to,
		      struct bale_codec_policy p)
{
	char text[BALE_BENCH_TEXT];
	uint64_t wrong;
	int r;

	ask_decode(m);
	r = run_pass(m, to->engine, m->decode);
	if (r)
		return r;
	wrong = count_wrong(m);
	b->pairs++;
	if (!wrong)
		return 0;
	b->wrong_pairs++;
	bale_codec_policy_text(p, text, sizeof(text));
	bale_cmd_error("%s: engine %s does not decode what %s encoded: %llu of "
		       "%zu extents",
		       text, to->name, from->name, (unsigned long long)wrong,
		       m->nr);
	return 0;
}

static int check_pairs(struct bale_bench *b, struct measurement *m)
{
	int r = 0;

	for (size_t c = 0; c < b->nr_codecs && !r; c++)
		for (size_t from = 0; from < b->nr_engines && !r; from++) {
			ask_encode(m, b->codecs[c]);
			r = run_pass(m, b->engines[from].engine, m->encode);
			for (size_t to = 0; to < b->nr_engines && !r; to++)
				r = check_pair(b, m, &b->engines[from],
					       &b->engines[to], b->codecs[c]);
		}
	return r;
}

/* Extents from all over the data, SAMPLE_MAX bytes or one at most. */
static size_t take_sample(struct bale_bench_extent *x, size_t nr, size_t len)
{
	size_t step = 1 + len / SAMPLE_MAX, n = 0;

	for (size_t i = 0; i < nr; i += step)
		x[n++] = x[i];
	return n;
}

int bale_bench_pairs(struct bale_bench *b)
{
	bale_autofree struct bale_bench_extent *extents = NULL;
	struct measurement m;
	size_t nr;
	int r = bale_bench_cut(&b->data, b->extents[0], &extents, &nr);

	if (r)
		return r;
	nr = take_sample(extents, nr, b->data.len);
	r = measurement_init(&m, b, extents, nr, SAMPLE_MAX);
	if (r)
		return r;
	r = check_pairs(b, &m);
	measurement_fini(&m);
	return r;
}
