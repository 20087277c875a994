/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/fuse/reply.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/clock.h"

/* The daemon is the only writer, so the kernel may keep names and attributes
 * until it hears otherwise. */
static const double forever = 86400.0;

/*
 * st_blocks of a file still changes after the last write, when its extents
 * are coded and stored; only that makes attributes of a young file age.
 */
enum { SETTLED_SEC = 30 };

static int visible_error(int err)
{
	switch (-err) {
	case EUCLEAN: /* damaged structure */
	case EBADMSG: /* checksum */
		return EIO;
	default:
		return -err;
	}
}

void bale_reply_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, visible_error(err));
}

void bale_reply_stat(const struct bale_inode *i,
		     const struct bale_inode_row *row, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = i->ino,
		.st_mode = row->mode,
		.st_nlink = row->nlink,
		.st_uid = row->uid,
		.st_gid = row->gid,
		.st_rdev = row->rdev,
		.st_size = (off_t)row->size,
		.st_blocks = (blkcnt_t)((row->stored + 511) / 512),
		.st_blksize = 4096,
		.st_atim = row->atime,
		.st_mtim = row->mtime,
		.st_ctim = row->ctime,
	};
}

/*
 * What asks whether a mount is alive stats its root: with the daemon dead
 * that must not be answered from the kernel's memory for long.
 */
double bale_reply_attr_timeout(const struct bale_inode *i,
			       const struct bale_inode_row *row)
{
	if (i->ino == BALE_ROOT_INO)
		return 1.0;
	if (S_ISREG(row->mode) &&
	    bale_wall().tv_sec - row->ctime.tv_sec < SETTLED_SEC)
		return 1.0;
	return forever;
}

void bale_reply_fill_entry(struct bale_inode *i, struct fuse_entry_param *e)
{
	struct bale_inode_row row;

	bale_inode_stat(i, &row);
	*e = (struct fuse_entry_param){
		.ino = i->ino,
		.generation = row.generation,
		.entry_timeout = forever,
		.attr_timeout = bale_reply_attr_timeout(i, &row),
	};
	bale_reply_stat(i, &row, &e->attr);
}

void bale_reply_entry(fuse_req_t req, struct bale_inode *i)
{
	struct bale_fs *fs = i->fs;
	struct fuse_entry_param e;

	bale_inode_lookup_ref(i);
	bale_reply_fill_entry(i, &e);
	bale_inode_put(i);
	/* A request that was given up is an entry the kernel never saw. */
	if (fuse_reply_entry(req, &e))
		bale_inode_forget(fs, e.ino, 1);
}

void bale_reply_negative(fuse_req_t req)
{
	struct fuse_entry_param e = { .entry_timeout = forever };

	fuse_reply_entry(req, &e);
}

void bale_reply_create(fuse_req_t req, struct bale_inode *i,
		       const struct fuse_file_info *fi)
{
	struct bale_session *s = bale_session_of(req);
	struct fuse_entry_param e;

	bale_inode_lookup_ref(i);
	bale_reply_fill_entry(i, &e);
	if (fuse_reply_create(req, &e, fi)) {
		bale_session_closed(s, i, fi);
		bale_inode_release(i);
		bale_inode_forget(s->fs, e.ino, 1);
	}
	bale_inode_put(i);
}

void bale_reply_attr(fuse_req_t req, struct bale_inode *i)
{
	struct bale_inode_row row;
	struct stat st;

	bale_inode_stat(i, &row);
	bale_reply_stat(i, &row, &st);
	fuse_reply_attr(req, &st, bale_reply_attr_timeout(i, &row));
}
