/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_report.c - what fsck says: problems, progress; and SIGINT. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/clock.h"
#include "tools/cmd.h"
#include "tools/fsck.h"

/* Problems of one kind that are told one by one; the rest is counted. */
enum { TOLD_MAX = 200, DAMAGE_MAX = 1 << 20 };

static const struct {
	const char *name;
	enum bale_fsck_fix fix;
} kinds[] = {
#define X(name, fix) { #name, BALE_FIX_##fix },
	BALE_FSCK_KINDS(X)
#undef X
};

static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

void bale_fsck_catch_signals(void)
{
	/* The second one kills, as it always did. */
	struct sigaction sa = { .sa_handler = on_signal,
				.sa_flags = (int)SA_RESETHAND | SA_RESTART };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool bale_fsck_cancelled(void)
{
	return cancelled;
}

static void clear_progress(struct bale_fsck *f)
{
	if (f->progress && f->last_shown_ns)
		fputs("\r\033[K", stderr);
	f->last_shown_ns = 0;
}

bool bale_fsck_mends(const struct bale_fsck *f, enum bale_fsck_kind kind)
{
	if (kinds[kind].fix == BALE_FIX_SAFE)
		return f->preen || f->yes;
	return kinds[kind].fix == BALE_FIX_ASK && f->yes;
}

static void tell(struct bale_fsck *f, enum bale_fsck_kind kind,
		 const char *text, bool mend)
{
	if (f->json) {
		bale_json_object(&f->js, NULL);
		bale_json_str(&f->js, "kind", kinds[kind].name);
		bale_json_str(&f->js, "text", text);
		bale_json_bool(&f->js, "mended", mend);
		bale_json_end(&f->js);
		return;
	}
	clear_progress(f);
	bale_print_name(stdout, text, strlen(text));
	printf("%s\n", mend ? ": mended" : "");
	if (f->nr_kind[kind] == TOLD_MAX)
		printf("(more problems of this kind, %s, are only counted)\n",
		       kinds[kind].name);
	fflush(stdout);
}

bool bale_fsck_problem(struct bale_fsck *f, enum bale_fsck_kind kind,
		       const char *fmt, ...)
{
	bool mend = bale_fsck_mends(f, kind);
	char text[512];
	va_list ap;

	f->nr_kind[kind]++;
	if (mend)
		f->nr_fixed++;
	else
		f->nr_left++;
	if (f->nr_kind[kind] > TOLD_MAX)
		return mend;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tell(f, kind, text, mend);
	return mend;
}

void bale_fsck_damage_add(struct bale_fsck *f, uint64_t ino, uint64_t extent_no)
{
	struct bale_fsck_inode *i = bale_fsck_inode(f, ino);
	size_t cap = f->cap_damage ? f->cap_damage * 2 : 64;
	struct bale_fsck_damage *d;

	if (i)
		i->state |= BALE_FSCK_DAMAGED;
	if (f->nr_damage == f->cap_damage) {
		d = f->nr_damage < DAMAGE_MAX ?
			    realloc(f->damage, cap * sizeof(*d)) :
			    NULL;
		if (!d) {
			f->damage_cut = true;
			return;
		}
		f->damage = d;
		f->cap_damage = cap;
	}
	f->damage[f->nr_damage++] =
		(struct bale_fsck_damage){ .ino = ino, .extent_no = extent_no };
}

void bale_fsck_phase(struct bale_fsck *f, const char *name, uint64_t total)
{
	f->phase = name;
	f->done = 0;
	f->total = total;
}

int bale_fsck_step(struct bale_fsck *f)
{
	uint64_t now;

	f->done++;
	if (cancelled)
		return -ECANCELED;
	if (!f->progress || f->done % 64)
		return 0;
	now = bale_now_ns();
	if (now - f->last_shown_ns < 200000000)
		return 0;
	f->last_shown_ns = now;
	if (f->total)
		fprintf(stderr, "\r%s: %" PRIu64 " of %" PRIu64 " (%d%%)\033[K",
			f->phase, f->done, f->total,
			f->done >= f->total ? 100 :
					      (int)(f->done * 100 / f->total));
	else
		fprintf(stderr, "\r%s: %" PRIu64 "\033[K", f->phase, f->done);
	return 0;
}

void bale_fsck_phase_end(struct bale_fsck *f)
{
	clear_progress(f);
}
