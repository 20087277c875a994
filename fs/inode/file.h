/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - what the data half of fs/inode shares: dirty extents of an inode,
 * its map, loading, flushing.
 *
 * The life of a dirty extent. A writer lists it (data->dirty; the list holds a
 * reference to the entry). A flush takes it off the list with a pinned copy of
 * its content as a *part* of a batch: one part per inode and batch, in the
 * order taken in data->parts. The batch is coded and appended without any
 * lock; then the parts of an inode are staged in order, under its lock, by
 * whoever needs that first: the flush thread, or an operation that holds the
 * lock and cannot go on while copies are in flight (bale_flush_settle_locked).
 * Written to meanwhile, the extent is simply listed again; truncated away, it
 * is marked dropped and its part skips it.
 *
 * The size on disk (promise 2): data->disk_size never passes a byte that is
 * neither stored nor in a patch. A part remembers the file's size when it was
 * taken; when staged, the size on disk becomes that, but for extents that
 * reach past the old one and are not stored yet: it stops before the first.
 */
#ifndef BALE_INODE_FILE_H
#define BALE_INODE_FILE_H

#include <sys/stat.h>

#include "fs/batch/batch.h"
#include "fs/cache/cache.h"
#include "fs/inode/fs_internal.h"

struct bale_flush_part;

/* Extents [first, last) that fallocate() set space aside for. */
struct bale_promise {
	uint64_t first, last;
};

struct bale_file_data {
	/* inode lock, exclusive to change: */
	uint64_t disk_size;	/* counts while anything is dirty or flying */
	struct bale_list dirty; /* bale_ext.dirty_link, unordered */
	unsigned int nr_dirty;
	struct bale_list parts; /* bale_flush_part.link, oldest first */
	struct bale_promise *promises; /* see promise.c: ascending, apart */
	size_t nr_promises, cap_promises;
	uint64_t promised; /* extents of them */
	uint64_t budget;   /* space reserved by the write going on */
	bool tail_checked; /* nothing stored lies beyond the end of the file */
	bool lost; /* data accepted could not become the file's: fsync fails */
	uint64_t unstored; /* bytes dirty or in flight, for st_blocks */
	bool outgrown;	   /* about to be longer than an inline value is */
	bool recode;	   /* recompress: policy below instead of its own */
	struct bale_codec_policy recode_policy;
	struct bale_inode *i;	/* const */
	/* lock of bale_flush: */
	struct bale_list link; /* bale_flush.inodes, with an inode reference */
	uint64_t epoch;
	struct bale_list promised_link; /* bale_flush.promised; likewise */
	/* map_lock (leaf): one map row, a view of the table */
	struct bale_mutex map_lock;
	uint64_t map_group;
	bool map_valid;
	uint64_t map_ids[BALE_MAP_SLOTS];
	/* map_lock as well: the sequential reader */
	uint64_t ra_next, ra_end, ra_window;
};

enum {
	BALE_PATCH_FSYNC_MAX = 32 << 10, /* dirty bytes that become patches */
	BALE_PATCH_ROWS_MAX = 64,	 /* of one extent, then it is coded */
	BALE_PATCH_BYTES_MAX = 64 << 10,
	BALE_PATCH_EXTENTS_MAX = 64, /* of one fsync */
	BALE_EXT_OVERHEAD = 616, /* a bale's header, descriptor and padding */
};

static inline uint64_t bale_ext_no(const struct bale_fs *fs, uint64_t off)
{
	return off >> fs->extent_bits;
}
static inline uint64_t bale_ext_start(const struct bale_fs *fs, uint64_t no)
{
	return no << fs->extent_bits;
}
/* Extents of a file of this size. */
static inline uint64_t bale_ext_count(const struct bale_fs *fs, uint64_t size)
{
	return (size >> fs->extent_bits) +
	       ((size & (fs->extent_size - 1)) ? 1 : 0);
}
/* Bytes of the file in this extent. */
static inline uint32_t bale_ext_in_file(const struct bale_fs *fs,
					uint64_t size, uint64_t no)
{
	uint64_t start = bale_ext_start(fs, no);

	if (start >= size)
		return 0;
	return size - start < fs->extent_size ? (uint32_t)(size - start) :
						(uint32_t)fs->extent_size;
}

/* ---- file.c ---- */

/* i->data, made when missing. Inode lock held exclusively, or shared: then
 * two readers may race, which it knows. */
int bale_file_data_get(struct bale_inode *i, struct bale_file_data **ret);
/* Extent id of a slot, 0: hole. Inode lock held. */
int bale_map_get(struct bale_inode *i, uint64_t no, uint64_t *ret_id);
int bale_map_row(struct bale_inode *i, uint64_t group,
		 uint64_t ids[BALE_MAP_SLOTS]);
/* Stage a row (all zeros: delete it) and keep the view right. */
void bale_map_put(struct bale_inode *i, struct bale_txn *t, uint64_t group,
		  const uint64_t ids[BALE_MAP_SLOTS]);
/* A transaction with bale_map_put() was aborted, or rows were looked at again
 * before its end: look at the table again. */
void bale_map_forget(struct bale_inode *i);
/* First group >= from with a row, -ENOENT. */
int bale_map_next(struct bale_inode *i, uint64_t from, uint64_t *ret_group);

/* List an extent as dirty, [lo, hi) of it changed; the caller's reserved space
 * is e->reserved already. Inode lock held exclusively. */
void bale_ext_mark_dirty(struct bale_inode *i, struct bale_ext *e, uint32_t lo,
			 uint32_t hi);
/* Off the list: gives the list's reference to the caller. */
void bale_ext_unlist(struct bale_inode *i, struct bale_ext *e);
/* Throw an extent away, dirty or not, cached or not. Its patch rows are
 * deleted in t (may be NULL: none can exist). Inode lock held exclusively. */
void bale_ext_discard(struct bale_inode *i, uint64_t no, struct bale_txn *t);
void bale_patch_stage_del(struct bale_txn *t, uint64_t ino, uint64_t no,
			  uint32_t first, uint32_t next);
/* Room in the store for len bytes of one extent: what e lacks. */
uint32_t bale_ext_need(const struct bale_fs *fs, const struct bale_ext *e,
		       uint32_t len);

/* ---- file_load.c ---- */

/* The extent with its content, loaded when it is not cached; a hole becomes an
 * empty entry. Inode lock held. A reference in *ret. */
int bale_ext_load(struct bale_inode *i, uint64_t no, struct bale_ext **ret);
/* The first extent from `from` on with patch rows that no dirty extent stands
 * for; -ENOENT: none. */
int bale_patch_next(struct bale_inode *i, uint64_t from, uint64_t *ret);
/* Rows that recovery could not fold stay until what they belong to is
 * replaced: the range of an extent's ([0, 0): none), and their deletion. */
int bale_patch_find(struct bale_inode *i, uint64_t no, uint32_t *ret_first,
		    uint32_t *ret_next);
int bale_patch_stage_del_left(struct bale_inode *i, uint64_t first,
			      uint64_t last, struct bale_txn *t);
/* Nothing is stored of it (what is cached is not looked at). */
bool bale_ext_is_hole(struct bale_inode *i, uint64_t no);
/* Dirty, in flight or stored. */
bool bale_ext_has_data(struct bale_inode *i, uint64_t no);
/* Many for a reader: claim and load what is not cached and no hole among nos
 * [first, first + nr). Errors show when each is asked for. */
void bale_ext_load_range(struct bale_inode *i, uint64_t first,
			 unsigned int nr);
int bale_readahead_create(struct bale_fs *fs);
void bale_readahead_destroy(struct bale_fs *fs);
/* A read of [off, off + len) happened. Inode lock held. */
void bale_readahead_note(struct bale_inode *i, uint64_t off, size_t len);
/* Fold what recovery found: extents with patch rows become dirty. */
int bale_patches_recover(struct bale_fs *fs);

/* Say it once for each damaged extent. */
void bale_ext_log_damage(struct bale_fs *fs, uint64_t ino, uint64_t no,
			 int err);

/* ---- promise.c; inode lock held exclusively ---- */

/* Set space aside for the extents of [first, last) that nothing is stored or
 * dirty of. -ENOSPC, -ENOMEM: for none of them. */
int bale_promise_make(struct bale_inode *i, uint64_t first, uint64_t last);
bool bale_promise_has(const struct bale_inode *i, uint64_t no);
/* The first write to an extent: the space, now the caller's; 0: none. */
uint32_t bale_promise_take(struct bale_inode *i, uint64_t no);
/* Given back, as far as there is any. */
void bale_promise_drop(struct bale_inode *i, uint64_t first, uint64_t last);
/* Of all inodes: the filesystem ends. No lock held. */
void bale_promise_abandon(struct bale_fs *fs);

/* ---- file_write.c ---- */

/* The file is about to grow: nothing stored beyond its end may show. */
int bale_file_prepare_grow_locked(struct bale_inode *i, uint64_t size);
/* Replace [off, off + len) of one extent by src (NULL: zeros). Reserves. */
int bale_ext_write_locked(struct bale_inode *i, uint64_t no, uint32_t off,
			  const struct iovec *src, int nr_iov, size_t skip,
			  uint32_t len);
/* An extent to be written again as it is. */
int bale_ext_rewrite_locked(struct bale_inode *i, uint64_t no);
/* Times, and suid/sgid. */
void bale_file_touch_locked(struct bale_inode *i, bool kill_priv);
int bale_file_writable(const struct bale_fs *fs);
/* Run fn until it does not lack space: in between everything dirty is
 * stored, which needs less than what is reserved for it. */
bool bale_file_make_space(struct bale_fs *fs, unsigned int try);

/* ---- flush.c, flush_thread.c, fsync.c ---- */

int bale_flush_create(struct bale_fs *fs);
int bale_flush_start(struct bale_fs *fs); /* threads */
void bale_flush_stop(struct bale_fs *fs);
/* Threads stopped: let go of inodes that stayed dirty (a failed flush). */
void bale_flush_abandon(struct bale_fs *fs);
/* After the last inode is gone. */
void bale_flush_destroy(struct bale_fs *fs);
/* data->dirty is not empty (any more): queue the inode. Its lock held. */
void bale_flush_queue(struct bale_inode *i);
void bale_flush_account(struct bale_fs *fs, int64_t listed, int64_t flying);
/* Before taking any inode lock: wait while too much is dirty. */
int bale_flush_throttle(struct bale_fs *fs);
/* Stage what is in flight of the inode. Lock held exclusively. */
int bale_flush_settle_locked(struct bale_inode *i);
/* Everything dirty of the inode is stored and staged. Lock held exclusively. */
int bale_flush_inode_locked(struct bale_inode *i);
/* The same without holding the lock meanwhile. */
int bale_flush_inode(struct bale_inode *i);
/* Everything that was dirty at the call, of all inodes. */
int bale_flush_all(struct bale_fs *fs);
/* One batch of the oldest; *ret_bytes 0: nothing was dirty. */
int bale_flush_round(struct bale_fs *fs, struct bale_inode *only,
		     uint64_t max_epoch, uint64_t *ret_bytes);
/* Settled, and little changed: stage patches. -EAGAIN: not possible. */
int bale_patch_stage_locked(struct bale_inode *i, uint64_t *ret_seq);

/* ---- truncate.c ---- */

/* Free map slots [first, last) in steps; rows of the inode go along. Nothing
 * of them is dirty. */
int bale_map_free_range(struct bale_inode *i, uint64_t first, uint64_t last);
/* Extents [first, last) become a hole, in steps: each whole or not at all. */
int bale_file_punch_locked(struct bale_inode *i, uint64_t first, uint64_t last);
/* Commit what memory shows already: refused, the store has failed. */
int bale_file_commit_locked(struct bale_inode *i, struct bale_txn *t);
/* The inline value goes, and the row says so. Lock held exclusively. */
void bale_inline_stage_del(struct bale_inode *i, struct bale_txn *t);
/* Throw away what is dirty, in flight or patched of extents [first, last). */
void bale_file_discard_range(struct bale_inode *i, uint64_t first,
			     uint64_t last, struct bale_txn *t);

#endif
