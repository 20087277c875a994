/* SPDX-License-Identifier: Apache-2.0 */
/* flush.c - dirty extents into batches, batches into the store. */
#include "fs/inode/flush.h"

#include <errno.h>
#include <string.h>

#include "fs/base/fault.h"

/* ---- batches ---- */

struct bale_flush_batch *bale_flush_batch_new(struct bale_flush *fl)
{
	struct bale_flush_batch *b =
		bale_fault("flush.memory") ? NULL : calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	bale_list_init(&b->link);
	b->max_bytes = fl->bale_bytes;
	bale_mutex_lock(&fl->lock);
	b->seq = ++fl->batch_seq;
	bale_list_push_back(&fl->running, &b->link);
	bale_mutex_unlock(&fl->lock);
	return b;
}

static void set_state(struct bale_flush *fl, struct bale_flush_batch *b,
		      enum bale_flush_state state)
{
	bale_mutex_lock(&fl->lock);
	atomic_store(&b->state, (int)state);
	atomic_fetch_add(&fl->events, 1);
	bale_cond_broadcast(&fl->done);
	bale_mutex_unlock(&fl->lock);
}

void bale_flush_batch_free(struct bale_flush *fl, struct bale_flush_batch *b)
{
	if (!b)
		return;
	bale_mutex_lock(&fl->lock);
	bale_list_del(&b->link);
	atomic_fetch_add(&fl->events, 1);
	bale_cond_broadcast(&fl->done);
	bale_mutex_unlock(&fl->lock);
	if (b->scratch)
		bale_batch_end(fl->fs->batcher, b->scratch);
	for (size_t k = 0; k < b->nr_parts; k++) {
		bale_inode_put(b->parts[k]->i);
		free(b->parts[k]);
	}
	free(b->parts);
	free(b->work);
	free(b);
}

static int grow_batch(struct bale_flush_batch *b, size_t more)
{
	size_t cap = b->nr + more;
	void *p;

	if (b->nr_parts == b->cap_parts) {
		size_t n = b->cap_parts ? b->cap_parts * 2 : 4;

		p = realloc(b->parts, n * sizeof(struct bale_flush_part *));
		if (!p)
			return -ENOMEM;
		b->parts = p;
		b->cap_parts = n;
	}
	if (cap <= b->cap)
		return 0;
	cap = cap < b->cap * 2 ? b->cap * 2 : cap;
	p = realloc(b->work, cap * sizeof(*b->work));
	if (!p)
		return -ENOMEM;
	b->work = p;
	b->cap = cap;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const struct bale_ext *x = *(struct bale_ext *const *)a;
	const struct bale_ext *y = *(struct bale_ext *const *)b;

	return x->no < y->no ? -1 : x->no > y->no;
}

/* The list's reference goes to the item, its reservation too. */
static void take_extent(struct bale_flush_part *p, struct bale_ext *e,
			struct bale_codec_policy policy)
{
	struct bale_flush_batch *b = p->batch;
	struct bale_inode *i = p->i;
	struct bale_fs *fs = i->fs;

	p->items[p->nr++] = (struct bale_flush_item){
		.ext = e,
		.buf = e->buf,
		.acct = e->acct,
		.reserved = e->reserved,
		.unstored = e->unstored,
		.patch_next = e->patch_next,
	};
	b->work[b->nr] = (struct bale_batch_item){
		.ino = i->ino,
		.extent_no = e->no,
		.data = e->buf->data,
		.len = e->len,
		.policy = policy,
		.may_inline = e->no == 0 && i->row.size <= fs->extent_size &&
			      !i->data->outgrown,
	};
	b->nr++;
	b->bytes += e->len;
	bale_cbuf_ref(e->buf);
	bale_flush_account(fs, 0, e->acct);
	e->reserved = 0;
	bale_ext_unlist(i, e);
	i->data->unstored += p->items[p->nr - 1].unstored;
	e->lo = e->hi = 0;
	e->nr_flying++;
}

int bale_flush_collect_locked(struct bale_flush_batch *b, struct bale_inode *i)
{
	struct bale_file_data *d = i->data;
	struct bale_codec_policy policy;
	struct bale_flush_part *p;
	struct bale_ext **all;
	size_t n = 0, k = 0;

	if (!d || !d->nr_dirty)
		return 0;
	all = malloc(d->nr_dirty * sizeof(struct bale_ext *));
	p = calloc(1, sizeof(*p) + d->nr_dirty * sizeof(p->items[0]));
	if (!all || !p || grow_batch(b, d->nr_dirty)) {
		free(all);
		free(p);
		return -ENOMEM;
	}
	bale_list_for_each(l, &d->dirty)
		all[n++] = BALE_CONTAINER(l, struct bale_ext, dirty_link);
	qsort(all, n, sizeof(struct bale_ext *), by_number);
	policy = d->recode ? d->recode_policy : bale_inode_policy(i);
	p->batch = b;
	p->i = i;
	p->first = b->nr;
	p->size = i->row.size;
	p->seq = atomic_fetch_add(&i->fs->flush->part_seq, 1) + 1;
	while (k < n && (!b->nr || (b->bytes + all[k]->len <= b->max_bytes &&
				    b->nr < BALE_FLUSH_ITEMS_MAX)))
		take_extent(p, all[k++], policy);
	free(all);
	if (!k) {
		free(p);
		return 0;
	}
	bale_inode_ref(i);
	bale_list_push_back(&d->parts, &p->link);
	b->parts[b->nr_parts++] = p;
	return 0;
}

int bale_flush_write(struct bale_flush *fl, struct bale_flush_batch *b)
{
	struct bale_fs *fs = fl->fs;
	int r = bale_store_error(fs->store) ? -EROFS : 0;

	if (!r)
		r = bale_batch_write(fs->batcher, b->work, b->nr, &b->scratch);
	if (r && !bale_store_error(fs->store))
		bale_store_fail(fs->store, r, "writing of extents");
	if (!r)
		BALE_FAULT_POINT("flush.appended");
	b->error = r;
	atomic_fetch_add(&fl->nr_flushes, 1);
	set_state(fl, b, r ? BALE_FLUSH_FAILED : BALE_FLUSH_APPENDED);
	return r;
}

/* ---- staging in order ---- */

static struct bale_flush_part *oldest_part(struct bale_inode *i)
{
	struct bale_file_data *d = i->data;

	return d && !bale_list_empty(&d->parts) ?
		       BALE_CONTAINER(d->parts.next, struct bale_flush_part,
				      link) :
		       NULL;
}

int bale_flush_settle_locked(struct bale_inode *i)
{
	struct bale_flush *fl = i->fs->flush;
	struct bale_flush_part *p;
	int first = 0, r;

	while ((p = oldest_part(i))) {
		bale_mutex_lock(&fl->lock);
		while (atomic_load(&p->batch->state) == BALE_FLUSH_BUSY)
			bale_cond_wait(&fl->done, &fl->lock);
		bale_mutex_unlock(&fl->lock);
		r = bale_flush_stage_locked(i, p);
		first = first ? first : r;
	}
	return first;
}

static void wait_event(struct bale_flush *fl, uint64_t seen)
{
	bale_mutex_lock(&fl->lock);
	while (atomic_load(&fl->events) == seen)
		bale_cond_wait(&fl->done, &fl->lock);
	bale_mutex_unlock(&fl->lock);
}

/* Older parts of the inode come first; a batch still being written is waited
 * for without the lock, so that the file can be used meanwhile. */
static int stage_part(struct bale_flush *fl, struct bale_flush_part *mine)
{
	struct bale_inode *i = mine->i;
	int first = 0;

	for (;;) {
		uint64_t seen = atomic_load(&fl->events);
		struct bale_flush_part *p;
		bool staged;

		bale_rwlock_wrlock(&i->lock);
		while (!mine->staged && (p = oldest_part(i)) &&
		       atomic_load(&p->batch->state) != BALE_FLUSH_BUSY) {
			int r = bale_flush_stage_locked(i, p);

			first = first ? first : r;
		}
		staged = mine->staged;
		bale_rwlock_unlock(&i->lock);
		if (staged)
			return first;
		wait_event(fl, seen);
	}
}

/* ---- rounds ---- */

static void unqueue_locked(struct bale_flush *fl, struct bale_inode *i)
{
	bool was = false;

	bale_mutex_lock(&fl->lock);
	if (i->data && !i->data->nr_dirty &&
	    !bale_list_empty(&i->data->link)) {
		bale_list_del(&i->data->link);
		was = true;
	}
	bale_mutex_unlock(&fl->lock);
	if (was) /* the queue's; the caller has another */
		bale_inode_put(i);
}

void bale_file_drop_dirty(struct bale_inode *i)
{
	struct bale_txn t;

	bale_rwlock_wrlock(&i->lock);
	if (i->data && (i->data->nr_dirty || i->data->nr_promises)) {
		bale_txn_begin(i->fs->meta, &t);
		bale_file_discard_range(i, 0, UINT64_MAX, &t);
		unqueue_locked(i->fs->flush, i);
		if (t.nr_ops)
			bale_txn_commit(&t, NULL);
		else
			bale_txn_abort(&t);
	}
	bale_rwlock_unlock(&i->lock);
}

static struct bale_inode *oldest_inode(struct bale_flush *fl,
				       uint64_t max_epoch)
{
	struct bale_inode *i = NULL;

	bale_mutex_lock(&fl->lock);
	if (!bale_list_empty(&fl->inodes)) {
		struct bale_file_data *d = BALE_CONTAINER(
			fl->inodes.next, struct bale_file_data, link);

		if (d->epoch <= max_epoch) {
			i = d->i;
			bale_inode_ref(i);
		}
	}
	bale_mutex_unlock(&fl->lock);
	return i;
}

/* Deleted and open nowhere: nobody can read it again, and what keeps it is
 * only that it is dirty. */
static bool discard_deleted_locked(struct bale_inode *i)
{
	struct bale_txn t;

	if (i->row.nlink || i->nr_open || !i->data)
		return false;
	bale_txn_begin(i->fs->meta, &t);
	bale_file_discard_range(i, 0, UINT64_MAX, &t);
	if (bale_txn_bytes(&t))
		bale_txn_commit(&t, NULL);
	else
		bale_txn_abort(&t);
	return true;
}

/*
 * A batch that holds parts of one inode must not wait for the lock of another:
 * its holder may be waiting for this batch. -EBUSY then.
 */
static int collect_inode(struct bale_flush *fl, struct bale_flush_batch *b,
			 struct bale_inode *i)
{
	int r;

	if (!b->nr)
		bale_rwlock_wrlock(&i->lock);
	else if (!bale_rwlock_trywrlock(&i->lock))
		return -EBUSY;
	r = discard_deleted_locked(i) ? 0 : bale_flush_collect_locked(b, i);
	unqueue_locked(fl, i);
	bale_rwlock_unlock(&i->lock);
	return r;
}

static bool is_queued(struct bale_flush *fl, struct bale_inode *i)
{
	bool queued;

	bale_mutex_lock(&fl->lock);
	queued = !bale_list_empty(&i->data->link);
	bale_mutex_unlock(&fl->lock);
	return queued;
}

static int collect_oldest(struct bale_flush *fl, struct bale_flush_batch *b,
			  uint64_t max_epoch)
{
	int r = 0;

	while (!r && b->bytes < b->max_bytes && b->nr < BALE_FLUSH_ITEMS_MAX) {
		size_t before = b->nr;
		struct bale_inode *i = oldest_inode(fl, max_epoch);
		bool left;

		if (!i)
			break;
		r = collect_inode(fl, b, i);
		left = is_queued(fl, i);
		bale_inode_put(i);
		if (left && b->nr == before)
			break; /* its next extent does not fit any more */
	}
	return b->nr ? 0 : r;
}

int bale_flush_round(struct bale_fs *fs, struct bale_inode *only,
		     uint64_t max_epoch, uint64_t *ret_bytes)
{
	struct bale_flush *fl = fs->flush;
	struct bale_flush_batch *b = bale_flush_batch_new(fl);
	int r, first;

	*ret_bytes = 0;
	if (!b)
		return -ENOMEM;
	first = only ? collect_inode(fl, b, only) :
		       collect_oldest(fl, b, max_epoch);
	if (b->nr) {
		*ret_bytes = b->bytes + b->nr;
		r = bale_flush_write(fl, b);
		first = first ? first : r;
	}
	for (size_t k = 0; k < b->nr_parts; k++) {
		r = stage_part(fl, b->parts[k]);
		first = first ? first : r;
	}
	bale_flush_batch_free(fl, b);
	return first;
}

int bale_flush_inode_locked(struct bale_inode *i)
{
	struct bale_flush *fl = i->fs->flush;
	int r = bale_flush_settle_locked(i);

	while (!r && i->data && i->data->nr_dirty) {
		struct bale_flush_batch *b = bale_flush_batch_new(fl);

		if (!b)
			return -ENOMEM;
		r = bale_flush_collect_locked(b, i);
		if (!r)
			r = bale_flush_write(fl, b);
		if (b->nr_parts) {
			int one = bale_flush_settle_locked(i);

			r = r ? r : one;
		}
		bale_flush_batch_free(fl, b);
	}
	return r;
}

int bale_flush_inode(struct bale_inode *i)
{
	struct bale_fs *fs = i->fs;
	int64_t left = atomic_load(&fs->flush->listed);
	uint64_t bytes = 1;
	int r = 0;

	/* What a busy writer adds meanwhile is not for us to chase. */
	while (!r && bytes && left > 0) {
		r = bale_flush_round(fs, i, UINT64_MAX, &bytes);
		left -= (int64_t)bytes;
	}
	if (r)
		return r;
	bale_rwlock_wrlock(&i->lock);
	r = bale_flush_inode_locked(i);
	bale_rwlock_unlock(&i->lock);
	return r;
}
