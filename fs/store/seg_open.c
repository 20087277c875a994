/* SPDX-License-Identifier: Apache-2.0 */
/* The set of segments at the start and end of a store's time: what the rows
 * say against what lies in seg/. */
#include "fs/store/segments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"

enum {
	/* A tail with more blocks than this beyond its bytes was
	 * preallocated. */
	SLACK_MAX = 1 << 20,
	/* So many newest segments may have been open at a crash: 64 GiB of
	 * reservations. */
	REOPEN_MAX = 256,
};

int bale_segs_load(struct bale_store *st, uint64_t segment, uint64_t used,
		   uint64_t live)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g;
	int r = 0;

	bale_mutex_lock(&s->lock);
	g = bale_segs_find_locked(s, segment);
	if (!g)
		r = bale_segs_insert_locked(s, segment, &g);
	if (!r) {
		g->used = used;
		g->live = live;
	}
	bale_mutex_unlock(&s->lock);
	return r;
}

/* ---- files without rows, rows without files ---- */

struct listing {
	uint64_t *numbers;
	size_t nr, cap;
};

static int note_file(const char *name, void *arg)
{
	struct listing *v = arg;
	char *end;
	uint64_t no = strtoull(name, &end, 16);

	if (*end || end - name != 16 || no > UINT32_MAX)
		return 0;
	if (v->nr == v->cap) {
		size_t cap = v->cap ? 2 * v->cap : 64;
		void *p = realloc(v->numbers, cap * sizeof(*v->numbers));

		if (!p)
			return -ENOMEM;
		v->numbers = p;
		v->cap = cap;
	}
	v->numbers[v->nr++] = no;
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * A file without a row. Numbers only grow, and a group that has a row of one
 * segment has those of all older ones, so a number above every row is that of
 * a segment of which nothing was ever committed: it goes. Any other should not
 * be here; it may be all that is left of something, so it stays for fsck.
 */
static void drop_stray(struct bale_store *st, uint64_t no, bool above_rows)
{
	char name[32];
	int r;

	if (!above_rows) {
		bale_warn("segment %" PRIu64 " is in no row, left as it is",
			  no);
		return;
	}
	bale_seg_name(name, no);
	bale_info("segment %" PRIu64 " was never committed, removed", no);
	r = BALE_IO(st->io)->unlink(st->io, name);
	if (r)
		bale_warn("%s: %s", name, strerror(-r));
}

static void check_files_locked(struct bale_store *st, const struct listing *v)
{
	struct bale_segs *s = st->segs;

	for (size_t i = s->nr; i-- > 0;) {
		struct bale_seg *g = s->all[i];

		if (v->nr && bsearch(&g->no, v->numbers, v->nr,
				     sizeof(*v->numbers), compare_u64))
			continue;
		if (g->live)
			bale_err("segment %" PRIu64 " is missing, with %" PRIu64
				 " live bytes",
				 g->no, g->live);
		else if (!st->read_only && bale_segs_drop_locked(s, g))
			/* Removed just before the end: its row follows now, or
			 * for want of memory another time. */
			return;
	}
}

static int compare_files_locked(struct bale_store *st)
{
	struct bale_segs *s = st->segs;
	uint64_t above = s->nr ? s->all[s->nr - 1]->no + 1 : 0;
	struct listing v = { 0 };
	int r = BALE_IO(st->io)->list(st->io, "seg", note_file, &v);

	if (!r && v.nr)
		qsort(v.numbers, v.nr, sizeof(*v.numbers), compare_u64);
	for (size_t i = 0; !r && i < v.nr; i++) {
		uint64_t no = v.numbers[i];

		if (no >= s->next_no)
			s->next_no = no + 1;
		if (!st->read_only && !bale_segs_find_locked(s, no))
			drop_stray(st, no, no >= above);
	}
	if (!r)
		check_files_locked(st, &v);
	free(v.numbers);
	return r;
}

/*
 * Cut what was appended but never committed, and preallocation that a crash
 * left behind. Appending goes on in the newest one when much room is left.
 */
static void reopen_tail_locked(struct bale_store *st, struct bale_seg *g,
			       bool append)
{
	struct bale_segs *s = st->segs;
	uint64_t len, allocated;
	int r = bale_seg_pin_locked(st, g);

	if (r == -ENOENT)
		return;
	if (!r) {
		r = BALE_IO(st->io)->size(st->io, g->fd, &len, &allocated);
		if (!r && (len > g->used || allocated > g->used + SLACK_MAX))
			r = BALE_IO(st->io)->truncate(st->io, g->fd, g->used);
		/* Shorter than its row says: damaged, nothing goes after it. */
		if (!r && append && len >= g->used &&
		    g->used < s->seg_size / 2) {
			bale_seg_open_locked(s, g);
			g->prealloc = bale_align_up(g->used);
		}
		bale_seg_unpin_locked(g);
	}
	if (r)
		bale_err("segment %" PRIu64 ": %s", g->no, strerror(-r));
}

int bale_segs_start(struct bale_store *st)
{
	struct bale_segs *s = st->segs;
	uint64_t staged = bale_meta_staged(st->meta);
	int r;

	bale_mutex_lock(&s->lock);
	/* Every mount begins with a higher one than the last ever used: it
	 * counts bytes of the log, of which each commit takes 512. */
	s->bale_seq = staged << 12;
	r = compare_files_locked(st);
	if (!r && !st->read_only)
		for (size_t i = s->nr; i-- > 0 && i + REOPEN_MAX >= s->nr;)
			reopen_tail_locked(st, s->all[i], i + 1 == s->nr);
	bale_mutex_unlock(&s->lock);
	return r;
}

void bale_segs_stop(struct bale_store *st)
{
	struct bale_segs *s = st->segs;
	char name[32];

	if (!st->read_only)
		bale_segs_trim(st, 0);
	bale_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->nr; i++) {
		struct bale_seg *g = s->all[i];

		bale_seg_close_locked(st, g);
		/* Its row, if there is one, goes at the next open. */
		if (g->open && !g->used && !st->read_only) {
			bale_seg_name(name, g->no);
			BALE_IO(st->io)->unlink(st->io, name);
		}
	}
	bale_mutex_unlock(&s->lock);
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
