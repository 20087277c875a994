/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ops_data.h - of fuzz_ops: the input as choices, and the operations on
 * content, each done to the filesystem and to the model. An operation that
 * cannot be done (no file yet) does nothing.
 */
#ifndef BALE_TESTS_FUZZ_OPS_DATA_H
#define BALE_TESTS_FUZZ_OPS_DATA_H

#include <linux/falloc.h>

#include "fs/codec/codec.h"
#include "tests/fuzz/fuzz_ops_fs.h"

/* ---- the input ---- */

static const uint8_t *in_p;
static size_t in_len;

static uint8_t take(void)
{
	if (!in_len)
		return 0;
	in_len--;
	return *in_p++;
}

static int take_below(int n)
{
	return n > 0 ? take() % n : 0;
}

static uint64_t near(uint64_t at)
{
	static const int step[] = { 0, 0, 1, -1, 2, -2, 511, -700 };
	int s = step[take() % 8];

	return s < 0 && at < (uint64_t)-s ? 0 : at + (uint64_t)(int64_t)s;
}

static uint64_t take_offset(uint64_t size)
{
	uint8_t b = take();
	uint64_t at;

	switch (b % 8) {
	case 0:
		at = 0;
		break;
	case 1:
		at = near(size);
		break;
	case 2:
		at = near(BALE_INLINE_MAX);
		break;
	case 3:
		at = (uint64_t)(b / 8) * 97;
		break;
	case 4:
		at = near((uint64_t)EXT * (60 + b / 8 % 8));
		break;
	case 5:
		at = size * (b / 8) / 31;
		break;
	default:
		at = near((uint64_t)EXT * (b / 8 % 6));
		break;
	}
	return at < FILE_CAP ? at : FILE_CAP - 1;
}

/* At least 1, and not beyond the model's end. */
static uint64_t take_length(uint64_t off)
{
	uint8_t b = take();
	uint64_t len;

	switch (b % 8) {
	case 0:
	case 1:
		len = b / 8 + 1;
		break;
	case 2:
		len = near(BALE_INLINE_MAX);
		break;
	case 3:
		len = (uint64_t)(b / 8) * 131;
		break;
	case 4:
		len = near((uint64_t)EXT * (1 + b / 8 % 4));
		break;
	case 5: /* to the next border, or about there */
		len = near(EXT - off % EXT);
		break;
	case 6:
		len = near(4096);
		break;
	default:
		len = near((uint64_t)EXT * (b / 8));
		break;
	}
	if (!len)
		len = 1;
	return len < FILE_CAP - off ? len : FILE_CAP - off;
}

static unsigned int op_no;

/* What is written: constant, text, noise, zeros, or half of each. */
static void make_data(uint64_t len)
{
	uint64_t x = (op_no + 1) * 0x9e3779b97f4a7c15u, noise = 0;
	uint8_t how = take() % 8, text[1024];

	if (how >= 6)
		noise = how == 6 ? len : len / 2;
	for (uint64_t k = 0; k < noise; k += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(space + k, &x, sizeof(x));
	}
	if (how < 3) {
		memset(space, how ? (int)op_no + 1 : 0, len);
		return;
	}
	for (unsigned int k = 0; k < sizeof(text); k++)
		text[k] = (uint8_t)(op_no + 1 + k / 16 * 7);
	for (uint64_t k = noise; k < len; k += sizeof(text))
		memcpy(space + k, text,
		       len - k < sizeof(text) ? len - k : sizeof(text));
}

/* ---- choosing ---- */

static int choose(bool (*fits)(int node))
{
	int all[NR_NODES], nr = 0;

	for (int k = 0; k < (int)md.now.nr_nodes; k++)
		if (md.now.n[k].ino && fits(k))
			all[nr++] = k;
	return nr ? all[take_below(nr)] : -1;
}

/* A file that can be reached: it has a name, or somebody holds it open. */
static bool is_usable(int node)
{
	return is_file(node) && (md.now.n[node].nlink || md.open[node]);
}

/* Mostly one of the last two: what one operation leaves matters to the next. */
static int last[2];

static int choose_file(void)
{
	uint8_t b = take();
	int node = last[b / 4 % 2];

	if (b % 4 && node < (int)md.now.nr_nodes && md.now.n[node].ino &&
	    is_usable(node))
		return node;
	node = choose(is_usable);
	if (node >= 0 && node != last[0]) {
		last[1] = last[0];
		last[0] = node;
	}
	return node;
}

static bool has_name(int node)
{
	return md.now.n[node].nlink > 0;
}

static bool is_named_dir(int node)
{
	return is_dir(node) && (!node || has_name(node));
}

/* The kernel knows an inode by a lookup, or not at all. */
static struct bale_inode *node_get(int node)
{
	uint64_t ino = md.now.n[node].ino;
	struct bale_inode *i, *dir;

	if (node && !md.known[node]) {
		unsigned int k = 0;

		while (md.now.e[k].child != node)
			k++;
		dir = inode_get(md.now.n[md.now.e[k].parent].ino);
		must(bale_dir_lookup(dir, name_text(md.now.e[k].name), &i),
		     "lookup");
		FUZZ_ASSERT(i->ino == ino);
		bale_inode_lookup_ref(i);
		bale_inode_put(i);
		bale_inode_put(dir);
		md.known[node] = true;
	}
	return inode_get(ino);
}

static void node_forget(int node)
{
	if (md.known[node])
		bale_inode_forget(fs, md.now.n[node].ino, 1);
	md.known[node] = false;
	if (!md.now.n[node].nlink && node && !is_dir(node))
		md.now.n[node].ino = 0;
}

static void node_close(int node)
{
	struct bale_inode *i = inode_get(md.now.n[node].ino);

	bale_inode_release(i);
	bale_inode_put(i);
	md.open[node] = false;
	if (!md.now.n[node].nlink)
		node_forget(node);
}

/* A name went away. */
static void node_unnamed(int node)
{
	if (is_dir(node)) {
		md.now.n[node].nlink = 0;
		node_forget(node);
		md.now.n[node].ino = 0;
	} else if (!md.now.n[node].nlink && !md.open[node]) {
		node_forget(node);
	}
}

/* ---- copies in flight ---- */

enum { NR_HELD = 3 };
static struct {
	struct bale_flush_batch *b;
	uint32_t sum; /* of what was taken: it must not change */
} held[NR_HELD];

static uint32_t batch_sum(const struct bale_flush_batch *b)
{
	uint32_t sum = 0;

	for (size_t k = 0; k < b->nr; k++)
		sum = bale_crc32c(sum, b->work[k].data, b->work[k].len);
	return sum;
}

static void land(int k)
{
	struct bale_flush_batch *b = held[k].b;

	if (!b)
		return;
	held[k].b = NULL;
	/* What was staged by an operation meanwhile has let go of its copy. */
	FUZZ_ASSERT(b->parts[0]->staged || batch_sum(b) == held[k].sum);
	for (size_t n = 0; n < b->nr_parts; n++) {
		struct bale_flush_part *p = b->parts[n];
		struct bale_inode *i = p->i;

		bale_rwlock_wrlock(&i->lock);
		while (!p->staged) {
			struct bale_flush_part *first =
				BALE_CONTAINER(i->data->parts.next,
					       struct bale_flush_part, link);
			int r = bale_flush_stage_locked(i, first);

			FUZZ_ASSERT(!r || disk_dead);
		}
		bale_rwlock_unlock(&i->lock);
	}
	bale_flush_batch_free(fs->flush, b);
}

static void land_all(void)
{
	for (int k = 0; k < NR_HELD; k++)
		land(k);
}

static void op_fly(void)
{
	int node = choose_file(), k = take_below(NR_HELD);
	struct bale_flush_batch *b;
	struct bale_inode *i;

	if (node < 0 || threaded || disk_full)
		return;
	land(k);
	i = node_get(node);
	b = bale_flush_batch_new(fs->flush);
	FUZZ_ASSERT(b);
	bale_rwlock_wrlock(&i->lock);
	must(bale_flush_collect_locked(b, i), "collect");
	bale_rwlock_unlock(&i->lock);
	held[k].sum = batch_sum(b);
	if (b->nr) {
		must(bale_flush_write(fs->flush, b), "write of a batch");
		held[k].b = b;
	} else {
		bale_flush_batch_free(fs->flush, b);
	}
	SAY("fly node %d: %zu extents\n", node, b->nr_parts);
	bale_inode_put(i);
}

static void op_land(void)
{
	land(take_below(NR_HELD));
}

/* ---- content ---- */

/* A full disk says so before anything is done. */
static bool refused(int r, const char *what)
{
	if (r == -ENOSPC && disk_full)
		return true;
	must(r, what);
	return false;
}

static void op_write(void)
{
	int node = choose_file();
	struct version *v;
	struct bale_inode *i;
	struct iovec iov;
	uint64_t off, len;
	bool append = !take_below(6);

	if (node < 0)
		return;
	off = take_offset(file_now(node)->size);
	len = take_length(off);
	if (append) {
		off = file_now(node)->size;
		len = len < FILE_CAP - off ? len : FILE_CAP - off;
	}
	if (!len)
		return;
	len = len < 1 << 20 ? len : 1 << 20; /* the kernel's most */
	make_data(len);
	SAY("write node %d [%#llx, +%#llx)\n", node, (unsigned long long)off,
	    (unsigned long long)len);
	i = node_get(node);
	iov = (struct iovec){ space, len };
	if (!refused(bale_file_write(i, &iov, 1, append ? 0 : off, append,
				     false),
		     "write")) {
		v = file_change(&md.f[node]);
		if (off + len > v->size)
			v->size = off + len;
		version_put(v, off, space, len);
	}
	bale_inode_put(i);
}

static void compare(int node, struct bale_inode *i, uint64_t off, uint64_t len)
{
	static uint8_t want[1 << 20];
	struct version *v = file_now(node);
	uint64_t n, expect;

	len = len < sizeof(want) ? len : sizeof(want);
	n = read_at(i, off, len, space);
	expect = off < v->size ? v->size - off : 0;
	FUZZ_ASSERT(n == (len < expect ? len : expect));
	version_get(v, off, want, n);
	if (!memcmp(space, want, n))
		return;
	for (uint64_t k = 0; k < n; k++)
		if (space[k] != want[k]) {
			fprintf(stderr,
				"node %d at %#llx of %#llx: %02x, not %02x\n",
				node, (unsigned long long)(off + k),
				(unsigned long long)v->size, space[k], want[k]);
			break;
		}
	FUZZ_ASSERT(!"content differs");
}

static void compare_whole(int node)
{
	struct bale_inode *i = node_get(node);
	struct version *v = file_now(node);
	struct bale_inode_row row;

	bale_inode_attr(i, &row);
	FUZZ_ASSERT(row.size == v->size);
	for (uint64_t at = 0; at < v->size; at += 1 << 20)
		compare(node, i, at, 1 << 20);
	bale_inode_put(i);
}

static void op_read(void)
{
	int node = choose_file();
	struct bale_inode *i;
	uint64_t off;

	if (node < 0)
		return;
	off = take_offset(file_now(node)->size);
	i = node_get(node);
	compare(node, i, off, take_length(off));
	bale_inode_put(i);
}

static void op_truncate(void)
{
	int node = choose_file();
	struct bale_setattr a = { .valid = BALE_SET_SIZE };
	struct bale_inode *i;

	if (node < 0)
		return;
	a.size = take_offset(file_now(node)->size);
	SAY("truncate node %d to %#llx\n", node, (unsigned long long)a.size);
	i = node_get(node);
	if (!refused(bale_inode_setattr(i, &a), "truncate"))
		version_resize(file_change(&md.f[node]), a.size);
	else
		FUZZ_ASSERT(a.size > file_now(node)->size);
	bale_inode_put(i);
}

static void op_fallocate(void)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE |
					     FALLOC_FL_KEEP_SIZE };
	int node = choose_file(), mode = modes[take_below(5)];
	struct bale_inode *i;
	struct version *v;
	uint64_t off, len;

	if (node < 0 || (disk_full && mode & ~FALLOC_FL_KEEP_SIZE))
		return;
	off = take_offset(file_now(node)->size);
	len = take_length(off);
	SAY("fallocate %d node %d [%#llx, +%#llx)\n", mode, node,
	    (unsigned long long)off, (unsigned long long)len);
	i = node_get(node);
	if (!refused(bale_file_fallocate(i, mode, off, len), "fallocate")) {
		v = file_change(&md.f[node]);
		if (mode & ~FALLOC_FL_KEEP_SIZE)
			version_put(v, off, NULL, len);
		if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > v->size)
			version_resize(v, off + len);
	}
	bale_inode_put(i);
}

static void op_copy(void)
{
	int from = choose_file(), to = choose_file();
	uint64_t off, at, len, expect;
	struct bale_inode *a, *b;
	uint8_t how;
	struct version *v;
	size_t done = 0;
	int r;

	if (from < 0)
		return;
	off = take_offset(file_now(from)->size);
	at = take_offset(file_now(to)->size);
	how = take();
	if (how % 2) { /* so that extents can be shared */
		off = how & 2 ? off - off % EXT : 0;
		at = how & 4 ? at - at % EXT : 0;
	}
	len = take_length(off > at ? off : at);
	if (how & 8 && (off > at ? off : at) + len + EXT <= FILE_CAP)
		len += EXT;
	SAY("copy node %d %#llx to node %d %#llx, %#llx\n", from,
	    (unsigned long long)off, to, (unsigned long long)at,
	    (unsigned long long)len);
	expect = off < file_now(from)->size ? file_now(from)->size - off : 0;
	expect = len < expect ? len : expect;
	if (from == to) /* the kernel ends it at the source's end */
		len = expect;
	a = node_get(from);
	b = node_get(to);
	r = bale_file_copy_range(a, off, b, at, len, &done);
	if (from == to && len && off < at + len && at < off + len) {
		FUZZ_ASSERT(r == -EINVAL);
	} else {
		FUZZ_ASSERT(refused(r, "copy") || done == expect ||
			    (disk_full && done < expect));
		for (uint64_t k = 0; k < done; k += sizeof(space)) {
			uint64_t n = done - k < sizeof(space) ? done - k :
								sizeof(space);

			version_get(file_now(from), off + k, space, n);
			v = file_change(&md.f[to]);
			version_put(v, at + k, space, n);
			if (at + k + n > v->size)
				v->size = at + k + n;
		}
	}
	bale_inode_put(a);
	bale_inode_put(b);
}

/* What is said to be a hole reads as zeros; steps only forward. */
static void op_seek(void)
{
	int node = choose_file();
	uint64_t at, to, size;
	struct bale_inode *i;

	if (node < 0)
		return;
	size = file_now(node)->size;
	at = take_offset(size);
	i = node_get(node);
	for (int k = 0; k < 8; k++) {
		int r = bale_file_seek(i, at, SEEK_DATA, &to);

		FUZZ_ASSERT(at < size ? !r || r == -ENXIO : r == -ENXIO);
		to = r ? size : to;
		FUZZ_ASSERT(at >= size || (to >= at && to <= size));
		for (uint64_t n; at < to; at += n) {
			n = to - at < sizeof(space) ? to - at : sizeof(space);
			version_get(file_now(node), at, space, n);
			FUZZ_ASSERT(!space[0] &&
				    !memcmp(space, space + 1, n - 1));
		}
		if (r)
			break;
		must(bale_file_seek(i, at, SEEK_HOLE, &to), "seek");
		/* Zeros become a hole when they are stored, meanwhile. */
		FUZZ_ASSERT(to >= at + !threaded && to <= size);
		if (to == at || to == size)
			break;
		at = to;
	}
	bale_inode_put(i);
}

static const uint8_t codecs[] = { BALE_CODEC_auto, BALE_CODEC_raw,
				  BALE_CODEC_lz4, BALE_CODEC_zstd,
				  BALE_CODEC_gdeflate };

static void op_recompress(void)
{
	int node = choose_file();
	struct bale_codec_policy p = { .codec = codecs[take_below(5)] };
	struct bale_inode *i;
	uint64_t before, after;

	if (node < 0 || disk_full)
		return;
	SAY("recompress node %d as %d\n", node, p.codec);
	i = node_get(node);
	must(bale_file_recompress(i, p, &before, &after), "recompress");
	bale_inode_put(i);
}

/* What is clean may leave at any time. */
static void op_evict(void)
{
	int node = choose_file();
	struct bale_inode *i;
	struct bale_ext *e;

	if (node < 0 || threaded)
		return;
	i = node_get(node);
	bale_rwlock_wrlock(&i->lock);
	for (uint64_t no = 0; no < NR_EXT; no++) {
		if (bale_cache_find(fs->cache, i->ino, no, &e))
			continue;
		if (!e->listed && !e->nr_flying)
			bale_cache_drop(fs->cache, i->ino, no);
		bale_ext_put(fs->cache, e);
	}
	bale_rwlock_unlock(&i->lock);
	bale_inode_put(i);
}

#endif
