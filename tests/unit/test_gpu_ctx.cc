/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open device, emulated or real: batches both ways against the CPU's
 * codecs, memory that is pinned and not, bounds, every call of the runtime
 * failing once, and the engine on top.
 */
#include <cerrno>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#include <cuda_runtime.h>

#include "balefs/gpu.h"
#include "balefs/unit.h"
#include "kernels/gpu_ctx.h"

extern "C" {
#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
extern const struct bale_gpu_ops bale_gpu_real_ops;
}

namespace
{

#ifdef BALE_EMU_CUDA_RUNTIME_H
constexpr bool kEmulated = true;
#else
// On a real device the same tests run, but for failures on demand.
constexpr bool kEmulated = false;
size_t bale_emu_held()
{
	return 0;
}
void bale_emu_fail(unsigned int, cudaError_t, bool)
{
}
#endif

constexpr uint64_t kLimit = 60000000000;

struct bale_gpu_config config(uint32_t units, uint32_t slots)
{
	struct bale_gpu_config cfg = {};

	cfg.struct_size = sizeof(cfg);
	cfg.mem_bytes = (uint64_t)1 << 30;
	cfg.pinned_bytes = (uint64_t)1 << 30;
	cfg.slot_units = units;
	cfg.nr_slots = slots;
	cfg.verify = true;
	return cfg;
}

// Text, noise, one value, and text with noise in the middle, by number.
void fill(uint8_t *p, size_t len, uint32_t x)
{
	uint32_t how = x % 4;

	for (size_t i = 0; i < len; i++) {
		bool noise = how == 1 || (how == 3 && i / 9000 % 2);

		x = x * 1664525 + 1013904223;
		p[i] = noise	? (uint8_t)(x >> 24) :
		       how == 2 ? 5 :
				  (uint8_t) "some words again\n"[(x >> 29) +
								 i % 9];
	}
}

// Whole pages each, as what is pinned must be.
template <typename T> struct Pages {
	using value_type = T;

	T *allocate(size_t n)
	{
		return static_cast<T *>(aligned_alloc(
			4096, (n * sizeof(T) + 4095) / 4096 * 4096));
	}
	void deallocate(T *p, size_t)
	{
		free(p);
	}
	bool operator==(const Pages &) const
	{
		return true;
	}
	bool operator!=(const Pages &) const
	{
		return false;
	}
};
using Bytes = std::vector<uint8_t, Pages<uint8_t>>;

struct Batch {
	std::vector<Bytes> src, dst;
	std::vector<size_t> from; // decode: which source it was
	std::vector<struct bale_gpu_extent> x;
	struct bale_gpu_batch b = {};

	void set(enum bale_job_op op, uint8_t codec, int8_t level)
	{
		x.assign(src.size(), {});
		for (size_t i = 0; i < src.size(); i++) {
			x[i].src = src[i].data();
			x[i].src_len = (uint32_t)src[i].size();
			x[i].dst = dst[i].data();
			x[i].dst_cap = (uint32_t)dst[i].size();
			x[i].status = -1;
		}
		b = {};
		b.op = op;
		b.codec = codec;
		b.level = level;
		b.extents = x.data();
		b.nr = x.size();
	}
};

const size_t sizes[] = { 1,	 33,	 4096, 65535,  65536,  65537, 70000,
			 131072, 200000, 5000, 131072, 131072, 100 };
constexpr size_t kNr = sizeof(sizes) / sizeof(sizes[0]);

Batch to_encode(uint8_t codec, int8_t level)
{
	Batch t;

	for (size_t i = 0; i < kNr; i++) {
		t.src.emplace_back(sizes[i]);
		fill(t.src[i].data(), sizes[i], (uint32_t)i);
		t.dst.emplace_back(bale_codec_bound(sizes[i]), 0xcc);
	}
	t.set(BALE_JOB_ENCODE, codec, level);
	return t;
}

int run(struct bale_gpu *g, uint32_t slot, struct bale_gpu_batch *b)
{
	bool in_dst;
	int r = bale_gpu_submit(g, slot, b);

	return r ? r : bale_gpu_wait(g, slot, kLimit, &in_dst);
}

// What was encoded is what the CPU decodes, and as small as it must be.
void check_encoded(const Batch &t)
{
	for (size_t i = 0; i < t.src.size(); i++) {
		const struct bale_gpu_extent *x = &t.x[i];
		std::vector<uint8_t> back(x->src_len);
		struct bale_job j = {};

		assert_int_equal(x->status, 0);
		if (x->ret_codec == BALE_CODEC_raw) {
			assert_true(x->reason == BALE_RAW_grew ||
				    x->reason == BALE_RAW_probe);
			assert_int_equal(x->len, x->src_len);
			assert_int_equal(t.dst[i][0], 0xcc);
			assert_true(i % 4 != 0 || x->src_len < 4096);
			continue;
		}
		assert_int_equal(x->ret_codec, t.b.codec);
		assert_true(x->len <= bale_extent_worth(x->src_len));
		assert_int_equal(x->crc, bale_crc32c(0, x->dst, x->len));
		j.op = BALE_JOB_DECODE;
		j.codec = x->ret_codec;
		j.src = x->dst;
		j.src_len = x->len;
		j.dst = back.data();
		j.dst_cap = back.size();
		bale_codec_run(&j);
		assert_int_equal(j.status, 0);
		assert_memory_equal(back.data(), x->src, x->src_len);
	}
}

// What the CPU makes of the same sources, to be decoded.
Batch to_decode(const Batch &enc)
{
	Batch t;

	for (size_t i = 0; i < enc.src.size(); i++) {
		Bytes coded(bale_codec_bound(enc.src[i].size()));
		struct bale_job j = {};

		j.op = BALE_JOB_ENCODE;
		j.codec = enc.b.codec;
		j.src = enc.src[i].data();
		j.src_len = enc.src[i].size();
		j.dst = coded.data();
		j.dst_cap = coded.size();
		bale_codec_run(&j);
		assert_int_equal(j.status, 0);
		if (j.ret_codec != enc.b.codec)
			continue;
		coded.resize(j.len);
		t.from.push_back(i);
		t.src.push_back(coded);
		t.dst.emplace_back(j.src_len, 0xcc);
	}
	t.set(BALE_JOB_DECODE, enc.b.codec, 0);
	return t;
}

struct bale_gpu *open_gpu(uint32_t units, uint32_t slots)
{
	struct bale_gpu_config cfg = config(units, slots);
	struct bale_gpu *g = nullptr;

	assert_int_equal(bale_gpu_open(&cfg, &g), 0);
	return g;
}

void close_gpu(struct bale_gpu *g)
{
	assert_int_equal(bale_gpu_quiet(g), 0);
	bale_gpu_close(g);
	assert_int_equal(bale_emu_held(), 0);
}

const uint8_t codecs[] = { BALE_CODEC_lz4, BALE_CODEC_gdeflate };

void both_ways_as_the_cpu(void **)
{
	struct bale_gpu *g = open_gpu(32, 2);

	for (uint8_t codec : codecs) {
		Batch enc = to_encode(codec, 0), dec = to_decode(enc);

		assert_int_equal(run(g, 0, &enc.b), 0);
		check_encoded(enc);
		assert_true(dec.x.size() >= 5);
		assert_int_equal(run(g, 1, &dec.b), 0);
		for (size_t i = 0; i < dec.x.size(); i++) {
			const Bytes &want = enc.src[dec.from[i]];

			assert_int_equal(dec.x[i].status, 0);
			assert_memory_equal(dec.dst[i].data(), want.data(),
					    want.size());
		}
	}
	close_gpu(g);
}

void pinned_memory_is_used_as_it_is(void **)
{
	struct bale_gpu *g = open_gpu(32, 1);
	Batch enc = to_encode(BALE_CODEC_lz4, 1), dec = to_decode(enc);
	bool in_dst = false;

	for (size_t i = 0; i < enc.src.size(); i += 2)
		assert_int_equal(
			bale_gpu_pin(g, enc.src[i].data(), enc.src[i].size()),
			0);
	for (size_t i = 0; i < dec.dst.size(); i += 2)
		assert_int_equal(
			bale_gpu_pin(g, dec.dst[i].data(), dec.dst[i].size()),
			0);
	assert_int_equal(run(g, 0, &enc.b), 0);
	check_encoded(enc);
	assert_int_equal(bale_gpu_submit(g, 0, &dec.b), 0);
	assert_int_equal(bale_gpu_wait(g, 0, kLimit, &in_dst), 0);
	assert_true(in_dst);
	for (size_t i = 0; i < dec.x.size(); i++) {
		std::vector<uint8_t> again(dec.dst[i].size());
		struct bale_job j = {};

		assert_int_equal(dec.x[i].status, 0);
		j.op = BALE_JOB_DECODE;
		j.codec = BALE_CODEC_lz4;
		j.src = dec.src[i].data();
		j.src_len = dec.src[i].size();
		j.dst = again.data();
		j.dst_cap = again.size();
		bale_codec_run(&j);
		assert_memory_equal(again.data(), dec.dst[i].data(),
				    again.size());
	}
	for (size_t i = 0; i < enc.src.size(); i += 2)
		bale_gpu_unpin(g, enc.src[i].data());
	assert_int_equal(run(g, 0, &enc.b), 0);
	check_encoded(enc);
	close_gpu(g);
}

// A look in each sixteenth of the time that has passed, within bounds, and none
// before the earliest.
void looks_are_few(void **)
{
	uint64_t waited = 0;
	int looks = 0;

	assert_int_equal(bale_gpu_nap_ns(0, 0), 20000);
	assert_int_equal(bale_gpu_nap_ns(1600000, 0), 100000);
	assert_int_equal(bale_gpu_nap_ns(1600000, 90000), 100000);
	assert_int_equal(bale_gpu_nap_ns(1600000, 700000), 700000);
	assert_int_equal(bale_gpu_nap_ns(kLimit, 0), 500000);
	for (; waited < 30000000; looks++)
		waited += bale_gpu_nap_ns(
			waited, waited < 18000000 ? 18000000 - waited : 0);
	assert_true(looks < 30);
	assert_true(waited < 30500000);
}

// In any order, next to each other, and taken out of the middle.
void ranges_are_found(void **)
{
	struct bale_gpu *g = open_gpu(32, 1);
	static const unsigned int order[] = { 3, 0, 5, 1, 4 };
	constexpr size_t kLen = 8192;
	Bytes all(6 * kLen);
	uint8_t *p = all.data();

	for (unsigned int i : order)
		assert_int_equal(bale_gpu_pin(g, p + i * kLen, kLen), 0);
	for (unsigned int i = 0; i < 6; i++) {
		int where = bale_gpu_where(g, p + i * kLen, kLen);

		assert_int_equal(where < 0, i == 2);
		assert_int_equal(bale_gpu_where(g, p + i * kLen + 1, kLen), -1);
		assert_int_equal(bale_gpu_where(g, p + (i + 1) * kLen - 1, 1),
				 where);
	}
	assert_int_equal(bale_gpu_where(g, p - 1, 1), -1);
	assert_int_equal(bale_gpu_where(g, p + 6 * kLen, 1), -1);
	bale_gpu_unpin(g, p + 3 * kLen);
	bale_gpu_unpin(g, p + 2 * kLen); // never was
	assert_int_equal(bale_gpu_where(g, p + 3 * kLen, 1), -1);
	assert_true(bale_gpu_where(g, p + 4 * kLen, kLen) >= 0);
	assert_true(bale_gpu_where(g, p, kLen) >= 0);
	close_gpu(g);
}

void a_bad_payload_fails_alone(void **)
{
	struct bale_gpu *g = open_gpu(32, 1);

	for (uint8_t codec : codecs) {
		Batch dec = to_decode(to_encode(codec, 0));
		size_t bad = dec.src.size() / 2;

		for (size_t k = 0; k < 64 && k < dec.src[bad].size(); k++)
			dec.src[bad][k] ^= 0x5a;
		dec.src[0].pop_back();
		dec.x[0].src_len--;
		assert_int_equal(run(g, 0, &dec.b), 0);
		for (size_t i = 0; i < dec.x.size(); i++)
			assert_int_equal(dec.x[i].status,
					 i == 0 || i == bad ? -EUCLEAN : 0);
	}
	close_gpu(g);
}

void what_does_not_fit_is_refused(void **)
{
	struct bale_gpu *g = open_gpu(16, 1);
	Batch t = to_encode(BALE_CODEC_lz4, 0);
	struct bale_gpu_batch b = t.b;
	struct bale_gpu_limits l;
	bool in_dst;

	bale_gpu_limits_get(g, &l);
	assert_int_equal(l.slot_units, 16);
	assert_true(l.mem_bytes < (uint64_t)1 << 30);
	assert_int_equal(bale_gpu_submit(g, 0, &b), -E2BIG);
	b.nr = 3;
	assert_int_equal(bale_gpu_submit(g, 1, &b), -EINVAL);
	b.codec = BALE_CODEC_zstd;
	assert_int_equal(bale_gpu_submit(g, 0, &b), -EINVAL);
	b.codec = BALE_CODEC_lz4;
	b.level = 99;
	assert_int_equal(bale_gpu_submit(g, 0, &b), -EINVAL);
	b.level = 0;
	t.x[1].src_len = 0;
	assert_int_equal(bale_gpu_submit(g, 0, &b), -EINVAL);
	t.x[1].src_len = BALE_EXTENT_MAX + 1;
	assert_int_equal(bale_gpu_submit(g, 0, &b), -EINVAL);
	t.x[1].src_len = 33;
	assert_int_equal(bale_gpu_wait(g, 0, kLimit, &in_dst), -EINVAL);
	assert_int_equal(bale_gpu_submit(g, 0, &b), 0);
	assert_int_equal(bale_gpu_submit(g, 0, &b), -EINVAL); /* busy */
	assert_int_equal(bale_gpu_wait(g, 0, kLimit, &in_dst), 0);
	close_gpu(g);
}

void memory_stays_within_its_bounds(void **)
{
	static const uint64_t mems[] = { 64 << 20, 256 << 20, 1 << 30 };
	uint32_t last = 0;

	for (uint64_t mem : mems) {
		struct bale_gpu_config cfg = config(0, 2);
		struct bale_gpu_limits l;
		struct bale_gpu *g = nullptr;

		cfg.mem_bytes = mem;
		cfg.pinned_bytes = mem;
		assert_int_equal(bale_gpu_open(&cfg, &g), 0);
		bale_gpu_limits_get(g, &l);
		assert_true(l.mem_bytes <= mem && l.pinned_bytes <= mem);
		assert_true(l.slot_units > last);
		assert_true(bale_emu_held() <= l.mem_bytes + l.pinned_bytes);
		last = l.slot_units;
		close_gpu(g);
	}
	struct bale_gpu_config cfg = config(0, 2);
	struct bale_gpu *g = nullptr;

	cfg.mem_bytes = 1 << 20;
	assert_int_equal(bale_gpu_open(&cfg, &g), -ENOMEM);
	cfg.device = 7;
	assert_int_equal(bale_gpu_open(&cfg, &g), -ENODEV);
	cfg.device = 0;
	cfg.nr_slots = 0;
	assert_int_equal(bale_gpu_open(&cfg, &g), -EINVAL);
	assert_int_equal(bale_emu_held(), 0);
}

// The n-th call fails, for every n: -errno or a right result, no leak.
unsigned int fail_each_call(cudaError_t err, bool sticky)
{
	unsigned int n = 0;
	bool failed = true;

	while (failed) {
		struct bale_gpu_config cfg = config(16, 1);
		struct bale_gpu *g = nullptr;
		Batch t;
		int r;

		t.src.emplace_back(20000);
		t.dst.emplace_back(bale_codec_bound(20000), 0xcc);
		fill(t.src[0].data(), 20000, 4);
		t.set(BALE_JOB_ENCODE, BALE_CODEC_lz4, 0);
		bale_emu_fail(++n, err, sticky);
		r = bale_gpu_open(&cfg, &g);
		if (!r) {
			r = run(g, 0, &t.b);
			if (!r)
				check_encoded(t);
			else if (sticky)
				assert_int_equal(r, -ENODEV);
			if (sticky && r)
				assert_int_equal(bale_gpu_quiet(g), -ENODEV);
			else
				assert_true(bale_gpu_quiet(g) != -EAGAIN);
			bale_gpu_close(g);
		}
		failed = r != 0;
		bale_emu_fail(0, cudaSuccess, false);
		assert_int_equal(bale_emu_held(), 0);
		assert_true(n < 1000);
	}
	return n;
}

void every_call_may_fail(void **)
{
	if (!kEmulated)
		skip();
	assert_true(fail_each_call(cudaErrorMemoryAllocation, false) > 20);
	assert_true(fail_each_call(cudaErrorIllegalAddress, true) > 20);
	assert_true(fail_each_call(cudaErrorUnknown, false) > 20);
}

// The engine of the filesystem, on this device; it is lost on the way.
void the_engine_on_top(void **)
{
	struct bale_gpu_options o = {};
	struct bale_engine *e = nullptr;
	struct bale_engine_stats st;
	Batch t = to_encode(BALE_CODEC_lz4, 0);
	std::vector<struct bale_job> jobs(kNr);

	/* "auto" would ask the build, which may have no CUDA. */
	o.ops = &bale_gpu_real_ops;
	o.always = true;
	o.no_profile = true;
	o.nr_slots = 2;
	o.slot_units = 16;
	o.retry_ns = 1000000;
	assert_int_equal(bale_engine_gpu_create(&o, 2, &e), 0);
	for (int round = 0; round < 4; round++) {
		for (int n = 0; n < 10000; n++) {
			e->ops->stats(e, &st);
			if (st.nr_devs && !strcmp(st.devs[0].state, "ready"))
				break;
			usleep(1000);
		}
		assert_string_equal(st.devs[0].state, "ready");
		for (size_t i = 0; i < kNr; i++) {
			jobs[i] = {};
			jobs[i].op = BALE_JOB_ENCODE;
			jobs[i].codec = BALE_CODEC_lz4;
			jobs[i].src = t.src[i].data();
			jobs[i].src_len = t.src[i].size();
			jobs[i].dst = t.dst[i].data();
			jobs[i].dst_cap = t.dst[i].size();
		}
		if (round == 1)
			bale_emu_fail(40, cudaErrorIllegalAddress, true);
		assert_int_equal(bale_engine_run(e, jobs.data(), kNr), 0);
		if (round == 1)
			bale_emu_fail(0, cudaSuccess, false);
		for (size_t i = 0; i < kNr; i++) {
			std::vector<uint8_t> back(jobs[i].src_len);
			struct bale_job j = {};

			assert_int_equal(jobs[i].status, 0);
			j.op = BALE_JOB_DECODE;
			j.codec = jobs[i].ret_codec;
			j.src = j.codec ? jobs[i].dst : (void *)jobs[i].src;
			j.src_len = jobs[i].len;
			j.dst = back.data();
			j.dst_cap = back.size();
			bale_codec_run(&j);
			assert_int_equal(j.status, 0);
			assert_memory_equal(back.data(), jobs[i].src,
					    back.size());
		}
	}
	e->ops->stats(e, &st);
	assert_true(st.devs[0].jobs[0] > 10);
	assert_int_equal(st.devs[0].reopened, kEmulated ? 1 : 0);
	assert_int_equal(st.devs[0].mismatches, 0);
	bale_engine_destroy(e);
	assert_int_equal(bale_emu_held(), 0);
}

} // namespace

int main()
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways_as_the_cpu),
		cmocka_unit_test(pinned_memory_is_used_as_it_is),
		cmocka_unit_test(looks_are_few),
		cmocka_unit_test(ranges_are_found),
		cmocka_unit_test(a_bad_payload_fails_alone),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(memory_stays_within_its_bounds),
		cmocka_unit_test(every_call_may_fail),
		cmocka_unit_test(the_engine_on_top),
	};

	uint32_t nr = 0;

	bale_log_set_level(BALE_LOG_ERR);
	if (!bale_gpu_count(&nr) && !nr)
		return 77;
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}
