/* SPDX-License-Identifier: Apache-2.0 */
/* stats_print.c - figures as a table, JSON or Prometheus text. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/json.h"
#include "tools/stats.h"

static const struct {
	const char *name;
	char unit;
	const char *text;
} figures[] = {
#define X(name, unit, text) { #name, #unit[0], text },
	BALE_FIGURES(X)
#undef X
};

static double ratio_of(uint64_t raw, uint64_t stored)
{
	return stored ? (double)raw / (double)stored : 1.0;
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static bool has_ratio(const struct bale_stats *s)
{
	return s->set[BALE_FIGURE_raw_bytes];
}

static double ratio(const struct bale_stats *s)
{
	return ratio_of(s->v[BALE_FIGURE_raw_bytes],
			s->v[BALE_FIGURE_stored_bytes]);
}

/* ---- table ---- */

static void print_text(const char *name, const char *text)
{
	if (*text)
		printf("%-24s%s\n", name, text);
}

static void print_figure(const struct bale_stats *s, int k)
{
	char size[BALE_SIZE_TEXT], name[40];
	char *underscore;

	snprintf(name, sizeof(name), "%s", figures[k].name);
	while ((underscore = strchr(name, '_')))
		*underscore = ' ';
	if (figures[k].unit == 'B')
		printf("%-24s%16" PRIu64 "  %-12s %s\n", name, s->v[k],
		       bale_size_text(s->v[k], size), figures[k].text);
	else if (figures[k].unit == 'S')
		printf("%-24s%16.3f  %-12s %s\n", name, seconds(s->v[k]),
		       "seconds", figures[k].text);
	else
		printf("%-24s%16" PRIu64 "  %-12s %s\n", name, s->v[k], "",
		       figures[k].text);
}

static void print_codecs(const struct bale_stats *s)
{
	printf("\n%-10s%12s%18s%18s%9s\n", "codec", "extents", "raw", "stored",
	       "ratio");
	for (unsigned int k = 0; k < 8; k++)
		if (s->codec[k].extents)
			printf("%-10s%12" PRIu64 "%18" PRIu64 "%18" PRIu64
			       " %8.3f\n",
			       bale_codec_name(k), s->codec[k].extents,
			       s->codec[k].raw, s->codec[k].stored,
			       ratio_of(s->codec[k].raw, s->codec[k].stored));
	for (unsigned int k = 1; k < 8; k++)
		if (s->raw_reason[k])
			printf("raw because %s: %" PRIu64 "\n",
			       bale_raw_reason_text(k), s->raw_reason[k]);
}

void bale_stats_print(const struct bale_stats *s)
{
	printf("%-24s", s->kind);
	bale_print_name(stdout, s->path, strlen(s->path));
	putchar('\n');
	print_text("store", s->store);
	print_text("label", s->label);
	print_text("codec policy", s->policy);
	print_text("engine", s->engine);
	print_text("cleaner", s->cleaner);
	if (s->error)
		printf("%-24s%s: takes no changes\n", "error",
		       strerror((int)-s->error));
	for (int k = 0; k < BALE_FIGURE_NR; k++)
		if (s->set[k])
			print_figure(s, k);
	if (has_ratio(s))
		printf("%-24s%16.3f\n", "ratio", ratio(s));
	if (s->has_codecs)
		print_codecs(s);
	bale_stats_print_devices(s);
}

/* ---- JSON ---- */

static void codecs_json(struct bale_json *j, const struct bale_stats *s)
{
	bale_json_array(j, "codecs");
	for (unsigned int k = 0; k < 8; k++) {
		if (!s->codec[k].extents)
			continue;
		bale_json_object(j, NULL);
		bale_json_str(j, "codec", bale_codec_name(k));
		bale_json_u64(j, "extents", s->codec[k].extents);
		bale_json_u64(j, "raw_bytes", s->codec[k].raw);
		bale_json_u64(j, "stored_bytes", s->codec[k].stored);
		bale_json_ratio(j, "ratio",
				ratio_of(s->codec[k].raw, s->codec[k].stored));
		bale_json_end(j);
	}
	bale_json_end(j);
	bale_json_array(j, "raw_reasons");
	for (unsigned int k = 1; k < 8; k++) {
		if (!s->raw_reason[k])
			continue;
		bale_json_object(j, NULL);
		bale_json_str(j, "reason", bale_raw_reason_text(k));
		bale_json_u64(j, "extents", s->raw_reason[k]);
		bale_json_end(j);
	}
	bale_json_end(j);
}

void bale_stats_print_json(const struct bale_stats *s)
{
	struct bale_json j;
	char name[48];

	bale_json_open(&j, stdout);
	bale_json_str(&j, "kind", s->kind);
	bale_json_str(&j, "path", s->path);
	bale_json_str(&j, "store", s->store);
	bale_json_str(&j, "label", s->label);
	bale_json_str(&j, "codec", s->policy);
	bale_json_str(&j, "engine", s->engine);
	bale_json_str(&j, "cleaner", s->cleaner);
	bale_json_i64(&j, "error", s->error);
	for (int k = 0; k < BALE_FIGURE_NR; k++) {
		if (!s->set[k])
			continue;
		snprintf(name, sizeof(name), "%s%s", figures[k].name,
			 figures[k].unit == 'S' ? "_seconds" : "");
		if (figures[k].unit == 'S')
			bale_json_ratio(&j, name, seconds(s->v[k]));
		else
			bale_json_u64(&j, name, s->v[k]);
	}
	if (has_ratio(s))
		bale_json_ratio(&j, "ratio", ratio(s));
	if (s->has_codecs)
		codecs_json(&j, s);
	bale_stats_devices_json(&j, s);
	bale_json_close(&j);
}

/* ---- Prometheus ---- */

static void print_label(const char *text)
{
	for (; *text; text++)
		if (*text == '\n')
			fputs("\\n", stdout);
		else if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else
			putchar(*text);
}

static void metric_head(const char *name, const char *text)
{
	printf("# HELP balefs_%s %s\n# TYPE balefs_%s gauge\n", name, text,
	       name);
}

static void metric(const struct bale_stats *s, const char *name,
		   const char *label, const char *value)
{
	printf("balefs_%s{%s=\"", name, s->kind);
	print_label(s->path);
	if (label) {
		printf("\",%s=\"", label);
		print_label(value);
	}
	printf("\"} ");
}

static void codec_metric(const struct bale_stats *s, const char *name,
			 const char *text, size_t field)
{
	metric_head(name, text);
	for (unsigned int k = 0; k < 8; k++) {
		uint64_t v;

		if (!s->codec[k].extents)
			continue;
		memcpy(&v, (const char *)&s->codec[k] + field, sizeof(v));
		metric(s, name, "codec", bale_codec_name(k));
		printf("%" PRIu64 "\n", v);
	}
}

static void device_metric(const struct bale_stats *s, const char *name,
			  const char *text, size_t field, double scale)
{
	metric_head(name, text);
	for (unsigned int k = 0; k < s->nr_devices; k++) {
		char idx[12];
		uint64_t v;

		memcpy(&v, (const char *)&s->devices[k] + field, sizeof(v));
		snprintf(idx, sizeof(idx), "%u", k);
		metric(s, name, "device", idx);
		printf("%.6f\n", (double)v * scale);
	}
}

static void devices_prometheus(const struct bale_stats *s)
{
	if (!s->nr_devices)
		return;
	device_metric(s, "device_seconds", "time that kernels ran",
		      offsetof(struct bale_ioc_device, device_ns), 1e-9);
	device_metric(s, "device_batches", "batches of the device",
		      offsetof(struct bale_ioc_device, batches), 1);
	device_metric(s, "device_encode_bytes", "bytes into compression there",
		      offsetof(struct bale_ioc_device, bytes_in), 1);
	device_metric(s, "device_decode_bytes",
		      "bytes out of decompression there",
		      offsetof(struct bale_ioc_device, bytes_out) +
			      sizeof(uint64_t),
		      1);
	device_metric(s, "device_failed_over_jobs",
		      "jobs that the processor did instead",
		      offsetof(struct bale_ioc_device, failed_over), 1);
	device_metric(s, "device_lost", "times that it was lost",
		      offsetof(struct bale_ioc_device, lost), 1);
}

void bale_stats_print_prometheus(const struct bale_stats *s)
{
	char name[48];

	for (int k = 0; k < BALE_FIGURE_NR; k++) {
		if (!s->set[k])
			continue;
		snprintf(name, sizeof(name), "%s%s", figures[k].name,
			 figures[k].unit == 'S' ? "_seconds" : "");
		metric_head(name, figures[k].text);
		metric(s, name, NULL, NULL);
		if (figures[k].unit == 'S')
			printf("%.6f\n", seconds(s->v[k]));
		else
			printf("%" PRIu64 "\n", s->v[k]);
	}
	devices_prometheus(s);
	if (!s->has_codecs)
		return;
	codec_metric(s, "codec_extents", "extents by codec",
		     offsetof(struct bale_codec_figures, extents));
	codec_metric(s, "codec_raw_bytes", "decoded bytes by codec",
		     offsetof(struct bale_codec_figures, raw));
	codec_metric(s, "codec_stored_bytes", "stored bytes by codec",
		     offsetof(struct bale_codec_figures, stored));
	metric_head("raw_extents", "extents stored raw, by reason");
	for (unsigned int k = 1; k < 8; k++)
		if (s->raw_reason[k]) {
			metric(s, "raw_extents", "reason",
			       bale_raw_reason_text(k));
			printf("%" PRIu64 "\n", s->raw_reason[k]);
		}
}
