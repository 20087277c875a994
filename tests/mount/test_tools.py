# SPDX-License-Identifier: Apache-2.0
"""mkfs, stats, dump, recompress and fsck on stores that real files went into."""
import json
import os
import signal
import subprocess
import threading
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale


def tool(*args, ok=(0,)):
    return bale.run(bale.BALEFS, *args, ok=ok, timeout=120).stdout


def text(n):
    return b"".join(b"line %d of a text that repeats itself\n" % i
                    for i in range(n))


def write(rig, name, data):
    with open(rig.path(name), "wb") as f:
        f.write(data)


def test_mkfs_refuses(rig):
    def refused(status, word, *args):
        p = bale.run(bale.BALEFS, "mkfs", *args, ok=None)
        assert p.returncode == status, p.stdout
        assert len(p.stdout.strip().splitlines()) == 1, p.stdout
        assert word in p.stdout, p.stdout

    full = os.path.join(rig.dir, "full")
    os.mkdir(full)
    with open(os.path.join(full, "a"), "w", encoding="ascii"):
        pass
    refused(1, "not empty", full)
    refused(1, "not empty", "--force", full)
    assert os.listdir(full) == ["a"]
    refused(1, "directory above", os.path.join(rig.dir, "no", "where"))
    refused(1, "Not a directory", os.path.join(full, "a"))
    new = os.path.join(rig.dir, "new")
    for opt, word in (("extent=100K", "power of two"), ("extent=8M", "4 MiB"),
                      ("segment=1", "segment=1"), ("codec=lzma", "lzma"),
                      ("codec=planes", "no encoder"), ("extent", "extent"),
                      ("colour=red", "colour"), ("label=" + 65 * "x", "label"),
                      ("extent=4M,segment=1M", "four extents")):
        refused(2, word, "-o", opt, new)
    refused(2, "STORE")
    refused(2, "--what", "--what", new)
    assert not os.path.exists(new)
    tool("mkfs", "-o", "label=a\\,b,codec=zstd:3,extent=64K", new)
    assert 'label "a,b"' in tool("dump", new, "superblock")
    refused(1, "--force", new)
    tool("mkfs", "--force", new)


def test_stats_everywhere(rig):
    rig.start()
    os.mkdir(rig.path("d"))
    write(rig, "d/text", text(100000))
    write(rig, "d/random", os.urandom(300000))
    write(rig, "d/small", b"small\n")
    write(rig, "d/zero", bytes(1 << 20))
    d = json.loads(tool("stats", "--json", rig.path("d")))
    assert d["kind"] == "directory" and d["files"] == 4
    assert d["logical_bytes"] == len(text(100000)) + 300000 + 6 + (1 << 20)
    assert d["ratio"] > 2
    assert d["inline_bytes"] > 0
    assert sum(r["extents"] for r in d["raw_reasons"]) >= 2
    f = json.loads(tool("stats", "--json", rig.path("d/text")))
    assert f["kind"] == "file" and f["raw_bytes"] == len(text(100000))
    m = json.loads(tool("stats", "--json", rig.mnt))
    assert m["kind"] == "mount" and m["store"] == rig.store
    assert m["encode_jobs"] > 0 and m["cpu_seconds"] > 0
    assert "balefs_encode_bytes{mount=" in tool("stats", "--prometheus",
                                                rig.mnt)
    assert "in use by pid" in tool("stats", rig.store, ok=(1,))
    rig.umount()
    s = json.loads(tool("stats", "--json", rig.store))
    assert s["kind"] == "store" and s["files"] == 4 and s["directories"] == 2
    assert s["stored_bytes"] == d["stored_bytes"]
    assert {c["codec"] for c in s["codecs"]} >= {"raw"}
    assert "logical bytes" in tool("stats", rig.store)
    assert "not a balefs store" in tool("stats", rig.dir, ok=(1,))


def test_recompress(rig):
    rig.start(opts="codec=raw")
    data = text(50000)
    write(rig, "a", data)
    os.mkdir(rig.path("d"))
    write(rig, "d/b", data)
    before = json.loads(tool("stats", "--json", rig.mnt))
    assert [c["codec"] for c in before["codecs"]] == ["raw"]
    out = tool("recompress", "--codec", "zstd:9", "-v", rig.mnt)
    assert "2 files" in out
    a = json.loads(tool("stats", "--json", rig.path("a")))
    assert [c["codec"] for c in a["codecs"]] == ["zstd"] and a["ratio"] > 4
    rig.remount()
    with open(rig.path("d/b"), "rb") as f:
        assert f.read() == data
    assert "not on a balefs" in tool("recompress", rig.local + "/../mount.log",
                                     ok=(1,))
    assert "in use by" in tool("recompress", "--store", rig.store, "/a",
                               ok=(1,))
    rig.umount()
    assert "1 files" in tool("recompress", "--store", rig.store, "-c", "lz4",
                             "/d")
    assert "No such" in tool("recompress", "--store", rig.store, "/none",
                             ok=(1,))
    s = json.loads(tool("stats", "--json", rig.store))
    assert {c["codec"] for c in s["codecs"]} == {"zstd", "lz4"}
    assert "clean" in tool("fsck", "-n", "--deep", rig.store)


def test_recompress_of_a_live_tree(rig):
    """Files that vanish while it walks are no failures."""
    rig.start(opts="codec=raw")
    end = threading.Event()

    def churn():
        n = 0
        while not end.is_set():
            n += 1
            write(rig, f"{n % 40:02}", text(3000))
            os.unlink(rig.path(f"{(n + 20) % 40:02}")) if n > 20 else None

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for n in range(120):
            codec = ("lz4", "zstd:1")[n % 2]
            tool("recompress", "--codec", codec, rig.mnt)
    finally:
        end.set()
        thread.join()
    assert "No such" in tool("recompress", rig.path("none"), ok=(1,))


def test_dump_is_json(rig):
    rig.start()
    write(rig, "text", text(20000))
    os.symlink("text", rig.path("link"))
    rig.umount()
    log = json.loads(tool("dump", "--json", rig.store, "log"))
    assert any("text" in op["row"] for r in log["records"] for op in r["ops"])
    seg = json.loads(tool("dump", "--json", rig.store, "segment"))
    ext = json.loads(tool("dump", "--json", rig.store, "map", "/text"))
    ids = {e["id"] for b in seg["bales"] for e in b["extents"]}
    assert {e["id"] for e in ext["extents"]} <= ids
    ino = json.loads(tool("dump", "--json", rig.store, "inode", "/link"))
    assert any(r["table"] == "inline" for r in ino["rows"])
    json.loads(tool("dump", "--json", rig.store, "checkpoint", "--rows"))
    json.loads(tool("dump", "--json", rig.store, "superblock"))
    assert "not there" in tool("dump", rig.store, "map", "/none", ok=(1,))


def damage_segment(rig, ino_path, no=0):
    """Flip a byte of one extent of a file."""
    ext = json.loads(tool("dump", "--json", rig.store, "map", ino_path))
    e = ext["extents"][no]
    path = os.path.join(rig.store, "seg", f"{e['segment']:016x}")
    with open(path, "r+b") as f:
        f.seek(e["at"] + e["stored"] // 2)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 1]))


def test_damaged_data_is_named_and_never_served(rig):
    rig.start()
    noise = os.urandom(400000)
    write(rig, "hurt", noise)
    write(rig, "whole", noise)
    rig.umount()
    damage_segment(rig, "/hurt")
    for mode in ("-n", "-y", "-n"):
        out = tool("fsck", mode, "--deep", rig.store, ok=(4,))
        assert "damaged file: /hurt: bytes 0-131071" in out, out
        assert "whole" not in out, out
    rig.mount()
    with open(rig.path("whole"), "rb") as f:
        assert f.read() == noise
    with open(rig.path("hurt"), "rb") as f:
        f.seek(131072)
        assert f.read() == noise[131072:]
        f.seek(0)
        try:
            f.read(100)
            raise AssertionError("a damaged extent was served")
        except OSError as e:
            assert e.errno == 5, e
    os.unlink(rig.path("hurt"))
    rig.umount()
    assert "clean" in tool("fsck", "-n", "--deep", rig.store)


def served(rig, name, chunk):
    """What can be read of a file in such pieces, and where it cannot be."""
    fd = os.open(rig.path(name), os.O_RDONLY)
    size, off, got, bad = os.fstat(fd).st_size, 0, {}, []
    while off < size:
        try:
            got[off] = os.pread(fd, chunk, off)
            off += len(got[off])
        except OSError as e:
            assert e.errno == 5, e
            bad.append(off)
            off += chunk
    os.close(fd)
    return got, bad


def test_damage_ahead_is_not_read_as_zeros(rig):
    """A short answer to the kernel's read-ahead counts as the end of what is
    stored: it showed zeros from the damaged extent on, good ones included."""
    rig.start()
    noise = os.urandom(8 * 131072)
    write(rig, "hurt", noise)
    rig.umount()
    damage_segment(rig, "/hurt", 3)
    for opts in ("", "io=direct"):
        for chunk in (4096, 131072, 1048576):
            rig.mount(opts)
            got, bad = served(rig, "hurt", chunk)
            for off, data in got.items():
                assert data == noise[off:off + len(data)], (opts, chunk, off)
            assert bad and all(3 * 131072 <= b < 4 * 131072 or
                               b < 4 * 131072 <= b + chunk for b in bad), bad
            rig.umount()


def test_salvage(rig):
    rig.start()
    noise = os.urandom(500000)
    prose = text(30000)
    write(rig, "noise", noise)
    write(rig, "prose", prose)
    inos = [os.stat(rig.path(n)).st_ino for n in ("noise", "prose")]
    rig.umount()
    bale.run("rm", "-rf", *(os.path.join(rig.store, n) for n in
                            ("log", "index", "ckpt", "super.0", "super.1")))
    assert "" != tool("fsck", "-y", rig.store, ok=(8, 9, 12, 13))
    new = os.path.join(rig.dir, "new")
    assert "2 files" in tool("fsck", "--salvage", new, rig.store, ok=(1,))
    rig.store = new
    rig.mount()
    for ino, data in zip(inos, (noise, prose)):
        with open(rig.path("lost+found", f"#{ino}"), "rb") as f:
            assert f.read() == data
    rig.umount()
    assert "clean" in tool("fsck", "-n", "--deep", rig.store)


def test_fsck_stops_when_asked(rig):
    rig.start("extent=64K", "codec=raw")
    write(rig, "big", os.urandom(64 << 20))
    rig.umount()
    p = subprocess.Popen([bale.BALEFS, "fsck", "-y", "--deep", rig.store],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         env={**os.environ, "BALEFS_FAULT":
                              "io.pread:20+:delay=20"})
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    out = p.communicate(timeout=60)[0].decode()
    assert p.returncode == 32, f"status {p.returncode}: {out}"
    assert "interrupted" in out
    assert "clean" in tool("fsck", "-n", "--deep", rig.store)


if __name__ == "__main__":
    bale.main()
