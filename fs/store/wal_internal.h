/* SPDX-License-Identifier: Apache-2.0 */
/* wal_internal.h - the log's state, shared by its writer and its reader. */
#ifndef BALE_STORE_WAL_INTERNAL_H
#define BALE_STORE_WAL_INTERNAL_H

#include "fs/store/wal.h"

/*
 * The leader alone appends. Who holds `preparing` (a flag, under lock) alone
 * writes zeros and makes files; it works on one file at a time, named by
 * next_file or by fd_file, always from `zeroed` (or next_zeroed) on, and the
 * leader does not write beyond that while the flag is set.
 */
struct bale_wal {
	struct bale_store *st;	/* const */
	uint64_t file_size;	/* const */
	int fd;			/* the leader's: the file appended to */
	struct bale_mutex lock; /* everything below */
	struct bale_cond cond;	/* preparing has ended */
	uint64_t fd_file;	/* the leader changes it: number of fd */
	struct bale_wal_position end;
	uint64_t whole; /* end of the last group that is whole */
	uint64_t first_file;
	uint64_t zeroed;      /* of fd's file: written up to here */
	uint64_t next_zeroed; /* of the next file; 0: there is none yet */
	bool preparing;
	bool have_spare; /* log/spare can be renamed */
};

void bale_wal_name(char buf[32], uint64_t number);
/* Zeros from..to, synced. */
int bale_wal_zero(struct bale_wal *w, int fd, uint64_t from, uint64_t to);

#endif
