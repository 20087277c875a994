/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_none.c - gpu.h in a build without CUDA: no device, ever.
 */
#include "balefs/gpu.h"
#include "balefs/measure.h"

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

bool bale_gpu_can(enum bale_job_op op, unsigned int codec, int level,
		  unsigned int filter)
{
	(void)op;
	(void)codec;
	(void)level;
	(void)filter;
	return false;
}

int bale_gpu_open(const struct bale_gpu_config *cfg, struct bale_gpu **ret)
{
	(void)cfg;
	(void)ret;
	return -ENODEV;
}

void bale_gpu_limits_get(const struct bale_gpu *g, struct bale_gpu_limits *ret)
{
	(void)g;
	*ret = (struct bale_gpu_limits){ 0 };
}

int bale_gpu_quiet(struct bale_gpu *g)
{
	(void)g;
	return -ENODEV;
}

void bale_gpu_close(struct bale_gpu *g)
{
	(void)g;
}

int bale_gpu_pin(struct bale_gpu *g, void *p, size_t len)
{
	(void)g;
	(void)p;
	(void)len;
	return -ENODEV;
}

void bale_gpu_unpin(struct bale_gpu *g, void *p)
{
	(void)g;
	(void)p;
}

int bale_gpu_submit(struct bale_gpu *g, uint32_t slot, struct bale_gpu_batch *b)
{
	(void)g;
	(void)slot;
	(void)b;
	return -ENODEV;
}

int bale_gpu_wait(struct bale_gpu *g, uint32_t slot, uint64_t timeout_ns,
		  bool *ret_in_dst)
{
	(void)g;
	(void)slot;
	(void)timeout_ns;
	(void)ret_in_dst;
	return -ENODEV;
}

int bale_device_measure(uint32_t device, const struct bale_device_opts *opts,
			const void *src, const uint32_t *len, size_t nr,
			unsigned int passes, struct bale_device_figures *ret)
{
	(void)device;
	(void)opts;
	(void)src;
	(void)len;
	(void)nr;
	(void)passes;
	(void)ret;
	return -ENODEV;
}
