/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit.h - how an extent divides into units, and when coding one pays. The
 * same arithmetic for the CPU codecs and the kernels, so that both make the
 * same decisions. Pure; any thread.
 */
#ifndef BALE_UNIT_H
#define BALE_UNIT_H

#include <stddef.h>
#include <stdint.h>

#include "balefs/codec.h"

#ifdef __CUDACC__
#define BALE_UNIT_FN static inline __host__ __device__
#else
#define BALE_UNIT_FN static inline
#endif

BALE_UNIT_FN size_t bale_units_nr(size_t len)
{
	return (len + BALE_UNIT_SIZE - 1) / BALE_UNIT_SIZE;
}

/* Decoded bytes of unit idx < bale_units_nr(len). */
BALE_UNIT_FN size_t bale_unit_len(size_t len, size_t idx)
{
	size_t left = len - idx * BALE_UNIT_SIZE;

	return left < (size_t)BALE_UNIT_SIZE ? left : (size_t)BALE_UNIT_SIZE;
}

/* The largest coded size of a unit that is not stored raw inside its extent:
 * copying it back is several times cheaper than decoding it. */
BALE_UNIT_FN size_t bale_unit_worth(size_t len)
{
	return len - len / 16;
}

/*
 * The largest coded size of an extent that is kept. Space is packed by the
 * byte, so every byte saved counts, but each later read of the extent pays for
 * decoding it: 1/16 less to read from a 2 GB/s device is 4 us of a 128 KiB
 * extent, decoding zstd 100 us, lz4 30 us. Below 1/16 what is won is noise in
 * `du`, and what is lost is CPU on every read. 32 bytes is the share of a row
 * in the index.
 */
BALE_UNIT_FN size_t bale_extent_worth(size_t len)
{
	size_t save = len / 16 > 32 ? len / 16 : 32;

	return len > save ? len - save : 0;
}

#endif
