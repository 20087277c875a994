/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container.h: made on the host and on the device, opened on both; every byte
 * of header and table spoilt, with and without the checksums mended.
 */
#include "tests/support/device_memory.h"

#include <cerrno>

extern "C" {
#include "balefs/container.h"
#include "fs/base/crc32c.h"
}

using namespace bale_test;

namespace
{

typedef std::vector<uint8_t> Bytes;

struct bale_container_opts opts_of(uint8_t codec, int8_t level, uint8_t filter,
				   uint32_t chunk_size)
{
	struct bale_container_opts o = {};

	o.struct_size = sizeof(o);
	o.codec = codec;
	o.level = level;
	o.filter = filter;
	o.chunk_size = chunk_size;
	return o;
}

Bytes host_encode(const struct bale_container_opts &o, const Bytes &data)
{
	uint64_t bound;
	size_t n;

	assert_int_equal(bale_container_bound(&o, data.size(), &bound), 0);
	Bytes c(bound);
	assert_int_equal(bale_container_encode(&o, data.data(), data.size(),
					       c.data(), c.size(), &n),
			 0);
	assert_true(n <= bound);
	c.resize(n);
	return c;
}

int host_decode(const Bytes &c, Bytes *ret)
{
	struct bale_container_info info;
	int r = bale_container_head(c.data(), c.size(), &info);
	size_t n;

	if (r)
		return r;
	/* A forged header may ask for much. */
	if (info.raw_len > 64 << 20)
		return -EFBIG;
	ret->assign(info.raw_len, 0xee);
	r = bale_container_decode(c.data(), c.size(), ret->data(), ret->size(),
				  &n);
	if (!r)
		assert_int_equal(n, info.raw_len);
	return r;
}

Bytes device_encode(const struct bale_container_opts &o, const Bytes &data,
		    size_t shift, uint64_t room, uint32_t *ret_status)
{
	uint64_t bound;
	size_t need;

	assert_int_equal(bale_container_bound(&o, data.size(), &bound), 0);
	assert_int_equal(
		bale_container_device_encode_temp(&o, data.size(), &need), 0);
	if (room)
		bound = room;
	Buffer<uint8_t> src(data, shift), dst(bound, shift * 3 % 7), temp(need);
	Buffer<uint64_t> len(1);
	Buffer<uint32_t> status(1);
	assert_int_equal(bale_container_device_encode(&o, src, data.size(), dst,
						      bound, len, status, temp,
						      need, nullptr),
			 0);
	Bytes c = dst.read();
	dst.check();
	temp.check();
	len.check();
	*ret_status = status.read()[0];
	assert_true(len.read()[0] <= bound);
	c.resize(len.read()[0]);
	return c;
}

/* A status of the interface, or -errno of what comes before. */
int device_decode(const Bytes &c, size_t shift, Bytes *ret)
{
	struct bale_container_info info;
	int r = bale_container_head(c.data(), c.size(), &info);
	size_t need;

	if (r)
		return r;
	if (info.raw_len > 64 << 20)
		return -EFBIG;
	r = bale_container_device_decode_temp(&info, &need);
	if (r)
		return r;
	Buffer<uint8_t> src(c, shift), dst(info.raw_len, shift * 5 % 16);
	Buffer<uint8_t> temp(need);
	Buffer<uint32_t> status(1);
	r = bale_container_device_decode(&info, src, c.size(), dst,
					 info.raw_len, status, temp, need,
					 nullptr);
	if (r)
		return r;
	*ret = dst.read();
	dst.check();
	temp.check();
	return static_cast<int>(status.read()[0]);
}

struct Case {
	uint8_t codec;
	int8_t level;
	uint8_t filter;
	uint32_t chunk_size;
	size_t len;
	int kind;
};

const Case cases[] = {
	{ BALE_CODEC_lz4, 0, 0, 0, 0, 1 },
	{ BALE_CODEC_lz4, 0, 0, 0, 1, 1 },
	{ BALE_CODEC_lz4, 0, 0, 65536, 65536, 1 },
	{ BALE_CODEC_lz4, 0, 0, 65536, 65537, 1 },
	{ BALE_CODEC_lz4, 0, 0, 0, 300001, 0 },
	{ BALE_CODEC_lz4, 0, BALE_FILTER_shuffle4, 262144, 300000, 3 },
	{ BALE_CODEC_lz4, 2, 0, 0, 200000, 2 },
	{ BALE_CODEC_gdeflate, 0, 0, 0, 150000, 1 },
	{ BALE_CODEC_gdeflate, 1, BALE_FILTER_delta4, 65536, 140001, 3 },
	{ BALE_CODEC_raw, 0, 0, 65536, 200001, 1 },
};

void both_sides(void **)
{
	for (const Case &k : cases) {
		struct bale_container_opts o =
			opts_of(k.codec, k.level, k.filter, k.chunk_size);
		Bytes data = make_data(k.len, k.kind, 3), back;
		Bytes host = host_encode(o, data);
		uint32_t status;
		Bytes dev = device_encode(o, data, k.len % 5, 0, &status);

		assert_int_equal(status, BALE_CHUNK_OK);
		assert_int_equal(host_decode(host, &back), 0);
		assert_true(back == data);
		assert_int_equal(host_decode(dev, &back), 0);
		assert_true(back == data);
		assert_int_equal(device_decode(host, 0, &back), BALE_CHUNK_OK);
		assert_true(back == data);
		assert_int_equal(device_decode(dev, 7, &back), BALE_CHUNK_OK);
		assert_true(back == data);
		if (k.kind == 1 && k.len > 1000 && k.codec != BALE_CODEC_raw)
			assert_true(dev.size() < k.len / 2);
	}
}

void host_only_codecs(void **)
{
	for (uint8_t codec : { BALE_CODEC_zstd, BALE_CODEC_auto }) {
		struct bale_container_opts o =
			opts_of(static_cast<uint8_t>(codec), 0, 0, 0);
		Bytes data = make_data(400000, 1, 3), noise, back;
		size_t n;

		noise = make_data(131072, 2, 5);
		data.insert(data.end(), noise.begin(), noise.end());
		data.insert(data.end(), 262144, 9);
		Bytes c = host_encode(o, data);
		assert_int_equal(host_decode(c, &back), 0);
		assert_true(back == data);
		assert_int_equal(device_decode(c, 0, &back), -EOPNOTSUPP);
		assert_int_equal(
			bale_container_device_encode_temp(&o, data.size(), &n),
			-EOPNOTSUPP);
	}
}

void too_little_room(void **)
{
	struct bale_container_opts o = opts_of(BALE_CODEC_lz4, 0, 0, 0);
	Bytes data = make_data(300000, 1, 1);
	uint32_t status;
	Bytes c = device_encode(o, data, 0, 0, &status);
	size_t n;

	assert_int_equal(status, BALE_CHUNK_OK);
	assert_int_equal(device_encode(o, data, 0, c.size(), &status).size(),
			 c.size());
	assert_int_equal(status, BALE_CHUNK_OK);
	assert_int_equal(
		device_encode(o, data, 0, c.size() - 1, &status).size(), 0);
	assert_int_equal(status, BALE_CHUNK_NO_ROOM);
	assert_int_equal(bale_container_encode(&o, data.data(), data.size(),
					       c.data(), c.size(), &n),
			 -ENOSPC);
	assert_int_equal(bale_container_decode(c.data(), c.size(), data.data(),
					       data.size() - 1, &n),
			 -ENOSPC);
}

/* The header's checksum, and the table's, over what the test did. */
void mend(Bytes *c, bool table)
{
	struct bale_disk_container h;

	memcpy(&h, c->data(), sizeof(h));
	if (table && sizeof(h) + le32_get(h.nr_chunks) * 12ull <= c->size())
		h.table_crc =
			le32_put(bale_crc32c(0, c->data() + sizeof(h),
					     le32_get(h.nr_chunks) * 12ull));
	h.crc = le32_put(0);
	h.crc = le32_put(bale_crc32c(0, &h, sizeof(h)));
	memcpy(c->data(), &h, sizeof(h));
}

/* Both refuse. (The emulated device takes its time: not asked for all.) */
void expect_refused(const Bytes &c, bool device)
{
	Bytes back;

	assert_int_not_equal(host_decode(c, &back), 0);
	if (device)
		assert_int_not_equal(device_decode(c, 3, &back), BALE_CHUNK_OK);
}

/* Forged well, it may mean something else: the same to both. */
void expect_agreement(const Bytes &c)
{
	Bytes host, dev;
	int r = host_decode(c, &host), d = device_decode(c, 3, &dev);

	assert_int_equal(!r, d == BALE_CHUNK_OK);
	if (!r)
		assert_true(host == dev);
}

void every_byte_counts(void **)
{
	struct bale_container_opts o = opts_of(BALE_CODEC_lz4, 0, 0, 65536);
	Bytes data = make_data(70000, 1, 1), noise = make_data(65536, 2, 2);
	Bytes good, c;

	data.resize(65536);
	data.insert(data.end(), noise.begin(), noise.end());
	data.insert(data.end(), 5000, 4);
	good = host_encode(o, data);
	expect_agreement(good);
	for (size_t i = 0; i < 64 + 3 * 12 + 40; i++) {
		for (uint8_t flip : { 0x01, 0x80, 0xff }) {
			c = good;
			c[i] ^= flip;
			expect_refused(c, flip == 1 && i % 8 == 3);
			if (i < 64 + 3 * 12 && flip == 1) {
				mend(&c, true);
				expect_agreement(c);
			}
		}
	}
	for (size_t len = 0; len < good.size(); len += 1 + len / 2) {
		c = good;
		c.resize(len);
		expect_refused(c, true);
	}
	c = good;
	c.push_back(0);
	expect_refused(c, true);
}

/* Each field, with the checksums right: what it must not be. */
void fields_are_checked(void **)
{
	struct bale_container_opts o = opts_of(BALE_CODEC_lz4, 0, 0, 65536);
	Bytes data = make_data(150000, 1, 1), good = host_encode(o, data);
	struct {
		size_t off;
		uint8_t v[4];
		int n, want;
	} const wrong[] = {
		{ 8, { 2, 0, 0, 0 }, 4, -EOPNOTSUPP }, /* version */
		{ 12, { 0, 0, 0, 0 }, 4, -EUCLEAN },   /* chunk_size */
		{ 12, { 1, 0, 1, 0 }, 4, -EUCLEAN },
		{ 12, { 0, 0, 128, 0 }, 4, -EUCLEAN },
		{ 16, { 0, 0, 0, 0 }, 4, -EUCLEAN }, /* raw_len */
		{ 20, { 0, 2, 0, 0 }, 4, -EUCLEAN }, /* > 1 TiB */
		{ 24, { 0, 0, 0, 0 }, 4, -EUCLEAN }, /* stored_len */
		{ 28, { 1, 0, 0, 0 }, 4, -EUCLEAN },
		{ 32, { 4, 0, 0, 0 }, 4, -EUCLEAN }, /* nr_chunks */
		{ 40, { BALE_CODEC_planes }, 1, -EOPNOTSUPP },
		{ 40, { 77 }, 1, -EOPNOTSUPP },
		{ 42, { BALE_FILTER_NR }, 1, -EOPNOTSUPP },
		{ 43, { 1 }, 1, -EUCLEAN }, /* reserved */
		{ 59, { 1 }, 1, -EUCLEAN },
		{ 64, { 0, 0, 0, 0 }, 4, -EUCLEAN }, /* a chunk's length */
		{ 64, { 255, 255, 255, 255 }, 4, -EUCLEAN },
		{ 72, { BALE_CODEC_zstd }, 1, -EUCLEAN },
		{ 73, { BALE_FILTER_shuffle2 }, 1, -EUCLEAN },
		{ 75, { 1 }, 1, -EUCLEAN },
	};

	for (const auto &w : wrong) {
		Bytes c = good, back;

		memcpy(&c[w.off], w.v, static_cast<size_t>(w.n));
		mend(&c, true);
		assert_int_equal(host_decode(c, &back), w.want);
		assert_int_not_equal(device_decode(c, 0, &back), BALE_CHUNK_OK);
	}
}

void options_are_checked(void **)
{
	struct bale_container_opts o = opts_of(BALE_CODEC_lz4, 0, 0, 0);
	uint64_t n;
	size_t t;

	assert_int_equal(bale_container_bound(nullptr, 1, &n), -EINVAL);
	assert_int_equal(bale_container_bound(&o, BALE_CONTAINER_MAX + 1, &n),
			 -EFBIG);
	o.struct_size++;
	assert_int_equal(bale_container_bound(&o, 1, &n), -EINVAL);
	assert_int_equal(bale_container_device_encode_temp(&o, 1, &t), -EINVAL);
	o = opts_of(BALE_CODEC_lz4, 9, 0, 0);
	assert_int_equal(bale_container_device_encode_temp(&o, 1, &t), -EINVAL);
	o = opts_of(BALE_CODEC_zstd, 40, 0, 0);
	assert_int_equal(bale_container_bound(&o, 1, &n), -EINVAL);
	o = opts_of(BALE_CODEC_fill, 0, 0, 0);
	assert_int_equal(bale_container_bound(&o, 1, &n), -EINVAL);
	o = opts_of(BALE_CODEC_planes, 0, 0, 0);
	assert_int_equal(bale_container_bound(&o, 1, &n), -EOPNOTSUPP);
	o = opts_of(BALE_CODEC_raw, 0, BALE_FILTER_delta1, 0);
	assert_int_equal(bale_container_bound(&o, 1, &n), -EINVAL);
	assert_int_equal(bale_container_device_encode_temp(&o, 1, &t), -EINVAL);
	o = opts_of(BALE_CODEC_lz4, 0, 0, 65537);
	assert_int_equal(bale_container_bound(&o, 1, &n), -EINVAL);
	assert_int_equal(bale_container_device_encode_temp(&o, 1, &t), -EINVAL);
	o = opts_of(BALE_CODEC_lz4, 0, 0, 0);
	o.reserved = 1;
	assert_int_equal(bale_container_bound(&o, 1, &n), -EINVAL);
	assert_int_equal(bale_container_device_decode_temp(nullptr, &t),
			 -EINVAL);
}

} // namespace

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides),
		cmocka_unit_test(host_only_codecs),
		cmocka_unit_test(too_little_room),
		cmocka_unit_test(every_byte_counts),
		cmocka_unit_test(fields_are_checked),
		cmocka_unit_test(options_are_checked),
	};
#ifndef BALE_EMU_CUDA_RUNTIME_H
	int nr = 0;

	if (cudaGetDeviceCount(&nr) != cudaSuccess || !nr)
		return 77;
#endif
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
