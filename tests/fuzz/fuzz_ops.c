/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences of operations, as requests of a mount arrive, against a model.
 * Input: one byte of what happens at the end, then operations: a byte for
 * which, and bytes for files, names, places and lengths, which are drawn near
 * where something changes (inline values, borders of extents and map rows, the
 * end of the file). Every read, size, seek and list is compared, and so are all
 * files after each remount and at the end. After a crash the tree must be that
 * of one moment since the last commit, and content what the model allows.
 *
 * One thread and no clock: the same input does the same again. With
 * FUZZ_OPS_THREADS=1 in the environment flushes, commits, the applier and the
 * cleaner run on their own threads meanwhile. FUZZ_VERBOSE=1 tells each step.
 */
#include <linux/fs.h>

#include "tests/fuzz/fuzz_ops_data.h"

/* ---- names and attributes ---- */

static const struct bale_cred cred = { 0, 0, 022 };

static bool has_room(void)
{
	return md.now.nr_nodes < NR_NODES && md.now.nr_entries < NR_ENTRIES;
}

static int nr_files(void)
{
	int nr = 0;

	for (int k = 0; k < (int)md.now.nr_nodes; k++)
		nr += md.now.n[k].ino && is_usable(k);
	return nr;
}

static int create_one(struct bale_inode *dir, int type, const char *name,
		      char *target, struct bale_inode **ret)
{
	size_t len;

	switch (type) {
	case 0:
		return bale_dir_mkdir(dir, name, 0755, &cred, ret);
	case 1:
		len = 1 + (size_t)take() * 16 % BALE_SYMLINK_MAX;
		memset(target, 'a' + (int)op_no % 26, len);
		target[len] = 0;
		return bale_dir_symlink(dir, name, target, &cred, ret);
	case 2:
		return bale_dir_create(dir, name, S_IFIFO | 0600, 0, &cred,
				       ret);
	case 3:
		return bale_dir_tmpfile(dir, S_IFREG | 0600, &cred, ret);
	default:
		return bale_dir_create(dir, name, S_IFREG | 0644, 0, &cred,
				       ret);
	}
}

static void op_create(void)
{
	int parent = choose(is_named_dir), name = take_below(NR_NAMES);
	int type = take_below(10), node, r;
	bool taken = type != 3 && tree_find(parent, name) >= 0;
	char target[BALE_SYMLINK_MAX + 1];
	struct bale_inode *dir, *i;
	struct node n;

	/* Few files meet more often. */
	if (!has_room() || (type > 3 && nr_files() > 5 && take() % 8))
		return;
	dir = node_get(parent);
	r = create_one(dir, type, name_text(name), target, &i);
	bale_inode_put(dir);
	if (taken) {
		FUZZ_ASSERT(r == -EEXIST);
		return;
	}
	if (refused(r, "create"))
		return;
	look_node(i, &n);
	node = tree_new(i->ino, n.mode);
	bale_inode_lookup_ref(i);
	md.known[node] = true;
	if (type == 1)
		md.now.n[node].target = hash(target, strlen(target));
	if (type == 3 || (type > 6 && is_file(node))) {
		bale_inode_open(i);
		md.open[node] = true;
	}
	bale_inode_put(i);
	if (type != 3)
		tree_add(parent, name, node);
	SAY("create node %d (%o) as %d/%d\n", node, n.mode, parent, name);
}

static void op_open(void)
{
	int node = choose_file();
	struct bale_inode *i;

	if (node < 0)
		return;
	if (md.open[node]) {
		SAY("close node %d\n", node);
		node_close(node);
		return;
	}
	SAY("open node %d\n", node);
	i = node_get(node);
	bale_inode_open(i);
	md.open[node] = true;
	bale_inode_put(i);
}

static void op_forget(void)
{
	int node = choose(has_name);

	if (node > 0 && !md.open[node])
		node_forget(node);
}

static bool is_linkable(int node)
{
	return !is_dir(node) && (md.now.n[node].nlink || md.open[node]);
}

static void op_link(void)
{
	int node = choose(is_linkable), parent = choose(is_named_dir);
	int name = take_below(NR_NAMES), r;
	struct bale_inode *i, *dir;
	bool fresh;

	if (node < 0 || md.now.nr_entries == NR_ENTRIES)
		return;
	fresh = !md.now.n[node].nlink;
	i = node_get(node);
	dir = node_get(parent);
	r = bale_dir_link(i, dir, name_text(name));
	SAY("link node %d as %d/%d: %d\n", node, parent, name, r);
	/* Once it had a name and lost the last: that is for ever. */
	if (tree_find(parent, name) >= 0)
		FUZZ_ASSERT(r == -EEXIST);
	else if (i->deleted)
		FUZZ_ASSERT(r == -ENOENT);
	else if (!refused(r, "link")) {
		tree_add(parent, name, node);
		moment();
		if (fresh)
			content_ordered(node);
	}
	bale_inode_put(dir);
	bale_inode_put(i);
}

static void op_unlink(void)
{
	int parent = choose(is_named_dir), name = take_below(NR_NAMES);
	int node = tree_child(parent, name), want = 0, r;
	struct bale_inode *dir = node_get(parent);
	bool rm = node >= 0 && is_dir(node);

	if (take_below(16) == 15)
		rm = !rm;
	r = rm ? bale_dir_rmdir(dir, name_text(name)) :
		 bale_dir_unlink(dir, name_text(name));
	bale_inode_put(dir);
	if (node < 0)
		want = -ENOENT;
	else if (rm != is_dir(node))
		want = rm ? -ENOTDIR : -EISDIR;
	else if (rm && !tree_is_empty(node))
		want = -ENOTEMPTY;
	SAY("unlink %d/%d: %d\n", parent, name, r);
	FUZZ_ASSERT(r == want);
	if (r)
		return;
	node_unnamed(tree_remove(parent, name));
}

/* 0, or that something must be said. */
static int rename_errno(int from, int a, int to, int b, unsigned int flags)
{
	int x = tree_child(from, a), y = tree_child(to, b);

	if (x < 0)
		return -ENOENT;
	if (flags & RENAME_NOREPLACE && y >= 0)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE && y < 0)
		return -ENOENT;
	if (x == y)
		return 0;
	if (is_dir(x) && tree_is_below(to, x))
		return -EINVAL;
	if (y >= 0 && is_dir(y) && tree_is_below(from, y))
		return -ENOTEMPTY;
	if (y < 0 || flags & RENAME_EXCHANGE)
		return 0;
	if (is_dir(x) != is_dir(y))
		return is_dir(x) ? -ENOTDIR : -EISDIR;
	return is_dir(y) && !tree_is_empty(y) ? -ENOTEMPTY : 0;
}

static void model_rename(int from, int a, int to, int b, unsigned int flags)
{
	int x = tree_child(from, a), y = tree_child(to, b);

	if (x == y)
		return;
	tree_remove(from, a);
	if (y >= 0)
		tree_remove(to, b);
	tree_add(to, b, x);
	if (flags & RENAME_EXCHANGE)
		tree_add(from, a, y);
	else if (y >= 0)
		node_unnamed(y);
	moment();
	content_ordered(x);
	if (flags & RENAME_EXCHANGE)
		content_ordered(y);
}

static void op_rename(void)
{
	static const unsigned int all[] = { 0, 0, RENAME_NOREPLACE,
					    RENAME_EXCHANGE };
	int from = choose(is_named_dir), to = choose(is_named_dir);
	int a = take_below(NR_NAMES), b = take_below(NR_NAMES);
	unsigned int flags = all[take_below(4)];
	int want = rename_errno(from, a, to, b, flags), r;
	struct bale_inode *i = node_get(from), *k = node_get(to);

	r = bale_dir_rename(i, name_text(a), k, name_text(b), flags);
	SAY("rename %d/%d to %d/%d flags %u: %d\n", from, a, to, b, flags, r);
	if (want)
		FUZZ_ASSERT(r && r != -ENOSPC && r != -EIO && r != -EUCLEAN);
	else if (!refused(r, "rename"))
		model_rename(from, a, to, b, flags);
	bale_inode_put(i);
	bale_inode_put(k);
}

static bool has_attributes(int node)
{
	return !node || md.now.n[node].nlink;
}

static void op_xattr(void)
{
	int node = choose(has_attributes), which = take_below(NR_XATTRS);
	uint32_t *have = &md.now.n[node].xattr[which];
	struct bale_inode *i = node_get(node);
	uint8_t how = take();
	size_t len = how % 4 == 3 ? 9000 : how;
	int r;

	make_data(len);
	if (how % 5) {
		r = bale_xattr_set(i, xattr_names[which], space, len, 0, false);
		if (!refused(r, "setxattr"))
			*have = hash(space, len);
	} else {
		r = bale_xattr_remove(i, xattr_names[which]);
		FUZZ_ASSERT(r == (*have ? 0 : -ENODATA));
		*have = 0;
	}
	SAY("xattr %d of node %d: %x\n", which, node, *have);
	bale_inode_put(i);
}

static void op_chmod(void)
{
	int node = choose(has_attributes);
	struct bale_setattr a = { .valid = BALE_SET_MODE,
				  .mode = take() * 257u & 0777 };
	struct bale_inode *i = node_get(node);

	must(bale_inode_setattr(i, &a), "chmod");
	md.now.n[node].mode = (md.now.n[node].mode & S_IFMT) | a.mode;
	bale_inode_put(i);
}

/* Changes nothing that is compared, only how it is stored. */
static void op_policy(void)
{
	static const char *const texts[] = { "auto", "raw", "lz4", "zstd",
					     "gdeflate" };
	int node = choose_file();
	const char *text = texts[take_below(5)];
	struct bale_inode *i;

	if (node < 0)
		return;
	i = node_get(node);
	refused(bale_xattr_set(i, "user.balefs.codec", text, strlen(text), 0,
			       false),
		"policy");
	bale_inode_put(i);
}

/* ---- durability ---- */

static void op_fsync(void)
{
	int node = choose_file();
	struct bale_inode *i;

	if (node < 0)
		return;
	SAY("fsync node %d\n", node);
	i = node_get(node);
	must(bale_file_fsync(i, op_no % 2), "fsync");
	bale_inode_put(i);
	moment();
	file_durable(node);
	tree_durable();
}

static void op_commit(void)
{
	bool all = take_below(2);

	SAY("commit %d\n", all);
	land_all();
	must(all ? bale_fs_sync(fs) : bale_meta_sync(fs->meta, 0), "commit");
	moment();
	if (all)
		all_durable();
	else
		tree_durable();
}

static void op_background(void)
{
	int what = take_below(3);

	if (disk_full)
		return;
	SAY("background %d\n", what);
	if (what == 0)
		must(bale_cleaner_run(fs->store, UINT64_MAX), "cleaner");
	else if (what == 1)
		must(bale_meta_apply(fs->meta), "apply");
	else
		must(bale_meta_checkpoint(fs->meta), "checkpoint");
}

static void op_disk(void)
{
	land_all();
	disk_full = !disk_full && take_below(2);
	SAY("disk full: %d\n", disk_full);
}

/* ---- the end of a mount ---- */

static void verify_tree(void)
{
	static struct tree is;

	look_tree(&is);
	if (same_tree(&md.now, &is))
		return;
	say_tree("model", &md.now);
	say_tree("found", &is);
	FUZZ_ASSERT(!"the tree differs");
}

static void verify(void)
{
	verify_tree();
	for (int k = 0; k < (int)md.now.nr_nodes; k++)
		if (md.now.n[k].ino && is_usable(k))
			compare_whole(k);
}

/* The handles and the kernel's lookups end; what had no name is gone. */
static void let_go(void)
{
	for (int k = 1; k < (int)md.now.nr_nodes; k++) {
		if (md.open[k])
			node_close(k);
		if (md.now.n[k].ino)
			node_forget(k);
	}
}

static void op_remount(void)
{
	uint8_t how = take();

	SAY("remount %u\n", how);
	disk_full = false;
	land_all();
	let_go();
	must(bale_fs_close(fs), "close");
	if (how % 4 == 0)
		compare_indexes();
	if (how % 4 == 1)
		fsck_is_clean();
	if (how % 4 == 2)
		fs_lose_index();
	all_durable();
	moment();
	md.past[0] = md.now;
	md.nr_past = 1;
	fs_open(false, false);
	verify();
}

/* ---- crashes ---- */

static bool possible(const struct file *f, unsigned int first, uint64_t at,
		     const uint8_t *got, uint64_t n)
{
	for (unsigned int v = first; v < f->nr; v++) {
		static const uint8_t zeros[EXT];
		const struct chunk *c = f->v[v].c[at / EXT];

		if (f->v[v].size >= at + n && !memcmp(c ? c->b : zeros, got, n))
			return true;
	}
	for (uint64_t p = 0; p < n; p++) {
		bool ok = false;

		for (unsigned int v = first; v < f->nr && !ok; v++) {
			const struct chunk *c = f->v[v].c[at / EXT];

			ok = f->v[v].size > at + p &&
			     got[p] == (c ? c->b[p] : 0);
		}
		if (!ok) {
			fprintf(stderr, "at %#llx: %02x was never there\n",
				(unsigned long long)(at + p), got[p]);
			return false;
		}
	}
	return true;
}

/* What is there after the crash is one of what may be, and is from now on. */
static void adopt(int node, unsigned int moment_no)
{
	struct file *f = &md.f[node];
	unsigned int first = oldest_version(f, moment_no);
	uint64_t least = UINT64_MAX, most = 0;
	struct bale_inode *i = inode_get(md.now.n[node].ino);
	struct bale_inode_row row;
	struct version *v;

	bale_inode_attr(i, &row);
	for (unsigned int k = first; k < f->nr; k++) {
		least = f->v[k].size < least ? f->v[k].size : least;
		most = f->v[k].size > most ? f->v[k].size : most;
	}
	SAY("node %d: size %#llx of %#llx to %#llx\n", node,
	    (unsigned long long)row.size, (unsigned long long)least,
	    (unsigned long long)most);
	FUZZ_ASSERT(row.size >= least && row.size <= most);
	v = file_change(f);
	v->size = 0; /* so that it is not asked */
	for (uint64_t at = 0; at < row.size; at += EXT) {
		uint64_t n = row.size - at < EXT ? row.size - at : EXT;

		FUZZ_ASSERT(read_at(i, at, n, space) == n);
		FUZZ_ASSERT(possible(f, first, at, space, n));
		memset(space + n, 0, EXT - n);
		version_put(v, at, space, EXT);
	}
	version_put(v, (row.size + EXT - 1) / EXT * EXT, NULL,
		    FILE_CAP - (row.size + EXT - 1) / EXT * EXT);
	v->size = row.size;
	bale_inode_put(i);
	file_durable(node);
}

static void find_moment(void)
{
	static struct tree is;
	unsigned int k = 0;

	look_tree(&is);
	while (k < md.nr_past && !same_tree(&md.past[k], &is))
		k++;
	if (k == md.nr_past) {
		say_tree("durable", &md.past[0]);
		say_tree("now", &md.now);
		say_tree("found", &is);
		FUZZ_ASSERT(!"names of no moment");
	}
	SAY("moment %u of %u\n", k, md.nr_past);
	md.past[0] = md.past[k];
	md.now = md.past[0];
	md.nr_past = 1;
	for (int n = 1; n < NR_NODES; n++) {
		md.open[n] = md.known[n] = false;
		if (n >= (int)md.now.nr_nodes || !md.now.n[n].nlink) {
			if (n < (int)md.now.nr_nodes)
				md.now.n[n].ino = 0;
			file_forget(&md.f[n], md.f[n].nr);
		} else if (is_file(n)) {
			adopt(n, k);
		}
	}
	md.past[0] = md.now;
}

static void op_crash(void)
{
	uint8_t how = take();

	SAY("crash %u\n", how);
	moment();
	disk_dead = true;
	disk_full = false;
	bale_store_fail(fs->store, -EIO, "the fuzzer's crash");
	land_all();
	for (int k = 1; k < (int)md.now.nr_nodes; k++) {
		if (md.open[k])
			bale_inode_release(inode_get(md.now.n[k].ino));
		if (md.known[k])
			bale_inode_forget(fs, md.now.n[k].ino, 1);
	}
	FUZZ_ASSERT(bale_fs_close(fs));
	disk_dead = false;
	if (how % 4 == 0)
		fs_lose_index();
	if (how % 4 == 1)
		compare_indexes();
	if (how % 4 == 2)
		fsck_is_clean();
	fs_open(false, false);
	find_moment();
}

/* ---- the whole ---- */

static void (*const ops[])(void) = {
	op_write,     op_write,	  op_write,	 op_write,    op_write,
	op_read,      op_read,	  op_truncate,	 op_truncate, op_fallocate,
	op_fallocate, op_copy,	  op_copy,	 op_seek,     op_fly,
	op_fly,	      op_land,	  op_create,	 op_create,   op_create,
	op_open,      op_forget,  op_link,	 op_unlink,   op_rename,
	op_rename,    op_xattr,	  op_chmod,	 op_policy,   op_fsync,
	op_fsync,     op_commit,  op_background, op_disk,     op_recompress,
	op_evict,     op_remount, op_crash,
};

static void one_op(void)
{
	struct tree before = md.now;

	ops[take_below(sizeof(ops) / sizeof(ops[0]))]();
	if (memcmp(&before, &md.now, sizeof(before)))
		moment();
}

/* Nothing is dirty, nothing promised: then nothing may be reserved. */
static void nothing_reserved(void)
{
	struct bale_space_info info;

	bale_promise_abandon(fs);
	must(bale_fs_sync(fs), "sync");
	bale_space_info(fs->store, &info);
	FUZZ_ASSERT(threaded || !info.reserved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t how;

	in_p = data;
	in_len = size;
	how = take();
	fs_setup();
	fs_make();
	fs_open(false, false);
	model_reset();
	last[0] = last[1] = 0;
	tree_new(BALE_ROOT_INO, S_IFDIR | 0755);
	moment();
	for (op_no = 0; op_no < MAX_OPS && in_len; op_no++)
		one_op();
	disk_full = false;
	land_all();
	verify();
	let_go();
	nothing_reserved();
	must(bale_fs_close(fs), "close");
	if (how % 2)
		fsck_is_clean();
	fs_open(true, how % 8 == 2);
	all_durable();
	verify_tree();
	for (int k = 0; k < (int)md.now.nr_nodes; k++)
		if (md.now.n[k].ino && is_usable(k))
			compare_whole(k);
	let_go();
	must(bale_fs_close(fs), "close");
	return 0;
}
