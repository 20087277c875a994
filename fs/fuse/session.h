/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse/session.h - one mount, from opening the store to closing it.
 */
#ifndef BALE_FUSE_SESSION_H
#define BALE_FUSE_SESSION_H

#include "fs/fuse/options.h"

/*
 * Open the store, mount it, serve until it is unmounted or a signal asks for
 * it, make everything durable, close. Both paths absolute. ready(arg) is
 * called once, on another thread, as soon as the mount answers. Failures are
 * logged; returns 0 or -errno (the first error of the mount's life too).
 * Blocks SIGTERM, SIGINT and SIGHUP in the calling thread: call it before any
 * other thread exists.
 */
int bale_session_run(const char *store, const char *mnt,
		     const struct bale_mount_options *o,
		     void (*ready)(void *arg), void *arg);

/* What libfuse this is, for --version. */
const char *bale_session_libfuse(void);

#endif
