/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - inodes in memory.
 *
 * The table is split by number into shards, each with a lock, a hash and an
 * LRU of objects nobody refers to. An inode that is being read or freed stays
 * in the hash in that state, so that there is never a second object for a
 * number and nobody acts on a row that is about to go.
 *
 * Locks: an inode's lock, then a shard's lock. No I/O under a shard's lock.
 */
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

enum {
	NR_SHARDS = 64,
	LRU_PER_SHARD = 256,
	BUCKETS_MIN = 64,
};

/* bale_inode.state: 0 or, for a failed read, the -errno that waiters get. */
enum { STATE_LIVE = 0, STATE_LOADING = 1, STATE_DELETING = 2 };

struct bale_shard {
	struct bale_mutex lock; /* everything here, and the objects' links */
	struct bale_cond settled; /* some inode is no longer LOADING */
	struct bale_list *buckets;
	size_t nr_buckets, nr; /* a power of two; inodes in them */
	struct bale_list lru;
	size_t nr_lru;
} __attribute__((aligned(64)));

static uint64_t mix(uint64_t x)
{
	x *= 0x9e3779b97f4a7c15u;
	return x ^ x >> 32;
}

static struct bale_shard *shard_of(struct bale_fs *fs, uint64_t ino)
{
	return &fs->names->shards[mix(ino) % NR_SHARDS];
}

static struct bale_list *bucket_of(struct bale_shard *s, uint64_t ino)
{
	return &s->buckets[mix(ino) / NR_SHARDS & (s->nr_buckets - 1)];
}

static struct bale_list *alloc_buckets(size_t nr)
{
	struct bale_list *b = malloc(nr * sizeof(*b));

	for (size_t k = 0; b && k < nr; k++)
		bale_list_init(&b[k]);
	return b;
}

/* Without memory the chains just get longer. */
static void grow_buckets(struct bale_shard *s)
{
	size_t old_nr = s->nr_buckets;
	struct bale_list *old = s->buckets;
	struct bale_list *b = alloc_buckets(old_nr * 2);

	if (!b)
		return;
	s->buckets = b;
	s->nr_buckets = old_nr * 2;
	for (size_t k = 0; k < old_nr; k++) {
		bale_list_for_each_safe(p, &old[k])
		{
			struct bale_inode *i = BALE_CONTAINER(
				p, struct bale_inode, hash_link);

			bale_list_del(p);
			bale_list_push_front(bucket_of(s, i->ino), p);
		}
	}
	free(old);
}

static struct bale_inode *find_locked(struct bale_shard *s, uint64_t ino)
{
	bale_list_for_each(p, bucket_of(s, ino))
	{
		struct bale_inode *i =
			BALE_CONTAINER(p, struct bale_inode, hash_link);

		if (i->ino == ino)
			return i;
	}
	return NULL;
}

static void insert_locked(struct bale_shard *s, struct bale_inode *i)
{
	if (s->nr >= s->nr_buckets)
		grow_buckets(s);
	bale_list_push_front(bucket_of(s, i->ino), &i->hash_link);
	s->nr++;
}

static void unhash_locked(struct bale_shard *s, struct bale_inode *i)
{
	bale_list_del(&i->hash_link);
	s->nr--;
}

static void ref_locked(struct bale_shard *s, struct bale_inode *i)
{
	if (!i->refs++ && !bale_list_empty(&i->lru_link)) {
		bale_list_del(&i->lru_link);
		s->nr_lru--;
	}
}

int bale_table_alloc(struct bale_fs *fs, uint64_t ino,
		     const struct bale_inode_row *row, struct bale_inode **ret)
{
	struct bale_inode *i = calloc(1, sizeof(*i));

	if (!i)
		return -ENOMEM;
	i->ino = ino;
	i->fs = fs;
	i->refs = 1;
	if (row) {
		i->row = *row;
		i->type = row->mode & S_IFMT;
		i->nameless = !row->nlink;
	}
	bale_rwlock_init(&i->lock);
	bale_list_init(&i->hash_link);
	bale_list_init(&i->lru_link);
	bale_list_init(&i->time_link);
	*ret = i;
	return 0;
}

void bale_table_free(struct bale_inode *i)
{
	if (!i)
		return;
	if (i->data)
		bale_file_data_free(i);
	bale_rwlock_fini(&i->lock);
	free(i);
}

void bale_table_insert(struct bale_inode *i)
{
	struct bale_shard *s = shard_of(i->fs, i->ino);

	bale_mutex_lock(&s->lock);
	insert_locked(s, i);
	bale_mutex_unlock(&s->lock);
}

int bale_inode_new(struct bale_fs *fs, uint64_t ino,
		   const struct bale_inode_row *row, struct bale_inode **ret)
{
	int r = bale_table_alloc(fs, ino, row, ret);

	if (!r)
		bale_table_insert(*ret);
	return r;
}

/* The object is in the table as LOADING with one reference, ours. */
static int load(struct bale_shard *s, struct bale_inode *i, struct bale_inode **ret)
{
	struct bale_inode_row row;
	int r = bale_row_read(i->fs, i->ino, &row);
	bool last = false;

	if (r && r != -ENOENT)
		bale_err("inode %llu: unreadable row: %s",
			 (unsigned long long)i->ino, strerror(-r));
	bale_mutex_lock(&s->lock);
	if (!r) {
		i->row = row;
		i->type = row.mode & S_IFMT;
		i->nameless = !row.nlink;
		i->state = STATE_LIVE;
		*ret = i;
	} else {
		i->state = r;
		unhash_locked(s, i);
		last = --i->refs == 0;
	}
	bale_cond_broadcast(&s->settled);
	bale_mutex_unlock(&s->lock);
	if (last)
		bale_table_free(i);
	return r;
}

/* Found in the table: wait until it is read; called with s->lock, drops it. */
static int join(struct bale_shard *s, struct bale_inode *i, struct bale_inode **ret)
	BALE_NO_TSA
{
	bool last = false;
	int r = 0;

	if (i->state == STATE_DELETING) {
		bale_mutex_unlock(&s->lock);
		return -ENOENT;
	}
	ref_locked(s, i);
	while (i->state == STATE_LOADING)
		bale_cond_wait(&s->settled, &s->lock);
	if (i->state < 0) {
		r = i->state;
		last = --i->refs == 0;
	}
	bale_mutex_unlock(&s->lock);
	if (last)
		bale_table_free(i);
	if (!r)
		*ret = i;
	return r;
}

int bale_inode_get(struct bale_fs *fs, uint64_t ino, struct bale_inode **ret)
	BALE_NO_TSA
{
	struct bale_shard *s = shard_of(fs, ino);
	struct bale_inode *i;
	int r;

	bale_mutex_lock(&s->lock);
	i = find_locked(s, ino);
	if (i)
		return join(s, i, ret);
	r = bale_table_alloc(fs, ino, NULL, &i);
	if (!r) {
		i->state = STATE_LOADING;
		insert_locked(s, i);
	}
	bale_mutex_unlock(&s->lock);
	return r ? r : load(s, i, ret);
}

void bale_inode_ref(struct bale_inode *i)
{
	struct bale_shard *s = shard_of(i->fs, i->ino);

	bale_mutex_lock(&s->lock);
	ref_locked(s, i);
	bale_mutex_unlock(&s->lock);
}

/* Rows of anything but a regular file go in one transaction. */
static int delete_other(struct bale_inode *i)
{
	struct bale_txn t;
	int r;

	bale_txn_begin(bale_fs_meta(i->fs), &t);
	r = bale_inode_stage_delete(i, &t);
	if (r) {
		bale_txn_abort(&t);
		return r;
	}
	return bale_txn_commit(&t, NULL);
}

/* The last reference to an inode without names is gone. When this fails, the
 * orphan row stays and the next open of the store tries again. */
static void delete_inode(struct bale_shard *s, struct bale_inode *i)
{
	int r = S_ISREG(i->type) ? bale_file_delete(i) : delete_other(i);

	if (r)
		bale_warn("inode %llu: deleted but not freed: %s",
			  (unsigned long long)i->ino, strerror(-r));
	bale_mutex_lock(&s->lock);
	unhash_locked(s, i);
	bale_mutex_unlock(&s->lock);
	bale_table_free(i);
}

/* s->lock held: park the unreferenced inode, return one to free (or NULL). */
static struct bale_inode *park_locked(struct bale_shard *s, struct bale_inode *i)
{
	struct bale_inode *old;

	bale_list_push_back(&s->lru, &i->lru_link);
	if (++s->nr_lru <= LRU_PER_SHARD)
		return NULL;
	old = BALE_CONTAINER(s->lru.next, struct bale_inode, lru_link);
	bale_list_del(&old->lru_link);
	s->nr_lru--;
	unhash_locked(s, old);
	return old;
}

/* Drop one reference; s->lock is held and released. */
static void put_unlock(struct bale_shard *s, struct bale_inode *i) BALE_NO_TSA
{
	struct bale_inode *victim = NULL;
	bool dead = false;

	if (--i->refs == 0) {
		dead = i->row.nlink == 0 && !bale_names_writable(i->fs);
		if (dead)
			i->state = STATE_DELETING;
		else
			victim = park_locked(s, i);
	}
	bale_mutex_unlock(&s->lock);
	if (dead)
		delete_inode(s, i);
	bale_table_free(victim);
}

void bale_inode_put(struct bale_inode *i) BALE_NO_TSA
{
	struct bale_shard *s;

	if (!i)
		return;
	s = shard_of(i->fs, i->ino);
	bale_mutex_lock(&s->lock);
	put_unlock(s, i);
}

void bale_inode_put_unlocked(struct bale_inode *i)
{
	struct bale_shard *s;
	bool dirty;

	if (!i)
		return;
	if (i->nameless && S_ISREG(i->type) && !bale_names_writable(i->fs)) {
		s = shard_of(i->fs, i->ino);
		bale_mutex_lock(&s->lock);
		dirty = i->refs > 1 && !i->nr_lookup && !i->nr_open;
		bale_mutex_unlock(&s->lock);
		if (dirty)
			bale_file_drop_dirty(i);
	}
	bale_inode_put(i);
}

void bale_inode_lookup_ref(struct bale_inode *i)
{
	struct bale_shard *s = shard_of(i->fs, i->ino);

	bale_mutex_lock(&s->lock);
	if (!i->nr_lookup++)
		ref_locked(s, i);
	bale_mutex_unlock(&s->lock);
}

void bale_inode_forget(struct bale_fs *fs, uint64_t ino, uint64_t n)
{
	struct bale_shard *s = shard_of(fs, ino);
	struct bale_inode *i;
	bool last = false;

	bale_mutex_lock(&s->lock);
	i = find_locked(s, ino);
	if (i && i->nr_lookup && n) {
		i->nr_lookup -= n < i->nr_lookup ? n : i->nr_lookup;
		last = !i->nr_lookup;
	}
	bale_mutex_unlock(&s->lock);
	if (last) /* the reference that the lookups had */
		bale_inode_put_unlocked(i);
}

void bale_inode_open(struct bale_inode *i)
{
	atomic_fetch_add(&i->nr_open, 1);
	bale_inode_ref(i);
}

void bale_inode_release(struct bale_inode *i)
{
	atomic_fetch_sub(&i->nr_open, 1);
	bale_inode_put_unlocked(i);
}

int bale_names_writable(struct bale_fs *fs)
{
	if (bale_fs_options(fs)->read_only)
		return -EROFS;
	return bale_store_error(bale_fs_store(fs)) ? -EROFS : 0;
}

void bale_names_rename_lock(struct bale_fs *fs) BALE_NO_TSA
{
	bale_mutex_lock(&fs->names->rename_lock);
}

void bale_names_rename_unlock(struct bale_fs *fs) BALE_NO_TSA
{
	bale_mutex_unlock(&fs->names->rename_lock);
}

/* ---- life ---- */

static struct bale_shard *alloc_shards(void)
{
	const size_t size = NR_SHARDS * sizeof(struct bale_shard);
	struct bale_shard *all =
		aligned_alloc(_Alignof(struct bale_shard), size);

	if (!all)
		return NULL;
	memset(all, 0, size);
	for (unsigned int k = 0; k < NR_SHARDS; k++) {
		struct bale_shard *s = &all[k];

		bale_mutex_init(&s->lock);
		bale_cond_init(&s->settled);
		bale_list_init(&s->lru);
		s->nr_buckets = BUCKETS_MIN;
		s->buckets = alloc_buckets(BUCKETS_MIN);
		if (s->buckets)
			continue;
		while (k--)
			free(all[k].buckets);
		free(all);
		return NULL;
	}
	return all;
}

int bale_names_create(struct bale_fs *fs, struct bale_names **ret)
{
	struct bale_names *n = calloc(1, sizeof(*n));

	if (n)
		n->shards = alloc_shards();
	if (!n || !n->shards) {
		free(n);
		return -ENOMEM;
	}
	n->fs = fs;
	bale_mutex_init(&n->rename_lock);
	bale_mutex_init(&n->time_lock);
	bale_list_init(&n->times);
	*ret = n;
	return 0;
}

/* One inode of the shard that only lookups or handles of the kernel keep, with
 * a reference of ours instead of theirs. */
static struct bale_inode *take_forgotten(struct bale_shard *s)
{
	struct bale_inode *i = NULL;

	bale_mutex_lock(&s->lock);
	for (size_t k = 0; k < s->nr_buckets && !i; k++) {
		bale_list_for_each(p, &s->buckets[k])
		{
			struct bale_inode *c = BALE_CONTAINER(
				p, struct bale_inode, hash_link);

			if (c->row.nlink == 0 && !c->state &&
			    (c->nr_lookup || c->nr_open)) {
				i = c;
				break;
			}
		}
	}
	if (i) {
		i->refs -= i->nr_open + (i->nr_lookup ? 1 : 0);
		i->refs++;
		i->nr_lookup = 0;
		i->nr_open = 0;
	}
	bale_mutex_unlock(&s->lock);
	return i;
}

int bale_names_shutdown(struct bale_fs *fs)
{
	struct bale_inode *i;
	int r;

	if (bale_names_writable(fs))
		return 0;
	r = bale_names_stage_times(fs);
	for (unsigned int k = 0; k < NR_SHARDS; k++) {
		while ((i = take_forgotten(&fs->names->shards[k])))
			bale_inode_put_unlocked(i);
	}
	return r;
}

void bale_names_destroy(struct bale_names *n)
{
	if (!n)
		return;
	for (unsigned int k = 0; k < NR_SHARDS; k++) {
		struct bale_shard *s = &n->shards[k];

		for (size_t b = 0; b < s->nr_buckets; b++) {
			bale_list_for_each_safe(p, &s->buckets[b])
			{
				bale_table_free(BALE_CONTAINER(
					p, struct bale_inode, hash_link));
			}
		}
		free(s->buckets);
		bale_cond_fini(&s->settled);
		bale_mutex_fini(&s->lock);
	}
	bale_mutex_fini(&n->rename_lock);
	bale_mutex_fini(&n->time_lock);
	free(n->shards);
	free(n);
}
