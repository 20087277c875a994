/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which filter auto puts before the codec: that it pays on arrays of numbers,
 * costs nothing elsewhere, and is the same on every engine.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/codec/codec.h"
#include "fs/codec/codec_impl.h"
#include "fs/codec/filter.h"

enum { EXT = 128 << 10, NR = 6, LEN = NR * EXT };

static uint64_t seed;

static uint32_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed * 2685821657736338717u >> 33);
}

static double uniform(void)
{
	return rnd() / 2147483648.0;
}

/* Sum of 12: near enough to what weights are. */
static double gauss(void)
{
	double sum = -6;

	for (int k = 0; k < 12; k++)
		sum += uniform();
	return sum;
}

/* ---- data ---- */

static void put(uint8_t *dst, size_t i, size_t size, uint64_t v)
{
	for (size_t k = 0; k < size; k++)
		dst[i * size + k] = (uint8_t)(v >> 8 * k);
}

static uint32_t bits32(double v)
{
	float f = (float)v;
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

static void make_bf16(uint8_t *p)
{
	for (size_t i = 0; i < LEN / 2; i++)
		put(p, i, 2, bits32(gauss() * 0.02) >> 16);
}

static void make_f32(uint8_t *p)
{
	for (size_t i = 0; i < LEN / 4; i++)
		put(p, i, 4, bits32(gauss() * 0.02));
}

static void make_f64_walk(uint8_t *p)
{
	double v = 0;

	for (size_t i = 0; i < LEN / 8; i++) {
		v += gauss();
		memcpy(p + i * 8, &v, 8);
	}
}

static void make_i32_sorted(uint8_t *p)
{
	uint32_t v = 0;

	for (size_t i = 0; i < LEN / 4; i++)
		put(p, i, 4, v += rnd() % 1000);
}

static void make_i32_small(uint8_t *p)
{
	for (size_t i = 0; i < LEN / 4; i++)
		put(p, i, 4, rnd() % 1000);
}

static void make_i64_time(uint8_t *p)
{
	uint64_t v = 1700000000000000000u;

	for (size_t i = 0; i < LEN / 8; i++)
		put(p, i, 8, v += rnd() % 2000000);
}

static void make_audio(uint8_t *p)
{
	for (size_t i = 0; i < LEN / 2; i++)
		put(p, i, 2,
		    (uint64_t)(int64_t)(8000 * sin((double)i / 50) +
					3000 * sin((double)i / 7.3) +
					50 * gauss()));
}

static void make_image(uint8_t *p)
{
	for (size_t i = 0; i < LEN; i++)
		p[i] = (uint8_t)(128 + 60 * sin((double)(i % 2048) / 90) +
				 50 * cos((double)(i / 2048) / 70) +
				 1.5 * gauss());
}

static void make_text(uint8_t *p)
{
	static const char words[16][8] = { "the",  "of",   "and",  "measure",
					   "in",   "\n",   "that", "was",
					   "with", "data", "page", "house",
					   "it",   "from", "to",   "for" };
	size_t n = 0;

	while (n < LEN) {
		const char *w = words[rnd() % 16];
		size_t k = strnlen(w, 8);

		k = k < LEN - n ? k : LEN - n;
		memcpy(p + n, w, k);
		n += k;
		if (n < LEN)
			p[n++] = rnd() % 4 ? ' ' : (uint8_t)('a' + rnd() % 26);
	}
}

static void make_noise(uint8_t *p)
{
	for (size_t i = 0; i < LEN; i++)
		p[i] = (uint8_t)rnd();
}

static void make_log(uint8_t *p)
{
	size_t n = 0;
	char line[96];

	while (n < LEN) {
		size_t k = (size_t)snprintf(
			line, sizeof(line),
			"2026-11-%02u %02u:%02u:%02u.%03u host-%u GET /%x %u\n",
			rnd() % 30, rnd() % 24, rnd() % 60, rnd() % 60,
			rnd() % 1000, rnd() % 8, rnd() % 65536, rnd() % 9 * 50);

		k = k < LEN - n ? k : LEN - n;
		memcpy(p + n, line, k);
		n += k;
	}
}

/* 34 bytes of many fields: no distance fits. */
static void make_records(uint8_t *p)
{
	memset(p, 0, LEN);
	for (size_t i = 0; (i + 1) * 34 <= LEN; i++) {
		uint8_t *r = p + i * 34;

		put(r, 0, 4, i);
		put(r + 4, 0, 8, 1700000000 + 5 * i + rnd() % 5);
		put(r + 12, 0, 4, bits32(rnd() % 10000 / 100.0));
		put(r + 16, 0, 2, rnd() % 50);
		memcpy(r + 18, rnd() % 2 ? "AB" : "CD", 2);
		put(r + 20, 0, 4, rnd() % 10000);
	}
}

/* Half an extent is sorted numbers, half is text: either wants its own. */
static void make_mixed(uint8_t *p)
{
	uint8_t *text = malloc(LEN);

	assert_non_null(text);
	make_i32_sorted(p);
	make_text(text);
	for (size_t i = 0; i < NR; i++)
		memcpy(p + i * EXT, text + i * EXT, EXT / 2);
	free(text);
}

/* The same 8 KiB of floats again and again. */
static void make_repeats(uint8_t *p)
{
	make_f32(p);
	for (size_t i = 8192; i < LEN; i++)
		p[i] = p[i - 8192];
}

static void make_zeros(uint8_t *p)
{
	memset(p, 0, LEN);
	for (size_t i = 0; i < LEN; i += 1000)
		p[i] = (uint8_t)rnd();
}

static void make_code(uint8_t *p)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, p, LEN);

	assert_true(n > 0);
	close(fd);
	for (size_t i = (size_t)n; i < LEN; i++)
		p[i] = p[i - (size_t)n];
}

/* ---- what becomes of it ---- */

static size_t encode(uint8_t codec, int8_t level, uint8_t filter,
		     const uint8_t *src, unsigned int *ret_filter)
{
	size_t cap = bale_codec_bound(EXT);
	uint8_t *dst = malloc(cap), *back = malloc(EXT);
	struct bale_job j = { .op = BALE_JOB_ENCODE,
			      .codec = codec,
			      .level = level,
			      .filter = filter,
			      .src = src,
			      .src_len = EXT,
			      .dst = dst,
			      .dst_cap = cap };
	struct bale_job d;

	assert_true(dst && back);
	bale_codec_run(&j);
	assert_int_equal(j.status, 0);
	*ret_filter = j.ret_filter;
	if (j.ret_codec != BALE_CODEC_raw) {
		d = (struct bale_job){ .op = BALE_JOB_DECODE,
				       .codec = j.ret_codec,
				       .filter = j.ret_filter,
				       .src = dst,
				       .src_len = j.len,
				       .dst = back,
				       .dst_cap = EXT };
		bale_codec_run(&d);
		assert_int_equal(d.status, 0);
		assert_memory_equal(back, src, EXT);
	}
	free(dst);
	free(back);
	return j.len;
}

/* The part that auto saves beside zstd:1 without a filter, in percent. */
static double saving(const uint8_t *p, unsigned int *ret_filter)
{
	size_t plain = 0, chosen = 0;
	unsigned int none;

	for (size_t i = 0; i < NR; i++) {
		plain += encode(BALE_CODEC_zstd, BALE_ZSTD_LEVEL_AUTO, 0,
				p + i * EXT, &none);
		chosen += encode(BALE_CODEC_auto, 0, BALE_FILTER_auto,
				 p + i * EXT, ret_filter);
	}
	return 100 - 100 * (double)chosen / (double)plain;
}

static const struct {
	const char *name;
	void (*make)(uint8_t *p);
	double least; /* percent that it must save */
	unsigned int filters[2];
} numbers[] = {
	{ "bf16",
	  make_bf16,
	  2,
	  { BALE_FILTER_bitshuffle2, BALE_FILTER_shuffle2 } },
	{ "f32",
	  make_f32,
	  4,
	  { BALE_FILTER_bitshuffle4, BALE_FILTER_shuffle4 } },
	{ "f64 walk",
	  make_f64_walk,
	  8,
	  { BALE_FILTER_delta8, BALE_FILTER_shuffle8 } },
	{ "i32 sorted",
	  make_i32_sorted,
	  50,
	  { BALE_FILTER_delta4, BALE_FILTER_delta4 } },
	{ "i32 small",
	  make_i32_small,
	  20,
	  { BALE_FILTER_bitshuffle4, BALE_FILTER_shuffle4 } },
	{ "i64 time",
	  make_i64_time,
	  10,
	  { BALE_FILTER_delta8, BALE_FILTER_delta8 } },
	{ "audio", make_audio, 25, { BALE_FILTER_delta2, BALE_FILTER_delta2 } },
	{ "image", make_image, 40, { BALE_FILTER_delta1, BALE_FILTER_delta1 } },
};

static const struct {
	const char *name;
	void (*make)(uint8_t *p);
} others[] = {
	{ "text", make_text },	 { "noise", make_noise },
	{ "log", make_log },	 { "records", make_records },
	{ "mixed", make_mixed }, { "repeats", make_repeats },
	{ "zeros", make_zeros }, { "code", make_code },
};

static uint8_t *data;

static void begin(void (*make)(uint8_t *p))
{
	seed = 88172645463325252u;
	make(data);
}

static void numbers_get_their_filter(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		unsigned int f;
		double part;

		begin(numbers[i].make);
		part = saving(data, &f);
		if (part < numbers[i].least ||
		    (f != numbers[i].filters[0] && f != numbers[i].filters[1]))
			fail_msg("%s: %s saves %.1f %%", numbers[i].name,
				 bale_filter_name(f), part);
	}
}

static void elsewhere_nothing_is_lost(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		unsigned int f;
		double part;

		begin(others[i].make);
		part = saving(data, &f);
		if (part < -1)
			fail_msg("%s: %s loses %.1f %%", others[i].name,
				 bale_filter_name(f), -part);
	}
}

static void text_and_noise_are_not_tried(void **state)
{
	static const size_t none[] = { 0, 1, 2 }; /* of others */

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		begin(others[none[i]].make);
		for (size_t k = 0; k < NR; k++)
			assert_int_equal(
				bale_filter_choose(bale_codec_ctx_get(),
						   data + k * EXT, EXT),
				0);
	}
}

/* Only where it is asked for, and with no codec that is not chosen, too. */
static void it_is_asked_for(void **state)
{
	static const struct {
		uint8_t codec, filter;
		int status;
	} rows[] = {
		{ BALE_CODEC_auto, 0, 0 },
		{ BALE_CODEC_auto, BALE_FILTER_delta4, -EINVAL },
		{ BALE_CODEC_zstd, BALE_FILTER_auto, -EINVAL },
		{ BALE_CODEC_raw, BALE_FILTER_auto, -EINVAL },
	};
	size_t cap = bale_codec_bound(EXT);
	uint8_t *dst = malloc(cap);

	(void)state;
	assert_non_null(dst);
	begin(make_i32_sorted);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bale_job j = { .op = BALE_JOB_ENCODE,
				      .codec = rows[i].codec,
				      .filter = rows[i].filter,
				      .src = data,
				      .src_len = EXT,
				      .dst = dst,
				      .dst_cap = cap };

		bale_codec_run(&j);
		assert_int_equal(j.status, rows[i].status);
		assert_int_equal(j.ret_filter, 0);
	}
	free(dst);
}

/* Lengths at which samples would overlap or leave the buffer. */
static void any_length_will_do(void **state)
{
	static const size_t lens[] = { 0,     1,      4096,   32767,
				       32768, 32769,  65535,  65536,
				       99999, 131071, LEN - 1 };

	(void)state;
	begin(make_i32_sorted);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		uint8_t *p = malloc(lens[i] + 1);
		unsigned int f;

		assert_non_null(p);
		memcpy(p, data, lens[i]);
		p = realloc(p, lens[i] ? lens[i] : 1);
		assert_non_null(p);
		f = bale_filter_choose(bale_codec_ctx_get(), p, lens[i]);
		assert_int_equal(f, lens[i] < 32768 ? 0 : BALE_FILTER_delta4);
		free(p);
	}
}

static void wait_ready(struct bale_engine *e)
{
	struct bale_engine_stats st = { 0 };

	for (int n = 0; n < 20000; n++) {
		e->ops->stats(e, &st);
		if (st.nr_devs && !strcmp(st.devs[0].state, "ready"))
			return;
		usleep(1000);
	}
	fail_msg("the device is %s", st.devs[0].state);
}

/* One batch of all kinds of data, on the CPU and on a device. */
static void every_engine_chooses_alike(void **state)
{
	enum { ALL = sizeof(numbers) / sizeof(numbers[0]) + 2 };
	struct bale_gpu_options o = { .mode = BALE_GPU_FAKE,
				      .nr_slots = 2,
				      .slot_units = 16 };
	size_t cap = bale_codec_bound(EXT);
	uint8_t *src = malloc((size_t)ALL * EXT), *dst = malloc(ALL * cap);
	struct bale_job jobs[2][ALL];
	struct bale_engine *e;

	(void)state;
	assert_true(src && dst);
	assert_int_equal(bale_engine_gpu_create(&o, 1, &e), 0);
	wait_ready(e);
	for (size_t i = 0; i < ALL; i++) {
		begin(i < ALL - 2 ? numbers[i].make :
				    others[i - (ALL - 2)].make);
		memcpy(src + i * EXT, data, EXT);
	}
	for (int side = 0; side < 2; side++) {
		for (size_t i = 0; i < ALL; i++)
			jobs[side][i] = (struct bale_job){
				.op = BALE_JOB_ENCODE,
				.codec = BALE_CODEC_auto,
				.filter = BALE_FILTER_auto,
				.src = src + i * EXT,
				.src_len = EXT,
				.dst = dst + i * cap,
				.dst_cap = cap,
			};
		if (side)
			assert_int_equal(bale_engine_run(e, jobs[1], ALL), 0);
		for (size_t i = 0; i < ALL && !side; i++)
			bale_codec_run(&jobs[0][i]);
	}
	for (size_t i = 0; i < ALL; i++) {
		struct bale_job d = { .op = BALE_JOB_DECODE,
				      .codec = jobs[1][i].ret_codec,
				      .filter = jobs[1][i].ret_filter,
				      .src = jobs[1][i].dst,
				      .src_len = jobs[1][i].len,
				      .dst = data,
				      .dst_cap = EXT };

		assert_int_equal(jobs[1][i].status, 0);
		if (jobs[1][i].ret_codec == BALE_CODEC_raw)
			continue;
		assert_int_equal(jobs[1][i].ret_codec, BALE_CODEC_gdeflate);
		assert_int_equal(jobs[1][i].ret_filter, jobs[0][i].ret_filter);
		bale_codec_run(&d);
		assert_int_equal(d.status, 0);
		assert_memory_equal(data, src + i * EXT, EXT);
	}
	bale_engine_destroy(e);
	free(src);
	free(dst);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_get_their_filter),
		cmocka_unit_test(elsewhere_nothing_is_lost),
		cmocka_unit_test(text_and_noise_are_not_tried),
		cmocka_unit_test(it_is_asked_for),
		cmocka_unit_test(any_length_will_do),
		cmocka_unit_test(every_engine_chooses_alike),
	};
	int r;

	data = malloc(LEN);
	r = data ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
	free(data);
	return r;
}
