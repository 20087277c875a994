/* SPDX-License-Identifier: Apache-2.0 */
/* bench_data.c - the user's files in memory, and cut into extents. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/mem.h"
#include "tools/bench.h"
#include "tools/cmd.h"

/* nftw() hands nothing on. */
static struct {
	struct bale_bench_data *d;
	size_t cap_files;
	int err;
} reading;

static int add_file_end(void)
{
	struct bale_bench_data *d = reading.d;

	if (d->nr_files == reading.cap_files) {
		size_t cap = reading.cap_files ? 2 * reading.cap_files : 64;
		size_t *p = realloc(d->file_end, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		d->file_end = p;
		reading.cap_files = cap;
	}
	d->file_end[d->nr_files++] = d->len;
	return 0;
}

static int read_all(int fd)
{
	struct bale_bench_data *d = reading.d;

	while (d->len < d->mapped) {
		ssize_t n = read(fd, d->bytes + d->len, d->mapped - d->len);

		if (n < 0)
			return -errno;
		if (!n)
			break;
		d->len += (size_t)n;
	}
	return 0;
}

static int read_file(const char *path)
{
	size_t before = reading.d->len;
	bale_autoclose int fd =
		open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int r = fd < 0 ? -errno : read_all(fd);

	if (!r && reading.d->len > before)
		r = add_file_end();
	if (r && r != -ENOMEM) {
		bale_cmd_error("%s: %s", path, strerror(-r));
		reading.d->len = before;
		reading.d->nr_unread++;
		return 0;
	}
	return r;
}

static int walk(const char *path, const struct stat *st, int flag,
		struct FTW *ftw)
{
	(void)ftw;
	if (bale_bench_stopped())
		reading.err = -EINTR;
	else if (flag == FTW_NS || flag == FTW_DNR)
		reading.d->nr_unread++;
	else if (flag == FTW_F && S_ISREG(st->st_mode))
		reading.err = read_file(path);
	return reading.err || reading.d->len == reading.d->mapped;
}

int bale_bench_read(struct bale_bench_data *d, char *const *paths, int nr,
		    uint64_t max)
{
	size_t keep;

	reading.d = d;
	/* Pages that stay untouched cost nothing. */
	d->bytes = bale_bench_map((size_t)max);
	if (!d->bytes) {
		bale_cmd_error("no memory for %" PRIu64 " bytes", max);
		return -ENOMEM;
	}
	d->mapped = (size_t)max;
	for (int i = 0; i < nr && d->len < d->mapped && !reading.err; i++) {
		struct stat st;

		/* A path that was named is followed and must be there. */
		if (stat(paths[i], &st)) {
			bale_cmd_error("%s: %s", paths[i], strerror(errno));
			return -ENOENT;
		}
		if (S_ISDIR(st.st_mode)) {
			if (nftw(paths[i], walk, 32, FTW_PHYS) < 0 &&
			    !reading.err)
				reading.err = -errno;
		} else if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
			reading.err = read_file(paths[i]);
		} else {
			bale_cmd_error("%s: not a file or directory", paths[i]);
			return -EINVAL;
		}
	}
	if (reading.err) {
		if (reading.err != -EINTR)
			bale_cmd_error("%s", strerror(-reading.err));
		return reading.err;
	}
	/* Only what was read is worth pinning. */
	keep = bale_bench_pages(d->len);
	if (keep < d->mapped)
		bale_bench_unmap(d->bytes + keep, d->mapped - keep);
	d->mapped = keep;
	if (!d->len) {
		bale_cmd_error("nothing to measure with: no bytes in %s",
			       paths[0]);
		return -ENODATA;
	}
	return 0;
}

void bale_bench_data_fini(struct bale_bench_data *d)
{
	bale_bench_unmap(d->bytes, d->mapped);
	free(d->file_end);
}

size_t bale_bench_pages(size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (len + page - 1) / page * page;
}

void *bale_bench_map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void bale_bench_unmap(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

int bale_bench_cut(const struct bale_bench_data *d, size_t extent,
		   struct bale_bench_extent **ret, size_t *ret_nr)
{
	size_t nr = d->len / extent + d->nr_files, off = 0, n = 0;
	struct bale_bench_extent *x = calloc(nr, sizeof(*x));

	if (!x)
		return -ENOMEM;
	for (size_t f = 0; f < d->nr_files; f++)
		while (off < d->file_end[f]) {
			size_t left = d->file_end[f] - off;

			x[n].off = off;
			x[n].len = left < extent ? left : extent;
			off += x[n++].len;
		}
	*ret = x;
	*ret_nr = n;
	return 0;
}
