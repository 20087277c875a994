/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions: building, and staging with extent references resolved. */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"

enum { BACKPRESSURE = 256 << 20, KICK_COMMIT = 2 << 20, FREEZE = 32 << 20 };

/* ---- building ---- */

void bale_txn_begin(struct bale_meta *m, struct bale_txn *t)
{
	*t = (struct bale_txn){ .meta = m };
}

static void add_op(struct bale_txn *t, unsigned int kind, unsigned int table,
		   const void *key, size_t key_len, const void *val,
		   size_t val_len)
{
	struct bale_disk_op d = { .kind = (uint8_t)kind,
				  .table = (uint8_t)table,
				  .key_len = le16_put((uint16_t)key_len),
				  .val_len = le32_put((uint32_t)val_len) };

	if (!t->error)
		t->error = bale_buf_append(&t->ops, &d, sizeof(d));
	if (!t->error)
		t->error = bale_buf_append(&t->ops, key, key_len);
	if (!t->error)
		t->error = bale_buf_append(&t->ops, val, val_len);
	t->nr_ops++;
}

/* A row that replay would refuse must never reach the log. */
static bool refuse_bad_row(struct bale_txn *t, unsigned int table,
			   const void *key, size_t key_len, const void *val,
			   size_t val_len)
{
	if (!bale_row_check(table, key, key_len, val, val_len))
		return false;
	bale_err("refused a bad row for table %s: key %zu bytes, value %zu",
		 bale_table_name(table), key_len, val_len);
	if (!t->error)
		t->error = -EINVAL;
	return true;
}

void bale_txn_put(struct bale_txn *t, enum bale_table table, const void *key,
		  size_t key_len, const void *val, size_t val_len)
{
	if (!val)
		val = "";
	if (!refuse_bad_row(t, table, key, key_len, val, val_len))
		add_op(t, BALE_OP_PUT, table, key, key_len, val, val_len);
}

void bale_txn_del(struct bale_txn *t, enum bale_table table, const void *key,
		  size_t key_len)
{
	if (!refuse_bad_row(t, table, key, key_len, NULL, 0))
		add_op(t, BALE_OP_DEL, table, key, key_len, NULL, 0);
}

static void add_extent_op(struct bale_txn *t, unsigned int kind, uint64_t id,
			  const void *val, size_t val_len)
{
	be64 key = be64_put(id);

	add_op(t, kind, BALE_TABLE_extent, &key, sizeof(key), val, val_len);
}

void bale_txn_extent_add(struct bale_txn *t, uint64_t id,
			 const struct bale_extent_row *row)
{
	struct bale_disk_extent d;
	be64 key = be64_put(id);

	bale_extent_encode(row, &d);
	if (!refuse_bad_row(t, BALE_TABLE_extent, &key, sizeof(key), &d,
			    sizeof(d)))
		add_extent_op(t, BALE_OP_EXTENT_ADD, id, &d, sizeof(d));
}

void bale_txn_extent_ref(struct bale_txn *t, uint64_t id)
{
	add_extent_op(t, BALE_OP_EXTENT_REF, id, NULL, 0);
}

void bale_txn_extent_unref(struct bale_txn *t, uint64_t id)
{
	add_extent_op(t, BALE_OP_EXTENT_UNREF, id, NULL, 0);
}

void bale_txn_extent_move(struct bale_txn *t, uint64_t id,
			  const struct bale_extent_row *from,
			  const struct bale_extent_row *to)
{
	struct bale_disk_extent d[2];

	bale_extent_encode(from, &d[0]);
	bale_extent_encode(to, &d[1]);
	add_extent_op(t, BALE_OP_EXTENT_MOVE, id, d, sizeof(d));
}

void bale_txn_abort(struct bale_txn *t)
{
	bale_buf_fini(&t->ops);
}

/* ---- staging ---- */

int bale_stage_row_locked(struct bale_meta *m, unsigned int table,
			  const void *key, size_t key_len, const void *val,
			  size_t val_len)
{
	struct bale_disk_op d = {
		.kind = val ? BALE_OP_PUT : BALE_OP_DEL,
		.table = (uint8_t)table,
		.key_len = le16_put((uint16_t)key_len),
		.val_len = le32_put(val ? (uint32_t)val_len : 0),
	};
	int r = bale_buf_reserve(&m->group,
				 sizeof(d) + key_len + (val ? val_len : 0));

	if (!r)
		r = bale_memtable_put(m->active, table, key, key_len, val,
				      val_len);
	if (!r)
		r = bale_buf_append(&m->group, &d, sizeof(d));
	if (!r)
		r = bale_buf_append(&m->group, key, key_len);
	if (!r && val)
		r = bale_buf_append(&m->group, val, val_len);
	return r;
}

static int stage_extent(struct bale_meta *m, uint64_t id,
			const struct bale_extent_row *row)
{
	struct bale_disk_extent d;
	be64 key = be64_put(id);

	if (row)
		bale_extent_encode(row, &d);
	return bale_stage_row_locked(m, BALE_TABLE_extent, &key, sizeof(key),
				     row ? &d : NULL, sizeof(d));
}

static int stage_add(struct bale_meta *m, uint64_t id, const void *val)
{
	struct bale_extent_row row;
	int r = bale_extent_decode(val, sizeof(struct bale_disk_extent), &row);

	if (!r)
		r = stage_extent(m, id, &row);
	if (!r)
		bale_segs_live_add(m->st, row.segment, row.stored_len);
	return r;
}

/* refs + delta; the last one removes the row. An extent that is not there is
 * damage found elsewhere (fsck): dropping a reference to it changes nothing. */
static int stage_refs(struct bale_meta *m, uint64_t id, int delta)
{
	struct bale_extent_row row;
	int r = bale_meta_extent(m, id, &row);

	if (delta < 0 && (r == -ENOENT || r == -EBADMSG || r == -EUCLEAN)) {
		bale_warn("extent %llu has no good row: reference dropped",
			  (unsigned long long)id);
		return 0;
	}
	if (r)
		return r;
	if (delta < 0 && row.refs == 1) {
		r = stage_extent(m, id, NULL);
		if (!r)
			bale_segs_live_sub(m->st, row.segment, row.stored_len,
					   m->staged + 1);
		return r;
	}
	if (delta > 0 && row.refs == UINT32_MAX)
		return -EMLINK;
	row.refs += (uint32_t)delta;
	return stage_extent(m, id, &row);
}

static int stage_move(struct bale_meta *m, uint64_t id, const uint8_t *val)
{
	struct bale_extent_row from, to, now;
	int r = bale_extent_decode(val, sizeof(struct bale_disk_extent), &from);

	if (!r)
		r = bale_extent_decode(val + sizeof(struct bale_disk_extent),
				       sizeof(struct bale_disk_extent), &to);
	if (!r)
		r = bale_meta_extent(m, id, &now);
	if (r && r != -ENOENT)
		return r;
	if (r || now.segment != from.segment || now.offset != from.offset) {
		/* Gone or elsewhere by now: the copy is dead on arrival. */
		bale_store_discard(m->st, &to, 1);
		return 0;
	}
	to.refs = now.refs;
	r = stage_extent(m, id, &to);
	if (r)
		return r;
	bale_segs_live_add(m->st, to.segment, to.stored_len);
	bale_segs_live_sub(m->st, from.segment, from.stored_len, m->staged + 1);
	return 0;
}

static int stage_op(struct bale_meta *m, const struct bale_disk_op *d,
		    const uint8_t *key, const uint8_t *val)
{
	size_t key_len = le16_get(d->key_len), val_len = le32_get(d->val_len);
	be64 id = { { 0 } };

	if (d->kind >= BALE_OP_EXTENT_ADD)
		memcpy(&id, key, sizeof(id));
	switch (d->kind) {
	case BALE_OP_EXTENT_ADD:
		return stage_add(m, be64_get(id), val);
	case BALE_OP_EXTENT_REF:
		return stage_refs(m, be64_get(id), 1);
	case BALE_OP_EXTENT_UNREF:
		return stage_refs(m, be64_get(id), -1);
	case BALE_OP_EXTENT_MOVE:
		return stage_move(m, be64_get(id), val);
	default:
		return bale_stage_row_locked(
			m, d->table, key, key_len,
			d->kind == BALE_OP_PUT ? val : NULL, val_len);
	}
}

static int stage_all(struct bale_meta *m, const struct bale_txn *t)
{
	int r = 0;

	for (size_t pos = 0; !r && pos < t->ops.len;) {
		const struct bale_disk_op *d =
			(const void *)(t->ops.data + pos);
		const uint8_t *key = (const uint8_t *)(d + 1);
		const uint8_t *val = key + le16_get(d->key_len);

		r = stage_op(m, d, key, val);
		pos = (size_t)(val - t->ops.data) + le32_get(d->val_len);
	}
	return r;
}

static void wait_for_room_locked(struct bale_meta *m)
	BALE_REQUIRES(m->stage_lock);
static void wait_for_room_locked(struct bale_meta *m)
{
	while (!m->manual && !m->stop && m->frozen &&
	       bale_memtable_bytes(m->active) > BACKPRESSURE &&
	       !bale_store_error(m->st))
		bale_cond_wait(&m->room_cond, &m->stage_lock);
}

static void kick_threads_locked(struct bale_meta *m)
{
	if (m->group.len > KICK_COMMIT)
		bale_cond_signal(&m->commit_cond);
	if (bale_memtable_bytes(m->active) > FREEZE)
		bale_cond_signal(&m->apply_cond);
}

int bale_txn_commit(struct bale_txn *t, uint64_t *ret_seq)
{
	struct bale_meta *m = t->meta;
	int r = t->error;

	if (!r && m->read_only)
		r = -EROFS;
	if (!r)
		r = bale_fault("meta.stage");
	if (r) {
		bale_txn_abort(t);
		return r;
	}
	bale_mutex_lock(&m->stage_lock);
	wait_for_room_locked(m);
	r = bale_store_error(m->st) ? -EROFS : 0;
	if (!r) {
		r = stage_all(m, t);
		/* Half a transaction in the group must never be committed. */
		if (r)
			bale_store_fail(m->st, r, "staging a transaction");
	}
	if (!r) {
		m->staged++;
		if (ret_seq)
			*ret_seq = m->staged;
		kick_threads_locked(m);
	}
	bale_mutex_unlock(&m->stage_lock);
	bale_txn_abort(t);
	return r;
}
