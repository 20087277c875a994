/* SPDX-License-Identifier: Apache-2.0 */
#include "clean_load.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balefs/codec.h"
#include "fs/base/clock.h"

enum {
	CELL = 4096,
	WRITE_CELLS = 32, /* the longest overwrite */
	FILL_CELLS = 64,
	MAX_WRITERS = 8,
	MAX_FILES = 8,
	PROBE_BYTES = 128 << 10,
	PROBE_MS = 100,
};

struct cells {
	void *file; /* NULL: closed or removed */
	uint32_t id;
	uint32_t version;
	uint32_t *now; /* version of each cell; 0: never written */
};

struct writer {
	struct load *l;
	struct cells files[MAX_FILES];
	uint64_t rng;
	uint8_t *buf;
	struct load_result res; /* its part */
};

struct load {
	const struct load_ops *ops;
	struct load_options o;
	uint32_t nr_cells; /* of a file */
	struct writer w[MAX_WRITERS];
	atomic_bool stop;
};

static void die(const char *what, int err, uint32_t file, uint32_t cell)
{
	fprintf(stderr, "FAILED: %s (%s), file %u cell %u\n", what,
		err ? strerror(-err) : "-", file, cell);
	fflush(stderr);
	_exit(1);
}

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* ---- times ---- */

void load_times_add(struct load_times *t, uint64_t ns)
{
	unsigned int octave = 63 - (unsigned int)__builtin_clzll(ns | 16);
	unsigned int part = ns < 16 ? 0 : (ns >> (octave - 4)) & 15;

	t->count[octave * 16 + part]++;
	t->nr++;
	if (ns > t->max_ns)
		t->max_ns = ns;
}

double load_times_ms(const struct load_times *t, double part)
{
	uint64_t want = (uint64_t)((double)t->nr * part), seen = 0;

	for (unsigned int i = 0; i < 64 * 16; i++) {
		seen += t->count[i];
		if (seen > want) /* the bucket's upper end */
			return (double)((16 + i % 16 + 1) *
					((uint64_t)1 << (i / 16)) / 16) /
			       1e6;
	}
	return load_times_max_ms(t);
}

double load_times_max_ms(const struct load_times *t)
{
	return (double)t->max_ns / 1e6;
}

static void times_merge(struct load_times *to, const struct load_times *from)
{
	for (unsigned int i = 0; i < 64 * 16; i++)
		to->count[i] += from->count[i];
	to->nr += from->nr;
	if (from->max_ns > to->max_ns)
		to->max_ns = from->max_ns;
}

/* ---- contents ---- */

/* By file: random, half random, letters, nearly all one byte. */
static void fill_cell(uint8_t *p, uint32_t file, uint32_t cell, uint32_t ver)
{
	uint32_t head[4] = { 0xc1ea4e55, file, cell, ver };
	uint64_t s = ((uint64_t)file << 52) ^ ((uint64_t)cell << 28) ^ ver ^
		     0x9e3779b97f4a7c15u;
	size_t noise = file % 4 == 0 ? CELL : file % 4 == 1 ? CELL / 2 : 0;

	rnd(&s);
	memset(p, (int)(ver & 0xff) | 1, CELL);
	for (size_t k = 0; k < noise; k += 8) {
		uint64_t x = rnd(&s);

		memcpy(p + k, &x, 8);
	}
	for (size_t k = 0; file % 4 == 2 && k < CELL; k += 8) {
		uint64_t x = rnd(&s);

		x = (x & 0x0f0f0f0f0f0f0f0fu) + 0x6161616161616161u;
		memcpy(p + k, &x, 8);
	}
	memcpy(p, head, sizeof(head));
}

static void check_cell(const struct cells *f, uint32_t cell, const uint8_t *p)
{
	uint8_t want[CELL];

	if (f->now[cell])
		fill_cell(want, f->id, cell, f->now[cell]);
	else
		memset(want, 0, CELL);
	if (memcmp(want, p, CELL))
		die("content differs", 0, f->id, cell);
}

/* ---- operations of a writer ---- */

static void name_of(char buf[32], const struct cells *f)
{
	snprintf(buf, 32, "load%u", f->id);
}

static void write_cells(struct writer *w, struct cells *f, uint32_t first,
			uint32_t nr)
{
	uint32_t ver = ++f->version;
	uint64_t start;
	int r;

	for (uint32_t c = 0; c < nr; c++) {
		fill_cell(w->buf + (size_t)c * CELL, f->id, first + c, ver);
		f->now[first + c] = ver;
	}
	start = bale_now_ns();
	r = w->l->ops->write(f->file, w->buf, (size_t)nr * CELL,
			     (uint64_t)first * CELL);
	load_times_add(&w->res.write, bale_now_ns() - start);
	if (r)
		die("write", r, f->id, first);
	w->res.bytes += (uint64_t)nr * CELL;
}

static void read_cells(struct writer *w, const struct cells *f, uint32_t first,
		       uint32_t nr)
{
	int r = w->l->ops->read(f->file, w->buf, (size_t)nr * CELL,
				(uint64_t)first * CELL);

	if (r)
		die("read", r, f->id, first);
	for (uint32_t c = 0; c < nr; c++)
		check_cell(f, first + c, w->buf + (size_t)c * CELL);
}

static void open_cells(struct writer *w, struct cells *f)
{
	char name[32];
	int r;

	name_of(name, f);
	r = w->l->ops->open(name, true, &f->file);
	if (r)
		die("open", r, f->id, 0);
}

static void remove_cells(struct writer *w, struct cells *f)
{
	char name[32];
	int r;

	name_of(name, f);
	w->l->ops->close(f->file);
	f->file = NULL;
	r = w->l->ops->unlink(name);
	if (r)
		die("unlink", r, f->id, 0);
	memset(f->now, 0, w->l->nr_cells * sizeof(*f->now));
}

static void pace(const struct writer *w, uint64_t start, uint64_t bytes)
{
	uint64_t mine = w->l->o.rate / w->l->o.writers;
	uint64_t due = start + bytes * 1000 / (mine / 1000000 + 1);
	uint64_t now = bale_now_ns();

	if (due > now && !w->l->stop)
		usleep((useconds_t)((due - now) / 1000));
}

static void fill_file(struct writer *w, struct cells *f, uint64_t paced_from,
		      uint64_t paced_bytes)
{
	for (uint32_t c = 0; c < w->l->nr_cells; c += FILL_CELLS) {
		uint32_t nr = w->l->nr_cells - c;

		write_cells(w, f, c, nr < FILL_CELLS ? nr : FILL_CELLS);
		if (paced_from)
			pace(w, paced_from, w->res.bytes - paced_bytes);
	}
}

static void overwrite(struct writer *w, struct cells *f)
{
	uint64_t x = rnd(&w->rng);
	uint32_t nr = 1 + (uint32_t)((x >> 8) % WRITE_CELLS);
	uint32_t within = w->l->nr_cells - nr;
	uint32_t first;

	if (x % 4) /* the hot quarter */
		within /= 4;
	first = (uint32_t)((x >> 32) % (within + 1));
	write_cells(w, f, first, nr);
}

static void one_operation(struct writer *w, uint64_t start)
{
	struct cells *f = &w->files[rnd(&w->rng) % w->l->o.files];
	uint64_t x = rnd(&w->rng), t;
	uint32_t nr = w->l->nr_cells < 64 ? w->l->nr_cells : 64;
	int r;

	if (w->l->o.fsync_in && (x >> 32) % w->l->o.fsync_in == 0) {
		t = bale_now_ns();
		r = w->l->ops->fsync(f->file);
		if (r)
			die("fsync", r, f->id, 0);
		load_times_add(&w->res.fsync, bale_now_ns() - t);
	} else if (x % 1000 < 3) {
		remove_cells(w, f);
		open_cells(w, f);
		fill_file(w, f, start, 0);
		w->res.files_replaced++;
	} else if (x % 1000 < 100) {
		read_cells(w, f,
			   (uint32_t)(x >> 16) % (w->l->nr_cells - nr + 1), nr);
	} else {
		overwrite(w, f);
	}
	pace(w, start, w->res.bytes);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint64_t start = bale_now_ns();

	while (!w->l->stop)
		one_operation(w, start);
	return NULL;
}

/* ---- beside the writers ---- */

static void *recompress_main(void *arg)
{
	struct load_result *res = arg;
	struct writer *w =
		(struct writer *)((char *)arg - offsetof(struct writer, res));
	static const uint8_t codecs[] = { BALE_CODEC_lz4, BALE_CODEC_zstd,
					  BALE_CODEC_auto };
	uint64_t rng = w->l->o.seed + 77;

	while (!w->l->stop) {
		struct cells f = { .id = 1 + (uint32_t)(rnd(&rng) %
							(w->l->o.writers *
							 w->l->o.files)) };
		char name[32];
		int r;

		name_of(name, &f);
		r = w->l->ops->open(name, false, &f.file);
		if (r == -ENOENT) /* being replaced */
			continue;
		if (!r)
			r = w->l->ops->recompress(f.file, codecs[rnd(&rng) % 3],
						  0);
		w->l->ops->close(f.file);
		/* It asks for room for all that it codes anew at once. */
		if (r == -ENOSPC)
			res->recompress_full++;
		else if (r)
			die("recompress", r, f.id, 0);
		else
			res->recompressed++;
		for (int i = 0; i < 20 && !w->l->stop; i++)
			usleep(25000);
	}
	return NULL;
}

/* What the disk under the store takes for a durable write, all the time. */
static void *probe_main(void *arg)
{
	struct load_result *res = arg;
	struct writer *w =
		(struct writer *)((char *)arg - offsetof(struct writer, res));
	int fd = open(w->l->o.probe, O_RDWR | O_CREAT, 0600);
	uint8_t *buf = calloc(1, PROBE_BYTES);

	if (fd < 0 || !buf)
		die("probe", -errno, 0, 0);
	for (unsigned int n = 0; !w->l->stop; n++) {
		uint64_t start = bale_now_ns();

		if (pwrite(fd, buf, PROBE_BYTES,
			   (off_t)(n % 8) * PROBE_BYTES) != PROBE_BYTES ||
		    fdatasync(fd))
			die("probe", -errno, 0, 0);
		load_times_add(&res->probe, bale_now_ns() - start);
		usleep(PROBE_MS * 1000);
	}
	free(buf);
	close(fd);
	return NULL;
}

/* ---- a run ---- */

struct load *load_new(const struct load_ops *ops, const struct load_options *o)
{
	struct load *l = calloc(1, sizeof(*l));

	if (!l)
		die("memory", -ENOMEM, 0, 0);
	l->ops = ops;
	l->o = *o;
	l->nr_cells = (uint32_t)(o->file_bytes / CELL);
	for (unsigned int t = 0; t < MAX_WRITERS; t++) {
		struct writer *w = &l->w[t];

		w->l = l;
		w->rng = o->seed * 7919u + t + 1;
		w->buf = malloc((size_t)FILL_CELLS * CELL);
		for (unsigned int k = 0; t < o->writers && k < o->files; k++) {
			w->files[k].id = t * o->files + k + 1;
			w->files[k].now = calloc(l->nr_cells, 4);
			if (!w->files[k].now)
				die("memory", -ENOMEM, 0, 0);
		}
	}
	return l;
}

void load_free(struct load *l)
{
	for (unsigned int t = 0; t < MAX_WRITERS; t++) {
		free(l->w[t].buf);
		for (unsigned int k = 0; k < MAX_FILES; k++)
			free(l->w[t].files[k].now);
	}
	free(l);
}

static void for_files(struct load *l, unsigned int nr,
		      void (*fn)(struct writer *w, struct cells *f))
{
	for (unsigned int t = 0; t < l->o.writers; t++)
		for (unsigned int k = 0; k < nr; k++)
			fn(&l->w[t], &l->w[t].files[k]);
}

void load_open(struct load *l)
{
	for_files(l, l->o.files, open_cells);
}

static void close_cells(struct writer *w, struct cells *f)
{
	w->l->ops->close(f->file);
	f->file = NULL;
}

void load_close(struct load *l)
{
	for_files(l, l->o.files, close_cells);
}

static void fill_one(struct writer *w, struct cells *f)
{
	fill_file(w, f, 0, 0);
}

void load_fill(struct load *l)
{
	for_files(l, l->o.files, fill_one);
}

static void verify_one(struct writer *w, struct cells *f)
{
	for (uint32_t c = 0; c < w->l->nr_cells; c += FILL_CELLS) {
		uint32_t nr = w->l->nr_cells - c;

		read_cells(w, f, c, nr < FILL_CELLS ? nr : FILL_CELLS);
	}
}

void load_verify(struct load *l)
{
	for_files(l, l->o.files, verify_one);
}

void load_remove(struct load *l, unsigned int nr)
{
	for_files(l, nr, remove_cells);
	for_files(l, nr, open_cells);
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	if (pthread_create(t, NULL, fn, arg))
		die("thread", -EAGAIN, 0, 0);
}

void load_run(struct load *l, double seconds, bool (*enough)(void),
	      struct load_result *ret)
{
	pthread_t th[MAX_WRITERS], recompress, probe;
	uint64_t from = bale_now_ns();

	l->stop = false;
	for (unsigned int t = 0; t < l->o.writers; t++) {
		memset(&l->w[t].res, 0, sizeof(l->w[t].res));
		start(&th[t], writer_main, &l->w[t]);
	}
	/* The two beside count into a writer's result of their own fields. */
	if (l->o.recompress)
		start(&recompress, recompress_main, &l->w[0].res);
	if (l->o.probe)
		start(&probe, probe_main, &l->w[0].res);
	while ((double)(bale_now_ns() - from) < seconds * 1e9 &&
	       !(enough && enough()))
		usleep(50000);
	l->stop = true;
	memset(ret, 0, sizeof(*ret));
	if (l->o.recompress)
		pthread_join(recompress, NULL);
	if (l->o.probe)
		pthread_join(probe, NULL);
	for (unsigned int t = 0; t < l->o.writers; t++) {
		const struct load_result *r = &l->w[t].res;

		pthread_join(th[t], NULL);
		times_merge(&ret->write, &r->write);
		times_merge(&ret->fsync, &r->fsync);
		times_merge(&ret->probe, &r->probe);
		ret->bytes += r->bytes;
		ret->files_replaced += r->files_replaced;
		ret->recompressed += r->recompressed;
		ret->recompress_full += r->recompress_full;
	}
	ret->seconds = (double)(bale_now_ns() - from) / 1e9;
}
