/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GDeflate reader for AVX2: as codec_gdeflate_avx512.c, with four groups of
 * 8 lanes, and tables of permutations where AVX-512 has instructions that
 * compress and expand.
 */
#include "fs/codec/codec_gdeflate_simd.h"

#if BALE_GD_HAVE_X86

#include <immintrin.h>
#include <pthread.h>

#define TARGET __attribute__((target("avx2,bmi,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { GROUP = 8, GROUPS = BALE_GD_LANES / GROUP, SETS = 1 << GROUP };

/* By the set of lanes. Const after tables_once. */
static struct {
	/* k-th lane of the set; the rest anything. */
	uint8_t compress[SETS][GROUP];
	/* For each lane, how many of the set are below it. */
	uint8_t below[SETS][GROUP];
} tables;
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
	for (unsigned int set = 0; set < SETS; set++) {
		uint8_t n = 0;

		for (uint8_t lane = 0; lane < GROUP; lane++) {
			tables.below[set][lane] = n;
			if (set >> lane & 1)
				tables.compress[set][n++] = lane;
		}
	}
}

struct group {
	__m256i lo, hi, cnt; /* buffer of 64 bits, and how many there are */
};

INLINE void groups_load(struct group *g, const struct bale_gd_decoder *d)
{
	const __m256i halves = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);

	for (int i = 0; i < GROUPS; i++) {
		const __m256i *buf = (const __m256i *)(d->buf + GROUP * i);
		__m256i a = _mm256_permutevar8x32_epi32(buf[0], halves);
		__m256i b = _mm256_permutevar8x32_epi32(buf[1], halves);

		g[i].lo = _mm256_permute2x128_si256(a, b, 0x20);
		g[i].hi = _mm256_permute2x128_si256(a, b, 0x31);
		g[i].cnt = *(const __m256i *)(d->cnt + GROUP * i);
	}
}

INLINE void groups_store(struct bale_gd_decoder *d, const struct group *g)
{
	for (int i = 0; i < GROUPS; i++) {
		__m256i a = _mm256_unpacklo_epi32(g[i].lo, g[i].hi);
		__m256i b = _mm256_unpackhi_epi32(g[i].lo, g[i].hi);
		__m256i *buf = (__m256i *)(d->buf + GROUP * i);

		buf[0] = _mm256_permute2x128_si256(a, b, 0x20);
		buf[1] = _mm256_permute2x128_si256(a, b, 0x31);
		*(__m256i *)(d->cnt + GROUP * i) = g[i].cnt;
	}
}

INLINE __m256i row(const uint8_t *bytes)
{
	return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes));
}

/* All ones in the lanes of a set. */
INLINE __m256i lanes_of(uint32_t set)
{
	const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);

	return _mm256_cmpeq_epi32(
		_mm256_and_si256(_mm256_set1_epi32((int)set), bits), bits);
}

INLINE uint32_t set_of(__m256i v, int bit)
{
	return (uint32_t)_mm256_movemask_ps(
		_mm256_castsi256_ps(_mm256_slli_epi32(v, 31 - bit)));
}

INLINE __m256i low_bits(__m256i v, __m256i n)
{
	return _mm256_andnot_si256(_mm256_sllv_epi32(_mm256_set1_epi32(-1), n),
				   v);
}

INLINE __m256i slot_bits(__m256i e)
{
	return _mm256_and_si256(e, _mm256_set1_epi32(31));
}

INLINE __m256i code_bits(__m256i e)
{
	return _mm256_and_si256(_mm256_srli_epi32(e, BALE_GD_E_CODE),
				_mm256_set1_epi32(15));
}

INLINE __m256i base_of(__m256i e)
{
	return _mm256_srli_epi32(e, BALE_GD_E_BASE);
}

INLINE __m256i choose(int litlen, int dist, __m256i is_dist)
{
	return _mm256_blendv_epi8(_mm256_set1_epi32(litlen),
				  _mm256_set1_epi32(dist), is_dist);
}

INLINE __m256i lookup(const uint32_t *table, __m256i lo, __m256i is_dist)
{
	__m256i mask = choose((1 << BALE_GD_LITLEN_ROOT) - 1,
			      (1 << BALE_GD_DIST_ROOT) - 1, is_dist);
	__m256i at = choose(0, BALE_GD_DIST_AT, is_dist);

	return _mm256_i32gather_epi32(
		(const int *)table,
		_mm256_add_epi32(_mm256_and_si256(lo, mask), at), 4);
}

/* Entries that name a second table, replaced by what stands there. */
INLINE __m256i lookup_second(const uint32_t *table, __m256i e, __m256i lo,
			     __m256i is_dist)
{
	__m256i root = choose(BALE_GD_LITLEN_ROOT, BALE_GD_DIST_ROOT, is_dist);
	__m256i idx = _mm256_add_epi32(
		base_of(e),
		low_bits(_mm256_srlv_epi32(lo, root), code_bits(e)));
	__m256i sub = _mm256_slli_epi32(e, 31 - BALE_GD_E_SUB);

	return _mm256_mask_i32gather_epi32(e, (const int *)table, idx, sub, 4);
}

/* Base and extra bits. */
INLINE __m256i values(__m256i e, __m256i lo)
{
	return _mm256_add_epi32(
		base_of(e),
		_mm256_srlv_epi32(low_bits(lo, slot_bits(e)), code_bits(e)));
}

/* End of the slots: take their bits, and a word where fewer than 32 are left.
 */
INLINE const uint8_t *consume(struct group *g, __m256i e, const uint8_t *in)
{
	const __m256i full = _mm256_set1_epi32(32);
	__m256i slot = slot_bits(e), words, lacks;
	uint32_t need;

	g->lo = _mm256_or_si256(
		_mm256_srlv_epi32(g->lo, slot),
		_mm256_sllv_epi32(g->hi, _mm256_sub_epi32(full, slot)));
	g->hi = _mm256_srlv_epi32(g->hi, slot);
	g->cnt = _mm256_sub_epi32(g->cnt, slot);
	lacks = _mm256_cmpgt_epi32(full, g->cnt);
	need = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lacks));
	words = _mm256_and_si256(
		lacks, _mm256_permutevar8x32_epi32(
			       _mm256_loadu_si256((const __m256i *)in),
			       row(tables.below[need])));
	g->lo = _mm256_or_si256(g->lo, _mm256_sllv_epi32(words, g->cnt));
	g->hi = _mm256_or_si256(
		g->hi,
		_mm256_srlv_epi32(words, _mm256_sub_epi32(full, g->cnt)));
	g->cnt = _mm256_add_epi32(g->cnt, _mm256_and_si256(lacks, full));
	return in + (size_t)4 * (unsigned int)__builtin_popcount(need);
}

/* Lanes of v in set, side by side, to `to`. Writes 32 bytes. */
INLINE void put(uint32_t *to, __m256i v, uint32_t set)
{
	_mm256_storeu_si256(
		(__m256i *)to,
		_mm256_permutevar8x32_epi32(v, row(tables.compress[set])));
}

/* The values of a group that are literals, as bytes. Writes 8. */
INLINE void put_literals(uint8_t *to, __m256i v, uint32_t set)
{
	__m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v),
					 _mm256_extracti128_si256(v, 1));
	__m128i order = _mm_loadl_epi64((const __m128i *)tables.compress[set]);

	_mm_storel_epi64(
		(__m128i *)to,
		_mm_shuffle_epi8(_mm_packus_epi16(words, words), order));
}

INLINE void put_tokens(struct bale_gd_decoder *d, const __m256i *e,
		       const __m256i *v)
{
	uint32_t lit = d->nr_lits, len = d->nr_lens, dist = d->nr_dists;
	uint32_t pending = d->pending, next = 0;

	for (int i = 0; i < GROUPS; i++) {
		uint32_t lit_set = set_of(e[i], BALE_GD_E_LIT);
		uint32_t len_set = set_of(e[i], BALE_GD_E_LEN);
		uint32_t dist_set = pending >> (GROUP * i) & (SETS - 1);
		__m256i before = _mm256_add_epi32(_mm256_set1_epi32((int)lit),
						  row(tables.below[lit_set]));

		put_literals(d->lit + lit, v[i], lit_set);
		put(d->lens + len, v[i], len_set);
		put(d->lits_before + len, before, len_set);
		put(d->dists + dist, v[i], dist_set);
		lit += (uint32_t)__builtin_popcount(lit_set);
		len += (uint32_t)__builtin_popcount(len_set);
		dist += (uint32_t)__builtin_popcount(dist_set);
		next |= len_set << (GROUP * i);
	}
	d->nr_lits = lit;
	d->nr_lens = len;
	d->nr_dists = dist;
	d->pending = next;
}

INLINE uint32_t any_with(const __m256i *e, int kind)
{
	__m256i all = _mm256_or_si256(_mm256_or_si256(e[0], e[1]),
				      _mm256_or_si256(e[2], e[3]));

	return set_of(all, kind);
}

/* One round with a word for every lane at hand. False: nothing was done, it is
 * not for vectors. */
INLINE bool round_avx2(struct bale_gd_decoder *d, struct group *g)
{
	__m256i e[GROUPS], v[GROUPS], is_dist[GROUPS];

	for (int i = 0; i < GROUPS; i++) {
		is_dist[i] = lanes_of(d->pending >> (GROUP * i));
		e[i] = lookup(d->table, g[i].lo, is_dist[i]);
	}
	if (bale_unlikely(any_with(e, BALE_GD_E_SPECIAL))) {
		for (int i = 0; i < GROUPS; i++)
			e[i] = lookup_second(d->table, e[i], g[i].lo,
					     is_dist[i]);
		if (any_with(e, BALE_GD_E_SPECIAL))
			return false;
	}
	for (int i = 0; i < GROUPS; i++)
		v[i] = values(e[i], g[i].lo);
	put_tokens(d, e, v);
	for (int i = 0; i < GROUPS; i++)
		d->in = consume(&g[i], e[i], d->in);
	return true;
}

TARGET static int rounds_avx2(struct bale_gd_decoder *d)
{
	struct group g[GROUPS];

	groups_load(g, d);
	for (;;) {
		int r;

		if (bale_gd_is_full(d)) {
			r = bale_gd_flush(d);
			if (r)
				return r;
		}
		if (d->end - d->in >= BALE_GD_LANES * 4 && round_avx2(d, g))
			continue;
		groups_store(d, g);
		r = bale_gd_round_checked(d);
		if (r)
			return r < 0 ? r : 0;
		groups_load(g, d);
	}
}

static int decode_avx2(struct bale_gd_decoder *d, const uint8_t *src,
		       size_t src_len, uint8_t *dst, size_t len)
{
	pthread_once(&tables_once, make_tables);
	return bale_gd_decode_with(d, rounds_avx2, src, src_len, dst, len);
}

const struct bale_gd_reader bale_gd_reader_avx2 = {
	.name = "avx2",
	.decode = decode_avx2,
};

#endif
