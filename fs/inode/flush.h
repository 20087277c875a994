/* SPDX-License-Identifier: Apache-2.0 */
/* flush.h - batches on their way to the store; see file.h for the protocol. */
#ifndef BALE_INODE_FLUSH_H
#define BALE_INODE_FLUSH_H

#include "fs/inode/file.h"

enum {
	BALE_FLUSH_THREADS_MAX = 8,
	BALE_FLUSH_ITEMS_MAX = 16384, /* extents of a bale */
};

enum bale_flush_state {
	BALE_FLUSH_BUSY,     /* being coded or appended */
	BALE_FLUSH_APPENDED, /* its parts may be staged */
	BALE_FLUSH_FAILED,
};

/* An extent's copy in flight; beside its bale_batch_item. */
struct bale_flush_item {
	struct bale_ext *ext; /* a reference */
	struct bale_cbuf *buf; /* pinned */
	uint32_t acct, reserved, unstored;
	uint32_t patch_next; /* rows before it are in this copy */
	bool lost; /* its map row cannot be read: nowhere to put it */
};

struct bale_flush_part {
	struct bale_list link; /* bale_file_data.parts; inode lock */
	struct bale_flush_batch *batch;
	struct bale_inode *i; /* a reference */
	size_t first;  /* of the batch's work */
	uint64_t size; /* of the file when it was taken */
	uint64_t seq;
	bool staged;
	/* Beside work[first + k]. The part's own: whoever holds the inode's
	 * lock looks at them while the batch is still growing. */
	size_t nr;
	struct bale_flush_item items[];
};

struct bale_flush_batch {
	struct bale_list link; /* bale_flush.running; its lock */
	uint64_t seq;
	_Atomic int state;     /* changed under the lock of bale_flush */
	int error;
	size_t nr, cap, bytes, max_bytes;
	struct bale_batch_item *work;
	size_t nr_parts, cap_parts;
	struct bale_flush_part **parts;
	void *scratch;
};

struct bale_flush {
	struct bale_fs *fs;
	struct bale_mutex lock; /* all below but atomics; inside inode locks */
	struct bale_cond wake;	/* flush threads: enough is dirty */
	struct bale_cond done;	/* a batch changed its state */
	struct bale_cond tick;	/* commit thread: stop */
	struct bale_list inodes; /* bale_file_data.link, by epoch */
	struct bale_list promised; /* bale_file_data.promised_link */
	uint64_t epoch, batch_seq;
	_Atomic uint64_t events; /* state changes so far */
	struct bale_list running;
	_Atomic int64_t listed, flying; /* bytes of memory */
	_Atomic unsigned int idle;
	int64_t limit; /* const: writers wait above it */
	uint64_t bale_bytes; /* const */
	bool stop, kick;
	unsigned int nr_threads;
	unsigned int width; /* const: bales at a time, a thread each */
	pthread_t threads[BALE_FLUSH_THREADS_MAX + 1];
	_Atomic uint64_t nr_flushes, nr_fsyncs, nr_patches, nr_throttled;
	_Atomic uint64_t part_seq;
};

/* A batch that bale_flush_all() will wait for. NULL: no memory. */
struct bale_flush_batch *bale_flush_batch_new(struct bale_flush *fl);
void bale_flush_batch_free(struct bale_flush *fl, struct bale_flush_batch *b);
/* Take what fits of an inode's dirty extents, in ascending order. Its lock
 * held exclusively. -ENOMEM. */
int bale_flush_collect_locked(struct bale_flush_batch *b,
			      struct bale_inode *i);
/* Code and append; no lock held but maybe the inode's. */
int bale_flush_write(struct bale_flush *fl, struct bale_flush_batch *b);
/* Stage the oldest part, whose batch is not busy. Lock held exclusively. */
int bale_flush_stage_locked(struct bale_inode *i, struct bale_flush_part *p);

#endif
