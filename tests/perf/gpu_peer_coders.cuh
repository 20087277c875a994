/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_peer_coders.cuh - coders on the device, balefs's and the peer library's,
 * behind one form, and the buffers that they share.
 */
#ifndef BALE_PERF_GPU_PEER_CODERS_CUH
#define BALE_PERF_GPU_PEER_CODERS_CUH

#include <cuda_runtime.h>

#include "tests/perf/gpu_peer.h"

/* What a batch of nr units occupies; all of it in device memory but for the
 * last. Ours counts in 32 bits, the peer in size_t: both are kept. */
struct peer_buffers {
	size_t nr_max, nr;
	size_t stride; /* from one coded unit to the next */
	uint8_t *src, *coded, *back, *temp;
	size_t temp_cap;
	void **src_ptrs, **coded_ptrs, **back_ptrs;
	uint32_t *unit_len32, *cap32, *coded_len32, *back_len32, *status;
	size_t *unit_len64, *coded_len64, *back_len64;
	cudaStream_t stream;
	/* Pinned: what was loaded, lengths or statuses, what was decoded. */
	uint8_t *host, *got;
	uint32_t *host_len;
	size_t *got_len;
};

int peer_buffers_create(struct peer_buffers *b, size_t nr_max);
void peer_buffers_destroy(struct peer_buffers *b);
int peer_buffers_load(struct peer_buffers *b, const struct peer_data *d,
		      size_t nr);

/* A copy, or 0xa5 everywhere, in order on b->stream and waited for: what runs
 * on another stream would race with the coders. */
int peer_copy(struct peer_buffers *b, void *dst, const void *src, size_t len,
	      enum cudaMemcpyKind kind);
int peer_spoil(struct peer_buffers *b, void *dst, size_t len);
/* What begins now; the program ends with status 5 and this text when the next
 * step has not begun after PEER_STEP_SECONDS. */
void peer_step(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
enum { PEER_STEP_SECONDS = 25 };

struct peer_coder;
typedef int peer_code_fn(const struct peer_coder *c, struct peer_buffers *b);

/* A coder; encode() and decode() queue on b->stream. */
struct peer_coder {
	const char *who;    /* "balefs", "nvcomp" */
	const char *format; /* "lz4" */
	int level;
	int variant; /* of the peer's options: a data type */
	bool wide;   /* coded lengths are in coded_len64 */
	/* Most bytes of a coded unit, and of temp for nr units; 0: cannot. */
	size_t (*bound)(const struct peer_coder *c);
	size_t (*temp)(const struct peer_coder *c, size_t nr, bool decode);
	peer_code_fn *encode, *decode;
	const void *api; /* the peer's functions */
};

enum { PEER_CODERS_MAX = 64 };

/* Append coders to list[*nr]. peer_nvcomp_coders(): path is the library. */
int peer_our_coders(struct peer_coder *list, size_t *nr);
int peer_nvcomp_coders(const char *path, struct peer_coder *list, size_t *nr);
/* Of the library that was opened; "" before. */
const char *peer_nvcomp_version(void);

#define PEER_CUDA(call) peer_cuda_check((call), #call, __FILE__, __LINE__)
int peer_cuda_check(cudaError_t err, const char *what, const char *file,
		    int line);

#endif
