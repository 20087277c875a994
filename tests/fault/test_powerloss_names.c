/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power loss and names: directories, links, renames, attributes at random,
 * recorded; then stores as a power cut could have left them. The tree of each
 * is, whole, the one behind one operation: not before the last fsync or sync,
 * not after what was begun. Links of one file stay one file.
 *
 *   test_powerloss_names [SEED [STATES|every [OPS]]]   deterministic for a seed
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "powerloss.h"

enum { MAX_OPS = 600, MAX_NODES = 64, DEPTH = 3, XATTR_MAX = 3000 };

struct node {
	char path[16]; /* "a/b/c" */
	uint32_t mode;
	unsigned int id;    /* names of one file have one */
	unsigned int xattr; /* 0: none */
	unsigned int nlink; /* directories: not compared */
};
struct tree {
	struct node n[MAX_NODES];
	unsigned int nr;
};
struct moment {
	struct tree t;
	size_t events;
	unsigned int synced; /* moment that is durable at least */
};

static struct moment *moments;
static unsigned int nr_moments;

/* ---- the tree as it should be ---- */

static struct node *find(struct tree *t, const char *path)
{
	for (unsigned int k = 0; k < t->nr; k++)
		if (!strcmp(t->n[k].path, path))
			return &t->n[k];
	return NULL;
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strncmp(path, dir, len) && path[len] == '/';
}

static void remove_node(struct tree *t, struct node *n)
{
	unsigned int id = n->id;

	*n = t->n[--t->nr];
	for (unsigned int k = 0; k < t->nr; k++)
		if (t->n[k].id == id)
			t->n[k].nlink--;
}

static bool is_empty(struct tree *t, const char *dir)
{
	for (unsigned int k = 0; k < t->nr; k++)
		if (is_below(t->n[k].path, dir))
			return false;
	return true;
}

/* ---- the work ---- */

struct bench {
	struct bale_fs *fs;
	struct bale_inode *root;
	struct tree now;
	unsigned int next_id, synced;
};

static struct bale_inode *walk(struct bench *b, const char *path,
			       const char **ret_name)
{
	struct bale_inode *dir, *next;

	bale_pl_must(bale_inode_get(b->fs, BALE_ROOT_INO, &dir), "root");
	for (;;) {
		const char *slash = strchr(path, '/');
		char part[16];

		if (!slash && ret_name) {
			*ret_name = path;
			return dir;
		}
		snprintf(part, sizeof(part), "%.*s",
			 (int)(slash ? slash - path : 15), path);
		bale_pl_must(bale_dir_lookup(dir, part, &next), path);
		bale_inode_put(dir);
		dir = next;
		if (!slash)
			return dir;
		path = slash + 1;
	}
}

/* A path that could be: in the root or an existing directory. */
static void draw_path(struct bench *b, char path[16])
{
	const struct node *dir = NULL;
	char letter = (char)('a' + bale_pl_draw(6));

	if (b->now.nr && bale_pl_draw(3)) {
		dir = &b->now.n[bale_pl_draw(b->now.nr)];
		if (!S_ISDIR(dir->mode) || strlen(dir->path) >= 2 * DEPTH - 1)
			dir = NULL;
	}
	if (dir)
		snprintf(path, 16, "%.12s/%c", dir->path, letter);
	else
		snprintf(path, 16, "%c", letter);
}

static struct node *add_node(struct bench *b, const char *path, uint32_t mode)
{
	struct node *n = &b->now.n[b->now.nr++];

	if (b->now.nr == MAX_NODES)
		exit(1);
	*n = (struct node){ .mode = mode, .id = ++b->next_id, .nlink = 1 };
	snprintf(n->path, sizeof(n->path), "%s", path);
	return n;
}

static void op_make(struct bench *b, const char *path, unsigned int op)
{
	struct bale_cred cred = { 0 };
	struct bale_inode *dir, *i;
	const char *name;
	uint32_t mode;

	if (find(&b->now, path) || b->now.nr > MAX_NODES - 4)
		return;
	dir = walk(b, path, &name);
	switch (bale_pl_draw(5)) {
	case 0:
	case 1:
		mode = S_IFDIR | 0700;
		bale_pl_must(bale_dir_mkdir(dir, name, mode, &cred, &i),
			     "mkdir");
		break;
	case 2:
		mode = S_IFLNK | 0777;
		bale_pl_must(
			bale_dir_symlink(dir, name, "some/where", &cred, &i),
			"symlink");
		break;
	default:
		mode = S_IFREG | 0600 | (op & 077);
		bale_pl_must(bale_dir_create(dir, name, mode, 0, &cred, &i),
			     "create");
		break;
	}
	bale_inode_put(i);
	bale_inode_put(dir);
	add_node(b, path, mode);
}

static void op_remove(struct bench *b, const char *path)
{
	struct node *n = find(&b->now, path);
	struct bale_inode *dir;
	const char *name;

	if (!n || (S_ISDIR(n->mode) && !is_empty(&b->now, path)))
		return;
	dir = walk(b, path, &name);
	bale_pl_must(S_ISDIR(n->mode) ? bale_dir_rmdir(dir, name) :
					bale_dir_unlink(dir, name),
		     "remove");
	bale_inode_put(dir);
	remove_node(&b->now, n);
}

static void op_link(struct bench *b, const char *from, const char *to)
{
	struct node *n = find(&b->now, from), *new;
	struct bale_inode *dir, *i;
	const char *name;

	if (!n || S_ISDIR(n->mode) || find(&b->now, to) ||
	    b->now.nr > MAX_NODES - 4)
		return;
	i = walk(b, from, NULL);
	dir = walk(b, to, &name);
	bale_pl_must(bale_dir_link(i, dir, name), "link");
	bale_inode_put(dir);
	bale_inode_put(i);
	new = add_node(b, to, n->mode);
	n = find(&b->now, from);
	new->id = n->id;
	new->xattr = n->xattr;
	new->nlink = n->nlink;
	for (unsigned int k = 0; k < b->now.nr; k++)
		if (b->now.n[k].id == n->id)
			b->now.n[k].nlink++;
}

/* Paths below a directory move along. */
static void move_paths(struct tree *t, const char *from, const char *to,
		       const char *mark)
{
	size_t len = strlen(from);

	for (unsigned int k = 0; k < t->nr; k++) {
		char rest[16];

		if (strcmp(t->n[k].path, from) && !is_below(t->n[k].path, from))
			continue;
		snprintf(rest, sizeof(rest), "%s", t->n[k].path + len);
		snprintf(t->n[k].path, sizeof(t->n[k].path), "%s%.6s%.7s", mark,
			 to, rest);
	}
}

static unsigned int height(struct tree *t, const char *dir)
{
	size_t most = strlen(dir);

	for (unsigned int k = 0; k < t->nr; k++)
		if (is_below(t->n[k].path, dir) && strlen(t->n[k].path) > most)
			most = strlen(t->n[k].path);
	return (unsigned int)(most - strlen(dir));
}

static void op_rename(struct bench *b, const char *from, const char *to)
{
	struct node *n = find(&b->now, from), *old = find(&b->now, to);
	struct bale_inode *d1, *d2;
	const char *a, *c;
	bool swap = old && bale_pl_draw(3) == 0;

	if (!n || !strcmp(from, to) || is_below(to, from) ||
	    is_below(from, to) || (old && old->id == n->id) ||
	    strlen(to) + height(&b->now, from) > 2 * DEPTH ||
	    (swap && strlen(from) + height(&b->now, to) > 2 * DEPTH))
		return;
	if (old && !swap &&
	    (S_ISDIR(old->mode) != S_ISDIR(n->mode) || !is_empty(&b->now, to)))
		return;
	d1 = walk(b, from, &a);
	d2 = walk(b, to, &c);
	bale_pl_must(bale_dir_rename(d1, a, d2, c, swap ? RENAME_EXCHANGE : 0),
		     "rename");
	bale_inode_put(d1);
	bale_inode_put(d2);
	if (swap)
		move_paths(&b->now, to, from, "%");
	else if (old)
		remove_node(&b->now, old);
	move_paths(&b->now, from, to, "");
	for (unsigned int k = 0; swap && k < b->now.nr; k++)
		if (b->now.n[k].path[0] == '%')
			memmove(b->now.n[k].path, b->now.n[k].path + 1, 15);
}

/* A value of a length that the operation's number gives: rows of any size. */
static size_t xattr_value(unsigned int op, le32 val[XATTR_MAX / 4])
{
	size_t nr = op % 3 ? 1 : 1 + op * 37 % (XATTR_MAX / 4);

	for (size_t k = 0; k < nr; k++)
		val[k] = le32_put(op);
	return nr * sizeof(le32);
}

static void op_attribute(struct bench *b, const char *path, unsigned int op)
{
	struct node *n = find(&b->now, path);
	struct bale_inode *i;
	le32 val[XATTR_MAX / 4];
	size_t len = xattr_value(op, val);

	if (!n || S_ISLNK(n->mode))
		return;
	i = walk(b, path, NULL);
	bale_pl_must(bale_xattr_set(i, "user.op", val, len, 0, false), "xattr");
	bale_inode_put(i);
	for (unsigned int k = 0; k < b->now.nr; k++)
		if (b->now.n[k].id == n->id)
			b->now.n[k].xattr = op;
}

static void op_sync(struct bench *b, const char *path, unsigned int op)
{
	struct node *n = find(&b->now, path);
	struct bale_inode *i;

	if (n && S_ISREG(n->mode)) {
		i = walk(b, path, NULL);
		bale_pl_must(bale_file_fsync(i, false), "fsync");
		bale_inode_put(i);
	} else {
		bale_pl_must(bale_fs_sync(b->fs), "sync");
	}
	b->synced = op;
}

static void one_op(struct bench *b, unsigned int op, const char *store)
{
	char path[16], other[16];
	uint64_t what = bale_pl_draw(100);

	draw_path(b, path);
	draw_path(b, other);
	if (bale_pl_draw(10) == 0)
		bale_pl_ballast(b->root);
	if (what < 35)
		op_make(b, path, op);
	else if (what < 45)
		op_remove(b, path);
	else if (what < 55)
		op_link(b, path, other);
	else if (what < 80)
		op_rename(b, path, other);
	else if (what < 88)
		op_attribute(b, path, op);
	else if (what < 97)
		op_sync(b, path, op);
	else if (what < 98)
		bale_pl_must(bale_meta_apply(bale_fs_meta(b->fs)), "apply");
	else
		bale_pl_must(bale_meta_checkpoint(bale_fs_meta(b->fs)),
			     "checkpoint");
	if (what >= 97)
		bale_pl_must(bale_rec_snapshot_index(store), "snapshot");
	moments[op].t = b->now;
	moments[op].events = bale_rec_count();
	moments[op].synced = b->synced;
	nr_moments = op + 1;
}

static size_t run_workload(const char *store, unsigned int ops)
{
	struct bench b = { 0 };

	if (ops > MAX_OPS)
		ops = MAX_OPS;
	bale_pl_mkfs(store);
	bale_pl_must(bale_pl_open(store, &bale_rec_ops, 0, &b.fs, &b.root),
		     "open");
	bale_pl_must(bale_fs_sync(b.fs), "sync");
	moments[0].events = bale_rec_count();
	for (unsigned int op = 1; op <= ops; op++)
		one_op(&b, op, store);
	bale_pl_must(bale_pl_close(b.fs, b.root), "close");
	return moments[0].events;
}

/* ---- a state ---- */

struct seen {
	struct tree t;
	uint64_t ino[MAX_NODES];
	char prefix[16];
	bool error;
};

static int see_entry(const struct bale_dir_entry *e, void *arg)
{
	struct seen *s = arg;

	if (e->name[0] == '.')
		return 0;
	if (s->t.nr == MAX_NODES || e->name_len > 1) {
		s->error = true;
		return 1;
	}
	s->ino[s->t.nr] = e->ino;
	snprintf(s->t.n[s->t.nr++].path, 16, "%.12s%c", s->prefix, e->name[0]);
	return 0;
}

static unsigned int see_xattr(struct seen *s, struct bale_inode *i)
{
	le32 val[XATTR_MAX / 4 + 1], want[XATTR_MAX / 4];
	unsigned int op;
	size_t len;
	int r = bale_xattr_get(i, "user.op", val, sizeof(val), &len);

	if (r) {
		s->error |= r != -ENODATA;
		return 0;
	}
	op = len >= sizeof(le32) ? le32_get(val[0]) : 0;
	if (op > MAX_OPS || len != xattr_value(op, want) ||
	    memcmp(val, want, len))
		s->error = true;
	return op;
}

static void see_dir(struct seen *s, struct bale_inode *dir, const char *prefix)
{
	unsigned int first = s->t.nr, end;

	snprintf(s->prefix, sizeof(s->prefix), "%s", prefix);
	s->error |= bale_dir_read(dir, 0, see_entry, s) != 0;
	end = s->t.nr;
	for (unsigned int k = first; k < end; k++) {
		struct node *n = &s->t.n[k];
		struct bale_inode_row row;
		struct bale_inode *i;
		char below[17];

		if (bale_dir_lookup(dir, n->path + strlen(n->path) - 1, &i)) {
			s->error = true;
			continue;
		}
		bale_inode_attr(i, &row);
		n->mode = row.mode;
		n->nlink = row.nlink;
		s->error |= i->ino != s->ino[k];
		n->xattr = see_xattr(s, i);
		snprintf(below, sizeof(below), "%s/", n->path);
		if (S_ISDIR(row.mode) && strlen(below) < 14)
			see_dir(s, i, below);
		bale_inode_put(i);
	}
}

static bool is_moment(const struct seen *s, struct tree *t)
{
	if (s->t.nr != t->nr)
		return false;
	for (unsigned int k = 0; k < s->t.nr; k++) {
		const struct node *a = &s->t.n[k], *b = find(t, a->path);

		if (!b || a->mode != b->mode || a->xattr != b->xattr ||
		    (!S_ISDIR(a->mode) && a->nlink != b->nlink))
			return false;
		for (unsigned int n = 0; n < k; n++) {
			const struct node *c = find(t, s->t.n[n].path);

			if ((s->ino[n] == s->ino[k]) != (c->id == b->id))
				return false;
		}
	}
	return true;
}

static void check_state(const char *dir, size_t k)
{
	struct seen s = { .error = false };
	unsigned int low = 0, high = 0;
	struct bale_inode *root;
	struct bale_fs *fs;
	int r;

	bale_pl_check_index(dir);
	r = bale_pl_open(dir, NULL, 0, &fs, &root);
	while (high + 1 < nr_moments && moments[high].events <= k)
		low = moments[high++].synced;
	if (r) {
		bale_pl_fail("%s", strerror(-r));
		return;
	}
	see_dir(&s, root, "");
	r = bale_pl_close(fs, root);
	for (unsigned int m = high + 1; m-- > low;)
		if (!s.error && !r && is_moment(&s, &moments[m].t))
			return;
	bale_pl_fail("%u names: not a moment of %u to %u%s", s.t.nr, low, high,
		     s.error ? ", errors" : "");
}

int main(int argc, char **argv)
{
	static const struct bale_pl_test test = {
		.name = "powerloss_names",
		.ops = 240,
		.states = 300,
		.work = run_workload,
		.check = check_state,
		.with_index = true,
	};

	moments = calloc(MAX_OPS + 1, sizeof(*moments));
	if (!moments)
		return 1;
	return bale_pl_run(&test, argc, argv);
}
