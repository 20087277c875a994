# SPDX-License-Identifier: Apache-2.0
"""balefs bench: its columns, what it says of wrong results, and that no mount
and no directory of it stays."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale

QUICK = ("-p", "1", "--seconds", "1")


def bench(*args, ok=(0,), fault=None):
    env = dict(os.environ)
    if fault:
        env["BALEFS_FAULT"] = fault
    return bale.run(bale.BALEFS, "bench", *QUICK, *args, ok=ok, env=env).stdout


def make_files(rig):
    """Three files of 300 KB below a directory, one of them noise."""
    top = os.path.join(rig.dir, "files")
    os.makedirs(os.path.join(top, "below"))
    for name, data in (("text", b"".join(b"line %d of a text\n" % i
                                         for i in range(16000))),
                       ("noise", os.urandom(300000)),
                       ("below/zero", bytes(300000)), ("below/empty", b"")):
        with open(os.path.join(top, name), "wb") as f:
            f.write(data)
    return top


def rows_of(path):
    with open(path, encoding="ascii") as f:
        return list(csv.DictReader(f))


def check_row(row):
    assert float(row["encode_bytes_per_s"]) > 0, row
    assert float(row["decode_bytes_per_s"]) > 0, row
    assert float(row["ratio"]) > 1.2, row
    assert float(row["encode_cpu_s_per_gb"]) > 0, row
    assert int(row["wrong"]) == 0, row


def test_every_combination_has_a_row(rig):
    top = make_files(rig)
    out = os.path.join(rig.dir, "out.csv")
    svg = os.path.join(rig.dir, "out.svg")
    text = bench("-c", "lz4,zstd:1", "-x", "64K,128K", "-b", "64K,256K",
                 "-e", "cpu,serial", "-t", "2", "--csv", out, "--svg", svg, top)
    rows = rows_of(out)
    keys = {(r["layer"], r["engine"], r["codec"], r["extent_bytes"],
             r["batch_bytes"]) for r in rows}
    assert len(keys) == len(rows) == 16, keys
    assert {k[0] for k in keys} == {"engine"}
    assert {k[1] for k in keys} == {"cpu", "serial"}
    for row in rows:
        check_row(row)
    assert "3 files" in text and " 0 wrong" in text
    assert all(len(line) <= 80 for line in text.splitlines()), text
    root = xml.etree.ElementTree.parse(svg).getroot()
    assert root.tag.endswith("svg")
    words = [t.text for t in root.iter() if t.tag.endswith("}text")]
    assert "engine, serial, zstd:1, 64K" in words, words
    assert "256K" in words and "throughput" in words


def test_through_a_mount(rig):
    top = make_files(rig)
    work = os.path.join(rig.dir, "work")
    os.mkdir(work)
    d = json.loads(bench("-c", "zstd:1", "-b", "1M", "-w", work, "--streams",
                         "3", "--json", top))
    assert d["bytes"] == os.path.getsize(os.path.join(top, "text")) + 600000
    assert d["wrong_pairs"] == 0 and d["engine_pairs"] >= 4
    mount = [r for r in d["rows"] if r["layer"] == "mount"]
    assert len(mount) == 1
    check_row(mount[0])
    assert os.listdir(work) == []


def test_a_device_engine_takes_part(rig):
    """The stand-in: its pairs everywhere, its rows where kernels are built."""
    top = make_files(rig)
    d = json.loads(bench("-c", "lz4", "-e", "cpu,fake", "-b", "1M", "--json",
                         top))
    assert d["wrong_pairs"] == 0 and d["engine_pairs"] >= 9
    engines = {r["engine"] for r in d["rows"]}
    assert engines in ({"cpu"}, {"cpu", "fake"}), engines
    assert all(r["wrong"] == 0 for r in d["rows"])


def test_size_is_a_bound(rig):
    top = make_files(rig)
    d = json.loads(bench("-c", "lz4", "-s", "100K", "--json", top))
    assert d["bytes"] == 100 << 10 and d["files"] == 1
    # Batches beyond the data would all be the same.
    assert len(d["rows"]) == 1


def test_wrong_bytes_are_noticed(rig):
    top = make_files(rig)
    args = ("-c", "lz4", "-e", "cpu", "-b", "1M", top)
    out = bench(*args, ok=(1,), fault="bench.decoded:1")
    assert "does not decode" in out and "1 wrong" in out, out
    out = bench(*args, ok=(1,), fault="bench.decoded:5")
    assert "WRONG: 1" in out and "other bytes" in out, out


def test_wrong_calls(rig):
    top = make_files(rig)

    def refused(status, word, *args):
        p = bale.run(bale.BALEFS, "bench", *args, ok=None)
        assert p.returncode == status, p.stdout
        assert len(p.stdout.strip().splitlines()) == 1, p.stdout
        assert word in p.stdout, p.stdout

    for args, word in ((("-c", "lzma"), "lzma"), (("-e", "fpga"), "fpga"),
                       (("-x", "96K"), "power of two"),
                       (("-x", "32K"), "32K"), (("-b", "1"), "--batch 1"),
                       (("-p", "0"), "--passes 0"), (("-s", "0"), "--size"),
                       (("--streams", "x"), "--streams x"),
                       (("-b", ",".join(["64K"] * 17)), "16 values")):
        refused(2, word, *args, top)
    refused(2, "PATH")
    refused(1, "no-such", os.path.join(top, "no-such"))
    refused(1, "no bytes", os.path.join(top, "below", "empty"))
    refused(1, "no-such", "-w", os.path.join(top, "no-such"), top)
    out = bench("--csv", os.path.join(top, "no", "where"), "-c", "lz4", top,
                ok=(1,))
    assert "where: No such file" in out


def test_nothing_stays_after_an_interrupt(rig):
    top = make_files(rig)
    work = os.path.join(rig.dir, "work")
    os.mkdir(work)

    def mounted():
        with open("/proc/self/mountinfo", encoding="utf-8",
                  errors="surrogateescape") as f:
            return any(line.split()[4].startswith(work) for line in f)

    for sig in (signal.SIGINT, signal.SIGTERM):
        p = subprocess.Popen([bale.BALEFS, "bench", *QUICK, "-c", "lz4", "-b",
                              "1M", "-w", work, top],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env={**os.environ,
                                  "BALEFS_FAULT": "io.pwritev:1+:delay=200"})
        bale.wait_until(mounted, "mounted")
        time.sleep(0.05)
        p.send_signal(sig)
        out = p.communicate(timeout=60)[0].decode()
        assert p.returncode == 1 and "interrupted" in out, out
        assert not mounted()
        assert os.listdir(work) == []


if __name__ == "__main__":
    bale.main()
