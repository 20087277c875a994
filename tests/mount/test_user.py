# SPDX-License-Identifier: Apache-2.0
"""An ordinary user, through fusermount3; and two users on one mount."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

UID = 65534


def as_user(*argv, ok=(0,), uid=UID):
    if os.geteuid() == 0:
        argv = ("setpriv", f"--reuid={uid}", f"--regid={uid}",
                "--clear-groups", *argv)
    return bale.run(*argv, ok=ok, timeout=60)


def prepare(rig):
    bale.need("fusermount3")
    if not os.path.exists("/etc/mtab"):
        raise bale.Skip("no /etc/mtab: fusermount3 cannot unmount here")
    if os.geteuid() == 0:
        bale.need("setpriv")
        os.chown(rig.dir, UID, UID)
        os.chown(rig.mnt, UID, UID)
        # The build tree may be closed to others: give the user a copy.
        copy = os.path.join(rig.dir, "balefs")
        bale.run("install", "-m", "755", os.path.realpath(bale.BALEFS), copy)
        rig.undo.append(lambda: bale.run("umount", "-l", rig.mnt, ok=None))
        # As udev makes it, where udev runs.
        mode = os.stat("/dev/fuse").st_mode & 0o777
        os.chmod("/dev/fuse", 0o666)
        rig.undo.append(lambda: os.chmod("/dev/fuse", mode))
        return copy
    return bale.BALEFS


def test_user_mounts(rig):
    prog = prepare(rig)
    as_user(prog, "mkfs", "-q", rig.store)
    p = as_user("sh", "-c", '"$1" mount "$2" "$3" >"$4" 2>&1', "sh", prog,
                rig.store, rig.mnt, os.path.join(rig.dir, "log"), ok=None)
    with open(os.path.join(rig.dir, "log"), encoding="utf-8") as f:
        log = f.read()
    if "/dev/fuse: no permission" in log:
        raise bale.Skip("users may not open /dev/fuse here")
    assert p.returncode == 0, log
    as_user("sh", "-c", f"cp -r /usr/include/linux {rig.mnt}/copy && "
            f"cd {rig.mnt} && echo hello >f && chmod 600 f && ln f g && "
            "mkdir d && mv g d/ && cat d/g")
    as_user("diff", "-r", "/usr/include/linux", f"{rig.mnt}/copy")
    if os.geteuid() == 0:
        as_user("ls", rig.mnt, ok=(2,), uid=12345)
    as_user(prog, "umount", rig.mnt)
    assert not bale.mounted_at(rig.mnt)
    as_user(prog, "fsck", "-n", "-f", rig.store)


def test_user_may_not_have_suid(rig):
    prog = prepare(rig)
    as_user(prog, "mkfs", "-q", rig.store)
    p = as_user(prog, "mount", rig.store, rig.mnt, "-o", "suid", ok=(1,))
    assert "root" in p.stdout, p.stdout


def test_no_permission(rig):
    """Someone else's store and mount point: one line, nothing changed."""
    bale.need_root()
    prog = prepare(rig)
    rig.mkfs()
    p = as_user(prog, "mount", rig.store, rig.mnt, ok=(1, 32))
    assert "ermission denied" in p.stdout, p.stdout
    assert len(p.stdout.strip().splitlines()) == 1, p.stdout


def test_permissions_between_users(rig):
    bale.need_root()
    bale.need("setpriv")
    rig.start(opts="allow_other")
    os.mkdir(rig.path("mine"), 0o700)
    os.mkdir(rig.path("shared"), 0o1777)
    os.chmod(rig.path("shared"), 0o1777)
    with open(rig.path("mine", "f"), "w", encoding="ascii") as f:
        f.write("secret")
    with open(rig.path("shared", "f"), "w", encoding="ascii") as f:
        f.write("public")
    os.chmod(rig.path("shared", "f"), 0o644)
    as_user("cat", rig.path("mine", "f"), ok=(1,))
    as_user("cat", rig.path("shared", "f"))
    as_user("rm", "-f", rig.path("shared", "f"), ok=(1,))
    as_user("sh", "-c", f"echo x >>{rig.path('shared', 'f')}", ok=(1, 2))
    as_user("touch", rig.path("shared", "theirs"))
    st = os.stat(rig.path("shared", "theirs"))
    assert (st.st_uid, st.st_gid) == (UID, UID)
    as_user("chmod", "777", rig.path("shared", "f"), ok=(1,))


bale.main()
