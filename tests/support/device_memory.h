/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_memory.h - device memory for tests in C++, of a real device or the
 * emulated one. Guards of 64 bytes lie around every buffer: a kernel that
 * writes outside is told by check().
 *
 * A failing CUDA call ends the test. Single thread.
 */
#ifndef BALE_TESTS_DEVICE_MEMORY_H
#define BALE_TESTS_DEVICE_MEMORY_H

#include <cuda_runtime.h>

#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" {
#include <cmocka.h>
}

namespace bale_test
{

constexpr size_t kGuard = 64;
constexpr uint8_t kGuardByte = 0xc5;

inline void must(cudaError_t err)
{
	if (err != cudaSuccess)
		fail_msg("cuda: %s", cudaGetErrorString(err));
}

/* n elements of T; shift: bytes past a 256-byte boundary. */
template <typename T> class Buffer
{
      public:
	explicit Buffer(size_t n, size_t shift = 0) : n_(n), shift_(shift)
	{
		std::vector<uint8_t> fill(bytes() + shift + 2 * kGuard + 256,
					  kGuardByte);

		must(cudaMalloc(&base_, fill.size()));
		must(cudaMemcpy(base_, fill.data(), fill.size(),
				cudaMemcpyHostToDevice));
	}
	explicit Buffer(const std::vector<T> &v, size_t shift = 0)
	    : Buffer(v.size(), shift)
	{
		put(v);
	}
	Buffer(const Buffer &) = delete;
	Buffer &operator=(const Buffer &) = delete;
	~Buffer()
	{
		(void)cudaFree(base_);
	}
	T *get() const
	{
		uintptr_t p = reinterpret_cast<uintptr_t>(base_) + kGuard;

		p = (p + 255) & ~static_cast<uintptr_t>(255);
		return reinterpret_cast<T *>(p + shift_);
	}
	operator T *() const
	{
		return get();
	}
	size_t size() const
	{
		return n_;
	}
	void put(const std::vector<T> &v)
	{
		if (!v.empty())
			must(cudaMemcpy(get(), v.data(), v.size() * sizeof(T),
					cudaMemcpyHostToDevice));
	}
	std::vector<T> read() const
	{
		std::vector<T> v(n_);

		must(cudaDeviceSynchronize());
		if (n_)
			must(cudaMemcpy(v.data(), get(), bytes(),
					cudaMemcpyDeviceToHost));
		return v;
	}
	/* Nothing before or behind it was written. */
	void check() const
	{
		uint8_t around[2 * kGuard];
		uint8_t *p = reinterpret_cast<uint8_t *>(get());

		must(cudaDeviceSynchronize());
		must(cudaMemcpy(around, p - kGuard, kGuard,
				cudaMemcpyDeviceToHost));
		must(cudaMemcpy(around + kGuard, p + bytes(), kGuard,
				cudaMemcpyDeviceToHost));
		for (size_t i = 0; i < sizeof(around); i++)
			if (around[i] != kGuardByte)
				fail_msg("a byte %zu %s the buffer was written",
					 i < kGuard ? kGuard - i : i - kGuard,
					 i < kGuard ? "before" : "behind");
	}

      private:
	size_t bytes() const
	{
		return n_ * sizeof(T);
	}
	size_t n_, shift_;
	uint8_t *base_ = nullptr;
};

/* A stream of numbers that tests can say again. */
class Random
{
      public:
	explicit Random(uint64_t seed)
	    : x_(seed * 2654435761u + 88172645463325252u)
	{
	}
	uint32_t next()
	{
		x_ ^= x_ << 13;
		x_ ^= x_ >> 7;
		x_ ^= x_ << 17;
		return static_cast<uint32_t>(x_ >> 16);
	}
	uint32_t below(uint32_t n)
	{
		return next() % n;
	}

      private:
	uint64_t x_;
};

/* Data of several kinds: 0 zeros, 1 text-like, 2 random, 3 floats, 4 runs. */
inline std::vector<uint8_t> make_data(size_t len, int kind, uint64_t seed)
{
	static const char words[] =
		"the quick brown fox jumps over a lazy dog, "
		"bales of hay are compressed; ";
	std::vector<uint8_t> v(len);
	Random r(seed + 1);

	for (size_t i = 0; i < len;) {
		switch (kind) {
		case 0:
			v[i++] = 0;
			break;
		case 1: {
			size_t at = r.below(sizeof(words) - 8),
			       n = 3 + r.below(20);

			for (; n-- && i < len; at++)
				v[i++] = static_cast<uint8_t>(
					words[at % (sizeof(words) - 1)]);
			break;
		}
		case 2:
			v[i++] = static_cast<uint8_t>(r.next());
			break;
		case 3: {
			float f = 100.0F +
				  static_cast<float>(r.below(1000)) * 0.37F;

			memcpy(&v[i], &f, len - i < 4 ? len - i : 4);
			i += 4;
			break;
		}
		default: {
			size_t n = 1 + r.below(400);
			uint8_t b = static_cast<uint8_t>(r.next());

			while (n-- && i < len)
				v[i++] = b;
		}
		}
	}
	return v;
}

} // namespace bale_test

#endif
