/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_discover.cu - what gpu.h promises, from the CUDA runtime.
 *
 * Makes no context: counting and reading properties need none, so looking
 * costs no device memory.
 */
#include "balefs/gpu.h"

#include <cerrno>
#include <cstdio>
#include <cuda_runtime.h>

namespace
{

/* The runtime keeps the last error per thread: take it, or a later check sees
 * it. */
int take_error(cudaError_t err)
{
	(void)cudaGetLastError();
	switch (err) {
	case cudaSuccess:
		return 0;
	case cudaErrorMemoryAllocation:
		return -ENOMEM;
	case cudaErrorInsufficientDriver:
		return -EOPNOTSUPP;
	case cudaErrorInvalidDevice:
	case cudaErrorNoDevice:
		return -ENODEV;
	default:
		return -EIO;
	}
}

/* "Insufficient driver" is also what the runtime says where there is none. */
bool driver_is_there()
{
	int version = 0;

	return cudaDriverGetVersion(&version) == cudaSuccess && version > 0;
}

} // namespace

int bale_gpu_count(uint32_t *ret_nr)
{
	int nr = 0;
	int err = take_error(cudaGetDeviceCount(&nr));

	if (err == -ENODEV || (err == -EOPNOTSUPP && !driver_is_there())) {
		nr = 0;
		err = 0;
	}
	if (!err)
		*ret_nr = static_cast<uint32_t>(nr);
	return err;
}

int bale_gpu_info_get(uint32_t idx, struct bale_gpu_info *ret_info)
{
	struct bale_gpu_info info = {};
	cudaDeviceProp prop;
	uint32_t nr;
	int err = bale_gpu_count(&nr);

	if (err)
		return err;
	if (idx >= nr)
		return -ENODEV;
	err = take_error(cudaGetDeviceProperties(&prop, static_cast<int>(idx)));
	if (err)
		return err;
	snprintf(info.name, sizeof(info.name), "%.*s",
		 static_cast<int>(sizeof(info.name)) - 1, prop.name);
	snprintf(info.pci_id, sizeof(info.pci_id), "%04x:%02x:%02x.0",
		 static_cast<unsigned>(prop.pciDomainID) & 0xffffu,
		 static_cast<unsigned>(prop.pciBusID) & 0xffu,
		 static_cast<unsigned>(prop.pciDeviceID) & 0xffu);
	info.sm = static_cast<uint32_t>(prop.major * 10 + prop.minor);
	info.nr_sms = static_cast<uint32_t>(prop.multiProcessorCount);
	info.mem_bytes = prop.totalGlobalMem;
	*ret_info = info;
	return 0;
}
