/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_peer_nvcomp.cu - the coders of an nvCOMP 5 library that the user has,
 * opened at run time. Its batched functions have the same form for every
 * format; the declarations here are of that documented interface. Options are
 * structs of 64 bytes, passed by value, all zero but for the first fields.
 */
#include "kernels/simt.h"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>

#include "tests/perf/gpu_peer_coders.cuh"

namespace
{

struct nv_opts {
	union {
		int32_t word[16];
		uint64_t align;
	};
};
static_assert(sizeof(struct nv_opts) == 64, "as the library has it");

struct nv_properties {
	uint32_t version, cudart_version;
};

typedef int nv_properties_fn(struct nv_properties *ret);
typedef int nv_temp_fn(size_t nr, size_t unit_len, struct nv_opts opts,
		       size_t *ret, size_t total_len);
typedef int nv_bound_fn(size_t unit_len, struct nv_opts opts, size_t *ret);
typedef int nv_compress_fn(const void *const *src, const size_t *src_len,
			   size_t unit_len, size_t nr, void *temp,
			   size_t temp_len, void *const *dst, size_t *dst_len,
			   struct nv_opts opts, int *status, cudaStream_t st);
typedef int nv_decompress_fn(const void *const *src, const size_t *src_len,
			     const size_t *dst_cap, size_t *dst_len, size_t nr,
			     void *temp, size_t temp_len, void *const *dst,
			     struct nv_opts opts, int *status, cudaStream_t st);

struct nv_api {
	const char *format, *symbol;
	nv_temp_fn *compress_temp = nullptr, *decompress_temp = nullptr;
	nv_bound_fn *bound = nullptr;
	nv_compress_fn *compress = nullptr;
	nv_decompress_fn *decompress = nullptr;
};

struct nv_api apis[] = {
	{ "lz4", "LZ4" },	  { "gdeflate", "Gdeflate" },
	{ "deflate", "Deflate" }, { "zstd", "Zstd" },
	{ "snappy", "Snappy" },	  { "ans", "ANS" },
	{ "bitcomp", "Bitcomp" }, { "cascaded", "Cascaded" },
};

/* Data types of the library's enumeration. */
enum { NV_UCHAR = 1, NV_SHORT = 2, NV_USHORT = 3, NV_INT = 4, NV_FLOAT16 = 9 };

/* Which formats at which levels ("algorithm") and data types. */
const struct {
	const char *format;
	int level, variant;
} wanted[] = {
	{ "lz4", 0, 0 },
	{ "gdeflate", 0, 0 },
	{ "gdeflate", 1, 0 },
	{ "gdeflate", 2, 0 },
	{ "gdeflate", 4, 0 },
	{ "gdeflate", 5, 0 },
	{ "deflate", 1, 0 },
	{ "deflate", 4, 0 },
	{ "deflate", 5, 0 },
	{ "zstd", 0, 0 },
	{ "snappy", 0, 0 },
	{ "ans", 0, 0 },
	{ "ans", 0, NV_FLOAT16 },
	{ "bitcomp", 0, NV_UCHAR },
	{ "bitcomp", 0, NV_USHORT },
	{ "cascaded", 0, NV_INT },
	{ "cascaded", 0, NV_SHORT },
};

char version_text[32];

const struct nv_api *api_of(const struct peer_coder *c)
{
	return static_cast<const struct nv_api *>(c->api);
}

struct nv_opts compress_opts(const struct peer_coder *c)
{
	struct nv_opts o;

	memset(&o, 0, sizeof(o));
	if (!strcmp(c->format, "gdeflate") || !strcmp(c->format, "deflate")) {
		o.word[0] = c->level;
	} else if (!strcmp(c->format, "ans") || !strcmp(c->format, "bitcomp")) {
		o.word[0] = c->level;
		o.word[1] = c->variant;
	} else if (!strcmp(c->format, "cascaded")) {
		o.word[0] = 4096; /* the low half of a size_t */
		o.word[2] = c->variant;
		o.word[3] = 2; /* run lengths */
		o.word[4] = 1; /* deltas */
		o.word[5] = 1; /* bit packing */
	}
	return o;
}

/* All zero is the default of every format: it finds out by itself. */
struct nv_opts decompress_opts()
{
	struct nv_opts o;

	memset(&o, 0, sizeof(o));
	return o;
}

size_t nv_bound(const struct peer_coder *c)
{
	size_t len = 0;

	return api_of(c)->bound(PEER_UNIT, compress_opts(c), &len) ? 0 : len;
}

size_t nv_temp(const struct peer_coder *c, size_t nr, bool decode)
{
	size_t len = 0, total = nr * PEER_UNIT;
	int r = decode ?
			api_of(c)->decompress_temp(
				nr, PEER_UNIT, decompress_opts(), &len, total) :
			api_of(c)->compress_temp(nr, PEER_UNIT,
						 compress_opts(c), &len, total);

	return r ? 0 : len + 256;
}

int nv_encode(const struct peer_coder *c, struct peer_buffers *b)
{
	return api_of(c)->compress(
		b->src_ptrs, b->unit_len64, PEER_UNIT, b->nr, b->temp,
		b->temp_cap, b->coded_ptrs, b->coded_len64, compress_opts(c),
		reinterpret_cast<int *>(b->status), b->stream);
}

int nv_decode(const struct peer_coder *c, struct peer_buffers *b)
{
	return api_of(c)->decompress(
		b->coded_ptrs, b->coded_len64, b->unit_len64, b->back_len64,
		b->nr, b->temp, b->temp_cap, b->back_ptrs, decompress_opts(),
		reinterpret_cast<int *>(b->status), b->stream);
}

template <typename F>
bool find(void *lib, const char *symbol, const char *what, F **ret)
{
	char name[96];

	snprintf(name, sizeof(name), "nvcompBatched%s%s", symbol, what);
	*ret = reinterpret_cast<F *>(dlsym(lib, name));
	if (!*ret)
		fprintf(stderr, "no %s in the library\n", name);
	return *ret != nullptr;
}

bool bind(void *lib, struct nv_api *a)
{
	return find(lib, a->symbol, "CompressGetTempSizeAsync",
		    &a->compress_temp) &&
	       find(lib, a->symbol, "DecompressGetTempSizeAsync",
		    &a->decompress_temp) &&
	       find(lib, a->symbol, "CompressGetMaxOutputChunkSize",
		    &a->bound) &&
	       find(lib, a->symbol, "CompressAsync", &a->compress) &&
	       find(lib, a->symbol, "DecompressAsync", &a->decompress);
}

void *open_library(const char *path)
{
	struct nv_properties p = {};
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	nv_properties_fn *properties;

	if (!lib) {
		fprintf(stderr, "%s\n", dlerror());
		return nullptr;
	}
	properties = reinterpret_cast<nv_properties_fn *>(
		dlsym(lib, "nvcompGetProperties"));
	if (!properties || properties(&p) || p.version / 1000 != 5) {
		fprintf(stderr, "%s: version %u, want 5.x\n", path, p.version);
		return nullptr;
	}
	snprintf(version_text, sizeof(version_text), "%u.%u.%u",
		 p.version / 1000, p.version / 100 % 10, p.version % 100);
	return lib;
}

} // namespace

const char *peer_nvcomp_version(void)
{
	return version_text;
}

int peer_nvcomp_coders(const char *path, struct peer_coder *list, size_t *nr)
{
	void *lib = open_library(path);

	if (!lib)
		return -1;
	for (struct nv_api &a : apis)
		if (!bind(lib, &a))
			return -1;
	for (const auto &w : wanted) {
		if (*nr == PEER_CODERS_MAX)
			return -1;
		struct peer_coder *c = &list[(*nr)++];

		memset(c, 0, sizeof(*c));
		c->who = "nvcomp";
		c->format = w.format;
		c->level = w.level;
		c->variant = w.variant;
		c->wide = true;
		c->bound = nv_bound;
		c->temp = nv_temp;
		c->encode = nv_encode;
		c->decode = nv_decode;
		for (struct nv_api &a : apis)
			if (!strcmp(a.format, w.format))
				c->api = &a;
	}
	return 0;
}
