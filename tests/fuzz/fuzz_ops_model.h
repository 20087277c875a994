/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ops_model.h - what fuzz_ops believes about a filesystem, in memory.
 *
 * Names and attributes are a small tree; it is copied after every change, and
 * the copies since the last commit are the moments that a crash may show.
 * Content is a list of versions since the file was last durable, each a size
 * and shared chunks: after a crash a byte must be one that some version had
 * there. A version can be marked as the oldest one possible once the tree is
 * at least of a given moment: a rename writes content out first.
 * One thread. Failures end the process.
 */
#ifndef BALE_TESTS_FUZZ_OPS_MODEL_H
#define BALE_TESTS_FUZZ_OPS_MODEL_H

#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

enum {
	EXT = 64 << 10,
	NR_EXT = 70, /* a map row has 64: its border is within reach */
	FILE_CAP = NR_EXT * EXT,
	MAX_OPS = 96,
	NR_NODES = 40, /* inodes of one run, never used again */
	NR_ENTRIES = 64,
	NR_NAMES = 6,
	NR_XATTRS = 2,
	NEVER = 1 << 30,
};

struct chunk {
	unsigned int refs;
	uint8_t b[EXT];
};

struct version {
	uint64_t size;
	struct chunk *c[NR_EXT]; /* NULL: zeros; zeros behind the end, too */
	unsigned int whole_from; /* tree; NEVER: not promised by any */
};

struct node {
	uint64_t ino;
	uint32_t mode, nlink;
	uint32_t xattr[NR_XATTRS]; /* of the value, 0: none */
	uint32_t target;	   /* of a symbolic link */
};

struct entry {
	uint8_t parent, name, child; /* nodes */
};

struct tree {
	unsigned int nr_nodes, nr_entries;
	struct node n[NR_NODES]; /* 0: the root; ino 0: gone */
	struct entry e[NR_ENTRIES];
};

struct file {
	struct version *v;
	unsigned int nr, cap;
};

struct model {
	struct tree now;
	struct tree *past; /* [0]: durable, the last one: now */
	unsigned int nr_past, cap_past;
	struct file f[NR_NODES];
	bool open[NR_NODES], known[NR_NODES]; /* handle; lookup counted */
};
static struct model md;

/* ---- chunks and versions ---- */

static inline void chunk_put(struct chunk *c)
{
	if (c && !--c->refs)
		free(c);
}

static inline void version_free(struct version *v)
{
	for (int k = 0; k < NR_EXT; k++)
		chunk_put(v->c[k]);
}

/* One more version, like the newest (or empty); it may be changed. */
static inline struct version *file_change(struct file *f)
{
	struct version *v;

	if (f->nr == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 4;
		f->v = realloc(f->v, f->cap * sizeof(*f->v));
		FUZZ_ASSERT(f->v);
	}
	v = &f->v[f->nr];
	memset(v, 0, sizeof(*v));
	if (f->nr)
		*v = f->v[f->nr - 1];
	for (int k = 0; k < NR_EXT; k++)
		if (v->c[k])
			v->c[k]->refs++;
	v->whole_from = NEVER;
	f->nr++;
	return v;
}

static inline struct version *file_now(int node)
{
	FUZZ_ASSERT(md.f[node].nr);
	return &md.f[node].v[md.f[node].nr - 1];
}

/* Versions before `first` are no longer possible. */
static inline void file_forget(struct file *f, unsigned int first)
{
	if (!first)
		return;
	for (unsigned int k = 0; k < first; k++)
		version_free(&f->v[k]);
	memmove(f->v, f->v + first, (f->nr - first) * sizeof(*f->v));
	f->nr -= first;
}

static inline void file_durable(int node)
{
	struct file *f = &md.f[node];

	if (!f->nr)
		return;
	file_forget(f, f->nr - 1);
	f->v[0].whole_from = 0;
}

static inline uint8_t *chunk_own(struct version *v, uint64_t k)
{
	struct chunk *old = v->c[k], *c;

	FUZZ_ASSERT(k < NR_EXT);
	if (old && old->refs == 1)
		return old->b;
	c = malloc(sizeof(*c));
	FUZZ_ASSERT(c);
	c->refs = 1;
	if (old)
		memcpy(c->b, old->b, EXT);
	else
		memset(c->b, 0, EXT);
	chunk_put(old);
	v->c[k] = c;
	return c->b;
}

/* src NULL: zeros. The size is the caller's. */
static inline void version_put(struct version *v, uint64_t off,
			       const uint8_t *src, uint64_t len)
{
	while (len) {
		uint64_t k = off / EXT, at = off % EXT;
		uint64_t n = EXT - at < len ? EXT - at : len;

		if (src)
			memcpy(chunk_own(v, k) + at, src, n);
		else if (v->c[k])
			memset(chunk_own(v, k) + at, 0, n);
		src = src ? src + n : NULL;
		off += n;
		len -= n;
	}
}

static inline void version_get(const struct version *v, uint64_t off,
			       uint8_t *dst, uint64_t len)
{
	while (len) {
		uint64_t k = off / EXT, at = off % EXT;
		uint64_t n = EXT - at < len ? EXT - at : len;

		if (v->c[k])
			memcpy(dst, v->c[k]->b + at, n);
		else
			memset(dst, 0, n);
		dst += n;
		off += n;
		len -= n;
	}
}

static inline void version_resize(struct version *v, uint64_t size)
{
	if (size < v->size)
		version_put(v, size, NULL, v->size - size);
	v->size = size;
}

/* ---- the tree ---- */

static inline bool is_dir(int node)
{
	return S_ISDIR(md.now.n[node].mode);
}

static inline bool is_file(int node)
{
	return S_ISREG(md.now.n[node].mode);
}

static inline int tree_find(int parent, int name)
{
	for (unsigned int k = 0; k < md.now.nr_entries; k++)
		if (md.now.e[k].parent == parent && md.now.e[k].name == name)
			return (int)k;
	return -1;
}

static inline int tree_child(int parent, int name)
{
	int e = tree_find(parent, name);

	return e < 0 ? -1 : md.now.e[e].child;
}

static inline bool tree_is_empty(int dir)
{
	for (unsigned int k = 0; k < md.now.nr_entries; k++)
		if (md.now.e[k].parent == dir)
			return false;
	return true;
}

static inline int tree_parent(int node)
{
	for (unsigned int k = 0; k < md.now.nr_entries; k++)
		if (md.now.e[k].child == node)
			return md.now.e[k].parent;
	return -1;
}

/* Whether `node` is `dir` or below it. */
static inline bool tree_is_below(int node, int dir)
{
	while (node >= 0 && node != dir)
		node = node ? tree_parent(node) : -1;
	return node >= 0;
}

static inline void tree_add(int parent, int name, int child)
{
	struct entry *e = &md.now.e[md.now.nr_entries++];

	FUZZ_ASSERT(md.now.nr_entries <= NR_ENTRIES);
	*e = (struct entry){ (uint8_t)parent, (uint8_t)name, (uint8_t)child };
	if (is_dir(child))
		md.now.n[parent].nlink++;
	else
		md.now.n[child].nlink++;
}

/* The child, which may have no name left. */
static inline int tree_remove(int parent, int name)
{
	int k = tree_find(parent, name), child;

	FUZZ_ASSERT(k >= 0);
	child = md.now.e[k].child;
	md.now.e[k] = md.now.e[--md.now.nr_entries];
	if (is_dir(child))
		md.now.n[parent].nlink--;
	else
		md.now.n[child].nlink--;
	return child;
}

static inline int tree_new(uint64_t ino, uint32_t mode)
{
	int node = (int)md.now.nr_nodes++;

	FUZZ_ASSERT(node < NR_NODES);
	md.now.n[node] = (struct node){ .ino = ino, .mode = mode };
	if (S_ISDIR(mode))
		md.now.n[node].nlink = 2;
	if (S_ISREG(mode))
		file_change(&md.f[node]);
	return node;
}

/* ---- moments ---- */

/* The tree changed. */
static inline void moment(void)
{
	if (md.nr_past == md.cap_past) {
		md.cap_past = md.cap_past ? md.cap_past * 2 : 16;
		md.past = realloc(md.past, md.cap_past * sizeof(*md.past));
		FUZZ_ASSERT(md.past);
	}
	md.past[md.nr_past++] = md.now;
}

/* From the newest moment on this content is the oldest there may be. */
static inline void content_ordered(int node)
{
	struct version *v;

	if (!is_file(node))
		return;
	v = file_now(node);
	if (v->whole_from == NEVER)
		v->whole_from = md.nr_past - 1;
}

/* The oldest version that there may be with the tree of a moment. */
static inline unsigned int oldest_version(const struct file *f,
					  unsigned int tree)
{
	for (unsigned int k = f->nr; k-- > 0;)
		if (f->v[k].whole_from <= tree)
			return k;
	return 0;
}

/* All names and attributes are durable. */
static inline void tree_durable(void)
{
	for (int k = 0; k < NR_NODES; k++) {
		struct file *f = &md.f[k];
		unsigned int first = oldest_version(f, md.nr_past - 1);

		if (!f->nr)
			continue;
		file_forget(f, first);
		if (f->v[0].whole_from <= md.nr_past - 1)
			f->v[0].whole_from = 0;
	}
	md.nr_past = 0;
	moment();
}

static inline void all_durable(void)
{
	for (int k = 0; k < NR_NODES; k++)
		file_durable(k);
	tree_durable();
}

static inline void model_reset(void)
{
	for (int k = 0; k < NR_NODES; k++) {
		file_forget(&md.f[k], md.f[k].nr);
		md.open[k] = md.known[k] = false;
	}
	memset(&md.now, 0, sizeof(md.now));
	md.nr_past = 0;
}

#endif
