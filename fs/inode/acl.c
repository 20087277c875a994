/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acl.c - POSIX access and default ACLs: the xattr's bytes to a checked array
 * and back, and the three ways in which they and the mode bits meet (setting,
 * chmod, creation). Pure, except for bale_acl_stage_chmod().
 */
#include "fs/inode/names_internal.h"

/* The xattr: le32 version, then entries of le16 tag, le16 perm, le32 id. */
enum { ACL_VERSION = 2, ACL_HEADER = 4, ACL_ENTRY = 8, PERM_ALL = 7 };

static struct bale_acl_entry decode_entry(const uint8_t *p)
{
	struct bale_acl_entry e;
	le16 tag, perm;
	le32 id;

	memcpy(&tag, p, sizeof(tag));
	memcpy(&perm, p + 2, sizeof(perm));
	memcpy(&id, p + 4, sizeof(id));
	e.tag = le16_get(tag);
	e.perm = le16_get(perm);
	e.id = le32_get(id);
	return e;
}

/* Owner, users, group, groups, mask, others: in this order; a mask when there
 * are named ones. */
static int check(const struct bale_acl *a)
{
	unsigned int need = BALE_ACL_USER_OBJ;
	bool named = false;

	for (size_t k = 0; k < a->nr; k++) {
		const struct bale_acl_entry *e = &a->e[k];

		if (e->perm & ~PERM_ALL || !(e->tag & need))
			return -EINVAL;
		switch (e->tag) {
		case BALE_ACL_USER_OBJ:
			need = BALE_ACL_USER | BALE_ACL_GROUP_OBJ;
			break;
		case BALE_ACL_USER:
		case BALE_ACL_GROUP:
			if (e->id == UINT32_MAX)
				return -EINVAL;
			named = true;
			break;
		case BALE_ACL_GROUP_OBJ:
			need = BALE_ACL_GROUP | BALE_ACL_MASK | BALE_ACL_OTHER;
			break;
		case BALE_ACL_MASK:
			need = BALE_ACL_OTHER;
			named = false;
			break;
		case BALE_ACL_OTHER:
			need = 0;
			if (named)
				return -EINVAL;
			break;
		default: /* several tags in one */
			return -EINVAL;
		}
	}
	return need ? -EINVAL : 0;
}

int bale_acl_decode(const void *val, size_t len, struct bale_acl **ret)
{
	const uint8_t *p = val;
	struct bale_acl *a;
	le32 version;
	size_t nr;
	int r;

	if (len < ACL_HEADER || (len - ACL_HEADER) % ACL_ENTRY)
		return -EINVAL;
	memcpy(&version, p, sizeof(version));
	if (le32_get(version) != ACL_VERSION)
		return -EOPNOTSUPP;
	nr = (len - ACL_HEADER) / ACL_ENTRY;
	if (!nr) {
		*ret = NULL;
		return 0;
	}
	a = malloc(sizeof(*a) + nr * sizeof(a->e[0]));
	if (!a)
		return -ENOMEM;
	a->nr = nr;
	for (size_t k = 0; k < nr; k++)
		a->e[k] = decode_entry(p + ACL_HEADER + k * ACL_ENTRY);
	r = check(a);
	if (r)
		free(a);
	else
		*ret = a;
	return r;
}

size_t bale_acl_encoded_len(const struct bale_acl *a)
{
	return ACL_HEADER + a->nr * ACL_ENTRY;
}

void bale_acl_encode(const struct bale_acl *a, void *buf)
{
	le32 version = le32_put(ACL_VERSION);
	uint8_t *p = buf;

	memcpy(p, &version, sizeof(version));
	p += ACL_HEADER;
	for (size_t k = 0; k < a->nr; k++, p += ACL_ENTRY) {
		const struct bale_acl_entry *e = &a->e[k];
		bool named = e->tag & (BALE_ACL_USER | BALE_ACL_GROUP);
		le16 tag = le16_put(e->tag), perm = le16_put(e->perm);
		le32 id = le32_put(named ? e->id : UINT32_MAX);

		memcpy(p, &tag, sizeof(tag));
		memcpy(p + 2, &perm, sizeof(perm));
		memcpy(p + 4, &id, sizeof(id));
	}
}

/* The three entries that the mode shows; group: the mask if there is one. */
struct obj {
	struct bale_acl_entry *user, *group, *other;
	bool exact;
};

static struct obj find_obj(struct bale_acl *a)
{
	struct obj o = { .exact = true };

	for (size_t k = 0; k < a->nr; k++) {
		struct bale_acl_entry *e = &a->e[k];

		if (e->tag == BALE_ACL_USER_OBJ)
			o.user = e;
		else if (e->tag == BALE_ACL_OTHER)
			o.other = e;
		else if (e->tag == BALE_ACL_GROUP_OBJ && !o.group)
			o.group = e;
		else if (e->tag == BALE_ACL_MASK)
			o.group = e;
		o.exact = o.exact && !(e->tag & (BALE_ACL_USER |
						 BALE_ACL_GROUP |
						 BALE_ACL_MASK));
	}
	return o;
}

uint32_t bale_acl_mode(const struct bale_acl *a, bool *ret_exact)
{
	struct obj o = find_obj((struct bale_acl *)a);

	*ret_exact = o.exact;
	return (uint32_t)(o.user->perm << 6 | o.group->perm << 3 |
			  o.other->perm);
}

void bale_acl_chmod(struct bale_acl *a, uint32_t mode)
{
	struct obj o = find_obj(a);

	o.user->perm = mode >> 6 & PERM_ALL;
	o.group->perm = mode >> 3 & PERM_ALL;
	o.other->perm = mode & PERM_ALL;
}

void bale_acl_create(struct bale_acl *a, uint32_t *mode, bool *ret_exact)
{
	struct obj o = find_obj(a);

	o.user->perm &= *mode >> 6;
	o.group->perm &= *mode >> 3;
	o.other->perm &= *mode;
	*mode = (*mode & ~(uint32_t)0777) | bale_acl_mode(a, ret_exact);
}

int bale_acl_stage_chmod(struct bale_inode *i, uint32_t mode,
			 struct bale_txn *t)
{
	bale_autofree void *val = NULL;
	struct bale_acl *a;
	size_t len;
	int r;

	if (!(i->row.flags & BALE_INODE_HAS_ACL))
		return 0;
	r = bale_xattr_load(i, BALE_ACL_ACCESS, &val, &len);
	if (r)
		return r == -ENODATA ? 0 : r;
	r = bale_acl_decode(val, len, &a);
	if (r || !a)
		return r ? -EUCLEAN : 0;
	bale_acl_chmod(a, mode);
	bale_acl_encode(a, val); /* as long as it was */
	free(a);
	bale_xattr_stage(t, i->ino, BALE_ACL_ACCESS, val, len);
	return 0;
}
