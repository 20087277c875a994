/* SPDX-License-Identifier: Apache-2.0 */
/* The GDeflate encoder: a parse by level, cut into blocks. */
#include <errno.h>
#include <stdlib.h>

#include "fs/codec/codec_gdeflate_write.h"

struct bale_gd_encoder *bale_gd_encoder_create(void)
{
	return calloc(1, sizeof(struct bale_gd_encoder));
}

void bale_gd_encoder_destroy(struct bale_gd_encoder *e)
{
	free(e);
}

int bale_gd_encode(struct bale_gd_encoder *e, int level, const uint8_t *src,
		   size_t len, uint8_t *dst, size_t cap, size_t *ret_len)
{
	struct bale_gd_block_in in = {
		.tokens = e->tokens,
		.content = src,
		.len = len,
		.last = true,
	};

	if (!len || len > BALE_UNIT_SIZE)
		return -EINVAL;
	if (!bale_gd_lanes_start(&e->lanes, dst, cap))
		return -ENOSPC;
	switch (level) {
	case BALE_GD_LEVEL_ENTROPY:
		bale_gd_parse_literals(e, src, len);
		break;
	case BALE_GD_LEVEL_FAST:
		bale_gd_parse_greedy(e, src, len);
		break;
	case BALE_GD_LEVEL_BALANCED:
	case BALE_GD_LEVEL_HIGH:
		bale_gd_parse_lazy(e, src, len);
		break;
	default:
		return -EINVAL;
	}
	in.nr = e->nr_tokens;
	bale_gd_block_put(&e->lanes, &e->block, &in);
	return bale_gd_lanes_finish(&e->lanes, ret_len);
}
