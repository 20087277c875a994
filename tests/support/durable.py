# SPDX-License-Identifier: Apache-2.0
"""Writers that remember what they were told is durable. They end with the
first error, or when told to stop; verify() then compares."""
import os
import random
import threading


class Writer(threading.Thread):
    """Appends, overwrites and renames with fsync; remembers what it was told
    is durable. A file is (generation, size) repeated, so a mix shows."""

    def __init__(self, top, seed):
        super().__init__(daemon=True)
        self.top, self.rng = top, random.Random(seed)
        self.durable = {}   # name -> content acknowledged
        self.pending = {}   # name -> content that may be there instead
        self.stopping = threading.Event()
        os.makedirs(top, exist_ok=True)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.one()
        except OSError:
            pass  # the daemon was killed

    def one(self):
        n = self.rng.randint(0, 20)
        name = os.path.join(self.top, f"f{n}")
        data = (b"%010d" % self.rng.randint(0, 10**9)) * self.rng.choice(
            [1, 7, 300, 5000, 30000])
        self.pending[name] = data
        with open(name + ".new", "wb") as f:
            f.write(data)
            os.fsync(f.fileno())
        os.rename(name + ".new", name)
        fd = os.open(self.top, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.durable[name] = data

    def verify(self):
        for name, data in self.durable.items():
            with open(name, "rb") as f:
                got = f.read()
            assert got in (data, self.pending[name]), \
                f"{name}: {len(got)} bytes {got[:20]}, want {data[:20]}"


class Appender(threading.Thread):
    """One log file with small fsynced appends."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.acked = path, 0
        self.stopping = threading.Event()

    def run(self):
        fd = -1
        try:
            fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            n = os.fstat(fd).st_size // 16
            while not self.stopping.is_set():
                os.write(fd, b"line %010d\n" % n)
                os.fdatasync(fd)
                n += 1
                self.acked = n * 16
        except OSError:
            pass
        try:
            os.close(fd)
        except OSError:
            pass  # not opened, or a write that failed

    def verify(self):
        with open(self.path, "rb") as f:
            got = f.read()
        assert len(got) >= self.acked, f"{len(got)} < {self.acked}"
        for n in range(len(got) // 16):
            assert got[n * 16:n * 16 + 16] == b"line %010d\n" % n, n
