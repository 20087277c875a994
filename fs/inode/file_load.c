/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_load.c - extents from the store into the cache. A claim (an entry being
 * loaded) pins what the map says: nothing that changes the map of an extent
 * goes on before its load ended, so a load needs no lock once it is prepared.
 */
#include "fs/inode/file_load.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/base/log.h"

/* One line for each damaged extent, not one for each read of it. */
void bale_ext_log_damage(struct bale_fs *fs, uint64_t ino, uint64_t no, int err)
{
	static _Atomic uint64_t seen[64];
	uint64_t key = (ino << 20) ^ no ^ ((uint64_t)1 << 63);
	char path[512];

	if (atomic_exchange(&seen[(ino * 31 + no) % 64], key) == key)
		return;
	bale_inode_path(fs, ino, path, sizeof(path));
	bale_err("%s: inode %" PRIu64 ": bytes %" PRIu64 " to %" PRIu64
		 " cannot be read: %s",
		 path, ino, bale_ext_start(fs, no),
		 bale_ext_start(fs, no + 1) - 1, strerror(-err));
}

/* ---- patches ---- */

struct apply {
	struct bale_load *l;
	size_t extent_size;
	int error;
};

static int apply_patch(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct apply *a = arg;
	struct bale_load *l = a->l;
	const uint8_t *k = key, *v = val;
	le32 off_field;
	uint64_t seq;
	uint32_t off, len;
	be64 s;

	if (key_len != 24 || val_len < sizeof(off_field))
		return a->error = -EUCLEAN;
	memcpy(&s, k + 16, sizeof(s));
	memcpy(&off_field, v, sizeof(off_field));
	seq = be64_get(s);
	off = le32_get(off_field);
	len = (uint32_t)(val_len - sizeof(off_field));
	if (off > a->extent_size || len > a->extent_size - off ||
	    seq >= UINT32_MAX)
		return a->error = -EUCLEAN;
	if (off > l->len)
		memset(l->buf->data + l->len, 0, off - l->len);
	memcpy(l->buf->data + off, v + sizeof(off_field), len);
	if (off + len > l->len)
		l->len = off + len;
	if (!l->nr_patches++)
		l->ext->patch_first = (uint32_t)seq;
	l->ext->patch_next = (uint32_t)seq + 1;
	l->ext->patch_bytes += len;
	return 0;
}

static int apply_patches(struct bale_fs *fs, struct bale_load *l)
{
	struct {
		be64 ino, no;
	} key = { be64_put(l->ext->ino), be64_put(l->ext->no) };
	struct apply a = { .l = l, .extent_size = fs->extent_size };
	int r = bale_meta_scan(fs->meta, BALE_TABLE_patch, &key, sizeof(key),
			       sizeof(key), apply_patch, &a);

	return r ? r : a.error;
}

/* ---- one load ---- */

static int get_buf(struct bale_fs *fs, struct bale_load *l, size_t len,
		   bool guess)
{
	if (atomic_load(&fs->has_patches))
		len = fs->extent_size;
	if (!guess)
		return bale_cache_alloc(fs->cache, len ? len : 1, &l->buf);
	return bale_cache_try_alloc(fs->cache, len ? len : 1, &l->buf) ?
		       0 :
		       -ENOMEM;
}

static int load_inline(struct bale_inode *i, struct bale_load *l)
{
	struct {
		struct bale_disk_inline head;
		uint8_t bytes[BALE_INLINE_MAX];
	} v;
	be64 key = be64_put(i->ino);
	struct bale_job j = { .op = BALE_JOB_DECODE };
	size_t len = 0;
	int r = bale_meta_get(i->fs->meta, BALE_TABLE_inline, &key, sizeof(key),
			      &v, sizeof(v), &len);

	if (r)
		return r == -ENOENT ? -EUCLEAN : r;
	if (len < sizeof(v.head) ||
	    le32_get(v.head.raw_len) > i->fs->extent_size)
		return -EUCLEAN;
	l->row.raw_len = le32_get(v.head.raw_len);
	r = get_buf(i->fs, l, l->row.raw_len, false);
	if (r)
		return r;
	j.codec = v.head.codec;
	j.filter = v.head.filter;
	j.src = v.bytes;
	j.src_len = len - sizeof(v.head);
	j.dst = l->buf->data;
	j.dst_cap = l->row.raw_len;
	bale_codec_run(&j);
	l->len = l->row.raw_len;
	return j.status;
}

/* Everything that needs the inode's lock. */
int bale_load_prepare(struct bale_inode *i, struct bale_load *l, bool guess)
{
	struct bale_fs *fs = i->fs;
	uint64_t no = l->ext->no;
	int r;

	l->limit = bale_ext_in_file(fs, i->row.size, no);
	if (no == 0 && i->row.flags & BALE_INODE_HAS_INLINE)
		return load_inline(i, l);
	r = bale_map_get(i, no, &l->id);
	if (r)
		return r;
	if (!l->id)
		return get_buf(fs, l, 0, guess);
	r = bale_meta_extent(fs->meta, l->id, &l->row);
	if (r)
		return r == -ENOENT ? -EUCLEAN : r;
	if (l->row.raw_len > fs->extent_size)
		return -EUCLEAN;
	l->len = l->row.raw_len;
	return get_buf(fs, l, l->len, guess);
}

/* Publish, or tell the waiters why not. The claim's reference stays. */
static void finish(struct bale_fs *fs, struct bale_load *l)
{
	if (!l->error && atomic_load(&fs->has_patches))
		l->error = apply_patches(fs, l);
	if (l->error) {
		if (l->error != -ENOMEM)
			bale_ext_log_damage(fs, l->ext->ino, l->ext->no,
					    l->error);
		if (l->buf)
			bale_cbuf_put(l->buf);
		bale_cache_publish(fs->cache, l->ext, NULL, 0, l->error);
		return;
	}
	/* What a crash left beyond the end of the file is not the file's. */
	if (l->len > l->limit)
		l->len = l->limit;
	bale_cache_publish(fs->cache, l->ext, l->buf, l->len, 0);
}

void bale_load_run(struct bale_fs *fs, struct bale_load *loads, size_t nr)
{
	struct bale_batch_read reads[BALE_LOAD_MAX];
	struct bale_load *of[BALE_LOAD_MAX];
	size_t nr_reads = 0;

	for (size_t k = 0; k < nr; k++) {
		if (loads[k].error || !loads[k].id)
			continue;
		of[nr_reads] = &loads[k];
		reads[nr_reads++] = (struct bale_batch_read){
			.id = loads[k].id,
			.row = loads[k].row,
			.dst = loads[k].buf->data,
		};
	}
	if (nr_reads)
		bale_batch_read(fs->batcher, reads, nr_reads);
	for (size_t k = 0; k < nr_reads; k++)
		of[k]->error = reads[k].status;
	for (size_t k = 0; k < nr; k++)
		finish(fs, &loads[k]);
}

int bale_ext_load(struct bale_inode *i, uint64_t no, struct bale_ext **ret)
{
	struct bale_cache *c = i->fs->cache;
	struct bale_load l;
	int r;

	for (;;) {
		r = bale_cache_find(c, i->ino, no, ret);
		if (r == -ENOMEM)
			continue; /* a readahead gave up, this must not */
		if (r != -ENOENT)
			return r;
		memset(&l, 0, sizeof(l));
		r = bale_cache_claim(c, i->ino, no, &l.ext);
		if (!r)
			break;
		if (r != -EEXIST)
			return r;
	}
	l.error = bale_load_prepare(i, &l, false);
	bale_load_run(i->fs, &l, 1);
	if (l.error) {
		bale_ext_put(c, l.ext);
		return l.error;
	}
	*ret = l.ext;
	return 0;
}

static int take_extent_no(const void *key, size_t key_len, const void *val,
			  size_t val_len, void *arg)
{
	be64 k[3];

	(void)val;
	(void)val_len;
	if (key_len != sizeof(k))
		return 0;
	memcpy(k, key, sizeof(k));
	*(uint64_t *)arg = be64_get(k[1]);
	return 1;
}

int bale_patch_next(struct bale_inode *i, uint64_t from, uint64_t *ret)
{
	be64 key[2] = { be64_put(i->ino), be64_put(from) };
	int r;

	if (!atomic_load(&i->fs->has_patches))
		return -ENOENT;
	r = bale_meta_scan(i->fs->meta, BALE_TABLE_patch, key, sizeof(key),
			   sizeof(key[0]), take_extent_no, ret);
	return r == 1 ? 0 : r ? r : -ENOENT;
}

struct left {
	uint64_t last; /* extents before it */
	struct bale_txn *t;
	uint32_t first, next;
};

static int each_left(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct left *l = arg;
	be64 k[3];
	uint32_t seq;

	(void)val;
	(void)val_len;
	if (key_len != sizeof(k))
		return 0;
	memcpy(k, key, sizeof(k));
	if (be64_get(k[1]) >= l->last)
		return 1;
	seq = (uint32_t)be64_get(k[2]);
	if (l->t)
		bale_txn_del(l->t, BALE_TABLE_patch, key, key_len);
	if (l->first == l->next)
		l->first = seq;
	l->next = seq + 1;
	return 0;
}

static int scan_left(struct bale_inode *i, uint64_t no, struct left *l)
{
	be64 key[2] = { be64_put(i->ino), be64_put(no) };
	int r;

	if (!atomic_load(&i->fs->has_patches))
		return 0;
	r = bale_meta_scan(i->fs->meta, BALE_TABLE_patch, key, sizeof(key),
			   sizeof(key[0]), each_left, l);
	return r < 0 ? r : 0;
}

int bale_patch_find(struct bale_inode *i, uint64_t no, uint32_t *ret_first,
		    uint32_t *ret_next)
{
	struct left l = { .last = no + 1 };
	int r = scan_left(i, no, &l);

	*ret_first = l.first;
	*ret_next = l.next;
	return r;
}

int bale_patch_stage_del_left(struct bale_inode *i, uint64_t first,
			      uint64_t last, struct bale_txn *t)
{
	struct left l = { .last = last, .t = t };

	return scan_left(i, first, &l);
}

bool bale_ext_is_hole(struct bale_inode *i, uint64_t no)
{
	uint64_t id, patched;
	int r;

	if (no == 0 && i->row.flags & BALE_INODE_HAS_INLINE)
		return false;
	if (bale_map_get(i, no, &id) || id)
		return false;
	r = bale_patch_next(i, no, &patched);
	return r == -ENOENT || (!r && patched != no);
}

void bale_ext_load_range(struct bale_inode *i, uint64_t first, unsigned int nr)
{
	struct bale_load loads[BALE_LOAD_MAX];
	struct bale_cache *c = i->fs->cache;
	size_t n = 0;

	for (unsigned int k = 0; k < nr && n < BALE_LOAD_MAX; k++) {
		struct bale_load *l = &loads[n];

		memset(l, 0, sizeof(*l));
		if (bale_ext_is_hole(i, first + k) ||
		    bale_cache_claim(c, i->ino, first + k, &l->ext))
			continue;
		l->error = bale_load_prepare(i, l, false);
		n++;
	}
	if (!n)
		return;
	bale_load_run(i->fs, loads, n);
	for (size_t k = 0; k < n; k++)
		bale_ext_put(c, loads[k].ext);
}

/* ---- recovery ---- */

struct patched {
	uint64_t ino, no;
};

static int collect_patched(const void *key, size_t key_len, const void *val,
			   size_t val_len, void *arg)
{
	struct bale_buf *all = arg;
	struct patched p, *last;
	be64 k[3];

	(void)val;
	(void)val_len;
	if (key_len != sizeof(k))
		return 0;
	memcpy(k, key, sizeof(k));
	p.ino = be64_get(k[0]);
	p.no = be64_get(k[1]);
	last = all->len ? (void *)(all->data + all->len - sizeof(p)) : NULL;
	if (last && last->ino == p.ino && last->no == p.no)
		return 0;
	return bale_buf_append(all, &p, sizeof(p));
}

/* Load with the patches, and list as dirty: the next flush stores it whole. */
static int fold_one(struct bale_fs *fs, const struct patched *p)
{
	struct bale_file_data *d;
	struct bale_inode *i;
	struct bale_ext *e;
	int r = bale_inode_get(fs, p->ino, &i);

	if (r)
		return r;
	bale_rwlock_wrlock(&i->lock);
	/* An inline file's load asks no map row, and makes no data. */
	r = S_ISREG(i->row.mode) ? bale_file_data_get(i, &d) : -EUCLEAN;
	if (!r)
		r = bale_ext_load(i, p->no, &e);
	if (!r) {
		uint32_t need = bale_ext_need(fs, e, (uint32_t)fs->extent_size);

		/* It was accepted once: without room it stays a patch. */
		if (!bale_space_reserve(fs->store, need))
			e->reserved += need;
		e->no_patch = true;
		bale_ext_mark_dirty(i, e, 0, 0);
		bale_ext_put(fs->cache, e);
	}
	bale_rwlock_unlock(&i->lock);
	bale_inode_put(i);
	return r;
}

int bale_patches_recover(struct bale_fs *fs)
{
	struct bale_buf all = { 0 };
	bool damaged = false;
	int r = bale_meta_scan(fs->meta, BALE_TABLE_patch, "", 0, 0,
			       collect_patched, &all);
	size_t nr = all.len / sizeof(struct patched);

	atomic_store(&fs->has_patches, nr > 0);
	for (size_t k = 0; !r && !fs->o.read_only && k < nr; k++) {
		struct patched p;
		int one;

		memcpy(&p, all.data + k * sizeof(p), sizeof(p));
		one = fold_one(fs, &p);
		if (one) {
			damaged = true;
			bale_warn("inode %" PRIu64
				  ": patches of extent %" PRIu64
				  " not folded: %s",
				  p.ino, p.no, strerror(-one));
		}
	}
	if (!fs->o.read_only && !damaged)
		atomic_store(&fs->has_patches, false);
	bale_buf_fini(&all);
	return r;
}
