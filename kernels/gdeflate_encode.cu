/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdeflate_encode.cu - GDeflate tiles from the match finder's sequences, one
 * warp a unit.
 *
 * Counts are taken of quarters of the sequences; quarters that are alike share
 * a block. Per block: codes, the header's list of code lengths, then rounds, in
 * each of which lanes that have begun a match write its distance and the free
 * ones the next symbols. Which symbol a lane has follows from a ballot, where
 * its bits go from another: there is nothing to look back for.
 */
#include "kernels/simt.h"

#include <cerrno>

#include "kernels/gdeflate_header.cuh"
#include "kernels/kernels.h"

namespace
{

const uint32_t kWarps = 2;
const uint32_t kParts = 4;
const uint32_t kSymbols = BALE_GD_SYMBOLS;
/* Literals of a sequence without a match, where nobody looked for any. */
const uint32_t kPlainRun = 512;
const uint32_t kStoredMax = 65535;

/* A warp's shared memory. */
struct Unit {
	uint32_t counts[kParts][kSymbols]; /* litlen, then distances */
	bale_gd_block_code code;
};

/* Where a unit's sequences are; the same in all lanes. */
struct Input {
	const uint8_t *src;
	uint32_t len;
	const bale_seq *seqs; /* null: runs of kPlainRun literals */
	uint32_t nr;
};

/* A block: sequences [first, end), bytes [from, to). */
struct Block {
	uint32_t first, end;
	uint32_t from, to;
	bool last;
};

__device__ __forceinline__ bale_seq sequence(const Input &in, uint32_t i)
{
	bale_seq s;

	if (in.seqs) {
		uint2 raw = __ldg((const uint2 *)(in.seqs + i));

		s.lit = (uint16_t)raw.x;
		s.len = (uint16_t)(raw.x >> 16);
		s.dist = (uint16_t)raw.y;
		s.pos = (uint16_t)(raw.y >> 16);
		return s;
	}
	s.pos = (uint16_t)(i * kPlainRun);
	s.lit = (uint16_t)min(kPlainRun, in.len - i * kPlainRun);
	s.len = 0;
	s.dist = 0;
	return s;
}

/* ---- counting ---- */

__device__ void count_part(const Input &in, uint32_t first, uint32_t end,
			   uint32_t *counts, uint32_t lane)
{
	const uint32_t short_run = 16;

	for (uint32_t i = first; i < end; i += 32) {
		bale_seq s = { 0, 0, 0, 0 };
		uint32_t long_runs;

		if (i + lane < end)
			s = sequence(in, i + lane);
		for (uint32_t k = 0; k < s.lit && k < short_run; k++)
			atomicAdd(&counts[in.src[s.pos + k]], 1u);
		if (s.len) {
			uint32_t l = bale_gd_len_index(s.len);
			uint32_t d = bale_gd_dist_symbol(s.dist);

			atomicAdd(&counts[BALE_GD_LEN_FIRST + l], 1u);
			atomicAdd(&counts[BALE_GD_LITLEN_NR + d], 1u);
		}
		long_runs = __ballot_sync(bale_all_lanes, s.lit > short_run);
		while (long_runs) {
			int who = __ffs((int)long_runs) - 1;
			uint32_t pos = __shfl_sync(bale_all_lanes,
						   (uint32_t)s.pos, who);
			uint32_t lit = __shfl_sync(bale_all_lanes,
						   (uint32_t)s.lit, who);

			for (uint32_t k = short_run + lane; k < lit; k += 32)
				atomicAdd(&counts[in.src[pos + k]], 1u);
			long_runs &= long_runs - 1;
		}
	}
	__syncwarp();
}

/* Bits that parts [a, b) are likely to take as one block. */
__device__ float cost_of(const Unit *u, uint32_t a, uint32_t b, uint32_t lane)
{
	const float header = 100, each = 3.5f;
	float bits = 0, total[2] = { 0, 0 };

	for (uint32_t i = lane; i < kSymbols; i += 32) {
		uint32_t count = 0;

		for (uint32_t k = a; k < b; k++)
			count += u->counts[k][i];
		if (!count)
			continue;
		bits += each - (float)count * __log2f((float)count);
		total[i >= BALE_GD_LITLEN_NR] += (float)count;
	}
	for (int d = 16; d; d /= 2) {
		bits += __shfl_xor_sync(bale_all_lanes, bits, d);
		for (float &t : total)
			t += __shfl_xor_sync(bale_all_lanes, t, d);
	}
	for (float t : total)
		if (t > 0)
			bits += t * __log2f(t);
	return bits + header;
}

/* Bit k: a block begins with part k. */
__device__ uint32_t choose_blocks(const Unit *u, uint32_t lane)
{
	float best[kParts + 1];
	uint32_t starts[kParts + 1];

	best[0] = 0;
	starts[0] = 0;
	for (uint32_t b = 1; b <= kParts; b++) {
		best[b] = 0;
		starts[b] = 0;
		for (uint32_t a = 0; a < b; a++) {
			float cost = best[a] + cost_of(u, a, b, lane);

			if (a && cost >= best[b])
				continue;
			best[b] = cost;
			starts[b] = starts[a] | 1u << a;
		}
	}
	return starts[kParts];
}

/* Adds parts (first, end) to the first, and the end of block. */
__device__ void join_parts(Unit *u, uint32_t first, uint32_t end, uint32_t lane)
{
	for (uint32_t i = lane; i < kSymbols; i += 32) {
		uint32_t count = i == BALE_GD_END;

		for (uint32_t k = first; k < end; k++)
			count += u->counts[k][i];
		u->counts[first][i] = count;
	}
	__syncwarp();
}

/* ---- writing ---- */

__device__ bool put_stored(bale_gd_writer *w, const Input &in, uint32_t from,
			   uint32_t to, bool last, uint32_t lane)
{
	do {
		uint32_t len = min(to - from, kStoredMax);

		if (!bale_gd_put_block(w, last && from + len == to,
				       BALE_GD_STORED, lane) ||
		    !bale_gd_put(w, lane ? 0 : len,
				 lane ? 0 : BALE_GD_STORED_LEN_BITS, lane))
			return false;
		for (uint32_t i = 0; i < len; i += 32) {
			bool mine = i + lane < len;

			if (!bale_gd_put(w, mine ? in.src[from + i + lane] : 0,
					 mine ? 8 : 0, lane))
				return false;
		}
		from += len;
	} while (from < to);
	return true;
}

/*
 * Sequences as symbols. A window holds 32 sequences, one a lane: their symbols
 * are numbered through, `done` are written.
 */
struct Window {
	uint32_t at;	/* of the first sequence */
	uint32_t begun; /* symbols of it that were before the window */
	uint32_t done, nr;
	/* this lane's sequence */
	uint32_t end;	/* its first symbol's number and how many */
	uint32_t shift; /* number of a literal - shift: its byte */
	uint32_t match; /* length | distance << 16; 0: none */
};

__device__ __forceinline__ void window_load(Window *win, const Input &in,
					    const Block &b, uint32_t lane)
{
	bale_seq s = { 0, 0, 0, 0 };
	uint32_t nr;

	if (win->at + lane < b.end)
		s = sequence(in, win->at + lane);
	nr = s.lit + (s.len != 0);
	win->match = s.len ? s.len | (uint32_t)s.dist << 16 : 0;
	win->shift = 0u - s.pos;
	if (lane == 0) {
		nr -= win->begun;
		win->shift -= win->begun;
	}
	win->end = bale_scan_incl(nr, lane);
	win->shift += win->end - nr;
	win->nr = __shfl_sync(bale_all_lanes, win->end, 31);
	win->done = 0;
}

/* Moves on so that 32 symbols are in it, if there are. */
__device__ __forceinline__ void window_slide(Window *win, const Input &in,
					     const Block &b, uint32_t lane)
{
	uint32_t over, before;

	if (win->nr - win->done >= 32 || b.end - win->at <= 32)
		return;
	over = __popc(__ballot_sync(bale_all_lanes, win->end <= win->done));
	before = __shfl_sync(bale_all_lanes, win->end, (int)((over - 1) & 31));
	win->begun = over ? win->done - before : win->begun + win->done;
	win->at += over;
	window_load(win, in, b, lane);
}

/* What a lane has to write. */
struct Slot {
	uint32_t value, bits;
	uint32_t dist; /* of the match it begins, else 0 */
};

/* Symbol `i` from here; all lanes take part, `wants` says who has one. */
__device__ __forceinline__ Slot window_symbol(const Window &win, const Unit *u,
					      const Input &in, uint32_t i,
					      bool wants)
{
	uint32_t rel = win.end - 1 - win.done;
	uint32_t before =
		__popc(__ballot_sync(bale_all_lanes, win.end <= win.done));
	uint32_t ends = bale_gd_or(rel < 32 ? 1u << rel : 0);
	uint32_t owner = before + __popc(ends & bale_lanes_below(i & 31));
	uint32_t shift =
		__shfl_sync(bale_all_lanes, win.shift, (int)(owner & 31));
	uint32_t match =
		__shfl_sync(bale_all_lanes, win.match, (int)(owner & 31));
	Slot s = { 0, 0, 0 };
	uint32_t code;

	if (!wants)
		return s;
	if (match && ends >> (i & 31) & 1) {
		uint32_t len = match & 0xffff, l = bale_gd_len_index(len);

		code = u->code.codes[BALE_GD_LEN_FIRST + l];
		s.bits = bale_gd_code_bits(code);
		s.value = bale_gd_code_value(code) | (len - bale_gd_len_base(l))
							     << s.bits;
		s.bits += bale_gd_len_extra(l);
		s.dist = match >> 16;
		return s;
	}
	code = u->code.codes[in.src[win.done + i - shift]];
	s.value = bale_gd_code_value(code);
	s.bits = bale_gd_code_bits(code);
	return s;
}

__device__ __forceinline__ Slot distance_slot(const Unit *u, uint32_t dist)
{
	uint32_t d = bale_gd_dist_symbol(dist);
	uint32_t code = u->code.codes[BALE_GD_LITLEN_NR + d];
	Slot s;

	s.bits = bale_gd_code_bits(code);
	s.value = bale_gd_code_value(code) | (dist - bale_gd_dist_base(d))
						     << s.bits;
	s.bits += bale_gd_dist_extra(d);
	s.dist = 0;
	return s;
}

__device__ bool put_symbols(bale_gd_writer *w, const Unit *u, const Input &in,
			    const Block &b, uint32_t lane)
{
	Window win = { b.first, 0, 0, 0, 0, 0, 0 };
	uint32_t dist = 0, busy = 0;
	bool ended = false;

	window_load(&win, in, b, lane);
	do {
		uint32_t rank = __popc(~busy & bale_lanes_below(lane));
		bool free = !(busy >> lane & 1), wants;
		uint32_t left;
		Slot s;

		window_slide(&win, in, b, lane);
		left = win.nr - win.done;
		wants = free && rank < left;
		s = window_symbol(win, u, in, rank, wants);
		if (!free)
			s = distance_slot(u, dist);
		if (free && rank == left && !ended) {
			uint32_t code = u->code.codes[BALE_GD_END];

			s.value = bale_gd_code_value(code);
			s.bits = bale_gd_code_bits(code);
		}
		if (!bale_gd_put(w, s.value, s.bits, lane))
			return false;
		ended = ended || left < 32u - __popc(busy);
		win.done += min(left, 32u - __popc(busy));
		dist = s.dist;
		busy = __ballot_sync(bale_all_lanes, dist != 0);
	} while (!ended || busy);
	return true;
}

/* ---- a unit ---- */

__device__ bool put_block(bale_gd_writer *w, Unit *u, const Input &in,
			  const Block &b, const uint32_t *counts, uint32_t lane)
{
	uint32_t stored = (b.to - b.from) * 8 + BALE_GD_BLOCK_BITS +
			  BALE_GD_STORED_LEN_BITS;
	bale_gd_header h = { 0, 0, 0, 0 };
	uint32_t bits = bale_gd_make_codes(&u->code, counts, &h, lane) +
			bale_gd_extra_bits(counts, lane);

	if (bits >= stored)
		return put_stored(w, in, b.from, b.to, b.last, lane);
	return bale_gd_put_header(w, &u->code, h, b.last, lane) &&
	       put_symbols(w, u, in, b, lane);
}

__device__ bool put_unit(bale_gd_writer *w, Unit *u, const Input &in,
			 uint32_t lane)
{
	uint32_t starts, part = 0;

	if (!in.nr)
		return put_stored(w, in, 0, in.len, true, lane);
	for (uint32_t i = lane; i < kParts * kSymbols; i += 32)
		u->counts[i / kSymbols][i % kSymbols] = 0;
	__syncwarp();
	for (uint32_t k = 0; k < kParts; k++)
		count_part(in, in.nr * k / kParts, in.nr * (k + 1) / kParts,
			   u->counts[k], lane);
	starts = choose_blocks(u, lane);
	while (part < kParts) {
		uint32_t next = part + 1;
		Block b;

		while (next < kParts && !(starts >> next & 1))
			next++;
		b.first = in.nr * part / kParts;
		b.end = in.nr * next / kParts;
		b.last = next == kParts;
		b.from = b.first < in.nr ? sequence(in, b.first).pos : in.len;
		b.to = b.end < in.nr ? sequence(in, b.end).pos : in.len;
		join_parts(u, part, next, lane);
		if (!put_block(w, u, in, b, u->counts[part], lane))
			return false;
		part = next;
	}
	return true;
}

__global__ void __launch_bounds__(kWarps * 32)
	encode_units(bale_chunks c, const bale_seq *seqs, size_t stride,
		     const uint32_t *nr_seqs)
{
	__shared__ Unit units[kWarps];
	uint32_t lane = bale_lane();
	size_t i = (size_t)blockIdx.x * kWarps + threadIdx.x / 32;
	uint32_t status = BALE_CHUNK_NO_ROOM, cap;
	bale_gd_writer w;
	Input in;

	if (i >= c.nr)
		return;
	in.src = (const uint8_t *)c.src[i];
	in.len = c.src_len[i];
	in.seqs = seqs ? seqs + i * stride : nullptr;
	in.nr = seqs ? nr_seqs[i] : (in.len + kPlainRun - 1) / kPlainRun;
	cap = c.dst_cap[i];
	w.next = 0;
	if (in.len > c.max_chunk) {
		status = BALE_CHUNK_INVALID;
	} else if (cap >= BALE_GD_TILE_MIN) {
		bale_gd_writer_init(&w, c.dst[i], cap, lane);
		if (put_unit(&w, &units[threadIdx.x / 32], in, lane)) {
			bale_gd_flush(&w);
			status = BALE_CHUNK_OK;
		}
	}
	if (lane == 0) {
		c.dst_len[i] = status == BALE_CHUNK_OK ? 4 * w.next : 0;
		c.status[i] = status;
	}
}

/* What the finder is to do for a level; false for level -1, nothing. */
bool finder_params(int level, struct bale_lz77_params *ret)
{
	struct bale_lz77_params p = {};

	p.min_len = BALE_GD_LENGTH_MIN;
	p.max_len = 65535;
	p.max_dist = 65535;
	switch (level) {
	case -1:
		return false;
	case 1:
		p.depth = 1;
		p.min_len = 4;
		p.parse = BALE_PARSE_GREEDY;
		break;
	case 3:
		p.depth = 32;
		p.parse = BALE_PARSE_OPTIMAL;
		break;
	default:
		p.depth = 8;
		p.parse = BALE_PARSE_LAZY;
	}
	*ret = p;
	return true;
}

size_t round_up(size_t v)
{
	return (v + 255) & ~(size_t)255;
}

} // namespace

size_t bale_gdeflate_encode_temp(int level, size_t nr, uint32_t max_chunk)
{
	struct bale_lz77_params p;

	if (!finder_params(level, &p))
		return 0;
	return round_up(nr * bale_lz77_seqs_max(max_chunk) *
			sizeof(struct bale_seq)) +
	       round_up(nr * sizeof(uint32_t)) +
	       bale_lz77_temp(&p, nr, max_chunk);
}

int bale_gdeflate_encode(int level, const struct bale_chunks *c)
{
	size_t seqs_len, nr_len = round_up(c->nr * sizeof(uint32_t));
	dim3 grid((unsigned int)((c->nr + kWarps - 1) / kWarps));
	struct bale_seq *seqs = nullptr;
	uint32_t *nr_seqs = nullptr;
	struct bale_lz77_params p;
	int r;

	if (level < -1 || level > 3 || c->max_chunk > BALE_UNIT_SIZE ||
	    c->temp_len < bale_gdeflate_encode_temp(level, c->nr, c->max_chunk))
		return -EINVAL;
	if (!c->nr)
		return 0;
	if (finder_params(level, &p)) {
		seqs_len = round_up(c->nr * bale_lz77_seqs_max(c->max_chunk) *
				    sizeof(struct bale_seq));
		seqs = (struct bale_seq *)c->temp;
		nr_seqs = (uint32_t *)(c->temp + seqs_len);
		r = bale_lz77_find(&p, c, seqs, nr_seqs,
				   c->temp + seqs_len + nr_len,
				   c->temp_len - seqs_len - nr_len);
		if (r)
			return r;
	}
	BALE_LAUNCH(encode_units, grid, dim3(kWarps * 32), 0, c->stream, *c,
		    seqs, bale_lz77_seqs_max(c->max_chunk), nr_seqs);
	return bale_launch_check();
}
