/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container of any bytes, as it is and with its checksums mended: decoded
 * between guard pages, twice into memory of other contents, to the same answer.
 */
#include <errno.h>
#include <string.h>

#include "balefs/container.h"
#include "fs/base/crc32c.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/guard.h"

enum {
	IN_MAX = 1 << 20,
	OUT_MAX = 4 << 20,
	HEAD = sizeof(struct bale_disk_container),
	ENTRY = sizeof(struct bale_disk_container_chunk),
};

/* Whatever lengths say, within the bytes there are. */
static void mend(uint8_t *p, size_t size)
{
	struct bale_disk_container h;
	size_t nr, pos;

	memcpy(&h, p, sizeof(h));
	memcpy(h.magic, BALE_CONTAINER_MAGIC, sizeof(h.magic));
	h.version = le32_put(BALE_CONTAINER_VERSION);
	h.stored_len = le64_put(size);
	nr = le32_get(h.nr_chunks);
	if (nr <= (size - HEAD) / ENTRY) {
		pos = HEAD + nr * ENTRY;
		for (size_t i = 0; i < nr; i++) {
			struct bale_disk_container_chunk e;
			size_t n;

			memcpy(&e, p + HEAD + i * ENTRY, sizeof(e));
			n = le32_get(e.stored_len);
			if (n > size - pos)
				break;
			e.crc = le32_put(bale_crc32c(0, p + pos, n));
			memcpy(p + HEAD + i * ENTRY, &e, sizeof(e));
			pos += n;
		}
		h.table_crc = le32_put(bale_crc32c(0, p + HEAD, nr * ENTRY));
	}
	h.crc = le32_put(0);
	h.crc = le32_put(bale_crc32c(0, &h, sizeof(h)));
	memcpy(p, &h, sizeof(h));
}

static int decode(const struct guard *in, const struct guard *out,
		  const uint8_t *data, size_t size, bool mended, uint8_t fill,
		  size_t *ret_len, uint8_t **ret)
{
	uint8_t *src = guard_high(in, size);
	struct bale_container_info info;
	size_t cap = 0;
	int r;

	memcpy(src, data, size);
	if (mended && size >= HEAD)
		mend(src, size);
	r = bale_container_head(src, size, &info);
	if (!r) {
		if (info.raw_len > OUT_MAX)
			return -EFBIG;
		cap = (size_t)info.raw_len;
	}
	*ret = guard_high(out, cap);
	memset(*ret, fill, cap < 8192 ? cap : 8192);
	*ret_len = 0;
	r = bale_container_decode(src, size, *ret, cap, ret_len);
	FUZZ_ASSERT(!r || r == -EUCLEAN || r == -EBADMSG || r == -EOPNOTSUPP);
	FUZZ_ASSERT(r || *ret_len == cap);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guard in, out[2];

	if (size > IN_MAX)
		return 0;
	if (!in.map) {
		guard_init(&in, IN_MAX);
		guard_init(&out[0], OUT_MAX);
		guard_init(&out[1], OUT_MAX);
	}
	for (int mended = 0; mended < 2; mended++) {
		uint8_t *got[2];
		size_t len[2];
		int r = decode(&in, &out[0], data, size, mended, 0x5a, &len[0],
			       &got[0]);

		if (r == -EFBIG)
			continue;
		FUZZ_ASSERT(r == decode(&in, &out[1], data, size, mended, 0xc3,
					&len[1], &got[1]));
		FUZZ_ASSERT(r || !memcmp(got[0], got[1], len[0]));
	}
	return 0;
}
