/* SPDX-License-Identifier: Apache-2.0 */
/* fs.c - a filesystem from open to close. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/fault.h"
#include "fs/inode/flush.h"
#include "fs/inode/fs_stats.h"

enum {
	CACHE_MIN = 256 << 20,
	BALE_BYTES = 64 << 20,
};
#define CACHE_MAX ((uint64_t)4 << 30)
#define COMMIT_NS ((uint64_t)5 * 1000 * 1000 * 1000)

/*
 * Fresh memory costs its zeroing, and what the cache holds the kernel mostly
 * holds as well: an eighth of the memory spent 28 % of the daemon's time in
 * clear_page while 500 MB went in. A cache that comes round soon is warm.
 */
static uint64_t default_cache(void)
{
	uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) *
		       (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t bytes = ram / 32;

	if (bytes > CACHE_MAX)
		bytes = CACHE_MAX;
	if (bytes < CACHE_MIN)
		bytes = CACHE_MIN;
	return bytes > ram / 4 ? ram / 4 : bytes;
}

static void fill_options(struct bale_fs *fs, const struct bale_fs_options *o)
{
	fs->o = *o;
	if (!fs->o.cache_bytes)
		fs->o.cache_bytes = default_cache();
	if (!fs->o.bale_bytes)
		fs->o.bale_bytes = BALE_BYTES;
	if (!fs->o.commit_ns)
		fs->o.commit_ns = COMMIT_NS;
	if (fs->o.manual_commit)
		fs->o.nr_workers = 1;
}

static int open_store(struct bale_fs *fs, const char *path)
{
	struct bale_store_options so = {
		.size = sizeof(so),
		.read_only = fs->o.read_only,
		.untrusted = fs->o.untrusted,
		.rebuild_index = fs->o.salvage,
		.manual_commit = fs->o.manual_commit,
		.wait_ms = fs->o.wait_ms,
		.commit_ns = fs->o.commit_ns,
		.io_ops = fs->o.io_ops,
		.io_priv = fs->o.io_priv,
	};
	int r = bale_store_open(path, &so, &fs->store);

	if (r)
		return r;
	fs->meta = bale_store_meta(fs->store);
	fs->extent_bits = bale_store_super(fs->store)->extent_bits;
	fs->extent_size = (size_t)1 << fs->extent_bits;
	if (!fs->o.has_policy) {
		fs->o.policy.codec = bale_store_super(fs->store)->codec;
		fs->o.policy.level = bale_store_super(fs->store)->level;
		fs->o.policy.filter = bale_store_super(fs->store)->filter;
	}
	/* A cache of less than a few extents could not hold one write. */
	if (fs->o.cache_bytes < 32 * fs->extent_size)
		fs->o.cache_bytes = 32 * fs->extent_size;
	return 0;
}

static int open_engine(struct bale_fs *fs)
{
	int r;

	if (fs->o.manual_commit)
		return bale_engine_serial_create(&fs->engine);
	r = bale_engine_gpu_create(&fs->o.gpu, fs->o.nr_workers, &fs->engine);
	if (r == -ENODEV)
		r = bale_engine_cpu_create(fs->o.nr_workers, &fs->engine);
	return r;
}

/*
 * The extents that are written and read lie in the cache: what a device can
 * reach there needs no copy on the way. Pinned memory cannot be swapped out, so
 * at most a quarter of the machine's.
 */
static void pin_cache(struct bale_fs *fs)
{
	const uint64_t most = (uint64_t)sysconf(_SC_PHYS_PAGES) / 4 *
			      (uint64_t)sysconf(_SC_PAGESIZE);
	size_t len;

	bale_cache_memory(fs->cache, &fs->pinned, &len);
	bale_engine_pin(fs->engine, fs->pinned, len < most ? len : most,
			false);
}

static int open_parts(struct bale_fs *fs)
{
	void *z = mmap(NULL, fs->extent_size, PROT_READ,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (z == MAP_FAILED)
		return -ENOMEM;
	fs->zeros = z;
	r = open_engine(fs);
	if (!r)
		r = bale_batcher_create(fs->store, fs->engine, &fs->batcher);
	if (!r)
		/* A sixteenth for the entries themselves, 200 bytes each. */
		r = bale_cache_create(fs->o.cache_bytes / 16 * 15,
				      fs->extent_size, &fs->cache);
	if (!r)
		pin_cache(fs);
	if (!r)
		r = bale_flush_create(fs);
	if (!r)
		r = bale_names_create(fs, &fs->names);
	/* Patches first: what else is done to a file counts on its dirty
	 * extents standing for them. */
	if (!r)
		r = bale_patches_recover(fs);
	if (!r && !fs->o.read_only)
		r = bale_names_recover(fs);
	if (!r)
		r = bale_readahead_create(fs);
	if (!r)
		r = bale_flush_start(fs);
	return r;
}

/* Any half-open state. */
static int destroy(struct bale_fs *fs)
{
	int r = 0;

	bale_flush_stop(fs);
	bale_readahead_destroy(fs);
	bale_flush_abandon(fs);
	bale_names_destroy(fs->names);
	bale_flush_destroy(fs);
	if (fs->pinned)
		bale_engine_unpin(fs->engine, fs->pinned);
	bale_cache_destroy(fs->cache);
	bale_batcher_destroy(fs->batcher);
	bale_engine_destroy(fs->engine);
	if (fs->store)
		r = bale_store_close(fs->store);
	if (fs->zeros)
		munmap((void *)fs->zeros, fs->extent_size);
	free(fs);
	return r;
}

int bale_fs_open(const char *store, const struct bale_fs_options *o,
		 struct bale_fs **ret)
{
	struct bale_fs *fs;
	int r;

	if (o->size != sizeof(*o))
		return -EINVAL;
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	fill_options(fs, o);
	r = open_store(fs, store);
	if (!r)
		r = open_parts(fs);
	if (r) {
		destroy(fs);
		return r;
	}
	*ret = fs;
	return 0;
}

int bale_fs_sync(struct bale_fs *fs)
{
	int r, one;

	if (fs->o.read_only)
		return 0;
	r = bale_flush_all(fs);
	one = bale_names_stage_times(fs);
	r = r ? r : one;
	one = bale_meta_sync(fs->meta, 0);
	return r ? r : one;
}

int bale_fs_close(struct bale_fs *fs)
{
	int r = 0, one;

	bale_flush_stop(fs);
	bale_promise_abandon(fs);
	if (!fs->o.read_only) {
		/* Dirty data first: it keeps references to deleted files. */
		r = bale_flush_all(fs);
		BALE_FAULT_POINT("close.flushed");
		one = bale_names_shutdown(fs);
		BALE_FAULT_POINT("close.names");
		r = r ? r : one;
		one = bale_fs_sync(fs);
		r = r ? r : one;
	}
	one = destroy(fs);
	return r ? r : one;
}

struct bale_store *bale_fs_store(struct bale_fs *fs)
{
	return fs->store;
}

struct bale_meta *bale_fs_meta(struct bale_fs *fs)
{
	return fs->meta;
}

const struct bale_fs_options *bale_fs_options(const struct bale_fs *fs)
{
	return &fs->o;
}

struct bale_codec_policy bale_inode_policy(struct bale_inode *i)
{
	struct bale_codec_policy p = i->fs->o.policy;

	if (i->row.flags & BALE_INODE_NOCOMP) {
		p = (struct bale_codec_policy){ .codec = BALE_CODEC_raw };
	} else if (i->row.flags & BALE_INODE_HAS_POLICY) {
		p.codec = i->row.codec;
		p.level = i->row.level;
		p.filter = i->row.filter;
	} else if (i->row.flags & BALE_INODE_COMPRESS &&
		   p.codec == BALE_CODEC_raw) {
		p.codec = BALE_CODEC_auto;
	}
	return p;
}

void bale_fs_stats(struct bale_fs *fs, struct bale_fs_stats *ret)
{
	struct bale_flush *fl = fs->flush;

	memset(ret, 0, sizeof(*ret));
	bale_cache_stats(fs->cache, &ret->cache);
	bale_batcher_stats(fs->batcher, &ret->batch);
	fs->engine->ops->stats(fs->engine, &ret->engine);
	ret->engine_name = fs->engine->ops->name;
	if (fs->engine->ops->pin && !ret->engine.nr_devs)
		ret->engine_name = "cpu";
	ret->dirty_bytes = (uint64_t)atomic_load(&fl->listed);
	ret->flying_bytes = (uint64_t)atomic_load(&fl->flying);
	ret->dirty_limit = (uint64_t)fl->limit;
	ret->flushes = atomic_load(&fl->nr_flushes);
	ret->fsyncs = atomic_load(&fl->nr_fsyncs);
	ret->patch_fsyncs = atomic_load(&fl->nr_patches);
	ret->throttled = atomic_load(&fl->nr_throttled);
	ret->cpu_ns = bale_cpu_ns();
}
