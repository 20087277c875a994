/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_load.c - the first pass: every inode and extent row into the arrays,
 * orphan rows onto their inodes, and the counters that hand out numbers.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

static uint64_t key_u64(const void *key)
{
	be64 k;

	memcpy(&k, key, sizeof(k));
	return be64_get(k);
}

static int load_inode(const void *key, size_t key_len, const void *val,
		      size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_fsck_inode i = { 0 };
	struct bale_inode_row row;
	int r = bale_fsck_step(f);

	if (r)
		return r;
	if (bale_row_check(BALE_TABLE_inode, key, key_len, val, val_len) ||
	    bale_inode_decode(val, val_len, &row)) {
		bale_fsck_problem(f, BALE_FSCK_row,
				  "inode row of %zu bytes: damaged", val_len);
		return 0;
	}
	i.ino = key_u64(key);
	i.type = (uint8_t)(row.mode >> 12 & 15);
	if (i.ino > f->max_ino)
		f->max_ino = i.ino;
	return bale_fsck_inode_push(f, &i);
}

static int load_orphan(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_fsck_inode *i;
	struct bale_txn *t;
	int r = bale_fsck_step(f);
	le64 reason;

	if (r)
		return r;
	if (bale_row_check(BALE_TABLE_orphan, key, key_len, val, val_len)) {
		bale_fsck_problem(f, BALE_FSCK_row,
				  "orphan row of %zu bytes: damaged", val_len);
		return 0;
	}
	i = bale_fsck_inode(f, key_u64(key));
	if (i) {
		memcpy(&reason, val, sizeof(reason));
		/* 1: deleted while open, 2: being truncated */
		i->state |= le64_get(reason) == 2 ? BALE_FSCK_HAS_TRUNCATE :
						    BALE_FSCK_HAS_ORPHAN;
		return 0;
	}
	if (!bale_fsck_problem(f, BALE_FSCK_orphan,
			       "orphan list: inode %" PRIu64 " does not exist",
			       key_u64(key)))
		return 0;
	t = bale_fsck_txn(f);
	if (!t)
		return -ENOMEM;
	bale_txn_del(t, BALE_TABLE_orphan, key, key_len);
	return 0;
}

static int account_segment(struct bale_fsck *f,
			   const struct bale_extent_row *row)
{
	struct bale_fsck_segment *s = bale_fsck_segment(f, row->segment);
	uint64_t end = (uint64_t)row->offset + row->stored_len;

	if (!s)
		return -ENOMEM;
	s->live += row->stored_len;
	if (end > s->end)
		s->end = end;
	return 0;
}

static int load_extent(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_fsck_extent e = { 0 };
	struct bale_extent_row row;
	int r = bale_fsck_step(f);

	if (r)
		return r;
	if (bale_row_check(BALE_TABLE_extent, key, key_len, val, val_len) ||
	    bale_extent_decode(val, val_len, &row)) {
		bale_fsck_problem(f, BALE_FSCK_row,
				  "extent row of %zu bytes: damaged", val_len);
		return 0;
	}
	e.id = key_u64(key);
	e.stored_len = row.stored_len;
	e.raw_len = row.raw_len & 0xffffff;
	e.refs = row.refs;
	if (e.id > f->max_extent)
		f->max_extent = e.id;
	if (row.raw_len > 1u << f->super.extent_bits ||
	    (uint64_t)row.offset + row.stored_len >
		    (uint64_t)1 << f->super.segment_bits) {
		bale_fsck_problem(f, BALE_FSCK_data,
				  "extent %" PRIu64
				  ": %u bytes at %u of segment "
				  "%u, %u decoded: out of bounds",
				  e.id, row.stored_len, row.offset, row.segment,
				  row.raw_len);
		e.state = BALE_FSCK_BAD;
	}
	r = account_segment(f, &row);
	return r ? r : bale_fsck_extent_push(f, &e);
}

static int scan(struct bale_fsck *f, enum bale_table table, bale_row_fn *fn)
{
	struct bale_meta_stats s;
	int r;

	bale_meta_stats(f->m, &s);
	bale_fsck_phase(f, bale_table_name(table), s.rows[table]);
	r = bale_fsck_scan(f, table, fn, f);
	if (r && r != -ECANCELED)
		bale_cmd_error("%s: table %s: %s", f->path,
			       bale_table_name(table), strerror(-r));
	return r;
}

static int check_root(struct bale_fsck *f)
{
	struct bale_fsck_inode *root = bale_fsck_inode(f, BALE_ROOT_INO);

	if (root && root->type == DT_DIR)
		return 0;
	bale_cmd_error("%s: inode 1 is not a directory; --salvage gets the "
		       "files out",
		       f->path);
	return -EUCLEAN;
}

/* ---- counters ---- */

/* A number given out twice would join two files. */
static int check_counter(struct bale_fsck *f, const char *name, uint64_t max)
{
	struct bale_txn *t;
	uint64_t next = 0;
	size_t len = 0;
	le64 v;
	int r = bale_meta_get(f->m, BALE_TABLE_meta, name, strlen(name), &v,
			      sizeof(v), &len);

	if (!r && len == sizeof(v))
		next = le64_get(v);
	else if (r && r != -ENOENT)
		return r;
	if (max < next || (!max && r == -ENOENT))
		return 0;
	if (!bale_fsck_problem(f, BALE_FSCK_counter,
			       "counter %s is %" PRIu64 ", already given out "
			       "up to %" PRIu64,
			       name, next, max))
		return 0;
	t = bale_fsck_txn(f);
	if (!t)
		return -ENOMEM;
	v = le64_put(max + 1);
	bale_txn_put(t, BALE_TABLE_meta, name, strlen(name), &v, sizeof(v));
	f->want_reopen = true;
	return 0;
}

static int check_counters(struct bale_fsck *f)
{
	uint64_t max_ino = f->max_ino < BALE_FIRST_INO ? 0 : f->max_ino;
	int r = check_counter(f, "next_ino", max_ino);

	if (!r)
		r = check_counter(f, "next_extent", f->max_extent);
	if (!r)
		r = bale_fsck_commit(f);
	/* An open store gives numbers out of what it read when it opened. */
	if (!r && f->want_reopen)
		r = bale_fsck_reopen(f);
	return r;
}

int bale_fsck_load(struct bale_fsck *f)
{
	int r = scan(f, BALE_TABLE_inode, load_inode);

	if (!r)
		r = check_root(f);
	if (!r)
		r = scan(f, BALE_TABLE_orphan, load_orphan);
	if (!r)
		r = scan(f, BALE_TABLE_extent, load_extent);
	if (!r)
		r = bale_fsck_commit(f);
	return r ? r : check_counters(f);
}
