/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_path.c - damaged files by the names that users know them by. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/mem.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

enum { DEPTH_MAX = 4096 };

static int by_place(const void *a, const void *b)
{
	const struct bale_fsck_damage *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->extent_no < y->extent_no ? -1 : x->extent_no > y->extent_no;
}

/* ---- directories above damaged files ---- */

/* One scan finds all of them: looking for one after the other would read a
 * large directory as often as it has others. */
struct dir_name {
	uint64_t ino;
	size_t at, len; /* in report.names */
};

struct report {
	struct bale_fsck *f;
	struct dir_name *dirs; /* by ascending number once found */
	size_t nr_dirs, cap_dirs;
	struct bale_buf names;
	uint64_t dir; /* whose path is in `path` */
	struct bale_buf path;
	size_t dir_len;
};

/* The directory of the name, when it is a damaged file's or leads to one. */
static int mark_dirs(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	struct report *p = arg;
	struct bale_fsck_inode *i;
	struct bale_disk_dirent d;
	be64 dir;
	int r = bale_fsck_step(p->f);

	if (r || bale_row_check(BALE_TABLE_dirent, key, key_len, val, val_len))
		return r;
	memcpy(&d, val, sizeof(d));
	memcpy(&dir, key, sizeof(dir));
	i = bale_fsck_inode(p->f, le64_get(d.ino));
	if (!i || !(i->state & BALE_FSCK_DAMAGED))
		return 0;
	i = bale_fsck_inode(p->f, be64_get(dir));
	while (i && !i->named) { /* rings too come to an end */
		i->named = true;
		i = i->parent ? bale_fsck_inode(p->f, i->parent) : NULL;
	}
	return 0;
}

static int note_dir(const void *key, size_t key_len, const void *val,
		    size_t val_len, void *arg)
{
	struct report *p = arg;
	const struct bale_fsck_inode *i;
	struct bale_disk_dirent d;
	struct dir_name *n;
	be64 dir;
	int r = bale_fsck_step(p->f);

	if (r || bale_row_check(BALE_TABLE_dirent, key, key_len, val, val_len))
		return r;
	memcpy(&d, val, sizeof(d));
	memcpy(&dir, key, sizeof(dir));
	i = bale_fsck_inode(p->f, le64_get(d.ino));
	if (!i || !i->named || i->parent != be64_get(dir))
		return 0;
	if (p->nr_dirs == p->cap_dirs) {
		size_t cap = p->cap_dirs ? p->cap_dirs * 2 : 64;

		n = reallocarray(p->dirs, cap, sizeof(*n));
		if (!n)
			return -ENOMEM;
		p->dirs = n;
		p->cap_dirs = cap;
	}
	p->dirs[p->nr_dirs++] = (struct dir_name){ .ino = i->ino,
						   .at = p->names.len,
						   .len = key_len - 8 };
	return bale_buf_append(&p->names, (const uint8_t *)key + 8,
			       key_len - 8);
}

static int by_ino(const void *a, const void *b)
{
	const struct dir_name *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static int find_dirs(struct report *p)
{
	struct bale_meta *m = p->f->m;
	int r = bale_meta_scan(m, BALE_TABLE_dirent, "", 0, 0, mark_dirs, p);

	if (!r)
		r = bale_meta_scan(m, BALE_TABLE_dirent, "", 0, 0, note_dir, p);
	if (p->nr_dirs)
		qsort(p->dirs, p->nr_dirs, sizeof(*p->dirs), by_ino);
	return r;
}

/* "/a/b" of a directory, "" of the root; "..." in front of what is unknown. */
static int dir_path(struct report *p, uint64_t ino, struct bale_buf *ret)
{
	struct bale_buf turned = { 0 };
	int r = 0;

	for (int depth = 0; ino != BALE_ROOT_INO && !r; depth++) {
		const struct bale_fsck_inode *i = bale_fsck_inode(p->f, ino);
		struct dir_name want = { .ino = ino }, *n;
		const uint8_t *name = (const uint8_t *)"?";
		size_t len = 1;

		if (!i || !i->parent || depth == DEPTH_MAX) {
			r = bale_buf_append(&turned, "...", 3);
			break;
		}
		n = p->nr_dirs ? bsearch(&want, p->dirs, p->nr_dirs,
					 sizeof(want), by_ino) :
				 NULL;
		if (n) {
			name = p->names.data + n->at;
			len = n->len;
		}
		/* Backwards, to be turned as a whole at the end. */
		r = bale_buf_reserve(&turned, len + 1);
		while (len && !r)
			turned.data[turned.len++] = name[--len];
		if (!r)
			turned.data[turned.len++] = '/';
		ino = i->parent;
	}
	ret->len = 0;
	if (!r)
		r = bale_buf_reserve(ret, turned.len + 1);
	for (size_t n = turned.len; n && !r; n--)
		ret->data[ret->len++] = turned.data[n - 1];
	bale_buf_fini(&turned);
	return r;
}

/* ---- names of damaged inodes ---- */

static void damage_range(const struct bale_fsck *f, uint64_t ino,
			 size_t *ret_at, size_t *ret_nr)
{
	struct bale_fsck_damage want = { .ino = ino };
	size_t lo = 0, hi = f->nr_damage;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (by_place(&f->damage[mid], &want) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_at = lo;
	for (hi = lo; hi < f->nr_damage && f->damage[hi].ino == ino; hi++)
		;
	*ret_nr = hi - lo;
}

/* Ranges of extents as byte ranges, neighbours joined. */
static void print_ranges(struct bale_fsck *f, uint64_t ino)
{
	size_t at, nr, told = 0;
	unsigned int bits = f->super.extent_bits;

	damage_range(f, ino, &at, &nr);
	for (size_t k = at; k < at + nr;) {
		uint64_t first = f->damage[k].extent_no, end = first + 1;

		while (++k < at + nr && f->damage[k].extent_no <= end)
			end = f->damage[k].extent_no + 1;
		if (f->json) {
			bale_json_array(&f->js, NULL);
			bale_json_u64(&f->js, NULL, first << bits);
			bale_json_u64(&f->js, NULL, (end - first) << bits);
			bale_json_end(&f->js);
		} else if (told++ < 8) {
			printf("%s%" PRIu64 "-%" PRIu64, told == 1 ? " " : ", ",
			       first << bits, (end << bits) - 1);
		} else if (told == 9) {
			printf(", ...");
		}
	}
}

static void print_file(struct bale_fsck *f, uint64_t ino, const char *path,
		       size_t len)
{
	if (!f->json) {
		printf("damaged file: ");
		bale_print_name(stdout, path, len);
		printf(": bytes");
		print_ranges(f, ino);
		putchar('\n');
		return;
	}
	bale_json_object(&f->js, NULL);
	bale_json_bytes(&f->js, "path", path, len);
	bale_json_u64(&f->js, "ino", ino);
	bale_json_array(&f->js, "ranges");
	print_ranges(f, ino);
	bale_json_end(&f->js);
	bale_json_end(&f->js);
}

static int check_name(const void *key, size_t key_len, const void *val,
		      size_t val_len, void *arg)
{
	struct report *p = arg;
	const struct bale_fsck_inode *i;
	struct bale_disk_dirent d;
	be64 dir;
	int r = bale_fsck_step(p->f);

	if (r || bale_row_check(BALE_TABLE_dirent, key, key_len, val, val_len))
		return r;
	memcpy(&d, val, sizeof(d));
	i = bale_fsck_inode(p->f, le64_get(d.ino));
	if (!i || !(i->state & BALE_FSCK_DAMAGED))
		return 0;
	memcpy(&dir, key, sizeof(dir));
	if (be64_get(dir) != p->dir) {
		r = dir_path(p, be64_get(dir), &p->path);
		if (r)
			return r;
		p->dir = be64_get(dir);
		p->dir_len = p->path.len;
	}
	p->path.len = p->dir_len;
	r = bale_buf_append(&p->path, "/", 1);
	if (!r)
		r = bale_buf_append(&p->path, (const uint8_t *)key + 8,
				    key_len - 8);
	if (!r)
		print_file(p->f, i->ino, (const char *)p->path.data,
			   p->path.len);
	return r;
}

int bale_fsck_report_damage(struct bale_fsck *f)
{
	struct report p = { .f = f };
	char name[32];
	int r;

	if (!f->nr_damage)
		return 0;
	qsort(f->damage, f->nr_damage, sizeof(*f->damage), by_place);
	bale_fsck_phase(f, "names of damaged files", 0);
	r = find_dirs(&p);
	if (!r)
		r = bale_meta_scan(f->m, BALE_TABLE_dirent, "", 0, 0,
				   check_name, &p);
	bale_fsck_phase_end(f);
	bale_buf_fini(&p.path);
	bale_buf_fini(&p.names);
	free(p.dirs);
	for (size_t k = 0; k < f->nr_inodes && !r; k++) {
		const struct bale_fsck_inode *i = &f->inodes[k];

		if (i->state & BALE_FSCK_DAMAGED && !i->links) {
			int len = snprintf(name, sizeof(name), "#%" PRIu64,
					   i->ino);

			print_file(f, i->ino, name, (size_t)len);
		}
	}
	if (f->damage_cut)
		bale_cmd_error("%s: more damaged ranges than are told here",
			       f->path);
	return r;
}
