# SPDX-License-Identifier: Apache-2.0
"""Power loss under real programs: they work in a mount whose daemon records
its I/O; then stores as a power cut could have left them are mounted, and the
programs look at what they find. BALEFS_TEST_STATES: how many for each program
(default: few, and git and tar not at all); BALEFS_TEST_SEED."""
import os
import random
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import bale
import corpus
from postgres import Postgres
from recording import Recording

STATES = int(os.environ.get("BALEFS_TEST_STATES", "0"))
SEED = int(os.environ.get("BALEFS_TEST_SEED", "1"))

# So that files of the log and segments begin, end and are removed.
SMALL = "segment=2M,log=1M,extent=64K"


class Acks:
    """What was acknowledged when: numbers that only grow."""

    def __init__(self, rec):
        self.rec, self.list = rec, []
        self.begun = 0

    def add(self, n):
        self.list.append((n, self.rec.now()))

    def by(self, events):
        return max([n for n, at in self.list if at <= events], default=0)


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def fsync_tree(top):
    """Not syncfs(): of FUSE filesystems the kernel asks nothing then."""
    for where, _, names in os.walk(top):
        for name in names:
            path = os.path.join(where, name)
            if not os.path.islink(path):
                fsync(path)
        fsync(where)


def need_time():
    if not STATES:
        raise bale.Skip("only with BALEFS_TEST_STATES")


def report(rec, what, nr, states):
    print(f"# {what}: {nr} acknowledged, {rec.events} events, {states} "
          f"states, 0 lost")


# ---- SQLite ----

SCHEMA = ("create table t(id integer primary key, seq int, pad blob);"
          "create index i on t(seq);"
          "create table s(k integer primary key, seq int, total int, nr int);"
          "insert into s values(0,0,0,0);")


def sqlite_transaction(rng, n):
    sql = ["begin immediate;"]
    for _ in range(rng.randint(1, 8)):
        sql.append(f"replace into t values({rng.randint(0, 400)},{n},"
                   f"{rng.choice(['zero', 'random'])}blob("
                   f"{rng.choice([10, 200, 3000])}));")
    sql.append(f"delete from t where id % 17 = {rng.randint(0, 40)};")
    sql.append(f"replace into s select 0,{n},ifnull(sum(seq),0),count(*) "
               "from t; commit;")
    return "".join(sql)


def sqlite_work(rig, acks, mode, nr):
    """One program, told one transaction at a time."""
    rng = random.Random(SEED)
    with subprocess.Popen(["sqlite3", "-batch", rig.path("db")], text=True,
                          stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as p:
        def say(sql):
            p.stdin.write(sql + "\nselect 'done';\n")
            p.stdin.flush()
            while True:
                line = p.stdout.readline()
                assert line, "sqlite3 ended"
                if line == "done\n":
                    return
        say(f"pragma journal_mode={mode}; pragma synchronous=extra;"
            "pragma wal_autocheckpoint=30;")
        say(SCHEMA)
        first = acks.rec.now()
        for n in range(1, nr + 1):
            say(sqlite_transaction(rng, n))
            acks.add(n)
    assert p.returncode == 0
    return first


def sqlite_check(rig, low, high, label):
    out = bale.run("sqlite3", "-batch", rig.path("db"),
                   "pragma integrity_check; select seq from s;"
                   "select total = (select ifnull(sum(seq),0) from t) and "
                   "nr = (select count(*) from t) from s;")
    ok, seq, same = out.stdout.split()
    assert ok == "ok" and same == "1", f"{label}: {out.stdout}"
    assert low <= int(seq) <= high, f"{label}: at {seq}, want {low} to {high}"


def sqlite(rig, mode, nr):
    bale.need("sqlite3")
    rec = Recording(rig)
    rig.mkfs(SMALL)
    acks = Acks(rec)
    with rec.mounted("commit=1"):
        first = sqlite_work(rig, acks, mode, nr)
    states = STATES or 6
    for events, label in rec.states(states, SEED, first):
        low = acks.by(events)
        sqlite_check(rig, low, low + 1, label)
    report(rec, f"SQLite, {mode}", nr, states)


@bale.limit(3000)
def test_sqlite_wal(rig):
    sqlite(rig, "wal", 60)


@bale.limit(3000)
def test_sqlite_delete(rig):
    sqlite(rig, "delete", 60)


# ---- git and tar ----

@bale.limit(3000)
def test_git(rig):
    """A commit whose names were synced is there; the repository is sound."""
    need_time()
    bale.need("git")
    env = dict(os.environ, GIT_CONFIG_NOSYSTEM="1", HOME=rig.local)

    def git(*args):
        return bale.run("git", "-c", "user.name=t", "-c", "user.email=t@t",
                        "-c", "core.fsync=all", "-c", "gc.auto=0",
                        "-C", rig.path("repo"), *args, env=env)
    rec = Recording(rig)
    rig.mkfs(SMALL)
    acks, revs = Acks(rec), {}
    nr = 12
    with rec.mounted("commit=1"):
        os.mkdir(rig.path("repo"))
        git("init", "-q", "-b", "main")
        git("commit", "-q", "--allow-empty", "-m", "0")
        revs[git("rev-parse", "HEAD").stdout.strip()] = 0
        fsync(rig.path("repo", ".git"))
        first = rec.now()
        for n in range(1, nr + 1):
            corpus.make(rig.path("repo", f"d{n}"), seed=n, nr=8, big=100000)
            git("add", "-A")
            git("commit", "-q", "-m", str(n))
            revs[git("rev-parse", "HEAD").stdout.strip()] = n
            if n % 3 == 0:
                git("repack", "-q", "-a", "-d")
            fsync(rig.path("repo", ".git"))
            acks.add(n)
    for events, label in rec.states(STATES, SEED, first):
        low = acks.by(events)
        for top, _, names in os.walk(rig.path("repo", ".git")):
            for name in names:
                if name.endswith(".lock"):  # of a git that is no more
                    os.unlink(os.path.join(top, name))
        git("fsck", "--full", "--strict")
        at = revs[git("rev-parse", "HEAD").stdout.strip()]
        assert low <= at <= low + 1, f"{label}: at {at}, want {low}"
        git("reset", "-q", "--hard")
        assert not git("status", "--porcelain", "-uno").stdout, label
    report(rec, "git", nr, STATES)


@bale.limit(3000)
def test_tar(rig):
    """Trees that were unpacked and fsynced are there, whole."""
    need_time()
    src = os.path.join(rig.local, "src")
    for n in range(4):
        corpus.make(os.path.join(src, f"t{n}"), seed=n, nr=30, big=300000)
    want = [corpus.describe(os.path.join(src, f"t{n}")) for n in range(4)]
    rec = Recording(rig)
    rig.mkfs(SMALL)
    acks = Acks(rec)
    with rec.mounted("commit=1"):
        first = rec.now()
        for n in range(4):
            tar = os.path.join(rig.local, f"{n}.tar")
            bale.run("tar", "-C", src, "--format=posix", "-cf", tar, f"t{n}")
            bale.run("tar", "-C", rig.mnt, "-xpf", tar)
            fsync_tree(rig.path(f"t{n}"))
            acks.add(n + 1)
    for events, _ in rec.states(STATES, SEED, first):
        for n in range(acks.by(events)):
            corpus.compare(want[n], corpus.describe(rig.path(f"t{n}")))
    report(rec, "tar", 4, STATES)


# ---- PostgreSQL ----

ACCOUNTS, CLIENTS = 200, 4


class Client(threading.Thread):
    """Transfers, each of which notes its number; psql is told one at a time."""

    def __init__(self, pg, acks, no, stop):
        super().__init__(daemon=True)
        self.pg, self.acks, self.no, self.stop = pg, acks, no, stop
        self.rng = random.Random(SEED * 100 + no)
        self.error = None

    def transaction(self, n):
        a, b = sorted(self.rng.sample(range(ACCOUNTS), 2))
        d = self.rng.randint(1, 100)
        pad = self.rng.choice([10, 100, 1000])
        return ("begin;"
                f"update accounts set balance=balance-{d} where id={a};"
                f"update accounts set balance=balance+{d} where id={b};"
                f"insert into done values({self.no},{n},repeat('x',{pad}));"
                "commit;")

    def run(self):
        try:
            with self.pg.session() as say:
                n = 0
                while not self.stop.is_set():
                    n += 1
                    self.acks.begun = n
                    say(self.transaction(n))
                    self.acks.add(n)
                    if self.no == 0 and n % 40 == 0:
                        say("checkpoint;")
                    if self.no == 1 and n % 60 == 0:
                        say("vacuum accounts;")
        except Exception as e:
            self.error = e


def postgres_check(pg, acks, events, label):
    total = pg.ask("select sum(balance) from accounts")
    assert total == "0", f"{label}: the sum of all balances is {total}"
    for no, a in enumerate(acks):
        low, high = a.by(events), a.begun
        count, top = pg.ask("select count(*), coalesce(max(n),0) from done "
                            f"where client={no}").split("|")
        assert count == top and low <= int(top) <= high, \
            f"{label}: client {no}: {count} up to {top}, want {low} to {high}"
    pg.amcheck()


@bale.limit(3000)
def test_postgresql(rig):
    """What PostgreSQL acknowledged is there, and it finds itself sound."""
    pg = Postgres(rig)
    rec = Recording(rig, "allow_other")
    rig.start(SMALL, "allow_other")
    pg.init("--wal-segsize=1")
    pg.start()
    pg.ask("create extension amcheck; "
           "create table accounts(id int primary key, balance bigint);"
           f"insert into accounts select n, 0 from "
           f"generate_series(0,{ACCOUNTS - 1}) n;"
           "create table done(client int, n int, pad text,"
           "primary key(client, n))")
    pg.stop()
    rig.umount()
    acks = [Acks(rec) for _ in range(CLIENTS)]
    stop = threading.Event()
    with rec.mounted("commit=1"):
        pg.start()
        first = rec.now()
        clients = [Client(pg, acks[no], no, stop) for no in range(CLIENTS)]
        for c in clients:
            c.start()
        stop.wait(3 if not STATES else 8)
        stop.set()
        for c in clients:
            c.join(60)
            assert not c.error and not c.is_alive(), c.error
        pg.stop()
    states = STATES or 2
    for events, label in rec.states(states, SEED, first):
        pg.forget_pid()
        pg.start()
        postgres_check(pg, acks, events, label)
        pg.stop()
        pg.checksums()
    report(rec, "PostgreSQL", sum(len(a.list) for a in acks), states)


bale.main()
