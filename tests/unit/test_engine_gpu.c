/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine over GPUs, on the stand-in device: results, what the CPU takes
 * over and when, hangs, losses, the way back, statistics, and its end.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/clock.h"
#include "fs/base/crc32c.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/codec/engine_gpu.h"

enum { EXT = 64 << 10, MS = 1000000 };

static struct bale_engine *create(const struct bale_gpu_options *more)
{
	struct bale_gpu_options o = { 0 };
	struct bale_engine *e = NULL;

	if (more)
		o = *more;
	o.mode = BALE_GPU_FAKE;
	if (!o.nr_slots)
		o.nr_slots = 3;
	if (!o.slot_units)
		o.slot_units = 8;
	if (!o.hang_ns)
		o.hang_ns = 20000ull * MS;
	if (!o.retry_ns)
		o.retry_ns = 10 * MS;
	assert_int_equal(bale_engine_gpu_create(&o, 2, &e), 0);
	return e;
}

static void get_stats(struct bale_engine *e, struct bale_engine_stats *ret)
{
	e->ops->stats(e, ret);
}

static bool in_state(struct bale_engine *e, const char *state)
{
	struct bale_engine_stats st;

	get_stats(e, &st);
	return st.nr_devs && !strncmp(st.devs[0].state, state, strlen(state));
}

static void wait_state(struct bale_engine *e, const char *state)
{
	for (int n = 0; n < 20000 && !in_state(e, state); n++)
		usleep(1000);
	assert_true(in_state(e, state));
}

static struct bale_engine *create_ready(const struct bale_gpu_options *more)
{
	struct bale_engine *e = create(more);

	wait_state(e, "ready");
	return e;
}

/* ---- batches ---- */

/* nr extents of text, noise and patterns; what they became; and back. */
struct load {
	size_t nr;
	uint8_t *src, *coded, *back;
	size_t room;
	struct bale_job *enc, *dec;
};

static void fill_extent(uint8_t *p, size_t len, uint32_t x)
{
	uint32_t how = x % 5;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		if (how < 3)
			p[i] = "the quick brown fox\n"[(x >> 28) + i % 4];
		else
			p[i] = how == 3 ? (uint8_t)(x >> 24) : 7;
	}
}

static void load_init(struct load *l, size_t nr, unsigned int codec)
{
	l->nr = nr;
	l->room = bale_codec_bound(EXT);
	l->src = malloc(nr * EXT);
	l->coded = malloc(nr * l->room);
	l->back = malloc(nr * EXT);
	l->enc = calloc(nr, sizeof(*l->enc));
	l->dec = calloc(nr, sizeof(*l->dec));
	assert_true(l->src && l->coded && l->back && l->enc && l->dec);
	for (size_t i = 0; i < nr; i++) {
		size_t len = i % 7 == 6 ? 100 + i : EXT - i % 3 * 1000;

		fill_extent(l->src + i * EXT, len, (uint32_t)i);
		l->enc[i] = (struct bale_job){
			.op = BALE_JOB_ENCODE,
			.codec = (uint8_t)codec,
			.want_crc = i % 4 != 1,
			.src = l->src + i * EXT,
			.src_len = len,
			.dst = l->coded + i * l->room,
			.dst_cap = l->room,
			.status = -1,
			.cookie = &l->enc[i],
		};
	}
}

static void load_decode_jobs(struct load *l)
{
	memset(l->back, 0xee, l->nr * EXT);
	for (size_t i = 0; i < l->nr; i++) {
		struct bale_job *j = &l->enc[i];
		bool raw = j->ret_codec == BALE_CODEC_raw;

		l->dec[i] = (struct bale_job){
			.op = BALE_JOB_DECODE,
			.codec = j->ret_codec,
			.filter = j->ret_filter,
			.src = raw ? j->src : j->dst,
			.src_len = j->len,
			.dst = l->back + i * EXT,
			.dst_cap = j->src_len,
			.status = -1,
			.cookie = &l->dec[i],
		};
	}
}

/* Whoever coded it: the checksum is of what is to be stored. */
static void check_crc(const struct bale_job *j)
{
	bool raw = j->ret_codec == BALE_CODEC_raw;

	assert_true(j->has_crc || !j->want_crc);
	if (j->has_crc)
		assert_int_equal(j->crc, bale_crc32c(0, raw ? j->src : j->dst,
						     j->len));
}

static void load_check(struct load *l)
{
	for (size_t i = 0; i < l->nr; i++) {
		check_crc(&l->enc[i]);
		assert_int_equal(l->enc[i].status, 0);
		assert_int_equal(l->dec[i].status, 0);
		assert_ptr_equal(l->enc[i].cookie, &l->enc[i]);
		assert_ptr_equal(l->dec[i].cookie, &l->dec[i]);
		assert_memory_equal(l->back + i * EXT, l->src + i * EXT,
				    l->enc[i].src_len);
		/* Noise is raw, patterns are fills, text is coded. */
		if (i % 7 == 6)
			continue;
		if (i % 5 == 3)
			assert_int_equal(l->enc[i].ret_codec, BALE_CODEC_raw);
		else if (i % 5 == 4)
			assert_int_equal(l->enc[i].ret_codec, BALE_CODEC_fill);
		else
			assert_true(l->enc[i].ret_codec > BALE_CODEC_fill);
	}
}

static void load_fini(struct load *l)
{
	free(l->src);
	free(l->coded);
	free(l->back);
	free(l->enc);
	free(l->dec);
}

/* Encode and decode nr extents on e, decode on the CPU too. */
static void round_trip(struct bale_engine *e, size_t nr, unsigned int codec)
{
	struct load l;

	load_init(&l, nr, codec);
	assert_int_equal(bale_engine_run(e, l.enc, nr), 0);
	load_decode_jobs(&l);
	assert_int_equal(bale_engine_run(e, l.dec, nr), 0);
	load_check(&l);
	load_decode_jobs(&l);
	for (size_t i = 0; i < nr; i++)
		bale_codec_run(&l.dec[i]);
	load_check(&l);
	load_fini(&l);
}

static void what_goes_in_comes_back(void **state)
{
	static const size_t sizes[] = { 1, 2, 7, 8, 9, 31, 100 };
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st;

	(void)state;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		round_trip(e, sizes[s], BALE_CODEC_lz4);
		round_trip(e, sizes[s], BALE_CODEC_zstd);
		round_trip(e, sizes[s], BALE_CODEC_auto);
		if (bale_codec_known(BALE_CODEC_gdeflate, 0))
			round_trip(e, sizes[s], BALE_CODEC_gdeflate);
	}
	get_stats(e, &st);
	assert_int_equal(st.nr_devs, 1);
	assert_string_equal(st.devs[0].name, "fake device");
	assert_true(st.devs[0].jobs[BALE_JOB_ENCODE] > 100);
	assert_true(st.devs[0].jobs[BALE_JOB_DECODE] > 60);
	assert_true(st.devs[0].batches > 20);
	assert_true(st.devs[0].device_ns > 0);
	assert_true(st.devs[0].bytes_in[0] > st.devs[0].bytes_out[0]);
	assert_int_equal(st.devs[0].failed_over, 0);
	assert_int_equal(st.devs[0].slot_bytes, 8 * BALE_UNIT_SIZE);
	assert_int_equal(st.failed, 0);
	bale_engine_destroy(e);
}

static void an_engine_without_its_device_is_the_cpu(void **state)
{
	struct bale_engine_stats st;
	struct bale_engine *e;

	(void)state;
	bale_fault_arm("gpu.count:1+:EIO");
	e = create(NULL);
	round_trip(e, 20, BALE_CODEC_lz4);
	get_stats(e, &st);
	assert_int_equal(st.nr_devs, 0);
	/* 20 in, 20 out; the other 20 were decoded beside it */
	assert_int_equal(st.jobs[0] + st.jobs[1], 40);
	bale_engine_destroy(e);
	bale_fault_clear();
}

static void a_mixed_batch_is_one_batch(void **state)
{
	static const uint8_t codecs[] = { BALE_CODEC_lz4, BALE_CODEC_zstd,
					  BALE_CODEC_raw, BALE_CODEC_auto };
	struct bale_engine *e = create_ready(NULL);
	struct load l;

	(void)state;
	load_init(&l, 40, BALE_CODEC_lz4);
	for (size_t i = 0; i < l.nr; i++)
		l.enc[i].codec = codecs[i / 5 % 4];
	assert_int_equal(bale_engine_run(e, l.enc, l.nr), 0);
	for (size_t i = 0; i < l.nr; i++) {
		assert_int_equal(l.enc[i].status, 0);
		if (l.enc[i].codec == BALE_CODEC_zstd && i % 5 == 0)
			assert_int_equal(l.enc[i].ret_codec, BALE_CODEC_zstd);
		if (l.enc[i].codec == BALE_CODEC_raw && i % 5 == 0)
			assert_int_equal(l.enc[i].ret_codec, BALE_CODEC_raw);
	}
	load_decode_jobs(&l);
	assert_int_equal(bale_engine_run(e, l.dec, l.nr), 0);
	for (size_t i = 0; i < l.nr; i++) {
		assert_int_equal(l.dec[i].status, 0);
		assert_memory_equal(l.back + i * EXT, l.src + i * EXT,
				    l.enc[i].src_len);
	}
	load_fini(&l);
	bale_engine_destroy(e);
}

static void wrong_jobs_fail_alone(void **state)
{
	struct bale_engine *e = create_ready(NULL);
	struct load l;

	(void)state;
	load_init(&l, 9, BALE_CODEC_lz4);
	l.enc[1].dst_cap = 10; /* below the bound */
	l.enc[2].codec = BALE_CODEC_planes;
	assert_int_equal(bale_engine_run(e, l.enc, l.nr), 0);
	assert_int_equal(l.enc[0].status, 0);
	assert_int_equal(l.enc[1].status, -EINVAL);
	assert_int_equal(l.enc[2].status, -EOPNOTSUPP);
	l.enc[1] = l.enc[0];
	l.enc[2] = l.enc[0];
	load_decode_jobs(&l);
	memset((void *)(uintptr_t)l.dec[5].src, 0xff, 64);
	assert_int_equal(bale_engine_run(e, l.dec, l.nr), 0);
	for (size_t i = 0; i < l.nr; i++)
		assert_int_equal(l.dec[i].status, i == 5 ? -EUCLEAN : 0);
	load_fini(&l);
	bale_engine_destroy(e);
}

/* ---- faults ---- */

static uint64_t failed_over(struct bale_engine *e)
{
	struct bale_engine_stats st;

	get_stats(e, &st);
	return st.devs[0].failed_over;
}

static void a_batch_that_fails_is_done_by_the_cpu(void **state)
{
	static const char *const faults[] = {
		"gpu.submit:1:EIO", "gpu.memory:1:ENOMEM", "gpu.batch:1:EIO",
		"gpu.mismatch:1",   "gpu.crc:1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct bale_engine *e = create_ready(NULL);
		struct bale_engine_stats st;

		bale_fault_arm(faults[i]);
		round_trip(e, 30, BALE_CODEC_lz4);
		bale_fault_clear();
		get_stats(e, &st);
		assert_true(st.devs[0].failed_over >= 1);
		assert_int_equal(st.devs[0].mismatches, i >= 3 ? 1 : 0);
		assert_int_equal(st.devs[0].lost + st.devs[0].hung, 0);
		assert_string_equal(st.devs[0].state, "ready");
		assert_int_equal(st.failed, 0);
		bale_engine_destroy(e);
	}
}

static void a_lost_device_comes_back(void **state)
{
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st;

	(void)state;
	bale_fault_arm("gpu.lost:2");
	round_trip(e, 50, BALE_CODEC_lz4);
	bale_fault_clear();
	wait_state(e, "ready");
	get_stats(e, &st);
	assert_int_equal(st.devs[0].lost, 1);
	assert_int_equal(st.devs[0].reopened, 1);
	assert_true(st.devs[0].failed_over >= 1);
	bale_fault_clear();
	round_trip(e, 50, BALE_CODEC_lz4);
	assert_int_equal(failed_over(e), st.devs[0].failed_over);
	bale_engine_destroy(e);
}

static void failures_in_a_row_open_it_anew(void **state)
{
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st;

	(void)state;
	bale_fault_arm("gpu.batch:1+:EIO");
	for (int n = 0; n < 8 && !in_state(e, "fails"); n++)
		round_trip(e, 20, BALE_CODEC_lz4);
	bale_fault_clear();
	wait_state(e, "ready");
	get_stats(e, &st);
	assert_true(st.devs[0].reopened >= 1);
	assert_int_equal(st.devs[0].lost, 0);
	bale_engine_destroy(e);
}

static void wrong_results_end_its_use(void **state)
{
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st;

	(void)state;
	bale_fault_arm("gpu.mismatch:1+");
	for (int n = 0; n < 40 && in_state(e, "ready"); n++)
		round_trip(e, 20, BALE_CODEC_lz4);
	bale_fault_clear();
	get_stats(e, &st);
	assert_string_equal(st.devs[0].state, "too many wrong results");
	round_trip(e, 20, BALE_CODEC_lz4);
	usleep(100000);
	assert_true(in_state(e, "too many wrong results"));
	bale_engine_destroy(e);
}

static void a_device_that_cannot_be_opened_is_tried_again(void **state)
{
	struct bale_engine_stats st;
	struct bale_engine *e;

	(void)state;
	bale_fault_arm("gpu.open:1:ENOMEM,gpu.open:2:EIO,gpu.open:3:EIO");
	e = create(NULL);
	round_trip(e, 10, BALE_CODEC_lz4);
	wait_state(e, "ready");
	assert_int_equal(bale_fault_count("gpu.open"), 4);
	get_stats(e, &st);
	assert_int_equal(st.devs[0].reopened, 0);
	round_trip(e, 10, BALE_CODEC_lz4);
	bale_fault_clear();
	bale_engine_destroy(e);
}

static void a_batch_that_hangs_is_given_up(void **state)
{
	struct bale_gpu_options o = { .hang_ns = 200 * MS };
	struct bale_engine *e = create_ready(&o);
	struct bale_engine_stats st;

	(void)state;
	/* It sleeps through the limit, and then goes on. */
	bale_fault_arm("gpu.stuck:2:delay=1000");
	round_trip(e, 50, BALE_CODEC_lz4);
	get_stats(e, &st);
	assert_true(st.devs[0].hung >= 1);
	assert_true(st.devs[0].failed_over >= 1);
	assert_string_equal(st.devs[0].state, "hangs");
	bale_fault_clear();
	wait_state(e, "ready");
	get_stats(e, &st);
	assert_int_equal(st.devs[0].reopened, 1);
	round_trip(e, 50, BALE_CODEC_lz4);
	bale_engine_destroy(e);
}

/* Its memory stays: the thread that stands for the device still has it. */
static void a_device_stuck_for_ever_stops_nobody(void **state)
{
	struct bale_gpu_options o = { .hang_ns = 200 * MS };
	struct bale_engine *e = create_ready(&o);
	uint64_t start;

	(void)state;
	bale_fault_arm("gpu.stuck:1");
	round_trip(e, 50, BALE_CODEC_lz4);
	bale_fault_clear();
	assert_true(in_state(e, "hangs"));
	round_trip(e, 50, BALE_CODEC_lz4);
	start = bale_now_ns();
	bale_engine_destroy(e);
	assert_true(bale_now_ns() - start < 5000ull * MS);
}

static void a_fault_point_hang_is_a_hang(void **state)
{
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st;

	(void)state;
	bale_fault_arm("gpu.hang:1");
	round_trip(e, 20, BALE_CODEC_lz4);
	bale_fault_clear();
	wait_state(e, "ready");
	get_stats(e, &st);
	assert_int_equal(st.devs[0].hung, 1);
	bale_engine_destroy(e);
}

/* ---- many threads ---- */

struct submitter {
	struct bale_engine *e;
	unsigned int rounds;
};

static void *submit_rounds(void *arg)
{
	struct submitter *s = arg;

	for (unsigned int n = 0; n < s->rounds; n++)
		round_trip(s->e, 20 + n % 13, BALE_CODEC_lz4);
	return NULL;
}

static void submit_from_8(struct bale_engine *e, unsigned int rounds)
{
	struct submitter s = { e, rounds };
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, submit_rounds, &s),
				 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
}

static void lost_under_8_threads(void **state)
{
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st;

	(void)state;
	bale_fault_arm(
		"gpu.lost:5,gpu.lost:60,gpu.mismatch:17,gpu.batch:23:EIO,"
		"gpu.open:2:EIO,gpu.memory:40:ENOMEM");
	submit_from_8(e, 6);
	bale_fault_clear();
	get_stats(e, &st);
	assert_true(st.devs[0].lost >= 1);
	assert_int_equal(st.failed, 0);
	/* Each job of the 8 threads, on some side; what was tried on both
	 * counts where it succeeded. */
	assert_int_equal(st.jobs[0], st.jobs[1]);
	bale_engine_destroy(e);
}

static void order_of_finishing(void **state)
{
	struct bale_engine *e = create_ready(NULL);
	struct submitter s = { e, 1 };
	struct load fast;
	pthread_t t;
	uint64_t start;

	(void)state;
	/* The device sleeps over one batch; what is for the CPU ends first. */
	bale_fault_arm("gpu.stuck:1:delay=2000");
	load_init(&fast, 8, BALE_CODEC_zstd);
	start = bale_now_ns();
	assert_int_equal(pthread_create(&t, NULL, submit_rounds, &s), 0);
	while (!bale_fault_count("gpu.stuck"))
		usleep(1000);
	assert_int_equal(bale_engine_run(e, fast.enc, fast.nr), 0);
	assert_true(bale_now_ns() - start < 1500ull * MS);
	pthread_join(t, NULL);
	assert_true(bale_now_ns() - start >= 2000ull * MS);
	bale_fault_clear();
	load_fini(&fast);
	bale_engine_destroy(e);
}

/* ---- its end ---- */

static void count_done(void *arg)
{
	atomic_fetch_add((atomic_uint *)arg, 1);
}

static void destroy_completes_what_is_queued(void **state)
{
	static const char *const faults[] = { NULL, "gpu.lost:2",
					      "gpu.batch:1+:EIO",
					      "gpu.open:1+:EIO" };

	(void)state;
	for (size_t f = 0; f < sizeof(faults) / sizeof(faults[0]); f++) {
		struct bale_engine *e = create(NULL);
		struct load l[6];
		atomic_uint nr_done = 0;

		if (faults[f])
			bale_fault_arm(faults[f]);
		else
			wait_state(e, "ready");
		for (int i = 0; i < 6; i++) {
			load_init(&l[i], 40, BALE_CODEC_lz4);
			assert_int_equal(e->ops->submit(e, l[i].enc, l[i].nr,
							count_done, &nr_done),
					 0);
		}
		bale_engine_destroy(e);
		assert_int_equal(nr_done, 6);
		for (int i = 0; i < 6; i++) {
			load_decode_jobs(&l[i]);
			for (size_t k = 0; k < l[i].nr; k++)
				bale_codec_run(&l[i].dec[k]);
			load_check(&l[i]);
			load_fini(&l[i]);
		}
		bale_fault_clear();
	}
}

static void created_and_destroyed_at_once(void **state)
{
	(void)state;
	for (int n = 0; n < 50; n++)
		bale_engine_destroy(create(NULL));
}

/* ---- share, memory, options ---- */

static void a_share_of_the_device(void **state)
{
	struct bale_gpu_options o = { .share = 20 };
	struct bale_engine *e = create_ready(&o);
	uint64_t start = bale_now_ns(), took;
	struct bale_engine_stats st;

	(void)state;
	while (bale_now_ns() - start < 400ull * MS)
		round_trip(e, 16, BALE_CODEC_lz4);
	took = bale_now_ns() - start;
	get_stats(e, &st);
	assert_true(st.devs[0].batches > 2);
	/* The last piece may still be ahead of its share. */
	assert_true(st.devs[0].device_ns < took / 5 + took / 20);
	bale_engine_destroy(e);
}

static void memory_is_pinned_in_slices(void **state)
{
	const size_t len = 80 << 20;
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st = { 0 };
	uint64_t before;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(p != MAP_FAILED);
	get_stats(e, &st);
	before = st.devs[0].pinned_bytes;
	bale_engine_pin(e, p, len, true);
	for (int n = 0; n < 5000 && st.devs[0].pinned_bytes < before + len;
	     n++) {
		usleep(1000);
		get_stats(e, &st);
	}
	assert_int_equal(st.devs[0].pinned_bytes, before + len);
	/* After a loss it is pinned again. */
	bale_fault_arm("gpu.lost:1");
	round_trip(e, 10, BALE_CODEC_lz4);
	bale_fault_clear();
	wait_state(e, "ready");
	bale_engine_unpin(e, p);
	munmap(p, len);
	round_trip(e, 10, BALE_CODEC_lz4);
	bale_engine_destroy(e);
}

static void encode_at(struct bale_engine *e, const uint8_t *src, size_t nr)
{
	size_t room = bale_codec_bound(EXT);
	uint8_t *dst = malloc(nr * room);
	struct bale_job *jobs = calloc(nr, sizeof(*jobs));

	assert_true(dst && jobs);
	for (size_t i = 0; i < nr; i++) {
		jobs[i] = (struct bale_job){
			.op = BALE_JOB_ENCODE,
			.codec = BALE_CODEC_lz4,
			.src = src + i * EXT,
			.src_len = EXT,
			.dst = dst + i * room,
			.dst_cap = room,
		};
	}
	assert_int_equal(bale_engine_run(e, jobs, nr), 0);
	free(dst);
	free(jobs);
}

/* A slice that is used twice over is pinned, those beside it are not. */
static void memory_is_pinned_once_it_is_used(void **state)
{
	enum { NR = 64, ROUNDS = 2 * BALE_GPU_SLICE / (NR * EXT) };
	const size_t len = 80 << 20;
	struct bale_engine *e = create_ready(NULL);
	struct bale_engine_stats st = { 0 };
	uint64_t before;
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(p != MAP_FAILED);
	get_stats(e, &st);
	before = st.devs[0].pinned_bytes;
	bale_engine_pin(e, p, len, false);
	for (size_t i = 0; i < NR; i++)
		fill_extent(p + BALE_GPU_SLICE + i * EXT, EXT, 5 * (uint32_t)i);
	for (int n = 0; n < ROUNDS - 1; n++)
		encode_at(e, p + BALE_GPU_SLICE, NR);
	encode_at(e, p, 1);
	usleep(20000);
	get_stats(e, &st);
	assert_int_equal(st.devs[0].pinned_bytes, before);
	encode_at(e, p + BALE_GPU_SLICE, NR);
	for (int n = 0; n < 5000 && st.devs[0].pinned_bytes == before; n++) {
		usleep(1000);
		get_stats(e, &st);
	}
	usleep(20000);
	get_stats(e, &st);
	assert_int_equal(st.devs[0].pinned_bytes, before + BALE_GPU_SLICE);
	bale_engine_unpin(e, p);
	munmap(p, len);
	round_trip(e, 10, BALE_CODEC_lz4);
	bale_engine_destroy(e);
}

static void unpinned_memory_is_no_failure(void **state)
{
	struct bale_engine *e;
	static uint8_t page[8192] __attribute__((aligned(4096)));

	(void)state;
	bale_fault_arm("gpu.pin:1+:ENOMEM");
	e = create_ready(NULL);
	bale_engine_pin(e, page, sizeof(page), true);
	for (int n = 0; n < 5000 && !bale_fault_count("gpu.pin"); n++)
		usleep(1000);
	assert_int_equal(bale_fault_count("gpu.pin"), 1);
	round_trip(e, 20, BALE_CODEC_lz4);
	bale_engine_unpin(e, page);
	bale_fault_clear();
	bale_engine_destroy(e);
}

static void little_memory_is_no_device(void **state)
{
	struct bale_gpu_options o = { .mem_bytes = 1 << 20 };
	struct bale_engine *e = create(&o);

	(void)state;
	wait_state(e, "cannot be opened");
	round_trip(e, 20, BALE_CODEC_lz4);
	bale_engine_destroy(e);
}

/* No "always": the device is measured, and the batch goes where it ends first.
 */
static void the_choice_is_by_measured_times(void **state)
{
	struct bale_gpu_options o = {
		.ops = &bale_gpu_fake_ops,
		.nr_slots = 2,
		.slot_units = 32,
		.no_profile = true,
	};
	struct bale_engine_stats st;
	struct bale_engine *e = NULL;
	struct bale_gpu_engine *g;

	(void)state;
	assert_int_equal(bale_engine_gpu_create(&o, 2, &e), 0);
	wait_state(e, "ready");
	get_stats(e, &st);
	for (int k = BALE_COST_lz4; k <= BALE_COST_gdeflate_high; k++)
		assert_true(st.rates[k].cpu_ns[BALE_JOB_ENCODE] > 0);
	/* Decoding is one kind, whatever the level was. */
	assert_true(st.rates[BALE_COST_gdeflate].cpu_ns[BALE_JOB_DECODE] > 0);
	assert_true(st.rates[BALE_COST_lz4].gpu_ns[0] > 0);
	assert_true(st.rates[BALE_COST_lz4].gpu_ns[1] > 0);
	/* A device of infinite speed, then one of none. */
	g = (struct bale_gpu_engine *)e;
	bale_cost_seed(&g->devs[0]->cost, BALE_COST_GPU, BALE_JOB_ENCODE,
		       BALE_COST_lz4, 1, 1, 1 << 20, 10);
	bale_cost_seed(&g->devs[0]->cost, BALE_COST_GPU, BALE_JOB_DECODE,
		       BALE_COST_lz4, 1, 900000000, 1 << 20, 999000000);
	round_trip(e, 50, BALE_CODEC_lz4);
	get_stats(e, &st);
	assert_true(st.devs[0].jobs[BALE_JOB_ENCODE] > 20);
	assert_int_equal(st.devs[0].jobs[BALE_JOB_DECODE], 0);
	bale_engine_destroy(e);
}

/* Sides of the same speed share a batch. */
static void both_sides_work_on_one_batch(void **state)
{
	struct bale_gpu_options o = {
		.ops = &bale_gpu_fake_ops,
		.nr_slots = 2,
		.slot_units = 32,
		.no_profile = true,
	};
	struct bale_engine_stats st;
	struct bale_engine *e = NULL;
	struct bale_gpu_engine *g;

	(void)state;
	assert_int_equal(bale_engine_gpu_create(&o, 1, &e), 0);
	wait_state(e, "ready");
	g = (struct bale_gpu_engine *)e;
	bale_cost_seed(&g->devs[0]->cost, BALE_COST_GPU, BALE_JOB_ENCODE,
		       BALE_COST_lz4, 1, 1, 1 << 20, 1000000);
	bale_cost_seed(&g->cost, BALE_COST_CPU, BALE_JOB_ENCODE, BALE_COST_lz4,
		       1, 1, 1 << 20, 1000000);
	round_trip(e, 60, BALE_CODEC_lz4);
	get_stats(e, &st);
	assert_true(st.devs[0].bytes_in[BALE_JOB_ENCODE] > st.bytes_in[0] / 8);
	assert_true(st.devs[0].bytes_in[BALE_JOB_ENCODE] <
		    st.bytes_in[0] / 8 * 7);
	bale_engine_destroy(e);
}

/* Waits and times of both sides, in any unit, and who gets how much. */
static void cores_stay_free_where_a_device_is_fast(void **state)
{
	static const struct {
		double dev_wait, dev, cpu_wait, cpu, encode, decode;
	} rows[] = {
		{ 0, 1, 0, 1, 0.5, 0.5 },
		{ 0, 1, 0, 9, 1, 1 },
		{ 0, 9, 0, 1, 0, 0 },
		{ 0, 2, 0, 3, 1, 0.6 }, /* 3/5 of it there: no half is gained */
		{ 6, 2, 0, 7, 1, 0 },	/* 7 is below 8, not half of it */
		{ 6, 2, 0, 3, 0, 0 },
		{ 6, 2, 60, 3, 1, 1 },
		{ -3, 1, 0, 9, 1, 1 }, /* more was guessed than came */
		{ 0, 0, 0, 0, 1, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double enc = bale_gpu_share_of(BALE_JOB_ENCODE,
					       rows[i].dev_wait, rows[i].dev,
					       rows[i].cpu_wait, rows[i].cpu);
		double dec = bale_gpu_share_of(BALE_JOB_DECODE,
					       rows[i].dev_wait, rows[i].dev,
					       rows[i].cpu_wait, rows[i].cpu);

		assert_true(enc > rows[i].encode - 0.01 &&
			    enc < rows[i].encode + 0.01);
		assert_true(dec > rows[i].decode - 0.01 &&
			    dec < rows[i].decode + 0.01);
	}
}

/* More than a slot takes, and no slot is idle: two halves. */
static void a_rest_is_not_left_over(void **state)
{
	struct bale_gpu_options o = { .nr_slots = 1, .slot_units = 128 };
	struct bale_engine *e = create_ready(&o);
	struct bale_gpu_engine *g = (struct bale_gpu_engine *)e;
	struct bale_gpu_plan pl;
	struct load l;
	uint32_t most = 0;

	(void)state;
	load_init(&l, 150, BALE_CODEC_lz4);
	bale_mutex_lock(&g->devs[0]->lock);
	g->devs[0]->in_use++;
	bale_mutex_unlock(&g->devs[0]->lock);
	assert_int_equal(bale_gpu_plan_make(g, l.enc, l.nr, &pl), 0);
	bale_list_for_each(n, &pl.pieces)
	{
		struct bale_gpu_piece *p =
			BALE_CONTAINER(n, struct bale_gpu_piece, node);

		most = p->units > most ? p->units : most;
	}
	assert_int_equal(pl.nr_pieces, 2);
	assert_true(most < 75);
	bale_gpu_plan_free(&pl);
	bale_mutex_lock(&g->devs[0]->lock);
	g->devs[0]->in_use--;
	bale_mutex_unlock(&g->devs[0]->lock);
	assert_int_equal(bale_engine_width(e), 4);
	assert_int_equal(bale_engine_width(g->cpu), 2);
	load_fini(&l);
	bale_engine_destroy(e);
}

static void bad_options_are_refused(void **state)
{
	static const struct bale_gpu_options bad[] = {
		{ .mode = BALE_GPU_FAKE, .share = 101 },
		{ .mode = BALE_GPU_FAKE, .nr_slots = 99 },
		{ .mode = BALE_GPU_FAKE, .slot_units = 1 << 20 },
	};
	static const struct bale_gpu_options off = { .mode = BALE_GPU_OFF };
	struct bale_engine *e = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(bale_engine_gpu_create(&bad[i], 1, &e),
				 -EINVAL);
	assert_int_equal(bale_engine_gpu_create(&off, 1, &e), -ENODEV);
	assert_null(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_in_comes_back),
		cmocka_unit_test(an_engine_without_its_device_is_the_cpu),
		cmocka_unit_test(a_mixed_batch_is_one_batch),
		cmocka_unit_test(wrong_jobs_fail_alone),
		cmocka_unit_test(a_batch_that_fails_is_done_by_the_cpu),
		cmocka_unit_test(a_lost_device_comes_back),
		cmocka_unit_test(failures_in_a_row_open_it_anew),
		cmocka_unit_test(wrong_results_end_its_use),
		cmocka_unit_test(a_device_that_cannot_be_opened_is_tried_again),
		cmocka_unit_test(a_batch_that_hangs_is_given_up),
		cmocka_unit_test(a_device_stuck_for_ever_stops_nobody),
		cmocka_unit_test(a_fault_point_hang_is_a_hang),
		cmocka_unit_test(lost_under_8_threads),
		cmocka_unit_test(order_of_finishing),
		cmocka_unit_test(destroy_completes_what_is_queued),
		cmocka_unit_test(created_and_destroyed_at_once),
		cmocka_unit_test(a_share_of_the_device),
		cmocka_unit_test(memory_is_pinned_in_slices),
		cmocka_unit_test(memory_is_pinned_once_it_is_used),
		cmocka_unit_test(unpinned_memory_is_no_failure),
		cmocka_unit_test(little_memory_is_no_device),
		cmocka_unit_test(the_choice_is_by_measured_times),
		cmocka_unit_test(both_sides_work_on_one_batch),
		cmocka_unit_test(cores_stay_free_where_a_device_is_fast),
		cmocka_unit_test(a_rest_is_not_left_over),
		cmocka_unit_test(bad_options_are_refused),
	};

	bale_log_set_level(BALE_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
