/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_fixture.h - a small store made of rows, to be broken, and fsck run on
 * it in a child process.
 *
 *   /file        two extents, also /dir/hard; xattr user.a
 *   /dir/inner   inline
 *   /sym         symbolic link
 *   /dir/sub     empty directory
 */
#ifndef BALE_TESTS_FSCK_FIXTURE_H
#define BALE_TESTS_FSCK_FIXTURE_H

#include "fs/store/store.h"

enum { FX_EXTENT = 128 << 10 };

struct fx {
	char dir[64]; /* holds "store" and the output of fsck */
	char store[80];
	struct bale_store *st; /* while open */
	struct bale_meta *m;
	uint64_t file, subdir, inner, sym, empty; /* inode numbers */
	uint64_t ext[2];
	char out[65536]; /* what the last fsck said */
};

/* cmocka setup and teardown; *state is a struct fx. */
int fx_setup(void **state);
int fx_teardown(void **state);

void fx_open(struct fx *x);
void fx_close(struct fx *x);

/* Rows; the store is open. */
void fx_put(struct fx *x, enum bale_table t, const void *key, size_t key_len,
	    const void *val, size_t val_len);
void fx_del(struct fx *x, enum bale_table t, const void *key, size_t key_len);
void fx_get_inode(struct fx *x, uint64_t ino, struct bale_inode_row *ret);
void fx_put_inode(struct fx *x, uint64_t ino, const struct bale_inode_row *r);
void fx_put_dirent(struct fx *x, uint64_t dir, const char *name, uint64_t ino,
		   uint8_t type, uint64_t cookie);
void fx_put_cookie(struct fx *x, uint64_t dir, const char *name, uint64_t ino,
		   uint8_t type, uint64_t cookie);
void fx_del_dirent(struct fx *x, uint64_t dir, const char *name);
void fx_del_cookie(struct fx *x, uint64_t dir, uint64_t cookie);
/* 0: not there. */
uint64_t fx_lookup(struct fx *x, uint64_t dir, const char *name);

/* Files of the store; it is closed. */
void fx_flip(struct fx *x, const char *name, long off); /* <0: from the end */
void fx_remove(struct fx *x, const char *name);
/* First offset of a byte sequence in a file, -1: none. */
long fx_find(struct fx *x, const char *name, const void *what, size_t len,
	     long from);

/* Exit status; the text is in x->out. args: blank-separated options. */
int fx_fsck(struct fx *x, const char *args);
/* As waitpid(2) tells it: it may have been killed. */
int fx_fsck_wait(struct fx *x, const char *args);

#endif
