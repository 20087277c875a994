/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - runs a fuzz target without libFuzzer: every file of the given
 * directories as it is, then MUTATIONS changes of each (bits flipped, bytes
 * set, cut, doubled), the same ones on every run. A corpus of nothing fails.
 * With -s, the input that a crash came of is written to SAVE.
 * usage: fuzz_TARGET [-m MUTATIONS] [-s SAVE] DIR|FILE...
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 1 << 20 };

static unsigned long mutations = 500;
static unsigned long nr_files, nr_runs;
static char current[4096];
static const char *save;
static const uint8_t *input;
static size_t input_len;

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * 0x2545f4914f6cdd1dULL;
}

/* Exact size on the heap, so that a sanitizer sees a read past the end. */
static void run(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	FUZZ_ASSERT(copy);
	if (len)
		memcpy(copy, data, len);
	input = copy;
	input_len = len;
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	nr_runs++;
}

static size_t mutate(uint8_t *p, size_t len, uint64_t *x)
{
	static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xfe, 0xff };
	size_t at = len ? next_random(x) % len : 0;

	/* Headers are at the front: more of the changes go there. */
	if (len > 32 && next_random(x) % 4 == 0)
		at %= 32;
	switch (len ? next_random(x) % 6 : 5) {
	case 0:
	case 1:
		p[at] ^= (uint8_t)(1 << next_random(x) % 8);
		return len;
	case 2:
		p[at] = edges[next_random(x) % sizeof(edges)];
		return len;
	case 3:
		return at;
	case 4:
		memmove(p + at, p + at + 1, len - at - 1);
		return len - 1;
	default:
		if (len < INPUT_MAX) {
			memmove(p + at + 1, p + at, len - at);
			p[at] = (uint8_t)next_random(x);
			len++;
		}
		return len;
	}
}

static void replay_file(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX), *work = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rb");
	uint64_t x = 0x9e3779b97f4a7c15ULL;
	size_t len;

	FUZZ_ASSERT(data && work);
	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	len = fread(data, 1, INPUT_MAX, f);
	fclose(f);
	nr_files++;
	snprintf(current, sizeof(current), "%s", path);
	run(data, len);
	for (unsigned long m = 0; m < mutations; m++) {
		size_t n = len;

		memcpy(work, data, len);
		for (uint64_t c = 1 + next_random(&x) % 3; c; c--)
			n = mutate(work, n, &x);
		run(work, n);
	}
	free(work);
	free(data);
}

static void replay(const char *path)
{
	struct stat st;
	struct dirent **names;
	int n;

	if (stat(path, &st)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	if (!S_ISDIR(st.st_mode)) {
		replay_file(path);
		return;
	}
	n = scandir(path, &names, NULL, alphasort);
	FUZZ_ASSERT(n >= 0);
	for (int i = 0; i < n; i++) {
		char child[4096];

		snprintf(child, sizeof(child), "%s/%s", path, names[i]->d_name);
		if (names[i]->d_name[0] != '.')
			replay_file(child);
		free(names[i]);
	}
	free(names);
}

static bool save_input(void)
{
	int fd = save ? open(save, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;

	return !save || write(fd, input, input_len) == (ssize_t)input_len;
}

/* A crash names its input; only calls that a signal handler may make. */
static void say_where(int sig)
{
	static const char what[] = "while replaying ";

	if (write(STDERR_FILENO, what, sizeof(what) - 1) > 0 &&
	    write(STDERR_FILENO, current, strlen(current)) > 0 &&
	    write(STDERR_FILENO, "\n", 1) > 0 && save_input())
		raise(sig);
	_exit(1);
}

int main(int argc, char **argv)
{
	static const int fatal[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE };
	struct sigaction sa = {
		.sa_handler = say_where,
		.sa_flags = (int)SA_RESETHAND,
	};
	int c;

	while ((c = getopt(argc, argv, "m:s:")) == 'm' || c == 's') {
		if (c == 'm')
			mutations = strtoul(optarg, NULL, 10);
		else
			save = optarg;
	}
	if (c != -1 || optind == argc) {
		fprintf(stderr,
			"usage: %s [-m MUTATIONS] [-s SAVE] DIR|FILE...\n",
			argv[0]);
		return 2;
	}
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		sigaction(fatal[i], &sa, NULL);
	for (int i = optind; i < argc; i++)
		replay(argv[i]);
	printf("%lu files, %lu runs\n", nr_files, nr_runs);
	return nr_files ? 0 : 1;
}
