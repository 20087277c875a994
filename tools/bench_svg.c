/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_svg.c - rows as a picture: throughput against batch size, and ratio
 * against throughput. Both axes of both are logarithmic, so that equal
 * factors look equal. A series is what shares layer, engine, codec and extent.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/mem.h"
#include "tools/bench.h"
#include "tools/cmd.h"

enum {
	WIDTH = 1000,
	LEFT = 70,
	PLOT_W = 610,
	PLOT_H = 330,
	TOP = 70,
	GAP = 90,
	LEGEND_X = LEFT + PLOT_W + 24,
	LEGEND_ROW = 16,
	SERIES_MAX = 64,
};

/* Told apart also without colours: each use of a colour has another marker. */
static const char *const colours[] = { "#1f77b4", "#d62728", "#2ca02c",
				       "#9467bd", "#ff7f0e", "#17becf",
				       "#8c564b", "#e377c2", "#7f7f7f",
				       "#bcbd22" };
enum { NR_COLOURS = sizeof(colours) / sizeof(colours[0]), NR_MARKERS = 4 };

struct series {
	const struct bale_bench_row *first; /* stands for all its rows */
	size_t idx;
};

/* A plot's place and the powers of ten at its edges. */
struct plot {
	FILE *f;
	double top;
	double min_x, max_x, min_y, max_y;
};

static bool same_series(const struct bale_bench_row *a,
			const struct bale_bench_row *b)
{
	return !strcmp(a->layer, b->layer) && !strcmp(a->engine, b->engine) &&
	       !strcmp(a->codec, b->codec) && a->extent == b->extent;
}

static size_t find_series(const struct bale_bench *b, struct series *s)
{
	size_t nr = 0;

	for (size_t i = 0; i < b->nr_rows; i++) {
		size_t k = 0;

		while (k < nr && !same_series(s[k].first, &b->rows[i]))
			k++;
		if (k < nr || nr == SERIES_MAX)
			continue;
		s[nr] = (struct series){ .first = &b->rows[i], .idx = nr };
		nr++;
	}
	return nr;
}

static double place_x(const struct plot *p, double v)
{
	return LEFT + PLOT_W * (log10(v) - p->min_x) / (p->max_x - p->min_x);
}

static double place_y(const struct plot *p, double v)
{
	return p->top +
	       PLOT_H * (1 - (log10(v) - p->min_y) / (p->max_y - p->min_y));
}

static void widen(double v, double *min, double *max)
{
	if (v <= 0)
		return;
	v = log10(v);
	*min = v < *min ? v : *min;
	*max = v > *max ? v : *max;
}

/* Some air at both ends; a single value gets a range too. */
static void pad(double *min, double *max)
{
	double air = (*max - *min) * 0.06 + 0.05;

	if (*min > *max)
		*min = *max = 0;
	*min -= air;
	*max += air;
}

/* ---- marks ---- */

static void draw_text(FILE *f, double x, double y, const char *attrs,
		      const char *text)
{
	fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attrs);
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", f);
		else if (*text == '&')
			fputs("&amp;", f);
		else
			fputc(*text, f);
	}
	fputs("</text>\n", f);
}

/* Circle, square, triangle, diamond; hollow for decoding. */
static void draw_marker(FILE *f, double x, double y, size_t idx, bool hollow)
{
	const char *colour = colours[idx % NR_COLOURS];
	const char *fill = hollow ? "#fff" : colour;
	size_t form = idx / NR_COLOURS % NR_MARKERS;

	if (form == 0)
		fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"", x, y);
	else if (form == 1)
		fprintf(f,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"8\" height=\"8\"",
			x - 4, y - 4);
	else if (form == 2)
		fprintf(f, "<path d=\"M%.1f %.1fl5 9h-10z\"", x, y - 5);
	else
		fprintf(f, "<path d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\"", x, y - 5);
	fprintf(f, " fill=\"%s\" stroke=\"%s\" stroke-width=\"1.5\"/>\n", fill,
		colour);
}

static void draw_line(FILE *f, size_t idx, bool dashed, double x0, double y0,
		      double x1, double y1)
{
	fprintf(f,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
		"stroke=\"%s\" stroke-width=\"1.5\"%s/>\n",
		x0, y0, x1, y1, colours[idx % NR_COLOURS],
		dashed ? " stroke-dasharray=\"5 3\"" : "");
}

/* ---- axes ---- */

typedef void label_fn(double v, char *buf, size_t cap);

static void rate_label(double v, char *buf, size_t cap)
{
	if (v >= 1e9)
		snprintf(buf, cap, "%g GB/s", v / 1e9);
	else
		snprintf(buf, cap, "%g MB/s", v / 1e6);
}

static void ratio_label(double v, char *buf, size_t cap)
{
	snprintf(buf, cap, "%g", v);
}

static void draw_grid_x(const struct plot *p, double v, const char *text)
{
	double x = place_x(p, v);

	fprintf(p->f,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
		"stroke=\"#ddd\"/>\n",
		x, p->top, x, p->top + PLOT_H);
	draw_text(p->f, x, p->top + PLOT_H + 16, "text-anchor=\"middle\"",
		  text);
}

static void draw_grid_y(const struct plot *p, double v, const char *text)
{
	double y = place_y(p, v);

	fprintf(p->f,
		"<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" "
		"stroke=\"#ddd\"/>\n",
		LEFT, y, LEFT + PLOT_W, y);
	draw_text(p->f, LEFT - 6, y + 4, "text-anchor=\"end\"", text);
}

/*
 * 1, 2 and 5 of each decade, and all tenths of the first where the range is
 * short: ratios of 1.1 to 1.6 want more than two lines.
 */
static void draw_ticks(const struct plot *p, bool along_x, label_fn *label)
{
	double min = along_x ? p->min_x : p->min_y;
	double max = along_x ? p->max_x : p->max_y;
	bool fine = max - min < 0.5;

	for (int e = (int)floor(min); e <= (int)ceil(max); e++)
		for (int m = 10; m < 100; m++) {
			double v = pow(10, e) * m / 10;
			char text[32];

			if (m != 10 && m != 20 && m != 50 &&
			    (!fine || (m > 20 && m % 5) || m % 2))
				continue;
			if (log10(v) < min || log10(v) > max)
				continue;
			label(v, text, sizeof(text));
			if (along_x)
				draw_grid_x(p, v, text);
			else
				draw_grid_y(p, v, text);
		}
}

static void draw_frame(const struct plot *p, const char *title,
		       const char *x_title)
{
	fprintf(p->f,
		"<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%d\" "
		"fill=\"none\" stroke=\"#444\"/>\n",
		LEFT, p->top, PLOT_W, PLOT_H);
	draw_text(p->f, LEFT, p->top - 10, "font-weight=\"bold\"", title);
	draw_text(p->f, LEFT + PLOT_W / 2.0, p->top + PLOT_H + 34,
		  "text-anchor=\"middle\"", x_title);
}

/* ---- throughput against batch size ---- */

static void draw_series(const struct plot *p, const struct bale_bench *b,
			const struct series *s, bool decode)
{
	double last_x = 0, last_y = 0;
	bool started = false;

	for (size_t i = 0; i < b->nr_rows; i++) {
		const struct bale_bench_row *r = &b->rows[i];
		double rate = decode ? r->decode : r->encode, x, y;

		if (!same_series(s->first, r) || !r->batch || rate <= 0)
			continue;
		x = place_x(p, (double)r->batch);
		y = place_y(p, rate);
		if (started)
			draw_line(p->f, s->idx, decode, last_x, last_y, x, y);
		draw_marker(p->f, x, y, s->idx, decode);
		last_x = x;
		last_y = y;
		started = true;
	}
}

static void draw_batches(const struct bale_bench *b, const struct plot *p)
{
	double last = -100;
	char text[BALE_BENCH_TEXT];

	/* Those that were measured, unless they would touch. */
	for (size_t i = 0; i < b->nr_batches; i++) {
		double x = place_x(p, (double)b->batches[i]);

		if (fabs(x - last) < 36)
			continue;
		last = x;
		draw_grid_x(p, (double)b->batches[i],
			    bale_bench_size(b->batches[i], text));
	}
}

static void plot_batches(FILE *f, const struct bale_bench *b,
			 const struct series *s, size_t nr)
{
	struct plot p = { .f = f,
			  .top = TOP,
			  .min_x = 99,
			  .max_x = -99,
			  .min_y = 99,
			  .max_y = -99 };

	for (size_t i = 0; i < b->nr_rows; i++) {
		const struct bale_bench_row *r = &b->rows[i];

		if (!r->batch)
			continue;
		widen((double)r->batch, &p.min_x, &p.max_x);
		widen(r->encode, &p.min_y, &p.max_y);
		widen(r->decode, &p.min_y, &p.max_y);
	}
	pad(&p.min_x, &p.max_x);
	pad(&p.min_y, &p.max_y);
	draw_batches(b, &p);
	draw_ticks(&p, false, rate_label);
	draw_frame(&p, "Throughput (solid: encode, dashed: decode)",
		   "bytes in a batch");
	for (size_t k = 0; k < nr; k++) {
		draw_series(&p, b, &s[k], false);
		draw_series(&p, b, &s[k], true);
	}
}

/* ---- ratio against throughput ---- */

static double best_rate(const struct bale_bench *b, const struct series *s,
			bool decode, double *ret_ratio)
{
	double best = 0;

	for (size_t i = 0; i < b->nr_rows; i++) {
		const struct bale_bench_row *r = &b->rows[i];
		double rate = decode ? r->decode : r->encode;

		if (!same_series(s->first, r) || rate <= best)
			continue;
		best = rate;
		*ret_ratio = r->ratio;
	}
	return best;
}

static void plot_ratios(FILE *f, const struct bale_bench *b,
			const struct series *s, size_t nr)
{
	struct plot p = { .f = f,
			  .top = TOP + PLOT_H + GAP,
			  .min_x = 99,
			  .max_x = -99,
			  .min_y = 99,
			  .max_y = -99 };

	for (size_t i = 0; i < b->nr_rows; i++) {
		widen(b->rows[i].encode, &p.min_x, &p.max_x);
		widen(b->rows[i].decode, &p.min_x, &p.max_x);
		widen(b->rows[i].ratio, &p.min_y, &p.max_y);
	}
	pad(&p.min_x, &p.max_x);
	pad(&p.min_y, &p.max_y);
	draw_ticks(&p, true, rate_label);
	draw_ticks(&p, false, ratio_label);
	draw_frame(&p, "Ratio (filled: encode, hollow: decode; best batch)",
		   "throughput");
	for (size_t k = 0; k < nr; k++)
		for (int decode = 0; decode < 2; decode++) {
			double ratio = 1;
			double rate = best_rate(b, &s[k], decode, &ratio);

			if (rate > 0)
				draw_marker(f, place_x(&p, rate),
					    place_y(&p, ratio), s[k].idx,
					    decode);
		}
}

static void draw_legend(FILE *f, const struct series *s, size_t nr)
{
	for (size_t k = 0; k < nr; k++) {
		const struct bale_bench_row *r = s[k].first;
		double y = TOP + 6 + (double)k * LEGEND_ROW;
		char extent[BALE_BENCH_TEXT], text[4 * BALE_BENCH_TEXT];

		snprintf(text, sizeof(text), "%s, %s, %s, %s", r->layer,
			 r->engine, r->codec,
			 bale_bench_size(r->extent, extent));
		draw_line(f, s[k].idx, false, LEGEND_X, y, LEGEND_X + 24, y);
		draw_marker(f, LEGEND_X + 12, y, s[k].idx, false);
		draw_text(f, LEGEND_X + 32, y + 4, "", text);
	}
}

void bale_bench_svg(FILE *f, const struct bale_bench *b)
{
	bale_autofree struct series *s = calloc(SERIES_MAX, sizeof(*s));
	size_t nr = s ? find_series(b, s) : 0;
	size_t height = TOP + 2 * PLOT_H + GAP + 60;
	size_t legend = TOP + 20 + nr * LEGEND_ROW;
	char size[BALE_SIZE_TEXT];

	if (legend > height)
		height = legend;
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
		"height=\"%zu\" font-family=\"sans-serif\" font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		WIDTH, height);
	fprintf(f,
		"<text x=\"%d\" y=\"24\" font-size=\"15\">balefs bench: %s "
		"in %zu files</text>\n<text x=\"%d\" y=\"42\" "
		"fill=\"#555\">",
		LEFT, bale_size_text(b->data.len, size), b->data.nr_files,
		LEFT);
	bale_bench_machine(f);
	fputs("</text>\n", f);
	plot_batches(f, b, s, nr);
	plot_ratios(f, b, s, nr);
	draw_legend(f, s, nr);
	fputs("</svg>\n", f);
}
