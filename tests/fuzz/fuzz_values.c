/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small values from outside that have a reader of their own. Input: a byte for
 * which, then its bytes: the file of engine costs (as it is, or with magic,
 * machine and checksum made right), or an ACL as setxattr() brings it. What is
 * accepted is sane, and encodes to what decodes to the same.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/crc32c.h"
#include "fs/codec/cost.h"
#include "fs/inode/names_internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_dir.h"

static void check_costs(struct bale_cost *c)
{
	struct bale_cost_table t;

	bale_cost_get(c, &t);
	for (int side = 0; side < BALE_COST_SIDES; side++)
		for (int op = 0; op < 2; op++)
			for (int k = 0; k < BALE_COST_KINDS; k++) {
				double v = bale_cost_guess(
					c, (enum bale_cost_side)side,
					(enum bale_job_op)op,
					(enum bale_cost_kind)k, 1 << 20);

				FUZZ_ASSERT(isfinite(v) && v < 2e9);
				FUZZ_ASSERT(
					isfinite(t.at[side][op][k].byte_ns));
			}
}

/* A good file, with the input laid over it. */
static void costs(const uint8_t *p, size_t len, bool seal)
{
	char path[96];
	static uint8_t b[8192];
	struct bale_cost c;
	size_t n;
	FILE *f;
	int r;

	if (fuzz_dir_make())
		atexit(fuzz_dir_remove);
	snprintf(path, sizeof(path), "%s/cost", fuzz_dir);
	bale_cost_init(&c);
	unlink(path);
	FUZZ_ASSERT(!bale_cost_save(&c, path, "this machine"));
	f = fopen(path, "r+b");
	FUZZ_ASSERT(f);
	n = fread(b, 1, sizeof(b), f);
	FUZZ_ASSERT(n > 300 && n < sizeof(b));
	if (seal) {
		/* Behind magic, sizes and machine, in front of the checksum. */
		enum { HEAD = 256, TAIL = 8 };
		uint32_t crc;

		len = len < n - HEAD - TAIL ? len : n - HEAD - TAIL;
		memcpy(b + HEAD, p, len);
		crc = bale_crc32c(0, b, n - 4);
		memcpy(b + n - 4, &crc, 4);
	} else {
		n = len < sizeof(b) ? len : sizeof(b);
		memcpy(b, p, n);
	}
	rewind(f);
	FUZZ_ASSERT(fwrite(b, 1, n, f) == n && !fflush(f));
	FUZZ_ASSERT(!ftruncate(fileno(f), (off_t)n));
	fclose(f);
	r = bale_cost_load(&c, path, "this machine");
	FUZZ_ASSERT(!r || r == -EUCLEAN || r == -ESTALE);
	FUZZ_ASSERT(bale_cost_load(&c, path, "another"));
	check_costs(&c);
	bale_cost_fini(&c);
}

static void acl(const uint8_t *p, size_t len)
{
	uint32_t mode = 0100666;
	struct bale_acl *a = NULL, *b = NULL;
	uint8_t *first;
	bool exact;
	int r = bale_acl_decode(p, len, &a);

	if (r || !a) {
		FUZZ_ASSERT(!r || r == -EINVAL || r == -EOPNOTSUPP ||
			    r == -ENOMEM);
		return;
	}
	FUZZ_ASSERT(bale_acl_encoded_len(a) == len);
	/* Ids of entries that have none are not kept. */
	first = malloc(2 * len);
	FUZZ_ASSERT(first);
	bale_acl_encode(a, first);
	FUZZ_ASSERT(!bale_acl_decode(first, len, &b) && b);
	bale_acl_encode(b, first + len);
	FUZZ_ASSERT(!memcmp(first, first + len, len));
	free(first);
	free(b);
	FUZZ_ASSERT(bale_acl_mode(a, &exact) <= 0777);
	bale_acl_chmod(a, 0640);
	FUZZ_ASSERT(bale_acl_mode(a, &exact) == 0640);
	bale_acl_create(a, &mode, &exact);
	FUZZ_ASSERT((mode & ~0640u) == 0100000);
	free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] % 4 < 2)
		costs(data + 1, size - 1, data[0] % 4);
	else
		acl(data + 1, size - 1);
	return 0;
}
