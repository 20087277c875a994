/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clean_load.h - steady random overwrite with a model, for the cleaner: some
 * writers with files of their own, whose contents shrink well, a little or not
 * at all. Most writes go to a quarter of each file. Now and then a file is
 * removed and written anew, read and compared, or fsynced; one more thread
 * recompresses any file meanwhile. Every foreground call is timed.
 *
 * Cells of 4 KiB tell file, cell and version; a mismatch ends the program
 * with status 1 and one line.
 */
#ifndef BALE_TESTS_CLEAN_LOAD_H
#define BALE_TESTS_CLEAN_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the files live: in an open filesystem, or on a mount. 0 or -errno. */
struct load_ops {
	int (*open)(const char *name, bool create, void **ret_file);
	void (*close)(void *file);
	int (*write)(void *file, const void *buf, size_t len, uint64_t off);
	int (*read)(void *file, void *buf, size_t len, uint64_t off);
	int (*fsync)(void *file);
	int (*unlink)(const char *name);
	int (*recompress)(void *file, uint8_t codec, int8_t level);
};

/* Times of calls: 16 buckets to an octave of nanoseconds. */
struct load_times {
	uint64_t count[64 * 16];
	uint64_t nr, max_ns;
};
void load_times_add(struct load_times *t, uint64_t ns);
/* The time in ms that `part` (0.99) of the calls stayed under. */
double load_times_ms(const struct load_times *t, double part);
double load_times_max_ms(const struct load_times *t);

struct load_options {
	unsigned int writers; /* at most 8 */
	unsigned int files;   /* of each writer, at most 8 */
	uint64_t file_bytes;
	uint64_t rate;	       /* bytes written in a second, all together */
	unsigned int fsync_in; /* one operation in so many, 0: none */
	bool recompress;
	unsigned int seed;
	const char *probe; /* a file on the disk under the store, or NULL */
};

struct load_result {
	struct load_times write, fsync, probe;
	uint64_t bytes, files_replaced, recompressed, recompress_full;
	double seconds;
};

struct load;
struct load *load_new(const struct load_ops *ops, const struct load_options *o);
void load_free(struct load *l);
void load_open(struct load *l); /* all files; those that are missing anew */
void load_close(struct load *l);
/* Write all of every file. */
void load_fill(struct load *l);
/* Work for so long, or until `enough` says so (called 20 times a second). */
void load_run(struct load *l, double seconds, bool (*enough)(void),
	      struct load_result *ret);
void load_verify(struct load *l);
/* Remove the first `nr` files of each writer. */
void load_remove(struct load *l, unsigned int nr);

#endif
