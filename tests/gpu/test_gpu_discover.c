/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gpu.h says of the devices, against what the kernel says of them.
 */
#include "balefs/gpu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint32_t nr_devices;

static void every_device_is_described(void **state)
{
	struct bale_gpu_info info;

	(void)state;
	for (uint32_t i = 0; i < nr_devices; i++) {
		memset(&info, 0xff, sizeof(info));
		assert_int_equal(bale_gpu_info_get(i, &info), 0);
		assert_true(info.name[0] != '\0');
		assert_non_null(memchr(info.name, '\0', sizeof(info.name)));
		assert_true(info.sm >= 50);
		assert_true(info.nr_sms > 0);
		assert_true(info.mem_bytes >= (uint64_t)1 << 28);
		printf("%u: %s, sm %u x %u, %llu MiB, %s\n", i, info.name,
		       info.sm, info.nr_sms,
		       (unsigned long long)(info.mem_bytes >> 20), info.pci_id);
	}
}

static void pci_id_is_a_device_of_the_vendor(void **state)
{
	struct bale_gpu_info info;
	char path[64];
	unsigned int vendor = 0;
	FILE *f;

	(void)state;
	for (uint32_t i = 0; i < nr_devices; i++) {
		assert_int_equal(bale_gpu_info_get(i, &info), 0);
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor",
			 info.pci_id);
		f = fopen(path, "r");
		if (!f)
			skip(); /* a container without the PCI tree */
		assert_int_equal(fscanf(f, "%x", &vendor), 1);
		fclose(f);
		assert_int_equal(vendor, 0x10de);
	}
}

static void index_past_the_last_is_enodev(void **state)
{
	struct bale_gpu_info info;

	(void)state;
	assert_int_equal(bale_gpu_info_get(nr_devices, &info), -ENODEV);
	assert_int_equal(bale_gpu_info_get(UINT32_MAX, &info), -ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_device_is_described),
		cmocka_unit_test(pci_id_is_a_device_of_the_vendor),
		cmocka_unit_test(index_past_the_last_is_enodev),
	};
	int err = bale_gpu_count(&nr_devices);

	if (err) {
		fprintf(stderr, "a driver that does not work: %s\n",
			strerror(-err));
		return 1;
	}
	if (!nr_devices)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
