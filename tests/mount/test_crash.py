# SPDX-License-Identifier: Apache-2.0
"""SIGKILL to the daemon: what was fsynced is there, and fsck is content."""
import os
import random
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


def test_forgotten_after_shutdown(rig):
    """The shutdown ioctl of tests: EIO at once, and what was fsynced stays."""
    import fcntl
    import struct
    bale.need_root()
    rig.start(opts="test_shutdown,commit=60")
    with open(rig.path("kept"), "wb") as f:
        f.write(b"k" * 50000)
        os.fsync(f.fileno())
    fd = os.open(rig.mnt, os.O_RDONLY)
    fcntl.ioctl(fd, 0x8004587d, struct.pack("I", 2))
    os.close(fd)
    try:
        with open(rig.path("new"), "wb") as f:
            f.write(b"x")
    except OSError as e:
        assert e.errno == 5, e
    else:
        raise AssertionError("a mount that was shut down takes files")
    bale.run(bale.BALEFS, "umount", rig.mnt)
    rig.mount()
    assert os.path.getsize(rig.path("kept")) == 50000
    rig.umount()
    rig.fsck()


bale.main()
