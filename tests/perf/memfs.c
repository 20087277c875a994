/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfs - a FUSE filesystem that only copies memory: the yardstick for what
 * the kernel's FUSE client and libfuse cost by themselves. Same capabilities
 * and timeouts as balefs, files in anonymous memory, nothing else: a flat
 * root directory with create, write, read, stat, readdir, unlink, truncate.
 *
 *   memfs [-o direct] MOUNTPOINT      (foreground)
 */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUCKETS = 1 << 20, FILE_CAP_BITS = 34 };
static const double forever = 86400;

struct file {
	struct file *next; /* bucket chain, table_lock */
	char *name;
	fuse_ino_t ino;
	char *data;    /* address space reserved once, grown by touching */
	size_t size;   /* lock */
	mode_t mode;
	struct timespec mtime;
	pthread_rwlock_t lock;
};

static struct file *buckets[BUCKETS];	/* table_lock */
static struct file **by_ino;		/* table_lock; index ino - 2 */
static size_t nr_inos, cap_inos;	/* table_lock */
static pthread_rwlock_t table_lock = PTHREAD_RWLOCK_INITIALIZER;
static bool direct_io;

static size_t hash_name(const char *s)
{
	size_t h = 14695981039346656037u;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 1099511628211u;
	return h % BUCKETS;
}

static struct file *find_ino(fuse_ino_t ino)
{
	struct file *f = NULL;

	pthread_rwlock_rdlock(&table_lock);
	if (ino >= 2 && ino - 2 < nr_inos)
		f = by_ino[ino - 2];
	pthread_rwlock_unlock(&table_lock);
	return f;
}

static void fill_attr(struct file *f, fuse_ino_t ino, struct stat *st)
{
	*st = (struct stat){ .st_ino = ino, .st_nlink = 1, .st_blksize = 4096 };
	if (ino == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0755;
		return;
	}
	pthread_rwlock_rdlock(&f->lock);
	st->st_mode = f->mode;
	st->st_size = (off_t)f->size;
	st->st_blocks = (blkcnt_t)((f->size + 511) / 512);
	st->st_mtim = f->mtime;
	pthread_rwlock_unlock(&f->lock);
}

static void fill_entry(struct file *f, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){ .ino = f->ino,
					.attr_timeout = forever,
					.entry_timeout = forever };
	fill_attr(f, f->ino, &e->attr);
}

static struct file *find_name(const char *name)
{
	struct file *f = buckets[hash_name(name)];

	while (f && strcmp(f->name, name))
		f = f->next;
	return f;
}

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	(void)arg;
	conn->want |= conn->capable &
		      (FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_PARALLEL_DIROPS |
		       FUSE_CAP_ASYNC_DIO | FUSE_CAP_READDIRPLUS);
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ |
				      FUSE_CAP_SPLICE_WRITE |
				      FUSE_CAP_SPLICE_MOVE);
	conn->max_write = 1 << 20;
	conn->max_background = 128;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	struct file *f;

	(void)parent;
	pthread_rwlock_rdlock(&table_lock);
	f = find_name(name);
	pthread_rwlock_unlock(&table_lock);
	if (!f) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill_entry(f, &e);
	fuse_reply_entry(req, &e);
}

static void reply_attr(fuse_req_t req, fuse_ino_t ino)
{
	struct file *f = find_ino(ino);
	struct stat st;

	if (!f && ino != FUSE_ROOT_ID) { /* unlinked meanwhile */
		fuse_reply_err(req, ESTALE);
		return;
	}
	fill_attr(f, ino, &st);
	fuse_reply_attr(req, &st, forever);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	(void)fi;
	reply_attr(req, ino);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr,
		       int to_set, struct fuse_file_info *fi)
{
	struct file *f = find_ino(ino);

	(void)fi;
	if (f && to_set & FUSE_SET_ATTR_SIZE) {
		size_t size = (size_t)attr->st_size;

		pthread_rwlock_wrlock(&f->lock);
		if (size < f->size && f->data)
			madvise(f->data + (size + 4095) / 4096 * 4096,
				f->size - size, MADV_DONTNEED);
		f->size = size;
		pthread_rwlock_unlock(&f->lock);
	}
	reply_attr(req, ino);
}

static struct file *new_file(const char *name, mode_t mode)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->name = strdup(name);
	f->mode = mode;
	clock_gettime(CLOCK_REALTIME, &f->mtime);
	pthread_rwlock_init(&f->lock, NULL);
	pthread_rwlock_wrlock(&table_lock);
	if (nr_inos == cap_inos) {
		cap_inos = cap_inos ? 2 * cap_inos : 1024;
		by_ino = realloc(by_ino, cap_inos * sizeof(*by_ino));
		if (!by_ino || !f->name)
			abort(); /* a benchmark: nothing to save */
	}
	f->ino = 2 + nr_inos;
	by_ino[nr_inos++] = f;
	f->next = buckets[hash_name(name)];
	buckets[hash_name(name)] = f;
	pthread_rwlock_unlock(&table_lock);
	return f;
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		      mode_t mode, struct fuse_file_info *fi)
{
	struct file *f = new_file(name, mode);
	struct fuse_entry_param e;

	(void)parent;
	if (!f) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fi->direct_io = direct_io;
	fi->keep_cache = 1;
	fill_entry(f, &e);
	fuse_reply_create(req, &e, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = direct_io;
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static bool reserve_data(struct file *f)
{
	if (f->data)
		return true;
	f->data = mmap(NULL, (size_t)1 << FILE_CAP_BITS,
		       PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->data == MAP_FAILED)
		f->data = NULL;
	return f->data;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		     size_t len, off_t off, struct fuse_file_info *fi)
{
	struct file *f = find_ino(ino);
	size_t end = (size_t)off + len;
	bool ok;

	(void)fi;
	if (!f) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	pthread_rwlock_wrlock(&f->lock);
	ok = end <= (size_t)1 << FILE_CAP_BITS && reserve_data(f);
	if (ok && end > f->size)
		f->size = end;
	pthread_rwlock_unlock(&f->lock);
	if (!ok) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	memcpy(f->data + off, buf, len);
	fuse_reply_write(req, len);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off,
		    struct fuse_file_info *fi)
{
	struct file *f = find_ino(ino);
	size_t size;

	(void)fi;
	if (!f) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	pthread_rwlock_rdlock(&f->lock);
	size = f->data ? f->size : 0;
	pthread_rwlock_unlock(&f->lock);
	if ((size_t)off >= size)
		len = 0;
	else if (len > size - (size_t)off)
		len = size - (size_t)off;
	fuse_reply_buf(req, len ? f->data + off : NULL, len);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct file **p, *f;

	(void)parent;
	pthread_rwlock_wrlock(&table_lock);
	p = &buckets[hash_name(name)];
	while (*p && strcmp((*p)->name, name))
		p = &(*p)->next;
	f = *p;
	if (f) {
		*p = f->next;
		by_ino[f->ino - 2] = NULL;
	}
	pthread_rwlock_unlock(&table_lock);
	if (f && f->data)
		munmap(f->data, (size_t)1 << FILE_CAP_BITS);
	fuse_reply_err(req, f ? 0 : ENOENT);
}

/* off is the index into by_ino: holes of unlinked files are skipped. */
static void op_readdir_any(fuse_req_t req, size_t cap, off_t off, bool plus)
{
	char *buf = malloc(cap);
	size_t len = 0;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (size_t i = (size_t)off;; i++) {
		struct fuse_entry_param e;
		struct file *f;
		size_t need;

		pthread_rwlock_rdlock(&table_lock);
		f = i < nr_inos ? by_ino[i] : NULL;
		need = nr_inos;
		pthread_rwlock_unlock(&table_lock);
		if (i >= need)
			break;
		if (!f)
			continue;
		fill_entry(f, &e);
		need = plus ? fuse_add_direntry_plus(req, buf + len, cap - len,
						     f->name, &e,
						     (off_t)(i + 1)) :
			      fuse_add_direntry(req, buf + len, cap - len,
						f->name, &e.attr,
						(off_t)(i + 1));
		if (need > cap - len)
			break;
		len += need;
	}
	fuse_reply_buf(req, buf, len);
	free(buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t cap, off_t off,
		       struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	op_readdir_any(req, cap, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t cap,
			   off_t off, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	op_readdir_any(req, cap, off, true);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.unlink = op_unlink,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.fsync = op_fsync,
};

int main(int argc, char **argv)
{
	char *fuse_argv[] = { argv[0], (char *)"-o",
			      (char *)"fsname=memfs,subtype=memfs,"
				      "default_permissions", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, fuse_argv);
	struct fuse_loop_config *config;
	struct fuse_session *se;
	const char *mountpoint = argc > 1 ? argv[argc - 1] : NULL;
	int r = 1;

	direct_io = argc == 4 && !strcmp(argv[1], "-o") &&
		    !strcmp(argv[2], "direct");
	if (!mountpoint || (argc != 2 && !direct_io)) {
		fprintf(stderr, "usage: memfs [-o direct] MOUNTPOINT\n");
		return 2;
	}
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!se)
		return 1;
	if (fuse_set_signal_handlers(se) || fuse_session_mount(se, mountpoint))
		goto out;
	config = fuse_loop_cfg_create();
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, 16);
	r = fuse_session_loop_mt(se, config);
	fuse_loop_cfg_destroy(config);
	fuse_session_unmount(se);
out:
	fuse_remove_signal_handlers(se);
	fuse_session_destroy(se);
	return r ? 1 : 0;
}
