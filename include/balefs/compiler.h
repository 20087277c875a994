/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compiler.h - attributes shared by every layer: scope-bound cleanup,
 * printf-format checks and clang's thread-safety annotations.
 * No code, no state; includes nothing from the project.
 */
#ifndef BALE_COMPILER_H
#define BALE_COMPILER_H

#define BALE_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define BALE_MUST_CHECK		__attribute__((warn_unused_result))
/* What the shared library shows; all else is hidden. */
#define BALE_PUBLIC		__attribute__((visibility("default")))
#define BALE_UNUSED		__attribute__((unused))
#define bale_likely(x)		__builtin_expect(!!(x), 1)
#define bale_unlikely(x)	__builtin_expect(!!(x), 0)

/* clang -Wthread-safety; empty elsewhere. */
#if defined(__clang__)
#define BALE_TSA(x) __attribute__((x))
#else
#define BALE_TSA(x)
#endif
#define BALE_CAPABILITY	      BALE_TSA(capability("mutex"))
#define BALE_REQUIRES(...)    BALE_TSA(requires_capability(__VA_ARGS__))
#define BALE_ACQUIRE(...)     BALE_TSA(acquire_capability(__VA_ARGS__))
#define BALE_RELEASE(...)     BALE_TSA(release_capability(__VA_ARGS__))
#define BALE_TRY_ACQUIRE(...) BALE_TSA(try_acquire_capability(__VA_ARGS__))
#define BALE_NO_TSA	      BALE_TSA(no_thread_safety_analysis)

#endif
