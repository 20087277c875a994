/* SPDX-License-Identifier: Apache-2.0 */
/* ops_xattr.c - extended attributes, ACLs among them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/mem.h"
#include "fs/fuse/reply.h"

static bool in_group(fuse_req_t req, gid_t gid)
{
	enum { MAX = 65536 }; /* NGROUPS_MAX */
	bale_autofree gid_t *list = NULL;
	int nr;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	list = calloc(MAX, sizeof(*list));
	if (!list)
		return false;
	nr = fuse_req_getgroups(req, MAX, list);
	for (int n = 0; n < nr && n < MAX; n++)
		if (list[n] == gid)
			return true;
	return false;
}

/*
 * Setting the access ACL changes the mode, so the rule of chmod holds: sgid
 * goes when the caller is neither root nor in the file's group. The kernel
 * tells this bit only in a newer form of the request than all libraries know.
 */
static bool kills_sgid(fuse_req_t req, struct bale_inode *i, const char *name)
{
	struct bale_inode_row row;

	if (strcmp(name, "system.posix_acl_access") ||
	    fuse_req_ctx(req)->uid == 0)
		return false;
	bale_inode_attr(i, &row);
	return (row.mode & S_ISGID) && !in_group(req, row.gid);
}

void bale_fuse_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			const char *value, size_t size, int flags)
{
	struct bale_inode *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_xattr_set(i, name, value, size, flags,
			     kills_sgid(req, i, name));
	bale_inode_put(i);
	bale_reply_err(req, err);
}

/* Both get and list: the length when size is 0, else the bytes. */
static void reply_value(fuse_req_t req, int err, size_t size, const void *buf,
			size_t len)
{
	if (err)
		bale_reply_err(req, err);
	else if (!size)
		fuse_reply_xattr(req, len);
	else
		fuse_reply_buf(req, buf, len);
}

void bale_fuse_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	bale_autofree char *buf = NULL;
	struct bale_inode *i;
	size_t len = 0;
	int err = 0;

	if (!bale_session_inode(req, ino, &i))
		return;
	if (size) {
		buf = malloc(size);
		err = buf ? 0 : -ENOMEM;
	}
	if (!err)
		err = bale_xattr_get(i, name, buf, size, &len);
	bale_inode_put(i);
	reply_value(req, err, size, buf, len);
}

void bale_fuse_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	bale_autofree char *buf = NULL;
	struct bale_inode *i;
	size_t len = 0;
	int err = 0;

	if (!bale_session_inode(req, ino, &i))
		return;
	if (size) {
		buf = malloc(size);
		err = buf ? 0 : -ENOMEM;
	}
	if (!err)
		err = bale_xattr_list(i, buf, size, &len);
	bale_inode_put(i);
	reply_value(req, err, size, buf, len);
}

void bale_fuse_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct bale_inode *i;
	int err;

	if (!bale_session_inode(req, ino, &i))
		return;
	err = bale_xattr_remove(i, name);
	bale_inode_put(i);
	bale_reply_err(req, err);
}
