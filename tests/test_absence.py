"""Our own absence is not their silence: a server that was away for two hours wakes nobody for what it missed.

On both databases, with the real binary. Its clock is set by the test: the two hours pass while it is down, and what
needs minutes afterwards is stepped through, each step shorter than what counts as an absence.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from clock import Clock  # noqa: E402
from house import House  # noqa: E402
from stored import DATABASES, Stored, stored_on  # noqa: E402

CHECKS = 10_000
HOUR = 3_600
DAY = 24 * HOUR
# A gap of more than a minute counts as an absence.
STEP_SECS = 40
# How often the server is started again. A day of it, each half minute, is 2,880: `make restarts` does that.
RESTARTS = int(os.environ.get("ABSENCE_RESTARTS", "12"))
PING_CLIENTS = 8
# Long enough for ten thousand pings after the return, on a machine that is busy with other tests.
GRACE = 180


def until(true, what) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)


class Watch:
    """A house whose clock and rows are in the test's hand, with a project."""

    def __init__(self, house: House, stored: Stored, clock: Clock):
        self.house, self.stored, self.clock = house, stored.of(house), clock
        house.user("alice@example.org")
        self.project = house.project("alice@example.org", "Home")
        self.key = house.key(self.project, "read-write")

    def api(self, method: str, path: str, **fields) -> dict:
        body = json.dumps(fields).encode() if fields else None
        status, said = self.house.request(method, f"/api/v3/{path}", {"X-Api-Key": self.key}, body)
        assert status in (200, 201), (status, said)
        return json.loads(said)

    def check(self, name: str, period: int, grace: int, **more) -> str:
        return self.api("POST", "checks/", name=name, timeout=period, grace=grace, **more)["uuid"]

    def status(self, check: str) -> str:
        return self.api("GET", f"checks/{check}")["status"]

    def flips(self, check: str) -> list[int]:
        return [flip["up"] for flip in reversed(self.api("GET", f"checks/{check}/flips/")["flips"])]

    def reason(self, check: str) -> str:
        return self.house.cli_json("check", "show", "--project", self.project, check)["reason"]

    def ping(self, check: str) -> None:
        assert self.house.get(f"/ping/{check}")[0] == 200

    def ping_all(self, checks: list[str]) -> None:
        """Each once, on kept connections."""
        refused = []

        def client(mine: list[str]) -> None:
            # By hand: an HTTP client of Python's takes three times as long as the server.
            with socket.create_connection(("127.0.0.1", self.house.port), timeout=30) as connection:
                for check in mine:
                    connection.sendall(f"GET /ping/{dashed(check)} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
                    answer = b""
                    while not answer.endswith(b"\r\n\r\nOK"):
                        got = connection.recv(4096)
                        answer += got
                        if not got or not answer.startswith(b"HTTP/1.1 200"[: len(answer)]):
                            refused.append((check, answer))
                            return

        threads = [threading.Thread(target=client, args=(checks[n::PING_CLIENTS],)) for n in range(PING_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not refused, refused[:5]

    def seen_at(self) -> int:
        """The newest sign of life of any node, in microseconds."""
        return self.stored.number("select coalesce(max(seen_at), 0) from awake")

    def downs(self) -> int:
        return self.stored.number("select count(*) from flips where to_status = 2")

    def notices(self) -> list[str]:
        return [line for line in self.house.log.read_text().splitlines() if "away from" in line]

    def away(self, secs: float) -> None:
        """The server ends, time passes, and it starts again."""
        assert self.house.stop() == 0
        self.clock.step(secs)
        now = self.clock.now_micros()
        self.house.start()
        until(lambda: self.seen_at() >= now, "it does not say that it is awake")

    def pass_time(self, secs: int) -> None:
        """Time passes while the server is awake, and it takes note of each step."""
        for _ in range(-(-secs // STEP_SECS)):
            self.clock.step(STEP_SECS)
            now = self.clock.now_micros()
            until(lambda: self.seen_at() >= now, self.house.tail)


def dashed(hex_id: str) -> str:
    return "-".join([hex_id[:8], hex_id[8:12], hex_id[12:16], hex_id[16:20], hex_id[20:]])


@contextmanager
def watching(database: str):
    with Clock() as clock, stored_on(database) as stored:
        with House(server_env=clock.env, settings=stored.settings) as house:
            yield Watch(house, stored, clock)


@pytest.mark.parametrize("database", DATABASES)
def test_ten_thousand_checks_that_ping_again_after_our_return_never_go_down(database):
    with watching(database) as watch:
        watch.house.cli("channel", "create", "--project", watch.project, "--kind", "log", "--name", "ops")
        silent = watch.check("silent", HOUR, GRACE, channels="*")
        healthy = watch.stored.multiply(watch.check("healthy", HOUR, GRACE, channels="*"), CHECKS - 1)
        assert len(healthy) == CHECKS
        watch.ping_all([*healthy, silent.replace("-", "")])
        assert watch.stored.number("select count(*) from checks where status = 1") == CHECKS + 1

        left = watch.seen_at()
        watch.away(2 * HOUR)
        # The sweep has looked at everybody when nobody's stored wake-up is past any more.
        now = "(select max(seen_at) from awake)"
        until(lambda: watch.stored.number(f"select count(*) from checks where deadline <= {now}") == 0, watch.house.tail)
        assert watch.downs() == 0
        [notice] = watch.notices()
        [(begin, end)] = watch.stored.rows("select from_at, to_at from absences")
        assert int(begin) >= left and 2 * HOUR <= (int(end) - int(begin)) / 1e6 < 2 * HOUR + 60, (begin, end)

        watch.ping_all(healthy)
        # Past everything that was given: only what is really silent goes down, once.
        watch.pass_time(GRACE + 60)
        until(lambda: watch.flips(silent) == [1, 0], "the silent check does not go down")
        assert "this server was away" in watch.reason(silent)
        assert watch.downs() == 1
        assert watch.stored.rows("select status, count(*) from checks group by status order by status") == [
            ("1", str(CHECKS)), ("2", "1")
        ]
        assert watch.stored.number("select count(*) from deliveries") == 1
        assert watch.notices() == [notice] and len(watch.stored.rows("select 1 from absences")) == 1


@pytest.mark.parametrize("database", DATABASES)
def test_a_restart_shorter_than_a_minute_excuses_nobody(database):
    with watching(database) as watch:
        silent = watch.check("silent", 60, 60)
        watch.ping(silent)
        for _ in range(3):
            watch.away(STEP_SECS)
        until(lambda: watch.flips(silent) == [1, 0], watch.house.tail)
        assert "this server was away" not in watch.reason(silent)
        assert watch.notices() == [] and watch.stored.rows("select 1 from absences") == []


@pytest.mark.parametrize("database", DATABASES)
def test_restarting_each_half_minute_silences_nobody_for_ever(database):
    """What is silent goes down when it is due, however often we start again; a check that is due later stays up."""
    with watching(database) as watch:
        due_after = RESTARTS * 30 // 2
        silent = watch.check("silent", due_after - 60, 60)
        patient = watch.check("patient", 30 * DAY, HOUR)
        for check in (silent, patient):
            watch.ping(check)
        pinged = watch.clock.ahead_secs
        for _ in range(RESTARTS):
            watch.away(30)
            passed = watch.clock.ahead_secs - pinged
            # The clock goes on by itself too, by what the restarts really take.
            if passed > due_after:
                break
        until(lambda: watch.flips(silent) == [1, 0], watch.house.tail)
        assert "this server was away" not in watch.reason(silent)
        while passed < RESTARTS * 30:
            watch.away(30)
            passed += 30
        assert watch.flips(silent) == [1, 0] and watch.flips(patient) == [1]
        assert watch.stored.rows("select 1 from absences") == []


@pytest.mark.parametrize("database", DATABASES)
def test_a_crash_loop_uses_up_what_the_first_absence_gave(database):
    """Away for 90 s at a time: each is an absence, and a check that was excused once is not excused for ever."""
    with watching(database) as watch:
        silent = watch.check("silent", 60, 60)
        watch.ping(silent)
        lives = 0
        while watch.status(silent) != "down":
            watch.away(90)
            lives += 1
            # A minute is given, and each life counts for at least fifteen seconds.
            assert lives <= 7, watch.house.tail()
        until(lambda: watch.flips(silent) == [1, 0], watch.house.tail)
        assert lives >= 2, "it was not excused at all"
        assert "this server was away" in watch.reason(silent)
        assert len(watch.stored.rows("select 1 from absences")) == lives
