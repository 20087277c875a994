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

#include "fs/base/mem.h"
#include "tools/cmd.h"
#include "tools/fsck.h"
#include "tools/raw.h"

enum { WINDOW = 1 << 20 };
#define CUT_TMP "cut-log.tmp"

/* ---- checkpoints ---- */

static int step(const struct bale_op *op, void *arg)
{
	(void)op;
	return bale_fsck_step(arg);
}

/* The newest good checkpoint; *ret_any false: none. */
static int check_ckpts(struct bale_fsck *f, struct bale_io *io,
		       struct bale_raw_ckpt *ret, bool *ret_any)
{
	bale_autofree uint64_t *no = NULL;
	struct bale_raw_ckpt c;
	size_t nr;
	int r = bale_raw_list(io, "ckpt", &no, &nr);

	*ret_any = false;
	if (r)
		return r;
	bale_fsck_phase(f, "checkpoints", 0);
	for (size_t k = 0; k < nr; k++) {
		r = bale_raw_ckpt_read(io, f->super.uuid, no[k], step, f, &c);
		if (r == -ECANCELED || r == -ENOMEM)
			return r;
		if (!r) {
			*ret = c;
			*ret_any = true;
			continue;
		}
		if (bale_fsck_problem(f, BALE_FSCK_checkpoint,
				      "ckpt/%016" PRIx64 ": %s", no[k],
				      r == -EBADMSG ? "checksum mismatch" :
						      "damaged")) {
			f->want_checkpoint = true;
			r = bale_fsck_bad_ckpt(f, no[k]);
			if (r)
				return r;
		}
	}
	return 0;
}

/* ---- the log ---- */

struct log {
	struct bale_fsck *f;
	struct bale_raw_log raw;
	uint64_t *files;
	size_t nr;
};

/* Follow the log; *lsn is where it ends, *seq the number that would be next. */
static int follow(struct log *l, uint64_t *lsn, uint64_t *seq, bool any_seq)
{
	struct bale_log_info i;
	int r;

	for (;;) {
		r = bale_fsck_step(l->f);
		if (!r)
			r = bale_raw_log_next(&l->raw, lsn, *seq, any_seq, &i);
		if (r)
			return r == -ENOENT ? 0 : r;
		any_seq = false;
		*seq = i.seq + 1;
		*lsn = bale_raw_log_after(*lsn, &i);
	}
}

/* The first valid record with a later number in the rest of one file. */
static int search_file(struct log *l, uint64_t lsn, uint64_t seq,
		       uint64_t *ret_lsn)
{
	bale_autofree uint8_t *buf = malloc(WINDOW);
	struct bale_raw_log *raw = &l->raw;
	uint64_t base = lsn - lsn % raw->size;
	int r = bale_raw_log_use(raw, lsn / raw->size);

	if (r || !buf)
		return r == -ENOENT ? 0 : r ? r : -ENOMEM;
	for (uint64_t off = lsn % raw->size; off < raw->size; off += WINDOW) {
		struct bale_log_info i;
		size_t got = 0;

		r = bale_fsck_step(l->f);
		if (!r)
			r = BALE_IO(raw->io)->pread(raw->io, raw->fd, buf,
						    WINDOW, off, &got);
		if (r || !got)
			return r;
		for (size_t k = 0; k + sizeof(struct bale_disk_log) <= got;
		     k += BALE_ALIGN)
			if (!memcmp(buf + k, BALE_LOG_MAGIC, 8) &&
			    !bale_raw_log_read(raw, base + off + k, &i) &&
			    i.seq > seq) {
				*ret_lsn = base + off + k;
				return 1;
			}
	}
	return 0;
}

/* 1: *ret_lsn is a valid record behind the end. */
static int search_behind(struct log *l, uint64_t lsn, uint64_t seq,
			 uint64_t *ret_lsn)
{
	uint64_t size = l->raw.size;
	int r = search_file(l, lsn, seq, ret_lsn);

	for (size_t k = 0; k < l->nr && !r; k++)
		if (l->files[k] > lsn / size &&
		    l->files[k] <= UINT64_MAX / size)
			r = search_file(l, l->files[k] * size, seq, ret_lsn);
	return r;
}

static int walk(struct log *l, const struct bale_raw_ckpt *c, bool any)
{
	struct bale_fsck *f = l->f;
	uint64_t lsn = any ? c->start_lsn : l->files[0] * l->raw.size;
	uint64_t seq = any ? c->start_seq : 0, behind;
	int r = follow(l, &lsn, &seq, !any);

	if (r)
		return r;
	f->log_end = lsn;
	if (any && lsn < c->end_lsn) {
		bale_fsck_problem(f, BALE_FSCK_log,
				  "log: ends at 0x%" PRIx64 ", the newest "
				  "checkpoint needs it up to 0x%" PRIx64,
				  lsn, c->end_lsn);
		f->log_damaged = true;
		return 0;
	}
	r = search_behind(l, lsn, seq, &behind);
	if (r != 1)
		return r;
	bale_fsck_problem(f, BALE_FSCK_log,
			  "log: damaged at 0x%" PRIx64
			  ", goes on at 0x%" PRIx64,
			  lsn, behind);
	f->log_damaged = true;
	return 0;
}

int bale_fsck_log(struct bale_fsck *f, struct bale_io *io)
{
	struct log l = { .f = f };
	struct bale_raw_ckpt c = { 0 };
	bool any;
	int r = check_ckpts(f, io, &c, &any);

	if (!r)
		r = bale_raw_list(io, "log", &l.files, &l.nr);
	if (r)
		return r;
	bale_raw_log_init(&l.raw, io, &f->super);
	bale_fsck_phase(f, "log", 0);
	if (l.nr) {
		r = walk(&l, &c, any);
	} else {
		bale_fsck_problem(f, BALE_FSCK_log, "log: no files");
		f->log_damaged = true;
	}
	bale_raw_log_fini(&l.raw);
	free(l.files);
	return r;
}

/* ---- cutting it ---- */

/*
 * Interrupted anywhere, a log file is as it was or as it is to be, and while
 * what is behind the damage is there the next run finds the damage again: the
 * last file goes first, and the one with the damage is replaced at the end.
 */
static int move_aside(struct bale_io *io, uint64_t file)
{
	char from[32], to[48];
	int r;

	snprintf(from, sizeof(from), "log/%016" PRIx64, file);
	snprintf(to, sizeof(to), "damaged-log-%016" PRIx64, file);
	r = BALE_IO(io)->rename(io, from, to);
	if (!r)
		r = BALE_IO(io)->sync_dir(io, "");
	return r ? r : BALE_IO(io)->sync_dir(io, "log");
}

/* The first `keep` bytes of a log file, zeros up to `size`, under a new name.
 */
static int copy_file(struct bale_io *io, const char *from, const char *to,
		     uint64_t keep, uint64_t size)
{
	bale_autofree uint8_t *buf = malloc(WINDOW);
	int in = -1, out = -1, r;

	r = buf ? BALE_IO(io)->open(io, from, O_RDONLY, &in) : -ENOMEM;
	if (!r)
		r = BALE_IO(io)->open(io, CUT_TMP, O_RDWR | O_CREAT | O_TRUNC,
				      &out);
	for (uint64_t off = 0; off < size && !r; off += WINDOW) {
		uint64_t left = size - off;
		struct iovec v = { buf, left < WINDOW ? left : WINDOW };
		uint64_t good = off < keep ? keep - off : 0;
		size_t got;

		memset(buf, 0, WINDOW);
		if (good)
			r = BALE_IO(io)->pread(
				io, in, buf,
				good < v.iov_len ? good : v.iov_len, off, &got);
		if (!r)
			r = BALE_IO(io)->pwritev(io, out, &v, 1, off);
	}
	if (!r)
		r = BALE_IO(io)->sync(io, out);
	if (in >= 0)
		BALE_IO(io)->close(io, in);
	if (out >= 0)
		BALE_IO(io)->close(io, out);
	return r ? r : BALE_IO(io)->rename(io, CUT_TMP, to);
}

static int cut_file(struct bale_io *io, uint64_t file, uint64_t keep,
		    uint64_t size)
{
	char name[32], aside[48];
	int r;

	snprintf(name, sizeof(name), "log/%016" PRIx64, file);
	snprintf(aside, sizeof(aside), "damaged-log-%016" PRIx64, file);
	r = copy_file(io, name, aside, size, size);
	if (!r)
		r = BALE_IO(io)->sync_dir(io, "");
	if (!r)
		r = copy_file(io, name, name, keep, size);
	if (!r)
		r = BALE_IO(io)->sync_dir(io, "log");
	return r ? r : BALE_IO(io)->sync_dir(io, "");
}

int bale_fsck_log_cut(struct bale_fsck *f)
{
	uint64_t size = (uint64_t)1 << f->super.log_bits;
	uint64_t last = f->log_end / size, keep = f->log_end % size;
	bale_autofree uint64_t *no = NULL;
	struct bale_io *io;
	size_t nr = 0;
	int r = bale_io_open(f->path, false, &io);

	if (r)
		return r;
	r = bale_raw_list(io, "log", &no, &nr);
	/* The last one stays, be it of zeros only: the log begins with it when
	 * the checkpoint does. */
	for (size_t k = nr; k-- && !r && no[k] >= last;)
		r = no[k] == last ? cut_file(io, last, keep, size) :
				    move_aside(io, no[k]);
	bale_io_close(io);
	return r;
}
