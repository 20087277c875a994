/* SPDX-License-Identifier: Apache-2.0 */
/* test_names.c - create, lookup, unlink, link, mkdir, rmdir, tmpfile, listing,
 * on a real store. */
#include <pthread.h>

#include "fs/inode/names.h"
#include "tests/support/names_fixture.h"

static void test_create_lookup(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i, *j;
	struct bale_inode_row row, up = fx_row(f->root);
	struct bale_cred c = { 1000, 100, 027 };
	uint64_t ino;

	assert_int_equal(bale_dir_lookup(f->root, "a", &i), -ENOENT);
	assert_int_equal(bale_dir_create(f->root, "a", 0666, 7, &c, &i), 0);
	ino = i->ino;
	assert_true(ino >= BALE_FIRST_INO);
	row = fx_row(i);
	assert_int_equal(row.mode, S_IFREG | 0640);
	assert_int_equal(row.uid, 1000);
	assert_int_equal(row.gid, 100);
	assert_int_equal(row.nlink, 1);
	assert_int_equal(row.rdev, 0);
	assert_int_equal(row.generation, 1);
	assert_int_equal(fx_row(f->root).nr_entries, up.nr_entries + 1);
	assert_int_equal(fx_row(f->root).nlink, up.nlink);
	j = fx_get(f->root, "a");
	assert_ptr_equal(i, j);
	bale_inode_put(j);
	assert_int_equal(bale_dir_create(f->root, "a", 0666, 0, &c, &j),
			 -EEXIST);
	assert_int_equal(bale_dir_create(i, "b", 0666, 0, &c, &j), -ENOTDIR);
	assert_int_equal(bale_dir_lookup(i, "b", &j), -ENOTDIR);
	bale_inode_put(i);
	fx_remount(f);
	i = fx_get(f->root, "a");
	assert_int_equal(i->ino, ino);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0640);
	bale_inode_put(i);
}

static void test_names_of_any_bytes(void **state)
{
	struct fixture *f = *state;
	char name[258];
	struct bale_inode *i;

	for (int b = 1; b < 256; b++) {
		char s[3] = { 'x', (char)b, 0 };

		if (b != '/')
			fx_make(f->root, s, S_IFREG | 0644);
	}
	memset(name, 0xff, sizeof(name));
	name[256] = 0;
	assert_int_equal(bale_dir_create(f->root, name, 0644, 0, &fx_root, &i),
			 -ENAMETOOLONG);
	assert_int_equal(bale_dir_lookup(f->root, name, &i), -ENAMETOOLONG);
	assert_int_equal(bale_dir_unlink(f->root, name), -ENAMETOOLONG);
	name[255] = 0;
	fx_make(f->root, name, S_IFREG | 0644);
	assert_int_equal(bale_dir_create(f->root, "a/b", 0644, 0, &fx_root,
					 &i), -EINVAL);
	assert_int_equal(bale_dir_create(f->root, ".", 0644, 0, &fx_root, &i),
			 -EEXIST);
	fx_remount(f);
	assert_int_not_equal(fx_ino(f->root, name), 0);
	assert_int_equal(fx_row(f->root).nr_entries, 255);
}

static void test_kinds(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i;
	char buf[BALE_SYMLINK_MAX + 1], target[BALE_SYMLINK_MAX + 2];

	assert_int_equal(bale_dir_create(f->root, "c", S_IFCHR | 0600, 0x103,
					 &fx_root, &i), 0);
	assert_int_equal(fx_row(i).rdev, 0x103);
	bale_inode_put(i);
	fx_make(f->root, "p", S_IFIFO | 0600);
	fx_make(f->root, "s", S_IFSOCK | 0600);
	assert_int_equal(bale_dir_create(f->root, "d", S_IFDIR | 0600, 0,
					 &fx_root, &i), -EINVAL);
	memset(target, 't', sizeof(target));
	target[BALE_SYMLINK_MAX + 1] = 0;
	assert_int_equal(bale_dir_symlink(f->root, "l", target, &fx_root, &i),
			 -ENAMETOOLONG);
	assert_int_equal(bale_dir_symlink(f->root, "l", "", &fx_root, &i),
			 -ENOENT);
	target[BALE_SYMLINK_MAX] = 0;
	assert_int_equal(bale_dir_symlink(f->root, "l", target, &fx_root, &i),
			 0);
	assert_int_equal(fx_row(i).mode, S_IFLNK | 0777);
	assert_int_equal(fx_row(i).size, BALE_SYMLINK_MAX);
	bale_inode_put(i);
	fx_remount(f);
	i = fx_get(f->root, "l");
	assert_int_equal(bale_inode_readlink(i, buf, sizeof(buf)), 0);
	assert_string_equal(buf, target);
	assert_int_equal(bale_inode_readlink(i, buf, 10), -ENAMETOOLONG);
	assert_int_equal(bale_inode_readlink(f->root, buf, 10), -EINVAL);
	bale_inode_put(i);
	assert_int_equal(bale_dir_unlink(f->root, "l"), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_inline), 0);
}

static void test_unlink_last(void **state)
{
	struct fixture *f = *state;
	uint64_t inodes = fx_count(f, BALE_TABLE_inode);
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644), *j;
	uint64_t ino = i->ino;

	bale_inode_lookup_ref(i);
	bale_inode_open(i);
	bale_inode_put(i);
	assert_int_equal(bale_dir_unlink(f->root, "a"), 0);
	assert_int_equal(bale_dir_unlink(f->root, "a"), -ENOENT);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 1);
	/* open and known to the kernel: it is all there */
	assert_int_equal(bale_inode_get(f->fs, ino, &j), 0);
	assert_ptr_equal(i, j);
	assert_int_equal(fx_row(i).nlink, 0);
	assert_int_equal(bale_dir_link(i, f->root, "b"), -ENOENT);
	bale_inode_put(j);
	bale_inode_release(i);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 1);
	bale_inode_forget(f->fs, ino, 1);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_inode), inodes);
	assert_int_equal(bale_inode_get(f->fs, ino, &j), -ENOENT);
	assert_int_equal(fx_count(f, BALE_TABLE_dirent), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_cookie), 0);
}

/* Data that was never stored and that nobody can reach is not stored. */
static void test_unlink_dirty(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	struct bale_space_info before, after;
	char *buf = calloc(1, 600000);
	struct iovec v = { .iov_base = buf, .iov_len = 600000 };
	uint64_t ino = i->ino;

	for (int k = 0; k < 600000; k++)
		buf[k] = (char)(rand() >> 7);
	bale_space_info(bale_fs_store(f->fs), &before);
	assert_int_equal(bale_file_write(i, &v, 1, 0, false, false), 0);
	bale_inode_lookup_ref(i);
	bale_inode_put(i);
	assert_int_equal(bale_dir_unlink(f->root, "a"), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 1);
	bale_inode_forget(f->fs, ino, 1);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_inode), 1);
	bale_space_info(bale_fs_store(f->fs), &after);
	assert_int_equal(after.reserved, before.reserved);
	assert_int_equal(bale_fs_sync(f->fs), 0);
	bale_space_info(bale_fs_store(f->fs), &after);
	assert_int_equal(after.used, before.used);
	free(buf);
}

static void test_lookup_counts(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	uint64_t ino = i->ino;

	for (int k = 0; k < 5; k++)
		bale_inode_lookup_ref(i);
	bale_inode_put(i);
	assert_int_equal(bale_dir_unlink(f->root, "a"), 0);
	bale_inode_forget(f->fs, ino, 3);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 1);
	bale_inode_forget(f->fs, ino, 2);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	bale_inode_forget(f->fs, ino, 2); /* of nothing: no harm */
}

static void test_orphans_at_close_and_crash(void **state)
{
	struct fixture *f = *state;
	uint64_t inodes = fx_count(f, BALE_TABLE_inode);
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644), *t;

	bale_inode_lookup_ref(i);
	bale_inode_put(i);
	assert_int_equal(bale_dir_tmpfile(f->root, 0600, &fx_root, &t), 0);
	bale_inode_lookup_ref(t);
	bale_inode_open(t);
	bale_inode_put(t);
	assert_int_equal(fx_row(t).nlink, 0);
	assert_int_equal(bale_dir_unlink(f->root, "a"), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 2);
	fx_remount(f); /* as when forgets never come */
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_inode), inodes);
}

static void test_tmpfile_link(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *t;

	assert_int_equal(bale_dir_tmpfile(f->root, 0640, &fx_root, &t), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 1);
	assert_int_equal(bale_dir_link(t, f->root, "t"), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(fx_row(t).nlink, 1);
	bale_inode_put(t);
	fx_remount(f);
	t = fx_get(f->root, "t");
	assert_int_equal(fx_row(t).mode, S_IFREG | 0640);
	bale_inode_put(t);
}

static void test_link(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *d = fx_mk(f->root, "d", S_IFDIR | 0755);
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);

	assert_int_equal(bale_dir_link(i, d, "b"), 0);
	assert_int_equal(bale_dir_link(i, d, "b"), -EEXIST);
	assert_int_equal(bale_dir_link(d, f->root, "e"), -EPERM);
	assert_int_equal(bale_dir_link(i, i, "e"), -ENOTDIR);
	assert_int_equal(fx_row(i).nlink, 2);
	assert_int_equal(bale_dir_unlink(f->root, "a"), 0);
	assert_int_equal(fx_row(i).nlink, 1);
	assert_int_equal(fx_ino(d, "b"), i->ino);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(bale_inode_set_flags(i, BALE_INODE_IMMUTABLE), 0);
	assert_int_equal(bale_dir_link(i, f->root, "e"), -EPERM);
	assert_int_equal(bale_dir_unlink(d, "b"), -EPERM);
	assert_int_equal(bale_inode_set_flags(i, 0), 0);
	bale_inode_put(i);
	bale_inode_put(d);
}

static void test_directories(void **state)
{
	struct fixture *f = *state;
	uint32_t nlink = fx_row(f->root).nlink;
	struct bale_inode *d = fx_mk(f->root, "d", S_IFDIR | 0777), *up, *i;

	assert_int_equal(fx_row(d).mode, S_IFDIR | 0755);
	assert_int_equal(fx_row(d).nlink, 2);
	assert_int_equal(fx_row(f->root).nlink, nlink + 1);
	assert_int_equal(fx_ino(d, "."), d->ino);
	up = fx_get(d, "..");
	assert_ptr_equal(up, f->root);
	bale_inode_put(up);
	assert_int_equal(fx_ino(f->root, ".."), BALE_ROOT_INO);
	fx_make(d, "e", S_IFDIR | 0700);
	assert_int_equal(fx_row(d).nlink, 3);
	assert_int_equal(bale_dir_rmdir(f->root, "d"), -ENOTEMPTY);
	assert_int_equal(bale_dir_unlink(f->root, "d"), -EISDIR);
	assert_int_equal(bale_dir_rmdir(d, "e"), 0);
	assert_int_equal(fx_row(d).nlink, 2);
	fx_make(d, "x", S_IFREG | 0644);
	assert_int_equal(bale_dir_rmdir(d, "x"), -ENOTDIR);
	assert_int_equal(bale_dir_unlink(d, "x"), 0);
	assert_int_equal(bale_dir_rmdir(f->root, "d"), 0);
	assert_int_equal(fx_row(f->root).nlink, nlink);
	/* removed but still held: nothing can be made in it */
	assert_int_equal(bale_dir_create(d, "y", 0644, 0, &fx_root, &i),
			 -ENOENT);
	assert_int_equal(bale_dir_lookup(d, "..", &i), -ENOENT);
	bale_inode_put(d);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_inode), 1);
}

static void test_setgid(void **state)
{
	struct fixture *f = *state;
	struct bale_cred c = { 1000, 100, 0 };
	struct bale_inode *d, *i;
	struct bale_setattr a = { .valid = BALE_SET_MODE | BALE_SET_GID,
				  .mode = 02775, .gid = 500 };

	d = fx_mk(f->root, "d", S_IFDIR | 0755);
	assert_int_equal(bale_inode_setattr(d, &a), 0);
	assert_int_equal(fx_row(d).mode, S_IFDIR | 02775);
	assert_int_equal(bale_dir_create(d, "f", 0664, 0, &c, &i), 0);
	assert_int_equal(fx_row(i).gid, 500);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0664);
	bale_inode_put(i);
	assert_int_equal(bale_dir_mkdir(d, "e", 0755, &c, &i), 0);
	assert_int_equal(fx_row(i).gid, 500);
	assert_int_equal(fx_row(i).mode, S_IFDIR | 02755);
	bale_inode_put(i);
	bale_inode_put(d);
}

/* ---- listing ---- */

struct listing {
	char names[600][16];
	uint64_t cookies[600];
	unsigned int nr, stop; /* after so many, 0: never */
};

static int list_fn(const struct bale_dir_entry *e, void *arg)
{
	struct listing *l = arg;

	if (l->stop && l->nr == l->stop)
		return 1;
	assert_true(l->nr < 600);
	assert_int_equal(strlen(e->name), e->name_len);
	strcpy(l->names[l->nr], e->name);
	l->cookies[l->nr++] = e->cookie;
	return 0;
}

static void test_listing(void **state)
{
	struct fixture *f = *state;
	struct listing *l = calloc(1, sizeof(*l));
	bool seen[500] = { false };
	unsigned int nr = 0;
	uint64_t at = 0;
	char name[16];

	for (int k = 0; k < 500; k++) {
		snprintf(name, sizeof(name), "n%d", k);
		fx_make(f->root, name, S_IFREG | 0644);
	}
	/* in portions, with removals and additions between them */
	for (unsigned int step = 1;; step = step * 2 + 1) {
		memset(l, 0, sizeof(*l));
		l->stop = step;
		assert_int_equal(bale_dir_read(f->root, at, list_fn, l), 0);
		if (!l->nr)
			break;
		for (unsigned int k = 0; k < l->nr; k++) {
			assert_true(l->cookies[k] > at);
			at = l->cookies[k];
			if (l->names[k][0] == 'n') {
				assert_false(seen[atoi(l->names[k] + 1)]);
				seen[atoi(l->names[k] + 1)] = true;
				assert_int_equal(bale_dir_unlink(
						f->root, l->names[k]), 0);
			}
			nr++;
		}
		if (step < 100)
			fx_remount(f);
	}
	assert_int_equal(nr, 502);
	for (int k = 0; k < 500; k++)
		assert_true(seen[k]);
	memset(l, 0, sizeof(*l));
	assert_int_equal(bale_dir_read(f->root, 0, list_fn, l), 0);
	assert_int_equal(l->nr, 2);
	assert_string_equal(l->names[0], ".");
	assert_string_equal(l->names[1], "..");
	free(l);
}

static void test_path(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *d = fx_mk(f->root, "dir", S_IFDIR | 0755);
	uint64_t ino = fx_make(d, "file", S_IFREG | 0644);

	char buf[64];

	bale_inode_path(f->fs, ino, buf, sizeof(buf));
	assert_string_equal(buf, "/dir/file");
	bale_inode_path(f->fs, BALE_ROOT_INO, buf, sizeof(buf));
	assert_string_equal(buf, "/");
	bale_inode_path(f->fs, 999999, buf, sizeof(buf));
	assert_string_equal(buf, "inode 999999");
	bale_inode_path(f->fs, ino, buf, 6);
	assert_int_equal(strlen(buf), 5);
	bale_inode_put(d);
}

/* More objects than the LRU keeps, each found again. */
static void test_many(void **state)
{
	struct fixture *f = *state;
	uint64_t *ino = calloc(40000, sizeof(*ino));
	char name[16];

	for (int k = 0; k < 40000; k++) {
		snprintf(name, sizeof(name), "f%d", k);
		ino[k] = fx_make(f->root, name, S_IFREG | 0644);
		assert_true(!k || ino[k] > ino[k - 1]);
	}
	for (int k = 0; k < 40000; k++) {
		snprintf(name, sizeof(name), "f%d", k);
		assert_int_equal(fx_ino(f->root, name), ino[k]);
	}
	assert_int_equal(fx_row(f->root).nr_entries, 40000);
	free(ino);
}

/* ---- the table under threads that look up, forget and delete ---- */

enum { CROWD_THREADS = 4, CROWD_OPS = 4000, CROWD_NAMES = 6 };

struct member {
	struct fixture *f;
	unsigned int seed;
	uint64_t known[64]; /* one lookup count each */
	unsigned int nr_known;
	int error;
};

static void forget_one(struct member *m)
{
	if (m->nr_known)
		bale_inode_forget(m->f->fs, m->known[--m->nr_known], 1);
}

static int crowd_step(struct member *m, const char *name, unsigned int kind)
{
	struct bale_inode *i = NULL;
	int r = 0;

	if (kind == 0)
		return bale_dir_unlink(m->f->root, name);
	if (kind == 1) {
		forget_one(m);
		return 0;
	}
	if (kind == 2)
		r = bale_dir_create(m->f->root, name, 0644, 0, &fx_root, &i);
	else
		r = bale_dir_lookup(m->f->root, name, &i);
	if (r)
		return r;
	if (kind == 3) {
		bale_inode_open(i);
		bale_inode_accessed(i);
		bale_inode_release(i);
	} else {
		if (m->nr_known == 64)
			forget_one(m);
		bale_inode_lookup_ref(i);
		m->known[m->nr_known++] = i->ino;
	}
	bale_inode_put(i);
	return 0;
}

static void *crowd_member(void *arg)
{
	struct member *m = arg;
	char name[8];

	for (int k = 0; k < CROWD_OPS && !m->error; k++) {
		snprintf(name, sizeof(name), "n%u",
			 rand_r(&m->seed) % CROWD_NAMES);
		m->error = crowd_step(m, name, rand_r(&m->seed) % 5);
		if (m->error == -ENOENT || m->error == -EEXIST)
			m->error = 0;
		if (k % 500 == 0 && !m->error)
			m->error = bale_names_stage_times(m->f->fs);
	}
	while (m->nr_known)
		forget_one(m);
	return NULL;
}

static void test_crowd(void **state)
{
	struct fixture *f = *state;
	struct member m[CROWD_THREADS] = { 0 };
	pthread_t t[CROWD_THREADS];

	for (unsigned int k = 0; k < CROWD_THREADS; k++) {
		m[k].f = f;
		m[k].seed = k + 1;
		assert_int_equal(pthread_create(&t[k], NULL, crowd_member,
						&m[k]), 0);
	}
	for (int k = 0; k < CROWD_THREADS; k++) {
		pthread_join(t[k], NULL);
		assert_int_equal(m[k].error, 0);
	}
	assert_int_equal(bale_names_stage_times(f->fs), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_inode),
			 fx_row(f->root).nr_entries + 1);
	assert_int_equal(fx_count(f, BALE_TABLE_dirent),
			 fx_row(f->root).nr_entries);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i;

	fx_make(f->root, "a", S_IFREG | 0644);
	fx_close(f);
	fx_open(f, true);
	assert_int_not_equal(fx_ino(f->root, "a"), 0);
	assert_int_equal(bale_dir_create(f->root, "b", 0644, 0, &fx_root, &i),
			 -EROFS);
	assert_int_equal(bale_dir_unlink(f->root, "a"), -EROFS);
	assert_int_equal(bale_dir_rename(f->root, "a", f->root, "b", 0),
			 -EROFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FX_TEST(test_create_lookup),
		FX_TEST(test_names_of_any_bytes),
		FX_TEST(test_kinds),
		FX_TEST(test_unlink_last),
		FX_TEST(test_unlink_dirty),
		FX_TEST(test_lookup_counts),
		FX_TEST(test_orphans_at_close_and_crash),
		FX_TEST(test_tmpfile_link),
		FX_TEST(test_link),
		FX_TEST(test_directories),
		FX_TEST(test_setgid),
		FX_TEST(test_listing),
		FX_TEST(test_path),
		FX_TEST(test_many),
		FX_TEST(test_crowd),
		FX_TEST(test_read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
