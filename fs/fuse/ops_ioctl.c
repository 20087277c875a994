/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_ioctl.c - chattr's flags, our own calls (balefs/ioctl.h), and in test
 * mounts the shutdown call that xfs, ext4 and f2fs have.
 */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "balefs/ioctl.h"
#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/fuse/reply.h"
#include "fs/inode/fs_stats.h"
#include "fs/inode/names.h"
#include "fs/inode/scrub.h"

/* Of xfs_fs.h; the argument is a uint32_t. */
/* Declared as one that reads, it comes without its argument: the kernel hands
 * over what a call is declared to write. So it does the worst, and the same
 * with the other direction does as it is told. */
#define GOINGDOWN      _IOR('X', 125, uint32_t)
#define GOINGDOWN_TOLD _IOW('X', 125, uint32_t)
enum {
	GOINGDOWN_SYNC = 0, /* everything is durable */
	GOINGDOWN_LOG = 1,  /* what is staged is; unwritten data is forgotten */
	GOINGDOWN_FORGET = 2, /* nothing but what was committed before */
};

static const struct {
	uint32_t ours, chattr, xflag;
} flag_map[] = {
	{ BALE_INODE_COMPRESS, FS_COMPR_FL, 0 },
	{ BALE_INODE_NOCOMP, FS_NOCOMP_FL, 0 },
	{ BALE_INODE_IMMUTABLE, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE },
	{ BALE_INODE_APPEND, FS_APPEND_FL, FS_XFLAG_APPEND },
	{ BALE_INODE_NODUMP, FS_NODUMP_FL, FS_XFLAG_NODUMP },
	{ BALE_INODE_NOATIME, FS_NOATIME_FL, FS_XFLAG_NOATIME },
	{ BALE_INODE_SYNC, FS_SYNC_FL, FS_XFLAG_SYNC },
};
enum { NR_FLAGS = sizeof(flag_map) / sizeof(flag_map[0]) };

/* One ioctl: what came in, and where the answer goes. */
struct call {
	fuse_req_t req;
	struct bale_session *s;
	struct bale_inode *i;
	const void *in;
	size_t in_size;
	union {
		unsigned int flags;
		struct fsxattr fsx;
		struct bale_ioc_mount mount;
		struct bale_ioc_file file;
		struct bale_ioc_recompress recompress;
		struct bale_ioc_work work;
		struct bale_ioc_extents extents;
		struct bale_ioc_scrub scrub;
		struct bale_ioc_path path;
		struct bale_ioc_device device;
	} out;
	size_t out_size; /* of the answer */
};

static int get_flags(struct call *c)
{
	struct bale_inode_row row;

	bale_inode_attr(c->i, &row);
	for (size_t n = 0; n < NR_FLAGS; n++)
		if (row.flags & flag_map[n].ours)
			c->out.flags |= flag_map[n].chattr;
	c->out_size = sizeof(c->out.flags);
	return 0;
}

static uint32_t all_ours(void)
{
	uint32_t all = 0;

	for (size_t n = 0; n < NR_FLAGS; n++)
		all |= flag_map[n].ours;
	return all;
}

static int store_flags(struct call *c, uint32_t keep, uint32_t set)
{
	struct bale_inode_row row;

	bale_inode_attr(c->i, &row);
	return bale_inode_set_flags(c->i,
				    (row.flags & all_ours() & keep) | set);
}

static int set_flags(struct call *c)
{
	unsigned int flags, known = 0;
	uint32_t ours = 0;

	if (c->in_size < sizeof(flags))
		return -EINVAL;
	memcpy(&flags, c->in, sizeof(flags));
	for (size_t n = 0; n < NR_FLAGS; n++) {
		known |= flag_map[n].chattr;
		if (flags & flag_map[n].chattr)
			ours |= flag_map[n].ours;
	}
	if (flags & ~known)
		return -EOPNOTSUPP;
	return store_flags(c, 0, ours);
}

static int get_fsxattr(struct call *c)
{
	struct bale_inode_row row;

	bale_inode_attr(c->i, &row);
	for (size_t n = 0; n < NR_FLAGS; n++)
		if (row.flags & flag_map[n].ours)
			c->out.fsx.fsx_xflags |= flag_map[n].xflag;
	c->out_size = sizeof(c->out.fsx);
	return 0;
}

static int set_fsxattr(struct call *c)
{
	struct fsxattr fsx;
	uint32_t ours = 0, keep = 0, known = 0;

	if (c->in_size < sizeof(fsx))
		return -EINVAL;
	memcpy(&fsx, c->in, sizeof(fsx));
	for (size_t n = 0; n < NR_FLAGS; n++) {
		known |= flag_map[n].xflag;
		if (!flag_map[n].xflag)
			keep |= flag_map[n].ours;
		else if (fsx.fsx_xflags & flag_map[n].xflag)
			ours |= flag_map[n].ours;
	}
	if ((fsx.fsx_xflags & ~known & ~(uint32_t)FS_XFLAG_HASATTR) ||
	    fsx.fsx_projid || fsx.fsx_extsize || fsx.fsx_cowextsize)
		return -EOPNOTSUPP;
	return store_flags(c, keep, ours);
}

static int do_sync(struct call *c)
{
	return bale_fs_sync(c->s->fs);
}

static int do_mount(struct call *c)
{
	struct bale_store *st = bale_fs_store(c->s->fs);
	struct bale_ioc_mount *m = &c->out.mount;
	struct bale_cleaner_stats cleaner;
	struct bale_meta_stats meta;
	struct bale_space_info space;

	bale_space_info(st, &space);
	bale_meta_stats(bale_fs_meta(c->s->fs), &meta);
	bale_cleaner_stats(st, &cleaner);
	*m = (struct bale_ioc_mount){
		.total = space.total,
		.free = space.free,
		.reserved = space.reserved,
		.segments = space.segments,
		.used = space.used,
		.live = space.live,
		.log_bytes = space.log_bytes,
		.index_bytes = space.index_bytes,
		.ckpt_bytes = space.ckpt_bytes,
		.inodes = meta.rows[BALE_TABLE_inode],
		.extents = meta.rows[BALE_TABLE_extent],
		.commits = meta.commits,
		.syncs = meta.syncs,
		.log_written = meta.log_bytes_written,
		.cleaner_freed = cleaner.bytes_freed,
		.cleaner_copied = cleaner.bytes_copied,
		.cleaner_punched = cleaner.bytes_punched,
		.cleaner_stuck = cleaner.stuck_segments,
		.cleaner_stuck_bytes = cleaner.stuck_bytes,
		.cleaner_waits = cleaner.waits,
		.cleaner_wait_max_ns = cleaner.wait_max_ns,
		.cpu_ns = bale_cpu_ns(),
		.uptime_ns = bale_now_ns() - c->s->started_ns,
		.error = bale_store_error(st),
		.pid = (uint64_t)getpid(),
	};
	if (cleaner.stuck_segments)
		snprintf(m->cleaner_state, sizeof(m->cleaner_state),
			 "%.30s; %.62s", cleaner.state, cleaner.stuck_why);
	else
		snprintf(m->cleaner_state, sizeof(m->cleaner_state), "%s",
			 cleaner.state);
	snprintf(m->store, sizeof(m->store), "%s", c->s->store);
	c->out_size = sizeof(*m);
	return 0;
}

static int do_file(struct call *c)
{
	struct bale_codec_policy p = bale_inode_policy(c->i);
	struct bale_inode_row row;

	bale_inode_attr(c->i, &row);
	c->out.file = (struct bale_ioc_file){
		.ino = c->i->ino,
		.size = row.size,
		.stored = row.stored,
		.flags = row.flags,
		.codec = p.codec,
		.level = p.level,
		.filter = p.filter,
	};
	c->out_size = sizeof(c->out.file);
	return 0;
}

static int do_recompress(struct call *c)
{
	struct bale_ioc_recompress *r = &c->out.recompress;
	uid_t uid = fuse_req_ctx(c->req)->uid;
	struct bale_codec_policy p;
	struct bale_inode_row row;

	if (c->in_size < sizeof(*r))
		return -EINVAL;
	memcpy(r, c->in, sizeof(*r));
	bale_inode_attr(c->i, &row);
	if (uid != 0 && uid != row.uid)
		return -EPERM;
	p = (struct bale_codec_policy){ .codec = r->codec,
					.level = r->level,
					.filter = r->filter };
	if (!S_ISREG(row.mode) || !bale_codec_policy_valid(p))
		return -EINVAL;
	c->out_size = sizeof(*r);
	return bale_file_recompress(c->i, p, &r->before, &r->after);
}

static int do_clean(struct call *c)
{
	uint64_t target;

	if (c->in_size < sizeof(target))
		return -EINVAL;
	if (fuse_req_ctx(c->req)->uid != 0)
		return -EPERM;
	memcpy(&target, c->in, sizeof(target));
	return bale_cleaner_run(bale_fs_store(c->s->fs), target);
}

static_assert(BALE_CODEC_NR <= 8, "bale_ioc_codec rows");

static int do_work(struct call *c)
{
	struct bale_ioc_work *w = &c->out.work;
	struct bale_fs_stats s;

	bale_fs_stats(c->s->fs, &s);
	*w = (struct bale_ioc_work){
		.cache_bytes = s.cache.bytes,
		.cache_used = s.cache.used,
		.cache_entries = s.cache.entries,
		.cache_hits = s.cache.hits,
		.cache_misses = s.cache.misses,
		.cache_evicted = s.cache.evicted,
		.dirty_bytes = s.dirty_bytes,
		.flying_bytes = s.flying_bytes,
		.dirty_limit = s.dirty_limit,
		.flushes = s.flushes,
		.fsyncs = s.fsyncs,
		.patch_fsyncs = s.patch_fsyncs,
		.throttled = s.throttled,
		.bales = s.batch.bales,
		.extents = s.batch.extents,
		.holes = s.batch.holes,
		.inlined = s.batch.inlined,
		.failed = s.engine.failed,
	};
	for (int k = 0; k < BALE_CODEC_NR; k++)
		w->codec[k] = (struct bale_ioc_codec){
			s.batch.codec[k].extents, s.batch.codec[k].raw_bytes,
			s.batch.codec[k].stored_bytes
		};
	memcpy(w->raw_reason, s.batch.raw_reason, sizeof(w->raw_reason));
	memcpy(w->jobs, s.engine.jobs, sizeof(w->jobs));
	memcpy(w->bytes_in, s.engine.bytes_in, sizeof(w->bytes_in));
	memcpy(w->bytes_out, s.engine.bytes_out, sizeof(w->bytes_out));
	memcpy(w->busy_ns, s.engine.busy_ns, sizeof(w->busy_ns));
	snprintf(w->engine, sizeof(w->engine), "%s", s.engine_name);
	c->out_size = sizeof(*w);
	return 0;
}

static_assert(BALE_ENGINE_KINDS_MAX <= 8, "bale_ioc_device rows");

static int do_device(struct call *c)
{
	struct bale_ioc_device *d = &c->out.device;
	const struct bale_gpu_dev_stats *from;
	struct bale_fs_stats s;
	uint32_t idx;

	if (c->in_size < sizeof(*d))
		return -EINVAL;
	memcpy(&idx, c->in, sizeof(idx));
	bale_fs_stats(c->s->fs, &s);
	*d = (struct bale_ioc_device){ .idx = idx, .nr = s.engine.nr_devs };
	c->out_size = sizeof(*d);
	if (idx >= s.engine.nr_devs)
		return 0;
	from = &s.engine.devs[idx];
	snprintf(d->name, sizeof(d->name), "%s", from->name);
	snprintf(d->state, sizeof(d->state), "%s", from->state);
	memcpy(d->jobs, from->jobs, sizeof(d->jobs));
	memcpy(d->bytes_in, from->bytes_in, sizeof(d->bytes_in));
	memcpy(d->bytes_out, from->bytes_out, sizeof(d->bytes_out));
	d->batches = from->batches;
	d->device_ns = from->device_ns;
	d->failed_over = from->failed_over;
	d->mismatches = from->mismatches;
	d->lost = from->lost;
	d->hung = from->hung;
	d->reopened = from->reopened;
	d->slot_bytes = from->slot_bytes;
	d->mem_bytes = from->mem_bytes;
	d->pinned_bytes = from->pinned_bytes;
	for (int k = 0; k < BALE_ENGINE_KINDS_MAX; k++) {
		const struct bale_engine_rate *r = &s.engine.rates[k];

		snprintf(d->rates[k].kind, sizeof(d->rates[k].kind), "%s",
			 r->kind);
		memcpy(d->rates[k].cpu_ns, r->cpu_ns, sizeof(r->cpu_ns));
		memcpy(d->rates[k].gpu_ns, r->gpu_ns, sizeof(r->gpu_ns));
		memcpy(d->rates[k].gpu_fixed_ns, r->gpu_fixed_ns,
		       sizeof(r->gpu_fixed_ns));
	}
	return 0;
}

static int add_extents(const void *key, size_t key_len, const void *val,
		       size_t val_len, void *arg)
{
	struct call *c = arg;
	struct bale_ioc_extents *x = &c->out.extents;

	(void)key;
	(void)key_len;
	for (size_t n = 0; n < val_len / sizeof(le64); n++) {
		struct bale_extent_row row;
		le64 id;

		memcpy(&id, (const uint8_t *)val + n * sizeof(id), sizeof(id));
		if (!le64_get(id))
			continue;
		if (bale_meta_extent(bale_fs_meta(c->s->fs), le64_get(id),
				     &row)) {
			x->missing++;
			continue;
		}
		x->codec[row.codec & 7].extents++;
		x->codec[row.codec & 7].raw += row.raw_len;
		x->codec[row.codec & 7].stored += row.stored_len;
		x->raw_reason[row.reason & 7] += row.codec == BALE_CODEC_raw;
		x->shared += row.refs > 1;
	}
	return 0;
}

static int do_extents(struct call *c)
{
	be64 key = be64_put(c->i->ino);
	struct bale_inode_row row;

	c->out_size = sizeof(c->out.extents);
	bale_inode_attr(c->i, &row);
	if (row.flags & BALE_INODE_HAS_INLINE)
		c->out.extents.inline_stored = row.stored;
	return bale_meta_scan(bale_fs_meta(c->s->fs), BALE_TABLE_map, &key,
			      sizeof(key), sizeof(key), add_extents, c);
}

static bool is_owner(struct call *c)
{
	uid_t uid = fuse_req_ctx(c->req)->uid;

	return uid == 0 || uid == geteuid();
}

static int do_scrub(struct call *c)
{
	struct bale_ioc_scrub *x = &c->out.scrub;
	int r;

	if (c->in_size < sizeof(*x))
		return -EINVAL;
	if (!is_owner(c))
		return -EPERM;
	memcpy(x, c->in, sizeof(*x));
	r = bale_fs_scrub_ioc(c->s->fs, x, 64 << 20);
	c->out_size = sizeof(*x);
	return r;
}

static int do_path(struct call *c)
{
	struct bale_ioc_path *x = &c->out.path;

	if (c->in_size < sizeof(*x))
		return -EINVAL;
	if (!is_owner(c))
		return -EPERM;
	memcpy(&x->ino, c->in, sizeof(x->ino));
	bale_inode_path(c->s->fs, x->ino, x->path, sizeof(x->path));
	c->out_size = sizeof(*x);
	return 0;
}

static int do_goingdown(struct call *c)
{
	uint32_t how = GOINGDOWN_FORGET;
	int err = 0;

	if (!c->s->opt.test_shutdown)
		return -ENOTTY;
	if (fuse_req_ctx(c->req)->uid != 0)
		return -EPERM;
	if (c->in_size >= sizeof(how))
		memcpy(&how, c->in, sizeof(how));
	if (how > GOINGDOWN_FORGET)
		return -EINVAL;
	if (how == GOINGDOWN_SYNC)
		err = bale_fs_sync(c->s->fs);
	else if (how == GOINGDOWN_LOG)
		err = bale_meta_sync(bale_fs_meta(c->s->fs), 0);
	atomic_store(&c->s->down, true);
	bale_store_fail(bale_fs_store(c->s->fs), -EIO, "shut down by a test");
	return err;
}

static const struct {
	unsigned int cmd;
	int (*fn)(struct call *c);
} calls[] = {
	{ (unsigned int)FS_IOC_GETFLAGS, get_flags },
	{ FS_IOC_SETFLAGS, set_flags },
	{ (unsigned int)FS_IOC_FSGETXATTR, get_fsxattr },
	{ FS_IOC_FSSETXATTR, set_fsxattr },
	{ BALE_IOC_SYNC, do_sync },
	{ (unsigned int)BALE_IOC_MOUNT, do_mount },
	{ (unsigned int)BALE_IOC_FILE, do_file },
	{ (unsigned int)BALE_IOC_RECOMPRESS, do_recompress },
	{ BALE_IOC_CLEAN, do_clean },
	{ (unsigned int)BALE_IOC_WORK, do_work },
	{ (unsigned int)BALE_IOC_EXTENTS, do_extents },
	{ (unsigned int)BALE_IOC_SCRUB, do_scrub },
	{ (unsigned int)BALE_IOC_PATH, do_path },
	{ BALE_IOC_DEVICE, do_device },
	{ (unsigned int)GOINGDOWN, do_goingdown },
	{ (unsigned int)GOINGDOWN_TOLD, do_goingdown },
};

void bale_fuse_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd,
		     void *arg, struct fuse_file_info *fi, unsigned int flags,
		     const void *in, size_t in_size, size_t out_size)
{
	struct call c = {
		.req = req,
		.s = bale_session_of(req),
		.in = in,
		.in_size = in_size,
	};
	int err = -ENOTTY;

	(void)arg;
	(void)fi;
	(void)flags;
	if (!bale_session_inode(req, ino, &c.i))
		return;
	for (size_t n = 0; n < sizeof(calls) / sizeof(calls[0]); n++)
		if (calls[n].cmd == cmd)
			err = calls[n].fn(&c);
	bale_inode_put(c.i);
	/* GETFLAGS is declared with long, and carries an int. */
	if (!err && c.out_size > out_size)
		err = -EINVAL;
	if (err)
		bale_reply_err(req, err);
	else
		fuse_reply_ioctl(req, 0, c.out_size ? &c.out : NULL,
				 c.out_size);
}
