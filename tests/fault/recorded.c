/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount whose daemon records what it asks of the store's directory, for the
 * tests of tests/mount that have real programs work in it (test_powerloss.py):
 *
 *   recorded mount STORE MOUNTPOINT RECORDING COUNTER [OPTIONS]
 *       In the foreground, until it is unmounted; then RECORDING is written.
 *       COUNTER is a file whose first 8 bytes tell, to whoever maps it, how
 *       many events there are by now: what was acknowledged before it was read
 *       is there in every state of at least so many.
 *   recorded build RECORDING DIRECTORY EVENTS all|none|random SEED
 *       The store as it could be after a power cut behind so many events.
 *   recorded count RECORDING
 *
 * The store must have been closed cleanly; syncs are noted and not done.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/fuse/options.h"
#include "fs/fuse/session.h"
#include "recorder.h"

static int fail(const char *what, int err)
{
	fprintf(stderr, "recorded: %s: %s\n", what, strerror(-err));
	return 1;
}

static int map_counter(const char *path, atomic_ulong **ret)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	void *p;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(**ret))) {
		close(fd);
		return -errno;
	}
	p = mmap(NULL, sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	close(fd);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

static int run_mount(const char *store, const char *mnt, const char *recording,
		     const char *counter, const char *options)
{
	struct bale_mount_options o;
	atomic_ulong *where = NULL;
	char err[256];
	int r;

	bale_mount_options_init(&o);
	if (bale_mount_options_parse(&o, options, err, sizeof(err)) ||
	    bale_mount_options_check(&o, err, sizeof(err))) {
		fprintf(stderr, "recorded: %s\n", err);
		return 2;
	}
	o.io_ops = &bale_rec_ops;
	bale_rec_start();
	r = bale_rec_adopt(store);
	if (r)
		return fail(store, r);
	r = map_counter(counter, &where);
	if (r)
		return fail(counter, r);
	bale_rec_publish(where);
	r = bale_session_run(store, mnt, &o, NULL, NULL);
	bale_rec_publish(NULL);
	munmap((void *)where, sizeof(*where));
	if (r)
		return fail(mnt, r);
	r = bale_rec_save(recording);
	bale_rec_free();
	return r ? fail(recording, r) : 0;
}

static int run_build(char **argv)
{
	static const char *const names[] = { "all", "none", "random" };
	unsigned int mode = 0;
	int r = bale_rec_load(argv[0]);

	if (r)
		return fail(argv[0], r);
	while (mode < 3 && strcmp(argv[3], names[mode]))
		mode++;
	if (mode == 3)
		return fail(argv[3], -EINVAL);
	if (mkdir(argv[1], 0700))
		return fail(argv[1], -errno);
	r = bale_rec_build(argv[1], strtoull(argv[2], NULL, 0),
			   (enum bale_rec_mode)mode,
			   strtoull(argv[4], NULL, 0));
	bale_rec_free();
	return r ? fail(argv[1], r) : 0;
}

int main(int argc, char **argv)
{
	bale_log_set_level(BALE_LOG_WARN);
	if ((argc == 6 || argc == 7) && !strcmp(argv[1], "mount"))
		return run_mount(argv[2], argv[3], argv[4], argv[5],
				 argc == 7 ? argv[6] : "");
	if (argc == 7 && !strcmp(argv[1], "build"))
		return run_build(argv + 2);
	if (argc == 3 && !strcmp(argv[1], "count")) {
		int r = bale_rec_load(argv[2]);

		if (r)
			return fail(argv[2], r);
		printf("%zu\n", bale_rec_count());
		bale_rec_free();
		return 0;
	}
	fprintf(stderr, "recorded: wrong call, see the head of its source\n");
	return 2;
}
