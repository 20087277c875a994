# SPDX-License-Identifier: Apache-2.0
"""Programs that people use, on real trees."""
import os
import random
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale
import corpus

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def test_tar(rig):
    src = os.path.join(rig.local, "src")
    corpus.make(src, seed=11)
    bale.run("tar", "-C", rig.local, "--format=posix", "-cf", os.path.join(rig.local, "a.tar"),
             "src")
    rig.start()
    bale.run("tar", "-C", rig.mnt, "-xpf", os.path.join(rig.local, "a.tar"))
    bale.run("diff", "-r", "--no-dereference", src, rig.path("src"))
    bale.run("tar", "-C", rig.mnt, "--format=posix", "-cf", rig.path("b.tar"), "src")
    rig.remount()
    bale.run("tar", "-C", rig.mnt, "-df", rig.path("b.tar"))
    corpus.compare(corpus.describe(src), corpus.describe(rig.path("src")))
    rig.umount()
    rig.fsck()


@bale.limit(240)
def test_git(rig):
    bale.need("git")
    env = dict(os.environ, GIT_CONFIG_NOSYSTEM="1", HOME=rig.local)

    def git(where, *args):
        return bale.run("git", "-c", "user.name=t", "-c", "user.email=t@t",
                        "-C", where, *args, env=env)
    rig.start()
    repo = rig.path("repo")
    os.mkdir(repo)
    git(repo, "init", "-q", "-b", "main")
    for n in range(12):
        corpus.make(os.path.join(repo, f"part{n}"), seed=n, nr=60, big=1 << 20)
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"commit {n}")
    git(rig.mnt, "clone", "-q", "--no-local", repo, "clone")
    git(rig.path("clone"), "gc", "-q", "--aggressive")
    rig.remount()
    git(rig.path("clone"), "fsck", "--full", "--strict")
    git(repo, "fsck", "--full")
    assert not git(rig.path("clone"), "status", "--porcelain").stdout
    git(rig.path("clone"), "checkout", "-q", "HEAD~6")
    assert not git(rig.path("clone"), "status", "--porcelain").stdout
    rig.umount()
    rig.fsck()


def test_rsync_both_ways(rig):
    bale.need("rsync")
    src, back = (os.path.join(rig.local, n) for n in ("src", "back"))
    corpus.make(src, seed=21)
    for n, name in enumerate(sorted(os.listdir(src))[:10]):
        path = os.path.join(src, name)
        if os.path.isfile(path) and not os.path.islink(path):
            os.setxattr(path, "user.tag", b"%d" % n)
    if os.geteuid() == 0 and shutil.which("setfacl"):
        bale.run("setfacl", "-m", "u:4321:rwx", src)
    rig.start()
    flags = "-aHAX" if os.geteuid() == 0 else "-aHX"
    bale.run("rsync", flags, src + "/", rig.path("copy") + "/")
    rig.remount()
    out = bale.run("rsync", flags, "-c", "-n", "-i", "--delete", src + "/",
                   rig.path("copy") + "/").stdout
    out = "\n".join(x for x in out.splitlines() if "d..t" not in x)
    assert not out.strip(), f"rsync still sees differences:\n{out}"
    bale.run("rsync", flags, rig.path("copy") + "/", back + "/")
    # rsync does not always set directories' times, on any filesystem.
    want = corpus.describe(src, dir_times=False)
    corpus.compare(want, corpus.describe(back, dir_times=False))
    corpus.make(os.path.join(src, "more"), seed=22, nr=50, big=1 << 20)
    shutil.rmtree(sorted(e.path for e in os.scandir(src) if e.is_dir())[0])
    bale.run("rsync", flags, "--delete", "--inplace", src + "/",
             rig.path("copy") + "/")
    want = corpus.describe(src, dir_times=False)
    corpus.compare(want, corpus.describe(rig.path("copy"), dir_times=False))
    rig.umount()
    rig.fsck()


def test_sqlite(rig):
    bale.need("sqlite3")
    rig.start()
    rng = random.Random(6)
    for mode in ("wal", "delete"):
        db = rig.path(f"{mode}.db")
        script = [f"pragma journal_mode={mode};",
                  "create table t(id integer primary key, k text, v blob);",
                  "create index tk on t(k);"]
        for _ in range(40):
            script.append("begin;")
            for _ in range(50):
                script.append(f"insert into t(k,v) values('{rng.random()}',"
                              f"randomblob({rng.randint(1, 2000)}));")
            script.append(f"delete from t where id % 7 = {rng.randint(0, 6)};")
            script.append("commit;")
        script.append("vacuum; pragma integrity_check;")
        sql = os.path.join(rig.local, "sql")
        with open(sql, "w", encoding="ascii") as f:
            f.write("\n".join(script))
        with open(sql, encoding="ascii") as f:
            out = bale.run("sqlite3", db, stdin=f).stdout
        assert out.strip().endswith("ok"), out
    rig.remount()
    for mode in ("wal", "delete"):
        out = bale.run("sqlite3", rig.path(f"{mode}.db"),
                       "pragma integrity_check; select count(*)>0 from t;")
        assert out.stdout.split() == ["ok", "1"], out.stdout
    rig.umount()
    rig.fsck()


@bale.limit(300)
def test_c_build(rig):
    """Compile a program of many files with make -j, and run it."""
    bale.need("make", "cc")
    rig.start()
    top = rig.path("prog")
    os.mkdir(top)
    nr = 40
    for n in range(nr):
        with open(os.path.join(top, f"m{n}.c"), "w", encoding="ascii") as f:
            f.write(f"#include <stdio.h>\nint f{n}(int x);\n"
                    f"int f{n}(int x) {{ return x * {n} + 1; }}\n")
    with open(os.path.join(top, "main.c"), "w", encoding="ascii") as f:
        f.write("#include <stdio.h>\n")
        f.writelines(f"int f{n}(int x);\n" for n in range(nr))
        f.write("int main(void) { int s = 0;\n")
        f.writelines(f"s += f{n}(2);\n" for n in range(nr))
        f.write('printf("%d\\n", s); return 0; }\n')
    with open(os.path.join(top, "Makefile"), "w", encoding="ascii") as f:
        f.write("OBJS := $(patsubst %.c,%.o,$(wildcard *.c))\n"
                "CFLAGS := -g -O1\nprog: $(OBJS)\n\tcc -o $@ $^\n")
    bale.run("make", "-C", top, "-j4", "-s")
    want = str(sum(2 * n + 1 for n in range(nr)))
    assert bale.run(os.path.join(top, "prog")).stdout.strip() == want
    rig.remount()
    assert bale.run(os.path.join(top, "prog")).stdout.strip() == want
    assert "up to date" in bale.run("make", "-C", top).stdout
    rig.umount()
    rig.fsck()


def find_pg(name):
    for where in sorted(os.listdir("/usr/lib/postgresql")
                        if os.path.isdir("/usr/lib/postgresql") else []):
        path = f"/usr/lib/postgresql/{where}/bin/{name}"
        if os.path.exists(path):
            return path
    raise bale.Skip("PostgreSQL is not installed")


@bale.limit(300)
def test_postgresql(rig):
    bale.need_root()
    bale.need("setpriv")
    initdb, pg_ctl, pgbench = map(find_pg, ("initdb", "pg_ctl", "pgbench"))
    uid = int(bale.run("id", "-u", "postgres").stdout)
    as_pg = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    rig.start(opts="allow_other")
    os.mkdir(rig.path("pg"), 0o700)
    os.chown(rig.path("pg"), uid, uid)
    sock = os.path.join(rig.dir, "sock")
    os.mkdir(sock)
    os.chown(sock, uid, uid)
    data, log = rig.path("pg", "data"), os.path.join(sock, "log")
    server = ["-D", data, "-l", log, "-w", "-o", f"-k {sock} -h ''"]
    connect = ["-h", sock, "-U", "postgres", "postgres"]

    def pg(*argv):
        return bale.run(*as_pg, *argv, cwd=sock)

    def start():
        pg(pg_ctl, "start", *server)
        rig.undo.append(lambda: bale.run(*as_pg, pg_ctl, "stop", "-D", data,
                                         "-m", "immediate", ok=None))
    pg(initdb, "-D", data, "-U", "postgres", "-k", "--no-instructions")
    start()
    pg(pgbench, "-i", "-s", "3", "-q", *connect)
    out = pg(pgbench, "-c", "4", "-j", "2", "-T", "8", *connect).stdout
    print("\n".join("# " + line for line in out.splitlines() if "tps" in line))
    pg(pg_ctl, "stop", "-D", data, "-m", "immediate")  # a crash, to it
    start()
    check = ("select (select sum(abalance) from pgbench_accounts) = "
             "(select sum(tbalance) from pgbench_tellers)")
    assert pg("psql", "-h", sock, "-U", "postgres", "-tAc",
              check).stdout.strip() == "t"
    pg(pg_ctl, "stop", "-D", data, "-m", "fast")
    pg(os.path.join(os.path.dirname(initdb), "pg_checksums"), "-c", "-D", data)
    rig.remount("allow_other")
    pg(os.path.join(os.path.dirname(initdb), "pg_checksums"), "-c", "-D", data)
    rig.umount()
    rig.fsck()


@bale.limit(240)
def test_fio_verify(rig):
    bale.need("fio")
    rig.start()
    for name, args in (
            ("cached", ["--ioengine=psync", "--bs=3k-70k", "--bs_unaligned"]),
            ("direct", ["--ioengine=psync", "--direct=1", "--bs=4k"]),
            ("mmap", ["--ioengine=mmap", "--bs=4k"])):
        bale.run("fio", f"--name={name}", f"--directory={rig.mnt}",
                 "--rw=randwrite", "--size=24m", "--numjobs=2",
                 "--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
                 "--fsync=200", "--refill_buffers",
                 "--buffer_compress_percentage=50", *args, cwd=rig.local)
    rig.umount()
    rig.fsck()


@bale.limit(300)
def test_stress_ng(rig):
    bale.need("stress-ng")
    rig.start()
    os.mkdir(rig.path("s"))
    stressors = ("hdd dentry dir dirdeep fallocate filename flock fstat link "
                 "rename seek symlink sync-file utime xattr chdir "
                 "fpunch getdent open punch readahead").split()
    known = bale.run("stress-ng", "--stressors").stdout.split()
    argv = ["stress-ng", "--temp-path", rig.path("s"), "--timeout", "12",
            "--hdd-bytes", "32m", "--fallocate-bytes", "16m", "--verify",
            "--seek-size", "8m",
            "--sync-file-bytes", "8m", "--readahead-bytes", "16m",
            "--oomable"]
    for s in stressors:
        if s in known:
            argv += [f"--{s}", "1"]
    p = bale.run(*argv, timeout=250, ok=None)
    assert p.returncode in (0, 3), p.stdout[-4000:]
    assert "fail:" not in p.stdout, p.stdout[-4000:]
    rig.umount()
    rig.fsck()


def test_source_tree_from_two_sides(rig):
    """This source tree through a pipe of tars, compared by checksum."""
    rig.start()
    os.mkdir(rig.path("t"))
    with subprocess.Popen(["tar", "-C", ROOT, "--exclude=./build*",
                           "--exclude=./.git", "-cf", "-", "."],
                          stdout=subprocess.PIPE) as p:
        bale.run("tar", "-C", rig.path("t"), "-xf", "-", stdin=p.stdout)
    rig.remount()
    for top in ("fs", "tests", "include"):
        bale.run("diff", "-r", os.path.join(ROOT, top), rig.path("t", top))


bale.main()
