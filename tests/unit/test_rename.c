/* SPDX-License-Identifier: Apache-2.0 */
/* test_rename.c - rename in all its forms, and many at once. */
#include <linux/fs.h>
#include <pthread.h>

#include "tests/support/names_fixture.h"

static int mv(struct bale_inode *a, const char *n, struct bale_inode *b,
	      const char *m)
{
	return bale_dir_rename(a, n, b, m, 0);
}

static void test_plain(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *d = fx_mk(f->root, "d", S_IFDIR | 0755);
	uint64_t a = fx_make(f->root, "a", S_IFREG | 0644);
	uint64_t b = fx_make(f->root, "b", S_IFREG | 0644);
	uint64_t entries = fx_row(f->root).nr_entries;

	assert_int_equal(mv(f->root, "nope", f->root, "x"), -ENOENT);
	assert_int_equal(mv(f->root, "a", f->root, "x"), 0);
	assert_int_equal(fx_ino(f->root, "x"), a);
	assert_int_equal(fx_ino(f->root, "a"), 0);
	assert_int_equal(mv(f->root, "x", f->root, "x"), 0);
	assert_int_equal(bale_dir_rename(f->root, "x", f->root, "b",
					 RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(mv(f->root, "x", f->root, "b"), 0);
	assert_int_equal(fx_ino(f->root, "b"), a);
	assert_int_equal(fx_row(f->root).nr_entries, entries - 1);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(mv(f->root, "b", d, "c"), 0);
	assert_int_equal(fx_ino(d, "c"), a);
	assert_int_equal(fx_row(d).nr_entries, 1);
	assert_int_equal(fx_row(f->root).nr_entries, entries - 2);
	assert_int_equal(bale_dir_rename(d, "c", f->root, "c",
					 RENAME_NOREPLACE), 0);
	assert_int_equal(bale_dir_rename(f->root, "c", d, "c", 1u << 5),
			 -EINVAL);
	assert_int_equal(bale_dir_rename(f->root, "c", d, "c", 3), -EINVAL);
	bale_inode_put(d);
	fx_remount(f);
	assert_int_equal(fx_ino(f->root, "c"), a);
	assert_int_equal(fx_ino(f->root, "b"), 0);
	(void)b;
}

static void test_two_names_of_one(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);

	assert_int_equal(bale_dir_link(i, f->root, "b"), 0);
	assert_int_equal(mv(f->root, "a", f->root, "b"), 0);
	assert_int_equal(fx_ino(f->root, "a"), i->ino);
	assert_int_equal(fx_row(i).nlink, 2);
	bale_inode_put(i);
}

static void test_directories(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *a = fx_mk(f->root, "a", S_IFDIR | 0755), *up;
	struct bale_inode *b = fx_mk(f->root, "b", S_IFDIR | 0755);
	struct bale_inode *c = fx_mk(a, "c", S_IFDIR | 0755);
	struct bale_inode *e = fx_mk(c, "e", S_IFDIR | 0755);

	fx_make(f->root, "file", S_IFREG | 0644);
	/* below itself, directly and deeper, and over an ancestor */
	assert_int_equal(mv(f->root, "a", a, "x"), -EINVAL);
	assert_int_equal(mv(f->root, "a", c, "x"), -EINVAL);
	assert_int_equal(mv(f->root, "a", e, "x"), -EINVAL);
	assert_int_equal(mv(c, "e", f->root, "a"), -ENOTEMPTY);
	assert_int_equal(mv(a, "c", f->root, "a"), -ENOTEMPTY);
	assert_int_equal(bale_dir_rename(c, "e", f->root, "a",
					 RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(bale_dir_rename(f->root, "a", c, "e",
					 RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(mv(f->root, "file", f->root, "a"), -EISDIR);
	assert_int_equal(mv(f->root, "a", f->root, "file"), -ENOTDIR);
	assert_int_equal(mv(f->root, "b", f->root, "a"), -ENOTEMPTY);
	/* a/c moves to b/c: link counts and ".." */
	assert_int_equal(mv(a, "c", b, "c"), 0);
	assert_int_equal(fx_row(a).nlink, 2);
	assert_int_equal(fx_row(b).nlink, 3);
	up = fx_get(c, "..");
	assert_ptr_equal(up, b);
	bale_inode_put(up);
	/* over an empty one */
	assert_int_equal(mv(b, "c", f->root, "a"), 0);
	assert_int_equal(fx_ino(f->root, "a"), c->ino);
	assert_int_equal(fx_row(a).nlink, 0);
	assert_int_equal(fx_row(f->root).nlink, 4);
	assert_int_equal(fx_row(b).nlink, 2);
	bale_inode_put(a);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	bale_inode_put(b);
	bale_inode_put(c);
	bale_inode_put(e);
}

static void test_exchange(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *d = fx_mk(f->root, "d", S_IFDIR | 0755);
	struct bale_inode *s = fx_mk(f->root, "s", S_IFDIR | 0755), *up;
	uint64_t a = fx_make(d, "a", S_IFREG | 0644);
	uint64_t b = fx_make(f->root, "b", S_IFREG | 0644);

	assert_int_equal(bale_dir_rename(d, "a", f->root, "none",
					 RENAME_EXCHANGE), -ENOENT);
	assert_int_equal(bale_dir_rename(d, "a", f->root, "b",
					 RENAME_EXCHANGE), 0);
	assert_int_equal(fx_ino(d, "a"), b);
	assert_int_equal(fx_ino(f->root, "b"), a);
	assert_int_equal(fx_row(d).nlink, 2);
	assert_int_equal(bale_dir_rename(d, "a", f->root, "s",
					 RENAME_EXCHANGE), 0);
	assert_int_equal(fx_row(d).nlink, 3);
	assert_int_equal(fx_row(f->root).nlink, 3);
	assert_int_equal(fx_ino(f->root, "s"), b);
	up = fx_get(s, "..");
	assert_ptr_equal(up, d);
	bale_inode_put(up);
	assert_int_equal(bale_dir_rename(f->root, "s", f->root, "b",
					 RENAME_EXCHANGE), 0);
	assert_int_equal(fx_ino(f->root, "s"), a);
	assert_int_equal(fx_row(d).nr_entries, 1);
	assert_int_equal(fx_row(f->root).nr_entries, 3);
	assert_int_equal(fx_count(f, BALE_TABLE_dirent), 4);
	assert_int_equal(fx_count(f, BALE_TABLE_cookie), 4);
	bale_inode_put(d);
	bale_inode_put(s);
}

static void test_flags(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);

	fx_make(f->root, "b", S_IFREG | 0644);
	assert_int_equal(bale_inode_set_flags(i, BALE_INODE_APPEND), 0);
	assert_int_equal(mv(f->root, "a", f->root, "c"), -EPERM);
	assert_int_equal(mv(f->root, "b", f->root, "a"), -EPERM);
	assert_int_equal(bale_inode_set_flags(i, 0), 0);
	assert_int_equal(mv(f->root, "a", f->root, "c"), 0);
	bale_inode_put(i);
}

/* ---- many at once: no deadlock, no name lost, no ring ---- */

enum { NR_DIRS = 6, NR_THREADS = 4, NR_MOVES = 3000 };

struct crowd {
	struct bale_inode *d[NR_DIRS];
	unsigned int seed;
};

static void *mover(void *arg)
{
	struct crowd *c = arg;
	unsigned int s = c->seed;
	char a[8], b[8];

	for (int k = 0; k < NR_MOVES; k++) {
		struct bale_inode *x = c->d[rand_r(&s) % NR_DIRS];
		struct bale_inode *y = c->d[rand_r(&s) % NR_DIRS];
		unsigned int flags[] = { 0, RENAME_NOREPLACE,
					 RENAME_EXCHANGE };
		int r;

		snprintf(a, sizeof(a), "n%u", rand_r(&s) % 8);
		snprintf(b, sizeof(b), "n%u", rand_r(&s) % 8);
		r = bale_dir_rename(x, a, y, b, flags[rand_r(&s) % 3]);
		if (r && r != -ENOENT && r != -EEXIST && r != -EINVAL &&
		    r != -ENOTEMPTY && r != -EISDIR && r != -ENOTDIR)
			return (void *)(intptr_t)r;
	}
	return NULL;
}

struct census {
	struct fixture *f;
	uint64_t nr;
	unsigned int depth;
};

static int census_fn(const struct bale_dir_entry *e, void *arg)
{
	struct census *c = arg;
	struct bale_inode *i;
	struct bale_inode_row row;

	if (e->name[0] == '.')
		return 0;
	c->nr++;
	assert_true(c->depth < 20);
	assert_int_equal(bale_inode_get(c->f->fs, e->ino, &i), 0);
	row = fx_row(i);
	assert_int_equal(row.mode >> 12 & 15, e->type);
	if (S_ISDIR(row.mode)) {
		uint64_t before = c->nr;

		c->depth++;
		assert_int_equal(bale_dir_read(i, 0, census_fn, c), 0);
		c->depth--;
		assert_true(c->nr - before >= row.nr_entries);
	}
	bale_inode_put(i);
	return 0;
}

static void test_crowd(void **state)
{
	struct fixture *f = *state;
	struct crowd c[NR_THREADS];
	struct census n = { .f = f };
	pthread_t t[NR_THREADS];
	char name[16];

	for (int k = 0; k < NR_DIRS; k++) {
		snprintf(name, sizeof(name), "n%d", k);
		c[0].d[k] = fx_mk(k < 3 ? f->root : c[0].d[k - 3], name,
				  S_IFDIR | 0755);
		for (int m = 6; m < 8; m++) {
			snprintf(name, sizeof(name), "n%d", m);
			fx_make(c[0].d[k], name, S_IFREG | 0644);
		}
	}
	for (unsigned int k = 0; k < NR_THREADS; k++) {
		c[k] = c[0];
		c[k].seed = k + 1;
		assert_int_equal(pthread_create(&t[k], NULL, mover, &c[k]),
				 0);
	}
	for (int k = 0; k < NR_THREADS; k++) {
		void *ret;

		pthread_join(t[k], &ret);
		assert_null(ret);
	}
	for (int k = 0; k < NR_DIRS; k++)
		bale_inode_put(c[0].d[k]);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(bale_dir_read(f->root, 0, census_fn, &n), 0);
	assert_int_equal(n.nr, fx_count(f, BALE_TABLE_inode) - 1);
	assert_int_equal(n.nr, fx_count(f, BALE_TABLE_dirent));
	assert_int_equal(n.nr, fx_count(f, BALE_TABLE_cookie));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FX_TEST(test_plain),	   FX_TEST(test_two_names_of_one),
		FX_TEST(test_directories), FX_TEST(test_exchange),
		FX_TEST(test_flags),	   FX_TEST(test_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
