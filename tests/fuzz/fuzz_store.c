/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole store that somebody forged: every checksum is right, what they cover
 * is not. Input: what to put into it, read as a list of changes to a small
 * good store (rows of every table, bytes of a segment); numbers are drawn from
 * few, so that rows refer to each other. The store is opened (for reading, or
 * for writing, which also finishes what a crash left), walked, read, scrubbed,
 * changed a little and closed; then fsck looks at it, mends it, and must find
 * it mended. Or salvage copies it out first.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "fs/codec/codec.h"
#include "fs/inode/inode.h"
#include "fs/inode/names.h"
#include "fs/inode/scrub.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_dir.h"
#include "tools/cmd.h"

enum { EXTENT = 64 << 10, SEGMENT = 256 << 10, MAX_OPS = 64, MAX_STEPS = 400 };

/* ---- the input, as numbers ---- */

struct input {
	const uint8_t *p;
	size_t len;
};

static uint8_t take(struct input *in)
{
	if (!in->len)
		return 0;
	in->len--;
	return *in->p++;
}

/* Few small numbers, some at borders, rarely any. */
static uint64_t number(struct input *in)
{
	static const uint64_t edges[] = { 0,
					  1,
					  63,
					  64,
					  65535,
					  65536,
					  65537,
					  (1u << 31) - 1,
					  UINT32_MAX,
					  (uint64_t)1 << 46,
					  BALE_FILE_MAX - 1,
					  BALE_FILE_MAX,
					  INT64_MAX,
					  UINT64_MAX };
	uint8_t b = take(in);
	uint64_t v = 0;

	if (b < 160)
		return b % 24;
	if (b < 240)
		return edges[b % 14];
	for (int k = 0; k < 8; k++)
		v = v << 8 | take(in);
	return v;
}

/* ---- making it ---- */

struct forge {
	struct bale_buf body;
	uint32_t nr_ops;
	uint8_t segment[SEGMENT];
	uint8_t uuid[16];
};
static struct forge fg;
static struct bale_disk_super super;

/* Rows that the format refuses would end the replay there: not here. */
static void put(enum bale_table t, const void *key, size_t key_len,
		const void *val, size_t val_len)
{
	struct bale_disk_op op = { .kind = val ? BALE_OP_PUT : BALE_OP_DEL,
				   .table = (uint8_t)t,
				   .key_len = le16_put((uint16_t)key_len),
				   .val_len = le32_put((uint32_t)val_len) };

	if (bale_row_check(t, key, key_len, val, val_len))
		return;
	FUZZ_ASSERT(!bale_buf_append(&fg.body, &op, sizeof(op)));
	FUZZ_ASSERT(!bale_buf_append(&fg.body, key, key_len));
	if (val_len)
		FUZZ_ASSERT(!bale_buf_append(&fg.body, val, val_len));
	fg.nr_ops++;
}

static void put_inode(uint64_t ino, const struct bale_inode_row *r)
{
	be64 k = be64_put(ino);
	struct bale_disk_inode d;

	bale_inode_encode(r, &d);
	put(BALE_TABLE_inode, &k, 8, &d, sizeof(d));
}

static void put_name(uint64_t parent, const char *name, uint64_t ino,
		     uint8_t type, uint64_t cookie, unsigned int which)
{
	struct bale_disk_dirent d = { .ino = le64_put(ino),
				      .cookie = le64_put(cookie),
				      .type = type };
	struct bale_disk_cookie c = { .ino = le64_put(ino), .type = type };
	uint8_t key[BALE_KEY_MAX], val[sizeof(c) + 32];
	be64 k[2] = { be64_put(parent), be64_put(cookie) };
	size_t len = strlen(name);

	memcpy(key, k, 8);
	memcpy(key + 8, name, len);
	memcpy(val, &c, sizeof(c));
	memcpy(val + sizeof(c), name, len);
	if (which & 1)
		put(BALE_TABLE_dirent, key, 8 + len, &d, sizeof(d));
	if (which & 2)
		put(BALE_TABLE_cookie, k, 16, val, sizeof(c) + len);
}

/* The checksum is that of the bytes there. */
static void put_extent(uint64_t id, struct bale_extent_row r)
{
	be64 k = be64_put(id);
	struct bale_disk_extent d;

	if (!r.segment && r.offset <= SEGMENT &&
	    r.stored_len <= SEGMENT - r.offset)
		r.crc = bale_crc32c(0, fg.segment + r.offset, r.stored_len);
	bale_extent_encode(&r, &d);
	put(BALE_TABLE_extent, &k, 8, &d, sizeof(d));
}

static void put_map(uint64_t ino, uint64_t group, const uint64_t *ids,
		    size_t nr)
{
	be64 k[2] = { be64_put(ino), be64_put(group) };
	le64 v[BALE_MAP_SLOTS];

	for (size_t n = 0; n < nr; n++)
		v[n] = le64_put(ids[n]);
	put(BALE_TABLE_map, k, 16, v, nr * 8);
}

/* /a: two extents, also /d/c; /b: inline; /d; /l: link. */
static void good_rows(void)
{
	struct bale_inode_row root = { .mode = S_IFDIR | 0755,
				       .nlink = 3,
				       .parent = 1,
				       .next_cookie = 9,
				       .nr_entries = 4 };
	struct bale_inode_row d = { .mode = S_IFDIR | 0755,
				    .nlink = 2,
				    .parent = 1,
				    .next_cookie = 9,
				    .nr_entries = 1 };
	struct bale_inode_row a = { .mode = S_IFREG | 0644,
				    .nlink = 2,
				    .parent = 1,
				    .size = 2 * EXTENT - 10,
				    .stored = 16 };
	struct bale_inode_row b = { .mode = S_IFREG | 0644,
				    .nlink = 1,
				    .parent = 1,
				    .size = 5,
				    .stored = 5,
				    .flags = BALE_INODE_HAS_INLINE };
	struct bale_inode_row l = b;
	struct {
		struct bale_disk_inline h;
		char text[5];
	} in = { .h.raw_len = le32_put(5), .text = "hello" };
	be64 k[2] = { be64_put(18), be64_put(19) };
	uint64_t ids[2] = { 1, 2 };
	be64 seg_key = be64_put(0);
	le64 seg[2] = { le64_put(SEGMENT), le64_put(16) };

	l.mode = S_IFLNK | 0777;
	put_inode(1, &root);
	put_inode(16, &d);
	put_inode(17, &a);
	put_inode(18, &b);
	put_inode(19, &l);
	put_name(1, "d", 16, 4, 3, 3);
	put_name(1, "a", 17, 8, 4, 3);
	put_name(1, "b", 18, 8, 5, 3);
	put_name(1, "l", 19, 10, 6, 3);
	put_name(16, "c", 17, 8, 3, 3);
	put(BALE_TABLE_inline, &k[0], 8, &in, sizeof(in.h) + 5);
	put(BALE_TABLE_inline, &k[1], 8, &in, sizeof(in.h) + 5);
	put(BALE_TABLE_segment, &seg_key, 8, seg, sizeof(seg));
	put_extent(1, (struct bale_extent_row){ .offset = 1024,
						.stored_len = 8,
						.raw_len = EXTENT,
						.refs = 1,
						.codec = BALE_CODEC_fill });
	put_extent(2, (struct bale_extent_row){ .offset = 2024,
						.stored_len = 8,
						.raw_len = EXTENT - 10,
						.refs = 1,
						.codec = BALE_CODEC_fill });
	put_map(17, 0, ids, 2);
}

static uint64_t an_ino(struct input *in)
{
	static const uint64_t inos[] = { 1, 16, 17, 18, 19, 20, 21, 22 };
	uint8_t b = take(in);

	return b < 240 ? inos[b % 8] : number(in);
}

static void forge_inode(struct input *in)
{
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFREG,
					  S_IFBLK, S_IFIFO, S_IFDIR, 0 };
	uint64_t ino = an_ino(in);
	struct bale_inode_row r = { .mode = types[take(in) % 8] |
					    (take(in) * 257u & 07777),
				    .nlink = (uint32_t)number(in),
				    .uid = take(in),
				    .size = number(in),
				    .stored = number(in),
				    .rdev = take(in) % 2 ? number(in) : 0,
				    .parent = an_ino(in),
				    .next_cookie = number(in),
				    .nr_entries = number(in) };

	r.flags = (uint32_t)(take(in) % 128) | (uint32_t)(take(in) % 16) << 16;
	r.generation = take(in);
	if (r.flags & BALE_INODE_HAS_POLICY)
		r.codec = take(in) % 6;
	put_inode(ino, &r);
}

static void forge_name(struct input *in)
{
	static const char *const names[] = { "a", "b",		"c",	"d",
					     "l", "lost+found", "long", "x" };
	static const uint8_t types[] = { 8, 4, 10, 8, 1, 6, 0, 15 };
	uint64_t parent = an_ino(in);
	const char *name = names[take(in) % 8];
	uint64_t ino = an_ino(in);
	uint8_t type = types[take(in) % 8];

	put_name(parent, name, ino, type, number(in), 1 + take(in) % 3);
}

static void forge_extent(struct input *in)
{
	static const uint8_t codecs[] = { 0, 1, 2, 3, 4, 5, 2, 4 };
	uint64_t id = number(in);
	struct bale_extent_row r = { .segment = (uint32_t)number(in) / 2,
				     .offset = (uint32_t)number(in),
				     .stored_len = (uint32_t)number(in),
				     .raw_len = (uint32_t)number(in),
				     .refs = (uint32_t)number(in),
				     .codec = codecs[take(in) % 8],
				     .filter = take(in) % 4 ? 0 : take(in) };

	if (take(in) % 2) { /* so that it can be read */
		r.segment = 0;
		r.offset = 1024u * (take(in) % 200);
		r.raw_len = EXTENT - take(in) % 2;
	}
	put_extent(id, r);
}

static void forge_map(struct input *in)
{
	uint64_t ino = an_ino(in), group = number(in), ids[BALE_MAP_SLOTS];
	size_t nr = take(in) % BALE_MAP_SLOTS + 1u;

	for (size_t k = 0; k < nr; k++)
		ids[k] = k < 4 || k == nr - 1 ? number(in) : k % 3;
	put_map(ino, group, ids, nr);
}

static void forge_bytes(struct input *in, enum bale_table t)
{
	uint64_t ino = an_ino(in);
	uint8_t key[32], val[96] = { 0 };
	be64 k = be64_put(ino);
	size_t len = take(in) % 64;
	struct bale_disk_inline d = { .raw_len = le32_put((uint32_t)number(in)),
				      .codec = take(in) % 6 };

	memcpy(key, &k, 8);
	memcpy(key + 8, "user.x", 6);
	memcpy(val, &d, sizeof(d));
	for (size_t n = 0; n < len; n++)
		val[sizeof(d) + n] = take(in);
	if (t == BALE_TABLE_inline)
		put(t, key, 8, val, sizeof(d) + len);
	else
		put(t, key, 14, val + sizeof(d), len);
}

static void forge_acl(struct input *in)
{
	uint8_t key[40], val[52];
	be64 k = be64_put(an_ino(in));
	const char *name = take(in) % 2 ? "system.posix_acl_access" :
					  "system.posix_acl_default";
	size_t len = 4 + 8u * (take(in) % 7);

	memcpy(key, &k, 8);
	memcpy(key + 8, name, strlen(name));
	for (size_t n = 0; n < len; n++)
		val[n] = n == 0 ? 2 : n < 4 ? 0 : take(in);
	put(BALE_TABLE_xattr, key, 8 + strlen(name), val, len);
}

static void forge_patch(struct input *in)
{
	be64 k[3] = { be64_put(an_ino(in)), be64_put(number(in)),
		      be64_put(number(in)) };
	le32 off = le32_put((uint32_t)number(in));
	uint8_t val[4 + 40];
	size_t len = 1 + take(in) % 40;

	memcpy(val, &off, 4);
	memset(val + 4, take(in), len);
	put(BALE_TABLE_patch, k, 24, val, 4 + len);
}

static void forge_small(struct input *in, unsigned int what)
{
	be64 k = be64_put(what ? an_ino(in) : number(in));
	le64 v[2];

	v[0] = le64_put(number(in));
	v[1] = le64_put(number(in));
	if (what == 0)
		put(BALE_TABLE_segment, &k, 8, v, 16);
	else if (what == 1)
		put(BALE_TABLE_orphan, &k, 8, v, 8);
	else
		put(BALE_TABLE_meta,
		    take(in) % 2 ? "next_extent" : "next_ino\0\0\0",
		    what == 2 ? 11 : 8, v, 8);
}

static void forge_payload(struct input *in)
{
	size_t off = 1024u * (take(in) % 200), len = take(in);

	for (size_t k = 0; k < len && off + k < SEGMENT; k++)
		fg.segment[off + k] = take(in);
}

static void forge_deletion(struct input *in)
{
	static const uint8_t tables[] = { BALE_TABLE_inode, BALE_TABLE_inline,
					  BALE_TABLE_extent, BALE_TABLE_map };
	uint8_t t = tables[take(in) % 4];
	be64 k[2] = { be64_put(t == BALE_TABLE_extent ? number(in) :
							an_ino(in)),
		      be64_put(0) };

	put(t, k, t == BALE_TABLE_map ? 16 : 8, NULL, 0);
}

static void forge_all(struct input *in)
{
	for (int n = 0; n < MAX_OPS && in->len; n++) {
		switch (take(in) % 14) {
		case 0:
		case 1:
			forge_inode(in);
			break;
		case 2:
		case 3:
			forge_name(in);
			break;
		case 4:
			forge_extent(in);
			break;
		case 5:
			forge_map(in);
			break;
		case 6:
			forge_bytes(in, BALE_TABLE_inline);
			break;
		case 7:
			forge_bytes(in, BALE_TABLE_xattr);
			break;
		case 8:
			forge_patch(in);
			break;
		case 9:
			forge_small(in, 0);
			break;
		case 10:
			forge_small(in, 1 + take(in) % 2);
			break;
		case 11:
			forge_payload(in);
			break;
		case 12:
			forge_deletion(in);
			break;
		default:
			forge_acl(in);
			break;
		}
	}
}

/* ---- writing it out ---- */

static void write_store(void)
{
	struct bale_log_info info = {
		.seq = 1,
		.body_len = (uint32_t)fg.body.len,
		.body_crc = bale_crc32c(0, fg.body.data, fg.body.len),
		.nr_ops = fg.nr_ops,
	};
	struct bale_disk_log head;

	fuzz_dir_empty();
	bale_log_seal(&head, &info, fg.uuid);
	fuzz_dir_write("super.0", &super, sizeof(super), NULL, 0);
	fuzz_dir_write("super.1", &super, sizeof(super), NULL, 0);
	fuzz_dir_write("log/0000000000000000", &head, sizeof(head),
		       fg.body.data, fg.body.len);
	fuzz_dir_write("seg/0000000000000000", fg.segment, SEGMENT, NULL, 0);
}

static void make_dir(void)
{
	struct bale_super s = { .seq = 1,
				.extent_bits = 16,
				.segment_bits = 20,
				.log_bits = 20,
				.codec = BALE_CODEC_auto,
				.uuid = "forged-store-id" };

	if (!fuzz_dir_make())
		return;
	atexit(fuzz_dir_remove);
	bale_log_set_level(BALE_LOG_ERR);
	memcpy(fg.uuid, s.uuid, 16);
	bale_super_encode(&s, &super);
	if (!getenv("FUZZ_VERBOSE")) /* what damaged stores make it say */
		FUZZ_ASSERT(freopen("/dev/null", "w", stdout));
}

/* ---- using it ---- */

static unsigned int steps; /* bounds the walk: a forged tree may be endless */
static struct bale_fs *fs;
static volatile uint8_t touched; /* every byte is looked at */

static void read_some(struct bale_inode *i, uint64_t size)
{
	uint64_t offs[] = { 0, EXTENT - 5, size > 100 ? size - 100 : 0,
			    size / 2 };
	uint64_t at;

	for (int k = 0; k < 4; k++) {
		struct bale_read rd;

		if (offs[k] < size &&
		    !bale_file_read(i, offs[k], EXTENT + 100, &rd)) {

			for (unsigned int n = 0; n < rd.nr_iov; n++)
				for (size_t b = 0; b < rd.iov[n].iov_len; b++)
					touched += ((uint8_t *)rd.iov[n]
							    .iov_base)[b];
			FUZZ_ASSERT(rd.len <= EXTENT + 100);
			bale_file_read_done(&rd);
		}
	}
	bale_file_seek(i, 0, SEEK_DATA, &at);
	bale_file_seek(i, 0, SEEK_HOLE, &at);
}

static void look_at(struct bale_inode *i)
{
	static char buf[BALE_XATTR_SIZE_MAX];
	struct bale_inode_row row;
	char path[256];
	size_t len;

	bale_inode_attr(i, &row);
	bale_inode_path(fs, i->ino, path, sizeof(path));
	if (!bale_xattr_list(i, buf, sizeof(buf), &len))
		FUZZ_ASSERT(len <= sizeof(buf));
	bale_xattr_get(i, "user.x", buf, sizeof(buf), &len);
	bale_xattr_get(i, "system.posix_acl_access", buf, sizeof(buf), &len);
	if (S_ISLNK(row.mode))
		bale_inode_readlink(i, buf, BALE_SYMLINK_MAX + 1);
	if (S_ISREG(row.mode))
		read_some(i, row.size);
}

static void change(struct bale_inode *i)
{
	struct iovec v = { (void *)"written over", 12 };
	struct bale_setattr a = { .valid = BALE_SET_SIZE };
	struct bale_inode_row row;
	uint64_t before, after;

	bale_inode_attr(i, &row);
	if (!S_ISREG(row.mode))
		return;
	bale_file_write(i, &v, 1, 100, false, true);
	a.size = row.size / 2;
	if (steps % 3 == 0)
		bale_inode_setattr(i, &a);
	if (steps % 3 == 1 && row.size < 100 * EXTENT)
		bale_file_recompress(
			i,
			(struct bale_codec_policy){ .codec = BALE_CODEC_zstd },
			&before, &after);
	if (steps % 2)
		bale_file_fsync(i, false);
}

struct walk {
	struct bale_inode *dir;
	char names[24][16];
	unsigned int nr;
};

static int note_entry(const struct bale_dir_entry *e, void *arg)
{
	struct walk *w = arg;

	FUZZ_ASSERT(e->name_len <= BALE_NAME_MAX);
	FUZZ_ASSERT(!memchr(e->name, '/', e->name_len));
	if (w->nr == 24)
		return 1;
	if (e->name_len < 16)
		snprintf(w->names[w->nr++], 16, "%.*s", (int)e->name_len,
			 e->name);
	return 0;
}

static void walk(struct bale_inode *at, unsigned int depth, bool writable)
{
	struct walk w = { .dir = at };
	struct bale_cred cred = { 0 };

	bale_dir_read(at, 0, note_entry, &w);
	for (unsigned int k = 0; k < w.nr && steps < MAX_STEPS; k++) {
		struct bale_inode *i;

		steps++;
		if (bale_dir_lookup(at, w.names[k], &i))
			continue;
		look_at(i);
		if (S_ISDIR(i->type) && depth < 6 && strcmp(w.names[k], ".") &&
		    strcmp(w.names[k], ".."))
			walk(i, depth + 1, writable);
		if (writable)
			change(i);
		if (writable && steps % 5 == 0 && !S_ISDIR(i->type))
			bale_dir_unlink(at, w.names[k]);
		if (writable && steps % 7 == 0)
			bale_dir_rename(at, w.names[k], at, "moved", 0);
		bale_inode_put(i);
	}
	if (writable && depth < 2) {
		struct bale_inode *i;

		if (!bale_dir_create(at, "new", S_IFREG | 0600, 0, &cred, &i))
			bale_inode_put(i);
	}
}

static void scrub(void)
{
	bale_autofree struct bale_scrub_step *s = calloc(1, sizeof(*s));

	FUZZ_ASSERT(s);
	s->decode = true;
	s->max_bytes = 1 << 20;
	for (int k = 0; k < 100 && s->at.phase != BALE_SCRUB_DONE; k++)
		if (bale_fs_scrub(fs, s))
			break;
}

static bool use(bool writable)
{
	struct bale_fs_options o = { .size = sizeof(o),
				     .read_only = !writable,
				     .untrusted = true,
				     .manual_commit = true,
				     .nr_workers = 1,
				     .cache_bytes = 16 << 20 };
	struct bale_inode *root;

	steps = 0;
	if (bale_fs_open(fuzz_dir, &o, &fs))
		return false;
	if (!bale_inode_get(fs, BALE_ROOT_INO, &root)) {
		look_at(root);
		walk(root, 0, false);
		scrub();
		if (writable) {
			walk(root, 0, true);
			bale_fs_sync(fs);
			bale_cleaner_run(bale_fs_store(fs), UINT64_MAX);
		}
		bale_inode_put(root);
	}
	bale_fs_close(fs);
	return true;
}

/* What it wrote itself, it can read. */
static void use_and_reopen(bool writable)
{
	if (use(writable) && writable)
		FUZZ_ASSERT(use(false));
}

static int fsck(const char *how)
{
	char *argv[] = { (char *)"fsck.balefs", (char *)how, (char *)"-f",
			 (char *)"--deep",	fuzz_dir,    NULL };

	optind = 0;
	return bale_cmd_fsck.fn(&bale_cmd_fsck, 5, argv);
}

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

/* Whatever names and links say, it is all in one directory. */
static void salvage(void)
{
	char out[80], *argv[] = { (char *)"salvage", fuzz_dir, out, NULL };
	int r;

	snprintf(out, sizeof(out), "%s-out", fuzz_dir);
	optind = 0;
	r = bale_cmd_salvage.fn(&bale_cmd_salvage, 3, argv);
	FUZZ_ASSERT(r == 0 || r == 1 || r == 4);
	nftw(out, remove_one, 16, FTW_PHYS | FTW_DEPTH);
	FUZZ_ASSERT(access(out, F_OK));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t how = take(&in);
	int first, again;

	make_dir();
	fg.body.len = 0;
	fg.nr_ops = 0;
	memset(fg.segment, 0, sizeof(fg.segment));
	good_rows();
	forge_all(&in);
	write_store();
	if (how & 16)
		salvage();
	if (how % 4 < 2) {
		use_and_reopen(how & 1);
		return 0;
	}
	/* Found, mended as far as it goes, and then nothing new. Damage upon
	 * damage that nobody but a forger makes may take more than one run. */
	first = fsck("-y");
	for (int k = 0; k < 4 && first & 1; k++)
		first = fsck("-y");
	again = fsck("-n");
	if (!(first & 12))
		FUZZ_ASSERT(!again);
	else if (!(first & 8))
		FUZZ_ASSERT(!(again & 8));
	use_and_reopen(how & 1);
	return 0;
}
