#!/usr/bin/env python3
"""How long the API takes, seen from a client on the same machine.

    target/venv/bin/python tests/api_speed.py [--database postgres] [--checks N] [--rounds N]      (or `make api-speed`)

Starts the binary (TEST_BINARY) on a fresh data directory, makes N checks, a hundred to a tag, each pinged once, and asks
one question after the other over one connection that is kept alive. Beyond 20,000 the checks are copies of the first
hundred, made by the database: a million take a minute or so, and what reads all of them is left out. Prints the median and the
99th percentile in milliseconds from the first byte sent to the last byte received, beside the empty handler
(/healthz), which is what the stack and this client cost by themselves. Exits 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from stored import Stored, stored_on  # noqa: E402

CHECKS_PER_TAG = 100
# As many are made by the API; more are copied.
ASKED_FOR = 20_000
COPIED_FROM = 100
# Copies of each that one statement makes.
STEP = 1_000


class Client:
    """One connection, kept alive; knows just enough HTTP to find the end of an answer."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, key: str = "", body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        if key:
            head += f"X-Api-Key: {key}\r\n"
        self.socket.sendall(head.encode() + b"\r\n" + body)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.more()
        head_bytes, _, rest = data.partition(b"\r\n\r\n")
        lines = head_bytes.lower().split(b"\r\n")
        status = int(lines[0].split()[1])
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        parts, have = [rest], len(rest)
        while have < length:
            part = self.more()
            parts.append(part)
            have += len(part)
        if status not in (200, 201):
            raise SystemExit(f"{method} {path}: {status} {rest[:200]!r}")
        return b"".join(parts)

    def more(self) -> bytes:
        part = self.socket.recv(1 << 20)
        if not part:
            raise SystemExit("the server closed the connection")
        return part


def seed(house: House, key: str, count: int) -> list[dict]:
    """The checks, made and pinged over a few connections."""

    def some(numbers: range) -> list[dict]:
        client, made = Client(house.port), []
        for n in numbers:
            fields = {"name": f"Job number {n}", "slug": f"job-{n}", "tags": f"all tag-{n // CHECKS_PER_TAG}", "timeout": 3600, "grace": 600}
            check = json.loads(client.ask("POST", "/api/v3/checks/", key, json.dumps(fields).encode()))
            client.ask("POST", f"/ping/{check['uuid']}", body=b"done")
            made.append(check)
        return made

    workers = 8
    with ThreadPoolExecutor(workers) as pool:
        return [check for part in pool.map(some, [range(i, count, workers) for i in range(workers)]) for check in part]


def copy(stored: Stored, count: int) -> None:
    """Fills the project up by copies of its checks, which differ in what is looked for; all bear the tag `all`."""
    columns = stored.columns("checks")
    number = f"n.n * {COPIED_FROM} + c.n"
    own = {
        "id": stored.new_id(),
        "badge_id": stored.new_id(),
        "created_at": "c.created_at + n.n * 1000",
        "name": f"'Job number ' || ({number})",
        "slug": f"'job-' || ({number})",
        "tags": "'all tag-' || n.n",
        "status": "case when n.n % 100 = 0 then 2 else c.status end",
    }
    values = ", ".join(own.get(column, f"c.{column}") for column in columns)
    numbered = "(select *, row_number() over (order by created_at, id) - 1 as n from checks order by created_at, id limit {})"
    tag = "insert into check_tags (check_id, tag, project_id, created_at) select id, {}, project_id, created_at from checks c "
    with stored.at_once() as change:
        upto = count // COPIED_FROM
        for first in range(1, upto, STEP):
            last = min(first + STEP, upto) - 1
            if stored.cluster:
                numbers = f"generate_series({first}, {last}) n(n)"
            else:
                numbers = f"(with recursive n(n) as (select {first} union all select n + 1 from n where n < {last}) select n from n) n"
            # In the order of the primary key pages fill one after the other.
            change(
                f"insert into checks ({', '.join(columns)}) select {values} from {numbers}"
                f" cross join {numbered.format(COPIED_FROM)} c order by {columns.index('id') + 1}"
            )
        for part in range(0, 256, 32):
            new = f"where {stored.hex('id')} >= '{part:02x}' and {stored.hex('id')} < '{format(part + 32, '02x') if part < 224 else 'g'}'"
            new += " and not exists (select 1 from check_tags t where t.check_id = c.id)"
            change(tag.format("substr(c.tags, 5)") + new)
            change(tag.format("'all'") + new.replace("t.check_id = c.id", "t.check_id = c.id and t.tag = 'all'"))
        if stored.cluster:
            change("analyze")


def pages(client: Client, key: str, query: str) -> list[str]:
    """The addresses of some pages of a list, from all over it: each leads to the one behind it."""
    found, cursor = [], ""
    for _ in range(40):
        path = f"/v1/checks?limit=100{query}{cursor}"
        found.append(path)
        page = json.loads(client.ask("GET", path, key))
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    return found


def measure(ask, rounds: int) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds."""
    times = []
    for n in range(-max(3, rounds // 20), rounds):
        begun = time.perf_counter()
        ask(n)
        if n >= 0:
            times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    return statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]


def page_rows(client: Client, key: str, rounds: int) -> list[tuple]:
    """What is asked for pages of 100 checks."""
    rows = [("an empty handler", lambda n: client.ask("GET", "/healthz"), rounds, None)]
    for name, query in [
        ("a page of 100 checks", ""),
        ("of those with a tag that all bear", "&tag=all"),
        ("of those with a tag of 100", "&tag=tag-7"),
        ("of those that are up", "&status=up"),
        ("of those that are down", "&status=down"),
        ("of those that are paused: none is", "&status=paused"),
        ("of those with a name", "&name=Job%20number%2077"),
        ("of those with a tag that are paused", "&tag=all&status=paused"),
    ]:
        asked = pages(client, key, query)
        rows.append((name, lambda n, asked=asked: client.ask("GET", asked[n * 7 % len(asked)], key), rounds, 5))
    return rows


def report(rows: list[tuple]) -> int:
    """Asks and prints; 1 if a target was missed."""
    missed = 0
    print(f"{'':42} {'p50 ms':>9} {'p99 ms':>9} {'target':>9}")
    for name, ask, rounds, target in rows:
        median, p99 = measure(ask, rounds)
        missed += target is not None and median > target
        print(f"{name:42} {median:9.2f} {p99:9.2f} {'< ' + str(target) if target else '':>9}", flush=True)
    return int(missed > 0)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2_000)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    options = parser.parse_args()
    limits = {"LIMITS_API_PER_KEY": "10000000"}
    with stored_on(options.database) as stored, House(settings={**limits, **stored.settings}) as house:
        stored.of(house)
        house.user("alice@example.org", "--check-limit", str(options.checks))
        project = house.project("alice@example.org", "Home")
        key, read_key = house.key(project, "read-write"), house.key(project, "read-only")
        many = options.checks > ASKED_FOR
        checks = seed(house, key, COPIED_FROM if many else options.checks)
        client = Client(house.port)
        if many:
            begun = time.perf_counter()
            copy(stored, options.checks)
            made = stored.number("select count(*) from checks")
            print(f"{made} checks were there after {time.perf_counter() - begun:.0f} s")
            assert made == options.checks, made
            client = Client(house.port)
            return report(page_rows(client, key, options.rounds))
        badges = json.loads(client.ask("GET", "/api/v3/badges/", key))["badges"]
        path = lambda url: url.removeprefix(house.url)  # noqa: E731
        one = lambda n: checks[n * 7919 % len(checks)]  # noqa: E731
        tag = lambda n: badges[f"tag-{n % max(1, options.checks // CHECKS_PER_TAG)}"]["svg"]  # noqa: E731
        listed = lambda _: client.ask("GET", "/api/v3/checks/", key)  # noqa: E731
        assert len(json.loads(listed(0))["checks"]) == options.checks
        few = max(10, options.rounds // 50)
        rows = [
            ("an empty handler", lambda n: client.ask("GET", "/healthz"), options.rounds, None),
            (f"the list of {options.checks} checks", listed, few, 150),
            ("the list of the 100 checks of a tag", lambda n: client.ask("GET", f"/api/v3/checks/?tag=tag-{n % 10}", key), few, None),
            ("one check by its id", lambda n: client.ask("GET", f"/api/v3/checks/{one(n)['uuid']}", key), options.rounds, 2),
            ("the pings of a check", lambda n: client.ask("GET", f"/api/v3/checks/{one(n)['uuid']}/pings/", key), options.rounds, None),
            ("the badge of a check", lambda n: client.ask("GET", path(one(n)["badge_url"])), options.rounds, 1),
            ("the badge of a tag of 100 checks", lambda n: client.ask("GET", path(tag(n))), options.rounds, 1),
            (f"the badge of all {options.checks} checks", lambda n: client.ask("GET", path(badges["*"]["svg"])), few, None),
            ("the addresses of all badges", lambda n: client.ask("GET", "/api/v3/badges/", key), few, None),
            ("the gauges for Prometheus", lambda n: client.ask("GET", f"/checks/metrics/{read_key}"), few, None),
            ("a change of one check", lambda n: client.ask("POST", f"/api/v3/checks/{one(n)['uuid']}", key, b'{"desc": "x"}'), few, None),
        ]
        return report(rows + page_rows(client, key, options.rounds)[1:])


if __name__ == "__main__":
    sys.exit(main())
