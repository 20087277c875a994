/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index on LMDB, by the rules that measurement taught: default flags, no
 * DUPSORT, no WRITEMAP, at most one cursor in a write transaction, bounded
 * transactions. One named database a table, so that rows with ascending keys
 * are added at the end of a tree and fill its pages.
 */
#include "fs/store/kv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/base/thread.h"
#include "fs/store/wal.h"

/* Address space only; fall back for small machines and sanitizers. */
static const size_t map_sizes[] = { (size_t)1 << 40, (size_t)1 << 36,
				    (size_t)1 << 32 };

enum {
	CRC_LEN = 4,
	POSITION_TABLE = BALE_TABLE_NR, /* behind the tables of rows */
	NR_TABLES,
	POSITION_VERSION = 2,
	GROWTH_STEP = 16 << 20,
	GROWTH_LOW = 8 << 20,
	GROWTH_MIN = 256 << 10,
};

struct position_row {
	le32 version, pad;
	uint8_t uuid[16];
	le64 lsn, seq, last_lsn;
	le64 digest[BALE_TABLE_NR][2];
	le64 rows[BALE_TABLE_NR];
};

struct bale_kv {
	MDB_env *env;			 /* const after open */
	MDB_dbi dbi[NR_TABLES];		 /* const after open */
	MDB_txn *write;			 /* writer only */
	struct bale_kv_position pending; /* writer only: of the open txn */
	uint64_t allocated; /* writer only: preallocated up to here */
	bool read_only;	    /* const */
	atomic_bool doubtful;
	struct bale_mutex lock; /* position */
	struct bale_kv_position position;
};

static int to_errno(int r)
{
	switch (r) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
		return -ENOSPC;
	case MDB_READERS_FULL:
		return -EAGAIN;
	case MDB_PANIC: /* its own commit record failed half way */
		return -ENOTRECOVERABLE;
	default:
		return r > 0 ? -r : -EUCLEAN;
	}
}

static const char *table_name(unsigned int table)
{
	return table == POSITION_TABLE ? "position" : bale_table_name(table);
}

static uint32_t row_crc(unsigned int table, const void *key, size_t key_len,
			const void *val, size_t val_len)
{
	uint8_t t = (uint8_t)table;
	uint32_t crc = bale_crc32c(bale_crc32c(0, &t, 1), key, key_len);

	return bale_crc32c(crc, val, val_len);
}

int bale_kv_check_value(unsigned int table, const void *key, size_t key_len,
			const void *val, size_t val_len, size_t *ret_len)
{
	size_t len = val_len - CRC_LEN;
	le32 crc;

	if (val_len < CRC_LEN)
		return -EUCLEAN;
	memcpy(&crc, (const uint8_t *)val + len, CRC_LEN);
	if (le32_get(crc) != row_crc(table, key, key_len, val, len))
		return -EBADMSG;
	*ret_len = len;
	return 0;
}

static int check_value(struct bale_kv *kv, unsigned int table,
		       const MDB_val *key, const MDB_val *data, size_t *ret_len)
{
	int r = bale_kv_check_value(table, key->mv_data, key->mv_size,
				    data->mv_data, data->mv_size, ret_len);

	if (r && !atomic_exchange(&kv->doubtful, true))
		bale_err("index: damaged row in table %s: a new index will be "
			 "built at the next mount",
			 table_name(table));
	return r;
}

bool bale_kv_doubtful(struct bale_kv *kv)
{
	return atomic_load(&kv->doubtful);
}

void bale_kv_doubt(struct bale_kv *kv)
{
	atomic_store(&kv->doubtful, true);
}

void bale_row_digest(unsigned int table, const void *key, size_t key_len,
		     const void *val, size_t val_len, uint64_t ret[2])
{
	XXH128_hash_t k = XXH3_128bits_withSeed(key, key_len, table);
	XXH128_hash_t h = XXH3_128bits_withSeed(val, val_len, k.low64);

	ret[0] = h.low64;
	ret[1] = h.high64 ^ k.high64;
}

/* ---- reading ---- */

int bale_kv_txn_renew(struct bale_kv *kv, struct bale_kv_txn **txn)
{
	MDB_txn *t = (MDB_txn *)*txn;
	int r;

	if (t)
		return to_errno(mdb_txn_renew(t));
	r = mdb_txn_begin(kv->env, NULL, MDB_RDONLY, &t);
	if (!r)
		*txn = (struct bale_kv_txn *)t;
	return to_errno(r);
}

void bale_kv_txn_reset(struct bale_kv_txn *txn)
{
	mdb_txn_reset((MDB_txn *)txn);
}

void bale_kv_txn_free(struct bale_kv_txn *txn)
{
	if (txn)
		mdb_txn_abort((MDB_txn *)txn);
}

int bale_kv_get(struct bale_kv *kv, struct bale_kv_txn *txn, unsigned int table,
		const void *key, size_t key_len, void *buf, size_t cap,
		size_t *ret_len)
{
	MDB_val k = { key_len, (void *)key }, v;
	size_t len = 0;
	int r = to_errno(mdb_get((MDB_txn *)txn, kv->dbi[table], &k, &v));

	if (!r)
		r = check_value(kv, table, &k, &v, &len);
	if (r)
		return r;
	*ret_len = len;
	if (len > cap)
		return -ENOSPC;
	if (len)
		memcpy(buf, v.mv_data, len);
	return 0;
}

struct bale_kv_iter {
	struct bale_kv *kv;
	MDB_cursor *cursor;
	unsigned int table;
	bool started;
	size_t from_len;
	uint8_t from[];
};

int bale_kv_iter_open(struct bale_kv *kv, struct bale_kv_txn *txn,
		      unsigned int table, const void *key, size_t key_len,
		      struct bale_kv_iter **ret)
{
	struct bale_kv_iter *it = calloc(1, sizeof(*it) + key_len);
	int r;

	if (!it)
		return -ENOMEM;
	it->kv = kv;
	it->table = table;
	it->from_len = key_len;
	if (key_len)
		memcpy(it->from, key, key_len);
	r = to_errno(
		mdb_cursor_open((MDB_txn *)txn, kv->dbi[table], &it->cursor));
	if (r) {
		free(it);
		return r;
	}
	*ret = it;
	return 0;
}

int bale_kv_iter_next(struct bale_kv_iter *it, struct bale_mem_row *ret)
{
	MDB_cursor_op op = it->started	? MDB_NEXT :
			   it->from_len ? MDB_SET_RANGE :
					  MDB_FIRST;
	MDB_val k = { it->from_len, it->from }, v;
	size_t len;
	int r = to_errno(mdb_cursor_get(it->cursor, &k, &v, op));

	if (!r)
		r = check_value(it->kv, it->table, &k, &v, &len);
	if (r)
		return r;
	it->started = true;
	*ret = (struct bale_mem_row){ .table = it->table,
				      .key = k.mv_data,
				      .key_len = k.mv_size,
				      .val = v.mv_data,
				      .val_len = len };
	return 0;
}

void bale_kv_iter_close(struct bale_kv_iter *it)
{
	if (!it)
		return;
	mdb_cursor_close(it->cursor);
	free(it);
}

/* ---- the writer ---- */

/* Blocks for the file's growth are taken before LMDB writes into them, so that
 * a full disk is met here and not inside a commit. */
static int preallocate(struct bale_kv *kv)
{
	struct stat st;
	int fd, r = to_errno(mdb_env_get_fd(kv->env, &fd));

	if (r)
		return r;
	if (fstat(fd, &st))
		return -errno;
	if ((uint64_t)st.st_size + GROWTH_LOW <= kv->allocated)
		return 0;
	/* On a nearly full disk less has to do: a transaction reuses pages,
	 * and one that fails for space changes nothing. */
	for (off_t step = GROWTH_STEP; step >= GROWTH_MIN; step /= 2) {
		if (!fallocate(fd, FALLOC_FL_KEEP_SIZE, st.st_size, step)) {
			kv->allocated = (uint64_t)(st.st_size + step);
			return 0;
		}
		if (errno != ENOSPC)
			break;
	}
	return errno == EOPNOTSUPP ? 0 : -errno;
}

int bale_kv_begin(struct bale_kv *kv)
{
	int r = preallocate(kv);

	if (r)
		return r;
	kv->pending = kv->position;
	return to_errno(mdb_txn_begin(kv->env, NULL, 0, &kv->write));
}

static void account(struct bale_kv *kv, const struct bale_mem_row *row,
		    const void *val, size_t val_len, int sign)
{
	uint64_t d[2];

	bale_row_digest(row->table, row->key, row->key_len, val, val_len, d);
	for (int i = 0; i < 2; i++)
		kv->pending.digest[row->table][i] += sign > 0 ? d[i] : 0 - d[i];
	kv->pending.rows[row->table] += sign > 0 ? 1 : UINT64_MAX;
}

/* The transaction with the row in it, or gone. */
static int fail_write(struct bale_kv *kv, int r)
{
	if (r)
		bale_kv_abort(kv);
	return r;
}

static int put_value(struct bale_kv *kv, const struct bale_mem_row *row,
		     MDB_val *k)
{
	MDB_val v = { row->val_len + CRC_LEN, NULL };
	le32 crc = le32_put(row_crc(row->table, row->key, row->key_len,
				    row->val, row->val_len));
	int r = mdb_put(kv->write, kv->dbi[row->table], k, &v, MDB_RESERVE);

	if (r)
		return to_errno(r);
	if (row->val_len)
		memcpy(v.mv_data, row->val, row->val_len);
	memcpy((uint8_t *)v.mv_data + row->val_len, &crc, CRC_LEN);
	account(kv, row, row->val, row->val_len, 1);
	return 0;
}

int bale_kv_put(struct bale_kv *kv, const struct bale_mem_row *row)
{
	MDB_val k = { row->key_len, (void *)row->key }, v;
	int r = mdb_get(kv->write, kv->dbi[row->table], &k, &v);
	size_t len;

	if (r && r != MDB_NOTFOUND)
		return fail_write(kv, to_errno(r));
	if (!r) {
		/* A damaged old value: the digest is lost, not the new one. */
		if (!check_value(kv, row->table, &k, &v, &len))
			account(kv, row, v.mv_data, len, -1);
		if (row->deleted)
			return fail_write(
				kv,
				to_errno(mdb_del(kv->write, kv->dbi[row->table],
						 &k, NULL)));
	} else if (row->deleted) {
		return 0;
	}
	return fail_write(kv, put_value(kv, row, &k));
}

static int put_position(struct bale_kv *kv, const struct bale_kv_position *p)
{
	static const char key[] = "now";
	struct {
		struct position_row row;
		le32 crc;
	} d = { .row = { .version = le32_put(POSITION_VERSION),
			 .lsn = le64_put(p->lsn),
			 .last_lsn = le64_put(p->last_lsn),
			 .seq = le64_put(bale_kv_doubtful(kv) ? 0 : p->seq) } };
	MDB_val k = { sizeof(key) - 1, (void *)key }, v = { sizeof(d), &d };

	memcpy(d.row.uuid, p->uuid, sizeof(d.row.uuid));
	for (int t = 0; t < BALE_TABLE_NR; t++) {
		d.row.digest[t][0] = le64_put(p->digest[t][0]);
		d.row.digest[t][1] = le64_put(p->digest[t][1]);
		d.row.rows[t] = le64_put(p->rows[t]);
	}
	d.crc = le32_put(row_crc(POSITION_TABLE, k.mv_data, k.mv_size, &d.row,
				 sizeof(d.row)));
	static_assert(sizeof(d) == sizeof(d.row) + CRC_LEN, "no padding");
	return to_errno(mdb_put(kv->write, kv->dbi[POSITION_TABLE], &k, &v, 0));
}

int bale_kv_commit(struct bale_kv *kv, const struct bale_wal_position *pos)
{
	int r;

	if (pos) {
		kv->pending.lsn = pos->lsn;
		kv->pending.seq = pos->seq;
		kv->pending.last_lsn = pos->last_lsn;
	}
	r = fail_write(kv, put_position(kv, &kv->pending));
	if (r)
		return r;
	r = to_errno(mdb_txn_commit(kv->write));
	kv->write = NULL;
	if (r)
		return r;
	bale_mutex_lock(&kv->lock);
	kv->position = kv->pending;
	bale_mutex_unlock(&kv->lock);
	return 0;
}

void bale_kv_abort(struct bale_kv *kv)
{
	if (kv->write)
		mdb_txn_abort(kv->write);
	kv->write = NULL;
}

/* ---- open, close ---- */

int bale_kv_position_decode(const void *key, size_t key_len, const void *val,
			    size_t val_len, struct bale_kv_position *ret)
{
	const struct position_row *d = val;
	size_t len;
	int r = bale_kv_check_value(POSITION_TABLE, key, key_len, val, val_len,
				    &len);

	if (r)
		return r;
	if (len != sizeof(*d) || le32_get(d->version) != POSITION_VERSION)
		return -EUCLEAN;
	memcpy(ret->uuid, d->uuid, sizeof(ret->uuid));
	ret->lsn = le64_get(d->lsn);
	ret->seq = le64_get(d->seq);
	ret->last_lsn = le64_get(d->last_lsn);
	for (int t = 0; t < BALE_TABLE_NR; t++) {
		ret->digest[t][0] = le64_get(d->digest[t][0]);
		ret->digest[t][1] = le64_get(d->digest[t][1]);
		ret->rows[t] = le64_get(d->rows[t]);
	}
	return 0;
}

int bale_kv_position_in(struct bale_kv *kv, struct bale_kv_txn *txn,
			struct bale_kv_position *ret)
{
	MDB_val k = { 3, (void *)"now" }, v;
	int r = to_errno(
		mdb_get((MDB_txn *)txn, kv->dbi[POSITION_TABLE], &k, &v));

	return r ? r :
		   bale_kv_position_decode(k.mv_data, k.mv_size, v.mv_data,
					   v.mv_size, ret);
}

static int load_position(struct bale_kv *kv, MDB_txn *txn,
			 const uint8_t uuid[16])
{
	int r = bale_kv_position_in(kv, (struct bale_kv_txn *)txn,
				    &kv->position);

	if (!r && memcmp(kv->position.uuid, uuid, sizeof(kv->position.uuid)))
		r = -EUCLEAN;
	return r;
}

static void on_assert(MDB_env *env, const char *msg)
{
	(void)env;
	bale_err("index: lmdb: %s: remove the folder `index` of the store and "
		 "mount again",
		 msg);
}

static int open_env(struct bale_kv *kv, const char *path, bool is_file)
{
	unsigned int flags =
		MDB_NOTLS | (kv->read_only ? MDB_RDONLY | MDB_NOLOCK : 0) |
		(is_file ? MDB_NOSUBDIR : 0);
	int r = MDB_INVALID;

	for (size_t i = 0; i < sizeof(map_sizes) / sizeof(*map_sizes); i++) {
		r = mdb_env_create(&kv->env);
		if (r)
			return to_errno(r);
		mdb_env_set_mapsize(kv->env, map_sizes[i]);
		mdb_env_set_maxreaders(kv->env, BALE_KV_MAX_READERS + 8);
		mdb_env_set_maxdbs(kv->env, NR_TABLES);
		mdb_env_set_assert(kv->env, on_assert);
		r = mdb_env_open(kv->env, path, flags, 0600);
		if (!r)
			return 0;
		mdb_env_close(kv->env);
		kv->env = NULL;
		/* EINVAL: how valgrind says that it has no room for it. */
		if (r != ENOMEM && r != EINVAL)
			break;
	}
	return to_errno(r);
}

static int open_tables(struct bale_kv *kv, bool create, const uint8_t uuid[16])
{
	MDB_txn *txn;
	int r = to_errno(mdb_txn_begin(kv->env, NULL,
				       kv->read_only ? MDB_RDONLY : 0, &txn));

	if (r)
		return r;
	for (unsigned int t = 0; !r && t < NR_TABLES; t++)
		r = to_errno(mdb_dbi_open(txn, table_name(t),
					  create ? MDB_CREATE : 0,
					  &kv->dbi[t]));
	if (!r && create)
		memcpy(kv->position.uuid, uuid, sizeof(kv->position.uuid));
	else if (!r)
		r = load_position(kv, txn, uuid);
	if (r) {
		mdb_txn_abort(txn);
		return r == -ENOENT ? -EUCLEAN : r;
	}
	return to_errno(mdb_txn_commit(txn));
}

int bale_kv_open(const char *path, unsigned int flags, const uint8_t uuid[16],
		 struct bale_kv **ret)
{
	bale_autofree char *file = NULL;
	struct bale_kv *kv;
	int r;

	if (asprintf(&file, "%s/data.mdb", path) < 0)
		return -ENOMEM;
	if (!(flags & BALE_KV_CREATE) && access(file, F_OK))
		return -ENOENT;
	kv = calloc(1, sizeof(*kv));
	if (!kv)
		return -ENOMEM;
	bale_mutex_init(&kv->lock);
	kv->read_only = flags & BALE_KV_READ_ONLY;
	r = open_env(kv, path, flags & BALE_KV_FILE);
	if (!r)
		r = open_tables(kv, flags & BALE_KV_CREATE, uuid);
	if (r) {
		bale_kv_close(kv);
		return r;
	}
	*ret = kv;
	return 0;
}

/* Growth that was preallocated and not used goes back. */
static void trim(struct bale_kv *kv)
{
	struct stat st;
	int fd;

	if (kv->allocated && !mdb_env_get_fd(kv->env, &fd) && !fstat(fd, &st) &&
	    ftruncate(fd, st.st_size))
		bale_debug("index: %s", strerror(errno));
}

void bale_kv_close(struct bale_kv *kv)
{
	if (!kv)
		return;
	bale_kv_abort(kv);
	if (kv->env) {
		trim(kv);
		mdb_env_close(kv->env);
	}
	bale_mutex_fini(&kv->lock);
	free(kv);
}

void bale_kv_position(struct bale_kv *kv, struct bale_kv_position *ret)
{
	bale_mutex_lock(&kv->lock);
	*ret = kv->position;
	bale_mutex_unlock(&kv->lock);
}

uint64_t bale_kv_bytes(struct bale_kv *kv)
{
	MDB_envinfo info;

	if (mdb_env_info(kv->env, &info))
		return 0;
	return ((uint64_t)info.me_last_pgno + 1) * 4096;
}
