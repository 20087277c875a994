# SPDX-License-Identifier: Apache-2.0
"""What is in the store images of tests/vectors/data, made anew from numbers:
files of every codec, filter and shape that format version 1 has."""
import hashlib
import os
import struct


def numbers(seed, count):
    for _ in range(count):
        seed = (seed * 1664525 + 1013904223) & 0xffffffff
        yield seed >> 8


def text(seed, size):
    words = [b"bale", b"extent", b"segment", b"log", b"index", b"unit",
             b"engine", b"of", b"the", b"and"]
    out = bytearray()
    for n in numbers(seed, size):
        out += words[n % len(words)] + b" \n"[n % 11 == 0:][:1]
        if len(out) >= size:
            break
    return bytes(out[:size])


def floats(seed, count):
    return b"".join(struct.pack("<f", 1 + n / 2 ** 25)
                    for n in numbers(seed, count))


def noise(seed, size):
    return b"".join(struct.pack("<I", n * 2654435761 & 0xffffffff)
                    for n in numbers(seed, size // 4))


# name: (policy or None for the mount's, content)
FILES = {
    "lz4": ("lz4", text(1, 200000)),
    "zstd": ("zstd:9", text(2, 300000)),
    "gdeflate": ("gdeflate", text(3, 150001)),
    "gdeflate-entropy": ("gdeflate:-1", text(4, 70000)),
    "shuffle4": ("zstd:3+shuffle4", floats(5, 40000)),
    "bitshuffle2": ("lz4+bitshuffle2", floats(6, 20000)),
    "delta4": ("gdeflate:2+delta4", floats(7, 30000)),
    "raw": ("raw", noise(8, 30000)),
    "fill": (None, b"\x01\x02\x03\x04" * 50000),
    "auto": (None, text(9, 260000)),
    "inline": (None, text(10, 900)),
    "empty": (None, b""),
}
SPARSE_SIZE, SPARSE_AT = 1 << 40, 1 << 39
PATCH_AT, PATCH = 1000, b"written and synced before the power went"


def make(top):
    for name, (policy, data) in FILES.items():
        path = os.path.join(top, name)
        with open(path, "wb") as f:
            if policy:
                os.setxattr(path, "balefs.codec", policy.encode())
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
    with open(os.path.join(top, "sparse"), "wb") as f:
        f.truncate(SPARSE_SIZE)
        f.seek(SPARSE_AT)
        f.write(text(11, 5000))
        os.fsync(f.fileno())
    os.mkdir(os.path.join(top, "dir"), 0o750)
    for k in range(60):
        with open(os.path.join(top, "dir", f"file {k}"), "wb") as f:
            f.write(text(20 + k, 10 * k))
    os.link(os.path.join(top, "lz4"), os.path.join(top, "dir", "link"))
    os.symlink("../zstd", os.path.join(top, "dir", "symlink"))
    os.mkfifo(os.path.join(top, "dir", "fifo"))
    os.setxattr(os.path.join(top, "raw"), "user.note", b"kept")
    os.chmod(os.path.join(top, "raw"), 0o4711)
    os.utime(os.path.join(top, "raw"), ns=(1, 1234567890123456789))


def patch(top):
    """A small overwrite and fsync: it rides in the log."""
    fd = os.open(os.path.join(top, "zstd"), os.O_WRONLY)
    os.pwrite(fd, PATCH, PATCH_AT)
    os.fsync(fd)
    os.close(fd)


def check(top, patched):
    want = {name: data for name, (_p, data) in FILES.items()}
    if patched:
        data = bytearray(want["zstd"])
        data[PATCH_AT:PATCH_AT + len(PATCH)] = PATCH
        want["zstd"] = bytes(data)
    for name, data in want.items():
        with open(os.path.join(top, name), "rb") as f:
            got = f.read()
        assert got == data, (name, len(got), hashlib.sha256(got).hexdigest())
    assert sorted(os.listdir(top)) == sorted([*want, "sparse", "dir"])
    with open(os.path.join(top, "sparse"), "rb") as f:
        assert os.fstat(f.fileno()).st_size == SPARSE_SIZE
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) <= SPARSE_AT
        f.seek(SPARSE_AT)
        assert f.read(5000) == text(11, 5000)
    assert len(os.listdir(os.path.join(top, "dir"))) == 63
    for k in range(60):
        with open(os.path.join(top, "dir", f"file {k}"), "rb") as f:
            assert f.read() == text(20 + k, 10 * k), k
    assert os.stat(os.path.join(top, "lz4")).st_nlink == 2
    assert os.path.samefile(os.path.join(top, "lz4"),
                            os.path.join(top, "dir", "link"))
    assert os.readlink(os.path.join(top, "dir", "symlink")) == "../zstd"
    raw = os.lstat(os.path.join(top, "raw"))
    assert raw.st_mode & 0o7777 == 0o4711, oct(raw.st_mode)
    assert raw.st_mtime_ns == 1234567890123456789, raw.st_mtime_ns
    assert os.getxattr(os.path.join(top, "raw"), "user.note") == b"kept"
    assert os.stat(os.path.join(top, "dir")).st_mode & 0o777 == 0o750
