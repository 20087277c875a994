/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub.h - where a scrub gets its steps from: the daemon of a mount, or a
 * store that this process opened for reading.
 */
#ifndef BALE_TOOLS_SCRUB_H
#define BALE_TOOLS_SCRUB_H

#include <stddef.h>

#include "balefs/ioctl.h"

struct bale_fs;

struct bale_scrub_source {
	int fd;		    /* of a mount; -1: a store */
	struct bale_fs *fs; /* of a store */
	uint64_t extents;   /* there are, about */
};
/* 0 or -errno, told on stderr. */
int bale_scrub_source_open(const char *path, struct bale_scrub_source *ret);
void bale_scrub_source_close(struct bale_scrub_source *s);
/* One step; 0 or -errno. */
int bale_scrub_source_step(struct bale_scrub_source *s,
			   struct bale_ioc_scrub *x);
/* Always gives a text. */
void bale_scrub_source_path(struct bale_scrub_source *s, uint64_t ino,
			    char *buf, size_t cap);

#endif
