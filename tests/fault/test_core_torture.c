/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random work on an open filesystem, without FUSE, against a model.
 *
 *   test_core_torture threads SECONDS   many threads; close, reopen, compare
 *   test_core_torture kill ROUNDS       a child works and is killed; what it
 *                                       had fsynced must be there
 * A seed may follow. TORTURE_KEEP=1 leaves the store for fsck.
 *
 * Files consist of cells of 512 bytes. A cell that was written tells file,
 * cell and version; the model holds for each cell the version now and the one
 * that was fsynced, in memory that outlives the child. After a kill a cell may
 * be any version from the fsynced one on, or zeros where it was zeroed since.
 * One more thread replaces a file by renaming over it without fsync: after a
 * kill it must be some whole version.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/inode/inode.h"

enum {
	CELL = 512,
	NR_CELLS = 6000, /* about 3 MiB a file */
	NR_THREADS = 4,
	NR_FILES = 6, /* a thread */
	RENAME_CELLS = 700,
};

struct cell {
	uint32_t now, synced;	       /* versions; 0: never written */
	uint8_t zero_now, zero_synced; /* zeros since that version */
	uint8_t zeroed;		       /* at some time since the fsync */
};

struct file {
	uint64_t size, size_min, size_max, size_synced; /* cells */
	uint32_t version;
	struct cell cells[NR_CELLS];
};

struct model {
	struct file files[NR_THREADS][NR_FILES];
	uint32_t rename_started, rename_synced;
	uint64_t ops, fsyncs;
	uint64_t cleaned, copied; /* segments, bytes */
};

static struct model *model;
static char store_dir[64];
static struct bale_fs *fs;
static atomic_bool stop;
static unsigned int seed_base;

static void die(const char *what, long a, long b, long c)
{
	fprintf(stderr, "FAILED: %s (%ld, %ld, %ld) seed %u store %s\n", what,
		a, b, c, seed_base, store_dir);
	fflush(stderr);
	_exit(1);
}

static uint32_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return (uint32_t)(*s >> 16);
}

/* Half of a cell shrinks, half does not. */
static void fill_cell(uint8_t *p, uint32_t file, uint32_t cell, uint32_t ver)
{
	uint32_t head[4] = { 0xba1ef11e, file, cell, ver };
	uint64_t s = ((uint64_t)file << 48) ^ ((uint64_t)cell << 24) ^ ver ^
		     0x9e3779b97f4a7c15u;

	memset(p, (int)(ver & 0xff) | 1, CELL);
	memcpy(p, head, sizeof(head));
	for (int k = 256; k < CELL; k += 4) {
		uint32_t x = rnd(&s);

		memcpy(p + k, &x, 4);
	}
}

static bool is_zero(const uint8_t *p)
{
	for (int k = 0; k < CELL; k++) {
		if (p[k])
			return false;
	}
	return true;
}

/* The version of an intact cell, 0: zeros. */
static uint32_t cell_version(const uint8_t *p, uint32_t file, uint32_t cell)
{
	uint8_t want[CELL];
	uint32_t head[4];

	if (is_zero(p))
		return 0;
	memcpy(head, p, sizeof(head));
	if (head[0] != 0xba1ef11e || head[1] != file || head[2] != cell)
		die("a cell is another's", file, cell, head[2]);
	fill_cell(want, file, cell, head[3]);
	if (memcmp(want, p, CELL))
		die("a cell is torn", file, cell, head[3]);
	return head[3];
}

static struct bale_inode *get_file(const char *name, bool create)
{
	struct bale_cred cred = { 0, 0, 022 };
	struct bale_inode *root, *i = NULL;
	int r = bale_inode_get(fs, BALE_ROOT_INO, &root);

	if (r)
		die("root", r, 0, 0);
	r = bale_dir_lookup(root, name, &i);
	if (r == -ENOENT && create)
		r = bale_dir_create(root, name, S_IFREG | 0644, 0, &cred, &i);
	bale_inode_put(root);
	if (r && !(r == -ENOENT && !create))
		die("lookup", r, 0, 0);
	return r ? NULL : i;
}

static void read_cells(struct bale_inode *i, uint8_t *buf, uint64_t first,
		       uint64_t nr)
{
	uint64_t off = first * CELL, left = nr * CELL;

	while (left) {
		struct bale_read rd;
		int r = bale_file_read(
			i, off, left < (1 << 20) ? left : (1 << 20), &rd);

		if (r)
			die("read", r, (long)off, (long)left);
		if (!rd.len)
			die("short read", (long)off, (long)left, 0);
		for (unsigned int k = 0; k < rd.nr_iov; k++) {
			memcpy(buf, rd.iov[k].iov_base, rd.iov[k].iov_len);
			buf += rd.iov[k].iov_len;
		}
		off += rd.len;
		left -= rd.len;
		bale_file_read_done(&rd);
	}
}

/* ---- operations of one thread ---- */

struct worker {
	unsigned int nr;
	uint64_t rng;
	struct bale_inode *inodes[NR_FILES];
	uint8_t *buf;
};

static uint32_t file_id(unsigned int thread, unsigned int k)
{
	return thread * 100 + k + 1;
}

static void set_size(struct file *f, uint64_t size)
{
	f->size_min = size < f->size_min ? size : f->size_min;
	f->size_max = size > f->size_max ? size : f->size_max;
	f->size = size;
}

static void zero_cells(struct file *f, uint64_t first, uint64_t last)
{
	for (uint64_t c = first; c < last && c < NR_CELLS; c++) {
		f->cells[c].zero_now = 1;
		f->cells[c].zeroed = 1;
	}
}

static void do_write(struct worker *w, unsigned int k)
{
	struct file *f = &model->files[w->nr][k];
	uint32_t first = rnd(&w->rng) % NR_CELLS, nr, ver = ++f->version;
	struct iovec iov;
	int r;

	nr = rnd(&w->rng) % 8 ? rnd(&w->rng) % 20 + 1 : rnd(&w->rng) % 2000 + 1;
	if (rnd(&w->rng) % 3 == 0)
		first = (uint32_t)(f->size < NR_CELLS ? f->size : 0);
	nr = nr < NR_CELLS - first ? nr : NR_CELLS - first;
	for (uint32_t c = 0; c < nr; c++) {
		fill_cell(w->buf + (size_t)c * CELL, file_id(w->nr, k),
			  first + c, ver);
		f->cells[first + c].now = ver;
		f->cells[first + c].zero_now = 0; /* looked at by us alone */
	}
	if (first + nr > f->size)
		set_size(f, first + nr);
	iov.iov_base = w->buf;
	iov.iov_len = (size_t)nr * CELL;
	r = bale_file_write(w->inodes[k], &iov, 1, (uint64_t)first * CELL,
			    false, false);
	if (r)
		die("write", r, first, nr);
}

static void do_truncate(struct worker *w, unsigned int k)
{
	struct file *f = &model->files[w->nr][k];
	uint64_t size = rnd(&w->rng) % 4 ? rnd(&w->rng) % (NR_CELLS + 1) : 0;
	struct bale_setattr a = { .valid = BALE_SET_SIZE, .size = size * CELL };
	int r;

	if (size < f->size)
		zero_cells(f, size, f->size);
	set_size(f, size);
	r = bale_inode_setattr(w->inodes[k], &a);
	if (r)
		die("truncate", r, (long)size, 0);
}

static void do_punch(struct worker *w, unsigned int k)
{
	struct file *f = &model->files[w->nr][k];
	uint32_t first = rnd(&w->rng) % NR_CELLS;
	uint32_t nr = rnd(&w->rng) % 900 + 1;
	uint64_t last = first + nr < f->size ? first + nr : f->size;
	int r;

	if (first < last)
		zero_cells(f, first, last);
	r = bale_file_fallocate(w->inodes[k],
				(rnd(&w->rng) % 2 ? FALLOC_FL_PUNCH_HOLE :
						    FALLOC_FL_ZERO_RANGE) |
					FALLOC_FL_KEEP_SIZE,
				(uint64_t)first * CELL, (uint64_t)nr * CELL);
	if (r)
		die("punch", r, first, nr);
}

static void check_exact(struct worker *w, unsigned int k, uint32_t first,
			uint64_t last)
{
	struct file *f = &model->files[w->nr][k];

	if (last > f->size)
		last = f->size;
	if (first >= last)
		return;
	read_cells(w->inodes[k], w->buf, first, last - first);
	for (uint32_t c = first; c < last; c++) {
		struct cell *m = &f->cells[c];
		uint32_t v = cell_version(w->buf + (size_t)(c - first) * CELL,
					  file_id(w->nr, k), c);

		if (v != (m->zero_now ? 0 : m->now))
			die("content differs", file_id(w->nr, k), c, (long)v);
	}
}

/* A copy that shares extents holds what the file holds. */
static void do_copy(struct worker *w, unsigned int k)
{
	struct file *f = &model->files[w->nr][k];
	struct bale_setattr a = { .valid = BALE_SET_SIZE };
	struct bale_inode *to;
	char name[32];
	size_t n = 0;
	int r;

	if (!f->size)
		return;
	snprintf(name, sizeof(name), "copy%u", w->nr);
	to = get_file(name, true);
	r = rnd(&w->rng) % 2 ? bale_inode_setattr(to, &a) : 0;
	if (!r)
		r = bale_file_copy_range(w->inodes[k], 0, to, 0, f->size * CELL,
					 &n);
	if (r || n != f->size * CELL)
		die("copy", r, (long)n, (long)f->size * CELL);
	read_cells(to, w->buf, 0, f->size);
	for (uint32_t c = 0; c < f->size; c++) {
		struct cell *m = &f->cells[c];
		uint32_t v = cell_version(w->buf + (size_t)c * CELL,
					  file_id(w->nr, k), c);

		if (v != (m->zero_now ? 0 : m->now))
			die("copy differs", file_id(w->nr, k), c, (long)v);
	}
	bale_inode_put(to);
}

static void do_recompress(struct worker *w, unsigned int k)
{
	struct bale_codec_policy p = { rnd(&w->rng) % 2 ? BALE_CODEC_lz4 :
							  BALE_CODEC_zstd,
				       0 };
	uint64_t before, after;
	int r = bale_file_recompress(w->inodes[k], p, &before, &after);

	if (r)
		die("recompress", r, 0, 0);
}

/* The kill may come between any two of these: each step by itself only
 * narrows what is allowed, and never to less than what is there. */
static void cell_synced(struct cell *m)
{
	if (!m->zero_now)
		m->zero_synced = 0; /* before the version that was written */
	atomic_signal_fence(memory_order_seq_cst);
	m->synced = m->now;
	atomic_signal_fence(memory_order_seq_cst);
	m->zero_synced = m->zero_now;
	atomic_signal_fence(memory_order_seq_cst);
	m->zeroed = 0;
}

static void do_fsync(struct worker *w, unsigned int k)
{
	struct file *f = &model->files[w->nr][k];
	int r = bale_file_fsync(w->inodes[k], false);

	if (r)
		die("fsync", r, 0, 0);
	f->size_synced = f->size_min = f->size_max = f->size;
	for (uint32_t c = 0; c < NR_CELLS; c++)
		cell_synced(&f->cells[c]);
	__atomic_fetch_add(&model->fsyncs, 1, __ATOMIC_RELAXED);
}

/* Written without fsync, renamed over: whole old or whole new. */
static void do_rename(struct worker *w)
{
	uint32_t ver = ++model->rename_started;
	struct bale_inode *root, *i;
	struct iovec iov = { w->buf, (size_t)RENAME_CELLS * CELL };
	int r;

	for (uint32_t c = 0; c < RENAME_CELLS; c++)
		fill_cell(w->buf + (size_t)c * CELL, 9999, c, ver);
	i = get_file("fresh", true);
	r = bale_file_write(i, &iov, 1, 0, false, false);
	bale_inode_put(i);
	if (r)
		die("write of fresh", r, 0, 0);
	/* Only over a file does a rename promise anything about content. */
	i = get_file("target", false);
	if (!i) {
		i = get_file("target", true);
		r = bale_file_write(i, &iov, 1, 0, false, false);
		if (!r)
			r = bale_file_fsync(i, false);
	}
	bale_inode_put(i);
	if (r)
		die("first target", r, 0, 0);
	r = bale_inode_get(fs, BALE_ROOT_INO, &root);
	if (!r)
		r = bale_dir_rename(root, "fresh", root, "target", 0);
	if (r)
		die("rename", r, 0, 0);
	bale_inode_put(root);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	while (!stop) {
		unsigned int k = rnd(&w->rng) % NR_FILES;
		unsigned int op = rnd(&w->rng) % 100;
		uint32_t at = rnd(&w->rng) % NR_CELLS;

		if (op < 50)
			do_write(w, k);
		else if (op < 54)
			do_truncate(w, k);
		else if (op < 60)
			do_punch(w, k);
		else if (op < 63)
			do_copy(w, k);
		else if (op < 64)
			do_recompress(w, k);
		else if (op < 85)
			check_exact(w, k, at, at + 1 + rnd(&w->rng) % 2000);
		else if (op < 96)
			do_fsync(w, k);
		else if (w->nr == 0)
			do_rename(w);
		else if (op == 99 && w->nr == 1 && bale_fs_sync(fs))
			die("sync", 0, 0, 0);
		__atomic_fetch_add(&model->ops, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* ---- a run ---- */

static void open_fs(unsigned int round)
{
	/* Tiny, so that eviction, back-pressure and rollover happen. */
	struct bale_fs_options o = {
		.size = sizeof(o),
		.cache_bytes = round % 2 ? 8 << 20 : 64 << 20,
		.bale_bytes = 4 << 20,
		.commit_ns = round % 3 ? 50000000 : 1000000000,
		.nr_workers = 2,
		.wait_ms = 5000,
	};
	int r = bale_fs_open(store_dir, &o, &fs);

	if (r)
		die("open", r, round, 0);
}

static struct worker workers[NR_THREADS];

/* All the time: so that any kill may hit it. */
static void *cleaner_main(void *arg)
{
	struct bale_cleaner_stats s, last = { 0 };

	(void)arg;
	while (!stop) {
		int r = bale_cleaner_run(bale_fs_store(fs), 0);

		if (r)
			die("cleaner", r, 0, 0);
		bale_cleaner_stats(bale_fs_store(fs), &s);
		__atomic_fetch_add(&model->cleaned,
				   s.segments_freed - last.segments_freed,
				   __ATOMIC_RELAXED);
		__atomic_fetch_add(&model->copied,
				   s.bytes_copied - last.bytes_copied,
				   __ATOMIC_RELAXED);
		last = s;
		usleep(2000);
	}
	return NULL;
}

static void prepare_workers(unsigned int seed)
{
	for (unsigned int t = 0; t < NR_THREADS; t++) {
		struct worker *w = &workers[t];

		w->nr = t;
		w->rng = seed * 7919u + t + 1;
		w->buf = malloc((size_t)NR_CELLS * CELL);
		for (unsigned int k = 0; k < NR_FILES; k++) {
			char name[32];

			snprintf(name, sizeof(name), "f%u.%u", t, k);
			w->inodes[k] = get_file(name, true);
		}
	}
}

static void release_workers(void)
{
	for (unsigned int t = 0; t < NR_THREADS; t++) {
		for (unsigned int k = 0; k < NR_FILES; k++)
			bale_inode_put(workers[t].inodes[k]);
		free(workers[t].buf);
	}
}

static void run_workers(unsigned int ms)
{
	pthread_t th[NR_THREADS], cleaner;

	for (unsigned int t = 0; t < NR_THREADS; t++) {
		if (pthread_create(&th[t], NULL, worker_main, &workers[t]))
			die("thread", t, 0, 0);
	}
	if (pthread_create(&cleaner, NULL, cleaner_main, NULL))
		die("thread", -1, 0, 0);
	usleep(ms * 1000);
	stop = true;
	for (unsigned int t = 0; t < NR_THREADS; t++)
		pthread_join(th[t], NULL);
	pthread_join(cleaner, NULL);
	stop = false;
}

/* After a crash: allowed states; the model goes on from what is there. */
static void check_after_kill(struct worker *w, unsigned int k)
{
	struct file *f = &model->files[w->nr][k];
	struct bale_inode_row row;
	uint64_t size;

	bale_inode_attr(w->inodes[k], &row);
	size = row.size / CELL;
	if (row.size % CELL ||
	    size < (f->size_min < f->size_synced ? f->size_min :
						   f->size_synced) ||
	    size > (f->size_max > f->size_synced ? f->size_max :
						   f->size_synced))
		die("size", file_id(w->nr, k), (long)row.size,
		    (long)f->size_min * CELL);
	memset(w->buf, 0, (size_t)NR_CELLS * CELL);
	if (size)
		read_cells(w->inodes[k], w->buf, 0, size);
	for (uint32_t c = 0; c < NR_CELLS; c++) {
		struct cell *m = &f->cells[c];
		uint32_t v = c < size ? cell_version(w->buf + (size_t)c * CELL,
						     file_id(w->nr, k), c) :
					0;

		if (c >= size)
			; /* judged by the size */
		else if (!v && !(m->zero_synced || m->zeroed || !m->synced))
			die("fsynced cell is zero", file_id(w->nr, k), c,
			    m->synced);
		else if (v && (v < m->synced || v > m->now ||
			       (v == m->synced && m->zero_synced)))
			die("cell of a wrong time", file_id(w->nr, k), c,
			    (long)v);
		/* What it may have been before the size hides it. */
		m->now = m->synced = v ? v : m->now;
		m->zero_now = m->zero_synced = !v;
		m->zeroed = 0;
	}
	f->size = f->size_synced = f->size_min = f->size_max = size;
}

static void check_target(uint8_t *buf)
{
	struct bale_inode *i = get_file("target", false);
	struct bale_inode_row row;
	uint32_t first = 0;

	if (!i)
		return;
	bale_inode_attr(i, &row);
	if (!row.size && !model->rename_synced) {
		bale_inode_put(i);
		return; /* killed before the first fsync of it */
	}
	model->rename_synced = 1;
	if (row.size != (uint64_t)RENAME_CELLS * CELL)
		die("renamed file is cut", (long)row.size, 0, 0);
	read_cells(i, buf, 0, RENAME_CELLS);
	for (uint32_t c = 0; c < RENAME_CELLS; c++) {
		uint32_t v = cell_version(buf + (size_t)c * CELL, 9999, c);

		first = c ? first : v;
		if (v != first || !v)
			die("renamed file is mixed", c, (long)v, (long)first);
	}
	bale_inode_put(i);
}

static int wait_child(pid_t pid)
{
	int st;

	if (waitpid(pid, &st, 0) < 0)
		return -1;
	return st;
}

/* A few rounds may all be killed before there is a thing to move. */
static void tell_cleaner(bool must)
{
	printf("%llu segments removed, %llu KiB moved\n",
	       (unsigned long long)model->cleaned,
	       (unsigned long long)model->copied >> 10);
	if (must && (!model->cleaned || !model->copied))
		die("the cleaner had no work", (long)model->cleaned,
		    (long)model->copied, 0);
}

static void run_kill(unsigned int rounds)
{
	for (unsigned int n = 0; n < rounds; n++) {
		pid_t pid = fork();
		int st;

		if (!pid) {
			open_fs(n);
			prepare_workers(seed_base + n);
			for (unsigned int t = 0; t < NR_THREADS; t++) {
				for (unsigned int k = 0; k < NR_FILES; k++)
					check_after_kill(&workers[t], k);
			}
			check_target(workers[0].buf);
			if (n + 1 == rounds) {
				release_workers();
				_exit(bale_fs_close(fs) ? 1 : 0);
			}
			/* Killed by itself, in the middle of anything. */
			if (!fork()) {
				usleep((seed_base * 31 + n * 7919) % 400000 +
				       20000);
				kill(getppid(), SIGKILL);
				_exit(0);
			}
			run_workers(60000);
			_exit(2);
		}
		st = wait_child(pid);
		if (n + 1 == rounds ?
			    st != 0 :
			    !WIFSIGNALED(st) || WTERMSIG(st) != SIGKILL)
			die("child", st, n, 0);
	}
	printf("%u kills, %llu operations, %llu fsyncs\n", rounds - 1,
	       (unsigned long long)model->ops,
	       (unsigned long long)model->fsyncs);
	tell_cleaner(rounds >= 50);
}

static void run_threads(unsigned int seconds)
{
	for (unsigned int n = 0; n < 4; n++) {
		open_fs(n);
		prepare_workers(seed_base + n);
		for (unsigned int t = 0; t < NR_THREADS; t++) {
			for (unsigned int k = 0; k < NR_FILES; k++)
				check_exact(&workers[t], k, 0, NR_CELLS);
		}
		check_target(workers[0].buf);
		if (n < 3)
			run_workers(seconds * 1000 / 3);
		release_workers();
		if (bale_fs_close(fs))
			die("close", n, 0, 0);
	}
	printf("%llu operations, %llu fsyncs\n", (unsigned long long)model->ops,
	       (unsigned long long)model->fsyncs);
	tell_cleaner(true);
}

int main(int argc, char **argv)
{
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.codec = BALE_CODEC_auto,
					.segment_bits = 20,
					.log_bits = 20 };
	char cmd[128];
	int r;

	if (argc < 3)
		return 2;
	bale_log_set_level(BALE_LOG_WARN);
	seed_base = argc > 3 ? (unsigned int)atoi(argv[3]) :
			       (unsigned int)time(NULL);
	model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (model == MAP_FAILED)
		return 1;
	snprintf(store_dir, sizeof(store_dir), "/tmp/bale-torture-%d",
		 (int)getpid());
	r = bale_store_mkfs(store_dir, &mk);
	if (r)
		die("mkfs", r, 0, 0);
	if (!strcmp(argv[1], "kill"))
		run_kill((unsigned int)atoi(argv[2]));
	else
		run_threads((unsigned int)atoi(argv[2]));
	if (getenv("TORTURE_KEEP")) {
		printf("%s\n", store_dir);
		return 0;
	}
	snprintf(cmd, sizeof(cmd), "rm -rf %s", store_dir);
	return system(cmd) ? 1 : 0;
}
