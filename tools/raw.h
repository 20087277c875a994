/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - log records, checkpoints and bales as they lie in the store's files,
 * read without opening the store: for fsck, dump and salvage. Every byte goes
 * through the checks of fs/format. One thread.
 */
#ifndef BALE_TOOLS_RAW_H
#define BALE_TOOLS_RAW_H

#include "fs/base/mem.h"
#include "fs/store/store.h"

/* Numbers (16 hexadecimal digits) of the files of a folder, ascending; *ret is
 * malloced. A missing folder has none. */
int bale_raw_list(struct bale_io *io, const char *dir, uint64_t **ret,
		  size_t *ret_nr);
/* All of len, or -EUCLEAN. */
int bale_raw_read(struct bale_io *io, int fd, void *buf, size_t len,
		  uint64_t off);
/* The better of the two superblocks. */
int bale_raw_super(struct bale_io *io, struct bale_super *ret);

/* ---- log ---- */
struct bale_raw_log {
	struct bale_io *io;
	const uint8_t *uuid;
	uint64_t size; /* of a log file, a power of two */
	uint64_t file; /* that fd is of */
	int fd;
	struct bale_buf body; /* of the record read last */
};
void bale_raw_log_init(struct bale_raw_log *l, struct bale_io *io,
		       const struct bale_super *s);
void bale_raw_log_fini(struct bale_raw_log *l);
/* Open the log file of number `file`; -ENOENT. */
int bale_raw_log_use(struct bale_raw_log *l, uint64_t file);
/* A whole valid record at lsn: -EUCLEAN, -EBADMSG when there is none. */
int bale_raw_log_read(struct bale_raw_log *l, uint64_t lsn,
		      struct bale_log_info *ret);
/* The record after *lsn's end, here or at the start of the next file: 0 with
 * *lsn where it is; -ENOENT: the log ends. any_seq: *seq is not known yet. */
int bale_raw_log_next(struct bale_raw_log *l, uint64_t *lsn, uint64_t seq,
		      bool any_seq, struct bale_log_info *ret);
uint64_t bale_raw_log_after(uint64_t lsn, const struct bale_log_info *i);

/* ---- checkpoint ---- */
struct bale_raw_ckpt {
	uint64_t start_lsn, start_seq, end_lsn;
	uint64_t nr_rows, nr_chunks;
};
/* Read all of it; fn (may be NULL) for every row, non-zero stops. */
typedef int bale_raw_row_fn(const struct bale_op *op, void *arg);
int bale_raw_ckpt_read(struct bale_io *io, const uint8_t *uuid, uint64_t number,
		       bale_raw_row_fn *fn, void *arg,
		       struct bale_raw_ckpt *ret);

/* ---- segments ---- */
typedef int bale_raw_bale_fn(const struct bale_bale_info *info,
			     const struct bale_disk_bale_extent *desc,
			     uint64_t payload_off, void *arg);
/* Every good bale of a segment; bytes that are none are stepped over. uuid all
 * zero: taken from the first good bale. fn's non-zero result stops and is
 * returned. */
int bale_raw_segment(struct bale_io *io, uint8_t *uuid, uint64_t segment,
		     bale_raw_bale_fn *fn, void *arg);

#endif
