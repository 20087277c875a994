/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_recompress.c - code what is stored again, with another policy. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "balefs/ioctl.h"
#include "fs/base/mem.h"
#include "fs/codec/codec.h"
#include "tools/cmd.h"
#include "tools/recompress.h"

static const char usage[] =
	"usage: balefs recompress [--codec POLICY] PATH..\n"
	"       balefs recompress [--codec POLICY] --store STORE /PATH..\n"
	"\n"
	"Code files on a mount again; a PATH that is a directory stands for "
	"all\n"
	"files in it. Extents that are already as wanted are left alone. The\n"
	"files stay usable meanwhile; it can be interrupted at any time. What "
	"is\n"
	"written later follows the mount's or the file's own policy again.\n"
	"\n"
	"  -c, --codec POLICY  auto, raw, lz4, gdeflate[:LEVEL] (-1, 1 to 3) "
	"or\n"
	"                      zstd[:LEVEL] (-7 to 19); default auto; +FILTER\n"
	"                      after one that is no auto or raw: see the "
	"manual\n"
	"      --store STORE   the paths are in this store, which is not "
	"mounted\n"
	"      --gpu WHICH     with --store: auto, off, or numbers of devices: "
	"0+2;\n"
	"                      auto by default\n"
	"  -v, --verbose       a line for every file\n"
	"      --help          this text\n"
	"\n"
	"Exit status: 0 done, 1 something failed, 2 wrong call.\n";

static struct bale_recompress run; /* nftw() hands nothing on */

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

bool bale_recompress_stopped(void)
{
	return stopped;
}

int bale_recompress_failed(struct bale_recompress *r, const char *path, int err)
{
	bale_cmd_error("%s: %s", path,
		       err == ENOTTY ? "not on a balefs mount" : strerror(err));
	r->failed++;
	return 0;
}

/* Gone since its folder was listed: nothing to do. */
static bool has_vanished(const char *path, const struct FTW *ftw)
{
	struct stat st;

	return ftw->level > 0 && lstat(path, &st) && errno == ENOENT;
}

static int one_file(const char *path, const struct FTW *ftw)
{
	struct bale_ioc_recompress x = { .codec = run.policy.codec,
					 .level = run.policy.level,
					 .filter = run.policy.filter };
	bale_autoclose int fd =
		open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BALE_IOC_RECOMPRESS, &x)) {
		int err = errno;

		return has_vanished(path, ftw) ?
			       0 :
			       bale_recompress_failed(&run, path, err);
	}
	run.files++;
	run.before += x.before;
	run.after += x.after;
	if (run.verbose) {
		bale_print_name(stdout, path, strlen(path));
		printf(": %" PRIu64 " -> %" PRIu64 "\n", x.before, x.after);
	}
	return 0;
}

static int walk(const char *path, const struct stat *st, int flag,
		struct FTW *ftw)
{
	if (stopped)
		return 1;
	if (flag == FTW_DNR || flag == FTW_NS)
		return has_vanished(path, ftw) ?
			       0 :
			       bale_recompress_failed(&run, path, EACCES);
	return flag == FTW_F && S_ISREG(st->st_mode) ? one_file(path, ftw) : 0;
}

static void report(void)
{
	char before[BALE_SIZE_TEXT], after[BALE_SIZE_TEXT];

	printf("%" PRIu64 " files: %s -> %s\n", run.files,
	       bale_size_text(run.before, before),
	       bale_size_text(run.after, after));
}

static int recompress(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "codec", required_argument, NULL, 'c' },
		{ "store", required_argument, NULL, 's' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "gpu", required_argument, NULL, 'g' },
		{ 0 },
	};
	struct sigaction sa = { .sa_handler = on_signal };
	const char *store = NULL;
	int c;

	run.policy.codec = BALE_CODEC_auto;
	while ((c = getopt_long(argc, argv, ":c:v", longs, NULL)) != -1) {
		if (c == 'v')
			run.verbose = true;
		else if (c == 's')
			store = optarg;
		else if (c == 'g' && !bale_gpu_options_parse(optarg, &run.gpu))
			continue;
		else if (c == 'g')
			return bale_cmd_usage_error(
				cmd, "--gpu %s: want auto, off or 0+2", optarg);
		else if (c != 'c')
			return bale_cmd_bad_option(cmd, c, argv);
		else if (bale_codec_policy_parse(optarg, &run.policy))
			return bale_cmd_usage_error(cmd,
						    "--codec %s: not a policy "
						    "of this build",
						    optarg);
	}
	if (optind == argc)
		return bale_cmd_usage_error(cmd, "want a PATH");
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (store &&
	    bale_recompress_store(store, argv + optind, argc - optind, &run))
		return BALE_EXIT_FAILED;
	for (int k = optind; !store && k < argc && !stopped; k++)
		if (nftw(argv[k], walk, 32, FTW_PHYS | FTW_MOUNT) < 0)
			bale_recompress_failed(&run, argv[k], errno);
	report();
	return run.failed || stopped ? BALE_EXIT_FAILED : BALE_EXIT_OK;
}

const struct bale_cmd bale_cmd_recompress = {
	.name = "recompress",
	.summary = "code files again with another codec",
	.usage = usage,
	.fn = recompress,
};
