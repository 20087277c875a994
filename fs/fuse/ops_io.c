/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_io.c - file contents. Everything goes by inode, never by what a handle
 * was opened for: the kernel's cache reads through write-only handles and
 * writes back through whichever handle is there. Offsets are the kernel's,
 * with O_APPEND too.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/reply.h"

/* chattr +i and +a: the kernel's client does not know of them. */
static int may_open(struct bale_inode *i, int flags)
{
	struct bale_inode_row row;

	if ((flags & O_ACCMODE) == O_RDONLY)
		return 0;
	bale_inode_attr(i, &row);
	if (row.flags & BALE_INODE_IMMUTABLE)
		return -EPERM;
	if ((row.flags & BALE_INODE_APPEND) && !(flags & O_APPEND))
		return -EPERM;
	return 0;
}

void bale_fuse_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct bale_session *s = bale_session_of(req);
	struct bale_inode *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	err = may_open(i, fi->flags);
	if (err) {
		bale_inode_put(i);
		bale_reply_err(req, err);
		return;
	}
	bale_inode_open(i);
	bale_session_opened(s, i, fi);
	if (fuse_reply_open(req, fi)) {
		bale_session_closed(s, i, fi);
		bale_inode_release(i);
	}
	bale_inode_put(i);
}

static void reply_opened(fuse_req_t req, int err, struct bale_inode *i,
			 struct fuse_file_info *fi)
{
	if (err) {
		bale_reply_err(req, err);
		return;
	}
	bale_inode_open(i);
	bale_session_opened(bale_session_of(req), i, fi);
	bale_reply_create(req, i, fi);
}

void bale_fuse_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		      mode_t mode, struct fuse_file_info *fi)
{
	struct bale_cred c = bale_session_cred(req);
	struct bale_inode *dir, *i = NULL;
	int err;

	if (!bale_session_inode(req, parent, &dir))
		return;
	err = bale_dir_create(dir, name, S_IFREG | (mode & ~(mode_t)S_IFMT), 0,
			      &c, &i);
	bale_inode_put(dir);
	reply_opened(req, err, i, fi);
}

#ifdef HAVE_FUSE_TMPFILE
void bale_fuse_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
		       struct fuse_file_info *fi)
{
	struct bale_cred c = bale_session_cred(req);
	struct bale_inode *dir, *i = NULL;
	int err;

	if (!bale_session_inode(req, parent, &dir))
		return;
	err = bale_dir_tmpfile(dir, S_IFREG | (mode & ~(mode_t)S_IFMT), &c,
			       &i);
	bale_inode_put(dir);
	reply_opened(req, err, i, fi);
}
#endif

void bale_fuse_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct bale_read r;
	struct bale_inode *i;
	int err;

	(void)fi;
	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_file_read(i, (uint64_t)off, size, &r);
	if (err) {
		bale_reply_err(req, err);
	} else {
		fuse_reply_iov(req, r.iov, (int)r.nr_iov);
		bale_file_read_done(&r);
	}
	bale_inode_put(i);
}

/*
 * Whether a write clears suid: the kernel says so where it can. Else, not for
 * root, and not for its own write-back: who dirtied the page has done it.
 */
static bool kills_priv(fuse_req_t req, const struct fuse_file_info *fi)
{
#ifdef HAVE_FUSE_KILL_SUIDGID
	if (bale_session_of(req)->killpriv)
		return fi->kill_suidgid;
#endif
	return !fi->writepage && fuse_req_ctx(req)->uid != 0;
}

void bale_fuse_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		     size_t size, off_t off, struct fuse_file_info *fi)
{
	struct iovec src = { .iov_base = (char *)buf, .iov_len = size };
	struct bale_inode *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_file_write(i, &src, 1, (uint64_t)off, false,
			      kills_priv(req, fi));
	bale_inode_put(i);
	if (err)
		bale_reply_err(req, err);
	else
		fuse_reply_write(req, size);
}

void bale_fuse_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct bale_session *s = bale_session_of(req);
	struct bale_inode *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	if (bale_session_for_writing(fi))
		bale_file_flush_hint(i);
	bale_inode_put(i);
	err = bale_store_error(bale_fs_store(s->fs));
	bale_reply_err(req, bale_session_for_writing(fi) ? err : 0);
}

void bale_fuse_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct bale_session *s = bale_session_of(req);
	struct bale_inode *i;

	/* The handle keeps it in memory: it is found. */
	if (!bale_inode_get(s->fs, ino, &i)) {
		bale_session_closed(s, i, fi);
		bale_inode_release(i);
		bale_inode_put(i);
	}
	fuse_reply_err(req, 0);
}

void bale_fuse_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	struct bale_inode *i;
	int err;

	(void)fi;
	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_file_fsync(i, datasync);
	bale_inode_put(i);
	bale_reply_err(req, err);
}

/* Where the kernel leaves suid to us, changing contents clears it. */
static int kill_priv(fuse_req_t req, struct bale_inode *i)
{
	const struct bale_setattr a = { .valid = BALE_SET_KILL_PRIV };
	struct bale_inode_row row;

	if (!bale_session_of(req)->killpriv || fuse_req_ctx(req)->uid == 0)
		return 0;
	bale_inode_attr(i, &row);
	if (!(row.mode & (S_ISUID | S_ISGID)))
		return 0;
	return bale_inode_setattr(i, &a);
}

void bale_fuse_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi)
{
	struct bale_inode *i;
	int err;

	(void)fi;
	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_file_fallocate(i, mode, (uint64_t)off, (uint64_t)len);
	if (!err)
		err = kill_priv(req, i);
	bale_inode_put(i);
	bale_reply_err(req, err);
}

void bale_fuse_copy_file_range(fuse_req_t req, fuse_ino_t ino_in,
			       off_t off_in, struct fuse_file_info *fi_in,
			       fuse_ino_t ino_out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len,
			       int flags)
{
	/* The reply's count has 32 bits; the caller asks again for the rest. */
	size_t max = len > (size_t)1 << 30 ? (size_t)1 << 30 : len;
	struct bale_inode *in, *out;
	size_t done = 0;
	int err;

	(void)fi_in;
	(void)fi_out;
	if (flags) {
		bale_reply_err(req, -EINVAL);
		return;
	}
	if (!bale_session_inode(req, ino_in, &in))
		return;
	if (!bale_session_inode(req, ino_out, &out)) {
		bale_inode_put(in);
		return;
	}
	err = bale_file_copy_range(in, (uint64_t)off_in, out,
				   (uint64_t)off_out, max, &done);
	if (!err)
		err = kill_priv(req, out);
	bale_inode_put(in);
	bale_inode_put(out);
	if (err)
		bale_reply_err(req, err);
	else
		fuse_reply_write(req, done);
}
