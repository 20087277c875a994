// SPDX-License-Identifier: Apache-2.0
//
// What all launchers end with.
#include "kernels/simt.h"
#include "kernels/kernels.h"

#include <errno.h>

int bale_launch_check(void)
{
	switch (cudaGetLastError()) {
	case cudaSuccess:
		return 0;
	case cudaErrorMemoryAllocation:
		return -ENOMEM;
	case cudaErrorInvalidValue:
		return -EINVAL;
	default:
		return -EIO;
	}
}
