/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power loss under SQLite: a database in a store, through a VFS of its own
 * that calls the core, while everything that reaches the backing directory is
 * recorded; then stores as a power cut could have left them. In each the
 * database passes its own integrity check, and holds the transactions that it
 * had acknowledged, at most one more, whole.
 *
 *   test_powerloss_sqlite delete|wal [SEED [STATES|every [TRANSACTIONS]]]
 *
 * Deterministic for a seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "powerloss.h"

enum { MAX_TXNS = 400 };

static struct bale_fs *fs;
static struct bale_inode *root;

/* ---- the VFS: one connection, so locks are nothing ---- */

struct vfile {
	sqlite3_file base;
	struct bale_inode *i;
	char unlink[24]; /* when closed; "": not */
};

static int v_close(sqlite3_file *f)
{
	struct vfile *v = (struct vfile *)f;

	if (v->i)
		bale_inode_put(v->i);
	if (v->unlink[0])
		bale_dir_unlink(root, v->unlink);
	return SQLITE_OK;
}

static int v_read(sqlite3_file *f, void *buf, int len, sqlite3_int64 off)
{
	struct vfile *v = (struct vfile *)f;
	size_t done = 0;

	while (done < (size_t)len) {
		struct bale_read rd;
		size_t at = done;

		if (bale_file_read(v->i, (uint64_t)off + done,
				   (size_t)len - done, &rd))
			return SQLITE_IOERR_READ;
		for (unsigned int k = 0; k < rd.nr_iov; k++) {
			memcpy((char *)buf + done, rd.iov[k].iov_base,
			       rd.iov[k].iov_len);
			done += rd.iov[k].iov_len;
		}
		bale_file_read_done(&rd);
		if (done == at)
			break;
	}
	if (done == (size_t)len)
		return SQLITE_OK;
	memset((char *)buf + done, 0, (size_t)len - done);
	return SQLITE_IOERR_SHORT_READ;
}

static int v_write(sqlite3_file *f, const void *buf, int len, sqlite3_int64 off)
{
	struct vfile *v = (struct vfile *)f;
	struct iovec iov = { (void *)buf, (size_t)len };

	return bale_file_write(v->i, &iov, 1, (uint64_t)off, false, false) ?
		       SQLITE_IOERR_WRITE :
		       SQLITE_OK;
}

static int v_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	struct vfile *v = (struct vfile *)f;
	struct bale_setattr a = { .valid = BALE_SET_SIZE,
				  .size = (uint64_t)size };

	return bale_inode_setattr(v->i, &a) ? SQLITE_IOERR_TRUNCATE : SQLITE_OK;
}

static int v_sync(sqlite3_file *f, int flags)
{
	struct vfile *v = (struct vfile *)f;

	return bale_file_fsync(v->i, flags & SQLITE_SYNC_DATAONLY) ?
		       SQLITE_IOERR_FSYNC :
		       SQLITE_OK;
}

static int v_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	struct vfile *v = (struct vfile *)f;
	struct bale_inode_row row;

	bale_inode_attr(v->i, &row);
	*ret = (sqlite3_int64)row.size;
	return SQLITE_OK;
}

static int v_lock(sqlite3_file *f, int how)
{
	(void)f;
	(void)how;
	return SQLITE_OK;
}

static int v_reserved(sqlite3_file *f, int *ret)
{
	(void)f;
	*ret = 0;
	return SQLITE_OK;
}

static int v_control(sqlite3_file *f, int op, void *arg)
{
	(void)f;
	(void)op;
	(void)arg;
	return SQLITE_NOTFOUND;
}

static int v_sector(sqlite3_file *f)
{
	(void)f;
	return 4096;
}

static int v_traits(sqlite3_file *f)
{
	(void)f;
	return 0;
}

static const sqlite3_io_methods methods = {
	.iVersion = 1,
	.xClose = v_close,
	.xRead = v_read,
	.xWrite = v_write,
	.xTruncate = v_truncate,
	.xSync = v_sync,
	.xFileSize = v_size,
	.xLock = v_lock,
	.xUnlock = v_lock,
	.xCheckReservedLock = v_reserved,
	.xFileControl = v_control,
	.xSectorSize = v_sector,
	.xDeviceCharacteristics = v_traits,
};

static int v_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f,
		  int flags, int *ret_flags)
{
	static unsigned int temporary;
	struct vfile *v = (struct vfile *)f;
	struct bale_cred cred = { 0 };
	char temp[24];
	int r;

	(void)vfs;
	memset(v, 0, sizeof(*v));
	if (!name) {
		snprintf(temp, sizeof(temp), "temp%u", temporary++);
		name = temp;
	}
	if (flags & SQLITE_OPEN_DELETEONCLOSE)
		snprintf(v->unlink, sizeof(v->unlink), "%s", name);
	r = bale_dir_lookup(root, name, &v->i);
	if (r == -ENOENT && flags & SQLITE_OPEN_CREATE)
		r = bale_dir_create(root, name, S_IFREG | 0644, 0, &cred,
				    &v->i);
	if (r)
		return SQLITE_CANTOPEN;
	v->base.pMethods = &methods;
	if (ret_flags)
		*ret_flags = flags;
	return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	int r = bale_dir_unlink(root, name);

	(void)vfs;
	if (!r && sync_dir) /* fsync of the directory */
		r = bale_meta_sync(bale_fs_meta(fs), 0);
	return r == -ENOENT ? SQLITE_IOERR_DELETE_NOENT :
	       r	    ? SQLITE_IOERR_DELETE :
			      SQLITE_OK;
}

static int v_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	struct bale_inode_row row = { 0 };
	struct bale_inode *i;

	(void)vfs;
	*ret = !bale_dir_lookup(root, name, &i);
	if (*ret) {
		bale_inode_attr(i, &row);
		bale_inode_put(i);
	}
	/* An empty journal is none. */
	if (flags == SQLITE_ACCESS_EXISTS && !row.size)
		*ret = 0;
	return SQLITE_OK;
}

static int v_path(sqlite3_vfs *vfs, const char *name, int cap, char *ret)
{
	(void)vfs;
	snprintf(ret, (size_t)cap, "%s", name);
	return SQLITE_OK;
}

static int v_random(sqlite3_vfs *vfs, int len, char *buf)
{
	(void)vfs;
	for (int k = 0; k < len; k++)
		buf[k] = (char)bale_pl_draw(256);
	return len;
}

static int v_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	return us;
}

static int v_time(sqlite3_vfs *vfs, double *ret)
{
	(void)vfs;
	*ret = 2460000.5;
	return SQLITE_OK;
}

static sqlite3_vfs vfs = {
	.iVersion = 1,
	.szOsFile = sizeof(struct vfile),
	.mxPathname = 20,
	.zName = "bale",
	.xOpen = v_open,
	.xDelete = v_delete,
	.xAccess = v_access,
	.xFullPathname = v_path,
	.xRandomness = v_random,
	.xSleep = v_sleep,
	.xCurrentTime = v_time,
};

/* ---- the work ---- */

static const char *journal;	   /* "delete", "wal" */
static size_t acked[MAX_TXNS + 1]; /* events when transaction n was */
static unsigned int nr_acked;

static int run_sql(sqlite3 *db, const char *fmt, ...)
{
	char *sql;
	va_list ap;
	int r;

	va_start(ap, fmt);
	sql = sqlite3_vmprintf(fmt, ap);
	va_end(ap);
	r = sqlite3_exec(db, sql, NULL, NULL, NULL);
	sqlite3_free(sql);
	return r;
}

static void must_sql(sqlite3 *db, int r, const char *what)
{
	if (r == SQLITE_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(db));
	exit(1);
}

static int open_db(sqlite3 **ret)
{
	int r = sqlite3_open_v2(
		"db", ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "bale");

	/* EXTRA: with a journal that is deleted, the directory is synced. */
	if (!r)
		r = run_sql(*ret,
			    "PRAGMA locking_mode=EXCLUSIVE; "
			    "PRAGMA journal_mode=%s; PRAGMA synchronous=EXTRA; "
			    "PRAGMA temp_store=MEMORY; "
			    "PRAGMA wal_autocheckpoint=20",
			    journal);
	return r;
}

/* Rows tell the transaction that wrote them; s has their sum and number. */
static void one_txn(sqlite3 *db, unsigned int n)
{
	int r = run_sql(db, "BEGIN");

	for (uint64_t k = 1 + bale_pl_draw(6); !r && k; k--)
		r = run_sql(db,
			    "INSERT OR REPLACE INTO t VALUES(%d, %u, "
			    "%s(%d))",
			    (int)bale_pl_draw(300), n,
			    bale_pl_draw(2) ? "zeroblob" : "randomblob",
			    (int)bale_pl_draw(bale_pl_draw(5) ? 200 : 6000));
	if (!r && bale_pl_draw(3) == 0)
		r = run_sql(db, "DELETE FROM t WHERE id %% 17 = %d",
			    (int)bale_pl_draw(17));
	if (!r)
		r = run_sql(db,
			    "REPLACE INTO s SELECT 0, %u, total(seq), count(*) "
			    "FROM t",
			    n);
	if (!r)
		r = run_sql(db, "COMMIT");
	must_sql(db, r, "transaction");
	acked[n] = bale_rec_count();
	nr_acked = n;
}

static size_t run_workload(const char *store, unsigned int txns)
{
	sqlite3 *db;

	if (txns > MAX_TXNS)
		txns = MAX_TXNS;
	bale_pl_mkfs(store);
	bale_pl_must(bale_pl_open(store, &bale_rec_ops, 0, &fs, &root), "open");
	must_sql(NULL, open_db(&db), "open");
	must_sql(db,
		 run_sql(db,
			 "CREATE TABLE t(id INTEGER PRIMARY KEY, seq INT, "
			 "pad BLOB); CREATE INDEX i ON t(seq); "
			 "CREATE TABLE s(k INTEGER PRIMARY KEY, seq INT, "
			 "sum REAL, nr INT); INSERT INTO s VALUES(0,0,0,0)"),
		 "schema");
	acked[0] = bale_rec_count();
	for (unsigned int n = 1; n <= txns; n++) {
		one_txn(db, n);
		if (bale_pl_draw(10) == 0)
			bale_pl_ballast(root);
		if (bale_pl_draw(10) == 0)
			bale_pl_must(bale_meta_checkpoint(bale_fs_meta(fs)),
				     "ckpt");
		if (bale_pl_draw(10) == 0)
			bale_pl_must(
				bale_cleaner_run(bale_fs_store(fs), UINT64_MAX),
				"clean");
	}
	sqlite3_close(db);
	bale_pl_must(bale_pl_close(fs, root), "close");
	return acked[0];
}

/* ---- a state ---- */

static int first_value(void *arg, int nr, char **values, char **names)
{
	char *text = arg;

	(void)names;
	if (nr > 0 && !text[0])
		snprintf(text, 64, "%s", values[0] ? values[0] : "");
	return 0;
}

static void ask(sqlite3 *db, const char *sql, char text[64])
{
	char *err = NULL;

	text[0] = 0;
	if (sqlite3_exec(db, sql, first_value, text, &err))
		snprintf(text, 64, "%s", err ? err : "error");
	sqlite3_free(err);
}

/* NULL, or what is wrong. */
static const char *check_db(size_t k, char text[64])
{
	unsigned int low = 0, seq;
	sqlite3 *db = NULL;
	const char *what = NULL;

	while (low < nr_acked && acked[low + 1] <= k)
		low++;
	if (open_db(&db)) {
		snprintf(text, 64, "%s", sqlite3_errmsg(db));
		what = "does not open";
	}
	if (!what) {
		ask(db, "PRAGMA integrity_check", text);
		what = strcmp(text, "ok") ? "integrity check" : NULL;
	}
	if (!what) {
		ask(db, "SELECT seq FROM s", text);
		seq = (unsigned int)atoi(text);
		if (!text[0] || seq < low)
			what = "an acknowledged transaction is lost";
		else if (seq > low + 1)
			what = "a transaction from the future";
	}
	if (!what) {
		ask(db,
		    "SELECT sum = (SELECT total(seq) FROM t) AND nr = (SELECT "
		    "count(*) FROM t) FROM s",
		    text);
		what = strcmp(text, "1") ? "half a transaction" : NULL;
	}
	sqlite3_close(db);
	return what;
}

static void check_state(const char *dir, size_t k)
{
	char text[64] = "";
	const char *what;
	int r;

	bale_pl_check_index(dir);
	r = bale_pl_open(dir, NULL, 0, &fs, &root);
	if (r) {
		bale_pl_fail("%s", strerror(-r));
		return;
	}
	what = check_db(k, text);
	if (what)
		bale_pl_fail("%s: %s", what, text);
	r = bale_pl_close(fs, root);
	if (r)
		bale_pl_fail("close: %s", strerror(-r));
}

int main(int argc, char **argv)
{
	struct bale_pl_test test = {
		.name = "powerloss_sqlite delete",
		.ops = 60,
		.states = 150,
		.work = run_workload,
		.check = check_state,
	};

	journal = argc > 1 && !strcmp(argv[1], "wal") ? "wal" : "delete";
	if (!strcmp(journal, "wal"))
		test.name = "powerloss_sqlite wal";
	must_sql(NULL, sqlite3_vfs_register(&vfs, 1), "vfs");
	return bale_pl_run(&test, argc > 1 ? argc - 1 : argc,
			   argc > 1 ? argv + 1 : argv);
}
