/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable.h - ordered rows in memory: a skip list a table and one hash, in an
 * arena. One writer at a time (the caller's lock), readers without a lock:
 * nodes are only ever added, a row's value is replaced by swapping one
 * pointer, and no memory goes before the memtable does. Who may still be
 * reading then is the caller's business (view.c).
 *
 * A transaction is staged in two passes: bale_memtable_node() and
 * bale_memtable_value() get everything that can fail, bale_mem_publish() then
 * cannot. A node without a value says nothing about its row.
 */
#ifndef BALE_STORE_MEMTABLE_H
#define BALE_STORE_MEMTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bale_memtable;

struct bale_mem_value {
	uint32_t len;
	bool deleted;
	uint8_t data[];
};

struct bale_mem_node {
	struct bale_mem_value *_Atomic value; /* NULL: none yet */
	struct bale_mem_node *hash_next;      /* const once in the hash */
	uint64_t head;			      /* first 8 key bytes, for order */
	uint16_t key_len;
	uint8_t table, height;
	uint32_t group;	 /* writer only: the open group that has the row ... */
	size_t body_off; /* ... at this offset of its body */
	/* writer only, while a transaction is being staged: */
	struct bale_mem_value *pending;
	struct bale_mem_node *pending_next;
	struct bale_mem_node *_Atomic next[]; /* height; the key behind them */
};

struct bale_mem_row {
	unsigned int table;
	const uint8_t *key;
	size_t key_len;
	bool deleted;
	const uint8_t *val;
	size_t val_len;
};

int bale_memtable_create(struct bale_memtable **ret);
void bale_memtable_destroy(struct bale_memtable *mt); /* NULL is fine */
size_t bale_memtable_bytes(const struct bale_memtable *mt);

/* ---- writer ---- */

/* The row's node, added when there is none. -ENOMEM. */
int bale_memtable_node(struct bale_memtable *mt, unsigned int table,
		       const void *key, size_t key_len,
		       struct bale_mem_node **ret);
/* val NULL: the row is deleted. NULL: no memory. */
struct bale_mem_value *bale_memtable_value(struct bale_memtable *mt,
					   const void *val, size_t val_len);
void bale_mem_publish(struct bale_mem_node *n, struct bale_mem_value *v);
/* All three. */
int bale_memtable_put(struct bale_memtable *mt, unsigned int table,
		      const void *key, size_t key_len, const void *val,
		      size_t val_len);

/* ---- readers ---- */

/* NULL: no such node. */
struct bale_mem_node *bale_memtable_find(struct bale_memtable *mt,
					 unsigned int table, const void *key,
					 size_t key_len);
/* False when this memtable says nothing about the row. */
bool bale_memtable_get(struct bale_memtable *mt, unsigned int table,
		       const void *key, size_t key_len,
		       struct bale_mem_row *ret);
/* First node of the table with a key >= the given; NULL at the end. */
const struct bale_mem_node *bale_memtable_seek(struct bale_memtable *mt,
					       unsigned int table,
					       const void *key, size_t key_len);
const struct bale_mem_node *bale_mem_next(const struct bale_mem_node *n);
/* False: the node has no value (yet). */
bool bale_mem_row(const struct bale_mem_node *n, struct bale_mem_row *ret);

int bale_key_compare(const void *a, size_t a_len, const void *b, size_t b_len);

static inline const uint8_t *bale_mem_key(const struct bale_mem_node *n)
{
	return (const uint8_t *)&n->next[n->height];
}

#endif
