/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where one block of a GDeflate tile ends and the next begins: tokens are
 * counted in short pieces, and neighbours become one as long as a common code
 * costs less than two codes and one header more. The cheapest pair goes first.
 */
#include <string.h>

#include "fs/codec/codec_gdeflate_write.h"

enum {
	/* Shorter pieces say too little about their code. */
	PIECE_MIN = 512,
	/* Of a header: what is always there, and 1/8 bits for a symbol. */
	HEAD_BITS = 90,
	HEAD_SYMBOL_8TH = 22,
};

/* log2 of n >= 1, to 0.01: the exponent, and a parabola for the rest. */
static float log2_of(uint32_t n)
{
	float f = (float)n;
	uint32_t bits;
	float m;

	memcpy(&bits, &f, sizeof(bits));
	m = (float)(bits & 0x7fffff) / 8388608.0F;
	return (float)(bits >> 23) - 127.0F + m * (1.3465F - 0.3465F * m);
}

uint32_t bale_gd_symbol_cost(uint32_t freq, uint32_t total)
{
	float bits;

	/* A symbol that was not there would get a code as long as these. */
	bits = log2_of(total + 1) - (freq ? log2_of(freq) : -0.5F);
	bits = bits < 1 ? 1 : bits > 15 ? 15 : bits;
	return (uint32_t)(bits * BALE_GD_COST_BIT);
}

static float code_bits(const uint32_t *freq, uint32_t nr, uint32_t *used)
{
	uint32_t total = 0;
	float sum = 0;

	for (uint32_t s = 0; s < nr; s++) {
		if (!freq[s])
			continue;
		total += freq[s];
		sum += (float)freq[s] * log2_of(freq[s]);
		++*used;
	}
	return total ? (float)total * log2_of(total) - sum : 0;
}

/* What a block of these counts takes, but for extra bits. */
static float block_bits(const struct bale_gd_counts *c)
{
	uint32_t used = 0;
	float bits = code_bits(c->litlen, BALE_GD_LITLEN_USED, &used);

	bits += code_bits(c->dist, BALE_GD_DIST_NR, &used);
	return bits + HEAD_BITS + (float)(used * HEAD_SYMBOL_8TH) / 8;
}

static void add_counts(struct bale_gd_counts *to,
		       const struct bale_gd_counts *c)
{
	for (uint32_t s = 0; s < BALE_GD_LITLEN_NR; s++)
		to->litlen[s] += c->litlen[s];
	for (uint32_t s = 0; s < BALE_GD_DIST_NR; s++)
		to->dist[s] += c->dist[s];
	/* One end of block is enough. */
	to->litlen[BALE_GD_END]--;
}

/* Bits that blocks i and i + 1 save by being one. */
static float gain(struct bale_gd_split *s, uint32_t i)
{
	struct bale_gd_counts both = s->counts[i];

	add_counts(&both, &s->counts[i + 1]);
	return s->bits[i] + s->bits[i + 1] - block_bits(&both);
}

static void merge(struct bale_gd_split *s, uint32_t i)
{
	add_counts(&s->counts[i], &s->counts[i + 1]);
	s->bits[i] = block_bits(&s->counts[i]);
	s->end[i] = s->end[i + 1];
	s->nr--;
	for (uint32_t k = i + 1; k < s->nr; k++) {
		s->counts[k] = s->counts[k + 1];
		s->bits[k] = s->bits[k + 1];
		s->end[k] = s->end[k + 1];
		s->gain[k] = s->gain[k + 1];
	}
	if (i)
		s->gain[i - 1] = gain(s, i - 1);
	if (i + 1 < s->nr)
		s->gain[i] = gain(s, i);
}

void bale_gd_split_whole(struct bale_gd_split *s, const bale_gd_token *tokens,
			 size_t nr)
{
	s->nr = 1;
	s->end[0] = (uint32_t)nr;
	bale_gd_count(&s->counts[0], tokens, nr);
}

void bale_gd_split_make(struct bale_gd_split *s, const bale_gd_token *tokens,
			size_t nr)
{
	size_t piece = nr / BALE_GD_BLOCKS_MAX + 1;

	if (piece < PIECE_MIN)
		piece = PIECE_MIN;
	s->nr = 0;
	for (size_t at = 0, n; at < nr; at += n) {
		n = nr - at < piece ? nr - at : piece;
		bale_gd_count(&s->counts[s->nr], tokens + at, n);
		s->bits[s->nr] = block_bits(&s->counts[s->nr]);
		s->end[s->nr++] = (uint32_t)(at + n);
	}
	for (uint32_t i = 0; i + 1 < s->nr; i++)
		s->gain[i] = gain(s, i);
	while (s->nr > 1) {
		uint32_t best = 0;

		for (uint32_t i = 1; i + 1 < s->nr; i++)
			if (s->gain[i] > s->gain[best])
				best = i;
		if (s->gain[best] <= 0)
			break;
		merge(s, best);
	}
}
