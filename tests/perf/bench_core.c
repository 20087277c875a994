/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_core FILE.. - the filesystem without FUSE: the files' bytes written,
 * made durable and read back cold, beside zstd level 1 on the same extents, on
 * as many threads, in the same run. Store under $TMPDIR or /tmp.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/inode/fs_stats.h"

enum {
	REPEAT = 4,
	CHUNK = 1 << 20,
	EXTENT = 128 << 10,
	THREADS = 4,
	RANDOM = 200000,
	SMALL = 20000,
};

struct input {
	const char *name;
	uint8_t *data;
	size_t len;
};

static struct input *in;
static unsigned int nr_in;
static size_t total;
static char store_dir[128];

struct lap {
	uint64_t ns, cpu;
};

static void start(struct lap *l)
{
	l->ns = bale_now_ns();
	l->cpu = bale_cpu_ns();
}

static void show(const char *what, const struct lap *l, size_t bytes)
{
	double s = (double)(bale_now_ns() - l->ns) / 1e9;
	double cpu = (double)(bale_cpu_ns() - l->cpu) / 1e9;

	printf("%-28s %8.0f MB/s %8.2f CPU-s/GB\n", what,
	       (double)bytes / 1e6 / s, cpu / ((double)bytes / 1e9));
}

static void must(int r, const char *what)
{
	if (r) {
		fprintf(stderr, "bench_core: %s: %s\n", what, strerror(-r));
		exit(1);
	}
}

static void load(const char *name)
{
	struct input *f = &in[nr_in++];
	struct stat st;
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st))
		must(-1, name);
	f->name = name;
	f->len = (size_t)st.st_size;
	f->data = malloc(f->len + 1);
	if (!f->data || read(fd, f->data, f->len) != (ssize_t)f->len)
		must(-5, name);
	close(fd);
	total += f->len * REPEAT;
}

/* The yardstick: the codec alone, through the same engine. */
static void run_codec(void)
{
	size_t nr = total / EXTENT + nr_in * REPEAT, k = 0, out = 0;
	struct bale_job *jobs = calloc(nr, sizeof(*jobs));
	size_t cap = bale_codec_bound(EXTENT);
	uint8_t *dst = malloc(nr * cap);
	struct bale_engine *e;
	struct lap l;

	must(bale_engine_cpu_create(0, &e), "engine");
	for (unsigned int rep = 0; rep < REPEAT; rep++) {
		for (unsigned int f = 0; f < nr_in; f++) {
			for (size_t o = 0; o < in[f].len; o += EXTENT, k++) {
				size_t n = in[f].len - o;

				jobs[k].op = BALE_JOB_ENCODE;
				jobs[k].codec = BALE_CODEC_zstd;
				jobs[k].level = 1;
				jobs[k].src = in[f].data + o;
				jobs[k].src_len = n < EXTENT ? n : EXTENT;
				jobs[k].dst = dst + k * cap;
				jobs[k].dst_cap = cap;
			}
		}
	}
	start(&l);
	must(bale_engine_run(e, jobs, k), "encode");
	show("zstd -1 alone, encode", &l, total);
	for (size_t j = 0; j < k; j++)
		out += jobs[j].len;
	printf("%-28s %8.2f\n", "ratio", (double)total / (double)out);
	bale_engine_destroy(e);
	free(dst);
	free(jobs);
}

static struct bale_fs *open_fs(void)
{
	struct bale_fs_options o = {
		.size = sizeof(o),
		.has_policy = true,
		.policy = { BALE_CODEC_zstd, 1 },
	};
	struct bale_fs *fs;

	must(bale_fs_open(store_dir, &o, &fs), "open");
	return fs;
}

static void write_all(struct bale_fs *fs)
{
	struct bale_cred c = { 0, 0, 022 };
	struct bale_inode *root, *i;

	must(bale_inode_get(fs, BALE_ROOT_INO, &root), "root");
	for (unsigned int k = 0; k < nr_in * REPEAT; k++) {
		struct input *f = &in[k % nr_in];
		char name[32];

		snprintf(name, sizeof(name), "%u", k);
		must(bale_dir_create(root, name, S_IFREG | 0644, 0, &c, &i),
		     "create");
		for (size_t o = 0; o < f->len; o += CHUNK) {
			size_t n = f->len - o < CHUNK ? f->len - o : CHUNK;
			struct iovec v = { f->data + o, n };

			must(bale_file_write(i, &v, 1, o, false, false),
			     "write");
		}
		bale_inode_put(i);
	}
	bale_inode_put(root);
}

static void read_all(struct bale_fs *fs)
{
	struct bale_inode *root, *i;
	static uint8_t buf[CHUNK];

	must(bale_inode_get(fs, BALE_ROOT_INO, &root), "root");
	for (unsigned int k = 0; k < nr_in * REPEAT; k++) {
		struct input *f = &in[k % nr_in];
		char name[32];

		snprintf(name, sizeof(name), "%u", k);
		must(bale_dir_lookup(root, name, &i), "lookup");
		for (size_t o = 0; o < f->len; o += CHUNK) {
			struct bale_read r;
			size_t at = 0;

			must(bale_file_read(i, o, CHUNK, &r), "read");
			for (unsigned int v = 0; v < r.nr_iov; v++) {
				memcpy(buf + at, r.iov[v].iov_base,
				       r.iov[v].iov_len);
				at += r.iov[v].iov_len;
			}
			if (memcmp(buf, f->data + o, at))
				must(-5, "content");
			bale_file_read_done(&r);
		}
		bale_inode_put(i);
	}
	bale_inode_put(root);
}

/* Half of it is the codec's, so raw extents show what the rest costs. */
static void run_fs(void)
{
	struct bale_fs *fs = open_fs();
	struct bale_fs_stats s;
	struct lap l;

	start(&l);
	write_all(fs);
	show("write (into memory)", &l, total);
	must(bale_fs_sync(fs), "sync");
	show("write + sync, zstd:1", &l, total);
	bale_fs_stats(fs, &s);
	printf("%-28s %8.2f\n", "ratio",
	       (double)s.batch.codec[BALE_CODEC_zstd].raw_bytes /
		       (double)(s.batch.codec[BALE_CODEC_zstd].stored_bytes +
				1));
	start(&l);
	read_all(fs);
	show("read, what is cached", &l, total);
	must(bale_fs_close(fs), "close");
	fs = open_fs();
	start(&l);
	read_all(fs);
	show("read, cold", &l, total);
	must(bale_fs_close(fs), "close");
}

/* Cached 4 KiB reads of one file from many threads; misses decode 128 KiB. */
static void *random_main(void *arg)
{
	struct bale_inode *i = arg;
	uint64_t x = (uint64_t)(uintptr_t)&x;

	for (int k = 0; k < RANDOM; k++) {
		struct bale_read r;

		x = x * 6364136223846793005u + 1442695040888963407u;
		must(bale_file_read(i, (x >> 33) % (in[0].len / 4096) * 4096,
				    4096, &r),
		     "random read");
		bale_file_read_done(&r);
	}
	return NULL;
}

static void run_random(void)
{
	struct bale_fs *fs = open_fs();
	struct bale_inode *root, *i;
	pthread_t t[THREADS];
	uint64_t ns;

	must(bale_inode_get(fs, BALE_ROOT_INO, &root), "root");
	must(bale_dir_lookup(root, "0", &i), "lookup");
	ns = bale_now_ns();
	for (int k = 0; k < THREADS; k++)
		must(-pthread_create(&t[k], NULL, random_main, i), "thread");
	for (int k = 0; k < THREADS; k++)
		pthread_join(t[k], NULL);
	printf("%-28s %8.0f k/s\n", "random 4 KiB reads",
	       (double)THREADS * RANDOM * 1e6 / (double)(bale_now_ns() - ns));
	bale_inode_put(i);
	bale_inode_put(root);
	must(bale_fs_close(fs), "close");
}

static void run_small(void)
{
	struct bale_cred c = { 0, 0, 022 };
	struct bale_fs *fs = open_fs();
	struct bale_inode *root, *d, *i;
	char name[32];
	uint64_t ns = bale_now_ns();

	must(bale_inode_get(fs, BALE_ROOT_INO, &root), "root");
	must(bale_dir_mkdir(root, "d", 0755, &c, &d), "mkdir");
	for (int k = 0; k < SMALL; k++) {
		struct iovec v = { in[0].data + k % 1000 * 3000, 3000 };

		snprintf(name, sizeof(name), "%d", k);
		must(bale_dir_create(d, name, S_IFREG | 0644, 0, &c, &i),
		     "create");
		must(bale_file_write(i, &v, 1, 0, false, false), "write");
		bale_inode_put(i);
	}
	must(bale_fs_sync(fs), "sync");
	printf("%-28s %8.0f k/s\n", "files of 3000 bytes, synced",
	       (double)SMALL * 1e6 / (double)(bale_now_ns() - ns));
	ns = bale_now_ns();
	for (int k = 0; k < SMALL; k++) {
		snprintf(name, sizeof(name), "%d", k);
		must(bale_dir_unlink(d, name), "unlink");
	}
	must(bale_fs_sync(fs), "sync");
	printf("%-28s %8.0f k/s\n", "unlinked, synced",
	       (double)SMALL * 1e6 / (double)(bale_now_ns() - ns));
	bale_inode_put(d);
	bale_inode_put(root);
	must(bale_fs_close(fs), "close");
}

static void run_fsync(void)
{
	struct bale_cred c = { 0, 0, 022 };
	struct bale_fs *fs = open_fs();
	struct bale_inode *root, *i;
	enum { N = 300 };
	uint64_t t;

	must(bale_inode_get(fs, BALE_ROOT_INO, &root), "root");
	must(bale_dir_create(root, "log", S_IFREG | 0644, 0, &c, &i), "create");
	t = bale_now_ns();
	for (int k = 0; k < N; k++) {
		struct iovec v = { in[0].data + k * 4096 % in[0].len, 4096 };

		must(bale_file_write(i, &v, 1, 0, true, false), "append");
		must(bale_file_fsync(i, false), "fsync");
	}
	printf("%-28s %8.0f us\n", "fsync of a 4 KiB append",
	       (double)(bale_now_ns() - t) / 1e3 / N);
	bale_inode_put(i);
	bale_inode_put(root);
	must(bale_fs_close(fs), "close");
}

static void run_disk_fsync(void)
{
	char name[160];
	enum { N = 300 };
	uint64_t t;
	int fd;

	snprintf(name, sizeof(name), "%s.ref", store_dir);
	fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		must(-1, name);
	t = bale_now_ns();
	for (int k = 0; k < N; k++) {
		if (write(fd, in[0].data, 4096) != 4096 || fsync(fd))
			must(-5, "reference fsync");
	}
	printf("%-28s %8.0f us\n", "the same on the backing",
	       (double)(bale_now_ns() - t) / 1e3 / N);
	close(fd);
	unlink(name);
}

int main(int argc, char **argv)
{
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.codec = BALE_CODEC_auto };
	const char *tmp = getenv("TMPDIR");
	char cmd[160];

	if (argc < 2) {
		fprintf(stderr, "usage: bench_core FILE..\n");
		return 2;
	}
	bale_log_set_level(BALE_LOG_WARN);
	in = calloc((size_t)argc, sizeof(*in));
	for (int k = 1; k < argc; k++)
		load(argv[k]);
	snprintf(store_dir, sizeof(store_dir), "%s/bale-bench-%d",
		 tmp ? tmp : "/tmp", (int)getpid());
	must(bale_store_mkfs(store_dir, &mk), "mkfs");
	run_codec();
	run_fs();
	run_random();
	run_small();
	run_fsync();
	run_disk_fsync();
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", store_dir);
	return system(cmd) ? 1 : 0;
}
