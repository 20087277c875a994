/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_peer.h - parts of the benchmark gpu_peer: data sets, the device's
 * buffers, coders on the device, references on the CPU.
 *
 * One thread uses all of it. Errors are told on stderr where they happen;
 * functions then return -1.
 */
#ifndef BALE_PERF_GPU_PEER_H
#define BALE_PERF_GPU_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	PEER_UNIT = 64 << 10,
	PEER_NAME = 24,
	PEER_PASSES_MAX = 64,
};

/* ---- data sets (gpu_peer_data.c) ---- */

struct peer_data {
	char name[PEER_NAME];
	uint8_t *bytes; /* malloc()ed */
	size_t len;
};

int peer_data_file(struct peer_data *d, const char *name, const char *path);
/* Those of parts one after another. */
int peer_data_join(struct peer_data *d, const char *name,
		   const struct peer_data *parts, size_t nr);
/*
 * Made here, the same bytes each time: "bf16" (normal floats of deviation
 * 0.02, cut to their upper half), "lineitem" (text rows after TPC-H's table),
 * "columns" (the same rows as little-endian columns, 65536 rows a group),
 * "random".
 */
int peer_data_make(struct peer_data *d, const char *kind, size_t len);
/*
 * nr units into dst: whole units of d, taken with a stride so that a few are a
 * sample of all; more than d has start again.
 */
int peer_data_batch(const struct peer_data *d, uint8_t *dst, size_t nr);

/* ---- results ---- */

struct peer_result {
	double enc_gbs, dec_gbs; /* 1e9 decoded bytes a second; 0: none */
	double ratio;		 /* units that grew count as raw */
	uint64_t bad_units;	 /* status, length or content was wrong */
};

double peer_median(double *values, size_t nr);

/* ---- the CPU (gpu_peer_cpu.c) ---- */

/*
 * Units of unit_len bytes of src (a multiple of it), encoded and decoded by
 * nr_threads threads; wall-clock, median. codec: "lz4", "zstd", "gdeflate"
 * (balefs's own), "memcpy". -1: not there in this build; nothing is told.
 */
int peer_cpu_measure(const char *codec, int level, const uint8_t *src,
		     size_t len, size_t unit_len, unsigned int nr_threads,
		     unsigned int passes, struct peer_result *ret);

#ifdef __cplusplus
}
#endif

#endif
