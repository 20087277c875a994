// SPDX-License-Identifier: Apache-2.0
//
// The kernels timed by events around each call. Everything that a measurement
// needs is one allocation on the device and one on the host, cut into parts.
#include "kernels/simt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/measure.h"

namespace
{

constexpr size_t kAlign = 256; // device.h asks it of temp

// Parts of one allocation; a NULL base only counts.
struct Arena {
	uint8_t *base;
	size_t used;
};

template <typename T> T *take(struct Arena *a, size_t nr)
{
	size_t at = a->used;

	a->used += (nr * sizeof(T) + kAlign - 1) / kAlign * kAlign;
	return a->base ? reinterpret_cast<T *>(a->base + at) : nullptr;
}

struct Measurement {
	const struct bale_device_opts *opts;
	const uint8_t *content; // host
	const uint32_t *len;	// host
	size_t nr, bytes;
	size_t bound, temp_len;
	// device
	struct Arena device;
	uint8_t *src, *coded, *back, *temp;
	void **src_ptr, **coded_ptr, **back_ptr;
	uint32_t *src_len, *cap, *coded_len, *back_len, *status;
	// host
	struct Arena host;
	uint8_t *got;
	void **ptrs;
	uint32_t *lens;
	cudaStream_t stream;
	cudaEvent_t start, end;
};

int error_of(cudaError_t err)
{
	switch (err) {
	case cudaSuccess:
		return 0;
	case cudaErrorMemoryAllocation:
		return -ENOMEM;
	case cudaErrorNoDevice:
	case cudaErrorInvalidDevice:
	case cudaErrorInsufficientDriver:
		return -ENODEV;
	default:
		return -EIO;
	}
}

void lay_out(struct Measurement *m)
{
	m->device.used = m->host.used = 0;
	m->src = take<uint8_t>(&m->device, m->bytes);
	m->back = take<uint8_t>(&m->device, m->bytes);
	m->coded = take<uint8_t>(&m->device, m->nr * m->bound);
	m->temp = take<uint8_t>(&m->device, m->temp_len);
	m->src_ptr = take<void *>(&m->device, m->nr);
	m->coded_ptr = take<void *>(&m->device, m->nr);
	m->back_ptr = take<void *>(&m->device, m->nr);
	m->src_len = take<uint32_t>(&m->device, m->nr);
	m->cap = take<uint32_t>(&m->device, m->nr);
	m->coded_len = take<uint32_t>(&m->device, m->nr);
	m->back_len = take<uint32_t>(&m->device, m->nr);
	m->status = take<uint32_t>(&m->device, m->nr);
	m->got = take<uint8_t>(&m->host, m->bytes);
	m->ptrs = take<void *>(&m->host, m->nr);
	m->lens = take<uint32_t>(&m->host, m->nr);
}

int find_sizes(struct Measurement *m)
{
	size_t encode = 0, decode = 0;
	int r = bale_device_bound(m->opts, &m->bound);

	if (r)
		return r;
	for (size_t i = 0; i < m->nr; i++) {
		if (m->len[i] > m->opts->max_chunk)
			return -EINVAL;
		m->bytes += m->len[i];
	}
	m->bound = (m->bound + 15) / 16 * 16;
	r = bale_device_encode_temp(m->opts, m->nr, &encode);
	if (!r)
		r = bale_device_decode_temp(m->opts, m->nr, &decode);
	m->temp_len = encode > decode ? encode : decode;
	return r;
}

// On the kernels' own stream, and waited for: the default stream, whose copies
// may go on after the call, would race with them.
cudaError_t copy(struct Measurement *m, void *dst, const void *src, size_t len,
		 cudaMemcpyKind kind)
{
	cudaError_t err = cudaMemcpyAsync(dst, src, len, kind, m->stream);

	return err == cudaSuccess ? cudaStreamSynchronize(m->stream) : err;
}

cudaError_t to_device(struct Measurement *m, void *dst, const void *src,
		      size_t len)
{
	return copy(m, dst, src, len, cudaMemcpyHostToDevice);
}

cudaError_t to_host(struct Measurement *m, void *dst, const void *src,
		    size_t len)
{
	return copy(m, dst, src, len, cudaMemcpyDeviceToHost);
}

// Pointers to chunks that lie one after another, or `stride` apart.
cudaError_t load_pointers(struct Measurement *m, void **d_ptrs, uint8_t *base,
			  size_t stride)
{
	size_t at = 0;

	for (size_t i = 0; i < m->nr; i++) {
		m->ptrs[i] = base + at;
		at += stride ? stride : m->len[i];
	}
	return to_device(m, d_ptrs, m->ptrs, m->nr * sizeof(*m->ptrs));
}

cudaError_t load(struct Measurement *m)
{
	cudaError_t err = to_device(m, m->src, m->content, m->bytes);

	for (size_t i = 0; i < m->nr; i++)
		m->lens[i] = static_cast<uint32_t>(m->bound);
	if (err == cudaSuccess)
		err = to_device(m, m->cap, m->lens, m->nr * sizeof(*m->lens));
	if (err == cudaSuccess)
		err = to_device(m, m->src_len, m->len, m->nr * sizeof(*m->len));
	if (err == cudaSuccess)
		err = load_pointers(m, m->src_ptr, m->src, 0);
	if (err == cudaSuccess)
		err = load_pointers(m, m->back_ptr, m->back, 0);
	if (err == cudaSuccess)
		err = load_pointers(m, m->coded_ptr, m->coded, m->bound);
	return err;
}

int open_measurement(struct Measurement *m, uint32_t device)
{
	cudaError_t err;
	int r = find_sizes(m);

	if (r)
		return r;
	err = cudaSetDevice(static_cast<int>(device));
	if (err != cudaSuccess)
		return error_of(err);
	lay_out(m);
	m->host.base = static_cast<uint8_t *>(malloc(m->host.used));
	if (!m->host.base)
		return -ENOMEM;
	err = cudaMalloc(&m->device.base, m->device.used);
	if (err != cudaSuccess)
		return error_of(err);
	lay_out(m);
	err = cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking);
	if (err == cudaSuccess)
		err = load(m);
	if (err == cudaSuccess)
		err = cudaEventCreate(&m->start);
	if (err == cudaSuccess)
		err = cudaEventCreate(&m->end);
	return error_of(err);
}

void close_measurement(struct Measurement *m)
{
	if (m->start)
		cudaEventDestroy(m->start);
	if (m->end)
		cudaEventDestroy(m->end);
	if (m->stream)
		cudaStreamDestroy(m->stream);
	cudaFree(m->device.base);
	free(m->host.base);
	cudaGetLastError(); // what failed was told; the next caller is clean
}

int encode(struct Measurement *m)
{
	return bale_device_encode(m->opts, m->nr, m->src_ptr, m->src_len,
				  m->coded_ptr, m->cap, m->coded_len, m->status,
				  m->temp, m->temp_len, m->stream);
}

int decode(struct Measurement *m)
{
	return bale_device_decode(m->opts, m->nr, m->coded_ptr, m->coded_len,
				  m->back_ptr, m->src_len, m->back_len,
				  m->status, m->temp, m->temp_len, m->stream);
}

typedef int code_fn(struct Measurement *m);

// One call, waited for; statuses of it in m->lens.
int run_once(struct Measurement *m, code_fn *fn)
{
	int r = fn(m);

	if (!r)
		r = error_of(cudaStreamSynchronize(m->stream));
	if (!r)
		r = error_of(to_host(m, m->lens, m->status,
				     m->nr * sizeof(*m->lens)));
	return r;
}

int check_encode(struct Measurement *m, struct bale_device_figures *f)
{
	int r = run_once(m, encode);

	for (size_t i = 0; i < m->nr && !r; i++)
		f->wrong += m->lens[i] != BALE_CHUNK_OK;
	if (!r)
		r = error_of(to_host(m, m->lens, m->coded_len,
				     m->nr * sizeof(*m->lens)));
	for (size_t i = 0; i < m->nr && !r; i++)
		f->coded_bytes +=
			m->lens[i] < m->len[i] ? m->lens[i] : m->len[i];
	return r;
}

int check_decode(struct Measurement *m, struct bale_device_figures *f)
{
	uint64_t bad = 0, differ = 0;
	size_t at = 0;
	int r = error_of(cudaMemsetAsync(m->back, 0xa5, m->bytes, m->stream));

	if (!r)
		r = run_once(m, decode);
	for (size_t i = 0; i < m->nr && !r; i++)
		bad += m->lens[i] != BALE_CHUNK_OK;
	if (!r)
		r = error_of(to_host(m, m->got, m->back, m->bytes));
	for (size_t i = 0; i < m->nr && !r; at += m->len[i++])
		differ += memcmp(m->got + at, m->content + at, m->len[i]) != 0;
	f->wrong += bad > differ ? bad : differ;
	return r;
}

int compare_floats(const void *a, const void *b)
{
	float x = *static_cast<const float *>(a);
	float y = *static_cast<const float *>(b);

	return (x > y) - (x < y);
}

int time_passes(struct Measurement *m, code_fn *fn, unsigned int passes,
		double *ret_ns)
{
	float ms[BALE_MEASURE_PASSES_MAX];

	for (unsigned int i = 0; i < passes; i++) {
		cudaError_t err = cudaEventRecord(m->start, m->stream);
		int r = err == cudaSuccess ? fn(m) : error_of(err);

		if (r)
			return r;
		err = cudaEventRecord(m->end, m->stream);
		if (err == cudaSuccess)
			err = cudaStreamSynchronize(m->stream);
		if (err == cudaSuccess)
			err = cudaEventElapsedTime(&ms[i], m->start, m->end);
		if (err != cudaSuccess)
			return error_of(err);
	}
	qsort(ms, passes, sizeof(*ms), compare_floats);
	*ret_ns = static_cast<double>(ms[passes / 2]) * 1e6;
	return 0;
}

} // namespace

int bale_device_measure(uint32_t device, const struct bale_device_opts *opts,
			const void *src, const uint32_t *len, size_t nr,
			unsigned int passes, struct bale_device_figures *ret)
{
	struct bale_device_figures f = {};
	struct Measurement m = {};
	int r;

	if (!nr || !passes || passes > BALE_MEASURE_PASSES_MAX)
		return -EINVAL;
	m.opts = opts;
	m.content = static_cast<const uint8_t *>(src);
	m.len = len;
	m.nr = nr;
	r = open_measurement(&m, device);
	if (!r)
		r = check_encode(&m, &f);
	if (!r)
		r = check_decode(&m, &f);
	if (!r && !f.wrong)
		r = time_passes(&m, encode, passes, &f.encode_ns);
	if (!r && !f.wrong)
		r = time_passes(&m, decode, passes, &f.decode_ns);
	close_measurement(&m);
	if (!r)
		*ret = f;
	return r;
}
