/* SPDX-License-Identifier: Apache-2.0 */
/* flush_thread.c - when to flush: enough is dirty, too much is, or time. */
#include <errno.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/inode/flush.h"

enum { RETRY_NS = 10 * 1000 * 1000 };

static bool is_due(struct bale_flush *fl)
{
	int64_t at = fl->kick ? (int64_t)fl->bale_bytes / 4 :
				(int64_t)fl->bale_bytes;

	return atomic_load(&fl->listed) >= at;
}

void bale_flush_account(struct bale_fs *fs, int64_t listed, int64_t flying)
{
	struct bale_flush *fl = fs->flush;
	int64_t now;

	if (flying)
		atomic_fetch_add(&fl->flying, flying);
	if (!listed)
		return;
	now = atomic_fetch_add(&fl->listed, listed) + listed;
	if (listed > 0 && now >= (int64_t)fl->bale_bytes &&
	    atomic_load(&fl->idle)) {
		bale_mutex_lock(&fl->lock);
		bale_cond_signal(&fl->wake);
		bale_mutex_unlock(&fl->lock);
	}
}

void bale_flush_queue(struct bale_inode *i)
{
	struct bale_flush *fl = i->fs->flush;
	struct bale_file_data *d = i->data;

	bale_mutex_lock(&fl->lock);
	if (bale_list_empty(&d->link)) {
		d->epoch = fl->epoch;
		bale_list_push_back(&fl->inodes, &d->link);
		bale_inode_ref(i);
	}
	bale_mutex_unlock(&fl->lock);
}

static bool is_over(struct bale_flush *fl)
{
	return atomic_load(&fl->listed) + atomic_load(&fl->flying) > fl->limit;
}

int bale_flush_throttle(struct bale_fs *fs)
{
	struct bale_flush *fl = fs->flush;
	uint64_t bytes;
	int r = 0;

	if (bale_likely(!is_over(fl)))
		return 0;
	atomic_fetch_add(&fl->nr_throttled, 1);
	if (!fl->nr_threads) {
		do {
			r = bale_flush_round(fs, NULL, UINT64_MAX, &bytes);
		} while (!r && bytes && is_over(fl));
		return r;
	}
	bale_mutex_lock(&fl->lock);
	while (is_over(fl) && !bale_store_error(fs->store)) {
		fl->kick = true;
		bale_cond_broadcast(&fl->wake);
		bale_cond_wait_for(&fl->done, &fl->lock, RETRY_NS);
	}
	bale_mutex_unlock(&fl->lock);
	return bale_store_error(fs->store) ? -EROFS : 0;
}

static void *flush_main(void *arg)
{
	struct bale_flush *fl = arg;
	struct bale_fs *fs = fl->fs;
	uint64_t bytes;
	int r;

	bale_mutex_lock(&fl->lock);
	while (!fl->stop) {
		if (!is_due(fl) || bale_store_error(fs->store)) {
			fl->kick = false;
			atomic_fetch_add(&fl->idle, 1);
			bale_cond_wait(&fl->wake, &fl->lock);
			atomic_fetch_sub(&fl->idle, 1);
			continue;
		}
		bale_mutex_unlock(&fl->lock);
		r = bale_flush_round(fs, NULL, UINT64_MAX, &bytes);
		bale_mutex_lock(&fl->lock);
		/* Somebody else takes it just now. */
		if ((r || !bytes) && !fl->stop)
			bale_cond_wait_for(&fl->wake, &fl->lock, RETRY_NS);
	}
	bale_mutex_unlock(&fl->lock);
	return NULL;
}

static void *commit_main(void *arg)
{
	struct bale_flush *fl = arg;
	uint64_t every = fl->fs->o.commit_ns / 5 * 4;

	bale_mutex_lock(&fl->lock);
	while (!fl->stop) {
		/* `done` is signalled all the time: sleep on one's own. */
		bale_cond_wait_for(&fl->tick, &fl->lock, every);
		if (fl->stop)
			break;
		bale_mutex_unlock(&fl->lock);
		if (!bale_store_error(fl->fs->store))
			bale_fs_sync(fl->fs);
		bale_mutex_lock(&fl->lock);
	}
	bale_mutex_unlock(&fl->lock);
	return NULL;
}

/* Wait for the batches of others that were begun before this. */
static void wait_running(struct bale_flush *fl)
{
	uint64_t last;

	bale_mutex_lock(&fl->lock);
	last = fl->batch_seq;
	while (!bale_list_empty(&fl->running)) {
		struct bale_flush_batch *b =
			BALE_CONTAINER(fl->running.next,
				       struct bale_flush_batch, link);

		if (b->seq > last)
			break;
		bale_cond_wait(&fl->done, &fl->lock);
	}
	bale_mutex_unlock(&fl->lock);
}

static struct bale_inode *take_old(struct bale_flush *fl, uint64_t epoch)
{
	struct bale_inode *i = NULL;

	bale_mutex_lock(&fl->lock);
	if (!bale_list_empty(&fl->inodes)) {
		struct bale_file_data *d = BALE_CONTAINER(
			fl->inodes.next, struct bale_file_data, link);

		if (d->epoch <= epoch) {
			i = d->i;
			/* Back of the queue, so that each comes once. */
			bale_list_del(&d->link);
			bale_list_push_back(&fl->inodes, &d->link);
			d->epoch = fl->epoch;
			bale_inode_ref(i);
		}
	}
	bale_mutex_unlock(&fl->lock);
	return i;
}

int bale_flush_all(struct bale_fs *fs)
{
	struct bale_flush *fl = fs->flush;
	int64_t left = atomic_load(&fl->listed) + 2 * (int64_t)fl->bale_bytes;
	uint64_t epoch, bytes = 1;
	struct bale_inode *i;
	int first = 0, r = 0;

	bale_mutex_lock(&fl->lock);
	epoch = fl->epoch++;
	bale_mutex_unlock(&fl->lock);
	while (!r && bytes && left > 0) {
		r = bale_flush_round(fs, NULL, epoch, &bytes);
		left -= (int64_t)bytes;
	}
	/* Files that are written to faster than they are flushed. */
	while (!r && (i = take_old(fl, epoch))) {
		bale_rwlock_wrlock(&i->lock);
		r = bale_flush_inode_locked(i);
		bale_rwlock_unlock(&i->lock);
		bale_inode_put(i);
	}
	first = r;
	wait_running(fl);
	return first ? first : (bale_store_error(fs->store) ? -EIO : 0);
}

/* ---- life ---- */

int bale_flush_create(struct bale_fs *fs)
{
	struct bale_flush *fl = calloc(1, sizeof(*fl));

	if (!fl)
		return -ENOMEM;
	fl->fs = fs;
	bale_mutex_init(&fl->lock);
	bale_cond_init(&fl->wake);
	bale_cond_init(&fl->done);
	bale_cond_init(&fl->tick);
	bale_list_init(&fl->inodes);
	bale_list_init(&fl->promised);
	bale_list_init(&fl->running);
	fl->epoch = 1;
	fl->limit = (int64_t)(fs->o.cache_bytes / 2);
	fl->bale_bytes = fs->o.bale_bytes;
	fl->width = bale_engine_width(fs->engine);
	if (fl->width > BALE_FLUSH_THREADS_MAX)
		fl->width = BALE_FLUSH_THREADS_MAX;
	/* All threads busy, and writers still go on. */
	if (fl->bale_bytes > (uint64_t)fl->limit / (2 * fl->width))
		fl->bale_bytes = (uint64_t)fl->limit / (2 * fl->width);
	fs->flush = fl;
	return 0;
}

int bale_flush_start(struct bale_fs *fs)
{
	struct bale_flush *fl = fs->flush;
	int r = 0;

	if (fs->o.manual_commit || fs->o.read_only)
		return 0;
	for (unsigned int k = 0; k < fl->width && !r; k++) {
		r = bale_thread_start(&fl->threads[k], "flush", flush_main, fl);
		if (!r)
			fl->nr_threads++;
	}
	if (!r)
		r = bale_thread_start(&fl->threads[fl->nr_threads], "commit",
				      commit_main, fl);
	if (!r)
		fl->nr_threads++;
	return r;
}

void bale_flush_stop(struct bale_fs *fs)
{
	struct bale_flush *fl = fs->flush;

	if (!fl)
		return;
	bale_mutex_lock(&fl->lock);
	fl->stop = true;
	bale_cond_broadcast(&fl->wake);
	bale_cond_broadcast(&fl->tick);
	bale_mutex_unlock(&fl->lock);
	for (unsigned int k = 0; k < fl->nr_threads; k++)
		pthread_join(fl->threads[k], NULL);
	fl->nr_threads = 0;
}

void bale_flush_abandon(struct bale_fs *fs)
{
	struct bale_flush *fl = fs->flush;

	while (fl && !bale_list_empty(&fl->inodes)) {
		struct bale_file_data *d = BALE_CONTAINER(
			fl->inodes.next, struct bale_file_data, link);

		bale_list_del(&d->link);
		bale_inode_put(d->i);
	}
}

void bale_flush_destroy(struct bale_fs *fs)
{
	struct bale_flush *fl = fs->flush;

	if (!fl)
		return;
	bale_cond_fini(&fl->wake);
	bale_cond_fini(&fl->done);
	bale_cond_fini(&fl->tick);
	bale_mutex_fini(&fl->lock);
	free(fl);
	fs->flush = NULL;
}
