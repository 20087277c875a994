/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_state.c - the two sorted arrays: inodes and extents. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/fsck.h"

struct bale_fsck_inode *bale_fsck_inode(struct bale_fsck *f, uint64_t ino)
{
	size_t lo = 0, hi = f->nr_inodes;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->inodes[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < f->nr_inodes && f->inodes[lo].ino == ino ? &f->inodes[lo] :
							       NULL;
}

struct bale_fsck_extent *bale_fsck_extent(struct bale_fsck *f, uint64_t id)
{
	size_t lo = 0, hi = f->nr_extents;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->extents[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < f->nr_extents && f->extents[lo].id == id ? &f->extents[lo] :
							       NULL;
}

static int grow(void *pp, size_t nr, size_t *cap, size_t item)
{
	size_t want = *cap ? *cap + *cap / 2 : 1024;
	void *p;

	if (nr < *cap)
		return 0;
	p = reallocarray(*(void **)pp, want, item);
	if (!p)
		return -ENOMEM;
	*(void **)pp = p;
	*cap = want;
	return 0;
}

int bale_fsck_inode_push(struct bale_fsck *f, const struct bale_fsck_inode *i)
{
	int r = grow(&f->inodes, f->nr_inodes, &f->cap_inodes, sizeof(*i));

	if (!r)
		f->inodes[f->nr_inodes++] = *i;
	return r;
}

int bale_fsck_inode_insert(struct bale_fsck *f, const struct bale_fsck_inode *i)
{
	struct bale_fsck_inode copy = *i; /* may be in the array */
	size_t at;
	int r = bale_fsck_inode_push(f, &copy);

	if (r)
		return r;
	for (at = f->nr_inodes - 1; at && f->inodes[at - 1].ino > copy.ino;
	     at--)
		f->inodes[at] = f->inodes[at - 1];
	f->inodes[at] = copy;
	return 0;
}

int bale_fsck_extent_push(struct bale_fsck *f, const struct bale_fsck_extent *e)
{
	int r = grow(&f->extents, f->nr_extents, &f->cap_extents, sizeof(*e));

	if (!r)
		f->extents[f->nr_extents++] = *e;
	return r;
}

struct bale_fsck_segment *bale_fsck_segment(struct bale_fsck *f,
					    uint64_t segment)
{
	struct bale_fsck_segment *s;
	size_t lo = 0, hi = f->nr_segments;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->segments[mid].segment < segment)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < f->nr_segments && f->segments[lo].segment == segment)
		return &f->segments[lo];
	if (grow(&f->segments, f->nr_segments, &f->cap_segments, sizeof(*s)))
		return NULL;
	s = &f->segments[lo];
	memmove(s + 1, s, (f->nr_segments - lo) * sizeof(*s));
	f->nr_segments++;
	*s = (struct bale_fsck_segment){ .segment = segment };
	return s;
}

void bale_fsck_fini(struct bale_fsck *f)
{
	for (size_t k = 0; k < f->nr_txns; k++) {
		bale_txn_abort(f->txns[k]);
		free(f->txns[k]);
	}
	free(f->txns);
	free(f->inodes);
	free(f->extents);
	free(f->segments);
	free(f->bad_ckpts);
	free(f->damage);
}
