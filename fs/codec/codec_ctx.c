/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <lz4.h>
#include <pthread.h>
#include <stdlib.h>

#include "fs/base/fault.h"
#include "fs/codec/codec_gdeflate.h"
#include "fs/codec/codec_impl.h"

/* Fault point: a context that cannot be had. */
static const char fault_memory[] = "codec.memory";

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool key_valid; /* const after key_once */

static void ctx_destroy(void *arg)
{
	struct bale_codec_ctx *ctx = arg;

	ZSTD_freeCCtx(ctx->cctx);
	ZSTD_freeDCtx(ctx->dctx);
	free(ctx->lz4);
	bale_gd_decoder_destroy(ctx->gd_decoder);
	bale_gd_encoder_destroy(ctx->gd_encoder);
	free(ctx->filtered);
	free(ctx);
}

static void key_create(void)
{
	key_valid = !pthread_key_create(&key, ctx_destroy);
}

struct bale_codec_ctx *bale_codec_ctx_get(void)
{
	struct bale_codec_ctx *ctx;

	pthread_once(&key_once, key_create);
	if (!key_valid)
		return NULL;
	ctx = pthread_getspecific(key);
	if (ctx)
		return ctx;
	ctx = calloc(1, sizeof(*ctx));
	if (ctx && pthread_setspecific(key, ctx)) {
		free(ctx);
		return NULL;
	}
	return ctx;
}

int bale_codec_ctx_need_lz4(struct bale_codec_ctx *ctx)
{
	if (bale_fault(fault_memory))
		return -ENOMEM;
	if (!ctx->lz4)
		ctx->lz4 = malloc((size_t)LZ4_sizeofState());
	return ctx->lz4 ? 0 : -ENOMEM;
}

int bale_codec_ctx_need_cctx(struct bale_codec_ctx *ctx)
{
	if (bale_fault(fault_memory))
		return -ENOMEM;
	if (!ctx->cctx)
		ctx->cctx = ZSTD_createCCtx();
	return ctx->cctx ? 0 : -ENOMEM;
}

int bale_codec_ctx_need_dctx(struct bale_codec_ctx *ctx)
{
	if (bale_fault(fault_memory))
		return -ENOMEM;
	if (!ctx->dctx)
		ctx->dctx = ZSTD_createDCtx();
	return ctx->dctx ? 0 : -ENOMEM;
}

int bale_codec_ctx_need_gd_decoder(struct bale_codec_ctx *ctx)
{
	if (bale_fault(fault_memory))
		return -ENOMEM;
	if (!ctx->gd_decoder)
		ctx->gd_decoder = bale_gd_decoder_create();
	return ctx->gd_decoder ? 0 : -ENOMEM;
}

int bale_codec_ctx_need_gd_encoder(struct bale_codec_ctx *ctx)
{
	if (bale_fault(fault_memory))
		return -ENOMEM;
	if (!ctx->gd_encoder)
		ctx->gd_encoder = bale_gd_encoder_create();
	return ctx->gd_encoder ? 0 : -ENOMEM;
}

int bale_codec_ctx_need_filtered(struct bale_codec_ctx *ctx, size_t len)
{
	if (bale_fault(fault_memory))
		return -ENOMEM;
	if (ctx->filtered_cap >= len)
		return 0;
	free(ctx->filtered);
	ctx->filtered = malloc(len);
	ctx->filtered_cap = ctx->filtered ? len : 0;
	return ctx->filtered ? 0 : -ENOMEM;
}
