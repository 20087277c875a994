/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "fs/batch/batch_internal.h"

enum { MOVED_TRIES = 4 };

static bool same_place(const struct bale_extent_row *a,
		       const struct bale_extent_row *b)
{
	return a->segment == b->segment && a->offset == b->offset;
}

static bool is_plain(const struct bale_extent_row *row)
{
	return row->codec == BALE_CODEC_raw && !row->filter &&
	       row->stored_len == row->raw_len;
}

static void decode_job(struct bale_job *j, const struct bale_batch_read *q,
		       const void *stored)
{
	*j = (struct bale_job){
		.op = BALE_JOB_DECODE,
		.codec = q->row.codec,
		.filter = q->row.filter,
		.level = q->row.level,
		.src = stored,
		.src_len = q->row.stored_len,
		.dst = q->dst,
		.dst_cap = q->row.raw_len,
	};
}

/* Stored bytes of one extent; plain ones right where they belong. */
static int read_stored(struct bale_batcher *b, struct bale_batch_read *q,
		       void *buf)
{
	int r = bale_store_read(b->store, &q->row, buf);

	for (int k = 0; r && k < MOVED_TRIES; k++) {
		struct bale_extent_row now;

		if (bale_meta_extent(bale_store_meta(b->store), q->id, &now) ||
		    same_place(&now, &q->row) ||
		    now.stored_len != q->row.stored_len ||
		    now.raw_len != q->row.raw_len)
			break;
		q->row = now;
		r = bale_store_read(b->store, &q->row, buf);
	}
	return r;
}

static void read_one(struct bale_batcher *b, struct bale_batch_read *q)
{
	struct bale_arena *a;
	struct bale_job j;
	void *stored;

	if (is_plain(&q->row)) {
		q->status = read_stored(b, q, q->dst);
		return;
	}
	a = bale_arena_get(b, (size_t)q->row.stored_len + 64);
	if (!a) {
		q->status = -ENOMEM;
		return;
	}
	stored = bale_arena_take(a, q->row.stored_len);
	q->status = read_stored(b, q, stored);
	if (!q->status) {
		decode_job(&j, q, stored);
		bale_codec_run(&j);
		q->status = j.status;
	}
	bale_arena_put(b, a);
}

/* What was read, decoded together. */
static void decode_many(struct bale_batcher *b,
			const struct bale_store_read_item *items, size_t nr,
			struct bale_job *jobs)
{
	size_t nr_jobs = 0;
	int r = 0;

	for (size_t k = 0; k < nr; k++) {
		struct bale_batch_read *q = items[k].cookie;

		if (!q->status && !is_plain(&q->row)) {
			decode_job(&jobs[nr_jobs], q, items[k].buf);
			jobs[nr_jobs++].cookie = q;
		}
	}
	if (nr_jobs)
		r = bale_engine_run(b->engine, jobs, nr_jobs);
	for (size_t k = 0; k < nr_jobs; k++) {
		struct bale_batch_read *q = jobs[k].cookie;

		q->status = r ? r : jobs[k].status;
	}
}

void bale_batch_read(struct bale_batcher *b, struct bale_batch_read *reads,
		     size_t nr)
{
	size_t need = nr * (sizeof(struct bale_job) +
			    sizeof(struct bale_store_read_item) + 64) + 128;
	struct bale_store_read_item *items;
	struct bale_job *jobs;
	struct bale_arena *a;

	for (size_t k = 0; k < nr; k++)
		need += (size_t)reads[k].row.stored_len + 64;
	a = nr > 1 ? bale_arena_get(b, need) : NULL;
	if (!a) {
		for (size_t k = 0; k < nr; k++)
			read_one(b, &reads[k]);
		return;
	}
	items = bale_arena_take(a, nr * sizeof(*items));
	jobs = bale_arena_take(a, nr * sizeof(*jobs));
	for (size_t k = 0; k < nr; k++) {
		items[k] = (struct bale_store_read_item){
			.row = reads[k].row,
			.buf = is_plain(&reads[k].row) ?
				       reads[k].dst :
				       bale_arena_take(a, reads[k].row.stored_len),
			.cookie = &reads[k],
		};
	}
	/* It may sort the items: from here on the cookie tells whose it is. */
	bale_store_read_many(b->store, items, nr);
	for (size_t k = 0; k < nr; k++) {
		struct bale_batch_read *q = items[k].cookie;

		q->status = items[k].status;
		if (q->status)
			q->status = read_stored(b, q, items[k].buf);
	}
	decode_many(b, items, nr, jobs);
	bale_arena_put(b, a);
}
