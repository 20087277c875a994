/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - named fault points. A test arms one through the environment
 *   BALEFS_FAULT="point:N[:ACTION]"   (several, separated by ',')
 * or bale_fault_arm(); on its N-th passage (1 is the first; N+ means from the
 * N-th on) ACTION happens: an errno name ("EIO", "ENOSPC"; default EIO),
 * "kill" (SIGKILL to self), "delay=MS". Unarmed cost: one relaxed load.
 */
#ifndef BALE_BASE_FAULT_H
#define BALE_BASE_FAULT_H

#include <stdint.h>

/* 0, or the -errno that the caller must fail with. */
int bale_fault(const char *point);
int bale_fault_arm(const char *spec); /* adds; -EINVAL on bad syntax */
void bale_fault_clear(void);
/* Times the point was passed since it was armed (or since any was). */
uint64_t bale_fault_count(const char *point);

#endif
