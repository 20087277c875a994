/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_gdeflate.h - GDeflate tiles on the CPU, for fs/codec and its tests: one
 * encoder, and several readers of which the machine's best is chosen once.
 * All readers give the same answer to the same bytes; they are each other's
 * test.
 *
 * Thread rule: a decoder or encoder is working memory, used by one thread at a
 * time; it holds nothing between two tiles.
 */
#ifndef BALE_CODEC_CODEC_GDEFLATE_H
#define BALE_CODEC_CODEC_GDEFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "balefs/gdeflate.h"

enum {
	/* Entropy coding alone, no matches. */
	BALE_GD_LEVEL_ENTROPY = -1,
	BALE_GD_LEVEL_FAST = 1,
	BALE_GD_LEVEL_BALANCED = 2,
	BALE_GD_LEVEL_HIGH = 3,
};

struct bale_gd_decoder;
struct bale_gd_encoder;

/* NULL: no memory. Freeing NULL is fine. */
struct bale_gd_decoder *bale_gd_decoder_create(void);
void bale_gd_decoder_destroy(struct bale_gd_decoder *d);
struct bale_gd_encoder *bale_gd_encoder_create(void);
void bale_gd_encoder_destroy(struct bale_gd_encoder *e);

/*
 * Exactly len bytes, 1 to BALE_UNIT_SIZE, from exactly src_len, or -EUCLEAN.
 * Any src: nothing outside [src, src + src_len) is read, nothing outside
 * [dst, dst + len) written; dst is undefined after an error.
 */
typedef int bale_gd_decode_fn(struct bale_gd_decoder *d, const uint8_t *src,
			      size_t src_len, uint8_t *dst, size_t len);

struct bale_gd_reader {
	const char *name;
	bale_gd_decode_fn *decode;
};

/* The idx-th reader that this machine can run, portable first; NULL: no more.
 */
const struct bale_gd_reader *bale_gd_reader_get(unsigned int idx);
/*
 * The fastest of them, or the one that BALEFS_GDEFLATE_READER names (a name
 * that the machine does not have is ignored); found at the first call.
 */
const struct bale_gd_reader *bale_gd_reader_best(void);

/*
 * A tile of src's 1 to BALE_UNIT_SIZE bytes in at most cap bytes of dst.
 * -ENOSPC: it does not fit; dst is undefined. -EINVAL: no such level.
 */
int bale_gd_encode(struct bale_gd_encoder *e, int level, const uint8_t *src,
		   size_t len, uint8_t *dst, size_t cap, size_t *ret_len);

#endif
