/* SPDX-License-Identifier: Apache-2.0 */
/* One line per structure, for dump and for messages. Input was checked. */
#include "fs/format/format.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

static const char *const table_names[BALE_TABLE_NR] = {
#define X(id, name) [id] = #name,
	BALE_TABLES(X)
#undef X
};

const char *bale_table_name(unsigned int table)
{
	return table < BALE_TABLE_NR ? table_names[table] : "?";
}

static void put_bytes(FILE *f, const uint8_t *p, size_t len)
{
	fputc('"', f);
	for (size_t i = 0; i < len; i++)
		if (isprint(p[i]) && p[i] != '"' && p[i] != '\\')
			fputc(p[i], f);
		else
			fprintf(f, "\\x%02x", p[i]);
	fputc('"', f);
}

static uint64_t key_word(const uint8_t *key, unsigned int i)
{
	be64 v;

	memcpy(&v, key + 8 * (size_t)i, sizeof(v));
	return be64_get(v);
}

void bale_super_to_text(FILE *f, const struct bale_super *s)
{
	fprintf(f, "uuid ");
	for (int i = 0; i < 16; i++)
		fprintf(f, "%02x%s", s->uuid[i],
			i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
	fprintf(f,
		" seq %" PRIu64 " created %" PRIu64 " extent %u segment %u log "
		"%u codec %u level %d compat %#" PRIx64 " ro_compat %#" PRIx64
		" incompat %#" PRIx64 " label ",
		s->seq, s->created_sec, 1u << s->extent_bits,
		1u << s->segment_bits, 1u << s->log_bits, s->codec, s->level,
		s->compat, s->ro_compat, s->incompat);
	put_bytes(f, (const uint8_t *)s->label, strlen(s->label));
}

static void key_to_text(FILE *f, unsigned int table, const uint8_t *key,
			size_t len)
{
	switch (table) {
	case BALE_TABLE_meta:
		put_bytes(f, key, len);
		break;
	case BALE_TABLE_dirent:
	case BALE_TABLE_xattr:
		fprintf(f, "%" PRIu64 " ", key_word(key, 0));
		put_bytes(f, key + 8, len - 8);
		break;
	default:
		for (unsigned int i = 0; i < len / 8; i++)
			fprintf(f, "%s%" PRIu64, i ? " " : "",
				key_word(key, i));
	}
}

static void inode_to_text(FILE *f, const uint8_t *val, size_t len)
{
	struct bale_inode_row r;

	if (bale_inode_decode(val, len, &r))
		return;
	fprintf(f,
		"mode %06o nlink %u uid %u gid %u size %" PRIu64
		" stored %" PRIu64 " rdev %#" PRIx64 " flags %#x generation %u "
		"parent %" PRIu64 " next_cookie %" PRIu64 " entries %" PRIu64
		" codec %u level %d mtime %lld.%09ld",
		r.mode, r.nlink, r.uid, r.gid, r.size, r.stored, r.rdev,
		r.flags, r.generation, r.parent, r.next_cookie, r.nr_entries,
		r.codec, r.level, (long long)r.mtime.tv_sec, r.mtime.tv_nsec);
}

static void extent_to_text(FILE *f, const uint8_t *val, size_t len)
{
	struct bale_extent_row r;

	if (bale_extent_decode(val, len, &r))
		return;
	fprintf(f,
		"segment %u offset %u stored %u raw %u crc %08x refs %u codec "
		"%u filter %u level %d reason %u",
		r.segment, r.offset, r.stored_len, r.raw_len, r.crc, r.refs,
		r.codec, r.filter, r.level, r.reason);
}

static void map_to_text(FILE *f, const uint8_t *val, size_t len)
{
	const char *gap = "";

	for (size_t i = 0; i < len / sizeof(le64); i++) {
		le64 id;

		memcpy(&id, val + i * sizeof(id), sizeof(id));
		if (!le64_get(id))
			continue;
		fprintf(f, "%s[%zu]=%" PRIu64, gap, i, le64_get(id));
		gap = " ";
	}
}

static void val_to_text(FILE *f, unsigned int table, const uint8_t *val,
			size_t len)
{
	const void *v = val;

	switch (table) {
	case BALE_TABLE_meta:
	case BALE_TABLE_orphan:
		fprintf(f, "%" PRIu64, le64_get(*(const le64 *)v));
		break;
	case BALE_TABLE_inode:
		inode_to_text(f, val, len);
		break;
	case BALE_TABLE_dirent: {
		const struct bale_disk_dirent *d = v;

		fprintf(f, "ino %" PRIu64 " cookie %" PRIu64 " type %u",
			le64_get(d->ino), le64_get(d->cookie), d->type);
		break;
	}
	case BALE_TABLE_cookie: {
		const struct bale_disk_cookie *d = v;

		fprintf(f, "ino %" PRIu64 " type %u name ", le64_get(d->ino),
			d->type);
		put_bytes(f, val + sizeof(*d), len - sizeof(*d));
		break;
	}
	case BALE_TABLE_map:
		map_to_text(f, val, len);
		break;
	case BALE_TABLE_extent:
		extent_to_text(f, val, len);
		break;
	case BALE_TABLE_inline: {
		const struct bale_disk_inline *d = v;

		fprintf(f, "raw %u stored %zu codec %u", le32_get(d->raw_len),
			len - sizeof(*d), d->codec);
		break;
	}
	case BALE_TABLE_segment: {
		const struct bale_disk_segment *d = v;

		fprintf(f, "used %" PRIu64 " live %" PRIu64, le64_get(d->used),
			le64_get(d->live));
		break;
	}
	case BALE_TABLE_patch:
		fprintf(f, "offset %u bytes %zu", le32_get(*(const le32 *)v),
			len - sizeof(le32));
		break;
	default:
		fprintf(f, "%zu bytes", len);
	}
}

void bale_row_to_text(FILE *f, unsigned int table, const void *key,
		      size_t key_len, const void *val, size_t val_len)
{
	fprintf(f, "%s ", bale_table_name(table));
	if (bale_row_check(table, key, key_len, val, val_len)) {
		fprintf(f, "damaged row: key %zu bytes, value %zu bytes",
			key_len, val_len);
		return;
	}
	key_to_text(f, table, key, key_len);
	if (!val)
		return;
	fputs(": ", f);
	val_to_text(f, table, val, val_len);
}
