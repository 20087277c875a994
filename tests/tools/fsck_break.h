/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_break.h - the fixture's store broken in every way of docs/fsck.md. */
#ifndef BALE_TESTS_FSCK_BREAK_H
#define BALE_TESTS_FSCK_BREAK_H

#include "tests/tools/fsck_fixture.h"

struct fx_break {
	const char *name;
	void (*fn)(struct fx *x); /* the store is open, and closed after it */
};

extern const struct fx_break fx_breaks[];
extern const unsigned int fx_nr_breaks;

#endif
