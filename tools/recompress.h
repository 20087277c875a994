/* SPDX-License-Identifier: Apache-2.0 */
/* recompress.h - what the two ways of recompress share. */
#ifndef BALE_TOOLS_RECOMPRESS_H
#define BALE_TOOLS_RECOMPRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/codec/codec.h"

struct bale_recompress {
	struct bale_codec_policy policy;
	bool verbose;
	struct bale_gpu_options gpu; /* of a store that is not mounted */
	uint64_t files, failed, before, after;
};

/* SIGINT or SIGTERM came. */
bool bale_recompress_stopped(void);
/* Tells, and counts; returns 0. err: an errno. */
int bale_recompress_failed(struct bale_recompress *run, const char *path,
			   int err);
/* Paths from the root of a store that is not mounted. 0 or -errno, told. */
int bale_recompress_store(const char *store, char **paths, int nr,
			  struct bale_recompress *run);

#endif
