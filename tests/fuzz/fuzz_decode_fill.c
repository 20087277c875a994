/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *content;
	size_t len;

	if (!fuzz_decode(BALE_CODEC_fill, data, size, &content, &len))
		for (size_t i = 0; i < len; i++)
			FUZZ_ASSERT(content[i] == data[4 + i % (size - 4)]);
	return 0;
}
