/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container.h's host side: each chunk is a job of codec.c, so that whatever
 * reads extents reads chunks.
 */
#include "balefs/container.h"

#include <errno.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/codec/codec.h"

enum {
	HEAD = sizeof(struct bale_disk_container),
	ENTRY = sizeof(struct bale_disk_container_chunk),
};

static bool good_chunk_size(uint32_t n)
{
	return n >= BALE_EXTENT_MIN && n <= BALE_EXTENT_MAX && !(n & (n - 1));
}

static uint32_t nr_chunks(uint64_t raw_len, uint32_t chunk_size)
{
	return (uint32_t)((raw_len + chunk_size - 1) / chunk_size);
}

static size_t chunk_len(const struct bale_container_info *info, uint32_t idx)
{
	uint64_t left = info->raw_len - (uint64_t)idx * info->chunk_size;

	return left < info->chunk_size ? (size_t)left : info->chunk_size;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

/* A codec that may be asked for, with this level and filter. */
static int check_opts(const struct bale_container_opts *o,
		      struct bale_codec_policy *ret, uint32_t *ret_chunk_size)
{
	struct bale_codec_policy p, back;
	char text[64];
	int r;

	if (!o || o->struct_size != sizeof(*o) || o->reserved)
		return -EINVAL;
	*ret_chunk_size = o->chunk_size ? o->chunk_size : BALE_EXTENT_DEFAULT;
	if (!good_chunk_size(*ret_chunk_size))
		return -EINVAL;
	p = (struct bale_codec_policy){ .codec = o->codec,
					.level = o->level,
					.filter = o->filter };
	/* lz4 has levels on the device alone. */
	if (p.codec == BALE_CODEC_lz4 && p.level >= 1 && p.level <= 3)
		p.level = 0;
	/* The text form has every rule of what goes with what. */
	bale_codec_policy_text(p, text, sizeof(text));
	r = bale_codec_policy_parse(text, &back);
	if (r)
		return r;
	if (back.codec != p.codec || back.filter != p.filter ||
	    back.level != p.level)
		return -EINVAL;
	*ret = p;
	return 0;
}

int bale_container_bound(const struct bale_container_opts *opts,
			 uint64_t raw_len, uint64_t *ret_len)
{
	struct bale_codec_policy p;
	uint32_t size;
	int r = check_opts(opts, &p, &size);

	if (r)
		return r;
	if (raw_len > BALE_CONTAINER_MAX)
		return -EFBIG;
	/* A chunk is never stored longer than it is. Encoders want room for
	   their worst try, which the last chunk has nothing behind for. */
	*ret_len = HEAD + (uint64_t)nr_chunks(raw_len, size) * ENTRY + raw_len +
		   (bale_codec_bound(size) - size);
	return 0;
}

static int encode_chunk(struct bale_codec_policy p, const uint8_t *src,
			size_t len, uint8_t *dst,
			struct bale_disk_container_chunk *e, size_t *ret_len)
{
	struct bale_job j = {
		.op = BALE_JOB_ENCODE,
		.codec = p.codec,
		.level = p.level,
		.filter = p.filter,
		.src = src,
		.src_len = len,
		.dst = dst,
		.dst_cap = bale_codec_bound(len),
	};

	bale_codec_run(&j);
	if (j.status)
		return j.status;
	if (j.ret_codec == BALE_CODEC_raw) {
		if (j.reason == BALE_RAW_error)
			return -ENOMEM;
		memcpy(dst, src, len);
		j.len = len;
	}
	*e = (struct bale_disk_container_chunk){
		.stored_len = le32_put((uint32_t)j.len),
		.crc = le32_put(bale_crc32c(0, dst, j.len)),
		.codec = j.ret_codec,
		.filter = j.ret_filter,
		.level = (uint8_t)j.ret_level,
	};
	*ret_len = j.len;
	return 0;
}

static uint32_t head_crc(struct bale_disk_container h)
{
	h.crc = le32_put(0);
	return bale_crc32c(0, &h, sizeof(h));
}

int bale_container_encode(const struct bale_container_opts *opts,
			  const void *src, size_t len, void *dst, size_t cap,
			  size_t *ret_len)
{
	struct bale_disk_container h = { .version = le32_put(
						 BALE_CONTAINER_VERSION) };
	struct bale_container_info info = { .raw_len = len };
	struct bale_codec_policy p;
	uint8_t *out = dst;
	size_t pos, table;
	uint64_t bound;
	int r = bale_container_bound(opts, len, &bound);

	if (!r)
		r = check_opts(opts, &p, &info.chunk_size);
	if (r)
		return r;
	if (cap < bound)
		return -ENOSPC;
	info.nr_chunks = nr_chunks(len, info.chunk_size);
	table = (size_t)info.nr_chunks * ENTRY;
	pos = HEAD + table;
	for (uint32_t i = 0; i < info.nr_chunks; i++) {
		struct bale_disk_container_chunk e;
		size_t n;

		r = encode_chunk(
			p, (const uint8_t *)src + (size_t)i * info.chunk_size,
			chunk_len(&info, i), out + pos, &e, &n);
		if (r)
			return r;
		memcpy(out + HEAD + (size_t)i * ENTRY, &e, ENTRY);
		pos += n;
	}
	memcpy(h.magic, BALE_CONTAINER_MAGIC, sizeof(h.magic));
	h.chunk_size = le32_put(info.chunk_size);
	h.raw_len = le64_put(len);
	h.stored_len = le64_put(pos);
	h.nr_chunks = le32_put(info.nr_chunks);
	h.table_crc = le32_put(bale_crc32c(0, out + HEAD, table));
	h.codec = p.codec;
	h.level = (uint8_t)p.level;
	h.filter = p.filter;
	h.crc = le32_put(head_crc(h));
	memcpy(out, &h, sizeof(h));
	*ret_len = pos;
	return 0;
}

int bale_container_head(const void *buf, size_t len,
			struct bale_container_info *ret)
{
	struct bale_container_info i = { 0 };
	struct bale_disk_container h;
	uint64_t head;

	if (!buf || len < sizeof(h))
		return -EUCLEAN;
	memcpy(&h, buf, sizeof(h));
	if (memcmp(h.magic, BALE_CONTAINER_MAGIC, sizeof(h.magic)))
		return -EUCLEAN;
	if (le32_get(h.crc) != head_crc(h))
		return -EBADMSG;
	if (le32_get(h.version) != BALE_CONTAINER_VERSION)
		return -EOPNOTSUPP;
	i.chunk_size = le32_get(h.chunk_size);
	i.raw_len = le64_get(h.raw_len);
	i.stored_len = le64_get(h.stored_len);
	i.nr_chunks = le32_get(h.nr_chunks);
	i.codec = h.codec;
	i.level = (int8_t)h.level;
	i.filter = h.filter;
	if (!good_chunk_size(i.chunk_size) || i.raw_len > BALE_CONTAINER_MAX ||
	    i.nr_chunks != nr_chunks(i.raw_len, i.chunk_size) ||
	    !all_zero(h.reserved, sizeof(h.reserved)))
		return -EUCLEAN;
	/* At least a byte a chunk, and no more than decoded. */
	head = HEAD + (uint64_t)i.nr_chunks * ENTRY;
	if (i.stored_len < head + i.nr_chunks ||
	    i.stored_len > head + i.raw_len)
		return -EUCLEAN;
	if (i.codec == BALE_CODEC_auto ? i.filter != 0 :
					 !bale_codec_known(i.codec, i.filter))
		return -EOPNOTSUPP;
	*ret = i;
	return 0;
}

/* May a container of this header hold such a chunk? */
static bool chunk_in_range(const struct bale_container_info *info,
			   const struct bale_disk_container_chunk *e,
			   size_t raw, uint64_t left)
{
	uint32_t n = le32_get(e->stored_len);
	bool plain = e->codec == BALE_CODEC_raw || e->codec == BALE_CODEC_fill;

	if (!n || n > left || n > raw || e->reserved)
		return false;
	if (plain)
		return !e->filter;
	if (info->codec == BALE_CODEC_auto)
		return !e->filter && bale_codec_known(e->codec, 0);
	return e->codec == info->codec && e->filter == info->filter;
}

static int decode_chunk(const struct bale_disk_container_chunk *e,
			const uint8_t *src, uint8_t *dst, size_t len)
{
	struct bale_job j = {
		.op = BALE_JOB_DECODE,
		.codec = e->codec,
		.filter = e->filter,
		.level = (int8_t)e->level,
		.src = src,
		.src_len = le32_get(e->stored_len),
		.dst = dst,
		.dst_cap = len,
	};

	if (bale_crc32c(0, src, j.src_len) != le32_get(e->crc))
		return -EBADMSG;
	bale_codec_run(&j);
	return j.status;
}

static int decode_chunks(const struct bale_container_info *info,
			 const uint8_t *src, uint8_t *dst)
{
	uint64_t pos = HEAD + (uint64_t)info->nr_chunks * ENTRY;

	for (uint32_t i = 0; i < info->nr_chunks; i++) {
		struct bale_disk_container_chunk e;
		size_t raw = chunk_len(info, i);
		int r;

		memcpy(&e, src + HEAD + (size_t)i * ENTRY, ENTRY);
		if (!chunk_in_range(info, &e, raw, info->stored_len - pos))
			return -EUCLEAN;
		r = decode_chunk(&e, src + pos,
				 dst + (uint64_t)i * info->chunk_size, raw);
		if (r)
			return r;
		pos += le32_get(e.stored_len);
	}
	return pos == info->stored_len ? 0 : -EUCLEAN;
}

int bale_container_decode(const void *src, size_t len, void *dst, size_t cap,
			  size_t *ret_len)
{
	struct bale_disk_container h;
	struct bale_container_info info;
	int r = bale_container_head(src, len, &info);

	if (r)
		return r;
	if (len != info.stored_len)
		return -EUCLEAN;
	if (cap < info.raw_len)
		return -ENOSPC;
	memcpy(&h, src, sizeof(h));
	if (bale_crc32c(0, (const uint8_t *)src + HEAD,
			(size_t)info.nr_chunks * ENTRY) !=
	    le32_get(h.table_crc))
		return -EBADMSG;
	r = decode_chunks(&info, src, dst);
	if (!r)
		*ret_len = (size_t)info.raw_len;
	return r;
}
