/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A pthread call fails only when the program misuses it. */
static void must(int r, const char *what)
{
	if (bale_likely(!r))
		return;
	fprintf(stderr, "balefs: %s: %s\n", what, strerror(r));
	abort();
}

void bale_mutex_init(struct bale_mutex *m)
{
	must(pthread_mutex_init(&m->m, NULL), "mutex init");
}

void bale_mutex_fini(struct bale_mutex *m)
{
	must(pthread_mutex_destroy(&m->m), "mutex destroy");
}

void bale_mutex_lock(struct bale_mutex *m) BALE_NO_TSA
{
	must(pthread_mutex_lock(&m->m), "mutex lock");
}

bool bale_mutex_trylock(struct bale_mutex *m) BALE_NO_TSA
{
	int r = pthread_mutex_trylock(&m->m);

	if (r == EBUSY)
		return false;
	must(r, "mutex trylock");
	return true;
}

void bale_mutex_unlock(struct bale_mutex *m) BALE_NO_TSA
{
	must(pthread_mutex_unlock(&m->m), "mutex unlock");
}

void bale_rwlock_init(struct bale_rwlock *l)
{
	pthread_rwlockattr_t a;

	must(pthread_rwlockattr_init(&a), "rwlockattr init");
	must(pthread_rwlockattr_setkind_np(
		     &a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP),
	     "rwlockattr kind");
	must(pthread_rwlock_init(&l->rw, &a), "rwlock init");
	pthread_rwlockattr_destroy(&a);
}

void bale_rwlock_fini(struct bale_rwlock *l)
{
	must(pthread_rwlock_destroy(&l->rw), "rwlock destroy");
}

void bale_rwlock_rdlock(struct bale_rwlock *l)
{
	must(pthread_rwlock_rdlock(&l->rw), "rwlock rdlock");
}

void bale_rwlock_wrlock(struct bale_rwlock *l)
{
	must(pthread_rwlock_wrlock(&l->rw), "rwlock wrlock");
}

bool bale_rwlock_trywrlock(struct bale_rwlock *l)
{
	int r = pthread_rwlock_trywrlock(&l->rw);

	if (r == EBUSY)
		return false;
	must(r, "rwlock trywrlock");
	return true;
}

void bale_rwlock_unlock(struct bale_rwlock *l)
{
	must(pthread_rwlock_unlock(&l->rw), "rwlock unlock");
}

void bale_cond_init(struct bale_cond *c)
{
	pthread_condattr_t a;

	must(pthread_condattr_init(&a), "condattr init");
	must(pthread_condattr_setclock(&a, CLOCK_MONOTONIC), "condattr clock");
	must(pthread_cond_init(&c->c, &a), "cond init");
	pthread_condattr_destroy(&a);
}

void bale_cond_fini(struct bale_cond *c)
{
	must(pthread_cond_destroy(&c->c), "cond destroy");
}

void bale_cond_wait(struct bale_cond *c, struct bale_mutex *m) BALE_NO_TSA
{
	must(pthread_cond_wait(&c->c, &m->m), "cond wait");
}

bool bale_cond_wait_for(struct bale_cond *c, struct bale_mutex *m,
			uint64_t timeout_ns) BALE_NO_TSA
{
	struct timespec ts;
	uint64_t ns;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ns = (uint64_t)ts.tv_nsec + timeout_ns;
	ts.tv_sec += (time_t)(ns / 1000000000u);
	ts.tv_nsec = (long)(ns % 1000000000u);
	r = pthread_cond_timedwait(&c->c, &m->m, &ts);
	if (r == ETIMEDOUT)
		return false;
	must(r, "cond timedwait");
	return true;
}

void bale_cond_signal(struct bale_cond *c)
{
	must(pthread_cond_signal(&c->c), "cond signal");
}

void bale_cond_broadcast(struct bale_cond *c)
{
	must(pthread_cond_broadcast(&c->c), "cond broadcast");
}

int bale_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *),
		      void *arg)
{
	sigset_t all, old;
	pthread_t t;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	pthread_setname_np(t, name);
	*ret = t;
	return 0;
}
