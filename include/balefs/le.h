/* SPDX-License-Identifier: Apache-2.0 */
/*
 * le.h - little-endian integers as structs, so that a disk value and a host
 * value cannot be mixed by accident; alignment 1, one mov each at -O2.
 * be64 exists for index keys, whose byte order must be their sort order.
 */
#ifndef BALE_LE_H
#define BALE_LE_H

#include <stdint.h>

typedef struct {
	uint8_t b[2];
} le16;
typedef struct {
	uint8_t b[4];
} le32;
typedef struct {
	uint8_t b[8];
} le64;
typedef struct {
	uint8_t b[8];
} be64;

static inline uint16_t le16_get(le16 v)
{
	return (uint16_t)(v.b[0] | v.b[1] << 8);
}

static inline uint32_t le32_get(le32 v)
{
	return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 |
	       (uint32_t)v.b[2] << 16 | (uint32_t)v.b[3] << 24;
}

static inline uint64_t le64_get(le64 v)
{
	uint64_t x = 0;

	for (int i = 7; i >= 0; i--)
		x = x << 8 | v.b[i];
	return x;
}

static inline uint64_t be64_get(be64 v)
{
	uint64_t x = 0;

	for (int i = 0; i < 8; i++)
		x = x << 8 | v.b[i];
	return x;
}

static inline le16 le16_put(uint16_t x)
{
	le16 v = { { (uint8_t)x, (uint8_t)(x >> 8) } };

	return v;
}

static inline le32 le32_put(uint32_t x)
{
	le32 v = { { (uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16),
		     (uint8_t)(x >> 24) } };

	return v;
}

static inline le64 le64_put(uint64_t x)
{
	le64 v;

	for (int i = 0; i < 8; i++)
		v.b[i] = (uint8_t)(x >> (8 * i));
	return v;
}

static inline be64 be64_put(uint64_t x)
{
	be64 v;

	for (int i = 0; i < 8; i++)
		v.b[i] = (uint8_t)(x >> (56 - 8 * i));
	return v;
}

#endif
