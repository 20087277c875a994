/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/format/format.h"

#include <errno.h>
#include <string.h>

#include "balefs/codec.h"
#include "fs/base/crc32c.h"

/* A bale never outgrows a segment (2^31), nor has more extents than would fit.
 */
enum { MAX_EXTENTS = 1 << 20 };

static uint32_t bale_crc(const void *buf, size_t total)
{
	struct bale_disk_bale h;

	memcpy(&h, buf, sizeof(h));
	h.crc = le32_put(0);
	return bale_crc32c(bale_crc32c(0, &h, sizeof(h)),
			   (const uint8_t *)buf + sizeof(h), total - sizeof(h));
}

static void get_info(const struct bale_disk_bale *h, struct bale_bale_info *ret)
{
	ret->segment = le64_get(h->segment);
	ret->seq = le64_get(h->seq);
	ret->offset = le32_get(h->offset) * BALE_ALIGN;
	ret->nr_extents = le32_get(h->nr_extents);
	ret->payload_len = le64_get(h->payload_len);
}

int bale_bale_peek(const void *buf, size_t len, const uint8_t uuid[16],
		   struct bale_bale_info *ret, size_t *ret_total)
{
	const struct bale_disk_bale *h = buf;
	uint32_t nr;

	if (len < sizeof(*h) ||
	    memcmp(h->magic, BALE_BALE_MAGIC, sizeof(h->magic)) ||
	    memcmp(h->uuid, uuid, sizeof(h->uuid)))
		return -EUCLEAN;
	nr = le32_get(h->nr_extents);
	if (!nr || nr > MAX_EXTENTS || le32_get(h->flags) ||
	    le32_get(h->offset) > UINT32_MAX / BALE_ALIGN ||
	    le64_get(h->payload_len) > UINT32_MAX)
		return -EUCLEAN;
	get_info(h, ret);
	*ret_total =
		sizeof(*h) + (size_t)nr * sizeof(struct bale_disk_bale_extent);
	return 0;
}

static bool extent_in_range(const struct bale_disk_bale_extent *e)
{
	uint32_t raw = le32_get(e->raw_len), stored = le32_get(e->stored_len);

	return le64_get(e->id) && le64_get(e->ino) && raw &&
	       raw <= BALE_EXTENT_MAX && stored && stored <= raw &&
	       le64_get(e->extent_no) <= BALE_FILE_MAX >> 16;
}

int bale_bale_check(const void *buf, size_t len, const uint8_t uuid[16],
		    uint64_t segment, uint32_t offset,
		    struct bale_bale_info *ret)
{
	const struct bale_disk_bale *h = buf;
	const struct bale_disk_bale_extent *e = (const void *)(h + 1);
	struct bale_bale_info info;
	uint64_t payload = 0;
	size_t total;
	int r = bale_bale_peek(buf, len, uuid, &info, &total);

	if (r)
		return r;
	if (len < total)
		return -EUCLEAN;
	if (le32_get(h->crc) != bale_crc(buf, total))
		return -EBADMSG;
	if (info.segment != segment || info.offset != offset)
		return -EUCLEAN;
	for (uint32_t i = 0; i < info.nr_extents; i++) {
		if (!extent_in_range(&e[i]))
			return -EUCLEAN;
		payload += le32_get(e[i].stored_len);
	}
	if (payload != info.payload_len)
		return -EUCLEAN;
	*ret = info;
	return 0;
}

void bale_bale_seal(void *buf, const struct bale_bale_info *info,
		    const uint8_t uuid[16])
{
	struct bale_disk_bale *h = buf;

	memset(h, 0, sizeof(*h));
	memcpy(h->magic, BALE_BALE_MAGIC, sizeof(h->magic));
	memcpy(h->uuid, uuid, sizeof(h->uuid));
	h->segment = le64_put(info->segment);
	h->seq = le64_put(info->seq);
	h->offset = le32_put(info->offset / BALE_ALIGN);
	h->nr_extents = le32_put(info->nr_extents);
	h->payload_len = le64_put(info->payload_len);
	h->crc = le32_put(bale_crc(
		buf,
		sizeof(*h) + (size_t)info->nr_extents *
				     sizeof(struct bale_disk_bale_extent)));
}
