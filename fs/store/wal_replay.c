/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the log: replay, finding its end, and telling an end from damage. */
#include "fs/store/wal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

struct reader {
	struct bale_wal *w;
	uint64_t *files; /* numbers of the files that exist, ascending */
	size_t nr_files, cap_files;
	uint64_t number; /* of the loaded file; UINT64_MAX: none */
	uint8_t *data;	 /* file_size bytes */
	size_t len;
};

/* ---- files ---- */

static bool parse_name(const char *name, uint64_t *ret)
{
	char *end;

	*ret = strtoull(name, &end, 16);
	return !*end && end - name == 16;
}

static int note_file(const char *name, void *arg)
{
	struct reader *rd = arg;
	uint64_t number;

	if (!parse_name(name, &number))
		return 0;
	if (rd->nr_files == rd->cap_files) {
		size_t cap = rd->cap_files ? rd->cap_files * 2 : 64;
		uint64_t *files = realloc(rd->files, cap * sizeof(*files));

		if (!files)
			return -ENOMEM;
		rd->files = files;
		rd->cap_files = cap;
	}
	rd->files[rd->nr_files++] = number;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void reader_fini(struct reader *rd)
{
	free(rd->data);
	free(rd->files);
}

static int reader_init(struct reader *rd, struct bale_wal *w)
{
	int r;

	*rd = (struct reader){ .w = w, .number = UINT64_MAX };
	rd->data = malloc(w->file_size);
	r = rd->data ?
		    BALE_IO(w->st->io)->list(w->st->io, "log", note_file, rd) :
		    -ENOMEM;
	if (r) {
		reader_fini(rd);
		return r;
	}
	if (rd->nr_files)
		qsort(rd->files, rd->nr_files, sizeof(*rd->files), by_number);
	return 0;
}

static bool exists(const struct reader *rd, uint64_t number)
{
	return rd->nr_files && bsearch(&number, rd->files, rd->nr_files,
				       sizeof(*rd->files), by_number);
}

/* Log files are a few MiB: read whole. A missing file reads as empty. */
static int load_file(struct reader *rd, uint64_t number)
{
	char name[32];
	int r;

	if (rd->number == number)
		return 0;
	rd->len = 0;
	rd->number = number;
	if (!exists(rd, number))
		return 0;
	bale_wal_name(name, number);
	r = bale_io_read_file(rd->w->st->io, name, rd->data, rd->w->file_size,
			      &rd->len);
	if (r)
		rd->number = UINT64_MAX;
	return r;
}

/* ---- records ---- */

/* The record at lsn when it is valid: 0, else -ENOENT (or an I/O error). */
static int read_record(struct reader *rd, uint64_t lsn,
		       struct bale_log_info *ret, const uint8_t **ret_body)
{
	uint64_t off = lsn % rd->w->file_size;
	int r = load_file(rd, lsn / rd->w->file_size);

	if (r)
		return r;
	if (off + sizeof(struct bale_disk_log) > rd->len ||
	    bale_log_decode(rd->data + off, rd->len - off,
			    rd->w->st->super.uuid, ret) ||
	    ret->lsn != lsn)
		return -ENOENT;
	off += sizeof(struct bale_disk_log);
	if (ret->body_len > rd->len - off ||
	    bale_crc32c(0, rd->data + off, ret->body_len) != ret->body_crc)
		return -ENOENT;
	*ret_body = rd->data + off;
	return 0;
}

static uint64_t record_end(const struct bale_log_info *i)
{
	uint64_t len = sizeof(struct bale_disk_log) + i->body_len;

	return i->lsn + (len + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
}

/* The record with this sequence number: at lsn, or at the start of the next
 * file, where the writer goes when one does not fit. */
static int next_record(struct reader *rd, struct bale_wal_position at,
		       struct bale_log_info *ret, const uint8_t **ret_body)
{
	uint64_t size = rd->w->file_size;
	int r = read_record(rd, at.lsn, ret, ret_body);

	if ((r == -ENOENT || (!r && ret->seq != at.seq)) && at.lsn % size)
		r = read_record(rd, (at.lsn / size + 1) * size, ret, ret_body);
	if (!r && ret->seq != at.seq)
		r = -ENOENT;
	return r;
}

/* Gathers the parts of one group; *ret_next where it ends. -ENOENT: there is
 * no whole group here, *ret_next is where the first bad part should be. */
static int read_group(struct reader *rd, struct bale_wal_position at,
		      struct bale_buf *body, struct bale_wal_position *ret_next)
{
	struct bale_log_info info = { .flags = BALE_LOG_MORE };

	body->len = 0;
	*ret_next = at;
	while (info.flags & BALE_LOG_MORE) {
		const uint8_t *part;
		int r = next_record(rd, at, &info, &part);

		if (!r)
			r = bale_buf_append(body, part, info.body_len);
		if (r)
			return r;
		at.last_lsn = info.lsn;
		at.lsn = record_end(&info);
		at.seq++;
		*ret_next = at;
	}
	return 0;
}

/*
 * Any valid record behind `bad`, where one with that seq should be and is not?
 * A record is written only when the one before is durable, so that one was
 * there once.
 */
static int find_beyond(struct reader *rd, struct bale_wal_position bad)
{
	uint64_t size = rd->w->file_size;

	for (size_t i = 0; i < rd->nr_files; i++) {
		uint64_t lsn = rd->files[i] * size;
		int r;

		if (lsn + size <= bad.lsn)
			continue;
		r = load_file(rd, rd->files[i]);
		if (r)
			return r;
		for (uint64_t at = lsn < bad.lsn ? bad.lsn : lsn;
		     at + sizeof(struct bale_disk_log) <= lsn + rd->len;
		     at += BALE_ALIGN) {
			struct bale_log_info info;
			const uint8_t *body;

			if (memcmp(rd->data + (at - lsn), BALE_LOG_MAGIC, 8) ||
			    read_record(rd, at, &info, &body) ||
			    info.seq <= bad.seq)
				continue;
			bale_err("log: damaged at lsn %#" PRIx64
				 " (record %" PRIu64 "): record %" PRIu64
				 " behind it, at %#" PRIx64 ", is whole",
				 bad.lsn, bad.seq, info.seq, info.lsn);
			return -EUCLEAN;
		}
	}
	return 0;
}

/* ---- replay ---- */

static int replay_body(const uint8_t *body, size_t len, uint64_t lsn,
		       const struct bale_wal_replay *how)
{
	struct bale_op op;
	size_t pos = 0;
	int r;

	while (!(r = bale_op_next(body, len, &pos, &op))) {
		r = how->op(&op, how->arg);
		if (r)
			return r;
	}
	if (r == -EUCLEAN)
		bale_err("log: a bad row in the record at lsn %#" PRIx64, lsn);
	return r == -ENOENT ? 0 : r;
}

static int replay(struct reader *rd, const struct bale_wal_replay *how,
		  struct bale_wal_position *at)
{
	struct bale_buf body = { 0 };
	struct bale_wal_position next;
	int r;

	while (!(r = read_group(rd, *at, &body, &next))) {
		r = replay_body(body.data, body.len, at->lsn, how);
		if (!r)
			r = how->group(&next, how->arg);
		if (r)
			break;
		*at = next;
	}
	if (r == -ENOENT) {
		r = find_beyond(rd, next);
		if (r == -EUCLEAN && how->salvage) {
			bale_warn("log: what is behind lsn %#" PRIx64
				  " is given up",
				  at->lsn);
			r = 0;
		}
	}
	bale_buf_fini(&body);
	return r;
}

/* The log reaches back to `from`: its file is there, or it is the end of the
 * last one, filled to its last byte. */
static bool reaches(const struct reader *rd, struct bale_wal_position from)
{
	uint64_t number = from.lsn / rd->w->file_size;

	return exists(rd, number) ||
	       (from.lsn && from.lsn % rd->w->file_size == 0 &&
		exists(rd, number - 1));
}

int bale_wal_replay(struct bale_wal *w, struct bale_wal_position from,
		    const struct bale_wal_replay *how,
		    struct bale_wal_position *ret)
{
	struct reader rd;
	int r = reader_init(&rd, w);

	if (r)
		return r;
	r = reaches(&rd, from) ? replay(&rd, how, &from) : -ENOENT;
	reader_fini(&rd);
	if (!r)
		*ret = from;
	return r;
}

int bale_wal_check_last(struct bale_wal *w, struct bale_wal_position at)
{
	struct bale_log_info info;
	const uint8_t *body;
	struct reader rd;
	int r;

	if (at.last_lsn == BALE_WAL_NONE)
		return 0;
	r = reader_init(&rd, w);
	if (r)
		return r;
	r = read_record(&rd, at.last_lsn, &info, &body);
	if (!r && info.seq != at.seq - 1)
		r = -ENOENT;
	reader_fini(&rd);
	return r == -ENOENT ? -EUCLEAN : r;
}

/* ---- going on ---- */

/*
 * What lies behind the end goes, last first and each durably: a crash in
 * between must not leave a valid record behind a hole, which would be damage.
 * Files behind the end were made ahead of use, or hold parts of a group that
 * never was whole.
 */
static int remove_later(struct bale_wal *w, const struct reader *rd)
{
	struct bale_io *io = w->st->io;
	int r = 0;

	for (size_t i = rd->nr_files; !r && i--;) {
		char name[32];

		if (rd->files[i] <= w->fd_file)
			break;
		bale_wal_name(name, rd->files[i]);
		r = BALE_IO(io)->unlink(io, name);
		if (!r)
			r = BALE_IO(io)->sync_dir(io, "log");
	}
	return r;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

/* Heads of records in the tail that would count if they came in turn. */
static int clear_heads(struct bale_wal *w, const uint8_t *tail, uint64_t off,
		       size_t len)
{
	int r = 0;

	for (size_t at = len / BALE_ALIGN * BALE_ALIGN; !r && at;) {
		struct bale_log_info info;

		at -= BALE_ALIGN;
		if (!memcmp(tail + at, BALE_LOG_MAGIC, 8) &&
		    !bale_log_decode(tail + at, len - at, w->st->super.uuid,
				     &info) &&
		    info.lsn == w->fd_file * w->file_size + off + at)
			r = bale_wal_zero(w, w->fd, off + at,
					  off + at + BALE_ALIGN);
	}
	return r;
}

/* Zeros from off on: a stale part of a torn group would be taken for the
 * continuation of a new one of the same length. */
static int clear_tail(struct reader *rd, uint64_t off)
{
	struct bale_wal *w = rd->w;
	struct bale_io *io = w->st->io;
	size_t len = 0;
	int r = BALE_IO(io)->pread(io, w->fd, rd->data, w->file_size - off, off,
				   &len);

	w->zeroed = off + len;
	if (r || all_zero(rd->data, len))
		return r;
	r = clear_heads(w, rd->data, off, len);
	return r ? r : bale_wal_zero(w, w->fd, off, off + len);
}

static int start(struct reader *rd)
{
	struct bale_wal *w = rd->w;
	struct bale_io *io = w->st->io;
	uint64_t off = w->end.lsn - w->fd_file * w->file_size;
	char name[32];
	int r;

	w->first_file = rd->nr_files && rd->files[0] < w->fd_file ?
				rd->files[0] :
				w->fd_file;
	r = remove_later(w, rd);
	bale_wal_name(name, w->fd_file);
	/* The file is there: the log was just read up to its end. */
	if (!r)
		r = BALE_IO(io)->open(io, name, O_RDWR, &w->fd);
	return r ? r : clear_tail(rd, off);
}

static int find_spare(const char *name, void *arg)
{
	if (!strcmp(name, "spare"))
		*(bool *)arg = true;
	return 0;
}

int bale_wal_start(struct bale_wal *w, struct bale_wal_position at)
{
	struct reader rd;
	int r = reader_init(&rd, w);

	if (r)
		return r;
	w->end = at;
	w->whole = at.lsn;
	w->fd_file = at.lsn / w->file_size;
	/* A file filled to its last byte: the end is the next one's start,
	 * which is made when a record goes there. The full one may be gone
	 * where the next is there. */
	if (at.lsn && at.lsn % w->file_size == 0 && !exists(&rd, w->fd_file))
		w->fd_file--;
	r = BALE_IO(w->st->io)->list(w->st->io, "log", find_spare,
				     &w->have_spare);
	if (!r)
		r = start(&rd);
	reader_fini(&rd);
	return r;
}
