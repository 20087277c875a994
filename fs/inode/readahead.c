/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead.c - a window ahead of a sequential reader, loaded by threads of
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
	NR_LOADERS = 2,	    /* one reads while the other decodes */
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
	unsigned int nr_threads;
	pthread_t threads[NR_LOADERS];
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
	int r = 0;

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
	fs->ra = ra;
	for (unsigned int k = 0; k < NR_LOADERS && !r; k++) {
		r = bale_thread_start(&ra->threads[k], "readahead",
				      readahead_main, ra);
		if (!r)
			ra->nr_threads++;
	}
	return r;
}

void bale_readahead_destroy(struct bale_fs *fs)
{
	struct bale_readahead *ra = fs->ra;

	if (!ra)
		return;
	bale_mutex_lock(&ra->lock);
	ra->stop = true;
	bale_cond_broadcast(&ra->wake);
	bale_mutex_unlock(&ra->lock);
	for (unsigned int k = 0; k < ra->nr_threads; k++)
		pthread_join(ra->threads[k], NULL);
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

/* Read elsewhere without the lock. */
static void set(uint64_t *to, uint64_t value)
{
	__atomic_store_n(to, value, __ATOMIC_RELAXED);
}

/* The stretch to load now, empty most of the time. With map_lock held. */
static void advance(struct bale_file_data *d, uint64_t max, uint64_t off,
		    uint64_t end, uint64_t *ret_from, uint64_t *ret_to)
{
	uint64_t next = __atomic_load_n(&d->ra_next, __ATOMIC_RELAXED);
	uint64_t window = d->ra_window;

	*ret_from = *ret_to = 0;
	if (off > next + SLACK || off + SLACK < next) {
		set(&d->ra_next, end);
		set(&d->ra_window, 0);
		d->ra_end = 0;
		return;
	}
	if (end > next)
		set(&d->ra_next, end);
	else
		end = next;
	if (d->ra_end > end + window / 2)
		return;
	window = window ? window * 2 : WINDOW_MIN;
	window = window < max ? window : max;
	set(&d->ra_window, window);
	*ret_from = d->ra_end > end ? d->ra_end : end;
	*ret_to = d->ra_end = end + window;
}

/* A random reader goes on being one: noted without the lock, since many
 * threads may be reading the file. */
static bool is_random(struct bale_file_data *d, uint64_t off, uint64_t end)
{
	uint64_t next = __atomic_load_n(&d->ra_next, __ATOMIC_RELAXED);

	if (__atomic_load_n(&d->ra_window, __ATOMIC_RELAXED) ||
	    (off <= next + SLACK && off + SLACK >= next))
		return false;
	__atomic_store_n(&d->ra_next, end, __ATOMIC_RELAXED);
	return true;
}

void bale_readahead_note(struct bale_inode *i, uint64_t off, size_t len)
{
	struct bale_fs *fs = i->fs;
	struct bale_file_data *d;
	uint64_t from, to;

	if (!fs->ra || i->row.size <= fs->extent_size ||
	    atomic_load(&fs->has_patches) || bale_file_data_get(i, &d))
		return;
	if (is_random(d, off, off + len))
		return;
	bale_mutex_lock(&d->map_lock);
	advance(d, fs->ra->window_max, off, off + len, &from, &to);
	bale_mutex_unlock(&d->map_lock);
	if (to > i->row.size)
		to = i->row.size;
	if (from < to)
		load_ahead(i, bale_ext_no(fs, from), bale_ext_count(fs, to));
}
