/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recorder.h - records what a store asks of its backing filesystem, and builds
 * the directories that a power cut could have left behind.
 *
 * A recorder stands in for bale_io_posix: each call is done for real and noted
 * as an event. bale_rec_build() then makes, in an empty directory, a state as
 * it could be after a power cut behind the first `k` events: what was synced is
 * there; of the rest, writes are kept, dropped, or torn at sectors of 512 bytes
 * or pages of 4 KiB, each by itself, so that later ones may be there without
 * earlier ones; names made, changed or removed and not yet synced with their
 * directory keep an arbitrary prefix of those changes, in order.
 * The index is not recorded (it is no truth): see bale_rec_snapshot_index().
 * A recording can be saved, and states built from it by another process.
 * One recorder at a time; calls may come from several threads.
 */
#ifndef BALE_TESTS_RECORDER_H
#define BALE_TESTS_RECORDER_H

#include <stdatomic.h>

#include "fs/store/io.h"

extern const struct bale_io_ops bale_rec_ops;

void bale_rec_start(void); /* forget everything, begin to record */
size_t bale_rec_count(void);
/* From now on *where follows the number of events; may be shared memory. An
 * event is counted before the call that it notes returns. */
void bale_rec_publish(atomic_ulong *where);
/* Nothing may be recorded meanwhile. 0 or -errno. */
int bale_rec_save(const char *path);
int bale_rec_load(const char *path);
/* Take the store's files as they are now for synced, as mkfs left them. */
int bale_rec_adopt(const char *store);
size_t bale_rec_adopted(void); /* events that adopting took */

enum bale_rec_mode {
	BALE_REC_ALL,	      /* every write so far arrived */
	BALE_REC_NONE,	      /* nothing that was not synced arrived */
	BALE_REC_RANDOM,      /* each by a coin, some torn */
	BALE_REC_COMBINATION, /* the seed says which are there, none torn */
};
/* How many states BALE_REC_COMBINATION can make of the first k events: seeds
 * are 0 to one less. UINT64_MAX: too many to count. */
uint64_t bale_rec_combinations(size_t k);
/* 0 or -errno. The directory `to` must exist and be empty. */
int bale_rec_build(const char *to, size_t k, enum bale_rec_mode mode,
		   uint64_t seed);
/* Copy store/index as of now; states built later for points at or behind this
 * one get the newest such copy when with_index. */
int bale_rec_snapshot_index(const char *store);
int bale_rec_copy_index(const char *to, size_t k);
void bale_rec_free(void);

#endif
