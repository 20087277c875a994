/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_ctx.h - an open device as its own files see it: gpu_arena.cu has its
 * memory, gpu_queue.cu what a batch puts onto the streams, gpu_ctx.cu the rest.
 * Nothing else touches devices, streams and memory.
 *
 * A stream for the copies up and one for those down, for all slots, and one for
 * each slot's kernels: a batch is too small to fill a large device, those of
 * all slots are not. A batch goes up, is computed when that is done (an event),
 * and its results - a few bytes an extent - come down on its own stream. Only
 * when wait() has seen them the bytes are put onto the stream down, so that
 * nothing there ever waits for a kernel.
 */
#ifndef BALE_GPU_CTX_H
#define BALE_GPU_CTX_H

#include <pthread.h>

#include "balefs/gpu.h"
#include "kernels/kernels.h"

enum {
	BALE_GPU_RANGES_MAX_PINNED = 1024,
	BALE_GPU_UNITS_MIN = 16, /* fewer are no batch */
	BALE_GPU_UNITS_MAX = 1024,
	/* Of extents in a slot's buffers, and of payloads. */
	BALE_GPU_ALIGN = 16,
	/* Shorter ones are collected by the CPU: a copy of its own costs the
	   copy engine as much as 64 KiB do. */
	BALE_GPU_COPY_MIN = 64 << 10,
};

/* Copies of one batch in one direction; neighbours are one. */
struct bale_gpu_copies {
	size_t nr;
	void **dst;
	const void **src;
	size_t *len;
	int last; /* where the last one's host side is: see bale_gpu_where */
};

/* What comes down first. */
struct bale_gpu_report {
	uint64_t packed_len;
	uint32_t mismatches, reserved;
	/* struct bale_unit_result[units], struct bale_unit_look[units] */
};

/* How long a slot's last batch took until its report; ns 0: there was none. */
struct bale_gpu_pace {
	enum bale_job_op op;
	uint8_t codec;
	int8_t level;
	uint32_t nr_units;
	uint64_t ns;
};

struct bale_gpu_slot {
	bool busy;
	struct bale_gpu_pace pace;
	uint64_t submitted;	  /* CLOCK_MONOTONIC */
	struct bale_gpu_batch *b; /* for wait() alone */
	enum { BALE_GPU_COMPUTES, BALE_GPU_DOWNLOADS } phase;
	bool in_dst;
	uint32_t nr_units;
	/* on the device */
	uint8_t *d_in, *d_out;
	struct bale_unit_job *d_jobs;
	struct bale_gpu_report *d_report;
	uint8_t *coded;		/* a place of 64 KiB a unit */
	uint8_t *filtered;	/* the same */
	struct bale_units u, v; /* v: dst, dst_len, status only */
	void **filtered_at;
	uint64_t *unit_off;
	struct bale_unit_plain *plain;
	uint8_t *temp;
	/* pinned */
	uint8_t *h_in, *h_out;
	struct bale_unit_job *h_jobs;
	struct bale_gpu_report *h_report;
	/* plain */
	struct bale_gpu_copies copies;
	int *where;   /* extents' places among what is pinned */
	bool *staged; /* decode: the extent goes down into h_out */
	cudaStream_t compute;
	cudaEvent_t up, begin, end, report, down;
};

struct bale_gpu_pinned {
	uint8_t *p;
	size_t len;
	bool ours; /* else it was registered by somebody before */
};

struct bale_gpu {
	struct bale_gpu_config cfg;
	struct bale_gpu_limits limits;
	size_t slot_bytes; /* of each buffer of a slot */
	size_t report_len;
	cudaStream_t up, down;
	bool batch_copies;    /* the driver takes lists of copies; atomic */
	bool lost;	      /* atomic */
	pthread_mutex_t lock; /* pinned, nr_pinned */
	size_t temp_len;      /* of a slot */
	struct bale_gpu_slot slots[BALE_GPU_SLOTS_MAX];
	struct bale_gpu_pinned pinned[BALE_GPU_RANGES_MAX_PINNED]; /* by p */
	size_t nr_pinned;
	uint8_t *d_all, *h_all;
};

/* gpu_arena.cu */
int bale_gpu_arena_open(struct bale_gpu *g);
void bale_gpu_arena_close(struct bale_gpu *g);
/* Which registered range [p, p + len) lies in, < 0: none. Lock held. */
int bale_gpu_where(const struct bale_gpu *g, const void *p, size_t len);

/* gpu_queue.cu: put batch b onto the streams by slot s. *ret_any, after an
 * error too: something is on them. */
int bale_gpu_queue(struct bale_gpu *g, struct bale_gpu_slot *s,
		   const struct bale_gpu_batch *b, bool *ret_any);
/* And the bytes, after the report; if there are any. */
int bale_gpu_queue_down(struct bale_gpu *g, struct bale_gpu_slot *s,
			bool *ret_any);
/* Bytes and statuses to where the caller wants them. */
void bale_gpu_deliver(struct bale_gpu *g, struct bale_gpu_slot *s);

/* Until the next look at an event, waited for so long and sure not to come for
 * `sure` ns. Pure. */
uint64_t bale_gpu_nap_ns(uint64_t waited, uint64_t sure);

/* -errno of a call of the runtime; notes when the device is lost. */
int bale_gpu_error(struct bale_gpu *g, cudaError_t err);

static inline struct bale_unit_result *
bale_gpu_results(struct bale_gpu_report *r)
{
	return reinterpret_cast<struct bale_unit_result *>(r + 1);
}

static inline struct bale_unit_look *bale_gpu_looks(struct bale_gpu *g,
						    struct bale_gpu_report *r)
{
	return reinterpret_cast<struct bale_unit_look *>(bale_gpu_results(r) +
							 g->limits.slot_units);
}

#endif
