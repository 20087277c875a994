/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.h - the memory of the cache: buffers of 4 KiB .. the extent size, in
 * powers of two, out of one mapping of fixed size (a buddy allocator), counted
 * by reference. When the mapping is full the heap stands in, so that holders
 * of locks never wait for memory; `heap` bytes are told apart.
 * Any thread.
 */
#ifndef BALE_CACHE_SLAB_H
#define BALE_CACHE_SLAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bale_slab;

struct bale_cbuf {
	uint8_t *data;
	uint32_t cap;
	bool heap;
	_Atomic uint32_t refs;
	struct bale_slab *slab;
};

enum { BALE_SLAB_MIN = 4096 };

/* bytes is rounded down to blocks of `block` (a power of two). */
int bale_slab_create(size_t bytes, size_t block, struct bale_slab **ret);
void bale_slab_destroy(struct bale_slab *s); /* NULL is fine */
/* One reference. False: the mapping is full (or len too large). */
bool bale_slab_alloc(struct bale_slab *s, size_t len, struct bale_cbuf **ret);
/* The same from the heap; -ENOMEM. */
int bale_slab_alloc_heap(struct bale_slab *s, size_t len,
			 struct bale_cbuf **ret);
static inline void bale_cbuf_ref(struct bale_cbuf *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}
void bale_cbuf_put(struct bale_cbuf *b);
/* Nobody else looks at it. */
static inline bool bale_cbuf_is_exclusive(struct bale_cbuf *b)
{
	return atomic_load_explicit(&b->refs, memory_order_acquire) == 1;
}
/* What a buffer for len bytes really takes. */
size_t bale_slab_class(const struct bale_slab *s, size_t len);
/* The mapping, for those who want to pin it. */
void bale_slab_memory(struct bale_slab *s, void **ret, size_t *ret_len);
void bale_slab_stats(struct bale_slab *s, uint64_t *ret_used,
		     uint64_t *ret_heap, uint64_t *ret_total);

#endif
