/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsx - random operations on one file against a model in memory: write, read,
 * shared mappings, truncate, fallocate in all its modes, copy within the
 * file, fsync, reopen, dropping cached pages. After each, the bytes that were
 * touched are compared; now and then all of them.
 *
 *   fsx [-s SEED] [-n OPERATIONS] [-l MAXIMUM_SIZE] [-d] FILE
 *   -d: O_DIRECT now and then. Prints the last operations when it fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HISTORY = 40, MAX_IO = 200000 };

static const char *path;
static int fd = -1;
static unsigned char *model, *scratch;
static size_t size, max_size = 2 << 20;
static uint64_t rng;
static bool use_direct;
static char history[HISTORY][96];
static unsigned long op_nr;

static uint64_t rnd(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % below;
}

static void fail(const char *what, size_t at)
{
	fprintf(stderr, "fsx: operation %lu: %s at %zu (size %zu): %s\n",
		op_nr, what, at, size, strerror(errno));
	for (unsigned long n = op_nr > HISTORY ? op_nr - HISTORY + 1 : 1;
	     n <= op_nr; n++)
		fprintf(stderr, "  %lu: %s\n", n, history[n % HISTORY]);
	exit(1);
}

static void note(const char *what, size_t a, size_t b, size_t c)
{
	snprintf(history[op_nr % HISTORY], sizeof(history[0]),
		 "%s %zu %zu %zu (size %zu)", what, a, b, c, size);
}

static void check(const unsigned char *got, size_t off, size_t len,
		  const char *how)
{
	if (!memcmp(got, model + off, len))
		return;
	for (size_t n = 0; n < len; n++) {
		if (got[n] == model[off + n])
			continue;
		fprintf(stderr, "fsx: byte %zu is %02x, not %02x\n", off + n,
			got[n], model[off + n]);
		errno = 0;
		fail(how, off + n);
	}
}

static void reopen(void)
{
	int direct = use_direct && !rnd(3) ? O_DIRECT : 0;

	if (fd >= 0 && close(fd))
		fail("close", 0);
	fd = open(path, O_RDWR | O_CREAT | direct, 0644);
	if (fd < 0)
		fail("open", 0);
}

/* Compressible and not, so that every codec path is met. */
static void fill(unsigned char *p, size_t len)
{
	unsigned int kind = (unsigned int)rnd(4);
	unsigned char c = (unsigned char)rnd(256);

	for (size_t n = 0; n < len; n++)
		p[n] = kind == 0 ? (unsigned char)rnd(256) :
		       kind == 1 ? c :
		       kind == 2 ? (unsigned char)(n * c >> 3) :
				   (unsigned char)(op_nr + n / 64);
}

static size_t pick_len(size_t off, size_t limit)
{
	size_t len = 1 + (rnd(8) ? rnd(20000) : rnd(MAX_IO));

	return len > limit - off ? limit - off : len;
}

static void do_read(void)
{
	size_t off = size ? rnd(size) : 0, len = pick_len(off, max_size);
	ssize_t want = off + len > size ? (ssize_t)(size - off) : (ssize_t)len;

	note("read", off, len, 0);
	if (pread(fd, scratch, len, (off_t)off) != want)
		fail("read length", off);
	check(scratch, off, (size_t)want, "read");
}

static void do_write(void)
{
	size_t off = rnd(rnd(3) ? (size ? size : 1) : max_size);
	size_t len = pick_len(off, max_size);

	note("write", off, len, 0);
	if (off > size)
		memset(model + size, 0, off - size);
	fill(model + off, len);
	if (pwrite(fd, model + off, len, (off_t)off) != (ssize_t)len)
		fail("write", off);
	if (off + len > size)
		size = off + len;
}

static void do_map(void)
{
	size_t off, len, page;
	bool writes = rnd(2);
	unsigned char *m;

	if (!size)
		return;
	off = rnd(size);
	len = pick_len(off, size);
	page = off & ~(size_t)4095;
	note(writes ? "map write" : "map read", off, len, 0);
	m = mmap(NULL, off + len - page, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fd, (off_t)page);
	if (m == MAP_FAILED)
		fail("mmap", off);
	check(m + (off - page), off, len, "map");
	if (writes) {
		fill(model + off, len);
		memcpy(m + (off - page), model + off, len);
		if (rnd(2) && msync(m, off + len - page, MS_SYNC))
			fail("msync", off);
	}
	munmap(m, off + len - page);
}

static void do_truncate(void)
{
	size_t to = rnd(3) ? rnd(max_size) : (size ? rnd(size) : 0);

	note("truncate", to, 0, 0);
	if (ftruncate(fd, (off_t)to))
		fail("truncate", to);
	if (to > size)
		memset(model + size, 0, to - size);
	size = to;
}

static void do_fallocate(void)
{
	static const int modes[] = {
		0,
		FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	int mode = modes[rnd(5)];
	size_t off = rnd(max_size), len = pick_len(off, max_size), end;

	note("fallocate", (size_t)mode, off, len);
	if (fallocate(fd, mode, (off_t)off, (off_t)len)) {
		if (errno == EOPNOTSUPP)
			return;
		fail("fallocate", off);
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > size) {
		memset(model + size, 0, off + len - size);
		size = off + len;
	}
	end = off + len < size ? off + len : size;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) &&
	    off < end)
		memset(model + off, 0, end - off);
}

static void do_copy(void)
{
	size_t from, to, len;
	off_t a, b;
	ssize_t n;

	if (size < 2)
		return;
	from = rnd(size);
	if (rnd(2))
		from &= ~(size_t)131071;
	len = pick_len(from, size);
	to = rnd(max_size);
	if (rnd(2))
		to &= ~(size_t)131071;
	if (to + len > max_size || (to < from + len && from < to + len))
		return;
	note("copy", from, to, len);
	a = (off_t)from;
	b = (off_t)to;
	n = copy_file_range(fd, &a, fd, &b, len, 0);
	if (n < 0)
		fail("copy", from);
	if (n && to > size)
		memset(model + size, 0, to - size);
	memcpy(model + to, model + from, (size_t)n);
	if (n && to + (size_t)n > size)
		size = to + (size_t)n;
}

static void check_all(void)
{
	struct stat st;

	if (fstat(fd, &st) || (size_t)st.st_size != size)
		fail("size of the file", (size_t)st.st_size);
	for (size_t off = 0; off < size; off += MAX_IO) {
		size_t len = size - off < MAX_IO ? size - off : MAX_IO;

		if (pread(fd, scratch, len, (off_t)off) != (ssize_t)len)
			fail("read of all", off);
		check(scratch, off, len, "read of all");
	}
}

static void do_sync(void)
{
	note("sync", 0, 0, 0);
	if (rnd(2) ? fsync(fd) : fdatasync(fd))
		fail("fsync", 0);
	if (rnd(2))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void step(void)
{
	uint64_t what = rnd(100);

	if (what < 30)
		do_write();
	else if (what < 55)
		do_read();
	else if (what < 70)
		do_map();
	else if (what < 78)
		do_truncate();
	else if (what < 86)
		do_fallocate();
	else if (what < 92)
		do_copy();
	else if (what < 97)
		do_sync();
	else if (what < 99)
		reopen();
	else
		check_all();
}

int main(int argc, char **argv)
{
	unsigned long nr = 10000, seed = 1;
	int c;

	while ((c = getopt(argc, argv, "s:n:l:d")) != -1) {
		if (c == 's')
			seed = strtoul(optarg, NULL, 0);
		else if (c == 'n')
			nr = strtoul(optarg, NULL, 0);
		else if (c == 'l')
			max_size = strtoul(optarg, NULL, 0);
		else if (c == 'd')
			use_direct = true;
		else
			return 2;
	}
	if (optind + 1 != argc || !max_size)
		return 2;
	path = argv[optind];
	rng = seed * 0x9e3779b97f4a7c15u + 1;
	model = calloc(1, max_size);
	scratch = malloc(MAX_IO);
	if (!model || !scratch)
		return 2;
	reopen();
	for (op_nr = 1; op_nr <= nr; op_nr++)
		step();
	op_nr--;
	check_all();
	close(fd);
	/* The model, for whoever wants to compare after a remount. */
	if (write(STDOUT_FILENO, model, size) != (ssize_t)size)
		return 2;
	free(model);
	free(scratch);
	return 0;
}
