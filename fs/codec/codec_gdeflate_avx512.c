/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GDeflate reader for AVX-512 (F, BW, VL, VBMI2, VPOPCNTDQ: Ice Lake, Zen 4
 * and later): one round of 32 slots at a time, lanes side by side in vectors of
 * 32-bit halves. Table entries come by gathers, refill words by an expanding
 * load in lane order, tokens leave through compressing moves.
 *
 * Rounds that meet the end of a block, a pattern without a symbol, or the end
 * of the tile go to the portable reader's round: the vectors only ever see what
 * cannot fail.
 */
#include "fs/codec/codec_gdeflate_simd.h"

#if BALE_GD_HAVE_X86

#include <immintrin.h>

#define TARGET                                                                 \
	__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,"         \
			      "avx512vpopcntdq,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { HALF = BALE_GD_LANES / 2 };

/* 16 lanes. */
struct half {
	__m512i lo, hi, cnt; /* buffer of 64 bits, and how many there are */
};

INLINE struct half half_load(const struct bale_gd_decoder *d, int first)
{
	__m512i a = _mm512_load_si512(d->buf + first);
	__m512i b = _mm512_load_si512(d->buf + first + 8);
	struct half h;

	h.lo = _mm512_inserti64x4(
		_mm512_castsi256_si512(_mm512_cvtepi64_epi32(a)),
		_mm512_cvtepi64_epi32(b), 1);
	h.hi = _mm512_inserti64x4(
		_mm512_castsi256_si512(
			_mm512_cvtepi64_epi32(_mm512_srli_epi64(a, 32))),
		_mm512_cvtepi64_epi32(_mm512_srli_epi64(b, 32)), 1);
	h.cnt = _mm512_load_si512(d->cnt + first);
	return h;
}

INLINE __m512i wide(__m256i lo, __m256i hi)
{
	return _mm512_or_si512(
		_mm512_cvtepu32_epi64(lo),
		_mm512_slli_epi64(_mm512_cvtepu32_epi64(hi), 32));
}

INLINE void half_store(struct bale_gd_decoder *d, int first, struct half h)
{
	_mm512_store_si512(d->buf + first, wide(_mm512_castsi512_si256(h.lo),
						_mm512_castsi512_si256(h.hi)));
	_mm512_store_si512(d->buf + first + 8,
			   wide(_mm512_extracti64x4_epi64(h.lo, 1),
				_mm512_extracti64x4_epi64(h.hi, 1)));
	_mm512_store_si512(d->cnt + first, h.cnt);
}

INLINE __m512i low_bits(__m512i v, __m512i n)
{
	return _mm512_andnot_si512(_mm512_sllv_epi32(_mm512_set1_epi32(-1), n),
				   v);
}

/* Entries of all lanes; those of the lanes in dist from the distance code. */
INLINE __m512i lookup(const uint32_t *table, __m512i lo, __mmask16 dist)
{
	const __m512i litlen_mask =
		_mm512_set1_epi32((1 << BALE_GD_LITLEN_ROOT) - 1);
	const __m512i dist_mask =
		_mm512_set1_epi32((1 << BALE_GD_DIST_ROOT) - 1);
	__m512i idx = _mm512_and_si512(
		lo, _mm512_mask_mov_epi32(litlen_mask, dist, dist_mask));

	idx = _mm512_mask_add_epi32(idx, dist, idx,
				    _mm512_set1_epi32(BALE_GD_DIST_AT));
	return _mm512_i32gather_epi32(idx, table, 4);
}

/* The same behind the lanes in sub, whose entries name a second table. */
INLINE __m512i lookup_second(const uint32_t *table, __m512i e, __m512i lo,
			     __mmask16 dist, __mmask16 sub)
{
	__m512i root = _mm512_mask_mov_epi32(
		_mm512_set1_epi32(BALE_GD_LITLEN_ROOT), dist,
		_mm512_set1_epi32(BALE_GD_DIST_ROOT));
	__m512i width = _mm512_and_si512(_mm512_srli_epi32(e, BALE_GD_E_CODE),
					 _mm512_set1_epi32(15));
	__m512i idx =
		_mm512_add_epi32(_mm512_srli_epi32(e, BALE_GD_E_BASE),
				 low_bits(_mm512_srlv_epi32(lo, root), width));

	return _mm512_mask_i32gather_epi32(e, sub, idx, table, 4);
}

/* What the slots of entries e say: base and extra bits. */
INLINE __m512i values(__m512i e, __m512i lo)
{
	__m512i slot = _mm512_and_si512(e, _mm512_set1_epi32(31));
	__m512i code = _mm512_and_si512(_mm512_srli_epi32(e, BALE_GD_E_CODE),
					_mm512_set1_epi32(15));

	return _mm512_add_epi32(_mm512_srli_epi32(e, BALE_GD_E_BASE),
				_mm512_srlv_epi32(low_bits(lo, slot), code));
}

/* End of the slots: take their bits, and a word where fewer than 32 are left.
 */
INLINE const uint8_t *consume(struct half *h, __m512i e, const uint8_t *in)
{
	const __m512i full = _mm512_set1_epi32(32);
	__m512i slot = _mm512_and_si512(e, _mm512_set1_epi32(31)), words;
	__mmask16 need;

	h->lo = _mm512_shrdv_epi32(h->lo, h->hi, slot);
	h->hi = _mm512_srlv_epi32(h->hi, slot);
	h->cnt = _mm512_sub_epi32(h->cnt, slot);
	need = _mm512_cmplt_epu32_mask(h->cnt, full);
	words = _mm512_maskz_expand_epi32(need, _mm512_loadu_si512(in));
	h->lo = _mm512_or_si512(h->lo, _mm512_sllv_epi32(words, h->cnt));
	h->hi = _mm512_or_si512(
		h->hi,
		_mm512_srlv_epi32(words, _mm512_sub_epi32(full, h->cnt)));
	h->cnt = _mm512_mask_add_epi32(h->cnt, need, h->cnt, full);
	return in + (size_t)4 * (unsigned int)__builtin_popcount(need);
}

/* Lanes of v in m, side by side, to `to`; how many there are. Writes 64 bytes.
 */
INLINE uint32_t put(uint32_t *to, __m512i v, uint32_t m)
{
	_mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)m, v));
	return (uint32_t)__builtin_popcount(m & 0xffff);
}

/* Literals of the lanes in lit before each of 16 lanes from the first one on.
 */
INLINE __m512i lits_before(uint32_t base, uint32_t lit, __m512i below)
{
	__m512i m = _mm512_and_si512(_mm512_set1_epi32((int)lit), below);

	return _mm512_add_epi32(_mm512_set1_epi32((int)base),
				_mm512_popcnt_epi32(m));
}

INLINE void put_tokens(struct bale_gd_decoder *d, __m512i v0, __m512i v1,
		       uint32_t lit, uint32_t lens)
{
	const __m512i below0 = _mm512_setr_epi32(
		0, 0x1, 0x3, 0x7, 0xf, 0x1f, 0x3f, 0x7f, 0xff, 0x1ff, 0x3ff,
		0x7ff, 0xfff, 0x1fff, 0x3fff, 0x7fff);
	const __m512i below1 = _mm512_or_si512(_mm512_slli_epi32(below0, HALF),
					       _mm512_set1_epi32(0xffff));
	__m256i bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(v1),
					 _mm512_cvtepi32_epi8(v0));
	uint32_t nr = d->nr_lits, n;

	_mm256_storeu_si256((__m256i *)(d->lit + nr),
			    _mm256_maskz_compress_epi8(lit, bytes));
	d->nr_lits = nr + (uint32_t)__builtin_popcount(lit);

	n = d->nr_dists;
	n += put(d->dists + n, v0, d->pending);
	d->nr_dists = n + put(d->dists + n, v1, d->pending >> HALF);

	n = d->nr_lens;
	put(d->lits_before + n, lits_before(nr, lit, below0), lens);
	n += put(d->lens + n, v0, lens);
	put(d->lits_before + n, lits_before(nr, lit, below1), lens >> HALF);
	d->nr_lens = n + put(d->lens + n, v1, lens >> HALF);
	d->pending = lens;
}

INLINE uint32_t lanes_with(__m512i e0, __m512i e1, int kind)
{
	__m512i bit = _mm512_set1_epi32(1 << kind);

	return _mm512_test_epi32_mask(e0, bit) |
	       (uint32_t)_mm512_test_epi32_mask(e1, bit) << HALF;
}

/* One round with a word for every lane at hand. False: nothing was done, it is
 * not for vectors. */
INLINE bool round_avx512(struct bale_gd_decoder *d, struct half *h0,
			 struct half *h1)
{
	__mmask16 dist0 = (__mmask16)d->pending;
	__mmask16 dist1 = (__mmask16)(d->pending >> HALF);
	__m512i e0 = lookup(d->table, h0->lo, dist0), v0;
	__m512i e1 = lookup(d->table, h1->lo, dist1), v1;
	uint32_t special = lanes_with(e0, e1, BALE_GD_E_SPECIAL);

	if (bale_unlikely(special)) {
		uint32_t sub = lanes_with(e0, e1, BALE_GD_E_SUB);

		if (sub != special)
			return false;
		e0 = lookup_second(d->table, e0, h0->lo, dist0, (__mmask16)sub);
		e1 = lookup_second(d->table, e1, h1->lo, dist1,
				   (__mmask16)(sub >> HALF));
		if (lanes_with(e0, e1, BALE_GD_E_SPECIAL))
			return false;
	}
	v0 = values(e0, h0->lo);
	v1 = values(e1, h1->lo);
	put_tokens(d, v0, v1, lanes_with(e0, e1, BALE_GD_E_LIT),
		   lanes_with(e0, e1, BALE_GD_E_LEN));
	d->in = consume(h0, e0, d->in);
	d->in = consume(h1, e1, d->in);
	return true;
}

TARGET static int rounds_avx512(struct bale_gd_decoder *d)
{
	struct half h0 = half_load(d, 0), h1 = half_load(d, HALF);

	for (;;) {
		int r;

		if (bale_gd_is_full(d)) {
			r = bale_gd_flush(d);
			if (r)
				return r;
		}
		if (d->end - d->in >= BALE_GD_LANES * 4 &&
		    round_avx512(d, &h0, &h1))
			continue;
		half_store(d, 0, h0);
		half_store(d, HALF, h1);
		r = bale_gd_round_checked(d);
		if (r)
			return r < 0 ? r : 0;
		h0 = half_load(d, 0);
		h1 = half_load(d, HALF);
	}
}

static int decode_avx512(struct bale_gd_decoder *d, const uint8_t *src,
			 size_t src_len, uint8_t *dst, size_t len)
{
	return bale_gd_decode_with(d, rounds_avx512, src, src_len, dst, len);
}

const struct bale_gd_reader bale_gd_reader_avx512 = {
	.name = "avx512",
	.decode = decode_avx512,
};

#endif
