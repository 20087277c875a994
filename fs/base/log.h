/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - messages for people: one line, lower case, no full stop, with the
 * values. To stderr until bale_log_to_syslog() is called (after daemonising).
 * Thread-safe. Nothing here allocates or fails.
 */
#ifndef BALE_BASE_LOG_H
#define BALE_BASE_LOG_H

#include <stdbool.h>

#include "balefs/compiler.h"

enum bale_log_level {
	BALE_LOG_ERR,
	BALE_LOG_WARN,
	BALE_LOG_INFO,
	BALE_LOG_DEBUG,
};

void bale_log(enum bale_log_level level, const char *fmt, ...)
	BALE_PRINTF(2, 3);
/* Default: INFO. Set before threads start. */
void bale_log_set_level(enum bale_log_level level);
/* Nothing from this thread while it is on: its caller tells, in fewer lines,
 * what many failures of one kind come to. */
void bale_log_quiet(bool on);
/* Prefix of stderr lines, e.g. "fsck.balefs"; static storage. */
void bale_log_set_name(const char *name);
void bale_log_to_syslog(void);

#define bale_err(...)	bale_log(BALE_LOG_ERR, __VA_ARGS__)
#define bale_warn(...)	bale_log(BALE_LOG_WARN, __VA_ARGS__)
#define bale_info(...)	bale_log(BALE_LOG_INFO, __VA_ARGS__)
#define bale_debug(...) bale_log(BALE_LOG_DEBUG, __VA_ARGS__)

#endif
