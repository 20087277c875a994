/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host to host through an engine: the bytes of the files given, in pinned
 * memory, in batches of which several are under way, encoded and decoded.
 * Rates are of decoded bytes; each run ends with a comparison.
 *
 *   bench_engine_gpu [-e cpu|gpu] [-s SLOTS] [-u UNITS] [-m MIB] [-b MIB]
 *                    [-q BATCHES] [-c POLICY] [-w WORKERS] [-t SECONDS] [-V]
 *                    FILE...
 */
#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/thread.h"
#include "fs/codec/codec.h"

enum { EXT = BALE_EXTENT_DEFAULT };

static struct {
	struct bale_gpu_options gpu;
	struct bale_codec_policy policy;
	bool on_gpu;
	size_t batch, queue; /* extents; batches under way */
	unsigned int workers;
	double seconds;
} o = {
	.gpu = { .always = true, .no_profile = true },
	.batch = 256,
	.queue = 8,
	.seconds = 1,
};

static uint8_t *src, *coded, *back;
static size_t nr_extents, room;
static struct bale_job *enc, *dec;

static struct {
	struct bale_mutex lock;
	struct bale_cond cond;
	size_t flying; /* lock */
} gate;

static void *get_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

/* The files, again and again, until `len` bytes are there. */
static void load(char **files, int nr, size_t len)
{
	size_t have = 0, before;

	do {
		before = have;
		for (int i = 0; i < nr && have < len; i++) {
			FILE *f = fopen(files[i], "rb");

			if (!f) {
				perror(files[i]);
				exit(1);
			}
			have += fread(src + have, 1, len - have, f);
			fclose(f);
		}
	} while (have < len && have > before);
	nr_extents = have / EXT;
}

/* A batch has its own jobs, so it is under way once at most. */
struct flight {
	bool busy; /* gate.lock */
};
static struct flight *flights;

static void batch_done(void *arg)
{
	struct flight *f = arg;

	bale_mutex_lock(&gate.lock);
	gate.flying--;
	f->busy = false;
	bale_cond_signal(&gate.cond);
	bale_mutex_unlock(&gate.lock);
}

static void submit(struct bale_engine *e, struct bale_job *jobs, size_t nr,
		   struct flight *f)
{
	bale_mutex_lock(&gate.lock);
	while (gate.flying >= o.queue || f->busy)
		bale_cond_wait(&gate.cond, &gate.lock);
	gate.flying++;
	f->busy = true;
	bale_mutex_unlock(&gate.lock);
	if (e->ops->submit(e, jobs, nr, batch_done, f)) {
		fprintf(stderr, "submit failed\n");
		exit(1);
	}
}

static void drain(void)
{
	bale_mutex_lock(&gate.lock);
	while (gate.flying)
		bale_cond_wait(&gate.cond, &gate.lock);
	bale_mutex_unlock(&gate.lock);
}

/* GB/s over whole passes, at least for the time asked. */
static double run(struct bale_engine *e, struct bale_job *jobs)
{
	uint64_t start, end;
	size_t passes = 0;

	start = bale_now_ns();
	do {
		for (size_t i = 0; i < nr_extents; i += o.batch)
			submit(e, jobs + i,
			       nr_extents - i < o.batch ? nr_extents - i :
							  o.batch,
			       &flights[i / o.batch]);
		passes++;
		end = bale_now_ns();
	} while ((double)(end - start) < o.seconds * 1e9);
	drain();
	end = bale_now_ns();
	return (double)(passes * nr_extents * EXT) / (double)(end - start);
}

static void make_jobs(void)
{
	for (size_t i = 0; i < nr_extents; i++)
		enc[i] = (struct bale_job){
			.op = BALE_JOB_ENCODE,
			.codec = o.policy.codec,
			.level = o.policy.level,
			.src = src + i * EXT,
			.src_len = EXT,
			.dst = coded + i * room,
			.dst_cap = room,
		};
}

static size_t make_decode(void)
{
	size_t stored = 0;

	for (size_t i = 0; i < nr_extents; i++) {
		bool raw = enc[i].ret_codec == BALE_CODEC_raw;

		stored += enc[i].len;
		dec[i] = (struct bale_job){
			.op = BALE_JOB_DECODE,
			.codec = enc[i].ret_codec,
			.src = raw ? enc[i].src : enc[i].dst,
			.src_len = enc[i].len,
			.dst = back + i * EXT,
			.dst_cap = EXT,
		};
	}
	return stored;
}

static struct bale_engine *open_engine(void)
{
	struct bale_engine_stats st = { 0 };
	struct bale_engine *e = NULL;
	size_t want = 2 * nr_extents * EXT + nr_extents * room;
	int r;

	r = o.on_gpu ? bale_engine_gpu_create(&o.gpu, o.workers, &e) :
		       bale_engine_cpu_create(o.workers, &e);
	if (r) {
		fprintf(stderr, "engine: %s\n", strerror(-r));
		exit(1);
	}
	bale_engine_pin(e, src, nr_extents * EXT, true);
	bale_engine_pin(e, coded, (nr_extents * room + 4095) / 4096 * 4096, true);
	bale_engine_pin(e, back, nr_extents * EXT, true);
	for (int n = 0; o.on_gpu && n < 20000; n++) {
		e->ops->stats(e, &st);
		if (st.nr_devs &&
		    st.devs[0].pinned_bytes > want + st.devs[0].slot_bytes)
			break;
		usleep(1000);
	}
	return e;
}

static double cpu_seconds(void)
{
	return (double)bale_cpu_ns() / 1e9;
}

static int measure(struct bale_engine *e)
{
	struct bale_engine_stats st;
	double cpu0, cpu1, cpu2, up, down;
	size_t stored, all = nr_extents * EXT, bad = 0;

	make_jobs();
	run(e, enc); /* memory, clocks, code */
	cpu0 = cpu_seconds();
	up = run(e, enc);
	cpu1 = cpu_seconds();
	stored = make_decode();
	memset(back, 0, all);
	down = run(e, dec);
	cpu2 = cpu_seconds();
	for (size_t i = 0; i < nr_extents; i++)
		bad += enc[i].status || dec[i].status;
	bad += memcmp(src, back, all) != 0;
	e->ops->stats(e, &st);
	printf("%-4s codec %u:%d slots %u unit %u batch %zu: enc %6.2f GB/s "
	       "ratio %.3f dec %6.2f GB/s  (cpu %.1f, %.1f s)%s",
	       o.on_gpu ? "gpu" : "cpu", o.policy.codec, o.policy.level,
	       o.gpu.nr_slots, o.gpu.slot_units, o.batch, up,
	       (double)all / (double)stored, down, cpu1 - cpu0, cpu2 - cpu1,
	       bad ? " WRONG" : "");
	if (st.nr_devs)
		printf(" kernels %.2f s over %llu batches, slot %llu MiB, "
		       "over to cpu %llu, %s",
		       (double)st.devs[0].device_ns / 1e9,
		       (unsigned long long)st.devs[0].batches,
		       (unsigned long long)(st.devs[0].slot_bytes >> 20),
		       (unsigned long long)st.devs[0].failed_over,
		       st.devs[0].state);
	putchar('\n');
	return bad != 0;
}

int main(int argc, char **argv)
{
	size_t total = (size_t)256 << 20;
	struct bale_engine *e;
	int c, r;

	bale_codec_policy_parse("lz4", &o.policy);
	while ((c = getopt(argc, argv, "e:s:u:m:b:q:c:w:t:g:V")) != -1) {
		switch (c) {
		case 'e':
			o.on_gpu = !strcmp(optarg, "gpu");
			break;
		case 's':
			o.gpu.nr_slots = (unsigned int)atoi(optarg);
			break;
		case 'u':
			o.gpu.slot_units = (uint32_t)atoi(optarg);
			break;
		case 'm':
			total = (size_t)atoi(optarg) << 20;
			break;
		case 'b':
			o.batch = ((size_t)atoi(optarg) << 20) / EXT;
			break;
		case 'q':
			o.queue = (size_t)atoi(optarg);
			break;
		case 'c':
			if (bale_codec_policy_parse(optarg, &o.policy))
				return 2;
			break;
		case 'w':
			o.workers = (unsigned int)atoi(optarg);
			break;
		case 't':
			o.seconds = atof(optarg);
			break;
		case 'g':
			o.gpu.mem_bytes = (uint64_t)atoi(optarg) << 20;
			break;
		case 'V':
			o.gpu.no_verify = true;
			break;
		default:
			return 2;
		}
	}
	if (optind == argc || !o.batch || !o.queue)
		return 2;
	bale_log_set_level(BALE_LOG_DEBUG);
	bale_mutex_init(&gate.lock);
	bale_cond_init(&gate.cond);
	src = get_memory(total);
	load(argv + optind, argc - optind, total);
	room = (bale_codec_bound(EXT) + 4095) / 4096 * 4096;
	coded = get_memory(nr_extents * room + 4096);
	back = get_memory(total);
	enc = calloc(nr_extents, sizeof(*enc));
	dec = calloc(nr_extents, sizeof(*dec));
	flights = calloc(nr_extents, sizeof(*flights));
	if (!nr_extents || !enc || !dec || !flights)
		return 1;
	e = open_engine();
	r = measure(e);
	bale_engine_unpin(e, src);
	bale_engine_unpin(e, coded);
	bale_engine_unpin(e, back);
	bale_engine_destroy(e);
	return r;
}
