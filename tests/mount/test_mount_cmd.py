# SPDX-License-Identifier: Apache-2.0
"""mount and umount: what they refuse, with which words and status, and when
they return."""
import errno
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale


def mount(rig, *args, store=None, mnt=None, **kw):
    return bale.run(bale.BALEFS, "mount", store or rig.store, mnt or rig.mnt,
                    *args, ok=None, timeout=60, **kw)


def refused(p, status, *words):
    """One clear line, the right status."""
    lines = [x for x in p.stdout.strip().splitlines() if x]
    assert p.returncode == status, f"status {p.returncode}: {p.stdout}"
    assert len(lines) == 1, p.stdout
    for w in words:
        assert str(w) in lines[0], f"no {w!r} in: {lines[0]}"


def test_wrong_options(rig):
    rig.mkfs()
    for opt, word in (("cache=12Q", "cache=12Q"), ("commit=-1", "commit=-1"),
                      ("commit=soon", "seconds"), ("io=fast", "cached"),
                      ("codec=snappy", "codec=snappy"), ("threads=0", "threads"),
                      ("bale=1", "bale"), ("nonsense", "nonsense"),
                      ("max_background=x", "number"), ("cache", "cache"),
                      ("allow_other,no_default_permissions", "allow_other")):
        refused(mount(rig, "-o", opt), 1, word)
        assert not bale.mounted_at(rig.mnt)
    refused(bale.run(bale.BALEFS, "mount", rig.store, ok=None), 1, "MOUNTPOINT")
    refused(bale.run(bale.BALEFS, "mount", "--nonsense", ok=None), 1,
            "nonsense")


def test_wrong_places(rig):
    rig.mkfs()
    missing = os.path.join(rig.dir, "missing")
    plain = os.path.join(rig.dir, "plain")
    open(plain, "w", encoding="ascii").close()
    empty = os.path.join(rig.dir, "empty")
    os.mkdir(empty)
    refused(mount(rig, mnt=missing), 32, missing, "No such file")
    refused(mount(rig, mnt=plain), 32, "not a directory")
    refused(mount(rig, store=missing), 32, missing, "No such file")
    refused(mount(rig, store=plain), 32, "not a directory")
    refused(mount(rig, store=empty), 32, empty)
    assert os.listdir(empty) == []
    refused(mount(rig, mnt=rig.dir), 1, "inside")
    inside = os.path.join(rig.store, "seg")
    refused(mount(rig, mnt=inside), 1, "inside")
    for path in (rig.mnt, missing, plain):
        p = bale.run(bale.BALEFS, "umount", path, ok=None)
        refused(p, 32, "not mounted")


def test_store_in_its_own_mount(rig):
    """Not by way of a symlink either."""
    rig.mkfs()
    link = os.path.join(rig.dir, "link")
    os.symlink(rig.store, link)
    refused(mount(rig, store=link, mnt=os.path.dirname(rig.store)), 1,
            "inside")


def test_second_mount_is_refused(rig):
    rig.mkfs()
    rig.mount(foreground=True)
    other = os.path.join(rig.dir, "other")
    os.mkdir(other)
    start = time.monotonic()
    refused(mount(rig, mnt=other), 32, rig.daemon.pid, os.uname().nodename)
    refused(mount(rig), 32, "busy")
    assert time.monotonic() - start < 5, "refusing took long"
    p = bale.run(bale.BALEFS, "mkfs", "-f", rig.store, ok=None)
    assert p.returncode == 1 and str(rig.daemon.pid) in p.stdout, p.stdout
    with open(rig.path("f"), "w", encoding="ascii") as f:
        f.write("still there")
    rig.umount()
    rig.mount()
    with open(rig.path("f"), encoding="ascii") as f:
        assert f.read() == "still there"


def test_next_mount_waits_for_the_last(rig):
    """Right after umount(2), which does not wait for the daemon."""
    bale.need_root()
    rig.mkfs()
    for n in range(5):
        rig.mount()
        with open(rig.path(f"f{n}"), "wb") as f:
            f.write(os.urandom(3 << 20))
        bale.run("umount", "-i", rig.mnt)
    rig.mount()
    assert len(os.listdir(rig.mnt)) == 5


def test_umount_returns_when_all_is_stored(rig):
    rig.mkfs()
    for n in range(5):
        rig.mount()
        with open(rig.path(f"f{n}"), "wb") as f:
            f.write(os.urandom(3 << 20))
        bale.run(bale.BALEFS, "umount", rig.mnt)
        # No daemon is left: nothing holds the store, the next one is at once.
        rig.mount("wait=0")
        assert os.path.getsize(rig.path(f"f{n}")) == 3 << 20
        rig.umount()
    rig.fsck()


def test_how_mount_8_calls(rig):
    """The names and flags of mount(8) and umount(8), ignored options of fstab."""
    rig.mkfs()
    helper = os.path.join(rig.dir, "mount.fuse.balefs")
    unhelper = os.path.join(rig.dir, "umount.fuse.balefs")
    for link in (helper, unhelper):
        os.symlink(os.path.abspath(bale.BALEFS), link)
    bale.run(helper, rig.store, rig.mnt, "-f", "-o", "rw")
    assert not bale.mounted_at(rig.mnt)  # fake
    bale.run(helper, rig.store, rig.mnt, "-n", "-s", "-v", "-t", "fuse.balefs",
             "-o", "rw,noatime,_netdev,x-systemd.automount,nofail,noexec,user",
             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        line = [x for x in f if x.split()[4] == rig.mnt][0]
    mount_opts, rest = line.split(" - ")
    assert rest.split()[:2] == ["fuse.balefs", rig.store], line
    for opt in ("nosuid", "nodev", "noatime", "noexec"):
        assert opt in mount_opts.split()[5].split(","), line
    assert "default_permissions" in rest
    bale.run(unhelper, rig.mnt, "-n", "-v", "-t", "fuse.balefs")
    assert not bale.mounted_at(rig.mnt)


def test_suid_and_dev_only_when_asked(rig):
    bale.need_root()
    rig.start(opts="suid,dev")
    flags = os.statvfs(rig.mnt).f_flag
    assert not flags & (os.ST_NOSUID | os.ST_NODEV)
    rig.remount()
    flags = os.statvfs(rig.mnt).f_flag
    assert flags & os.ST_NOSUID and flags & os.ST_NODEV


def signal_ends_it(rig, sig, busy):
    rig.mount(foreground=True)
    data = os.urandom(2 << 20)
    fd = os.open(rig.path("f"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.write(fd, data)
    if not busy:
        os.close(fd)
    rig.daemon.send_signal(sig)
    assert rig.daemon.wait(timeout=30) == 0, rig.log()
    rig.daemon = None
    assert not bale.mounted_at(rig.mnt)
    if busy:
        try:
            os.close(fd)
        except OSError:
            pass  # the daemon is gone, and says so
    rig.mount()
    with open(rig.path("f"), "rb") as f:
        assert f.read() == data, f"signal {sig}, busy {busy}: data is lost"
    rig.umount()


def test_signals_unmount(rig):
    rig.mkfs()
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for busy in (False, True):
            signal_ends_it(rig, sig, busy)
    rig.fsck()


def error_of(call, *args):
    try:
        call(*args)
    except OSError as e:
        return e.errno
    return 0


def die(rig):
    rig.daemon.kill()
    rig.daemon.wait()
    rig.daemon = None


def test_dead_daemon(rig):
    """ENOTCONN after it died; the next mount clears that away and recovers."""
    rig.mkfs()
    rig.mount(foreground=True)
    with open(rig.path("f"), "wb") as f:
        f.write(b"x" * 100000)
        os.fsync(f.fileno())
    os.stat(rig.mnt)
    die(rig)
    # The kernel may answer stat() for a second more, but nothing that needs
    # the daemon.
    for call in (os.statvfs, os.listdir):
        assert error_of(call, rig.mnt) == errno.ENOTCONN
    bale.wait_until(lambda: error_of(os.stat, rig.mnt) == errno.ENOTCONN,
                    "stat of the mount point fails", 5)
    rig.mount()
    assert os.path.getsize(rig.path("f")) == 100000
    rig.umount()
    rig.fsck()


def test_mount_at_once_over_a_dead_one(rig):
    """Also while the kernel remembers the dead one's root."""
    rig.mkfs()
    rig.mount(foreground=True)
    os.stat(rig.mnt)
    die(rig)
    rig.mount()
    os.mkdir(rig.path("d"))
    rig.umount()


def test_sync_program_keeps_nothing_of_the_daemon(rig):
    """The program that has pages written gets no descriptor of the daemon's:
    one of /dev/fuse would keep a dead daemon's mount waiting."""
    seen = os.path.join(rig.local, "seen")
    fake = os.path.join(rig.local, "sync")
    with open(fake, "w", encoding="utf-8") as f:
        f.write(f"#!/bin/sh\nls -l /proc/$$/fd >{seen}.new\n"
                f"mv {seen}.new {seen}\n")
    os.chmod(fake, 0o755)
    rig.mkfs()
    with open(os.path.join(rig.local, "inherited"), "w+b") as extra:
        os.set_inheritable(extra.fileno(), True)
        rig.mount("commit=0.05", foreground=True, close_fds=False,
                  env={**os.environ, "PATH": rig.local + ":/usr/bin:/bin"})
        with open(rig.path("f"), "wb"):
            bale.wait_until(lambda: os.path.exists(seen), "sync was called")
    with open(seen, encoding="utf-8") as f:
        fds = f.read()
    assert "/0 ->" in fds or " 0 ->" in fds, fds
    for word in ("/dev/fuse", "inherited", rig.store):
        assert word not in fds, fds
    rig.umount()


def test_no_device(rig):
    """Without /dev/fuse: says so, touches nothing."""
    bale.need_root()
    bale.need("unshare")
    rig.mkfs()
    p = bale.run("unshare", "-m", "sh", "-c",
                 'mount -t tmpfs none /dev && "$@"', "sh", bale.BALEFS,
                 "mount", rig.store, rig.mnt, ok=None)
    if p.stdout.startswith(("unshare:", "mount:")):
        raise bale.Skip("cannot make a mount namespace")
    refused(p, 32, "/dev/fuse")


def test_foreground(rig):
    rig.mkfs()
    rig.mount(foreground=True)
    bale.run(bale.BALEFS, "umount", rig.mnt)
    assert rig.daemon.wait(timeout=20) == 0
    rig.daemon = None
    assert rig.log().strip() == "", rig.log()


def test_umount_of_store_path_and_busy(rig):
    rig.start()
    fd = os.open(rig.path("f"), os.O_CREAT | os.O_RDWR)
    refused(bale.run(bale.BALEFS, "umount", rig.mnt, ok=None), 32, "in use")
    os.close(fd)
    bale.run(bale.BALEFS, "umount", rig.store)
    assert not bale.mounted_at(rig.mnt)


bale.main()
