/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container.h - one contiguous buffer coded in one call, into bytes that say
 * themselves how they were made. Host functions code on the calling thread;
 * the device's put all work on the caller's stream and neither allocate nor
 * synchronise. What one side wrote the other one reads.
 *
 * A container is a header, a table of chunks, and the chunks' stored bytes back
 * to back: each what docs/format.md calls the stored bytes of an extent. Every
 * part has a checksum, which is verified before anything is decoded. Decoders
 * take any bytes.
 *
 * Thread rule: any thread; two device calls at once must not share temp.
 */
#ifndef BALE_CONTAINER_H
#define BALE_CONTAINER_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "balefs/codec.h"
#include "balefs/compiler.h"
#include "balefs/device.h"
#include "balefs/le.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BALE_CONTAINER_MAGIC "BALEcont"
enum { BALE_CONTAINER_VERSION = 1 };
/* Decoded bytes of one container, at most: 1 TiB. */
#define BALE_CONTAINER_MAX ((uint64_t)1 << 40)

struct bale_disk_container {
	uint8_t magic[8];
	le32 version;
	le32 chunk_size; /* decoded: a power of two, 64 KiB to 4 MiB */
	le64 raw_len;	 /* decoded bytes of all */
	le64 stored_len; /* of the container, header and table too */
	le32 nr_chunks;	 /* raw_len / chunk_size, rounded up */
	le32 table_crc;	 /* crc32c of the table */
	uint8_t codec;	 /* asked for: enum bale_codec_id, or auto */
	uint8_t level;	 /* int8_t */
	uint8_t filter;
	uint8_t reserved[17]; /* 0 */
	le32 crc;	      /* crc32c of this header with the field zero */
};
static_assert(sizeof(struct bale_disk_container) == 64, "container");

struct bale_disk_container_chunk {
	le32 stored_len; /* at most its decoded length */
	le32 crc;	 /* crc32c of the stored bytes */
	uint8_t codec;	 /* raw, fill, or what was asked for (auto: any) */
	uint8_t filter;	 /* that of the header, or none where raw or fill */
	uint8_t level;
	uint8_t reserved; /* 0 */
};
static_assert(sizeof(struct bale_disk_container_chunk) == 12, "chunk");

struct bale_container_opts {
	uint32_t struct_size; /* sizeof(struct bale_container_opts) */
	uint8_t codec;	  /* host: raw, lz4, gdeflate, zstd, auto; device: raw,
			     lz4,    gdeflate */
	int8_t level;	  /* 0: the codec's default */
	uint8_t filter;	  /* enum bale_filter_id, not with raw and auto */
	uint8_t reserved; /* 0 */
	uint32_t chunk_size; /* 0: BALE_EXTENT_DEFAULT */
};

/* What a header says, checked. */
struct bale_container_info {
	uint64_t raw_len, stored_len;
	uint32_t chunk_size, nr_chunks;
	uint8_t codec;
	int8_t level;
	uint8_t filter;
	uint8_t reserved;
};

/* ---- host ---- */

/* Largest container of raw_len bytes. -EINVAL, -EOPNOTSUPP: opts as they are
 * for encode; -EFBIG: raw_len is beyond BALE_CONTAINER_MAX. */
BALE_PUBLIC int bale_container_bound(const struct bale_container_opts *opts,
				     uint64_t raw_len, uint64_t *ret_len);
/* -ENOSPC: cap is less than the bound. -ENOMEM. */
BALE_PUBLIC int bale_container_encode(const struct bale_container_opts *opts,
				      const void *src, size_t len, void *dst,
				      size_t cap, size_t *ret_len);
/*
 * Reads and checks a header: len >= 64 bytes of a container's beginning, in
 * host memory. -EUCLEAN: no container, or a header that contradicts itself;
 * -EBADMSG: its checksum is wrong; -EOPNOTSUPP: of a later version, or coded by
 * what this build does not know. Sizes in it are within bounds, but only as
 * trustworthy as whoever wrote it.
 */
BALE_PUBLIC int bale_container_head(const void *buf, size_t len,
				    struct bale_container_info *ret);
/* -ENOSPC: dst is shorter than the header's raw_len. Else as above, -EUCLEAN
 * and -EBADMSG for table and chunks too; dst is undefined then. */
BALE_PUBLIC int bale_container_decode(const void *src, size_t len, void *dst,
				      size_t cap, size_t *ret_len);

/* ---- device; all -ENODEV in a build without CUDA ---- */

/* d_... and temp are device memory; temp by 256 bytes aligned, src and dst by
 * nothing. The bound is that of bale_container_bound(). */
BALE_PUBLIC int
bale_container_device_encode_temp(const struct bale_container_opts *opts,
				  uint64_t raw_len, size_t *ret_len);
/*
 * *d_len is the container's length, *d_status an enum bale_chunk_status:
 * NO_ROOM when it does not fit cap. -EINVAL: opts, NULL, or temp too short or
 * not aligned, cap less than a header and table.
 */
BALE_PUBLIC int
bale_container_device_encode(const struct bale_container_opts *opts,
			     const void *d_src, uint64_t len, void *d_dst,
			     uint64_t cap, uint64_t *d_len, uint32_t *d_status,
			     void *d_temp, size_t temp_len, bale_stream stream);
/* info: of bale_container_head() over a copy of the first 64 bytes. */
BALE_PUBLIC int
bale_container_device_decode_temp(const struct bale_container_info *info,
				  size_t *ret_len);
/*
 * *d_status: OK, or BAD when anything is wrong with the bytes, with their
 * header being another than info says too. dst is undefined then, and nothing
 * outside [d_dst, d_dst + info->raw_len) is written. -EINVAL: NULL, temp, or
 * cap < info->raw_len; -EOPNOTSUPP: a codec without kernels.
 */
BALE_PUBLIC int
bale_container_device_decode(const struct bale_container_info *info,
			     const void *d_src, uint64_t len, void *d_dst,
			     uint64_t cap, uint32_t *d_status, void *d_temp,
			     size_t temp_len, bale_stream stream);

#ifdef __cplusplus
}
#endif

#endif
