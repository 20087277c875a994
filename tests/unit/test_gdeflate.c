/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDeflate tiles: every reader that the machine has, and one written from the
 * description alone (gdeflate_plain.h), on what the encoder makes, on tiles
 * built slot by slot, and on all of these damaged. Buffers end at pages that
 * may not be touched.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/codec/codec_gdeflate_read.h"
#include "fs/codec/codec_gdeflate_write.h"
#include "tests/support/gdeflate_plain.h"
#include "tests/support/guard.h"

enum { READERS_MAX = 8, CODED_MAX = 80 << 10, UNIT = BALE_UNIT_SIZE };

static const int levels[] = { -1, 1, 2, 3 };
static const struct bale_gd_reader *readers[READERS_MAX];
static unsigned int nr_readers;
static struct bale_gd_decoder *decoder;
static struct bale_gd_encoder *encoder;
static struct guard src_guard, coded_guard, back_guard;
static uint64_t rng = 88172645463325252ULL;

static uint32_t rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng * 0x2545f4914f6cdd1dULL >> 32) % n);
}

/* All readers on one tile: the same answer, and the plain one's. True: it
 * decodes, to content where that is given. */
static bool decode_all(const uint8_t *tile, size_t tile_len,
		       const uint8_t *content, size_t len)
{
	static uint8_t plain[UNIT];
	bool good = plain_decode(tile, tile_len, plain, len);

	for (unsigned int i = 0; i < nr_readers; i++) {
		uint8_t *in = guard_high(&coded_guard, tile_len);
		uint8_t *out = rnd(2) ? guard_high(&back_guard, len) :
					guard_low(&back_guard, len);
		int r;

		memcpy(in, tile, tile_len);
		memset(out, 0xa5 + (int)i, len);
		r = readers[i]->decode(decoder, in, tile_len, out, len);
		if (r != (good ? 0 : -EUCLEAN))
			fail_msg("%s says %d, length %zu of %zu",
				 readers[i]->name, r, len, tile_len);
		if (good)
			assert_memory_equal(out, plain, len);
		if (good && content)
			assert_memory_equal(out, content, len);
	}
	return good;
}

/* Encode, and check that it fits exactly what it says that it takes. */
static size_t encode(int level, const uint8_t *content, size_t len,
		     uint8_t *tile)
{
	uint8_t *in = guard_high(&src_guard, len), *out;
	size_t n = 0, again = 0, bound = bale_gd_tile_bound((uint32_t)len);

	memcpy(in, content, len);
	out = guard_high(&coded_guard, bound);
	assert_int_equal(
		bale_gd_encode(encoder, level, in, len, out, bound, &n), 0);
	assert_true(n <= bound && n >= BALE_GD_TILE_MIN && n % 4 == 0);
	memcpy(tile, out, n);
	out = guard_high(&coded_guard, n);
	assert_int_equal(
		bale_gd_encode(encoder, level, in, len, out, n, &again), 0);
	assert_int_equal(again, n);
	assert_memory_equal(out, tile, n);
	out = guard_high(&coded_guard, n - 1);
	assert_int_equal(
		bale_gd_encode(encoder, level, in, len, out, n - 1, &again),
		-ENOSPC);
	return n;
}

static void round_trip(const uint8_t *content, size_t len)
{
	static uint8_t tile[CODED_MAX];

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		size_t n = encode(levels[i], content, len, tile);

		assert_true(decode_all(tile, n, content, len));
	}
}

/* ---- content ---- */

/* Words, runs, copies from before, noise, ramps: a mix that differs each time.
 */
static void make_structured(uint8_t *p, size_t len)
{
	uint32_t alphabet = 1 + rnd(255), kinds = 1 + rnd(63);
	size_t i = 0;

	while (i < len) {
		size_t n = 1 + rnd(1U << (1 + rnd(12))), from;
		uint32_t kind = rnd(6), v = rnd(256);

		if (!(kinds >> kind & 1))
			kind = (uint32_t)__builtin_ctz(kinds);
		if (n > len - i)
			n = len - i;
		from = i ? rnd((uint32_t)(i < 40000 ? i : 40000)) : 0;
		for (size_t k = 0; k < n; k++, i++) {
			if (kind == 0)
				p[i] = (uint8_t)v;
			else if (kind == 1 && i)
				p[i] = p[i - 1 - from];
			else if (kind == 2)
				p[i] = (uint8_t)(rnd(alphabet) & rnd(256));
			else if (kind == 3)
				p[i] = (uint8_t)(v + k);
			else if (kind == 4)
				p[i] = "the of and to a in is it "[(v + k) %
								   25];
			else
				p[i] = (uint8_t)rnd(alphabet);
		}
	}
}

static void sizes_round_trip(void **state)
{
	static const size_t sizes[] = { 127,   128,   129,   255,   256,
					257,   1000,  4095,  32767, 32768,
					32769, 65534, 65535, 65536 };
	static uint8_t content[UNIT];

	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		if (kind == 0)
			memset(content, 'a', UNIT);
		else if (kind == 1)
			for (size_t i = 0; i < UNIT; i++)
				content[i] = (uint8_t)rnd(256);
		else
			make_structured(content, UNIT);
		for (size_t len = 1; len < 100; len++)
			round_trip(content, len);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			round_trip(content, sizes[i]);
	}
}

static void structured_data_round_trips(void **state)
{
	static uint8_t content[UNIT];

	(void)state;
	for (int i = 0; i < 1500; i++) {
		size_t len = 1 + rnd(1U << (1 + rnd(16)));

		make_structured(content, len);
		round_trip(content, len);
	}
}

/* One length and one distance of every symbol, at its two ends. */
static void lengths_and_distances(void **state)
{
	static uint8_t content[UNIT], tile[CODED_MAX];

	(void)state;
	for (uint32_t len = 3; len <= 65538; len++) {
		uint32_t i = bale_gd_len_index(len);

		assert_true(len >= bale_gd_len_base(i) &&
			    len - bale_gd_len_base(i) <
				    1U << bale_gd_len_extra(i));
	}
	for (uint32_t dist = 1; dist <= 65536; dist++) {
		uint32_t s = bale_gd_dist_symbol(dist);

		assert_true(s < BALE_GD_DIST_NR &&
			    dist >= bale_gd_dist_base(s) &&
			    dist - bale_gd_dist_base(s) <
				    1U << bale_gd_dist_extra(s));
	}
	for (uint32_t s = 0; s < 2 * BALE_GD_DIST_NR; s++) {
		uint32_t dist = bale_gd_dist_base(s / 2), n = 0;
		size_t len;

		if (s & 1)
			dist += (1U << bale_gd_dist_extra(s / 2)) - 1;
		if (dist > UNIT - 100)
			dist = UNIT - 100;
		len = dist + 100;
		for (size_t i = 0; i < dist; i++)
			content[i] = (uint8_t)rnd(256);
		for (size_t i = dist; i < len; i++)
			content[i] = content[i - dist];
		round_trip(content, len);
		n = (uint32_t)encode(2, content, len, tile);
		assert_true(n < bale_gd_tile_bound((uint32_t)dist) + 100);
	}
	for (size_t len = 250; len < 270; len++) {
		memset(content, 7, len);
		round_trip(content, len);
	}
}

/* What a level is for: each is smaller than the one before, and only level 1
 * pays for a change of content with a code that fits neither. */
static void higher_levels_are_smaller(void **state)
{
	static uint8_t content[UNIT], tile[CODED_MAX];
	size_t n[4], halves = 0;

	(void)state;
	for (size_t i = 0; i < UNIT; i++)
		content[i] =
			(uint8_t)(i < UNIT / 2 ? 'a' + rnd(16) : 200 + rnd(16));
	for (size_t i = 2000; i < UNIT; i += 40)
		memcpy(content + i, content + i - 2000 + rnd(1900), 10);
	for (size_t i = 0; i < 4; i++)
		n[i] = encode(levels[i], content, UNIT, tile);
	assert_true(n[1] < n[0] + n[0] / 4 && n[2] < n[1] && n[3] < n[2]);
	/* Two halves of 4 bits a byte, where one code would need 5. */
	halves = encode(-1, content, UNIT / 2, tile);
	assert_true(n[0] < 2 * halves + 256 && n[0] < UNIT / 2 + UNIT / 16);
}

/* ---- tiles made by hand ---- */

struct made {
	uint8_t tile[CODED_MAX];
	size_t len;
	struct bale_gd_lanes w;
};

static void made_start(struct made *m)
{
	assert_true(bale_gd_lanes_start(&m->w, m->tile, sizeof(m->tile)));
}

static void made_finish(struct made *m)
{
	assert_int_equal(bale_gd_lanes_finish(&m->w, &m->len), 0);
}

/* Header of a last block with these lengths, every one by itself: the precode
 * has 16 symbols of 4 bits, so it can say lengths 0 to 15 and no runs. */
static void made_codes(struct made *m, const uint8_t *litlen,
		       uint32_t nr_litlen, const uint8_t *dist,
		       uint32_t nr_dist)
{
	bale_gd_lanes_put(&m->w, 0, 1 | BALE_GD_DYNAMIC << 1, 3);
	bale_gd_lanes_put(&m->w, 0,
			  (nr_litlen - 257) | (nr_dist - 1) << 5 | 15 << 10,
			  14);
	for (uint32_t k = 0; k < BALE_GD_PRECODE_NR; k++)
		bale_gd_lanes_put(&m->w, k,
				  bale_gd_precode_order(k) < 16 ? 4 : 0, 3);
	for (uint32_t i = 0; i < nr_litlen + nr_dist; i++) {
		uint32_t v = i < nr_litlen ? litlen[i] : dist[i - nr_litlen];

		/* First bit lowest. */
		v = (v & 1) << 3 | (v & 2) << 1 | (v & 4) >> 1 | v >> 3;
		bale_gd_lanes_put(&m->w, i % BALE_GD_LANES, v, 4);
	}
}

static void put_code(struct made *m, uint32_t lane,
		     const struct bale_gd_code *c, uint32_t sym)
{
	bale_gd_lanes_put(&m->w, lane, c->code[sym], c->bits[sym]);
}

/* Lengths 1, 2, 3 ... 15, 15 for 16 symbols, from `first` on every `step`-th:
 * second tables of every width. */
static void long_codes(struct bale_gd_code *c, uint32_t nr, uint32_t first,
		       uint32_t step)
{
	memset(c, 0, sizeof(*c));
	for (uint32_t i = 0; i < 16; i++)
		c->bits[first + i * step] = (uint8_t)(i < 15 ? i + 1 : 15);
	bale_gd_code_assign(c, nr);
}

static void codes_of_15_bits(void **state)
{
	static struct made m;
	static struct bale_gd_code ll, dd;
	static uint8_t want[UNIT];
	size_t len = 0;

	(void)state;
	/* 16, 32, ... 240, 256: the end has 15 bits. */
	long_codes(&ll, BALE_GD_LITLEN_NR, 16, 16);
	memset(&dd, 0, sizeof(dd));
	made_start(&m);
	made_codes(&m, ll.bits, 257, dd.bits, 1);
	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t sym = 16 * (1 + rnd(15));

		want[len++] = (uint8_t)sym;
		put_code(&m, i % 32, &ll, sym);
	}
	put_code(&m, 3000 % 32, &ll, 256);
	made_finish(&m);
	assert_true(decode_all(m.tile, m.len, want, len));
	assert_false(decode_all(m.tile, m.len, NULL, len - 1));
	assert_false(decode_all(m.tile, m.len, NULL, len + 1));
	assert_false(decode_all(m.tile, m.len - 4, NULL, len));
	memset(m.tile + m.len, 0, 4);
	assert_false(decode_all(m.tile, m.len + 4, NULL, len));
}

/* One literal, then matches of 15 + 16 and 15 + 14 bits, all lanes at once. */
static void slots_of_31_bits(void **state)
{
	static struct made m;
	static struct bale_gd_code ll, dd;
	static uint8_t want[UNIT];
	uint32_t lens = 0;

	(void)state;
	memset(&ll, 0, sizeof(ll));
	for (uint32_t i = 0; i < 13; i++)
		ll.bits[i] = (uint8_t)(i + 1);
	ll.bits[256] = ll.bits[100] = 15;
	ll.bits[285] = ll.bits[101] = 15;
	bale_gd_code_assign(&ll, BALE_GD_LITLEN_NR);
	long_codes(&dd, BALE_GD_DIST_NR, 16, 1);
	made_start(&m);
	made_codes(&m, ll.bits, 286, dd.bits, 32);
	for (uint32_t i = 0; i < 64 * 32; i++) {
		put_code(&m, i % 32, &ll, 100);
		want[lens++] = 100;
	}
	for (uint32_t turn = 0; turn < 20; turn++) {
		for (uint32_t lane = 0; lane < 32; lane++) {
			uint32_t n = 3 + lane + turn;

			bale_gd_lanes_put(&m.w, lane,
					  ll.code[285] | (n - 3) << 15, 31);
			memset(want + lens, 100, n);
			lens += n;
		}
		for (uint32_t lane = 0; lane < 32; lane++)
			bale_gd_lanes_put(&m.w, lane,
					  dd.code[18] | (lane * 3) << 3, 11);
	}
	put_code(&m, 0, &ll, 256);
	made_finish(&m);
	assert_true(decode_all(m.tile, m.len, want, lens));
}

/* A distance symbol of 15 bits with 14 extra ones: 32769 and up. */
static void far_distances(void **state)
{
	static struct made m;
	static struct bale_gd_code ll, dd;
	static uint8_t want[UNIT];
	uint32_t len = 0;

	(void)state;
	memset(&ll, 0, sizeof(ll));
	for (uint32_t i = 0; i < 126; i++)
		ll.bits[i] = 7;
	ll.bits[256] = ll.bits[257] = 7;
	bale_gd_code_assign(&ll, BALE_GD_LITLEN_NR);
	long_codes(&dd, BALE_GD_DIST_NR, 16, 1);
	made_start(&m);
	made_codes(&m, ll.bits, 258, dd.bits, 32);
	for (; len < 50000; len++) {
		want[len] = (uint8_t)rnd(126);
		put_code(&m, len % 32, &ll, want[len]);
	}
	/* Lane 16 is next, and gets its distance behind the end in lane 17. */
	assert_int_equal(len % 32, 16);
	put_code(&m, 16, &ll, 257);
	put_code(&m, 17, &ll, 256);
	bale_gd_lanes_put(&m.w, 16, dd.code[31] | (50000 - 49153) << 15, 29);
	made_finish(&m);
	for (uint32_t i = 0; i < 3; i++)
		want[len + i] = want[i];
	assert_true(decode_all(m.tile, m.len, want, len + 3));
}

/* The end of a block in every lane, with matches due before and behind it. */
static void ends_in_every_lane(void **state)
{
	static struct made m;
	static struct bale_gd_code ll, dd;
	static uint8_t want[UNIT];

	(void)state;
	memset(&ll, 0, sizeof(ll));
	ll.bits['x'] = ll.bits['y'] = ll.bits[256] = ll.bits[258] = 2;
	bale_gd_code_assign(&ll, BALE_GD_LITLEN_NR);
	memset(&dd, 0, sizeof(dd));
	dd.bits[0] = dd.bits[1] = 1;
	bale_gd_code_assign(&dd, BALE_GD_DIST_NR);
	for (uint32_t nr = 1; nr < 300; nr++) {
		uint32_t due = 0, lane = 0, len = 0, dist[32] = { 0 };

		made_start(&m);
		made_codes(&m, ll.bits, 259, dd.bits, 2);
		for (uint32_t i = 0; i < nr;) {
			uint32_t l = lane++ % 32, bit = 1U << l;

			if (due & bit) {
				put_code(&m, l, &dd, dist[l] - 1);
				due &= ~bit;
				continue;
			}
			if (len >= 2 && rnd(2)) {
				dist[l] = 1 + rnd(2);
				for (int k = 0; k < 4; k++, len++)
					want[len] = want[len - dist[l]];
				put_code(&m, l, &ll, 258);
				due |= bit;
			} else {
				want[len++] = rnd(2) ? 'x' : 'y';
				put_code(&m, l, &ll, want[len - 1]);
			}
			i++;
		}
		while (due & 1U << lane % 32) {
			put_code(&m, lane % 32, &dd, dist[lane % 32] - 1);
			due &= ~(1U << lane++ % 32);
		}
		put_code(&m, lane % 32, &ll, 256);
		for (uint32_t k = 1; k < 32; k++)
			if (due & 1U << (lane + k) % 32)
				put_code(&m, (lane + k) % 32, &dd,
					 dist[(lane + k) % 32] - 1);
		made_finish(&m);
		assert_true(decode_all(m.tile, m.len, want, len));
	}
}

/* Symbols 286 and 287 may have codes, but must not come. */
static void unused_symbols(void **state)
{
	static struct made m;
	static struct bale_gd_code ll, dd;

	(void)state;
	memset(&ll, 0, sizeof(ll));
	ll.bits['x'] = ll.bits[256] = ll.bits[286] = ll.bits[287] = 2;
	bale_gd_code_assign(&ll, BALE_GD_LITLEN_NR);
	memset(&dd, 0, sizeof(dd));
	for (uint32_t bad = 285; bad < 288; bad++) {
		made_start(&m);
		made_codes(&m, ll.bits, 288, dd.bits, 1);
		put_code(&m, 0, &ll, 'x');
		if (bad > 285)
			put_code(&m, 1, &ll, bad);
		put_code(&m, 1 + (bad > 285), &ll, 256);
		made_finish(&m);
		assert_int_equal(decode_all(m.tile, m.len, NULL, 1),
				 bad == 285);
		assert_false(decode_all(m.tile, m.len, NULL, 4));
	}
}

/* ---- damage ---- */

static void damaged_tiles(void **state)
{
	static uint8_t content[UNIT], tile[CODED_MAX], bad[CODED_MAX];
	unsigned int good = 0;

	(void)state;
	for (int i = 0; i < 300; i++) {
		size_t len = 1 + rnd(1U << (1 + rnd(i % 8 ? 12 : 16))), n;

		make_structured(content, len);
		n = encode(levels[rnd(4)], content, len, tile);
		for (int k = 0; k < 40; k++) {
			uint32_t at = rnd((uint32_t)n);

			memcpy(bad, tile, n);
			/* Most of it in the headers. */
			if (k & 1 && at > 256)
				at %= 256;
			for (uint32_t flips = 1 + rnd(3); flips; flips--)
				bad[(at + rnd(8)) % n] ^=
					(uint8_t)(1U << rnd(8));
			good += decode_all(bad, n, NULL, len);
		}
		for (int k = 0; k < 10; k++)
			assert_false(
				decode_all(tile, rnd((uint32_t)n), NULL, len));
		assert_false(
			decode_all(tile, n, NULL, len - 1 + !(len - 1) * 2));
	}
	/* A flip in a literal's code often gives another one. */
	assert_true(good > 100);
}

/* Bytes of no encoder at all. */
static void noise_is_no_tile(void **state)
{
	static uint8_t tile[CODED_MAX];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		size_t n = 4 * (size_t)(32 + rnd(200));

		for (size_t k = 0; k < n; k++)
			tile[k] = (uint8_t)rnd(256);
		/* Lane 0 begins with the header. */
		tile[0] =
			(uint8_t)((tile[0] & ~7) | (i % 4) << 1 | (i / 4 & 1));
		decode_all(tile, n, NULL, 1 + rnd(3000));
	}
}

/* ---- codes ---- */

static void codes_are_complete(void **state)
{
	static struct bale_gd_code c;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		uint32_t freq[BALE_GD_LITLEN_NR] = { 0 }, space = 0, used = 0;
		uint32_t nr = 2 + rnd(287), max = nr < 100 && rnd(2) ? 7 : 14;
		uint32_t a = 1, b = 1;

		for (uint32_t s = 0; s < nr; s++) {
			/* Fibonacci's numbers make the deepest trees. */
			uint32_t next = a + b > 60000 ? 1 : a + b;

			freq[s] = i & 1 ? a : rnd(1U << rnd(17));
			a = b;
			b = next;
		}
		bale_gd_code_make(&c, freq, nr, max);
		for (uint32_t s = 0; s < nr; s++) {
			assert_true(c.bits[s] <= max);
			assert_int_equal(c.bits[s] == 0, freq[s] == 0);
			used += c.bits[s] != 0;
			space += c.bits[s] ? 1U << (max - c.bits[s]) : 0;
		}
		if (used == 1)
			assert_int_equal(space, 1U << (max - 1));
		else if (used)
			assert_int_equal(space, 1U << max);
	}
}

static void wrong_levels_and_sizes(void **state)
{
	static uint8_t tile[CODED_MAX], content[UNIT + 1];
	size_t n;

	(void)state;
	assert_int_equal(
		bale_gd_encode(encoder, 4, content, 100, tile, CODED_MAX, &n),
		-EINVAL);
	assert_int_equal(
		bale_gd_encode(encoder, 0, content, 100, tile, CODED_MAX, &n),
		-EINVAL);
	assert_int_equal(
		bale_gd_encode(encoder, 1, content, 0, tile, CODED_MAX, &n),
		-EINVAL);
	assert_int_equal(bale_gd_encode(encoder, 1, content, UNIT + 1, tile,
					CODED_MAX, &n),
			 -EINVAL);
	assert_int_equal(bale_gd_encode(encoder, 1, content, 100, tile,
					BALE_GD_TILE_MIN - 1, &n),
			 -ENOSPC);
	n = encode(1, content, UNIT, tile);
	for (unsigned int i = 0; i < nr_readers; i++) {
		assert_int_equal(
			readers[i]->decode(decoder, tile, n, content, 0),
			-EUCLEAN);
		assert_int_equal(
			readers[i]->decode(decoder, tile, n, content, UNIT + 1),
			-EUCLEAN);
		assert_int_equal(
			readers[i]->decode(decoder, tile, 0, content, UNIT),
			-EUCLEAN);
	}
}

static void a_reader_is_chosen(void **state)
{
	(void)state;
	assert_string_equal(readers[0]->name, "scalar");
	/* The order is that of speed; nothing but a name changes it. */
	assert_ptr_equal(bale_gd_reader_best(), readers[nr_readers - 1]);
}

static int setup(void **state)
{
	(void)state;
	unsetenv("BALEFS_GDEFLATE_READER");
	decoder = bale_gd_decoder_create();
	encoder = bale_gd_encoder_create();
	guard_init(&src_guard, UNIT);
	guard_init(&coded_guard, CODED_MAX);
	guard_init(&back_guard, UNIT);
	while (nr_readers < READERS_MAX &&
	       (readers[nr_readers] = bale_gd_reader_get(nr_readers)))
		nr_readers++;
	return !decoder || !encoder || !nr_readers;
}

static int teardown(void **state)
{
	(void)state;
	bale_gd_decoder_destroy(decoder);
	bale_gd_encoder_destroy(encoder);
	guard_fini(&src_guard);
	guard_fini(&coded_guard);
	guard_fini(&back_guard);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reader_is_chosen),
		cmocka_unit_test(lengths_and_distances),
		cmocka_unit_test(codes_are_complete),
		cmocka_unit_test(sizes_round_trip),
		cmocka_unit_test(structured_data_round_trips),
		cmocka_unit_test(higher_levels_are_smaller),
		cmocka_unit_test(codes_of_15_bits),
		cmocka_unit_test(slots_of_31_bits),
		cmocka_unit_test(far_distances),
		cmocka_unit_test(ends_in_every_lane),
		cmocka_unit_test(unused_symbols),
		cmocka_unit_test(wrong_levels_and_sizes),
		cmocka_unit_test(damaged_tiles),
		cmocka_unit_test(noise_is_no_tile),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
