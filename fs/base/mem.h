/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.h - allocation and scope-bound cleanup.
 * bale_autofree char *p = ...; return bale_steal(&p) to keep it.
 */
#ifndef BALE_BASE_MEM_H
#define BALE_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "balefs/compiler.h"

static inline void bale_autofree_fn(void *p)
{
	free(*(void **)p);
}
void bale_autoclose_fn(int *fd); /* keeps errno; ignores fd < 0 */

#define bale_autofree  __attribute__((cleanup(bale_autofree_fn)))
#define bale_autoclose __attribute__((cleanup(bale_autoclose_fn)))

#define bale_steal(pp)                          \
	__extension__({                         \
		__typeof__(*(pp)) stolen_ = *(pp); \
		*(pp) = 0;                      \
		stolen_;                        \
	})

/* Growable byte buffer. A failed grow keeps the old content; -ENOMEM. */
struct bale_buf {
	uint8_t *data;
	size_t len, cap;
};
int bale_buf_reserve(struct bale_buf *b, size_t more) BALE_MUST_CHECK;
int bale_buf_append(struct bale_buf *b, const void *p, size_t len)
	BALE_MUST_CHECK;
void bale_buf_fini(struct bale_buf *b);

#endif
