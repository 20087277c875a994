/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_names.c - directory entries by name and by cookie: each names an inode
 * that exists, both agree, and the names of every inode are counted.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

enum { COOKIE_FIRST = 3 }; /* 1 and 2 are . and .. in a listing */

struct names {
	struct bale_fsck *f;
	/* the directory that the scan is in */
	uint64_t dir;
	uint64_t max_cookie;
	bool any;
	bool all_seen; /* max_cookie is above all of the directory's */
};

struct name {
	uint64_t dir;
	const char *s;
	size_t len;
	uint64_t ino, cookie;
	uint8_t type;
};

static int dirent_parse(const void *key, size_t key_len, const void *val,
			size_t val_len, struct name *ret)
{
	struct bale_disk_dirent d;
	be64 k;

	if (bale_row_check(BALE_TABLE_dirent, key, key_len, val, val_len))
		return -EUCLEAN;
	memcpy(&k, key, sizeof(k));
	memcpy(&d, val, sizeof(d));
	ret->dir = be64_get(k);
	ret->s = (const char *)key + sizeof(k);
	ret->len = key_len - sizeof(k);
	ret->ino = le64_get(d.ino);
	ret->cookie = le64_get(d.cookie);
	ret->type = d.type;
	return 0;
}

static void cookie_key(uint8_t key[16], uint64_t dir, uint64_t cookie)
{
	be64 k[2] = { be64_put(dir), be64_put(cookie) };

	memcpy(key, k, 16);
}

/* The next cookie of a directory must be above all it has given out. */
static int finish_dir(struct names *n)
{
	struct bale_fsck *f = n->f;
	struct bale_inode_row row;
	struct bale_txn *t;
	int r;

	if (!n->any || !bale_fsck_inode(f, n->dir))
		return 0;
	r = bale_fsck_get_inode(f, n->dir, &row);
	if (r || row.next_cookie > n->max_cookie)
		return r == -ENOENT ? 0 : r;
	if (!bale_fsck_problem(f, BALE_FSCK_inode,
			       "directory %" PRIu64 ": next cookie %" PRIu64
			       ", already given out up to %" PRIu64,
			       n->dir, row.next_cookie, n->max_cookie))
		return 0;
	t = bale_fsck_txn(f);
	if (!t)
		return -ENOMEM;
	row.next_cookie = n->max_cookie + 1;
	bale_fsck_put_inode(t, n->dir, &row);
	return 0;
}

static int enter_dir(struct names *n, uint64_t dir)
{
	int r;

	if (n->any && n->dir == dir)
		return 0;
	r = finish_dir(n);
	n->any = true;
	n->dir = dir;
	n->max_cookie = COOKIE_FIRST - 1;
	n->all_seen = false;
	return r;
}

/* 0: the cookie row is this name's; -ENOENT: there is none; -EEXIST: another's.
 */
static int cookie_of(struct bale_fsck *f, const struct name *e)
{
	uint8_t key[16];
	uint8_t val[sizeof(struct bale_disk_cookie) + BALE_NAME_MAX];
	struct bale_disk_cookie c;
	size_t len;
	int r;

	cookie_key(key, e->dir, e->cookie);
	r = bale_meta_get(f->m, BALE_TABLE_cookie, key, sizeof(key), val,
			  sizeof(val), &len);
	if (r)
		return r;
	if (len != sizeof(c) + e->len || memcmp(val + sizeof(c), e->s, e->len))
		return -EEXIST;
	memcpy(&c, val, sizeof(c));
	return le64_get(c.ino) == e->ino && c.type == e->type ? 0 : -ESTALE;
}

/* Take the name out, with its cookie row when that one is its own. */
static int remove_name(struct bale_fsck *f, const struct name *e)
{
	struct bale_txn *t = bale_fsck_txn(f);
	uint8_t key[BALE_KEY_MAX];
	be64 k = be64_put(e->dir);
	int r = cookie_of(f, e);

	if (!t)
		return -ENOMEM;
	memcpy(key, &k, 8);
	memcpy(key + 8, e->s, e->len);
	bale_txn_del(t, BALE_TABLE_dirent, key, 8 + e->len);
	if (!r || r == -ESTALE) {
		cookie_key(key, e->dir, e->cookie);
		bale_txn_del(t, BALE_TABLE_cookie, key, 16);
	}
	return 0;
}

/* Why the name cannot stay, or NULL. */
static const char *name_trouble(struct bale_fsck *f, const struct name *e,
				const struct bale_fsck_inode *d,
				const struct bale_fsck_inode *i)
{
	(void)f;
	if (!d)
		return "in a directory that does not exist";
	if (d->type != DT_DIR)
		return "in an inode that is no directory";
	if (!i)
		return "of an inode that does not exist";
	if (e->ino == BALE_ROOT_INO)
		return "of the root directory";
	if (i->type == DT_DIR && i->parent)
		return "is a directory's second name";
	return NULL;
}

static int max_of(const void *key, size_t key_len, const void *val,
		  size_t val_len, void *arg)
{
	struct bale_disk_dirent d;
	uint64_t *max = arg;

	(void)key;
	(void)key_len;
	if (val_len == sizeof(d)) {
		memcpy(&d, val, sizeof(d));
		if (le64_get(d.cookie) > *max)
			*max = le64_get(d.cookie);
	}
	return 0;
}

/* A cookie that no name of the directory has, also none that comes later. */
static int new_cookie(struct names *n, uint64_t dir, uint64_t *ret)
{
	struct bale_inode_row row;
	be64 k = be64_put(dir);
	int r = 0;

	if (!n->all_seen) {
		r = bale_fsck_get_inode(n->f, dir, &row);
		if (!r)
			r = bale_meta_scan(n->f->m, BALE_TABLE_dirent, &k,
					   sizeof(k), sizeof(k), max_of,
					   &n->max_cookie);
		if (!r && row.next_cookie > n->max_cookie)
			n->max_cookie = row.next_cookie - 1;
		n->all_seen = !r;
	}
	*ret = ++n->max_cookie; /* finish_dir() sets the row */
	return r;
}

static int mend_cookie(struct names *n, struct name *e, int why)
{
	struct bale_fsck *f = n->f;
	struct bale_txn *t;
	int r;

	if (!bale_fsck_problem(f, BALE_FSCK_cookie,
			       "name %.*s in directory %" PRIu64
			       ": its place in the listing %s",
			       (int)e->len, e->s, e->dir,
			       why == -ENOENT ? "is missing" :
			       why == -EEXIST ? "is another name's" :
						"tells another inode"))
		return 0;
	r = why == -EEXIST ? new_cookie(n, e->dir, &e->cookie) : 0;
	if (r)
		return r;
	t = bale_fsck_txn(f);
	if (!t)
		return -ENOMEM;
	bale_fsck_put_name(t, e->dir, e->s, e->len, e->ino, e->type, e->cookie);
	return 0;
}

/* True: it is another now, and has to be written. */
static bool check_type(struct bale_fsck *f, struct name *e, uint8_t type)
{
	if (e->type == type ||
	    !bale_fsck_problem(f, BALE_FSCK_name_type,
			       "name %.*s in directory %" PRIu64
			       ": type %u, its inode's is %u",
			       (int)e->len, e->s, e->dir, e->type, type))
		return false;
	e->type = type;
	return true;
}

static int count_name(struct names *n, struct name *e,
		      struct bale_fsck_inode *d, struct bale_fsck_inode *i)
{
	struct bale_txn *t;
	int r;

	d->entries++;
	i->links++;
	if (i->type == DT_DIR) {
		d->subdirs++;
		i->parent = e->dir;
	}
	if (e->cookie > n->max_cookie)
		n->max_cookie = e->cookie;
	r = e->cookie < COOKIE_FIRST ? -EEXIST : cookie_of(n->f, e);
	if (r && r != -ENOENT && r != -EEXIST && r != -ESTALE)
		return r;
	if (check_type(n->f, e, i->type) && r != -EEXIST) {
		t = bale_fsck_txn(n->f); /* both rows */
		if (!t)
			return -ENOMEM;
		bale_fsck_put_name(t, e->dir, e->s, e->len, e->ino, e->type,
				   e->cookie);
		return 0;
	}
	return r ? mend_cookie(n, e, r) : 0;
}

static int check_dirent(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg)
{
	struct names *n = arg;
	struct bale_fsck *f = n->f;
	struct bale_fsck_inode *d, *i;
	const char *trouble;
	struct name e;
	int r = bale_fsck_step(f);

	if (r)
		return r;
	if (dirent_parse(key, key_len, val, val_len, &e)) {
		bale_fsck_problem(f, BALE_FSCK_row,
				  "dirent row of %zu bytes: damaged", val_len);
		return 0;
	}
	r = enter_dir(n, e.dir);
	if (r)
		return r;
	d = bale_fsck_inode(f, e.dir);
	i = bale_fsck_inode(f, e.ino);
	trouble = name_trouble(f, &e, d, i);
	if (!trouble)
		return count_name(n, &e, d, i);
	if (!bale_fsck_problem(f, BALE_FSCK_dirent,
			       "name %.*s in directory %" PRIu64
			       ": %s (%" PRIu64 ")",
			       (int)e.len, e.s, e.dir, trouble, e.ino))
		return 0;
	return remove_name(f, &e);
}

static int check_cookie(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg)
{
	struct bale_fsck *f = arg;
	uint8_t name_key[BALE_KEY_MAX];
	struct bale_disk_dirent d;
	size_t name_len = val_len - sizeof(struct bale_disk_cookie), got;
	struct bale_txn *t;
	be64 k[2];
	int r = bale_fsck_step(f);

	if (r)
		return r;
	if (bale_row_check(BALE_TABLE_cookie, key, key_len, val, val_len)) {
		bale_fsck_problem(f, BALE_FSCK_row,
				  "cookie row of %zu bytes: damaged", val_len);
		return 0;
	}
	memcpy(k, key, sizeof(k));
	memcpy(name_key, &k[0], 8);
	memcpy(name_key + 8, (const uint8_t *)val + val_len - name_len,
	       name_len);
	r = bale_meta_get(f->m, BALE_TABLE_dirent, name_key, 8 + name_len, &d,
			  sizeof(d), &got);
	if (r && r != -ENOENT)
		return r;
	if (!r && le64_get(d.cookie) == be64_get(k[1]))
		return 0; /* the pass over the names compared the rest */
	if (!bale_fsck_problem(f, BALE_FSCK_cookie,
			       "listing of directory %" PRIu64
			       " has %.*s, which is no name there",
			       be64_get(k[0]), (int)name_len,
			       (const char *)name_key + 8))
		return 0;
	t = bale_fsck_txn(f);
	if (!t)
		return -ENOMEM;
	bale_txn_del(t, BALE_TABLE_cookie, key, key_len);
	return 0;
}

int bale_fsck_names(struct bale_fsck *f)
{
	struct names n = { .f = f };
	struct bale_meta_stats s;
	int r;

	bale_meta_stats(f->m, &s);
	bale_fsck_phase(f, "names", s.rows[BALE_TABLE_dirent]);
	r = bale_fsck_scan(f, BALE_TABLE_dirent, check_dirent, &n);
	if (!r)
		r = finish_dir(&n);
	if (!r)
		r = bale_fsck_commit(f);
	if (r)
		return r;
	bale_fsck_phase(f, "listings", s.rows[BALE_TABLE_cookie]);
	r = bale_fsck_scan(f, BALE_TABLE_cookie, check_cookie, f);
	return r ? r : bale_fsck_commit(f);
}
