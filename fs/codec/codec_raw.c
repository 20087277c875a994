/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "fs/codec/codec_impl.h"

static size_t raw_bound(size_t len)
{
	return len;
}

static int raw_encode(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t len, uint8_t *dst, size_t cap, int level,
		      size_t *ret_len)
{
	(void)ctx;
	(void)level;
	if (len > cap)
		return -ENOSPC;
	memcpy(dst, src, len);
	*ret_len = len;
	return 0;
}

static int raw_decode(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t src_len, uint8_t *dst, size_t len)
{
	(void)ctx;
	if (src_len != len)
		return -EUCLEAN;
	memcpy(dst, src, len);
	return 0;
}

const struct bale_codec bale_codec_raw = {
	.bound = raw_bound,
	.encode = raw_encode,
	.decode = raw_decode,
};
