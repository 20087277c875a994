/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_salvage.c - files out of bales alone, when log, checkpoints and index
 * are lost. Every bale says which inode and which extent of it each payload
 * was written for; of several for one place the newest bale counts. Names,
 * owners and the exact size of what was truncated are not in segments: files
 * come as /lost+found/#INO of a new store. Deleted files whose bytes were not
 * reclaimed yet come back too. The old store is only read.
 *
 * Memory: 56 bytes a descriptor found.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/crc32c.h"
#include "fs/base/mem.h"
#include "fs/codec/codec.h"
#include "fs/inode/inode.h"
#include "tools/cmd.h"
#include "tools/fsck.h"
#include "tools/raw.h"

struct found {
	uint64_t ino, extent_no, seq, segment;
	uint32_t off, raw_len, stored_len, crc;
	uint8_t codec, filter;
};

struct salvage {
	struct bale_fsck *f;
	struct bale_io *io;
	struct found *found;
	size_t nr, cap;
	/* the segment that is open */
	uint64_t segment;
	int fd;
	/* one extent */
	void *stored, *raw;
	/* the new store */
	struct bale_fs *fs;
	struct bale_inode *dir;
	uint64_t files, bad;
};

static int use_segment(struct salvage *s, uint64_t segment)
{
	char name[32];
	int r;

	if (s->fd >= 0 && s->segment == segment)
		return 0;
	if (s->fd >= 0)
		BALE_IO(s->io)->close(s->io, s->fd);
	s->fd = -1;
	snprintf(name, sizeof(name), "seg/%016" PRIx64, segment);
	r = BALE_IO(s->io)->open(s->io, name, O_RDONLY, &s->fd);
	if (r)
		s->fd = -1;
	s->segment = segment;
	return r;
}

/* ---- finding ---- */

static int note_extent(struct salvage *s, const struct found *e)
{
	if (s->nr == s->cap) {
		size_t cap = s->cap ? s->cap + s->cap / 2 : 1024;
		struct found *p = reallocarray(s->found, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		s->found = p;
		s->cap = cap;
	}
	s->found[s->nr++] = *e;
	return 0;
}

static int note_bale(const struct bale_bale_info *info,
		     const struct bale_disk_bale_extent *desc,
		     uint64_t payload_off, void *arg)
{
	struct salvage *s = arg;
	int r = bale_fsck_step(s->f);

	for (uint32_t k = 0; k < info->nr_extents && !r; k++) {
		const struct bale_disk_bale_extent *d = &desc[k];
		struct found e = { .seq = info->seq,
				   .segment = info->segment,
				   .ino = le64_get(d->ino),
				   .extent_no = le64_get(d->extent_no),
				   .off = (uint32_t)payload_off,
				   .raw_len = le32_get(d->raw_len),
				   .stored_len = le32_get(d->stored_len),
				   .crc = le32_get(d->crc),
				   .codec = d->codec,
				   .filter = d->filter };

		payload_off += e.stored_len;
		r = note_extent(s, &e);
	}
	return r;
}

static int by_place(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	if (x->extent_no != y->extent_no)
		return x->extent_no < y->extent_no ? -1 : 1;
	return x->seq > y->seq ? -1 : x->seq < y->seq;
}

static int find_all(struct salvage *s)
{
	bale_autofree uint64_t *segments = NULL;
	size_t nr;
	int r = bale_raw_list(s->io, "seg", &segments, &nr);

	bale_fsck_phase(s->f, "segments", 0);
	for (size_t k = 0; k < nr && !r; k++) {
		r = bale_raw_segment(s->io, s->f->super.uuid, segments[k],
				     note_bale, s);
		if (r && r != -ECANCELED && r != -ENOMEM) {
			bale_cmd_error("segment %" PRIu64 ": %s", segments[k],
				       strerror(-r));
			s->bad++;
			r = 0;
		}
	}
	bale_fsck_phase_end(s->f);
	if (s->nr)
		qsort(s->found, s->nr, sizeof(*s->found), by_place);
	return r;
}

/* Without a superblock the largest extent tells their size. */
static void guess_extent_size(struct salvage *s)
{
	uint8_t bits = 17;

	for (size_t k = 0; k < s->nr; k++)
		while (bits < 22 && s->found[k].raw_len > 1u << bits)
			bits++;
	s->f->super.extent_bits = bits;
}

/* ---- writing ---- */

static int decode(struct salvage *s, const struct found *e)
{
	struct bale_job job = { .op = BALE_JOB_DECODE,
				.codec = e->codec,
				.filter = e->filter,
				.src = s->stored,
				.src_len = e->stored_len,
				.dst = s->raw,
				.dst_cap = e->raw_len };
	int r;

	if (e->raw_len > BALE_EXTENT_MAX ||
	    e->stored_len > bale_codec_bound(BALE_EXTENT_MAX) ||
	    !bale_codec_known(e->codec, e->filter))
		return -EUCLEAN;
	r = use_segment(s, e->segment);
	if (!r)
		r = bale_raw_read(s->io, s->fd, s->stored, e->stored_len,
				  e->off);
	if (!r && bale_crc32c(0, s->stored, e->stored_len) != e->crc)
		r = -EBADMSG;
	if (r)
		return r;
	bale_codec_run(&job);
	return job.status;
}

static int write_extent(struct salvage *s, struct bale_inode *i,
			const struct found *e, bool *ret_bad)
{
	uint64_t off = e->extent_no << s->f->super.extent_bits;
	struct iovec v = { s->raw, e->raw_len };
	int r;

	if (e->extent_no > BALE_FILE_MAX >> s->f->super.extent_bits)
		r = -EUCLEAN;
	else
		r = decode(s, e);
	if (r) {
		printf("#%" PRIu64 ": bytes %" PRIu64 "-%" PRIu64 ": %s\n",
		       e->ino, off, off + e->raw_len - 1,
		       r == -EBADMSG ? "checksum mismatch" : "damaged");
		*ret_bad = true;
		return 0;
	}
	return bale_file_write(i, &v, 1, off, false, false);
}

static int save_file(struct salvage *s, size_t first, size_t end)
{
	const struct bale_cred cred = { .umask = 077 };
	struct bale_inode *i;
	bool bad = false;
	char name[64], damaged[80];
	int r;

	snprintf(name, sizeof(name), "#%" PRIu64, s->found[first].ino);
	r = bale_dir_create(s->dir, name, S_IFREG | 0600, 0, &cred, &i);
	if (r)
		return r;
	for (size_t k = first; k < end && !r; k++) {
		if (k > first &&
		    s->found[k].extent_no == s->found[k - 1].extent_no)
			continue; /* older */
		r = bale_fsck_step(s->f);
		if (!r)
			r = write_extent(s, i, &s->found[k], &bad);
	}
	bale_inode_put(i);
	if (!r && bad) {
		/* Its hole must not pass for data: the name says so. */
		snprintf(damaged, sizeof(damaged), "%s.damaged", name);
		r = bale_dir_rename(s->dir, name, s->dir, damaged, 0);
		s->bad++;
	}
	s->files++;
	return r;
}

static int save_all(struct salvage *s)
{
	size_t end;
	int r = 0;

	bale_fsck_phase(s->f, "files", s->nr);
	for (size_t k = 0; k < s->nr && !r; k = end) {
		for (end = k;
		     end < s->nr && s->found[end].ino == s->found[k].ino; end++)
			;
		r = save_file(s, k, end);
	}
	bale_fsck_phase_end(s->f);
	return r;
}

static int open_new(struct salvage *s, const char *path)
{
	const struct bale_super *old = &s->f->super;
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.extent_bits = old->extent_bits,
					.segment_bits = old->segment_bits,
					.log_bits = old->log_bits,
					.codec = old->codec,
					.level = old->level,
					.label = old->label };
	struct bale_fs_options o = { .size = sizeof(o) };
	const struct bale_cred cred = { .umask = 077 };
	struct bale_inode *root;
	int r = bale_store_mkfs(path, &mk);

	if (!r)
		r = bale_fs_open(path, &o, &s->fs);
	if (!r)
		r = bale_inode_get(s->fs, BALE_ROOT_INO, &root);
	if (r)
		return r;
	r = bale_dir_mkdir(root, "lost+found", 0700, &cred, &s->dir);
	bale_inode_put(root);
	return r;
}

static int save(struct salvage *s, const char *new_store)
{
	int r, c;

	s->stored = malloc(bale_codec_bound(BALE_EXTENT_MAX));
	s->raw = malloc(BALE_EXTENT_MAX);
	if (!s->stored || !s->raw)
		return -ENOMEM;
	r = open_new(s, new_store);
	if (r) {
		bale_cmd_error("%s: %s", new_store, bale_cmd_strerror(r));
	} else {
		r = save_all(s);
		bale_inode_put(s->dir);
	}
	c = s->fs ? bale_fs_close(s->fs) : 0;
	if (r || !c)
		return r;
	bale_cmd_error("%s: %s", new_store, strerror(-c));
	return c;
}

int bale_fsck_salvage(struct bale_fsck *f, const char *new_store)
{
	struct salvage s = { .f = f, .fd = -1 };
	int r = bale_io_open(f->path, true, &s.io);

	if (r) {
		bale_cmd_error("%s: %s", f->path, strerror(-r));
		return BALE_FSCK_ERROR;
	}
	bale_fsck_catch_signals();
	f->super.codec = BALE_CODEC_auto;
	if (bale_raw_super(s.io, &f->super))
		bale_cmd_error("%s: no superblock, sizes are guessed", f->path);
	r = find_all(&s);
	if (!r && !f->super.extent_bits)
		guess_extent_size(&s);
	if (!r && !s.nr) {
		bale_cmd_error("%s: no bale in any segment", f->path);
		r = -ENOENT;
	} else if (!r) {
		r = save(&s, new_store);
		printf("%s: %" PRIu64 " files in /lost+found of %s, %" PRIu64
		       " damaged\n",
		       f->path, s.files, new_store, s.bad);
	}
	if (s.fd >= 0)
		BALE_IO(s.io)->close(s.io, s.fd);
	bale_io_close(s.io);
	free(s.found);
	free(s.stored);
	free(s.raw);
	bale_fsck_fini(f);
	if (r)
		return r == -ECANCELED ? BALE_FSCK_CANCELLED : BALE_FSCK_ERROR;
	return BALE_FSCK_CORRECTED | (s.bad ? BALE_FSCK_UNCORRECTED : 0);
}
