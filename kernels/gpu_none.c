/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_none.c - gpu.h in a build without CUDA: no device, ever.
 */
#include "balefs/gpu.h"

#include <errno.h>

int bale_gpu_count(uint32_t *ret_nr)
{
	*ret_nr = 0;
	return 0;
}

int bale_gpu_info_get(uint32_t idx, struct bale_gpu_info *ret_info)
{
	(void)idx;
	(void)ret_info;
	return -ENODEV;
}
