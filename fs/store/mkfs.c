/* SPDX-License-Identifier: Apache-2.0 */
/* Making a store: everything in it is durable before this returns. */
#include "fs/store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "balefs/codec.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"

enum {
	DEFAULT_EXTENT_BITS = 17,
	DEFAULT_SEGMENT_BITS = 28,
	DEFAULT_LOG_BITS = 23
};

static const char *const parts[] = { "log", "seg", "ckpt", "index" };

static int count_entry(const char *name, void *arg)
{
	unsigned int *nr = arg;

	if (strcmp(name, "lost+found"))
		(*nr)++;
	return 0;
}

static int remove_file(const char *name, void *arg)
{
	int dir_fd = *(int *)arg;

	return unlinkat(dir_fd, name, 0) && errno != ENOENT ? -errno : 0;
}

/* Only what a store is known to hold: never somebody's own files. */
static int wipe(struct bale_io *io)
{
	static const char *const files[] = { "super.0",	    "super.1",
					     "lock",	    "reserve",
					     "super.0.tmp", "super.1.tmp" };
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(parts) / sizeof(*parts); i++) {
		int fd = openat(io->dir_fd, parts[i],
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

		if (fd < 0)
			continue;
		r = io->ops->list(io, parts[i], remove_file, &fd);
		close(fd);
		if (!r && unlinkat(io->dir_fd, parts[i], AT_REMOVEDIR))
			r = -errno;
	}
	for (size_t i = 0; !r && i < sizeof(files) / sizeof(*files); i++)
		r = remove_file(files[i], &io->dir_fd);
	return r;
}

static int prepare_directory(const char *path, bool force, struct bale_io **ret)
{
	struct bale_io *io;
	unsigned int nr = 0;
	bool made = !mkdir(path, 0700);
	int r;

	if (!made && errno != EEXIST)
		return -errno;
	r = bale_io_open(path, false, &io);
	if (r)
		return r;
	r = io->ops->list(io, "", count_entry, &nr);
	if (!r && nr && force) {
		char holder[128];

		r = bale_store_holder(path, holder, sizeof(holder)) ? 0 :
								      -EBUSY;
		if (!r)
			r = wipe(io);
		nr = 0;
		if (!r)
			r = io->ops->list(io, "", count_entry, &nr);
	}
	if (!r && nr)
		r = -ENOTEMPTY;
	if (!r && fchmod(io->dir_fd, 0700))
		r = -errno;
	if (r) {
		bale_io_close(io);
		return r;
	}
	*ret = io;
	return 0;
}

static int fill_super(struct bale_super *s, const struct bale_mkfs_options *o)
{
	memset(s, 0, sizeof(*s));
	if (getrandom(s->uuid, sizeof(s->uuid), 0) != sizeof(s->uuid))
		return -EIO;
	s->uuid[6] = (uint8_t)((s->uuid[6] & 0x0f) | 0x40); /* RFC 4122, v4 */
	s->uuid[8] = (uint8_t)((s->uuid[8] & 0x3f) | 0x80);
	s->seq = 1;
	s->created_sec = (uint64_t)bale_wall().tv_sec;
	s->extent_bits = o->extent_bits ? o->extent_bits : DEFAULT_EXTENT_BITS;
	s->segment_bits =
		o->segment_bits ? o->segment_bits : DEFAULT_SEGMENT_BITS;
	s->log_bits = o->log_bits ? o->log_bits : DEFAULT_LOG_BITS;
	s->codec = o->codec;
	s->level = o->level;
	if (o->label) {
		if (strlen(o->label) > BALE_LABEL_MAX)
			return -EINVAL;
		strcpy(s->label, o->label);
	}
	if (s->extent_bits < 16 || s->extent_bits > 22 ||
	    s->segment_bits < 20 || s->segment_bits > 31 ||
	    s->segment_bits < s->extent_bits + 2 || s->log_bits < 20 ||
	    s->log_bits > 28)
		return -EINVAL;
	return 0;
}

static void fill_root(struct bale_inode_row *root)
{
	struct timespec now = bale_wall();

	memset(root, 0, sizeof(*root));
	root->mode = S_IFDIR | 0755;
	root->nlink = 2;
	root->uid = geteuid();
	root->gid = getegid();
	root->atime = root->mtime = root->ctime = root->btime = now;
	root->generation = 1;
	root->parent = BALE_ROOT_INO;
	root->next_cookie = 3; /* 1 and 2 are "." and ".." */
}

static int sync_parent(const char *path)
{
	bale_autofree char *copy = strdup(path);
	bale_autoclose int fd = -1;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		return -errno;
	return 0;
}

/* The superblock comes last: without it there is no store. */
static int make_files(struct bale_store *st)
{
	struct bale_disk_super d;
	struct bale_inode_row root;
	struct bale_io *io = st->io;
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(parts) / sizeof(*parts); i++)
		r = io->ops->mkdir(io, parts[i]);
	fill_root(&root);
	if (!r)
		r = bale_meta_format(st, &root);
	bale_super_encode(&st->super, &d);
	if (!r)
		r = bale_io_replace_file(io, "super.1", &d, sizeof(d));
	if (!r)
		r = bale_io_replace_file(io, "super.0", &d, sizeof(d));
	return r;
}

int bale_store_mkfs(const char *path, const struct bale_mkfs_options *o)
{
	struct bale_store st = { .lock_fd = -1 };
	int r;

	if (o->size != sizeof(*o))
		return -EINVAL;
	r = fill_super(&st.super, o);
	if (!r)
		r = prepare_directory(path, o->force, &st.io);
	if (r)
		return r;
	r = make_files(&st);
	if (!r)
		r = sync_parent(path);
	if (r) /* nothing half made stays */
		wipe(st.io);
	bale_io_close(st.io);
	return r;
}
