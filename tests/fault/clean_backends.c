/* SPDX-License-Identifier: Apache-2.0 */
#include "clean_backends.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "balefs/ioctl.h"

struct bale_fs *load_fs;
int load_dir_fd = -1;

/* ---- in this process ---- */

static int core_open(const char *name, bool create, void **ret)
{
	struct bale_cred cred = { 0, 0, 022 };
	struct bale_inode *root, *i;
	int r = bale_inode_get(load_fs, BALE_ROOT_INO, &root);

	if (r)
		return r;
	r = bale_dir_lookup(root, name, &i);
	if (r == -ENOENT && create)
		r = bale_dir_create(root, name, S_IFREG | 0600, 0, &cred, &i);
	bale_inode_put_unlocked(root);
	if (!r)
		*ret = i;
	return r;
}

static void core_close(void *file)
{
	bale_inode_put_unlocked(file);
}

static int core_write(void *file, const void *buf, size_t len, uint64_t off)
{
	struct iovec iov = { (void *)buf, len };

	return bale_file_write(file, &iov, 1, off, false, false);
}

static int core_read(void *file, void *buf, size_t len, uint64_t off)
{
	uint8_t *to = buf;

	while (len) {
		struct bale_read rd;
		int r = bale_file_read(file, off, len, &rd);

		if (r)
			return r;
		for (unsigned int k = 0; k < rd.nr_iov; k++) {
			memcpy(to, rd.iov[k].iov_base, rd.iov[k].iov_len);
			to += rd.iov[k].iov_len;
		}
		if (!rd.len) { /* not written that far yet */
			memset(to, 0, len);
			rd.len = len;
		}
		off += rd.len;
		len -= rd.len;
		bale_file_read_done(&rd);
	}
	return 0;
}

static int core_fsync(void *file)
{
	return bale_file_fsync(file, false);
}

static int core_unlink(const char *name)
{
	struct bale_inode *root;
	int r = bale_inode_get(load_fs, BALE_ROOT_INO, &root);

	if (r)
		return r;
	r = bale_dir_unlink(root, name);
	bale_inode_put_unlocked(root);
	return r;
}

static int core_recompress(void *file, uint8_t codec, int8_t level)
{
	struct bale_codec_policy p = { .codec = codec, .level = level };
	uint64_t before, after;

	return bale_file_recompress(file, p, &before, &after);
}

const struct load_ops load_core = {
	.open = core_open,
	.close = core_close,
	.write = core_write,
	.read = core_read,
	.fsync = core_fsync,
	.unlink = core_unlink,
	.recompress = core_recompress,
};

/* ---- through a mount ---- */

static int fd_of(void *file)
{
	return (int)(intptr_t)file - 1;
}

static int mount_open(const char *name, bool create, void **ret)
{
	int fd = openat(load_dir_fd, name, O_RDWR | (create ? O_CREAT : 0),
			0600);

	if (fd < 0)
		return -errno;
	*ret = (void *)(intptr_t)(fd + 1);
	return 0;
}

static void mount_close(void *file)
{
	close(fd_of(file));
}

static int mount_write(void *file, const void *buf, size_t len, uint64_t off)
{
	ssize_t n = pwrite(fd_of(file), buf, len, (off_t)off);

	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

static int mount_read(void *file, void *buf, size_t len, uint64_t off)
{
	ssize_t n = pread(fd_of(file), buf, len, (off_t)off);

	if (n < 0)
		return -errno;
	memset((uint8_t *)buf + n, 0, len - (size_t)n);
	return 0;
}

static int mount_fsync(void *file)
{
	return fsync(fd_of(file)) ? -errno : 0;
}

static int mount_unlink(const char *name)
{
	return unlinkat(load_dir_fd, name, 0) ? -errno : 0;
}

static int mount_recompress(void *file, uint8_t codec, int8_t level)
{
	struct bale_ioc_recompress p = { .codec = codec, .level = level };

	return ioctl(fd_of(file), BALE_IOC_RECOMPRESS, &p) ? -errno : 0;
}

const struct load_ops load_mount = {
	.open = mount_open,
	.close = mount_close,
	.write = mount_write,
	.read = mount_read,
	.fsync = mount_fsync,
	.unlink = mount_unlink,
	.recompress = mount_recompress,
};
