/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reader sees: the active memtable, the frozen one, the index.
 *
 * A reader takes a slot: a cache line of its own as a rule, since each thread
 * begins its search at its own place. In it the reader announces the epoch it
 * began in, and keeps an index transaction for the next reader. Then it loads
 * `active` before `frozen`, and begins the index transaction after both:
 *  - freezing sets `frozen` before `active`, so that who sees the new active
 *    memtable sees the old one as frozen;
 *  - the applier clears `frozen` after the index has its rows, so that who
 *    does not see it there reads an index that has them.
 * A memtable is freed when every slot taken before it was unlinked is empty:
 * the epoch goes up after unlinking, and older ones are waited for. Readers
 * hold a slot for one get or one chunk of a scan, never across a callback.
 */
#include "fs/store/meta_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NR_SLOTS = BALE_KV_MAX_READERS, LINE = 64 };

struct bale_slot {
	_Alignas(LINE) _Atomic uint64_t epoch; /* 0: free */
	struct bale_kv_txn *txn;	       /* who holds the slot */
};

struct bale_slots {
	struct bale_slot slot[NR_SLOTS];
	_Alignas(LINE) _Atomic uint64_t epoch; /* from 1 */
};

int bale_slots_create(struct bale_slots **ret)
{
	struct bale_slots *s = aligned_alloc(LINE, sizeof(*s));

	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	atomic_init(&s->epoch, 1);
	*ret = s;
	return 0;
}

void bale_slots_destroy(struct bale_slots *s)
{
	if (!s)
		return;
	for (unsigned int i = 0; i < NR_SLOTS; i++)
		bale_kv_txn_free(s->slot[i].txn);
	free(s);
}

static struct bale_slot *take_slot(struct bale_slots *s)
{
	static atomic_uint threads;
	static _Thread_local unsigned int own;
	uint64_t epoch = atomic_load(&s->epoch);

	if (!own)
		own = atomic_fetch_add(&threads, 1) + 1;
	for (unsigned int i = own;; i++) {
		struct bale_slot *slot = &s->slot[i % NR_SLOTS];
		uint64_t none = 0;

		if (atomic_compare_exchange_strong(&slot->epoch, &none, epoch))
			return slot;
		if ((i - own) % NR_SLOTS == NR_SLOTS - 1)
			sched_yield(); /* more readers than slots */
	}
}

void bale_view_get(struct bale_meta *m, struct bale_view *v)
{
	v->slot = take_slot(m->slots);
	v->active = atomic_load(&m->active);
	v->frozen = atomic_load(&m->frozen);
	v->txn = NULL;
}

int bale_view_index(struct bale_meta *m, struct bale_view *v)
{
	int r;

	if (v->txn)
		return 0;
	r = bale_kv_txn_renew(m->kv, &v->slot->txn);
	if (!r)
		v->txn = v->slot->txn;
	return r;
}

void bale_view_put(struct bale_view *v)
{
	if (v->txn)
		bale_kv_txn_reset(v->txn);
	atomic_store_explicit(&v->slot->epoch, 0, memory_order_release);
}

void bale_slots_wait(struct bale_slots *s)
{
	const struct timespec pause = { 0, 100000 };
	uint64_t epoch = atomic_fetch_add(&s->epoch, 1) + 1;

	for (unsigned int i = 0; i < NR_SLOTS; i++)
		for (;;) {
			uint64_t e = atomic_load(&s->slot[i].epoch);

			if (!e || e >= epoch)
				break;
			nanosleep(&pause, NULL);
		}
}
