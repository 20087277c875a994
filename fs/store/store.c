/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a store: superblock, lock, and the order of the parts. */
#include "fs/store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

enum { HOLDER_TEXT = 160, WAIT_STEP_NS = 20000000 };

/* ---- superblock ---- */

static int read_super(struct bale_io *io, const char *name,
		      struct bale_super *ret)
{
	struct bale_disk_super d;
	size_t len = 0;
	int r = bale_io_read_file(io, name, &d, sizeof(d), &len);

	return r ? r : bale_super_decode(&d, len, ret);
}

/* The copy that counts; *ret_bad the index of one to be mended, or -1. */
static int load_super(struct bale_io *io, struct bale_super *ret, int *ret_bad)
{
	struct bale_super s[2];
	int r[2];

	r[0] = read_super(io, "super.0", &s[0]);
	r[1] = read_super(io, "super.1", &s[1]);
	*ret_bad = -1;
	if (r[0] && r[1]) {
		/* "A newer format" tells more than "no such file". */
		return r[0] == -EOPNOTSUPP || r[1] == -EOPNOTSUPP ?
			       -EOPNOTSUPP :
		       r[0] == -ENOENT ? r[1] :
					 r[0];
	}
	if (r[0] || r[1] || s[0].seq != s[1].seq)
		*ret_bad = r[0] || (!r[1] && s[1].seq > s[0].seq) ? 0 : 1;
	*ret = s[*ret_bad == 0 ? 1 : 0];
	return 0;
}

/* Before anything is locked, made or changed: is this a store, and one that
 * this build may open? */
static int check_super(struct bale_store *st, int *ret_bad)
{
	uint64_t bits;
	int r = load_super(st->io, &st->super, ret_bad);

	if (r == -ENOENT) {
		bale_err("%s: not a balefs store", st->path);
		return -EINVAL;
	}
	if (r == -EOPNOTSUPP)
		bale_err("%s: superblock: a version this build does not know",
			 st->path);
	else if (r == -EUCLEAN || r == -EBADMSG)
		bale_err("%s: superblock: both copies are damaged", st->path);
	if (r) /* the others the caller can tell */
		return r;
	r = bale_super_features(&st->super, !st->read_only, &bits);
	if (r)
		bale_err("%s: needs features %#" PRIx64
			 " that this build does not know",
			 st->path, bits);
	return r;
}

/* Again under the lock: another process may just have mended it. */
static int open_super(struct bale_store *st)
{
	struct bale_disk_super d;
	int bad, r = check_super(st, &bad);

	if (r || bad < 0 || st->read_only)
		return r;
	bale_warn("%s: superblock copy %d was damaged, mended from the other",
		  st->path, bad);
	bale_super_encode(&st->super, &d);
	return bale_io_replace_file(st->io, bad ? "super.1" : "super.0", &d,
				    sizeof(d));
}

/* ---- lock ---- */

/*
 * A lock of the open file description: it dies with the process, survives the
 * fork of a daemon, can be asked for without being taken, and works on network
 * filesystems. Writers hold it alone, readers share it.
 */
static int set_lock(int fd, int type)
{
	struct flock l = { .l_type = (short)type, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

static int read_holder(int fd, char *buf, size_t cap)
{
	ssize_t n = pread(fd, buf, cap - 1, 0);

	if (n <= 0) /* it has just been locked */
		n = snprintf(buf, cap, "a process that is starting");
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return 0;
}

static void write_holder(struct bale_store *st, const char *state)
{
	char host[64] = "?", text[HOLDER_TEXT];
	int len;

	gethostname(host, sizeof(host) - 1);
	len = snprintf(text, sizeof(text), "pid %d on host %s%s\n", getpid(),
		       host, state);
	if (pwrite(st->lock_fd, text, (size_t)len, 0) == len &&
	    ftruncate(st->lock_fd, len))
		bale_debug("lock: %s", strerror(errno));
}

int bale_store_holder(const char *path, char *buf, size_t cap)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	bale_autofree char *name = NULL;
	bale_autoclose int fd = -1;

	if (cap < 2)
		return -EINVAL;
	if (asprintf(&name, "%s/lock", path) < 0)
		return -ENOMEM;
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &l))
		return -errno;
	if (l.l_type == F_UNLCK)
		return -ENOENT;
	if (l.l_type == F_RDLCK) {
		snprintf(buf, cap, "a read-only user");
		return 0;
	}
	return read_holder(fd, buf, cap);
}

static int open_lock(struct bale_store *st)
{
	int flags = st->read_only ? O_RDONLY : O_RDWR | O_CREAT;

	st->lock_fd = openat(st->io->dir_fd, "lock",
			     flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	return st->lock_fd < 0 ? -errno : 0;
}

/* One writer, or readers. A holder that is closing is waited for. */
static int take_lock(struct bale_store *st, unsigned int wait_ms)
{
	uint64_t end = bale_now_ns() + (uint64_t)wait_ms * 1000000u;
	int r = open_lock(st);

	/* A copy of a store, that nobody ever opened for writing. */
	if (r == -ENOENT && st->read_only)
		return 0;
	if (r)
		return r;
	while ((r = set_lock(st->lock_fd, st->read_only ? F_RDLCK : F_WRLCK))) {
		struct timespec ts = { 0, WAIT_STEP_NS };

		if (r != -EAGAIN && r != -EACCES && r != -EINTR)
			return r;
		if (bale_now_ns() >= end)
			return -EBUSY;
		nanosleep(&ts, NULL);
	}
	if (!st->read_only)
		write_holder(st, "");
	return 0;
}

/* ---- open, close ---- */

static void raise_fd_limit(void)
{
	struct rlimit l;

	if (!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static void destroy(struct bale_store *st)
{
	bale_space_destroy(st, st->space);
	bale_segs_destroy(st->segs);
	if (st->lock_fd >= 0)
		close(st->lock_fd);
	bale_io_close(st->io);
	free(st->path);
	free(st);
}

static int open_parts(struct bale_store *st, const struct bale_store_options *o)
{
	int bad, r = check_super(st, &bad);

	if (!r)
		r = take_lock(st, o->wait_ms);
	if (!r)
		r = open_super(st);
	if (!r)
		r = bale_segs_create(st, &st->segs);
	if (!r)
		r = bale_space_create(st, &st->space);
	if (!r)
		r = bale_meta_open(st, o, &st->meta);
	if (!r)
		r = bale_segs_start(st);
	if (!r && !st->read_only)
		r = bale_cleaner_create(st, &st->cleaner);
	return r;
}

int bale_store_open(const char *path, const struct bale_store_options *o,
		    struct bale_store **ret)
{
	struct bale_store *st;
	int r;

	if (o->size != sizeof(*o))
		return -EINVAL;
	st = calloc(1, sizeof(*st));
	if (!st)
		return -ENOMEM;
	raise_fd_limit();
	st->lock_fd = -1;
	st->read_only = o->read_only;
	st->manual = o->manual_commit;
	st->path = strdup(path);
	r = st->path ? bale_io_open(path, o->read_only, &st->io) : -ENOMEM;
	if (!r && o->io_ops) {
		st->io->ops = o->io_ops;
		st->io->priv = o->io_priv;
	}
	if (!r)
		r = open_parts(st, o);
	if (r) {
		bale_cleaner_destroy(st->cleaner);
		bale_meta_close(st->meta);
		st->meta = NULL;
		if (st->segs)
			bale_segs_stop(st);
		destroy(st);
		return r;
	}
	*ret = st;
	return 0;
}

int bale_store_close(struct bale_store *st)
{
	int r, e;

	if (!st)
		return 0;
	if (!st->read_only)
		write_holder(st, " (closing)");
	bale_cleaner_destroy(st->cleaner);
	BALE_FAULT_POINT("close.cleaner");
	r = bale_meta_close(st->meta);
	BALE_FAULT_POINT("close.meta");
	st->meta = NULL;
	bale_segs_stop(st);
	e = bale_store_error(st);
	destroy(st);
	return e ? e : r;
}

const struct bale_super *bale_store_super(const struct bale_store *st)
{
	return &st->super;
}

struct bale_meta *bale_store_meta(struct bale_store *st)
{
	return st->meta;
}

struct bale_io *bale_store_io(struct bale_store *st)
{
	return st->io;
}

int bale_store_error(const struct bale_store *st)
{
	return atomic_load(&((struct bale_store *)st)->error);
}

void bale_store_fail(struct bale_store *st, int err, const char *what)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&st->error, &none, err))
		bale_err("%s: %s: %s: the store takes no changes any more",
			 st->path, what, strerror(-err));
}

int bale_store_new_id(struct bale_store *st, uint64_t *ret)
{
	return bale_meta_new_extent_id(st->meta, ret);
}
