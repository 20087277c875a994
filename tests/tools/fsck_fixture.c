/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_fixture.c - see fsck_fixture.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/codec/codec.h"
#include "tests/tools/fsck_fixture.h"
#include "tools/cmd.h"

/* ---- rows ---- */

void fx_put(struct fx *x, enum bale_table t, const void *key, size_t key_len,
	    const void *val, size_t val_len)
{
	struct bale_txn txn;

	bale_txn_begin(x->m, &txn);
	bale_txn_put(&txn, t, key, key_len, val, val_len);
	assert_int_equal(bale_txn_commit(&txn, NULL), 0);
}

void fx_del(struct fx *x, enum bale_table t, const void *key, size_t key_len)
{
	struct bale_txn txn;

	bale_txn_begin(x->m, &txn);
	bale_txn_del(&txn, t, key, key_len);
	assert_int_equal(bale_txn_commit(&txn, NULL), 0);
}

void fx_get_inode(struct fx *x, uint64_t ino, struct bale_inode_row *ret)
{
	be64 k = be64_put(ino);
	struct bale_disk_inode d;
	size_t len;

	assert_int_equal(bale_meta_get(x->m, BALE_TABLE_inode, &k, 8, &d,
				       sizeof(d), &len),
			 0);
	assert_int_equal(bale_inode_decode(&d, len, ret), 0);
}

void fx_put_inode(struct fx *x, uint64_t ino, const struct bale_inode_row *r)
{
	be64 k = be64_put(ino);
	struct bale_disk_inode d;

	bale_inode_encode(r, &d);
	fx_put(x, BALE_TABLE_inode, &k, 8, &d, sizeof(d));
}

static size_t name_key(uint8_t *key, uint64_t dir, const char *name)
{
	be64 k = be64_put(dir);

	memcpy(key, &k, 8);
	memcpy(key + 8, name, strlen(name));
	return 8 + strlen(name);
}

void fx_put_dirent(struct fx *x, uint64_t dir, const char *name, uint64_t ino,
		   uint8_t type, uint64_t cookie)
{
	struct bale_disk_dirent d = { .ino = le64_put(ino),
				      .cookie = le64_put(cookie),
				      .type = type };
	uint8_t key[BALE_KEY_MAX];

	fx_put(x, BALE_TABLE_dirent, key, name_key(key, dir, name), &d,
	       sizeof(d));
}

void fx_put_cookie(struct fx *x, uint64_t dir, const char *name, uint64_t ino,
		   uint8_t type, uint64_t cookie)
{
	struct bale_disk_cookie c = { .ino = le64_put(ino), .type = type };
	be64 key[2] = { be64_put(dir), be64_put(cookie) };
	uint8_t val[sizeof(c) + BALE_NAME_MAX];

	memcpy(val, &c, sizeof(c));
	memcpy(val + sizeof(c), name, strlen(name));
	fx_put(x, BALE_TABLE_cookie, key, 16, val, sizeof(c) + strlen(name));
}

void fx_del_dirent(struct fx *x, uint64_t dir, const char *name)
{
	uint8_t key[BALE_KEY_MAX];

	fx_del(x, BALE_TABLE_dirent, key, name_key(key, dir, name));
}

void fx_del_cookie(struct fx *x, uint64_t dir, uint64_t cookie)
{
	be64 key[2] = { be64_put(dir), be64_put(cookie) };

	fx_del(x, BALE_TABLE_cookie, key, 16);
}

uint64_t fx_lookup(struct fx *x, uint64_t dir, const char *name)
{
	uint8_t key[BALE_KEY_MAX];
	struct bale_disk_dirent d;
	size_t len;

	if (bale_meta_get(x->m, BALE_TABLE_dirent, key,
			  name_key(key, dir, name), &d, sizeof(d), &len))
		return 0;
	return le64_get(d.ino);
}

/* ---- making the store ---- */

static void add_name(struct fx *x, uint64_t dir, const char *name, uint64_t ino,
		     uint8_t type)
{
	struct bale_inode_row d;

	fx_get_inode(x, dir, &d);
	fx_put_dirent(x, dir, name, ino, type, d.next_cookie);
	fx_put_cookie(x, dir, name, ino, type, d.next_cookie);
	d.next_cookie++;
	d.nr_entries++;
	d.nlink += type == DT_DIR;
	fx_put_inode(x, dir, &d);
}

static uint64_t add_inode(struct fx *x, struct bale_inode_row *row)
{
	uint64_t ino;

	assert_int_equal(bale_meta_new_ino(x->m, &ino), 0);
	if (S_ISDIR(row->mode)) {
		row->nlink = 2;
		row->next_cookie = 3;
	}
	fx_put_inode(x, ino, row);
	return ino;
}

static void add_inline(struct fx *x, uint64_t ino, const char *text)
{
	uint8_t val[sizeof(struct bale_disk_inline) + 64];
	struct bale_disk_inline d = { .raw_len = le32_put(
					      (uint32_t)strlen(text)) };
	be64 k = be64_put(ino);

	memcpy(val, &d, sizeof(d));
	memcpy(val + sizeof(d), text, strlen(text));
	fx_put(x, BALE_TABLE_inline, &k, 8, val, sizeof(d) + strlen(text));
}

/* One raw and one lz4 extent; returns the bytes stored. */
static uint64_t add_extents(struct fx *x)
{
	uint8_t *raw = malloc(2 * FX_EXTENT), *coded;
	struct bale_extent_in in[2] = { { 0 } };
	struct bale_extent_row rows[2];
	struct bale_job job = { .op = BALE_JOB_ENCODE,
				.codec = BALE_CODEC_lz4,
				.src_len = FX_EXTENT };
	be64 key[2] = { be64_put(x->file), be64_put(0) };
	le64 map[2];
	struct bale_txn t;
	uint32_t rnd = 1;

	assert_non_null(raw);
	for (int k = 0; k < 2 * FX_EXTENT; k++) {
		rnd = rnd * 1664525 + 1013904223;
		raw[k] = k < FX_EXTENT ? (uint8_t)(rnd >> 24) :
					 (uint8_t)("balefs "[k % 7]);
	}
	job.dst_cap = bale_codec_bound(FX_EXTENT);
	coded = malloc(job.dst_cap);
	job.src = raw + FX_EXTENT;
	job.dst = coded;
	bale_codec_run(&job);
	assert_int_equal(job.status, 0);
	assert_int_equal(job.ret_codec, BALE_CODEC_lz4);
	for (int k = 0; k < 2; k++) {
		assert_int_equal(bale_store_new_id(x->st, &x->ext[k]), 0);
		in[k].id = x->ext[k];
		in[k].ino = x->file;
		in[k].extent_no = (uint64_t)k;
		in[k].raw_len = FX_EXTENT;
		in[k].stored = k ? coded : raw;
		in[k].stored_len = k ? (uint32_t)job.len : FX_EXTENT;
		in[k].codec = k ? BALE_CODEC_lz4 : BALE_CODEC_raw;
		in[k].reason = k ? BALE_RAW_none : BALE_RAW_probe;
		map[k] = le64_put(x->ext[k]);
	}
	assert_int_equal(bale_store_append(x->st, in, 2, rows), 0);
	bale_txn_begin(x->m, &t);
	for (int k = 0; k < 2; k++)
		bale_txn_extent_add(&t, x->ext[k], &rows[k]);
	bale_txn_put(&t, BALE_TABLE_map, key, 16, map, sizeof(map));
	assert_int_equal(bale_txn_commit(&t, NULL), 0);
	free(raw);
	free(coded);
	return (uint64_t)FX_EXTENT + job.len;
}

static void populate(struct fx *x)
{
	struct bale_inode_row d = { .mode = S_IFDIR | 0755,
				    .parent = BALE_ROOT_INO };
	struct bale_inode_row f = { .mode = S_IFREG | 0644,
				    .nlink = 2,
				    .size = 2 * FX_EXTENT,
				    .parent = BALE_ROOT_INO,
				    .flags = BALE_INODE_HAS_XATTR };
	struct bale_inode_row s = { .mode = S_IFLNK | 0777,
				    .nlink = 1,
				    .size = 6,
				    .stored = 6,
				    .parent = BALE_ROOT_INO,
				    .flags = BALE_INODE_HAS_INLINE };
	struct bale_inode_row i = { .mode = S_IFREG | 0600,
				    .nlink = 1,
				    .size = 5,
				    .stored = 5,
				    .flags = BALE_INODE_HAS_INLINE };
	struct bale_inode_row e = { .mode = S_IFDIR | 0755 };
	uint8_t key[16];

	x->subdir = add_inode(x, &d);
	x->file = add_inode(x, &f);
	x->sym = add_inode(x, &s);
	i.parent = e.parent = x->subdir;
	x->inner = add_inode(x, &i);
	x->empty = add_inode(x, &e);
	add_name(x, BALE_ROOT_INO, "dir", x->subdir, DT_DIR);
	add_name(x, BALE_ROOT_INO, "file", x->file, DT_REG);
	add_name(x, BALE_ROOT_INO, "sym", x->sym, DT_LNK);
	add_name(x, x->subdir, "hard", x->file, DT_REG);
	add_name(x, x->subdir, "inner", x->inner, DT_REG);
	add_name(x, x->subdir, "sub", x->empty, DT_DIR);
	add_inline(x, x->sym, "target");
	add_inline(x, x->inner, "hello");
	fx_put(x, BALE_TABLE_xattr, key, name_key(key, x->file, "user.a"), "b",
	       1);
	f.stored = add_extents(x);
	fx_put_inode(x, x->file, &f);
}

void fx_open(struct fx *x)
{
	struct bale_store_options o = { .size = sizeof(o),
					.manual_commit = true };

	assert_int_equal(bale_store_open(x->store, &o, &x->st), 0);
	x->m = bale_store_meta(x->st);
}

void fx_close(struct fx *x)
{
	assert_int_equal(bale_store_close(x->st), 0);
	x->st = NULL;
}

int fx_setup(void **state)
{
	struct bale_mkfs_options mk = { .size = sizeof(mk),
					.extent_bits = 17,
					.segment_bits = 20,
					.log_bits = 20,
					.codec = BALE_CODEC_auto };
	struct fx *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->dir, "/tmp/balefs-test-fsck-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	snprintf(x->store, sizeof(x->store), "%s/store", x->dir);
	assert_int_equal(bale_store_mkfs(x->store, &mk), 0);
	fx_open(x);
	populate(x);
	*state = x;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

int fx_teardown(void **state)
{
	struct fx *x = *state;

	if (x->st)
		bale_store_close(x->st);
	nftw(x->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(x);
	return 0;
}

/* ---- files ---- */

static FILE *open_file(struct fx *x, const char *name, const char *mode)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", x->store, name);
	f = fopen(path, mode);
	if (!f)
		fail_msg("%s: cannot be opened", path);
	return f;
}

void fx_flip(struct fx *x, const char *name, long off)
{
	FILE *f = open_file(x, name, "r+");
	int c;

	assert_int_equal(fseek(f, off, off < 0 ? SEEK_END : SEEK_SET), 0);
	off = ftell(f);
	c = fgetc(f);
	assert_int_not_equal(c, EOF);
	assert_int_equal(fseek(f, off, SEEK_SET), 0);
	assert_int_equal(fputc(c ^ 0x10, f), c ^ 0x10);
	assert_int_equal(fclose(f), 0);
}

void fx_remove(struct fx *x, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", x->store, name);
	assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

long fx_find(struct fx *x, const char *name, const void *what, size_t len,
	     long from)
{
	FILE *f = open_file(x, name, "r");
	struct stat st;
	uint8_t *buf, *p;
	long at;

	assert_int_equal(fstat(fileno(f), &st), 0);
	buf = malloc((size_t)st.st_size + 1);
	assert_non_null(buf);
	assert_int_equal(fread(buf, 1, (size_t)st.st_size, f), st.st_size);
	fclose(f);
	p = from > st.st_size ?
		    NULL :
		    memmem(buf + from, (size_t)(st.st_size - from), what, len);
	at = p ? p - buf : -1;
	free(buf);
	return at;
}

/* ---- fsck ---- */

static void child(struct fx *x, const char *args, const char *out)
{
	char text[256], *argv[16] = { "fsck.balefs" }, *save = NULL;
	int argc = 1, fd = open(out, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		_exit(99);
	/* cmocka catches these and would go on with the next test, here. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
	signal(SIGILL, SIG_DFL);
	signal(SIGABRT, SIG_DFL);
	dup2(fd, 1);
	dup2(fd, 2);
	snprintf(text, sizeof(text), "%s", args);
	for (char *a = strtok_r(text, " ", &save); a;
	     a = strtok_r(NULL, " ", &save))
		argv[argc++] = a;
	argv[argc++] = x->store;
	optind = 0;
	argc = bale_cmd_fsck.fn(&bale_cmd_fsck, argc, argv);
	fflush(stdout);
	_exit(argc);
}

int fx_fsck_wait(struct fx *x, const char *args)
{
	char out[96];
	int status;
	size_t len;
	pid_t pid;
	FILE *f;

	snprintf(out, sizeof(out), "%s/out", x->dir);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		child(x, args, out);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	f = fopen(out, "r");
	if (!f)
		fail_msg("%s: %s, status %x", out, strerror(errno),
			 (unsigned int)status);
	len = fread(x->out, 1, sizeof(x->out) - 1, f);
	x->out[len] = '\0';
	fclose(f);
	return status;
}

int fx_fsck(struct fx *x, const char *args)
{
	int status = fx_fsck_wait(x, args);

	if (!WIFEXITED(status))
		fail_msg("fsck %s died, signal %d:\n%s", args, WTERMSIG(status),
			 x->out);
	return WEXITSTATUS(status);
}
