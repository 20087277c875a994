/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_mkfs.c - make a store. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "fs/base/mem.h"
#include "fs/codec/codec.h"
#include "fs/store/store.h"
#include "tools/cmd.h"

static const char usage[] =
	"usage: mkfs.balefs [-o OPTION[,OPTION..]] [--force] STORE\n"
	"       balefs mkfs ...\n"
	"\n"
	"Make a store in the directory STORE, which must be empty or missing.\n"
	"\n"
	"  -o, --options LIST  comma-separated:\n"
	"        extent=SIZE     slice of a file that is compressed as one:\n"
	"                        64K to 4M, a power of two (default 128K)\n"
	"        segment=SIZE    file that compressed data is appended to:\n"
	"                        1M to 2G, a power of two (default 256M)\n"
	"        log=SIZE        one file of the log: 1M to 256M, a power of "
	"two\n"
	"        codec=POLICY    auto, raw, lz4, gdeflate[:LEVEL] (-1, 1 to "
	"3) or\n"
	"                        zstd[:LEVEL] (-7 to 19); default auto;\n"
	"                        +FILTER after one that is no auto or raw: "
	"see\n"
	"                        the manual\n"
	"        label=TEXT      a name, at most 64 bytes\n"
	"  -L, --label TEXT    the same as -o label=TEXT\n"
	"  -f, --force         destroy the store that is in STORE\n"
	"  -q, --quiet         print nothing when it went well\n"
	"      --help          this text\n"
	"\n"
	"SIZE takes K, M, G. Exit status: 0 made, 1 failed, 2 wrong call.\n";

struct bits_option {
	const char *name;
	unsigned int min, max;
};
static const struct bits_option extent_option = { "extent", 16, 22 };
static const struct bits_option segment_option = { "segment", 20, 31 };
static const struct bits_option log_option = { "log", 20, 28 };

static int parse_bits(const struct bale_cmd *cmd, const struct bits_option *o,
		      const char *text, uint8_t *ret)
{
	char lo[BALE_SIZE_TEXT], hi[BALE_SIZE_TEXT];
	uint64_t size;

	if (!bale_size_parse(text, &size))
		for (unsigned int bits = o->min; bits <= o->max; bits++)
			if (size == (uint64_t)1 << bits) {
				*ret = (uint8_t)bits;
				return 0;
			}
	return bale_cmd_usage_error(cmd, "%s=%s: want a power of two, %s to %s",
				    o->name, text,
				    bale_size_text((uint64_t)1 << o->min, lo),
				    bale_size_text((uint64_t)1 << o->max, hi));
}

static int parse_codec(const struct bale_cmd *cmd, const char *text,
		       struct bale_mkfs_options *o)
{
	struct bale_codec_policy p;
	int r = bale_codec_policy_parse(text, &p);

	if (r == -EOPNOTSUPP)
		return bale_cmd_usage_error(
			cmd, "codec=%s: this build has no encoder for it",
			text);
	if (r)
		return bale_cmd_usage_error(
			cmd,
			"codec=%s: want auto, raw, lz4, gdeflate[:LEVEL] "
			"or zstd[:LEVEL], maybe +FILTER",
			text);
	o->codec = p.codec;
	o->level = p.level;
	o->filter = p.filter;
	return 0;
}

static int parse_label(const struct bale_cmd *cmd, const char *text,
		       struct bale_mkfs_options *o)
{
	if (strlen(text) > BALE_LABEL_MAX)
		return bale_cmd_usage_error(cmd, "label: %zu bytes, at most %d",
					    strlen(text), BALE_LABEL_MAX);
	o->label = text;
	return 0;
}

static int parse_list(const struct bale_cmd *cmd, char *list,
		      struct bale_mkfs_options *o)
{
	char *key, *value;
	int r = 0;

	while (!r && bale_option_next(&list, &key, &value)) {
		if (!value)
			return bale_cmd_usage_error(cmd,
						    "option %s: unknown, or"
						    " its value is missing",
						    key);
		if (!strcmp(key, "extent"))
			r = parse_bits(cmd, &extent_option, value,
				       &o->extent_bits);
		else if (!strcmp(key, "segment"))
			r = parse_bits(cmd, &segment_option, value,
				       &o->segment_bits);
		else if (!strcmp(key, "log"))
			r = parse_bits(cmd, &log_option, value, &o->log_bits);
		else if (!strcmp(key, "codec"))
			r = parse_codec(cmd, value, o);
		else if (!strcmp(key, "label"))
			r = parse_label(cmd, value, o);
		else
			r = bale_cmd_usage_error(cmd, "unknown option %s", key);
	}
	return r;
}

static int make(const char *path, const struct bale_mkfs_options *o)
{
	char holder[128];
	int r;

	if (!bale_store_holder(path, holder, sizeof(holder))) {
		bale_cmd_error("%s: in use by %s", path, holder);
		return BALE_EXIT_FAILED;
	}
	r = bale_store_mkfs(path, o);
	if (r == -ENOTEMPTY)
		bale_cmd_error("%s: not empty%s", path,
			       o->force ?
				       " and not a store" :
				       "; --force replaces an existing store");
	else if (r == -ENOENT)
		bale_cmd_error("%s: the directory above it does not exist",
			       path);
	else if (r)
		bale_cmd_error("%s: %s", path, strerror(-r));
	return r ? BALE_EXIT_FAILED : BALE_EXIT_OK;
}

static void report(const char *path, const struct bale_mkfs_options *o)
{
	struct bale_codec_policy p = { .codec = o->codec,
				       .level = o->level,
				       .filter = o->filter };
	char codec[32], extent[BALE_SIZE_TEXT], segment[BALE_SIZE_TEXT];

	bale_codec_policy_text(p, codec, sizeof(codec));
	printf("%s: store made, extent %s, segment %s, codec %s\n", path,
	       bale_size_text((uint64_t)1 << o->extent_bits, extent),
	       bale_size_text((uint64_t)1 << o->segment_bits, segment), codec);
}

static int mkfs(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "options", required_argument, NULL, 'o' },
		{ "label", required_argument, NULL, 'L' },
		{ "force", no_argument, NULL, 'f' },
		{ "quiet", no_argument, NULL, 'q' },
		{ 0 },
	};
	struct bale_mkfs_options o = { .size = sizeof(o),
				       .extent_bits = 17,
				       .segment_bits = 28,
				       .codec = BALE_CODEC_auto };
	bool quiet = false;
	int c, r = 0;

	while (!r &&
	       (c = getopt_long(argc, argv, ":o:L:fq", longs, NULL)) != -1) {
		if (c == 'o')
			r = parse_list(cmd, optarg, &o);
		else if (c == 'L')
			r = parse_label(cmd, optarg, &o);
		else if (c == 'f')
			o.force = true;
		else if (c == 'q')
			quiet = true;
		else
			r = bale_cmd_bad_option(cmd, c, argv);
	}
	if (r)
		return r;
	if (argc - optind != 1)
		return bale_cmd_usage_error(cmd, "want one STORE, got %d",
					    argc - optind);
	/* An extent and its bale's header must fit a segment several times. */
	if (o.extent_bits + 2 > o.segment_bits)
		return bale_cmd_usage_error(
			cmd, "segment must be at least four extents");
	r = make(argv[optind], &o);
	if (!r && !quiet)
		report(argv[optind], &o);
	return r;
}

const struct bale_cmd bale_cmd_mkfs = {
	.name = "mkfs",
	.summary = "make a store",
	.usage = usage,
	.fn = mkfs,
};
