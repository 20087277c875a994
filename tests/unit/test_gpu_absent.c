/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discovery where no device can be seen: a build without CUDA, a machine
 * without a driver, or devices hidden from the process. All three are "none",
 * told without noise and without an end of the program.
 */
#include "balefs/device.h"
#include "balefs/gpu.h"
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void none_is_a_count_of_zero(void **state)
{
	uint32_t nr = 77;

	(void)state;
	assert_int_equal(bale_gpu_count(&nr), 0);
	assert_int_equal(nr, 0);
	/* and again: the runtime's sticky error was taken */
	nr = 77;
	assert_int_equal(bale_gpu_count(&nr), 0);
	assert_int_equal(nr, 0);
}

static void info_is_enodev_and_writes_nothing(void **state)
{
	struct bale_gpu_info info, before;

	(void)state;
	memset(&info, 0xa5, sizeof(info));
	before = info;
	assert_int_equal(bale_gpu_info_get(0, &info), -ENODEV);
	assert_memory_equal(&info, &before, sizeof(info));
}

static void build_is_what_meson_was_told(void **state)
{
	(void)state;
	assert_int_equal(bale_gpu_built(), HAVE_CUDA);
}

/* device.h has all its functions in a build without CUDA. */
static void coding_is_enodev(void **state)
{
	struct bale_device_opts o = {
		.struct_size = sizeof(o),
		.codec = BALE_CODEC_lz4,
		.max_chunk = BALE_UNIT_SIZE,
	};
	int lo, hi;
	size_t n;

	(void)state;
	if (HAVE_CUDA)
		skip();
	assert_int_equal(bale_device_levels(BALE_CODEC_lz4, &lo, &hi), -ENODEV);
	assert_int_equal(bale_device_bound(&o, &n), -ENODEV);
	assert_int_equal(bale_device_encode_temp(&o, 1, &n), -ENODEV);
	assert_int_equal(bale_device_decode_temp(&o, 1, &n), -ENODEV);
	assert_int_equal(bale_device_encode(&o, 0, NULL, NULL, NULL, NULL, NULL,
					    NULL, NULL, 0, NULL),
			 -ENODEV);
	assert_int_equal(bale_device_decode(&o, 0, NULL, NULL, NULL, NULL, NULL,
					    NULL, NULL, 0, NULL),
			 -ENODEV);
	assert_int_equal(bale_device_decoded_len(&o, 0, NULL, NULL, NULL, NULL,
						 NULL),
			 -ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_is_a_count_of_zero),
		cmocka_unit_test(info_is_enodev_and_writes_nothing),
		cmocka_unit_test(build_is_what_meson_was_told),
		cmocka_unit_test(coding_is_enodev),
	};

	/* Read by the runtime at its first call. */
	if (setenv("CUDA_VISIBLE_DEVICES", "", 1))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
