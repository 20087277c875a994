/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_gdeflate_read.h - what the GDeflate readers share: their state, decode
 * tables, and everything but the loop over a block's symbols, which each
 * reader has its own way to run.
 *
 * A reader works in two steps. Step one turns slots into tokens: literals in
 * one array, lengths and distances of matches in others, in content order
 * although a match's distance comes a round after its length. Step two runs
 * the tokens (bale_gd_flush), when a few KiB of them have gathered. So step one
 * need not branch on what a symbol is, which nobody can predict, and step two
 * may copy in wide pieces and overrun, as it writes strictly upwards.
 *
 * Thread rule: a decoder belongs to one thread at a time.
 */
#ifndef BALE_CODEC_CODEC_GDEFLATE_READ_H
#define BALE_CODEC_CODEC_GDEFLATE_READ_H

#include <stdbool.h>
#include <string.h>

#include "balefs/compiler.h"
#include "fs/codec/codec_gdeflate.h"

/*
 * A table entry: bits 0-4 bits of the slot (code and extra), 5-8 bits of the
 * code alone, 9-12 kinds, 16-31 base value. Code bits longer than the root's
 * index go to a second table: BALE_GD_SUB, base its place, code bits its width.
 */
enum {
	BALE_GD_E_CODE = 5,
	BALE_GD_E_LIT = 9,
	BALE_GD_E_LEN = 10,
	BALE_GD_E_DIST = 11,
	BALE_GD_E_SPECIAL = 12, /* end of block, second table, no symbol */
	BALE_GD_E_SUB = 13,
	BALE_GD_E_END = 14,
	BALE_GD_E_BASE = 16,
};

enum {
	BALE_GD_LITLEN_ROOT = 11,
	BALE_GD_DIST_ROOT = 9,
	BALE_GD_PRECODE_ROOT = BALE_GD_PRECODE_BITS_MAX,
	/* Second tables take less than this for any complete code (zlib's
	   `enough`: 2342 - 2048 and 594 - 512); building checks it. */
	BALE_GD_LITLEN_TABLE = (1 << BALE_GD_LITLEN_ROOT) + 320,
	BALE_GD_DIST_TABLE = (1 << BALE_GD_DIST_ROOT) + 128,
	/* Where tables stand in decoder.table. */
	BALE_GD_DIST_AT = BALE_GD_LITLEN_TABLE,
	BALE_GD_TABLES = BALE_GD_LITLEN_TABLE + BALE_GD_DIST_TABLE,

	/* Tokens that gather before they run: within the first-level cache. */
	BALE_GD_LITS_FULL = 2048,
	BALE_GD_MATCHES_FULL = 512,
	/* What two rounds may add, and wide loads and stores read or write
	   beyond. */
	BALE_GD_SLACK = 2 * BALE_GD_LANES + 64,
};

struct bale_gd_decoder {
	_Alignas(64) uint64_t buf[BALE_GD_LANES]; /* bits above cnt are 0 */
	_Alignas(64) uint32_t cnt[BALE_GD_LANES]; /* 32 to 63 between slots */
	const uint8_t *in, *end; /* the next word, the end of the tile */
	uint32_t pending;	 /* lanes whose next slot is a distance */
	bool bad;		 /* a word was missing */

	uint8_t *dst;
	size_t len, out; /* bytes of the tile; written */

	/* Tokens. lits_before[i]: literals before match i. */
	uint32_t nr_lits, nr_lens, nr_dists; /* nr_lens >= nr_dists */
	_Alignas(64) uint32_t lits_before[BALE_GD_MATCHES_FULL + BALE_GD_SLACK];
	uint32_t lens[BALE_GD_MATCHES_FULL + BALE_GD_SLACK];
	uint32_t dists[BALE_GD_MATCHES_FULL + BALE_GD_SLACK];
	uint8_t lit[BALE_GD_LITS_FULL + BALE_GD_SLACK];

	_Alignas(64) uint32_t table[BALE_GD_TABLES];
	uint8_t code_lens[BALE_GD_LITLEN_NR + BALE_GD_DIST_NR];
};

/*
 * Run slots until the block has ended: 0, or -EUCLEAN. Lanes, pending and
 * tokens are those of d before and after.
 */
typedef int bale_gd_rounds_fn(struct bale_gd_decoder *d);

/* A tile with the given loop. */
int bale_gd_decode_with(struct bale_gd_decoder *d, bale_gd_rounds_fn *rounds,
			const uint8_t *src, size_t src_len, uint8_t *dst,
			size_t len);

/* One round, every access checked: 0, 1 when the block has ended, -EUCLEAN. */
int bale_gd_round_checked(struct bale_gd_decoder *d);

/* Run the tokens that are complete; -EUCLEAN: they leave the tile. */
int bale_gd_flush(struct bale_gd_decoder *d);

/*
 * Both -EUCLEAN for a code that no reader takes: overfull; incomplete, but for
 * a single code of one bit; empty, but for distances.
 */
int bale_gd_build_codes(uint32_t *table, const uint8_t *litlen_bits,
			unsigned int nr_litlen, const uint8_t *dist_bits,
			unsigned int nr_dist);
int bale_gd_build_precode(uint32_t *table, const uint8_t *bits);

static inline bool bale_gd_is_full(const struct bale_gd_decoder *d)
{
	return d->nr_lits > BALE_GD_LITS_FULL ||
	       d->nr_lens > BALE_GD_MATCHES_FULL;
}

static inline uint32_t bale_gd_load_word(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	       (uint32_t)p[3] << 24;
}

static inline uint64_t bale_gd_low_bits(uint64_t v, uint32_t n)
{
	return v & (((uint64_t)1 << n) - 1);
}

/* A lane has used n bits: the end of a slot. */
static inline void bale_gd_consume(struct bale_gd_decoder *d, uint32_t lane,
				   uint32_t n)
{
	d->buf[lane] >>= n;
	d->cnt[lane] -= n;
	if (d->cnt[lane] >= 32)
		return;
	if (d->in == d->end) {
		d->bad = true;
	} else {
		d->buf[lane] |= (uint64_t)bale_gd_load_word(d->in)
				<< d->cnt[lane];
		d->in += 4;
	}
	d->cnt[lane] += 32;
}

#endif
