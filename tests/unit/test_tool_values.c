/* SPDX-License-Identifier: Apache-2.0 */
/* What people type after a command: sizes, numbers, -o lists. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/cmd.h"

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t want;
	} cases[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "17B", 0, 17 },
		{ "128K", 0, 131072 },
		{ "128k", 0, 131072 },
		{ "128KiB", 0, 131072 },
		{ "128KB", 0, 131072 },
		{ "2G", 0, 2147483648u },
		{ "0x100", 0, 256 },
		{ "15E", 0, (uint64_t)15 << 60 },
		{ "16E", -ERANGE, 0 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 K", -EINVAL, 0 },
		{ "1Kx", -EINVAL, 0 },
		{ "1KK", -EINVAL, 0 },
		{ "1.5M", -EINVAL, 0 },
		{ "0x", -EINVAL, 0 },
		{ "99999999999999999999999999999999999999", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t got = 0;
		int r = bale_size_parse(cases[i].text, &got);

		if (r != cases[i].r || got != cases[i].want)
			fail_msg("%s: %d, %llu", cases[i].text, r,
				 (unsigned long long)got);
	}
}

static void sizes_print(void **state)
{
	char b[BALE_SIZE_TEXT];

	(void)state;
	assert_string_equal(bale_size_text(0, b), "0 B");
	assert_string_equal(bale_size_text(1023, b), "1023 B");
	assert_string_equal(bale_size_text(1024, b), "1 KiB");
	assert_string_equal(bale_size_text(1536, b), "1.5 KiB");
	assert_string_equal(bale_size_text(131072, b), "128 KiB");
	assert_string_equal(bale_size_text(UINT64_MAX, b), "16.0 EiB");
}

static void lists(void **state)
{
	char text[] = "a=1,b,c=x=y,d=p\\,q,=z";
	char *list = text, *k, *v;

	(void)state;
	assert_true(bale_option_next(&list, &k, &v));
	assert_string_equal(k, "a");
	assert_string_equal(v, "1");
	assert_true(bale_option_next(&list, &k, &v));
	assert_string_equal(k, "b");
	assert_null(v);
	assert_true(bale_option_next(&list, &k, &v));
	assert_string_equal(k, "c");
	assert_string_equal(v, "x=y");
	assert_true(bale_option_next(&list, &k, &v));
	assert_string_equal(k, "d");
	assert_string_equal(v, "p,q");
	assert_true(bale_option_next(&list, &k, &v));
	assert_string_equal(k, "");
	assert_string_equal(v, "z");
	assert_false(bale_option_next(&list, &k, &v));
}

/* Nothing that a terminal would obey. */
static void names_are_harmless(void **state)
{
	static const char name[] = "a\033[2Jb\nc\\d\177\303\266";
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	bale_print_name(f, name, sizeof(name) - 1);
	fclose(f);
	assert_string_equal(text, "a\\x1b[2Jb\\x0ac\\x5cd\\x7f\303\266");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(sizes_print),
		cmocka_unit_test(lists),
		cmocka_unit_test(names_are_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
