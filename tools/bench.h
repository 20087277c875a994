/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - the parts of `balefs bench`: the bytes that are measured with, a
 * row for each figure, the layers that make rows, and how rows are shown.
 *
 * The main thread owns all of it. Functions tell errors on stderr and return
 * -errno; -EINTR: a signal asked for the end.
 */
#ifndef BALE_TOOLS_BENCH_H
#define BALE_TOOLS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fs/codec/codec.h"

enum {
	BALE_BENCH_LIST = 16, /* values of an option that takes a list */
	BALE_BENCH_ENGINES = 4,
	BALE_BENCH_TEXT = 24,
};

/* Files, one after another; extents do not cross from one into the next. */
struct bale_bench_data {
	uint8_t *bytes; /* bale_bench_map(mapped) */
	size_t len, mapped;
	size_t *file_end; /* of nr_files */
	size_t nr_files;
	size_t nr_unread; /* files that could not be read */
};

struct bale_bench_extent {
	size_t off, len;
};

/* What a layer has found; rates are bytes of content a second. */
struct bale_bench_row {
	const char *layer; /* "kernel", "engine", "mount" */
	char engine[BALE_BENCH_TEXT], codec[BALE_BENCH_TEXT];
	size_t extent, batch; /* bytes; batch 0: none */
	double encode, decode;
	double ratio;
	double encode_cpu,
		decode_cpu; /* CPU-seconds for 1e9 bytes; < 0: none */
	uint64_t wrong;	    /* extents that came back different */
};

struct bale_bench_engine {
	const char *name;
	struct bale_engine *engine;
	bool measured; /* was asked for; the rest serve the pairs */
	bool is_device;
};

struct bale_bench {
	struct bale_bench_data data;
	struct bale_codec_policy codecs[BALE_BENCH_LIST];
	size_t nr_codecs;
	size_t extents[BALE_BENCH_LIST], nr_extents;
	size_t batches[BALE_BENCH_LIST], nr_batches;
	struct bale_bench_engine engines[BALE_BENCH_ENGINES];
	size_t nr_engines;
	unsigned int passes, streams, threads, in_flight;
	double seconds; /* a measurement ends early after this */
	const char *work;
	bool progress; /* rows on stderr as they come */
	/* results */
	struct bale_bench_row *rows;
	size_t nr_rows, cap_rows;
	uint64_t pairs, wrong_pairs; /* of engines, by codec */
};

/* A signal asked for the end. */
bool bale_bench_stopped(void);

/* ---- bench_data.c ---- */

/* Up to max bytes of the files at and below paths; -ENODATA: none. */
int bale_bench_read(struct bale_bench_data *d, char *const *paths, int nr,
		    uint64_t max);
void bale_bench_data_fini(struct bale_bench_data *d);
/* Cut files into extents; *ret is malloc()ed. */
int bale_bench_cut(const struct bale_bench_data *d, size_t extent,
		   struct bale_bench_extent **ret, size_t *ret_nr);

/* Whole pages of zeros, as engines pin them; NULL: no memory. */
void *bale_bench_map(size_t len);
void bale_bench_unmap(void *p, size_t len);
size_t bale_bench_pages(size_t len); /* rounded up to whole pages */

/* ---- bench_open.c ---- */

struct bale_cmd;
/* All engines of this machine; those of the list, which is cut up, or the
 * default ones (NULL) are to be measured. The exit status, 0: fine. */
int bale_bench_open(const struct bale_cmd *cmd, struct bale_bench *b,
		    char *list);
void bale_bench_close(struct bale_bench *b);

/* ---- rows ---- */

/* Appends a copy. */
int bale_bench_add(struct bale_bench *b, const struct bale_bench_row *row);
double bale_bench_median(double *values, size_t nr);

/* ---- layers ---- */

/* bench_engine.c: host memory to host memory, every engine that is measured;
 * then every pair of engines with a sample, which fills pairs. */
int bale_bench_engines(struct bale_bench *b);
int bale_bench_pairs(struct bale_bench *b);
/* bench_mount.c: a store of its own in a new directory of b->work, written
 * and read by b->streams threads; unmounted and removed in every case. */
int bale_bench_mounts(struct bale_bench *b);
/* bench_kernel.c: device memory to device memory; nothing without a device. */
int bale_bench_kernels(struct bale_bench *b);
/* Can a device code it? In a build without CUDA none can. */
bool bale_bench_on_device(struct bale_codec_policy p);

/* ---- bench_report.c, bench_svg.c ---- */

void bale_bench_table(FILE *f, const struct bale_bench *b);
void bale_bench_table_row(FILE *f, const struct bale_bench_row *row);
void bale_bench_table_head(FILE *f);
void bale_bench_machine(FILE *f);
void bale_bench_json(FILE *f, const struct bale_bench *b);
void bale_bench_csv(FILE *f, const struct bale_bench *b);
void bale_bench_svg(FILE *f, const struct bale_bench *b);
/* "128K", "4M", "-" for 0; buf of BALE_BENCH_TEXT bytes, returned. */
const char *bale_bench_size(size_t bytes, char *buf);

#endif
