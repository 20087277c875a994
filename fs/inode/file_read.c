/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "fs/inode/file.h"

static void add_iov(struct bale_read *r, const void *p, size_t len)
{
	struct iovec *last = r->nr_iov ? &r->iov[r->nr_iov - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == p) {
		last->iov_len += len;
	} else {
		r->iov[r->nr_iov].iov_base = (void *)p;
		r->iov[r->nr_iov++].iov_len = len;
	}
	r->len += len;
}

/* [off, off + len) of an extent: its content as far as it goes, then zeros. */
static void add_pinned(struct bale_fs *fs, struct bale_read *r,
		       struct bale_cbuf *buf, uint32_t have, uint32_t off,
		       uint32_t len)
{
	uint32_t n = 0;

	if (off < have) {
		n = have - off < len ? have - off : len;
		add_iov(r, buf->data + off, n);
		r->pins[r->nr_pins++] = buf;
	} else {
		bale_cbuf_put(buf);
	}
	if (n < len)
		add_iov(r, fs->zeros, len - n);
}

static int pin_loaded(struct bale_inode *i, uint64_t no,
		      struct bale_cbuf **ret_buf, uint32_t *ret_len)
{
	struct bale_cache *c = i->fs->cache;
	struct bale_ext *e;
	int r = bale_ext_load(i, no, &e);

	if (r)
		return r;
	/* Ours keeps it in the cache; the lock keeps its content. */
	bale_cbuf_ref(e->buf);
	*ret_buf = e->buf;
	*ret_len = e->len;
	bale_ext_put(c, e);
	return 0;
}

/* Room for one more extent: itself and its zero tail. */
static bool has_room(const struct bale_read *r)
{
	return r->nr_iov + 2 <= sizeof(r->iov) / sizeof(r->iov[0]) &&
	       r->nr_pins < sizeof(r->pins) / sizeof(r->pins[0]);
}

static int read_extent(struct bale_inode *i, struct bale_read *ret,
		       uint64_t no, uint32_t off, uint32_t len,
		       uint64_t last_no, bool *loaded)
{
	struct bale_fs *fs = i->fs;
	struct bale_cbuf *buf;
	uint32_t have;
	int r = bale_cache_pin(fs->cache, i->ino, no, *loaded, &buf, &have);

	if (r == -ENOENT && !*loaded) {
		/* The first miss loads all that follow in one batch. */
		bale_ext_load_range(i, no, (unsigned int)(last_no - no + 1));
		*loaded = true;
		r = bale_cache_pin(fs->cache, i->ino, no, true, &buf, &have);
	} else if (r == -EINPROGRESS) {
		r = bale_cache_pin(fs->cache, i->ino, no, true, &buf, &have);
	}
	if (r == -ENOENT && bale_ext_is_hole(i, no)) {
		add_iov(ret, fs->zeros, len);
		return 0;
	}
	if (r == -ENOENT || r == -ENOMEM)
		r = pin_loaded(i, no, &buf, &have);
	if (!r)
		add_pinned(fs, ret, buf, have, off, len);
	return r;
}

/*
 * All or an error. The kernel takes a short answer for the end of what is
 * stored and fills its pages with zeros; after an error it asks for them one by
 * one, and gets all but the damaged ones.
 */
static int read_locked(struct bale_inode *i, uint64_t off, size_t len,
		       struct bale_read *ret)
{
	struct bale_fs *fs = i->fs;
	uint64_t last_no = bale_ext_no(fs, off + len - 1);
	bool loaded = false;
	int r = 0;

	while (!r && len && has_room(ret)) {
		uint32_t at = (uint32_t)(off & (fs->extent_size - 1));
		uint32_t n = (uint32_t)(fs->extent_size - at);

		n = n < len ? n : (uint32_t)len;
		r = read_extent(i, ret, bale_ext_no(fs, off), at, n, last_no,
				&loaded);
		off += n;
		len -= n;
	}
	return r;
}

int bale_file_read(struct bale_inode *i, uint64_t off, size_t len,
		   struct bale_read *ret)
{
	bool due = false;
	int r = 0;

	ret->nr_iov = 0;
	ret->nr_pins = 0;
	ret->len = 0;
	bale_rwlock_rdlock(&i->lock);
	if (off < i->row.size && len) {
		if (len > i->row.size - off)
			len = i->row.size - off;
		bale_readahead_note(i, off, len);
		r = read_locked(i, off, len, ret);
		due = !r && bale_inode_atime_due(i);
	}
	bale_rwlock_unlock(&i->lock);
	if (r)
		bale_file_read_done(ret);
	if (due)
		bale_inode_accessed(i);
	return r;
}

void bale_file_read_done(struct bale_read *r)
{
	for (unsigned int k = 0; k < r->nr_pins; k++)
		bale_cbuf_put(r->pins[k]);
	r->nr_pins = 0;
	r->nr_iov = 0;
	r->len = 0;
}
