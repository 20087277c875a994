/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The preallocated tails of open segments: the pool behind reservations. Where
 * the backing filesystem cannot preallocate, `prealloc` is a number only, held
 * against the free space it reports.
 */
#include "fs/store/segments.h"

#include <errno.h>

/* What an append takes when it finds no preallocation left. */
enum { GROW_STEP = 4 << 20 };

static uint64_t free_of(const struct bale_segs *s, const struct bale_seg *g)
{
	uint64_t lost = g->prealloc == s->seg_size ? s->tail_waste : 0;
	uint64_t from = bale_align_up(g->used) + lost;

	return g->prealloc > from ? g->prealloc - from : 0;
}

static uint64_t pool_locked(const struct bale_segs *s)
{
	uint64_t sum = 0;

	bale_list_for_each(l, &s->open) sum += free_of(s, bale_seg_of_link(l));
	return sum;
}

void bale_segs_pool(struct bale_store *st, uint64_t *ret_free,
		    uint64_t *ret_pending)
{
	bale_mutex_lock(&st->segs->lock);
	*ret_free = pool_locked(st->segs);
	*ret_pending = st->segs->pending;
	bale_mutex_unlock(&st->segs->lock);
}

static int allocate(struct bale_store *st, struct bale_seg *g, uint64_t len)
{
	struct bale_segs *s = st->segs;
	uint64_t total, left;
	int r = -EOPNOTSUPP;

	if (!s->no_prealloc)
		r = BALE_IO(st->io)->allocate(st->io, g->fd, g->prealloc, len);
	if (r == -EOPNOTSUPP) {
		s->no_prealloc = true;
		r = BALE_IO(st->io)->space(st->io, &total, &left);
		if (!r && left < pool_locked(s) + len)
			r = -ENOSPC;
	}
	if (!r)
		g->prealloc += len;
	return r;
}

/* Extend one segment's preallocation by `want` as far as there is room for it,
 * by `need` at least. */
static int extend_locked(struct bale_store *st, struct bale_seg *g,
			 uint64_t need, uint64_t want)
{
	uint64_t room = st->segs->seg_size - g->prealloc;
	int r = bale_seg_pin_locked(st, g);

	if (r)
		return r;
	if (need > room)
		need = room;
	if (want > room)
		want = room;
	if (want < need)
		want = need;
	r = allocate(st, g, want);
	if (r == -ENOSPC && need < want)
		r = allocate(st, g, need);
	bale_seg_unpin_locked(g);
	return r;
}

static struct bale_seg *growable_locked(struct bale_segs *s)
{
	struct bale_seg *g;

	/* All but the newest are preallocated to their ends. */
	if (bale_list_empty(&s->open))
		return NULL;
	g = bale_seg_of_link(s->open.prev);
	return g->prealloc < s->seg_size ? g : NULL;
}

int bale_segs_prealloc(struct bale_store *st, uint64_t bytes, uint64_t step)
{
	struct bale_segs *s = st->segs;
	uint64_t have;
	int r = 0;

	bale_mutex_lock(&s->lock);
	while (!r && (have = pool_locked(s)) < bytes) {
		struct bale_seg *g = growable_locked(s);

		if (!g)
			r = bale_segs_new_locked(st, &g);
		if (!r)
			r = extend_locked(st, g, bytes - have + s->tail_waste,
					  step);
	}
	bale_mutex_unlock(&s->lock);
	return r;
}

int bale_segs_grow_locked(struct bale_store *st, uint64_t room)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g = growable_locked(s);
	uint64_t at = g ? bale_align_up(g->used) : 0;
	int r = 0;

	if (!g || s->seg_size - at < room) {
		at = 0;
		r = bale_segs_new_locked(st, &g);
	}
	if (!r)
		r = extend_locked(st, g, at + room - g->prealloc, GROW_STEP);
	return r;
}

/* Cutting the file at its size frees the blocks behind it. */
static int trim_one_locked(struct bale_store *st, struct bale_seg *g)
{
	int r = bale_seg_pin_locked(st, g);

	if (r)
		return r;
	if (!st->segs->no_prealloc)
		r = BALE_IO(st->io)->truncate(st->io, g->fd, g->used);
	if (!r)
		g->prealloc = bale_align_up(g->used);
	bale_seg_unpin_locked(g);
	return r;
}

/* More were open than are needed: all but the first empty one go. */
static int forget_empty_locked(struct bale_store *st, struct bale_seg *g)
{
	char name[32];
	int r;

	if (g->users || g->pending)
		return 0;
	bale_seg_name(name, g->no);
	bale_seg_close_locked(st, g);
	bale_seg_seal_locked(g);
	r = bale_segs_drop_locked(st->segs, g);
	return r ? r : BALE_IO(st->io)->unlink(st->io, name);
}

int bale_segs_trim(struct bale_store *st, uint64_t keep)
{
	struct bale_segs *s = st->segs;
	uint64_t have;
	int r = 0;

	bale_mutex_lock(&s->lock);
	have = pool_locked(s);
	/* From the newest: nothing is appended behind a trimmed one. */
	for (struct bale_list *l = s->open.prev, *prev;
	     !r && l != &s->open && have > keep; l = prev) {
		struct bale_seg *g = bale_seg_of_link(l);
		uint64_t mine = free_of(s, g);

		prev = l->prev;
		if (g->appends)
			break;
		r = trim_one_locked(st, g);
		have -= mine;
		if (!r && have < keep)
			r = extend_locked(st, g, keep - have + s->tail_waste,
					  0);
		else if (!r && !g->used && prev != &s->open)
			r = forget_empty_locked(st, g);
	}
	bale_mutex_unlock(&s->lock);
	return r;
}
