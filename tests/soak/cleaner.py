#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cleaner through a mount: a store on a small disk of its own, overwritten
at random by several writers for a long time, files replaced, everything
recompressed meanwhile, all compared at the end.

First the cleaner is held still (on a disk that is far from full yet), then it
works, in intervals: one line each. Asserts what testing.md promises of space
and of the longest write. As root.

    BALEFS=build/tools/balefs CLEAN_MOUNT=build/tests/fault/clean_mount \
        tests/soak/cleaner.py --seconds 1200
"""
import argparse
import json
import os
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(TOP, "..", "support"))
import bale

LOAD = os.environ.get("CLEAN_MOUNT", "clean_mount")
MIB = 1 << 20
WRITERS = FILES = 4
STORED = 0.4  # of what the load writes, about
LONGEST_MS = 500


class Load:
    """The program that works in the mount, told what to do line by line."""

    def __init__(self, args, probe):
        argv = [LOAD, WRITERS, FILES, args.file_mib, args.rate, args.seed,
                probe]
        self.p = subprocess.Popen([str(a) for a in argv], text=True,
                                  stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)

    def tell(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline()
        assert answer, f"the load ended at: {line}"
        return json.loads(answer)

    def end(self):
        self.p.stdin.close()
        assert self.p.wait(60) == 0


def disk(rig, mib):
    """An ext4 in a file: what balefs has under it can get full."""
    image, top = os.path.join(rig.dir, "image"), os.path.join(rig.dir, "disk")
    os.mkdir(top)
    with open(image, "wb") as f:
        f.truncate(mib * MIB)
    bale.run("mkfs.ext4", "-q", "-m", "0", image)
    bale.run("mount", "-o", "loop,discard", image, top)
    rig.undo.append(lambda: bale.run("umount", "-l", top))
    rig.store = os.path.join(top, "store")
    return top


def on_disk(rig):
    total = 0
    for folder, _dirs, names in os.walk(os.path.join(rig.store, "seg")):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:  # cleaned away meanwhile
                pass
    return total


def stats(rig):
    return json.loads(bale.run(bale.BALEFS, "stats", "--json", rig.mnt).stdout)


def ratio(rig):
    return on_disk(rig) / max(1, stats(rig)["segment_live_bytes"])


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        rss = [line for line in f if line.startswith("VmRSS:")]
    return int(rss[0].split()[1]) // 1024


def times(t):
    return (f"p50 {t['p50']:.2f} p99 {t['p99']:.1f} p99.9 {t['p999']:.1f} "
            f"max {t['max']:.0f} ms")


def interval(rig, load, seconds, name):
    before = stats(rig)
    r = load.tell(f"run {seconds}")
    now = stats(rig)
    s = os.statvfs(rig.store)
    r["ratio"] = ratio(rig)
    r["full"] = 1 - s.f_bavail / s.f_blocks
    r["rss"] = memory_mib(rig.daemon.pid)
    won = {k: (now[f"cleaner_{k}_bytes"] - before[f"cleaner_{k}_bytes"]) / MIB
           for k in ("freed", "punched", "copied")}
    r["copied"] = won["copied"] * MIB
    print(f"{name}: {r['bytes'] / MIB / r['seconds']:.1f} MiB/s, stored/live "
          f"{r['ratio']:.3f}, disk {r['full']:.0%} full, memory {r['rss']} "
          f"MiB; writes {r['write']['n']} {times(r['write'])}; fsync "
          f"{times(r['fsync'])}; disk {times(r['probe'])}; cleaner freed "
          f"{won['freed']:.0f} punched {won['punched']:.0f} copied "
          f"{won['copied']:.0f} MiB, "
          f"{now['cleaner_waits'] - before['cleaner_waits']} waits; "
          f"{r['replaced']} replaced, {r['recompressed']} recompressed",
          flush=True)
    return r


def settle(rig, want):
    end = time.monotonic() + 30
    os.sync()
    while ratio(rig) > want and time.monotonic() < end:
        time.sleep(1)
    return ratio(rig)


def go(rig, args):
    raw = WRITERS * FILES * args.file_mib
    live = raw * STORED
    # Room for log, index, checkpoints and what is dirty, uncompressed.
    over = 3 * args.cache + 160
    extra = args.still * args.rate * 2
    top = disk(rig, int(live * 100 / args.full + over + extra))
    # Direct: every write is a call to the daemon, none ends in the page cache.
    opts = f"io=direct,cache={args.cache}M"
    load = Load(args, os.path.join(top, "probe"))
    env = dict(os.environ, BALEFS_FAULT="cleaner.pass:1+:EAGAIN")
    rig.mkfs("segment=16M,log=4M")
    rig.mount(opts, foreground=True)
    load.tell(f"open {rig.mnt}")
    load.tell("fill")
    load.tell("close")
    rig.umount()
    rig.mount(opts, foreground=True, env=env)
    load.tell(f"open {rig.mnt}")
    still = interval(rig, load, args.still, "held still")
    load.tell("close")
    rig.umount()
    rig.mount(opts, foreground=True)
    load.tell(f"open {rig.mnt}")
    # What died in that time comes back; the disk is small from here on.
    print(f"stored/live {settle(rig, 1.25):.3f} before it starts")
    with open(os.path.join(top, "balloon"), "wb") as f:
        os.posix_fallocate(f.fileno(), 0, extra * MIB)
    rows, end = [], time.monotonic() + args.seconds
    while time.monotonic() < end:
        rows.append(interval(rig, load, args.interval, f"{len(rows)}"))
    rest = settle(rig, 1.25)
    load.tell("verify")
    load.tell("remove 2")
    removed = settle(rig, 1.25)
    print(f"at rest: stored/live {rest:.3f}, half removed {removed:.3f}")
    load.tell("verify")
    load.tell("close")
    rig.umount()
    rig.mount(opts, foreground=True)
    load.tell(f"open {rig.mnt}")
    load.tell("verify")
    load.tell("close")
    load.end()
    rig.umount()
    bale.run(bale.BALEFS, "fsck", "-n", "-f", "--deep", rig.store,
             timeout=3600)
    judge(args, still, rows, rest, removed)


def judge(args, still, rows, rest, removed):
    calm = rows[1:] or rows
    mean = sum(r["ratio"] for r in calm) / len(calm)
    longest = max(r["write"]["max"] for r in rows)
    bound = max(LONGEST_MS, 4 * still["write"]["max"],
                4 * max(r["probe"]["max"] for r in rows))
    written = sum(r["bytes"] for r in rows) * STORED
    print(f"{sum(r['seconds'] for r in rows):.0f} s, stored/live mean "
          f"{mean:.3f} max {max(r['ratio'] for r in rows):.3f}; longest write "
          f"{longest:.0f} ms (held still {still['write']['max']:.0f}, bound "
          f"{bound:.0f}); copied {sum(r['copied'] for r in rows) / written:.2f}"
          f" of what was stored; memory {calm[0]['rss']} to {calm[-1]['rss']} "
          "MiB")
    assert mean < 2, "stored/live at work"
    assert rest < 1.5 and removed < 1.5, "stored/live at rest"
    assert longest < bound, "longest write"
    grown = calm[-1]["rss"] - calm[len(calm) // 4]["rss"]
    assert grown < 64, f"memory grew by {grown} MiB"
    assert args.seconds < 60 or sum(r["recompressed"] for r in rows)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--seconds", type=int, default=1200)
    p.add_argument("--still", type=int, default=60,
                   help="seconds with the cleaner held still")
    p.add_argument("--interval", type=int, default=60)
    p.add_argument("--file-mib", type=int, default=64,
                   help=f"{WRITERS * FILES} files of this")
    p.add_argument("--full", type=int, default=75,
                   help="percent of the disk that live data takes")
    p.add_argument("--rate", type=int, default=24, help="MiB written a second")
    p.add_argument("--cache", type=int, default=64, help="MiB")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    bale.need_root()
    rig = bale.Rig()
    try:
        go(rig, args)
    except BaseException:
        print(rig.log()[-4000:])
        raise
    finally:
        rig.close()
    print("cleaner: as it should be")


if __name__ == "__main__":
    main()
