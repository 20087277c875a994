/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.h - what the .cu files offer to each other; never seen outside
 * kernels/. Launchers check sizes, launch on the given stream, check the
 * launch, and neither allocate nor synchronise.
 */
#ifndef BALE_KERNELS_H
#define BALE_KERNELS_H

#include <cuda_runtime.h>

#include "balefs/device.h"

/* One call's chunks; every pointer is device memory, see device.h. */
struct bale_chunks {
	size_t nr;
	const void *const *src;
	const uint32_t *src_len;
	void *const *dst;
	const uint32_t *dst_cap;
	uint32_t *dst_len;
	uint32_t *status;
	uint32_t max_chunk; /* decoded bytes at most */
	uint8_t *temp;	    /* 256-byte aligned */
	size_t temp_len;
	cudaStream_t stream;
};

/*
 * A unit cut into sequences by the shared match finder (lz77.cu): `lit`
 * literals, then a match of `len` bytes at distance `dist` (len 0: none, only
 * the last sequence of a unit). Sequences of a unit cover it exactly.
 */
struct bale_seq {
	uint16_t lit;  /* 65535 at most: 64 KiB without a match takes two */
	uint16_t len;  /* 0 or >= the finder's minimum */
	uint16_t dist; /* 1..65535 */
	uint16_t pos;  /* unit offset of the first literal */
};

enum bale_parse {
	BALE_PARSE_GREEDY,
	BALE_PARSE_LAZY,
	BALE_PARSE_OPTIMAL, /* by the bit costs of the deflate alphabets */
};

struct bale_lz77_params {
	uint32_t min_len;    /* 4 for lz4, 3 for deflate */
	uint32_t max_len;    /* longest match; 65535 */
	uint32_t max_dist;   /* 65535 */
	uint32_t depth;	     /* candidates tried a position */
	uint32_t end_lits;   /* lz4: the last 5 bytes are literals */
	uint32_t last_match; /* lz4: no match starts in the last 12 bytes */
	enum bale_parse parse;
};

/* Room for the sequences of one unit of `len` bytes. */
static inline size_t bale_lz77_seqs_max(size_t len)
{
	return len / 3 + 2;
}

size_t bale_lz77_temp(const struct bale_lz77_params *p, size_t nr,
		      uint32_t max_chunk);
/*
 * seqs: nr * bale_lz77_seqs_max(max_chunk) elements; nr_seqs: one count a
 * unit. Reads c->src, c->src_len; uses temp (its own, not c->temp).
 */
int bale_lz77_find(const struct bale_lz77_params *p,
		   const struct bale_chunks *c, struct bale_seq *seqs,
		   uint32_t *nr_seqs, uint8_t *temp, size_t temp_len);

size_t bale_lz4_encode_temp(int level, size_t nr, uint32_t max_chunk);
int bale_lz4_encode(int level, const struct bale_chunks *c);
int bale_lz4_decode(const struct bale_chunks *c);
int bale_lz4_decoded_len(const struct bale_chunks *c); /* into c->dst_len */

size_t bale_gdeflate_encode_temp(int level, size_t nr, uint32_t max_chunk);
int bale_gdeflate_encode(int level, const struct bale_chunks *c);
int bale_gdeflate_decode(const struct bale_chunks *c);
int bale_gdeflate_decoded_len(const struct bale_chunks *c);

/* 0, or -errno of the last launch. */
int bale_launch_check(void);

#endif
