"""Killed at a random moment under load, again and again: what was answered is there, and the rows agree.

`make crash` runs 20 rounds, `make test` three. Each round loads the server with pings that make checks flip, sends
SIGKILL at a random instant, looks at the database file, and starts the server again on it.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import sqlite3
import sys
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "3"))
CHECKS = 20
CLIENTS = 6
START_SECS = 2.0
STATUS = {0: "new", 1: "up", 2: "down", 3: "paused"}


class Load:
    """Clients on kept connections, each pinging random checks until the server is gone."""

    def __init__(self, house: House, checks: list[str], seed: int):
        self.port, self.checks = house.port, checks
        self.answered = {check: 0 for check in checks}
        self.unanswered = {check: 0 for check in checks}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client, args=(random.Random(seed * 100 + n),)) for n in range(CLIENTS)]

    def client(self, dice: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while True:
            check = dice.choice(self.checks)
            suffix = dice.choice(["", "", "/fail", "/start", "/log", "/3"])
            try:
                connection.request("POST", f"/ping/{check}{suffix}", body=b"x" * dice.choice([0, 10, 3000]))
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                with self.lock:
                    self.unanswered[check] += 1
                return
            assert answer.status == 200, answer.status
            with self.lock:
                self.answered[check] += 1


def rows(house: House, sql: str) -> list[tuple]:
    with sqlite3.connect(f"file:{house.data / 'allswell.db'}?mode=ro", uri=True) as db:
        return db.execute(sql).fetchall()


def agree(house: House) -> None:
    """The rules that hold in every state of the database, however it came about."""
    assert rows(house, "pragma quick_check") == [("ok",)]
    wrong = {
        "pings are counted once": """select hex(c.id), c.ping_count, count(p.n), max(p.n) from checks c
            left join pings p on p.check_id = c.id group by c.id having c.ping_count <> count(p.n) or max(p.n) <> count(p.n)""",
        "bodies belong to pings": "select count(*) from ping_bodies b where not exists (select 1 from pings p where p.check_id = b.check_id and p.n = b.n and p.body_bytes > 0) having count(*) > 0",
        "pings have their bodies": "select count(*) from pings p where p.body_bytes > 0 and not exists (select 1 from ping_bodies b where p.check_id = b.check_id and p.n = b.n) having count(*) > 0",
        "flips are numbered without gaps": "select hex(c.id) from checks c left join flips f on f.check_id = c.id group by c.id having c.flip_count <> count(f.seq) or coalesce(max(f.seq), 0) <> count(f.seq)",
        "no status without its flip": "select hex(c.id) from checks c join flips f on f.check_id = c.id and f.seq = c.flip_count where f.to_status <> c.status",
        "flips chain": "select hex(f.check_id), f.seq from flips f join flips g on g.check_id = f.check_id and g.seq = f.seq + 1 where g.from_status <> f.to_status or g.at < f.at",
        "down is an open incident": "select hex(c.id) from checks c where (c.status = 2) <> exists (select 1 from incidents i where i.check_id = c.id and i.closed_seq is null)",
        "incidents end where a flip is": "select 1 from incidents i where not exists (select 1 from flips f where f.check_id = i.check_id and f.seq = i.opened_seq and f.at = i.opened_at and f.to_status = 2) or (i.closed_seq is not null and not exists (select 1 from flips f where f.check_id = i.check_id and f.seq = i.closed_seq and f.at = i.closed_at and f.from_status = 2))",
        "each flip that is news has its delivery": """select hex(f.check_id), f.seq from flips f where (f.to_status = 2 or (f.from_status = 2 and f.to_status = 1))
            and not exists (select 1 from delivery_flips d where d.check_id = f.check_id and d.flip_seq = f.seq)""",
        "each delivery is of a flip": "select 1 from deliveries d where not exists (select 1 from delivery_flips x where x.check_id = d.shard and x.delivery_id = d.id)",
    }
    broken = {name: found for name, sql in wrong.items() if (found := rows(house, sql))}
    assert not broken, broken


def counted(house: House) -> dict[str, int]:
    return {str(uuid.UUID(bytes=code)): count for code, count in rows(house, "select id, ping_count from checks")}


def test_every_answered_ping_is_stored_and_counted_once_whenever_the_server_is_killed():
    seed = int(os.environ.get("CRASH_SEED", random.randrange(10**6)))
    print(f"CRASH_SEED={seed}")
    dice = random.Random(seed)
    with House() as house:
        house.user("alice@example.org")
        project = house.project("alice@example.org", "Home")
        house.cli("channel", "create", "--project", project, "--kind", "log", "--name", "ops")
        checks = [house.cli_json("check", "create", "--project", project, "--name", f"job {n}", "--channel", "all")["id"] for n in range(CHECKS)]
        least = dict.fromkeys(checks, 0)
        most = dict.fromkeys(checks, 0)
        for number in range(ROUNDS):
            load = Load(house, checks, dice.randrange(10**6))
            for thread in load.threads:
                thread.start()
            time.sleep(dice.uniform(0.05, 0.6))
            os.kill(house.server.pid, signal.SIGKILL)
            house.server.wait()
            for thread in load.threads:
                thread.join()
            for check in checks:
                least[check] += load.answered[check]
                most[check] += load.answered[check] + load.unanswered[check]

            begun = time.monotonic()
            house.start()
            assert time.monotonic() - begun < START_SECS, f"round {number}: the start took too long"
            assert sum(load.answered.values()) > 0, "the load did nothing"
            now = counted(house)
            lost = {check: (least[check], now[check]) for check in checks if now[check] < least[check]}
            doubled = {check: (now[check], most[check]) for check in checks if now[check] > most[check]}
            assert not lost, f"round {number}, seed {seed}: answered and not stored: {lost}"
            assert not doubled, f"round {number}, seed {seed}: counted more than once: {doubled}"
            # What came without an answer is settled now: it is in, or it never was.
            least, most = dict(now), dict(now)
            agree(house)
        # Every promise is kept in the end.
        end = time.monotonic() + 20
        while rows(house, "select count(*) from deliveries where finished_at is null") != [(0,)]:
            assert time.monotonic() < end, "deliveries stay open"
            time.sleep(0.1)
