"""A full disk: no ping is answered that is not stored, what is stored can be read, and all goes on when there is space
again. Run by `make trouble`, in a mount namespace of its own, where each test has a small tmpfs.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House, free_port  # noqa: E402
from postgres import Cluster  # noqa: E402
from stored import Stored  # noqa: E402
from test_crash import agree  # noqa: E402

DISK_MIB = 48
# An empty cluster takes about 40.
POSTGRES_DISK_MIB = 96
# Nothing that packs: a disk is to get full of it before retention takes the oldest.
BODY = os.urandom(9_000)
WAIT_SECS = 60
# The size at which the write-ahead log is written back.
CHECKPOINT_BYTES = 4_000 * 4_096


def until(true, what) -> None:
    end = time.monotonic() + WAIT_SECS
    while not true():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)


class Disk:
    """A small file system."""

    def __init__(self, mib: int):
        self.dir = Path(tempfile.mkdtemp(prefix="allswell-disk-"))
        options = f"size={mib}m,mode=755"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.dir)], capture_output=True, text=True)
        assert done.returncode == 0, f"`make trouble` runs this where it may mount: {done.stderr}"
        self.ballast = self.dir / "ballast"

    def free_bytes(self) -> int:
        stat = os.statvfs(self.dir)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Somebody else's file takes all but so much."""
        with self.ballast.open("ab", buffering=0) as file:
            while (free := self.free_bytes()) > leave_bytes:
                try:
                    file.write(b"\0" * min(free - leave_bytes, 1 << 20))
                except OSError:
                    return

    def clear(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.dir)], check=True)
        self.dir.rmdir()


@pytest.fixture
def disk():
    disk = Disk(DISK_MIB)
    yield disk
    disk.remove()


class SmallHouse:
    """A house whose data and log lie on a small disk, with checks, one of which has pinged."""

    def __init__(self, house: House, stored: Stored):
        self.house, self.stored = house, stored.of(house)
        house.user("alice@example.org")
        self.project = house.project("alice@example.org", "Home")
        self.key = house.key(self.project, "read-write")
        house.cli("channel", "create", "--project", self.project, "--kind", "log", "--name", "ops")
        self.checks = [self.make(f"job {n}") for n in range(20)]
        self.answered = dict.fromkeys(self.checks, 0)
        self.statuses: list[int] = []

    def make(self, name: str) -> str:
        made = self.house.cli_json("check", "create", "--project", self.project, "--name", name, "--channel", "all")
        return made["id"]

    def api(self, path: str):
        status, body = self.house.get(f"/api/v3/{path}", {"X-Api-Key": self.key})
        assert status == 200, (status, body, self.house.tail())
        return json.loads(body)

    def ping(self, check: str, suffix: str = "", body: bytes = BODY) -> tuple[int, str | None, bytes]:
        """Status, Retry-After and body; counted if it was answered with 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.house.port, timeout=30)
        connection.request("POST", f"/ping/{check}{suffix}", body=body)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        self.answered[check] += answer.status == 200
        self.statuses.append(answer.status)
        return answer.status, answer.getheader("Retry-After"), said

    def ping_until_full(self) -> None:
        """Pings until several in a row are refused, each with a word when to come again."""
        refused = 0
        for turn in range(20_000):
            status, again, _ = self.ping(self.checks[turn % len(self.checks)])
            if status == 200:
                refused = 0
                continue
            assert (status, again) == (503, "5"), (status, again, self.house.tail())
            refused += 1
            if refused == 40:
                return
        raise AssertionError("the disk does not get full")

    def reads_go_on(self) -> None:
        one = self.checks[0]
        assert len(self.api("checks/")["checks"]) >= len(self.checks)
        assert self.api(f"checks/{one}")["n_pings"] >= self.answered[one]
        assert self.api(f"checks/{one}/pings/")["pings"]
        assert self.api(f"checks/{one}/flips/")["flips"]
        badge = self.api("badges/")["badges"]["*"]["svg"]
        path = "/" + badge.split("/", 3)[3]
        assert self.house.get(path)[0] == 200, path
        assert self.house.get("/")[0] == 200
        assert self.house.get("/healthz")[0] == 200
        metrics = f"http://{self.house.settings['METRICS_LISTEN']}/metrics"
        with urllib.request.urlopen(metrics, timeout=10) as answer:
            assert b"pings_total" in answer.read()

    def make_by_api(self, name: str) -> int:
        fields = json.dumps({"name": name}).encode()
        return self.house.request("POST", "/api/v3/checks/", {"X-Api-Key": self.key}, fields)[0]

    def goes_on(self) -> None:
        """There is space again: by itself everything is as it was."""
        until(lambda: self.ping(self.checks[0])[0] == 200, self.house.tail)
        until(lambda: self.house.get("/readyz")[0] == 200, self.house.tail)
        for check in self.checks:
            assert self.ping(check)[0] == 200
        assert self.make_by_api("afterwards") == 201
        self.reads_go_on()
        self.whole()

    def whole(self) -> None:
        """Nothing that was answered is missing, nothing is there twice, and the file is sound."""
        agree(self.stored)
        for check in self.checks:
            found = self.stored.number(f"select ping_count from checks where {self.stored.hex('id')} = '{check.replace('-', '')}'")
            assert found == self.answered[check], check


@contextmanager
def small_house(disk: Disk):
    """All of it on the disk: data, key ring and log."""
    house = House(settings={"LIMITS_PING_PER_CHECK": "", "METRICS_LISTEN": f"127.0.0.1:{free_port()}"})
    house.dir.rmdir()
    house.dir = disk.dir / "house"
    house.dir.mkdir()
    house.data, house.log = house.dir / "data", house.dir / "server.log"
    with house:
        yield SmallHouse(house, Stored())


# The second lets the log grow until it is to be written back into the file, and fills the disk in the middle of that.
@pytest.mark.parametrize("left_mib", [4, 22], ids=["at_the_log", "at_the_checkpoint"])
def test_a_full_disk_refuses_pings_and_shows_what_is_there_until_there_is_space(disk, left_mib):
    with small_house(disk) as small:
        for check in small.checks:
            assert small.ping(check)[0] == 200
        disk.fill(left_mib << 20)
        small.ping_until_full()
        assert "the disk is full" in small.house.log.read_text(), small.house.tail()
        wal = (small.house.data / "allswell.db-wal").stat().st_size
        assert (wal >= CHECKPOINT_BYTES) == (left_mib << 20 > CHECKPOINT_BYTES), wal
        small.reads_go_on()
        small.whole()
        # Who asks whether we are ready is told not, however often: what is cached is a second old at most.
        until(lambda: small.house.get("/readyz")[0] == 503, small.house.tail)
        assert {small.house.get("/readyz")[0] for _ in range(20)} == {503}
        # What is not a ping is told the same, in words.
        disk.fill()
        for _ in range(60):
            assert small.make_by_api("late") == 503
        done = small.house.run("check", "create", "--project", small.project, "--name", "late")
        assert done.returncode != 0 and "the disk is full" in done.stderr and "panicked" not in done.stderr, done.stderr
        shown = small.house.cli_json("check", "list", "--project", small.project)
        assert len(shown["checks"]) == len(small.checks)

        disk.clear()
        small.goes_on()
        # The log lay on that disk too, and owns up to what it could not say.
        until(lambda: "lines of the log were lost" in small.house.log.read_text(), small.house.tail)


def test_a_full_disk_ends_and_begins_without_harm(disk):
    with small_house(disk) as small:
        for check in small.checks:
            assert small.ping(check)[0] == 200
        disk.fill(4 << 20)
        small.ping_until_full()
        disk.fill()
        assert small.house.stop() == 0, small.house.tail()
        small.whole()
        # A start that cannot write says why, and harms nothing.
        done = small.house.run("serve")
        assert done.returncode != 0 and "the disk is full" in done.stderr, (done.returncode, done.stderr)
        assert "panicked" not in done.stderr
        disk.clear()
        small.house.start()
        small.goes_on()


def test_a_database_server_whose_disk_is_full_is_told_of_and_comes_back():
    disk = Disk(POSTGRES_DISK_MIB)
    try:
        with Cluster(data=disk.dir / "data") as cluster:
            stored = Stored(cluster)
            with House(settings={"LIMITS_PING_PER_CHECK": "", "METRICS_LISTEN": f"127.0.0.1:{free_port()}", **stored.settings}) as house:
                small = SmallHouse(house, stored)
                for check in small.checks:
                    assert small.ping(check)[0] == 200
                disk.fill(4 << 20)
                small.ping_until_full()
                assert "the disk is full" in house.log.read_text(), house.tail()
                until(lambda: house.get("/readyz")[0] == 503, house.tail)
                small.reads_go_on()
                small.whole()
                disk.clear()
                small.goes_on()
    finally:
        disk.remove()
