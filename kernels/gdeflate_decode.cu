/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_decode.cu - GDeflate tiles decoded, two warps a tile.
 *
 * The first warp reads: a round is one slot of each lane. What a round's
 * literals and matches put out is one piece of the output. A round later, when
 * the matches have their distances, the piece goes to the second warp, which
 * writes it while the first reads on. It does so 32 bytes at a time, each lane
 * asking which slot its byte belongs to. So the cost of a copy is that of its
 * bytes, and matches need no order among themselves: a byte whose source is
 * within the same 32 follows the lanes there by doubling steps.
 *
 * Nothing of a tile is believed: words past its end read as 0 and are found
 * out, distances and lengths are checked before a byte of them is touched, and
 * every loop ends by the output's or the tile's size.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "kernels/gdeflate_tables.cuh"
#include "kernels/kernels.h"

namespace
{

const uint32_t kLitlenBits = 10;
const uint32_t kDistBits = 8;
const uint32_t kPrecodeBits = BALE_GD_PRECODE_BITS_MAX;
const uint32_t kLensMax = BALE_GD_LITLEN_NR + BALE_GD_DIST_NR;
/* A slot that is a literal, in pieces; else a distance. */
const uint32_t kLiteral = 1u << 31;
/* Parts of a piece, 32 bytes each, whose sources are fetched at once. */
const uint32_t kParts = 4;

/* What one round puts out: its slots in order. */
struct Piece {
	uint32_t at, len;	       /* len 0: there are no more pieces */
	uint32_t nr;		       /* slots */
	uint32_t start[BALE_GD_LANES]; /* in the piece */
	uint32_t slot[BALE_GD_LANES];  /* literal or distance */
};

/* A tile's shared memory. */
struct Tile {
	uint32_t litlen[1 << kLitlenBits];
	uint32_t dist[1 << kDistBits];
	bale_gd_order litlen_order;
	bale_gd_order dist_order;
	Piece piece[2]; /* one is written while the other is made */
	uint8_t lens[kLensMax];
};

/* Where a tile's bytes go; the same in all lanes. */
struct Out {
	uint8_t *dst;
	uint32_t at;
	uint32_t cap;
	uint32_t pieces; /* handed over */
};

__device__ uint32_t first_lane(uint32_t v)
{
	return __shfl_sync(bale_all_lanes, v, 0);
}

/* ---- the writing warp ---- */

/* A lane that goes on at `from` ends at a lane that goes nowhere. */
__device__ __forceinline__ uint32_t follow(uint32_t from)
{
	bool moved;

	do {
		uint32_t next = __shfl_sync(bale_all_lanes, from, (int)from);

		moved = next != from;
		from = next;
	} while (__any_sync(bale_all_lanes, moved));
	return from;
}

/*
 * The first `len` bytes of what slots put out at dst, kParts parts at most. All
 * sources before them are fetched first; those among them follow part by
 * part. start: of this lane's slot; started: slots that start before, and in
 * the end before the next.
 */
__device__ __forceinline__ void write_parts(uint8_t *dst, uint32_t len,
					    const uint32_t *slots,
					    uint32_t start, uint32_t *started,
					    uint32_t lane)
{
	uint32_t up_to_here = bale_lanes_below(lane) | 1u << lane;
	uint32_t slot[kParts], value[kParts];

	for (uint32_t k = 0; k < kParts; k++) {
		uint32_t rel = start - 32 * k, here = 32 * k + lane, starts, s;

		/* What is past the end counts as a literal. */
		slot[k] = value[k] = kLiteral;
		if (32 * k >= len)
			continue;
		starts = bale_gd_or(rel < 32 ? 1u << rel : 0);
		s = slots[(*started + __popc(starts & up_to_here) - 1) &
			  (BALE_GD_LANES - 1)];
		*started += __popc(starts);
		if (here >= len)
			continue;
		slot[k] = value[k] = s;
		if (s < kLiteral && s > here)
			value[k] = dst[(int)(here - s)];
	}
	for (uint32_t k = 0; k < kParts && 32 * k < len; k++) {
		uint32_t from = lane, here = 32 * k + lane;

		if (slot[k] <= lane)
			from = lane - slot[k];
		else if (slot[k] <= here)
			value[k] = dst[here - slot[k]];
		if (__any_sync(bale_all_lanes, from != lane)) {
			from = follow(from);
			value[k] = __shfl_sync(bale_all_lanes, value[k],
					       (int)from);
		}
		if (here < len)
			dst[here] = (uint8_t)value[k];
		__syncwarp();
	}
}

__device__ __forceinline__ void write_piece(uint8_t *dst, const Piece &p,
					    uint32_t lane)
{
	/* A lane without a slot never starts one. */
	uint32_t start = lane < p.nr ? p.start[lane] : 0xffffffffu;
	uint32_t started = 0, len = p.len;

	dst += p.at;
	for (uint32_t at = 0; at < len; at += 32 * kParts)
		write_parts(dst + at, len - at, p.slot, start - at, &started,
			    lane);
}

/* Pieces as they come, until there are no more. */
__device__ void write_pieces(uint8_t *dst, const Tile *t, uint32_t lane)
{
	for (uint32_t i = 0;; i++) {
		const Piece &p = t->piece[i & 1];

		__syncthreads();
		if (!p.len)
			return;
		write_piece(dst, p, lane);
	}
}

/* ---- the reading warp ---- */

/* Hands over the piece that was made: it may be written, and the other be
 * made. */
template <bool kWrite> __device__ __forceinline__ void hand_over(Out *out)
{
	if (kWrite)
		__syncthreads();
	out->pieces++;
}

/* The end of a tile, for the other warp. */
template <bool kWrite>
__device__ void no_more_pieces(Tile *t, Out *out, uint32_t lane)
{
	if (lane == 0)
		t->piece[out->pieces & 1].len = 0;
	hand_over<kWrite>(out);
}

/* What a lane put out a round ago. */
struct Put {
	uint32_t size;
	uint32_t slot; /* literal; a distance when it is there */
	bool pending;  /* it is not */
};

/*
 * The piece of a round, whose lanes with a size are `has`; false when its
 * distances or its length are wrong.
 */
template <bool kWrite>
__device__ __forceinline__ bool put_piece(Tile *t, Out *out, const Put &put,
					  uint32_t has, bool bad, uint32_t lane)
{
	uint32_t sum = bale_scan_incl(put.size, lane);
	uint32_t start = sum - put.size;
	uint32_t len = __shfl_sync(bale_all_lanes, sum, 31);
	Piece *p = &t->piece[out->pieces & 1];

	if (len > out->cap - out->at ||
	    (put.pending && put.slot > out->at + start))
		bad = true;
	if (__any_sync(bale_all_lanes, bad))
		return false;
	if (!len)
		return true;
	if (kWrite) {
		uint32_t rank = __popc(has & bale_lanes_below(lane));

		if (lane == 0) {
			p->at = out->at;
			p->len = len;
			p->nr = __popc(has);
		}
		if (put.size) {
			p->start[rank] = start;
			p->slot[rank] = put.slot;
		}
	}
	hand_over<kWrite>(out);
	out->at += len;
	return true;
}

__device__ __forceinline__ uint32_t look_up(const Tile *t, uint32_t bits,
					    bool pending)
{
	uint32_t e = pending ? t->dist[bits & ((1 << kDistBits) - 1)] :
			       t->litlen[bits & ((1 << kLitlenBits) - 1)];

	if (bale_gd_entry_kind_of(e) != BALE_GD_IS_OTHER)
		return e;
	if (pending)
		return bale_gd_find_long(&t->dist_order, BALE_GD_CODE_DIST,
					 bits, kDistBits + 1);
	return bale_gd_find_long(&t->litlen_order, BALE_GD_CODE_LITLEN, bits,
				 kLitlenBits + 1);
}

/*
 * The symbols of a block, to the end of its last copy. kWrite: false to walk
 * only.
 */
template <bool kWrite>
__device__ bool inflate(bale_gd_reader *r, Tile *t, Out *out, uint32_t lane)
{
	Put put = { 0, 0, false };
	uint32_t has = 0;
	bool ended = false;

	do {
		uint32_t bits = bale_gd_peek(r);
		uint32_t e = look_up(t, bits, put.pending);
		uint32_t kind = bale_gd_entry_kind_of(e), value, ends;
		bool reads = put.pending || !ended;

		ends = __ballot_sync(bale_all_lanes,
				     reads && kind == BALE_GD_IS_END);
		if (ends) {
			/* What free lanes behind it read is not theirs. */
			ended = true;
			if (!put.pending && lane >= (uint32_t)__ffs((int)ends))
				reads = false;
		}
		value = bale_gd_entry_value(e, bits);
		bale_gd_take(r, reads ? bale_gd_entry_bits(e) : 0, lane);
		if (put.pending)
			put.slot = value;
		if (!put_piece<kWrite>(t, out, put, has,
				       (reads && kind == BALE_GD_IS_OTHER) ||
					       bale_gd_short(r),
				       lane))
			return false;
		put.pending = !put.pending && reads && kind == BALE_GD_IS_MATCH;
		put.size = put.pending ? value : 0;
		if (reads && kind == BALE_GD_IS_LITERAL) {
			put.size = 1;
			put.slot = value | kLiteral;
		}
		has = __ballot_sync(bale_all_lanes, put.size != 0);
	} while (!ended || has);
	return true;
}

template <bool kWrite>
__device__ bool stored(bale_gd_reader *r, Out *out, uint32_t lane)
{
	uint32_t len = first_lane(bale_gd_peek(r) & 0xffff);

	bale_gd_take(r, lane == 0 ? BALE_GD_STORED_LEN_BITS : 0, lane);
	if (len > out->cap - out->at)
		return false;
	for (uint32_t at = 0; at < len; at += 32) {
		bool mine = at + lane < len;
		uint32_t v = bale_gd_peek(r);

		if (kWrite && mine)
			out->dst[out->at + at + lane] = (uint8_t)v;
		bale_gd_take(r, mine ? 8 : 0, lane);
		if (bale_gd_short(r))
			return false;
	}
	__syncwarp();
	out->at += len;
	return true;
}

__device__ void static_lens(Tile *t, uint32_t lane)
{
	for (uint32_t i = lane; i < BALE_GD_LITLEN_NR; i += 32)
		t->lens[i] = (uint8_t)bale_gd_static_litlen_bits(i);
	t->lens[BALE_GD_LITLEN_NR + lane] = BALE_GD_STATIC_DIST_BITS;
	__syncwarp();
}

/* A round of code lengths, of which `done` were before; false when it is bad.
 * last: the length that a run repeats, 16 before the first. */
__device__ __forceinline__ bool lens_round(bale_gd_reader *r, Tile *t,
					   uint32_t nr, uint32_t *done,
					   uint32_t *last, uint32_t lane)
{
	uint32_t bits = bale_gd_peek(r);
	uint32_t e = t->litlen[bits & ((1 << kPrecodeBits) - 1)];
	uint32_t sym = e >> 16, run, sum, start, len, own;
	bool reads, bad;

	run = bale_gd_entry_value(e, bits) - sym +
	      (sym < BALE_GD_RUN_LAST	? 1 :
	       sym == BALE_GD_RUN_ZEROS ? 11 :
					  3);
	if (bale_gd_entry_kind_of(e) == BALE_GD_IS_OTHER)
		run = 1;
	sum = bale_scan_incl(run, lane);
	start = *done + sum - run;
	reads = start < nr;
	/* The value of each, and for a repeat that of the last lane before. */
	len = sym < BALE_GD_RUN_LAST ? sym : 0;
	own = __ballot_sync(bale_all_lanes, sym != BALE_GD_RUN_LAST) &
	      (bale_lanes_below(lane) | 1u << lane);
	len = __shfl_sync(bale_all_lanes, len,
			  own ? (int)bale_gd_top_bit(own) : 0);
	if (!own)
		len = *last;
	bad = reads && (bale_gd_entry_kind_of(e) == BALE_GD_IS_OTHER ||
			start + run > nr || len == 16);
	if (__any_sync(bale_all_lanes, bad))
		return false;
	bale_gd_take(r, reads ? bale_gd_entry_bits(e) : 0, lane);
	if (reads)
		for (uint32_t i = 0; i < run; i++)
			t->lens[start + i] = (uint8_t)len;
	*last = __shfl_sync(bale_all_lanes, len, 31);
	*done += __shfl_sync(bale_all_lanes, sum, 31);
	return true;
}

/* The header of a dynamic block; its lengths, litlen padded with zeros. */
__device__ bool dynamic_lens(bale_gd_reader *r, Tile *t, uint32_t *ret_litlen,
			     uint32_t *ret_dist, uint32_t lane)
{
	uint32_t head = first_lane(bale_gd_peek(r)), done = 0, last = 16;
	uint32_t litlen = (head & 31) + BALE_GD_LITLEN_MIN;
	uint32_t dist = (head >> 5 & 31) + 1;
	uint32_t nr = (head >> 10 & 15) + BALE_GD_PRECODE_MIN;

	bale_gd_take(r, lane == 0 ? BALE_GD_DYNAMIC_BITS : 0, lane);
	__syncwarp();
	if (lane < BALE_GD_PRECODE_NR)
		t->lens[bale_gd_precode_order(lane)] =
			lane < nr ? bale_gd_peek(r) & 7 : 0;
	__syncwarp();
	bale_gd_take(r, lane < nr ? 3 : 0, lane);
	if (!bale_gd_build(t->litlen, kPrecodeBits, &t->litlen_order,
			   BALE_GD_CODE_PRECODE, t->lens, BALE_GD_PRECODE_NR,
			   lane))
		return false;
	while (done < litlen + dist)
		if (!lens_round(r, t, litlen + dist, &done, &last, lane))
			return false;
	__syncwarp();
	*ret_litlen = litlen;
	*ret_dist = dist;
	return !bale_gd_short(r);
}

template <bool kWrite>
__device__ bool coded(bale_gd_reader *r, Tile *t, Out *out, uint32_t type,
		      uint32_t lane)
{
	uint32_t litlen = BALE_GD_LITLEN_NR, dist = BALE_GD_DIST_NR;

	if (type == BALE_GD_STATIC)
		static_lens(t, lane);
	else if (!dynamic_lens(r, t, &litlen, &dist, lane))
		return false;
	if (!bale_gd_build(t->litlen, kLitlenBits, &t->litlen_order,
			   BALE_GD_CODE_LITLEN, t->lens, litlen, lane) ||
	    !bale_gd_build(t->dist, kDistBits, &t->dist_order,
			   BALE_GD_CODE_DIST, t->lens + litlen, dist, lane))
		return false;
	return inflate<kWrite>(r, t, out, lane);
}

/* All blocks of a tile; every one takes bits, so they end. */
template <bool kWrite>
__device__ bool tile(bale_gd_reader *r, Tile *t, Out *out, uint32_t lane)
{
	uint32_t head;

	do {
		uint32_t type;

		head = first_lane(bale_gd_peek(r));
		type = head >> 1 & 3;
		bale_gd_take(r, lane == 0 ? BALE_GD_BLOCK_BITS : 0, lane);
		if (type == BALE_GD_STORED) {
			if (!stored<kWrite>(r, out, lane))
				return false;
		} else if (type > BALE_GD_DYNAMIC ||
			   !coded<kWrite>(r, t, out, type, lane)) {
			return false;
		}
		if (bale_gd_short(r))
			return false;
	} while (!(head & 1));
	return r->next == r->nr;
}

/* kWrite: decodes to dst, exactly dst_cap bytes; else only finds dst_len. */
template <bool kWrite>
__global__ void __launch_bounds__(kWrite ? 64 : 32) decode_tiles(bale_chunks c)
{
	__shared__ Tile t;
	uint32_t lane = bale_lane(), len = c.src_len[blockIdx.x];
	Out out = { nullptr, 0, c.max_chunk, 0 };
	uint32_t status = BALE_CHUNK_BAD;
	bale_gd_reader r;

	if (kWrite) {
		out.dst = (uint8_t *)c.dst[blockIdx.x];
		out.cap = c.dst_cap[blockIdx.x];
		if (threadIdx.x >= 32) {
			write_pieces(out.dst, &t, lane);
			return;
		}
	}
	if (out.cap > c.max_chunk) {
		status = BALE_CHUNK_INVALID;
	} else if (len >= BALE_GD_TILE_MIN && len % 4 == 0) {
		bale_gd_reader_init(&r, c.src[blockIdx.x], len, lane);
		if (tile<kWrite>(&r, &t, &out, lane) &&
		    (!kWrite || out.at == out.cap))
			status = BALE_CHUNK_OK;
	}
	no_more_pieces<kWrite>(&t, &out, lane);
	if (lane == 0) {
		c.dst_len[blockIdx.x] = status == BALE_CHUNK_OK ? out.at : 0;
		c.status[blockIdx.x] = status;
	}
}

template <bool kWrite> int launch(const struct bale_chunks *c)
{
	if (!c->nr)
		return 0;
	if (c->nr > INT32_MAX)
		return -EINVAL;
	BALE_LAUNCH(decode_tiles<kWrite>, dim3((unsigned int)c->nr),
		    dim3(kWrite ? 64 : 32), 0, c->stream, *c);
	return bale_launch_check();
}

} // namespace

int bale_gdeflate_decode(const struct bale_chunks *c)
{
	return launch<true>(c);
}

int bale_gdeflate_decoded_len(const struct bale_chunks *c)
{
	return launch<false>(c);
}
