/* SPDX-License-Identifier: Apache-2.0 */
/* test_acl.c - ACL blobs, and their dealings with mode bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fs/inode/names_internal.h"

struct e {
	unsigned int tag, perm, id;
};
#define NONE UINT32_MAX

static size_t blob(uint8_t *out, const struct e *e, size_t nr)
{
	size_t at = 4;

	memset(out, 0, 4);
	out[0] = 2;
	for (size_t k = 0; k < nr; k++, at += 8) {
		le16 tag = le16_put((uint16_t)e[k].tag);
		le16 perm = le16_put((uint16_t)e[k].perm);
		le32 id = le32_put(e[k].id);

		memcpy(out + at, &tag, 2);
		memcpy(out + at + 2, &perm, 2);
		memcpy(out + at + 4, &id, 4);
	}
	return at;
}

static int decode(const struct e *e, size_t nr, struct bale_acl **ret)
{
	uint8_t buf[256];

	return bale_acl_decode(buf, blob(buf, e, nr), ret);
}

static const struct e minimal[] = { { 1, 7, NONE }, { 4, 5, NONE },
				    { 0x20, 1, NONE } };
static const struct e named[] = { { 1, 7, NONE },   { 2, 6, 1000 },
				  { 4, 5, NONE },   { 8, 4, 100 },
				  { 0x10, 6, NONE }, { 0x20, 1, NONE } };

static void test_round_trip(void **state)
{
	uint8_t a[256], b[256];
	struct bale_acl *acl;
	size_t len = blob(a, named, 6);

	(void)state;
	assert_int_equal(bale_acl_decode(a, len, &acl), 0);
	assert_int_equal(bale_acl_encoded_len(acl), len);
	bale_acl_encode(acl, b);
	assert_memory_equal(a, b, len);
	free(acl);
}

static void test_refused(void **state)
{
	static const struct {
		struct e e[4];
		size_t nr;
	} bad[] = {
		{ { { 1, 7, NONE } }, 1 },
		{ { { 4, 5, NONE }, { 1, 7, NONE }, { 0x20, 0, NONE } }, 3 },
		{ { { 1, 8, NONE }, { 4, 5, NONE }, { 0x20, 0, NONE } }, 3 },
		{ { { 1, 7, NONE }, { 4, 5, NONE }, { 0x40, 0, NONE } }, 3 },
		/* a named one without a mask, one without an id */
		{ { { 1, 7, NONE }, { 2, 5, 5 }, { 4, 5, NONE },
		    { 0x20, 0, NONE } }, 4 },
		{ { { 1, 7, NONE }, { 2, 5, NONE }, { 4, 5, NONE },
		    { 0x20, 0, NONE } }, 4 },
		/* two tags in one */
		{ { { 1, 7, NONE }, { 6, 5, 5 }, { 0x20, 0, NONE } }, 3 },
	};
	struct bale_acl *acl;
	uint8_t buf[256] = { 1 };

	(void)state;
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		assert_int_equal(decode(bad[k].e, bad[k].nr, &acl), -EINVAL);
	assert_int_equal(bale_acl_decode(buf, 4, &acl), -EOPNOTSUPP);
	buf[0] = 2;
	assert_int_equal(bale_acl_decode(buf, 3, &acl), -EINVAL);
	assert_int_equal(bale_acl_decode(buf, 11, &acl), -EINVAL);
	assert_int_equal(bale_acl_decode(buf, 4, &acl), 0);
	assert_null(acl);
}

static void test_mode(void **state)
{
	struct bale_acl *acl;
	uint32_t mode = 040666;
	bool exact;

	(void)state;
	assert_int_equal(decode(minimal, 3, &acl), 0);
	assert_int_equal(bale_acl_mode(acl, &exact), 0751);
	assert_true(exact);
	bale_acl_create(acl, &mode, &exact);
	assert_int_equal(mode, 040640);
	assert_true(exact);
	free(acl);

	assert_int_equal(decode(named, 6, &acl), 0);
	/* the group bits are the mask */
	assert_int_equal(bale_acl_mode(acl, &exact), 0761);
	assert_false(exact);
	bale_acl_chmod(acl, 0604);
	assert_int_equal(bale_acl_mode(acl, &exact), 0604);
	assert_int_equal(acl->e[2].perm, 5); /* the owning group's own */
	assert_int_equal(acl->e[4].perm, 0);
	free(acl);

	assert_int_equal(decode(named, 6, &acl), 0);
	mode = 0100644;
	bale_acl_create(acl, &mode, &exact);
	assert_int_equal(mode, 0100640);
	assert_false(exact);
	assert_int_equal(acl->e[1].perm, 6);
	assert_int_equal(acl->e[4].perm, 4);
	free(acl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
