/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode tables of the GDeflate readers, one lookup for nearly all symbols.
 *
 * Canonical codes in ascending length fill a table of 2^length entries, each
 * code one of them; between two lengths the table is doubled by copying it,
 * since all entries repeat with the bits that follow. Codes longer than the
 * root share second tables by their first root bits.
 */
#include <assert.h>
#include <errno.h>

#include "fs/codec/codec_gdeflate_read.h"

enum {
	NO_SYMBOL = 1 << BALE_GD_E_SPECIAL,
	SYMBOLS_MAX = BALE_GD_LITLEN_NR,
	BITS_MAX = BALE_GD_CODE_BITS_MAX,
	/* Adds the code's length to both fields of an entry. */
	CODE_BIT = 1 | 1 << BALE_GD_E_CODE,
};

static_assert(BALE_GD_TABLES < 1 << 16,
	      "the place of a second table is a base");

enum kind { LITLEN, DIST, PRECODE };

/* The entry of a symbol, without its code. */
static inline uint32_t symbol_entry(enum kind kind, uint32_t sym)
{
	static const uint8_t run_extra[] = { 2, 3, 7 };

	if (kind == PRECODE)
		return sym << BALE_GD_E_BASE |
		       (sym < BALE_GD_RUN_LAST ?
				0 :
				run_extra[sym - BALE_GD_RUN_LAST]);
	if (kind == DIST)
		return bale_gd_dist_base(sym) << BALE_GD_E_BASE |
		       1 << BALE_GD_E_DIST | bale_gd_dist_extra(sym);
	if (sym < BALE_GD_END)
		return sym << BALE_GD_E_BASE | 1 << BALE_GD_E_LIT;
	if (sym == BALE_GD_END)
		return 1 << BALE_GD_E_SPECIAL | 1 << BALE_GD_E_END;
	if (sym >= BALE_GD_LITLEN_USED)
		return NO_SYMBOL;
	sym -= BALE_GD_LEN_FIRST;
	return bale_gd_len_base(sym) << BALE_GD_E_BASE | 1 << BALE_GD_E_LEN |
	       bale_gd_len_extra(sym);
}

/* The code after this one of the same length, both with their first bit lowest.
 * Past the last one: 0, which nobody uses. */
static inline uint32_t next_code(uint32_t code, unsigned int len)
{
	uint32_t zeros = ~code & ((1U << len) - 1);
	uint32_t top;

	if (!zeros)
		return 0;
	top = 1U << bale_gd_top_bit(zeros);
	return (code & (top - 1)) | top;
}

struct code {
	uint16_t count[BITS_MAX + 1]; /* codes of each length */
	uint16_t sorted[SYMBOLS_MAX]; /* symbols by length, then value */
	unsigned int nr, max;	      /* symbols; longest code */
};

/* -EUCLEAN: see bale_gd_build_codes(). */
static int sort_code(struct code *c, enum kind kind, const uint8_t *bits,
		     unsigned int nr)
{
	uint16_t at[BITS_MAX + 2] = { 0 };
	uint32_t space = 0;

	memset(c->count, 0, sizeof(c->count));
	for (unsigned int s = 0; s < nr; s++)
		c->count[bits[s]]++;
	c->nr = nr - c->count[0];
	c->count[0] = 0;
	c->max = 0;
	for (unsigned int l = 1; l <= BITS_MAX; l++) {
		at[l + 1] = (uint16_t)(at[l] + c->count[l]);
		space += (uint32_t)c->count[l] << (BITS_MAX - l);
		if (c->count[l])
			c->max = l;
	}
	for (unsigned int s = 0; s < nr; s++)
		if (bits[s])
			c->sorted[at[bits[s]]++] = (uint16_t)s;
	if (space == 1U << BITS_MAX)
		return 0;
	if (c->nr == 1 && c->count[1] && kind != PRECODE)
		return 0;
	return !c->nr && kind == DIST ? 0 : -EUCLEAN;
}

/* Index bits of a second table that begins with a code of `len` bits: as many
 * as the codes behind it need that share its first bits. left: codes by length
 * that have no place yet. */
static unsigned int second_width(const uint16_t *left, unsigned int len,
				 unsigned int root, unsigned int max)
{
	int32_t room = 1 << (len - root);

	for (; len < max; len++) {
		room -= left[len];
		if (room <= 0)
			break;
		room *= 2;
	}
	return len - root;
}

/*
 * Second tables for the codes from sorted[i] on, `code` being the first one's;
 * they start at table[used]. table stands at table_at of all tables.
 */
static int build_second(uint32_t *table, unsigned int root, unsigned int cap,
			unsigned int table_at, const struct code *c,
			enum kind kind, unsigned int i, uint32_t code)
{
	uint32_t prefix = UINT32_MAX, used = 1U << root, size = 0;
	uint16_t left[BITS_MAX + 1];

	memcpy(left, c->count, sizeof(left));
	for (unsigned int l = root + 1; l <= c->max; l++) {
		for (; left[l]; left[l]--, i++) {
			uint32_t e =
				symbol_entry(kind, c->sorted[i]) + l * CODE_BIT;

			if ((code & ((1U << root) - 1)) != prefix) {
				unsigned int w =
					second_width(left, l, root, c->max);

				prefix = code & ((1U << root) - 1);
				used += size;
				size = 1U << w;
				if (used + size > cap)
					return -EUCLEAN;
				table[prefix] = (table_at + used)
							<< BALE_GD_E_BASE |
						1 << BALE_GD_E_SPECIAL |
						1 << BALE_GD_E_SUB |
						w << BALE_GD_E_CODE;
			}
			for (uint32_t k = code >> root; k < size;
			     k += 1U << (l - root))
				table[used + k] = e;
			code = next_code(code, l);
		}
	}
	return 0;
}

static inline int build(uint32_t *table, unsigned int root, unsigned int cap,
			unsigned int table_at, enum kind kind,
			const uint8_t *bits, unsigned int nr)
{
	unsigned int i = 0;
	uint32_t code = 0;
	struct code c;
	int r = sort_code(&c, kind, bits, nr);

	if (r)
		return r;
	table[0] = NO_SYMBOL;
	for (unsigned int l = 1; l <= root; l++) {
		memcpy(table + (1U << (l - 1)), table,
		       sizeof(*table) << (l - 1));
		for (unsigned int k = 0; k < c.count[l]; k++, i++) {
			table[code] =
				symbol_entry(kind, c.sorted[i]) + l * CODE_BIT;
			code = next_code(code, l);
		}
	}
	if (c.max <= root)
		return 0;
	return build_second(table, root, cap, table_at, &c, kind, i, code);
}

int bale_gd_build_codes(uint32_t *table, const uint8_t *litlen_bits,
			unsigned int nr_litlen, const uint8_t *dist_bits,
			unsigned int nr_dist)
{
	int r = build(table, BALE_GD_LITLEN_ROOT, BALE_GD_LITLEN_TABLE, 0,
		      LITLEN, litlen_bits, nr_litlen);

	if (r)
		return r;
	return build(table + BALE_GD_DIST_AT, BALE_GD_DIST_ROOT,
		     BALE_GD_DIST_TABLE, BALE_GD_DIST_AT, DIST, dist_bits,
		     nr_dist);
}

int bale_gd_build_precode(uint32_t *table, const uint8_t *bits)
{
	return build(table, BALE_GD_PRECODE_ROOT, 1 << BALE_GD_PRECODE_ROOT, 0,
		     PRECODE, bits, BALE_GD_PRECODE_NR);
}
