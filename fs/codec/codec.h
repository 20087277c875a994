/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/codec.h - the codec registry and the engines.
 *
 * Thread rule: bale_codec_run() may be called from any thread (contexts are
 * per thread); an engine may be submitted to from any thread.
 */
#ifndef BALE_CODEC_CODEC_H
#define BALE_CODEC_CODEC_H

#include "balefs/codec.h"

struct bale_codec_policy {
	uint8_t codec;	/* enum bale_codec_id or auto */
	int8_t level;	/* 0: default */
	uint8_t filter; /* enum bale_filter_id */
};

/* Name of a codec id ("zstd"), "?" when unknown; static storage. */
const char *bale_codec_name(unsigned int id);
const char *bale_raw_reason_text(unsigned int reason);
/* True when this build can decode (codec, filter). */
bool bale_codec_known(unsigned int codec, unsigned int filter);

/* "auto", "raw", "lz4", "zstd", "zstd:7", "lz4+shuffle4" ...; -EINVAL on
 * anything else, -EOPNOTSUPP for a reserved codec this build has no encoder
 * for. */
int bale_codec_policy_parse(const char *text, struct bale_codec_policy *ret);
/* One that a text could say; what comes as a struct may be anything. */
bool bale_codec_policy_valid(struct bale_codec_policy p);
/* The inverse; writes at most cap bytes with the NUL. */
void bale_codec_policy_text(struct bale_codec_policy p, char *buf, size_t cap);

/* Largest output of any encoder for len <= BALE_EXTENT_MAX bytes. */
size_t bale_codec_bound(size_t len);

/* Run one job on the calling thread; fills the job's results. */
void bale_codec_run(struct bale_job *job);

/* A pool of nr_workers threads (0: as many as there are cores). */
int bale_engine_cpu_create(unsigned int nr_workers, struct bale_engine **ret);
/* Runs everything inside submit(), in order: the reference for tests. */
int bale_engine_serial_create(struct bale_engine **ret);

enum bale_gpu_mode {
	BALE_GPU_AUTO,
	BALE_GPU_OFF,
	BALE_GPU_FAKE, /* a stand-in on CPU threads, for tests */
};

struct bale_gpu_options {
	enum bale_gpu_mode mode;
	uint64_t devices;	/* a bit each; 0: all that there are */
	uint64_t mem_bytes;	/* of each device; 0: a 16th, 1 to 4 GiB */
	unsigned int share;	/* percent of each device's time; 0: 100 */
	unsigned int nr_slots;	/* 0: 4 */
	uint32_t slot_units;	/* 0: by memory */
	uint64_t hang_ns;	/* a batch that takes longer hangs; 0: 10 s */
	uint64_t retry_ns;	/* first wait after a loss; 0: 1 s */
	bool always;		/* no choice by cost: for tests, benchmarks */
	bool no_verify;		/* benchmarks */
	bool no_profile;	/* measure anew, save nothing */
	const struct bale_gpu_ops *ops; /* NULL: by mode; tests */
};

/* "auto", "off", numbers of devices ("0+2"), or "fake": mode and devices of *o.
 * -EINVAL. */
int bale_gpu_options_parse(const char *text, struct bale_gpu_options *o);

/*
 * GPUs, and a pool of nr_workers for all that they do not take. Returns before
 * any device was looked for: until one is ready, and without any, this is the
 * CPU engine. CUDA does not survive fork(): daemonise before. -ENODEV: this
 * build has no CUDA (or the mode is off); use a CPU engine.
 */
int bale_engine_gpu_create(const struct bale_gpu_options *o,
			   unsigned int nr_workers, struct bale_engine **ret);
/* Only of one of these: until devices were looked for and are open or were not
 * to be opened, at most ns. True: one is ready. */
bool bale_engine_gpu_wait(struct bale_engine *e, uint64_t ns);

/*
 * Memory that jobs' src and dst will lie in: an engine with devices registers
 * it with them in the background, others do nothing. Now: all of it, from the
 * start; else each part once jobs have used it so often that it pays: pinning
 * costs as much time as some copies do, and makes pages that nobody may ever
 * touch. unpin() returns when the memory may be freed. Whole pages.
 */
void bale_engine_pin(struct bale_engine *e, void *p, size_t len, bool now);
void bale_engine_unpin(struct bale_engine *e, void *p);

/* Batches at a time that keep all of the engine busy: one is coded while
 * another's results are written. */
unsigned int bale_engine_width(const struct bale_engine *e);

/* Submit and wait. Not inside a done(): that is a worker of the engine. */
int bale_engine_run(struct bale_engine *e, struct bale_job *jobs, size_t nr);
void bale_engine_destroy(struct bale_engine *e); /* NULL is fine */

#endif
