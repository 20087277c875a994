/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/store/memtable.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "balefs/format.h"

enum {
	MAX_HEIGHT = 12, /* a quarter of the nodes go one level up: 4^12 */
	CHUNK = 256 << 10,
	LARGE = 32 << 10,
	HASH_BITS = 18,
};

typedef struct bale_mem_node *_Atomic link;

struct chunk {
	struct chunk *next;
	uint8_t data[];
};

/* A table's list, and where the writer last was in it: keys mostly ascend. */
struct list {
	link head[MAX_HEIGHT];
	struct bale_mem_node *last[MAX_HEIGHT]; /* writer only; NULL: head */
};

struct bale_memtable {
	atomic_size_t bytes;
	struct chunk *chunks; /* writer only */
	uint8_t *free;	      /* writer only: room in the newest chunk */
	size_t free_len;      /* writer only */
	uint64_t random;      /* writer only */
	struct list lists[BALE_TABLE_NR];
	link hash[1 << HASH_BITS];
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

int bale_memtable_create(struct bale_memtable **ret)
{
	struct bale_memtable *mt = calloc(1, sizeof(*mt));

	if (!mt)
		return -ENOMEM;
	mt->random = 0x9e3779b97f4a7c15u;
	*ret = mt;
	return 0;
}

void bale_memtable_destroy(struct bale_memtable *mt)
{
	while (mt && mt->chunks) {
		struct chunk *next = mt->chunks->next;

		free(mt->chunks);
		mt->chunks = next;
	}
	free(mt);
}

size_t bale_memtable_bytes(const struct bale_memtable *mt)
{
	return atomic_load_explicit(&((struct bale_memtable *)mt)->bytes,
				    memory_order_relaxed);
}

/* ---- keys ---- */

int bale_key_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t n = a_len < b_len ? a_len : b_len;
	int c = n ? memcmp(a, b, n) : 0;

	if (c)
		return c;
	return a_len == b_len ? 0 : a_len < b_len ? -1 : 1;
}

struct probe {
	uint64_t head;
	const uint8_t *key;
	size_t len;
};

/* Big-endian and padded with zeros: orders as the bytes do. */
static struct probe make_probe(const void *key, size_t len)
{
	struct probe p = { 0, key, len };
	be64 head = { { 0 } };

	if (len)
		memcpy(&head, key, len < sizeof(head) ? len : sizeof(head));
	p.head = be64_get(head);
	return p;
}

static int compare(const struct bale_mem_node *n, const struct probe *p)
{
	if (n->head != p->head)
		return n->head < p->head ? -1 : 1;
	return bale_key_compare(bale_mem_key(n), n->key_len, p->key, p->len);
}

/* ---- searching ---- */

static link *links(struct list *l, struct bale_mem_node *n)
{
	return n ? n->next : l->head;
}

/*
 * The first node >= p; prev[]: the last one below it on every level, starting
 * from what prev[] holds on the levels above `level`.
 */
static struct bale_mem_node *descend(struct list *l, const struct probe *p,
				     int level, struct bale_mem_node *at,
				     struct bale_mem_node **prev)
{
	struct bale_mem_node *next = NULL;

	for (; level >= 0; level--) {
		while ((next = atomic_load_explicit(&links(l, at)[level],
						    memory_order_acquire)) &&
		       compare(next, p) < 0)
			at = next;
		if (prev)
			prev[level] = at;
	}
	return next;
}

/* From the writer's last place: the lowest level on which the key lies right
 * behind it is where the search begins. */
static struct bale_mem_node *find_near(struct list *l, const struct probe *p)
{
	for (int level = 0; level < MAX_HEIGHT; level++) {
		struct bale_mem_node *at = l->last[level], *next;

		if (at && compare(at, p) >= 0)
			continue;
		next = atomic_load_explicit(&links(l, at)[level],
					    memory_order_relaxed);
		if (!next || compare(next, p) >= 0)
			return descend(l, p, level, at, l->last);
	}
	return descend(l, p, MAX_HEIGHT - 1, NULL, l->last);
}

static link *bucket(struct bale_memtable *mt, unsigned int table,
		    const void *key, size_t key_len)
{
	uint64_t h = XXH3_64bits_withSeed(key, key_len, table);

	return &mt->hash[h >> (64 - HASH_BITS)];
}

static struct bale_mem_node *find_in(struct bale_mem_node *n,
				     unsigned int table, const void *key,
				     size_t key_len)
{
	for (; n; n = n->hash_next)
		if (n->table == table && n->key_len == key_len &&
		    (!key_len || !memcmp(bale_mem_key(n), key, key_len)))
			return n;
	return NULL;
}

struct bale_mem_node *bale_memtable_find(struct bale_memtable *mt,
					 unsigned int table, const void *key,
					 size_t key_len)
{
	link *b = bucket(mt, table, key, key_len);

	return find_in(atomic_load_explicit(b, memory_order_acquire), table,
		       key, key_len);
}

/* ---- writer ---- */

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

static struct bale_mem_node *
make_node(struct bale_memtable *mt, unsigned int table, const struct probe *p)
{
	unsigned int height = draw_height(mt);
	size_t len = sizeof(struct bale_mem_node) + height * sizeof(link);
	struct bale_mem_node *n = arena_alloc(mt, len + p->len);

	if (!n)
		return NULL;
	memset(n, 0, len);
	n->table = (uint8_t)table;
	n->height = (uint8_t)height;
	n->key_len = (uint16_t)p->len;
	n->head = p->head;
	if (p->len)
		memcpy((uint8_t *)&n->next[height], p->key, p->len);
	return n;
}

int bale_memtable_node(struct bale_memtable *mt, unsigned int table,
		       const void *key, size_t key_len,
		       struct bale_mem_node **ret)
{
	link *b = bucket(mt, table, key, key_len);
	struct bale_mem_node *first =
		atomic_load_explicit(b, memory_order_relaxed);
	struct bale_mem_node *n = find_in(first, table, key, key_len);
	struct list *l = &mt->lists[table];
	struct probe p;

	if (n) {
		*ret = n;
		return 0;
	}
	p = make_probe(key, key_len);
	n = make_node(mt, table, &p);
	if (!n)
		return -ENOMEM;
	find_near(l, &p);
	for (unsigned int i = 0; i < n->height; i++) {
		link *at = &links(l, l->last[i])[i];

		atomic_store_explicit(
			&n->next[i],
			atomic_load_explicit(at, memory_order_relaxed),
			memory_order_relaxed);
		atomic_store_explicit(at, n, memory_order_release);
		l->last[i] = n;
	}
	n->hash_next = first;
	atomic_store_explicit(b, n, memory_order_release);
	*ret = n;
	return 0;
}

struct bale_mem_value *bale_memtable_value(struct bale_memtable *mt,
					   const void *val, size_t val_len)
{
	struct bale_mem_value *v;

	if (!val)
		val_len = 0;
	v = arena_alloc(mt, sizeof(*v) + val_len);
	if (!v)
		return NULL;
	v->deleted = !val;
	v->len = (uint32_t)val_len;
	if (val_len)
		memcpy(v->data, val, val_len);
	return v;
}

void bale_mem_publish(struct bale_mem_node *n, struct bale_mem_value *v)
{
	atomic_store_explicit(&n->value, v, memory_order_release);
}

int bale_memtable_put(struct bale_memtable *mt, unsigned int table,
		      const void *key, size_t key_len, const void *val,
		      size_t val_len)
{
	struct bale_mem_node *n;
	struct bale_mem_value *v = bale_memtable_value(mt, val, val_len);
	int r = v ? bale_memtable_node(mt, table, key, key_len, &n) : -ENOMEM;

	if (!r)
		bale_mem_publish(n, v);
	return r;
}

/* ---- readers ---- */

bool bale_mem_row(const struct bale_mem_node *n, struct bale_mem_row *ret)
{
	const struct bale_mem_value *v = atomic_load_explicit(
		&((struct bale_mem_node *)n)->value, memory_order_acquire);

	if (!v)
		return false;
	*ret = (struct bale_mem_row){ .table = n->table,
				      .key = bale_mem_key(n),
				      .key_len = n->key_len,
				      .deleted = v->deleted,
				      .val = v->data,
				      .val_len = v->len };
	return true;
}

bool bale_memtable_get(struct bale_memtable *mt, unsigned int table,
		       const void *key, size_t key_len,
		       struct bale_mem_row *ret)
{
	const struct bale_mem_node *n =
		bale_memtable_find(mt, table, key, key_len);

	return n && bale_mem_row(n, ret);
}

const struct bale_mem_node *bale_memtable_seek(struct bale_memtable *mt,
					       unsigned int table,
					       const void *key, size_t key_len)
{
	struct probe p = make_probe(key, key_len);

	return descend(&mt->lists[table], &p, MAX_HEIGHT - 1, NULL, NULL);
}

const struct bale_mem_node *bale_mem_next(const struct bale_mem_node *n)
{
	return atomic_load_explicit(&((struct bale_mem_node *)n)->next[0],
				    memory_order_acquire);
}
