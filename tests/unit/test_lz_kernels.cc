// SPDX-License-Identifier: Apache-2.0
//
// The match finder and the LZ4 kernels on the emulated device, against liblz4
// both ways. Device memory is the process's: every buffer is an allocation of
// its own, so that a sanitizer sees the byte behind it.
#include <lz4.h>
#include <lz4hc.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
}

#include "kernels/kernels.h"
#include "kernels/lz77.cuh"

namespace
{

typedef std::vector<uint8_t> Bytes;

constexpr uint8_t kGuard = 0xa5;
constexpr size_t kGuardLen = 64;

uint64_t rng_state = 88172645463325252ull;

uint32_t rnd(uint32_t below)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (uint32_t)((rng_state >> 32) * below >> 32);
}

// ---- data ----

Bytes noise(size_t len)
{
	Bytes b(len);

	for (uint8_t &v : b)
		v = (uint8_t)rnd(256);
	return b;
}

Bytes text(size_t len)
{
	static const char *const words[] = {
		"the ",	  "extent ", "is ",	"a ",  "slice ",  "of ",
		"file, ", "and ",    "codec\n", "it ", "whole. ", "0123456789"
	};
	std::string s;

	while (s.size() < len)
		s += words[rnd(12)];
	return Bytes(s.begin(), s.begin() + (long)len);
}

Bytes periodic(size_t len, size_t period)
{
	Bytes b = noise(std::min(len, period));

	while (b.size() < len)
		b.push_back(b[b.size() - period]);
	return b;
}

// Blocks of noise, runs, and copies from anywhere before.
Bytes mixture(size_t len)
{
	Bytes b;

	while (b.size() < len) {
		size_t n = 1 + rnd(rnd(8) ? 40 : 3000);
		uint32_t kind = rnd(3);

		if (kind == 0) {
			Bytes piece = noise(n);
			b.insert(b.end(), piece.begin(), piece.end());
		} else if (kind == 1 || b.empty()) {
			b.insert(b.end(), n, (uint8_t)rnd(4));
		} else {
			size_t dist = 1 + rnd((uint32_t)b.size());
			for (size_t i = 0; i < n; i++)
				b.push_back(b[b.size() - dist]);
		}
	}
	b.resize(len);
	return b;
}

Bytes sample(size_t len, uint32_t kind)
{
	switch (kind % 6) {
	case 0:
		return text(len);
	case 1:
		return mixture(len);
	case 2:
		return noise(len);
	case 3:
		return Bytes(len, 0);
	case 4:
		return periodic(len, 1 + rnd(70));
	default:
		return periodic(len, 1 + rnd(5000));
	}
}

const size_t kSizes[] = { 0,   1,   2,	 3,    4,    5,	   6,	  7,	8,
			  9,   10,  11,	 12,   13,   14,   31,	  32,	33,
			  63,  64,  65,	 127,  128,  129,  255,	  256,	271,
			  527, 529, 530, 4095, 4096, 4097, 65535, 65536 };

// ---- calls ----

// A buffer at an odd place, with guards on both sides inside the allocation or,
// for sources, exactly as long as what it holds.
struct Place {
	uint8_t *base;
	size_t at, len;

	Place(size_t n, size_t shift, bool guarded)
	{
		at = shift + (guarded ? kGuardLen : 0);
		len = at + n + (guarded ? kGuardLen : 0);
		base = (uint8_t *)malloc(len ? len : 1);
		memset(base, kGuard, len);
	}
	Place(const Place &) = delete;
	~Place()
	{
		free(base);
	}
	uint8_t *data() const
	{
		return base + at;
	}
	void check_guards(size_t n) const
	{
		for (size_t i = 0; i < at; i++)
			assert_int_equal(base[i], kGuard);
		for (size_t i = at + n; i < len; i++)
			assert_int_equal(base[i], kGuard);
	}
};

struct Batch {
	std::vector<const void *> src;
	std::vector<uint32_t> src_len, dst_cap, dst_len, status;
	std::vector<void *> dst;
	std::vector<Place *> in, out;
	std::vector<uint8_t> temp;

	~Batch()
	{
		for (Place *p : in)
			delete p;
		for (Place *p : out)
			delete p;
	}
	void add(const Bytes &b, size_t cap)
	{
		size_t shift = src.size() % 7;
		Place *s = new Place(b.size(), shift, false);
		Place *d = new Place(cap, (shift * 3) % 5, true);

		if (!b.empty())
			memcpy(s->data(), b.data(), b.size());
		in.push_back(s);
		out.push_back(d);
		src.push_back(s->data());
		src_len.push_back((uint32_t)b.size());
		dst.push_back(d->data());
		dst_cap.push_back((uint32_t)cap);
		dst_len.push_back(77);
		status.push_back(77);
	}
	struct bale_chunks chunks(size_t temp_len)
	{
		struct bale_chunks c = {};

		temp.assign(temp_len + 256, 0xee);
		c.nr = src.size();
		c.src = src.data();
		c.src_len = src_len.data();
		c.dst = dst.data();
		c.dst_cap = dst_cap.data();
		c.dst_len = dst_len.data();
		c.status = status.data();
		c.max_chunk = BALE_UNIT_SIZE;
		c.temp = temp.data() + 256 - (uintptr_t)temp.data() % 256;
		c.temp_len = temp_len;
		return c;
	}
	void encode(int level)
	{
		size_t len =
			bale_lz4_encode_temp(level, src.size(), BALE_UNIT_SIZE);
		struct bale_chunks c = chunks(len);

		assert_int_equal(bale_lz4_encode(level, &c), 0);
		check_guards();
	}
	// Both ways of decoding, which give the same.
	void decode()
	{
		size_t len = bale_lz4_decode_temp(src.size(), BALE_UNIT_SIZE);
		struct bale_chunks c = chunks(len - 1);
		std::vector<uint32_t> want_status, want_len;
		std::vector<Bytes> want;

		assert_int_equal(bale_lz4_decode(&c), 0);
		check_guards();
		want_status = status;
		want_len = dst_len;
		for (size_t i = 0; i < out.size(); i++) {
			want.push_back(result(i));
			memset(out[i]->data(), 0x77, dst_cap[i]);
		}
		c = chunks(len);
		assert_int_equal(bale_lz4_decode(&c), 0);
		check_guards();
		assert_true(status == want_status);
		assert_true(dst_len == want_len);
		for (size_t i = 0; i < out.size(); i++)
			assert_true(result(i) == want[i]);
	}
	void check_guards()
	{
		for (size_t i = 0; i < out.size(); i++)
			out[i]->check_guards(dst_cap[i]);
	}
	Bytes result(size_t i) const
	{
		const uint8_t *p = out[i]->data();

		return Bytes(p, p + dst_len[i]);
	}
};

void each_order(void (*test)())
{
	const uint64_t seed = rng_state;

	for (int order = BALE_EMU_UP; order <= BALE_EMU_RANDOM; order++) {
		rng_state = seed;
		bale_emu_set_order((enum bale_emu_order)order, 7);
		test();
	}
	bale_emu_set_order(BALE_EMU_UP, 0);
}

size_t lz4_bound(size_t len)
{
	return len + len / 255 + 16;
}

// ---- encoder ----

void check_encoded(const Batch &batch, const std::vector<Bytes> &plain)
{
	for (size_t i = 0; i < plain.size(); i++) {
		Bytes back(plain[i].size() + 1);
		Bytes block = batch.result(i);
		int n;

		assert_int_equal(batch.status[i], BALE_CHUNK_OK);
		n = LZ4_decompress_safe((const char *)block.data(),
					(char *)back.data(), (int)block.size(),
					(int)plain[i].size());
		assert_int_equal(n, plain[i].size());
		back.resize(plain[i].size());
		assert_true(back == plain[i]);
	}
}

void check_exact_caps(int level, const Batch &batch,
		      const std::vector<Bytes> &plain)
{
	Batch exact, tight;

	for (size_t i = 0; i < plain.size(); i++) {
		exact.add(plain[i], batch.dst_len[i]);
		tight.add(plain[i], batch.dst_len[i] - 1);
	}
	exact.encode(level);
	check_encoded(exact, plain);
	tight.encode(level);
	for (size_t i = 0; i < plain.size(); i++) {
		assert_true(exact.result(i) == batch.result(i));
		assert_int_equal(tight.status[i], BALE_CHUNK_NO_ROOM);
		assert_int_equal(tight.dst_len[i], 0);
	}
}

std::vector<Bytes> all_sizes()
{
	std::vector<Bytes> v;
	uint32_t kind = 0;

	for (size_t len : kSizes)
		v.push_back(sample(len, kind++));
	for (uint32_t k = 0; k < 6; k++)
		v.push_back(sample(60000 + rnd(5537), k));
	return v;
}

void encode_all(int level)
{
	std::vector<Bytes> plain = all_sizes();
	Batch batch;

	for (const Bytes &b : plain)
		batch.add(b, lz4_bound(b.size()));
	batch.encode(level);
	check_encoded(batch, plain);
	check_exact_caps(level, batch, plain);
}

void test_encode_fast(void **)
{
	encode_all(1);
}

void test_encode_balanced(void **)
{
	encode_all(2);
}

void test_encode_high(void **)
{
	encode_all(3);
}

// The same bytes whatever order the lanes run in.
void test_encode_orders(void **)
{
	static std::vector<Bytes> first;

	first.clear();
	each_order([] {
		Batch batch;

		for (uint32_t k = 0; k < 6; k++)
			batch.add(sample(3000 + 100 * k, k), 4000);
		for (int level = 1; level <= 3; level++) {
			batch.encode(level);
			for (size_t i = 0; i < 6; i++) {
				size_t at = (size_t)(level - 1) * 6 + i;

				if (first.size() <= at)
					first.push_back(batch.result(i));
				assert_true(batch.result(i) == first[at]);
			}
		}
	});
}

void test_encode_periods(void **)
{
	std::vector<Bytes> plain;
	Batch batch;

	for (size_t period = 1; period <= 70; period++)
		plain.push_back(periodic(300 + rnd(900), period));
	for (const Bytes &b : plain)
		batch.add(b, lz4_bound(b.size()));
	batch.encode(1);
	check_encoded(batch, plain);
	for (size_t i = 0; i < plain.size(); i++)
		assert_true(batch.dst_len[i] < i + 40);
}

void test_encode_refuses(void **)
{
	Bytes b = text(100);
	size_t len = bale_lz4_encode_temp(1, 3, 64);
	struct bale_chunks c;
	Batch batch;

	batch.add(b, 200);
	batch.add(text(64), 200);
	batch.add(text(64), 0);
	c = batch.chunks(len);
	c.max_chunk = 64;
	assert_int_equal(bale_lz4_encode(0, &c), -EINVAL);
	assert_int_equal(bale_lz4_encode(4, &c), -EINVAL);
	c.temp_len--;
	assert_int_equal(bale_lz4_encode(1, &c), -EINVAL);
	c.temp_len++;
	assert_int_equal(bale_lz4_encode(1, &c), 0);
	assert_int_equal(batch.status[0], BALE_CHUNK_INVALID);
	assert_int_equal(batch.dst_len[0], 0);
	assert_int_equal(batch.status[1], BALE_CHUNK_OK);
	assert_int_equal(batch.status[2], BALE_CHUNK_NO_ROOM);
	c.max_chunk = 65537;
	assert_int_equal(bale_lz4_encode(1, &c), -EINVAL);
	c.max_chunk = 64;
	c.nr = 0;
	assert_int_equal(bale_lz4_encode(1, &c), 0);
}

// ---- decoder ----

Bytes lz4_block(const Bytes &plain, int hc)
{
	Bytes out(lz4_bound(plain.size()));
	int n = hc ? LZ4_compress_HC((const char *)plain.data(),
				     (char *)out.data(), (int)plain.size(),
				     (int)out.size(), 9) :
		     LZ4_compress_default((const char *)plain.data(),
					  (char *)out.data(), (int)plain.size(),
					  (int)out.size());

	assert_true(n > 0);
	out.resize((size_t)n);
	return out;
}

void check_decoded(const Batch &batch, const std::vector<Bytes> &plain)
{
	for (size_t i = 0; i < plain.size(); i++) {
		assert_int_equal(batch.status[i], BALE_CHUNK_OK);
		assert_true(batch.result(i) == plain[i]);
	}
}

void decode_liblz4()
{
	std::vector<Bytes> plain = all_sizes(), twice;
	Batch batch;

	for (size_t period = 1; period <= 70; period++)
		plain.push_back(periodic(300 + rnd(900), period));
	for (int hc = 0; hc < 2; hc++)
		for (const Bytes &b : plain) {
			batch.add(lz4_block(b, hc), b.size());
			twice.push_back(b);
		}
	batch.decode();
	check_decoded(batch, twice);
}

void test_decode_liblz4(void **)
{
	decode_liblz4();
}

void test_decode_orders(void **)
{
	each_order([] {
		std::vector<Bytes> plain;
		Batch batch;

		for (uint32_t k = 0; k < 12; k++)
			plain.push_back(sample(1000 + 300 * k, k));
		for (const Bytes &b : plain)
			batch.add(lz4_block(b, 1), b.size());
		batch.decode();
		check_decoded(batch, plain);
	});
}

void test_decode_own(void **)
{
	std::vector<Bytes> plain = all_sizes();
	Batch coded, batch;

	for (const Bytes &b : plain)
		coded.add(b, lz4_bound(b.size()));
	coded.encode(3);
	for (size_t i = 0; i < plain.size(); i++)
		batch.add(coded.result(i), plain[i].size());
	batch.decode();
	check_decoded(batch, plain);
}

// A block that is sound but for one other length than the caller expects.
void test_decode_wrong_length(void **)
{
	Batch batch;

	for (uint32_t k = 0; k < 6; k++)
		for (int by : { -300, -1, 1, 300 }) {
			Bytes b = sample(2000, k);

			batch.add(lz4_block(b, 0), b.size() + (size_t)by);
		}
	batch.decode();
	for (size_t i = 0; i < batch.src.size(); i++) {
		assert_int_equal(batch.status[i], BALE_CHUNK_BAD);
		assert_int_equal(batch.dst_len[i], 0);
	}
}

void test_decode_truncated(void **)
{
	Batch batch;
	size_t nr;

	for (uint32_t k = 0; k < 6; k++) {
		Bytes b = sample(k == 3 ? 3000 : 300, k);
		Bytes block = lz4_block(b, 1);

		for (size_t len = 0; len < block.size(); len++)
			batch.add(
				Bytes(block.begin(), block.begin() + (long)len),
				b.size());
	}
	nr = batch.src.size();
	batch.decode();
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(batch.status[i], BALE_CHUNK_BAD);
}

// The format once more, a byte at a time.
struct Reference {
	const Bytes &in;
	size_t at, cap;
	Bytes out;

	bool byte(size_t *v)
	{
		if (at == in.size())
			return false;
		*v = in[at++];
		return true;
	}
	bool length(size_t *v)
	{
		size_t more = *v == 15 ? 255 : 0;

		while (more == 255) {
			if (!byte(&more))
				return false;
			*v += more;
		}
		return true;
	}
	bool decode()
	{
		for (;;) {
			size_t token, lit, len, lo, hi;

			if (!byte(&token))
				return false;
			lit = token >> 4;
			if (!length(&lit) || lit > in.size() - at)
				return false;
			out.insert(out.end(), in.begin() + (long)at,
				   in.begin() + (long)(at + lit));
			at += lit;
			if (at == in.size())
				return out.size() == cap;
			len = token & 15;
			if (!byte(&lo) || !byte(&hi) || !length(&len))
				return false;
			lo |= hi << 8;
			if (!lo || lo > out.size() || out.size() > cap)
				return false;
			for (len += 4; len; len--)
				out.push_back(out[out.size() - lo]);
		}
	}
};

// Damage never writes out of bounds; exactly the sound blocks are taken.
void test_decode_damaged(void **)
{
	std::vector<Bytes> blocks;
	size_t nr_ok = 0;
	Batch batch;

	for (uint32_t i = 0; i < 1500; i++) {
		Bytes b = sample(200 + rnd(600), i);
		Bytes block = i % 4 ? lz4_block(b, 1) : noise(1 + rnd(200));

		for (uint32_t k = i % 4; k; k--)
			block[rnd((uint32_t)block.size())] ^=
				(uint8_t)(1u << rnd(8));
		blocks.push_back(block);
		batch.add(block, b.size());
	}
	batch.decode();
	for (size_t i = 0; i < blocks.size(); i++) {
		Reference ref = { blocks[i], 0, batch.dst_cap[i], {} };

		if (ref.decode()) {
			nr_ok++;
			assert_int_equal(batch.status[i], BALE_CHUNK_OK);
			assert_true(batch.result(i) == ref.out);
		} else {
			assert_int_equal(batch.status[i], BALE_CHUNK_BAD);
			assert_int_equal(batch.dst_len[i], 0);
		}
	}
	assert_true(nr_ok > 10 && nr_ok < 1400);
}

void expect_block(Batch *batch, std::vector<uint32_t> *want, const Bytes &block,
		  size_t cap, uint32_t status)
{
	batch->add(block, cap);
	want->push_back(status);
}

// Each rule of the format that a block can break, by hand.
void test_decode_rules(void **)
{
	std::vector<uint32_t> want;
	Bytes runs(300, 255);
	Batch batch;

	expect_block(&batch, &want, { 0 }, 0, BALE_CHUNK_OK);
	expect_block(&batch, &want, {}, 0, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0, 0 }, 0, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x10, 'a' }, 1, BALE_CHUNK_OK);
	// One literal, distance 1, 4 bytes, an empty end.
	expect_block(&batch, &want, { 0x10, 'a', 1, 0, 0 }, 5, BALE_CHUNK_OK);
	expect_block(&batch, &want, { 0x10, 'a', 0, 0, 0 }, 5, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x10, 'a', 2, 0, 0 }, 5, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x10, 'a', 1, 0 }, 5, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x10, 'a', 1 }, 5, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x1f, 'a', 1, 0 }, 20, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x1f, 'a', 1, 0, 255 }, 275,
		     BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x1f, 'a', 1, 0, 255, 0, 0 }, 275,
		     BALE_CHUNK_OK);
	expect_block(&batch, &want, { 0x1f, 'a', 1, 0, 255, 0, 0 }, 274,
		     BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0xf0 }, 15, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0xf0, 255 }, 15, BALE_CHUNK_BAD);
	expect_block(&batch, &want, { 0x20, 'a' }, 2, BALE_CHUNK_BAD);
	runs[0] = 0xf0;
	expect_block(&batch, &want, runs, 65536, BALE_CHUNK_BAD);
	runs[0] = 0x1f;
	expect_block(&batch, &want, runs, 65536, BALE_CHUNK_BAD);
	batch.decode();
	for (size_t i = 0; i < want.size(); i++)
		assert_int_equal(batch.status[i], want[i]);
}

void test_decode_refuses(void **)
{
	struct bale_chunks c;
	Batch batch;

	batch.add({ 0x10, 'a' }, 65);
	c = batch.chunks(0);
	c.max_chunk = 64;
	assert_int_equal(bale_lz4_decode(&c), 0);
	assert_int_equal(batch.status[0], BALE_CHUNK_INVALID);
	c.max_chunk = 65537;
	assert_int_equal(bale_lz4_decode(&c), -EINVAL);
	c.max_chunk = 64;
	c.nr = 0;
	assert_int_equal(bale_lz4_decode(&c), 0);
}

void test_decoded_len(void **)
{
	std::vector<Bytes> plain = all_sizes();
	struct bale_chunks c;
	Batch batch;
	size_t nr;

	for (const Bytes &b : plain)
		batch.add(lz4_block(b, 0), 0);
	nr = plain.size();
	for (size_t i = 0; i < nr; i++) {
		Bytes block = lz4_block(plain[i], 0);

		block.pop_back();
		batch.add(block, 0);
	}
	c = batch.chunks(0);
	assert_int_equal(bale_lz4_decoded_len(&c), 0);
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(batch.status[i], BALE_CHUNK_OK);
		assert_int_equal(batch.dst_len[i], plain[i].size());
		assert_int_equal(batch.status[nr + i], BALE_CHUNK_BAD);
		assert_int_equal(batch.dst_len[nr + i], 0);
	}
}

// ---- the match finder ----

void check_unit(const struct bale_lz77_params &p, const Bytes &b,
		const struct bale_seq *seqs, uint32_t nr)
{
	size_t at = 0;

	assert_true(nr <= bale_lz77_seqs_max(b.size()));
	for (uint32_t i = 0; i < nr; i++) {
		const struct bale_seq &s = seqs[i];

		assert_int_equal(s.pos, at);
		at += s.lit;
		assert_true(at <= b.size());
		if (!s.len) {
			assert_true(i + 1 == nr || b.size() == 65536);
			continue;
		}
		assert_true(s.len >= p.min_len && s.len <= p.max_len);
		assert_true(s.dist >= 1 && s.dist <= p.max_dist &&
			    s.dist <= at);
		assert_true(at + s.len + p.end_lits <= b.size());
		assert_true(at + p.last_match <= b.size());
		for (size_t k = 0; k < s.len; k++)
			assert_true(b[at + k] == b[at + k - s.dist]);
		at += s.len;
	}
	assert_int_equal(at, b.size());
}

size_t find_all(const struct bale_lz77_params &p,
		const std::vector<Bytes> &plain)
{
	size_t stride = bale_lz77_seqs_max(BALE_UNIT_SIZE), total = 0;
	size_t temp_len = bale_lz77_temp(&p, plain.size(), BALE_UNIT_SIZE);
	std::vector<struct bale_seq> seqs(plain.size() * stride);
	std::vector<uint32_t> nr(plain.size(), 77);
	struct bale_chunks c;
	Batch batch;

	for (const Bytes &b : plain)
		batch.add(b, 1);
	c = batch.chunks(temp_len);
	assert_int_equal(bale_lz77_find(&p, &c, seqs.data(), nr.data(), c.temp,
					temp_len - 1),
			 -EINVAL);
	assert_int_equal(bale_lz77_find(&p, &c, seqs.data(), nr.data(), c.temp,
					temp_len),
			 0);
	for (size_t i = 0; i < plain.size(); i++) {
		check_unit(p, plain[i], seqs.data() + i * stride, nr[i]);
		total += nr[i];
	}
	return total;
}

void test_find(void **)
{
	std::vector<Bytes> plain = all_sizes();
	struct bale_lz77_params p = {};

	p.min_len = 3;
	p.max_len = 65535;
	p.max_dist = 65535;
	p.depth = 8;
	for (int parse = BALE_PARSE_GREEDY; parse <= BALE_PARSE_OPTIMAL;
	     parse++) {
		p.parse = (enum bale_parse)parse;
		assert_true(find_all(p, plain) > 100);
	}
}

void test_find_limits(void **)
{
	std::vector<Bytes> plain;
	struct bale_lz77_params p = {};

	for (uint32_t k = 0; k < 24; k++)
		plain.push_back(sample(rnd(3000), k));
	for (uint32_t i = 0; i < 24; i++) {
		p.min_len = 3 + i % 3;
		p.max_len = i % 2 ? 258 : p.min_len + rnd(40);
		p.max_dist = i % 5 ? 65535 : 1 + rnd(500);
		p.depth = 1 + rnd(9);
		p.end_lits = rnd(9);
		p.last_match = rnd(20);
		p.parse = (enum bale_parse)(i / 2 % 3);
		find_all(p, plain);
	}
}

// The search reads a unit where it is on devices with little shared memory.
void test_find_remote(void **)
{
	const size_t nr = 12, stride = bale_lz77_seqs_max(BALE_UNIT_SIZE);
	const struct bale_lz77_params p = { 3, 65535, 65535,	      6,
					    0, 0,     BALE_PARSE_LAZY };
	size_t temp_len = bale_lz77_temp(&p, nr, BALE_UNIT_SIZE);
	std::vector<struct bale_seq> seqs(nr * stride);
	std::vector<uint32_t> counts(nr), match;
	struct bale_lz77_job job;
	struct bale_chunks c;
	Batch batch;

	for (uint32_t i = 0; i < nr; i++)
		batch.add(sample(rnd(3000), i), 1);
	c = batch.chunks(temp_len);
	assert_int_equal(bale_lz77_job_init(&job, &p, &c, seqs.data(),
					    counts.data(), c.temp, temp_len),
			 0);
	assert_int_equal(bale_lz77_chain(&job), 0);
	for (int remote = 0; remote < 2; remote++) {
		size_t at = 0;

		job.search_remote = remote;
		assert_int_equal(bale_lz77_search(&job), 0);
		for (size_t i = 0; i < nr; i++)
			for (uint32_t k = 0; k < batch.src_len[i]; k++, at++) {
				uint32_t m = job.match[i * job.stride + k];

				if (!remote)
					match.push_back(m);
				assert_int_equal(m, match[at]);
			}
	}
}

// What a parse is for: fewer bytes, roughly counted.
size_t parse_size(enum bale_parse parse, const Bytes &b)
{
	const struct bale_lz77_params p = { 3, 65535, 65535, 16, 0, 0, parse };
	size_t temp_len = bale_lz77_temp(&p, 1, BALE_UNIT_SIZE), bits = 0;
	std::vector<struct bale_seq> seqs(bale_lz77_seqs_max(BALE_UNIT_SIZE));
	struct bale_chunks c;
	uint32_t nr = 0;
	Batch batch;

	batch.add(b, 1);
	c = batch.chunks(temp_len);
	assert_int_equal(
		bale_lz77_find(&p, &c, seqs.data(), &nr, c.temp, temp_len), 0);
	for (uint32_t i = 0; i < nr; i++) {
		bits += 6 * seqs[i].lit;
		for (uint32_t d = seqs[i].dist; d > 1; d /= 2)
			bits++;
		for (uint32_t l = seqs[i].len; l > 8; l /= 2)
			bits++;
		bits += seqs[i].len ? 9 : 0;
	}
	return bits;
}

void test_find_better(void **)
{
	for (uint32_t kind = 0; kind < 2; kind++) {
		Bytes b = sample(60000, kind);
		size_t lazy = parse_size(BALE_PARSE_LAZY, b);
		size_t optimal = parse_size(BALE_PARSE_OPTIMAL, b);

		assert_true(optimal < lazy);
	}
}

} // namespace

int main()
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encode_fast),
		cmocka_unit_test(test_encode_balanced),
		cmocka_unit_test(test_encode_high),
		cmocka_unit_test(test_encode_orders),
		cmocka_unit_test(test_encode_periods),
		cmocka_unit_test(test_encode_refuses),
		cmocka_unit_test(test_decode_liblz4),
		cmocka_unit_test(test_decode_orders),
		cmocka_unit_test(test_decode_own),
		cmocka_unit_test(test_decode_wrong_length),
		cmocka_unit_test(test_decode_truncated),
		cmocka_unit_test(test_decode_damaged),
		cmocka_unit_test(test_decode_rules),
		cmocka_unit_test(test_decode_refuses),
		cmocka_unit_test(test_decoded_len),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_find_limits),
		cmocka_unit_test(test_find_remote),
		cmocka_unit_test(test_find_better),
	};

	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
