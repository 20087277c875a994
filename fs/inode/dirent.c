/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirent.c - the two rows of a name in a directory (by name, and by cookie in
 * readdir order), lookup, and listing.
 *
 * A cookie is given once per directory (row.next_cookie) and stays with the
 * name, so a listing can go on after any cookie, whatever was added or removed
 * meanwhile, also after a remount.
 */
#include <dirent.h>

#include "fs/inode/fs_internal.h"
#include "fs/inode/names_internal.h"

static_assert(DT_DIR == S_IFDIR >> 12 && DT_SOCK == S_IFSOCK >> 12,
	      "bale_mode_type");

int bale_name_init(struct bale_name *n, const char *s)
{
	size_t len = strnlen(s, BALE_NAME_MAX + 1);

	if (!len)
		return -ENOENT;
	if (len > BALE_NAME_MAX)
		return -ENAMETOOLONG;
	if (memchr(s, '/', len))
		return -EINVAL;
	n->s = s;
	n->len = len;
	return 0;
}

bool bale_name_is_dots(const struct bale_name *n)
{
	return n->s[0] == '.' &&
	       (n->len == 1 || (n->len == 2 && n->s[1] == '.'));
}

/* Returns the length of the key. */
static size_t name_key(uint8_t key[BALE_KEY_MAX], uint64_t dir,
		       const struct bale_name *n)
{
	be64 d = be64_put(dir);

	memcpy(key, &d, sizeof(d));
	memcpy(key + sizeof(d), n->s, n->len);
	return sizeof(d) + n->len;
}

static void cookie_key(uint8_t key[16], uint64_t dir, uint64_t cookie)
{
	be64 d = be64_put(dir), c = be64_put(cookie);

	memcpy(key, &d, sizeof(d));
	memcpy(key + sizeof(d), &c, sizeof(c));
}

int bale_dirent_get(struct bale_inode *dir, const struct bale_name *n,
		    struct bale_entry *ret)
{
	uint8_t key[BALE_KEY_MAX];
	struct bale_disk_dirent d;
	size_t len;
	int r = bale_meta_get(bale_fs_meta(dir->fs), BALE_TABLE_dirent, key,
			      name_key(key, dir->ino, n), &d, sizeof(d), &len);

	if (r)
		return r == -ENOSPC ? -EUCLEAN : r;
	if (len != sizeof(d))
		return -EUCLEAN;
	ret->ino = le64_get(d.ino);
	ret->cookie = le64_get(d.cookie);
	ret->type = d.type;
	/* Forged: locks go from a directory to what it names. */
	return ret->ino == dir->ino || ret->ino == BALE_ROOT_INO ? -EUCLEAN : 0;
}

void bale_dirent_stage(struct bale_txn *t, uint64_t dir,
		       const struct bale_name *n, const struct bale_entry *e)
{
	uint8_t key[BALE_KEY_MAX];
	uint8_t val[sizeof(struct bale_disk_cookie) + BALE_NAME_MAX];
	struct bale_disk_dirent d = { .ino = le64_put(e->ino),
				      .cookie = le64_put(e->cookie),
				      .type = e->type };
	struct bale_disk_cookie c = { .ino = d.ino, .type = e->type };

	bale_txn_put(t, BALE_TABLE_dirent, key, name_key(key, dir, n), &d,
		     sizeof(d));
	cookie_key(key, dir, e->cookie);
	memcpy(val, &c, sizeof(c));
	memcpy(val + sizeof(c), n->s, n->len);
	bale_txn_put(t, BALE_TABLE_cookie, key, 16, val, sizeof(c) + n->len);
}

void bale_dirent_stage_del(struct bale_txn *t, uint64_t dir,
			   const struct bale_name *n, uint64_t cookie)
{
	uint8_t key[BALE_KEY_MAX];

	bale_txn_del(t, BALE_TABLE_dirent, key, name_key(key, dir, n));
	cookie_key(key, dir, cookie);
	bale_txn_del(t, BALE_TABLE_cookie, key, 16);
}

/* "." and "..": of a directory that was removed ".." is gone too. */
static int lookup_dots(struct bale_inode *dir, const struct bale_name *n,
		       struct bale_inode **ret)
{
	uint64_t up;

	if (n->len == 1) {
		bale_inode_ref(dir);
		*ret = dir;
		return 0;
	}
	bale_rwlock_rdlock(&dir->lock);
	up = dir->ino == BALE_ROOT_INO ? dir->ino : dir->row.parent;
	if (bale_inode_is_deleted(dir))
		up = 0;
	bale_rwlock_unlock(&dir->lock);
	return up ? bale_inode_get(dir->fs, up, ret) : -ENOENT;
}

int bale_dir_lookup(struct bale_inode *dir, const char *name,
		    struct bale_inode **ret)
{
	struct bale_entry e;
	struct bale_name n;
	int r = bale_name_init(&n, name);

	if (r)
		return r;
	if (!S_ISDIR(dir->type))
		return -ENOTDIR;
	if (bale_name_is_dots(&n))
		return lookup_dots(dir, &n, ret);
	bale_rwlock_rdlock(&dir->lock);
	r = bale_dirent_get(dir, &n, &e);
	if (!r) {
		r = bale_inode_get(dir->fs, e.ino, ret);
		/* A name without its inode is damage, not absence. */
		if (r == -ENOENT)
			r = -EUCLEAN;
	}
	bale_rwlock_unlock(&dir->lock);
	return r;
}

/* ---- listing ---- */

/*
 * Names are copied out under the directory's lock in portions, and handed to
 * the caller without it, who may then look at inodes or take his time.
 */
enum { PORTION_FIRST = 32, PORTION_NEXT = 256 };

struct portion {
	struct bale_buf names; /* NUL-terminated, back to back */
	struct bale_dir_entry e[PORTION_NEXT]; /* name: set before the call */
	unsigned int nr, want;
	int error;
};

static int collect(const void *key, size_t key_len, const void *val,
		   size_t val_len, void *arg)
{
	struct portion *p = arg;
	struct bale_disk_cookie c;
	struct bale_dir_entry *e = &p->e[p->nr];
	be64 cookie;
	size_t len = val_len - sizeof(c);

	if (key_len != 16 || val_len <= sizeof(c) || len > BALE_NAME_MAX)
		return p->error = -EUCLEAN;
	memcpy(&cookie, (const uint8_t *)key + 8, sizeof(cookie));
	memcpy(&c, val, sizeof(c));
	p->error = bale_buf_append(&p->names, (const uint8_t *)val + sizeof(c),
				   len);
	if (!p->error)
		p->error = bale_buf_append(&p->names, "", 1);
	if (p->error)
		return p->error;
	e->name_len = len;
	e->ino = le64_get(c.ino);
	e->cookie = be64_get(cookie);
	e->type = c.type;
	return ++p->nr == p->want;
}

static int read_portion(struct bale_inode *dir, uint64_t after,
			struct portion *p)
{
	uint8_t key[16];
	const char *name;
	int r;

	p->nr = 0;
	p->names.len = 0;
	if (after == UINT64_MAX)
		return 0;
	cookie_key(key, dir->ino, after + 1);
	bale_rwlock_rdlock(&dir->lock);
	r = bale_meta_scan(bale_fs_meta(dir->fs), BALE_TABLE_cookie, key,
			   sizeof(key), 8, collect, p);
	bale_rwlock_unlock(&dir->lock);
	if (r < 0)
		return r;
	name = (const char *)p->names.data;
	for (unsigned int k = 0; k < p->nr; k++) {
		p->e[k].name = name;
		name += p->e[k].name_len + 1;
	}
	return 0;
}

static int emit_dots(struct bale_inode *dir, uint64_t cookie, bale_dir_fn *fn,
		     void *arg)
{
	struct bale_dir_entry e = { .name = ".", .name_len = 1,
				    .ino = dir->ino, .type = DT_DIR,
				    .cookie = BALE_COOKIE_DOT };

	if (cookie < BALE_COOKIE_DOT && fn(&e, arg))
		return 1;
	e.name = "..";
	e.name_len = 2;
	e.cookie = BALE_COOKIE_DOTDOT;
	if (dir->ino != BALE_ROOT_INO) {
		bale_rwlock_rdlock(&dir->lock);
		e.ino = dir->row.parent;
		bale_rwlock_unlock(&dir->lock);
	}
	return cookie < BALE_COOKIE_DOTDOT && fn(&e, arg);
}

static int emit_names(struct bale_inode *dir, uint64_t cookie,
		      struct portion *p, bale_dir_fn *fn, void *arg)
{
	int r;

	p->want = PORTION_FIRST;
	for (;;) {
		r = read_portion(dir, cookie, p);
		if (r)
			return r;
		for (unsigned int k = 0; k < p->nr; k++) {
			if (fn(&p->e[k], arg))
				return 0;
		}
		if (p->nr < p->want)
			return 0;
		cookie = p->e[p->nr - 1].cookie;
		p->want = PORTION_NEXT;
	}
}

int bale_dir_read(struct bale_inode *dir, uint64_t cookie, bale_dir_fn *fn,
		  void *arg)
{
	struct portion *p;
	int r;

	if (!S_ISDIR(dir->type))
		return -ENOTDIR;
	if (cookie == 0)
		bale_inode_accessed(dir);
	if (cookie < BALE_COOKIE_DOTDOT && emit_dots(dir, cookie, fn, arg))
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	if (cookie < BALE_COOKIE_DOTDOT)
		cookie = BALE_COOKIE_DOTDOT;
	r = emit_names(dir, cookie, p, fn, arg);
	bale_buf_fini(&p->names);
	free(p);
	return r;
}
