/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_mount.c - content through the kernel: streams written into a mount,
 * synced, and read back by the next mount, whose caches are empty.
 *
 * The daemon is this program again, in the foreground as a child: its CPU time
 * is what wait4() says, it has a process group of its own so that a terminal's
 * ^C reaches us alone, and it ends when we die. Store and mount point are in a
 * new directory, which is unmounted and removed on every way out.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/mem.h"
#include "fs/base/thread.h"
#include "fs/fuse/mounts.h"
#include "tools/bench.h"
#include "tools/cmd.h"
#include "tools/stats.h"

enum {
	CYCLES_MAX = 5, /* each makes a store, and takes seconds */
	IO_SIZE = 1 << 20,
	POLL_US = 2000,
	MOUNT_WAIT_MS = 30000,
};

struct place {
	char dir[PATH_MAX - 16], store[PATH_MAX], mnt[PATH_MAX];
	pid_t daemon; /* 0: not mounted */
};

/* ---- processes ---- */

static pid_t start_self(const char *const *argv)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	execv("/proc/self/exe", (char *const *)argv);
	_exit(127);
}

/* The exit status, 128 and more for a signal; CPU time onto *cpu_ns. */
static int wait_for(pid_t pid, uint64_t *cpu_ns)
{
	struct rusage u;
	int status;

	while (wait4(pid, &status, 0, &u) < 0)
		if (errno != EINTR)
			return 127;
	*cpu_ns +=
		((uint64_t)u.ru_utime.tv_sec + (uint64_t)u.ru_stime.tv_sec) *
			1000000000 +
		((uint64_t)u.ru_utime.tv_usec + (uint64_t)u.ru_stime.tv_usec) *
			1000;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int make_store(const struct place *p, const char *codec, size_t extent)
{
	char opts[128];
	const char *argv[] = { "balefs", "mkfs", "-q",	   "-o",
			       opts,	 "--",	 p->store, NULL };
	uint64_t cpu = 0;
	pid_t pid;

	snprintf(opts, sizeof(opts), "extent=%zu,codec=%s", extent, codec);
	pid = start_self(argv);
	if (pid < 0 || wait_for(pid, &cpu)) {
		bale_cmd_error("%s: making the store failed", p->store);
		return -EIO;
	}
	return 0;
}

static int mount_store(struct place *p, const char *options)
{
	const char *argv[] = { "balefs", "mount",  "-f",   "-o", options,
			       "--",	 p->store, p->mnt, NULL };
	bale_autofree struct bale_mount_info *m = malloc(sizeof(*m));
	uint64_t end = bale_now_ns() + (uint64_t)MOUNT_WAIT_MS * 1000000;
	uint64_t cpu = 0;

	if (!m)
		return -ENOMEM;
	p->daemon = start_self(argv);
	if (p->daemon < 0) {
		p->daemon = 0;
		bale_cmd_error("fork: %s", strerror(errno));
		return -EIO;
	}
	while (bale_mounts_at(p->mnt, m)) {
		siginfo_t info = { 0 };

		if (bale_now_ns() < end &&
		    !waitid(P_PID, (id_t)p->daemon, &info,
			    WEXITED | WNOHANG | WNOWAIT) &&
		    !info.si_pid) {
			usleep(POLL_US);
			continue;
		}
		kill(p->daemon, SIGKILL);
		wait_for(p->daemon, &cpu);
		p->daemon = 0;
		bale_cmd_error("%s: mounting failed", p->store);
		return -EIO;
	}
	return 0;
}

static int unmount_store(struct place *p, uint64_t *cpu_ns)
{
	int r, status;

	if (!p->daemon)
		return 0;
	r = bale_mounts_unmount(p->mnt, false, false);
	if (r) /* busy: somebody looks at it */
		r = bale_mounts_unmount(p->mnt, true, false);
	if (r)
		kill(p->daemon, SIGTERM);
	status = wait_for(p->daemon, cpu_ns);
	p->daemon = 0;
	if (status)
		bale_cmd_error("%s: the daemon ended with status %d", p->store,
			       status);
	return status ? -EIO : 0;
}

/* ---- the directory ---- */

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	remove(path);
	return 0;
}

static int place_create(struct place *p, const char *work)
{
	memset(p, 0, sizeof(*p));
	if ((size_t)snprintf(p->dir, sizeof(p->dir), "%s/balefs-bench-XXXXXX",
			     work) >= sizeof(p->dir) ||
	    !mkdtemp(p->dir)) {
		bale_cmd_error("%s: %s", work, strerror(errno));
		return -EIO;
	}
	snprintf(p->store, sizeof(p->store), "%s/store", p->dir);
	snprintf(p->mnt, sizeof(p->mnt), "%s/mnt", p->dir);
	if (mkdir(p->mnt, 0700)) {
		bale_cmd_error("%s: %s", p->mnt, strerror(errno));
		return -EIO;
	}
	return 0;
}

/* FTW_MOUNT: never into something that is still mounted. */
static void place_destroy(struct place *p)
{
	uint64_t cpu = 0;

	unmount_store(p, &cpu);
	if (p->dir[0])
		nftw(p->dir, remove_one, 32, FTW_PHYS | FTW_DEPTH | FTW_MOUNT);
}

/* ---- streams ---- */

struct stream {
	const struct bale_bench_data *data;
	const char *mnt;
	size_t begin, end; /* share of the data */
	unsigned int idx;
	bool reads;
	int err;
	uint64_t wrong;
	pthread_t thread;
};

static int write_stream(const struct stream *s, int fd)
{
	for (size_t off = s->begin; off < s->end;) {
		size_t left = s->end - off;
		ssize_t n = write(fd, s->data->bytes + off,
				  left < IO_SIZE ? left : IO_SIZE);

		if (bale_bench_stopped())
			return -EINTR;
		if (n < 0 && errno != EINTR)
			return -errno;
		off += n > 0 ? (size_t)n : 0;
	}
	return fsync(fd) ? -errno : 0;
}

static int read_stream(struct stream *s, int fd)
{
	bale_autofree uint8_t *buf = malloc(IO_SIZE);
	size_t off = s->begin;

	if (!buf)
		return -ENOMEM;
	while (off < s->end) {
		ssize_t n = read(fd, buf, IO_SIZE);

		if (bale_bench_stopped())
			return -EINTR;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n || (size_t)n > s->end - off)
			break;
		s->wrong += memcmp(buf, s->data->bytes + off, (size_t)n) != 0;
		off += (size_t)n;
	}
	s->wrong += off != s->end;
	return 0;
}

static void *stream_main(void *arg)
{
	struct stream *s = arg;
	char path[PATH_MAX + 16];
	bale_autoclose int fd = -1;

	snprintf(path, sizeof(path), "%s/%u", s->mnt, s->idx);
	fd = open(path,
		  s->reads ? O_RDONLY | O_CLOEXEC :
			     O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		  0600);
	if (fd < 0)
		s->err = -errno;
	else
		s->err = s->reads ? read_stream(s, fd) : write_stream(s, fd);
	return NULL;
}

/* What a phase has cost: of the daemon, and of us. */
struct phase {
	uint64_t ns, cpu_ns, wrong;
};

static int run_streams(const struct bale_bench *b, const struct place *p,
		       bool reads, struct phase *ret)
{
	bale_autofree struct stream *s = calloc(b->streams, sizeof(*s));
	uint64_t start = bale_now_ns(), cpu = bale_cpu_ns();
	unsigned int nr = 0;
	int r = s ? 0 : -ENOMEM;

	for (; nr < b->streams && !r; nr += !r) {
		s[nr].data = &b->data;
		s[nr].mnt = p->mnt;
		s[nr].begin = b->data.len / b->streams * nr;
		s[nr].end = nr + 1 == b->streams ?
				    b->data.len :
				    b->data.len / b->streams * (nr + 1);
		s[nr].idx = nr;
		s[nr].reads = reads;
		r = bale_thread_start(&s[nr].thread, "bale-stream", stream_main,
				      &s[nr]);
	}
	for (unsigned int i = 0; i < nr; i++) {
		pthread_join(s[i].thread, NULL);
		ret->wrong += s[i].wrong;
		r = r ? r : s[i].err;
	}
	ret->ns = bale_now_ns() - start + 1;
	ret->cpu_ns += bale_cpu_ns() - cpu;
	if (r && r != -EINTR)
		bale_cmd_error("%s: %s", p->mnt, strerror(-r));
	return r;
}

/* Daemons choose for themselves where work goes, unless there is no choice. */
static const char *options_of(const struct bale_bench_engine *e)
{
	if (!e->is_device)
		return "gpu=off";
	return strcmp(e->name, "fake") ? "gpu=auto" : "gpu=fake";
}

static int one_phase(const struct bale_bench *b, struct place *p,
		     const char *options, bool reads, struct phase *ret)
{
	int r = mount_store(p, options), r2;

	if (!r)
		r = run_streams(b, p, reads, ret);
	r2 = unmount_store(p, &ret->cpu_ns);
	return r ? r : r2;
}

static int store_ratio(const struct place *p, size_t len, double *ret)
{
	struct bale_stats s = { 0 };
	int r = bale_stats_of_store(p->store, &s);

	if (r) {
		bale_cmd_error("%s: %s", p->store, bale_cmd_strerror(r));
		return r;
	}
	/* Against all content, also what became holes. */
	*ret = (double)len / (double)(s.v[BALE_FIGURE_stored_bytes] + 1);
	return 0;
}

struct cycle {
	struct phase write, read;
	double ratio;
};

static int one_cycle(const struct bale_bench *b, const char *options,
		     const char *codec, size_t extent, struct cycle *ret)
{
	struct place p;
	int r = place_create(&p, b->work);

	memset(ret, 0, sizeof(*ret));
	if (!r)
		r = make_store(&p, codec, extent);
	if (!r)
		r = one_phase(b, &p, options, false, &ret->write);
	if (!r)
		r = one_phase(b, &p, options, true, &ret->read);
	if (!r)
		r = store_ratio(&p, b->data.len, &ret->ratio);
	place_destroy(&p);
	return r;
}

static int measure_codec(struct bale_bench *b,
			 const struct bale_bench_engine *e, size_t codec,
			 size_t extent)
{
	struct bale_bench_row row = { .layer = "mount", .extent = extent };
	double v[4][CYCLES_MAX], spent = 0, len = (double)b->data.len;
	size_t n = 0;

	snprintf(row.engine, sizeof(row.engine), "%s", e->name);
	bale_codec_policy_text(b->codecs[codec], row.codec, sizeof(row.codec));
	while (n < b->passes && n < CYCLES_MAX && (!n || spent < b->seconds)) {
		struct cycle c;
		int r = one_cycle(b, options_of(e), row.codec, extent, &c);

		if (r)
			return r;
		v[0][n] = len * 1e9 / (double)c.write.ns;
		v[1][n] = len * 1e9 / (double)c.read.ns;
		v[2][n] = (double)c.write.cpu_ns / len;
		v[3][n++] = (double)c.read.cpu_ns / len;
		spent += (double)(c.write.ns + c.read.ns) / 1e9;
		row.ratio = c.ratio;
		row.wrong += c.read.wrong;
	}
	row.encode = bale_bench_median(v[0], n);
	row.decode = bale_bench_median(v[1], n);
	row.encode_cpu = bale_bench_median(v[2], n);
	row.decode_cpu = bale_bench_median(v[3], n);
	return bale_bench_add(b, &row);
}

static int measure_engine(struct bale_bench *b,
			  const struct bale_bench_engine *e, size_t extent)
{
	int r = 0;

	for (size_t c = 0; c < b->nr_codecs && !r; c++)
		if (!e->is_device || bale_bench_on_device(b->codecs[c]))
			r = measure_codec(b, e, c, extent);
	return r;
}

int bale_bench_mounts(struct bale_bench *b)
{
	int r = 0;

	for (size_t x = 0; x < b->nr_extents && !r; x++)
		for (size_t e = 0; e < b->nr_engines && !r; e++)
			/* A daemon's CPU engine is never the serial one. */
			if (b->engines[e].measured &&
			    strcmp(b->engines[e].name, "serial"))
				r = measure_engine(b, &b->engines[e],
						   b->extents[x]);
	return r;
}
