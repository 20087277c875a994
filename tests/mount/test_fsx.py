# SPDX-License-Identifier: Apache-2.0
"""Random operations against a model, then the same bytes after a remount."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

FSX = os.environ["FSX"]
TINY = "cache=1M,commit=0.05,bale=64K"


def fsx(rig, *args):
    """Run it and return what the file should hold."""
    err = os.path.join(rig.dir, "fsx.err")
    with open(err, "w", encoding="utf-8") as f:
        p = subprocess.run([FSX, *map(str, args), rig.path("file")],
                           stdout=subprocess.PIPE, stderr=f, check=False,
                           timeout=300)
    with open(err, encoding="utf-8") as f:
        assert p.returncode == 0, f"{args}: {f.read()[-5000:]}"
    return p.stdout


def job(rig, mkfs, opts, args, seeds):
    rig.mkfs(mkfs)
    for seed in seeds:
        rig.mount(opts)
        want = fsx(rig, "-s", seed, *args)
        rig.remount(opts)
        with open(rig.path("file"), "rb") as f:
            assert f.read() == want, f"seed {seed}: differs after a remount"
        os.unlink(rig.path("file"))
        rig.umount()
    rig.fsck()


SEEDS = [int(s) for s in os.environ.get("FSX_SEEDS", "1 2 3").split()]
NR = os.environ.get("FSX_OPERATIONS", "4000")


@bale.limit(400)
def test_cached(rig):
    job(rig, "", "", ["-n", NR, "-d"], SEEDS)


@bale.limit(400)
def test_direct(rig):
    # Shared mappings of direct files need a newer library: no -d, and the
    # kernel refuses the mapping with ENODEV, so keep to io=auto here.
    job(rig, "", "io=auto", ["-n", NR, "-d"], SEEDS)


@bale.limit(400)
def test_tiny_limits(rig):
    job(rig, "extent=64K,segment=1M,log=1M", TINY, ["-n", NR], SEEDS)


@bale.limit(400)
def test_large_extents(rig):
    job(rig, "extent=1M", "commit=0.2", ["-n", NR, "-l", 8 << 20], SEEDS[:2])


@bale.limit(400)
def test_small_file(rig):
    """Inline contents and their way out of the index and back."""
    job(rig, "", "commit=0.05", ["-n", NR, "-l", 6000], SEEDS)


bale.main()
