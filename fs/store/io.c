/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/store/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/base/fault.h"
#include "fs/base/mem.h"

enum { FILE_MODE = 0600, DIR_MODE = 0700, MAX_IOV = 1024 };

static int check_write(struct bale_io *io, const char *point)
{
	if (io->read_only)
		return -EROFS;
	return bale_fault_io(point);
}

/* Nothing in a store is a link, and no name leads out of it. */
static int open_beneath(int dir_fd, const char *name, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = flags & O_CREAT ? FILE_MODE : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
			   RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do
		fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	if (fd < 0 && errno == ENOSYS)
		fd = openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW,
			    FILE_MODE);
	return fd < 0 ? -errno : (int)fd;
}

static int posix_open(struct bale_io *io, const char *name, int flags,
		      int *ret_fd)
{
	struct stat st;
	int fd, r = bale_fault_io("io.open");

	if (r)
		return r;
	if (io->read_only && (flags & (O_WRONLY | O_RDWR | O_CREAT)))
		return -EROFS;
	fd = open_beneath(io->dir_fd, name, flags | O_NONBLOCK);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EUCLEAN;
	}
	*ret_fd = fd;
	return 0;
}

static void posix_close(struct bale_io *io, int fd)
{
	(void)io;
	(void)bale_fault_io("io.close");
	close(fd);
}

static int posix_pread(struct bale_io *io, int fd, void *buf, size_t len,
		       uint64_t off, size_t *ret_len)
{
	size_t done = 0;
	int r = bale_fault_io("io.pread");

	(void)io;
	if (r == BALE_FAULT_TORN_KILL)
		bale_fault_die();
	if (r < 0 || r == BALE_FAULT_TORN)
		return r < 0 ? r : -EIO;
	while (done < len) {
		size_t part = r && !done ? (len + 1) / 2 : len - done;
		ssize_t n = pread(fd, (char *)buf + done, part,
				  (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	*ret_len = done;
	return 0;
}

/* What a write is that the kernel does a part of; for tests. */
static ssize_t write_half(int fd, struct iovec *iov, int nr, uint64_t off)
{
	size_t half = 0, len;
	ssize_t n;
	int k = 0;

	for (int i = 0; i < nr; i++)
		half += iov[i].iov_len;
	half = (half + 1) / 2;
	while (iov[k].iov_len < half)
		half -= iov[k++].iov_len;
	len = iov[k].iov_len;
	iov[k].iov_len = half;
	n = pwritev(fd, iov, k + 1, (off_t)off);
	iov[k].iov_len = len;
	return n;
}

/* Write one batch of at most MAX_IOV vectors; the copy is consumed. */
static int write_batch(int fd, struct iovec *iov, int nr, uint64_t *off,
		       int fault)
{
	while (nr) {
		ssize_t n = fault ? write_half(fd, iov, nr, *off) :
				    pwritev(fd, iov, nr, (off_t)*off);

		if (n < 0 && errno == EINTR)
			continue;
		if (fault == BALE_FAULT_TORN_KILL)
			bale_fault_die();
		if (n < 0 || fault == BALE_FAULT_TORN)
			return n < 0 ? -errno : -EIO;
		fault = 0;
		/* Never so for a regular file, but it would be for ever. */
		if (!n && iov->iov_len)
			return -EIO;
		*off += (uint64_t)n;
		while (nr && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			nr--;
		}
		if (nr) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int posix_pwritev(struct bale_io *io, int fd, const struct iovec *iov,
			 int nr_iov, uint64_t off)
{
	struct iovec batch[MAX_IOV];
	int r = 0, fault = check_write(io, "io.pwritev");

	if (fault < 0)
		return fault;
	for (int i = 0; !r && i < nr_iov; i += MAX_IOV) {
		int nr = nr_iov - i < MAX_IOV ? nr_iov - i : MAX_IOV;

		memcpy(batch, iov + i, (size_t)nr * sizeof(*iov));
		r = write_batch(fd, batch, nr, &off, fault);
		fault = 0;
	}
	return r;
}

static int posix_sync(struct bale_io *io, int fd)
{
	int r = check_write(io, "io.sync");

	if (r)
		return r;
	return fdatasync(fd) ? -errno : 0;
}

static int posix_start_writeback(struct bale_io *io, int fd, uint64_t off,
				 uint64_t len)
{
	int r = check_write(io, "io.start_writeback");

	if (r)
		return r;
	return sync_file_range(fd, (off_t)off, (off_t)len,
			       SYNC_FILE_RANGE_WRITE) ?
		       -errno :
		       0;
}

static int allocate(struct bale_io *io, int fd, int mode, uint64_t off,
		    uint64_t len, const char *point)
{
	int r = check_write(io, point);

	if (r)
		return r;
	do
		r = fallocate(fd, mode, (off_t)off, (off_t)len) ? -errno : 0;
	while (r == -EINTR);
	return r;
}

static int posix_allocate(struct bale_io *io, int fd, uint64_t off,
			  uint64_t len)
{
	return allocate(io, fd, FALLOC_FL_KEEP_SIZE, off, len, "io.allocate");
}

static int posix_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	return allocate(io, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
			len, "io.punch");
}

static int posix_truncate(struct bale_io *io, int fd, uint64_t len)
{
	int r = check_write(io, "io.truncate");

	if (r)
		return r;
	return ftruncate(fd, (off_t)len) ? -errno : 0;
}

static int posix_size(struct bale_io *io, int fd, uint64_t *ret_len,
		      uint64_t *ret_allocated)
{
	struct stat st;
	int r = bale_fault_io("io.size");

	(void)io;
	if (r)
		return r;
	if (fstat(fd, &st))
		return -errno;
	*ret_len = (uint64_t)st.st_size;
	*ret_allocated = (uint64_t)st.st_blocks * 512;
	return 0;
}

static int posix_rename(struct bale_io *io, const char *from, const char *to)
{
	int r = check_write(io, "io.rename");

	if (r)
		return r;
	return renameat(io->dir_fd, from, io->dir_fd, to) ? -errno : 0;
}

static int posix_unlink(struct bale_io *io, const char *name)
{
	int r = check_write(io, "io.unlink");

	if (r)
		return r;
	return unlinkat(io->dir_fd, name, 0) ? -errno : 0;
}

static int posix_mkdir(struct bale_io *io, const char *name)
{
	int r = check_write(io, "io.mkdir");

	if (r)
		return r;
	return mkdirat(io->dir_fd, name, DIR_MODE) ? -errno : 0;
}

static int open_dir(struct bale_io *io, const char *name)
{
	return open_beneath(io->dir_fd, *name ? name : ".",
			    O_RDONLY | O_DIRECTORY);
}

static int posix_sync_dir(struct bale_io *io, const char *name)
{
	bale_autoclose int fd = -1;
	int r = check_write(io, "io.sync_dir");

	if (r)
		return r;
	fd = open_dir(io, name);
	if (fd < 0)
		return fd;
	return fsync(fd) ? -errno : 0;
}

static int posix_list(struct bale_io *io, const char *name, bale_io_list_fn *fn,
		      void *arg)
{
	int fd, r = bale_fault_io("io.list");
	struct dirent *e;
	DIR *dir;

	if (r)
		return r;
	fd = open_dir(io, name);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	for (errno = 0; !r && (e = readdir(dir)); errno = 0)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			r = fn(e->d_name, arg);
	if (!r && errno)
		r = -errno;
	closedir(dir);
	return r;
}

static int posix_space(struct bale_io *io, uint64_t *ret_total,
		       uint64_t *ret_free)
{
	struct statvfs s;
	int r = bale_fault_io("io.space");

	if (r)
		return r;
	if (fstatvfs(io->dir_fd, &s))
		return -errno;
	*ret_total = (uint64_t)s.f_blocks * s.f_frsize;
	*ret_free = (uint64_t)s.f_bavail * s.f_frsize;
	return 0;
}

const struct bale_io_ops bale_io_posix = {
	.open = posix_open,
	.close = posix_close,
	.pread = posix_pread,
	.pwritev = posix_pwritev,
	.sync = posix_sync,
	.start_writeback = posix_start_writeback,
	.allocate = posix_allocate,
	.punch = posix_punch,
	.truncate = posix_truncate,
	.size = posix_size,
	.rename = posix_rename,
	.unlink = posix_unlink,
	.mkdir = posix_mkdir,
	.sync_dir = posix_sync_dir,
	.list = posix_list,
	.space = posix_space,
};

int bale_io_open(const char *path, bool read_only, struct bale_io **ret)
{
	struct bale_io *io = calloc(1, sizeof(*io));

	if (!io)
		return -ENOMEM;
	io->ops = &bale_io_posix;
	io->read_only = read_only;
	io->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (io->dir_fd < 0) {
		int r = -errno;

		free(io);
		return r;
	}
	*ret = io;
	return 0;
}

void bale_io_close(struct bale_io *io)
{
	if (!io)
		return;
	close(io->dir_fd);
	free(io);
}

int bale_io_read_file(struct bale_io *io, const char *name, void *buf,
		      size_t cap, size_t *ret_len)
{
	int fd, r = BALE_IO(io)->open(io, name, O_RDONLY, &fd);

	if (r)
		return r;
	r = BALE_IO(io)->pread(io, fd, buf, cap, 0, ret_len);
	BALE_IO(io)->close(io, fd);
	return r;
}

int bale_io_replace_file(struct bale_io *io, const char *name, const void *buf,
			 size_t len)
{
	struct iovec iov = { (void *)buf, len };
	char tmp[64], dir[64];
	char *slash;
	int fd, r;

	if (snprintf(tmp, sizeof(tmp), "%s.tmp", name) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	strcpy(dir, tmp);
	slash = strchr(dir, '/');
	*(slash ? slash : dir) = 0;
	r = BALE_IO(io)->open(io, tmp, O_WRONLY | O_CREAT | O_TRUNC, &fd);
	if (r)
		return r;
	r = BALE_IO(io)->pwritev(io, fd, &iov, 1, 0);
	if (!r)
		r = BALE_IO(io)->sync(io, fd);
	BALE_IO(io)->close(io, fd);
	if (!r)
		r = BALE_IO(io)->rename(io, tmp, name);
	return r ? r : BALE_IO(io)->sync_dir(io, dir);
}
