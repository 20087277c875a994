# SPDX-License-Identifier: Apache-2.0
"""Stores that earlier programs made, one pair for each version of the format:
what is in them must be readable for ever. `clean` was unmounted, `dirty` is a
store whose daemon was killed with a synced patch in its log.

A new pair, when the format changes: BALEFS=.. python3 test_images.py --make
VERSION, which writes ../vectors/data/store-vVERSION-*.tar.xz."""
import glob
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale
import image_tree

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..",
                    "vectors", "data")


def images(kind):
    found = sorted(glob.glob(os.path.join(DATA, f"store-v*-{kind}.tar.xz")))
    assert found, f"no image in {DATA}"
    return found


def unpack(rig, image):
    bale.need_root()  # the files are root's
    bale.need("xz")
    bale.run("rm", "-rf", rig.store)
    os.mkdir(rig.store, 0o700)
    bale.run("tar", "-xJf", image, "-C", rig.store, "--no-same-owner")


def snapshot(store):
    return sorted((os.path.relpath(os.path.join(r, n), store),
                   os.stat(os.path.join(r, n)).st_mtime_ns)
                  for r, _d, names in os.walk(store) for n in names)


def read_only(rig, patched):
    before = snapshot(rig.store)
    rig.mount("ro")
    image_tree.check(rig.mnt, patched)
    rig.umount()
    after = [e for e in snapshot(rig.store) if e[0] != "lock"]
    assert after == [e for e in before if e[0] != "lock"], "written to"


def read_write(rig, patched):
    rig.mount()
    image_tree.check(rig.mnt, patched)
    with open(rig.path("lz4"), "ab") as f:
        f.write(b"more")
        os.fsync(f.fileno())
    rig.remount()
    with open(rig.path("lz4"), "rb") as f:
        assert f.read() == image_tree.FILES["lz4"][1] + b"more"
    rig.umount()
    bale.run(bale.BALEFS, "fsck", "-n", "-f", "--deep", rig.store)


def test_clean(rig):
    for image in images("clean"):
        unpack(rig, image)
        bale.run(bale.BALEFS, "fsck", "-n", "-f", "--deep", rig.store)
        read_only(rig, False)
        read_write(rig, False)


def test_dirty(rig):
    for image in images("dirty"):
        unpack(rig, image)
        read_only(rig, True)
        read_write(rig, True)


def test_without_index(rig):
    """The log alone is enough."""
    for image in images("clean"):
        unpack(rig, image)
        bale.run("rm", "-rf", os.path.join(rig.store, "index"))
        read_write(rig, False)


def pack(rig, version, kind):
    out = os.path.join(DATA, f"store-v{version}-{kind}.tar.xz")
    bale.run("sh", "-c", 'tar -C "$0" --sort=name --owner=0 --group=0 '
             '--numeric-owner -cSf - . | xz -9e > "$1"', rig.store, out)


def make(version):
    os.makedirs(DATA, exist_ok=True)
    rig = bale.Rig()
    try:
        rig.mkfs("segment=1M,log=1M")
        rig.mount()
        image_tree.make(rig.mnt)
        rig.umount()
        pack(rig, version, "clean")
        rig.mount("commit=3600", foreground=True)
        image_tree.patch(rig.mnt)
        rig.kill()
        pack(rig, version, "dirty")
    finally:
        rig.close()


if sys.argv[1:2] == ["--make"]:
    make(int(sys.argv[2]))
else:
    bale.main()
