/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - the face of kernels/: which CUDA devices are there.
 *
 * The same functions exist in a build without CUDA and find no device there.
 * The first call starts the CUDA runtime, which does not survive fork():
 * daemonise before it. Any thread may call; a call may take a second, so none
 * belongs on a thread that answers requests. Nothing here aborts or prints.
 */
#ifndef BALE_GPU_H
#define BALE_GPU_H

#include <stdbool.h>
#include <stdint.h>

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
bool bale_gpu_built(void);

/*
 * No driver, no device and a build without CUDA are 0 devices, not errors.
 * -EOPNOTSUPP: the driver is older than this build's CUDA.
 * -ENOMEM, -EIO: the driver is there but does not work.
 */
int bale_gpu_count(uint32_t *ret_nr);

/* -ENODEV: idx is not below the count. Else as bale_gpu_count(). */
int bale_gpu_info_get(uint32_t idx, struct bale_gpu_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
