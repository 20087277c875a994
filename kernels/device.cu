/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.cu - what device.h promises: options checked, temp divided, the
 * codec's launcher called. The kernels are elsewhere.
 *
 * temp, in this order, each part a multiple of 256 bytes:
 *   with a filter: a slot per chunk for the filtered bytes, the slots'
 * addresses the codec's own
 */
#include "kernels/simt.h"

#include <cerrno>

#include "balefs/gdeflate.h"
#include "kernels/kernels.h"

namespace
{

struct Codec {
	int level_min, level_max, level_default;
	size_t (*bound)(uint32_t len);
	/* NULL: none needed. */
	size_t (*encode_temp)(int level, size_t nr, uint32_t max_chunk);
	size_t (*decode_temp)(size_t nr, uint32_t max_chunk);
	int (*encode)(int level, const struct bale_chunks *c);
	int (*decode)(const struct bale_chunks *c);
	int (*decoded_len)(const struct bale_chunks *c);
	bool filters;
};

size_t raw_bound(uint32_t len)
{
	return len;
}

size_t fill_bound(uint32_t len)
{
	return len < 8 ? len : 8;
}

/* A block of literals alone: the token, a length byte for each 255. */
size_t lz4_bound(uint32_t len)
{
	return len + len / 255 + 16;
}

size_t gdeflate_bound(uint32_t len)
{
	return bale_gd_tile_bound(len);
}

int raw_encode(int, const struct bale_chunks *c)
{
	return bale_raw_encode(c);
}

int fill_encode(int, const struct bale_chunks *c)
{
	return bale_fill_encode(c);
}

const Codec raw = { 0,
		    0,
		    0,
		    raw_bound,
		    nullptr,
		    nullptr,
		    raw_encode,
		    bale_raw_decode,
		    bale_raw_decoded_len,
		    false };
const Codec fill = { 0,	      0,       0,	    fill_bound,
		     nullptr, nullptr, fill_encode, bale_fill_decode,
		     nullptr, false };
const Codec lz4 = { 1,
		    3,
		    1,
		    lz4_bound,
		    bale_lz4_encode_temp,
		    bale_lz4_decode_temp,
		    bale_lz4_encode,
		    bale_lz4_decode,
		    bale_lz4_decoded_len,
		    true };
const Codec gdeflate = { -1,
			 3,
			 2,
			 gdeflate_bound,
			 bale_gdeflate_encode_temp,
			 nullptr,
			 bale_gdeflate_encode,
			 bale_gdeflate_decode,
			 bale_gdeflate_decoded_len,
			 true };

const Codec *codec_of(unsigned int id)
{
	switch (id) {
	case BALE_CODEC_raw:
		return &raw;
	case BALE_CODEC_fill:
		return &fill;
	case BALE_CODEC_lz4:
		return &lz4;
	case BALE_CODEC_gdeflate:
		return &gdeflate;
	default:
		return nullptr;
	}
}

/* A call's options after their check. */
struct Call {
	const Codec *codec;
	int level;
	unsigned int filter;
	uint32_t max_chunk;
	/* of temp */
	size_t slot_stride, slots_at, addresses_at, codec_at, codec_len, total;
};

size_t align_up(size_t n)
{
	return (n + 255) & ~static_cast<size_t>(255);
}

int check(const struct bale_device_opts *opts, Call *ret)
{
	Call c = {};

	if (!opts || opts->struct_size != sizeof(*opts))
		return -EINVAL;
	c.codec = codec_of(opts->codec);
	if (!c.codec)
		return -EOPNOTSUPP;
	c.level = opts->level ? opts->level : c.codec->level_default;
	if (c.level < c.codec->level_min || c.level > c.codec->level_max ||
	    opts->filter >= BALE_FILTER_NR ||
	    (opts->filter && !c.codec->filters) || opts->reserved ||
	    !opts->max_chunk || opts->max_chunk > BALE_UNIT_SIZE)
		return -EINVAL;
	c.filter = opts->filter;
	c.max_chunk = opts->max_chunk;
	*ret = c;
	return 0;
}

/* check(), and temp for nr chunks. */
int plan(const struct bale_device_opts *opts, size_t nr, bool encode, Call *ret)
{
	Call c;
	int r = check(opts, &c);

	if (r)
		return r;
	if (nr > BALE_DEVICE_CHUNKS_MAX)
		return -EINVAL;
	if (c.filter && nr) {
		c.slot_stride = (c.max_chunk + 15u) & ~static_cast<size_t>(15);
		c.addresses_at = align_up(nr * c.slot_stride);
		c.codec_at = c.addresses_at + align_up(nr * sizeof(void *));
	}
	if (encode && c.codec->encode_temp && nr)
		c.codec_len = c.codec->encode_temp(c.level, nr, c.max_chunk);
	if (!encode && c.codec->decode_temp && nr)
		c.codec_len = c.codec->decode_temp(nr, c.max_chunk);
	c.total = c.codec_at + align_up(c.codec_len);
	*ret = c;
	return 0;
}

struct bale_chunks chunks_of(const Call &call, size_t nr,
			     const void *const *src, const uint32_t *src_len,
			     void *const *dst, const uint32_t *dst_cap,
			     uint32_t *dst_len, uint32_t *status, void *temp,
			     bale_stream stream)
{
	struct bale_chunks c = {};

	c.nr = nr;
	c.src = src;
	c.src_len = src_len;
	c.dst = dst;
	c.dst_cap = dst_cap;
	c.dst_len = dst_len;
	c.status = status;
	c.max_chunk = call.max_chunk;
	/* Lengths are found without any. */
	if (temp && call.codec_len) {
		c.temp = static_cast<uint8_t *>(temp) + call.codec_at;
		c.temp_len = call.codec_len;
	}
	c.stream = static_cast<cudaStream_t>(stream);
	return c;
}

bool any_null(const void *src, const void *src_len, const void *dst,
	      const void *dst_cap, const void *dst_len, const void *status)
{
	return !src || !src_len || !dst || !dst_cap || !dst_len || !status;
}

bool temp_fits(const Call &call, const void *temp, size_t len)
{
	return len >= call.total &&
	       (!call.total ||
		(temp && !(reinterpret_cast<uintptr_t>(temp) & 255)));
}

} // namespace

int bale_device_levels(unsigned int codec, int *ret_min, int *ret_max)
{
	const Codec *c = codec_of(codec);

	if (!c)
		return -EOPNOTSUPP;
	*ret_min = c->level_min;
	*ret_max = c->level_max;
	return 0;
}

int bale_device_bound(const struct bale_device_opts *opts, size_t *ret_len)
{
	Call c;
	int r = check(opts, &c);

	if (!r)
		*ret_len = c.codec->bound(c.max_chunk);
	return r;
}

int bale_device_encode_temp(const struct bale_device_opts *opts, size_t nr,
			    size_t *ret_len)
{
	Call c;
	int r = plan(opts, nr, true, &c);

	if (!r)
		*ret_len = c.total;
	return r;
}

int bale_device_decode_temp(const struct bale_device_opts *opts, size_t nr,
			    size_t *ret_len)
{
	Call c;
	int r = plan(opts, nr, false, &c);

	if (!r)
		*ret_len = c.total;
	return r;
}

int bale_device_encode(const struct bale_device_opts *opts, size_t nr,
		       const void *const *d_src, const uint32_t *d_src_len,
		       void *const *d_dst, const uint32_t *d_dst_cap,
		       uint32_t *d_dst_len, uint32_t *d_status, void *d_temp,
		       size_t temp_len, bale_stream stream)
{
	struct bale_chunks c;
	Call call;
	int r = plan(opts, nr, true, &call);

	if (r || !nr)
		return r;
	if (any_null(d_src, d_src_len, d_dst, d_dst_cap, d_dst_len, d_status) ||
	    !temp_fits(call, d_temp, temp_len))
		return -EINVAL;
	c = chunks_of(call, nr, d_src, d_src_len, d_dst, d_dst_cap, d_dst_len,
		      d_status, d_temp, stream);
	if (call.filter) {
		uint8_t *temp = static_cast<uint8_t *>(d_temp);
		void **slots =
			reinterpret_cast<void **>(temp + call.addresses_at);

		r = bale_unit_slots(nr, temp, call.slot_stride, slots,
				    c.stream);
		if (!r)
			r = bale_unit_filter(call.filter, nr, d_src, d_src_len,
					     slots, call.max_chunk, c.stream);
		if (r)
			return r;
		c.src = slots;
	}
	return call.codec->encode(call.level, &c);
}

int bale_device_decode(const struct bale_device_opts *opts, size_t nr,
		       const void *const *d_src, const uint32_t *d_src_len,
		       void *const *d_dst, const uint32_t *d_dst_cap,
		       uint32_t *d_dst_len, uint32_t *d_status, void *d_temp,
		       size_t temp_len, bale_stream stream)
{
	uint8_t *temp = static_cast<uint8_t *>(d_temp);
	struct bale_chunks c;
	void **slots = nullptr;
	Call call;
	int r = plan(opts, nr, false, &call);

	if (r || !nr)
		return r;
	if (any_null(d_src, d_src_len, d_dst, d_dst_cap, d_dst_len, d_status) ||
	    !temp_fits(call, d_temp, temp_len))
		return -EINVAL;
	c = chunks_of(call, nr, d_src, d_src_len, d_dst, d_dst_cap, d_dst_len,
		      d_status, d_temp, stream);
	if (call.filter) {
		slots = reinterpret_cast<void **>(temp + call.addresses_at);
		c.dst = slots;
		r = bale_unit_slots(nr, temp, call.slot_stride, slots,
				    c.stream);
		if (r)
			return r;
	}
	r = call.codec->decode(&c);
	if (!r && call.filter)
		r = bale_unit_unfilter(call.filter, nr, slots, d_dst_cap, d_dst,
				       d_status, call.max_chunk, c.stream);
	return r;
}

int bale_device_decoded_len(const struct bale_device_opts *opts, size_t nr,
			    const void *const *d_src, const uint32_t *d_src_len,
			    uint32_t *d_len, uint32_t *d_status,
			    bale_stream stream)
{
	struct bale_chunks c;
	Call call;
	int r = plan(opts, nr, false, &call);

	if (!r && !call.codec->decoded_len)
		r = -EOPNOTSUPP;
	if (r || !nr)
		return r;
	if (!d_src || !d_src_len || !d_len || !d_status)
		return -EINVAL;
	c = chunks_of(call, nr, d_src, d_src_len, nullptr, nullptr, d_len,
		      d_status, nullptr, stream);
	return call.codec->decoded_len(&c);
}
