/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.h - buffers between two pages that may not be touched, so that one
 * byte too far, read or written, at either end, is a crash in every build.
 */
#ifndef BALE_TESTS_GUARD_H
#define BALE_TESTS_GUARD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD_PAGE = 4096 };

struct guard {
	uint8_t *map;
	size_t cap; /* bytes between the guards, whole pages */
};

static inline void guard_init(struct guard *g, size_t cap)
{
	size_t pages = (cap + GUARD_PAGE - 1) / GUARD_PAGE;

	g->cap = pages * GUARD_PAGE;
	g->map = (uint8_t *)mmap(NULL, g->cap + 2 * GUARD_PAGE, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->map == MAP_FAILED ||
	    (g->cap &&
	     mprotect(g->map + GUARD_PAGE, g->cap, PROT_READ | PROT_WRITE))) {
		perror("guard");
		abort();
	}
}

static inline void guard_fini(struct guard *g)
{
	munmap(g->map, g->cap + 2 * GUARD_PAGE);
}

/* len bytes that end where the upper guard begins. */
static inline uint8_t *guard_high(const struct guard *g, size_t len)
{
	if (len > g->cap)
		abort();
	return g->map + GUARD_PAGE + g->cap - len;
}

/* The same, right above the lower guard. */
static inline uint8_t *guard_low(const struct guard *g, size_t len)
{
	if (len > g->cap)
		abort();
	return g->map + GUARD_PAGE;
}

#endif
