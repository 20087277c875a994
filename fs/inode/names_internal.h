/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names_internal.h - private to the names half of fs/inode: the table's lock
 * of renames, keys of rows, and the few steps that every change of names
 * takes.
 *
 * How a change is made, everywhere here: take the locks, check, compute new
 * rows in local copies, build one transaction, commit it (visible at once, all
 * or nothing), and only then assign the copies to the inodes in memory. Any
 * failure before that leaves everything as it was.
 */
#ifndef BALE_INODE_NAMES_INTERNAL_H
#define BALE_INODE_NAMES_INTERNAL_H

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/inode/names.h"

enum {
	BALE_COOKIE_DOT = 1,
	BALE_COOKIE_DOTDOT = 2,
	BALE_COOKIE_FIRST = 3, /* of a name in the directory */
	BALE_NLINK_MAX = INT32_MAX,
};
#define BALE_INODE_USER_FLAGS ((uint32_t)0xffff)
#define BALE_INODE_STUCK      (BALE_INODE_IMMUTABLE | BALE_INODE_APPEND)

#define BALE_ACL_ACCESS	 "system.posix_acl_access"
#define BALE_ACL_DEFAULT "system.posix_acl_default"

struct bale_shard; /* of the inode table */
struct bale_names {
	struct bale_fs *fs;
	struct bale_mutex rename_lock;
	struct bale_mutex time_lock; /* times, and every time_link */
	struct bale_list times;	     /* inodes with a row_dirty to stage */
	struct bale_shard *shards;
};

/* ---- table.c ---- */

/* Serialises moves between directories, so that the tree cannot turn into a
 * ring while the ancestors are being looked at. Before any inode lock. */
void bale_names_rename_lock(struct bale_fs *fs);
void bale_names_rename_unlock(struct bale_fs *fs);
/* An object for an inode that is not in the table yet (no lock needed), its
 * insertion (cannot fail; refs = 1), and the way back before insertion. */
int bale_table_alloc(struct bale_fs *fs, uint64_t ino,
		     const struct bale_inode_row *row,
		     struct bale_inode **ret);
void bale_table_insert(struct bale_inode *i);
void bale_table_free(struct bale_inode *i); /* NULL is fine */
/* -EROFS on a read-only or failed mount. */
int bale_names_writable(struct bale_fs *fs);

/* ---- row.c ---- */

/* The row of an inode as committed, without the table. */
int bale_row_read(struct bale_fs *fs, uint64_t ino,
		  struct bale_inode_row *ret);

/* Add `row` as the inode's new row (on disk: its disk size). Lock held. */
void bale_row_stage(struct bale_inode *i, const struct bale_inode_row *row,
		    struct bale_txn *t);
/* After the commit: row is what readers see, nothing is pending. */
void bale_row_assign(struct bale_inode *i, const struct bale_inode_row *row);

/* ---- dirent.c ---- */

struct bale_name {
	const char *s;
	size_t len;
};
struct bale_entry {
	uint64_t ino, cookie;
	uint8_t type;
};
/* -ENOENT for "", -ENAMETOOLONG, -EINVAL for one with '/'. */
int bale_name_init(struct bale_name *n, const char *s);
bool bale_name_is_dots(const struct bale_name *n);
int bale_dirent_get(struct bale_inode *dir, const struct bale_name *n,
		    struct bale_entry *ret);
/* Both rows of a name. */
void bale_dirent_stage(struct bale_txn *t, uint64_t dir,
		       const struct bale_name *n, const struct bale_entry *e);
void bale_dirent_stage_del(struct bale_txn *t, uint64_t dir,
			   const struct bale_name *n, uint64_t cookie);
static inline uint8_t bale_mode_type(uint32_t mode)
{
	return (uint8_t)((mode & S_IFMT) >> 12); /* DT_* by definition */
}

/* ---- xattr.c, acl.c ---- */

/* Write one xattr row; removal with val NULL. */
void bale_xattr_stage(struct bale_txn *t, uint64_t ino, const char *name,
		      const void *val, size_t len);
/* The value as it is stored, allocated; -ENODATA. Lock held. */
int bale_xattr_load(struct bale_inode *i, const char *name, void **ret,
		    size_t *ret_len);
int bale_xattr_stage_delete_all(struct bale_inode *i, struct bale_txn *t);

/* ACLs in memory. */
struct bale_acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};
struct bale_acl {
	size_t nr;
	struct bale_acl_entry e[];
};
enum {
	BALE_ACL_USER_OBJ = 0x01,
	BALE_ACL_USER = 0x02,
	BALE_ACL_GROUP_OBJ = 0x04,
	BALE_ACL_GROUP = 0x08,
	BALE_ACL_MASK = 0x10,
	BALE_ACL_OTHER = 0x20,
};
/* Decode and validate a posix_acl xattr; *ret NULL for one without entries. */
int bale_acl_decode(const void *val, size_t len, struct bale_acl **ret);
size_t bale_acl_encoded_len(const struct bale_acl *a);
void bale_acl_encode(const struct bale_acl *a, void *buf);
/* The permission bits that the ACL stands for; *ret_exact: they say all. */
uint32_t bale_acl_mode(const struct bale_acl *a, bool *ret_exact);
/* chmod on an inode with this access ACL. */
void bale_acl_chmod(struct bale_acl *a, uint32_t mode);
/* A new inode of *mode under a default ACL: a becomes its access ACL, *mode
 * loses what the ACL does not grant. *ret_exact as above. */
void bale_acl_create(struct bale_acl *a, uint32_t *mode, bool *ret_exact);
/* chmod: stage the changed access ACL of an inode that has one. Lock held. */
int bale_acl_stage_chmod(struct bale_inode *i, uint32_t mode,
			 struct bale_txn *t);

/* ---- attr.c ---- */

/* chown and writes by the unprivileged: suid, and sgid of what its group may
 * execute, go. */
uint32_t bale_mode_kill_priv(uint32_t mode);
/* Stages the removal of security.capability if there may be one. */
void bale_caps_stage_kill(struct bale_inode *i, struct bale_txn *t);

/* a before b (or equal). */
static inline int bale_time_cmp(const struct timespec *a,
				const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? -1 : 1;
	return (a->tv_nsec > b->tv_nsec) - (a->tv_nsec < b->tv_nsec);
}

#endif
