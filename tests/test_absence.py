"""Our own absence is not their silence: a server that was away for two hours wakes nobody for what it missed.

The two hours are made with Debian's `faketime`: after the restart every clock of the server is two hours ahead.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402

CHECKS = 300
SPEED = 30


def faketime(offset: str, speed: int = 1) -> dict[str, str]:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries, "libfaketime is missing: `make setup` installs Debian's package faketime"
    return {"LD_PRELOAD": str(libraries[0]), "FAKETIME": f"{offset} x{speed}"}


class Watch:
    """Checks of one minute with a minute of grace, all pinged once."""

    def __init__(self, house: House):
        self.house = house
        house.user("alice@example.org")
        self.project = house.project("alice@example.org", "Home")
        self.key = house.key(self.project, "read-write")
        self.ids = [self.api("POST", "checks/", name=f"job {n}", timeout=60, grace=60)["uuid"] for n in range(CHECKS)]
        self.ping_all()

    def api(self, method: str, path: str, **fields) -> dict:
        status, body = self.house.request(method, f"/api/v3/{path}", {"X-Api-Key": self.key}, json.dumps(fields).encode() if fields else None)
        assert status in (200, 201), (status, body)
        return json.loads(body)

    def ping_all(self) -> None:
        for check in self.ids:
            assert self.house.get(f"/ping/{check}")[0] == 200

    def flips(self, check: str) -> list[int]:
        return [flip["up"] for flip in reversed(self.api("GET", f"checks/{check}/flips/")["flips"])]

    def statuses(self) -> list[str]:
        return [check["status"] for check in self.api("GET", "checks/")["checks"]]


def come_back(house: House, offset: str, speed: int = 1) -> None:
    assert house.stop() == 0
    house.server_env = faketime(offset, speed)
    house.start()


def wait_until(true, what: str) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_checks_that_ping_again_after_our_return_never_go_down():
    with House() as house:
        watch = Watch(house)
        come_back(house, "+7200")
        wait_until(lambda: "away from" in house.log.read_text(), "the absence is not in the log")
        wait_until(lambda: "down" not in watch.statuses(), "the sweep has not excused everybody")
        watch.ping_all()
        assert watch.statuses() == ["up"] * CHECKS
        assert {tuple(watch.flips(check)) for check in watch.ids[:20]} == {(1,)}
        assert house.log.read_text().count("away from") == 1


def test_a_check_that_stays_silent_goes_down_once_and_says_why():
    with House() as house:
        watch = Watch(house)
        come_back(house, "+7200", SPEED)
        silent = watch.ids[0]
        wait_until(lambda: watch.flips(silent) == [1, 0], "the silent check does not go down")
        shown = house.cli_json("check", "show", "--project", watch.project, silent)
        assert "this server was away" in shown["reason"], shown["reason"]


def test_a_short_restart_excuses_nobody():
    with House() as house:
        watch = Watch(house)
        come_back(house, "+45", SPEED)
        wait_until(lambda: set(watch.statuses()) == {"down"}, "silent checks stay up after a short restart")
        assert "away from" not in house.log.read_text()
