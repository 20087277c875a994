/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_model.h - a deterministic stream of transactions and the state that a
 * prefix of it must leave. Transaction i is a pure function of i: it changes a
 * few rows of three tables and sets the row "model.seq" to i. So whatever a
 * crash leaves, that row says which prefix it claims to be, and every other
 * row can be compared.
 *
 * Also: stores in a private directory, copied, removed and opened. Failures
 * are cmocka's.
 */
#ifndef BALE_TESTS_META_MODEL_H
#define BALE_TESTS_META_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/store/store.h"

enum { MODEL_TABLES = 3, MODEL_KEYS = 1500 };

struct model {
	uint64_t seq;				    /* last applied */
	uint64_t version[MODEL_TABLES][MODEL_KEYS]; /* 0: no such row */
};

/* Advance to transaction seq + 1 .. to. */
void model_advance(struct model *m, uint64_t to);
/* Stage transaction i. */
int model_stage(struct bale_meta *meta, uint64_t i, uint64_t *ret_seq);
/* What the store says: the last transaction that is in it, 0 for none. */
uint64_t model_seq(struct bale_meta *meta);
/* Every row by scan and some by get; fails the test on any difference. */
void model_check(struct bale_meta *meta, const struct model *m);
/* As above, for whatever prefix is there; it must reach at least `least`. */
uint64_t model_check_prefix(struct bale_meta *meta, uint64_t least);

/* ---- stores ---- */

struct store_dir {
	char path[96];
};
void store_dir_make(struct store_dir *d); /* a fresh store, small log files */
void store_dir_copy(struct store_dir *d, const struct store_dir *from);
void store_dir_remove(struct store_dir *d);
/* path/name, static storage, a few calls deep */
const char *store_file(const struct store_dir *d, const char *name);
/* Names in a folder of the store, sorted; at most `max`. */
size_t store_list(const struct store_dir *d, const char *folder,
		  char names[][32], size_t max);

enum {
	OPEN_MANUAL = 1,
	OPEN_READ_ONLY = 2,
	OPEN_REBUILD = 4,
	OPEN_UNTRUSTED = 8,
};
int store_try_open(const struct store_dir *d, unsigned int flags,
		   struct bale_store **ret);
struct bale_store *store_open(const struct store_dir *d, unsigned int flags);
void store_close(struct bale_store *st); /* must succeed */

/* Digest by the store as opened with flags. */
struct digest {
	uint64_t v[BALE_TABLE_NR][2];
};
struct digest store_digest(struct bale_store *st);
/* Tables but "segment", which close may still tidy. */
bool digest_equal(const struct digest *a, const struct digest *b);

/* A small xorshift generator for tests. */
uint64_t test_rnd(uint64_t *state);

#endif
