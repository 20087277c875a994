/* SPDX-License-Identifier: Apache-2.0 */
/*
 * salvage_out.c - see salvage.h. The store is not trusted:
 *   - every object is made new, by a single name (no '/', not "..") in the open
 *     directory above it, and is never looked up again: no link is followed;
 *   - the directory is made by us, for us alone until all is done;
 *   - a directory that was met already is not entered again, depth is bounded;
 *   - set-id bits, device nodes, and attributes that mean something to the
 *     system are left out.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/base/mem.h"
#include "tools/cmd.h"
#include "tools/salvage.h"

enum { DEPTH_MAX = 500, CHUNK = 1 << 20, PATH_TEXT = 4096 };

/* Inodes made so far: directories are not entered twice, other hard links
 * become links. */
struct made {
	uint64_t ino;
	char *path; /* from the top; of what has several names */
	bool damaged;
};
struct tree {
	struct bale_salvage *s;
	int top;
	struct made *made;
	size_t nr, cap; /* cap: a power of two, more than nr */
	char path[PATH_TEXT];
	char target[BALE_SYMLINK_MAX + 1];
	uint8_t *zeros;
	bool bad; /* the file copied last has a hole that it should not have */
};

/* ---- what was made ---- */

static struct made *slot_of(const struct tree *t, uint64_t ino)
{
	size_t k = (size_t)(ino * 0x9e3779b97f4a7c15u) & (t->cap - 1);

	while (t->made[k].ino && t->made[k].ino != ino)
		k = (k + 1) & (t->cap - 1);
	return &t->made[k];
}

static int grow(struct tree *t)
{
	struct made *old = t->made;
	size_t cap = t->cap;

	t->cap = cap ? 2 * cap : 1024;
	t->made = calloc(t->cap, sizeof(*t->made));
	if (!t->made) {
		t->made = old;
		t->cap = cap;
		return -ENOMEM;
	}
	for (size_t k = 0; k < cap; k++)
		if (old[k].ino)
			*slot_of(t, old[k].ino) = old[k];
	free(old);
	return 0;
}

static int note_made(struct tree *t, uint64_t ino, const char *path)
{
	struct made *m;

	if (2 * (t->nr + 1) > t->cap && grow(t))
		return -ENOMEM;
	m = slot_of(t, ino);
	if (m->ino)
		return 0;
	m->ino = ino;
	m->path = path ? strdup(path) : NULL;
	t->nr++;
	return path && !m->path ? -ENOMEM : 0;
}

/* ---- what is told ---- */

static void tell(struct tree *t, const char *what)
{
	bale_print_name(stdout, t->path, strlen(t->path));
	printf(": %s\n", what);
}

static void leave_out(struct tree *t, const char *why)
{
	tell(t, why);
	t->s->left_out++;
}

/* ---- one object ---- */

static void set_attributes(struct tree *t, int fd,
			   const struct bale_inode_row *row)
{
	struct timespec ts[2] = { row->atime, row->mtime };

	if (t->s->owners && fchown(fd, row->uid, row->gid))
		tell(t, strerror(errno));
	if (fchmod(fd, row->mode & 0777))
		tell(t, strerror(errno));
	futimens(fd, ts);
}

static void copy_xattrs(struct tree *t, struct bale_inode *i, int fd)
{
	bale_autofree char *names = NULL, *val = malloc(BALE_XATTR_SIZE_MAX);
	size_t len = 0, n;
	int r = bale_xattr_list(i, NULL, 0, &len);

	if (!r && len) {
		names = malloc(len);
		r = names ? bale_xattr_list(i, names, len, &len) : -ENOMEM;
	}
	if (r || !val) {
		leave_out(t, "attributes cannot be read");
		return;
	}
	for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
		if (strncmp(names + at, "user.", 5) ||
		    !strncmp(names + at, "user.balefs.", 12))
			continue;
		r = bale_xattr_get(i, names + at, val, BALE_XATTR_SIZE_MAX, &n);
		if (r || fsetxattr(fd, names + at, val, n, 0))
			leave_out(t, "an attribute was not copied");
	}
}

static int write_range(int fd, const struct iovec *v, unsigned int nr,
		       uint64_t off)
{
	for (unsigned int k = 0; k < nr; k++) {
		const char *p = v[k].iov_base;

		for (size_t done = 0; done < v[k].iov_len;) {
			ssize_t n = pwrite(fd, p + done, v[k].iov_len - done,
					   (off_t)(off + done));

			if (n < 0 && errno != EINTR)
				return -errno;
			done += n > 0 ? (size_t)n : 0;
		}
		off += v[k].iov_len;
	}
	return 0;
}

static bool all_zero(const struct tree *t, const struct bale_read *rd)
{
	for (unsigned int k = 0; k < rd->nr_iov; k++)
		if (memcmp(rd->iov[k].iov_base, t->zeros, rd->iov[k].iov_len))
			return false;
	return true;
}

static void tell_range(struct tree *t, uint64_t from, uint64_t to, int err)
{
	char text[96];

	snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 ": %s", from,
		 to - 1,
		 err == -EBADMSG ? "checksum mismatch" : strerror(-err));
	tell(t, text);
}

/* *ret_bad: a part could not be read, and is a hole. Holes stay holes, so that
 * a small store with a huge file does not fill the disk. */
static int copy_content(struct tree *t, struct bale_inode *i, int fd,
			uint64_t size, bool *ret_bad)
{
	size_t step = bale_store_super(bale_fs_store(t->s->fs))->extent_bits;
	uint64_t off = 0, bad_from = 0;
	int r = 0, err = 0;

	step = (size_t)1 << (step < 20 ? step : 20);
	while (!r && off < size) {
		uint64_t data;
		struct bale_read rd;
		size_t len;

		r = bale_file_seek(i, off, SEEK_DATA, &data);
		if (r == -ENXIO) {
			r = 0;
			break;
		}
		if (!r && data / step * step > off)
			off = data / step * step;
		len = size - off < step ? (size_t)(size - off) : step;
		r = bale_file_read(i, off, len, &rd);
		if (r && !err)
			bad_from = off;
		if (!r && err)
			tell_range(t, bad_from, off, err);
		*ret_bad |= r != 0;
		err = r;
		r = 0;
		if (!err) {
			if (!all_zero(t, &rd))
				r = write_range(fd, rd.iov, rd.nr_iov, off);
			bale_file_read_done(&rd);
		}
		off += len;
	}
	if (err)
		tell_range(t, bad_from, off, err);
	return r ? r : ftruncate(fd, (off_t)size) ? -errno : 0;
}

static int copy_file(struct tree *t, struct bale_inode *i, int dir,
		     const char *name, const struct bale_inode_row *row)
{
	int fd = openat(dir, name,
			O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			0600);
	int r;

	if (fd < 0)
		return -errno;
	r = copy_content(t, i, fd, row->size, &t->bad);
	copy_xattrs(t, i, fd);
	set_attributes(t, fd, row);
	close(fd);
	return r;
}

/* Where its other names find it. */
static int note_damaged(struct tree *t, struct made *m, const char *name,
			const char *damaged)
{
	int dir_len = (int)(strlen(t->path) - strlen(name) - 1);
	char *path;

	m->damaged = true;
	if (!m->path)
		return 0;
	if (asprintf(&path, "%.*s%s", dir_len, t->path + 1, damaged) < 0)
		return -ENOMEM;
	free(m->path);
	m->path = path;
	return 0;
}

/* Its hole must not pass for data: the name says so. Not a name that the
 * directory has, or will have. */
static int name_damaged(struct tree *t, struct bale_inode *dir, int fd,
			const char *name, uint64_t ino)
{
	char damaged[BALE_NAME_MAX + 1];
	struct bale_inode *other;
	int r = -EEXIST;

	t->s->damaged++;
	snprintf(damaged, sizeof(damaged), "%.246s.damaged", name);
	for (unsigned int k = 1; r == -EEXIST && k < 1000000; k++) {
		r = bale_dir_lookup(dir, damaged, &other);
		if (!r)
			bale_inode_put(other);
		if (r == -ENOENT)
			r = renameat2(fd, name, fd, damaged, RENAME_NOREPLACE) ?
				    -errno :
				    0;
		else
			r = -EEXIST;
		if (r == -EEXIST)
			snprintf(damaged, sizeof(damaged), "%.239s.damaged.%u",
				 name, k);
	}
	return r ? r : note_damaged(t, slot_of(t, ino), name, damaged);
}

static int copy_link(struct tree *t, struct bale_inode *i, int dir,
		     const char *name)
{
	int r = bale_inode_readlink(i, t->target, sizeof(t->target));

	if (r < 0) {
		leave_out(t, "symbolic link: its target cannot be read");
		return 0;
	}
	return symlinkat(t->target, dir, name) ? -errno : 0;
}

/* Another name of a file that is there. */
static int link_made(struct tree *t, const struct made *m, int dir,
		     const char *name)
{
	t->bad = m->damaged;
	return linkat(t->top, m->path, dir, name, 0) ? -errno : 0;
}

static int copy_tree(struct tree *t, struct bale_inode *dir, int fd,
		     unsigned int depth);

static int copy_dir(struct tree *t, struct bale_inode *i, int dir,
		    const char *name, const struct bale_inode_row *row,
		    unsigned int depth)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	int fd, r;

	if (depth == DEPTH_MAX) {
		leave_out(t, "directories too deep");
		return 0;
	}
	if (mkdirat(dir, name, 0700))
		return -errno;
	fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
	if (fd < 0)
		return -errno;
	r = copy_tree(t, i, fd, depth + 1);
	copy_xattrs(t, i, fd);
	set_attributes(t, fd, row);
	close(fd);
	return r;
}

static int copy_inode(struct tree *t, struct bale_inode *i, int dir,
		      const char *name, unsigned int depth)
{
	struct bale_inode_row row;
	struct made *m;
	int r;

	bale_inode_attr(i, &row);
	m = t->cap ? slot_of(t, i->ino) : NULL;
	if (m && m->ino && S_ISDIR(row.mode)) {
		leave_out(t, "a directory that was copied already");
		return 0;
	}
	if (m && m->ino && m->path)
		return link_made(t, m, dir, name);
	r = note_made(t, i->ino,
		      S_ISREG(row.mode) && row.nlink > 1 ? t->path + 1 : NULL);
	if (r)
		return r;
	if (S_ISDIR(row.mode))
		r = copy_dir(t, i, dir, name, &row, depth);
	else if (S_ISREG(row.mode))
		r = copy_file(t, i, dir, name, &row);
	else if (S_ISLNK(row.mode))
		r = copy_link(t, i, dir, name);
	else if (S_ISFIFO(row.mode))
		r = mkfifoat(dir, name, row.mode & 0777) ? -errno : 0;
	else
		leave_out(t, "a device node or socket");
	if (r)
		return r;
	t->s->copied++;
	if (t->s->verbose)
		tell(t, "copied");
	return 0;
}

/* ---- a directory ---- */

struct names {
	struct bale_buf buf; /* NUL-terminated, back to back */
	bool bad;
};

static int note_name(const struct bale_dir_entry *e, void *arg)
{
	struct names *n = arg;
	char name[BALE_NAME_MAX + 1];

	if (!e->name_len || e->name_len > BALE_NAME_MAX ||
	    memchr(e->name, '/', e->name_len) ||
	    memchr(e->name, 0, e->name_len)) {
		n->bad = true;
		return 0;
	}
	memcpy(name, e->name, e->name_len);
	name[e->name_len] = 0;
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return 0;
	return bale_buf_append(&n->buf, name, e->name_len + 1);
}

static int copy_name(struct tree *t, struct bale_inode *dir, int fd,
		     const char *name, unsigned int depth)
{
	size_t len = strlen(t->path);
	struct bale_inode *i;
	int r = 0;

	if (len + 1 + strlen(name) >= sizeof(t->path)) {
		leave_out(t, "a path too long");
		return 0;
	}
	t->path[len] = '/';
	strcpy(t->path + len + 1, name);
	if (bale_dir_lookup(dir, name, &i)) {
		leave_out(t, "its inode cannot be read");
	} else {
		t->bad = false;
		r = copy_inode(t, i, fd, name, depth);
		if (!r && t->bad)
			r = name_damaged(t, dir, fd, name, i->ino);
		bale_inode_put(i);
		t->bad = false;
	}
	if (r == -EEXIST) { /* the rest is worth having all the same */
		leave_out(t, "another has this name");
		r = 0;
	}
	if (r)
		bale_cmd_error("%s: %s", t->path, strerror(-r));
	t->path[len] = 0;
	return r;
}

static int copy_tree(struct tree *t, struct bale_inode *dir, int fd,
		     unsigned int depth)
{
	struct names n = { 0 };
	int r = bale_dir_read(dir, 0, note_name, &n);

	if (r == -ENOMEM)
		goto out;
	if (r || n.bad)
		leave_out(t, "directory: names cannot be read");
	r = 0;
	for (size_t at = 0; !r && at < n.buf.len;) {
		const char *name = (const char *)n.buf.data + at;

		at += strlen(name) + 1;
		r = copy_name(t, dir, fd, name, depth);
	}
out:
	bale_buf_fini(&n.buf);
	return r;
}

int bale_salvage_tree(struct bale_salvage *s, const char *dir)
{
	static struct tree t; /* large, and one at a time */
	struct bale_inode *root = NULL;
	struct bale_inode_row row;
	int r = 0;

	t = (struct tree){ .s = s, .top = -1 };
	if (mkdir(dir, 0700))
		return -errno;
	t.top = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	t.zeros = calloc(1, CHUNK);
	if (t.top < 0 || !t.zeros)
		r = t.top < 0 ? -errno : -ENOMEM;
	if (!r)
		r = note_made(&t, BALE_ROOT_INO, NULL);
	if (!r)
		r = bale_inode_get(s->fs, BALE_ROOT_INO, &root);
	if (!r) {
		bale_inode_attr(root, &row);
		r = copy_tree(&t, root, t.top, 0);
		copy_xattrs(&t, root, t.top);
		set_attributes(&t, t.top, &row);
		bale_inode_put(root);
	}
	for (size_t k = 0; k < t.cap; k++)
		free(t.made[k].path);
	free(t.made);
	free(t.zeros);
	if (t.top >= 0)
		close(t.top);
	return r;
}
