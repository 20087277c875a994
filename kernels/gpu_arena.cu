// SPDX-License-Identifier: Apache-2.0
//
// The memory of an open device: all of it taken at once by open, divided here,
// and what the caller has pinned.
#include "kernels/simt.h"
#include "kernels/gpu_ctx.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace
{

constexpr size_t kAlign = 256;

size_t align_up(size_t n)
{
	return (n + kAlign - 1) / kAlign * kAlign;
}

// Gives out pieces of one block; without a base it only counts.
struct Cutter {
	uint8_t *base;
	size_t used;

	template <typename T> void take(T **ret, size_t nr)
	{
		if (base)
			*ret = reinterpret_cast<T *>(base + used);
		used += align_up(nr * sizeof(T));
	}
};

// What a codec's kernels need at most, at any level.
size_t temp_of(uint32_t units)
{
	size_t most = 0;

	for (uint8_t codec = BALE_CODEC_lz4; codec <= BALE_CODEC_gdeflate;
	     codec++) {
		int min, max;

		if (bale_device_levels(codec, &min, &max))
			continue;
		for (int level = min; level <= max; level++) {
			struct bale_device_opts o = {};
			size_t n = 0;

			o.struct_size = sizeof(o);
			o.codec = codec;
			o.level = static_cast<int8_t>(level);
			o.max_chunk = BALE_UNIT_SIZE;
			if (level && !bale_device_encode_temp(&o, units, &n) &&
			    n > most)
				most = n;
			if (!bale_device_decode_temp(&o, units, &n) && n > most)
				most = n;
		}
	}
	return most;
}

void cut_units(Cutter *c, struct bale_units *u, uint32_t n)
{
	u->nr = n;
	c->take(&u->src, n);
	c->take(&u->src_len, n);
	c->take(&u->dst, n);
	c->take(&u->dst_cap, n);
	c->take(&u->dst_len, n);
	c->take(&u->status, n);
}

size_t report_len(uint32_t n)
{
	return sizeof(struct bale_gpu_report) +
	       n * (sizeof(struct bale_unit_result) +
		    sizeof(struct bale_unit_look));
}

// Device memory for slots of n units; with d_all it is divided.
size_t cut_device(struct bale_gpu *g, uint32_t n)
{
	const size_t bytes = static_cast<size_t>(n) * BALE_UNIT_SIZE;
	Cutter c = { g->d_all, 0 };

	g->temp_len = temp_of(n);
	for (uint32_t i = 0; i < g->cfg.nr_slots; i++) {
		struct bale_gpu_slot *s = &g->slots[i];
		uint8_t *report = nullptr;

		c.take(&s->d_in, bytes);
		c.take(&s->d_out, bytes);
		c.take(&s->coded, bytes);
		c.take(&s->filtered, bytes);
		c.take(&s->temp, g->temp_len);
		c.take(&s->d_jobs, n);
		c.take(&report, report_len(n));
		s->d_report =
			reinterpret_cast<struct bale_gpu_report *>(report);
		c.take(&s->filtered_at, n);
		cut_units(&c, &s->u, n);
		cut_units(&c, &s->v, n);
		c.take(&s->unit_off, n);
		c.take(&s->plain, n);
	}
	return c.used;
}

size_t cut_pinned(struct bale_gpu *g, uint32_t n)
{
	const size_t bytes = static_cast<size_t>(n) * BALE_UNIT_SIZE;
	Cutter c = { g->h_all, 0 };

	for (uint32_t i = 0; i < g->cfg.nr_slots; i++) {
		struct bale_gpu_slot *s = &g->slots[i];
		uint8_t *report = nullptr;

		c.take(&s->h_in, bytes);
		c.take(&s->h_out, bytes);
		c.take(&s->h_jobs, n);
		c.take(&report, report_len(n));
		s->h_report =
			reinterpret_cast<struct bale_gpu_report *>(report);
	}
	return c.used;
}

// The most units that both bounds allow; 0: not even a small batch.
uint32_t find_units(struct bale_gpu *g)
{
	uint32_t n = g->cfg.slot_units;

	if (!n)
		n = BALE_GPU_UNITS_MAX;

	while (n >= BALE_GPU_UNITS_MIN &&
	       (cut_device(g, n) > g->cfg.mem_bytes ||
		cut_pinned(g, n) > g->cfg.pinned_bytes))
		n -= n > 64 ? n / 16 : 1;
	return n >= BALE_GPU_UNITS_MIN ? n : 0;
}

bool open_lists(struct bale_gpu *g, uint32_t n)
{
	for (uint32_t i = 0; i < g->cfg.nr_slots; i++) {
		struct bale_gpu_slot *s = &g->slots[i];

		s->copies.dst = static_cast<void **>(calloc(n, sizeof(void *)));
		s->copies.src =
			static_cast<const void **>(calloc(n, sizeof(void *)));
		s->copies.len =
			static_cast<size_t *>(calloc(n, sizeof(size_t)));
		s->staged = static_cast<bool *>(calloc(n, sizeof(bool)));
		s->where = static_cast<int *>(calloc(n, sizeof(int)));
		if (!s->copies.dst || !s->copies.src || !s->copies.len ||
		    !s->staged || !s->where)
			return false;
	}
	return true;
}

} // namespace

int bale_gpu_arena_open(struct bale_gpu *g)
{
	uint32_t n = find_units(g);
	size_t d_len, h_len;
	int r;

	if (!n || !open_lists(g, n))
		return -ENOMEM;
	d_len = cut_device(g, n);
	h_len = cut_pinned(g, n);
	r = bale_gpu_error(g, cudaMalloc(&g->d_all, d_len));
	if (!r)
		r = bale_gpu_error(g, cudaHostAlloc(&g->h_all, h_len,
						    cudaHostAllocPortable));
	if (r)
		return r;
	cut_device(g, n);
	cut_pinned(g, n);
	g->limits.slot_units = n;
	g->limits.mem_bytes = d_len;
	g->limits.pinned_bytes = h_len;
	g->slot_bytes = static_cast<size_t>(n) * BALE_UNIT_SIZE;
	g->report_len = report_len(n);
	return 0;
}

void bale_gpu_arena_close(struct bale_gpu *g)
{
	for (size_t i = 0; i < g->nr_pinned; i++)
		if (g->pinned[i].ours)
			(void)cudaHostUnregister(g->pinned[i].p);
	if (g->d_all)
		(void)cudaFree(g->d_all);
	if (g->h_all)
		(void)cudaFreeHost(g->h_all);
	for (uint32_t i = 0; i < g->cfg.nr_slots; i++) {
		struct bale_gpu_slot *s = &g->slots[i];

		free(s->copies.dst);
		free(s->copies.src);
		free(s->copies.len);
		free(s->staged);
		free(s->where);
	}
}

// Ranges that begin at or below at; they are in order.
static size_t count_below(const struct bale_gpu *g, const uint8_t *at)
{
	size_t lo = 0, hi = g->nr_pinned;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (g->pinned[mid].p <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bale_gpu_where(const struct bale_gpu *g, const void *p, size_t len)
{
	const uint8_t *at = static_cast<const uint8_t *>(p);
	size_t n = count_below(g, at);
	const struct bale_gpu_pinned *r = n ? &g->pinned[n - 1] : nullptr;

	if (!r || at >= r->p + r->len ||
	    len > static_cast<size_t>(r->p + r->len - at))
		return -1;
	return static_cast<int>(n - 1);
}

// -ENOMEM: there are too many. Lock held.
static int add_range(struct bale_gpu *g, uint8_t *p, size_t len, bool ours)
{
	size_t at = count_below(g, p);

	if (g->nr_pinned == BALE_GPU_RANGES_MAX_PINNED)
		return -ENOMEM;
	memmove(&g->pinned[at + 1], &g->pinned[at],
		(g->nr_pinned - at) * sizeof(g->pinned[0]));
	g->pinned[at] = { p, len, ours };
	g->nr_pinned++;
	return 0;
}

int bale_gpu_pin(struct bale_gpu *g, void *p, size_t len)
{
	int r = bale_gpu_error(g,
			       cudaSetDevice(static_cast<int>(g->cfg.device)));
	cudaError_t err;
	bool ours;

	if (r)
		return r;
	err = cudaHostRegister(p, len, cudaHostRegisterPortable);
	ours = err == cudaSuccess;
	if (!ours) {
		/* Another device's engine was first: as good. A refusal is the
		   only thing here that is not an error of the device. */
		(void)cudaGetLastError();
		if (err != cudaErrorHostMemoryAlreadyRegistered)
			return err == cudaErrorMemoryAllocation ? -ENOMEM :
								  -EIO;
	}
	pthread_mutex_lock(&g->lock);
	r = add_range(g, static_cast<uint8_t *>(p), len, ours);
	pthread_mutex_unlock(&g->lock);
	if (r && ours)
		(void)cudaHostUnregister(p);
	return r;
}

void bale_gpu_unpin(struct bale_gpu *g, void *p)
{
	bool ours = false;
	size_t at;

	pthread_mutex_lock(&g->lock);
	at = count_below(g, static_cast<uint8_t *>(p));
	if (at && g->pinned[at - 1].p == p) {
		ours = g->pinned[at - 1].ours;
		g->nr_pinned--;
		memmove(&g->pinned[at - 1], &g->pinned[at],
			(g->nr_pinned - (at - 1)) * sizeof(g->pinned[0]));
	}
	pthread_mutex_unlock(&g->lock);
	if (ours &&
	    cudaSetDevice(static_cast<int>(g->cfg.device)) == cudaSuccess) {
		(void)cudaHostUnregister(p);
		(void)cudaGetLastError();
	}
}
