#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A daemon that is stopped, short of memory or on a disk that is slow, full,
read-only or writes in parts: errors where there must be some, no other end
than a kill, nothing acknowledged lost.

    test_starved.py [--rounds N] [TEST..]      default: 1 round of each"""
import argparse
import errno
import os
import random
import resource
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
ARGS = argparse.ArgumentParser()
ARGS.add_argument("--rounds", type=int, default=1)
ARGS.add_argument("--seed", type=int, default=1)
ARGS.add_argument("tests", nargs="*")
ARGS = ARGS.parse_args()
sys.argv[1:] = ARGS.tests
import bale  # noqa: E402, takes what is left of the arguments
import life  # noqa: E402

MKFS = "segment=1M,log=1M,extent=64K"
OPTIONS = "cache=4M,commit=0.05,bale=64K"
RNG = random.Random(ARGS.seed)
LIMIT = 200 + 60 * ARGS.rounds


def rounds(rig, options=OPTIONS):
    """A store; then for each round a life, mounted by the caller."""
    rig.mkfs(MKFS)
    one = life.Life(rig, options, ARGS.seed)
    for _ in range(ARGS.rounds):
        yield one
        one.check()
    print(f"# {ARGS.rounds} rounds, {one.acks()} acknowledgements held")


@bale.limit(LIMIT)
def test_stopped(rig):
    """Whoever asks waits, and gets its answer."""
    for one in rounds(rig):
        assert one.mount()
        one.start()
        for _ in range(3):
            time.sleep(RNG.uniform(0.05, 0.3))
            one.daemon.send_signal(signal.SIGSTOP)
            time.sleep(RNG.uniform(0.2, 0.6) * min(ARGS.rounds, 5))
            one.daemon.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        assert one.errors_now() == [], one.errors_now()
        one.stop()
        one.errors()
        one.kill()


@bale.limit(LIMIT)
def test_stopped_while_syncing(rig):
    """At a fault point, by itself: in the middle of a sync of the log."""
    for one in rounds(rig):
        point = RNG.choice(("meta.log", "meta.logged", "flush.appended"))
        assert one.mount({"BALEFS_FAULT": f"{point}:{RNG.randint(2, 9)}:stop"})
        one.start()
        bale.wait_until(lambda: state(one.daemon.pid) == "T", "stopped")
        time.sleep(0.3)
        one.daemon.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        one.clean_unmount()


def state(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


# ---- memory ----

def memory_group():
    """A new cgroup, and its file for the limit; v2 or v1."""
    name = f"balefs-test-{os.getpid()}"
    tried = []
    for top, limit in (("/sys/fs/cgroup", "memory.max"),
                       ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        path = os.path.join(top, name)
        try:
            os.mkdir(path)
        except OSError as e:
            tried.append(f"{path}: {e.strerror}")
            continue
        if os.path.exists(os.path.join(path, limit)):
            return path, os.path.join(path, limit)
        os.rmdir(path)
        tried.append(f"{top}: no {limit}")
    raise bale.Skip("; ".join(tried))


def put(path, value):
    with open(path, "w", encoding="ascii") as f:
        f.write(str(value))


def remove_group(path):
    with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as f:
        for pid in f.read().split():  # left by a test that failed
            put(os.path.join(os.path.dirname(path), "cgroup.procs"), pid)
    bale.wait_until(lambda: try_rmdir(path), f"{path} removed")


def try_rmdir(path):
    try:
        os.rmdir(path)
    except OSError as e:
        assert e.errno == errno.EBUSY, e
        return False
    return True


def lower(limit, *sizes):
    """The first that it takes: it cannot be below what is not reclaimed."""
    for mib in sizes:
        try:
            put(limit, mib << 20)
            return
        except OSError as e:
            assert e.errno == errno.EBUSY, e
    raise AssertionError(f"no limit of {sizes} MiB is taken")


def addresses(one):
    """Bytes of addresses that the daemon has; a sanitizer's are too many, and
    so is its memory."""
    with open(f"/proc/{one.daemon.pid}/statm", encoding="ascii") as f:
        now = int(f.read().split()[0]) * resource.getpagesize()
    if now > 1 << 43:
        one.clean_unmount()
        raise bale.Skip("a sanitizer has reserved all addresses")
    return now


@bale.limit(LIMIT)
def test_memory_limit(rig):
    """The kernel kills it for want of memory, or it goes on."""
    bale.need_root()
    group, limit = memory_group()
    rig.undo.append(lambda: remove_group(group))
    killed = lived = 0
    procs = os.path.join(group, "cgroup.procs")
    rig.mkfs(MKFS)
    # It believes in more memory than it gets.
    one = life.Life(rig, "cache=256M,commit=5,bale=16M", ARGS.seed)
    for n in range(2 * ARGS.rounds):
        put(limit, 1 << 30)
        assert one.mount(before=lambda: put(procs, os.getpid()))
        addresses(one)
        one.verify()
        one.start()
        if n % 2:
            lower(limit, 12, 16, 24, 40, 64)
        else:
            lower(limit, 400)
        try:
            with open(rig.path("large"), "wb", buffering=0) as f:
                for _ in range(40):
                    f.write(RNG.randbytes(1 << 20))
        except OSError:
            assert one.dies(), "an error, but nobody died"
        time.sleep(0.3)
        one.stop()
        one.errors()
        if one.dead():
            killed += 1
            one.bury()
        else:
            lived += 1
            put(limit, 1 << 30)
            one.clean_unmount()
        one.check()
    print(f"# killed {killed} times, lived {lived} times, "
          f"{one.acks()} acknowledgements held")
    if not killed:
        raise bale.Skip("the limit killed nobody: is there swap?")


@bale.limit(LIMIT)
def test_address_space(rig):
    """malloc() fails: errors, no crash; what was acknowledged is there."""
    failed = 0
    for one in rounds(rig, "cache=256M,commit=0.2,bale=16M"):
        for more in (0, 4) if ARGS.rounds == 1 else (0, 1, 4, 20):
            assert one.mount()
            one.start()
            time.sleep(0.2)
            now = addresses(one) + (more << 20)
            resource.prlimit(one.daemon.pid, resource.RLIMIT_AS, (now, now))
            with open(os.devnull, "wb"):
                try:
                    with open(rig.path("large"), "wb", buffering=0) as f:
                        for _ in range(16):
                            f.write(RNG.randbytes(1 << 20))
                except OSError as e:
                    assert e.errno in (errno.ENOMEM, errno.EIO,
                                       errno.EROFS), e
            time.sleep(0.3)
            one.stop()
            failed += len(one.errors(errno.ENOMEM, errno.EIO, errno.EROFS))
            one.close()
            assert not one.dead(), f"{one.daemon.poll()}\n{rig.log()[-3000:]}"
            one.unmount()
            assert one.daemon.poll() in (0, 1, 32), rig.log()[-3000:]
            one.rig.daemon = None
            one.check()
    print(f"# {failed} workloads were told")


# ---- the disk ----

@bale.limit(LIMIT)
def test_slow_disk(rig):
    for one in rounds(rig):
        assert one.mount({"BALEFS_FAULT": "io.sync:1+:delay=60,"
                          "io.pwritev:1+:delay=10,io.pread:1+:delay=3"})
        one.start()
        time.sleep(1.2)
        if RNG.random() < 0.5:
            one.clean_unmount()
        else:
            one.kill()


@bale.limit(LIMIT)
def test_transfers_in_parts(rig):
    """The kernel does a part of each read and write: the rest is asked for."""
    for one in rounds(rig):
        assert one.mount({"BALEFS_FAULT": "io.pwritev:1+:short,"
                          "io.pread:1+:short"})
        one.verify()
        one.start()
        time.sleep(0.7)
        one.clean_unmount()
        assert one.mount({"BALEFS_FAULT": "io.pread:1+:short"})
        one.verify()
        one.clean_unmount()


def loop_disk(rig, mib):
    bale.need_root()
    bale.need("mkfs.ext4")
    image, disk = (os.path.join(rig.dir, n) for n in ("image", "disk"))
    os.mkdir(disk)
    with open(image, "wb") as f:
        f.truncate(mib << 20)
    bale.run("mkfs.ext4", "-q", image)
    p = bale.run("mount", "-o", "loop", image, disk, ok=None)
    if p.returncode:
        raise bale.Skip(f"no loop device: {p.stdout.strip()}")
    rig.undo.append(lambda: bale.run("umount", "-l", disk, ok=None))
    rig.store = os.path.join(disk, "store")
    return image, disk


@bale.limit(LIMIT)
def test_backing_turns_read_only(rig):
    """As a filesystem does whose disk failed: every call gets EROFS or EIO
    from then on, and what was not written back is gone."""
    image, disk = loop_disk(rig, 96)
    told = 0
    for one in rounds(rig):
        assert one.mount()
        one.verify()
        one.start()
        time.sleep(RNG.uniform(0.2, 0.6))
        bale.run("mount", "-o", "remount,abort", disk)
        bale.wait_until(lambda: len(one.errors_now()) >= 3, "errors")
        one.stop()
        told += len(one.errors(errno.EIO, errno.EROFS))
        one.close()
        try:
            with open(rig.path("late"), "wb") as f:
                f.write(b"x")
                os.fsync(f.fileno())
        except OSError as e:
            assert e.errno in (errno.EIO, errno.EROFS), e
        else:
            raise AssertionError("an fsync on a failed disk succeeds")
        assert not one.dead(), one.daemon.poll()
        one.unmount()
        assert one.daemon.poll() in (0, 1, 32), rig.log()[-3000:]
        one.rig.daemon = None
        bale.run("umount", disk)
        bale.run("e2fsck", "-p", image, ok=(0, 1))
        bale.run("mount", "-o", "loop", image, disk)
    print(f"# {told} workloads were told")


@bale.limit(LIMIT)
def test_backing_is_full(rig):
    """Somebody else fills the disk under the store, and makes room again."""
    _, disk = loop_disk(rig, 96)
    told = 0
    for one in rounds(rig):
        assert one.mount()
        one.verify()
        one.start()
        time.sleep(0.3)
        other = os.path.join(disk, "other")
        with open(other, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(1 << 20))
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
        time.sleep(0.7)
        one.stop()
        errors = one.errors(errno.ENOSPC, errno.EIO, errno.EROFS)
        told += len(errors)
        one.close()
        assert not one.dead(), one.daemon.poll()
        if RNG.random() < 0.5:
            one.kill()
            os.unlink(other)
        else:
            os.unlink(other)
            one.unmount()
            assert one.daemon.poll() in (0, 1, 32), rig.log()[-3000:]
            one.rig.daemon = None
    print(f"# {told} workloads were told")


bale.main()
