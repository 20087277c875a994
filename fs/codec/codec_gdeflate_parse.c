/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The quick parses of the GDeflate encoder: literals alone, greedy with one
 * candidate, lazy with chains of candidates.
 */
#include <string.h>

#include "fs/codec/codec_gdeflate_match.h"
#include "fs/codec/codec_gdeflate_write.h"

void bale_gd_parse_literals(struct bale_gd_encoder *e, const uint8_t *src,
			    size_t len)
{
	for (size_t i = 0; i < len; i++)
		e->tokens[i] = bale_gd_literal(src[i]);
	e->nr_tokens = len;
}

/* ---- greedy ---- */

enum {
	FAST_HASH_BITS = 14,
	/* One position more is skipped for each 2^this without a match. */
	FAST_SKIP = 6,
};

static inline uint32_t fast_slot(const uint8_t *p)
{
	return bale_gd_hash(bale_gd_load32(p), FAST_HASH_BITS);
}

static size_t put_literals(bale_gd_token *t, size_t nr, const uint8_t *src,
			   size_t from, size_t to)
{
	for (; from < to; from++)
		t[nr++] = bale_gd_literal(src[from]);
	return nr;
}

void bale_gd_parse_greedy(struct bale_gd_encoder *e, const uint8_t *src,
			  size_t len)
{
	uint16_t *head = e->finder.head;
	size_t pos = 0, from = 0, nr = 0;

	memset(head, 0, sizeof(*head) << FAST_HASH_BITS);
	while (pos + 8 <= len) {
		uint32_t h = fast_slot(src + pos);
		size_t cand = head[h], n;

		head[h] = (uint16_t)pos;
		if (cand >= pos ||
		    bale_gd_load32(src + cand) != bale_gd_load32(src + pos)) {
			pos += 1 + ((pos - from) >> FAST_SKIP);
			continue;
		}
		n = 4 +
		    bale_gd_same(src + cand + 4, src + pos + 4, len - pos - 4);
		while (pos > from && cand && src[pos - 1] == src[cand - 1]) {
			pos--;
			cand--;
			n++;
		}
		nr = put_literals(e->tokens, nr, src, from, pos);
		e->tokens[nr++] =
			bale_gd_match((uint32_t)n, (uint32_t)(pos - cand));
		pos += n;
		from = pos;
		if (pos + 6 <= len)
			head[fast_slot(src + pos - 2)] = (uint16_t)(pos - 2);
	}
	e->nr_tokens = put_literals(e->tokens, nr, src, from, len);
}

/* ---- lazy ---- */

enum {
	DEPTH = 40,
	/* A match of this length is taken without a look at the next byte. */
	NICE = 96,
	/* A good one makes the look at the next byte a short one. */
	GOOD = 24,
	/* A match of 3 from further away costs more than 3 literals. */
	DIST3_MAX = 4096,
	/* Positions inside of longer matches are not all entered. */
	ENTER_MAX = 512,
};

struct found {
	uint32_t len, dist;
};

static void enter(struct bale_gd_finder *f, const uint8_t *src, size_t pos,
		  uint32_t *ret_cand, uint32_t *ret_cand3)
{
	uint32_t v = bale_gd_load32(src + pos);
	uint32_t h = bale_gd_hash(v, BALE_GD_HASH_BITS);
	uint32_t h3 = bale_gd_hash(v << 8, BALE_GD_HASH3_BITS);

	*ret_cand = f->head[h];
	*ret_cand3 = f->head3[h3];
	f->prev[pos] = f->head[h];
	f->head[h] = (uint16_t)pos;
	f->head3[h3] = (uint16_t)pos;
}

/*
 * Enter pos and find the longest match there that is longer than `than`; len 0:
 * none. At least 8 bytes are left at pos.
 */
static struct found find(struct bale_gd_finder *f, const uint8_t *src,
			 size_t pos, size_t len, uint32_t than,
			 unsigned int depth)
{
	struct found best = { 0, 0 };
	uint32_t cand, cand3, limit = (uint32_t)pos;
	size_t left = len - pos;

	enter(f, src, pos, &cand, &cand3);
	if (than < 3 && cand3 < pos && pos - cand3 <= DIST3_MAX &&
	    (bale_gd_load32(src + cand3) ^ bale_gd_load32(src + pos)) << 8 ==
		    0) {
		best = (struct found){ 3, (uint32_t)pos - cand3 };
		than = 3;
	}
	if (than < 3)
		than = 3;
	for (; cand < limit && depth; depth--) {
		size_t n;

		limit = cand;
		/* Longer only if it goes on where the best one ends. */
		if (than < left &&
		    bale_gd_load32(src + cand + than - 3) ==
			    bale_gd_load32(src + pos + than - 3) &&
		    bale_gd_load32(src + cand) == bale_gd_load32(src + pos)) {
			n = 4 + bale_gd_same(src + cand + 4, src + pos + 4,
					     left - 4);
			if (n > than) {
				than = (uint32_t)n;
				best = (struct found){ than,
						       (uint32_t)pos - cand };
				if (n >= NICE)
					break;
			}
		}
		cand = f->prev[cand];
	}
	return best;
}

void bale_gd_finder_enter(struct bale_gd_finder *f, const uint8_t *src,
			  size_t pos)
{
	uint32_t a, b;

	enter(f, src, pos, &a, &b);
}

static void enter_range(struct bale_gd_finder *f, const uint8_t *src,
			size_t from, size_t to, size_t len)
{
	uint32_t a, b;

	if (to > from + ENTER_MAX)
		from = to - ENTER_MAX;
	for (; from < to && from + 8 <= len; from++)
		enter(f, src, from, &a, &b);
}

/* Is b, one byte later, worth a literal more than a? Distances cost bits. */
static inline bool is_better(struct found a, struct found b)
{
	return 4 * (int)(b.len - a.len) + ((int)bale_gd_top_bit(a.dist) -
					   (int)bale_gd_top_bit(b.dist)) >
	       2;
}

void bale_gd_parse_lazy(struct bale_gd_encoder *e, const uint8_t *src,
			size_t len)
{
	struct bale_gd_finder *f = &e->finder;
	size_t pos = 0, nr = 0;

	memset(f->head, 0, sizeof(f->head));
	memset(f->head3, 0, sizeof(f->head3));
	while (pos + 8 <= len) {
		struct found a = find(f, src, pos, len, 2, DEPTH);

		if (!a.len) {
			e->tokens[nr++] = bale_gd_literal(src[pos++]);
			continue;
		}
		while (a.len < NICE && pos + 9 <= len) {
			struct found b =
				find(f, src, pos + 1, len, a.len - 1,
				     a.len >= GOOD ? DEPTH / 4 : DEPTH / 2);

			if (!b.len || !is_better(a, b))
				break;
			e->tokens[nr++] = bale_gd_literal(src[pos++]);
			a = b;
		}
		e->tokens[nr++] = bale_gd_match(a.len, a.dist);
		/* pos is entered, and mostly pos + 1. */
		enter_range(f, src, pos + 2, pos + a.len, len);
		pos += a.len;
	}
	e->nr_tokens = put_literals(e->tokens, nr, src, pos, len);
}
