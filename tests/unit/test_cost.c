/* SPDX-License-Identifier: Apache-2.0 */
/* What the choice between sides is made by: lines that are learnt, and the file
 * that keeps them. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/codec/cost.h"

enum { MIB = 1 << 20 };
static char dir[] = "/tmp/balefs-cost-XXXXXX";

static double guess(struct bale_cost *c, size_t len)
{
	return bale_cost_guess(c, BALE_COST_GPU, BALE_JOB_ENCODE,
			       BALE_COST_gdeflate, len);
}

static void note(struct bale_cost *c, size_t len, double ns)
{
	bale_cost_note(c, BALE_COST_GPU, BALE_JOB_ENCODE, BALE_COST_gdeflate,
		       len, (uint64_t)ns);
}

static void near(double v, double want)
{
	assert_true(fabs(v - want) < want / 10);
}

static void nothing_is_known_at_first(void **state)
{
	struct bale_cost c;

	(void)state;
	bale_cost_init(&c);
	for (int k = 0; k < BALE_COST_KINDS; k++)
		assert_true(bale_cost_guess(&c, BALE_COST_CPU, BALE_JOB_DECODE,
					    (enum bale_cost_kind)k, MIB) < 0);
	note(&c, 0, 1000);
	assert_true(guess(&c, MIB) < 0);
	bale_cost_fini(&c);
}

static void a_line_through_two_sizes(void **state)
{
	struct bale_cost c;

	(void)state;
	bale_cost_init(&c);
	bale_cost_seed(&c, BALE_COST_GPU, BALE_JOB_ENCODE, BALE_COST_gdeflate,
		       MIB, 600000, 16 * MIB, 2100000);
	near(guess(&c, MIB), 600000);
	near(guess(&c, 16 * MIB), 2100000);
	near(guess(&c, 64 * MIB), 6900000);
	/* Noise: the small one took longer. Still a time per byte. */
	bale_cost_seed(&c, BALE_COST_GPU, BALE_JOB_ENCODE, BALE_COST_gdeflate,
		       MIB, 3000000, 16 * MIB, 2000000);
	assert_true(guess(&c, 16 * MIB) > guess(&c, MIB));
	bale_cost_fini(&c);
}

static void batches_correct_the_line(void **state)
{
	struct bale_cost c;

	(void)state;
	bale_cost_init(&c);
	bale_cost_seed(&c, BALE_COST_GPU, BALE_JOB_ENCODE, BALE_COST_gdeflate,
		       MIB, 200000, 16 * MIB, 800000);
	/* A neighbour makes it three times as slow, with 1 ms before. */
	for (int n = 0; n < 400; n++) {
		note(&c, 64 * MIB, 1e6 + 0.12 * 64 * MIB);
		note(&c, MIB, 1e6 + 0.12 * MIB);
	}
	near(guess(&c, 64 * MIB), 1e6 + 0.12 * 64 * MIB);
	near(guess(&c, MIB), 1e6 + 0.12 * MIB);
	bale_cost_fini(&c);
}

/* A thread that was not run for a second says nothing of the codec. */
static void one_wild_time_changes_little(void **state)
{
	struct bale_cost c;
	double before;

	(void)state;
	bale_cost_init(&c);
	bale_cost_seed(&c, BALE_COST_GPU, BALE_JOB_ENCODE, BALE_COST_gdeflate,
		       MIB, 200000, 16 * MIB, 800000);
	before = guess(&c, 64 * MIB);
	note(&c, 64 * MIB, 1e10);
	assert_true(guess(&c, 64 * MIB) < before * 1.2);
	note(&c, 64 * MIB, 0);
	assert_true(guess(&c, 64 * MIB) > before * 0.8);
	for (int n = 0; n < 1000; n++)
		note(&c, 64 * MIB, 0);
	assert_true(guess(&c, 64 * MIB) > 0);
	bale_cost_fini(&c);
}

static void content_that_needed_no_coder_counts_not(void **state)
{
	struct bale_cost c;
	struct bale_job j = {
		.op = BALE_JOB_ENCODE,
		.codec = BALE_CODEC_lz4,
		.src_len = MIB,
		.ret_codec = BALE_CODEC_fill,
	};

	(void)state;
	bale_cost_init(&c);
	bale_cost_note_job(&c, &j, 10);
	j.ret_codec = BALE_CODEC_raw;
	bale_cost_note_job(&c, &j, 10);
	assert_true(bale_cost_guess(&c, BALE_COST_CPU, BALE_JOB_ENCODE,
				    BALE_COST_lz4, MIB) < 0);
	j.ret_codec = BALE_CODEC_lz4;
	bale_cost_note_job(&c, &j, 1000000);
	near(bale_cost_guess(&c, BALE_COST_CPU, BALE_JOB_ENCODE, BALE_COST_lz4,
			     MIB),
	     1000000);
	bale_cost_fini(&c);
}

static void kinds(void **state)
{
	(void)state;
	assert_int_equal(bale_cost_kind_of(BALE_JOB_ENCODE, BALE_CODEC_lz4, 3),
			 BALE_COST_lz4);
	assert_int_equal(
		bale_cost_kind_of(BALE_JOB_ENCODE, BALE_CODEC_gdeflate, -1),
		BALE_COST_gdeflate_fast);
	assert_int_equal(
		bale_cost_kind_of(BALE_JOB_ENCODE, BALE_CODEC_gdeflate, 0),
		BALE_COST_gdeflate);
	assert_int_equal(
		bale_cost_kind_of(BALE_JOB_ENCODE, BALE_CODEC_gdeflate, 3),
		BALE_COST_gdeflate_high);
	assert_int_equal(
		bale_cost_kind_of(BALE_JOB_DECODE, BALE_CODEC_gdeflate, 3),
		BALE_COST_gdeflate);
	assert_int_equal(bale_cost_kind_of(BALE_JOB_ENCODE, BALE_CODEC_auto, 0),
			 BALE_COST_zstd);
	for (int k = 0; k < BALE_COST_KINDS; k++)
		assert_true(strlen(bale_cost_kind_name(
				    (enum bale_cost_kind)k)) > 2);
}

/* ---- the file ---- */

static void path_of(char *buf, size_t cap, const char *name)
{
	snprintf(buf, cap, "%s/a/b/%s", dir, name);
}

static void spoil(const char *path, long at, int with)
{
	FILE *f = fopen(path, "r+b");
	int c;

	assert_non_null(f);
	fseek(f, at, SEEK_SET);
	c = fgetc(f);
	fseek(f, at, SEEK_SET);
	fputc(c ^ with, f);
	fclose(f);
}

static void what_is_kept_comes_back(void **state)
{
	struct bale_cost c, d;
	char path[256];

	(void)state;
	path_of(path, sizeof(path), "one");
	bale_cost_init(&c);
	bale_cost_init(&d);
	assert_int_equal(bale_cost_load(&d, path, "me"), -ENOENT);
	bale_cost_seed(&c, BALE_COST_GPU, BALE_JOB_ENCODE, BALE_COST_gdeflate,
		       MIB, 600000, 16 * MIB, 2100000);
	assert_int_equal(bale_cost_save(&c, path, "me"), 0);
	assert_int_equal(bale_cost_save(&c, path, "me"), 0); /* over it */
	assert_int_equal(bale_cost_load(&d, path, "me"), 0);
	near(guess(&d, 16 * MIB), 2100000);
	assert_int_equal(bale_cost_load(&d, path, "you"), -ESTALE);
	bale_cost_fini(&c);
	bale_cost_fini(&d);
}

static void what_is_damaged_is_not_believed(void **state)
{
	struct bale_cost c, d;
	char path[256];
	long len;
	FILE *f;

	(void)state;
	path_of(path, sizeof(path), "two");
	bale_cost_init(&c);
	bale_cost_init(&d);
	bale_cost_seed(&c, BALE_COST_GPU, BALE_JOB_ENCODE, BALE_COST_gdeflate,
		       MIB, 600000, 16 * MIB, 2100000);
	assert_int_equal(bale_cost_save(&c, path, "me"), 0);
	f = fopen(path, "rb");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	len = ftell(f);
	fclose(f);
	for (long at = 0; at < len; at += 7) {
		spoil(path, at, 0x41);
		assert_int_equal(bale_cost_load(&d, path, "me"), -EUCLEAN);
		spoil(path, at, 0x41);
	}
	assert_int_equal(truncate(path, len - 1), 0);
	assert_int_equal(bale_cost_load(&d, path, "me"), -EUCLEAN);
	assert_true(guess(&d, MIB) < 0);
	/* Sound, but no times of this world. */
	c.table.at[0][0][0].byte_ns = 1e9;
	assert_int_equal(bale_cost_save(&c, path, "me"), 0);
	assert_int_equal(bale_cost_load(&d, path, "me"), -EUCLEAN);
	c.table.at[0][0][0].byte_ns = (double)NAN;
	assert_int_equal(bale_cost_save(&c, path, "me"), 0);
	assert_int_equal(bale_cost_load(&d, path, "me"), -EUCLEAN);
	bale_cost_fini(&c);
	bale_cost_fini(&d);
}

static void where_it_is_kept(void **state)
{
	char path[64];

	(void)state;
	setenv("XDG_CACHE_HOME", "/c", 1);
	setenv("HOME", "/h", 1);
	assert_int_equal(bale_cost_path(path, sizeof(path)), 0);
	assert_string_equal(path, "/c/balefs/engine-cost");
	setenv("XDG_CACHE_HOME", "relative", 1);
	assert_int_equal(bale_cost_path(path, sizeof(path)), 0);
	assert_string_equal(path, "/h/.cache/balefs/engine-cost");
	assert_int_equal(bale_cost_path(path, 10), -ENAMETOOLONG);
	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	assert_int_equal(bale_cost_path(path, sizeof(path)), -ENOENT);
}

static int remove_dir(void **state)
{
	char cmd[64];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_known_at_first),
		cmocka_unit_test(a_line_through_two_sizes),
		cmocka_unit_test(batches_correct_the_line),
		cmocka_unit_test(one_wild_time_changes_little),
		cmocka_unit_test(content_that_needed_no_coder_counts_not),
		cmocka_unit_test(kinds),
		cmocka_unit_test(what_is_kept_comes_back),
		cmocka_unit_test(what_is_damaged_is_not_believed),
		cmocka_unit_test(where_it_is_kept),
	};

	if (!mkdtemp(dir))
		return 1;
	return cmocka_run_group_tests(tests, NULL, remove_dir);
}
