/* SPDX-License-Identifier: Apache-2.0 */
/* Reading rows, group commit, counters, opening and closing. */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"

#define DEFAULT_COMMIT_NS ((uint64_t)5 * 1000000000u)
#define PAUSE_NS	  ((uint64_t)100000000u)

enum { INO_STEP = 1 << 16, EXTENT_STEP = 1 << 20 };

/* ---- reading ---- */

static int copy_row(const struct bale_mem_row *row, void *buf, size_t cap,
		    size_t *ret_len)
{
	if (row->deleted)
		return -ENOENT;
	*ret_len = row->val_len;
	if (row->val_len > cap)
		return -ENOSPC;
	if (row->val_len)
		memcpy(buf, row->val, row->val_len);
	return 0;
}

int bale_meta_get(struct bale_meta *m, enum bale_table table, const void *key,
		  size_t key_len, void *buf, size_t cap, size_t *ret_len)
{
	struct bale_mem_row row;
	struct bale_view v;
	int r;

	if (!key_len || key_len > BALE_KEY_MAX)
		return -ENOENT;
	bale_view_get(m, &v);
	if (bale_memtable_get(v.active, table, key, key_len, &row) ||
	    (v.frozen &&
	     bale_memtable_get(v.frozen, table, key, key_len, &row))) {
		r = copy_row(&row, buf, cap, ret_len);
	} else {
		r = bale_view_index(m, &v);
		if (!r)
			r = bale_kv_get(m->kv, v.txn, table, key, key_len, buf,
					cap, ret_len);
		/* From disk: never used unchecked. */
		if (!r && bale_row_check(table, key, key_len, buf, *ret_len))
			r = -EUCLEAN;
	}
	bale_view_put(&v);
	return r;
}

int bale_meta_extent(struct bale_meta *m, uint64_t id,
		     struct bale_extent_row *ret)
{
	struct bale_disk_extent d;
	be64 key = be64_put(id);
	size_t len;
	int r = bale_meta_get(m, BALE_TABLE_extent, &key, sizeof(key), &d,
			      sizeof(d), &len);

	return r ? r : bale_extent_decode(&d, len, ret);
}

/* ---- group commit ---- */

struct usage {
	struct bale_meta *m;
	int r;
};

static void stage_usage(uint64_t segment, uint64_t used, uint64_t live,
			bool deleted, void *arg)
{
	struct usage *u = arg;
	struct bale_disk_segment d = { le64_put(used), le64_put(live) };
	be64 key = be64_put(segment);

	if (!u->r)
		u->r = bale_stage_row_locked(u->m, BALE_TABLE_segment, &key,
					     sizeof(key), deleted ? NULL : &d,
					     sizeof(d));
}

/* Segments first: a durable record never names bytes that could be lost. */
static int write_group(struct bale_meta *m, const struct bale_buf *body)
{
	int r = BALE_FAULT("meta.commit");

	if (!r)
		r = bale_segs_sync(m->st);
	if (r) {
		bale_store_fail(m->st, r, "sync of segments");
		return r;
	}
	r = BALE_FAULT("meta.log");
	if (!r)
		r = bale_wal_append(m->wal, body->data, body->len);
	BALE_FAULT_POINT("meta.logged");
	if (r)
		bale_store_fail(m->st, r, "append to the log");
	return r;
}

/* The open group for the log, and an empty one in its place. */
static struct bale_buf take_group_locked(struct bale_meta *m)
{
	struct bale_buf body = m->group;

	m->group = m->spare;
	m->spare = (struct bale_buf){ 0 };
	if (!++m->group_no)
		m->group_no = 1; /* 0: a node in no group */
	bale_cond_broadcast(&m->room_cond);
	return body;
}

static void give_back_locked(struct bale_meta *m, struct bale_buf *body)
{
	enum { KEEP = 2 * BALE_GROUP_KICK };

	if (m->spare.data || body->cap > KEEP) {
		bale_buf_fini(body);
		return;
	}
	m->spare = *body;
	m->spare.len = 0;
}

/* Be the leader of one commit. stage_lock held on entry and return. */
static void lead_locked(struct bale_meta *m) BALE_REQUIRES(m->stage_lock)
{
	struct usage u = { .m = m };
	struct bale_buf body;
	uint64_t seq = m->staged;
	int r;

	m->leading = true;
	bale_segs_usage_take(m->st, stage_usage, &u);
	if (u.r)
		bale_store_fail(m->st, u.r, "staging segment usage");
	body = take_group_locked(m);
	bale_mutex_unlock(&m->stage_lock);
	r = bale_store_error(m->st);
	if (!r && body.len)
		r = write_group(m, &body);
	bale_mutex_lock(&m->stage_lock);
	if (!r) {
		atomic_store(&m->durable, seq);
		m->commits++;
		m->log_bytes += body.len;
	}
	m->leading = false;
	bale_cond_broadcast(&m->durable_cond);
	give_back_locked(m, &body);
	if (bale_wal_wants_prepare(m->wal))
		bale_cond_signal(&m->commit_cond);
}

int bale_meta_sync(struct bale_meta *m, uint64_t seq)
{
	int r = 0;

	if (m->read_only)
		return 0;
	bale_mutex_lock(&m->stage_lock);
	if (!seq)
		seq = m->staged;
	while (atomic_load(&m->durable) < seq &&
	       !(r = bale_store_error(m->st))) {
		if (m->leading)
			bale_cond_wait(&m->durable_cond, &m->stage_lock);
		else
			lead_locked(m);
	}
	/* Once one has failed, none claims success. */
	if (!r)
		r = bale_store_error(m->st);
	bale_mutex_unlock(&m->stage_lock);
	return r ? -EIO : 0;
}

uint64_t bale_meta_staged(struct bale_meta *m)
{
	uint64_t v;

	bale_mutex_lock(&m->stage_lock);
	v = m->staged;
	bale_mutex_unlock(&m->stage_lock);
	return v;
}

uint64_t bale_meta_durable(struct bale_meta *m)
{
	return atomic_load(&m->durable);
}

/* Without zeros ahead commits go on, slower; the leader meets the error if it
 * stays. Not again at once. */
static void prepare_log(struct bale_meta *m)
{
	int r = bale_wal_prepare(m->wal);

	if (!r)
		return;
	bale_debug("log: zeros ahead: %s", strerror(-r));
	bale_mutex_lock(&m->stage_lock);
	if (!m->stop)
		bale_cond_wait_for(&m->commit_cond, &m->stage_lock, PAUSE_NS);
	bale_mutex_unlock(&m->stage_lock);
}

/* Commits on time, or when a group is large; zeros ahead of the log. */
static void *commit_main(void *arg)
{
	struct bale_meta *m = arg;
	uint64_t due = bale_now_ns() + m->commit_ns;

	bale_mutex_lock(&m->stage_lock);
	while (!m->stop) {
		uint64_t now = bale_now_ns();

		if (now < due && m->group.len < BALE_GROUP_KICK &&
		    !bale_wal_wants_prepare(m->wal))
			bale_cond_wait_for(&m->commit_cond, &m->stage_lock,
					   due - now);
		if (m->stop)
			break;
		now = bale_now_ns();
		if (bale_store_error(m->st)) {
			bale_cond_wait_for(&m->commit_cond, &m->stage_lock,
					   DEFAULT_COMMIT_NS);
			continue;
		}
		if (now >= due || m->group.len >= BALE_GROUP_KICK) {
			due = now + m->commit_ns;
			bale_mutex_unlock(&m->stage_lock);
			bale_meta_sync(m, 0);
		} else {
			bale_mutex_unlock(&m->stage_lock);
		}
		prepare_log(m);
		bale_mutex_lock(&m->stage_lock);
	}
	bale_mutex_unlock(&m->stage_lock);
	return NULL;
}

/* ---- counters ---- */

static int next_value(struct bale_meta *m, struct bale_counter *c,
		      uint64_t *ret)
{
	int r = 0;

	bale_mutex_lock(&m->counter_lock);
	if (c->next == c->limit && c->limit > BALE_NUMBER_MAX - c->step)
		r = -ENOSPC;
	else if (c->next == c->limit) {
		le64 limit = le64_put(c->limit + c->step);
		struct bale_txn t;

		bale_txn_begin(m, &t);
		bale_txn_put(&t, BALE_TABLE_meta, c->name, strlen(c->name),
			     &limit, sizeof(limit));
		r = bale_txn_commit(&t, NULL);
		if (!r)
			c->limit += c->step;
	}
	if (!r)
		*ret = c->next++;
	bale_mutex_unlock(&m->counter_lock);
	return r;
}

int bale_meta_new_ino(struct bale_meta *m, uint64_t *ret)
{
	return next_value(m, &m->ino, ret);
}

int bale_meta_new_extent_id(struct bale_meta *m, uint64_t *ret)
{
	return next_value(m, &m->extent_id, ret);
}

static int load_counter(struct bale_meta *m, struct bale_counter *c,
			uint64_t first)
{
	le64 v;
	size_t len;
	int r = bale_meta_get(m, BALE_TABLE_meta, c->name, strlen(c->name), &v,
			      sizeof(v), &len);

	if (r && r != -ENOENT)
		return r;
	/* 0 is no number, and what is below `first` is taken. */
	c->next = c->limit = r || le64_get(v) < first ? first : le64_get(v);
	return 0;
}

/* ---- open, close ---- */

static void init_locks(struct bale_meta *m)
{
	bale_mutex_init(&m->stage_lock);
	bale_mutex_init(&m->counter_lock);
	bale_cond_init(&m->durable_cond);
	bale_cond_init(&m->commit_cond);
	bale_cond_init(&m->apply_cond);
	bale_cond_init(&m->room_cond);
	m->ino = (struct bale_counter){ .name = "next_ino", .step = INO_STEP };
	m->extent_id = (struct bale_counter){ .name = "next_extent",
					      .step = EXTENT_STEP };
}

static int create_base(struct bale_store *st, struct bale_meta **ret)
{
	struct bale_meta *m = calloc(1, sizeof(*m));
	struct bale_memtable *active;
	int r;

	if (!m)
		return -ENOMEM;
	m->st = st;
	m->commit_ns = DEFAULT_COMMIT_NS;
	init_locks(m);
	m->group_no = 1;
	r = bale_memtable_create(&active);
	if (!r) {
		atomic_init(&m->active, active);
		r = bale_slots_create(&m->slots);
	}
	if (!r)
		r = bale_wal_create(st, &m->wal);
	*ret = m;
	return r;
}

/* clean: the index has everything, see bale_index_close(). */
static void destroy(struct bale_meta *m, bool clean)
{
	bale_slots_destroy(m->slots);
	bale_index_close(m, clean);
	bale_wal_destroy(m->wal);
	bale_memtable_destroy(atomic_load(&m->active));
	bale_memtable_destroy(atomic_load(&m->frozen));
	bale_buf_fini(&m->group);
	bale_buf_fini(&m->spare);
	bale_cond_fini(&m->room_cond);
	bale_cond_fini(&m->apply_cond);
	bale_cond_fini(&m->commit_cond);
	bale_cond_fini(&m->durable_cond);
	bale_mutex_fini(&m->counter_lock);
	bale_mutex_fini(&m->stage_lock);
	free(m);
}

static int load_segment(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg)
{
	struct bale_disk_segment d;
	be64 no;

	(void)key_len;
	(void)val_len;
	memcpy(&no, key, sizeof(no));
	memcpy(&d, val, sizeof(d));
	return bale_segs_load(arg, be64_get(no), le64_get(d.used),
			      le64_get(d.live));
}

static int start_threads(struct bale_meta *m)
{
	int r;

	if (m->manual || m->read_only)
		return 0;
	r = bale_thread_start(&m->commit_thread, "bale-commit", commit_main, m);
	if (r)
		return r;
	r = bale_thread_start(&m->apply_thread, "bale-apply",
			      bale_meta_apply_main, m);
	if (r) {
		bale_mutex_lock(&m->stage_lock);
		m->stop = true;
		bale_cond_signal(&m->commit_cond);
		bale_mutex_unlock(&m->stage_lock);
		pthread_join(m->commit_thread, NULL);
		return r;
	}
	m->threads = true;
	return 0;
}

int bale_meta_open(struct bale_store *st, const struct bale_store_options *o,
		   struct bale_meta **ret)
{
	struct bale_meta *m = NULL;
	int r = create_base(st, &m);

	if (!r) {
		m->read_only = o->read_only;
		m->manual = o->manual_commit;
		if (o->commit_ns)
			m->commit_ns = o->commit_ns;
		r = bale_meta_recover(m, o);
	}
	if (!r)
		r = load_counter(m, &m->ino, BALE_FIRST_INO);
	if (!r)
		r = load_counter(m, &m->extent_id, 1);
	if (!r)
		r = bale_meta_scan(m, BALE_TABLE_segment, NULL, 0, 0,
				   load_segment, st);
	if (!r)
		r = start_threads(m);
	if (r) {
		if (m)
			destroy(m, false);
		return r;
	}
	*ret = m;
	return 0;
}

static void stop_threads(struct bale_meta *m)
{
	if (!m->threads)
		return;
	bale_mutex_lock(&m->stage_lock);
	m->stop = true;
	bale_cond_broadcast(&m->commit_cond);
	bale_cond_broadcast(&m->apply_cond);
	bale_cond_broadcast(&m->room_cond);
	bale_mutex_unlock(&m->stage_lock);
	pthread_join(m->commit_thread, NULL);
	pthread_join(m->apply_thread, NULL);
}

int bale_meta_close(struct bale_meta *m)
{
	bool clean = false;
	int r = 0;

	if (!m)
		return 0;
	stop_threads(m);
	if (!m->read_only && !bale_store_error(m->st)) {
		r = bale_meta_sync(m, 0);
		BALE_FAULT_POINT("close.logged");
		if (!r)
			r = bale_meta_apply(m);
		BALE_FAULT_POINT("close.applied");
		if (r == -ENOSPC) {
			bale_space_shrink_reserve(m->st);
			r = bale_meta_apply(m);
		}
		clean = !r;
		if (!r && (bale_ckpt_due(m) || bale_ckpt_cheap(m)))
			r = bale_ckpt_write(m);
		if (r)
			bale_warn("%s: close: %s: the log has everything",
				  m->st->path, strerror(-r));
	}
	r = bale_store_error(m->st);
	destroy(m, clean);
	return r;
}

int bale_meta_format(struct bale_store *st, const struct bale_inode_row *root)
{
	struct bale_disk_inode d;
	be64 key = be64_put(BALE_ROOT_INO);
	struct bale_meta *m = NULL;
	int r = create_base(st, &m);

	bale_inode_encode(root, &d);
	if (!r)
		r = bale_wal_format(m->wal);
	if (!r)
		r = bale_stage_row_locked(m, BALE_TABLE_inode, &key,
					  sizeof(key), &d, sizeof(d));
	if (!r)
		r = bale_wal_append(m->wal, m->group.data, m->group.len);
	if (m)
		destroy(m, false);
	return r;
}

uint64_t bale_meta_unapplied(struct bale_meta *m)
{
	struct bale_view v;
	uint64_t bytes;

	bale_view_get(m, &v);
	bytes = bale_memtable_bytes(v.active);
	if (v.frozen)
		bytes += bale_memtable_bytes(v.frozen);
	bale_view_put(&v);
	return bytes;
}

uint64_t bale_meta_space_need(struct bale_meta *m)
{
	uint64_t index = m->kv ? bale_kv_bytes(m->kv) : 0;
	uint64_t ckpt = atomic_load(&m->ckpt_bytes), growth;
	/* Pages may get half full of it. */
	uint64_t coming = 2 * bale_meta_unapplied(m);

	growth = index / 8 > (4 << 20) ? index / 8 : 4 << 20;
	if (ckpt < index)
		ckpt = index;
	/* The log grows by four files before a full disk gets a checkpoint,
	 * and by four while that is written; the checkpoint; index growth. */
	return 8 * ((uint64_t)1 << m->st->super.log_bits) + ckpt * 5 / 4 +
	       growth + coming * 3 / 2;
}

void bale_meta_stats(struct bale_meta *m, struct bale_meta_stats *ret)
{
	struct bale_kv_position p = { .lsn = 0 };
	struct bale_memtable *frozen;

	memset(ret, 0, sizeof(*ret));
	if (m->kv) {
		bale_kv_position(m->kv, &p);
		ret->index_bytes = bale_kv_bytes(m->kv);
	}
	ret->applied_lsn = p.lsn;
	for (int t = 0; t < BALE_TABLE_NR; t++)
		ret->rows[t] = p.rows[t];
	ret->log_start = bale_wal_begin(m->wal);
	ret->log_end = ret->durable_lsn = bale_wal_end(m->wal).lsn;
	ret->ckpt_lsn = m->ckpt_lsn[0];
	bale_mutex_lock(&m->stage_lock);
	ret->commits = ret->syncs = m->commits;
	ret->log_bytes_written = m->log_bytes;
	ret->memtable_bytes = bale_memtable_bytes(atomic_load(&m->active));
	frozen = atomic_load(&m->frozen);
	if (frozen)
		ret->memtable_bytes += bale_memtable_bytes(frozen);
	bale_mutex_unlock(&m->stage_lock);
	ret->index_rebuilt = m->rebuilt;
	memcpy(ret->rebuild_reason, m->rebuild_reason,
	       sizeof(ret->rebuild_reason));
}
