/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fsck_interrupt [STEP [SEED]] - fsck -y on stores broken in every way of
 * docs/fsck.md is interrupted at every STEP-th call that changes the store
 * (LMDB's own among them), in one of three ways: killed before the call, killed
 * when half of it was done, or the call fails and the run goes on. Then:
 *   - the next -y comes to its end, and the one after it changes nothing;
 *   - -n tells what that one told;
 *   - whatever could be read before can be read, and is the same;
 *   - names and inodes are those that an uninterrupted run leaves.
 * Every repair is made durable by itself, so that they come apart. Of some a
 * second run is interrupted too. With a STEP of 1 that is so for all, and all
 * is done again with repairs made durable together, as usual.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/inode/inode.h"
#include "tests/tools/fsck_break.h"
#include "tools/fsck.h"

enum way { BEFORE, HALF, FAIL, NR_WAYS };

/* Shared with the children. */
static struct plan {
	bool on;
	enum way way;
	long at; /* 0: only count */
	long calls;
	char store[96];
	char what[160]; /* the call that it was */
} * plan;

static unsigned int step = 9, seed = 1;
static unsigned long nr_points, nr_runs[NR_WAYS], nr_second, nr_left;

/* ---- the calls, before those of libc ---- */

static bool in_store(int fd, char *path, size_t cap)
{
	size_t len = strlen(plan->store);
	char link[40];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, cap - 1);
	if (n >= 0)
		path[n] = '\0';
	return n + 1 >= (ssize_t)len && !memcmp(path, plan->store, len - 1);
}

/* True: it is now. */
static bool due(int fd, const char *call)
{
	int err = errno;
	char path[128];
	bool is = plan && plan->on && in_store(fd, path, sizeof(path));

	errno = err;
	if (!is || ++plan->calls != plan->at)
		return false;
	snprintf(plan->what, sizeof(plan->what), "%s %s", call,
		 path + strlen(plan->store) - 1);
	return true;
}

static long die(void)
{
	kill(getpid(), SIGKILL);
	pause();
	return -1;
}

/* At a call without halves. */
static long stop(long (*again)(long, long, long, long), long a, long b, long c,
		 long d)
{
	if (plan->way == FAIL) {
		errno = EIO;
		return -1;
	}
	if (plan->way == HALF)
		again(a, b, c, d);
	return die();
}

/* Under libc's name, and under its other one where headers choose that. */
#define WRAP(type, name, ...)                                                  \
	extern __attribute__((visibility("default")))                          \
	type wrap_##name(__VA_ARGS__) __asm__(#name);                          \
	extern __attribute__((visibility("default"), alias(#name)))            \
	type wrap_##name##_64(__VA_ARGS__) __asm__(#name "64");                \
	type wrap_##name(__VA_ARGS__)
#define CALL(nr)                                                               \
	static long do_##nr(long a, long b, long c, long d)                    \
	{                                                                      \
		return syscall(SYS_##nr, a, b, c, d);                          \
	}
CALL(pwrite64)
CALL(ftruncate)
CALL(fallocate)
CALL(renameat)
CALL(unlinkat)
CALL(mkdirat)

static ssize_t half(int fd, const void *buf, size_t len, off_t off)
{
	return stop(do_pwrite64, fd, (long)buf, (long)(len / 2), off);
}

WRAP(ssize_t, pwrite, int fd, const void *buf, size_t len, off_t off)
{
	if (due(fd, "pwrite"))
		return half(fd, buf, len, off);
	return do_pwrite64(fd, (long)buf, (long)len, off);
}

WRAP(ssize_t, pwritev, int fd, const struct iovec *v, int nr, off_t off)
{
	if (due(fd, "pwritev"))
		return half(fd, v[0].iov_base, v[0].iov_len, off);
	return syscall(SYS_pwritev, fd, v, nr, off, 0);
}

WRAP(ssize_t, writev, int fd, const struct iovec *v, int nr)
{
	if (due(fd, "writev"))
		return half(fd, v[0].iov_base, v[0].iov_len,
			    lseek(fd, 0, SEEK_CUR));
	return syscall(SYS_writev, fd, v, nr);
}

/* Nothing here loses power: a sync only counts. */
static long no_sync(long a, long b, long c, long d)
{
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return 0;
}

WRAP(int, fdatasync, int fd)
{
	return due(fd, "fdatasync") ? (int)stop(no_sync, 0, 0, 0, 0) : 0;
}

WRAP(int, fsync, int fd)
{
	return due(fd, "fsync") ? (int)stop(no_sync, 0, 0, 0, 0) : 0;
}

WRAP(int, ftruncate, int fd, off_t len)
{
	return (int)(due(fd, "ftruncate") ? stop(do_ftruncate, fd, len, 0, 0) :
					    do_ftruncate(fd, len, 0, 0));
}

WRAP(int, fallocate, int fd, int mode, off_t off, off_t len)
{
	return (int)(due(fd, "fallocate") ?
			     stop(do_fallocate, fd, mode, off, len) :
			     do_fallocate(fd, mode, off, len));
}

WRAP(int, renameat, int fd, const char *from, int to_fd, const char *to)
{
	long a = fd, b = (long)from, c = to_fd, d = (long)to;

	return (int)(due(fd, "renameat") ? stop(do_renameat, a, b, c, d) :
					   do_renameat(a, b, c, d));
}

WRAP(int, unlinkat, int fd, const char *name, int flags)
{
	long a = fd, b = (long)name, c = flags;

	return (int)(due(fd, "unlinkat") ? stop(do_unlinkat, a, b, c, 0) :
					   do_unlinkat(a, b, c, 0));
}

WRAP(int, mkdirat, int fd, const char *name, mode_t mode)
{
	long a = fd, b = (long)name, c = (long)mode;

	return (int)(due(fd, "mkdirat") ? stop(do_mkdirat, a, b, c, 0) :
					  do_mkdirat(a, b, c, 0));
}

/* ---- copies of a store ---- */

static char copy_from[128], copy_to[128];

static int copy_one(const char *path, const struct stat *st, int flag,
		    struct FTW *ftw)
{
	char to[512];
	int in, out;

	(void)ftw;
	snprintf(to, sizeof(to), "%s%s", copy_to, path + strlen(copy_from));
	if (flag == FTW_D)
		return mkdir(to, 0700);
	in = open(path, O_RDONLY);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
	for (off_t left = st->st_size; left > 0;) {
		ssize_t n =
			copy_file_range(in, NULL, out, NULL, (size_t)left, 0);

		if (n <= 0)
			return -1;
		left -= n;
	}
	close(in);
	close(out);
	return in < 0 || out < 0;
}

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void copy_tree(const char *from, const char *to)
{
	struct stat st;

	snprintf(copy_from, sizeof(copy_from), "%s", from);
	snprintf(copy_to, sizeof(copy_to), "%s", to);
	if (!stat(to, &st))
		assert_int_equal(nftw(to, remove_one, 16, FTW_DEPTH | FTW_PHYS),
				 0);
	assert_int_equal(nftw(from, copy_one, 16, FTW_PHYS), 0);
}

/* ---- what a store holds ---- */

struct piece {
	uint64_t ino, extent_no;
	uint32_t len, crc;
};

struct content {
	struct piece *p;
	size_t nr;
	char *text; /* names and inodes */
	size_t text_len;
};

struct look {
	struct bale_fs *fs;
	struct content *c;
	FILE *text;
	uint64_t lost_found;
};

static void add_piece(struct content *c, struct piece p)
{
	c->p = realloc(c->p, (c->nr + 1) * sizeof(p));
	assert_non_null(c->p);
	c->p[c->nr++] = p;
}

static void look_at_file(struct look *l, struct bale_inode *i, uint64_t size)
{
	for (uint64_t off = 0; off < size && off < 80ull * FX_EXTENT;
	     off += FX_EXTENT) {
		struct piece p = { i->ino, off / FX_EXTENT, 0, 0 };
		struct bale_read rd;

		if (bale_file_read(i, off, FX_EXTENT, &rd))
			continue;
		for (unsigned int k = 0; k < rd.nr_iov; k++) {
			p.crc = bale_crc32c(p.crc, rd.iov[k].iov_base,
					    rd.iov[k].iov_len);
			p.len += (uint32_t)rd.iov[k].iov_len;
		}
		bale_file_read_done(&rd);
		if (p.len)
			add_piece(l->c, p);
	}
}

/* lost+found has whatever number was next. */
static uint64_t number(const struct look *l, uint64_t ino)
{
	return ino == l->lost_found ? UINT64_MAX : ino;
}

static int look_at_inode(const void *key, size_t key_len, const void *val,
			 size_t val_len, void *arg)
{
	struct look *l = arg;
	struct bale_inode_row row;
	struct bale_inode *i;
	char target[BALE_SYMLINK_MAX + 1];
	int n;
	be64 k;

	(void)key_len;
	memcpy(&k, key, 8);
	if (bale_inode_decode(val, val_len, &row))
		return 0;
	fprintf(l->text,
		"inode %" PRIu64 " mode %o nlink %u size %" PRIu64
		" stored %" PRIu64 " parent %" PRIu64 " entries %" PRIu64
		" flags %x\n",
		number(l, be64_get(k)), row.mode, row.nlink, row.size,
		row.stored, S_ISDIR(row.mode) ? number(l, row.parent) : 0,
		row.nr_entries, row.flags);
	if (bale_inode_get(l->fs, be64_get(k), &i))
		return 0;
	if (S_ISREG(row.mode))
		look_at_file(l, i, row.size);
	n = S_ISLNK(row.mode) ? bale_inode_readlink(i, target, sizeof(target)) :
				-1;
	if (n > 0)
		add_piece(l->c,
			  (struct piece){ i->ino, UINT64_MAX, (uint32_t)n,
					  bale_crc32c(0, target, (size_t)n) });
	bale_inode_put(i);
	return 0;
}

static int look_at_name(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg)
{
	struct bale_disk_dirent d;
	struct look *l = arg;
	be64 k;

	if (val_len != sizeof(d))
		return 0;
	memcpy(&k, key, 8);
	memcpy(&d, val, sizeof(d));
	fprintf(l->text, "name %" PRIu64 "/%.*s is %" PRIu64 " type %u\n",
		number(l, be64_get(k)), (int)key_len - 8, (const char *)key + 8,
		number(l, le64_get(d.ino)), d.type);
	return 0;
}

static uint64_t find_lost_found(struct bale_meta *m)
{
	static const char key[] = "\0\0\0\0\0\0\0\1lost+found";
	struct bale_disk_dirent d;
	size_t len;

	return bale_meta_get(m, BALE_TABLE_dirent, key, sizeof(key) - 1, &d,
			     sizeof(d), &len) ?
		       0 :
		       le64_get(d.ino);
}

/* False: it does not open. */
static bool look(const char *store, struct content *c)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .read_only = true,
				     .manual_commit = true };
	struct look l = { .c = c };
	struct bale_meta *m;

	*c = (struct content){ 0 };
	if (bale_fs_open(store, &o, &l.fs)) {
		o.salvage = true; /* as much as there is */
		if (bale_fs_open(store, &o, &l.fs))
			return false;
	}
	l.text = open_memstream(&c->text, &c->text_len);
	assert_non_null(l.text);
	m = bale_fs_meta(l.fs);
	l.lost_found = find_lost_found(m);
	assert_int_equal(bale_meta_scan(m, BALE_TABLE_inode, "", 0, 0,
					look_at_inode, &l),
			 0);
	assert_int_equal(bale_meta_scan(m, BALE_TABLE_dirent, "", 0, 0,
					look_at_name, &l),
			 0);
	fclose(l.text);
	bale_fs_close(l.fs);
	return true;
}

static void content_fini(struct content *c)
{
	free(c->p);
	free(c->text);
}

/* ---- one broken store ---- */

struct round {
	struct fx *x;
	const char *name;
	char broken[128];
	struct content before, want;
	int want_left; /* status bits that stay */
	long calls;
};

static void check_pieces(const struct round *r, const struct content *c,
			 const char *how)
{
	for (size_t k = 0; k < r->before.nr; k++) {
		const struct piece *p = &r->before.p[k];
		size_t j = 0;

		while (j < c->nr && memcmp(p, &c->p[j], sizeof(*p)))
			j++;
		if (j == c->nr)
			fail_msg("%s, %s: inode %" PRIu64 ", extent %" PRIu64
				 " could be read before\n%s",
				 r->name, how, p->ino, p->extent_no, r->x->out);
	}
}

/* The run after the interrupted one, and the two after it. */
static void check_after(struct round *r, const char *how)
{
	static char told[sizeof(r->x->out)];
	struct content c;
	struct fx *x = r->x;
	int s = fx_fsck(x, "-y");

	if ((s & ~1) != r->want_left)
		fail_msg("%s, %s: -y: status %d, want %d:\n%s", r->name, how, s,
			 r->want_left, x->out);
	s = fx_fsck(x, "-y");
	if (s != r->want_left)
		fail_msg("%s, %s: second -y: status %d, want %d:\n%s", r->name,
			 how, s, r->want_left, x->out);
	strcpy(told, x->out);
	s = fx_fsck(x, "-n");
	if (s != r->want_left || strcmp(told, x->out))
		fail_msg("%s, %s: -n: status %d, want %d:\n%s\nand -y:\n%s",
			 r->name, how, s, r->want_left, x->out, told);
	assert_true(look(x->store, &c));
	check_pieces(r, &c, how);
	if (r->want.text && strcmp(c.text, r->want.text))
		fail_msg("%s, %s: is:\n%s\nwithout it:\n%s", r->name, how,
			 c.text, r->want.text);
	if (!r->want.text)
		r->want = c;
	else
		content_fini(&c);
}

static void run_plan(struct round *r, enum way way, long at)
{
	int s;

	plan->way = way;
	plan->at = at;
	plan->calls = 0;
	plan->what[0] = '\0';
	plan->on = true;
	s = fx_fsck_wait(r->x, "-y");
	plan->on = false;
	if (at && way != FAIL && plan->calls >= at &&
	    (!WIFSIGNALED(s) || WTERMSIG(s) != SIGKILL))
		fail_msg("%s: call %ld: not killed: %x\n%s", r->name, at,
			 (unsigned int)s, r->x->out);
	if (way == FAIL && !WIFEXITED(s))
		fail_msg("%s: call %ld fails: status %x\n%s", r->name, at,
			 (unsigned int)s, r->x->out);
}

/* What an uninterrupted run does. */
static void reference(struct round *r)
{
	int s;

	copy_tree(r->broken, r->x->store);
	run_plan(r, FAIL, 0);
	r->calls = plan->calls;
	s = fx_fsck(r->x, "-n");
	if (s & ~4)
		fail_msg("%s: -n after -y: status %d\n%s", r->name, s,
			 r->x->out);
	r->want_left = s;
	check_after(r, "not interrupted");
	nr_left += s != 0;
}

static uint32_t mix(uint32_t v)
{
	v = (v ^ seed) * 0x9e3779b1u;
	v ^= v >> 15;
	v *= 0x85ebca6bu;
	return v ^ v >> 13;
}

static void interrupt_at(struct round *r, enum way way, long at)
{
	static const char *const ways[] = { "killed before", "killed in",
					    "failure of" };
	char how[256];

	copy_tree(r->broken, r->x->store);
	run_plan(r, way, at);
	snprintf(how, sizeof(how), "%s call %ld of %ld (%s)", ways[way], at,
		 r->calls, plan->what);
	nr_runs[way]++;
	if (step == 1 || mix((uint32_t)(at * NR_WAYS + way)) % 4 == 0) {
		run_plan(r, way == FAIL ? HALF : way,
			 1 + mix((uint32_t)at) % r->calls);
		nr_second += plan->calls >= plan->at;
	}
	check_after(r, how);
}

static void break_and_mend(const struct fx_break *b, unsigned int no)
{
	struct round r = { .name = b->name };
	void *state = NULL;

	assert_int_equal(fx_setup(&state), 0);
	r.x = state;
	b->fn(r.x);
	r.x->st = NULL;
	snprintf(plan->store, sizeof(plan->store), "%s/", r.x->store);
	snprintf(r.broken, sizeof(r.broken), "%s/broken", r.x->dir);
	copy_tree(r.x->store, r.broken);
	look(r.broken, &r.before);
	reference(&r);
	nr_points += (unsigned long)r.calls;
	for (long at = 1 + mix(no) % step; at <= r.calls; at += step)
		for (enum way w = 0; w < NR_WAYS; w++)
			if (step == 1 || w == (at / step + no) % NR_WAYS)
				interrupt_at(&r, w, at);
	content_fini(&r.before);
	content_fini(&r.want);
	fx_teardown(&state);
}

static void interrupted(void **state)
{
	size_t usual = bale_fsck_batch_bytes;

	(void)state;
	bale_fsck_batch_bytes = 1;
	for (unsigned int k = 0; k < fx_nr_breaks; k++)
		break_and_mend(&fx_breaks[k], k);
	bale_fsck_batch_bytes = usual;
	for (unsigned int k = 0; step == 1 && k < fx_nr_breaks; k++)
		break_and_mend(&fx_breaks[k], k);
	printf("%u broken stores, %lu with damage that stays; %lu calls that "
	       "change them; killed before %lu, killed in %lu, failed %lu, "
	       "a second time %lu\n",
	       fx_nr_breaks, nr_left, nr_points, nr_runs[BEFORE], nr_runs[HALF],
	       nr_runs[FAIL], nr_second);
	assert_true(nr_points > fx_nr_breaks * 10);
	assert_true(nr_runs[BEFORE] && nr_runs[HALF] && nr_runs[FAIL]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(interrupted) };

	if (argc > 1)
		step = (unsigned int)strtoul(argv[1], NULL, 10);
	if (argc > 2)
		seed = (unsigned int)strtoul(argv[2], NULL, 10);
	if (!step)
		return 2;
	bale_log_set_name("fsck_interrupt");
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (plan == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
