/* SPDX-License-Identifier: Apache-2.0 */
/* damage_store.c - see damage.h. */
#include "damage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/codec/codec.h"
#include "fs/inode/inode.h"

enum { MAX_NODES = 40, MAX_MOMENTS = 96, XATTR_BYTES = 60000 };

static void must(int r, const char *what)
{
	if (!r)
		return;
	fprintf(stderr, "damage: %s: %s\n", what, strerror(r < 0 ? -r : r));
	exit(1);
}

static void *must_alloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	must(p ? 0 : ENOMEM, "memory");
	return p;
}

/* ---- images ---- */

static const char *const folders[] = { "", "log", "seg", "ckpt", "index" };
enum { NR_FOLDERS = 5 };

static void load_file(struct dm_image *m, int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW);
	struct dm_file *f;
	struct stat st;

	must(fd < 0 || fstat(fd, &st) ? errno : 0, name);
	if (S_ISREG(st.st_mode)) {
		must(m->nr == 48 ? ENOSPC : 0, "files");
		f = &m->file[m->nr++];
		snprintf(f->name, sizeof(f->name), "%.39s", name);
		f->len = (size_t)st.st_size;
		f->data = must_alloc(f->len);
		must(pread(fd, f->data, f->len, 0) == (ssize_t)f->len ? 0 : EIO,
		     name);
	}
	close(fd);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct dm_file *)a)->name,
		      ((const struct dm_file *)b)->name);
}

void dm_image_load(struct dm_image *m, const char *store)
{
	int dir_fd = open(store, O_RDONLY | O_DIRECTORY);

	must(dir_fd < 0 ? errno : 0, store);
	memset(m, 0, sizeof(*m));
	for (int k = 0; k < NR_FOLDERS; k++) {
		char path[300];
		struct dirent *e;
		DIR *d;

		snprintf(path, sizeof(path), "%.200s/%s", store, folders[k]);
		d = opendir(path);
		must(d ? 0 : errno, path);
		while ((e = readdir(d))) {
			if (e->d_type != DT_REG)
				continue;
			snprintf(path, sizeof(path), "%s%s%.32s", folders[k],
				 k ? "/" : "", e->d_name);
			load_file(m, dir_fd, path);
		}
		closedir(d);
	}
	close(dir_fd);
	qsort(m->file, m->nr, sizeof(m->file[0]), by_name);
}

void dm_image_copy(struct dm_image *m, const struct dm_image *from)
{
	*m = *from;
	for (unsigned int k = 0; k < m->nr; k++) {
		m->file[k].data = must_alloc(m->file[k].len);
		memcpy(m->file[k].data, from->file[k].data, m->file[k].len);
	}
}

void dm_image_free(struct dm_image *m)
{
	for (unsigned int k = 0; k < m->nr; k++)
		free(m->file[k].data);
	m->nr = 0;
}

struct dm_file *dm_image_find(struct dm_image *m, const char *name)
{
	for (unsigned int k = 0; k < m->nr; k++)
		if (!strcmp(m->file[k].name, name))
			return &m->file[k];
	return NULL;
}

void dm_image_write(const struct dm_image *m, const char *store)
{
	int dir_fd;

	must(mkdir(store, 0700) ? errno : 0, store);
	dir_fd = open(store, O_RDONLY | O_DIRECTORY);
	must(dir_fd < 0 ? errno : 0, store);
	for (int k = 1; k < NR_FOLDERS; k++)
		must(mkdirat(dir_fd, folders[k], 0700) ? errno : 0, folders[k]);
	for (unsigned int k = 0; k < m->nr; k++) {
		const struct dm_file *f = &m->file[k];
		int fd = openat(dir_fd, f->name, O_WRONLY | O_CREAT | O_TRUNC,
				0600);

		must(fd < 0 ? errno : 0, f->name);
		must(write(fd, f->data, f->len) == (ssize_t)f->len ? 0 : EIO,
		     f->name);
		close(fd);
	}
	close(dir_fd);
}

void dm_remove_tree(const char *dir)
{
	char cmd[400];

	snprintf(cmd, sizeof(cmd), "rm -rf '%.300s'", dir);
	must(system(cmd) ? EIO : 0, cmd);
}

/* ---- the tree as it should be ---- */

/* A file, directory or link; contents are never changed, only replaced. */
struct node {
	char path[40];
	uint32_t mode;
	const uint8_t *data; /* or the target of a link */
	size_t len;
	const uint8_t *xattr; /* user.a */
	size_t xattr_len;
};
struct tree {
	struct node n[MAX_NODES];
	unsigned int nr;
};

static struct tree *moments;
static unsigned int nr_moments;

unsigned int dm_nr_moments(void)
{
	return nr_moments;
}

static struct node *find(struct tree *t, const char *path)
{
	for (unsigned int k = 0; k < t->nr; k++)
		if (!strcmp(t->n[k].path, path))
			return &t->n[k];
	return NULL;
}

/* ---- the work ---- */

struct work {
	struct bale_fs *fs;
	struct tree now;
	uint64_t rng;
};

static uint64_t draw(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1du >> 8;
}

/* The inode of a path; the last name is not looked up when ret_name. */
static struct bale_inode *walk(struct work *w, const char *path,
			       const char **ret_name)
{
	struct bale_inode *dir, *next;
	const char *slash;
	char part[40];

	must(bale_inode_get(w->fs, BALE_ROOT_INO, &dir), "root");
	for (;;) {
		slash = strchr(path, '/');
		if (!slash && ret_name) {
			*ret_name = path;
			return dir;
		}
		snprintf(part, sizeof(part), "%.*s",
			 (int)(slash ? slash - path : 39), path);
		must(bale_dir_lookup(dir, part, &next), part);
		bale_inode_put(dir);
		dir = next;
		if (!slash)
			return dir;
		path = slash + 1;
	}
}

static void step_done(struct work *w)
{
	must(bale_fs_sync(w->fs), "sync");
	must(nr_moments == MAX_MOMENTS ? ENOSPC : 0, "moments");
	moments[nr_moments++] = w->now;
}

static struct node *add_node(struct work *w, const char *path, uint32_t mode)
{
	struct node *n = find(&w->now, path);

	if (!n) {
		must(w->now.nr == MAX_NODES ? ENOSPC : 0, "nodes");
		n = &w->now.n[w->now.nr++];
	}
	*n = (struct node){ .mode = mode };
	snprintf(n->path, sizeof(n->path), "%s", path);
	return n;
}

static void del_node(struct work *w, const char *path)
{
	struct node *n = find(&w->now, path);

	*n = w->now.n[--w->now.nr];
}

/* 'r'andom, 't'ext, 'f'ill, 'm'ixed: half of each. */
static uint8_t *content(struct work *w, char kind, size_t len)
{
	uint8_t *p = must_alloc(len);
	uint8_t tag = (uint8_t)draw(&w->rng);

	for (size_t k = 0; k < len; k++) {
		bool random = kind == 'r' || (kind == 'm' && k / 512 % 2);

		p[k] = random	   ? (uint8_t)draw(&w->rng) :
		       kind == 'f' ? (uint8_t)(tag | 1) :
				     (uint8_t)(tag + k % 61 + k / 4099 * 7);
	}
	return p;
}

static void write_at(struct work *w, const char *path, const uint8_t *p,
		     size_t len, uint64_t off)
{
	struct bale_inode *i = walk(w, path, NULL);
	struct iovec v = { (void *)p, len };

	must(bale_file_write(i, &v, 1, off, false, false), "write");
	bale_inode_put(i);
}

static void do_file(struct work *w, const char *path, char kind, size_t len)
{
	struct bale_cred cred = { .umask = 0 };
	struct node *n = add_node(w, path, S_IFREG | 0640);
	struct bale_inode *dir, *i;
	const char *name;

	dir = walk(w, path, &name);
	must(bale_dir_create(dir, name, n->mode, 0, &cred, &i), path);
	bale_inode_put(i);
	bale_inode_put(dir);
	n->data = content(w, kind, len);
	n->len = len;
	write_at(w, path, n->data, len, 0);
	step_done(w);
}

static void do_dir(struct work *w, const char *path)
{
	struct bale_cred cred = { .umask = 0 };
	struct node *n = add_node(w, path, S_IFDIR | 0750);
	struct bale_inode *dir, *i;
	const char *name;

	dir = walk(w, path, &name);
	must(bale_dir_mkdir(dir, name, n->mode, &cred, &i), path);
	bale_inode_put(i);
	bale_inode_put(dir);
	step_done(w);
}

static void do_symlink(struct work *w, const char *path, const char *target)
{
	struct bale_cred cred = { .umask = 0 };
	struct node *n = add_node(w, path, S_IFLNK | 0777);
	struct bale_inode *dir, *i;
	const char *name;

	dir = walk(w, path, &name);
	must(bale_dir_symlink(dir, name, target, &cred, &i), path);
	bale_inode_put(i);
	bale_inode_put(dir);
	n->data = (const uint8_t *)target;
	n->len = strlen(target);
	step_done(w);
}

/* patch: by a small fsync, which leaves the bytes in the log. */
static void do_overwrite(struct work *w, const char *path, char kind,
			 uint64_t off, size_t len, bool patch)
{
	struct node *n = find(&w->now, path);
	size_t size = off + len > n->len ? off + len : n->len;
	uint8_t *all = must_alloc(size), *p = content(w, kind, len);
	struct bale_inode *i;

	memcpy(all, n->data, n->len);
	memcpy(all + off, p, len);
	n->data = all;
	n->len = size;
	write_at(w, path, p, len, off);
	free(p);
	if (patch) {
		i = walk(w, path, NULL);
		must(bale_file_fsync(i, false), "fsync");
		bale_inode_put(i);
		moments[nr_moments++] = w->now;
	} else {
		step_done(w);
	}
}

static void do_truncate(struct work *w, const char *path, size_t len)
{
	struct bale_setattr a = { .valid = BALE_SET_SIZE, .size = len };
	struct node *n = find(&w->now, path);
	struct bale_inode *i = walk(w, path, NULL);
	uint8_t *p = must_alloc(len);

	memcpy(p, n->data, len < n->len ? len : n->len);
	n->data = p;
	n->len = len;
	must(bale_inode_setattr(i, &a), "truncate");
	bale_inode_put(i);
	step_done(w);
}

static void do_xattr(struct work *w, const char *path)
{
	struct node *n = find(&w->now, path);
	struct bale_inode *i = walk(w, path, NULL);

	n->xattr_len = XATTR_BYTES;
	n->xattr = content(w, 'm', n->xattr_len);
	must(bale_xattr_set(i, "user.a", n->xattr, n->xattr_len, 0, false),
	     "xattr");
	bale_inode_put(i);
	step_done(w);
}

static void do_unlink(struct work *w, const char *path)
{
	const char *name;
	struct bale_inode *dir = walk(w, path, &name);

	must(bale_dir_unlink(dir, name), path);
	bale_inode_put(dir);
	del_node(w, path);
	step_done(w);
}

static void do_rename(struct work *w, const char *from, const char *to)
{
	const char *a, *b;
	struct bale_inode *d1 = walk(w, from, &a), *d2 = walk(w, to, &b);
	struct node n = *find(&w->now, from);

	must(bale_dir_rename(d1, a, d2, b, 0), "rename");
	bale_inode_put(d1);
	bale_inode_put(d2);
	del_node(w, from);
	snprintf(n.path, sizeof(n.path), "%s", to);
	*add_node(w, to, n.mode) = n;
	step_done(w);
}

static void do_link(struct work *w, const char *from, const char *to)
{
	struct bale_inode *i = walk(w, from, NULL);
	struct node n = *find(&w->now, from);
	const char *name;
	struct bale_inode *dir = walk(w, to, &name);

	must(bale_dir_link(i, dir, name), to);
	bale_inode_put(dir);
	bale_inode_put(i);
	snprintf(n.path, sizeof(n.path), "%s", to);
	*add_node(w, to, n.mode) = n;
	step_done(w);
}

static void do_recode(struct work *w, const char *path, uint8_t codec)
{
	struct bale_codec_policy p = { .codec = codec };
	struct bale_inode *i = walk(w, path, NULL);
	uint64_t before, after;

	must(bale_file_recompress(i, p, &before, &after), "recompress");
	bale_inode_put(i);
	step_done(w);
}

static void do_clean(struct work *w)
{
	must(bale_cleaner_run(bale_fs_store(w->fs), UINT64_MAX), "clean");
	step_done(w);
}

static void first_half(struct work *w)
{
	do_dir(w, "d");
	do_file(w, "text", 't', 300000);
	do_file(w, "random", 'r', 200000);
	do_file(w, "d/fill", 'f', 5 * DM_EXTENT);
	do_file(w, "d/mixed", 'm', 260000);
	do_file(w, "small", 't', 1500);
	do_symlink(w, "d/link", "../small");
	do_link(w, "text", "d/text2");
	for (int k = 0; k < 12; k++)
		do_xattr(w, k % 2 ? "small" : "d/mixed");
	must(bale_meta_apply(bale_fs_meta(w->fs)), "apply");
	must(bale_meta_checkpoint(bale_fs_meta(w->fs)), "checkpoint");
	do_file(w, "gone", 'r', 150000);
	do_overwrite(w, "random", 'm', 70000, 100000, false);
	do_unlink(w, "gone");
	do_recode(w, "d/mixed", BALE_CODEC_zstd);
	do_truncate(w, "text", 222222);
	do_unlink(w, "d/text2");
	do_clean(w);
}

static void second_half(struct work *w)
{
	do_dir(w, "d/e");
	do_file(w, "d/e/new", 'm', 180000);
	do_rename(w, "d/e/new", "random");
	do_file(w, "sparse", 't', 3 * DM_EXTENT);
	do_truncate(w, "sparse", 9 * DM_EXTENT);
	for (int k = 0; k < 12; k++)
		do_xattr(w, k % 2 ? "text" : "small");
	do_overwrite(w, "sparse", 'r', 7 * DM_EXTENT + 5, 40000, false);
	must(bale_meta_apply(bale_fs_meta(w->fs)), "apply");
	must(bale_meta_checkpoint(bale_fs_meta(w->fs)), "checkpoint");
	do_file(w, "d/e/last", 'm', 140000);
	do_rename(w, "small", "d/e/small");
	do_overwrite(w, "text", 't', 1000, 3000, true);
	do_recode(w, "random", BALE_CODEC_lz4);
	do_overwrite(w, "d/e/last", 'r', 70000, 2000, true);
	do_overwrite(w, "text", 't', 130000, 3000, true);
}

static void open_fs(struct work *w, const char *dir)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = true,
				     .nr_workers = 1,
				     .cache_bytes = 32 << 20 };

	must(bale_fs_open(dir, &o, &w->fs), "open");
}

void dm_build(const char *dir, struct dm_master *ret)
{
	struct bale_mkfs_options mo = { .size = sizeof(mo),
					.extent_bits = DM_EXTENT_BITS,
					.segment_bits = 20,
					.log_bits = 20,
					.codec = BALE_CODEC_auto };
	struct work w = { .rng = 88172645463325252u };

	moments = must_alloc(MAX_MOMENTS * sizeof(*moments));
	must(bale_store_mkfs(dir, &mo), "mkfs");
	open_fs(&w, dir);
	step_done(&w);
	first_half(&w);
	dm_image_load(&ret->stale, dir);
	second_half(&w);
	dm_image_load(&ret->crashed, dir);
	must(bale_fs_close(w.fs), "close");
	dm_image_load(&ret->closed, dir);
}

/* ---- what is served ---- */

struct seen {
	struct node n;
	uint64_t ino;
	bool no_data, no_xattr; /* an error was given instead */
	uint8_t bad[16];	/* by extent: read error */
};
struct reader {
	struct bale_fs *fs;
	struct seen s[MAX_NODES];
	unsigned int nr;
	bool names_missing; /* a listing or lookup failed */
	struct dm_served *ret;
	char prefix[40];
};

static void note_error(struct reader *rd, uint64_t ino)
{
	struct dm_served *o = rd->ret;

	o->errors++;
	for (unsigned int k = 0; k < o->nr_bad; k++)
		if (o->bad[k] == ino)
			return;
	if (ino && o->nr_bad < DM_MAX_BAD)
		o->bad[o->nr_bad++] = ino;
}

static void see_data(struct reader *rd, struct seen *s, struct bale_inode *i)
{
	uint8_t *p = must_alloc(s->n.len);

	s->n.data = p;
	for (size_t off = 0; off < s->n.len;) {
		size_t left = DM_EXTENT - off % DM_EXTENT, at = off;
		struct bale_read r;

		left = left < s->n.len - off ? left : s->n.len - off;
		if (bale_file_read(i, off, left, &r)) {
			s->bad[off / DM_EXTENT] = 1;
			note_error(rd, s->ino);
		} else {
			for (unsigned int k = 0; k < r.nr_iov; k++) {
				memcpy(p + at, r.iov[k].iov_base,
				       r.iov[k].iov_len);
				at += r.iov[k].iov_len;
			}
			bale_file_read_done(&r);
		}
		off += left;
	}
}

static void see_xattr(struct reader *rd, struct seen *s, struct bale_inode *i)
{
	uint8_t *p = must_alloc(BALE_XATTR_SIZE_MAX);
	int r = bale_xattr_get(i, "user.a", p, BALE_XATTR_SIZE_MAX,
			       &s->n.xattr_len);

	s->n.xattr = p;
	if (r == -ENODATA) {
		s->n.xattr_len = 0;
	} else if (r) {
		s->no_xattr = true;
		note_error(rd, 0);
	}
}

static void see_inode(struct reader *rd, struct seen *s, struct bale_inode *i)
{
	struct bale_inode_row row;
	char *target;
	int r;

	bale_inode_attr(i, &row);
	s->n.mode = row.mode;
	s->n.len = (size_t)row.size;
	see_xattr(rd, s, i);
	if (S_ISREG(row.mode) && row.size <= 16 * DM_EXTENT) {
		see_data(rd, s, i);
	} else if (S_ISLNK(row.mode)) {
		target = must_alloc(BALE_SYMLINK_MAX + 1);
		r = bale_inode_readlink(i, target, BALE_SYMLINK_MAX + 1);
		s->n.data = (uint8_t *)target;
		s->n.len = strlen(target);
		s->no_data = r < 0;
		if (r < 0)
			note_error(rd, s->ino);
	}
}

static int see_entry(const struct bale_dir_entry *e, void *arg)
{
	struct reader *rd = arg;
	struct seen *s;

	if (e->name[0] == '.')
		return 0;
	if (rd->nr == MAX_NODES)
		return 1;
	s = &rd->s[rd->nr++];
	snprintf(s->n.path, sizeof(s->n.path), "%.20s%.*s", rd->prefix,
		 (int)(e->name_len < 16 ? e->name_len : 16), e->name);
	s->ino = e->ino;
	return 0;
}

static void see_dir(struct reader *rd, struct bale_inode *dir,
		    const char *prefix, unsigned int depth)
{
	unsigned int first = rd->nr, end;
	int r;

	snprintf(rd->prefix, sizeof(rd->prefix), "%s", prefix);
	r = bale_dir_read(dir, 0, see_entry, rd);
	if (r) {
		rd->names_missing = true;
		note_error(rd, 0);
	}
	end = rd->nr;
	for (unsigned int k = first; k < end; k++) {
		struct seen *s = &rd->s[k];
		struct bale_inode *i;
		char below[48];

		r = bale_dir_lookup(dir,
				    strrchr(s->n.path, '/') ?
					    strrchr(s->n.path, '/') + 1 :
					    s->n.path,
				    &i);
		if (r) {
			s->no_data = s->no_xattr = true;
			s->n.mode = 0;
			rd->names_missing = true;
			note_error(rd, s->ino);
			continue;
		}
		see_inode(rd, s, i);
		snprintf(below, sizeof(below), "%.40s/", s->n.path);
		if (S_ISDIR(s->n.mode) && depth < 4)
			see_dir(rd, i, below, depth + 1);
		bale_inode_put(i);
	}
}

/* Equal wherever no error was given instead. */
static const char *compare(const struct seen *s, const struct node *n)
{
	if (!n)
		return "a name that was not there";
	if (!s->n.mode)
		return NULL;
	if (s->n.mode != n->mode)
		return "another mode";
	if (!s->no_xattr &&
	    (s->n.xattr_len != n->xattr_len ||
	     (n->xattr_len && memcmp(s->n.xattr, n->xattr, n->xattr_len))))
		return "another attribute";
	if (S_ISDIR(n->mode) || s->no_data)
		return NULL;
	if (s->n.len != n->len)
		return "another size";
	for (size_t k = 0; k < n->len; k++)
		if (s->n.data[k] != n->data[k] &&
		    !(S_ISREG(n->mode) && s->bad[k / DM_EXTENT]))
			return "other bytes";
	return NULL;
}

static const char *like_moment(const struct reader *rd, struct tree *t,
			       const char **ret_path)
{
	const char *what;

	for (unsigned int k = 0; k < rd->nr; k++) {
		*ret_path = rd->s[k].n.path;
		/* What fsck found a new home for. */
		if (!strncmp(*ret_path, "lost+found", 10))
			continue;
		what = compare(&rd->s[k], find(t, *ret_path));
		if (what)
			return what;
	}
	for (unsigned int k = 0; k < t->nr && !rd->names_missing; k++) {
		bool there = false;

		*ret_path = t->n[k].path;
		for (unsigned int n = 0; n < rd->nr && !there; n++)
			there = !strcmp(rd->s[n].n.path, *ret_path);
		if (!there)
			return "a name is missing";
	}
	return NULL;
}

static void judge(struct reader *rd)
{
	struct dm_served *o = rd->ret;
	const char *path, *what;

	for (unsigned int k = nr_moments; k--;) {
		what = like_moment(rd, &moments[k], &path);
		if (!what) {
			o->moment = k;
			return;
		}
		if (k == nr_moments - 1)
			snprintf(o->what, sizeof(o->what), "%s: %s", path,
				 what);
	}
	o->wrong = true;
}

void dm_serve(const char *store, unsigned int how, struct dm_served *ret)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .manual_commit = true,
				     .nr_workers = 1,
				     .read_only = how & DM_READ_ONLY,
				     .untrusted = how & DM_UNTRUSTED,
				     .cache_bytes = 32 << 20 };
	struct reader *rd = must_alloc(sizeof(*rd));
	struct bale_inode *root;

	memset(ret, 0, sizeof(*ret));
	rd->ret = ret;
	ret->opened = bale_fs_open(store, &o, &rd->fs);
	if (!ret->opened) {
		ret->opened = bale_inode_get(rd->fs, BALE_ROOT_INO, &root);
		if (!ret->opened) {
			see_dir(rd, root, "", 0);
			bale_inode_put(root);
			judge(rd);
		}
		bale_fs_close(rd->fs);
	}
	ret->done = true;
	free(rd);
}
