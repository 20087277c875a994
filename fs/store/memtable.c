/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/store/memtable.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEIGHT = 16, CHUNK = 256 << 10, LARGE = 32 << 10 };

struct mem_value {
	uint32_t len;
	bool deleted;
	uint8_t data[];
};

struct bale_mem_node {
	struct mem_value *_Atomic value;
	uint16_t key_len; /* with the table byte in front */
	uint16_t height;
	const uint8_t *key;
	struct bale_mem_node *_Atomic next[];
};

struct chunk {
	struct chunk *next;
	uint8_t data[];
};

struct bale_memtable {
	atomic_uint refs;
	atomic_size_t bytes;
	struct chunk *chunks; /* writer only */
	uint8_t *free;	      /* writer only: room in the newest chunk */
	size_t free_len;
	uint64_t random;	    /* writer only */
	struct bale_mem_node *head; /* MAX_HEIGHT next pointers, no key */
};

static void *arena_alloc(struct bale_memtable *mt, size_t len)
{
	size_t want = (len + 7) & ~(size_t)7;
	struct chunk *c;
	void *p;

	if (want > mt->free_len) {
		size_t size = want > LARGE ? want : CHUNK;

		c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		c->next = mt->chunks;
		mt->chunks = c;
		atomic_fetch_add_explicit(&mt->bytes, size,
					  memory_order_relaxed);
		if (want > LARGE)
			return c->data;
		mt->free = c->data;
		mt->free_len = size;
	}
	p = mt->free;
	mt->free += want;
	mt->free_len -= want;
	return p;
}

static struct bale_mem_node *alloc_node(struct bale_memtable *mt,
					unsigned int height, size_t key_len)
{
	size_t links = height * sizeof(struct bale_mem_node *);
	struct bale_mem_node *n = arena_alloc(mt, sizeof(*n) + links + key_len);

	if (!n)
		return NULL;
	memset(n, 0, sizeof(*n) + links);
	n->height = (uint16_t)height;
	n->key_len = (uint16_t)key_len;
	n->key = (uint8_t *)n + sizeof(*n) + links;
	return n;
}

int bale_memtable_create(struct bale_memtable **ret)
{
	struct bale_memtable *mt = calloc(1, sizeof(*mt));

	if (!mt)
		return -ENOMEM;
	atomic_init(&mt->refs, 1);
	mt->random = 0x9e3779b97f4a7c15u;
	mt->head = alloc_node(mt, MAX_HEIGHT, 0);
	if (!mt->head) {
		free(mt);
		return -ENOMEM;
	}
	*ret = mt;
	return 0;
}

struct bale_memtable *bale_memtable_ref(struct bale_memtable *mt)
{
	atomic_fetch_add(&mt->refs, 1);
	return mt;
}

void bale_memtable_unref(struct bale_memtable *mt)
{
	if (!mt || atomic_fetch_sub(&mt->refs, 1) != 1)
		return;
	while (mt->chunks) {
		struct chunk *next = mt->chunks->next;

		free(mt->chunks);
		mt->chunks = next;
	}
	free(mt);
}

int bale_key_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t n = a_len < b_len ? a_len : b_len;
	int c = n ? memcmp(a, b, n) : 0;

	if (c)
		return c;
	return a_len == b_len ? 0 : a_len < b_len ? -1 : 1;
}

/* Compare a node's key with (table, key). */
static int compare_node(const struct bale_mem_node *n, unsigned int table,
			const void *key, size_t key_len)
{
	if (n->key[0] != table)
		return n->key[0] < table ? -1 : 1;
	return bale_key_compare(n->key + 1, n->key_len - 1u, key, key_len);
}

/* The first node >= (table, key); prev[] (may be NULL): the last one below it
 * on every level. */
static struct bale_mem_node *find(struct bale_memtable *mt, unsigned int table,
				  const void *key, size_t key_len,
				  struct bale_mem_node **prev)
{
	struct bale_mem_node *at = mt->head, *next = NULL;

	for (int level = MAX_HEIGHT - 1; level >= 0; level--) {
		while ((next = atomic_load_explicit(&at->next[level],
						    memory_order_acquire)) &&
		       compare_node(next, table, key, key_len) < 0)
			at = next;
		if (prev)
			prev[level] = at;
	}
	return next;
}

static unsigned int draw_height(struct bale_memtable *mt)
{
	unsigned int h = 1;

	mt->random ^= mt->random << 13;
	mt->random ^= mt->random >> 7;
	mt->random ^= mt->random << 17;
	for (uint64_t bits = mt->random; h < MAX_HEIGHT && !(bits & 3); h++)
		bits >>= 2;
	return h;
}

int bale_memtable_put(struct bale_memtable *mt, unsigned int table,
		      const void *key, size_t key_len, const void *val,
		      size_t val_len)
{
	struct bale_mem_node *prev[MAX_HEIGHT], *n;
	struct mem_value *v = arena_alloc(mt, sizeof(*v) + (val ? val_len : 0));

	if (!v)
		return -ENOMEM;
	v->deleted = !val;
	v->len = val ? (uint32_t)val_len : 0;
	if (v->len)
		memcpy(v->data, val, val_len);
	n = find(mt, table, key, key_len, prev);
	if (n && !compare_node(n, table, key, key_len)) {
		atomic_store_explicit(&n->value, v, memory_order_release);
		return 0;
	}
	n = alloc_node(mt, draw_height(mt), key_len + 1);
	if (!n)
		return -ENOMEM;
	((uint8_t *)n->key)[0] = (uint8_t)table;
	memcpy((uint8_t *)n->key + 1, key, key_len);
	atomic_store_explicit(&n->value, v, memory_order_relaxed);
	for (unsigned int i = 0; i < n->height; i++) {
		atomic_store_explicit(
			&n->next[i],
			atomic_load_explicit(&prev[i]->next[i],
					     memory_order_relaxed),
			memory_order_relaxed);
		atomic_store_explicit(&prev[i]->next[i], n,
				      memory_order_release);
	}
	return 0;
}

void bale_mem_row(const struct bale_mem_node *n, struct bale_mem_row *ret)
{
	const struct mem_value *v = atomic_load_explicit(
		&((struct bale_mem_node *)n)->value, memory_order_acquire);

	*ret = (struct bale_mem_row){ .table = n->key[0],
				      .key = n->key + 1,
				      .key_len = n->key_len - 1u,
				      .deleted = v->deleted,
				      .val = v->data,
				      .val_len = v->len };
}

bool bale_memtable_get(struct bale_memtable *mt, unsigned int table,
		       const void *key, size_t key_len,
		       struct bale_mem_row *ret)
{
	const struct bale_mem_node *n = find(mt, table, key, key_len, NULL);

	if (!n || compare_node(n, table, key, key_len))
		return false;
	bale_mem_row(n, ret);
	return true;
}

const struct bale_mem_node *bale_memtable_seek(struct bale_memtable *mt,
					       unsigned int table,
					       const void *key, size_t key_len)
{
	return find(mt, table, key, key_len, NULL);
}

const struct bale_mem_node *bale_mem_next(const struct bale_mem_node *n)
{
	return atomic_load_explicit(&((struct bale_mem_node *)n)->next[0],
				    memory_order_acquire);
}

size_t bale_memtable_bytes(const struct bale_memtable *mt)
{
	return atomic_load_explicit(&((struct bale_memtable *)mt)->bytes,
				    memory_order_relaxed);
}
