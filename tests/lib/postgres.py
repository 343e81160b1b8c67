"""PostgreSQL for tests: a cluster of its own on a socket and a free loopback port, not run as root, and gone at
the end, whatever the end is.

    python3 tests/lib/postgres.py -- COMMAND...

runs a command with TEST_POSTGRES naming a fresh cluster (DIRECTORY:PORT), which `crates/testkit` then uses
instead of starting one for every test. A missing PostgreSQL is an error. Only the standard library is used.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_SECS = 60

# Stands between us and the server: at the end of its input, which comes when we end in whatever way, it stops
# the server. `keep` leaves the files for another start.
WATCH = """trap '' INT TERM HUP
"$0" -D "$1/data" -p "$2" >>"$1/log" 2>&1 </dev/null & server=$!
echo $server >"$1/server.pid"
read word
kill -QUIT $server 2>/dev/null; wait $server
[ "$word" = keep ] || rm -rf "$1"
"""


def program(name: str) -> str:
    """Where a program of PostgreSQL is: TEST_POSTGRES_BIN, Debian's newest, or the path."""
    named = os.environ.get("TEST_POSTGRES_BIN")
    if named:
        return str(Path(named) / name)
    debian = [p for p in Path("/usr/lib/postgresql").glob("*/bin/" + name) if p.parts[-3].isdigit()]
    if debian:
        return str(max(debian, key=lambda p: int(p.parts[-3])))
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is missing: install PostgreSQL (`make setup` does)")
    return found


def identity() -> dict:
    """PostgreSQL refuses to run as root; then somebody else does."""
    if os.getuid() != 0:
        return {}
    names = {u.pw_name: u for u in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """A running cluster with the superuser `postgres`, trusted on its socket and on loopback."""

    def __init__(self, settings: dict[str, str] | None = None, data: Path | None = None):
        """`data`: another place for the data directory, which does not hold the write-ahead log."""
        self.dir = Path(tempfile.mkdtemp(prefix="allswell-pg-", dir="/tmp"))
        self.dir.chmod(0o755)
        self.port = free_port()
        self.count = 0
        self.watch: subprocess.Popen | None = None
        self.who = identity()
        if self.who:
            os.chown(self.dir, self.who["user"], self.who["group"])
        try:
            elsewhere = []
            if data is not None:
                data.mkdir()
                if self.who:
                    os.chown(data, self.who["user"], self.who["group"])
                (self.dir / "data").symlink_to(data)
                elsewhere = ["--waldir", str(self.dir / "wal")]
            self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8",
                      "--locale=C.UTF-8", "-D", str(self.dir / "data"), *elsewhere)
            lines = {
                "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.dir), "max_connections": "200",
                "shared_buffers": "64MB", "fsync": "off", "full_page_writes": "off", "jit": "off", **(settings or {}),
            }
            text = "".join(f"{name} = '{value}'\n" for name, value in lines.items())
            (self.dir / "data" / "postgresql.auto.conf").write_text(text)
            self.start()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_) -> None:
        self.remove()

    def _env(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}

    def _run(self, name: str, *args: str) -> str:
        done = subprocess.run([program(name), *args], env=self._env(), cwd="/", stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, **self.who)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr}{done.stdout}")
        return done.stdout

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, program("postgres"), str(self.dir), str(self.port)],
            env=self._env(), cwd="/", stdin=subprocess.PIPE, start_new_session=True, **self.who)
        end = time.monotonic() + START_SECS
        while time.monotonic() < end:
            try:
                self.sql("select 1")
                return
            except RuntimeError:
                time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL did not start: {(self.dir / 'log').read_text()}")

    def server_pid(self) -> int:
        return int((self.dir / "server.pid").read_text())

    def stop(self, sig: int = signal.SIGINT) -> None:
        """End the server; its files stay. SIGINT is PostgreSQL's fast stop, SIGKILL kills it with its children."""
        pid = self.server_pid()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, sig)
        if sig == signal.SIGKILL:
            # They would end by themselves soon; killing them too is the harder case.
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
        self._end("keep\n")

    def _end(self, word: str) -> None:
        if self.watch is not None:
            try:
                self.watch.communicate(word.encode(), timeout=60)
            finally:
                self.watch = None

    def remove(self) -> None:
        self._end("\n")
        shutil.rmtree(self.dir, ignore_errors=True)

    # What tests ask for

    def sql(self, text: str, database: str = "postgres") -> str:
        """The answer of a statement by `psql`, unaligned."""
        done = subprocess.run(
            [shutil.which("psql") or program("psql"), "-h", str(self.dir), "-p", str(self.port), "-U", "postgres",
             "-d", database, "-AtqX", "-v", "ON_ERROR_STOP=1", "-c", text],
            env=self._env(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def database(self) -> str:
        """A new, empty database; its name."""
        self.count += 1
        name = f"d_{os.getpid()}_{self.count}"
        self.sql(f"create database {name}")
        return name

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def settings_for(database: str):
    """What a server is told about its database: nothing for `sqlite`, a database of a fresh cluster for `postgres`."""
    if database == "sqlite":
        yield {}
    else:
        with Cluster() as cluster:
            yield {"DATABASE_URL": cluster.url(cluster.database())}


def main(args: list[str]) -> int:
    if args[:1] != ["--"] or len(args) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Cluster() as cluster:
        env = {**os.environ, "TEST_POSTGRES": f"{cluster.dir}:{cluster.port}"}
        return subprocess.run(args[1:], env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
