/* SPDX-License-Identifier: Apache-2.0 */
/* bench_open.c - the engines that `balefs bench` measures and compares. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balefs/gpu.h"
#include "fs/base/clock.h"
#include "fs/base/mem.h"
#include "tools/bench.h"
#include "tools/cmd.h"

enum { READY_SECONDS = 20, POLL_US = 5000 };

/* Devices are opened behind the engine's back; until then it is a CPU. */
static int wait_ready(struct bale_engine *e)
{
	bale_autofree struct bale_engine_stats *s = calloc(1, sizeof(*s));
	uint64_t end = bale_now_ns() + READY_SECONDS * (uint64_t)1000000000;
	bool opening = true;

	if (!s)
		return -ENOMEM;
	while (opening && bale_now_ns() < end && !bale_bench_stopped()) {
		e->ops->stats(e, s);
		opening = !s->nr_devs;
		for (uint32_t i = 0; i < s->nr_devs; i++) {
			if (!strcmp(s->devs[i].state, "ready"))
				return 0;
			opening |= !strcmp(s->devs[i].state, "opening");
		}
		usleep(POLL_US);
	}
	if (bale_bench_stopped())
		return -EINTR;
	bale_cmd_error("engine %s: %s", e->ops->name,
		       s->nr_devs ? s->devs[0].state : "no device came up");
	return -EIO;
}

static int create_cpu(const struct bale_bench *b, struct bale_engine **ret)
{
	return bale_engine_cpu_create(b->threads, ret);
}

static int create_serial(const struct bale_bench *b, struct bale_engine **ret)
{
	(void)b;
	return bale_engine_serial_create(ret);
}

/*
 * Without the choice by cost: what a device can code, it codes. Nothing is
 * read from or kept in a profile.
 */
static int create_device(const struct bale_bench *b, enum bale_gpu_mode mode,
			 struct bale_engine **ret)
{
	struct bale_gpu_options o = { .mode = mode,
				      .always = true,
				      .no_profile = true };
	int r = bale_engine_gpu_create(&o, b->threads, ret);

	if (!r)
		r = wait_ready(*ret);
	if (r) {
		bale_engine_destroy(*ret);
		*ret = NULL;
	}
	return r;
}

static int create_gpu(const struct bale_bench *b, struct bale_engine **ret)
{
	uint32_t nr = 0;

	*ret = NULL;
	if (bale_gpu_count(&nr) || !nr)
		return -ENODEV;
	return create_device(b, BALE_GPU_AUTO, ret);
}

static int create_fake(const struct bale_bench *b, struct bale_engine **ret)
{
	*ret = NULL;
	return create_device(b, BALE_GPU_FAKE, ret);
}

/* Those that are not measured unless asked for still take part in the pairs.
 * -ENODEV: the machine has none of the kind. */
static const struct {
	const char *name;
	int (*create)(const struct bale_bench *b, struct bale_engine **ret);
	bool by_default, is_device;
} kinds[] = {
	{ "cpu", create_cpu, true, false },
	{ "serial", create_serial, false, false },
	{ "gpu", create_gpu, true, true },
	{ "fake", create_fake, false, true },
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
		int r;

		if (!named[k] && !strcmp(kinds[k].name, "fake"))
			continue; /* nothing to learn from, but for tests */
		r = kinds[k].create(b, &e->engine);

		if (r == -ENODEV && !named[k])
			continue;
		if (r == -EINTR)
			return BALE_EXIT_FAILED;
		if (r) {
			bale_cmd_error("engine %s: %s", kinds[k].name,
				       strerror(-r));
			return BALE_EXIT_FAILED;
		}
		e->name = kinds[k].name;
		e->is_device = kinds[k].is_device;
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
