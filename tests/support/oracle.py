# SPDX-License-Identifier: Apache-2.0
"""Workloads that know what must be there after the daemon was killed.

Each works in a folder of its own with one thread at a time: run() steps until
it is told to stop or gets an error, which is kept in .error. An fsync that
returned makes what it covers the oldest that may be seen; verify() compares,
and takes what it found for what must be there from then on: what was read
once must never go away again. unmounted() is for a clean unmount, behind
which the newest is there."""
import collections
import ctypes
import os
import random
import stat
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64,
                           ctypes.c_int64)
PUNCH = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
PAGE = 4096


def fsync_path(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Oracle:
    """close() lets go of what is open, for an unmount."""

    def __init__(self, name, seed):
        self.name, self.rng = name, random.Random(seed)
        self.fds = []
        self.top = self.thread = self.error = None
        self.stopping = threading.Event()
        self.acks = 0
        self.steps = 0
        self.history = collections.deque(maxlen=60)  # shown when it fails

    def start(self, mnt):
        self.top = os.path.join(mnt, self.name)
        self.error = None
        self.stopping.clear()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            os.makedirs(self.top, exist_ok=True)
            self.prepare()
            while not self.stopping.is_set():
                self.step()
                self.steps += 1
        except OSError as e:
            self.error = e
        except Exception as e:  # the workload's own mistake must show
            self.error = e

    def stop(self):
        self.stopping.set()

    def join(self, seconds=60):
        if self.thread:
            self.thread.join(seconds)
            assert not self.thread.is_alive(), f"{self.name} hangs"

    def prepare(self):
        pass

    def close(self):
        for fd in self.fds:
            try:
                os.close(fd)
            except OSError:
                pass  # the daemon is gone
        self.fds = []

    def open(self, name, flags):
        self.fds.append(os.open(os.path.join(self.top, name),
                                os.O_CREAT | flags, 0o600))
        return self.fds[-1]


class Blocks(Oracle):
    """One file of pages that name their place and version: written in place,
    punched, cut, grown; a page is whole, of the version last acknowledged or
    of a later one."""

    PAGES = 200

    def __init__(self, name, seed):
        super().__init__(name, seed)
        self.seed = seed
        self.version = 0
        self.allowed = [[0] for _ in range(self.PAGES)]
        self.sizes = [0]

    def page(self, n, v):
        if not v:
            return bytes(PAGE)
        head = b"%08x%04x%08x" % (self.seed, n, v)
        if v % 3:
            return (head * (PAGE // len(head) + 1))[:PAGE]
        return head + random.Random(head).randbytes(PAGE - len(head))

    def prepare(self):
        self.close()
        self.open("pages", os.O_RDWR)

    def step(self):
        fd = self.fds[0]
        dice = self.rng.random()
        first = self.rng.randrange(self.PAGES)
        nr = min(self.rng.choice((1, 1, 2, 8, 40)), self.PAGES - first)
        self.history.append((round(dice, 2), first, nr, self.version + 1))
        if dice < 0.6:
            self.version += 1
            for n in range(first, first + nr):
                self.allowed[n].append(self.version)
            self.sizes.append(max(self.sizes[-1], first + nr))
            data = b"".join(self.page(n, self.version)
                            for n in range(first, first + nr))
            done = os.pwrite(fd, data, first * PAGE)
            assert done == len(data), (done, len(data))
        elif dice < 0.68:
            for n in range(first, first + nr):
                self.allowed[n].append(0)
            if LIBC.fallocate(fd, PUNCH, first * PAGE, nr * PAGE):
                raise OSError(ctypes.get_errno(), "punch")
        elif dice < 0.75:
            for n in range(first, self.PAGES):
                self.allowed[n].append(0)
            self.sizes.append(first)
            os.ftruncate(fd, first * PAGE)
        else:
            os.fsync(fd)
            self.unmounted()
            self.acks += 1

    def unmounted(self):
        self.allowed = [[a[-1]] for a in self.allowed]
        self.sizes = [self.sizes[-1]]

    def verify(self):
        try:
            with open(os.path.join(self.top, "pages"), "rb") as f:
                got = f.read()
        except FileNotFoundError:
            assert self.sizes[0] == 0, "an acknowledged file is gone"
            got = b""
        size = len(got) // PAGE
        self.history.append(("found", size))
        assert len(got) % PAGE == 0 and \
            min(self.sizes) <= size <= max(self.sizes), \
            f"{self.name}: size {len(got)}, allowed {self.sizes}"
        found = []
        for n in range(self.PAGES):
            have = got[n * PAGE:(n + 1) * PAGE] or bytes(PAGE)
            for v in reversed(self.allowed[n]):
                if have == self.page(n, v):
                    found.append(v)
                    break
            else:
                raise AssertionError(f"{self.name}: page {n}: {have[:32]}, "
                                     f"allowed {self.allowed[n]}, last "
                                     f"steps {list(self.history)}")
        self.allowed = [[v] for v in found]
        self.sizes = [size]


class Names(Oracle):
    """A small tree of directories, files, links and attributes: after a kill
    it is the whole tree as it was after one of the operations, none older
    than the last acknowledged."""

    def __init__(self, name, seed):
        super().__init__(name, seed)
        self.moments = [{}]  # path -> (kind, tag or target)
        self.tags = 0

    def now(self):
        return self.moments[-1]

    def some(self, kinds):
        all_ = [p for p, v in self.now().items() if v[0] in kinds]
        return self.rng.choice(all_) if all_ else None

    def new_path(self):
        folder = self.some("d") if self.rng.random() < 0.6 else None
        name = f"n{self.rng.randrange(8)}"
        return f"{folder}/{name}" if folder else name

    def do(self, change, call, *paths):
        """change(state) is what call(*paths) does."""
        after = dict(self.now())
        change(after)
        self.moments.append(after)
        call(*(os.path.join(self.top, p) for p in paths))

    def step(self):
        if len(self.moments) > 40 or self.rng.random() < 0.1:
            fsync_path(self.top)
            self.unmounted()
            self.acks += 1
            return
        getattr(self, "op_" + self.rng.choice(
            ("create", "create", "mkdir", "link", "symlink", "rename",
             "rename", "unlink", "tag", "rmdir")))()

    def op_create(self):
        p = self.new_path()
        if p not in self.now():
            self.do(lambda s: s.update({p: ("f", b"")}),
                    lambda x: os.close(os.open(x, os.O_CREAT | os.O_EXCL |
                                               os.O_WRONLY)), p)

    def op_mkdir(self):
        p = self.new_path()
        if p not in self.now() and p.count("/") < 3:
            self.do(lambda s: s.update({p: ("d", b"")}), os.mkdir, p)

    def op_symlink(self):
        p, target = self.new_path(), f"to-{self.tags}"
        if p not in self.now():
            self.do(lambda s: s.update({p: ("l", target)}),
                    lambda x: os.symlink(target, x), p)

    def op_tag(self):
        p = self.some("f")
        if not p or self.nlink(p) != 1:
            return
        self.tags += 1
        tag = b"%d" % self.tags * self.rng.choice((1, 1, 300))
        self.do(lambda s: s.update({p: ("f", tag)}),
                lambda x: os.setxattr(x, "user.tag", tag), p)

    def nlink(self, path):
        """Names of one tag are names of one file; without a tag it has one."""
        v = self.now()[path]
        return sum(x == v for x in self.now().values()) if v[1] else 1

    def op_link(self):
        old, new = self.some("f"), self.new_path()
        if old and new not in self.now() and self.now()[old][1]:
            self.do(lambda s: s.update({new: s[old]}), os.link, old, new)

    def op_unlink(self):
        p = self.some("fl")
        if p:
            self.do(lambda s: s.pop(p), os.unlink, p)

    def op_rmdir(self):
        p = self.some("d")
        if p and not any(q.startswith(p + "/") for q in self.now()):
            self.do(lambda s: s.pop(p), os.rmdir, p)

    def op_rename(self):
        old, new = self.some("fdl"), self.new_path()
        s = self.now()
        if not old or new == old or new.startswith(old + "/") or \
                old.startswith(new + "/"):
            return
        if new in s and (s[new][0] == "d" or s[old][0] == "d" or
                         (s[old] == s[new] and s[old][1])):
            return  # two names of one file: nothing happens

        def change(after):
            for q in [q for q in after if q.startswith(old + "/")]:
                after[new + q[len(old):]] = after.pop(q)
            after[new] = after.pop(old)
        self.do(change, os.rename, old, new)

    def unmounted(self):
        self.moments = [self.now()]

    def look(self, folder="", ret=None):
        ret = {} if ret is None else ret
        for e in sorted(os.listdir(os.path.join(self.top, folder))):
            path = f"{folder}/{e}" if folder else e
            full = os.path.join(self.top, path)
            mode = os.lstat(full).st_mode
            if stat.S_ISDIR(mode):
                ret[path] = ("d", b"")
                self.look(path, ret)
            elif stat.S_ISLNK(mode):
                ret[path] = ("l", os.readlink(full))
            else:
                tag = b""
                if "user.tag" in os.listxattr(full):
                    tag = os.getxattr(full, "user.tag")
                ret[path] = ("f", tag)
        return ret

    def verify(self):
        try:
            got = self.look()
        except FileNotFoundError:
            assert not self.moments[0], "an acknowledged tree is gone"
            got = {}
        assert got in self.moments, \
            f"{self.name}: no moment has {sorted(got.items())}; " \
            f"first {sorted(self.moments[0].items())}; " \
            f"last {sorted(self.now().items())}"
        for path, v in got.items():
            if v[0] == "f" and v[1]:
                want = sum(x == v for x in got.values())
                have = os.lstat(os.path.join(self.top, path)).st_nlink
                assert have == want, (path, have, want)
        self.moments = [got]


class Replace(Oracle):
    """Write-new, rename-over, mostly without fsync: old or new, whole; none
    older than an acknowledged one."""

    def __init__(self, name, seed):
        super().__init__(name, seed)
        self.last = [[-1] for _ in range(4)]  # -1: not there
        self.gen = 0

    def content(self, gen):
        rng = random.Random(gen)
        size = rng.choice((1, 100, 3000, 70000, 400000))
        unit = b"%08d" % gen + (rng.randbytes(500) if gen % 2 else b"text")
        return (unit * (size // len(unit) + 1))[:max(size, 8)]

    def step(self):
        n = self.rng.randrange(len(self.last))
        self.gen += 1
        synced = self.rng.random() < 0.2
        new, name = (os.path.join(self.top, x) for x in ("new", f"f{n}"))
        with open(new, "wb", buffering=0) as f:
            f.write(self.content(self.gen))
            if synced:
                os.fsync(f.fileno())
        self.last[n].append(self.gen)
        os.rename(new, name)
        if synced:
            fsync_path(self.top)
            # Names are of one moment: the other files' renames came first.
            self.unmounted()
            self.acks += 1

    def unmounted(self):
        self.last = [a[-1:] for a in self.last]

    def verify(self):
        found = []
        for n, allowed in enumerate(self.last):
            try:
                with open(os.path.join(self.top, f"f{n}"), "rb") as f:
                    got = f.read()
            except FileNotFoundError:
                assert allowed[0] == -1, (self.name, n, allowed)
                found.append([-1])
                continue
            gen = int(got[:8] or b"-2")
            assert gen in allowed and got == self.content(gen), \
                f"{self.name}: f{n}: {len(got)} bytes of {gen}, {allowed}"
            found.append([gen])
        self.last = found


class Append(Oracle):
    """A log with an fdatasync behind each line."""

    def __init__(self, name, seed):
        super().__init__(name, seed)
        self.acked = self.begun = 0

    @staticmethod
    def content(first, end):
        text = b"".join(b"line %010d\n" % n
                        for n in range(first // 16, end // 16 + 1))
        return text[first % 16:first % 16 + end - first]

    def prepare(self):
        self.close()
        fd = self.open("log", os.O_WRONLY | os.O_APPEND)
        assert os.fstat(fd).st_size == self.begun

    def step(self):
        at = self.begun
        self.begun += self.rng.choice((16, 16, 100, 5000))
        os.write(self.fds[0], self.content(at, self.begun))
        os.fdatasync(self.fds[0])
        self.acked = self.begun
        self.acks += 1

    def unmounted(self):
        self.acked = self.begun

    def verify(self):
        try:
            with open(os.path.join(self.top, "log"), "rb") as f:
                got = f.read()
        except FileNotFoundError:
            got = b""
        assert self.acked <= len(got) <= self.begun, \
            f"{self.name}: {len(got)} not in {self.acked}..{self.begun}"
        assert got == self.content(0, len(got)), f"{self.name}: content"
        self.acked = self.begun = len(got)


class Unlinked(Oracle):
    """Files without a name that are still written, kept open: after a kill
    they are orphans. None may come back."""

    def prepare(self):
        self.close()

    def step(self):
        path = os.path.join(self.top, "gone")
        fd = self.open("gone", os.O_RDWR)
        os.pwrite(fd, self.rng.randbytes(3000) * 60, 0)
        os.unlink(path)
        os.pwrite(fd, b"x" * 200000, 100000)
        os.fsync(fd)
        self.acks += 1
        if len(self.fds) > 4:
            os.close(self.fds.pop(0))
        self.stopping.wait(0.02)

    def unmounted(self):
        pass

    def verify(self):
        if os.path.isdir(self.top):
            left = os.listdir(self.top)
            assert left in ([], ["gone"]), left
            if left:  # killed between the two calls
                os.unlink(os.path.join(self.top, "gone"))


def all_of(seed):
    return [Blocks("blocks", seed), Blocks("more", seed + 1),
            Names("names", seed), Replace("replace", seed),
            Append("append", seed), Unlinked("unlinked", seed)]
