/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_salvage.c - copy out of a store all that can be read, with a list of
 * what cannot. The store is only read. It may have been made by anybody:
 * nothing is written outside the directory given, whatever its names, links
 * and numbers say (salvage_out.c).
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "tools/cmd.h"
#include "tools/salvage.h"

enum { EXIT_DAMAGED = 4 };

static const char usage[] =
	"usage: balefs salvage [OPTION..] STORE DIRECTORY\n"
	"\n"
	"Copy everything that can be read from STORE, which must not be "
	"mounted\n"
	"for writing, into DIRECTORY, which is made. What cannot be read is\n"
	"listed; a file with a part missing gets \".damaged\" behind its name\n"
	"and a hole in place of the part. Set-id bits, device nodes and\n"
	"attributes outside user.* are not copied.\n"
	"\n"
	"  -i, --use-index  go by the index found, not by one made of the log: "
	"it may\n"
	"                   have more where the log is damaged; for one's own "
	"store\n"
	"  -n, --no-owner   files belong to the caller (always so but for "
	"root)\n"
	"  -v, --verbose    a line for every file\n"
	"      --help       this text\n"
	"\n"
	"When log and checkpoints are lost and it cannot be opened at all,\n"
	"fsck.balefs --salvage first makes a new store of what segments hold.\n"
	"\n"
	"Exit status: 0 all was copied, 1 failed, 2 wrong call, 4 something "
	"is\n"
	"missing.\n";

/* As good as it gets: the log (or the index, which LMDB believes, where that is
 * wanted), else the log up to where it is damaged. */
static int open_store(const char *store, bool use_index, struct bale_fs **ret)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .read_only = true,
				     .untrusted = !use_index };
	char holder[128];
	int r;

	if (!bale_store_holder(store, holder, sizeof(holder)) &&
	    strcmp(holder, "a read-only user")) {
		bale_cmd_error("%s: in use by %s", store, holder);
		return -EBUSY;
	}
	r = bale_fs_open(store, &o, ret);
	if (r == -EUCLEAN || r == -EBADMSG || r == -EIO) {
		o.salvage = true;
		r = bale_fs_open(store, &o, ret);
		if (!r)
			printf("%s: the log is damaged: this is an earlier "
			       "state%s\n",
			       store,
			       use_index ? "" : "; --use-index may find more");
	}
	if (r)
		bale_cmd_error("%s: %s%s", store, bale_cmd_strerror(r),
			       r == -EUCLEAN || r == -EBADMSG ?
				       ": see fsck.balefs --salvage" :
				       "");
	return r;
}

static int salvage(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "use-index", no_argument, NULL, 'i' },
		{ "no-owner", no_argument, NULL, 'n' },
		{ "verbose", no_argument, NULL, 'v' },
		{ 0 },
	};
	struct bale_salvage s = { .owners = geteuid() == 0 };
	const char *store, *dir;
	bool use_index = false;
	int c, r;

	while ((c = getopt_long(argc, argv, ":inv", longs, NULL)) != -1) {
		if (c == 'i')
			use_index = true;
		else if (c == 'n')
			s.owners = false;
		else if (c == 'v')
			s.verbose = true;
		else
			return bale_cmd_bad_option(cmd, c, argv);
	}
	if (argc - optind != 2)
		return bale_cmd_usage_error(cmd, "want STORE and DIRECTORY");
	store = argv[optind];
	dir = argv[optind + 1];
	bale_log_set_level(BALE_LOG_ERR);
	if (open_store(store, use_index, &s.fs))
		return BALE_EXIT_FAILED;
	r = bale_salvage_tree(&s, dir);
	bale_fs_close(s.fs);
	if (r)
		bale_cmd_error("%s: %s", dir, strerror(-r));
	printf("%s: %" PRIu64 " copied, %" PRIu64 " damaged, %" PRIu64
	       " left out\n",
	       store, s.copied, s.damaged, s.left_out);
	if (r)
		return BALE_EXIT_FAILED;
	return s.damaged || s.left_out ? EXIT_DAMAGED : BALE_EXIT_OK;
}

const struct bale_cmd bale_cmd_salvage = {
	.name = "salvage",
	.summary = "copy out of a store all that can be read",
	.usage = usage,
	.fn = salvage,
};
