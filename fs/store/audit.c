/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two passes: the trees reachable from the newest meta page (the main tree,
 * whose leaves hold the roots of the named ones, and the free list), then the
 * page numbers in the free list. A page may be named once in all of that.
 *
 * What LMDB relies on, and so what is checked of a page: its own number and
 * flags; lower and upper; that the nodes lie between upper and the end without
 * gap or overlap (deleting one moves the others by the sizes they claim); keys
 * in order and between the keys of the parent (a search would miss them);
 * overflow runs; equal depth of all leaves; counts of pages and entries.
 */
#include "fs/store/audit.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "balefs/le.h"
#include "fs/base/mem.h"

enum {
	PAGE_MIN = 4096,
	PAGE_MAX = 65536,
	HEADER = 16,
	NODE_HEADER = 8,
	KEY_MAX = 511,
	DEPTH_MAX = 32,
	META_LEN = 136,
	VALUE_MAX = 1 << 17, /* well above the longest row */

	FLAG_BRANCH = 0x01,
	FLAG_LEAF = 0x02,
	FLAG_OVERFLOW = 0x04,
	FLAG_META = 0x08,

	NODE_BIG = 0x01,
	NODE_SUBDB = 0x02,

	DB_INTEGERKEY = 0x08,
	ENV_NOSUBDIR = 0x4000, /* kept in the file; harmless */
};

#define META_MAGIC   0xbeefc0deu
#define META_VERSION 1u
#define NO_ROOT	     UINT64_MAX
#define PAGES_MAX    ((uint64_t)1 << 28) /* 1 TiB of 4 KiB pages */

struct page_header {
	le64 pgno;
	le16 pad;
	le16 flags;
	le16 lower; /* overflow: with upper, a le32 number of pages */
	le16 upper;
};
static_assert(sizeof(struct page_header) == HEADER, "page header");

struct node {
	le16 lo, hi; /* leaf: data size; branch: page number, low words */
	le16 flags;  /* branch: page number, high word */
	le16 key_len;
};
static_assert(sizeof(struct node) == NODE_HEADER, "node");

struct tree_info { /* LMDB's MDB_db */
	le32 pad;  /* of the free list: the page size */
	le16 flags;
	le16 depth;
	le64 branch_pages, leaf_pages, overflow_pages;
	le64 entries;
	le64 root;
};
static_assert(sizeof(struct tree_info) == 48, "tree");

struct meta_page {
	le32 magic, version;
	le64 address, map_size;
	struct tree_info free_list, main;
	le64 last_page;
	le64 txn;
};
static_assert(sizeof(struct meta_page) == META_LEN, "meta");

struct slice {
	const uint8_t *p; /* NULL: no bound */
	size_t len;
};

struct audit {
	int fd;
	uint32_t page_size;
	uint64_t nr_pages;   /* last page + 1 */
	uint64_t file_pages; /* whole pages in the file */
	uint8_t *seen;	     /* one bit a page */
	uint8_t *pages;	     /* DEPTH_MAX * 2 pages: two trees are nested */
	uint8_t *value;	     /* of a row on overflow pages */
	bale_audit_row_fn *fn;
	void *arg;
	char *why;
	size_t cap;
};

enum tree_kind { TREE_FREE, TREE_MAIN, TREE_TABLE };

struct walk {
	enum tree_kind kind;
	struct slice name; /* TREE_TABLE */
	unsigned int depth;
	uint8_t *pages; /* one for each level */
	uint64_t branch_pages, leaf_pages, overflow_pages, entries;
	uint64_t rows; /* of the entries, those that are no tables */
};

static int doubt(struct audit *a, const char *fmt, ...) BALE_PRINTF(2, 3);
static int doubt(struct audit *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->why, a->cap, fmt, ap);
	va_end(ap);
	return -EUCLEAN;
}

static int read_at(struct audit *a, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(a->fd, (char *)buf + done, len - done,
				  (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int r = -errno;

			snprintf(a->why, a->cap, "read at %" PRIu64 ": %s",
				 off + done, strerror(-r));
			return r;
		}
		if (!n)
			return doubt(a, "file ends at %" PRIu64, off + done);
		done += (size_t)n;
	}
	return 0;
}

/* Pages no..no+nr-1 are used; each at most once. */
static int claim(struct audit *a, uint64_t no, uint64_t nr, bool in_file)
{
	uint64_t end = in_file && a->file_pages < a->nr_pages ? a->file_pages :
								a->nr_pages;

	if (no < 2 || no >= end || nr > end - no)
		return doubt(a, "page %" PRIu64 "+%" PRIu64 " out of range", no,
			     nr);
	for (uint64_t i = no; i < no + nr; i++) {
		if (a->seen[i / 8] & 1u << i % 8)
			return doubt(a, "page %" PRIu64 " used twice", i);
		a->seen[i / 8] |= (uint8_t)(1u << i % 8);
	}
	return 0;
}

static int compare(enum tree_kind kind, struct slice a, struct slice b)
{
	int c;

	if (kind == TREE_FREE) { /* native integers of 8 bytes, checked */
		le64 x, y;

		memcpy(&x, a.p, sizeof(x));
		memcpy(&y, b.p, sizeof(y));
		return le64_get(x) < le64_get(y) ? -1 :
						   le64_get(x) > le64_get(y);
	}
	c = memcmp(a.p, b.p, a.len < b.len ? a.len : b.len);
	return c ? c : a.len < b.len ? -1 : a.len > b.len;
}

/* ---- one page ---- */

static unsigned int nr_keys(const struct page_header *h)
{
	return (unsigned int)(le16_get(h->lower) - HEADER) / 2;
}

static const struct node *node_at(const uint8_t *page, unsigned int i)
{
	le16 off;

	memcpy(&off, page + HEADER + 2 * (size_t)i, sizeof(off));
	return (const struct node *)(page + le16_get(off));
}

static uint32_t data_len(const struct node *n)
{
	return le16_get(n->lo) | (uint32_t)le16_get(n->hi) << 16;
}

static uint64_t child_page(const struct node *n)
{
	return le16_get(n->lo) | (uint64_t)le16_get(n->hi) << 16 |
	       (uint64_t)le16_get(n->flags) << 32;
}

static struct slice node_key(const struct node *n)
{
	struct slice s = { (const uint8_t *)(n + 1), le16_get(n->key_len) };

	return s;
}

/* Bytes that a node takes; 0 when its header cannot be right. */
static uint32_t node_len(const struct audit *a, const struct node *n, bool leaf)
{
	uint32_t key = le16_get(n->key_len), data = 0;

	if (key > KEY_MAX)
		return 0;
	if (leaf) {
		unsigned int flags = le16_get(n->flags);

		data = data_len(n);
		if (flags == NODE_BIG)
			data = sizeof(le64);
		else if (flags && flags != NODE_SUBDB)
			return 0;
		if (data > a->page_size)
			return 0;
	}
	return (NODE_HEADER + key + data + 1) & ~1u;
}

/* Nodes fill the page from upper to its end, without gap or overlap. */
static int check_nodes(struct audit *a, const uint8_t *page, bool leaf)
{
	const struct page_header *h = (const void *)page;
	uint32_t upper = le16_get(h->upper), total = 0;
	uint8_t taken[PAGE_MAX / 2 / 8] = { 0 };

	for (unsigned int i = 0; i < nr_keys(h); i++) {
		uint32_t off, len;
		le16 ptr;

		memcpy(&ptr, page + HEADER + 2 * (size_t)i, sizeof(ptr));
		off = le16_get(ptr);
		if (off % 2 || off < upper || off > a->page_size - NODE_HEADER)
			return -EUCLEAN;
		len = node_len(a, (const void *)(page + off), leaf);
		if (!len || len > a->page_size - off)
			return -EUCLEAN;
		for (uint32_t s = off / 2; s < (off + len) / 2; s++) {
			if (taken[s / 8] & 1u << s % 8)
				return -EUCLEAN;
			taken[s / 8] |= (uint8_t)(1u << s % 8);
		}
		total += len;
	}
	return total == a->page_size - upper ? 0 : -EUCLEAN;
}

static int check_order(const struct walk *w, const uint8_t *page, bool leaf,
		       struct slice low, struct slice high)
{
	const struct page_header *h = (const void *)page;
	struct slice prev = low;

	/* A branch's first key is never looked at, whatever it holds. */
	for (unsigned int i = !leaf; i < nr_keys(h); i++) {
		struct slice key = node_key(node_at(page, i));
		int c;

		if (!key.len || (w->kind == TREE_FREE && key.len != 8))
			return -EUCLEAN;
		c = prev.p ? compare(w->kind, prev, key) : -1;
		/* The first key of a page may equal the parent's bound. */
		if (c > 0 || (!c && i > (unsigned int)!leaf))
			return -EUCLEAN;
		prev = key;
	}
	return high.p && prev.p && nr_keys(h) > (unsigned int)!leaf &&
			       compare(w->kind, prev, high) >= 0 ?
		       -EUCLEAN :
		       0;
}

static int check_page(struct audit *a, const struct walk *w, uint64_t no,
		      const uint8_t *page, bool leaf, struct slice bounds[2])
{
	const struct page_header *h = (const void *)page;
	uint32_t lower = le16_get(h->lower), upper = le16_get(h->upper);

	if (le64_get(h->pgno) != no || le16_get(h->pad))
		return doubt(a, "page %" PRIu64 " says it is %" PRIu64, no,
			     le64_get(h->pgno));
	if (le16_get(h->flags) != (leaf ? FLAG_LEAF : FLAG_BRANCH))
		return doubt(a, "page %" PRIu64 ": flags %#x", no,
			     le16_get(h->flags));
	if (lower < HEADER || lower % 2 || lower > upper || upper % 2 ||
	    upper > a->page_size)
		return doubt(a, "page %" PRIu64 ": lower %u upper %u", no,
			     lower, upper);
	if (nr_keys(h) < (leaf || w->kind == TREE_FREE ? 1u : 2u))
		return doubt(a, "page %" PRIu64 ": %u keys", no, nr_keys(h));
	if (check_nodes(a, page, leaf))
		return doubt(a, "page %" PRIu64 ": nodes", no);
	if (check_order(w, page, leaf, bounds[0], bounds[1]))
		return doubt(a, "page %" PRIu64 ": order of keys", no);
	return 0;
}

/* ---- trees ---- */

static int walk_tree(struct audit *a, const struct tree_info *t,
		     enum tree_kind kind, struct slice name, uint8_t *pages);

/* The value of a leaf's node, read from its overflow pages when it is there. */
static int node_value(struct audit *a, struct walk *w, const struct node *n,
		      struct slice *ret)
{
	const uint8_t *data = (const uint8_t *)(n + 1) + le16_get(n->key_len);
	uint32_t len = data_len(n), need;
	struct page_header h;
	uint64_t no;
	le64 first;
	int r;

	if (!(le16_get(n->flags) & NODE_BIG)) {
		*ret = (struct slice){ data, len };
		return 0;
	}
	memcpy(&first, data, sizeof(first));
	no = le64_get(first);
	if (no >= a->file_pages || no >= a->nr_pages)
		return doubt(a, "overflow page %" PRIu64 " out of range", no);
	r = read_at(a, &h, sizeof(h), no * a->page_size);
	if (r)
		return r;
	/* A shorter value may have been written over a longer one. */
	need = (HEADER - 1 + len) / a->page_size + 1;
	if (le64_get(h.pgno) != no || le16_get(h.flags) != FLAG_OVERFLOW ||
	    (le16_get(h.lower) | (uint32_t)le16_get(h.upper) << 16) < need)
		return doubt(a, "overflow page %" PRIu64, no);
	need = le16_get(h.lower) | (uint32_t)le16_get(h.upper) << 16;
	r = claim(a, no, need, true);
	w->overflow_pages += need;
	if (r)
		return r;
	if (len > VALUE_MAX && w->kind != TREE_FREE)
		return doubt(a, "overflow page %" PRIu64 ": %u bytes", no, len);
	if (len > VALUE_MAX) {
		uint8_t *value = realloc(a->value, len);

		if (!value)
			return -ENOMEM;
		a->value = value;
	}
	*ret = (struct slice){ a->value, len };
	return read_at(a, a->value, len, no * a->page_size + HEADER);
}

/* A free list record: a count, then page numbers, descending. */
static int check_free(struct audit *a, struct slice val)
{
	uint64_t nr, prev = UINT64_MAX;
	le64 word;

	if (val.len < sizeof(word))
		return doubt(a, "free list record of %zu bytes", val.len);
	memcpy(&word, val.p, sizeof(word));
	nr = le64_get(word);
	if (nr > val.len / sizeof(word) - 1)
		return doubt(a, "free list record of %" PRIu64 " pages", nr);
	for (uint64_t i = 1; i <= nr; i++) {
		uint64_t no;
		int r;

		memcpy(&word, val.p + i * sizeof(word), sizeof(word));
		no = le64_get(word);
		if (no >= prev)
			return doubt(a, "free list record out of order");
		prev = no;
		r = claim(a, no, 1, false);
		if (r)
			return r;
	}
	return 0;
}

static int visit_node(struct audit *a, struct walk *w, const struct node *n)
{
	struct slice key = node_key(n), val = { 0 };
	bool subdb = le16_get(n->flags) == NODE_SUBDB;
	int r;

	w->entries++;
	r = node_value(a, w, n, &val);
	if (r)
		return r;
	/* The unnamed table has rows or tables, not both. */
	if (subdb && (w->kind != TREE_MAIN || w->rows))
		return doubt(a, "a table where a row should be");
	if (!subdb && w->kind == TREE_MAIN && w->entries - 1 != w->rows)
		return doubt(a, "a row where a table should be");
	w->rows += !subdb;
	if (w->kind == TREE_FREE)
		return check_free(a, val);
	if (subdb) {
		struct tree_info t;

		if (val.len != sizeof(t))
			return doubt(a, "table of %zu bytes", val.len);
		memcpy(&t, val.p, sizeof(t));
		return walk_tree(a, &t, TREE_TABLE, key,
				 a->pages + (size_t)DEPTH_MAX * a->page_size);
	}
	if (a->fn && a->fn((const char *)w->name.p, w->name.len, key.p, key.len,
			   val.p, val.len, a->arg))
		return doubt(a, "a row of table %.*s", (int)w->name.len,
			     (const char *)w->name.p);
	return 0;
}

static int walk_page(struct audit *a, struct walk *w, uint64_t no,
		     unsigned int level, struct slice low, struct slice high)
{
	uint8_t *page = w->pages + (size_t)level * a->page_size;
	const struct page_header *h = (const void *)page;
	struct slice bounds[2] = { low, high };
	bool leaf = level + 1 == w->depth;
	int r = claim(a, no, 1, true);

	if (!r)
		r = read_at(a, page, a->page_size, no * a->page_size);
	if (!r)
		r = check_page(a, w, no, page, leaf, bounds);
	if (r)
		return r;
	*(leaf ? &w->leaf_pages : &w->branch_pages) += 1;
	for (unsigned int i = 0; !r && i < nr_keys(h); i++) {
		const struct node *n = node_at(page, i);

		if (leaf) {
			r = visit_node(a, w, n);
			continue;
		}
		r = walk_page(
			a, w, child_page(n), level + 1, i ? node_key(n) : low,
			i + 1 < nr_keys(h) ? node_key(node_at(page, i + 1)) :
					     high);
	}
	return r;
}

static int walk_tree(struct audit *a, const struct tree_info *t,
		     enum tree_kind kind, struct slice name, uint8_t *pages)
{
	struct walk w = { .kind = kind, .name = name, .pages = pages };
	struct slice none = { 0 };
	int r = 0;

	w.depth = le16_get(t->depth);
	if (kind != TREE_FREE && (le16_get(t->flags) || le32_get(t->pad)))
		return doubt(a, "tree flags %#x", le16_get(t->flags));
	if (w.depth > DEPTH_MAX || (le64_get(t->root) == NO_ROOT) != !w.depth)
		return doubt(a, "tree of depth %u, root %" PRIu64, w.depth,
			     le64_get(t->root));
	if (w.depth)
		r = walk_page(a, &w, le64_get(t->root), 0, none, none);
	if (r)
		return r;
	if (w.branch_pages != le64_get(t->branch_pages) ||
	    w.leaf_pages != le64_get(t->leaf_pages) ||
	    w.overflow_pages != le64_get(t->overflow_pages) ||
	    w.entries != le64_get(t->entries))
		return doubt(a,
			     "tree counts: %" PRIu64 " entries, %" PRIu64
			     " in its record",
			     w.entries, le64_get(t->entries));
	return 0;
}

/* ---- the file ---- */

static int read_meta(struct audit *a, unsigned int no, struct meta_page *ret)
{
	struct {
		struct page_header h;
		struct meta_page m;
	} p;
	uint32_t size;
	int r = read_at(a, &p, sizeof(p), (uint64_t)no * a->page_size);

	if (r)
		return r;
	size = le32_get(p.m.free_list.pad);
	if (le32_get(p.m.magic) != META_MAGIC ||
	    le32_get(p.m.version) != META_VERSION || le64_get(p.h.pgno) != no ||
	    le16_get(p.h.flags) != FLAG_META)
		return doubt(a, "meta page %u", no);
	if (size < PAGE_MIN || size > PAGE_MAX || (size & (size - 1)) ||
	    (a->page_size && size != a->page_size) ||
	    (le16_get(p.m.free_list.flags) & ~ENV_NOSUBDIR) != DB_INTEGERKEY)
		return doubt(a, "meta page %u: page size %u, flags %#x", no,
			     size, le16_get(p.m.free_list.flags));
	a->page_size = size;
	*ret = p.m;
	return 0;
}

static int audit_file(struct audit *a)
{
	struct slice none = { 0 };
	struct meta_page m[2];
	const struct meta_page *newest;
	struct stat st;
	int r;

	if (fstat(a->fd, &st))
		return -errno;
	r = read_meta(a, 0, &m[0]);
	if (!r)
		r = read_meta(a, 1, &m[1]);
	if (r)
		return r;
	/* The same choice as LMDB's. */
	newest = le64_get(m[1].txn) > le64_get(m[0].txn) ? &m[1] : &m[0];
	a->file_pages = (uint64_t)st.st_size / a->page_size;
	a->nr_pages = le64_get(newest->last_page) + 1;
	if (a->nr_pages < 2 || a->nr_pages > PAGES_MAX)
		return doubt(a, "last page %" PRIu64,
			     le64_get(newest->last_page));
	a->seen = calloc(1, a->nr_pages / 8 + 1);
	a->pages = malloc((size_t)2 * DEPTH_MAX * a->page_size);
	a->value = malloc(VALUE_MAX);
	if (!a->seen || !a->pages || !a->value)
		return -ENOMEM;
	r = walk_tree(a, &newest->main, TREE_MAIN, none, a->pages);
	if (!r)
		r = walk_tree(a, &newest->free_list, TREE_FREE, none, a->pages);
	return r;
}

int bale_index_audit_rows(int fd, bale_audit_row_fn *fn, void *arg, char *why,
			  size_t cap)
{
	struct audit a = {
		.fd = fd, .fn = fn, .arg = arg, .why = why, .cap = cap
	};
	int r;

	snprintf(why, cap, "%s", "");
	r = audit_file(&a);
	if (r && !*why)
		snprintf(why, cap, "%s", strerror(-r));
	free(a.seen);
	free(a.pages);
	free(a.value);
	return r;
}

int bale_index_audit(int fd, char *why, size_t cap)
{
	return bale_index_audit_rows(fd, NULL, NULL, why, cap);
}
