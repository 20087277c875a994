# SPDX-License-Identifier: Apache-2.0
"""Mounts whose engine is the stand-in for a GPU (gpu=fake): what is stored is
right whatever the device does, and the figures tell. BALEFS_TEST_OPTIONS=gpu=fake
runs every other mount test that way."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale
import corpus

OPTS = "gpu=fake,bale=4M,cache=32M,commit=0.2"


def device(rig):
    bale.run(bale.BALEFS, "stats", rig.mnt)
    text = subprocess.check_output([bale.BALEFS, "stats", "--json", rig.mnt])
    return json.loads(text)["devices"][0]


def wait_ready(rig):
    def is_ready():
        text = subprocess.check_output([bale.BALEFS, "stats", "--json",
                                        rig.mnt])
        devices = json.loads(text).get("devices")
        return devices and devices[0]["state"] == "ready"
    bale.wait_until(is_ready, "the device is ready")


def job(rig, opts, faults, nr=80):
    """Copy in, read back, on the device and, mounted again, without it."""
    src = os.path.join(rig.local, "src")
    corpus.make(src, nr=nr, big=12 << 20)
    want = corpus.describe(src)
    rig.mkfs()
    rig.mount(opts, env={**os.environ, "BALEFS_FAULT": faults})
    if "gpu.open" not in faults:
        wait_ready(rig)
    bale.run("cp", "-a", src, rig.path("copy"))
    corpus.compare(want, corpus.describe(rig.path("copy")))
    bale.run("sync", "-f", rig.mnt)
    d = device(rig)
    rig.umount()
    rig.mount(opts)
    wait_ready(rig)
    corpus.compare(want, corpus.describe(rig.path("copy")))
    back = device(rig)
    rig.umount()
    rig.mount("gpu=off")
    corpus.compare(want, corpus.describe(rig.path("copy")))
    rig.umount()
    rig.fsck()
    return d, back


def test_codecs_go_to_the_device(rig):
    for codec in ("lz4", "gdeflate", "auto"):
        d, back = job(rig, f"{OPTS},codec={codec}", "")
        assert d["encode_jobs"] > 20 and back["decode_jobs"] > 20, (d, back)
        assert d["failed_over_jobs"] == 0 and d["mismatches"] == 0, d
        assert d["device_seconds"] > 0, d
        bale.run("rm", "-rf", rig.store, os.path.join(rig.local, "src"))


def test_zstd_stays_with_the_processor(rig):
    d, back = job(rig, OPTS + ",codec=zstd", "")
    assert d["encode_jobs"] == 0 and back["decode_jobs"] == 0, (d, back)


def test_a_device_that_fails_in_every_way(rig):
    d, _ = job(rig, OPTS + ",codec=lz4",
               "gpu.batch:2:EIO,gpu.mismatch:3,gpu.lost:5,gpu.crc:2,"
               "gpu.memory:9:ENOMEM,gpu.submit:1:EIO,gpu.hang:9")
    assert d["failed_over_jobs"] > 0, d


def test_a_device_that_cannot_be_opened(rig):
    d, _ = job(rig, OPTS + ",codec=lz4", "gpu.open:1+:ENOMEM", nr=20)
    assert "cannot be opened" in d["state"], d
    assert d["encode_jobs"] == 0, d


def test_it_is_lost_all_the_time(rig):
    d, _ = job(rig, OPTS + ",codec=lz4", "gpu.lost:1+", nr=20)
    assert d["lost"] > 0 and d["encode_jobs"] == 0, d


@bale.limit(60)
def test_a_device_that_hangs_does_not_stop_umount(rig):
    src = os.path.join(rig.local, "src")
    corpus.make(src, nr=10, big=4 << 20)
    want = corpus.describe(src)
    rig.mkfs()
    rig.mount(OPTS + ",codec=lz4",
              env={**os.environ, "BALEFS_FAULT": "gpu.stuck:1"})
    wait_ready(rig)
    bale.run("cp", "-a", src, rig.path("copy"))
    bale.run("sync", "-f", rig.mnt)
    assert device(rig)["hung"] > 0
    corpus.compare(want, corpus.describe(rig.path("copy")))
    rig.umount()
    rig.mount("gpu=off")
    corpus.compare(want, corpus.describe(rig.path("copy")))


def fsck_deep(rig, gpu, faults="", status=0, store=None):
    p = subprocess.run([bale.BALEFS, "fsck", "-n", "--deep", "--gpu", gpu,
                        "--json", store or rig.store],
                       stdout=subprocess.PIPE,
                       env={**os.environ, "BALEFS_FAULT": faults}, timeout=120)
    assert p.returncode == status, p
    return json.loads(p.stdout)


def test_fsck_and_recompress_use_it(rig):
    src = os.path.join(rig.local, "src")
    corpus.make(src, nr=20, big=8 << 20)
    want = corpus.describe(src)
    rig.mkfs()
    rig.mount(OPTS + ",codec=zstd")
    wait_ready(rig)
    bale.run("cp", "-a", src, rig.path("copy"))
    bale.run("sync", "-f", rig.mnt)
    assert device(rig)["encode_jobs"] == 0
    bale.run(bale.BALEFS, "recompress", "--codec", "lz4", rig.path("copy"))
    assert device(rig)["encode_jobs"] > 20, device(rig)
    rig.umount()
    assert fsck_deep(rig, "off")["by_device"] == 0
    n = fsck_deep(rig, "fake")["by_device"]
    assert n > 20
    # What a device says is bad, or does not do, the processor decides.
    for faults in ("gpu.batch:1+:EIO", "gpu.mismatch:1+", "gpu.lost:1+"):
        assert fsck_deep(rig, "fake", faults)["by_device"] < n
    bale.run(bale.BALEFS, "recompress", "--codec", "gdeflate:1", "--gpu",
             "fake", "--store", rig.store, "/copy")
    assert fsck_deep(rig, "fake")["by_device"] > 20
    spoilt = os.path.join(rig.local, "spoilt")
    bale.run("cp", "-a", rig.store, spoilt)
    seg = os.path.join(spoilt, "seg")
    for name in os.listdir(seg):
        with open(os.path.join(seg, name), "r+b") as f:
            for at in range(9999, os.path.getsize(f.name), 64 << 10):
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 1]))
    bad = fsck_deep(rig, "fake", status=4, store=spoilt)
    sound = fsck_deep(rig, "off", status=4, store=spoilt)
    assert bad["left"] == sound["left"] > 0, bad
    rig.mount("gpu=off")
    corpus.compare(want, corpus.describe(rig.path("copy")))
    for cmd in (["fsck", "--gpu", "x", rig.store],
                ["recompress", "--gpu", "0+", "--store", rig.store, "/"]):
        p = bale.run(bale.BALEFS, *cmd, ok=None)
        assert p.returncode in (2, 16) and "--gpu" in p.stdout, p


def test_options(rig):
    rig.mkfs()
    for opts in ("gpu=x", "gpu=", "gpu=0+", "gpu=64", "gpu=-1", "gpu_mem=1M",
                 "gpu_share=0", "gpu_share=101"):
        p = bale.run(bale.BALEFS, "mount", rig.store, rig.mnt, "-o", opts,
                     ok=None)
        assert p.returncode == 1 and "expected" in p.stdout, (opts, p)
    for opts in ("gpu=off", "gpu=auto", "gpu=fake,gpu_mem=1G,gpu_share=50"):
        rig.mount(opts)
        rig.umount()


bale.main()
