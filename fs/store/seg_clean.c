/* SPDX-License-Identifier: Apache-2.0 */
/* The set of segments as the cleaner sees it: what could be won where, and what
 * it found out about each. */
#include "fs/store/segments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct bale_seg_info info_locked(const struct bale_seg *g)
{
	struct bale_seg_info v = {
		.segment = g->no,
		.used = g->used,
		.live = g->live,
		.dead_seq = g->dead_seq,
		.blocks = g->used,
		.dead = g->used > g->live ? g->used - g->live : 0,
		.open = g->open || g->pending || g->appends,
		.stuck = g->live >= g->stuck_live,
	};

	if (g->cleaned_live != UINT64_MAX) {
		v.dead_known = true;
		v.dead = g->cleaned_live - g->live;
		v.blocks = g->blocks;
	}
	return v;
}

int bale_segs_list(struct bale_store *st, struct bale_seg_info **ret,
		   size_t *ret_nr)
{
	struct bale_segs *s = st->segs;
	struct bale_seg_info *v;

	bale_mutex_lock(&s->lock);
	v = calloc(s->nr + 1, sizeof(*v));
	for (size_t i = 0; v && i < s->nr; i++)
		v[i] = info_locked(s->all[i]);
	*ret_nr = s->nr;
	bale_mutex_unlock(&s->lock);
	*ret = v;
	return v ? 0 : -ENOMEM;
}

void bale_segs_mark_cleaned(struct bale_store *st, uint64_t segment,
			    uint64_t live, uint64_t blocks)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g) {
		g->cleaned_live = live;
		g->blocks = blocks;
	}
	bale_mutex_unlock(&s->lock);
}

bool bale_segs_mark_stuck(struct bale_store *st, uint64_t segment,
			  uint64_t live, unsigned int nr_bad, int err)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	bool stuck = false;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g && g->live && g->live >= live) {
		g->stuck_live = g->live;
		g->stuck_nr = nr_bad;
		g->stuck_err = err;
		stuck = true;
	}
	bale_mutex_unlock(&s->lock);
	return stuck;
}

static void reason(const struct bale_seg *g, char *text, size_t cap)
{
	if (g->stuck_nr)
		snprintf(text, cap,
			 "segment %" PRIu64 ": %u extent%s not moved: %s",
			 g->no, g->stuck_nr, g->stuck_nr > 1 ? "s" : "",
			 strerror(-g->stuck_err));
	else if (g->stuck_err)
		snprintf(text, cap, "segment %" PRIu64 ": %s", g->no,
			 strerror(-g->stuck_err));
	else
		snprintf(text, cap,
			 "segment %" PRIu64 ": no header tells of its extents",
			 g->no);
}

void bale_segs_stuck(struct bale_store *st, uint64_t *ret_segments,
		     uint64_t *ret_bytes, char *text, size_t cap)
{
	struct bale_segs *s = st->segs;

	*ret_segments = *ret_bytes = 0;
	*text = 0;
	bale_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->nr; i++) {
		const struct bale_seg *g = s->all[i];

		if (!g->live || g->live < g->stuck_live)
			continue;
		if (!*ret_segments)
			reason(g, text, cap);
		++*ret_segments;
		*ret_bytes += g->live;
	}
	bale_mutex_unlock(&s->lock);
}

uint64_t bale_segs_died(struct bale_store *st)
{
	uint64_t v;

	bale_mutex_lock(&st->segs->lock);
	v = st->segs->died;
	bale_mutex_unlock(&st->segs->lock);
	return v;
}

void bale_segs_wake_at(struct bale_store *st, uint64_t at)
{
	bale_mutex_lock(&st->segs->lock);
	st->segs->wake_at = at;
	bale_mutex_unlock(&st->segs->lock);
}
