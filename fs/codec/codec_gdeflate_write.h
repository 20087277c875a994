/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_gdeflate_write.h - the stages of the GDeflate encoder: a parse of the
 * unit into tokens, codes for a block of them, and the lanes that they go to.
 *
 * Thread rule: everything here belongs to one encoder, used by one thread at a
 * time.
 */
#ifndef BALE_CODEC_CODEC_GDEFLATE_WRITE_H
#define BALE_CODEC_CODEC_GDEFLATE_WRITE_H

#include <stdbool.h>
#include <string.h>

#include "balefs/compiler.h"
#include "balefs/le.h"
#include "fs/codec/codec_gdeflate.h"

/*
 * A token: length of a match in the low half, its distance in the high one;
 * length 0: a literal, its value high.
 */
typedef uint32_t bale_gd_token;

static inline bale_gd_token bale_gd_literal(uint8_t v)
{
	return (uint32_t)v << 16;
}

static inline bale_gd_token bale_gd_match(uint32_t len, uint32_t dist)
{
	return dist << 16 | len;
}

static inline uint32_t bale_gd_token_len(bale_gd_token t)
{
	return t & 0xffff;
}

static inline uint32_t bale_gd_token_high(bale_gd_token t)
{
	return t >> 16;
}

/* ---- codes ---- */

/* Symbols' codes, first bit lowest, and their lengths; length 0: unused. */
struct bale_gd_code {
	uint16_t code[BALE_GD_LITLEN_NR];
	uint8_t bits[BALE_GD_LITLEN_NR];
};

/*
 * The best code of at most max_bits for symbols that occur freq[] times; those
 * that do not occur get none. A single symbol gets a code of one bit.
 */
void bale_gd_code_make(struct bale_gd_code *c, const uint32_t *freq,
		       unsigned int nr, unsigned int max_bits);
/* Fill code[] from bits[]. */
void bale_gd_code_assign(struct bale_gd_code *c, unsigned int nr);

/* ---- lanes ---- */

struct bale_gd_lanes {
	uint64_t buf[BALE_GD_LANES];  /* bits of the word at cur[], and on */
	uint32_t cnt[BALE_GD_LANES];  /* of them, below 32 between slots */
	uint32_t cur[BALE_GD_LANES];  /* word that is being filled */
	uint32_t next[BALE_GD_LANES]; /* the one behind it, when cnt > 0 */
	uint8_t *dst;
	uint32_t nr_words, max_words;
	bool full; /* a word had no room; what was written is worthless */
};

/* cap: bytes of dst. False: not even the first words fit. */
bool bale_gd_lanes_start(struct bale_gd_lanes *w, uint8_t *dst, size_t cap);
/* 0 and the tile's size, or -ENOSPC. */
int bale_gd_lanes_finish(struct bale_gd_lanes *w, size_t *ret_len);

static inline void bale_gd_lanes_store(uint8_t *dst, uint32_t at, uint32_t v)
{
	le32 e = le32_put(v);

	memcpy(dst + (size_t)4 * at, &e, sizeof(e));
}

/*
 * A slot of 1 to 31 bits, with *nr words handed out so far and room for one
 * more. The reader takes a word for the lane when the bits that it has used
 * pass a multiple of 32 (the first one at once), so that is when the word gets
 * its place, although it is filled later. Both happen at random: nothing here
 * branches on them, and a word is written with every slot until it is full.
 */
static inline void bale_gd_lanes_put_at(struct bale_gd_lanes *w, uint32_t lane,
					uint32_t v, uint32_t n, uint8_t *dst,
					uint32_t *nr)
{
	uint32_t had = w->cnt[lane], has = had + n;
	uint32_t cur = w->cur[lane], next = w->next[lane];
	uint64_t b = w->buf[lane] | (uint64_t)v << had;
	uint32_t is_full = has >> 5, takes = (had == 0) | (has > 32);

	bale_gd_lanes_store(dst, cur, (uint32_t)b);
	w->cur[lane] = is_full ? next : cur;
	w->next[lane] = takes ? *nr : next;
	w->buf[lane] = b >> (is_full * 32);
	w->cnt[lane] = has & 31;
	*nr += takes;
}

static inline void bale_gd_lanes_put(struct bale_gd_lanes *w, uint32_t lane,
				     uint32_t v, uint32_t n)
{
	if (bale_unlikely(w->nr_words >= w->max_words)) {
		uint32_t had = w->cnt[lane];

		/* No room, unless none is needed. */
		if (!had || had + n > 32) {
			w->full = true;
			w->nr_words = w->max_words - 1;
		}
	}
	bale_gd_lanes_put_at(w, lane, v, n, w->dst, &w->nr_words);
}

/* ---- blocks ---- */

struct bale_gd_counts {
	uint32_t litlen[BALE_GD_LITLEN_NR];
	uint32_t dist[BALE_GD_DIST_NR];
};

/* Tokens of one block, the content that they stand for, and what they count. */
struct bale_gd_block_in {
	const bale_gd_token *tokens;
	size_t nr;
	const uint8_t *content;
	size_t len;
	bool last;
	const struct bale_gd_counts *counts; /* of tokens */
};

struct bale_gd_block_work {
	struct bale_gd_code litlen, dist, pre;
	/* The header's list of code lengths, as precode symbols. */
	uint16_t runs[BALE_GD_LITLEN_NR + BALE_GD_DIST_NR];
	/* What goes into the slot of a literal, or of a length (at 256 +
	   length - 3), below BALE_GD_LENGTH_LONG: bits << 8 | how many. */
	uint32_t slots[512];
	uint32_t nr_runs;
	uint32_t nr_litlen, nr_dist, nr_pre;
};

void bale_gd_count(struct bale_gd_counts *c, const bale_gd_token *tokens,
		   size_t nr);
/* One block, stored, static or dynamic, whichever is smallest. */
void bale_gd_block_put(struct bale_gd_lanes *w, struct bale_gd_block_work *k,
		       const struct bale_gd_block_in *in);

/* ---- parse ---- */

enum {
	BALE_GD_HASH_BITS = 15,
	BALE_GD_HASH3_BITS = 12,
};

/*
 * Tables of positions. A slot that nobody set says 0, which is a position like
 * any other: what is found there is compared, and chains end where they do not
 * go down.
 */
struct bale_gd_finder {
	uint16_t head[1 << BALE_GD_HASH_BITS];	 /* by 4 bytes */
	uint16_t head3[1 << BALE_GD_HASH3_BITS]; /* by 3 */
	uint16_t prev[BALE_UNIT_SIZE]; /* the one before with that hash */
};

enum {
	BALE_GD_BLOCKS_MAX = 24,
	/* Costs of symbols are in units of 1/64 bit. */
	BALE_GD_COST_BIT = 64,
};

/* A unit's tokens in blocks. */
struct bale_gd_split {
	uint32_t nr;
	uint32_t end[BALE_GD_BLOCKS_MAX]; /* token behind the block's last */
	struct bale_gd_counts counts[BALE_GD_BLOCKS_MAX];
	float bits[BALE_GD_BLOCKS_MAX]; /* that the block takes, a guess */
	float gain[BALE_GD_BLOCKS_MAX]; /* if it were one with the next */
};

/* One block; as many as pay. nr >= 1. */
void bale_gd_split_whole(struct bale_gd_split *s, const bale_gd_token *tokens,
			 size_t nr);
void bale_gd_split_make(struct bale_gd_split *s, const bale_gd_token *tokens,
			size_t nr);
/* What a symbol that comes freq times in total costs. */
uint32_t bale_gd_symbol_cost(uint32_t freq, uint32_t total);

struct bale_gd_optimal;

struct bale_gd_encoder {
	struct bale_gd_lanes lanes;
	struct bale_gd_block_work block;
	struct bale_gd_split split;
	struct bale_gd_optimal *optimal; /* made when first needed */
	struct bale_gd_finder finder;
	bale_gd_token tokens[BALE_UNIT_SIZE];
	size_t nr_tokens;
};

/* Each fills e->tokens with tokens of exactly len bytes. */
void bale_gd_parse_literals(struct bale_gd_encoder *e, const uint8_t *src,
			    size_t len);
void bale_gd_parse_greedy(struct bale_gd_encoder *e, const uint8_t *src,
			  size_t len);
void bale_gd_parse_lazy(struct bale_gd_encoder *e, const uint8_t *src,
			size_t len);
/* After bale_gd_optimal_need(): 0 or -ENOMEM. */
void bale_gd_parse_optimal(struct bale_gd_encoder *e, const uint8_t *src,
			   size_t len);
int bale_gd_optimal_need(struct bale_gd_encoder *e);
/* Make pos known to later searches; 4 bytes are left there. */
void bale_gd_finder_enter(struct bale_gd_finder *f, const uint8_t *src,
			  size_t pos);

#endif
