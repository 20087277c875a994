/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.h - how fast a device codes chunks that lie in its memory: the
 * kernels alone, without transfers.
 *
 * A call takes the device's memory that it needs (about four times the chunks)
 * and gives it back; it waits for the device, so it belongs on no thread that
 * answers requests. Any thread may call. Nothing is written outside ret.
 */
#ifndef BALE_MEASURE_H
#define BALE_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "balefs/device.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { BALE_MEASURE_PASSES_MAX = 64 };

struct bale_device_figures {
	double encode_ns, decode_ns; /* of all chunks; median of the passes */
	uint64_t coded_bytes;	     /* chunks that grew count as they are */
	uint64_t wrong; /* chunks that came back different, or not at all */
};

/*
 * Encode and decode nr chunks that lie one after another in host memory, chunk
 * i with len[i] bytes. After one pass of each, what was decoded is compared;
 * wrong results are not timed (ns are 0 then).
 *
 * -ENODEV: no such device, or a build without CUDA. -EINVAL: opts, sizes, or
 * passes not 1..BALE_MEASURE_PASSES_MAX. -EOPNOTSUPP: no kernels for the codec.
 * -ENOMEM: the device's or our memory does not suffice. -EIO: it failed.
 */
int bale_device_measure(uint32_t device, const struct bale_device_opts *opts,
			const void *src, const uint32_t *len, size_t nr,
			unsigned int passes, struct bale_device_figures *ret);

#ifdef __cplusplus
}
#endif

#endif
