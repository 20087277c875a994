/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_names_kill.c - SIGKILL at random moments of random namespace work.
 *
 * A child process works on a store: operation k is a function of the seed and
 * k alone. It publishes in a shared page how far it has begun, and up to where
 * a sync has returned. It is killed, the store is opened again, and must be
 * what it was after some operation between the two: a prefix, nothing half
 * done. The oracle is a twin store in this process, on which the same
 * operations are replayed one by one. Content is compared for files that came
 * to their name by write-new, rename-over: whole, old or new.
 *
 * BALEFS_KILL_ROUNDS=N runs longer, BALEFS_KILL_SEED=N other operations.
 */
#include <linux/fs.h>
#include <signal.h>
#include <stdatomic.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/names_fixture.h"

struct progress {
	_Atomic uint64_t begun;	 /* steps that may be there */
	_Atomic uint64_t synced; /* steps that must be there */
};

struct work {
	struct bale_fs *fs;
	struct bale_inode *root;
	uint64_t seed;
	uint64_t step; /* steps done */
	/* before and after every step */
	struct progress *progress;
	bool (*stop)(struct work *w);
	void *arg;
	bool stopped;
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdu;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53u;
	return x ^ x >> 33;
}

struct dice {
	uint64_t s;
};

static unsigned int roll(struct dice *d, unsigned int n)
{
	d->s = mix(d->s + 0x9e3779b97f4a7c15u);
	return (unsigned int)(d->s % n);
}

/* A step is one transaction: the smallest thing that a crash may show. */
static bool step_begin(struct work *w)
{
	if (w->stopped)
		return false;
	if (w->progress)
		atomic_store(&w->progress->begun, w->step + 1);
	return true;
}

static void step_end(struct work *w)
{
	w->step++;
	if (w->stop && w->stop(w))
		w->stopped = true;
}

static struct bale_inode *some_dir(struct work *w, struct dice *d)
{
	struct bale_inode *i = w->root, *next;
	unsigned int depth = roll(d, 4);
	char name[16];

	bale_inode_ref(i);
	while (depth--) {
		snprintf(name, sizeof(name), "n%u", roll(d, 6));
		if (bale_dir_lookup(i, name, &next))
			continue;
		if (!S_ISDIR(next->type)) {
			bale_inode_put(next);
			continue;
		}
		bale_inode_put(i);
		i = next;
	}
	return i;
}

static void fill(uint8_t *buf, size_t len, uint64_t seed)
{
	for (size_t k = 0; k < len; k++)
		buf[k] = (uint8_t)(mix(seed + k / 64) >> (k % 8));
}

/* Content goes in before the name: only the rename is a step that counts. */
static void write_new_rename_over(struct work *w, struct dice *d)
{
	size_t len = roll(d, 4) ? 1 + roll(d, 3000) : 1 + roll(d, 400000);
	struct bale_inode *i = NULL;
	struct iovec v = { .iov_base = malloc(len), .iov_len = len };
	struct bale_setattr empty = { .valid = BALE_SET_SIZE };
	char target[16];
	bool have;

	snprintf(target, sizeof(target), "t%u", roll(d, 3));
	fill(v.iov_base, len, d->s);
	if (step_begin(w)) {
		have = !bale_dir_create(w->root, "tmp", 0600, 0, &fx_root, &i);
		if (!have)
			have = !bale_dir_lookup(w->root, "tmp", &i);
		assert_true(have);
		step_end(w);
	}
	if (i && !w->stopped) { /* one left by a crash may be longer */
		assert_int_equal(bale_inode_setattr(i, &empty), 0);
		assert_int_equal(bale_file_write(i, &v, 1, 0, false, false),
				 0);
	}
	if (i && step_begin(w)) {
		assert_int_equal(bale_dir_rename(w->root, "tmp", w->root,
						 target, 0), 0);
		step_end(w);
	}
	bale_inode_put(i);
	free(v.iov_base);
}

static void make(struct work *w, struct dice *d, struct bale_inode *dir,
		 const char *name)
{
	struct bale_inode *i = NULL;
	int r;

	switch (roll(d, 3)) {
	case 0:
		r = bale_dir_mkdir(dir, name, 0777, &fx_root, &i);
		break;
	case 1:
		r = bale_dir_symlink(dir, name, "some/where", &fx_root, &i);
		break;
	default:
		r = bale_dir_create(dir, name, 0666, 0, &fx_root, &i);
	}
	assert_true(!r || r == -EEXIST);
	bale_inode_put(i);
	step_end(w);
}

static void change_attr(struct dice *d, struct bale_inode *i)
{
	struct bale_setattr a = { .valid = BALE_SET_MODE,
				  .mode = roll(d, 07777) };
	char name[32], val[32];

	if (roll(d, 2)) {
		assert_int_equal(bale_inode_setattr(i, &a), 0);
		return;
	}
	snprintf(name, sizeof(name), "user.%u", roll(d, 4));
	snprintf(val, sizeof(val), "%u", roll(d, 1000));
	assert_int_equal(bale_xattr_set(i, name, val, strlen(val), 0, false),
			 0);
}

static void operate(struct work *w, struct dice *d)
{
	struct bale_inode *a = some_dir(w, d), *b = some_dir(w, d), *i;
	const unsigned int flags[] = { 0, 0, RENAME_NOREPLACE,
				       RENAME_EXCHANGE };
	unsigned int kind = roll(d, 10);
	char n[16], m[16];

	snprintf(n, sizeof(n), "n%u", roll(d, 6));
	snprintf(m, sizeof(m), "n%u", roll(d, 6));
	if (!step_begin(w)) {
		bale_inode_put(a);
		bale_inode_put(b);
		return;
	}
	if (kind < 4) {
		make(w, d, a, n);
	} else if (kind < 7) {
		bale_dir_rename(a, n, b, m, flags[roll(d, 4)]);
		step_end(w);
	} else if (kind == 7) {
		if (bale_dir_unlink(a, n) == -EISDIR)
			bale_dir_rmdir(a, n);
		step_end(w);
	} else {
		if (!bale_dir_lookup(a, n, &i)) {
			if (kind == 8)
				bale_dir_link(i, b, m);
			else
				change_attr(d, i);
			bale_inode_put(i);
		}
		step_end(w);
	}
	bale_inode_put(a);
	bale_inode_put(b);
}

/* From w->step until stopped. An operation of several steps that was cut by a
 * crash is not taken up again: both sides go on with the next block. */
static void run(struct work *w, uint64_t block)
{
	for (; !w->stopped; block++) {
		struct dice d = { .s = mix(w->seed) ^ mix(block) };

		if (roll(&d, 8) == 0)
			write_new_rename_over(w, &d);
		else
			operate(w, &d);
		if (w->progress && roll(&d, 20) == 0) {
			uint64_t done = w->step;

			assert_int_equal(bale_fs_sync(w->fs), 0);
			atomic_store(&w->progress->synced, done);
		}
	}
}

/* ---- what a filesystem is, as text ---- */

struct digest {
	struct bale_fs *fs;
	uint64_t sum; /* of all entries, whatever their order */
	uint64_t path; /* of the directory being listed */
	uint64_t entries;
};

static uint64_t mix_bytes(uint64_t h, const void *p, size_t len)
{
	const uint8_t *b = p;

	for (size_t k = 0; k < len; k++)
		h = mix(h + b[k] + 1);
	return h;
}

static uint64_t content(struct bale_inode *i)
{
	uint64_t h = 7, off = 0;
	struct bale_read r;

	do {
		assert_int_equal(bale_file_read(i, off, 128 << 10, &r), 0);
		for (unsigned int k = 0; k < r.nr_iov; k++)
			h = mix_bytes(h, r.iov[k].iov_base, r.iov[k].iov_len);
		off += r.len;
		bale_file_read_done(&r);
	} while (r.len);
	return h + off;
}

static uint64_t xattrs(struct bale_inode *i)
{
	char names[1024], val[64];
	size_t len, val_len;
	uint64_t h = 3;

	assert_int_equal(bale_xattr_list(i, names, sizeof(names), &len), 0);
	for (char *n = names; n < names + len; n += strlen(n) + 1) {
		assert_int_equal(bale_xattr_get(i, n, val, sizeof(val),
						&val_len), 0);
		h = mix_bytes(mix_bytes(h, n, strlen(n)), val, val_len);
	}
	return h;
}

static int digest_fn(const struct bale_dir_entry *e, void *arg)
{
	struct digest *d = arg;
	struct bale_inode_row row;
	struct bale_inode *i;
	uint64_t path, h;

	if (e->name[0] == '.')
		return 0;
	assert_int_equal(bale_inode_get(d->fs, e->ino, &i), 0);
	row = fx_row(i);
	assert_int_equal(row.mode >> 12 & 15, e->type);
	d->entries++;
	path = mix_bytes(d->path, e->name, e->name_len);
	h = mix(path + row.mode);
	h = mix(h + row.nlink + row.nr_entries * 1000);
	h = mix(h + xattrs(i));
	if (S_ISREG(row.mode) && e->name[0] == 't' && e->name_len == 2)
		h = mix(h + content(i));
	d->sum += h;
	if (S_ISDIR(row.mode)) {
		uint64_t up = d->path, before = d->entries, nr = row.nr_entries;

		assert_true(nr < 100);
		d->path = path;
		assert_int_equal(bale_dir_read(i, 0, digest_fn, d), 0);
		d->path = up;
		assert_true(d->entries - before >= nr);
	} else {
		assert_true(row.nlink >= 1);
	}
	bale_inode_put(i);
	return 0;
}

static uint64_t digest(struct bale_fs *fs, uint64_t *ret_entries)
{
	struct digest d = { .fs = fs, .path = 1 };
	struct bale_inode *root;

	assert_int_equal(bale_inode_get(fs, BALE_ROOT_INO, &root), 0);
	assert_int_equal(bale_dir_read(root, 0, digest_fn, &d), 0);
	bale_inode_put(root);
	if (ret_entries)
		*ret_entries = d.entries;
	return d.sum;
}

/* ---- the child ---- */

static void open_work(const char *store, uint64_t commit_ns, struct work *w)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .cache_bytes = 8 << 20,
				     .bale_bytes = 1 << 20,
				     .nr_workers = 1,
				     .commit_ns = commit_ns,
				     .manual_commit = !commit_ns };

	assert_int_equal(bale_fs_open(store, &o, &w->fs), 0);
	assert_int_equal(bale_inode_get(w->fs, BALE_ROOT_INO, &w->root), 0);
}

static struct progress *map_progress(const char *store)
{
	char path[80];
	void *p;
	int fd;

	snprintf(path, sizeof(path), "%s.progress", store);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct progress)), 0);
	p = mmap(NULL, sizeof(struct progress), PROT_READ | PROT_WRITE,
		 MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	close(fd);
	return p;
}

static int child(const char *store, uint64_t seed)
{
	struct work w = { .seed = seed, .progress = map_progress(store) };

	open_work(store, 20000000, &w);
	run(&w, 0);
	return 0;
}

/* ---- the judge ---- */

struct judge {
	uint64_t want, synced, begun;
	bool found;
};

/* After each step of the twin: is this what the killed one shows? */
static bool judge_step(struct work *w)
{
	struct judge *j = w->arg;

	if (w->step >= j->synced && digest(w->fs, NULL) == j->want)
		j->found = true;
	return j->found || w->step >= j->begun;
}

static void start_and_kill(const char *store, uint64_t seed, unsigned int ms)
{
	char seed_text[32];
	pid_t pid;
	int status;

	snprintf(seed_text, sizeof(seed_text), "%llu",
		 (unsigned long long)seed);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* kept over exec */
		execl("/proc/self/exe", "child", store, seed_text, NULL);
		_exit(127);
	}
	nanosleep(&(struct timespec){ ms / 1000, (long)(ms % 1000) * 1000000 },
		  NULL);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void expect_sound(struct fixture *f)
{
	uint64_t entries;

	digest(f->fs, &entries);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_dirent), entries);
	assert_int_equal(fx_count(f, BALE_TABLE_cookie), entries);
}

static void one_round(struct fixture *killed, struct fixture *twin,
		      uint64_t seed, unsigned int ms)
{
	struct progress *p = map_progress(killed->store);
	struct judge j = { 0 };
	struct work w = { .seed = seed, .fs = twin->fs, .root = twin->root,
			  .stop = judge_step, .arg = &j };

	p->begun = p->synced = 0;
	fx_close(killed);
	start_and_kill(killed->store, seed, ms);
	fx_open(killed, false);
	expect_sound(killed);
	j.want = digest(killed->fs, NULL);
	j.synced = p->synced;
	j.begun = p->begun;
	if (j.synced || digest(twin->fs, NULL) != j.want)
		run(&w, 0);
	else
		j.found = true;
	print_message("seed %llu: %llu begun, %llu synced, found at %llu\n",
		      (unsigned long long)seed, (unsigned long long)j.begun,
		      (unsigned long long)j.synced,
		      (unsigned long long)w.step);
	assert_true(j.found);
	munmap(p, sizeof(*p));
}

static void test_kill(void **state)
{
	struct fixture *killed = *state, *twin;
	const char *rounds = getenv("BALEFS_KILL_ROUNDS");
	const char *seed = getenv("BALEFS_KILL_SEED");
	unsigned int nr = rounds ? (unsigned int)atoi(rounds) : 12;
	struct dice d = { .s = seed ? strtoull(seed, NULL, 10) : 1 };
	char path[80];
	void *t;

	fx_setup(&t);
	twin = t;
	for (unsigned int k = 0; k < nr; k++) {
		uint64_t s = roll(&d, 1u << 30);

		one_round(killed, twin, s, 20 + roll(&d, 250));
	}
	fx_teardown(&t);
	snprintf(path, sizeof(path), "%s.progress", killed->store);
	unlink(path);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { FX_TEST(test_kill) };

	if (argc == 3 && !strcmp(argv[0], "child"))
		return child(argv[1], strtoull(argv[2], NULL, 10));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
