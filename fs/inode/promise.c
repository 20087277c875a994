/* SPDX-License-Identifier: Apache-2.0 */
/*
 * promise.c - space that fallocate() sets aside, until each extent's first
 * write. Kept in memory: the store may be unmounted with promises open, and
 * then they end. A file with promises stays in memory for them.
 */
#include <errno.h>
#include <string.h>

#include "fs/inode/flush.h"

static uint32_t room_of_one(const struct bale_fs *fs)
{
	return bale_ext_need(fs, NULL, (uint32_t)fs->extent_size);
}

static bool is_in(const struct bale_promise *p, size_t nr, uint64_t no)
{
	size_t lo = 0, hi = nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (no < p[mid].first)
			hi = mid;
		else if (no >= p[mid].last)
			lo = mid + 1;
		else
			return true;
	}
	return false;
}

bool bale_promise_has(const struct bale_inode *i, uint64_t no)
{
	const struct bale_file_data *d = i->data;

	return d && is_in(d->promises, d->nr_promises, no);
}

/* The list's reference comes and goes with the first and the last promise;
 * the caller has another one. */
static void pin(struct bale_inode *i)
{
	struct bale_flush *fl = i->fs->flush;
	struct bale_file_data *d = i->data;
	bool in, want = d->promised > 0;

	bale_mutex_lock(&fl->lock);
	in = !bale_list_empty(&d->promised_link);
	if (want && !in) {
		bale_list_push_back(&fl->promised, &d->promised_link);
		bale_inode_ref(i);
	} else if (!want && in) {
		bale_list_del(&d->promised_link);
	}
	bale_mutex_unlock(&fl->lock);
	if (!want && in)
		bale_inode_put(i);
}

/* A copy of the ranges with one extent more, here and there. */
struct copy {
	struct bale_promise *p;
	size_t nr, cap;
	uint64_t added;
};

static int copy_grow(struct copy *c)
{
	struct bale_promise *p;

	if (c->nr < c->cap)
		return 0;
	p = realloc(c->p, (c->cap * 2 + 4) * sizeof(*p));
	if (!p)
		return -ENOMEM;
	c->p = p;
	c->cap = c->cap * 2 + 4;
	return 0;
}

static int copy_add(struct copy *c, uint64_t no)
{
	size_t at = c->nr;
	int r = copy_grow(c);

	if (r)
		return r;
	while (at && c->p[at - 1].first > no)
		at--;
	c->added++;
	if (at && c->p[at - 1].last == no) {
		c->p[at - 1].last++;
		return 0;
	}
	memmove(c->p + at + 1, c->p + at, (c->nr++ - at) * sizeof(*c->p));
	c->p[at] = (struct bale_promise){ no, no + 1 };
	return 0;
}

/* Nothing is there, or the end of the file is: not all of its bytes are. */
static bool wants_promise(struct bale_inode *i, uint64_t no)
{
	return !bale_ext_has_data(i, no) ||
	       bale_ext_in_file(i->fs, i->row.size, no) < i->fs->extent_size;
}

int bale_promise_make(struct bale_inode *i, uint64_t first, uint64_t last)
{
	struct bale_fs *fs = i->fs;
	struct bale_space_info info;
	struct bale_file_data *d;
	struct copy c = { 0 };
	int r = bale_file_data_get(i, &d);

	bale_space_info(fs->store, &info);
	for (size_t k = 0; !r && k < d->nr_promises; k++) {
		r = copy_grow(&c);
		if (!r)
			c.p[c.nr++] = d->promises[k];
	}
	for (uint64_t no = first; !r && no < last; no++) {
		if (is_in(c.p, c.nr, no) || !wants_promise(i, no))
			continue;
		r = c.added * fs->extent_size > info.free ? -ENOSPC :
							    copy_add(&c, no);
	}
	if (!r && c.added)
		r = bale_space_reserve(fs->store, c.added * room_of_one(fs));
	if (r || !c.added) {
		free(c.p);
		return r;
	}
	free(d->promises);
	d->promises = c.p;
	d->nr_promises = c.nr;
	d->cap_promises = c.cap;
	d->promised += c.added;
	pin(i);
	return 0;
}

/* [first, last) lies inside the range at `at`. Splitting it needs memory:
 * without, the range ends where the hole begins, and *ret_gone says so. */
static void cut(struct bale_file_data *d, size_t at, uint64_t first,
		uint64_t last, uint64_t *ret_gone)
{
	struct copy c = { d->promises, d->nr_promises, d->cap_promises, 0 };
	struct bale_promise *p = &d->promises[at];

	*ret_gone = last - first;
	if (p->first < first && p->last > last) {
		if (copy_grow(&c)) {
			*ret_gone = p->last - first;
			p->last = first;
			return;
		}
		p = c.p + at;
		memmove(p + 1, p, (c.nr++ - at) * sizeof(*p));
		p[0].last = first;
		p[1].first = last;
		d->promises = c.p;
		d->nr_promises = c.nr;
		d->cap_promises = c.cap;
	} else if (p->first < first) {
		p->last = first;
	} else if (p->last > last) {
		p->first = last;
	} else {
		memmove(p, p + 1, (--d->nr_promises - at) * sizeof(*p));
	}
}

uint32_t bale_promise_take(struct bale_inode *i, uint64_t no)
{
	struct bale_file_data *d = i->data;
	uint64_t gone, room = room_of_one(i->fs);

	for (size_t at = 0; d && at < d->nr_promises; at++) {
		if (no < d->promises[at].first || no >= d->promises[at].last)
			continue;
		cut(d, at, no, no + 1, &gone);
		d->promised -= gone;
		if (gone > 1)
			bale_space_release(i->fs->store, (gone - 1) * room);
		pin(i);
		return (uint32_t)room;
	}
	return 0;
}

void bale_promise_drop(struct bale_inode *i, uint64_t first, uint64_t last)
{
	struct bale_file_data *d = i->data;
	uint64_t all = 0, gone;

	for (size_t at = d ? d->nr_promises : 0; at--;) {
		uint64_t lo = d->promises[at].first, hi = d->promises[at].last;

		lo = lo > first ? lo : first;
		hi = hi < last ? hi : last;
		if (lo >= hi)
			continue;
		cut(d, at, lo, hi, &gone);
		all += gone;
	}
	if (!all)
		return;
	d->promised -= all;
	bale_space_release(i->fs->store, all * room_of_one(i->fs));
	pin(i);
}

void bale_promise_abandon(struct bale_fs *fs)
{
	struct bale_flush *fl = fs->flush;
	struct bale_inode *i;

	for (;;) {
		i = NULL;
		bale_mutex_lock(&fl->lock);
		if (!bale_list_empty(&fl->promised)) {
			i = BALE_CONTAINER(fl->promised.next,
					   struct bale_file_data, promised_link)
				    ->i;
			bale_inode_ref(i);
		}
		bale_mutex_unlock(&fl->lock);
		if (!i)
			return;
		bale_rwlock_wrlock(&i->lock);
		bale_promise_drop(i, 0, UINT64_MAX);
		bale_rwlock_unlock(&i->lock);
		bale_inode_put(i);
	}
}
