/* SPDX-License-Identifier: Apache-2.0 */
/* ops_name.c - names: lookup to rename, and the kernel's lookup counts. */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fuse/reply.h"

void bale_fuse_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct bale_inode *dir, *i;
	int err;

	if (!bale_session_inode(req, parent, &dir))
		return;
	/* By handle: "." of any inode, a file's too, but not of one that is only
	 * there until its last handle is closed. */
	if (!strcmp(name, ".")) {
		struct bale_inode_row row;

		bale_inode_attr(dir, &row);
		if (row.nlink) {
			bale_reply_entry(req, dir);
		} else {
			bale_inode_put(dir);
			bale_reply_err(req, -ESTALE);
		}
		return;
	}
	err = bale_dir_lookup(dir, name, &i);
	bale_inode_put(dir);
	if (!err)
		bale_reply_entry(req, i);
	else if (err == -ENOENT)
		bale_reply_negative(req);
	else
		bale_reply_err(req, err);
}

void bale_fuse_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	bale_inode_forget(bale_session_of(req)->fs, ino, nlookup);
	fuse_reply_none(req);
}

void bale_fuse_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	struct bale_fs *fs = bale_session_of(req)->fs;

	for (size_t n = 0; n < count; n++)
		bale_inode_forget(fs, forgets[n].ino, forgets[n].nlookup);
	fuse_reply_none(req);
}

void bale_fuse_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[BALE_SYMLINK_MAX + 1];
	struct bale_inode *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_inode_readlink(i, target, sizeof(target));
	bale_inode_put(i);
	if (err)
		bale_reply_err(req, err);
	else
		fuse_reply_readlink(req, target);
}

/* The end of every request that makes a name. */
static void reply_new(fuse_req_t req, int err, struct bale_inode *dir,
		      struct bale_inode *i)
{
	bale_inode_put(dir);
	if (err)
		bale_reply_err(req, err);
	else
		bale_reply_entry(req, i);
}

void bale_fuse_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t rdev)
{
	struct bale_cred c = bale_session_cred(req);
	struct bale_inode *dir, *i = NULL;
	int err;

	if (!bale_session_inode(req, parent, &dir))
		return;
	err = bale_dir_create(dir, name, mode, rdev, &c, &i);
	reply_new(req, err, dir, i);
}

void bale_fuse_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode)
{
	struct bale_cred c = bale_session_cred(req);
	struct bale_inode *dir, *i = NULL;
	int err;

	if (!bale_session_inode(req, parent, &dir))
		return;
	err = bale_dir_mkdir(dir, name, mode, &c, &i);
	reply_new(req, err, dir, i);
}

void bale_fuse_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name)
{
	struct bale_cred c = bale_session_cred(req);
	struct bale_inode *dir, *i = NULL;
	int err;

	if (!bale_session_inode(req, parent, &dir))
		return;
	err = bale_dir_symlink(dir, name, target, &c, &i);
	reply_new(req, err, dir, i);
}

void bale_fuse_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent,
		    const char *newname)
{
	struct bale_inode *dir, *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	if (!bale_session_inode(req, newparent, &dir)) {
		bale_inode_put(i);
		return;
	}
	err = bale_dir_link(i, dir, newname);
	if (err)
		bale_inode_put(i);
	reply_new(req, err, dir, i);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name,
			int (*fn)(struct bale_inode *, const char *))
{
	struct bale_inode *dir;
	int err;

	if (!bale_session_inode(req, parent, &dir))
		return;
	err = fn(dir, name);
	bale_inode_put(dir);
	bale_reply_err(req, err);
}

void bale_fuse_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, bale_dir_unlink);
}

void bale_fuse_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, bale_dir_rmdir);
}

/* ---- rename ---- */

struct renaming {
	struct bale_paged paged;
	fuse_ino_t parent, newparent;
	unsigned int flags;
	const char *name, *newname; /* in names */
	char names[];
};

static void rename_now(fuse_req_t req, const struct renaming *n)
{
	struct bale_inode *from, *to;
	int err;

	if (!bale_session_inode(req, n->parent, &from))
		return;
	if (!bale_session_inode(req, n->newparent, &to)) {
		bale_inode_put(from);
		return;
	}
	err = bale_dir_rename(from, n->name, to, n->newname, n->flags);
	bale_inode_put(from);
	bale_inode_put(to);
	bale_reply_err(req, err);
}

static void rename_later(struct bale_paged *p)
{
	rename_now(p->req, BALE_CONTAINER(p, struct renaming, paged));
}

/* The file behind a name, if somebody has it open for writing; else 0. */
static fuse_ino_t being_written(struct bale_session *s, fuse_ino_t parent,
				const char *name)
{
	struct bale_inode *dir, *i;
	fuse_ino_t ino = 0;

	if (bale_inode_get(s->fs, parent, &dir))
		return 0;
	if (!bale_dir_lookup(dir, name, &i)) {
		if (i->nr_writing)
			ino = i->ino;
		bale_inode_put(i);
	}
	bale_inode_put(dir);
	return ino;
}

/* The name must not be durable before what is behind it: a close sends the
 * pages that the kernel keeps, a rename before it does not. */
static int queue(struct bale_session *s, fuse_req_t req,
		 const struct renaming *n, fuse_ino_t ino, bool all)
{
	size_t len = strlen(n->name) + 1, newlen = strlen(n->newname) + 1;
	struct renaming *copy = malloc(sizeof(*copy) + len + newlen);
	int err;

	if (!copy)
		return -ENOMEM;
	*copy = *n;
	copy->paged = (struct bale_paged){
		.req = req, .ino = ino, .all = all, .then = rename_later
	};
	copy->name = memcpy(copy->names, n->name, len);
	copy->newname = memcpy(copy->names + len, n->newname, newlen);
	err = bale_pages_wait(s, &copy->paged);
	if (err)
		free(copy);
	return err;
}

void bale_fuse_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t newparent, const char *newname,
		      unsigned int flags)
{
	const struct renaming n = { .parent = parent, .newparent = newparent,
				    .flags = flags, .name = name,
				    .newname = newname };
	struct bale_session *s = bale_session_of(req);
	fuse_ino_t ino = 0, other = 0;
	int err;

	if (s->writeback && atomic_load(&s->nr_writers)) {
		ino = being_written(s, parent, name);
		if (flags & RENAME_EXCHANGE)
			other = being_written(s, newparent, newname);
	}
	if (!ino && !other) {
		rename_now(req, &n);
		return;
	}
	err = queue(s, req, &n, ino ? ino : other, ino && other);
	if (err)
		bale_reply_err(req, err);
}
