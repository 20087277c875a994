/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit accepts every file that LMDB makes, and no damaged file that it
 * accepts makes LMDB crash or show other rows: each is walked by a child.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <lmdb.h>

#include "fs/base/crc32c.h"
#include "fs/store/audit.h"

enum { NR_TABLES = 3, PAGE = 4096 };

static char dir[64], file[96];
static uint64_t rnd_state = 1;

static uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/balefs-audit-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/data.mdb", dir);
	return 0;
}

static int teardown(void **state)
{
	char lock[96];

	(void)state;
	snprintf(lock, sizeof(lock), "%s/lock.mdb", dir);
	unlink(lock);
	unlink(file);
	return rmdir(dir);
}

static MDB_env *open_env(unsigned int flags)
{
	MDB_env *env;

	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_maxdbs(env, NR_TABLES + 1), 0);
	assert_int_equal(mdb_env_set_mapsize(env, (size_t)1 << 30), 0);
	if (mdb_env_open(env, dir, flags, 0600)) {
		mdb_env_close(env);
		return NULL;
	}
	return env;
}

static void open_tables(MDB_txn *txn, MDB_dbi dbi[NR_TABLES])
{
	for (int i = 0; i < NR_TABLES; i++) {
		char name[2] = { (char)('a' + i), 0 };

		assert_int_equal(mdb_dbi_open(txn, name, MDB_CREATE, &dbi[i]),
				 0);
	}
}

/* Keys and values of all the lengths that matter, with a checksum appended. */
static void random_op(MDB_txn *txn, const MDB_dbi dbi[NR_TABLES],
		      unsigned int spread)
{
	static uint8_t val[70000];
	uint64_t pick = rnd() % spread;
	size_t len = pick % 97 == 0 ? pick * 131 % 66000 : 8 + pick % 200;
	char key[300];
	MDB_val k, v;
	MDB_dbi d = dbi[pick % NR_TABLES];
	uint32_t crc;
	int n = snprintf(key, sizeof(key), "%08u", (unsigned int)(pick * 7));

	memset(key + n, 'k', sizeof(key) - (size_t)n);
	k.mv_data = key;
	k.mv_size = 8 + pick % 250;
	if (rnd() % 3 == 0) {
		int r = mdb_del(txn, d, &k, NULL);

		assert_true(!r || r == MDB_NOTFOUND);
		return;
	}
	if (rnd() % 4 == 0)
		len = 8 + rnd() % 3000;
	memset(val, (int)rnd(), len);
	crc = bale_crc32c(bale_crc32c(0, key, k.mv_size), val, len);
	memcpy(val + len, &crc, sizeof(crc));
	v.mv_data = val;
	v.mv_size = len + sizeof(crc);
	assert_int_equal(mdb_put(txn, d, &k, &v, 0), 0);
}

struct sum {
	uint64_t rows, sum;
};

static int add_row(const char *db, size_t db_len, const void *key,
		   size_t key_len, const void *val, size_t val_len, void *arg)
{
	struct sum *s = arg;
	uint32_t crc, got;

	(void)db;
	if (db_len != 1 || val_len < sizeof(crc))
		return -EBADMSG;
	val_len -= sizeof(crc);
	crc = bale_crc32c(bale_crc32c(0, key, key_len), val, val_len);
	memcpy(&got, (const char *)val + val_len, sizeof(got));
	if (crc != got)
		return -EBADMSG;
	s->rows++;
	s->sum += (uint64_t)crc * (crc | 1);
	return 0;
}

static int audit(struct sum *s, char *why, size_t cap)
{
	int fd = open(file, O_RDONLY), r;

	assert_true(fd >= 0);
	*s = (struct sum){ 0 };
	r = bale_index_audit_rows(fd, add_row, s, why, cap);
	close(fd);
	return r;
}

/* Everything that LMDB can be asked: walk, look up, and change. */
static int walk_with_lmdb(struct sum *s)
{
	MDB_env *env = open_env(0);
	MDB_dbi dbi[NR_TABLES];
	MDB_txn *txn;

	*s = (struct sum){ 0 };
	if (!env)
		return -EUCLEAN;
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	open_tables(txn, dbi);
	for (int i = 0; i < NR_TABLES; i++) {
		MDB_cursor *c;
		MDB_val k, v, again;

		assert_int_equal(mdb_cursor_open(txn, dbi[i], &c), 0);
		while (!mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
			if (add_row("x", 1, k.mv_data, k.mv_size, v.mv_data,
				    v.mv_size, s) ||
			    mdb_get(txn, dbi[i], &k, &again) ||
			    again.mv_data != v.mv_data)
				return -EBADMSG;
		}
		mdb_cursor_close(c);
	}
	for (int i = 0; i < 300; i++)
		random_op(txn, dbi, 3000);
	if (mdb_txn_commit(txn))
		return -EIO;
	mdb_env_close(env);
	return 0;
}

static void fill(int txns, int ops, unsigned int spread)
{
	MDB_env *env = open_env(MDB_NOSYNC);
	MDB_dbi dbi[NR_TABLES];

	assert_non_null(env);
	for (int i = 0; i < txns; i++) {
		MDB_txn *txn;

		assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
		open_tables(txn, dbi);
		for (int j = 0; j < ops; j++)
			random_op(txn, dbi, spread);
		assert_int_equal(mdb_txn_commit(txn), 0);
	}
	mdb_env_close(env);
}

static void what_lmdb_makes_passes(void **state)
{
	static const struct {
		int txns, ops;
		unsigned int spread;
	} shapes[] = { { 1, 0, 1 },	  { 1, 1, 1 },	    { 3, 5, 10 },
		       { 40, 40, 300 },	  { 60, 60, 6000 }, { 5, 4000, 9000 },
		       { 30, 500, 3000 }, { 200, 3, 40 } };

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		struct sum a, b;
		char why[128];

		fill(shapes[i].txns, shapes[i].ops, shapes[i].spread);
		if (audit(&a, why, sizeof(why)))
			fail_msg("shape %zu: %s", i, why);
		assert_int_equal(walk_with_lmdb(&b), 0);
		assert_int_equal(a.rows, b.rows);
		assert_int_equal(a.sum, b.sum);
		if (audit(&a, why, sizeof(why)))
			fail_msg("shape %zu, changed: %s", i, why);
	}
}

/* ---- damage ---- */

static void damage(uint8_t *buf, size_t *len, int kind)
{
	size_t pages = *len / PAGE, page = (size_t)(rnd() % pages) * PAGE;

	switch (kind) {
	case 0: /* a bit anywhere */
		buf[rnd() % *len] ^= (uint8_t)(1u << rnd() % 8);
		break;
	case 1: /* a bit in a page's head */
		buf[page + rnd() % 64] ^= (uint8_t)(1u << rnd() % 8);
		break;
	case 2: /* a page of zeros */
		memset(buf + page, 0, PAGE);
		break;
	case 3: { /* two pages change places */
		size_t other = (size_t)(rnd() % pages) * PAGE;
		uint8_t tmp[PAGE];

		memcpy(tmp, buf + page, PAGE);
		memcpy(buf + page, buf + other, PAGE);
		memcpy(buf + other, tmp, PAGE);
		break;
	}
	case 4: /* truncated */
		*len = rnd() % *len;
		break;
	case 5: /* a word in a page's head or pointers */
		for (int i = 0; i < 2; i++)
			buf[page + 8 + rnd() % 120 + (size_t)i] =
				(uint8_t)rnd();
		break;
	default: { /* an older copy of a page: another page under its number */
		size_t other = (size_t)(rnd() % pages) * PAGE;

		memcpy(buf + page + 8, buf + other + 8, PAGE - 8);
		break;
	}
	}
}

static void write_file(const uint8_t *buf, size_t len)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	close(fd);
}

static int child_walk(const struct sum *want)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		struct sum s;
		int r = walk_with_lmdb(&s);

		_exit(r || s.rows != want->rows || s.sum != want->sum);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void damage_is_doubted_or_harmless(void **state)
{
	enum { ROUNDS = 200, KINDS = 7 };
	struct sum want, got;
	unsigned int refused = 0, accepted = 0;
	uint8_t *good, *bad;
	struct stat st;
	char why[128];
	int fd;

	(void)state;
	fill(60, 60, 3000);
	assert_int_equal(audit(&want, why, sizeof(why)), 0);
	assert_true(want.rows > 500);
	assert_int_equal(stat(file, &st), 0);
	good = malloc((size_t)st.st_size);
	bad = malloc((size_t)st.st_size);
	fd = open(file, O_RDONLY);
	assert_int_equal(read(fd, good, (size_t)st.st_size), st.st_size);
	close(fd);
	for (int i = 0; i < ROUNDS * KINDS; i++) {
		size_t len = (size_t)st.st_size;
		int r;

		memcpy(bad, good, len);
		damage(bad, &len, i % KINDS);
		write_file(bad, len);
		r = audit(&got, why, sizeof(why));
		assert_true(r == 0 || r == -EUCLEAN);
		if (r) {
			assert_true(why[0]);
			refused++;
			continue;
		}
		/* Rows are told apart by a digest, as the index does. */
		if (got.rows != want.rows || got.sum != want.sum)
			continue;
		accepted++;
		r = child_walk(&want);
		if (r)
			fail_msg("round %d: accepted, LMDB ended with %#x", i,
				 r);
	}
	assert_true(refused > ROUNDS);
	assert_true(accepted > 0);
	free(good);
	free(bad);
}

static int count_unnamed(const char *db, size_t db_len, const void *key,
			 size_t key_len, const void *val, size_t val_len,
			 void *arg)
{
	(void)db;
	(void)key;
	(void)key_len;
	(void)val;
	(void)val_len;
	*(int *)arg += db_len == 0;
	return 0;
}

/* The index keeps all its rows in the unnamed table. */
static void rows_of_the_unnamed_table(void **state)
{
	MDB_env *env = open_env(0);
	char why[128];
	int nr = 0, fd;
	MDB_txn *txn;
	MDB_dbi dbi;

	(void)state;
	assert_non_null(env);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
	for (uint32_t k = 0; k < 1000; k++) {
		MDB_val key = { sizeof(k), &k }, val = { 5, "value" };

		assert_int_equal(mdb_put(txn, dbi, &key, &val, 0), 0);
	}
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	fd = open(file, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(
		bale_index_audit_rows(fd, count_unnamed, &nr, why, sizeof(why)),
		0);
	close(fd);
	assert_int_equal(nr, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_lmdb_makes_passes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(rows_of_the_unnamed_table,
						setup, teardown),
		cmocka_unit_test_setup_teardown(damage_is_doubted_or_harmless,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
