/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of the index on a damaged file. Input, again and again: where in
 * the file of a good index (two bytes of which page, drawn from few, and two
 * of where in it), how many bytes, those bytes. What the audit accepts, LMDB
 * must be able to map, walk and change; rows are those put in, or errors.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/store/audit.h"
#include "fs/store/kv.h"
#include "fs/store/wal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_dir.h"

enum { PAGE = 4096, FILE_MAX = 1 << 20, NR_ROWS = 400 };

static const uint8_t uuid[16] = "fuzzed-store-id";
static uint8_t good[FILE_MAX], work[FILE_MAX];
static size_t good_len;
static char index_dir[96], file[128];

static uint64_t value_of(uint64_t n)
{
	return n * 0x9e3779b97f4a7c15u;
}

static void put_rows(struct bale_kv *kv, uint64_t first, uint64_t last)
{
	for (uint64_t n = first; n < last; n++) {
		be64 key = be64_put(n);
		uint8_t val[3000];
		struct bale_mem_row row = {
			.table = BALE_TABLE_inline,
			.key = (const uint8_t *)&key,
			.key_len = sizeof(key),
			.val = val,
			.val_len = n % 50 ? 20 + n % 90 : sizeof(val),
			.deleted = n % 7 == 3,
		};
		uint64_t v = value_of(n);

		memset(val, (int)n, sizeof(val));
		memcpy(val, &v, sizeof(v));
		FUZZ_ASSERT(!bale_kv_put(kv, &row));
	}
}

static void make_index(void)
{
	struct bale_wal_position pos = { 0, 1, BALE_WAL_NONE };
	struct bale_kv *kv;
	int fd;

	if (!fuzz_dir_make())
		return;
	atexit(fuzz_dir_remove);
	bale_log_set_level(BALE_LOG_ERR);
	snprintf(index_dir, sizeof(index_dir), "%s/index", fuzz_dir);
	snprintf(file, sizeof(file), "%s/data.mdb", index_dir);
	FUZZ_ASSERT(!bale_kv_open(index_dir, BALE_KV_CREATE, uuid, &kv));
	for (uint64_t n = 0; n < NR_ROWS; n += NR_ROWS / 4) {
		FUZZ_ASSERT(!bale_kv_begin(kv));
		put_rows(kv, n, n + NR_ROWS / 4);
		pos.seq++;
		FUZZ_ASSERT(!bale_kv_commit(kv, &pos));
	}
	bale_kv_close(kv);
	fd = open(file, O_RDONLY);
	FUZZ_ASSERT(fd >= 0);
	good_len = (size_t)read(fd, good, sizeof(good));
	FUZZ_ASSERT(good_len > 4 * PAGE && good_len < sizeof(good));
	close(fd);
}

static void damage(const uint8_t *p, size_t len)
{
	memcpy(work, good, good_len);
	while (len >= 5) {
		size_t at = (p[0] * 7u % (good_len / PAGE)) * PAGE;
		size_t n = p[4] % 16u + 1;

		/* A page's head, its table of places, or anywhere. */
		at += p[1] % 4 ? p[2] % 64u : p[2] + p[3] % 16u * 256u;
		p += 5;
		len -= 5;
		n = n < len ? n : len;
		n = n < good_len - at ? n : good_len - at;
		memcpy(work + at, p, n);
		p += n;
		len -= n;
	}
}

static void read_rows(struct bale_kv *kv)
{
	struct bale_kv_txn *txn = NULL;
	struct bale_kv_iter *it;
	struct bale_mem_row row;
	unsigned int steps = 0;

	if (bale_kv_txn_renew(kv, &txn))
		return;
	for (uint64_t n = 0; n < NR_ROWS; n += 13) {
		be64 key = be64_put(n);
		uint8_t buf[4096];
		uint64_t v;
		size_t got;

		if (bale_kv_get(kv, txn, BALE_TABLE_inline, &key, sizeof(key),
				buf, sizeof(buf), &got))
			continue;
		memcpy(&v, buf, sizeof(v));
		FUZZ_ASSERT(got >= sizeof(v) && v == value_of(n));
	}
	if (!bale_kv_iter_open(kv, txn, BALE_TABLE_inline, "", 0, &it)) {
		while (!bale_kv_iter_next(it, &row))
			FUZZ_ASSERT(++steps <= 2 * NR_ROWS);
		bale_kv_iter_close(it);
	}
	bale_kv_txn_free(txn);
}

static void change_rows(struct bale_kv *kv)
{
	struct bale_wal_position pos = { 4096, 9, 0 };

	if (bale_kv_begin(kv))
		return;
	put_rows(kv, 5, 9);
	put_rows(kv, NR_ROWS, NR_ROWS + 60);
	bale_kv_commit(kv, &pos);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char why[96] = "";
	struct bale_kv *kv;
	int fd, r;

	make_index();
	damage(data, size);
	fuzz_dir_clear(index_dir);
	fuzz_dir_write("index/data.mdb", NULL, 0, work, good_len);
	fd = open(file, O_RDONLY);
	FUZZ_ASSERT(fd >= 0);
	r = bale_index_audit(fd, why, sizeof(why));
	close(fd);
	FUZZ_ASSERT(!r || r == -EUCLEAN);
	FUZZ_ASSERT(!r == !why[0]);
	if (r || bale_kv_open(index_dir, 0, uuid, &kv))
		return 0;
	read_rows(kv);
	change_rows(kv);
	bale_kv_close(kv);
	return 0;
}
