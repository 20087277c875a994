/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/cache/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	NR_SHARDS = 64,
	EVICT_BATCH = 8, /* entries freed under one shard lock */
};

struct shard {
	struct bale_mutex lock; /* entries of the shard; only the slab's lock
				   is taken inside */
	struct bale_cond loaded;
	struct bale_ext **buckets;
	size_t nr_buckets, nr;
	struct bale_list lru; /* of loaded entries, clock order */
	uint64_t hits, misses, evicted;
} __attribute__((aligned(64)));

struct bale_cache {
	struct shard shards[NR_SHARDS];
	struct bale_slab *slab;
	_Atomic unsigned int hand; /* shard to evict from next */
};

static uint64_t mix(uint64_t ino, uint64_t no)
{
	uint64_t h = ino * 0x9e3779b97f4a7c15u + no;

	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 29;
	return h;
}

static struct shard *shard_of(struct bale_cache *c, uint64_t h)
{
	return &c->shards[h % NR_SHARDS];
}

int bale_cache_create(size_t bytes, size_t extent_size,
		      struct bale_cache **ret)
{
	struct bale_cache *c = aligned_alloc(64, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	memset(c, 0, sizeof(*c));
	for (unsigned int k = 0; k < NR_SHARDS; k++) {
		struct shard *s = &c->shards[k];

		bale_mutex_init(&s->lock);
		bale_cond_init(&s->loaded);
		bale_list_init(&s->lru);
		s->nr_buckets = 64;
		s->buckets = calloc(s->nr_buckets, sizeof(*s->buckets));
		if (!s->buckets) {
			bale_cache_destroy(c);
			return -ENOMEM;
		}
	}
	r = bale_slab_create(bytes, extent_size, &c->slab);
	if (r) {
		bale_cache_destroy(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void free_ext(struct bale_ext *e)
{
	if (e->buf)
		bale_cbuf_put(e->buf);
	free(e);
}

void bale_cache_destroy(struct bale_cache *c)
{
	if (!c)
		return;
	for (unsigned int k = 0; k < NR_SHARDS; k++) {
		struct shard *s = &c->shards[k];

		for (size_t b = 0; s->buckets && b < s->nr_buckets; b++) {
			struct bale_ext *e = s->buckets[b], *next;

			for (; e; e = next) {
				next = e->hash_next;
				free_ext(e);
			}
		}
		free(s->buckets);
		if (s->nr_buckets) {
			bale_cond_fini(&s->loaded);
			bale_mutex_fini(&s->lock);
		}
	}
	bale_slab_destroy(c->slab);
	free(c);
}

static struct bale_ext **slot_of(struct shard *s, uint64_t h)
{
	return &s->buckets[(h / NR_SHARDS) & (s->nr_buckets - 1)];
}

static struct bale_ext *find_locked(struct shard *s, uint64_t h, uint64_t ino,
				    uint64_t no)
{
	struct bale_ext *e = *slot_of(s, h);

	while (e && (e->no != no || e->ino != ino))
		e = e->hash_next;
	return e;
}

static void grow_locked(struct shard *s)
{
	size_t nr = s->nr_buckets * 2, old = s->nr_buckets;
	struct bale_ext **b = calloc(nr, sizeof(*b)), **was = s->buckets;

	if (!b)
		return; /* chains get longer, that is all */
	s->buckets = b;
	s->nr_buckets = nr;
	for (size_t k = 0; k < old; k++) {
		struct bale_ext *e = was[k], *next;

		for (; e; e = next) {
			struct bale_ext **p = slot_of(s, mix(e->ino, e->no));

			next = e->hash_next;
			e->hash_next = *p;
			*p = e;
		}
	}
	free(was);
}

/* The table's reference stays with the caller. */
static void unhash_locked(struct shard *s, struct bale_ext *e)
{
	struct bale_ext **p = slot_of(s, mix(e->ino, e->no));

	while (*p != e)
		p = &(*p)->hash_next;
	*p = e->hash_next;
	e->hashed = false;
	if (!e->loading)
		bale_list_del(&e->lru);
	s->nr--;
}

static bool put_locked(struct bale_ext *e)
{
	return --e->refs == 0;
}

/* Wait until e is loaded; the caller has a reference. */
static int wait_locked(struct shard *s, struct bale_ext *e) BALE_NO_TSA
{
	while (e->loading)
		bale_cond_wait(&s->loaded, &s->lock);
	return e->error;
}

int bale_cache_pin(struct bale_cache *c, uint64_t ino, uint64_t no, bool wait,
		   struct bale_cbuf **ret_buf, uint32_t *ret_len)
{
	uint64_t h = mix(ino, no);
	struct shard *s = shard_of(c, h);
	bool last = false;
	struct bale_ext *e;
	int r = 0;

	bale_mutex_lock(&s->lock);
	e = find_locked(s, h, ino, no);
	if (!e) {
		s->misses++;
		bale_mutex_unlock(&s->lock);
		return -ENOENT;
	}
	if (e->loading && !wait) {
		bale_mutex_unlock(&s->lock);
		return -EINPROGRESS;
	}
	s->hits++;
	e->refs++;
	if (e->loading)
		r = wait_locked(s, e);
	if (!r) {
		e->referenced = true;
		bale_cbuf_ref(e->buf);
		*ret_buf = e->buf;
		*ret_len = e->len;
	}
	last = put_locked(e);
	bale_mutex_unlock(&s->lock);
	if (last)
		free_ext(e);
	return r;
}

int bale_cache_claim(struct bale_cache *c, uint64_t ino, uint64_t no,
		     struct bale_ext **ret)
{
	uint64_t h = mix(ino, no);
	struct shard *s = shard_of(c, h);
	struct bale_ext *e = calloc(1, sizeof(*e)), **p;

	if (!e)
		return -ENOMEM;
	e->ino = ino;
	e->no = no;
	e->refs = 2;
	e->hashed = true;
	e->loading = true;
	bale_list_init(&e->lru);
	bale_list_init(&e->dirty_link);
	bale_mutex_lock(&s->lock);
	if (find_locked(s, h, ino, no)) {
		bale_mutex_unlock(&s->lock);
		free(e);
		return -EEXIST;
	}
	if (s->nr >= s->nr_buckets)
		grow_locked(s);
	p = slot_of(s, h);
	e->hash_next = *p;
	*p = e;
	s->nr++;
	bale_mutex_unlock(&s->lock);
	*ret = e;
	return 0;
}

void bale_cache_publish(struct bale_cache *c, struct bale_ext *e,
			struct bale_cbuf *buf, uint32_t len, int error)
{
	struct shard *s = shard_of(c, mix(e->ino, e->no));

	bale_mutex_lock(&s->lock);
	if (error) {
		unhash_locked(s, e);
		put_locked(e); /* the claim's own keeps it */
	} else {
		e->buf = buf;
		e->len = len;
		bale_list_push_back(&s->lru, &e->lru);
	}
	e->loading = false;
	e->error = error;
	bale_cond_broadcast(&s->loaded);
	bale_mutex_unlock(&s->lock);
}

int bale_cache_find(struct bale_cache *c, uint64_t ino, uint64_t no,
		    struct bale_ext **ret)
{
	uint64_t h = mix(ino, no);
	struct shard *s = shard_of(c, h);
	bool last = false;
	struct bale_ext *e;
	int r;

	bale_mutex_lock(&s->lock);
	e = find_locked(s, h, ino, no);
	if (!e) {
		bale_mutex_unlock(&s->lock);
		return -ENOENT;
	}
	e->refs++;
	r = wait_locked(s, e);
	if (r)
		last = put_locked(e);
	else
		e->referenced = true;
	bale_mutex_unlock(&s->lock);
	if (last)
		free_ext(e);
	if (!r)
		*ret = e;
	return r;
}

void bale_ext_ref(struct bale_cache *c, struct bale_ext *e)
{
	struct shard *s = shard_of(c, mix(e->ino, e->no));

	bale_mutex_lock(&s->lock);
	e->refs++;
	bale_mutex_unlock(&s->lock);
}

void bale_ext_put(struct bale_cache *c, struct bale_ext *e)
{
	struct shard *s = shard_of(c, mix(e->ino, e->no));
	bool last;

	bale_mutex_lock(&s->lock);
	last = put_locked(e);
	bale_mutex_unlock(&s->lock);
	if (last)
		free_ext(e);
}

void bale_ext_set_buf(struct bale_cache *c, struct bale_ext *e,
		      struct bale_cbuf *buf, uint32_t len)
{
	struct shard *s = shard_of(c, mix(e->ino, e->no));
	struct bale_cbuf *was;

	bale_mutex_lock(&s->lock);
	was = e->buf;
	e->buf = buf;
	e->len = len;
	bale_mutex_unlock(&s->lock);
	if (was)
		bale_cbuf_put(was);
}

void bale_ext_set_len(struct bale_cache *c, struct bale_ext *e, uint32_t len)
{
	struct shard *s = shard_of(c, mix(e->ino, e->no));

	bale_mutex_lock(&s->lock);
	e->len = len;
	bale_mutex_unlock(&s->lock);
}

void bale_cache_drop(struct bale_cache *c, uint64_t ino, uint64_t no)
{
	uint64_t h = mix(ino, no);
	struct shard *s = shard_of(c, h);
	bool last = false;
	struct bale_ext *e;

	bale_mutex_lock(&s->lock);
	e = find_locked(s, h, ino, no);
	if (e) {
		e->refs++;
		wait_locked(s, e);
		if (e->hashed) {
			unhash_locked(s, e);
			put_locked(e);
		}
		last = put_locked(e);
	}
	bale_mutex_unlock(&s->lock);
	if (last)
		free_ext(e);
}

/* Second chance for what was used; what somebody holds goes to the back. */
static bool evict_from(struct shard *s)
{
	struct bale_ext *gone[EVICT_BATCH];
	unsigned int nr = 0;
	size_t look;

	bale_mutex_lock(&s->lock);
	look = s->nr * 2;
	while (nr < EVICT_BATCH && look-- && !bale_list_empty(&s->lru)) {
		struct bale_ext *e =
			BALE_CONTAINER(s->lru.next, struct bale_ext, lru);

		if (e->refs > 1 || e->referenced) {
			e->referenced = false;
			bale_list_del(&e->lru);
			bale_list_push_back(&s->lru, &e->lru);
			continue;
		}
		unhash_locked(s, e);
		gone[nr++] = e;
	}
	s->evicted += nr;
	bale_mutex_unlock(&s->lock);
	for (unsigned int k = 0; k < nr; k++)
		free_ext(gone[k]);
	return nr > 0;
}

bool bale_cache_try_alloc(struct bale_cache *c, size_t len,
			  struct bale_cbuf **ret)
{
	unsigned int idle = 0;

	while (!bale_slab_alloc(c->slab, len, ret)) {
		unsigned int k = atomic_fetch_add(&c->hand, 1) % NR_SHARDS;

		idle = evict_from(&c->shards[k]) ? 0 : idle + 1;
		if (idle == NR_SHARDS)
			return false;
	}
	return true;
}

int bale_cache_alloc(struct bale_cache *c, size_t len, struct bale_cbuf **ret)
{
	if (bale_cache_try_alloc(c, len, ret))
		return 0;
	return bale_slab_alloc_heap(c->slab, len, ret);
}

void bale_cache_memory(struct bale_cache *c, void **ret, size_t *ret_len)
{
	bale_slab_memory(c->slab, ret, ret_len);
}

void bale_cache_stats(struct bale_cache *c, struct bale_cache_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
	bale_slab_stats(c->slab, &ret->used, &ret->heap, &ret->bytes);
	for (unsigned int k = 0; k < NR_SHARDS; k++) {
		struct shard *s = &c->shards[k];

		bale_mutex_lock(&s->lock);
		ret->entries += s->nr;
		ret->hits += s->hits;
		ret->misses += s->misses;
		ret->evicted += s->evicted;
		bale_mutex_unlock(&s->lock);
	}
}
