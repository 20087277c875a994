/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attr.c - stat and chattr: mode, owner, size, times, flags. Who may is the
 * kernel's business (default_permissions), but for immutable and append-only,
 * which a FUSE kernel does not know.
 */
#include "fs/base/clock.h"
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

#define CAPS_NAME "security.capability"
#define SET_TIMES                                                        \
	((unsigned int)(BALE_SET_ATIME | BALE_SET_MTIME | BALE_SET_CTIME | \
			BALE_SET_ATIME_NOW | BALE_SET_MTIME_NOW))

uint32_t bale_mode_kill_priv(uint32_t mode)
{
	if (S_ISDIR(mode))
		return mode;
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode & ~(uint32_t)S_ISUID;
}

static bool has_caps(struct bale_inode *i)
{
	bale_autofree void *val = NULL;
	size_t len;

	return i->row.flags & BALE_INODE_HAS_XATTR &&
	       !bale_xattr_load(i, CAPS_NAME, &val, &len);
}

void bale_caps_stage_kill(struct bale_inode *i, struct bale_txn *t)
{
	if (has_caps(i))
		bale_xattr_stage(t, i->ino, CAPS_NAME, NULL, 0);
}

int bale_inode_kill_caps_locked(struct bale_inode *i)
{
	struct bale_txn t;
	int r;

	if (i->no_caps || !(i->row.flags & BALE_INODE_HAS_XATTR))
		return 0;
	if (has_caps(i)) {
		bale_txn_begin(bale_fs_meta(i->fs), &t);
		bale_xattr_stage(&t, i->ino, CAPS_NAME, NULL, 0);
		r = bale_txn_commit(&t, NULL);
		if (r)
			return r;
	}
	i->no_caps = true;
	return 0;
}

/* The kernel sends cached times of an append-only file on its own: allowed. */
static int check_stuck(const struct bale_inode *i, unsigned int valid)
{
	unsigned int flushed = BALE_SET_MTIME | BALE_SET_CTIME;

	if (i->row.flags & BALE_INODE_IMMUTABLE)
		return -EPERM;
	if (!(i->row.flags & BALE_INODE_APPEND))
		return 0;
	if (valid & (BALE_SET_MODE | BALE_SET_UID | BALE_SET_GID |
		     BALE_SET_SIZE))
		return -EPERM;
	if (valid & ~flushed & (BALE_SET_ATIME | BALE_SET_MTIME))
		return -EPERM;
	return 0;
}

static int check_size(const struct bale_inode *i, const struct bale_setattr *a)
{
	if (!(a->valid & BALE_SET_SIZE))
		return 0;
	if (S_ISDIR(i->row.mode))
		return -EISDIR;
	if (!S_ISREG(i->row.mode))
		return -EINVAL;
	return a->size > BALE_FILE_MAX ? -EFBIG : 0;
}

static void set_times(struct bale_inode_row *row, const struct bale_setattr *a)
{
	struct timespec now = bale_wall();

	if (a->valid & BALE_SET_ATIME_NOW)
		row->atime = now;
	else if (a->valid & BALE_SET_ATIME)
		row->atime = a->atime;
	if (a->valid & BALE_SET_MTIME_NOW)
		row->mtime = now;
	else if (a->valid & BALE_SET_MTIME)
		row->mtime = a->mtime;
	else if (a->valid & BALE_SET_SIZE)
		row->mtime = now;
	row->ctime = a->valid & BALE_SET_CTIME ? a->ctime : now;
}

static int stage_attr(struct bale_inode *i, const struct bale_setattr *a,
		      struct bale_inode_row *row, struct bale_txn *t)
{
	bool chown = a->valid & (BALE_SET_UID | BALE_SET_GID);
	int r = 0;

	if (a->valid & BALE_SET_UID)
		row->uid = a->uid;
	if (a->valid & BALE_SET_GID)
		row->gid = a->gid;
	if (chown || a->valid & BALE_SET_KILL_PRIV)
		row->mode = bale_mode_kill_priv(row->mode);
	if ((chown || a->valid & (BALE_SET_KILL_PRIV | BALE_SET_SIZE)) &&
	    !S_ISDIR(row->mode))
		bale_caps_stage_kill(i, t);
	if (a->valid & BALE_SET_MODE) {
		row->mode = (row->mode & S_IFMT) | (a->mode & 07777);
		r = bale_acl_stage_chmod(i, row->mode, t);
	}
	set_times(row, a);
	return r;
}

static int setattr_locked(struct bale_inode *i, const struct bale_setattr *a)
{
	struct bale_inode_row row;
	struct bale_txn t;
	int r = check_stuck(i, a->valid);

	if (!r)
		r = check_size(i, a);
	/* Only growing a file could lack space, and only in its map. */
	if (!r && a->valid & BALE_SET_SIZE && a->size != i->row.size)
		r = bale_file_truncate_locked(i, a->size);
	if (r)
		return r;
	row = i->row;
	bale_txn_begin(bale_fs_meta(i->fs), &t);
	r = stage_attr(i, a, &row, &t);
	if (r) {
		bale_txn_abort(&t);
		return r;
	}
	bale_row_stage(i, &row, &t);
	r = bale_txn_commit(&t, NULL);
	if (!r)
		bale_row_assign(i, &row);
	return r;
}

int bale_inode_setattr(struct bale_inode *i, const struct bale_setattr *a)
{
	int r = bale_names_writable(i->fs);

	if (r || !a->valid)
		return r;
	bale_rwlock_wrlock(&i->lock);
	r = setattr_locked(i, a);
	bale_rwlock_unlock(&i->lock);
	return r;
}

void bale_inode_attr(struct bale_inode *i, struct bale_inode_row *ret)
{
	bale_rwlock_rdlock(&i->lock);
	*ret = i->row;
	bale_rwlock_unlock(&i->lock);
}

void bale_inode_stat(struct bale_inode *i, struct bale_inode_row *ret)
{
	bale_rwlock_rdlock(&i->lock);
	*ret = i->row;
	ret->stored += bale_file_unstored_locked(i);
	bale_rwlock_unlock(&i->lock);
}

int bale_inode_set_flags(struct bale_inode *i, uint32_t flags)
{
	const uint32_t known = BALE_INODE_COMPRESS | BALE_INODE_NOCOMP |
			       BALE_INODE_IMMUTABLE | BALE_INODE_APPEND |
			       BALE_INODE_NODUMP | BALE_INODE_NOATIME |
			       BALE_INODE_SYNC;
	struct bale_inode_row row;
	struct bale_txn t;
	int r = bale_names_writable(i->fs);

	if (r)
		return r;
	if (flags & ~known)
		return -EOPNOTSUPP;
	if (flags & BALE_INODE_COMPRESS && flags & BALE_INODE_NOCOMP)
		return -EINVAL;
	bale_rwlock_wrlock(&i->lock);
	row = i->row;
	row.flags = (row.flags & ~BALE_INODE_USER_FLAGS) | flags;
	row.ctime = bale_wall();
	bale_txn_begin(bale_fs_meta(i->fs), &t);
	bale_row_stage(i, &row, &t);
	r = bale_txn_commit(&t, NULL);
	if (!r)
		bale_row_assign(i, &row);
	bale_rwlock_unlock(&i->lock);
	return r;
}
