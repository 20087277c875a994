# SPDX-License-Identifier: Apache-2.0
"""Trees of files to copy and compare: deterministic by seed."""
import hashlib
import os
import random
import stat

WORDS = [w.encode() for w in (
    "the of and to in is that for it as was with be by on not he his but at are"
    " this have from or had an they which one you were her all she there would"
    " their we him been has when who will more no if out so said what up its"
    " static int return struct void const char if else while for uint64_t"
).split()]


def text(rng, size):
    out = bytearray()
    while len(out) < size:
        line = b" ".join(rng.choices(WORDS, k=rng.randint(3, 14)))
        out += line + b"\n"
    return bytes(out[:size])


def content(rng, kind, size):
    if kind == "text":
        return text(rng, size)
    if kind == "random":
        return rng.randbytes(size)
    if kind == "zeros":
        return bytes(size)
    if kind == "pattern":
        return (b"\x01\x02\x03\x04" * (size // 4 + 1))[:size]
    half = size // 2  # mixed: half of it shrinks
    return text(rng, half) + rng.randbytes(size - half)


KINDS = ["text", "random", "zeros", "pattern", "mixed"]
SIZES = [0, 1, 31, 100, 511, 2048, 4095, 4096, 4097, 20000, 65535, 65536,
         65537, 131071, 131072, 131073, 300000, 1 << 20, (1 << 20) + 17]


def make(top, seed=1, nr=300, big=8 << 20):
    """A tree of nr files in nested directories, and one big one."""
    rng = random.Random(seed)
    dirs = [top]
    os.makedirs(top, exist_ok=True)
    for n in range(max(nr // 12, 1)):
        d = os.path.join(rng.choice(dirs), f"dir {n}")
        os.mkdir(d)
        dirs.append(d)
    files = []
    for n in range(nr):
        size = rng.choice(SIZES) if rng.random() < .5 else rng.randint(0, 9000)
        path = os.path.join(rng.choice(dirs), f"f{n}-{rng.choice('äöü€ab')}")
        with open(path, "wb") as f:
            f.write(content(rng, rng.choice(KINDS), size))
        os.chmod(path, rng.choice([0o644, 0o600, 0o755, 0o444]))
        when = rng.randint(0, 2 * 10**18)
        os.utime(path, ns=(when, when))
        files.append(path)
    for n in range(nr // 10):
        os.symlink(os.path.basename(rng.choice(files)),
                   os.path.join(rng.choice(dirs), f"link{n}"))
        os.link(rng.choice(files), os.path.join(rng.choice(dirs), f"hard{n}"))
    sparse(os.path.join(top, "sparse"))
    with open(os.path.join(top, "big"), "wb") as f:
        for off in range(0, big, 1 << 20):
            f.write(content(rng, rng.choice(KINDS), min(1 << 20, big - off)))


def sparse(path):
    with open(path, "wb") as f:
        for off in (0, 5 << 20, (64 << 20) + 12345):
            f.seek(off)
            f.write(b"data at %d" % off)
        f.truncate(100 << 20)


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def describe(top, dir_times=True):
    """{relative path: everything that a copy must keep}"""
    ret = {}
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            one = [stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode),
                   st.st_uid, st.st_gid]
            if stat.S_ISLNK(st.st_mode):
                one.append(os.readlink(path))
            elif stat.S_ISREG(st.st_mode):
                one += [st.st_size, st.st_nlink, digest(path)]
            if stat.S_ISREG(st.st_mode) or \
                    (dir_times and stat.S_ISDIR(st.st_mode)):
                one.append(st.st_mtime_ns)
            if not stat.S_ISLNK(st.st_mode):
                one.append(sorted((x, os.getxattr(path, x))
                                  for x in os.listxattr(path)))
            ret[os.path.relpath(path, top)] = one
    return ret


def compare(a, b):
    """Assert that two descriptions are the same; tell the first differences."""
    diff = [f"{k}: {a.get(k)} != {b.get(k)}" for k in sorted(a.keys() | b.keys())
            if a.get(k) != b.get(k)]
    assert not diff, f"{len(diff)} differences:\n" + "\n".join(diff[:10])
