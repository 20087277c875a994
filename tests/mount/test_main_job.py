# SPDX-License-Identifier: Apache-2.0
"""The main job: mkfs, mount, copy in, compare, unmount, mount, compare, fsck."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale
import corpus


def job(rig, mkfs, opts):
    src = os.path.join(rig.local, "src")
    corpus.make(src)
    want = corpus.describe(src)
    rig.start(mkfs, opts)
    bale.run("cp", "-a", src, rig.path("copy"))
    corpus.compare(want, corpus.describe(rig.path("copy")))
    rig.remount(opts)
    corpus.compare(want, corpus.describe(rig.path("copy")))
    bale.run("diff", "-r", "--no-dereference", src, rig.path("copy"))
    rig.umount()
    rig.fsck()


def test_cached(rig):
    job(rig, "", "")


def test_direct(rig):
    job(rig, "", "io=direct")


def test_small_limits(rig):
    job(rig, "segment=1M,log=1M,extent=64K",
        "cache=1M,commit=0.05,bale=128K")


def test_large_extents(rig):
    job(rig, "extent=4M", "")


def test_every_codec(rig):
    for codec in ("raw", "lz4", "zstd", "zstd:9", "gdeflate",
                  "gdeflate:1+shuffle4", "zstd:3+shuffle4", "lz4+delta2",
                  "auto"):
        src = os.path.join(rig.local, codec)
        corpus.make(src, seed=7, nr=60, big=2 << 20)
        rig.mkfs(f"codec={codec}")
        rig.mount()
        bale.run("cp", "-a", src, rig.path("copy"))
        rig.remount()
        corpus.compare(corpus.describe(src), corpus.describe(rig.path("copy")))
        rig.umount()
        rig.fsck()
        shutil.rmtree(rig.store)


def stored(path):
    return int(subprocess.check_output(["du", "-s", "-B1", path])
               .split()[0])


def test_it_compresses(rig):
    """32 MiB of text take less than half in the store, and st_blocks says so."""
    data = corpus.content(__import__("random").Random(3), "text", 4 << 20) * 8
    rig.start(opts="codec=zstd")
    before = stored(rig.store)
    with open(rig.path("text"), "wb") as f:
        f.write(data)
        os.fsync(f.fileno())
    rig.remount()
    assert os.stat(rig.path("text")).st_blocks * 512 < len(data) // 2
    rig.umount()
    grown = sum(os.path.getsize(os.path.join(rig.store, "seg", n))
                for n in os.listdir(os.path.join(rig.store, "seg")))
    assert before >= 0 and grown < len(data) // 2, grown


def test_read_only_writes_nothing(rig):
    rig.start()
    corpus.make(rig.path("tree"), nr=40, big=1 << 20)
    rig.umount()
    bale.run("sync", "-f", rig.store)
    before = corpus.describe(rig.store)
    rig.mount("ro")
    assert len(os.listdir(rig.path("tree"))) > 3
    corpus.digest(rig.path("tree", "big"))
    for fn in (lambda: open(rig.path("new"), "w"),
               lambda: os.mkdir(rig.path("new")),
               lambda: os.unlink(rig.path("tree", "big"))):
        try:
            fn()
        except OSError as e:
            assert e.errno == 30, e
        else:
            raise AssertionError("a read-only mount was written to")
    rig.umount()
    corpus.compare(before, corpus.describe(rig.store))


bale.main()
