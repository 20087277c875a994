/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_stats.c - figures of a store, a mount, a directory or a file. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/store/store.h"
#include "tools/cmd.h"
#include "tools/stats.h"

static const char usage[] =
	"usage: balefs stats [--json | --prometheus] STORE | MOUNTPOINT | "
	"PATH\n"
	"\n"
	"STORE: sizes, ratio, rows per codec, why extents are raw, space. It "
	"must\n"
	"not be mounted for writing; when it is, ask its mount point.\n"
	"MOUNTPOINT: space, cache, engine, and what was written since the "
	"mount.\n"
	"PATH on a mount: the same of a file, or of everything in a "
	"directory.\n"
	"\n"
	"  -j, --json        as JSON\n"
	"      --prometheus  as Prometheus text (node_exporter's textfile "
	"form)\n"
	"      --help        this text\n"
	"\n"
	"Exit status: 0 printed, 1 failed, 2 wrong call.\n";

static int collect(const char *path, struct bale_stats *s)
{
	char holder[128];
	int r = bale_stats_of_path(path, s);

	if (r != -ENOTTY)
		return r;
	if (!bale_store_holder(path, holder, sizeof(holder))) {
		bale_cmd_error("%s: in use by %s: ask its mount point", path,
			       holder);
		return -EBUSY;
	}
	return bale_stats_of_store(path, s);
}

static int stats(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "prometheus", no_argument, NULL, 'p' },
		{ 0 },
	};
	struct bale_stats s = { 0 };
	int c, form = 0, r;

	while ((c = getopt_long(argc, argv, ":j", longs, NULL)) != -1) {
		if (c != 'j' && c != 'p')
			return bale_cmd_bad_option(cmd, c, argv);
		if (form && form != c)
			return bale_cmd_usage_error(
				cmd, "only one of --json and --prometheus");
		form = c;
	}
	if (argc - optind != 1)
		return bale_cmd_usage_error(cmd, "want one path, got %d",
					    argc - optind);
	bale_log_set_level(BALE_LOG_WARN);
	r = collect(argv[optind], &s);
	if (r) {
		if (r != -EBUSY && r != -EINVAL && r != -EOPNOTSUPP &&
		    r != -EUCLEAN && r != -EBADMSG) /* told already */
			bale_cmd_error("%s: %s", argv[optind],
				       r == -ENOENT ? strerror(ENOENT) :
						      bale_cmd_strerror(r));
		return BALE_EXIT_FAILED;
	}
	if (form == 'j')
		bale_stats_print_json(&s);
	else if (form == 'p')
		bale_stats_print_prometheus(&s);
	else
		bale_stats_print(&s);
	return BALE_EXIT_OK;
}

const struct bale_cmd bale_cmd_stats = {
	.name = "stats",
	.summary = "sizes, ratios and rates",
	.usage = usage,
	.fn = stats,
};
