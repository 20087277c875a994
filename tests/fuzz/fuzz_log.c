/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log replayer on any log: records with right checksums and wrong places,
 * numbers, flags and bodies, in several files, on top of one good record that
 * makes the root. Input, again and again: a byte of flags, a number of steps
 * from where the record belongs, a length, that many bytes of ops. What opens
 * must open again, and say the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/store/store.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_dir.h"

enum { LOG_SIZE = 1 << 20, PART = 64 << 10, NR_FILES = 3 };
enum { MORE = 1, WRONG_SEQ = 2, UNSEALED = 4, NEXT_FILE = 8, RAW_OPS = 16 };

static struct bale_disk_super super;
static uint8_t files[NR_FILES][PART]; /* what is used of each */
static uint8_t body[4096];
static const uint8_t uuid[16] = "forged-store-id";

static size_t add_op(size_t at, enum bale_table t, const void *key,
		     size_t key_len, const void *val, size_t val_len)
{
	struct bale_disk_op op = { .kind = val ? BALE_OP_PUT : BALE_OP_DEL,
				   .table = (uint8_t)t,
				   .key_len = le16_put((uint16_t)key_len),
				   .val_len = le32_put((uint32_t)val_len) };

	if (at + sizeof(op) + key_len + val_len > sizeof(body))
		return at;
	memcpy(body + at, &op, sizeof(op));
	memcpy(body + at + sizeof(op), key, key_len);
	if (val_len)
		memcpy(body + at + sizeof(op) + key_len, val, val_len);
	return at + sizeof(op) + key_len + val_len;
}

static size_t root_row(void)
{
	struct bale_inode_row root = { .mode = S_IFDIR | 0755,
				       .nlink = 2,
				       .parent = 1,
				       .next_cookie = 3 };
	be64 k = be64_put(BALE_ROOT_INO);
	struct bale_disk_inode d;

	bale_inode_encode(&root, &d);
	return add_op(0, BALE_TABLE_inode, &k, 8, &d, sizeof(d));
}

/* A record at a place of a file, claiming lsn and seq. */
static void put_record(unsigned int file, size_t off, uint64_t lsn,
		       uint64_t seq, uint16_t flags, size_t len, bool sealed)
{
	struct bale_log_info info = { .lsn = lsn,
				      .seq = seq,
				      .flags = flags,
				      .body_len = (uint32_t)len,
				      .body_crc = bale_crc32c(0, body, len),
				      .nr_ops = 1 };
	struct bale_disk_log head;

	if (file >= NR_FILES || off + sizeof(head) + len > PART)
		return;
	bale_log_seal(&head, &info, uuid);
	if (!sealed)
		head.crc = le32_put(le32_get(head.crc) ^ 1);
	memcpy(files[file] + off, &head, sizeof(head));
	memcpy(files[file] + off + sizeof(head), body, len);
}

static void forge(const uint8_t *p, size_t len)
{
	uint64_t lsn, seq = 2;
	size_t used = root_row();

	put_record(0, 0, 0, 1, 0, used, true);
	lsn = (sizeof(struct bale_disk_log) + used + BALE_ALIGN - 1) /
	      BALE_ALIGN * BALE_ALIGN;
	while (len >= 3) {
		uint8_t flags = p[0];
		int8_t step = (int8_t)p[1];
		size_t n = p[2] < len - 3 ? p[2] : len - 3;
		be64 key = be64_put(16 + p[1] % 4u);
		le64 val = le64_put(p[2]);
		uint64_t claimed;

		if (flags & RAW_OPS)
			memcpy(body, p + 3, n);
		p += 3 + n;
		len -= 3 + n;
		if (!(flags & RAW_OPS))
			n = add_op(0, BALE_TABLE_orphan, &key, 8, &val, 8);
		if (flags & NEXT_FILE)
			lsn = (lsn / LOG_SIZE + 1) * LOG_SIZE;
		claimed = lsn + (uint64_t)(int64_t)(step / 16 * BALE_ALIGN);
		put_record((unsigned int)(lsn / LOG_SIZE), lsn % LOG_SIZE,
			   claimed, flags & WRONG_SEQ ? seq + step : seq,
			   flags & MORE, n, !(flags & UNSEALED));
		seq++;
		lsn += (sizeof(struct bale_disk_log) + n + BALE_ALIGN - 1) /
		       BALE_ALIGN * BALE_ALIGN;
	}
}

static void make_dir(void)
{
	struct bale_super s = { .seq = 1,
				.extent_bits = 16,
				.segment_bits = 20,
				.log_bits = 20,
				.codec = BALE_CODEC_auto };

	if (!fuzz_dir_make())
		return;
	atexit(fuzz_dir_remove);
	bale_log_set_level(BALE_LOG_ERR);
	memcpy(s.uuid, uuid, 16);
	bale_super_encode(&s, &super);
}

static int look(bool writable, uint64_t digest[BALE_TABLE_NR][2])
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = !writable,
					.untrusted = !writable,
					.manual_commit = true };
	struct bale_store *st;
	int r = bale_store_open(fuzz_dir, &o, &st);

	if (r)
		return r;
	r = bale_meta_digest(bale_store_meta(st), digest);
	FUZZ_ASSERT(!bale_store_close(st));
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t a[BALE_TABLE_NR][2], b[BALE_TABLE_NR][2];
	char name[32];

	make_dir();
	memset(files, 0, sizeof(files));
	forge(data, size);
	fuzz_dir_empty();
	fuzz_dir_write("super.0", &super, sizeof(super), NULL, 0);
	fuzz_dir_write("super.1", &super, sizeof(super), NULL, 0);
	for (unsigned int k = 0; k < NR_FILES; k++) {
		snprintf(name, sizeof(name), "log/%016x", k);
		fuzz_dir_write(name, files[k], PART, NULL, 0);
	}
	if (look(false, a)) {
		FUZZ_ASSERT(look(true, b));
		return 0;
	}
	/* For writing; what it wrote; and that log once more. */
	FUZZ_ASSERT(!look(true, b));
	FUZZ_ASSERT(!memcmp(a, b, sizeof(a)));
	FUZZ_ASSERT(!look(false, b));
	FUZZ_ASSERT(!memcmp(a, b, sizeof(a)));
	return 0;
}
