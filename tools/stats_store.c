/* SPDX-License-Identifier: Apache-2.0 */
/* stats_store.c - figures of a store that is not mounted, from its tables. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/store/store.h"
#include "tools/stats.h"

static int add_inode(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct bale_stats *s = arg;
	struct bale_inode_row row;

	(void)key;
	(void)key_len;
	if (bale_inode_decode(val, val_len, &row))
		return 0; /* fsck's business */
	if (S_ISREG(row.mode)) {
		bale_stats_add(s, files, 1);
		bale_stats_add(s, logical_bytes, row.size);
	} else if (S_ISDIR(row.mode)) {
		bale_stats_add(s, directories, 1);
	} else {
		bale_stats_add(s, others, 1);
	}
	return 0;
}

static int add_extent(const void *key, size_t key_len, const void *val,
		      size_t val_len, void *arg)
{
	struct bale_stats *s = arg;
	struct bale_extent_row row;

	(void)key;
	(void)key_len;
	if (bale_extent_decode(val, val_len, &row))
		return 0;
	s->codec[row.codec & 7].extents++;
	s->codec[row.codec & 7].raw += row.raw_len;
	s->codec[row.codec & 7].stored += row.stored_len;
	s->raw_reason[row.reason & 7] += row.codec == BALE_CODEC_raw;
	bale_stats_add(s, raw_bytes, row.raw_len);
	bale_stats_add(s, stored_bytes, row.stored_len);
	bale_stats_add(s, shared_extents, row.refs > 1);
	return 0;
}

static int add_inline(const void *key, size_t key_len, const void *val,
		      size_t val_len, void *arg)
{
	struct bale_stats *s = arg;
	struct bale_disk_inline d;

	(void)key;
	(void)key_len;
	if (val_len < sizeof(d))
		return 0;
	memcpy(&d, val, sizeof(d));
	bale_stats_add(s, raw_bytes, le32_get(d.raw_len));
	bale_stats_add(s, stored_bytes, val_len - sizeof(d));
	bale_stats_add(s, inline_bytes, val_len - sizeof(d));
	return 0;
}

struct folder {
	struct bale_io *io;
	const char *name;
	uint64_t bytes;
};

static int add_file(const char *name, void *arg)
{
	struct folder *d = arg;
	uint64_t len, allocated;
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", d->name, name);
	if (BALE_IO(d->io)->open(d->io, path, O_RDONLY, &fd))
		return 0;
	if (!BALE_IO(d->io)->size(d->io, fd, &len, &allocated))
		d->bytes += allocated;
	BALE_IO(d->io)->close(d->io, fd);
	return 0;
}

static uint64_t folder_bytes(struct bale_store *st, const char *name)
{
	struct folder d = { .io = bale_store_io(st), .name = name };

	BALE_IO(d.io)->list(d.io, name, add_file, &d);
	return d.bytes;
}

static void add_space(struct bale_store *st, struct bale_stats *s)
{
	struct bale_space_info i;

	bale_space_info(st, &i);
	bale_stats_set(s, segments, i.segments);
	bale_stats_set(s, segment_used_bytes, i.used);
	bale_stats_set(s, segment_live_bytes, i.live);
	bale_stats_set(s, log_bytes, folder_bytes(st, "log"));
	bale_stats_set(s, index_bytes, i.index_bytes);
	bale_stats_set(s, checkpoint_bytes, folder_bytes(st, "ckpt"));
	bale_stats_set(s, backing_total_bytes, i.total);
	bale_stats_set(s, backing_free_bytes, i.free);
}

int bale_stats_of_store(const char *path, struct bale_stats *s)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.manual_commit = true };
	const struct bale_super *sb;
	struct bale_store *st;
	struct bale_meta *m;
	int r = bale_store_open(path, &o, &st);

	if (r)
		return r;
	m = bale_store_meta(st);
	sb = bale_store_super(st);
	s->kind = "store";
	s->path = path;
	s->has_codecs = true;
	snprintf(s->label, sizeof(s->label), "%s", sb->label);
	bale_codec_policy_text(
		(struct bale_codec_policy){ sb->codec, sb->level, sb->filter },
		s->policy, sizeof(s->policy));
	bale_stats_set(s, files, 0);
	bale_stats_set(s, logical_bytes, 0);
	bale_stats_set(s, raw_bytes, 0);
	bale_stats_set(s, stored_bytes, 0);
	r = bale_meta_scan(m, BALE_TABLE_inode, "", 0, 0, add_inode, s);
	if (!r)
		r = bale_meta_scan(m, BALE_TABLE_extent, "", 0, 0, add_extent,
				   s);
	if (!r)
		r = bale_meta_scan(m, BALE_TABLE_inline, "", 0, 0, add_inline,
				   s);
	add_space(st, s);
	bale_store_close(st);
	return r;
}
