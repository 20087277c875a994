/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h, as its callers see it: every codec, level and filter, what the CPU
 * codecs make of the device's bytes and the other way round, sizes at the
 * edges, capacities that do not suffice, bytes that are no stream, and options
 * that the interface excludes. Runs on the emulated device in three orders of
 * lanes, and, linked against the real kernels, on a GPU.
 *
 *   test_device [SMALL]: with an argument, a few chunks (for sanitizers)
 */
#include "tests/support/device_memory.h"

#include <cerrno>

extern "C" {
#include "balefs/device.h"
#include "balefs/le.h"
#include "fs/codec/codec.h"
}

using namespace bale_test;

namespace
{

typedef std::vector<uint8_t> Bytes;

bool small;

struct Case {
	uint8_t codec;
	int8_t level;
	uint8_t filter;
};

const Case cases[] = {
	{ BALE_CODEC_raw, 0, 0 },
	{ BALE_CODEC_fill, 0, 0 },
	{ BALE_CODEC_lz4, 0, 0 },
	{ BALE_CODEC_lz4, 1, BALE_FILTER_shuffle4 },
	{ BALE_CODEC_lz4, 2, 0 },
	{ BALE_CODEC_lz4, 3, BALE_FILTER_bitshuffle2 },
	{ BALE_CODEC_gdeflate, 0, 0 },
	{ BALE_CODEC_gdeflate, -1, BALE_FILTER_delta2 },
	{ BALE_CODEC_gdeflate, 1, 0 },
	{ BALE_CODEC_gdeflate, 2, BALE_FILTER_shuffle8 },
	{ BALE_CODEC_gdeflate, 3, 0 },
};

void in_all_orders(void (*fn)(void))
{
#ifdef BALE_EMU_CUDA_RUNTIME_H
	bool was = small;

	bale_emu_set_order(BALE_EMU_RANDOM, 11);
	fn();
	/* Full units once, to stay within seconds. */
	small = true;
	bale_emu_set_order(BALE_EMU_UP, 0);
	fn();
	bale_emu_set_order(BALE_EMU_DOWN, 0);
	fn();
	small = was;
#else
	fn();
#endif
}

struct bale_device_opts opts_of(const Case &c)
{
	struct bale_device_opts o = {};

	o.struct_size = sizeof(o);
	o.codec = c.codec;
	o.level = c.level;
	o.filter = c.filter;
	o.max_chunk = BALE_UNIT_SIZE;
	return o;
}

/* One call's arrays; chunks lie at alignments of their own. */
struct Call {
	Call(const std::vector<Bytes> &src, const std::vector<uint32_t> &caps)
	    : nr(src.size()), dst_len(nr), status(nr)
	{
		std::vector<const void *> sp;
		std::vector<void *> dp;
		std::vector<uint32_t> sl;

		for (size_t i = 0; i < nr; i++) {
			in.push_back(new Buffer<uint8_t>(src[i], i * 3 % 16));
			out.push_back(new Buffer<uint8_t>(caps[i], i * 7 % 16));
			sp.push_back(in[i]->get());
			dp.push_back(out[i]->get());
			sl.push_back(static_cast<uint32_t>(src[i].size()));
		}
		src_ptr = new Buffer<const void *>(sp);
		dst_ptr = new Buffer<void *>(dp);
		src_len = new Buffer<uint32_t>(sl);
		dst_cap = new Buffer<uint32_t>(caps);
	}
	~Call()
	{
		for (auto *b : in)
			delete b;
		for (auto *b : out)
			delete b;
		delete src_ptr;
		delete dst_ptr;
		delete src_len;
		delete dst_cap;
	}
	void run(const struct bale_device_opts &o, bool encode)
	{
		size_t need;
		int r = encode ? bale_device_encode_temp(&o, nr, &need) :
				 bale_device_decode_temp(&o, nr, &need);

		assert_int_equal(r, 0);
		Buffer<uint8_t> temp(need);
		r = (encode ? bale_device_encode : bale_device_decode)(
			&o, nr, *src_ptr, *src_len, *dst_ptr, *dst_cap, dst_len,
			status, temp, need, nullptr);
		assert_int_equal(r, 0);
		lens = dst_len.read();
		stats = status.read();
		temp.check();
		dst_len.check();
		status.check();
		for (auto *b : out)
			b->check();
		for (size_t i = 0; i < nr; i++)
			if (stats[i] != BALE_CHUNK_OK)
				assert_int_equal(lens[i], 0);
	}
	Bytes result(size_t i)
	{
		Bytes b = out[i]->read();

		assert_true(lens[i] <= b.size());
		b.resize(lens[i]);
		return b;
	}
	size_t nr;
	std::vector<Buffer<uint8_t> *> in, out;
	Buffer<const void *> *src_ptr;
	Buffer<void *> *dst_ptr;
	Buffer<uint32_t> *src_len, *dst_cap, dst_len, status;
	std::vector<uint32_t> lens, stats;
};

/* ---- the CPU's word ---- */

/* A chunk as the only unit of an extent. */
Bytes as_payload(const Case &c, const Bytes &chunk)
{
	Bytes p;

	if (c.codec == BALE_CODEC_raw || c.codec == BALE_CODEC_fill)
		return chunk;
	le32 e = le32_put(static_cast<uint32_t>(chunk.size()));

	p.insert(p.end(), e.b, e.b + 4);
	p.insert(p.end(), chunk.begin(), chunk.end());
	return p;
}

int cpu_decode(const Case &c, const Bytes &chunk, size_t len, Bytes *ret)
{
	Bytes p = as_payload(c, chunk);
	struct bale_job j = {};

	ret->assign(len, 0);
	j.op = BALE_JOB_DECODE;
	j.codec = c.codec;
	j.filter = c.filter;
	j.src = p.data();
	j.src_len = p.size();
	j.dst = ret->data();
	j.dst_cap = len;
	bale_codec_run(&j);
	return j.status;
}

/* False: the CPU would keep it raw. */
bool cpu_encode(const Case &c, const Bytes &data, Bytes *ret)
{
	struct bale_job j = {};

	ret->assign(bale_codec_bound(data.size()), 0);
	j.op = BALE_JOB_ENCODE;
	j.codec = c.codec;
	j.filter = c.filter;
	j.level = c.codec == BALE_CODEC_lz4 ? 0 : c.level;
	j.src = data.data();
	j.src_len = data.size();
	j.dst = ret->data();
	j.dst_cap = ret->size();
	bale_codec_run(&j);
	assert_int_equal(j.status, 0);
	if (j.ret_codec != c.codec || c.codec == BALE_CODEC_raw)
		return false;
	ret->resize(j.len);
	if (c.codec == BALE_CODEC_fill)
		return true;
	if ((*ret)[3] & 0x80)
		return false; /* the unit is raw inside */
	ret->erase(ret->begin(), ret->begin() + 4);
	return true;
}

std::vector<Bytes> chunks_for(const Case &c)
{
	static const uint32_t edges[] = { 1,   2,   3,	 4,   5,   7,	 8,
					  9,   12,  13,	 14,  15,  16,	 17,
					  31,  32,  33,	 63,  64,  65,	 127,
					  128, 129, 255, 256, 257, 1023, 4096 };
	std::vector<Bytes> v;
	int kind = 0;

	for (uint32_t len : edges)
		v.push_back(make_data(
			len, c.codec == BALE_CODEC_fill ? 0 : ++kind % 5, len));
	if (small)
		return v;
	for (int k = 0; k < 5; k++)
		v.push_back(make_data(k % 2 ? 65535 : 65536, k,
				      static_cast<uint64_t>(k)));
	return v;
}

std::vector<uint32_t> caps_of(const std::vector<Bytes> &v,
			      const struct bale_device_opts &o)
{
	size_t bound;

	assert_int_equal(bale_device_bound(&o, &bound), 0);
	return std::vector<uint32_t>(v.size(), static_cast<uint32_t>(bound));
}

std::vector<uint32_t> sizes_of(const std::vector<Bytes> &v)
{
	std::vector<uint32_t> s;

	for (const Bytes &b : v)
		s.push_back(static_cast<uint32_t>(b.size()));
	return s;
}

/* Device to device, device to CPU, and the length that the bytes say. */
void encode_case(const Case &c)
{
	struct bale_device_opts o = opts_of(c);
	std::vector<Bytes> data = chunks_for(c), coded, want;
	Call e(data, caps_of(data, o));

	e.run(o, true);
	for (size_t i = 0; i < data.size(); i++) {
		Bytes back;

		if (c.codec == BALE_CODEC_fill &&
		    e.stats[i] == BALE_CHUNK_NO_ROOM)
			continue;
		/* The bound suffices for anything. */
		assert_int_equal(e.stats[i], BALE_CHUNK_OK);
		coded.push_back(e.result(i));
		want.push_back(data[i]);
		assert_int_equal(
			cpu_decode(c, coded.back(), data[i].size(), &back), 0);
		assert_true(back == data[i]);
	}
	assert_true(!coded.empty());
	Call d(coded, sizes_of(want));
	d.run(o, false);
	for (size_t i = 0; i < want.size(); i++) {
		assert_int_equal(d.stats[i], BALE_CHUNK_OK);
		assert_true(d.result(i) == want[i]);
	}
	if (c.codec == BALE_CODEC_fill)
		return;
	assert_int_equal(bale_device_decoded_len(&o, d.nr, *d.src_ptr,
						 *d.src_len, d.dst_len,
						 d.status, nullptr),
			 0);
	assert_true(d.dst_len.read() == sizes_of(want));
	assert_true(d.status.read() ==
		    std::vector<uint32_t>(d.nr, BALE_CHUNK_OK));
}

void encode_all()
{
	for (const Case &c : cases)
		encode_case(c);
}

void device_bytes_decode_on_both_sides(void **)
{
	in_all_orders(encode_all);
}

void cpu_bytes_once()
{
	for (const Case &c : cases) {
		struct bale_device_opts o = opts_of(c);
		std::vector<Bytes> coded, want;

		for (const Bytes &b : chunks_for(c)) {
			Bytes p;

			if (!cpu_encode(c, b, &p))
				continue;
			coded.push_back(p);
			want.push_back(b);
		}
		if (coded.empty())
			continue;
		Call d(coded, sizes_of(want));
		d.run(o, false);
		for (size_t i = 0; i < want.size(); i++) {
			assert_int_equal(d.stats[i], BALE_CHUNK_OK);
			assert_true(d.result(i) == want[i]);
		}
	}
}

void cpu_bytes_decode_on_the_device(void **)
{
	in_all_orders(cpu_bytes_once);
}

/* ---- capacities ---- */

/* One byte less than the result is refused; exactly it is enough for decode. */
void too_little_room(void **)
{
	for (const Case &c : cases) {
		struct bale_device_opts o = opts_of(c);
		Bytes b =
			make_data(3000, c.codec == BALE_CODEC_fill ? 0 : 1, 3);
		std::vector<Bytes> four(4, b);
		Call first({ b }, caps_of({ b }, o));

		first.run(o, true);
		uint32_t n = first.lens[0];
		assert_int_equal(first.stats[0], BALE_CHUNK_OK);
		Call e(four, { n, n - 1, 0, n / 2 });
		e.run(o, true);
		assert_int_equal(e.stats[0], BALE_CHUNK_OK);
		for (size_t i = 1; i < 4; i++)
			assert_int_equal(e.stats[i], BALE_CHUNK_NO_ROOM);
		/* A decoder wants the exact length. */
		Bytes coded = first.result(0);
		Call d({ coded, coded, coded }, { 3000, 2999, 3001 });
		d.run(o, false);
		assert_int_equal(d.stats[0], BALE_CHUNK_OK);
		if (c.codec == BALE_CODEC_fill)
			continue;
		assert_int_equal(d.stats[1], BALE_CHUNK_BAD);
		assert_int_equal(d.stats[2], BALE_CHUNK_BAD);
	}
}

void chunks_beyond_the_maximum(void **)
{
	for (const Case &c : cases) {
		struct bale_device_opts o = opts_of(c);
		Bytes b(101, 7);

		o.max_chunk = 100;
		Call e({ b, Bytes(100, 7) }, { 300, 300 });
		e.run(o, true);
		assert_int_equal(e.stats[0], BALE_CHUNK_INVALID);
		assert_int_equal(e.stats[1], BALE_CHUNK_OK);
		Call d({ e.result(1), e.result(1) }, { 101, 100 });
		d.run(o, false);
		assert_int_equal(d.stats[0], BALE_CHUNK_INVALID);
		assert_int_equal(d.stats[1], BALE_CHUNK_OK);
	}
}

/* ---- hostile ---- */

/* Streams cut, spoilt and made up; dst's guards are checked by run(). What the
 * CPU refuses is refused; what both take is the same. */
void hostile_case(const Case &c, uint64_t seed)
{
	struct bale_device_opts o = opts_of(c);
	Random r(seed);
	std::vector<Bytes> bad;
	std::vector<uint32_t> caps;
	size_t rounds = small ? 2 : 12;

	for (size_t k = 0; k < rounds; k++) {
		Bytes data = make_data(1 + r.below(k % 3 ? 3000 : 20000),
				       c.codec == BALE_CODEC_fill ?
					       0 :
					       static_cast<int>(k % 5),
				       seed + k);
		Call e({ data }, caps_of({ data }, o));
		uint32_t len = static_cast<uint32_t>(data.size());

		e.run(o, true);
		if (e.stats[0] != BALE_CHUNK_OK)
			continue;
		Bytes coded = e.result(0);
		for (int i = 0; i < 8; i++) {
			Bytes b = coded;

			if (i < 2)
				b.resize(r.below(
					static_cast<uint32_t>(b.size())));
			for (int flips = 0; i >= 2 && flips < i - 1; flips++)
				b[r.below(static_cast<uint32_t>(b.size()))] ^=
					static_cast<uint8_t>(1u << r.below(8));
			bad.push_back(b);
			caps.push_back(len);
		}
		bad.push_back(make_data(r.below(2000), 2, seed + k));
		caps.push_back(len);
		bad.push_back(Bytes(r.below(500), 0xff));
		caps.push_back(r.below(BALE_UNIT_SIZE) + 1);
	}
	Call d(bad, caps);
	d.run(o, false);
	for (size_t i = 0; i < bad.size(); i++) {
		Bytes back;
		int cpu = bad[i].empty() ?
				  -EUCLEAN :
				  cpu_decode(c, bad[i], caps[i], &back);

		if (cpu)
			assert_int_equal(d.stats[i], BALE_CHUNK_BAD);
		else if (d.stats[i] == BALE_CHUNK_OK)
			assert_true(d.result(i) == back);
		/* liblz4 1.9 makes something of a distance of 0. */
		else
			assert_int_equal(c.codec, BALE_CODEC_lz4);
	}
	if (c.codec == BALE_CODEC_fill)
		return;
	/* Walking a bad stream for its length ends too. */
	assert_int_equal(bale_device_decoded_len(&o, d.nr, *d.src_ptr,
						 *d.src_len, d.dst_len,
						 d.status, nullptr),
			 0);
	for (uint32_t s : d.status.read())
		assert_true(s == BALE_CHUNK_OK || s == BALE_CHUNK_BAD);
	for (uint32_t n : d.dst_len.read())
		assert_true(n <= o.max_chunk);
}

void hostile_once()
{
	uint64_t seed = 1;

	for (const Case &c : cases)
		hostile_case(c, ++seed * 1000);
}

void bad_streams_end_in_a_status(void **)
{
	in_all_orders(hostile_once);
}

/* ---- the interface ---- */

/* n symbols that are equally frequent take log2(n) bits each, rounded up or
 * down. Compiled for a device, the tree of the code lengths once left out a leaf:
 * all decoded, at a sixth more. */
void codes_are_short()
{
	struct bale_device_opts o = {};
	std::vector<Bytes> src(4);
	std::vector<uint32_t> caps;
	uint32_t x = 12345;

	o.struct_size = sizeof(o);
	o.codec = BALE_CODEC_gdeflate;
	o.level = -1;
	o.max_chunk = BALE_UNIT_SIZE;
	for (Bytes &b : src) {
		uint32_t n = 40 - static_cast<uint32_t>(caps.size());
		uint32_t five = 64 - n, bits = five * 5 + (n - five) * 6;

		b.resize(BALE_UNIT_SIZE);
		for (uint8_t &v : b) {
			x = x * 1664525u + 1013904223u;
			v = static_cast<uint8_t>((x >> 16) % n * 5);
		}
		caps.push_back(BALE_UNIT_SIZE / 8 * bits / n * 101 / 100 + 300);
	}
	Call c(src, caps);
	c.run(o, true);
	for (uint32_t status : c.stats)
		assert_int_equal(status, BALE_CHUNK_OK);
}

void code_lengths_are_the_shortest(void **)
{
	in_all_orders(codes_are_short);
}

void options_are_checked(void **)
{
	struct bale_device_opts good = opts_of(cases[2]), o;
	size_t n;

	assert_int_equal(bale_device_bound(&good, &n), 0);
	assert_int_equal(bale_device_bound(nullptr, &n), -EINVAL);
	o = good;
	o.struct_size--;
	assert_int_equal(bale_device_bound(&o, &n), -EINVAL);
	o = good;
	o.codec = BALE_CODEC_zstd;
	assert_int_equal(bale_device_bound(&o, &n), -EOPNOTSUPP);
	o.codec = BALE_CODEC_planes;
	assert_int_equal(bale_device_bound(&o, &n), -EOPNOTSUPP);
	o.codec = BALE_CODEC_auto;
	assert_int_equal(bale_device_encode_temp(&o, 1, &n), -EOPNOTSUPP);
	o = good;
	o.reserved = 1;
	assert_int_equal(bale_device_decode_temp(&o, 1, &n), -EINVAL);
	o = good;
	o.filter = BALE_FILTER_NR;
	assert_int_equal(bale_device_bound(&o, &n), -EINVAL);
	o = good;
	o.max_chunk = 0;
	assert_int_equal(bale_device_bound(&o, &n), -EINVAL);
	o.max_chunk = BALE_UNIT_SIZE + 1;
	assert_int_equal(bale_device_bound(&o, &n), -EINVAL);
	o = good;
	o.codec = BALE_CODEC_raw;
	o.filter = BALE_FILTER_shuffle2;
	assert_int_equal(bale_device_bound(&o, &n), -EINVAL);
	for (const Case &c : cases) {
		int min, max;

		assert_int_equal(bale_device_levels(c.codec, &min, &max), 0);
		for (int level = -128; level < 128; level++) {
			o = opts_of(c);
			o.level = static_cast<int8_t>(level);
			assert_int_equal(
				bale_device_bound(&o, &n),
				!level || (level >= min && level <= max) ?
					0 :
					-EINVAL);
		}
	}
	int min;
	assert_int_equal(bale_device_levels(BALE_CODEC_zstd, &min, &min),
			 -EOPNOTSUPP);
	assert_int_equal(
		bale_device_encode_temp(&good, BALE_DEVICE_CHUNKS_MAX + 1, &n),
		-EINVAL);
}

void arrays_and_temp_are_checked(void **)
{
	struct bale_device_opts o = opts_of(cases[3]);
	std::vector<Bytes> data(3, make_data(100, 1, 1));
	Call c(data, caps_of(data, o));
	size_t need;

	assert_int_equal(bale_device_encode_temp(&o, 3, &need), 0);
	assert_true(need);
	Buffer<uint8_t> temp(need + 256);
	auto call = [&](size_t nr, bool no_src, bool no_status, size_t shift,
			size_t len) {
		return bale_device_encode(
			&o, nr, no_src ? nullptr : c.src_ptr->get(), *c.src_len,
			*c.dst_ptr, *c.dst_cap, c.dst_len,
			no_status ? nullptr : c.status.get(), temp + shift, len,
			nullptr);
	};
	assert_int_equal(call(3, false, false, 0, need), 0);
	assert_int_equal(call(3, true, false, 0, need), -EINVAL);
	assert_int_equal(call(3, false, true, 0, need), -EINVAL);
	assert_int_equal(call(3, false, false, 0, need - 1), -EINVAL);
	assert_int_equal(call(3, false, false, 16, need), -EINVAL);
	assert_int_equal(
		call(BALE_DEVICE_CHUNKS_MAX + 1, false, false, 0, need),
		-EINVAL);
	/* No chunks: nothing to do, whatever the arrays. */
	assert_int_equal(call(0, true, true, 16, 0), 0);
	assert_int_equal(bale_device_decode(&o, 0, nullptr, nullptr, nullptr,
					    nullptr, nullptr, nullptr, nullptr,
					    0, nullptr),
			 0);
	assert_int_equal(bale_device_decoded_len(&o, 1, nullptr, nullptr,
						 nullptr, nullptr, nullptr),
			 -EINVAL);
	o = opts_of(cases[1]);
	assert_int_equal(bale_device_decoded_len(&o, 1, *c.src_ptr, *c.src_len,
						 c.dst_len, c.status, nullptr),
			 -EOPNOTSUPP);
}

} // namespace

int main(int argc, char **)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(arrays_and_temp_are_checked),
		cmocka_unit_test(device_bytes_decode_on_both_sides),
		cmocka_unit_test(cpu_bytes_decode_on_the_device),
		cmocka_unit_test(code_lengths_are_the_shortest),
		cmocka_unit_test(too_little_room),
		cmocka_unit_test(chunks_beyond_the_maximum),
		cmocka_unit_test(bad_streams_end_in_a_status),
	};

#ifndef BALE_EMU_CUDA_RUNTIME_H
	int nr = 0;

	if (cudaGetDeviceCount(&nr) != cudaSuccess || !nr)
		return 77;
#endif
	small = argc > 1;
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
