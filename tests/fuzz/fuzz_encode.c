/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every encoder on any content, and back. Input: policy, level, times, then
 * bytes that are repeated so often, each time with one changed.
 */
#include <string.h>

#include "fs/codec/codec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/guard.h"

enum { CONTENT_MAX = 1 << 20 };

static size_t make_content(uint8_t *p, const uint8_t *data, size_t size,
			   unsigned int times)
{
	size_t n = 0;

	for (unsigned int i = 0; i <= times && n + size <= CONTENT_MAX; i++) {
		memcpy(p + n, data, size);
		if (size && i)
			p[n + (size_t)i * 31 % size] ^= (uint8_t)i;
		n += size;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t codecs[] = {
		BALE_CODEC_raw,	 BALE_CODEC_fill, BALE_CODEC_lz4,
		BALE_CODEC_zstd, BALE_CODEC_auto, BALE_CODEC_gdeflate
	};
	static struct guard src, coded, back;
	static uint8_t content[CONTENT_MAX];
	struct bale_job enc = { .op = BALE_JOB_ENCODE };
	struct bale_job dec = { .op = BALE_JOB_DECODE };

	if (!src.map) {
		guard_init(&src, CONTENT_MAX);
		guard_init(&coded, bale_codec_bound(CONTENT_MAX));
		guard_init(&back, CONTENT_MAX);
	}
	if (size < 3 || size > CONTENT_MAX)
		return 0;
	enc.src_len = make_content(content, data + 3, size - 3, data[2]);
	enc.src = memcpy(guard_high(&src, enc.src_len), content, enc.src_len);
	enc.codec = codecs[data[0] % sizeof(codecs)];
	/* The slowest levels say nothing that 12 does not. */
	enc.level = (int8_t)(data[1] % 20 - 7);
	if (enc.codec == BALE_CODEC_gdeflate)
		enc.level = (int8_t)(data[1] % 5 - 1);
	enc.dst_cap = bale_codec_bound(enc.src_len);
	enc.dst = guard_high(&coded, enc.dst_cap);
	bale_codec_run(&enc);
	FUZZ_ASSERT(!enc.status);
	FUZZ_ASSERT(enc.len <= enc.src_len);
	FUZZ_ASSERT(!memcmp(enc.src, content, enc.src_len));
	FUZZ_ASSERT((enc.ret_codec == BALE_CODEC_raw) == (enc.reason != 0));

	dec.codec = enc.ret_codec;
	dec.src = enc.ret_codec == BALE_CODEC_raw ? enc.src : enc.dst;
	dec.src_len = enc.len;
	dec.dst_cap = enc.src_len;
	dec.dst = guard_high(&back, dec.dst_cap);
	bale_codec_run(&dec);
	FUZZ_ASSERT(!dec.status && dec.len == enc.src_len);
	FUZZ_ASSERT(!memcmp(dec.dst, content, dec.len));
	return 0;
}
