/* SPDX-License-Identifier: Apache-2.0 */
/* The engines as queues: completion, order, bounds, threads, statistics. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/thread.h"
#include "fs/codec/codec.h"

enum { LEN = 4096 };

static int create_serial(unsigned int n, struct bale_engine **ret)
{
	(void)n;
	return bale_engine_serial_create(ret);
}

static int (*const creators[])(unsigned int n, struct bale_engine **ret) = {
	create_serial,
	bale_engine_cpu_create,
};

static struct bale_engine *create(size_t kind, unsigned int nr_workers)
{
	struct bale_engine *e = NULL;

	assert_int_equal(creators[kind](nr_workers, &e), 0);
	assert_non_null(e);
	return e;
}

/* nr raw copies out of one source into one array of LEN bytes each. */
struct copies {
	struct bale_job *jobs;
	uint8_t *src, *dst;
	size_t nr;
	atomic_uint nr_done;
};

static void copies_init(struct copies *c, size_t nr)
{
	c->nr = nr;
	c->nr_done = 0;
	c->jobs = calloc(nr, sizeof(*c->jobs));
	c->src = malloc(nr * LEN);
	c->dst = calloc(nr, LEN);
	assert_true(c->jobs && c->src && c->dst);
	for (size_t i = 0; i < nr * LEN; i++)
		c->src[i] = (uint8_t)(i * 31 + i / LEN);
	for (size_t i = 0; i < nr; i++)
		c->jobs[i] = (struct bale_job){
			.op = BALE_JOB_DECODE,
			.codec = BALE_CODEC_raw,
			.src = c->src + i * LEN,
			.src_len = LEN,
			.dst = c->dst + i * LEN,
			.dst_cap = LEN,
			.status = -1,
			.cookie = &c->jobs[i],
		};
}

static void copies_check(const struct copies *c)
{
	assert_int_equal(c->nr_done, 1);
	assert_memory_equal(c->src, c->dst, c->nr * LEN);
	for (size_t i = 0; i < c->nr; i++) {
		assert_int_equal(c->jobs[i].status, 0);
		assert_ptr_equal(c->jobs[i].cookie, &c->jobs[i]);
	}
}

static void copies_fini(struct copies *c)
{
	free(c->jobs);
	free(c->src);
	free(c->dst);
}

static void copies_done(void *arg)
{
	struct copies *c = arg;

	/* Every job of the batch is complete by now. */
	for (size_t i = 0; i < c->nr; i++)
		if (c->jobs[i].status)
			return;
	atomic_fetch_add(&c->nr_done, 1);
}

static void destroy_completes_what_is_queued(void **state)
{
	enum { BATCHES = 50 };
	static struct copies c[BATCHES];

	(void)state;
	for (size_t kind = 0; kind < 2; kind++) {
		struct bale_engine *e = create(kind, 2);

		for (size_t i = 0; i < BATCHES; i++) {
			copies_init(&c[i], i % 7 + 1);
			assert_int_equal(e->ops->submit(e, c[i].jobs, c[i].nr,
							copies_done, &c[i]),
					 0);
		}
		bale_engine_destroy(e);
		for (size_t i = 0; i < BATCHES; i++) {
			copies_check(&c[i]);
			copies_fini(&c[i]);
		}
	}
	bale_engine_destroy(NULL);
}

static void an_empty_batch_is_done(void **state)
{
	struct copies none = { .nr = 0 };

	(void)state;
	for (size_t kind = 0; kind < 2; kind++) {
		struct bale_engine *e = create(kind, 1);

		none.nr_done = 0;
		assert_int_equal(e->ops->submit(e, NULL, 0, copies_done, &none),
				 0);
		assert_int_equal(none.nr_done, 1);
		assert_int_equal(bale_engine_run(e, NULL, 0), 0);
		bale_engine_destroy(e);
	}
}

static void one_bad_job_fails_alone(void **state)
{
	struct copies c;

	(void)state;
	for (size_t kind = 0; kind < 2; kind++) {
		struct bale_engine *e = create(kind, 2);
		struct bale_engine_stats st;

		copies_init(&c, 9);
		c.jobs[4].codec = BALE_CODEC_zstd;
		c.jobs[7].codec = BALE_CODEC_planes;
		assert_int_equal(bale_engine_run(e, c.jobs, c.nr), 0);
		for (size_t i = 0; i < c.nr; i++)
			assert_int_equal(c.jobs[i].status,
					 i == 4 ? -EUCLEAN :
					 i == 7 ? -EOPNOTSUPP :
						  0);
		e->ops->stats(e, &st);
		assert_int_equal(st.jobs[BALE_JOB_DECODE], 9);
		assert_int_equal(st.jobs[BALE_JOB_ENCODE], 0);
		assert_int_equal(st.bytes_in[BALE_JOB_DECODE], 9 * LEN);
		assert_int_equal(st.bytes_out[BALE_JOB_DECODE], 7 * LEN);
		assert_int_equal(st.failed, 2);
		assert_true(st.busy_ns[BALE_JOB_DECODE] > 0);
		assert_int_equal(st.busy_ns[BALE_JOB_ENCODE], 0);
		bale_engine_destroy(e);
		copies_fini(&c);
	}
}

/* More jobs than the queue's bound, in one batch. */
static void a_batch_beyond_the_bound(void **state)
{
	struct bale_engine *e = create(1, 1);
	struct copies c;

	(void)state;
	copies_init(&c, 5000);
	assert_int_equal(e->ops->submit(e, c.jobs, c.nr, copies_done, &c), 0);
	bale_engine_destroy(e);
	copies_check(&c);
	copies_fini(&c);
}

struct producer {
	struct bale_engine *engine;
	pthread_t thread;
};

enum { PRODUCERS = 4, ROUNDS = 60 };

/* Some batches waited for, some not, some larger than all that fits. */
static void *produce(void *arg)
{
	struct producer *p = arg;
	struct copies c[ROUNDS];
	struct bale_engine *e = p->engine;

	for (size_t i = 0; i < ROUNDS; i++) {
		copies_init(&c[i], 1 + i * 37 % 300);
		if (i % 3) {
			if (e->ops->submit(e, c[i].jobs, c[i].nr, copies_done,
					   &c[i]))
				abort();
			continue;
		}
		if (bale_engine_run(e, c[i].jobs, c[i].nr))
			abort();
		copies_done(&c[i]);
	}
	for (size_t i = 0; i < ROUNDS; i++) {
		while (!atomic_load(&c[i].nr_done))
			usleep(1000);
		copies_check(&c[i]);
		copies_fini(&c[i]);
	}
	return NULL;
}

static void many_producers(void **state)
{
	struct producer p[PRODUCERS];

	(void)state;
	for (size_t kind = 0; kind < 2; kind++) {
		struct bale_engine *e = create(kind, 3);
		struct bale_engine_stats st;
		uint64_t want = 0;

		for (size_t i = 0; i < PRODUCERS; i++) {
			p[i].engine = e;
			assert_int_equal(pthread_create(&p[i].thread, NULL,
							produce, &p[i]),
					 0);
		}
		for (size_t i = 0; i < PRODUCERS; i++)
			assert_int_equal(pthread_join(p[i].thread, NULL), 0);
		for (size_t i = 0; i < ROUNDS; i++)
			want += PRODUCERS * (1 + i * 37 % 300);
		/* Also while the last worker is on its way out of done(). */
		e->ops->stats(e, &st);
		assert_int_equal(st.jobs[BALE_JOB_DECODE], want);
		bale_engine_destroy(e);
	}
}

/* ---- a done() that submits more than the queue takes ---- */

enum { BEYOND_THE_BOUND = 1200 };

struct more {
	struct bale_engine *engine;
	struct copies first, next[2];
};

static void submit_more(void *arg)
{
	struct more *m = arg;

	/* The second one finds the queue full, and this is its only worker. */
	for (size_t i = 0; i < 2; i++)
		if (m->engine->ops->submit(m->engine, m->next[i].jobs,
					   m->next[i].nr, copies_done,
					   &m->next[i]))
			abort();
	copies_done(&m->first);
}

static void done_may_submit(void **state)
{
	struct more m;

	(void)state;
	for (size_t kind = 0; kind < 2; kind++) {
		m.engine = create(kind, 1);
		copies_init(&m.first, 1);
		copies_init(&m.next[0], BEYOND_THE_BOUND);
		copies_init(&m.next[1], BEYOND_THE_BOUND);
		assert_int_equal(m.engine->ops->submit(m.engine, m.first.jobs,
						       1, submit_more, &m),
				 0);
		bale_engine_destroy(m.engine);
		copies_check(&m.first);
		copies_fini(&m.first);
		for (size_t i = 0; i < 2; i++) {
			copies_check(&m.next[i]);
			copies_fini(&m.next[i]);
		}
	}
}

/* ---- a batch is spread over the workers ---- */

struct gate {
	struct bale_mutex lock;
	struct bale_cond cond;
	unsigned int inside, together; /* lock */
};

static void gate_done(void *arg)
{
	struct gate *g = arg;

	/* Holds its worker until the other one is here too. */
	bale_mutex_lock(&g->lock);
	if (++g->inside == g->together)
		bale_cond_broadcast(&g->cond);
	while (g->inside < g->together)
		bale_cond_wait(&g->cond, &g->lock);
	bale_mutex_unlock(&g->lock);
}

static void workers_work_at_once(void **state)
{
	struct gate g = { .inside = 0, .together = 4 };
	struct bale_engine *e = create(1, 4);
	struct copies c;

	(void)state;
	bale_mutex_init(&g.lock);
	bale_cond_init(&g.cond);
	copies_init(&c, 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(
			e->ops->submit(e, &c.jobs[i], 1, gate_done, &g), 0);
	/* Hangs if fewer than four workers run. */
	bale_engine_destroy(e);
	assert_int_equal(g.inside, 4);
	copies_fini(&c);
	bale_cond_fini(&g.cond);
	bale_mutex_fini(&g.lock);
}

/* ---- a read does not wait for a bale ---- */

struct order {
	atomic_uint *clock;
	unsigned int when;
};

static void note_when(void *arg)
{
	struct order *o = arg;

	o->when = atomic_fetch_add(o->clock, 1) + 1;
}

static void decode_overtakes_encode(void **state)
{
	enum { BALES = 20 };
	struct gate g = { .inside = 0, .together = 2 };
	struct bale_engine *e = create(1, 1);
	struct order order[BALES + 1];
	atomic_uint clock = 0;
	struct copies first, c[BALES + 1];

	(void)state;
	bale_mutex_init(&g.lock);
	bale_cond_init(&g.cond);
	copies_init(&first, 1);
	/* The only worker stays in here until all is queued. */
	assert_int_equal(e->ops->submit(e, first.jobs, 1, gate_done, &g), 0);
	for (size_t i = 0; i <= BALES; i++) {
		copies_init(&c[i], 1);
		order[i] = (struct order){ &clock, 0 };
		if (i < BALES) {
			c[i].jobs->op = BALE_JOB_ENCODE;
			c[i].jobs->src_len = LEN / 2;
		}
		assert_int_equal(
			e->ops->submit(e, c[i].jobs, 1, note_when, &order[i]),
			0);
	}
	gate_done(&g);
	bale_engine_destroy(e);
	/* The read came last; at most one encode had its turn before it. */
	assert_in_range(order[BALES].when, 1, 2);
	for (size_t i = 0; i + 1 < BALES; i++)
		assert_true(order[i].when < order[i + 1].when);
	for (size_t i = 0; i <= BALES; i++)
		copies_fini(&c[i]);
	copies_fini(&first);
	bale_cond_fini(&g.cond);
	bale_mutex_fini(&g.lock);
}

static void reading_does_not_stop_writing(void **state)
{
	struct bale_engine *e = create(1, 1);
	struct order write_order, read_order;
	atomic_uint clock = 0;
	struct copies reads, one;

	(void)state;
	copies_init(&reads, 400);
	copies_init(&one, 1);
	one.jobs->op = BALE_JOB_ENCODE;
	one.jobs->src_len = LEN / 2;
	write_order = (struct order){ &clock, 0 };
	read_order = (struct order){ &clock, 0 };
	/* Slow enough that the write is queued long before the reads end. */
	for (size_t i = 0; i < reads.nr; i++) {
		reads.jobs[i].op = BALE_JOB_DECODE;
		reads.jobs[i].src = reads.src;
		reads.jobs[i].dst = reads.dst;
		reads.jobs[i].src_len = reads.nr * LEN;
		reads.jobs[i].dst_cap = reads.nr * LEN;
	}
	assert_int_equal(
		e->ops->submit(e, reads.jobs, reads.nr, note_when, &read_order),
		0);
	assert_int_equal(
		e->ops->submit(e, one.jobs, 1, note_when, &write_order), 0);
	bale_engine_destroy(e);
	assert_int_equal(write_order.when, 1);
	assert_int_equal(read_order.when, 2);
	copies_fini(&reads);
	copies_fini(&one);
}

/* ---- contexts go with their threads ---- */

static void *encode_once(void *arg)
{
	static const char text[] = "one two one two one two one two one two "
				   "one two one two one two one two three.";
	struct bale_codec_policy p = { BALE_CODEC_zstd, 0 };
	uint8_t out[1024], back[sizeof(text)];
	struct bale_job enc = {
		.op = BALE_JOB_ENCODE,
		.codec = p.codec,
		.src = text,
		.src_len = sizeof(text),
		.dst = out,
		.dst_cap = sizeof(out),
	};
	struct bale_job dec = {
		.op = BALE_JOB_DECODE,
		.dst = back,
		.dst_cap = sizeof(back),
	};

	bale_codec_run(&enc);
	dec.codec = enc.ret_codec;
	dec.src = enc.dst;
	dec.src_len = enc.len;
	bale_codec_run(&dec);
	if (enc.ret_codec == BALE_CODEC_zstd && !dec.status &&
	    !memcmp(back, text, sizeof(text)))
		*(bool *)arg = true;
	return NULL;
}

static size_t heap_in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

/* 300 threads one after the other: their contexts, left behind, would be more
 * than 150 MB. (Under a sanitizer its leak check says so instead.) */
static void threads_leave_nothing(void **state)
{
	size_t before = heap_in_use();

	(void)state;
	for (int i = 0; i < 300; i++) {
		bool good = false;
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, encode_once, &good),
				 0);
		assert_int_equal(pthread_join(t, NULL), 0);
		assert_true(good);
	}
	assert_true(heap_in_use() < before + (8 << 20));
}

static void creation(void **state)
{
	struct bale_engine *e = NULL;

	(void)state;
	assert_int_equal(bale_engine_cpu_create(100000, &e), -EINVAL);
	assert_null(e);
	e = create(1, 0);
	assert_string_equal(e->ops->name, "cpu");
	bale_engine_destroy(e);
	e = create(0, 0);
	assert_string_equal(e->ops->name, "serial");
	bale_engine_destroy(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(destroy_completes_what_is_queued),
		cmocka_unit_test(an_empty_batch_is_done),
		cmocka_unit_test(one_bad_job_fails_alone),
		cmocka_unit_test(a_batch_beyond_the_bound),
		cmocka_unit_test(many_producers),
		cmocka_unit_test(done_may_submit),
		cmocka_unit_test(workers_work_at_once),
		cmocka_unit_test(decode_overtakes_encode),
		cmocka_unit_test(reading_does_not_stop_writing),
		cmocka_unit_test(threads_leave_nothing),
		cmocka_unit_test(creation),
	};

	return cmocka_run_group_tests_name("codec engine", tests, NULL, NULL);
}
