"""The clock of the machine is set while the server runs: forward by two hours, and back again. On both databases, with
the real binary; the clock that timers run by goes on meanwhile, as it does when somebody sets a machine's date.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from stored import DATABASES  # noqa: E402
from test_absence import HOUR, Watch, until, watching  # noqa: E402
from test_crash import agree  # noqa: E402

CHECKS = 300
# Long enough for the test to get to its leap on a busy machine, and well below the leap.
PERIOD, GRACE = 240, 120
LEAP = 2 * HOUR


class Pings:
    """A thread that pings one check after another, and remembers how often it was told OK."""

    def __init__(self, watch: Watch, checks: list[str]):
        self.watch, self.checks = watch, checks
        self.answered = 0
        self.refused: list[tuple[int, bytes]] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> "Pings":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join()

    def run(self) -> None:
        turn = 0
        while not self.stop.is_set():
            status, said = self.watch.house.get(f"/ping/{self.checks[turn % len(self.checks)]}")
            turn += 1
            if (status, said) == (200, b"OK"):
                self.answered += 1
            else:
                self.refused.append((status, said))

    def some_more(self) -> None:
        wanted = self.answered + 20
        until(lambda: self.answered >= wanted or self.refused, self.watch.house.tail)


def leap(watch: Watch, secs: int) -> None:
    watch.clock.step(secs)
    # The sign of life agrees with the clock again, whichever way it went.
    until(lambda: abs(watch.seen_at() - watch.clock.now_micros()) < 30e6, watch.house.tail)


def negative(watch: Watch) -> dict[str, int]:
    """Lengths of time below zero, of any kind."""
    return {
        what: count
        for what, sql in {
            "runs": "select count(*) from checks where last_duration < 0",
            "incidents": "select count(*) from incidents where closed_at < opened_at",
            "flips": "select count(*) from flips f join flips g on g.check_id = f.check_id and g.seq = f.seq + 1 where g.at < f.at",
            "attempts": "select count(*) from attempts where duration < 0",
        }.items()
        if (count := watch.stored.number(sql))
    }


@pytest.mark.parametrize("database", DATABASES)
def test_a_clock_that_is_set_wakes_nobody_and_holds_nothing_up(database):
    with watching(database) as watch:
        watch.house.cli("channel", "create", "--project", watch.project, "--kind", "log", "--name", "ops")
        busy = [watch.check(f"busy {n}", 3 * HOUR, GRACE) for n in range(5)]
        failing = watch.check("failing", 3 * HOUR, GRACE, channels="*")
        runner = watch.check("runner", 3 * HOUR, HOUR, channels="*")
        quiet = watch.stored.multiply(watch.check("quiet", PERIOD, GRACE, channels="*"), CHECKS - 1)
        watch.ping_all(quiet)
        pinged = watch.clock.now_micros()
        with Pings(watch, busy) as pings:
            pings.some_more()
            assert watch.house.get(f"/ping/{runner}/start")[0] == 200

            # Forward, past every deadline: an absence as far as we can know, and not their silence.
            leap(watch, LEAP)
            until(lambda: len(watch.notices()) == 1, watch.house.tail)
            now = "(select max(seen_at) from awake)"
            until(lambda: watch.stored.number(f"select count(*) from checks where deadline <= {now}") == 0, watch.house.tail)
            assert watch.downs() == 0
            excused = watch.stored.number("select count(*) from checks where excused_until is not null")
            assert excused >= CHECKS, excused
            pings.some_more()
            assert watch.house.get(f"/ping/{failing}/fail")[0] == 200
            until(lambda: watch.stored.number("select count(*) from deliveries where state = 'delivered'") == 1, watch.house.tail)

            # And back: what the clock had noted meanwhile is brought to now.
            leap(watch, -LEAP)
            assert "the clock was set back" in watch.house.log.read_text()
            late = "select count(*) from checks where deadline > {} + period + grace"
            until(lambda: watch.stored.number(late.format(watch.clock.now_micros() + 60_000_000)) == 0, watch.house.tail)
            until(lambda: watch.stored.number("select count(*) from checks where excused_until is not null") == 0, watch.house.tail)
            assert watch.stored.rows("select 1 from absences") == [], "time to come is no absence"
            pings.some_more()
            # A run that began before the leap ends after it; one failure is put right.
            assert watch.house.get(f"/ping/{runner}")[0] == 200
            assert watch.house.get(f"/ping/{failing}")[0] == 200
            until(lambda: watch.stored.number("select count(*) from deliveries where state = 'delivered'") == 2, watch.house.tail)
        assert not pings.refused, pings.refused[:3]
        counted = watch.stored.number(
            "select sum(ping_count) from checks where name like 'busy%'")
        assert counted == pings.answered
        assert negative(watch) == {}
        agree(watch.stored)

        # The sweep goes on: what is silent goes down by its own deadline and not two hours later.
        watch.pass_until(pinged + (PERIOD + GRACE + 30) * 1_000_000)
        until(lambda: watch.stored.number("select count(*) from checks where status = 2") == CHECKS, watch.house.tail)
        [(first, last, noticed)] = watch.stored.rows(
            "select min(at), max(at), max(noticed_at) from flips where to_status = 2 and reason_code = 'timeout'")
        due = pinged + (PERIOD + GRACE) * 1_000_000
        assert due - 60e6 < int(first) <= int(last) < due + 60e6, (first, last, due)
        assert int(noticed) < due + 120e6, "they were found late"
        assert watch.downs() == CHECKS + 1, "and one that failed"

        # A year ahead for a moment, with nobody heard of: no trace of it is left either.
        leap(watch, 365 * 24 * HOUR)
        leap(watch, -365 * 24 * HOUR)
        watch.ping(quiet_one := watch.check("afterwards", PERIOD, GRACE))
        assert watch.status(quiet_one) == "up"
        assert watch.downs() == CHECKS + 1, "the history is there: nothing is deleted while time is in doubt"
        assert watch.stored.rows("select 1 from absences") == []
