/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass of the cleaner over all segments, cheapest way first: a segment with
 * nothing live is removed; dead payload of sealed segments is punched out of
 * their files, where most of it is first; what lives in a segment that wastes
 * its blocks is copied to a new bale, as stored bytes, and the segment removed
 * after the commit.
 *
 * A crash brings back the state of the last durable record, which must find its
 * bytes: so nothing is destroyed that died later than that. An extent that is
 * dead at a place is dead there for good; it is enough to look at a segment's
 * dead_seq once more after everything that will be destroyed has been found.
 * Under steady overwriting that is never durable yet: some segments are
 * searched, one commit makes all their deaths durable, then they are punched.
 */
#include "fs/store/cleaner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

enum {
	/* Searched before one commit; fewer when a writer waits for room. */
	BATCH = 64,
	BATCH_TIGHT = 8,
	BATCH_BYTES = 1 << 20, /* of ranges */
	/* Copied in any case: so little lives that a file is won. */
	COPY_PERCENT_FILE = 12,
	/* Without being tight, scanned when so much of it died: live / 16 */
	WORTH_PART = 16,
};

struct pass {
	struct bale_store *st;
	struct bale_cleaner *c;
	const struct bale_clean_goal *goal;
	struct bale_seg_info *v;
	size_t nr;
	bool worked;
	unsigned int busy; /* segments in use, for another time */
	int first;	   /* error */
};

static void set_state(struct pass *p, const char *what, uint64_t seg)
{
	char text[sizeof(p->c->stats.state)];

	snprintf(text, sizeof(text), "%s segment %" PRIu64, what, seg);
	bale_cleaner_set_state(p->c, text);
}

/* One damaged segment keeps its space; the others go on. */
static void note(struct pass *p, const struct bale_seg_info *g, int err)
{
	if (!err || err == -EAGAIN)
		return;
	if (err == -EBUSY) {
		p->busy++;
		return;
	}
	if (err != -ENOSPC)
		bale_warn("cleaner: segment %" PRIu64 " stays: %s", g->segment,
			  strerror(-err));
	if (!p->first)
		p->first = err;
}

static bool is_over(const struct pass *p)
{
	const struct bale_clean_goal *goal = p->goal;

	return bale_store_error(p->st) ||
	       (goal->yields && bale_cleaner_wanted(p->c)) ||
	       (goal->enough && goal->enough(p->st, goal->arg));
}

/* ---- removing ---- */

static void delete_segment(struct pass *p, const struct bale_seg_info *g)
{
	int r;

	set_state(p, "removing", g->segment);
	r = bale_segs_delete(p->st, g->segment);
	if (r) {
		note(p, g, r);
		return;
	}
	p->worked = true;
	bale_cleaner_count(p->c, 1, g->used, 0, 0);
}

static bool delete_all(struct pass *p)
{
	uint64_t durable = bale_meta_durable(p->st->meta);

	for (size_t i = 0; i < p->nr; i++) {
		const struct bale_seg_info *g = &p->v[i];

		if (g->open || g->live || g->dead_seq > durable)
			continue;
		if (is_over(p))
			return true;
		delete_segment(p, g);
	}
	return is_over(p);
}

/* ---- punching ---- */

static int compare_dead(const void *a, const void *b)
{
	const struct bale_seg_info *x = a, *y = b;

	return x->dead > y->dead ? -1 : x->dead < y->dead;
}

static bool worth_punching(const struct pass *p, const struct bale_seg_info *g)
{
	if (g->open || !g->live || g->dead < BALE_PUNCH_MIN)
		return false;
	return p->goal->tight || !g->dead_known ||
	       g->dead >= g->live / WORTH_PART;
}

/* Everything found dead by now is dead in what a crash would bring back. */
static int wait_durable(struct bale_store *st, const struct bale_punch *v,
			size_t nr)
{
	uint64_t seq = 0;

	for (size_t i = 0; i < nr; i++)
		if (v[i].ranges.len && v[i].dead_seq > seq)
			seq = v[i].dead_seq;
	return seq > bale_meta_durable(st->meta) ?
		       bale_meta_sync(st->meta, seq) :
		       0;
}

static void punch_one(struct pass *p, const struct bale_seg_info *g,
		      struct bale_punch *w, int err)
{
	uint64_t punched = 0;

	if (!err && w->ranges.len) {
		set_state(p, "punching", g->segment);
		err = bale_clean_punch(p->st, w, &punched);
	}
	if (err == -EOPNOTSUPP)
		p->c->no_punch = true;
	else
		note(p, g, err);
	/* Damaged or not: looked at again when more of it has died. */
	bale_segs_mark_cleaned(p->st, g->segment, w->live,
			       w->blocks ? w->blocks : g->used);
	bale_cleaner_count(p->c, 0, 0, 0, punched);
	p->worked |= punched > 0;
}

/* Search some segments from g[0] on, then punch them; how many. */
static size_t punch_batch(struct pass *p, const struct bale_seg_info *g,
			  size_t nr)
{
	size_t max = p->goal->enough ? BATCH_TIGHT : BATCH, n = 0, bytes = 0;
	struct bale_punch w[BATCH];
	int found[BATCH], r;

	while (n < nr && n < max && bytes < BATCH_BYTES &&
	       worth_punching(p, &g[n])) {
		set_state(p, "searching", g[n].segment);
		found[n] = bale_clean_find(p->st, &g[n], &w[n]);
		bytes += w[n].ranges.len;
		n++;
	}
	r = wait_durable(p->st, w, n);
	BALE_FAULT_POINT("clean.durable");
	for (size_t i = 0; i < n; i++) {
		punch_one(p, &g[i], &w[i], r ? r : found[i]);
		bale_buf_fini(&w[i].ranges);
	}
	return n;
}

static bool punch_all(struct pass *p)
{
	size_t n, i = 0;

	qsort(p->v, p->nr, sizeof(*p->v), compare_dead);
	while (i < p->nr && !p->c->no_punch) {
		/* Not to be worth it goes by the part as well. */
		if (!worth_punching(p, &p->v[i])) {
			i++;
			continue;
		}
		n = punch_batch(p, p->v + i, p->nr - i);
		i += n;
		if (is_over(p))
			return true;
	}
	return false;
}

/* ---- copying ---- */

/* Blocks per live byte: what is won by a copied byte. */
static int compare_waste(const void *a, const void *b)
{
	const struct bale_seg_info *x = a, *y = b;
	double wx = (double)x->blocks / (double)(x->live + 1);
	double wy = (double)y->blocks / (double)(y->live + 1);

	return wx > wy ? -1 : wx < wy;
}

static bool worth_copying(const struct pass *p, const struct bale_seg_info *g)
{
	if (g->open || !g->live || g->stuck)
		return false;
	return g->live * 100 < g->blocks * p->goal->percent ||
	       g->live * 100 < g->used * COPY_PERCENT_FILE;
}

/* What is left cannot be moved: the next try would end as this. */
static void stuck(struct pass *p, const struct bale_seg_info *g,
		  unsigned int nr_bad, int err)
{
	/* All that lived may have died while it was looked for. */
	if (!bale_segs_mark_stuck(p->st, g->segment,
				  nr_bad || err ? 0 : g->live, nr_bad, err))
		return;
	if (nr_bad)
		bale_warn("cleaner: segment %" PRIu64
			  ": %u extents cannot be moved: %s",
			  g->segment, nr_bad, strerror(-err));
	else if (!err)
		bale_warn("cleaner: segment %" PRIu64
			  ": no header tells of its extents, they stay",
			  g->segment);
	else
		note(p, g, err);
}

static void copied_one(struct pass *p, const struct bale_seg_info *g,
		       const struct bale_copy_result *res, int err)
{
	bale_cleaner_count(p->c, 0, 0, res->copied, 0);
	p->worked |= res->copied > 0;
	if (err == -ENOSPC || err == -EAGAIN || err == -ENOMEM)
		note(p, g, err);
	else if (err || res->nr_bad || !res->copied)
		stuck(p, g, res->nr_bad, err ? err : res->bad);
}

/* What wastes most first, up to the budget. */
static void copy_some(struct pass *p)
{
	uint64_t budget = p->goal->copy;

	qsort(p->v, p->nr, sizeof(*p->v), compare_waste);
	for (size_t i = 0; i < p->nr; i++) {
		const struct bale_seg_info *g = &p->v[i];
		struct bale_copy_result res;
		int r;

		if (!worth_copying(p, g))
			continue;
		if (g->live > budget || is_over(p))
			return;
		budget -= g->live;
		set_state(p, "copying", g->segment);
		r = bale_clean_copy(p->st, g, p->goal->yields, &res);
		copied_one(p, g, &res, r);
		if (r == -ENOSPC)
			return;
	}
}

static void end_state(const struct pass *p)
{
	char text[sizeof(p->c->stats.state)];

	if (p->first == -ENOSPC)
		bale_cleaner_set_state(p->c, "no space to copy to");
	else if (p->busy) {
		snprintf(text, sizeof(text), "idle, %u segments in use",
			 p->busy);
		bale_cleaner_set_state(p->c, text);
	} else {
		bale_cleaner_set_state(p->c, "idle");
	}
}

/* Segments without anything alive, but not durably so yet. */
static int commit_deaths(struct pass *p)
{
	uint64_t durable = bale_meta_durable(p->st->meta);

	for (size_t i = 0; i < p->nr; i++)
		if (!p->v[i].open && !p->v[i].live &&
		    p->v[i].dead_seq > durable)
			return bale_meta_sync(p->st->meta, 0);
	return 0;
}

/* Anew: what was punched has other figures now, and more has died. */
static int list_again(struct pass *p)
{
	free(p->v);
	p->v = NULL;
	p->nr = 0;
	p->busy = 0;
	return bale_segs_list(p->st, &p->v, &p->nr);
}

int bale_clean_pass(struct bale_store *st, const struct bale_clean_goal *goal,
		    bool *ret_worked)
{
	struct pass p = { .st = st, .c = st->cleaner, .goal = goal };
	bool over;
	int r = BALE_FAULT("cleaner.pass");

	*ret_worked = false;
	if (!r)
		r = list_again(&p);
	if (r)
		return r;
	over = delete_all(&p) || punch_all(&p);
	if (!over)
		r = list_again(&p);
	if (!r && !over && goal->commit)
		r = commit_deaths(&p);
	if (!r && !over)
		over = delete_all(&p);
	if (!r && !over && goal->copy)
		copy_some(&p);
	free(p.v);
	*ret_worked = p.worked;
	end_state(&p);
	return r ? r : bale_store_error(st);
}
