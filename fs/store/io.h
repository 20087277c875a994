/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - the one layer through which every byte of the store passes (LMDB's
 * own file apart, which may be lost at any time). Plain pread/pwrite, relative
 * to the store's directory, never mmap. Tests swap the table of functions to
 * record, drop, tear, delay or fail any call; every call is also a fault point
 * named "io.<op>", and one of its call site (fault.h). All return 0 or
 * -errno; full transfers only (EINTR and short ones are continued inside).
 */
#ifndef BALE_STORE_IO_H
#define BALE_STORE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "fs/base/fault.h"

struct bale_io; /* an open store directory */

typedef int bale_io_list_fn(const char *name, void *arg);

struct bale_io_ops {
	/* flags: O_* ; names are "super.0", "seg/0000..."; regular files only,
	 * no symlink is followed. */
	int (*open)(struct bale_io *io, const char *name, int flags,
		    int *ret_fd);
	void (*close)(struct bale_io *io, int fd);
	int (*pread)(struct bale_io *io, int fd, void *buf, size_t len,
		     uint64_t off, size_t *ret_len); /* short only at EOF */
	int (*pwritev)(struct bale_io *io, int fd, const struct iovec *iov,
		       int nr_iov, uint64_t off);
	int (*sync)(struct bale_io *io, int fd); /* fdatasync */
	int (*start_writeback)(struct bale_io *io, int fd, uint64_t off,
			       uint64_t len); /* hint */
	int (*allocate)(struct bale_io *io, int fd, uint64_t off,
			uint64_t len); /* size unchanged; -EOPNOTSUPP: none */
	int (*punch)(struct bale_io *io, int fd, uint64_t off, uint64_t len);
	int (*truncate)(struct bale_io *io, int fd, uint64_t len);
	int (*size)(struct bale_io *io, int fd, uint64_t *ret_len,
		    uint64_t *ret_allocated);
	int (*rename)(struct bale_io *io, const char *from, const char *to);
	int (*unlink)(struct bale_io *io, const char *name);
	int (*mkdir)(struct bale_io *io, const char *name);
	int (*sync_dir)(struct bale_io *io, const char *name); /* "" = top */
	int (*list)(struct bale_io *io, const char *name, bale_io_list_fn *fn,
		    void *arg);
	int (*space)(struct bale_io *io, uint64_t *ret_total,
		     uint64_t *ret_free);
};

struct bale_io {
	const struct bale_io_ops *ops;
	int dir_fd;
	bool read_only; /* writing calls fail with -EROFS */
	void *priv;	/* of a test's own ops */
};

/* How every caller reaches the table: BALE_IO(io)->sync(io, fd). The call
 * site is a fault point of its own, and in the list of all sites. */
#define BALE_IO(io)                                                            \
	({                                                                     \
		BALE_FAULT_SITE(site_, NULL);                                  \
		bale_fault_enter(&site_);                                      \
		(io)->ops;                                                     \
	})

/* The real thing. -ENOTDIR, -ENOENT, -EACCES ... for people to read. */
int bale_io_open(const char *path, bool read_only, struct bale_io **ret);
void bale_io_close(struct bale_io *io);

extern const struct bale_io_ops bale_io_posix;

/* Helpers on the table. */
int bale_io_read_file(struct bale_io *io, const char *name, void *buf,
		      size_t cap, size_t *ret_len);
/* Write name+".tmp", sync, rename over name, sync the directory. */
int bale_io_replace_file(struct bale_io *io, const char *name, const void *buf,
			 size_t len);

#endif
