/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleaner.h - what cleaner.c (when, and which segments) asks clean_segment.c
 * (how) to do. The caller runs one at a time, on sealed segments whose dead
 * bytes are dead by a durable record.
 */
#ifndef BALE_STORE_CLEANER_H
#define BALE_STORE_CLEANER_H

#include "fs/store/store_internal.h"

/* Less dead than this is not worth a scan. */
enum { BALE_PUNCH_MIN = 64 << 10 };

/* Dead payload becomes holes; adds to *punched. -EOPNOTSUPP: the backing
 * filesystem cannot. */
int bale_clean_punch(struct bale_store *st, const struct bale_seg_info *g,
		     uint64_t *punched);
/* Stage moves of all that lives in the segment; adds to *copied. */
int bale_clean_copy(struct bale_store *st, const struct bale_seg_info *g,
		    uint64_t *copied);

#endif
