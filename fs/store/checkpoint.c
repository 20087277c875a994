/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: all rows of the index as a checksummed stream of puts, so that
 * the index can be rebuilt and old log files given back. Written by whoever
 * holds the applier's claim: the index does not change meanwhile. Two are
 * kept, and the log from the older one's start.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/base/fault.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

enum {
	CHUNK = 1 << 20,
	CHUNK_MAX = 4 << 20,
	DUE_BYTES = 64 << 20,
	LOAD_ROWS = 20000
};

static void ckpt_name(char buf[32], uint64_t lsn)
{
	snprintf(buf, 32, "ckpt/%016" PRIx64, lsn);
}

/* So little room that the log must not grow as it likes: then checkpoints come
 * early, and one is kept. */
static bool is_tight(struct bale_meta *m)
{
	uint64_t total, left;

	return !BALE_IO(m->st->io)->space(m->st->io, &total, &left) &&
	       left < (uint64_t)4 * DUE_BYTES;
}

/* Less room than is kept for the log's growth and its checkpoint. */
static bool is_full(struct bale_meta *m)
{
	uint64_t total, left;

	return !BALE_IO(m->st->io)->space(m->st->io, &total, &left) &&
	       left < bale_meta_space_need(m);
}

bool bale_ckpt_late(struct bale_meta *m, size_t group_len)
{
	uint64_t grown = bale_wal_end(m->wal).lsn - atomic_load(&m->ckpt_at) +
			 group_len;

	return grown > (uint64_t)5 << m->st->super.log_bits && is_full(m);
}

bool bale_ckpt_due(struct bale_meta *m)
{
	uint64_t grown = bale_wal_end(m->wal).lsn - atomic_load(&m->ckpt_at);
	uint64_t last = atomic_load(&m->ckpt_bytes);
	uint64_t early = (uint64_t)4 << m->st->super.log_bits;

	if (grown > (last > DUE_BYTES ? last : DUE_BYTES))
		return true;
	if (grown > (last > early ? last : early) && is_tight(m))
		return true;
	return grown > early && is_full(m);
}

bool bale_ckpt_cheap(struct bale_meta *m)
{
	return bale_wal_end(m->wal).lsn - atomic_load(&m->ckpt_at) > DUE_BYTES / 8 &&
	       bale_kv_bytes(m->kv) < DUE_BYTES / 2;
}

struct writer {
	struct bale_meta *m;
	int fd;
	uint64_t off, nr_rows, nr_chunks;
	struct bale_buf body;
	uint64_t digest[BALE_TABLE_NR][2];
};

static int write_bytes(struct writer *w, const void *p, size_t len)
{
	struct bale_io *io = w->m->st->io;
	struct iovec iov = { (void *)p, len };
	int r = BALE_IO(io)->pwritev(io, w->fd, &iov, 1, w->off);

	w->off += len;
	return r;
}

static int write_chunk(struct writer *w)
{
	le32 head[2] = { le32_put((uint32_t)w->body.len),
			 le32_put(bale_crc32c(0, w->body.data, w->body.len)) };
	int r;

	if (!w->body.len)
		return 0;
	r = write_bytes(w, head, sizeof(head));
	if (!r)
		r = write_bytes(w, w->body.data, w->body.len);
	w->body.len = 0;
	w->nr_chunks++;
	return r;
}

static int add_row(struct writer *w, const struct bale_mem_row *row)
{
	struct bale_disk_op d = {
		.kind = BALE_OP_PUT,
		.table = (uint8_t)row->table,
		.key_len = le16_put((uint16_t)row->key_len),
		.val_len = le32_put((uint32_t)row->val_len),
	};
	uint64_t sum[2];
	int r = bale_buf_append(&w->body, &d, sizeof(d));

	bale_row_digest(row->table, row->key, row->key_len, row->val,
			row->val_len, sum);
	w->digest[row->table][0] += sum[0];
	w->digest[row->table][1] += sum[1];
	if (!r)
		r = bale_buf_append(&w->body, row->key, row->key_len);
	if (!r)
		r = bale_buf_append(&w->body, row->val, row->val_len);
	w->nr_rows++;
	return r || w->body.len < CHUNK ? r : write_chunk(w);
}

static int write_table(struct writer *w, struct bale_kv_txn *txn,
		       unsigned int table)
{
	struct bale_kv_iter *it;
	struct bale_mem_row row;
	int r = bale_kv_iter_open(w->m->kv, txn, table, "", 0, &it);

	if (r)
		return r;
	while (!(r = bale_kv_iter_next(it, &row)))
		if ((r = add_row(w, &row)))
			break;
	bale_kv_iter_close(it);
	return r == -ENOENT ? 0 : r;
}

static int write_rows(struct writer *w)
{
	struct bale_kv_txn *txn = NULL;
	int r = bale_kv_txn_renew(w->m->kv, &txn);

	for (unsigned int t = 0; !r && t < BALE_TABLE_NR; t++)
		r = write_table(w, txn, t);
	bale_kv_txn_free(txn);
	return r ? r : write_chunk(w);
}

/* A checkpoint lets go of the log: every row must be in it. A page of the
 * index that turned into an older one shows in no row's checksum. */
static int check_rows(struct writer *w, const struct bale_kv_position *p)
{
	if (!memcmp(w->digest, p->digest, sizeof(w->digest)))
		return 0;
	bale_kv_doubt(w->m->kv);
	bale_store_fail(w->m->st, -EUCLEAN, "index: rows missing or stale");
	return -EUCLEAN;
}

static int write_all(struct writer *w, const struct bale_kv_position *p)
{
	struct bale_disk_ckpt head = {
		.start_lsn = le64_put(p->lsn),
		.start_seq = le64_put(p->seq),
		.version = le32_put(BALE_FORMAT_VERSION),
	};
	struct bale_disk_ckpt_end end = { 0 };
	int r;

	memcpy(head.magic, BALE_CKPT_MAGIC, sizeof(head.magic));
	memcpy(head.uuid, w->m->st->super.uuid, sizeof(head.uuid));
	head.crc = le32_put(
		bale_crc32c(0, &head, offsetof(struct bale_disk_ckpt, crc)));
	r = write_bytes(w, &head, sizeof(head));
	if (!r)
		r = write_rows(w);
	if (!r)
		r = check_rows(w, p);
	memcpy(end.magic, BALE_CKPT_END_MAGIC, sizeof(end.magic));
	end.end_lsn = le64_put(bale_wal_whole(w->m->wal));
	end.nr_rows = le64_put(w->nr_rows);
	end.nr_chunks = le64_put(w->nr_chunks);
	end.crc = le32_put(
		bale_crc32c(0, &end, offsetof(struct bale_disk_ckpt_end, crc)));
	return r ? r : write_bytes(w, &end, sizeof(end));
}

/* ---- the ones that are there ---- */

enum { FOUND_MAX = 64 };

struct found {
	uint64_t lsn[FOUND_MAX]; /* newest first */
	unsigned int nr;
};

static int note_ckpt(const char *name, void *arg)
{
	struct found *f = arg;
	char *end;
	uint64_t lsn = strtoull(name, &end, 16);
	unsigned int i;

	if (*end || end - name != 16)
		return 0;
	/* Of too many the newest count. */
	for (i = f->nr; i && f->lsn[i - 1] < lsn; i--)
		if (i < FOUND_MAX)
			f->lsn[i] = f->lsn[i - 1];
	if (i < FOUND_MAX)
		f->lsn[i] = lsn;
	f->nr += f->nr < FOUND_MAX;
	return 0;
}

/* One that was removed may be back after a power cut. */
static void remove_older(struct bale_meta *m, uint64_t lsn)
{
	struct bale_io *io = m->st->io;
	struct found f = { 0 };
	char name[32];

	if (BALE_IO(io)->list(io, "ckpt", note_ckpt, &f))
		return;
	for (unsigned int i = 0; i < f.nr; i++)
		if (f.lsn[i] < lsn) {
			ckpt_name(name, f.lsn[i]);
			BALE_IO(io)->unlink(io, name);
		}
}

/* The log before the older kept checkpoint, and checkpoints before it, go. */
static void retire(struct bale_meta *m, uint64_t fresh)
{
	if (fresh == m->ckpt_lsn[0])
		return; /* written over itself */
	m->ckpt_lsn[1] = m->ckpt_lsn[0];
	m->ckpt_lsn[0] = fresh;
	if (m->ckpt_lsn[1] != UINT64_MAX)
		remove_older(m, m->ckpt_lsn[1]);
	if (m->ckpt_lsn[1] == UINT64_MAX || is_tight(m)) {
		m->ckpt_lsn[1] = UINT64_MAX;
		remove_older(m, fresh);
	}
	/* With one checkpoint only, the log of old is its second source: where
	 * there is room for it. */
	if (m->ckpt_lsn[1] != UINT64_MAX)
		bale_wal_release(m->wal, m->ckpt_lsn[1]);
	else if (is_tight(m))
		bale_wal_release(m->wal, m->ckpt_lsn[0]);
}

int bale_ckpt_write(struct bale_meta *m)
{
	struct bale_io *io = m->st->io;
	struct writer w = { .m = m };
	struct bale_kv_position p;
	char name[32];
	int r;

	/* A checkpoint lets go of the log: never on a doubtful index. */
	if (bale_kv_doubtful(m->kv))
		return -EUCLEAN;
	bale_kv_position(m->kv, &p);
	r = BALE_FAULT("meta.checkpoint");
	if (!r)
		r = BALE_IO(io)->open(io, "ckpt/new",
				      O_RDWR | O_CREAT | O_TRUNC, &w.fd);
	if (r)
		return r;
	r = write_all(&w, &p);
	if (!r)
		r = BALE_IO(io)->sync(io, w.fd);
	BALE_IO(io)->close(io, w.fd);
	bale_buf_fini(&w.body);
	ckpt_name(name, p.lsn);
	if (!r)
		r = BALE_IO(io)->rename(io, "ckpt/new", name);
	if (!r)
		r = BALE_IO(io)->sync_dir(io, "ckpt");
	if (r) {
		BALE_IO(io)->unlink(io, "ckpt/new");
		return r;
	}
	atomic_store(&m->ckpt_bytes, w.off);
	atomic_store(&m->ckpt_at, bale_wal_end(m->wal).lsn);
	BALE_FAULT_POINT("checkpoint.named");
	retire(m, p.lsn);
	BALE_FAULT_POINT("checkpoint.retired");
	return 0;
}

/* ---- finding and loading ---- */

/* One under a wrong name would say of the log that it is not needed: its own
 * header counts. */
static bool is_named_right(struct bale_meta *m, uint64_t lsn)
{
	uint8_t head[sizeof(struct bale_disk_ckpt)];
	uint64_t start, seq;
	size_t len = 0;
	char name[32];

	ckpt_name(name, lsn);
	return !bale_io_read_file(m->st->io, name, head, sizeof(head), &len) &&
	       !bale_ckpt_decode(head, len, m->st->super.uuid, &start, &seq) &&
	       start == lsn;
}

int bale_ckpt_find(struct bale_meta *m)
{
	struct bale_io *io = m->st->io;
	struct found f = { 0 };
	uint64_t allocated, len = 0;
	unsigned int nr = 0;
	char name[32];
	int fd, r = BALE_IO(io)->list(io, "ckpt", note_ckpt, &f);

	for (unsigned int i = 0; i < f.nr; i++)
		if (is_named_right(m, f.lsn[i]))
			f.lsn[nr++] = f.lsn[i];
	m->ckpt_lsn[0] = nr > 0 ? f.lsn[0] : UINT64_MAX;
	m->ckpt_lsn[1] = nr > 1 ? f.lsn[1] : UINT64_MAX;
	atomic_store(&m->ckpt_at, nr ? f.lsn[0] : 0);
	if (!r && nr) {
		ckpt_name(name, f.lsn[0]);
		if (!BALE_IO(io)->open(io, name, O_RDONLY, &fd)) {
			BALE_IO(io)->size(io, fd, &len, &allocated);
			BALE_IO(io)->close(io, fd);
		}
		atomic_store(&m->ckpt_bytes, len);
	}
	return r;
}

struct loader {
	struct bale_meta *m;
	int fd;
	uint64_t lsn; /* its name */
	uint64_t off, len, nr_rows, nr_chunks;
	unsigned int in_txn;
	bool dry; /* check only */
};

static int load_bytes(struct loader *l, void *buf, size_t len)
{
	struct bale_io *io = l->m->st->io;
	size_t got;
	int r = BALE_IO(io)->pread(io, l->fd, buf, len, l->off, &got);

	l->off += len;
	return r ? r : got == len ? 0 : -EUCLEAN;
}

static int load_ops(struct loader *l, const uint8_t *body, size_t len)
{
	struct bale_op op;
	size_t pos = 0;
	int r;

	while (!(r = bale_op_next(body, len, &pos, &op))) {
		struct bale_mem_row row = { .table = op.table,
					    .key = op.key,
					    .key_len = op.key_len,
					    .deleted = op.kind == BALE_OP_DEL,
					    .val = op.val,
					    .val_len = op.val_len };

		l->nr_rows++;
		if (l->dry)
			continue;
		if (!l->in_txn)
			r = bale_kv_begin(l->m->kv);
		if (!r)
			r = bale_kv_put(l->m->kv, &row);
		if (!r && ++l->in_txn == LOAD_ROWS) {
			l->in_txn = 0;
			r = bale_kv_commit(l->m->kv, NULL);
		}
		if (r)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

static int load_chunks(struct loader *l)
{
	uint64_t end = l->len - sizeof(struct bale_disk_ckpt_end);
	bale_autofree uint8_t *body = malloc(CHUNK_MAX);
	int r = body ? 0 : -ENOMEM;

	while (!r && l->off < end) {
		le32 head[2];
		uint32_t len;

		r = load_bytes(l, head, sizeof(head));
		len = le32_get(head[0]);
		if (!r && (!len || len > CHUNK_MAX || len > end - l->off))
			r = -EUCLEAN;
		if (!r)
			r = load_bytes(l, body, len);
		if (!r && bale_crc32c(0, body, len) != le32_get(head[1]))
			r = -EBADMSG;
		if (!r)
			r = load_ops(l, body, len);
		l->nr_chunks++;
	}
	return r;
}

/* One pass over a checkpoint; dry first, so that a damaged one leaves the
 * index being built untouched. */
static int load_one(struct loader *l, struct bale_wal_position *ret_from,
		    uint64_t *ret_end_lsn)
{
	uint8_t head[sizeof(struct bale_disk_ckpt)];
	uint8_t tail[sizeof(struct bale_disk_ckpt_end)];
	uint64_t rows, chunks;
	int r;

	l->off = l->len - sizeof(tail);
	r = load_bytes(l, tail, sizeof(tail));
	if (!r)
		r = bale_ckpt_end_decode(tail, sizeof(tail), ret_end_lsn, &rows,
					 &chunks);
	ret_from->last_lsn = BALE_WAL_NONE;
	l->off = 0;
	l->nr_rows = l->nr_chunks = 0;
	if (!r)
		r = load_bytes(l, head, sizeof(head));
	if (!r)
		r = bale_ckpt_decode(head, sizeof(head), l->m->st->super.uuid,
				     &ret_from->lsn, &ret_from->seq);
	if (!r && ret_from->lsn != l->lsn)
		r = -EUCLEAN;
	if (!r)
		r = load_chunks(l);
	if (!r && (l->nr_rows != rows || l->nr_chunks != chunks))
		r = -EUCLEAN;
	if (!r && l->in_txn)
		r = bale_kv_commit(l->m->kv, NULL);
	l->in_txn = 0;
	return r;
}

static int try_load(struct bale_meta *m, uint64_t lsn,
		    struct bale_wal_position *ret_from, uint64_t *ret_end_lsn)
{
	struct bale_io *io = m->st->io;
	struct loader l = { .m = m, .lsn = lsn, .dry = true };
	uint64_t allocated;
	char name[32];
	int r;

	ckpt_name(name, lsn);
	r = BALE_IO(io)->open(io, name, O_RDONLY, &l.fd);
	if (r)
		return r;
	r = BALE_IO(io)->size(io, l.fd, &l.len, &allocated);
	if (!r && l.len < sizeof(struct bale_disk_ckpt) +
				  sizeof(struct bale_disk_ckpt_end))
		r = -EUCLEAN;
	if (!r)
		r = load_one(&l, ret_from, ret_end_lsn);
	l.dry = false;
	if (!r)
		r = load_one(&l, ret_from, ret_end_lsn);
	if (l.in_txn)
		bale_kv_abort(m->kv);
	BALE_IO(io)->close(io, l.fd);
	return r;
}

/* A damaged checkpoint serves nobody, and must not count as one of the two. */
static void discard(struct bale_meta *m, uint64_t lsn, int why)
{
	char name[32];

	bale_warn("checkpoint %016" PRIx64 " is not usable: %s", lsn,
		  strerror(-why));
	if (m->read_only || (why != -EUCLEAN && why != -EBADMSG))
		return;
	ckpt_name(name, lsn);
	BALE_IO(m->st->io)->unlink(m->st->io, name);
}

int bale_ckpt_load(struct bale_meta *m, struct bale_wal_position *ret_from,
		   uint64_t *ret_end_lsn)
{
	struct found f = { 0 };
	int r = BALE_IO(m->st->io)->list(m->st->io, "ckpt", note_ckpt, &f);
	unsigned int i;

	for (i = 0; !r && i < f.nr; i++) {
		int e = try_load(m, f.lsn[i], ret_from, ret_end_lsn);

		if (e == -ENOMEM || e == -ENOSPC)
			return e;
		if (!e)
			break;
		discard(m, f.lsn[i], e);
	}
	m->ckpt_lsn[0] = i < f.nr ? f.lsn[i] : UINT64_MAX;
	m->ckpt_lsn[1] = i + 1 < f.nr ? f.lsn[i + 1] : UINT64_MAX;
	atomic_store(&m->ckpt_at, i < f.nr ? f.lsn[i] : 0);
	return r || i < f.nr ? r : -ENOENT;
}
