/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders that the log and its checkpoints depend on, each brought about by
 * stopping or failing one call: what may be relied on is durable by name and
 * content, and positions are those of whole groups.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/log.h"
#include "fs/store/meta_internal.h"
#include "fs/store/wal_internal.h"
#include "tests/support/meta_model.h"

enum { MAX_FDS = 256 };

static struct store_dir dir;
static char fd_names[MAX_FDS][48];
static struct bale_io_ops ops;

static int note_open(struct bale_io *io, const char *name, int flags,
		     int *ret_fd)
{
	int r = bale_io_posix.open(io, name, flags, ret_fd);

	if (!r && *ret_fd < MAX_FDS)
		snprintf(fd_names[*ret_fd], sizeof(fd_names[0]), "%s", name);
	return r;
}

static int setup(void **state)
{
	(void)state;
	bale_log_set_level(BALE_LOG_ERR);
	store_dir_make(&dir);
	ops = bale_io_posix;
	ops.open = note_open;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	store_dir_remove(&dir);
	return 0;
}

static struct bale_store *open_watched(void)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true,
					.io_ops = &ops };
	struct bale_store *st;

	assert_int_equal(bale_store_open(dir.path, &o, &st), 0);
	return st;
}

static void stage(struct bale_store *st, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++)
		assert_int_equal(model_stage(bale_store_meta(st), i, NULL), 0);
}

/* ---- the name of a log file that is used again ---- */

static char unsure[48]; /* a name in log/ that a power cut may take away */
static int failing;	/* syncs of log/ that will fail */

static int watch_rename(struct bale_io *io, const char *from, const char *to)
{
	int r = bale_io_posix.rename(io, from, to);

	if (!r && !strcmp(from, "log/spare"))
		snprintf(unsure, sizeof(unsure), "%s", to);
	return r;
}

static int watch_sync_dir(struct bale_io *io, const char *name)
{
	int r = !strcmp(name, "log") && failing ?
			-EIO :
			bale_io_posix.sync_dir(io, name);

	if (!strcmp(name, "log")) {
		failing -= failing > 0;
		if (!r)
			unsure[0] = 0;
	}
	return r;
}

static bool end_is_unsure(struct bale_wal *w)
{
	char name[32];

	bale_wal_name(name, w->fd_file);
	return !strcmp(name, unsure);
}

/* The sync of the directory fails while the next file is made ahead of use: no
 * record may be acknowledged in a file whose name could be lost. */
static void a_record_is_in_a_file_that_is_there(void **state)
{
	struct bale_store *st;
	struct bale_wal *w;
	uint64_t i = 0, file, acked = 0;

	(void)state;
	ops.rename = watch_rename;
	ops.sync_dir = watch_sync_dir;
	st = open_watched();
	w = bale_store_meta(st)->wal;
	while (!w->have_spare) { /* until a file was given back */
		stage(st, i + 1, i + 2500);
		i += 2500;
		assert_int_equal(bale_meta_checkpoint(bale_store_meta(st)), 0);
	}
	while (!bale_wal_wants_prepare(w)) {
		i++;
		stage(st, i, i);
		assert_int_equal(bale_meta_sync(bale_store_meta(st), 0), 0);
	}
	failing = 1;
	assert_int_equal(bale_wal_prepare(w), -EIO);
	assert_string_not_equal(unsure, "");
	for (file = w->fd_file; w->fd_file == file; acked = i) {
		if (model_stage(bale_store_meta(st), i + 1, NULL) ||
		    bale_meta_sync(bale_store_meta(st), 0))
			break;
		i++;
		assert_false(end_is_unsure(w));
	}
	bale_store_close(st);
	st = store_open(&dir, OPEN_MANUAL);
	model_check_prefix(bale_store_meta(st), acked);
	store_close(st);
}

/* ---- a checkpoint that ends inside a group ---- */

static struct {
	sem_t at_ckpt, go_ckpt; /* the checkpoint's first write */
	sem_t at_log, go_log;	/* the first record of the group is durable */
	bool ckpt, log;		/* to be stopped there */
} stops;

static const char *name_of(int fd)
{
	return fd < MAX_FDS ? fd_names[fd] : "";
}

static int stop_pwritev(struct bale_io *io, int fd, const struct iovec *iov,
			int nr_iov, uint64_t off)
{
	if (stops.ckpt && !strcmp(name_of(fd), "ckpt/new")) {
		stops.ckpt = false;
		sem_post(&stops.at_ckpt);
		sem_wait(&stops.go_ckpt);
	}
	/* The second record: the first one's end is known by now. */
	if (stops.log && !strncmp(name_of(fd), "log/", 4)) {
		static unsigned int records;

		if (++records == 2) {
			stops.log = false;
			sem_post(&stops.at_log);
			sem_wait(&stops.go_log);
		}
	}
	return bale_io_posix.pwritev(io, fd, iov, nr_iov, off);
}

static void *write_ckpt(void *arg)
{
	return (void *)(intptr_t)bale_meta_checkpoint(arg);
}

static void *sync_all(void *arg)
{
	return (void *)(intptr_t)bale_meta_sync(arg, 0);
}

static void join(pthread_t t)
{
	void *r;

	assert_int_equal(pthread_join(t, &r), 0);
	assert_int_equal((intptr_t)r, 0);
}

/* The crash leaves half of the group: no part of it counts, and no checkpoint
 * may say that it needs the log up to there. */
static void a_checkpoint_needs_whole_groups_only(void **state)
{
	enum { BEFORE = 20, TXNS = 9000 };
	struct bale_store *st;
	struct bale_meta *m;
	struct store_dir copy;
	pthread_t ckpt, sync;

	(void)state;
	memset(&stops, 0, sizeof(stops));
	sem_init(&stops.at_ckpt, 0, 0);
	sem_init(&stops.go_ckpt, 0, 0);
	sem_init(&stops.at_log, 0, 0);
	sem_init(&stops.go_log, 0, 0);
	ops.pwritev = stop_pwritev;
	st = open_watched();
	m = bale_store_meta(st);
	stage(st, 1, BEFORE);
	assert_int_equal(bale_meta_sync(m, 0), 0);
	stops.ckpt = true;
	assert_int_equal(pthread_create(&ckpt, NULL, write_ckpt, m), 0);
	sem_wait(&stops.at_ckpt);
	stage(st, BEFORE + 1, TXNS);
	stops.log = true;
	assert_int_equal(pthread_create(&sync, NULL, sync_all, m), 0);
	sem_wait(&stops.at_log);
	sem_post(&stops.go_ckpt);
	join(ckpt);
	store_dir_copy(&copy, &dir);
	sem_post(&stops.go_log);
	join(sync);
	store_close(st);

	st = store_open(&copy, OPEN_READ_ONLY | OPEN_UNTRUSTED);
	assert_int_equal(model_check_prefix(bale_store_meta(st), BEFORE),
			 BEFORE);
	store_close(st);
	store_dir_remove(&copy);
	st = store_open(&dir, OPEN_READ_ONLY | OPEN_UNTRUSTED);
	assert_int_equal(model_check_prefix(bale_store_meta(st), 0), TXNS);
	store_close(st);
}

/* ---- checkpoints that come back ---- */

/* The removal of a checkpoint is not synced: after a power cut it is there
 * again, and must not stay for good. */
static void an_old_checkpoint_that_came_back_goes(void **state)
{
	struct store_dir with_old;
	char names[8][32], from[64], cmd[256];
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	uint64_t i = 0;

	(void)state;
	for (int n = 0; n < 3; n++) {
		stage(st, i + 1, i + 100);
		i += 100;
		assert_int_equal(bale_meta_checkpoint(bale_store_meta(st)), 0);
		if (!n)
			store_dir_copy(&with_old, &dir);
	}
	store_close(st);
	assert_int_equal(store_list(&with_old, "ckpt", names, 8), 1);
	snprintf(from, sizeof(from), "ckpt/%s", names[0]);
	snprintf(cmd, sizeof(cmd), "cp '%s' '%s'", store_file(&with_old, from),
		 store_file(&dir, from));
	assert_int_equal(system(cmd), 0);
	assert_int_equal(store_list(&dir, "ckpt", names, 8), 3);
	store_dir_remove(&with_old);
	st = store_open(&dir, OPEN_MANUAL);
	stage(st, i + 1, i + 100);
	assert_int_equal(bale_meta_checkpoint(bale_store_meta(st)), 0);
	store_close(st);
	assert_int_equal(store_list(&dir, "ckpt", names, 8), 2);
	st = store_open(&dir, OPEN_READ_ONLY | OPEN_UNTRUSTED);
	assert_int_equal(model_check_prefix(bale_store_meta(st), 0), i + 100);
	store_close(st);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_record_is_in_a_file_that_is_there),
		T(a_checkpoint_needs_whole_groups_only),
		T(an_old_checkpoint_that_came_back_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
