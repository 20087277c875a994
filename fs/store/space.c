/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations: what write() accepts can be stored later.
 *
 *   charge(reserved) <= pool + pending
 *
 * holds whenever a reservation is granted. `reserved` is what writers were
 * promised; charge() adds what bales need around it. The pool is what open
 * segments have preallocated and not used. An append takes from the pool while
 * its writer still holds the reservation: it counts as `pending` until its row
 * is staged or discarded, right before the reservation is released. Without
 * that a nearly full store would refuse what it has room for; with more than
 * that (until the release, say) an extent that is dirtied again while it is
 * being stored would keep a promise with nothing behind it.
 *
 * Deletions need space too: log, index and checkpoint grow before anything
 * shrinks. The file `reserve` holds blocks back for them, and what meta says
 * it may need is kept free besides. The file shrinks when they (or an accepted
 * write) meet a full disk, and grows again when there is room.
 */
#include "fs/store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"

enum {
	RESERVE_MAX = 16 << 20, /* two log files, room for the index */
	STEP_MAX = 32 << 20,	/* preallocated at a time */
	STEP_PART = 16, /* but not more than this part of what is free */
};

struct bale_space {
	struct bale_mutex lock; /* before the segments' lock */
	uint64_t reserved;	/* lock */
	uint64_t held;		/* lock: bytes in the reserve file */
	uint64_t want_held;	/* const */
	int reserve_fd;		/* const; -1: none */
	uint64_t last_activity; /* lock: of segments, at the last idle call */
	atomic_uint_fast64_t vain; /* staged seq at the last vain reclaim */
};

/*
 * Header, descriptor and alignment of a bale of one extent are 615 bytes; a
 * reservation is 4 KiB at least (the smallest cache buffer), and a bale of
 * one rounded up takes 512 bytes more than it: an eighth covers it.
 */
static uint64_t charge(const struct bale_store *st, uint64_t reserved)
{
	return reserved ? reserved + reserved / 8 + bale_segs_slack(st) : 0;
}

static void grow_reserve(struct bale_store *st, struct bale_space *sp)
{
	uint64_t total, left;

	if (sp->reserve_fd < 0 || sp->held >= sp->want_held ||
	    BALE_IO(st->io)->space(st->io, &total, &left) ||
	    left < 2 * sp->want_held)
		return;
	if (!BALE_IO(st->io)->allocate(st->io, sp->reserve_fd, 0,
				       sp->want_held))
		sp->held = sp->want_held;
}

int bale_space_create(struct bale_store *st, struct bale_space **ret)
{
	struct bale_space *sp = calloc(1, sizeof(*sp));
	uint64_t total = 0, left = 0, allocated = 0, len;

	if (!sp)
		return -ENOMEM;
	bale_mutex_init(&sp->lock);
	atomic_init(&sp->vain, UINT64_MAX);
	sp->reserve_fd = -1;
	*ret = sp;
	if (st->read_only || BALE_IO(st->io)->space(st->io, &total, &left) ||
	    BALE_IO(st->io)->open(st->io, "reserve", O_RDWR | O_CREAT,
				  &sp->reserve_fd))
		return 0;
	sp->want_held = total / 50 < RESERVE_MAX ? total / 50 : RESERVE_MAX;
	if (!BALE_IO(st->io)->size(st->io, sp->reserve_fd, &len, &allocated))
		sp->held = allocated;
	grow_reserve(st, sp);
	return 0;
}

void bale_space_destroy(struct bale_store *st, struct bale_space *sp)
{
	if (!sp)
		return;
	if (sp->reserve_fd >= 0)
		BALE_IO(st->io)->close(st->io, sp->reserve_fd);
	bale_mutex_fini(&sp->lock);
	free(sp);
}

/* What the log, the index and the next checkpoint may need. Asked without the
 * lock: meta comes here with locks of its own held. */
static uint64_t meta_need(struct bale_store *st)
{
	return st->meta ? bale_meta_space_need(st->meta) : 0;
}

/* What of it has to stay free beside the reserve. */
static uint64_t beside_reserve_locked(const struct bale_space *sp,
				      uint64_t need)
{
	return need > sp->held ? need - sp->held : 0;
}

/* Grow the pool by `more`, leaving `keep` free. */
static int grow_pool_locked(struct bale_store *st, uint64_t pool, uint64_t more,
			    uint64_t keep)
{
	uint64_t total, left, step;
	int r = BALE_IO(st->io)->space(st->io, &total, &left);

	if (r)
		return r;
	if (left < keep || left - keep < more)
		return -ENOSPC;
	step = (left - keep) / STEP_PART;
	if (step > STEP_MAX)
		step = STEP_MAX;
	return bale_segs_prealloc(st, pool + more, step);
}

/* Bytes that the pool lacks for `bytes` more; 0: they are reserved. */
static uint64_t take_locked(struct bale_store *st, uint64_t bytes,
			    uint64_t *ret_pool)
{
	struct bale_space *sp = st->space;
	uint64_t need = charge(st, sp->reserved + bytes), pending;

	bale_segs_pool(st, ret_pool, &pending);
	if (*ret_pool + pending < need)
		return need - *ret_pool - pending;
	sp->reserved += bytes;
	return 0;
}

int bale_space_try_reserve(struct bale_store *st, uint64_t bytes)
{
	struct bale_space *sp = st->space;
	uint64_t pool, lack, keep;
	int r = 0;

	bale_mutex_lock(&sp->lock);
	lack = take_locked(st, bytes, &pool);
	bale_mutex_unlock(&sp->lock);
	if (!lack)
		return 0;
	keep = meta_need(st);
	bale_mutex_lock(&sp->lock);
	while (!r && (lack = take_locked(st, bytes, &pool)))
		r = grow_pool_locked(st, pool, lack,
				     beside_reserve_locked(sp, keep));
	bale_mutex_unlock(&sp->lock);
	return r;
}

int bale_space_left(struct bale_store *st, uint64_t *ret_total,
		    uint64_t *ret_left)
{
	struct bale_space *sp = st->space;
	uint64_t need = meta_need(st);
	int r = BALE_IO(st->io)->space(st->io, ret_total, ret_left);

	bale_mutex_lock(&sp->lock);
	need = beside_reserve_locked(sp, need);
	bale_mutex_unlock(&sp->lock);
	if (!r)
		*ret_left = *ret_left > need ? *ret_left - need : 0;
	return r;
}

/*
 * Clean until `try` finds room. Not when nothing was staged since this was last
 * done in vain: a full store must not commit and search for every write() that
 * it refuses.
 */
static int make_room(struct bale_store *st, bale_room_fn *try, uint64_t bytes)
{
	int r;

	if (st->manual ||
	    atomic_load(&st->space->vain) == bale_meta_staged(st->meta))
		return -ENOSPC;
	r = bale_cleaner_make_room(st, try, bytes);
	if (r == -ENOSPC)
		atomic_store(&st->space->vain, bale_meta_staged(st->meta));
	return r;
}

int bale_space_reserve(struct bale_store *st, uint64_t bytes)
{
	int r;

	if (bale_store_error(st) || st->read_only)
		return -EROFS;
	r = bale_space_try_reserve(st, bytes);
	return r == -ENOSPC ? make_room(st, bale_space_try_reserve, bytes) : r;
}

void bale_space_release(struct bale_store *st, uint64_t bytes)
{
	struct bale_space *sp = st->space;

	bale_mutex_lock(&sp->lock);
	sp->reserved -= bytes < sp->reserved ? bytes : sp->reserved;
	bale_mutex_unlock(&sp->lock);
}

/* Give back preallocation beyond what reservations need. */
static void trim_locked(struct bale_store *st)
{
	uint64_t need = charge(st, st->space->reserved), pool, pending;

	bale_segs_pool(st, &pool, &pending);
	if (pool > need)
		bale_segs_trim(st, need);
}

static int try_meta(struct bale_store *st, uint64_t unused)
{
	struct bale_space *sp = st->space;
	uint64_t total, left, need = meta_need(st);
	int r;

	(void)unused;
	bale_mutex_lock(&sp->lock);
	need = beside_reserve_locked(sp, need);
	r = BALE_IO(st->io)->space(st->io, &total, &left);
	if (!r && left < need) {
		trim_locked(st);
		r = BALE_IO(st->io)->space(st->io, &total, &left);
		if (!r && left < need)
			r = -ENOSPC;
	}
	bale_mutex_unlock(&sp->lock);
	return r;
}

int bale_space_check_meta(struct bale_store *st)
{
	int r;

	if (bale_store_error(st) || st->read_only)
		return -EROFS;
	r = try_meta(st, 0);
	return r == -ENOSPC ? make_room(st, try_meta, 0) : r;
}

void bale_space_idle(struct bale_store *st)
{
	struct bale_space *sp = st->space;
	uint64_t now = bale_segs_activity(st);

	bale_mutex_lock(&sp->lock);
	if (!sp->reserved && sp->last_activity == now)
		trim_locked(st);
	sp->last_activity = now;
	grow_reserve(st, sp);
	bale_mutex_unlock(&sp->lock);
}

void bale_space_shrink_reserve(struct bale_store *st)
{
	struct bale_space *sp = st->space;
	int r;

	if (!sp)
		return;
	bale_mutex_lock(&sp->lock);
	if (sp->held) {
		bale_warn("disk full: %" PRIu64 " bytes held back are given up",
			  sp->held);
		r = BALE_IO(st->io)->truncate(st->io, sp->reserve_fd, 0);
		if (r)
			bale_warn("reserve: %s", strerror(-r));
		else
			sp->held = 0;
	}
	bale_mutex_unlock(&sp->lock);
}

void bale_space_info(struct bale_store *st, struct bale_space_info *ret)
{
	struct bale_space *sp = st->space;
	struct bale_meta_stats ms;
	uint64_t left = 0, pool, pending, need = meta_need(st);

	memset(ret, 0, sizeof(*ret));
	bale_segs_totals(st, &ret->segments, &ret->used, &ret->live);
	bale_mutex_lock(&sp->lock);
	BALE_IO(st->io)->space(st->io, &ret->total, &left);
	bale_segs_pool(st, &pool, &pending);
	need = beside_reserve_locked(sp, need) + charge(st, sp->reserved);
	ret->reserved = sp->reserved;
	bale_mutex_unlock(&sp->lock);
	left += pool + pending;
	ret->free = left > need ? left - need : 0;
	bale_meta_stats(st->meta, &ms);
	ret->log_bytes = ms.log_end - ms.log_start;
	ret->index_bytes = ms.index_bytes;
}
