/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_bench.c - what codecs and engines do with the user's own files: options,
 * the order of things, and where results go.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/codec/codec.h"
#include "tools/bench.h"
#include "tools/cmd.h"

static const char usage[] =
	"usage: balefs bench [OPTION..] PATH..\n"
	"\n"
	"Code the files at and below PATH in every way and print throughput, "
	"ratio\n"
	"and CPU time. Everything is decoded and compared, and what each "
	"engine\n"
	"encodes is decoded by every other; a difference is exit status 1.\n"
	"\n"
	"  -c, --codec LIST    policies (default: all codecs of this build)\n"
	"  -e, --engine LIST   cpu, serial, gpu, or fake, a device for tests\n"
	"                      (default: cpu, and gpu when there is one)\n"
	"  -x, --extent LIST   extent sizes (128K)\n"
	"  -b, --batch LIST    bytes handed to an engine at once\n"
	"                      (1M,8M,32M,128M)\n"
	"  -s, --size SIZE     read at most this much, into memory (128M)\n"
	"  -t, --threads N     of the cpu engine (as many as cores)\n"
	"      --in-flight N   batches with the engine at a time (1)\n"
	"  -p, --passes N      the median of N passes (5)\n"
	"      --seconds N     end a measurement early after this (2)\n"
	"  -w, --work DIR      measure through a mount too: of a store in a "
	"new\n"
	"                      directory in DIR, removed afterwards\n"
	"      --streams N     files written and read at a time there (8)\n"
	"      --csv FILE      the rows as CSV\n"
	"      --svg FILE      plots: throughput by batch size, ratio by\n"
	"                      throughput\n"
	"  -j, --json          print JSON, not a table\n"
	"  -v, --verbose       rows on standard error as they come\n"
	"      --help          this text\n"
	"\n"
	"Lists are comma-separated; a FILE of - is standard output.\n"
	"Exit status: 0 done, 1 something failed, 2 wrong call.\n";

enum { PASSES_MAX = 64, THREADS_MAX = 1024 };

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

bool bale_bench_stopped(void)
{
	return stopped;
}

int bale_bench_add(struct bale_bench *b, const struct bale_bench_row *row)
{
	if (b->nr_rows == b->cap_rows) {
		size_t cap = b->cap_rows ? 2 * b->cap_rows : 64;
		struct bale_bench_row *p = realloc(b->rows, cap * sizeof(*p));

		if (!p) {
			bale_cmd_error("no memory for results");
			return -ENOMEM;
		}
		b->rows = p;
		b->cap_rows = cap;
	}
	if (b->progress) {
		if (!b->nr_rows)
			bale_bench_table_head(stderr);
		bale_bench_table_row(stderr, row);
	}
	b->rows[b->nr_rows++] = *row;
	return 0;
}

/* ---- the command line ---- */

struct bench_call {
	struct bale_bench b;
	char *codecs, *engines, *extents, *batches; /* as given, or NULL */
	const char *csv, *svg;
	uint64_t size;
	bool json;
	char work[PATH_MAX];
};

static int parse_codecs(const struct bale_cmd *cmd, struct bench_call *c)
{
	char *list = c->codecs, *key;

	for (key = list ? strsep(&list, ",") : NULL; key;
	     key = strsep(&list, ",")) {
		if (c->b.nr_codecs == BALE_BENCH_LIST)
			return bale_cmd_usage_error(cmd,
						    "--codec: more than "
						    "%d policies",
						    BALE_BENCH_LIST);
		if (bale_codec_policy_parse(key, &c->b.codecs[c->b.nr_codecs]))
			return bale_cmd_usage_error(cmd,
						    "--codec %s: not a policy "
						    "of this build",
						    key);
		c->b.nr_codecs++;
	}
	return 0;
}

/* What this build has of these. */
static void default_codecs(struct bale_bench *b)
{
	static const char *const texts[] = { "lz4",	   "gdeflate:1",
					     "gdeflate:2", "gdeflate:3",
					     "zstd:1",	   "zstd:3",
					     "zstd:9" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		b->nr_codecs += !bale_codec_policy_parse(
			texts[i], &b->codecs[b->nr_codecs]);
}

static int parse_sizes(const struct bale_cmd *cmd, const char *option,
		       char *list, size_t *ret, size_t *ret_nr, uint64_t min,
		       uint64_t max)
{
	for (char *key = strsep(&list, ","); key; key = strsep(&list, ",")) {
		uint64_t v;

		if (*ret_nr == BALE_BENCH_LIST)
			return bale_cmd_usage_error(cmd,
						    "%s: more than %d values",
						    option, BALE_BENCH_LIST);
		if (bale_size_parse(key, &v) || v < min || v > max)
			return bale_cmd_usage_error(cmd,
						    "%s %s: not a size "
						    "from %" PRIu64
						    " to %" PRIu64,
						    option, key, min, max);
		ret[(*ret_nr)++] = (size_t)v;
	}
	return 0;
}

static int check_extents(const struct bale_cmd *cmd, const struct bale_bench *b)
{
	for (size_t i = 0; i < b->nr_extents; i++)
		if (b->extents[i] & (b->extents[i] - 1))
			return bale_cmd_usage_error(
				cmd, "--extent %zu: not a power of two",
				b->extents[i]);
	return 0;
}

static int parse_lists(const struct bale_cmd *cmd, struct bench_call *c)
{
	static const size_t batches[] = { 1 << 20, 8 << 20, 32 << 20,
					  128 << 20 };
	int r = parse_codecs(cmd, c);

	if (!r && c->extents)
		r = parse_sizes(cmd, "--extent", c->extents, c->b.extents,
				&c->b.nr_extents, BALE_EXTENT_MIN,
				BALE_EXTENT_MAX);
	if (!r && c->batches)
		r = parse_sizes(cmd, "--batch", c->batches, c->b.batches,
				&c->b.nr_batches, BALE_EXTENT_MIN,
				(uint64_t)1 << 40);
	if (r)
		return r;
	if (!c->b.nr_codecs)
		default_codecs(&c->b);
	if (!c->b.nr_extents)
		c->b.extents[c->b.nr_extents++] = BALE_EXTENT_DEFAULT;
	for (size_t i = 0; !c->batches && i < 4; i++)
		c->b.batches[c->b.nr_batches++] = batches[i];
	return check_extents(cmd, &c->b);
}

/* A whole number from 1 to max; 0, or the usage status. */
static int parse_count(const struct bale_cmd *cmd, const char *option,
		       const char *text, unsigned int max, unsigned int *ret)
{
	uint64_t v;

	if (bale_number_parse(text, &v) || !v || v > max)
		return bale_cmd_usage_error(cmd, "%s %s: not 1 to %u", option,
					    text, max);
	*ret = (unsigned int)v;
	return 0;
}

enum { OPT_IN_FLIGHT = 256, OPT_SECONDS, OPT_STREAMS, OPT_CSV, OPT_SVG };

static int one_number(const struct bale_cmd *cmd, struct bench_call *c, int got)
{
	unsigned int v = 0;
	int r;

	switch (got) {
	case 't':
		return parse_count(cmd, "--threads", optarg, THREADS_MAX,
				   &c->b.threads);
	case 'p':
		return parse_count(cmd, "--passes", optarg, PASSES_MAX,
				   &c->b.passes);
	case OPT_IN_FLIGHT:
		return parse_count(cmd, "--in-flight", optarg, 256,
				   &c->b.in_flight);
	case OPT_STREAMS:
		return parse_count(cmd, "--streams", optarg, 256,
				   &c->b.streams);
	default:
		r = parse_count(cmd, "--seconds", optarg, 3600, &v);
		c->b.seconds = v;
		return r;
	}
}

static int one_option(const struct bale_cmd *cmd, struct bench_call *c, int got,
		      char **argv)
{
	switch (got) {
	case 'c':
		c->codecs = optarg;
		return 0;
	case 'e':
		c->engines = optarg;
		return 0;
	case 'x':
		c->extents = optarg;
		return 0;
	case 'b':
		c->batches = optarg;
		return 0;
	case 'w':
		c->b.work = optarg;
		return 0;
	case 'j':
		c->json = true;
		return 0;
	case 'v':
		c->b.progress = true;
		return 0;
	case OPT_CSV:
		c->csv = optarg;
		return 0;
	case OPT_SVG:
		c->svg = optarg;
		return 0;
	case 's':
		if (bale_size_parse(optarg, &c->size) || !c->size ||
		    c->size > SIZE_MAX / 8)
			return bale_cmd_usage_error(
				cmd, "--size %s: not a size", optarg);
		return 0;
	case '?':
	case ':':
		return bale_cmd_bad_option(cmd, got, argv);
	default:
		return one_number(cmd, c, got);
	}
}

static int parse(const struct bale_cmd *cmd, struct bench_call *c, int argc,
		 char **argv)
{
	static const struct option longs[] = {
		{ "codec", required_argument, NULL, 'c' },
		{ "engine", required_argument, NULL, 'e' },
		{ "extent", required_argument, NULL, 'x' },
		{ "batch", required_argument, NULL, 'b' },
		{ "size", required_argument, NULL, 's' },
		{ "threads", required_argument, NULL, 't' },
		{ "in-flight", required_argument, NULL, OPT_IN_FLIGHT },
		{ "passes", required_argument, NULL, 'p' },
		{ "seconds", required_argument, NULL, OPT_SECONDS },
		{ "work", required_argument, NULL, 'w' },
		{ "streams", required_argument, NULL, OPT_STREAMS },
		{ "csv", required_argument, NULL, OPT_CSV },
		{ "svg", required_argument, NULL, OPT_SVG },
		{ "json", no_argument, NULL, 'j' },
		{ "verbose", no_argument, NULL, 'v' },
		{ 0 },
	};
	int got, status = 0;

	c->size = 128 << 20;
	c->b.passes = 5;
	c->b.seconds = 2;
	c->b.streams = 8;
	c->b.in_flight = 1;
	while (!status && (got = getopt_long(argc, argv, ":c:e:x:b:s:t:p:w:jv",
					     longs, NULL)) != -1)
		status = one_option(cmd, c, got, argv);
	if (!status && optind == argc)
		status = bale_cmd_usage_error(cmd, "want a PATH");
	return status ? status : parse_lists(cmd, c);
}

/* ---- the whole ---- */

static int write_file(const char *path, const struct bale_bench *b,
		      void (*write)(FILE *f, const struct bale_bench *b))
{
	bool to_stdout = !strcmp(path, "-");
	FILE *f = to_stdout ? stdout : fopen(path, "we");
	int failed;

	if (f) {
		write(f, b);
		failed = to_stdout ? 0 : ferror(f) | fclose(f);
		if (!failed)
			return 0;
	}
	bale_cmd_error("%s: %s", path, strerror(errno));
	return BALE_EXIT_FAILED;
}

static int report(const struct bench_call *c)
{
	int status = 0;

	if (c->json)
		bale_bench_json(stdout, &c->b);
	else if ((!c->csv || strcmp(c->csv, "-")) &&
		 (!c->svg || strcmp(c->svg, "-")))
		bale_bench_table(stdout, &c->b);
	if (c->csv)
		status |= write_file(c->csv, &c->b, bale_bench_csv);
	if (c->svg)
		status |= write_file(c->svg, &c->b, bale_bench_svg);
	return status;
}

/* Batches larger than the data are the data; keep one of them. */
static void cut_batches(struct bale_bench *b)
{
	size_t nr = 0;

	for (size_t i = 0; i < b->nr_batches; i++)
		if (!i || b->batches[i - 1] < b->data.len ||
		    b->batches[i] <= b->data.len)
			b->batches[nr++] = b->batches[i];
	b->nr_batches = nr;
}

static int measure(struct bench_call *c)
{
	int r = bale_bench_pairs(&c->b);

	if (!r)
		r = bale_bench_kernels(&c->b);
	if (!r)
		r = bale_bench_engines(&c->b);
	if (!r && c->b.work)
		r = bale_bench_mounts(&c->b);
	return r;
}

static int run(const struct bale_cmd *cmd, struct bench_call *c, char **paths,
	       int nr)
{
	int status = bale_bench_open(cmd, &c->b, c->engines), r;
	uint64_t wrong;

	if (status)
		return status;
	if (c->b.work) {
		if (!realpath(c->b.work, c->work)) {
			bale_cmd_error("%s: %s", c->b.work, strerror(errno));
			return BALE_EXIT_FAILED;
		}
		c->b.work = c->work;
	}
	if (bale_bench_read(&c->b.data, paths, nr, c->size))
		return BALE_EXIT_FAILED;
	cut_batches(&c->b);
	r = measure(c);
	if (r) {
		if (stopped)
			bale_cmd_error("interrupted");
		return BALE_EXIT_FAILED;
	}
	status = report(c);
	wrong = c->b.wrong_pairs;
	for (size_t i = 0; i < c->b.nr_rows; i++)
		wrong += c->b.rows[i].wrong;
	if (wrong)
		bale_cmd_error("something decoded to other bytes");
	return status || wrong ? BALE_EXIT_FAILED : BALE_EXIT_OK;
}

static int bench(const struct bale_cmd *cmd, int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	bale_autofree struct bench_call *c = calloc(1, sizeof(*c));
	int status;

	if (!c)
		return BALE_EXIT_FAILED;
	status = parse(cmd, c, argc, argv);
	if (status)
		return status;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	bale_log_set_level(BALE_LOG_WARN);
	status = run(cmd, c, argv + optind, argc - optind);
	bale_bench_close(&c->b);
	bale_bench_data_fini(&c->b.data);
	free(c->b.rows);
	return status;
}

const struct bale_cmd bale_cmd_bench = {
	.name = "bench",
	.summary = "measure codecs and engines with your files",
	.usage = usage,
	.fn = bench,
};
