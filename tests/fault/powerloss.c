/* SPDX-License-Identifier: Apache-2.0 */
#include "powerloss.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "tools/cmd.h"

enum {
	LIMIT_S = 120, /* a state that takes longer hangs */
	SHOWN = 20,
	TWICE = 5,	  /* one state in so many is recovered, recorded ... */
	TWICE_STATES = 4, /* ... and cut off again, so many times */
	FSCK = 4,	  /* one in so many goes through fsck -y first */
	CACHE = 16 << 20,
	BALLAST = 60000,
};

static uint64_t rng;
static unsigned int failures, quiet_failures, indexes_used;
static bool quiet;
static char label[240];
static const char *const mode_names[] = { "all", "none", "random",
					  "combination" };

struct run {
	const struct bale_pl_test *t;
	uint64_t seed;
	char dir[64];
	unsigned int states, exhausted; /* exhausted: events */
	unsigned int twice; /* states of a recovery that was cut off */
	unsigned int fscked;
};

uint64_t bale_pl_draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng * 0x2545f4914f6cdd1du >> 11) % n;
}

void bale_pl_must(int r, const char *what)
{
	if (!r)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

void bale_pl_fail(const char *fmt, ...)
{
	va_list ap;

	if (quiet) {
		quiet_failures++;
		return;
	}
	if (failures++ >= SHOWN)
		return;
	fprintf(stderr, "FAIL %s: ", label);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

unsigned int bale_pl_failures(void)
{
	return failures;
}

void bale_pl_count_index(void)
{
	indexes_used++;
}

void bale_pl_quiet_begin(void)
{
	quiet = true;
	quiet_failures = 0;
}

unsigned int bale_pl_quiet_end(void)
{
	quiet = false;
	return quiet_failures;
}

/* ---- stores ---- */

void bale_pl_mkfs(const char *store)
{
	struct bale_mkfs_options mo = { .size = sizeof(mo),
					.extent_bits = 16,
					.segment_bits = 20,
					.log_bits = 20,
					.codec = BALE_CODEC_auto };

	bale_rec_start();
	bale_pl_must(bale_store_mkfs(store, &mo), "mkfs");
	bale_pl_must(bale_rec_adopt(store), "adopt");
}

int bale_pl_open(const char *store, const struct bale_io_ops *ops,
		 uint64_t commit_ns, struct bale_fs **ret_fs,
		 struct bale_inode **ret_root)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = !commit_ns,
				     .commit_ns = commit_ns,
				     .nr_workers = commit_ns ? 2 : 1,
				     .gpu = { .mode = BALE_GPU_OFF },
				     .cache_bytes = CACHE,
				     .io_ops = ops };
	int r = bale_fs_open(store, &o, ret_fs);

	if (r)
		return r;
	r = bale_inode_get(*ret_fs, BALE_ROOT_INO, ret_root);
	if (r)
		bale_fs_close(*ret_fs);
	return r;
}

int bale_pl_close(struct bale_fs *fs, struct bale_inode *root)
{
	bale_inode_put(root);
	return bale_fs_close(fs);
}

void bale_pl_noise(uint8_t *buf, size_t len, uint64_t tag)
{
	uint64_t s = tag * 0x9e3779b97f4a7c15u | 1;

	for (size_t k = 0; k < len; k++) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		buf[k] = (uint8_t)(s >> 32);
	}
}

void bale_pl_ballast(struct bale_inode *root)
{
	static uint8_t noise[BALLAST];

	for (uint64_t n = 1 + bale_pl_draw(6); n; n--) {
		size_t len = BALLAST / 2 + bale_pl_draw(BALLAST / 2);

		bale_pl_noise(noise, len, bale_pl_draw(UINT32_MAX));
		bale_pl_must(bale_xattr_set(root, "user.ballast", noise, len, 0,
					    false),
			     "ballast");
	}
}

static int digest(const char *dir, bool untrusted,
		  uint64_t ret[BALE_TABLE_NR][2], bool *ret_rebuilt)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.untrusted = untrusted,
					.manual_commit = true };
	struct bale_meta_stats ms;
	struct bale_store *st;
	int r = bale_store_open(dir, &o, &st);

	if (r)
		return r;
	r = bale_meta_digest(bale_store_meta(st), ret);
	bale_meta_stats(bale_store_meta(st), &ms);
	*ret_rebuilt = ms.index_rebuilt;
	bale_store_close(st);
	return r;
}

void bale_pl_check_index(const char *dir)
{
	uint64_t live[BALE_TABLE_NR][2], built[BALE_TABLE_NR][2];
	bool rebuilt = false, anew = false;
	int r = digest(dir, false, live, &rebuilt);

	if (!r)
		r = digest(dir, true, built, &anew);
	if (r)
		bale_pl_fail("index: does not open: %s", strerror(-r));
	else if (memcmp(live, built, sizeof(live)))
		bale_pl_fail("index: rebuilt it has other rows");
	if (!rebuilt)
		bale_pl_count_index();
}

int bale_pl_read(struct bale_inode *i, uint8_t *buf, size_t cap,
		 size_t *ret_len)
{
	struct bale_inode_row row;
	size_t done = 0;

	bale_inode_attr(i, &row);
	if (row.size > cap)
		return -EFBIG;
	while (done < row.size) {
		struct bale_read rd;
		size_t at = done;
		int r = bale_file_read(i, done, row.size - done, &rd);

		if (r)
			return r;
		for (unsigned int v = 0; v < rd.nr_iov; v++) {
			memcpy(buf + at, rd.iov[v].iov_base, rd.iov[v].iov_len);
			at += rd.iov[v].iov_len;
		}
		bale_file_read_done(&rd);
		if (at == done)
			return -ENODATA;
		done = at;
	}
	*ret_len = done;
	return 0;
}

/* ---- the states ---- */

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_tree(const char *dir)
{
	if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
		bale_pl_must(-errno, dir);
}

static void show_file(const char *path)
{
	FILE *f = failures <= SHOWN ? fopen(path, "r") : NULL;
	char line[200];

	while (f && fgets(line, sizeof(line), f))
		fprintf(stderr, "  %s", line);
	if (f)
		fclose(f);
}

static void make_empty(const char *dir)
{
	remove_tree(dir);
	if (mkdir(dir, 0700))
		bale_pl_must(-errno, dir);
}

/* There is nothing to mend, and nothing that mending may take away. */
static void fsck_state(struct run *run)
{
	char out[80], *argv[] = { "fsck.balefs", "-y", run->dir, NULL };
	int status;
	pid_t pid;

	snprintf(out, sizeof(out), "%s.fsck", run->dir);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		bale_pl_must(-errno, "fork");
	if (!pid) {
		int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		alarm(LIMIT_S);
		dup2(fd, 1);
		dup2(fd, 2);
		optind = 0;
		_exit(bale_cmd_fsck.fn(&bale_cmd_fsck, 3, argv));
	}
	if (waitpid(pid, &status, 0) != pid)
		bale_pl_must(-errno, "wait");
	run->fscked++;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	bale_pl_fail("fsck -y: %s %d", WIFEXITED(status) ? "status" : "signal",
		     WIFEXITED(status) ? WEXITSTATUS(status) :
					 WTERMSIG(status));
	show_file(out);
}

static void one_state(struct run *run, size_t k, enum bale_rec_mode mode,
		      uint64_t seed)
{
	bool indexed = run->t->with_index && bale_pl_draw(2);
	bool fscked = bale_pl_draw(FSCK) == 0;

	make_empty(run->dir);
	bale_pl_must(bale_rec_build(run->dir, k, mode, seed), "build");
	if (indexed && bale_rec_copy_index(run->dir, k))
		indexed = false;
	snprintf(label, sizeof(label), "seed %llu events %zu %s %llu%s%s",
		 (unsigned long long)run->seed, k, mode_names[mode],
		 (unsigned long long)seed, indexed ? " with index" : "",
		 fscked ? " after fsck" : "");
	if (fscked)
		fsck_state(run);
	alarm(LIMIT_S);
	run->t->check(run->dir, k);
	alarm(0);
	run->states++;
}

/* The recording of this process is another from here on. */
static void cut_off_recovery(struct run *run, size_t k)
{
	size_t len = strlen(label), from;
	struct bale_inode *root;
	struct bale_fs *fs;
	char again[80];
	int r;

	snprintf(again, sizeof(again), "%s2", run->dir);
	bale_rec_start();
	bale_pl_must(bale_rec_adopt(run->dir), "adopt");
	from = bale_rec_count();
	r = bale_pl_open(run->dir, &bale_rec_ops, 0, &fs, &root);
	if (!r)
		r = bale_pl_close(fs, root);
	if (r)
		bale_pl_fail("recovery: %s", strerror(-r));
	for (unsigned int n = 0; !r && n < TWICE_STATES; n++) {
		size_t k2 = from + bale_pl_draw(bale_rec_count() - from + 1);
		enum bale_rec_mode mode = (enum bale_rec_mode)bale_pl_draw(3);
		uint64_t seed = bale_pl_draw(UINT32_MAX);

		make_empty(again);
		bale_pl_must(bale_rec_build(again, k2, mode, seed), "build");
		snprintf(label + len, sizeof(label) - len,
			 "; again at %zu of %zu, %s", k2 - from,
			 bale_rec_count() - from, mode_names[mode]);
		alarm(LIMIT_S);
		run->t->check(again, k);
		alarm(0);
	}
	remove_tree(again);
}

/* Power is lost again while the store is opened, recovered and closed: what
 * was acknowledged at first is to be there all the same. */
static void twice_state(struct run *run, size_t k, uint64_t seed)
{
	int status;
	pid_t pid;

	make_empty(run->dir);
	bale_pl_must(bale_rec_build(run->dir, k, BALE_REC_RANDOM, seed),
		     "build");
	snprintf(label, sizeof(label), "seed %llu events %zu random %llu",
		 (unsigned long long)run->seed, k, (unsigned long long)seed);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		bale_pl_must(-errno, "fork");
	if (!pid) {
		failures = 0;
		cut_off_recovery(run, k);
		fflush(NULL);
		_exit(failures < 100 ? (int)failures : 100);
	}
	if (waitpid(pid, &status, 0) != pid)
		bale_pl_must(-errno, "wait");
	if (WIFEXITED(status))
		failures += (unsigned int)WEXITSTATUS(status);
	else
		bale_pl_fail("signal %d", WTERMSIG(status));
	run->twice += TWICE_STATES;
	run->states += TWICE_STATES;
}

static void some_states(struct run *run, size_t from, unsigned int states)
{
	for (unsigned int n = 0; run->states < states; n++) {
		/* Most are of the kind that there are most of. */
		uint64_t kind = bale_pl_draw(5);
		enum bale_rec_mode mode =
			kind < 2 ? (enum bale_rec_mode)kind : BALE_REC_RANDOM;
		size_t k = from + bale_pl_draw(bale_rec_count() - from + 1);
		uint64_t seed = run->seed * 1000003 + n;

		if (n % TWICE == TWICE - 1)
			twice_state(run, k, seed);
		else
			one_state(run, k, mode, seed);
	}
}

static void every_state(struct run *run, size_t from)
{
	for (size_t k = from; k <= bale_rec_count(); k++) {
		uint64_t nr = bale_rec_combinations(k);

		/* All and nothing are among the combinations. */
		if (nr <= BALE_PL_EXHAUSTIVE) {
			run->exhausted++;
			for (uint64_t n = 0; n < nr; n++)
				one_state(run, k, BALE_REC_COMBINATION, n);
		} else {
			one_state(run, k, BALE_REC_ALL, 0);
			one_state(run, k, BALE_REC_NONE, 0);
		}
		/* Torn ones, or what is too many to have all of. */
		for (unsigned int n = 0; n < BALE_PL_SAMPLES && nr > 1; n++)
			one_state(run, k, BALE_REC_RANDOM,
				  run->seed * 1000003 + k * 101 + n);
	}
}

static void on_signal(int sig)
{
	static const char hang[] = " hangs\n", crash[] = " crashed\n";
	const char *what = sig == SIGALRM ? hang : crash;

	if (write(2, "FAIL ", 5) < 0 || write(2, label, strlen(label)) < 0 ||
	    write(2, what, strlen(what)) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Which state it was; a sanitizer has its own handlers, and tells more. */
static void name_the_state(void)
{
	signal(SIGALRM, on_signal);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	signal(SIGABRT, on_signal);
	signal(SIGBUS, on_signal);
	signal(SIGSEGV, on_signal);
#endif
}

int bale_pl_run(const struct bale_pl_test *t, int argc, char **argv)
{
	const char *amount = argc > 2 ? argv[2] : "";
	struct run run = { .t = t,
			   .seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1 };
	unsigned int ops = argc > 3 ? (unsigned int)atoi(argv[3]) : 0;
	char work[] = "/dev/shm/balefs-powerloss-XXXXXX", store[64];
	size_t from;

	bale_log_set_level(BALE_LOG_ERR);
	if (!mkdtemp(work))
		return 77;
	setenv("TMPDIR", work, 1);
	rng = run.seed * 0x9e3779b97f4a7c15u | 1;
	snprintf(store, sizeof(store), "%s/store", work);
	snprintf(run.dir, sizeof(run.dir), "%s/state", work);
	snprintf(label, sizeof(label), "%s: the work", t->name);
	name_the_state();
	from = t->work(store, ops ? ops : t->ops);
	if (!strcmp(amount, "every"))
		every_state(&run, from);
	else
		some_states(&run, from,
			    *amount ? (unsigned int)atoi(amount) : t->states);
	printf("%s seed %llu: %zu events, %u states (%u events with all "
	       "combinations, %u with the index they had, %u cut off twice, %u "
	       "behind fsck), "
	       "%u failures\n",
	       t->name, (unsigned long long)run.seed, bale_rec_count(),
	       run.states, run.exhausted, indexes_used, run.twice, run.fscked,
	       failures);
	remove_tree(work);
	bale_rec_free();
	return failures ? 1 : 0;
}
