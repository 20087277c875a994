/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the open index what was written to it? Each row has its checksum; that
 * none is missing, doubled or an older one, the tables' digests tell, which
 * every commit records. One read transaction sees both.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <string.h>

#include "fs/base/log.h"

static int add_table(struct bale_kv *kv, struct bale_kv_txn *txn,
		     unsigned int table, uint64_t sum[2])
{
	struct bale_kv_iter *it;
	struct bale_mem_row row;
	uint64_t d[2];
	int r = bale_kv_iter_open(kv, txn, table, "", 0, &it);

	if (r)
		return r;
	while (!(r = bale_kv_iter_next(it, &row))) {
		bale_row_digest(table, row.key, row.key_len, row.val,
				row.val_len, d);
		sum[0] += d[0];
		sum[1] += d[1];
	}
	bale_kv_iter_close(it);
	return r == -ENOENT ? 0 : r;
}

static int verify(struct bale_kv *kv, struct bale_kv_txn *txn)
{
	struct bale_kv_position p;
	int r = bale_kv_position_in(kv, txn, &p);

	for (unsigned int t = 0; !r && t < BALE_TABLE_NR; t++) {
		uint64_t sum[2] = { 0 };

		r = add_table(kv, txn, t, sum);
		if (!r && memcmp(sum, p.digest[t], sizeof(sum))) {
			bale_err("index: table %s: rows missing or stale",
				 bale_table_name(t));
			r = -EUCLEAN;
		}
	}
	return r;
}

int bale_meta_verify(struct bale_meta *m)
{
	struct bale_kv_position p;
	struct bale_kv_txn *txn = NULL;
	int r;

	bale_kv_position(m->kv, &p);
	if (!p.lsn && !p.seq) /* nothing was ever moved into it */
		return 0;
	r = bale_kv_txn_renew(m->kv, &txn);
	if (!r)
		r = verify(m->kv, txn);
	bale_kv_txn_free(txn);
	if (r != -EUCLEAN && r != -EBADMSG && r != -ENOENT)
		return r;
	bale_kv_doubt(m->kv);
	bale_store_fail(m->st, -EUCLEAN, "the index is damaged");
	return -EUCLEAN;
}
