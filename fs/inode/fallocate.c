/* SPDX-License-Identifier: Apache-2.0 */
/* fallocate.c - holes: made, and looked for. */
#include <errno.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fs/inode/file.h"

bool bale_ext_has_data(struct bale_inode *i, uint64_t no)
{
	struct bale_ext *e;

	if (!bale_ext_is_hole(i, no))
		return true;
	if (bale_cache_find(i->fs->cache, i->ino, no, &e))
		return false;
	bale_ext_put(i->fs->cache, e);
	return true;
}

static int zero_part(struct bale_inode *i, uint64_t no, uint32_t off,
		     uint32_t end)
{
	uint32_t in_file = bale_ext_in_file(i->fs, i->row.size, no);

	end = end < in_file ? end : in_file;
	if (off >= end || !bale_ext_has_data(i, no))
		return 0;
	return bale_ext_write_locked(i, no, off, NULL, 0, 0, end - off);
}

static int punch_locked(struct bale_inode *i, uint64_t off, uint64_t end)
{
	struct bale_fs *fs = i->fs;
	uint64_t first = bale_ext_no(fs, off), last;
	uint32_t at = (uint32_t)(off & (fs->extent_size - 1));
	int r = 0;

	if (end > i->row.size)
		end = i->row.size;
	if (off >= end)
		return 0;
	/* Up to the end of the file counts as up to the end of the extent. */
	last = end == i->row.size ? bale_ext_count(fs, end) :
				    bale_ext_no(fs, end);
	/* Extent 0 may be or become an inline value: zeros written over it
	 * are a hole after the next flush. */
	if (at || first == 0) {
		uint64_t stop = bale_ext_start(fs, first + 1);

		r = zero_part(i, first, at,
			      end < stop ? (uint32_t)(end & (fs->extent_size - 1)) :
					   (uint32_t)fs->extent_size);
		first++;
	}
	if (!r && first < last)
		r = bale_file_punch_locked(i, first, last);
	if (!r && last >= first && end != i->row.size)
		r = zero_part(i, last, 0,
			      (uint32_t)(end & (fs->extent_size - 1)));
	return r;
}

static int allocate_locked(struct bale_inode *i, int mode, uint64_t off,
			   uint64_t len)
{
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	int r = 0;

	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		r = punch_locked(i, off, off + len);
	/* Before the size grows, so that a refusal changes nothing. */
	if (!r && !(mode & FALLOC_FL_PUNCH_HOLE))
		r = bale_promise_make(i, bale_ext_no(i->fs, off),
				      bale_ext_count(i->fs, off + len));
	if (!r && !keep && off + len > i->row.size)
		r = bale_file_truncate_locked(i, off + len);
	if (!r)
		bale_file_touch_locked(i, false);
	return r;
}

int bale_file_fallocate(struct bale_inode *i, int mode, uint64_t off,
			uint64_t len)
{
	int kind = mode & ~FALLOC_FL_KEEP_SIZE;
	struct bale_txn t;
	int r = bale_file_writable(i->fs);

	if (r)
		return r;
	if (!len)
		return -EINVAL;
	if (off > BALE_FILE_MAX || len > BALE_FILE_MAX - off)
		return -EFBIG;
	if (kind == FALLOC_FL_PUNCH_HOLE && kind == mode)
		return -EOPNOTSUPP;
	if (kind && kind != FALLOC_FL_PUNCH_HOLE &&
	    kind != FALLOC_FL_ZERO_RANGE)
		return -EOPNOTSUPP;
	for (unsigned int try = 0;; try++) {
		r = bale_flush_throttle(i->fs);
		if (r)
			return r;
		bale_rwlock_wrlock(&i->lock);
		r = allocate_locked(i, mode, off, len);
		if (!r) {
			bale_txn_begin(i->fs->meta, &t);
			bale_inode_stage(i, &t);
			r = bale_txn_commit(&t, NULL);
		}
		bale_rwlock_unlock(&i->lock);
		if (r != -ENOSPC || !bale_file_make_space(i->fs, try))
			return r;
	}
}

/* ---- seek ---- */

static uint64_t next_dirty(struct bale_inode *i, uint64_t from)
{
	struct bale_file_data *d = i->data;
	uint64_t best = UINT64_MAX;

	if (!d)
		return best;
	bale_list_for_each(l, &d->dirty)
	{
		struct bale_ext *e =
			BALE_CONTAINER(l, struct bale_ext, dirty_link);

		if (e->no >= from && e->no < best)
			best = e->no;
	}
	return best;
}

static int next_stored(struct bale_inode *i, uint64_t from, uint64_t *ret)
{
	uint64_t ids[BALE_MAP_SLOTS], group = from / BALE_MAP_SLOTS;
	int r;

	*ret = UINT64_MAX;
	for (;;) {
		r = bale_map_next(i, group, &group);
		if (r == -ENOENT)
			return 0;
		if (!r)
			r = bale_map_row(i, group, ids);
		if (r)
			return r;
		for (unsigned int k = 0; k < BALE_MAP_SLOTS; k++) {
			uint64_t no = group * BALE_MAP_SLOTS + k;

			if (ids[k] && no >= from) {
				*ret = no;
				return 0;
			}
		}
		group++;
	}
}

static int seek_data(struct bale_inode *i, uint64_t off, uint64_t *ret)
{
	struct bale_fs *fs = i->fs;
	uint64_t from = bale_ext_no(fs, off), no, dirty, patched;
	int r;

	if (from == 0 && bale_ext_has_data(i, 0)) {
		*ret = off;
		return 0;
	}
	r = next_stored(i, from, &no);
	if (r)
		return r;
	r = bale_patch_next(i, from, &patched);
	if (r && r != -ENOENT)
		return r;
	if (!r && patched < no)
		no = patched;
	dirty = next_dirty(i, from);
	no = dirty < no ? dirty : no;
	if (no >= bale_ext_count(fs, i->row.size))
		return -ENXIO;
	*ret = bale_ext_start(fs, no) > off ? bale_ext_start(fs, no) : off;
	return 0;
}

static void seek_hole(struct bale_inode *i, uint64_t off, uint64_t *ret)
{
	struct bale_fs *fs = i->fs;
	uint64_t no = bale_ext_no(fs, off);

	while (bale_ext_start(fs, no) < i->row.size && bale_ext_has_data(i, no))
		no++;
	*ret = bale_ext_start(fs, no) > off ? bale_ext_start(fs, no) : off;
	if (*ret > i->row.size)
		*ret = i->row.size;
}

int bale_file_seek(struct bale_inode *i, uint64_t off, int whence,
		   uint64_t *ret)
{
	int r = 0;

	bale_rwlock_wrlock(&i->lock);
	/* What is in flight is in no list of its own. */
	if (i->data && !bale_list_empty(&i->data->parts))
		r = bale_flush_settle_locked(i);
	if (r)
		r = -EIO;
	else if (off >= i->row.size)
		r = -ENXIO;
	else if (whence == SEEK_DATA)
		r = seek_data(i, off, ret);
	else if (whence == SEEK_HOLE)
		seek_hole(i, off, ret);
	else
		r = -EINVAL;
	bale_rwlock_unlock(&i->lock);
	return r;
}
