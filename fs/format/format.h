/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format/format.h - bytes <-> checked values. Pure functions, no state, any
 * thread. Every byte from disk passes one of these *_check or *_decode
 * functions before a field of it is used: they are the fuzz surface, and safe
 * on any bytes. -EUCLEAN bad structure, -EBADMSG bad checksum, -EOPNOTSUPP
 * a version or feature this build does not know.
 */
#ifndef BALE_FORMAT_FORMAT_H
#define BALE_FORMAT_FORMAT_H

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "balefs/format.h"

/* ---- superblock ---- */
struct bale_super {
	uint8_t uuid[16];
	uint64_t compat, ro_compat, incompat;
	uint64_t seq;
	uint64_t created_sec;
	uint8_t extent_bits, segment_bits, log_bits;
	uint8_t codec;
	int8_t level;
	uint8_t filter;
	char label[BALE_LABEL_MAX + 1];
};
void bale_super_encode(const struct bale_super *s, struct bale_disk_super *d);
int bale_super_decode(const void *buf, size_t len, struct bale_super *ret);
/* Feature words against what this build knows: 0, or -EOPNOTSUPP with *ret_bits
 * the unknown bits; ro_compat bits matter only when rw. */
int bale_super_features(const struct bale_super *s, bool rw,
			uint64_t *ret_bits);

/* ---- bale ---- */
struct bale_bale_info {
	uint64_t segment, seq;
	uint32_t offset; /* bytes, of the header in the segment */
	uint32_t nr_extents;
	uint64_t payload_len;
};
/* Header only (64 bytes), not yet the crc that covers the descriptors too:
 * bounds that make it safe to read `*ret_total` = header + descriptors. */
int bale_bale_peek(const void *buf, size_t len, const uint8_t uuid[16],
		   struct bale_bale_info *ret, size_t *ret_total);
/* Header + descriptors: crc, sizes, every descriptor's bounds. */
int bale_bale_check(const void *buf, size_t len, const uint8_t uuid[16],
		    uint64_t segment, uint32_t offset,
		    struct bale_bale_info *ret);
/* Seals header and descriptors already laid out in buf (fills crc). */
void bale_bale_seal(void *buf, const struct bale_bale_info *info,
		    const uint8_t uuid[16]);

/* ---- log record ---- */
struct bale_log_info {
	uint64_t lsn, seq;
	uint32_t body_len, body_crc, nr_ops;
	uint16_t flags;
};
void bale_log_seal(struct bale_disk_log *d, const struct bale_log_info *i,
		   const uint8_t uuid[16]);
int bale_log_decode(const void *buf, size_t len, const uint8_t uuid[16],
		    struct bale_log_info *ret);

struct bale_op {
	uint8_t kind;  /* BALE_OP_PUT, BALE_OP_DEL */
	uint8_t table; /* enum bale_table */
	uint16_t key_len;
	uint32_t val_len;
	const uint8_t *key, *val; /* into the body */
};
/* Walk ops of a body: 0 with *ret and *pos moved on; -ENOENT at the end;
 * -EUCLEAN (also for a row that bale_row_check() refuses). */
int bale_op_next(const uint8_t *body, size_t len, size_t *pos,
		 struct bale_op *ret);

/* ---- checkpoint ---- */
int bale_ckpt_decode(const void *buf, size_t len, const uint8_t uuid[16],
		     uint64_t *ret_start_lsn, uint64_t *ret_start_seq);
int bale_ckpt_end_decode(const void *buf, size_t len, uint64_t *ret_end_lsn,
			 uint64_t *ret_nr_rows, uint64_t *ret_nr_chunks);

/* ---- rows ---- */

/* Any row of any table: key and value shapes, ranges, names without '/' or NUL
 * and not "." or "..", reserved bytes zero. val NULL: check the key only. */
int bale_row_check(unsigned int table, const void *key, size_t key_len,
		   const void *val, size_t val_len);

struct bale_inode_row {
	uint32_t mode, nlink, uid, gid;
	uint64_t size, stored, rdev;
	struct timespec atime, mtime, ctime, btime;
	uint32_t flags, generation;
	uint64_t parent, next_cookie, nr_entries;
	uint8_t codec;
	int8_t level;
	uint8_t filter;
};
void bale_inode_encode(const struct bale_inode_row *r,
		       struct bale_disk_inode *d);
int bale_inode_decode(const void *val, size_t len, struct bale_inode_row *ret);

struct bale_extent_row {
	uint32_t segment, offset, stored_len, raw_len, crc, refs;
	uint8_t codec, filter;
	int8_t level;
	uint8_t reason;
};
void bale_extent_encode(const struct bale_extent_row *r,
			struct bale_disk_extent *d);
int bale_extent_decode(const void *val, size_t len,
		       struct bale_extent_row *ret);

/* Human-readable, one line without newline; for dump and messages. */
const char *bale_table_name(unsigned int table); /* "?" when unknown */
void bale_super_to_text(FILE *f, const struct bale_super *s);
void bale_row_to_text(FILE *f, unsigned int table, const void *key,
		      size_t key_len, const void *val, size_t val_len);

#endif
