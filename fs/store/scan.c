/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scans: the two memtables and the index merged in key order, the newer source
 * winning. Rows are copied in chunks before the callback sees them, so that no
 * index transaction stays open while it runs and it may do what it likes.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"

enum { FIRST_CHUNK = 4 << 10, LAST_CHUNK = 256 << 10 };

struct merge {
	const struct bale_mem_node *node[2]; /* active, frozen */
	struct bale_kv_iter *it;
	struct bale_mem_row row[3];
	bool have[3];
};

static void advance_mem(struct merge *g, int i)
{
	while (g->node[i] && !bale_mem_row(g->node[i], &g->row[i]))
		g->node[i] = bale_mem_next(g->node[i]);
	g->have[i] = g->node[i] != NULL;
}

static int advance_kv(struct merge *g)
{
	int r;

	g->have[2] = false;
	if (!g->it)
		return 0;
	r = bale_kv_iter_next(g->it, &g->row[2]);
	g->have[2] = !r;
	return r == -ENOENT ? 0 : r;
}

/* The smallest key's newest row; sources with the same key move on. */
static int merge_next(struct merge *g, struct bale_mem_row *ret)
{
	int best = -1;

	for (int i = 0; i < 3; i++)
		if (g->have[i] &&
		    (best < 0 ||
		     bale_key_compare(g->row[i].key, g->row[i].key_len,
				      g->row[best].key,
				      g->row[best].key_len) < 0))
			best = i;
	if (best < 0)
		return -ENOENT;
	*ret = g->row[best];
	return 0;
}

static int skip_key(struct merge *g, const struct bale_mem_row *row)
{
	int r = 0;

	for (int i = 0; i < 3 && !r; i++) {
		if (!g->have[i] ||
		    bale_key_compare(g->row[i].key, g->row[i].key_len, row->key,
				     row->key_len))
			continue;
		if (i < 2) {
			g->node[i] = bale_mem_next(g->node[i]);
			advance_mem(g, i);
		} else {
			r = advance_kv(g);
		}
	}
	return r;
}

static int merge_open(struct bale_meta *m, struct bale_view *v,
		      unsigned int table, const void *from, size_t from_len,
		      struct merge *g)
{
	int r;

	*g = (struct merge){ 0 };
	g->node[0] = bale_memtable_seek(v->active, table, from, from_len);
	if (v->frozen)
		g->node[1] =
			bale_memtable_seek(v->frozen, table, from, from_len);
	advance_mem(g, 0);
	advance_mem(g, 1);
	r = bale_view_index(m, v);
	if (!r)
		r = bale_kv_iter_open(m->kv, v->txn, table, from, from_len,
				      &g->it);
	return r ? r : advance_kv(g);
}

struct row_head {
	uint32_t key_len, val_len;
};

static int copy_row(struct bale_buf *chunk, const struct bale_mem_row *row)
{
	struct row_head h = { (uint32_t)row->key_len, (uint32_t)row->val_len };
	int r = bale_buf_append(chunk, &h, sizeof(h));

	if (!r)
		r = bale_buf_append(chunk, row->key, row->key_len);
	return r ? r : bale_buf_append(chunk, row->val, row->val_len);
}

/* Fill chunk with live rows from `from` on; *ret_more: where to go on. */
static int fill_chunk(struct bale_meta *m, unsigned int table,
		      const struct bale_buf *from, const void *prefix,
		      size_t prefix_len, size_t max, struct bale_buf *chunk,
		      struct bale_buf *ret_next, bool *ret_more)
{
	struct bale_mem_row row;
	struct bale_view v;
	struct merge g;
	int r;

	bale_view_get(m, &v);
	r = merge_open(m, &v, table, from->data, from->len, &g);
	*ret_more = false;
	chunk->len = 0;
	while (!r && !(r = merge_next(&g, &row))) {
		if (row.key_len < prefix_len ||
		    (prefix_len && memcmp(row.key, prefix, prefix_len))) {
			r = -ENOENT;
			break;
		}
		if (chunk->len >= max) {
			*ret_more = true;
			ret_next->len = 0;
			r = bale_buf_append(ret_next, row.key, row.key_len);
			break;
		}
		if (!row.deleted && bale_row_check(table, row.key, row.key_len,
						   row.val, row.val_len))
			r = -EUCLEAN;
		else if (!row.deleted)
			r = copy_row(chunk, &row);
		if (!r)
			r = skip_key(&g, &row);
	}
	bale_kv_iter_close(g.it);
	bale_view_put(&v);
	return r == -ENOENT ? 0 : r;
}

static int hand_out(const struct bale_buf *chunk, bale_row_fn *fn, void *arg)
{
	int r = 0;

	for (size_t pos = 0; !r && pos < chunk->len;) {
		struct row_head h;
		const uint8_t *key;

		memcpy(&h, chunk->data + pos, sizeof(h));
		key = chunk->data + pos + sizeof(h);
		r = fn(key, h.key_len, key + h.key_len, h.val_len, arg);
		pos += sizeof(h) + h.key_len + h.val_len;
	}
	return r;
}

int bale_meta_scan(struct bale_meta *m, enum bale_table table, const void *from,
		   size_t from_len, size_t prefix_len, bale_row_fn *fn,
		   void *arg)
{
	struct bale_buf at = { 0 }, next = { 0 }, chunk = { 0 };
	uint8_t prefix[BALE_KEY_MAX];
	size_t max = FIRST_CHUNK;
	bool more = true;
	int r = from_len > BALE_KEY_MAX ? -EINVAL : 0;

	if (!r)
		r = bale_buf_append(&at, from_len ? from : "", from_len);
	if (!r && prefix_len)
		memcpy(prefix, from, prefix_len);
	while (!r && more) {
		struct bale_buf swap;
		int e = fill_chunk(m, table, &at, prefix, prefix_len, max,
				   &chunk, &next, &more);

		/* What came before a damaged row is still good. */
		r = hand_out(&chunk, fn, arg);
		if (!r)
			r = e;
		swap = at;
		at = next;
		next = swap;
		if (max < LAST_CHUNK)
			max *= 4;
	}
	bale_buf_fini(&at);
	bale_buf_fini(&next);
	bale_buf_fini(&chunk);
	return r;
}

struct digest {
	uint64_t (*sum)[2];
	unsigned int table;
};

static int digest_row(const void *key, size_t key_len, const void *val,
		      size_t val_len, void *arg)
{
	struct digest *d = arg;
	uint64_t v[2];

	bale_row_digest(d->table, key, key_len, val, val_len, v);
	d->sum[d->table][0] += v[0];
	d->sum[d->table][1] += v[1];
	return 0;
}

int bale_meta_digest(struct bale_meta *m, uint64_t ret[BALE_TABLE_NR][2])
{
	struct digest d = { .sum = ret };
	int r = 0;

	memset(ret, 0, sizeof(uint64_t[BALE_TABLE_NR][2]));
	for (d.table = 0; !r && d.table < BALE_TABLE_NR; d.table++)
		r = bale_meta_scan(m, d.table, NULL, 0, 0, digest_row, &d);
	return r;
}
