/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/store/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/base/fault.h"
#include "fs/base/mem.h"
#include "fs/store/wal_internal.h"

enum {
	BODY_MAX = 4 << 20, /* of a record; a larger group is split */
	ZERO_STEP = 4 << 20,
	ZERO_LOW = 2 << 20, /* zeros left when the next step is made */
};

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
	bale_cond_init(&w->cond);
	w->st = st;
	w->fd = -1;
	w->file_size = (uint64_t)1 << st->super.log_bits;
	*ret = w;
	return 0;
}

void bale_wal_destroy(struct bale_wal *w)
{
	if (!w)
		return;
	if (w->fd >= 0)
		BALE_IO(w->st->io)->close(w->st->io, w->fd);
	bale_cond_fini(&w->cond);
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

uint64_t bale_wal_whole(struct bale_wal *w)
{
	uint64_t v;

	bale_mutex_lock(&w->lock);
	v = w->whole;
	bale_mutex_unlock(&w->lock);
	return v;
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

int bale_wal_zero(struct bale_wal *w, int fd, uint64_t from, uint64_t to)
{
	enum { STEP = 1 << 20 };
	struct bale_io *io = w->st->io;
	bale_autofree uint8_t *zero = calloc(1, STEP);
	int r = zero ? 0 : -ENOMEM;

	while (!r && from < to) {
		size_t len = to - from < STEP ? (size_t)(to - from) : STEP;
		struct iovec iov = { zero, len };

		r = BALE_IO(io)->pwritev(io, fd, &iov, 1, from);
		from += len;
	}
	return r ? r : BALE_IO(io)->sync(io, fd);
}

static uint64_t zero_end(const struct bale_wal *w, uint64_t from)
{
	return from + ZERO_STEP < w->file_size ? from + ZERO_STEP :
						 w->file_size;
}

/* A file that was released serves again, at its full length. */
static int recycle(struct bale_wal *w, const char *name, uint64_t *ret_zeroed)
{
	struct bale_io *io = w->st->io;
	uint64_t allocated;
	int fd, r = BALE_IO(io)->open(io, "log/spare", O_RDONLY, &fd);

	if (r)
		return r;
	r = BALE_IO(io)->size(io, fd, ret_zeroed, &allocated);
	BALE_IO(io)->close(io, fd);
	if (!r && !*ret_zeroed)
		r = -ENOENT;
	return r ? r : BALE_IO(io)->rename(io, "log/spare", name);
}

/* What a failed sync left behind, no later one can tell: a record in a file
 * whose name was lost would be lost with it. */
static int sync_names(struct bale_wal *w)
{
	int r = BALE_IO(w->st->io)->sync_dir(w->st->io, "log");

	if (r)
		bale_store_fail(w->st, r, "sync of the log's directory");
	return r;
}

/* The next file, with some zeros in it; its name is durable. */
static int make_file(struct bale_wal *w, uint64_t number, bool spare,
		     uint64_t *ret_zeroed)
{
	struct bale_io *io = w->st->io;
	uint64_t len;
	char name[32];
	int fd, r;

	bale_wal_name(name, number);
	if (spare && !recycle(w, name, &len)) {
		r = sync_names(w);
		if (!r)
			*ret_zeroed = len;
		return r;
	}
	len = zero_end(w, 0);
	r = BALE_IO(io)->open(io, name, O_RDWR | O_CREAT | O_TRUNC, &fd);
	if (r)
		return r;
	r = bale_wal_zero(w, fd, 0, len);
	BALE_IO(io)->close(io, fd);
	if (!r)
		r = sync_names(w);
	if (r)
		BALE_IO(io)->unlink(io, name);
	else
		*ret_zeroed = len;
	return r;
}

int bale_wal_format(struct bale_wal *w)
{
	uint64_t zeroed;
	int r = make_file(w, 0, false, &zeroed);

	return r ? r :
		   bale_wal_start(w, (struct bale_wal_position){
					     0, 1, BALE_WAL_NONE });
}

static void claim_locked(struct bale_wal *w) BALE_REQUIRES(w->lock)
{
	while (w->preparing)
		bale_cond_wait(&w->cond, &w->lock);
	w->preparing = true;
}

static void unclaim_locked(struct bale_wal *w)
{
	w->preparing = false;
	bale_cond_broadcast(&w->cond);
}

/* More zeros in the file appended to. */
static int extend(struct bale_wal *w, uint64_t number, uint64_t from)
{
	struct bale_io *io = w->st->io;
	uint64_t to = zero_end(w, from);
	char name[32];
	int fd, r;

	bale_wal_name(name, number);
	r = BALE_IO(io)->open(io, name, O_RDWR, &fd);
	if (r)
		return r;
	r = bale_wal_zero(w, fd, from, to);
	BALE_IO(io)->close(io, fd);
	bale_mutex_lock(&w->lock);
	if (!r && w->fd_file == number && w->zeroed < to)
		w->zeroed = to;
	bale_mutex_unlock(&w->lock);
	return r;
}

static void what_is_wanted_locked(const struct bale_wal *w, bool *ret_zeros,
				  bool *ret_file)
{
	uint64_t used = w->end.lsn - w->fd_file * w->file_size;

	*ret_zeros = w->zeroed < w->file_size && used + ZERO_LOW > w->zeroed;
	*ret_file = !w->next_zeroed && used > w->file_size / 2;
}

bool bale_wal_wants_prepare(struct bale_wal *w)
{
	bool zeros, file, busy;

	bale_mutex_lock(&w->lock);
	what_is_wanted_locked(w, &zeros, &file);
	busy = w->preparing;
	bale_mutex_unlock(&w->lock);
	return !busy && (zeros || file);
}

int bale_wal_prepare(struct bale_wal *w)
{
	uint64_t number, zeroed, made = 0;
	bool want_zeros, want_file, spare;
	int r = 0;

	bale_mutex_lock(&w->lock);
	number = w->fd_file;
	zeroed = w->zeroed;
	what_is_wanted_locked(w, &want_zeros, &want_file);
	if (w->preparing || (!want_zeros && !want_file)) {
		bale_mutex_unlock(&w->lock);
		return 0;
	}
	w->preparing = true;
	spare = w->have_spare;
	if (want_file)
		w->have_spare = false;
	bale_mutex_unlock(&w->lock);
	if (want_zeros)
		r = extend(w, number, zeroed);
	if (!r && want_file)
		r = make_file(w, number + 1, spare, &made);
	bale_mutex_lock(&w->lock);
	if (w->fd_file == number)
		w->next_zeroed = made ? made : w->next_zeroed;
	unclaim_locked(w);
	bale_mutex_unlock(&w->lock);
	return r;
}

/* The leader goes on in the next file. */
static int switch_file(struct bale_wal *w)
{
	struct bale_io *io = w->st->io;
	uint64_t number = w->fd_file + 1, made;
	bool spare;
	char name[32];
	int fd, r = 0;

	bale_mutex_lock(&w->lock);
	claim_locked(w);
	made = w->next_zeroed;
	spare = w->have_spare;
	if (!made)
		w->have_spare = false;
	bale_mutex_unlock(&w->lock);
	if (!made)
		r = make_file(w, number, spare, &made);
	if (r == -ENOSPC) {
		bale_space_shrink_reserve(w->st);
		r = make_file(w, number, false, &made);
	}
	bale_wal_name(name, number);
	if (!r)
		r = BALE_IO(io)->open(io, name, O_RDWR, &fd);
	if (!r && w->fd >= 0)
		BALE_IO(io)->close(io, w->fd);
	bale_mutex_lock(&w->lock);
	if (!r) {
		w->fd = fd;
		w->fd_file = number;
		w->zeroed = made;
		w->next_zeroed = 0;
		w->end.lsn = number * w->file_size;
	}
	unclaim_locked(w);
	bale_mutex_unlock(&w->lock);
	return r;
}

/* ---- appending ---- */

static uint64_t record_len(size_t body_len)
{
	return (sizeof(struct bale_disk_log) + body_len + BALE_ALIGN - 1) /
	       BALE_ALIGN * BALE_ALIGN;
}

/* Zeros being written must not fall on records: they end at `zeroed` + a step
 * when they are done, and then the leader may go on. */
static void pass_zeroing(struct bale_wal *w, uint64_t end_off)
{
	bale_mutex_lock(&w->lock);
	while (w->preparing && end_off > w->zeroed)
		bale_cond_wait(&w->cond, &w->lock);
	if (end_off > w->zeroed)
		w->zeroed = end_off;
	bale_mutex_unlock(&w->lock);
}

static int append_record(struct bale_wal *w, const uint8_t *body, size_t len,
			 uint32_t nr_ops, uint16_t flags)
{
	static const uint8_t zero[BALE_ALIGN];
	struct bale_io *io = w->st->io;
	uint64_t total = record_len(len), off;
	struct bale_disk_log head;
	struct bale_log_info info = { .lsn = w->end.lsn,
				      .seq = w->end.seq,
				      .body_len = (uint32_t)len,
				      .body_crc = bale_crc32c(0, body, len),
				      .nr_ops = nr_ops,
				      .flags = flags };
	struct iovec iov[3] = {
		{ &head, sizeof(head) },
		{ (void *)body, len },
		{ (void *)zero, total - sizeof(head) - len },
	};
	int r;

	off = w->end.lsn % w->file_size;
	pass_zeroing(w, off + total);
	bale_log_seal(&head, &info, w->st->super.uuid);
	r = BALE_IO(io)->pwritev(io, w->fd, iov, 3, off);
	if (!r)
		r = BALE_IO(io)->sync(io, w->fd);
	if (r)
		return r;
	bale_mutex_lock(&w->lock);
	w->end.last_lsn = w->end.lsn;
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

/* As many ops as one record may hold. */
static size_t cut(const uint8_t *body, size_t from, size_t len, size_t room,
		  uint32_t *ret_nr)
{
	size_t to = from;

	for (*ret_nr = 0; to < len; (*ret_nr)++) {
		size_t op = op_len(body, to);

		if (to + op - from > room)
			break;
		to += op;
	}
	return to;
}

int bale_wal_append(struct bale_wal *w, const uint8_t *body, size_t len)
{
	uint64_t head = sizeof(struct bale_disk_log);
	uint64_t max =
		w->file_size - head < BODY_MAX ? w->file_size - head : BODY_MAX;
	size_t from = 0, to;
	uint32_t nr;
	int r = 0;

	while (!r && from < len) {
		uint64_t room = (w->fd_file + 1) * w->file_size - w->end.lsn;

		room = room < head ? 0 : room - head < max ? room - head : max;
		to = cut(body, from, len, room, &nr);
		/* The end of a file alone is no reason to split. */
		if (to == from ||
		    (to < len && room < max && len - from <= max)) {
			r = switch_file(w);
			BALE_FAULT_POINT("log.switched");
			continue;
		}
		r = append_record(w, body + from, to - from, nr,
				  to < len ? BALE_LOG_MORE : 0);
		BALE_FAULT_POINT("log.appended");
		from = to;
	}
	if (!r) {
		bale_mutex_lock(&w->lock);
		w->whole = w->end.lsn;
		bale_mutex_unlock(&w->lock);
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
		if (number >= w->fd_file || (number + 1) * w->file_size > lsn) {
			bale_mutex_unlock(&w->lock);
			break;
		}
		/* preparing: log/spare may be in use just now */
		spare = !w->have_spare && !w->preparing;
		if (spare)
			w->preparing = true;
		bale_mutex_unlock(&w->lock);
		bale_wal_name(name, number);
		r = spare ? BALE_IO(io)->rename(io, name, "log/spare") :
			    BALE_IO(io)->unlink(io, name);
		if (r == -ENOENT)
			r = 0;
		bale_mutex_lock(&w->lock);
		if (!r)
			w->first_file++;
		if (spare) {
			w->have_spare = !r;
			unclaim_locked(w);
		}
		bale_mutex_unlock(&w->lock);
	}
	return r;
}
