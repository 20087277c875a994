/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what every fuzz target shares. A target is one file that defines
 * LLVMFuzzerTestOneInput(); it is linked with replay.c into a test that runs
 * its corpus, and, with -Dfuzzers=true and clang, with libFuzzer.
 */
#ifndef BALE_TESTS_FUZZ_H
#define BALE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An assert that every build has. */
#define FUZZ_ASSERT(x)                                                         \
	do {                                                                   \
		if (!(x)) {                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,     \
				#x);                                           \
			abort();                                               \
		}                                                              \
	} while (0)

#endif
