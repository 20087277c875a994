/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode.h - a decoder on hostile bytes. Input: le32, of which 23 bits are
 * the decoded length, then the stored bytes. They are decoded twice, against
 * the guard page above and the one below the buffers, into different garbage:
 * the answers must be the same, so that nothing depends on old memory.
 */
#ifndef BALE_TESTS_FUZZ_DECODE_H
#define BALE_TESTS_FUZZ_DECODE_H

#include <errno.h>
#include <string.h>

#include "balefs/le.h"
#include "fs/codec/codec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/guard.h"

enum { FUZZ_STORED_MAX = 5 << 20 };

struct fuzz_arena {
	struct guard src[2], dst[2];
};

static inline const struct fuzz_arena *fuzz_arena(void)
{
	static struct fuzz_arena a;

	if (!a.src[0].map) {
		for (int i = 0; i < 2; i++) {
			guard_init(&a.src[i], FUZZ_STORED_MAX);
			guard_init(&a.dst[i], BALE_EXTENT_MAX);
		}
	}
	return &a;
}

/* 0 and *ret_content of *ret_len bytes, good until the next call, or -errno. */
static inline int fuzz_decode(unsigned int codec, const uint8_t *data,
			      size_t size, const uint8_t **ret_content,
			      size_t *ret_len)
{
	const struct fuzz_arena *a = fuzz_arena();
	struct bale_job job[2];
	size_t raw_len, n = size - sizeof(le32);
	le32 head;

	if (size < sizeof(head) || n > FUZZ_STORED_MAX)
		return -EINVAL;
	memcpy(&head, data, sizeof(head));
	raw_len = le32_get(head) & (2 * BALE_EXTENT_MAX - 1);
	if (raw_len > BALE_EXTENT_MAX)
		raw_len = BALE_EXTENT_MAX;
	for (int i = 0; i < 2; i++) {
		uint8_t *src = i ? guard_low(&a->src[i], n) :
				   guard_high(&a->src[i], n);

		memcpy(src, data + sizeof(head), n);
		job[i] = (struct bale_job){
			.op = BALE_JOB_DECODE,
			.codec = (uint8_t)codec,
			.src = src,
			.src_len = n,
			.dst = i ? guard_low(&a->dst[i], raw_len) :
				   guard_high(&a->dst[i], raw_len),
			.dst_cap = raw_len,
		};
		/* Enough of it to notice, not so much as to be slow. */
		memset(job[i].dst, i ? 0x5a : 0xc3,
		       raw_len < 8192 ? raw_len : 8192);
		bale_codec_run(&job[i]);
		FUZZ_ASSERT(!job[i].status || job[i].status == -EUCLEAN);
		FUZZ_ASSERT(job[i].len == (job[i].status ? 0 : raw_len));
	}
	FUZZ_ASSERT(job[0].status == job[1].status);
	if (job[0].status)
		return job[0].status;
	FUZZ_ASSERT(!memcmp(job[0].dst, job[1].dst, raw_len));
	*ret_content = job[0].dst;
	*ret_len = raw_len;
	return 0;
}

#endif
