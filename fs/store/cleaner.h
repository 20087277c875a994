/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleaner.h - the three parts of the cleaner: cleaner.c (when, and for whom),
 * clean_pass.c (which segments), clean_segment.c (how).
 */
#ifndef BALE_STORE_CLEANER_H
#define BALE_STORE_CLEANER_H

#include "fs/store/store_internal.h"

/* Less dead than this is not worth a scan. */
enum { BALE_PUNCH_MIN = 64 << 10 };

struct bale_cleaner {
	struct bale_mutex lock;	      /* one pass at a time */
	struct bale_mutex state_lock; /* stats, stop, woken */
	struct bale_cond cond;
	struct bale_cleaner_stats stats;
	bool stop, woken;
	bool running;		/* const after create: there is a thread */
	atomic_uint waiting;	/* writers that want the lock: passes end */
	bool no_punch;		/* lock: the backing filesystem cannot */
	uint64_t last_activity; /* lock: of segments, at the last quiet look */
	uint64_t last_died;	/* lock: bytes, at the last pass */
	uint64_t last_quiet_ns; /* lock: time of the last quiet look */
	pthread_t thread;
};

/* What a pass is for. */
struct bale_clean_goal {
	uint64_t copy;	      /* at most so many bytes copied */
	unsigned int percent; /* copied when less of its blocks live */
	bool commit;	      /* so that what died by now can be given back */
	bool tight;	      /* all that is dead, not what pays best only */
	bool yields;	      /* to writers that wait, and to the unmount */
	/* Asked after each step, true: what was wanted is there. Or NULL. */
	bool (*enough)(struct bale_store *st, void *arg);
	void *arg;
};

/* One pass, lock held. *ret_worked: something was won, so that another pass
 * may find more. Returns the store's error. */
int bale_clean_pass(struct bale_store *st, const struct bale_clean_goal *goal,
		    bool *ret_worked);
/* A yielding pass has to end. */
bool bale_cleaner_wanted(struct bale_cleaner *c);
void bale_cleaner_set_state(struct bale_cleaner *c, const char *text);
void bale_cleaner_count(struct bale_cleaner *c, uint64_t freed_segs,
			uint64_t freed, uint64_t copied, uint64_t punched);

/* ---- one sealed segment (clean_segment.c) ---- */

/* The dead payload of a segment, found; nothing is destroyed by finding. */
struct bale_punch {
	uint64_t segment, live, blocks; /* as they were before */
	uint64_t dead_seq;		/* must be durable before punching */
	struct bale_buf ranges;
};
/* *p is to be freed by bale_buf_fini(&p->ranges) whatever is returned. No
 * ranges: not worth it. */
int bale_clean_find(struct bale_store *st, const struct bale_seg_info *g,
		    struct bale_punch *p);
/* Dead payload becomes holes; adds the blocks won to *punched. -EOPNOTSUPP:
 * the backing filesystem cannot. */
int bale_clean_punch(struct bale_store *st, struct bale_punch *p,
		     uint64_t *punched);

/* What became of a segment's live extents. */
struct bale_copy_result {
	uint64_t copied;     /* bytes */
	unsigned int nr_bad; /* extents that stay: they cannot be read */
	int bad;	     /* why, of the first: -errno */
};
/* Stage moves of all that lives in the segment and can be read. -EAGAIN: had
 * to yield; what was staged counts. */
int bale_clean_copy(struct bale_store *st, const struct bale_seg_info *g,
		    bool yields, struct bale_copy_result *ret);

#endif
