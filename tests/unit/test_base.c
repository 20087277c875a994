/* SPDX-License-Identifier: Apache-2.0 */
/* Base layer: checksums, integers, buffers, fault points. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "balefs/le.h"
#include "fs/base/crc32c.h"
#include "fs/base/fault.h"
#include "fs/base/mem.h"

static void crc32c_known_answers(void **state)
{
	uint8_t zeros[32] = { 0 }, ones[32];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	/* RFC 3720, B.4 */
	assert_int_equal(bale_crc32c(0, zeros, 32), 0x8a9136aau);
	assert_int_equal(bale_crc32c(0, ones, 32), 0x62a8ab43u);
	assert_int_equal(bale_crc32c(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(bale_crc32c_table(0, "123456789", 9), 0xe3069283u);
}

static void crc32c_hardware_equals_table(void **state)
{
	enum { N = 20000 };
	uint8_t *buf = malloc(N);
	uint32_t x = 1;

	(void)state;
	assert_non_null(buf);
	for (int i = 0; i < N; i++) {
		x = x * 1664525 + 1013904223;
		buf[i] = (uint8_t)(x >> 24);
	}
	for (size_t len = 0; len < N; len += 1 + len / 7)
		for (size_t off = 0; off < 9 && off + len <= N; off += 4) {
			uint32_t whole = bale_crc32c(0, buf + off, len);
			uint32_t part = bale_crc32c(0, buf + off, len / 3);

			part = bale_crc32c(part, buf + off + len / 3,
					   len - len / 3);
			assert_int_equal(whole, part);
			assert_int_equal(whole, bale_crc32c_table(0, buf + off,
								  len));
		}
	free(buf);
}

static void integers_keep_their_order(void **state)
{
	be64 a = be64_put(255), b = be64_put(256);

	(void)state;
	assert_true(memcmp(&a, &b, 8) < 0);
	assert_int_equal(be64_get(b), 256);
	assert_int_equal(le64_get(le64_put(0x0123456789abcdefu)),
			 0x0123456789abcdefu);
	assert_int_equal(le64_put(0x0123456789abcdefu).b[0], 0xef);
	assert_int_equal(le32_get(le32_put(0xfedcba98u)), 0xfedcba98u);
	assert_int_equal(le16_get(le16_put(0xfedcu)), 0xfedcu);
}

static void buffers_grow(void **state)
{
	struct bale_buf b = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 10000; i++)
		assert_int_equal(bale_buf_append(&b, &i, sizeof(i)), 0);
	assert_int_equal(b.len, 40000);
	assert_int_equal(bale_buf_reserve(&b, SIZE_MAX / 2), -ENOMEM);
	assert_int_equal(b.len, 40000);
	bale_buf_fini(&b);
}

static void fault_points_fire_when_told(void **state)
{
	(void)state;
	assert_int_equal(bale_fault("t.a"), 0);
	assert_int_equal(bale_fault_arm("t.a:2:ENOSPC,t.b:1+"), 0);
	assert_int_equal(bale_fault("t.a"), 0);
	assert_int_equal(bale_fault("t.a"), -ENOSPC);
	assert_int_equal(bale_fault("t.a"), 0);
	assert_int_equal(bale_fault("t.b"), -EIO);
	assert_int_equal(bale_fault("t.b"), -EIO);
	assert_int_equal(bale_fault("t.c"), 0);
	assert_int_equal(bale_fault_count("t.a"), 3);
	assert_int_equal(bale_fault_count("t.c"), 1);
	assert_int_equal(bale_fault_arm("t.a"), -EINVAL);
	assert_int_equal(bale_fault_arm("t.a:x"), -EINVAL);
	assert_int_equal(bale_fault_arm("t.a:1:EWHAT"), -EINVAL);
	bale_fault_clear();
	assert_int_equal(bale_fault("t.b"), 0);
}

static int passes_a_site(void)
{
	return BALE_FAULT("t.site");
}

/* A site is in the program's list before it was ever passed, counts once
 * anything is armed, and has two names. */
static void fault_sites_are_listed(void **state)
{
	struct bale_fault_site *s, *found = NULL;
	char spec[64];

	(void)state;
	for (size_t i = 0; (s = bale_fault_site(i)); i++)
		if (s->name && !strcmp(s->name, "t.site"))
			found = s;
	assert_non_null(found);
	assert_string_equal(found->func, "passes_a_site");
	assert_string_equal(bale_fault_site_file(found), "test_base.c");
	assert_int_equal(passes_a_site(), 0);
	assert_int_equal(found->passed, 0);
	snprintf(spec, sizeof(spec), "test_base.c@%u:2:ENOMEM,t.site:3:torn",
		 found->line);
	assert_int_equal(bale_fault_arm(spec), 0);
	assert_int_equal(passes_a_site(), 0);
	assert_int_equal(passes_a_site(), -ENOMEM);
	assert_int_equal(passes_a_site(), -EIO);
	assert_int_equal(found->passed, 3);
	bale_fault_clear();
	assert_int_equal(passes_a_site(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc32c_known_answers),
		cmocka_unit_test(crc32c_hardware_equals_table),
		cmocka_unit_test(integers_keep_their_order),
		cmocka_unit_test(buffers_grow),
		cmocka_unit_test(fault_points_fire_when_told),
		cmocka_unit_test(fault_sites_are_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
