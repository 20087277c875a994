// SPDX-License-Identifier: Apache-2.0
//
// bale_device_measure() on the emulated device: figures of data whose size is
// known, wrong calls, and every call into CUDA failing in turn.
#include <errno.h>
#include <string.h>

#include <vector>

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
}

#include <cuda_runtime.h>

#include "balefs/measure.h"

namespace
{

struct bale_device_opts opts_of(uint8_t codec, int8_t level)
{
	struct bale_device_opts o = {};

	o.struct_size = sizeof(o);
	o.codec = codec;
	o.level = level;
	o.max_chunk = BALE_UNIT_SIZE;
	return o;
}

// Chunks of 1000, 1 and 5000 bytes: repeats, and at the end noise.
struct Content {
	std::vector<uint8_t> bytes;
	std::vector<uint32_t> len = { 1000, 1, 5000, 700 };

	Content()
	{
		uint32_t v = 1;

		for (int i = 0; i < 6701; i++) {
			v = v * 1664525 + 1013904223;
			bytes.push_back((uint8_t)(i < 6001 ? i % 50 : v >> 24));
		}
	}
};

int measure(const struct bale_device_opts &o, const Content &c,
	    unsigned int passes, struct bale_device_figures *ret)
{
	return bale_device_measure(0, &o, c.bytes.data(), c.len.data(),
				   c.len.size(), passes, ret);
}

void figures_of_both_codecs(void **)
{
	const struct bale_device_opts all[] = {
		opts_of(BALE_CODEC_lz4, 1),
		opts_of(BALE_CODEC_gdeflate, 2),
		opts_of(BALE_CODEC_gdeflate, -1),
	};
	Content c;

	for (const struct bale_device_opts &o : all) {
		struct bale_device_figures f = {};

		assert_int_equal(measure(o, c, 2, &f), 0);
		assert_int_equal(f.wrong, 0);
		assert_true(f.encode_ns > 0 && f.decode_ns > 0);
		// The noise and the lone byte count as they are.
		assert_true(f.coded_bytes > 701 && f.coded_bytes < 5800);
		assert_int_equal(bale_emu_held(), 0);
	}
}

void wrong_calls(void **)
{
	struct bale_device_opts o = opts_of(BALE_CODEC_lz4, 1);
	struct bale_device_figures f;
	Content c;

	memset(&f, 0x5a, sizeof(f));
	assert_int_equal(measure(o, c, 0, &f), -EINVAL);
	assert_int_equal(measure(o, c, BALE_MEASURE_PASSES_MAX + 1, &f),
			 -EINVAL);
	assert_int_equal(bale_device_measure(0, &o, c.bytes.data(),
					     c.len.data(), 0, 1, &f),
			 -EINVAL);
	o.max_chunk = 4096; // below the third chunk
	assert_int_equal(measure(o, c, 1, &f), -EINVAL);
	o = opts_of(BALE_CODEC_zstd, 1);
	assert_true(measure(o, c, 1, &f) < 0);
	o = opts_of(BALE_CODEC_lz4, 1);
	assert_int_equal(bale_device_measure(7, &o, c.bytes.data(),
					     c.len.data(), c.len.size(), 1, &f),
			 -ENODEV);
	for (size_t i = 0; i < sizeof(f); i++)
		assert_int_equal(((const uint8_t *)&f)[i], 0x5a);
	assert_int_equal(bale_emu_held(), 0);
}

void every_cuda_call_may_fail(void **)
{
	struct bale_device_opts o = opts_of(BALE_CODEC_lz4, 1);
	struct bale_device_figures f = {};
	Content c;
	unsigned int n = 1;
	int r = -1;

	// The nth and all later ones: like a device that was lost.
	for (; r && n < 200; n++) {
		bale_emu_fail(n, cudaErrorLaunchFailure, true);
		r = measure(o, c, 1, &f);
		bale_emu_fail(0, cudaSuccess, false);
		cudaGetLastError();
		if (r)
			assert_int_equal(r, -EIO);
		assert_int_equal(bale_emu_held(), 0);
	}
	assert_true(n > 10 && n < 200);
	assert_int_equal(f.wrong, 0);
	bale_emu_fail(2, cudaErrorMemoryAllocation, false);
	r = measure(o, c, 1, &f);
	bale_emu_fail(0, cudaSuccess, false);
	cudaGetLastError();
	assert_int_equal(r, -ENOMEM);
	assert_int_equal(bale_emu_held(), 0);
}

} // namespace

int main()
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(figures_of_both_codecs),
		cmocka_unit_test(wrong_calls),
		cmocka_unit_test(every_cuda_call_may_fail),
	};

	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
