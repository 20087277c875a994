/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDeflate on the device and on the CPU: each reads what the other one makes,
 * and they agree on what is no tile.
 */
#include <cerrno>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
extern "C" {
#include <cmocka.h>

#include "fs/codec/codec_gdeflate.h"
}

#include "gdeflate_batch.h"

static const int levels[] = { -1, 1, 2, 3 };
static bale_gd_decoder *decoder;
static bale_gd_encoder *encoder;

/* Every reader of the CPU: 0 with want, or -EUCLEAN. */
static void cpu_decode(const uint8_t *tile, size_t len, const uint8_t *want,
		       size_t want_len, int status)
{
	Bytes out(want_len);
	const bale_gd_reader *r;

	for (unsigned int i = 0; (r = bale_gd_reader_get(i)); i++) {
		assert_int_equal(
			r->decode(decoder, tile, len, out.data(), want_len),
			status);
		if (!status)
			assert_memory_equal(out.data(), want, want_len);
	}
}

static Bytes cpu_encode(int level, const Bytes &b)
{
	Bytes tile(bale_gd_tile_bound((uint32_t)b.size()));
	size_t n = 0;

	assert_int_equal(bale_gd_encode(encoder, level, b.data(), b.size(),
					tile.data(), tile.size(), &n),
			 0);
	tile.resize(n);
	return tile;
}

static const uint32_t sizes[] = { 1, 31, 32, 33, 1000, 4097, 20000, 65536 };

static bool is_too_much(uint32_t len, unsigned int kind)
{
	return len > 5000 && kind != len % CONTENT_KINDS;
}

static void cpu_reads_device(void **)
{
	for (int level : levels) {
		Batch b;

		for (uint32_t len : sizes)
			for (unsigned int kind = 0; kind < CONTENT_KINDS;
			     kind++)
				if (!is_too_much(len, kind))
					b.add(content(kind, len, 3),
					      bale_gd_tile_bound(len));
		assert_int_equal(b.encode(level), 0);
		for (const Chunk &c : b.chunks) {
			assert_int_equal(c.status, BALE_CHUNK_OK);
			cpu_decode(c.to, c.out_len, c.from, c.len, 0);
		}
	}
}

static void device_reads_cpu(void **)
{
	for (int level : levels) {
		std::vector<Bytes> contents;
		Batch d;

		for (uint32_t len : sizes)
			for (unsigned int kind = 0; kind < CONTENT_KINDS;
			     kind++)
				if (!is_too_much(len, kind))
					contents.push_back(
						content(kind, len, 5));
		for (const Bytes &b : contents)
			d.add(cpu_encode(level, b), (uint32_t)b.size());
		assert_int_equal(d.decode(), 0);
		for (size_t i = 0; i < contents.size(); i++) {
			assert_int_equal(d.chunks[i].status, BALE_CHUNK_OK);
			assert_memory_equal(d.chunks[i].to, contents[i].data(),
					    contents[i].size());
		}
	}
}

static void both_refuse_the_same(void **)
{
	Random r = { 77 };
	unsigned int good = 0, bad = 0;
	Batch d;

	for (int i = 0; i < 600; i++) {
		Bytes b = content((unsigned int)i % CONTENT_KINDS,
				  1 + r.below(900), (uint64_t)i);
		Bytes tile = cpu_encode(levels[i % 4], b);

		for (uint32_t flips = r.below(3); flips; flips--)
			tile[r.below(i & 1 ? 140 : (uint32_t)tile.size())] ^=
				(uint8_t)(1 << r.below(8));
		if (i % 10 == 0)
			tile.resize(tile.size() - 4);
		d.add(tile, (uint32_t)b.size());
	}
	assert_int_equal(d.decode(), 0);
	assert_true(d.intact());
	for (const Chunk &c : d.chunks) {
		bool ok = c.status == BALE_CHUNK_OK;

		cpu_decode(c.from, c.len, c.to, c.cap, ok ? 0 : -EUCLEAN);
		good += ok;
		bad += !ok;
	}
	assert_true(good > 100 && bad > 100);
}

static int setup(void **)
{
	decoder = bale_gd_decoder_create();
	encoder = bale_gd_encoder_create();
	return !decoder || !encoder;
}

static int teardown(void **)
{
	bale_gd_decoder_destroy(decoder);
	bale_gd_encoder_destroy(encoder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cpu_reads_device),
		cmocka_unit_test(device_reads_cpu),
		cmocka_unit_test(both_refuse_the_same),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
