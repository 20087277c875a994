/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_write.h - GDeflate tiles written slot by slot, from which tests make
 * valid and broken ones by hand. It shares no code with the coders, and says
 * with gdeflate_plain.h, which reads, what a tile is. Not for several threads
 * at one object.
 */
#ifndef BALE_TESTS_GDEFLATE_WRITE_H
#define BALE_TESTS_GDEFLATE_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A tile that is being written. */
struct gdw {
	uint32_t *words;
	uint32_t cap, nr; /* in words */
	struct {
		uint64_t bits;	  /* put in all */
		uint32_t at[2];	  /* words of the last bits and of the next */
		uint32_t pending; /* distance slot to come: its bits */
		uint32_t value;
	} lane[32];
	uint32_t turn; /* lane of the next symbol */
};

/* words: room for cap of them, zeroed here. */
void gdw_init(struct gdw *w, uint32_t *words, uint32_t cap);
/* One slot: the low `bits` of value, 1 to 31. */
void gdw_slot(struct gdw *w, uint32_t lane, uint32_t value, uint32_t bits);
void gdw_block(struct gdw *w, bool last, uint32_t type);
void gdw_stored(struct gdw *w, bool last, const uint8_t *p, uint32_t len);
/* Code lengths as they are, each a precode symbol of 0..15: nr_litlen of lens,
 * then nr_dist. The precode: all 16 with 4 bits. */
void gdw_dynamic(struct gdw *w, bool last, const uint8_t *lens,
		 uint32_t nr_litlen, uint32_t nr_dist);
/* The same from a list of precode symbols and their extra bits << 5, which may
 * be wrong. The precode: 13 symbols of 4 bits, 16 to 18 and others of 5. */
void gdw_items(struct gdw *w, bool last, uint32_t nr_litlen, uint32_t nr_dist,
	       const uint16_t *items, uint32_t nr);
/* The canonical codes of lens, bit-reversed. */
void gdw_codes(const uint8_t *lens, uint32_t nr, uint16_t *codes);
/* The next symbol's slot, which waits for lanes that have a distance to write.
 * dist_bits != 0: a match, and what its lane writes a round later. */
void gdw_symbol(struct gdw *w, uint32_t value, uint32_t bits, uint32_t dist,
		uint32_t dist_bits);
/* After the end-of-block symbol: the distances that are left. */
void gdw_block_end(struct gdw *w);
/* Bytes of the tile. */
size_t gdw_len(const struct gdw *w);

#ifdef __cplusplus
}
#endif

#endif
