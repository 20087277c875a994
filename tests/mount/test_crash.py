# SPDX-License-Identifier: Apache-2.0
"""SIGKILL to the daemon: what was fsynced is there, and fsck is content."""
import errno
import fcntl
import os
import random
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale
from durable import Appender, Writer

ROUNDS = int(os.environ.get("BALEFS_TEST_KILLS", "6"))


def rounds(rig, mkfs, opts):
    rng = random.Random(42)
    rig.mkfs(mkfs)
    for n in range(ROUNDS):
        rig.mount(opts, foreground=True)
        jobs = [Writer(rig.path(f"w{n}-{t}"), n * 10 + t) for t in range(2)]
        jobs.append(Appender(rig.path("log")))
        for j in jobs:
            j.start()
        time.sleep(rng.uniform(0.2, 2))
        rig.kill()
        for j in jobs:
            j.join(20)
        rig.mount(opts)
        acked = sum(len(j.durable) for j in jobs[:2])
        for j in jobs:
            j.verify()
        print(f"# round {n}: {acked} files, {jobs[2].acked // 16} appends held")
        rig.umount()
        rig.fsck()


@bale.limit(400)
def test_kill(rig):
    rounds(rig, "", "")


@bale.limit(400)
def test_kill_tiny_limits(rig):
    rounds(rig, "segment=1M,log=1M,extent=64K",
           "cache=1M,commit=0.05,bale=64K")


@bale.limit(400)
def test_kill_direct(rig):
    rounds(rig, "", "io=direct")


def test_killed_while_syncing(rig):
    """A daemon that was having its own pages written dies all the same, and
    whoever waited for it gets an error."""
    rig.mkfs()
    for n in range(4):
        rig.mount("commit=0.01", foreground=True)

        def writer():
            try:
                fd = os.open(rig.path("f"), os.O_CREAT | os.O_WRONLY)
                while True:
                    os.pwrite(fd, os.urandom(1 << 20), n << 20)
            except OSError:
                pass
        t = threading.Thread(target=writer, daemon=True)
        t.start()
        time.sleep(0.5 + n / 7)
        rig.kill()
        t.join(10)
        assert not t.is_alive(), "the writer still waits"


def test_rename_over_without_fsync(rig):
    """Old or new, whole; never empty, never a mix."""
    rig.mkfs()
    for n in range(4):
        rig.mount("commit=0.1", foreground=True)
        seen = []

        def writer():
            try:
                while True:
                    data = b"%08d" % len(seen) * 9000
                    with open(rig.path("tmp"), "wb") as f:
                        f.write(data)
                    os.rename(rig.path("tmp"), rig.path("f"))
                    seen.append(data[:8])
            except OSError:
                pass
        t = threading.Thread(target=writer, daemon=True)
        t.start()
        time.sleep(0.7 + n / 5)
        rig.kill()
        t.join(20)
        rig.mount()
        with open(rig.path("f"), "rb") as f:
            got = f.read()
        assert len(got) == 72000 and got == got[:8] * 9000, got[:32]
        rig.umount()
        rig.fsck()


def test_rename_over_before_close(rig):
    """The kernel still has what was written, when the name changes."""
    rig.mkfs()
    for n, size in enumerate((9000, 3000000)):
        rig.mount("commit=60", foreground=True)
        old, new = b"old%d" % n * 3000, os.urandom(size)
        with open(rig.path("f"), "wb") as f:
            f.write(old)
            f.flush()
            os.fsync(f.fileno())
        with open(rig.path("tmp"), "wb") as f:
            f.write(new)
            f.flush()
            os.rename(rig.path("tmp"), rig.path("f"))
            # Somebody's fsync makes the new name durable.
            with open(rig.path("other"), "wb") as other:
                other.write(b"x")
                other.flush()
                os.fsync(other.fileno())
            rig.kill()
            try:
                f.close()
            except OSError:
                pass
        rig.mount()
        with open(rig.path("f"), "rb") as f:
            got = f.read()
        assert got in (old, new), (len(got), got[:32])
        rig.umount()
        rig.fsck()


SHUTDOWN_SYNC, SHUTDOWN_LOG, SHUTDOWN_FORGET = range(3)
XFS_IOC_GOINGDOWN = 0x8004587d  # its argument does not come through
GOINGDOWN_TOLD = 0x4004587d


def shut_down(rig, how, call=GOINGDOWN_TOLD):
    fd = os.open(rig.mnt, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, call, struct.pack("I", how))
    finally:
        os.close(fd)


def want_eio(what, fn, *args):
    try:
        fn(*args)
    except OSError as e:
        assert e.errno == errno.EIO, (what, e)
    else:
        raise AssertionError(f"{what} works after the shutdown")


def create(name, data=b""):
    with open(name, "wb") as f:
        f.write(data)


def check_all_calls_fail(rig, fd):
    """Every kind of call; the kernel answers none of them by itself."""
    want_eio("create", create, rig.path("new"))
    want_eio("write and fsync", lambda: (os.pwrite(fd, b"y", 0), os.fsync(fd)))
    want_eio("fsync", os.fsync, fd)
    want_eio("truncate", os.ftruncate, fd, 3)
    want_eio("fallocate", os.posix_fallocate, fd, 0, 1 << 20)
    want_eio("mkdir", os.mkdir, rig.path("newdir"))
    want_eio("unlink", os.unlink, rig.path("kept"))
    want_eio("rename", os.rename, rig.path("kept"), rig.path("moved"))
    want_eio("link", os.link, rig.path("kept"), rig.path("other"))
    want_eio("symlink", os.symlink, "x", rig.path("sym"))
    want_eio("lookup", os.stat, rig.path("unseen", "x"))
    want_eio("listing", os.listdir, rig.path("unseen"))
    want_eio("open", os.open, rig.path("kept"), os.O_RDONLY)
    want_eio("setxattr", os.setxattr, rig.path("kept"), "user.a", b"b")
    want_eio("getxattr", os.getxattr, rig.path("kept"), "user.a")
    want_eio("chmod", os.chmod, rig.path("kept"), 0o600)
    want_eio("statfs", os.statvfs, rig.mnt)


def test_shutdown(rig):
    """The shutdown call of tests: EIO at once from every call; the next mount
    has what was committed, and not more than was asked for."""
    bale.need_root()
    rig.mkfs()
    for how, call in ((SHUTDOWN_SYNC, GOINGDOWN_TOLD),
                      (SHUTDOWN_LOG, GOINGDOWN_TOLD),
                      (SHUTDOWN_FORGET, GOINGDOWN_TOLD),
                      (SHUTDOWN_SYNC, XFS_IOC_GOINGDOWN)):
        if call == XFS_IOC_GOINGDOWN:
            how = SHUTDOWN_FORGET
        rig.mount("test_shutdown,commit=3600")
        os.makedirs(rig.path("unseen"), exist_ok=True)
        with open(rig.path("kept"), "wb") as f:
            f.write(b"%d" % how * 50000)
            os.fsync(f.fileno())
        loose = rig.path(f"loose{how}")
        create(loose, b"l" * 300000)
        fd = os.open(rig.path("kept"), os.O_RDWR)
        shut_down(rig, how, call)
        check_all_calls_fail(rig, fd)
        want_eio("close of what was written", os.close, fd)
        bale.run(bale.BALEFS, "umount", rig.mnt)
        rig.mount()
        with open(rig.path("kept"), "rb") as f:
            assert f.read() == b"%d" % how * 50000
        assert sorted(os.listdir(rig.mnt)) == sorted(
            ["kept", "unseen"] + [f"loose{n}" for n in range(min(how, 1) + 1)])
        if how == SHUTDOWN_SYNC:
            with open(loose, "rb") as f:
                assert f.read() == b"l" * 300000
        elif how == SHUTDOWN_LOG:
            assert os.path.getsize(loose) == 0
        rig.umount()
        rig.fsck()


def test_shutdown_under_load(rig):
    """What was fsynced is there, whatever was under way."""
    bale.need_root()
    rng = random.Random(7)
    rig.mkfs("segment=1M,log=1M,extent=64K")
    for n in range(ROUNDS):
        rig.mount("test_shutdown,cache=1M,commit=0.05,bale=64K")
        jobs = [Writer(rig.path(f"w{n}-{t}"), n * 10 + t) for t in range(2)]
        jobs.append(Appender(rig.path("log")))
        for j in jobs:
            j.start()
        time.sleep(rng.uniform(0.2, 1))
        shut_down(rig, n % 3)
        for j in jobs:
            j.join(20)
            assert not j.is_alive(), "a writer still waits"
        bale.run(bale.BALEFS, "umount", rig.mnt)
        rig.mount()
        for j in jobs:
            j.verify()
        rig.umount()
        rig.fsck()


def test_shutdown_is_refused(rig):
    """Without the option it is no call; nor for others, nor with nonsense."""
    bale.need_root()
    rig.start()
    for how, want in (SHUTDOWN_FORGET, errno.ENOTTY), (3, errno.EINVAL):
        try:
            shut_down(rig, how)
        except OSError as e:
            assert e.errno == want, e
        else:
            raise AssertionError("it was taken")
        create(rig.path("new"))
        rig.remount("test_shutdown,allow_other")
    pid = os.fork()
    if not pid:
        try:
            os.setgid(65534)
            os.setuid(65534)
            shut_down(rig, SHUTDOWN_FORGET)
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    rig.umount()
    rig.fsck()


bale.main()
