/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_repair.c - repairs as transactions. A scan may not stage anything, so
 * transactions are built while it runs and committed, in order, after it.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/clock.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

/* One repair is at most a few rows; leave it room below BALE_TXN_MAX. */
enum { TXN_FULL = BALE_TXN_MAX / 4 };

size_t bale_fsck_batch_bytes = 8 << 20;

static bool is_full(const struct bale_txn *t)
{
	size_t bytes = bale_txn_bytes(t);

	return bytes && (bytes >= TXN_FULL || bytes >= bale_fsck_batch_bytes);
}

struct bale_txn *bale_fsck_txn(struct bale_fsck *f)
{
	struct bale_txn *t = f->nr_txns ? f->txns[f->nr_txns - 1] : NULL;

	if (t && !is_full(t))
		return t;
	if (f->nr_txns == f->cap_txns) {
		size_t cap = f->cap_txns ? f->cap_txns * 2 : 8;
		struct bale_txn **p = reallocarray(f->txns, cap, sizeof(*p));

		if (!p)
			return NULL;
		f->txns = p;
		f->cap_txns = cap;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	bale_txn_begin(f->m, t);
	f->txns[f->nr_txns++] = t;
	return t;
}

int bale_fsck_commit(struct bale_fsck *f)
{
	size_t nr = f->nr_txns;
	int r = 0;

	f->nr_txns = 0;
	for (size_t k = 0; k < nr; k++) {
		f->staged += bale_txn_bytes(f->txns[k]);
		if (r)
			bale_txn_abort(f->txns[k]);
		else
			r = bale_txn_commit(f->txns[k], NULL);
		free(f->txns[k]);
	}
	/* Into the log and the index, out of memory. */
	if (!r && f->staged >= bale_fsck_batch_bytes) {
		f->staged = 0;
		r = bale_meta_sync(f->m, 0);
		if (!r)
			r = bale_meta_apply(f->m);
	}
	if (r)
		bale_cmd_error("%s: repairs: %s", f->path, strerror(-r));
	return r;
}

/* The last one counts as full. */
static bool much_waits(const struct bale_fsck *f)
{
	size_t full = bale_fsck_batch_bytes < TXN_FULL ? bale_fsck_batch_bytes :
							 TXN_FULL;

	return f->nr_txns && f->nr_txns * full >= bale_fsck_batch_bytes &&
	       is_full(f->txns[f->nr_txns - 1]);
}

int bale_fsck_commit_full(struct bale_fsck *f)
{
	return much_waits(f) ? bale_fsck_commit(f) : 0;
}

/* ---- scans with repairs ---- */

struct scan {
	struct bale_fsck *f;
	bale_row_fn *fn;
	void *arg;
	uint8_t key[BALE_KEY_MAX];
	size_t key_len;
	bool again; /* key was seen already */
};

static int scan_row(const void *key, size_t key_len, const void *val,
		    size_t val_len, void *arg)
{
	struct scan *s = arg;
	int r;

	if (s->again && key_len == s->key_len && !memcmp(key, s->key, key_len))
		return 0;
	r = s->fn(key, key_len, val, val_len, s->arg);
	if (r || !much_waits(s->f) || key_len > sizeof(s->key))
		return r;
	memcpy(s->key, key, key_len);
	s->key_len = key_len;
	return 1;
}

int bale_fsck_scan(struct bale_fsck *f, enum bale_table table, bale_row_fn *fn,
		   void *arg)
{
	struct scan s = { .f = f, .fn = fn, .arg = arg };
	int r = 0, c = 0;

	do {
		r = bale_meta_scan(f->m, table, s.key, s.key_len, 0, scan_row,
				   &s);
		s.again = r == 1;
		if (s.again)
			c = bale_fsck_commit(f);
	} while (s.again && !c);
	return c ? c : r;
}

int bale_fsck_get_inode(struct bale_fsck *f, uint64_t ino,
			struct bale_inode_row *ret)
{
	be64 key = be64_put(ino);
	uint8_t val[sizeof(struct bale_disk_inode)];
	size_t len;
	int r = bale_meta_get(f->m, BALE_TABLE_inode, &key, sizeof(key), val,
			      sizeof(val), &len);

	return r ? r : bale_inode_decode(val, len, ret);
}

void bale_fsck_put_inode(struct bale_txn *t, uint64_t ino,
			 const struct bale_inode_row *row)
{
	struct bale_disk_inode d;
	be64 key = be64_put(ino);

	bale_inode_encode(row, &d);
	bale_txn_put(t, BALE_TABLE_inode, &key, sizeof(key), &d, sizeof(d));
}

void bale_fsck_put_name(struct bale_txn *t, uint64_t dir, const void *name,
			size_t len, uint64_t ino, uint8_t type, uint64_t cookie)
{
	uint8_t key[BALE_KEY_MAX];
	uint8_t val[sizeof(struct bale_disk_cookie) + BALE_NAME_MAX];
	struct bale_disk_dirent d = { .ino = le64_put(ino),
				      .cookie = le64_put(cookie),
				      .type = type };
	struct bale_disk_cookie c = { .ino = d.ino, .type = type };
	be64 k = be64_put(dir), ck = be64_put(cookie);

	memcpy(key, &k, 8);
	memcpy(key + 8, name, len);
	bale_txn_put(t, BALE_TABLE_dirent, key, 8 + len, &d, sizeof(d));
	memcpy(key + 8, &ck, 8);
	memcpy(val, &c, sizeof(c));
	memcpy(val + sizeof(c), name, len);
	bale_txn_put(t, BALE_TABLE_cookie, key, 16, val, sizeof(c) + len);
}

/* A fresh row for fsck's own inodes; the owner is the root directory's. */
static struct bale_inode_row new_row(struct bale_fsck *f, uint32_t mode)
{
	struct timespec now = bale_wall();
	struct bale_inode_row root = { 0 };
	struct bale_inode_row row = { .mode = mode,
				      .nlink = 1,
				      .atime = now,
				      .mtime = now,
				      .ctime = now,
				      .btime = now };

	if (!bale_fsck_get_inode(f, BALE_ROOT_INO, &root)) {
		row.uid = root.uid;
		row.gid = root.gid;
	}
	if (S_ISDIR(mode)) {
		row.nlink = 2;
		row.next_cookie = 3; /* 1 and 2 are . and .. */
		row.parent = BALE_ROOT_INO;
	}
	return row;
}

int bale_fsck_make_inode(struct bale_fsck *f, uint64_t ino, uint32_t mode,
			 uint64_t size, uint32_t flags)
{
	struct bale_fsck_inode i = { .ino = ino,
				     .type = (uint8_t)(mode >> 12 & 15) };
	struct bale_inode_row row = new_row(f, mode);
	struct bale_txn *t = bale_fsck_txn(f);

	if (!t)
		return -ENOMEM;
	row.size = size;
	row.flags = flags;
	bale_fsck_put_inode(t, ino, &row);
	return bale_fsck_inode_insert(f, &i);
}

/* ---- lost+found ---- */

static const char lost_name[] = "lost+found";

static int name_lookup(struct bale_fsck *f, uint64_t dir, const char *name,
		       uint64_t *ret_ino, uint8_t *ret_type)
{
	uint8_t key[BALE_KEY_MAX];
	struct bale_disk_dirent d;
	be64 k = be64_put(dir);
	size_t len = strlen(name), got;
	int r;

	memcpy(key, &k, 8);
	memcpy(key + 8, name, len);
	r = bale_meta_get(f->m, BALE_TABLE_dirent, key, 8 + len, &d, sizeof(d),
			  &got);
	if (r)
		return r;
	*ret_ino = le64_get(d.ino);
	*ret_type = d.type;
	return 0;
}

/* A name in dir, whose row and counts take it in; committed at once. row: of an
 * inode that is made with it, else NULL. */
static int add_name(struct bale_fsck *f, uint64_t dir, const char *name,
		    struct bale_fsck_inode *i, const struct bale_inode_row *row)
{
	struct bale_fsck_inode *d = bale_fsck_inode(f, dir);
	struct bale_inode_row dir_row;
	struct bale_txn *t = bale_fsck_txn(f);
	int r = bale_fsck_get_inode(f, dir, &dir_row);

	if (r || !d || !t)
		return r ? r : d ? -ENOMEM : -ENOENT;
	if (row)
		bale_fsck_put_inode(t, i->ino, row);
	bale_fsck_put_name(t, dir, name, strlen(name), i->ino, i->type,
			   dir_row.next_cookie++);
	dir_row.nr_entries++;
	bale_fsck_put_inode(t, dir, &dir_row);
	r = bale_fsck_commit(f);
	if (r)
		return r;
	d->entries++;
	i->links++;
	if (i->type == DT_DIR) {
		d->subdirs++;
		i->parent = dir;
	}
	return 0;
}

static int make_lost_found(struct bale_fsck *f)
{
	struct bale_fsck_inode i = { .type = DT_DIR,
				     .state = BALE_FSCK_REACHED };
	struct bale_inode_row row = new_row(f, S_IFDIR | 0700);
	int r = bale_meta_new_ino(f->m, &i.ino);

	if (!r)
		r = add_name(f, BALE_ROOT_INO, lost_name, &i, &row);
	if (!r)
		r = bale_fsck_inode_insert(f, &i);
	if (r)
		return r;
	if (i.ino > f->max_ino)
		f->max_ino = i.ino;
	f->lost_found = i.ino;
	return 0;
}

static int find_lost_found(struct bale_fsck *f)
{
	uint64_t ino;
	uint8_t type;
	int r;

	if (f->lost_found)
		return 0;
	r = name_lookup(f, BALE_ROOT_INO, lost_name, &ino, &type);
	if (r == -ENOENT)
		return make_lost_found(f);
	if (r)
		return r;
	if (type != DT_DIR || !bale_fsck_inode(f, ino)) {
		bale_cmd_error("%s: /lost+found is not a directory", f->path);
		return -ENOTDIR;
	}
	f->lost_found = ino;
	return 0;
}

int bale_fsck_adopt(struct bale_fsck *f, struct bale_fsck_inode *i)
{
	uint64_t ino = i->ino, other;
	char name[64];
	uint8_t type;
	int r = bale_fsck_commit(f);

	if (!r)
		r = find_lost_found(f);
	if (r)
		return r;
	snprintf(name, sizeof(name), "#%" PRIu64, ino);
	for (unsigned int k = 1;; k++) {
		r = name_lookup(f, f->lost_found, name, &other, &type);
		if (r == -ENOENT)
			break;
		if (r)
			return r;
		snprintf(name, sizeof(name), "#%" PRIu64 ".%u", ino, k);
	}
	/* The array may have moved when lost+found was made. */
	i = bale_fsck_inode(f, ino);
	r = add_name(f, f->lost_found, name, i, NULL);
	if (!r && i->type == DT_DIR) {
		struct bale_inode_row row;
		struct bale_txn *t = bale_fsck_txn(f);

		r = t ? bale_fsck_get_inode(f, ino, &row) : -ENOMEM;
		if (!r) {
			row.parent = f->lost_found;
			bale_fsck_put_inode(t, ino, &row);
		}
	}
	return r;
}
