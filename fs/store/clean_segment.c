/* SPDX-License-Identifier: Apache-2.0 */
/* What the cleaner does to one segment: punch what is dead, copy what lives. */
#include "fs/store/cleaner.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/base/fault.h"
#include "fs/base/mem.h"

enum {
	/* A batch is one bale and one transaction: its rows are staged under a
	 * lock that writers want. */
	COPY_BATCH = 4 << 20,
	COPY_EXTENTS = 512,
	BLOCK = 4096,
};

/* ---- live or dead ---- */

/* The extent that a descriptor describes still lives at this very place. */
static int lives_at(struct bale_store *st, uint64_t segment, uint64_t off,
		    const struct bale_disk_bale_extent *d,
		    struct bale_extent_row *row, bool *ret)
{
	int r = bale_meta_extent(st->meta, le64_get(d->id), row);

	if (r && r != -ENOENT)
		return r;
	*ret = !r && row->segment == segment && row->offset == off;
	/* One of the two is wrong: touch nothing. */
	if (*ret && row->stored_len != le32_get(d->stored_len))
		return -EUCLEAN;
	return 0;
}

/* ---- punching ---- */

struct range {
	uint64_t from, to;
};

struct find {
	struct bale_store *st;
	struct bale_punch *p;
};

static int add_range(struct bale_punch *p, uint64_t from, uint64_t to)
{
	struct range r = { (from + BLOCK - 1) / BLOCK * BLOCK,
			   to / BLOCK * BLOCK };

	return r.from < r.to ? bale_buf_append(&p->ranges, &r, sizeof(r)) : 0;
}

/* Dead payload of one bale; ranges never reach over a header. */
static int find_dead(const struct bale_bale_info *info,
		     const struct bale_disk_bale_extent *d,
		     uint64_t payload_off, void *arg)
{
	struct find *f = arg;
	uint64_t off = payload_off, dead_from = off;
	int r = 0;

	for (uint32_t i = 0; !r && i < info->nr_extents; i++) {
		uint32_t len = le32_get(d[i].stored_len);
		struct bale_extent_row row;
		bool live;

		r = lives_at(f->st, f->p->segment, off, &d[i], &row, &live);
		if (!r && live) {
			r = add_range(f->p, dead_from, off);
			dead_from = off + len;
		}
		off += len;
	}
	return r ? r : add_range(f->p, dead_from, off);
}

static int blocks_of(struct bale_store *st, uint64_t segment, uint64_t *ret)
{
	uint64_t len;
	int fd, r = bale_segs_fd_get(st, segment, &fd);

	if (r)
		return r;
	r = BALE_IO(st->io)->size(st->io, fd, &len, ret);
	bale_segs_fd_put(st, segment, fd);
	return r;
}

int bale_clean_find(struct bale_store *st, const struct bale_seg_info *g,
		    struct bale_punch *p)
{
	struct find f = { st, p };
	int r;

	*p = (struct bale_punch){ .segment = g->segment, .live = g->live };
	r = blocks_of(st, g->segment, &p->blocks);
	/* More blocks than live bytes: never punched, or not since much of it
	 * died. Saves the scan after a mount. */
	if (r || p->blocks <= g->live + BALE_PUNCH_MIN +
				      (g->dead_known ? 0 : g->live / 16))
		return r;
	r = bale_store_scan_segment(st, g->segment, find_dead, &f);
	if (r)
		return r;
	/* A death is visible a moment before its segment is told. Whoever is
	 * in between holds the staging lock: after it, all that was found dead
	 * is dead as of dead_seq. */
	bale_meta_staged(st->meta);
	return bale_segs_dead_seq(st, g->segment, &p->dead_seq);
}

static int punch_ranges(struct bale_store *st, const struct bale_punch *p)
{
	const struct range *v = (const void *)p->ranges.data;
	size_t nr = p->ranges.len / sizeof(*v);
	int fd, r = bale_segs_fd_get(st, p->segment, &fd);

	if (r)
		return r;
	for (size_t i = 0; !r && i < nr; i++)
		r = BALE_IO(st->io)->punch(st->io, fd, v[i].from,
					   v[i].to - v[i].from);
	bale_segs_fd_put(st, p->segment, fd);
	return r;
}

int bale_clean_punch(struct bale_store *st, struct bale_punch *p,
		     uint64_t *punched)
{
	uint64_t after = 0;
	int r = punch_ranges(st, p);

	/* Some were holes before: what was won, the file tells. */
	if (!r)
		r = blocks_of(st, p->segment, &after);
	if (!r && after < p->blocks) {
		*punched += p->blocks - after;
		p->blocks = after;
	}
	return r;
}

/* ---- copying ---- */

struct copy {
	struct bale_store *st;
	uint64_t segment;
	uint8_t *buf;
	struct bale_extent_in *in;
	struct bale_extent_row *from;
	size_t nr, cap, bytes;
	bool yields;
	struct bale_copy_result *res;
};

static int append_and_move(struct copy *c, struct bale_extent_row *to)
{
	struct bale_txn t;
	int r = bale_store_append(c->st, c->in, c->nr, to);

	if (r)
		return r;
	BALE_FAULT_POINT("clean.copied");
	bale_txn_begin(c->st->meta, &t);
	for (size_t i = 0; i < c->nr; i++)
		bale_txn_extent_move(&t, c->in[i].id, &c->from[i], &to[i]);
	r = bale_txn_commit(&t, NULL);
	if (r)
		bale_store_discard(c->st, to, c->nr);
	BALE_FAULT_POINT("clean.moved");
	return r;
}

static int copy_out(struct copy *c)
{
	bale_autofree struct bale_extent_row *to =
		calloc(c->nr + 1, sizeof(*to));
	/* A reservation may be this small only where its bale is shared. */
	uint64_t bytes =
		c->bytes + c->nr * sizeof(struct bale_disk_bale_extent);
	int r;

	if (!to)
		return -ENOMEM;
	if (!c->nr)
		return 0;
	r = bale_space_try_reserve(c->st, bytes);
	if (r)
		return r;
	r = append_and_move(c, to);
	bale_space_release(c->st, bytes);
	if (!r)
		c->res->copied += c->bytes;
	c->nr = 0;
	c->bytes = 0;
	return r;
}

static int grow_copy(struct copy *c)
{
	size_t cap = c->cap ? 2 * c->cap : 256;
	void *in, *from;

	if (c->nr < c->cap)
		return 0;
	in = realloc(c->in, cap * sizeof(*c->in));
	if (in)
		c->in = in;
	from = realloc(c->from, cap * sizeof(*c->from));
	if (from)
		c->from = from;
	if (!in || !from)
		return -ENOMEM;
	c->cap = cap;
	return 0;
}

/* It stays where it is; the others go on. */
static void note_bad(struct copy *c, int err)
{
	if (!c->res->nr_bad++)
		c->res->bad = err;
}

static int add_copy(struct copy *c, const struct bale_disk_bale_extent *d,
		    const struct bale_extent_row *row)
{
	uint8_t *to;
	int r = 0;

	if (c->bytes + row->stored_len > COPY_BATCH || c->nr == COPY_EXTENTS) {
		r = copy_out(c);
		if (!r && c->yields && bale_cleaner_wanted(c->st->cleaner))
			r = -EAGAIN;
	}
	if (!r)
		r = grow_copy(c);
	if (r)
		return r;
	to = c->buf + c->bytes;
	r = bale_store_read(c->st, row, to);
	if (r) {
		note_bad(c, r);
		return 0;
	}
	c->from[c->nr] = *row;
	c->in[c->nr++] = (struct bale_extent_in){
		.id = le64_get(d->id),
		.ino = le64_get(d->ino),
		.extent_no = le64_get(d->extent_no),
		.raw_len = row->raw_len,
		.codec = row->codec,
		.filter = row->filter,
		.level = row->level,
		.reason = row->reason,
		.stored = to,
		.stored_len = row->stored_len,
		/* Verified just now. */
		.has_crc = true,
		.crc = row->crc,
	};
	c->bytes += row->stored_len;
	return 0;
}

static int copy_bale(const struct bale_bale_info *info,
		     const struct bale_disk_bale_extent *d,
		     uint64_t payload_off, void *arg)
{
	struct copy *c = arg;
	uint64_t off = payload_off;
	int r = 0;

	for (uint32_t i = 0; !r && i < info->nr_extents; i++) {
		struct bale_extent_row row;
		bool live;

		r = lives_at(c->st, c->segment, off, &d[i], &row, &live);
		off += le32_get(d[i].stored_len);
		if (r == -EUCLEAN || r == -EBADMSG) {
			note_bad(c, r);
			r = 0;
		} else if (!r && live) {
			r = add_copy(c, &d[i], &row);
		}
	}
	return r;
}

int bale_clean_copy(struct bale_store *st, const struct bale_seg_info *g,
		    bool yields, struct bale_copy_result *ret)
{
	struct copy c = {
		.st = st, .segment = g->segment, .yields = yields, .res = ret
	};
	int r;

	*ret = (struct bale_copy_result){ 0 };
	c.buf = malloc(COPY_BATCH);
	r = c.buf ? bale_store_scan_segment(st, g->segment, copy_bale, &c) :
		    -ENOMEM;
	if (!r)
		r = copy_out(&c);
	free(c.buf);
	free(c.in);
	free(c.from);
	return r;
}
