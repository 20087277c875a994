/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power loss under SQLite: a database in a store, through a VFS of its own
 * that calls the core, while everything that reaches the backing directory is
 * recorded; then stores as a power cut could have left them. In each the
 * database passes its own integrity check, and holds the transactions that it
 * had acknowledged, at most one more, whole.
 *
 *   test_powerloss_sqlite delete|wal [SEED [STATES]]   deterministic for a seed
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/inode/inode.h"
#include "recorder.h"

enum { NR_TXNS = 60, DEFAULT_STATES = 150 };

static struct bale_fs *fs;
static struct bale_inode *root;
static uint64_t rng;
static unsigned int failures;

static uint64_t draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng * 0x2545f4914f6cdd1du >> 11) % n;
}

static void must(int r, const char *what)
{
	if (!r)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

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
		buf[k] = (char)draw(256);
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

static const char *journal;	  /* "delete", "wal" */
static size_t acked[NR_TXNS + 1]; /* events when transaction n was */
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

	for (uint64_t k = 1 + draw(6); !r && k; k--)
		r = run_sql(db,
			    "INSERT OR REPLACE INTO t VALUES(%d, %u, "
			    "zeroblob(%d))",
			    (int)draw(300), n, (int)draw(draw(5) ? 200 : 6000));
	if (!r && draw(3) == 0)
		r = run_sql(db, "DELETE FROM t WHERE id %% 17 = %d",
			    (int)draw(17));
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

static int open_fs(const char *store, const struct bale_io_ops *ops)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = true,
				     .nr_workers = 1,
				     .cache_bytes = 32 << 20,
				     .io_ops = ops };
	int r = bale_fs_open(store, &o, &fs);

	return r ? r : bale_inode_get(fs, BALE_ROOT_INO, &root);
}

static void run_workload(const char *store)
{
	struct bale_mkfs_options mo = { .size = sizeof(mo),
					.extent_bits = 16,
					.segment_bits = 20,
					.log_bits = 20,
					.codec = BALE_CODEC_auto };
	sqlite3 *db;

	bale_rec_start();
	must(bale_store_mkfs(store, &mo), "mkfs");
	must(bale_rec_adopt(store), "adopt");
	must(open_fs(store, &bale_rec_ops), "open");
	must_sql(NULL, open_db(&db), "open");
	must_sql(db,
		 run_sql(db,
			 "CREATE TABLE t(id INTEGER PRIMARY KEY, seq INT, "
			 "pad BLOB); CREATE INDEX i ON t(seq); "
			 "CREATE TABLE s(k INTEGER PRIMARY KEY, seq INT, "
			 "sum REAL, nr INT); INSERT INTO s VALUES(0,0,0,0)"),
		 "schema");
	acked[0] = bale_rec_count();
	for (unsigned int n = 1; n <= NR_TXNS; n++) {
		one_txn(db, n);
		if (draw(10) == 0)
			must(bale_meta_checkpoint(bale_fs_meta(fs)), "ckpt");
		if (draw(10) == 0)
			must(bale_cleaner_run(bale_fs_store(fs), UINT64_MAX),
			     "clean");
	}
	sqlite3_close(db);
	bale_inode_put(root);
	must(bale_fs_close(fs), "close");
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

static void check_state(const char *dir, size_t k, const char *label)
{
	char text[64] = "";
	const char *what;
	int r = open_fs(dir, NULL);

	if (r) {
		failures++;
		fprintf(stderr, "FAIL %s: %s\n", label, strerror(-r));
		return;
	}
	what = check_db(k, text);
	bale_inode_put(root);
	if (bale_fs_close(fs))
		what = "does not close";
	if (what && failures++ < 20)
		fprintf(stderr, "FAIL %s: %s: %s\n", label, what, text);
}

static void remove_tree(const char *dir)
{
	char cmd[400];

	snprintf(cmd, sizeof(cmd), "rm -rf '%.300s'", dir);
	if (system(cmd))
		exit(1);
}

int main(int argc, char **argv)
{
	static const char *const mode_names[] = { "all", "none", "random" };
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	unsigned int states =
		argc > 3 ? (unsigned int)atoi(argv[3]) : DEFAULT_STATES;
	char work[] = "/dev/shm/balefs-plsql-XXXXXX", store[64], dir[64];
	size_t from;

	bale_log_set_level(BALE_LOG_ERR);
	journal = argc > 1 ? argv[1] : "delete";
	if (!mkdtemp(work))
		return 77;
	rng = seed * 0x9e3779b97f4a7c15u | 1;
	must_sql(NULL, sqlite3_vfs_register(&vfs, 1), "vfs");
	snprintf(store, sizeof(store), "%s/store", work);
	snprintf(dir, sizeof(dir), "%s/state", work);
	run_workload(store);
	from = acked[0];
	for (unsigned int n = 0; n < states; n++) {
		enum bale_rec_mode mode = (enum bale_rec_mode)draw(3);
		size_t k = from + draw(bale_rec_count() - from + 1);
		char label[96];

		remove_tree(dir);
		if (mkdir(dir, 0700))
			return 1;
		must(bale_rec_build(dir, k, mode, seed * 104729 + n), "build");
		snprintf(label, sizeof(label), "%s seed %llu events %zu %s",
			 journal, (unsigned long long)seed, k,
			 mode_names[mode]);
		check_state(dir, k, label);
	}
	printf("%s seed %llu: %u transactions, %zu events, %u states, %u "
	       "failures\n",
	       journal, (unsigned long long)seed, nr_acked, bale_rec_count(),
	       states, failures);
	remove_tree(work);
	bale_rec_free();
	return failures ? 1 : 0;
}
