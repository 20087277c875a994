/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What surrounds a codec on the device, against its twin on the CPU: filters,
 * probe, checksum, and the way of extents through cut, scan, gather and back
 * through split and fold. The coder itself is a stand-in here, which halves
 * units of one kind, so that what is tested is the frame.
 */
#include "tests/support/device_memory.h"

#include <cerrno>

extern "C" {
#include "balefs/format.h"
#include "balefs/unit.h"
#include "fs/base/crc32c.h"
#include "fs/codec/codec_units.h"
#include "fs/codec/filter.h"
}
#include "kernels/kernels.h"

using namespace bale_test;

namespace
{

typedef std::vector<uint8_t> Bytes;

const uint32_t sizes[] = { 0,	 1,    2,    3,	    4,	  7,   8,    15,
			   16,	 17,   31,   32,    33,	  63,  64,   65,
			   127,	 128,  129,  255,   256,  257, 1000, 4095,
			   4096, 4097, 8191, 65535, 65536 };

/* Device copies of chunks, each at an alignment of its own. */
struct Pieces {
	explicit Pieces(const std::vector<Bytes> &v)
	{
		for (size_t i = 0; i < v.size(); i++)
			add(v[i], i % 17);
		finish();
	}
	Pieces(const std::vector<uint32_t> &lens, size_t shift)
	{
		for (size_t i = 0; i < lens.size(); i++)
			add(Bytes(lens[i], 0xee), (i * 5 + shift) % 16);
		finish();
	}
	~Pieces()
	{
		for (auto *b : bufs)
			delete b;
		delete ptrs;
		delete lens;
	}
	void check()
	{
		for (auto *b : bufs)
			b->check();
	}
	std::vector<Buffer<uint8_t> *> bufs;
	Buffer<const void *> *ptrs = nullptr;
	Buffer<uint32_t> *lens = nullptr;

      private:
	void add(const Bytes &b, size_t shift)
	{
		bufs.push_back(new Buffer<uint8_t>(b, shift));
	}
	void finish()
	{
		std::vector<const void *> p;
		std::vector<uint32_t> l;

		for (auto *b : bufs) {
			p.push_back(b->get());
			l.push_back(static_cast<uint32_t>(b->size()));
		}
		ptrs = new Buffer<const void *>(p);
		lens = new Buffer<uint32_t>(l);
	}
};

void **writable(const Pieces &p)
{
	return const_cast<void **>(p.ptrs->get());
}

void in_all_orders(void (*fn)(void))
{
#ifdef BALE_EMU_CUDA_RUNTIME_H
	bale_emu_set_order(BALE_EMU_UP, 0);
	fn();
	bale_emu_set_order(BALE_EMU_DOWN, 0);
	fn();
	bale_emu_set_order(BALE_EMU_RANDOM, 7);
	fn();
#else
	fn();
#endif
}

std::vector<Bytes> sample_chunks()
{
	std::vector<Bytes> v;
	int kind = 0;

	for (uint32_t len : sizes)
		v.push_back(make_data(len, ++kind % 5, len));
	return v;
}

/* ---- checksum ---- */

void crc_once()
{
	std::vector<Bytes> v = sample_chunks();

	for (uint32_t len = 0; len < 80; len++)
		for (uint32_t k = 0; k < 4; k++)
			v.push_back(make_data(len, 2, len + k));
	v.push_back(make_data(300001, 2, 9));

	Pieces p(v);
	Buffer<uint32_t> crc(v.size());

	assert_int_equal(
		bale_crc32c_many(v.size(), *p.ptrs, *p.lens, crc, nullptr), 0);
	std::vector<uint32_t> got = crc.read();
	for (size_t i = 0; i < v.size(); i++)
		assert_int_equal(got[i],
				 bale_crc32c(0, v[i].data(), v[i].size()));
	crc.check();
}

void crc_is_the_stores(void **)
{
	in_all_orders(crc_once);
}

/* ---- filters ---- */

void filter_once()
{
	std::vector<Bytes> v = sample_chunks();
	std::vector<uint32_t> lens;

	for (const Bytes &b : v)
		lens.push_back(static_cast<uint32_t>(b.size()));
	for (unsigned int f = 1; f < BALE_FILTER_NR; f++) {
		Pieces from(v), to(lens, f), back(lens, f + 3);
		Buffer<uint32_t> status(
			std::vector<uint32_t>(v.size(), BALE_CHUNK_OK));

		assert_int_equal(bale_unit_filter(f, v.size(), *from.ptrs,
						  *from.lens, writable(to),
						  BALE_UNIT_SIZE, nullptr),
				 0);
		assert_int_equal(bale_unit_unfilter(f, v.size(), *to.ptrs,
						    *to.lens, writable(back),
						    status, BALE_UNIT_SIZE,
						    nullptr),
				 0);
		for (size_t i = 0; i < v.size(); i++) {
			Bytes want(v[i].size());

			bale_filter_forward(f, v[i].data(), v[i].size(),
					    want.data());
			assert_true(to.bufs[i]->read() == want);
			assert_true(back.bufs[i]->read() == v[i]);
		}
		to.check();
		back.check();
	}
}

void filters_are_the_cpus(void **)
{
	in_all_orders(filter_once);
}

void filters_leave_alone(void **)
{
	std::vector<Bytes> v = { make_data(900, 2, 1), make_data(901, 2, 2) };
	Pieces from(v), to({ 900, 901 }, 0);
	Buffer<uint32_t> status(
		std::vector<uint32_t>{ BALE_CHUNK_OK, BALE_CHUNK_BAD });

	/* Longer than max_chunk; not decoded. */
	assert_int_equal(bale_unit_filter(BALE_FILTER_shuffle4, 2, *from.ptrs,
					  *from.lens, writable(to), 900,
					  nullptr),
			 0);
	assert_true(to.bufs[1]->read() == Bytes(901, 0xee));
	assert_false(to.bufs[0]->read() == Bytes(900, 0xee));
	assert_int_equal(bale_unit_unfilter(BALE_FILTER_delta4, 2, *from.ptrs,
					    *from.lens, writable(to), status,
					    BALE_UNIT_SIZE, nullptr),
			 0);
	assert_true(to.bufs[1]->read() == Bytes(901, 0xee));
	assert_int_equal(bale_unit_filter(BALE_FILTER_none, 2, *from.ptrs,
					  *from.lens, writable(to), 900,
					  nullptr),
			 -EINVAL);
	assert_int_equal(bale_unit_filter(BALE_FILTER_NR, 2, *from.ptrs,
					  *from.lens, writable(to), 900,
					  nullptr),
			 -EINVAL);
	assert_int_equal(bale_unit_filter(BALE_FILTER_delta1, 0, nullptr,
					  nullptr, nullptr, 900, nullptr),
			 0);
}

/* ---- units of a batch ---- */

/* The unit arrays, and the slots that units are coded into. */
struct Units {
	explicit Units(size_t nr)
	    : n(nr), src(nr), src_len(nr), dst_cap(nr), dst_len(nr), status(nr),
	      dst(nr), slots(nr * BALE_UNIT_SIZE)
	{
		u = { nr, src, src_len, dst, dst_cap, dst_len, status };
	}
	void check()
	{
		src.check();
		src_len.check();
		dst.check();
		dst_cap.check();
		dst_len.check();
		status.check();
		slots.check();
	}
	size_t n;
	Buffer<const void *> src;
	Buffer<uint32_t> src_len, dst_cap, dst_len, status;
	Buffer<void *> dst;
	Buffer<uint8_t> slots;
	struct bale_units u;
};

/* ---- probe ---- */

struct Look {
	Bytes data;
	int verdict, fill, stride; /* -1: either */
};

std::vector<Look> looks_wanted()
{
	std::vector<Look> v;
	Bytes b = make_data(BALE_UNIT_SIZE, 2, 5), numbers(BALE_UNIT_SIZE);
	Random r(4);

	v.push_back({ b, BALE_UNIT_HOPELESS, 0, 0 });
	v.push_back({ make_data(4095, 2, 5), BALE_UNIT_TRY, 0, 0 });
	v.push_back({ make_data(40000, 2, 6), BALE_UNIT_HOPELESS, 0, 0 });
	v.push_back({ make_data(BALE_UNIT_SIZE, 1, 5), BALE_UNIT_TRY, 0, -1 });
	v.push_back({ Bytes(), BALE_UNIT_TRY, 0, 0 });
	/* 32-bit values whose high bytes hardly change. */
	for (size_t i = 0; i < numbers.size(); i += 4) {
		uint32_t x = 0x41200000u + (r.next() & 0x3ffff);

		memcpy(&numbers[i], &x, 4);
	}
	v.push_back({ numbers, -1, 0, 4 });
	for (size_t i = 0; i < numbers.size(); i += 2) {
		uint16_t x = static_cast<uint16_t>(0x3f00 + r.below(256));

		memcpy(&numbers[i], &x, 2);
	}
	v.push_back({ numbers, -1, 0, 2 });
	/* Noise that stands there twice: only repeats can help. */
	memcpy(&b[BALE_UNIT_SIZE / 2], &b[0], BALE_UNIT_SIZE / 2);
	v.push_back({ b, BALE_UNIT_REPEATS, 0, 0 });
	b = make_data(BALE_UNIT_SIZE, 2, 8);
	memcpy(&b[BALE_UNIT_SIZE / 2 + 5], &b[0], BALE_UNIT_SIZE / 2 - 5);
	v.push_back({ b, BALE_UNIT_TRY, 0, 0 });
	for (int period = 1; period <= 8; period *= 2) {
		for (size_t len : { 1u, 3u, 8u, 9u, 4097u, 65536u }) {
			Bytes f(len);
			int want = period;

			for (size_t i = 0; i < len; i++)
				f[i] = static_cast<uint8_t>(
					i % static_cast<size_t>(period) + 1);
			if (len < static_cast<size_t>(period))
				want = len == 1;
			v.push_back({ f, BALE_UNIT_TRY, want, -1 });
		}
	}
	return v;
}

void probe_once()
{
	std::vector<Look> want = looks_wanted();
	std::vector<Bytes> data;

	for (const Look &l : want)
		data.push_back(l.data);
	Pieces p(data);
	Units un(want.size());
	Buffer<struct bale_unit_look> looks(want.size());

	un.u.src = *p.ptrs;
	un.u.src_len = *p.lens;
	un.dst_cap.put(std::vector<uint32_t>(want.size(), 77));
	assert_int_equal(bale_unit_probe(&un.u, looks, true, nullptr), 0);
	std::vector<struct bale_unit_look> got = looks.read();
	std::vector<uint32_t> cap = un.dst_cap.read();
	for (size_t i = 0; i < want.size(); i++) {
		if (want[i].verdict >= 0)
			assert_int_equal(got[i].verdict, want[i].verdict);
		assert_int_equal(got[i].fill, want[i].fill);
		if (want[i].stride >= 0)
			assert_int_equal(got[i].stride, want[i].stride);
		assert_int_equal(cap[i],
				 got[i].verdict == BALE_UNIT_HOPELESS ? 0 : 77);
	}
	looks.check();
	un.check();
}

void probe_tells_what_shrinks(void **)
{
	in_all_orders(probe_once);
}

/* ---- encode's frame ---- */

/* What a coder may leave of a unit: half its bytes, or not at all. The stand-in
 * is reversed by stand_in_decode. */
bool stand_in(const uint8_t *src, uint32_t len, Bytes *ret)
{
	ret->clear();
	if (len < 2 || src[0] != src[1])
		return false;
	for (uint32_t i = 0; i < len; i += 2)
		ret->push_back(src[i]);
	return true;
}

int stand_in_encode(void *, const uint8_t *src, size_t len, uint8_t *dst,
		    size_t cap, size_t *ret_len)
{
	Bytes b;

	if (!stand_in(src, static_cast<uint32_t>(len), &b) || b.size() > cap)
		return -ENOSPC;
	memcpy(dst, b.data(), b.size());
	*ret_len = b.size();
	return 0;
}

/* Bytes in pairs, or (noise) not. */
Bytes pairs(size_t len, bool noise_units, uint64_t seed)
{
	Bytes b(len);
	Random r(seed);

	for (size_t i = 0; i < len; i++) {
		bool noise = noise_units && (i / BALE_UNIT_SIZE) % 3 == 1;

		b[i] = noise || !(i & 1) ? static_cast<uint8_t>(r.next()) :
					   b[i - 1];
		if (noise && i % BALE_UNIT_SIZE == 1)
			b[i] = static_cast<uint8_t>(~b[i - 1]);
	}
	return b;
}

struct Batch {
	std::vector<struct bale_unit_job> jobs;
	Bytes raw;
	uint32_t nr_units = 0;

	void add(const Bytes &data, uint8_t codec = BALE_CODEC_lz4)
	{
		struct bale_unit_job j = {};

		raw.resize(raw.size() + raw.size() % 3); /* any alignment */
		j.raw_off = raw.size();
		j.raw_len = static_cast<uint32_t>(data.size());
		j.first_unit = nr_units;
		j.nr_units = static_cast<uint32_t>(bale_units_nr(data.size()));
		j.codec = codec;
		nr_units += j.nr_units;
		raw.insert(raw.end(), data.begin(), data.end());
		jobs.push_back(j);
	}
	Bytes data_of(size_t k) const
	{
		return Bytes(raw.begin() + static_cast<long>(jobs[k].raw_off),
			     raw.begin() + static_cast<long>(jobs[k].raw_off) +
				     jobs[k].raw_len);
	}
};

Batch some_extents()
{
	Batch b;

	b.add(pairs(131072, false, 1));
	b.add(pairs(131072, true, 2));	/* a raw unit inside */
	b.add(make_data(131072, 2, 3)); /* not worth it */
	b.add(pairs(1000, false, 4));
	b.add(pairs(40, false, 5)); /* too small to be worth it */
	b.add(pairs(65537, false, 6));
	b.add(pairs(5 * 65536 + 77, true, 7));
	b.add(pairs(1, false, 8));
	b.add(pairs(40 * 65536, true, 9)); /* more units than a warp */
	return b;
}

/* The stand-in over all units, as an encode launcher would. */
void run_stand_in(Units &un)
{
	std::vector<const void *> src = un.src.read();
	std::vector<uint32_t> len = un.src_len.read(), cap = un.dst_cap.read();
	std::vector<void *> dst = un.dst.read();
	std::vector<uint32_t> out(un.n, 0), status(un.n, BALE_CHUNK_NO_ROOM);

	for (size_t i = 0; i < un.n; i++) {
		Bytes in(len[i]), b;

		must(cudaMemcpy(in.data(), src[i], len[i],
				cudaMemcpyDeviceToHost));
		if (!stand_in(in.data(), len[i], &b) || b.size() > cap[i])
			continue;
		must(cudaMemcpy(dst[i], b.data(), b.size(),
				cudaMemcpyHostToDevice));
		out[i] = static_cast<uint32_t>(b.size());
		status[i] = BALE_CHUNK_OK;
	}
	un.dst_len.put(out);
	un.status.put(status);
}

struct Packed {
	std::vector<struct bale_unit_result> results;
	Bytes bytes;
	uint64_t len;
};

Packed pack(const Batch &b, Units &un, bool keep_raw, uint32_t align,
	    size_t cap)
{
	Buffer<struct bale_unit_job> jobs(b.jobs);
	Buffer<uint8_t> raw(b.raw), packed(cap);
	Buffer<struct bale_unit_result> results(b.jobs.size());
	Buffer<uint64_t> off(un.n), len(1);
	struct bale_unit_pack p = { align, keep_raw, BALE_CODEC_lz4, cap };
	Packed ret;

	assert_int_equal(bale_unit_cut(jobs, b.jobs.size(), raw, b.raw.size(),
				       un.slots, BALE_UNIT_SIZE, &un.u,
				       nullptr),
			 0);
	run_stand_in(un);
	assert_int_equal(bale_unit_scan(jobs, b.jobs.size(), &un.u, &p, results,
					off, len, nullptr),
			 0);
	assert_int_equal(bale_unit_gather(jobs, b.jobs.size(), &un.u, raw,
					  results, off, packed, nullptr),
			 0);
	assert_int_equal(bale_unit_crc(results, b.jobs.size(), packed, nullptr),
			 0);
	ret.results = results.read();
	ret.bytes = packed.read();
	ret.len = len.read()[0];
	packed.check();
	results.check();
	off.check();
	len.check();
	un.check();
	return ret;
}

/* Is the payload what the CPU's units codec writes? */
void check_payload(const Batch &b, const Packed &p, size_t k, bool keep_raw)
{
	const struct bale_unit_result &r = p.results[k];
	Bytes data = b.data_of(k), want(bale_units_bound(data.size()));
	size_t n = 0;
	int err = bale_units_encode(data.data(), data.size(), want.data(),
				    bale_extent_worth(data.size()),
				    stand_in_encode, nullptr, &n);

	want.resize(n);
	if (err && !keep_raw) {
		assert_int_equal(r.status, BALE_CHUNK_NO_ROOM);
		assert_int_equal(r.len, 0);
		return;
	}
	assert_int_equal(r.status, BALE_CHUNK_OK);
	assert_int_equal(r.codec, err ? BALE_CODEC_raw : BALE_CODEC_lz4);
	if (err)
		want = data;
	assert_int_equal(r.len, want.size());
	assert_true(r.off + r.len <= p.bytes.size());
	assert_memory_equal(&p.bytes[r.off], want.data(), want.size());
	assert_int_equal(r.crc, bale_crc32c(0, want.data(), want.size()));
}

void pack_once()
{
	Batch b = some_extents();

	for (uint32_t align : { 1u, 16u }) {
		for (bool keep_raw : { false, true }) {
			Units un(b.nr_units);
			Packed p = pack(b, un, keep_raw, align,
					b.raw.size() + 4096);
			uint64_t end = 0;

			for (size_t k = 0; k < b.jobs.size(); k++) {
				check_payload(b, p, k, keep_raw);
				assert_int_equal(p.results[k].off % align, 0);
				assert_true(p.results[k].off >= end);
				end = p.results[k].off + p.results[k].len;
			}
			assert_int_equal(p.len,
					 (end + align - 1) / align * align);
		}
	}
}

void payloads_are_the_cpus(void **)
{
	in_all_orders(pack_once);
}

void a_full_packed_buffer(void **)
{
	Batch b;

	for (int i = 0; i < 3; i++)
		b.add(pairs(2000, false, 1));
	Units un(b.nr_units);
	/* Each takes 1004: two fit. */
	Packed p = pack(b, un, false, 1, 2500);

	assert_int_equal(p.results[0].status, BALE_CHUNK_OK);
	assert_int_equal(p.results[1].status, BALE_CHUNK_OK);
	assert_int_equal(p.results[2].status, BALE_CHUNK_NO_ROOM);
	assert_int_equal(p.results[2].len, 0);
	check_payload(b, p, 1, false);
}

void jobs_that_lie(void **)
{
	Batch b;
	Packed p;

	for (int i = 0; i < 6; i++)
		b.add(pairs(131072, false, 1));
	b.jobs[0].raw_off = b.raw.size() - 1000; /* beyond the data */
	b.jobs[1].raw_off = UINT64_MAX - 5;
	b.jobs[2].nr_units = 3;
	b.jobs[3].first_unit = b.nr_units - 1; /* beyond the arrays */
	b.jobs[4].raw_len = 0;
	Units un(b.nr_units);
	un.src.put(std::vector<const void *>(un.n, un.slots.get()));
	un.src_len.put(std::vector<uint32_t>(un.n, 0));
	un.dst_cap.put(std::vector<uint32_t>(un.n, 0));
	un.dst.put(std::vector<void *>(un.n, un.slots.get()));
	p = pack(b, un, true, 16, 1 << 20);
	for (size_t k = 0; k < 5; k++) {
		assert_int_equal(p.results[k].status, BALE_CHUNK_INVALID);
		assert_int_equal(p.results[k].len, 0);
	}
	check_payload(b, p, 5, true);
}

void nothing_is_nothing(void **)
{
	struct bale_unit_pack p = { 16, false, BALE_CODEC_lz4, 100 };
	Units un(0);
	Buffer<uint64_t> len(std::vector<uint64_t>{ 99 });

	assert_int_equal(bale_unit_cut(nullptr, 0, nullptr, 0, nullptr, 0,
				       &un.u, nullptr),
			 0);
	assert_int_equal(bale_unit_probe(&un.u, nullptr, true, nullptr), 0);
	assert_int_equal(bale_unit_scan(nullptr, 0, &un.u, &p, nullptr, nullptr,
					len, nullptr),
			 0);
	assert_int_equal(len.read()[0], 0);
	assert_int_equal(bale_unit_gather(nullptr, 0, &un.u, nullptr, nullptr,
					  nullptr, nullptr, nullptr),
			 0);
	assert_int_equal(bale_unit_crc(nullptr, 0, nullptr, nullptr), 0);
	p.align = 24;
	assert_int_equal(bale_unit_scan(nullptr, 0, &un.u, &p, nullptr, nullptr,
					len, nullptr),
			 -EINVAL);
}

/* ---- verify ---- */

void verify_once()
{
	std::vector<Bytes> v = sample_chunks(), w = v;
	std::vector<uint32_t> status(v.size(), BALE_CHUNK_OK), lens;
	std::vector<uint32_t> want(v.size(), BALE_CHUNK_OK), dstatus = want;
	uint32_t nr_bad = 0;

	for (const Bytes &b : v)
		lens.push_back(static_cast<uint32_t>(b.size()));
	for (size_t i = 0; i < v.size(); i++) {
		bool bad = false;

		if (i % 5 == 1 && !w[i].empty()) {
			w[i][i % 2 ? w[i].size() - 1 : 0] ^= 1;
			bad = true;
		} else if (i % 5 == 2) {
			dstatus[i] = BALE_CHUNK_BAD;
			bad = true;
		} else if (i % 5 == 3) {
			lens[i]++;
			bad = true;
		}
		if (i % 7 == 3) {
			/* Not coded: not looked at. */
			status[i] = want[i] = BALE_CHUNK_NO_ROOM;
		} else if (bad) {
			want[i] = BALE_CHUNK_BAD;
			nr_bad++;
		}
	}
	Pieces a(v), d(w);
	Units un(v.size());
	Buffer<uint32_t> dec_len(lens), dec_status(dstatus);
	Buffer<uint32_t> count(std::vector<uint32_t>{ 100 });

	un.u.src = *a.ptrs;
	un.u.src_len = *a.lens;
	un.status.put(status);
	assert_int_equal(bale_unit_verify(&un.u, *d.ptrs, dec_len, dec_status,
					  count, nullptr),
			 0);
	assert_true(un.status.read() == want);
	assert_int_equal(count.read()[0], 100 + nr_bad);
}

void verify_sees_one_byte(void **)
{
	in_all_orders(verify_once);
}

/* ---- decode's frame ---- */

struct Stored {
	Batch batch;
	Bytes bytes;
};

/* Extents as a store has them: coded, raw, patterns. */
Stored some_stored()
{
	Stored s;
	Batch plain = some_extents();

	for (size_t k = 0; k < plain.jobs.size(); k++) {
		Bytes data = plain.data_of(k),
		      out(bale_units_bound(data.size()));
		size_t n;

		if (bale_units_encode(data.data(), data.size(), out.data(),
				      out.size(), stand_in_encode, nullptr, &n))
			fail();
		out.resize(n);
		s.batch.add(data, BALE_CODEC_lz4);
		s.batch.jobs.back().src_off = s.bytes.size();
		s.batch.jobs.back().src_len = static_cast<uint32_t>(n);
		s.bytes.insert(s.bytes.end(), out.begin(), out.end());
	}
	for (uint32_t period : { 1u, 2u, 4u, 8u }) {
		Bytes f(65536 + 13 * period);

		for (size_t i = 0; i < f.size(); i++)
			f[i] = static_cast<uint8_t>(0x31 + i % period);
		s.batch.add(f, BALE_CODEC_fill);
		s.batch.jobs.back().src_off = s.bytes.size();
		s.batch.jobs.back().src_len = period;
		s.bytes.insert(s.bytes.end(), f.begin(), f.begin() + period);
	}
	for (size_t len : { 1u, 65535u, 200000u }) {
		Bytes data = make_data(len, 2, len);

		s.batch.add(data, BALE_CODEC_raw);
		s.batch.jobs.back().src_off = s.bytes.size();
		s.batch.jobs.back().src_len = static_cast<uint32_t>(len);
		s.bytes.insert(s.bytes.end(), data.begin(), data.end());
	}
	return s;
}

/* The stand-in's inverse, over the units that split() left to the decoder. */
void run_stand_in_decode(Units &un)
{
	std::vector<const void *> src = un.src.read();
	std::vector<uint32_t> len = un.src_len.read(), cap = un.dst_cap.read();
	std::vector<void *> dst = un.dst.read();
	std::vector<uint32_t> out(un.n, 0), status(un.n, BALE_CHUNK_BAD);

	for (size_t i = 0; i < un.n; i++) {
		Bytes in(len[i]), b(cap[i]);

		if (!cap[i] || len[i] != (cap[i] + 1) / 2)
			continue;
		must(cudaMemcpy(in.data(), src[i], len[i],
				cudaMemcpyDeviceToHost));
		for (uint32_t k = 0; k < cap[i]; k++)
			b[k] = in[k / 2];
		must(cudaMemcpy(dst[i], b.data(), cap[i],
				cudaMemcpyHostToDevice));
		out[i] = cap[i];
		status[i] = BALE_CHUNK_OK;
	}
	un.dst_len.put(out);
	un.status.put(status);
}

std::vector<struct bale_unit_result> decode(const Stored &s, bool slots,
					    Bytes *ret_raw)
{
	Units un(s.batch.nr_units);
	Buffer<struct bale_unit_job> jobs(s.batch.jobs);
	Buffer<struct bale_unit_plain> plain(un.n);
	Buffer<struct bale_unit_result> results(s.batch.jobs.size());
	Buffer<uint8_t> stored(s.bytes, 3), raw(s.batch.raw.size());

	assert_int_equal(bale_unit_split(jobs, s.batch.jobs.size(), stored,
					 s.bytes.size(), raw,
					 s.batch.raw.size(),
					 slots ? un.slots.get() : nullptr,
					 BALE_UNIT_SIZE, &un.u, plain, nullptr),
			 0);
	run_stand_in_decode(un);
	assert_int_equal(bale_unit_copy_plain(&un.u, plain, nullptr), 0);
	if (slots)
		assert_int_equal(bale_unit_restore(BALE_FILTER_delta2, jobs,
						   s.batch.jobs.size(), &un.u,
						   raw, s.batch.raw.size(),
						   un.slots, BALE_UNIT_SIZE,
						   nullptr),
				 0);
	assert_int_equal(bale_unit_fold(jobs, s.batch.jobs.size(), &un.u,
					results, nullptr),
			 0);
	*ret_raw = raw.read();
	raw.check();
	plain.check();
	results.check();
	un.check();
	return results.read();
}

void split_once()
{
	Stored s = some_stored();

	for (bool slots : { false, true }) {
		Bytes raw;
		auto results = decode(s, slots, &raw);

		for (size_t k = 0; k < s.batch.jobs.size(); k++) {
			const struct bale_unit_job &j = s.batch.jobs[k];
			Bytes want = s.batch.data_of(k);

			assert_int_equal(results[k].status, BALE_CHUNK_OK);
			assert_int_equal(results[k].len, j.raw_len);
			if (slots && j.codec == BALE_CODEC_lz4) {
				Bytes back(want.size());

				bale_filter_backward(BALE_FILTER_delta2,
						     want.data(), want.size(),
						     back.data());
				want = back;
			}
			assert_memory_equal(&raw[j.raw_off], want.data(),
					    want.size());
		}
	}
}

void extents_come_back(void **)
{
	in_all_orders(split_once);
}

/* Each break spoils one job and no other. */
void broken_payloads_fail_alone(void **)
{
	for (int what = 0; what < 9; what++) {
		Stored s = some_stored();
		size_t k = 1; /* two units, the second raw */
		struct bale_unit_job *j = &s.batch.jobs[k];
		uint8_t *table = &s.bytes[j->src_off];
		Bytes raw;

		switch (what) {
		case 0: /* a length of 0 */
			memset(table, 0, 4);
			break;
		case 1: /* lengths that do not add up */
			table[0] ^= 1;
			break;
		case 2: /* a raw unit of the wrong length */
			table[4] ^= 1;
			break;
		case 3:
			memset(table, 0xff, 8);
			break;
		case 4:
			j->src_len--;
			break;
		case 5:
			j->src_len = 7; /* shorter than the table */
			break;
		case 6:
			j->src_off = s.bytes.size() - 5;
			break;
		case 7:
			k = s.batch.jobs.size() - 5; /* a pattern */
			s.batch.jobs[k].src_len = 3;
			break;
		case 8:
			k = s.batch.jobs.size() - 1; /* raw */
			s.batch.jobs[k].src_len--;
			break;
		}
		auto results = decode(s, false, &raw);
		for (size_t i = 0; i < s.batch.jobs.size(); i++)
			assert_int_equal(results[i].status,
					 i == k ? BALE_CHUNK_BAD :
						  BALE_CHUNK_OK);
		assert_int_equal(results[k].len, 0);
	}
}

} // namespace

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_is_the_stores),
		cmocka_unit_test(filters_are_the_cpus),
		cmocka_unit_test(filters_leave_alone),
		cmocka_unit_test(probe_tells_what_shrinks),
		cmocka_unit_test(payloads_are_the_cpus),
		cmocka_unit_test(a_full_packed_buffer),
		cmocka_unit_test(jobs_that_lie),
		cmocka_unit_test(nothing_is_nothing),
		cmocka_unit_test(verify_sees_one_byte),
		cmocka_unit_test(extents_come_back),
		cmocka_unit_test(broken_payloads_fail_alone),
	};
#ifndef BALE_EMU_CUDA_RUNTIME_H
	int nr = 0;

	if (cudaGetDeviceCount(&nr) != cudaSuccess || !nr)
		return 77;
#endif
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
