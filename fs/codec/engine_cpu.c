/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of a machine without an accelerator: a pool of threads and two
 * queues of batches, one for each direction.
 *
 * A batch stays at the head of its queue while it has jobs that nobody took;
 * each worker takes one job at a time, so that all of them work on the oldest
 * batch and its last job ends as early as it can. A job takes 20 us or so, the
 * lock 50 ns: coarser shares would gain nothing. The worker that completes the
 * last job of a batch calls done() without the lock.
 *
 * Somebody waits for what is decoded, and a bale to be encoded is 100 ms of
 * work for two cores, so a worker takes from the decode queue first; every
 * ENCODE_TURN-th job comes from the other one, so that reading without end
 * does not stop writing. A batch counts as what its first job is.
 *
 * A queue is bounded in jobs: submit() waits while it is full, except on a
 * worker of this engine (a done() that submits again), which would wait for
 * itself. A batch larger than the bound is taken when the queue is empty.
 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/list.h"
#include "fs/base/thread.h"
#include "fs/codec/codec.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/cost.h"

static_assert(BALE_JOB_ENCODE == 0 && BALE_JOB_DECODE == 1, "queues by op");

enum {
	WORKERS_MAX = 1024,
	/* A bale of 64 MiB in 128 KiB extents is 512 jobs: enough that none
	   idles, small enough that a producer feels the brake. */
	QUEUED_PER_WORKER = 512,
	ENCODE_TURN = 8,
};

struct batch {
	struct bale_list node; /* in its queue while next < nr */
	struct bale_job *jobs;
	size_t nr, next, left; /* cpu.lock */
	bale_batch_done_fn *done;
	void *arg;
};

struct cpu {
	struct bale_engine engine;
	struct bale_mutex lock; /* all below; never held over a job or done() */
	struct bale_cond work;	/* a queue is not empty, or stop */
	struct queue {
		struct bale_list batches; /* oldest first */
		size_t nr_jobs;		  /* that nobody took */
		struct bale_cond room;	  /* nr_jobs has shrunk */
	} queues[2];			  /* by op */
	size_t queued_max;		  /* of each; const */
	unsigned int turn;
	bool stop; /* workers leave when the queues are empty */
	struct bale_engine_stats stats;
	struct bale_cost *cost;	 /* const after the first job; may be NULL */
	unsigned int nr_workers; /* const after create */
	pthread_t workers[];
};

static _Thread_local struct cpu *worker_of;

static struct queue *choose_queue_locked(struct cpu *c) BALE_REQUIRES(c->lock)
{
	bool encode_first = ++c->turn % ENCODE_TURN == 0;
	struct queue *first =
		&c->queues[encode_first ? BALE_JOB_ENCODE : BALE_JOB_DECODE];
	struct queue *second =
		&c->queues[encode_first ? BALE_JOB_DECODE : BALE_JOB_ENCODE];

	if (!bale_list_empty(&first->batches))
		return first;
	return bale_list_empty(&second->batches) ? NULL : second;
}

/* Take the next job; *ret is its batch. NULL: the pool is being destroyed. */
static struct bale_job *take_job_locked(struct cpu *c, struct batch **ret)
	BALE_REQUIRES(c->lock)
{
	struct bale_job *job;
	struct queue *q;
	struct batch *b;

	while (!(q = choose_queue_locked(c))) {
		if (c->stop)
			return NULL;
		bale_cond_wait(&c->work, &c->lock);
	}
	b = BALE_CONTAINER(q->batches.next, struct batch, node);
	job = &b->jobs[b->next++];
	if (b->next == b->nr)
		bale_list_del(&b->node);
	q->nr_jobs--;
	bale_cond_broadcast(&q->room);
	*ret = b;
	return job;
}

static void *worker_main(void *arg)
{
	struct cpu *c = arg;
	struct bale_job *job;
	struct batch *b;

	worker_of = c;
	bale_mutex_lock(&c->lock);
	while ((job = take_job_locked(c, &b))) {
		uint64_t busy = bale_now_ns();

		bale_mutex_unlock(&c->lock);
		bale_codec_run(job);
		busy = bale_now_ns() - busy;
		if (c->cost)
			bale_cost_note_job(c->cost, job, busy);
		bale_mutex_lock(&c->lock);
		bale_engine_account(&c->stats, job, busy);
		if (--b->left)
			continue;
		bale_mutex_unlock(&c->lock);
		b->done(b->arg);
		free(b);
		bale_mutex_lock(&c->lock);
	}
	bale_mutex_unlock(&c->lock);
	return NULL;
}

static int cpu_submit(struct bale_engine *e, struct bale_job *jobs, size_t nr,
		      bale_batch_done_fn *done, void *arg)
{
	struct cpu *c = (struct cpu *)e;
	struct queue *q;
	struct batch *b;

	if (!nr) {
		done(arg);
		return 0;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->jobs = jobs;
	b->nr = nr;
	b->left = nr;
	b->done = done;
	b->arg = arg;
	q = &c->queues[jobs->op == BALE_JOB_DECODE];
	bale_mutex_lock(&c->lock);
	while (q->nr_jobs && q->nr_jobs + nr > c->queued_max && worker_of != c)
		bale_cond_wait(&q->room, &c->lock);
	bale_list_push_back(&q->batches, &b->node);
	q->nr_jobs += nr;
	if (nr == 1)
		bale_cond_signal(&c->work);
	else
		bale_cond_broadcast(&c->work);
	bale_mutex_unlock(&c->lock);
	return 0;
}

static void cpu_stats(struct bale_engine *e, struct bale_engine_stats *ret)
{
	struct cpu *c = (struct cpu *)e;

	bale_mutex_lock(&c->lock);
	*ret = c->stats;
	bale_mutex_unlock(&c->lock);
}

/* Also of a pool whose creation failed half-way. */
static void cpu_destroy(struct bale_engine *e)
{
	struct cpu *c = (struct cpu *)e;

	bale_mutex_lock(&c->lock);
	c->stop = true;
	bale_cond_broadcast(&c->work);
	bale_mutex_unlock(&c->lock);
	for (unsigned int i = 0; i < c->nr_workers; i++)
		pthread_join(c->workers[i], NULL);
	for (int op = 0; op < 2; op++)
		bale_cond_fini(&c->queues[op].room);
	bale_cond_fini(&c->work);
	bale_mutex_fini(&c->lock);
	free(c);
}

static const struct bale_engine_ops cpu_ops = {
	.name = "cpu",
	.submit = cpu_submit,
	.stats = cpu_stats,
	.destroy = cpu_destroy,
};

void bale_engine_cpu_observe(struct bale_engine *e, struct bale_cost *cost)
{
	((struct cpu *)e)->cost = cost;
}

unsigned int bale_engine_cpu_workers(const struct bale_engine *e)
{
	return ((const struct cpu *)e)->nr_workers;
}

static unsigned int count_cores(void)
{
	cpu_set_t set;
	long n;

	/* As nproc(1): those that this process may use. */
	if (!sched_getaffinity(0, sizeof(set), &set))
		return (unsigned int)CPU_COUNT(&set);
	n = sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned int)n;
}

int bale_engine_cpu_create(unsigned int nr_workers, struct bale_engine **ret)
{
	struct cpu *c;

	if (nr_workers > WORKERS_MAX)
		return -EINVAL;
	if (!nr_workers)
		nr_workers = count_cores();
	c = calloc(1, sizeof(*c) + nr_workers * sizeof(c->workers[0]));
	if (!c)
		return -ENOMEM;
	c->engine.ops = &cpu_ops;
	c->queued_max = (size_t)QUEUED_PER_WORKER * nr_workers;
	bale_mutex_init(&c->lock);
	bale_cond_init(&c->work);
	for (int op = 0; op < 2; op++) {
		bale_cond_init(&c->queues[op].room);
		bale_list_init(&c->queues[op].batches);
	}
	for (; c->nr_workers < nr_workers; c->nr_workers++) {
		char name[16];
		int r;

		snprintf(name, sizeof(name), "bale-cpu-%u",
			 c->nr_workers % WORKERS_MAX);
		r = bale_thread_start(&c->workers[c->nr_workers], name,
				      worker_main, c);
		if (r) {
			cpu_destroy(&c->engine);
			return r;
		}
	}
	*ret = &c->engine;
	return 0;
}
