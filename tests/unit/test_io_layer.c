/* SPDX-License-Identifier: Apache-2.0 */
/* The layer below the store: whole transfers, no way out of the directory. */
#include "store_fixture.h"

#include <sys/uio.h>

static struct bale_io *io;

static int setup(void **state)
{
	(void)state;
	strcpy(fix_dir, "/tmp/balefs-io-XXXXXX");
	if (!mkdtemp(fix_dir))
		return -1;
	return bale_io_open(fix_dir, false, &io);
}

static int teardown(void **state)
{
	(void)state;
	bale_fault_clear();
	bale_io_close(io);
	return nftw(fix_dir, fix_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static int open_new(const char *name)
{
	int fd = -1;

	assert_int_equal(0, io->ops->open(io, name, O_RDWR | O_CREAT, &fd));
	return fd;
}

static void test_many_vectors(void **state)
{
	enum { NR = 3000 };
	struct iovec iov[NR];
	uint8_t want[NR * 3], got[sizeof(want) + 9];
	size_t len = 0, got_len;
	int fd = open_new("a");

	(void)state;
	for (size_t i = 0; i < sizeof(want); i++)
		want[i] = (uint8_t)(i * 31 >> 3);
	for (int i = 0; i < NR; i++) {
		iov[i].iov_base = want + len;
		iov[i].iov_len = (size_t)i % 5; /* empty ones too */
		len += iov[i].iov_len;
	}
	assert_int_equal(0, io->ops->pwritev(io, fd, iov, NR, 100));
	assert_int_equal(0,
			 io->ops->pread(io, fd, got, len + 9, 100, &got_len));
	assert_int_equal(len, got_len); /* short at the end of the file only */
	assert_memory_equal(want, got, len);
	assert_int_equal(0, io->ops->pread(io, fd, got, 10, 1 << 20, &got_len));
	assert_int_equal(0, got_len);
	io->ops->close(io, fd);
}

/* Transfers that the kernel does in part are gone on with; one that fails half
 * way leaves its half. */
static void test_parts(void **state)
{
	uint8_t got[48] = { 0 };
	struct iovec iov[3] = { { "aaaaaaaaaa", 10 },
				{ "", 0 },
				{ "bbbbbbbbbbbbbbbbbbbb", 20 } };
	uint64_t len, allocated;
	size_t got_len;
	int fd = open_new("parts");

	(void)state;
	assert_int_equal(0, bale_fault_arm("io.pwritev:1:torn,"
					   "io.pwritev:2:short,"
					   "io.pread:1:short,io.pread:2:torn,"
					   "io.sync:1:short,io.sync:2:torn"));
	assert_int_equal(-EIO, io->ops->pwritev(io, fd, iov, 3, 0));
	assert_int_equal(0, io->ops->size(io, fd, &len, &allocated));
	assert_int_equal(15, len);
	assert_int_equal(0, io->ops->pwritev(io, fd, iov, 3, 0));
	assert_int_equal(0, io->ops->pread(io, fd, got, 40, 0, &got_len));
	assert_int_equal(30, got_len);
	assert_memory_equal("aaaaaaaaaabbbbbbbbbbbbbbbbbbbb", got, 30);
	assert_int_equal(-EIO, io->ops->pread(io, fd, got, 9, 0, &got_len));
	assert_int_equal(0, io->ops->sync(io, fd));
	assert_int_equal(-EIO, io->ops->sync(io, fd));
	assert_int_equal(0, io->ops->sync(io, fd));
	bale_fault_clear();
	io->ops->close(io, fd);
}

static void plant(const char *what)
{
	char path[160], cmd[400];

	snprintf(path, sizeof(path), "%s/planted", fix_dir);
	snprintf(cmd, sizeof(cmd), what, path);
	assert_int_equal(0, system(cmd));
}

static void test_only_regular_files_below(void **state)
{
	static const char *const planted[] = { "ln -sfn /etc/passwd %s",
					       "rm -f %1$s; mkfifo %1$s",
					       "rm -f %1$s; mkdir %1$s" };
	int fd;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		plant(planted[i]);
		assert_int_not_equal(
			0, io->ops->open(io, "planted", O_RDONLY, &fd));
		assert_int_not_equal(0,
				     io->ops->open(io, "planted", O_RDWR, &fd));
	}
	assert_int_not_equal(0,
			     io->ops->open(io, "../x", O_RDWR | O_CREAT, &fd));
	assert_int_not_equal(0,
			     io->ops->open(io, "/etc/passwd", O_RDONLY, &fd));
	plant("rmdir %1$s; ln -s / %1$s");
	assert_int_not_equal(
		0, io->ops->open(io, "planted/etc/passwd", O_RDONLY, &fd));
	assert_int_not_equal(0, io->ops->list(io, "planted", NULL, NULL));
}

static void test_read_only(void **state)
{
	struct iovec iov = { "x", 1 };
	uint64_t len, allocated;
	int fd = open_new("a");

	(void)state;
	io->ops->close(io, fd);
	io->read_only = true;
	assert_int_equal(0, io->ops->open(io, "a", O_RDONLY, &fd));
	assert_int_equal(-EROFS, io->ops->pwritev(io, fd, &iov, 1, 0));
	assert_int_equal(-EROFS, io->ops->sync(io, fd));
	assert_int_equal(-EROFS, io->ops->allocate(io, fd, 0, 1));
	assert_int_equal(-EROFS, io->ops->punch(io, fd, 0, 1));
	assert_int_equal(-EROFS, io->ops->truncate(io, fd, 0));
	assert_int_equal(-EROFS, io->ops->start_writeback(io, fd, 0, 1));
	assert_int_equal(-EROFS, io->ops->rename(io, "a", "b"));
	assert_int_equal(-EROFS, io->ops->unlink(io, "a"));
	assert_int_equal(-EROFS, io->ops->mkdir(io, "d"));
	assert_int_equal(-EROFS, io->ops->sync_dir(io, ""));
	assert_int_equal(0, io->ops->size(io, fd, &len, &allocated));
	assert_int_equal(0, len);
	io->ops->close(io, fd);
	assert_int_equal(-EROFS, io->ops->open(io, "a", O_RDWR, &fd));
	assert_int_equal(-EROFS,
			 io->ops->open(io, "c", O_RDONLY | O_CREAT, &fd));
	assert_int_equal(-EROFS, bale_io_replace_file(io, "a", "x", 1));
}

/* Every call that can fail is a fault point, and reports its error. */
static void test_fault_points(void **state)
{
	struct iovec iov = { "x", 1 };
	uint64_t a, b;
	size_t len;
	char c;
	int fd = open_new("a"), other;

	(void)state;
#define FAILS(point, call)                                                     \
	do {                                                                   \
		assert_int_equal(0, bale_fault_arm(point ":1:EDQUOT"));        \
		assert_int_equal(-EDQUOT, call);                               \
		bale_fault_clear();                                            \
	} while (0)
	FAILS("io.open", io->ops->open(io, "a", O_RDONLY, &other));
	FAILS("io.pread", io->ops->pread(io, fd, &c, 1, 0, &len));
	FAILS("io.pwritev", io->ops->pwritev(io, fd, &iov, 1, 0));
	FAILS("io.sync", io->ops->sync(io, fd));
	FAILS("io.start_writeback", io->ops->start_writeback(io, fd, 0, 1));
	FAILS("io.allocate", io->ops->allocate(io, fd, 0, 1));
	FAILS("io.punch", io->ops->punch(io, fd, 0, 1));
	FAILS("io.truncate", io->ops->truncate(io, fd, 0));
	FAILS("io.size", io->ops->size(io, fd, &a, &b));
	FAILS("io.rename", io->ops->rename(io, "a", "b"));
	FAILS("io.unlink", io->ops->unlink(io, "a"));
	FAILS("io.mkdir", io->ops->mkdir(io, "d"));
	FAILS("io.sync_dir", io->ops->sync_dir(io, ""));
	FAILS("io.list", io->ops->list(io, "", NULL, NULL));
	FAILS("io.space", io->ops->space(io, &a, &b));
#undef FAILS
	io->ops->close(io, fd);
}

/* A replaced file is the old or the new one, whichever call fails. */
static void test_replace_is_whole(void **state)
{
	static const char *const points[] = { "io.open", "io.pwritev",
					      "io.sync", "io.rename",
					      "io.sync_dir" };
	char buf[16], spec[64];
	size_t len;

	(void)state;
	assert_int_equal(0, bale_io_replace_file(io, "f", "old", 3));
	for (size_t i = 0; i < 5; i++) {
		snprintf(spec, sizeof(spec), "%s:1:ENOSPC", points[i]);
		assert_int_equal(0, bale_fault_arm(spec));
		assert_int_equal(-ENOSPC,
				 bale_io_replace_file(io, "f", "newer", 5));
		bale_fault_clear();
		assert_int_equal(
			0, bale_io_read_file(io, "f", buf, sizeof(buf), &len));
		if (len == 3)
			assert_memory_equal("old", buf, 3);
		else
			assert_memory_equal("newer", buf, 5);
		/* Only past the rename is it the new one. */
		assert_true((len == 3) == (i < 4));
	}
	assert_int_equal(0, bale_io_replace_file(io, "f", "", 0));
	assert_int_equal(0, bale_io_read_file(io, "f", buf, 4, &len));
	assert_int_equal(0, len);
}

static void test_preallocation_keeps_the_size(void **state)
{
	uint64_t len, allocated;
	int r, fd = open_new("a");

	(void)state;
	r = io->ops->allocate(io, fd, 0, 1 << 20);
	if (r != -EOPNOTSUPP) {
		assert_int_equal(0, r);
		assert_int_equal(0, io->ops->size(io, fd, &len, &allocated));
		assert_int_equal(0, len);
		assert_true(allocated >= 1 << 20);
		assert_int_equal(0, io->ops->truncate(io, fd, 0));
		assert_int_equal(0, io->ops->size(io, fd, &len, &allocated));
		assert_true(allocated < 1 << 20);
	}
	io->ops->close(io, fd);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_many_vectors),	  T(test_parts),
		T(test_only_regular_files_below),
		T(test_read_only),	  T(test_fault_points),
		T(test_replace_is_whole), T(test_preallocation_keeps_the_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
