/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names_fixture.h - a real store in a temporary directory, opened as a
 * filesystem without a mount, for tests of names and attributes.
 */
#ifndef BALE_TESTS_NAMES_FIXTURE_H
#define BALE_TESTS_NAMES_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fs/inode/inode.h"

struct fixture {
	char store[64];
	struct bale_fs *fs;
	struct bale_inode *root;
};

static const struct bale_cred fx_root = { 0, 0, 022 };

static inline void fx_open(struct fixture *f, bool read_only)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .read_only = read_only,
				     .manual_commit = true,
				     .cache_bytes = 16 << 20,
				     .nr_workers = 1 };

	assert_int_equal(bale_fs_open(f->store, &o, &f->fs), 0);
	assert_int_equal(bale_inode_get(f->fs, BALE_ROOT_INO, &f->root), 0);
}

static inline void fx_close(struct fixture *f)
{
	bale_inode_put(f->root);
	assert_int_equal(bale_fs_close(f->fs), 0);
}

static inline int fx_setup(void **state)
{
	struct bale_mkfs_options o = { .size = sizeof(o), .codec = 2,
				       .segment_bits = 20, .log_bits = 20 };
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->store, "/tmp/balefs-names-XXXXXX");
	assert_non_null(mkdtemp(f->store));
	assert_int_equal(bale_store_mkfs(f->store, &o), 0);
	fx_open(f, false);
	*state = f;
	return 0;
}

static inline int fx_teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	fx_close(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->store);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

/* What a remount shows is what the log holds. */
static inline void fx_remount(struct fixture *f)
{
	fx_close(f);
	fx_open(f, false);
}

static inline struct bale_inode *fx_mk(struct bale_inode *dir,
				       const char *name, uint32_t mode)
{
	struct bale_inode *i = NULL;
	int r = S_ISDIR(mode) ? bale_dir_mkdir(dir, name, mode, &fx_root, &i) :
				bale_dir_create(dir, name, mode, 0, &fx_root,
						&i);

	assert_int_equal(r, 0);
	return i;
}

/* Make it and let go of it. */
static inline uint64_t fx_make(struct bale_inode *dir, const char *name,
			       uint32_t mode)
{
	struct bale_inode *i = fx_mk(dir, name, mode);
	uint64_t ino = i->ino;

	bale_inode_put(i);
	return ino;
}

static inline struct bale_inode *fx_get(struct bale_inode *dir,
					const char *name)
{
	struct bale_inode *i = NULL;

	assert_int_equal(bale_dir_lookup(dir, name, &i), 0);
	return i;
}

/* The number behind a name; 0: no such name. */
static inline uint64_t fx_ino(struct bale_inode *dir, const char *name)
{
	struct bale_inode *i;
	uint64_t ino;
	int r = bale_dir_lookup(dir, name, &i);

	if (r == -ENOENT)
		return 0;
	assert_int_equal(r, 0);
	ino = i->ino;
	bale_inode_put(i);
	return ino;
}

static inline struct bale_inode_row fx_row(struct bale_inode *i)
{
	struct bale_inode_row row;

	bale_inode_attr(i, &row);
	return row;
}

/* Rows of a table, for what must be gone. */
static inline int fx_count_fn(const void *key, size_t key_len, const void *val,
			      size_t val_len, void *arg)
{
	(void)key;
	(void)key_len;
	(void)val;
	(void)val_len;
	++*(uint64_t *)arg;
	return 0;
}

static inline uint64_t fx_count(struct fixture *f, enum bale_table table)
{
	uint64_t nr = 0;

	assert_int_equal(bale_meta_scan(bale_fs_meta(f->fs), table, "", 0, 0,
					fx_count_fn, &nr),
			 0);
	return nr;
}

#define FX_TEST(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

#endif
