/* SPDX-License-Identifier: Apache-2.0 */
/* wal_internal.h - the log's state, shared by its writer and its reader. */
#ifndef BALE_STORE_WAL_INTERNAL_H
#define BALE_STORE_WAL_INTERNAL_H

#include "fs/store/log.h"

struct bale_wal {
	struct bale_store *st;	/* const */
	uint64_t file_size;	/* const */
	int fd;			/* leader: the file appended to */
	uint64_t fd_file;	/* leader writes, under lock: its number */
	struct bale_mutex lock; /* everything below */
	struct bale_wal_position end;
	uint64_t first_file;
	uint64_t next_ready; /* number of a file that is zeroed and named */
	bool preparing;	     /* somebody makes the next file */
	bool have_spare;     /* log/spare can be renamed */
};

void bale_wal_name(char buf[32], uint64_t number);
/* Zero from an offset to the file's end, and sync. */
int bale_wal_zero(struct bale_wal *w, int fd, uint64_t from);

#endif
