/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index file: is it to be believed, making a new one, ending it cleanly.
 *
 * LMDB maps its file and trusts it. So before that: a file that was closed
 * cleanly and has not been touched since is taken as it is (index/clean holds
 * what fstat said of it, and its checksum while it is small: rot changes no
 * time); any other is audited page by page and row by row, and its tables'
 * digests compared with the ones in its last commit.
 */
#include "fs/store/meta_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/store/audit.h"

static const char data_file[] = "index/data.mdb",
		  lock_file[] = "index/lock.mdb", clean_file[] = "index/clean",
		  new_file[] = "index/new.mdb",
		  new_lock_file[] = "index/new.mdb-lock";

#define CLEAN_MAGIC "BALEclen"
struct disk_clean {
	uint8_t magic[8];
	uint8_t uuid[16];
	le64 ino, size;
	le64 mtime_sec, ctime_sec;
	le32 mtime_nsec, ctime_nsec;
	le32 summed; /* 1: sum is the file's crc32c */
	le32 sum;
	le32 reserved;
	le32 crc;
};
static_assert(sizeof(struct disk_clean) == 80, "clean");

/* A mount must not take longer the larger the index is: beyond this size only
 * a checkpoint, fsck and scrub see that a page has rotted. */
enum { SUM_MAX = 64 << 20, SUM_STEP = 1 << 20 };

static int sum_file(struct bale_io *io, int fd, uint64_t size, uint32_t *ret)
{
	bale_autofree uint8_t *buf = malloc(SUM_STEP);
	uint32_t sum = 0;

	if (!buf)
		return -ENOMEM;
	for (uint64_t off = 0; off < size; off += SUM_STEP) {
		size_t len = size - off < SUM_STEP ? size - off : SUM_STEP, got;
		int r = BALE_IO(io)->pread(io, fd, buf, len, off, &got);

		if (!r && got != len)
			r = -EIO;
		if (r)
			return r;
		sum = bale_crc32c(sum, buf, len);
	}
	*ret = sum;
	return 0;
}

static int make_mark(struct bale_meta *m, int fd, const struct stat *st,
		     struct disk_clean *ret)
{
	uint32_t sum = 0;
	bool summed = st->st_size <= SUM_MAX;
	int r = summed ? sum_file(m->st->io, fd, (uint64_t)st->st_size, &sum) :
			 0;

	*ret = (struct disk_clean){
		.summed = le32_put(summed),
		.sum = le32_put(sum),
		.ino = le64_put(st->st_ino),
		.size = le64_put((uint64_t)st->st_size),
		.mtime_sec = le64_put((uint64_t)st->st_mtim.tv_sec),
		.mtime_nsec = le32_put((uint32_t)st->st_mtim.tv_nsec),
		.ctime_sec = le64_put((uint64_t)st->st_ctim.tv_sec),
		.ctime_nsec = le32_put((uint32_t)st->st_ctim.tv_nsec),
	};
	memcpy(ret->magic, CLEAN_MAGIC, sizeof(ret->magic));
	memcpy(ret->uuid, m->st->super.uuid, sizeof(ret->uuid));
	ret->crc =
		le32_put(bale_crc32c(0, ret, offsetof(struct disk_clean, crc)));
	return r;
}

static bool ended_cleanly(struct bale_meta *m, int fd, const struct stat *st)
{
	struct disk_clean found, want;
	size_t len = 0;

	return !bale_io_read_file(m->st->io, clean_file, &found, sizeof(found),
				  &len) &&
	       len == sizeof(found) && !make_mark(m, fd, st, &want) &&
	       !memcmp(&found, &want, sizeof(found));
}

/* ---- audit ---- */

struct sums {
	struct bale_kv_position now, last; /* counted, and as recorded */
	bool have_last;
};

static int table_number(const char *name, size_t len)
{
	for (int t = 0; t < BALE_TABLE_NR; t++) {
		const char *s = bale_table_name((unsigned int)t);

		if (strlen(s) == len && !memcmp(s, name, len))
			return t;
	}
	return -1;
}

static int audit_row(const char *db, size_t db_len, const void *key,
		     size_t key_len, const void *val, size_t val_len, void *arg)
{
	struct sums *s = arg;
	int t = table_number(db, db_len);
	uint64_t d[2];
	size_t len;
	int r;

	if (db_len == 8 && !memcmp(db, "position", 8)) {
		s->have_last = true;
		return bale_kv_position_decode(key, key_len, val, val_len,
					       &s->last);
	}
	if (t < 0)
		return -EUCLEAN;
	r = bale_kv_check_value((unsigned int)t, key, key_len, val, val_len,
				&len);
	if (!r)
		r = bale_row_check((unsigned int)t, key, key_len, val, len);
	if (r)
		return r;
	bale_row_digest((unsigned int)t, key, key_len, val, len, d);
	s->now.digest[t][0] += d[0];
	s->now.digest[t][1] += d[1];
	s->now.rows[t]++;
	return 0;
}

static int audit(struct bale_meta *m, int fd, char *why, size_t cap)
{
	struct sums s = { .have_last = false };
	int r = bale_index_audit_rows(fd, audit_row, &s, why, cap);

	if (r)
		return r;
	if (!s.have_last)
		snprintf(why, cap, "unfinished"); /* nothing was ever applied */
	else if (memcmp(s.last.uuid, m->st->super.uuid, sizeof(s.last.uuid)))
		snprintf(why, cap, "of another store");
	else if (memcmp(s.now.digest, s.last.digest, sizeof(s.now.digest)) ||
		 memcmp(s.now.rows, s.last.rows, sizeof(s.now.rows)))
		snprintf(why, cap, "rows missing or stale");
	else
		return 0;
	return -EUCLEAN;
}

/* ---- opening ---- */

/* By the open directory, whatever has become of its path meanwhile. */
static void index_path(struct bale_meta *m, char path[64])
{
	snprintf(path, 64, "/proc/self/fd/%d/index", m->st->io->dir_fd);
}

static int remove_file(struct bale_meta *m, const char *name)
{
	int r = BALE_IO(m->st->io)->unlink(m->st->io, name);

	return r == -ENOENT ? 0 : r;
}

static int check_file(struct bale_meta *m, char *why, size_t cap)
{
	struct bale_io *io = m->st->io;
	struct stat st;
	int fd, r = BALE_IO(io)->open(io, data_file, O_RDONLY, &fd);

	if (r) {
		snprintf(why, cap, "%s",
			 r == -ENOENT ? "missing" : strerror(-r));
		return r;
	}
	if (fstat(fd, &st))
		r = -errno;
	else if (st.st_nlink != 1)
		r = -EUCLEAN;
	if (r)
		snprintf(why, cap, "not a plain file");
	else if (!ended_cleanly(m, fd, &st))
		r = audit(m, fd, why, cap);
	BALE_IO(io)->close(io, fd);
	return r;
}

int bale_index_open(struct bale_meta *m, char *why, size_t cap)
{
	struct bale_kv_position p;
	char path[64];
	int r = check_file(m, why, cap);

	if (!r && !m->read_only) {
		r = remove_file(m, clean_file);
		if (!r)
			r = remove_file(m, lock_file);
		snprintf(why, cap, "%s", r ? strerror(-r) : "");
	}
	if (r)
		return r;
	index_path(m, path);
	r = bale_kv_open(path, m->read_only ? BALE_KV_READ_ONLY : 0,
			 m->st->super.uuid, &m->kv);
	if (r) {
		snprintf(why, cap, "damaged: %s", strerror(-r));
		return r;
	}
	bale_kv_position(m->kv, &p);
	if (p.seq)
		return 0;
	snprintf(why, cap, "unfinished");
	bale_kv_close(m->kv);
	m->kv = NULL;
	return -EUCLEAN;
}

/* ---- making ---- */

/* A read-only mount writes nothing into the store: its index is elsewhere. */
static int make_private(struct bale_meta *m)
{
	const char *tmp = getenv("TMPDIR");
	char *dir;

	if (asprintf(&dir, "%s/balefs-index-XXXXXX", tmp ? tmp : "/tmp") < 0)
		return -ENOMEM;
	if (!mkdtemp(dir)) {
		int r = -errno;

		bale_err("%s: %s: no place for an index", dir, strerror(-r));
		free(dir);
		return r;
	}
	m->private_index = dir;
	return bale_kv_open(dir, BALE_KV_CREATE, m->st->super.uuid, &m->kv);
}

int bale_index_create(struct bale_meta *m, bool aside)
{
	struct bale_io *io = m->st->io;
	char path[64];
	int r;

	if (m->read_only)
		return make_private(m);
	r = BALE_IO(io)->mkdir(io, "index");
	if (r == -EEXIST)
		r = 0;
	if (!r)
		r = remove_file(m, new_lock_file);
	if (!r)
		r = remove_file(m, new_file);
	if (!r && !aside)
		r = remove_file(m, clean_file);
	if (!r && !aside)
		r = remove_file(m, lock_file);
	if (!r && !aside)
		r = remove_file(m, data_file);
	if (r)
		return r;
	index_path(m, path);
	if (aside)
		strcat(path, "/new.mdb");
	m->index_aside = aside;
	r = bale_kv_open(path, BALE_KV_CREATE | (aside ? BALE_KV_FILE : 0),
			 m->st->super.uuid, &m->kv);
	/* LMDB syncs its file, not the name. */
	if (!r)
		r = BALE_IO(io)->sync_dir(io, "index");
	return r ? r : BALE_IO(io)->sync_dir(io, "");
}

int bale_index_settle(struct bale_meta *m)
{
	struct bale_io *io = m->st->io;
	int r;

	if (!m->index_aside)
		return 0;
	r = remove_file(m, clean_file);
	if (!r)
		r = remove_file(m, new_lock_file);
	if (!r)
		r = BALE_IO(io)->rename(io, new_file, data_file);
	if (!r)
		r = BALE_IO(io)->sync_dir(io, "index");
	m->index_aside = r != 0;
	return r;
}

/* ---- closing ---- */

static void remove_private(struct bale_meta *m)
{
	static const char *const files[] = { "data.mdb", "lock.mdb" };

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		bale_autofree char *path = NULL;

		if (asprintf(&path, "%s/%s", m->private_index, files[i]) >= 0)
			unlink(path);
	}
	rmdir(m->private_index);
	free(m->private_index);
	m->private_index = NULL;
}

static void leave_mark(struct bale_meta *m)
{
	struct bale_io *io = m->st->io;
	struct disk_clean d;
	struct stat st;
	int fd, r = BALE_IO(io)->open(io, data_file, O_RDONLY, &fd);

	if (!r) {
		r = fstat(fd, &st) ? -errno : make_mark(m, fd, &st, &d);
		BALE_IO(io)->close(io, fd);
	}
	if (!r)
		r = bale_io_replace_file(io, clean_file, &d, sizeof(d));
	if (r)
		bale_debug("index: no clean mark: %s", strerror(-r));
}

void bale_index_close(struct bale_meta *m, bool clean)
{
	bool doubtful = m->kv && bale_kv_doubtful(m->kv);
	bool had = m->kv != NULL;

	bale_kv_close(m->kv);
	m->kv = NULL;
	if (m->private_index)
		remove_private(m);
	else if (had && m->index_aside)
		remove_file(m, new_file); /* it never took the place */
	else if (had && !m->read_only && doubtful)
		remove_file(m, data_file); /* the next open makes a new one */
	else if (had && !m->read_only && clean)
		leave_mark(m);
}
