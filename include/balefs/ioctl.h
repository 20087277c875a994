/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioctl.h - what a program may ask of a mounted balefs, on any descriptor of
 * a file or directory in it. All structures are fixed-size, host byte order,
 * padding zero. Every call fails with ENOTTY on another filesystem.
 */
#ifndef BALE_IOCTL_H
#define BALE_IOCTL_H

#include <stdint.h>
#include <sys/ioctl.h>

/* The mount as a whole. */
struct bale_ioc_mount {
	uint64_t total, free;	       /* bytes of the backing filesystem */
	uint64_t reserved;	       /* accepted, not yet stored */
	uint64_t segments, used, live; /* see struct bale_space_info */
	uint64_t log_bytes, index_bytes, ckpt_bytes;
	uint64_t inodes, extents; /* rows in the index */
	uint64_t commits, syncs, log_written;
	uint64_t cleaner_freed, cleaner_copied, cleaner_punched;
	uint64_t cpu_ns;    /* CPU time of the daemon */
	uint64_t uptime_ns; /* since the mount answered */
	int64_t error;	    /* 0, or why the store takes no changes: -errno */
	uint64_t pid;
	char cleaner_state[96];
	char store[1024]; /* absolute path */
	/* Segments that cannot be emptied (cleaner_state says why) and what
	 * lives in them; writers that waited for the cleaner, and how long. */
	uint64_t cleaner_stuck, cleaner_stuck_bytes;
	uint64_t cleaner_waits, cleaner_wait_max_ns;
	uint64_t spare[12];
};

/* One file or directory. */
struct bale_ioc_file {
	uint64_t ino, size, stored;
	uint32_t flags; /* BALE_INODE_* */
	uint8_t codec;	/* policy in effect: enum bale_codec_id */
	int8_t level;
	uint8_t filter; /* enum bale_filter_id */
	uint8_t pad;
	uint64_t spare[8];
};

/* Code a file's extents again: caller owns the file or is root. */
struct bale_ioc_recompress {
	uint8_t codec;	/* in: enum bale_codec_id or BALE_CODEC_auto */
	int8_t level;	/* in: 0: the codec's default */
	uint8_t filter; /* in: enum bale_filter_id */
	uint8_t pad[5];
	uint64_t before, after; /* out: stored bytes */
};

/* Extents by codec id; `raw` counts decoded bytes. */
struct bale_ioc_codec {
	uint64_t extents, raw, stored;
};

/* How one file is stored now (zeros for what is no file). */
struct bale_ioc_extents {
	struct bale_ioc_codec codec[8];
	uint64_t raw_reason[8]; /* raw extents by enum bale_raw_reason */
	uint64_t inline_stored; /* bytes in the index instead */
	uint64_t shared;	/* extents with more than one reference */
	uint64_t missing;	/* extents that are damaged or gone */
	uint64_t spare[5];
};

/* What the daemon has done since it was mounted. */
struct bale_ioc_work {
	uint64_t cache_bytes, cache_used, cache_entries;
	uint64_t cache_hits, cache_misses, cache_evicted;
	uint64_t dirty_bytes, flying_bytes, dirty_limit;
	uint64_t flushes, fsyncs, patch_fsyncs, throttled;
	uint64_t bales, extents, holes, inlined;
	struct bale_ioc_codec codec[8]; /* written */
	uint64_t raw_reason[8];
	/* the engine; [0] encode, [1] decode */
	uint64_t jobs[2], bytes_in[2], bytes_out[2], busy_ns[2];
	uint64_t failed;
	char engine[32];
	uint64_t spare[16];
};

/* A step of a scrub (root, or who mounted): check what is stored, from a place
 * on; start with zeros. */
struct bale_ioc_scrub {
	uint32_t phase;	   /* in, out: 0 index, 1 inline, 2 data, 3 done */
	uint32_t decode;   /* in: decode too, not checksums only */
	uint64_t place[2]; /* in, out */
	uint64_t bytes;	   /* in: stored bytes of a step, at most 64 MiB */
	uint64_t extents, stored, raw; /* out: looked at in this step */
	uint32_t extent_size;	       /* out */
	uint32_t index_error;	       /* out: errno of phase 0 */
	uint32_t nr_bad;
	uint32_t pad;
	struct {
		uint64_t ino, extent_no;
		uint32_t error; /* errno */
		uint32_t pad;
	} bad[64];
};

/* Where an inode is (root, or who mounted). */
struct bale_ioc_path {
	uint64_t ino;	 /* in */
	char path[4096]; /* out: from the mount's root; cut when longer */
};

/* One device that codes, and what coding is thought to take. */
struct bale_ioc_device {
	uint32_t idx; /* in: 0 is the first one in use */
	uint32_t nr;  /* out: devices in use; idx or less: the rest is zero */
	char name[64], state[96];
	/* [0] encode, [1] decode */
	uint64_t jobs[2], bytes_in[2], bytes_out[2];
	uint64_t batches, device_ns;
	uint64_t failed_over, mismatches; /* jobs that the CPU did instead */
	uint64_t lost, hung, reopened;
	uint64_t slot_bytes, mem_bytes, pinned_bytes;
	/* ns for a GiB, CPU: of one worker; ns for a batch of any size */
	struct bale_ioc_rate {
		char kind[24]; /* empty: no more */
		uint64_t cpu_ns[2], gpu_ns[2], gpu_fixed_ns[2];
	} rates[8];
	uint64_t spare[16];
};

/* Everything written so far is durable when this returns (for sync(2) does
 * not reach a FUSE daemon). */
#define BALE_IOC_SYNC	    _IO('b', 1)
#define BALE_IOC_MOUNT	    _IOR('b', 2, struct bale_ioc_mount)
#define BALE_IOC_FILE	    _IOR('b', 3, struct bale_ioc_file)
#define BALE_IOC_RECOMPRESS _IOWR('b', 4, struct bale_ioc_recompress)
/* Reclaim until this many bytes are free or nothing is worth it; root. */
#define BALE_IOC_CLEAN _IOW('b', 5, uint64_t)

#define BALE_IOC_WORK	 _IOR('b', 6, struct bale_ioc_work)
#define BALE_IOC_EXTENTS _IOR('b', 7, struct bale_ioc_extents)
#define BALE_IOC_SCRUB	 _IOWR('b', 8, struct bale_ioc_scrub)
#define BALE_IOC_PATH	 _IOWR('b', 9, struct bale_ioc_path)
#define BALE_IOC_DEVICE	 _IOWR('b', 10, struct bale_ioc_device)

#endif
