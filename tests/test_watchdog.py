"""Who watches the watch: somebody elsewhere is told each minute that the server lives, and hears nothing when it does not.

Run by `make watchdog`. Minutes are made short with Debian's `faketime`: every clock of the server goes 30 times as fast,
so that a minute is two seconds. What is to hang is made to hang from outside, as a full disk or a stuck lock would.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House, binary  # noqa: E402
from postgres import settings_for  # noqa: E402

SPEED = 30
MINUTE = 60 / SPEED
# The promise: a death is noticed within three minutes.
SILENCE = 3 * MINUTE


class Receiver:
    """A heartbeat service: it keeps when it was asked, and for what."""

    def __init__(self):
        self.heard: list[tuple[float, str]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/ping/elsewhere"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
                line = connection.recv(65536).split(b"\r\n")[0].decode()
                self.heard.append((time.monotonic(), line))
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK")
                connection.close()
            except OSError:
                if self.listener.fileno() < 0:
                    return

    def wait_for(self, count: int, secs: float = 60) -> None:
        """So many more requests than now."""
        wanted, end = len(self.heard) + count, time.monotonic() + secs
        while len(self.heard) < wanted:
            assert time.monotonic() < end, f"heard {len(self.heard)} of {wanted}"
            time.sleep(0.05)

    def is_silent(self, secs: float) -> bool:
        """Whether nothing comes for so long, after what was on its way has come."""
        time.sleep(MINUTE / 2)
        before = len(self.heard)
        time.sleep(secs)
        return len(self.heard) == before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def fast() -> dict[str, str]:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries, "libfaketime is missing: `make setup` installs Debian's package faketime"
    return {"LD_PRELOAD": str(libraries[0]), "FAKETIME": f"+0 x{SPEED}"}


PATIENCE = {"DATABASE_ACQUIRE_SECS": "300", "DATABASE_STATEMENT_SECS": "300"}


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_each_minute_somebody_is_told_and_no_project_sees_how(database):
    with Receiver() as receiver, settings_for(database) as settings:
        with House(server_env=fast(), settings={**settings, **PATIENCE, "WATCHDOG_URL": receiver.url}) as house:
            house.user("alice@example.org")
            project = house.project("alice@example.org", "Home")
            receiver.wait_for(4)
            times = [at for at, _ in receiver.heard[-4:]]
            gaps = [b - a for a, b in zip(times, times[1:])]
            assert all(MINUTE * 0.5 < gap < MINUTE * 2 for gap in gaps), gaps
            assert {line for _, line in receiver.heard} == {"GET /ping/elsewhere HTTP/1.1"}
            assert house.cli_json("check", "list", "--project", project)["checks"] == []
        assert receiver.is_silent(SILENCE), "the server has ended"


def test_a_writer_that_hangs_silences_us_and_we_come_back():
    with Receiver() as receiver, House(server_env=fast(), settings={**PATIENCE, "WATCHDOG_URL": receiver.url}) as house:
        receiver.wait_for(1)
        # Another program that holds the lock of writers, as a stuck backup would.
        lock = sqlite3.connect(house.data / "allswell.db", isolation_level=None)
        lock.execute("begin immediate")
        assert receiver.is_silent(SILENCE)
        lock.execute("rollback")
        lock.close()
        receiver.wait_for(2)


def test_a_sweep_that_fails_silences_us_though_pings_are_stored():
    with Receiver() as receiver, House(server_env=fast(), settings={**PATIENCE, "WATCHDOG_URL": receiver.url}) as house:
        receiver.wait_for(1)
        # The sweep's own note that the node is awake cannot be written any more; pings need no such table.
        other = sqlite3.connect(house.data / "allswell.db", isolation_level=None)
        other.execute("pragma busy_timeout = 10000")
        other.execute("create trigger stuck before update on awake begin select raise(abort, 'stuck'); end")
        assert receiver.is_silent(SILENCE)
        house.user("alice@example.org")
        check = house.cli_json("check", "create", "--project", house.project("alice@example.org", "Home"), "--name", "a")
        assert house.get(f"/ping/{check['id']}") == (200, b"OK")
        other.execute("drop trigger stuck")
        other.close()
        receiver.wait_for(2)


def test_a_server_that_stands_still_or_is_gone_is_silent():
    with Receiver() as receiver, House(server_env=fast(), settings={**PATIENCE, "WATCHDOG_URL": receiver.url}) as house:
        receiver.wait_for(1)
        house.server.send_signal(signal.SIGSTOP)
        assert receiver.is_silent(SILENCE)
        house.server.send_signal(signal.SIGCONT)
        receiver.wait_for(1)
        house.kill()
        assert receiver.is_silent(SILENCE)


def test_another_allswell_notices_our_death():
    with House(server_env=fast(), settings=PATIENCE) as other:
        other.user("alice@example.org")
        project = other.project("alice@example.org", "Watches")
        check = other.cli_json("check", "create", "--project", project, "--name", "their Allswell", "--period", "60", "--grace", "60")

        def status() -> str:
            return other.cli_json("check", "show", "--project", project, check["id"])["status"]

        def wait_for(word: str, secs: float) -> None:
            end = time.monotonic() + secs
            while status() != word:
                assert time.monotonic() < end, f"{status()} is not {word}"
                time.sleep(0.05)

        with House(server_env=fast(), settings={**PATIENCE, "WATCHDOG_URL": check["ping_url"]}) as house:
            wait_for("up", 60)
            time.sleep(3 * MINUTE)
            assert status() == "up"
            house.kill()
            wait_for("down", SILENCE + 5)


def test_the_command_tells_whether_the_server_lives():
    with House() as house:
        end = time.monotonic() + 30
        while house.run("watchdog").returncode != 0:
            assert time.monotonic() < end, house.run("watchdog").stderr
            time.sleep(0.2)
        told = house.cli_json("watchdog")
        assert told["lives"] is True and told["tells"] is False and len(told["nodes"]) == 1
        assert house.stop() == 0
        # Three minutes later nobody has come back.
        later = subprocess.run(
            [str(binary()), "watchdog"], env={**house.env(), **fast(), "FAKETIME": "+200"}, cwd=house.dir, capture_output=True, text=True, timeout=60
        )
        assert later.returncode == 1 and "is silent" in later.stdout, later
    with House() as house:
        house.settings["DATA_DIR"] = str(house.dir / "nothing")
        assert house.run("watchdog").returncode == 1
        assert not (house.dir / "nothing").exists()


def test_an_address_that_cannot_be_called_ends_the_start_without_being_told():
    with House() as house:
        assert house.stop() == 0
        house.settings["WATCHDOG_URL"] = "gopher://hunter2/"
        done = house.run("serve")
        assert done.returncode == 1 and "watchdog.url" in done.stderr and "hunter2" not in done.stderr, done
        house.settings.clear()
        house.start()


def test_systemd_hears_that_we_are_ready_live_and_end(tmp_path):
    for name in (str(tmp_path / "notify"), f"@allswell-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
            ears.bind("\0" + name[1:] if name.startswith("@") else name)
            ears.settimeout(30)
            with House(server_env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "240000000"}) as house:
                heard = {ears.recv(100), ears.recv(100)}
                assert heard == {b"READY=1", b"WATCHDOG=1"}
                assert house.stop() == 0
                assert ears.recv(100) == b"STOPPING=1"
                house.start()
