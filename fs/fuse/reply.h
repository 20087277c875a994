/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse/reply.h - answers to the kernel, and the one place where our errors
 * become what applications see. Never called with a lock held. After a reply
 * the request is gone.
 */
#ifndef BALE_FUSE_REPLY_H
#define BALE_FUSE_REPLY_H

#include "fs/fuse/session_int.h"

/* err: 0 or -errno. */
void bale_reply_err(fuse_req_t req, int err);
/* Reply with the inode as an entry, counting one lookup; eats the reference. */
void bale_reply_entry(fuse_req_t req, struct bale_inode *i);
/* The name does not exist, and the kernel may remember that. */
void bale_reply_negative(fuse_req_t req);
void bale_reply_attr(fuse_req_t req, struct bale_inode *i);
/* For create and tmpfile: entry and open handle; eats the reference. */
void bale_reply_create(fuse_req_t req, struct bale_inode *i,
		       const struct fuse_file_info *fi);

/* The row as struct stat, and how long the kernel may keep it (seconds). */
void bale_reply_stat(const struct bale_inode *i,
		     const struct bale_inode_row *row, struct stat *ret);
double bale_reply_attr_timeout(const struct bale_inode *i,
			       const struct bale_inode_row *row);
void bale_reply_fill_entry(struct bale_inode *i, struct fuse_entry_param *e);

#endif
