/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h - intrusive circular doubly linked list. No locking, no allocation.
 */
#ifndef BALE_BASE_LIST_H
#define BALE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct bale_list {
	struct bale_list *next, *prev;
};

#define BALE_CONTAINER(ptr, type, member) \
	((type *)((char *)(ptr)-offsetof(type, member)))

static inline void bale_list_init(struct bale_list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool bale_list_empty(const struct bale_list *l)
{
	return l->next == l;
}

static inline void bale_list_insert_after(struct bale_list *at,
					  struct bale_list *n)
{
	n->prev = at;
	n->next = at->next;
	at->next->prev = n;
	at->next = n;
}

static inline void bale_list_push_front(struct bale_list *l,
					struct bale_list *n)
{
	bale_list_insert_after(l, n);
}

static inline void bale_list_push_back(struct bale_list *l,
				       struct bale_list *n)
{
	bale_list_insert_after(l->prev, n);
}

/* The node may be deleted again or inserted elsewhere afterwards. */
static inline void bale_list_del(struct bale_list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	bale_list_init(n);
}

#define bale_list_for_each(pos, head) \
	for (struct bale_list *pos = (head)->next; pos != (head); pos = pos->next)
#define bale_list_for_each_safe(pos, head)                                    \
	for (struct bale_list *pos = (head)->next, *pos##_next = pos->next;   \
	     pos != (head); pos = pos##_next, pos##_next = pos->next)

#endif
