/* SPDX-License-Identifier: Apache-2.0 */
/* Rows, scans, counters and extents of the meta layer, on a healthy store. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/fault.h"
#include "tests/support/meta_model.h"

static struct store_dir dir;

static int setup(void **state)
{
	(void)state;
	store_dir_make(&dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bale_fault_clear();
	store_dir_remove(&dir);
	return 0;
}

static void a_new_store_has_a_root(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_disk_inode d;
	struct bale_inode_row row;
	be64 key = be64_put(BALE_ROOT_INO);
	uint64_t ino;
	size_t len;

	(void)state;
	assert_int_equal(bale_meta_get(bale_store_meta(st), BALE_TABLE_inode,
				       &key, sizeof(key), &d, sizeof(d), &len),
			 0);
	assert_int_equal(bale_inode_decode(&d, len, &row), 0);
	assert_true(S_ISDIR(row.mode));
	assert_int_equal(row.uid, geteuid());
	assert_int_equal(bale_meta_new_ino(bale_store_meta(st), &ino), 0);
	assert_true(ino >= BALE_FIRST_INO);
	store_close(st);
}

static void get_says_how_long(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	uint8_t key[9] = { 0, 0, 0, 0, 0, 0, 0, 5, 'x' }, buf[8];
	struct bale_txn t;
	size_t len = 0;

	(void)state;
	for (int round = 0; round < 2; round++) {
		bale_txn_begin(m, &t);
		bale_txn_put(&t, BALE_TABLE_xattr, key, sizeof(key),
			     "0123456789", 10);
		assert_int_equal(bale_txn_commit(&t, NULL), 0);
		assert_int_equal(bale_meta_get(m, BALE_TABLE_xattr, key,
					       sizeof(key), buf, sizeof(buf),
					       &len),
				 -ENOSPC);
		assert_int_equal(len, 10);
		assert_int_equal(bale_meta_apply(m), 0); /* and from LMDB */
	}
	assert_int_equal(bale_meta_get(m, BALE_TABLE_xattr, key,
				       sizeof(key) - 1, buf, 0, &len),
			 -ENOENT);
	store_close(st);
}

/* A row that no reader would accept must not get into the log either. */
static void bad_rows_are_refused(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	be64 key = be64_put(7);
	struct bale_txn t;
	size_t len;
	le64 val = le64_put(1);

	(void)state;
	bale_txn_begin(m, &t);
	bale_txn_put(&t, BALE_TABLE_orphan, &key, sizeof(key), &val,
		     sizeof(val));
	bale_txn_put(&t, BALE_TABLE_inode, &key, sizeof(key), "short", 5);
	assert_true(bale_txn_commit(&t, NULL) < 0);
	assert_int_equal(bale_meta_get(m, BALE_TABLE_orphan, &key, sizeof(key),
				       &val, sizeof(val), &len),
			 -ENOENT);
	store_close(st);
}

static void rows_follow_the_model(void **state)
{
	struct model *model = calloc(1, sizeof(*model));
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	uint64_t seq, rnd = 7;

	(void)state;
	for (uint64_t i = 1; i <= 4000; i++) {
		struct bale_meta *m = bale_store_meta(st);

		assert_int_equal(model_stage(m, i, &seq), 0);
		model_advance(model, i);
		if (test_rnd(&rnd) % 40 == 0)
			assert_int_equal(bale_meta_sync(m, seq), 0);
		if (test_rnd(&rnd) % 150 == 0)
			assert_int_equal(bale_meta_apply(m), 0);
		if (test_rnd(&rnd) % 400 == 0)
			model_check(m, model);
		if (test_rnd(&rnd) % 700 == 0)
			assert_int_equal(bale_meta_checkpoint(m), 0);
		if (test_rnd(&rnd) % 500 == 0) {
			store_close(st);
			st = store_open(&dir, OPEN_MANUAL);
			model_check(bale_store_meta(st), model);
		}
	}
	model_check(bale_store_meta(st), model);
	store_close(st);
	free(model);
}

struct found {
	unsigned int nr, stop_after;
	uint8_t first[32];
	size_t first_len;
};

static int note_row(const void *key, size_t len, const void *val,
		    size_t val_len, void *arg)
{
	struct found *f = arg;

	(void)val;
	(void)val_len;
	if (!f->nr++) {
		memcpy(f->first, key, len);
		f->first_len = len;
	}
	return f->nr == f->stop_after ? 77 : 0;
}

static void put_name(struct bale_meta *m, uint64_t ino, unsigned int n,
		     bool del)
{
	uint8_t key[32];
	be64 word = be64_put(ino);
	struct bale_txn t;
	size_t len;

	memcpy(key, &word, sizeof(word));
	len = 8 + (size_t)snprintf((char *)key + 8, 24, "n%05u", n);
	bale_txn_begin(m, &t);
	if (del)
		bale_txn_del(&t, BALE_TABLE_xattr, key, len);
	else
		bale_txn_put(&t, BALE_TABLE_xattr, key, len, &n, sizeof(n));
	assert_int_equal(bale_txn_commit(&t, NULL), 0);
}

static int scan_names(struct bale_meta *m, uint64_t ino, const char *from,
		      unsigned int stop_after, struct found *f)
{
	uint8_t key[32];
	be64 word = be64_put(ino);

	*f = (struct found){ .stop_after = stop_after };
	memcpy(key, &word, sizeof(word));
	memcpy(key + 8, from, strlen(from));
	return bale_meta_scan(m, BALE_TABLE_xattr, key, 8 + strlen(from), 8,
			      note_row, f);
}

/* Rows of one prefix spread over LMDB, frozen and active, some deleted. */
static void scans_merge_and_stop(void **state)
{
	enum { N = 5000 };
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	struct found f;

	(void)state;
	for (unsigned int n = 0; n < N; n += 2)
		put_name(m, 100, n, false);
	put_name(m, 99, 1, false);
	assert_int_equal(bale_meta_apply(m), 0);
	for (unsigned int n = 1; n < N; n += 2)
		put_name(m, 100, n, false);
	put_name(m, 101, 1, false);
	for (unsigned int n = 0; n < N; n += 10)
		put_name(m, 100, n, true);
	assert_int_equal(scan_names(m, 100, "", 0, &f), 0);
	assert_int_equal(f.nr, N - N / 10);
	assert_memory_equal(f.first + 8, "n00001", 6);
	assert_int_equal(scan_names(m, 100, "n02500", 0, &f), 0);
	assert_int_equal(f.nr, (N - N / 10) / 2);
	assert_memory_equal(f.first + 8, "n02501", 6);
	for (unsigned int stop = 1; stop < 3000; stop = stop * 3 + 1) {
		assert_int_equal(scan_names(m, 100, "", stop, &f), 77);
		assert_int_equal(f.nr, stop);
	}
	assert_int_equal(scan_names(m, 100, "n04999", 0, &f), 0);
	assert_int_equal(f.nr, 1);
	assert_int_equal(scan_names(m, 100, "n05", 0, &f), 0);
	assert_int_equal(f.nr, 0);
	assert_int_equal(scan_names(m, 98, "", 0, &f), 0);
	assert_int_equal(f.nr, 0);
	store_close(st);
}

/* ---- threads ---- */

struct readers {
	struct bale_meta *m;
	atomic_bool stop;
	_Atomic uint64_t staged; /* finished staging up to here */
	atomic_uint failed;
	atomic_ulong reads;
};

/* modelseq never goes back, and is never behind what was staged before. */
static void *reader(void *arg)
{
	struct readers *r = arg;
	uint64_t last = 0;

	while (!atomic_load(&r->stop)) {
		uint64_t least = atomic_load(&r->staged);
		size_t len = 0;
		le64 seq = { { 0 } };
		int e = bale_meta_get(r->m, BALE_TABLE_meta, "modelseq", 8,
				      &seq, sizeof(seq), &len);

		if ((e && (e != -ENOENT || least)) || le64_get(seq) < least ||
		    le64_get(seq) < last)
			atomic_fetch_add(&r->failed, 1);
		last = le64_get(seq);
		atomic_fetch_add(&r->reads, 1);
	}
	return NULL;
}

struct order {
	uint8_t last[300];
	size_t len;
	bool bad;
};

static int check_ascending(const void *key, size_t len, const void *val,
			   size_t val_len, void *arg)
{
	struct order *o = arg;
	int c = memcmp(o->last, key, o->len < len ? o->len : len);

	(void)val;
	(void)val_len;
	if (c > 0 || (!c && o->len >= len))
		o->bad = true;
	memcpy(o->last, key, len);
	o->len = len;
	return 0;
}

static void *scanner(void *arg)
{
	struct readers *r = arg;

	while (!atomic_load(&r->stop)) {
		struct order o = { .len = 0 };

		if (bale_meta_scan(r->m, BALE_TABLE_xattr, "", 0, 0,
				   check_ascending, &o) ||
		    o.bad)
			atomic_fetch_add(&r->failed, 1);
		atomic_fetch_add(&r->reads, 1);
	}
	return NULL;
}

static void readers_see_every_row_while_it_moves(void **state)
{
	enum { N = 3, TXNS = 12000 };
	struct bale_store *st = store_open(&dir, 0);
	struct readers r = { .m = bale_store_meta(st) };
	struct model *model = calloc(1, sizeof(*model));
	pthread_t t[N];

	(void)state;
	for (int i = 0; i < N; i++)
		assert_int_equal(
			pthread_create(&t[i], NULL, i ? reader : scanner, &r),
			0);
	for (uint64_t i = 1; i <= TXNS; i++) {
		assert_int_equal(model_stage(r.m, i, NULL), 0);
		atomic_store(&r.staged, i);
		if (i % 1500 == 0)
			assert_int_equal(bale_meta_apply(r.m), 0);
		if (i % 4000 == 0)
			assert_int_equal(bale_meta_checkpoint(r.m), 0);
	}
	atomic_store(&r.stop, true);
	for (int i = 0; i < N; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(atomic_load(&r.failed), 0);
	assert_true(atomic_load(&r.reads) > 100);
	model_advance(model, TXNS);
	model_check(r.m, model);
	store_close(st);
	st = store_open(&dir, OPEN_MANUAL);
	model_check(bale_store_meta(st), model);
	store_close(st);
	free(model);
}

struct syncer {
	struct bale_meta *m;
	uint64_t ino;
	int error;
};

static void *sync_often(void *arg)
{
	struct syncer *s = arg;

	for (unsigned int n = 0; n < 60 && !s->error; n++) {
		be64 key = be64_put(s->ino + n * 64);
		le64 val = le64_put(n);
		struct bale_txn t;
		uint64_t seq = 0;

		bale_txn_begin(s->m, &t);
		bale_txn_put(&t, BALE_TABLE_orphan, &key, sizeof(key), &val,
			     sizeof(val));
		s->error = bale_txn_commit(&t, &seq);
		if (!s->error)
			s->error = bale_meta_sync(s->m, seq);
		if (!s->error && bale_meta_durable(s->m) < seq)
			s->error = -EDOM;
	}
	return NULL;
}

static void concurrent_syncs_share_commits(void **state)
{
	enum { N = 16 };
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta_stats stats;
	struct syncer s[N];
	pthread_t t[N];

	(void)state;
	for (unsigned int i = 0; i < N; i++) {
		s[i] = (struct syncer){ bale_store_meta(st), 100 + i, 0 };
		assert_int_equal(pthread_create(&t[i], NULL, sync_often, &s[i]),
				 0);
	}
	for (unsigned int i = 0; i < N; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(s[i].error, 0);
	}
	bale_meta_stats(bale_store_meta(st), &stats);
	assert_true(stats.commits < N * 60 / 2);
	assert_int_equal(bale_meta_staged(bale_store_meta(st)),
			 bale_meta_durable(bale_store_meta(st)));
	store_close(st);
}

/* ---- counters ---- */

struct counting {
	struct bale_meta *m;
	uint64_t ids[30000];
	int error;
};

static void *count_ids(void *arg)
{
	struct counting *c = arg;

	for (size_t i = 0; i < 30000 && !c->error; i++)
		c->error = bale_meta_new_ino(c->m, &c->ids[i]);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void counters_never_repeat(void **state)
{
	enum { N = 4, ROUNDS = 3, EACH = 30000 };
	struct counting *c = calloc(N, sizeof(*c));
	uint64_t *all = calloc((size_t)ROUNDS * N * EACH, sizeof(*all));
	size_t nr = 0;

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct bale_store *st = store_open(&dir, 0);
		pthread_t t[N];

		for (int i = 0; i < N; i++) {
			c[i].m = bale_store_meta(st);
			assert_int_equal(
				pthread_create(&t[i], NULL, count_ids, &c[i]),
				0);
		}
		for (int i = 0; i < N; i++) {
			pthread_join(t[i], NULL);
			assert_int_equal(c[i].error, 0);
			memcpy(all + nr, c[i].ids, sizeof(c[i].ids));
			nr += EACH;
		}
		store_close(st);
	}
	qsort(all, nr, sizeof(*all), by_value);
	assert_true(all[0] >= BALE_FIRST_INO);
	for (size_t i = 1; i < nr; i++)
		assert_true(all[i] > all[i - 1]);
	free(all);
	free(c);
}

/* ---- extents ---- */

static void add_extent(struct bale_store *st, uint64_t *ret_id,
		       struct bale_extent_row *ret)
{
	static const char data[1000] = "stored bytes";
	struct bale_extent_in in = { .ino = 20,
				     .raw_len = 4000,
				     .codec = 2,
				     .stored = data,
				     .stored_len = sizeof(data) };
	struct bale_txn t;

	assert_int_equal(bale_store_new_id(st, &in.id), 0);
	assert_int_equal(bale_store_append(st, &in, 1, ret), 0);
	bale_txn_begin(bale_store_meta(st), &t);
	bale_txn_extent_add(&t, in.id, ret);
	assert_int_equal(bale_txn_commit(&t, NULL), 0);
	*ret_id = in.id;
}

static int change_refs(struct bale_meta *m, uint64_t id, int by)
{
	struct bale_txn t;

	bale_txn_begin(m, &t);
	for (; by > 0; by--)
		bale_txn_extent_ref(&t, id);
	for (; by < 0; by++)
		bale_txn_extent_unref(&t, id);
	return bale_txn_commit(&t, NULL);
}

static void references_count(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	struct bale_extent_row row, got;
	struct bale_space_info before, after;
	struct bale_txn t;
	uint64_t id;

	(void)state;
	add_extent(st, &id, &row);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(change_refs(m, id, 3), 0);
		assert_int_equal(bale_meta_extent(m, id, &got), 0);
		assert_int_equal(got.refs, 4);
		assert_int_equal(bale_meta_apply(m), 0);
		assert_int_equal(change_refs(m, id, -3), 0);
		assert_int_equal(bale_meta_extent(m, id, &got), 0);
		assert_int_equal(got.refs, 1);
	}
	/* Within one transaction each op sees the ones before it. */
	bale_txn_begin(m, &t);
	bale_txn_extent_unref(&t, id);
	bale_txn_extent_add(&t, id, &row);
	bale_txn_extent_ref(&t, id);
	assert_int_equal(bale_txn_commit(&t, NULL), 0);
	assert_int_equal(bale_meta_extent(m, id, &got), 0);
	assert_int_equal(got.refs, 2);
	bale_space_info(st, &before);
	assert_int_equal(change_refs(m, id, -2), 0);
	bale_space_info(st, &after);
	assert_int_equal(before.live - after.live, row.stored_len);
	assert_int_equal(bale_meta_extent(m, id, &got), -ENOENT);
	store_close(st);
}

/* What cannot be resolved changes nothing, not even the rows before it. */
static void a_failed_transaction_leaves_nothing(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	struct bale_extent_row row, got;
	uint64_t id, staged = 0;
	struct bale_txn t;
	be64 key = be64_put(500);
	le64 val = le64_put(1);
	size_t len;

	(void)state;
	add_extent(st, &id, &row);
	staged = bale_meta_staged(m);
	bale_txn_begin(m, &t);
	bale_txn_put(&t, BALE_TABLE_orphan, &key, sizeof(key), &val,
		     sizeof(val));
	bale_txn_extent_ref(&t, id);
	bale_txn_extent_ref(&t, id + 1000);
	assert_true(bale_txn_commit(&t, NULL) < 0);
	assert_int_equal(bale_meta_get(m, BALE_TABLE_orphan, &key, sizeof(key),
				       &val, sizeof(val), &len),
			 -ENOENT);
	assert_int_equal(bale_meta_extent(m, id, &got), 0);
	assert_int_equal(got.refs, 1);
	assert_int_equal(bale_meta_staged(m), staged);
	store_close(st);
	st = store_open(&dir, OPEN_MANUAL);
	m = bale_store_meta(st);
	assert_int_equal(bale_meta_extent(m, id, &got), 0);
	assert_int_equal(got.refs, 1);
	assert_int_equal(bale_meta_get(m, BALE_TABLE_orphan, &key, sizeof(key),
				       &val, sizeof(val), &len),
			 -ENOENT);
	store_close(st);
}

static void a_move_needs_the_old_place(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	struct bale_extent_row row, to, got;
	struct bale_txn t;
	uint64_t id, other;

	(void)state;
	add_extent(st, &id, &row);
	add_extent(st, &other, &to);
	assert_int_equal(change_refs(m, id, 2), 0);
	bale_txn_begin(m, &t);
	bale_txn_extent_move(&t, id, &row, &to);
	assert_int_equal(bale_txn_commit(&t, NULL), 0);
	assert_int_equal(bale_meta_extent(m, id, &got), 0);
	assert_int_equal(got.offset, to.offset);
	assert_int_equal(got.refs, 3); /* references are not the mover's */
	bale_txn_begin(m, &t);
	bale_txn_extent_move(&t, id, &row, &to); /* no longer there */
	assert_int_equal(bale_txn_commit(&t, NULL), 0);
	assert_int_equal(bale_meta_extent(m, id, &got), 0);
	assert_int_equal(got.offset, to.offset);
	assert_int_equal(change_refs(m, id, -3), 0);
	bale_txn_begin(m, &t);
	bale_txn_extent_move(&t, id, &to, &row); /* gone altogether */
	assert_int_equal(bale_txn_commit(&t, NULL), 0);
	assert_int_equal(bale_meta_extent(m, id, &got), -ENOENT);
	store_close(st);
}

struct racer {
	struct bale_store *st;
	uint64_t *ids;
	unsigned int nr, seed;
	int error;
};

/* Takes references and gives the same number back, in random transactions. */
static void *race_refs(void *arg)
{
	struct racer *r = arg;
	uint64_t rnd = r->seed + 1;
	unsigned int *held = calloc(r->nr, sizeof(*held));

	for (int i = 0; i < 3000 && !r->error; i++) {
		unsigned int k = (unsigned int)(test_rnd(&rnd) % r->nr);
		int by = (int)(test_rnd(&rnd) % 3) + 1;

		if (held[k] >= (unsigned int)by && test_rnd(&rnd) % 2)
			by = -by;
		r->error = change_refs(bale_store_meta(r->st), r->ids[k], by);
		held[k] += (unsigned int)by;
	}
	for (unsigned int k = 0; k < r->nr && !r->error; k++)
		if (held[k])
			r->error = change_refs(bale_store_meta(r->st),
					       r->ids[k], -(int)held[k]);
	free(held);
	return NULL;
}

static void *race_moves(void *arg)
{
	struct racer *r = arg;
	struct bale_meta *m = bale_store_meta(r->st);
	uint64_t rnd = r->seed + 1;

	for (int i = 0; i < 1500 && !r->error; i++) {
		struct bale_extent_row a, b;
		struct bale_txn t;
		uint64_t x = r->ids[test_rnd(&rnd) % r->nr];
		uint64_t y = r->ids[test_rnd(&rnd) % r->nr];

		if (bale_meta_extent(m, x, &a) || bale_meta_extent(m, y, &b))
			r->error = -EDOM;
		b.refs = a.refs;
		bale_txn_begin(m, &t);
		bale_txn_extent_move(&t, x, &a, &b);
		if (!r->error)
			r->error = bale_txn_commit(&t, NULL);
	}
	return NULL;
}

static void references_and_moves_race(void **state)
{
	enum { N = 4, IDS = 40 };
	struct bale_store *st = store_open(&dir, 0);
	struct bale_meta *m = bale_store_meta(st);
	uint64_t ids[IDS];
	struct bale_extent_row row;
	struct racer r[N];
	pthread_t t[N];

	(void)state;
	for (int i = 0; i < IDS; i++)
		add_extent(st, &ids[i], &row);
	for (unsigned int i = 0; i < N; i++) {
		r[i] = (struct racer){ st, ids, IDS, i, 0 };
		assert_int_equal(pthread_create(&t[i], NULL,
						i ? race_refs : race_moves,
						&r[i]),
				 0);
	}
	for (int i = 0; i < 10; i++)
		assert_int_equal(bale_meta_apply(m), 0);
	for (int i = 0; i < N; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(r[i].error, 0);
	}
	for (int i = 0; i < IDS; i++) {
		assert_int_equal(bale_meta_extent(m, ids[i], &row), 0);
		assert_int_equal(row.refs, 1);
	}
	store_close(st);
}

/* ---- checkpoints and rebuilding ---- */

static void remove_index(void)
{
	char names[16][32];
	size_t nr = store_list(&dir, "index", names, 16);

	for (size_t i = 0; i < nr; i++) {
		char path[48];

		snprintf(path, sizeof(path), "index/%s", names[i]);
		assert_int_equal(unlink(store_file(&dir, path)), 0);
	}
}

static void *stage_on(void *arg)
{
	struct readers *r = arg;

	while (!atomic_load(&r->stop)) {
		uint64_t i = atomic_load(&r->staged) + 1;

		if (model_stage(r->m, i, NULL))
			atomic_fetch_add(&r->failed, 1);
		atomic_store(&r->staged, i);
	}
	return NULL;
}

static void an_index_is_rebuilt_from_any_checkpoint(void **state)
{
	struct bale_store *st = store_open(&dir, 0);
	struct readers r = { .m = bale_store_meta(st) };
	struct digest live, rebuilt;
	struct bale_meta_stats s;
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, stage_on, &r), 0);
	for (int i = 0; i < 6; i++) {
		usleep(50000);
		assert_int_equal(bale_meta_checkpoint(r.m), 0);
	}
	usleep(50000);
	atomic_store(&r.stop, true);
	pthread_join(t, NULL);
	assert_int_equal(atomic_load(&r.failed), 0);
	live = store_digest(st);
	store_close(st);

	/* newest checkpoint, then the one before it, then the log */
	for (int round = 0; round < 3; round++) {
		char names[8][32], path[48];
		size_t nr = store_list(&dir, "ckpt", names, 8);

		remove_index();
		st = store_open(&dir, OPEN_MANUAL);
		bale_meta_stats(bale_store_meta(st), &s);
		assert_true(s.index_rebuilt);
		assert_true(s.rebuild_reason[0]);
		rebuilt = store_digest(st);
		assert_true(digest_equal(&live, &rebuilt));
		model_check_prefix(bale_store_meta(st), r.staged);
		store_close(st);
		if (round == 2)
			break;
		assert_true(nr >= 1 && nr <= 3);
		if (round)
			continue;
		/* the next rebuild meets a broken newest checkpoint */
		snprintf(path, sizeof(path), "ckpt/%s", names[nr - 1]);
		assert_int_equal(truncate(store_file(&dir, path), 5000), 0);
	}
}

static void old_log_files_go(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	char names[64][32];
	uint64_t i = 0;

	(void)state;
	for (int round = 0; round < 8; round++) {
		for (int n = 0; n < 2500; n++)
			assert_int_equal(model_stage(m, ++i, NULL), 0);
		assert_int_equal(bale_meta_apply(m), 0);
		assert_int_equal(bale_meta_checkpoint(m), 0);
	}
	/* 8 x 2 MiB or so were written in files of 1 MiB */
	assert_true(store_list(&dir, "log", names, 64) < 14);
	assert_true(store_list(&dir, "ckpt", names, 64) <= 3);
	store_close(st);
	st = store_open(&dir, OPEN_REBUILD | OPEN_MANUAL);
	assert_int_equal(model_check_prefix(bale_store_meta(st), i), i);
	store_close(st);
}

/* ---- failures ---- */

static void a_failed_sync_ends_all_changes(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	struct bale_meta *m = bale_store_meta(st);
	uint64_t first, seq;

	(void)state;
	assert_int_equal(model_stage(m, 1, &first), 0);
	assert_int_equal(bale_meta_sync(m, first), 0);
	assert_int_equal(model_stage(m, 2, &seq), 0);
	assert_int_equal(bale_fault_arm("io.sync:1:EIO"), 0);
	assert_true(bale_meta_sync(m, seq) < 0);
	bale_fault_clear();
	assert_true(bale_meta_sync(m, seq) < 0);   /* and it stays so */
	assert_true(bale_meta_sync(m, first) < 0); /* for everybody */
	assert_int_equal(model_stage(m, 3, &seq), -EROFS);
	assert_int_equal(model_seq(m), 2); /* reading goes on */
	assert_true(bale_store_error(st) < 0);
	assert_true(bale_meta_durable(m) < bale_meta_staged(m));
	assert_true(bale_store_close(st) < 0);
	st = store_open(&dir, OPEN_MANUAL);
	model_check_prefix(bale_store_meta(st), 1);
	store_close(st);
}

/* The index finds no space for a while: nothing fails, nothing is lost, and it
 * catches up. */
static void an_index_without_space_waits(void **state)
{
	struct bale_store *st = store_open(&dir, 0);
	struct bale_meta *m = bale_store_meta(st);
	struct bale_meta_stats before, after;
	uint64_t i = 0;

	(void)state;
	bale_meta_stats(m, &before);
	assert_int_equal(bale_fault_arm("meta.apply:1+:ENOSPC"), 0);
	/* more than the applier leaves in memory by itself */
	while (i < 30000)
		assert_int_equal(model_stage(m, ++i, NULL), 0);
	assert_int_equal(bale_meta_apply(m), -ENOSPC);
	assert_int_equal(bale_meta_sync(m, 0), 0);
	assert_int_equal(bale_store_error(st), 0);
	bale_meta_stats(m, &after);
	assert_int_equal(after.applied_lsn, before.applied_lsn);
	model_check_prefix(m, i);
	bale_fault_clear();
	assert_int_equal(bale_meta_apply(m), 0);
	bale_meta_stats(m, &after);
	assert_true(after.applied_lsn > before.applied_lsn);
	model_check_prefix(m, i);

	/* ... nor at the end: the log has it */
	assert_int_equal(model_stage(m, ++i, NULL), 0);
	assert_int_equal(bale_fault_arm("meta.apply:1+:ENOSPC"), 0);
	store_close(st);
	bale_fault_clear();
	st = store_open(&dir, OPEN_MANUAL);
	assert_int_equal(model_check_prefix(bale_store_meta(st), i), i);
	store_close(st);
}

static void each_failing_call_is_survived(void **state)
{
	static const char *const points[] = { "io.sync", "io.pwritev",
					      "io.open", "io.rename" };

	(void)state;
	for (size_t p = 0; p < sizeof(points) / sizeof(*points); p++)
		for (int nth = 1; nth < 12; nth++) {
			struct bale_store *st = store_open(&dir, OPEN_MANUAL);
			struct bale_meta *m = bale_store_meta(st);
			uint64_t acked = model_seq(m), i = acked, seq;
			char spec[48];

			snprintf(spec, sizeof(spec), "%s:%d:EIO", points[p],
				 nth);
			assert_int_equal(bale_fault_arm(spec), 0);
			for (int n = 0; n < 12; n++) {
				if (!model_stage(m, i + 1, &seq)) {
					i++;
					if (!bale_meta_sync(m, seq))
						acked = i;
				}
				if (n % 4 == 2)
					bale_meta_apply(m);
				if (n % 6 == 4)
					bale_meta_checkpoint(m);
			}
			bale_store_close(st);
			bale_fault_clear();
			st = store_open(&dir, OPEN_MANUAL);
			model_check_prefix(bale_store_meta(st), acked);
			store_close(st);
		}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_new_store_has_a_root),
		T(get_says_how_long),
		T(bad_rows_are_refused),
		T(rows_follow_the_model),
		T(scans_merge_and_stop),
		T(readers_see_every_row_while_it_moves),
		T(concurrent_syncs_share_commits),
		T(counters_never_repeat),
		T(references_count),
		T(a_failed_transaction_leaves_nothing),
		T(a_move_needs_the_old_place),
		T(references_and_moves_race),
		T(an_index_is_rebuilt_from_any_checkpoint),
		T(old_log_files_go),
		T(a_failed_sync_ends_all_changes),
		T(an_index_without_space_waits),
		T(each_failing_call_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
