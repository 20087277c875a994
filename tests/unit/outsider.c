/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that knows nothing but the installed headers and library:
 * test_library.py compiles and runs it. Prints what went wrong.
 */
#include <balefs/container.h>
#include <balefs/device.h>
#include <balefs/gpu.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x)                                                               \
	do {                                                                   \
		if (!(x)) {                                                    \
			fprintf(stderr, "line %d: %s\n", __LINE__, #x);        \
			return 1;                                              \
		}                                                              \
	} while (0)

static int round_trip(unsigned char codec, unsigned char filter)
{
	struct bale_container_opts o = { .struct_size = sizeof(o),
					 .codec = codec,
					 .filter = filter };
	enum { LEN = 300000 };
	struct bale_container_info info;
	unsigned char *data = malloc(LEN), *back = malloc(LEN), *c;
	uint64_t bound;
	size_t n, m;

	CHECK(data && back);
	for (int i = 0; i < LEN; i++)
		data[i] = (unsigned char)(i % 251 + i / 1000);
	CHECK(!bale_container_bound(&o, LEN, &bound));
	c = malloc(bound);
	CHECK(c && !bale_container_encode(&o, data, LEN, c, bound, &n));
	CHECK(codec == BALE_CODEC_raw || n < LEN);
	CHECK(!bale_container_head(c, n, &info) && info.raw_len == LEN);
	CHECK(!bale_container_decode(c, n, back, LEN, &m) && m == LEN);
	CHECK(!memcmp(data, back, LEN));
	c[n / 2] ^= 1;
	CHECK(bale_container_decode(c, n, back, LEN, &m) < 0);
	free(data);
	free(back);
	free(c);
	return 0;
}

int main(void)
{
	struct bale_device_opts d = { .struct_size = sizeof(d),
				      .codec = BALE_CODEC_lz4,
				      .max_chunk = BALE_UNIT_SIZE };
	size_t n = 0;
	int r;

	CHECK(!round_trip(BALE_CODEC_raw, 0));
	CHECK(!round_trip(BALE_CODEC_lz4, BALE_FILTER_delta1));
	CHECK(!round_trip(BALE_CODEC_gdeflate, 0));
	CHECK(!round_trip(BALE_CODEC_zstd, 0));
	CHECK(!round_trip(BALE_CODEC_auto, 0));
	/* The device's side is there, with or without CUDA. */
	r = bale_device_bound(&d, &n);
	CHECK(bale_gpu_built() ? !r && n >= BALE_UNIT_SIZE : r < 0);
	return 0;
}
