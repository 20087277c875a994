/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs on every engine: round trips, what becomes what, and the libraries
 * used directly as the other side. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lz4.h>
#include <lz4hc.h>
#include <zstd.h>

#include "balefs/le.h"
#include "fs/base/fault.h"
#include "fs/codec/codec.h"

enum { NR_ENGINES = 3, GUARD = 64, CANARY = 0xa5 };

static struct bale_engine *engines[NR_ENGINES];

static const size_t sizes[] = {
	1,	2,	3,	 7,	  8,	   9,	  31,	  32,
	33,	63,	64,	 65,	  127,	   128,	  129,	  1000,
	4095,	32767,	32768,	 65535,	  65536,   65537, 131071, 131072,
	131073, 262144, 1 << 20, 4194303, 4 << 20,
};

static const struct bale_codec_policy policies[] = {
	{ BALE_CODEC_raw, 0 },	    { BALE_CODEC_fill, 0 },
	{ BALE_CODEC_lz4, 0 },	    { BALE_CODEC_zstd, 0 },
	{ BALE_CODEC_zstd, -7 },    { BALE_CODEC_zstd, 1 },
	{ BALE_CODEC_zstd, 6 },	    { BALE_CODEC_auto, 0 },
	{ BALE_CODEC_gdeflate, 0 }, { BALE_CODEC_gdeflate, -1 },
	{ BALE_CODEC_gdeflate, 1 }, { BALE_CODEC_gdeflate, 3 },
};

enum {
	NR_SIZES = sizeof(sizes) / sizeof(sizes[0]),
	NR_POLICIES = sizeof(policies) / sizeof(policies[0]),
	/* In policies[]. */
	LZ4 = 2,
	ZSTD = 3,
	GDEFLATE = 8,
};

static const size_t coders[] = { LZ4, ZSTD, GDEFLATE };
enum { NR_CODERS = sizeof(coders) / sizeof(coders[0]) };

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * 0x2545f4914f6cdd1dULL;
}

static void make_random(uint8_t *p, size_t len)
{
	uint64_t x = 88172645463325252ULL;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(next_random(&x) >> 56);
}

static void make_text(uint8_t *p, size_t len)
{
	static const char *const words[] = {
		"the ",	  "extent ", "is ",	"a ",	   "slice ", "of ",
		"file, ", "and ",    "codec\n", "stores ", "it ",    "whole. ",
	};
	uint64_t x = 42;
	size_t i = 0;

	while (i < len) {
		const char *w = words[next_random(&x) % 12];

		while (*w && i < len)
			p[i++] = (uint8_t)*w++;
	}
}

static void make_zero(uint8_t *p, size_t len)
{
	memset(p, 0, len);
}

static void make_fill(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = "\x12\x34\x56\x78"[i % 4];
}

/* A unit that does not shrink beside one that does. */
static void make_mixed(uint8_t *p, size_t len)
{
	make_random(p, len);
	for (size_t i = 0; i < len; i += 128 << 10)
		make_text(p + i, len - i < 64 << 10 ? len - i : 64 << 10);
}

static void (*const makers[])(uint8_t *p, size_t len) = {
	make_random, make_text, make_zero, make_fill, make_mixed,
};
enum { NR_MAKERS = sizeof(makers) / sizeof(makers[0]) };

static void *must_alloc(size_t len)
{
	void *p = malloc(len ? len : 1);

	assert_non_null(p);
	return p;
}

static struct bale_job encode_job(struct bale_codec_policy p, const void *src,
				  size_t len)
{
	struct bale_job job = {
		.op = BALE_JOB_ENCODE,
		.codec = p.codec,
		.level = p.level,
		.src = src,
		.src_len = len,
		.dst_cap = bale_codec_bound(len),
		.status = -1,
	};

	job.dst = must_alloc(job.dst_cap + GUARD);
	memset(job.dst, CANARY, job.dst_cap + GUARD);
	return job;
}

static struct bale_job decode_job(unsigned int codec, const void *src,
				  size_t src_len, size_t len)
{
	struct bale_job job = {
		.op = BALE_JOB_DECODE,
		.codec = (uint8_t)codec,
		.src = src,
		.src_len = src_len,
		.dst_cap = len,
		.status = -1,
	};

	job.dst = must_alloc(len + GUARD);
	memset(job.dst, CANARY, len + GUARD);
	return job;
}

static void assert_guard(const struct bale_job *job)
{
	const uint8_t *p = job->dst;

	for (size_t i = 0; i < GUARD; i++)
		assert_int_equal(p[job->dst_cap + i], CANARY);
}

/* What an encoder owes for any content. */
static void assert_encoded(const struct bale_job *job)
{
	size_t save = job->src_len / 16 > 32 ? job->src_len / 16 : 32;

	assert_int_equal(job->status, 0);
	assert_int_equal(job->ret_filter, 0);
	assert_guard(job);
	assert_true(bale_codec_known(job->ret_codec, job->ret_filter));
	if (job->ret_codec == BALE_CODEC_raw) {
		assert_int_equal(job->len, job->src_len);
		assert_int_not_equal(job->reason, BALE_RAW_none);
		assert_int_not_equal(job->reason, BALE_RAW_error);
		return;
	}
	assert_int_equal(job->reason, BALE_RAW_none);
	if (job->ret_codec == BALE_CODEC_fill)
		assert_true(job->len == 1 || job->len < job->src_len);
	else
		assert_true(job->len + save <= job->src_len);
}

/* Encode on one engine, decode on every one. */
static void round_trip(struct bale_engine *e, const uint8_t *src, size_t len)
{
	struct bale_job enc[NR_POLICIES], dec[NR_POLICIES];

	for (size_t i = 0; i < NR_POLICIES; i++)
		enc[i] = encode_job(policies[i], src, len);
	assert_int_equal(bale_engine_run(e, enc, NR_POLICIES), 0);
	for (size_t i = 0; i < NR_POLICIES; i++)
		assert_encoded(&enc[i]);
	for (size_t other = 0; other < NR_ENGINES; other++) {
		for (size_t i = 0; i < NR_POLICIES; i++)
			dec[i] = decode_job(enc[i].ret_codec,
					    enc[i].ret_codec == BALE_CODEC_raw ?
						    enc[i].src :
						    enc[i].dst,
					    enc[i].len, len);
		assert_int_equal(
			bale_engine_run(engines[other], dec, NR_POLICIES), 0);
		for (size_t i = 0; i < NR_POLICIES; i++) {
			assert_int_equal(dec[i].status, 0);
			assert_int_equal(dec[i].len, len);
			assert_memory_equal(dec[i].dst, src, len);
			assert_guard(&dec[i]);
			free(dec[i].dst);
		}
	}
	for (size_t i = 0; i < NR_POLICIES; i++)
		free(enc[i].dst);
}

static void every_size_content_policy_engine(void **state)
{
	(void)state;
	for (size_t s = 0; s < NR_SIZES; s++) {
		/* Exact size: a sanitizer sees a read beyond it. */
		uint8_t *src = must_alloc(sizes[s]);

		for (size_t m = 0; m < NR_MAKERS; m++) {
			makers[m](src, sizes[s]);
			for (size_t e = 0; e < NR_ENGINES; e++) {
				/* Large ones: each engine encodes one kind. */
				if (sizes[s] > 262144 && e != m % NR_ENGINES)
					continue;
				round_trip(engines[e], src, sizes[s]);
			}
		}
		free(src);
	}
}

static struct bale_job encode_one(struct bale_codec_policy p, const void *src,
				  size_t len)
{
	struct bale_job job = encode_job(p, src, len);

	bale_codec_run(&job);
	assert_int_equal(job.status, 0);
	assert_guard(&job);
	return job;
}

static void nothing_is_raw(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR_POLICIES; i++) {
		struct bale_job job = encode_one(policies[i], "", 0);

		assert_int_equal(job.ret_codec, BALE_CODEC_raw);
		assert_int_equal(job.len, 0);
		free(job.dst);
	}
	for (unsigned int c = 0; c < BALE_CODEC_NR; c++) {
		struct bale_job job = decode_job(c, "\0\0\0\0\0\0\0\0", 0, 0);

		bale_codec_run(&job);
		assert_int_equal(job.status, c == BALE_CODEC_raw ? 0 :
					     bale_codec_known(c, 0) ?
								   -EUCLEAN :
								   -EOPNOTSUPP);
		free(job.dst);
	}
}

static void patterns_become_fills(void **state)
{
	static const struct {
		const char *text;
		size_t period;
	} cases[] = {
		{ "\0\0\0\0\0\0\0\0", 1 }, { "aaaaaaaa", 1 }, { "abababab", 2 },
		{ "abcdabcd", 4 },	   { "abcdefgh", 8 }, { "aaaaaaab", 8 },
		{ "aaabaaab", 4 },
	};
	uint8_t *src = must_alloc(131072);

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		for (size_t s = 0; s < NR_SIZES && sizes[s] <= 131072; s++) {
			size_t len = sizes[s];

			for (size_t i = 0; i < len; i++)
				src[i] = (uint8_t)cases[c].text[i % 8];
			if (len <= 9)
				continue;
			for (size_t p = 0; p < NR_POLICIES; p++) {
				struct bale_job job =
					encode_one(policies[p], src, len);

				assert_int_equal(job.ret_codec,
						 BALE_CODEC_fill);
				assert_int_equal(job.len, cases[c].period);
				assert_memory_equal(job.dst, cases[c].text,
						    job.len);
				free(job.dst);
			}
			/* One byte off, anywhere: no fill. */
			src[len - 1] ^= 1;
			struct bale_job job = encode_one(policies[1], src, len);

			assert_int_equal(job.ret_codec, BALE_CODEC_raw);
			assert_int_equal(job.reason, len < 64 ? BALE_RAW_small :
								BALE_RAW_grew);
			free(job.dst);
		}
	}
	free(src);
}

static void zeros_of_any_length_are_a_fill(void **state)
{
	static const uint8_t zeros[64];

	(void)state;
	for (size_t len = 1; len <= sizeof(zeros); len++) {
		for (size_t p = 0; p < NR_POLICIES; p++) {
			struct bale_job job =
				encode_one(policies[p], zeros, len);

			assert_int_equal(job.ret_codec, BALE_CODEC_fill);
			assert_int_equal(job.len, 1);
			assert_int_equal(*(uint8_t *)job.dst, 0);
			free(job.dst);
		}
	}
}

static void expect_encoded(const char *policy, const uint8_t *src, size_t len,
			   unsigned int codec, int level, unsigned int reason)
{
	struct bale_codec_policy p;
	struct bale_job job;

	assert_int_equal(bale_codec_policy_parse(policy, &p), 0);
	job = encode_one(p, src, len);
	assert_int_equal(job.ret_codec, codec);
	assert_int_equal(job.ret_level, level);
	assert_int_equal(job.reason, reason);
	if (codec == BALE_CODEC_raw && reason != BALE_RAW_grew)
		assert_int_equal(*((uint8_t *)job.dst + 8), CANARY);
	free(job.dst);
}

static void content_chooses_the_codec(void **state)
{
	enum { N = 131072 };
	uint8_t *random = must_alloc(N), *text = must_alloc(N);
	uint8_t *values = must_alloc(N);
	uint64_t x = 7;

	(void)state;
	make_random(random, N);
	make_text(text, N);
	/* 32-bit values from a small set: only 4-byte matches help. */
	for (size_t i = 0; i < N; i += 4)
		memcpy(values + i, random + next_random(&x) % 400 * 4, 4);
	expect_encoded("auto", random, N, BALE_CODEC_raw, 0, BALE_RAW_probe);
	expect_encoded("auto", text, N, BALE_CODEC_zstd, 1, 0);
	expect_encoded("auto", values, N, BALE_CODEC_lz4, 0, 0);
	expect_encoded("auto", text, 63, BALE_CODEC_raw, 0, BALE_RAW_small);
	expect_encoded("auto", random, 1000, BALE_CODEC_raw, 0, BALE_RAW_grew);
	expect_encoded("zstd", random, N, BALE_CODEC_raw, 0, BALE_RAW_grew);
	expect_encoded("lz4", random, N, BALE_CODEC_raw, 0, BALE_RAW_grew);
	expect_encoded("lz4", text, N, BALE_CODEC_lz4, 0, 0);
	expect_encoded("zstd", text, N, BALE_CODEC_zstd, 3, 0);
	expect_encoded("gdeflate", text, N, BALE_CODEC_gdeflate, 2, 0);
	expect_encoded("gdeflate:-1", text, N, BALE_CODEC_gdeflate, -1, 0);
	expect_encoded("gdeflate:3", text, N, BALE_CODEC_gdeflate, 3, 0);
	expect_encoded("gdeflate", random, N, BALE_CODEC_raw, 0, BALE_RAW_grew);
	expect_encoded("zstd:-7", text, N, BALE_CODEC_zstd, -7, 0);
	expect_encoded("zstd:19", text, N, BALE_CODEC_zstd, 19, 0);
	expect_encoded("raw", text, N, BALE_CODEC_raw, 0, BALE_RAW_policy);
	free(values);
	free(text);
	free(random);
}

/* What zstd:1 would have shrunk, the probe must not call raw. True: it shrank.
 */
static bool probe_agrees(const uint8_t *p, size_t len)
{
	struct bale_codec_policy level1 = { BALE_CODEC_zstd, 1 };
	struct bale_codec_policy by_content = { BALE_CODEC_auto, 0 };
	struct bale_job plain = encode_one(level1, p, len);
	struct bale_job guess = encode_one(by_content, p, len);

	if (plain.ret_codec == BALE_CODEC_zstd) {
		assert_int_equal(guess.ret_codec, BALE_CODEC_zstd);
		assert_int_equal(guess.len, plain.len);
	}
	free(guess.dst);
	free(plain.dst);
	return plain.ret_codec == BALE_CODEC_zstd;
}

/* Content that shrinks by its byte values alone, or by repeats alone. */
static void probe_misses_nothing(void **state)
{
	enum { N = 131072 };
	uint8_t *p = must_alloc(N);
	unsigned int shrank = 0;

	(void)state;
	/* 7 significant bits of 8. */
	make_random(p, N);
	for (size_t i = 0; i < N; i++)
		p[i] &= 0x7f;
	assert_true(probe_agrees(p, N));
	/* Noise, a part of which stands there again, at odd distances, and at
	   multiples of 64, which the probe did not see: blocks of files. */
	for (size_t from = 0; from + 20000 + 40001 <= N; from += 3000) {
		for (size_t n = 2000; n <= 20000; n += 6000) {
			for (size_t dist = 39936; dist <= 40001; dist += 65) {
				make_random(p, N);
				memmove(p + from + dist, p + from, n);
				shrank += probe_agrees(p, N);
			}
		}
	}
	assert_true(shrank > 20);
	/* Runs of zeros in noise. */
	for (size_t run = 4; run <= 20; run++) {
		make_random(p, N);
		for (size_t i = 0; i + 100 <= N; i += 100)
			memset(p + i, 0, run);
		assert_true(probe_agrees(p, N) || run < 14);
	}
	/* A head and a tail that shrink around noise. */
	for (size_t n = 4096; n <= 32768; n += 4096) {
		make_random(p, N);
		make_text(p + (N - n) / 2, n);
		probe_agrees(p, N);
		make_random(p, N);
		make_text(p, n);
		probe_agrees(p, N);
	}
	free(p);
}

/* ---- against the libraries ---- */

static void lz4_units_are_plain_blocks(void **state)
{
	enum { N = 200000 };
	uint8_t *src = must_alloc(N), *out = must_alloc(65536);
	struct bale_job job;
	size_t pos = 4 * sizeof(le32);
	unsigned int nr_raw = 0;

	(void)state;
	make_mixed(src, N);
	job = encode_one(policies[2], src, N);
	assert_int_equal(job.ret_codec, BALE_CODEC_lz4);
	for (size_t i = 0; i < 4; i++) {
		size_t raw = N - i * 65536 < 65536 ? N - i * 65536 : 65536;
		const char *unit;
		uint32_t n;
		le32 e;

		memcpy(&e, (uint8_t *)job.dst + i * sizeof(e), sizeof(e));
		n = le32_get(e) & 0x7fffffff;
		unit = (const char *)job.dst + pos;
		pos += n;
		assert_true(pos <= job.len);
		if (le32_get(e) & 0x80000000) {
			nr_raw++;
			assert_int_equal(n, raw);
			assert_memory_equal(unit, src + i * 65536, raw);
			continue;
		}
		assert_int_equal(
			LZ4_decompress_safe(unit, (char *)out, (int)n, 65536),
			raw);
		assert_memory_equal(out, src + i * 65536, raw);
	}
	assert_int_equal(pos, job.len);
	assert_int_equal(nr_raw, 2);
	free(job.dst);
	free(out);
	free(src);
}

static void decodes_what_liblz4_made(void **state)
{
	enum { N = 150000, UNITS = 3 };
	uint8_t *src = must_alloc(N), *coded = must_alloc(N * 2);
	struct bale_job job;

	(void)state;
	make_text(src, N);
	for (int level = 1; level <= 12; level += 11) {
		size_t pos = UNITS * sizeof(le32);

		for (size_t i = 0; i < UNITS; i++) {
			size_t off = i * 65536;
			int raw = N - off < 65536 ? (int)(N - off) : 65536;
			int n = LZ4_compress_HC((char *)src + off,
						(char *)coded + pos, raw,
						LZ4_compressBound(raw), level);
			le32 e = le32_put((uint32_t)n);

			assert_true(n > 0);
			memcpy(coded + i * sizeof(e), &e, sizeof(e));
			pos += (size_t)n;
		}
		for (size_t e = 0; e < NR_ENGINES; e++) {
			job = decode_job(BALE_CODEC_lz4, coded, pos, N);
			assert_int_equal(bale_engine_run(engines[e], &job, 1),
					 0);
			assert_int_equal(job.status, 0);
			assert_memory_equal(job.dst, src, N);
			free(job.dst);
		}
	}
	free(coded);
	free(src);
}

static void zstd_is_a_plain_frame(void **state)
{
	enum { N = 4 << 20 };
	uint8_t *src = must_alloc(N), *out = must_alloc(N);

	(void)state;
	make_mixed(src, N);
	for (size_t s = 0; s < NR_SIZES; s++) {
		struct bale_job job = encode_one(policies[3], src, sizes[s]);

		if (job.ret_codec == BALE_CODEC_zstd) {
			assert_int_equal(
				ZSTD_getFrameContentSize(job.dst, job.len),
				sizes[s]);
			assert_int_equal(ZSTD_decompress(out, sizes[s], job.dst,
							 job.len),
					 sizes[s]);
			assert_memory_equal(out, src, sizes[s]);
			/* Neither checksum nor dictionary id. */
			assert_int_equal(((uint8_t *)job.dst)[4] & 7, 0);
		}
		free(job.dst);
	}
	free(out);
	free(src);
}

static int decode_frame(const void *frame, size_t n, const uint8_t *want,
			size_t len)
{
	int status = 0;

	for (size_t e = 0; e < NR_ENGINES; e++) {
		struct bale_job job =
			decode_job(BALE_CODEC_zstd, frame, n, len);

		assert_int_equal(bale_engine_run(engines[e], &job, 1), 0);
		assert_guard(&job);
		if (!job.status)
			assert_memory_equal(job.dst, want, len);
		if (e)
			assert_int_equal(job.status, status);
		status = job.status;
		free(job.dst);
	}
	return status;
}

/* Whole frames of libzstd: any level and window up to an extent's is good; a
 * checksum, no content size, a larger window is not. */
static void frames_of_libzstd(void **state)
{
	enum { N = 300000 };
	ZSTD_CCtx *z = ZSTD_createCCtx();
	uint8_t *src = must_alloc(N), *out = must_alloc(2 * N);
	size_t n;

	(void)state;
	assert_non_null(z);
	make_text(src, N);
	for (int level = -50; level <= 19; level += 3) {
		n = ZSTD_compress(out, 2 * N, src, N, level);
		assert_false(ZSTD_isError(n));
		assert_int_equal(decode_frame(out, n, src, N), 0);
	}
	/* A window descriptor appears when the frame is larger than it. */
	for (int log = 10; log <= 18; log++) {
		ZSTD_CCtx_reset(z, ZSTD_reset_session_and_parameters);
		ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, log);
		n = ZSTD_compress2(z, out, 2 * N, src, N);
		assert_int_equal(decode_frame(out, n, src, N), 0);
	}
	ZSTD_CCtx_reset(z, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
	n = ZSTD_compress2(z, out, 2 * N, src, N);
	assert_int_equal(decode_frame(out, n, src, N), -EUCLEAN);
	ZSTD_CCtx_reset(z, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, 0);
	n = ZSTD_compress2(z, out, 2 * N, src, N);
	assert_int_equal(decode_frame(out, n, src, N), -EUCLEAN);
	ZSTD_freeCCtx(z);
	free(out);
	free(src);
}

/* ---- damage ---- */

/* Any change, any cut: a status, never a wrong write. */
static void damage_is_survived(void **state)
{
	enum { N = 70000 };
	uint8_t *src = must_alloc(N), *bad;
	uint64_t x = 99;

	(void)state;
	make_mixed(src, N);
	for (size_t c = 0; c < NR_CODERS; c++) {
		size_t p = coders[c];
		struct bale_job enc = encode_one(policies[p], src, N), dec;

		assert_int_equal(enc.ret_codec, policies[p].codec);
		for (size_t cut = 0; cut < enc.len;
		     cut += 1 + cut / 16 + next_random(&x) % 8) {
			bad = must_alloc(cut);
			memcpy(bad, enc.dst, cut);
			dec = decode_job(enc.ret_codec, bad, cut, N);
			bale_codec_run(&dec);
			assert_int_equal(dec.status, -EUCLEAN);
			assert_guard(&dec);
			free(dec.dst);
			free(bad);
		}
		for (int i = 0; i < 3000; i++) {
			bad = must_alloc(enc.len);
			memcpy(bad, enc.dst, enc.len);
			bad[next_random(&x) % (i % 2 ? enc.len : 40)] ^=
				(uint8_t)(1 << next_random(&x) % 8);
			dec = decode_job(enc.ret_codec, bad, enc.len, N);
			bale_codec_run(&dec);
			assert_true(!dec.status || dec.status == -EUCLEAN);
			assert_int_equal(dec.len, dec.status ? 0 : N);
			assert_guard(&dec);
			free(dec.dst);
			free(bad);
		}
		/* A length that is not the one encoded. */
		for (long off = -1; off <= 1; off += 2) {
			dec = decode_job(enc.ret_codec, enc.dst, enc.len,
					 (size_t)(N + off));
			bale_codec_run(&dec);
			assert_int_equal(dec.status, -EUCLEAN);
			assert_guard(&dec);
			free(dec.dst);
		}
		free(enc.dst);
	}
	free(src);
}

/* ---- jobs that are wrong ---- */

static int run_with(unsigned int op, unsigned int codec, unsigned int filter,
		    int level, size_t cap)
{
	static uint8_t src[1024], dst[4096];
	struct bale_job job = {
		.op = (enum bale_job_op)op,
		.codec = (uint8_t)codec,
		.filter = (uint8_t)filter,
		.level = (int8_t)level,
		.src = src,
		.src_len = sizeof(src),
		.dst = dst,
		.dst_cap = cap,
	};

	for (size_t i = 0; i < sizeof(src); i++)
		src[i] = (uint8_t)(i / 3);
	bale_codec_run(&job);
	assert_true(!job.status || !job.len);
	return job.status;
}

static void wrong_jobs_are_refused(void **state)
{
	const size_t bound = bale_codec_bound(1024);
	const unsigned int enc = BALE_JOB_ENCODE, dec = BALE_JOB_DECODE;

	(void)state;
	assert_int_equal(run_with(enc, BALE_CODEC_zstd, 0, 0, bound), 0);
	assert_int_equal(run_with(enc, BALE_CODEC_zstd, 0, 19, bound), 0);
	assert_int_equal(run_with(enc, BALE_CODEC_zstd, 0, -7, bound), 0);
	assert_int_equal(run_with(enc, BALE_CODEC_zstd, 0, 20, bound), -EINVAL);
	assert_int_equal(run_with(enc, BALE_CODEC_zstd, 0, -8, bound), -EINVAL);
	assert_int_equal(run_with(enc, BALE_CODEC_zstd, 0, 0, bound - 1),
			 -EINVAL);
	assert_int_equal(run_with(enc, BALE_CODEC_zstd, 99, 0, bound), -EINVAL);
	assert_int_equal(run_with(enc, BALE_CODEC_NR, 0, 0, bound), -EINVAL);
	assert_int_equal(run_with(enc, 254, 0, 0, bound), -EINVAL);
	for (int level = -3; level <= 5; level++)
		assert_int_equal(
			run_with(enc, BALE_CODEC_gdeflate, 0, level, bound),
			level >= -1 && level <= 3 ? 0 : -EINVAL);
	assert_int_equal(run_with(enc, BALE_CODEC_planes, 0, 0, bound),
			 -EOPNOTSUPP);
	assert_int_equal(run_with(dec, BALE_CODEC_gdeflate, 0, 0, 1024),
			 -EUCLEAN);
	assert_int_equal(run_with(dec, BALE_CODEC_planes, 0, 0, 1024),
			 -EOPNOTSUPP);
	assert_int_equal(run_with(dec, BALE_CODEC_raw, 0, 0, 1024), 0);
	assert_int_equal(run_with(dec, BALE_CODEC_raw, 1, 0, 1024),
			 -EOPNOTSUPP);
	assert_int_equal(run_with(dec, BALE_CODEC_auto, 0, 0, 1024),
			 -EOPNOTSUPP);
	assert_int_equal(run_with(7, BALE_CODEC_raw, 0, 0, bound), -EINVAL);
}

static void too_long_is_refused(void **state)
{
	struct bale_job job = encode_job(policies[2], "", BALE_EXTENT_MAX + 1);

	(void)state;
	bale_codec_run(&job);
	assert_int_equal(job.status, -EINVAL);
	free(job.dst);
}

/* No memory for a context: data is stored all the same, and a read says why. */
static void without_memory(void **state)
{
	uint8_t *src = must_alloc(65536);

	(void)state;
	make_text(src, 65536);
	for (size_t c = 0; c < NR_CODERS; c++) {
		size_t p = coders[c];
		struct bale_job good = encode_one(policies[p], src, 65536), job;

		assert_int_equal(bale_fault_arm("codec.memory:1+:ENOMEM"), 0);
		job = encode_one(policies[p], src, 65536);
		assert_int_equal(job.ret_codec, BALE_CODEC_raw);
		assert_int_equal(job.reason, BALE_RAW_error);
		free(job.dst);
		job = decode_job(good.ret_codec, good.dst, good.len, 65536);
		bale_codec_run(&job);
		bale_fault_clear();
		assert_int_equal(job.status, p == LZ4 ? 0 : -ENOMEM);
		free(job.dst);
		free(good.dst);
	}
	free(src);
}

/* ---- names and policies ---- */

static void policies_parse_and_print(void **state)
{
	static const struct {
		const char *text;
		int status;
		uint8_t codec;
		int8_t level;
	} cases[] = {
		{ "auto", 0, BALE_CODEC_auto, 0 },
		{ "raw", 0, BALE_CODEC_raw, 0 },
		{ "lz4", 0, BALE_CODEC_lz4, 0 },
		{ "zstd", 0, BALE_CODEC_zstd, 0 },
		{ "zstd:1", 0, BALE_CODEC_zstd, 1 },
		{ "zstd:19", 0, BALE_CODEC_zstd, 19 },
		{ "zstd:-7", 0, BALE_CODEC_zstd, -7 },
		{ "gdeflate", 0, BALE_CODEC_gdeflate, 0 },
		{ "gdeflate:-1", 0, BALE_CODEC_gdeflate, -1 },
		{ "gdeflate:1", 0, BALE_CODEC_gdeflate, 1 },
		{ "gdeflate:3", 0, BALE_CODEC_gdeflate, 3 },
		{ "gdeflate:0", -EINVAL, 0, 0 },
		{ "gdeflate:-2", -EINVAL, 0, 0 },
		{ "gdeflate:4", -EINVAL, 0, 0 },
		{ "gdeflate:", -EINVAL, 0, 0 },
		{ "planes", -EOPNOTSUPP, 0, 0 },
		{ "", -EINVAL, 0, 0 },
		{ "zst", -EINVAL, 0, 0 },
		{ "zstd ", -EINVAL, 0, 0 },
		{ "zstdd", -EINVAL, 0, 0 },
		{ "ZSTD", -EINVAL, 0, 0 },
		{ "zstd:", -EINVAL, 0, 0 },
		{ "zstd:0", -EINVAL, 0, 0 },
		{ "zstd:-", -EINVAL, 0, 0 },
		{ "zstd:20", -EINVAL, 0, 0 },
		{ "zstd:-8", -EINVAL, 0, 0 },
		{ "zstd:3x", -EINVAL, 0, 0 },
		{ "zstd:+3", -EINVAL, 0, 0 },
		{ "zstd: 3", -EINVAL, 0, 0 },
		{ "zstd:3:3", -EINVAL, 0, 0 },
		{ "zstd:99999999999999999999", -EINVAL, 0, 0 },
		{ "lz4:1", -EINVAL, 0, 0 },
		{ "raw:1", -EINVAL, 0, 0 },
		{ "auto:1", -EINVAL, 0, 0 },
		{ "fill", -EINVAL, 0, 0 },
		{ ":1", -EINVAL, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bale_codec_policy p = { 77, 77 };
		char text[32];

		assert_int_equal(bale_codec_policy_parse(cases[i].text, &p),
				 cases[i].status);
		if (cases[i].status) {
			assert_int_equal(p.codec, 77);
			assert_int_equal(p.level, 77);
			continue;
		}
		assert_int_equal(p.codec, cases[i].codec);
		assert_int_equal(p.level, cases[i].level);
		bale_codec_policy_text(p, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

static void names_and_bounds(void **state)
{
	char text[4];

	(void)state;
	assert_string_equal(bale_codec_name(BALE_CODEC_zstd), "zstd");
	assert_string_equal(bale_codec_name(BALE_CODEC_planes), "planes");
	assert_string_equal(bale_codec_name(BALE_CODEC_auto), "auto");
	assert_string_equal(bale_codec_name(BALE_CODEC_NR), "?");
	assert_string_equal(bale_codec_name(1000), "?");
	assert_string_equal(bale_raw_reason_text(BALE_RAW_policy),
			    "raw was asked for");
	assert_string_equal(bale_raw_reason_text(200), "?");
	assert_true(bale_codec_known(BALE_CODEC_lz4, 0));
	assert_false(bale_codec_known(BALE_CODEC_lz4, BALE_FILTER_NR));
	assert_true(bale_codec_known(BALE_CODEC_gdeflate, 0));
	assert_false(bale_codec_known(BALE_CODEC_planes, 0));
	assert_false(bale_codec_known(BALE_CODEC_auto, 0));
	assert_false(bale_codec_known(1000, 0));
	bale_codec_policy_text((struct bale_codec_policy){ BALE_CODEC_zstd, 3 },
			       text, sizeof(text));
	assert_string_equal(text, "zst");
	for (size_t s = 0; s < NR_SIZES; s++) {
		assert_true(bale_codec_bound(sizes[s]) >= sizes[s]);
		assert_true(bale_codec_bound(sizes[s]) >=
			    ZSTD_compressBound(sizes[s]));
	}
}

static int setup(void **state)
{
	(void)state;
	return bale_engine_serial_create(&engines[0]) ||
	       bale_engine_cpu_create(1, &engines[1]) ||
	       bale_engine_cpu_create(3, &engines[2]);
}

static int teardown(void **state)
{
	(void)state;
	for (size_t e = 0; e < NR_ENGINES; e++)
		bale_engine_destroy(engines[e]);
	return 0;
}

/* A struct is a policy where a text says just that. */
static void policies_that_no_text_says_are_refused(void **state)
{
	unsigned int valid = 0;

	(void)state;
	for (int codec = -8; codec < 16; codec++) {
		for (int level = -40; level < 40; level++) {
			for (int filter = -4; filter < 16; filter++) {
				struct bale_codec_policy p,
					q = { (uint8_t)codec, (int8_t)level,
					      (uint8_t)filter };
				char text[64];
				bool said;

				bale_codec_policy_text(q, text, sizeof(text));
				said = !bale_codec_policy_parse(text, &p) &&
				       p.codec == q.codec &&
				       p.level == q.level &&
				       p.filter == q.filter;
				assert_int_equal(bale_codec_policy_valid(q),
						 said);
				valid += said;
			}
		}
	}
	assert_true(valid > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_content_policy_engine),
		cmocka_unit_test(nothing_is_raw),
		cmocka_unit_test(patterns_become_fills),
		cmocka_unit_test(zeros_of_any_length_are_a_fill),
		cmocka_unit_test(content_chooses_the_codec),
		cmocka_unit_test(probe_misses_nothing),
		cmocka_unit_test(lz4_units_are_plain_blocks),
		cmocka_unit_test(decodes_what_liblz4_made),
		cmocka_unit_test(zstd_is_a_plain_frame),
		cmocka_unit_test(frames_of_libzstd),
		cmocka_unit_test(damage_is_survived),
		cmocka_unit_test(wrong_jobs_are_refused),
		cmocka_unit_test(too_long_is_refused),
		cmocka_unit_test(without_memory),
		cmocka_unit_test(policies_parse_and_print),
		cmocka_unit_test(policies_that_no_text_says_are_refused),
		cmocka_unit_test(names_and_bounds),
	};

	return cmocka_run_group_tests_name("codec", tests, setup, teardown);
}
