#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare.py - balefs beside its references, in the same run.

    compare.py [--balefs BIN] [--memfs BIN] [--work DIR] [--data DIR]
               [--size MIB] [--files N] [--json FILE] [CASE ...]

Cases:
    btrfs   real data: write, cold read, CPU-seconds, space; the reference is
            btrfs compress-force=zstd:1 on a loop file on the same disk
    memory  data that does not shrink, one stream, cached and direct, and
            create/stat/readdir/unlink; the reference is memfs, a FUSE
            program that only copies memory
    fsync   4 KiB append + fsync; the reference is the disk's own filesystem
    small   many small files: create, find, rm, bytes of index a file
    mount   time to mount with few and with many extents
    rss     the daemon's memory while much data passes through

Needs root, /dev/fuse, loop devices, mkfs.btrfs. CPU-seconds are those of the
whole machine (/proc/stat), so let it be otherwise idle. Every figure is printed
beside its reference; ratios hold on a noisy machine, seconds do not.
"""
import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

CHUNK = 1 << 20


def run(*argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **kw)


def busy_seconds():
    """CPU-seconds the whole machine has spent working."""
    with open("/proc/stat", encoding="ascii") as f:
        v = [int(x) for x in f.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = v
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Timer:
    def __enter__(self):
        self.cpu0, self.t0 = busy_seconds(), time.monotonic()
        return self

    def __exit__(self, *exc):
        self.seconds = time.monotonic() - self.t0
        self.cpu = busy_seconds() - self.cpu0


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")


def du_bytes(path):
    total = 0
    for root, dirs, files in os.walk(path):
        for name in files + dirs:
            total += os.lstat(os.path.join(root, name)).st_blocks * 512
    return total


def tree_bytes(path):
    return sum(os.lstat(os.path.join(r, n)).st_size
               for r, _d, names in os.walk(path) for n in names)


class Report:
    def __init__(self):
        self.rows = []

    def add(self, case, what, ours, reference, unit, higher_is_better=True):
        ratio = None
        if ours is not None and reference:
            ratio = ours / reference
        self.rows.append(dict(case=case, what=what, balefs=ours,
                              reference=reference, unit=unit, ratio=ratio,
                              higher_is_better=higher_is_better))
        fmt = lambda v: "-" if v is None else f"{v:,.3g}" if v < 1000 else f"{v:,.0f}"
        print(f"{case:7} {what:34} {fmt(ours):>10} {fmt(reference):>10} "
              f"{unit:8} {'' if ratio is None else f'x{ratio:.2f}':>7} "
              f"{'more' if higher_is_better else 'less'} is better", flush=True)


class Bench:
    def __init__(self, a):
        self.a = a
        self.report = Report()
        os.makedirs(a.work, exist_ok=True)

    def path(self, name):
        return os.path.join(self.a.work, name)

    @contextlib.contextmanager
    def balefs(self, *options, store="store", fresh=True):
        st, mnt = self.path(store), self.path("mnt")
        os.makedirs(mnt, exist_ok=True)
        if fresh:
            shutil.rmtree(st, ignore_errors=True)
            run(self.a.balefs, "mkfs", st)
        opts = ["-o", ",".join(options)] if options else []
        run(self.a.balefs, "mount", st, mnt, *opts)
        try:
            yield mnt
        finally:
            run(self.a.balefs, "umount", mnt)

    @contextlib.contextmanager
    def memfs(self, direct=False):
        mnt = self.path("memmnt")
        os.makedirs(mnt, exist_ok=True)
        p = subprocess.Popen([self.a.memfs] + (["-o", "direct"] if direct
                                               else []) + [mnt])
        while not os.path.ismount(mnt):
            time.sleep(0.02)
        self.fit_bdi(mnt)
        try:
            yield mnt
        finally:
            run("umount", mnt)
            p.wait(30)

    @staticmethod
    def fit_bdi(mnt):
        """The mount helper of balefs widens read-ahead: the same for memfs."""
        dev = os.stat(mnt).st_dev
        bdi = f"/sys/class/bdi/{os.major(dev)}:{os.minor(dev)}"
        for name, value in (("read_ahead_kb", "4096"), ("max_ratio", "100")):
            with contextlib.suppress(OSError):
                with open(f"{bdi}/{name}", "w", encoding="ascii") as f:
                    f.write(value)

    @contextlib.contextmanager
    def btrfs(self, size):
        img, mnt = self.path("btrfs.img"), self.path("btrfsmnt")
        os.makedirs(mnt, exist_ok=True)
        with open(img, "wb") as f:
            f.truncate(size)
        run("mkfs.btrfs", "-q", "-f", img)
        run("mount", "-o", "loop,compress-force=zstd:1,noatime", img, mnt)
        try:
            yield mnt, img
        finally:
            run("umount", mnt)
            os.unlink(img)

    # ---- cases ----

    def write_tree(self, mnt):
        """Copy the data, make it durable; seconds and CPU-seconds."""
        with Timer() as t:
            run("cp", "-r", self.a.data, os.path.join(mnt, "data"))
            with contextlib.suppress(OSError):
                fd = os.open(mnt, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            run("sync", "-f", mnt)
        return t

    def read_tree(self, mnt):
        with Timer() as t:
            run("sh", "-c", 'find "$0" -type f -print0 | xargs -0 cat',
                os.path.join(mnt, "data"))
        return t

    def case_btrfs(self):
        add = self.report.add
        size = tree_bytes(self.a.data)
        mib = size / (1 << 20)
        run("sh", "-c", 'find "$0" -type f -print0 | xargs -0 cat', self.a.data)

        with self.btrfs(4 * size + (2 << 30)) as (mnt, img):
            ref_w = self.write_tree(mnt)
            s = os.statvfs(mnt)
            ref_used = (s.f_blocks - s.f_bfree) * s.f_frsize
            run("umount", mnt)
            run("mount", "-o", "loop,compress-force=zstd:1,noatime", img, mnt)
            drop_caches()
            ref_r = self.read_tree(mnt)
        start = Timer()
        with start:
            with self.balefs() as mnt:
                our_w = self.write_tree(mnt)
        used = du_bytes(self.path("store"))
        with self.balefs(fresh=False) as mnt:
            drop_caches()
            our_r = self.read_tree(mnt)
        add("btrfs", "write MiB/s (until synced)", mib / our_w.seconds,
            mib / ref_w.seconds, "MiB/s")
        add("btrfs", "write + umount MiB/s", mib / start.seconds, None, "MiB/s")
        add("btrfs", "write CPU-s per GiB", our_w.cpu / mib * 1024,
            ref_w.cpu / mib * 1024, "s/GiB", False)
        add("btrfs", "cold read MiB/s", mib / our_r.seconds,
            mib / ref_r.seconds, "MiB/s")
        add("btrfs", "read CPU-s per GiB", our_r.cpu / mib * 1024,
            ref_r.cpu / mib * 1024, "s/GiB", False)
        add("btrfs", "space ratio, metadata included", size / used,
            size / ref_used, "x")

    def stream(self, path, mib, block):
        """One stream: written, then read back cold from the kernel."""
        buf = block * (CHUNK // len(block))
        with Timer() as w:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            for _ in range(mib):
                os.write(fd, buf)
            os.close(fd)
        drop = os.open(path, os.O_RDONLY)
        os.fsync(drop)
        os.posix_fadvise(drop, 0, 0, os.POSIX_FADV_DONTNEED)
        with Timer() as r:
            while os.read(drop, CHUNK):
                pass
        os.close(drop)
        return mib / w.seconds, mib / r.seconds

    def names(self, mnt, n):
        d = mnt
        rates = {}
        with Timer() as t:
            for i in range(n):
                os.close(os.open(f"{d}/f{i}", os.O_CREAT | os.O_WRONLY, 0o644))
        rates["create"] = n / t.seconds
        drop_caches()
        with Timer() as t:
            count = len(os.listdir(d))
        assert count >= n, (count, n)
        rates["readdir"] = count / t.seconds
        drop_caches()
        with Timer() as t:
            for i in range(n):
                os.stat(f"{d}/f{i}")
        rates["stat"] = n / t.seconds
        with Timer() as t:
            for i in range(n):
                os.unlink(f"{d}/f{i}")
        rates["unlink"] = n / t.seconds
        return rates

    def case_memory(self):
        block = os.urandom(CHUNK)
        for io in ("cached", "direct"):
            with self.memfs(io == "direct") as mnt:
                ref = self.stream(f"{mnt}/s", self.a.size, block)
            with self.balefs(f"io={io}", "codec=raw") as mnt:
                ours = self.stream(f"{mnt}/s", self.a.size, block)
            for what, o, r in zip(("write", "read"), ours, ref):
                self.report.add("memory", f"one stream {what}, {io}", o, r,
                                "MiB/s")
        with self.memfs() as mnt:
            ref = self.names(mnt, self.a.files)
        with self.balefs() as mnt:
            ours = self.names(mnt, self.a.files)
        for what in ref:
            self.report.add("memory", f"{what}, {self.a.files} files",
                            ours[what], ref[what], "/s")

    @staticmethod
    def append_fsync(path, n):
        block = os.urandom(4096)
        lat = []
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for _ in range(n):
            t0 = time.perf_counter()
            os.write(fd, block)
            os.fsync(fd)
            lat.append(time.perf_counter() - t0)
        os.close(fd)
        return lat

    def case_fsync(self):
        n = 2000
        ref = self.append_fsync(self.path("plain"), n)
        os.unlink(self.path("plain"))
        with self.balefs() as mnt:
            ours = self.append_fsync(f"{mnt}/log", n)
        for p in (50, 90, 99):
            q = lambda v: statistics.quantiles(v, n=100)[p - 1] * 1e6
            self.report.add("fsync", f"4 KiB append + fsync, p{p}", q(ours),
                            q(ref), "us", False)

    def case_small(self):
        n = self.a.files * 10
        per_dir = 1000
        with self.balefs() as mnt:
            with Timer() as t:
                for i in range(n):
                    if i % per_dir == 0:
                        os.mkdir(f"{mnt}/d{i // per_dir}")
                    with open(f"{mnt}/d{i // per_dir}/f{i}", "wb") as f:
                        f.write(b"small file %d\n" % i * 8)
            create = n / t.seconds
            drop_caches()
            with Timer() as t:
                run("find", mnt, "-type", "f", "-newermt", "2000-01-01")
            find = n / t.seconds
            subprocess.run([self.a.balefs, "stats", mnt], check=False,
                           stdout=subprocess.DEVNULL)
            os.sync()
        index = du_bytes(self.path("store/index"))
        total = du_bytes(self.path("store"))
        with self.balefs(fresh=False) as mnt:
            with Timer() as t:
                run("rm", "-rf", *[f"{mnt}/{d}" for d in os.listdir(mnt)])
            remove = n / t.seconds
        add = self.report.add
        add("small", f"create + write, {n} files", create, None, "/s")
        add("small", "find with stat", find, None, "/s")
        add("small", "rm -rf", remove, None, "/s")
        add("small", "index bytes a file", index / n, None, "B", False)
        add("small", "store bytes a file", total / n, None, "B", False)

    def fill_extents(self, mnt, nr_extents):
        """Extents of 128 KiB that shrink to almost nothing, but are no holes."""
        block = bytearray(128 << 10)
        fd = os.open(f"{mnt}/big", os.O_WRONLY | os.O_CREAT, 0o644)
        for i in range(nr_extents):
            block[:8] = i.to_bytes(8, "little")
            os.write(fd, block)
        os.fsync(fd)
        os.close(fd)

    def case_mount(self):
        times = {}
        for n in (1000, self.a.extents):
            with self.balefs() as mnt:
                self.fill_extents(mnt, n)
            drop_caches()
            lat = []
            for _ in range(3):
                t0 = time.monotonic()
                with self.balefs(fresh=False):
                    lat.append(time.monotonic() - t0)
            times[n] = min(lat) * 1000
        self.report.add("mount", f"{self.a.extents} extents; ref. 1000",
                        times[self.a.extents], times[1000], "ms", False)

    def case_rss(self):
        cache = 256
        with self.balefs(f"cache={cache}M") as mnt:
            pid = int(subprocess.check_output(
                ["fuser", self.path("store/lock")],
                stderr=subprocess.DEVNULL).split()[0])
            block = os.urandom(CHUNK // 2) + bytes(CHUNK // 2)
            peak = 0
            for i in range(self.a.pass_gib * 4):
                self.stream(f"{mnt}/s{i % 3}", 256, block)
                with open(f"/proc/{pid}/status", encoding="ascii") as f:
                    rss = next(int(l.split()[1]) for l in f
                               if l.startswith("VmHWM"))
                peak = max(peak, rss >> 10)
        self.report.add("rss", f"MiB at peak, {self.a.pass_gib} GiB passed; "
                        "ref. the bound", peak, cache + 256, "MiB", False)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--balefs", default="build/tools/balefs")
    p.add_argument("--memfs", default="build/tests/perf/memfs")
    p.add_argument("--work", default="/var/tmp/balefs-compare")
    p.add_argument("--data", default="/usr/lib/x86_64-linux-gnu",
                   help="real data to copy in")
    p.add_argument("--size", type=int, default=1024, help="MiB of a stream")
    p.add_argument("--files", type=int, default=20000)
    p.add_argument("--extents", type=int, default=1000000)
    p.add_argument("--pass-gib", type=int, default=8)
    p.add_argument("--json", help="write the figures there")
    p.add_argument("cases", nargs="*", default=[])
    a = p.parse_args()
    a.balefs, a.memfs = os.path.abspath(a.balefs), os.path.abspath(a.memfs)
    bench = Bench(a)
    known = [n[5:] for n in dir(Bench) if n.startswith("case_")]
    for case in a.cases or ["btrfs", "memory", "fsync", "small", "mount", "rss"]:
        if case not in known:
            p.error(f"no case {case}; there are {', '.join(known)}")
    print(f"{'case':7} {'what':34} {'balefs':>10} {'reference':>10}")
    try:
        for case in a.cases or ["btrfs", "memory", "fsync", "small", "mount",
                                "rss"]:
            getattr(bench, f"case_{case}")()
    finally:
        if a.json:
            with open(a.json, "w", encoding="ascii") as f:
                json.dump(bench.report.rows, f, indent=1)
        shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
