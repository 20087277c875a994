/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segments.h - the set of segments, as segments.c and append.c share it.
 * `lock` guards everything below that is not marked const; it is never held
 * across I/O but for opening and preallocating a file.
 */
#ifndef BALE_STORE_SEGMENTS_H
#define BALE_STORE_SEGMENTS_H

#include "fs/store/store_internal.h"

struct bale_seg {
	uint64_t no;
	uint64_t used, live;
	uint64_t pending;  /* appended, neither staged nor discarded yet */
	uint64_t prealloc; /* end of the preallocated part, when open */
	uint64_t dead_seq;
	uint64_t punched_live; /* live when last punched; UINT64_MAX: never */
	unsigned int users;    /* of fd */
	unsigned int appends;  /* in flight */
	int fd;		       /* -1: closed */
	bool open;	       /* appended to */
	bool unsynced, changed;
};

struct bale_segs {
	struct bale_mutex lock;
	struct bale_seg **all; /* ascending by number */
	size_t nr, cap;
	uint64_t next_no;
	uint64_t *deleted; /* numbers whose row still has to go */
	size_t nr_deleted;
	uint64_t bale_seq;
	uint64_t seg_size;   /* const */
	uint64_t tail_waste; /* const: what the end of a segment may lose */
	unsigned int nr_fds;
	bool dir_unsynced;
	bool no_prealloc; /* the backing filesystem cannot */
};

struct bale_seg *bale_segs_find_locked(struct bale_segs *s, uint64_t no);
/* The file, opened when needed; pins it (users++). */
int bale_seg_pin_locked(struct bale_store *st, struct bale_seg *g,
			bool writable);
void bale_seg_unpin_locked(struct bale_seg *g);
int bale_segs_new_locked(struct bale_store *st, struct bale_seg **ret);
/* Room for more appends: `room` bytes in one open segment. */
int bale_segs_grow_locked(struct bale_store *st, uint64_t room);

static inline uint64_t bale_align_up(uint64_t v)
{
	return (v + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
}

#endif
