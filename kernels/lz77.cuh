/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lz77.cuh - the steps of the match finder and what they hand on, inside
 * kernels/lz77*.cu:
 *
 *   chain   prev[p]: the last position before p with the same hash
 *   search  match[p]: the best of some candidates along prev, cut at `cap`;
 *           for the optimal parse two: the nearest, and the longest if another
 *   parse   which of the matches are taken, extended to their true length
 *   optimal choice[p]: with the costs of a first parse's symbols, what to take
 *           at p; a second, greedy parse then takes that
 *
 * A position's data lie at unit * stride + p. Launchers queue and check, as
 * kernels.h says.
 */
#ifndef BALE_LZ77_CUH
#define BALE_LZ77_CUH

#include "kernels/kernels.h"

/* prev of a position that has none; not below any position. */
#define BALE_LZ77_NONE 0xffffu

/* Where the search cuts matches. */
#define BALE_LZ77_CAP	      32
#define BALE_LZ77_CAP_LAZY3   64
#define BALE_LZ77_CAP_OPTIMAL 63

struct bale_lz77_job {
	/* Of the call. */
	uint32_t nr;
	uint32_t max_chunk;
	const void *const *src;
	const uint32_t *src_len;
	const uint32_t *dst_cap; /* NULL, or 0 for units without hope */
	cudaStream_t stream;
	struct bale_lz77_params p;
	/* What the parameters lead to. */
	bool hash3; /* a second table, for matches of 3 bytes */
	uint32_t cap;
	bool search_remote;	 /* as if shared memory were small */
	uint32_t search_threads; /* a block of the search */
	/* In temp. */
	uint32_t stride;
	uint16_t *prev;
	uint16_t *prev3;  /* NULL without hash3 */
	bool pairs;	  /* two elements of match a position */
	uint32_t *match;  /* len << 16 | dist; 0: none */
	uint32_t *choice; /* as match; where prev and prev3 were */
	/* Of the caller. */
	struct bale_seq *seqs;
	uint32_t seqs_stride;
	uint32_t *nr_seqs;
};

/*
 * Units longer than the call said, and those that nobody has room for, count as
 * empty; callers report them.
 */
static __device__ __forceinline__ uint32_t
bale_lz77_unit_len(const struct bale_lz77_job &job, uint32_t unit)
{
	uint32_t len = job.src_len[unit];

	if (job.dst_cap && !job.dst_cap[unit])
		return 0;
	return len <= job.max_chunk ? len : 0;
}

/* The longest match that may start at p; 0: none may. */
static __device__ __forceinline__ uint32_t
bale_lz77_limit(const struct bale_lz77_params &p, uint32_t len, uint32_t at)
{
	uint32_t left = len - at;

	if (left < p.last_match || left <= p.end_lits)
		return 0;
	left -= p.end_lits;
	return left < p.max_len ? left : p.max_len;
}

/* The steps of bale_lz77_find(), for it and for measurements. */
int bale_lz77_job_init(struct bale_lz77_job *job,
		       const struct bale_lz77_params *p,
		       const struct bale_chunks *c, struct bale_seq *seqs,
		       uint32_t *nr_seqs, uint8_t *temp, size_t temp_len);
int bale_lz77_chain(const struct bale_lz77_job *job);
int bale_lz77_search(const struct bale_lz77_job *job);
int bale_lz77_parse(const struct bale_lz77_job *job);
int bale_lz77_optimal(const struct bale_lz77_job *job);
/* The parse that takes what bale_lz77_optimal() chose. */
int bale_lz77_take(const struct bale_lz77_job *job);

#endif
