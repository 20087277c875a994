/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_reach.c - everything hangs from the root. After the names were counted
 * every directory has at most one parent, so climbing finds what does not
 * reach the root: a top without a name, or a ring. Both go to /lost+found.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

/* Deleted while open: the next mount ends it. */
static bool is_orphan(const struct bale_fsck_inode *i)
{
	return !i->links && i->state & BALE_FSCK_HAS_ORPHAN;
}

struct find {
	uint64_t ino;
	uint8_t key[BALE_KEY_MAX];
	size_t key_len;
	uint64_t cookie;
};

static int find_name(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct find *s = arg;
	struct bale_disk_dirent d;

	if (bale_row_check(BALE_TABLE_dirent, key, key_len, val, val_len))
		return 0;
	memcpy(&d, val, sizeof(d));
	if (le64_get(d.ino) != s->ino)
		return 0;
	memcpy(s->key, key, key_len);
	s->key_len = key_len;
	s->cookie = le64_get(d.cookie);
	return 1;
}

/* A directory in a ring loses its name there, to get one in lost+found. */
static int cut_ring(struct bale_fsck *f, struct bale_fsck_inode *i)
{
	struct bale_fsck_inode *up = bale_fsck_inode(f, i->parent);
	struct find s = { .ino = i->ino };
	be64 k[2] = { be64_put(i->parent), { { 0 } } };
	struct bale_txn *t;
	int r = bale_meta_scan(f->m, BALE_TABLE_dirent, k, 8, 8, find_name, &s);

	if (r <= 0)
		return r ? r : -EUCLEAN;
	t = bale_fsck_txn(f);
	if (!t)
		return -ENOMEM;
	bale_txn_del(t, BALE_TABLE_dirent, s.key, s.key_len);
	k[1] = be64_put(s.cookie);
	bale_txn_del(t, BALE_TABLE_cookie, k, sizeof(k));
	i->parent = 0;
	i->links--;
	if (up) {
		up->entries--;
		up->subdirs--;
	}
	return 0;
}

/* Every directory from `at` upwards that is marked as on the path. */
static void mark_path(struct bale_fsck *f, struct bale_fsck_inode *at)
{
	while (at && at->state & BALE_FSCK_ON_PATH) {
		at->state &= (uint8_t)~BALE_FSCK_ON_PATH;
		at->state |= BALE_FSCK_REACHED;
		at = at->parent ? bale_fsck_inode(f, at->parent) : NULL;
	}
}

static int lose(struct bale_fsck *f, struct bale_fsck_inode *top, bool ring)
{
	int r = 0;

	if (!bale_fsck_problem(
		    f, BALE_FSCK_unreachable,
		    "inode %" PRIu64 " (%s): %s, for /lost+found", top->ino,
		    top->type == DT_DIR ? "directory" : "no directory",
		    ring ? "its path is a ring" : "no name leads to it"))
		return 0;
	if (ring)
		r = cut_ring(f, top);
	return r ? r : bale_fsck_adopt(f, top);
}

static int check_directory(struct bale_fsck *f, size_t at)
{
	struct bale_fsck_inode *i = &f->inodes[at], *top = i, *up;
	uint64_t ino = i->ino, behind = 0;
	int r = 0;

	for (;;) {
		if (top->state & BALE_FSCK_REACHED || is_orphan(top))
			break;
		if (top->state & BALE_FSCK_ON_PATH) {
			behind = top->parent;
			r = lose(f, top, true);
			break;
		}
		top->state |= BALE_FSCK_ON_PATH;
		up = top->parent ? bale_fsck_inode(f, top->parent) : NULL;
		if (!up) {
			r = lose(f, top, false);
			break;
		}
		top = up;
	}
	mark_path(f, bale_fsck_inode(f, ino));
	/* The rest of a ring hangs from where it was cut. */
	if (behind)
		mark_path(f, bale_fsck_inode(f, behind));
	return r;
}

int bale_fsck_reach(struct bale_fsck *f)
{
	struct bale_fsck_inode *root = bale_fsck_inode(f, BALE_ROOT_INO);
	int r = 0;

	if (!root) /* told, and not mended */
		return 0;
	root->state |= BALE_FSCK_REACHED;
	bale_fsck_phase(f, "reachability", f->nr_inodes);
	/* lost+found may be added meanwhile, at the end. */
	for (size_t k = 0; k < f->nr_inodes && !r; k++) {
		r = bale_fsck_step(f);
		if (!r && f->inodes[k].type == DT_DIR)
			r = check_directory(f, k);
	}
	for (size_t k = 0; k < f->nr_inodes && !r; k++) {
		struct bale_fsck_inode *i = &f->inodes[k];

		r = bale_fsck_step(f);
		if (!r && i->type != DT_DIR && !i->links && !is_orphan(i))
			r = lose(f, i, false);
	}
	return r ? r : bale_fsck_commit(f);
}
