/* SPDX-License-Identifier: Apache-2.0 */
#include "gdeflate_ref.h"

#include <stdlib.h>
#include <string.h>

enum { LANES = 32 };

static const uint16_t len_base[29] = { 3,   4,	 5,   6,   7,  8,  9,  10,
				       11,  13,	 15,  17,  19, 23, 27, 31,
				       35,  43,	 51,  59,  67, 83, 99, 115,
				       131, 163, 195, 227, 3 };
static const uint8_t len_extra[29] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1,
				       1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
				       4, 4, 4, 4, 5, 5, 5, 5, 16 };
static const uint16_t dist_base[32] = {
	1,    2,    3,	  4,	5,    7,     9,	    13,	   17,	  25,	33,
	49,   65,   97,	  129,	193,  257,   385,   513,   769,	  1025, 1537,
	2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577, 32769, 49153
};
static const uint8_t dist_extra[32] = { 0,  0,	0,  0,	1,  1,	2,  2,
					3,  3,	4,  4,	5,  5,	6,  6,
					7,  7,	8,  8,	9,  9,	10, 10,
					11, 11, 12, 12, 13, 13, 14, 14 };
static const uint8_t precode_order[19] = { 16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
					   11, 4,  12, 3, 13, 2, 14, 1, 15 };

/* ---- reading ---- */

struct code {
	uint16_t count[16];
	uint16_t symbols[288];
};

struct reader {
	const uint8_t *src;
	size_t words, next;
	struct {
		uint64_t buffer;
		unsigned int bits;
		uint32_t pending; /* length of a match without distance */
		size_t where;
	} lane[LANES];
	uint8_t *dst;
	size_t at, cap;
	struct code litlen, dist;
	struct gdr_stats stats;
	bool bad;
};

static void refill(struct reader *r, unsigned int lane)
{
	const uint8_t *p = r->src + 4 * r->next;
	uint32_t v;

	if (r->lane[lane].bits >= 32)
		return;
	if (r->next == r->words) {
		r->bad = true;
		return;
	}
	v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	    (uint32_t)p[3] << 24;
	r->next++;
	r->lane[lane].buffer |= (uint64_t)v << r->lane[lane].bits;
	r->lane[lane].bits += 32;
}

static uint32_t get(struct reader *r, unsigned int lane, unsigned int nr)
{
	uint32_t v = (uint32_t)(r->lane[lane].buffer & ((1ull << nr) - 1));

	r->lane[lane].buffer >>= nr;
	r->lane[lane].bits -= nr;
	return v;
}

static uint32_t get_slot(struct reader *r, unsigned int lane, unsigned int nr)
{
	uint32_t v = get(r, lane, nr);

	refill(r, lane);
	return v;
}

/* Code by code length, one bit at a time. */
static unsigned int get_symbol(struct reader *r, const struct code *c,
			       unsigned int lane)
{
	unsigned int code = 0, first = 0, index = 0;

	for (unsigned int len = 1; len <= 15; len++) {
		code |= get(r, lane, 1);
		if (code - first < c->count[len]) {
			if (len > r->stats.longest)
				r->stats.longest = len;
			return c->symbols[index + code - first];
		}
		index += c->count[len];
		first = (first + c->count[len]) << 1;
		code <<= 1;
	}
	r->bad = true;
	return 0;
}

enum kind { PRECODE, LITLEN, DIST };

static void make_code(struct reader *r, struct code *c, const uint8_t *lens,
		      unsigned int nr, enum kind kind)
{
	unsigned int offset[16], used = 0, space = 0;

	memset(c, 0, sizeof(*c));
	for (unsigned int i = 0; i < nr; i++)
		if (lens[i])
			c->count[lens[i]]++;
	for (unsigned int len = 1; len <= 15; len++) {
		offset[len] = used;
		used += c->count[len];
		space += (unsigned int)c->count[len] << (15 - len);
	}
	for (unsigned int i = 0; i < nr; i++)
		if (lens[i])
			c->symbols[offset[lens[i]]++] = (uint16_t)i;
	if (space == 1u << 15)
		return;
	if (kind != PRECODE && used == 1 && c->count[1] == 1)
		return;
	if (kind == DIST && used == 0)
		return;
	r->bad = true;
}

static void read_stored(struct reader *r)
{
	uint32_t len = get_slot(r, 0, 16);

	for (uint32_t i = 0; i < len && !r->bad; i++) {
		uint32_t v = get_slot(r, i % LANES, 8);

		if (r->at == r->cap)
			r->bad = true;
		else
			r->dst[r->at++] = (uint8_t)v;
	}
}

static void read_lengths(struct reader *r, uint8_t *lens, unsigned int nr)
{
	unsigned int lane = 0, at = 0;

	while (at < nr && !r->bad) {
		unsigned int sym = get_symbol(r, &r->litlen, lane), run = 1;
		uint8_t v = (uint8_t)sym;

		if (sym == 16) {
			run = 3 + get(r, lane, 2);
			if (!at) {
				r->bad = true;
				return;
			}
			v = lens[at - 1];
		} else if (sym > 16) {
			run = sym == 17 ? 3 + get(r, lane, 3) :
					  11 + get(r, lane, 7);
			v = 0;
		}
		refill(r, lane);
		lane = (lane + 1) % LANES;
		if (run > nr - at) {
			r->bad = true;
			return;
		}
		memset(lens + at, v, run);
		at += run;
	}
}

static void read_dynamic(struct reader *r)
{
	uint32_t head = get_slot(r, 0, 14);
	unsigned int litlen = (head & 31) + 257, dist = (head >> 5 & 31) + 1;
	unsigned int nr = (head >> 10) + 4;
	uint8_t lens[288 + 32] = { 0 };

	for (unsigned int i = 0; i < nr; i++)
		lens[precode_order[i]] = (uint8_t)get_slot(r, i, 3);
	make_code(r, &r->litlen, lens, 19, PRECODE);
	memset(lens, 0, sizeof(lens));
	if (!r->bad)
		read_lengths(r, lens, litlen + dist);
	if (r->bad)
		return;
	make_code(r, &r->litlen, lens, litlen, LITLEN);
	make_code(r, &r->dist, lens + litlen, dist, DIST);
}

static void read_static(struct reader *r)
{
	uint8_t lens[288];

	memset(lens, 8, 144);
	memset(lens + 144, 9, 112);
	memset(lens + 256, 7, 24);
	memset(lens + 280, 8, 8);
	make_code(r, &r->litlen, lens, 288, LITLEN);
	memset(lens, 5, 32);
	make_code(r, &r->dist, lens, 32, DIST);
}

static void read_distance(struct reader *r, unsigned int lane)
{
	unsigned int sym = get_symbol(r, &r->dist, lane);
	uint32_t dist = dist_base[sym] + get(r, lane, dist_extra[sym]);
	uint8_t *to = r->dst + r->lane[lane].where;

	refill(r, lane);
	if (dist > r->lane[lane].where)
		r->bad = true;
	for (uint32_t i = 0; i < r->lane[lane].pending && !r->bad; i++)
		to[i] = (to + i)[-(ptrdiff_t)dist];
	r->lane[lane].pending = 0;
	r->stats.matches++;
}

/* False at the end of the block. */
static bool read_litlen(struct reader *r, unsigned int lane)
{
	unsigned int sym = get_symbol(r, &r->litlen, lane);
	uint32_t len = 1;

	if (sym > 285)
		r->bad = true;
	else if (sym > 256)
		len = len_base[sym - 257] + get(r, lane, len_extra[sym - 257]);
	refill(r, lane);
	if (sym == 256)
		return false;
	if (len > r->cap - r->at)
		r->bad = true;
	if (r->bad)
		return true;
	if (sym < 256) {
		r->dst[r->at] = (uint8_t)sym;
	} else {
		r->lane[lane].pending = len;
		r->lane[lane].where = r->at;
	}
	r->at += len;
	return true;
}

static void read_symbols(struct reader *r)
{
	unsigned int lane = 0;

	for (; !r->bad; lane = (lane + 1) % LANES) {
		if (r->lane[lane].pending)
			read_distance(r, lane);
		else if (!read_litlen(r, lane))
			break;
	}
	for (unsigned int i = 1; i < LANES && !r->bad; i++)
		if (r->lane[(lane + i) % LANES].pending)
			read_distance(r, (lane + i) % LANES);
}

static void read_blocks(struct reader *r)
{
	uint32_t head;

	do {
		head = get_slot(r, 0, 3);
		if (head >> 1 == 3) {
			r->bad = true;
			return;
		}
		r->stats.blocks[head >> 1]++;
		if (head >> 1 == 0) {
			read_stored(r);
			continue;
		}
		if (head >> 1 == 1)
			read_static(r);
		else
			read_dynamic(r);
		if (!r->bad)
			read_symbols(r);
	} while (!(head & 1) && !r->bad);
}

bool gdr_decode(const uint8_t *src, size_t len, uint8_t *dst, size_t cap,
		size_t *ret_len, struct gdr_stats *stats)
{
	struct reader *r;
	bool ok;

	if (len % 4 || len < 4 * LANES)
		return false;
	r = calloc(1, sizeof(*r));
	if (!r)
		abort();
	r->src = src;
	r->words = len / 4;
	r->dst = dst;
	r->cap = cap;
	for (unsigned int i = 0; i < LANES; i++)
		refill(r, i);
	read_blocks(r);
	ok = !r->bad && r->next == r->words;
	*ret_len = r->at;
	if (stats)
		*stats = r->stats;
	free(r);
	return ok;
}

/* ---- writing ---- */

static uint32_t new_word(struct gdw *w)
{
	if (w->nr == w->cap)
		abort();
	return w->nr++;
}

void gdw_init(struct gdw *w, uint32_t *words, uint32_t cap)
{
	memset(w, 0, sizeof(*w));
	memset(words, 0, cap * sizeof(*words));
	w->words = words;
	w->cap = cap;
	for (unsigned int i = 0; i < LANES; i++)
		w->lane[i].at[1] = new_word(w);
}

/* Bit b of a lane is in its word b / 32; word n + 1 is there once more than
 * 32 n bits are. */
void gdw_slot(struct gdw *w, uint32_t lane, uint32_t value, uint32_t bits)
{
	uint64_t before = w->lane[lane].bits, after = before + bits;
	uint32_t at = w->lane[lane].at[before % 32 ? 0 : 1];

	for (uint64_t b = before; b < after; b++) {
		if (b != before && b % 32 == 0)
			at = w->lane[lane].at[1];
		w->words[at] |= (value >> (b - before) & 1) << (b % 32);
	}
	w->lane[lane].bits = after;
	if ((after + 31) / 32 > (before + 31) / 32) {
		w->lane[lane].at[0] = w->lane[lane].at[1];
		w->lane[lane].at[1] = new_word(w);
	}
}

void gdw_block(struct gdw *w, bool last, uint32_t type)
{
	gdw_slot(w, 0, (uint32_t)last | type << 1, 3);
	w->turn = 0;
}

void gdw_stored(struct gdw *w, bool last, const uint8_t *p, uint32_t len)
{
	gdw_block(w, last, 0);
	gdw_slot(w, 0, len, 16);
	for (uint32_t i = 0; i < len; i++)
		gdw_slot(w, i % LANES, p[i], 8);
}

void gdw_dynamic(struct gdw *w, bool last, const uint8_t *lens,
		 uint32_t nr_litlen, uint32_t nr_dist)
{
	uint8_t precode[19] = { 0 };
	uint16_t codes[19];

	gdw_block(w, last, 2);
	gdw_slot(w, 0, (nr_litlen - 257) | (nr_dist - 1) << 5 | (19 - 4) << 10,
		 14);
	memset(precode, 4, 16);
	gdw_codes(precode, 19, codes);
	for (uint32_t i = 0; i < 19; i++)
		gdw_slot(w, i, precode[precode_order[i]], 3);
	for (uint32_t i = 0; i < nr_litlen + nr_dist; i++)
		gdw_slot(w, i % LANES, codes[lens[i]], 4);
}

void gdw_codes(const uint8_t *lens, uint32_t nr, uint16_t *codes)
{
	uint32_t next = 0;

	for (uint32_t len = 1; len <= 15; len++, next <<= 1)
		for (uint32_t i = 0; i < nr; i++) {
			if (lens[i] != len)
				continue;
			codes[i] = 0;
			for (uint32_t b = 0; b < len; b++)
				codes[i] |= (uint16_t)((next >> b & 1)
						       << (len - 1 - b));
			next++;
		}
}

static void give_distance(struct gdw *w, uint32_t lane)
{
	gdw_slot(w, lane, w->lane[lane].value, w->lane[lane].pending);
	w->lane[lane].pending = 0;
}

void gdw_symbol(struct gdw *w, uint32_t value, uint32_t bits, uint32_t dist,
		uint32_t dist_bits)
{
	while (w->lane[w->turn].pending) {
		give_distance(w, w->turn);
		w->turn = (w->turn + 1) % LANES;
	}
	gdw_slot(w, w->turn, value, bits);
	w->lane[w->turn].pending = dist_bits;
	w->lane[w->turn].value = dist;
	w->turn = (w->turn + 1) % LANES;
}

void gdw_block_end(struct gdw *w)
{
	for (uint32_t i = 0; i < LANES; i++, w->turn = (w->turn + 1) % LANES)
		if (w->lane[w->turn].pending)
			give_distance(w, w->turn);
	w->turn = 0;
}

size_t gdw_len(const struct gdw *w)
{
	return 4 * (size_t)w->nr;
}
