/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_fsck.c - check and repair a store: options, order of the passes, exit
 * status. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

static const char usage[] =
	"usage: fsck.balefs [-n | -p | -y] [-f] [--deep] [--rebuild-index] "
	"STORE\n"
	"       fsck.balefs --salvage NEWSTORE STORE\n"
	"       balefs fsck ...\n"
	"\n"
	"Check a store that is not mounted. Nothing is written unless -p or "
	"-y\n"
	"says so.\n"
	"\n"
	"  -n, --no             only check (the default)\n"
	"  -p, --preen          mend what can be mended without losing "
	"anything\n"
	"  -a                   the same as -p\n"
	"  -y, --yes            mend everything that can be mended\n"
	"  -f, --force          check even when -p finds the store cleanly "
	"closed\n"
	"      --deep           read and decode every extent\n"
	"      --gpu WHICH      for that: auto, off, or numbers of devices: 0+2;\n"
	"                       auto, the default, is for 1 GiB of content or more\n"
	"      --rebuild-index  build the index anew from checkpoint and log\n"
	"      --salvage NEWSTORE\n"
	"                       log, checkpoints and index are lost: make "
	"NEWSTORE\n"
	"                       and put every file found in the segments of "
	"STORE\n"
	"                       into its /lost+found, named by inode number; "
	"STORE\n"
	"                       is only read\n"
	"      --json           report as JSON\n"
	"  -q, --quiet          no progress on the terminal\n"
	"      --help           this text\n"
	"\n"
	"Exit status: 0 no problems, 1 problems mended, 4 problems left, 8 "
	"could\n"
	"not check, 16 wrong call, 32 interrupted (added up).\n";

enum { OPT_DEEP = 256, OPT_REBUILD, OPT_SALVAGE, OPT_JSON, OPT_GPU };

static int operational(struct bale_fsck *f, int r)
{
	if (r == -ECANCELED)
		return BALE_FSCK_CANCELLED;
	if (f->newer)
		bale_cmd_error("%s: features of a newer version: 0x%" PRIx64,
			       f->path, f->newer);
	else
		bale_cmd_error("%s: %s", f->path, bale_cmd_strerror(r));
	return BALE_FSCK_ERROR;
}

static int raw_checks(struct bale_fsck *f)
{
	struct bale_io *io;
	int r = bale_io_open(f->path, true, &io);

	if (r)
		return r;
	r = bale_fsck_super(f, io);
	if (!r)
		r = bale_fsck_log(f, io);
	bale_io_close(io);
	return r;
}

/* The store opens neither by its index nor by its log. */
static int index_or_cut(struct bale_fsck *f)
{
	int r = bale_fsck_index(f);

	if (r == -ECANCELED || !r || !f->log_damaged)
		return r;
	if (!bale_fsck_mends(f, BALE_FSCK_log)) {
		bale_cmd_error("%s: changes after 0x%" PRIx64 " of the log "
			       "cannot be read; -y gives them up",
			       f->path, f->log_end);
		return r;
	}
	r = bale_fsck_log_cut(f);
	/* Of what is left, also where a checkpoint says that it needs more. */
	f->want_rebuild = !r;
	return r;
}

static int open_store(struct bale_fsck *f, bool rebuild)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = !f->preen && !f->yes,
					.manual_commit = true };
	int r;

	o.rebuild_index = !o.read_only && rebuild;
	o.untrusted = o.read_only && rebuild;
	r = bale_store_open(f->path, &o, &f->st);
	f->m = r ? NULL : bale_store_meta(f->st);
	return r;
}

int bale_fsck_reopen(struct bale_fsck *f)
{
	int r = bale_store_close(f->st);

	f->st = NULL;
	return r ? r : open_store(f, false);
}

static int passes(struct bale_fsck *f)
{
	static int (*const pass[])(struct bale_fsck *) = {
		bale_fsck_load,	   bale_fsck_maps,     bale_fsck_small,
		bale_fsck_names,   bale_fsck_reach,    bale_fsck_inodes,
		bale_fsck_extents, bale_fsck_segments, bale_fsck_data,
	};
	int r = 0;

	for (size_t k = 0; k < sizeof(pass) / sizeof(pass[0]) && !r; k++) {
		r = pass[k](f);
		if (!r)
			r = bale_fsck_inode_merge(f);
		bale_fsck_phase_end(f);
	}
	return r;
}

static int finish_repairs(struct bale_fsck *f)
{
	int r = 0;

	if (!f->preen && !f->yes)
		return 0;
	r = bale_meta_sync(f->m, 0);
	/* What was damaged in the log is needed no more after this. */
	if (!r && (f->want_checkpoint || f->log_damaged))
		r = bale_meta_checkpoint(f->m);
	return r ? r : bale_fsck_drop_ckpts(f);
}

static int check_open_store(struct bale_fsck *f)
{
	int r, c;

	if (f->rebuild && f->index_only)
		bale_cmd_error("%s: the index is kept: log and checkpoints do "
			       "not have all of it",
			       f->path);
	r = open_store(f, f->want_rebuild || (f->rebuild && !f->index_only));

	if (r)
		return r;
	r = bale_fsck_super_mend(f);
	if (!r)
		r = passes(f);
	if (!r)
		r = finish_repairs(f);
	if (f->json)
		bale_json_end(&f->js);
	if (f->json)
		bale_json_array(&f->js, "damaged");
	if (!r)
		r = bale_fsck_report_damage(f);
	c = f->st ? bale_store_close(f->st) : 0;
	f->st = NULL;
	return r ? r : c;
}

static int check(struct bale_fsck *f)
{
	int r = raw_checks(f);

	bale_fsck_phase_end(f);
	f->begun = !r || r == -ECANCELED || f->nr_left || f->nr_fixed;
	if (!r)
		r = index_or_cut(f);
	bale_fsck_phase_end(f);
	return r ? r : check_open_store(f);
}

static int status_of(const struct bale_fsck *f)
{
	return (f->nr_fixed ? BALE_FSCK_CORRECTED : 0) |
	       (f->nr_left ? BALE_FSCK_UNCORRECTED : 0);
}

static void summary(struct bale_fsck *f, int status)
{
	if (f->json) {
		while (f->js.depth)
			bale_json_end(&f->js);
		bale_json_u64(&f->js, "inodes", f->nr_inodes);
		bale_json_u64(&f->js, "extents", f->nr_extents);
		if (f->deep)
			bale_json_u64(&f->js, "by_device", f->nr_by_device);
		bale_json_u64(&f->js, "mended", f->nr_fixed);
		bale_json_u64(&f->js, "left", f->nr_left);
		bale_json_u64(&f->js, "exit", (uint64_t)status);
		bale_json_close(&f->js);
		return;
	}
	if (status & (BALE_FSCK_ERROR | BALE_FSCK_CANCELLED))
		printf("%s: %s, %" PRIu64 " problems so far\n", f->path,
		       status & BALE_FSCK_CANCELLED ? "interrupted" :
						      "not checked to the end",
		       f->nr_fixed + f->nr_left);
	else if (!status)
		printf("%s: clean, %zu inodes, %zu extents\n", f->path,
		       f->nr_inodes, f->nr_extents);
	else
		printf("%s: %" PRIu64 " problems mended, %" PRIu64 " left, %zu "
		       "inodes, %zu extents\n",
		       f->path, f->nr_fixed, f->nr_left, f->nr_inodes,
		       f->nr_extents);
}

/* Nothing in the log that the index does not have: it was closed in order. */
static bool closed_cleanly(struct bale_fsck *f)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.manual_commit = true };
	struct bale_meta_stats s;
	struct bale_store *st;
	uint64_t end;
	char why[128];

	if (!bale_fsck_index_sound(f, why, sizeof(why)) ||
	    bale_store_open(f->path, &o, &st))
		return false;
	bale_meta_stats(bale_store_meta(st), &s);
	end = bale_meta_durable(bale_store_meta(st));
	return !bale_store_close(st) && !s.index_rebuilt &&
	       s.applied_lsn == end;
}

static int run(struct bale_fsck *f)
{
	char holder[128];
	int r, status;

	/* What recovery does on the way is told here, in fsck's words. */
	bale_log_set_level(BALE_LOG_ERR);
	if (!bale_store_holder(f->path, holder, sizeof(holder))) {
		bale_cmd_error("%s: in use by %s", f->path, holder);
		return BALE_FSCK_ERROR;
	}
	if (f->preen && !f->force && !f->deep && !f->rebuild && !f->json &&
	    closed_cleanly(f)) {
		printf("%s: clean (-f checks it all the same)\n", f->path);
		return BALE_FSCK_OK;
	}
	bale_fsck_catch_signals();
	if (f->json) {
		bale_json_open(&f->js, stdout);
		bale_json_str(&f->js, "store", f->path);
		bale_json_array(&f->js, "problems");
	}
	r = check(f);
	status = status_of(f) | (r ? operational(f, r) : 0);
	/* Not even begun: the reason was one line, and is enough. */
	if (f->begun || f->json)
		summary(f, status);
	bale_fsck_fini(f);
	return status;
}

static int fsck(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "no", no_argument, NULL, 'n' },
		{ "preen", no_argument, NULL, 'p' },
		{ "yes", no_argument, NULL, 'y' },
		{ "force", no_argument, NULL, 'f' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "deep", no_argument, NULL, OPT_DEEP },
		{ "rebuild-index", no_argument, NULL, OPT_REBUILD },
		{ "salvage", required_argument, NULL, OPT_SALVAGE },
		{ "json", no_argument, NULL, OPT_JSON },
		{ "gpu", required_argument, NULL, OPT_GPU },
		{ 0 },
	};
	struct bale_fsck f = { .progress = isatty(STDERR_FILENO) };
	const char *salvage = NULL;
	bool no = false;
	int c;

	while ((c = getopt_long(argc, argv, ":npayfq", longs, NULL)) != -1) {
		if (c == 'n')
			no = true;
		else if (c == 'p' || c == 'a')
			f.preen = true;
		else if (c == 'y')
			f.yes = true;
		else if (c == 'f')
			f.force = true;
		else if (c == 'q')
			f.progress = false;
		else if (c == OPT_DEEP)
			f.deep = true;
		else if (c == OPT_REBUILD)
			f.rebuild = true;
		else if (c == OPT_SALVAGE)
			salvage = optarg;
		else if (c == OPT_JSON)
			f.json = true;
		else if (c == OPT_GPU && !bale_gpu_options_parse(optarg, &f.gpu))
			f.gpu_given = true;
		else if (c == OPT_GPU)
			return bale_cmd_usage_error(
				cmd, "--gpu %s: want auto, off or 0+2", optarg);
		else
			return bale_cmd_bad_option(cmd, c, argv);
	}
	if (no + f.preen + f.yes > 1)
		return bale_cmd_usage_error(cmd, "only one of -n, -p and -y");
	if (argc - optind != 1)
		return bale_cmd_usage_error(cmd, "want one STORE, got %d",
					    argc - optind);
	if (f.rebuild && no)
		return bale_cmd_usage_error(
			cmd, "--rebuild-index writes, -n forbids");
	f.path = argv[optind];
	if (f.rebuild && !f.preen)
		f.yes = true;
	return salvage ? bale_fsck_salvage(&f, salvage) : run(&f);
}

const struct bale_cmd bale_cmd_fsck = {
	.name = "fsck",
	.summary = "check and repair a store",
	.usage = usage,
	.exit_usage = BALE_FSCK_USAGE,
	.fn = fsck,
};
