/* SPDX-License-Identifier: Apache-2.0 */
#include "gdeflate_write.h"

#include <stdlib.h>
#include <string.h>

enum { LANES = 32 };

static const uint8_t precode_order[19] = { 16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
					   11, 4,  12, 3, 13, 2, 14, 1, 15 };

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
	uint16_t items[288 + 32];

	for (uint32_t i = 0; i < nr_litlen + nr_dist; i++)
		items[i] = lens[i];
	gdw_items(w, last, nr_litlen, nr_dist, items, nr_litlen + nr_dist);
}

void gdw_items(struct gdw *w, bool last, uint32_t nr_litlen, uint32_t nr_dist,
	       const uint16_t *items, uint32_t nr)
{
	static const uint8_t extra[3] = { 2, 3, 7 };
	uint8_t precode[19];
	uint16_t codes[19];

	gdw_block(w, last, 2);
	gdw_slot(w, 0, (nr_litlen - 257) | (nr_dist - 1) << 5 | (19 - 4) << 10,
		 14);
	for (uint32_t i = 0; i < 19; i++)
		precode[i] = i < 13 ? 4 : 5;
	gdw_codes(precode, 19, codes);
	for (uint32_t i = 0; i < 19; i++)
		gdw_slot(w, i, precode[precode_order[i]], 3);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t sym = items[i] & 31, bits = precode[sym];

		gdw_slot(w, i % LANES,
			 codes[sym] | (uint32_t)(items[i] >> 5) << bits,
			 bits + (sym < 16 ? 0 : extra[sym - 16]));
	}
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
