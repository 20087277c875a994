/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_state.c - the sorted arrays of inodes and extents, and the segments. */
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

/* A hash: rows of a forged store may name any of 2^32, in any order. */
static struct bale_fsck_segment *segment_slot(struct bale_fsck_segment *slots,
					      size_t cap, uint64_t segment)
{
	uint64_t h = segment * 0x9e3779b97f4a7c15u;
	size_t k = (size_t)(h >> 32) & (cap - 1);

	while (slots[k].used && slots[k].segment != segment)
		k = (k + 1) & (cap - 1);
	return &slots[k];
}

static int grow_segments(struct bale_fsck *f)
{
	size_t cap = f->cap_segments ? 2 * f->cap_segments : 1024;
	struct bale_fsck_segment *slots = calloc(cap, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t k = 0; k < f->cap_segments; k++)
		if (f->segments[k].used)
			*segment_slot(slots, cap, f->segments[k].segment) =
				f->segments[k];
	free(f->segments);
	f->segments = slots;
	f->cap_segments = cap;
	return 0;
}

struct bale_fsck_segment *bale_fsck_segment(struct bale_fsck *f,
					    uint64_t segment)
{
	struct bale_fsck_segment *s;

	if (2 * (f->nr_segments + 1) > f->cap_segments && grow_segments(f))
		return NULL;
	s = segment_slot(f->segments, f->cap_segments, segment);
	if (!s->used) {
		*s = (struct bale_fsck_segment){ .segment = segment,
						 .used = true };
		f->nr_segments++;
	}
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
