/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte shuffle, bit shuffle and delta. All three are built of one piece: a
 * block of up to BLOCK elements is taken apart into its byte planes, or put
 * together from them, by SSE2 unpacking where that is there (every x86-64).
 * Wider vectors were not worth their dispatch: a unit's planes are 64 KiB in
 * and 64 KiB out, and the second-level cache is what limits.
 *
 * Little-endian bytes throughout: plane 0 has the lowest byte of each element.
 */
#include "fs/codec/filter.h"

#include <errno.h>
#include <string.h>

#include "balefs/unit.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
	BLOCK = 64, /* elements; a multiple of 16 */
	ELEMENT_MAX = 8,
};

static const struct {
	const char *name;
	uint8_t size;
} filters[BALE_FILTER_NR] = {
#define X(id, name, size) [id] = { #name, size },
	BALE_FILTERS(X)
#undef X
};

bool bale_filter_known(unsigned int id)
{
	return id < BALE_FILTER_NR;
}

const char *bale_filter_name(unsigned int id)
{
	return bale_filter_known(id) ? filters[id].name : "?";
}

int bale_filter_parse(const char *name, uint8_t *ret)
{
	for (unsigned int id = 0; id < BALE_FILTER_NR; id++) {
		if (!strcmp(name, filters[id].name)) {
			*ret = (uint8_t)id;
			return 0;
		}
	}
	return -EINVAL;
}

/* n elements of `size` bytes -> planes of `pitch` bytes each. */
static void split_plain(const uint8_t *src, size_t n, size_t size, uint8_t *dst,
			size_t pitch)
{
	for (size_t i = 0; i < n; i++)
		for (size_t b = 0; b < size; b++)
			dst[b * pitch + i] = src[i * size + b];
}

static void join_plain(const uint8_t *src, size_t pitch, size_t n, size_t size,
		       uint8_t *dst)
{
	for (size_t i = 0; i < n; i++)
		for (size_t b = 0; b < size; b++)
			dst[i * size + b] = src[b * pitch + i];
}

#if defined(__SSE2__)

/* v[0..size): size * 16 bytes of 16 elements. Each step parts even from odd
 * bytes, so after log2(size) steps v[b] is plane b. */
static inline void split16(__m128i *v, size_t size)
{
	const __m128i low = _mm_set1_epi16(0xff);

#pragma GCC unroll 8
	for (size_t step = 1; step < size; step *= 2) {
		__m128i even[ELEMENT_MAX / 2], odd[ELEMENT_MAX / 2];

#pragma GCC unroll 8
		for (size_t i = 0; i < size / 2; i++) {
			__m128i a = v[2 * i], b = v[2 * i + 1];

			even[i] = _mm_packus_epi16(_mm_and_si128(a, low),
						   _mm_and_si128(b, low));
			odd[i] = _mm_packus_epi16(_mm_srli_epi16(a, 8),
						  _mm_srli_epi16(b, 8));
		}
		/*
		 * Groups of size / 2 / step registers belong together; the even
		 * half of each group goes before its odd half.
		 */
#pragma GCC unroll 8
		for (size_t i = 0; i < size / 2; i++) {
			size_t per = size / 2 / step, g = i / per, k = i % per;

			v[g * 2 * per + k] = even[i];
			v[g * 2 * per + per + k] = odd[i];
		}
	}
}

/* Plane of register i after split16: its index with the bits reversed. */
static inline size_t plane_of(size_t i, size_t size)
{
	size_t r = 0;

#pragma GCC unroll 8
	for (size_t bit = 1; bit < size; bit *= 2)
		r = r * 2 + (i & bit ? 1 : 0);
	return r;
}

static inline void join16(__m128i *v, size_t size)
{
#pragma GCC unroll 8
	for (size_t step = size / 2; step; step /= 2) {
		__m128i w[ELEMENT_MAX];

#pragma GCC unroll 8
		for (size_t i = 0; i < size / 2; i++) {
			size_t per = size / 2 / step, g = i / per, k = i % per;
			__m128i even = v[g * 2 * per + k];
			__m128i odd = v[g * 2 * per + per + k];

			w[2 * i] = _mm_unpacklo_epi8(even, odd);
			w[2 * i + 1] = _mm_unpackhi_epi8(even, odd);
		}
		memcpy(v, w, size * sizeof(*v));
	}
}

static inline __attribute__((always_inline)) void
split_size(const uint8_t *src, size_t n, size_t size, uint8_t *dst,
	   size_t pitch)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m128i v[ELEMENT_MAX];

#pragma GCC unroll 8
		for (size_t k = 0; k < size; k++)
			v[k] = _mm_loadu_si128(
				(const __m128i *)(src + i * size + k * 16));
		split16(v, size);
#pragma GCC unroll 8
		for (size_t k = 0; k < size; k++)
			_mm_storeu_si128((__m128i *)(dst +
						     plane_of(k, size) * pitch +
						     i),
					 v[k]);
	}
	split_plain(src + i * size, n - i, size, dst + i, pitch);
}

static inline __attribute__((always_inline)) void
join_size(const uint8_t *src, size_t pitch, size_t n, size_t size, uint8_t *dst)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m128i v[ELEMENT_MAX];

#pragma GCC unroll 8
		for (size_t k = 0; k < size; k++)
			v[k] = _mm_loadu_si128(
				(const __m128i *)(src +
						  plane_of(k, size) * pitch +
						  i));
		join16(v, size);
#pragma GCC unroll 8
		for (size_t k = 0; k < size; k++)
			_mm_storeu_si128((__m128i *)(dst + i * size + k * 16),
					 v[k]);
	}
	join_plain(src + i, pitch, n - i, size, dst + i * size);
}

#else

static inline void split_size(const uint8_t *src, size_t n, size_t size,
			      uint8_t *dst, size_t pitch)
{
	split_plain(src, n, size, dst, pitch);
}

static inline void join_size(const uint8_t *src, size_t pitch, size_t n,
			     size_t size, uint8_t *dst)
{
	join_plain(src, pitch, n, size, dst);
}

#endif

/* The size as a constant, so that the loops above are unrolled. */
static void split(const uint8_t *src, size_t n, size_t size, uint8_t *dst,
		  size_t pitch)
{
	switch (size) {
	case 1:
		memcpy(dst, src, n);
		break;
	case 2:
		split_size(src, n, 2, dst, pitch);
		break;
	case 4:
		split_size(src, n, 4, dst, pitch);
		break;
	default:
		split_size(src, n, 8, dst, pitch);
	}
}

static void join(const uint8_t *src, size_t pitch, size_t n, size_t size,
		 uint8_t *dst)
{
	switch (size) {
	case 1:
		memcpy(dst, src, n);
		break;
	case 2:
		join_size(src, pitch, n, 2, dst);
		break;
	case 4:
		join_size(src, pitch, n, 4, dst);
		break;
	default:
		join_size(src, pitch, n, 8, dst);
	}
}

/* ---- delta ---- */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST8(v)  (v)
#define HOST16(v) (v)
#define HOST32(v) (v)
#define HOST64(v) (v)
#else
#define HOST8(v)  (v)
#define HOST16(v) __builtin_bswap16(v)
#define HOST32(v) __builtin_bswap32(v)
#define HOST64(v) __builtin_bswap64(v)
#endif

#define DELTA(bits)                                                            \
	static void diff##bits(const uint8_t *src, size_t n, uint8_t *dst,     \
			       uint64_t *last)                                 \
	{                                                                      \
		uint##bits##_t prev = (uint##bits##_t) * last, v, d;           \
                                                                               \
		for (size_t i = 0; i < n; i++) {                               \
			memcpy(&v, src + i * sizeof(v), sizeof(v));            \
			v = HOST##bits(v);                                     \
			d = HOST##bits((uint##bits##_t)(v - prev));            \
			memcpy(dst + i * sizeof(d), &d, sizeof(d));            \
			prev = v;                                              \
		}                                                              \
		*last = prev;                                                  \
	}                                                                      \
	static void sum##bits(uint8_t *p, size_t n, uint64_t *last)            \
	{                                                                      \
		uint##bits##_t prev = (uint##bits##_t) * last, d;              \
                                                                               \
		for (size_t i = 0; i < n; i++) {                               \
			memcpy(&d, p + i * sizeof(d), sizeof(d));              \
			prev = (uint##bits##_t)(prev + HOST##bits(d));         \
			d = HOST##bits(prev);                                  \
			memcpy(p + i * sizeof(d), &d, sizeof(d));              \
		}                                                              \
		*last = prev;                                                  \
	}
DELTA(8)
DELTA(16)
DELTA(32)
DELTA(64)

static void diff(const uint8_t *src, size_t n, size_t size, uint8_t *dst,
		 uint64_t *last)
{
	switch (size) {
	case 1:
		diff8(src, n, dst, last);
		break;
	case 2:
		diff16(src, n, dst, last);
		break;
	case 4:
		diff32(src, n, dst, last);
		break;
	default:
		diff64(src, n, dst, last);
	}
}

static void sum(uint8_t *p, size_t n, size_t size, uint64_t *last)
{
	switch (size) {
	case 1:
		sum8(p, n, last);
		break;
	case 2:
		sum16(p, n, last);
		break;
	case 4:
		sum32(p, n, last);
		break;
	default:
		sum64(p, n, last);
	}
}

static void delta_forward(const uint8_t *src, size_t n, size_t size,
			  uint8_t *dst)
{
	uint8_t block[BLOCK * ELEMENT_MAX];
	uint64_t last = 0;

	for (size_t i = 0; i < n; i += BLOCK) {
		size_t k = n - i < BLOCK ? n - i : BLOCK;

		diff(src + i * size, k, size, block, &last);
		split(block, k, size, dst + i, n);
	}
}

static void delta_backward(const uint8_t *src, size_t n, size_t size,
			   uint8_t *dst)
{
	uint64_t last = 0;

	for (size_t i = 0; i < n; i += BLOCK) {
		size_t k = n - i < BLOCK ? n - i : BLOCK;

		join(src + i, n, k, size, dst + i * size);
		sum(dst + i * size, k, size, &last);
	}
}

/* ---- bit shuffle ---- */

/* Bit c of byte r becomes bit r of byte c: three swaps of ever larger blocks;
 * its own inverse. */
static uint64_t transpose_bits(uint64_t x)
{
	uint64_t t;

	t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aaULL;
	x ^= t ^ (t << 7);
	t = (x ^ (x >> 14)) & 0x0000cccc0000ccccULL;
	x ^= t ^ (t << 14);
	t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0ULL;
	return x ^ t ^ (t << 28);
}

/* count groups of 8 bytes, in place. */
static void transpose_groups(uint8_t *p, size_t count)
{
	for (size_t g = 0; g < count; g++) {
		uint64_t x;

		memcpy(&x, p + 8 * g, 8);
		x = HOST64(transpose_bits(HOST64(x)));
		memcpy(p + 8 * g, &x, 8);
	}
}

/* m: a multiple of 8 elements; each bit plane has m / 8 bytes. */
static void bits_forward(const uint8_t *src, size_t m, size_t size,
			 uint8_t *dst)
{
	size_t pitch = m / 8;

	for (size_t i = 0; i < m; i += BLOCK) {
		size_t k = m - i < BLOCK ? m - i : BLOCK;
		uint8_t planes[ELEMENT_MAX * BLOCK];

		split(src + i * size, k, size, planes, BLOCK);
		for (size_t b = 0; b < size; b++) {
			transpose_groups(planes + b * BLOCK, k / 8);
			/* Byte c of each group belongs to bit plane c. */
			split(planes + b * BLOCK, k / 8, 8,
			      dst + b * 8 * pitch + i / 8, pitch);
		}
	}
}

static void bits_backward(const uint8_t *src, size_t m, size_t size,
			  uint8_t *dst)
{
	size_t pitch = m / 8;

	for (size_t i = 0; i < m; i += BLOCK) {
		size_t k = m - i < BLOCK ? m - i : BLOCK;
		uint8_t planes[ELEMENT_MAX * BLOCK];

		for (size_t b = 0; b < size; b++) {
			join(src + b * 8 * pitch + i / 8, pitch, k / 8, 8,
			     planes + b * BLOCK);
			transpose_groups(planes + b * BLOCK, k / 8);
		}
		join(planes, BLOCK, k, size, dst + i * size);
	}
}

/* ---- */

static void run_unit(unsigned int id, bool forward, const uint8_t *src,
		     size_t len, uint8_t *dst)
{
	size_t size = filters[id].size, n = len / size;

	switch (id) {
	case BALE_FILTER_none:
		n = 0;
		break;
	case BALE_FILTER_bitshuffle2:
	case BALE_FILTER_bitshuffle4:
		n &= ~(size_t)7;
		(forward ? bits_forward : bits_backward)(src, n, size, dst);
		break;
	case BALE_FILTER_delta1:
	case BALE_FILTER_delta2:
	case BALE_FILTER_delta4:
	case BALE_FILTER_delta8:
		(forward ? delta_forward : delta_backward)(src, n, size, dst);
		break;
	default:
		if (forward)
			split(src, n, size, dst, n);
		else
			join(src, n, n, size, dst);
	}
	memcpy(dst + n * size, src + n * size, len - n * size);
}

static void run(unsigned int id, bool forward, const uint8_t *src, size_t len,
		uint8_t *dst)
{
	for (size_t i = 0; i < bale_units_nr(len); i++)
		run_unit(id, forward, src + i * BALE_UNIT_SIZE,
			 bale_unit_len(len, i), dst + i * BALE_UNIT_SIZE);
}

void bale_filter_forward(unsigned int id, const uint8_t *src, size_t len,
			 uint8_t *dst)
{
	run(id, true, src, len, dst);
}

void bale_filter_backward(unsigned int id, const uint8_t *src, size_t len,
			  uint8_t *dst)
{
	run(id, false, src, len, dst);
}
