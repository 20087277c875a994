/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_state.c - the two sorted arrays: inodes and extents. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/fsck.h"

/* The first with that number or a higher one. */
static size_t inode_at(const struct bale_fsck_inode *inodes, size_t nr,
		       uint64_t ino)
{
	size_t lo = 0, hi = nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (inodes[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct bale_fsck_inode *bale_fsck_inode(struct bale_fsck *f, uint64_t ino)
{
	size_t at = inode_at(f->inodes, f->nr_inodes, ino);

	if (at < f->nr_inodes && f->inodes[at].ino == ino)
		return &f->inodes[at];
	at = inode_at(f->added, f->nr_added, ino);
	return at < f->nr_added && f->added[at].ino == ino ? &f->added[at] :
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
	int r;

	if (!f->nr_inodes || f->inodes[f->nr_inodes - 1].ino < copy.ino)
		return bale_fsck_inode_push(f, &copy);
	r = grow(&f->added, f->nr_added, &f->cap_added, sizeof(copy));
	if (r)
		return r;
	/* Passes find them in ascending order: nothing has to move. */
	at = inode_at(f->added, f->nr_added, copy.ino);
	memmove(&f->added[at + 1], &f->added[at],
		(f->nr_added - at) * sizeof(copy));
	f->added[at] = copy;
	f->nr_added++;
	return 0;
}

int bale_fsck_inode_merge(struct bale_fsck *f)
{
	size_t a = f->nr_inodes, b = f->nr_added, to = a + b;

	while (f->cap_inodes < to) {
		int r = grow(&f->inodes, f->cap_inodes, &f->cap_inodes,
			     sizeof(*f->inodes));

		if (r)
			return r;
	}
	f->nr_inodes = to;
	while (b) /* from the end: in place */
		f->inodes[--to] =
			a && f->inodes[a - 1].ino > f->added[b - 1].ino ?
				f->inodes[--a] :
				f->added[--b];
	f->nr_added = 0;
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
	free(f->added);
	free(f->extents);
	free(f->segments);
	free(f->bad_ckpts);
	free(f->damage);
}
