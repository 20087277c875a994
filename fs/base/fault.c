/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/base/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/base/thread.h"

enum { MAX_POINTS = 64, NAME_MAX_LEN = 48 };

struct fault_point {
	char name[NAME_MAX_LEN];
	uint64_t nth; /* 0: only counted */
	bool onwards;
	int error; /* negative errno, or 0 for kill/delay */
	bool kill;
	unsigned int delay_ms;
	uint64_t passed;
};

static struct bale_mutex lock = { PTHREAD_MUTEX_INITIALIZER };
static struct fault_point points[MAX_POINTS]; /* lock */
static unsigned int nr_points;		      /* lock */
static atomic_bool armed;
static pthread_once_t env_once = PTHREAD_ONCE_INIT;

static const struct {
	const char *name;
	int value;
} errno_names[] = {
	{ "EIO", EIO },	      { "ENOSPC", ENOSPC }, { "ENOMEM", ENOMEM },
	{ "EROFS", EROFS },   { "EAGAIN", EAGAIN }, { "EACCES", EACCES },
	{ "EDQUOT", EDQUOT }, { "EMFILE", EMFILE },
};

static int parse_action(const char *s, struct fault_point *p)
{
	if (!strcmp(s, "kill")) {
		p->kill = true;
		return 0;
	}
	if (!strncmp(s, "delay=", 6)) {
		p->delay_ms = (unsigned int)strtoul(s + 6, NULL, 10);
		return 0;
	}
	for (size_t i = 0; i < sizeof(errno_names) / sizeof(*errno_names); i++)
		if (!strcmp(s, errno_names[i].name)) {
			p->error = -errno_names[i].value;
			return 0;
		}
	return -EINVAL;
}

static int parse_point(char *s, struct fault_point *p)
{
	char *save = NULL, *name = strtok_r(s, ":", &save), *end;
	const char *nth = strtok_r(NULL, ":", &save);
	const char *action = strtok_r(NULL, ":", &save);

	*p = (struct fault_point){ 0 };
	if (!name || !nth || strlen(name) >= sizeof(p->name))
		return -EINVAL;
	strcpy(p->name, name);
	p->nth = strtoull(nth, &end, 10);
	p->onwards = *end == '+';
	if (end == nth || *(end + p->onwards))
		return -EINVAL;
	if (!action) {
		p->error = -EIO;
		return 0;
	}
	return parse_action(action, p);
}

int bale_fault_arm(const char *spec)
{
	char *copy = strdup(spec), *save = NULL;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	bale_mutex_lock(&lock);
	for (char *s = strtok_r(copy, ",", &save); s && !r;
	     s = strtok_r(NULL, ",", &save)) {
		struct fault_point p;

		r = nr_points < MAX_POINTS ? parse_point(s, &p) : -ENOSPC;
		if (!r)
			points[nr_points++] = p;
	}
	if (nr_points)
		atomic_store(&armed, true);
	bale_mutex_unlock(&lock);
	free(copy);
	return r;
}

void bale_fault_clear(void)
{
	bale_mutex_lock(&lock);
	nr_points = 0;
	atomic_store(&armed, false);
	bale_mutex_unlock(&lock);
}

static void arm_from_env(void)
{
	const char *spec = getenv("BALEFS_FAULT");

	if (spec && bale_fault_arm(spec))
		fprintf(stderr, "balefs: bad BALEFS_FAULT: %s\n", spec);
}

/* Find the counter of a point that no spec names, so that it can be counted. */
static struct fault_point *find_or_add(const char *name, bool *ret_exact)
{
	*ret_exact = true;
	for (unsigned int i = 0; i < nr_points; i++)
		if (!strcmp(points[i].name, name))
			return &points[i];
	*ret_exact = false;
	if (nr_points == MAX_POINTS || strlen(name) >= NAME_MAX_LEN)
		return NULL;
	points[nr_points] = (struct fault_point){ 0 };
	strcpy(points[nr_points].name, name);
	return &points[nr_points++];
}

static int pass(const char *name)
{
	struct fault_point hit = { 0 };
	bool exact;

	bale_mutex_lock(&lock);
	find_or_add(name, &exact);
	for (unsigned int i = 0; i < nr_points; i++) {
		struct fault_point *p = &points[i];

		if (strcmp(p->name, name))
			continue;
		p->passed++;
		if (p->nth && (p->passed == p->nth ||
			       (p->onwards && p->passed > p->nth)))
			hit = *p;
	}
	bale_mutex_unlock(&lock);
	if (hit.kill)
		kill(getpid(), SIGKILL);
	if (hit.delay_ms) {
		struct timespec ts = { hit.delay_ms / 1000,
				       hit.delay_ms % 1000 * 1000000L };

		nanosleep(&ts, NULL);
	}
	return hit.error;
}

int bale_fault(const char *point)
{
	pthread_once(&env_once, arm_from_env);
	if (bale_likely(!atomic_load_explicit(&armed, memory_order_relaxed)))
		return 0;
	return pass(point);
}

uint64_t bale_fault_count(const char *point)
{
	uint64_t n = 0;

	bale_mutex_lock(&lock);
	for (unsigned int i = 0; i < nr_points; i++)
		if (!strcmp(points[i].name, point) && points[i].passed > n)
			n = points[i].passed;
	bale_mutex_unlock(&lock);
	return n;
}
