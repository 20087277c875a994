/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/clock.h"
#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/fuse/mounts.h"
#include "fs/fuse/reply.h"
#include "fs/fuse/session_int.h"

extern char **environ;

enum { MAX_WRITE = 1 << 20 }; /* the most that the kernel sends at once */
static const uint64_t default_commit_ns = 5000000000u;

bool bale_session_inode(fuse_req_t req, fuse_ino_t ino,
			struct bale_inode **ret)
{
	struct bale_session *s = bale_session_of(req);
	int err;

	if (atomic_load_explicit(&s->down, memory_order_relaxed))
		err = -EIO;
	else
		err = bale_inode_get(s->fs, ino, ret);
	if (!err)
		return true;
	bale_reply_err(req, err == -ENOENT ? -ESTALE : err);
	return false;
}

struct bale_cred bale_session_cred(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct bale_cred){
		.uid = ctx->uid,
		.gid = ctx->gid,
		.umask = ctx->umask,
	};
}

void bale_session_opened(struct bale_session *s, struct bale_inode *i,
			 struct fuse_file_info *fi)
{
	bool direct = s->opt.io == BALE_IO_DIRECT ||
		      (s->opt.io == BALE_IO_AUTO && (fi->flags & O_DIRECT));

	fi->fh = (fi->flags & O_ACCMODE) != O_RDONLY ? BALE_FH_WRITES : 0;
	/* What the kernel answers itself, we set no access time for: the first
	 * read after each open comes to us where every one is wanted. */
	fi->keep_cache = s->opt.atime != 2;
	fi->direct_io = direct;
#ifdef HAVE_FUSE_PARALLEL_DIRECT_WRITES
	fi->parallel_direct_writes = direct;
#endif
	/* Nothing to hear about the close of a handle that wrote nothing. */
	fi->noflush = !bale_session_for_writing(fi);
	if (!bale_session_for_writing(fi))
		return;
	atomic_fetch_add(&s->nr_writers, 1);
	atomic_fetch_add(&i->nr_writing, 1);
}

void bale_session_closed(struct bale_session *s, struct bale_inode *i,
			 const struct fuse_file_info *fi)
{
	if (!bale_session_for_writing(fi))
		return;
	atomic_fetch_sub(&s->nr_writers, 1);
	atomic_fetch_sub(&i->nr_writing, 1);
}

/* ---- INIT ---- */

static bool want(struct fuse_conn_info *conn, uint64_t flag, bool on)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	if (on)
		return fuse_set_feature_flag(conn, flag);
	fuse_unset_feature_flag(conn, flag);
	return false;
#else
	if (on)
		conn->want |= conn->capable & (unsigned int)flag;
	else
		conn->want &= ~(unsigned int)flag;
	return conn->want & flag;
#endif
}

static void want_all(struct bale_session *s, struct fuse_conn_info *conn)
{
	bool cached = s->opt.io != BALE_IO_DIRECT;

	s->writeback = want(conn, FUSE_CAP_WRITEBACK_CACHE,
			    cached && !s->opt.read_only);
	want(conn, FUSE_CAP_POSIX_ACL, true);
	want(conn, FUSE_CAP_DONT_MASK, true);
	want(conn, FUSE_CAP_EXPORT_SUPPORT, true);
	want(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, true);
	want(conn, FUSE_CAP_ASYNC_READ, true);
	want(conn, FUSE_CAP_ASYNC_DIO, true);
	want(conn, FUSE_CAP_CACHE_SYMLINKS, true);
	want(conn, FUSE_CAP_IOCTL_DIR, true);
	/* open(O_TRUNC) comes as a setattr, with the kernel's suid rules. */
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, false);
	/* Nobody else changes files, so a changed mtime is our own. */
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, false);
	/* A pipe between the request and our buffers costs more than the
	 * copy that it saves. */
	want(conn, FUSE_CAP_SPLICE_READ, false);
	want(conn, FUSE_CAP_SPLICE_WRITE, false);
	want(conn, FUSE_CAP_SPLICE_MOVE, false);
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false);
#ifdef HAVE_FUSE_KILL_SUIDGID
	s->killpriv = want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2, true);
#endif
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
	want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP, true);
#endif
}

static void bale_fuse_init(void *userdata, struct fuse_conn_info *conn)
{
	struct bale_session *s = userdata;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	want_all(s, conn);
	conn->max_write = MAX_WRITE;
	conn->time_gran = 1;
#ifdef HAVE_FUSE_NO_INTERRUPT
	conn->no_interrupt = 1; /* nothing here waits for long */
#endif
	conn->max_background = s->opt.max_background;
	if (!conn->max_background)
		conn->max_background = 64 + 4 * (unsigned int)cores;
	conn->congestion_threshold = conn->max_background * 3 / 4;

	bale_mutex_lock(&s->lock);
	s->inited = true;
	bale_cond_broadcast(&s->cond);
	bale_mutex_unlock(&s->lock);
}

static const struct fuse_lowlevel_ops ops = {
	.init = bale_fuse_init,
	.lookup = bale_fuse_lookup,
	.forget = bale_fuse_forget,
	.forget_multi = bale_fuse_forget_multi,
	.getattr = bale_fuse_getattr,
	.setattr = bale_fuse_setattr,
	.readlink = bale_fuse_readlink,
	.mknod = bale_fuse_mknod,
	.mkdir = bale_fuse_mkdir,
	.unlink = bale_fuse_unlink,
	.rmdir = bale_fuse_rmdir,
	.symlink = bale_fuse_symlink,
	.rename = bale_fuse_rename,
	.link = bale_fuse_link,
	.open = bale_fuse_open,
	.create = bale_fuse_create,
	.read = bale_fuse_read,
	.write = bale_fuse_write,
	.flush = bale_fuse_flush,
	.release = bale_fuse_release,
	.fsync = bale_fuse_fsync,
	.opendir = bale_fuse_opendir,
	.readdir = bale_fuse_readdir,
	.readdirplus = bale_fuse_readdirplus,
	.releasedir = bale_fuse_releasedir,
	.fsyncdir = bale_fuse_fsyncdir,
	.statfs = bale_fuse_statfs,
	.setxattr = bale_fuse_setxattr,
	.getxattr = bale_fuse_getxattr,
	.listxattr = bale_fuse_listxattr,
	.removexattr = bale_fuse_removexattr,
	.fallocate = bale_fuse_fallocate,
	.lseek = bale_fuse_lseek,
	.copy_file_range = bale_fuse_copy_file_range,
	.ioctl = bale_fuse_ioctl,
#ifdef HAVE_FUSE_TMPFILE
	.tmpfile = bale_fuse_tmpfile,
#endif
#ifdef HAVE_FUSE_STATX
	.statx = bale_fuse_statx,
#endif
};

/* ---- helper threads ---- */

/* Says that the mount answers, once it does. */
static void *ready_thread(void *arg)
{
	struct bale_session *s = arg;
	struct stat st;
	bool ended;

	bale_mutex_lock(&s->lock);
	while (!s->inited && !s->ended)
		bale_cond_wait(&s->cond, &s->lock);
	ended = s->ended;
	bale_mutex_unlock(&s->lock);
	if (ended || stat(s->mnt, &st))
		return NULL;
	bale_bdi_tune(s->mnt);
	if (s->ready)
		s->ready(s->ready_arg);
	return NULL;
}

/*
 * By a program of its own. A thread of ours that waits in the kernel for our
 * own answers could not die with us: SIGKILL would leave it waiting with the
 * device open, and so nobody would ever get an error instead of an answer.
 */
int bale_session_sync_pages(struct bale_session *s)
{
	char *argv[] = { "sync", "-f", "--", (char *)s->mnt, NULL };
	posix_spawn_file_actions_t actions;
	int status, err;
	pid_t pid;

	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	/* Nor may that program keep the device, or any library's files. */
	err = posix_spawn_file_actions_addclosefrom_np(&actions, 3) ?:
	      posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		return -ENOENT;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}

/*
 * The kernel keeps written pages for up to 30 s before it sends them, but we
 * promise that work older than the commit interval is safe. Only files open
 * for writing can have such pages (a close sends them), and those keep the
 * mount busy anyway, so the descriptor held for a moment here is in nobody's
 * way.
 */
static void *sync_thread(void *arg)
{
	struct bale_session *s = arg;
	uint64_t period = s->opt.commit_ns ? s->opt.commit_ns :
					     default_commit_ns;
	uint64_t due = bale_now_ns() + period, now;

	bale_mutex_lock(&s->lock);
	while (!s->ended) {
		/* Signalled for other reasons, too. */
		now = bale_now_ns();
		if (now < due) {
			bale_cond_wait_for(&s->cond, &s->lock, due - now);
			continue;
		}
		if (s->inited && atomic_load(&s->nr_writers)) {
			bale_mutex_unlock(&s->lock);
			if (!bale_session_sync_pages(s))
				bale_fs_sync(s->fs);
			bale_mutex_lock(&s->lock);
		}
		due = bale_now_ns() + period;
	}
	bale_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- the session ---- */

static int add_args(const struct bale_session *s, struct fuse_args *args)
{
	const struct bale_mount_options *o = &s->opt;
	bale_autofree char *plain = NULL, *fsname = NULL;
	char *opts = NULL;
	int err;

	if (asprintf(&fsname, "fsname=%s", s->store) < 0 ||
	    asprintf(&plain, "subtype=balefs%s%s%s%s%s%s%s%s%s%s%s",
		     o->default_permissions ? ",default_permissions" : "",
		     o->allow_other ? ",allow_other" : "",
		     o->read_only ? ",ro" : ",rw",
		     o->suid ? ",suid" : ",nosuid", o->dev ? ",dev" : ",nodev",
		     o->noexec ? ",noexec" : "",
		     o->atime == 1 ? ",noatime" : "", o->sync ? ",sync" : "",
		     o->dirsync ? ",dirsync" : "",
		     o->io_uring ? ",io_uring" : "",
		     o->debug ? ",debug" : "") < 0)
		return -ENOMEM;
	err = fuse_opt_add_arg(args, "balefs") ||
	      fuse_opt_add_opt(&opts, plain) ||
	      fuse_opt_add_opt_escaped(&opts, fsname) ||
	      fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, opts);
	free(opts);
	return err ? -ENOMEM : 0;
}

static int open_fs(struct bale_session *s)
{
	const struct bale_mount_options *o = &s->opt;
	struct bale_fs_options fo = {
		.size = sizeof(fo),
		.read_only = o->read_only,
		.untrusted = o->untrusted,
		.policy = o->policy,
		.has_policy = o->has_policy,
		.cache_bytes = o->cache_bytes,
		.bale_bytes = o->bale_bytes,
		.commit_ns = o->commit_ns,
		.nr_workers = o->threads,
		.gpu = o->gpu,
		.atime = o->atime,
		.wait_ms = o->wait_ms,
		.io_ops = o->io_ops,
	};
	char holder[128];
	int err = bale_fs_open(s->store, &fo, &s->fs);

	if (err == -EBUSY && !bale_store_holder(s->store, holder,
						sizeof(holder)))
		bale_err("%s: in use by %s", s->store, holder);
	else if (err && err != -EINVAL && err != -EOPNOTSUPP &&
		 err != -EUCLEAN && err != -EBADMSG)
		/* The others have been told in full by the store. */
		bale_err("%s: cannot open the store: %s", s->store,
			 strerror(-err));
	return err;
}

static void *exit_thread(void *arg)
{
	pthread_exit(arg);
}

/*
 * libfuse ends its threads with pthread_cancel(), which loads a library when
 * first used, and ends the process when there is no memory for it. What
 * pthread_exit() loads is the same.
 */
static void load_unwinder(void)
{
	pthread_t t;

	if (!bale_thread_start(&t, "bale-unwinder", exit_thread, NULL))
		pthread_join(t, NULL);
}

static int serve(struct bale_session *s)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	unsigned int nr = s->opt.max_threads;
	int err;

	if (!config)
		return -ENOMEM;
	if (!nr)
		nr = 8 + 4 * (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	load_unwinder();
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, nr);
	fuse_loop_cfg_set_idle_threads(config, nr);
	err = fuse_session_loop_mt(s->se, config);
	fuse_loop_cfg_destroy(config);
	/* Positive: the number of a signal that libfuse saw. */
	return err < 0 ? err : 0;
}

/* The kernel's side is closed: a thread that waits for an answer of the mount
 * gets an error instead of waiting for ever. The number stays taken, since the
 * session is still used by who answers late. */
static void close_device(struct fuse_session *se)
{
	int fd = fuse_session_fd(se), nothing = eventfd(0, EFD_CLOEXEC);

	if (fd >= 0 && nothing >= 0)
		dup2(nothing, fd);
	if (nothing >= 0)
		close(nothing);
}

static int serve_with_helpers(struct bale_session *s)
{
	static void *(*const fns[])(void *) = { ready_thread, sync_thread,
						bale_pages_thread,
						bale_signals_thread };
	static const char *const names[] = { "bale-ready", "bale-sync",
					     "bale-pages", "bale-signal" };
	enum { NR = sizeof(fns) / sizeof(fns[0]) };
	struct bale_signals g = { .s = s, .loop = pthread_self() };
	pthread_t threads[NR];
	unsigned int nr = 0;
	int err = 0;

	for (; nr < NR && !err; nr += !err)
		err = bale_thread_start(&threads[nr], names[nr], fns[nr],
					fns[nr] == bale_signals_thread ? (void *)&g :
								   (void *)s);
	if (!err)
		err = serve(s);
	bale_mutex_lock(&s->lock);
	s->ended = true;
	bale_cond_broadcast(&s->cond);
	bale_mutex_unlock(&s->lock);
	if (nr == NR)
		pthread_kill(threads[NR - 1], SIGUSR1);
	/* Cut off on purpose is no error. */
	if (g.detached)
		err = 0;
	else
		fuse_session_unmount(s->se);
	close_device(s->se);
	while (nr)
		pthread_join(threads[--nr], NULL);
	fuse_session_destroy(s->se);
	s->se = NULL;
	return err;
}

static int mount_and_serve(struct bale_session *s)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int err = add_args(s, &args);

	if (!err) {
		s->se = fuse_session_new(&args, &ops, sizeof(ops), s);
		err = s->se ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	if (err)
		return err;
	if (fuse_session_mount(s->se, s->mnt)) {
		/* libfuse has printed the reason. */
		fuse_session_destroy(s->se);
		return -EPERM;
	}
	s->started_ns = bale_now_ns();
	return serve_with_helpers(s);
}

int bale_session_run(const char *store, const char *mnt,
		     const struct bale_mount_options *o,
		     void (*ready)(void *arg), void *arg)
{
	struct bale_session s = {
		.opt = *o,
		.store = store,
		.mnt = mnt,
		.ready = ready,
		.ready_arg = arg,
	};
	int err, close_err;

	bale_signals_block();
	/* Writing our pages out must not wait for us to write pages out. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	err = open_fs(&s);
	if (err)
		return err;
	bale_mutex_init(&s.lock);
	bale_cond_init(&s.cond);
	err = mount_and_serve(&s);
	close_err = bale_fs_close(s.fs);
	if (close_err)
		bale_err("%s: not everything could be stored: %s", store,
			 strerror(-close_err));
	bale_cond_fini(&s.cond);
	bale_mutex_fini(&s.lock);
	return err ? err : close_err;
}

const char *bale_session_libfuse(void)
{
	return fuse_pkgversion();
}
