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

#ifdef __cplusplus
extern "C" {
#endif

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
/* With less temp than this bale_lz4_decode() works too, but slower. */
size_t bale_lz4_decode_temp(size_t nr, uint32_t max_chunk);
int bale_lz4_decode(const struct bale_chunks *c);
int bale_lz4_decoded_len(const struct bale_chunks *c); /* into c->dst_len */

size_t bale_gdeflate_encode_temp(int level, size_t nr, uint32_t max_chunk);
int bale_gdeflate_encode(int level, const struct bale_chunks *c);
int bale_gdeflate_decode(const struct bale_chunks *c);
int bale_gdeflate_decoded_len(const struct bale_chunks *c);

/* raw and fill; a fill's length is nowhere in it. */
int bale_raw_encode(const struct bale_chunks *c);
int bale_raw_decode(const struct bale_chunks *c);
int bale_raw_decoded_len(const struct bale_chunks *c);
int bale_fill_encode(const struct bale_chunks *c);
int bale_fill_decode(const struct bale_chunks *c);

/*
 * All: nr is 1..BALE_UNITS_MAX, max_chunk 1..BALE_UNIT_SIZE, seen to by the
 * caller. A chunk with more than max_chunk decoded bytes is BALE_CHUNK_INVALID.
 * An encoder gives BALE_CHUNK_NO_ROOM at once, without a look at src,
 * for a chunk with dst_cap 0 and src_len > 0; a decoder touches nothing for a
 * chunk with src_len 0 and dst_cap 0, and its status may be any.
 */

/* Units of one call at most. */
enum { BALE_UNITS_MAX = BALE_DEVICE_CHUNKS_MAX };

/* ---- what surrounds a codec in a batch of extents: unit_*.cu ---- */

/*
 * One extent of a batch: its units are first_unit .. first_unit + nr_units - 1
 * of the unit arrays, all of BALE_UNIT_SIZE decoded bytes but the last. Units
 * of different jobs do not overlap; jobs need no order. Offsets are relative to
 * the base pointers that each call names.
 */
struct bale_unit_job {
	uint64_t raw_off; /* of the decoded bytes */
	uint64_t src_off; /* decode: of the stored bytes */
	uint32_t raw_len; /* decoded bytes, 1..BALE_EXTENT_MAX */
	uint32_t src_len; /* decode: stored bytes */
	uint32_t first_unit;
	uint32_t nr_units;   /* bale_units_nr(raw_len) */
	uint8_t codec;	     /* decode: raw, fill, or the batch's unit codec */
	uint8_t reserved[7]; /* 0 */
};

/* What became of a job. */
struct bale_unit_result {
	uint64_t off;	 /* encode: of its payload in the packed buffer */
	uint32_t len;	 /* encode: of the payload; decode: raw_len, or 0 */
	uint32_t crc;	 /* crc32c of the payload, as bale_crc32c(0, ...) */
	uint32_t status; /* enum bale_chunk_status; encode: NO_ROOM when not
			    worth it (the extent is raw, len 0, takes no room
			    in the packed buffer); BAD: verify saw a mismatch */
	uint8_t codec;	 /* raw or the batch's codec */
	uint8_t reserved[3];
};

/* Unit arrays in device memory, nr elements each; see bale_chunks. */
struct bale_units {
	size_t nr;
	const void **src;
	uint32_t *src_len;
	void **dst;
	uint32_t *dst_cap;
	uint32_t *dst_len;
	uint32_t *status;
};

/* What the probe says of a unit; verdict is fs/codec's bale_probe_verdict. */
enum { BALE_UNIT_HOPELESS, BALE_UNIT_TRY, BALE_UNIT_REPEATS };
struct bale_unit_look {
	uint8_t verdict;
	uint8_t fill;	/* period 1, 2, 4 or 8 of a unit that is one pattern
			   (the last repeat may be cut), else 0 */
	uint8_t stride; /* 0, 2, 4, 8: distance at which bytes resemble most */
	uint8_t reserved;
};

/*
 * Encode, in this order on one stream, everything in device memory:
 *   cut     jobs -> u: src (raw + raw_off + ...), src_len, dst (a slot each of
 *           slots: slot_stride bytes, a multiple of 16 >= BALE_UNIT_SIZE),
 *           dst_cap (bale_unit_worth)
 *   probe   u->src -> looks; with skip, hopeless units get dst_cap 0
 *   filter  u->src -> filtered, a slot each; from here on "u" has those as src
 *           (so with a filter, the probe comes after it)
 *   (the codec's encode launcher)
 *   (the codec's decode launcher, from the slots into other slots: cut's dst)
 *   verify  two sets of units -> u->status BAD where they differ
 *   scan    per job: size, worth, offset in the packed buffer
 *   gather  tables and units into the packed buffer
 *   crc     of each payload
 * The launchers take nr 0 (nothing to do). A job that does not fit its arrays
 * or bounds gets status INVALID in scan or fold, never an access outside.
 */
int bale_unit_cut(const struct bale_unit_job *jobs, size_t nr_jobs,
		  const void *raw, size_t raw_cap, void *slots,
		  size_t slot_stride, const struct bale_units *u,
		  cudaStream_t stream);

int bale_unit_probe(const struct bale_units *u, struct bale_unit_look *looks,
		    bool skip, cudaStream_t stream);

/* ret[i] = slots + i * slot_stride. */
int bale_unit_slots(size_t nr, void *slots, size_t slot_stride, void **ret,
		    cudaStream_t stream);
/* Forward: len[i] bytes from[i] -> to[i], no overlap; one longer than max_chunk
 * is left alone. The filter's id is known and not none. */
int bale_unit_filter(unsigned int filter, size_t nr, const void *const *from,
		     const uint32_t *len, void *const *to, uint32_t max_chunk,
		     cudaStream_t stream);
/* Backward. Units with status[i] other than OK are left alone too. */
int bale_unit_unfilter(unsigned int filter, size_t nr, const void *const *from,
		       const uint32_t *len, void *const *to,
		       const uint32_t *status, uint32_t max_chunk,
		       cudaStream_t stream);

/*
 * u->src: the bytes before any filter. Units that were coded (u->status OK) and
 * whose decoded bytes dec[i], with dec_len[i] and dec_status[i] as a decode
 * launcher left them, are not those at u->src: u->status becomes BAD, and
 * *mismatches (device memory, not cleared here) counts them.
 */
int bale_unit_verify(const struct bale_units *u, const void *const *dec,
		     const uint32_t *dec_len, const uint32_t *dec_status,
		     uint32_t *mismatches, cudaStream_t stream);

/*
 * Sizes after coding. A unit is raw in its extent when its status is not OK; a
 * job with a BAD unit is BAD. Payload: le32 a unit (bit 31: raw), then the
 * units; a job whose payload is more than bale_extent_worth(raw_len) becomes
 * raw: with keep_raw it is packed as its raw bytes (status OK), else NO_ROOM.
 * Payloads lie at multiples of align (1, 2, ... 256) in job order; *packed_len
 * (device) is what all take. unit_off[i]: where unit i goes in the packed
 * buffer; UINT64_MAX: nowhere. A job that would end beyond packed_cap is
 * NO_ROOM.
 */
struct bale_unit_pack {
	uint32_t align;
	bool keep_raw;
	uint8_t codec; /* that the units were coded with */
	size_t packed_cap;
};
int bale_unit_scan(const struct bale_unit_job *jobs, size_t nr_jobs,
		   const struct bale_units *u,
		   const struct bale_unit_pack *pack,
		   struct bale_unit_result *results, uint64_t *unit_off,
		   uint64_t *packed_len, cudaStream_t stream);
/* u->src: what the codec read (filtered bytes, where there is a filter: raw
 * units hold those). raw: the base of raw_off, for jobs that are packed raw.
 * Bytes between payloads are not written. */
int bale_unit_gather(const struct bale_unit_job *jobs, size_t nr_jobs,
		     const struct bale_units *u, const void *raw,
		     const struct bale_unit_result *results,
		     const uint64_t *unit_off, void *packed,
		     cudaStream_t stream);
/* results[i].crc of results[i].len bytes at packed + results[i].off; status
 * not OK: left alone. */
int bale_unit_crc(struct bale_unit_result *results, size_t nr_jobs,
		  const void *packed, cudaStream_t stream);
/* crc32c of nr pieces of device memory. */
int bale_crc32c_many(size_t nr, const void *const *src, const uint32_t *len,
		     uint32_t *crc, cudaStream_t stream);

/*
 * Decode:
 *   split   stored bytes -> u: where each unit's bytes are and where they go.
 *           Damaged tables, raw units of the wrong length: status BAD for all
 *           units of the job. Of raw and fill jobs, raw units and bad ones the
 *           decoder sees src_len 0 and dst_cap 0; plain[] says what they are
 *   (the codec's decode launcher)
 *   plain   raw units are copied, fill jobs written, bad units marked: after
 *           the decoder, whose word on those units is overwritten
 *   unfilter from slots into place: of jobs with the unit codec only; raw and
 *           fill jobs have been written to their place by plain
 *   fold    per job: OK when all its units are
 * to: where units are decoded: raw + raw_off where slots is NULL (no filter),
 * else slot i of slots (slot_stride as for cut).
 */
enum bale_plain_kind {
	BALE_PLAIN_NOT, /* the decoder's */
	BALE_PLAIN_RAW,
	BALE_PLAIN_BAD,
	BALE_PLAIN_PATTERN,
};
struct bale_unit_plain {
	const void *src; /* raw bytes, or the pattern */
	void *dst;
	uint32_t len;	 /* decoded bytes */
	uint32_t kind;	 /* enum bale_plain_kind */
	uint32_t period; /* of the pattern; its phase is 0 at every unit */
	uint32_t reserved;
};
int bale_unit_split(const struct bale_unit_job *jobs, size_t nr_jobs,
		    const void *stored, size_t stored_cap, void *raw,
		    size_t raw_cap, void *slots, size_t slot_stride,
		    const struct bale_units *u, struct bale_unit_plain *plain,
		    cudaStream_t stream);
int bale_unit_copy_plain(const struct bale_units *u,
			 const struct bale_unit_plain *plain,
			 cudaStream_t stream);
/* With slots: unit i of a job of a unit codec, slot -> raw + raw_off. */
int bale_unit_restore(unsigned int filter, const struct bale_unit_job *jobs,
		      size_t nr_jobs, const struct bale_units *u, void *raw,
		      size_t raw_cap, const void *slots, size_t slot_stride,
		      cudaStream_t stream);
int bale_unit_fold(const struct bale_unit_job *jobs, size_t nr_jobs,
		   const struct bale_units *u, struct bale_unit_result *results,
		   cudaStream_t stream);

/* 0, or -errno of the last launch. */
int bale_launch_check(void);

#ifdef __cplusplus
}
#endif

#endif
