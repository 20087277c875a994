/* SPDX-License-Identifier: Apache-2.0 */
/* flush_stage.c - what was appended becomes the file's, in transactions. */
#include <errno.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/inode/flush.h"

enum { TXN_FULL = BALE_TXN_MAX / 2 };

struct stage {
	struct bale_inode *i;
	struct bale_txn t;
	uint64_t group;
	bool has_group;
	uint64_t ids[BALE_MAP_SLOTS];
	int error;
};

static void put_group(struct stage *s)
{
	if (s->has_group)
		bale_map_put(s->i, &s->t, s->group, s->ids);
	s->has_group = false;
}

/* A transaction that grew too large ends in the middle: what it holds is
 * whole extents, and the size on disk is still the old one. */
static void split_if_full(struct stage *s)
{
	if (bale_txn_bytes(&s->t) < TXN_FULL)
		return;
	put_group(s);
	bale_inode_stage(s->i, &s->t);
	s->error = bale_txn_commit(&s->t, NULL);
	bale_txn_begin(s->i->fs->meta, &s->t);
}

static void drop_old(struct stage *s, uint64_t id)
{
	struct bale_extent_row row;
	struct bale_inode_row *ir = &s->i->row;

	if (!id)
		return;
	if (!bale_meta_extent(s->i->fs->meta, id, &row))
		ir->stored -= row.stored_len < ir->stored ? row.stored_len :
							    ir->stored;
	bale_txn_extent_unref(&s->t, id);
}

static void stage_inline(struct stage *s, const struct bale_batch_item *w)
{
	struct {
		struct bale_disk_inline head;
		uint8_t bytes[BALE_INLINE_MAX];
	} v;
	be64 key = be64_put(s->i->ino);

	v.head = (struct bale_disk_inline){
		.raw_len = le32_put(w->row.raw_len),
		.codec = w->row.codec,
		.filter = w->row.filter,
		.level = (uint8_t)w->row.level,
		.reason = w->row.reason,
	};
	memcpy(v.bytes, w->coded, w->row.stored_len);
	bale_txn_put(&s->t, BALE_TABLE_inline, &key, sizeof(key), &v,
		     sizeof(v.head) + w->row.stored_len);
	s->i->row.flags |= BALE_INODE_HAS_INLINE;
	s->i->row.stored += w->row.stored_len;
}

static int enter_group(struct stage *s, uint64_t no)
{
	uint64_t group = no / BALE_MAP_SLOTS;
	int r;

	if (s->has_group && s->group == group)
		return 0;
	put_group(s);
	r = bale_map_row(s->i, group, s->ids);
	s->group = group;
	s->has_group = !r;
	return r;
}

static void stage_item(struct stage *s, const struct bale_batch_item *w,
		       const struct bale_flush_item *it)
{
	struct bale_inode_row *ir = &s->i->row;
	uint64_t *slot = &s->ids[w->extent_no % BALE_MAP_SLOTS];

	drop_old(s, *slot);
	*slot = 0;
	if (w->extent_no == 0 && ir->flags & BALE_INODE_HAS_INLINE) {
		be64 key = be64_put(s->i->ino);

		ir->stored = 0; /* an inline value is all there was */
		ir->flags &= ~(uint32_t)BALE_INODE_HAS_INLINE;
		if (w->kind != BALE_BATCH_INLINE)
			bale_txn_del(&s->t, BALE_TABLE_inline, &key,
				     sizeof(key));
	}
	if (w->kind == BALE_BATCH_INLINE) {
		stage_inline(s, w);
	} else if (w->kind == BALE_BATCH_STORED) {
		bale_txn_extent_add(&s->t, w->id, &w->row);
		ir->stored += w->row.stored_len;
		*slot = w->id;
	}
	bale_patch_stage_del(&s->t, s->i->ino, w->extent_no,
			     it->ext->patch_first, it->patch_next);
}

/*
 * See file.h: how far the file reaches on disk once this part is staged. Not
 * past an extent that waits, even when nothing was written to it behind the
 * end on disk: it may be stored longer than that, and is dirty to be cut.
 */
static uint64_t size_after(struct bale_inode *i,
			   const struct bale_flush_part *p)
{
	struct bale_file_data *d = i->data;
	struct bale_fs *fs = i->fs;
	uint64_t to = p->size < i->row.size ? p->size : i->row.size;

	bale_list_for_each(l, &d->dirty)
	{
		struct bale_ext *e =
			BALE_CONTAINER(l, struct bale_ext, dirty_link);
		uint64_t start = bale_ext_start(fs, e->no);

		if (e->part_seq != p->seq && start < to &&
		    start + fs->extent_size > d->disk_size)
			to = start;
	}
	bale_list_for_each(l, &d->parts)
	{
		struct bale_flush_part *q =
			BALE_CONTAINER(l, struct bale_flush_part, link);

		for (size_t k = 0; q != p && k < q->nr; k++) {
			struct bale_ext *e = q->items[k].ext;
			uint64_t start = bale_ext_start(fs, e->no);

			if (!e->dropped && e->part_seq != p->seq &&
			    start < to &&
			    start + fs->extent_size > d->disk_size)
				to = start;
		}
	}
	return to > d->disk_size ? to : d->disk_size;
}

/* The copy is out of flight; failed: its extent is dirty as before. */
static void land_item(struct bale_inode *i, struct bale_flush_item *it,
		      bool failed, bool hole)
{
	struct bale_fs *fs = i->fs;
	struct bale_ext *e = it->ext;

	e->nr_flying--;
	bale_flush_account(fs, 0, -(int64_t)it->acct);
	/* Not before: until its row was staged, what was appended counts as
	 * room that backs reservations. */
	if (it->reserved)
		bale_space_release(fs->store, it->reserved);
	i->data->unstored -= it->unstored;
	if (it->lost) {
		/* Patches of it stay in the log, for when the row is mended. */
		if (!e->dropped && !e->listed && !e->nr_flying)
			bale_cache_drop(fs->cache, i->ino, e->no);
	} else if (failed && !e->dropped && !e->listed) {
		/* Never evicted: memory is the only place it is in. */
		bale_ext_mark_dirty(i, e, 0, e->len);
	} else if (!e->dropped && !failed) {
		e->patch_first = it->patch_next;
		if (!e->listed && !e->nr_flying) {
			e->patch_first = e->patch_next = e->patch_bytes = 0;
			e->no_patch = false;
			/* What is cached and clean has a place in the map. */
			if (hole)
				bale_cache_drop(fs->cache, i->ino, e->no);
		}
	}
	bale_cbuf_put(it->buf);
	bale_ext_put(fs->cache, e);
}

/* Appended, but no row will name it. */
static void give_up(struct bale_fs *fs, const struct bale_batch_item *w)
{
	if (w->kind == BALE_BATCH_STORED)
		bale_store_discard(fs->store, &w->row, 1);
}

/*
 * A damaged map row: what it said of 64 extents is not known, so it cannot be
 * written anew. The file's fsync fails from now on; others go on.
 */
static int lose(struct stage *s, const struct bale_batch_item *w,
		struct bale_flush_item *it, int err)
{
	if (err != -EBADMSG && err != -EUCLEAN)
		return err;
	bale_ext_log_damage(s->i->fs, s->i->ino, w->extent_no, err);
	give_up(s->i->fs, w);
	it->lost = true;
	s->i->data->lost = true;
	return 0;
}

static int stage_items(struct stage *s, struct bale_flush_part *p)
{
	struct bale_flush_batch *b = p->batch;

	for (size_t k = 0; k < p->nr && !s->error; k++) {
		const struct bale_batch_item *w = &b->work[p->first + k];
		struct bale_flush_item *it = &p->items[k];
		int r;

		if (it->ext->dropped) {
			give_up(s->i->fs, w);
			continue;
		}
		it->ext->part_seq = p->seq;
		r = enter_group(s, w->extent_no);
		if (r) {
			s->error = lose(s, w, it, r);
			continue;
		}
		stage_item(s, w, it);
		if (!s->error)
			split_if_full(s);
	}
	if (!s->error)
		put_group(s);
	return s->error;
}

int bale_flush_stage_locked(struct bale_inode *i, struct bale_flush_part *p)
{
	struct bale_file_data *d = i->data;
	struct stage s = { .i = i };
	int r = p->batch->error;

	if (!r) {
		bale_txn_begin(i->fs->meta, &s.t);
		r = stage_items(&s, p);
		if (!r)
			d->disk_size = size_after(i, p);
		bale_list_del(&p->link);
		if (!r) {
			bale_inode_stage(i, &s.t);
			r = bale_txn_commit(&s.t, NULL);
			BALE_FAULT_POINT("flush.staged");
		} else {
			bale_txn_abort(&s.t);
		}
		if (r)
			bale_store_fail(i->fs->store, r, "staging of extents");
	} else {
		bale_list_del(&p->link);
	}
	for (size_t k = 0; k < p->nr; k++)
		land_item(i, &p->items[k], r != 0,
			  p->batch->work[p->first + k].kind == BALE_BATCH_HOLE);
	p->staged = true;
	return r;
}
