/* SPDX-License-Identifier: Apache-2.0 */
/* stats_mount.c - figures of a mount, or of files on it, asked of its daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "balefs/format.h"
#include "balefs/ioctl.h"
#include "fs/base/mem.h"
#include "tools/stats.h"

static int open_path(const char *path, int flags)
{
	return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | flags);
}

static void set_space(struct bale_stats *s, const struct bale_ioc_mount *m)
{
	bale_stats_set(s, segments, m->segments);
	bale_stats_set(s, segment_used_bytes, m->used);
	bale_stats_set(s, segment_live_bytes, m->live);
	bale_stats_set(s, log_bytes, m->log_bytes);
	bale_stats_set(s, index_bytes, m->index_bytes);
	bale_stats_set(s, checkpoint_bytes, m->ckpt_bytes);
	bale_stats_set(s, backing_total_bytes, m->total);
	bale_stats_set(s, backing_free_bytes, m->free);
	bale_stats_set(s, reserved_bytes, m->reserved);
	bale_stats_set(s, index_inodes, m->inodes);
	bale_stats_set(s, index_extents, m->extents);
	bale_stats_set(s, commits, m->commits);
	bale_stats_set(s, log_written_bytes, m->log_written);
	bale_stats_set(s, cleaner_freed_bytes, m->cleaner_freed);
	bale_stats_set(s, cleaner_copied_bytes, m->cleaner_copied);
	bale_stats_set(s, cleaner_punched_bytes, m->cleaner_punched);
	bale_stats_set(s, cleaner_stuck_segments, m->cleaner_stuck);
	bale_stats_set(s, cleaner_stuck_bytes, m->cleaner_stuck_bytes);
	bale_stats_set(s, cleaner_waits, m->cleaner_waits);
	bale_stats_set(s, cleaner_wait_max, m->cleaner_wait_max_ns);
	bale_stats_set(s, cpu, m->cpu_ns);
	bale_stats_set(s, uptime, m->uptime_ns);
	s->error = m->error;
	snprintf(s->store, sizeof(s->store), "%s", m->store);
	snprintf(s->cleaner, sizeof(s->cleaner), "%s", m->cleaner_state);
}

static void set_work(struct bale_stats *s, const struct bale_ioc_work *w)
{
	bale_stats_set(s, cache_bytes, w->cache_bytes);
	bale_stats_set(s, cache_used_bytes, w->cache_used);
	bale_stats_set(s, cache_hits, w->cache_hits);
	bale_stats_set(s, cache_misses, w->cache_misses);
	bale_stats_set(s, cache_evicted, w->cache_evicted);
	bale_stats_set(s, dirty_bytes, w->dirty_bytes);
	bale_stats_set(s, flying_bytes, w->flying_bytes);
	bale_stats_set(s, flushes, w->flushes);
	bale_stats_set(s, fsyncs, w->fsyncs);
	bale_stats_set(s, patch_fsyncs, w->patch_fsyncs);
	bale_stats_set(s, throttled, w->throttled);
	bale_stats_set(s, bales, w->bales);
	bale_stats_set(s, holes, w->holes);
	bale_stats_set(s, inlined, w->inlined);
	bale_stats_set(s, encode_jobs, w->jobs[BALE_JOB_ENCODE]);
	bale_stats_set(s, encode_bytes, w->bytes_in[BALE_JOB_ENCODE]);
	bale_stats_set(s, encode_busy, w->busy_ns[BALE_JOB_ENCODE]);
	bale_stats_set(s, decode_jobs, w->jobs[BALE_JOB_DECODE]);
	bale_stats_set(s, decode_bytes, w->bytes_out[BALE_JOB_DECODE]);
	bale_stats_set(s, decode_busy, w->busy_ns[BALE_JOB_DECODE]);
	bale_stats_set(s, failed_jobs, w->failed);
	snprintf(s->engine, sizeof(s->engine), "%s", w->engine);
	s->has_codecs = true;
	for (int k = 0; k < 8; k++) {
		s->codec[k] = (struct bale_codec_figures){ w->codec[k].extents,
							   w->codec[k].raw,
							   w->codec[k].stored };
		s->raw_reason[k] = w->raw_reason[k];
	}
}

/* What one file adds: its extents, or its inline value. */
static int add_file(int fd, const struct stat *st, struct bale_stats *s)
{
	struct bale_ioc_extents x;

	if (ioctl(fd, BALE_IOC_EXTENTS, &x))
		return -errno;
	for (int k = 0; k < 8; k++) {
		s->codec[k].extents += x.codec[k].extents;
		s->codec[k].raw += x.codec[k].raw;
		s->codec[k].stored += x.codec[k].stored;
		s->raw_reason[k] += x.raw_reason[k];
		bale_stats_add(s, raw_bytes, x.codec[k].raw);
		bale_stats_add(s, stored_bytes, x.codec[k].stored);
	}
	if (x.inline_stored) {
		bale_stats_add(s, raw_bytes, (uint64_t)st->st_size);
		bale_stats_add(s, stored_bytes, x.inline_stored);
		bale_stats_add(s, inline_bytes, x.inline_stored);
	}
	bale_stats_add(s, missing_extents, x.missing);
	bale_stats_add(s, shared_extents, x.shared);
	return 0;
}

static struct bale_stats *walk_stats; /* nftw() hands nothing on */

static int walk(const char *path, const struct stat *st, int flag,
		struct FTW *ftw)
{
	struct bale_stats *s = walk_stats;
	bale_autoclose int fd = -1;

	(void)ftw;
	if (flag == FTW_D || flag == FTW_DNR) {
		bale_stats_add(s, directories, 1);
		bale_stats_add(s, unreadable, flag == FTW_DNR);
		return 0;
	}
	if (flag == FTW_NS) {
		bale_stats_add(s, unreadable, 1);
		return 0;
	}
	if (!S_ISREG(st->st_mode)) {
		bale_stats_add(s, others, 1);
		return 0;
	}
	bale_stats_add(s, files, 1);
	bale_stats_add(s, logical_bytes, (uint64_t)st->st_size);
	fd = open_path(path, O_NOFOLLOW);
	if (fd < 0 || add_file(fd, st, s)) {
		bale_stats_add(s, unreadable, 1);
		bale_stats_add(s, stored_bytes, (uint64_t)st->st_blocks * 512);
	}
	return 0;
}

/* An older daemon does not know the call: then there are none. */
static void add_devices(int fd, struct bale_stats *s)
{
	uint32_t nr = 1;

	while (s->nr_devices < nr && s->nr_devices < BALE_ENGINE_DEVS_MAX) {
		struct bale_ioc_device *d = &s->devices[s->nr_devices];

		memset(d, 0, sizeof(*d));
		d->idx = s->nr_devices;
		if (ioctl(fd, BALE_IOC_DEVICE, d))
			return;
		nr = d->nr;
		if (!nr)
			return;
		s->nr_devices++;
	}
}

static int of_mount(int fd, const struct bale_ioc_mount *m,
		    struct bale_stats *s)
{
	struct bale_ioc_work w;

	s->kind = "mount";
	set_space(s, m);
	if (ioctl(fd, BALE_IOC_WORK, &w))
		return -errno;
	set_work(s, &w);
	add_devices(fd, s);
	return 0;
}

static int of_file(int fd, const struct stat *st, struct bale_stats *s)
{
	struct bale_ioc_file i;

	if (ioctl(fd, BALE_IOC_FILE, &i))
		return -errno;
	bale_codec_policy_text(
		(struct bale_codec_policy){ i.codec, i.level, i.filter },
		s->policy, sizeof(s->policy));
	bale_stats_set(s, raw_bytes, 0);
	bale_stats_set(s, stored_bytes, 0);
	s->has_codecs = true;
	if (S_ISDIR(st->st_mode)) {
		s->kind = "directory";
		walk_stats = s;
		return nftw(s->path, walk, 32, FTW_PHYS | FTW_MOUNT) ? -errno :
								       0;
	}
	s->kind = "file";
	bale_stats_set(s, logical_bytes, (uint64_t)st->st_size);
	return add_file(fd, st, s);
}

int bale_stats_of_path(const char *path, struct bale_stats *s)
{
	bale_autoclose int fd = open_path(path, 0);
	struct bale_ioc_mount m;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	s->path = path;
	if (ioctl(fd, BALE_IOC_MOUNT, &m))
		return errno == EINVAL || errno == EOPNOTSUPP ? -ENOTTY :
								-errno;
	/* What is dirty has no extents yet. */
	ioctl(fd, BALE_IOC_SYNC);
	if (st.st_ino == BALE_ROOT_INO)
		return of_mount(fd, &m, s);
	return of_file(fd, &st, s);
}
