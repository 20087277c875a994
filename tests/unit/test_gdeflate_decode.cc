/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GDeflate decoder of the device against tiles made slot by slot, broken
 * tiles, and the plain reader of tests/support.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <functional>
extern "C" {
#include <cmocka.h>
}

#include "../support/gdeflate_plain.h"
#include "gdeflate_batch.h"

static bool plain(const Bytes &tile, Bytes *out, size_t len)
{
	bool ok;

	out->assign(len + 1, 0);
	ok = plain_decode(tile.data(), tile.size(), out->data(), len);
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
	Made made = {};
	Batch b, walk;
	std::vector<Bytes> want;

	for (uint32_t len : sizes)
		for (unsigned int kind = 0; kind < CONTENT_KINDS; kind++) {
			uint32_t block = kind % 3 == 0 ? 70000 : 7 + len / 5;
			Bytes src = content(kind, len, 5), back;
			Bytes tile;

			if (len > 30000 && kind > 3)
				continue;
			tile = make_tile(src, block, kind & 1, kind != 6,
					 &made);
			assert_true(plain(tile, &back, len));
			assert_true(back == src);
			b.add(tile, len, (int)(len + kind) % 5 - 1);
			walk.add(tile, 0, (int)kind % 3 - 1);
			want.push_back(src);
		}
	/* What the tiles are meant to have in them. */
	for (uint32_t blocks : made.blocks)
		assert_true(blocks > 20);
	assert_int_equal(made.longest, 15);
	assert_true(made.matches > 10000);
	assert_int_equal(b.decode(), 0);
	assert_int_equal(walk.decoded_len(), 0);
	assert_true(b.intact());
	for (size_t i = 0; i < want.size(); i++) {
		check_good(b, i, want[i]);
		assert_int_equal(walk.chunks[i].status, BALE_CHUNK_OK);
		assert_int_equal(walk.chunks[i].out_len, want[i].size());
	}
}

/* Whatever the order in which lanes run, the answer is the same. */
static void test_lane_orders(void **)
{
	static const enum bale_emu_order orders[] = { BALE_EMU_UP,
						      BALE_EMU_DOWN,
						      BALE_EMU_RANDOM };
	Made made = {};

	for (enum bale_emu_order order : orders) {
		std::vector<Bytes> want;
		Batch b;

		for (unsigned int kind = 0; kind < CONTENT_KINDS; kind++) {
			Bytes src = content(kind, 6000, 21);

			b.add(make_tile(src, 1500, kind & 1, true, &made),
			      6000);
			want.push_back(src);
		}
		bale_emu_set_order(order, 4711);
		assert_int_equal(b.decode(), 0);
		for (size_t i = 0; i < want.size(); i++)
			check_good(b, i, want[i]);
	}
	bale_emu_set_order(BALE_EMU_UP, 0);
}

/* ---- tiles by hand ---- */

struct Case {
	const char *what;
	Bytes tile;
	uint32_t len; /* decoded */
	bool good;
};

static void check_cases(const std::vector<Case> &cases)
{
	Batch b, walk;

	for (const Case &c : cases) {
		b.add(c.tile, c.len);
		walk.add(c.tile, 0);
	}
	assert_int_equal(b.decode(), 0);
	assert_int_equal(walk.decoded_len(), 0);
	assert_true(b.intact());
	for (size_t i = 0; i < cases.size(); i++) {
		Bytes want;

		print_message("%s\n", cases[i].what);
		assert_int_equal(plain(cases[i].tile, &want, cases[i].len),
				 cases[i].good);
		if (cases[i].good) {
			check_good(b, i, want);
			assert_int_equal(walk.chunks[i].status, BALE_CHUNK_OK);
			assert_int_equal(walk.chunks[i].out_len, cases[i].len);
		} else {
			assert_int_equal(b.chunks[i].status, BALE_CHUNK_BAD);
			assert_int_equal(b.chunks[i].out_len, 0);
		}
	}
}

/* 60,000 random bytes, stored, and then what `more` writes in a static block.
 */
static Bytes far_tile(const std::vector<Token> &more)
{
	Bytes b = content(1, 60000, 3);
	Codes c = static_codes();
	Writer w;

	gdw_stored(&w.w, false, b.data(), 60000);
	gdw_block(&w.w, true, BALE_GD_STATIC);
	for (Token t : more)
		w.put(c, t);
	w.end(c);
	return w.tile();
}

/* A dynamic block whose code lengths are all but 0 for what is listed. */
static Bytes sparse_tile(const std::vector<std::pair<uint32_t, uint32_t>> &lens,
			 const std::function<void(gdw *)> &symbols)
{
	uint8_t all[288 + 32] = { 0 };
	Writer w;

	for (const auto &l : lens)
		all[l.first] = (uint8_t)l.second;
	gdw_dynamic(&w.w, true, all, 288, 32);
	symbols(&w.w);
	gdw_block_end(&w.w);
	return w.tile();
}

static Bytes items_tile(const std::vector<uint16_t> &items, uint32_t nr_litlen,
			uint32_t nr_dist, uint32_t value, uint32_t bits)
{
	Writer w;

	gdw_items(&w.w, true, nr_litlen, nr_dist, items.data(),
		  (uint32_t)items.size());
	gdw_symbol(&w.w, value, bits, 0, 0);
	gdw_block_end(&w.w);
	return w.tile();
}

static uint16_t run(uint32_t sym, uint32_t extra)
{
	return (uint16_t)(sym | extra << 5);
}

static void test_good_by_hand(void **)
{
	const uint32_t dist = 288;
	Bytes random = content(1, 65536, 8);
	Codes fixed = static_codes();
	std::vector<Case> cases;
	Writer two, empty, longest, low;

	gdw_stored(&two.w, false, random.data(), 65535);
	gdw_stored(&two.w, true, random.data() + 65535, 1);
	cases.push_back({ "two stored blocks", two.tile(), 65536, true });
	for (int i = 0; i < 100; i++)
		gdw_stored(&empty.w, i == 99, nullptr, 0);
	cases.push_back({ "a hundred empty blocks", empty.tile(), 0, true });
	cases.push_back({ "distances 30 and 31, length 285",
			  far_tile({ { 3, 32769 },
				     { 300, 40000 },
				     { 258, 49152 },
				     { 257, 49153 },
				     { 1000, 60000 },
				     { 5, 61818 },
				     { 3713, 1 } }),
			  65536, true });
	gdw_block(&longest.w, true, BALE_GD_STATIC);
	longest.put(fixed, 'x');
	longest.put(fixed, Token{ 65535, 1 });
	longest.end(fixed);
	cases.push_back({ "the longest match", longest.tile(), 65536, true });
	/* Symbol 285 for three bytes. */
	gdw_block(&low.w, true, BALE_GD_STATIC);
	low.put(fixed, 'x');
	gdw_symbol(&low.w, fixed.litlen[285], fixed.lens[285] + 16,
		   fixed.dist[0], 5);
	low.end(fixed);
	cases.push_back({ "a long symbol's shortest", low.tile(), 4, true });
	/* Codes: x 0, end 10, length 3 11; the distance 0. */
	cases.push_back({ "one distance",
			  sparse_tile({ { 'x', 1 },
					{ 256, 2 },
					{ 257, 2 },
					{ dist + 1, 1 } },
				      [](gdw *w) {
					      gdw_symbol(w, 0, 1, 0, 0);
					      gdw_symbol(w, 0, 1, 0, 0);
					      for (int i = 0; i < 40; i++)
						      gdw_symbol(w, 3, 2, 0, 1);
					      gdw_symbol(w, 1, 2, 0, 0);
				      }),
			  122, true });
	cases.push_back({ "no distance",
			  sparse_tile({ { 'x', 1 }, { 256, 1 } },
				      [](gdw *w) {
					      for (int i = 0; i < 70; i++)
						      gdw_symbol(w, 0, 1, 0, 0);
					      gdw_symbol(w, 1, 1, 0, 0);
				      }),
			  70, true });
	cases.push_back(
		{ "nothing but the end",
		  sparse_tile({ { 256, 1 } },
			      [](gdw *w) { gdw_symbol(w, 0, 1, 0, 0); }),
		  0, true });
	/* 257 + 31 of one bit each way: 1 1 at 255 and 256, then a run of
	 * zeros that begins in the one alphabet and ends in the other. */
	cases.push_back({ "a run across alphabets",
			  items_tile({ run(18, 127), run(18, 106), 1, 1,
				       run(18, 127 - 76) },
				     288, 31, 1, 1),
			  0, true });
	cases.push_back({ "a run of zeros goes on",
			  items_tile({ run(18, 127), run(18, 105), 0, 1, 1,
				       run(17, 0), run(16, 3), run(16, 0),
				       run(17, 7), run(16, 3), run(16, 1) },
				     287, 2, 1, 1),
			  0, true });
	check_cases(cases);
}

/* The code 0 for x, 10 for the end, 11 for length 3; distance 1: 0, 2: 1. */
static Bytes small_tile(const std::function<void(gdw *)> &symbols)
{
	return sparse_tile(
		{ { 'x', 1 }, { 256, 2 }, { 257, 2 }, { 288, 1 }, { 289, 1 } },
		symbols);
}

static std::vector<Case> bad_codes()
{
	const auto end = [](gdw *w) { gdw_symbol(w, 1, 2, 0, 0); };
	const auto one = [](gdw *w) { gdw_symbol(w, 1, 1, 0, 0); };
	std::vector<Case> c;

	c.push_back({ "litlen overfull",
		      sparse_tile({ { 1, 1 }, { 2, 1 }, { 256, 1 } }, end), 0,
		      false });
	c.push_back({ "litlen overfull by the longest",
		      sparse_tile({ { 1, 1 }, { 256, 1 }, { 7, 15 } }, one), 0,
		      false });
	c.push_back({ "litlen incomplete",
		      sparse_tile({ { 1, 1 }, { 256, 2 } }, end), 0, false });
	c.push_back({ "litlen one code of two bits",
		      sparse_tile({ { 256, 2 } },
				  [](gdw *w) { gdw_symbol(w, 0, 2, 0, 0); }),
		      0, false });
	c.push_back(
		{ "litlen empty", sparse_tile({ { 288, 1 } }, one), 0, false });
	c.push_back({ "no end of block",
		      sparse_tile({ { 1, 1 }, { 2, 1 } }, one), 1, false });
	c.push_back({ "a bit that is no code", sparse_tile({ { 256, 1 } }, one),
		      0, false });
	c.push_back({ "distance overfull",
		      sparse_tile({ { 1, 1 },
				    { 256, 1 },
				    { 288, 1 },
				    { 289, 1 },
				    { 290, 15 } },
				  one),
		      0, false });
	c.push_back(
		{ "distance incomplete",
		  sparse_tile({ { 1, 1 }, { 256, 1 }, { 288, 1 }, { 289, 2 } },
			      one),
		  0, false });
	c.push_back({ "a match without distances",
		      sparse_tile({ { 'x', 1 }, { 256, 2 }, { 257, 2 } },
				  [](gdw *w) {
					  gdw_symbol(w, 0, 1, 0, 0);
					  gdw_symbol(w, 3, 2, 0, 1);
					  gdw_symbol(w, 1, 2, 0, 0);
				  }),
		      4, false });
	c.push_back({ "symbol 286",
		      sparse_tile({ { 256, 1 }, { 286, 1 } }, one), 0, false });
	c.push_back({ "a repeat of nothing",
		      items_tile({ run(16, 0), run(18, 127), run(18, 104), 1, 1,
				   0 },
				 257, 1, 1, 1),
		      0, false });
	c.push_back({ "a run over the end",
		      items_tile({ run(18, 127), run(18, 106), 1, 1,
				   run(18, 127 - 75) },
				 288, 31, 1, 1),
		      0, false });
	return c;
}

static std::vector<Case> bad_content()
{
	Codes fixed = static_codes();
	std::vector<Case> c;
	Writer type3, over, stored;

	gdw_block(&type3.w, true, 3);
	c.push_back({ "block type 3", type3.tile(), 0, false });
	c.push_back({ "an empty tile without end", Bytes(128), 0, false });
	c.push_back({ "many words without end", Bytes(4000), 0, false });
	/* Three x make the first place from which 2 is near enough. */
	for (uint32_t nr : { 0, 1, 2, 3 })
		c.push_back({ nr < 2 ? "distance too far" :
				       "distance just near enough",
			      small_tile([=](gdw *w) {
				      for (uint32_t i = 0; i < nr; i++)
					      gdw_symbol(w, 0, 1, 0, 0);
				      gdw_symbol(w, 3, 2, 1, 1);
				      gdw_symbol(w, 1, 2, 0, 0);
			      }),
			      nr + 3, nr >= 2 });
	c.push_back({ "distance too far, far", far_tile({ { 5536, 60001 } }),
		      65536, false });
	/* One byte more, or less, than there is room for. */
	for (uint32_t len : { 121, 122, 123 })
		c.push_back({ "length", small_tile([](gdw *w) {
				      gdw_symbol(w, 0, 1, 0, 0);
				      gdw_symbol(w, 0, 1, 0, 0);
				      for (int i = 0; i < 40; i++)
					      gdw_symbol(w, 3, 2, 1, 1);
				      gdw_symbol(w, 1, 2, 0, 0);
			      }),
			      len, len == 122 });
	gdw_block(&over.w, true, BALE_GD_STATIC);
	for (int i = 0; i < 40; i++)
		over.put(fixed, 'x');
	for (int i = 0; i < 32; i++)
		over.put(fixed, Token{ 65535, 1 });
	over.end(fixed);
	c.push_back({ "two million bytes", over.tile(), 65536, false });
	gdw_stored(&stored.w, true, content(1, 100, 1).data(), 100);
	c.push_back({ "stored, too long", stored.tile(), 99, false });
	c.push_back({ "stored, too short", stored.tile(), 101, false });
	return c;
}

static void test_bad_by_hand(void **)
{
	check_cases(bad_codes());
	check_cases(bad_content());
}

/* A tile that ends early, by words or bytes, or goes on. */
static void test_wrong_size(void **)
{
	Made made = {};
	Batch b, walk;

	for (bool skewed : { false, true }) {
		Bytes src = content(2, 700, 4);
		Bytes tile = make_tile(src, 250, skewed, true, &made);

		for (size_t len = 0; len < tile.size(); len++) {
			Bytes cut(tile.begin(), tile.begin() + (long)len);

			if (len % 4 && len > 140)
				continue;
			b.add(cut, 700, (int)len % 3 - 1);
			walk.add(cut, 0);
		}
		for (int i = 0; i < 4; i++) {
			tile.resize(tile.size() + 4);
			b.add(tile, 700);
			walk.add(tile, 0);
		}
	}
	assert_int_equal(b.decode(), 0);
	assert_int_equal(walk.decoded_len(), 0);
	assert_true(b.intact());
	for (size_t i = 0; i < b.chunks.size(); i++) {
		assert_int_equal(b.chunks[i].status, BALE_CHUNK_BAD);
		assert_int_equal(walk.chunks[i].status, BALE_CHUNK_BAD);
		assert_int_equal(walk.chunks[i].out_len, 0);
	}
}

/* Damaged tiles, between good ones: the plain reader's word on each. */
static void test_damage(void **)
{
	Random r = { 99 };
	Made made = {};
	Batch b;
	uint32_t good = 0;

	for (uint32_t i = 0; i < 900; i++) {
		uint32_t len = 1 + r.below(1500);
		Bytes src = content(i % CONTENT_KINDS, len, i);
		Bytes tile =
			make_tile(src, 100 + r.below(900), i & 1, i & 2, &made);
		/* Headers are the first lanes' first words. */
		uint32_t reach = i % 3 ? (uint32_t)tile.size() : 140;

		if (i % 10 == 9) {
			for (uint8_t &v : tile)
				v = (uint8_t)r.next();
			tile[0] = (uint8_t)((tile[0] & ~6u) | 2 * (i / 10 % 3));
		}
		for (uint32_t k = i % 4; k; k--) {
			uint32_t at = r.below(std::min<uint32_t>(
				reach, (uint32_t)tile.size()));

			tile[at] ^= (uint8_t)(1u << r.below(8));
		}
		b.add(tile, len);
	}
	assert_int_equal(b.decode(), 0);
	assert_true(b.intact());
	for (const Chunk &c : b.chunks) {
		Bytes want;
		bool ok = plain(Bytes(c.from, c.from + c.len), &want, c.cap);

		assert_int_equal(c.status, ok ? BALE_CHUNK_OK : BALE_CHUNK_BAD);
		if (ok)
			assert_memory_equal(c.to, want.data(), c.cap);
		good += ok;
	}
	assert_in_range(good, 200, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_tiles),
		cmocka_unit_test(test_lane_orders),
		cmocka_unit_test(test_good_by_hand),
		cmocka_unit_test(test_bad_by_hand),
		cmocka_unit_test(test_wrong_size),
		cmocka_unit_test(test_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
