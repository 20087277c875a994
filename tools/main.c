/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - `balefs COMMAND ...`, and the same commands under the names that
 * mkfs(8), mount(8), umount(8) and fsck(8) look for: mkfs.balefs,
 * mount.balefs, mount.fuse.balefs and so on.
 */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "balefs/gpu.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/fuse/session.h"
#include "tools/cmd.h"

#ifndef BALE_VERSION
#error "BALE_VERSION comes from meson.build"
#endif

static const struct bale_cmd *const commands[] = {
	&bale_cmd_mkfs,	      &bale_cmd_mount, &bale_cmd_umount,
	&bale_cmd_fsck,	      &bale_cmd_stats, &bale_cmd_dump,
	&bale_cmd_recompress, &bale_cmd_scrub, &bale_cmd_salvage,
	&bale_cmd_bench,
};
enum { NR_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_gpus(void)
{
	struct bale_gpu_info info;
	uint32_t nr = 0;
	int r;

	if (!bale_gpu_built()) {
		printf("gpu: not in this build\n");
		return;
	}
	r = bale_gpu_count(&nr);
	if (r || !nr)
		printf("gpu: %s\n", r ? strerror(-r) : "none");
	for (uint32_t k = 0; k < nr; k++)
		if (!bale_gpu_info_get(k, &info))
			printf("gpu: %s, %s\n", info.name, info.pci_id);
}

static void print_version(void)
{
	printf("balefs " BALE_VERSION "\ncodecs:");
	for (unsigned int id = 0; id < BALE_CODEC_NR; id++)
		if (bale_codec_known(id, 0))
			printf(" %s", bale_codec_name(id));
	printf("\nlibfuse: %s\n", bale_session_libfuse());
	print_gpus();
}

static void print_help(FILE *f)
{
	fprintf(f,
		"usage: balefs COMMAND [OPTION..] [ARGUMENT..]\n"
		"       balefs --version\n\n"
		"A compressed filesystem kept in a directory, the store.\n\n");
	for (int i = 0; i < NR_COMMANDS; i++)
		fprintf(f, "  %-12s%s\n", commands[i]->name,
			commands[i]->summary);
	fprintf(f, "\nbalefs COMMAND --help tells more.\n");
}

static const struct bale_cmd *find_command(const char *name, size_t len)
{
	for (int i = 0; i < NR_COMMANDS; i++)
		if (strlen(commands[i]->name) == len &&
		    !memcmp(commands[i]->name, name, len))
			return commands[i];
	return NULL;
}

/* "mkfs.balefs", "/sbin/mount.fuse.balefs" -> the command. */
static const struct bale_cmd *command_of_program(const char *path)
{
	static const char *const suffixes[] = { ".fuse.balefs", ".balefs" };
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	size_t len = strlen(base);

	for (int i = 0; i < 2; i++) {
		size_t cut = strlen(suffixes[i]);

		if (len > cut && !strcmp(base + len - cut, suffixes[i])) {
			bale_cmd_set_called_as("%s", base);
			return find_command(base, len - cut);
		}
	}
	return NULL;
}

static int run_command(const struct bale_cmd *cmd, int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help")) {
			fputs(cmd->usage, stdout);
			return BALE_EXIT_OK;
		}
	opterr = 0;
	argv[0] = (char *)bale_cmd_called_as();
	bale_log_set_name(argv[0]);
	return cmd->fn(cmd, argc, argv);
}

/* A full disk or closed pipe must not look like success to a script. */
static int finish(int status)
{
	if (fflush(stdout) || ferror(stdout)) {
		bale_cmd_error("standard output: %s", strerror(errno));
		return status ? status : BALE_EXIT_FAILED;
	}
	return status;
}

int main(int argc, char **argv)
{
	const struct bale_cmd *cmd;

	if (argc < 1)
		return BALE_EXIT_USAGE;
	cmd = command_of_program(argv[0]);
	if (!cmd && argc >= 2 && argv[1][0] != '-') {
		cmd = find_command(argv[1], strlen(argv[1]));
		if (!cmd) {
			bale_cmd_error("unknown command %s (see balefs --help)",
				       argv[1]);
			return BALE_EXIT_USAGE;
		}
		bale_cmd_set_called_as("balefs %s", cmd->name);
		argc--;
		argv++;
	}
	if (argc >= 2 && !strcmp(argv[1], "--version")) {
		print_version();
		return finish(BALE_EXIT_OK);
	}
	if (cmd)
		return finish(run_command(cmd, argc, argv));
	if (argc >= 2 &&
	    (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		print_help(stdout);
		return finish(BALE_EXIT_OK);
	}
	if (argc >= 2) {
		bale_cmd_error("unknown option %s (see balefs --help)",
			       argv[1]);
		return BALE_EXIT_USAGE;
	}
	print_help(stderr);
	return BALE_EXIT_USAGE;
}
