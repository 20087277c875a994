/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ops_fs.h - the filesystem that fuzz_ops works on: made from a template
 * for every input, opened, crashed, copied out and compared with the model.
 * One thread uses it; failures end the process.
 */
#ifndef BALE_TESTS_FUZZ_OPS_FS_H
#define BALE_TESTS_FUZZ_OPS_FS_H

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/falloc.h>
#include <sys/syscall.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/inode/flush.h"
#include "tests/fuzz/fuzz_dir.h"
#include "tests/fuzz/fuzz_ops_model.h"
#include "tools/cmd.h"

static struct bale_fs *fs;
static bool threaded; /* flush and commit threads, no order of events */
static bool verbose;
static uint8_t space[(2 << 20) + 8]; /* what is read, and what is written */

#define SAY(...)                                                               \
	do {                                                                   \
		if (verbose)                                                   \
			fprintf(stderr, __VA_ARGS__);                          \
	} while (0)

static inline void must(int r, const char *what)
{
	if (r) {
		fprintf(stderr, "%s: %s\n", what, strerror(-r));
		abort();
	}
}

/* ---- the disk: dies, or is full, when told ---- */

static volatile bool disk_dead, disk_full;
#define REAL bale_io_posix

static int o_open(struct bale_io *io, const char *name, int flags, int *ret)
{
	return disk_dead && flags & O_CREAT ? -EIO :
					      REAL.open(io, name, flags, ret);
}
static int o_pwritev(struct bale_io *io, int fd, const struct iovec *iov,
		     int nr, uint64_t off)
{
	return disk_dead ? -EIO : REAL.pwritev(io, fd, iov, nr, off);
}
/* Nothing here outlives the machine: a sync would only take time. */
static int o_sync(struct bale_io *io, int fd)
{
	(void)io;
	(void)fd;
	return disk_dead ? -EIO : 0;
}
static int o_sync_dir(struct bale_io *io, const char *name)
{
	(void)io;
	(void)name;
	return disk_dead ? -EIO : 0;
}
/* Nor is there want of space: only the answer counts. */
static int o_allocate(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	(void)io;
	(void)fd;
	(void)off;
	(void)len;
	if (disk_dead || disk_full)
		return disk_dead ? -EIO : -ENOSPC;
	return 0;
}
static int o_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	return disk_dead ? -EIO : REAL.punch(io, fd, off, len);
}
static int o_truncate(struct bale_io *io, int fd, uint64_t len)
{
	return disk_dead ? -EIO : REAL.truncate(io, fd, len);
}
static int o_rename(struct bale_io *io, const char *from, const char *to)
{
	return disk_dead ? -EIO : REAL.rename(io, from, to);
}
static int o_unlink(struct bale_io *io, const char *name)
{
	return disk_dead ? -EIO : REAL.unlink(io, name);
}
static int o_space(struct bale_io *io, uint64_t *ret_total, uint64_t *ret_free)
{
	int r = REAL.space(io, ret_total, ret_free);

	*ret_total = (uint64_t)1 << 30;
	*ret_free = disk_full ? 0 : (uint64_t)1 << 29;
	return r;
}

static struct bale_io_ops disk_ops;

/* LMDB's file is not behind the I/O layer; to preallocate it took most of the
 * time of a run. */
int fallocate(int fd, int mode, off_t off, off_t len)
{
	if (mode == FALLOC_FL_KEEP_SIZE)
		return 0;
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

/* ---- making the store ---- */

enum { NR_FILES_MAX = 16 };
static struct {
	char name[280];
	uint8_t *data;
	size_t len;
} template[NR_FILES_MAX];
static unsigned int nr_template;

static void template_add(const char *folder, const char *name)
{
	unsigned int k = nr_template++;
	char path[400];
	struct stat st;
	int fd;

	FUZZ_ASSERT(k < NR_FILES_MAX);
	snprintf(template[k].name, sizeof(template[k].name), "%s%s%s", folder,
		 *folder ? "/" : "", name);
	snprintf(path, sizeof(path), "%s/%s", fuzz_dir, template[k].name);
	fd = open(path, O_RDONLY);
	FUZZ_ASSERT(fd >= 0 && !fstat(fd, &st));
	template[k].len = (size_t)st.st_size;
	template[k].data = malloc(template[k].len + 1);
	FUZZ_ASSERT(template[k].data);
	FUZZ_ASSERT(read(fd, template[k].data, template[k].len) == st.st_size);
	close(fd);
}

static void template_scan(const char *folder)
{
	char path[400];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", fuzz_dir, folder);
	d = opendir(path);
	FUZZ_ASSERT(d);
	while ((e = readdir(d)))
		if (e->d_type == DT_REG)
			template_add(folder, e->d_name);
	closedir(d);
}

static void fs_setup(void)
{
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.extent_bits = 16,
					.segment_bits = 20,
					.log_bits = 20,
					.codec = BALE_CODEC_auto };

	if (!fuzz_dir_make())
		return;
	atexit(fuzz_dir_remove);
	verbose = getenv("FUZZ_VERBOSE");
	threaded = getenv("FUZZ_OPS_THREADS");
	bale_log_set_level(verbose ? BALE_LOG_WARN : BALE_LOG_ERR);
	if (!verbose) /* what fsck says */
		FUZZ_ASSERT(freopen("/dev/null", "w", stdout));
	disk_ops = bale_io_posix;
	disk_ops.open = o_open;
	disk_ops.pwritev = o_pwritev;
	disk_ops.sync = o_sync;
	disk_ops.sync_dir = o_sync_dir;
	disk_ops.allocate = o_allocate;
	disk_ops.punch = o_punch;
	disk_ops.truncate = o_truncate;
	disk_ops.rename = o_rename;
	disk_ops.unlink = o_unlink;
	disk_ops.space = o_space;
	for (int k = 0; k < FUZZ_NR_FOLDERS; k++) {
		char path[96];

		snprintf(path, sizeof(path), "%s/%s", fuzz_dir,
			 fuzz_folders[k]);
		rmdir(path);
	}
	must(bale_store_mkfs(fuzz_dir, &mk), "mkfs");
	template_scan("");
	for (int k = 0; k < FUZZ_NR_FOLDERS; k++)
		template_scan(fuzz_folders[k]);
}

static void fs_make(void)
{
	fuzz_dir_empty();
	for (unsigned int k = 0; k < nr_template; k++)
		fuzz_dir_write(template[k].name, NULL, 0, template[k].data,
			       template[k].len);
}

static void fs_open(bool read_only, bool untrusted)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .read_only = read_only,
				     .untrusted = untrusted,
				     .manual_commit = !threaded,
				     .nr_workers = threaded ? 2 : 1,
				     .bale_bytes = threaded ? 256 << 10 : 0,
				     .commit_ns = threaded ? 4000000 : 0,
				     .cache_bytes = 4 << 20,
				     .gpu.mode = BALE_GPU_OFF,
				     .io_ops = &disk_ops };

	must(bale_fs_open(fuzz_dir, &o, &fs), "open");
}

static void fs_lose_index(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/index", fuzz_dir);
	fuzz_dir_clear(path);
}

/* ---- looking at it ---- */

static const char *name_text(int name)
{
	static char longest[256];
	static const char *const names[NR_NAMES] = { "a",   "b",	"c",
						     "x y", "\xc3\xbc", NULL };

	if (!longest[0])
		memset(longest, 'n', 255);
	return names[name] ? names[name] : longest;
}

static int name_of(const char *text, size_t len)
{
	for (int k = 0; k < NR_NAMES; k++)
		if (strlen(name_text(k)) == len &&
		    !memcmp(name_text(k), text, len))
			return k;
	FUZZ_ASSERT(!"a name nobody made");
	return -1;
}

static struct bale_inode *inode_get(uint64_t ino)
{
	struct bale_inode *i;

	must(bale_inode_get(fs, ino, &i), "inode");
	return i;
}

static uint32_t hash(const void *p, size_t len)
{
	return bale_crc32c(1, p, len) | 1;
}

static const char *const xattr_names[NR_XATTRS] = { "user.a",
						    "trusted.long name" };

static void look_node(struct bale_inode *i, struct node *n)
{
	char target[BALE_SYMLINK_MAX + 1];
	struct bale_inode_row row;
	size_t len;

	bale_inode_attr(i, &row);
	*n = (struct node){ .ino = i->ino,
			    .mode = row.mode,
			    .nlink = row.nlink };
	for (int k = 0; k < NR_XATTRS; k++) {
		int r = bale_xattr_get(i, xattr_names[k], space, sizeof(space),
				       &len);

		FUZZ_ASSERT(!r || r == -ENODATA);
		n->xattr[k] = r ? 0 : hash(space, len);
	}
	if (S_ISLNK(row.mode)) {
		must(bale_inode_readlink(i, target, sizeof(target)), "link");
		n->target = hash(target, strlen(target));
	}
}

/* A directory, three entries at a time. */
struct listing {
	unsigned int nr, dots;
	uint64_t cookie;
	struct {
		int name;
		uint64_t ino;
		uint8_t type;
	} e[NR_NAMES + 1];
	unsigned int batch;
};

static int list_entry(const struct bale_dir_entry *e, void *arg)
{
	struct listing *l = arg;

	if (l->batch == 3)
		return 1;
	l->batch++;
	FUZZ_ASSERT(e->cookie > l->cookie);
	l->cookie = e->cookie;
	if (e->name[0] == '.') {
		l->dots++;
		return 0;
	}
	FUZZ_ASSERT(l->nr < NR_NAMES);
	l->e[l->nr].name = name_of(e->name, e->name_len);
	l->e[l->nr].ino = e->ino;
	l->e[l->nr++].type = e->type;
	return 0;
}

static void list(struct bale_inode *dir, struct listing *l)
{
	memset(l, 0, sizeof(*l));
	do {
		l->batch = 0;
		must(bale_dir_read(dir, l->cookie, list_entry, l), "readdir");
	} while (l->batch == 3);
	FUZZ_ASSERT(l->dots == 2);
}

static int seen_node(struct tree *t, struct bale_inode *i)
{
	for (unsigned int k = 0; k < t->nr_nodes; k++)
		if (t->n[k].ino == i->ino)
			return (int)k;
	FUZZ_ASSERT(t->nr_nodes < NR_NODES);
	look_node(i, &t->n[t->nr_nodes]);
	return (int)t->nr_nodes++;
}

/* The whole tree as it is, nodes in the order they are come upon. */
static void look_tree(struct tree *t)
{
	struct bale_inode *i = inode_get(BALE_ROOT_INO);

	memset(t, 0, sizeof(*t));
	seen_node(t, i);
	bale_inode_put(i);
	for (unsigned int d = 0; d < t->nr_nodes; d++) {
		struct bale_inode *dir;
		struct listing l;

		if (!S_ISDIR(t->n[d].mode))
			continue;
		dir = inode_get(t->n[d].ino);
		list(dir, &l);
		for (unsigned int k = 0; k < l.nr; k++) {
			int child;

			must(bale_dir_lookup(dir, name_text(l.e[k].name), &i),
			     "lookup of what readdir gave");
			FUZZ_ASSERT(i->ino == l.e[k].ino);
			child = seen_node(t, i);
			FUZZ_ASSERT(IFTODT(t->n[child].mode) == l.e[k].type);
			bale_inode_put(i);
			FUZZ_ASSERT(t->nr_entries < NR_ENTRIES);
			t->e[t->nr_entries++] = (struct entry){
				(uint8_t)d, (uint8_t)l.e[k].name, (uint8_t)child
			};
		}
		bale_inode_put(dir);
	}
}

static bool same_node(const struct node *a, const struct node *b)
{
	return a->ino == b->ino && a->mode == b->mode && a->nlink == b->nlink &&
	       !memcmp(a->xattr, b->xattr, sizeof(a->xattr)) &&
	       a->target == b->target;
}

/* Every entry of a tree is in the other, with a child that looks the same; as
 * there are as many, it is the same tree. Unnamed inodes are not looked at. */
static bool same_tree(const struct tree *a, const struct tree *b)
{
	if (a->nr_entries != b->nr_entries || !same_node(&a->n[0], &b->n[0]))
		return false;
	for (unsigned int k = 0; k < a->nr_entries; k++) {
		const struct entry *x = &a->e[k];
		bool found = false;

		for (unsigned int m = 0; m < b->nr_entries && !found; m++) {
			const struct entry *y = &b->e[m];

			found = x->name == y->name &&
				a->n[x->parent].ino == b->n[y->parent].ino &&
				same_node(&a->n[x->child], &b->n[y->child]);
		}
		if (!found)
			return false;
	}
	return true;
}

static void say_tree(const char *what, const struct tree *t)
{
	fprintf(stderr, "%s:\n", what);
	for (unsigned int k = 0; k < t->nr_entries; k++) {
		const struct node *n = &t->n[t->e[k].child];

		fprintf(stderr,
			"  %llu/%.4s = %llu mode %o nlink %u %x %x %x\n",
			(unsigned long long)t->n[t->e[k].parent].ino,
			name_text(t->e[k].name), (unsigned long long)n->ino,
			n->mode, n->nlink, n->xattr[0], n->xattr[1], n->target);
	}
}

static uint64_t read_at(struct bale_inode *i, uint64_t off, uint64_t len,
			uint8_t *to)
{
	struct bale_read rd;
	uint64_t n = 0;

	must(bale_file_read(i, off, len, &rd), "read");
	for (unsigned int k = 0; k < rd.nr_iov; k++) {
		FUZZ_ASSERT(n + rd.iov[k].iov_len <= len);
		memcpy(to + n, rd.iov[k].iov_base, rd.iov[k].iov_len);
		n += rd.iov[k].iov_len;
	}
	FUZZ_ASSERT(n == rd.len);
	bale_file_read_done(&rd);
	return n;
}

/* The index found and one made anew say the same. */
static void compare_indexes(void)
{
	uint64_t a[BALE_TABLE_NR][2], b[BALE_TABLE_NR][2];
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.manual_commit = true };
	struct bale_store *st;

	must(bale_store_open(fuzz_dir, &o, &st), "open for reading");
	must(bale_meta_digest(bale_store_meta(st), a), "digest");
	must(bale_store_close(st), "close");
	o.untrusted = true;
	must(bale_store_open(fuzz_dir, &o, &st), "open untrusted");
	must(bale_meta_digest(bale_store_meta(st), b), "digest");
	must(bale_store_close(st), "close");
	FUZZ_ASSERT(!memcmp(a, b, sizeof(a)));
}

static void fsck_is_clean(void)
{
	char *argv[] = { (char *)"fsck.balefs", (char *)"-n", (char *)"-f",
			 (char *)"--deep",	fuzz_dir,     NULL };

	optind = 0;
	FUZZ_ASSERT(!bale_cmd_fsck.fn(&bale_cmd_fsck, 5, argv));
}

#endif
