/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c - a daemon that is told to end, and how it gets out of a mount in
 * use. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/fuse/mounts.h"
#include "fs/fuse/session_int.h"

enum {
	KICK_MS = 50,
	IDLE_WAIT_MS = 3000,
};

static bool is_over(struct bale_session *s, uint64_t wait_ms)
{
	bool ended;

	bale_mutex_lock(&s->lock);
	if (!s->ended && wait_ms)
		bale_cond_wait_for(&s->cond, &s->lock, wait_ms * 1000000);
	ended = s->ended;
	bale_mutex_unlock(&s->lock);
	return ended;
}

/*
 * Until the kernel waits for no answer: what it sent is then with us. syncfs()
 * alone need not wait for a FUSE filesystem's pages.
 */
static void wait_idle(const struct bale_mount_info *m)
{
	char path[64], text[16] = "";

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/waiting",
		 m->dev_minor);
	for (int n = 0; n < IDLE_WAIT_MS / KICK_MS; n++) {
		bale_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

		/* Where nobody can tell, a second must do. */
		if (fd < 0 && n * KICK_MS >= 1000)
			return;
		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
		    !strcmp(text, "0\n"))
			return;
		usleep(KICK_MS * 1000);
	}
}

/*
 * Asked to end: unmount while requests are still served, because the kernel
 * writes its dirty pages out first. A mount in use is detached after that.
 */
static void stop(struct bale_signals *g)
{
	struct bale_session *s = g->s;
	bale_autofree struct bale_mount_info *m = malloc(sizeof(*m));
	int err = bale_mounts_unmount(s->mnt, false, false);

	if (err) {
		bale_warn("%s: %s; detached, whoever still uses it gets "
			  "errors",
			  s->mnt, strerror(-err));
		bale_session_sync_pages(s);
		if (m && !bale_mounts_at(s->mnt, m))
			wait_idle(m);
		/* From here on the loop may end and take the session along. */
		g->detached = true;
		fuse_session_exit(s->se);
		/* Forced: whatever still waits for the kernel is let go. */
		if (bale_mounts_unmount(s->mnt, true, true))
			bale_mounts_unmount(s->mnt, true, false);
	}
	/* The loop's thread may be about to sleep: kick until it is out. */
	while (!is_over(s, KICK_MS))
		if (g->detached)
			pthread_kill(g->loop, SIGUSR2);
}

void *bale_signals_thread(void *arg)
{
	struct bale_signals *g = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	while (!sigwait(&set, &sig)) {
		if (is_over(g->s, 0))
			break;
		if (sig == SIGUSR1)
			continue;
		bale_info("signal %d: unmounting %s", sig, g->s->mnt);
		stop(g);
		break;
	}
	return NULL;
}

static void no_action(int sig)
{
	(void)sig;
}

void bale_signals_block(void)
{
	struct sigaction kick = { .sa_handler = no_action };
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGUSR2, &kick, NULL); /* no SA_RESTART: it must interrupt */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}
