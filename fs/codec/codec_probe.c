/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guess whether an extent will shrink, for the price of a few microseconds,
 * so that auto does not push photographs and archives through a coder.
 *
 * Two things make bytes shrink: some values are frequent, or strings repeat.
 * Each window of 128 KiB is looked at for both, the cheap one first, and the
 * first sign of either ends the probe, so that text pays for one histogram:
 *
 * 1. order-0 entropy of 16 slices of 256 bytes, evenly spread. Skew that an
 *    entropy coder would turn into 1/16 of the size is below 7.5 bits.
 * 2. repeats: 4-byte strings at every 64th byte of the whole window go into a
 *    table; every position of the slices looks itself up there. A long repeat
 *    anywhere in the window is found at any distance and alignment (a part f
 *    of the window that repeats elsewhere gives 64 * f hits), and so are values
 *    that come from a small set. Random bytes give 0.002 hits.
 *
 * A wrong "raw" costs space for ever, a wrong "zstd" costs 60 us once: the
 * thresholds lean to zstd. Figures: docs/codec.md.
 */
#include <math.h>
#include <string.h>

#include "fs/codec/codec_impl.h"

enum {
	WINDOW = 128 << 10,
	SAMPLES = BALE_PROBE_SLICES * BALE_PROBE_SLICE,
	STRIDE = 64,
	HITS_MIN = 3,
	HITS_MANY = SAMPLES / 16,
};

static const float flat_bits = 7.5F;

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t slot(uint32_t v)
{
	return v * 2654435761U >> (32 - BALE_PROBE_TABLE_BITS);
}

static const uint8_t *slice(const uint8_t *src, size_t len, size_t idx)
{
	return src + (len - BALE_PROBE_SLICE) * idx / (BALE_PROBE_SLICES - 1);
}

/* Bits per byte of the slices. Four histograms, because runs of one value
 * would wait for one counter. */
static float entropy(struct bale_codec_ctx *ctx, const uint8_t *src, size_t len)
{
	uint32_t(*count)[256] = ctx->probe.count;
	float sum = 0;

	memset(count, 0, sizeof(ctx->probe.count));
	for (size_t s = 0; s < BALE_PROBE_SLICES; s++) {
		const uint8_t *p = slice(src, len, s);

		for (size_t i = 0; i < BALE_PROBE_SLICE; i += 4) {
			count[0][p[i]]++;
			count[1][p[i + 1]]++;
			count[2][p[i + 2]]++;
			count[3][p[i + 3]]++;
		}
	}
	for (size_t v = 0; v < 256; v++) {
		uint32_t n = count[0][v] + count[1][v] + count[2][v] +
			     count[3][v];

		if (n)
			sum += (float)n * log2f((float)n);
	}
	return log2f(SAMPLES) - sum / SAMPLES;
}

/* Positions of the slices whose 4 bytes stand elsewhere in the window too. */
static unsigned int count_hits(struct bale_codec_ctx *ctx, const uint8_t *src,
			       size_t len)
{
	uint32_t *place = ctx->probe.place;
	unsigned int hits = 0;

	memset(place, 0, sizeof(ctx->probe.place));
	for (size_t i = 0; i + 4 <= len; i += STRIDE) {
		uint32_t v = load32(src + i);

		place[slot(v)] = (uint32_t)i;
	}
	for (size_t s = 0; s < BALE_PROBE_SLICES; s++) {
		const uint8_t *p = slice(src, len, s);

		for (size_t i = 0; i + 4 <= BALE_PROBE_SLICE; i++) {
			uint32_t v = load32(p + i);
			const uint8_t *q = src + place[slot(v)];

			hits += load32(q) == v && q != p + i;
		}
	}
	return hits;
}

enum bale_probe_verdict bale_codec_probe(struct bale_codec_ctx *ctx,
					 const uint8_t *src, size_t len)
{
	for (size_t off = 0; off < len; off += WINDOW) {
		size_t n = len - off < WINDOW ? len - off : WINDOW;
		unsigned int hits;

		/* A short rest says nothing; it is no 1/16 of the extent. */
		if (off && n < SAMPLES)
			break;
		if (entropy(ctx, src + off, n) < flat_bits)
			return BALE_PROBE_ZSTD;
		hits = count_hits(ctx, src + off, n);
		if (hits >= HITS_MANY)
			return BALE_PROBE_REPEATS;
		if (hits >= HITS_MIN)
			return BALE_PROBE_ZSTD;
	}
	return BALE_PROBE_RAW;
}
