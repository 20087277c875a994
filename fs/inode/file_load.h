/* SPDX-License-Identifier: Apache-2.0 */
/* file_load.h - loads of extents, shared by file_load.c and readahead.c. */
#ifndef BALE_INODE_FILE_LOAD_H
#define BALE_INODE_FILE_LOAD_H

#include "fs/inode/file.h"

enum { BALE_LOAD_MAX = 64 };

/* A claimed entry and what is needed to fill it. */
struct bale_load {
	struct bale_ext *ext;
	struct bale_cbuf *buf;
	uint64_t id; /* 0: nothing to read */
	struct bale_extent_row row;
	uint32_t len, limit; /* content so far; bytes of the file there */
	unsigned int nr_patches;
	int error;
};

/* Place and memory. Inode lock held. guess: rather fail than use the heap. */
int bale_load_prepare(struct bale_inode *i, struct bale_load *l, bool guess);
/* Read, decode and publish up to BALE_LOAD_MAX prepared loads (also those with
 * an error). The claims' references stay with the caller. */
void bale_load_run(struct bale_fs *fs, struct bale_load *loads, size_t nr);

#endif
