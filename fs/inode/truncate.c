/* SPDX-License-Identifier: Apache-2.0 */
/* truncate.c - less of a file, or none. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/inode/flush.h"

enum { STEP_BYTES = BALE_TXN_MAX / 4 };

/*
 * Commit what memory shows already. Refused, the two would differ from then on,
 * and what is staged later would go by memory: nothing is accepted any more.
 */
int bale_file_commit_locked(struct bale_inode *i, struct bale_txn *t)
{
	int r = bale_txn_commit(t, NULL);

	if (r) {
		bale_map_forget(i);
		bale_store_fail(i->fs->store, r, "staging of a file's change");
	}
	return r;
}

/* ---- map slots ---- */

static void free_row(struct bale_inode *i, struct bale_txn *t, uint64_t group,
		     uint64_t first, uint64_t last, uint64_t *ids)
{
	for (unsigned int k = 0; k < BALE_MAP_SLOTS; k++) {
		uint64_t no = group * BALE_MAP_SLOTS + k;
		struct bale_extent_row row;

		if (!ids[k] || no < first || no >= last)
			continue;
		if (!bale_meta_extent(i->fs->meta, ids[k], &row))
			i->row.stored -= row.stored_len < i->row.stored ?
						 row.stored_len :
						 i->row.stored;
		bale_txn_extent_unref(t, ids[k]);
		ids[k] = 0;
		bale_cache_drop(i->fs->cache, i->ino, no);
	}
	bale_map_put(i, t, group, ids);
}

/* Adds to t until it is a step large: 0 done, 1 there is more at *first. */
static int free_step(struct bale_inode *i, struct bale_txn *t, uint64_t *first,
		     uint64_t last)
{
	uint64_t ids[BALE_MAP_SLOTS];
	uint64_t group;
	int r;

	while (*first < last) {
		if (bale_txn_bytes(t) > STEP_BYTES)
			return 1;
		r = bale_map_next(i, *first / BALE_MAP_SLOTS, &group);
		if (r == -ENOENT || (!r && group * BALE_MAP_SLOTS >= last))
			break;
		if (!r)
			r = bale_map_row(i, group, ids);
		if (r)
			return r;
		free_row(i, t, group, *first, last, ids);
		*first = (group + 1) * BALE_MAP_SLOTS;
	}
	*first = last;
	return 0;
}

int bale_map_free_range(struct bale_inode *i, uint64_t first, uint64_t last)
{
	struct bale_txn t;
	int r, more;

	do {
		uint64_t stored = i->row.stored;

		bale_txn_begin(i->fs->meta, &t);
		more = r = free_step(i, &t, &first, last);
		if (more >= 0 && bale_txn_bytes(&t)) {
			bale_inode_stage(i, &t);
			r = bale_txn_commit(&t, NULL);
		} else {
			bale_txn_abort(&t);
		}
		if (r < 0) {
			bale_map_forget(i);
			i->row.stored = stored;
		}
	} while (r >= 0 && more > 0);
	return r < 0 ? r : 0;
}

/* ---- dirty extents ---- */

static void discard_pending(struct bale_inode *i, uint64_t first, uint64_t last,
			    struct bale_txn *t)
{
	struct bale_file_data *d = i->data;

	bale_promise_drop(i, first, last);
	bale_list_for_each_safe(l, &d->dirty)
	{
		struct bale_ext *e =
			BALE_CONTAINER(l, struct bale_ext, dirty_link);

		if (e->no >= first && e->no < last)
			bale_ext_discard(i, e->no, t);
	}
	bale_list_for_each(l, &d->parts)
	{
		struct bale_flush_part *p =
			BALE_CONTAINER(l, struct bale_flush_part, link);

		for (size_t k = 0; k < p->nr; k++) {
			struct bale_ext *e = p->items[k].ext;

			if (e->no >= first && e->no < last && !e->dropped)
				bale_ext_discard(i, e->no, t);
		}
	}
}

void bale_file_discard_range(struct bale_inode *i, uint64_t first,
			     uint64_t last, struct bale_txn *t)
{
	if (i->data)
		discard_pending(i, first, last, t);
	if (bale_patch_stage_del_left(i, first, last, t))
		bale_warn("inode %" PRIu64 ": left patches stay", i->ino);
}

/* The extent that the new end cuts: what is behind it is gone from memory, and
 * from the store when the extent is stored again, which growing makes sure. */
static int cut_tail(struct bale_inode *i, uint64_t size)
{
	struct bale_fs *fs = i->fs;
	uint32_t keep = (uint32_t)(size & (fs->extent_size - 1));
	struct bale_ext *e;
	int r = 0;

	if (!keep ||
	    bale_cache_find(fs->cache, i->ino, bale_ext_no(fs, size), &e))
		return 0;
	/* A longer copy in flight would count as the file's new content. */
	if (e->nr_flying)
		r = bale_flush_settle_locked(i);
	if (!r && e->len > keep) {
		bale_ext_set_len(fs->cache, e, keep);
		e->no_patch = true;
		e->hi = e->hi < keep ? e->hi : keep;
	}
	bale_ext_put(fs->cache, e);
	return r;
}

void bale_inline_stage_del(struct bale_inode *i, struct bale_txn *t)
{
	be64 key = be64_put(i->ino);

	bale_txn_del(t, BALE_TABLE_inline, &key, sizeof(key));
	i->row.flags &= ~(uint32_t)BALE_INODE_HAS_INLINE;
}

/* Without names it has an orphan row, for good. */
static void mark_unfinished(struct bale_inode *i, struct bale_txn *t)
{
	if (i->row.nlink)
		bale_orphan_stage(t, i->ino, BALE_ORPHAN_TRUNCATE);
}

static int shrink(struct bale_inode *i, uint64_t size)
{
	struct bale_fs *fs = i->fs;
	uint64_t first = bale_ext_count(fs, size);
	struct bale_file_data *d = i->data;
	struct bale_txn t;
	bool steps = false;
	int r = cut_tail(i, size), more;

	if (r)
		return r;
	bale_txn_begin(fs->meta, &t);
	bale_file_discard_range(i, first, UINT64_MAX, &t);
	i->row.size = size;
	if (d->disk_size > size)
		d->disk_size = size;
	d->tail_checked = false;
	if (!size && i->row.flags & BALE_INODE_HAS_INLINE) {
		bale_inline_stage_del(i, &t);
		i->row.stored = 0;
		bale_cache_drop(fs->cache, i->ino, 0);
	}
	while ((more = free_step(i, &t, &first, UINT64_MAX)) > 0) {
		/* The size is the new one at once; a crash in between is
		 * resumed from the orphan row. */
		if (!steps)
			mark_unfinished(i, &t);
		steps = true;
		bale_inode_stage(i, &t);
		r = bale_file_commit_locked(i, &t);
		BALE_FAULT_POINT("truncate.step");
		if (r)
			return r;
		bale_txn_begin(fs->meta, &t);
	}
	if (more < 0) {
		/* The size counts, and growing meets the rest again. */
		bale_warn("inode %" PRIu64 ": not all freed behind its end: %s",
			  i->ino, strerror(-more));
		mark_unfinished(i, &t);
	} else if (steps && i->row.nlink) {
		bale_orphan_stage_del(&t, i->ino);
	}
	bale_inode_stage(i, &t);
	return bale_file_commit_locked(i, &t);
}

int bale_file_truncate_locked(struct bale_inode *i, uint64_t size)
{
	uint64_t was = i->row.size;
	struct bale_file_data *d;
	struct bale_txn t;
	int r = bale_file_writable(i->fs);

	if (!r && size > BALE_FILE_MAX)
		r = -EFBIG;
	if (!r)
		r = bale_file_data_get(i, &d);
	if (r)
		return r;
	if (size <= i->row.size)
		return shrink(i, size);
	r = bale_file_prepare_grow_locked(i, size);
	if (r)
		return r;
	i->row.size = size;
	bale_txn_begin(i->fs->meta, &t);
	bale_inode_stage(i, &t);
	r = bale_txn_commit(&t, NULL);
	if (r)
		i->row.size = was;
	return r;
}

/* ---- holes ---- */

/* Where a step of at most STEP_ROWS map rows ends; they can all be read. */
static int punch_end(struct bale_inode *i, uint64_t first, uint64_t last,
		     uint64_t *ret)
{
	enum { STEP_ROWS = 64 };
	uint64_t ids[BALE_MAP_SLOTS], group = first / BALE_MAP_SLOTS;
	int r = 0;

	*ret = last;
	for (unsigned int nr = 0; !r; nr++, group++) {
		r = bale_map_next(i, group, &group);
		if (r == -ENOENT || (!r && group * BALE_MAP_SLOTS >= last))
			return 0;
		if (nr == STEP_ROWS) {
			*ret = group * BALE_MAP_SLOTS;
			return 0;
		}
		if (!r)
			r = bale_map_row(i, group, ids);
	}
	return r;
}

int bale_file_punch_locked(struct bale_inode *i, uint64_t first, uint64_t last)
{
	struct bale_txn t;
	uint64_t end;
	int r = 0, more;

	while (!r && first < last) {
		r = punch_end(i, first, last, &end);
		if (r)
			break;
		/* Patches go with what they are laid over: a crash in between
		 * would show what was there before them. */
		bale_txn_begin(i->fs->meta, &t);
		bale_file_discard_range(i, first, end, &t);
		while ((more = free_step(i, &t, &first, end)) > 0)
			;
		if (more < 0)
			t.error = more;
		bale_inode_stage(i, &t);
		r = bale_file_commit_locked(i, &t);
		BALE_FAULT_POINT("punch.step");
	}
	return r;
}

int bale_file_delete(struct bale_inode *i)
{
	uint64_t first = 0;
	struct bale_txn t;
	int r, more;

	bale_rwlock_wrlock(&i->lock);
	bale_txn_begin(i->fs->meta, &t);
	bale_file_discard_range(i, 0, UINT64_MAX, &t);
	if (i->row.flags & BALE_INODE_HAS_INLINE)
		bale_cache_drop(i->fs->cache, i->ino, 0);
	for (;;) {
		more = free_step(i, &t, &first, UINT64_MAX);
		if (more <= 0)
			break;
		/* The inode's orphan row makes the next mount go on. */
		bale_inode_stage(i, &t);
		r = bale_txn_commit(&t, NULL);
		BALE_FAULT_POINT("delete.step");
		if (r) {
			bale_rwlock_unlock(&i->lock);
			return r;
		}
		bale_txn_begin(i->fs->meta, &t);
	}
	r = more < 0 ? more : bale_inode_stage_delete(i, &t);
	if (r)
		bale_txn_abort(&t);
	else
		r = bale_txn_commit(&t, NULL);
	bale_rwlock_unlock(&i->lock);
	return r;
}
