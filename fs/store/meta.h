/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta.h - names, inodes and extents as rows of tables, changed by
 * transactions. What is true is the log; memory and LMDB are views of it.
 *
 *   bale_txn_commit()  stages a transaction: its rows are visible at once to
 *                      every reader, all of them or none reach the log in one
 *                      group. Nothing is durable yet. No I/O.
 *   bale_meta_sync()   makes everything staged up to a sequence number durable:
 *                      sync of the segments it refers to, one log append, one
 *                      sync. Concurrent callers share one.
 *
 * Behind it: an active memtable (ordered, lock-free to read) takes staged rows;
 * when large or old it is frozen, and the applier moves it into LMDB in
 * bounded synced transactions, after its log records are durable. A read looks
 * in the active memtable, then the frozen one, then LMDB. A scan merges them.
 *
 * Isolation is the caller's: two transactions on the same rows must be ordered
 * by the caller's locks (inode locks), but for the extent table, whose changes
 * (ref, unref, move) are resolved inside bale_txn_commit() under the staging
 * lock and so may come from anywhere.
 */
#ifndef BALE_STORE_META_H
#define BALE_STORE_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/base/mem.h"
#include "fs/format/format.h"

struct bale_meta;

/* ---- reading ---- */

/* -ENOENT when there is none; -ENOSPC (and *ret_len) when cap is too small;
 * -EUCLEAN/-EBADMSG when the row is damaged. */
int bale_meta_get(struct bale_meta *m, enum bale_table table, const void *key,
		  size_t key_len, void *buf, size_t cap, size_t *ret_len);
/*
 * Rows with keys >= from that start with the first prefix_len bytes of from,
 * in order, until fn returns non-zero (returned as it is). key and val live
 * only during the call; fn may read meta, but must not stage transactions.
 * Scans are not snapshots: rows staged meanwhile may or may not be seen.
 */
typedef int bale_row_fn(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg);
int bale_meta_scan(struct bale_meta *m, enum bale_table table, const void *from,
		   size_t from_len, size_t prefix_len, bale_row_fn *fn,
		   void *arg);
int bale_meta_extent(struct bale_meta *m, uint64_t id,
		     struct bale_extent_row *ret);

/* ---- changing ---- */

struct bale_txn {
	struct bale_meta *meta;
	struct bale_buf ops; /* encoded as in the log, plus pseudo ops */
	unsigned int nr_ops;
	int error; /* first failure while building (-ENOMEM): commit fails */
};
void bale_txn_begin(struct bale_meta *m, struct bale_txn *t);
void bale_txn_put(struct bale_txn *t, enum bale_table table, const void *key,
		  size_t key_len, const void *val, size_t val_len);
void bale_txn_del(struct bale_txn *t, enum bale_table table, const void *key,
		  size_t key_len);
/* A new extent (row->refs references). */
void bale_txn_extent_add(struct bale_txn *t, uint64_t id,
			 const struct bale_extent_row *row);
/* One reference more, or one less; the last one removes the row and makes its
 * stored bytes dead (their space comes back after the commit is durable). */
void bale_txn_extent_ref(struct bale_txn *t, uint64_t id);
void bale_txn_extent_unref(struct bale_txn *t, uint64_t id);
/* Cleaner: the extent now lives at `to`, if it still lives at `from`. */
void bale_txn_extent_move(struct bale_txn *t, uint64_t id,
			  const struct bale_extent_row *from,
			  const struct bale_extent_row *to);
/* Bytes of ops so far; keep a transaction under BALE_TXN_MAX. */
enum { BALE_TXN_MAX = 1 << 20 };
static inline size_t bale_txn_bytes(const struct bale_txn *t)
{
	return t->ops.len;
}
/*
 * Stage, and end the transaction whatever is returned. 0: visible, *ret_seq
 * (may be NULL) is what to hand to bale_meta_sync. -EROFS/-EIO: the store has
 * failed or is read-only, nothing was changed. May block while too much is
 * staged (back-pressure).
 */
int bale_txn_commit(struct bale_txn *t, uint64_t *ret_seq);
void bale_txn_abort(struct bale_txn *t);

/* Durable up to seq (0: everything staged by now). */
int bale_meta_sync(struct bale_meta *m, uint64_t seq);
/* Staged and durable sequence numbers. */
uint64_t bale_meta_staged(struct bale_meta *m);
uint64_t bale_meta_durable(struct bale_meta *m);

/* Move everything durable into LMDB now, and (force) write a checkpoint. */
int bale_meta_apply(struct bale_meta *m);
int bale_meta_checkpoint(struct bale_meta *m);

/* Counters that never give a value twice, crash or not; they are reserved in
 * steps and the step is in the log before a value of it is. */
int bale_meta_new_ino(struct bale_meta *m, uint64_t *ret);
int bale_meta_new_extent_id(struct bale_meta *m, uint64_t *ret);

/* Read the whole index and compare it with what its last commit says of it.
 * -EUCLEAN: damaged; the store takes no change any more, and the next open
 * makes a new index. Seconds for millions of rows; nothing waits for it. */
int bale_meta_verify(struct bale_meta *m);

/* ---- for fsck and tests ---- */

struct bale_meta_stats {
	uint64_t log_start, log_end, durable_lsn, applied_lsn, ckpt_lsn;
	uint64_t rows[BALE_TABLE_NR]; /* in LMDB */
	uint64_t commits, log_bytes_written, syncs;
	uint64_t memtable_bytes, index_bytes;
	bool index_rebuilt; /* at this open */
	char rebuild_reason[96];
};
void bale_meta_stats(struct bale_meta *m, struct bale_meta_stats *ret);
/* Order-independent digest of every table as it is now (overlay included):
 * two words per table. A rebuilt index has the same. */
int bale_meta_digest(struct bale_meta *m, uint64_t ret[BALE_TABLE_NR][2]);

#endif
