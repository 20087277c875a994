/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of clean_load.h on a mount, for tests/soak/cleaner.py, which mounts
 * and unmounts. Commands come on standard input, each is answered with one
 * line of JSON: open DIR | close | fill | run SECONDS | verify | remove N.
 *
 *   clean_mount WRITERS FILES FILE_MIB RATE_MIB SEED PROBE
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clean_backends.h"

static void print_times(const char *name, const struct load_times *t)
{
	printf("\"%s\": {\"n\": %llu, \"p50\": %.3f, \"p99\": %.3f, "
	       "\"p999\": %.3f, \"max\": %.3f}, ",
	       name, (unsigned long long)t->nr, load_times_ms(t, 0.5),
	       load_times_ms(t, 0.99), load_times_ms(t, 0.999),
	       load_times_max_ms(t));
}

static void run(struct load *l, double seconds)
{
	struct load_result r;

	load_run(l, seconds, NULL, &r);
	printf("{");
	print_times("write", &r.write);
	print_times("fsync", &r.fsync);
	print_times("probe", &r.probe);
	printf("\"bytes\": %llu, \"replaced\": %llu, \"recompressed\": %llu, "
	       "\"seconds\": %.1f}\n",
	       (unsigned long long)r.bytes,
	       (unsigned long long)r.files_replaced,
	       (unsigned long long)r.recompressed, r.seconds);
}

static int obey(struct load *l, char *line)
{
	char *arg = strchr(line, ' ');

	line[strcspn(line, "\n")] = 0;
	if (arg)
		*arg++ = 0;
	if (!strcmp(line, "run") && arg) {
		run(l, atof(arg));
		return 0;
	}
	if (!strcmp(line, "open") && arg) {
		load_dir_fd = open(arg, O_RDONLY | O_DIRECTORY);
		if (load_dir_fd < 0)
			return 1;
		load_open(l);
	} else if (!strcmp(line, "close")) {
		load_close(l);
		close(load_dir_fd);
	} else if (!strcmp(line, "fill")) {
		load_fill(l);
	} else if (!strcmp(line, "verify")) {
		load_verify(l);
	} else if (!strcmp(line, "remove") && arg) {
		load_remove(l, (unsigned int)atoi(arg));
	} else {
		return 2;
	}
	puts("{}");
	return 0;
}

int main(int argc, char **argv)
{
	struct load_options o = { .recompress = true, .fsync_in = 100 };
	char line[4200];
	struct load *l;
	int r = 0;

	if (argc != 7)
		return 2;
	o.writers = (unsigned int)atoi(argv[1]);
	o.files = (unsigned int)atoi(argv[2]);
	o.file_bytes = strtoull(argv[3], NULL, 10) << 20;
	o.rate = strtoull(argv[4], NULL, 10) << 20;
	o.seed = (unsigned int)atoi(argv[5]);
	o.probe = argv[6];
	l = load_new(&load_mount, &o);
	while (!r && fgets(line, sizeof(line), stdin)) {
		r = obey(l, line);
		fflush(stdout);
	}
	load_free(l);
	return r;
}
