/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations. `reserved` bytes were promised to writers; behind them stand
 * preallocated segment tails. An append uses preallocation up while its writer
 * still holds the reservation, so appended bytes count as `credit` until the
 * release: without it a nearly full store would refuse what it has room for.
 *
 * The file `reserve` holds blocks back from everybody, so that on a full disk
 * the log, the index and the next checkpoint can still take deletions: it
 * shrinks when they need the room and grows again when there is some.
 */
#include "fs/store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"

enum {
	RESERVE_MAX = 16 << 20,
	BALE_OVERHEAD = 1152, /* header, descriptor, alignment: a bale of one */
};

struct bale_space {
	struct bale_mutex lock;
	uint64_t reserved, credit; /* lock */
	uint64_t held;		   /* lock: bytes in the reserve file */
	uint64_t want_held;	   /* const */
	int reserve_fd;		   /* const; -1: none */
};

uint64_t bale_space_with_overhead(struct bale_store *st, uint64_t bytes)
{
	(void)st;
	return bytes + BALE_OVERHEAD;
}

static void grow_reserve(struct bale_store *st, struct bale_space *sp)
{
	uint64_t total, left;

	if (sp->reserve_fd < 0 || sp->held >= sp->want_held ||
	    st->io->ops->space(st->io, &total, &left) ||
	    left < 2 * sp->want_held)
		return;
	if (!st->io->ops->allocate(st->io, sp->reserve_fd, 0, sp->want_held))
		sp->held = sp->want_held;
}

int bale_space_create(struct bale_store *st, struct bale_space **ret)
{
	struct bale_space *sp = calloc(1, sizeof(*sp));
	uint64_t total = 0, left = 0, allocated = 0, len;

	if (!sp)
		return -ENOMEM;
	bale_mutex_init(&sp->lock);
	sp->reserve_fd = -1;
	if (!st->read_only && !st->io->ops->space(st->io, &total, &left) &&
	    !st->io->ops->open(st->io, "reserve", O_RDWR | O_CREAT,
			       &sp->reserve_fd)) {
		sp->want_held =
			total / 64 < RESERVE_MAX ? total / 64 : RESERVE_MAX;
		if (!st->io->ops->size(st->io, sp->reserve_fd, &len,
				       &allocated))
			sp->held = allocated;
		grow_reserve(st, sp);
	}
	*ret = sp;
	return 0;
}

void bale_space_destroy(struct bale_space *sp)
{
	if (!sp)
		return;
	if (sp->reserve_fd >= 0)
		bale_io_posix.close(NULL, sp->reserve_fd);
	bale_mutex_fini(&sp->lock);
	free(sp);
}

/* What has to stay free on the backing filesystem beside the reserve. */
static uint64_t meta_need(struct bale_store *st, const struct bale_space *sp)
{
	uint64_t need = bale_meta_space_need(st->meta);

	return need > sp->held ? need - sp->held : 0;
}

static int try_reserve(struct bale_store *st, uint64_t bytes)
{
	struct bale_space *sp = st->space;
	uint64_t need, have, total, left;
	int r = 0;

	bale_mutex_lock(&sp->lock);
	need = sp->reserved + bytes;
	have = bale_segs_prealloc_free(st) + sp->credit;
	if (have < need) {
		r = st->io->ops->space(st->io, &total, &left);
		if (!r && left < need - have + meta_need(st, sp))
			r = -ENOSPC;
		if (!r)
			r = bale_segs_prealloc(st, need - sp->credit);
	}
	if (!r)
		sp->reserved += bytes;
	bale_mutex_unlock(&sp->lock);
	return r;
}

int bale_space_reserve(struct bale_store *st, uint64_t bytes)
{
	int r;

	if (bale_store_error(st))
		return -EROFS;
	r = try_reserve(st, bytes);
	/* What deletions left behind comes back only after their commit. */
	if (r == -ENOSPC && !st->manual && !bale_meta_sync(st->meta, 0) &&
	    !bale_cleaner_run(st, bytes))
		r = try_reserve(st, bytes);
	return r;
}

void bale_space_release(struct bale_store *st, uint64_t bytes)
{
	struct bale_space *sp = st->space;

	bale_mutex_lock(&sp->lock);
	sp->reserved -= bytes < sp->reserved ? bytes : sp->reserved;
	sp->credit -= bytes < sp->credit ? bytes : sp->credit;
	bale_mutex_unlock(&sp->lock);
}

void bale_space_appended(struct bale_store *st, uint64_t bytes)
{
	struct bale_space *sp = st->space;

	bale_mutex_lock(&sp->lock);
	sp->credit += bytes;
	if (sp->credit > sp->reserved)
		sp->credit = sp->reserved;
	bale_mutex_unlock(&sp->lock);
}

int bale_space_check_meta(struct bale_store *st)
{
	struct bale_space *sp = st->space;
	uint64_t total, left;
	int r;

	if (bale_store_error(st))
		return -EROFS;
	bale_mutex_lock(&sp->lock);
	r = st->io->ops->space(st->io, &total, &left);
	if (!r && left < meta_need(st, sp))
		r = -ENOSPC;
	bale_mutex_unlock(&sp->lock);
	return r;
}

void bale_space_shrink_reserve(struct bale_store *st)
{
	struct bale_space *sp = st->space;

	bale_mutex_lock(&sp->lock);
	if (sp->held) {
		bale_warn("disk full: %llu bytes held back are given to the "
			  "log and the index",
			  (unsigned long long)sp->held);
		st->io->ops->truncate(st->io, sp->reserve_fd, 0);
		sp->held = 0;
	}
	bale_mutex_unlock(&sp->lock);
}

void bale_space_regrow_reserve(struct bale_store *st)
{
	bale_mutex_lock(&st->space->lock);
	grow_reserve(st, st->space);
	bale_mutex_unlock(&st->space->lock);
}

void bale_space_info(struct bale_store *st, struct bale_space_info *ret)
{
	struct bale_space *sp = st->space;
	struct bale_meta_stats ms;
	uint64_t left = 0, pool = bale_segs_prealloc_free(st), need;

	memset(ret, 0, sizeof(*ret));
	bale_segs_totals(st, &ret->segments, &ret->used, &ret->live);
	st->io->ops->space(st->io, &ret->total, &left);
	bale_mutex_lock(&sp->lock);
	need = meta_need(st, sp);
	ret->reserved = sp->reserved;
	left += pool + sp->credit;
	need += sp->reserved;
	bale_mutex_unlock(&sp->lock);
	ret->free = left > need ? left - need : 0;
	bale_meta_stats(st->meta, &ms);
	ret->log_bytes = ms.log_end - ms.log_start;
	ret->index_bytes = ms.index_bytes;
}
