/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_speed - what the codecs do with files on one core, beside the same
 * libraries called directly in the same run: MB/s of content (CPU time, best
 * of the passes, ours and theirs in turn) and ratio. Beside gdeflate it is
 * libdeflate at levels 1, 6 and 12, where that is installed: the same units,
 * plain DEFLATE. BALEFS_GDEFLATE_READER=scalar, avx2 or avx512 chooses who
 * decodes gdeflate.
 * usage: codec_speed [-e EXTENT_KIB] [-p PASSES] FILE...
 */
#include <lz4.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

#include "fs/codec/codec.h"

enum { FILE_MAX = 256 << 20 };

static size_t extent_len = BALE_EXTENT_DEFAULT;
static unsigned int nr_passes = 3;

struct extent {
	const uint8_t *raw;
	size_t raw_len;
	uint8_t *coded;
	size_t len;
	uint8_t codec;
	size_t unit_len[BALE_EXTENT_MAX / BALE_UNIT_SIZE]; /* direct */
};

/* Content, cut into extents, and room for what a coder makes of them. */
struct work {
	struct extent *extents;
	size_t nr, bytes, cap;
	uint8_t *back;
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	void *lz4;
#ifdef HAVE_LIBDEFLATE
	struct libdeflate_compressor *deflate[13]; /* by level */
	struct libdeflate_decompressor *inflate;
#endif
};

typedef void pass_fn(struct work *w, struct bale_codec_policy p);

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void encode_ours(struct work *w, struct bale_codec_policy p)
{
	for (size_t i = 0; i < w->nr; i++) {
		struct extent *e = &w->extents[i];
		struct bale_job job = {
			.op = BALE_JOB_ENCODE,
			.codec = p.codec,
			.level = p.level,
			.src = e->raw,
			.src_len = e->raw_len,
			.dst = e->coded,
			.dst_cap = w->cap,
		};

		bale_codec_run(&job);
		e->len = job.len;
		e->codec = job.ret_codec;
	}
}

static void decode_ours(struct work *w, struct bale_codec_policy p)
{
	(void)p;
	for (size_t i = 0; i < w->nr; i++) {
		struct extent *e = &w->extents[i];
		struct bale_job job = {
			.op = BALE_JOB_DECODE,
			.codec = e->codec,
			.src = e->codec == BALE_CODEC_raw ? e->raw : e->coded,
			.src_len = e->len,
			.dst = w->back,
			.dst_cap = e->raw_len,
		};

		bale_codec_run(&job);
		if (job.status ||
		    (i % 97 == 0 && memcmp(w->back, e->raw, e->raw_len) != 0)) {
			fprintf(stderr, "extent %zu does not decode\n", i);
			exit(1);
		}
	}
}

#ifdef HAVE_LIBDEFLATE
static size_t deflate_unit(struct work *w, int level, const uint8_t *raw,
			   size_t n, uint8_t *to, size_t cap)
{
	static const int levels[] = { 1, 6, 12 };
	int l = levels[level - 1];

	if (!w->deflate[l])
		w->deflate[l] = libdeflate_alloc_compressor(l);
	return libdeflate_deflate_compress(w->deflate[l], raw, n, to, cap);
}

static void inflate_unit(struct work *w, const uint8_t *coded, size_t len,
			 uint8_t *to, size_t n)
{
	if (libdeflate_deflate_decompress(w->inflate, coded, len, to, n,
					  NULL)) {
		fprintf(stderr, "libdeflate does not decode its own\n");
		exit(1);
	}
}

static bool has_deflate(void)
{
	return true;
}
#else
static size_t deflate_unit(struct work *w, int level, const uint8_t *raw,
			   size_t n, uint8_t *to, size_t cap)
{
	(void)w, (void)level, (void)raw, (void)n, (void)to, (void)cap;
	return 0;
}

static void inflate_unit(struct work *w, const uint8_t *coded, size_t len,
			 uint8_t *to, size_t n)
{
	(void)w, (void)coded, (void)len, (void)to, (void)n;
}

static bool has_deflate(void)
{
	return false;
}
#endif

static void encode_direct(struct work *w, struct bale_codec_policy p)
{
	for (size_t i = 0; i < w->nr; i++) {
		struct extent *e = &w->extents[i];

		e->len = 0;
		if (p.codec == BALE_CODEC_zstd) {
			e->len = ZSTD_compressCCtx(w->cctx, e->coded, w->cap,
						   e->raw, e->raw_len, p.level);
			continue;
		}
		for (size_t off = 0, u = 0; off < e->raw_len;
		     off += BALE_UNIT_SIZE, u++) {
			size_t n = e->raw_len - off;

			if (n > BALE_UNIT_SIZE)
				n = BALE_UNIT_SIZE;
			if (p.codec == BALE_CODEC_gdeflate)
				e->unit_len[u] = deflate_unit(
					w, p.level, e->raw + off, n,
					e->coded + e->len, w->cap - e->len);
			else
				e->unit_len[u] =
					(size_t)LZ4_compress_fast_extState(
						w->lz4,
						(const char *)e->raw + off,
						(char *)e->coded + e->len,
						(int)n, (int)(w->cap - e->len),
						1);
			e->len += e->unit_len[u];
		}
	}
}

static void decode_direct(struct work *w, struct bale_codec_policy p)
{
	for (size_t i = 0; i < w->nr; i++) {
		struct extent *e = &w->extents[i];
		size_t pos = 0;

		if (p.codec == BALE_CODEC_zstd) {
			ZSTD_decompressDCtx(w->dctx, w->back, e->raw_len,
					    e->coded, e->len);
			continue;
		}
		for (size_t off = 0, u = 0; off < e->raw_len;
		     off += BALE_UNIT_SIZE, u++) {
			size_t n = e->raw_len - off;

			if (n > BALE_UNIT_SIZE)
				n = BALE_UNIT_SIZE;
			if (p.codec == BALE_CODEC_gdeflate)
				inflate_unit(w, e->coded + pos, e->unit_len[u],
					     w->back + off, n);
			else
				LZ4_decompress_safe((char *)e->coded + pos,
						    (char *)w->back + off,
						    (int)e->unit_len[u],
						    (int)n);
			pos += e->unit_len[u];
		}
	}
}

static void copy(struct work *w, struct bale_codec_policy p)
{
	(void)p;
	for (size_t i = 0; i < w->nr; i++)
		memcpy(w->back, w->extents[i].raw, w->extents[i].raw_len);
}

static double mb_per_s(struct work *w, pass_fn *fn, struct bale_codec_policy p,
		       double best)
{
	uint64_t start = cpu_ns();
	double rate;

	fn(w, p);
	rate = (double)w->bytes * 1e3 / (double)(cpu_ns() - start + 1);
	return rate > best ? rate : best;
}

static double ratio(const struct work *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->nr; i++)
		n += w->extents[i].len;
	return (double)w->bytes / (double)n;
}

static void measure(struct work *w, const char *text)
{
	double rate[4] = { 0 }, r[2] = { 0 };
	struct bale_codec_policy p;
	bool direct;
	char shown[2][16] = { "-", "-" };

	if (bale_codec_policy_parse(text, &p)) {
		fprintf(stderr, "%s: no such policy\n", text);
		exit(1);
	}
	direct = p.codec == BALE_CODEC_lz4 || p.codec == BALE_CODEC_zstd ||
		 (p.codec == BALE_CODEC_gdeflate && p.level > 0 &&
		  has_deflate());
	for (unsigned int pass = 0; pass < nr_passes; pass++) {
		rate[0] = mb_per_s(w, encode_ours, p, rate[0]);
		r[0] = ratio(w);
		rate[1] = mb_per_s(w, decode_ours, p, rate[1]);
		if (!direct)
			continue;
		rate[2] = mb_per_s(w, encode_direct, p, rate[2]);
		r[1] = ratio(w);
		rate[3] = mb_per_s(w, decode_direct, p, rate[3]);
	}
	if (direct) {
		snprintf(shown[0], sizeof(shown[0]), "%.0f", rate[2]);
		snprintf(shown[1], sizeof(shown[1]), "%.0f", rate[3]);
	}
	printf("  %-11s %8.0f %8s %8.0f %8s %8.3f", text, rate[0], shown[0],
	       rate[1], shown[1], r[0]);
	if (direct)
		printf(" %8.3f", r[1]);
	printf("\n");
}

static void cut(struct work *w, const uint8_t *data, size_t len)
{
	w->bytes = len;
	w->nr = (len + extent_len - 1) / extent_len;
	w->cap = bale_codec_bound(extent_len) +
		 (size_t)LZ4_compressBound(BALE_UNIT_SIZE) - BALE_UNIT_SIZE;
	w->extents = calloc(w->nr, sizeof(*w->extents));
	w->back = malloc(extent_len);
	if (!w->extents || !w->back)
		die("memory");
	for (size_t i = 0; i < w->nr; i++) {
		struct extent *e = &w->extents[i];

		e->raw = data + i * extent_len;
		e->raw_len = len - i * extent_len;
		if (e->raw_len > extent_len)
			e->raw_len = extent_len;
		e->coded = malloc(w->cap);
		if (!e->coded)
			die("memory");
		/* Faults belong to nobody's pass. */
		memset(e->coded, 1, w->cap);
	}
}

static void measure_file(struct work *w, const char *path)
{
	static const char *const policies[] = {
		"lz4",	      "gdeflate:-1", "gdeflate:1",
		"gdeflate:2", "gdeflate:3",  "zstd:1",
		"zstd:3",     "zstd:9",	     "auto",
	};
	uint8_t *data = malloc(FILE_MAX);
	FILE *f = fopen(path, "rb");
	struct bale_codec_policy none = { 0 };
	size_t len;
	double rate = 0;

	if (!data || !f)
		die(path);
	len = fread(data, 1, FILE_MAX, f);
	fclose(f);
	cut(w, data, len);
	for (unsigned int pass = 0; pass < nr_passes; pass++)
		rate = mb_per_s(w, copy, none, rate);
	printf("%s: %zu bytes, copy %.0f MB/s\n", path, len, rate);
	printf("  %-11s %8s %8s %8s %8s %8s %8s\n", "policy", "encode",
	       "direct", "decode", "direct", "ratio", "direct");
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
		measure(w, policies[i]);
	for (size_t i = 0; i < w->nr; i++)
		free(w->extents[i].coded);
	free(w->extents);
	free(w->back);
	free(data);
}

int main(int argc, char **argv)
{
	struct work w = { .cctx = ZSTD_createCCtx(),
			  .dctx = ZSTD_createDCtx(),
			  .lz4 = malloc((size_t)LZ4_sizeofState()) };
	int c;

	while ((c = getopt(argc, argv, "e:p:")) != -1) {
		if (c == 'e')
			extent_len = strtoul(optarg, NULL, 10) << 10;
		else if (c == 'p')
			nr_passes = (unsigned int)strtoul(optarg, NULL, 10);
		else
			optind = argc;
	}
	if (optind == argc || !nr_passes || extent_len < BALE_EXTENT_MIN ||
	    extent_len > BALE_EXTENT_MAX) {
		fprintf(stderr,
			"usage: %s [-e EXTENT_KIB] [-p PASSES] FILE...\n",
			argv[0]);
		return 2;
	}
	if (!w.cctx || !w.dctx || !w.lz4)
		die("memory");
#ifdef HAVE_LIBDEFLATE
	w.inflate = libdeflate_alloc_decompressor();
	if (!w.inflate)
		die("memory");
#endif
	for (int i = optind; i < argc; i++)
		measure_file(&w, argv[i]);
#ifdef HAVE_LIBDEFLATE
	for (size_t i = 0; i < sizeof(w.deflate) / sizeof(w.deflate[0]); i++)
		libdeflate_free_compressor(w.deflate[i]);
	libdeflate_free_decompressor(w.inflate);
#endif
	free(w.lz4);
	ZSTD_freeDCtx(w.dctx);
	ZSTD_freeCCtx(w.cctx);
	return 0;
}
