# SPDX-License-Identifier: Apache-2.0
"""scrub and salvage: damage is found, named and worked around."""
import filecmp
import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

DAMAGED = 4
PAUSE = 4  # seconds; what was missed in it would be 128 extents


def tool(*args, ok=(0,), **kw):
    return bale.run(bale.BALEFS, *args, ok=ok, timeout=120, **kw).stdout


def write(rig, name, data):
    with open(rig.path(name), "wb") as f:
        f.write(data)
    return data


def fill(rig):
    """A raw file, a compressed one, a small one; the raw one's bytes."""
    os.mkdir(rig.path("d"))
    write(rig, "text", b"a line of a text that repeats itself\n" * 20000)
    write(rig, "d/small", b"small\n")
    os.symlink("../text", rig.path("d/link"))
    return write(rig, "d/random", os.urandom(600000))


def flip(rig, marker):
    """Change the byte behind the marker where it lies in a segment."""
    for path in glob.glob(os.path.join(rig.store, "seg", "*")):
        with open(path, "r+b") as f:
            at = f.read().find(marker)
            if at < 0:
                continue
            f.seek(at + len(marker))
            old = f.read(1)
            f.seek(at + len(marker))
            f.write(bytes([old[0] ^ 0x40]))
            return
    raise AssertionError("not found in any segment")


def counts(text):
    m = re.search(r"(\d+) extents, .*: (\d+) damaged", text)
    assert m, text
    return int(m[1]), int(m[2])


def test_a_sound_store(rig):
    rig.start()
    fill(rig)
    for args in ([], ["--decode"]):
        extents, bad = counts(tool("scrub", *args, rig.mnt))
        assert extents >= 5 + 1 + 1 and bad == 0
    assert "in use by" in tool("scrub", rig.store, ok=(1,))
    rig.umount()
    assert counts(tool("scrub", "-d", rig.store)) == (extents, 0)


def test_damage_is_named(rig):
    rig.start()
    random = fill(rig)
    tool("scrub", rig.mnt)
    # The third extent of 128 KiB; nothing reads the store from a cache.
    flip(rig, random[300000:300032])
    for _ in range(2):
        out = tool("scrub", rig.mnt, ok=(DAMAGED,))
        assert "damaged: /d/random: bytes 262144-393215: checksum" in out, out
        assert counts(out)[1] == 1
    rig.umount()
    out = tool("scrub", "--decode", rig.store, ok=(DAMAGED,))
    assert "/d/random: bytes 262144-393215" in out, out
    rig.mount()
    write(rig, "d/random", random)
    assert counts(tool("scrub", rig.mnt))[1] == 0


def test_rate_pause_resume(rig):
    rig.start()
    for k in range(6):
        write(rig, f"f{k}", os.urandom(4 << 20))
    total, bad = counts(tool("scrub", rig.mnt))
    assert total >= 192 and bad == 0
    state = os.path.join(rig.dir, "state")
    argv = [bale.BALEFS, "scrub", "--progress", "--rate", "4M", "--state",
            state, rig.mnt]
    with open(os.path.join(rig.dir, "out"), "w+", encoding="ascii") as out:
        start = time.monotonic()
        p = subprocess.Popen(argv, stdout=out, stderr=out)
        time.sleep(1)
        p.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE)
        p.send_signal(signal.SIGCONT)
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=20) == 1
        took = time.monotonic() - start
        out.seek(0)
        text = out.read()
    done, _ = counts(text)
    assert "not finished" in text and "% " in text.replace("%,", "% "), text
    # 128 KiB extents at 4 MiB/s, and the step under way: a row of the map has
    # 64 extents at most, and is not divided. Of the pause no more than a second
    # is made up for.
    assert 8 <= done <= (took - PAUSE + 1) * 32 + 64, (done, took)
    assert os.path.exists(state)
    # The rest, from there on: all in all what one run sees.
    assert counts(tool("scrub", "--state", state, rig.mnt)) == (total, 0)
    assert not os.path.exists(state)
    with open(state, "w", encoding="ascii") as f:
        f.write("something else\n")
    assert "not the state" in tool("scrub", "-s", state, rig.mnt, ok=(1,))


def test_no_false_alarm_under_load(rig):
    rig.start("segment=1M,extent=64K", "commit=1")
    stop = threading.Event()

    def work():
        k = 0
        while not stop.is_set():
            name = rig.path(f"w{k % 7}")
            with open(name, "wb") as f:
                f.write(os.urandom(300000) + bytes(100000))
                if k % 3 == 0:
                    os.fsync(f.fileno())
            if k % 5 == 4:
                os.unlink(name)
            k += 1

    t = threading.Thread(target=work)
    t.start()
    try:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            _, bad = counts(tool("scrub", "-d", rig.mnt))
            assert bad == 0
    finally:
        stop.set()
        t.join()
    rig.umount()
    rig.fsck()


def test_not_for_everybody(rig):
    bale.need_root()
    rig.start(opts="allow_other")
    fill(rig)
    out = tool("scrub", rig.mnt, ok=(1,), user=65534, group=65534)
    assert "only root" in out, out


def same_tree(a, b, skip=()):
    c = filecmp.dircmp(a, b, ignore=list(skip))
    assert not c.left_only and not c.right_only, (c.left_only, c.right_only)
    for name in c.common_files:
        assert filecmp.cmp(os.path.join(a, name), os.path.join(b, name),
                           shallow=False), name
    for d in c.common_dirs:
        same_tree(os.path.join(a, d), os.path.join(b, d), skip)


def test_salvage(rig):
    rig.start()
    random = fill(rig)
    os.link(rig.path("text"), rig.path("d/text2"))
    os.mkfifo(rig.path("d/pipe"))
    os.setxattr(rig.path("text"), "user.a", b"b")
    os.chmod(rig.path("text"), 0o4755)
    os.symlink("../../../../../../tmp", rig.path("up"))
    with open(rig.path("sparse"), "wb") as f:
        f.truncate(1 << 40)
        f.seek(1 << 39)
        f.write(b"x")
    rig.umount()
    out = os.path.join(rig.local, "out")
    text = tool("salvage", rig.store, out)
    assert "0 damaged, 0 left out" in text, text
    assert "File exists" in tool("salvage", rig.store, out, ok=(1,))
    st = os.stat(os.path.join(out, "text"))
    assert st.st_mode & 0o7777 == 0o755 and st.st_nlink == 2
    assert os.getxattr(os.path.join(out, "text"), "user.a") == b"b"
    assert os.readlink(os.path.join(out, "up")) == "../../../../../../tmp"
    st = os.stat(os.path.join(out, "sparse"))
    assert st.st_size == 1 << 40 and st.st_blocks < 10000
    os.unlink(os.path.join(out, "sparse"))
    rig.mount("ro")
    same_tree(rig.mnt, out, ("sparse", "pipe", "up"))
    rig.umount()

    flip(rig, random[300000:300032])
    out += "2"
    text = tool("salvage", rig.store, out, ok=(DAMAGED,))
    assert "/d/random: bytes 262144-393215: checksum mismatch" in text, text
    with open(os.path.join(out, "d", "random.damaged"), "rb") as f:
        got = f.read()
    assert got[:262144] == random[:262144]
    assert got[262144:393216] == bytes(131072)
    assert got[393216:] == random[393216:]
    assert not os.path.exists(os.path.join(out, "d", "random"))


def test_salvage_of_a_broken_log(rig):
    rig.start("log=1M")
    fill(rig)
    rig.umount()
    # The index is gone; the log ends in the middle of what followed.
    rig.mount()
    for k in range(40):
        write(rig, f"later{k}", b"x" * 3000)
        fd = os.open(rig.path(f"later{k}"), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    rig.umount()
    for path in glob.glob(os.path.join(rig.store, "index", "*")):
        os.unlink(path)
    for path in glob.glob(os.path.join(rig.store, "ckpt", "*")):
        os.unlink(path)
    path = sorted(glob.glob(os.path.join(rig.store, "log", "0*")))[0]
    with open(path, "r+b") as f:
        records = [m.start() for m in re.finditer(b"BALElog1", f.read())]
        assert len(records) > 20
        f.seek(records[len(records) - 10] + 20)
        f.write(b"\xff" * 8)
    out = os.path.join(rig.local, "out")
    text = tool("salvage", rig.store, out, ok=(0, DAMAGED))
    assert "an earlier state" in text, text
    names = os.listdir(out)
    assert "text" in names and "later0" in names
    assert "later39" not in names


if __name__ == "__main__":
    bale.main()
