/* SPDX-License-Identifier: Apache-2.0 */
/* recompress.c - a file's extents coded again with another policy. */
#include <errno.h>
#include <unistd.h>

#include "fs/base/fault.h"
#include "fs/base/clock.h"
#include "fs/inode/file.h"

enum {
	/* Extents coded under the lock at a time: writers wait for them. */
	CHUNK_MIN = 8,
	CHUNK_MAX = 256,
	HOLD_NS = 50000000,
	GAP_US = 200, /* for those who wait to get the lock */
};

/* Stored as the policy would: not worth the work. */
static bool is_there(const struct bale_extent_row *row,
		     struct bale_codec_policy p)
{
	if (row->codec == BALE_CODEC_fill)
		return true;
	if (p.codec == BALE_CODEC_auto)
		return row->codec != BALE_CODEC_raw ||
		       row->reason != BALE_RAW_policy;
	if (row->codec != p.codec || row->filter != p.filter)
		return false;
	return !p.level || row->level == p.level;
}

/* -ENOENT: none of [*no, ...) is stored. */
static int mark_chunk(struct bale_inode *i, struct bale_codec_policy p,
		      unsigned int chunk, uint64_t *no)
{
	uint64_t end = bale_ext_count(i->fs, i->row.size);
	unsigned int marked = 0;
	struct bale_extent_row row;
	uint64_t id, group;
	int r = 0;

	while (!r && *no < end && marked < chunk) {
		r = bale_map_get(i, *no, &id);
		if (!r && !id) {
			if (*no % BALE_MAP_SLOTS == 0 &&
			    !bale_map_next(i, *no / BALE_MAP_SLOTS, &group) &&
			    group * BALE_MAP_SLOTS > *no)
				*no = group * BALE_MAP_SLOTS;
			else
				++*no;
			continue;
		}
		if (!r)
			r = bale_meta_extent(i->fs->meta, id, &row);
		if (!r && !is_there(&row, p)) {
			r = bale_ext_rewrite_locked(i, *no);
			marked++;
		}
		++*no;
	}
	return r;
}

/* As many as are coded in HOLD_NS: few by slow codecs on few cores. */
static unsigned int next_chunk(unsigned int chunk, uint64_t ns)
{
	if (ns > HOLD_NS && chunk > CHUNK_MIN)
		return chunk / 2;
	return ns < HOLD_NS / 2 && chunk < CHUNK_MAX ? chunk * 2 : chunk;
}

int bale_file_recompress(struct bale_inode *i, struct bale_codec_policy p,
			 uint64_t *ret_before, uint64_t *ret_after)
{
	struct bale_file_data *d;
	unsigned int chunk = CHUNK_MIN;
	uint64_t no = 0, start;
	int r = bale_file_writable(i->fs);
	bool more = true;

	if (!r)
		r = bale_flush_inode(i);
	if (r)
		return r;
	bale_rwlock_wrlock(&i->lock);
	r = bale_file_data_get(i, &d);
	*ret_before = *ret_after = i->row.stored;
	bale_rwlock_unlock(&i->lock);
	while (!r && more) {
		r = bale_flush_throttle(i->fs);
		if (r)
			break;
		bale_rwlock_wrlock(&i->lock);
		start = bale_now_ns();
		d->recode = true;
		d->recode_policy = p;
		r = mark_chunk(i, p, chunk, &no);
		more = no < bale_ext_count(i->fs, i->row.size);
		BALE_FAULT_POINT("recompress.marked");
		if (!r)
			r = bale_flush_inode_locked(i);
		d->recode = false;
		*ret_after = i->row.stored;
		chunk = next_chunk(chunk, bale_now_ns() - start);
		bale_rwlock_unlock(&i->lock);
		if (more)
			usleep(GAP_US);
	}
	return r;
}
