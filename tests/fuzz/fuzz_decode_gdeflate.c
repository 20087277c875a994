/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every reader that the machine has on each unit, bounded by guard pages, and
 * what they say against the plainest possible reader.
 */
#include "balefs/format.h"
#include "fs/codec/codec_gdeflate.h"
#include "tests/fuzz/fuzz_decode.h"
#include "tests/support/gdeflate_plain.h"

static void check_unit(const uint8_t *src, size_t src_len, size_t len)
{
	static struct bale_gd_decoder *d;
	static uint8_t want[BALE_UNIT_SIZE];
	const struct fuzz_arena *a = fuzz_arena();
	bool good = plain_decode(src, src_len, want, len);
	const struct bale_gd_reader *r;

	if (!d)
		d = bale_gd_decoder_create();
	FUZZ_ASSERT(d);
	for (unsigned int i = 0; (r = bale_gd_reader_get(i)); i++) {
		uint8_t *in = guard_high(&a->src[0], src_len);
		uint8_t *out = i & 1 ? guard_low(&a->dst[0], len) :
				       guard_high(&a->dst[0], len);

		memcpy(in, src, src_len);
		memset(out, 0x3c, len < 4096 ? len : 4096);
		FUZZ_ASSERT(r->decode(d, in, src_len, out, len) ==
			    (good ? 0 : -EUCLEAN));
		FUZZ_ASSERT(!good || !memcmp(out, want, len));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *content, *table = data + sizeof(le32), *unit;
	size_t len, nr;
	le32 head;
	int r;

	if (size < sizeof(head) || size > FUZZ_STORED_MAX)
		return 0;
	memcpy(&head, data, sizeof(head));
	len = le32_get(head) & (2 * BALE_EXTENT_MAX - 1);
	if (len > BALE_EXTENT_MAX)
		len = BALE_EXTENT_MAX;
	r = fuzz_decode(BALE_CODEC_gdeflate, data, size, &content, &len);
	if (!len)
		return 0;
	nr = (len + BALE_UNIT_SIZE - 1) / BALE_UNIT_SIZE;
	if ((size - sizeof(head)) / sizeof(le32) < nr)
		return 0;
	unit = table + nr * sizeof(le32);
	for (size_t off = 0; off < len; off += BALE_UNIT_SIZE) {
		size_t left = (size_t)(data + size - unit);
		size_t raw =
			len - off < BALE_UNIT_SIZE ? len - off : BALE_UNIT_SIZE;
		size_t n;
		le32 e;

		memcpy(&e, table, sizeof(e));
		table += sizeof(e);
		n = le32_get(e) & ~BALE_UNIT_RAW;
		FUZZ_ASSERT(r || n <= left);
		/* Damaged extents: units that are there all the same. */
		if (n > left)
			return 0;
		if (!(le32_get(e) & BALE_UNIT_RAW))
			check_unit(unit, n, raw);
		unit += n;
	}
	FUZZ_ASSERT(r || unit == data + size);
	return 0;
}
