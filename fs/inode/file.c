/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/inode/file.h"

#include <errno.h>
#include <string.h>

/* Readers make it too (readahead state), under the shared lock: the first
 * one wins. */
int bale_file_data_get(struct bale_inode *i, struct bale_file_data **ret)
{
	struct bale_file_data *d = __atomic_load_n(&i->data, __ATOMIC_ACQUIRE);
	struct bale_file_data *was = NULL;

	if (d) {
		*ret = d;
		return 0;
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->i = i;
	d->disk_size = i->row.size;
	bale_list_init(&d->dirty);
	bale_list_init(&d->parts);
	bale_list_init(&d->link);
	bale_list_init(&d->promised_link);
	bale_mutex_init(&d->map_lock);
	if (!__atomic_compare_exchange_n(&i->data, &was, d, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		bale_mutex_fini(&d->map_lock);
		free(d);
		d = was;
	}
	*ret = d;
	return 0;
}

void bale_file_data_free(struct bale_inode *i)
{
	struct bale_file_data *d = i->data;

	if (!d)
		return;
	/* Only after a failed flush is anything left. */
	bale_list_for_each_safe(p, &d->dirty)
	{
		struct bale_ext *e =
			BALE_CONTAINER(p, struct bale_ext, dirty_link);

		bale_ext_unlist(i, e);
		bale_ext_put(i->fs->cache, e);
	}
	bale_mutex_fini(&d->map_lock);
	free(d->promises);
	free(d);
	i->data = NULL;
}

uint64_t bale_file_disk_size_locked(struct bale_inode *i)
{
	const struct bale_file_data *d = i->data;

	if (!d || (!d->nr_dirty && bale_list_empty(&d->parts)))
		return i->row.size;
	return d->disk_size < i->row.size ? d->disk_size : i->row.size;
}

uint64_t bale_file_unstored_locked(const struct bale_inode *i)
{
	const struct bale_file_data *d = i->data;

	return d ? d->unstored + d->promised * i->fs->extent_size : 0;
}

/* ---- map ---- */

struct map_key {
	be64 ino, group;
};

static int read_map_row(struct bale_inode *i, uint64_t group,
			uint64_t ids[BALE_MAP_SLOTS])
{
	struct map_key key = { be64_put(i->ino), be64_put(group) };
	le64 val[BALE_MAP_SLOTS];
	size_t len = 0;
	int r = bale_meta_get(i->fs->meta, BALE_TABLE_map, &key, sizeof(key),
			      val, sizeof(val), &len);

	if (r && r != -ENOENT)
		return r;
	if (r)
		len = 0;
	for (size_t k = 0; k < BALE_MAP_SLOTS; k++)
		ids[k] = k < len / sizeof(le64) ? le64_get(val[k]) : 0;
	return 0;
}

/* With map_lock held. */
static int view_row(struct bale_inode *i, struct bale_file_data *d,
		    uint64_t group)
{
	int r;

	if (d->map_valid && d->map_group == group)
		return 0;
	d->map_valid = false;
	r = read_map_row(i, group, d->map_ids);
	if (r)
		return r;
	d->map_group = group;
	d->map_valid = true;
	return 0;
}

int bale_map_get(struct bale_inode *i, uint64_t no, uint64_t *ret_id)
{
	struct bale_file_data *d;
	int r = bale_file_data_get(i, &d);

	if (r)
		return r;
	bale_mutex_lock(&d->map_lock);
	r = view_row(i, d, no / BALE_MAP_SLOTS);
	if (!r)
		*ret_id = d->map_ids[no % BALE_MAP_SLOTS];
	bale_mutex_unlock(&d->map_lock);
	return r;
}

int bale_map_row(struct bale_inode *i, uint64_t group,
		 uint64_t ids[BALE_MAP_SLOTS])
{
	struct bale_file_data *d;
	int r = bale_file_data_get(i, &d);

	if (r)
		return r;
	bale_mutex_lock(&d->map_lock);
	r = view_row(i, d, group);
	if (!r)
		memcpy(ids, d->map_ids, sizeof(d->map_ids));
	bale_mutex_unlock(&d->map_lock);
	return r;
}

void bale_map_put(struct bale_inode *i, struct bale_txn *t, uint64_t group,
		  const uint64_t ids[BALE_MAP_SLOTS])
{
	struct map_key key = { be64_put(i->ino), be64_put(group) };
	struct bale_file_data *d = i->data;
	le64 val[BALE_MAP_SLOTS];
	size_t nr = 0;

	for (size_t k = 0; k < BALE_MAP_SLOTS; k++) {
		val[k] = le64_put(ids[k]);
		if (ids[k])
			nr = k + 1;
	}
	if (nr)
		bale_txn_put(t, BALE_TABLE_map, &key, sizeof(key), val,
			     nr * sizeof(le64));
	else
		bale_txn_del(t, BALE_TABLE_map, &key, sizeof(key));
	if (!d)
		return;
	bale_mutex_lock(&d->map_lock);
	if (d->map_valid && d->map_group == group)
		memcpy(d->map_ids, ids, sizeof(d->map_ids));
	bale_mutex_unlock(&d->map_lock);
}

void bale_map_forget(struct bale_inode *i)
{
	struct bale_file_data *d = i->data;

	if (!d)
		return;
	bale_mutex_lock(&d->map_lock);
	d->map_valid = false;
	bale_mutex_unlock(&d->map_lock);
}

static int first_group(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	const struct map_key *k = key;

	(void)val;
	(void)val_len;
	if (key_len == sizeof(*k))
		*(uint64_t *)arg = be64_get(k->group);
	return 1;
}

int bale_map_next(struct bale_inode *i, uint64_t from, uint64_t *ret_group)
{
	struct map_key key = { be64_put(i->ino), be64_put(from) };
	int r = bale_meta_scan(i->fs->meta, BALE_TABLE_map, &key, sizeof(key),
			       sizeof(be64), first_group, ret_group);

	if (r < 0)
		return r;
	return r ? 0 : -ENOENT;
}

/* ---- dirty extents ---- */

void bale_ext_mark_dirty(struct bale_inode *i, struct bale_ext *e, uint32_t lo,
			 uint32_t hi)
{
	struct bale_file_data *d = i->data;
	struct bale_fs *fs = i->fs;
	uint32_t acct = e->buf->cap;

	if (lo < hi) {
		if (e->lo >= e->hi) {
			e->lo = lo;
			e->hi = hi;
		} else {
			e->lo = lo < e->lo ? lo : e->lo;
			e->hi = hi > e->hi ? hi : e->hi;
		}
	}
	d->unstored = d->unstored + e->len - e->unstored;
	e->unstored = e->len;
	if (e->listed) {
		if (acct != e->acct)
			bale_flush_account(fs, (int64_t)acct - e->acct, 0);
		e->acct = acct;
		return;
	}
	if (!d->nr_dirty && bale_list_empty(&d->parts))
		d->disk_size = i->row.size;
	bale_ext_ref(fs->cache, e);
	e->listed = true;
	e->acct = acct;
	bale_list_push_back(&d->dirty, &e->dirty_link);
	d->nr_dirty++;
	bale_flush_account(fs, acct, 0);
	bale_flush_queue(i);
}

void bale_ext_unlist(struct bale_inode *i, struct bale_ext *e)
{
	bale_list_del(&e->dirty_link);
	e->listed = false;
	i->data->nr_dirty--;
	i->data->unstored -= e->unstored;
	e->unstored = 0;
	bale_flush_account(i->fs, -(int64_t)e->acct, 0);
	e->acct = 0;
	if (e->reserved)
		bale_space_release(i->fs->store, e->reserved);
	e->reserved = 0;
}

void bale_patch_stage_del(struct bale_txn *t, uint64_t ino, uint64_t no,
			  uint32_t first, uint32_t next)
{
	struct {
		be64 ino, no, seq;
	} key = { be64_put(ino), be64_put(no), be64_put(0) };

	for (uint32_t s = first; s < next; s++) {
		key.seq = be64_put(s);
		bale_txn_del(t, BALE_TABLE_patch, &key, sizeof(key));
	}
}

void bale_ext_discard(struct bale_inode *i, uint64_t no, struct bale_txn *t)
{
	struct bale_cache *c = i->fs->cache;
	struct bale_ext *e;

	if (bale_cache_find(c, i->ino, no, &e))
		return;
	if (t)
		bale_patch_stage_del(t, i->ino, no, e->patch_first,
				     e->patch_next);
	e->patch_first = e->patch_next = e->patch_bytes = 0;
	e->lo = e->hi = 0;
	e->dropped = true;
	if (e->listed) {
		bale_ext_unlist(i, e);
		bale_ext_put(c, e);
	}
	bale_cache_drop(c, i->ino, no);
	bale_ext_put(c, e);
}

uint32_t bale_ext_need(const struct bale_fs *fs, const struct bale_ext *e,
		       uint32_t len)
{
	uint32_t cap = BALE_SLAB_MIN, have = e ? e->reserved : 0;

	(void)fs;
	while (cap < len)
		cap <<= 1;
	cap += BALE_EXT_OVERHEAD;
	return cap > have ? cap - have : 0;
}
