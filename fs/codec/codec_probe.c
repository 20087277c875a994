/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guess whether an extent will shrink, for the price of a few microseconds,
 * so that auto does not push photographs and archives through a coder.
 *
 * Two things make bytes shrink: some values are frequent, or strings repeat.
 * Each window of 128 KiB is looked at for both, the cheap one first, and the
 * first sign of either ends the probe, so that text pays for one histogram:
 *
 * 1. order-0 entropy of 16 slices of 128 bytes, evenly spread: below 7.65 bits
 *    an entropy coder may win something (2048 random bytes measure as 7.91).
 * 2. repeats: 4-byte strings at every 64th byte of the window go into a table;
 *    every position of the slices looks itself up there. A long repeat is found
 *    at any distance and alignment (a part f of the window that stands there
 *    twice gives 32 * f hits, and many more at multiples of 64), and so are
 *    values that come from a small set.
 *    Random bytes give 0.001 hits.
 *
 * A wrong "raw" costs space for ever, a wrong "zstd" costs microseconds once:
 * the thresholds lean to zstd. Figures: docs/codec.md.
 */
#include <string.h>

#include "fs/codec/codec_impl.h"

enum {
	WINDOW = 128 << 10,
	SAMPLES = BALE_PROBE_SLICES * BALE_PROBE_SLICE,
	STRIDE = 64,
	HITS_MIN = 2,
	HITS_MANY = SAMPLES / 16,
};

static const float flat_bits = 7.65F;

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
	uint16_t(*count)[256] = ctx->probe.count;
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
		uint32_t n = (uint32_t)count[0][v] + count[1][v] + count[2][v] +
			     count[3][v];

		sum += n ? (float)n * bale_codec_log2(n) : 0;
	}
	return bale_codec_log2(SAMPLES) - sum / SAMPLES;
}

/*
 * Positions of the slices whose 4 bytes stand at a multiple of STRIDE in the
 * window too. The table holds the strings themselves; an empty slot is the
 * string of zeros, which is a repeat by any name.
 */
static unsigned int count_hits(struct bale_codec_ctx *ctx, const uint8_t *src,
			       size_t len)
{
	uint32_t *seen = ctx->probe.seen;
	unsigned int hits = 0;

	/* What stands there twice at a distance of a multiple of STRIDE, as
	   blocks of files do, meets itself here and nowhere else. */
	for (size_t i = 0; i + 4 <= len; i += STRIDE) {
		uint32_t v = load32(src + i);

		hits += seen[slot(v)] == v;
		seen[slot(v)] = v;
	}
	for (size_t s = 0; s < BALE_PROBE_SLICES; s++) {
		const uint8_t *p = slice(src, len, s);
		size_t self = (size_t)(p - src) % STRIDE;

		for (size_t i = 0; i + 4 <= BALE_PROBE_SLICE; i++) {
			uint32_t v = load32(p + i);

			/* A string that is in the table itself is no repeat. */
			hits += seen[slot(v)] == v && (self + i) % STRIDE;
		}
	}
	return hits;
}

enum bale_probe_verdict bale_codec_probe(struct bale_codec_ctx *ctx,
					 const uint8_t *src, size_t len)
{
	memset(ctx->probe.seen, 0, sizeof(ctx->probe.seen));
	for (size_t off = 0; off < len; off += WINDOW) {
		size_t n = len - off < WINDOW ? len - off : WINDOW;
		unsigned int hits;

		/* Too short to say anything, and no 1/16 of the extent. */
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
