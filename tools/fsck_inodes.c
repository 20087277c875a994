/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_inodes.c - inode rows against what the other passes counted. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

/* One number of a row: told, and set when it is to be mended. */
static bool differs(struct bale_fsck *f, enum bale_fsck_kind kind, uint64_t ino,
		    const char *what, uint64_t is, uint64_t want)
{
	return is != want && bale_fsck_problem(f, kind,
					       "inode %" PRIu64 ": %s %" PRIu64
					       ", should be %" PRIu64,
					       ino, what, is, want);
}

static bool check_counts(struct bale_fsck *f, const struct bale_fsck_inode *i,
			 struct bale_inode_row *row)
{
	bool orphan = !i->links && i->state & BALE_FSCK_HAS_ORPHAN &&
		      i->ino != BALE_ROOT_INO;
	bool dir = i->type == DT_DIR, changed = false;
	uint32_t links = orphan ? 0 : dir ? 2 + i->subdirs : i->links;
	uint64_t parent = i->ino == BALE_ROOT_INO ? BALE_ROOT_INO : i->parent;

	/* Not reachable, and not mended: told already. */
	if (!i->links && !orphan && i->ino != BALE_ROOT_INO)
		return false;
	if (differs(f, BALE_FSCK_links, i->ino, "link count", row->nlink,
		    links)) {
		row->nlink = links;
		changed = true;
	}
	if (!dir)
		return changed;
	if (differs(f, BALE_FSCK_inode, i->ino, "number of entries",
		    row->nr_entries, i->entries)) {
		row->nr_entries = i->entries;
		changed = true;
	}
	if (!orphan && differs(f, BALE_FSCK_inode, i->ino, "parent directory",
			       row->parent, parent)) {
		row->parent = parent;
		changed = true;
	}
	return changed;
}

static bool check_content(struct bale_fsck *f, const struct bale_fsck_inode *i,
			  struct bale_inode_row *row)
{
	bool has_inline = i->state & BALE_FSCK_HAS_INLINE, changed = false;

	if (row->flags & BALE_INODE_HAS_INLINE && !has_inline && row->size) {
		bale_fsck_problem(f, BALE_FSCK_inline_data,
				  "inode %" PRIu64
				  ": its inline content is gone",
				  i->ino);
		bale_fsck_damage_add(f, i->ino, 0);
	} else if (!(row->flags & BALE_INODE_HAS_INLINE) && has_inline &&
		   bale_fsck_problem(f, BALE_FSCK_inode,
				     "inode %" PRIu64
				     ": inline content, but no flag for it",
				     i->ino)) {
		row->flags |= BALE_INODE_HAS_INLINE;
		changed = true;
	}
	if (!(row->flags & BALE_INODE_HAS_XATTR) &&
	    i->state & BALE_FSCK_HAS_XATTR &&
	    bale_fsck_problem(f, BALE_FSCK_inode,
			      "inode %" PRIu64
			      ": extended attributes, but no flag for them",
			      i->ino)) {
		row->flags |= BALE_INODE_HAS_XATTR;
		changed = true;
	}
	/* A symlink's target and a file whose extents are gone say nothing. */
	if (i->type == DT_REG && !(i->state & BALE_FSCK_DAMAGED) &&
	    differs(f, BALE_FSCK_inode, i->ino, "stored bytes", row->stored,
		    i->stored)) {
		row->stored = i->stored;
		changed = true;
	}
	return changed;
}

static int check_inode(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	struct bale_fsck_inode *i;
	struct bale_inode_row row;
	struct bale_txn *t;
	bool changed;
	be64 k;
	int r = bale_fsck_step(f);

	if (r)
		return r;
	if (bale_row_check(BALE_TABLE_inode, key, key_len, val, val_len) ||
	    bale_inode_decode(val, val_len, &row))
		return 0; /* told by the first pass */
	memcpy(&k, key, sizeof(k));
	i = bale_fsck_inode(f, be64_get(k));
	if (!i)
		return 0;
	changed = check_counts(f, i, &row);
	if (check_content(f, i, &row) || changed) {
		t = bale_fsck_txn(f);
		if (!t)
			return -ENOMEM;
		bale_fsck_put_inode(t, i->ino, &row);
	}
	return 0;
}

int bale_fsck_inodes(struct bale_fsck *f)
{
	int r;

	bale_fsck_phase(f, "inodes", f->nr_inodes);
	r = bale_fsck_scan(f, BALE_TABLE_inode, check_inode, f);
	return r ? r : bale_fsck_commit(f);
}
