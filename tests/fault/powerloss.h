/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powerloss.h - what the power-loss programs share: a store made and opened
 * over the recorder, and the loop that builds states from the recording, has
 * each looked at and counts.
 *
 *   PROGRAM [SEED [STATES|every [OPS]]]
 *
 * With a number, that many states at random; of some, recovery is recorded and
 * cut off as well. Some go through fsck -y first, which has nothing to do. With
 * "every", states behind each single event: every combination of what was not
 * synced, where there are at most BALE_PL_EXHAUSTIVE, else all and nothing of
 * it; and BALE_PL_SAMPLES at random, with torn writes. OPS is the length of the
 * workload, 0 its default.
 *
 * One test at a time, one thread but for what the work itself starts.
 */
#ifndef BALE_TESTS_POWERLOSS_H
#define BALE_TESTS_POWERLOSS_H

#include "fs/inode/inode.h"
#include "recorder.h"

enum {
	BALE_PL_EXHAUSTIVE = 64, /* six unsynced writes */
	BALE_PL_SAMPLES = 6,
};

struct bale_pl_test {
	const char *name;
	unsigned int ops, states; /* by default */
	/* Record: make a store with bale_pl_open(), work, close. Returns the
	 * event from which on states are to be looked at. */
	size_t (*work)(const char *store, unsigned int ops);
	/* Look at the state in `dir`, as of the first k events. */
	void (*check)(const char *dir, size_t k);
	/* States may go on with the index that the work took a copy of. */
	bool with_index;
};

/* The program: 0, 1 when something was wrong, 77 without room. */
int bale_pl_run(const struct bale_pl_test *t, int argc, char **argv);

uint64_t bale_pl_draw(uint64_t n); /* 0..n-1; deterministic for the seed */
void bale_pl_must(int r, const char *what); /* the work itself failed: exit */
void bale_pl_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
unsigned int bale_pl_failures(void);
/* A state kept the index that it was given. */
void bale_pl_count_index(void);
/* Try a check without its being counted: failures between the two calls are
 * only returned. */
void bale_pl_quiet_begin(void);
unsigned int bale_pl_quiet_end(void);

/* A new store with small limits, its files taken for synced. */
void bale_pl_mkfs(const char *store);
/* ops NULL: the real layer. commit_ns 0: commits only when told. */
int bale_pl_open(const char *store, const struct bale_io_ops *ops,
		 uint64_t commit_ns, struct bale_fs **ret_fs,
		 struct bale_inode **ret_root);
int bale_pl_close(struct bale_fs *fs, struct bale_inode *root);
/* Make the log longer by up to 360 KB that mean nothing, so that its files
 * end, begin and are removed within a short workload. */
void bale_pl_ballast(struct bale_inode *root);
/* Bytes that do not shrink, the same for the same tag. */
void bale_pl_noise(uint8_t *buf, size_t len, uint64_t tag);
/* Rebuilt index = the one found, all tables, before anything is mended. */
void bale_pl_check_index(const char *dir);
/* All of a file, at most cap bytes. */
int bale_pl_read(struct bale_inode *i, uint8_t *buf, size_t cap,
		 size_t *ret_len);

#endif
