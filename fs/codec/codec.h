/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/codec.h - the codec registry and the engines that run on CPUs.
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

/* Submit and wait. Not inside a done(): that is a worker of the engine. */
int bale_engine_run(struct bale_engine *e, struct bale_job *jobs, size_t nr);
void bale_engine_destroy(struct bale_engine *e); /* NULL is fine */

#endif
