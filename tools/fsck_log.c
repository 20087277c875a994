/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_log.c - checkpoints and the log as they lie in the store, read without
 * the code that recovers from them: every checkpoint from header to footer,
 * every record from the newest good checkpoint on, and what lies behind the
 * last one. A log that ends is normal; valid records of a later time behind
 * its end mean that something in between was damaged.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/base/mem.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

enum { CHUNK_MAX = 64 << 20, WINDOW = 1 << 20 };

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

static int list_files(struct bale_io *io, const char *dir, struct files *ret)
{
	int r = io->ops->list(io, dir, note_file, ret);

	if (ret->nr)
		qsort(ret->no, ret->nr, sizeof(*ret->no), by_number);
	return r == -ENOENT ? 0 : r;
}

/* ---- checkpoints ---- */

struct ckpt {
	uint64_t start_lsn, start_seq, end_lsn;
};

/* Ops of one chunk; PUT only. */
static int check_ops(const uint8_t *body, size_t len, uint64_t *rows)
{
	struct bale_op op;
	size_t pos = 0;
	int r;

	while (!(r = bale_op_next(body, len, &pos, &op))) {
		if (op.kind != BALE_OP_PUT)
			return -EUCLEAN;
		++*rows;
	}
	return r == -ENOENT ? 0 : r;
}

static int read_at(struct bale_io *io, int fd, void *buf, size_t len,
		   uint64_t off)
{
	size_t got = 0;
	int r = io->ops->pread(io, fd, buf, len, off, &got);

	return r ? r : got == len ? 0 : -EUCLEAN;
}

/* Chunks up to the footer, which is the last 64 bytes of the file. */
static int check_chunks(struct bale_fsck *f, struct bale_io *io, int fd,
			uint64_t end, uint64_t *rows, uint64_t *chunks)
{
	uint64_t off = sizeof(struct bale_disk_ckpt);
	struct bale_buf body = { 0 };
	le32 head[2];
	int r = 0;

	while (!r && off < end) {
		size_t len;

		r = bale_fsck_step(f);
		if (!r)
			r = read_at(io, fd, head, sizeof(head), off);
		if (r)
			break;
		len = le32_get(head[0]);
		body.len = 0;
		if (len > CHUNK_MAX || len > end - off - sizeof(head))
			r = -EUCLEAN;
		else
			r = bale_buf_reserve(&body, len + 1);
		if (!r)
			r = read_at(io, fd, body.data, len, off + sizeof(head));
		if (!r && bale_crc32c(0, body.data, len) != le32_get(head[1]))
			r = -EBADMSG;
		if (!r)
			r = check_ops(body.data, len, rows);
		off += sizeof(head) + len;
		++*chunks;
	}
	bale_buf_fini(&body);
	return r;
}

static int check_ckpt_fd(struct bale_fsck *f, struct bale_io *io, int fd,
			 struct ckpt *ret)
{
	struct bale_disk_ckpt head;
	struct bale_disk_ckpt_end tail;
	uint64_t len, allocated, rows = 0, chunks = 0, want_rows, want_chunks;
	int r = io->ops->size(io, fd, &len, &allocated);

	if (!r && len < sizeof(head) + sizeof(tail))
		r = -EUCLEAN;
	if (!r)
		r = read_at(io, fd, &head, sizeof(head), 0);
	if (!r)
		r = bale_ckpt_decode(&head, sizeof(head), f->super.uuid,
				     &ret->start_lsn, &ret->start_seq);
	if (!r)
		r = read_at(io, fd, &tail, sizeof(tail), len - sizeof(tail));
	if (!r)
		r = bale_ckpt_end_decode(&tail, sizeof(tail), &ret->end_lsn,
					 &want_rows, &want_chunks);
	if (!r)
		r = check_chunks(f, io, fd, len - sizeof(tail), &rows, &chunks);
	if (!r && (rows != want_rows || chunks != want_chunks))
		r = -EUCLEAN;
	return r;
}

/* The newest good checkpoint; *ret_any false: none. */
static int check_ckpts(struct bale_fsck *f, struct bale_io *io,
		       struct ckpt *ret, bool *ret_any)
{
	struct files v = { 0 };
	int r = list_files(io, "ckpt", &v);

	*ret_any = false;
	bale_fsck_phase(f, "checkpoints", 0);
	for (size_t k = 0; k < v.nr && !r; k++) {
		struct ckpt c;
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "ckpt/%016" PRIx64, v.no[k]);
		r = io->ops->open(io, name, O_RDONLY, &fd);
		if (!r) {
			r = check_ckpt_fd(f, io, fd, &c);
			io->ops->close(io, fd);
		}
		if (!r) {
			*ret = c;
			*ret_any = true;
		} else if (r != -ECANCELED && r != -ENOMEM) {
			if (bale_fsck_problem(
				    f, BALE_FSCK_checkpoint, "%s: %s", name,
				    r == -EBADMSG ? "checksum mismatch" :
						    "damaged"))
				f->want_checkpoint = true;
			r = 0;
		}
	}
	free(v.no);
	return r;
}

/* ---- the log ---- */

struct log {
	struct bale_fsck *f;
	struct bale_io *io;
	struct files v;
	uint64_t file; /* that fd is of */
	int fd;
	struct bale_buf body;
};

static uint64_t file_of(const struct log *l, uint64_t lsn)
{
	return lsn >> l->f->super.log_bits;
}

static uint64_t off_of(const struct log *l, uint64_t lsn)
{
	return lsn & (((uint64_t)1 << l->f->super.log_bits) - 1);
}

static int log_use(struct log *l, uint64_t file)
{
	char name[32];
	int r;

	if (l->fd >= 0 && l->file == file)
		return 0;
	if (l->fd >= 0)
		l->io->ops->close(l->io, l->fd);
	l->fd = -1;
	snprintf(name, sizeof(name), "log/%016" PRIx64, file);
	r = l->io->ops->open(l->io, name, O_RDONLY, &l->fd);
	if (r)
		l->fd = -1;
	l->file = file;
	return r;
}

/* A whole valid record at lsn; -EUCLEAN when there is none. */
static int read_record(struct log *l, uint64_t lsn, struct bale_log_info *ret)
{
	uint64_t room = ((uint64_t)1 << l->f->super.log_bits) - off_of(l, lsn);
	struct bale_disk_log d;
	struct bale_op op;
	size_t pos = 0;
	int r = log_use(l, file_of(l, lsn));

	if (r)
		return r == -ENOENT ? -EUCLEAN : r;
	if (room < sizeof(d))
		return -EUCLEAN;
	r = read_at(l->io, l->fd, &d, sizeof(d), off_of(l, lsn));
	if (!r)
		r = bale_log_decode(&d, sizeof(d), l->f->super.uuid, ret);
	if (!r && (ret->lsn != lsn || ret->body_len > room - sizeof(d)))
		r = -EUCLEAN;
	l->body.len = 0;
	if (!r)
		r = bale_buf_reserve(&l->body, (size_t)ret->body_len + 1);
	if (!r)
		r = read_at(l->io, l->fd, l->body.data, ret->body_len,
			    off_of(l, lsn) + sizeof(d));
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

/* Follow the log; *lsn is where it ends, *seq the number that would be next. */
static int follow(struct log *l, uint64_t *lsn, uint64_t *seq, bool any_seq)
{
	uint64_t size = (uint64_t)1 << l->f->super.log_bits;
	struct bale_log_info i;
	int r;

	for (;;) {
		uint64_t next = (*lsn | (size - 1)) + 1;

		r = bale_fsck_step(l->f);
		if (r)
			return r;
		r = read_record(l, *lsn, &i);
		if (no_record(r) || (!r && !any_seq && i.seq != *seq)) {
			/* Perhaps the record did not fit in this file. */
			r = off_of(l, *lsn) ? read_record(l, next, &i) :
					      -EUCLEAN;
			if (no_record(r) || (!r && i.seq != *seq))
				return 0;
			*lsn = next;
		}
		if (r)
			return r;
		any_seq = false;
		*seq = i.seq + 1;
		*lsn += sizeof(struct bale_disk_log) + i.body_len;
		*lsn = (*lsn + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
	}
}

/* The first valid record with a later number in the rest of one file. */
static int search_file(struct log *l, uint64_t lsn, uint64_t seq,
		       uint64_t *ret_lsn)
{
	uint64_t size = (uint64_t)1 << l->f->super.log_bits;
	uint64_t base = lsn - off_of(l, lsn);
	bale_autofree uint8_t *buf = malloc(WINDOW);
	int r = log_use(l, file_of(l, lsn));

	if (r || !buf)
		return r == -ENOENT ? 0 : r ? r : -ENOMEM;
	for (uint64_t off = off_of(l, lsn); off < size; off += WINDOW) {
		size_t got = 0;

		r = bale_fsck_step(l->f);
		if (!r)
			r = l->io->ops->pread(l->io, l->fd, buf, WINDOW, off,
					      &got);
		if (r || !got)
			return r;
		for (size_t k = 0; k + sizeof(struct bale_disk_log) <= got;
		     k += BALE_ALIGN) {
			struct bale_log_info i;

			if (memcmp(buf + k, BALE_LOG_MAGIC, 8))
				continue;
			if (!read_record(l, base + off + k, &i) &&
			    i.seq > seq) {
				*ret_lsn = base + off + k;
				return 1;
			}
		}
	}
	return 0;
}

/* 1: *ret_lsn is a valid record behind the end. */
static int search_behind(struct log *l, uint64_t lsn, uint64_t seq,
			 uint64_t *ret_lsn)
{
	uint64_t size = (uint64_t)1 << l->f->super.log_bits;
	int r = search_file(l, lsn, seq, ret_lsn);

	for (size_t k = 0; k < l->v.nr && !r; k++)
		if (l->v.no[k] > file_of(l, lsn) &&
		    l->v.no[k] <= UINT64_MAX >> l->f->super.log_bits)
			r = search_file(l, l->v.no[k] * size, seq, ret_lsn);
	return r;
}

static int walk(struct log *l, const struct ckpt *c, bool any)
{
	struct bale_fsck *f = l->f;
	uint64_t lsn = any ? c->start_lsn : l->v.no[0] << f->super.log_bits;
	uint64_t seq = any ? c->start_seq : 0, behind;
	int r = follow(l, &lsn, &seq, !any);

	if (!r && any && lsn < c->end_lsn) {
		bale_fsck_problem(f, BALE_FSCK_log,
				  "log: ends at 0x%" PRIx64 ", the newest "
				  "checkpoint needs it up to 0x%" PRIx64,
				  lsn, c->end_lsn);
		f->log_damaged = true;
		f->log_end = lsn;
		return 0;
	}
	if (!r)
		r = search_behind(l, lsn, seq, &behind);
	if (r != 1)
		return r;
	bale_fsck_problem(f, BALE_FSCK_log,
			  "log: damaged at 0x%" PRIx64
			  ", goes on at 0x%" PRIx64,
			  lsn, behind);
	f->log_damaged = true;
	f->log_end = lsn;
	return 0;
}

int bale_fsck_log(struct bale_fsck *f, struct bale_io *io)
{
	struct log l = { .f = f, .io = io, .fd = -1 };
	struct ckpt c = { 0 };
	bool any;
	int r = check_ckpts(f, io, &c, &any);

	if (!r)
		r = list_files(io, "log", &l.v);
	bale_fsck_phase(f, "log", 0);
	if (!r && l.v.nr)
		r = walk(&l, &c, any);
	else if (!r) {
		bale_fsck_problem(f, BALE_FSCK_log, "log: no files");
		f->log_damaged = true;
	}
	if (l.fd >= 0)
		io->ops->close(io, l.fd);
	free(l.v.no);
	bale_buf_fini(&l.body);
	return r;
}

/* ---- cutting it ---- */

static int move_aside(struct bale_io *io, uint64_t file)
{
	char from[32], to[48];

	snprintf(from, sizeof(from), "log/%016" PRIx64, file);
	snprintf(to, sizeof(to), "damaged-log-%016" PRIx64, file);
	return io->ops->rename(io, from, to);
}

/* The good beginning of a file that was moved aside, zeros up to its size. */
static int copy_beginning(struct bale_io *io, uint64_t file, uint64_t keep,
			  uint64_t size)
{
	bale_autofree uint8_t *buf = malloc(WINDOW);
	char from[48], to[32];
	int in = -1, out = -1, r;

	snprintf(from, sizeof(from), "damaged-log-%016" PRIx64, file);
	snprintf(to, sizeof(to), "log/%016" PRIx64, file);
	r = buf ? io->ops->open(io, from, O_RDONLY, &in) : -ENOMEM;
	if (!r)
		r = io->ops->open(io, to, O_RDWR | O_CREAT | O_EXCL, &out);
	for (uint64_t off = 0; off < size && !r; off += WINDOW) {
		struct iovec v = { buf, WINDOW };
		uint64_t good = off < keep ? keep - off : 0;
		size_t got;

		memset(buf, 0, WINDOW);
		if (good)
			r = io->ops->pread(io, in, buf,
					   good < WINDOW ? good : WINDOW, off,
					   &got);
		if (!r)
			r = io->ops->pwritev(io, out, &v, 1, off);
	}
	if (!r)
		r = io->ops->sync(io, out);
	if (in >= 0)
		io->ops->close(io, in);
	if (out >= 0)
		io->ops->close(io, out);
	return r;
}

int bale_fsck_log_cut(struct bale_fsck *f)
{
	uint64_t size = (uint64_t)1 << f->super.log_bits;
	uint64_t last = f->log_end >> f->super.log_bits;
	uint64_t keep = f->log_end & (size - 1);
	struct files v = { 0 };
	struct bale_io *io;
	int r = bale_io_open(f->path, false, &io);

	if (r)
		return r;
	r = list_files(io, "log", &v);
	for (size_t k = v.nr; k-- && !r && v.no[k] >= last;) {
		r = move_aside(io, v.no[k]);
		if (!r && v.no[k] == last && keep)
			r = copy_beginning(io, last, keep, size);
	}
	if (!r)
		r = io->ops->sync_dir(io, "log");
	if (!r)
		r = io->ops->sync_dir(io, "");
	free(v.no);
	bale_io_close(io);
	return r;
}
