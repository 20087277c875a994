/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/cache/slab.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "fs/base/mem.h"
#include "fs/base/thread.h"

enum {
	MAX_ORDERS = 12, /* 4 KiB .. 8 MiB */
	NONE = 0xffffffffu,
	USED = 0x80, /* in order[]: block is handed out */
};

/* State of the 4 KiB page that starts a block; others are meaningless. */
struct page {
	uint32_t next, prev; /* free list of its order */
};

struct bale_slab {
	uint8_t *base;
	size_t bytes, nr_pages;
	unsigned int top; /* order of a whole block */
	struct bale_mutex lock; /* all below; leaf */
	uint32_t free[MAX_ORDERS];
	uint8_t *order; /* by page: order | USED at the start of a block */
	struct page *pages;
	struct bale_cbuf *bufs; /* by page; lazily touched memory */
	size_t used;
	_Atomic size_t heap;
};

static void *map_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static unsigned int order_of(size_t len)
{
	unsigned int o = 0;

	while ((size_t)BALE_SLAB_MIN << o < len)
		o++;
	return o;
}

static void push_free(struct bale_slab *s, uint32_t p, unsigned int o)
{
	s->order[p] = (uint8_t)o;
	s->pages[p].prev = NONE;
	s->pages[p].next = s->free[o];
	if (s->free[o] != NONE)
		s->pages[s->free[o]].prev = p;
	s->free[o] = p;
}

static void take_free(struct bale_slab *s, uint32_t p, unsigned int o)
{
	struct page *g = &s->pages[p];

	if (g->prev != NONE)
		s->pages[g->prev].next = g->next;
	else
		s->free[o] = g->next;
	if (g->next != NONE)
		s->pages[g->next].prev = g->prev;
}

int bale_slab_create(size_t bytes, size_t block, struct bale_slab **ret)
{
	struct bale_slab *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	bale_mutex_init(&s->lock);
	s->top = order_of(block);
	s->bytes = bytes / block * block;
	s->nr_pages = s->bytes / BALE_SLAB_MIN;
	s->base = map_memory(s->bytes + 1);
	s->order = map_memory(s->nr_pages + 1);
	s->pages = map_memory((s->nr_pages + 1) * sizeof(*s->pages));
	s->bufs = map_memory((s->nr_pages + 1) * sizeof(*s->bufs));
	if (!s->base || !s->order || !s->pages || !s->bufs ||
	    s->top >= MAX_ORDERS) {
		bale_slab_destroy(s);
		return -ENOMEM;
	}
	(void)madvise(s->base, s->bytes, MADV_HUGEPAGE);
	for (unsigned int o = 0; o < MAX_ORDERS; o++)
		s->free[o] = NONE;
	for (size_t p = s->nr_pages; p; p -= (size_t)1 << s->top)
		push_free(s, (uint32_t)(p - ((size_t)1 << s->top)), s->top);
	*ret = s;
	return 0;
}

void bale_slab_destroy(struct bale_slab *s)
{
	if (!s)
		return;
	if (s->base)
		munmap(s->base, s->bytes + 1);
	if (s->order)
		munmap(s->order, s->nr_pages + 1);
	if (s->pages)
		munmap(s->pages, (s->nr_pages + 1) * sizeof(*s->pages));
	if (s->bufs)
		munmap(s->bufs, (s->nr_pages + 1) * sizeof(*s->bufs));
	bale_mutex_fini(&s->lock);
	free(s);
}

bool bale_slab_alloc(struct bale_slab *s, size_t len, struct bale_cbuf **ret)
{
	unsigned int want = order_of(len), o = want;
	struct bale_cbuf *b;
	uint32_t p;

	bale_mutex_lock(&s->lock);
	while (o <= s->top && s->free[o] == NONE)
		o++;
	if (o > s->top) {
		bale_mutex_unlock(&s->lock);
		return false;
	}
	p = s->free[o];
	take_free(s, p, o);
	while (o > want) {
		o--;
		push_free(s, p + (1u << o), o);
	}
	s->order[p] = (uint8_t)(want | USED);
	s->used += (size_t)BALE_SLAB_MIN << want;
	bale_mutex_unlock(&s->lock);
	b = &s->bufs[p];
	b->data = s->base + (size_t)p * BALE_SLAB_MIN;
	b->cap = (uint32_t)BALE_SLAB_MIN << want;
	b->heap = false;
	b->slab = s;
	atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
	*ret = b;
	return true;
}

int bale_slab_alloc_heap(struct bale_slab *s, size_t len,
			 struct bale_cbuf **ret)
{
	size_t cap = (size_t)BALE_SLAB_MIN << order_of(len);
	struct bale_cbuf *b = malloc(sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->data = aligned_alloc(BALE_SLAB_MIN, cap);
	if (!b->data) {
		free(b);
		return -ENOMEM;
	}
	b->cap = (uint32_t)cap;
	b->heap = true;
	b->slab = s;
	atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
	atomic_fetch_add(&s->heap, cap);
	*ret = b;
	return 0;
}

static void free_block(struct bale_slab *s, uint32_t p, unsigned int o)
{
	bale_mutex_lock(&s->lock);
	s->used -= (size_t)BALE_SLAB_MIN << o;
	while (o < s->top) {
		uint32_t buddy = p ^ (1u << o);

		if (s->order[buddy] != o)
			break;
		/* A buddy always starts a block: one that held it inside
		 * would hold p too. So its order is never stale. */
		take_free(s, buddy, o);
		p = buddy < p ? buddy : p;
		o++;
	}
	push_free(s, p, o);
	bale_mutex_unlock(&s->lock);
}

void bale_cbuf_put(struct bale_cbuf *b)
{
	struct bale_slab *s = b->slab;

	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (b->heap) {
		atomic_fetch_sub(&s->heap, b->cap);
		free(b->data);
		free(b);
		return;
	}
	free_block(s, (uint32_t)((size_t)(b->data - s->base) / BALE_SLAB_MIN),
		   order_of(b->cap));
}

size_t bale_slab_class(const struct bale_slab *s, size_t len)
{
	(void)s;
	return (size_t)BALE_SLAB_MIN << order_of(len);
}

void bale_slab_memory(struct bale_slab *s, void **ret, size_t *ret_len)
{
	*ret = s->base;
	*ret_len = s->bytes;
}

void bale_slab_stats(struct bale_slab *s, uint64_t *ret_used,
		     uint64_t *ret_heap, uint64_t *ret_total)
{
	bale_mutex_lock(&s->lock);
	*ret_used = s->used;
	bale_mutex_unlock(&s->lock);
	*ret_heap = atomic_load(&s->heap);
	*ret_total = s->bytes;
}
