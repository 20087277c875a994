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

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"

enum {
	/* Bounds of an index transaction: pages that it may make dirty. */
	ROWS_PER_TXN = 4096,
	BYTES_PER_TXN = 4 << 20,
	FREEZE_BYTES = 16 << 20, /* a memtable this large is moved at once */
	IDLE_BYTES = 1 << 20,	 /* ... and this large when time has passed */
};
#define APPLY_NS     ((uint64_t)10 * 1000000000u)
#define RETRY_MIN_NS ((uint64_t)1000000000u)
#define RETRY_MAX_NS ((uint64_t)30 * 1000000000u)

/* ---- moving ---- */

struct mover {
	struct bale_memtable *mt;
	unsigned int table;
	const struct bale_mem_node *node;
};

static bool next_row(struct mover *mv, struct bale_mem_row *ret)
{
	while (mv->table < BALE_TABLE_NR) {
		while (mv->node) {
			const struct bale_mem_node *n = mv->node;

			mv->node = bale_mem_next(n);
			if (bale_mem_row(n, ret))
				return true;
		}
		if (++mv->table < BALE_TABLE_NR)
			mv->node = bale_memtable_seek(mv->mt, mv->table, "", 0);
	}
	return false;
}

int bale_meta_move_rows(struct bale_meta *m, struct bale_memtable *mt,
			const struct bale_wal_position *pos)
{
	struct mover mv = { mt, 0, bale_memtable_seek(mt, 0, "", 0) };
	struct bale_mem_row row;
	bool more = next_row(&mv, &row);
	int r;

	do {
		size_t bytes = 0;

		r = BALE_FAULT("meta.apply");
		if (!r)
			r = bale_kv_begin(m->kv);
		for (unsigned int i = 0;
		     !r && more && i < ROWS_PER_TXN && bytes < BYTES_PER_TXN;
		     i++) {
			bytes += row.key_len + row.val_len;
			r = bale_kv_put(m->kv, &row);
			more = next_row(&mv, &row);
		}
		BALE_FAULT_POINT("index.moved");
		if (!r)
			r = bale_kv_commit(m->kv, more ? NULL : pos);
		BALE_FAULT_POINT("index.committed");
	} while (!r && more);
	return r;
}

static int freeze(struct bale_meta *m)
{
	struct bale_memtable *fresh, *active;
	int r = bale_memtable_create(&fresh);

	if (r)
		return r;
	bale_mutex_lock(&m->stage_lock);
	m->frozen_seq = m->staged;
	m->frozen_from = bale_wal_end(m->wal);
	active = atomic_load(&m->active);
	atomic_store(&m->frozen, active); /* before active: view.c */
	atomic_store(&m->active, fresh);
	bale_cond_broadcast(&m->room_cond);
	bale_mutex_unlock(&m->stage_lock);
	return 0;
}

/* The index has its rows: nobody new finds it, those who did finish. Under
 * the staging lock, whose holders look into it without a view. */
static void drop_frozen(struct bale_meta *m)
{
	struct bale_memtable *old;

	bale_mutex_lock(&m->stage_lock);
	old = atomic_exchange(&m->frozen, NULL);
	atomic_fetch_add(&m->drops, 1);
	bale_cond_broadcast(&m->room_cond);
	bale_mutex_unlock(&m->stage_lock);
	bale_slots_wait(m->slots);
	bale_memtable_destroy(old);
}

static int apply_frozen(struct bale_meta *m)
{
	struct bale_memtable *frozen = atomic_load(&m->frozen);
	int r;

	if (!frozen)
		return 0;
	r = bale_meta_sync(m, m->frozen_seq);
	if (!r)
		r = bale_meta_move_rows(m, frozen, &m->frozen_from);
	if (!r)
		drop_frozen(m);
	return r;
}

/* ---- who may ---- */

static void claim(struct bale_meta *m)
{
	bale_mutex_lock(&m->stage_lock);
	while (m->applying)
		bale_cond_wait(&m->durable_cond, &m->stage_lock);
	m->applying = true;
	bale_mutex_unlock(&m->stage_lock);
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
	int r = apply_frozen(m); /* a failed one of before */

	if (!r)
		r = bale_meta_sync(m, 0);
	if (!r)
		r = freeze(m);
	if (!r)
		r = apply_frozen(m);
	/* Half of a commit record was written: what LMDB would read next is
	 * anybody's guess. */
	if (r == -ENOTRECOVERABLE)
		bale_store_fail(m->st, r, "index");
	return r;
}

int bale_meta_apply(struct bale_meta *m)
{
	int r;

	if (m->read_only)
		return 0;
	claim(m);
	r = apply_claimed(m);
	unclaim(m);
	return r;
}

int bale_meta_checkpoint(struct bale_meta *m)
{
	int r;

	if (m->read_only)
		return -EROFS;
	claim(m);
	r = apply_claimed(m);
	if (!r)
		r = bale_ckpt_write(m);
	unclaim(m);
	return r;
}

/* ---- the thread ---- */

static size_t active_bytes(struct bale_meta *m)
{
	return bale_memtable_bytes(atomic_load(&m->active));
}

static int work(struct bale_meta *m)
{
	bool due = bale_ckpt_due(m);
	int r = 0;

	/* A checkpoint lets go of the log up to where the index is. */
	if (due || atomic_load(&m->frozen) || active_bytes(m) > IDLE_BYTES)
		r = apply_claimed(m);
	if (!r && due)
		r = bale_ckpt_write(m);
	return r;
}

/* The log is the truth: nothing is lost, it is tried again later. */
static void note_result(struct bale_meta *m, int r, int last)
{
	if (r == -ENOSPC)
		bale_space_shrink_reserve(m->st);
	if (r && r != last && !bale_store_error(m->st))
		bale_warn("index: %s: trying again", strerror(-r));
	if (!r && last)
		bale_info("index: caught up again");
	bale_mutex_lock(&m->stage_lock);
	m->no_space = r == -ENOSPC || r == -EIO;
	bale_cond_broadcast(&m->room_cond);
	bale_mutex_unlock(&m->stage_lock);
}

/* Until it is time, or (after a success only) until there is enough to do. */
static void wait_for_work_locked(struct bale_meta *m, uint64_t ns, bool failed)
	BALE_REQUIRES(m->stage_lock)
{
	uint64_t now, end = bale_now_ns() + ns;

	while (!m->stop && (now = bale_now_ns()) < end &&
	       (failed ||
		(active_bytes(m) < FREEZE_BYTES && !bale_ckpt_due(m))))
		bale_cond_wait_for(&m->apply_cond, &m->stage_lock, end - now);
}

void *bale_meta_apply_main(void *arg)
{
	struct bale_meta *m = arg;
	uint64_t retry_ns = 0;
	int r = 0, last;

	bale_mutex_lock(&m->stage_lock);
	for (;;) {
		wait_for_work_locked(m, r ? retry_ns : APPLY_NS, r);
		if (m->stop)
			break;
		bale_mutex_unlock(&m->stage_lock);
		last = r;
		claim(m);
		r = bale_store_error(m->st) ? -EIO : work(m);
		unclaim(m);
		note_result(m, r, last);
		retry_ns = !last		       ? RETRY_MIN_NS :
			   retry_ns * 2 < RETRY_MAX_NS ? retry_ns * 2 :
							 RETRY_MAX_NS;
		bale_mutex_lock(&m->stage_lock);
	}
	bale_mutex_unlock(&m->stage_lock);
	return NULL;
}
