/* SPDX-License-Identifier: Apache-2.0 */
/* scrub_source.c - see scrub.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "fs/inode/names.h"
#include "fs/inode/scrub.h"
#include "tools/cmd.h"
#include "tools/scrub.h"

static int open_store(const char *path, struct bale_scrub_source *s)
{
	struct bale_fs_options o = { .size = sizeof(o), .read_only = true };
	struct bale_meta_stats ms;
	char holder[128];
	int r;

	if (!bale_store_holder(path, holder, sizeof(holder)) &&
	    strcmp(holder, "a read-only user")) {
		bale_cmd_error("%s: in use by %s: give its mount point", path,
			       holder);
		return -EBUSY;
	}
	r = bale_fs_open(path, &o, &s->fs);
	if (r) {
		bale_cmd_error("%s: %s", path, bale_cmd_strerror(r));
		return r;
	}
	bale_meta_stats(bale_fs_meta(s->fs), &ms);
	s->extents = ms.rows[BALE_TABLE_extent];
	return 0;
}

int bale_scrub_source_open(const char *path, struct bale_scrub_source *s)
{
	struct bale_ioc_mount m;
	int r = 0;

	*s = (struct bale_scrub_source){ .fd = -1 };
	s->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (s->fd < 0) {
		r = -errno;
		bale_cmd_error("%s: %s", path, strerror(-r));
	} else if (!ioctl(s->fd, BALE_IOC_MOUNT, &m)) {
		/* What is dirty is stored first, and checked as well. */
		ioctl(s->fd, BALE_IOC_SYNC);
		s->extents = m.extents;
		return 0;
	} else if (errno != ENOTTY && errno != EINVAL && errno != EOPNOTSUPP) {
		r = -errno;
		bale_cmd_error("%s: %s", path, strerror(-r));
	}
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	return r ? r : open_store(path, s);
}

void bale_scrub_source_close(struct bale_scrub_source *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->fs)
		bale_fs_close(s->fs);
	*s = (struct bale_scrub_source){ .fd = -1 };
}

int bale_scrub_source_step(struct bale_scrub_source *s,
			   struct bale_ioc_scrub *x)
{
	if (s->fs)
		return bale_fs_scrub_ioc(s->fs, x, UINT64_MAX);
	return ioctl(s->fd, BALE_IOC_SCRUB, x) ? -errno : 0;
}

void bale_scrub_source_path(struct bale_scrub_source *s, uint64_t ino,
			    char *buf, size_t cap)
{
	struct bale_ioc_path x = { .ino = ino };

	if (s->fs)
		bale_inode_path(s->fs, ino, buf, cap);
	else if (ioctl(s->fd, BALE_IOC_PATH, &x))
		snprintf(buf, cap, "inode %" PRIu64, ino);
	else
		snprintf(buf, cap, "%.4095s", x.path);
}
