/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simt.h - what the language of nvcc and that of the emulated device (emu/)
 * write differently: launches and dynamic shared memory. Every .cu file
 * includes this first.
 *
 *   BALE_LAUNCH(kernel, grid, block, dyn_shared, stream, arguments...);
 *       a template kernel with several arguments goes in parentheses
 *   BALE_DYN_SHARED(type, name);   in a kernel: type name[], 16-byte aligned
 *   BALE_NOINLINE   before a function that is to be there once
 */
#ifndef BALE_SIMT_H
#define BALE_SIMT_H

#include <cuda_runtime.h>

#ifdef __CUDACC__
#define BALE_NOINLINE __noinline__
#define BALE_LAUNCH(kernel, grid, block, dyn, stream, ...)                     \
	kernel<<<(grid), (block), (dyn), (stream)>>>(__VA_ARGS__)
#define BALE_DYN_SHARED(type, name)                                            \
	extern __shared__ __align__(16) unsigned char bale_dyn_[];             \
	type *name = reinterpret_cast<type *>(bale_dyn_)
#else
#define BALE_NOINLINE __attribute__((noinline))
#define BALE_LAUNCH(kernel, grid, block, dyn, stream, ...)                     \
	((void)(stream), bale_emu_launch((grid), (block), (dyn),               \
					 [&] { kernel(__VA_ARGS__); }))
#define BALE_DYN_SHARED(type, name)                                            \
	type *name = static_cast<type *>(bale_emu_dyn_shared())
#endif

#endif
