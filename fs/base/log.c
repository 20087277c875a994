/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>

static enum bale_log_level max_level = BALE_LOG_INFO;
static const char *log_name = "balefs";
static atomic_bool use_syslog; /* set once other threads log already */
static _Thread_local bool quiet;

void bale_log_set_level(enum bale_log_level level)
{
	max_level = level;
}

void bale_log_quiet(bool on)
{
	quiet = on;
}

void bale_log_set_name(const char *name)
{
	log_name = name;
}

void bale_log_to_syslog(void)
{
	openlog(log_name, LOG_PID, LOG_DAEMON);
	use_syslog = true;
}

void bale_log(enum bale_log_level level, const char *fmt, ...)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO,
					LOG_DEBUG };
	char line[1024];
	va_list ap;

	if (quiet || level > max_level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (use_syslog)
		syslog(priority[level], "%s", line);
	else
		fprintf(stderr, "%s: %s\n", log_name, line);
}
