/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_umount.c - unmount, and come back only when the daemon has stored
 * everything and let go of the store. umount(8) alone returns before that; it
 * calls this program as umount.fuse.balefs.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/mem.h"
#include "fs/fuse/mounts.h"
#include "fs/store/store.h"
#include "tools/cmd.h"

static const char usage[] =
	"usage: umount.balefs [-flv] MOUNTPOINT|STORE\n"
	"       balefs umount ...\n"
	"\n"
	"Unmount, and return when everything is stored and the store is free.\n"
	"\n"
	"  -l, --lazy     detach now, even if in use; returns at once\n"
	"  -f, --force    give up what the kernel has not handed over yet\n"
	"  -v, --verbose  say what is done\n"
	"      --help     this text\n"
	"\n"
	"-n, -r, -i, -q, -N and -t, which umount(8) may pass, change nothing.\n"
	"Exit status: 0 unmounted, 1 wrong call, 32 failed.\n";

enum {
	EXIT_CALL = 1,
	EXIT_UMOUNT = 32,
	BUSY_RETRY_MS = 1000, /* the daemon itself may look in for a moment */
	POLL_US = 10000,
};

struct umount_options {
	bool lazy, force, verbose;
};

/* A mount point or a store; the path of a dead mount cannot be resolved. */
static int find_mount(const char *path, struct bale_mount_info *ret)
{
	bale_autofree char *real = realpath(path, NULL);
	const char *p = real ? real : path;
	int err = bale_mounts_at(p, ret);

	if (err == -ENOENT)
		err = bale_mounts_of_store(p, ret);
	return err;
}

static int unmount_patiently(const struct bale_mount_info *m,
			     const struct umount_options *o)
{
	uint64_t start = bale_now_ns();
	int err;

	for (;;) {
		err = bale_mounts_unmount(m->mnt, o->lazy, o->force);
		if (err != -EBUSY ||
		    bale_now_ns() - start > BUSY_RETRY_MS * 1000000ull)
			return err;
		usleep(POLL_US);
	}
}

/* Until whoever had the store is not the one who has it; its text grows by
 * "(closing)" on the way. */
static void wait_for_daemon(const char *store, const char *before)
{
	char now[128];

	while (!bale_store_holder(store, now, sizeof(now)) &&
	       !strncmp(now, before, strlen(before)))
		usleep(POLL_US);
}

static int umount_one(const char *path, const struct umount_options *o)
{
	bale_autofree struct bale_mount_info *m = malloc(2 * sizeof(*m));
	char holder[128];
	bool held;
	int err;

	if (!m)
		return EXIT_UMOUNT;
	err = find_mount(path, &m[0]);
	if (err) {
		bale_cmd_error("%s: %s", path,
			       err == -ENOENT ? "not mounted" :
			       err == -EINVAL ? "not a balefs mount" :
						strerror(-err));
		return EXIT_UMOUNT;
	}
	held = !bale_store_holder(m[0].store, holder, sizeof(holder));
	err = unmount_patiently(&m[0], o);
	if (err) {
		bale_cmd_error("%s: %s", m[0].mnt,
			       err == -EBUSY ? "in use" : strerror(-err));
		return EXIT_UMOUNT;
	}
	/* Another name of the same mount keeps the daemon at work. */
	if (!held || o->lazy ||
	    !bale_mounts_of_device(m[0].dev_major, m[0].dev_minor, &m[1]))
		return 0;
	if (o->verbose)
		printf("%s: unmounted, waiting for %s to finish\n", m[0].mnt,
		       holder);
	wait_for_daemon(m[0].store, holder);
	return 0;
}

static int cmd_umount(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "lazy", no_argument, NULL, 'l' },
		{ "force", no_argument, NULL, 'f' },
		{ "verbose", no_argument, NULL, 'v' },
		{ 0 },
	};
	struct umount_options o = { 0 };
	int c, status = 0;

	while ((c = getopt_long(argc, argv, ":lfvnriqN:t:", longs, NULL)) !=
	       -1) {
		if (c == 'l')
			o.lazy = true;
		else if (c == 'f')
			o.force = true;
		else if (c == 'v')
			o.verbose = true;
		else if (c == '?' || c == ':')
			return bale_cmd_bad_option(cmd, c, argv);
	}
	if (optind == argc)
		return bale_cmd_usage_error(cmd, "want a MOUNTPOINT");
	for (; optind < argc; optind++) {
		int s = umount_one(argv[optind], &o);

		status = status ? status : s;
	}
	return status;
}

const struct bale_cmd bale_cmd_umount = {
	.name = "umount",
	.summary = "unmount, and wait until all is stored",
	.usage = usage,
	.exit_usage = EXIT_CALL,
	.fn = cmd_umount,
};
