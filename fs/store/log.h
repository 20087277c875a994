/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h (store) - the log's files: append, sync, replay, recycle.
 *
 * One writer at a time (the commit leader). A file's blocks are written with
 * zeros before records go there, so that a sync allocates nothing. Each record
 * of a group is synced before the next is written: a valid record behind a bad
 * one therefore always means damage, never a torn write.
 */
#ifndef BALE_STORE_LOG_H
#define BALE_STORE_LOG_H

#include "fs/store/store_internal.h"

struct bale_wal;

/* Where the next record goes. */
struct bale_wal_position {
	uint64_t lsn, seq;
};

int bale_wal_create(struct bale_store *st, struct bale_wal **ret);
void bale_wal_destroy(struct bale_wal *w); /* NULL is fine */

/* mkfs: zero file 0. */
int bale_wal_format(struct bale_wal *w);

/* Replay from `from`: every op of every complete group, in order. fn's error
 * ends it. ret: where the log ends. -EUCLEAN: a valid record lies behind the
 * end: the log is damaged in its middle (logged with its position). */
typedef int bale_wal_op_fn(const struct bale_op *op, void *arg);
typedef int bale_wal_group_fn(const struct bale_wal_position *next, void *arg);
int bale_wal_replay(struct bale_wal *w, struct bale_wal_position from,
		    bale_wal_op_fn *op, bale_wal_group_fn *group, void *arg,
		    struct bale_wal_position *ret);
/* Read-write: append goes on at `at`; what lies behind it is zeroed. */
int bale_wal_start(struct bale_wal *w, struct bale_wal_position at);

/* Write a group's ops (split at op borders) and sync. */
int bale_wal_append(struct bale_wal *w, const uint8_t *body, size_t len);
struct bale_wal_position bale_wal_end(struct bale_wal *w);
/* Lowest lsn still on disk. */
uint64_t bale_wal_begin(struct bale_wal *w);

/* Background: have the next file ready. */
int bale_wal_prepare(struct bale_wal *w);
/* Files wholly below lsn are recycled or removed. */
int bale_wal_release(struct bale_wal *w, uint64_t lsn);

#endif
