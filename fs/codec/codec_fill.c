/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "fs/codec/codec_impl.h"

enum { FILL_MAX = 8 };

static size_t fill_bound(size_t len)
{
	return len < FILL_MAX ? len : FILL_MAX;
}

/*
 * Data has period p when it equals itself p bytes later: one memcmp, which
 * compares in the widest words there are and leaves at the first difference.
 * Data that is no fill costs one cache line, nearly always.
 */
static bool has_period(const uint8_t *src, size_t len, size_t p)
{
	return len >= p && !memcmp(src, src + p, len - p);
}

/* The pattern may be cut at the end: 9 bytes of an 8 byte pattern. */
static int fill_encode(struct bale_codec_ctx *ctx, const uint8_t *src,
		       size_t len, uint8_t *dst, size_t cap, int level,
		       size_t *ret_len)
{
	size_t p = FILL_MAX;

	(void)ctx;
	(void)level;
	if (len > FILL_MAX && !has_period(src, len, FILL_MAX))
		return -ENOSPC;
	/* A period divides 8 here, so that one pattern's length decides. */
	if (len > FILL_MAX)
		len = FILL_MAX;
	for (size_t q = 1; q < FILL_MAX; q *= 2) {
		if (has_period(src, len, q)) {
			p = q;
			break;
		}
	}
	if (p > cap || p > len)
		return -ENOSPC;
	memcpy(dst, src, p);
	*ret_len = p;
	return 0;
}

static int fill_decode(struct bale_codec_ctx *ctx, const uint8_t *src,
		       size_t src_len, uint8_t *dst, size_t len)
{
	size_t have;

	(void)ctx;
	if (src_len != 1 && src_len != 2 && src_len != 4 && src_len != 8)
		return -EUCLEAN;
	if (src_len == 1) {
		memset(dst, src[0], len);
		return 0;
	}
	have = src_len < len ? src_len : len;
	memcpy(dst, src, have);
	/* Double what is there, but stay in the first-level cache. */
	while (have < len) {
		size_t n = have < 4096 ? have : 4096;

		if (n > len - have)
			n = len - have;
		memcpy(dst + have, dst, n);
		have += n;
	}
	return 0;
}

const struct bale_codec bale_codec_fill = {
	.bound = fill_bound,
	.encode = fill_encode,
	.decode = fill_decode,
};
