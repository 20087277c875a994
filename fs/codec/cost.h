/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/cost.h - what coding takes, by side, direction and codec: a fixed time
 * and a time per byte, measured once at start and then corrected by every
 * batch. Knows times only; who decides with them is engine_gpu.c.
 *
 * A CPU time is one worker's for one job, a GPU time a batch's from submit to
 * result. Any thread.
 */
#ifndef BALE_CODEC_COST_H
#define BALE_CODEC_COST_H

#include "balefs/codec.h"
#include "fs/base/thread.h"

enum bale_cost_side {
	BALE_COST_CPU,
	BALE_COST_GPU,
	BALE_COST_SIDES,
};

/* What takes about as long as each other, per byte. */
#define BALE_COST_KIND_LIST(X)                                                 \
	X(lz4)                                                                 \
	X(gdeflate_fast)                                                       \
	X(gdeflate)                                                            \
	X(gdeflate_high)                                                       \
	X(zstd)                                                                \
	X(other)

enum bale_cost_kind {
#define X(name) BALE_COST_##name,
	BALE_COST_KIND_LIST(X)
#undef X
		BALE_COST_KINDS,
};

/* Static storage. */
const char *bale_cost_kind_name(enum bale_cost_kind kind);
/* codec may be auto: zstd's fast level, as auto is on a CPU. */
enum bale_cost_kind bale_cost_kind_of(enum bale_job_op op, unsigned int codec,
				      int level);

struct bale_cost_line {
	double fixed_ns, byte_ns; /* byte_ns 0: not known */
};

/* By side, direction, kind. */
struct bale_cost_table {
	struct bale_cost_line at[BALE_COST_SIDES][2][BALE_COST_KINDS];
};

struct bale_cost {
	struct bale_mutex lock; /* table; innermost */
	struct bale_cost_table table;
};

void bale_cost_init(struct bale_cost *c);
void bale_cost_fini(struct bale_cost *c);

/* Nanoseconds for len bytes of content; < 0: nothing is known. */
double bale_cost_guess(struct bale_cost *c, enum bale_cost_side side,
		       enum bale_job_op op, enum bale_cost_kind kind,
		       size_t len);
/* One that was done. */
void bale_cost_note(struct bale_cost *c, enum bale_cost_side side,
		    enum bale_job_op op, enum bale_cost_kind kind, size_t len,
		    uint64_t ns);
/* The same of a job on a CPU, unless the content decided the time. */
void bale_cost_note_job(struct bale_cost *c, const struct bale_job *job,
			uint64_t ns);
/* From two sizes that were measured, small < large. */
void bale_cost_seed(struct bale_cost *c, enum bale_cost_side side,
		    enum bale_job_op op, enum bale_cost_kind kind, size_t small,
		    uint64_t small_ns, size_t large, uint64_t large_ns);
void bale_cost_get(struct bale_cost *c, struct bale_cost_table *ret);
/* One side's lines, as far as t knows them. */
void bale_cost_adopt(struct bale_cost *c, const struct bale_cost_table *t,
		     enum bale_cost_side side);

/*
 * A table on disk, for the next start. `who` names the hardware and the build
 * that it was measured on: a file that says another is none. What is read is
 * checked (checksum, ranges), and still only a guess that batches correct.
 * -ENOENT, -EUCLEAN, -ESTALE (of another), -errno.
 */
int bale_cost_load(struct bale_cost *c, const char *path, const char *who);
int bale_cost_save(struct bale_cost *c, const char *path, const char *who);
/* Where it is kept: XDG_CACHE_HOME or ~/.cache, "/balefs/engine-cost".
 * -ENOENT: neither is set. -ENAMETOOLONG. */
int bale_cost_path(char *buf, size_t cap);

#endif
