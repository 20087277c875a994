/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.h - what is done to the bytes of an extent before its codec, and
 * undone after: docs/format.md says it exactly, kernels/unit_filter.cu gives
 * the same bytes.
 *
 * Each unit of BALE_UNIT_SIZE is filtered by itself, the last one shorter. src
 * and dst have len bytes each and do not overlap. Pure; any thread; never
 * fails for content.
 */
#ifndef BALE_CODEC_FILTER_H
#define BALE_CODEC_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "balefs/codec.h"

bool bale_filter_known(unsigned int id);
/* "shuffle4"; "?" when unknown; static storage. */
const char *bale_filter_name(unsigned int id);
/* -EINVAL: no such name. */
int bale_filter_parse(const char *name, uint8_t *ret);

/* id is known. */
void bale_filter_forward(unsigned int id, const uint8_t *src, size_t len,
			 uint8_t *dst);
void bale_filter_backward(unsigned int id, const uint8_t *src, size_t len,
			  uint8_t *dst);

#endif
