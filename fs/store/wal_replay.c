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
	uint64_t number; /* of the loaded file; UINT64_MAX: none */
	uint8_t *data;	 /* file_size bytes */
	size_t len;
};

/* Log files are a few MiB: read whole. A missing file reads as empty. */
static int load_file(struct reader *rd, uint64_t number)
{
	char name[32];
	int r;

	if (rd->number == number)
		return 0;
	bale_wal_name(name, number);
	rd->len = 0;
	r = bale_io_read_file(rd->w->st->io, name, rd->data, rd->w->file_size,
			      &rd->len);
	rd->number = number;
	return r == -ENOENT ? 0 : r;
}

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

static int replay_body(const uint8_t *body, size_t len, bale_wal_op_fn *fn,
		       void *arg)
{
	struct bale_op op;
	size_t pos = 0;
	int r;

	while (!(r = bale_op_next(body, len, &pos, &op))) {
		r = fn(&op, arg);
		if (r)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* Gathers the parts of one group; *ret_next where it ends. */
static int read_group(struct reader *rd, struct bale_wal_position at,
		      struct bale_buf *body, struct bale_wal_position *ret_next)
{
	struct bale_log_info info = { .flags = BALE_LOG_MORE };

	body->len = 0;
	while (info.flags & BALE_LOG_MORE) {
		const uint8_t *part;
		int r = next_record(rd, at, &info, &part);

		if (!r)
			r = bale_buf_append(body, part, info.body_len);
		if (r)
			return r;
		at.lsn = record_end(&info);
		at.seq++;
	}
	*ret_next = at;
	return 0;
}

/* Any valid record at or behind `from` whose seq is beyond the end's. */
static int find_beyond(struct reader *rd, struct bale_wal_position end)
{
	uint64_t size = rd->w->file_size, empty = 0, part = end.seq;

	for (uint64_t number = end.lsn / size; empty < 2; number++) {
		uint64_t lsn = number * size;
		int r = load_file(rd, number);

		if (r)
			return r;
		empty = rd->len ? 0 : empty + 1;
		for (uint64_t at = lsn < end.lsn ? end.lsn : lsn;
		     at < lsn + rd->len; at += BALE_ALIGN) {
			struct bale_log_info info;
			const uint8_t *body;

			if (memcmp(rd->data + (at - lsn), BALE_LOG_MAGIC, 8) ||
			    read_record(rd, at, &info, &body) ||
			    info.seq < end.seq)
				continue;
			/* An incomplete group's first parts: a torn tail. */
			if (info.seq == part) {
				part++;
				continue;
			}
			bale_err("log: damaged at lsn %#" PRIx64
				 " (record %" PRIu64
				 "): a later record %" PRIu64 " at %#" PRIx64
				 " is whole",
				 end.lsn, end.seq, info.seq, info.lsn);
			return -EUCLEAN;
		}
	}
	return 0;
}

int bale_wal_replay(struct bale_wal *w, struct bale_wal_position from,
		    bale_wal_op_fn *op, bale_wal_group_fn *group, void *arg,
		    struct bale_wal_position *ret)
{
	struct reader rd = { .w = w, .number = UINT64_MAX };
	struct bale_buf body = { 0 };
	struct bale_wal_position at = from, next;
	int r;

	rd.data = malloc(w->file_size);
	if (!rd.data)
		return -ENOMEM;
	while (!(r = read_group(&rd, at, &body, &next))) {
		r = replay_body(body.data, body.len, op, arg);
		if (!r && group)
			r = group(&next, arg);
		if (r)
			break;
		at = next;
	}
	if (r == -ENOENT)
		r = find_beyond(&rd, at);
	free(rd.data);
	bale_buf_fini(&body);
	if (!r)
		*ret = at;
	return r;
}

/* ---- going on ---- */

struct listing {
	struct bale_wal *w;
	uint64_t end_file;
	uint64_t lowest;
	bool spare;
};

static int note_file(const char *name, void *arg)
{
	struct listing *l = arg;
	char *end, path[32];
	uint64_t number = strtoull(name, &end, 16);

	if (!strcmp(name, "spare"))
		l->spare = true;
	if (*end || end - name != 16)
		return 0;
	if (number < l->lowest)
		l->lowest = number;
	if (number <= l->end_file)
		return 0;
	/* Made ahead of use: nothing in it counts. */
	bale_wal_name(path, number);
	return l->w->st->io->ops->unlink(l->w->st->io, path);
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static int clear_tail(struct bale_wal *w, uint64_t off)
{
	bale_autofree uint8_t *rest = malloc(w->file_size);
	size_t len = 0;
	int r;

	if (!rest)
		return -ENOMEM;
	r = w->st->io->ops->pread(w->st->io, w->fd, rest, w->file_size - off,
				  off, &len);
	if (!r && (len != w->file_size - off || !all_zero(rest, len)))
		r = bale_wal_zero(w, w->fd, off);
	return r;
}

int bale_wal_start(struct bale_wal *w, struct bale_wal_position at)
{
	struct listing l = { .w = w, .lowest = UINT64_MAX };
	struct bale_io *io = w->st->io;
	char name[32];
	int r;

	w->end = at;
	w->fd_file = at.lsn / w->file_size;
	/* A file filled to its last byte: the end lies at the next one's
	 * start, which may not exist yet. */
	if (at.lsn && at.lsn % w->file_size == 0)
		w->fd_file--;
	l.end_file = w->fd_file;
	r = io->ops->list(io, "log", note_file, &l);
	if (r)
		return r;
	w->first_file = l.lowest;
	w->have_spare = l.spare;
	bale_wal_name(name, w->fd_file);
	r = io->ops->open(io, name, O_RDWR, &w->fd);
	if (r == -ENOENT) {
		r = io->ops->open(io, name, O_RDWR | O_CREAT, &w->fd);
		if (!r)
			r = bale_wal_zero(w, w->fd, 0);
		if (!r)
			r = io->ops->sync_dir(io, "log");
		if (w->first_file == UINT64_MAX)
			w->first_file = w->fd_file;
	}
	if (!r && at.lsn < (w->fd_file + 1) * w->file_size)
		r = clear_tail(w, at.lsn - w->fd_file * w->file_size);
	return r;
}
