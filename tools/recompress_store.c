/* SPDX-License-Identifier: Apache-2.0 */
/* recompress_store.c - recompress in a store that is not mounted. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/mem.h"
#include "fs/inode/inode.h"
#include "tools/cmd.h"
#include "tools/lookup.h"
#include "tools/recompress.h"

/* Inode numbers yet to be looked at: of the directory that is scanned, then
 * below. Depth first, so that no more than the siblings on the path wait. */
struct todo {
	uint64_t *ino;
	size_t nr, cap;
};

static int push(struct todo *t, uint64_t ino)
{
	if (t->nr == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 256;
		uint64_t *p = reallocarray(t->ino, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		t->ino = p;
		t->cap = cap;
	}
	t->ino[t->nr++] = ino;
	return 0;
}

static int push_name(const struct bale_dir_entry *e, void *arg)
{
	bool dots =
		e->name[0] == '.' &&
		(e->name_len == 1 || (e->name_len == 2 && e->name[1] == '.'));

	return !dots && (e->type == DT_DIR || e->type == DT_REG) ?
		       push(arg, e->ino) :
		       0;
}

static int one_inode(struct bale_fs *fs, uint64_t ino, struct todo *t,
		     struct bale_recompress *run)
{
	struct bale_inode_row row;
	uint64_t before, after;
	struct bale_inode *i;
	int r = bale_inode_get(fs, ino, &i);

	if (r)
		return r;
	bale_inode_attr(i, &row);
	if (S_ISDIR(row.mode)) {
		r = bale_dir_read(i, 0, push_name, t);
	} else if (S_ISREG(row.mode)) {
		r = bale_file_recompress(i, run->policy, &before, &after);
		if (!r) {
			run->files++;
			run->before += before;
			run->after += after;
		}
		if (!r && run->verbose)
			printf("inode %" PRIu64 ": %" PRIu64 " -> %" PRIu64
			       "\n",
			       ino, before, after);
	}
	bale_inode_put(i);
	return r;
}

static int one_path(struct bale_fs *fs, const char *path,
		    struct bale_recompress *run)
{
	struct todo t = { 0 };
	uint64_t ino;
	int r = bale_path_to_ino(bale_fs_meta(fs), path, &ino);

	if (!r)
		r = push(&t, ino);
	while (!r && t.nr && !bale_recompress_stopped()) {
		int e = one_inode(fs, t.ino[--t.nr], &t, run);

		if (e == -ENOMEM || e == -EROFS)
			r = e;
		else if (e) /* one damaged file is no reason to stop */
			bale_recompress_failed(run, path, -e);
	}
	free(t.ino);
	if (r)
		bale_recompress_failed(run, path, -r);
	return r == -ENOENT ? 0 : r;
}

int bale_recompress_store(const char *store, char **paths, int nr,
			  struct bale_recompress *run)
{
	struct bale_fs_options o = { .size = sizeof(o), .gpu = run->gpu };
	struct bale_fs *fs;
	char holder[128];
	int r, c;

	if (!bale_store_holder(store, holder, sizeof(holder))) {
		bale_cmd_error("%s: in use by %s: give paths on its mount",
			       store, holder);
		return -EBUSY;
	}
	r = bale_fs_open(store, &o, &fs);
	if (r) {
		bale_cmd_error("%s: %s", store, bale_cmd_strerror(r));
		return r;
	}
	for (int k = 0; k < nr && !r; k++)
		r = one_path(fs, paths[k], run);
	c = bale_fs_close(fs);
	if (c)
		bale_cmd_error("%s: %s", store, strerror(-c));
	return r ? r : c;
}
