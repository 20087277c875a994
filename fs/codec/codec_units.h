/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_units.h - the payload of a unit codec: independent blocks of 64 KiB
 * behind a table of their stored lengths (format.h), so that a GPU, or many
 * cores, can take the units of one extent at once. A unit that saves too
 * little (balefs/unit.h) is stored as it is.
 *
 * Thread rule: as the functions given; nothing is kept.
 */
#ifndef BALE_CODEC_CODEC_UNITS_H
#define BALE_CODEC_CODEC_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* At most cap bytes; -ENOSPC: it does not fit, dst is undefined. */
typedef int bale_unit_encode_fn(void *arg, const uint8_t *src, size_t len,
				uint8_t *dst, size_t cap, size_t *ret_len);
/* Exactly len bytes, or -EUCLEAN. src is hostile, src_len >= 1. */
typedef int bale_unit_decode_fn(void *arg, const uint8_t *src, size_t src_len,
				uint8_t *dst, size_t len);

/* Largest payload of len bytes. */
size_t bale_units_bound(size_t len);
/* As struct bale_codec's functions; errors of fn other than -ENOSPC end it. */
int bale_units_encode(const uint8_t *src, size_t len, uint8_t *dst, size_t cap,
		      bale_unit_encode_fn *fn, void *arg, size_t *ret_len);
int bale_units_decode(const uint8_t *src, size_t src_len, uint8_t *dst,
		      size_t len, bale_unit_decode_fn *fn, void *arg);

#endif
