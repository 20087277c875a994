/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/engine_gpu.h - inside the engine that uses GPUs and CPUs; nothing
 * outside fs/codec and tests includes this.
 *
 * How a batch goes. submit() makes a `work` of it and cuts it: pieces that one
 * slot of a device takes at once, and a part for the CPU engine. Each slot of a
 * device has a thread that takes the oldest piece of the device's queue, feeds
 * it to the device, waits, and puts the results into the caller's jobs. What
 * the device did not do - a lost or hung device, a failed batch, a unit that
 * did not verify - becomes a part for the CPU engine. Whoever ends the last
 * piece or part of a work calls its done().
 *
 * Each device has a keeper besides: it opens the device, measures it, pins
 * the caller's memory, and when the device is lost waits until nothing of ours
 * can run there any more, closes it and tries again, later and later.
 * Devices are looked for by a thread too: a driver may take a second to answer,
 * and a mount does not wait for it.
 *
 * A device that hangs is given up after hang_ns. Its slot threads come back,
 * their pieces go to the CPU; the handle is closed only when the device says
 * that it is quiet, and never otherwise: what it holds stays allocated, because
 * the device might still write there.
 */
#ifndef BALE_CODEC_ENGINE_GPU_H
#define BALE_CODEC_ENGINE_GPU_H

#include <assert.h>
#include <stdatomic.h>

#include "balefs/gpu.h"
#include "fs/base/list.h"
#include "fs/base/thread.h"
#include "fs/codec/codec.h"
#include "fs/codec/cost.h"

/* The functions of gpu.h, or a stand-in's. */
struct bale_gpu_ops {
	const char *name;
	int (*count)(uint32_t *ret_nr);
	int (*info)(uint32_t idx, struct bale_gpu_info *ret);
	bool (*can)(enum bale_job_op op, unsigned int codec, int level,
		    unsigned int filter);
	int (*open)(const struct bale_gpu_config *cfg, struct bale_gpu **ret);
	void (*limits)(const struct bale_gpu *g, struct bale_gpu_limits *ret);
	int (*quiet)(struct bale_gpu *g);
	void (*close)(struct bale_gpu *g);
	int (*pin)(struct bale_gpu *g, void *p, size_t len);
	void (*unpin)(struct bale_gpu *g, void *p);
	int (*submit)(struct bale_gpu *g, uint32_t slot,
		      struct bale_gpu_batch *b);
	int (*wait)(struct bale_gpu *g, uint32_t slot, uint64_t timeout_ns,
		    bool *ret_in_dst);
};

extern const struct bale_gpu_ops bale_gpu_real_ops;
/* CPU codecs on a thread of its own: one device, for tests. */
extern const struct bale_gpu_ops bale_gpu_fake_ops;

enum {
	BALE_GPU_DEVS_MAX = 16,
	BALE_GPU_RANGES_MAX = 8,
	BALE_GPU_PIECE_UNITS = 1024,
	/* Pinning takes half a second a GiB, and holds a lock of the process
	   meanwhile that page faults need. */
	BALE_GPU_SLICE = 32 << 20,
	/* Times that a slice's size goes through a slot's buffers before the
	   slice is pinned: memory that is used once is cheaper to copy. */
	BALE_GPU_PIN_AFTER = 2,
};

enum bale_gpu_state {
	BALE_GPU_OPENING,
	BALE_GPU_READY,
	BALE_GPU_DOWN, /* lost or hung; the keeper will try again */
	BALE_GPU_LEFT, /* given up for good */
};

struct bale_gpu_engine;

/* What submit() was given. */
struct bale_gpu_work {
	struct bale_gpu_engine *e;
	atomic_size_t left; /* pieces and parts */
	bale_batch_done_fn *done;
	void *arg;
};

/* Jobs of one kind that go to a slot together. */
struct bale_gpu_piece {
	struct bale_list node;
	struct bale_gpu_work *work;
	enum bale_job_op op;
	uint8_t codec; /* what the device does: never auto */
	int8_t level;
	uint8_t filter;
	uint32_t units;
	size_t bytes; /* decoded */
	double guess_ns;
	size_t nr;
	struct bale_job *jobs[];
};

struct bale_gpu_dev {
	struct bale_gpu_engine *e;
	uint32_t idx;	       /* the driver's number */
	unsigned int bit;      /* in bale_gpu_slice.pinned */
	struct bale_cost cost; /* GPU lines */

	struct bale_mutex lock; /* all below; not held over calls of ops */
	struct bale_cond work;	/* queue, state, share or stop changed */
	struct bale_cond keep;	/* for the keeper: down, stop, in_use, ranges */
	struct bale_list queue;
	double backlog_ns; /* guesses of what is queued or on the device */
	uint64_t not_before, last_end; /* share; end of the latest piece */
	enum bale_gpu_state state;
	char reason[96];
	struct bale_gpu *gpu; /* READY, and DOWN until closed */
	struct bale_gpu_limits limits;
	unsigned int in_use;   /* slot threads between submit and result */
	unsigned int failures; /* batches in a row */
	bool stop, pinning, told_failure;
	bool refused[BALE_GPU_RANGES_MAX]; /* this opening */
	struct bale_gpu_dev_stats stats;
	pthread_t keeper, slots[BALE_GPU_SLOTS_MAX];
	unsigned int nr_slots; /* threads that were started */
	bool has_keeper;
};

static_assert((int)BALE_GPU_DEVS_MAX <= 16, "a bit each");

struct bale_gpu_slice {
	uint32_t used_kib; /* of jobs' bytes that lay here; stays at the most */
	uint16_t pinned;   /* a bit a device */
};

/* Memory to be pinned, in slices so that each is done soon. */
struct bale_gpu_range {
	uint8_t *p; /* NULL: a free entry */
	size_t len; /* 0: going */
	bool now;
	struct bale_gpu_slice *slices;
};

struct bale_gpu_engine {
	struct bale_engine engine;
	struct bale_engine *cpu;
	unsigned int nr_workers;
	struct bale_gpu_options o;
	const struct bale_gpu_ops *ops;
	struct bale_cost cost;	     /* CPU lines */
	atomic_llong cpu_backlog_ns; /* of one worker */
	struct bale_mutex lock; /* stats, ranges; a leaf but for dev locks */
	struct bale_engine_stats stats; /* of jobs that devices did */
	struct bale_gpu_range ranges[BALE_GPU_RANGES_MAX]; /* slices, too */
	pthread_t finder;
	bool has_finder, leave;
	atomic_bool stop, found; /* found: all of devs[] are there */
	atomic_uint nr_devs; /* devs[] below are complete */
	struct bale_gpu_dev *devs[BALE_GPU_DEVS_MAX];
};

/* engine_gpu.c */
void bale_gpu_work_put(struct bale_gpu_work *w);
/* These jobs of w on the CPU; counts as a part of w. */
void bale_gpu_on_cpu(struct bale_gpu_work *w, struct bale_job *const *jobs,
		     size_t nr);

/* gpu_plan.c: cut a batch. *ret_dev NULL: all of it is the CPU's. */
struct bale_gpu_plan {
	struct bale_gpu_dev *dev;
	struct bale_list pieces;
	size_t nr_pieces, nr_cpu;
	struct bale_job **cpu; /* jobs that stay, nr_cpu */
};
int bale_gpu_plan_make(struct bale_gpu_engine *e, struct bale_job *jobs,
		       size_t nr, struct bale_gpu_plan *ret);
void bale_gpu_plan_free(struct bale_gpu_plan *p);
/*
 * The share of a batch that is to go to the device, from ns that each side has
 * to do before, and would take for all of it. A share s ends at
 * max(dev_wait + s * dev, cpu_wait + (1 - s) * cpu). Pure.
 */
double bale_gpu_share_of(enum bale_job_op op, double dev_wait, double dev,
			 double cpu_wait, double cpu);

/* gpu_dev.c */
int bale_gpu_dev_create(struct bale_gpu_engine *e, uint32_t idx,
			unsigned int bit, struct bale_gpu_dev **ret);
/* False: a thread of it is stuck in the driver, so that d and e stay. */
bool bale_gpu_dev_destroy(struct bale_gpu_dev *d);
/* Takes the pieces over, whatever the device's state is by now. */
void bale_gpu_dev_queue(struct bale_gpu_dev *d, struct bale_list *pieces);
void bale_gpu_dev_down(struct bale_gpu_dev *d, const char *why, bool for_good);

/* gpu_keeper.c */
void *bale_gpu_keeper_main(void *dev);
void bale_gpu_dev_unpin(struct bale_gpu_dev *d, int range, uint8_t *p,
			size_t len);
/* There may be something to pin. */
void bale_gpu_wake_keeper(struct bale_gpu_dev *d);
/* A piece's bytes are about to be copied from, or have been to, their places:
 * slices that were used enough are pinned by the keeper. */
void bale_gpu_note_use(struct bale_gpu_dev *d, const struct bale_gpu_batch *b);

/* gpu_run.c: one piece on one slot; the piece is freed. */
void bale_gpu_piece_run(struct bale_gpu_dev *d, uint32_t slot,
			struct bale_gpu *gpu, struct bale_gpu_piece *p,
			struct bale_gpu_extent *x);
/* The calls of ops with their fault points. */
int bale_gpu_call_open(struct bale_gpu_dev *d,
		       const struct bale_gpu_config *cfg,
		       struct bale_gpu **ret);
int bale_gpu_call_submit(struct bale_gpu_dev *d, struct bale_gpu *g,
			 uint32_t slot, struct bale_gpu_batch *b);
int bale_gpu_call_wait(struct bale_gpu_dev *d, struct bale_gpu *g,
		       uint32_t slot, struct bale_gpu_batch *b);

/* gpu_measure.c: cost lines of a device just opened, from a file or by trying;
 * on the keeper. -errno: the device does not work. */
int bale_gpu_measure(struct bale_gpu_dev *d, struct bale_gpu *g);
/* For the next mount. */
void bale_gpu_measure_save(struct bale_gpu_dev *d);

#endif
