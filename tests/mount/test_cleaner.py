# SPDX-License-Identifier: Apache-2.0
"""The cleaner through a mount: space comes back; what cannot be moved is told
by the log, `balefs stats` and fsck, and not tried over and over."""
import array
import fcntl
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

CLEAN = 1 << 30 | 8 << 16 | ord("b") << 8 | 5  # BALE_IOC_CLEAN
DAMAGED = 4
EXTENT = 128 << 10
SEGMENT = 4 << 20


def clean(rig):
    fd = os.open(rig.mnt, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, CLEAN, array.array("Q", [0]))
    finally:
        os.close(fd)


def stats(rig):
    return json.loads(bale.run(bale.BALEFS, "stats", "--json", rig.mnt).stdout)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
        os.fsync(f.fileno())


def store_size(rig):
    return sum(os.stat(os.path.join(rig.store, "seg", n)).st_blocks * 512
               for n in os.listdir(os.path.join(rig.store, "seg")))


def spoil(rig, data):
    """Change a byte of what is stored raw in a segment."""
    folder = os.path.join(rig.store, "seg")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "r+b") as f:
            at = f.read().find(data[1000:1100])
            if at >= 0:
                f.seek(at)
                f.write(b"?" if data[1000] != ord("?") else b"!")
                return
    raise AssertionError("not found in any segment")


def fill(rig):
    """A file of one extent among others that are gone; its bytes."""
    kept = os.urandom(EXTENT)
    write(rig.path("kept"), kept)
    for n in range(48):
        write(rig.path(f"gone{n}"), os.urandom(EXTENT))
    write(rig.path("good"), kept[::-1])
    for n in range(48):
        os.unlink(rig.path(f"gone{n}"))
    return kept


def test_space_comes_back(rig):
    rig.mkfs("segment=4M,log=1M")
    rig.mount(foreground=True)
    kept = fill(rig)
    os.sync()
    clean(rig)
    s = stats(rig)
    assert s["cleaner_freed_bytes"] or s["cleaner_punched_bytes"], s
    assert s["cleaner_stuck_segments"] == 0 and s["cleaner"] == "idle", s
    rig.umount()
    # What is still appended to stays as it is.
    assert store_size(rig) < SEGMENT + 4 * EXTENT, store_size(rig)
    rig.mount()
    with open(rig.path("kept"), "rb") as f:
        assert f.read() == kept
    rig.umount()
    rig.fsck()


def test_damage_is_told(rig):
    rig.mkfs("segment=4M,log=1M")
    # Held still until there is damage.
    still = dict(os.environ, BALEFS_FAULT="cleaner.pass:1+:EAGAIN")
    rig.mount(foreground=True, env=still)
    spoilt = fill(rig)
    rig.umount()
    spoil(rig, spoilt)
    rig.mount(foreground=True)
    for _ in range(3):
        clean(rig)
    s = stats(rig)
    assert s["cleaner_stuck_segments"] == 1, s
    assert s["cleaner_stuck_bytes"] == EXTENT, s
    assert "1 extent not moved: Bad message" in s["cleaner"], s
    assert rig.log().count("cannot be moved: Bad message") == 1, rig.log()
    with open(rig.path("good"), "rb") as f:
        assert f.read() == spoilt[::-1]
    try:
        with open(rig.path("kept"), "rb") as f:
            f.read()
        raise AssertionError("damaged bytes were read")
    except OSError:
        pass
    rig.umount()
    told = bale.run(bale.BALEFS, "fsck", "-n", "-f", "--deep", rig.store,
                    ok=(DAMAGED,)).stdout
    assert "/kept" in told, told
    # With the file its segment goes.
    rig.mount(foreground=True)
    os.unlink(rig.path("kept"))
    os.sync()
    clean(rig)
    s = stats(rig)
    assert s["cleaner_stuck_segments"] == 0 and s["cleaner"] == "idle", s
    rig.umount()
    rig.fsck()


bale.main()
