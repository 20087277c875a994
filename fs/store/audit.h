/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit.h - is this file one that LMDB can map and walk without harm? LMDB
 * trusts its file: a wrong offset, size or page number in it is an abort or a
 * stray access. So after an unclean end, or when the file may have been
 * touched, every page that LMDB could reach is checked here first, by reading
 * (never mapping) the file. On any doubt the caller throws the index away.
 *
 * Knows LMDB's data format 1 (0.9.x) with 4 KiB to 64 KiB pages, little-endian
 * 64-bit, and the subset that the index uses: no DUPSORT, no integer keys but
 * in the free list.
 */
#ifndef BALE_STORE_AUDIT_H
#define BALE_STORE_AUDIT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Every row of the unnamed table (db_len 0: where the index has its rows) and
 * of every named one, in key order, when the pages it lies on have been found
 * good. Non-zero ends the audit: the index is in doubt.
 */
typedef int bale_audit_row_fn(const char *db, size_t db_len, const void *key,
			      size_t key_len, const void *val, size_t val_len,
			      void *arg);

/*
 * 0, -EUCLEAN with the reason in why, or the error of a read. Memory: one bit
 * a page; time: one read a page. Any thread.
 */
int bale_index_audit_rows(int fd, bale_audit_row_fn *fn, void *arg, char *why,
			  size_t cap);
int bale_index_audit(int fd, char *why, size_t cap);

#endif
