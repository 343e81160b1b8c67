"""Garbage on the port of the real binary: random bytes, slow and huge heads, endless bodies, 5,000 connections, all at
once, while somebody goes on pinging and must notice nothing. And ping bodies that are too long, stall, or break off.

Run by `make garbage`. The clients are in lib/hostile.py, each kind a process of its own. Memory is read from /proc.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

import hostile  # noqa: E402
from house import House  # noqa: E402

STORM_SECS = 14
# Measured with the debug build: 75 to 100 MiB. The start takes 15.
STORM_MIB_MAX = 150
# The C library's allocator keeps what it got, in pieces, and a second storm makes it keep some more (measured: 25 MiB;
# it ends near 100). A leak of one buffer of 8 KiB for each connection would add 40 to that.
SECOND_STORM_MIB_MAX = 45
BODY_SECS = 2
LIMIT = 10_000


@pytest.fixture
def house():
    with House() as h:
        yield h


@pytest.fixture
def hasty_house():
    with House(settings={"LIMITS_BODY_SECS": str(BODY_SECS)}) as h:
        yield h


class Checks:
    """A project with the keys to look at its checks."""

    def __init__(self, house: House):
        self.house = house
        house.user("alice@example.org")
        self.project = house.project("alice@example.org", "Home")
        self.key = {"X-Api-Key": house.key(self.project, "read-write")}

    def make(self, name: str) -> str:
        return self.house.cli_json("check", "create", "--project", self.project, "--name", name)["id"]

    def count(self, check: str) -> int:
        status, body = self.house.get(f"/api/v3/checks/{check}", self.key)
        assert status == 200, (status, body)
        return json.loads(body)["n_pings"]

    def body(self, check: str, n: int) -> bytes:
        status, body = self.house.get(f"/api/v3/checks/{check}/pings/{n}/body", self.key)
        assert status == 200, (status, body)
        return body


def resident_mib(house: House) -> float:
    status = Path(f"/proc/{house.server.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def storm(house: House, checks: dict[str, str], secs: int) -> tuple[dict[str, dict], float]:
    """Runs kinds of clients at once, each on its own check; what each saw, and the server's largest memory."""
    script = str(Path(hostile.__file__))
    runs = {
        kind: subprocess.Popen(
            [sys.executable, script, kind, str(house.port), check, str(secs)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        for kind, check in checks.items()
    }
    largest, end = 0.0, time.monotonic() + secs + 30
    try:
        while any(run.poll() is None for run in runs.values()):
            assert time.monotonic() < end, [kind for kind, run in runs.items() if run.poll() is None]
            largest = max(largest, resident_mib(house))
            time.sleep(0.1)
        said = {kind: run.communicate()[0] for kind, run in runs.items()}
        assert all(run.returncode == 0 for run in runs.values()), said
        return {kind: json.loads(text) for kind, text in said.items()}, largest
    finally:
        for run in runs.values():
            run.kill()
            run.wait()


def test_a_storm_of_garbage_costs_little_memory_and_nobody_elses_ping(house):
    checks = Checks(house)
    ids = {kind: checks.make(kind) for kind in ("good", "noise", "heads", "flood", "crowd")}
    assert house.get(f"/ping/{ids['good']}")[0] == 200
    before = resident_mib(house)

    saw, largest = storm(house, ids, STORM_SECS)

    print(f"memory in MiB: {before:.0f} before, {largest:.0f} at most; {json.dumps(saw)}")
    assert saw["good"]["bad"] == [] and saw["good"]["answered"] >= STORM_SECS * 5, saw["good"]
    assert largest < STORM_MIB_MAX, f"{largest:.0f} MiB"
    # The storm was one.
    assert saw["crowd"]["opened"] == hostile.CROWD
    assert saw["crowd"]["closed_by_server"]["half a head"] > 0 and saw["crowd"]["closed_by_server"]["slow head"] > 0
    assert saw["noise"]["connections"] > 50 and saw["noise"]["accepted"] == 0
    assert set(saw["heads"]["statuses"]) <= {"431", ""} and saw["heads"]["statuses"]["431"] > 0
    assert saw["flood"]["bytes"] > 100_000_000

    # What was answered is counted, once. An answer to a flood may be lost on its way, after it was stored.
    assert checks.count(ids["good"]) == saw["good"]["answered"] + 1
    assert saw["flood"]["answered"] <= checks.count(ids["flood"]) <= saw["flood"]["requests"]
    assert [checks.count(ids[kind]) for kind in ("noise", "heads", "crowd")] == [0, 0, 0]

    # And again, shorter: what the first storm needed serves the second one too.
    again, second = storm(house, {kind: ids[kind] for kind in ("good", "crowd")}, 5)
    print(f"{second:.0f} MiB at most in the second")
    assert again["good"]["bad"] == []
    assert second < min(largest + SECOND_STORM_MIB_MAX, STORM_MIB_MAX)
    assert checks.count(ids["good"]) == saw["good"]["answered"] + again["good"]["answered"] + 1
    assert "panicked" not in house.log.read_text(errors="replace")


def test_of_a_body_of_50_mb_the_beginning_is_kept(house):
    checks = Checks(house)
    check = checks.make("long")
    log = house.dir / "backup.log"
    with log.open("wb") as file:
        for number in range(50):
            file.write(f"{number:06} all is well so far\n".encode() * (1_000_000 // 26))
    answer = subprocess.run(
        ["curl", "-sS", "-D", "-", "--data-binary", f"@{log}", f"{house.url}/ping/{check}"],
        capture_output=True, check=True, timeout=60,
    ).stdout.decode()
    head, _, body = answer.rpartition("\r\n\r\n")
    assert "HTTP/1.1 200 OK" in head and body == "OK", answer
    assert f"ping-body-limit: {LIMIT}" in head.lower()
    with log.open("rb") as file:
        assert checks.body(check, 1) == file.read(LIMIT)
    assert checks.count(check) == 1


def half_a_body(house: House, check: str, length: str) -> socket.socket:
    s = socket.create_connection(("127.0.0.1", house.port), timeout=20)
    s.sendall(f"POST /ping/{check} HTTP/1.1\r\nhost: t\r\n{length}\r\n\r\n".encode() + b"5\r\nhello\r\n")
    return s


@pytest.mark.parametrize("length", ["content-length: 4000", "transfer-encoding: chunked"])
def test_a_body_that_stalls_is_told_so_and_not_counted(hasty_house, length):
    checks = Checks(hasty_house)
    check = checks.make("stalls")
    begun = time.monotonic()
    with half_a_body(hasty_house, check, length) as s:
        answer = hostile.until_closed(s)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert BODY_SECS - 0.5 < time.monotonic() - begun < BODY_SECS + 5
    assert hasty_house.get(f"/ping/{check}")[0] == 200
    assert checks.count(check) == 1


@pytest.mark.parametrize("length", ["content-length: 4000", "transfer-encoding: chunked"])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_not_counted(house, length):
    checks = Checks(house)
    check = checks.make("leaves")
    with half_a_body(house, check, length) as s:
        s.shutdown(socket.SHUT_WR)
        # The server has seen the end when it closes in turn.
        assert not hostile.until_closed(s).startswith(b"HTTP/1.1 200")
    half_a_body(house, check, length).close()
    assert house.get(f"/ping/{check}")[0] == 200
    assert checks.count(check) == 1
