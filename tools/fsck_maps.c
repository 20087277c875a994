/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_maps.c - extent maps: every id exists and is counted, every map has a
 * regular file. A map whose inode is gone gets a new inode, so that content
 * is never thrown away because its inode row was.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

/* Rows of one inode come together. */
struct maps {
	struct bale_fsck *f;
	uint64_t ino;
	uint64_t stored, end; /* end: of the last extent, in the file */
	bool any;	      /* a row was seen */
};

static int finish_inode(struct maps *m)
{
	struct bale_fsck *f = m->f;
	struct bale_fsck_inode *i;
	int r;

	if (!m->any)
		return 0;
	i = bale_fsck_inode(f, m->ino);
	if (!i) {
		if (!bale_fsck_problem(f, BALE_FSCK_inode_lost,
				       "inode %" PRIu64
				       " is missing, its content is there",
				       m->ino))
			return 0;
		r = bale_fsck_make_inode(f, m->ino, S_IFREG | 0600, m->end, 0);
		if (r)
			return r;
		i = bale_fsck_inode(f, m->ino);
	}
	i->stored += m->stored;
	i->state |= BALE_FSCK_HAS_MAP;
	return 0;
}

static void count_slot(struct maps *m, uint64_t extent_no, uint64_t id)
{
	struct bale_fsck *f = m->f;
	struct bale_fsck_extent *e = bale_fsck_extent(f, id);

	if (!e) {
		bale_fsck_problem(f, BALE_FSCK_extent_missing,
				  "inode %" PRIu64 ", byte %" PRIu64
				  ": extent %" PRIu64 " does not exist",
				  m->ino, extent_no << f->super.extent_bits,
				  id);
		bale_fsck_damage_add(f, m->ino, extent_no);
		return;
	}
	if (e->seen != UINT32_MAX)
		e->seen++;
	m->stored += e->stored_len;
	m->end = (extent_no << f->super.extent_bits) + e->raw_len;
}

static int drop_row(struct maps *m, const void *key, size_t key_len)
{
	struct bale_txn *t = bale_fsck_txn(m->f);

	if (!t)
		return -ENOMEM;
	bale_txn_del(t, BALE_TABLE_map, key, key_len);
	return 0;
}

static int check_map(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct maps *m = arg;
	struct bale_fsck_inode *i;
	be64 k[2];
	int r = bale_fsck_step(m->f);

	if (r)
		return r;
	if (bale_row_check(BALE_TABLE_map, key, key_len, val, val_len)) {
		bale_fsck_problem(m->f, BALE_FSCK_row,
				  "map row of %zu bytes: damaged", val_len);
		return 0;
	}
	memcpy(k, key, sizeof(k));
	if (!m->any || be64_get(k[0]) != m->ino) {
		r = finish_inode(m);
		if (r)
			return r;
		m->any = true;
		m->ino = be64_get(k[0]);
		m->stored = m->end = 0;
	}
	i = bale_fsck_inode(m->f, m->ino);
	/* While it stays, what it names is in use. */
	if (i && i->type != DT_REG &&
	    bale_fsck_problem(m->f, BALE_FSCK_map,
			      "inode %" PRIu64 " is no regular file and has an "
			      "extent map",
			      m->ino))
		return drop_row(m, key, key_len);
	for (size_t n = 0; n < val_len / 8; n++) {
		le64 id;

		memcpy(&id, (const uint8_t *)val + n * 8, 8);
		if (le64_get(id))
			count_slot(m, be64_get(k[1]) * BALE_MAP_SLOTS + n,
				   le64_get(id));
	}
	return 0;
}

int bale_fsck_maps(struct bale_fsck *f)
{
	struct maps m = { .f = f };
	struct bale_meta_stats s;
	int r;

	bale_meta_stats(f->m, &s);
	bale_fsck_phase(f, "extent maps", s.rows[BALE_TABLE_map]);
	r = bale_fsck_scan(f, BALE_TABLE_map, check_map, &m);
	if (!r)
		r = finish_inode(&m);
	return r ? r : bale_fsck_commit(f);
}
