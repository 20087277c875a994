/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_extents.c - reference counts of extents against the maps. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

/* Counts are moved by ordinary references, so that the bytes a segment holds
 * alive follow; more than this at once is a damaged row, not a wrong count. */
enum { STEPS_MAX = 1 << 20 };

static int mend_refs(struct bale_fsck *f, const struct bale_fsck_extent *e)
{
	uint32_t more = e->seen > e->refs ? e->seen - e->refs : 0;
	uint32_t less = e->refs > e->seen ? e->refs - e->seen : 0;

	if (more > STEPS_MAX || less > STEPS_MAX)
		return 0;
	for (uint32_t k = 0; k < more + less; k++) {
		struct bale_txn *t = bale_fsck_txn(f);

		if (!t)
			return -ENOMEM;
		if (more)
			bale_txn_extent_ref(t, e->id);
		else
			bale_txn_extent_unref(t, e->id);
	}
	return 0;
}

int bale_fsck_extents(struct bale_fsck *f)
{
	int r = 0;

	/* A map that could not be read may hold any of them. */
	if (f->nr_kind[BALE_FSCK_row])
		return 0;
	bale_fsck_phase(f, "references", f->nr_extents);
	for (size_t k = 0; k < f->nr_extents && !r; k++) {
		const struct bale_fsck_extent *e = &f->extents[k];
		bool mend;

		r = bale_fsck_step(f);
		if (r || e->seen == e->refs)
			continue;
		if (e->seen)
			mend = bale_fsck_problem(f, BALE_FSCK_extent_refs,
						 "extent %" PRIu64
						 ": %u references, %u in maps",
						 e->id, e->refs, e->seen);
		else
			mend = bale_fsck_problem(f, BALE_FSCK_extent_unused,
						 "extent %" PRIu64
						 ": %u references, in no map",
						 e->id, e->refs);
		if (mend)
			r = mend_refs(f, e);
	}
	return r ? r : bale_fsck_commit(f);
}
