/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs codec.txt (see there) on every engine: each vector with input and
 * output against a guard page above, then below, one by one and all in one
 * batch. usage: test_codec_vectors FILE
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/mem.h"
#include "fs/codec/codec.h"
#include "tests/support/guard.h"

enum { NR_ENGINES = 3, VECTORS_MAX = 1000, VECTORS_MIN = 100 };

struct vector {
	unsigned int line;
	int status;
	bool lax; /* or 0 with content */
	uint8_t codec;
	size_t raw_len;
	struct bale_buf stored, content;
};

static struct vector vectors[VECTORS_MAX];
static size_t nr_vectors;
static unsigned int nr_failed;

static void die(unsigned int line, const char *what)
{
	fprintf(stderr, "codec.txt:%u: %s\n", line, what);
	exit(2);
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *p;

	p = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
	return p ? (int)(p - digits) : -1;
}

/* HEX or HEX*N. */
static void append_token(struct bale_buf *b, const char *tok, unsigned int line)
{
	uint8_t bytes[64];
	size_t n = 0;
	unsigned long times = 1;

	if (!strcmp(tok, "-"))
		return;
	while (n < sizeof(bytes)) {
		int hi = hex_digit(tok[0]),
		    lo = hi < 0 ? -1 : hex_digit(tok[1]);

		if (lo < 0)
			break;
		bytes[n++] = (uint8_t)(hi * 16 + lo);
		tok += 2;
	}
	if (*tok == '*')
		times = strtoul(tok + 1, (char **)&tok, 10);
	if (*tok || !n || !times)
		die(line, "not hex");
	while (times--)
		if (bale_buf_append(b, bytes, n))
			die(line, "no memory");
}

static uint8_t parse_codec(const char *tok, unsigned int line)
{
	char *end;
	unsigned long id = strtoul(tok, &end, 10);

	if (!*end && id < 256)
		return (uint8_t)id;
	for (id = 0; id < BALE_CODEC_NR; id++)
		if (!strcmp(tok, bale_codec_name((unsigned int)id)))
			return (uint8_t)id;
	die(line, "no such codec");
	return 0;
}

static int parse_verdict(const char *tok, unsigned int line)
{
	if (!strcmp(tok, "ok"))
		return 0;
	if (!strcmp(tok, "bad") || !strcmp(tok, "lax"))
		return -EUCLEAN;
	if (!strcmp(tok, "unknown"))
		return -EOPNOTSUPP;
	die(line, "no such verdict");
	return 0;
}

static void parse_line(char *text, unsigned int line)
{
	struct vector *v = &vectors[nr_vectors];
	const char *tok[3];
	char *save, *next;
	struct bale_buf *to;

	tok[0] = strtok_r(text, " \t\n", &save);
	if (!tok[0] || *tok[0] == '#')
		return;
	tok[1] = strtok_r(NULL, " \t\n", &save);
	tok[2] = strtok_r(NULL, " \t\n", &save);
	if (!tok[1] || !tok[2] || nr_vectors == VECTORS_MAX)
		die(line, "a vector has four parts");
	v->line = line;
	v->status = parse_verdict(tok[0], line);
	v->lax = !strcmp(tok[0], "lax");
	v->codec = parse_codec(tok[1], line);
	v->raw_len = strtoul(tok[2], NULL, 10);
	to = &v->stored;
	while ((next = strtok_r(NULL, " \t\n", &save))) {
		if (!strcmp(next, "="))
			to = &v->content;
		else
			append_token(to, next, line);
	}
	if ((!v->status || v->lax) != (to == &v->content))
		die(line, "content belongs to what may be ok");
	if ((!v->status || v->lax) && v->content.len != v->raw_len)
		die(line, "content is not RAW_LEN long");
	nr_vectors++;
}

static void load(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t cap = 0;
	unsigned int line = 0;

	if (!f) {
		perror(path);
		exit(2);
	}
	while (getline(&text, &cap, f) > 0)
		parse_line(text, ++line);
	free(text);
	fclose(f);
}

static void check(const struct vector *v, const struct bale_job *job,
		  const char *engine)
{
	int want = v->lax && !job->status ? 0 : v->status;
	const char *what = NULL;

	if (job->status != want)
		what = "status";
	else if (job->len != (want ? 0 : v->raw_len))
		what = "length";
	else if (!want && v->raw_len &&
		 memcmp(job->dst, v->content.data, v->raw_len) != 0)
		what = "content";
	if (!what)
		return;
	fprintf(stderr, "codec.txt:%u: %s: wrong %s, status %d, want %d\n",
		v->line, engine, what, job->status, want);
	nr_failed++;
}

/* A job with buffers of its own; its guards are in g[0..1]. */
static struct bale_job make_job(const struct vector *v, struct guard g[2],
				bool high)
{
	uint8_t *(*place)(const struct guard *g, size_t len) =
		high ? guard_high : guard_low;
	struct bale_job job = {
		.op = BALE_JOB_DECODE,
		.codec = v->codec,
		.src_len = v->stored.len,
		.dst_cap = v->raw_len,
		.status = 1,
	};
	uint8_t *src;

	guard_init(&g[0], v->stored.len);
	guard_init(&g[1], v->raw_len);
	src = place(&g[0], v->stored.len);
	if (v->stored.len)
		memcpy(src, v->stored.data, v->stored.len);
	job.src = src;
	job.dst = place(&g[1], v->raw_len);
	return job;
}

static void run_all(struct bale_engine *e, bool high, bool one_batch)
{
	struct bale_job *jobs = calloc(nr_vectors, sizeof(*jobs));
	struct guard(*g)[2] = calloc(nr_vectors, sizeof(*g));

	if (!jobs || !g)
		die(0, "no memory");
	for (size_t i = 0; i < nr_vectors; i++)
		jobs[i] = make_job(&vectors[i], g[i], high);
	if (one_batch && bale_engine_run(e, jobs, nr_vectors))
		die(0, "submit");
	for (size_t i = 0; i < nr_vectors; i++) {
		if (!one_batch && bale_engine_run(e, &jobs[i], 1))
			die(0, "submit");
		check(&vectors[i], &jobs[i], e->ops->name);
		guard_fini(&g[i][0]);
		guard_fini(&g[i][1]);
	}
	free(g);
	free(jobs);
}

int main(int argc, char **argv)
{
	struct bale_engine *engines[NR_ENGINES];

	if (argc != 2) {
		fprintf(stderr, "usage: %s FILE\n", argv[0]);
		return 2;
	}
	load(argv[1]);
	if (nr_vectors < VECTORS_MIN)
		die(0, "vectors are missing");
	if (bale_engine_serial_create(&engines[0]) ||
	    bale_engine_cpu_create(1, &engines[1]) ||
	    bale_engine_cpu_create(4, &engines[2]))
		die(0, "no engine");
	for (size_t e = 0; e < NR_ENGINES; e++) {
		for (int how = 0; how < 4; how++)
			run_all(engines[e], how & 1, how & 2);
		bale_engine_destroy(engines[e]);
	}
	for (size_t i = 0; i < nr_vectors; i++) {
		bale_buf_fini(&vectors[i].stored);
		bale_buf_fini(&vectors[i].content);
	}
	printf("%zu vectors, %u failures\n", nr_vectors, nr_failed);
	return nr_failed ? 1 : 0;
}
