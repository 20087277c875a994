/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GDeflate decoder of the device against tiles made slot by slot, broken
 * tiles, and the plain reader of tests/support.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
extern "C" {
#include <cmocka.h>
}

#include "gdeflate_batch.h"

/* The plain reader's word on a tile. */
static bool plain(const Bytes &tile, Bytes *out, size_t cap,
		  struct gdr_stats *st)
{
	size_t len = 0;
	bool ok;

	out->assign(cap + 1, 0);
	ok = gdr_decode(tile.data(), tile.size(), out->data(), cap, &len, st);
	out->resize(ok ? len : 0);
	return ok;
}

static void check_good(const Batch &b, size_t i, const Bytes &want)
{
	const Chunk &c = b.chunks[i];

	assert_int_equal(c.status, BALE_CHUNK_OK);
	assert_int_equal(c.out_len, want.size());
	if (!want.empty())
		assert_memory_equal(c.to, want.data(), want.size());
}

static void test_made_tiles(void **)
{
	static const uint32_t sizes[] = { 0,	1,    2,     3,	    31,	  32,
					  33,	100,  127,   128,   129,  1000,
					  4095, 4097, 20000, 65535, 65536 };
	struct gdr_stats all = {}, st;
	Batch b, walk;
	std::vector<Bytes> want;

	for (uint32_t len : sizes)
		for (unsigned int kind = 0; kind < CONTENT_KINDS; kind++) {
			bool skewed = kind & 1;
			uint32_t block = kind % 3 == 0 ? 70000 : 7 + len / 5;
			Bytes src = content(kind, len, 5), back;
			Bytes tile;

			if (len > 30000 && kind > 3)
				continue;
			tile = make_tile(src, block, skewed, kind != 6);
			assert_true(plain(tile, &back, len, &st));
			assert_true(back == src);
			for (int k = 0; k < 3; k++)
				all.blocks[k] += st.blocks[k];
			all.matches += st.matches;
			if (st.longest > all.longest)
				all.longest = st.longest;
			b.add(tile, len, kind & 1);
			walk.add(tile, 0);
			want.push_back(src);
		}
	/* What the tiles are meant to have in them. */
	for (uint32_t blocks : all.blocks)
		assert_true(blocks > 20);
	assert_int_equal(all.longest, 15);
	assert_true(all.matches > 10000);
	assert_int_equal(b.decode(), 0);
	assert_int_equal(walk.decoded_len(), 0);
	assert_true(b.intact());
	for (size_t i = 0; i < want.size(); i++) {
		check_good(b, i, want[i]);
		assert_int_equal(walk.chunks[i].status, BALE_CHUNK_OK);
		assert_int_equal(walk.chunks[i].out_len, want[i].size());
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_tiles),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
