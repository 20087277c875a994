/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - monotonic and wall time, per-process CPU time. */
#ifndef BALE_BASE_CLOCK_H
#define BALE_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t bale_now_ns(void);	 /* monotonic */
/*
 * For file times. The kernel's coarse clock, because the kernel stamps cached
 * writes with it: two clocks would put a later write before an earlier one.
 */
struct timespec bale_wall(void);

uint64_t bale_cpu_ns(void);	 /* CPU time of the process */

#endif
