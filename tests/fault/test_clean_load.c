/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaner under steady random overwrite, in this process: what a store
 * takes on disk for what lives in it, and how long a write waits, first with
 * the cleaner held still, then at work.
 *
 *   test_clean_load SECONDS [FULL_PERCENT [FILE_MIB [RATE_MIB [SEED [plain]]]]]
 *
 * The I/O layer is told of a disk so small that what lives fills FULL_PERCENT;
 * with `plain`, of one that cannot make holes in files.
 */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clean_backends.h"
#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"

enum {
	SEGMENT_BITS = 22,
	/* Beside the segments: log, checkpoints, index, reserve, and room for
	 * what is dirty, uncompressed. */
	OVERHEAD = 80 << 20,
	DU_NS = 20000000,
	LONGEST_MS = 500,
	/* A shorter run says what the longest write was, and no more: one
	 * pause of a busy machine would be all that it judges. */
	JUDGED_S = 30,
};

/* What the segments may take on disk, for what lives in them. */
static const double WORK_RATIO = 2.5, REST_RATIO = 1.5;
static double good_ratio = 1.25; /* no need to wait any more */

static char store_dir[64], probe_file[80];
static struct bale_io_ops ops;
static _Atomic uint64_t disk_bytes; /* 0: what there is */
static _Atomic uint64_t du_at, du_value;
static int failed;

/* ---- a small disk ---- */

static _Thread_local uint64_t du_sum;

static int add_blocks(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)path;
	(void)flag;
	(void)ftw;
	du_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

static uint64_t du(const char *sub)
{
	char path[96];

	snprintf(path, sizeof(path), "%s%s", store_dir, sub);
	du_sum = 0;
	nftw(path, add_blocks, 8, FTW_PHYS);
	return du_sum;
}

static int small_space(struct bale_io *io, uint64_t *total, uint64_t *left)
{
	uint64_t now = bale_now_ns(), full = disk_bytes;

	if (!full)
		return bale_io_posix.space(io, total, left);
	if (now - du_at > DU_NS) {
		du_value = du("");
		du_at = now;
	}
	*total = full;
	*left = du_value < full ? full - du_value : 0;
	return 0;
}

static int no_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	(void)io;
	(void)fd;
	(void)off;
	(void)len;
	return -EOPNOTSUPP;
}

/* ---- samples ---- */

struct sample {
	double ratio, max_ratio, sum;
	unsigned int nr;
	uint64_t min_left;
};
static struct sample sample;

static uint64_t live_bytes(void)
{
	struct bale_space_info s;

	bale_space_info(bale_fs_store(load_fs), &s);
	return s.live;
}

static double stored_ratio(void)
{
	uint64_t live = live_bytes();

	return live ? (double)du("/seg") / (double)live : 0;
}

static bool take_sample(void)
{
	uint64_t total, left;

	sample.ratio = stored_ratio();
	sample.sum += sample.ratio;
	sample.nr++;
	if (sample.ratio > sample.max_ratio)
		sample.max_ratio = sample.ratio;
	small_space(bale_store_io(bale_fs_store(load_fs)), &total, &left);
	if (left < sample.min_left)
		sample.min_left = left;
	return false;
}

static void times_line(const char *what, const struct load_times *t)
{
	if (t->nr)
		printf("  %-6s n %7llu  p50 %8.3f  p99 %8.3f  p99.9 %8.3f  "
		       "max %8.3f ms\n",
		       what, (unsigned long long)t->nr, load_times_ms(t, 0.5),
		       load_times_ms(t, 0.99), load_times_ms(t, 0.999),
		       load_times_max_ms(t));
}

static void run(struct load *l, const char *name, double seconds,
		struct load_result *r)
{
	struct bale_cleaner_stats a, b;

	memset(&sample, 0, sizeof(sample));
	sample.min_left = UINT64_MAX;
	bale_cleaner_stats(bale_fs_store(load_fs), &a);
	load_run(l, seconds, take_sample, r);
	bale_cleaner_stats(bale_fs_store(load_fs), &b);
	printf("%s: %.1f s, %.1f MiB/s written, %llu files replaced, %llu "
	       "recompressed\n",
	       name, r->seconds, (double)r->bytes / r->seconds / 1048576,
	       (unsigned long long)r->files_replaced,
	       (unsigned long long)r->recompressed);
	printf("  stored/live mean %.3f max %.3f end %.3f, least free %.1f "
	       "MiB\n",
	       sample.sum / (sample.nr + !sample.nr), sample.max_ratio,
	       sample.ratio, (double)sample.min_left / 1048576);
	printf("  cleaner: freed %.1f punched %.1f copied %.1f MiB; %llu "
	       "waits for it, longest %.3f ms\n",
	       (double)(b.bytes_freed - a.bytes_freed) / 1048576,
	       (double)(b.bytes_punched - a.bytes_punched) / 1048576,
	       (double)(b.bytes_copied - a.bytes_copied) / 1048576,
	       (unsigned long long)(b.waits - a.waits),
	       (double)b.wait_max_ns / 1e6);
	times_line("write", &r->write);
	times_line("fsync", &r->fsync);
	times_line("disk", &r->probe);
	fflush(stdout);
}

static void want(bool ok, const char *what, double is, double bound)
{
	if (ok)
		return;
	printf("FAILED: %s is %.3f, bound %.3f\n", what, is, bound);
	failed = 1;
}

static void open_fs(void)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .cache_bytes = 32 << 20,
				     .bale_bytes = 4 << 20,
				     .commit_ns = 1000000000,
				     .nr_workers = 2,
				     .io_ops = &ops };
	int r = bale_fs_open(store_dir, &o, &load_fs);

	if (r) {
		fprintf(stderr, "open: %s\n", strerror(-r));
		exit(1);
	}
}

/* Nobody asks: the thread finds it by itself, within three of its periods. */
static double settle(void)
{
	uint64_t end = bale_now_ns() + (uint64_t)15 * 1000000000;
	double ratio;

	bale_fs_sync(load_fs);
	do {
		usleep(500000);
		ratio = stored_ratio();
	} while (ratio > good_ratio && bale_now_ns() < end);
	return ratio;
}

static int finish(struct load *l)
{
	int r;

	load_verify(l);
	load_close(l);
	r = bale_fs_close(load_fs);
	if (r)
		return r;
	open_fs();
	load_open(l);
	load_verify(l);
	load_close(l);
	return bale_fs_close(load_fs);
}

/* The cleaner may cost a write so much, on a machine that does other things:
 * that is what the other two figures of the same run tell. */
static void longest(const struct load_result *still,
		    const struct load_result *work)
{
	double bound = LONGEST_MS;

	if (4 * load_times_max_ms(&still->write) > bound)
		bound = 4 * load_times_max_ms(&still->write);
	if (4 * load_times_max_ms(&work->probe) > bound)
		bound = 4 * load_times_max_ms(&work->probe);
	want(load_times_max_ms(&work->write) < bound, "longest write in ms",
	     load_times_max_ms(&work->write), bound);
}

static void measure(struct load *l, double seconds, unsigned int percent)
{
	struct load_result still, work;
	uint64_t live;
	double ratio;

	load_open(l);
	load_fill(l);
	bale_fs_sync(load_fs);
	bale_fault_arm("cleaner.pass:1+:EAGAIN");
	run(l, "cleaner held still, large disk", seconds / 3, &still);
	bale_fault_clear();
	bale_fs_sync(load_fs);
	bale_cleaner_run(bale_fs_store(load_fs), 0);
	live = live_bytes();
	disk_bytes = live * 100 / percent + OVERHEAD;
	printf("%.1f MiB live on a disk of %.1f MiB\n", (double)live / 1048576,
	       (double)disk_bytes / 1048576);
	run(l, "cleaner at work", seconds * 2 / 3, &work);
	want(sample.sum / sample.nr < WORK_RATIO, "stored/live at work",
	     sample.sum / sample.nr, WORK_RATIO);
	ratio = settle();
	printf("settled: stored/live %.3f\n", ratio);
	want(ratio < REST_RATIO, "stored/live at rest", ratio, REST_RATIO);
	load_remove(l, 2);
	ratio = settle();
	printf("half removed: stored/live %.3f, %.1f MiB live\n", ratio,
	       (double)live_bytes() / 1048576);
	want(ratio < REST_RATIO, "stored/live after removal", ratio,
	     REST_RATIO);
	if (seconds >= JUDGED_S)
		longest(&still, &work);
	else
		printf("longest write %.1f ms, held still %.1f\n",
		       load_times_max_ms(&work.write),
		       load_times_max_ms(&still.write));
}

int main(int argc, char **argv)
{
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.codec = BALE_CODEC_auto,
					.segment_bits = SEGMENT_BITS,
					.log_bits = 20 };
	struct load_options o = { .writers = 3,
				  .files = 4,
				  .fsync_in = 200,
				  .recompress = true,
				  .probe = probe_file };
	unsigned int percent = argc > 2 ? (unsigned int)atoi(argv[2]) : 75;
	char cmd[128];
	struct load *l;
	int r;

	if (argc < 2)
		return 2;
	o.file_bytes = (argc > 3 ? strtoull(argv[3], NULL, 10) : 8) << 20;
	o.rate = (argc > 4 ? strtoull(argv[4], NULL, 10) : 24) << 20;
	o.seed = argc > 5 ? (unsigned int)atoi(argv[5]) : 1;
	bale_log_set_level(BALE_LOG_WARN);
	ops = bale_io_posix;
	ops.space = small_space;
	if (argc > 6 && !strcmp(argv[6], "plain"))
		ops.punch = no_punch;
	if (ops.punch == no_punch)
		good_ratio = 1.4;
	snprintf(store_dir, sizeof(store_dir), "/tmp/bale-clean-%d",
		 (int)getpid());
	snprintf(probe_file, sizeof(probe_file), "%s.probe", store_dir);
	r = bale_store_mkfs(store_dir, &mk);
	if (r)
		return 1;
	open_fs();
	l = load_new(&load_core, &o);
	measure(l, atof(argv[1]), percent);
	r = finish(l);
	load_free(l);
	want(!r, "error of the close", r, 0);
	unlink(probe_file);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", store_dir);
	return system(cmd) || failed;
}
