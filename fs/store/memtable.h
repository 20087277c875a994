/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable.h - ordered rows in memory: a skip list in an arena. One writer at
 * a time (the caller's lock), readers without a lock: nodes are only ever
 * added, a row's value is replaced by swapping one pointer, and all memory
 * stays until the last reference goes.
 */
#ifndef BALE_STORE_MEMTABLE_H
#define BALE_STORE_MEMTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bale_memtable;
struct bale_mem_node;

struct bale_mem_row {
	unsigned int table;
	const uint8_t *key;
	size_t key_len;
	bool deleted;
	const uint8_t *val;
	size_t val_len;
};

int bale_memtable_create(struct bale_memtable **ret); /* one reference */
struct bale_memtable *bale_memtable_ref(struct bale_memtable *mt);
void bale_memtable_unref(struct bale_memtable *mt); /* NULL is fine */
/* val NULL: the row is deleted. -ENOMEM. */
int bale_memtable_put(struct bale_memtable *mt, unsigned int table,
		      const void *key, size_t key_len, const void *val,
		      size_t val_len);
/* False when this memtable says nothing about the row. */
bool bale_memtable_get(struct bale_memtable *mt, unsigned int table,
		       const void *key, size_t key_len,
		       struct bale_mem_row *ret);
/* First node with (table, key) >= the given; NULL at the end. */
const struct bale_mem_node *bale_memtable_seek(struct bale_memtable *mt,
					       unsigned int table,
					       const void *key, size_t key_len);
const struct bale_mem_node *bale_mem_next(const struct bale_mem_node *n);
void bale_mem_row(const struct bale_mem_node *n, struct bale_mem_row *ret);
size_t bale_memtable_bytes(const struct bale_memtable *mt);

int bale_key_compare(const void *a, size_t a_len, const void *b, size_t b_len);

#endif
