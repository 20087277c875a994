/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_built.c - which of gpu.h's two implementations this build has.
 */
#include "balefs/gpu.h"

bool bale_gpu_built(void)
{
#ifdef HAVE_CUDA
	return true;
#else
	return false;
#endif
}
