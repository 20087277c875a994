/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.h - CRC-32C (Castagnoli), hardware where the CPU has it. Start with
 * 0; chain by passing the last result. Guards against accident, not attack.
 */
#ifndef BALE_BASE_CRC32C_H
#define BALE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t bale_crc32c(uint32_t crc, const void *data, size_t len);
/* The portable path, for tests. */
uint32_t bale_crc32c_table(uint32_t crc, const void *data, size_t len);

#endif
