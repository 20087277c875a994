/* SPDX-License-Identifier: Apache-2.0 */
/*
 * create.c - new inodes: files and nodes, directories, symlinks, tmpfiles. One
 * transaction holds the name, the inode, what it inherits (group, ACLs, codec
 * policy, flags) and the directory's row.
 */
#include "fs/base/clock.h"
#include "fs/inode/fs_internal.h"
#include "fs/inode/file.h"
#include "fs/inode/names_internal.h"

#define FLAGS_INHERITED                                                    \
	((uint32_t)(BALE_INODE_COMPRESS | BALE_INODE_NOCOMP |              \
		    BALE_INODE_NODUMP | BALE_INODE_NOATIME |               \
		    BALE_INODE_SYNC | BALE_INODE_HAS_POLICY))

struct request {
	uint32_t mode; /* with type, umask not yet applied */
	uint64_t rdev;
	const struct bale_cred *cred;
	const char *target; /* of a symlink */
	bool tmpfile;	    /* no name, nlink 0 */
};

/* An inode on its way into the store. */
struct birth {
	struct bale_inode *inode;
	struct bale_inode_row row;
	struct bale_acl *access; /* NULL: the mode says all */
	void *acl_default;	 /* of a directory, as stored; may be NULL */
	size_t acl_default_len;
};

static void birth_fini(struct birth *b)
{
	free(b->access);
	free(b->acl_default);
	bale_table_free(b->inode);
}

/* A default ACL takes the place of the umask. */
static int inherit_acl(struct bale_inode *dir, const struct request *q,
		       struct birth *b)
{
	bale_autofree void *val = NULL;
	struct bale_acl *a = NULL;
	bool exact = true;
	size_t len = 0;
	int r = -ENODATA;

	if (S_ISLNK(q->mode))
		return 0;
	if (dir->row.flags & BALE_INODE_HAS_ACL)
		r = bale_xattr_load(dir, BALE_ACL_DEFAULT, &val, &len);
	if (!r) {
		r = bale_acl_decode(val, len, &a);
		if (r)
			return -EUCLEAN;
	}
	if (r && r != -ENODATA)
		return r;
	if (!a) {
		b->row.mode &= ~(q->cred->umask & 0777);
		return 0;
	}
	bale_acl_create(a, &b->row.mode, &exact);
	if (exact)
		free(a);
	else
		b->access = a;
	if (S_ISDIR(q->mode)) {
		b->acl_default_len = len;
		b->acl_default = bale_steal(&val);
	}
	if (b->access || b->acl_default)
		b->row.flags |= BALE_INODE_HAS_XATTR | BALE_INODE_HAS_ACL;
	return 0;
}

static int make_row(struct bale_inode *dir, const struct request *q,
		    struct birth *b)
{
	const struct bale_inode_row *d = &dir->row;
	struct bale_inode_row *row = &b->row;
	uint32_t keep = FLAGS_INHERITED;

	row->mode = q->mode;
	row->nlink = S_ISDIR(q->mode) ? 2 : q->tmpfile ? 0 : 1;
	row->uid = q->cred->uid;
	row->gid = q->cred->gid;
	row->rdev = q->rdev;
	row->atime = row->mtime = row->ctime = row->btime = bale_wall();
	row->generation = 1;
	row->parent = dir->ino;
	if (!S_ISREG(q->mode) && !S_ISDIR(q->mode))
		keep = BALE_INODE_NODUMP | BALE_INODE_NOATIME;
	row->flags = d->flags & keep;
	if (row->flags & BALE_INODE_HAS_POLICY) {
		row->codec = d->codec;
		row->level = d->level;
		row->filter = d->filter;
	}
	if (d->mode & S_ISGID) {
		row->gid = d->gid;
		if (S_ISDIR(q->mode))
			row->mode |= S_ISGID;
	}
	if (S_ISDIR(q->mode))
		row->next_cookie = BALE_COOKIE_FIRST;
	if (q->target) {
		row->size = row->stored = strlen(q->target);
		row->flags |= BALE_INODE_HAS_INLINE;
	}
	return inherit_acl(dir, q, b);
}

static void stage_target(struct bale_txn *t, uint64_t ino, const char *target)
{
	struct bale_disk_inline h = { .raw_len =
					      le32_put((uint32_t)strlen(target)) };
	uint8_t val[sizeof(h) + BALE_SYMLINK_MAX];
	be64 key = be64_put(ino);

	memcpy(val, &h, sizeof(h));
	memcpy(val + sizeof(h), target, strlen(target));
	bale_txn_put(t, BALE_TABLE_inline, &key, sizeof(key), val,
		     sizeof(h) + strlen(target));
}

static int stage_acls(struct bale_txn *t, const struct birth *b)
{
	uint64_t ino = b->inode->ino;
	void *val;

	if (b->acl_default)
		bale_xattr_stage(t, ino, BALE_ACL_DEFAULT, b->acl_default,
				 b->acl_default_len);
	if (!b->access)
		return 0;
	val = malloc(bale_acl_encoded_len(b->access));
	if (!val)
		return -ENOMEM;
	bale_acl_encode(b->access, val);
	bale_xattr_stage(t, ino, BALE_ACL_ACCESS, val,
			 bale_acl_encoded_len(b->access));
	free(val);
	return 0;
}

static void stage_name(struct bale_inode *dir, const struct bale_name *n,
		       const struct birth *b, struct bale_inode_row *up,
		       struct bale_txn *t)
{
	struct bale_entry e = { .ino = b->inode->ino,
				.cookie = up->next_cookie,
				.type = bale_mode_type(b->row.mode) };

	if (e.cookie < BALE_COOKIE_FIRST)
		e.cookie = BALE_COOKIE_FIRST;
	up->next_cookie = e.cookie + 1;
	up->nr_entries++;
	if (S_ISDIR(b->row.mode))
		up->nlink++;
	up->mtime = up->ctime = b->row.ctime;
	bale_dirent_stage(t, dir->ino, n, &e);
	bale_row_stage(dir, up, t);
}

/* The directory's lock is held. */
static int commit_birth(struct bale_inode *dir, const struct bale_name *n,
			const struct request *q, struct birth *b)
{
	struct bale_inode_row up = dir->row;
	struct bale_txn t;
	int r;

	bale_txn_begin(bale_fs_meta(dir->fs), &t);
	bale_row_stage(b->inode, &b->row, &t);
	if (q->target)
		stage_target(&t, b->inode->ino, q->target);
	r = stage_acls(&t, b);
	if (r) {
		bale_txn_abort(&t);
		return r;
	}
	if (q->tmpfile)
		bale_orphan_stage(&t, b->inode->ino, BALE_ORPHAN_DELETED);
	else
		stage_name(dir, n, b, &up, &t);
	r = bale_txn_commit(&t, NULL);
	if (r)
		return r;
	if (!q->tmpfile)
		bale_row_assign(dir, &up);
	b->inode->row = b->row;
	bale_table_insert(b->inode);
	return 0;
}

static int check_dir(struct bale_inode *dir, const struct bale_name *n,
		     const struct request *q)
{
	struct bale_entry e;
	int r;

	if (!q->tmpfile) {
		r = bale_dirent_get(dir, n, &e);
		if (r != -ENOENT)
			return r ? r : -EEXIST;
	}
	if (bale_inode_is_deleted(dir))
		return -ENOENT;
	if (dir->row.flags & BALE_INODE_IMMUTABLE)
		return -EPERM;
	if (S_ISDIR(q->mode) && dir->row.nlink >= BALE_NLINK_MAX)
		return -EMLINK;
	return bale_space_check_meta(bale_fs_store(dir->fs));
}

static int create_locked(struct bale_inode *dir, const struct bale_name *n,
			 const struct request *q, struct bale_inode **ret)
{
	struct birth b = { 0 };
	uint64_t ino;
	int r = check_dir(dir, n, q);

	if (r)
		return r;
	r = make_row(dir, q, &b);
	if (!r)
		r = bale_meta_new_ino(bale_fs_meta(dir->fs), &ino);
	if (!r)
		r = bale_table_alloc(dir->fs, ino, &b.row, &b.inode);
	if (!r)
		r = commit_birth(dir, n, q, &b);
	if (!r)
		*ret = bale_steal(&b.inode);
	birth_fini(&b);
	return r;
}

static int create(struct bale_inode *dir, const char *name,
		  const struct request *q, struct bale_inode **ret)
{
	struct bale_name n = { 0 };
	int r = S_ISDIR(dir->type) ? 0 : -ENOTDIR;

	if (!r && !q->tmpfile)
		r = bale_name_init(&n, name);
	if (!r && !q->tmpfile && bale_name_is_dots(&n))
		r = -EEXIST;
	if (!r)
		r = bale_names_writable(dir->fs);
	if (r)
		return r;
	/* What is dirty has more room reserved than it will take. */
	for (unsigned int try = 0;; try++) {
		bale_rwlock_wrlock(&dir->lock);
		r = create_locked(dir, &n, q, ret);
		bale_rwlock_unlock(&dir->lock);
		if (r != -ENOSPC || !bale_file_make_space(dir->fs, try))
			return r;
	}
}

int bale_dir_create(struct bale_inode *dir, const char *name, uint32_t mode,
		    uint64_t rdev, const struct bale_cred *c,
		    struct bale_inode **ret)
{
	struct request q = { .mode = mode, .cred = c };

	if (!(mode & S_IFMT))
		q.mode |= S_IFREG;
	if (S_ISCHR(mode) || S_ISBLK(mode))
		q.rdev = rdev;
	else if (!S_ISREG(q.mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EINVAL;
	return create(dir, name, &q, ret);
}

int bale_dir_mkdir(struct bale_inode *dir, const char *name, uint32_t mode,
		   const struct bale_cred *c, struct bale_inode **ret)
{
	struct request q = { .mode = S_IFDIR | (mode & 07777), .cred = c };

	return create(dir, name, &q, ret);
}

int bale_dir_symlink(struct bale_inode *dir, const char *name,
		     const char *target, const struct bale_cred *c,
		     struct bale_inode **ret)
{
	struct request q = { .mode = S_IFLNK | 0777, .cred = c,
			     .target = target };
	size_t len = strnlen(target, BALE_SYMLINK_MAX + 1);

	if (!len)
		return -ENOENT;
	if (len > BALE_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return create(dir, name, &q, ret);
}

int bale_dir_tmpfile(struct bale_inode *dir, uint32_t mode,
		     const struct bale_cred *c, struct bale_inode **ret)
{
	struct request q = { .mode = S_IFREG | (mode & 07777), .cred = c,
			     .tmpfile = true };

	return create(dir, NULL, &q, ret);
}

int bale_inode_readlink(struct bale_inode *i, char *buf, size_t cap)
{
	uint8_t val[sizeof(struct bale_disk_inline) + BALE_SYMLINK_MAX];
	be64 key = be64_put(i->ino);
	struct bale_disk_inline h;
	size_t len;
	int r;

	if (!S_ISLNK(i->type))
		return -EINVAL;
	bale_inode_accessed(i);
	r = bale_meta_get(bale_fs_meta(i->fs), BALE_TABLE_inline, &key,
			  sizeof(key), val, sizeof(val), &len);
	if (r)
		return r == -ENOENT || r == -ENOSPC ? -EUCLEAN : r;
	if (len <= sizeof(h))
		return -EUCLEAN;
	memcpy(&h, val, sizeof(h));
	len -= sizeof(h);
	if (le32_get(h.raw_len) != len || memchr(val + sizeof(h), 0, len))
		return -EUCLEAN;
	if (len >= cap)
		return -ENAMETOOLONG;
	memcpy(buf, val + sizeof(h), len);
	buf[len] = '\0';
	return 0;
}
