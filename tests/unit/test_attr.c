/* SPDX-License-Identifier: Apache-2.0 */
/* test_attr.c - setattr, flags, xattrs, ACLs on inodes, the codec attribute. */
#include <sys/xattr.h>
#include <unistd.h>

#include "balefs/le.h"
#include "fs/inode/names.h"
#include "tests/support/names_fixture.h"

#define ACCESS	"system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static int set(struct bale_inode *i, const char *name, const char *val,
	       int flags)
{
	return bale_xattr_set(i, name, val, strlen(val), flags, false);
}

static void expect(struct bale_inode *i, const char *name, const char *val)
{
	char buf[256];
	size_t len;

	assert_int_equal(bale_xattr_get(i, name, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, strlen(val));
	assert_memory_equal(buf, val, len);
}

static void expect_none(struct bale_inode *i, const char *name)
{
	size_t len;

	assert_int_equal(bale_xattr_get(i, name, NULL, 0, &len), -ENODATA);
}

static int chmod_(struct bale_inode *i, uint32_t mode)
{
	struct bale_setattr a = { .valid = BALE_SET_MODE, .mode = mode };

	return bale_inode_setattr(i, &a);
}

/* ---- setattr ---- */

static void test_setattr(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	struct timespec old = { -5, 999999999 }, far = { 1ll << 40, 1 };
	struct bale_setattr a = { .valid = BALE_SET_ATIME | BALE_SET_MTIME,
				  .atime = old, .mtime = far };
	struct bale_inode_row row;

	assert_int_equal(chmod_(i, 07751), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 07751);
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	a.valid = BALE_SET_UID | BALE_SET_GID;
	a.uid = 7;
	a.gid = 8;
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	bale_inode_put(i);
	fx_remount(f);
	i = fx_get(f->root, "a");
	row = fx_row(i);
	assert_int_equal(row.mode, S_IFREG | 0751 | S_ISVTX);
	assert_int_equal(row.uid, 7);
	assert_int_equal(row.gid, 8);
	assert_memory_equal(&row.atime, &old, sizeof(old));
	assert_memory_equal(&row.mtime, &far, sizeof(far));
	a.valid = BALE_SET_SIZE;
	a.size = 1;
	assert_int_equal(bale_inode_setattr(f->root, &a), -EISDIR);
	a.size = BALE_FILE_MAX + 1;
	assert_int_equal(bale_inode_setattr(i, &a), -EFBIG);
	a.size = 12345;
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	assert_int_equal(fx_row(i).size, 12345);
	assert_true(fx_row(i).mtime.tv_sec < far.tv_sec);
	bale_inode_put(i);
}

static void test_kill_priv(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	struct bale_setattr a = { .valid = BALE_SET_UID, .uid = 0 };

	/* sgid without group execution is a lock mark, not a privilege */
	assert_int_equal(chmod_(i, 06745), 0);
	assert_int_equal(set(i, "security.capability", "x", 0), 0);
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 02745);
	expect_none(i, "security.capability");
	assert_int_equal(chmod_(i, 06755), 0);
	a.valid = BALE_SET_KILL_PRIV;
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0755);
	/* capabilities go with any write, and with a new size */
	assert_int_equal(set(i, "security.capability", "x", 0), 0);
	assert_int_equal(set(i, "user.other", "x", 0), 0);
	assert_int_equal(bale_file_write(i, &(struct iovec){ "abc", 3 }, 1, 0,
					 false, false), 0);
	expect_none(i, "security.capability");
	assert_int_equal(set(i, "security.capability", "x", 0), 0);
	a.valid = BALE_SET_SIZE;
	a.size = 1;
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	expect_none(i, "security.capability");
	expect(i, "user.other", "x");
	assert_int_equal(chmod_(f->root, 02755), 0);
	a.valid = BALE_SET_UID;
	assert_int_equal(bale_inode_setattr(f->root, &a), 0);
	assert_int_equal(fx_row(f->root).mode, S_IFDIR | 02755);
	bale_inode_put(i);
}

static void test_flags(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	struct bale_setattr a = { .valid = BALE_SET_SIZE, .size = 1 };

	assert_int_equal(bale_inode_set_flags(i, 1u << 20), -EOPNOTSUPP);
	assert_int_equal(bale_inode_set_flags(i, BALE_INODE_COMPRESS |
							 BALE_INODE_NOCOMP),
			 -EINVAL);
	assert_int_equal(set(i, "user.a", "1", 0), 0);
	assert_int_equal(bale_inode_set_flags(i, BALE_INODE_IMMUTABLE), 0);
	assert_int_equal(fx_row(i).flags & 0xffff, BALE_INODE_IMMUTABLE);
	assert_int_equal(chmod_(i, 0600), -EPERM);
	assert_int_equal(bale_inode_setattr(i, &a), -EPERM);
	assert_int_equal(set(i, "user.a", "2", 0), -EPERM);
	assert_int_equal(bale_xattr_remove(i, "user.a"), -EPERM);
	assert_int_equal(bale_inode_set_flags(i, 0), 0);
	expect(i, "user.a", "1");
	assert_int_equal(chmod_(i, 0600), 0);
	bale_inode_put(i);
}

static void test_atime(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	struct bale_setattr a = { .valid = BALE_SET_ATIME | BALE_SET_MTIME,
				  .atime = { 100, 0 }, .mtime = { 200, 0 } };
	struct timespec at;

	assert_int_equal(bale_inode_setattr(i, &a), 0);
	usleep(20000); /* more than a tick of the clock of file times */
	bale_inode_accessed(i);
	at = fx_row(i).atime;
	assert_true(at.tv_sec > 200);
	bale_inode_accessed(i); /* newer than mtime and ctime: not due */
	assert_int_equal(fx_row(i).atime.tv_nsec, at.tv_nsec);
	bale_inode_put(i);
	fx_remount(f);
	i = fx_get(f->root, "a");
	assert_int_equal(fx_row(i).atime.tv_sec, at.tv_sec);
	assert_int_equal(fx_row(i).atime.tv_nsec, at.tv_nsec);
	bale_inode_put(i);
}

static void test_atime_of_reads(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	struct bale_setattr a = { .valid = BALE_SET_ATIME, .atime = { 9, 0 } };
	struct bale_read rd;

	assert_int_equal(bale_file_write(i, &(struct iovec){ "abc", 3 }, 1, 0,
					 false, false), 0);
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	assert_int_equal(bale_file_read(i, 5, 3, &rd), 0);
	bale_file_read_done(&rd);
	assert_int_equal(fx_row(i).atime.tv_sec, 9); /* nothing was read */
	assert_int_equal(bale_file_read(i, 0, 3, &rd), 0);
	bale_file_read_done(&rd);
	assert_true(fx_row(i).atime.tv_sec > 9);
	assert_int_equal(bale_inode_set_flags(i, BALE_INODE_NOATIME), 0);
	assert_int_equal(bale_inode_setattr(i, &a), 0);
	assert_int_equal(bale_file_read(i, 0, 3, &rd), 0);
	bale_file_read_done(&rd);
	assert_int_equal(fx_row(i).atime.tv_sec, 9);
	bale_inode_put(i);
}

/* ---- xattrs ---- */

static void test_xattr(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	char *big = malloc(BALE_XATTR_SIZE_MAX + 1);
	char name[BALE_XATTR_NAME_MAX + 2], buf[64];
	size_t len;

	expect_none(i, "user.a");
	assert_int_equal(set(i, "user.a", "1", XATTR_REPLACE), -ENODATA);
	assert_int_equal(set(i, "user.a", "1", XATTR_CREATE), 0);
	assert_int_equal(set(i, "user.a", "2", XATTR_CREATE), -EEXIST);
	assert_int_equal(set(i, "user.a", "23", XATTR_REPLACE), 0);
	assert_int_equal(set(i, "user.a", "2", 4), -EINVAL);
	assert_int_equal(set(i, "user.empty", "", 0), 0);
	expect(i, "user.a", "23");
	expect(i, "user.empty", "");
	assert_int_equal(bale_xattr_get(i, "user.a", buf, 1, &len), -ERANGE);
	assert_int_equal(bale_xattr_get(i, "user.a", NULL, 0, &len), 0);
	assert_int_equal(len, 2);
	assert_int_equal(set(i, "user.", "x", 0), -EINVAL);
	assert_int_equal(set(i, "", "x", 0), -EINVAL);
	assert_int_equal(set(i, "other.x", "x", 0), -EOPNOTSUPP);
	assert_int_equal(set(i, "system.x", "x", 0), -EOPNOTSUPP);
	memset(name, 'n', sizeof(name));
	memcpy(name, "user.", 5);
	name[BALE_XATTR_NAME_MAX + 1] = 0;
	assert_int_equal(set(i, name, "x", 0), -ERANGE);
	name[BALE_XATTR_NAME_MAX] = 0;
	assert_int_equal(set(i, name, "x", 0), 0);
	memset(big, 'b', BALE_XATTR_SIZE_MAX + 1);
	assert_int_equal(bale_xattr_set(i, "user.big", big,
					BALE_XATTR_SIZE_MAX + 1, 0, false),
			 -E2BIG);
	assert_int_equal(bale_xattr_set(i, "user.big", big,
					BALE_XATTR_SIZE_MAX, 0, false), 0);
	bale_inode_put(i);
	fx_remount(f);
	i = fx_get(f->root, "a");
	memset(big, 0, BALE_XATTR_SIZE_MAX);
	assert_int_equal(bale_xattr_get(i, "user.big", big,
					BALE_XATTR_SIZE_MAX, &len), 0);
	assert_int_equal(len, BALE_XATTR_SIZE_MAX);
	assert_int_equal(big[len - 1], 'b');
	expect(i, name, "x");
	assert_int_equal(bale_xattr_list(i, buf, 10, &len), -ERANGE);
	assert_int_equal(bale_xattr_list(i, NULL, 0, &len), 0);
	assert_int_equal(len, 7 + 11 + 9 + 256);
	assert_int_equal(bale_xattr_remove(i, "user.a"), 0);
	assert_int_equal(bale_xattr_remove(i, "user.a"), -ENODATA);
	expect_none(i, "user.a");
	bale_inode_put(i);
	assert_int_equal(bale_dir_unlink(f->root, "a"), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_xattr), 0);
	free(big);
}

static void test_many_xattrs(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	char name[BALE_XATTR_NAME_MAX + 1];
	size_t len;

	/* long names: their removal does not fit into one transaction */
	for (int k = 0; k < 5000; k++) {
		snprintf(name, sizeof(name), "user.%0240d", k);
		assert_int_equal(set(i, name, "v", XATTR_CREATE), 0);
	}
	assert_int_equal(bale_xattr_list(i, NULL, 0, &len), 0);
	assert_int_equal(len, 5000 * 246);
	expect(i, name, "v");
	bale_inode_put(i);
	assert_int_equal(bale_dir_unlink(f->root, "a"), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_xattr), 0);
	assert_int_equal(fx_count(f, BALE_TABLE_orphan), 0);
}

static void test_codec(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *d = fx_mk(f->root, "d", S_IFDIR | 0755), *i, *s;
	char list[64];
	size_t len;

	expect_none(d, "user.balefs.codec");
	expect(d, "user.balefs.codec.effective", "lz4");
	assert_int_equal(set(d, "user.balefs.codec", "nonsense", 0), -EINVAL);
	assert_int_equal(set(d, "user.balefs.codec.effective", "raw", 0),
			 -EPERM);
	assert_int_equal(bale_xattr_list(d, list, sizeof(list), &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(set(d, "user.balefs.codec", "zstd:7+shuffle4", 0), 0);
	i = fx_mk(d, "f", S_IFREG | 0644);
	s = fx_mk(d, "s", S_IFDIR | 0755);
	expect(i, "user.balefs.codec", "zstd:7+shuffle4");
	expect(s, "balefs.codec", "zstd:7+shuffle4");
	expect(i, "user.balefs.codec.effective", "zstd:7+shuffle4");
	assert_int_equal(bale_xattr_list(i, list, sizeof(list), &len), 0);
	assert_int_equal(len, sizeof("user.balefs.codec"));
	assert_string_equal(list, "user.balefs.codec");
	assert_int_equal(bale_xattr_remove(i, "user.balefs.codec"), 0);
	assert_int_equal(bale_xattr_remove(i, "user.balefs.codec"), -ENODATA);
	expect_none(i, "user.balefs.codec");
	bale_inode_put(i);
	bale_inode_put(s);
	bale_inode_put(d);
}

/* ---- ACLs ---- */

struct acl_blob {
	uint8_t b[4 + 8 * 8];
	size_t len;
};

static void add(struct acl_blob *a, unsigned int tag, unsigned int perm,
		uint32_t id)
{
	le16 t = le16_put((uint16_t)tag), p = le16_put((uint16_t)perm);
	le32 n = le32_put(id);

	if (!a->len) {
		a->b[0] = 2;
		a->len = 4;
	}
	memcpy(a->b + a->len, &t, 2);
	memcpy(a->b + a->len + 2, &p, 2);
	memcpy(a->b + a->len + 4, &n, 4);
	a->len += 8;
}

static struct acl_blob acl(unsigned int user, unsigned int named,
			   unsigned int group, unsigned int mask,
			   unsigned int other)
{
	struct acl_blob a = { .len = 0 };

	add(&a, 1, user, UINT32_MAX);
	if (named)
		add(&a, 2, named, 1000);
	add(&a, 4, group, UINT32_MAX);
	if (named)
		add(&a, 0x10, mask, UINT32_MAX);
	add(&a, 0x20, other, UINT32_MAX);
	return a;
}

static int set_acl(struct bale_inode *i, const char *name,
		   const struct acl_blob *a, bool kill_sgid)
{
	return bale_xattr_set(i, name, a->b, a->len, 0, kill_sgid);
}

static void expect_acl(struct bale_inode *i, const char *name,
		       const struct acl_blob *a)
{
	uint8_t buf[128];
	size_t len;

	assert_int_equal(bale_xattr_get(i, name, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, a->len);
	assert_memory_equal(buf, a->b, len);
}

static void test_access_acl(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *i = fx_mk(f->root, "a", S_IFREG | 0644);
	struct acl_blob a = acl(7, 6, 5, 4, 1), b = acl(6, 0, 4, 0, 4);

	assert_int_equal(chmod_(i, 02777), 0);
	assert_int_equal(set_acl(i, ACCESS, &a, true), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0741);
	expect_acl(i, ACCESS, &a);
	assert_int_equal(chmod_(i, 0620), 0);
	a = acl(6, 6, 5, 2, 0);
	expect_acl(i, ACCESS, &a);
	/* one that the mode can say is not kept */
	assert_int_equal(set_acl(i, ACCESS, &b, false), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0644);
	expect_none(i, ACCESS);
	b.b[4] = 0x77;
	assert_int_equal(set_acl(i, ACCESS, &b, false), -EINVAL);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0644);
	assert_int_equal(set_acl(i, DEFAULT, &a, false), -EACCES);
	assert_int_equal(set_acl(i, ACCESS, &a, false), 0);
	assert_int_equal(bale_xattr_remove(i, ACCESS), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0620);
	bale_inode_put(i);
}

static void test_default_acl(void **state)
{
	struct fixture *f = *state;
	struct bale_inode *d = fx_mk(f->root, "d", S_IFDIR | 0755), *i;
	struct acl_blob a = acl(7, 6, 5, 7, 5), x;

	assert_int_equal(set_acl(d, DEFAULT, &a, false), 0);
	assert_int_equal(fx_row(d).mode, S_IFDIR | 0755);
	/* no umask; what was asked for limits the entries */
	assert_int_equal(bale_dir_create(d, "f", 0666, 0, &fx_root, &i), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0664);
	x = acl(6, 6, 5, 6, 4);
	expect_acl(i, ACCESS, &x);
	expect_none(i, DEFAULT);
	bale_inode_put(i);
	assert_int_equal(bale_dir_mkdir(d, "s", 0777, &fx_root, &i), 0);
	assert_int_equal(fx_row(i).mode, S_IFDIR | 0775);
	expect_acl(i, ACCESS, &a);
	expect_acl(i, DEFAULT, &a);
	bale_inode_put(i);
	assert_int_equal(bale_dir_symlink(d, "l", "t", &fx_root, &i), 0);
	expect_none(i, ACCESS);
	assert_int_equal(set_acl(i, ACCESS, &a, false), -EOPNOTSUPP);
	bale_inode_put(i);
	assert_int_equal(bale_xattr_remove(d, DEFAULT), 0);
	assert_int_equal(bale_dir_create(d, "g", 0666, 0, &fx_root, &i), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0644);
	bale_inode_put(i);
	a = acl(7, 0, 5, 0, 0);
	assert_int_equal(set_acl(d, DEFAULT, &a, false), 0);
	assert_int_equal(bale_dir_create(d, "h", 0666, 0, &fx_root, &i), 0);
	assert_int_equal(fx_row(i).mode, S_IFREG | 0640);
	expect_none(i, ACCESS);
	bale_inode_put(i);
	bale_inode_put(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FX_TEST(test_setattr),	   FX_TEST(test_kill_priv),
		FX_TEST(test_flags),	   FX_TEST(test_atime),
		FX_TEST(test_atime_of_reads),
		FX_TEST(test_xattr),	   FX_TEST(test_many_xattrs),
		FX_TEST(test_codec),	   FX_TEST(test_access_acl),
		FX_TEST(test_default_acl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
