/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_internal.h - the state of the meta layer.
 *
 * stage_lock orders everything that is staged: it guards the open group, the
 * active memtable's writer side, and the sequence numbers. The leader of a
 * commit holds `leading` (a flag under stage_lock), not the lock, during I/O.
 * Who holds `applying` (a flag, too) alone freezes memtables, writes to the
 * index, and writes checkpoints. Readers take no lock: view.c.
 */
#ifndef BALE_STORE_META_INTERNAL_H
#define BALE_STORE_META_INTERNAL_H

#include "fs/store/kv.h"
#include "fs/store/memtable.h"
#include "fs/store/store_internal.h"
#include "fs/store/wal.h"

/* Ops that txn_commit resolves; never in the log. */
enum {
	BALE_OP_EXTENT_ADD = 128,
	BALE_OP_EXTENT_REF,
	BALE_OP_EXTENT_UNREF,
	BALE_OP_EXTENT_MOVE, /* value: the row as it was, the row to be */
};

/* A group of this size is committed without waiting for the timer. */
enum { BALE_GROUP_KICK = 4 << 20 };

struct bale_counter {
	const char *name; /* of its row in the meta table */
	uint64_t step;
	uint64_t next, limit; /* counter_lock; limit is in the log */
};

struct bale_slots;

struct bale_meta {
	struct bale_store *st;	  /* const */
	struct bale_kv *kv;	  /* const after open */
	struct bale_wal *wal;	  /* const after open */
	struct bale_slots *slots; /* const */
	uint64_t commit_ns;	  /* const */
	bool read_only, manual;	  /* const */
	char *private_index;	  /* const: directory to remove at close */
	bool index_aside; /* while it opens: the index is not in its place */

	struct bale_mutex stage_lock;
	struct bale_cond durable_cond; /* durable, leading, applying, error */
	struct bale_cond commit_cond;  /* wakes the commit thread */
	struct bale_cond apply_cond;   /* wakes the applier */
	struct bale_cond room_cond;    /* less is staged, or in memory */
	struct bale_buf group;	       /* stage_lock: body of the open group */
	struct bale_buf spare;	       /* stage_lock: memory for the next */
	uint32_t group_no;	       /* stage_lock: from 1 */
	uint64_t staged;	       /* stage_lock to change */
	_Atomic uint64_t durable;      /* stage_lock to change */
	bool leading;		       /* stage_lock */
	bool stop;		       /* stage_lock */
	bool applying;		       /* stage_lock */
	bool no_space;		       /* stage_lock: the index waits for it */
	uint64_t commits, log_bytes;   /* stage_lock */

	/* Changed by who holds `applying`; readers by view.c. */
	struct bale_memtable *_Atomic active, *_Atomic frozen;
	uint64_t frozen_seq;		      /* applying: staged when frozen */
	struct bale_wal_position frozen_from; /* applying: replay from here */
	_Atomic uint64_t drops; /* memtables that the index has taken */

	struct bale_mutex counter_lock;
	struct bale_counter ino, extent_id;

	/* checkpoints: who holds `applying`, and open/close */
	uint64_t ckpt_lsn[2]; /* start positions of the kept, newest first;
				 UINT64_MAX: none */
	_Atomic uint64_t ckpt_at; /* log end when the newest was written */
	_Atomic uint64_t ckpt_bytes;
	bool rebuilt;
	char rebuild_reason[96];

	pthread_t commit_thread, apply_thread;
	bool threads;
};

/* ---- view.c ---- */
struct bale_slot;
struct bale_view {
	struct bale_slot *slot;
	struct bale_memtable *active, *frozen; /* frozen may be NULL */
	struct bale_kv_txn *txn;	       /* once bale_view_index() was */
};
int bale_slots_create(struct bale_slots **ret);
void bale_slots_destroy(struct bale_slots *s); /* before the index */
void bale_view_get(struct bale_meta *m, struct bale_view *v);
/* A read transaction of the index, begun after the memtables were loaded. */
int bale_view_index(struct bale_meta *m, struct bale_view *v);
void bale_view_put(struct bale_view *v);
/* Until every view taken before is put. */
void bale_slots_wait(struct bale_slots *s);

/* ---- txn.c ---- */

/* Recovery, mkfs and the leader's usage rows: one row, stage_lock held (or
 * nobody else there yet). */
int bale_stage_row_locked(struct bale_meta *m, unsigned int table,
			  const void *key, size_t key_len, const void *val,
			  size_t val_len);

/* ---- apply.c ---- */

/* Rows of a memtable into the index, in bounded transactions; the position
 * moves with the last one. */
int bale_meta_move_rows(struct bale_meta *m, struct bale_memtable *mt,
			const struct bale_wal_position *pos);
void *bale_meta_apply_main(void *arg);

/* ---- recover.c ---- */
int bale_meta_recover(struct bale_meta *m, const struct bale_store_options *o);

/* ---- index.c ---- */

/* Open the index found in the store, if it can be believed: ended cleanly and
 * untouched since, or audited. 0, or negative with the reason in why. */
int bale_index_open(struct bale_meta *m, char *why, size_t cap);
/* An empty one, in the store or (read-only) in a private directory. */
/* aside: the one that is there stays until bale_index_settle() puts the new
 * one, which is whole by then, into its place. */
int bale_index_create(struct bale_meta *m, bool aside);
int bale_index_settle(struct bale_meta *m);
/* Close; when `clean` all is in it up to the end of the log: leave a mark. */
void bale_index_close(struct bale_meta *m, bool clean);

/* ---- checkpoint.c ---- */
int bale_ckpt_write(struct bale_meta *m);
bool bale_ckpt_due(struct bale_meta *m);
/* On a full disk: nothing may be staged before the next checkpoint. */
bool bale_ckpt_late(struct bale_meta *m, size_t group_len);
/* So little to write that a clean end should. */
bool bale_ckpt_cheap(struct bale_meta *m);
/* Newest valid checkpoint into the index being built; -ENOENT: none. */
int bale_ckpt_load(struct bale_meta *m, struct bale_wal_position *ret_from,
		   uint64_t *ret_end_lsn);
int bale_ckpt_find(struct bale_meta *m);

#endif
