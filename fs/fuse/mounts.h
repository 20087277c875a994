/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse/mounts.h - which balefs is mounted where, from /proc/self/mountinfo,
 * without asking a daemon that may be gone.
 */
#ifndef BALE_FUSE_MOUNTS_H
#define BALE_FUSE_MOUNTS_H

#include <limits.h>
#include <stdbool.h>

struct bale_mount_info {
	char store[PATH_MAX], mnt[PATH_MAX];
	unsigned int dev_major, dev_minor;
};

/* The topmost mount at exactly this absolute path: -ENOENT none, -EINVAL it
 * is another filesystem's. */
int bale_mounts_at(const char *mnt, struct bale_mount_info *ret);
/* Any mount of this store (absolute path): -ENOENT. */
int bale_mounts_of_store(const char *store, struct bale_mount_info *ret);
/* Any mount of this device: bind mounts keep a filesystem alive. -ENOENT. */
int bale_mounts_of_device(unsigned int dev_major, unsigned int dev_minor,
			  struct bale_mount_info *ret);

/* umount2(), or fusermount3 for a user. force: give up what the kernel has
 * not sent. 0 or -errno. */
int bale_mounts_unmount(const char *mnt, bool lazy, bool force);

#endif
