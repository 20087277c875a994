/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_gdeflate_simd.h - the readers that not every machine runs. Each of them
 * is compiled for its own instructions, function by function, and called only
 * where bale_gd_reader_get() has found those. Const, any thread.
 */
#ifndef BALE_CODEC_CODEC_GDEFLATE_SIMD_H
#define BALE_CODEC_CODEC_GDEFLATE_SIMD_H

#include "fs/codec/codec_gdeflate_read.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define BALE_GD_HAVE_X86 1
#else
#define BALE_GD_HAVE_X86 0
#endif

extern const struct bale_gd_reader bale_gd_reader_scalar;
#if BALE_GD_HAVE_X86
extern const struct bale_gd_reader bale_gd_reader_avx2;
extern const struct bale_gd_reader bale_gd_reader_avx512;
#endif

#endif
