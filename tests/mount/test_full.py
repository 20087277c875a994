# SPDX-License-Identifier: Apache-2.0
"""A full disk: told at write(), nothing accepted is lost, deleting works."""
import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale


def small_disk(rig, mib):
    bale.need_root()
    disk = os.path.join(rig.dir, "disk")
    os.mkdir(disk)
    bale.run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", disk)
    rig.undo.append(lambda: bale.run("umount", "-l", disk))
    rig.store = os.path.join(disk, "store")


def fill(rig, sync, opts):
    """Write until ENOSPC; {name: content} of what was accepted."""
    kept = {}
    for n in range(10000):
        name, data = rig.path(f"f{n}"), os.urandom(1 << 20)
        try:
            fd = os.open(name, os.O_CREAT | os.O_WRONLY)
            try:
                done = os.write(fd, data)
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            return kept, name
        if done < len(data):
            return kept, name
        kept[name] = data
    raise AssertionError(f"never full ({opts})")


def job(rig, sync, opts):
    small_disk(rig, 96)
    rig.mkfs("segment=8M,log=1M")
    rig.mount(opts)
    kept, last = fill(rig, sync, opts)
    assert len(kept) > 10, f"full after {len(kept)} MiB"
    print(f"# full after {len(kept)} MiB of 96")
    rig.remount(opts)
    for name, data in kept.items():
        with open(name, "rb") as f:
            assert f.read() == data, name
    names = sorted(kept)
    for name in names:
        os.unlink(name)
    if os.path.exists(last):
        os.unlink(last)
    # What was freed can be used again.
    rig.remount(opts)
    again, _ = fill(rig, sync, opts)
    print(f"# and {len(again)} MiB after deleting")
    assert len(again) >= len(kept) * 3 // 4, f"{len(again)} of {len(kept)}"
    for name in sorted(again):
        os.truncate(name, 100)
    rig.umount()
    rig.fsck()


@bale.limit(240)
def test_direct(rig):
    job(rig, False, "io=direct")


@bale.limit(240)
def test_cached_with_fsync(rig):
    job(rig, True, "")


@bale.limit(240)
def test_fallocated_space_is_there(rig):
    """What fallocate() set aside can be written when all else is full."""
    bale.need_root()
    small_disk(rig, 96)
    rig.mkfs("segment=4M,log=1M")
    rig.mount("io=direct", foreground=True)
    size = 16 << 20
    kept = os.open(rig.path("kept"), os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(kept, 0, size)
    assert os.fstat(kept).st_size == size
    assert os.fstat(kept).st_blocks * 512 >= size
    filler = os.open(rig.path("filler"), os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(96 * 8):
            os.write(filler, os.urandom(1 << 17))
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    else:
        raise AssertionError("the store does not get full")
    data = os.urandom(size)
    for at in range(0, size, 1 << 20):
        assert os.pwrite(kept, data[at:at + (1 << 20)], at) == 1 << 20
    os.fsync(kept)
    os.close(kept)
    os.close(filler)
    rig.umount()
    rig.mount()
    with open(rig.path("kept"), "rb") as f:
        assert f.read() == data
    rig.umount()
    rig.fsck()


@bale.limit(240)
def test_many_small_files(rig):
    """Names fill the store too; deleting them still works."""
    small_disk(rig, 48)
    rig.mkfs("segment=4M,log=1M")
    rig.mount(foreground=True)
    names = []
    os.mkdir(rig.path("d"))
    try:
        for n in range(200000):
            name = rig.path("d", "n" * 200 + str(n))
            with open(name, "wb") as f:
                names.append(name)
                f.write(os.urandom(1500))
                if n % 50 == 0:
                    os.fsync(f.fileno())
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    print(f"# full after {len(names)} small files")
    for name in names:
        os.unlink(name)
    os.rmdir(rig.path("d"))
    rig.umount()
    rig.fsck()


bale.main()
