"""An answered ping is on the disk: shown by a trace of the system calls of the real binary.

kill -9 proves nothing here, since the system keeps what a dead process wrote. So the server runs under strace, one
ping is sent, and between its arrival and its answer there must be a write to the write-ahead log and then a flush of
that very file that succeeded. On PostgreSQL the flush is another program's: there the server must have heard that its
commit is done, and must warn when the database does not promise what that means. Run by `make garbage`.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from postgres import Cluster  # noqa: E402

CALLS = "fsync,fdatasync,write,pwrite64,writev,sendto,sendmsg,recvfrom,read"


# What PostgreSQL says when a commit is done (protocol 3.0: CommandComplete, its length of 11 bytes, its word).
COMMITTED = r"C\0\0\0\vCOMMIT\0"
KEPT = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@pytest.fixture(scope="module")
def cluster():
    with Cluster(KEPT) as c:
        yield c


@contextmanager
def traced(trace: Path, **settings: str):
    # -D: the server stays our child, and is ended by its own process id. -y names the file of each descriptor.
    strace = ["strace", "-D", "-f", "-q", "-y", "-s", "4000", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(trace)]
    with House(wrapper=strace, settings=settings) as h:
        h.trace = trace
        yield h


@pytest.fixture
def traced_house(tmp_path):
    with traced(tmp_path / "trace") as h:
        yield h


def lines_of_one_ping(house: House, check: str, body: str) -> list[str]:
    """The trace from the arrival of a ping to its answer. strace writes a line when a call has returned."""
    before = len(house.trace.read_text(errors="replace").splitlines())
    assert house.get(f"/ping/{check}?{body}") == (200, b"OK")
    end = time.monotonic() + 10
    while True:
        lines = house.trace.read_text(errors="replace").splitlines()[before:]
        came = [i for i, line in enumerate(lines) if f"GET /ping/{check}" in line]
        went = [i for i, line in enumerate(lines) if "HTTP/1.1 200 OK" in line]
        if came and went:
            assert len(came) == len(went) == 1 and came < went, lines
            return lines[came[0] : went[0] + 1]
        assert time.monotonic() < end, f"the trace does not show the ping\n{lines}"
        time.sleep(0.05)


def test_a_ping_is_flushed_to_the_disk_before_it_is_answered(traced_house):
    traced_house.user("alice@example.org")
    project = traced_house.project("alice@example.org", "Home")
    check = traced_house.cli_json("check", "create", "--project", project, "--name", "Backup")["id"]
    for turn in ("first", "second"):
        lines = lines_of_one_ping(traced_house, check, turn)
        writes = [i for i, line in enumerate(lines) if re.search(r"pwrite64\(\d+<[^>]*allswell\.db-wal>", line)]
        assert writes, lines
        assert flushed_at(lines) > writes[-1], "nothing was written to the log after its flush\n" + "\n".join(lines)
        print("\n".join(shortened(lines)))


def test_the_log_is_flushed_without_the_times_of_its_file(traced_house):
    """fdatasync and not fsync, which costs a journal's commit more: `.cargo/config.toml` says how that comes about."""
    calls = re.findall(r"(f\w*sync)\(\d+<[^>]*allswell\.db-wal>", traced_house.trace.read_text(errors="replace"))
    assert set(calls) == {"fdatasync"}, calls


def test_a_ping_is_answered_after_postgresql_has_said_that_its_commit_is_done(cluster, tmp_path):
    with traced(tmp_path / "trace", DATABASE_URL=cluster.url(cluster.database())) as house:
        house.user("alice@example.org")
        project = house.project("alice@example.org", "Home")
        check = house.cli_json("check", "create", "--project", project, "--name", "Backup")["id"]
        connection = None
        sent = []
        for turn in ("first", "second", "third"):
            lines = whole(lines_of_one_ping(house, check, turn))
            # Nothing else writes at that moment, and the connection is kept for the next ping.
            wrote = [line for line in lines if "begin isolation level read committed read write" in line]
            connection = connection or re.search(r"sendto\((\d+<[^>]*>)", wrote[0])[1]
            theirs = [(i, line) for i, line in enumerate(lines) if connection in line]
            begun = [i for i, line in theirs if '"Q' in line and "begin isolation level" in line]
            # By itself, or behind the last statement.
            asked = [i for i, line in theirs if re.search(r'sendto\(.*commit\\0"', line)]
            done = [i for i, line in theirs if COMMITTED in line]
            assert len(begun) == len(asked) == len(done) == 1, "\n".join(lines)
            assert begun <= asked < done and "HTTP/1.1 200 OK" in lines[-1], "\n".join(lines)
            print("\n".join(shortened([line for _, line in theirs] + lines[-1:])))
            # From its begin on: a connection that has rested is asked beforehand whether it is still there.
            sent.append(len([i for i, line in theirs if i >= begun[0] and "sendto(" in line]))
        # The second ping changes no status, and its statements are known: what it asks, and what it writes with its commit.
        # The third need not ask what the second has written.
        assert sent[1:] == [2, 1], "\n".join(lines)
        assert "may lose answered pings" not in house.log.read_text()


def whole(lines: list[str]) -> list[str]:
    """Calls that another thread interrupted in one line, where they returned."""
    begun, joined = {}, []
    for line in lines:
        thread = line.split()[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
            continue
        resumed = re.search(r"<\.\.\. \w+ resumed>(.*)", line)
        if resumed and thread in begun:
            line = begun.pop(thread) + resumed[1]
        joined.append(line)
    return joined


def test_a_database_that_promises_less_is_warned_of(cluster):
    """The setting may be of one database or one role alone: it is read back on a connection of ours."""
    database = cluster.database()
    cluster.sql(f"alter database {database} set synchronous_commit = off")
    with House(settings={"DATABASE_URL": cluster.url(database)}) as house:
        said = [line for line in house.log.read_text().splitlines() if "may lose answered pings" in line]
        assert len(said) == 1 and 'synchronous_commit: "off"' in said[0], house.tail()


def flushed_at(lines: list[str]) -> int:
    """Where the last flush of the log ended well. A call that another thread interrupts is told in two lines."""
    flushed, pending = -1, set()
    for i, line in enumerate(lines):
        thread = line.split()[0]
        if re.search(r"f(data)?sync\(\d+<[^>]*allswell\.db-wal>", line):
            if "unfinished" in line:
                pending.add(thread)
            elif line.endswith("= 0"):
                flushed = i
        elif thread in pending and re.search(r"<\.\.\. f(data)?sync resumed>.*= 0$", line):
            pending.discard(thread)
            flushed = i
    assert flushed >= 0, "the log was not flushed\n" + "\n".join(lines)
    return flushed


def shortened(lines: list[str]) -> list[str]:
    """For the eye: each line's beginning and its result."""
    return [f"{line[:70]} … {line.rpartition(' = ')[2][:12]}" for line in lines]
