/* SPDX-License-Identifier: Apache-2.0 */
/* damage_parts.c - see damage_parts.h. */
#include "damage_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/format/format.h"

uint64_t dm_draw(uint64_t *rng, uint64_t n)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return n ? (*rng * 0x2545f4914f6cdd1du >> 11) % n : 0;
}

/* ---- finding ---- */

static struct dm_part *add(struct dm_parts *ps, enum dm_kind kind,
			   unsigned int file, size_t off, size_t len)
{
	if (ps->nr == ps->cap) {
		ps->cap = ps->cap ? 2 * ps->cap : 256;
		ps->p = realloc(ps->p, ps->cap * sizeof(*ps->p));
		if (!ps->p)
			exit(1);
	}
	ps->p[ps->nr] = (struct dm_part){
		.kind = kind, .file = file, .off = off, .len = len
	};
	return &ps->p[ps->nr++];
}

static void note_owner(struct dm_part *p, uint64_t ino)
{
	for (unsigned int k = 0; k < p->nr_ino; k++)
		if (p->ino[k] == ino)
			return;
	if (p->nr_ino < 64)
		p->ino[p->nr_ino++] = ino;
}

/* One bale; where the next one can begin. */
static size_t find_bale(struct dm_parts *ps, unsigned int file,
			const struct dm_file *f, size_t off,
			const uint8_t uuid[16])
{
	const struct bale_disk_bale_extent *d;
	struct dm_part *desc, *one;
	struct bale_bale_info info;
	size_t head, at;

	if (bale_bale_peek(f->data + off, f->len - off, uuid, &info, &head) ||
	    head > f->len - off)
		return off + BALE_ALIGN;
	add(ps, DM_bale_head, file, off, sizeof(struct bale_disk_bale));
	at = off + sizeof(struct bale_disk_bale);
	desc = add(ps, DM_bale_desc, file, at,
		   head - sizeof(struct bale_disk_bale));
	for (uint32_t k = 0; k < info.nr_extents; k++) {
		d = (const void *)(f->data + at +
				   k * sizeof(struct bale_disk_bale_extent));
		note_owner(desc, le64_get(d->ino));
	}
	head += off;
	for (uint32_t k = 0; k < info.nr_extents; k++) {
		d = (const void *)(f->data + at +
				   k * sizeof(struct bale_disk_bale_extent));
		one = add(ps, DM_payload, file, head, le32_get(d->stored_len));
		note_owner(one, le64_get(d->ino));
		head += le32_get(d->stored_len);
	}
	return (head + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
}

static void find_log(struct dm_parts *ps, unsigned int file,
		     const struct dm_file *f, const uint8_t uuid[16])
{
	struct bale_log_info info;
	size_t off = 0, end = 0;

	while (off + sizeof(struct bale_disk_log) <= f->len) {
		if (bale_log_decode(f->data + off, f->len - off, uuid, &info)) {
			off += BALE_ALIGN;
			continue;
		}
		add(ps, DM_log_head, file, off, sizeof(struct bale_disk_log));
		if (info.body_len)
			add(ps, DM_log_body, file,
			    off + sizeof(struct bale_disk_log), info.body_len);
		off += sizeof(struct bale_disk_log) + info.body_len;
		off = (off + BALE_ALIGN - 1) / BALE_ALIGN * BALE_ALIGN;
		end = off;
	}
	if (end < f->len)
		add(ps, DM_log_tail, file, end, f->len - end);
}

static void find_ckpt(struct dm_parts *ps, unsigned int file,
		      const struct dm_file *f)
{
	size_t off = sizeof(struct bale_disk_ckpt);
	size_t end = f->len - sizeof(struct bale_disk_ckpt_end);

	add(ps, DM_ckpt_head, file, 0, off);
	add(ps, DM_ckpt_end, file, end, f->len - end);
	while (off + 8 <= end) {
		le32 len;

		memcpy(&len, f->data + off, sizeof(len));
		add(ps, DM_ckpt_chunk, file, off, 8 + le32_get(len));
		off += 8 + le32_get(len);
	}
}

/* The record with the highest sequence number gets a kind of its own. */
static void mark_last(struct dm_parts *ps, const struct dm_image *m)
{
	uint64_t best = 0, seq;
	size_t last = 0;

	for (size_t k = 0; k < ps->nr; k++) {
		struct bale_disk_log d;

		if (ps->p[k].kind != DM_log_head)
			continue;
		memcpy(&d, m->file[ps->p[k].file].data + ps->p[k].off,
		       sizeof(d));
		seq = le64_get(d.seq);
		if (seq > best) {
			best = seq;
			last = k;
		}
	}
	ps->p[last].kind = DM_log_last;
	if (last + 1 < ps->nr && ps->p[last + 1].kind == DM_log_body)
		ps->p[last + 1].kind = DM_log_last;
}

void dm_parts_find(struct dm_parts *ps, struct dm_image *m)
{
	const uint8_t *uuid = dm_image_find(m, "super.0")->data + 16;

	*ps = (struct dm_parts){ 0 };
	for (unsigned int k = 0; k < m->nr; k++) {
		const struct dm_file *f = &m->file[k];
		const char *n = f->name;
		bool number = strlen(n) > 16 && f->len;

		if (!strncmp(n, "super.", 6)) {
			add(ps, DM_super, k, 0, f->len);
			add(ps, DM_supers, k, 0, f->len);
		} else if (!strncmp(n, "log/0", 5) && number) {
			find_log(ps, k, f, uuid);
			add(ps, DM_log_file, k, 0, f->len);
		} else if (!strncmp(n, "ckpt/0", 6) && number) {
			find_ckpt(ps, k, f);
			add(ps, DM_ckpt_file, k, 0, f->len);
		} else if (!strncmp(n, "seg/", 4) && number) {
			for (size_t off = 0; off + BALE_ALIGN <= f->len;)
				off = find_bale(ps, k, f, off, uuid);
			add(ps, DM_seg_file, k, 0, f->len);
		} else if (!strcmp(n, "index/data.mdb")) {
			for (size_t off = 0; off < f->len; off += 4096) {
				add(ps, DM_index, k, off, 4096);
				add(ps, DM_index_rot, k, off, 4096);
			}
			add(ps, DM_index_file, k, 0, f->len);
		} else if (!strcmp(n, "index/clean")) {
			add(ps, DM_mark, k, 0, f->len);
		} else if (f->len) {
			add(ps, DM_other, k, 0, f->len);
		}
	}
	mark_last(ps, m);
}

/* ---- damaging ---- */

enum op {
	OP_FLIP,
	OP_ZERO,
	OP_RANDOM,
	OP_DUPLICATE,
	OP_SWAP,
	OP_MISPLACE,
	OP_SHIFT,
	OP_TRUNCATE,
	NR_OPS,
	/* whole files */
	OP_REMOVE = NR_OPS,
	OP_EMPTY,
	OP_EXCHANGE,
	OP_COPY_OVER,
	OP_EXTRA,
	OP_STALE,
	NR_ALL_OPS,
};
static const char *const op_names[] = {
	"flip",	    "zero",	 "random",   "duplicate", "swap",
	"misplace", "shift",	 "truncate", "remove",	  "empty",
	"exchange", "copy over", "extra",    "stale",
};

static const struct dm_part *pick(const struct dm_parts *ps, enum dm_kind kind,
				  uint64_t *rng)
{
	size_t nr = 0, want;

	for (size_t k = 0; k < ps->nr; k++)
		nr += ps->p[k].kind == kind;
	if (!nr)
		return NULL;
	want = dm_draw(rng, nr);
	for (size_t k = 0;; k++)
		if (ps->p[k].kind == kind && !want--)
			return &ps->p[k];
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t len)
{
	for (size_t k = 0; k < len; k++) {
		uint8_t t = a[k];

		a[k] = b[k];
		b[k] = t;
	}
}

/* Inside a file; p: the part, q: another of its kind. */
static void damage_bytes(struct dm_image *m, enum op op,
			 const struct dm_part *p, const struct dm_part *q,
			 uint64_t *rng)
{
	struct dm_file *f = &m->file[p->file], *g = &m->file[q->file];
	uint8_t *at = f->data + p->off, *to = g->data + q->off;
	size_t len = p->len < q->len ? p->len : q->len, n, k;

	switch (op) {
	case OP_FLIP:
		at[dm_draw(rng, p->len)] ^= (uint8_t)(1 << dm_draw(rng, 8));
		break;
	case OP_ZERO:
		memset(at, 0, p->len);
		break;
	case OP_RANDOM:
		k = dm_draw(rng, p->len);
		n = 1 + dm_draw(rng, p->len - k < 600 ? p->len - k : 600);
		for (; n && k < p->len; n--)
			at[k++] = (uint8_t)dm_draw(rng, 256);
		break;
	case OP_DUPLICATE:
		memmove(to, at, len);
		break;
	case OP_SWAP:
		if (p != q)
			swap_bytes(at, to, len);
		break;
	case OP_MISPLACE:
		n = dm_draw(rng, f->len / BALE_ALIGN) * BALE_ALIGN;
		len = f->len - n < p->len ? f->len - n : p->len;
		memmove(f->data + n, at, len);
		if (n >= p->off + p->len || n + len <= p->off)
			memset(at, 0, p->len);
		break;
	case OP_SHIFT:
		n = f->len - p->off;
		len = n < BALE_ALIGN ? n : BALE_ALIGN;
		if (dm_draw(rng, 2)) {
			memmove(at + len, at, n - len);
			memset(at, 0, len);
		} else {
			memmove(at, at + len, n - len);
			memset(at + n - len, 0, len);
		}
		break;
	default:
		f->len = p->off + dm_draw(rng, p->len);
		break;
	}
}

static void replace_data(struct dm_file *to, const struct dm_file *from)
{
	uint8_t *copy = malloc(from->len + 1);

	if (!copy)
		exit(1);
	memcpy(copy, from->data, from->len);
	free(to->data);
	to->data = copy;
	to->len = from->len;
}

/* A number that no file of that folder has. */
static void new_name(const char *old, char name[40], uint64_t *rng)
{
	const char *slash = strchr(old, '/');

	snprintf(name, 40, "%.*s%016llx", slash ? (int)(slash - old) + 1 : 0,
		 old,
		 (unsigned long long)(dm_draw(rng, 2) ? dm_draw(rng, 1u << 31) :
							dm_draw(rng, 64)));
}

static bool damage_file(struct dm_image *m, enum op op, const struct dm_part *p,
			const struct dm_part *q, const struct dm_image *stale,
			uint64_t *rng)
{
	struct dm_file *f = &m->file[p->file], *g = &m->file[q->file], t;
	struct dm_file *old = dm_image_find((struct dm_image *)stale, f->name);

	switch (op) {
	case OP_REMOVE:
		free(f->data);
		*f = m->file[--m->nr];
		break;
	case OP_EMPTY:
		f->len = 0;
		break;
	case OP_EXCHANGE:
		if (f == g)
			return false;
		t = *f;
		f->data = g->data;
		f->len = g->len;
		g->data = t.data;
		g->len = t.len;
		break;
	case OP_COPY_OVER:
		if (f == g)
			return false;
		replace_data(g, f);
		break;
	case OP_EXTRA:
		if (m->nr == 48)
			return false;
		new_name(f->name, t.name, rng);
		if (dm_image_find(m, t.name))
			return false;
		m->file[m->nr] = t;
		m->file[m->nr].data = NULL;
		replace_data(&m->file[m->nr++], f);
		break;
	default:
		if (!old)
			return false;
		replace_data(f, old);
		break;
	}
	return true;
}

static bool is_whole(enum dm_kind k)
{
	return k == DM_log_file || k == DM_ckpt_file || k == DM_seg_file ||
	       k == DM_index_file;
}

bool dm_damage(struct dm_image *m, const struct dm_parts *ps,
	       const struct dm_image *stale, enum dm_kind kind, uint64_t *rng,
	       const struct dm_part **ret, bool *ret_spills, char label[160])
{
	const struct dm_part *p = pick(ps, kind, rng), *q;
	enum op op;

	if (!p)
		return false;
	q = pick(ps, kind, rng);
	*ret = p;
	if (is_whole(kind))
		op = NR_OPS + dm_draw(rng, NR_ALL_OPS - NR_OPS);
	else
		op = dm_draw(rng, NR_OPS);
	*ret_spills = op == OP_MISPLACE || op == OP_SHIFT || op == OP_TRUNCATE;
	snprintf(label, 160, "%s %s+%zu (%zu bytes), other %s+%zu",
		 op_names[op], m->file[p->file].name, p->off, p->len,
		 m->file[q->file].name, q->off);
	if (is_whole(kind))
		return damage_file(m, op, p, q, stale, rng);
	if (kind == DM_supers) {
		for (size_t k = 0; k < ps->nr; k++)
			if (ps->p[k].kind == kind)
				damage_bytes(m,
					     op == OP_MISPLACE ? OP_ZERO : op,
					     &ps->p[k], &ps->p[k], rng);
		return true;
	}
	damage_bytes(m, op, p, q, rng);
	return true;
}
