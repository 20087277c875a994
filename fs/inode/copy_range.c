/* SPDX-License-Identifier: Apache-2.0 */
/* copy_range.c - copies that share: whole extents get one reference more. */
#include <errno.h>
#include <string.h>

#include "fs/inode/file.h"

enum {
	SHARE_MAX = 1024, /* extents a transaction */
	COPY_MAX = 1 << 20,
};

static void lock_pair(struct bale_inode *a, struct bale_inode *b) BALE_NO_TSA
{
	if (a == b) {
		bale_rwlock_wrlock(&a->lock);
		return;
	}
	bale_rwlock_wrlock(a->ino < b->ino ? &a->lock : &b->lock);
	bale_rwlock_wrlock(a->ino < b->ino ? &b->lock : &a->lock);
}

static void unlock_pair(struct bale_inode *a, struct bale_inode *b) BALE_NO_TSA
{
	bale_rwlock_unlock(&a->lock);
	if (a != b)
		bale_rwlock_unlock(&b->lock);
}

struct share {
	struct bale_inode *dst;
	struct bale_txn t;
	uint64_t group;
	bool has_group;
	uint64_t ids[BALE_MAP_SLOTS];
};

static int put_slot(struct share *s, uint64_t no, uint64_t id)
{
	uint64_t group = no / BALE_MAP_SLOTS, *slot;
	struct bale_inode_row *ir = &s->dst->row;
	struct bale_meta *m = s->dst->fs->meta;
	struct bale_extent_row row;
	int r;

	if (!s->has_group || s->group != group) {
		if (s->has_group)
			bale_map_put(s->dst, &s->t, s->group, s->ids);
		s->has_group = false;
		r = bale_map_row(s->dst, group, s->ids);
		if (r)
			return r;
		s->group = group;
		s->has_group = true;
	}
	if (id) {
		r = bale_meta_extent(m, id, &row);
		if (r)
			return r == -ENOENT ? -EUCLEAN : r;
		bale_txn_extent_ref(&s->t, id);
		ir->stored += row.stored_len;
	}
	slot = &s->ids[no % BALE_MAP_SLOTS];
	if (*slot) {
		if (!bale_meta_extent(m, *slot, &row))
			ir->stored -= row.stored_len < ir->stored ?
					      row.stored_len :
					      ir->stored;
		bale_txn_extent_unref(&s->t, *slot);
	}
	*slot = id;
	return 0;
}

static int put_slots(struct share *s, struct bale_inode *src, uint64_t from,
		     uint64_t to, uint64_t nr)
{
	uint64_t id;
	int r = 0;

	for (uint64_t k = 0; k < nr && !r; k++) {
		r = bale_map_get(src, from + k, &id);
		if (!r)
			r = put_slot(s, to + k, id);
	}
	return r;
}

/*
 * dst grows to `end`, and what is inline of it is a whole file: no extent may
 * be stored beside it, not even until the next flush. Dirty extent 0, which
 * growing made of it, goes first.
 */
static int grow(struct bale_inode *dst, uint64_t end)
{
	int r = bale_file_prepare_grow_locked(dst, end);

	if (r || !(dst->row.flags & BALE_INODE_HAS_INLINE) ||
	    end <= dst->fs->extent_size)
		return r;
	dst->data->outgrown = true;
	r = bale_flush_inode_locked(dst);
	dst->data->outgrown = false;
	return r;
}

/* Extents [from, from + nr) of src, all clean, become [to, to + nr) of dst,
 * of which nothing is in flight. */
static int share_locked(struct bale_inode *src, uint64_t from,
			struct bale_inode *dst, uint64_t to, uint64_t nr)
{
	struct bale_fs *fs = dst->fs;
	struct share s = { .dst = dst };
	uint64_t end = bale_ext_start(fs, to + nr), stored;
	bool was_inline;
	int r = 0;

	if (end > dst->row.size)
		r = grow(dst, end);
	if (r)
		return r;
	was_inline = !to && dst->row.flags & BALE_INODE_HAS_INLINE;
	stored = dst->row.stored;
	if (was_inline)
		dst->row.stored = 0; /* it is all there was */
	bale_txn_begin(fs->meta, &s.t);
	r = put_slots(&s, src, from, to, nr);
	if (r) {
		bale_txn_abort(&s.t);
		bale_map_forget(dst);
		dst->row.stored = stored;
		return r;
	}
	/* Nothing is thrown away before all slots are known to be good. */
	bale_file_discard_range(dst, to, to + nr, &s.t);
	for (uint64_t k = 0; k < nr; k++)
		bale_cache_drop(fs->cache, dst->ino, to + k);
	if (was_inline)
		bale_inline_stage_del(dst, &s.t);
	bale_map_put(dst, &s.t, s.group, s.ids);
	/* Within one file the view went back to a row that is put already, and
	 * read what it was before. */
	bale_map_forget(dst);
	if (end > dst->row.size)
		dst->row.size = end;
	bale_file_touch_locked(dst, true);
	bale_inode_stage(dst, &s.t);
	return bale_file_commit_locked(dst, &s.t);
}

/* How many of nr clean extents are all of what a reader gets: patches that
 * could not be folded are not in them. */
static uint64_t unpatched(struct bale_inode *i, uint64_t from, uint64_t nr)
{
	uint64_t no;
	int r = bale_patch_next(i, from, &no);

	if (r)
		return r == -ENOENT ? nr : 0;
	return no - from < nr ? no - from : nr;
}

/* 0: *ret_len bytes shared, maybe none (then they are to be copied). */
static int try_share(struct bale_inode *src, uint64_t src_off,
		     struct bale_inode *dst, uint64_t dst_off, size_t len,
		     size_t *ret_len)
{
	struct bale_fs *fs = src->fs;
	uint64_t from = bale_ext_no(fs, src_off), to = bale_ext_no(fs, dst_off);
	uint64_t nr = len >> fs->extent_bits, whole;
	int r;

	*ret_len = 0;
	if ((src_off | dst_off) & (fs->extent_size - 1) || !nr)
		return 0;
	r = bale_flush_inode(src);
	if (r)
		return r;
	nr = nr < SHARE_MAX ? nr : SHARE_MAX;
	lock_pair(src, dst);
	r = bale_flush_settle_locked(src);
	if (!r)
		r = bale_flush_settle_locked(dst);
	/* An inline value cannot be shared; nor can what was written
	 * meanwhile. */
	whole = src->row.size >> fs->extent_bits;
	whole = whole > from ? whole - from : 0;
	nr = nr < whole ? nr : whole;
	nr = r ? 0 : unpatched(src, from, nr);
	if (nr && (!src->data || !src->data->nr_dirty) &&
	    !(src->row.flags & BALE_INODE_HAS_INLINE)) {
		r = share_locked(src, from, dst, to, nr);
		if (!r)
			*ret_len = (size_t)bale_ext_start(fs, nr);
	}
	unlock_pair(src, dst);
	return r;
}

static int copy_some(struct bale_inode *src, uint64_t src_off,
		     struct bale_inode *dst, uint64_t dst_off, size_t len,
		     size_t *ret_len)
{
	struct bale_read rd;
	int r = bale_file_read(src, src_off, len < COPY_MAX ? len : COPY_MAX,
			       &rd);

	if (r)
		return r;
	*ret_len = rd.len;
	if (rd.len)
		r = bale_file_write(dst, rd.iov, (int)rd.nr_iov, dst_off, false,
				    true);
	bale_file_read_done(&rd);
	return r;
}

int bale_file_copy_range(struct bale_inode *src, uint64_t src_off,
			 struct bale_inode *dst, uint64_t dst_off, size_t len,
			 size_t *ret_len)
{
	size_t done = 0, n;
	int r = bale_file_writable(src->fs);

	if (!r && (src_off > BALE_FILE_MAX || dst_off > BALE_FILE_MAX ||
		   len > BALE_FILE_MAX - dst_off))
		r = -EFBIG;
	if (!r && src == dst && src_off < dst_off + len &&
	    dst_off < src_off + len)
		r = -EINVAL;
	while (!r && done < len) {
		size_t left = len - done;
		/* Up to the next border where sharing may begin. */
		size_t border = src->fs->extent_size -
				((src_off + done) & (src->fs->extent_size - 1));

		r = try_share(src, src_off + done, dst, dst_off + done, left,
			      &n);
		if (!r && !n)
			r = copy_some(src, src_off + done, dst, dst_off + done,
				      left < border ? left : border, &n);
		if (!r && !n)
			break; /* end of the source */
		done += r ? 0 : n;
	}
	*ret_len = done;
	return done ? 0 : r;
}
