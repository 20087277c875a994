/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_plain.h - a GDeflate reader written from docs/format.md alone, in
 * the plainest way there is: slot by slot, codes bit by bit, no tables, nothing
 * of fs/codec. What it says about a tile is what the others are held against.
 */
#ifndef BALE_TESTS_GDEFLATE_PLAIN_H
#define BALE_TESTS_GDEFLATE_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PLAIN_LANES = 32, PLAIN_NO_SYMBOL = 999 };

struct plain {
	uint64_t bits[PLAIN_LANES];
	unsigned int nr_bits[PLAIN_LANES];
	const uint8_t *src;
	size_t src_len, pos;
	uint8_t *dst;
	size_t len, out;
	bool bad;
	/* A match waits for its distance: where it goes. */
	size_t due_at[PLAIN_LANES], due_len[PLAIN_LANES];
	bool is_due[PLAIN_LANES];
};

struct plain_code {
	unsigned int count[16], nr, symbols[320];
};

static inline void plain_refill(struct plain *p, unsigned int lane)
{
	uint64_t word = 0;

	if (p->nr_bits[lane] >= 32)
		return;
	if (p->src_len - p->pos < 4) {
		p->bad = true;
		p->nr_bits[lane] += 32;
		return;
	}
	for (unsigned int i = 0; i < 4; i++)
		word |= (uint64_t)p->src[p->pos++] << (8 * i);
	p->bits[lane] |= word << p->nr_bits[lane];
	p->nr_bits[lane] += 32;
}

/* Bits inside of a slot; its end is plain_refill(). */
static inline unsigned int plain_bits(struct plain *p, unsigned int lane,
				      unsigned int n)
{
	unsigned int v = 0;

	for (unsigned int i = 0; i < n; i++) {
		v |= (unsigned int)(p->bits[lane] & 1) << i;
		p->bits[lane] >>= 1;
		p->nr_bits[lane]--;
	}
	return v;
}

static inline unsigned int plain_slot(struct plain *p, unsigned int lane,
				      unsigned int n)
{
	unsigned int v = plain_bits(p, lane, n);

	plain_refill(p, lane);
	return v;
}

/* False: a code that no reader takes. */
static inline bool plain_make(struct plain_code *c, const unsigned int *lens,
			      unsigned int nr, bool may_be_single,
			      bool may_be_empty)
{
	unsigned int space = 0;

	memset(c, 0, sizeof(*c));
	for (unsigned int l = 1; l < 16; l++)
		for (unsigned int s = 0; s < nr; s++)
			if (lens[s] == l) {
				c->symbols[c->nr++] = s;
				c->count[l]++;
				space += 32768 >> l;
			}
	if (!c->nr)
		return may_be_empty;
	if (c->nr == 1 && c->count[1] == 1)
		return may_be_single;
	return space == 32768;
}

static inline unsigned int plain_symbol(struct plain *p, unsigned int lane,
					const struct plain_code *c)
{
	unsigned int code = 0, first = 0, index = 0;

	for (unsigned int l = 1; l < 16; l++) {
		code = code << 1 | plain_bits(p, lane, 1);
		if (code - first < c->count[l])
			return c->symbols[index + code - first];
		index += c->count[l];
		first = (first + c->count[l]) << 1;
	}
	return PLAIN_NO_SYMBOL;
}

static inline void plain_byte(struct plain *p, unsigned int v)
{
	if (p->out == p->len)
		p->bad = true;
	else
		p->dst[p->out++] = (uint8_t)v;
}

static inline void plain_length(struct plain *p, unsigned int lane,
				unsigned int sym)
{
	static const unsigned int base[] = {
		3,  4,	5,  6,	7,  8,	9,  10, 11,  13,  15,  17,  19,	 23, 27,
		31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 3
	};
	static const unsigned int extra[] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1,
					      1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
					      4, 4, 4, 4, 5, 5, 5, 5, 16 };
	size_t n;

	if (sym > 285) {
		p->bad = true;
		return;
	}
	n = base[sym - 257] + plain_bits(p, lane, extra[sym - 257]);
	if (n > p->len - p->out) {
		p->bad = true;
		return;
	}
	p->due_at[lane] = p->out;
	p->due_len[lane] = n;
	p->is_due[lane] = true;
	p->out += n;
}

static inline void plain_distance(struct plain *p, unsigned int lane,
				  const struct plain_code *c)
{
	static const unsigned int base[] = {
		1,    2,    3,	  4,	 5,	7,     9,     13,
		17,   25,   33,	  49,	 65,	97,    129,   193,
		257,  385,  513,  769,	 1025,	1537,  2049,  3073,
		4097, 6145, 8193, 12289, 16385, 24577, 32769, 49153
	};
	static const unsigned int extra[] = { 0,  0,  0,  0,  1,  1,  2,  2,
					      3,  3,  4,  4,  5,  5,  6,  6,
					      7,  7,  8,  8,  9,  9,  10, 10,
					      11, 11, 12, 12, 13, 13, 14, 14 };
	unsigned int sym = plain_symbol(p, lane, c);
	size_t dist, at = p->due_at[lane];

	p->is_due[lane] = false;
	if (sym > 31) {
		p->bad = true;
		return;
	}
	dist = base[sym] + plain_bits(p, lane, extra[sym]);
	plain_refill(p, lane);
	if (dist > at) {
		p->bad = true;
		return;
	}
	for (size_t i = 0; i < p->due_len[lane]; i++)
		p->dst[at + i] = p->dst[at + i - dist];
}

static inline void plain_symbols(struct plain *p, const struct plain_code *ll,
				 const struct plain_code *dd)
{
	unsigned int lane = 0, sym = 0;

	for (; !p->bad; lane = (lane + 1) % PLAIN_LANES) {
		if (p->is_due[lane]) {
			plain_distance(p, lane, dd);
			continue;
		}
		sym = plain_symbol(p, lane, ll);
		if (sym == PLAIN_NO_SYMBOL)
			p->bad = true;
		else if (sym < 256)
			plain_byte(p, sym);
		else if (sym > 256)
			plain_length(p, lane, sym);
		plain_refill(p, lane);
		if (sym == 256)
			break;
	}
	for (unsigned int i = 1; i < PLAIN_LANES && !p->bad; i++)
		if (p->is_due[(lane + i) % PLAIN_LANES])
			plain_distance(p, (lane + i) % PLAIN_LANES, dd);
}

static inline void plain_stored(struct plain *p)
{
	unsigned int n = plain_slot(p, 0, 16);

	for (unsigned int i = 0; i < n && !p->bad; i++)
		plain_byte(p, plain_slot(p, i % PLAIN_LANES, 8));
}

static inline bool plain_lengths(struct plain *p, unsigned int *lens,
				 unsigned int nr, const struct plain_code *pre)
{
	unsigned int i = 0, slot = 0;

	while (i < nr && !p->bad) {
		unsigned int lane = slot++ % PLAIN_LANES, run = 1, fill;

		fill = plain_symbol(p, lane, pre);
		if (fill == 16) {
			if (!i)
				return false;
			fill = lens[i - 1];
			run = 3 + plain_bits(p, lane, 2);
		} else if (fill == 17) {
			fill = 0;
			run = 3 + plain_bits(p, lane, 3);
		} else if (fill == 18) {
			fill = 0;
			run = 11 + plain_bits(p, lane, 7);
		}
		plain_refill(p, lane);
		if (run > nr - i)
			return false;
		while (run--)
			lens[i++] = fill;
	}
	return !p->bad;
}

static inline bool plain_codes(struct plain *p, struct plain_code *ll,
			       struct plain_code *dd)
{
	static const unsigned int order[] = { 16, 17, 18, 0,  8, 7,  9,
					      6,  10, 5,  11, 4, 12, 3,
					      13, 2,  14, 1,  15 };
	unsigned int head = plain_slot(p, 0, 14), lens[320], pre_lens[19];
	unsigned int nr_ll = (head & 31) + 257, nr_dd = (head >> 5 & 31) + 1;
	struct plain_code pre;

	memset(pre_lens, 0, sizeof(pre_lens));
	for (unsigned int k = 0; k < (head >> 10) + 4; k++)
		pre_lens[order[k]] = plain_slot(p, k, 3);
	if (!plain_make(&pre, pre_lens, 19, false, false) ||
	    !plain_lengths(p, lens, nr_ll + nr_dd, &pre) || !lens[256])
		return false;
	return plain_make(ll, lens, nr_ll, true, false) &&
	       plain_make(dd, lens + nr_ll, nr_dd, true, true);
}

static inline void plain_static(struct plain_code *ll, struct plain_code *dd)
{
	unsigned int lens[288];

	for (unsigned int s = 0; s < 288; s++)
		lens[s] = s < 144 ? 8 : s < 256 ? 9 : s < 280 ? 7 : 8;
	plain_make(ll, lens, 288, false, false);
	for (unsigned int s = 0; s < 32; s++)
		lens[s] = 5;
	plain_make(dd, lens, 32, false, false);
}

/* Does src hold exactly one tile of exactly len bytes? Then dst has them. */
static inline bool plain_decode(const uint8_t *src, size_t src_len,
				uint8_t *dst, size_t len)
{
	struct plain_code ll, dd;
	bool last = false;
	struct plain p;

	memset(&p, 0, sizeof(p));
	p.src = src;
	p.src_len = src_len;
	p.dst = dst;
	p.len = len;
	if (src_len % 4 || src_len < 4 * (size_t)PLAIN_LANES)
		return false;
	for (unsigned int lane = 0; lane < PLAIN_LANES; lane++)
		plain_refill(&p, lane);
	while (!last && !p.bad) {
		unsigned int head = plain_slot(&p, 0, 3);

		last = head & 1;
		if (head >> 1 == 0) {
			plain_stored(&p);
			continue;
		}
		if (head >> 1 == 3)
			return false;
		if (head >> 1 == 1)
			plain_static(&ll, &dd);
		else if (!plain_codes(&p, &ll, &dd))
			return false;
		plain_symbols(&p, &ll, &dd);
	}
	return !p.bad && p.out == len && p.pos == src_len;
}

#endif
