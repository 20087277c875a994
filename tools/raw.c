/* SPDX-License-Identifier: Apache-2.0 */
/* raw.c - the log and checkpoints, see raw.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "tools/raw.h"

enum { CHUNK_MAX = 64 << 20 };

struct files {
	uint64_t *no;
	size_t nr, cap;
};

static int note_file(const char *name, void *arg)
{
	struct files *v = arg;
	char *end;
	uint64_t no = strtoull(name, &end, 16);

	if (*end || end - name != 16)
		return 0;
	if (v->nr == v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 16;
		uint64_t *p = reallocarray(v->no, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		v->no = p;
		v->cap = cap;
	}
	v->no[v->nr++] = no;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int bale_raw_list(struct bale_io *io, const char *dir, uint64_t **ret,
		  size_t *ret_nr)
{
	struct files v = { 0 };
	int r = BALE_IO(io)->list(io, dir, note_file, &v);

	if (r && r != -ENOENT) {
		free(v.no);
		return r;
	}
	if (v.nr)
		qsort(v.no, v.nr, sizeof(*v.no), by_number);
	*ret = v.no;
	*ret_nr = v.nr;
	return 0;
}

int bale_raw_read(struct bale_io *io, int fd, void *buf, size_t len,
		  uint64_t off)
{
	size_t got = 0;
	int r = BALE_IO(io)->pread(io, fd, buf, len, off, &got);

	return r ? r : got == len ? 0 : -EUCLEAN;
}

int bale_raw_super(struct bale_io *io, struct bale_super *ret)
{
	struct bale_super s[2];
	int r[2];

	for (int k = 0; k < 2; k++) {
		struct bale_disk_super d;
		size_t len;

		r[k] = bale_io_read_file(io, k ? "super.1" : "super.0", &d,
					 sizeof(d), &len);
		if (!r[k])
			r[k] = bale_super_decode(&d, len, &s[k]);
	}
	if (r[0] && r[1])
		return r[0] == -ENOENT ? r[1] : r[0];
	*ret = !r[0] && (r[1] || s[0].seq >= s[1].seq) ? s[0] : s[1];
	return 0;
}

/* ---- checkpoints ---- */

struct chunks {
	struct bale_io *io;
	int fd;
	bale_raw_row_fn *fn;
	void *arg;
	uint64_t rows, nr;
	struct bale_buf body;
};

static int read_rows(struct chunks *c, size_t len)
{
	struct bale_op op;
	size_t pos = 0;
	int r;

	while (!(r = bale_op_next(c->body.data, len, &pos, &op))) {
		if (op.kind != BALE_OP_PUT)
			return -EUCLEAN;
		c->rows++;
		r = c->fn ? c->fn(&op, c->arg) : 0;
		if (r)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* Chunks up to the footer, which is the last 64 bytes of the file. */
static int read_chunks(struct chunks *c, uint64_t end)
{
	uint64_t off = sizeof(struct bale_disk_ckpt);
	le32 head[2];
	int r = 0;

	while (!r && off < end) {
		size_t len;

		if (end - off < sizeof(head))
			return -EUCLEAN;
		r = bale_raw_read(c->io, c->fd, head, sizeof(head), off);
		if (r)
			return r;
		len = le32_get(head[0]);
		if (len > CHUNK_MAX || len > end - off - sizeof(head))
			return -EUCLEAN;
		c->body.len = 0;
		r = bale_buf_reserve(&c->body, len + 1);
		if (!r)
			r = bale_raw_read(c->io, c->fd, c->body.data, len,
					  off + sizeof(head));
		if (!r &&
		    bale_crc32c(0, c->body.data, len) != le32_get(head[1]))
			r = -EBADMSG;
		if (!r)
			r = read_rows(c, len);
		off += sizeof(head) + len;
		c->nr++;
	}
	return r;
}

static int read_ckpt(struct chunks *c, const uint8_t *uuid,
		     struct bale_raw_ckpt *ret)
{
	struct bale_disk_ckpt head;
	struct bale_disk_ckpt_end tail;
	uint64_t len, allocated;
	int r = BALE_IO(c->io)->size(c->io, c->fd, &len, &allocated);

	if (!r && len < sizeof(head) + sizeof(tail))
		r = -EUCLEAN;
	if (!r)
		r = bale_raw_read(c->io, c->fd, &head, sizeof(head), 0);
	if (!r)
		r = bale_ckpt_decode(&head, sizeof(head), uuid, &ret->start_lsn,
				     &ret->start_seq);
	if (!r)
		r = bale_raw_read(c->io, c->fd, &tail, sizeof(tail),
				  len - sizeof(tail));
	if (!r)
		r = bale_ckpt_end_decode(&tail, sizeof(tail), &ret->end_lsn,
					 &ret->nr_rows, &ret->nr_chunks);
	if (!r)
		r = read_chunks(c, len - sizeof(tail));
	if (!r && (c->rows != ret->nr_rows || c->nr != ret->nr_chunks))
		r = -EUCLEAN;
	return r;
}

int bale_raw_ckpt_read(struct bale_io *io, const uint8_t *uuid, uint64_t number,
		       bale_raw_row_fn *fn, void *arg,
		       struct bale_raw_ckpt *ret)
{
	struct chunks c = { .io = io, .fn = fn, .arg = arg };
	char name[32];
	int r;

	snprintf(name, sizeof(name), "ckpt/%016" PRIx64, number);
	r = BALE_IO(io)->open(io, name, O_RDONLY, &c.fd);
	if (r)
		return r;
	r = read_ckpt(&c, uuid, ret);
	if (!r && ret->start_lsn != number)
		r = -EUCLEAN; /* it is where another belongs */
	BALE_IO(io)->close(io, c.fd);
	bale_buf_fini(&c.body);
	return r;
}

/* ---- the log ---- */

void bale_raw_log_init(struct bale_raw_log *l, struct bale_io *io,
		       const struct bale_super *s)
{
	memset(l, 0, sizeof(*l));
	l->io = io;
	l->uuid = s->uuid;
	l->size = (uint64_t)1 << s->log_bits;
	l->fd = -1;
}

void bale_raw_log_fini(struct bale_raw_log *l)
{
	if (l->fd >= 0)
		BALE_IO(l->io)->close(l->io, l->fd);
	bale_buf_fini(&l->body);
}

int bale_raw_log_use(struct bale_raw_log *l, uint64_t file)
{
	char name[32];
	int r;

	if (l->fd >= 0 && l->file == file)
		return 0;
	if (l->fd >= 0)
		BALE_IO(l->io)->close(l->io, l->fd);
	l->fd = -1;
	snprintf(name, sizeof(name), "log/%016" PRIx64, file);
	r = BALE_IO(l->io)->open(l->io, name, O_RDONLY, &l->fd);
	if (r)
		l->fd = -1;
	l->file = file;
	return r;
}

int bale_raw_log_read(struct bale_raw_log *l, uint64_t lsn,
		      struct bale_log_info *ret)
{
	uint64_t off = lsn % l->size, room = l->size - off;
	struct bale_disk_log d;
	struct bale_op op;
	size_t pos = 0;
	int r = bale_raw_log_use(l, lsn / l->size);

	if (r)
		return r == -ENOENT ? -EUCLEAN : r;
	if (room < sizeof(d))
		return -EUCLEAN;
	r = bale_raw_read(l->io, l->fd, &d, sizeof(d), off);
	if (!r)
		r = bale_log_decode(&d, sizeof(d), l->uuid, ret);
	if (!r && (ret->lsn != lsn || ret->body_len > room - sizeof(d)))
		r = -EUCLEAN;
	l->body.len = 0;
	if (!r)
		r = bale_buf_reserve(&l->body, (size_t)ret->body_len + 1);
	if (!r)
		r = bale_raw_read(l->io, l->fd, l->body.data, ret->body_len,
				  off + sizeof(d));
	if (!r && bale_crc32c(0, l->body.data, ret->body_len) != ret->body_crc)
		r = -EBADMSG;
	while (!r)
		r = bale_op_next(l->body.data, ret->body_len, &pos, &op);
	return r == -ENOENT ? 0 : r;
}

static bool no_record(int r)
{
	return r == -EUCLEAN || r == -EBADMSG || r == -EOPNOTSUPP;
}

int bale_raw_log_next(struct bale_raw_log *l, uint64_t *lsn, uint64_t seq,
		      bool any_seq, struct bale_log_info *ret)
{
	uint64_t next = (*lsn | (l->size - 1)) + 1;
	int r = bale_raw_log_read(l, *lsn, ret);

	if (!no_record(r) && (r || any_seq || ret->seq == seq))
		return r;
	/* Perhaps the record did not fit in what was left of the file. */
	if (*lsn % l->size == 0)
		return -ENOENT;
	r = bale_raw_log_read(l, next, ret);
	if (no_record(r) || (!r && ret->seq != seq))
		return -ENOENT;
	*lsn = next;
	return r;
}

uint64_t bale_raw_log_after(uint64_t lsn, const struct bale_log_info *i)
{
	lsn += sizeof(struct bale_disk_log) + i->body_len;
	return (lsn + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
}

/* ---- segments ---- */

struct segment {
	struct bale_io *io;
	int fd;
	uint8_t *uuid;
	bool any_uuid;
	uint64_t segment;
	struct bale_buf head; /* header and descriptors of the bale at hand */
};

/* A good bale's header and descriptors at off into s->head. */
static int read_head(struct segment *s, uint64_t off,
		     struct bale_bale_info *ret, size_t *ret_total)
{
	struct bale_disk_bale b;
	uint8_t uuid[16];
	int r = bale_raw_read(s->io, s->fd, &b, sizeof(b), off);

	memcpy(uuid, s->any_uuid ? b.uuid : s->uuid, sizeof(uuid));
	if (!r)
		r = bale_bale_peek(&b, sizeof(b), uuid, ret, ret_total);
	s->head.len = 0;
	if (!r)
		r = bale_buf_reserve(&s->head, *ret_total);
	if (!r)
		r = bale_raw_read(s->io, s->fd, s->head.data, *ret_total, off);
	if (!r)
		r = bale_bale_check(s->head.data, *ret_total, uuid, s->segment,
				    (uint32_t)off, ret);
	if (!r && s->any_uuid) {
		memcpy(s->uuid, uuid, sizeof(uuid));
		s->any_uuid = false;
	}
	return r;
}

static int walk_segment(struct segment *s, uint64_t len, bale_raw_bale_fn *fn,
			void *arg)
{
	struct bale_bale_info info;
	uint64_t off = 0;
	size_t total;
	int r;

	while (off + sizeof(struct bale_disk_bale) <= len) {
		r = read_head(s, off, &info, &total);
		if (r == -ENOMEM)
			return r;
		if (r) {
			off += BALE_ALIGN;
			continue;
		}
		r = fn(&info,
		       (const void *)(s->head.data +
				      sizeof(struct bale_disk_bale)),
		       off + total, arg);
		if (r)
			return r;
		off += total + info.payload_len;
		off = (off + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
	}
	return 0;
}

int bale_raw_segment(struct bale_io *io, uint8_t *uuid, uint64_t segment,
		     bale_raw_bale_fn *fn, void *arg)
{
	static const uint8_t none[16];
	struct segment s = { .io = io,
			     .uuid = uuid,
			     .any_uuid = !memcmp(uuid, none, sizeof(none)),
			     .segment = segment };
	uint64_t len, allocated;
	char name[32];
	int r;

	snprintf(name, sizeof(name), "seg/%016" PRIx64, segment);
	r = BALE_IO(io)->open(io, name, O_RDONLY, &s.fd);
	if (r)
		return r;
	r = BALE_IO(io)->size(io, s.fd, &len, &allocated);
	if (!r)
		r = walk_segment(&s, len, fn, arg);
	BALE_IO(io)->close(io, s.fd);
	bale_buf_fini(&s.head);
	return r;
}
