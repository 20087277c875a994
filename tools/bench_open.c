/* SPDX-License-Identifier: Apache-2.0 */
/* bench_open.c - the engines that `balefs bench` measures and compares. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/cmd.h"

static int create_cpu(const struct bale_bench *b, struct bale_engine **ret)
{
	return bale_engine_cpu_create(b->threads, ret);
}

static int create_serial(const struct bale_bench *b, struct bale_engine **ret)
{
	(void)b;
	return bale_engine_serial_create(ret);
}

/* Those that are not measured unless asked for still take part in the pairs.
 * -ENODEV: the machine has none of the kind. */
static const struct {
	const char *name;
	int (*create)(const struct bale_bench *b, struct bale_engine **ret);
	bool by_default;
} kinds[] = {
	{ "cpu", create_cpu, true },
	{ "serial", create_serial, false },
};
enum { NR_KINDS = sizeof(kinds) / sizeof(kinds[0]) };
static_assert((int)NR_KINDS <= (int)BALE_BENCH_ENGINES, "room for all");

static int parse_list(const struct bale_cmd *cmd, char *list, bool *named)
{
	for (char *key = strsep(&list, ","); key; key = strsep(&list, ",")) {
		int k = 0;

		while (k < NR_KINDS && strcmp(kinds[k].name, key))
			k++;
		if (k == NR_KINDS)
			return bale_cmd_usage_error(
				cmd, "--engine %s: not an engine", key);
		named[k] = true;
	}
	return 0;
}

int bale_bench_open(const struct bale_cmd *cmd, struct bale_bench *b,
		    char *list)
{
	bool named[NR_KINDS] = { false };
	int status = list ? parse_list(cmd, list, named) : 0;

	if (status)
		return status;
	for (int k = 0; k < NR_KINDS; k++) {
		struct bale_bench_engine *e = &b->engines[b->nr_engines];
		int r = kinds[k].create(b, &e->engine);

		if (r == -ENODEV && !named[k])
			continue;
		if (r) {
			bale_cmd_error("engine %s: %s", kinds[k].name,
				       strerror(-r));
			return BALE_EXIT_FAILED;
		}
		e->name = kinds[k].name;
		e->measured = list ? named[k] : kinds[k].by_default;
		b->nr_engines++;
	}
	return 0;
}

void bale_bench_close(struct bale_bench *b)
{
	for (size_t i = 0; i < b->nr_engines; i++)
		bale_engine_destroy(b->engines[i].engine);
	b->nr_engines = 0;
}
