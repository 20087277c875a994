/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: find an index that can be believed, or build one from the newest
 * good checkpoint (or from the log's very beginning), and replay the log.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/base/fault.h"
#include "fs/base/log.h"

enum { REPLAY_BYTES = 16 << 20 };

static int replay_op(const struct bale_op *op, void *arg)
{
	struct bale_meta *m = arg;

	return bale_memtable_put(
		atomic_load(&m->active), op->table, op->key, op->key_len,
		op->kind == BALE_OP_PUT ? op->val : NULL, op->val_len);
}

/* Keep memory bounded: what was replayed moves into the index as it comes,
 * unless the index is the store's and the store is only read. */
static int replay_group(const struct bale_wal_position *next, void *arg)
{
	struct bale_meta *m = arg;
	struct bale_memtable *fresh, *full = atomic_load(&m->active);
	int r;

	if ((m->read_only && !m->private_index) ||
	    bale_memtable_bytes(full) < REPLAY_BYTES)
		return 0;
	r = bale_memtable_create(&fresh);
	if (r)
		return r;
	r = bale_meta_move_rows(m, full, next);
	if (r) {
		bale_memtable_destroy(fresh);
		return r;
	}
	atomic_store(&m->active, fresh); /* nobody else reads yet */
	bale_memtable_destroy(full);
	return 0;
}

static int replay_log(struct bale_meta *m, struct bale_wal_position from,
		      uint64_t at_least, bool salvage)
{
	struct bale_wal_replay how = { replay_op, replay_group, m, salvage };
	struct bale_wal_position end;
	int r = bale_wal_replay(m->wal, from, &how, &end);

	if (!r && end.lsn < at_least && !salvage) {
		bale_err("%s: log: ends at lsn %#" PRIx64
			 ", but what it is replayed over needs it up to "
			 "%#" PRIx64,
			 m->st->path, end.lsn, at_least);
		r = -EUCLEAN;
	}
	if (r)
		return r;
	/* Never smaller than in any earlier life of this store: a staged
	 * transaction takes bytes, so positions outrun them. */
	m->staged = end.lsn;
	atomic_store(&m->durable, end.lsn);
	return m->read_only ? 0 : bale_wal_start(m->wal, end);
}

static int drop_all(struct bale_meta *m)
{
	struct bale_memtable *fresh;
	int r = bale_memtable_create(&fresh);

	if (r)
		return r;
	bale_memtable_destroy(atomic_load(&m->active));
	atomic_store(&m->active, fresh);
	bale_index_close(m, false);
	return 0;
}

/* keep: nothing says that the index is damaged, it may just not be readable
 * now; and it may have what the log has lost. */
static int rebuild(struct bale_meta *m, const char *why, bool salvage,
		   bool keep)
{
	struct bale_wal_position from = { 0, 1, BALE_WAL_NONE };
	uint64_t end_lsn = 0;
	int r = drop_all(m);

	m->rebuilt = true;
	snprintf(m->rebuild_reason, sizeof(m->rebuild_reason), "%s", why);
	bale_log(strcmp(why, "missing") ? BALE_LOG_WARN : BALE_LOG_DEBUG,
		 "%s: index %s: building it from checkpoint and log",
		 m->st->path, why);
	if (!r)
		r = bale_index_create(m, keep);
	if (r) {
		bale_err("%s: index: cannot be made: %s (it is reached through "
			 "/proc)",
			 m->st->path, strerror(-r));
		return r == -ENOENT ? -EINVAL : r;
	}
	BALE_FAULT_POINT("recover.created");
	r = bale_ckpt_load(m, &from, &end_lsn);
	BALE_FAULT_POINT("recover.loaded");
	if (r == -ENOENT) {
		from = (struct bale_wal_position){ 0, 1, BALE_WAL_NONE };
		end_lsn = 0;
		r = 0;
	}
	if (!r)
		r = replay_log(m, from, end_lsn, salvage);
	if (r == -ENOENT) {
		bale_err("%s: log: does not reach back to lsn %#" PRIx64
			 ", from where on it is needed",
			 m->st->path, from.lsn);
		r = -EUCLEAN;
	}
	return r ? r : bale_index_settle(m);
}

/*
 * The log is damaged before the place that the index has reached: nothing is
 * lost, but nothing could be rebuilt either. A checkpoint ends that.
 */
static int mend_log(struct bale_meta *m, struct bale_wal_position from)
{
	int r = bale_wal_check_last(m->wal, from);

	if (r != -EUCLEAN)
		return r;
	bale_warn("%s: log: damaged before lsn %#" PRIx64
		  "; the index has what was there%s",
		  m->st->path, from.lsn,
		  m->read_only ? "" : ": writing a checkpoint");
	return m->read_only ? 0 : bale_ckpt_write(m);
}

static int use_index(struct bale_meta *m, char *why, size_t cap)
{
	struct bale_wal_position from;
	struct bale_kv_position p;
	int r = bale_index_open(m, why, cap);

	if (r)
		return r;
	bale_kv_position(m->kv, &p);
	from = (struct bale_wal_position){ p.lsn, p.seq, p.last_lsn };
	r = replay_log(m, from, 0, false);
	if (r == -ENOENT)
		snprintf(why, cap, "older than the log");
	return r ? r : mend_log(m, from);
}

/* The log must hold something: a store without its first record has lost
 * its root directory. */
static int check_root(struct bale_meta *m)
{
	struct bale_disk_inode d;
	be64 key = be64_put(BALE_ROOT_INO);
	size_t len;
	int r = bale_meta_get(m, BALE_TABLE_inode, &key, sizeof(key), &d,
			      sizeof(d), &len);

	if (r)
		bale_err("%s: no root directory: %s", m->st->path,
			 strerror(-r));
	return r == -ENOENT ? -EUCLEAN : r;
}

/* What was read is wrong, or there is none. */
static bool is_verdict(int r)
{
	return r == -ENOENT || r == -EUCLEAN || r == -EBADMSG;
}

int bale_meta_recover(struct bale_meta *m, const struct bale_store_options *o)
{
	char why[96] = "";
	int r = bale_ckpt_find(m);

	if (r)
		return r;
	if (o->untrusted)
		snprintf(why, sizeof(why), "not trusted");
	else if (o->rebuild_index)
		snprintf(why, sizeof(why), "to be rebuilt");
	else
		r = use_index(m, why, sizeof(why));
	if (why[0])
		r = rebuild(m, why, o->rebuild_index,
			    !r || !is_verdict(r)); /* 0: nobody looked */
	BALE_FAULT_POINT("recover.replayed");
	return r ? r : check_root(m);
}
