/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huffman codes of bounded length for the GDeflate encoder.
 *
 * The tree is built over sorted counts in place (Moffat and Katajainen, 1995):
 * linear, no pointers. Codes that come out too long are cut, and the space that
 * this overdraws is taken back from the rarest symbols: within a few bits a
 * block of what package-merge finds, at a hundredth of the work, as a bound of
 * 14 is hardly ever met by blocks of 64 KiB.
 */
#include <string.h>

#include "fs/codec/codec_gdeflate_write.h"

enum { SYMBOLS_MAX = BALE_GD_LITLEN_NR, RADIX = 256 };

struct entry {
	uint32_t freq;
	uint16_t sym;
};

/* Ascending counts; ties by symbol. Two passes of 8 bits. */
static void sort_entries(struct entry *e, struct entry *tmp, unsigned int nr)
{
	for (unsigned int shift = 0; shift < 16; shift += 8) {
		uint16_t at[RADIX + 1] = { 0 };

		for (unsigned int i = 0; i < nr; i++)
			at[(e[i].freq >> shift & 255) + 1]++;
		for (unsigned int v = 0; v < RADIX; v++)
			at[v + 1] = (uint16_t)(at[v + 1] + at[v]);
		for (unsigned int i = 0; i < nr; i++)
			tmp[at[e[i].freq >> shift & 255]++] = e[i];
		memcpy(e, tmp, nr * sizeof(*e));
	}
}

/*
 * a[]: ascending counts of nr >= 2 leaves; on return depths, descending. First
 * pass: a[i] of an inner node becomes its parent; second: depths of inner
 * nodes; third: depths of leaves, from how many places inner nodes leave.
 */
static void tree_depths(uint32_t *a, unsigned int nr)
{
	unsigned int leaf = 0, root = 0, used, avail, next, depth;

	for (next = 0; next + 1 < nr; next++) {
		uint32_t sum = 0;

		for (int k = 0; k < 2; k++) {
			if (leaf >= nr || (root < next && a[root] < a[leaf])) {
				sum += a[root];
				a[root++] = next;
			} else {
				sum += a[leaf++];
			}
		}
		a[next] = sum;
	}
	a[nr - 2] = 0;
	for (next = nr - 2; next-- > 0;)
		a[next] = a[a[next]] + 1;
	avail = 1;
	depth = 0;
	root = nr - 1; /* inner nodes not yet seen, from the root down */
	next = nr;
	while (avail) {
		for (used = 0; root > 0 && a[root - 1] == depth; root--)
			used++;
		for (; avail > used; avail--)
			a[--next] = depth;
		avail = 2 * used;
		depth++;
	}
}

/* bits[]: descending depths of nr symbols, rarest first; to at most max. */
static void limit_depths(uint32_t *bits, unsigned int nr, unsigned int max)
{
	uint32_t space = 0, all = 1U << max;

	for (unsigned int i = 0; i < nr; i++) {
		if (bits[i] > max)
			bits[i] = max;
		space += all >> bits[i];
	}
	/* Lengthening a code of l bits gives back half of what it had. */
	for (unsigned int i = 0; space > all; i = i + 1 < nr ? i + 1 : 0) {
		while (bits[i] < max && space > all) {
			bits[i]++;
			space -= all >> bits[i];
		}
	}
	/* What was given back too much goes to the frequent ones. */
	for (unsigned int i = nr; space < all && i-- > 0;)
		while (bits[i] > 1 && all >> bits[i] <= all - space) {
			space += all >> bits[i];
			bits[i]--;
		}
}

void bale_gd_code_assign(struct bale_gd_code *c, unsigned int nr)
{
	uint16_t count[BALE_GD_CODE_BITS_MAX + 2] = { 0 };
	uint16_t next[BALE_GD_CODE_BITS_MAX + 2] = { 0 };

	for (unsigned int s = 0; s < nr; s++)
		count[c->bits[s]]++;
	count[0] = 0;
	for (unsigned int l = 1; l <= BALE_GD_CODE_BITS_MAX; l++)
		next[l] = (uint16_t)((next[l - 1] + count[l - 1]) << 1);
	for (unsigned int s = 0; s < nr; s++) {
		uint32_t n = c->bits[s], v, r = 0;

		if (!n)
			continue;
		v = next[n]++;
		for (uint32_t i = 0; i < n; i++)
			r |= (v >> i & 1) << (n - 1 - i);
		c->code[s] = (uint16_t)r;
	}
}

void bale_gd_code_make(struct bale_gd_code *c, const uint32_t *freq,
		       unsigned int nr, unsigned int max_bits)
{
	struct entry e[SYMBOLS_MAX], tmp[SYMBOLS_MAX];
	uint32_t depth[SYMBOLS_MAX];
	unsigned int used = 0;

	memset(c->bits, 0, nr);
	for (unsigned int s = 0; s < nr; s++)
		if (freq[s])
			e[used++] = (struct entry){ freq[s] < 65535 ? freq[s] :
								      65535,
						    (uint16_t)s };
	if (used >= 2) {
		sort_entries(e, tmp, used);
		for (unsigned int i = 0; i < used; i++)
			depth[i] = e[i].freq;
		tree_depths(depth, used);
		limit_depths(depth, used, max_bits);
		for (unsigned int i = 0; i < used; i++)
			c->bits[e[i].sym] = (uint8_t)depth[i];
	} else if (used) {
		c->bits[e[0].sym] = 1;
	}
	bale_gd_code_assign(c, nr);
}
