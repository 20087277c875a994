/* SPDX-License-Identifier: Apache-2.0 */
/* Log records, their ops, and checkpoints. */
#include "fs/format/format.h"

#include <errno.h>
#include <string.h>

#include "fs/base/crc32c.h"

enum { BODY_MAX = 1 << 28 };

static bool all_zero(const uint8_t *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

static uint32_t log_crc(const struct bale_disk_log *d)
{
	return bale_crc32c(0, d, offsetof(struct bale_disk_log, crc));
}

void bale_log_seal(struct bale_disk_log *d, const struct bale_log_info *i,
		   const uint8_t uuid[16])
{
	memset(d, 0, sizeof(*d));
	memcpy(d->magic, BALE_LOG_MAGIC, sizeof(d->magic));
	memcpy(d->uuid, uuid, sizeof(d->uuid));
	d->lsn = le64_put(i->lsn);
	d->seq = le64_put(i->seq);
	d->body_len = le32_put(i->body_len);
	d->body_crc = le32_put(i->body_crc);
	d->nr_ops = le32_put(i->nr_ops);
	d->flags = le16_put(i->flags);
	d->crc = le32_put(log_crc(d));
}

int bale_log_decode(const void *buf, size_t len, const uint8_t uuid[16],
		    struct bale_log_info *ret)
{
	const struct bale_disk_log *d = buf;

	if (len < sizeof(*d) ||
	    memcmp(d->magic, BALE_LOG_MAGIC, sizeof(d->magic)))
		return -EUCLEAN;
	if (le32_get(d->crc) != log_crc(d))
		return -EBADMSG;
	if (memcmp(d->uuid, uuid, sizeof(d->uuid)) ||
	    le32_get(d->body_len) > BODY_MAX || le16_get(d->pad) ||
	    le32_get(d->reserved) || le16_get(d->flags) & ~BALE_LOG_MORE ||
	    le64_get(d->lsn) % BALE_ALIGN)
		return -EUCLEAN;
	ret->lsn = le64_get(d->lsn);
	ret->seq = le64_get(d->seq);
	ret->body_len = le32_get(d->body_len);
	ret->body_crc = le32_get(d->body_crc);
	ret->nr_ops = le32_get(d->nr_ops);
	ret->flags = le16_get(d->flags);
	return 0;
}

int bale_op_next(const uint8_t *body, size_t len, size_t *pos,
		 struct bale_op *ret)
{
	const struct bale_disk_op *d;
	size_t left, need;
	uint32_t val_len;
	uint16_t key_len;

	if (*pos == len)
		return -ENOENT;
	if (*pos > len || len - *pos < sizeof(*d))
		return -EUCLEAN;
	left = len - *pos;
	d = (const void *)(body + *pos);
	key_len = le16_get(d->key_len);
	val_len = le32_get(d->val_len);
	if (key_len > BALE_KEY_MAX || val_len > BALE_VALUE_MAX)
		return -EUCLEAN;
	need = sizeof(*d) + key_len + val_len;
	if (left < need || (d->kind != BALE_OP_PUT && d->kind != BALE_OP_DEL) ||
	    (d->kind == BALE_OP_DEL && val_len))
		return -EUCLEAN;
	ret->kind = d->kind;
	ret->table = d->table;
	ret->key_len = key_len;
	ret->val_len = val_len;
	ret->key = (const uint8_t *)(d + 1);
	ret->val = ret->key + key_len;
	if (bale_row_check(d->table, ret->key, key_len,
			   d->kind == BALE_OP_PUT ? ret->val : NULL, val_len))
		return -EUCLEAN;
	*pos += need;
	return 0;
}

int bale_ckpt_decode(const void *buf, size_t len, const uint8_t uuid[16],
		     uint64_t *ret_start_lsn, uint64_t *ret_start_seq)
{
	const struct bale_disk_ckpt *d = buf;

	if (len < sizeof(*d) ||
	    memcmp(d->magic, BALE_CKPT_MAGIC, sizeof(d->magic)))
		return -EUCLEAN;
	if (le32_get(d->crc) !=
	    bale_crc32c(0, d, offsetof(struct bale_disk_ckpt, crc)))
		return -EBADMSG;
	if (memcmp(d->uuid, uuid, sizeof(d->uuid)))
		return -EUCLEAN;
	if (le32_get(d->version) != BALE_FORMAT_VERSION || le32_get(d->flags))
		return -EOPNOTSUPP;
	if (!all_zero(d->reserved, sizeof(d->reserved)) ||
	    le64_get(d->start_lsn) % BALE_ALIGN)
		return -EUCLEAN;
	*ret_start_lsn = le64_get(d->start_lsn);
	*ret_start_seq = le64_get(d->start_seq);
	return 0;
}

int bale_ckpt_end_decode(const void *buf, size_t len, uint64_t *ret_end_lsn,
			 uint64_t *ret_nr_rows, uint64_t *ret_nr_chunks)
{
	const struct bale_disk_ckpt_end *d = buf;

	if (len < sizeof(*d) ||
	    memcmp(d->magic, BALE_CKPT_END_MAGIC, sizeof(d->magic)))
		return -EUCLEAN;
	if (le32_get(d->crc) !=
	    bale_crc32c(0, d, offsetof(struct bale_disk_ckpt_end, crc)))
		return -EBADMSG;
	if (!all_zero(d->reserved, sizeof(d->reserved)) ||
	    le64_get(d->end_lsn) % BALE_ALIGN)
		return -EUCLEAN;
	*ret_end_lsn = le64_get(d->end_lsn);
	*ret_nr_rows = le64_get(d->nr_rows);
	*ret_nr_chunks = le64_get(d->nr_chunks);
	return 0;
}
