/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_segments.c - segments against the extent table: what a bale says about
 * itself agrees with the row of every extent that lives there, and the bytes
 * a segment is said to hold alive are those of its extents.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

static bool same_extent(const struct bale_disk_bale_extent *d,
			const struct bale_extent_row *row)
{
	return le32_get(d->raw_len) == row->raw_len &&
	       le32_get(d->stored_len) == row->stored_len &&
	       le32_get(d->crc) == row->crc && d->codec == row->codec &&
	       d->filter == row->filter;
}

static int check_bale(const struct bale_bale_info *info,
		      const struct bale_disk_bale_extent *desc,
		      uint64_t payload_off, void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_extent_row row;
	int r = bale_fsck_step(f);

	for (uint32_t k = 0; k < info->nr_extents && !r; k++) {
		uint64_t id = le64_get(desc[k].id), off = payload_off;
		struct bale_fsck_extent *e = bale_fsck_extent(f, id);

		payload_off += le32_get(desc[k].stored_len);
		if (!e || bale_meta_extent(f->m, id, &row) ||
		    row.segment != info->segment || row.offset != off)
			continue; /* dead, or moved since */
		if (same_extent(&desc[k], &row))
			e->state |= BALE_FSCK_PLACED;
	}
	return r;
}

static int scan_segment(uint64_t segment, uint64_t used, uint64_t live,
			void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_fsck_segment *s = bale_fsck_segment(f, segment);
	int r;

	(void)live;
	if (!s)
		return -ENOMEM;
	if (!s->live)
		return 0;
	if (s->end > used)
		bale_fsck_problem(f, BALE_FSCK_data,
				  "segment %" PRIu64 ": extents up to %" PRIu64
				  ", only %" PRIu64 " bytes are used",
				  segment, s->end, used);
	r = bale_store_scan_segment(f->st, segment, check_bale, f);
	if (r == -ENOENT || r == -EIO) /* its extents are told below */
		return bale_fsck_cancelled() ? -ECANCELED : 0;
	return r;
}

/* ---- extents that no bale describes ---- */

/* Who uses an extent, for the new bale. Slots: ids wanted, ascending. */
static int move_extent(struct bale_fsck *f, uint64_t id, uint64_t ino,
		       uint64_t extent_no, const struct bale_extent_row *row,
		       void *stored)
{
	struct bale_extent_in in = { .id = id,
				     .ino = ino,
				     .extent_no = extent_no,
				     .raw_len = row->raw_len,
				     .codec = row->codec,
				     .filter = row->filter,
				     .level = row->level,
				     .reason = row->reason,
				     .stored = stored,
				     .stored_len = row->stored_len };
	struct bale_extent_row to;
	struct bale_txn *t = bale_fsck_txn(f);
	int r = t ? bale_store_append(f->st, &in, 1, &to) : -ENOMEM;

	if (!r)
		bale_txn_extent_move(t, id, row, &to);
	return r;
}

static int place_extent(struct bale_fsck *f, struct bale_fsck_extent *e,
			uint64_t ino, uint64_t extent_no)
{
	bale_autofree void *stored = malloc(e->stored_len ? e->stored_len : 1);
	struct bale_extent_row row;
	int r = bale_meta_extent(f->m, e->id, &row);

	if (r || !stored)
		return r ? r : -ENOMEM;
	e->state |= BALE_FSCK_PLACED; /* once */
	bale_log_quiet(true);
	r = bale_store_read(f->st, &row, stored);
	bale_log_quiet(false);
	if (r) {
		bale_fsck_problem(f, BALE_FSCK_data,
				  "extent %" PRIu64 " (segment %u, byte %u): "
				  "damaged",
				  e->id, row.segment, row.offset);
		e->state |= BALE_FSCK_BAD;
		return 0;
	}
	if (!bale_fsck_problem(f, BALE_FSCK_extent_place,
			       "extent %" PRIu64 " (segment %u, byte %u): its "
			       "bale's description is damaged, its bytes are "
			       "good",
			       e->id, row.segment, row.offset))
		return 0;
	return move_extent(f, e->id, ino, extent_no, &row, stored);
}

static int place_map(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	be64 k[2];
	int r = bale_fsck_step(f);

	if (r || bale_row_check(BALE_TABLE_map, key, key_len, val, val_len))
		return r;
	memcpy(k, key, sizeof(k));
	for (size_t n = 0; n < val_len / 8 && !r; n++) {
		struct bale_fsck_extent *e;
		le64 id;

		memcpy(&id, (const uint8_t *)val + n * 8, 8);
		e = bale_fsck_extent(f, le64_get(id));
		if (e && !(e->state & (BALE_FSCK_PLACED | BALE_FSCK_BAD)))
			r = place_extent(f, e, be64_get(k[0]),
					 be64_get(k[1]) * BALE_MAP_SLOTS + n);
	}
	return r;
}

static int place_rest(struct bale_fsck *f)
{
	uint64_t missing = 0;

	for (size_t k = 0; k < f->nr_extents; k++)
		missing += f->extents[k].seen &&
			   !(f->extents[k].state &
			     (BALE_FSCK_PLACED | BALE_FSCK_BAD));
	if (!missing)
		return 0;
	bale_fsck_phase(f, "undescribed extents", 0);
	return bale_fsck_scan(f, BALE_TABLE_map, place_map, f);
}

/* ---- usage ---- */

static int sum_extent(const void *key, size_t key_len, const void *val,
		      size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_fsck_segment *s;
	struct bale_extent_row row;

	(void)key;
	(void)key_len;
	if (bale_extent_decode(val, val_len, &row))
		return 0;
	s = bale_fsck_segment(f, row.segment);
	if (!s)
		return -ENOMEM;
	s->live += row.stored_len;
	return bale_fsck_step(f);
}

static int check_usage(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_fsck_segment *s;
	struct bale_disk_segment d;
	struct bale_txn *t;
	be64 k;

	if (bale_row_check(BALE_TABLE_segment, key, key_len, val, val_len)) {
		bale_fsck_problem(f, BALE_FSCK_row,
				  "segment row of %zu bytes: damaged", val_len);
		return 0;
	}
	memcpy(&k, key, sizeof(k));
	memcpy(&d, val, sizeof(d));
	s = bale_fsck_segment(f, be64_get(k));
	if (!s)
		return -ENOMEM;
	if (s->live == le64_get(d.live))
		return 0;
	if (!bale_fsck_problem(f, BALE_FSCK_segment,
			       "segment %" PRIu64 ": %" PRIu64
			       " bytes alive, should be %" PRIu64,
			       s->segment, le64_get(d.live), s->live))
		return 0;
	t = bale_fsck_txn(f);
	if (!t)
		return -ENOMEM;
	d.live = le64_put(s->live);
	bale_txn_put(t, BALE_TABLE_segment, key, key_len, &d, sizeof(d));
	return 0;
}

/* After every other repair, for those change what is alive. */
static int check_all_usage(struct bale_fsck *f)
{
	int r = f->preen || f->yes ? bale_meta_sync(f->m, 0) : 0;

	for (size_t k = 0; k < f->cap_segments; k++)
		f->segments[k].live = 0;
	bale_fsck_phase(f, "segment usage", f->nr_extents);
	if (!r)
		r = bale_fsck_scan(f, BALE_TABLE_extent, sum_extent, f);
	if (!r)
		r = bale_fsck_scan(f, BALE_TABLE_segment, check_usage, f);
	return r ? r : bale_fsck_commit(f);
}

int bale_fsck_segments(struct bale_fsck *f)
{
	int r;

	bale_fsck_phase(f, "segments", 0);
	r = bale_store_for_segments(f->st, scan_segment, f);
	if (!r)
		r = place_rest(f);
	if (!r)
		r = bale_fsck_commit(f);
	return r ? r : check_all_usage(f);
}
