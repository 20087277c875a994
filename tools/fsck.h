/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.h - what the files of fsck share.
 *
 * A check is a fixed number of passes over the tables, each in key order, and
 * one over the segments. Two flat arrays in ascending order hold what the
 * passes must remember: 40 bytes an inode, 24 bytes an extent (24 MB per
 * million extents; up to half more while an array grows). Nothing else grows
 * with the store, but the list of damaged ranges, which is capped.
 *
 * Repairs are ordinary transactions, built while a pass scans and committed
 * when it has ended, or between two rows when they take 8 MiB: then they are
 * made durable as well, so that memory does not grow with what is mended. A
 * crash or SIGINT at any point leaves a store like any other crash, and the
 * next run finds what remains: so each repair is right without the others. One
 * thread.
 */
#ifndef BALE_TOOLS_FSCK_H
#define BALE_TOOLS_FSCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "balefs/compiler.h"
#include "fs/codec/codec.h"
#include "fs/store/store.h"
#include "tools/json.h"

/* fsck(8) */
enum {
	BALE_FSCK_OK = 0,
	BALE_FSCK_CORRECTED = 1,
	BALE_FSCK_UNCORRECTED = 4,
	BALE_FSCK_ERROR = 8,
	BALE_FSCK_USAGE = 16,
	BALE_FSCK_CANCELLED = 32,
};

enum bale_fsck_fix {
	BALE_FIX_SAFE, /* nothing a user sees can be lost: -p and -y */
	BALE_FIX_ASK,  /* removes or moves a name or a row: -y */
	BALE_FIX_NONE, /* cannot be mended, only told */
};

/* Kind (its name is in --json), who may mend it. */
#define BALE_FSCK_KINDS(X)                                                     \
	X(super_copy, SAFE)                                                    \
	X(checkpoint, SAFE)                                                    \
	X(log, ASK)                                                            \
	X(index, SAFE)                                                         \
	X(row, NONE)                                                           \
	X(inode_lost, ASK)                                                     \
	X(inode, SAFE)                                                         \
	X(dirent, ASK)                                                         \
	X(name_type, SAFE)                                                     \
	X(cookie, SAFE)                                                        \
	X(links, SAFE)                                                         \
	X(unreachable, ASK)                                                    \
	X(map, ASK)                                                            \
	X(extent_missing, NONE)                                                \
	X(extent_refs, SAFE)                                                   \
	X(extent_unused, SAFE)                                                 \
	X(extent_place, SAFE)                                                  \
	X(segment, SAFE)                                                       \
	X(orphan, SAFE)                                                        \
	X(inline, ASK)                                                         \
	X(inline_data, NONE)                                                   \
	X(xattr, ASK)                                                          \
	X(patch, ASK)                                                          \
	X(counter, SAFE)                                                       \
	X(data, NONE)

enum bale_fsck_kind {
#define X(name, fix) BALE_FSCK_##name,
	BALE_FSCK_KINDS(X)
#undef X
		BALE_FSCK_NR_KINDS,
};

/* bits of bale_fsck_inode.state */
enum {
	BALE_FSCK_HAS_INLINE = 1 << 0, /* an inline row was seen */
	BALE_FSCK_HAS_XATTR = 1 << 1,  /* an xattr row was seen */
	BALE_FSCK_HAS_ORPHAN = 1 << 2, /* an orphan row was seen */
	BALE_FSCK_REACHED = 1 << 3,    /* directories: a way from the root */
	BALE_FSCK_ON_PATH = 1 << 4,    /* while climbing: finds cycles */
	BALE_FSCK_HAS_MAP = 1 << 5,
	BALE_FSCK_DAMAGED = 1 << 6,
	BALE_FSCK_HAS_TRUNCATE = 1 << 7, /* an orphan row: being truncated */
};

struct bale_fsck_inode {
	uint64_t ino;
	uint64_t parent; /* directories: the one that names it; 0: none */
	uint64_t stored; /* bytes its extents and inline value take */
	uint32_t links;	 /* names seen */
	uint32_t subdirs;
	uint32_t entries;
	uint8_t type; /* DT_* */
	uint8_t state;
	bool named; /* directories: damaged files are below it */
	uint8_t spare;
};
static_assert(sizeof(struct bale_fsck_inode) == 40, "fsck memory bound");

/* bits of bale_fsck_extent.state */
enum {
	BALE_FSCK_PLACED = 1 << 0, /* a bale describes it at its place */
	BALE_FSCK_BAD = 1 << 1,	   /* its bytes are lost */
};

struct bale_fsck_extent {
	uint64_t id;
	uint32_t stored_len;
	uint32_t raw_len : 24;
	uint32_t state : 8;
	uint32_t refs; /* as the row says */
	uint32_t seen; /* in maps */
};
static_assert(sizeof(struct bale_fsck_extent) == 24, "fsck memory bound");

/* What the extent rows say about a segment. */
struct bale_fsck_segment {
	uint64_t segment, live;
	uint64_t end; /* of the last extent in it */
	bool used;    /* a slot of the hash */
};

struct bale_fsck_damage {
	uint64_t ino, extent_no;
};

struct bale_fsck {
	/* what was asked */
	const char *path;
	bool preen, yes, force, deep, rebuild, json, progress;
	struct bale_gpu_options gpu;
	bool gpu_given;
	bool begun;	/* it could be opened at all */
	uint64_t newer; /* unknown feature bits */

	/* what is checked */
	struct bale_store *st;
	struct bale_meta *m;
	struct bale_super super;
	struct bale_fsck_inode *inodes;
	size_t nr_inodes, cap_inodes;
	struct bale_fsck_inode
		*added; /* not in `inodes` before the pass ends */
	size_t nr_added, cap_added;
	struct bale_fsck_extent *extents;
	size_t nr_extents, cap_extents;
	struct bale_fsck_segment *segments;
	size_t nr_segments, cap_segments; /* cap: slots, a power of two */
	uint64_t max_ino, max_extent;
	bool super_mend[2];
	uint64_t *bad_ckpts;
	size_t nr_bad_ckpts;
	bool log_damaged, index_only; /* log cannot make the index again */
	uint64_t log_end;	      /* up to where the log is good */

	/* what was found */
	struct bale_fsck_damage *damage;
	size_t nr_damage, cap_damage;
	bool damage_cut; /* more than is kept */
	uint64_t nr_kind[BALE_FSCK_NR_KINDS];
	uint64_t nr_fixed, nr_left;
	uint64_t nr_by_device; /* extents that a GPU decoded */
	bool want_rebuild, want_checkpoint, want_reopen;
	struct bale_json js;

	/* repairs that wait for the end of the pass */
	struct bale_txn **txns;
	size_t nr_txns, cap_txns;
	size_t staged;	     /* bytes committed and not yet durable */
	uint64_t lost_found; /* inode of /lost+found, 0: not looked up yet */

	/* progress */
	const char *phase;
	uint64_t done, total;
	uint64_t last_shown_ns;
};

/* ---- report (fsck_report.c) ---- */

/* A problem was found; true: it is to be mended now. */
bool bale_fsck_problem(struct bale_fsck *f, enum bale_fsck_kind kind,
		       const char *fmt, ...) BALE_PRINTF(3, 4);
/* Would problems of this kind be mended? */
bool bale_fsck_mends(const struct bale_fsck *f, enum bale_fsck_kind kind);
/* Remember that a file's extent cannot be read. */
void bale_fsck_damage_add(struct bale_fsck *f, uint64_t ino,
			  uint64_t extent_no);
/* Start a phase of about `total` steps; count one (0, or -ECANCELED). */
void bale_fsck_phase(struct bale_fsck *f, const char *name, uint64_t total);
int bale_fsck_step(struct bale_fsck *f);
void bale_fsck_phase_end(struct bale_fsck *f);
void bale_fsck_catch_signals(void);
bool bale_fsck_cancelled(void);
/* Damaged files by path (fsck_path.c). */
int bale_fsck_report_damage(struct bale_fsck *f);

/* ---- memory (fsck_state.c) ---- */
struct bale_fsck_inode *bale_fsck_inode(struct bale_fsck *f, uint64_t ino);
struct bale_fsck_extent *bale_fsck_extent(struct bale_fsck *f, uint64_t id);
/* In ascending order; 0 or -ENOMEM. */
int bale_fsck_inode_push(struct bale_fsck *f, const struct bale_fsck_inode *i);
/* Anywhere; found at once, in the array when the pass has ended. */
int bale_fsck_inode_insert(struct bale_fsck *f,
			   const struct bale_fsck_inode *i);
int bale_fsck_inode_merge(struct bale_fsck *f);
int bale_fsck_extent_push(struct bale_fsck *f,
			  const struct bale_fsck_extent *e);
/* The record of a segment, made when new; NULL: out of memory. */
struct bale_fsck_segment *bale_fsck_segment(struct bale_fsck *f,
					    uint64_t segment);
void bale_fsck_fini(struct bale_fsck *f);

/* ---- repairs (fsck_repair.c) ---- */

/* The transaction to add one repair to (all of it: the next call may give
 * another). NULL: out of memory. */
struct bale_txn *bale_fsck_txn(struct bale_fsck *f);
/* End of a pass: commit what was built. */
int bale_fsck_commit(struct bale_fsck *f);
/* The same when it is much; not in a scan. */
int bale_fsck_commit_full(struct bale_fsck *f);
/* How much is much: tests make it small. */
extern size_t bale_fsck_batch_bytes;
/* All rows of a table, with such commits between them. */
int bale_fsck_scan(struct bale_fsck *f, enum bale_table table, bale_row_fn *fn,
		   void *arg);
int bale_fsck_get_inode(struct bale_fsck *f, uint64_t ino,
			struct bale_inode_row *ret);
void bale_fsck_put_inode(struct bale_txn *t, uint64_t ino,
			 const struct bale_inode_row *row);
void bale_fsck_put_name(struct bale_txn *t, uint64_t dir, const void *name,
			size_t len, uint64_t ino, uint8_t type,
			uint64_t cookie);
/* Give an inode without a name one in /lost+found ("#123"), at once. */
int bale_fsck_adopt(struct bale_fsck *f, struct bale_fsck_inode *i);
/* A new inode row where there was none; joins the array. */
int bale_fsck_make_inode(struct bale_fsck *f, uint64_t ino, uint32_t mode,
			 uint64_t size, uint32_t flags);

/* ---- passes: 0, -ECANCELED, or an operational error ---- */
int bale_fsck_super(struct bale_fsck *f, struct bale_io *io); /* raw */
int bale_fsck_super_mend(struct bale_fsck *f);
/* A damaged checkpoint goes once a new one was written. */
int bale_fsck_bad_ckpt(struct bale_fsck *f, uint64_t number);
int bale_fsck_drop_ckpts(struct bale_fsck *f);
int bale_fsck_log(struct bale_fsck *f, struct bale_io *io); /* raw */
/* End the log where it is good; what comes after is kept aside as
 * damaged-log-*. */
int bale_fsck_log_cut(struct bale_fsck *f);
/* May LMDB map the index file? Else why not. */
bool bale_fsck_index_sound(const struct bale_fsck *f, char *why, size_t cap);
int bale_fsck_index(struct bale_fsck *f); /* opens and closes the store */
int bale_fsck_load(struct bale_fsck *f);  /* inodes, orphans, extents */
int bale_fsck_maps(struct bale_fsck *f);
int bale_fsck_small(struct bale_fsck *f); /* inline, xattr, patch */
int bale_fsck_names(struct bale_fsck *f);
int bale_fsck_reach(struct bale_fsck *f);
int bale_fsck_inodes(struct bale_fsck *f); /* rows against what was counted */
int bale_fsck_extents(struct bale_fsck *f);
int bale_fsck_segments(struct bale_fsck *f);
int bale_fsck_data(struct bale_fsck *f); /* --deep */
/* Close and open again: what was mended is read anew. */
int bale_fsck_reopen(struct bale_fsck *f);

/* Files out of segments alone, into a new store (fsck_salvage.c): exit status.
 */
int bale_fsck_salvage(struct bale_fsck *f, const char *new_store);

#endif
