/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaner gives dead space back, cheapest way first: a segment with nothing
 * live is removed; dead payload of a sealed segment is punched out of the file;
 * what lives in a nearly empty segment is copied to a new bale, as stored
 * bytes, and the segment removed after the commit.
 *
 * A crash brings back the state of the last durable record, which must find its
 * bytes: so nothing is destroyed that died later than that. An extent that is
 * dead at a place is dead there for good; it is enough to look at a segment's
 * dead_seq once more after everything that will be destroyed has been found.
 *
 * One pass runs at a time (`lock`). The thread wakes every PERIOD, or when
 * told; a pass that finds nothing to do sleeps again, and a segment that was
 * worked on is left alone until more of it has died: it never spins. Copying
 * is for when space is short, or nobody appends, and bounded per pass.
 */
#include "fs/store/cleaner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"

#define PERIOD_NS ((uint64_t)5 * 1000000000u)
#define EAGER_NS  ((uint64_t)30 * 1000000u)

enum {
	/* Copied when less than this part of the bytes lives: without holes
	 * half of the segment is won, with them only a file. */
	COPY_PERCENT = 50,
	COPY_PERCENT_PUNCHED = 12,
	PASS_IDLE = 64 << 20, /* bytes copied per pass */
	PASS_SHORT = 256 << 20,
};

struct bale_cleaner {
	struct bale_mutex lock;	      /* one pass at a time */
	struct bale_mutex state_lock; /* stats, stop, woken */
	struct bale_cond cond;
	struct bale_cleaner_stats stats;
	bool stop, woken;
	bool running;		/* const after create: there is a thread */
	bool no_punch;		/* lock: the backing filesystem cannot */
	uint64_t last_activity; /* lock: of segments, at the last pass */
	pthread_t thread;
};

static void set_state(struct bale_cleaner *c, const char *what, uint64_t seg)
{
	bale_mutex_lock(&c->state_lock);
	if (seg == UINT64_MAX)
		snprintf(c->stats.state, sizeof(c->stats.state), "%s", what);
	else
		snprintf(c->stats.state, sizeof(c->stats.state),
			 "%s segment %" PRIu64, what, seg);
	bale_mutex_unlock(&c->state_lock);
}

static void count(struct bale_cleaner *c, uint64_t freed_segs, uint64_t freed,
		  uint64_t copied, uint64_t punched)
{
	bale_mutex_lock(&c->state_lock);
	c->stats.segments_freed += freed_segs;
	c->stats.bytes_freed += freed;
	c->stats.bytes_copied += copied;
	c->stats.bytes_punched += punched;
	bale_mutex_unlock(&c->state_lock);
}

static bool stopping(struct bale_cleaner *c)
{
	bool stop;

	bale_mutex_lock(&c->state_lock);
	stop = c->stop;
	bale_mutex_unlock(&c->state_lock);
	return stop;
}

/* ---- a pass ---- */

struct pass {
	struct bale_store *st;
	struct bale_cleaner *c;
	struct bale_seg_info *v;
	size_t nr;
	bool worked;
	int first; /* error */
};

/* One damaged segment keeps its space; the others go on. */
static void note(struct pass *p, const struct bale_seg_info *g, int err)
{
	if (!err)
		return;
	if (err != -ENOSPC && err != -EBUSY)
		bale_warn("cleaner: segment %" PRIu64 " stays: %s", g->segment,
			  strerror(-err));
	if (!p->first)
		p->first = err;
}

static void delete_segment(struct pass *p, const struct bale_seg_info *g)
{
	int r;

	set_state(p->c, "removing", g->segment);
	r = bale_segs_delete(p->st, g->segment);
	if (r) {
		note(p, g, r);
		return;
	}
	p->worked = true;
	count(p->c, 1, g->used, 0, 0);
}

static bool may_work(const struct pass *p, const struct bale_seg_info *g)
{
	return !g->open && g->dead_seq <= bale_meta_durable(p->st->meta) &&
	       !stopping(p->c) && !bale_store_error(p->st);
}

static void punch_segment(struct pass *p, const struct bale_seg_info *g)
{
	uint64_t punched = 0;
	int r;

	set_state(p->c, "punching", g->segment);
	r = bale_clean_punch(p->st, g, &punched);
	if (r == -EOPNOTSUPP)
		p->c->no_punch = true;
	else
		note(p, g, r);
	/* Damaged or not: looked at again when more of it has died. */
	bale_segs_mark_cleaned(p->st, g->segment, g->live);
	count(p->c, 0, 0, 0, punched);
	p->worked |= punched > 0;
}

static void delete_and_punch(struct pass *p)
{
	for (size_t i = 0; i < p->nr; i++) {
		const struct bale_seg_info *g = &p->v[i];

		if (!may_work(p, g))
			continue;
		if (!g->live)
			delete_segment(p, g);
		else if (!g->cleaned && !p->c->no_punch &&
			 g->used - g->live >= BALE_PUNCH_MIN)
			punch_segment(p, g);
	}
}

static int compare_live(const void *a, const void *b)
{
	const struct bale_seg_info *x = a, *y = b;

	return x->live < y->live ? -1 : x->live > y->live;
}

/* The emptiest first, up to `budget` bytes. */
static void copy_emptiest(struct pass *p, uint64_t budget)
{
	uint64_t percent = p->c->no_punch ? COPY_PERCENT : COPY_PERCENT_PUNCHED;

	qsort(p->v, p->nr, sizeof(*p->v), compare_live);
	for (size_t i = 0; i < p->nr; i++) {
		const struct bale_seg_info *g = &p->v[i];
		uint64_t copied = 0;
		int r;

		if (!g->live || g->live * 100 >= g->used * percent ||
		    g->stuck || !may_work(p, g))
			continue;
		if (g->live > budget)
			return;
		budget -= g->live;
		set_state(p->c, "copying", g->segment);
		r = bale_clean_copy(p->st, g, &copied);
		count(p->c, 0, 0, copied, 0);
		note(p, g, r);
		p->worked |= copied > 0;
		/* What is left is damaged: the next try would end as this. */
		if (r != -ENOSPC && (r || !copied))
			bale_segs_mark_stuck(p->st, g->segment, g->live);
		if (r == -ENOSPC)
			return;
	}
}

static int run_pass(struct bale_store *st, struct bale_cleaner *c,
		    uint64_t budget, bool *ret_worked)
{
	struct pass p = { .st = st, .c = c };
	int r = bale_segs_list(st, &p.v, &p.nr);

	*ret_worked = false;
	if (r)
		return r;
	delete_and_punch(&p);
	if (budget)
		copy_emptiest(&p, budget);
	free(p.v);
	*ret_worked = p.worked;
	if (p.first == -ENOSPC)
		set_state(c, "no space to copy to", UINT64_MAX);
	else if (p.first)
		set_state(c, strerror(-p.first), UINT64_MAX);
	else
		set_state(c, "idle", UINT64_MAX);
	return bale_store_error(st);
}

int bale_cleaner_run(struct bale_store *st, uint64_t target)
{
	/* Move, delete, and once more for what lay between two rounds. */
	enum { ROUNDS = 4 };
	struct bale_cleaner *c = st->cleaner;
	uint64_t total, left = 0;
	bool worked = true;
	int r = 0;

	if (!c)
		return -EROFS;
	bale_mutex_lock(&c->lock);
	for (int round = 0; !r && worked && round < ROUNDS; round++) {
		r = run_pass(st, c, round ? UINT64_MAX : 0, &worked);
		/* What was moved away is dead once the move is durable. */
		if (!r)
			r = bale_meta_sync(st->meta, 0);
		if (!r && target &&
		    !BALE_IO(st->io)->space(st->io, &total, &left) &&
		    left >= target)
			break;
		worked |= !round; /* the first does not copy */
	}
	bale_mutex_unlock(&c->lock);
	return r;
}

/* Armed by tests: it looks often, and copies as if nobody appended. */
static bool eager(void)
{
	return BALE_FAULT("cleaner.eager") != 0;
}

/* What a pass of the thread may copy. */
static uint64_t pass_budget_locked(struct bale_store *st,
				   struct bale_cleaner *c)
{
	uint64_t total = 0, left = 0, activity = bale_segs_activity(st);
	bool idle = activity == c->last_activity;

	c->last_activity = activity;
	if (BALE_IO(st->io)->space(st->io, &total, &left))
		return 0;
	if (left < total / 10)
		return PASS_SHORT;
	return idle || eager() ? PASS_IDLE : 0;
}

static void periodic(struct bale_store *st, struct bale_cleaner *c)
{
	bool worked;

	bale_mutex_lock(&c->lock);
	if (!bale_store_error(st)) {
		bale_space_idle(st);
		run_pass(st, c, pass_budget_locked(st, c), &worked);
		/* Our own appends are no sign of a busy device. */
		c->last_activity = bale_segs_activity(st);
	} else {
		set_state(c, "stopped: the store has failed", UINT64_MAX);
	}
	bale_mutex_unlock(&c->lock);
}

static void *cleaner_main(void *arg)
{
	struct bale_store *st = arg;
	struct bale_cleaner *c = st->cleaner;

	bale_mutex_lock(&c->state_lock);
	while (!c->stop) {
		if (!c->woken)
			bale_cond_wait_for(&c->cond, &c->state_lock,
					   eager() ? EAGER_NS : PERIOD_NS);
		c->woken = false;
		if (c->stop)
			break;
		bale_mutex_unlock(&c->state_lock);
		periodic(st, c);
		bale_mutex_lock(&c->state_lock);
	}
	bale_mutex_unlock(&c->state_lock);
	return NULL;
}

int bale_cleaner_create(struct bale_store *st, struct bale_cleaner **ret)
{
	struct bale_cleaner *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return -ENOMEM;
	bale_mutex_init(&c->lock);
	bale_mutex_init(&c->state_lock);
	bale_cond_init(&c->cond);
	strcpy(c->stats.state, "idle");
	*ret = c; /* the thread reads it through the store */
	if (!st->manual) {
		r = bale_thread_start(&c->thread, "bale-cleaner", cleaner_main,
				      st);
		c->running = !r;
	}
	return r;
}

void bale_cleaner_destroy(struct bale_cleaner *c)
{
	if (!c)
		return;
	bale_mutex_lock(&c->state_lock);
	c->stop = true;
	bale_cond_signal(&c->cond);
	bale_mutex_unlock(&c->state_lock);
	if (c->running)
		pthread_join(c->thread, NULL);
	bale_cond_fini(&c->cond);
	bale_mutex_fini(&c->state_lock);
	bale_mutex_fini(&c->lock);
	free(c);
}

void bale_cleaner_wake(struct bale_store *st)
{
	struct bale_cleaner *c = st->cleaner;

	if (!c)
		return;
	bale_mutex_lock(&c->state_lock);
	c->woken = true;
	bale_cond_signal(&c->cond);
	bale_mutex_unlock(&c->state_lock);
}

void bale_cleaner_stats(struct bale_store *st, struct bale_cleaner_stats *ret)
{
	struct bale_cleaner *c = st->cleaner;

	memset(ret, 0, sizeof(*ret));
	if (!c)
		return;
	bale_mutex_lock(&c->state_lock);
	*ret = c->stats;
	bale_mutex_unlock(&c->state_lock);
}
