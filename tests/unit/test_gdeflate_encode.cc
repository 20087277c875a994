/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GDeflate encoder of the device: what it makes is read back by the plain
 * reader of tests/support and by the device's decoder.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
extern "C" {
#include <cmocka.h>
}

#include "gdeflate_batch.h"

static const int levels[] = { -1, 1, 2, 3 };

/* Every chunk is a tile of its source. */
static void check_tiles(const Batch &b)
{
	Bytes back(BALE_UNIT_SIZE + 1);
	size_t len;

	for (const Chunk &c : b.chunks) {
		assert_int_equal(c.status, BALE_CHUNK_OK);
		assert_true(c.out_len <= c.cap);
		assert_true(gdr_decode(c.to, c.out_len, back.data(),
				       back.size(), &len, NULL));
		assert_int_equal(len, c.len);
		if (len)
			assert_memory_equal(back.data(), c.from, len);
	}
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
				      bale_gd_tile_bound(len), kind & 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
