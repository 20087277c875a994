/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_ref.h - GDeflate tiles in their plainest form, to judge the real
 * coders by: a reader that goes slot by slot, and a writer of slots from which
 * tests make tiles by hand. Neither is fast; they share no code with the
 * coders. Not for several threads at one object.
 */
#ifndef BALE_TESTS_GDEFLATE_REF_H
#define BALE_TESTS_GDEFLATE_REF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a tile was made of. */
struct gdr_stats {
	uint32_t blocks[3]; /* stored, static, dynamic */
	uint32_t matches;
	uint32_t longest; /* code of a symbol that was read */
};

/*
 * Decodes src to at most cap bytes. True and *ret_len when it is a tile to its
 * last word. Writes nothing outside dst[0..cap), reads nothing outside src.
 * stats may be NULL.
 */
bool gdr_decode(const uint8_t *src, size_t len, uint8_t *dst, size_t cap,
		size_t *ret_len, struct gdr_stats *stats);

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
