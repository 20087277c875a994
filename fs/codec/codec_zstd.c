/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd: one frame for the whole extent, with its content size, without
 * checksum (the extent has one over the stored bytes) and without dictionary.
 * The decoder refuses every other form, so that all decoders agree on what is
 * valid, and so that a forged frame cannot ask for memory or time beyond one
 * extent.
 */
#include <errno.h>
#include <zstd_errors.h>

#include "fs/codec/codec_impl.h"

/* Frame and block headers (RFC 8878, 3.1.1). */
enum {
	FRAME_HEADER_MIN = 6, /* magic, descriptor, one more byte always */
	FRAME_DICT_ID = 3 << 0,
	FRAME_CHECKSUM = 1 << 2,
	FRAME_RESERVED = 1 << 3,
	FRAME_SINGLE_SEGMENT = 1 << 5,
	WINDOW_LOG_BASE = 10,
	BLOCK_HEADER = 3,
	BLOCK_RLE = 1,
	BLOCK_RESERVED = 3,
	BLOCK_MAX = 128 << 10,
};

static size_t zstd_bound(size_t len)
{
	return ZSTD_compressBound(len);
}

static int zstd_encode(struct bale_codec_ctx *ctx, const uint8_t *src,
		       size_t len, uint8_t *dst, size_t cap, int level,
		       size_t *ret_len)
{
	int r = bale_codec_ctx_need_cctx(ctx);
	size_t n;

	if (r)
		return r;
	/* The simple call's frame parameters are those wanted: content size on,
	   checksum and dictionary id off. */
	n = ZSTD_compressCCtx(ctx->cctx, dst, cap, src, len, level);
	if (!ZSTD_isError(n)) {
		*ret_len = n;
		return 0;
	}
	switch (ZSTD_getErrorCode(n)) {
	case ZSTD_error_dstSize_tooSmall:
		return -ENOSPC;
	case ZSTD_error_memory_allocation:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/*
 * The blocks from pos on end exactly with src, and none is larger than max.
 * libzstd 1.5 has no limit for raw and run blocks; other decoders have.
 */
static bool check_blocks(const uint8_t *src, size_t src_len, size_t pos,
			 size_t max)
{
	bool last = false;

	while (!last) {
		uint32_t head;
		size_t n;

		if (pos + BLOCK_HEADER > src_len)
			return false;
		head = src[pos] | (uint32_t)src[pos + 1] << 8 |
		       (uint32_t)src[pos + 2] << 16;
		last = head & 1;
		n = head >> 3;
		if ((head >> 1 & 3) == BLOCK_RESERVED || n > max)
			return false;
		if ((head >> 1 & 3) == BLOCK_RLE)
			n = 1;
		pos += BLOCK_HEADER;
		if (n > src_len - pos)
			return false;
		pos += n;
	}
	return pos == src_len;
}

/* One plain zstd frame of src_len bytes that promises len bytes of content. */
static bool check_frame(const uint8_t *src, size_t src_len, size_t len)
{
	static const uint8_t content_size_bytes[] = { 0, 2, 4, 8 };
	size_t pos = 5, window = len;
	uint8_t desc;

	if (src_len < FRAME_HEADER_MIN || src[0] != 0x28 || src[1] != 0xb5 ||
	    src[2] != 0x2f || src[3] != 0xfd)
		return false;
	desc = src[4];
	if (desc & (FRAME_DICT_ID | FRAME_CHECKSUM | FRAME_RESERVED))
		return false;
	if (ZSTD_getFrameContentSize(src, src_len) != len)
		return false;
	if (desc & FRAME_SINGLE_SEGMENT) {
		pos += desc >> 6 ? content_size_bytes[desc >> 6] : 1;
	} else {
		window = (size_t)1 << (WINDOW_LOG_BASE + (src[5] >> 3));
		window += window / 8 * (src[5] & 7);
		if (window > (size_t)1 << BALE_ZSTD_WINDOW_LOG_MAX)
			return false;
		pos += 1 + content_size_bytes[desc >> 6];
	}
	return check_blocks(src, src_len, pos,
			    window < BLOCK_MAX ? window : BLOCK_MAX);
}

static int zstd_decode(struct bale_codec_ctx *ctx, const uint8_t *src,
		       size_t src_len, uint8_t *dst, size_t len)
{
	int r;

	if (!check_frame(src, src_len, len))
		return -EUCLEAN;
	r = bale_codec_ctx_need_dctx(ctx);
	if (r)
		return r;
	return ZSTD_decompressDCtx(ctx->dctx, dst, len, src, src_len) == len ?
		       0 :
		       -EUCLEAN;
}

const struct bale_codec bale_codec_zstd = {
	.bound = zstd_bound,
	.encode = zstd_encode,
	.decode = zstd_decode,
	.level_min = BALE_ZSTD_LEVEL_MIN,
	.level_max = BALE_ZSTD_LEVEL_MAX,
	.level_default = BALE_ZSTD_LEVEL_DEFAULT,
};
