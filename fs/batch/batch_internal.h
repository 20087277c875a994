/* SPDX-License-Identifier: Apache-2.0 */
/* batch_internal.h - scratch memory that both directions of fs/batch share. */
#ifndef BALE_BATCH_BATCH_INTERNAL_H
#define BALE_BATCH_BATCH_INTERNAL_H

#include "fs/base/list.h"
#include "fs/base/thread.h"
#include "fs/batch/batch.h"

/* Starts its own memory; large ones are kept for the next batch, since fresh
 * pages cost more than what is done with them. */
struct bale_arena {
	struct bale_list link;
	size_t cap, used;
	bool mapped;
};

struct bale_batcher {
	struct bale_store *store;
	struct bale_engine *engine;
	unsigned int keep; /* large arenas kept for the next batch; const */
	struct bale_mutex lock; /* below; leaf */
	struct bale_list arenas;
	unsigned int nr_arenas;
	struct bale_batch_stats stats;
};

/* len includes the rounding of every piece up to 64 bytes. NULL: no memory. */
struct bale_arena *bale_arena_get(struct bale_batcher *b, size_t len);
void bale_arena_put(struct bale_batcher *b, struct bale_arena *a);
void *bale_arena_take(struct bale_arena *a, size_t len);

#endif
