/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row.c - inode rows to and from the store, and times that are staged lazily:
 * an access time is changed in memory only, and its inode waits in a list for
 * the next commit (or for the next transaction on it, whichever is first).
 * The list's lock comes before the table's.
 */
#include "fs/base/clock.h"
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

int bale_row_read(struct bale_fs *fs, uint64_t ino, struct bale_inode_row *ret)
{
	be64 key = be64_put(ino);
	struct bale_disk_inode d;
	size_t len;
	int r = bale_meta_get(bale_fs_meta(fs), BALE_TABLE_inode, &key,
			      sizeof(key), &d, sizeof(d), &len);

	if (r == -ENOSPC)
		return -EUCLEAN;
	if (!r)
		r = bale_inode_decode(&d, len, ret);
	/* Whatever a forged row says, the root is there to stay. */
	if (!r && ino == BALE_ROOT_INO) {
		if (!S_ISDIR(ret->mode))
			return -EUCLEAN;
		ret->nlink = ret->nlink < 2 ? 2 : ret->nlink;
	}
	return r;
}

void bale_row_stage(struct bale_inode *i, const struct bale_inode_row *row,
		    struct bale_txn *t)
{
	struct bale_inode_row disk = *row;
	struct bale_disk_inode d;
	be64 key = be64_put(i->ino);

	if (S_ISREG(row->mode) && i->data)
		disk.size = bale_file_disk_size_locked(i);
	bale_inode_encode(&disk, &d);
	bale_txn_put(t, BALE_TABLE_inode, &key, sizeof(key), &d, sizeof(d));
}

/* What the list keeps is a reference: a deleted inode must not wait for it. */
static void unmark_times(struct bale_inode *i)
{
	struct bale_names *n = i->fs->names;
	bool listed;

	bale_mutex_lock(&n->time_lock);
	listed = !bale_list_empty(&i->time_link);
	if (listed)
		bale_list_del(&i->time_link);
	bale_mutex_unlock(&n->time_lock);
	if (listed)
		bale_inode_put(i); /* not the last: the caller has one */
}

void bale_row_assign(struct bale_inode *i, const struct bale_inode_row *row)
{
	if (i->row_dirty || !row->nlink)
		unmark_times(i);
	i->row = *row;
	i->nameless = !row->nlink;
	i->row_dirty = false;
}

void bale_inode_stage(struct bale_inode *i, struct bale_txn *t)
{
	bale_row_stage(i, &i->row, t);
	i->row_dirty = false;
}

void bale_inode_mark_times(struct bale_inode *i)
{
	struct bale_names *n = i->fs->names;

	i->row_dirty = true;
	bale_mutex_lock(&n->time_lock);
	if (bale_list_empty(&i->time_link)) {
		bale_inode_ref(i); /* before anybody can take it off */
		bale_list_push_back(&n->times, &i->time_link);
	}
	bale_mutex_unlock(&n->time_lock);
}

static int stage_times_of(struct bale_inode *i)
{
	struct bale_txn t;
	int r = 0;

	bale_rwlock_wrlock(&i->lock);
	if (i->row_dirty) {
		bale_txn_begin(bale_fs_meta(i->fs), &t);
		bale_inode_stage(i, &t);
		r = bale_txn_commit(&t, NULL);
	}
	bale_rwlock_unlock(&i->lock);
	return r;
}

int bale_names_stage_times(struct bale_fs *fs)
{
	struct bale_names *n = fs->names;
	struct bale_list todo;
	int first = 0, r;

	bale_list_init(&todo);
	bale_mutex_lock(&n->time_lock);
	if (!bale_list_empty(&n->times)) {
		bale_list_insert_after(&n->times, &todo);
		bale_list_del(&n->times); /* todo is the head now */
	}
	while (!bale_list_empty(&todo)) {
		struct bale_inode *i = BALE_CONTAINER(
			todo.next, struct bale_inode, time_link);

		bale_list_del(&i->time_link);
		bale_mutex_unlock(&n->time_lock);
		r = stage_times_of(i);
		first = first ? first : r;
		bale_inode_put(i);
		bale_mutex_lock(&n->time_lock);
	}
	bale_mutex_unlock(&n->time_lock);
	return first;
}

static bool atime_due(const struct bale_inode *i, int policy,
		      const struct timespec *now)
{
	const struct bale_inode_row *r = &i->row;

	if (r->flags & BALE_INODE_NOATIME)
		return false;
	if (policy == 2)
		return bale_time_cmp(now, &r->atime) > 0;
	return bale_time_cmp(&r->atime, &r->mtime) <= 0 ||
	       bale_time_cmp(&r->atime, &r->ctime) <= 0 ||
	       now->tv_sec - r->atime.tv_sec >= 24 * 3600;
}

bool bale_inode_atime_due(struct bale_inode *i)
{
	const struct bale_fs_options *o = bale_fs_options(i->fs);
	struct timespec now;

	if (o->read_only || o->atime == 1)
		return false;
	now = bale_wall();
	return atime_due(i, o->atime, &now) && !bale_names_writable(i->fs);
}

void bale_inode_accessed(struct bale_inode *i)
{
	bool due;

	bale_rwlock_rdlock(&i->lock);
	due = bale_inode_atime_due(i);
	bale_rwlock_unlock(&i->lock);
	if (!due)
		return;
	bale_rwlock_wrlock(&i->lock);
	if (bale_inode_atime_due(i)) {
		i->row.atime = bale_wall();
		bale_inode_mark_times(i);
	}
	bale_rwlock_unlock(&i->lock);
}
