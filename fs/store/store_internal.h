/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_internal.h - what the files of fs/store tell each other. Two halves:
 * the meta half (log, memtable, index) asks the segment half to sync and to
 * account; the segment half asks meta what is durable.
 */
#ifndef BALE_STORE_STORE_INTERNAL_H
#define BALE_STORE_STORE_INTERNAL_H

#include <stdatomic.h>

#include "fs/base/list.h"
#include "fs/base/thread.h"
#include "fs/store/store.h"

struct bale_segs;
struct bale_space;
struct bale_cleaner;

struct bale_store {
	struct bale_io *io;	      /* const */
	struct bale_super super;      /* const after open */
	struct bale_meta *meta;	      /* const after open */
	struct bale_segs *segs;	      /* const */
	struct bale_space *space;     /* const */
	struct bale_cleaner *cleaner; /* const after open; NULL read-only */
	char *path;		      /* const */
	int lock_fd;		      /* const */
	bool read_only;		      /* const */
	bool manual;		      /* const: no background work */
	atomic_int error;	      /* first failure, 0 while healthy */
};

/* ---- meta.c ---- */
int bale_meta_open(struct bale_store *st, const struct bale_store_options *o,
		   struct bale_meta **ret);
/* Commit, apply, checkpoint if due, stop threads, mark clean. */
int bale_meta_close(struct bale_meta *m); /* NULL is fine */
/* mkfs: log file 0 and the first record: root inode, counters. Synced. */
int bale_meta_format(struct bale_store *st, const struct bale_inode_row *root);
/* Bytes that the log, index and next checkpoint may still need. */
uint64_t bale_meta_space_need(struct bale_meta *m);
/* Staged rows that are not in the index yet, in memory. */
uint64_t bale_meta_unapplied(struct bale_meta *m);

/* ---- segments.c ---- */
int bale_segs_create(struct bale_store *st, struct bale_segs **ret);
void bale_segs_stop(struct bale_store *st); /* trims preallocation, closes */
void bale_segs_destroy(struct bale_segs *s);
/* Recovery: a SEGMENT row. Then, once, after all rows: find segment files that
 * no row names, and choose where appending goes on (always a new file). */
int bale_segs_load(struct bale_store *st, uint64_t segment, uint64_t used,
		   uint64_t live);
int bale_segs_start(struct bale_store *st);
/* Commit leader, before the log record: sync every segment with appends. */
int bale_segs_sync(struct bale_store *st);
/* Rows of segments whose used or live changed since the last call. */
typedef void bale_segs_usage_fn(uint64_t segment, uint64_t used, uint64_t live,
				bool deleted, void *arg);
void bale_segs_usage_take(struct bale_store *st, bale_segs_usage_fn *fn,
			  void *arg);
/* Staging: stored bytes that became live, or dead as of staged seq. */
void bale_segs_live_add(struct bale_store *st, uint64_t segment,
			uint64_t bytes);
void bale_segs_live_sub(struct bale_store *st, uint64_t segment, uint64_t bytes,
			uint64_t seq);

/* For the cleaner: one segment's state. */
struct bale_seg_info {
	uint64_t segment, used, live;
	uint64_t dead_seq; /* newest staged seq at which bytes died */
	uint64_t blocks;   /* on disk, about: `used` where not looked at */
	uint64_t dead;	   /* died since it was punched; used - live: never */
	bool dead_known;   /* punched since the store was opened */
	bool open;	   /* still appended to */
	bool stuck;	   /* copying did not get below this live value */
};
/* Infos of all segments, malloced. */
int bale_segs_list(struct bale_store *st, struct bale_seg_info **ret,
		   size_t *ret_nr);
/* Remove a sealed segment without live bytes; its row goes with the next
 * commit, its file at once (no durable row refers to it any more). */
int bale_segs_delete(struct bale_store *st, uint64_t segment);
/* It was punched, or need not be, when so much lived and lay there. */
void bale_segs_mark_cleaned(struct bale_store *st, uint64_t segment,
			    uint64_t live, uint64_t blocks);
/* nr_bad extents cannot be moved, for the first one's err; what lives now
 * stays, and is not tried again before some of it has died. False: less than
 * `live` is left, so that has happened. */
bool bale_segs_mark_stuck(struct bale_store *st, uint64_t segment,
			  uint64_t live, unsigned int nr_bad, int err);
/* Segments that are stuck, their live bytes, and the first one's reason. */
void bale_segs_stuck(struct bale_store *st, uint64_t *ret_segments,
		     uint64_t *ret_bytes, char *text, size_t cap);
/* Bytes that died since the store was opened. At `at` of them the cleaner is
 * woken. */
uint64_t bale_segs_died(struct bale_store *st);
void bale_segs_wake_at(struct bale_store *st, uint64_t at);
/* Newest staged seq at which bytes of it died. -ENOENT. */
int bale_segs_dead_seq(struct bale_store *st, uint64_t segment,
		       uint64_t *ret_seq);
/* A read-only descriptor for the segment, cached; put it back. */
int bale_segs_fd_get(struct bale_store *st, uint64_t segment, int *ret_fd);
void bale_segs_fd_put(struct bale_store *st, uint64_t segment, int fd);

/* Preallocate, in steps, until `bytes` can be appended. */
int bale_segs_prealloc(struct bale_store *st, uint64_t bytes, uint64_t step);
/* What is preallocated and not appended to yet; what is appended and neither
 * staged nor discarded. */
void bale_segs_pool(struct bale_store *st, uint64_t *ret_free,
		    uint64_t *ret_pending);
/* Give preallocation back, but for `keep` bytes. */
int bale_segs_trim(struct bale_store *st, uint64_t keep);
/* What the ends of two open segments may lose: slack for reservations. */
uint64_t bale_segs_slack(const struct bale_store *st);
/* Number of the last bale: changes while there are appends. */
uint64_t bale_segs_activity(struct bale_store *st);
void bale_segs_totals(struct bale_store *st, uint64_t *ret_nr,
		      uint64_t *ret_used, uint64_t *ret_live);

/* ---- space.c ---- */
int bale_space_create(struct bale_store *st, struct bale_space **ret);
void bale_space_destroy(struct bale_store *st, struct bale_space *sp);
/* What is free for new bytes, and what there is in all. */
int bale_space_left(struct bale_store *st, uint64_t *ret_total,
		    uint64_t *ret_left);
/* As bale_space_reserve(), for the cleaner: fails rather than cleans. */
int bale_space_try_reserve(struct bale_store *st, uint64_t bytes);
/* Nothing is going on: unused preallocation is given back. */
void bale_space_idle(struct bale_store *st);
/* The log or index met a full disk: the reserve file's blocks go to them. */
void bale_space_shrink_reserve(struct bale_store *st);

/* ---- cleaner.c ---- */
int bale_cleaner_create(struct bale_store *st, struct bale_cleaner **ret);
void bale_cleaner_destroy(struct bale_cleaner *c);
void bale_cleaner_wake(struct bale_store *st);
/*
 * A writer needs room: clean until `try` says something else than -ENOSPC,
 * which is returned, or until nothing more can be won. try(st, bytes) runs
 * under the cleaner's lock.
 */
typedef int bale_room_fn(struct bale_store *st, uint64_t bytes);
int bale_cleaner_make_room(struct bale_store *st, bale_room_fn *try,
			   uint64_t bytes);

static inline void bale_seg_name(char buf[32], uint64_t segment)
{
	static const char hex[] = "0123456789abcdef";
	int n = 0;

	for (const char *p = "seg/"; *p; p++)
		buf[n++] = *p;
	for (int shift = 60; shift >= 0; shift -= 4)
		buf[n++] = hex[segment >> shift & 15];
	buf[n] = 0;
}

#endif
