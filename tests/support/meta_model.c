/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/meta_model.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dirent.h>

#include <cmocka.h>

enum { VALUE_LEN_MAX = 65536, ROWS_A_TXN = 6 };

static const enum bale_table tables[MODEL_TABLES] = { BALE_TABLE_meta,
						      BALE_TABLE_xattr,
						      BALE_TABLE_orphan };

uint64_t test_rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* ---- rows ---- */

static size_t make_key(int table, unsigned int k, uint8_t key[64])
{
	be64 word = be64_put(1000 + k % 7);

	switch (tables[table]) {
	case BALE_TABLE_meta:
		return (size_t)snprintf((char *)key, 64, "model.%u", k * 37);
	case BALE_TABLE_xattr:
		memcpy(key, &word, sizeof(word));
		return 8 + (size_t)snprintf((char *)key + 8, 56, "user.%u",
					    k * 53 % 9973);
	default:
		word = be64_put(1 + (uint64_t)k * 11);
		memcpy(key, &word, sizeof(word));
		return 8;
	}
}

static bool parse_key(int table, const uint8_t *key, size_t len,
		      unsigned int *ret)
{
	char text[64] = { 0 };
	uint8_t again[64];
	unsigned int n;
	be64 word;

	switch (tables[table]) {
	case BALE_TABLE_meta:
		memcpy(text, key, len < 63 ? len : 63);
		if (sscanf(text, "model.%u", &n) != 1)
			return false;
		*ret = n / 37;
		break;
	case BALE_TABLE_xattr:
		memcpy(text, key + 8, len - 8 < 63 ? len - 8 : 63);
		if (sscanf(text, "user.%u", &n) != 1)
			return false;
		for (*ret = 0; *ret < MODEL_KEYS; (*ret)++)
			if (*ret * 53 % 9973 == n)
				break;
		break;
	default:
		memcpy(&word, key, sizeof(word));
		*ret = (unsigned int)((be64_get(word) - 1) / 11);
	}
	return *ret < MODEL_KEYS && make_key(table, *ret, again) == len &&
	       !memcmp(key, again, len);
}

static size_t make_value(int table, uint64_t version, uint8_t *val)
{
	uint64_t h = mix(version);
	size_t len = h % 301;

	if (tables[table] != BALE_TABLE_xattr) {
		le64 word = le64_put(version);

		memcpy(val, &word, sizeof(word));
		return sizeof(word);
	}
	if (h >> 32 & 1) /* many of one length: rows replaced in place */
		len = 96;
	else if ((h >> 40) % 400 == 0)
		len = VALUE_LEN_MAX - h % 5;
	for (size_t i = 0; i < len; i++)
		val[i] = (uint8_t)(h >> (i % 8 * 8)) ^ (uint8_t)i;
	return len;
}

/* Row j of transaction i. */
static uint64_t row_change(uint64_t i, unsigned int j, int *table,
			   unsigned int *k)
{
	uint64_t h = mix(i * ROWS_A_TXN + j);

	*table = (int)(h % MODEL_TABLES);
	/* A few rows change all the time, like a busy directory. */
	*k = (unsigned int)(h >> 8 & 3 ? (h >> 16) % MODEL_KEYS :
					 (h >> 16) % 10);
	return (h >> 48) % 4 ? i * ROWS_A_TXN + j + 1 : 0;
}

void model_advance(struct model *m, uint64_t to)
{
	while (m->seq < to) {
		m->seq++;
		for (unsigned int j = 0; j < ROWS_A_TXN; j++) {
			unsigned int k;
			int table;
			uint64_t v = row_change(m->seq, j, &table, &k);

			m->version[table][k] = v;
		}
	}
}

int model_stage(struct bale_meta *meta, uint64_t i, uint64_t *ret_seq)
{
	static _Thread_local uint8_t val[VALUE_LEN_MAX];
	struct bale_txn t;
	le64 seq = le64_put(i);

	bale_txn_begin(meta, &t);
	for (unsigned int j = 0; j < ROWS_A_TXN; j++) {
		unsigned int k;
		uint8_t key[64];
		int table;
		uint64_t v = row_change(i, j, &table, &k);
		size_t len = make_key(table, k, key);

		if (v)
			bale_txn_put(&t, tables[table], key, len, val,
				     make_value(table, v, val));
		else
			bale_txn_del(&t, tables[table], key, len);
	}
	bale_txn_put(&t, BALE_TABLE_meta, "modelseq", 8, &seq, sizeof(seq));
	return bale_txn_commit(&t, ret_seq);
}

uint64_t model_seq(struct bale_meta *meta)
{
	size_t len = 0;
	le64 seq;
	int r = bale_meta_get(meta, BALE_TABLE_meta, "modelseq", 8, &seq,
			      sizeof(seq), &len);

	if (r == -ENOENT)
		return 0;
	assert_int_equal(r, 0);
	assert_int_equal(len, sizeof(seq));
	return le64_get(seq);
}

/* ---- comparing ---- */

struct check {
	const struct model *m;
	int table;
	unsigned int seen;
	uint8_t last[300];
	size_t last_len;
	uint8_t *val;
};

static int check_row(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct check *c = arg;
	size_t common = key_len < c->last_len ? key_len : c->last_len;
	int order = memcmp(c->last, key, common);
	unsigned int k;

	if (order > 0 || (!order && c->last_len >= key_len))
		fail_msg("scan of table %d out of order", c->table);
	memcpy(c->last, key, key_len);
	c->last_len = key_len;
	if (!parse_key(c->table, key, key_len, &k))
		return 0; /* not the model's */
	if (!c->m->version[c->table][k])
		fail_msg("seq %lu: table %d row %u should not be there",
			 (unsigned long)c->m->seq, c->table, k);
	if (val_len !=
		    make_value(c->table, c->m->version[c->table][k], c->val) ||
	    memcmp(val, c->val, val_len))
		fail_msg("seq %lu: table %d row %u differs",
			 (unsigned long)c->m->seq, c->table, k);
	c->seen++;
	return 0;
}

static void check_gets(struct bale_meta *meta, struct check *c)
{
	uint8_t *got = malloc(VALUE_LEN_MAX);

	for (unsigned int k = 0; k < MODEL_KEYS; k += 3) {
		uint64_t v = c->m->version[c->table][k];
		uint8_t key[64];
		size_t len = 0;
		int r = bale_meta_get(meta, tables[c->table], key,
				      make_key(c->table, k, key), got,
				      VALUE_LEN_MAX, &len);

		assert_int_equal(r, v ? 0 : -ENOENT);
		if (!v)
			continue;
		assert_int_equal(len, make_value(c->table, v, c->val));
		assert_memory_equal(got, c->val, len);
	}
	free(got);
}

void model_check(struct bale_meta *meta, const struct model *m)
{
	struct check c = { .m = m, .val = malloc(VALUE_LEN_MAX) };

	for (c.table = 0; c.table < MODEL_TABLES; c.table++) {
		unsigned int want = 0;

		c.seen = 0;
		c.last_len = 0;
		for (unsigned int k = 0; k < MODEL_KEYS; k++)
			want += m->version[c.table][k] != 0;
		assert_int_equal(bale_meta_scan(meta, tables[c.table], "", 0, 0,
						check_row, &c),
				 0);
		if (c.seen != want)
			fail_msg("seq %lu: table %d has %u rows, not %u",
				 (unsigned long)m->seq, c.table, c.seen, want);
		check_gets(meta, &c);
	}
	free(c.val);
}

uint64_t model_check_prefix(struct bale_meta *meta, uint64_t least)
{
	struct model *m = calloc(1, sizeof(*m));
	uint64_t seq = model_seq(meta);

	if (seq < least)
		fail_msg("transaction %lu was durable, only %lu are there",
			 (unsigned long)least, (unsigned long)seq);
	model_advance(m, seq);
	model_check(meta, m);
	free(m);
	return seq;
}

/* ---- stores ---- */

static void make_path(struct store_dir *d)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(d->path, sizeof(d->path), "%s/balefs-meta-XXXXXX",
		 tmp && strlen(tmp) < 64 ? tmp : "/tmp");
	assert_non_null(mkdtemp(d->path));
}

void store_dir_make(struct store_dir *d)
{
	struct bale_mkfs_options o = { .size = sizeof(o),
				       .segment_bits = 20,
				       .log_bits = 20 };

	make_path(d);
	assert_int_equal(bale_store_mkfs(d->path, &o), 0);
}

void store_dir_copy(struct store_dir *d, const struct store_dir *from)
{
	char cmd[256];

	make_path(d);
	snprintf(cmd, sizeof(cmd), "cp -a '%s/.' '%s/'", from->path, d->path);
	assert_int_equal(system(cmd), 0);
}

void store_dir_remove(struct store_dir *d)
{
	char cmd[256];

	if (!d->path[0])
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", d->path);
	assert_int_equal(system(cmd), 0);
	d->path[0] = 0;
}

const char *store_file(const struct store_dir *d, const char *name)
{
	static char text[4][160];
	static unsigned int turn;
	char *p = text[turn++ % 4];

	snprintf(p, sizeof(text[0]), "%s/%s", d->path, name);
	return p;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

size_t store_list(const struct store_dir *d, const char *folder,
		  char names[][32], size_t max)
{
	DIR *dir = opendir(store_file(d, folder));
	struct dirent *e;
	size_t nr = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)) && nr < max)
		if (e->d_name[0] != '.' && strlen(e->d_name) < 32)
			strcpy(names[nr++], e->d_name);
	closedir(dir);
	qsort(names, nr, 32, by_name);
	return nr;
}

int store_try_open(const struct store_dir *d, unsigned int flags,
		   struct bale_store **ret)
{
	struct bale_store_options o = {
		.size = sizeof(o),
		.read_only = flags & OPEN_READ_ONLY,
		.untrusted = flags & OPEN_UNTRUSTED,
		.rebuild_index = flags & OPEN_REBUILD,
		.manual_commit = flags & OPEN_MANUAL,
		.commit_ns = 20000000,
	};

	return bale_store_open(d->path, &o, ret);
}

struct bale_store *store_open(const struct store_dir *d, unsigned int flags)
{
	struct bale_store *st = NULL;

	assert_int_equal(store_try_open(d, flags, &st), 0);
	return st;
}

void store_close(struct bale_store *st)
{
	assert_int_equal(bale_store_close(st), 0);
}

struct digest store_digest(struct bale_store *st)
{
	struct digest d = { 0 };

	assert_int_equal(bale_meta_digest(bale_store_meta(st), d.v), 0);
	return d;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	for (int t = 0; t < BALE_TABLE_NR; t++)
		if (t != BALE_TABLE_segment &&
		    memcmp(a->v[t], b->v[t], sizeof(a->v[t])))
			return false;
	return true;
}
