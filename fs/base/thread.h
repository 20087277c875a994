/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h - pthread mutex, rwlock and condition wrappers carrying clang's
 * thread-safety annotations. They cannot fail: a pthread error here is a
 * broken program and aborts with a message.
 */
#ifndef BALE_BASE_THREAD_H
#define BALE_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "balefs/compiler.h"

struct BALE_CAPABILITY bale_mutex {
	pthread_mutex_t m;
};
struct BALE_CAPABILITY bale_rwlock {
	pthread_rwlock_t rw;
};
struct bale_cond {
	pthread_cond_t c; /* CLOCK_MONOTONIC */
};

void bale_mutex_init(struct bale_mutex *m);
void bale_mutex_fini(struct bale_mutex *m);
void bale_mutex_lock(struct bale_mutex *m) BALE_ACQUIRE(*m);
bool bale_mutex_trylock(struct bale_mutex *m) BALE_TRY_ACQUIRE(true, *m);
void bale_mutex_unlock(struct bale_mutex *m) BALE_RELEASE(*m);

void bale_rwlock_init(struct bale_rwlock *l); /* writers are preferred */
void bale_rwlock_fini(struct bale_rwlock *l);
void bale_rwlock_rdlock(struct bale_rwlock *l) BALE_NO_TSA;
void bale_rwlock_wrlock(struct bale_rwlock *l) BALE_NO_TSA;
bool bale_rwlock_trywrlock(struct bale_rwlock *l) BALE_NO_TSA;
void bale_rwlock_unlock(struct bale_rwlock *l) BALE_NO_TSA;

void bale_cond_init(struct bale_cond *c);
void bale_cond_fini(struct bale_cond *c);
void bale_cond_wait(struct bale_cond *c, struct bale_mutex *m)
	BALE_REQUIRES(*m);
/* False when timeout_ns went by without a signal. */
bool bale_cond_wait_for(struct bale_cond *c, struct bale_mutex *m,
			uint64_t timeout_ns) BALE_REQUIRES(*m);
void bale_cond_signal(struct bale_cond *c);
void bale_cond_broadcast(struct bale_cond *c);

/* Start a named thread with all signals blocked. 0 or -errno. */
int bale_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *),
		      void *arg);

/* BALE_WITH_LOCK-free style: lock, and unlock at scope end. */
static inline void bale_autounlock_fn(struct bale_mutex **m) BALE_NO_TSA
{
	if (*m)
		bale_mutex_unlock(*m);
}
#define bale_autounlock \
	__attribute__((cleanup(bale_autounlock_fn))) struct bale_mutex *

#endif
