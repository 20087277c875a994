/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.c - names given to and taken from existing inodes: link, unlink, rmdir.
 */
#include "fs/base/clock.h"
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

static void remove_name(struct bale_inode_row *dir, struct timespec now)
{
	if (dir->nr_entries)
		dir->nr_entries--;
	dir->mtime = dir->ctime = now;
}

/* ---- unlink, rmdir ---- */

static int check_unlink(const struct bale_inode *dir,
			const struct bale_inode *i)
{
	if (S_ISDIR(i->row.mode))
		return -EISDIR;
	if ((dir->row.flags | i->row.flags) & BALE_INODE_STUCK)
		return -EPERM;
	return i->row.nlink ? 0 : -EUCLEAN; /* a name without a link */
}

static int check_rmdir(const struct bale_inode *dir,
		       const struct bale_inode *i)
{
	if (!S_ISDIR(i->row.mode))
		return -ENOTDIR;
	if (i->row.nr_entries)
		return -ENOTEMPTY;
	if ((dir->row.flags | i->row.flags) & BALE_INODE_STUCK)
		return -EPERM;
	return dir->row.nlink > 2 ? 0 : -EUCLEAN;
}

/* Both locks are held. */
static int commit_remove(struct bale_inode *dir, const struct bale_name *n,
			 uint64_t cookie, struct bale_inode *i)
{
	struct bale_inode_row up = dir->row, row = i->row;
	struct timespec now = bale_wall();
	struct bale_txn t;
	int r;

	remove_name(&up, now);
	row.ctime = now;
	if (S_ISDIR(row.mode)) {
		up.nlink--;
		row.nlink = 0;
	} else {
		row.nlink--;
	}
	bale_txn_begin(bale_fs_meta(dir->fs), &t);
	bale_dirent_stage_del(&t, dir->ino, n, cookie);
	bale_row_stage(dir, &up, &t);
	bale_row_stage(i, &row, &t);
	if (!row.nlink)
		bale_orphan_stage(&t, i->ino, BALE_ORPHAN_DELETED);
	r = bale_txn_commit(&t, NULL);
	if (r)
		return r;
	bale_row_assign(dir, &up);
	bale_row_assign(i, &row);
	i->deleted = !row.nlink;
	return 0;
}

typedef int check_fn(const struct bale_inode *dir, const struct bale_inode *i);

/* *ret: a reference that the caller drops without locks. */
static int remove_locked(struct bale_inode *dir, const struct bale_name *n,
			 check_fn *check, struct bale_inode **ret)
{
	struct bale_inode *i;
	struct bale_entry e;
	int r = bale_dirent_get(dir, n, &e);

	if (!r)
		r = bale_inode_get(dir->fs, e.ino, &i);
	if (r)
		return r;
	*ret = i;
	bale_rwlock_wrlock(&i->lock);
	r = check(dir, i);
	if (!r)
		r = commit_remove(dir, n, e.cookie, i);
	bale_rwlock_unlock(&i->lock);
	return r;
}

static int remove_entry(struct bale_inode *dir, const struct bale_name *n,
			check_fn *check)
{
	struct bale_inode *i = NULL;
	int r = S_ISDIR(dir->type) ? 0 : -ENOTDIR;

	if (!r)
		r = bale_names_writable(dir->fs);
	if (r)
		return r;
	bale_rwlock_wrlock(&dir->lock);
	r = remove_locked(dir, n, check, &i);
	bale_rwlock_unlock(&dir->lock);
	bale_inode_put_unlocked(i);
	return r;
}

int bale_dir_unlink(struct bale_inode *dir, const char *name)
{
	struct bale_name n;
	int r = bale_name_init(&n, name);

	if (r)
		return r;
	if (bale_name_is_dots(&n))
		return -EISDIR;
	return remove_entry(dir, &n, check_unlink);
}

int bale_dir_rmdir(struct bale_inode *dir, const char *name)
{
	struct bale_name n;
	int r = bale_name_init(&n, name);

	if (r)
		return r;
	if (bale_name_is_dots(&n))
		return n.len == 1 ? -EINVAL : -ENOTEMPTY;
	return remove_entry(dir, &n, check_rmdir);
}

/* ---- link ---- */

static int check_link(struct bale_inode *i, struct bale_inode *dir,
		      const struct bale_name *n)
{
	struct bale_entry e;
	int r = bale_dirent_get(dir, n, &e);

	if (r != -ENOENT)
		return r ? r : -EEXIST;
	if (bale_inode_is_deleted(dir) || i->deleted)
		return -ENOENT;
	if (i->row.nlink >= BALE_NLINK_MAX)
		return -EMLINK;
	if (dir->row.flags & BALE_INODE_IMMUTABLE ||
	    i->row.flags & BALE_INODE_STUCK)
		return -EPERM;
	return bale_space_check_meta(bale_fs_store(dir->fs));
}

static int commit_link(struct bale_inode *i, struct bale_inode *dir,
		       const struct bale_name *n)
{
	struct bale_inode_row up = dir->row, row = i->row;
	struct bale_entry e = { .ino = i->ino, .cookie = up.next_cookie,
				.type = bale_mode_type(row.mode) };
	struct bale_txn t;
	int r;

	if (e.cookie < BALE_COOKIE_FIRST)
		e.cookie = BALE_COOKIE_FIRST;
	up.next_cookie = e.cookie + 1;
	up.nr_entries++;
	up.mtime = up.ctime = row.ctime = bale_wall();
	bale_txn_begin(bale_fs_meta(dir->fs), &t);
	if (!row.nlink++) { /* a tmpfile gets its name */
		bale_orphan_stage_del(&t, i->ino);
		row.parent = dir->ino;
	}
	bale_dirent_stage(&t, dir->ino, n, &e);
	bale_row_stage(dir, &up, &t);
	bale_row_stage(i, &row, &t);
	r = bale_txn_commit(&t, NULL);
	if (r)
		return r;
	bale_row_assign(dir, &up);
	bale_row_assign(i, &row);
	return 0;
}

int bale_dir_link(struct bale_inode *i, struct bale_inode *dir,
		  const char *name)
{
	struct bale_name n;
	int r = bale_name_init(&n, name);

	if (r)
		return r;
	if (!S_ISDIR(dir->type))
		return -ENOTDIR;
	if (S_ISDIR(i->type))
		return -EPERM;
	if (bale_name_is_dots(&n))
		return -EEXIST;
	r = bale_names_writable(dir->fs);
	if (r)
		return r;
	bale_rwlock_wrlock(&dir->lock);
	bale_rwlock_wrlock(&i->lock);
	r = check_link(i, dir, &n);
	if (!r && S_ISREG(i->row.mode) && !i->row.nlink)
		r = bale_file_order_before_commit_locked(i);
	if (!r)
		r = commit_link(i, dir, &n);
	bale_rwlock_unlock(&i->lock);
	bale_rwlock_unlock(&dir->lock);
	return r;
}
