/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_index.c - the index against the log. The store is opened twice, without
 * writing: once as it is, once with an index built from checkpoint and log
 * alone. Every table must have the same digest both times.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

typedef uint64_t digest[BALE_TABLE_NR][2];

static int digest_of(struct bale_fsck *f, bool untrusted, digest ret,
		     struct bale_meta_stats *ret_stats)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.manual_commit = true,
					.untrusted = untrusted };
	struct bale_store *st;
	int r = bale_store_open(f->path, &o, &st);
	int c;

	if (r)
		return r;
	bale_meta_stats(bale_store_meta(st), ret_stats);
	r = bale_meta_digest(bale_store_meta(st), ret);
	c = bale_store_close(st);
	return r ? r : c;
}

static bool is_damage(int r)
{
	return r == -EUCLEAN || r == -EBADMSG || r == -EIO || r == -EINVAL ||
	       r == -ENOENT;
}

static void compare(struct bale_fsck *f, digest live, digest rebuilt)
{
	for (unsigned int t = 0; t < BALE_TABLE_NR; t++)
		if (memcmp(live[t], rebuilt[t], sizeof(live[t])) &&
		    bale_fsck_problem(f, BALE_FSCK_index,
				      "index: table %s differs from what the "
				      "log says",
				      bale_table_name(t)))
			f->want_rebuild = true;
}

int bale_fsck_index(struct bale_fsck *f)
{
	struct bale_meta_stats s, rebuilt_stats;
	digest live, rebuilt;
	int r, again;

	bale_fsck_phase(f, "index", 0);
	r = digest_of(f, false, live, &s);
	if (r && !is_damage(r))
		return r;
	if (!r && s.index_rebuilt &&
	    bale_fsck_problem(f, BALE_FSCK_index, "index: %s",
			      s.rebuild_reason))
		f->want_rebuild = true;
	if (bale_fsck_cancelled())
		return -ECANCELED;
	again = digest_of(f, true, rebuilt, &rebuilt_stats);
	if (again && !is_damage(again))
		return again;
	if (!r && !again) {
		compare(f, live, rebuilt);
	} else if (!r) {
		/* A checkpoint of what the index has makes it whole again. */
		if (bale_fsck_problem(f, BALE_FSCK_checkpoint,
				      "the index is whole, but could not be "
				      "built again from checkpoint and log: %s",
				      strerror(-again)))
			f->want_checkpoint = true;
	} else if (!again) {
		if (bale_fsck_problem(f, BALE_FSCK_index, "index: %s",
				      strerror(-r)))
			f->want_rebuild = true;
	} else {
		return r; /* neither: the log is cut, or salvage */
	}
	return 0;
}
