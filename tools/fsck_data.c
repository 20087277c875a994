/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_data.c - --deep: read, verify and decode every extent, in batches of
 * bounded size on all cores, or by a GPU; and which files have the bad ones.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

enum { BATCH_NR = 256, BATCH_BYTES = 32 << 20 };
/* A device takes a second to open: cores are done with less before that. */
#define DEVICE_BYTES_MIN ((uint64_t)1 << 30)
#define DEVICE_WAIT_NS	 ((uint64_t)10 * 1000000000)

struct batch {
	struct bale_fsck *f;
	struct bale_engine *engine;
	struct bale_store_read_item items[BATCH_NR];
	struct bale_job jobs[BATCH_NR];
	struct bale_fsck_extent *of[BATCH_NR];
	size_t nr, bytes;
};

static void bad(struct batch *b, size_t k, const char *why)
{
	const struct bale_extent_row *row = &b->items[k].row;

	b->of[k]->state |= BALE_FSCK_BAD;
	bale_fsck_problem(b->f, BALE_FSCK_data,
			  "extent %" PRIu64 " (segment %u, byte %u, %u bytes): "
			  "%s",
			  b->of[k]->id, row->segment, row->offset,
			  row->stored_len, why);
}

static int batch_add(struct batch *b, struct bale_fsck_extent *e)
{
	struct bale_store_read_item *it = &b->items[b->nr];
	int r;

	memset(it, 0, sizeof(*it));
	r = bale_meta_extent(b->f->m, e->id, &it->row);
	if (r == -ENOENT)
		return 0; /* mended away meanwhile */
	if (r)
		return r;
	/* One buffer: stored bytes, then room for the decoded ones. */
	it->buf = malloc((size_t)it->row.stored_len + it->row.raw_len + 1);
	if (!it->buf)
		return -ENOMEM;
	b->of[b->nr++] = e;
	b->bytes += (size_t)it->row.stored_len + it->row.raw_len;
	return 0;
}

static size_t make_jobs(struct batch *b)
{
	size_t nr = 0;

	for (size_t k = 0; k < b->nr; k++) {
		const struct bale_store_read_item *it = &b->items[k];

		if (it->status == -EBADMSG)
			bad(b, k, "checksum mismatch");
		else if (it->status)
			bad(b, k, strerror(-it->status));
		else if (!bale_codec_known(it->row.codec, it->row.filter))
			bad(b, k, "a codec that this build does not know");
		else
			b->jobs[nr++] = (struct bale_job){
				.op = BALE_JOB_DECODE,
				.codec = it->row.codec,
				.filter = it->row.filter,
				.src = it->buf,
				.src_len = it->row.stored_len,
				.dst = (uint8_t *)it->buf + it->row.stored_len,
				.dst_cap = it->row.raw_len,
				.cookie = (void *)(uintptr_t)k,
			};
	}
	return nr;
}

static int batch_run(struct batch *b)
{
	size_t nr;
	int r = 0;

	bale_log_quiet(true); /* told below, but for the many of one kind */
	bale_store_read_many(b->f->st, b->items, b->nr);
	bale_log_quiet(false);
	nr = make_jobs(b);
	if (nr)
		r = bale_engine_run(b->engine, b->jobs, nr);
	for (size_t k = 0; k < nr && !r; k++)
		if (b->jobs[k].status)
			bad(b, (size_t)(uintptr_t)b->jobs[k].cookie,
			    "its bytes do not decode");
	for (size_t k = 0; k < b->nr; k++)
		free(b->items[k].buf);
	b->nr = b->bytes = 0;
	return r;
}

static int check_all(struct batch *b)
{
	struct bale_fsck *f = b->f;
	int r = 0;

	for (size_t k = 0; k < f->nr_extents && !r; k++) {
		r = bale_fsck_step(f);
		if (r || f->extents[k].state & BALE_FSCK_BAD)
			continue;
		r = batch_add(b, &f->extents[k]);
		if (!r && (b->nr == BATCH_NR || b->bytes >= BATCH_BYTES))
			r = batch_run(b);
	}
	return r ? r : batch_run(b);
}

/* ---- which files the bad extents belong to ---- */

static int find_owner(const void *key, size_t key_len, const void *val,
		      size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	be64 k[2];
	int r = bale_fsck_step(f);

	if (r || bale_row_check(BALE_TABLE_map, key, key_len, val, val_len))
		return r;
	memcpy(k, key, sizeof(k));
	for (size_t n = 0; n < val_len / 8; n++) {
		const struct bale_fsck_extent *e;
		le64 id;

		memcpy(&id, (const uint8_t *)val + n * 8, 8);
		e = bale_fsck_extent(f, le64_get(id));
		if (e && e->state & BALE_FSCK_BAD)
			bale_fsck_damage_add(f, be64_get(k[0]),
					     be64_get(k[1]) * BALE_MAP_SLOTS +
						     n);
	}
	return 0;
}

static int find_owners(struct bale_fsck *f)
{
	for (size_t k = 0; k < f->nr_extents; k++)
		if (f->extents[k].state & BALE_FSCK_BAD) {
			bale_fsck_phase(f, "damaged files", 0);
			return bale_meta_scan(f->m, BALE_TABLE_map, "", 0, 0,
					      find_owner, f);
		}
	return 0;
}

/* With devices, the CPU still has the word on what does not decode. */
static int open_engine(struct bale_fsck *f, struct bale_engine **ret)
{
	uint64_t bytes = 0;
	int r = -ENODEV;

	for (size_t k = 0; k < f->nr_extents; k++)
		bytes += f->extents[k].raw_len;
	if (f->gpu_given || bytes >= DEVICE_BYTES_MIN)
		r = bale_engine_gpu_create(&f->gpu, 0, ret);
	if (!r && f->gpu_given)
		bale_engine_gpu_wait(*ret, DEVICE_WAIT_NS);
	return r == -ENODEV ? bale_engine_cpu_create(0, ret) : r;
}

static void count_by_device(struct bale_fsck *f, struct bale_engine *e)
{
	struct bale_engine_stats st = { 0 };

	e->ops->stats(e, &st);
	for (uint32_t k = 0; k < st.nr_devs; k++)
		f->nr_by_device += st.devs[k].jobs[BALE_JOB_DECODE];
}

int bale_fsck_data(struct bale_fsck *f)
{
	struct batch *b;
	int r = 0;

	if (f->deep) {
		b = calloc(1, sizeof(*b));
		if (!b)
			return -ENOMEM;
		b->f = f;
		bale_fsck_phase(f, "data", f->nr_extents);
		r = open_engine(f, &b->engine);
		if (!r) {
			r = check_all(b);
			count_by_device(f, b->engine);
		}
		for (size_t k = 0; k < b->nr; k++)
			free(b->items[k].buf);
		bale_engine_destroy(b->engine);
		free(b);
	}
	return r ? r : find_owners(f);
}
