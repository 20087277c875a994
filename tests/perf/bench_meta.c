/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_meta - the meta layer alone: staging, gets, scans, fsync beside the
 * same bytes written plainly, the index's size and how fast it is rebuilt.
 * Store under $TMPDIR or /tmp.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/store/store.h"

enum {
	FILES = 200000,
	STEP = 40000,
	EXTENTS = 1000000,
	SYNCS = 400,
	GETS = 1000000
};

static char dir[128];
static struct bale_store *st;
static struct bale_meta *m;

static void must(int r, const char *what)
{
	if (!r)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

struct lap {
	uint64_t ns, cpu;
};

static struct lap lap(void)
{
	return (struct lap){ bale_now_ns(), bale_cpu_ns() };
}

static void show(const char *what, struct lap from, uint64_t nr)
{
	double ns = (double)(bale_now_ns() - from.ns);
	double cpu = (double)(bale_cpu_ns() - from.cpu);

	printf("%-36s %9.0f ns each, %9.0f ns of CPU; %7.3f s\n", what,
	       ns / (double)nr, cpu / (double)nr, ns / 1e9);
	fflush(stdout);
}

static void open_store(bool read_only, bool rebuild, bool manual)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = read_only,
					.rebuild_index = rebuild,
					.manual_commit = manual };

	must(bale_store_open(dir, &o, &st), "open");
	m = bale_store_meta(st);
}

/* ---- transactions ---- */

static struct bale_inode_row inode_row(uint64_t ino)
{
	struct bale_inode_row row = {
		.mode = S_IFREG | 0644, .nlink = 1, .parent = 1, .generation = 1
	};

	row.mtime.tv_sec = (time_t)ino;
	return row;
}

static void put_inode(struct bale_txn *t, uint64_t ino,
		      const struct bale_inode_row *row)
{
	struct bale_disk_inode d;
	be64 key = be64_put(ino);

	bale_inode_encode(row, &d);
	bale_txn_put(t, BALE_TABLE_inode, &key, sizeof(key), &d, sizeof(d));
}

/* As a create does: inode, name, cookie, the directory; and a map row. */
static void stage_file(uint64_t n)
{
	struct bale_inode_row row = inode_row(n), root = inode_row(1);
	struct bale_disk_dirent de = {
		le64_put(n + 1000), le64_put(n + 3), 8, { 0 }
	};
	struct bale_disk_cookie ck = { le64_put(n + 1000), 8, { 0 } };
	uint8_t key[64], val[64];
	be64 words[2] = { be64_put(1), be64_put(n + 3) };
	struct bale_txn t;
	size_t len;
	le64 id = le64_put(n + 1);

	root.mode = S_IFDIR | 0755;
	root.nr_entries = n;
	bale_txn_begin(m, &t);
	put_inode(&t, n + 1000, &row);
	memcpy(key, words, 8);
	len = (size_t)snprintf((char *)key + 8, 56, "file-%lu",
			       (unsigned long)(n * 7919 % FILES));
	bale_txn_put(&t, BALE_TABLE_dirent, key, 8 + len, &de, sizeof(de));
	memcpy(val, &ck, sizeof(ck));
	memcpy(val + sizeof(ck), key + 8, len);
	bale_txn_put(&t, BALE_TABLE_cookie, words, sizeof(words), val,
		     sizeof(ck) + len);
	put_inode(&t, 1, &root);
	words[0] = be64_put(n + 1000);
	words[1] = be64_put(0);
	bale_txn_put(&t, BALE_TABLE_map, words, sizeof(words), &id, sizeof(id));
	must(bale_txn_commit(&t, NULL), "stage");
}

static void get_inodes(const char *what, uint64_t nr_files)
{
	struct lap t = lap();

	for (uint64_t i = 0; i < GETS; i++) {
		struct bale_disk_inode d;
		be64 key = be64_put(1000 + i * 7919 % nr_files);
		size_t len;

		must(bale_meta_get(m, BALE_TABLE_inode, &key, sizeof(key), &d,
				   sizeof(d), &len),
		     "get");
	}
	show(what, t, GETS);
}

static int count(const void *key, size_t key_len, const void *val,
		 size_t val_len, void *arg)
{
	(void)key;
	(void)key_len;
	(void)val;
	(void)val_len;
	++*(uint64_t *)arg;
	return 0;
}

static void scan(const char *what, enum bale_table table)
{
	struct lap t = lap();
	uint64_t rows = 0;

	must(bale_meta_scan(m, table, NULL, 0, 0, count, &rows), "scan");
	show(what, t, rows);
}

/* ---- fsync ---- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void show_times(const char *what, uint64_t *ns)
{
	qsort(ns, SYNCS, sizeof(*ns), by_value);
	printf("%-36s p50 %7.1f us, p99 %7.1f us\n", what,
	       (double)ns[SYNCS / 2] / 1e3, (double)ns[SYNCS * 99 / 100] / 1e3);
	fflush(stdout);
}

/* 512 or so bytes to a file whose blocks are there: what a sync costs here. */
static void plain_syncs(void)
{
	char path[160], buf[1024] = { 1 };
	uint64_t ns[SYNCS];
	char *zero = calloc(1, 4 << 20);
	int fd;

	snprintf(path, sizeof(path), "%s.plain", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || !zero || write(fd, zero, 4 << 20) != 4 << 20 || fsync(fd))
		must(-EIO, "plain file");
	for (int i = 0; i < SYNCS; i++) {
		uint64_t t = bale_now_ns();

		if (pwrite(fd, buf, sizeof(buf), i * 1024) != sizeof(buf) ||
		    fdatasync(fd))
			must(-EIO, "plain sync");
		ns[i] = bale_now_ns() - t;
	}
	show_times("plain pwrite + fdatasync, 1 KiB", ns);
	close(fd);
	unlink(path);
	free(zero);
}

static void meta_syncs(void)
{
	uint64_t ns[SYNCS];

	for (uint64_t i = 0; i < SYNCS; i++) {
		uint64_t t = bale_now_ns();

		stage_file(FILES + i);
		must(bale_meta_sync(m, 0), "sync");
		ns[i] = bale_now_ns() - t;
	}
	show_times("transaction of 5 rows + sync", ns);
}

/* ---- threads ---- */

static void *get_main(void *arg)
{
	uint64_t x = (uint64_t)(uintptr_t)arg;

	for (int i = 0; i < GETS; i++) {
		struct bale_disk_inode d;
		be64 key;
		size_t len;

		x = x * 6364136223846793005u + 1442695040888963407u;
		key = be64_put(1000 + (x >> 33) % FILES);
		must(bale_meta_get(m, BALE_TABLE_inode, &key, sizeof(key), &d,
				   sizeof(d), &len),
		     "get");
	}
	return NULL;
}

static void get_threads(unsigned int nr)
{
	pthread_t th[64];
	struct lap t = lap();
	char what[64];

	for (uintptr_t i = 0; i < nr; i++)
		must(-pthread_create(&th[i], NULL, get_main, (void *)(i + 1)),
		     "thread");
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(th[i], NULL);
	snprintf(what, sizeof(what), "get from index, %u threads, all", nr);
	show(what, t, (uint64_t)nr * GETS);
}

/* ---- extents ---- */

static void stage_extents(void)
{
	struct bale_extent_row row = {
		.stored_len = 40000, .raw_len = 131072, .refs = 1, .codec = 2
	};
	struct lap t = lap();
	uint64_t id = 0;

	while (id < EXTENTS) {
		be64 words[2] = { be64_put(5000000), be64_put(id / 64) };
		le64 ids[64];
		struct bale_txn txn;

		bale_txn_begin(m, &txn);
		for (int i = 0; i < 64; i++) {
			struct bale_disk_extent d;
			be64 key = be64_put(++id);

			row.offset = (uint32_t)(id * 512);
			row.crc = (uint32_t)id * 2654435761u;
			ids[i] = le64_put(id);
			bale_extent_encode(&row, &d);
			bale_txn_put(&txn, BALE_TABLE_extent, &key, sizeof(key),
				     &d, sizeof(d));
		}
		bale_txn_put(&txn, BALE_TABLE_map, words, sizeof(words), ids,
			     sizeof(ids));
		must(bale_txn_commit(&txn, NULL), "stage");
	}
	show("stage extents, 64 in a transaction", t, EXTENTS);
}

static uint64_t index_bytes(void)
{
	struct bale_meta_stats s;

	bale_meta_stats(m, &s);
	return s.index_bytes;
}

static void close_store(const char *what)
{
	struct lap t = lap();

	must(bale_store_close(st), "close");
	show(what, t, 1);
}

static void reopen(const char *what, bool rebuild)
{
	struct lap t = lap();

	open_store(false, rebuild, false);
	show(what, t, 1);
}

/* As much as a memtable holds before it is moved. */
static void stage_and_apply(uint64_t from)
{
	struct lap t = lap();

	for (uint64_t n = from; n < from + STEP; n++)
		stage_file(n);
	show("stage 5 rows", t, STEP);
	if (!from)
		get_inodes("get from memory", STEP);
	t = lap();
	must(bale_meta_sync(m, 0), "sync");
	show("sync, rows", t, STEP * 4 + 1);
	t = lap();
	must(bale_meta_apply(m), "apply");
	show("apply, rows", t, STEP * 4 + 1);
}

int main(void)
{
	struct bale_mkfs_options o = { .size = sizeof(o) };
	const char *tmp = getenv("TMPDIR");
	char cmd[300];
	struct lap t;
	uint64_t before;

	snprintf(dir, sizeof(dir), "%s/bench-meta-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		must(-ENOENT, dir);
	must(bale_store_mkfs(dir, &o), "mkfs");
	open_store(false, false, true);
	for (uint64_t n = 0; n < FILES; n += STEP)
		stage_and_apply(n);
	get_inodes("get from index, spread", FILES);
	get_inodes("get from index, near", 100);
	scan("scan index, names", BALE_TABLE_dirent);
	get_threads(2);
	get_threads(8);
	close_store("close");
	reopen("open", false);
	plain_syncs();
	meta_syncs();
	plain_syncs();
	meta_syncs();
	must(bale_meta_apply(m), "apply");
	before = index_bytes();
	stage_extents();
	t = lap();
	must(bale_meta_apply(m), "apply");
	show("wait for the applier", t, 1);
	scan("scan index, extents", BALE_TABLE_extent);
	printf("%-36s %9.1f bytes\n", "index for an extent",
	       (double)(index_bytes() - before) / EXTENTS);
	t = lap();
	must(bale_meta_checkpoint(m), "checkpoint");
	show("checkpoint", t, 1);
	close_store("close");
	reopen("open", false);
	close_store("close");
	reopen("open, index rebuilt from checkpoint", true);
	close_store("close");
	snprintf(cmd, sizeof(cmd), "du -sh %s/*; rm -rf %s", dir, dir);
	return system(cmd) ? 1 : 0;
}
