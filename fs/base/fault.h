/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - fault points: places where a test makes something go wrong. It
 * arms them through the environment
 *   BALEFS_FAULT="point:N[:ACTION]"   (several, separated by ',')
 * or bale_fault_arm(); on its N-th passage (1 is the first; N+ means from the
 * N-th on) ACTION happens: an errno name ("EIO", "ENOSPC"; default EIO),
 * "kill" (SIGKILL to self), "latekill" (after 100 ms, in which other threads
 * go on), "stop" (SIGSTOP to self), "delay=MS"; at a read or write of the I/O
 * layer also "short" (the kernel does a part of it, the layer
 * the rest), "torn" (half is written, then EIO) and "tornkill" (half is
 * written, then SIGKILL). Unarmed cost: one relaxed load.
 *
 * A point is a name ("meta.log"), an operation of the I/O layer ("io.sync"),
 * or a call site of that layer ("wal.c@319"). The program knows all of its
 * sites and of its points made with the macros below: they are static objects
 * in a section of their own, so that a test can ask which of them it has not
 * reached. BALEFS_FAULT_COUNTS=FILE has them written there at exit, one a
 * line: passages, point, function, name, file.
 */
#ifndef BALE_BASE_FAULT_H
#define BALE_BASE_FAULT_H

#include <stddef.h>
#include <stdint.h>

#include "balefs/compiler.h"

struct bale_fault_site {
	const char *file, *func;
	const char *name; /* NULL: a call of the I/O layer */
	unsigned int line;
	uint64_t passed; /* atomic; counted while anything is armed */
};

/* The file's name without its folders. */
const char *bale_fault_site_file(const struct bale_fault_site *s);

#define BALE_FAULT_SITE(var, what)                                             \
	static struct bale_fault_site var = { __FILE__, __func__, what,        \
					      __LINE__, 0 };                   \
	static struct bale_fault_site *const var##_ref                         \
		__attribute__((used, section("bale_fault_sites"))) = &var

/* 0, or the -errno that the caller must fail with. */
#define BALE_FAULT(what)                                                       \
	({                                                                     \
		BALE_FAULT_SITE(site_, what);                                  \
		bale_fault_at(&site_);                                         \
	})
/* Between two steps where nothing can fail, only end: errors are ignored. */
#define BALE_FAULT_POINT(what) ((void)BALE_FAULT(what))

/* All sites of the program; NULL behind the last. */
struct bale_fault_site *bale_fault_site(size_t i);

int bale_fault(const char *point); /* as BALE_FAULT, but not listed */
int bale_fault_at(struct bale_fault_site *site);

/* What a read or write must do; all else is 0 or -errno. */
enum bale_fault_part {
	BALE_FAULT_SHORT = 1,
	BALE_FAULT_TORN,
	BALE_FAULT_TORN_KILL,
};
void bale_fault_die(void); /* SIGKILL */
/* An operation of the I/O layer begins, called from the site that this thread
 * passed to bale_fault_enter() last, if it did. */
int bale_fault_io(const char *op);
/* The site, if any, of this thread's operation; asking forgets it. */
struct bale_fault_site *bale_fault_entered(void);

extern _Thread_local struct bale_fault_site *bale_fault_site_now;
static inline void bale_fault_enter(struct bale_fault_site *site)
{
	bale_fault_site_now = site;
}

int bale_fault_arm(const char *spec); /* adds; -EINVAL on bad syntax */
void bale_fault_clear(void);
/* Times the point was passed since it was armed (or since any was). */
uint64_t bale_fault_count(const char *point);

#endif
