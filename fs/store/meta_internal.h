/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_internal.h - the state of the meta layer.
 *
 * stage_lock orders everything that is staged: it guards the open group, the
 * active memtable's writer side, and the sequence numbers. view_lock guards
 * the two memtable pointers for readers, who take references. The leader of a
 * commit holds `leading` (a flag under stage_lock), not the lock, during I/O.
 * The applier thread alone writes to the index.
 */
#ifndef BALE_STORE_META_INTERNAL_H
#define BALE_STORE_META_INTERNAL_H

#include "fs/store/kv.h"
#include "fs/store/log.h"
#include "fs/store/memtable.h"
#include "fs/store/store_internal.h"

/* Ops that txn_commit resolves; never in the log. */
enum {
	BALE_OP_EXTENT_ADD = 128,
	BALE_OP_EXTENT_REF,
	BALE_OP_EXTENT_UNREF,
	BALE_OP_EXTENT_MOVE, /* value: the row as it was, the row to be */
};

struct bale_counter {
	const char *name; /* of its row in the meta table */
	uint64_t step;
	uint64_t next, limit; /* counter_lock; limit is in the log */
};

struct bale_meta {
	struct bale_store *st;	/* const */
	struct bale_kv *kv;	/* const after open */
	struct bale_wal *wal;	/* const after open */
	uint64_t commit_ns;	/* const */
	bool read_only, manual; /* const */
	char *private_index;	/* const: directory to remove at close */

	struct bale_mutex stage_lock;
	struct bale_cond durable_cond; /* durable, leading, error changed */
	struct bale_cond commit_cond;  /* wakes the commit thread */
	struct bale_cond apply_cond;   /* wakes the applier */
	struct bale_cond room_cond;    /* the applier made room */
	struct bale_buf group;	       /* stage_lock: body of the open group */
	uint64_t staged, durable;      /* stage_lock */
	bool leading;		       /* stage_lock */
	bool stop;		       /* stage_lock */
	bool applying;		       /* stage_lock: a bale_meta_apply runs */
	bool apply_asked;	       /* stage_lock */
	uint64_t frozen_seq;	       /* stage_lock: staged when frozen */
	struct bale_wal_position frozen_from; /* stage_lock: replay from here */
	uint64_t commits, log_bytes;	      /* stage_lock */

	struct bale_mutex view_lock;
	struct bale_memtable *active, *frozen; /* view_lock to change or ref */

	struct bale_mutex counter_lock;
	struct bale_counter ino, extent_id;

	/* checkpoints: the applier only, and open/close */
	uint64_t ckpt_lsn[2]; /* start positions of the kept ones, newest first
			       */
	uint64_t ckpt_at;     /* log end when the newest was written */
	atomic_ullong ckpt_bytes;
	bool rebuilt;
	char rebuild_reason[96];

	pthread_t commit_thread, apply_thread;
	bool threads;
};

/* A reader's view: memtable references, taken before any index read. */
struct bale_view {
	struct bale_memtable *active, *frozen;
};
void bale_view_get(struct bale_meta *m, struct bale_view *v);
void bale_view_put(struct bale_view *v);

/* Staging, stage_lock held: one row into group and memtable. */
int bale_stage_row_locked(struct bale_meta *m, unsigned int table,
			  const void *key, size_t key_len, const void *val,
			  size_t val_len);

/* apply.c */
int bale_meta_freeze_locked(struct bale_meta *m);
int bale_meta_apply_frozen(struct bale_meta *m);
void *bale_meta_apply_main(void *arg);
/* Rows of a memtable into the index, in bounded transactions; the position
 * moves with the last one. */
int bale_meta_move_rows(struct bale_meta *m, struct bale_memtable *mt,
			const struct bale_wal_position *pos);

/* recover.c */
int bale_meta_recover(struct bale_meta *m, const struct bale_store_options *o);

/* checkpoint.c */
int bale_ckpt_write(struct bale_meta *m);
bool bale_ckpt_due(struct bale_meta *m);
/* Newest valid checkpoint into the index being rebuilt; -ENOENT: none. */
int bale_ckpt_load(struct bale_meta *m, struct bale_wal_position *ret_from,
		   uint64_t *ret_end_lsn);
int bale_ckpt_find(struct bale_meta *m);

#endif
