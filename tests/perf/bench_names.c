/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_names.c - names per second inside the process, without a kernel.
 *
 *   bench_names DIR [FILES [THREADS]]
 *
 * Makes a store below DIR, and lets each thread work in a directory of its
 * own as the kernel would: a lookup count is taken and forgotten.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/base/clock.h"
#include "fs/inode/inode.h"

struct worker {
	struct bale_fs *fs;
	struct bale_inode *dir;
	unsigned int nr, id;
	uint64_t listed;
	const struct phase *phase;
	int error;
};

struct phase {
	const char *name;
	int (*fn)(struct worker *w, unsigned int k);
	bool once; /* fn does all of them */
};

static const struct bale_cred cred = { 0, 0, 022 };

static void name_of(char *buf, size_t cap, unsigned int k)
{
	snprintf(buf, cap, "file-%07u", k);
}

static int do_create(struct worker *w, unsigned int k)
{
	struct bale_inode *i;
	char name[32];
	int r;

	name_of(name, sizeof(name), k);
	r = bale_dir_create(w->dir, name, S_IFREG | 0644, 0, &cred, &i);
	if (r)
		return r;
	bale_inode_lookup_ref(i);
	bale_inode_put(i);
	return 0;
}

static int do_lookup(struct worker *w, unsigned int k)
{
	struct bale_inode *i;
	char name[32];
	int r;

	name_of(name, sizeof(name), (unsigned int)(k * 7919ull % w->nr));
	r = bale_dir_lookup(w->dir, name, &i);
	if (!r)
		bale_inode_put(i);
	return r;
}

static int list_fn(const struct bale_dir_entry *e, void *arg)
{
	struct worker *w = arg;

	(void)e;
	w->listed++;
	return 0;
}

static int do_list(struct worker *w, unsigned int k)
{
	(void)k;
	w->listed = 0;
	return bale_dir_read(w->dir, 0, list_fn, w);
}

static int do_rename(struct worker *w, unsigned int k)
{
	char name[32], to[32];

	name_of(name, sizeof(name), k);
	snprintf(to, sizeof(to), "moved-%07u", k);
	return bale_dir_rename(w->dir, name, w->dir, to, 0);
}

static int do_unlink(struct worker *w, unsigned int k)
{
	struct bale_inode *i;
	char name[32];
	int r;

	snprintf(name, sizeof(name), "moved-%07u", k);
	r = bale_dir_lookup(w->dir, name, &i);
	if (r)
		return r;
	r = bale_dir_unlink(w->dir, name);
	bale_inode_put(i);
	bale_inode_forget(w->fs, i->ino, 1);
	return r;
}

static const struct phase phases[] = {
	{ "create", do_create, false }, { "lookup", do_lookup, false },
	{ "readdir", do_list, true },	{ "rename", do_rename, false },
	{ "unlink", do_unlink, false },
};

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned int nr = w->phase->once ? 1 : w->nr;

	for (unsigned int k = 0; k < nr && !w->error; k++)
		w->error = w->phase->fn(w, k);
	return NULL;
}

static int run_phase(const struct phase *p, struct worker *w,
		     unsigned int threads)
{
	uint64_t start = bale_now_ns(), cpu = bale_cpu_ns(), ns;
	pthread_t t[64];
	double ops;

	for (unsigned int k = 0; k < threads; k++) {
		w[k].phase = p;
		if (pthread_create(&t[k], NULL, work, &w[k]))
			return -EAGAIN;
	}
	for (unsigned int k = 0; k < threads; k++)
		pthread_join(t[k], NULL);
	ns = bale_now_ns() - start;
	cpu = bale_cpu_ns() - cpu;
	ops = (double)w[0].nr * threads;
	printf("%-8s %u threads  %9.0f /s  %6.2f us CPU each\n", p->name,
	       threads, ops * 1e9 / (double)ns, (double)cpu / ops / 1e3);
	for (unsigned int k = 0; k < threads; k++) {
		if (w[k].error)
			return w[k].error;
	}
	return 0;
}

static int run_all(struct bale_fs *fs, unsigned int nr, unsigned int threads)
{
	struct worker w[64] = { 0 };
	struct bale_inode *root;
	char name[32];
	int r = bale_inode_get(fs, BALE_ROOT_INO, &root);

	for (unsigned int k = 0; !r && k < threads; k++) {
		snprintf(name, sizeof(name), "d%u-%u", threads, k);
		w[k].fs = fs;
		w[k].nr = nr / threads;
		r = bale_dir_mkdir(root, name, 0755, &cred, &w[k].dir);
	}
	for (size_t p = 0; !r && p < sizeof(phases) / sizeof(phases[0]); p++)
		r = run_phase(&phases[p], w, threads);
	for (unsigned int k = 0; k < threads; k++)
		bale_inode_put(w[k].dir);
	bale_inode_put(root);
	return r;
}

int main(int argc, char **argv)
{
	struct bale_mkfs_options mo = { .size = sizeof(mo),
					.codec = BALE_CODEC_lz4 };
	struct bale_fs_options fo = { .size = sizeof(fo) };
	unsigned int nr = argc > 2 ? (unsigned int)atoi(argv[2]) : 200000;
	unsigned int most = argc > 3 ? (unsigned int)atoi(argv[3]) : 2;
	char store[4096];
	struct bale_fs *fs;
	int r;

	if (argc < 2 || !nr || !most || most > 64) {
		fprintf(stderr, "usage: bench_names DIR [FILES [THREADS]]\n");
		return 2;
	}
	snprintf(store, sizeof(store), "%s/bench-names.store", argv[1]);
	r = bale_store_mkfs(store, &mo);
	if (!r)
		r = bale_fs_open(store, &fo, &fs);
	for (unsigned int t = 1; !r && t <= most; t *= 2)
		r = run_all(fs, nr, t);
	if (!r)
		r = bale_fs_close(fs);
	if (r)
		fprintf(stderr, "bench_names: %s\n", strerror(-r));
	return r ? 1 : 0;
}
