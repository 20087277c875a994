/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_scrub.c - read and check everything stored, of a mount or of a store.
 * The place is kept here and handed to the daemon step by step: so a limit of
 * the rate is a pause between steps, stopping this process (Ctrl-Z) pauses the
 * scrub, and a file can keep the place for another day.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/inode/scrub.h"
#include "tools/cmd.h"
#include "tools/scrub.h"

enum { EXIT_DAMAGED = 4, STEP_BYTES = 8 << 20 };
#define SECOND	    ((uint64_t)1000000000u)
#define STATE_MAGIC "balefs scrub 1"

static const char usage[] =
	"usage: balefs scrub [OPTION..] MOUNTPOINT | STORE\n"
	"\n"
	"Read everything that is stored and compare it with its checksums: "
	"the\n"
	"index, then the content of every file. Damaged files are printed as\n"
	"they are found. A mount stays usable; a STORE must not be mounted "
	"for\n"
	"writing. Ctrl-Z pauses it; after Ctrl-C --state goes on from there.\n"
	"\n"
	"  -d, --decode      decode every extent too\n"
	"  -r, --rate SIZE   at most so many stored bytes a second (64M)\n"
	"  -s, --state FILE  go on from the place in FILE, if there is one; "
	"it\n"
	"                    is kept there when interrupted, removed at the "
	"end\n"
	"  -p, --progress    a line on standard error once a second\n"
	"      --help        this text\n"
	"\n"
	"Exit status: 0 nothing damaged, 1 failed or interrupted, 2 wrong "
	"call,\n"
	"4 damage was found.\n";

struct scrub {
	struct bale_scrub_source src;
	struct bale_ioc_scrub x;
	const char *path, *state;
	uint64_t rate;
	bool progress;
	/* since the start, over interruptions too */
	uint64_t extents, stored, raw, bad;
	uint64_t began_ns, shown_ns, paced; /* of this run; bytes of it */
	uint64_t idle_ns;		    /* not counted as time to read in */
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

/* ---- the place, kept ---- */

static int load_state(struct scrub *s)
{
	FILE *f = fopen(s->state, "re");
	int n;

	if (!f)
		return errno == ENOENT ? 0 : -errno;
	n = fscanf(f,
		   STATE_MAGIC "\n%" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNu64
			       " %" SCNu64 " %" SCNu64 " %" SCNu64,
		   &s->x.phase, &s->x.place[0], &s->x.place[1], &s->extents,
		   &s->stored, &s->raw, &s->bad);
	fclose(f);
	return n == 7 && s->x.phase <= BALE_SCRUB_DONE ? 0 : -EINVAL;
}

static int save_state(const struct scrub *s)
{
	FILE *f = fopen(s->state, "we");

	if (!f)
		return -errno;
	fprintf(f,
		STATE_MAGIC "\n%" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64
			    " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
		s->x.phase, (uint64_t)s->x.place[0], (uint64_t)s->x.place[1],
		s->extents, s->stored, s->raw, s->bad);
	return fclose(f) ? -errno : 0;
}

/* ---- what is printed ---- */

static void tell_bad(struct scrub *s)
{
	static char path[4096];

	for (uint32_t k = 0; k < s->x.nr_bad && k < 64; k++) {
		uint64_t first = s->x.bad[k].extent_no * s->x.extent_size;

		bale_scrub_source_path(&s->src, s->x.bad[k].ino, path,
				       sizeof(path));
		printf("damaged: ");
		bale_print_name(stdout, path, strlen(path));
		printf(": bytes %" PRIu64 "-%" PRIu64 ": %s\n", first,
		       first + s->x.extent_size - 1,
		       s->x.bad[k].error == EBADMSG ?
			       "checksum mismatch" :
		       s->x.bad[k].error == EUCLEAN ?
			       "does not decode" :
			       strerror((int)s->x.bad[k].error));
		s->bad++;
	}
	if (s->x.index_error) {
		printf("damaged: the index: unmount and mount again, it will "
		       "be built anew\n");
		s->bad++;
	}
	fflush(stdout);
}

static void tell_progress(struct scrub *s)
{
	uint64_t now = bale_now_ns(), percent = 100;
	char stored[BALE_SIZE_TEXT], rate[BALE_SIZE_TEXT];

	if (!s->progress || now - s->shown_ns < SECOND)
		return;
	s->shown_ns = now;
	if (s->src.extents && s->extents < s->src.extents)
		percent = s->extents * 100 / s->src.extents;
	fprintf(stderr,
		"%s: %" PRIu64 "%%, %s checked, %s/s, %" PRIu64 " damaged\n",
		s->path, percent, bale_size_text(s->stored, stored),
		bale_size_text((uint64_t)((double)s->paced * 1e9 /
					  (double)(now - s->began_ns + 1)),
			       rate),
		s->bad);
}

static void report(const struct scrub *s)
{
	char stored[BALE_SIZE_TEXT], raw[BALE_SIZE_TEXT];

	printf("%s: %" PRIu64 " extents, %s stored, %s of files: %" PRIu64
	       " damaged%s\n",
	       s->path, s->extents, bale_size_text(s->stored, stored),
	       bale_size_text(s->raw, raw), s->bad,
	       s->x.phase == BALE_SCRUB_DONE ? "" : "; not finished");
}

/* ---- work ---- */

/* Sleep until what was read so far fits the rate; a signal ends it. */
static void pace(struct scrub *s)
{
	uint64_t due, now;

	s->paced += s->x.stored;
	if (!s->rate)
		return;
	due = s->began_ns + s->idle_ns +
	      (uint64_t)((double)s->paced * 1e9 / (double)s->rate);
	/* It was stopped, or waited for the disk: that is not made up for. */
	now = bale_now_ns();
	if (now > due + SECOND)
		s->idle_ns += now - due - SECOND;
	while (!stopped && (now = bale_now_ns()) < due) {
		uint64_t left = due - now < SECOND / 5 ? due - now : SECOND / 5;
		struct timespec ts = { 0, (long)left };

		nanosleep(&ts, NULL);
		tell_progress(s);
	}
}

static int run(struct scrub *s)
{
	uint64_t step = STEP_BYTES;
	int r = 0;

	/* A step asks for a quarter of a second of the rate. It is never less
	 * than a row of the map: 64 extents. */
	if (s->rate && s->rate / 4 < step)
		step = s->rate / 4 + 1;
	s->began_ns = s->shown_ns = bale_now_ns();
	while (!stopped && s->x.phase != BALE_SCRUB_DONE) {
		s->x.bytes = step;
		r = bale_scrub_source_step(&s->src, &s->x);
		if (r == -EINTR) {
			r = 0;
			continue;
		}
		if (r)
			break;
		s->extents += s->x.extents;
		s->stored += s->x.stored;
		s->raw += s->x.raw;
		tell_bad(s);
		pace(s);
		tell_progress(s);
	}
	return r;
}

static int finish(struct scrub *s, int r)
{
	int e = 0;

	if (r)
		bale_cmd_error("%s: %s", s->path,
			       r == -EPERM ? "only root, or who mounted it, "
					     "may do that" :
					     strerror(-r));
	else
		report(s);
	if (s->state && s->x.phase != BALE_SCRUB_DONE)
		e = save_state(s);
	else if (s->state && unlink(s->state) && errno != ENOENT)
		e = -errno;
	if (e)
		bale_cmd_error("%s: %s", s->state, strerror(-e));
	if (r || e || s->x.phase != BALE_SCRUB_DONE)
		return BALE_EXIT_FAILED;
	return s->bad ? EXIT_DAMAGED : BALE_EXIT_OK;
}

static int scrub(const struct bale_cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "decode", no_argument, NULL, 'd' },
		{ "rate", required_argument, NULL, 'r' },
		{ "state", required_argument, NULL, 's' },
		{ "progress", no_argument, NULL, 'p' },
		{ 0 },
	};
	struct sigaction sa = { .sa_handler = on_signal };
	struct scrub s = { .src = { .fd = -1 } };
	int c, r;

	while ((c = getopt_long(argc, argv, ":dr:s:p", longs, NULL)) != -1) {
		if (c == 'd')
			s.x.decode = 1;
		else if (c == 's')
			s.state = optarg;
		else if (c == 'p')
			s.progress = true;
		else if (c != 'r')
			return bale_cmd_bad_option(cmd, c, argv);
		else if (bale_size_parse(optarg, &s.rate) || !s.rate)
			return bale_cmd_usage_error(cmd,
						    "--rate %s: not a "
						    "size",
						    optarg);
	}
	if (argc - optind != 1)
		return bale_cmd_usage_error(cmd, "want one path, got %d",
					    argc - optind);
	s.path = argv[optind];
	r = s.state ? load_state(&s) : 0;
	if (r) {
		bale_cmd_error("%s: %s", s.state,
			       r == -EINVAL ? "not the state of a scrub" :
					      strerror(-r));
		return BALE_EXIT_FAILED;
	}
	bale_log_set_level(BALE_LOG_WARN);
	if (bale_scrub_source_open(s.path, &s.src))
		return BALE_EXIT_FAILED;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	r = run(&s);
	r = finish(&s, r);
	bale_scrub_source_close(&s.src);
	return r;
}

const struct bale_cmd bale_cmd_scrub = {
	.name = "scrub",
	.summary = "read and check everything that is stored",
	.usage = usage,
	.fn = scrub,
};
