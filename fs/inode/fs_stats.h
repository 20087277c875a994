/* SPDX-License-Identifier: Apache-2.0 */
/* fs_stats.h - figures of a mount since it began, for `balefs stats`. */
#ifndef BALE_INODE_FS_STATS_H
#define BALE_INODE_FS_STATS_H

#include "fs/batch/batch.h"
#include "fs/cache/cache.h"
#include "fs/inode/inode.h"

struct bale_fs_stats {
	struct bale_cache_stats cache;
	uint64_t dirty_bytes, flying_bytes, dirty_limit;
	uint64_t flushes, fsyncs, patch_fsyncs, throttled;
	struct bale_batch_stats batch; /* rows per codec, reasons for raw */
	struct bale_engine_stats engine;
	const char *engine_name;
	uint64_t cpu_ns; /* of the process */
};
void bale_fs_stats(struct bale_fs *fs, struct bale_fs_stats *ret);

#endif
