/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segments.h - the set of segments, as segments.c, seg_prealloc.c, seg_open.c
 * and append.c share it. `lock` guards everything below that is not marked
 * const; it is never held across I/O but for opening, preallocating and
 * trimming a file.
 *
 * A segment is open (appended to, its tail preallocated) or sealed, for good.
 * What was appended is `pending` until its row is staged (live_add) or given
 * up (bale_store_discard): a segment with pending bytes is never cleaned.
 */
#ifndef BALE_STORE_SEGMENTS_H
#define BALE_STORE_SEGMENTS_H

#include "fs/store/store_internal.h"

struct bale_seg {
	uint64_t no;
	uint64_t used, live;
	uint64_t pending;      /* appended, neither staged nor discarded yet */
	uint64_t prealloc;     /* end of the preallocated part, when open */
	uint64_t dead_seq;     /* newest staged seq at which bytes died */
	uint64_t cleaned_live; /* live when last punched; UINT64_MAX: never */
	uint64_t blocks;       /* on disk, when last punched */
	uint64_t stuck_live;   /* live when copying last failed */
	unsigned int stuck_nr; /* extents that could not be moved */
	int stuck_err;	       /* why */
	unsigned int users;    /* of fd */
	unsigned int appends;  /* in flight */
	int fd;		       /* -1: closed */
	bool open;	       /* and linked */
	struct bale_list open_link;
	bool unsynced, changed;
};

struct bale_segs {
	struct bale_mutex lock;
	struct bale_seg **all; /* ascending by number */
	size_t nr, cap;
	struct bale_list open; /* ascending by number */
	uint64_t next_no;
	uint64_t *deleted; /* numbers whose row still has to go */
	size_t nr_deleted;
	uint64_t bale_seq;
	uint64_t pending;    /* of all segments */
	uint64_t died;	     /* bytes, since the store was opened */
	uint64_t wake_at;    /* the cleaner is woken when so many have */
	uint64_t seg_size;   /* const */
	uint64_t tail_waste; /* const: what the end of a segment may lose */
	unsigned int nr_fds;
	bool dir_unsynced;
	bool no_prealloc; /* the backing filesystem cannot */
};

struct bale_seg *bale_segs_find_locked(struct bale_segs *s, uint64_t no);
int bale_segs_insert_locked(struct bale_segs *s, uint64_t no,
			    struct bale_seg **ret);
/* Out of the set; its row goes with the next group. -ENOMEM. */
int bale_segs_drop_locked(struct bale_segs *s, struct bale_seg *g);
void bale_seg_open_locked(struct bale_segs *s, struct bale_seg *g);
void bale_seg_seal_locked(struct bale_seg *g);
/* The file, opened when needed; pins it (users++). */
int bale_seg_pin_locked(struct bale_store *st, struct bale_seg *g);
void bale_seg_unpin_locked(struct bale_seg *g);
void bale_seg_close_locked(struct bale_store *st, struct bale_seg *g);
int bale_segs_new_locked(struct bale_store *st, struct bale_seg **ret);
/* Room for more appends: `room` bytes in one open segment. */
int bale_segs_grow_locked(struct bale_store *st, uint64_t room);
/* Appended bytes that were staged or given up. */
void bale_seg_settle_locked(struct bale_segs *s, struct bale_seg *g,
			    uint64_t bytes);

static inline struct bale_seg *bale_seg_of_link(struct bale_list *l)
{
	return BALE_CONTAINER(l, struct bale_seg, open_link);
}

static inline uint64_t bale_align_up(uint64_t v)
{
	return (v + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
}

#endif
