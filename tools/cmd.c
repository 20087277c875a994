/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.c - messages of the commands. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "tools/cmd.h"

static char called_as[64] = "balefs";

void bale_cmd_set_called_as(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(called_as, sizeof(called_as), fmt, ap);
	va_end(ap);
}

const char *bale_cmd_called_as(void)
{
	return called_as;
}

void bale_cmd_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "%s: ", called_as);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int bale_cmd_usage_error(const struct bale_cmd *cmd, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "%s: ", called_as);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see %s --help)\n", called_as);
	return cmd->exit_usage ? cmd->exit_usage : BALE_EXIT_USAGE;
}

int bale_cmd_bad_option(const struct bale_cmd *cmd, int got, char **argv)
{
	const char *arg = argv[optind - 1];

	if (got == ':')
		return bale_cmd_usage_error(cmd, "%s needs a value", arg);
	if (optopt && strncmp(arg, "--", 2))
		return bale_cmd_usage_error(cmd, "unknown option -%c", optopt);
	return bale_cmd_usage_error(cmd, "unknown or ambiguous option %s", arg);
}

const char *bale_cmd_strerror(int err)
{
	switch (err) {
	case -ENOENT:
		return "no such directory, or not a balefs store";
	case -EUCLEAN:
		return "not a balefs store, or damaged (fsck.balefs tells)";
	case -EBADMSG:
		return "checksum mismatch (fsck.balefs tells where)";
	case -EOPNOTSUPP:
		return "format or feature of a newer version";
	default:
		return strerror(-err);
	}
}
