/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index on LMDB, by the rules that measurement taught: default flags, no
 * DUPSORT, no WRITEMAP, one unnamed database whose keys begin with the table
 * number, one cursor per transaction, bounded transactions.
 */
#include "fs/store/kv.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
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

/* Address space only; fall back for small machines and sanitizers. */
static const size_t map_sizes[] = { (size_t)1 << 40, (size_t)1 << 36,
				    (size_t)1 << 32 };

enum {
	MAX_READERS = 1024,
	CRC_LEN = 4,
	POSITION_TABLE = 0xff, /* sorts behind every table */
	POSITION_VERSION = 1,
	GROWTH_STEP = 8 << 20,
};

struct position_row {
	le32 version, pad;
	le64 lsn, seq;
	le64 digest[BALE_TABLE_NR][2];
	le64 rows[BALE_TABLE_NR];
};

struct bale_kv {
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *write;			 /* writer only */
	struct bale_kv_position pending; /* writer only: of the open txn */
	struct bale_mutex lock;		 /* position, readers */
	struct bale_kv_position position;
	MDB_txn *idle[64]; /* reset read transactions, ready to be renewed */
	unsigned int nr_idle;
	int fd; /* of data.mdb, for preallocation; -1 read-only */
	uint64_t allocated;
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
	default:
		return r > 0 ? -r : -EUCLEAN;
	}
}

static size_t make_key(uint8_t *buf, unsigned int table, const void *key,
		       size_t key_len)
{
	buf[0] = (uint8_t)table;
	if (key_len)
		memcpy(buf + 1, key, key_len);
	return key_len + 1;
}

static uint32_t row_crc(const void *full_key, size_t key_len, const void *val,
			size_t val_len)
{
	return bale_crc32c(bale_crc32c(0, full_key, key_len), val, val_len);
}

/* Check and strip the checksum behind a stored value. */
static int check_value(const MDB_val *key, const MDB_val *data, size_t *ret_len)
{
	le32 crc;

	if (data->mv_size < CRC_LEN)
		return -EUCLEAN;
	*ret_len = data->mv_size - CRC_LEN;
	memcpy(&crc, (uint8_t *)data->mv_data + *ret_len, CRC_LEN);
	if (le32_get(crc) !=
	    row_crc(key->mv_data, key->mv_size, data->mv_data, *ret_len)) {
		bale_err("index: damaged row in table %u",
			 key->mv_size ? *(uint8_t *)key->mv_data : 0);
		return -EBADMSG;
	}
	return 0;
}

void bale_row_digest(unsigned int table, const void *key, size_t key_len,
		     const void *val, size_t val_len, uint64_t ret[2])
{
	XXH128_hash_t k = XXH3_128bits_withSeed(key, key_len, table);
	XXH128_hash_t h = XXH3_128bits_withSeed(val, val_len, k.low64);

	ret[0] = h.low64;
	ret[1] = h.high64 ^ k.high64;
}

/* ---- read transactions ---- */

static int begin_read(struct bale_kv *kv, MDB_txn **ret)
{
	MDB_txn *txn = NULL;

	bale_mutex_lock(&kv->lock);
	if (kv->nr_idle)
		txn = kv->idle[--kv->nr_idle];
	bale_mutex_unlock(&kv->lock);
	if (txn) {
		int r = mdb_txn_renew(txn);

		if (!r)
			*ret = txn;
		else
			mdb_txn_abort(txn);
		return to_errno(r);
	}
	return to_errno(mdb_txn_begin(kv->env, NULL, MDB_RDONLY, ret));
}

static void end_read(struct bale_kv *kv, MDB_txn *txn)
{
	mdb_txn_reset(txn);
	bale_mutex_lock(&kv->lock);
	if (kv->nr_idle < sizeof(kv->idle) / sizeof(*kv->idle)) {
		kv->idle[kv->nr_idle++] = txn;
		txn = NULL;
	}
	bale_mutex_unlock(&kv->lock);
	if (txn)
		mdb_txn_abort(txn);
}

int bale_kv_get(struct bale_kv *kv, unsigned int table, const void *key,
		size_t key_len, void *buf, size_t cap, size_t *ret_len)
{
	uint8_t full[1 + BALE_KEY_MAX];
	MDB_val k = { make_key(full, table, key, key_len), full }, v;
	MDB_txn *txn;
	size_t len = 0;
	int r = begin_read(kv, &txn);

	if (r)
		return r;
	r = to_errno(mdb_get(txn, kv->dbi, &k, &v));
	if (!r)
		r = check_value(&k, &v, &len);
	if (!r) {
		*ret_len = len;
		if (len > cap)
			r = -ENOSPC;
		else if (len)
			memcpy(buf, v.mv_data, len);
	}
	end_read(kv, txn);
	return r;
}

struct bale_kv_iter {
	struct bale_kv *kv;
	MDB_txn *txn;
	MDB_cursor *cursor;
	uint8_t from[1 + BALE_KEY_MAX];
	size_t from_len;
	bool started;
};

int bale_kv_iter_open(struct bale_kv *kv, unsigned int table, const void *key,
		      size_t key_len, struct bale_kv_iter **ret)
{
	struct bale_kv_iter *it = calloc(1, sizeof(*it));
	int r;

	if (!it)
		return -ENOMEM;
	it->kv = kv;
	it->from_len = make_key(it->from, table, key, key_len);
	r = begin_read(kv, &it->txn);
	if (r) {
		free(it);
		return r;
	}
	r = to_errno(mdb_cursor_open(it->txn, kv->dbi, &it->cursor));
	if (r) {
		end_read(kv, it->txn);
		free(it);
		return r;
	}
	*ret = it;
	return 0;
}

int bale_kv_iter_next(struct bale_kv_iter *it, struct bale_mem_row *ret)
{
	MDB_val k = { it->from_len, it->from }, v;
	size_t len;
	int r = to_errno(mdb_cursor_get(
		it->cursor, &k, &v, it->started ? MDB_NEXT : MDB_SET_RANGE));

	if (r)
		return r;
	it->started = true;
	if (k.mv_size < 1 || *(uint8_t *)k.mv_data >= BALE_TABLE_NR)
		return -ENOENT;
	r = check_value(&k, &v, &len);
	if (r)
		return r;
	*ret = (struct bale_mem_row){ .table = *(uint8_t *)k.mv_data,
				      .key = (uint8_t *)k.mv_data + 1,
				      .key_len = k.mv_size - 1,
				      .val = v.mv_data,
				      .val_len = len };
	return 0;
}

void bale_kv_iter_close(struct bale_kv_iter *it)
{
	if (!it)
		return;
	mdb_cursor_close(it->cursor);
	end_read(it->kv, it->txn);
	free(it);
}

/* ---- the writer ---- */

/* Blocks for the file's growth are taken before LMDB writes into them, so that
 * a full disk is met here and not inside a commit. */
static int preallocate(struct bale_kv *kv)
{
	struct stat st;

	if (fstat(kv->fd, &st))
		return -errno;
	if ((uint64_t)st.st_size + GROWTH_STEP / 2 <= kv->allocated)
		return 0;
	if (fallocate(kv->fd, FALLOC_FL_KEEP_SIZE, st.st_size, GROWTH_STEP))
		return errno == EOPNOTSUPP ? 0 : -errno;
	kv->allocated = (uint64_t)st.st_size + GROWTH_STEP;
	return 0;
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

int bale_kv_put(struct bale_kv *kv, const struct bale_mem_row *row)
{
	uint8_t full[1 + BALE_KEY_MAX];
	MDB_val k = { make_key(full, row->table, row->key, row->key_len),
		      full };
	MDB_val v;
	le32 crc;
	int r = mdb_get(kv->write, kv->dbi, &k, &v);

	if (r && r != MDB_NOTFOUND)
		return to_errno(r);
	if (!r) {
		size_t len;

		r = check_value(&k, &v, &len);
		if (r)
			return r;
		account(kv, row, v.mv_data, len, -1);
		if (row->deleted)
			return to_errno(mdb_del(kv->write, kv->dbi, &k, NULL));
	} else if (row->deleted) {
		return 0;
	}
	v = (MDB_val){ row->val_len + CRC_LEN, NULL };
	r = mdb_put(kv->write, kv->dbi, &k, &v, MDB_RESERVE);
	if (r)
		return to_errno(r);
	memcpy(v.mv_data, row->val, row->val_len);
	crc = le32_put(row_crc(full, k.mv_size, row->val, row->val_len));
	memcpy((uint8_t *)v.mv_data + row->val_len, &crc, CRC_LEN);
	account(kv, row, row->val, row->val_len, 1);
	return 0;
}

static int put_position(struct bale_kv *kv, const struct bale_kv_position *p)
{
	uint8_t key[1] = { POSITION_TABLE };
	MDB_val k = { 1, key },
		v = { sizeof(struct position_row) + CRC_LEN, NULL };
	struct position_row d = { .version = le32_put(POSITION_VERSION),
				  .lsn = le64_put(p->lsn),
				  .seq = le64_put(p->seq) };
	le32 crc;
	int r;

	for (int t = 0; t < BALE_TABLE_NR; t++) {
		d.digest[t][0] = le64_put(p->digest[t][0]);
		d.digest[t][1] = le64_put(p->digest[t][1]);
		d.rows[t] = le64_put(p->rows[t]);
	}
	r = mdb_put(kv->write, kv->dbi, &k, &v, MDB_RESERVE);
	if (r)
		return to_errno(r);
	crc = le32_put(row_crc(key, 1, &d, sizeof(d)));
	memcpy(v.mv_data, &d, sizeof(d));
	memcpy((uint8_t *)v.mv_data + sizeof(d), &crc, CRC_LEN);
	return 0;
}

int bale_kv_commit(struct bale_kv *kv, const uint64_t *lsn, const uint64_t *seq)
{
	int r;

	if (lsn) {
		kv->pending.lsn = *lsn;
		kv->pending.seq = *seq;
	}
	r = put_position(kv, &kv->pending);
	if (r) {
		bale_kv_abort(kv);
		return r;
	}
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

static int load_position(struct bale_kv *kv)
{
	uint8_t key[1] = { POSITION_TABLE };
	MDB_val k = { 1, key }, v;
	struct position_row d = { 0 };
	MDB_txn *txn;
	size_t len;
	int r = begin_read(kv, &txn);

	if (r)
		return r;
	r = to_errno(mdb_get(txn, kv->dbi, &k, &v));
	if (!r)
		r = check_value(&k, &v, &len);
	if (!r && len != sizeof(d))
		r = -EUCLEAN;
	if (!r)
		memcpy(&d, v.mv_data, sizeof(d));
	end_read(kv, txn);
	if (r)
		return r;
	if (le32_get(d.version) != POSITION_VERSION)
		return -EUCLEAN;
	kv->position.lsn = le64_get(d.lsn);
	kv->position.seq = le64_get(d.seq);
	for (int t = 0; t < BALE_TABLE_NR; t++) {
		kv->position.digest[t][0] = le64_get(d.digest[t][0]);
		kv->position.digest[t][1] = le64_get(d.digest[t][1]);
		kv->position.rows[t] = le64_get(d.rows[t]);
	}
	return 0;
}

static void on_assert(MDB_env *env, const char *msg)
{
	(void)env;
	bale_err("index: lmdb: %s: remove the folder `index` of the store and "
		 "mount again",
		 msg);
}

static int open_env(struct bale_kv *kv, const char *path, bool read_only)
{
	unsigned int flags =
		MDB_NOTLS | (read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
	int r = MDB_INVALID;

	for (size_t i = 0; i < sizeof(map_sizes) / sizeof(*map_sizes); i++) {
		r = mdb_env_create(&kv->env);
		if (r)
			return to_errno(r);
		mdb_env_set_mapsize(kv->env, map_sizes[i]);
		mdb_env_set_maxreaders(kv->env, MAX_READERS);
		mdb_env_set_assert(kv->env, on_assert);
		r = mdb_env_open(kv->env, path, flags, 0600);
		if (!r)
			return 0;
		mdb_env_close(kv->env);
		kv->env = NULL;
		if (r != ENOMEM)
			break;
	}
	return to_errno(r);
}

static int open_dbi(struct bale_kv *kv, bool read_only)
{
	MDB_txn *txn;
	int r = mdb_txn_begin(kv->env, NULL, read_only ? MDB_RDONLY : 0, &txn);

	if (r)
		return to_errno(r);
	r = mdb_dbi_open(txn, NULL, 0, &kv->dbi);
	if (r) {
		mdb_txn_abort(txn);
		return to_errno(r);
	}
	return to_errno(mdb_txn_commit(txn));
}

int bale_kv_open(const char *path, bool read_only, bool create,
		 struct bale_kv **ret)
{
	struct bale_kv *kv;
	bale_autofree char *file = NULL;
	int r;

	if (asprintf(&file, "%s/data.mdb", path) < 0)
		return -ENOMEM;
	if (!create && access(file, F_OK))
		return -ENOENT;
	kv = calloc(1, sizeof(*kv));
	if (!kv)
		return -ENOMEM;
	bale_mutex_init(&kv->lock);
	kv->fd = -1;
	r = open_env(kv, path, read_only);
	if (!r && !read_only) {
		kv->fd = open(file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		r = kv->fd < 0 ? -errno : 0;
	}
	if (!r)
		r = open_dbi(kv, read_only);
	if (!r)
		r = load_position(kv);
	if (r == -ENOENT)
		r = create ? 0 : -EUCLEAN;
	if (r) {
		bale_kv_close(kv);
		return r;
	}
	*ret = kv;
	return 0;
}

/* kv->fd is closed after the environment: closing any descriptor of the file
 * drops LMDB's locks in this process, and by then there are none. */
void bale_kv_close(struct bale_kv *kv)
{
	struct stat st;

	if (!kv)
		return;
	bale_kv_abort(kv);
	for (unsigned int i = 0; i < kv->nr_idle; i++)
		mdb_txn_abort(kv->idle[i]);
	if (kv->env)
		mdb_env_close(kv->env);
	if (kv->fd >= 0) {
		/* Growth that was preallocated and not used goes back. */
		if (!fstat(kv->fd, &st) && ftruncate(kv->fd, st.st_size))
			bale_debug("index: %s", strerror(errno));
		close(kv->fd);
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
