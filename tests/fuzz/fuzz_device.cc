/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's decoders on hostile bytes, on the emulated device. Input: a byte
 * for codec, filter and the order of lanes, two for the decoded length, then a
 * chunk. Chunk and output lie between pages that may not be touched. What the
 * CPU's decoder refuses is refused; what both accept is the same bytes.
 */
#include <cstring>

#include <cuda_runtime.h>

extern "C" {
#include "balefs/device.h"
#include "balefs/le.h"
#include "fs/codec/codec.h"
#include "tests/fuzz/fuzz.h"
}
#include "tests/support/guard.h"

namespace
{

enum { CHUNK_MAX = 8 << 10 };

int cpu_decode(const struct bale_device_opts *o, const uint8_t *src, size_t len,
	       uint8_t *dst, size_t cap)
{
	static uint8_t payload[CHUNK_MAX + 4];
	le32 e = le32_put(static_cast<uint32_t>(len));
	size_t head = o->codec == BALE_CODEC_fill ? 0 : sizeof(e);
	struct bale_job j = {};

	j.op = BALE_JOB_DECODE;
	j.codec = o->codec;
	j.filter = o->filter;
	j.src = payload;
	j.src_len = head + len;
	j.dst = dst;
	j.dst_cap = cap;
	/* The only unit of an extent. */
	memcpy(payload, &e, sizeof(e));
	memcpy(payload + head, src, len);
	bale_codec_run(&j);
	return j.status;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t codecs[] = { BALE_CODEC_lz4, BALE_CODEC_gdeflate,
					  BALE_CODEC_fill,
					  BALE_CODEC_gdeflate };
	static const uint8_t filters[] = { 0, 0, BALE_FILTER_shuffle4,
					   BALE_FILTER_delta2 };
	alignas(256) static uint8_t temp[4 << 20];
	static uint8_t cpu[BALE_UNIT_SIZE];
	static struct guard in, out;
	struct bale_device_opts o = {};
	uint32_t len, cap, got_len = 1, status = 77, said = 0;
	const void *src;
	size_t need;
	void *dst;
	int r;

	if (size < 4 || size > CHUNK_MAX)
		return 0;
	if (!in.map) {
		guard_init(&in, CHUNK_MAX);
		guard_init(&out, BALE_UNIT_SIZE);
	}
	o.struct_size = sizeof(o);
	o.max_chunk = BALE_UNIT_SIZE;
	o.codec = codecs[data[0] % 4];
	o.filter = o.codec == BALE_CODEC_fill ? 0 : filters[data[0] / 4 % 4];
	bale_emu_set_order(static_cast<enum bale_emu_order>(data[0] / 16 % 3),
			   7);
	cap = data[1] + data[2] * 256u + 1;
	len = static_cast<uint32_t>(size) - 3;
	src = memcpy(guard_high(&in, len), data + 3, len);
	dst = memset(guard_high(&out, cap), 0xa5, cap);
	FUZZ_ASSERT(!bale_device_decode_temp(&o, 1, &need));
	FUZZ_ASSERT(need <= sizeof(temp));
	FUZZ_ASSERT(!bale_device_decode(&o, 1, &src, &len, &dst, &cap, &got_len,
					&status, temp, need, NULL));
	FUZZ_ASSERT(status == BALE_CHUNK_OK || status == BALE_CHUNK_BAD);
	FUZZ_ASSERT(got_len == (status ? 0 : cap));
	r = cpu_decode(&o, data + 3, len, cpu, cap);
	if (r)
		FUZZ_ASSERT(status);
	else if (!status)
		FUZZ_ASSERT(!memcmp(cpu, dst, cap));
	else /* liblz4 makes something of a distance of 0 */
		FUZZ_ASSERT(o.codec == BALE_CODEC_lz4);
	if (o.codec == BALE_CODEC_fill)
		return 0;
	FUZZ_ASSERT(!bale_device_decoded_len(&o, 1, &src, &len, &said, &status,
					     NULL));
	FUZZ_ASSERT(status == BALE_CHUNK_OK || status == BALE_CHUNK_BAD);
	FUZZ_ASSERT(status || said <= o.max_chunk);
	return 0;
}
