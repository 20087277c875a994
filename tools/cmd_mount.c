/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_mount.c - mount a store. By default a child becomes the daemon, and the
 * parent returns when the mount answers; what goes wrong before that reaches
 * the caller's stderr. mount(8) calls this as mount.fuse.balefs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/log.h"
#include "fs/base/mem.h"
#include "fs/fuse/mounts.h"
#include "fs/fuse/options.h"
#include "fs/fuse/session.h"
#include "fs/store/store.h"
#include "tools/cmd.h"

static const char usage[] =
	"usage: mount.balefs STORE MOUNTPOINT [-o OPTION[,OPTION..]]\n"
	"       balefs mount [-f] STORE MOUNTPOINT [-o OPTION[,OPTION..]]\n"
	"       mount -t fuse.balefs STORE MOUNTPOINT [-o OPTION[,OPTION..]]\n"
	"\n"
	"Mount the store; return when the mount answers.\n"
	"\n"
	"  -o, --options LIST  comma-separated:\n"
	"        ro, rw             read-only writes nothing to the store at "
	"all\n"
	"        allow_other        other users too, by the files' "
	"permissions\n"
	"        codec=POLICY       auto, raw, lz4, gdeflate[:LEVEL] or\n"
	"                           zstd[:LEVEL]; and +FILTER\n"
	"        cache=SIZE         memory for file contents, such as 1G\n"
	"        commit=SECONDS     unsynced work older than this is safe (5)\n"
	"        io=MODE            cached: the kernel keeps pages (default);\n"
	"                           direct: it does not; auto: direct for\n"
	"                           files opened with O_DIRECT\n"
	"        noatime, relatime, strictatime   which reads set times\n"
	"        suid, dev          honour set-uid files, devices; root only\n"
	"        gpu=WHICH          auto: GPUs where they are faster; off; or\n"
	"                           numbers of devices, such as 0+1\n"
	"        gpu_mem=SIZE       memory to take on each\n"
	"        gpu_share=PERCENT  of each one's time to take at most (100)\n"
	"        threads=N          compressing threads (as many as cores)\n"
	"        max_threads=N      threads that serve requests\n"
	"        max_background=N   requests that the kernel queues\n"
	"        bale=SIZE          bytes that are compressed together (64M)\n"
	"        wait=SECONDS       for the last mount of the store to end "
	"(30)\n"
	"        untrusted          the store is someone else's: use no index\n"
	"                           found in it\n"
	"        no_default_permissions, noexec, sync, dirsync, debug\n"
	"  -f, --foreground    stay (mount.balefs: -f is mount(8)'s --fake)\n"
	"  -r, --read-only     the same as -o ro\n"
	"      --help          this text\n"
	"\n"
	"-n, -s, -v, -w, -N and -t, which mount(8) may pass, change nothing.\n"
	"Exit status: 0 mounted, 1 wrong call or no permission, 32 failed.\n";

enum {
	EXIT_CALL = 1,
	EXIT_SYSTEM = 2,
	EXIT_MOUNT = 32,
};

struct mount_call {
	struct bale_mount_options opt;
	bool fake;
	char *store, *mnt; /* absolute */
};

/* ---- checks that need nothing opened ---- */

static bool is_inside(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (!strcmp(dir, "/"))
		return true;
	return !strncmp(path, dir, len) && (!path[len] || path[len] == '/');
}

/* A daemon that died leaves its mount behind: make room for the next. */
static int drop_dead_mount(const char *path)
{
	bale_autofree struct bale_mount_info *m = malloc(sizeof(*m));

	if (!m || bale_mounts_at(path, m)) {
		bale_cmd_error("%s: the filesystem mounted there is dead: "
			       "unmount it first",
			       path);
		return EXIT_MOUNT;
	}
	bale_info("%s: the last daemon died; unmounting what it left", path);
	bale_mounts_unmount(path, true, false);
	return 0;
}

/* Like realpath(), but for a mount point whose last part is a dead mount. */
static char *resolve_mount_point(const char *path)
{
	bale_autofree char *copy = strdup(path), *dir = NULL;
	char *slash, *ret = NULL;
	size_t len;

	if (!copy)
		return NULL;
	for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	slash = strrchr(copy, '/');
	if (slash)
		*slash = '\0';
	dir = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	if (!dir || asprintf(&ret, "%s/%s", strcmp(dir, "/") ? dir : "",
			     slash ? slash + 1 : copy) < 0)
		return NULL;
	return ret;
}

static int check_mount_point(struct mount_call *c, const char *path)
{
	bale_autofree struct bale_mount_info *m = malloc(sizeof(*m));
	struct statvfs vfs;
	struct stat st;

	/* Not stat(): the kernel may remember the answer to that. */
	if (statvfs(path, &vfs) && errno == ENOTCONN) {
		c->mnt = resolve_mount_point(path);
		if (!c->mnt || drop_dead_mount(c->mnt))
			return EXIT_MOUNT;
		free(bale_steal(&c->mnt));
	}
	c->mnt = realpath(path, NULL);
	if (!c->mnt || stat(c->mnt, &st)) {
		bale_cmd_error("mount point %s: %s", path, strerror(errno));
		return EXIT_MOUNT;
	}
	if (!S_ISDIR(st.st_mode)) {
		bale_cmd_error("mount point %s: not a directory", path);
		return EXIT_MOUNT;
	}
	if (m && !bale_mounts_at(c->mnt, m)) {
		bale_cmd_error("mount point %s: busy, %s is mounted there",
			       path, m->store);
		return EXIT_MOUNT;
	}
	return 0;
}

/* Neither copy of the superblock; only where we may look. */
static bool is_no_store(const char *path)
{
	bale_autoclose int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return dir >= 0 && faccessat(dir, "super.0", F_OK, 0) &&
	       errno == ENOENT && faccessat(dir, "super.1", F_OK, 0) &&
	       errno == ENOENT;
}

static int check_store(struct mount_call *c, const char *path)
{
	struct stat st;

	c->store = realpath(path, NULL);
	if (!c->store || stat(c->store, &st)) {
		bale_cmd_error("store %s: %s", path, strerror(errno));
		return EXIT_MOUNT;
	}
	if (!S_ISDIR(st.st_mode)) {
		bale_cmd_error("store %s: not a directory", path);
		return EXIT_MOUNT;
	}
	if (is_no_store(c->store)) {
		bale_cmd_error("%s: not a balefs store", path);
		return EXIT_MOUNT;
	}
	return 0;
}

static int check_places(const struct mount_call *c)
{
	if (is_inside(c->store, c->mnt)) {
		bale_cmd_error("store %s is inside its mount point %s",
			       c->store, c->mnt);
		return EXIT_CALL;
	}
	if (is_inside(c->mnt, c->store)) {
		bale_cmd_error("mount point %s is inside the store %s", c->mnt,
			       c->store);
		return EXIT_CALL;
	}
	return 0;
}

static int check_device(void)
{
	bale_autoclose int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM) {
		bale_cmd_error("/dev/fuse: no permission");
		return EXIT_CALL;
	}
	bale_cmd_error("/dev/fuse: %s; is the fuse module there? "
		       "(modprobe fuse)",
		       strerror(errno));
	return EXIT_MOUNT;
}

/* A store that is mounted is refused at once; one whose daemon is still
 * finishing is waited for by the store layer. */
static int check_holder(struct mount_call *c)
{
	bale_autofree struct bale_mount_info *m = malloc(sizeof(*m));
	char holder[128];

	if (!m || bale_mounts_of_store(c->store, m) ||
	    bale_store_holder(c->store, holder, sizeof(holder)))
		return 0;
	bale_cmd_error("%s: in use by %s, mounted on %s", c->store, holder,
		       m->mnt);
	return EXIT_MOUNT;
}

/* ---- the daemon ---- */

static int exit_status(int err)
{
	if (err == -EPERM || err == -EACCES)
		return EXIT_CALL;
	return err ? EXIT_MOUNT : 0;
}

/* On the session's thread, once: let the parent go and cut the ties. */
static void tell_parent(void *arg)
{
	int *pipe_fd = arg;
	bale_autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	bale_log_to_syslog();
	if (null >= 0)
		for (int fd = 0; fd <= 2; fd++)
			dup2(null, fd);
	if (write(*pipe_fd, "", 1) != 1)
		bale_warn("nobody waited for the mount");
	close(*pipe_fd);
}

static int run_daemon(const struct mount_call *c, int pipe_fd)
{
	struct rlimit no_core = { 0, 0 };

	setsid();
	if (chdir("/"))
		return EXIT_SYSTEM;
	/* A core file would hold what the store keeps private. */
	setrlimit(RLIMIT_CORE, &no_core);
	return exit_status(bale_session_run(c->store, c->mnt, &c->opt,
					    tell_parent, &pipe_fd));
}

static int wait_for_daemon(const struct mount_call *c, pid_t pid, int pipe_fd)
{
	struct stat st;
	ssize_t n;
	int status;
	char byte;

	do {
		n = read(pipe_fd, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1) {
		if (!stat(c->mnt, &st))
			return 0;
		bale_cmd_error("%s: %s", c->mnt, strerror(errno));
		return EXIT_MOUNT;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_SYSTEM;
	if (WIFEXITED(status))
		return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_MOUNT;
	bale_cmd_error("the daemon died of signal %d", WTERMSIG(status));
	return EXIT_MOUNT;
}

static int start_daemon(const struct mount_call *c)
{
	int fds[2], status;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC)) {
		bale_cmd_error("pipe: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		bale_cmd_error("fork: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	if (pid == 0) {
		close(fds[0]);
		_exit(run_daemon(c, fds[1]));
	}
	close(fds[1]);
	status = wait_for_daemon(c, pid, fds[0]);
	close(fds[0]);
	return status;
}

/* ---- the command line ---- */

static int add_options(const struct bale_cmd *cmd, struct mount_call *c,
		       const char *list)
{
	char err[256];

	if (!bale_mount_options_parse(&c->opt, list, err, sizeof(err)))
		return 0;
	return bale_cmd_usage_error(cmd, "%s", err);
}

static int parse(const struct bale_cmd *cmd, struct mount_call *c, int argc,
		 char **argv)
{
	static const struct option longs[] = {
		{ "options", required_argument, NULL, 'o' },
		{ "foreground", no_argument, NULL, 'F' },
		{ "fake", no_argument, NULL, 'K' },
		{ "read-only", no_argument, NULL, 'r' },
		{ 0 },
	};
	bool helper = !strncmp(argv[0], "mount.", strlen("mount."));
	char err[256];
	int got, status = 0;

	bale_mount_options_init(&c->opt);
	while (!status && (got = getopt_long(argc, argv, ":o:frwnsvN:t:", longs,
					     NULL)) != -1) {
		if (got == 'f')
			got = helper ? 'K' : 'F';
		if (got == 'o')
			status = add_options(cmd, c, optarg);
		else if (got == 'F')
			c->opt.foreground = true;
		else if (got == 'K')
			c->fake = true;
		else if (got == 'r' || got == 'w')
			c->opt.read_only = got == 'r';
		else if (got == '?' || got == ':')
			status = bale_cmd_bad_option(cmd, got, argv);
	}
	if (status)
		return status;
	if (argc - optind != 2)
		return bale_cmd_usage_error(
			cmd, "want STORE and MOUNTPOINT, got %d arguments",
			argc - optind);
	if (bale_mount_options_check(&c->opt, err, sizeof(err))) {
		bale_cmd_error("%s", err);
		return EXIT_CALL;
	}
	return 0;
}

static int cmd_mount(const struct bale_cmd *cmd, int argc, char **argv)
{
	struct mount_call c = { 0 };
	int status = parse(cmd, &c, argc, argv);

	if (!status)
		status = check_store(&c, argv[optind]);
	if (!status)
		status = check_mount_point(&c, argv[optind + 1]);
	if (!status)
		status = check_places(&c);
	if (!status)
		status = check_device();
	if (!status)
		status = check_holder(&c);
	if (!status && !c.fake)
		status = c.opt.foreground || c.opt.debug ?
				 exit_status(bale_session_run(
					 c.store, c.mnt, &c.opt, NULL, NULL)) :
				 start_daemon(&c);
	free(c.store);
	free(c.mnt);
	return status;
}

const struct bale_cmd bale_cmd_mount = {
	.name = "mount",
	.summary = "mount a store",
	.usage = usage,
	.exit_usage = EXIT_CALL,
	.fn = cmd_mount,
};
