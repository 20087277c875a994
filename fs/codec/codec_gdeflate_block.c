/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDeflate blocks: codes from counts, the three kinds of a block and what each
 * would take, and the slots of the smallest one.
 *
 * Slots are handed out as the reader takes them: lanes in turn, and a lane that
 * got a match's length gets its distance a round later, before anything else.
 */
#include <errno.h>
#include <string.h>

#include "fs/codec/codec_gdeflate_write.h"

enum {
	STORED_MAX = 65535,
	RUN_REPEAT_MAX = 6,
	RUN_ZERO_MAX = 10,
	RUN_ZEROS_MAX = 138,
	/* In runs[]: the extra bits stand above the symbol. */
	RUN_EXTRA = 5,
};

/* ---- lanes ---- */

bool bale_gd_lanes_start(struct bale_gd_lanes *w, uint8_t *dst, size_t cap)
{
	if (cap < BALE_GD_TILE_MIN)
		return false;
	memset(w, 0, sizeof(*w));
	for (uint32_t lane = 0; lane < BALE_GD_LANES; lane++)
		w->cur[lane] = lane;
	w->dst = dst;
	w->nr_words = BALE_GD_LANES;
	w->max_words = (uint32_t)(cap / 4);
	return true;
}

int bale_gd_lanes_finish(struct bale_gd_lanes *w, size_t *ret_len)
{
	if (w->full)
		return -ENOSPC;
	for (uint32_t lane = 0; lane < BALE_GD_LANES; lane++) {
		bale_gd_lanes_store(w->dst, w->cur[lane],
				    (uint32_t)w->buf[lane]);
		/* What the reader has fetched ahead, and never looks at. */
		if (w->cnt[lane])
			bale_gd_lanes_store(w->dst, w->next[lane], 0);
	}
	*ret_len = (size_t)4 * w->nr_words;
	return 0;
}

/* ---- counts and codes ---- */

void bale_gd_count(struct bale_gd_counts *c, const bale_gd_token *tokens,
		   size_t nr)
{
	/* By literal, or 256 and length; two of them, since one waits for its
	   own increments in runs. Literals count as a distance, apart. */
	uint32_t both[2][512] = { { 0 } };
	uint32_t dist[2 * BALE_GD_DIST_NR] = { 0 };
	const uint32_t most = BALE_GD_LENGTH_LONG;

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < nr; i++) {
		uint32_t len = bale_gd_token_len(tokens[i]);
		uint32_t high = bale_gd_token_high(tokens[i]);
		uint32_t at = 253 + (len < most ? len : most);

		both[i & 1][len ? at : high]++;
		dist[bale_gd_dist_symbol(high | !high) +
		     (len ? 0 : BALE_GD_DIST_NR)]++;
	}
	for (uint32_t v = 0; v < 256; v++)
		c->litlen[v] = both[0][v] + both[1][v];
	for (uint32_t n = BALE_GD_LENGTH_MIN; n <= most; n++)
		c->litlen[BALE_GD_LEN_FIRST + bale_gd_len_index(n)] +=
			both[0][253 + n] + both[1][253 + n];
	memcpy(c->dist, dist, sizeof(c->dist));
	c->litlen[BALE_GD_END] = 1;
}

static uint32_t count_run(const uint8_t *bits, uint32_t i, uint32_t nr)
{
	uint32_t n = 1;

	while (i + n < nr && bits[i + n] == bits[i])
		n++;
	return n;
}

static void add_run(struct bale_gd_block_work *k, uint32_t *freq, uint32_t sym,
		    uint32_t extra)
{
	k->runs[k->nr_runs++] = (uint16_t)(sym | extra << RUN_EXTRA);
	freq[sym]++;
}

/* `n` times the length v. */
static void add_runs(struct bale_gd_block_work *k, uint32_t *freq, uint32_t v,
		     uint32_t n)
{
	while (!v && n >= 3) {
		uint32_t most = n < 11 ? RUN_ZERO_MAX : RUN_ZEROS_MAX;
		uint32_t take = n < most ? n : most;

		if (n < 11)
			add_run(k, freq, BALE_GD_RUN_ZERO, take - 3);
		else
			add_run(k, freq, BALE_GD_RUN_ZEROS, take - 11);
		n -= take;
	}
	if (v && n) {
		add_run(k, freq, v, 0);
		n--;
	}
	while (v && n >= 3) {
		uint32_t take = n < RUN_REPEAT_MAX ? n : RUN_REPEAT_MAX;

		add_run(k, freq, BALE_GD_RUN_LAST, take - 3);
		n -= take;
	}
	for (; n; n--)
		add_run(k, freq, v, 0);
}

/* The header's form of the codes' lengths, and the precode for it. */
static void make_header(struct bale_gd_block_work *k)
{
	uint8_t bits[BALE_GD_LITLEN_NR + BALE_GD_DIST_NR];
	uint32_t freq[BALE_GD_PRECODE_NR] = { 0 }, nr;

	k->nr_litlen = BALE_GD_LEN_LONG + 1;
	while (k->nr_litlen > BALE_GD_LITLEN_MIN &&
	       !k->litlen.bits[k->nr_litlen - 1])
		k->nr_litlen--;
	k->nr_dist = BALE_GD_DIST_NR;
	while (k->nr_dist > 1 && !k->dist.bits[k->nr_dist - 1])
		k->nr_dist--;
	nr = k->nr_litlen + k->nr_dist;
	memcpy(bits, k->litlen.bits, k->nr_litlen);
	memcpy(bits + k->nr_litlen, k->dist.bits, k->nr_dist);
	k->nr_runs = 0;
	for (uint32_t i = 0, n; i < nr; i += n) {
		n = count_run(bits, i, nr);
		add_runs(k, freq, bits[i], n);
	}
	/* Two symbols at least, so that this code is complete: there are 258
	   lengths or more, and a run takes another symbol than what it is
	   of. */
	bale_gd_code_make(&k->pre, freq, BALE_GD_PRECODE_NR,
			  BALE_GD_PRECODE_BITS_MAX);
	k->nr_pre = BALE_GD_PRECODE_NR;
	while (k->nr_pre > BALE_GD_PRECODE_MIN &&
	       !k->pre.bits[bale_gd_precode_order(k->nr_pre - 1)])
		k->nr_pre--;
}

static uint32_t run_extra_bits(uint32_t sym)
{
	return sym == BALE_GD_RUN_LAST	? 2 :
	       sym == BALE_GD_RUN_ZERO	? 3 :
	       sym == BALE_GD_RUN_ZEROS ? 7 :
					  0;
}

/* ---- what a block takes, in bits ---- */

static uint32_t header_bits(const struct bale_gd_block_work *k)
{
	uint32_t n = BALE_GD_DYNAMIC_BITS + 3 * k->nr_pre;

	for (uint32_t i = 0; i < k->nr_runs; i++) {
		uint32_t sym = k->runs[i] & 31;

		n += k->pre.bits[sym] + run_extra_bits(sym);
	}
	return n;
}

static uint32_t extra_bits(const struct bale_gd_counts *c)
{
	uint32_t n = 0;

	for (uint32_t s = BALE_GD_LEN_FIRST; s < BALE_GD_LITLEN_USED; s++)
		n += c->litlen[s] * bale_gd_len_extra(s - BALE_GD_LEN_FIRST);
	for (uint32_t s = 0; s < BALE_GD_DIST_NR; s++)
		n += c->dist[s] * bale_gd_dist_extra(s);
	return n;
}

static uint32_t dynamic_bits(const struct bale_gd_block_work *k,
			     const struct bale_gd_counts *c)
{
	uint32_t n = header_bits(k);

	for (uint32_t s = 0; s < BALE_GD_LITLEN_USED; s++)
		n += c->litlen[s] * k->litlen.bits[s];
	for (uint32_t s = 0; s < BALE_GD_DIST_NR; s++)
		n += c->dist[s] * k->dist.bits[s];
	return n;
}

static uint32_t static_bits(const struct bale_gd_counts *c)
{
	uint32_t n = 0;

	for (uint32_t s = 0; s < BALE_GD_LITLEN_USED; s++)
		n += c->litlen[s] * bale_gd_static_litlen_bits(s);
	for (uint32_t s = 0; s < BALE_GD_DIST_NR; s++)
		n += c->dist[s] * BALE_GD_STATIC_DIST_BITS;
	return n;
}

/* ---- slots ---- */

enum { SLOT_BITS = 8, SLOT_LEN = 256 - BALE_GD_LENGTH_MIN };

static uint32_t length_slot(const struct bale_gd_code *c, uint32_t len,
			    uint32_t *ret_bits)
{
	uint32_t idx = bale_gd_len_index(len), sym = BALE_GD_LEN_FIRST + idx;

	*ret_bits = c->bits[sym] + bale_gd_len_extra(idx);
	return c->code[sym] | (len - bale_gd_len_base(idx)) << c->bits[sym];
}

static void make_slots(struct bale_gd_block_work *k)
{
	for (uint32_t v = 0; v < 256; v++)
		k->slots[v] = (uint32_t)k->litlen.code[v] << SLOT_BITS |
			      k->litlen.bits[v];
	for (uint32_t n = BALE_GD_LENGTH_MIN; n < BALE_GD_LENGTH_LONG; n++) {
		uint32_t bits, v = length_slot(&k->litlen, n, &bits);

		k->slots[SLOT_LEN + n] = v << SLOT_BITS | bits;
	}
}

static inline void put_distance(struct bale_gd_lanes *w,
				const struct bale_gd_code *c, uint32_t lane,
				uint32_t dist)
{
	uint32_t sym = bale_gd_dist_symbol(dist), n = c->bits[sym];

	bale_gd_lanes_put(w, lane,
			  c->code[sym] | (dist - bale_gd_dist_base(sym)) << n,
			  n + bale_gd_dist_extra(sym));
}

/* The slot of a literal, or of the length of a match. */
static inline uint32_t litlen_slot(const struct bale_gd_block_work *k,
				   bale_gd_token t, uint32_t *ret_bits)
{
	uint32_t len = bale_gd_token_len(t), v;

	if (bale_unlikely(len >= BALE_GD_LENGTH_LONG))
		return length_slot(&k->litlen, len, ret_bits);
	v = k->slots[len ? SLOT_LEN + len : bale_gd_token_high(t)];
	*ret_bits = v & ((1 << SLOT_BITS) - 1);
	return v >> SLOT_BITS;
}

/*
 * One round of 32 tokens or fewer: first the distances that are due, then
 * tokens for the lanes that are free; these loops end when they end, whatever
 * the tokens are. Then the slots, lane by lane. Returns the tokens taken.
 */
static size_t put_round(struct bale_gd_lanes *w,
			const struct bale_gd_block_work *k,
			const bale_gd_token *tokens, uint32_t *due,
			uint32_t *pending)
{
	uint32_t v[BALE_GD_LANES], n[BALE_GD_LANES], matches = 0;
	uint32_t nr = w->nr_words;
	uint8_t *dst = w->dst;
	size_t i = 0;

	for (uint32_t m = *pending; m; m &= m - 1) {
		uint32_t lane = (uint32_t)__builtin_ctz(m);
		uint32_t sym = bale_gd_dist_symbol(due[lane]);
		uint32_t bits = k->dist.bits[sym];

		v[lane] = k->dist.code[sym] |
			  (due[lane] - bale_gd_dist_base(sym)) << bits;
		n[lane] = bits + bale_gd_dist_extra(sym);
	}
	for (uint32_t m = ~*pending; m; m &= m - 1, i++) {
		uint32_t lane = (uint32_t)__builtin_ctz(m);

		v[lane] = litlen_slot(k, tokens[i], &n[lane]);
		due[lane] = bale_gd_token_high(tokens[i]);
		matches |= (uint32_t)(bale_gd_token_len(tokens[i]) != 0)
			   << lane;
	}
	for (uint32_t lane = 0; lane < BALE_GD_LANES; lane++)
		bale_gd_lanes_put_at(w, lane, v[lane], n[lane], dst, &nr);
	w->nr_words = nr;
	*pending = matches;
	return i;
}

static void put_tokens(struct bale_gd_lanes *w,
		       const struct bale_gd_block_work *k,
		       const bale_gd_token *tokens, size_t nr)
{
	uint32_t due[BALE_GD_LANES], pending = 0, lane = 0;
	size_t i = 0;

	while (nr - i >= BALE_GD_LANES &&
	       w->max_words - w->nr_words >= BALE_GD_LANES)
		i += put_round(w, k, tokens + i, due, &pending);
	for (;; lane = (lane + 1) % BALE_GD_LANES) {
		uint32_t v, n;

		if (pending >> lane & 1) {
			put_distance(w, &k->dist, lane, due[lane]);
			pending &= ~(1U << lane);
			continue;
		}
		if (i == nr || w->full)
			break;
		v = litlen_slot(k, tokens[i], &n);
		bale_gd_lanes_put(w, lane, v, n);
		due[lane] = bale_gd_token_high(tokens[i]);
		pending |= (uint32_t)(bale_gd_token_len(tokens[i]) != 0)
			   << lane;
		i++;
	}
	bale_gd_lanes_put(w, lane, k->litlen.code[BALE_GD_END],
			  k->litlen.bits[BALE_GD_END]);
	for (uint32_t d = 1; d < BALE_GD_LANES; d++) {
		uint32_t l = (lane + d) % BALE_GD_LANES;

		if (pending >> l & 1)
			put_distance(w, &k->dist, l, due[l]);
	}
}

static void put_header(struct bale_gd_lanes *w,
		       const struct bale_gd_block_work *k)
{
	bale_gd_lanes_put(w, 0,
			  (k->nr_litlen - BALE_GD_LITLEN_MIN) |
				  (k->nr_dist - 1) << 5 |
				  (k->nr_pre - BALE_GD_PRECODE_MIN) << 10,
			  BALE_GD_DYNAMIC_BITS);
	for (uint32_t i = 0; i < k->nr_pre; i++)
		bale_gd_lanes_put(w, i, k->pre.bits[bale_gd_precode_order(i)],
				  3);
	for (uint32_t i = 0; i < k->nr_runs; i++) {
		uint32_t sym = k->runs[i] & 31, n = k->pre.bits[sym];

		bale_gd_lanes_put(w, i % BALE_GD_LANES,
				  k->pre.code[sym] |
					  (uint32_t)(k->runs[i] >> RUN_EXTRA)
						  << n,
				  n + run_extra_bits(sym));
	}
}

static void put_stored(struct bale_gd_lanes *w,
		       const struct bale_gd_block_in *in)
{
	size_t pos = 0;

	do {
		size_t n =
			in->len - pos < STORED_MAX ? in->len - pos : STORED_MAX;
		bool last = in->last && pos + n == in->len;

		bale_gd_lanes_put(w, 0, last | BALE_GD_STORED << 1,
				  BALE_GD_BLOCK_BITS);
		bale_gd_lanes_put(w, 0, (uint32_t)n, BALE_GD_STORED_LEN_BITS);
		for (size_t i = 0; i < n && !w->full; i++)
			bale_gd_lanes_put(w, i % BALE_GD_LANES,
					  in->content[pos + i], 8);
		pos += n;
	} while (pos < in->len);
}

static void make_static(struct bale_gd_block_work *k)
{
	for (uint32_t s = 0; s < BALE_GD_LITLEN_NR; s++)
		k->litlen.bits[s] = (uint8_t)bale_gd_static_litlen_bits(s);
	memset(k->dist.bits, BALE_GD_STATIC_DIST_BITS, BALE_GD_DIST_NR);
	bale_gd_code_assign(&k->litlen, BALE_GD_LITLEN_NR);
	bale_gd_code_assign(&k->dist, BALE_GD_DIST_NR);
}

void bale_gd_block_put(struct bale_gd_lanes *w, struct bale_gd_block_work *k,
		       const struct bale_gd_block_in *in)
{
	uint32_t dyn, fix, plain, type;

	bale_gd_code_make(&k->litlen, in->counts->litlen, BALE_GD_LITLEN_NR,
			  BALE_GD_LITLEN_BITS_ENCODED);
	bale_gd_code_make(&k->dist, in->counts->dist, BALE_GD_DIST_NR,
			  BALE_GD_CODE_BITS_MAX);
	make_header(k);
	dyn = dynamic_bits(k, in->counts);
	fix = static_bits(in->counts);
	/* Bits that both of them have. */
	plain = (uint32_t)in->len * 8 + BALE_GD_STORED_LEN_BITS -
		extra_bits(in->counts);
	if ((int32_t)plain < (int32_t)dyn && (int32_t)plain < (int32_t)fix) {
		put_stored(w, in);
		return;
	}
	type = fix <= dyn ? BALE_GD_STATIC : BALE_GD_DYNAMIC;
	bale_gd_lanes_put(w, 0, in->last | type << 1, BALE_GD_BLOCK_BITS);
	if (type == BALE_GD_STATIC)
		make_static(k);
	else
		put_header(w, k);
	make_slots(k);
	put_tokens(w, k, in->tokens, in->nr);
}
