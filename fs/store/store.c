/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a store: superblock, lock, and the order of the parts. */
#include "fs/store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/clock.h"
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

static int open_super(struct bale_store *st, const char *path)
{
	struct bale_disk_super d;
	uint64_t bits;
	int bad, r = load_super(st->io, &st->super, &bad);

	if (r == -ENOENT) {
		bale_err("%s: not a balefs store", path);
		return -EINVAL;
	}
	if (r) {
		bale_err("%s: superblock: %s", path,
			 r == -EOPNOTSUPP ?
				 "a version this build does not know" :
				 strerror(-r));
		return r;
	}
	r = bale_super_features(&st->super, !st->read_only, &bits);
	if (r) {
		bale_err("%s: needs features %#" PRIx64
			 " that this build does not know",
			 path, bits);
		return r;
	}
	if (bad < 0 || st->read_only)
		return 0;
	bale_warn("%s: superblock copy %d was damaged, mended from the other",
		  path, bad);
	bale_super_encode(&st->super, &d);
	return bale_io_replace_file(st->io, bad ? "super.1" : "super.0", &d,
				    sizeof(d));
}

/* ---- lock ---- */

static int read_holder(int fd, char *buf, size_t cap)
{
	ssize_t n = pread(fd, buf, cap - 1, 0);

	if (n <= 0)
		return -ENOENT;
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
	bale_autofree char *name = NULL;
	bale_autoclose int fd = -1;

	if (asprintf(&name, "%s/lock", path) < 0)
		return -ENOMEM;
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (!flock(fd, LOCK_SH | LOCK_NB))
		return -ENOENT;
	return read_holder(fd, buf, cap);
}

/* One writer, or readers. A holder that is closing is waited for. */
static int take_lock(struct bale_store *st, unsigned int wait_ms)
{
	int op = (st->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB;
	uint64_t end = bale_now_ns() + (uint64_t)wait_ms * 1000000u;

	st->lock_fd = openat(st->io->dir_fd, "lock",
			     (st->read_only ? O_RDONLY : O_RDWR | O_CREAT) |
				     O_CLOEXEC | O_NOFOLLOW,
			     0600);
	/* Never opened for writing: no writer can be there, and none is kept
	 * out for long (it makes the file). */
	if (st->lock_fd < 0 && errno == ENOENT && st->read_only)
		return 0;
	if (st->lock_fd < 0)
		return -errno;
	while (flock(st->lock_fd, op)) {
		struct timespec ts = { 0, WAIT_STEP_NS };

		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
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

static int open_parts(struct bale_store *st, const char *path,
		      const struct bale_store_options *o)
{
	int r = take_lock(st, o->wait_ms);

	if (!r)
		r = open_super(st, path);
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
	struct bale_store *st = calloc(1, sizeof(*st));
	int r;

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
		r = open_parts(st, path, o);
	if (r) {
		bale_cleaner_destroy(st->cleaner);
		bale_meta_close(st->meta);
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
	r = bale_meta_close(st->meta);
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
