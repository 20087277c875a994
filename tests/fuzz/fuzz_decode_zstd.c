/* SPDX-License-Identifier: Apache-2.0 */
/* What decodes must be one whole frame that any zstd tool reads. */
#include <zstd.h>

#include "tests/fuzz/fuzz_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[BALE_EXTENT_MAX];
	const uint8_t *content;
	size_t len;

	if (fuzz_decode(BALE_CODEC_zstd, data, size, &content, &len))
		return 0;
	FUZZ_ASSERT(ZSTD_findFrameCompressedSize(data + 4, size - 4) ==
		    size - 4);
	FUZZ_ASSERT(ZSTD_decompress(out, len, data + 4, size - 4) == len);
	FUZZ_ASSERT(!memcmp(out, content, len));
	return 0;
}
