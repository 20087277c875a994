/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.h - the index behind a dozen functions: one ordered map of (table, key)
 * to value, LMDB today. One writer (the applier), any number of readers, each
 * read transaction as short as one get or one scan. Every value carries a
 * crc32c of table, key and value; every commit records the log position that
 * the index reflects and a running digest of every table.
 */
#ifndef BALE_STORE_KV_H
#define BALE_STORE_KV_H

#include "fs/format/format.h"
#include "fs/store/memtable.h"

struct bale_kv;
struct bale_kv_iter;

struct bale_kv_position {
	uint64_t lsn, seq; /* the next record to replay */
	uint64_t digest[BALE_TABLE_NR][2];
	uint64_t rows[BALE_TABLE_NR];
};

/* path: the directory. -ENOENT: no index there (and create is false);
 * -EUCLEAN: not one of ours or damaged. */
int bale_kv_open(const char *path, bool read_only, bool create,
		 struct bale_kv **ret);
void bale_kv_close(struct bale_kv *kv); /* NULL is fine */
void bale_kv_position(struct bale_kv *kv, struct bale_kv_position *ret);
uint64_t bale_kv_bytes(struct bale_kv *kv);

/* As bale_meta_get(). */
int bale_kv_get(struct bale_kv *kv, unsigned int table, const void *key,
		size_t key_len, void *buf, size_t cap, size_t *ret_len);

/* Rows from (table, key) on, in order, across tables. */
int bale_kv_iter_open(struct bale_kv *kv, unsigned int table, const void *key,
		      size_t key_len, struct bale_kv_iter **ret);
/* -ENOENT at the end. Pointers live until the next call. */
int bale_kv_iter_next(struct bale_kv_iter *it, struct bale_mem_row *ret);
void bale_kv_iter_close(struct bale_kv_iter *it);

/* The writer. begin; put/del; commit with the new position, or without (NULL:
 * the recorded one stays: rows alone are ahead of it, which replay mends). */
int bale_kv_begin(struct bale_kv *kv);
int bale_kv_put(struct bale_kv *kv, const struct bale_mem_row *row);
int bale_kv_commit(struct bale_kv *kv, const uint64_t *lsn,
		   const uint64_t *seq);
void bale_kv_abort(struct bale_kv *kv);

/* What a row adds to its table's digest. */
void bale_row_digest(unsigned int table, const void *key, size_t key_len,
		     const void *val, size_t val_len, uint64_t ret[2]);

#endif
