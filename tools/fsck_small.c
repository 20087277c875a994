/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_small.c - rows that belong to one inode: inline content, xattrs,
 * patches. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/codec/codec.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

struct small {
	struct bale_fsck *f;
	uint8_t raw[BALE_EXTENT_MAX]; /* a decoded inline value */
};

static int drop(struct bale_fsck *f, enum bale_table table, const void *key,
		size_t key_len)
{
	struct bale_txn *t = bale_fsck_txn(f);

	if (!t)
		return -ENOMEM;
	bale_txn_del(t, table, key, key_len);
	return 0;
}

/* Owner of a row, checked; *ret_skip: damaged or told already. */
static int row_owner(struct bale_fsck *f, enum bale_table table,
		     const void *key, size_t key_len, const void *val,
		     size_t val_len, uint64_t *ret_ino, bool *ret_skip)
{
	int r = bale_fsck_step(f);
	be64 k;

	*ret_skip = true;
	if (r)
		return r;
	if (bale_row_check(table, key, key_len, val, val_len)) {
		bale_fsck_problem(f, BALE_FSCK_row,
				  "%s row of %zu bytes: damaged",
				  bale_table_name(table), val_len);
		return 0;
	}
	memcpy(&k, key, sizeof(k));
	*ret_ino = be64_get(k);
	*ret_skip = false;
	return 0;
}

static bool inline_decodes(struct small *s, const struct bale_disk_inline *d,
			   const void *coded, size_t len)
{
	struct bale_job job = { .op = BALE_JOB_DECODE,
				.codec = d->codec,
				.filter = d->filter,
				.src = coded,
				.src_len = len,
				.dst = s->raw,
				.dst_cap = le32_get(d->raw_len) };

	if (job.dst_cap > sizeof(s->raw) ||
	    !bale_codec_known(d->codec, d->filter))
		return false;
	bale_codec_run(&job);
	return !job.status;
}

static int check_inline(const void *key, size_t key_len, const void *val,
			size_t val_len, void *arg)
{
	struct small *s = arg;
	struct bale_fsck *f = s->f;
	struct bale_fsck_inode *i;
	struct bale_disk_inline d;
	uint64_t ino;
	bool skip;
	int r = row_owner(f, BALE_TABLE_inline, key, key_len, val, val_len,
			  &ino, &skip);

	if (r || skip)
		return r;
	memcpy(&d, val, sizeof(d));
	i = bale_fsck_inode(f, ino);
	if (!i) {
		if (!bale_fsck_problem(f, BALE_FSCK_inode_lost,
				       "inode %" PRIu64 " is missing, its "
				       "content is there",
				       ino))
			return 0;
		r = bale_fsck_make_inode(f, ino, S_IFREG | 0600,
					 le32_get(d.raw_len),
					 BALE_INODE_HAS_INLINE);
		if (r)
			return r;
		i = bale_fsck_inode(f, ino);
	}
	if ((i->type != DT_REG && i->type != DT_LNK) ||
	    i->state & BALE_FSCK_HAS_MAP)
		return bale_fsck_problem(f, BALE_FSCK_inline,
					 "inode %" PRIu64 " has inline content "
					 "that it cannot have",
					 ino) ?
			       drop(f, BALE_TABLE_inline, key, key_len) :
			       0;
	i->state |= BALE_FSCK_HAS_INLINE;
	i->stored += val_len - sizeof(d);
	if (!inline_decodes(s, &d, (const uint8_t *)val + sizeof(d),
			    val_len - sizeof(d))) {
		bale_fsck_problem(f, BALE_FSCK_inline_data,
				  "inode %" PRIu64 ": its inline content does "
				  "not decode",
				  ino);
		bale_fsck_damage_add(f, ino, 0);
	}
	return 0;
}

static int check_xattr(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct small *s = arg;
	struct bale_fsck_inode *i;
	uint64_t ino;
	bool skip;
	int r = row_owner(s->f, BALE_TABLE_xattr, key, key_len, val, val_len,
			  &ino, &skip);

	if (r || skip)
		return r;
	i = bale_fsck_inode(s->f, ino);
	if (i) {
		i->state |= BALE_FSCK_HAS_XATTR;
		return 0;
	}
	return bale_fsck_problem(s->f, BALE_FSCK_xattr,
				 "extended attribute of inode %" PRIu64
				 ", which does not exist",
				 ino) ?
		       drop(s->f, BALE_TABLE_xattr, key, key_len) :
		       0;
}

static int check_patch(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct small *s = arg;
	struct bale_fsck_inode *i;
	uint64_t ino, end;
	le32 off;
	bool skip;
	int r = row_owner(s->f, BALE_TABLE_patch, key, key_len, val, val_len,
			  &ino, &skip);

	if (r || skip)
		return r;
	memcpy(&off, val, sizeof(off));
	end = (uint64_t)le32_get(off) + val_len - sizeof(off);
	i = bale_fsck_inode(s->f, ino);
	if (i && i->type == DT_REG && end <= 1u << s->f->super.extent_bits)
		return 0;
	return bale_fsck_problem(s->f, BALE_FSCK_patch,
				 "patch of inode %" PRIu64 ": %s", ino,
				 i ? "out of bounds" : "no such inode") ?
		       drop(s->f, BALE_TABLE_patch, key, key_len) :
		       0;
}

static int scan(struct small *s, enum bale_table table, bale_row_fn *fn)
{
	struct bale_meta_stats st;

	bale_meta_stats(s->f->m, &st);
	bale_fsck_phase(s->f, bale_table_name(table), st.rows[table]);
	return bale_fsck_scan(s->f, table, fn, s);
}

int bale_fsck_small(struct bale_fsck *f)
{
	struct small *s = malloc(sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->f = f;
	r = scan(s, BALE_TABLE_inline, check_inline);
	if (!r)
		r = scan(s, BALE_TABLE_xattr, check_xattr);
	if (!r)
		r = scan(s, BALE_TABLE_patch, check_patch);
	free(s);
	return r ? r : bale_fsck_commit(f);
}
