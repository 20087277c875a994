/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bdi.c - two limits of the kernel for this mount, in /sys/class/bdi. INIT
 * can only lower the read-ahead, and a FUSE mount starts with 1 % of the
 * machine's dirty pages; both make large streams slow. Only root may write
 * there: others are told how.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/fuse/session_int.h"

static int write_text(const char *path, const char *text)
{
	bale_autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

void bale_bdi_tune(const char *mnt)
{
	/* Four requests of the largest size in flight; all that the machine's
	 * own dirty limit allows. */
	static const char *const values[][2] = { { "read_ahead_kb", "4096" },
						 { "max_ratio", "100" } };
	struct stat st;

	if (stat(mnt, &st))
		return;
	for (size_t n = 0; n < sizeof(values) / sizeof(values[0]); n++) {
		char path[96];
		int err;

		snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/%s",
			 major(st.st_dev), minor(st.st_dev), values[n][0]);
		err = write_text(path, values[n][1]);
		if (err)
			bale_info("%s stays as it is (%s); as root: "
				  "echo %s > %s", values[n][0], strerror(-err),
				  values[n][1], path);
	}
}
