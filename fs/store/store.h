/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - an open store: superblock, lock, segments, space, and the meta
 * layer (meta.h: log + overlay + index). Knows no codec: what it stores is
 * opaque bytes with a checksum. Any function may be called from any thread
 * unless it says otherwise.
 */
#ifndef BALE_STORE_STORE_H
#define BALE_STORE_STORE_H

#include "fs/format/format.h"
#include "fs/store/io.h"
#include "fs/store/meta.h"

struct bale_store;

struct bale_mkfs_options {
	size_t size;				     /* sizeof this struct */
	uint8_t extent_bits, segment_bits, log_bits; /* 0: default */
	uint8_t codec;				     /* default policy */
	int8_t level;
	uint8_t filter;
	const char *label; /* NULL: none */
	bool force;	   /* an existing store is destroyed */
};
/* Create a store in an empty or missing directory; owner only. The root
 * directory's inode belongs to the caller's uid/gid, mode 0755. -ENOTEMPTY. */
int bale_store_mkfs(const char *path, const struct bale_mkfs_options *o);

struct bale_store_options {
	size_t size;
	bool read_only;	      /* nothing at all is written */
	bool untrusted;	      /* never use the index found; build one */
	bool rebuild_index;   /* fsck: as above, then keep it */
	bool manual_commit;   /* tests: no background commit, no cleaner */
	unsigned int wait_ms; /* for a holder that is closing */
	uint64_t commit_ns;   /* default 5 s */
	const struct bale_io_ops *io_ops; /* NULL: bale_io_posix */
	void *io_priv;
};
/* -EBUSY: another process has it (bale_store_holder tells who). Recovers the
 * log; afterwards everything committed is visible. */
int bale_store_open(const char *path, const struct bale_store_options *o,
		    struct bale_store **ret);
/* Commits, applies, checkpoints when due, marks clean, unlocks. The first
 * error of the mount's life is returned (nothing more can be done about it). */
int bale_store_close(struct bale_store *st);
/* "pid 123 on host xyz" of whoever has it locked, else -ENOENT. */
int bale_store_holder(const char *path, char *buf, size_t cap);

const struct bale_super *bale_store_super(const struct bale_store *st);
struct bale_meta *bale_store_meta(struct bale_store *st);
struct bale_io *bale_store_io(struct bale_store *st);

/* First failure of a flush: 0 while healthy; else the store takes no change
 * any more and the reason was logged. bale_store_fail() sets it (first wins).
 */
int bale_store_error(const struct bale_store *st);
void bale_store_fail(struct bale_store *st, int err, const char *what);

/* ---- extents ---- */

struct bale_extent_in {
	uint64_t id, ino, extent_no; /* id from bale_store_new_id() */
	uint32_t raw_len;
	uint8_t codec, filter;
	int8_t level;
	uint8_t reason;
	const void *stored;
	uint32_t stored_len;
	bool has_crc; /* else it is computed here */
	uint32_t crc; /* CRC-32C of stored */
};
/* A new, never reused extent id. */
int bale_store_new_id(struct bale_store *st, uint64_t *ret);
/*
 * Append one bale; fills ret_rows[i] (refs = 1) with place and checksum. Not
 * durable yet: the commit that makes a row durable syncs its segment first.
 * Bales larger than what is left in the segment are split. -ENOSPC only when
 * the caller had not reserved.
 */
int bale_store_append(struct bale_store *st, const struct bale_extent_in *in,
		      size_t nr, struct bale_extent_row *ret_rows);
/* Every appended row is staged (bale_txn_extent_add, _move) or given back here:
 * until then its segment is kept. */
void bale_store_discard(struct bale_store *st,
			const struct bale_extent_row *rows, size_t nr);
/* Read and verify (crc) the stored bytes; buf holds row->stored_len bytes.
 * -EBADMSG: damaged, logged with segment and offset. */
int bale_store_read(struct bale_store *st, const struct bale_extent_row *row,
		    void *buf);
/* Many, sorted and merged into few large reads; status per item. */
struct bale_store_read_item {
	struct bale_extent_row row;
	void *buf;
	int status;
	void *cookie;
};
void bale_store_read_many(struct bale_store *st,
			  struct bale_store_read_item *items, size_t nr);
/* Hint: the kernel may read these bytes ahead. */
void bale_store_readahead(struct bale_store *st,
			  const struct bale_extent_row *row);

/* ---- space ---- */

/*
 * Promise 4: bytes reserved here can be appended later whatever happens.
 * Backed by preallocated segment space. -ENOSPC.
 */
int bale_space_reserve(struct bale_store *st, uint64_t bytes);
void bale_space_release(struct bale_store *st, uint64_t bytes);
/* Metadata-only growth (create, mkdir, setxattr): -ENOSPC when only the
 * deletion reserve is left. */
int bale_space_check_meta(struct bale_store *st);

struct bale_space_info {
	uint64_t total, free; /* of the backing filesystem; free is what a
				 user can still write */
	uint64_t reserved;    /* accepted, not yet stored */
	uint64_t segments, used, live; /* bytes in segments; of live extents */
	uint64_t log_bytes, index_bytes, ckpt_bytes;
};
void bale_space_info(struct bale_store *st, struct bale_space_info *ret);

/* ---- cleaner ---- */

struct bale_cleaner_stats {
	uint64_t segments_freed, bytes_freed, bytes_copied, bytes_punched;
	char state[96]; /* "idle", "copying segment 12", "stopped: ..." */
	/* Segments that should be emptied and cannot, their live bytes, and
	 * why of the first: "segment 12: 1 extent not moved: Bad message". */
	uint64_t stuck_segments, stuck_bytes;
	char stuck_why[96];
	/* Writers that found no room and waited for it: how often, longest. */
	uint64_t waits, wait_max_ns;
};
void bale_cleaner_stats(struct bale_store *st, struct bale_cleaner_stats *ret);
/* Run now until nothing is worth cleaning or target bytes are free. */
int bale_cleaner_run(struct bale_store *st, uint64_t target);

/* ---- walking segments (fsck, dump, salvage) ---- */

typedef int bale_segment_fn(uint64_t segment, uint64_t used, uint64_t live,
			    void *arg);
int bale_store_for_segments(struct bale_store *st, bale_segment_fn *fn,
			    void *arg);
/* Every bale found in a segment file, resyncing after damage; desc has
 * info->nr_extents entries; payload_off: of the first payload. */
typedef int bale_bale_fn(const struct bale_bale_info *info,
			 const struct bale_disk_bale_extent *desc,
			 uint64_t payload_off, void *arg);
int bale_store_scan_segment(struct bale_store *st, uint64_t segment,
			    bale_bale_fn *fn, void *arg);

#endif
