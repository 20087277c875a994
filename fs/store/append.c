/* SPDX-License-Identifier: Apache-2.0 */
/* Bales: appending, reading, scanning. */
#include "fs/store/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

/* A place in a segment for the first `nr` extents of a batch. */
struct place {
	struct bale_seg *g;
	uint64_t offset, seq;
	size_t nr, head_len;
	uint64_t payload;
};

static size_t head_len(size_t nr)
{
	return sizeof(struct bale_disk_bale) +
	       nr * sizeof(struct bale_disk_bale_extent);
}

/* As many extents as fit into `room` bytes. */
static size_t count_fitting(const struct bale_extent_in *in, size_t nr,
			    uint64_t room, uint64_t *ret_payload)
{
	uint64_t payload = 0;
	size_t n = 0;

	while (n < nr && head_len(n + 1) + payload + in[n].stored_len <= room)
		payload += in[n++].stored_len;
	*ret_payload = payload;
	return n;
}

static bool try_place_locked(struct bale_segs *s, struct bale_seg *g,
			     const struct bale_extent_in *in, size_t nr,
			     struct place *ret)
{
	uint64_t at = bale_align_up(g->used), payload;
	size_t n;

	if (at >= g->prealloc)
		return false;
	n = count_fitting(in, nr, g->prealloc - at, &payload);
	if (!n)
		return false;
	*ret = (struct place){ .g = g,
			       .offset = at,
			       .seq = ++s->bale_seq,
			       .nr = n,
			       .head_len = head_len(n),
			       .payload = payload };
	return true;
}

/* Oldest first, so that they fill up. One is full when the largest extent may
 * no longer fit. */
static bool find_place_locked(struct bale_segs *s,
			      const struct bale_extent_in *in, size_t nr,
			      struct place *ret)
{
	bale_list_for_each_safe(l, &s->open)
	{
		struct bale_seg *g = bale_seg_of_link(l);

		if (try_place_locked(s, g, in, nr, ret))
			return true;
		if (s->seg_size - bale_align_up(g->used) < s->tail_waste)
			bale_seg_seal_locked(g);
	}
	return false;
}

static int take_place(struct bale_store *st, const struct bale_extent_in *in,
		      size_t nr, struct place *ret)
{
	struct bale_segs *s = st->segs;
	int r = 0;

	bale_mutex_lock(&s->lock);
	while (!r && !find_place_locked(s, in, nr, ret))
		r = bale_segs_grow_locked(st, head_len(1) + in[0].stored_len);
	if (!r)
		r = bale_seg_pin_locked(st, ret->g);
	if (!r) {
		ret->g->used = ret->offset + ret->head_len + ret->payload;
		ret->g->pending += ret->payload;
		s->pending += ret->payload;
		ret->g->appends++;
		ret->g->changed = true;
		/* Sealed at once, not when the next bale comes. */
		if (ret->g->prealloc == s->seg_size &&
		    s->seg_size - ret->g->used < s->tail_waste)
			bale_seg_seal_locked(ret->g);
	}
	bale_mutex_unlock(&s->lock);
	return r;
}

static void fill_head(struct bale_store *st, const struct place *p,
		      const struct bale_extent_in *in,
		      struct bale_extent_row *rows, uint8_t *head,
		      struct iovec *iov)
{
	struct bale_bale_info info = {
		.segment = p->g->no,
		.seq = p->seq,
		.offset = (uint32_t)p->offset,
		.nr_extents = (uint32_t)p->nr,
		.payload_len = p->payload,
	};
	struct bale_disk_bale_extent *d =
		(void *)(head + sizeof(struct bale_disk_bale));
	uint64_t at = p->offset + p->head_len;

	for (size_t i = 0; i < p->nr; i++) {
		uint32_t crc = in[i].has_crc ? in[i].crc :
					       bale_crc32c(0, in[i].stored,
							   in[i].stored_len);

		d[i] = (struct bale_disk_bale_extent){
			.id = le64_put(in[i].id),
			.ino = le64_put(in[i].ino),
			.extent_no = le64_put(in[i].extent_no),
			.raw_len = le32_put(in[i].raw_len),
			.stored_len = le32_put(in[i].stored_len),
			.crc = le32_put(crc),
			.codec = in[i].codec,
			.filter = in[i].filter,
			.level = (uint8_t)in[i].level,
			.reason = in[i].reason,
		};
		rows[i] = (struct bale_extent_row){
			.segment = (uint32_t)p->g->no,
			.offset = (uint32_t)at,
			.stored_len = in[i].stored_len,
			.raw_len = in[i].raw_len,
			.crc = crc,
			.refs = 1,
			.codec = in[i].codec,
			.filter = in[i].filter,
			.level = in[i].level,
			.reason = in[i].reason,
		};
		iov[i + 1] = (struct iovec){ (void *)in[i].stored,
					     in[i].stored_len };
		at += in[i].stored_len;
	}
	bale_bale_seal(head, &info, st->super.uuid);
	iov[0] = (struct iovec){ head, p->head_len };
}

static int write_bale(struct bale_store *st, const struct place *p,
		      const struct bale_extent_in *in,
		      struct bale_extent_row *rows)
{
	bale_autofree uint8_t *head = malloc(p->head_len);
	bale_autofree struct iovec *iov = calloc(p->nr + 1, sizeof(*iov));
	int r = -ENOMEM;

	if (head && iov) {
		fill_head(st, p, in, rows, head, iov);
		r = BALE_IO(st->io)->pwritev(st->io, p->g->fd, iov,
					     (int)p->nr + 1, p->offset);
	}
	if (!r && p->payload > 1 << 20)
		BALE_IO(st->io)->start_writeback(st->io, p->g->fd, p->offset,
						 p->head_len + p->payload);
	return r;
}

static void end_place(struct bale_store *st, const struct place *p, bool failed)
{
	struct bale_segs *s = st->segs;
	struct bale_seg *g = p->g;
	bool last;
	int r = 0;

	bale_mutex_lock(&s->lock);
	g->appends--;
	g->unsynced = true;
	if (failed)
		bale_seg_settle_locked(s, g, p->payload);
	last = !g->open && !g->appends && !s->no_prealloc;
	bale_mutex_unlock(&s->lock);
	/* The end where no extent fits any more was preallocated too. */
	if (last)
		r = BALE_IO(st->io)->truncate(st->io, g->fd, g->used);
	if (r)
		bale_warn("segment %" PRIu64 ": its unused end stays: %s",
			  g->no, strerror(-r));
	bale_mutex_lock(&s->lock);
	bale_seg_unpin_locked(g);
	bale_mutex_unlock(&s->lock);
}

int bale_store_append(struct bale_store *st, const struct bale_extent_in *in,
		      size_t nr, struct bale_extent_row *ret_rows)
{
	size_t done = 0;
	int r = 0;

	if (bale_store_error(st) || st->read_only)
		return -EROFS;
	while (!r && done < nr) {
		struct place p;

		r = take_place(st, in + done, nr - done, &p);
		if (r == -ENOSPC) {
			/* What was accepted must not fail for space: the last
			 * resort is what was held back for deletions. */
			bale_space_shrink_reserve(st);
			r = take_place(st, in + done, nr - done, &p);
		}
		if (r)
			break;
		r = write_bale(st, &p, in + done, ret_rows + done);
		end_place(st, &p, r != 0);
		if (!r)
			done += p.nr;
	}
	if (r)
		bale_store_discard(st, ret_rows, done);
	return r;
}

/* ---- reading ---- */

static int check_stored(const struct bale_extent_row *row, const void *buf)
{
	uint32_t crc = bale_crc32c(0, buf, row->stored_len);

	if (crc == row->crc)
		return 0;
	bale_err("segment %u offset %u length %u: crc %08x, want %08x",
		 row->segment, row->offset, row->stored_len, crc, row->crc);
	return -EBADMSG;
}

static int read_at(struct bale_store *st, uint32_t segment, void *buf,
		   size_t len, uint64_t off)
{
	size_t got = 0;
	int fd, r = bale_segs_fd_get(st, segment, &fd);

	/* Missing, which the open tells, or removed since the caller looked:
	 * the extent is elsewhere then. */
	if (r == -EUCLEAN) {
		bale_debug("segment %u is gone", segment);
		return r;
	}
	if (!r) {
		r = BALE_IO(st->io)->pread(st->io, fd, buf, len, off, &got);
		bale_segs_fd_put(st, segment, fd);
	}
	if (!r && got != len)
		r = -EUCLEAN;
	if (r)
		bale_err("segment %u offset %" PRIu64 " length %zu: %s",
			 segment, off, len,
			 r == -EUCLEAN ? "not there" : strerror(-r));
	return r;
}

int bale_store_read(struct bale_store *st, const struct bale_extent_row *row,
		    void *buf)
{
	int r = read_at(st, row->segment, buf, row->stored_len, row->offset);

	return r ? r : check_stored(row, buf);
}

static int compare_place(const void *a, const void *b)
{
	const struct bale_store_read_item *const *x = a, *const *y = b;

	if ((*x)->row.segment != (*y)->row.segment)
		return (*x)->row.segment < (*y)->row.segment ? -1 : 1;
	if ((*x)->row.offset != (*y)->row.offset)
		return (*x)->row.offset < (*y)->row.offset ? -1 : 1;
	return 0;
}

/* Items v[0..nr) lie back to back: one read into all their buffers would want
 * preadv; a staging read costs one copy and keeps the I/O layer small. */
static void read_run(struct bale_store *st, struct bale_store_read_item **v,
		     size_t nr)
{
	uint32_t from = v[0]->row.offset;
	uint32_t end = v[nr - 1]->row.offset + v[nr - 1]->row.stored_len;
	bale_autofree uint8_t *stage = nr > 1 ? malloc(end - from) : NULL;
	int r;

	if (!stage) {
		for (size_t i = 0; i < nr; i++)
			v[i]->status =
				bale_store_read(st, &v[i]->row, v[i]->buf);
		return;
	}
	r = read_at(st, v[0]->row.segment, stage, end - from, from);
	for (size_t i = 0; i < nr; i++) {
		v[i]->status = r;
		if (r)
			continue;
		memcpy(v[i]->buf, stage + (v[i]->row.offset - from),
		       v[i]->row.stored_len);
		v[i]->status = check_stored(&v[i]->row, v[i]->buf);
	}
}

void bale_store_read_many(struct bale_store *st,
			  struct bale_store_read_item *items, size_t nr)
{
	enum { RUN_MAX = 2 << 20, GAP_MAX = 16 << 10 };
	bale_autofree struct bale_store_read_item **v =
		calloc(nr + 1, sizeof(*v));

	if (!v) {
		for (size_t i = 0; i < nr; i++)
			items[i].status = bale_store_read(st, &items[i].row,
							  items[i].buf);
		return;
	}
	for (size_t i = 0; i < nr; i++)
		v[i] = &items[i];
	qsort(v, nr, sizeof(*v), compare_place);
	for (size_t i = 0, n; i < nr; i += n) {
		uint64_t from = v[i]->row.offset;
		uint64_t end = from + v[i]->row.stored_len;

		for (n = 1; i + n < nr; n++) {
			const struct bale_extent_row *row = &v[i + n]->row;

			if (row->segment != v[i]->row.segment ||
			    row->offset < end || row->offset > end + GAP_MAX ||
			    row->offset + row->stored_len - from > RUN_MAX)
				break;
			end = (uint64_t)row->offset + row->stored_len;
		}
		read_run(st, v + i, n);
	}
}

void bale_store_readahead(struct bale_store *st,
			  const struct bale_extent_row *row)
{
	int fd;

	if (bale_segs_fd_get(st, row->segment, &fd))
		return;
	posix_fadvise(fd, row->offset, row->stored_len, POSIX_FADV_WILLNEED);
	bale_segs_fd_put(st, row->segment, fd);
}

/* ---- scanning ---- */

enum { SCAN_CHUNK = 1 << 20 };

struct scan {
	struct bale_store *st;
	int fd;
	uint64_t segment, len;
	uint8_t *chunk; /* SCAN_CHUNK bytes at chunk_at, for resyncing */
	uint64_t chunk_at;
	size_t chunk_len;
};

/* The next aligned offset >= from whose bytes begin like a bale. */
static int find_magic(struct scan *sc, uint64_t from, uint64_t *ret)
{
	struct bale_io *io = sc->st->io;

	for (uint64_t at = from; at + sizeof(struct bale_disk_bale) <= sc->len;
	     at += BALE_ALIGN) {
		if (at < sc->chunk_at ||
		    at + 8 > sc->chunk_at + sc->chunk_len) {
			int r = BALE_IO(io)->pread(io, sc->fd, sc->chunk,
						   SCAN_CHUNK, at,
						   &sc->chunk_len);

			sc->chunk_at = at;
			if (r)
				return r;
			if (sc->chunk_len < 8)
				break;
		}
		if (!memcmp(sc->chunk + (at - sc->chunk_at), BALE_BALE_MAGIC,
			    8)) {
			*ret = at;
			return 0;
		}
	}
	return -ENOENT;
}

/* The bale at `at`: header and descriptors, malloced. */
static int read_head(struct scan *sc, uint64_t at, uint8_t **ret,
		     struct bale_bale_info *info, size_t *ret_total)
{
	struct bale_disk_bale h;
	struct bale_io *io = sc->st->io;
	size_t total, got;
	uint8_t *buf;
	int r = BALE_IO(io)->pread(io, sc->fd, &h, sizeof(h), at, &got);

	if (!r)
		r = bale_bale_peek(&h, got, sc->st->super.uuid, info, &total);
	if (r || total > sc->len - at)
		return r ? r : -EUCLEAN;
	buf = malloc(total);
	if (!buf)
		return -ENOMEM;
	r = BALE_IO(io)->pread(io, sc->fd, buf, total, at, &got);
	if (!r)
		r = bale_bale_check(buf, got, sc->st->super.uuid, sc->segment,
				    (uint32_t)at, info);
	if (r) {
		free(buf);
		return r;
	}
	*ret = buf;
	*ret_total = total;
	return 0;
}

static int scan_bales(struct scan *sc, bale_bale_fn *fn, void *arg)
{
	uint64_t at = 0;
	int r = 0;

	while (!r) {
		bale_autofree uint8_t *head = NULL;
		struct bale_bale_info info;
		size_t total;
		/* The next one follows as a rule; else it is searched for. */
		int e = read_head(sc, at, &head, &info, &total);

		if (e && e != -ENOMEM && e != -EIO) {
			e = find_magic(sc, at, &at);
			if (e)
				return e == -ENOENT ? 0 : e;
			e = read_head(sc, at, &head, &info, &total);
		}
		if (e == -ENOMEM || e == -EIO)
			return e;
		if (e) { /* damaged, or payload that looks like a header */
			at += BALE_ALIGN;
			continue;
		}
		r = fn(&info,
		       (const void *)(head + sizeof(struct bale_disk_bale)),
		       at + total, arg);
		at = bale_align_up(at + total + info.payload_len);
	}
	return r;
}

int bale_store_scan_segment(struct bale_store *st, uint64_t segment,
			    bale_bale_fn *fn, void *arg)
{
	struct scan sc = { .st = st, .segment = segment };
	uint64_t allocated;
	int r = bale_segs_fd_get(st, segment, &sc.fd);

	if (r)
		return r;
	sc.chunk = malloc(SCAN_CHUNK);
	r = sc.chunk ?
		    BALE_IO(st->io)->size(st->io, sc.fd, &sc.len, &allocated) :
		    -ENOMEM;
	if (!r)
		r = scan_bales(&sc, fn, arg);
	free(sc.chunk);
	bale_segs_fd_put(st, segment, sc.fd);
	return r;
}

int bale_store_for_segments(struct bale_store *st, bale_segment_fn *fn,
			    void *arg)
{
	bale_autofree struct bale_seg_info *v = NULL;
	size_t nr;
	int r = bale_segs_list(st, &v, &nr);

	for (size_t i = 0; !r && i < nr; i++)
		r = fn(v[i].segment, v[i].used, v[i].live, arg);
	return r;
}
