/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - the face of kernels/: which CUDA devices are there, and a device
 * opened to code batches of extents.
 *
 * The same functions exist in a build without CUDA and find no device there.
 * The first call starts the CUDA runtime, which does not survive fork():
 * daemonise before it. Any thread may call; a call may take a second, so none
 * belongs on a thread that answers requests. Nothing here aborts or prints.
 *
 * An open device has slots. A slot codes one batch at a time and belongs to
 * one thread meanwhile; several slots overlap: one uploads, one computes, one
 * downloads. All memory, on the device and pinned, is taken by open. Errors of
 * a call are of two classes: -ENODEV means that the device is lost and
 * nothing but bale_gpu_quiet() and bale_gpu_close() makes sense any more; all
 * others concern that call.
 */
#ifndef BALE_GPU_H
#define BALE_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "balefs/codec.h"
#include "balefs/compiler.h"

#ifdef __cplusplus
extern "C" {
#endif

struct bale_gpu_info {
	char name[64];	    /* "NVIDIA H200" */
	char pci_id[16];    /* "0000:1b:00.0" */
	uint32_t sm;	    /* 90 for compute capability 9.0 */
	uint32_t nr_sms;    /* multiprocessors */
	uint64_t mem_bytes; /* of the device, not what is free */
};

/* Is this a build with CUDA? */
BALE_PUBLIC bool bale_gpu_built(void);

/*
 * No driver, no device and a build without CUDA are 0 devices, not errors.
 * -EOPNOTSUPP: the driver is older than this build's CUDA.
 * -ENOMEM, -EIO: the driver is there but does not work.
 */
BALE_PUBLIC int bale_gpu_count(uint32_t *ret_nr);

/* -ENODEV: idx is not below the count. Else as bale_gpu_count(). */
BALE_PUBLIC int bale_gpu_info_get(uint32_t idx,
				  struct bale_gpu_info *ret_info);

enum { BALE_GPU_SLOTS_MAX = 8 };

struct bale_gpu; /* an open device */

struct bale_gpu_config {
	uint32_t struct_size; /* sizeof(struct bale_gpu_config) */
	uint32_t device;
	uint64_t mem_bytes;    /* device memory at most, all in all */
	uint64_t pinned_bytes; /* host memory that open may pin at most */
	uint32_t slot_units;   /* units of a batch at most; 0: as many as
				  mem_bytes and pinned_bytes allow, to 1024 */
	uint32_t nr_slots;     /* 1..BALE_GPU_SLOTS_MAX */
	bool low_priority;     /* of the streams: neighbours come first */
	bool verify;	       /* encoded units are decoded and compared */
};

/* What open made of the config. */
struct bale_gpu_limits {
	uint32_t slot_units; /* an extent takes bale_units_nr() of its length */
	uint64_t mem_bytes, pinned_bytes;
};

/*
 * One extent of a batch. Encode: src of 1..BALE_EXTENT_MAX bytes; the payload,
 * as format.h has it, goes to dst (dst_cap: bale_extent_worth(src_len) or
 * more); ret_codec raw with a reason: it did not pay, dst is untouched. Decode:
 * src is a payload of 1..dst_cap bytes, dst_cap the exact decoded length.
 */
struct bale_gpu_extent {
	const void *src;
	void *dst;
	uint32_t src_len, dst_cap;

	/* 0; -EUCLEAN: decode, bad bytes; -EILSEQ: encode, what was coded does
	 * not decode to src; -EIO: the units do not add up */
	int status;
	uint32_t len;
	uint32_t crc;	   /* encode: CRC-32C of the payload, by the device */
	uint8_t ret_codec; /* encode */
	uint8_t reason;	   /* encode: enum bale_raw_reason */
};

struct bale_gpu_batch {
	enum bale_job_op op;
	uint8_t codec; /* lz4 or gdeflate */
	int8_t level;  /* as bale_device_opts has it */
	uint8_t filter;
	struct bale_gpu_extent *extents; /* till wait() says it is over */
	size_t nr;
	uint64_t device_ns; /* result: time that the kernels took */
};

/* Can a batch of this kind be coded at all? Needs no device. */
bool bale_gpu_can(enum bale_job_op op, unsigned int codec, int level,
		  unsigned int filter);

/*
 * -ENOMEM: the device or the host has not the memory asked for; -EINVAL; -EIO;
 * -ENODEV. Takes about a second.
 */
int bale_gpu_open(const struct bale_gpu_config *cfg, struct bale_gpu **ret);
void bale_gpu_limits_get(const struct bale_gpu *g, struct bale_gpu_limits *ret);
/*
 * 0: nothing of ours runs on the device. -EAGAIN: something does. -ENODEV: it
 * is lost, and what ran there has ended. Never waits.
 */
int bale_gpu_quiet(struct bale_gpu *g);
/*
 * Frees all; after a loss the device's context, too, so that it can be opened
 * again. Only when quiet() is not -EAGAIN: a copy that still runs would write
 * to memory that is somebody else's by then.
 */
void bale_gpu_close(struct bale_gpu *g);

/* Host memory that copies then read and write directly; ranges do not
 * overlap. -ENOMEM, -EIO: refused, which harms nothing. */
int bale_gpu_pin(struct bale_gpu *g, void *p, size_t len);
void bale_gpu_unpin(struct bale_gpu *g, void *p);

/*
 * 0: queued on a free slot; the batch, its extents and their buffers stay as
 * they are until wait() says that it is over. -E2BIG: more than slot_units.
 * Other errors: nothing of it runs.
 */
int bale_gpu_submit(struct bale_gpu *g, uint32_t slot,
		    struct bale_gpu_batch *b);
/*
 * 0: over, every extent has its status. -ETIMEDOUT: not yet, after timeout_ns:
 * wait again, or leave the slot alone for ever. It is busy then until quiet()
 * says otherwise. Encoding writes to nothing of the caller's before wait()
 * returns 0; decoding writes to dst buffers that are pinned once all kernels of
 * the batch have ended, which in_dst says. Other errors: the batch failed,
 * nothing writes to its buffers any more.
 */
int bale_gpu_wait(struct bale_gpu *g, uint32_t slot, uint64_t timeout_ns,
		  bool *ret_in_dst);

#ifdef __cplusplus
}
#endif

#endif
