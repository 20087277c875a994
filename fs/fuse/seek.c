/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seek.c - SEEK_HOLE and SEEK_DATA while the kernel holds written pages. It
 * asks us without sending those first: what is about to become data would be
 * told as a hole, and a copying program would lose it. So the pages are
 * fetched before the answer.
 *
 * That needs WRITE requests served meanwhile, and so happens on a thread of
 * its own: with every request thread waiting here nobody would serve them.
 * Protocol: a handler queues the request; the thread takes all that wait,
 * lets the kernel write out everything in few large requests, then has each
 * file's remaining pages laundered (an invalidation waits for them), replies.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/fuse/reply.h"

struct bale_seek {
	struct bale_seek *next;
	fuse_req_t req;
	fuse_ino_t ino;
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

static bool queue(struct bale_session *s, const struct bale_seek *seek)
{
	struct bale_seek *copy = malloc(sizeof(*copy));
	bool ok = false;

	if (!copy)
		return false;
	*copy = *seek;
	bale_mutex_lock(&s->lock);
	if (!s->ended) {
		copy->next = s->seeks;
		s->seeks = copy;
		bale_cond_broadcast(&s->cond);
		ok = true;
	}
	bale_mutex_unlock(&s->lock);
	if (!ok)
		free(copy);
	return ok;
}

void bale_fuse_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	const struct bale_seek seek = {
		.req = req, .ino = ino, .off = off, .whence = whence
	};
	struct bale_session *s = bale_session_of(req);
	struct bale_inode *i;

	if (!bale_session_inode(req, ino, &i))
		return;
	if (!may_have_pages(s, i, fi)) {
		answer(req, i, off, whence);
		return;
	}
	bale_inode_put(i);
	if (!queue(s, &seek))
		bale_reply_err(req, -ENOMEM);
}

static void finish(struct bale_session *s, struct bale_seek *list)
{
	while (list) {
		struct bale_seek *seek = list;
		struct bale_inode *i;

		list = seek->next;
		fuse_lowlevel_notify_inval_inode(s->se, seek->ino, 0, 0);
		if (bale_session_inode(seek->req, seek->ino, &i))
			answer(seek->req, i, seek->off, seek->whence);
		free(seek);
	}
}

void *bale_seek_thread(void *arg)
{
	struct bale_session *s = arg;
	struct bale_seek *list;

	bale_mutex_lock(&s->lock);
	for (;;) {
		while (!s->seeks && !s->ended)
			bale_cond_wait(&s->cond, &s->lock);
		list = s->seeks;
		s->seeks = NULL;
		if (s->ended)
			break;
		bale_mutex_unlock(&s->lock);
		bale_session_sync_pages(s);
		finish(s, list);
		bale_mutex_lock(&s->lock);
	}
	bale_mutex_unlock(&s->lock);
	/* Nobody waits for these any more. */
	while (list) {
		struct bale_seek *seek = list;

		list = seek->next;
		fuse_reply_err(seek->req, ENOTCONN);
		free(seek);
	}
	return NULL;
}
