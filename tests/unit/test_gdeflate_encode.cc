/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GDeflate encoder of the device: what it makes is read back by the plain
 * reader of tests/support, the CPU's readers and the device's decoder.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
extern "C" {
#include <cmocka.h>

#include "fs/codec/codec_gdeflate.h"
}

#include "../support/gdeflate_plain.h"
#include "gdeflate_batch.h"

static const int levels[] = { -1, 1, 2, 3 };

/* Every chunk is a tile of its source. */
static void check_tiles(const Batch &b)
{
	struct bale_gd_decoder *cpu = bale_gd_decoder_create();
	Bytes back(BALE_UNIT_SIZE + 1);

	assert_non_null(cpu);
	for (const Chunk &c : b.chunks) {
		assert_int_equal(c.status, BALE_CHUNK_OK);
		assert_true(c.out_len <= c.cap);
		assert_true(plain_decode(c.to, c.out_len, back.data(), c.len));
		if (!c.len)
			continue;
		assert_memory_equal(back.data(), c.from, c.len);
		back.assign(back.size(), 0);
		assert_int_equal(
			bale_gd_reader_best()->decode(cpu, c.to, c.out_len,
						      back.data(), c.len),
			0);
		assert_memory_equal(back.data(), c.from, c.len);
	}
	bale_gd_decoder_destroy(cpu);
}

static void test_round_trip(void **)
{
	static const uint32_t sizes[] = { 0,	1,    2,     31,   32,
					  33,	127,  128,   129,  4095,
					  4096, 4097, 65535, 65536 };

	for (int level : levels) {
		Batch b, d;

		for (uint32_t len : sizes)
			for (unsigned int kind = 0; kind < CONTENT_KINDS;
			     kind++) {
				if (len > 5000 && kind > 2)
					continue;
				b.add(content(kind, len, 9),
				      bale_gd_tile_bound(len),
				      (int)(len + kind) % 5 - 1);
			}
		assert_int_equal(b.encode(level), 0);
		assert_true(b.intact());
		check_tiles(b);
		for (const Chunk &c : b.chunks)
			d.add(Bytes(c.to, c.to + c.out_len), c.len);
		assert_int_equal(d.decode(), 0);
		assert_true(d.intact());
		for (size_t i = 0; i < d.chunks.size(); i++) {
			assert_int_equal(d.chunks[i].status, BALE_CHUNK_OK);
			assert_memory_equal(d.chunks[i].to, b.chunks[i].from,
					    b.chunks[i].len);
		}
	}
}

/* Whatever the order in which lanes run, the bytes are the same. */
static void test_lane_orders(void **)
{
	static const enum bale_emu_order orders[] = { BALE_EMU_UP,
						      BALE_EMU_DOWN,
						      BALE_EMU_RANDOM };

	for (int level : levels) {
		std::vector<Bytes> first;

		for (enum bale_emu_order order : orders) {
			Batch b;

			for (unsigned int kind = 0; kind < CONTENT_KINDS;
			     kind++)
				b.add(content(kind, 9000, 31), 10000);
			bale_emu_set_order(order, 5);
			assert_int_equal(b.encode(level), 0);
			for (size_t i = 0; i < b.chunks.size(); i++) {
				const Chunk &c = b.chunks[i];
				Bytes tile(c.to, c.to + c.out_len);

				if (order == BALE_EMU_UP)
					first.push_back(tile);
				assert_true(tile == first[i]);
			}
		}
		bale_emu_set_order(BALE_EMU_UP, 0);
	}
}

/* A tile gets exactly the room that it needs, or less: nothing is written
 * beyond. */
static void test_room(void **)
{
	for (int level : levels) {
		Batch b, again;

		for (unsigned int kind = 0; kind < CONTENT_KINDS; kind++)
			b.add(content(kind, 3000, 2), 4000);
		assert_int_equal(b.encode(level), 0);
		for (const Chunk &c : b.chunks) {
			Bytes src(c.from, c.from + c.len);
			uint32_t n = c.out_len;

			for (uint32_t cap :
			     { n, n - 1, n - 4, n / 2, 129u, 128u, 127u, 0u })
				again.add(src, cap);
		}
		assert_int_equal(again.encode(level), 0);
		assert_true(again.intact());
		for (size_t i = 0; i < again.chunks.size(); i++) {
			const Chunk &c = again.chunks[i];
			bool fits = c.cap >= b.chunks[i / 8].out_len;

			assert_int_equal(c.status, fits ? BALE_CHUNK_OK :
							  BALE_CHUNK_NO_ROOM);
			assert_int_equal(c.out_len,
					 fits ? b.chunks[i / 8].out_len : 0);
		}
	}
}

/* What does not shrink is stored, in little more than its size. */
static void test_stored(void **)
{
	for (int level : levels) {
		Batch b;

		for (uint32_t len : { 1u, 100u, 65535u, 65536u })
			b.add(content(1, len, 6), bale_gd_tile_bound(len));
		assert_int_equal(b.encode(level), 0);
		check_tiles(b);
		for (const Chunk &c : b.chunks)
			assert_true(c.out_len <= c.len + 272);
	}
}

/* Long codes: counts that grow like Fibonacci's numbers. */
static void test_long_codes(void **)
{
	Bytes src;
	uint32_t a = 1, next = 1;

	for (uint32_t sym = 0; src.size() + a <= BALE_UNIT_SIZE; sym++) {
		uint32_t sum = a + next;

		src.insert(src.end(), a, (uint8_t)(7 * sym));
		a = next;
		next = sum;
	}
	Random r = { 3 };
	for (size_t i = src.size() - 1; i; i--)
		std::swap(src[i], src[r.below((uint32_t)i + 1)]);
	for (int level : levels) {
		Batch b;

		b.add(src, BALE_UNIT_SIZE);
		assert_int_equal(b.encode(level), 0);
		check_tiles(b);
	}
}

static void test_wrong_calls(void **)
{
	struct bale_chunks c = {};

	c.nr = 1;
	c.max_chunk = BALE_UNIT_SIZE;
	assert_int_equal(bale_gdeflate_encode(4, &c), -EINVAL);
	assert_int_equal(bale_gdeflate_encode(-2, &c), -EINVAL);
	assert_int_equal(bale_gdeflate_encode(2, &c), -EINVAL);
	c.max_chunk = BALE_UNIT_SIZE + 1;
	assert_int_equal(bale_gdeflate_encode(-1, &c), -EINVAL);
	c.max_chunk = BALE_UNIT_SIZE;
	c.nr = 0;
	assert_int_equal(bale_gdeflate_encode(-1, &c), 0);
	assert_int_equal(bale_gdeflate_decode(&c), 0);
	assert_int_equal(bale_gdeflate_decoded_len(&c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_lane_orders),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_stored),
		cmocka_unit_test(test_long_codes),
		cmocka_unit_test(test_wrong_calls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
