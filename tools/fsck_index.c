/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_index.c - the index against the log. The store is opened twice, without
 * writing: once as it is, once with an index built from checkpoint and log
 * alone. Every table must have the same digest both times.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "fs/base/mem.h"
#include "fs/store/audit.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

typedef uint64_t digest[BALE_TABLE_NR][2];

static int digest_of(struct bale_fsck *f, bool untrusted, digest ret,
		     struct bale_meta_stats *ret_stats)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.manual_commit = true,
					.untrusted = untrusted };
	struct bale_store *st;
	int r = bale_store_open(f->path, &o, &st);
	int c;

	if (r)
		return r;
	bale_meta_stats(bale_store_meta(st), ret_stats);
	r = bale_meta_digest(bale_store_meta(st), ret);
	c = bale_store_close(st);
	return r ? r : c;
}

static bool is_damage(int r)
{
	return r == -EUCLEAN || r == -EBADMSG || r == -EIO || r == -EINVAL ||
	       r == -ENOENT;
}

/* Also when nothing may be written: the passes then use one built aside. */
static void distrust(struct bale_fsck *f, const char *why)
{
	/* The index may be deleted at any time, and on a full disk its first
	 * commit may never have found room: that is no damage. */
	if (strcmp(why, "missing") && strcmp(why, "unfinished"))
		bale_fsck_problem(f, BALE_FSCK_index, "index: %s", why);
	f->want_rebuild = true;
}

static void compare(struct bale_fsck *f, digest live, digest rebuilt)
{
	char why[80];

	for (unsigned int t = 0; t < BALE_TABLE_NR; t++)
		if (memcmp(live[t], rebuilt[t], sizeof(live[t]))) {
			snprintf(why, sizeof(why),
				 "table %s differs from what the log says",
				 bale_table_name(t));
			distrust(f, why);
		}
}

bool bale_fsck_index_sound(const struct bale_fsck *f, char *why, size_t cap)
{
	bale_autofree char *name = NULL;
	bale_autoclose int fd = -1;

	if (asprintf(&name, "%s/index/data.mdb", f->path) < 0)
		return false;
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		snprintf(why, cap, "%s",
			 errno == ENOENT ? "missing" : strerror(errno));
		return false;
	}
	return !bale_index_audit(fd, why, cap);
}

int bale_fsck_index(struct bale_fsck *f)
{
	struct bale_meta_stats s, rebuilt_stats;
	digest live, rebuilt;
	char why[128];
	bool sound = bale_fsck_index_sound(f, why, sizeof(why));
	int r = -EUCLEAN, again;

	bale_fsck_phase(f, "index", 0);
	if (sound) /* LMDB must not map what the audit refuses */
		r = digest_of(f, false, live, &s);
	if (r && !is_damage(r))
		return r;
	if (bale_fsck_cancelled())
		return -ECANCELED;
	again = digest_of(f, true, rebuilt, &rebuilt_stats);
	if (again && (r || !is_damage(again)))
		return again; /* neither: the log is to be cut, or --salvage */
	if (again) {
		/* A checkpoint of what the index has makes it whole again. */
		f->index_only = true;
		if (bale_fsck_problem(f, BALE_FSCK_checkpoint,
				      "the index is whole, but could not be "
				      "built again from checkpoint and log: %s",
				      strerror(-again)))
			f->want_checkpoint = true;
	} else if (!sound) {
		distrust(f, why);
	} else if (r) {
		distrust(f, r == -EBADMSG ? "checksum mismatch" : strerror(-r));
	} else if (s.index_rebuilt) {
		distrust(f, s.rebuild_reason);
	} else {
		compare(f, live, rebuilt);
	}
	return 0;
}
