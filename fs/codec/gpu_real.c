/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_real.c - the devices of kernels/. */
#include "fs/codec/engine_gpu.h"

const struct bale_gpu_ops bale_gpu_real_ops = {
	.name = "cuda",
	.count = bale_gpu_count,
	.info = bale_gpu_info_get,
	.can = bale_gpu_can,
	.open = bale_gpu_open,
	.limits = bale_gpu_limits_get,
	.quiet = bale_gpu_quiet,
	.close = bale_gpu_close,
	.pin = bale_gpu_pin,
	.unpin = bale_gpu_unpin,
	.submit = bale_gpu_submit,
	.wait = bale_gpu_wait,
};
