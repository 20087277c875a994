/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - decoded extents in memory, found by (inode number, extent number).
 * Knows no files and does no I/O: whoever misses claims the extent, loads it
 * and publishes it; others who want it wait for that one load.
 *
 * Who may touch an extent's content: a reader pins the buffer (under the
 * inode's lock, shared) and may then look at it as long as it likes; a writer
 * holds the inode's lock exclusively and changes a buffer only when nobody
 * else has it pinned, else it puts another one in its place. So a pinned buffer
 * never changes. An entry that somebody besides the table refers to is not
 * evicted; being dirty is such a reference.
 */
#ifndef BALE_CACHE_CACHE_H
#define BALE_CACHE_CACHE_H

#include "fs/base/list.h"
#include "fs/base/thread.h"
#include "fs/cache/slab.h"

struct bale_cache;

struct bale_ext {
	/* const */
	uint64_t ino, no;
	/* shard lock */
	struct bale_ext *hash_next;
	struct bale_list lru;
	unsigned int refs; /* the table's, and everybody's who holds it */
	bool hashed, loading, referenced;
	int error; /* of the load, for those who waited */
	/* content: shard lock; changed under the inode's lock as well */
	struct bale_cbuf *buf;
	uint32_t len; /* bytes beyond it, up to the extent's end, are zero */

	/* the file layer's, guarded by the inode's lock: */
	struct bale_list dirty_link;
	bool listed;	    /* changed since it was last collected */
	bool dropped;	    /* truncated or punched away meanwhile */
	bool no_patch;	    /* only a whole new copy will do */
	unsigned int nr_flying; /* copies on their way to the store */
	uint32_t lo, hi;    /* bytes changed and in no patch, none: lo >= hi */
	uint32_t acct;	    /* counted as dirty memory */
	uint32_t unstored;  /* counted in the file's st_blocks, while listed */
	uint32_t reserved;  /* space reserved in the store */
	uint32_t patch_first, patch_next, patch_bytes; /* rows of the log */
	uint64_t part_seq;  /* of the flush that staged it last */
};

int bale_cache_create(size_t bytes, size_t extent_size,
		      struct bale_cache **ret);
/* No entry is in use any more. */
void bale_cache_destroy(struct bale_cache *c);

/* A pinned buffer of what is cached. -ENOENT: nothing is; -EINPROGRESS: being
 * loaded (unless wait); -errno: that load failed just now. */
int bale_cache_pin(struct bale_cache *c, uint64_t ino, uint64_t no, bool wait,
		   struct bale_cbuf **ret_buf, uint32_t *ret_len);
/* An entry that is being loaded, by the caller. -EEXIST: there is one. */
int bale_cache_claim(struct bale_cache *c, uint64_t ino, uint64_t no,
		     struct bale_ext **ret);
/* The end of a claim: content (the buffer's reference is taken over), or an
 * error (buf NULL), which removes the entry. The claim's reference stays. */
void bale_cache_publish(struct bale_cache *c, struct bale_ext *e,
			struct bale_cbuf *buf, uint32_t len, int error);
/* A reference to what is cached, waiting for a load. -ENOENT, -errno. */
int bale_cache_find(struct bale_cache *c, uint64_t ino, uint64_t no,
		    struct bale_ext **ret);
void bale_ext_ref(struct bale_cache *c, struct bale_ext *e);
void bale_ext_put(struct bale_cache *c, struct bale_ext *e);
/* Inode lock held exclusively; takes over the buffer's reference. */
void bale_ext_set_buf(struct bale_cache *c, struct bale_ext *e,
		      struct bale_cbuf *buf, uint32_t len);
void bale_ext_set_len(struct bale_cache *c, struct bale_ext *e, uint32_t len);
/* Forget an entry (waits for its load); holders keep theirs. */
void bale_cache_drop(struct bale_cache *c, uint64_t ino, uint64_t no);

/* Memory for len bytes: evicts what is clean, and in the end takes the heap. */
int bale_cache_alloc(struct bale_cache *c, size_t len, struct bale_cbuf **ret);
/* False instead of the heap, for loads that are only a guess. */
bool bale_cache_try_alloc(struct bale_cache *c, size_t len,
			  struct bale_cbuf **ret);

/* Where the buffers lie, but for those from the heap. */
void bale_cache_memory(struct bale_cache *c, void **ret, size_t *ret_len);

struct bale_cache_stats {
	uint64_t bytes, used, heap; /* the bound; handed out; beyond it */
	uint64_t entries, hits, misses, evicted;
};
void bale_cache_stats(struct bale_cache *c, struct bale_cache_stats *ret);

#endif
