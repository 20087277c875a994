/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse/session_int.h - the session as the request handlers see it. Only files
 * of fs/fuse include this, and through it libfuse.
 */
#ifndef BALE_FUSE_SESSION_INT_H
#define BALE_FUSE_SESSION_INT_H

#include <fcntl.h>
#include <stdatomic.h>

#include <fuse_lowlevel.h>

#include "fs/fuse/options.h"
#include "fs/inode/inode.h"

struct bale_session {
	struct bale_fs *fs;		/* const after start */
	struct bale_mount_options opt;	/* const */
	struct fuse_session *se;	/* const after start */
	const char *store, *mnt;	/* absolute; const */
	uint64_t started_ns;		/* const after start */
	bool killpriv; /* suid is ours to clear, when the kernel says so; set
			  by INIT */
	bool writeback; /* the kernel keeps written pages; set by INIT */
	atomic_bool down;      /* a test shut the mount down: EIO from now on */
	atomic_uint nr_writers; /* handles open for writing */

	/* Protocol between the loop's thread and the helper threads. */
	struct bale_mutex lock;
	struct bale_cond cond;
	bool inited;   /* lock: INIT was answered */
	bool ended;    /* lock: the loop is over */
	struct bale_paged *paged; /* lock: pages.c */
	void (*ready)(void *arg);
	void *ready_arg;
};

static inline struct bale_session *bale_session_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* The inode a request is about, with a reference; false: already replied. */
bool bale_session_inode(fuse_req_t req, fuse_ino_t ino,
			struct bale_inode **ret);
struct bale_cred bale_session_cred(fuse_req_t req);

/* Bookkeeping of handles: what open replies with, and its end. */
void bale_session_opened(struct bale_session *s, struct bale_inode *i,
			 struct fuse_file_info *fi);
void bale_session_closed(struct bale_session *s, struct bale_inode *i,
			 const struct fuse_file_info *fi);

/* What a handle says about itself: libfuse hands fi->flags to open, write and
 * release only, but fi->fh to all. */
enum { BALE_FH_WRITES = 1 };
static inline bool bale_session_for_writing(const struct fuse_file_info *fi)
{
	return fi->fh & BALE_FH_WRITES;
}
/* Have the kernel send the written pages it keeps. Not on a thread that
 * serves requests. */
int bale_session_sync_pages(struct bale_session *s);

/* pages.c */
/* A request that waits for the pages that the kernel keeps of a file. */
struct bale_paged {
	struct bale_paged *next;
	fuse_req_t req;
	fuse_ino_t ino;
	bool all; /* everything of the mount first, in few large requests */
	void (*then)(struct bale_paged *p); /* replies; p is freed after it */
};
/* Takes over p, the start of a malloc'ed object, unless it fails. */
int bale_pages_wait(struct bale_session *s, struct bale_paged *p);
void *bale_pages_thread(void *session);

/* signals.c */
struct bale_signals {
	struct bale_session *s;
	pthread_t loop; /* the thread in fuse_session_loop_mt() */
	atomic_bool detached;
};
/* SIGTERM and its like wait for the thread, which ends by SIGUSR1 as soon as
 * the session has ended. Before any thread is made. */
void bale_signals_block(void);
void *bale_signals_thread(void *signals);

/* bdi.c: kernel-side limits of this mount, when we may set them. */
void bale_bdi_tune(const char *mnt);

/* Handlers, by file. ops_attr.c: */
void bale_fuse_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi);
void bale_fuse_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st,
		       int to_set, struct fuse_file_info *fi);
void bale_fuse_statfs(fuse_req_t req, fuse_ino_t ino);
#ifdef HAVE_FUSE_STATX
void bale_fuse_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask,
		     struct fuse_file_info *fi);
#endif

/* ops_name.c: */
void bale_fuse_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void bale_fuse_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void bale_fuse_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets);
void bale_fuse_readlink(fuse_req_t req, fuse_ino_t ino);
void bale_fuse_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t rdev);
void bale_fuse_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode);
void bale_fuse_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name);
void bale_fuse_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void bale_fuse_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void bale_fuse_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t newparent, const char *newname,
		      unsigned int flags);
void bale_fuse_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent,
		    const char *newname);

/* ops_dir.c: */
void bale_fuse_opendir(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi);
void bale_fuse_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi);
void bale_fuse_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t off, struct fuse_file_info *fi);
void bale_fuse_releasedir(fuse_req_t req, fuse_ino_t ino,
			  struct fuse_file_info *fi);
void bale_fuse_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
			struct fuse_file_info *fi);

/* ops_io.c: */
void bale_fuse_open(fuse_req_t req, fuse_ino_t ino,
		    struct fuse_file_info *fi);
void bale_fuse_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		      mode_t mode, struct fuse_file_info *fi);
#ifdef HAVE_FUSE_TMPFILE
void bale_fuse_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
		       struct fuse_file_info *fi);
#endif
void bale_fuse_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void bale_fuse_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		     size_t size, off_t off, struct fuse_file_info *fi);
void bale_fuse_flush(fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi);
void bale_fuse_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi);
void bale_fuse_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi);
void bale_fuse_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi);
void bale_fuse_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi);
void bale_fuse_copy_file_range(fuse_req_t req, fuse_ino_t ino_in,
			       off_t off_in, struct fuse_file_info *fi_in,
			       fuse_ino_t ino_out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len,
			       int flags);

/* ops_xattr.c: */
void bale_fuse_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			const char *value, size_t size, int flags);
void bale_fuse_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size);
void bale_fuse_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void bale_fuse_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ops_ioctl.c: */
void bale_fuse_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd,
		     void *arg, struct fuse_file_info *fi, unsigned int flags,
		     const void *in, size_t in_size, size_t out_size);

#endif
