"""Killed at a random moment under load, again and again: what was answered is there, and the rows agree.

`make crash` runs 20 rounds on each database, `make test` three. Each round loads the server with pings that make checks
flip while the sweep takes others down, and at a random instant SIGKILL ends the server, on PostgreSQL in turns also the
database with all its processes, or both at once. Then the rows are looked at.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from clock import Clock  # noqa: E402
from house import House  # noqa: E402
from stored import DATABASES, Stored, stored_on  # noqa: E402

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "3"))
BUSY_CHECKS = 20
# These are pinged every third round only, and fall silent: the clock goes on by so much in the middle of each round
# that a third of them is due then, and not by so much that it would count as an absence of ours.
QUIET_CHECKS = 60
SILENT_SECS = 120
STEP_SECS = 41
CLIENTS = 6
START_SECS = 2.0
KINDS = {"sqlite": ["server"], "postgres": ["server", "database", "both"]}


class Load:
    """Clients on kept connections, each pinging random checks until it is told to stop."""

    def __init__(self, house: House, checks: list[str], dice: random.Random):
        self.port, self.checks = house.port, checks
        self.answered = {check: 0 for check in checks}
        self.unanswered = {check: 0 for check in checks}
        self.refused = 0
        self.wrong: list[int] = []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(random.Random(dice.random()),)) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self, dice: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.stop.is_set():
            check = dice.choice(self.checks)
            suffix = dice.choice(["", "", "/fail", "/start", "/log", "/3"])
            try:
                connection.request("POST", f"/ping/{check}{suffix}", body=b"x" * dice.choice([0, 10, 3000]))
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                status = 0
                connection.close()
            with self.lock:
                if status == 200:
                    self.answered[check] += 1
                else:
                    # It may be stored all the same: the answer was lost, or the database's answer to the commit.
                    self.unanswered[check] += 1
                    self.refused += 1
                if status not in (0, 200, 503):
                    self.wrong.append(status)
            if status != 200:
                time.sleep(0.02)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.wrong, self.wrong
        assert sum(self.answered.values()) > 0, "the load did nothing"


def agree(stored: Stored) -> None:
    """The rules that hold in every state of the database, however it came about."""
    if not stored.cluster:
        assert stored.rows("pragma integrity_check") == [("ok",)]
    wrong = {
        "pings are counted once": """select c.id, c.ping_count, count(p.n), max(p.n) from checks c
            left join pings p on p.check_id = c.id group by c.id having c.ping_count <> count(p.n) or max(p.n) <> count(p.n)""",
        "bodies belong to pings": """select b.check_id, b.n from ping_bodies b where not exists
            (select 1 from pings p where p.check_id = b.check_id and p.n = b.n and p.body_bytes > 0 and p.body_id = b.id)""",
        "pings have their bodies": """select p.check_id, p.n from pings p where p.body_bytes > 0 and not exists
            (select 1 from ping_bodies b where b.id = p.body_id and p.check_id = b.check_id and p.n = b.n)""",
        "flips are numbered without gaps": """select c.id from checks c left join flips f on f.check_id = c.id group by c.id
            having c.flip_count <> count(f.seq) or coalesce(max(f.seq), 0) <> count(f.seq)""",
        "no status without its flip": """select c.id from checks c left join flips f on f.check_id = c.id and f.seq = c.flip_count
            where coalesce(f.to_status, 0) <> c.status""",
        "flips chain": """select f.check_id, f.seq from flips f join flips g on g.check_id = f.check_id and g.seq = f.seq + 1
            where g.from_status <> f.to_status or g.at < f.at""",
        "down is an open incident": """select c.id from checks c where (c.status = 2) <> exists
            (select 1 from incidents i where i.check_id = c.id and i.closed_seq is null)""",
        "incidents end where a flip is": """select i.check_id, i.opened_seq from incidents i where not exists
                (select 1 from flips f where f.check_id = i.check_id and f.seq = i.opened_seq and f.at = i.opened_at and f.to_status = 2)
            or (i.closed_seq is not null and not exists
                (select 1 from flips f where f.check_id = i.check_id and f.seq = i.closed_seq and f.at = i.closed_at and f.from_status = 2))""",
        "each flip to down is an incident": """select f.check_id, f.seq from flips f where f.to_status = 2 and not exists
            (select 1 from incidents i where i.check_id = f.check_id and i.opened_seq = f.seq)""",
        "each flip that is news has its delivery": """select f.check_id, f.seq from flips f
            where (f.to_status = 2 or (f.from_status = 2 and f.to_status = 1))
            and not exists (select 1 from delivery_flips d where d.check_id = f.check_id and d.flip_seq = f.seq)""",
        "each delivery is of a flip": """select d.id from deliveries d where not exists
            (select 1 from delivery_flips x where x.check_id = d.shard and x.delivery_id = d.id)""",
    }
    broken = {name: found for name, sql in wrong.items() if (found := stored.rows(sql))}
    assert not broken, broken


class Round:
    """One load, one kill, one start."""

    def __init__(self, house: House, stored: Stored, clock: Clock, dice: random.Random, kind: str):
        self.house, self.stored, self.clock, self.dice, self.kind = house, stored, clock, dice, kind
        self.started_within = 0.0

    def run(self, busy: list[str]) -> Load:
        load = Load(self.house, busy, self.dice)
        try:
            time.sleep(self.dice.uniform(0.05, 0.3))
            self.clock.step(STEP_SECS)
            time.sleep(self.dice.uniform(0.05, 0.6))
            self.kill_and_start()
        finally:
            load.end()
        return load

    def kill_and_start(self) -> None:
        cluster, server = self.stored.cluster, self.house.server
        mine = self.sessions() if self.kind == "server" and cluster else []
        if self.kind in ("server", "both"):
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
        if self.kind in ("database", "both"):
            cluster.stop(signal.SIGKILL)
            cluster.start()
        begun = time.monotonic()
        if self.kind == "database":
            while self.house.get("/readyz")[0] != 200:
                assert time.monotonic() - begun < START_SECS, f"it does not find its database again\n{self.house.tail()}"
                time.sleep(0.02)
        else:
            self.house.start()
        self.started_within = time.monotonic() - begun
        # What the dead server had sent may still be at its commit.
        end = time.monotonic() + 30
        while mine and set(mine) & set(self.sessions()):
            assert time.monotonic() < end, "PostgreSQL keeps the sessions of a dead server"
            time.sleep(0.02)

    def sessions(self) -> list[str]:
        sql = "select pid from pg_stat_activity where application_name like 'allswell%'"
        return [pid for (pid,) in self.stored.rows(sql)]


@pytest.mark.parametrize("database", DATABASES)
def test_every_answered_ping_is_stored_and_counted_once_whoever_is_killed(database):
    seed = int(os.environ.get("CRASH_SEED", random.randrange(10**6)))
    print(f"\n{database}: CRASH_SEED={seed}")
    dice = random.Random(seed)
    with Clock() as clock, stored_on(database, durable=True) as stored:
        # Thousands of pings of each check, and every row of them is looked for.
        settings = {**stored.settings, "LIMITS_PING_PER_CHECK": ""}
        with House(settings=settings, server_env=clock.env) as house:
            stored.of(house)
            house.user("alice@example.org")
            project = house.project("alice@example.org", "Home")
            house.cli("channel", "create", "--project", project, "--kind", "log", "--name", "ops")
            made = [
                house.cli_json("check", "create", "--project", project, "--name", f"job {n}", "--channel", "all",
                               "--period", str(SILENT_SECS - 60), "--grace", "60")["id"]
                for n in range(BUSY_CHECKS + QUIET_CHECKS)
            ]
            busy, quiet = made[:BUSY_CHECKS], made[BUSY_CHECKS:]
            least, most = dict.fromkeys(made, 0), dict.fromkeys(made, 0)
            for third in range(3):
                ping(house, quiet[third::3], least, most)
                pass_time(stored, clock)
            answered, slowest = 0, 0.0
            for number in range(ROUNDS):
                kind = KINDS[database][number % len(KINDS[database])]
                round_ = Round(house, stored, clock, dice, kind)
                load = round_.run(busy)
                ping(house, quiet[number % 3 :: 3], least, most)
                where = f"round {number} ({kind} killed), seed {seed}"
                assert round_.started_within < START_SECS, f"{where}: the start took {round_.started_within:.1f} s"
                for check in load.checks:
                    least[check] += load.answered[check]
                    most[check] += load.answered[check] + load.unanswered[check]
                now = counted(stored)
                lost = {check: (least[check], now[check]) for check in made if now[check] < least[check]}
                doubled = {check: (now[check], most[check]) for check in made if now[check] > most[check]}
                assert not lost, f"{where}: answered and not stored: {lost}"
                assert not doubled, f"{where}: counted more than once: {doubled}"
                agree(stored)
                # What came without an answer is settled now: it is in, or it never was.
                least, most = dict(now), dict(now)
                answered += sum(load.answered.values())
                slowest = max(slowest, round_.started_within)
            # Every promise is kept in the end: on PostgreSQL after the dead server's leases have lapsed.
            for _ in range(2):
                clock.step(STEP_SECS)
            end = time.monotonic() + 20
            while open_ := stored.number("select count(*) from deliveries where finished_at is null"):
                assert time.monotonic() < end, f"{open_} deliveries stay open\n{house.tail()}"
                time.sleep(0.1)
            swept = stored.number("select count(*) from flips where to_status = 2 and reason_code like '%timeout'")
            assert swept > 0, "the sweep had nothing to do"
            print(f"{ROUNDS} rounds: {answered} pings answered, all stored once; {swept} checks fell silent; "
                  f"the slowest start took {slowest:.2f} s")


def ping(house: House, checks: list[str], *counts: dict[str, int]) -> None:
    """Each once, with a good word, while nothing else happens."""
    for check in checks:
        assert house.get(f"/ping/{check}") == (200, b"OK")
        for count in counts:
            count[check] += 1


def pass_time(stored: Stored, clock: Clock) -> None:
    """A step of the clock that the server takes note of."""
    clock.step(STEP_SECS)
    now, end = clock.now_micros(), time.monotonic() + 30
    while stored.number("select max(seen_at) from awake") < now:
        assert time.monotonic() < end, "the server does not say that it is awake"
        time.sleep(0.02)


def counted(stored: Stored) -> dict[str, int]:
    sql = f"select {stored.hex('id')}, ping_count from checks"
    return {dashed(found): int(count) for found, count in stored.rows(sql)}


def dashed(found: str) -> str:
    return "-".join([found[:8], found[8:12], found[12:16], found[16:20], found[20:]])
