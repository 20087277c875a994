/* SPDX-License-Identifier: Apache-2.0 */
/* seek.c - SEEK_HOLE and SEEK_DATA, also while the kernel holds written pages:
 * see pages.c. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/fuse/reply.h"

struct seek {
	struct bale_paged paged;
	off_t off;
	int whence;
};

static void answer(fuse_req_t req, struct bale_inode *i, off_t off, int whence)
{
	uint64_t pos;
	int err = bale_file_seek(i, (uint64_t)off, whence, &pos);

	bale_inode_put(i);
	if (err)
		bale_reply_err(req, err);
	else
		fuse_reply_lseek(req, (off_t)pos);
}

/* Pages wait only behind a handle, and a close sends them: with no handle but
 * a reader's there are none. */
static bool may_have_pages(struct bale_session *s, struct bale_inode *i,
			   const struct fuse_file_info *fi)
{
	unsigned int nr_open;

	if (!s->writeback)
		return false;
	if (fi && bale_session_for_writing(fi))
		return true;
	bale_rwlock_rdlock(&i->lock);
	nr_open = i->nr_open;
	bale_rwlock_unlock(&i->lock);
	return nr_open > 1;
}

static void seek_now(struct bale_paged *p)
{
	const struct seek *seek = BALE_CONTAINER(p, struct seek, paged);
	struct bale_inode *i;

	if (bale_session_inode(p->req, p->ino, &i))
		answer(p->req, i, seek->off, seek->whence);
}

void bale_fuse_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct bale_session *s = bale_session_of(req);
	struct bale_inode *i;
	struct seek *seek;
	int err = -ENOMEM;

	if (!bale_session_inode(req, ino, &i))
		return;
	if (!may_have_pages(s, i, fi)) {
		answer(req, i, off, whence);
		return;
	}
	bale_inode_put(i);
	seek = malloc(sizeof(*seek));
	if (seek) {
		*seek = (struct seek){
			.paged = { .req = req,
				   .ino = ino,
				   .all = true,
				   .then = seek_now },
			.off = off,
			.whence = whence,
		};
		err = bale_pages_wait(s, &seek->paged);
	}
	if (err) {
		free(seek);
		bale_reply_err(req, err);
	}
}
