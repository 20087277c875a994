/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_extents.c - reference counts of extents against the maps. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

/* Set, whatever it was; the last reference is taken away by the ordinary way,
 * so that the bytes that a segment holds alive follow. */
static int mend_refs(struct bale_fsck *f, const struct bale_fsck_extent *e)
{
	struct bale_txn *t = bale_fsck_txn(f);
	be64 key = be64_put(e->id);
	struct bale_disk_extent d;
	struct bale_extent_row row;
	int r = t ? bale_meta_extent(f->m, e->id, &row) : -ENOMEM;

	if (r)
		return r;
	row.refs = e->seen ? e->seen : 1;
	bale_extent_encode(&row, &d);
	bale_txn_put(t, BALE_TABLE_extent, &key, sizeof(key), &d, sizeof(d));
	if (!e->seen)
		bale_txn_extent_unref(t, e->id);
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
		if (!r)
			r = bale_fsck_commit_full(f);
	}
	return r ? r : bale_fsck_commit(f);
}
