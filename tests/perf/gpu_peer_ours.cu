/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_peer_ours.cu - the buffers of gpu_peer, and balefs's coders on them. */
#include "kernels/simt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <csignal>
#include <cstdarg>
#include <unistd.h>

#include "balefs/device.h"
#include "tests/perf/gpu_peer_coders.cuh"

int peer_cuda_check(cudaError_t err, const char *what, const char *file,
		    int line)
{
	if (err == cudaSuccess)
		return 0;
	fprintf(stderr, "%s:%d: %s: %s\n", file, line, what,
		cudaGetErrorString(err));
	return -1;
}

int peer_copy(struct peer_buffers *b, void *dst, const void *src, size_t len,
	      enum cudaMemcpyKind kind)
{
	return PEER_CUDA(cudaMemcpyAsync(dst, src, len, kind, b->stream)) ||
	       PEER_CUDA(cudaStreamSynchronize(b->stream));
}

int peer_spoil(struct peer_buffers *b, void *dst, size_t len)
{
	return PEER_CUDA(cudaMemsetAsync(dst, 0xa5, len, b->stream));
}

static char step_text[160];

static void on_alarm(int)
{
	static const char head[] = "hung: ";

	if (write(2, head, sizeof(head) - 1) < 0 ||
	    write(2, step_text, strlen(step_text)) < 0 || write(2, "\n", 1) < 0)
		_exit(6);
	_exit(5);
}

void peer_step(const char *fmt, ...)
{
	va_list ap;

	alarm(0);
	va_start(ap, fmt);
	vsnprintf(step_text, sizeof(step_text), fmt, ap);
	va_end(ap);
	signal(SIGALRM, on_alarm);
	alarm(PEER_STEP_SECONDS);
}

template <typename T> static int take(T **ret, size_t nr)
{
	return PEER_CUDA(cudaMalloc((void **)ret, nr * sizeof(T)));
}

/* Pointers and lengths that never change: units lie one after another. */
static int fill_tables(struct peer_buffers *b)
{
	size_t nr = b->nr_max;
	void **ptrs = static_cast<void **>(calloc(nr, sizeof(*ptrs)));
	size_t *lens = static_cast<size_t *>(calloc(nr, sizeof(*lens)));
	uint32_t *lens32 = static_cast<uint32_t *>(calloc(nr, 4));
	uint8_t *const bases[] = { b->src, b->coded, b->back };
	void **const tables[] = { b->src_ptrs, b->coded_ptrs, b->back_ptrs };
	int r = ptrs && lens && lens32 ? 0 : -1;

	for (int t = 0; t < 3 && !r; t++) {
		for (size_t i = 0; i < nr; i++)
			ptrs[i] = bases[t] +
				  i * (t == 1 ? b->stride : (size_t)PEER_UNIT);
		r = peer_copy(b, tables[t], ptrs, nr * sizeof(*ptrs),
			      cudaMemcpyHostToDevice);
	}
	for (size_t i = 0; i < nr && !r; i++) {
		lens[i] = PEER_UNIT;
		lens32[i] = PEER_UNIT;
	}
	if (!r)
		r = peer_copy(b, b->unit_len64, lens, nr * sizeof(*lens),
			      cudaMemcpyHostToDevice) ||
		    peer_copy(b, b->unit_len32, lens32, nr * 4,
			      cudaMemcpyHostToDevice);
	for (size_t i = 0; i < nr && !r; i++)
		lens32[i] = static_cast<uint32_t>(b->stride);
	if (!r)
		r = peer_copy(b, b->cap32, lens32, nr * 4,
			      cudaMemcpyHostToDevice);
	free(ptrs);
	free(lens);
	free(lens32);
	return r ? -1 : 0;
}

int peer_buffers_create(struct peer_buffers *b, size_t nr_max)
{
	memset(b, 0, sizeof(*b));
	b->nr_max = nr_max;
	/* Above the bound that any of the coders states for a unit. */
	b->stride = 160 << 10;
	if (take(&b->src, nr_max * PEER_UNIT) ||
	    take(&b->coded, nr_max * b->stride) ||
	    take(&b->back, nr_max * PEER_UNIT) || take(&b->src_ptrs, nr_max) ||
	    take(&b->coded_ptrs, nr_max) || take(&b->back_ptrs, nr_max) ||
	    take(&b->unit_len32, nr_max) || take(&b->cap32, nr_max) ||
	    take(&b->coded_len32, nr_max) || take(&b->back_len32, nr_max) ||
	    take(&b->status, nr_max) || take(&b->unit_len64, nr_max) ||
	    take(&b->coded_len64, nr_max) || take(&b->back_len64, nr_max))
		return -1;
	if (PEER_CUDA(cudaMallocHost((void **)&b->host, nr_max * PEER_UNIT)) ||
	    PEER_CUDA(cudaMallocHost((void **)&b->host_len, nr_max * 4)) ||
	    PEER_CUDA(cudaMallocHost((void **)&b->got, nr_max * PEER_UNIT)) ||
	    PEER_CUDA(cudaMallocHost((void **)&b->got_len, nr_max * 8)) ||
	    PEER_CUDA(cudaStreamCreateWithFlags(&b->stream,
						cudaStreamNonBlocking)))
		return -1;
	return fill_tables(b);
}

void peer_buffers_destroy(struct peer_buffers *b)
{
	void *const all[] = { b->src,	      b->coded,	      b->back,
			      b->temp,	      b->src_ptrs,    b->coded_ptrs,
			      b->back_ptrs,   b->unit_len32,  b->cap32,
			      b->coded_len32, b->back_len32,  b->status,
			      b->unit_len64,  b->coded_len64, b->back_len64 };

	for (void *p : all)
		cudaFree(p);
	cudaFreeHost(b->host);
	cudaFreeHost(b->host_len);
	cudaFreeHost(b->got);
	cudaFreeHost(b->got_len);
	if (b->stream)
		cudaStreamDestroy(b->stream);
	memset(b, 0, sizeof(*b));
}

int peer_buffers_load(struct peer_buffers *b, const struct peer_data *d,
		      size_t nr)
{
	b->nr = nr;
	if (peer_data_batch(d, b->host, nr))
		return -1;
	return peer_copy(b, b->src, b->host, nr * PEER_UNIT,
			 cudaMemcpyHostToDevice);
}

/* ---- balefs ---- */

static struct bale_device_opts our_opts(const struct peer_coder *c)
{
	struct bale_device_opts opts = {};

	opts.struct_size = sizeof(opts);
	opts.codec =
		strcmp(c->format, "lz4") ? BALE_CODEC_gdeflate : BALE_CODEC_lz4;
	opts.level = static_cast<int8_t>(c->level);
	opts.max_chunk = PEER_UNIT;
	return opts;
}

static size_t our_bound(const struct peer_coder *c)
{
	struct bale_device_opts opts = our_opts(c);
	size_t len = 0;

	return bale_device_bound(&opts, &len) ? 0 : len;
}

static size_t our_temp(const struct peer_coder *c, size_t nr, bool decode)
{
	struct bale_device_opts opts = our_opts(c);
	size_t len = 0;
	int r = decode ? bale_device_decode_temp(&opts, nr, &len) :
			 bale_device_encode_temp(&opts, nr, &len);

	return r ? 0 : len + 256; /* 0 would say that it cannot */
}

static int our_encode(const struct peer_coder *c, struct peer_buffers *b)
{
	struct bale_device_opts opts = our_opts(c);

	return bale_device_encode(&opts, b->nr, b->src_ptrs, b->unit_len32,
				  b->coded_ptrs, b->cap32, b->coded_len32,
				  b->status, b->temp, b->temp_cap, b->stream);
}

static int our_decode(const struct peer_coder *c, struct peer_buffers *b)
{
	struct bale_device_opts opts = our_opts(c);

	return bale_device_decode(&opts, b->nr, b->coded_ptrs, b->coded_len32,
				  b->back_ptrs, b->unit_len32, b->back_len32,
				  b->status, b->temp, b->temp_cap, b->stream);
}

int peer_our_coders(struct peer_coder *list, size_t *nr)
{
	static const struct {
		const char *name;
		unsigned int id;
	} codecs[] = { { "lz4", BALE_CODEC_lz4 },
		       { "gdeflate", BALE_CODEC_gdeflate } };

	for (const auto &codec : codecs) {
		int min, max;

		if (bale_device_levels(codec.id, &min, &max))
			continue;
		for (int level = min; level <= max; level++) {
			if (!level) /* names another one */
				continue;
			if (*nr == PEER_CODERS_MAX)
				return -1;
			struct peer_coder *c = &list[(*nr)++];

			memset(c, 0, sizeof(*c));
			c->who = "balefs";
			c->format = codec.name;
			c->level = level;
			c->bound = our_bound;
			c->temp = our_temp;
			c->encode = our_encode;
			c->decode = our_decode;
		}
	}
	return 0;
}
