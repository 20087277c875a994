/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaner gives dead space back (clean_pass.c tells how). Here is when.
 *
 * The thread wakes every PERIOD, and when as much has died as an eighth of what
 * is free: it works as fast as writers use up the disk, and long before they
 * have to wait for it. A pass that finds nothing to do sleeps again, and a
 * segment that was worked on is left alone until more of it has died: it never
 * spins. Copying is bounded by what died, more of it when nobody appends or
 * space is short.
 *
 * One pass runs at a time (`lock`). A writer that finds no room runs passes
 * itself, each until it has its room; the thread's ends for it within a batch.
 */
#include "fs/store/cleaner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"

#define PERIOD_NS ((uint64_t)5 * 1000000000u)
#define EAGER_NS  ((uint64_t)30 * 1000000u)

enum {
	/* Less of a segment's blocks live: it is copied. */
	PERCENT = 50,
	PERCENT_SHORT = 65,
	/* Without holes nothing else gives space back. */
	PERCENT_QUIET_NO_PUNCH = 75,
	PERCENT_SHORT_NO_PUNCH = 95,
	PASS_IDLE = 64 << 20, /* bytes copied per pass */
	PASS_MIN = 1 << 20,
	/* A tenth of the disk is short, but not more than this. */
	SHORT_MAX = 1 << 30,
	WAKE_PART = 8, /* of what is free */
	WAKE_MIN = 1 << 20,
	WAKE_MAX = 64 << 20,
	/* Move, delete, and once more for what lay between two rounds. */
	ROUNDS = 4,
	GIVE_WAY_US = 1000,
	WORTH_APPLYING = 1 << 20,
};

void bale_cleaner_set_state(struct bale_cleaner *c, const char *text)
{
	bale_mutex_lock(&c->state_lock);
	snprintf(c->stats.state, sizeof(c->stats.state), "%s", text);
	bale_mutex_unlock(&c->state_lock);
}

void bale_cleaner_count(struct bale_cleaner *c, uint64_t freed_segs,
			uint64_t freed, uint64_t copied, uint64_t punched)
{
	bale_mutex_lock(&c->state_lock);
	c->stats.segments_freed += freed_segs;
	c->stats.bytes_freed += freed;
	c->stats.bytes_copied += copied;
	c->stats.bytes_punched += punched;
	bale_mutex_unlock(&c->state_lock);
}

bool bale_cleaner_wanted(struct bale_cleaner *c)
{
	bool stop;

	if (atomic_load(&c->waiting))
		return true;
	bale_mutex_lock(&c->state_lock);
	stop = c->stop;
	bale_mutex_unlock(&c->state_lock);
	return stop;
}

/* ---- when asked to ---- */

struct target {
	uint64_t left;
};

static bool is_left(struct bale_store *st, void *arg)
{
	const struct target *t = arg;
	uint64_t total, left;

	return !BALE_IO(st->io)->space(st->io, &total, &left) &&
	       left >= t->left;
}

/* A writer that waits for room comes first. */
static bool give_way_locked(struct bale_cleaner *c) BALE_REQUIRES(c->lock)
{
	if (!atomic_load(&c->waiting))
		return false;
	bale_mutex_unlock(&c->lock);
	usleep(GIVE_WAY_US);
	bale_mutex_lock(&c->lock);
	return true;
}

int bale_cleaner_run(struct bale_store *st, uint64_t target)
{
	struct bale_cleaner *c = st->cleaner;
	struct target t = { target };
	struct bale_clean_goal goal = { .percent = PERCENT,
					.tight = true,
					.yields = true,
					.enough = target ? is_left : NULL,
					.arg = &t };
	bool worked = true;
	int r = 0;

	if (!c)
		return -EROFS;
	bale_mutex_lock(&c->lock);
	for (int round = 0; !r && worked && round < ROUNDS; round++) {
		goal.copy = round ? UINT64_MAX : 0;
		r = bale_clean_pass(st, &goal, &worked);
		/* What was moved away is dead once the move is durable. */
		if (!r)
			r = bale_meta_sync(st->meta, 0);
		if (!r && target && is_left(st, &t))
			break;
		worked |= !round;	  /* the first does not copy */
		if (give_way_locked(c)) { /* this one was no whole round */
			worked = true;
			round--;
		}
	}
	bale_mutex_unlock(&c->lock);
	return r;
}

/* ---- for a writer ---- */

struct room {
	bale_room_fn *try;
	uint64_t bytes;
	int r; /* of the last try */
};

static bool has_room(struct bale_store *st, void *arg)
{
	struct room *room = arg;

	if (room->r == -ENOSPC)
		room->r = room->try(st, room->bytes);
	return room->r != -ENOSPC;
}

static void clean_for(struct bale_store *st, struct room *room)
{
	struct bale_clean_goal goal = { .percent = PERCENT_SHORT,
					.commit = true,
					.tight = true,
					.enough = has_room,
					.arg = room };
	bool worked = true;
	int r = 0;

	if (st->cleaner->no_punch)
		goal.percent = PERCENT_SHORT_NO_PUNCH;
	for (int round = 0; !r && worked && round < ROUNDS; round++) {
		if (has_room(st, room))
			return;
		/* Applied, it takes the room that it takes, not the most it
		 * may. */
		if (round == 1 &&
		    bale_meta_unapplied(st->meta) > WORTH_APPLYING) {
			bale_meta_apply(st->meta);
			if (has_room(st, room))
				return;
		}
		goal.copy = round ? UINT64_MAX : 0;
		r = bale_clean_pass(st, &goal, &worked);
		if (room->r != -ENOSPC)
			return;
		if (!r)
			r = bale_meta_sync(st->meta, 0);
		worked |= !round;
	}
	has_room(st, room);
}

static void count_wait(struct bale_cleaner *c, uint64_t ns)
{
	bale_mutex_lock(&c->state_lock);
	c->stats.waits++;
	if (ns > c->stats.wait_max_ns)
		c->stats.wait_max_ns = ns;
	bale_mutex_unlock(&c->state_lock);
}

int bale_cleaner_make_room(struct bale_store *st, bale_room_fn *try,
			   uint64_t bytes)
{
	struct bale_cleaner *c = st->cleaner;
	struct room room = { try, bytes, -ENOSPC };
	uint64_t start = bale_now_ns();

	if (!c)
		return -ENOSPC;
	atomic_fetch_add(&c->waiting, 1);
	bale_mutex_lock(&c->lock);
	atomic_fetch_sub(&c->waiting, 1);
	if (!has_room(st, &room)) /* who had the lock made some */
		clean_for(st, &room);
	bale_mutex_unlock(&c->lock);
	count_wait(c, bale_now_ns() - start);
	return room.r;
}

/* ---- by itself ---- */

/* Nobody appended since the last look, PERIOD ago. */
static bool is_quiet_locked(struct bale_store *st, struct bale_cleaner *c)
{
	uint64_t now = bale_now_ns(), activity = bale_segs_activity(st);
	bool quiet = activity == c->last_activity;

	if (now - c->last_quiet_ns < PERIOD_NS / 2)
		return false;
	c->last_quiet_ns = now;
	c->last_activity = activity;
	bale_space_idle(st);
	return quiet;
}

/* Armed by tests: it looks often, and copies as if nobody appended. */
static bool eager(void)
{
	return BALE_FAULT("cleaner.eager") != 0;
}

/* What a pass of the thread may copy. */
static void set_goal_locked(struct bale_store *st, struct bale_cleaner *c,
			    uint64_t died, struct bale_clean_goal *goal)
{
	uint64_t total = 0, left = 0;
	bool quiet = is_quiet_locked(st, c);

	*goal = (struct bale_clean_goal){ .percent = PERCENT, .yields = true };
	if (bale_space_left(st, &total, &left))
		return;
	goal->copy = quiet || eager() ? PASS_IDLE : died;
	if (quiet && c->no_punch)
		goal->percent = PERCENT_QUIET_NO_PUNCH;
	if (left >= total / 10 || left >= SHORT_MAX)
		return;
	goal->tight = true;
	goal->copy = PASS_MIN + died;
	goal->percent = c->no_punch ? PERCENT_SHORT_NO_PUNCH : PERCENT_SHORT;
}

/* Wake when so much more than `died` has died. */
static void set_wake(struct bale_store *st, uint64_t died)
{
	uint64_t total, left = 0, step;

	if (bale_space_left(st, &total, &left))
		left = 0;
	step = left / WAKE_PART;
	step = step < WAKE_MIN ? WAKE_MIN : step > WAKE_MAX ? WAKE_MAX : step;
	bale_segs_wake_at(st, died + step);
}

static uint64_t copied_bytes(struct bale_store *st)
{
	struct bale_cleaner_stats s;

	bale_cleaner_stats(st, &s);
	return s.bytes_copied;
}

/* True: what was copied away can be removed now. */
static bool work_locked(struct bale_store *st, struct bale_cleaner *c,
			bool asked)
{
	struct bale_clean_goal goal;
	uint64_t died = bale_segs_died(st), copied = copied_bytes(st);
	bool worked;

	set_goal_locked(st, c, died - c->last_died, &goal);
	/* Else the next commit is not far, and so is the next pass. */
	goal.commit = asked;
	bale_clean_pass(st, &goal, &worked);
	/* Our own appends are no sign of a busy device, and what was moved
	 * is no sign of writers. */
	c->last_activity = bale_segs_activity(st);
	copied = copied_bytes(st) - copied;
	c->last_died = died + copied;
	set_wake(st, c->last_died);
	return copied && !bale_cleaner_wanted(c);
}

static bool periodic(struct bale_store *st, bool asked)
{
	struct bale_cleaner *c = st->cleaner;
	bool again = false;

	bale_mutex_lock(&c->lock);
	if (bale_store_error(st))
		bale_cleaner_set_state(c, "stopped: the store has failed");
	else
		again = work_locked(st, c, asked);
	bale_mutex_unlock(&c->lock);
	return again;
}

static void *cleaner_main(void *arg)
{
	struct bale_store *st = arg;
	struct bale_cleaner *c = st->cleaner;
	bool asked;

	set_wake(st, 0);
	bale_mutex_lock(&c->state_lock);
	while (!c->stop) {
		if (!c->woken)
			bale_cond_wait_for(&c->cond, &c->state_lock,
					   eager() ? EAGER_NS : PERIOD_NS);
		asked = c->woken;
		c->woken = false;
		if (c->stop)
			break;
		bale_mutex_unlock(&c->state_lock);
		while (periodic(st, asked))
			asked = true;
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
	bale_segs_stuck(st, &ret->stuck_segments, &ret->stuck_bytes,
			ret->stuck_why, sizeof(ret->stuck_why));
}
