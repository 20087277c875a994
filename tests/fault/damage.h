/* SPDX-License-Identifier: Apache-2.0 */
/*
 * damage.h - a store with known contents, its files in memory, and the check
 * of what a damaged copy of it serves.
 *
 * The workload is a list of steps, each made durable as one commit; behind
 * each one the whole tree is remembered as a *moment*. A store that opens must
 * show one moment: every name, size, attribute and byte that it does not
 * refuse with an error is that moment's. One thread; failures end the process.
 */
#ifndef BALE_TESTS_DAMAGE_H
#define BALE_TESTS_DAMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DM_EXTENT_BITS = 16, DM_EXTENT = 1 << DM_EXTENT_BITS };

/* ---- the files of a store ---- */

struct dm_file {
	char name[40]; /* "seg/0000000000000000" */
	uint8_t *data;
	size_t len;
};
struct dm_image {
	struct dm_file file[48];
	unsigned int nr;
};
void dm_image_load(struct dm_image *m, const char *store);
void dm_image_copy(struct dm_image *m, const struct dm_image *from);
/* Into an empty directory that is made; owner only. */
void dm_image_write(const struct dm_image *m, const char *store);
struct dm_file *dm_image_find(struct dm_image *m, const char *name);
void dm_image_free(struct dm_image *m);
void dm_remove_tree(const char *dir);

/* ---- the workload ---- */

/* The store at three points: in the middle of the work, at its end as a crash
 * would leave it, and closed. */
struct dm_master {
	struct dm_image stale, crashed, closed;
};
void dm_build(const char *dir, struct dm_master *ret);
unsigned int dm_nr_moments(void);

/* ---- what a copy serves ---- */

enum { DM_MAX_BAD = 32 };
struct dm_served {
	int opened; /* 0, or why it does not open */
	bool wrong; /* no moment is like it: damage served as good */
	unsigned int moment;
	unsigned int errors; /* lookups, reads that failed */
	unsigned int nr_bad;
	uint64_t bad[DM_MAX_BAD]; /* inodes with content that cannot be read */
	char what[128];		  /* about wrong */
	bool done;
};
enum { DM_READ_ONLY = 1, DM_UNTRUSTED = 2 };
/* Open, read everything, close. Runs in a child process. */
void dm_serve(const char *store, unsigned int how, struct dm_served *ret);

#endif
