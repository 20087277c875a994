/* SPDX-License-Identifier: Apache-2.0 */
/* The set of segments: files, usage, syncing. */
#include "fs/store/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/codec.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"

enum { MAX_FDS = 512 }; /* kept open beyond the pinned ones */

int bale_segs_create(struct bale_store *st, struct bale_segs **ret)
{
	struct bale_segs *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	bale_mutex_init(&s->lock);
	bale_list_init(&s->open);
	s->seg_size = (uint64_t)1 << st->super.segment_bits;
	s->wake_at = UINT64_MAX; /* as the cleaner says */
	s->tail_waste = ((uint64_t)1 << st->super.extent_bits) + 2048;
	*ret = s;
	return 0;
}

struct bale_seg *bale_segs_find_locked(struct bale_segs *s, uint64_t no)
{
	size_t lo = 0, hi = s->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->all[mid]->no < no)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->nr && s->all[lo]->no == no ? s->all[lo] : NULL;
}

int bale_segs_insert_locked(struct bale_segs *s, uint64_t no,
			    struct bale_seg **ret)
{
	struct bale_seg *g;
	size_t at = s->nr;

	if (s->nr == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		void *all = realloc(s->all, cap * sizeof(*s->all));

		if (!all)
			return -ENOMEM;
		s->all = all;
		s->cap = cap;
	}
	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->no = no;
	g->fd = -1;
	g->cleaned_live = UINT64_MAX;
	g->stuck_live = UINT64_MAX;
	bale_list_init(&g->open_link);
	while (at && s->all[at - 1]->no > no)
		at--;
	memmove(s->all + at + 1, s->all + at, (s->nr - at) * sizeof(*s->all));
	s->all[at] = g;
	s->nr++;
	if (no >= s->next_no)
		s->next_no = no + 1;
	*ret = g;
	return 0;
}

/* ---- files ---- */

void bale_seg_close_locked(struct bale_store *st, struct bale_seg *g)
{
	if (g->fd < 0)
		return;
	BALE_IO(st->io)->close(st->io, g->fd);
	g->fd = -1;
	st->segs->nr_fds--;
}

static void close_some_locked(struct bale_store *st)
{
	struct bale_segs *s = st->segs;

	for (size_t i = 0; i < s->nr && s->nr_fds > MAX_FDS / 2; i++)
		if (!s->all[i]->users && !s->all[i]->unsynced)
			bale_seg_close_locked(st, s->all[i]);
}

int bale_seg_pin_locked(struct bale_store *st, struct bale_seg *g)
{
	char name[32];
	int r;

	if (g->fd < 0) {
		if (st->segs->nr_fds >= MAX_FDS)
			close_some_locked(st);
		bale_seg_name(name, g->no);
		/* A store opened read-write may punch any segment. */
		r = BALE_IO(st->io)->open(st->io, name,
					  st->read_only ? O_RDONLY : O_RDWR,
					  &g->fd);
		if (r) {
			g->fd = -1;
			return r;
		}
		st->segs->nr_fds++;
	}
	g->users++;
	return 0;
}

void bale_seg_unpin_locked(struct bale_seg *g)
{
	g->users--;
}

int bale_segs_fd_get(struct bale_store *st, uint64_t segment, int *ret_fd)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	int r = -EUCLEAN;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g)
		r = bale_seg_pin_locked(st, g);
	if (!r)
		*ret_fd = g->fd;
	bale_mutex_unlock(&s->lock);
	return r;
}

void bale_segs_fd_put(struct bale_store *st, uint64_t segment, int fd)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;

	(void)fd;
	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g)
		bale_seg_unpin_locked(g);
	bale_mutex_unlock(&s->lock);
}

/* One of this number may be left of a try that failed, and could not be
 * removed then. */
static int create_locked(struct bale_store *st, char name[32], int *ret_fd)
{
	enum { FLAGS = O_RDWR | O_CREAT | O_EXCL };
	struct bale_segs *s = st->segs;
	int r;

	/* Rows have no room for more; two will do for a second try. */
	if (s->next_no >= UINT32_MAX)
		return -ENOSPC;
	bale_seg_name(name, s->next_no);
	r = BALE_IO(st->io)->open(st->io, name, FLAGS, ret_fd);
	if (r != -EEXIST)
		return r;
	if (BALE_IO(st->io)->unlink(st->io, name))
		bale_seg_name(name, ++s->next_no);
	return BALE_IO(st->io)->open(st->io, name, FLAGS, ret_fd);
}

int bale_segs_new_locked(struct bale_store *st, struct bale_seg **ret)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	char name[32];
	int fd, r;

	r = create_locked(st, name, &fd);
	if (r)
		return r;
	r = BALE_FAULT("segment.insert");
	if (!r)
		r = bale_segs_insert_locked(s, s->next_no, &g);
	if (r) {
		BALE_IO(st->io)->close(st->io, fd);
		BALE_IO(st->io)->unlink(st->io, name);
		return r;
	}
	g->fd = fd;
	g->changed = true;
	bale_seg_open_locked(s, g);
	s->nr_fds++;
	s->dir_unsynced = true;
	BALE_FAULT_POINT("segment.new");
	*ret = g;
	return 0;
}

void bale_seg_open_locked(struct bale_segs *s, struct bale_seg *g)
{
	g->open = true;
	bale_list_push_back(&s->open, &g->open_link);
}

void bale_seg_seal_locked(struct bale_seg *g)
{
	g->open = false;
	bale_list_del(&g->open_link);
}

/* ---- usage ---- */

void bale_seg_settle_locked(struct bale_segs *s, struct bale_seg *g,
			    uint64_t bytes)
{
	if (bytes > g->pending)
		bytes = g->pending;
	g->pending -= bytes;
	s->pending -= bytes;
}

void bale_segs_live_add(struct bale_store *st, uint64_t segment, uint64_t bytes)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g) {
		g->live += bytes;
		g->changed = true;
		bale_seg_settle_locked(s, g, bytes);
	}
	bale_mutex_unlock(&s->lock);
}

void bale_segs_live_sub(struct bale_store *st, uint64_t segment, uint64_t bytes,
			uint64_t seq)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	bool wake = false;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g) {
		g->live -= bytes < g->live ? bytes : g->live;
		g->dead_seq = seq;
		g->changed = true;
		s->died += bytes;
		wake = s->died >= s->wake_at;
		if (wake) /* once */
			s->wake_at = UINT64_MAX;
	}
	bale_mutex_unlock(&s->lock);
	if (wake)
		bale_cleaner_wake(st);
}

void bale_store_discard(struct bale_store *st,
			const struct bale_extent_row *rows, size_t nr)
{
	struct bale_segs *s = st->segs;

	bale_mutex_lock(&s->lock);
	for (size_t i = 0; i < nr; i++) {
		struct bale_seg *g = bale_segs_find_locked(s, rows[i].segment);

		if (g)
			bale_seg_settle_locked(s, g, rows[i].stored_len);
	}
	bale_mutex_unlock(&s->lock);
}

void bale_segs_usage_take(struct bale_store *st, bale_segs_usage_fn *fn,
			  void *arg)
{
	struct bale_segs *s = st->segs;

	bale_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->nr; i++) {
		struct bale_seg *g = s->all[i];

		if (!g->changed)
			continue;
		g->changed = false;
		fn(g->no, g->used, g->live, false, arg);
	}
	for (size_t i = 0; i < s->nr_deleted; i++)
		fn(s->deleted[i], 0, 0, true, arg);
	s->nr_deleted = 0;
	bale_mutex_unlock(&s->lock);
}

void bale_segs_totals(struct bale_store *st, uint64_t *ret_nr,
		      uint64_t *ret_used, uint64_t *ret_live)
{
	struct bale_segs *s = st->segs;

	*ret_used = 0;
	*ret_live = 0;
	bale_mutex_lock(&s->lock);
	*ret_nr = s->nr;
	for (size_t i = 0; i < s->nr; i++) {
		*ret_used += s->all[i]->used;
		*ret_live += s->all[i]->live;
	}
	bale_mutex_unlock(&s->lock);
}

int bale_segs_dead_seq(struct bale_store *st, uint64_t segment,
		       uint64_t *ret_seq)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g)
		*ret_seq = g->dead_seq;
	bale_mutex_unlock(&s->lock);
	return g ? 0 : -ENOENT;
}

static int reserve_deleted_locked(struct bale_segs *s)
{
	uint64_t *deleted =
		realloc(s->deleted, (s->nr_deleted + 1) * sizeof(*deleted));

	if (!deleted)
		return -ENOMEM;
	s->deleted = deleted;
	return 0;
}

static void take_out_locked(struct bale_segs *s, struct bale_seg *g)
{
	size_t i = 0;

	while (s->all[i] != g)
		i++;
	memmove(s->all + i, s->all + i + 1, (s->nr - i - 1) * sizeof(*s->all));
	s->nr--;
	free(g);
}

int bale_segs_drop_locked(struct bale_segs *s, struct bale_seg *g)
{
	int r = reserve_deleted_locked(s);

	if (!r) {
		s->deleted[s->nr_deleted++] = g->no;
		take_out_locked(s, g);
	}
	return r;
}

/* First the file, then the row: a row without a file and without live bytes is
 * dropped at the next open, a file without a row would stay for good. */
int bale_segs_delete(struct bale_store *st, uint64_t segment)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	char name[32];
	int r = -EBUSY;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g && !g->live && !g->pending && !g->open && !g->users &&
	    !g->appends) {
		bale_seg_close_locked(st, g);
		take_out_locked(s, g);
		r = 0;
	}
	bale_mutex_unlock(&s->lock);
	if (r)
		return r;
	bale_seg_name(name, segment);
	r = BALE_IO(st->io)->unlink(st->io, name);
	if (r && r != -ENOENT)
		return r;
	bale_mutex_lock(&s->lock);
	r = reserve_deleted_locked(s);
	if (!r)
		s->deleted[s->nr_deleted++] = segment;
	s->dir_unsynced = true;
	bale_mutex_unlock(&s->lock);
	return r;
}

/* ---- syncing ---- */

/* The next segment >= *no with unsynced appends, pinned. */
static int next_unsynced(struct bale_store *st, uint64_t *no, int *ret_fd)
{
	struct bale_segs *s = st->segs;
	int r = -ENOENT;

	bale_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->nr && r == -ENOENT; i++) {
		struct bale_seg *g = s->all[i];

		if (g->no < *no || !g->unsynced)
			continue;
		r = bale_seg_pin_locked(st, g);
		if (r)
			break;
		/* Before the sync: an append meanwhile sets it again. */
		g->unsynced = false;
		*no = g->no;
		*ret_fd = g->fd;
	}
	bale_mutex_unlock(&s->lock);
	return r;
}

int bale_segs_sync(struct bale_store *st)
{
	struct bale_segs *s = st->segs;
	bool dir;
	int fd, r = 0;

	bale_mutex_lock(&s->lock);
	dir = s->dir_unsynced;
	s->dir_unsynced = false;
	bale_mutex_unlock(&s->lock);
	for (uint64_t no = 0; !r; no++) {
		r = next_unsynced(st, &no, &fd);
		if (r)
			break;
		r = BALE_IO(st->io)->sync(st->io, fd);
		bale_segs_fd_put(st, no, fd);
	}
	if (r == -ENOENT)
		r = dir ? BALE_IO(st->io)->sync_dir(st->io, "seg") : 0;
	/* What a failed sync left behind, no later one can tell. */
	if (r)
		bale_store_fail(st, r, "sync of a segment");
	return r;
}

uint64_t bale_segs_slack(const struct bale_store *st)
{
	return 2 * st->segs->tail_waste;
}

uint64_t bale_segs_activity(struct bale_store *st)
{
	uint64_t v;

	bale_mutex_lock(&st->segs->lock);
	v = st->segs->bale_seq;
	bale_mutex_unlock(&st->segs->lock);
	return v;
}
