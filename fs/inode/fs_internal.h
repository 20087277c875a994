/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_internal.h - what struct bale_fs is made of; for fs/inode only.
 */
#ifndef BALE_INODE_FS_INTERNAL_H
#define BALE_INODE_FS_INTERNAL_H

#include <stdatomic.h>

#include "fs/inode/inode.h"
#include "fs/inode/names.h"

struct bale_cache;   /* fs/cache/cache.h: decoded extents */
struct bale_batcher; /* fs/batch/batch.h: coding and appending */
struct bale_flush;   /* flush.c: dirty inodes, batches, threads */
struct bale_readahead; /* file_load.c: background loads */

/* All const between bale_fs_open() and bale_fs_close(). */
struct bale_fs {
	struct bale_fs_options o; /* with the defaults filled in */
	struct bale_store *store;
	struct bale_meta *meta;
	struct bale_engine *engine;
	void *pinned; /* what the engine was told to pin */
	struct bale_names *names;
	struct bale_cache *cache;
	struct bale_batcher *batcher;
	struct bale_flush *flush;
	struct bale_readahead *ra;
	unsigned int extent_bits;
	size_t extent_size;
	const uint8_t *zeros; /* extent_size zero bytes */
	_Atomic bool has_patches; /* rows that no dirty extent stands for */
};

#endif
