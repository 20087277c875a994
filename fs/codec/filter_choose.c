/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which filter auto puts before the codec: a function of the bytes alone, so
 * that every engine chooses alike. Three steps, each of which ends most
 * extents' search:
 *
 * 1. Numbers resemble the one before them: bytes equal the one 2, 4 or 8
 *    before much more often than the one 1 or 3 before; or, samples of one
 *    byte, lie near the one before. Text, code and noise do neither. 1 us.
 * 2. Order-0 entropy of samples, plane by plane, for each way of taking them
 *    apart. What does not save a sixteenth of the plain bytes' is out. 15 us.
 * 3. The best of these, and the bit shuffle of the same size, are tried
 *    with the codec on 8 KiB beside the plain bytes: only this sees what
 * repeats are worth. The winner has to save a 24th. 40 us.
 */
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "fs/codec/codec_impl.h"
#include "fs/codec/filter.h"

enum {
	LEN_MIN = 32 << 10,
	SLICES = 16,
	SLICE = 256, /* a multiple of 16 */
	SAMPLES = SLICES * SLICE,
	DISTANCES = 6,
	NEAR = 4,	/* bytes that lie so near count as alike */
	GAIN_HALF = 64, /* part that is saved in either half of the extent, */
	GAIN = 40,	/* and in both together, */
	GAIN_REPEATS = 24, /* and where plain bytes have repeats */
};

static_assert((int)LEN_MIN >= 2 * (int)BALE_CHOOSE_TRIAL, "four parts apart");

static const uint8_t distances[DISTANCES] = { 1, 2, 3, 4, 8, 1 };

static const uint8_t *slice(const uint8_t *src, size_t len, size_t idx)
{
	return src + (((len - SLICE) * idx / (SLICES - 1)) & ~(size_t)7);
}

/* ---- 1: do bytes resemble those before them ---- */

#if defined(__SSE2__)

static unsigned int count_alike(const uint8_t *p, size_t from, size_t dist,
				uint8_t within)
{
	const __m128i bound = _mm_set1_epi8((char)within);
	__m128i n = _mm_setzero_si128(), sum;

	static_assert(SLICE / 16 <= 255, "16 counters of a byte");
	for (size_t i = from; i < SLICE; i += 16) {
		__m128i a = _mm_loadu_si128((const void *)(p + i));
		__m128i b = _mm_loadu_si128((const void *)(p + i - dist));
		__m128i far =
			_mm_min_epu8(_mm_sub_epi8(a, b), _mm_sub_epi8(b, a));

		n = _mm_sub_epi8(n,
				 _mm_cmpeq_epi8(_mm_min_epu8(far, bound), far));
	}
	sum = _mm_sad_epu8(n, _mm_setzero_si128());
	return (unsigned int)(_mm_cvtsi128_si32(sum) +
			      _mm_extract_epi16(sum, 4));
}

#else

static unsigned int count_alike(const uint8_t *p, size_t from, size_t dist,
				uint8_t within)
{
	unsigned int n = 0;

	for (size_t i = from; i < SLICE; i++) {
		uint8_t d = (uint8_t)(p[i] - p[i - dist]);

		n += (d < 128 ? d : 256 - d) <= within;
	}
	return n;
}

#endif

static bool looks_like_numbers(const uint8_t *src, size_t len)
{
	unsigned int alike[DISTANCES] = { 0 }, best, noise;
	const unsigned int all = SLICES * (SLICE - 16);

	for (size_t s = 0; s < SLICES; s++) {
		const uint8_t *p = slice(src, len, s);

		for (size_t k = 0; k < DISTANCES; k++)
			alike[k] += count_alike(p, 16, distances[k],
						k == DISTANCES - 1 ? NEAR : 0);
	}
	best = alike[1] > alike[3] ? alike[1] : alike[3];
	best = alike[4] > best ? alike[4] : best;
	noise = alike[0] > alike[2] ? alike[0] : alike[2];
	if (best >= noise + noise / 4 + all / 48)
		return true;
	/* Mostly zeros, say: fewer differ, where many were alike anyway. */
	if ((all - best) * 3 <= (all - noise) * 2 && all - noise >= all / 32)
		return true;
	return alike[DISTANCES - 1] > all / 2 && alike[0] < all / 2;
}

/* ---- 2: what planes an entropy coder would like ---- */

typedef uint16_t histogram[256];

/* Bits of one plane. So few samples see less than there is; (values - 1) /
 * 2 ln 2 corrects that (Miller and Madow), else finer planes would always win.
 */
static float plane_bits(const uint16_t *h)
{
	unsigned int n = 0, values = 0;
	float sum = 0;

	for (size_t v = 0; v < 256; v++) {
		n += h[v];
		values += h[v] != 0;
		/* 0 of a finite number where h[v] is 0. */
		sum += (float)h[v] * bale_codec_log2(h[v]);
	}
	return (float)n * bale_codec_log2(n) - sum + 0.7213F * (float)values;
}

/* Bits of all samples, in planes of elements of `size`; h has 8. */
static float bits_of(histogram *h, size_t size)
{
	float bits = 0;

	for (size_t k = 0; k < size; k++)
		bits += plane_bits(h[k]);
	return bits;
}

/* Bytes of the slices by their place in 8 bytes, as they are. */
static void count_plain(histogram *h, const uint8_t *src, size_t len)
{
	for (size_t s = 0; s < SLICES; s++) {
		const uint8_t *p = slice(src, len, s);

		for (size_t i = 0; i < SLICE; i += 8)
			for (size_t k = 0; k < 8; k++)
				h[k][p[i + k]]++;
	}
}

static inline uint64_t load_le(const uint8_t *p, size_t size)
{
	uint64_t v = 0;

	for (size_t k = 0; k < size; k++)
		v |= (uint64_t)p[k] << 8 * k;
	return v;
}

static inline void count_delta_of(histogram *h, const uint8_t *src, size_t len,
				  size_t size)
{
	for (size_t s = 0; s < SLICES; s++) {
		const uint8_t *p = slice(src, len, s);
		uint64_t last = load_le(p, size);

		for (size_t i = size; i < SLICE; i += size) {
			uint64_t v = load_le(p + i, size), d = v - last;

			for (size_t k = 0; k < size; k++)
				h[k][d >> 8 * k & 255]++;
			last = v;
		}
	}
}

/* And of the differences between elements. */
static void count_delta(histogram *h, const uint8_t *src, size_t len,
			size_t size)
{
	switch (size) {
	case 1:
		count_delta_of(h, src, len, 1);
		break;
	case 2:
		count_delta_of(h, src, len, 2);
		break;
	case 4:
		count_delta_of(h, src, len, 4);
		break;
	default:
		count_delta_of(h, src, len, 8);
	}
}

/* Planes of twice the size become those of the size. */
static void fold(histogram *h, size_t size)
{
	for (size_t k = 0; k < size; k++)
		for (size_t v = 0; v < 256; v++)
			h[k][v] = (uint16_t)(h[k][v] + h[k + size][v]);
}

struct choice {
	unsigned int id, bits_id; /* bits_id: a bit shuffle to try too */
	float bits, plain_bits;
};

/* Better by a 64th: else what came before, which is simpler. */
static void consider(struct choice *c, float bits, unsigned int id,
		     unsigned int bits_id)
{
	if (bits + bits / 64 >= c->bits)
		return;
	c->id = id;
	c->bits_id = bits_id;
	c->bits = bits;
}

static void choose_by_planes(struct bale_codec_ctx *ctx, const uint8_t *src,
			     size_t len, struct choice *ret)
{
	static const uint8_t deltas[] = { BALE_FILTER_delta1,
					  BALE_FILTER_delta2,
					  BALE_FILTER_delta4,
					  BALE_FILTER_delta8 };
	histogram *h = ctx->choose.count;
	struct choice c = { 0 };
	float by8, by4;

	memset(h, 0, sizeof(ctx->choose.count));
	count_plain(h, src, len);
	by8 = bits_of(h, 8);
	fold(h, 4);
	by4 = bits_of(h, 4);
	fold(h, 2);
	c = (struct choice){ BALE_FILTER_shuffle2, BALE_FILTER_bitshuffle2,
			     bits_of(h, 2), 0 };
	fold(h, 1);
	ret->bits = ret->plain_bits = bits_of(h, 1);
	consider(&c, by4, BALE_FILTER_shuffle4, BALE_FILTER_bitshuffle4);
	consider(&c, by8, BALE_FILTER_shuffle8, 0);
	for (size_t k = 0; k < sizeof(deltas); k++) {
		const size_t size = (size_t)1 << k;
		const float seen = (float)(SLICE - size) / SLICE;

		memset(h, 0, sizeof(ctx->choose.count));
		count_delta(h, src, len, size);
		consider(&c, bits_of(h, size) / seen, deltas[k], 0);
	}
	consider(ret, c.bits + c.bits / 64, c.id, c.bits_id);
}

/* ---- 3: what the codec makes of it ---- */

/* Two parts of one half of the extent, one after the other. */
static void take_half(struct bale_codec_ctx *ctx, const uint8_t *src,
		      size_t len, size_t half)
{
	const size_t part = BALE_CHOOSE_TRIAL / 2, quarter = len / 4;

	for (size_t k = 0; k < 2; k++) {
		size_t at = quarter * (2 * half + k) + (quarter - part) / 2;

		memcpy(ctx->choose.trial + k * part, src + (at & ~(size_t)7),
		       part);
	}
}

static size_t try_filter(struct bale_codec_ctx *ctx, unsigned int id)
{
	const uint8_t *src = ctx->choose.trial;
	size_t n;

	if (id) {
		bale_filter_forward(id, src, BALE_CHOOSE_TRIAL,
				    ctx->choose.filtered);
		src = ctx->choose.filtered;
	}
	return bale_codec_zstd.encode(ctx, src, BALE_CHOOSE_TRIAL,
				      ctx->choose.coded, BALE_CHOOSE_TRIAL,
				      BALE_ZSTD_LEVEL_AUTO, &n) ?
		       BALE_CHOOSE_TRIAL :
		       n;
}

static bool saves(size_t n, size_t plain, size_t part)
{
	return n + plain / part <= plain;
}

static unsigned int choose_by_trial(struct bale_codec_ctx *ctx,
				    const uint8_t *src, size_t len,
				    const struct choice *c)
{
	unsigned int best = c->id;
	size_t plain, n, n2, m;
	bool repeats;

	take_half(ctx, src, len, 0);
	plain = try_filter(ctx, 0);
	n = try_filter(ctx, best);
	m = c->bits_id ? try_filter(ctx, c->bits_id) : n;
	if (m + m / 32 < n) {
		n = m;
		best = c->bits_id;
	}
	if (!saves(n, plain, GAIN_HALF))
		return 0;
	/* An object file's table of numbers is not the whole of it. */
	take_half(ctx, src, len, 1);
	m = try_filter(ctx, 0);
	plain += m;
	n2 = try_filter(ctx, best);
	n += n2;
	if (!saves(n2, m, GAIN_HALF))
		return 0;
	/* Where repeats are worth something, they are worth more in the whole.
	 */
	repeats = (float)plain <
		  c->plain_bits / 8 * 2 * BALE_CHOOSE_TRIAL / SAMPLES * 15 / 16;
	return saves(n, plain, repeats ? GAIN_REPEATS : GAIN) ? best : 0;
}

unsigned int bale_filter_choose(struct bale_codec_ctx *ctx, const uint8_t *src,
				size_t len)
{
	struct choice c = { 0 };

	if (len < LEN_MIN || !looks_like_numbers(src, len))
		return 0;
	choose_by_planes(ctx, src, len, &c);
	return c.id ? choose_by_trial(ctx, src, len, &c) : 0;
}
