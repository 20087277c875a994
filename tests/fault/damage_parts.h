/* SPDX-License-Identifier: Apache-2.0 */
/*
 * damage_parts.h - where the records of a store's files are, by kind, and
 * the ways of damaging them.
 */
#ifndef BALE_TESTS_DAMAGE_PARTS_H
#define BALE_TESTS_DAMAGE_PARTS_H

#include "damage.h"

#define DM_KINDS(X)                                                            \
	X(super, "one superblock")                                             \
	X(supers, "both superblocks")                                          \
	X(log_head, "log record header")                                       \
	X(log_body, "log record body")                                         \
	X(log_last, "last log record")                                         \
	X(log_tail, "log behind its end")                                      \
	X(log_file, "log file, whole")                                         \
	X(ckpt_head, "checkpoint header")                                      \
	X(ckpt_chunk, "checkpoint chunk")                                      \
	X(ckpt_end, "checkpoint footer")                                       \
	X(ckpt_file, "checkpoint, whole")                                      \
	X(bale_head, "bale header")                                            \
	X(bale_desc, "bale descriptors")                                       \
	X(payload, "stored bytes")                                             \
	X(seg_file, "segment, whole")                                          \
	X(index, "index page")                                                 \
	X(index_rot, "index page, mark kept")                                  \
	X(index_file, "index file, whole")                                     \
	X(mark, "index mark")                                                  \
	X(other, "lock, spare, reserve")

enum dm_kind {
#define X(name, text) DM_##name,
	DM_KINDS(X)
#undef X
		DM_NR_KINDS,
};

struct dm_part {
	enum dm_kind kind;
	unsigned int file; /* in the image */
	size_t off, len;
	uint64_t ino[64]; /* payload: whose */
	unsigned int nr_ino;
};
struct dm_parts {
	struct dm_part *p;
	size_t nr, cap;
};
/* Everything that the image holds. */
void dm_parts_find(struct dm_parts *ps, struct dm_image *m);

/* Damage one part of this kind in the image; false: there is none. The stale
 * image gives old versions of whole files. label: what was done, for people.
 * *ret: the part; *ret_spills: more of the file than that is changed. */
bool dm_damage(struct dm_image *m, const struct dm_parts *ps,
	       const struct dm_image *stale, enum dm_kind kind, uint64_t *rng,
	       const struct dm_part **ret, bool *ret_spills, char label[160]);

uint64_t dm_draw(uint64_t *rng, uint64_t n);

#endif
