"""Crashes at every place that a delivery passes, and at random moments: nothing is lost, nothing is told twice under
two ids, nothing old comes after something new.

A receiver writes down what arrives. The server is killed, by itself at a named place (`ALLSWELL_FAILPOINT`, in debug
builds) or by SIGKILL, started again, and must come to rest with every alert delivered or overtaken.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from stored import DATABASES, Stored, stored_on  # noqa: E402

CHECKS = 10
EVENTS = 50
# Twice the lease of a server that was killed: what it had claimed waits for that, and what stands behind it for longer.
REST_SECS = 120
POINTS = [
    "during_startup_recovery:1",
    "after_state_commit:20",
    "after_claim:3",
    "before_connect:7",
    "after_request_written:7",
    "after_response:7",
    "before_result_commit:3",
    "mid_result_batch:3",
]
SETTINGS = {"OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false"}


class Receiver:
    """Answers 200 and keeps what came, in the order in which it came."""

    def __init__(self):
        self.seen: list[dict] = []
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                event = json.loads(body)
                event["webhook-id"] = self.headers.get("webhook-id")
                with receiver.lock:
                    receiver.seen.append(event)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


def ping(house: House, check: str, action: str) -> bool:
    return house.get(f"/ping/{check}{action}")[0] == 200


def furnish(house: House, receiver: Receiver) -> list[str]:
    """A project whose checks all tell the receiver."""
    house.user("a@example.org")
    project = house.project("a@example.org", "p")
    channel = house.cli_json("channel", "create", "webhook", "--project", project, "--name", "hook", *call(receiver))["id"]
    return [
        house.cli_json("check", "create", "--project", project, "--name", f"c{n}", "--channel", channel)["id"]
        for n in range(CHECKS)
    ]


def call(receiver: Receiver) -> list[str]:
    """The same call for down and up, with the whole event as its body."""
    return ["--down-url", receiver.url, "--up-url", receiver.url]


def revive(house: House) -> None:
    if house.server is not None and house.server.poll() is None:
        return
    house.server_env.pop("ALLSWELL_FAILPOINT", None)
    house.start()


def is_open(stored: Stored) -> bool:
    return stored.number("select count(*) from deliveries where finished_at is null") > 0


def come_to_rest(stored: Stored) -> None:
    end = time.monotonic() + REST_SECS
    while time.monotonic() < end:
        if not is_open(stored):
            return
        time.sleep(0.1)
    raise AssertionError(stored.rows("select state, count(*), min(last_outcome) from deliveries group by state"))


def agree(stored: Stored, receiver: Receiver) -> None:
    """What was received is what is stored, once each, in order."""
    with receiver.lock:
        seen = list(receiver.seen)
    sql = f"select {stored.hex('d.shard')}, d.seq, {stored.hex('d.id')}, d.state from deliveries d"
    promised = {(row[0], int(row[1])): (row[2], row[3]) for row in stored.rows(sql)}
    assert {state for _, state in promised.values()} <= {"delivered", "superseded"}, promised
    ids: dict[tuple[str, int], set[str]] = {}
    newest: dict[str, int] = {}
    for event in seen:
        check, seq = event["check"].replace("-", ""), event["seq"]
        ids.setdefault((check, seq), set()).add(event["webhook-id"].replace("-", ""))
        assert seq >= newest.get(check, 0), f"flip {seq} of {check} after {newest[check]}"
        newest[check] = seq
    for key, (delivery, state) in promised.items():
        if state == "delivered":
            assert ids.get(key) == {delivery}, (key, delivery, ids.get(key))
    # Each flip that is news is told: by its own delivery, or by the one that overtook it.
    untold = stored.rows(
        """select f.seq from flips f
           where (f.to_status = 2 or (f.from_status = 2 and f.to_status = 1)) and not exists
               (select 1 from delivery_flips x join deliveries d on d.shard = x.check_id and d.id = x.delivery_id
                where x.check_id = f.check_id and x.flip_seq = f.seq and d.state = 'delivered')"""
    )
    assert untold == []


# Beside other servers nothing is recovered at the start: leases lapse.
@pytest.mark.parametrize(
    ("point", "database"),
    [(point, database) for point in POINTS for database in DATABASES if "startup" not in point or database == "sqlite"],
)
def test_a_crash_at_this_place_loses_nothing(point: str, database: str) -> None:
    receiver = Receiver()
    with stored_on(database) as stored, House(settings={**SETTINGS, **stored.settings}) as house:
        stored.of(house)
        checks = furnish(house, receiver)
        house.kill()
        house.server_env["ALLSWELL_FAILPOINT"] = point
        try:
            house.start()
        except RuntimeError:
            # It ended while it started, as it was told to.
            revive(house)
        for n in range(EVENTS):
            check, action = checks[n % CHECKS], "/fail" if (n // CHECKS) % 2 == 0 else ""
            while not ping(house, check, action):
                revive(house)
        end = time.monotonic() + REST_SECS
        while house.server.poll() is None and "ALLSWELL_FAILPOINT" in house.server_env and time.monotonic() < end:
            if not is_open(stored):
                break
            time.sleep(0.05)
        assert "ALLSWELL_FAILPOINT" not in house.server_env or house.server.poll() is not None, "it never got there"
        revive(house)
        come_to_rest(stored)
        agree(stored, receiver)


@pytest.mark.parametrize("database", DATABASES)
def test_a_crash_while_leases_are_renewed_loses_nothing(database: str) -> None:
    """Leases that the clock says have lapsed while their attempts are under way: as if it had been set forward."""
    receiver = Receiver()
    with stored_on(database) as stored, House(settings={**SETTINGS, **stored.settings}) as house:
        stored.of(house)
        checks = furnish(house, receiver)
        house.kill()
        house.server_env["ALLSWELL_FAILPOINT"] = "during_lease_renewal:1"
        house.start()
        with receiver.lock:
            # Nobody is answered meanwhile.
            for check in checks:
                assert ping(house, check, "/fail")
            end = time.monotonic() + REST_SECS
            while house.server.poll() is None and time.monotonic() < end:
                stored.change("update deliveries set lease_until = 1 where state = 'leased'")
                time.sleep(0.1)
        assert house.server.poll() is not None, "it never got there"
        revive(house)
        come_to_rest(stored)
        agree(stored, receiver)


@pytest.mark.parametrize("database", DATABASES)
def test_kill_9_at_random_moments_loses_nothing(database: str) -> None:
    seed = int(os.environ.get("DELIVERY_SEED", time.time_ns() % 100_000))
    print(f"DELIVERY_SEED={seed}")
    dice = random.Random(seed)
    receiver = Receiver()
    with stored_on(database) as stored, House(settings={**SETTINGS, **stored.settings}) as house:
        stored.of(house)
        checks = furnish(house, receiver)
        for _ in range(int(os.environ.get("DELIVERY_ROUNDS", "5"))):
            killer = threading.Timer(dice.uniform(0.05, 1.5), os.kill, (house.server.pid, signal.SIGKILL))
            killer.start()
            while house.server.poll() is None:
                ping(house, dice.choice(checks), dice.choice(["/fail", ""]))
            killer.join()
            house.start()
        come_to_rest(stored)
        agree(stored, receiver)


def test_pings_are_taken_while_a_stop_waits_for_a_receiver() -> None:
    receiver = Receiver()
    with stored_on("sqlite") as stored, House(settings=SETTINGS) as house:
        stored.of(house)
        one, other, *_ = furnish(house, receiver)
        with receiver.lock:
            # It is not answered meanwhile.
            assert ping(house, one, "/fail")
            end = time.monotonic() + 20
            while not stored.number("select count(*) from deliveries where state = 'leased'"):
                assert time.monotonic() < end, house.tail()
                time.sleep(0.05)
            house.server.send_signal(signal.SIGTERM)
            while "SIGTERM: ending" not in house.tail():
                assert time.monotonic() < end, house.tail()
                time.sleep(0.05)
            for _ in range(10):
                assert ping(house, other, "/fail")
                time.sleep(0.1)
        assert house.server.wait(20) == 0, house.tail()
        house.server = None
        assert stored.number("select count(*) from pings") == 11
        # What was under way has ended, and what was promised since waits for the next start.
        assert stored.rows("select state, count(*) from deliveries group by state order by state") == [
            ("delivered", "1"),
            ("ready", "1"),
        ]
        house.start()
        come_to_rest(stored)
        agree(stored, receiver)
