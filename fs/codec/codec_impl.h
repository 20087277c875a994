/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_impl.h - what a codec is inside this folder: one const vtable each, one
 * table of them, and the per-thread contexts that they work with. Nothing
 * outside fs/codec includes this.
 *
 * Thread rule: a context belongs to the thread that got it; the tables are
 * const.
 */
#ifndef BALE_CODEC_CODEC_IMPL_H
#define BALE_CODEC_CODEC_IMPL_H

#include <assert.h>
#include <string.h>
#include <zstd.h>

#include "balefs/codec.h"

struct bale_gd_decoder;
struct bale_gd_encoder;

enum {
	/* Largest window that the zstd decoder accepts: one extent's. */
	BALE_ZSTD_WINDOW_LOG_MAX = 22,
	BALE_ZSTD_LEVEL_MIN = -7,
	BALE_ZSTD_LEVEL_MAX = 19,
	/* "zstd" without a level: the library's own default, the usual balance
	   of ratio and time. */
	BALE_ZSTD_LEVEL_DEFAULT = 3,
	/* What auto uses: two thirds of lz4's speed at 1.5 times its ratio on
	   the Silesia files; level 3 costs 1.6 times the time for 5 % of
	   space. */
	BALE_ZSTD_LEVEL_AUTO = 1,

	BALE_PROBE_SLICES = 16,
	BALE_PROBE_SLICE = 128,
	BALE_PROBE_TABLE_BITS = 12,
	BALE_CHOOSE_TRIAL = 4 << 10,
};

static_assert(1 << BALE_ZSTD_WINDOW_LOG_MAX >= BALE_EXTENT_MAX,
	      "an encoder may make a window of a whole extent");

/*
 * What a thread keeps between jobs, so that a job allocates nothing. The codecs'
 * contexts are made on first use and freed when the thread ends.
 */
struct bale_codec_ctx {
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	void *lz4; /* LZ4_sizeofState() bytes */
	struct bale_gd_decoder *gd_decoder;
	struct bale_gd_encoder *gd_encoder;
	/* An extent between filter and codec; grows to the largest seen. */
	uint8_t *filtered;
	size_t filtered_cap;
	struct {
		uint16_t count[4][256];
		uint32_t seen[1 << BALE_PROBE_TABLE_BITS];
	} probe;
	struct {
		uint16_t count[8][256];
		uint8_t trial[BALE_CHOOSE_TRIAL], filtered[BALE_CHOOSE_TRIAL];
		uint8_t coded[BALE_CHOOSE_TRIAL];
	} choose;
};

/* The calling thread's context; NULL when memory is short. */
struct bale_codec_ctx *bale_codec_ctx_get(void);
/* 0 or -ENOMEM; each makes the member once. */
int bale_codec_ctx_need_lz4(struct bale_codec_ctx *ctx);
int bale_codec_ctx_need_cctx(struct bale_codec_ctx *ctx);
int bale_codec_ctx_need_dctx(struct bale_codec_ctx *ctx);
int bale_codec_ctx_need_gd_decoder(struct bale_codec_ctx *ctx);
int bale_codec_ctx_need_gd_encoder(struct bale_codec_ctx *ctx);
/* ctx->filtered has room for len bytes; what was in it may be gone. */
int bale_codec_ctx_need_filtered(struct bale_codec_ctx *ctx, size_t len);

struct bale_codec {
	size_t (*bound)(size_t len);
	/*
	 * At most cap bytes, len >= 1. -ENOSPC: it does not fit, dst is
	 * undefined. cap is the size that is still worth it, not bound().
	 */
	int (*encode)(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t len, uint8_t *dst, size_t cap, int level,
		      size_t *ret_len);
	/*
	 * Exactly len >= 1 bytes or -EUCLEAN (-ENOMEM). src is hostile; dst is
	 * undefined after an error, but nothing beyond it is touched.
	 */
	int (*decode)(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t src_len, uint8_t *dst, size_t len);
	/* 0 is never a level, it asks for the default; all 0: no levels. */
	int level_min, level_max, level_default;
};

extern const struct bale_codec bale_codec_raw;
extern const struct bale_codec bale_codec_fill;
extern const struct bale_codec bale_codec_lz4;
extern const struct bale_codec bale_codec_gdeflate;
extern const struct bale_codec bale_codec_zstd;

/* NULL for an id that this build does not have. */
const struct bale_codec *bale_codec_get(unsigned int id);

/*
 * The part of an encode that comes before any coder, and clears the results:
 * true when the job is complete with it (a pattern, too small, policy raw, or
 * wrong: status), false when a coder is to have it.
 */
bool bale_codec_settle(struct bale_job *job);

/* The checksum of an encoded job's result. */
void bale_codec_checksum(struct bale_job *job);

/* What a look at an extent says about coding it. */
enum bale_probe_verdict {
	BALE_PROBE_RAW,	    /* neither repeats nor a skewed byte distribution */
	BALE_PROBE_ZSTD,    /* worth trying */
	BALE_PROBE_REPEATS, /* the same, and only repeats can make it shrink */
};

/* A guess from samples; reads a fraction of src, writes nothing but ctx. */
enum bale_probe_verdict bale_codec_probe(struct bale_codec_ctx *ctx,
					 const uint8_t *src, size_t len);

/* The filter that auto takes for these bytes, 0: none. As the probe. */
unsigned int bale_filter_choose(struct bale_codec_ctx *ctx, const uint8_t *src,
				size_t len);

/* log2 of n >= 1, to 0.01: the exponent, and a parabola for the rest. */
static inline float bale_codec_log2(uint32_t n)
{
	float f = (float)n;
	uint32_t bits;
	float m;

	memcpy(&bits, &f, sizeof(bits));
	m = (float)(bits & 0x7fffff) / 8388608.0F;
	return (float)(bits >> 23) - 127.0F + m * (1.3465F - 0.3465F * m);
}

struct bale_cost;
/* Tell cost of every job that the pool runs; before the first one. */
void bale_engine_cpu_observe(struct bale_engine *e, struct bale_cost *cost);
unsigned int bale_engine_cpu_workers(const struct bale_engine *e);

/* Add a finished job to st. */
void bale_engine_account(struct bale_engine_stats *st,
			 const struct bale_job *job, uint64_t busy_ns);

#endif
