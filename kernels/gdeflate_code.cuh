/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_code.cuh - Huffman codes of limited length from counts, by one warp
 * in shared memory.
 *
 * The tree is made in the usual two queues, by one lane: leaves ascending, and
 * inner nodes, which come into being in ascending order. Of the tree only the
 * depths of the inner nodes matter: at each depth there are twice as many nodes
 * as there are inner ones above, and those which are not inner are leaves.
 */
#ifndef BALE_GDEFLATE_CODE_CUH
#define BALE_GDEFLATE_CODE_CUH

#include "kernels/gdeflate_device.cuh"
#include "kernels/simt.h"

enum {
	BALE_GD_SORT_MAX = 512, /* a power of two >= BALE_GD_LITLEN_NR */
	BALE_GD_DEPTHS = 32,	/* of 65,536 counts: 23 at most */
	BALE_GD_KEY_BITS = 9,	/* a symbol beside its count */
};

struct bale_gd_tree {
	uint32_t key[BALE_GD_SORT_MAX]; /* count << 9 | symbol, ascending */
	uint32_t weight[BALE_GD_LITLEN_NR];
	uint32_t up[BALE_GD_LITLEN_NR];
	uint32_t depth[BALE_GD_DEPTHS +
		       1]; /* inner nodes, then leaves, at each */
};

/* The keys of used symbols ascend; returns how many there are. */
static __device__ uint32_t bale_gd_sort(struct bale_gd_tree *t,
					const uint32_t *counts, uint32_t nr,
					uint32_t lane)
{
	uint32_t used = 0, size = 32;

	for (uint32_t i = 0; i < nr; i += 32) {
		uint32_t count = i + lane < nr ? counts[i + lane] : 0;
		uint32_t has = __ballot_sync(bale_all_lanes, count != 0);

		if (count)
			t->key[used + __popc(has & bale_lanes_below(lane))] =
				count << BALE_GD_KEY_BITS | (i + lane);
		used += __popc(has);
	}
	while (size < used)
		size *= 2;
	for (uint32_t i = used + lane; i < size; i += 32)
		t->key[i] = 0xffffffffu;
	__syncwarp();
	/* Bitonic. */
	for (uint32_t k = 2; k <= size; k *= 2)
		for (uint32_t d = k / 2; d; d /= 2) {
			for (uint32_t i = lane; i < size / 2; i += 32) {
				uint32_t a = 2 * i - (i & (d - 1)), b = a + d;
				uint32_t x = t->key[a], y = t->key[b];

				if ((x > y) == ((a & k) == 0)) {
					t->key[a] = y;
					t->key[b] = x;
				}
			}
			__syncwarp();
		}
	return used;
}

/*
 * Joins n >= 2 leaves; inner node n - 2 is the root. One lane.
 *
 * The leaves are walked by pointer: of the same walk by index ptxas 13.0 makes,
 * for sm_90 and perhaps others, loads of key[leaf + 1]. The codes that came of
 * it were valid, but not the shortest.
 */
static __device__ void bale_gd_join(struct bale_gd_tree *t, uint32_t n)
{
	const uint32_t *leaf = t->key, *end = t->key + n;
	uint32_t from = 0;
	uint32_t next_leaf = *leaf >> BALE_GD_KEY_BITS;
	uint32_t next_inner = 0xffffffffu;

#pragma unroll 1
	for (uint32_t to = 0; to < n - 1; to++) {
		uint32_t sum = 0;

		for (int child = 0; child < 2; child++) {
			if (next_leaf <= next_inner) {
				sum += next_leaf;
				leaf++;
				next_leaf = leaf < end ?
						    *leaf >> BALE_GD_KEY_BITS :
						    0xffffffffu;
			} else {
				sum += next_inner;
				t->up[from++] = to;
				next_inner = from < to ? t->weight[from] :
							 0xffffffffu;
			}
		}
		t->weight[to] = sum;
		if (from == to)
			next_inner = sum;
	}
}

/* Leaves at each depth, none below max. */
static __device__ void bale_gd_limit(struct bale_gd_tree *t, uint32_t n,
				     uint32_t max, uint32_t lane)
{
	uint32_t here, above, leaves;

	t->depth[lane] = 0;
	__syncwarp();
	for (uint32_t i = lane; i < n - 1; i += 32) {
		uint32_t depth = 0, k = i;

		/* It ends before the bound does. */
		for (; k < n - 2 && depth < BALE_GD_DEPTHS - 1; k = t->up[k])
			depth++;
		atomicAdd(&t->depth[depth], 1u);
	}
	__syncwarp();
	here = t->depth[lane];
	above = __shfl_up_sync(bale_all_lanes, here, 1);
	leaves = lane ? 2 * above - here : 0;
	__syncwarp();
	t->depth[lane] = leaves;
	__syncwarp();
	if (lane == 0) {
		uint32_t space = 0;

		for (uint32_t i = max + 1; i < BALE_GD_DEPTHS; i++)
			t->depth[max] += t->depth[i];
		for (uint32_t i = 1; i <= max; i++)
			space += t->depth[i] << (max - i);
		/* A leaf moves down by one and takes one of the deepest beside
		 * it: one code of the deepest less. */
		for (; space > 1u << max; space--) {
			uint32_t i = max - 1;

			while (i > 1 && !t->depth[i])
				i--;
			t->depth[i]--;
			t->depth[i + 1] += 2;
			t->depth[max]--;
		}
	}
	__syncwarp();
}

/*
 * Code lengths of at most max for counts, whose sum is below 1 << 23; 0 for a
 * count of 0. A single symbol gets one bit. lens: in shared memory.
 * One copy for its three callers: inlined in each, an H100 found inner nodes
 * without a parent and read out of bounds. The walks above are bounded, so that
 * a tree which is not whole costs some bits and no more.
 */
static __device__ BALE_NOINLINE void
bale_gd_lengths(struct bale_gd_tree *t, const uint32_t *counts, uint32_t nr,
		uint32_t max, uint8_t *lens, uint32_t lane)
{
	uint32_t n = bale_gd_sort(t, counts, nr, lane);

	for (uint32_t i = lane; i < nr; i += 32)
		lens[i] = 0;
	__syncwarp();
	if (n < 2) {
		if (n && lane == 0)
			lens[t->key[0] & ((1 << BALE_GD_KEY_BITS) - 1)] = 1;
		__syncwarp();
		return;
	}
	if (lane == 0)
		bale_gd_join(t, n);
	__syncwarp();
	bale_gd_limit(t, n, max, lane);
	for (uint32_t i = lane; i < n; i += 32) {
		uint32_t len = max, deeper = t->depth[max];

		while (i >= deeper && len > 1)
			deeper += t->depth[--len];
		lens[t->key[i] & ((1 << BALE_GD_KEY_BITS) - 1)] = (uint8_t)len;
	}
	__syncwarp();
}

/* A code as it is written. */
static __device__ __forceinline__ uint32_t bale_gd_code_bits(uint32_t code)
{
	return code >> 16;
}
static __device__ __forceinline__ uint32_t bale_gd_code_value(uint32_t code)
{
	return code & 0xffff;
}

/* Canonical codes of lens, bit-reversed, with their lengths above. codes may
 * not be where lens are. next: 16 words of scratch. */
static __device__ void bale_gd_assign(const uint8_t *lens, uint32_t nr,
				      uint32_t *codes, uint32_t *next,
				      uint32_t lane)
{
	uint32_t space;

	if (lane < 16)
		next[lane] = 0;
	__syncwarp();
	for (uint32_t i = lane; i < nr; i += 32)
		if (lens[i])
			atomicAdd(&next[lens[i]], 1u);
	__syncwarp();
	/* The first code of each length, of 15 bits, then of its own. */
	space = lane && lane < 16 ? next[lane] << (15 - lane) : 0;
	space = bale_scan_incl(space, lane) - space;
	__syncwarp();
	if (lane && lane < 16)
		next[lane] = space >> (15 - lane);
	__syncwarp();
	for (uint32_t i = 0; i < nr; i += 32) {
		uint32_t len = i + lane < nr ? lens[i + lane] : 0;
		uint32_t same = __match_any_sync(bale_all_lanes, len);
		uint32_t rank = __popc(same & bale_lanes_below(lane));
		uint32_t code = next[len] + rank;

		__syncwarp();
		if (i + lane < nr)
			codes[i + lane] =
				len ? __brev(code) >> (32 - len) | len << 16 :
				      0;
		if (len && rank == 0)
			next[len] = code + __popc(same);
		__syncwarp();
	}
}

#endif
