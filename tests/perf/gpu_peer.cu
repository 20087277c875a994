/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_peer - balefs's kernels beside an nvCOMP 5 library and the CPU's cores:
 * the same bytes in the same units of 64 KiB in the same process.
 *
 * Device rates are kernel time alone (events around the call, median), of
 * decoded bytes; each coder's output is decoded and compared, and formats that
 * both have are decoded by the other one too. Any difference ends in exit
 * status 1, a call that fails in 3. See usage() for the options.
 */
#include "kernels/simt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <getopt.h>

#include "tests/perf/gpu_peer_coders.cuh"

namespace
{

enum { SETS_MAX = 32, ROWS_MAX = 2048, SWEEP_MAX = 16, SKIP_MAX = 8 };

struct row {
	char data[PEER_NAME], who[12], what[32];
	size_t mib;
	struct peer_result result;
};

struct options {
	const char *nvcomp, *csv;
	struct peer_data sets[SETS_MAX];
	size_t nr_sets, nr_parts; /* sets[0..nr_parts) go into "all" */
	size_t batch_mib, sweep_mib[SWEEP_MAX], nr_sweep;
	unsigned int passes, threads, seconds;
	const char *only; /* coders whose text holds this */
	const char *skip[SKIP_MAX];
	size_t nr_skip;
};

struct options opt = {};
struct peer_coder coders[PEER_CODERS_MAX];
size_t nr_coders;
struct row rows[ROWS_MAX];
size_t nr_rows;
uint64_t bad_total;
time_t started;

void usage(FILE *f)
{
	fprintf(f, "usage: gpu_peer [OPTION..]\n"
		   "  --data NAME=FILE    a data set (repeat)\n"
		   "  --join NAME         a set of all sets named so far\n"
		   "  --make KIND:MIB     bf16, lineitem, columns or random\n"
		   "  --nvcomp LIBRARY    libnvcomp.so.5, to compare with\n"
		   "  --batch MIB         of each set, repeated to fill (128)\n"
		   "  --sweep MIB,..      of the last joined or only set\n"
		   "  --passes N          median of (12)\n"
		   "  --threads N         of the CPU references; 0: none (16)\n"
		   "  --only TEXT         device coders that hold TEXT\n"
		   "  --csv FILE\n");
}

void coder_text(const struct peer_coder *c, char *buf, size_t cap)
{
	if (c->variant)
		snprintf(buf, cap, "%s:%d/t%d", c->format, c->level,
			 c->variant);
	else
		snprintf(buf, cap, "%s:%d", c->format, c->level);
}

void add_row(const char *data, const char *who, const char *what, size_t mib,
	     const struct peer_result *r)
{
	struct row *row = &rows[nr_rows];

	if (nr_rows < ROWS_MAX - 1)
		nr_rows++;
	snprintf(row->data, sizeof(row->data), "%s", data);
	snprintf(row->who, sizeof(row->who), "%s", who);
	snprintf(row->what, sizeof(row->what), "%s", what);
	row->mib = mib;
	row->result = *r;
	bad_total += r->bad_units;
	printf("%-9s %-7s %-13s %4zu %8.2f %8.2f %7.3f%s\n", data, who, what,
	       mib, r->enc_gbs, r->dec_gbs, r->ratio,
	       r->bad_units ? "  WRONG" : "");
	fflush(stdout);
}

/* ---- one coder on what is loaded ---- */

/* How many units the last call has not done. */
int count_bad_status(struct peer_buffers *b, uint64_t *ret_bad)
{
	if (peer_copy(b, b->host_len, b->status, b->nr * 4,
		      cudaMemcpyDeviceToHost))
		return -1;
	for (size_t i = 0; i < b->nr; i++)
		*ret_bad += b->host_len[i] != 0;
	return 0;
}

/* Coded lengths of the last encode to the host, and in both widths. */
int share_lengths(const struct peer_coder *c, struct peer_buffers *b)
{
	size_t *wide = static_cast<size_t *>(calloc(b->nr, sizeof(*wide)));
	int r = wide ? 0 : -1;

	if (!r && c->wide) {
		r = peer_copy(b, wide, b->coded_len64, b->nr * sizeof(*wide),
			      cudaMemcpyDeviceToHost);
		for (size_t i = 0; i < b->nr; i++)
			b->host_len[i] = static_cast<uint32_t>(wide[i]);
		r = r ||
		    PEER_CUDA(cudaMemcpy(b->coded_len32, b->host_len, b->nr * 4,
					 cudaMemcpyHostToDevice));
	} else if (!r) {
		r = peer_copy(b, b->host_len, b->coded_len32, b->nr * 4,
			      cudaMemcpyDeviceToHost);
		for (size_t i = 0; i < b->nr; i++)
			wide[i] = b->host_len[i];
		r = r ||
		    peer_copy(b, b->coded_len64, wide, b->nr * sizeof(*wide),
			      cudaMemcpyHostToDevice);
	}
	free(wide);
	return r ? -1 : 0;
}

double ratio_of(const struct peer_buffers *b)
{
	size_t packed = 0;

	for (size_t i = 0; i < b->nr; i++)
		packed += b->host_len[i] < PEER_UNIT ? b->host_len[i] :
						       (size_t)PEER_UNIT;
	return (double)(b->nr * PEER_UNIT) / (double)(packed ? packed : 1);
}

/* The decoded units against what was loaded, and their lengths. */
int count_bad_content(const struct peer_coder *c, struct peer_buffers *b,
		      uint64_t *ret_bad)
{
	const void *from = c->wide ? (const void *)b->back_len64 :
				     (const void *)b->back_len32;
	size_t width = c->wide ? sizeof(size_t) : sizeof(uint32_t);

	if (peer_copy(b, b->got, b->back, b->nr * PEER_UNIT,
		      cudaMemcpyDeviceToHost) ||
	    peer_copy(b, b->got_len, from, b->nr * width,
		      cudaMemcpyDeviceToHost))
		return -1;
	for (size_t i = 0; i < b->nr; i++) {
		const uint32_t *narrow = (const uint32_t *)b->got_len;
		size_t len = c->wide ? b->got_len[i] : narrow[i];

		*ret_bad += len != PEER_UNIT ||
			    memcmp(b->got + i * PEER_UNIT,
				   b->host + i * PEER_UNIT, PEER_UNIT) != 0;
	}
	return 0;
}

int time_calls(const struct peer_coder *c, peer_code_fn *fn,
	       struct peer_buffers *b, double *ret_gbs)
{
	double ms[PEER_PASSES_MAX], sum = 0;
	cudaEvent_t start, end;
	size_t n = 0;
	int r = PEER_CUDA(cudaEventCreate(&start));

	r = r || PEER_CUDA(cudaEventCreate(&end));
	r = r || fn(c, b);
	while (!r && n < opt.passes && (n < 3 || sum < 500)) {
		float t = 0;

		r = PEER_CUDA(cudaEventRecord(start, b->stream)) || fn(c, b) ||
		    PEER_CUDA(cudaEventRecord(end, b->stream)) ||
		    PEER_CUDA(cudaStreamSynchronize(b->stream)) ||
		    PEER_CUDA(cudaEventElapsedTime(&t, start, end));
		ms[n++] = t;
		sum += t;
	}
	if (r)
		return -1;
	cudaEventDestroy(start);
	cudaEventDestroy(end);
	*ret_gbs = (double)(b->nr * PEER_UNIT) / 1e6 / peer_median(ms, n);
	return 0;
}

int ensure_temp(const struct peer_coder *c, struct peer_buffers *b)
{
	size_t enc = c->temp(c, b->nr, false), dec = c->temp(c, b->nr, true);
	size_t bound = c->bound(c), want = enc > dec ? enc : dec;

	if (!enc || !dec || !bound || bound > b->stride) {
		fprintf(stderr, "%s %s: temp %zu %zu, bound %zu of %zu\n",
			c->who, c->format, enc, dec, bound, b->stride);
		return -1;
	}
	if (want <= b->temp_cap)
		return 0;
	cudaFree(b->temp);
	b->temp = nullptr;
	b->temp_cap = 0;
	if (PEER_CUDA(cudaMalloc((void **)&b->temp, want)))
		return -1;
	b->temp_cap = want;
	return 0;
}

int encode_once(const struct peer_coder *c, struct peer_buffers *b,
		struct peer_result *ret)
{
	if (ensure_temp(c, b) || c->encode(c, b) ||
	    count_bad_status(b, &ret->bad_units) || share_lengths(c, b))
		return -1;
	ret->ratio = ratio_of(b);
	return 0;
}

int decode_once(const struct peer_coder *c, struct peer_buffers *b,
		uint64_t *ret_bad)
{
	uint64_t bad_status = 0, bad_content = 0;

	if (ensure_temp(c, b) || peer_spoil(b, b->back, b->nr * PEER_UNIT) ||
	    c->decode(c, b) || count_bad_status(b, &bad_status) ||
	    count_bad_content(c, b, &bad_content))
		return -1;
	*ret_bad += bad_status > bad_content ? bad_status : bad_content;
	return 0;
}

/* Wrong results are not timed. */
int measure_coder(const struct peer_coder *c, struct peer_buffers *b,
		  struct peer_result *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (encode_once(c, b, ret) || decode_once(c, b, &ret->bad_units))
		return -1;
	if (ret->bad_units)
		return 0;
	if (time_calls(c, c->encode, b, &ret->enc_gbs) ||
	    count_bad_status(b, &ret->bad_units) || share_lengths(c, b) ||
	    time_calls(c, c->decode, b, &ret->dec_gbs) ||
	    count_bad_status(b, &ret->bad_units))
		return -1;
	return count_bad_content(c, b, &ret->bad_units);
}

/* ---- whole tables ---- */

bool is_skipped(const struct peer_coder *c)
{
	char text[32], full[48];

	coder_text(c, text, sizeof(text));
	snprintf(full, sizeof(full), "%s %s", c->who, text);
	for (size_t i = 0; i < opt.nr_skip; i++)
		if (strstr(full, opt.skip[i]))
			return true;
	return false;
}

bool is_wanted(const struct peer_coder *c)
{
	char text[32], full[48];

	coder_text(c, text, sizeof(text));
	snprintf(full, sizeof(full), "%s %s", c->who, text);
	return !is_skipped(c) && (!opt.only || strstr(full, opt.only));
}

/* Types of two bytes make sense for such data only. */
bool fits_data(const struct peer_coder *c, const struct peer_data *d)
{
	bool halves = !strcmp(d->name, "bf16");

	return !c->variant || halves ||
	       (c->variant != 9 && c->variant != 2 && c->variant != 3);
}

/* Which coders a table takes: of one side, or the few that a sweep has time
 * for. */
enum Scope { ALL, PEER, OURS, FEW };

bool in_scope(const struct peer_coder *c, enum Scope scope)
{
	bool ours = !strcmp(c->who, "balefs");

	if (scope == FEW)
		return ours ||
		       (c->level < 2 && (!strcmp(c->format, "lz4") ||
					 !strcmp(c->format, "gdeflate")));
	return scope == ALL || ours == (scope == OURS);
}

bool is_over(void)
{
	return time(nullptr) - started > (time_t)opt.seconds;
}

int measure_set(struct peer_buffers *b, const struct peer_data *d, size_t mib,
		enum Scope scope)
{
	if (is_over())
		return 0;
	if (peer_buffers_load(b, d, (mib << 20) / PEER_UNIT))
		return -1;
	for (size_t i = 0; i < nr_coders; i++) {
		struct peer_result r;
		char text[32];

		if (!is_wanted(&coders[i]) || !fits_data(&coders[i], d) ||
		    !in_scope(&coders[i], scope))
			continue;
		coder_text(&coders[i], text, sizeof(text));
		peer_step("%s %s on %s", coders[i].who, text, d->name);
		if (measure_coder(&coders[i], b, &r)) {
			fprintf(stderr, "%s %s on %s: failed\n", coders[i].who,
				text, d->name);
			if (cudaDeviceSynchronize() != cudaSuccess) {
				fprintf(stderr, "broke: %s %s on %s\n",
					coders[i].who, text, d->name);
				return -1;
			}
			bad_total++;
			continue;
		}
		add_row(d->name, coders[i].who, text, mib, &r);
	}
	return 0;
}

/* The decoder of the format that is somebody else's; levels share it. */
const struct peer_coder *foreign_decoder(const struct peer_coder *from)
{
	for (size_t k = 0; k < nr_coders; k++)
		if (!strcmp(from->format, coders[k].format) &&
		    strcmp(from->who, coders[k].who) && !is_skipped(&coders[k]))
			return &coders[k];
	return nullptr;
}

/* What `who` encodes, decoded by the other one. */
int cross_decode(struct peer_buffers *b, const struct peer_data *d,
		 const char *who)
{
	size_t nr = (32u << 20) / PEER_UNIT, streams = 0;
	uint64_t bad = 0;

	nr = nr < b->nr_max ? nr : b->nr_max;
	if (peer_buffers_load(b, d, nr))
		return -1;
	for (size_t i = 0; i < nr_coders; i++) {
		const struct peer_coder *from = &coders[i];
		const struct peer_coder *to = foreign_decoder(from);
		struct peer_result r = {};
		uint64_t wrong = 0;
		char text[32];

		if (strcmp(from->who, who) || is_skipped(from) || !to)
			continue;
		coder_text(from, text, sizeof(text));
		peer_step("%s %s on %s, decoded by %s", who, text, d->name,
			  to->who);
		if (encode_once(from, b, &r) || decode_once(to, b, &wrong)) {
			fprintf(stderr, "broke: %s %s on %s, decoded by %s\n",
				who, text, d->name, to->who);
			return -1;
		}
		streams++;
		bad += wrong;
		if (wrong)
			printf("%s: %s %s does not decode with %s: %llu of %zu "
			       "units\n",
			       d->name, who, text, to->who,
			       (unsigned long long)wrong, nr);
	}
	printf("%s: %zu coders of %s decoded by the other, %zu units each, "
	       "%llu wrong\n",
	       d->name, streams, who, nr, (unsigned long long)bad);
	bad_total += bad;
	return 0;
}

void measure_cpu(struct peer_buffers *b, const struct peer_data *d, size_t mib)
{
	static const struct {
		const char *codec;
		int level;
		size_t unit_len;
	} refs[] = {
		{ "memcpy", 0, 64 << 10 },   { "lz4", 1, 64 << 10 },
		{ "zstd", 1, 64 << 10 },     { "zstd", 3, 64 << 10 },
		{ "zstd", 9, 64 << 10 },     { "zstd", 3, 128 << 10 },
		{ "gdeflate", 1, 64 << 10 }, { "gdeflate", 2, 64 << 10 },
		{ "gdeflate", 3, 64 << 10 },
	};

	if (!opt.threads ||
	    peer_data_batch(d, b->host, (mib << 20) / PEER_UNIT))
		return;
	for (const auto &ref : refs) {
		struct peer_result r;
		char text[32];

		snprintf(text, sizeof(text), "%s:%d%s", ref.codec, ref.level,
			 ref.unit_len == PEER_UNIT ? "" : "@128K");
		peer_step("cpu %s on %s", text, d->name);
		if (!peer_cpu_measure(ref.codec, ref.level, b->host, mib << 20,
				      ref.unit_len, opt.threads, opt.passes,
				      &r))
			add_row(d->name, "cpu", text, mib, &r);
	}
}

const struct row *find_row(const char *data, const char *who, const char *what)
{
	for (size_t i = 0; i < nr_rows; i++)
		if (!strcmp(rows[i].data, data) && !strcmp(rows[i].who, who) &&
		    !strcmp(rows[i].what, what) && rows[i].mib == opt.batch_mib)
			return &rows[i];
	return nullptr;
}

void print_cell(const struct row *row)
{
	if (row)
		printf(" | %-11s%7.1f%7.1f%6.2f%c", row->what,
		       row->result.enc_gbs, row->result.dec_gbs,
		       row->result.ratio, row->result.bad_units ? '!' : ' ');
	else
		printf(" | %-32s", "-");
}

/* What is meant to compete stands in one line. */
void print_pairs(const struct peer_data *d)
{
	static const char *const lines[][3] = {
		{ "lz4:1", "lz4:0", "lz4:1" },
		{ "lz4:2", "snappy:0", "memcpy:0" },
		{ "lz4:3", "zstd:0", "zstd:3@128K" },
		{ "gdeflate:-1", "gdeflate:0", "gdeflate:1" },
		{ "gdeflate:1", "gdeflate:1", "zstd:1" },
		{ "gdeflate:2", "gdeflate:4", "zstd:3" },
		{ "gdeflate:3", "gdeflate:5", "zstd:9" },
	};

	printf("\n%s, %zu MiB: encode GB/s, decode GB/s, ratio\n", d->name,
	       opt.batch_mib);
	printf("   %-33s  | %-32s | %-32s\n", "balefs, kernel",
	       "nvcomp, kernel", "cpu, all threads");
	for (const auto &line : lines) {
		print_cell(find_row(d->name, "balefs", line[0]));
		print_cell(find_row(d->name, "nvcomp", line[1]));
		print_cell(find_row(d->name, "cpu", line[2]));
		printf("\n");
	}
}

int write_csv(void)
{
	FILE *f = fopen(opt.csv, "w");

	if (!f) {
		perror(opt.csv);
		return -1;
	}
	fprintf(f, "data,who,coder,batch_mib,encode_gbs,decode_gbs,ratio,"
		   "wrong_units\n");
	for (size_t i = 0; i < nr_rows; i++) {
		const struct row *w = &rows[i];

		fprintf(f, "%s,%s,%s,%zu,%.3f,%.3f,%.4f,%llu\n", w->data,
			w->who, w->what, w->mib, w->result.enc_gbs,
			w->result.dec_gbs, w->result.ratio,
			(unsigned long long)w->result.bad_units);
	}
	return fclose(f) ? -1 : 0;
}

/* ---- options ---- */

int add_file(char *arg)
{
	char *eq = strchr(arg, '=');

	if (!eq || opt.nr_sets == SETS_MAX)
		return -1;
	*eq = '\0';
	return peer_data_file(&opt.sets[opt.nr_sets++], arg, eq + 1);
}

int add_made(char *arg)
{
	char *colon = strchr(arg, ':');

	if (!colon || opt.nr_sets == SETS_MAX)
		return -1;
	*colon = '\0';
	return peer_data_make(&opt.sets[opt.nr_sets++], arg,
			      strtoul(colon + 1, nullptr, 10) << 20);
}

int add_joined(const char *name)
{
	if (opt.nr_sets == SETS_MAX)
		return -1;
	opt.nr_sets++;
	opt.nr_parts = opt.nr_sets;
	return peer_data_join(&opt.sets[opt.nr_sets - 1], name, opt.sets,
			      opt.nr_sets - 1);
}

int add_sweep(char *arg)
{
	for (char *s = strtok(arg, ","); s; s = strtok(nullptr, ","))
		if (opt.nr_sweep < SWEEP_MAX)
			opt.sweep_mib[opt.nr_sweep++] = strtoul(s, nullptr, 10);
	return 0;
}

int one_option(int c, char *arg)
{
	switch (c) {
	case 'd':
		return add_file(arg);
	case 'j':
		return add_joined(arg);
	case 'm':
		return add_made(arg);
	case 's':
		return add_sweep(arg);
	case 'n':
		opt.nvcomp = arg;
		return 0;
	case 'b':
		opt.batch_mib = strtoul(arg, nullptr, 10);
		return opt.batch_mib ? 0 : -1;
	case 'p':
		opt.passes = (unsigned int)strtoul(arg, nullptr, 10);
		return opt.passes && opt.passes <= PEER_PASSES_MAX ? 0 : -1;
	case 't':
		opt.threads = (unsigned int)strtoul(arg, nullptr, 10);
		return 0;
	case 'l':
		opt.seconds = (unsigned int)strtoul(arg, nullptr, 10);
		return 0;
	case 'o':
		opt.only = arg;
		return 0;
	case 'k':
		if (opt.nr_skip == SKIP_MAX)
			return -1;
		opt.skip[opt.nr_skip++] = arg;
		return 0;
	case 'c':
		opt.csv = arg;
		return 0;
	default:
		return -1;
	}
}

int parse_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "data", required_argument, nullptr, 'd' },
		{ "join", required_argument, nullptr, 'j' },
		{ "make", required_argument, nullptr, 'm' },
		{ "nvcomp", required_argument, nullptr, 'n' },
		{ "batch", required_argument, nullptr, 'b' },
		{ "sweep", required_argument, nullptr, 's' },
		{ "passes", required_argument, nullptr, 'p' },
		{ "seconds", required_argument, nullptr, 'l' },
		{ "threads", required_argument, nullptr, 't' },
		{ "only", required_argument, nullptr, 'o' },
		{ "skip", required_argument, nullptr, 'k' },
		{ "csv", required_argument, nullptr, 'c' },
		{},
	};
	int c;

	opt.batch_mib = 128;
	opt.passes = 12;
	opt.threads = 16;
	opt.seconds = 600;
	while ((c = getopt_long(argc, argv, "", longs, nullptr)) != -1)
		if (one_option(c, optarg))
			return -1;
	return optind == argc && opt.nr_sets ? 0 : -1;
}

int measure_sweep(struct peer_buffers *b)
{
	size_t which = opt.nr_parts ? opt.nr_parts - 1 : 0;

	for (size_t i = 0; i < opt.nr_sweep; i++)
		if (opt.sweep_mib[i] != opt.batch_mib &&
		    measure_set(b, &opt.sets[which], opt.sweep_mib[i], FEW))
			return -1;
	return 0;
}

int cross_all(struct peer_buffers *b)
{
	/* Ours take any bytes; the peer's decoder may hang on what it does not
	 * expect, and comes last. */
	for (const char *who : { "nvcomp", "balefs" })
		for (size_t i = 0; i < opt.nr_sets; i++)
			if (cross_decode(b, &opt.sets[i], who))
				return -1;
	return 0;
}

/* What does not depend on us first; then ours, the single files last. */
int measure_all(struct peer_buffers *b)
{
	size_t first = opt.nr_parts ? opt.nr_parts - 1 : 0;

	printf("%-9s %-7s %-13s %4s %8s %8s %7s\n", "data", "who", "coder",
	       "MiB", "encode", "decode", "ratio");
	for (size_t i = first; i < opt.nr_sets; i++) {
		if (measure_set(b, &opt.sets[i], opt.batch_mib, PEER))
			return -1;
		measure_cpu(b, &opt.sets[i], opt.batch_mib);
	}
	for (size_t i = first; i < opt.nr_sets; i++)
		if (measure_set(b, &opt.sets[i], opt.batch_mib, OURS))
			return -1;
	if (measure_sweep(b))
		return -1;
	for (size_t i = 0; i < first; i++)
		if (measure_set(b, &opt.sets[i], opt.batch_mib, FEW))
			return -1;
	return 0;
}

int report(void)
{
	size_t first = opt.nr_parts ? opt.nr_parts - 1 : 0;

	for (size_t i = first; i < opt.nr_sets; i++)
		print_pairs(&opt.sets[i]);
	return opt.csv ? write_csv() : 0;
}

} // namespace

int main(int argc, char **argv)
{
	struct cudaDeviceProp prop;
	struct peer_buffers b;
	size_t largest;
	int r;

	if (parse_options(argc, argv)) {
		usage(stderr);
		return 2;
	}
	/* What is known when it is ended from outside is known. */
	started = time(nullptr);
	setvbuf(stdout, nullptr, _IOLBF, 0);
	peer_step("start");
	if (PEER_CUDA(cudaGetDeviceProperties(&prop, 0)) ||
	    (opt.nvcomp &&
	     peer_nvcomp_coders(opt.nvcomp, coders, &nr_coders)) ||
	    peer_our_coders(coders, &nr_coders))
		return 3;
	printf("%s, %u CPU threads; %zu coders; nvcomp %s; kernel GB/s, median "
	       "of up to %u\n",
	       prop.name, opt.threads, nr_coders, peer_nvcomp_version(),
	       opt.passes);
	largest = opt.batch_mib;
	for (size_t i = 0; i < opt.nr_sweep; i++)
		if (opt.sweep_mib[i] > largest)
			largest = opt.sweep_mib[i];
	r = peer_buffers_create(&b, (largest << 20) / PEER_UNIT) ||
	    measure_all(&b);
	r |= report();
	r = r || (opt.nvcomp && cross_all(&b));
	peer_step("end");
	peer_buffers_destroy(&b);
	for (size_t i = 0; i < opt.nr_sets; i++)
		free(opt.sets[i].bytes);
	if (bad_total)
		printf("WRONG: %llu units\n", (unsigned long long)bad_total);
	return r ? 3 : bad_total ? 1 : 0;
}
