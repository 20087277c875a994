/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/store/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/store/wal_internal.h"

enum { BODY_MAX = 2 << 20 }; /* of a record; a larger group is split */

void bale_wal_name(char buf[32], uint64_t number)
{
	snprintf(buf, 32, "log/%016" PRIx64, number);
}

int bale_wal_create(struct bale_store *st, struct bale_wal **ret)
{
	struct bale_wal *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	bale_mutex_init(&w->lock);
	w->st = st;
	w->fd = -1;
	w->file_size = (uint64_t)1 << st->super.log_bits;
	w->next_ready = UINT64_MAX;
	*ret = w;
	return 0;
}

void bale_wal_destroy(struct bale_wal *w)
{
	if (!w)
		return;
	if (w->fd >= 0)
		w->st->io->ops->close(w->st->io, w->fd);
	bale_mutex_fini(&w->lock);
	free(w);
}

struct bale_wal_position bale_wal_end(struct bale_wal *w)
{
	struct bale_wal_position p;

	bale_mutex_lock(&w->lock);
	p = w->end;
	bale_mutex_unlock(&w->lock);
	return p;
}

uint64_t bale_wal_begin(struct bale_wal *w)
{
	uint64_t v;

	bale_mutex_lock(&w->lock);
	v = w->first_file * w->file_size;
	bale_mutex_unlock(&w->lock);
	return v;
}

/* ---- files ---- */

int bale_wal_zero(struct bale_wal *w, int fd, uint64_t from)
{
	enum { STEP = 1 << 20 };
	struct bale_io *io = w->st->io;
	bale_autofree uint8_t *zero = calloc(1, STEP);
	int r = zero ? 0 : -ENOMEM;

	while (!r && from < w->file_size) {
		size_t len = w->file_size - from < STEP ?
				     (size_t)(w->file_size - from) :
				     STEP;
		struct iovec iov = { zero, len };

		r = io->ops->pwritev(io, fd, &iov, 1, from);
		from += len;
	}
	return r ? r : io->ops->sync(io, fd);
}

static int make_file(struct bale_wal *w, uint64_t number)
{
	struct bale_io *io = w->st->io;
	char name[32];
	int fd, r;

	bale_wal_name(name, number);
	r = io->ops->open(io, name, O_RDWR | O_CREAT, &fd);
	if (r)
		return r;
	r = bale_wal_zero(w, fd, 0);
	io->ops->close(io, fd);
	if (!r)
		r = io->ops->sync_dir(io, "log");
	else
		io->ops->unlink(io, name);
	return r;
}

int bale_wal_format(struct bale_wal *w)
{
	int r = make_file(w, 0);

	w->end = (struct bale_wal_position){ 0, 1 };
	return r ? r : bale_wal_start(w, w->end);
}

static int open_number(struct bale_wal *w, uint64_t number, int flags,
		       int *ret_fd)
{
	char name[32];

	bale_wal_name(name, number);
	return w->st->io->ops->open(w->st->io, name, flags, ret_fd);
}

/* A file that was released serves again: its blocks are there already, and no
 * record in it can be taken for one of the new file, whose lsn differ. */
static int take_recycled(struct bale_wal *w, uint64_t number)
{
	struct bale_io *io = w->st->io;
	char from[32], to[32];
	bool have;
	int r;

	bale_mutex_lock(&w->lock);
	have = w->have_spare;
	w->have_spare = false;
	bale_mutex_unlock(&w->lock);
	if (!have)
		return -ENOENT;
	strcpy(from, "log/spare");
	bale_wal_name(to, number);
	r = io->ops->rename(io, from, to);
	return r ? r : io->ops->sync_dir(io, "log");
}

int bale_wal_prepare(struct bale_wal *w)
{
	uint64_t number;
	bool needed;
	int r;

	bale_mutex_lock(&w->lock);
	number = w->fd_file + 1;
	needed = w->end.lsn > w->fd_file * w->file_size + w->file_size / 2 &&
		 w->next_ready != number && !w->preparing;
	if (needed)
		w->preparing = true;
	bale_mutex_unlock(&w->lock);
	if (!needed)
		return 0;
	r = take_recycled(w, number);
	if (r == -ENOENT)
		r = make_file(w, number);
	bale_mutex_lock(&w->lock);
	w->preparing = false;
	if (!r)
		w->next_ready = number;
	bale_mutex_unlock(&w->lock);
	return r;
}

/* The leader goes on in the next file. */
static int switch_file(struct bale_wal *w)
{
	struct bale_io *io = w->st->io;
	uint64_t number = w->fd_file + 1;
	bool ready;
	int fd, r = 0;

	for (;;) {
		bale_mutex_lock(&w->lock);
		ready = w->next_ready == number;
		if (ready || !w->preparing)
			break;
		bale_mutex_unlock(&w->lock);
		sched_yield();
	}
	w->preparing = !ready;
	bale_mutex_unlock(&w->lock);
	if (!ready) {
		r = take_recycled(w, number);
		if (r == -ENOENT)
			r = make_file(w, number);
		if (r == -ENOSPC) {
			bale_space_shrink_reserve(w->st);
			r = make_file(w, number);
		}
		bale_mutex_lock(&w->lock);
		w->preparing = false;
		bale_mutex_unlock(&w->lock);
	}
	if (!r)
		r = open_number(w, number, O_RDWR, &fd);
	if (r)
		return r;
	io->ops->close(io, w->fd);
	bale_mutex_lock(&w->lock);
	w->fd = fd;
	w->fd_file = number;
	w->end.lsn = number * w->file_size;
	bale_mutex_unlock(&w->lock);
	return 0;
}

/* ---- appending ---- */

static uint64_t record_len(size_t body_len)
{
	return (sizeof(struct bale_disk_log) + body_len + BALE_ALIGN - 1) /
	       BALE_ALIGN * BALE_ALIGN;
}

static int append_record(struct bale_wal *w, const uint8_t *body, size_t len,
			 uint32_t nr_ops, uint16_t flags)
{
	static const uint8_t zero[BALE_ALIGN];
	struct bale_io *io = w->st->io;
	uint64_t total = record_len(len);
	struct bale_disk_log head;
	struct bale_log_info info = { .seq = w->end.seq,
				      .body_len = (uint32_t)len,
				      .body_crc = bale_crc32c(0, body, len),
				      .nr_ops = nr_ops,
				      .flags = flags };
	struct iovec iov[3] = {
		{ &head, sizeof(head) },
		{ (void *)body, len },
		{ (void *)zero, total - sizeof(head) - len },
	};
	int r = 0;

	if (w->end.lsn + total > (w->fd_file + 1) * w->file_size)
		r = switch_file(w);
	if (r)
		return r;
	info.lsn = w->end.lsn;
	bale_log_seal(&head, &info, w->st->super.uuid);
	r = io->ops->pwritev(io, w->fd, iov, 3, w->end.lsn % w->file_size);
	if (!r)
		r = io->ops->sync(io, w->fd);
	if (r)
		return r;
	bale_mutex_lock(&w->lock);
	w->end.lsn += total;
	w->end.seq++;
	bale_mutex_unlock(&w->lock);
	return 0;
}

/* Bytes of the op at body[pos]. */
static size_t op_len(const uint8_t *body, size_t pos)
{
	const struct bale_disk_op *d = (const void *)(body + pos);

	return sizeof(*d) + le16_get(d->key_len) + le32_get(d->val_len);
}

int bale_wal_append(struct bale_wal *w, const uint8_t *body, size_t len)
{
	size_t from = 0;
	int r = 0;

	while (!r && from < len) {
		uint32_t nr = 0;
		size_t to = from;

		while (to < len && (to == from ||
				    to + op_len(body, to) - from <= BODY_MAX)) {
			to += op_len(body, to);
			nr++;
		}
		r = append_record(w, body + from, to - from, nr,
				  to < len ? BALE_LOG_MORE : 0);
		from = to;
	}
	return r;
}

/* ---- recycling ---- */

int bale_wal_release(struct bale_wal *w, uint64_t lsn)
{
	struct bale_io *io = w->st->io;
	char name[32];
	int r = 0;

	while (!r) {
		uint64_t number;
		bool spare;

		bale_mutex_lock(&w->lock);
		number = w->first_file;
		spare = !w->have_spare;
		if ((number + 1) * w->file_size > lsn) {
			bale_mutex_unlock(&w->lock);
			break;
		}
		w->first_file++;
		bale_mutex_unlock(&w->lock);
		bale_wal_name(name, number);
		r = spare ? io->ops->rename(io, name, "log/spare") :
			    io->ops->unlink(io, name);
		if (!r && spare) {
			bale_mutex_lock(&w->lock);
			w->have_spare = true;
			bale_mutex_unlock(&w->lock);
		}
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}
