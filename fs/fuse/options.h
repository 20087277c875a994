/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse/options.h - what `-o` may say. Pure: parses text, opens nothing.
 */
#ifndef BALE_FUSE_OPTIONS_H
#define BALE_FUSE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/codec/codec.h"

enum bale_io_mode {
	BALE_IO_CACHED, /* the kernel's page cache, written back later */
	BALE_IO_DIRECT, /* every read and write comes to the daemon */
	BALE_IO_AUTO,	/* direct for files opened with O_DIRECT */
};

struct bale_mount_options {
	bool read_only, untrusted;
	bool allow_other, default_permissions;
	bool suid, dev, noexec, sync, dirsync;
	bool foreground, debug;
	bool io_uring; /* requests by shared rings, where kernel and libfuse can */
	bool test_shutdown; /* answer XFS_IOC_GOINGDOWN */
	int atime;	    /* 0 relatime, 1 noatime, 2 strictatime */
	enum bale_io_mode io;
	bool has_policy;
	struct bale_codec_policy policy;
	uint64_t cache_bytes, bale_bytes; /* 0: default */
	struct bale_gpu_options gpu;
	uint64_t commit_ns;		  /* 0: default */
	unsigned int threads;		  /* coding workers; 0: cores */
	unsigned int max_threads;	  /* request threads; 0: default */
	unsigned int max_background;	  /* 0: default */
	unsigned int wait_ms;		  /* for a holder that is closing */
	const struct bale_io_ops *io_ops; /* of tests; NULL: the real ones */
};

void bale_mount_options_init(struct bale_mount_options *o);
/*
 * Add the options of one comma-separated list. -EINVAL with one line for
 * people in err.
 */
int bale_mount_options_parse(struct bale_mount_options *o, const char *list,
			     char *err, size_t err_cap);
/* After the last list: rules between options, and what needs root. */
int bale_mount_options_check(const struct bale_mount_options *o, char *err,
			     size_t err_cap);

#endif
