/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32C with the SSE 4.2 instruction: its latency is 3 cycles and its
 * throughput 1, so three independent streams run at once and are joined by
 * shifting a crc over STREAM zero bytes, a linear map kept as four tables.
 */
#include "fs/base/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u /* reflected Castagnoli */

enum { STREAM = 1024 };

static uint32_t byte_table[8][256];
static uint32_t shift_table[4][256]; /* advance over STREAM zero bytes */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static uint32_t shift_zeros(uint32_t crc, size_t len)
{
	while (len--)
		crc = (crc >> 8) ^ byte_table[0][crc & 0xff];
	return crc;
}

static void build_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ (c & 1 ? POLY : 0);
		byte_table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			byte_table[t][i] =
				(byte_table[t - 1][i] >> 8) ^
				byte_table[0][byte_table[t - 1][i] & 0xff];
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 0; t < 4; t++)
			shift_table[t][i] = shift_zeros(i << (8 * t), STREAM);
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

uint32_t bale_crc32c_table(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	pthread_once(&tables_once, build_tables);
	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		uint32_t lo = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 |
				     (uint32_t)p[2] << 16 |
				     (uint32_t)p[3] << 24);

		crc = byte_table[7][lo & 0xff] ^
		      byte_table[6][lo >> 8 & 0xff] ^
		      byte_table[5][lo >> 16 & 0xff] ^ byte_table[4][lo >> 24] ^
		      byte_table[3][p[4]] ^ byte_table[2][p[5]] ^
		      byte_table[1][p[6]] ^ byte_table[0][p[7]];
	}
	for (; len; len--, p++)
		crc = (crc >> 8) ^ byte_table[0][(crc ^ *p) & 0xff];
	return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

static uint32_t shift_stream(uint32_t crc)
{
	return shift_table[0][crc & 0xff] ^ shift_table[1][crc >> 8 & 0xff] ^
	       shift_table[2][crc >> 16 & 0xff] ^ shift_table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t
crc_hardware(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = (uint32_t)~crc;

	for (; len >= 3 * STREAM; len -= 3 * STREAM, p += 3 * STREAM) {
		uint64_t c1 = 0, c2 = 0;

		for (int i = 0; i < STREAM; i += 8) {
			c = _mm_crc32_u64(c, load64(p + i));
			c1 = _mm_crc32_u64(c1, load64(p + STREAM + i));
			c2 = _mm_crc32_u64(c2, load64(p + 2 * STREAM + i));
		}
		c = shift_stream((uint32_t)c) ^ c1;
		c = shift_stream((uint32_t)c) ^ c2;
	}
	for (; len >= 8; len -= 8, p += 8)
		c = _mm_crc32_u64(c, load64(p));
	for (; len; len--, p++)
		c = _mm_crc32_u8((uint32_t)c, *p);
	return ~(uint32_t)c;
}

uint32_t bale_crc32c(uint32_t crc, const void *data, size_t len)
{
	if (!__builtin_cpu_supports("sse4.2"))
		return bale_crc32c_table(crc, data, len);
	pthread_once(&tables_once, build_tables);
	return crc_hardware(crc, data, len);
}
#else
uint32_t bale_crc32c(uint32_t crc, const void *data, size_t len)
{
	return bale_crc32c_table(crc, data, len);
}
#endif
