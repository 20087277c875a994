/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - from an inode number to a path, for messages. It reads committed
 * rows and takes no inode lock, so that it can be called in the middle of
 * anything; the price is a scan of each directory on the way.
 */
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

enum { DEPTH_MAX = 4096 };

struct find {
	uint64_t ino;
	char name[BALE_NAME_MAX];
	size_t len;
};

static int match(const void *key, size_t key_len, const void *val,
		 size_t val_len, void *arg)
{
	struct bale_disk_dirent d;
	struct find *f = arg;

	if (val_len != sizeof(d) || key_len <= 8 ||
	    key_len - 8 > sizeof(f->name))
		return 0;
	memcpy(&d, val, sizeof(d));
	if (le64_get(d.ino) != f->ino)
		return 0;
	f->len = key_len - 8;
	memcpy(f->name, (const char *)key + 8, f->len);
	return 1;
}

static int find_name(struct bale_fs *fs, uint64_t dir, struct find *f)
{
	be64 key = be64_put(dir);
	int r = bale_meta_scan(bale_fs_meta(fs), BALE_TABLE_dirent, &key,
			       sizeof(key), sizeof(key), match, f);

	return r == 1 ? 0 : r ? r : -ENOENT;
}

/* Names go into buf from its end towards its start; *at moves along. */
static int build(struct bale_fs *fs, uint64_t ino, char *buf, size_t *at)
{
	struct bale_inode_row row;
	struct find f;
	int r;

	for (unsigned int depth = 0; ino != BALE_ROOT_INO; depth++) {
		if (depth == DEPTH_MAX)
			return -ELOOP;
		r = bale_row_read(fs, ino, &row);
		f.ino = ino;
		if (!r)
			r = find_name(fs, row.parent, &f);
		if (r)
			return r;
		if (*at < f.len + 1)
			return -ENAMETOOLONG;
		*at -= f.len;
		memcpy(buf + *at, f.name, f.len);
		buf[--*at] = '/';
		ino = row.parent;
	}
	return 0;
}

void bale_inode_path(struct bale_fs *fs, uint64_t ino, char *buf, size_t cap)
{
	size_t at = cap - 1;

	if (!cap)
		return;
	buf[at] = '\0';
	if (build(fs, ino, buf, &at)) {
		snprintf(buf, cap, "inode %llu", (unsigned long long)ino);
		return;
	}
	if (at == cap - 1 && at)
		buf[--at] = '/';
	memmove(buf, buf + at, cap - at);
}
