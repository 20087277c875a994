/* SPDX-License-Identifier: Apache-2.0 */
/* scrub.c - see scrub.h. */
#include "fs/inode/scrub.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/inode/file.h"

struct extent {
	uint64_t ino, no, id;
	struct bale_extent_row row;
};

/* One step: what the maps name, from a place on. A row of a map is never cut,
 * so there is room for one more than the step wants. */
struct pass {
	struct bale_fs *fs;
	struct bale_scrub_step *s;
	struct extent ext[2 * BALE_MAP_SLOTS];
	size_t nr;
	uint64_t bytes;
	bool more;
};

static void note_bad(struct bale_scrub_step *s, uint64_t ino, uint64_t no,
		     int err)
{
	if (s->nr_bad < BALE_SCRUB_BAD_MAX)
		s->bad[s->nr_bad++] = (struct bale_scrub_bad){ ino, no, err };
}

/* Is the slot of the map still the extent? What was replaced or removed since
 * is nobody's damage. */
static bool still_there(struct bale_fs *fs, const struct extent *e)
{
	be64 key[2] = { be64_put(e->ino), be64_put(e->no / BALE_MAP_SLOTS) };
	le64 ids[BALE_MAP_SLOTS];
	size_t len, slot = e->no % BALE_MAP_SLOTS;

	return !bale_meta_get(fs->meta, BALE_TABLE_map, key, sizeof(key), ids,
			      sizeof(ids), &len) &&
	       slot < len / sizeof(*ids) && le64_get(ids[slot]) == e->id;
}

/* ---- data ---- */

static int add_extent(struct pass *p, const struct extent *e)
{
	struct extent *x = &p->ext[p->nr];
	int r;

	*x = *e;
	r = bale_meta_extent(p->fs->meta, e->id, &x->row);
	if (!r && x->row.raw_len > p->fs->extent_size)
		r = -EUCLEAN;
	if (r == -ENOMEM)
		return r;
	if (r) {
		if (still_there(p->fs, e))
			note_bad(p->s, e->ino, e->no,
				 r == -ENOENT ? -EUCLEAN : r);
		return 0;
	}
	p->bytes += x->row.stored_len;
	p->nr++;
	return 0;
}

static int add_map(const void *key, size_t key_len, const void *val,
		   size_t val_len, void *arg)
{
	struct pass *p = arg;
	struct extent e;
	be64 k[2];
	int r = 0;

	if (key_len != sizeof(k))
		return -EUCLEAN;
	memcpy(k, key, sizeof(k));
	p->s->at.ino = be64_get(k[0]);
	p->s->at.group = be64_get(k[1]);
	if (p->nr >= BALE_MAP_SLOTS || p->bytes >= p->s->max_bytes ||
	    p->s->nr_bad >= BALE_MAP_SLOTS / 2) {
		p->more = true;
		return 1;
	}
	for (size_t n = 0; !r && n < val_len / sizeof(le64); n++) {
		le64 id;

		memcpy(&id, (const uint8_t *)val + n * sizeof(id), sizeof(id));
		e.id = le64_get(id);
		e.ino = p->s->at.ino;
		e.no = p->s->at.group * BALE_MAP_SLOTS + n;
		if (e.id)
			r = add_extent(p, &e);
	}
	p->s->at.group++;
	return r;
}

/* A second look: it may have moved, or changed, while it was read. */
static int look_again(struct pass *p, struct extent *e, void *stored)
{
	int r = bale_meta_extent(p->fs->meta, e->id, &e->row);

	if (!still_there(p->fs, e))
		return 0;
	return r ? r : bale_store_read(p->fs->store, &e->row, stored);
}

static int check_extent(struct pass *p, struct extent *e, void *stored,
			void *raw)
{
	struct bale_job j = { .op = BALE_JOB_DECODE };
	int r = bale_store_read(p->fs->store, &e->row, stored);

	for (int k = 0; r && k < 4; k++)
		r = look_again(p, e, stored);
	if (r || !p->s->decode)
		return r;
	j.codec = e->row.codec;
	j.filter = e->row.filter;
	j.level = e->row.level;
	j.src = stored;
	j.src_len = e->row.stored_len;
	j.dst = raw;
	j.dst_cap = e->row.raw_len;
	bale_codec_run(&j);
	return j.status;
}

static int by_place(const void *a, const void *b)
{
	const struct bale_extent_row *x = &((const struct extent *)a)->row;
	const struct bale_extent_row *y = &((const struct extent *)b)->row;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int check_extents(struct pass *p)
{
	size_t cap = bale_codec_bound(p->fs->extent_size);
	bale_autofree void *stored = malloc(cap), *raw = NULL;
	int r = 0;

	if (p->s->decode)
		raw = malloc(p->fs->extent_size);
	if (!stored || (p->s->decode && !raw))
		return -ENOMEM;
	qsort(p->ext, p->nr, sizeof(p->ext[0]), by_place);
	for (size_t k = 0; k < p->nr && !r; k++) {
		struct extent *e = &p->ext[k];
		int err = e->row.stored_len > cap ?
				  -EUCLEAN :
				  check_extent(p, e, stored, raw);

		if (err == -ENOMEM)
			r = err;
		else if (err)
			note_bad(p->s, e->ino, e->no, err);
		p->s->extents++;
		p->s->stored += e->row.stored_len;
		p->s->raw += e->row.raw_len;
	}
	return r;
}

static int scrub_data(struct bale_fs *fs, struct bale_scrub_step *s)
{
	bale_autofree struct pass *p = calloc(1, sizeof(*p));
	be64 from[2] = { be64_put(s->at.ino), be64_put(s->at.group) };
	int r;

	if (!p)
		return -ENOMEM;
	p->fs = fs;
	p->s = s;
	r = bale_meta_scan(fs->meta, BALE_TABLE_map, from, sizeof(from), 0,
			   add_map, p);
	if (r < 0)
		return r;
	if (!p->more)
		s->at = (struct bale_scrub_place){ BALE_SCRUB_DONE, 0, 0 };
	return p->nr ? check_extents(p) : 0;
}

/* ---- inline content ---- */

static int check_inline(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg)
{
	bale_autofree void *raw = NULL;
	struct pass *p = arg;
	struct bale_disk_inline d;
	struct bale_job j = { .op = BALE_JOB_DECODE };
	be64 k;

	if (key_len != sizeof(k) || val_len < sizeof(d))
		return -EUCLEAN;
	memcpy(&k, key, sizeof(k));
	memcpy(&d, val, sizeof(d));
	p->s->at.ino = be64_get(k);
	if (p->s->extents >= 4096 || p->s->nr_bad == BALE_SCRUB_BAD_MAX) {
		p->more = true;
		return 1;
	}
	p->s->extents++;
	p->s->stored += val_len - sizeof(d);
	p->s->raw += le32_get(d.raw_len);
	j.status = -EUCLEAN;
	if (le32_get(d.raw_len) <= p->fs->extent_size) {
		raw = malloc(le32_get(d.raw_len) + 1);
		if (!raw)
			return -ENOMEM;
		j.codec = d.codec;
		j.filter = d.filter;
		j.src = (const uint8_t *)val + sizeof(d);
		j.src_len = val_len - sizeof(d);
		j.dst = raw;
		j.dst_cap = le32_get(d.raw_len);
		bale_codec_run(&j);
	}
	if (j.status)
		note_bad(p->s, p->s->at.ino, 0, j.status);
	return 0;
}

static int scrub_inline(struct bale_fs *fs, struct bale_scrub_step *s)
{
	bale_autofree struct pass *p = calloc(1, sizeof(*p));
	be64 from = be64_put(s->at.ino);
	int r;

	if (!p)
		return -ENOMEM;
	p->fs = fs;
	p->s = s;
	r = bale_meta_scan(fs->meta, BALE_TABLE_inline, &from, sizeof(from), 0,
			   check_inline, p);
	if (r < 0)
		return r;
	if (!p->more)
		s->at = (struct bale_scrub_place){ BALE_SCRUB_DATA, 0, 0 };
	return 0;
}

int bale_fs_scrub(struct bale_fs *fs, struct bale_scrub_step *s)
{
	int r = 0;

	BALE_FAULT_POINT("scrub.step");
	s->extents = s->stored = s->raw = 0;
	s->nr_bad = 0;
	switch (s->at.phase) {
	case BALE_SCRUB_INDEX:
		s->at = (struct bale_scrub_place){ BALE_SCRUB_INLINE, 0, 0 };
		r = bale_meta_verify(fs->meta);
		break;
	case BALE_SCRUB_INLINE:
		r = scrub_inline(fs, s);
		break;
	case BALE_SCRUB_DATA:
		r = scrub_data(fs, s);
		break;
	default:
		s->at.phase = BALE_SCRUB_DONE;
		break;
	}
	return r;
}

static_assert(sizeof(((struct bale_ioc_scrub *)0)->bad) ==
		      (size_t)BALE_SCRUB_BAD_MAX * 24,
	      "bale_ioc_scrub bad");

int bale_fs_scrub_ioc(struct bale_fs *fs, struct bale_ioc_scrub *x,
		      uint64_t max_bytes)
{
	struct bale_scrub_step s = {
		.at = { x->phase, x->place[0], x->place[1] },
		.max_bytes = x->bytes < max_bytes ? x->bytes : max_bytes,
		.decode = x->decode,
	};
	int r = bale_fs_scrub(fs, &s);

	x->index_error = 0;
	if (r == -EUCLEAN && x->phase == BALE_SCRUB_INDEX) {
		x->index_error = EUCLEAN;
		r = 0;
	}
	x->extent_size = (uint32_t)1
			 << bale_store_super(bale_fs_store(fs))->extent_bits;
	x->phase = s.at.phase;
	x->place[0] = s.at.ino;
	x->place[1] = s.at.group;
	x->extents = s.extents;
	x->stored = s.stored;
	x->raw = s.raw;
	x->nr_bad = s.nr_bad;
	for (unsigned int k = 0; k < s.nr_bad; k++) {
		x->bad[k].ino = s.bad[k].ino;
		x->bad[k].extent_no = s.bad[k].extent_no;
		x->bad[k].error = (uint32_t)-s.bad[k].error;
	}
	return r;
}
