/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash may leave: killed processes, torn and damaged log tails, power
 * cuts that lose any part of what was not synced. Always: what was durable is
 * there, the rest is a prefix of what was staged, and an index rebuilt from
 * the files equals the one that recovery went on with.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/fault.h"
#include "tests/support/meta_model.h"

static struct store_dir dir;

/* What a child that will be killed tells; survives it. */
struct shared {
	_Atomic uint64_t acked; /* transactions known durable */
	_Atomic uint64_t staged;
	atomic_int error; /* where something unexpected happened */
};
static struct shared *shared;

static int setup(void **state)
{
	(void)state;
	store_dir_make(&dir);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return shared == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(shared, sizeof(*shared));
	store_dir_remove(&dir);
	return 0;
}

/* Recover, compare with the model, compare with a rebuilt index. */
static uint64_t check_recovery(const struct store_dir *d, uint64_t least)
{
	struct store_dir copy;
	struct digest live, rebuilt;
	struct bale_store *st;
	uint64_t seq;

	store_dir_copy(&copy, d);
	st = store_open(&copy, OPEN_MANUAL | OPEN_REBUILD);
	seq = model_check_prefix(bale_store_meta(st), least);
	rebuilt = store_digest(st);
	store_close(st);
	store_dir_remove(&copy);

	st = store_open(d, OPEN_MANUAL);
	assert_int_equal(model_check_prefix(bale_store_meta(st), least), seq);
	live = store_digest(st);
	assert_true(digest_equal(&live, &rebuilt));
	store_close(st);
	return seq;
}

/* ---- killed ---- */

static void fail_child(int line)
{
	atomic_store(&shared->error, line);
	_exit(1);
}

/* Stage, sync now and then, apply and checkpoint, until killed. */
static void child_work(unsigned int flags, uint64_t from, uint64_t rnd,
		       uint64_t last)
{
	struct bale_store *st;
	struct bale_meta *m;
	uint64_t seq;

	if (store_try_open(&dir, flags, &st))
		fail_child(__LINE__);
	m = bale_store_meta(st);
	if (model_seq(m) != from)
		fail_child(__LINE__);
	for (uint64_t i = from + 1; i <= last; i++) {
		uint64_t what = test_rnd(&rnd);

		if (model_stage(m, i, &seq))
			fail_child(__LINE__);
		atomic_store(&shared->staged, i);
		if (what % 11 == 0) {
			if (bale_meta_sync(m, seq))
				fail_child(__LINE__);
			atomic_store(&shared->acked, i);
		}
		if (what % 301 == 1 && bale_meta_apply(m))
			fail_child(__LINE__);
		if (what % 501 == 2 && bale_meta_checkpoint(m))
			fail_child(__LINE__);
		if (what % 997 == 3) {
			if (bale_store_close(st))
				fail_child(__LINE__);
			atomic_store(&shared->acked, i);
			if (store_try_open(&dir, flags, &st))
				fail_child(__LINE__);
			m = bale_store_meta(st);
		}
	}
	if (bale_store_close(st))
		fail_child(__LINE__);
	_exit(0);
}

static void reap(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (atomic_load(&shared->error))
		fail_msg("child failed at line %d",
			 atomic_load(&shared->error));
	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL :
					  !WEXITSTATUS(status));
}

static void killed_at_random_times(void **state)
{
	uint64_t seq = 0, rnd = 99;

	(void)state;
	for (int round = 0; round < 25; round++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid)
			child_work(round % 2 ? OPEN_MANUAL : 0, seq,
				   test_rnd(&rnd) + (uint64_t)round,
				   UINT64_MAX);
		usleep((useconds_t)(2000 + test_rnd(&rnd) % 120000));
		kill(pid, SIGKILL);
		reap(pid);
		seq = check_recovery(&dir, atomic_load(&shared->acked));
		assert_true(seq <= atomic_load(&shared->staged));
		atomic_store(&shared->acked, seq);
	}
	assert_true(seq > 500);
}

static void killed_at_every_call(void **state)
{
	static const char *const points[] = { "io.pwritev", "io.sync",
					      "io.rename", "io.unlink",
					      "io.sync_dir" };
	uint64_t seq = 0, rnd = 5;

	(void)state;
	for (size_t p = 0; p < sizeof(points) / sizeof(*points); p++)
		for (int nth = 1; nth < 30; nth += p < 2 ? 4 : 7) {
			pid_t pid = fork();

			assert_true(pid >= 0);
			if (!pid) {
				char spec[48];

				snprintf(spec, sizeof(spec), "%s:%d:kill",
					 points[p], nth);
				if (bale_fault_arm(spec))
					fail_child(__LINE__);
				child_work(OPEN_MANUAL, seq, test_rnd(&rnd),
					   seq + 1200);
			}
			test_rnd(&rnd);
			reap(pid);
			seq = check_recovery(&dir, atomic_load(&shared->acked));
			atomic_store(&shared->acked, seq);
		}
}

/* ---- the log's tail ---- */

/* A store left by a kill: `synced` transactions, one record each. */
static void leave_log(uint64_t txns, bool group)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct bale_store *st;
		uint64_t seq;

		if (store_try_open(&dir, OPEN_MANUAL, &st))
			fail_child(__LINE__);
		for (uint64_t i = 1; i <= txns; i++) {
			if (model_stage(bale_store_meta(st), i, &seq))
				fail_child(__LINE__);
			if ((!group || i == txns) &&
			    bale_meta_sync(bale_store_meta(st), seq))
				fail_child(__LINE__);
		}
		raise(SIGKILL);
	}
	reap(pid);
}

/* Where the records are in the first log file. */
struct record {
	size_t off, len;
};

static size_t find_records(const uint8_t *buf, size_t len, struct record *ret,
			   size_t max)
{
	size_t nr = 0;

	for (size_t off = 0; off + 64 <= len && nr < max; off += BALE_ALIGN) {
		const struct bale_disk_log *d = (const void *)(buf + off);

		if (memcmp(d->magic, BALE_LOG_MAGIC, 8))
			continue;
		ret[nr].off = off;
		ret[nr++].len = 64 + le32_get(d->body_len);
	}
	return nr;
}

static uint8_t *load(const char *path, size_t *ret_len)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	uint8_t *buf;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	buf = malloc((size_t)st.st_size);
	assert_int_equal(read(fd, buf, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_len = (size_t)st.st_size;
	return buf;
}

static void save(const char *path, const uint8_t *buf, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	close(fd);
}

static uint64_t prefix_of(const struct store_dir *d, unsigned int flags)
{
	struct bale_store *st = store_open(d, flags);
	uint64_t seq = model_check_prefix(bale_store_meta(st), 0);

	store_close(st);
	return seq;
}

static const char *log_file(const struct store_dir *d)
{
	return store_file(d, "log/0000000000000000");
}

/* Byte positions worth tearing at: around headers, bodies, sectors. */
static size_t tear_points(struct record r, size_t points[32])
{
	static const int edges[] = { 0,	 1,  7,	 8,   24,  59,	60,
				     63, 64, 65, 200, 511, 512, 513 };
	size_t nr = 0;

	for (size_t i = 0; i < sizeof(edges) / sizeof(*edges); i++)
		if ((size_t)edges[i] < r.len)
			points[nr++] = r.off + (size_t)edges[i];
	points[nr++] = r.off + r.len / 2;
	points[nr++] = r.off + r.len - 1;
	return nr;
}

static void a_torn_tail_is_the_end(void **state)
{
	enum { TXNS = 12 };
	struct record rec[64];
	size_t len, nr, points[32], nr_points;
	uint8_t *log, *bad;

	(void)state;
	leave_log(TXNS, false);
	log = load(log_file(&dir), &len);
	bad = malloc(len);
	nr = find_records(log, len, rec, 64);
	assert_true(nr >= TXNS + 1);
	nr_points = tear_points(rec[nr - 1], points);
	for (size_t i = 0; i < nr_points; i++)
		for (int kind = 0; kind < 4; kind++) {
			size_t cut = points[i], end = len;
			struct store_dir d;

			memcpy(bad, log, len);
			if (kind == 0) /* the file ends here */
				end = cut;
			else if (kind == 1) /* never written from here on */
				memset(bad + cut, 0, len - cut);
			else if (kind == 2) /* one byte differs */
				bad[cut] ^= 0x10;
			else /* written before, not after, a hole */
				memset(bad + rec[nr - 1].off, 0,
				       cut - rec[nr - 1].off);
			if (!memcmp(bad, log, len) && end == len)
				continue;
			store_dir_copy(&d, &dir);
			save(log_file(&d), bad, end);
			assert_int_equal(prefix_of(&d, OPEN_READ_ONLY),
					 TXNS - 1);
			assert_int_equal(check_recovery(&d, TXNS - 1),
					 TXNS - 1);
			/* and it goes on from there, again and again */
			for (uint64_t more = TXNS;
			     more < TXNS + (i % 5 == 0 ? 3u : 0u); more++) {
				struct bale_store *st =
					store_open(&d, OPEN_MANUAL);

				assert_int_equal(
					model_stage(bale_store_meta(st), more,
						    NULL),
					0);
				store_close(st);
				assert_int_equal(check_recovery(&d, more),
						 more);
			}
			store_dir_remove(&d);
		}
	free(log);
	free(bad);
}

/* A group of several records counts only as a whole, and what a torn one left
 * behind is never taken for part of a later one. */
static void a_group_of_records_is_all_or_nothing(void **state)
{
	enum { TXNS = 9000 };
	struct record rec[64];
	uint8_t *log, *bad;
	size_t len, nr, first = 0;

	(void)state;
	leave_log(TXNS, true);
	assert_int_equal(prefix_of(&dir, OPEN_READ_ONLY), TXNS);
	log = load(log_file(&dir), &len);
	bad = malloc(len);
	nr = find_records(log, len, rec, 64);
	for (size_t i = 0; i < nr; i++) {
		const struct bale_disk_log *d =
			(const void *)(log + rec[i].off);

		if (le16_get(d->flags) & BALE_LOG_MORE)
			first = i + 1;
	}
	assert_true(first); /* the group was long enough to be split */
	for (int kind = 0; kind < 3; kind++) {
		char names[16][32], path[48];
		struct store_dir d;
		size_t files;

		store_dir_copy(&d, &dir);
		files = store_list(&d, "log", names, 16);
		assert_true(files >= 2);
		if (kind == 0) {
			/* the last part's body */
			snprintf(path, sizeof(path), "log/%s",
				 names[files - 1]);
			memcpy(bad, log, len);
			free(bad);
			bad = load(store_file(&d, path), &len);
			nr = find_records(bad, len, rec, 64);
			if (!nr) { /* a file made ahead of use */
				snprintf(path, sizeof(path), "log/%s",
					 names[files - 2]);
				free(bad);
				bad = load(store_file(&d, path), &len);
				nr = find_records(bad, len, rec, 64);
			}
			assert_true(nr >= 1);
			bad[rec[nr - 1].off + rec[nr - 1].len - 1] ^= 1;
			save(store_file(&d, path), bad, len);
		} else {
			/* a later file never made it */
			for (size_t i = files; i-- > (size_t)kind;) {
				snprintf(path, sizeof(path), "log/%s",
					 names[i]);
				if (names[i][0] == '0')
					unlink(store_file(&d, path));
			}
		}
		assert_int_equal(check_recovery(&d, 0), 0);
		for (uint64_t more = 1; more < 4; more++) {
			struct bale_store *st = store_open(&d, OPEN_MANUAL);

			assert_int_equal(
				model_stage(bale_store_meta(st), more, NULL),
				0);
			store_close(st);
			assert_int_equal(check_recovery(&d, more), more);
		}
		store_dir_remove(&d);
	}
	free(log);
	free(bad);
}

/* Valid records behind a bad one: never cut off silently. */
static void damage_before_the_end_is_told(void **state)
{
	enum { TXNS = 12 };
	struct record rec[64];
	size_t len, nr;
	uint8_t *log, *bad;

	(void)state;
	leave_log(TXNS, false);
	log = load(log_file(&dir), &len);
	bad = malloc(len);
	nr = find_records(log, len, rec, 64);
	for (size_t k = nr - 4; k < nr - 1; k++)
		for (int kind = 0; kind < 3; kind++) {
			struct bale_store *st;
			struct store_dir d;

			memcpy(bad, log, len);
			if (kind == 0) /* header */
				bad[rec[k].off + 30] ^= 4;
			else if (kind == 1) /* body */
				bad[rec[k].off + 64 + 5] ^= 4;
			else
				memset(bad + rec[k].off, 0, BALE_ALIGN);
			store_dir_copy(&d, &dir);
			save(log_file(&d), bad, len);
			assert_int_equal(store_try_open(&d, OPEN_MANUAL, &st),
					 -EUCLEAN);
			/* nothing was changed by the refusal */
			assert_int_equal(store_try_open(&d, OPEN_MANUAL, &st),
					 -EUCLEAN);
			/* fsck's way: the prefix */
			st = store_open(&d, OPEN_MANUAL | OPEN_REBUILD);
			assert_int_equal(
				model_check_prefix(bale_store_meta(st), 0),
				TXNS - (nr - k));
			store_close(st);
			assert_int_equal(check_recovery(&d, TXNS - (nr - k)),
					 TXNS - (nr - k));
			store_dir_remove(&d);
		}
	free(log);
	free(bad);
}

/* The log is damaged where the index has it all: nothing is lost, and a
 * rebuild afterwards finds everything too. */
static void damage_behind_the_index_is_mended(void **state)
{
	struct bale_store *st = store_open(&dir, OPEN_MANUAL);
	size_t len;
	uint8_t *log;
	struct record rec[64];
	size_t nr;

	(void)state;
	for (uint64_t i = 1; i <= 5; i++) {
		uint64_t seq;

		assert_int_equal(model_stage(bale_store_meta(st), i, &seq), 0);
		assert_int_equal(bale_meta_sync(bale_store_meta(st), seq), 0);
	}
	assert_int_equal(bale_meta_apply(bale_store_meta(st)), 0);
	store_close(st);
	log = load(log_file(&dir), &len);
	nr = find_records(log, len, rec, 64);
	memset(log + rec[nr - 2].off, 0, len - rec[nr - 2].off);
	save(log_file(&dir), log, len);
	free(log);
	st = store_open(&dir, OPEN_READ_ONLY);
	model_check_prefix(bale_store_meta(st), 5);
	store_close(st);
	st = store_open(&dir, OPEN_MANUAL);
	model_check_prefix(bale_store_meta(st), 5);
	assert_int_equal(model_stage(bale_store_meta(st), 6, NULL), 0);
	store_close(st);
	assert_int_equal(check_recovery(&dir, 6), 6);
}

/* ---- power cuts ---- */

/*
 * The child's writes are recorded with what they overwrote; a sync forgets
 * them. After the kill the parent undoes a random choice of the unsynced
 * sectors, the newest write first. LMDB's own file is not in this: its default
 * mode is proven elsewhere, and the file may be lost altogether, which half of
 * the rounds do.
 */
enum { JOURNAL = 64 << 20, SECTOR = 512, NAME_LEN = 40, MAX_FDS = 256 };

struct undo {
	char name[NAME_LEN];
	uint64_t off, old_size;
	uint32_t len;
	bool synced;
};

/* Room of a record with its bytes; the next one is aligned. */
static uint64_t undo_room(uint64_t len)
{
	uint64_t align = _Alignof(struct undo);

	return (sizeof(struct undo) + len + align - 1) / align * align;
}

struct journal {
	_Atomic uint64_t used;
	uint8_t bytes[JOURNAL];
};
static struct journal *journal;
static char fd_names[MAX_FDS][NAME_LEN];

static int lossy_open(struct bale_io *io, const char *name, int flags,
		      int *ret_fd)
{
	int r = bale_io_posix.open(io, name, flags, ret_fd);

	if (!r && *ret_fd < MAX_FDS)
		snprintf(fd_names[*ret_fd], NAME_LEN, "%s", name);
	return r;
}

static int lossy_pwritev(struct bale_io *io, int fd, const struct iovec *iov,
			 int nr_iov, uint64_t off)
{
	struct undo u = { .off = off };
	uint64_t at = atomic_load(&journal->used), got = 0;
	struct stat st;
	size_t len = 0;

	for (int i = 0; i < nr_iov; i++)
		len += iov[i].iov_len;
	if (fd >= MAX_FDS || at + undo_room(len) > JOURNAL || fstat(fd, &st))
		fail_child(__LINE__);
	snprintf(u.name, sizeof(u.name), "%s", fd_names[fd]);
	u.old_size = (uint64_t)st.st_size;
	u.len = (uint32_t)len;
	memset(journal->bytes + at + sizeof(u), 0, len);
	if (off < u.old_size) {
		/* the descriptor may be write-only */
		int rd = openat(io->dir_fd, u.name, O_RDONLY);
		size_t want = len < u.old_size - off ?
				      len :
				      (size_t)(u.old_size - off);

		while (rd >= 0 && got < want) {
			ssize_t n =
				pread(rd, journal->bytes + at + sizeof(u) + got,
				      want - got, (off_t)(off + got));

			if (n <= 0)
				fail_child(__LINE__);
			got += (uint64_t)n;
		}
		if (rd < 0)
			fail_child(__LINE__);
		close(rd);
	}
	memcpy(journal->bytes + at, &u, sizeof(u));
	atomic_store(&journal->used, at + undo_room(len));
	return bale_io_posix.pwritev(io, fd, iov, nr_iov, off);
}

static int lossy_sync(struct bale_io *io, int fd)
{
	uint64_t end = atomic_load(&journal->used);
	int r = bale_io_posix.sync(io, fd);

	for (uint64_t at = 0; !r && at < end;) {
		struct undo *u = (void *)(journal->bytes + at);

		if (!strcmp(u->name, fd_names[fd]))
			u->synced = true;
		at += undo_room(u->len);
	}
	return r;
}

/* A new name for old unsynced writes. */
static int lossy_rename(struct bale_io *io, const char *from, const char *to)
{
	uint64_t end = atomic_load(&journal->used);
	int r = bale_io_posix.rename(io, from, to);

	for (uint64_t at = 0; !r && at < end;) {
		struct undo *u = (void *)(journal->bytes + at);

		if (!strcmp(u->name, to))
			u->synced = true; /* that file is gone */
		if (!strcmp(u->name, from))
			snprintf(u->name, NAME_LEN, "%s", to);
		at += undo_room(u->len);
	}
	for (int i = 0; !r && i < MAX_FDS; i++)
		if (!strcmp(fd_names[i], from))
			snprintf(fd_names[i], NAME_LEN, "%s", to);
	return r;
}

static void undo_one(const struct undo *u, uint64_t *rnd, int mode)
{
	int fd = open(store_file(&dir, u->name), O_RDWR);

	if (fd < 0)
		return;
	for (uint32_t done = 0; done < u->len;) {
		uint32_t n = SECTOR - (uint32_t)((u->off + done) % SECTOR);

		if (n > u->len - done)
			n = u->len - done;
		if (mode == 0 || (mode == 1 && test_rnd(rnd) % 2))
			assert_int_equal(pwrite(fd,
						(const uint8_t *)(u + 1) + done,
						n, (off_t)(u->off + done)),
					 n);
		done += n;
	}
	if (mode == 0 && u->off + u->len > u->old_size)
		assert_int_equal(ftruncate(fd, (off_t)u->old_size), 0);
	close(fd);
}

static void cut_power(uint64_t *rnd, int mode)
{
	static uint64_t starts[1 << 16];
	uint64_t end = atomic_load(&journal->used);
	size_t nr = 0;

	for (uint64_t at = 0; at < end;) {
		const struct undo *u = (const void *)(journal->bytes + at);

		assert_true(nr < sizeof(starts) / sizeof(*starts));
		starts[nr++] = at;
		at += undo_room(u->len);
	}
	while (nr--) {
		const struct undo *u =
			(const void *)(journal->bytes + starts[nr]);

		if (!u->synced)
			undo_one(u, rnd, mode);
	}
	atomic_store(&journal->used, 0);
}

static void cut_child(uint64_t from, uint64_t rnd)
{
	struct bale_io_ops ops = bale_io_posix;
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true,
					.io_ops = &ops };
	struct bale_store *st;
	uint64_t seq;

	ops.open = lossy_open;
	ops.pwritev = lossy_pwritev;
	ops.sync = lossy_sync;
	ops.rename = lossy_rename;
	if (bale_store_open(dir.path, &o, &st))
		fail_child(__LINE__);
	for (uint64_t i = from + 1;; i++) {
		uint64_t what = test_rnd(&rnd);

		if (model_stage(bale_store_meta(st), i, &seq))
			fail_child(__LINE__);
		atomic_store(&shared->staged, i);
		if (what % 17 == 0) {
			if (bale_meta_sync(bale_store_meta(st), seq))
				fail_child(__LINE__);
			atomic_store(&shared->acked, i);
		}
		if (what % 300 == 1 && bale_meta_apply(bale_store_meta(st)))
			fail_child(__LINE__);
		if (what % 400 == 2 &&
		    bale_meta_checkpoint(bale_store_meta(st)))
			fail_child(__LINE__);
	}
}

static void power_cuts_lose_nothing_durable(void **state)
{
	uint64_t seq = 0, rnd = 4711;

	(void)state;
	journal = mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(journal != MAP_FAILED);
	for (int round = 0; round < 30; round++) {
		uint64_t seed = test_rnd(&rnd);
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid) {
			char spec[48];

			snprintf(spec, sizeof(spec), "%s:%u:kill",
				 round % 2 ? "io.sync" : "io.pwritev",
				 (unsigned int)(seed % 90 + 1));
			if (bale_fault_arm(spec))
				fail_child(__LINE__);
			cut_child(seq, seed);
		}
		reap(pid);
		cut_power(&rnd, round % 3);
		seq = check_recovery(&dir, atomic_load(&shared->acked));
		atomic_store(&shared->acked, seq);
	}
	assert_true(seq > 300);
	munmap(journal, sizeof(*journal));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(killed_at_random_times),
		T(killed_at_every_call),
		T(a_torn_tail_is_the_end),
		T(a_group_of_records_is_all_or_nothing),
		T(damage_before_the_end_is_told),
		T(damage_behind_the_index_is_mended),
		T(power_cuts_lose_nothing_durable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
