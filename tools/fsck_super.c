/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_super.c - the two copies of the superblock, and bad checkpoints. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/fsck.h"

static const char *const copy_names[2] = { "super.0", "super.1" };

static int read_copy(struct bale_io *io, int copy, struct bale_super *ret)
{
	struct bale_disk_super d;
	size_t len;
	int r = bale_io_read_file(io, copy_names[copy], &d, sizeof(d), &len);

	return r ? r : bale_super_decode(&d, len, ret);
}

int bale_fsck_super(struct bale_fsck *f, struct bale_io *io)
{
	struct bale_super s[2];
	int r[2], best, other;

	for (int k = 0; k < 2; k++)
		r[k] = read_copy(io, k, &s[k]);
	best = !r[0] && (r[1] || s[0].seq >= s[1].seq) ? 0 : 1;
	other = 1 - best;
	if (r[best])
		return r[0] == -EOPNOTSUPP || r[0] == -EACCES ? r[0] : r[1];
	f->super = s[best];
	if (bale_super_features(&f->super, f->preen || f->yes, &f->newer))
		return -EOPNOTSUPP;
	if (r[other])
		f->super_mend[other] = bale_fsck_problem(
			f, BALE_FSCK_super_copy, "%s: %s; %s is good",
			copy_names[other],
			r[other] == -ENOENT  ? "missing" :
			r[other] == -EBADMSG ? "checksum mismatch" :
					       "damaged",
			copy_names[best]);
	else if (memcmp(&s[0].uuid, &s[1].uuid, 16) || s[0].seq != s[1].seq)
		f->super_mend[other] =
			bale_fsck_problem(f, BALE_FSCK_super_copy,
					  "%s: older than or different from %s",
					  copy_names[other], copy_names[best]);
	return 0;
}

int bale_fsck_super_mend(struct bale_fsck *f)
{
	struct bale_disk_super d;
	int r = 0;

	bale_super_encode(&f->super, &d);
	for (int k = 0; k < 2 && !r; k++)
		if (f->super_mend[k])
			r = bale_io_replace_file(bale_store_io(f->st),
						 copy_names[k], &d, sizeof(d));
	if (r)
		bale_cmd_error("%s: superblock copy: %s", f->path,
			       strerror(-r));
	return r;
}

int bale_fsck_bad_ckpt(struct bale_fsck *f, uint64_t number)
{
	uint64_t *p =
		reallocarray(f->bad_ckpts, f->nr_bad_ckpts + 1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	f->bad_ckpts = p;
	p[f->nr_bad_ckpts++] = number;
	return 0;
}

int bale_fsck_drop_ckpts(struct bale_fsck *f)
{
	struct bale_io *io = bale_store_io(f->st);
	char name[32];
	int r = 0;

	for (size_t k = 0; k < f->nr_bad_ckpts && !r; k++) {
		snprintf(name, sizeof(name), "ckpt/%016" PRIx64,
			 f->bad_ckpts[k]);
		r = BALE_IO(io)->unlink(io, name);
		if (r == -ENOENT) /* the store has dropped it itself */
			r = 0;
	}
	return r || !f->nr_bad_ckpts ? r : BALE_IO(io)->sync_dir(io, "ckpt");
}
