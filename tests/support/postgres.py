# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server whose data lies in a test's mount, run as its own user."""
import contextlib
import os
import subprocess

import bale

ROOT = "/usr/lib/postgresql"


def find(name):
    for version in sorted(os.listdir(ROOT) if os.path.isdir(ROOT) else []):
        path = os.path.join(ROOT, version, "bin", name)
        if os.path.exists(path):
            return path
    raise bale.Skip("PostgreSQL is not installed")


class Postgres:
    def __init__(self, rig):
        bale.need_root()
        bale.need("setpriv")
        self.rig = rig
        self.bin = os.path.dirname(find("initdb"))
        uid = bale.run("id", "-u", "postgres").stdout.strip()
        self.as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}",
                        "--clear-groups"]
        self.uid = int(uid)
        # For the socket, and as the current folder: not in the mount.
        self.local = os.path.join(rig.dir, "sock")
        os.mkdir(self.local)
        os.chown(self.local, self.uid, self.uid)
        self.data = rig.path("pg", "data")
        self.connect = ["-h", self.local, "-U", "postgres"]
        rig.undo.append(self.kill)

    def run(self, program, *argv, **kw):
        return bale.run(*self.as_user, os.path.join(self.bin, program), *argv,
                        cwd=self.local, **kw)

    def init(self, *argv):
        os.mkdir(self.rig.path("pg"), 0o700)
        os.chown(self.rig.path("pg"), self.uid, self.uid)
        self.run("initdb", "-D", self.data, "-U", "postgres", "-k",
                 "--no-instructions", *argv)

    def start(self):
        self.run("pg_ctl", "start", "-D", self.data, "-w", "-l",
                 os.path.join(self.local, "log"), "-o",
                 f"-k {self.local} -h '' -c shared_buffers=2MB "
                 "-c max_wal_size=8MB -c autovacuum_naptime=1")

    def stop(self, how="fast"):
        self.run("pg_ctl", "stop", "-D", self.data, "-w", "-m", how)

    def kill(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.run("pg_ctl", "stop", "-D", self.data, "-m", "immediate",
                     ok=None)

    def forget_pid(self):
        """After a power cut that number is nobody's; here it may be another
        program's."""
        path = os.path.join(self.data, "postmaster.pid")
        if os.path.exists(path):
            os.unlink(path)

    def ask(self, sql):
        return self.run("psql", *self.connect, "-v", "ON_ERROR_STOP=1",
                        "-qtAc", sql, "postgres").stdout.strip()

    def amcheck(self):
        """Tables and indexes, against each other."""
        self.run("pg_amcheck", *self.connect, "--heapallindexed",
                 "--parent-check", "postgres")

    def checksums(self):
        self.run("pg_checksums", "-c", "-D", self.data)

    @contextlib.contextmanager
    def session(self):
        """A function that runs SQL and returns when it is acknowledged."""
        argv = [*self.as_user, os.path.join(self.bin, "psql"), *self.connect,
                "-v", "ON_ERROR_STOP=1", "-qtA", "postgres"]
        with subprocess.Popen(argv, text=True, cwd=self.local,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as p:
            def say(sql):
                p.stdin.write(sql + "\n\\echo done\n")
                p.stdin.flush()
                line = p.stdout.readline()
                assert line == "done\n", f"psql: {line}"
            yield say
            p.stdin.close()
            assert p.wait(30) == 0
