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
	DEFAULT_LOG_BITS = 23,
	SMALL_SEGMENT_BITS = 26,
	SMALL_LOG_BITS = 21,
};
#define SMALL_BACKING ((uint64_t)2 << 30)

/* What a store holds, folder by folder ("" is the top). A name is one of
 * these, or 16 hexadecimal digits where `numbers`, or one of these + ".tmp". */
static const struct part {
	const char *name;
	const char *files[6];
	bool numbers;
} parts[] = {
	{ "", { "super.0", "super.1", "lock", "reserve" }, false },
	{ "log", { "spare" }, true },
	{ "seg", { NULL }, true },
	{ "ckpt", { "new" }, true },
	{ "index",
	  { "data.mdb", "lock.mdb", "clean", "new.mdb", "new.mdb-lock" },
	  false },
};
enum { NR_PARTS = sizeof(parts) / sizeof(*parts) };

static bool is_number(const char *name, size_t len)
{
	return len == 16 && strspn(name, "0123456789abcdef") == 16;
}

static bool is_ours(const struct part *p, const char *name)
{
	const char *tmp = strrchr(name, '.');
	size_t len = tmp && !strcmp(tmp, ".tmp") ? (size_t)(tmp - name) :
						   strlen(name);

	if (p->numbers && is_number(name, len))
		return true;
	for (size_t i = 0; i < 6 && p->files[i]; i++)
		if (strlen(p->files[i]) == len &&
		    !memcmp(p->files[i], name, len))
			return true;
	for (size_t i = 1; p == parts && i < NR_PARTS; i++)
		if (!strcmp(parts[i].name, name))
			return true;
	return false;
}

struct census {
	struct bale_io *io;
	const struct part *part;
	unsigned int nr, foreign;
};

static int count_entry(const char *name, void *arg)
{
	struct census *c = arg;

	if (c->part == parts && !strcmp(name, "lost+found"))
		return 0;
	c->nr++;
	if (!is_ours(c->part, name))
		c->foreign++;
	return 0;
}

static int count_all(struct bale_io *io, struct census *c)
{
	int r = 0;

	*c = (struct census){ .io = io };
	for (size_t i = 0; !r && i < NR_PARTS; i++) {
		c->part = &parts[i];
		r = BALE_IO(io)->list(io, parts[i].name, count_entry, c);
		if (i && r == -ENOENT)
			r = 0;
		if (i && r == -ENOTDIR) {
			c->foreign++;
			r = 0;
		}
	}
	return r;
}

static int remove_entry(const char *name, void *arg)
{
	const struct census *c = arg;
	char path[64];

	if (!is_ours(c->part, name) ||
	    snprintf(path, sizeof(path), "%s/%s", c->part->name, name) >=
		    (int)sizeof(path))
		return 0;
	return BALE_IO(c->io)->unlink(c->io, c->part == parts ? name : path);
}

/* Folders first, and then the superblocks: until then it is a broken store,
 * which can be made again with force. */
static int wipe(struct bale_io *io)
{
	struct census c = { .io = io };
	int r = 0;

	for (size_t i = 1; !r && i < NR_PARTS; i++) {
		c.part = &parts[i];
		r = BALE_IO(io)->list(io, parts[i].name, remove_entry, &c);
		if (!r && unlinkat(io->dir_fd, parts[i].name, AT_REMOVEDIR))
			r = -errno;
		if (r == -ENOENT)
			r = 0;
	}
	for (size_t i = 0; !r && i < 6 && parts[0].files[i]; i++) {
		char tmp[32];

		snprintf(tmp, sizeof(tmp), "%s.tmp", parts[0].files[i]);
		BALE_IO(io)->unlink(io, tmp);
		r = BALE_IO(io)->unlink(io, parts[0].files[i]);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

/* Only what a store is known to hold goes, and nothing of it when there is
 * anything else: never somebody's own files. */
static int empty_directory(struct bale_io *io, const char *path, bool force)
{
	char holder[128];
	struct census c;
	int r = count_all(io, &c);

	if (r || !c.nr)
		return r;
	if (!force || c.foreign)
		return -ENOTEMPTY;
	if (!bale_store_holder(path, holder, sizeof(holder)))
		return -EBUSY;
	return wipe(io);
}

static int prepare_directory(const char *path, bool force, struct bale_io **ret,
			     bool *ret_made)
{
	struct bale_io *io;
	int r;

	*ret_made = !mkdir(path, 0700);
	if (!*ret_made && errno != EEXIST)
		return -errno;
	r = bale_io_open(path, false, &io);
	if (r)
		return r;
	r = empty_directory(io, path, force);
	if (!r && fchmod(io->dir_fd, 0700))
		r = -errno;
	if (r) {
		bale_io_close(io);
		return r;
	}
	*ret = io;
	return 0;
}

static int check_options(const struct bale_mkfs_options *o)
{
	const struct {
		uint8_t value, min, max;
	} bits[] = { { o->extent_bits, 16, 22 },
		     { o->segment_bits, 20, 31 },
		     { o->log_bits, 20, 28 } };

	if (o->size != sizeof(*o) ||
	    (o->label && strlen(o->label) > BALE_LABEL_MAX))
		return -EINVAL;
	for (size_t i = 0; i < 3; i++)
		if (bits[i].value && (bits[i].value < bits[i].min ||
				      bits[i].value > bits[i].max))
			return -EINVAL;
	return 0;
}

/* Sizes that were left open: smaller on a small backing filesystem, where one
 * log file or the tail of a segment would be a good part of it. */
static void default_sizes(struct bale_super *s, uint64_t total)
{
	if (!s->extent_bits)
		s->extent_bits = DEFAULT_EXTENT_BITS;
	if (!s->log_bits)
		s->log_bits = total < SMALL_BACKING ? SMALL_LOG_BITS :
						      DEFAULT_LOG_BITS;
	if (!s->segment_bits)
		s->segment_bits = total < SMALL_BACKING ? SMALL_SEGMENT_BITS :
							  DEFAULT_SEGMENT_BITS;
}

/* -EINVAL: what the caller chose makes no superblock that could be opened. */
static int fill_super(struct bale_super *s, const struct bale_mkfs_options *o,
		      uint64_t total)
{
	struct bale_super back;
	struct bale_disk_super d;

	memset(s, 0, sizeof(*s));
	if (getrandom(s->uuid, sizeof(s->uuid), 0) != sizeof(s->uuid))
		return -EIO;
	s->uuid[6] = (uint8_t)((s->uuid[6] & 0x0f) | 0x40); /* RFC 4122, v4 */
	s->uuid[8] = (uint8_t)((s->uuid[8] & 0x3f) | 0x80);
	s->seq = 1;
	s->created_sec = (uint64_t)bale_wall().tv_sec;
	s->extent_bits = o->extent_bits;
	s->segment_bits = o->segment_bits;
	s->log_bits = o->log_bits;
	default_sizes(s, total);
	s->codec = o->codec;
	s->level = o->level;
	s->filter = o->filter;
	if (o->label)
		strcpy(s->label, o->label);
	bale_super_encode(s, &d);
	return bale_super_decode(&d, sizeof(d), &back) ? -EINVAL : 0;
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

	for (size_t i = 1; !r && i < NR_PARTS; i++)
		r = BALE_IO(io)->mkdir(io, parts[i].name);
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
	uint64_t total = 0, left;
	bool made;
	int r = check_options(o);

	/* Once without the disk, so that nothing is wiped for bad options. */
	if (!r)
		r = fill_super(&st.super, o, UINT64_MAX);
	if (!r)
		r = prepare_directory(path, o->force, &st.io, &made);
	if (r)
		return r;
	st.path = (char *)path;
	r = BALE_IO(st.io)->space(st.io, &total, &left);
	if (!r)
		r = fill_super(&st.super, o, total);
	if (!r)
		r = make_files(&st);
	if (!r)
		r = sync_parent(path);
	if (r) /* nothing half made stays */
		wipe(st.io);
	bale_io_close(st.io);
	if (r && made)
		rmdir(path);
	return r;
}
