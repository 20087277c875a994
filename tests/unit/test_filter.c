/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters against the words of docs/format.md, written down here once more in
 * the plainest way, and through the codecs.
 */
#include "fs/codec/filter.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "balefs/unit.h"
#include "fs/codec/codec.h"

enum { MAX = 3 * BALE_UNIT_SIZE };

static const size_t element[BALE_FILTER_NR] = { 1, 2, 4, 8, 2, 4, 1, 2, 4, 8 };

static bool is_delta(unsigned int id)
{
	return id >= BALE_FILTER_delta1 && id <= BALE_FILTER_delta8;
}

static bool is_bits(unsigned int id)
{
	return id == BALE_FILTER_bitshuffle2 || id == BALE_FILTER_bitshuffle4;
}

static uint64_t load(const uint8_t *p, size_t size)
{
	uint64_t v = 0;

	for (size_t b = size; b--;)
		v = v << 8 | p[b];
	return v;
}

static void model_unit(unsigned int id, const uint8_t *src, size_t len,
		       uint8_t *dst)
{
	size_t size = element[id], n = len / size;

	memcpy(dst, src, len);
	if (!id)
		return;
	if (is_bits(id)) {
		n -= n % 8;
		memset(dst, 0, n * size);
		for (size_t i = 0; i < n; i++)
			for (size_t b = 0; b < 8 * size; b++)
				if (load(src + i * size, size) >> b & 1)
					dst[b * (n / 8) + i / 8] |=
						(uint8_t)(1u << i % 8);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t v = load(src + i * size, size);

		if (is_delta(id) && i)
			v -= load(src + (i - 1) * size, size);
		for (size_t b = 0; b < size; b++)
			dst[b * n + i] = (uint8_t)(v >> (8 * b));
	}
}

static void model(unsigned int id, const uint8_t *src, size_t len, uint8_t *dst)
{
	for (size_t at = 0; at < len; at += BALE_UNIT_SIZE)
		model_unit(id, src + at,
			   len - at < BALE_UNIT_SIZE ? len - at :
						       BALE_UNIT_SIZE,
			   dst + at);
}

/* Buffers of exactly the size, so that a sanitizer sees one byte too many. */
static void check_len(unsigned int id, const uint8_t *data, size_t len)
{
	uint8_t *src = malloc(len + 1), *dst = malloc(len + 1);
	uint8_t *want = malloc(len + 1), *back = malloc(len + 1);

	assert_true(src && dst && want && back);
	memcpy(src, data, len);
	dst[len] = back[len] = 0x5a;
	model(id, src, len, want);
	bale_filter_forward(id, src, len, dst);
	assert_memory_equal(dst, want, len);
	bale_filter_backward(id, dst, len, back);
	assert_memory_equal(back, data, len);
	assert_int_equal(dst[len], 0x5a);
	assert_int_equal(back[len], 0x5a);
	free(src);
	free(dst);
	free(want);
	free(back);
}

static uint8_t *random_bytes(size_t len)
{
	uint8_t *p = malloc(len);
	uint64_t x = 88172645463325252ULL;

	assert_non_null(p);
	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)x;
	}
	return p;
}

static void as_the_specification_says(void **state)
{
	static const size_t sizes[] = {
		BALE_UNIT_SIZE - 1, BALE_UNIT_SIZE,
		BALE_UNIT_SIZE + 1, BALE_UNIT_SIZE + 71,
		2 * BALE_UNIT_SIZE, 2 * BALE_UNIT_SIZE + 4097,
	};
	uint8_t *data = random_bytes(MAX);

	(void)state;
	for (unsigned int id = 0; id < BALE_FILTER_NR; id++) {
		for (size_t len = 0; len < 600; len++)
			check_len(id, data + len % 7, len);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			check_len(id, data, sizes[i]);
	}
	free(data);
}

static void names_and_ids(void **state)
{
	uint8_t id;

	(void)state;
	for (unsigned int f = 0; f < BALE_FILTER_NR; f++) {
		assert_true(bale_filter_known(f));
		assert_int_equal(bale_filter_parse(bale_filter_name(f), &id),
				 0);
		assert_int_equal(id, f);
	}
	assert_false(bale_filter_known(BALE_FILTER_NR));
	assert_string_equal(bale_filter_name(BALE_FILTER_NR), "?");
	assert_int_equal(bale_filter_parse("shuffle3", &id), -EINVAL);
	assert_int_equal(bale_filter_parse("", &id), -EINVAL);
}

static void policies(void **state)
{
	static const char *const good[] = { "lz4+shuffle4", "zstd:7+delta8",
					    "zstd:-7+bitshuffle2",
					    "zstd+delta1" };
	static const char *const bad[] = {
		"lz4+",		  "lz4+none",	   "+shuffle4",
		"raw+shuffle4",	  "auto+shuffle4", "lz4+shuffle4+delta4",
		"zstd+shuffle:3", "zstd+shuffle3", "lz4:3+shuffle4x",
	};
	struct bale_codec_policy p;
	char text[40];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(bale_codec_policy_parse(good[i], &p), 0);
		assert_true(p.filter);
		bale_codec_policy_text(p, text, sizeof(text));
		assert_string_equal(text, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(bale_codec_policy_parse(bad[i], &p), -EINVAL);
}

static int run_job(struct bale_job *job, enum bale_job_op op,
		   unsigned int codec, unsigned int filter)
{
	job->op = op;
	job->codec = (uint8_t)codec;
	job->filter = (uint8_t)filter;
	bale_codec_run(job);
	return job->status;
}

/* Floats of a slow walk: shuffled they shrink, as they are they do not. */
static void through_a_codec(void **state, unsigned int codec)
{
	size_t len = 2 * BALE_UNIT_SIZE + 40001, cap = bale_codec_bound(len);
	uint8_t *src = malloc(len), *coded = malloc(cap), *back = malloc(len);
	struct bale_job e, d;
	size_t plain = 0;

	(void)state;
	assert_true(src && coded && back);
	for (size_t i = 0; i < len; i += 4) {
		float f = 1000.0F + (float)(i % 977) * 0.37F;

		memcpy(src + i, &f, len - i < 4 ? len - i : 4);
	}
	for (unsigned int filter = 0; filter < BALE_FILTER_NR; filter++) {
		e = (struct bale_job){
			.src = src, .src_len = len, .dst = coded, .dst_cap = cap
		};
		assert_int_equal(run_job(&e, BALE_JOB_ENCODE, codec, filter),
				 0);
		if (e.ret_codec == BALE_CODEC_raw) {
			assert_int_equal(e.ret_filter, 0);
			continue;
		}
		assert_int_equal(e.ret_filter, filter);
		d = (struct bale_job){ .src = coded,
				       .src_len = e.len,
				       .dst = back,
				       .dst_cap = len };
		memset(back, 0xee, len);
		assert_int_equal(
			run_job(&d, BALE_JOB_DECODE, e.ret_codec, e.ret_filter),
			0);
		assert_int_equal(d.len, len);
		assert_memory_equal(back, src, len);
		if (!filter)
			plain = e.len;
		if (filter == BALE_FILTER_shuffle4)
			assert_true(!plain || e.len < plain);
		/* The filter is part of what the bytes mean. */
		memset(back, 0xee, len);
		if (!run_job(&d, BALE_JOB_DECODE, e.ret_codec,
			     filter ? 0 : BALE_FILTER_shuffle2))
			assert_memory_not_equal(back, src, len);
	}
	free(src);
	free(coded);
	free(back);
}

static void through_lz4(void **state)
{
	through_a_codec(state, BALE_CODEC_lz4);
}

static void through_zstd(void **state)
{
	through_a_codec(state, BALE_CODEC_zstd);
}

static void refused(void **state)
{
	uint8_t src[200], dst[400];
	struct bale_job j = { .src = src,
			      .src_len = sizeof(src),
			      .dst = dst,
			      .dst_cap = sizeof(dst) };

	(void)state;
	memset(src, 7, sizeof(src));
	src[3] = 1;
	assert_int_equal(
		run_job(&j, BALE_JOB_ENCODE, BALE_CODEC_lz4, BALE_FILTER_NR),
		-EINVAL);
	assert_int_equal(run_job(&j, BALE_JOB_ENCODE, BALE_CODEC_raw,
				 BALE_FILTER_shuffle2),
			 -EINVAL);
	assert_int_equal(run_job(&j, BALE_JOB_ENCODE, BALE_CODEC_auto,
				 BALE_FILTER_shuffle2),
			 -EINVAL);
	j.dst_cap = sizeof(src);
	assert_int_equal(run_job(&j, BALE_JOB_DECODE, BALE_CODEC_raw,
				 BALE_FILTER_shuffle2),
			 -EOPNOTSUPP);
	assert_int_equal(run_job(&j, BALE_JOB_DECODE, BALE_CODEC_fill,
				 BALE_FILTER_shuffle2),
			 -EOPNOTSUPP);
	assert_int_equal(
		run_job(&j, BALE_JOB_DECODE, BALE_CODEC_lz4, BALE_FILTER_NR),
		-EOPNOTSUPP);
	assert_false(bale_codec_known(BALE_CODEC_raw, BALE_FILTER_delta1));
	assert_true(bale_codec_known(BALE_CODEC_zstd, BALE_FILTER_delta1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_specification_says),
		cmocka_unit_test(names_and_ids),
		cmocka_unit_test(policies),
		cmocka_unit_test(through_lz4),
		cmocka_unit_test(through_zstd),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
