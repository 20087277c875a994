/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lz4_decode.cuh - what both ways of decoding LZ4 blocks share: the job, and
 * the parts of the format that are read a byte at a time. Nothing that a block
 * says is used before it is checked.
 */
#ifndef BALE_LZ4_DECODE_CUH
#define BALE_LZ4_DECODE_CUH

#include "kernels/kernels.h"
#include "kernels/lane.cuh"

#define BALE_LZ4_MIN_MATCH 4

struct bale_lz4_decode_job {
	uint32_t nr;
	uint32_t max_chunk;
	const void *const *src;
	const uint32_t *src_len;
	void *const *dst;
	const uint32_t *dst_cap;
	uint32_t *dst_len;
	uint32_t *status;
	cudaStream_t stream;
	/* Of bale_lz4_decode_split() alone, in temp. */
	uint64_t *tokens;
	uint32_t tokens_stride;
	uint32_t *nr_tokens;
};

struct bale_lz4_block {
	const uint8_t *src;
	uint8_t *dst;
	uint32_t len, cap;
};

static __device__ __forceinline__ struct bale_lz4_block
bale_lz4_block_of(const struct bale_lz4_decode_job &job, uint32_t unit)
{
	struct bale_lz4_block b;

	b.src = static_cast<const uint8_t *>(job.src[unit]);
	b.dst = static_cast<uint8_t *>(job.dst[unit]);
	b.len = job.src_len[unit];
	b.cap = job.dst_cap[unit];
	return b;
}

enum bale_lz4_kind {
	BALE_LZ4_PLAIN, /* a sequence with a match */
	BALE_LZ4_LAST,	/* literals that end the block */
	BALE_LZ4_LONG,	/* lengths that take more than one extra byte */
	BALE_LZ4_BAD,
};

/* A sequence that may be in the block. */
struct bale_lz4_sequence {
	uint32_t kind;
	uint32_t lit_at; /* where the literals are in src */
	uint32_t lit, match;
	uint32_t next; /* the next token in src */
};

/*
 * The lanes that hold tokens, from lane 0 on; s: what a token at `at`, another
 * place in each lane, would mean. A sequence of no plain kind ends the list: a
 * last one belongs to it, others do not. ret_next: the lane behind.
 */
static __device__ __forceinline__ uint32_t bale_lz4_follow(
	const struct bale_lz4_sequence &s, uint32_t at, uint32_t *ret_next)
{
	const uint32_t stops =
		__ballot_sync(bale_all_lanes, s.kind >= BALE_LZ4_LONG);
	// What ends the list leads out of the window.
	const uint32_t here =
		s.kind == BALE_LZ4_PLAIN ? bale_lane() + s.next - at : 32;
	uint32_t tokens = 0, lane = 0, last;

	do {
		tokens |= 1u << lane;
		last = lane;
		lane = __shfl_sync(bale_all_lanes, here, (int)lane);
	} while (lane < 32);
	if (stops & tokens) {
		tokens &= ~stops;
		lane = last;
	}
	*ret_next = lane;
	return tokens;
}

/* A length that goes on at *at; more than `most` is as good as too long. */
static __device__ __forceinline__ bool
bale_lz4_read_long(const struct bale_lz4_block &b, uint32_t *at, uint32_t *v,
		   uint32_t most)
{
	uint32_t more;

	do {
		if (*at >= b.len || *v > most)
			return false;
		more = b.src[(*at)++];
		*v += more;
	} while (more == 255);
	return *v <= most;
}

/* By a warp a block; needs no temp. */
int bale_lz4_decode_whole(const struct bale_lz4_decode_job *job);
/* Tokens first, then copies in shared memory; -EOPNOTSUPP: too little of it. */
int bale_lz4_decode_split(const struct bale_lz4_decode_job *job);

#endif
