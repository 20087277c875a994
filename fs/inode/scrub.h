/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub.h - reads everything that is stored and checks it, in steps, beside
 * whatever else the filesystem does. The caller keeps the place between steps
 * and so decides about rate and pauses. A step reads from the store, never the
 * cache, and takes no inode lock: what changes meanwhile is looked up again
 * before it is called damaged.
 */
#ifndef BALE_INODE_SCRUB_H
#define BALE_INODE_SCRUB_H

#include "balefs/ioctl.h"
#include "fs/inode/inode.h"

enum bale_scrub_phase {
	BALE_SCRUB_INDEX,  /* every row against its table's digest */
	BALE_SCRUB_INLINE, /* decode of what is kept in the index */
	BALE_SCRUB_DATA,   /* stored bytes of every extent in a map */
	BALE_SCRUB_DONE,
};
enum { BALE_SCRUB_BAD_MAX = 64 };

struct bale_scrub_place {
	uint32_t phase;
	uint64_t ino, group; /* go on from here */
};
struct bale_scrub_bad {
	uint64_t ino, extent_no;
	int32_t error; /* -EBADMSG: checksum; ... */
};
struct bale_scrub_step {
	struct bale_scrub_place at; /* in, out */
	uint64_t max_bytes; /* in: about as many stored bytes, then return */
	bool decode;	    /* in: also decode what has a right checksum */
	uint64_t extents, stored, raw; /* out: what was looked at */
	unsigned int nr_bad;
	struct bale_scrub_bad bad[BALE_SCRUB_BAD_MAX];
};
/* 0; -EUCLEAN in phase INDEX: the index is not what was written to it (the
 * next mount builds a new one); other errors end it. Any thread. */
int bale_fs_scrub(struct bale_fs *fs, struct bale_scrub_step *s);
/* A step as BALE_IOC_SCRUB asks for it and is answered, of at most max_bytes. A
 * wrong index is in x->index_error, and no error. */
int bale_fs_scrub_ioc(struct bale_fs *fs, struct bale_ioc_scrub *x,
		      uint64_t max_bytes);

#endif
