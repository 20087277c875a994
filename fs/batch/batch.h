/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h - a bale: many extents coded by an engine in one go and appended to
 * the store in one go; and the way back. Owns the order of the two and the
 * memory between them; knows neither files nor the cache. Any thread, one
 * thread a batch.
 */
#ifndef BALE_BATCH_BATCH_H
#define BALE_BATCH_BATCH_H

#include "fs/codec/codec.h"
#include "fs/store/store.h"

enum bale_batch_kind {
	BALE_BATCH_HOLE,   /* nothing but zeros: stored nowhere */
	BALE_BATCH_INLINE, /* small enough for the index: coded, coded_len */
	BALE_BATCH_STORED, /* id, row */
};

struct bale_batch_item {
	/* in */
	uint64_t ino, extent_no;
	const void *data; /* does not change until the batch is written */
	uint32_t len;
	struct bale_codec_policy policy;
	bool may_inline;
	/* out */
	enum bale_batch_kind kind;
	uint64_t id;
	struct bale_extent_row row; /* INLINE: codec fields and raw_len */
	const void *coded;	    /* INLINE: valid until the batch's end */
};

/* Sums since the mount, any thread. */
struct bale_batch_stats {
	uint64_t bales, extents, holes, inlined;
	struct {
		uint64_t extents, raw_bytes, stored_bytes;
	} codec[BALE_CODEC_NR];
	uint64_t raw_reason[8]; /* extents by enum bale_raw_reason */
};

struct bale_batcher; /* engine, store, scratch memory, stats */

int bale_batcher_create(struct bale_store *st, struct bale_engine *e,
			struct bale_batcher **ret);
void bale_batcher_destroy(struct bale_batcher *b); /* NULL is fine */

/*
 * Code and append. 0: every item has its result, appended but referred to by
 * nobody. *ret_scratch keeps the coded bytes of inline items until
 * bale_batch_end(). -errno: nothing counts.
 */
int bale_batch_write(struct bale_batcher *b, struct bale_batch_item *items,
		     size_t nr, void **ret_scratch);
void bale_batch_end(struct bale_batcher *b, void *scratch);

struct bale_batch_read {
	uint64_t id;
	struct bale_extent_row row;
	void *dst; /* row.raw_len bytes */
	int status;
};
/* Read, check and decode; one alone runs on the calling thread. An extent that
 * the cleaner moved meanwhile is looked up again. */
void bale_batch_read(struct bale_batcher *b, struct bale_batch_read *reads,
		     size_t nr);
void bale_batcher_stats(struct bale_batcher *b, struct bale_batch_stats *ret);

#endif
