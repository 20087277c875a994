/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal.h - the log's files: append, sync, replay, recycle.
 *
 * One writer at a time (the commit leader). A file's blocks are written with
 * zeros, a step ahead of the records, by whoever calls bale_wal_prepare(), so
 * that a sync allocates nothing. A file that is no longer needed becomes
 * log/spare and the next file after that: no record in it can be taken for
 * one of the new file, whose lsn differ.
 *
 * Each record of a group is synced before the next is written: a valid record
 * behind a bad one therefore always means damage, never a torn write.
 */
#ifndef BALE_STORE_WAL_H
#define BALE_STORE_WAL_H

#include "fs/store/store_internal.h"

struct bale_wal;

#define BALE_WAL_NONE UINT64_MAX /* none, or not known */

/* Where the next record goes. */
struct bale_wal_position {
	uint64_t lsn, seq;
	uint64_t last_lsn; /* of the record before, or BALE_WAL_NONE */
};

int bale_wal_create(struct bale_store *st, struct bale_wal **ret);
void bale_wal_destroy(struct bale_wal *w); /* NULL is fine */

/* mkfs: make file 0, go on at its start. */
int bale_wal_format(struct bale_wal *w);

/*
 * Replay from `from`: every op of every complete group, in order, and group()
 * behind each. An error of theirs ends it. ret: where the log ends.
 * -ENOENT: the log does not reach back to `from`. -EUCLEAN: a valid record lies
 * behind the end: the log is damaged in its middle (logged with its position),
 * unless salvage, which takes what is before the damage for the whole.
 */
typedef int bale_wal_op_fn(const struct bale_op *op, void *arg);
typedef int bale_wal_group_fn(const struct bale_wal_position *next, void *arg);
struct bale_wal_replay {
	bale_wal_op_fn *op;
	bale_wal_group_fn *group;
	void *arg;
	bool salvage;
};
int bale_wal_replay(struct bale_wal *w, struct bale_wal_position from,
		    const struct bale_wal_replay *how,
		    struct bale_wal_position *ret);
/* Read-write: append goes on at `at`; what lies behind it is zeroed. */
int bale_wal_start(struct bale_wal *w, struct bale_wal_position at);

/* The record before `at` is there and whole. What was applied up to `at` is in
 * the index, so that a replay from there would not notice. */
int bale_wal_check_last(struct bale_wal *w, struct bale_wal_position at);

/* Write a group's ops (split at op borders) and sync. */
int bale_wal_append(struct bale_wal *w, const uint8_t *body, size_t len);
struct bale_wal_position bale_wal_end(struct bale_wal *w);
/* Where the last whole group ends: a crash never leaves less. The end itself
 * may be inside a group that is being written. */
uint64_t bale_wal_whole(struct bale_wal *w);
/* Lowest lsn still on disk. */
uint64_t bale_wal_begin(struct bale_wal *w);

/* Background: zeros ahead, and the next file when this one is nearly full. */
int bale_wal_prepare(struct bale_wal *w);
bool bale_wal_wants_prepare(struct bale_wal *w);
/* Files wholly below lsn are recycled or removed. */
int bale_wal_release(struct bale_wal *w, uint64_t lsn);

#endif
