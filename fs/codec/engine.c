/* SPDX-License-Identifier: Apache-2.0 */
/* What every engine on CPUs shares: one job with its account, submit and wait,
 * and the serial engine, which has nothing else. */
#include <errno.h>
#include <stdlib.h>

#include "fs/base/clock.h"
#include "fs/base/mem.h"
#include "fs/base/thread.h"
#include "fs/codec/codec.h"
#include "fs/codec/codec_impl.h"

enum { WIDTH_DEFAULT = 2 };

struct serial {
	struct bale_engine engine;
	struct bale_mutex lock;		/* stats; innermost */
	struct bale_engine_stats stats; /* lock */
};

void bale_engine_account(struct bale_engine_stats *st,
			 const struct bale_job *job, uint64_t busy_ns)
{
	unsigned int op = job->op == BALE_JOB_DECODE;

	st->jobs[op]++;
	st->bytes_in[op] += job->src_len;
	st->bytes_out[op] += job->len;
	st->busy_ns[op] += busy_ns;
	st->failed += job->status != 0;
}

static int serial_submit(struct bale_engine *e, struct bale_job *jobs,
			 size_t nr, bale_batch_done_fn *done, void *arg)
{
	struct serial *s = (struct serial *)e;

	for (size_t i = 0; i < nr; i++) {
		uint64_t start = bale_now_ns();

		bale_codec_run(&jobs[i]);
		bale_mutex_lock(&s->lock);
		bale_engine_account(&s->stats, &jobs[i], bale_now_ns() - start);
		bale_mutex_unlock(&s->lock);
	}
	done(arg);
	return 0;
}

static void serial_stats(struct bale_engine *e, struct bale_engine_stats *ret)
{
	struct serial *s = (struct serial *)e;

	bale_mutex_lock(&s->lock);
	*ret = s->stats;
	bale_mutex_unlock(&s->lock);
}

static void serial_destroy(struct bale_engine *e)
{
	struct serial *s = (struct serial *)e;

	bale_mutex_fini(&s->lock);
	free(s);
}

static const struct bale_engine_ops serial_ops = {
	.name = "serial",
	.submit = serial_submit,
	.stats = serial_stats,
	.destroy = serial_destroy,
};

int bale_engine_serial_create(struct bale_engine **ret)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->engine.ops = &serial_ops;
	bale_mutex_init(&s->lock);
	*ret = &s->engine;
	return 0;
}

struct wait {
	struct bale_mutex lock; /* complete; innermost */
	struct bale_cond cond;
	bool complete; /* lock */
};

static void wait_done(void *arg)
{
	struct wait *w = arg;

	/* Signal under the lock: the waiter may free it as soon as it can. */
	bale_mutex_lock(&w->lock);
	w->complete = true;
	bale_cond_signal(&w->cond);
	bale_mutex_unlock(&w->lock);
}

int bale_engine_run(struct bale_engine *e, struct bale_job *jobs, size_t nr)
{
	struct wait w = { .complete = false };
	int r;

	bale_mutex_init(&w.lock);
	bale_cond_init(&w.cond);
	r = e->ops->submit(e, jobs, nr, wait_done, &w);
	if (!r) {
		bale_mutex_lock(&w.lock);
		while (!w.complete)
			bale_cond_wait(&w.cond, &w.lock);
		bale_mutex_unlock(&w.lock);
	}
	bale_cond_fini(&w.cond);
	bale_mutex_fini(&w.lock);
	return r;
}

unsigned int bale_engine_width(const struct bale_engine *e)
{
	return e->ops->width ? e->ops->width : WIDTH_DEFAULT;
}

void bale_engine_pin(struct bale_engine *e, void *p, size_t len, bool now)
{
	if (e->ops->pin)
		e->ops->pin(e, p, len, now);
}

void bale_engine_unpin(struct bale_engine *e, void *p)
{
	if (e->ops->unpin)
		e->ops->unpin(e, p);
}

void bale_engine_destroy(struct bale_engine *e)
{
	if (e)
		e->ops->destroy(e);
}
