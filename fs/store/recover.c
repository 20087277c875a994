/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: find an index that can be believed, or build one from the newest
 * good checkpoint (or from nothing), and replay the log over it.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"

enum { REPLAY_BYTES = 64 << 20 };

static int index_path(struct bale_meta *m, char **ret)
{
	return asprintf(ret, "%s/index", m->st->path) < 0 ? -ENOMEM : 0;
}

static void note_rebuild(struct bale_meta *m, const char *why)
{
	m->rebuilt = true;
	snprintf(m->rebuild_reason, sizeof(m->rebuild_reason), "%s", why);
}

static void remove_files(const char *dir)
{
	static const char *const files[] = { "data.mdb", "lock.mdb" };
	bale_autofree char *path = NULL;

	for (size_t i = 0; i < 2; i++) {
		free(path);
		path = NULL;
		if (asprintf(&path, "%s/%s", dir, files[i]) >= 0)
			unlink(path);
	}
}

/* A read-only mount writes nothing into the store: its index is elsewhere. */
static int make_private_index(struct bale_meta *m)
{
	const char *tmp = getenv("TMPDIR");
	char *dir;

	if (asprintf(&dir, "%s/balefs-index-XXXXXX", tmp ? tmp : "/tmp") < 0)
		return -ENOMEM;
	if (!mkdtemp(dir)) {
		int r = -errno;

		free(dir);
		return r;
	}
	m->private_index = dir;
	return 0;
}

/* An empty index to build in. */
static int fresh_index(struct bale_meta *m, const char *path)
{
	int r;

	if (m->read_only) {
		r = make_private_index(m);
		return r ? r :
			   bale_kv_open(m->private_index, false, true, &m->kv);
	}
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	remove_files(path);
	return bale_kv_open(path, false, true, &m->kv);
}

struct replay {
	struct bale_meta *m;
	struct bale_wal_position next; /* behind the last whole group */
};

static int replay_op(const struct bale_op *op, void *arg)
{
	struct replay *rp = arg;

	return bale_memtable_put(rp->m->active, op->table, op->key, op->key_len,
				 op->kind == BALE_OP_PUT ? op->val : NULL,
				 op->val_len);
}

/* Keep memory bounded: what was replayed moves into the index as it comes. */
static int replay_group(const struct bale_wal_position *next, void *arg)
{
	struct replay *rp = arg;
	struct bale_meta *m = rp->m;
	struct bale_memtable *fresh;
	int r;

	rp->next = *next;
	if ((m->read_only && !m->private_index) ||
	    bale_memtable_bytes(m->active) < REPLAY_BYTES)
		return 0;
	r = bale_memtable_create(&fresh);
	if (!r)
		r = bale_meta_move_rows(m, m->active, next);
	if (r)
		return r;
	bale_memtable_unref(m->active);
	m->active = fresh;
	return 0;
}

static int replay_log(struct bale_meta *m, struct bale_wal_position from,
		      uint64_t at_least)
{
	struct replay rp = { .m = m, .next = from };
	struct bale_wal_position end;
	int r = bale_wal_replay(m->wal, from, replay_op, replay_group, &rp,
				&end);

	if (!r && end.lsn < at_least) {
		bale_err("log: ends at %#" PRIx64
			 ", but what it was replayed over needs it up to "
			 "%#" PRIx64,
			 end.lsn, at_least);
		r = -EUCLEAN;
	}
	if (r)
		return r;
	/* Never smaller than in any earlier life of this store: a staged
	 * transaction takes bytes, so positions outrun them. */
	m->staged = m->durable = end.lsn;
	return m->read_only ? 0 : bale_wal_start(m->wal, end);
}

static int rebuild(struct bale_meta *m, const char *path, const char *why)
{
	struct bale_wal_position from = { 0, 1 };
	uint64_t end_lsn = 0;
	int r;

	note_rebuild(m, why);
	bale_log(strcmp(why, "missing") ? BALE_LOG_INFO : BALE_LOG_DEBUG,
		 "%s: index %s: building it from checkpoint and log",
		 m->st->path, why);
	bale_kv_close(m->kv);
	m->kv = NULL;
	r = fresh_index(m, path);
	if (!r)
		r = bale_ckpt_load(m, &from, &end_lsn);
	if (r == -ENOENT) {
		from = (struct bale_wal_position){ 0, 1 };
		end_lsn = 0;
		r = 0;
	}
	return r ? r : replay_log(m, from, end_lsn);
}

static int use_index(struct bale_meta *m, const char *path,
		     const char **ret_why)
{
	struct bale_kv_position p;
	int r = bale_kv_open(path, m->read_only, false, &m->kv);

	if (r) {
		*ret_why = r == -ENOENT ? "missing" : "damaged";
		return r;
	}
	bale_kv_position(m->kv, &p);
	if (!p.seq) {
		*ret_why = "unfinished";
		return -EUCLEAN;
	}
	return replay_log(m, (struct bale_wal_position){ p.lsn, p.seq }, p.lsn);
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

int bale_meta_recover(struct bale_meta *m, const struct bale_store_options *o)
{
	bale_autofree char *path = NULL;
	const char *why = NULL;
	int r = index_path(m, &path);

	if (!r)
		r = bale_ckpt_find(m);
	if (r)
		return r;
	if (o->untrusted)
		why = "not trusted";
	else if (o->rebuild_index)
		why = "to be rebuilt";
	else
		r = use_index(m, path, &why);
	if (why)
		r = rebuild(m, path, why);
	return r ? r : check_root(m);
}
