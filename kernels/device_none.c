/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_none.c - device.h, and the device's side of container.h, in a build
 * without CUDA.
 */
#include "balefs/container.h"
#include "balefs/device.h"

#include <errno.h>

int bale_device_levels(unsigned int codec, int *ret_min, int *ret_max)
{
	(void)codec;
	(void)ret_min;
	(void)ret_max;
	return -ENODEV;
}

int bale_device_bound(const struct bale_device_opts *opts, size_t *ret_len)
{
	(void)opts;
	(void)ret_len;
	return -ENODEV;
}

int bale_device_encode_temp(const struct bale_device_opts *opts, size_t nr,
			    size_t *ret_len)
{
	(void)opts;
	(void)nr;
	(void)ret_len;
	return -ENODEV;
}

int bale_device_decode_temp(const struct bale_device_opts *opts, size_t nr,
			    size_t *ret_len)
{
	(void)opts;
	(void)nr;
	(void)ret_len;
	return -ENODEV;
}

int bale_device_encode(const struct bale_device_opts *opts, size_t nr,
		       const void *const *d_src, const uint32_t *d_src_len,
		       void *const *d_dst, const uint32_t *d_dst_cap,
		       uint32_t *d_dst_len, uint32_t *d_status, void *d_temp,
		       size_t temp_len, bale_stream stream)
{
	(void)opts;
	(void)nr;
	(void)d_src;
	(void)d_src_len;
	(void)d_dst;
	(void)d_dst_cap;
	(void)d_dst_len;
	(void)d_status;
	(void)d_temp;
	(void)temp_len;
	(void)stream;
	return -ENODEV;
}

int bale_device_decode(const struct bale_device_opts *opts, size_t nr,
		       const void *const *d_src, const uint32_t *d_src_len,
		       void *const *d_dst, const uint32_t *d_dst_cap,
		       uint32_t *d_dst_len, uint32_t *d_status, void *d_temp,
		       size_t temp_len, bale_stream stream)
{
	(void)opts;
	(void)nr;
	(void)d_src;
	(void)d_src_len;
	(void)d_dst;
	(void)d_dst_cap;
	(void)d_dst_len;
	(void)d_status;
	(void)d_temp;
	(void)temp_len;
	(void)stream;
	return -ENODEV;
}

int bale_device_decoded_len(const struct bale_device_opts *opts, size_t nr,
			    const void *const *d_src, const uint32_t *d_src_len,
			    uint32_t *d_len, uint32_t *d_status,
			    bale_stream stream)
{
	(void)opts;
	(void)nr;
	(void)d_src;
	(void)d_src_len;
	(void)d_len;
	(void)d_status;
	(void)stream;
	return -ENODEV;
}

int bale_container_device_encode_temp(const struct bale_container_opts *opts,
				      uint64_t raw_len, size_t *ret_len)
{
	(void)opts;
	(void)raw_len;
	(void)ret_len;
	return -ENODEV;
}

int bale_container_device_encode(const struct bale_container_opts *opts,
				 const void *d_src, uint64_t len, void *d_dst,
				 uint64_t cap, uint64_t *d_len,
				 uint32_t *d_status, void *d_temp,
				 size_t temp_len, bale_stream stream)
{
	(void)opts;
	(void)d_src;
	(void)len;
	(void)d_dst;
	(void)cap;
	(void)d_len;
	(void)d_status;
	(void)d_temp;
	(void)temp_len;
	(void)stream;
	return -ENODEV;
}

int bale_container_device_decode_temp(const struct bale_container_info *info,
				      size_t *ret_len)
{
	(void)info;
	(void)ret_len;
	return -ENODEV;
}

int bale_container_device_decode(const struct bale_container_info *info,
				 const void *d_src, uint64_t len, void *d_dst,
				 uint64_t cap, uint32_t *d_status, void *d_temp,
				 size_t temp_len, bale_stream stream)
{
	(void)info;
	(void)d_src;
	(void)len;
	(void)d_dst;
	(void)cap;
	(void)d_status;
	(void)d_temp;
	(void)temp_len;
	(void)stream;
	return -ENODEV;
}
