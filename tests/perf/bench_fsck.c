/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_fsck STORE EXTENTS [FILES] - makes a store of many extents of 64 KiB,
 * each a few coded bytes, and says what opening, checking, repairing and
 * scrubbing it takes: each in a process of its own, so that its peak memory
 * is known (its own, sampled; and with the pages of the index that it has
 * mapped). An existing STORE is used as it is. Then every inode, every extent's
 * references and every name's place in its listing are made wrong, and mended.
 * --deep, at the end, decodes everything.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/inode/inode.h"
#include "tools/cmd.h"

enum {
	EXTENT_BITS = 16,
	EXTENT = 1 << EXTENT_BITS,
	VARIANTS = 64,
	BALE = 1024, /* extents */
	PER_DIR = 1000,
	SYNC_EVERY = 64, /* bales */
};

static const char *path;
static struct bale_store *st;
static struct bale_meta *m;
static uint64_t nr_extents, nr_files;

static void must(int r, const char *what)
{
	if (r) {
		fprintf(stderr, "bench_fsck: %s: %s\n", what, strerror(-r));
		exit(1);
	}
}

/* ---- the store ---- */

static struct variant {
	uint8_t coded[4096];
	uint32_t len;
	uint8_t codec;
} variants[VARIANTS];

static void make_variants(void)
{
	uint8_t *raw = malloc(EXTENT), *coded;
	size_t cap = bale_codec_bound(EXTENT);

	coded = malloc(cap);
	if (!raw || !coded)
		must(-ENOMEM, "variants");
	for (unsigned int v = 0; v < VARIANTS; v++) {
		struct bale_job job = { .op = BALE_JOB_ENCODE,
					.codec = BALE_CODEC_zstd,
					.level = 1,
					.src = raw,
					.src_len = EXTENT,
					.dst = coded,
					.dst_cap = cap };

		for (unsigned int k = 0; k < EXTENT; k++)
			raw[k] = (uint8_t)(v + "a text, again "[k % 14]);
		bale_codec_run(&job);
		must(job.status, "encode");
		if (job.len > sizeof(variants[v].coded))
			must(-E2BIG, "encode");
		memcpy(variants[v].coded, coded, job.len);
		variants[v].len = (uint32_t)job.len;
		variants[v].codec = job.ret_codec;
	}
	free(raw);
	free(coded);
}

static void put_inode(struct bale_txn *t, uint64_t ino,
		      const struct bale_inode_row *row)
{
	struct bale_disk_inode d;
	be64 key = be64_put(ino);

	bale_inode_encode(row, &d);
	bale_txn_put(t, BALE_TABLE_inode, &key, sizeof(key), &d, sizeof(d));
}

static void put_name(struct bale_txn *t, uint64_t dir, const char *name,
		     uint64_t ino, uint8_t type, uint64_t cookie)
{
	struct bale_disk_dirent d = { .ino = le64_put(ino),
				      .cookie = le64_put(cookie),
				      .type = type };
	struct bale_disk_cookie c = { .ino = d.ino, .type = type };
	be64 k = be64_put(dir), ck = be64_put(cookie);
	uint8_t key[BALE_KEY_MAX], val[sizeof(c) + BALE_NAME_MAX];
	size_t len = strlen(name);

	memcpy(key, &k, 8);
	memcpy(key + 8, name, len);
	bale_txn_put(t, BALE_TABLE_dirent, key, 8 + len, &d, sizeof(d));
	memcpy(key + 8, &ck, 8);
	memcpy(val, &c, sizeof(c));
	memcpy(val + sizeof(c), name, len);
	bale_txn_put(t, BALE_TABLE_cookie, key, 16, val, sizeof(c) + len);
}

/* One bale, and the map rows of its extents: first is a multiple of BALE in
 * the file. Returns the bytes stored. */
static uint64_t add_bale(struct bale_txn *t, uint64_t ino, uint64_t first,
			 uint64_t nr)
{
	static struct bale_extent_in in[BALE];
	static struct bale_extent_row rows[BALE];
	le64 map[BALE_MAP_SLOTS];
	uint64_t stored = 0;

	for (uint64_t k = 0; k < nr; k++) {
		const struct variant *v =
			&variants[(ino + first + k) % VARIANTS];

		in[k] = (struct bale_extent_in){ .ino = ino,
						 .extent_no = first + k,
						 .raw_len = EXTENT,
						 .codec = v->codec,
						 .level = 1,
						 .stored = v->coded,
						 .stored_len = v->len };
		must(bale_store_new_id(st, &in[k].id), "extent id");
		stored += v->len;
	}
	must(bale_store_append(st, in, nr, rows), "append");
	for (uint64_t k = 0; k < nr; k++) {
		bale_txn_extent_add(t, in[k].id, &rows[k]);
		map[k % BALE_MAP_SLOTS] = le64_put(in[k].id);
		if (k + 1 == nr || (k + 1) % BALE_MAP_SLOTS == 0) {
			be64 key[2] = { be64_put(ino),
					be64_put((first + k) /
						 BALE_MAP_SLOTS) };

			bale_txn_put(t, BALE_TABLE_map, key, 16, map,
				     (k % BALE_MAP_SLOTS + 1) * 8);
		}
	}
	return stored;
}

static void add_file(uint64_t dir, uint64_t cookie, uint64_t nr)
{
	struct bale_inode_row row = { .mode = S_IFREG | 0644,
				      .nlink = 1,
				      .size = nr << EXTENT_BITS,
				      .parent = dir };
	static unsigned int bales;
	struct bale_txn t;
	char name[32];
	uint64_t ino;

	must(bale_meta_new_ino(m, &ino), "inode number");
	for (uint64_t k = 0; k < nr || !k; k += BALE) {
		uint64_t part = nr - k < BALE ? nr - k : BALE;

		bale_txn_begin(m, &t);
		if (part)
			row.stored += add_bale(&t, ino, k, part);
		snprintf(name, sizeof(name), "f%" PRIu64, cookie - 3);
		put_inode(&t, ino, &row);
		put_name(&t, dir, name, ino, DT_REG, cookie);
		must(bale_txn_commit(&t, NULL), "stage");
		if (++bales % SYNC_EVERY == 0)
			must(bale_meta_sync(m, 0), "sync");
	}
}

static void add_dir(struct bale_inode_row *root, uint64_t first_file)
{
	uint64_t nr = nr_files - first_file;
	struct bale_inode_row row = { .mode = S_IFDIR | 0755,
				      .nlink = 2,
				      .parent = BALE_ROOT_INO };
	struct bale_txn t;
	char name[32];
	uint64_t ino;

	if (nr > PER_DIR)
		nr = PER_DIR;
	row.nr_entries = nr;
	row.next_cookie = nr + 3;
	must(bale_meta_new_ino(m, &ino), "inode number");
	bale_txn_begin(m, &t);
	put_inode(&t, ino, &row);
	snprintf(name, sizeof(name), "d%" PRIu64, first_file);
	put_name(&t, BALE_ROOT_INO, name, ino, DT_DIR, root->next_cookie++);
	root->nr_entries++;
	root->nlink++;
	put_inode(&t, BALE_ROOT_INO, root);
	must(bale_txn_commit(&t, NULL), "stage");
	for (uint64_t k = 0; k < nr; k++) {
		uint64_t n = first_file + k;

		add_file(ino, k + 3,
			 nr_extents * (n + 1) / nr_files -
				 nr_extents * n / nr_files);
	}
}

static void make_store(void)
{
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.extent_bits = EXTENT_BITS,
					.codec = BALE_CODEC_auto };
	struct bale_store_options o = { .size = sizeof(o) };
	struct bale_inode_row root;
	struct bale_disk_inode d;
	be64 key = be64_put(BALE_ROOT_INO);
	uint64_t ns = bale_now_ns();
	size_t len;

	must(bale_store_mkfs(path, &mk), "mkfs");
	must(bale_store_open(path, &o, &st), "open");
	m = bale_store_meta(st);
	must(bale_meta_get(m, BALE_TABLE_inode, &key, 8, &d, sizeof(d), &len),
	     "root");
	must(bale_inode_decode(&d, len, &root), "root");
	make_variants();
	for (uint64_t k = 0; k < nr_files; k += PER_DIR)
		add_dir(&root, k);
	must(bale_store_close(st), "close");
	printf("%-30s %8.1f s\n", "made", (double)(bale_now_ns() - ns) / 1e9);
	fflush(stdout);
}

/* ---- what is measured ---- */

static int open_it(bool read_only, bool untrusted)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .read_only = read_only,
				     .untrusted = untrusted };
	struct bale_fs *fs;
	uint64_t ns = bale_now_ns();

	must(bale_fs_open(path, &o, &fs), "open");
	printf("%-30s %8.2f s\n", "  until it is open",
	       (double)(bale_now_ns() - ns) / 1e9);
	return bale_fs_close(fs) ? 1 : 0;
}

static int run_open(char **argv)
{
	return open_it(argv[0][0] == 'r', argv[1] != NULL);
}

static int run_cmd(const struct bale_cmd *cmd, char **argv)
{
	int argc = 0, out = open("/dev/null", O_WRONLY);

	while (argv[argc])
		argc++;
	if (!getenv("VERBOSE"))
		dup2(out, 1);
	optind = 0;
	return cmd->fn(cmd, argc, argv);
}

static int run_fsck(char **argv)
{
	return run_cmd(&bale_cmd_fsck, argv);
}

static int run_scrub(char **argv)
{
	return run_cmd(&bale_cmd_scrub, argv);
}

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

/* KiB that are nobody else's; mapped files come and go with the page cache. */
static long private_memory(pid_t pid)
{
	char name[48], line[128];
	long kib = 0;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/status", (int)pid);
	f = fopen(name, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static void measure(const char *what, int (*fn)(char **argv), char **argv)
{
	uint64_t ns = bale_now_ns();
	long own = 0, now;
	struct rusage u;
	int status;
	pid_t pid;
	double s;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		status = fn(argv);
		fflush(stdout);
		_exit(status);
	}
	if (pid < 0)
		must(-errno, what);
	while (!wait4(pid, &status, WNOHANG, &u)) {
		now = private_memory(pid);
		if (now > own)
			own = now;
		usleep(10000);
	}
	s = (double)(bale_now_ns() - ns) / 1e9;
	printf("%-30s %8.1f s %8.1f CPU-s %8.0f k/s %6ld MiB, %ld with the "
	       "index, status %d\n",
	       what, s, seconds(&u.ru_utime) + seconds(&u.ru_stime),
	       (double)nr_extents / 1e3 / s, own / 1024, u.ru_maxrss / 1024,
	       WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* ---- much to mend ---- */

struct spoil {
	struct bale_txn t;
	uint64_t nr;
	uint8_t key[BALE_KEY_MAX];
	size_t key_len;
	enum bale_table table;
};

static void spoil_value(struct spoil *s, uint8_t *val, size_t len)
{
	struct bale_extent_row e;
	struct bale_inode_row i;
	struct bale_disk_dirent d;

	if (s->table == BALE_TABLE_extent) {
		must(bale_extent_decode(val, len, &e), "extent");
		e.refs = 3;
		bale_extent_encode(&e, (void *)val);
	} else if (s->table == BALE_TABLE_inode) {
		must(bale_inode_decode(val, len, &i), "inode");
		i.nlink += 5;
		i.stored++;
		bale_inode_encode(&i, (void *)val);
	} else {
		memcpy(&d, val, sizeof(d));
		d.cookie = le64_put(3);
		memcpy(val, &d, sizeof(d));
	}
}

static int spoil_row(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct spoil *s = arg;
	uint8_t copy[512];

	if (key_len == s->key_len && !memcmp(key, s->key, key_len))
		return 0;
	memcpy(copy, val, val_len);
	spoil_value(s, copy, val_len);
	bale_txn_put(&s->t, s->table, key, key_len, copy, val_len);
	s->nr++;
	memcpy(s->key, key, key_len);
	s->key_len = key_len;
	return bale_txn_bytes(&s->t) > BALE_TXN_MAX / 2;
}

static void spoil_table(enum bale_table table)
{
	struct spoil s = { .table = table };
	int r;

	do {
		bale_txn_begin(m, &s.t);
		r = bale_meta_scan(m, table, s.key, s.key_len, 0, spoil_row,
				   &s);
		must(bale_txn_commit(&s.t, NULL), "stage");
		must(bale_meta_sync(m, 0), "sync");
	} while (r == 1);
	printf("%" PRIu64 " rows of table %s made wrong\n", s.nr,
	       bale_table_name(table));
}

static int run_spoil(char **argv)
{
	struct bale_store_options o = { .size = sizeof(o) };

	(void)argv;
	must(bale_store_open(path, &o, &st), "open");
	m = bale_store_meta(st);
	spoil_table(BALE_TABLE_extent);
	spoil_table(BALE_TABLE_inode);
	spoil_table(BALE_TABLE_dirent);
	return bale_store_close(st) ? 1 : 0;
}

#define ARGS(...)                                                              \
	(char *[])                                                             \
	{                                                                      \
		__VA_ARGS__, NULL                                              \
	}

static void measure_all(void)
{
	char *store = strdup(path);

	measure("mount", run_open, ARGS("w"));
	measure("mount ro (as salvage)", run_open, ARGS("r"));
	measure("fsck -n", run_fsck, ARGS("fsck", "-n", store));
	measure("fsck -y", run_fsck, ARGS("fsck", "-y", store));
	measure("fsck -p", run_fsck, ARGS("fsck", "-p", store));
	measure("mount, untrusted", run_open, ARGS("r", "untrusted"));
	measure("fsck -y --rebuild-index", run_fsck,
		ARGS("fsck", "-y", "--rebuild-index", store));
	measure("scrub", run_scrub, ARGS("scrub", "-r", "100G", store));
	measure("(making rows wrong)", run_spoil, ARGS(NULL));
	measure("fsck -n, all wrong", run_fsck, ARGS("fsck", "-n", store));
	measure("fsck -y, all wrong", run_fsck, ARGS("fsck", "-y", store));
	measure("fsck -n, mended", run_fsck, ARGS("fsck", "-n", store));
	free(store);
}

int main(int argc, char **argv)
{
	struct stat s;
	char *deep = NULL;

	if (argc > 2 && !strcmp(argv[argc - 1], "--deep"))
		deep = argv[--argc];
	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: bench_fsck STORE EXTENTS [FILES] "
				"[--deep]\n");
		return 2;
	}
	path = argv[1];
	nr_extents = strtoull(argv[2], NULL, 10);
	nr_files = argc > 3 ? strtoull(argv[3], NULL, 10) : nr_extents / 100;
	if (!nr_files)
		nr_files = 1;
	bale_log_set_level(BALE_LOG_WARN);
	if (stat(path, &s))
		make_store();
	measure_all();
	if (deep)
		measure("fsck -n --deep", run_fsck,
			ARGS("fsck", "-n", deep, strdup(path)));
	return 0;
}
