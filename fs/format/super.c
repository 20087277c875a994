/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/format/format.h"

#include <errno.h>
#include <string.h>

#include "balefs/codec.h"
#include "fs/base/crc32c.h"

/* crc32c of a record whose own checksum field counts as zero. */
static uint32_t crc_without(const void *rec, size_t len, size_t crc_off)
{
	static const uint8_t zero[4];
	const uint8_t *p = rec;
	uint32_t crc = bale_crc32c(0, p, crc_off);

	crc = bale_crc32c(crc, zero, sizeof(zero));
	return bale_crc32c(crc, p + crc_off + 4, len - crc_off - 4);
}

static uint32_t super_crc(const struct bale_disk_super *d)
{
	return crc_without(d, sizeof(*d),
			   offsetof(struct bale_disk_super, crc));
}

void bale_super_encode(const struct bale_super *s, struct bale_disk_super *d)
{
	memset(d, 0, sizeof(*d));
	memcpy(d->magic, BALE_SUPER_MAGIC, sizeof(d->magic));
	d->version = le32_put(BALE_FORMAT_VERSION);
	memcpy(d->uuid, s->uuid, sizeof(d->uuid));
	d->compat = le64_put(s->compat);
	d->ro_compat = le64_put(s->ro_compat);
	d->incompat = le64_put(s->incompat);
	d->seq = le64_put(s->seq);
	d->created_sec = le64_put(s->created_sec);
	d->extent_bits = s->extent_bits;
	d->segment_bits = s->segment_bits;
	d->log_bits = s->log_bits;
	d->codec = s->codec;
	d->level = (uint8_t)s->level;
	d->filter = s->filter;
	memcpy(d->label, s->label, strnlen(s->label, sizeof(d->label)));
	d->crc = le32_put(super_crc(d));
}

static bool all_zero(const uint8_t *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

static bool super_in_range(const struct bale_disk_super *d)
{
	return d->extent_bits >= 16 && d->extent_bits <= 22 &&
	       d->segment_bits >= 20 && d->segment_bits <= 31 &&
	       d->segment_bits >= d->extent_bits + 2 && d->log_bits >= 20 &&
	       d->log_bits <= 28 &&
	       (d->codec < BALE_CODEC_NR || d->codec == BALE_CODEC_auto) &&
	       d->filter < BALE_FILTER_NR;
}

int bale_super_decode(const void *buf, size_t len, struct bale_super *ret)
{
	const struct bale_disk_super *d = buf;

	if (len < sizeof(*d) ||
	    memcmp(d->magic, BALE_SUPER_MAGIC, sizeof(d->magic)))
		return -EUCLEAN;
	if (le32_get(d->crc) != super_crc(d))
		return -EBADMSG;
	if (le32_get(d->version) != BALE_FORMAT_VERSION)
		return -EOPNOTSUPP;
	/* With features of a later version the rest may mean something else:
	 * bale_super_features() tells before anything is used. */
	if (!super_in_range(d) ||
	    (!le64_get(d->incompat) &&
	     (!all_zero(d->pad, sizeof(d->pad)) ||
	      !all_zero(d->reserved, sizeof(d->reserved)))))
		return -EUCLEAN;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->uuid, d->uuid, sizeof(ret->uuid));
	ret->compat = le64_get(d->compat);
	ret->ro_compat = le64_get(d->ro_compat);
	ret->incompat = le64_get(d->incompat);
	ret->seq = le64_get(d->seq);
	ret->created_sec = le64_get(d->created_sec);
	ret->extent_bits = d->extent_bits;
	ret->segment_bits = d->segment_bits;
	ret->log_bits = d->log_bits;
	ret->codec = d->codec;
	ret->level = (int8_t)d->level;
	ret->filter = d->filter;
	memcpy(ret->label, d->label, BALE_LABEL_MAX);
	return 0;
}

int bale_super_features(const struct bale_super *s, bool rw, uint64_t *ret_bits)
{
	uint64_t bad = s->incompat & ~BALE_INCOMPAT_KNOWN;

	if (!bad && rw)
		bad = s->ro_compat & ~BALE_RO_COMPAT_KNOWN;
	*ret_bits = bad;
	return bad ? -EOPNOTSUPP : 0;
}
