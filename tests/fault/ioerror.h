/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioerror.h - an I/O layer that fails when told: the nth call of all or of one
 * call site, in one of several ways, and the surroundings of a store. What the
 * children of the test find goes into shared memory. `ioe` is set before a
 * store is opened; the layer itself may be called by any thread.
 */
#ifndef BALE_TESTS_IOERROR_H
#define BALE_TESTS_IOERROR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/base/fault.h"
#include "fs/store/io.h"

enum { MAX_SITES = 256, IOE_TIGHT_BYTES = 24 << 20 };

enum mode { EIO_ONCE, ENOSPC_ONCE, TORN, DEAD, SLOW, NR_MODES };
enum outcome { UNHURT, READ_ONLY, OPEN_FAILED, OP_FAILED, NR_OUTCOMES };

/* What the store is, and what is around it. */
enum situation {
	FRESH,
	CRASHED, /* its log is replayed, its index and a superblock made anew */
	NO_INDEX, /* made anew from checkpoint and log */
	BAD_CKPT, /* the same from the one before, as the newest is damaged */
	STRAYS,	  /* crashed, with files that no record names */
	TIGHT,	  /* little room behind the store, and less */
	NO_ALLOCATE,
	NO_MEMORY, /* and the index finds no room at the end */
	LARGE,	   /* large segments and log; threads, a cleaner that is busy */
	NR_SITUATIONS,
};

/* What a child tells its parent. */
struct ioe_shared {
	unsigned int calls;
	char failed_call[48]; /* "pwritev", ... */
	char what[160];	      /* why the run failed */
	unsigned int failed_site;
	uint64_t outcomes[NR_OUTCOMES];
	struct {
		unsigned int passed; /* in the run without faults */
		unsigned int failed;
		unsigned int outcomes[NR_OUTCOMES];
		char op[20];
	} site[MAX_SITES]; /* by the program's list of fault sites */
};

struct ioe {
	enum situation situation;
	uint64_t room; /* TIGHT: what the filesystem says is free at most */
	enum mode mode;
	unsigned int fail_at;		   /* 0: never; else the nth call */
	struct bale_fault_site *fail_site; /* NULL: of all sites */
	atomic_uint calls;
	atomic_bool flush_failed; /* a write or sync was made to fail */
	struct ioe_shared *sh;
};
extern struct ioe ioe;
extern const struct bale_io_ops ioe_ops;

/* The site's place in the program's list, below MAX_SITES. */
unsigned int ioe_site_index(const struct bale_fault_site *site);

#endif
