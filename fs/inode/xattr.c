/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xattr.c - extended attributes: one row each, as many as one likes. ACLs pass
 * through acl.c and change the mode. The compression policy of a file or
 * directory shows itself as an attribute too, which lives in the inode row:
 *
 *   user.balefs.codec            what was set here: "zstd:7", "raw", "auto"
 *   user.balefs.codec.effective  what applies (read-only, never listed)
 *
 * Both are also known without "user.".
 */
#include <linux/limits.h>
#include <sys/xattr.h>

#include "fs/base/clock.h"
#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

#define USER_PREFIX "user."
#define POLICY_NAME "balefs.codec"
#define EFFECTIVE_NAME "balefs.codec.effective"

enum kind { KIND_PLAIN, KIND_ACL, KIND_POLICY, KIND_EFFECTIVE };
enum { POLICY_TEXT = 32, NAME_KEY = 8 };

static bool has_prefix(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static int classify(const char *name, enum kind *ret)
{
	static const char *const plain[] = { USER_PREFIX, "trusted.",
					     "security." };
	size_t len = strnlen(name, BALE_XATTR_NAME_MAX + 1);
	const char *own = has_prefix(name, USER_PREFIX) ?
				  name + strlen(USER_PREFIX) :
				  name;

	if (!len)
		return -EINVAL;
	if (len > BALE_XATTR_NAME_MAX)
		return -ERANGE;
	*ret = KIND_POLICY;
	if (!strcmp(own, POLICY_NAME))
		return 0;
	*ret = KIND_EFFECTIVE;
	if (!strcmp(own, EFFECTIVE_NAME))
		return 0;
	*ret = KIND_ACL;
	if (!strcmp(name, BALE_ACL_ACCESS) || !strcmp(name, BALE_ACL_DEFAULT))
		return 0;
	*ret = KIND_PLAIN;
	for (size_t k = 0; k < sizeof(plain) / sizeof(plain[0]); k++) {
		if (has_prefix(name, plain[k]))
			return name[strlen(plain[k])] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

static size_t make_key(uint8_t key[BALE_KEY_MAX], uint64_t ino,
		       const char *name)
{
	size_t len = strlen(name);
	be64 k = be64_put(ino);

	memcpy(key, &k, sizeof(k));
	memcpy(key + sizeof(k), name, len);
	return sizeof(k) + len;
}

/* ---- rows ---- */

void bale_xattr_stage(struct bale_txn *t, uint64_t ino, const char *name,
		      const void *val, size_t len)
{
	uint8_t key[BALE_KEY_MAX];
	size_t key_len = make_key(key, ino, name);

	if (val)
		bale_txn_put(t, BALE_TABLE_xattr, key, key_len, val, len);
	else
		bale_txn_del(t, BALE_TABLE_xattr, key, key_len);
}

/* -ENOSPC and *ret_len when cap is too small. */
static int read_row(struct bale_inode *i, const char *name, void *buf,
		    size_t cap, size_t *ret_len)
{
	uint8_t key[BALE_KEY_MAX];
	int r;

	if (!(i->row.flags & BALE_INODE_HAS_XATTR))
		return -ENODATA;
	r = bale_meta_get(bale_fs_meta(i->fs), BALE_TABLE_xattr, key,
			  make_key(key, i->ino, name), buf, cap, ret_len);
	return r == -ENOENT ? -ENODATA : r;
}

int bale_xattr_load(struct bale_inode *i, const char *name, void **ret,
		    size_t *ret_len)
{
	size_t cap = 256;
	void *buf;
	int r;

	for (;;) {
		buf = malloc(cap);
		if (!buf)
			return -ENOMEM;
		r = read_row(i, name, buf, cap, ret_len);
		if (!r) {
			*ret = buf;
			return 0;
		}
		free(buf);
		if (r != -ENOSPC || *ret_len <= cap)
			return r == -ENOSPC ? -EUCLEAN : r;
		cap = *ret_len;
	}
}

struct names {
	struct bale_buf buf; /* NUL-terminated, back to back */
	size_t nr;
};

static int collect_name(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg)
{
	struct names *n = arg;
	int r;

	(void)val;
	(void)val_len;
	if (key_len <= NAME_KEY)
		return -EUCLEAN;
	n->nr++;
	r = bale_buf_append(&n->buf, (const char *)key + NAME_KEY,
			    key_len - NAME_KEY);
	return r ? r : bale_buf_append(&n->buf, "", 1);
}

static int collect_names(struct bale_inode *i, struct names *n)
{
	be64 key = be64_put(i->ino);

	if (!(i->row.flags & BALE_INODE_HAS_XATTR))
		return 0;
	return bale_meta_scan(bale_fs_meta(i->fs), BALE_TABLE_xattr, &key,
			      sizeof(key), sizeof(key), collect_name, n);
}

/*
 * The last ones stay in t; more than fit go first, in transactions of their
 * own: until t is committed the orphan row is there, and whoever finds it
 * after a crash goes on.
 */
int bale_xattr_stage_delete_all(struct bale_inode *i, struct bale_txn *t)
{
	enum { ROOM = BALE_TXN_MAX / 2 };
	struct names n = { 0 };
	struct bale_txn own;
	int r = collect_names(i, &n);
	const char *p = (const char *)n.buf.data;

	for (; !r && n.nr; n.nr--, p += strlen(p) + 1) {
		if (bale_txn_bytes(t) < ROOM) {
			bale_xattr_stage(t, i->ino, p, NULL, 0);
			continue;
		}
		bale_txn_begin(bale_fs_meta(i->fs), &own);
		while (n.nr > 1 && bale_txn_bytes(&own) < ROOM) {
			bale_xattr_stage(&own, i->ino, p, NULL, 0);
			p += strlen(p) + 1;
			n.nr--;
		}
		bale_xattr_stage(&own, i->ino, p, NULL, 0);
		r = bale_txn_commit(&own, NULL);
	}
	bale_buf_fini(&n.buf);
	return r;
}

/* ---- reading ---- */

static int give(const void *val, size_t len, void *buf, size_t cap,
		size_t *ret_len)
{
	if (cap && cap < len)
		return -ERANGE;
	if (cap)
		memcpy(buf, val, len);
	*ret_len = len;
	return 0;
}

static int get_policy(struct bale_inode *i, enum kind kind, void *buf,
		      size_t cap, size_t *ret_len)
{
	struct bale_codec_policy p = { .codec = i->row.codec,
				       .level = i->row.level,
				       .filter = i->row.filter };
	char text[POLICY_TEXT];

	if (kind == KIND_EFFECTIVE)
		p = bale_inode_policy(i);
	else if (!(i->row.flags & BALE_INODE_HAS_POLICY))
		return -ENODATA;
	bale_codec_policy_text(p, text, sizeof(text));
	return give(text, strlen(text), buf, cap, ret_len);
}

static int get_locked(struct bale_inode *i, const char *name, enum kind kind,
		      void *buf, size_t cap, size_t *ret_len)
{
	size_t len;
	int r;

	if (kind == KIND_POLICY || kind == KIND_EFFECTIVE)
		return get_policy(i, kind, buf, cap, ret_len);
	r = read_row(i, name, buf, cap, &len);
	if (r == -ENOSPC)
		r = cap ? -ERANGE : 0;
	if (!r)
		*ret_len = len;
	return r;
}

int bale_xattr_get(struct bale_inode *i, const char *name, void *buf,
		   size_t cap, size_t *ret_len)
{
	enum kind kind;
	int r = classify(name, &kind);

	if (r)
		return r;
	bale_rwlock_rdlock(&i->lock);
	r = get_locked(i, name, kind, buf, cap, ret_len);
	bale_rwlock_unlock(&i->lock);
	return r;
}

int bale_xattr_list(struct bale_inode *i, char *buf, size_t cap,
		    size_t *ret_len)
{
	static const char policy[] = USER_PREFIX POLICY_NAME;
	struct names n = { 0 };
	int r;

	bale_rwlock_rdlock(&i->lock);
	r = collect_names(i, &n);
	if (!r && i->row.flags & BALE_INODE_HAS_POLICY)
		r = bale_buf_append(&n.buf, policy, sizeof(policy));
	bale_rwlock_unlock(&i->lock);
	if (!r && n.buf.len)
		r = give(n.buf.data, n.buf.len, buf, cap, ret_len);
	else if (!r)
		*ret_len = 0;
	bale_buf_fini(&n.buf);
	return r;
}

/* ---- changing ---- */

/* XATTR_CREATE and XATTR_REPLACE. */
static int check_exists(struct bale_inode *i, const char *name,
			enum kind kind, int flags)
{
	size_t len;
	int r;

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (!flags)
		return 0;
	r = get_locked(i, name, kind, NULL, 0, &len);
	if (r == -ENODATA)
		return flags & XATTR_REPLACE ? -ENODATA : 0;
	if (r)
		return r;
	return flags & XATTR_CREATE ? -EEXIST : 0;
}

/* The ACL goes into t, what it means for the mode into row. */
static int stage_access_acl(struct bale_inode *i, const struct bale_acl *a,
			    const void *val, size_t len, bool kill_sgid,
			    struct bale_inode_row *row, struct bale_txn *t)
{
	bool exact = true;

	if (a)
		row->mode = (row->mode & ~(uint32_t)0777) |
			    bale_acl_mode(a, &exact);
	if (a && kill_sgid)
		row->mode &= ~(uint32_t)S_ISGID;
	bale_xattr_stage(t, i->ino, BALE_ACL_ACCESS, exact ? NULL : val,
			 exact ? 0 : len);
	if (!exact)
		row->flags |= BALE_INODE_HAS_XATTR | BALE_INODE_HAS_ACL;
	return 0;
}

static int stage_acl(struct bale_inode *i, const char *name, const void *val,
		     size_t len, bool kill_sgid, struct bale_inode_row *row,
		     struct bale_txn *t)
{
	struct bale_acl *a = NULL;
	int r;

	if (S_ISLNK(row->mode))
		return -EOPNOTSUPP;
	r = len ? bale_acl_decode(val, len, &a) : 0;
	if (r)
		return r;
	if (!strcmp(name, BALE_ACL_ACCESS)) {
		r = stage_access_acl(i, a, val, len, kill_sgid, row, t);
	} else if (!S_ISDIR(row->mode)) {
		r = a ? -EACCES : 0;
	} else {
		bale_xattr_stage(t, i->ino, name, a ? val : NULL,
				 a ? len : 0);
		if (a)
			row->flags |= BALE_INODE_HAS_XATTR |
				      BALE_INODE_HAS_ACL;
	}
	free(a);
	return r;
}

static int set_policy(const void *val, size_t len, struct bale_inode_row *row)
{
	struct bale_codec_policy p;
	char text[POLICY_TEXT];
	int r;

	if (!S_ISDIR(row->mode) && !S_ISREG(row->mode))
		return -EPERM;
	if (len >= sizeof(text) || memchr(val, '\0', len))
		return -EINVAL;
	memcpy(text, val, len);
	text[len] = '\0';
	r = bale_codec_policy_parse(text, &p);
	if (r)
		return r;
	row->codec = p.codec;
	row->level = p.level;
	row->filter = p.filter;
	row->flags |= BALE_INODE_HAS_POLICY;
	return 0;
}

/* Everything that decides; row and t get what it means. */
static int stage_set(struct bale_inode *i, const char *name, enum kind kind,
		     const void *val, size_t len, bool kill_sgid,
		     struct bale_inode_row *row, struct bale_txn *t)
{
	switch (kind) {
	case KIND_EFFECTIVE:
		return -EPERM;
	case KIND_POLICY:
		return set_policy(val, len, row);
	case KIND_ACL:
		return stage_acl(i, name, val, len, kill_sgid, row, t);
	case KIND_PLAIN:
		bale_xattr_stage(t, i->ino, name, val ? val : "", len);
		row->flags |= BALE_INODE_HAS_XATTR;
		return 0;
	}
	return -EINVAL;
}

/* Commit t with the row, or drop it when r says so. Lock held. */
static int finish(struct bale_inode *i, struct bale_inode_row *row,
		  struct bale_txn *t, int r)
{
	if (r) {
		bale_txn_abort(t);
		return r;
	}
	row->ctime = bale_wall();
	bale_row_stage(i, row, t);
	r = bale_txn_commit(t, NULL);
	if (!r)
		bale_row_assign(i, row);
	return r;
}

int bale_xattr_set(struct bale_inode *i, const char *name, const void *val,
		   size_t len, int flags, bool kill_sgid)
{
	struct bale_inode_row row;
	struct bale_txn t;
	enum kind kind;
	int r = bale_names_writable(i->fs);

	if (!r)
		r = classify(name, &kind);
	if (!r && len > BALE_XATTR_SIZE_MAX)
		r = -E2BIG;
	if (!r)
		r = bale_space_check_meta(bale_fs_store(i->fs));
	if (r)
		return r;
	bale_rwlock_wrlock(&i->lock);
	row = i->row;
	bale_txn_begin(bale_fs_meta(i->fs), &t);
	r = row.flags & BALE_INODE_STUCK ? -EPERM : 0;
	if (!r)
		r = check_exists(i, name, kind, flags);
	if (!r)
		r = stage_set(i, name, kind, val, len, kill_sgid, &row, &t);
	i->no_caps = false;
	r = finish(i, &row, &t, r);
	bale_rwlock_unlock(&i->lock);
	return r;
}

static int stage_remove(struct bale_inode *i, const char *name,
			enum kind kind, struct bale_inode_row *row,
			struct bale_txn *t)
{
	if (kind == KIND_EFFECTIVE)
		return -EPERM;
	if (kind != KIND_POLICY) {
		bale_xattr_stage(t, i->ino, name, NULL, 0);
		return 0;
	}
	row->flags &= ~(uint32_t)BALE_INODE_HAS_POLICY;
	row->codec = 0;
	row->level = 0;
	row->filter = 0;
	return 0;
}

int bale_xattr_remove(struct bale_inode *i, const char *name)
{
	struct bale_inode_row row;
	struct bale_txn t;
	enum kind kind;
	int r = bale_names_writable(i->fs);

	if (!r)
		r = classify(name, &kind);
	if (r)
		return r;
	bale_rwlock_wrlock(&i->lock);
	row = i->row;
	bale_txn_begin(bale_fs_meta(i->fs), &t);
	r = row.flags & BALE_INODE_STUCK ? -EPERM : 0;
	if (!r && kind != KIND_EFFECTIVE)
		r = check_exists(i, name, kind, XATTR_REPLACE);
	if (!r)
		r = stage_remove(i, name, kind, &row, &t);
	r = finish(i, &row, &t, r);
	bale_rwlock_unlock(&i->lock);
	return r;
}
