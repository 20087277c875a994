/* SPDX-License-Identifier: Apache-2.0 */
/* bench_report.c - rows as a table, CSV and JSON, and the machine's line. */
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/gpu.h"
#include "tools/bench.h"
#include "tools/cmd.h"
#include "tools/json.h"

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bale_bench_median(double *values, size_t nr)
{
	if (!nr)
		return 0;
	qsort(values, nr, sizeof(*values), compare_doubles);
	return nr % 2 ? values[nr / 2] :
			(values[nr / 2 - 1] + values[nr / 2]) / 2;
}

const char *bale_bench_size(size_t bytes, char *buf)
{
	static const char units[] = { 'K', 'M', 'G' };
	int u = -1;

	if (!bytes) {
		snprintf(buf, BALE_BENCH_TEXT, "-");
		return buf;
	}
	while (bytes % 1024 == 0 && u < 2) {
		bytes /= 1024;
		u++;
	}
	if (u < 0)
		snprintf(buf, BALE_BENCH_TEXT, "%zu", bytes);
	else
		snprintf(buf, BALE_BENCH_TEXT, "%zu%c", bytes, units[u]);
	return buf;
}

/* "AMD EPYC 9654"; what the kernel calls it. */
static void cpu_model(char *buf, size_t cap)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(buf, cap, "unknown CPU");
	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (!colon || strncmp(line, "model name", 10) ||
		    strlen(colon) < 3)
			continue;
		colon[strcspn(colon, "\n")] = '\0';
		snprintf(buf, cap, "%s", colon + 2);
		break;
	}
	if (f)
		fclose(f);
}

static unsigned int count_cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ?
		       0 :
		       (unsigned int)CPU_COUNT(&set);
}

/* "NAME x 2, ", or "no GPU"; one name stands for all. */
static void gpu_names(char *buf, size_t cap)
{
	struct bale_gpu_info info;
	uint32_t nr = 0;

	if (!bale_gpu_built())
		snprintf(buf, cap, "GPU not in this build");
	else if (bale_gpu_count(&nr) || !nr || bale_gpu_info_get(0, &info))
		snprintf(buf, cap, "no GPU");
	else if (nr == 1)
		snprintf(buf, cap, "%s", info.name);
	else
		snprintf(buf, cap, "%u x %s", nr, info.name);
}

void bale_bench_machine(FILE *f)
{
	char cpu[128], gpu[96];

	cpu_model(cpu, sizeof(cpu));
	gpu_names(gpu, sizeof(gpu));
	fprintf(f, "%s, %u threads; %s", cpu, count_cores(), gpu);
}

/* ---- table ---- */

/* MB/s and CPU-seconds for a GB are 10^6 and 10^9 bytes. */
void bale_bench_table_head(FILE *f)
{
	fprintf(f, "%-6s %-6s %-11s %6s %6s %8s %8s %7s %6s %6s\n", "layer",
		"engine", "codec", "extent", "batch", "encode", "decode",
		"ratio", "cpu/GB", "");
	fprintf(f, "%-6s %-6s %-11s %6s %6s %8s %8s %7s %6s %6s\n", "", "", "",
		"", "", "MB/s", "MB/s", "", "enc s", "dec s");
}

static void print_cpu(FILE *f, double seconds)
{
	if (seconds < 0)
		fprintf(f, " %6s", "-");
	else
		fprintf(f, " %6.2f", seconds);
}

void bale_bench_table_row(FILE *f, const struct bale_bench_row *r)
{
	char extent[BALE_BENCH_TEXT], batch[BALE_BENCH_TEXT];

	fprintf(f, "%-6s %-6s %-11s %6s %6s %8.0f %8.0f %7.3f", r->layer,
		r->engine, r->codec, bale_bench_size(r->extent, extent),
		bale_bench_size(r->batch, batch), r->encode / 1e6,
		r->decode / 1e6, r->ratio);
	print_cpu(f, r->encode_cpu);
	print_cpu(f, r->decode_cpu);
	if (r->wrong)
		fprintf(f, " WRONG: %" PRIu64, r->wrong);
	fputc('\n', f);
}

void bale_bench_table(FILE *f, const struct bale_bench *b)
{
	char size[BALE_SIZE_TEXT];

	bale_bench_machine(f);
	fprintf(f, "\n%s in %zu files\n\n", bale_size_text(b->data.len, size),
		b->data.nr_files);
	bale_bench_table_head(f);
	for (size_t i = 0; i < b->nr_rows; i++)
		bale_bench_table_row(f, &b->rows[i]);
	fprintf(f,
		"\nencoded by one engine, decoded by each: %" PRIu64
		" pairs, %" PRIu64 " wrong\n",
		b->pairs, b->wrong_pairs);
}

/* ---- CSV, JSON ---- */

void bale_bench_csv(FILE *f, const struct bale_bench *b)
{
	fprintf(f, "layer,engine,codec,extent_bytes,batch_bytes,"
		   "encode_bytes_per_s,decode_bytes_per_s,ratio,"
		   "encode_cpu_s_per_gb,decode_cpu_s_per_gb,wrong\n");
	for (size_t i = 0; i < b->nr_rows; i++) {
		const struct bale_bench_row *r = &b->rows[i];

		fprintf(f, "%s,%s,%s,%zu,%zu,%.0f,%.0f,%.4f,", r->layer,
			r->engine, r->codec, r->extent, r->batch, r->encode,
			r->decode, r->ratio);
		if (r->encode_cpu >= 0)
			fprintf(f, "%.4f,%.4f", r->encode_cpu, r->decode_cpu);
		else
			fprintf(f, ",");
		fprintf(f, ",%" PRIu64 "\n", r->wrong);
	}
}

static void json_row(struct bale_json *j, const struct bale_bench_row *r)
{
	bale_json_object(j, NULL);
	bale_json_str(j, "layer", r->layer);
	bale_json_str(j, "engine", r->engine);
	bale_json_str(j, "codec", r->codec);
	bale_json_u64(j, "extent_bytes", r->extent);
	bale_json_u64(j, "batch_bytes", r->batch);
	bale_json_u64(j, "encode_bytes_per_s", (uint64_t)r->encode);
	bale_json_u64(j, "decode_bytes_per_s", (uint64_t)r->decode);
	bale_json_ratio(j, "ratio", r->ratio);
	if (r->encode_cpu >= 0) {
		bale_json_ratio(j, "encode_cpu_s_per_gb", r->encode_cpu);
		bale_json_ratio(j, "decode_cpu_s_per_gb", r->decode_cpu);
	}
	bale_json_u64(j, "wrong", r->wrong);
	bale_json_end(j);
}

void bale_bench_json(FILE *f, const struct bale_bench *b)
{
	char cpu[128], gpu[96];
	struct bale_json j;

	cpu_model(cpu, sizeof(cpu));
	gpu_names(gpu, sizeof(gpu));
	bale_json_open(&j, f);
	bale_json_str(&j, "cpu", cpu);
	bale_json_u64(&j, "cpu_threads", count_cores());
	bale_json_str(&j, "gpu", gpu);
	bale_json_u64(&j, "bytes", b->data.len);
	bale_json_u64(&j, "files", b->data.nr_files);
	bale_json_array(&j, "rows");
	for (size_t i = 0; i < b->nr_rows; i++)
		json_row(&j, &b->rows[i]);
	bale_json_end(&j);
	bale_json_u64(&j, "engine_pairs", b->pairs);
	bale_json_u64(&j, "wrong_pairs", b->wrong_pairs);
	bale_json_close(&j);
}
