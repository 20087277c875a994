/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of segments: files, usage, preallocation, syncing.
 * NOLINT(file-size): one set behind one lock, whose functions stay together
 */
#include "fs/store/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/codec.h"
#include "fs/base/log.h"

enum {
	MAX_FDS = 512, /* kept open beyond the pinned ones */
	PREALLOC_STEP = 32 << 20,
};

int bale_segs_create(struct bale_store *st, struct bale_segs **ret)
{
	struct bale_segs *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	bale_mutex_init(&s->lock);
	s->seg_size = (uint64_t)1 << st->super.segment_bits;
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

static int insert_seg_locked(struct bale_segs *s, uint64_t no,
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
	g->punched_live = UINT64_MAX;
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

static void close_fd_locked(struct bale_store *st, struct bale_seg *g)
{
	if (g->fd < 0)
		return;
	st->io->ops->close(st->io, g->fd);
	g->fd = -1;
	st->segs->nr_fds--;
}

static void close_some_locked(struct bale_store *st)
{
	struct bale_segs *s = st->segs;

	for (size_t i = 0; i < s->nr && s->nr_fds > MAX_FDS / 2; i++)
		if (!s->all[i]->users && !s->all[i]->unsynced)
			close_fd_locked(st, s->all[i]);
}

int bale_seg_pin_locked(struct bale_store *st, struct bale_seg *g,
			bool writable)
{
	char name[32];
	int r;

	if (g->fd < 0) {
		if (st->segs->nr_fds >= MAX_FDS)
			close_some_locked(st);
		bale_seg_name(name, g->no);
		/* A store opened read-write may punch any segment. */
		r = st->io->ops->open(
			st->io, name,
			writable || !st->read_only ? O_RDWR : O_RDONLY, &g->fd);
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
		r = bale_seg_pin_locked(st, g, false);
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

int bale_segs_new_locked(struct bale_store *st, struct bale_seg **ret)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	char name[32];
	int fd, r;

	bale_seg_name(name, s->next_no);
	r = st->io->ops->open(st->io, name, O_RDWR | O_CREAT | O_EXCL, &fd);
	if (r)
		return r;
	r = insert_seg_locked(s, s->next_no, &g);
	if (r) {
		st->io->ops->close(st->io, fd);
		st->io->ops->unlink(st->io, name);
		return r;
	}
	g->fd = fd;
	g->open = true;
	g->changed = true;
	s->nr_fds++;
	s->dir_unsynced = true;
	*ret = g;
	return 0;
}

/* ---- preallocation ---- */

static uint64_t free_of(const struct bale_segs *s, const struct bale_seg *g)
{
	uint64_t lost = g->prealloc == s->seg_size ? s->tail_waste : 0;
	uint64_t from = bale_align_up(g->used) + lost;

	return g->open && g->prealloc > from ? g->prealloc - from : 0;
}

static uint64_t prealloc_free_locked(const struct bale_segs *s)
{
	uint64_t sum = 0;

	for (size_t i = s->nr; i-- > 0;) {
		sum += free_of(s, s->all[i]);
		/* Open ones are the newest few. */
		if (!s->all[i]->open && i + 64 < s->nr)
			break;
	}
	return sum;
}

uint64_t bale_segs_prealloc_free(struct bale_store *st)
{
	uint64_t v;

	bale_mutex_lock(&st->segs->lock);
	v = prealloc_free_locked(st->segs);
	bale_mutex_unlock(&st->segs->lock);
	return v;
}

/* Extend one segment's preallocation by `want` where there is room for it,
 * by `need` at least. */
static int extend_locked(struct bale_store *st, struct bale_seg *g,
			 uint64_t need, uint64_t want)
{
	struct bale_segs *s = st->segs;
	uint64_t room = s->seg_size - g->prealloc;
	int r = -EOPNOTSUPP;

	if (want > room)
		want = room;
	if (need > room)
		need = room;
	if (!s->no_prealloc)
		r = st->io->ops->allocate(st->io, g->fd, g->prealloc, want);
	if (r == -ENOSPC && need < want) {
		want = need;
		r = st->io->ops->allocate(st->io, g->fd, g->prealloc, want);
	}
	if (r == -EOPNOTSUPP) {
		uint64_t total, left;

		s->no_prealloc = true;
		r = st->io->ops->space(st->io, &total, &left);
		if (!r && left < prealloc_free_locked(s) + want)
			r = -ENOSPC;
	}
	if (!r)
		g->prealloc += want;
	return r;
}

static struct bale_seg *growable_locked(struct bale_segs *s)
{
	for (size_t i = s->nr; i-- > 0;)
		if (s->all[i]->open && s->all[i]->prealloc < s->seg_size)
			return s->all[i];
	return NULL;
}

int bale_segs_prealloc(struct bale_store *st, uint64_t bytes)
{
	struct bale_segs *s = st->segs;
	uint64_t have;
	int r = 0;

	bale_mutex_lock(&s->lock);
	while (!r && (have = prealloc_free_locked(s)) < bytes) {
		struct bale_seg *g = growable_locked(s);
		uint64_t need = bytes - have;

		if (!g)
			r = bale_segs_new_locked(st, &g);
		if (!r)
			r = extend_locked(st, g, need + s->tail_waste,
					  need > PREALLOC_STEP ? need :
								 PREALLOC_STEP);
	}
	bale_mutex_unlock(&s->lock);
	return r;
}

int bale_segs_grow_locked(struct bale_store *st, uint64_t room)
{
	struct bale_seg *g = growable_locked(st->segs);
	int r = 0;

	if (!g || st->segs->seg_size - bale_align_up(g->used) < room)
		r = bale_segs_new_locked(st, &g);
	if (!r)
		r = extend_locked(st, g, room, PREALLOC_STEP);
	return r;
}

/* ---- usage ---- */

void bale_segs_live_add(struct bale_store *st, uint64_t segment, uint64_t bytes)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g) {
		g->live += bytes;
		g->pending -= bytes < g->pending ? bytes : g->pending;
		g->changed = true;
	}
	bale_mutex_unlock(&s->lock);
}

void bale_segs_live_sub(struct bale_store *st, uint64_t segment, uint64_t bytes,
			uint64_t seq)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g) {
		g->live -= bytes < g->live ? bytes : g->live;
		g->dead_seq = seq;
		g->changed = true;
	}
	bale_mutex_unlock(&s->lock);
}

void bale_store_discard(struct bale_store *st,
			const struct bale_extent_row *rows, size_t nr)
{
	struct bale_segs *s = st->segs;

	bale_mutex_lock(&s->lock);
	for (size_t i = 0; i < nr; i++) {
		struct bale_seg *g = bale_segs_find_locked(s, rows[i].segment);
		uint64_t bytes = rows[i].stored_len;

		if (g)
			g->pending -= bytes < g->pending ? bytes : g->pending;
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

int bale_segs_list(struct bale_store *st, struct bale_seg_info **ret,
		   size_t *ret_nr)
{
	struct bale_segs *s = st->segs;
	struct bale_seg_info *v;

	bale_mutex_lock(&s->lock);
	v = calloc(s->nr + 1, sizeof(*v));
	for (size_t i = 0; v && i < s->nr; i++) {
		const struct bale_seg *g = s->all[i];

		v[i] = (struct bale_seg_info){
			.segment = g->no,
			.used = g->used,
			.live = g->live,
			.dead_seq = g->dead_seq,
			.open = g->open || g->pending || g->appends,
			.punched = g->punched_live == g->live,
		};
	}
	*ret_nr = s->nr;
	bale_mutex_unlock(&s->lock);
	*ret = v;
	return v ? 0 : -ENOMEM;
}

void bale_segs_mark_punched(struct bale_store *st, uint64_t segment,
			    uint64_t live)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (g)
		g->punched_live = live;
	bale_mutex_unlock(&s->lock);
}

static void remove_locked(struct bale_segs *s, struct bale_seg *g)
{
	size_t i = 0;

	while (s->all[i] != g)
		i++;
	memmove(s->all + i, s->all + i + 1, (s->nr - i - 1) * sizeof(*s->all));
	s->nr--;
	free(g);
}

int bale_segs_delete(struct bale_store *st, uint64_t segment)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	uint64_t *deleted;
	char name[32];
	int r = 0;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (!g || g->live || g->pending || g->open || g->users || g->appends) {
		bale_mutex_unlock(&s->lock);
		return -EBUSY;
	}
	deleted = realloc(s->deleted, (s->nr_deleted + 1) * sizeof(*deleted));
	if (deleted) {
		s->deleted = deleted;
		s->deleted[s->nr_deleted++] = segment;
		close_fd_locked(st, g);
		remove_locked(s, g);
	} else {
		r = -ENOMEM;
	}
	bale_mutex_unlock(&s->lock);
	if (r)
		return r;
	bale_seg_name(name, segment);
	return st->io->ops->unlink(st->io, name);
}

/* ---- syncing ---- */

static int sync_one(struct bale_store *st, uint64_t no)
{
	int fd, r = bale_segs_fd_get(st, no, &fd);

	if (r)
		return r;
	r = st->io->ops->sync(st->io, fd);
	bale_segs_fd_put(st, no, fd);
	return r;
}

int bale_segs_sync(struct bale_store *st)
{
	struct bale_segs *s = st->segs;
	bool dir;
	int r = 0;

	bale_mutex_lock(&s->lock);
	dir = s->dir_unsynced;
	s->dir_unsynced = false;
	for (size_t i = 0; !r && i < s->nr; i++) {
		uint64_t no = s->all[i]->no;

		if (!s->all[i]->unsynced)
			continue;
		s->all[i]->unsynced = false;
		bale_mutex_unlock(&s->lock);
		r = sync_one(st, no);
		bale_mutex_lock(&s->lock);
		/* The set may have changed: go on behind this number. */
		for (i = 0; i < s->nr && s->all[i]->no <= no;)
			i++;
		i--;
	}
	bale_mutex_unlock(&s->lock);
	if (!r && dir)
		r = st->io->ops->sync_dir(st->io, "seg");
	return r;
}

/* ---- start and end ---- */

int bale_segs_load(struct bale_store *st, uint64_t segment, uint64_t used,
		   uint64_t live)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	int r = 0;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (!g)
		r = insert_seg_locked(s, segment, &g);
	if (!r) {
		g->used = used;
		g->live = live;
	}
	bale_mutex_unlock(&s->lock);
	return r;
}

struct stray {
	struct bale_store *st;
	uint64_t *numbers;
	size_t nr;
	uint64_t max;
};

static int note_stray(const char *name, void *arg)
{
	struct stray *v = arg;
	char *end;
	uint64_t no = strtoull(name, &end, 16), *numbers;

	if (*end || end - name != 16)
		return 0;
	if (no >= v->max)
		v->max = no + 1;
	if (bale_segs_find_locked(v->st->segs, no))
		return 0;
	numbers = realloc(v->numbers, (v->nr + 1) * sizeof(*numbers));
	if (!numbers)
		return -ENOMEM;
	v->numbers = numbers;
	v->numbers[v->nr++] = no;
	return 0;
}

/* Cut what was appended but never committed, and preallocation left behind by
 * a crash; go on appending there when much room is left. */
static int reopen_tail(struct bale_store *st, struct bale_seg *g, bool append)
{
	struct bale_segs *s = st->segs;
	uint64_t len, allocated;
	int r = bale_seg_pin_locked(st, g, true);

	if (r)
		return r;
	r = st->io->ops->size(st->io, g->fd, &len, &allocated);
	if (!r && (len > g->used || allocated > g->used + (1 << 20)))
		r = st->io->ops->truncate(st->io, g->fd, g->used);
	if (!r && append && g->used < s->seg_size / 2) {
		g->open = true;
		g->prealloc = bale_align_up(g->used);
	}
	bale_seg_unpin_locked(g);
	return r;
}

int bale_segs_start(struct bale_store *st)
{
	struct bale_segs *s = st->segs;
	struct stray v = { .st = st };
	char name[32];
	int r;

	bale_mutex_lock(&s->lock);
	/* Every mount begins with a higher one than the last ever used. */
	s->bale_seq = bale_meta_staged(st->meta) << 20;
	r = st->io->ops->list(st->io, "seg", note_stray, &v);
	if (v.max > s->next_no)
		s->next_no = v.max;
	if (!r && !st->read_only) {
		/* Appended and never committed: nothing refers to them. */
		for (size_t i = 0; i < v.nr; i++) {
			bale_seg_name(name, v.numbers[i]);
			bale_info("segment %" PRIu64
				  " was never committed, removed",
				  v.numbers[i]);
			r = st->io->ops->unlink(st->io, name);
		}
		for (size_t i = 0, n = 0; i < s->nr && n < 8; i++, n++) {
			struct bale_seg *g = s->all[s->nr - 1 - i];
			int e = reopen_tail(st, g, n == 0);

			if (e)
				bale_err("segment %" PRIu64
					 " cannot be opened: %s",
					 g->no, strerror(-e));
		}
	}
	bale_mutex_unlock(&s->lock);
	free(v.numbers);
	return r;
}

/* Give back what was preallocated and not used. */
static void trim(struct bale_store *st, struct bale_seg *g)
{
	if (!g->open || g->prealloc <= g->used || st->read_only)
		return;
	if (bale_seg_pin_locked(st, g, true))
		return;
	st->io->ops->truncate(st->io, g->fd, g->used);
	bale_seg_unpin_locked(g);
}

void bale_segs_destroy(struct bale_segs *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->nr; i++)
		free(s->all[i]);
	free(s->all);
	free(s->deleted);
	bale_mutex_fini(&s->lock);
	free(s);
}

void bale_segs_stop(struct bale_store *st)
{
	struct bale_segs *s = st->segs;
	char name[32];

	bale_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->nr; i++) {
		trim(st, s->all[i]);
		close_fd_locked(st, s->all[i]);
		if (s->all[i]->open && !s->all[i]->used && !st->error) {
			bale_seg_name(name, s->all[i]->no);
			st->io->ops->unlink(st->io, name);
		}
	}
	bale_mutex_unlock(&s->lock);
}
