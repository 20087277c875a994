/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - many independent chunks coded at once on a CUDA device.
 *
 * All of a call's work goes onto the caller's stream: nothing here allocates,
 * synchronises, or touches the host's memory after it has returned. Chunks
 * are units of at most BALE_UNIT_SIZE (64 KiB) decoded bytes. Arrays of
 * pointers and sizes are in device memory, one element a chunk; so are the
 * chunks. Each chunk gets a status of its own: one that is bad fails alone.
 *
 * Decoders take any bytes: what does not decode to exactly the capacity given
 * ends in BALE_CHUNK_BAD, and nothing outside [dst, dst + cap) is written,
 * nothing outside [src, src + len) read.
 *
 * Alignment: pointer and size arrays by their type; temp by 256 bytes; chunks
 * need none, though 16 bytes is faster. No two dst overlap, nor a dst any src.
 *
 * Thread rule: any thread, with the device that owns the stream current. Two
 * calls at once must not share temp. Formats: lz4 is the block format; gdeflate
 * a bare tile of 32 interleaved streams; raw the bytes; fill the pattern of 1,
 * 2, 4 or 8 bytes (the last repeat may be cut). A filter is undone by decode
 * alone: it is part of what the caller must keep.
 *
 * In a build without CUDA every function here returns -ENODEV.
 */
#ifndef BALE_DEVICE_H
#define BALE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "balefs/codec.h"
#include "balefs/compiler.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cudaStream_t, without CUDA's headers; NULL is the default stream. */
typedef void *bale_stream;

enum bale_chunk_status {
	BALE_CHUNK_OK = 0,
	/* Decode: not a valid stream of exactly that length. */
	BALE_CHUNK_BAD = 1,
	/* Encode: it does not fit the capacity given; dst is undefined. */
	BALE_CHUNK_NO_ROOM = 2,
	/* Sizes or pointers that the interface excludes. */
	BALE_CHUNK_INVALID = 3,
};

/* Chunks of one call, at most. */
enum { BALE_DEVICE_CHUNKS_MAX = 1 << 24 };

struct bale_device_opts {
	uint32_t struct_size; /* sizeof(struct bale_device_opts) */
	uint8_t codec;	      /* enum bale_codec_id: raw, fill, lz4, gdeflate */
	int8_t level;	  /* 0: the codec's default; see bale_device_levels() */
	uint8_t filter;	  /* enum bale_filter_id; lz4 and gdeflate only */
	uint8_t reserved; /* 0 */
	uint32_t max_chunk; /* largest decoded chunk: 1..BALE_UNIT_SIZE */
};

/*
 * Every function that takes opts checks them: -EOPNOTSUPP for a codec that has
 * no kernels, -EINVAL for a struct_size, level, filter, max_chunk or reserved
 * byte that is not as above. Decoding ignores no field either; any level of
 * the codec will do.
 *
 * Levels of lz4 and gdeflate: 1 fast, 2 balanced, 3 high; gdeflate also -1,
 * entropy coding alone. 0 is the default: 1 for lz4, 2 for gdeflate, and all
 * that raw and fill have.
 */
BALE_PUBLIC int bale_device_levels(unsigned int codec, int *ret_min,
				   int *ret_max);

/* Largest output that any chunk of opts->max_chunk bytes can need. (A fill that
 * is no pattern is BALE_CHUNK_NO_ROOM with any capacity.) */
BALE_PUBLIC int bale_device_bound(const struct bale_device_opts *opts,
				  size_t *ret_len);

/* Bytes of temp that a call with nr chunks needs, maybe 0. -EINVAL: nr. */
BALE_PUBLIC int bale_device_encode_temp(const struct bale_device_opts *opts,
					size_t nr, size_t *ret_len);
BALE_PUBLIC int bale_device_decode_temp(const struct bale_device_opts *opts,
					size_t nr, size_t *ret_len);

/*
 * 0: queued (nr 0: nothing to do). -EINVAL: opts, nr, a NULL array, or a temp
 * that is too short or not aligned; nothing was queued. -EIO: a launch failed;
 * dst, lengths and status are undefined. A chunk of more than opts->max_chunk
 * decoded bytes is BALE_CHUNK_INVALID; one that does not fit d_dst_cap[i] is
 * BALE_CHUNK_NO_ROOM: the way to say how small is small enough. d_dst_len[i]
 * is 0 for both.
 */
BALE_PUBLIC int
bale_device_encode(const struct bale_device_opts *opts, size_t nr,
		   const void *const *d_src, const uint32_t *d_src_len,
		   void *const *d_dst, const uint32_t *d_dst_cap,
		   uint32_t *d_dst_len, uint32_t *d_status, void *d_temp,
		   size_t temp_len, bale_stream stream);

/* d_dst_cap[i] is the exact decoded length; d_dst_len[i] what was decoded (0
 * when bad). Errors as for encode. */
BALE_PUBLIC int
bale_device_decode(const struct bale_device_opts *opts, size_t nr,
		   const void *const *d_src, const uint32_t *d_src_len,
		   void *const *d_dst, const uint32_t *d_dst_cap,
		   uint32_t *d_dst_len, uint32_t *d_status, void *d_temp,
		   size_t temp_len, bale_stream stream);

/* The decoded length that a chunk's bytes say, found without decoding where
 * the format has it and by walking the stream where not; BALE_CHUNK_BAD where
 * it is more than opts->max_chunk. Never trusted by bale_device_decode().
 * -EOPNOTSUPP for fill, whose bytes do not say it. */
BALE_PUBLIC int bale_device_decoded_len(const struct bale_device_opts *opts,
					size_t nr, const void *const *d_src,
					const uint32_t *d_src_len,
					uint32_t *d_len, uint32_t *d_status,
					bale_stream stream);

#ifdef __cplusplus
}
#endif

#endif
