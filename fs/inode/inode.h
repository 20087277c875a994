/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inode.h - an open filesystem and its inodes in memory.
 *
 * A struct bale_inode is found by number in a table, lives while somebody
 * holds a reference (the kernel's lookups count as one reference in all, kept
 * in nr_lookup), or has dirty data. All its fields are guarded by `lock`
 * unless said otherwise. Order of locks: inode locks by (parent before child,
 * else by ascending number), then an extent's lock in the cache, then the
 * staging lock inside meta. Never held: across fuse replies. Data reads take
 * `lock` shared, everything that changes the inode takes it exclusively.
 */
#ifndef BALE_INODE_INODE_H
#define BALE_INODE_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "fs/base/list.h"
#include "fs/base/thread.h"
#include "fs/codec/codec.h"
#include "fs/store/store.h"

struct bale_fs;
struct bale_file_data; /* file.c: dirty extents, disk size, readahead state */

struct bale_inode {
	uint64_t ino; /* const */
	struct bale_fs *fs; /* const */
	uint32_t type; /* S_IFMT bits of row.mode; const, no lock needed */
	struct bale_rwlock lock;
	struct bale_inode_row row; /* as every reader sees it; row.size is the
				      size with unwritten data included */
	bool no_caps;	/* looked: no security.capability */
	bool row_dirty; /* lazily staged times; staged with the next txn */
	bool deleted;	/* its last name was taken away */
	atomic_bool nameless; /* row.nlink is 0; set under lock, read anywhere */
	struct bale_file_data *data; /* regular files, NULL until first used */
	/* table.c, all guarded by the table's lock: */
	struct bale_list hash_link, lru_link;
	struct bale_list time_link; /* row_dirty: waits for a commit */
	unsigned int refs;
	uint64_t nr_lookup;
	atomic_uint nr_open; /* open handles; read anywhere */
	atomic_uint nr_writing; /* ... for writing; who opens counts them */
	int state;
};

/* ---- the filesystem (fs.c) ---- */
struct bale_fs_options {
	size_t size;
	bool read_only, untrusted;
	bool salvage; /* a damaged log ends where it is damaged */
	struct bale_codec_policy policy; /* of the mount; default: superblock's */
	bool has_policy;
	uint64_t cache_bytes;	 /* 0: default */
	uint64_t bale_bytes;	 /* 0: 64 MiB */
	uint64_t commit_ns;	 /* 0: 5 s */
	unsigned int nr_workers; /* 0: cores */
	struct bale_gpu_options gpu; /* zeroed: what there is */
	bool manual_commit;	 /* tests: commits only when told, one worker */
	int atime;		 /* 0 relatime, 1 noatime, 2 strict */
	unsigned int wait_ms;	 /* for a closing holder of the store */
	const struct bale_io_ops *io_ops;
	void *io_priv;
};
int bale_fs_open(const char *store, const struct bale_fs_options *o,
		 struct bale_fs **ret);
/* Everything durable, then closed; the first error of the mount's life. */
int bale_fs_close(struct bale_fs *fs);
/* All data and metadata durable (syncfs, commit timer, tests). */
int bale_fs_sync(struct bale_fs *fs);
struct bale_store *bale_fs_store(struct bale_fs *fs);
struct bale_meta *bale_fs_meta(struct bale_fs *fs);
const struct bale_fs_options *bale_fs_options(const struct bale_fs *fs);
struct bale_codec_policy bale_inode_policy(struct bale_inode *i); /* effective */

/* ---- table (table.c) ---- */
/* A counted reference; -ENOENT, -EUCLEAN/-EBADMSG for a damaged row. */
int bale_inode_get(struct bale_fs *fs, uint64_t ino, struct bale_inode **ret);
/* Insert a just created inode (refs = 1). */
int bale_inode_new(struct bale_fs *fs, uint64_t ino,
		   const struct bale_inode_row *row, struct bale_inode **ret);
void bale_inode_ref(struct bale_inode *i);
void bale_inode_put(struct bale_inode *i);
/* The same where no inode lock is held: dirty data that nobody can reach any
 * more is thrown away instead of being stored first. */
void bale_inode_put_unlocked(struct bale_inode *i);
/* The kernel's lookup count: +1 with a reference; forget n. The last forget
 * (and last close) of an inode without links frees its data and rows. */
void bale_inode_lookup_ref(struct bale_inode *i);
void bale_inode_forget(struct bale_fs *fs, uint64_t ino, uint64_t n);
void bale_inode_open(struct bale_inode *i);
void bale_inode_release(struct bale_inode *i); /* close of one handle */
/* Add the inode's row (disk size, see file.h) to a transaction. Lock held. */
void bale_inode_stage(struct bale_inode *i, struct bale_txn *t);

struct bale_cred {
	uint32_t uid, gid, umask;
};

/* ---- names (dir.c, name.c) ---- */
/* All return an inode reference through ret where they have one. */
int bale_dir_lookup(struct bale_inode *dir, const char *name,
		    struct bale_inode **ret); /* "." and ".." too */
int bale_dir_create(struct bale_inode *dir, const char *name, uint32_t mode,
		    uint64_t rdev, const struct bale_cred *c,
		    struct bale_inode **ret); /* any type but dir, symlink */
int bale_dir_mkdir(struct bale_inode *dir, const char *name, uint32_t mode,
		   const struct bale_cred *c, struct bale_inode **ret);
int bale_dir_symlink(struct bale_inode *dir, const char *name,
		     const char *target, const struct bale_cred *c,
		     struct bale_inode **ret);
int bale_dir_tmpfile(struct bale_inode *dir, uint32_t mode,
		     const struct bale_cred *c, struct bale_inode **ret);
int bale_dir_link(struct bale_inode *i, struct bale_inode *dir,
		  const char *name);
int bale_dir_unlink(struct bale_inode *dir, const char *name);
int bale_dir_rmdir(struct bale_inode *dir, const char *name);
int bale_dir_rename(struct bale_inode *from, const char *name,
		    struct bale_inode *to, const char *new_name,
		    unsigned int flags); /* RENAME_NOREPLACE, RENAME_EXCHANGE */
struct bale_dir_entry {
	const char *name;
	size_t name_len;
	uint64_t ino, cookie; /* cookie: continue after this entry */
	uint8_t type;	      /* DT_* */
};
/* Entries after `cookie` (0: from the start, with "." and ".."), in stable
 * order, until fn returns non-zero (then 0 is returned, nothing is lost). */
typedef int bale_dir_fn(const struct bale_dir_entry *e, void *arg);
int bale_dir_read(struct bale_inode *dir, uint64_t cookie, bale_dir_fn *fn,
		  void *arg);
int bale_inode_readlink(struct bale_inode *i, char *buf, size_t cap);

/* ---- attributes (attr.c, xattr.c, acl.c) ---- */
enum {
	BALE_SET_MODE = 1 << 0,
	BALE_SET_UID = 1 << 1,
	BALE_SET_GID = 1 << 2,
	BALE_SET_SIZE = 1 << 3,
	BALE_SET_ATIME = 1 << 4,
	BALE_SET_MTIME = 1 << 5,
	BALE_SET_CTIME = 1 << 6,
	BALE_SET_KILL_PRIV = 1 << 7, /* clear suid/sgid as the kernel asks */
	BALE_SET_ATIME_NOW = 1 << 8,
	BALE_SET_MTIME_NOW = 1 << 9,
};
struct bale_setattr {
	unsigned int valid;
	uint32_t mode, uid, gid;
	uint64_t size;
	struct timespec atime, mtime, ctime;
};
int bale_inode_setattr(struct bale_inode *i, const struct bale_setattr *a);
/* A consistent copy of the row (st_blocks from row.stored). */
void bale_inode_attr(struct bale_inode *i, struct bale_inode_row *ret);
/* The same, and in row.stored what is not stored yet as well. */
void bale_inode_stat(struct bale_inode *i, struct bale_inode_row *ret);
int bale_inode_set_flags(struct bale_inode *i, uint32_t flags); /* chattr */

int bale_xattr_get(struct bale_inode *i, const char *name, void *buf,
		   size_t cap, size_t *ret_len); /* cap 0: length only; -ERANGE,
						    -ENODATA */
int bale_xattr_set(struct bale_inode *i, const char *name, const void *val,
		   size_t len, int flags, bool kill_sgid);
int bale_xattr_list(struct bale_inode *i, char *buf, size_t cap,
		    size_t *ret_len);
int bale_xattr_remove(struct bale_inode *i, const char *name);

/* ---- file data (file.c and friends) ---- */
/*
 * Read up to len bytes at off: fills iov (at most nr_iov entries, pointing
 * into pinned cache buffers or a shared zero page), total in ret->len, short
 * only at end of file: one damaged extent fails it all. bale_file_read_done()
 * unpins. Takes the lock itself.
 */
struct bale_read {
	struct iovec iov[72]; /* 1 MiB in 16 KiB extents + ends is the most */
	unsigned int nr_iov;
	size_t len;
	void *pins[72];
	unsigned int nr_pins;
};
int bale_file_read(struct bale_inode *i, uint64_t off, size_t len,
		   struct bale_read *ret);
void bale_file_read_done(struct bale_read *r);
/* Write all of src at off (append: at the end, whatever off says). Reserves
 * space first: -ENOSPC before anything is accepted. */
int bale_file_write(struct bale_inode *i, const struct iovec *src,
		    int nr_iov, uint64_t off, bool append, bool kill_priv);
int bale_file_truncate_locked(struct bale_inode *i, uint64_t size);
int bale_file_fallocate(struct bale_inode *i, int mode, uint64_t off,
			uint64_t len);
int bale_file_seek(struct bale_inode *i, uint64_t off, int whence,
		   uint64_t *ret); /* SEEK_DATA, SEEK_HOLE */
int bale_file_copy_range(struct bale_inode *src, uint64_t src_off,
			 struct bale_inode *dst, uint64_t dst_off, size_t len,
			 size_t *ret_len); /* shares whole extents */
/* Promise 1: data, size and name durable. */
int bale_file_fsync(struct bale_inode *i, bool data_only);
/* Writer closed: start writing out what is dirty (no waiting). */
void bale_file_flush_hint(struct bale_inode *i);
/* rename-over/link of an inode with unwritten data: it is written out before
 * the commit that holds the name (promise 2), which must not be made when this
 * fails. Lock held. */
int bale_file_order_before_commit_locked(struct bale_inode *i);
/* Forget unwritten data of an inode without names. Takes the lock. */
void bale_file_drop_dirty(struct bale_inode *i);
/* Free everything of an inode whose last link and reference went. */
int bale_file_delete(struct bale_inode *i);
/* Re-code a file's extents with a policy; counts what changed. */
int bale_file_recompress(struct bale_inode *i, struct bale_codec_policy p,
			 uint64_t *ret_before, uint64_t *ret_after);
void bale_file_data_free(struct bale_inode *i); /* table.c: object goes */

#endif
