/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.c - requests that need what the kernel has of a file in written pages,
 * but that it sends without sending those first: lseek() would tell what is
 * about to become data as a hole, and a rename over a file would become durable
 * before what the new one holds. So the pages are fetched before the answer.
 *
 * That needs WRITE requests served meanwhile, and so happens on a thread of
 * its own: with every request thread waiting here nobody would serve them.
 * Protocol: a handler queues the request; the thread takes all that wait, lets
 * the kernel write out everything in few large requests when one of them asks
 * for that, then has each file's remaining pages laundered (an invalidation
 * waits for them), and goes on with the request.
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/fuse/reply.h"

int bale_pages_wait(struct bale_session *s, struct bale_paged *p)
{
	bool ended;

	bale_mutex_lock(&s->lock);
	ended = s->ended;
	if (!ended) {
		p->next = s->paged;
		s->paged = p;
		bale_cond_broadcast(&s->cond);
	}
	bale_mutex_unlock(&s->lock);
	return ended ? -ENOTCONN : 0;
}

static void finish(struct bale_session *s, struct bale_paged *list)
{
	while (list) {
		struct bale_paged *p = list;

		list = p->next;
		fuse_lowlevel_notify_inval_inode(s->se, p->ino, 0, 0);
		p->then(p);
		free(p);
	}
}

void *bale_pages_thread(void *arg)
{
	struct bale_session *s = arg;
	struct bale_paged *list;
	bool all;

	bale_mutex_lock(&s->lock);
	for (;;) {
		while (!s->paged && !s->ended)
			bale_cond_wait(&s->cond, &s->lock);
		list = s->paged;
		s->paged = NULL;
		if (s->ended)
			break;
		bale_mutex_unlock(&s->lock);
		all = false;
		for (struct bale_paged *p = list; p; p = p->next)
			all |= p->all;
		if (all)
			bale_session_sync_pages(s);
		finish(s, list);
		bale_mutex_lock(&s->lock);
	}
	bale_mutex_unlock(&s->lock);
	/* Nobody waits for these any more. */
	while (list) {
		struct bale_paged *p = list;

		list = p->next;
		fuse_reply_err(p->req, ENOTCONN);
		free(p);
	}
	return NULL;
}
