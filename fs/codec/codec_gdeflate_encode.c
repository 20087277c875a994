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
	if (e)
		free(e->optimal);
	free(e);
}

/* Tokens of the unit, and where blocks end. */
static int parse(struct bale_gd_encoder *e, int level, const uint8_t *src,
		 size_t len)
{
	int r;

	switch (level) {
	case BALE_GD_LEVEL_ENTROPY:
		bale_gd_parse_literals(e, src, len);
		break;
	case BALE_GD_LEVEL_FAST:
		bale_gd_parse_greedy(e, src, len);
		bale_gd_split_whole(&e->split, e->tokens, e->nr_tokens);
		return 0;
	case BALE_GD_LEVEL_BALANCED:
		bale_gd_parse_lazy(e, src, len);
		break;
	case BALE_GD_LEVEL_HIGH:
		r = bale_gd_optimal_need(e);
		if (r)
			return r;
		bale_gd_parse_optimal(e, src, len);
		break;
	default:
		return -EINVAL;
	}
	bale_gd_split_make(&e->split, e->tokens, e->nr_tokens);
	return 0;
}

static size_t content_len(const bale_gd_token *t, size_t nr)
{
	size_t len = 0;

	for (size_t i = 0; i < nr; i++)
		len += bale_gd_token_len(t[i]) ? bale_gd_token_len(t[i]) : 1;
	return len;
}

int bale_gd_encode(struct bale_gd_encoder *e, int level, const uint8_t *src,
		   size_t len, uint8_t *dst, size_t cap, size_t *ret_len)
{
	const struct bale_gd_split *s = &e->split;
	size_t from = 0, pos = 0;
	int r;

	if (!len || len > BALE_UNIT_SIZE)
		return -EINVAL;
	if (!bale_gd_lanes_start(&e->lanes, dst, cap))
		return -ENOSPC;
	r = parse(e, level, src, len);
	if (r)
		return r;
	for (uint32_t i = 0; i < s->nr && !e->lanes.full; i++) {
		struct bale_gd_block_in in = {
			.tokens = e->tokens + from,
			.nr = s->end[i] - from,
			.content = src + pos,
			.last = i + 1 == s->nr,
			.counts = &s->counts[i],
		};

		in.len = in.last ? len - pos : content_len(in.tokens, in.nr);
		bale_gd_block_put(&e->lanes, &e->block, &in);
		from += in.nr;
		pos += in.len;
	}
	return bale_gd_lanes_finish(&e->lanes, ret_len);
}
