/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "fs/base/clock.h"
#include "fs/inode/file.h"

int bale_file_writable(const struct bale_fs *fs)
{
	return fs->o.read_only || bale_store_error(fs->store) ? -EROFS : 0;
}

void bale_file_touch_locked(struct bale_inode *i, bool kill_priv)
{
	i->row.mtime = i->row.ctime = bale_wall();
	i->row_dirty = true;		/* goes with the data */
	bale_inode_kill_caps_locked(i); /* fails with the store only */
	if (!kill_priv)
		return;
	i->row.mode &= ~(uint32_t)S_ISUID;
	if (i->row.mode & S_IXGRP)
		i->row.mode &= ~(uint32_t)S_ISGID;
}

/* Out of what the whole write reserved, or anew. */
static int reserve(struct bale_inode *i, struct bale_ext *e, uint32_t len)
{
	struct bale_file_data *d = i->data;
	uint32_t need;
	int r = 0;

	e->reserved += bale_promise_take(i, e->no);
	need = bale_ext_need(i->fs, e, len);
	if (need <= d->budget)
		d->budget -= need;
	else
		r = bale_space_reserve(i->fs->store, need);
	if (!r)
		e->reserved += need;
	return r;
}

/* An entry that lists nothing must not keep what was reserved for it. */
static void unreserve_clean(struct bale_fs *fs, struct bale_ext *e)
{
	if (e->listed || !e->reserved)
		return;
	bale_space_release(fs->store, e->reserved);
	e->reserved = 0;
}

/* Memory a buffer of len bytes in this extent should get: files of one extent
 * grow by doubling, others get it whole at once. */
static size_t buf_size(const struct bale_inode *i, uint64_t no, uint32_t len)
{
	return no || i->row.size > i->fs->extent_size ? i->fs->extent_size :
							len;
}

/*
 * Make e's buffer one that may be changed and holds len bytes. Of the old
 * content [skip_lo, skip_hi) is about to be overwritten and need not be copied.
 */
static int own_buf(struct bale_inode *i, struct bale_ext *e, uint32_t len,
		   uint32_t skip_lo, uint32_t skip_hi)
{
	struct bale_cache *c = i->fs->cache;
	uint32_t have = e->len;
	struct bale_cbuf *b;
	int r;

	if (e->buf->cap >= len && bale_cbuf_is_exclusive(e->buf))
		return 0;
	if (len < have)
		len = have;
	r = bale_cache_alloc(c, buf_size(i, e->no, len), &b);
	if (r)
		return r;
	if (skip_lo > have)
		skip_lo = have;
	memcpy(b->data, e->buf->data, skip_lo);
	if (skip_hi < have)
		memcpy(b->data + skip_hi, e->buf->data + skip_hi,
		       have - skip_hi);
	bale_ext_set_buf(c, e, b, have);
	return 0;
}

/* An empty entry: what the store has of it is nothing or does not matter. */
static int new_entry(struct bale_inode *i, uint64_t no, uint32_t len,
		     struct bale_ext **ret)
{
	struct bale_cache *c = i->fs->cache;
	uint32_t first, next;
	struct bale_cbuf *b;
	struct bale_ext *e;
	int r = bale_patch_find(i, no, &first, &next);

	if (!r)
		r = bale_cache_alloc(c, buf_size(i, no, len), &b);
	if (r)
		return r;
	r = bale_cache_claim(c, i->ino, no, &e);
	if (r) {
		bale_cbuf_put(b);
		return r;
	}
	/* Once it is stored they must not be laid over it. */
	e->patch_first = first;
	e->patch_next = next;
	e->no_patch = first < next;
	bale_cache_publish(c, e, b, 0, 0);
	*ret = e;
	return 0;
}

static int entry_for_write(struct bale_inode *i, uint64_t no, uint32_t off,
			   uint32_t len, struct bale_ext **ret)
{
	struct bale_fs *fs = i->fs;
	uint32_t was = bale_ext_in_file(fs, i->row.size, no);
	uint64_t id;
	int r;

	for (;;) {
		r = bale_cache_find(fs->cache, i->ino, no, ret);
		if (r != -ENOENT && r != -ENOMEM) {
			/* Damaged, but all of it is replaced. */
			if (!r || off || off + len < was)
				return r;
		}
		if (!(off == 0 && len >= was) && !bale_ext_is_hole(i, no))
			return bale_ext_load(i, no, ret);
		/* A place that is not known cannot be given a new content:
		 * say it now, not when it is accepted. */
		r = bale_map_get(i, no, &id);
		if (r)
			return r;
		r = new_entry(i, no, off + len, ret);
		if (r != -EEXIST)
			return r;
	}
}

static void copy_in(uint8_t *to, const struct iovec *src, int nr_iov,
		    size_t skip, size_t len)
{
	for (int k = 0; k < nr_iov && len; k++) {
		size_t n = src[k].iov_len;

		if (skip >= n) {
			skip -= n;
			continue;
		}
		n -= skip;
		n = n < len ? n : len;
		memcpy(to, (const uint8_t *)src[k].iov_base + skip, n);
		to += n;
		len -= n;
		skip = 0;
	}
}

static int change_entry(struct bale_inode *i, struct bale_ext *e, uint32_t off,
			const struct iovec *src, int nr_iov, size_t skip,
			uint32_t len)
{
	uint32_t end = off + len > e->len ? off + len : e->len, lo = off;
	int r = reserve(i, e, end);

	if (r)
		return r;
	r = own_buf(i, e, off + len, off, off + len);
	if (r) {
		unreserve_clean(i->fs, e);
		return r;
	}
	if (off > e->len) {
		memset(e->buf->data + e->len, 0, off - e->len);
		lo = e->len;
	}
	if (src)
		copy_in(e->buf->data + off, src, nr_iov, skip, len);
	else
		memset(e->buf->data + off, 0, len);
	bale_ext_set_len(i->fs->cache, e, end);
	bale_ext_mark_dirty(i, e, lo, off + len);
	return 0;
}

int bale_ext_write_locked(struct bale_inode *i, uint64_t no, uint32_t off,
			  const struct iovec *src, int nr_iov, size_t skip,
			  uint32_t len)
{
	struct bale_file_data *d;
	struct bale_ext *e;
	int r = bale_file_data_get(i, &d);

	if (!r)
		r = entry_for_write(i, no, off, len, &e);
	if (r)
		return r;
	r = change_entry(i, e, off, src, nr_iov, skip, len);
	/* An empty entry that stands for stored content must not stay. */
	if (r && !e->listed && !e->nr_flying)
		bale_cache_drop(i->fs->cache, i->ino, no);
	bale_ext_put(i->fs->cache, e);
	return r;
}

int bale_ext_rewrite_locked(struct bale_inode *i, uint64_t no)
{
	struct bale_ext *e;
	int r = bale_ext_load(i, no, &e);

	if (r)
		return r;
	r = reserve(i, e, e->len);
	if (!r) {
		e->no_patch = true;
		bale_ext_mark_dirty(i, e, 0, 0);
	}
	bale_ext_put(i->fs->cache, e);
	return r;
}

/* ---- growing ---- */

/* Slots at and beyond the end of the file: a crash may have left some that
 * were stored ahead of the size. */
static int check_tail(struct bale_inode *i)
{
	struct bale_fs *fs = i->fs;
	uint64_t size = i->row.size, no = bale_ext_no(fs, size), id, patched;
	struct bale_extent_row row;
	int r;

	if (!size && !i->row.stored)
		return 0;
	r = bale_map_free_range(i, bale_ext_count(fs, size), UINT64_MAX);
	if (r || !(size & (fs->extent_size - 1)))
		return r;
	if (no == 0 && i->row.flags & BALE_INODE_HAS_INLINE)
		return bale_ext_rewrite_locked(i, no);
	r = bale_patch_next(i, no, &patched);
	if (!r && patched == no)
		return bale_ext_rewrite_locked(i, no);
	if (!r || r == -ENOENT)
		r = bale_map_get(i, no, &id);
	if (r || !id)
		return r;
	r = bale_meta_extent(fs->meta, id, &row);
	if (!r && row.raw_len > bale_ext_in_file(fs, size, no))
		r = bale_ext_rewrite_locked(i, no);
	return r;
}

/* It is, or a copy in flight may become one. */
static bool is_inline(struct bale_inode *i)
{
	struct bale_ext *e;
	bool flying;

	if (i->row.flags & BALE_INODE_HAS_INLINE)
		return true;
	if (bale_cache_find(i->fs->cache, i->ino, 0, &e))
		return false;
	flying = e->nr_flying > 0;
	bale_ext_put(i->fs->cache, e);
	return flying;
}

int bale_file_prepare_grow_locked(struct bale_inode *i, uint64_t size)
{
	struct bale_fs *fs = i->fs;
	struct bale_file_data *d;
	int r = bale_file_data_get(i, &d);

	if (!r && !d->tail_checked) {
		r = check_tail(i);
		d->tail_checked = !r;
	}
	/* An inline value is a whole file; a longer one needs an extent. */
	if (!r && size > fs->extent_size && i->row.size <= fs->extent_size &&
	    is_inline(i))
		r = bale_ext_rewrite_locked(i, 0);
	return r;
}

/* ---- write ---- */

/* Reserve for all of it before any of it is taken. */
static int reserve_all(struct bale_inode *i, uint64_t off, size_t len)
{
	struct bale_fs *fs = i->fs;
	uint64_t end = off + len, need = 0;
	uint64_t size = end > i->row.size ? end : i->row.size;
	int r;

	for (uint64_t no = bale_ext_no(fs, off); no <= bale_ext_no(fs, end - 1);
	     no++) {
		uint32_t bytes = bale_ext_in_file(fs, size, no);
		uint32_t have = 0;
		struct bale_ext *e;

		if (!bale_cache_find(fs->cache, i->ino, no, &e)) {
			have = e->reserved;
			bale_ext_put(fs->cache, e);
		}
		if (bale_promise_has(i, no))
			continue;
		bytes = bale_ext_need(fs, NULL, bytes);
		need += bytes > have ? bytes - have : 0;
	}
	if (!need)
		return 0;
	r = bale_space_reserve(fs->store, need);
	if (!r)
		i->data->budget = need;
	return r;
}

static void release_budget(struct bale_inode *i)
{
	if (i->data->budget)
		bale_space_release(i->fs->store, i->data->budget);
	i->data->budget = 0;
}

static int write_locked(struct bale_inode *i, const struct iovec *src,
			int nr_iov, uint64_t off, size_t len)
{
	struct bale_fs *fs = i->fs;
	uint64_t end = off + len;
	struct bale_file_data *d = NULL;
	size_t done = 0;
	int r = bale_file_data_get(i, &d);

	if (!r && end > i->row.size)
		r = bale_file_prepare_grow_locked(i, end);
	if (!r && bale_ext_no(fs, off) != bale_ext_no(fs, end - 1))
		r = reserve_all(i, off, len);
	while (!r && done < len) {
		uint32_t at = (uint32_t)((off + done) & (fs->extent_size - 1));
		size_t n = fs->extent_size - at;

		n = n < len - done ? n : len - done;
		r = bale_ext_write_locked(i, bale_ext_no(fs, off + done), at,
					  src, nr_iov, done, (uint32_t)n);
		if (!r)
			done += n;
	}
	/* Some extents may have been taken before one failed: they are part
	 * of the file, so the size covers them, and the caller hears of it. */
	if (done && off + done > i->row.size)
		i->row.size = off + done;
	if (d)
		release_budget(i);
	return done && r == -ENOSPC ? -EIO : r;
}

bool bale_file_make_space(struct bale_fs *fs, unsigned int try)
{
	if (try > 1 || bale_file_writable(fs))
		return false;
	if (bale_flush_all(fs) || bale_meta_sync(fs->meta, 0))
		return false;
	return true;
}

int bale_file_write(struct bale_inode *i, const struct iovec *src, int nr_iov,
		    uint64_t off, bool append, bool kill_priv)
{
	struct bale_fs *fs = i->fs;
	size_t len = 0;
	int r;

	for (int k = 0; k < nr_iov; k++)
		len += src[k].iov_len;
	for (unsigned int try = 0;; try++) {
		r = bale_file_writable(fs);
		if (!r)
			r = bale_flush_throttle(fs);
		if (r || !len)
			return r;
		bale_rwlock_wrlock(&i->lock);
		if (append)
			off = i->row.size;
		if (off > BALE_FILE_MAX || len > BALE_FILE_MAX - off)
			r = -EFBIG;
		else
			r = write_locked(i, src, nr_iov, off, len);
		if (!r)
			bale_file_touch_locked(i, kill_priv);
		bale_rwlock_unlock(&i->lock);
		if (r != -ENOSPC || !bale_file_make_space(fs, try))
			return r;
	}
}
