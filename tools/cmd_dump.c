/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_dump.c - what is in a store, as text or JSON. Superblock, log,
 * checkpoints and segments are read as they lie in their files; inodes and
 * maps through the index, without writing.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "tools/cmd.h"
#include "tools/json.h"
#include "tools/lookup.h"
#include "tools/raw.h"

static const char usage[] =
	"usage: balefs dump STORE superblock\n"
	"       balefs dump STORE log\n"
	"       balefs dump STORE checkpoint [--rows]\n"
	"       balefs dump STORE segment [NUMBER]\n"
	"       balefs dump STORE inode NUMBER|/PATH\n"
	"       balefs dump STORE map NUMBER|/PATH\n"
	"\n"
	"Print what is in a store. Nothing is written. inode and map want a "
	"store\n"
	"that is not mounted.\n"
	"\n"
	"      --rows   checkpoint: every row too\n"
	"      --json   as JSON\n"
	"      --help   this text\n"
	"\n"
	"Exit status: 0 printed, 1 failed or damaged, 2 wrong call.\n";

struct dump {
	const char *path;
	struct bale_io *io;
	struct bale_super super;
	struct bale_meta *m;
	bool json, rows;
	struct bale_json js;
};

/* ---- rows and ops ---- */

static void print_row(struct dump *d, const char *kind, unsigned int table,
		      const void *key, size_t key_len, const void *val,
		      size_t val_len)
{
	bale_autofree char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return;
	bale_row_to_text(f, table, key, key_len, val, val_len);
	fclose(f);
	if (!d->json) {
		printf("  %s%s\n", kind, text);
		return;
	}
	bale_json_object(&d->js, NULL);
	if (*kind)
		bale_json_str(&d->js, "op", *kind == 'p' ? "put" : "delete");
	bale_json_str(&d->js, "table", bale_table_name(table));
	bale_json_bytes(&d->js, "row", text, len);
	bale_json_end(&d->js);
}

static int print_op(const struct bale_op *op, void *arg)
{
	print_row(arg, op->kind == BALE_OP_PUT ? "put " : "delete ", op->table,
		  op->key, op->key_len,
		  op->kind == BALE_OP_PUT ? op->val : NULL, op->val_len);
	return 0;
}

/* ---- superblock ---- */

static void print_uuid(FILE *f, const uint8_t *uuid)
{
	for (int k = 0; k < 16; k++)
		fprintf(f, "%s%02x",
			k == 4 || k == 6 || k == 8 || k == 10 ? "-" : "",
			uuid[k]);
}

static void super_json(struct dump *d)
{
	const struct bale_super *s = &d->super;
	struct bale_codec_policy p = { s->codec, s->level, s->filter };
	char uuid[40], codec[32];
	FILE *f = fmemopen(uuid, sizeof(uuid), "w");

	if (f) {
		print_uuid(f, s->uuid);
		fclose(f);
		bale_json_str(&d->js, "uuid", uuid);
	}
	bale_codec_policy_text(p, codec, sizeof(codec));
	bale_json_str(&d->js, "label", s->label);
	bale_json_str(&d->js, "codec", codec);
	bale_json_u64(&d->js, "seq", s->seq);
	bale_json_u64(&d->js, "created", s->created_sec);
	bale_json_u64(&d->js, "extent_bytes", (uint64_t)1 << s->extent_bits);
	bale_json_u64(&d->js, "segment_bytes", (uint64_t)1 << s->segment_bits);
	bale_json_u64(&d->js, "log_file_bytes", (uint64_t)1 << s->log_bits);
	bale_json_u64(&d->js, "compat", s->compat);
	bale_json_u64(&d->js, "ro_compat", s->ro_compat);
	bale_json_u64(&d->js, "incompat", s->incompat);
}

static int dump_super(struct dump *d, const char *arg)
{
	(void)arg;
	if (d->json) {
		super_json(d);
		return 0;
	}
	bale_super_to_text(stdout, &d->super);
	putchar('\n');
	return 0;
}

/* ---- log ---- */

static int print_record(struct dump *d, const struct bale_raw_log *l,
			const struct bale_log_info *i)
{
	struct bale_op op;
	size_t pos = 0;
	int r;

	if (d->json) {
		bale_json_object(&d->js, NULL);
		bale_json_u64(&d->js, "lsn", i->lsn);
		bale_json_u64(&d->js, "seq", i->seq);
		bale_json_u64(&d->js, "bytes", i->body_len);
		bale_json_bool(&d->js, "more", i->flags & BALE_LOG_MORE);
		bale_json_array(&d->js, "ops");
	} else {
		printf("record %" PRIu64 " at 0x%" PRIx64
		       ": %u ops, %u bytes%s\n",
		       i->seq, i->lsn, i->nr_ops, i->body_len,
		       i->flags & BALE_LOG_MORE ? ", goes on in the next" : "");
	}
	while (!(r = bale_op_next(l->body.data, i->body_len, &pos, &op)))
		print_op(&op, d);
	if (d->json) {
		bale_json_end(&d->js);
		bale_json_end(&d->js);
	}
	return r == -ENOENT ? 0 : r;
}

/* From the oldest file there is: the first record may be anywhere in it. */
static int dump_log(struct dump *d, const char *arg)
{
	bale_autofree uint64_t *no = NULL;
	struct bale_log_info i;
	struct bale_raw_log l;
	uint64_t lsn, end, seq = 0;
	bool any = false;
	size_t nr;
	int r = bale_raw_list(d->io, "log", &no, &nr);

	(void)arg;
	if (r || !nr)
		return r ? r : -ENOENT;
	bale_raw_log_init(&l, d->io, &d->super);
	if (d->json)
		bale_json_array(&d->js, "records");
	lsn = no[0] * l.size;
	end = lsn + l.size;
	while (!r) {
		r = bale_raw_log_next(&l, &lsn, seq, !any, &i);
		if (r == -ENOENT || r == -EUCLEAN) {
			if (any || lsn + BALE_ALIGN >= end)
				break;
			lsn += BALE_ALIGN;
			r = 0;
			continue;
		}
		if (!r)
			r = print_record(d, &l, &i);
		any = true;
		seq = i.seq + 1;
		lsn = bale_raw_log_after(lsn, &i);
	}
	if (d->json)
		bale_json_end(&d->js);
	else if (r == -ENOENT)
		printf("the log ends at 0x%" PRIx64 "\n", lsn);
	bale_raw_log_fini(&l);
	return r == -ENOENT ? 0 : r;
}

/* ---- checkpoint ---- */

static int dump_ckpt(struct dump *d, const char *arg)
{
	bale_autofree uint64_t *no = NULL;
	struct bale_raw_ckpt c;
	size_t nr;
	int r = bale_raw_list(d->io, "ckpt", &no, &nr), bad = 0;

	(void)arg;
	if (d->json)
		bale_json_array(&d->js, "checkpoints");
	for (size_t k = 0; k < nr && !r; k++) {
		int e;

		if (d->json) {
			bale_json_object(&d->js, NULL);
			bale_json_u64(&d->js, "number", no[k]);
			bale_json_array(&d->js, "rows");
		} else {
			printf("ckpt/%016" PRIx64 ":\n", no[k]);
		}
		e = bale_raw_ckpt_read(d->io, d->super.uuid, no[k],
				       d->rows ? print_op : NULL, d, &c);
		bad = e ? e : bad;
		if (d->json) {
			bale_json_end(&d->js);
			bale_json_bool(&d->js, "good", !e);
		}
		if (e && !d->json) {
			printf("  damaged: %s\n", strerror(-e));
		} else if (!e && d->json) {
			bale_json_u64(&d->js, "start_lsn", c.start_lsn);
			bale_json_u64(&d->js, "start_seq", c.start_seq);
			bale_json_u64(&d->js, "end_lsn", c.end_lsn);
			bale_json_u64(&d->js, "nr_rows", c.nr_rows);
		} else if (!e) {
			printf("  %" PRIu64 " rows in %" PRIu64
			       " chunks, the log from 0x%" PRIx64
			       " (record %" PRIu64 ") to 0x%" PRIx64 "\n",
			       c.nr_rows, c.nr_chunks, c.start_lsn, c.start_seq,
			       c.end_lsn);
		}
		if (d->json)
			bale_json_end(&d->js);
	}
	if (d->json)
		bale_json_end(&d->js);
	return r ? r : bad;
}

/* ---- segments ---- */

static void extent_json(struct dump *d, const struct bale_disk_bale_extent *e,
			uint64_t off)
{
	bale_json_object(&d->js, NULL);
	bale_json_u64(&d->js, "id", le64_get(e->id));
	bale_json_u64(&d->js, "ino", le64_get(e->ino));
	bale_json_u64(&d->js, "extent", le64_get(e->extent_no));
	bale_json_u64(&d->js, "offset", off);
	bale_json_u64(&d->js, "raw", le32_get(e->raw_len));
	bale_json_u64(&d->js, "stored", le32_get(e->stored_len));
	bale_json_str(&d->js, "codec", bale_codec_name(e->codec));
	bale_json_i64(&d->js, "level", (int8_t)e->level);
	bale_json_end(&d->js);
}

static int print_bale(const struct bale_bale_info *info,
		      const struct bale_disk_bale_extent *desc,
		      uint64_t payload_off, void *arg)
{
	struct dump *d = arg;

	if (d->json) {
		bale_json_object(&d->js, NULL);
		bale_json_u64(&d->js, "segment", info->segment);
		bale_json_u64(&d->js, "offset", info->offset);
		bale_json_u64(&d->js, "seq", info->seq);
		bale_json_array(&d->js, "extents");
	} else {
		printf("segment %" PRIu64 " byte %u: bale %" PRIu64
		       ", %u extents, %" PRIu64 " bytes\n",
		       info->segment, info->offset, info->seq, info->nr_extents,
		       info->payload_len);
	}
	for (uint32_t k = 0; k < info->nr_extents; k++) {
		const struct bale_disk_bale_extent *e = &desc[k];

		if (d->json)
			extent_json(d, e, payload_off);
		else
			printf("  extent %" PRIu64 " at %" PRIu64
			       ": inode %" PRIu64 " extent %" PRIu64
			       ", %u -> %u bytes, %s, crc %08x\n",
			       le64_get(e->id), payload_off, le64_get(e->ino),
			       le64_get(e->extent_no), le32_get(e->raw_len),
			       le32_get(e->stored_len),
			       bale_codec_name(e->codec), le32_get(e->crc));
		payload_off += le32_get(e->stored_len);
	}
	if (d->json) {
		bale_json_end(&d->js);
		bale_json_end(&d->js);
	}
	return 0;
}

static int dump_segment(struct dump *d, const char *arg)
{
	bale_autofree uint64_t *no = NULL;
	uint64_t only = 0;
	size_t nr;
	int r = arg ? bale_number_parse(arg, &only) : 0;

	if (!r)
		r = bale_raw_list(d->io, "seg", &no, &nr);
	if (r)
		return r;
	if (d->json)
		bale_json_array(&d->js, "bales");
	if (arg)
		r = bale_raw_segment(d->io, d->super.uuid, only, print_bale, d);
	else
		for (size_t k = 0; k < nr && !r; k++)
			r = bale_raw_segment(d->io, d->super.uuid, no[k],
					     print_bale, d);
	if (d->json)
		bale_json_end(&d->js);
	return r;
}

/* ---- inodes and maps ---- */

struct rows {
	struct dump *d;
	unsigned int table;
};

static int print_table_row(const void *key, size_t key_len, const void *val,
			   size_t val_len, void *arg)
{
	struct rows *r = arg;
	char kind[16] = "";

	if (!r->d->json)
		snprintf(kind, sizeof(kind), "%-8s", bale_table_name(r->table));
	print_row(r->d, kind, r->table, key, key_len, val, val_len);
	return 0;
}

static int dump_inode(struct dump *d, const char *arg)
{
	static const uint8_t tables[] = { BALE_TABLE_inode,  BALE_TABLE_orphan,
					  BALE_TABLE_inline, BALE_TABLE_xattr,
					  BALE_TABLE_map,    BALE_TABLE_patch,
					  BALE_TABLE_dirent };
	uint64_t ino;
	be64 key;
	int r = bale_path_to_ino(d->m, arg, &ino);

	if (r)
		return r;
	key = be64_put(ino);
	if (d->json) {
		bale_json_u64(&d->js, "ino", ino);
		bale_json_array(&d->js, "rows");
	} else {
		printf("inode %" PRIu64 ":\n", ino);
	}
	for (size_t k = 0; k < sizeof(tables) && !r; k++) {
		struct rows s = { d, tables[k] };

		r = bale_meta_scan(d->m, tables[k], &key, 8, 8, print_table_row,
				   &s);
	}
	if (d->json)
		bale_json_end(&d->js);
	return r;
}

static void print_extent(struct dump *d, uint64_t extent_no, uint64_t id)
{
	uint64_t off = extent_no << d->super.extent_bits;
	struct bale_extent_row e = { 0 };
	int r = bale_meta_extent(d->m, id, &e);

	if (!d->json && r) {
		printf("%12" PRIu64 "  extent %" PRIu64 ": %s\n", off, id,
		       r == -ENOENT ? "does not exist" : strerror(-r));
	} else if (!d->json) {
		printf("%12" PRIu64 "  extent %" PRIu64
		       " in segment %u at %u: %u -> %u bytes, %s%s%s, %u "
		       "refs\n",
		       off, id, e.segment, e.offset, e.raw_len, e.stored_len,
		       bale_codec_name(e.codec),
		       e.codec == BALE_CODEC_raw ? ", " : "",
		       e.codec == BALE_CODEC_raw ?
			       bale_raw_reason_text(e.reason) :
			       "",
		       e.refs);
	} else {
		bale_json_object(&d->js, NULL);
		bale_json_u64(&d->js, "offset", off);
		bale_json_u64(&d->js, "id", id);
		bale_json_bool(&d->js, "exists", !r);
		bale_json_u64(&d->js, "segment", e.segment);
		bale_json_u64(&d->js, "at", e.offset);
		bale_json_u64(&d->js, "raw", e.raw_len);
		bale_json_u64(&d->js, "stored", e.stored_len);
		bale_json_str(&d->js, "codec", bale_codec_name(e.codec));
		bale_json_u64(&d->js, "refs", e.refs);
		bale_json_end(&d->js);
	}
}

static int print_map(const void *key, size_t key_len, const void *val,
		     size_t val_len, void *arg)
{
	be64 k[2];

	if (key_len != sizeof(k))
		return -EUCLEAN;
	memcpy(k, key, sizeof(k));
	for (size_t n = 0; n < val_len / 8; n++) {
		le64 id;

		memcpy(&id, (const uint8_t *)val + 8 * n, 8);
		if (le64_get(id))
			print_extent(arg, be64_get(k[1]) * BALE_MAP_SLOTS + n,
				     le64_get(id));
	}
	return 0;
}

static int dump_map(struct dump *d, const char *arg)
{
	uint64_t ino;
	be64 key;
	int r = bale_path_to_ino(d->m, arg, &ino);

	if (r)
		return r;
	key = be64_put(ino);
	if (d->json) {
		bale_json_u64(&d->js, "ino", ino);
		bale_json_array(&d->js, "extents");
	}
	r = bale_meta_scan(d->m, BALE_TABLE_map, &key, 8, 8, print_map, d);
	if (d->json)
		bale_json_end(&d->js);
	return r;
}

/* ---- the command ---- */

struct what {
	const char *name;
	bool needs_arg, needs_open;
	int (*fn)(struct dump *d, const char *arg);
};

static const struct what whats[] = {
	{ "superblock", false, false, dump_super },
	{ "log", false, false, dump_log },
	{ "checkpoint", false, false, dump_ckpt },
	{ "segment", false, false, dump_segment },
	{ "inode", true, true, dump_inode },
	{ "map", true, true, dump_map },
};

static int with_store(struct dump *d, const struct what *w, const char *arg)
{
	struct bale_store_options o = { .size = sizeof(o),
					.read_only = true,
					.manual_commit = true };
	struct bale_store *st;
	int r = bale_store_open(d->path, &o, &st);

	if (r)
		return r;
	d->m = bale_store_meta(st);
	r = w->fn(d, arg);
	bale_store_close(st);
	return r;
}

static int run(struct dump *d, const struct what *w, const char *arg)
{
	int r = bale_io_open(d->path, true, &d->io);

	bale_log_set_level(BALE_LOG_WARN);
	if (!r)
		r = bale_raw_super(d->io, &d->super);
	if (!r && d->json)
		bale_json_open(&d->js, stdout);
	if (!r)
		r = w->needs_open ? with_store(d, w, arg) : w->fn(d, arg);
	if (d->json && d->js.f)
		bale_json_close(&d->js);
	if (d->io)
		bale_io_close(d->io);
	if (r)
		bale_cmd_error("%s: %s%s%s: %s", d->path, w->name,
			       arg ? " " : "", arg ? arg : "",
			       r == -ENOENT ? "not there" :
					      bale_cmd_strerror(r));
	return r ? BALE_EXIT_FAILED : BALE_EXIT_OK;
}

static int dump(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "rows", no_argument, NULL, 'r' },
		{ 0 },
	};
	struct dump d = { 0 };
	const char *arg;
	int c;

	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == 'j')
			d.json = true;
		else if (c == 'r')
			d.rows = true;
		else
			return bale_cmd_bad_option(cmd, c, argv);
	}
	if (argc - optind < 2 || argc - optind > 3)
		return bale_cmd_usage_error(cmd, "want STORE and what of it");
	d.path = argv[optind];
	arg = argc - optind == 3 ? argv[optind + 2] : NULL;
	for (size_t k = 0; k < sizeof(whats) / sizeof(whats[0]); k++) {
		const struct what *w = &whats[k];

		if (strcmp(w->name, argv[optind + 1]))
			continue;
		if (w->needs_arg && !arg)
			return bale_cmd_usage_error(
				cmd, "%s: which one? a number or a path",
				w->name);
		return run(&d, w, arg);
	}
	return bale_cmd_usage_error(cmd, "nothing is called %s",
				    argv[optind + 1]);
}

const struct bale_cmd bale_cmd_dump = {
	.name = "dump",
	.summary = "print what is in a store",
	.usage = usage,
	.fn = dump,
};
