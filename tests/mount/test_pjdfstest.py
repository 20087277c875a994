# SPDX-License-Identifier: Apache-2.0
"""pjdfstest, where PJDFSTEST names its source tree with the program built: on
a fresh store, one with a past, and one that is nearly full."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

TOP = os.environ.get("PJDFSTEST", "")
CACHED = "allow_other,suid,dev"
DIRECT = CACHED + ",io=direct"
SMALL = "segment=4M,log=1M"


def need_pjdfstest():
    bale.need_root()
    bale.need("prove")
    if not os.path.exists(os.path.join(TOP, "pjdfstest")):
        raise bale.Skip("PJDFSTEST is not set")


def job(rig):
    os.mkdir(rig.path("work"), 0o755)
    p = bale.run("prove", "-r", "-j2", os.path.join(TOP, "tests"),
                 cwd=rig.path("work"), timeout=1100, ok=None)
    tail = "\n".join(p.stdout.splitlines()[-40:])
    print("# " + "\n# ".join(p.stdout.splitlines()[-2:]))
    assert p.returncode == 0, tail
    rig.umount()
    rig.fsck()


def fresh(rig, opts):
    need_pjdfstest()
    rig.start(opts=opts)
    job(rig)


def aged(rig, opts):
    """Files written over, deleted, renamed over each other, and mounts."""
    need_pjdfstest()
    rig.start(SMALL, opts)
    os.mkdir(rig.path("old"))
    for turn in range(4):
        for k in range(600):
            path = rig.path("old", f"f{k}")
            with open(path, "r+b" if os.path.exists(path) else "wb") as f:
                f.seek(k * 991 % 50000)
                f.write(os.urandom(3000 + k * 37 % 90000))
        for k in range(turn % 3, 600, 3):
            os.unlink(rig.path("old", f"f{k}"))
        for k in range(1, 600, 5):
            if os.path.exists(rig.path("old", f"f{k}")):
                os.rename(rig.path("old", f"f{k}"),
                          rig.path("old", f"f{k * 7 % 600}"))
        os.sync()
        if turn % 2:
            rig.remount(opts)
    job(rig)


def full(rig, opts):
    """Some 24 MiB are left of 400."""
    need_pjdfstest()
    bale.run("mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", rig.local)
    rig.undo.append(lambda: bale.run("umount", "-l", rig.local, ok=None))
    rig.store = os.path.join(rig.local, "store")
    rig.start(SMALL, opts)
    for k in range(100):
        st = os.statvfs(rig.mnt)
        if st.f_bavail * st.f_frsize < 24 << 20:
            break
        with open(rig.path(f"fill{k}"), "wb") as f:
            f.write(os.urandom(4 << 20))
        os.sync()
    job(rig)


@bale.limit(1200)
def test_cached(rig):
    fresh(rig, CACHED)


@bale.limit(1200)
def test_direct(rig):
    fresh(rig, DIRECT)


@bale.limit(1200)
def test_aged_cached(rig):
    aged(rig, CACHED)


@bale.limit(1200)
def test_aged_direct(rig):
    aged(rig, DIRECT)


@bale.limit(1200)
def test_full_cached(rig):
    full(rig, CACHED)


@bale.limit(1200)
def test_full_direct(rig):
    full(rig, DIRECT)


bale.main()
