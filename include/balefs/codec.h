/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - codec ids, jobs and the engine interface.
 *
 * An engine takes an array of jobs and completes each with a status and a
 * length: one bad unit fails alone. Codecs are pure: bytes in, bytes out; they
 * know no store. A job's buffers belong to the caller for its whole life and
 * must not change while it runs.
 */
#ifndef BALE_CODEC_H
#define BALE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * id, name, has levels. The ids are on disk: never reused, never renumbered.
 * planes is reserved here and refused until it exists.
 */
#define BALE_CODECS(X)     \
	X(0, raw, false)   \
	X(1, fill, false)  \
	X(2, lz4, false)   \
	X(3, gdeflate, true) \
	X(4, zstd, true)   \
	X(5, planes, false)

enum bale_codec_id {
#define X(id, name, levels) BALE_CODEC_##name = id,
	BALE_CODECS(X)
#undef X
	BALE_CODEC_NR,
	/* A policy, never on disk as an extent's codec. */
	BALE_CODEC_auto = 255,
};

/*
 * id, name, bytes of an element. What is done to each unit of 64 KiB before
 * the codec sees it (docs/format.md, Filters): values of one kind, such as
 * exponents or the high bytes of counters, come to lie together. On disk, as
 * codec ids: never reused, never renumbered.
 */
#define BALE_FILTERS(X)     \
	X(0, none, 1)       \
	X(1, shuffle2, 2)   \
	X(2, shuffle4, 4)   \
	X(3, shuffle8, 8)   \
	X(4, bitshuffle2, 2) \
	X(5, bitshuffle4, 4) \
	X(6, delta1, 1)     \
	X(7, delta2, 2)     \
	X(8, delta4, 4)     \
	X(9, delta8, 8)

enum bale_filter_id {
#define X(id, name, size) BALE_FILTER_##name = id,
	BALE_FILTERS(X)
#undef X
	BALE_FILTER_NR,
	/* A policy, never on disk: by content. */
	BALE_FILTER_auto = 255,
};

/* Why an extent is stored raw; on disk in the extent row. */
#define BALE_RAW_REASONS(X)                            \
	X(0, none, "not raw")                          \
	X(1, policy, "raw was asked for")              \
	X(2, probe, "a sample did not shrink")         \
	X(3, grew, "coded size saved too little")      \
	X(4, small, "too small to shrink")             \
	X(5, error, "the encoder failed")

enum bale_raw_reason {
#define X(id, name, text) BALE_RAW_##name = id,
	BALE_RAW_REASONS(X)
#undef X
};

enum {
	BALE_UNIT_SIZE = 64 << 10,
	BALE_EXTENT_MIN = 64 << 10,
	BALE_EXTENT_MAX = 4 << 20,
	BALE_EXTENT_DEFAULT = 128 << 10,
};

enum bale_job_op {
	BALE_JOB_ENCODE,
	BALE_JOB_DECODE,
};

/*
 * Encode: src/src_len -> dst/dst_cap with policy `codec` (maybe auto) and
 * `level` (0: the codec's default). An encoder never fails for content: what
 * does not shrink comes back as raw with `reason` set and, so that nothing is
 * copied, `len == src_len` and dst undefined (ret_codec == raw: take src).
 * dst_cap must be at least bale_codec_bound(src_len). With want_crc, `crc` is
 * the CRC-32C of the result's bytes (raw: of src) wherever has_crc says so: who
 * has just written them has them at hand.
 *
 * Decode: codec/filter as stored, dst_cap == the exact decoded length (from
 * the extent row). status -EUCLEAN when the bytes do not decode to exactly
 * dst_cap bytes. Safe on any input.
 */
struct bale_job {
	enum bale_job_op op;
	uint8_t codec;	/* enum bale_codec_id, or auto (encode) */
	/* enum bale_filter_id. Encode: tried with the codec asked for; not with
	   raw and fill. With codec auto: none, or auto, and only there */
	uint8_t filter;
	int8_t level;	/* of that codec; 0: default */
	bool want_crc; /* encode */
	const void *src;
	size_t src_len;
	void *dst;
	size_t dst_cap;

	/* results */
	int status;	   /* 0 or -errno */
	size_t len;	   /* bytes of the result */
	uint8_t ret_codec; /* encode: what it became */
	uint8_t ret_filter;
	int8_t ret_level;
	uint8_t reason; /* enum bale_raw_reason */
	bool has_crc;
	uint32_t crc;
	void *cookie; /* the caller's */
};

struct bale_engine;

/* Called once when every job of the batch is complete, on any thread. */
typedef void bale_batch_done_fn(void *arg);

enum { BALE_ENGINE_DEVS_MAX = 16, BALE_ENGINE_KINDS_MAX = 8 };

/* One device of an engine that has any. */
struct bale_gpu_dev_stats {
	char name[64], state[96];
	uint64_t jobs[2], bytes_in[2], bytes_out[2]; /* by op */
	uint64_t batches, device_ns; /* device_ns: that kernels ran */
	uint64_t failed_over; /* jobs that the CPU did instead */
	uint64_t mismatches;  /* of those: did not decode to the source */
	uint64_t lost, hung, reopened;
	uint64_t slot_bytes, mem_bytes, pinned_bytes;
};

/* What coding is thought to take now: ns for a GiB, 0: not known. */
struct bale_engine_rate {
	char kind[24]; /* "lz4"; empty: no more */
	uint64_t cpu_ns[2], gpu_ns[2], gpu_fixed_ns[2]; /* by op; CPU: of one
							   worker */
};

struct bale_engine_stats {
	uint64_t jobs[2], bytes_in[2], bytes_out[2], busy_ns[2]; /* by op */
	uint64_t failed;
	uint32_t nr_devs; /* 0 for engines without */
	struct bale_gpu_dev_stats devs[BALE_ENGINE_DEVS_MAX];
	struct bale_engine_rate rates[BALE_ENGINE_KINDS_MAX];
};

struct bale_engine_ops {
	const char *name;
	/* Batches at a time that keep all of it busy; 0: two. */
	unsigned int width;
	/*
	 * Queue nr jobs; returns before they are done. Jobs and buffers stay
	 * valid until done(arg). -errno: nothing was queued, done not called.
	 */
	int (*submit)(struct bale_engine *e, struct bale_job *jobs, size_t nr,
		      bale_batch_done_fn *done, void *arg);
	void (*stats)(struct bale_engine *e, struct bale_engine_stats *ret);
	void (*destroy)(struct bale_engine *e); /* waits for queued jobs */
	/* Optional: memory that jobs will lie in. Returns before it is pinned;
	 * unpin when nothing refers to it any more. */
	void (*pin)(struct bale_engine *e, void *p, size_t len, bool now);
	void (*unpin)(struct bale_engine *e, void *p);
};

/* Base of every engine; the implementation embeds it first. */
struct bale_engine {
	const struct bale_engine_ops *ops;
};

#endif
