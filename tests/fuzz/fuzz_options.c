/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people write: mount options, codec policies, sizes, option lists.
 * Nothing is written out of bounds, a refusal comes with a line of text, and
 * what is accepted is in range.
 */
#include <string.h>

#include "fs/codec/codec.h"
#include "fs/fuse/options.h"
#include "tests/fuzz/fuzz.h"
#include "tools/cmd.h"

static void try_mount(const char *text)
{
	struct bale_mount_options o;
	char err[80];
	int r;

	bale_mount_options_init(&o);
	memset(err, 'x', sizeof(err));
	err[0] = 0;
	r = bale_mount_options_parse(&o, text, err, sizeof(err));
	FUZZ_ASSERT(memchr(err, 0, sizeof(err)));
	FUZZ_ASSERT(!r == !err[0]);
	if (r)
		return;
	FUZZ_ASSERT(o.atime >= 0 && o.atime <= 2);
	FUZZ_ASSERT(o.io <= BALE_IO_AUTO);
	r = bale_mount_options_check(&o, err, sizeof(err));
	FUZZ_ASSERT(memchr(err, 0, sizeof(err)));
	FUZZ_ASSERT(!r == !err[0]);
}

static void try_policy(const char *text)
{
	struct bale_codec_policy p = { 0 };

	if (bale_codec_policy_parse(text, &p))
		return;
	FUZZ_ASSERT(p.codec == BALE_CODEC_auto || p.codec < BALE_CODEC_NR);
}

static void try_values(const char *text)
{
	char *copy = strdup(text), *list = copy, *key, *value;
	char buf[BALE_SIZE_TEXT];
	uint64_t n;

	FUZZ_ASSERT(copy);
	if (!bale_size_parse(text, &n))
		FUZZ_ASSERT(strlen(bale_size_text(n, buf)) < sizeof(buf));
	bale_number_parse(text, &n);
	while (bale_option_next(&list, &key, &value)) {
		FUZZ_ASSERT(key >= copy && key <= copy + strlen(text));
		FUZZ_ASSERT(!value || value > key);
	}
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	FUZZ_ASSERT(text);
	if (size)
		memcpy(text, data, size);
	text[size] = 0;
	try_mount(text);
	try_policy(text);
	try_values(text);
	free(text);
	return 0;
}
