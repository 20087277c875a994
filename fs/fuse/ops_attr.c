/* SPDX-License-Identifier: Apache-2.0 */
/* ops_attr.c - getattr, setattr, statx, statfs. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "fs/fuse/reply.h"

void bale_fuse_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct bale_inode *i;

	(void)fi;
	if (!bale_session_inode(req, ino, &i))
		return;
	bale_reply_attr(req, i);
	bale_inode_put(i);
}

static unsigned int set_bits(int to_set)
{
	static const struct {
		int from;
		unsigned int to;
	} bits[] = {
		{ FUSE_SET_ATTR_MODE, BALE_SET_MODE },
		{ FUSE_SET_ATTR_UID, BALE_SET_UID },
		{ FUSE_SET_ATTR_GID, BALE_SET_GID },
		{ FUSE_SET_ATTR_SIZE, BALE_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, BALE_SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, BALE_SET_MTIME },
		{ FUSE_SET_ATTR_CTIME, BALE_SET_CTIME },
		{ FUSE_SET_ATTR_KILL_SUID, BALE_SET_KILL_PRIV },
		{ FUSE_SET_ATTR_KILL_SGID, BALE_SET_KILL_PRIV },
		{ FUSE_SET_ATTR_KILL_PRIV, BALE_SET_KILL_PRIV },
		{ FUSE_SET_ATTR_ATIME_NOW, BALE_SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, BALE_SET_MTIME_NOW },
	};
	unsigned int valid = 0;

	for (size_t n = 0; n < sizeof(bits) / sizeof(bits[0]); n++)
		if (to_set & bits[n].from)
			valid |= bits[n].to;
	/* The kernel sets ATIME beside ATIME_NOW; the clock is ours then. */
	if (valid & BALE_SET_ATIME_NOW)
		valid &= ~(unsigned int)BALE_SET_ATIME;
	if (valid & BALE_SET_MTIME_NOW)
		valid &= ~(unsigned int)BALE_SET_MTIME;
	return valid;
}

void bale_fuse_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
		       int to_set, struct fuse_file_info *fi)
{
	struct bale_setattr a = {
		.valid = set_bits(to_set),
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = (uint64_t)st->st_size,
		.atime = st->st_atim,
		.mtime = st->st_mtim,
		.ctime = st->st_ctim,
	};
	struct bale_inode *i;
	int err;

	(void)fi;
	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_inode_setattr(i, &a);
	if (err)
		bale_reply_err(req, err);
	else
		bale_reply_attr(req, i);
	bale_inode_put(i);
}

#ifdef HAVE_FUSE_STATX
static struct statx_timestamp statx_time(struct timespec t)
{
	return (struct statx_timestamp){ .tv_sec = t.tv_sec,
					 .tv_nsec = (uint32_t)t.tv_nsec };
}

void bale_fuse_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask,
		     struct fuse_file_info *fi)
{
	struct bale_inode_row row;
	struct bale_inode *i;
	struct statx x;

	(void)fi;
	(void)flags;
	(void)mask;
	if (!bale_session_inode(req, ino, &i))
		return;
	bale_inode_stat(i, &row);
	x = (struct statx){
		.stx_mask = STATX_BASIC_STATS | STATX_BTIME,
		.stx_blksize = 4096,
		.stx_nlink = row.nlink,
		.stx_uid = row.uid,
		.stx_gid = row.gid,
		.stx_mode = (uint16_t)row.mode,
		.stx_ino = ino,
		.stx_size = row.size,
		.stx_blocks = (row.stored + 511) / 512,
		.stx_atime = statx_time(row.atime),
		.stx_btime = statx_time(row.btime),
		.stx_ctime = statx_time(row.ctime),
		.stx_mtime = statx_time(row.mtime),
		.stx_rdev_major = major(row.rdev),
		.stx_rdev_minor = minor(row.rdev),
	};
	fuse_reply_statx(req, 0, &x, bale_reply_attr_timeout(i, &row));
	bale_inode_put(i);
}
#endif

void bale_fuse_statfs(fuse_req_t req, fuse_ino_t ino)
{
	enum { BLOCK = 4096 };
	struct bale_session *s = bale_session_of(req);
	struct bale_space_info info;
	struct statvfs v;

	(void)ino;
	if (atomic_load_explicit(&s->down, memory_order_relaxed)) {
		bale_reply_err(req, -EIO);
		return;
	}
	bale_space_info(bale_fs_store(s->fs), &info);
	v = (struct statvfs){
		.f_bsize = BLOCK,
		.f_frsize = BLOCK,
		.f_blocks = info.total / BLOCK,
		.f_bfree = info.free / BLOCK,
		.f_bavail = info.free / BLOCK,
		.f_namemax = BALE_NAME_MAX,
	};
	fuse_reply_statfs(req, &v);
}
