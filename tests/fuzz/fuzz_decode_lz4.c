/* SPDX-License-Identifier: Apache-2.0 */
/* What decodes must be what the plainest possible decoder makes of it. */
#include "balefs/format.h"
#include "tests/fuzz/fuzz_decode.h"

static size_t read_length(const uint8_t *src, size_t *pos, size_t n)
{
	uint8_t more = 255;

	if (n == 15)
		while (more == 255) {
			more = src[(*pos)++];
			n += more;
		}
	return n;
}

/* One unit that is known to be valid. An offset of 0 gives zeros. */
static void check_unit(const uint8_t *src, size_t src_len, const uint8_t *want,
		       size_t len)
{
	static uint8_t out[BALE_UNIT_SIZE];
	size_t pos = 0, to = 0;

	for (;;) {
		uint8_t token = src[pos++];
		size_t n = read_length(src, &pos, token >> 4), dist;

		FUZZ_ASSERT(pos + n <= src_len && to + n <= len);
		memcpy(out + to, src + pos, n);
		pos += n;
		to += n;
		if (pos == src_len)
			break;
		FUZZ_ASSERT(pos + 2 <= src_len);
		dist = (size_t)(src[pos] | src[pos + 1] << 8);
		pos += 2;
		n = 4 + read_length(src, &pos, token & 15);
		FUZZ_ASSERT(pos <= src_len && dist <= to && to + n <= len);
		for (; n; n--, to++)
			out[to] = dist ? out[to - dist] : 0;
	}
	FUZZ_ASSERT(to == len && !memcmp(out, want, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *content, *table = data + sizeof(le32), *unit;
	size_t len;

	if (fuzz_decode(BALE_CODEC_lz4, data, size, &content, &len))
		return 0;
	unit = table + (len + BALE_UNIT_SIZE - 1) / BALE_UNIT_SIZE * 4;
	for (size_t off = 0; off < len; off += BALE_UNIT_SIZE) {
		size_t raw =
			len - off < BALE_UNIT_SIZE ? len - off : BALE_UNIT_SIZE;
		size_t n;
		le32 e;

		memcpy(&e, table, sizeof(e));
		table += sizeof(e);
		n = le32_get(e) & ~BALE_UNIT_RAW;
		FUZZ_ASSERT(n <= (size_t)(data + size - unit));
		if (le32_get(e) & BALE_UNIT_RAW)
			FUZZ_ASSERT(n == raw &&
				    !memcmp(unit, content + off, n));
		else
			check_unit(unit, n, content + off, raw);
		unit += n;
	}
	FUZZ_ASSERT(unit == data + size);
	return 0;
}
