/* SPDX-License-Identifier: Apache-2.0 */
/* ioerror_layer.c - see ioerror.h. */
#include "ioerror.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct ioe ioe = { .room = IOE_TIGHT_BYTES };

unsigned int ioe_site_index(const struct bale_fault_site *site)
{
	unsigned int k = 0;

	while (k < MAX_SITES && bale_fault_site(k) != site)
		k++;
	return k;
}

static void note_site(struct bale_fault_site *site, const char *op, bool first)
{
	unsigned int k = ioe_site_index(site);

	snprintf(ioe.sh->site[k].op, sizeof(ioe.sh->site[k].op), "%s", op);
	ioe.sh->site[k].failed++;
	if (!first)
		return; /* behind a dead one */
	snprintf(ioe.sh->failed_call, sizeof(ioe.sh->failed_call),
		 "%s of %s@%u", op, bale_fault_site_file(site), site->line);
	ioe.sh->failed_site = k;
}

/* 0, or the error that this call gets. */
static int strike(const char *op)
{
	struct bale_fault_site *site = bale_fault_entered();
	unsigned int n;

	if (!site)
		return 0; /* a call of the layer by itself */
	if (!ioe.fail_at) {
		unsigned int k = ioe_site_index(site);

		ioe.sh->site[k].passed++;
		snprintf(ioe.sh->site[k].op, sizeof(ioe.sh->site[k].op), "%s",
			 op);
	}
	if (ioe.fail_site && site != ioe.fail_site &&
	    !(ioe.mode == DEAD && atomic_load(&ioe.calls) >= ioe.fail_at))
		return 0;
	n = atomic_fetch_add(&ioe.calls, 1) + 1;
	if (!ioe.fail_at || n < ioe.fail_at ||
	    (n > ioe.fail_at && ioe.mode != DEAD))
		return 0;
	note_site(site, op, n == ioe.fail_at);
	if (ioe.mode == SLOW) {
		struct timespec ts = { 0, 30000000 };

		nanosleep(&ts, NULL);
		return 0;
	}
	return ioe.mode == ENOSPC_ONCE ? -ENOSPC : -EIO;
}
#define REAL bale_io_posix

static int e_open(struct bale_io *io, const char *name, int flags, int *ret)
{
	int r = strike("open");

	return r ? r : REAL.open(io, name, flags, ret);
}
static void e_close(struct bale_io *io, int fd)
{
	strike("close"); /* it cannot fail, but be the last that works */
	REAL.close(io, fd);
}
static int e_pread(struct bale_io *io, int fd, void *buf, size_t len,
		   uint64_t off, size_t *ret)
{
	int r = strike("pread");

	return r ? r : REAL.pread(io, fd, buf, len, off, ret);
}
static int e_pwritev(struct bale_io *io, int fd, const struct iovec *iov,
		     int nr, uint64_t off)
{
	int r = strike("pwritev");

	if (!r)
		return REAL.pwritev(io, fd, iov, nr, off);
	atomic_store(&ioe.flush_failed, true);
	if (ioe.mode == TORN && nr) {
		struct iovec half = iov[0];

		half.iov_len /= 2;
		REAL.pwritev(io, fd, nr > 1 ? iov : &half, nr > 1 ? nr / 2 : 1,
			     off);
	}
	return r;
}
static int e_sync(struct bale_io *io, int fd)
{
	int r = strike("sync");

	if (r)
		atomic_store(&ioe.flush_failed, true);
	return r ? r : REAL.sync(io, fd);
}
static int e_start_writeback(struct bale_io *io, int fd, uint64_t off,
			     uint64_t len)
{
	int r = strike("start_writeback");

	return r ? r : REAL.start_writeback(io, fd, off, len);
}
static int e_allocate(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	int r = strike("allocate");

	if (!r && ioe.situation == NO_ALLOCATE)
		r = -EOPNOTSUPP;
	return r ? r : REAL.allocate(io, fd, off, len);
}
static int e_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	int r = strike("punch");

	return r ? r : REAL.punch(io, fd, off, len);
}
static int e_truncate(struct bale_io *io, int fd, uint64_t len)
{
	int r = strike("truncate");

	return r ? r : REAL.truncate(io, fd, len);
}
static int e_size(struct bale_io *io, int fd, uint64_t *len, uint64_t *alloc)
{
	int r = strike("size");

	return r ? r : REAL.size(io, fd, len, alloc);
}
static int e_rename(struct bale_io *io, const char *from, const char *to)
{
	int r = strike("rename");

	return r ? r : REAL.rename(io, from, to);
}
static int e_unlink(struct bale_io *io, const char *name)
{
	static unsigned int kept;
	int r = strike("unlink");

	if (!r && ioe.situation == NO_MEMORY && !strncmp(name, "seg/", 4) &&
	    kept++ < 2)
		r = -EIO;
	return r ? r : REAL.unlink(io, name);
}
static int e_mkdir(struct bale_io *io, const char *name)
{
	int r = strike("mkdir");

	return r ? r : REAL.mkdir(io, name);
}
static int e_sync_dir(struct bale_io *io, const char *name)
{
	int r = strike("sync_dir");

	return r ? r : REAL.sync_dir(io, name);
}
static int e_list(struct bale_io *io, const char *name, bale_io_list_fn *fn,
		  void *arg)
{
	int r = strike("list");

	return r ? r : REAL.list(io, name, fn, arg);
}
static int e_space(struct bale_io *io, uint64_t *total, uint64_t *left)
{
	int r = strike("space");

	if (!r)
		r = REAL.space(io, total, left);
	if (!r && ioe.situation == TIGHT)
		*left = *left < ioe.room ? *left : ioe.room;
	return r;
}

const struct bale_io_ops ioe_ops = {
	.open = e_open,
	.close = e_close,
	.pread = e_pread,
	.pwritev = e_pwritev,
	.sync = e_sync,
	.start_writeback = e_start_writeback,
	.allocate = e_allocate,
	.punch = e_punch,
	.truncate = e_truncate,
	.size = e_size,
	.rename = e_rename,
	.unlink = e_unlink,
	.mkdir = e_mkdir,
	.sync_dir = e_sync_dir,
	.list = e_list,
	.space = e_space,
};
