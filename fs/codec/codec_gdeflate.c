/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate: units (codec_units.h), each a GDeflate tile, as GPUs make and read
 * them. Here is the codec's table, and the choice of a reader.
 */
#include "fs/codec/codec_gdeflate.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/codec/codec_gdeflate_simd.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/codec_units.h"

static pthread_once_t best_once = PTHREAD_ONCE_INIT;
static const struct bale_gd_reader *best; /* const after best_once */

#if BALE_GD_HAVE_X86
static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") &&
	       __builtin_cpu_supports("bmi") &&
	       __builtin_cpu_supports("popcnt");
}

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512vbmi2") &&
	       __builtin_cpu_supports("avx512vpopcntdq") &&
	       __builtin_cpu_supports("bmi2");
}
#endif

static bool always(void)
{
	return true;
}

/* Slowest first. */
static const struct {
	const struct bale_gd_reader *reader;
	bool (*can_run)(void);
} readers[] = {
	{ &bale_gd_reader_scalar, always },
#if BALE_GD_HAVE_X86
	{ &bale_gd_reader_avx2, has_avx2 },
	{ &bale_gd_reader_avx512, has_avx512 },
#endif
};

const struct bale_gd_reader *bale_gd_reader_get(unsigned int idx)
{
	for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++)
		if (readers[i].can_run() && !idx--)
			return readers[i].reader;
	return NULL;
}

static void choose_reader(void)
{
	const char *wanted = getenv("BALEFS_GDEFLATE_READER");
	const struct bale_gd_reader *r;

	for (unsigned int i = 0; (r = bale_gd_reader_get(i)); i++) {
		best = r;
		if (wanted && !strcmp(wanted, r->name))
			return;
	}
}

const struct bale_gd_reader *bale_gd_reader_best(void)
{
	pthread_once(&best_once, choose_reader);
	return best;
}

struct encode_arg {
	struct bale_gd_encoder *encoder;
	int level;
};

static int encode_unit(void *arg, const uint8_t *src, size_t len, uint8_t *dst,
		       size_t cap, size_t *ret_len)
{
	const struct encode_arg *a = arg;

	return bale_gd_encode(a->encoder, a->level, src, len, dst, cap,
			      ret_len);
}

static int decode_unit(void *arg, const uint8_t *src, size_t src_len,
		       uint8_t *dst, size_t len)
{
	return bale_gd_reader_best()->decode(arg, src, src_len, dst, len);
}

static int gdeflate_encode(struct bale_codec_ctx *ctx, const uint8_t *src,
			   size_t len, uint8_t *dst, size_t cap, int level,
			   size_t *ret_len)
{
	int r = bale_codec_ctx_need_gd_encoder(ctx);
	struct encode_arg a = { ctx->gd_encoder, level };

	return r ? r :
		   bale_units_encode(src, len, dst, cap, encode_unit, &a,
				     ret_len);
}

static int gdeflate_decode(struct bale_codec_ctx *ctx, const uint8_t *src,
			   size_t src_len, uint8_t *dst, size_t len)
{
	int r = bale_codec_ctx_need_gd_decoder(ctx);

	return r ? r :
		   bale_units_decode(src, src_len, dst, len, decode_unit,
				     ctx->gd_decoder);
}

const struct bale_codec bale_codec_gdeflate = {
	.bound = bale_units_bound,
	.encode = gdeflate_encode,
	.decode = gdeflate_decode,
	.level_min = BALE_GD_LEVEL_ENTROPY,
	.level_max = BALE_GD_LEVEL_HIGH,
	.level_default = BALE_GD_LEVEL_BALANCED,
};
