/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead.c - a window ahead of a sequential reader, loaded by a thread of
 * its own in batches. The window doubles while the stream goes on. Requests of
 * one stream arrive a little out of order, which counts as sequential.
 */
#include <errno.h>
#include <string.h>

#include "fs/inode/file_load.h"

enum {
	WINDOW_MIN = 1 << 20,
	WINDOW_MAX = 32 << 20,
	SLACK = 2 << 20,    /* how far a request may be out of order */
	BATCH = 32,	    /* extents: early ones are not held up by late ones */
	QUEUE_MAX = 32,	    /* batches; beyond it the guess is dropped */
};

struct job {
	struct bale_list link;
	size_t nr;
	struct bale_load loads[BATCH];
};

struct bale_readahead {
	struct bale_fs *fs;
	struct bale_mutex lock; /* below; leaf */
	struct bale_cond wake;
	struct bale_list jobs;
	unsigned int nr_jobs;
	bool stop;
	pthread_t thread;
	uint64_t window_max; /* const */
};

static void run_job(struct bale_fs *fs, struct job *j)
{
	bale_load_run(fs, j->loads, j->nr);
	for (size_t k = 0; k < j->nr; k++)
		bale_ext_put(fs->cache, j->loads[k].ext);
	free(j);
}

static void *readahead_main(void *arg)
{
	struct bale_readahead *ra = arg;

	bale_mutex_lock(&ra->lock);
	for (;;) {
		struct job *j;

		while (bale_list_empty(&ra->jobs) && !ra->stop)
			bale_cond_wait(&ra->wake, &ra->lock);
		if (bale_list_empty(&ra->jobs))
			break;
		j = BALE_CONTAINER(ra->jobs.next, struct job, link);
		bale_list_del(&j->link);
		bale_mutex_unlock(&ra->lock);
		run_job(ra->fs, j);
		bale_mutex_lock(&ra->lock);
		ra->nr_jobs--;
	}
	bale_mutex_unlock(&ra->lock);
	return NULL;
}

int bale_readahead_create(struct bale_fs *fs)
{
	struct bale_readahead *ra;
	int r;

	if (fs->o.manual_commit)
		return 0; /* tests: every load on the calling thread */
	ra = calloc(1, sizeof(*ra));
	if (!ra)
		return -ENOMEM;
	ra->fs = fs;
	ra->window_max = fs->o.cache_bytes / 8 < WINDOW_MAX ?
				 fs->o.cache_bytes / 8 :
				 WINDOW_MAX;
	bale_mutex_init(&ra->lock);
	bale_cond_init(&ra->wake);
	bale_list_init(&ra->jobs);
	r = bale_thread_start(&ra->thread, "readahead", readahead_main, ra);
	if (r) {
		free(ra);
		return r;
	}
	fs->ra = ra;
	return 0;
}

void bale_readahead_destroy(struct bale_fs *fs)
{
	struct bale_readahead *ra = fs->ra;

	if (!ra)
		return;
	bale_mutex_lock(&ra->lock);
	ra->stop = true;
	bale_cond_signal(&ra->wake);
	bale_mutex_unlock(&ra->lock);
	pthread_join(ra->thread, NULL);
	bale_cond_fini(&ra->wake);
	bale_mutex_fini(&ra->lock);
	free(ra);
	fs->ra = NULL;
}

static bool queue_job(struct bale_readahead *ra, struct job *j)
{
	bool more;

	bale_mutex_lock(&ra->lock);
	bale_list_push_back(&ra->jobs, &j->link);
	more = ++ra->nr_jobs < QUEUE_MAX;
	bale_cond_signal(&ra->wake);
	bale_mutex_unlock(&ra->lock);
	return more;
}

/* False: no memory, or the entry is there already (then *ret_stop false). */
static bool add_load(struct bale_inode *i, struct job *j, uint64_t no,
		     bool *ret_stop)
{
	struct bale_load *l = &j->loads[j->nr];

	*ret_stop = false;
	memset(l, 0, sizeof(*l));
	if (bale_ext_is_hole(i, no) ||
	    bale_cache_claim(i->fs->cache, i->ino, no, &l->ext))
		return false;
	l->error = bale_load_prepare(i, l, true);
	*ret_stop = l->error == -ENOMEM;
	j->nr++;
	return true;
}

static void load_ahead(struct bale_inode *i, uint64_t first, uint64_t last)
{
	struct bale_readahead *ra = i->fs->ra;
	struct job *j = NULL;
	bool stop = false;

	for (uint64_t no = first; no < last && !stop; no++) {
		if (!j) {
			j = malloc(sizeof(*j));
			if (!j)
				return;
			bale_list_init(&j->link);
			j->nr = 0;
		}
		add_load(i, j, no, &stop);
		if (j->nr == BATCH) {
			stop = !queue_job(ra, j) || stop;
			j = NULL;
		}
	}
	if (j && j->nr)
		queue_job(ra, j);
	else
		free(j);
}

/* The stretch to load now, empty most of the time. With map_lock held. */
static void advance(struct bale_file_data *d, uint64_t max, uint64_t off,
		    uint64_t end, uint64_t *ret_from, uint64_t *ret_to)
{
	*ret_from = *ret_to = 0;
	if (off > d->ra_next + SLACK || off + SLACK < d->ra_next) {
		d->ra_next = end;
		d->ra_end = d->ra_window = 0;
		return;
	}
	if (end > d->ra_next)
		d->ra_next = end;
	end = d->ra_next;
	if (d->ra_end > end + d->ra_window / 2)
		return;
	d->ra_window = d->ra_window ? d->ra_window * 2 : WINDOW_MIN;
	if (d->ra_window > max)
		d->ra_window = max;
	*ret_from = d->ra_end > end ? d->ra_end : end;
	*ret_to = d->ra_end = end + d->ra_window;
}

void bale_readahead_note(struct bale_inode *i, uint64_t off, size_t len)
{
	struct bale_fs *fs = i->fs;
	struct bale_file_data *d;
	uint64_t from, to;

	if (!fs->ra || i->row.size <= fs->extent_size ||
	    atomic_load(&fs->has_patches) || bale_file_data_get(i, &d))
		return;
	bale_mutex_lock(&d->map_lock);
	advance(d, fs->ra->window_max, off, off + len, &from, &to);
	bale_mutex_unlock(&d->map_lock);
	if (to > i->row.size)
		to = i->row.size;
	if (from < to)
		load_ahead(i, bale_ext_no(fs, from), bale_ext_count(fs, to));
}
