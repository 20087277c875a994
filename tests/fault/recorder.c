/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FD = 4096, MAX_SNAPSHOTS = 4096 };
enum { SECTOR = 512, PAGE = 4096, MAX_DIRS = 8 };

enum event_type {
	EV_CREATE, /* file, name */
	EV_WRITE,
	EV_TRUNCATE,
	EV_PUNCH,
	EV_SYNC,
	EV_RENAME, /* name -> name2 */
	EV_UNLINK,
	EV_SYNC_DIR,
};

/* A file keeps its number through renames: fd -> number is noted at open. */
struct event {
	enum event_type type;
	unsigned int file;
	uint64_t off, len;
	uint8_t *data;
	char name[40], name2[40];
};

struct name {
	char name[40];
	unsigned int file;
	bool used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct event *events;
static size_t nr_events, cap_events;
static unsigned int nr_files;
static unsigned int fd_file[MAX_FD];
static struct name *names; /* as they are now */
static size_t nr_names;

struct snapshot {
	size_t at;
	uint8_t *data;
	size_t len;
};
static struct snapshot snapshots[MAX_SNAPSHOTS];
static size_t nr_snapshots;
static atomic_ulong *published;

/* ---- recording ---- */

static struct event *add_event(enum event_type type)
{
	if (nr_events == cap_events) {
		cap_events = cap_events ? 2 * cap_events : 1024;
		events = realloc(events, cap_events * sizeof(*events));
		if (!events)
			abort();
	}
	events[nr_events] = (struct event){ .type = type };
	nr_events++;
	if (published)
		atomic_store(published, nr_events);
	return &events[nr_events - 1];
}

/* The store's names are short ones of its own making. */
static void put_name(char to[40], const char *name)
{
	size_t len = strnlen(name, 39);

	memcpy(to, name, len);
	to[len] = 0;
}

static struct name *find_name(struct name *v, size_t nr, const char *s)
{
	for (size_t i = 0; i < nr; i++)
		if (v[i].used && !strcmp(v[i].name, s))
			return &v[i];
	return NULL;
}

static struct name *add_name(const char *s, unsigned int file)
{
	names = realloc(names, (nr_names + 1) * sizeof(*names));
	if (!names)
		abort();
	names[nr_names] = (struct name){ .file = file, .used = true };
	put_name(names[nr_names].name, s);
	return &names[nr_names++];
}

static int rec_open(struct bale_io *io, const char *name, int flags,
		    int *ret_fd)
{
	int r = bale_io_posix.open(io, name, flags, ret_fd);
	struct name *n;

	if (r)
		return r;
	pthread_mutex_lock(&lock);
	n = find_name(names, nr_names, name);
	if (!n) {
		struct event *e = add_event(EV_CREATE);

		n = add_name(name, nr_files++);
		e->file = n->file;
		put_name(e->name, name);
	} else if (flags & O_TRUNC) {
		add_event(EV_TRUNCATE)->file = n->file;
	}
	if (*ret_fd < MAX_FD)
		fd_file[*ret_fd] = n->file;
	pthread_mutex_unlock(&lock);
	return 0;
}

static void rec_close(struct bale_io *io, int fd)
{
	bale_io_posix.close(io, fd);
}

static int rec_pread(struct bale_io *io, int fd, void *buf, size_t len,
		     uint64_t off, size_t *ret_len)
{
	return bale_io_posix.pread(io, fd, buf, len, off, ret_len);
}

static int rec_pwritev(struct bale_io *io, int fd, const struct iovec *iov,
		       int nr_iov, uint64_t off)
{
	int r = bale_io_posix.pwritev(io, fd, iov, nr_iov, off);
	struct event *e;

	if (r)
		return r;
	pthread_mutex_lock(&lock);
	e = add_event(EV_WRITE);
	e->file = fd_file[fd];
	e->off = off;
	for (int i = 0; i < nr_iov; i++)
		e->len += iov[i].iov_len;
	e->data = malloc(e->len + 1);
	if (!e->data)
		abort();
	for (int i = 0, at = 0; i < nr_iov; i++) {
		memcpy(e->data + at, iov[i].iov_base, iov[i].iov_len);
		at += (int)iov[i].iov_len;
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

/* Noted, not done: the store lies in memory, and what counts is the note. It
 * covers what was written before the call. */
static int rec_sync(struct bale_io *io, int fd)
{
	(void)io;
	pthread_mutex_lock(&lock);
	add_event(EV_SYNC)->file = fd_file[fd];
	pthread_mutex_unlock(&lock);
	return 0;
}

static int rec_start_writeback(struct bale_io *io, int fd, uint64_t off,
			       uint64_t len)
{
	(void)io;
	(void)fd;
	(void)off;
	(void)len;
	return 0;
}

static int rec_allocate(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	return bale_io_posix.allocate(io, fd, off, len);
}

static int rec_range(struct bale_io *io, int fd, uint64_t off, uint64_t len,
		     enum event_type type, int r)
{
	struct event *e;

	(void)io;
	if (r)
		return r;
	pthread_mutex_lock(&lock);
	e = add_event(type);
	e->file = fd_file[fd];
	e->off = off;
	e->len = len;
	pthread_mutex_unlock(&lock);
	return 0;
}

static int rec_punch(struct bale_io *io, int fd, uint64_t off, uint64_t len)
{
	return rec_range(io, fd, off, len, EV_PUNCH,
			 bale_io_posix.punch(io, fd, off, len));
}

static int rec_truncate(struct bale_io *io, int fd, uint64_t len)
{
	return rec_range(io, fd, len, 0, EV_TRUNCATE,
			 bale_io_posix.truncate(io, fd, len));
}

static int rec_size(struct bale_io *io, int fd, uint64_t *ret_len,
		    uint64_t *ret_allocated)
{
	return bale_io_posix.size(io, fd, ret_len, ret_allocated);
}

static int rec_rename(struct bale_io *io, const char *from, const char *to)
{
	int r = bale_io_posix.rename(io, from, to);
	struct name *n, *old;
	struct event *e;

	if (r)
		return r;
	pthread_mutex_lock(&lock);
	n = find_name(names, nr_names, from);
	old = find_name(names, nr_names, to);
	if (old)
		old->used = false;
	if (n) {
		put_name(n->name, to);
		e = add_event(EV_RENAME);
		e->file = n->file;
		put_name(e->name, from);
		put_name(e->name2, to);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

static int rec_unlink(struct bale_io *io, const char *name)
{
	int r = bale_io_posix.unlink(io, name);
	struct name *n;
	struct event *e;

	if (r)
		return r;
	pthread_mutex_lock(&lock);
	n = find_name(names, nr_names, name);
	if (n) {
		n->used = false;
		e = add_event(EV_UNLINK);
		put_name(e->name, name);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

static int rec_mkdir(struct bale_io *io, const char *name)
{
	return bale_io_posix.mkdir(io, name);
}

static int rec_sync_dir(struct bale_io *io, const char *name)
{
	(void)io;
	pthread_mutex_lock(&lock);
	put_name(add_event(EV_SYNC_DIR)->name, name);
	pthread_mutex_unlock(&lock);
	return 0;
}

static int rec_list(struct bale_io *io, const char *name, bale_io_list_fn *fn,
		    void *arg)
{
	return bale_io_posix.list(io, name, fn, arg);
}

static int rec_space(struct bale_io *io, uint64_t *ret_total,
		     uint64_t *ret_free)
{
	return bale_io_posix.space(io, ret_total, ret_free);
}

const struct bale_io_ops bale_rec_ops = {
	.open = rec_open,
	.close = rec_close,
	.pread = rec_pread,
	.pwritev = rec_pwritev,
	.sync = rec_sync,
	.start_writeback = rec_start_writeback,
	.allocate = rec_allocate,
	.punch = rec_punch,
	.truncate = rec_truncate,
	.size = rec_size,
	.rename = rec_rename,
	.unlink = rec_unlink,
	.mkdir = rec_mkdir,
	.sync_dir = rec_sync_dir,
	.list = rec_list,
	.space = rec_space,
};

void bale_rec_free(void)
{
	for (size_t i = 0; i < nr_events; i++)
		free(events[i].data);
	for (size_t i = 0; i < nr_snapshots; i++)
		free(snapshots[i].data);
	free(events);
	free(names);
	events = NULL;
	names = NULL;
	nr_events = cap_events = nr_names = nr_snapshots = 0;
	nr_files = 0;
}

static int adopt_dir(struct bale_io *io, const char *dir);

static int adopt_file(struct bale_io *io, const char *name)
{
	uint64_t len, allocated;
	struct event *e;
	struct name *n;
	size_t got;
	int fd, r = bale_io_posix.open(io, name, O_RDONLY, &fd);

	if (r)
		return r == -EUCLEAN ? adopt_dir(io, name) : r;
	r = bale_io_posix.size(io, fd, &len, &allocated);
	if (!r) {
		n = add_name(name, nr_files++);
		e = add_event(EV_CREATE);
		e->file = n->file;
		put_name(e->name, name);
		e = add_event(EV_WRITE);
		e->file = n->file;
		e->len = len;
		e->data = malloc(len + 1);
		r = e->data ?
			    bale_io_posix.pread(io, fd, e->data, len, 0, &got) :
			    -ENOMEM;
		add_event(EV_SYNC)->file = n->file;
	}
	bale_io_posix.close(io, fd);
	return r;
}

struct adopting {
	struct bale_io *io;
	const char *dir;
};

static int adopt_entry(const char *name, void *arg)
{
	struct adopting *a = arg;
	char path[300];

	if (!strcmp(name, "index") || !strcmp(name, "lock"))
		return 0;
	snprintf(path, sizeof(path), "%s%s%s", a->dir, *a->dir ? "/" : "",
		 name);
	return adopt_file(a->io, path);
}

static int adopt_dir(struct bale_io *io, const char *dir)
{
	struct adopting a = { io, dir };
	int r = bale_io_posix.list(io, dir, adopt_entry, &a);

	put_name(add_event(EV_SYNC_DIR)->name, dir);
	return r;
}

static size_t adopted;

int bale_rec_adopt(const char *store)
{
	struct bale_io *io;
	int r = bale_io_open(store, true, &io);

	if (r)
		return r;
	r = adopt_dir(io, "");
	bale_io_close(io);
	adopted = nr_events;
	return r;
}

size_t bale_rec_adopted(void)
{
	return adopted;
}

void bale_rec_start(void)
{
	bale_rec_free();
}

size_t bale_rec_count(void)
{
	size_t n;

	pthread_mutex_lock(&lock);
	n = nr_events;
	pthread_mutex_unlock(&lock);
	return n;
}

/* ---- building states ---- */

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1du;
}

/* The last sync of `file` before k: its earlier writes are safe. */
static size_t last_sync(unsigned int file, size_t k)
{
	while (k-- > 0)
		if (events[k].type == EV_SYNC && events[k].file == file)
			return k;
	return 0;
}

static size_t last_dir_sync(const char *dir, size_t k)
{
	while (k-- > 0)
		if (events[k].type == EV_SYNC_DIR &&
		    !strcmp(events[k].name, dir))
			return k + 1;
	return 0;
}

static void dir_of(const char *name, char dir[40])
{
	const char *slash = strchr(name, '/');

	snprintf(dir, 40, "%.*s", slash ? (int)(slash - name) : 0, name);
}

/* One state: what decides of each unsynced event whether it is there. */
struct choice {
	size_t k;
	enum bale_rec_mode mode;
	uint64_t seed;
	uint64_t left; /* BALE_REC_COMBINATION: digits not used yet */
	uint64_t s;    /* random numbers for data */
	/* Of each directory: changes of names from here on are not there. */
	char dirs[MAX_DIRS][40];
	size_t horizon[MAX_DIRS];
	unsigned int nr_dirs;
};

static bool is_name_event(const struct event *e)
{
	return e->type == EV_CREATE || e->type == EV_RENAME ||
	       e->type == EV_UNLINK;
}

static bool is_data_event(const struct event *e)
{
	return e->type == EV_WRITE || e->type == EV_TRUNCATE ||
	       e->type == EV_PUNCH;
}

static bool is_in(const struct event *e, const char *dir)
{
	char its[40];

	if (!is_name_event(e))
		return false;
	dir_of(e->name, its);
	return !strcmp(its, dir);
}

/* Changes of names in a directory between its last sync and k. */
static size_t names_pending(const char *dir, size_t from, size_t k)
{
	size_t nr = 0;

	for (size_t i = from; i < k; i++)
		nr += is_in(&events[i], dir);
	return nr;
}

/* The event behind the first `nr` changes of names of a directory. */
static size_t nth_name(const char *dir, size_t from, size_t k, size_t nr)
{
	for (; from < k; from++)
		if (is_in(&events[from], dir) && !nr--)
			break;
	return from;
}

static size_t draw_horizon(struct choice *c, const char *dir)
{
	size_t safe = last_dir_sync(dir, c->k), nr;
	uint64_t s = c->seed | 1;

	if (c->mode == BALE_REC_NONE || safe >= c->k)
		return safe;
	if (c->mode == BALE_REC_COMBINATION) {
		nr = names_pending(dir, safe, c->k) + 1;
		safe = nth_name(dir, safe, c->k, c->left % nr);
		c->left /= nr;
		return safe;
	}
	for (const char *p = dir; *p; p++)
		s = s * 31 + (uint8_t)*p;
	next_random(&s);
	return safe + next_random(&s) % (c->k - safe + 1);
}

static size_t name_horizon(struct choice *c, const char *name)
{
	unsigned int n = 0;
	char dir[40];

	if (c->mode == BALE_REC_ALL)
		return c->k;
	dir_of(name, dir);
	while (n < c->nr_dirs && strcmp(c->dirs[n], dir))
		n++;
	if (n == c->nr_dirs) {
		if (n == MAX_DIRS)
			abort();
		memcpy(c->dirs[n], dir, sizeof(dir));
		c->horizon[n] = draw_horizon(c, dir);
		c->nr_dirs++;
	}
	return c->horizon[n];
}

static void apply_names(struct name *v, size_t *nr, struct choice *c)
{
	for (size_t i = 0; i < c->k; i++) {
		struct event *e = &events[i];
		struct name *n, *old;

		if (!is_name_event(e) || i >= name_horizon(c, e->name))
			continue;
		n = find_name(v, *nr, e->name);
		if (e->type == EV_CREATE) {
			n = &v[(*nr)++];
			*n = (struct name){ .file = e->file, .used = true };
			memcpy(n->name, e->name, sizeof(n->name));
		} else if (n && e->type == EV_UNLINK) {
			n->used = false;
		} else if (n) {
			old = find_name(v, *nr, e->name2);
			if (old)
				old->used = false;
			memcpy(n->name, e->name2, sizeof(n->name));
		}
	}
}

static int write_event(int fd, const struct event *e, size_t from, size_t to)
{
	ssize_t n;

	if (to <= from)
		return 0;
	n = pwrite(fd, e->data + from, to - from, (off_t)(e->off + from));
	return n == (ssize_t)(to - from) ? 0 : -EIO;
}

/* Each sector, or page, by a coin of its own. */
static int write_scattered(int fd, const struct event *e, uint64_t unit,
			   uint64_t *s)
{
	size_t at = 0;
	int r = 0;

	while (!r && at < e->len) {
		size_t next = (e->off + at) / unit * unit + unit - e->off;

		next = next < e->len ? next : e->len;
		if (next_random(s) & 1)
			r = write_event(fd, e, at, next);
		at = next;
	}
	return r;
}

/* The file has grown, what was written there is not there. */
static int grow_only(int fd, const struct event *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if ((uint64_t)st.st_size >= e->off + e->len)
		return 0;
	return ftruncate(fd, (off_t)(e->off + e->len)) ? -errno : 0;
}

static int write_maybe(int fd, const struct event *e, uint64_t *s)
{
	uint64_t coin = next_random(s) % 8;
	uint64_t unit = next_random(s) & 1 ? SECTOR : PAGE;
	size_t cut = next_random(s) % (e->len + 1);

	cut = (e->off + cut) / unit * unit;
	cut = cut > e->off ? cut - e->off : 0;
	switch (coin) {
	case 0:
	case 1:
		return write_event(fd, e, 0, e->len);
	case 2:
	case 3:
		return 0;
	case 4:
		return write_event(fd, e, 0, cut);
	case 5:
		return write_event(fd, e, cut, e->len);
	case 6:
		return write_scattered(fd, e, unit, s);
	default:
		return grow_only(fd, e);
	}
}

static int apply_data(struct bale_io *io, int fd, const struct event *e)
{
	if (e->type == EV_WRITE)
		return write_event(fd, e, 0, e->len);
	if (e->type == EV_TRUNCATE)
		return ftruncate(fd, (off_t)e->off) ? -errno : 0;
	return bale_io_posix.punch(io, fd, e->off, e->len);
}

static int apply_unsynced(struct bale_io *io, int fd, const struct event *e,
			  struct choice *c)
{
	bool there = c->mode == BALE_REC_ALL;

	if (c->mode == BALE_REC_COMBINATION) {
		there = c->left & 1;
		c->left >>= 1;
	} else if (c->mode == BALE_REC_RANDOM) {
		if (e->type == EV_WRITE)
			return write_maybe(fd, e, &c->s);
		there = next_random(&c->s) & 1;
	}
	return there ? apply_data(io, fd, e) : 0;
}

static int build_file(int dir_fd, const struct name *n, struct choice *c)
{
	struct bale_io io = { .ops = &bale_io_posix, .dir_fd = dir_fd };
	int fd = openat(dir_fd, n->name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	size_t safe = last_sync(n->file, c->k);
	int r = 0;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; !r && i < c->k; i++) {
		const struct event *e = &events[i];

		if (e->file != n->file || !is_data_event(e))
			continue;
		r = i < safe ? apply_data(&io, fd, e) :
			       apply_unsynced(&io, fd, e, c);
	}
	close(fd);
	return r;
}

/*
 * Each unsynced change of data is there or is not, each directory has some of
 * its changes of names. Some of these are the same state: a file whose name is
 * not there.
 */
uint64_t bale_rec_combinations(size_t k)
{
	static const char *const dirs[] = { "", "log", "seg", "ckpt" };
	uint64_t nr = 1;

	for (unsigned int d = 0; d < 4; d++)
		nr *= names_pending(dirs[d], last_dir_sync(dirs[d], k), k) + 1;
	for (size_t i = 0; i < k && nr < UINT32_MAX; i++)
		if (is_data_event(&events[i]) &&
		    i >= last_sync(events[i].file, k))
			nr *= 2;
	return nr < UINT32_MAX ? nr : UINT64_MAX;
}

int bale_rec_build(const char *to, size_t k, enum bale_rec_mode mode,
		   uint64_t seed)
{
	static const char *const dirs[] = { "log", "seg", "ckpt", "index" };
	struct choice c = { .k = k,
			    .mode = mode,
			    .seed = seed,
			    .left = seed,
			    .s = seed * 0x9e3779b97f4a7c15u | 1 };
	struct name *v = calloc(k + 1, sizeof(*v));
	size_t nr = 0;
	int dir_fd = open(to, O_RDONLY | O_DIRECTORY), r = 0;

	if (dir_fd < 0 || !v)
		r = -ENOMEM;
	for (size_t i = 0; !r && i < 4; i++)
		r = mkdirat(dir_fd, dirs[i], 0700) ? -errno : 0;
	if (!r)
		apply_names(v, &nr, &c);
	/* Of the index only its opening and its mark are seen here. */
	for (size_t i = 0; !r && i < nr; i++)
		if (v[i].used && strncmp(v[i].name, "index/", 6))
			r = build_file(dir_fd, &v[i], &c);
	if (dir_fd >= 0)
		close(dir_fd);
	free(v);
	return r;
}

/* ---- the index ---- */

int bale_rec_snapshot_index(const char *store)
{
	struct snapshot *sn = &snapshots[nr_snapshots];
	char path[256];
	struct stat st;
	int fd;

	if (nr_snapshots == MAX_SNAPSHOTS)
		return -ENOSPC;
	snprintf(path, sizeof(path), "%s/index/data.mdb", store);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		close(fd);
		return -EIO;
	}
	sn->at = bale_rec_count();
	sn->len = (size_t)st.st_size;
	sn->data = malloc(sn->len + 1);
	if (!sn->data || pread(fd, sn->data, sn->len, 0) != (ssize_t)sn->len) {
		free(sn->data);
		close(fd);
		return -EIO;
	}
	close(fd);
	nr_snapshots++;
	return 0;
}

int bale_rec_copy_index(const char *to, size_t k)
{
	const struct snapshot *sn = NULL;
	char path[256];
	ssize_t n;
	int fd;

	for (size_t i = 0; i < nr_snapshots && snapshots[i].at <= k; i++)
		sn = &snapshots[i];
	if (!sn)
		return -ENOENT;
	snprintf(path, sizeof(path), "%s/index/data.mdb", to);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, sn->data, sn->len);
	close(fd);
	return n == (ssize_t)sn->len ? 0 : -EIO;
}

/* ---- saving ---- */

void bale_rec_publish(atomic_ulong *where)
{
	pthread_mutex_lock(&lock);
	published = where;
	if (where)
		atomic_store(where, nr_events);
	pthread_mutex_unlock(&lock);
}

/* For a process on the same machine: as it lies in memory. */
int bale_rec_save(const char *path)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return -errno;
	ok = fwrite(&nr_events, sizeof(nr_events), 1, f) == 1;
	for (size_t i = 0; ok && i < nr_events; i++) {
		const struct event *e = &events[i];

		ok = fwrite(e, sizeof(*e), 1, f) == 1 &&
		     (!e->data || fwrite(e->data, 1, e->len, f) == e->len);
	}
	return fclose(f) || !ok ? -EIO : 0;
}

int bale_rec_load(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t nr = 0;
	bool ok;

	if (!f)
		return -errno;
	bale_rec_free();
	ok = fread(&nr, sizeof(nr), 1, f) == 1;
	for (size_t i = 0; ok && i < nr; i++) {
		struct event *e = add_event(EV_CREATE);

		ok = fread(e, sizeof(*e), 1, f) == 1;
		if (!ok || !e->data)
			continue;
		e->data = malloc(e->len + 1);
		ok = e->data && fread(e->data, 1, e->len, f) == e->len;
	}
	fclose(f);
	return ok ? 0 : -EIO;
}
