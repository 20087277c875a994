/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_peer_data.c - files and made data as units for gpu_peer. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/perf/gpu_peer.h"

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint32_t below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)((next_random(state) >> 32) * bound >> 32);
}

static int take_room(struct peer_data *d, const char *name, size_t len)
{
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->len = len;
	d->bytes = malloc(len ? len : 1);
	if (d->bytes)
		return 0;
	fprintf(stderr, "%s: no memory for %zu bytes\n", name, len);
	return -1;
}

int peer_data_file(struct peer_data *d, const char *name, const char *path)
{
	FILE *f = fopen(path, "rb");
	long len = -1;
	int r = -1;

	if (f && !fseek(f, 0, SEEK_END))
		len = ftell(f);
	if (len < PEER_UNIT) {
		fprintf(stderr, "%s: %s\n", path,
			f ? "less than a unit" : strerror(errno));
	} else if (!take_room(d, name, (size_t)len)) {
		rewind(f);
		if (fread(d->bytes, 1, d->len, f) == d->len)
			r = 0;
		else
			fprintf(stderr, "%s: short read\n", path);
	}
	if (f)
		fclose(f);
	return r;
}

int peer_data_join(struct peer_data *d, const char *name,
		   const struct peer_data *parts, size_t nr)
{
	size_t len = 0;

	for (size_t i = 0; i < nr; i++)
		len += parts[i].len;
	if (take_room(d, name, len))
		return -1;
	len = 0;
	for (size_t i = 0; i < nr; i++) {
		memcpy(d->bytes + len, parts[i].bytes, parts[i].len);
		len += parts[i].len;
	}
	return 0;
}

static void fill_random(uint8_t *dst, size_t len)
{
	uint64_t state = 7;

	for (size_t i = 0; i + 8 <= len; i += 8) {
		uint64_t v = next_random(&state);

		memcpy(dst + i, &v, 8);
	}
}

/* Box and Muller's pairs. */
static void fill_bf16(uint8_t *dst, size_t len)
{
	uint64_t state = 11;

	for (size_t i = 0; i + 4 <= len; i += 4) {
		double u = ((double)(next_random(&state) >> 11) + 1) / 0x1p53;
		double v = (double)(next_random(&state) >> 11) / 0x1p53;
		double radius = 0.02 * sqrt(-2 * log(u));
		float pair[2] = { (float)(radius * cos(2 * M_PI * v)),
				  (float)(radius * sin(2 * M_PI * v)) };

		for (int k = 0; k < 2; k++) {
			uint32_t bits;

			memcpy(&bits, &pair[k], 4);
			dst[i + 2 * k] = (uint8_t)(bits >> 16);
			dst[i + 2 * k + 1] = (uint8_t)(bits >> 24);
		}
	}
}

struct row {
	uint32_t order, part, supplier, line, quantity, price;
	uint32_t discount, tax, ship_day;
	char flag, status;
	const char *instruct, *mode;
	char comment[64];
};

/* Days since 1992-01-01, in months of 30: a date's shape is what matters. */
static int print_date(char *dst, size_t cap, uint32_t day)
{
	return snprintf(dst, cap, "%u-%02u-%02u|", 1992 + day / 360,
			day / 30 % 12 + 1, day % 30 + 1);
}

static void make_comment(uint64_t *state, char *dst, size_t cap)
{
	static const char *const words[] = {
		"furiously",	"carefully", "quickly",	     "blithely",
		"slyly",	"regular",   "express",	     "special",
		"pending",	"final",     "ironic",	     "even",
		"bold",		"silent",    "deposits",     "requests",
		"accounts",	"packages",  "ideas",	     "theodolites",
		"dolphins",	"foxes",     "pinto",	     "beans",
		"instructions", "sleep",     "wake",	     "haggle",
		"nag",		"above the", "according to", "among the"
	};
	size_t used = 0;
	uint32_t nr = 2 + below(state, 5);

	dst[0] = '\0';
	for (uint32_t i = 0; i < nr && used + 20 < cap; i++)
		used += (size_t)snprintf(
			dst + used, cap - used, "%s%s", i ? " " : "",
			words[below(state, sizeof(words) / sizeof(words[0]))]);
}

static void make_row(uint64_t *state, struct row *row)
{
	static const char *const instruct[] = { "DELIVER IN PERSON",
						"COLLECT COD", "NONE",
						"TAKE BACK RETURN" };
	static const char *const mode[] = { "REG AIR", "AIR",  "RAIL", "SHIP",
					    "TRUCK",   "MAIL", "FOB" };

	if (row->line && below(state, 7) >= row->line) {
		row->line++;
	} else {
		row->line = 1;
		row->order += 1 + (below(state, 8) == 0) * 24;
	}
	row->part = 1 + below(state, 200000);
	row->supplier = 1 + below(state, 10000);
	row->quantity = 1 + below(state, 50);
	row->price = row->quantity * (90000 + row->part % 20001 * 10);
	row->discount = below(state, 11);
	row->tax = below(state, 9);
	row->ship_day = below(state, 2500);
	row->flag = "RAN"[row->ship_day < 1250 ? below(state, 2) : 2];
	row->status = row->ship_day < 1250 ? 'F' : 'O';
	row->instruct = instruct[below(state, 4)];
	row->mode = mode[below(state, 7)];
	make_comment(state, row->comment, sizeof(row->comment));
}

static void fill_lineitem(uint8_t *dst, size_t len)
{
	struct row row = { 0 };
	uint64_t state = 13;
	size_t used = 0;

	while (used < len) {
		char text[320];
		int n;
		size_t take;

		make_row(&state, &row);
		n = snprintf(text, sizeof(text),
			     "%u|%u|%u|%u|%u|%u.%02u|0.%02u|0.%02u|%c|%c|",
			     row.order, row.part, row.supplier, row.line,
			     row.quantity, row.price / 100, row.price % 100,
			     row.discount, row.tax, row.flag, row.status);
		for (uint32_t k = 0; k < 3; k++)
			n += print_date(text + n, sizeof(text) - (size_t)n,
					row.ship_day + k * 11);
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s|%s|%s|\n",
			      row.instruct, row.mode, row.comment);
		take = len - used < (size_t)n ? len - used : (size_t)n;
		memcpy(dst + used, text, take);
		used += take;
	}
}

/* A group: each column of 65536 rows, four bytes a value but for the chars. */
static void fill_columns(uint8_t *dst, size_t len)
{
	enum { ROWS = 65536, WORDS = 9, GROUP = ROWS * (WORDS * 4 + 2) };
	struct row row = { 0 };
	uint64_t state = 17;
	uint8_t *group = calloc(1, GROUP);

	for (size_t used = 0; group && used < len; used += GROUP) {
		for (size_t i = 0; i < ROWS; i++) {
			uint32_t v[WORDS];

			make_row(&state, &row);
			memcpy(v, &row, sizeof(v));
			for (size_t k = 0; k < WORDS; k++)
				memcpy(group + (k * ROWS + i) * 4, &v[k], 4);
			group[WORDS * 4 * ROWS + i] = (uint8_t)row.flag;
			group[(WORDS * 4 + 1) * ROWS + i] = (uint8_t)row.status;
		}
		memcpy(dst + used, group,
		       len - used < GROUP ? len - used : GROUP);
	}
	free(group);
}

int peer_data_make(struct peer_data *d, const char *kind, size_t len)
{
	static const struct {
		const char *kind;
		void (*fill)(uint8_t *dst, size_t len);
	} makers[] = { { "bf16", fill_bf16 },
		       { "lineitem", fill_lineitem },
		       { "columns", fill_columns },
		       { "random", fill_random } };

	for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
		if (strcmp(makers[i].kind, kind))
			continue;
		if (take_room(d, kind, len))
			return -1;
		makers[i].fill(d->bytes, len);
		return 0;
	}
	fprintf(stderr, "%s: not a kind of data\n", kind);
	return -1;
}

static size_t common_factor(size_t a, size_t b)
{
	while (b) {
		size_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

int peer_data_batch(const struct peer_data *d, uint8_t *dst, size_t nr)
{
	size_t units = d->len / PEER_UNIT;
	size_t stride = nr < units ? units / nr : 1;

	if (!units) {
		fprintf(stderr, "%s: less than a unit\n", d->name);
		return -1;
	}
	/* nr steps cross all of it; every unit is met before one comes again,
	 * as the stride shares no factor with their number. */
	while (common_factor(stride, units) != 1)
		stride++;
	for (size_t i = 0; i < nr; i++)
		memcpy(dst + i * PEER_UNIT,
		       d->bytes + i * stride % units * PEER_UNIT, PEER_UNIT);
	return 0;
}
