/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - figures of a store, a mount, a directory or a file. A figure that
 * its source does not know stays unset and is not printed.
 */
#ifndef BALE_TOOLS_STATS_H
#define BALE_TOOLS_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "balefs/ioctl.h"
#include "fs/codec/codec.h"

/* name, unit (B bytes, N a count, S nanoseconds), what it is. */
#define BALE_FIGURES(X)                                                        \
	X(files, N, "regular files")                                           \
	X(directories, N, "directories")                                       \
	X(others, N, "symbolic links, devices, pipes, sockets")                \
	X(unreadable, N, "files whose extents could not be asked for")         \
	X(logical_bytes, B, "sum of file sizes")                               \
	X(raw_bytes, B, "stored content before compression")                   \
	X(stored_bytes, B, "stored content after compression")                 \
	X(inline_bytes, B, "of it in the index")                               \
	X(missing_extents, N, "extents that are damaged or gone")              \
	X(shared_extents, N, "extents with more than one reference")           \
	X(segments, N, "segment files")                                        \
	X(segment_used_bytes, B, "bytes in segments")                          \
	X(segment_live_bytes, B, "of them alive")                              \
	X(log_bytes, B, "log files")                                           \
	X(index_bytes, B, "index")                                             \
	X(checkpoint_bytes, B, "checkpoints")                                  \
	X(backing_total_bytes, B, "size of the backing filesystem")            \
	X(backing_free_bytes, B, "free for users there")                       \
	X(reserved_bytes, B, "accepted, not yet stored")                       \
	X(index_inodes, N, "inode rows in the index")                          \
	X(index_extents, N, "extent rows in the index")                        \
	X(commits, N, "commits")                                               \
	X(log_written_bytes, B, "written to the log")                          \
	X(cleaner_freed_bytes, B, "freed by the cleaner")                      \
	X(cleaner_copied_bytes, B, "copied by the cleaner")                    \
	X(cleaner_punched_bytes, B, "punched by the cleaner")                  \
	X(cleaner_stuck_segments, N, "segments that it cannot empty")          \
	X(cleaner_stuck_bytes, B, "what lives in them")                        \
	X(cleaner_waits, N, "writes that waited for the cleaner")              \
	X(cleaner_wait_max, S, "the longest of these waits")                   \
	X(cache_bytes, B, "bound of the cache")                                \
	X(cache_used_bytes, B, "used of it")                                   \
	X(cache_hits, N, "reads answered by the cache")                        \
	X(cache_misses, N, "reads that were not")                              \
	X(cache_evicted, N, "extents evicted")                                 \
	X(dirty_bytes, B, "written, not yet stored")                           \
	X(flying_bytes, B, "of them being stored")                             \
	X(flushes, N, "bales begun")                                           \
	X(fsyncs, N, "fsync calls")                                            \
	X(patch_fsyncs, N, "of them answered by the log alone")                \
	X(throttled, N, "writes that waited for storing")                      \
	X(bales, N, "bales written")                                           \
	X(holes, N, "extents of zeros that became holes")                      \
	X(inlined, N, "files stored in the index")                             \
	X(encode_jobs, N, "extents compressed")                                \
	X(encode_bytes, B, "bytes into compression")                           \
	X(encode_busy, S, "worker time in compression")                        \
	X(decode_jobs, N, "extents decompressed")                              \
	X(decode_bytes, B, "bytes out of decompression")                       \
	X(decode_busy, S, "worker time in decompression")                      \
	X(failed_jobs, N, "jobs that failed")                                  \
	X(cpu, S, "processor time of the daemon")                              \
	X(uptime, S, "since the mount answered")

enum bale_figure {
#define X(name, unit, text) BALE_FIGURE_##name,
	BALE_FIGURES(X)
#undef X
		BALE_FIGURE_NR,
};

struct bale_codec_figures {
	uint64_t extents, raw, stored;
};

struct bale_stats {
	const char *kind; /* "store", "mount", "directory", "file" */
	const char *path;
	uint64_t v[BALE_FIGURE_NR];
	bool set[BALE_FIGURE_NR];
	bool has_codecs;
	struct bale_codec_figures codec[8];
	uint64_t raw_reason[8];
	char store[1024], label[72], policy[32], cleaner[96], engine[32];
	int64_t error;
	unsigned int nr_devices; /* that code, of a mount */
	struct bale_ioc_device devices[BALE_ENGINE_DEVS_MAX];
};

#define bale_stats_set(s, name, value)                                         \
	((s)->v[BALE_FIGURE_##name] = (value),                                 \
	 (void)((s)->set[BALE_FIGURE_##name] = true))
#define bale_stats_add(s, name, value)                                         \
	((s)->v[BALE_FIGURE_##name] += (value),                                \
	 (void)((s)->set[BALE_FIGURE_##name] = true))

/* A store that is not mounted (stats_store.c): 0 or -errno. */
int bale_stats_of_store(const char *path, struct bale_stats *s);
/* Something on a mount (stats_mount.c): -ENOTTY when it is not on one. */
int bale_stats_of_path(const char *path, struct bale_stats *s);

/* The devices' part of each form (stats_device.c). */
void bale_stats_print_devices(const struct bale_stats *s);
struct bale_json;
void bale_stats_devices_json(struct bale_json *j, const struct bale_stats *s);

void bale_stats_print(const struct bale_stats *s);
void bale_stats_print_json(const struct bale_stats *s);
void bale_stats_print_prometheus(const struct bale_stats *s);

#endif
