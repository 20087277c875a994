/* SPDX-License-Identifier: Apache-2.0 */
/* The cache: buffers that do not overlap, one load for many, eviction. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/cache/cache.h"

enum { EXTENT = 128 << 10, BLOCKS = 16, BYTES = BLOCKS * EXTENT };

static void buffers_never_overlap(void **state)
{
	enum { N = 400 };
	struct bale_cbuf *b[N] = { 0 };
	uint64_t used, heap, total;
	struct bale_slab *s;
	uint32_t x = 7;

	(void)state;
	assert_int_equal(bale_slab_create(BYTES, EXTENT, &s), 0);
	for (unsigned int n = 0; n < 200000; n++) {
		unsigned int k = (x = x * 1664525 + 1013904223) >> 8;
		size_t len = (size_t)1 + ((x >> 4) % 6 ? x % 9000 : x % EXTENT);

		k %= N;
		if (!b[k]) {
			if (bale_slab_alloc(s, len, &b[k])) {
				assert_true(b[k]->cap >= len);
				memset(b[k]->data, (int)k, b[k]->cap);
			}
			continue;
		}
		for (size_t o = 0; o < b[k]->cap; o += 511)
			assert_int_equal(b[k]->data[o], (uint8_t)k);
		bale_cbuf_put(b[k]);
		b[k] = NULL;
	}
	for (unsigned int k = 0; k < N; k++) {
		if (b[k])
			bale_cbuf_put(b[k]);
	}
	bale_slab_stats(s, &used, &heap, &total);
	assert_int_equal(used, 0);
	assert_int_equal(total, BYTES);
	/* Everything merged back into whole blocks. */
	for (unsigned int k = 0; k < BLOCKS; k++)
		assert_true(bale_slab_alloc(s, EXTENT, &b[k]));
	assert_false(bale_slab_alloc(s, 1, &b[BLOCKS]));
	assert_int_equal(bale_slab_alloc_heap(s, EXTENT, &b[BLOCKS]), 0);
	for (unsigned int k = 0; k <= BLOCKS; k++)
		bale_cbuf_put(b[k]);
	bale_slab_stats(s, &used, &heap, &total);
	assert_int_equal(used + heap, 0);
	bale_slab_destroy(s);
}

static void add(struct bale_cache *c, uint64_t no, bool hold,
		struct bale_ext **ret)
{
	struct bale_cbuf *b;
	struct bale_ext *e;

	assert_int_equal(bale_cache_alloc(c, EXTENT, &b), 0);
	memset(b->data, (int)no, EXTENT);
	assert_int_equal(bale_cache_claim(c, 5, no, &e), 0);
	bale_cache_publish(c, e, b, EXTENT, 0);
	if (hold)
		*ret = e;
	else
		bale_ext_put(c, e);
}

static void held_and_used_extents_stay(void **state)
{
	struct bale_ext *held[4], *e;
	struct bale_cache_stats s;
	struct bale_cbuf *b, *pinned;
	struct bale_cache *c;
	uint32_t len;

	(void)state;
	assert_int_equal(bale_cache_create(BYTES, EXTENT, &c), 0);
	for (uint64_t k = 0; k < 4; k++)
		add(c, k, true, &held[k]);
	add(c, 4, false, NULL);
	assert_int_equal(bale_cache_pin(c, 5, 4, true, &pinned, &len), 0);
	for (uint64_t k = 10; k < 200; k++)
		add(c, k, false, NULL);
	bale_cache_stats(c, &s);
	assert_int_equal(s.heap, 0);
	assert_true(s.used <= BYTES && s.evicted >= 170);
	for (uint64_t k = 0; k < 4; k++) {
		assert_int_equal(bale_cache_find(c, 5, k, &e), 0);
		assert_ptr_equal(e, held[k]);
		bale_ext_put(c, e);
		bale_ext_put(c, held[k]);
	}
	/* Evicted perhaps, but what is pinned does not change. */
	for (size_t o = 0; o < EXTENT; o += 4096)
		assert_int_equal(pinned->data[o], 4);
	bale_cbuf_put(pinned);
	bale_cache_drop(c, 5, 2);
	assert_int_equal(bale_cache_pin(c, 5, 2, true, &b, &len), -ENOENT);
	bale_cache_destroy(c);
}

struct waiter {
	struct bale_cache *c;
	int result;
	uint8_t byte;
};

static void *wait_main(void *arg)
{
	struct waiter *w = arg;
	struct bale_cbuf *b;
	uint32_t len;

	w->result = bale_cache_pin(w->c, 9, 1, true, &b, &len);
	if (!w->result) {
		w->byte = b->data[100];
		bale_cbuf_put(b);
	}
	return NULL;
}

static void many_wait_for_one_load(void **state)
{
	enum { N = 6 };
	struct bale_ext *e, *second;
	struct waiter w[N];
	struct bale_cache *c;
	struct bale_cbuf *b;
	pthread_t t[N];
	uint32_t len;

	(void)state;
	assert_int_equal(bale_cache_create(BYTES, EXTENT, &c), 0);
	for (int error = 0; error >= -EIO; error -= EIO) {
		assert_int_equal(bale_cache_claim(c, 9, 1, &e), 0);
		assert_int_equal(bale_cache_claim(c, 9, 1, &second), -EEXIST);
		assert_int_equal(bale_cache_pin(c, 9, 1, false, &b, &len),
				 -EINPROGRESS);
		for (unsigned int k = 0; k < N; k++) {
			w[k] = (struct waiter){ .c = c, .result = 1 };
			assert_int_equal(pthread_create(&t[k], NULL, wait_main,
							&w[k]),
					 0);
		}
		usleep(20000);
		assert_int_equal(bale_cache_alloc(c, EXTENT, &b), 0);
		b->data[100] = 77;
		if (error)
			bale_cbuf_put(b);
		bale_cache_publish(c, e, error ? NULL : b, EXTENT, error);
		bale_ext_put(c, e);
		for (unsigned int k = 0; k < N; k++) {
			pthread_join(t[k], NULL);
			/* One that came late finds nothing after an error. */
			assert_true(w[k].result == error ||
				    (error && w[k].result == -ENOENT));
			assert_int_equal(w[k].byte, error ? 0 : 77);
		}
		bale_cache_drop(c, 9, 1);
	}
	bale_cache_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_never_overlap),
		cmocka_unit_test(held_and_used_extents_stay),
		cmocka_unit_test(many_wait_for_one_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
