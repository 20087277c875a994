# SPDX-License-Identifier: Apache-2.0
"""Stores that cannot be used: one clear line, the right status, and nothing
changed in the store or at the mount point."""
import hashlib
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

UID = 65534
COMPAT, RO_COMPAT, INCOMPAT = 32, 40, 48  # offsets in the superblock


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def set_feature(store, offset, bit):
    """In both copies, with a checksum that is right."""
    for copy in ("super.0", "super.1"):
        with open(os.path.join(store, copy), "r+b") as f:
            data = bytearray(f.read())
            old, = struct.unpack_from("<Q", data, offset)
            struct.pack_into("<Q", data, offset, old | 1 << bit)
            struct.pack_into("<I", data, 12, 0)
            struct.pack_into("<I", data, 12, crc32c(data))
            f.seek(0)
            f.write(data)


def state(top):
    """All that is under it: names, modes, owners, times, contents."""
    seen = {}
    for where, dirs, files in os.walk(top):
        for name in [".", *dirs, *files]:
            path = os.path.join(where, name)
            st = os.lstat(path)
            data = b""
            if name in files:
                with open(path, "rb") as f:
                    data = hashlib.sha256(f.read()).digest()
            seen[os.path.relpath(path, top)] = (
                st.st_mode, st.st_uid, st.st_size, st.st_mtime_ns, data)
    return seen


def run(*argv, user=False):
    if user:
        argv = ("setpriv", f"--reuid={UID}", f"--regid={UID}",
                "--clear-groups", *argv)
    return bale.run(*argv, ok=None, timeout=60)


def refused(rig, command, status, *words, prog=bale.BALEFS, user=False):
    before = state(rig.store), state(rig.mnt)
    p = run(prog, *command, user=user)
    lines = p.stdout.strip().splitlines()
    assert p.returncode == status, f"{command}: {p.returncode}: {p.stdout}"
    assert len(lines) == 1, f"{command}: {p.stdout}"
    for word in words:
        assert str(word) in lines[0], f"{command}: no {word!r}: {lines[0]}"
    assert not bale.mounted_at(rig.mnt)
    assert (state(rig.store), state(rig.mnt)) == before, f"{command}: changed"


def test_newer_format(rig):
    """An unknown feature is named by its bit; one that only writers must know
    still lets the store be read."""
    rig.start()
    with open(rig.path("f"), "w", encoding="ascii") as f:
        f.write("kept")
    rig.umount()
    set_feature(rig.store, COMPAT, 60)
    rig.mount()
    rig.umount()
    set_feature(rig.store, RO_COMPAT, 41)
    refused(rig, ("mount", rig.store, rig.mnt), 32, "0x20000000000")
    rig.mount("ro")
    with open(rig.path("f"), encoding="ascii") as f:
        assert f.read() == "kept"
    rig.umount()
    set_feature(rig.store, INCOMPAT, 42)
    for opts in ((), ("-o", "ro")):
        refused(rig, ("mount", rig.store, rig.mnt, *opts), 32,
                "0x40000000000")
    refused(rig, ("fsck", "-n", rig.store), 8, "0x40000000000")
    refused(rig, ("fsck", "-y", rig.store), 8, "0x40000000000")
    refused(rig, ("stats", rig.store), 1, "0x40000000000")


def test_no_permission(rig):
    """A user on a store or a mount point of somebody else."""
    bale.need_root()
    bale.need("setpriv", "fusermount3")
    rig.mkfs()
    os.chmod("/dev/fuse", os.stat("/dev/fuse").st_mode | 0o666)
    prog = os.path.join(rig.dir, "balefs")
    bale.run("install", "-m", "755", os.path.realpath(bale.BALEFS), prog)
    for mode in (0o700, 0o755):
        os.chmod(rig.store, mode)
        refused(rig, ("mount", rig.store, rig.mnt), 1, "ermission denied",
                prog=prog, user=True)
        for command, status in (("fsck", 8), ("stats", 1)):
            refused(rig, (command, rig.store), status, rig.store,
                    "ermission denied", prog=prog, user=True)
    new = os.path.join(rig.dir, "new")
    p = run(prog, "mkfs", new, user=True)
    assert p.returncode == 1 and "ermission denied" in p.stdout, p.stdout
    assert len(p.stdout.splitlines()) == 1 and not os.path.exists(new)


def test_mount_point_of_somebody_else(rig):
    bale.need_root()
    bale.need("setpriv", "fusermount3")
    os.chmod("/dev/fuse", os.stat("/dev/fuse").st_mode | 0o666)
    prog = os.path.join(rig.dir, "balefs")
    bale.run("install", "-m", "755", os.path.realpath(bale.BALEFS), prog)
    rig.mkfs()
    bale.run("chown", "-R", f"{UID}:{UID}", rig.store)
    p = run(prog, "mount", rig.store, rig.mnt, user=True)
    assert p.returncode in (1, 32), p.stdout
    assert "ermi" in p.stdout or "access" in p.stdout, p.stdout
    assert not bale.mounted_at(rig.mnt)
    assert os.listdir(rig.mnt) == []
    bale.run(bale.BALEFS, "fsck", "-n", "-f", rig.store)


def test_without_proc(rig):
    """It died of a null pointer: no index could be made, and that was taken
    for "no checkpoint"."""
    bale.need_root()
    bale.need("unshare")
    rig.mkfs()
    p = run("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && "$@"',
            "sh", bale.BALEFS, "fsck", "-y", rig.store)
    if p.stdout.startswith(("unshare:", "mount:")):
        raise bale.Skip("cannot make a mount namespace")
    assert p.returncode == 8 and "/proc" in p.stdout, p
    p = run("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && "$@"',
            "sh", bale.BALEFS, "mount", "-f", rig.store, rig.mnt)
    assert p.returncode in (1, 32) and "signal" not in p.stdout, p
    rig.mount()
    rig.umount()


def test_store_of_a_truncated_log(rig):
    """Emptied behind what the index has: said, with the way out."""
    rig.start()
    for n in range(50):
        with open(rig.path(f"f{n}"), "w", encoding="ascii") as f:
            f.write("kept")
    rig.umount()
    log = os.path.join(rig.store, "log")
    for name in os.listdir(log):
        os.truncate(os.path.join(log, name), 0)
    p = run(bale.BALEFS, "mount", rig.store, rig.mnt)
    if p.returncode == 0:  # the index had all of it: nothing may be missing
        for n in range(50):
            with open(rig.path(f"f{n}"), encoding="ascii") as f:
                assert f.read() == "kept"
        rig.umount()
    else:
        assert p.returncode == 32 and "log" in p.stdout, p.stdout
        assert not bale.mounted_at(rig.mnt)


bale.main()
