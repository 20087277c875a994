/* SPDX-License-Identifier: Apache-2.0 */
/*
 * orphan.c - rows that say "unfinished": an inode whose last name is gone but
 * that was still in use, or a truncation that takes several transactions. What
 * a crash left is finished when the store is opened writable.
 */
#include "fs/base/fault.h"
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

void bale_orphan_stage(struct bale_txn *t, uint64_t ino, uint64_t reason)
{
	be64 key = be64_put(ino);
	le64 val = le64_put(reason);

	bale_txn_put(t, BALE_TABLE_orphan, &key, sizeof(key), &val,
		     sizeof(val));
}

void bale_orphan_stage_del(struct bale_txn *t, uint64_t ino)
{
	be64 key = be64_put(ino);

	bale_txn_del(t, BALE_TABLE_orphan, &key, sizeof(key));
}

struct orphan {
	uint64_t ino, reason;
};

static int collect(const void *key, size_t key_len, const void *val,
		   size_t val_len, void *arg)
{
	struct orphan o;
	be64 k;
	le64 v;

	if (key_len != sizeof(k) || val_len != sizeof(v))
		return -EUCLEAN;
	memcpy(&k, key, sizeof(k));
	memcpy(&v, val, sizeof(v));
	o.ino = be64_get(k);
	o.reason = le64_get(v);
	return bale_buf_append(arg, &o, sizeof(o));
}

static int drop_row(struct bale_fs *fs, uint64_t ino)
{
	struct bale_txn t;

	bale_txn_begin(bale_fs_meta(fs), &t);
	bale_orphan_stage_del(&t, ino);
	return bale_txn_commit(&t, NULL);
}

/* Putting the last reference of an inode without names deletes it. */
static int finish(struct bale_fs *fs, const struct orphan *o)
{
	struct bale_inode *i;
	int r = bale_inode_get(fs, o->ino, &i);

	if (r == -ENOENT)
		return drop_row(fs, o->ino);
	if (r)
		return r;
	if (i->row.nlink) {
		bale_rwlock_wrlock(&i->lock);
		if (o->reason == BALE_ORPHAN_TRUNCATE && S_ISREG(i->row.mode))
			r = bale_file_truncate_locked(i, i->row.size);
		bale_rwlock_unlock(&i->lock);
		if (!r)
			r = drop_row(fs, o->ino);
	}
	bale_inode_put_unlocked(i);
	return r;
}

int bale_names_recover(struct bale_fs *fs)
{
	struct bale_buf all = { 0 };
	size_t nr;
	int r = bale_meta_scan(bale_fs_meta(fs), BALE_TABLE_orphan, "", 0, 0,
			       collect, &all);

	nr = all.len / sizeof(struct orphan);
	for (size_t k = 0; !r && k < nr; k++) {
		struct orphan o;
		int one;

		memcpy(&o, all.data + k * sizeof(o), sizeof(o));
		BALE_FAULT_POINT("orphan.found");
		one = finish(fs, &o);
		BALE_FAULT_POINT("orphan.finished");
		/* A damaged one stays for fsck; it must not stop the mount. */
		if (one)
			bale_warn("orphan inode %llu: not finished: %s",
				  (unsigned long long)o.ino, strerror(-one));
	}
	if (nr && !r)
		bale_info("%zu orphan inodes finished", nr);
	bale_buf_fini(&all);
	return r;
}

int bale_inode_stage_delete(struct bale_inode *i, struct bale_txn *t)
{
	be64 key = be64_put(i->ino);
	int r = 0;

	if (i->row.flags & BALE_INODE_HAS_XATTR)
		r = bale_xattr_stage_delete_all(i, t);
	if (i->row.flags & BALE_INODE_HAS_INLINE)
		bale_txn_del(t, BALE_TABLE_inline, &key, sizeof(key));
	bale_txn_del(t, BALE_TABLE_inode, &key, sizeof(key));
	bale_orphan_stage_del(t, i->ino);
	return r;
}
