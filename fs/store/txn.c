/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions: building, and staging with extent references resolved.
 *
 * Staging has two passes under the staging lock. The first resolves every op
 * to the value its row will have and puts that into the row's node as
 * `pending`, where later ops of the same transaction see it; it gets all
 * memory that is needed and may fail, leaving nothing behind. The second
 * cannot fail: it publishes the values to readers and the ops to the group.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"

enum {
	GROUP_MAX = 32 << 20,	   /* staging waits for the commit */
	KICK_APPLY = 16 << 20,	   /* of the active memtable */
	MEMTABLE_MAX = 48 << 20,   /* staging waits for the applier */
	MEMTABLE_FULL = 192 << 20, /* ... who has no space: no more */
};
#define WAIT_NS ((uint64_t)100000000u)

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
		t->error = bale_buf_reserve(&t->ops,
					    sizeof(d) + key_len + val_len);
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

	if (!refuse_bad_row(t, BALE_TABLE_extent, &key, sizeof(key), NULL, 0))
		add_op(t, kind, BALE_TABLE_extent, &key, sizeof(key), val,
		       val_len);
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

/* Calls fn for every op until it fails. */
typedef int op_fn(const struct bale_disk_op *d, const uint8_t *key,
		  const uint8_t *val, void *arg);
static int for_ops(const struct bale_txn *t, op_fn *fn, void *arg)
{
	int r = 0;

	for (size_t pos = 0; !r && pos < t->ops.len;) {
		const struct bale_disk_op *d =
			(const void *)(t->ops.data + pos);
		const uint8_t *key = (const uint8_t *)(d + 1);
		const uint8_t *val = key + le16_get(d->key_len);

		r = fn(d, key, val, arg);
		pos = (size_t)(val - t->ops.data) + le32_get(d->val_len);
	}
	return r;
}

/* ---- staging ---- */

/* What an extent op does to a segment's live bytes, once it cannot fail. */
struct effect {
	struct bale_extent_row row;
	enum { LIVE_ADD, LIVE_SUB, LIVE_DISCARD } what;
};

/* An extent's row as the index had it before the lock was taken. */
struct early {
	uint64_t id;
	struct bale_disk_extent row;
	int r;
};

struct staging {
	struct bale_meta *m;
	struct bale_mem_node *touched; /* linked by pending_next */
	struct bale_mem_node **tail;
	struct bale_buf effects;
	struct bale_buf early; /* in the order of the extent ops */
	size_t next_early;
	uint64_t drops; /* when early was read */
};

/* The row will be val (NULL: gone). */
static int stage_value(struct staging *s, unsigned int table, const void *key,
		       size_t key_len, const void *val, size_t val_len)
{
	struct bale_memtable *mt =
		atomic_load_explicit(&s->m->active, memory_order_relaxed);
	struct bale_mem_value *v = bale_memtable_value(mt, val, val_len);
	struct bale_mem_node *n;
	int r = v ? bale_memtable_node(mt, table, key, key_len, &n) : -ENOMEM;

	if (r)
		return r;
	if (!n->pending) {
		n->pending_next = NULL;
		*s->tail = n;
		s->tail = &n->pending_next;
	}
	n->pending = v;
	return 0;
}

/* Log bytes that the touched rows may take at most. */
static size_t group_need(const struct staging *s)
{
	size_t need = 0;

	for (struct bale_mem_node *n = s->touched; n; n = n->pending_next)
		need += sizeof(struct bale_disk_op) + n->key_len +
			n->pending->len;
	return need;
}

/* A row that changes again in the same group takes its place in the body. */
static bool replace_in_group(struct bale_meta *m, struct bale_mem_node *n,
			     const struct bale_mem_value *v)
{
	struct bale_disk_op *d;

	if (n->group != m->group_no)
		return false;
	d = (void *)(m->group.data + n->body_off);
	if (d->kind != (v->deleted ? BALE_OP_DEL : BALE_OP_PUT) ||
	    le32_get(d->val_len) != v->len)
		return false;
	memcpy((uint8_t *)(d + 1) + n->key_len, v->data, v->len);
	return true;
}

static void add_to_group(struct bale_meta *m, struct bale_mem_node *n,
			 const struct bale_mem_value *v)
{
	struct bale_disk_op d = {
		.kind = v->deleted ? BALE_OP_DEL : BALE_OP_PUT,
		.table = n->table,
		.key_len = le16_put(n->key_len),
		.val_len = le32_put(v->len),
	};
	uint8_t *at = m->group.data + m->group.len;

	if (replace_in_group(m, n, v))
		return;
	n->group = m->group_no;
	n->body_off = m->group.len;
	memcpy(at, &d, sizeof(d));
	memcpy(at + sizeof(d), bale_mem_key(n), n->key_len);
	if (v->len)
		memcpy(at + sizeof(d) + n->key_len, v->data, v->len);
	m->group.len += sizeof(d) + n->key_len + v->len;
}

/* The second pass; cannot fail. */
static void publish(struct staging *s)
{
	struct bale_meta *m = s->m;
	const struct effect *e = (const void *)s->effects.data;

	for (struct bale_mem_node *n = s->touched; n; n = n->pending_next) {
		add_to_group(m, n, n->pending);
		bale_mem_publish(n, n->pending);
		n->pending = NULL;
	}
	BALE_FAULT_POINT("meta.publish");
	for (size_t i = 0; i < s->effects.len / sizeof(*e); i++)
		if (e[i].what == LIVE_ADD)
			bale_segs_live_add(m->st, e[i].row.segment,
					   e[i].row.stored_len);
		else if (e[i].what == LIVE_SUB)
			bale_segs_live_sub(m->st, e[i].row.segment,
					   e[i].row.stored_len, m->staged + 1);
		else
			bale_store_discard(m->st, &e[i].row, 1);
}

static void forget(struct staging *s)
{
	for (struct bale_mem_node *n = s->touched; n; n = n->pending_next)
		n->pending = NULL;
}

int bale_stage_row_locked(struct bale_meta *m, unsigned int table,
			  const void *key, size_t key_len, const void *val,
			  size_t val_len)
{
	struct staging s = { .m = m };
	int r;

	s.tail = &s.touched;
	r = stage_value(&s, table, key, key_len, val, val_len);
	if (!r)
		r = bale_buf_reserve(&m->group, group_need(&s));
	if (!r)
		publish(&s);
	else
		forget(&s);
	return r;
}

/* ---- extents ---- */

/* The row as this transaction and everything staged before it leave it. The
 * index is asked again only when a memtable went into it after it was asked
 * outside the lock. */
static int current_extent(struct staging *s, uint64_t id,
			  struct bale_extent_row *ret)
{
	struct bale_meta *m = s->m;
	struct bale_memtable *mts[2] = { atomic_load(&m->active),
					 atomic_load(&m->frozen) };
	const struct early *early =
		(const struct early *)(s->early.data + s->next_early);
	bool asked = s->next_early < s->early.len && early->id == id;
	be64 key = be64_put(id);

	if (asked)
		s->next_early += sizeof(*early);
	for (int i = 0; i < 2 && mts[i]; i++) {
		struct bale_mem_node *n = bale_memtable_find(
			mts[i], BALE_TABLE_extent, &key, sizeof(key));
		struct bale_mem_value *v =
			!n	   ? NULL :
			n->pending ? n->pending :
				     atomic_load_explicit(&n->value,
							  memory_order_relaxed);

		if (v)
			return v->deleted ?
				       -ENOENT :
				       bale_extent_decode(v->data, v->len, ret);
	}
	if (!asked || early->r == -EAGAIN || atomic_load(&m->drops) != s->drops)
		return bale_meta_extent(m, id, ret);
	return early->r ?
		       early->r :
		       bale_extent_decode(&early->row, sizeof(early->row), ret);
}

static int stage_extent(struct staging *s, uint64_t id,
			const struct bale_extent_row *row)
{
	struct bale_disk_extent d;
	be64 key = be64_put(id);

	if (row)
		bale_extent_encode(row, &d);
	return stage_value(s, BALE_TABLE_extent, &key, sizeof(key),
			   row ? &d : NULL, sizeof(d));
}

static int add_effect(struct staging *s, int what,
		      const struct bale_extent_row *row)
{
	struct effect e = { *row, what };

	return bale_buf_append(&s->effects, &e, sizeof(e));
}

static int stage_add(struct staging *s, uint64_t id, const void *val)
{
	struct bale_extent_row row;
	int r = bale_extent_decode(val, sizeof(struct bale_disk_extent), &row);

	if (!r)
		r = stage_extent(s, id, &row);
	return r ? r : add_effect(s, LIVE_ADD, &row);
}

/* refs + delta; the last one removes the row. An extent that is not there is
 * damage found elsewhere (fsck): dropping a reference to it changes nothing. */
static int stage_refs(struct staging *s, uint64_t id, int delta)
{
	struct bale_extent_row row;
	int r = current_extent(s, id, &row);

	if (delta < 0 && (r == -ENOENT || r == -EBADMSG || r == -EUCLEAN)) {
		bale_warn("extent %" PRIu64 " has no good row: reference "
			  "dropped",
			  id);
		return 0;
	}
	if (r)
		return r == -ENOENT ? -EUCLEAN : r;
	if (delta < 0 && row.refs == 1) {
		r = stage_extent(s, id, NULL);
		return r ? r : add_effect(s, LIVE_SUB, &row);
	}
	if (delta > 0 && row.refs == UINT32_MAX)
		return -EMLINK;
	row.refs += (uint32_t)delta;
	return stage_extent(s, id, &row);
}

static int stage_move(struct staging *s, uint64_t id, const uint8_t *val)
{
	struct bale_extent_row from, to, now;
	int r = bale_extent_decode(val, sizeof(struct bale_disk_extent), &from);

	if (!r)
		r = bale_extent_decode(val + sizeof(struct bale_disk_extent),
				       sizeof(struct bale_disk_extent), &to);
	if (!r)
		r = current_extent(s, id, &now);
	if (r && r != -ENOENT)
		return r;
	/* Gone or elsewhere by now: the copy is dead on arrival. */
	if (r || now.segment != from.segment || now.offset != from.offset)
		return add_effect(s, LIVE_DISCARD, &to);
	to.refs = now.refs;
	r = stage_extent(s, id, &to);
	if (!r)
		r = add_effect(s, LIVE_ADD, &to);
	return r ? r : add_effect(s, LIVE_SUB, &from);
}

static uint64_t key_id(const uint8_t *key)
{
	be64 id;

	memcpy(&id, key, sizeof(id));
	return be64_get(id);
}

static int stage_op(const struct bale_disk_op *d, const uint8_t *key,
		    const uint8_t *val, void *arg)
{
	struct staging *s = arg;

	switch (d->kind) {
	case BALE_OP_EXTENT_ADD:
		return stage_add(s, key_id(key), val);
	case BALE_OP_EXTENT_REF:
		return stage_refs(s, key_id(key), 1);
	case BALE_OP_EXTENT_UNREF:
		return stage_refs(s, key_id(key), -1);
	case BALE_OP_EXTENT_MOVE:
		return stage_move(s, key_id(key), val);
	default:
		return stage_value(s, d->table, key, le16_get(d->key_len),
				   d->kind == BALE_OP_PUT ? val : NULL,
				   le32_get(d->val_len));
	}
}

/* Outside the lock: what the index says of the extents to be changed, so that
 * a read from disk does not stop everybody. -EAGAIN: a memtable knows. */
static int ask_early(const struct bale_disk_op *d, const uint8_t *key,
		     const uint8_t *val, void *arg)
{
	struct staging *s = arg;
	struct early e = { .id = key_id(key), .r = -EAGAIN };
	struct bale_view v;
	size_t len;

	(void)val;
	if (d->kind <= BALE_OP_EXTENT_ADD)
		return 0;
	bale_view_get(s->m, &v);
	if (!bale_memtable_find(v.active, BALE_TABLE_extent, key, 8) &&
	    !(v.frozen &&
	      bale_memtable_find(v.frozen, BALE_TABLE_extent, key, 8))) {
		e.r = bale_view_index(s->m, &v);
		if (!e.r)
			e.r = bale_kv_get(s->m->kv, v.txn, BALE_TABLE_extent,
					  key, 8, &e.row, sizeof(e.row), &len);
		if (!e.r && len != sizeof(e.row))
			e.r = -EUCLEAN;
	}
	bale_view_put(&v);
	return bale_buf_append(&s->early, &e, sizeof(e));
}

/* ---- committing ---- */

/* -ENOSPC when the index has had no space for so long that memory is full. */
static int wait_for_room_locked(struct bale_meta *m)
	BALE_REQUIRES(m->stage_lock)
{
	while (!m->manual && !m->stop && !bale_store_error(m->st)) {
		size_t bytes = bale_memtable_bytes(atomic_load(&m->active));

		if (m->no_space && bytes > MEMTABLE_FULL)
			return -ENOSPC;
		/* On a full disk the log may grow only so far ahead of the
		 * checkpoint that gives back what is behind it. */
		if (m->group.len < GROUP_MAX &&
		    (m->no_space ||
		     (bytes < MEMTABLE_MAX && !bale_ckpt_late(m, m->group.len))))
			break;
		bale_cond_signal(&m->commit_cond);
		bale_cond_signal(&m->apply_cond);
		bale_cond_wait_for(&m->room_cond, &m->stage_lock, WAIT_NS);
	}
	return 0;
}

static void kick_threads_locked(struct bale_meta *m, size_t group_len)
{
	if (group_len < BALE_GROUP_KICK && m->group.len >= BALE_GROUP_KICK)
		bale_cond_signal(&m->commit_cond);
	if (bale_memtable_bytes(atomic_load(&m->active)) > KICK_APPLY)
		bale_cond_signal(&m->apply_cond);
}

static int stage_locked(struct bale_meta *m, const struct bale_txn *t,
			struct staging *s) BALE_REQUIRES(m->stage_lock)
{
	size_t group_len;
	int r = wait_for_room_locked(m);

	if (!r && bale_store_error(m->st))
		r = -EROFS;
	if (!r)
		r = for_ops(t, stage_op, s);
	if (!r)
		r = bale_buf_reserve(&m->group, group_need(s));
	if (r) {
		forget(s);
		return r;
	}
	group_len = m->group.len;
	publish(s);
	m->staged++;
	kick_threads_locked(m, group_len);
	return 0;
}

int bale_txn_commit(struct bale_txn *t, uint64_t *ret_seq)
{
	struct bale_meta *m = t->meta;
	struct staging s = { .m = m };
	int r = t->error;

	s.tail = &s.touched;
	if (!r && m->read_only)
		r = -EROFS;
	if (!r)
		r = BALE_FAULT("meta.stage");
	s.drops = atomic_load(&m->drops);
	if (!r)
		r = for_ops(t, ask_early, &s);
	if (!r) {
		bale_mutex_lock(&m->stage_lock);
		r = stage_locked(m, t, &s);
		if (!r && ret_seq)
			*ret_seq = m->staged;
		bale_mutex_unlock(&m->stage_lock);
	}
	bale_buf_fini(&s.effects);
	bale_buf_fini(&s.early);
	bale_txn_abort(t);
	return r;
}
