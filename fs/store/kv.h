/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.h - the index behind a dozen functions: ordered tables of keys to values,
 * LMDB today. One writer (the applier), any number of readers, each read
 * transaction as short as one get or one chunk of a scan. Every value carries
 * a crc32c of table, key and value; every commit records the store it belongs
 * to, the log position that it reflects and a running digest of every table.
 */
#ifndef BALE_STORE_KV_H
#define BALE_STORE_KV_H

#include "fs/format/format.h"
#include "fs/store/memtable.h"

struct bale_kv;
struct bale_kv_iter;
struct bale_kv_txn; /* a read transaction */

struct bale_kv_position {
	uint8_t uuid[16];
	uint64_t lsn, seq; /* the next record to replay; seq 0: unfinished */
	uint64_t last_lsn; /* of the record before it */
	uint64_t digest[BALE_TABLE_NR][2];
	uint64_t rows[BALE_TABLE_NR];
};

enum {
	BALE_KV_READ_ONLY = 1, /* nothing is written, no lock file */
	BALE_KV_CREATE = 2,
	BALE_KV_FILE = 4, /* path is the file, with CREATE only */
	BALE_KV_MAX_READERS = 256,
};

/* path: the directory that has data.mdb. -ENOENT: no index there; -EUCLEAN: not one of this
 * store, or damaged. The file must have been audited, or ended cleanly. */
int bale_kv_open(const char *path, unsigned int flags, const uint8_t uuid[16],
		 struct bale_kv **ret);
void bale_kv_close(struct bale_kv *kv); /* NULL is fine; no transaction open */
void bale_kv_position(struct bale_kv *kv, struct bale_kv_position *ret);
/* The one that the transaction sees. */
int bale_kv_position_in(struct bale_kv *kv, struct bale_kv_txn *txn,
			struct bale_kv_position *ret);
/* A position row as stored, checksum included: for the audit. -EUCLEAN. */
int bale_kv_position_decode(const void *key, size_t key_len, const void *val,
			    size_t val_len, struct bale_kv_position *ret);
uint64_t bale_kv_bytes(struct bale_kv *kv);
/* A damaged row was met: nothing may be built on this index, and it says so
 * on disk with the next commit, so that the next open makes a new one. */
bool bale_kv_doubtful(struct bale_kv *kv);
/* As if one was: rows are missing or stale. */
void bale_kv_doubt(struct bale_kv *kv);

/* ---- reading ---- */

/* Begin (*txn NULL) or begin again after reset. */
int bale_kv_txn_renew(struct bale_kv *kv, struct bale_kv_txn **txn);
void bale_kv_txn_reset(struct bale_kv_txn *txn); /* ends it, kept for reuse */
void bale_kv_txn_free(struct bale_kv_txn *txn);	 /* NULL is fine */

/* As bale_meta_get(). */
int bale_kv_get(struct bale_kv *kv, struct bale_kv_txn *txn, unsigned int table,
		const void *key, size_t key_len, void *buf, size_t cap,
		size_t *ret_len);

/* Rows of the table from key on, in order. */
int bale_kv_iter_open(struct bale_kv *kv, struct bale_kv_txn *txn,
		      unsigned int table, const void *key, size_t key_len,
		      struct bale_kv_iter **ret);
/* -ENOENT at the end. Pointers live as long as the transaction. */
int bale_kv_iter_next(struct bale_kv_iter *it, struct bale_mem_row *ret);
void bale_kv_iter_close(struct bale_kv_iter *it); /* NULL is fine */

/* ---- the writer ---- */

/* begin; put (or delete) rows; commit with the new position, or without (NULL:
 * the recorded one stays: rows alone are ahead of it, which replay mends). A
 * failed put or commit has ended the transaction. */
int bale_kv_begin(struct bale_kv *kv);
int bale_kv_put(struct bale_kv *kv, const struct bale_mem_row *row);
struct bale_wal_position;
int bale_kv_commit(struct bale_kv *kv, const struct bale_wal_position *pos);
void bale_kv_abort(struct bale_kv *kv);

/* What a row adds to its table's digest. */
void bale_row_digest(unsigned int table, const void *key, size_t key_len,
		     const void *val, size_t val_len, uint64_t ret[2]);
/* Checks and strips the checksum behind a stored value. -EUCLEAN, -EBADMSG. */
int bale_kv_check_value(unsigned int table, const void *key, size_t key_len,
			const void *val, size_t val_len, size_t *ret_len);

#endif
