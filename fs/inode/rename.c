/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rename.c - rename, NOREPLACE and EXCHANGE.
 *
 * A move between directories runs under the filesystem's rename lock, so that
 * the tree above both stands still while the order of their locks is found and
 * a move of a directory below itself is refused. Then the two directories are
 * locked (the ancestor first, else by number), then the inodes that are moved
 * or replaced. The names were looked up before that; if they are others by
 * then, everything starts again.
 *
 * Why this cannot deadlock: whoever locks two directories of which neither is
 * above the other holds the rename lock (so does a rename of one directory
 * over another in the same place), and never waits for one above what he has.
 * All others go from a directory down. Other files come after directories.
 */
#include <dirent.h>
#include <linux/fs.h>

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

enum { DEPTH_MAX = 1 << 20 }; /* more is a ring in a damaged store */

/* One end of the move. */
struct end {
	struct bale_inode *dir;
	struct bale_name name;
	bool exists;
	struct bale_entry entry;
	struct bale_inode *inode;	/* NULL when there is none */
	struct bale_inode_row up, row; /* new rows of dir and inode */
};

struct move {
	struct end from, to;
	unsigned int flags;
	bool same; /* directory */
	struct timespec now;
};

static void lock_dirs(struct move *m, bool to_first)
{
	struct bale_inode *a = m->from.dir, *b = m->to.dir;

	if (to_first) {
		a = m->to.dir;
		b = m->from.dir;
	}
	bale_rwlock_wrlock(&a->lock);
	if (!m->same)
		bale_rwlock_wrlock(&b->lock);
}

static void unlock_dirs(struct move *m)
{
	bale_rwlock_unlock(&m->from.dir->lock);
	if (!m->same)
		bale_rwlock_unlock(&m->to.dir->lock);
}

static bool goes_first(const struct bale_inode *a, const struct bale_inode *b)
{
	bool a_dir = S_ISDIR(a->type), b_dir = S_ISDIR(b->type);

	return a_dir != b_dir ? a_dir : a->ino < b->ino;
}

static void lock_inodes(struct move *m, bool lock)
{
	struct bale_inode *a = m->from.inode, *b = m->to.inode;

	if (b && goes_first(b, a)) {
		a = m->to.inode;
		b = m->from.inode;
	}
	if (lock) {
		bale_rwlock_wrlock(&a->lock);
		if (b)
			bale_rwlock_wrlock(&b->lock);
	} else {
		bale_rwlock_unlock(&a->lock);
		if (b)
			bale_rwlock_unlock(&b->lock);
	}
}

static int get_end(struct end *e)
{
	int r = bale_dirent_get(e->dir, &e->name, &e->entry);

	e->exists = !r;
	return r == -ENOENT ? 0 : r;
}

static int peek_end(struct end *e)
{
	int r;

	bale_rwlock_rdlock(&e->dir->lock);
	r = get_end(e);
	bale_rwlock_unlock(&e->dir->lock);
	return r;
}

/*
 * Walks from dir to the root: *ret_saw[k] tells whether look_for[k] (0: none)
 * is dir or above it. Nothing moves meanwhile: the rename lock is held.
 */
static int walk_up(struct bale_inode *dir, const uint64_t look_for[2],
		   bool ret_saw[2])
{
	uint64_t ino = dir->ino, up;
	struct bale_inode *i;
	int r;

	ret_saw[0] = ret_saw[1] = false;
	for (unsigned int depth = 0; depth < DEPTH_MAX; depth++) {
		for (unsigned int k = 0; k < 2; k++)
			ret_saw[k] |= look_for[k] == ino;
		if (ino == BALE_ROOT_INO)
			return 0;
		r = bale_inode_get(dir->fs, ino, &i);
		if (r)
			return r;
		bale_rwlock_rdlock(&i->lock);
		up = i->row.parent;
		bale_rwlock_unlock(&i->lock);
		bale_inode_put(i);
		ino = up;
	}
	return -ELOOP;
}

/* Rings are refused; *ret_to_first: the order of the directories' locks. */
static int check_topology(struct move *m, bool *ret_to_first)
{
	uint64_t moved = m->from.exists ? m->from.entry.ino : 0;
	uint64_t target = m->to.exists ? m->to.entry.ino : 0;
	bool above_to[2], above_from[2];
	int r = walk_up(m->to.dir, (uint64_t[]){ m->from.dir->ino, moved },
			above_to);

	if (!r)
		r = walk_up(m->from.dir,
			    (uint64_t[]){ m->to.dir->ino, target },
			    above_from);
	if (r)
		return r;
	if (moved && above_to[1])
		return -EINVAL;
	if (target && above_from[1])
		return m->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	*ret_to_first = !above_to[0] &&
			(above_from[0] || m->to.dir->ino < m->from.dir->ino);
	return 0;
}

/* ---- checks; all locks are held ---- */

static int check_exist(const struct move *m)
{
	if (!m->from.exists)
		return -ENOENT;
	if (m->to.exists && m->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!m->to.exists && m->flags & RENAME_EXCHANGE)
		return -ENOENT;
	if (bale_inode_is_deleted(m->to.dir))
		return -ENOENT;
	return 0;
}

static int check_stuck(const struct move *m)
{
	uint32_t flags = m->from.dir->row.flags | m->from.inode->row.flags;

	if (m->to.inode)
		flags |= m->to.dir->row.flags | m->to.inode->row.flags;
	if (m->to.dir->row.flags & BALE_INODE_IMMUTABLE)
		return -EPERM;
	return flags & BALE_INODE_STUCK ? -EPERM : 0;
}

static int check_replace(const struct move *m)
{
	bool dir = S_ISDIR(m->from.inode->row.mode);
	const struct bale_inode *old = m->to.inode;

	if (!old || m->flags & RENAME_EXCHANGE)
		return 0;
	if (dir && !S_ISDIR(old->row.mode))
		return -ENOTDIR;
	if (!dir && S_ISDIR(old->row.mode))
		return -EISDIR;
	if (dir && old->row.nr_entries)
		return -ENOTEMPTY;
	return old->row.nlink ? 0 : -EUCLEAN;
}

/* A directory that comes in needs a link for its "..". */
static int check_links(const struct move *m)
{
	bool in = S_ISDIR(m->from.inode->row.mode);
	bool out = m->to.inode && S_ISDIR(m->to.inode->row.mode);
	bool swap = m->flags & RENAME_EXCHANGE;

	/* One goes, and was never counted: it would be the links of "." and
	 * "..", and at last the directory itself. */
	if ((in && !m->same && !(swap && out) && m->from.dir->row.nlink <= 2) ||
	    (out && !(swap && (in || m->same)) && m->to.dir->row.nlink <= 2))
		return -EUCLEAN;
	if (m->same)
		return 0;
	if (in && !out && m->to.dir->row.nlink >= BALE_NLINK_MAX)
		return -EMLINK;
	if (out && !in && swap && m->from.dir->row.nlink >= BALE_NLINK_MAX)
		return -EMLINK;
	return 0;
}

static int check_move(const struct move *m)
{
	int r = check_replace(m);

	if (!r)
		r = check_stuck(m);
	if (!r)
		r = check_links(m);
	return r;
}

/* ---- new rows ---- */

/* The row of the directory at an end: one row for both when they are one. */
static struct bale_inode_row *up_of(struct move *m, struct end *e)
{
	return m->same ? &m->from.up : &e->up;
}

static void set_place(struct end *e, const struct end *at)
{
	bool only = e->row.parent == e->dir->ino || e->row.nlink == 1;

	if (S_ISDIR(e->row.mode) || only)
		e->row.parent = at->dir->ino;
}

static void prepare(struct move *m)
{
	m->now = bale_wall();
	m->from.up = m->from.dir->row;
	m->to.up = m->to.dir->row;
	m->from.up.mtime = m->from.up.ctime = m->now;
	m->to.up.mtime = m->to.up.ctime = m->now;
	m->from.row = m->from.inode->row;
	m->from.row.ctime = m->now;
	if (m->to.inode) {
		m->to.row = m->to.inode->row;
		m->to.row.ctime = m->now;
	}
}

static void stage_exchange(struct move *m, struct bale_txn *t)
{
	struct end *a = &m->from, *b = &m->to;
	struct bale_entry at_b = { a->entry.ino, b->entry.cookie,
				   a->entry.type };
	struct bale_entry at_a = { b->entry.ino, a->entry.cookie,
				   b->entry.type };
	int delta = S_ISDIR(a->row.mode) - S_ISDIR(b->row.mode);

	up_of(m, a)->nlink -= (uint32_t)delta;
	up_of(m, b)->nlink += (uint32_t)delta;
	set_place(a, b);
	set_place(b, a);
	bale_dirent_stage(t, b->dir->ino, &b->name, &at_b);
	bale_dirent_stage(t, a->dir->ino, &a->name, &at_a);
	bale_row_stage(b->inode, &b->row, t);
}

/* The name that is replaced leaves its cookie to the new one. */
static void stage_replaced(struct move *m, struct bale_txn *t)
{
	struct end *b = &m->to;

	up_of(m, b)->nr_entries--;
	if (S_ISDIR(b->row.mode)) {
		up_of(m, b)->nlink--;
		b->row.nlink = 0;
	} else {
		b->row.nlink--;
	}
	if (!b->row.nlink)
		bale_orphan_stage(t, b->inode->ino, BALE_ORPHAN_DELETED);
	bale_row_stage(b->inode, &b->row, t);
}

static void stage_rename(struct move *m, struct bale_txn *t)
{
	struct end *a = &m->from, *b = &m->to;
	struct bale_entry e = { .ino = a->entry.ino, .type = a->entry.type };

	bale_dirent_stage_del(t, a->dir->ino, &a->name, a->entry.cookie);
	up_of(m, a)->nr_entries--;
	if (S_ISDIR(a->row.mode)) {
		up_of(m, a)->nlink--;
		up_of(m, b)->nlink++;
	}
	if (b->inode) {
		stage_replaced(m, t);
		e.cookie = b->entry.cookie;
	} else {
		struct bale_inode_row *up = up_of(m, b);

		e.cookie = up->next_cookie < BALE_COOKIE_FIRST ?
				   BALE_COOKIE_FIRST :
				   up->next_cookie;
		up->next_cookie = e.cookie + 1;
	}
	up_of(m, b)->nr_entries++;
	set_place(a, b);
	bale_dirent_stage(t, b->dir->ino, &b->name, &e);
}

static int commit_move(struct move *m)
{
	struct end *a = &m->from, *b = &m->to;
	struct bale_txn t;
	int r;

	prepare(m);
	bale_txn_begin(bale_fs_meta(a->dir->fs), &t);
	if (m->flags & RENAME_EXCHANGE)
		stage_exchange(m, &t);
	else
		stage_rename(m, &t);
	bale_row_stage(a->inode, &a->row, &t);
	bale_row_stage(a->dir, &a->up, &t);
	if (!m->same)
		bale_row_stage(b->dir, &b->up, &t);
	r = bale_txn_commit(&t, NULL);
	if (r)
		return r;
	bale_row_assign(a->dir, &a->up);
	if (!m->same)
		bale_row_assign(b->dir, &b->up);
	bale_row_assign(a->inode, &a->row);
	if (b->inode) {
		bale_row_assign(b->inode, &b->row);
		b->inode->deleted = !b->row.nlink;
	}
	return 0;
}

/* ---- the steps ---- */

static int get_inodes(struct move *m)
{
	int r = bale_inode_get(m->from.dir->fs, m->from.entry.ino,
			       &m->from.inode);

	if (!r && m->to.exists)
		r = bale_inode_get(m->from.dir->fs, m->to.entry.ino,
				   &m->to.inode);
	return r == -ENOENT ? -EUCLEAN : r;
}

/* Write-new, rename: whoever finds the name after a crash finds the old whole
 * content or the new one; and a name that is new never shows an empty file. */
static int order_content(struct move *m)
{
	int r = 0;

	if (S_ISREG(m->from.inode->row.mode))
		r = bale_file_order_before_commit_locked(m->from.inode);
	if (!r && m->flags & RENAME_EXCHANGE && S_ISREG(m->to.inode->row.mode))
		r = bale_file_order_before_commit_locked(m->to.inode);
	return r;
}

/* A forged store may have it: an entry that is one of the directories, which
 * are locked already. */
static int check_ring(const struct move *m)
{
	const struct bale_inode *a = m->from.inode, *b = m->to.inode;
	const struct bale_inode *from = m->from.dir, *to = m->to.dir;

	if (a == from || a == to)
		return -EINVAL;
	return b && (b == from || b == to) ? -ENOTEMPTY : 0;
}

/* The directories are locked, the entries read. */
static int move_locked(struct move *m)
{
	int r = check_exist(m);

	if (r)
		return r;
	if (m->to.exists && m->to.entry.ino == m->from.entry.ino)
		return 0; /* two names of one inode: nothing happens */
	if (!m->to.exists)
		r = bale_space_check_meta(bale_fs_store(m->from.dir->fs));
	if (!r)
		r = get_inodes(m);
	if (!r)
		r = check_ring(m);
	if (r)
		return r;
	lock_inodes(m, true);
	r = check_move(m);
	if (!r)
		r = order_content(m);
	BALE_FAULT_POINT("rename.ordered");
	if (!r)
		r = commit_move(m);
	BALE_FAULT_POINT("rename.staged");
	lock_inodes(m, false);
	return r;
}

/* -EAGAIN: two directories, which takes the rename lock. */
static int rename_same_once(struct move *m, bool have_lock)
{
	int r;

	lock_dirs(m, false);
	r = get_end(&m->from);
	if (!r)
		r = get_end(&m->to);
	if (!r && !have_lock && m->from.exists && m->to.exists &&
	    m->from.entry.type == DT_DIR && m->to.entry.type == DT_DIR)
		r = -EAGAIN;
	if (!r)
		r = move_locked(m);
	unlock_dirs(m);
	return r;
}

static int rename_same(struct move *m)
{
	int r = rename_same_once(m, false);

	if (r != -EAGAIN)
		return r;
	bale_names_rename_lock(m->from.dir->fs);
	r = rename_same_once(m, true);
	bale_names_rename_unlock(m->from.dir->fs);
	return r;
}

/* -EAGAIN: the names changed between the look and the locks. */
static int rename_cross_once(struct move *m)
{
	struct bale_entry from, to;
	bool had_to, to_first;
	int r = peek_end(&m->from);

	if (!r)
		r = peek_end(&m->to);
	if (!r && !m->from.exists)
		r = -ENOENT;
	if (!r && m->to.exists && m->flags & RENAME_NOREPLACE)
		r = -EEXIST;
	if (!r)
		r = check_topology(m, &to_first);
	if (r)
		return r;
	from = m->from.entry;
	to = m->to.entry;
	had_to = m->to.exists;
	lock_dirs(m, to_first);
	r = get_end(&m->from);
	if (!r)
		r = get_end(&m->to);
	if (!r && m->from.exists &&
	    (m->from.entry.ino != from.ino || m->to.exists != had_to ||
	     (had_to && m->to.entry.ino != to.ino)))
		r = -EAGAIN;
	if (!r)
		r = move_locked(m);
	unlock_dirs(m);
	return r;
}

static int rename_cross(struct move *m)
{
	int r;

	bale_names_rename_lock(m->from.dir->fs);
	do {
		r = rename_cross_once(m);
	} while (r == -EAGAIN);
	bale_names_rename_unlock(m->from.dir->fs);
	return r;
}

int bale_dir_rename(struct bale_inode *from, const char *name,
		    struct bale_inode *to, const char *new_name,
		    unsigned int flags)
{
	struct move m = { .from.dir = from, .to.dir = to, .flags = flags,
			  .same = from == to };
	int r;

	if (flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	r = bale_name_init(&m.from.name, name);
	if (!r)
		r = bale_name_init(&m.to.name, new_name);
	if (!r && (!S_ISDIR(from->type) || !S_ISDIR(to->type)))
		r = -ENOTDIR;
	if (!r && bale_name_is_dots(&m.from.name))
		r = -EBUSY;
	if (!r && bale_name_is_dots(&m.to.name))
		r = flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
	if (!r)
		r = bale_names_writable(from->fs);
	if (r)
		return r;
	r = m.same ? rename_same(&m) : rename_cross(&m);
	bale_inode_put_unlocked(m.from.inode);
	bale_inode_put_unlocked(m.to.inode);
	return r;
}
