/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaner gives dead space back, cheapest way first: a segment with nothing
 * live is removed; dead payload of a sealed segment is punched out of the file;
 * what lives in a nearly empty segment is copied to a new bale, as stored
 * bytes, and the segment removed after the commit. It works only on what is
 * dead by a durable record: a crash may bring back the state of that record,
 * and that must find its bytes.
 *
 * One pass runs at a time (`lock`). The thread wakes every PERIOD, or when
 * told; a pass that finds nothing to do sleeps again: it never spins.
 */
#include "fs/store/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"

#define PERIOD_NS ((uint64_t)5 * 1000000000u)

enum {
	COPY_BELOW_PERCENT = 25, /* copying moves at most a third of what it
				    frees */
	COPY_BATCH = 4 << 20,
	PUNCH_MIN = 64 << 10,
	BLOCK = 4096,
};

struct bale_cleaner {
	struct bale_mutex lock;	      /* one pass at a time */
	struct bale_mutex state_lock; /* stats, stop, woken */
	struct bale_cond cond;
	struct bale_cleaner_stats stats;
	bool stop, woken;
	bool running; /* const after create: there is a thread */
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

/* ---- live or dead ---- */

/* The extent that a descriptor describes still lives at this very place. */
static int lives_at(struct bale_store *st, uint64_t segment, uint64_t off,
		    const struct bale_disk_bale_extent *d,
		    struct bale_extent_row *row, bool *ret)
{
	int r = bale_meta_extent(st->meta, le64_get(d->id), row);

	*ret = !r && row->segment == segment && row->offset == off;
	return r == -ENOENT ? 0 : r;
}

/* ---- punching ---- */

struct punch {
	struct bale_store *st;
	uint64_t segment, from, to; /* the dead run so far */
	uint64_t punched;
	int fd;
};

static int flush_run(struct punch *p)
{
	uint64_t from = (p->from + BLOCK - 1) / BLOCK * BLOCK;
	uint64_t to = p->to / BLOCK * BLOCK;
	int r = 0;

	if (from < to)
		r = p->st->io->ops->punch(p->st->io, p->fd, from, to - from);
	if (!r && from < to)
		p->punched += to - from;
	p->from = p->to = 0;
	return r;
}

/* Dead payload of one bale; runs never reach over a header. */
static int punch_bale(const struct bale_bale_info *info,
		      const struct bale_disk_bale_extent *d,
		      uint64_t payload_off, void *arg)
{
	struct punch *p = arg;
	uint64_t off = payload_off;
	int r = 0;

	for (uint32_t i = 0; !r && i < info->nr_extents; i++) {
		uint32_t len = le32_get(d[i].stored_len);
		struct bale_extent_row row;
		bool live;

		r = lives_at(p->st, p->segment, off, &d[i], &row, &live);
		if (r)
			break;
		if (live) {
			r = flush_run(p);
		} else {
			if (p->to != off)
				p->from = off;
			p->to = off + len;
		}
		off += len;
	}
	return r ? r : flush_run(p);
}

static int punch_segment(struct bale_store *st, struct bale_cleaner *c,
			 const struct bale_seg_info *g)
{
	struct punch p = { .st = st, .segment = g->segment };
	int r = bale_segs_fd_get(st, g->segment, &p.fd);

	if (r)
		return r;
	set_state(c, "punching", g->segment);
	r = bale_store_scan_segment(st, g->segment, punch_bale, &p);
	bale_segs_fd_put(st, g->segment, p.fd);
	if (!r || r == -EOPNOTSUPP)
		bale_segs_mark_punched(st, g->segment, g->live);
	count(c, 0, 0, 0, p.punched);
	return r == -EOPNOTSUPP ? 0 : r;
}

/* ---- copying ---- */

struct copy {
	struct bale_store *st;
	uint64_t segment;
	uint8_t *buf;
	struct bale_extent_in *in;
	struct bale_extent_row *from;
	size_t nr, cap, bytes;
	uint64_t copied;
};

static int copy_out(struct copy *c)
{
	bale_autofree struct bale_extent_row *to =
		calloc(c->nr + 1, sizeof(*to));
	uint64_t reserved = bale_space_with_overhead(c->st, c->bytes) +
			    c->nr * sizeof(struct bale_disk_bale_extent);
	struct bale_txn t;
	int r;

	if (!to)
		return -ENOMEM;
	if (!c->nr)
		return 0;
	/* Not bale_space_reserve(): that may be waiting for this very pass. */
	r = bale_segs_prealloc(c->st, reserved);
	if (!r)
		r = bale_store_append(c->st, c->in, c->nr, to);
	if (r)
		return r;
	bale_txn_begin(c->st->meta, &t);
	for (size_t i = 0; i < c->nr; i++)
		bale_txn_extent_move(&t, c->in[i].id, &c->from[i], &to[i]);
	r = bale_txn_commit(&t, NULL);
	if (r)
		bale_store_discard(c->st, to, c->nr);
	else
		c->copied += c->bytes;
	c->nr = 0;
	c->bytes = 0;
	return r;
}

static int grow_copy(struct copy *c)
{
	size_t cap = c->cap ? 2 * c->cap : 256;
	void *in, *from;

	if (c->nr < c->cap)
		return 0;
	in = realloc(c->in, cap * sizeof(*c->in));
	if (in)
		c->in = in;
	from = realloc(c->from, cap * sizeof(*c->from));
	if (from)
		c->from = from;
	if (!in || !from)
		return -ENOMEM;
	c->cap = cap;
	return 0;
}

static int copy_bale(const struct bale_bale_info *info,
		     const struct bale_disk_bale_extent *d,
		     uint64_t payload_off, void *arg)
{
	struct copy *c = arg;
	uint64_t off = payload_off;
	int r = 0;

	for (uint32_t i = 0; !r && i < info->nr_extents; i++) {
		uint32_t len = le32_get(d[i].stored_len);
		struct bale_extent_row row;
		bool live;

		r = lives_at(c->st, c->segment, off, &d[i], &row, &live);
		off += len;
		if (r || !live)
			continue;
		if (c->bytes + len > COPY_BATCH)
			r = copy_out(c);
		if (!r)
			r = grow_copy(c);
		if (!r)
			r = bale_store_read(c->st, &row, c->buf + c->bytes);
		if (r)
			break;
		c->from[c->nr] = row;
		c->in[c->nr++] = (struct bale_extent_in){
			.id = le64_get(d[i].id),
			.ino = le64_get(d[i].ino),
			.extent_no = le64_get(d[i].extent_no),
			.raw_len = row.raw_len,
			.codec = row.codec,
			.filter = row.filter,
			.level = row.level,
			.reason = row.reason,
			.stored = c->buf + c->bytes,
			.stored_len = row.stored_len,
		};
		c->bytes += len;
	}
	return r;
}

static int copy_segment(struct bale_store *st, struct bale_cleaner *cl,
			const struct bale_seg_info *g)
{
	struct copy c = { .st = st, .segment = g->segment };
	int r;

	set_state(cl, "copying", g->segment);
	c.buf = malloc(COPY_BATCH);
	r = c.buf ? bale_store_scan_segment(st, g->segment, copy_bale, &c) :
		    -ENOMEM;
	if (!r)
		r = copy_out(&c);
	count(cl, 0, 0, c.copied, 0);
	free(c.buf);
	free(c.in);
	free(c.from);
	return r;
}

/* ---- a pass ---- */

static int delete_segment(struct bale_store *st, struct bale_cleaner *c,
			  const struct bale_seg_info *g)
{
	int r;

	set_state(c, "removing", g->segment);
	r = bale_segs_delete(st, g->segment);
	if (!r)
		count(c, 1, g->used, 0, 0);
	return r == -EBUSY ? 0 : r;
}

static int clean_one(struct bale_store *st, struct bale_cleaner *c,
		     const struct bale_seg_info *g, bool copy, bool *ret_work)
{
	if (g->open || g->dead_seq > bale_meta_durable(st->meta))
		return 0;
	if (!g->live) {
		*ret_work = true;
		return delete_segment(st, c, g);
	}
	if (copy && g->live * 100 < g->used * COPY_BELOW_PERCENT) {
		*ret_work = true;
		return copy_segment(st, c, g);
	}
	if (!g->punched && g->used - g->live >= PUNCH_MIN) {
		*ret_work = true;
		return punch_segment(st, c, g);
	}
	return 0;
}

static int pass(struct bale_store *st, struct bale_cleaner *c, bool copy,
		bool *ret_work)
{
	bale_autofree struct bale_seg_info *v = NULL;
	size_t nr;
	int r = bale_segs_list(st, &v, &nr), first = 0;

	*ret_work = false;
	for (size_t i = 0; !r && i < nr && !stopping(c); i++) {
		int e = clean_one(st, c, &v[i], copy, ret_work);

		/* One damaged segment keeps its space; the others go on. */
		if (e && e != -ENOSPC)
			bale_warn("cleaner: segment %" PRIu64 " stays: %s",
				  v[i].segment, strerror(-e));
		if (e && !first)
			first = e;
		r = bale_store_error(st);
	}
	bale_space_regrow_reserve(st);
	if (first)
		set_state(c, strerror(-first), UINT64_MAX);
	else
		set_state(c, "idle", UINT64_MAX);
	return r;
}

int bale_cleaner_run(struct bale_store *st, uint64_t target)
{
	struct bale_cleaner *c = st->cleaner;
	uint64_t total, before = 0, after = 0;
	bool work = true;
	int r = 0;

	if (!c)
		return -EROFS;
	bale_mutex_lock(&c->lock);
	st->io->ops->space(st->io, &total, &before);
	for (int round = 0; !r && work && round < 4; round++) {
		r = pass(st, c, round > 0, &work);
		/* What was moved away is dead once the move is durable. */
		if (!r && work)
			r = bale_meta_sync(st->meta, 0);
		st->io->ops->space(st->io, &total, &after);
		if (target && after >= before + target)
			break;
	}
	bale_mutex_unlock(&c->lock);
	return r;
}

static void *cleaner_main(void *arg)
{
	struct bale_store *st = arg;
	struct bale_cleaner *c = st->cleaner;

	bale_mutex_lock(&c->state_lock);
	while (!c->stop) {
		bool work;

		if (!c->woken)
			bale_cond_wait_for(&c->cond, &c->state_lock, PERIOD_NS);
		c->woken = false;
		if (c->stop)
			break;
		bale_mutex_unlock(&c->state_lock);
		bale_mutex_lock(&c->lock);
		if (!bale_store_error(st))
			pass(st, c, true, &work);
		bale_mutex_unlock(&c->lock);
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
