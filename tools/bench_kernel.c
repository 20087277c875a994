/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_kernel.c - the device's kernels alone, on the first device: units of
 * 64 KiB in device memory. A batch takes units from all over the data.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balefs/gpu.h"
#include "balefs/measure.h"
#include "fs/base/mem.h"
#include "tools/bench.h"
#include "tools/cmd.h"

bool bale_bench_on_device(struct bale_codec_policy p)
{
	int min, max;

	return p.codec != BALE_CODEC_raw &&
	       !bale_device_levels(p.codec, &min, &max);
}

/* What one call measures. */
struct sample {
	uint8_t *bytes;
	uint32_t *len;
	size_t nr, total;
};

static void sample_fini(struct sample *s)
{
	free(s->bytes);
	free(s->len);
}

/* Every so-many-th unit, until there are `want` bytes or all were taken. */
static int take_sample(struct sample *s, const struct bale_bench_data *d,
		       const struct bale_bench_extent *units, size_t nr,
		       size_t want)
{
	size_t step = d->len / want ? d->len / want : 1;

	memset(s, 0, sizeof(*s));
	s->bytes = malloc(d->len < want ? d->len : want);
	s->len = calloc(nr, sizeof(*s->len));
	if (!s->bytes || !s->len) {
		sample_fini(s);
		return -ENOMEM;
	}
	for (size_t i = 0; i < nr && s->total + units[i].len <= want;
	     i += step) {
		memcpy(s->bytes + s->total, d->bytes + units[i].off,
		       units[i].len);
		s->total += units[i].len;
		s->len[s->nr++] = (uint32_t)units[i].len;
	}
	return 0;
}

static int measure_one(struct bale_bench *b, const struct sample *s,
		       struct bale_codec_policy p, size_t batch)
{
	struct bale_device_opts opts = { .struct_size = sizeof(opts),
					 .codec = p.codec,
					 .level = p.level,
					 .max_chunk = BALE_UNIT_SIZE };
	struct bale_bench_row row = { .layer = "kernel",
				      .engine = "gpu",
				      .extent = BALE_UNIT_SIZE,
				      .batch = batch,
				      .encode_cpu = -1,
				      .decode_cpu = -1 };
	struct bale_device_figures f;
	int r = bale_device_measure(0, &opts, s->bytes, s->len, s->nr,
				    b->passes, &f);

	snprintf(row.codec, sizeof(row.codec), "%s:%d",
		 bale_codec_name(p.codec), p.level);
	if (r) {
		bale_cmd_error("kernel %s: %s", row.codec, strerror(-r));
		return r;
	}
	row.wrong = f.wrong;
	row.ratio = (double)s->total / (double)f.coded_bytes;
	if (!f.wrong) {
		row.encode = (double)s->total * 1e9 / f.encode_ns;
		row.decode = (double)s->total * 1e9 / f.decode_ns;
	}
	return bale_bench_add(b, &row);
}

/* A codec without levels in policies has them here: all are of interest. */
static int measure_levels(struct bale_bench *b, const struct sample *s,
			  struct bale_codec_policy p, size_t batch)
{
	int min, max, r = bale_device_levels(p.codec, &min, &max);

	if (r)
		return 0; /* no kernels: raw, zstd, auto */
	if (p.level)
		return measure_one(b, s, p, batch);
	for (int level = min; level <= max && !r; level++) {
		p.level = (int8_t)level;
		if (level && !bale_bench_stopped())
			r = measure_one(b, s, p, batch);
	}
	return bale_bench_stopped() ? -EINTR : r;
}

int bale_bench_kernels(struct bale_bench *b)
{
	bale_autofree struct bale_bench_extent *units = NULL;
	uint32_t nr_devices = 0;
	size_t nr;
	int r;

	if (bale_gpu_count(&nr_devices) || !nr_devices)
		return 0;
	r = bale_bench_cut(&b->data, BALE_UNIT_SIZE, &units, &nr);
	for (size_t k = 0; k < b->nr_batches && !r; k++) {
		struct sample s;

		r = take_sample(&s, &b->data, units, nr, b->batches[k]);
		for (size_t c = 0; c < b->nr_codecs && !r; c++)
			r = measure_levels(b, &s, b->codecs[c], b->batches[k]);
		sample_fini(&s);
	}
	return r;
}
