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

enum { MAX_POINTS = 64, NAME_MAX_LEN = 48, LATE_MS = 100 };

struct fault_point {
	char name[NAME_MAX_LEN];
	uint64_t nth; /* 0: only counted */
	bool onwards;
	int error; /* negative errno, or 0 for kill/delay */
	bool kill;
	bool stop;
	enum bale_fault_part part; /* of a read or write */
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

static const char *const part_names[] = {
	[BALE_FAULT_SHORT] = "short",
	[BALE_FAULT_TORN] = "torn",
	[BALE_FAULT_TORN_KILL] = "tornkill",
};

static int parse_action(const char *s, struct fault_point *p)
{
	if (!strcmp(s, "kill") || !strcmp(s, "latekill")) {
		p->kill = true;
		p->delay_ms = *s == 'l' ? LATE_MS : 0;
		return 0;
	}
	if (!strcmp(s, "stop")) {
		p->stop = true;
		return 0;
	}
	for (size_t i = 1; i < sizeof(part_names) / sizeof(*part_names); i++)
		if (!strcmp(s, part_names[i])) {
			p->part = (enum bale_fault_part)i;
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

/* ---- sites ---- */

_Thread_local struct bale_fault_site *bale_fault_site_now;

/* Made by the linker; absent from a program without sites. */
extern struct bale_fault_site *const __start_bale_fault_sites[]
	__attribute__((weak, visibility("hidden")));
extern struct bale_fault_site *const __stop_bale_fault_sites[]
	__attribute__((weak, visibility("hidden")));

struct bale_fault_site *bale_fault_site(size_t i)
{
	size_t nr =
		(size_t)(__stop_bale_fault_sites - __start_bale_fault_sites);

	return i < nr ? __start_bale_fault_sites[i] : NULL;
}

const char *bale_fault_site_file(const struct bale_fault_site *s)
{
	const char *slash = strrchr(s->file, '/');

	return slash ? slash + 1 : s->file;
}

/* "wal.c@319" */
static bool site_is(const struct bale_fault_site *s, const char *name)
{
	const char *file = bale_fault_site_file(s);
	size_t len = strlen(file);

	return !strncmp(name, file, len) && name[len] == '@' &&
	       strtoul(name + len + 1, NULL, 10) == s->line;
}

static const char *counts_path; /* set once, before the first passage */

static void write_counts(void)
{
	FILE *f = fopen(counts_path, "we");
	const struct bale_fault_site *s;

	for (size_t i = 0; f && (s = bale_fault_site(i)); i++)
		fprintf(f, "%llu %s@%u %s %s %s\n",
			(unsigned long long)__atomic_load_n(&s->passed,
							    __ATOMIC_RELAXED),
			bale_fault_site_file(s), s->line, s->func,
			s->name ? s->name : "-", s->file);
	if (f)
		fclose(f);
}

static void arm_from_env(void)
{
	const char *spec = getenv("BALEFS_FAULT");

	if (spec && bale_fault_arm(spec))
		fprintf(stderr, "balefs: bad BALEFS_FAULT: %s\n", spec);
	counts_path = getenv("BALEFS_FAULT_COUNTS");
	if (counts_path && !atexit(write_counts))
		atomic_store(&armed, true);
}

/* ---- passages ---- */

/* Find the counter of a point that no spec names, so that it can be counted. */
static void find_or_add(const char *name)
{
	for (unsigned int i = 0; i < nr_points; i++)
		if (!strcmp(points[i].name, name))
			return;
	if (nr_points == MAX_POINTS || strlen(name) >= NAME_MAX_LEN)
		return;
	points[nr_points] = (struct fault_point){ 0 };
	strcpy(points[nr_points].name, name);
	nr_points++;
}

static bool names(const struct fault_point *p, const char *name,
		  const struct bale_fault_site *site)
{
	return (name && !strcmp(p->name, name)) ||
	       (site && site_is(site, p->name));
}

void bale_fault_die(void)
{
	kill(getpid(), SIGKILL);
}

static void happen(const struct fault_point *hit)
{
	if (hit->delay_ms) {
		struct timespec ts = { hit->delay_ms / 1000,
				       hit->delay_ms % 1000 * 1000000L };

		nanosleep(&ts, NULL);
	}
	if (hit->kill)
		bale_fault_die();
	if (hit->stop)
		kill(getpid(), SIGSTOP);
}

static int pass(const char *name, struct bale_fault_site *site)
{
	struct fault_point hit = { 0 };

	if (site)
		__atomic_fetch_add(&site->passed, 1, __ATOMIC_RELAXED);
	bale_mutex_lock(&lock);
	if (name)
		find_or_add(name);
	for (unsigned int i = 0; i < nr_points; i++) {
		struct fault_point *p = &points[i];

		if (!names(p, name, site))
			continue;
		p->passed++;
		if (p->nth &&
		    (p->passed == p->nth || (p->onwards && p->passed > p->nth)))
			hit = *p;
	}
	bale_mutex_unlock(&lock);
	happen(&hit);
	return hit.part ? (int)hit.part : hit.error;
}

static bool is_armed(void)
{
	pthread_once(&env_once, arm_from_env);
	return bale_unlikely(
		atomic_load_explicit(&armed, memory_order_relaxed));
}

/* Half of a thing that has no half: a short one is all of it. */
static int whole(int r)
{
	if (r == BALE_FAULT_TORN_KILL)
		bale_fault_die();
	return r == BALE_FAULT_TORN ? -EIO : r < 0 ? r : 0;
}

int bale_fault(const char *point)
{
	return is_armed() ? whole(pass(point, NULL)) : 0;
}

int bale_fault_at(struct bale_fault_site *site)
{
	return is_armed() ? whole(pass(site->name, site)) : 0;
}

struct bale_fault_site *bale_fault_entered(void)
{
	struct bale_fault_site *site = bale_fault_site_now;

	bale_fault_site_now = NULL;
	return site;
}

int bale_fault_io(const char *op)
{
	struct bale_fault_site *site = bale_fault_entered();
	int r;

	if (!is_armed())
		return 0;
	r = pass(op, site);
	return !strcmp(op, "io.pwritev") || !strcmp(op, "io.pread") ? r :
								      whole(r);
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
