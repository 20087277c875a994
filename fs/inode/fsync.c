/* SPDX-License-Identifier: Apache-2.0 */
/* fsync.c - one file durable; small changes as patches in the log. */
#include <errno.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/inode/flush.h"

static bool fits_patches(const struct bale_file_data *d)
{
	uint32_t bytes = 0;
	unsigned int nr = 0;

	bale_list_for_each(l, &d->dirty)
	{
		const struct bale_ext *e =
			BALE_CONTAINER(l, struct bale_ext, dirty_link);
		uint32_t n = e->lo < e->hi ? e->hi - e->lo : 0;

		if (e->no_patch ||
		    (n && e->patch_next - e->patch_first >=
				  BALE_PATCH_ROWS_MAX) ||
		    (n && e->patch_bytes + n > BALE_PATCH_BYTES_MAX))
			return false;
		bytes += n;
		if (bytes > BALE_PATCH_FSYNC_MAX ||
		    ++nr > BALE_PATCH_EXTENTS_MAX)
			return false;
	}
	return true;
}

static void stage_patch(struct bale_txn *t, struct bale_ext *e)
{
	struct {
		be64 ino, no, seq;
	} key = { be64_put(e->ino), be64_put(e->no),
		  be64_put(e->patch_next) };
	uint8_t val[sizeof(le32) + BALE_PATCH_FSYNC_MAX];
	uint32_t n = e->hi - e->lo;
	le32 off = le32_put(e->lo);

	memcpy(val, &off, sizeof(off));
	memcpy(val + sizeof(off), e->buf->data + e->lo, n);
	bale_txn_put(t, BALE_TABLE_patch, &key, sizeof(key), val,
		     sizeof(off) + n);
	e->patch_next++;
	e->patch_bytes += n;
	e->lo = e->hi = 0;
}

int bale_patch_stage_locked(struct bale_inode *i, uint64_t *ret_seq)
{
	struct bale_flush *fl = i->fs->flush;
	struct bale_file_data *d = i->data;
	struct bale_txn t;
	int r;

	if (!d || !d->nr_dirty || !bale_list_empty(&d->parts) ||
	    !fits_patches(d))
		return -EAGAIN;
	bale_txn_begin(i->fs->meta, &t);
	bale_list_for_each(l, &d->dirty)
	{
		struct bale_ext *e =
			BALE_CONTAINER(l, struct bale_ext, dirty_link);

		if (e->lo < e->hi)
			stage_patch(&t, e);
	}
	d->disk_size = i->row.size;
	bale_inode_stage(i, &t);
	r = bale_txn_commit(&t, ret_seq);
	BALE_FAULT_POINT("patch.staged");
	if (r)
		bale_store_fail(i->fs->store, r, "staging of patches");
	atomic_fetch_add(&fl->nr_patches, 1);
	return r;
}

static int stage_row(struct bale_inode *i)
{
	struct bale_txn t;

	if (!i->row_dirty)
		return 0;
	bale_txn_begin(i->fs->meta, &t);
	bale_inode_stage(i, &t);
	return bale_txn_commit(&t, NULL);
}

/* Everything of the file is staged: as patches when little changed. */
static int stage_file(struct bale_inode *i)
{
	int r;

	bale_rwlock_wrlock(&i->lock);
	r = bale_flush_settle_locked(i);
	if (!r && i->data && i->data->nr_dirty) {
		r = bale_patch_stage_locked(i, NULL);
		if (r == -EAGAIN) {
			bale_rwlock_unlock(&i->lock);
			return bale_flush_inode(i);
		}
	}
	if (!r)
		r = stage_row(i);
	bale_rwlock_unlock(&i->lock);
	return r;
}

int bale_file_fsync(struct bale_inode *i, bool data_only)
{
	struct bale_fs *fs = i->fs;
	int r;

	(void)data_only; /* the row travels with the data anyway */
	if (fs->o.read_only)
		return 0;
	if (bale_store_error(fs->store))
		return -EIO;
	atomic_fetch_add(&fs->flush->nr_fsyncs, 1);
	r = stage_file(i);
	if (!r)
		r = bale_meta_sync(fs->meta, 0);
	BALE_FAULT_POINT("fsync.durable");
	if (!r) {
		bale_rwlock_rdlock(&i->lock);
		r = i->data && i->data->lost ? -EIO : 0;
		bale_rwlock_unlock(&i->lock);
	}
	return r ? -EIO : 0;
}

int bale_file_order_before_commit_locked(struct bale_inode *i)
{
	int r;

	if (i->fs->o.read_only || !i->data)
		return 0;
	r = bale_flush_settle_locked(i);
	if (r || !i->data->nr_dirty)
		return r;
	r = bale_patch_stage_locked(i, NULL);
	return r == -EAGAIN ? bale_flush_inode_locked(i) : r;
}

void bale_file_flush_hint(struct bale_inode *i)
{
	struct bale_flush *fl = i->fs->flush;

	/* Small files wait for company: a bale of many is written faster. */
	if (atomic_load(&fl->listed) * 4 < (int64_t)fl->bale_bytes)
		return;
	bale_mutex_lock(&fl->lock);
	fl->kick = true;
	bale_cond_signal(&fl->wake);
	bale_mutex_unlock(&fl->lock);
}
