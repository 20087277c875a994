/* SPDX-License-Identifier: Apache-2.0 */
/* ops_dir.c - reading directories. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/mem.h"
#include "fs/fuse/reply.h"

void bale_fuse_opendir(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct bale_inode *i;

	if (!bale_session_inode(req, ino, &i))
		return;
	fi->cache_readdir = 1;
	fi->keep_cache = 1;
	bale_inode_open(i);
	if (fuse_reply_open(req, fi))
		bale_inode_release(i);
	bale_inode_put(i);
}

void bale_fuse_releasedir(fuse_req_t req, fuse_ino_t ino,
			  struct fuse_file_info *fi)
{
	struct bale_inode *i;

	(void)fi;
	if (!bale_inode_get(bale_session_of(req)->fs, ino, &i)) {
		bale_inode_release(i);
		bale_inode_put(i);
	}
	fuse_reply_err(req, 0);
}

void bale_fuse_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
			struct fuse_file_info *fi)
{
	struct bale_inode *i;
	int err;

	(void)fi;
	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_file_fsync(i, datasync);
	bale_inode_put(i);
	bale_reply_err(req, err);
}

/*
 * Entries are first copied out, and turned into a reply afterwards: while the
 * directory is being read, its lock is held and other inodes must not be
 * touched.
 */
struct one {
	uint64_t ino, cookie;
	size_t name; /* offset in names; NUL-terminated */
	uint8_t type;
	bool counted; /* as a lookup of the kernel's */
};
struct listing {
	fuse_req_t req;
	bool plus;
	size_t room; /* bytes of the reply still free */
	struct bale_buf ones, names;
	int err;
};

static size_t entry_size(fuse_req_t req, bool plus, const char *name)
{
	if (plus)
		return fuse_add_direntry_plus(req, NULL, 0, name, NULL, 0);
	return fuse_add_direntry(req, NULL, 0, name, NULL, 0);
}

static int collect(const struct bale_dir_entry *e, void *arg)
{
	struct listing *l = arg;
	char name[BALE_NAME_MAX + 1];
	struct one one = { .ino = e->ino, .cookie = e->cookie,
			   .type = e->type, .name = l->names.len };
	size_t size;

	if (e->name_len > BALE_NAME_MAX) {
		l->err = -EUCLEAN;
		return 1;
	}
	memcpy(name, e->name, e->name_len);
	name[e->name_len] = '\0';
	size = entry_size(l->req, l->plus, name);
	if (size > l->room)
		return 1;
	l->err = bale_buf_append(&l->names, name, e->name_len + 1);
	if (!l->err)
		l->err = bale_buf_append(&l->ones, &one, sizeof(one));
	l->room -= size;
	return l->err;
}

static size_t add_plain(fuse_req_t req, char *buf, size_t cap,
			const struct one *e, const char *name)
{
	struct stat st = { .st_ino = e->ino, .st_mode = DTTOIF(e->type) };

	return fuse_add_direntry(req, buf, cap, name, &st, (off_t)e->cookie);
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Each entry but the dots counts as a lookup. One that cannot be read is
 * listed without attributes, so that lookup tells the error. */
static size_t add_plus(fuse_req_t req, char *buf, size_t cap,
		       struct one *e, const char *name)
{
	struct bale_fs *fs = bale_session_of(req)->fs;
	struct fuse_entry_param p = {
		.attr = { .st_ino = e->ino, .st_mode = DTTOIF(e->type) },
	};
	struct bale_inode *i;

	if (!is_dots(name) && !bale_inode_get(fs, e->ino, &i)) {
		bale_inode_lookup_ref(i);
		bale_reply_fill_entry(i, &p);
		bale_inode_put(i);
		e->counted = true;
	}
	return fuse_add_direntry_plus(req, buf, cap, name, &p,
				      (off_t)e->cookie);
}

static void forget_listed(struct bale_fs *fs, const struct listing *l)
{
	const struct one *ones = (const struct one *)l->ones.data;

	for (size_t n = 0; n < l->ones.len / sizeof(*ones); n++)
		if (ones[n].counted)
			bale_inode_forget(fs, ones[n].ino, 1);
}

static void reply_listing(fuse_req_t req, const struct listing *l, size_t size)
{
	struct bale_fs *fs = bale_session_of(req)->fs;
	struct one *ones = (struct one *)l->ones.data;
	bale_autofree char *buf = malloc(size);
	size_t len = 0;

	if (!buf) {
		bale_reply_err(req, -ENOMEM);
		return;
	}
	for (size_t n = 0; n < l->ones.len / sizeof(*ones); n++) {
		const char *name = (char *)l->names.data + ones[n].name;

		len += l->plus ?
			       add_plus(req, buf + len, size - len, &ones[n],
					name) :
			       add_plain(req, buf + len, size - len, &ones[n],
					 name);
	}
	if (fuse_reply_buf(req, buf, len) && l->plus)
		forget_listed(fs, l);
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     bool plus)
{
	struct listing l = { .req = req, .plus = plus, .room = size };
	struct bale_inode *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_dir_read(i, (uint64_t)off, collect, &l);
	bale_inode_put(i);
	if (!err)
		err = l.err;
	if (err)
		bale_reply_err(req, err);
	else
		reply_listing(req, &l, size);
	bale_buf_fini(&l.ones);
	bale_buf_fini(&l.names);
}

void bale_fuse_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	read_dir(req, ino, size, off, false);
}

void bale_fuse_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	read_dir(req, ino, size, off, true);
}
