/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h - everything that is on disk, and nothing else. docs/format.md is
 * the specification; a test compares it with the asserts below.
 *
 * A store is a directory (0700, its files 0600):
 *   super.0 super.1   superblock, two copies
 *   lock              who has it open
 *   log/%016x         the log: fixed-size files, named by their number
 *   seg/%016x         segments: append-only files of bales
 *   ckpt/%016x        checkpoints, named by the log position they need
 *   index/            LMDB: a view of the log, may be deleted at any time
 *   reserve           space held back so that deleting works on a full disk
 */
#ifndef BALE_FORMAT_H
#define BALE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "balefs/le.h"

enum {
	BALE_FORMAT_VERSION = 1,
	BALE_SUPER_SIZE = 4096,
	BALE_LABEL_MAX = 64,
	BALE_NAME_MAX = 255,
	BALE_SYMLINK_MAX = 4095,
	BALE_XATTR_NAME_MAX = 255,
	BALE_XATTR_SIZE_MAX = 65536,
	BALE_INLINE_MAX = 2048,	 /* coded bytes of a file kept in the index */
	BALE_MAP_SLOTS = 64,	 /* extent ids in a map row */
	BALE_ALIGN = 512,	 /* bales and log records start on it: a torn
				    sector never holds two of them */
	BALE_ROOT_INO = 1,
	BALE_FIRST_INO = 16,	 /* 2..15 reserved */
	BALE_KEY_MAX = 8 + 255,
	BALE_VALUE_MAX = 65536 + 64,
};
#define BALE_FILE_MAX ((uint64_t)1 << 62)
/* Inode numbers, extent ids and cookies are below: a counter never wraps. */
#define BALE_NUMBER_MAX ((uint64_t)1 << 62)

/* Feature bits. One bit, one meaning, forever; none is in use yet. */
#define BALE_COMPAT_KNOWN    ((uint64_t)0)
#define BALE_RO_COMPAT_KNOWN ((uint64_t)0)
#define BALE_INCOMPAT_KNOWN  ((uint64_t)0)

#define BALE_SUPER_MAGIC "BALEFSSB"
struct bale_disk_super {
	uint8_t magic[8];
	le32 version;
	le32 crc; /* crc32c of the 4096 bytes with this field zero */
	uint8_t uuid[16];
	le64 compat, ro_compat, incompat;
	le64 seq;	  /* of this write; the higher valid copy counts */
	le64 created_sec;
	uint8_t extent_bits;  /* 16..22 */
	uint8_t segment_bits; /* 20..31 */
	uint8_t log_bits;     /* 20..28: size of a log file */
	uint8_t codec;	      /* default policy; 255: auto */
	uint8_t level;	      /* int8_t */
	uint8_t filter;	      /* with codec and level */
	uint8_t pad[2];
	uint8_t label[BALE_LABEL_MAX]; /* NUL-padded */
	uint8_t reserved[3952];
};
static_assert(sizeof(struct bale_disk_super) == BALE_SUPER_SIZE, "super");
static_assert(offsetof(struct bale_disk_super, label) == 80, "super.label");

/* ---- segments ---- */

/*
 * A bale: header, descriptors, payloads back to back in descriptor order;
 * starts on BALE_ALIGN, the gap before the next one is zero.
 */
#define BALE_BALE_MAGIC "BALEbale"
struct bale_disk_bale {
	uint8_t magic[8];
	uint8_t uuid[16];
	le64 segment;
	le64 seq;	 /* of the bale in the store, never reused */
	le32 offset;	 /* of this header in the segment, / BALE_ALIGN */
	le32 nr_extents;
	le64 payload_len;
	le32 flags; /* 0 */
	le32 crc;   /* crc32c of header (this field zero) + descriptors */
};
static_assert(sizeof(struct bale_disk_bale) == 64, "bale");

struct bale_disk_bale_extent {
	le64 id;
	le64 ino;	/* owner and extent number when it was written */
	le64 extent_no;
	le32 raw_len;
	le32 stored_len;
	le32 crc; /* crc32c of the stored bytes */
	uint8_t codec, filter, level, reason;
};
static_assert(sizeof(struct bale_disk_bale_extent) == 40, "bale extent");

/*
 * lz4 (and other unit codecs): payload = le32 per 64 KiB unit (bits 0-30
 * stored length, bit 31: the unit is raw), then the units back to back.
 * zstd: one frame for the whole extent. fill: the 1, 2, 4 or 8 byte pattern.
 */
#define BALE_UNIT_RAW 0x80000000u

/* ---- log ---- */

/*
 * One record is one committed group of transactions (or a part of a large
 * one: BALE_LOG_MORE). It starts on BALE_ALIGN and never crosses a log file;
 * lsn = file number << log_bits | offset. A record is valid when both
 * checksums hold, uuid and lsn are right and seq is the previous one's + 1.
 */
#define BALE_LOG_MAGIC "BALElog1"
enum { BALE_LOG_MORE = 1 }; /* the group goes on in the next record */
struct bale_disk_log {
	uint8_t magic[8];
	uint8_t uuid[16];
	le64 lsn;
	le64 seq;
	le32 body_len;
	le32 body_crc;
	le32 nr_ops;
	le16 flags;
	le16 pad;
	le32 reserved;
	le32 crc; /* crc32c of this header with the field zero */
};
static_assert(sizeof(struct bale_disk_log) == 64, "log");

/* Body: ops back to back. An op sets one index row to a value, or removes it:
 * absolute, so that replaying a record twice changes nothing. */
enum { BALE_OP_PUT = 1, BALE_OP_DEL = 2 };
struct bale_disk_op {
	uint8_t kind;
	uint8_t table;
	le16 key_len;
	le32 val_len; /* 0 for DEL */
};
static_assert(sizeof(struct bale_disk_op) == 8, "op");

/* ---- checkpoint ---- */

/*
 * ckpt/<lsn>: header, chunks, footer. Chunk: le32 body_len, le32 body_crc, ops
 * (PUT only) as in the log. The rows are read while the store changes: the
 * checkpoint is exact once the log from start_lsn to end_lsn has been replayed
 * over it. Valid only with its footer.
 */
#define BALE_CKPT_MAGIC "BALEckpt"
struct bale_disk_ckpt {
	uint8_t magic[8];
	uint8_t uuid[16];
	le64 start_lsn; /* replay from here */
	le64 start_seq; /* sequence number of the record at start_lsn */
	le32 version;
	le32 flags;
	uint8_t reserved[12];
	le32 crc;
};
static_assert(sizeof(struct bale_disk_ckpt) == 64, "ckpt");

#define BALE_CKPT_END_MAGIC "BALEckpE"
struct bale_disk_ckpt_end {
	uint8_t magic[8];
	le64 end_lsn; /* the log must reach at least this far */
	le64 nr_rows;
	le64 nr_chunks;
	uint8_t reserved[28];
	le32 crc;
};
static_assert(sizeof(struct bale_disk_ckpt_end) == 64, "ckpt end");

/* ---- index rows ---- */

/*
 * Tables. Keys are big-endian so that byte order is sort order:
 *   meta     name                      -> le64
 *   inode    be64 ino                  -> bale_disk_inode
 *   dirent   be64 dir, name            -> bale_disk_dirent
 *   cookie   be64 dir, be64 cookie     -> bale_disk_cookie + name
 *   map      be64 ino, be64 group      -> le64[1..64] extent ids, 0 = hole,
 *                                         trailing zeros cut
 *   extent   be64 id                   -> bale_disk_extent
 *   xattr    be64 ino, name            -> value
 *   inline   be64 ino                  -> bale_disk_inline + coded bytes
 *                                         (a symlink: the target, raw)
 *   orphan   be64 ino                  -> le64 reason: deleted while open, or
 *                                         being truncated
 *   segment  be64 segment              -> bale_disk_segment
 *   patch    be64 ino, be64 extent_no, be64 seq -> le32 offset, bytes written
 *            over the extent since it was stored (a small fsync)
 */
#define BALE_TABLES(X)  \
	X(0, meta)      \
	X(1, inode)     \
	X(2, dirent)    \
	X(3, cookie)    \
	X(4, map)       \
	X(5, extent)    \
	X(6, xattr)     \
	X(7, inline)    \
	X(8, orphan)    \
	X(9, segment)   \
	X(10, patch)

enum bale_table {
#define X(id, name) BALE_TABLE_##name = id,
	BALE_TABLES(X)
#undef X
	BALE_TABLE_NR,
};

struct bale_disk_time {
	le64 sec; /* int64_t */
	le32 nsec;
};

/* Inode flags: chattr's letters, by our own bits. */
enum {
	BALE_INODE_COMPRESS = 1 << 0,	/* +c */
	BALE_INODE_NOCOMP = 1 << 1,	/* +m */
	BALE_INODE_IMMUTABLE = 1 << 2,	/* +i */
	BALE_INODE_APPEND = 1 << 3,	/* +a */
	BALE_INODE_NODUMP = 1 << 4,	/* +d */
	BALE_INODE_NOATIME = 1 << 5,	/* +A */
	BALE_INODE_SYNC = 1 << 6,	/* +S */
	BALE_INODE_HAS_INLINE = 1 << 16, /* content is in the inline table */
	BALE_INODE_HAS_XATTR = 1 << 17,	 /* the xattr table may have rows */
	BALE_INODE_HAS_ACL = 1 << 18,	 /* ... a posix acl among them */
	BALE_INODE_HAS_POLICY = 1 << 19, /* codec/level below are set here */
};

struct bale_disk_inode {
	le32 mode;
	le32 nlink;
	le32 uid, gid;
	le64 size;
	le64 stored; /* bytes its extents (or inline value) take: st_blocks */
	le64 rdev;
	struct bale_disk_time atime, mtime, ctime, btime;
	le32 flags;
	le32 generation;
	le64 parent;	  /* a directory its parent; others: where first linked */
	le64 next_cookie; /* directories */
	le64 nr_entries;  /* directories, without . and .. */
	uint8_t codec;
	uint8_t level; /* int8_t */
	uint8_t filter;
	uint8_t reserved[5];
};
static_assert(sizeof(struct bale_disk_inode) == 128, "inode");

struct bale_disk_dirent {
	le64 ino;
	le64 cookie;
	uint8_t type; /* DT_* */
	uint8_t reserved[7];
};
static_assert(sizeof(struct bale_disk_dirent) == 24, "dirent");

struct bale_disk_cookie {
	le64 ino;
	uint8_t type;
	uint8_t reserved[7];
};
static_assert(sizeof(struct bale_disk_cookie) == 16, "cookie");

struct bale_disk_extent {
	le32 segment;
	le32 offset; /* of the stored bytes in the segment */
	le32 stored_len;
	le32 raw_len;
	le32 crc;
	le32 refs;
	uint8_t codec, filter, level, reason;
};
static_assert(sizeof(struct bale_disk_extent) == 28, "extent");

struct bale_disk_inline {
	le32 raw_len;
	uint8_t codec, filter, level, reason;
};
static_assert(sizeof(struct bale_disk_inline) == 8, "inline");

struct bale_disk_segment {
	le64 used; /* bytes appended */
	le64 live; /* stored bytes of live extents */
};
static_assert(sizeof(struct bale_disk_segment) == 16, "segment");

#endif
