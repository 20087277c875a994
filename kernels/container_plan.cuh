/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container_plan.cuh - what container.cu knows before it launches anything:
 * options checked, the geometry of chunks and units, temp divided. Host code.
 *
 * Both directions divide temp in the same way, each part at 256 bytes:
 *   jobs, results, unit arrays (struct bale_units), offsets of units, plain
 *   pieces (decode), checksums' arguments, slots, the codec's own
 */
#ifndef BALE_CONTAINER_PLAN_CUH
#define BALE_CONTAINER_PLAN_CUH

#include <cerrno>

#include "balefs/container.h"
#include "balefs/unit.h"
#include "kernels/kernels.h"

namespace
{

constexpr size_t kHead = sizeof(struct bale_disk_container);
constexpr size_t kEntry = sizeof(struct bale_disk_container_chunk);

/* Parts of temp; all pointers NULL when only the size is asked for. */
struct Parts {
	struct bale_unit_job *jobs;
	struct bale_unit_result *results;
	struct bale_units u;
	uint64_t *unit_off;
	uint64_t *packed_len;
	struct bale_unit_plain *plain;
	const void **piece; /* a checksum each: chunks, then the table */
	uint32_t *piece_len, *piece_crc;
	void **filtered_at;
	uint8_t *slots, *filtered;
	uint8_t *codec;
	size_t codec_len, total;
};

/* Geometry, of options or of a header. */
struct Plan {
	struct bale_device_opts dev;
	bool coded; /* not raw throughout */
	uint64_t raw_len;
	uint32_t chunk_size, nr_chunks;
	size_t nr_units, per_chunk;
	uint8_t filter;
	int8_t level;
	Parts at;
};

class Divider
{
      public:
	explicit Divider(void *temp) : base_(static_cast<uint8_t *>(temp))
	{
	}
	template <typename T> T *take(size_t n)
	{
		uint8_t *p = base_ ? base_ + used_ : nullptr;

		used_ += (n * sizeof(T) + 255) & ~static_cast<size_t>(255);
		return reinterpret_cast<T *>(p);
	}
	size_t used() const
	{
		return used_;
	}

      private:
	uint8_t *base_;
	size_t used_ = 0;
};

void divide(Plan *p, bool encode, void *temp)
{
	Divider d(temp);
	size_t n = p->nr_units, c = p->nr_chunks;
	Parts *a = &p->at;

	a->jobs = d.take<struct bale_unit_job>(c);
	a->results = d.take<struct bale_unit_result>(c);
	a->u.nr = n;
	a->u.src = d.take<const void *>(n);
	a->u.src_len = d.take<uint32_t>(n);
	a->u.dst = d.take<void *>(n);
	a->u.dst_cap = d.take<uint32_t>(n);
	a->u.dst_len = d.take<uint32_t>(n);
	a->u.status = d.take<uint32_t>(n);
	a->unit_off = d.take<uint64_t>(encode ? n : 0);
	a->packed_len = d.take<uint64_t>(1);
	a->plain = d.take<struct bale_unit_plain>(encode ? 0 : n);
	a->piece = d.take<const void *>(c + 1);
	a->piece_len = d.take<uint32_t>(c + 1);
	a->piece_crc = d.take<uint32_t>(c + 1);
	a->filtered_at = d.take<void *>(encode && p->filter ? n : 0);
	a->slots =
		d.take<uint8_t>(encode || p->filter ? n * BALE_UNIT_SIZE : 0);
	a->filtered =
		d.take<uint8_t>(encode && p->filter ? n * BALE_UNIT_SIZE : 0);
	a->codec = d.take<uint8_t>(a->codec_len);
	a->total = d.used();
}

bool good_chunk_size(uint32_t n)
{
	return n >= BALE_EXTENT_MIN && n <= BALE_EXTENT_MAX && !(n & (n - 1));
}

/* Codec, level and filter as device.h checks them. */
int plan(uint8_t codec, int8_t level, uint8_t filter, uint64_t raw_len,
	 uint32_t chunk_size, bool encode, void *temp, Plan *ret)
{
	Plan p = {};
	size_t n;
	int r;

	if (codec != BALE_CODEC_raw && codec != BALE_CODEC_lz4 &&
	    codec != BALE_CODEC_gdeflate)
		return -EOPNOTSUPP;
	if (!good_chunk_size(chunk_size))
		return -EINVAL;
	if (raw_len > BALE_CONTAINER_MAX)
		return -EFBIG;
	p.coded = codec != BALE_CODEC_raw;
	p.filter = filter;
	p.level = level;
	p.raw_len = raw_len;
	p.chunk_size = chunk_size;
	p.nr_chunks =
		static_cast<uint32_t>((raw_len + chunk_size - 1) / chunk_size);
	p.per_chunk = chunk_size / BALE_UNIT_SIZE;
	p.nr_units = bale_units_nr(raw_len);
	p.dev.struct_size = sizeof(p.dev);
	p.dev.codec = codec;
	/* Of no account to decoders. */
	p.dev.level = encode ? level : 0;
	p.dev.filter = filter;
	p.dev.max_chunk = BALE_UNIT_SIZE;
	r = bale_device_bound(&p.dev, &n);
	if (r)
		return r;
	/* Filters are run here, since raw units hold filtered bytes. */
	p.dev.filter = 0;
	if (p.coded)
		r = encode ? bale_device_encode_temp(&p.dev, p.nr_units, &n) :
			     bale_device_decode_temp(&p.dev, p.nr_units, &n);
	if (r)
		return r;
	p.at.codec_len = p.coded ? n : 0;
	divide(&p, encode, temp);
	*ret = p;
	return 0;
}

} // namespace

#endif
