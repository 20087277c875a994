/* SPDX-License-Identifier: Apache-2.0 */
/* Index rows: encode, decode, and one check per table. */
#include "fs/format/format.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "balefs/codec.h"

static struct bale_disk_time put_time(struct timespec t)
{
	struct bale_disk_time d = { le64_put((uint64_t)t.tv_sec),
				    le32_put((uint32_t)t.tv_nsec) };

	return d;
}

static struct timespec get_time(struct bale_disk_time d)
{
	struct timespec t = { .tv_sec = (int64_t)le64_get(d.sec),
			      .tv_nsec = (long)le32_get(d.nsec) };

	return t;
}

static bool time_in_range(struct bale_disk_time d)
{
	return le32_get(d.nsec) < 1000000000u;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

void bale_inode_encode(const struct bale_inode_row *r,
		       struct bale_disk_inode *d)
{
	memset(d, 0, sizeof(*d));
	d->mode = le32_put(r->mode);
	d->nlink = le32_put(r->nlink);
	d->uid = le32_put(r->uid);
	d->gid = le32_put(r->gid);
	d->size = le64_put(r->size);
	d->stored = le64_put(r->stored);
	d->rdev = le64_put(r->rdev);
	d->atime = put_time(r->atime);
	d->mtime = put_time(r->mtime);
	d->ctime = put_time(r->ctime);
	d->btime = put_time(r->btime);
	d->flags = le32_put(r->flags);
	d->generation = le32_put(r->generation);
	d->parent = le64_put(r->parent);
	d->next_cookie = le64_put(r->next_cookie);
	d->nr_entries = le64_put(r->nr_entries);
	d->codec = r->codec;
	d->level = (uint8_t)r->level;
	d->filter = r->filter;
}

static bool known_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return !(mode & ~(uint32_t)(S_IFMT | 07777));
	default:
		return false;
	}
}

int bale_inode_decode(const void *val, size_t len, struct bale_inode_row *ret)
{
	const struct bale_disk_inode *d = val;

	if (len != sizeof(*d) || !known_type(le32_get(d->mode)) ||
	    le64_get(d->size) > BALE_FILE_MAX ||
	    le64_get(d->next_cookie) > BALE_NUMBER_MAX ||
	    !time_in_range(d->atime) || !time_in_range(d->mtime) ||
	    !time_in_range(d->ctime) || !time_in_range(d->btime) ||
	    d->filter >= BALE_FILTER_NR ||
	    !all_zero(d->reserved, sizeof(d->reserved)))
		return -EUCLEAN;
	ret->mode = le32_get(d->mode);
	ret->nlink = le32_get(d->nlink);
	ret->uid = le32_get(d->uid);
	ret->gid = le32_get(d->gid);
	ret->size = le64_get(d->size);
	ret->stored = le64_get(d->stored);
	ret->rdev = le64_get(d->rdev);
	ret->atime = get_time(d->atime);
	ret->mtime = get_time(d->mtime);
	ret->ctime = get_time(d->ctime);
	ret->btime = get_time(d->btime);
	ret->flags = le32_get(d->flags);
	ret->generation = le32_get(d->generation);
	ret->parent = le64_get(d->parent);
	ret->next_cookie = le64_get(d->next_cookie);
	ret->nr_entries = le64_get(d->nr_entries);
	ret->codec = d->codec;
	ret->level = (int8_t)d->level;
	ret->filter = d->filter;
	return 0;
}

void bale_extent_encode(const struct bale_extent_row *r,
			struct bale_disk_extent *d)
{
	d->segment = le32_put(r->segment);
	d->offset = le32_put(r->offset);
	d->stored_len = le32_put(r->stored_len);
	d->raw_len = le32_put(r->raw_len);
	d->crc = le32_put(r->crc);
	d->refs = le32_put(r->refs);
	d->codec = r->codec;
	d->filter = r->filter;
	d->level = (uint8_t)r->level;
	d->reason = r->reason;
}

int bale_extent_decode(const void *val, size_t len, struct bale_extent_row *ret)
{
	const struct bale_disk_extent *d = val;
	uint32_t raw, stored;

	if (len != sizeof(*d))
		return -EUCLEAN;
	raw = le32_get(d->raw_len);
	stored = le32_get(d->stored_len);
	if (!raw || raw > BALE_EXTENT_MAX || !stored || stored > raw ||
	    !le32_get(d->refs) || d->codec >= BALE_CODEC_NR ||
	    (uint64_t)le32_get(d->offset) + stored > (uint64_t)1 << 31 ||
	    (d->codec == BALE_CODEC_raw && stored != raw))
		return -EUCLEAN;
	ret->segment = le32_get(d->segment);
	ret->offset = le32_get(d->offset);
	ret->stored_len = stored;
	ret->raw_len = raw;
	ret->crc = le32_get(d->crc);
	ret->refs = le32_get(d->refs);
	ret->codec = d->codec;
	ret->filter = d->filter;
	ret->level = (int8_t)d->level;
	ret->reason = d->reason;
	return 0;
}

/* ---- checks, one per table ---- */

static uint64_t key_word(const uint8_t *key, unsigned int i)
{
	be64 v;

	memcpy(&v, key + 8 * (size_t)i, sizeof(v));
	return be64_get(v);
}

static bool good_number(uint64_t v)
{
	return v && v < BALE_NUMBER_MAX;
}

static bool good_name(const uint8_t *name, size_t len)
{
	if (!len || len > BALE_NAME_MAX || memchr(name, '/', len) ||
	    memchr(name, 0, len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

static bool check_meta(const uint8_t *key, size_t key_len, const uint8_t *val,
		       size_t val_len)
{
	return key_len && key_len <= 64 && !memchr(key, 0, key_len) &&
	       (!val || val_len == sizeof(le64));
}

static bool check_inode(const uint8_t *key, size_t key_len, const uint8_t *val,
			size_t val_len)
{
	struct bale_inode_row row;

	return key_len == 8 && good_number(key_word(key, 0)) &&
	       (!val || !bale_inode_decode(val, val_len, &row));
}

/* DT_* of a file type that an inode can have. */
static bool known_dirent_type(uint8_t type)
{
	return known_type((uint32_t)type << 12);
}

static bool check_dirent(const uint8_t *key, size_t key_len, const uint8_t *val,
			 size_t val_len)
{
	const struct bale_disk_dirent *d = (const void *)val;

	return key_len > 8 && good_number(key_word(key, 0)) &&
	       good_name(key + 8, key_len - 8) &&
	       (!val ||
		(val_len == sizeof(*d) && good_number(le64_get(d->ino)) &&
		 good_number(le64_get(d->cookie)) &&
		 known_dirent_type(d->type) &&
		 all_zero(d->reserved, sizeof(d->reserved))));
}

static bool check_cookie(const uint8_t *key, size_t key_len, const uint8_t *val,
			 size_t val_len)
{
	const struct bale_disk_cookie *d = (const void *)val;

	return key_len == 16 && good_number(key_word(key, 0)) &&
	       good_number(key_word(key, 1)) &&
	       (!val ||
		(val_len > sizeof(*d) && good_number(le64_get(d->ino)) &&
		 known_dirent_type(d->type) &&
		 all_zero(d->reserved, sizeof(d->reserved)) &&
		 good_name(val + sizeof(*d), val_len - sizeof(*d))));
}

static bool check_map(const uint8_t *key, size_t key_len, const uint8_t *val,
		      size_t val_len)
{
	return key_len == 16 && good_number(key_word(key, 0)) &&
	       key_word(key, 1) <= BALE_FILE_MAX >> 22 &&
	       (!val || (val_len && val_len % sizeof(le64) == 0 &&
			 val_len <= BALE_MAP_SLOTS * sizeof(le64) &&
			 !all_zero(val + val_len - 8, 8)));
}

static bool check_extent(const uint8_t *key, size_t key_len, const uint8_t *val,
			 size_t val_len)
{
	struct bale_extent_row row;

	return key_len == 8 && good_number(key_word(key, 0)) &&
	       (!val || !bale_extent_decode(val, val_len, &row));
}

static bool check_xattr(const uint8_t *key, size_t key_len, const uint8_t *val,
			size_t val_len)
{
	return key_len > 8 && good_number(key_word(key, 0)) &&
	       key_len - 8 <= BALE_XATTR_NAME_MAX &&
	       !memchr(key + 8, 0, key_len - 8) &&
	       (!val || val_len <= BALE_XATTR_SIZE_MAX);
}

static bool check_inline(const uint8_t *key, size_t key_len, const uint8_t *val,
			 size_t val_len)
{
	const struct bale_disk_inline *d = (const void *)val;
	size_t coded = val_len - sizeof(*d);

	if (key_len != 8 || !good_number(key_word(key, 0)))
		return false;
	if (!val)
		return true;
	/* A symlink's target is raw and may be longer than an inline file. */
	return val_len > sizeof(*d) && coded <= BALE_SYMLINK_MAX &&
	       le32_get(d->raw_len) &&
	       le32_get(d->raw_len) <= BALE_EXTENT_MAX &&
	       coded <= le32_get(d->raw_len) && d->codec < BALE_CODEC_NR &&
	       (d->codec != BALE_CODEC_raw || coded == le32_get(d->raw_len));
}

static bool check_orphan(const uint8_t *key, size_t key_len, const uint8_t *val,
			 size_t val_len)
{
	return key_len == 8 && good_number(key_word(key, 0)) &&
	       (!val || val_len == sizeof(le64));
}

static bool check_segment(const uint8_t *key, size_t key_len,
			  const uint8_t *val, size_t val_len)
{
	const struct bale_disk_segment *d = (const void *)val;

	return key_len == 8 && key_word(key, 0) <= UINT32_MAX &&
	       (!val || (val_len == sizeof(*d) &&
			 le64_get(d->used) <= (uint64_t)1 << 31 &&
			 le64_get(d->live) <= le64_get(d->used)));
}

static bool check_patch(const uint8_t *key, size_t key_len, const uint8_t *val,
			size_t val_len)
{
	le32 off;

	if (key_len != 24 || !good_number(key_word(key, 0)) ||
	    key_word(key, 1) > BALE_FILE_MAX >> 16)
		return false;
	if (!val)
		return true;
	if (val_len <= sizeof(off) || val_len - sizeof(off) > BALE_EXTENT_MAX)
		return false;
	memcpy(&off, val, sizeof(off));
	return le32_get(off) <= BALE_EXTENT_MAX - (val_len - sizeof(off));
}

typedef bool row_check_fn(const uint8_t *key, size_t key_len,
			  const uint8_t *val, size_t val_len);

int bale_row_check(unsigned int table, const void *key, size_t key_len,
		   const void *val, size_t val_len)
{
	static row_check_fn *const checks[BALE_TABLE_NR] = {
#define X(id, name) [id] = check_##name,
		BALE_TABLES(X)
#undef X
	};

	if (table >= BALE_TABLE_NR || key_len > BALE_KEY_MAX ||
	    (val && val_len > BALE_VALUE_MAX))
		return -EUCLEAN;
	return checks[table](key, key_len, val, val_len) ? 0 : -EUCLEAN;
}
