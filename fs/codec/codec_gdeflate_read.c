/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The portable GDeflate reader, and the parts that all of them share: block
 * headers, stored blocks, and running the tokens (codec_gdeflate_read.h).
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/codec/codec_gdeflate_simd.h"

struct bale_gd_decoder *bale_gd_decoder_create(void)
{
	struct bale_gd_decoder *d;
	size_t align = _Alignof(struct bale_gd_decoder);

	d = aligned_alloc(align, (sizeof(*d) + align - 1) & -align);
	if (d)
		memset(d, 0, sizeof(*d));
	return d;
}

void bale_gd_decoder_destroy(struct bale_gd_decoder *d)
{
	free(d);
}

/* ---- running tokens ---- */

enum {
	WIDE = 16,
	/* What a wide copy may write behind its end. */
	OVERRUN = 2 * WIDE,
};

static inline void copy_wide(uint8_t *to, const uint8_t *from, size_t n)
{
	size_t i = 0;

	do {
		memcpy(to + i, from + i, WIDE);
		i += WIDE;
	} while (i < n);
}

/* OVERRUN bytes behind to + n may be written. */
static inline void copy_match_wide(uint8_t *to, size_t dist, size_t n)
{
	const uint8_t *from = to - dist;
	uint8_t *end = to + n;

	/* A short period is doubled until a wide piece holds whole ones. */
	while (dist < WIDE) {
		uint8_t piece[WIDE];

		memcpy(piece, from, WIDE);
		memcpy(to, piece, WIDE);
		to += dist;
		dist *= 2;
		if (to >= end)
			return;
	}
	copy_wide(to, from, (size_t)(end - to));
}

static void copy_match_exact(uint8_t *to, size_t dist, size_t n)
{
	const uint8_t *from = to - dist;

	for (size_t i = 0; i < n; i++)
		to[i] = from[i];
}

/* Literals [from, to) of the tokens; room: bytes left of the tile, enough. */
static inline void put_lits(struct bale_gd_decoder *d, uint32_t from,
			    uint32_t to)
{
	size_t n = to - from, room = d->len - d->out;

	if (bale_likely(room >= n + OVERRUN))
		copy_wide(d->dst + d->out, d->lit + from, n);
	else
		memcpy(d->dst + d->out, d->lit + from, n);
	d->out += n;
}

/* What is left of the tokens after `done` matches and `lit` literals. */
static void keep_rest(struct bale_gd_decoder *d, uint32_t done, uint32_t lit)
{
	memmove(d->lit, d->lit + lit, d->nr_lits - lit);
	d->nr_lits -= lit;
	d->nr_lens -= done;
	d->nr_dists -= done;
	for (uint32_t i = 0; i < d->nr_lens; i++) {
		d->lits_before[i] = d->lits_before[done + i] - lit;
		d->lens[i] = d->lens[done + i];
	}
}

int bale_gd_flush(struct bale_gd_decoder *d)
{
	uint32_t from = 0, to, nr = d->nr_dists;

	for (uint32_t i = 0; i < nr; i++) {
		size_t n = d->lens[i], dist = d->dists[i];

		to = d->lits_before[i];
		if (n + (to - from) > d->len - d->out)
			return -EUCLEAN;
		put_lits(d, from, to);
		from = to;
		if (dist > d->out)
			return -EUCLEAN;
		if (bale_likely(d->len - d->out >= n + OVERRUN))
			copy_match_wide(d->dst + d->out, dist, n);
		else
			copy_match_exact(d->dst + d->out, dist, n);
		d->out += n;
	}
	to = nr < d->nr_lens ? d->lits_before[nr] : d->nr_lits;
	if (to - from > d->len - d->out)
		return -EUCLEAN;
	put_lits(d, from, to);
	keep_rest(d, nr, to);
	return 0;
}

/* ---- symbols ---- */

/* What the loop over slots keeps in registers. */
struct cursor {
	const uint8_t *in;
	uint32_t pending, nr_lits, nr_lens, nr_dists;
};

static inline struct cursor cursor_of(const struct bale_gd_decoder *d)
{
	return (struct cursor){ d->in, d->pending, d->nr_lits, d->nr_lens,
				d->nr_dists };
}

static inline void cursor_put(struct bale_gd_decoder *d, struct cursor c)
{
	d->in = c.in;
	d->pending = c.pending;
	d->nr_lits = c.nr_lits;
	d->nr_lens = c.nr_lens;
	d->nr_dists = c.nr_dists;
}

/*
 * One slot: reads a symbol, files it as the token that it is by writing it as
 * each kind and counting only one. Returns the entry; a special one (end of
 * block, no symbol) has been consumed and files nothing.
 */
static inline __attribute__((always_inline)) uint32_t
slot(struct bale_gd_decoder *d, struct cursor *c, uint32_t lane, bool checked)
{
	uint64_t b = d->buf[lane];
	uint32_t n = d->cnt[lane], is_dist = c->pending >> lane & 1, e, v, need;
	uint32_t at = is_dist ? BALE_GD_DIST_AT : 0;
	uint32_t root = is_dist ? BALE_GD_DIST_ROOT : BALE_GD_LITLEN_ROOT;

	e = d->table[at + bale_gd_low_bits(b, root)];
	if (bale_unlikely(e & 1 << BALE_GD_E_SUB))
		e = d->table[(e >> BALE_GD_E_BASE) +
			     bale_gd_low_bits(b >> root,
					      e >> BALE_GD_E_CODE & 15)];
	v = (e >> BALE_GD_E_BASE) + (uint32_t)(bale_gd_low_bits(b, e & 31) >>
					       (e >> BALE_GD_E_CODE & 15));
	d->lit[c->nr_lits] = (uint8_t)v;
	c->nr_lits += e >> BALE_GD_E_LIT & 1;
	d->lens[c->nr_lens] = v;
	d->lits_before[c->nr_lens] = c->nr_lits;
	c->nr_lens += e >> BALE_GD_E_LEN & 1;
	d->dists[c->nr_dists] = v;
	c->nr_dists += e >> BALE_GD_E_DIST & 1;
	c->pending = (c->pending & ~(1U << lane)) | (e >> BALE_GD_E_LEN & 1)
							    << lane;

	b >>= e & 31;
	n -= e & 31;
	need = n < 32;
	if (!checked) {
		b |= (uint64_t)(bale_gd_load_word(c->in) & -need) << n;
		c->in += need * 4;
	} else if (need && c->in == d->end) {
		d->bad = true;
	} else if (need) {
		b |= (uint64_t)bale_gd_load_word(c->in) << n;
		c->in += 4;
	}
	d->buf[lane] = b;
	d->cnt[lane] = n + need * 32;
	return e;
}

/* Lane `lane` has read the end: distances that are still due, in their order.
 */
static int block_tail(struct bale_gd_decoder *d, struct cursor *c,
		      uint32_t lane)
{
	for (uint32_t i = 1; i < BALE_GD_LANES && !d->bad; i++) {
		uint32_t l = (lane + i) % BALE_GD_LANES;

		if (c->pending >> l & 1 &&
		    slot(d, c, l, true) & 1 << BALE_GD_E_SPECIAL)
			return -EUCLEAN;
	}
	return d->bad ? -EUCLEAN : 1;
}

static inline __attribute__((always_inline)) int
round_of(struct bale_gd_decoder *d, struct cursor *c, bool checked)
{
	for (uint32_t lane = 0; lane < BALE_GD_LANES; lane++) {
		uint32_t e = slot(d, c, lane, checked);

		if (checked && d->bad)
			return -EUCLEAN;
		if (bale_unlikely(e & 1 << BALE_GD_E_SPECIAL))
			return e & 1 << BALE_GD_E_END ? block_tail(d, c, lane) :
							-EUCLEAN;
	}
	return 0;
}

int bale_gd_round_checked(struct bale_gd_decoder *d)
{
	struct cursor c = cursor_of(d);
	int r = round_of(d, &c, true);

	cursor_put(d, c);
	return r;
}

static int rounds_scalar(struct bale_gd_decoder *d)
{
	struct cursor c = cursor_of(d);
	int r = 0;

	while (!r) {
		if (bale_gd_is_full(d)) {
			r = bale_gd_flush(d);
			if (r)
				break;
			c = cursor_of(d);
		}
		/* A round takes a word for each lane at most. */
		if (d->end - c.in >= BALE_GD_LANES * 4)
			r = round_of(d, &c, false);
		else
			r = round_of(d, &c, true);
		cursor_put(d, c);
	}
	return r < 0 ? r : 0;
}

/* ---- blocks ---- */

static uint32_t take(struct bale_gd_decoder *d, uint32_t lane, uint32_t n)
{
	uint32_t v = (uint32_t)bale_gd_low_bits(d->buf[lane], n);

	bale_gd_consume(d, lane, n);
	return v;
}

static int stored_block(struct bale_gd_decoder *d)
{
	uint32_t n = take(d, 0, BALE_GD_STORED_LEN_BITS);

	for (uint32_t i = 0; i < n && !d->bad; i++) {
		d->lit[d->nr_lits++] = (uint8_t)take(d, i % BALE_GD_LANES, 8);
		if (bale_gd_is_full(d)) {
			int r = bale_gd_flush(d);

			if (r)
				return r;
		}
	}
	return d->bad ? -EUCLEAN : 0;
}

/* Lengths of the litlen and distance codes, one list of nr. */
static int read_code_lens(struct bale_gd_decoder *d, uint32_t nr)
{
	uint32_t i = 0, lane = 0;

	for (; i < nr && !d->bad; lane = (lane + 1) % BALE_GD_LANES) {
		uint64_t b = d->buf[lane];
		uint32_t e =
			d->table[bale_gd_low_bits(b, BALE_GD_PRECODE_ROOT)];
		uint32_t sym = e >> BALE_GD_E_BASE, run;
		uint8_t fill = 0;

		run = (uint32_t)bale_gd_low_bits(b, e & 31) >>
		      (e >> BALE_GD_E_CODE & 15);
		bale_gd_consume(d, lane, e & 31);
		if (sym < BALE_GD_RUN_LAST) {
			d->code_lens[i++] = (uint8_t)sym;
			continue;
		}
		run += sym == BALE_GD_RUN_ZEROS ? 11 : 3;
		if (sym == BALE_GD_RUN_LAST) {
			if (!i)
				return -EUCLEAN;
			fill = d->code_lens[i - 1];
		}
		if (run > nr - i)
			return -EUCLEAN;
		memset(d->code_lens + i, fill, run);
		i += run;
	}
	return d->bad ? -EUCLEAN : 0;
}

static int read_codes(struct bale_gd_decoder *d)
{
	uint32_t head = take(d, 0, BALE_GD_DYNAMIC_BITS);
	uint32_t nr_litlen = (head & 31) + BALE_GD_LITLEN_MIN;
	uint32_t nr_dist = (head >> 5 & 31) + 1;
	uint32_t nr_pre = (head >> 10) + BALE_GD_PRECODE_MIN;
	uint8_t pre[BALE_GD_PRECODE_NR] = { 0 };
	int r;

	for (uint32_t k = 0; k < nr_pre; k++) {
		uint8_t v = (uint8_t)take(d, k, 3);

		pre[bale_gd_precode_order(k)] = v;
	}
	r = bale_gd_build_precode(d->table, pre);
	if (!r)
		r = read_code_lens(d, nr_litlen + nr_dist);
	/* A block that cannot end. */
	if (!r && !d->code_lens[BALE_GD_END])
		r = -EUCLEAN;
	if (r)
		return r;
	return bale_gd_build_codes(d->table, d->code_lens, nr_litlen,
				   d->code_lens + nr_litlen, nr_dist);
}

static int static_codes(struct bale_gd_decoder *d)
{
	uint8_t *bits = d->code_lens;

	for (uint32_t s = 0; s < BALE_GD_LITLEN_NR; s++)
		bits[s] = (uint8_t)bale_gd_static_litlen_bits(s);
	memset(bits + BALE_GD_LITLEN_NR, BALE_GD_STATIC_DIST_BITS,
	       BALE_GD_DIST_NR);
	return bale_gd_build_codes(d->table, bits, BALE_GD_LITLEN_NR,
				   bits + BALE_GD_LITLEN_NR, BALE_GD_DIST_NR);
}

static int one_block(struct bale_gd_decoder *d, bale_gd_rounds_fn *rounds,
		     uint32_t type)
{
	int r;

	switch (type) {
	case BALE_GD_STORED:
		return stored_block(d);
	case BALE_GD_STATIC:
		r = static_codes(d);
		break;
	case BALE_GD_DYNAMIC:
		r = read_codes(d);
		break;
	default:
		return -EUCLEAN;
	}
	return r || d->bad ? -EUCLEAN : rounds(d);
}

static void start(struct bale_gd_decoder *d, const uint8_t *src, size_t src_len,
		  uint8_t *dst, size_t len)
{
	for (uint32_t lane = 0; lane < BALE_GD_LANES; lane++) {
		d->buf[lane] = bale_gd_load_word(src + (size_t)4 * lane);
		d->cnt[lane] = 32;
	}
	d->in = src + BALE_GD_TILE_MIN;
	d->end = src + src_len;
	d->pending = 0;
	d->bad = false;
	d->dst = dst;
	d->len = len;
	d->out = 0;
	d->nr_lits = d->nr_lens = d->nr_dists = 0;
}

int bale_gd_decode_with(struct bale_gd_decoder *d, bale_gd_rounds_fn *rounds,
			const uint8_t *src, size_t src_len, uint8_t *dst,
			size_t len)
{
	bool last = false;
	int r = 0;

	if (src_len < BALE_GD_TILE_MIN || src_len % 4 || !len ||
	    len > BALE_UNIT_SIZE)
		return -EUCLEAN;
	start(d, src, src_len, dst, len);
	/* Each turn takes bits of the tile, so it ends. */
	while (!r && !last) {
		uint32_t head = take(d, 0, BALE_GD_BLOCK_BITS);

		last = head & 1;
		r = one_block(d, rounds, head >> 1);
	}
	if (!r)
		r = bale_gd_flush(d);
	if (r)
		return r;
	return d->out == len && d->in == d->end && !d->bad ? 0 : -EUCLEAN;
}

static int decode_scalar(struct bale_gd_decoder *d, const uint8_t *src,
			 size_t src_len, uint8_t *dst, size_t len)
{
	return bale_gd_decode_with(d, rounds_scalar, src, src_len, dst, len);
}

const struct bale_gd_reader bale_gd_reader_scalar = {
	.name = "scalar",
	.decode = decode_scalar,
};
