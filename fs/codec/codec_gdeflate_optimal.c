/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thorough parse of the GDeflate encoder: matches of every position are
 * found once; then, from the end of the unit to its start, each position takes
 * whatever reaches the end in the fewest bits. What a symbol costs comes from
 * the parse before, block by block, and the first one is the lazy one's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/codec/codec_gdeflate_match.h"
#include "fs/codec/codec_gdeflate_write.h"

enum {
	PASSES = 2,
	DEPTH = 80,
	/* Kept for a position: ever longer ones, ever further away. */
	KEPT = 6,
	/* A match of this length is taken, and nothing inside of it looked at.
	 */
	NICE = 160,
	/* All lengths of a match are tried up to here, then only the whole. */
	EVERY = 20,
	/* Costs of lengths are looked up to here; symbol 285 from here on. */
	LENGTHS = BALE_GD_LENGTH_LONG + 1,
};

struct costs {
	uint32_t literal[256], len[LENGTHS], dist[BALE_GD_DIST_NR];
};

struct bale_gd_optimal {
	bale_gd_token found[BALE_UNIT_SIZE][KEPT]; /* ascending lengths */
	uint8_t nr_found[BALE_UNIT_SIZE];
	uint32_t cost[BALE_UNIT_SIZE + 1];
	bale_gd_token choice[BALE_UNIT_SIZE];
	struct costs costs;
	uint32_t block_start[BALE_GD_BLOCKS_MAX]; /* in content */
};

int bale_gd_optimal_need(struct bale_gd_encoder *e)
{
	if (!e->optimal)
		e->optimal = malloc(sizeof(*e->optimal));
	return e->optimal ? 0 : -ENOMEM;
}

/* ---- matches ---- */

static uint32_t keep(bale_gd_token *kept, uint32_t nr, uint32_t len,
		     uint32_t dist)
{
	if (nr == KEPT)
		nr--;
	kept[nr] = bale_gd_match(len, dist);
	return nr + 1;
}

/* Enter pos and keep its matches; returns the longest one's length, or 0. */
static uint32_t find_all(struct bale_gd_encoder *e, const uint8_t *src,
			 size_t pos, size_t len)
{
	struct bale_gd_finder *f = &e->finder;
	uint32_t v = bale_gd_load32(src + pos), limit = (uint32_t)pos;
	uint32_t h = bale_gd_hash(v, BALE_GD_HASH_BITS);
	uint32_t h3 = bale_gd_hash(v << 8, BALE_GD_HASH3_BITS);
	uint32_t cand = f->head[h], cand3 = f->head3[h3], best = 2, nr = 0;
	bale_gd_token *kept = e->optimal->found[pos];
	size_t left = len - pos;

	f->prev[pos] = f->head[h];
	f->head[h] = f->head3[h3] = (uint16_t)pos;
	if (cand3 < pos && (bale_gd_load32(src + cand3) ^ v) << 8 == 0) {
		best = 3 + (uint32_t)bale_gd_same(src + cand3 + 3,
						  src + pos + 3, left - 3);
		nr = keep(kept, nr, best, (uint32_t)pos - cand3);
	}
	for (unsigned int depth = DEPTH; cand < limit && depth && best < NICE;
	     depth--) {
		limit = cand;
		if (best < left && src[cand + best] == src[pos + best] &&
		    bale_gd_load32(src + cand) == v) {
			uint32_t n = 4 + (uint32_t)bale_gd_same(src + cand + 4,
								src + pos + 4,
								left - 4);

			if (n > best) {
				best = n;
				nr = keep(kept, nr, n, (uint32_t)pos - cand);
			}
		}
		cand = f->prev[cand];
	}
	e->optimal->nr_found[pos] = (uint8_t)nr;
	return nr ? best : 0;
}

static void find_matches(struct bale_gd_encoder *e, const uint8_t *src,
			 size_t len)
{
	size_t pos = 0, skip_to = 0;

	memset(e->finder.head, 0, sizeof(e->finder.head));
	memset(e->finder.head3, 0, sizeof(e->finder.head3));
	memset(e->optimal->nr_found, 0, len);
	for (; pos + 8 <= len; pos++) {
		uint32_t n;

		if (pos < skip_to) {
			bale_gd_finder_enter(&e->finder, src, pos);
			continue;
		}
		n = find_all(e, src, pos, len);
		if (n >= NICE)
			skip_to = pos + n;
	}
}

/* ---- costs ---- */

static void make_costs(struct costs *k, const struct bale_gd_counts *c)
{
	uint32_t total = 0, total_dist = 0;

	for (uint32_t s = 0; s < BALE_GD_LITLEN_USED; s++)
		total += c->litlen[s];
	for (uint32_t s = 0; s < BALE_GD_DIST_NR; s++)
		total_dist += c->dist[s];
	for (uint32_t s = 0; s < 256; s++)
		k->literal[s] = bale_gd_symbol_cost(c->litlen[s], total);
	for (uint32_t n = BALE_GD_LENGTH_MIN; n < LENGTHS; n++) {
		uint32_t idx = bale_gd_len_index(n);

		k->len[n] = bale_gd_symbol_cost(
				    c->litlen[BALE_GD_LEN_FIRST + idx], total) +
			    bale_gd_len_extra(idx) * BALE_GD_COST_BIT;
	}
	for (uint32_t s = 0; s < BALE_GD_DIST_NR; s++)
		k->dist[s] = bale_gd_symbol_cost(c->dist[s], total_dist) +
			     bale_gd_dist_extra(s) * BALE_GD_COST_BIT;
}

/* ---- the way through ---- */

static void choose_at(struct bale_gd_optimal *o, const uint8_t *src, size_t pos)
{
	uint32_t best = o->costs.literal[src[pos]] + o->cost[pos + 1];
	bale_gd_token token = bale_gd_literal(src[pos]);
	uint32_t n = BALE_GD_LENGTH_MIN;

	for (uint32_t i = 0; i < o->nr_found[pos]; i++) {
		uint32_t max = bale_gd_token_len(o->found[pos][i]);
		uint32_t dist = bale_gd_token_high(o->found[pos][i]);
		uint32_t base = o->costs.dist[bale_gd_dist_symbol(dist)];

		for (; n <= max; n = n < EVERY || n == max ? n + 1 : max) {
			uint32_t c =
				base + o->cost[pos + n] +
				o->costs.len[n < LENGTHS ? n : LENGTHS - 1];

			if (c < best) {
				best = c;
				token = bale_gd_match(n, dist);
			}
		}
	}
	o->cost[pos] = best;
	o->choice[pos] = token;
}

/* Start of each block in the content. */
static void place_blocks(struct bale_gd_encoder *e)
{
	struct bale_gd_split *s = &e->split;
	uint32_t pos = 0, block = 0;

	for (uint32_t i = 0; i < e->nr_tokens; i++) {
		uint32_t n = bale_gd_token_len(e->tokens[i]);

		if (!i || i == s->end[block - 1])
			e->optimal->block_start[block++] = pos;
		pos += n ? n : 1;
	}
}

static void parse_again(struct bale_gd_encoder *e, const uint8_t *src,
			size_t len)
{
	struct bale_gd_optimal *o = e->optimal;
	uint32_t block = e->split.nr;
	size_t pos = len;

	place_blocks(e);
	o->cost[len] = 0;
	while (pos-- > 0) {
		if (block == e->split.nr || pos < o->block_start[block])
			make_costs(&o->costs, &e->split.counts[--block]);
		choose_at(o, src, pos);
	}
	e->nr_tokens = 0;
	for (pos = 0; pos < len;) {
		bale_gd_token t = o->choice[pos];

		e->tokens[e->nr_tokens++] = t;
		pos += bale_gd_token_len(t) ? bale_gd_token_len(t) : 1;
	}
}

void bale_gd_parse_optimal(struct bale_gd_encoder *e, const uint8_t *src,
			   size_t len)
{
	bale_gd_parse_lazy(e, src, len);
	find_matches(e, src, len);
	for (int pass = 0; pass < PASSES; pass++) {
		bale_gd_split_make(&e->split, e->tokens, e->nr_tokens);
		parse_again(e, src, len);
	}
}
