# SPDX-License-Identifier: Apache-2.0
"""What POSIX and Linux promise of files, one promise a test."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import stat
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale
import corpus

LIBC = ctypes.CDLL(None, use_errno=True)
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
SEEK_DATA, SEEK_HOLE = 3, 4


def fails(number, fn, *args, **kw):
    """fn must fail with this errno."""
    try:
        fn(*args, **kw)
    except OSError as e:
        assert e.errno == number, e
    else:
        raise AssertionError(f"no {errno.errorcode[number]}")


def libc(name, *args):
    ret = getattr(LIBC, name)(*args)
    if ret < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return ret


def put(path, data, flags=0):
    fd = os.open(path, os.O_CREAT | os.O_RDWR | flags, 0o644)
    os.write(fd, data)
    os.close(fd)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def drop_caches():
    bale.need_root()
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")


def test_unlinked_open(rig):
    rig.start()
    fd = os.open(rig.path("f"), os.O_CREAT | os.O_RDWR)
    data = corpus.content(random.Random(1), "mixed", 500000)
    os.pwrite(fd, data, 0)
    os.unlink(rig.path("f"))
    assert os.listdir(rig.mnt) == []
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, len(data), 0) == data
    os.pwrite(fd, b"more", 600000)
    os.fsync(fd)
    assert os.pread(fd, 10, 599998) == b"\0\0more"
    os.close(fd)
    rig.umount()
    rig.fsck()


def test_append(rig):
    """O_APPEND with the kernel's cache: once, at the end, from many writers."""
    rig.start()

    def writer(tag):
        fd = os.open(rig.path("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for n in range(200):
            os.write(fd, f"{tag} {n:6}\n".encode())
        os.close(fd)
    threads = [threading.Thread(target=writer, args=(t,)) for t in "abcd"]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    want = sorted(f"{t} {n:6}" for t in "abcd" for n in range(200))
    assert sorted(get(rig.path("log")).decode().splitlines()) == want
    rig.remount()
    assert sorted(get(rig.path("log")).decode().splitlines()) == want


def test_partial_page_through_write_only_handle(rig):
    """The kernel reads the rest of the page through the write-only handle."""
    rig.start()
    put(rig.path("f"), b"x" * 10000)
    rig.remount()
    fd = os.open(rig.path("f"), os.O_WRONLY)
    os.pwrite(fd, b"YY", 5000)
    os.close(fd)
    want = b"x" * 5000 + b"YY" + b"x" * 4998
    assert get(rig.path("f")) == want
    rig.remount()
    assert get(rig.path("f")) == want


def test_odd_direct_io(rig):
    """O_DIRECT at any alignment, mixed with cached reads."""
    rig.start()
    rng = random.Random(5)
    model = bytearray()
    fd = os.open(rig.path("f"), os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    for _ in range(120):
        off = rng.randint(0, 300000)
        data = rng.randbytes(rng.choice([1, 3, 511, 513, 4095, 4097, 70001]))
        assert os.pwrite(fd, data, off) == len(data)
        if off + len(data) > len(model):
            model.extend(bytes(off + len(data) - len(model)))
        model[off:off + len(data)] = data
        at, size = rng.randint(0, 300000), rng.randint(1, 100000)
        assert os.pread(fd, size, at) == bytes(model[at:at + size])
    os.close(fd)
    assert get(rig.path("f")) == bytes(model)
    rig.remount()
    assert get(rig.path("f")) == bytes(model)


def test_mmap_shared(rig):
    rig.start()
    size = 3 << 20
    fd = os.open(rig.path("m"), os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, size)
    model = bytearray(size)
    rng = random.Random(9)
    with mmap.mmap(fd, size) as m:
        for _ in range(300):
            off = rng.randint(0, size - 5000)
            data = rng.randbytes(rng.randint(1, 5000))
            m[off:off + len(data)] = data
            model[off:off + len(data)] = data
        m.flush()
        os.pwrite(fd, b"through write", 1000)
        model[1000:1013] = b"through write"
        assert m[1000:1013] == b"through write"
    os.close(fd)
    assert get(rig.path("m")) == bytes(model)
    rig.remount()
    assert get(rig.path("m")) == bytes(model)
    rig.umount()
    rig.fsck()


def test_thousand_xattrs(rig):
    rig.start()
    put(rig.path("f"), b"")
    big = random.Random(2).randbytes(65536)
    for n in range(1000):
        os.setxattr(rig.path("f"), f"user.n{n}", b"value %d" % n)
    os.setxattr(rig.path("f"), "user.big", big)
    os.setxattr(rig.path("f"), "user.empty", b"")
    fails(errno.EEXIST, os.setxattr, rig.path("f"), "user.n1", b"",
          os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, rig.path("f"), "user.no", b"",
          os.XATTR_REPLACE)
    fails(errno.ENODATA, os.getxattr, rig.path("f"), "user.no")
    os.removexattr(rig.path("f"), "user.n500")
    rig.remount()
    names = os.listxattr(rig.path("f"))
    assert len(names) == 1001 and "user.n500" not in names
    for n in (0, 1, 499, 501, 999):
        assert os.getxattr(rig.path("f"), f"user.n{n}") == b"value %d" % n
    assert os.getxattr(rig.path("f"), "user.big") == big
    assert os.getxattr(rig.path("f"), "user.empty") == b""
    rig.umount()
    rig.fsck()


def test_acls(rig):
    bale.need("setfacl", "getfacl")
    bale.need_root()
    rig.start(opts="allow_other")
    d = rig.path("d")
    os.mkdir(d)
    bale.run("setfacl", "-m", "u:1234:rwx,d:u:1234:rw,d:g:99:r", d)
    old = os.umask(0)
    put(os.path.join(d, "f"), b"x")
    os.umask(old)
    os.mkdir(os.path.join(d, "sub"))
    rig.remount("allow_other")
    got = bale.run("getfacl", "-p", "-n", os.path.join(d, "f")).stdout
    assert "user:1234:rw-" in got and "group:99:r--" in got, got
    got = bale.run("getfacl", "-p", "-n", os.path.join(d, "sub")).stdout
    assert "default:user:1234:rw-" in got, got
    put(rig.path("only"), b"secret")
    os.chmod(rig.path("only"), 0o600)
    bale.run("setfacl", "-m", "u:1234:r", rig.path("only"))
    bale.run("setpriv", "--reuid=1234", "--clear-groups", "cat",
             rig.path("only"))
    bale.run("setpriv", "--reuid=1235", "--clear-groups", "cat",
             rig.path("only"), ok=(1,))


def test_sparse_far_out(rig):
    rig.start()
    fd = os.open(rig.path("s"), os.O_CREAT | os.O_RDWR)
    for off in (0, 1 << 33, (1 << 61) + 5):
        os.pwrite(fd, b"here", off)
    assert os.fstat(fd).st_size == (1 << 61) + 9
    os.fsync(fd)
    os.close(fd)
    rig.remount()
    fd = os.open(rig.path("s"), os.O_RDWR)
    assert os.pread(fd, 10, (1 << 61) + 3) == b"\0\0here"
    assert os.pread(fd, 100, 1 << 40) == bytes(100)
    assert os.fstat(fd).st_blocks < 100000
    # A cached write there is refused when the kernel writes it out.
    fails(errno.EFBIG, os.ftruncate, fd, (1 << 62) + 1)
    os.ftruncate(fd, (1 << 33) + 2)
    assert os.pread(fd, 10, 1 << 33) == b"he"
    os.ftruncate(fd, (1 << 33) + 4)
    assert os.pread(fd, 10, 1 << 33) == b"he\0\0"
    os.close(fd)
    rig.umount()
    rig.fsck()


def holes(fd, size):
    """[(start, end)] of data by SEEK_DATA and SEEK_HOLE."""
    out, pos = [], 0
    while pos < size:
        try:
            pos = os.lseek(fd, pos, SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            break
        end = os.lseek(fd, pos, SEEK_HOLE)
        out.append((pos, end))
        pos = end
    return out


def test_seek_hole_data(rig):
    rig.start()
    fd = os.open(rig.path("h"), os.O_CREAT | os.O_RDWR)
    for off in (1 << 20, 8 << 20):
        os.pwrite(fd, os.urandom(300000), off)
    os.ftruncate(fd, 20 << 20)
    for again in (False, True):
        got = holes(fd, 20 << 20)
        for off in (1 << 20, 8 << 20):
            assert any(a <= off and b >= off + 300000 for a, b in got), got
        assert sum(b - a for a, b in got) < 2 << 20, got
        fails(errno.ENXIO, os.lseek, fd, 20 << 20, SEEK_DATA)
        assert os.lseek(fd, 19 << 20, SEEK_HOLE) == 19 << 20
        os.close(fd)
        if not again:
            rig.remount()
            fd = os.open(rig.path("h"), os.O_RDWR)


def test_access_times(rig):
    """strictatime: the first read after each open counts, though the kernel
    has the pages."""
    rig.start(opts="strictatime")
    path = rig.path("f")
    with open(path, "wb") as f:
        f.write(b"x" * 5000)
    last = os.stat(path).st_atime_ns
    for _ in range(3):
        time.sleep(0.02)
        with open(path, "rb") as f:
            f.read()
        assert os.stat(path).st_atime_ns > last, "not changed by a read"
        last = os.stat(path).st_atime_ns
    rig.umount()


def test_fallocate(rig):
    rig.start()
    keep, punch, zero = 1, 2, 16
    fd = os.open(rig.path("f"), os.O_CREAT | os.O_RDWR)
    model = bytearray(os.urandom(1 << 20))
    os.pwrite(fd, model, 0)

    def fallocate(mode, off, size):
        libc("fallocate", fd, mode, ctypes.c_int64(off), ctypes.c_int64(size))
    fallocate(punch | keep, 100000, 400000)
    model[100000:500000] = bytes(400000)
    assert os.pread(fd, 2 << 20, 0) == model
    fallocate(zero, 900000, 300000)
    model[900000:] = bytes(300000)
    assert os.fstat(fd).st_size == 1200000
    assert os.pread(fd, 2 << 20, 0) == model
    fallocate(keep, 0, 4 << 20)
    assert os.fstat(fd).st_size == 1200000
    fallocate(0, 0, 2 << 20)
    model.extend(bytes((2 << 20) - len(model)))
    assert os.pread(fd, 4 << 20, 0) == model
    for refused_by_the_kernel in (8, 32):  # collapse, insert
        fails(errno.EOPNOTSUPP, fallocate, refused_by_the_kernel, 0, 128 << 10)
    os.close(fd)
    rig.remount()
    assert get(rig.path("f")) == model


def test_seek_sees_what_the_kernel_still_holds(rig):
    """Written, not synced, still open: data, not a hole."""
    rig.start()
    fd = os.open(rig.path("f"), os.O_CREAT | os.O_RDWR)
    for n in range(20):
        os.ftruncate(fd, (n + 1) << 20)
        os.pwrite(fd, b"data", (n << 20) + 500000)
        at = os.lseek(fd, n << 20, SEEK_DATA)
        assert n << 20 <= at <= (n << 20) + 500000, at
    other = os.open(rig.path("f"), os.O_RDONLY)
    os.pwrite(fd, b"data", 40 << 20)
    assert os.lseek(other, 30 << 20, SEEK_DATA) >= 39 << 20
    assert os.pread(fd, 4, 40 << 20) == b"data"
    os.close(fd)
    os.close(other)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int),
                ("data", ctypes.c_ubyte * 128)]


def handle_of(path):
    h, mount_id = Handle(bytes=128), ctypes.c_int()
    libc("name_to_handle_at", -100, path.encode(), ctypes.byref(h),
         ctypes.byref(mount_id), 0)
    return h


def test_open_by_handle(rig):
    bale.need_root()
    rig.start()
    os.makedirs(rig.path("a", "b"))
    put(rig.path("a", "b", "f"), b"by handle")
    h = handle_of(rig.path("a", "b", "f"))
    put(rig.path("gone"), b"x")
    gone = handle_of(rig.path("gone"))
    os.unlink(rig.path("gone"))
    for remount in (False, True):
        if remount:
            rig.remount()
        drop_caches()
        top = os.open(rig.mnt, os.O_RDONLY)
        fd = libc("open_by_handle_at", top, ctypes.byref(h), os.O_RDONLY)
        assert os.read(fd, 100) == b"by handle"
        os.close(fd)
        fails(errno.ESTALE, libc, "open_by_handle_at", top,
              ctypes.byref(gone), os.O_RDONLY)
        os.close(top)


@bale.limit(300)
def test_readdir_while_deleting(rig):
    """Every name that stays is listed exactly once."""
    rig.start()
    nr = int(os.environ.get("BALEFS_TEST_ENTRIES", "100000"))
    d = rig.path("d")
    os.mkdir(d)
    for n in range(nr):
        os.close(os.open(f"{d}/{n}", os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(d) as it:
        for e in it:
            seen.append(int(e.name))
            if len(seen) % 2:
                os.unlink(f"{d}/{e.name}")
    gone = set(seen[::2])
    assert len(seen) == len(set(seen)) == nr
    rest = sorted(int(n) for n in os.listdir(d))
    assert rest == sorted(set(range(nr)) - gone)
    for n in rest:
        os.unlink(f"{d}/{n}")
    os.rmdir(d)
    rig.umount()
    rig.fsck()


def test_rename_flags(rig):
    rig.start()
    put(rig.path("a"), b"A")
    put(rig.path("b"), b"B")
    noreplace, exchange = 1, 2

    def rename(a, b, flags):
        libc("renameat2", -100, rig.path(a).encode(), -100,
             rig.path(b).encode(), flags)
    fails(errno.EEXIST, rename, "a", "b", noreplace)
    rename("a", "b", exchange)
    assert (get(rig.path("a")), get(rig.path("b"))) == (b"B", b"A")
    os.mkdir(rig.path("d"))
    rename("a", "d", exchange)
    assert os.path.isdir(rig.path("a")) and get(rig.path("d")) == b"B"
    rename("d", "new", noreplace)
    fails(errno.EINVAL, os.rename, rig.path("a"), rig.path("a", "x"))
    rig.umount()
    rig.fsck()


def test_rename_over_keeps_whole_content(rig):
    rig.start()
    for n in range(30):
        put(rig.path("tmp"), b"%d " % n * 20000)
        os.rename(rig.path("tmp"), rig.path("f"))
        assert get(rig.path("f")) == b"%d " % n * 20000
    rig.remount()
    assert get(rig.path("f")) == b"29 " * 20000


def test_special_files_and_names(rig):
    bale.need_root()
    rig.start()
    os.mkfifo(rig.path("fifo"), 0o640)
    os.mknod(rig.path("dev"), stat.S_IFBLK | 0o600, os.makedev(8, 17))
    os.mknod(rig.path("sock"), stat.S_IFSOCK | 0o600)
    long = "n" * 255
    put(rig.path(long), b"long")
    fails(errno.ENAMETOOLONG, put, rig.path("n" * 256), b"")
    odd = bytes(b for b in range(1, 256) if b != 0x2f)
    put(os.fsencode(rig.mnt) + b"/" + odd, b"odd")
    os.symlink("t" * 4095, rig.path("link"))
    rig.remount()
    assert stat.S_ISFIFO(os.stat(rig.path("fifo")).st_mode)
    assert os.stat(rig.path("dev")).st_rdev == os.makedev(8, 17)
    assert stat.S_ISSOCK(os.stat(rig.path("sock")).st_mode)
    assert get(rig.path(long)) == b"long"
    assert odd in os.listdir(os.fsencode(rig.mnt))
    assert os.readlink(rig.path("link")) == "t" * 4095
    rig.umount()
    rig.fsck()


def test_links(rig):
    rig.start()
    put(rig.path("f"), b"x")
    for n in range(50):
        os.link(rig.path("f"), rig.path(f"l{n}"))
    assert os.stat(rig.path("f")).st_nlink == 51
    os.unlink(rig.path("f"))
    rig.remount()
    assert os.stat(rig.path("l7")).st_nlink == 50
    assert len({os.stat(rig.path(f"l{n}")).st_ino for n in range(50)}) == 1
    rig.umount()
    rig.fsck()


def test_inode_numbers_are_not_reused(rig):
    rig.start()
    seen = set()
    for n in range(300):
        put(rig.path("f"), b"x")
        ino = os.stat(rig.path("f")).st_ino
        assert ino not in seen
        seen.add(ino)
        os.unlink(rig.path("f"))
        if n == 150:
            rig.remount()


def test_suid_is_cleared(rig):
    """A write, chown or truncate by an ordinary user ends suid and sgid."""
    bale.need_root()
    for opts in ("allow_other", "allow_other,io=direct"):
        if not os.path.exists(rig.store):
            rig.mkfs()
        rig.mount(opts)
        os.chmod(rig.mnt, 0o777)
        for action in ("printf x >>F", "printf x | dd of=F conv=notrunc",
                       "truncate -s 3 F", ": >F", "fallocate -l 9 F"):
            put(rig.path("f"), b"content")
            os.chown(rig.path("f"), 1234, 1234)
            os.chmod(rig.path("f"), 0o6777)
            bale.run("setpriv", "--reuid=1234", "--regid=1234",
                     "--clear-groups", "sh", "-c",
                     action.replace("F", rig.path("f")))
            mode = stat.S_IMODE(os.stat(rig.path("f")).st_mode)
            assert mode == 0o777, f"{opts}: {action}: {mode:o}"
            os.unlink(rig.path("f"))
        rig.umount()


def test_chattr(rig):
    bale.need_root()
    rig.start()
    put(rig.path("f"), b"x")
    fd = os.open(rig.path("f"), os.O_RDONLY)

    def set_flags(flags):
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("I", flags))

    def get_flags():
        return struct.unpack("I", fcntl.ioctl(fd, FS_IOC_GETFLAGS,
                                              struct.pack("I", 0)))[0]
    immutable, append, compress, nocomp = 0x10, 0x20, 0x4, 0x400
    set_flags(immutable)
    assert get_flags() == immutable
    fails(errno.EPERM, os.unlink, rig.path("f"))
    fails(errno.EPERM, os.open, rig.path("f"), os.O_WRONLY)
    set_flags(append)
    fails(errno.EPERM, os.open, rig.path("f"), os.O_WRONLY)
    put(rig.path("f"), b"y", os.O_APPEND)
    set_flags(compress)
    assert get_flags() == compress
    set_flags(nocomp)
    os.close(fd)
    rig.remount()
    fd = os.open(rig.path("f"), os.O_RDONLY)
    assert get_flags() == nocomp
    os.close(fd)
    assert get(rig.path("f")) == b"xy"


def test_times(rig):
    rig.start()
    put(rig.path("f"), b"x")
    os.utime(rig.path("f"), ns=(123456789987654321, -5000000001))
    st = os.stat(rig.path("f"))
    assert (st.st_atime_ns, st.st_mtime_ns) == (123456789987654321, -5000000001)
    rig.remount()
    st = os.stat(rig.path("f"))
    assert (st.st_atime_ns, st.st_mtime_ns) == (123456789987654321, -5000000001)
    put(rig.path("f"), b"y")
    after = os.stat(rig.path("f"))
    assert after.st_mtime_ns > st.st_mtime_ns
    assert after.st_ctime_ns > st.st_ctime_ns
    before = os.stat(rig.mnt).st_mtime_ns
    put(rig.path("g"), b"")
    assert os.stat(rig.mnt).st_mtime_ns > before


def test_copy_file_range(rig):
    rig.start()
    data = corpus.content(random.Random(4), "mixed", 2 << 20)
    put(rig.path("a"), data)
    src, dst = os.open(rig.path("a"), os.O_RDONLY), os.open(
        rig.path("b"), os.O_CREAT | os.O_RDWR)
    done = 0
    while done < len(data):
        done += os.copy_file_range(src, dst, len(data) - done)
    assert os.pread(dst, len(data), 0) == data
    assert os.copy_file_range(src, dst, 1000, 777, 131073) == 1000
    want = bytearray(data)
    want[131073:132073] = data[777:1777]
    assert os.pread(dst, len(data), 0) == want
    os.pwrite(dst, b"own", 0)
    assert os.pread(src, 3, 0) == data[:3]
    os.close(src)
    os.close(dst)
    rig.remount()
    assert get(rig.path("a")) == data
    want[:3] = b"own"
    assert get(rig.path("b")) == want
    rig.umount()
    rig.fsck()


def test_locks(rig):
    rig.start()
    put(rig.path("f"), b"x")
    a, b = (os.open(rig.path("f"), os.O_RDWR) for _ in "ab")
    fcntl.flock(a, fcntl.LOCK_EX)
    fails(errno.EAGAIN, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(b)


def test_errors(rig):
    rig.start()
    os.mkdir(rig.path("d"))
    put(rig.path("d", "f"), b"x")
    fails(errno.ENOTEMPTY, os.rmdir, rig.path("d"))
    fails(errno.ENOTDIR, os.rmdir, rig.path("d", "f"))
    fails(errno.EISDIR, os.unlink, rig.path("d"))
    fails(errno.ENOENT, os.stat, rig.path("no"))
    fails(errno.ENOTDIR, os.stat, rig.path("d", "f", "x"))
    fails(errno.EEXIST, os.mkdir, rig.path("d"))
    fails(errno.EISDIR, os.open, rig.path("d"), os.O_WRONLY)
    fails(errno.ENOTTY, fcntl.ioctl, os.open(rig.mnt, 0), 0x1234)
    fd = os.open(rig.path("d", "f"), os.O_RDONLY)
    assert os.pread(fd, 10, 1 << 60) == b""
    os.close(fd)


def test_statfs_is_the_backing_filesystem(rig):
    rig.start()
    here, there = os.statvfs(rig.mnt), os.statvfs(rig.store)
    assert here.f_namemax == 255
    total = there.f_blocks * there.f_frsize
    assert abs(here.f_blocks * here.f_frsize - total) <= total // 50
    assert here.f_bavail * here.f_frsize <= there.f_bfree * there.f_frsize


def test_sync_of_open_files_within_commit_time(rig):
    """Promise 3: pages that only the kernel has do not outlive commit=."""
    bale.need_root()
    rig.mkfs()
    rig.mount("commit=0.3", foreground=True)
    fd = os.open(rig.path("f"), os.O_CREAT | os.O_RDWR)
    os.write(fd, b"not synced" * 1000)
    threading.Event().wait(3)
    rig.daemon.kill()
    rig.daemon.wait()
    rig.daemon = None
    fails(errno.ENOTCONN, os.close, fd)
    bale.run("umount", "-l", rig.mnt)
    rig.mount()
    assert get(rig.path("f")) == b"not synced" * 1000


bale.main()
