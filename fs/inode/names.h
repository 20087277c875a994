/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - what table.c, name.c, attr.c, xattr.c, acl.c and orphan.c share
 * with the rest of fs/inode, beyond inode.h. fs.c owns one struct bale_names
 * (fs->names) and drives its life:
 *
 *   open:   bale_names_create(), then (writable) bale_names_recover()
 *   sync:   bale_names_stage_times() before bale_meta_sync()
 *   close:  bale_names_shutdown() while everything still works, then the last
 *           sync, then bale_names_destroy()
 */
#ifndef BALE_INODE_NAMES_H
#define BALE_INODE_NAMES_H

#include "fs/inode/inode.h"

struct bale_names;

int bale_names_create(struct bale_fs *fs, struct bale_names **ret);
/* Finish what a crash left: inodes deleted while open (bale_file_delete) or
 * being truncated (bale_file_truncate_locked to row.size). */
int bale_names_recover(struct bale_fs *fs);
/* Stage every row whose times were changed lazily. No inode lock held. */
int bale_names_stage_times(struct bale_fs *fs);
/* Requests are over: free what only the kernel's lookups kept alive. */
int bale_names_shutdown(struct bale_fs *fs);
void bale_names_destroy(struct bale_names *n); /* NULL is fine */

/* row.nlink is 0: the last reference removes it. Lock held. */
static inline bool bale_inode_is_deleted(const struct bale_inode *i)
{
	return i->row.nlink == 0;
}

/* The in-memory row has times that are not staged yet: the next transaction
 * on it, or the next commit, takes them along. Lock held exclusively. */
void bale_inode_mark_times(struct bale_inode *i);
/* Any write takes security.capability away. Lock held exclusively; free of
 * charge when it is known that there is none. */
int bale_inode_kill_caps_locked(struct bale_inode *i);
/* Access time by the mount's policy. No lock held; cheap when not due. */
void bale_inode_accessed(struct bale_inode *i);
/* Whether that would do anything. Lock held, shared will do. */
bool bale_inode_atime_due(struct bale_inode *i);

/*
 * For bale_file_delete(): adds the end of an inode (its row, inline value,
 * xattrs and orphan row) to the last transaction that frees its content. Many
 * xattrs go in transactions of their own first.
 */
int bale_inode_stage_delete(struct bale_inode *i, struct bale_txn *t);
/* The orphan table: BALE_ORPHAN_* is why the row exists. */
enum { BALE_ORPHAN_DELETED = 1, BALE_ORPHAN_TRUNCATE = 2 };
void bale_orphan_stage(struct bale_txn *t, uint64_t ino, uint64_t reason);
void bale_orphan_stage_del(struct bale_txn *t, uint64_t ino);

/* "/a/b/c" of an inode for messages, as far as it can be told; always ends
 * with NUL: "inode 123" when it cannot. Takes no inode lock. */
void bale_inode_path(struct bale_fs *fs, uint64_t ino, char *buf, size_t cap);

/* file.c: the size the inode row on disk must say now. Lock held. */
uint64_t bale_file_disk_size_locked(struct bale_inode *i);
/* file.c: bytes dirty, being stored or set aside. Lock held, shared will do. */
uint64_t bale_file_unstored_locked(const struct bale_inode *i);

#endif
