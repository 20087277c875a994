// SPDX-License-Identifier: Apache-2.0
//
// The runtime calls of emu/cuda_runtime.h: memory is the heap's, streams have
// nothing to overlap, and any call can be made to fail.
#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>

struct bale_emu_event {
	std::chrono::steady_clock::time_point at;
};
struct bale_emu_stream {
	int unused;
};

namespace
{

std::mutex lock; // everything below
std::map<void *, size_t> held;
size_t held_bytes;
unsigned int fail_in;
cudaError_t fail_with;
bool fail_sticky, failing;
thread_local cudaError_t last;

cudaError_t note(cudaError_t err)
{
	if (err != cudaSuccess)
		last = err;
	return err;
}

// Every call that can fail passes here first.
cudaError_t pass()
{
	std::lock_guard<std::mutex> guard(lock);

	if (failing)
		return note(fail_with);
	if (!fail_in || --fail_in)
		return cudaSuccess;
	failing = fail_sticky;
	return note(fail_with);
}

} // namespace

#define PASS()                                                                 \
	do {                                                                   \
		cudaError_t e = pass();                                        \
		if (e != cudaSuccess)                                          \
			return e;                                              \
	} while (0)

void bale_emu_fail(unsigned int nth, enum cudaError_t err, bool sticky)
{
	std::lock_guard<std::mutex> guard(lock);

	fail_in = nth;
	fail_with = err;
	fail_sticky = sticky;
	failing = false;
}

size_t bale_emu_held()
{
	std::lock_guard<std::mutex> guard(lock);

	return held_bytes;
}

cudaError_t cudaGetLastError()
{
	cudaError_t err = last;

	last = cudaSuccess;
	if (err != cudaSuccess)
		return err;
	return pass(); // how a launch that failed is noticed
}

cudaError_t cudaPeekAtLastError()
{
	return last;
}

const char *cudaGetErrorString(cudaError_t err)
{
	return err == cudaSuccess ? "no error" : "emulated error";
}

const char *cudaGetErrorName(cudaError_t err)
{
	return err == cudaSuccess ? "cudaSuccess" : "cudaErrorEmulated";
}

cudaError_t cudaDriverGetVersion(int *ret)
{
	*ret = 13000;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *ret)
{
	PASS();
	*ret = 1;
	return cudaSuccess;
}

cudaError_t cudaGetDevice(int *ret)
{
	*ret = 0;
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int dev)
{
	PASS();
	return dev ? note(cudaErrorInvalidDevice) : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *ret, int dev)
{
	PASS();
	if (dev)
		return note(cudaErrorInvalidDevice);
	*ret = cudaDeviceProp();
	strcpy(ret->name, "emulated device");
	ret->totalGlobalMem = (size_t)4 << 30;
	ret->sharedMemPerBlock = 48 << 10;
	ret->sharedMemPerBlockOptin = 227 << 10;
	ret->major = 9;
	ret->multiProcessorCount = 2;
	ret->l2CacheSize = 1 << 20;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *ret, cudaDeviceAttr attr, int dev)
{
	PASS();
	if (dev)
		return note(cudaErrorInvalidDevice);
	switch (attr) {
	case cudaDevAttrMaxSharedMemoryPerBlockOptin:
		*ret = 227 << 10;
		return cudaSuccess;
	case cudaDevAttrMultiProcessorCount:
		*ret = 2;
		return cudaSuccess;
	case cudaDevAttrComputeCapabilityMajor:
		*ret = 9;
		return cudaSuccess;
	case cudaDevAttrComputeCapabilityMinor:
		*ret = 0;
		return cudaSuccess;
	}
	return note(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceReset()
{
	std::lock_guard<std::mutex> guard(lock);

	failing = false;
	return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
	PASS();
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *ret_free, size_t *ret_total)
{
	PASS();
	*ret_total = (size_t)4 << 30;
	*ret_free = *ret_total - bale_emu_held();
	return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *ret_least, int *ret_most)
{
	*ret_least = 0;
	*ret_most = -5;
	return cudaSuccess;
}

// Garbage inside and exact ends, as little help to a wrong kernel as possible.
cudaError_t bale_emu_malloc(void **ret, size_t len)
{
	PASS();
	void *p = aligned_alloc(256, (len + 255) / 256 * 256);

	if (!p)
		return note(cudaErrorMemoryAllocation);
	memset(p, 0xa5, len);
	std::lock_guard<std::mutex> guard(lock);
	held[p] = len;
	held_bytes += len;
	*ret = p;
	return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
	if (!p)
		return cudaSuccess;
	std::lock_guard<std::mutex> guard(lock);
	auto it = held.find(p);

	if (it == held.end())
		return note(cudaErrorInvalidValue);
	held_bytes -= it->second;
	held.erase(it);
	free(p);
	return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
	return cudaFree(p);
}

cudaError_t cudaHostRegister(void *, size_t, unsigned int)
{
	PASS();
	return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *)
{
	return cudaSuccess;
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t len, cudaMemcpyKind)
{
	PASS();
	/* Nothing may have no address, which memcpy does not allow. */
	if (len)
		memcpy(dst, src, len);
	return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t len,
			    cudaMemcpyKind kind, cudaStream_t)
{
	return cudaMemcpy(dst, src, len, kind);
}

cudaError_t cudaMemset(void *dst, int v, size_t len)
{
	PASS();
	if (len)
		memset(dst, v, len);
	return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int v, size_t len, cudaStream_t)
{
	return cudaMemset(dst, v, len);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned int)
{
	PASS();
	*ret = new bale_emu_stream();
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *ret, unsigned int flags,
					 int)
{
	return cudaStreamCreateWithFlags(ret, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t st)
{
	delete st;
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
	PASS();
	return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t)
{
	PASS();
	return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned int)
{
	PASS();
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *ret)
{
	PASS();
	*ret = new bale_emu_event();
	return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned int)
{
	return cudaEventCreate(ret);
}

cudaError_t cudaEventDestroy(cudaEvent_t ev)
{
	delete ev;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t ev, cudaStream_t)
{
	PASS();
	ev->at = std::chrono::steady_clock::now();
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t)
{
	PASS();
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
	PASS();
	return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ret_ms, cudaEvent_t a, cudaEvent_t b)
{
	*ret_ms =
		std::chrono::duration<float, std::milli>(b->at - a->at).count();
	return cudaSuccess;
}
