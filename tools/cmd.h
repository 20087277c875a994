/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd.h - the commands of the one binary, and what they share: option errors,
 * sizes, "-o a=b,c" lists. A command is one file cmd_<name>.c that defines
 * `const struct bale_cmd bale_cmd_<name>`; main.c lists it. --help is answered
 * by main.c for every command. A command runs on the main thread, alone.
 */
#ifndef BALE_TOOLS_CMD_H
#define BALE_TOOLS_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "balefs/compiler.h"

enum {
	BALE_EXIT_OK = 0,
	BALE_EXIT_FAILED = 1,
	BALE_EXIT_USAGE = 2,
};

struct bale_cmd {
	const char *name;    /* "mkfs" */
	const char *summary; /* for the list of commands, lower case */
	const char *usage;   /* --help: lines of at most 80 columns */
	int exit_usage;	     /* exit status of a wrong call; 0: 2 */
	/* argv[0] is the name to put in front of messages; the result is the
	 * exit status of the process. */
	int (*fn)(const struct bale_cmd *cmd, int argc, char **argv);
};

extern const struct bale_cmd bale_cmd_mkfs;
extern const struct bale_cmd bale_cmd_fsck;
extern const struct bale_cmd bale_cmd_dump;
extern const struct bale_cmd bale_cmd_stats;
extern const struct bale_cmd bale_cmd_recompress;
extern const struct bale_cmd bale_cmd_bench;
extern const struct bale_cmd bale_cmd_scrub;
extern const struct bale_cmd bale_cmd_salvage;
extern const struct bale_cmd bale_cmd_mount;
extern const struct bale_cmd bale_cmd_umount;

/* ---- errors: one line on stderr, with the command's name in front ---- */

void bale_cmd_error(const char *fmt, ...) BALE_PRINTF(1, 2);
/* As above with a pointer to --help; returns the command's usage status. */
int bale_cmd_usage_error(const struct bale_cmd *cmd, const char *fmt, ...)
	BALE_PRINTF(2, 3);
/* What getopt_long() refused: '?' or ':' came back (opterr is 0, the short
 * options start with ':'). */
int bale_cmd_bad_option(const struct bale_cmd *cmd, int got, char **argv);
/* Text for a store that did not open: "no such directory", ... */
const char *bale_cmd_strerror(int err);
/* "balefs mkfs" or "mkfs.balefs", as the user called it. */
const char *bale_cmd_called_as(void);
void bale_cmd_set_called_as(const char *fmt, ...) BALE_PRINTF(1, 2);

/* ---- values ---- */

/* "4096", "128K", "128KiB", "1G", "0x1000"; -EINVAL, -ERANGE. */
int bale_size_parse(const char *text, uint64_t *ret);
/* "12.3 MiB", "17 B"; buf of BALE_SIZE_TEXT bytes, returned. */
enum { BALE_SIZE_TEXT = 24 };
const char *bale_size_text(uint64_t bytes, char *buf);
/* A file name or path for people: control characters as \xHH. */
void bale_print_name(FILE *f, const char *s, size_t len);
/* A plain decimal, hexadecimal (0x) number; -EINVAL, -ERANGE. */
int bale_number_parse(const char *text, uint64_t *ret);

/*
 * Walk "a=1,b,c=2": *list moves on; *ret_key and *ret_value (NULL without '=')
 * point into it, which is cut up. A backslash keeps the next character, so
 * that values may hold commas. False at the end.
 */
bool bale_option_next(char **list, char **ret_key, char **ret_value);

#endif
