/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lz4: units (codec_units.h), each a plain LZ4 block.
 */
#include <errno.h>
#include <lz4.h>

#include "fs/codec/codec_impl.h"
#include "fs/codec/codec_units.h"

static int encode_unit(void *arg, const uint8_t *src, size_t len, uint8_t *dst,
		       size_t cap, size_t *ret_len)
{
	int n = LZ4_compress_fast_extState(arg, (const char *)src, (char *)dst,
					   (int)len, (int)cap, 1);

	if (n <= 0)
		return -ENOSPC;
	*ret_len = (size_t)n;
	return 0;
}

static int lz4_encode(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t len, uint8_t *dst, size_t cap, int level,
		      size_t *ret_len)
{
	int r = bale_codec_ctx_need_lz4(ctx);

	(void)level;
	if (r)
		return r;
	return bale_units_encode(src, len, dst, cap, encode_unit, ctx->lz4,
				 ret_len);
}

static int decode_unit(void *arg, const uint8_t *src, size_t src_len,
		       uint8_t *dst, size_t len)
{
	int r;

	(void)arg;
	/* src_len is at most the job's; 31 bits fit an int. */
	r = LZ4_decompress_safe((const char *)src, (char *)dst, (int)src_len,
				(int)len);
	return r == (int)len ? 0 : -EUCLEAN;
}

static int lz4_decode(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t src_len, uint8_t *dst, size_t len)
{
	(void)ctx;
	return bale_units_decode(src, src_len, dst, len, decode_unit, NULL);
}

const struct bale_codec bale_codec_lz4 = {
	.bound = bale_units_bound,
	.encode = lz4_encode,
	.decode = lz4_decode,
};
