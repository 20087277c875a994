/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/batch/batch.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "fs/base/list.h"
#include "fs/base/mem.h"
#include "fs/base/thread.h"
#include "fs/batch/batch_internal.h"

enum {
	ARENA_SMALL = 1 << 20,	/* below: plain malloc */
	ALIGN = 64,
};

int bale_batcher_create(struct bale_store *st, struct bale_engine *e,
			struct bale_batcher **ret)
{
	struct bale_batcher *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->store = st;
	b->engine = e;
	/* One for each that is being made, and for a read. */
	b->keep = bale_engine_width(e) + 1;
	bale_mutex_init(&b->lock);
	bale_list_init(&b->arenas);
	*ret = b;
	return 0;
}

static void free_arena(struct bale_arena *a)
{
	if (a->mapped)
		munmap(a, a->cap);
	else
		free(a);
}

void bale_batcher_destroy(struct bale_batcher *b)
{
	if (!b)
		return;
	bale_list_for_each_safe(p, &b->arenas)
		free_arena(BALE_CONTAINER(p, struct bale_arena, link));
	bale_mutex_fini(&b->lock);
	free(b);
}

static struct bale_arena *new_arena(size_t cap)
{
	struct bale_arena *a;

	if (cap < ARENA_SMALL) {
		a = malloc(cap);
	} else {
		a = mmap(NULL, cap, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (a == MAP_FAILED)
			a = NULL;
	}
	if (!a)
		return NULL;
	a->cap = cap;
	a->mapped = cap >= ARENA_SMALL;
	bale_list_init(&a->link);
	return a;
}

struct bale_arena *bale_arena_get(struct bale_batcher *b, size_t len)
{
	size_t cap = sizeof(struct bale_arena) + ALIGN + len;
	struct bale_arena *found = NULL;

	if (cap >= ARENA_SMALL) {
		bale_mutex_lock(&b->lock);
		bale_list_for_each(p, &b->arenas)
		{
			struct bale_arena *a =
				BALE_CONTAINER(p, struct bale_arena, link);

			if (a->cap >= cap) {
				found = a;
				break;
			}
		}
		if (found) {
			bale_list_del(&found->link);
			b->nr_arenas--;
		}
		bale_mutex_unlock(&b->lock);
	}
	if (!found)
		found = new_arena(cap);
	if (found)
		found->used = (sizeof(*found) + ALIGN - 1) / ALIGN * ALIGN;
	return found;
}

void bale_arena_put(struct bale_batcher *b, struct bale_arena *a)
{
	struct bale_arena *drop = a;

	if (!a)
		return;
	if (a->mapped) {
		bale_mutex_lock(&b->lock);
		bale_list_push_front(&b->arenas, &a->link);
		drop = NULL;
		if (++b->nr_arenas > b->keep) {
			drop = BALE_CONTAINER(b->arenas.prev,
					      struct bale_arena, link);
			bale_list_del(&drop->link);
			b->nr_arenas--;
		}
		bale_mutex_unlock(&b->lock);
	}
	if (drop)
		free_arena(drop);
}

void *bale_arena_take(struct bale_arena *a, size_t len)
{
	void *p = (uint8_t *)a + a->used;

	a->used += (len + ALIGN - 1) / ALIGN * ALIGN;
	return p;
}

static size_t round_up(size_t len)
{
	return (len + ALIGN - 1) / ALIGN * ALIGN;
}

static bool is_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	return !len || (!b[0] && !memcmp(b, b + 1, len - 1));
}

static void encode_job(struct bale_job *j, const struct bale_batch_item *it,
		       struct bale_arena *a)
{
	size_t cap = bale_codec_bound(it->len);

	*j = (struct bale_job){
		.op = BALE_JOB_ENCODE,
		.codec = it->policy.codec,
		.level = it->policy.level,
		.filter = it->policy.codec == BALE_CODEC_auto ?
				  BALE_FILTER_auto :
				  it->policy.filter,
		.src = it->data,
		.src_len = it->len,
		.dst = bale_arena_take(a, cap),
		.dst_cap = cap,
		.want_crc = true,
	};
}

/* A job's result as an extent to append; false when it is to be none. */
static bool take_result(struct bale_batch_item *it, const struct bale_job *j,
			struct bale_extent_in *in)
{
	bool raw = j->status || j->ret_codec == BALE_CODEC_raw;
	const void *bytes = raw ? it->data : j->dst;
	uint32_t len = raw ? it->len : (uint32_t)j->len;

	it->row = (struct bale_extent_row){
		.stored_len = len,
		.raw_len = it->len,
		.codec = raw ? BALE_CODEC_raw : j->ret_codec,
		.filter = raw ? 0 : j->ret_filter,
		.level = raw ? 0 : j->ret_level,
		.reason = j->status ? BALE_RAW_error : j->reason,
	};
	if (!it->len || (!raw && j->ret_codec == BALE_CODEC_fill &&
			 is_zero(bytes, len))) {
		it->kind = BALE_BATCH_HOLE;
		return false;
	}
	if (it->may_inline && len <= BALE_INLINE_MAX) {
		it->kind = BALE_BATCH_INLINE;
		it->coded = bytes;
		return false;
	}
	it->kind = BALE_BATCH_STORED;
	*in = (struct bale_extent_in){
		.ino = it->ino,
		.extent_no = it->extent_no,
		.raw_len = it->len,
		.codec = it->row.codec,
		.filter = it->row.filter,
		.level = it->row.level,
		.reason = it->row.reason,
		.stored = bytes,
		.stored_len = len,
		.has_crc = !j->status && j->has_crc,
		.crc = j->crc,
	};
	return true;
}

static void count_items(struct bale_batcher *b,
			const struct bale_batch_item *items, size_t nr)
{
	bale_mutex_lock(&b->lock);
	b->stats.bales++;
	b->stats.extents += nr;
	for (size_t k = 0; k < nr; k++) {
		const struct bale_extent_row *row = &items[k].row;

		if (items[k].kind == BALE_BATCH_HOLE) {
			b->stats.holes++;
			continue;
		}
		b->stats.inlined += items[k].kind == BALE_BATCH_INLINE;
		if (row->codec < BALE_CODEC_NR) {
			b->stats.codec[row->codec].extents++;
			b->stats.codec[row->codec].raw_bytes += row->raw_len;
			b->stats.codec[row->codec].stored_bytes +=
				row->stored_len;
		}
		if (row->codec == BALE_CODEC_raw)
			b->stats.raw_reason[row->reason & 7]++;
	}
	bale_mutex_unlock(&b->lock);
}

static int append_items(struct bale_batcher *b, struct bale_batch_item *items,
			size_t nr, const struct bale_job *jobs,
			struct bale_arena *a)
{
	struct bale_extent_in *in = bale_arena_take(a, nr * sizeof(*in));
	struct bale_extent_row *rows = bale_arena_take(a, nr * sizeof(*rows));
	size_t nr_in = 0;
	int r = 0;

	for (size_t k = 0; k < nr && !r; k++) {
		if (!take_result(&items[k], &jobs[k], &in[nr_in]))
			continue;
		r = bale_store_new_id(b->store, &in[nr_in].id);
		items[k].id = in[nr_in].id;
		nr_in++;
	}
	if (!r && nr_in)
		r = bale_store_append(b->store, in, nr_in, rows);
	if (r)
		return r;
	for (size_t k = 0, n = 0; k < nr; k++) {
		if (items[k].kind == BALE_BATCH_STORED)
			items[k].row = rows[n++];
	}
	return 0;
}

int bale_batch_write(struct bale_batcher *b, struct bale_batch_item *items,
		     size_t nr, void **ret_scratch)
{
	size_t need = round_up(nr * sizeof(struct bale_job)) +
		      round_up(nr * sizeof(struct bale_extent_in)) +
		      round_up(nr * sizeof(struct bale_extent_row));
	struct bale_arena *a;
	struct bale_job *jobs;
	int r = 0;

	for (size_t k = 0; k < nr; k++)
		need += round_up(bale_codec_bound(items[k].len));
	a = bale_arena_get(b, need);
	if (!a)
		return -ENOMEM;
	jobs = bale_arena_take(a, nr * sizeof(*jobs));
	for (size_t k = 0; k < nr; k++)
		encode_job(&jobs[k], &items[k], a);
	if (nr == 1)
		bale_codec_run(&jobs[0]);
	else
		r = bale_engine_run(b->engine, jobs, nr);
	if (!r)
		r = append_items(b, items, nr, jobs, a);
	if (r) {
		bale_arena_put(b, a);
		return r;
	}
	count_items(b, items, nr);
	*ret_scratch = a;
	return 0;
}

void bale_batch_end(struct bale_batcher *b, void *scratch)
{
	bale_arena_put(b, scratch);
}

void bale_batcher_stats(struct bale_batcher *b, struct bale_batch_stats *ret)
{
	bale_mutex_lock(&b->lock);
	*ret = b->stats;
	bale_mutex_unlock(&b->lock);
}
