# SPDX-License-Identifier: Apache-2.0
"""What docs/security.md says of mounts: private files, flags, two users, and
nothing in the store that nobody wrote."""
import errno
import os
import stat
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

ALICE, BOB = 65533, 65534


def as_user(uid, fn, *args):
    """What fn returns when somebody calls it, or the name of its errno."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        try:
            text = fn(*args)
        except OSError as e:
            text = errno.errorcode[e.errno]
        except Exception as e:  # nothing goes on in two processes
            text = repr(e)
        os.write(w, str(text or "").encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


def write(path):
    with open(path, "w", encoding="utf-8") as f:
        f.write("mine")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def flags_of(mnt):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            if line.split()[4] == mnt:
                return line.split()[5].split(",")
    raise AssertionError("not mounted")


def test_store_is_private(rig):
    old = os.umask(0)
    try:
        rig.start()
        with open(rig.path("a"), "wb") as f:
            f.write(os.urandom(1 << 20))
        os.sync()
        rig.remount()
        rig.umount()
        rig.fsck()
    finally:
        os.umask(old)
    for top, dirs, files in os.walk(rig.store):
        assert stat.S_IMODE(os.stat(top).st_mode) == 0o700, top
        for name in files:
            st = os.lstat(os.path.join(top, name))
            assert stat.S_ISREG(st.st_mode), name
            assert stat.S_IMODE(st.st_mode) == 0o600, name


def test_nosuid_nodev_by_default(rig):
    bale.need_root()
    rig.start()
    assert {"nosuid", "nodev"} <= set(flags_of(rig.mnt))
    os.mknod(rig.path("null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    try:
        os.close(os.open(rig.path("null"), os.O_RDWR))
        raise AssertionError("a device was opened")
    except PermissionError:
        pass
    rig.remount("suid,dev")
    assert not {"nosuid", "nodev"} & set(flags_of(rig.mnt))
    os.close(os.open(rig.path("null"), os.O_RDWR))


def test_two_users(rig):
    bale.need_root()
    rig.start(opts="allow_other")
    os.chmod(rig.mnt, 0o1777)
    for uid in (ALICE, BOB):
        os.mkdir(rig.path(str(uid)))
        os.chown(rig.path(str(uid)), uid, uid)
        os.chmod(rig.path(str(uid)), 0o711)
    secret = rig.path(str(ALICE), "secret")
    assert as_user(ALICE, write, secret) == ""
    assert os.stat(secret).st_uid == ALICE
    assert as_user(ALICE, read, secret) == "mine"
    os.chmod(secret, 0o600)
    assert as_user(BOB, read, secret) == "EACCES"
    assert as_user(BOB, write, secret) == "EACCES"
    assert as_user(BOB, os.listdir,
                   rig.path(str(ALICE))) == "EACCES"
    for fn, *args in ((os.unlink,), (os.chmod, 0o666), (os.chown, BOB, BOB),
                      (os.rename, secret + "2"), (os.truncate, 0),
                      (os.setxattr, "user.a", b"b"), (os.utime, (1, 1))):
        got = as_user(BOB, fn, secret, *args)
        assert got in ("EACCES", "EPERM"), (fn, got)
    # Sticky: a name in a shared directory is its owner's.
    shared = rig.path("shared")
    assert as_user(ALICE, write, shared) == ""
    assert as_user(BOB, os.unlink, shared) in ("EPERM",
                                                              "EACCES")
    assert as_user(BOB, os.setxattr, rig.path(str(BOB)), "trusted.a",
                   b"b") == "EPERM"
    assert as_user(ALICE, read, secret) == "mine"


def test_others_stay_out_without_allow_other(rig):
    bale.need_root()
    rig.start()
    os.chmod(rig.mnt, 0o777)
    with open(rig.path("a"), "w", encoding="ascii") as f:
        f.write("text")
    os.chmod(rig.path("a"), 0o666)
    assert as_user(BOB, os.listdir, rig.mnt) == "EACCES"
    assert as_user(BOB, read, rig.path("a")) == "EACCES"
    # Nor is the store itself open to them.
    assert as_user(BOB, os.listdir, rig.store) == "EACCES"


def test_nothing_in_the_store_that_nobody_wrote(rig):
    """Memory fresh from malloc is full of one byte, freed memory of another:
    neither shows in a file of the store, in a tail, in padding."""
    rig.mkfs("extent=64K,segment=1M,log=1M")
    rig.mount("codec=raw,commit=1", foreground=True,
              env=dict(os.environ, MALLOC_PERTURB_="195"))
    for k in range(200):
        with open(rig.path(f"f{k}"), "wb") as f:
            f.write(b"abc" * (k * 137 % 40000))
            if k % 7 == 0:
                os.fsync(f.fileno())
            f.seek(k * 3)
            f.write(b"x")
            if k % 5 == 0:
                f.truncate(k * 211)
        if k % 3 == 0:
            os.unlink(rig.path(f"f{k}"))
        if k % 11 == 0 and k % 3:
            os.setxattr(rig.path(f"f{k}"), "user.a", b"v" * 300)
    time.sleep(1.5)
    rig.umount()
    for top, _, files in os.walk(rig.store):
        for name in files:
            with open(os.path.join(top, name), "rb") as f:
                data = f.read()
            for byte in (195, 195 ^ 255):
                assert bytes([byte]) * 24 not in data, (top, name, byte)


if __name__ == "__main__":
    bale.main()
