/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The applier: freezes the active memtable and moves it into the index.
 *
 * The frozen memtable may hold rows of a group that was still open when it was
 * frozen; it is moved only after they are durable. The position recorded is
 * the log's end of before: replaying from there repeats some rows, in order,
 * and ends in the same state, since rows are absolute values.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"

enum { ROWS_PER_TXN = 20000, FREEZE_BYTES = 32 << 20 };
#define APPLY_NS ((uint64_t)10 * 1000000000u)
#define RETRY_NS ((uint64_t)1000000000u)

int bale_meta_freeze_locked(struct bale_meta *m)
{
	struct bale_memtable *fresh;
	int r = bale_memtable_create(&fresh);

	if (r)
		return r;
	m->frozen_seq = m->staged;
	m->frozen_from = bale_wal_end(m->wal);
	/* frozen before active: a reader that sees the new active one must
	 * see the old one as frozen. */
	bale_mutex_lock(&m->view_lock);
	m->frozen = m->active;
	m->active = fresh;
	bale_mutex_unlock(&m->view_lock);
	return 0;
}

int bale_meta_move_rows(struct bale_meta *m, struct bale_memtable *mt,
			const struct bale_wal_position *pos)
{
	const struct bale_mem_node *n = bale_memtable_seek(mt, 0, "", 0);
	int r = 0;

	do {
		r = bale_fault("meta.apply");
		if (!r)
			r = bale_kv_begin(m->kv);
		for (int i = 0; !r && n && i < ROWS_PER_TXN; i++) {
			struct bale_mem_row row;

			bale_mem_row(n, &row);
			r = bale_kv_put(m->kv, &row);
			n = bale_mem_next(n);
		}
		if (r)
			bale_kv_abort(m->kv);
		else if (n)
			r = bale_kv_commit(m->kv, NULL, NULL);
		else
			r = bale_kv_commit(m->kv, &pos->lsn, &pos->seq);
	} while (!r && n);
	return r;
}

static void drop_frozen(struct bale_meta *m)
{
	struct bale_memtable *old;

	bale_mutex_lock(&m->view_lock);
	old = m->frozen;
	m->frozen = NULL;
	bale_mutex_unlock(&m->view_lock);
	bale_memtable_unref(old);
	bale_mutex_lock(&m->stage_lock);
	bale_cond_broadcast(&m->room_cond);
	bale_mutex_unlock(&m->stage_lock);
}

int bale_meta_apply_frozen(struct bale_meta *m)
{
	struct bale_wal_position pos;
	uint64_t seq;
	int r;

	bale_mutex_lock(&m->stage_lock);
	seq = m->frozen_seq;
	pos = m->frozen_from;
	bale_mutex_unlock(&m->stage_lock);
	if (!m->frozen)
		return 0;
	r = bale_meta_sync(m, seq);
	if (!r)
		r = bale_meta_move_rows(m, m->frozen, &pos);
	if (!r)
		drop_frozen(m);
	return r;
}

/* One at a time: the applier thread and bale_meta_apply() callers. */
static void claim_locked(struct bale_meta *m) BALE_REQUIRES(m->stage_lock);
static void claim_locked(struct bale_meta *m)
{
	while (m->applying)
		bale_cond_wait(&m->durable_cond, &m->stage_lock);
	m->applying = true;
}

static void unclaim(struct bale_meta *m)
{
	bale_mutex_lock(&m->stage_lock);
	m->applying = false;
	bale_cond_broadcast(&m->durable_cond);
	bale_mutex_unlock(&m->stage_lock);
}

static int apply_claimed(struct bale_meta *m)
{
	int r = bale_meta_apply_frozen(m); /* a failed one of before */

	if (r)
		return r;
	r = bale_meta_sync(m, 0);
	bale_mutex_lock(&m->stage_lock);
	if (!r)
		r = bale_meta_freeze_locked(m);
	bale_mutex_unlock(&m->stage_lock);
	return r ? r : bale_meta_apply_frozen(m);
}

int bale_meta_apply(struct bale_meta *m)
{
	int r;

	if (m->read_only)
		return 0;
	bale_mutex_lock(&m->stage_lock);
	claim_locked(m);
	bale_mutex_unlock(&m->stage_lock);
	r = apply_claimed(m);
	unclaim(m);
	return r;
}

int bale_meta_checkpoint(struct bale_meta *m)
{
	int r;

	if (m->read_only)
		return -EROFS;
	bale_mutex_lock(&m->stage_lock);
	claim_locked(m);
	bale_mutex_unlock(&m->stage_lock);
	r = apply_claimed(m);
	if (!r)
		r = bale_ckpt_write(m);
	unclaim(m);
	return r;
}

static int work(struct bale_meta *m)
{
	int r = bale_wal_prepare(m->wal);

	if (!r && (m->frozen || bale_memtable_bytes(m->active) > 1 << 20))
		r = apply_claimed(m);
	if (!r && bale_ckpt_due(m))
		r = bale_ckpt_write(m);
	return r;
}

void *bale_meta_apply_main(void *arg)
{
	struct bale_meta *m = arg;
	uint64_t wait_ns = APPLY_NS;
	int last = 0;

	bale_mutex_lock(&m->stage_lock);
	while (!m->stop) {
		int r;

		if (last || bale_memtable_bytes(m->active) < FREEZE_BYTES)
			bale_cond_wait_for(&m->apply_cond, &m->stage_lock,
					   wait_ns);
		if (m->stop)
			break;
		claim_locked(m);
		bale_mutex_unlock(&m->stage_lock);
		r = work(m);
		/* The log is the truth: nothing is lost, try again later. */
		if (r == -ENOSPC)
			bale_space_shrink_reserve(m->st);
		if (r && r != last && !bale_store_error(m->st))
			bale_warn("index: %s: trying again", strerror(-r));
		last = r;
		wait_ns = r ? RETRY_NS : APPLY_NS;
		unclaim(m);
		bale_mutex_lock(&m->stage_lock);
	}
	bale_mutex_unlock(&m->stage_lock);
	return NULL;
}
