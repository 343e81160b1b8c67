"""How fast alerts leave: beside projects whose targets never answer, idle, in bulk, and after a crash.

    target/venv/bin/python tests/delivery_speed.py [--database postgres] [--small] [--only slow,crowd,idle,deadline,bulk,flight]
                                                   [--connections N] [--postgres-set NAME=VALUE]
                                                                                      (or `make bench-delivery`)

`slow` and `crowd` run with a pool of one connection to PostgreSQL, so that the whole server, with three for pings and one that
listens, has five; the others with five in the pool. `--connections` is for all.

Each scenario starts a server of its own, on loopback, with a receiver in this process: so load, receiver and server
share the machine. A figure outside its bound fails the run; `--small` has the small forms of `delivery.md` section 5.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import select
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from stored import DATABASES, Stored, stored_on  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# Of the server in all, whatever each is for.
CONNECTIONS_MAX = 5


class Receiver:
    """Takes connections on every loopback address. Port `slow` never answers; port `fast` answers at once.

    Written on epoll itself: it must take far less of the machine than what it measures.
    """

    def __init__(self):
        self.first: dict[str, float] = {}
        self.ids: dict[bytes, int] = {}
        self.count = 0
        self.opened = self.began = 0.0
        self.open: dict[int, tuple[socket.socket, bool, bytes]] = {}
        self.waiting = 0
        self.poll = select.epoll()
        self.listeners: dict[int, tuple[socket.socket, bool]] = {}
        self.slow, self.fast = self.listen(False), self.listen(True)
        threading.Thread(target=self.serve, daemon=True).start()

    def listen(self, answers: bool) -> int:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", 0))
        listener.listen(4096)
        listener.setblocking(False)
        self.poll.register(listener, select.EPOLLIN)
        self.listeners[listener.fileno()] = (listener, answers)
        return listener.getsockname()[1]

    def serve(self) -> None:
        while True:
            for fd, _ in self.poll.poll():
                if fd in self.listeners:
                    self.accept(*self.listeners[fd])
                else:
                    self.read(fd)

    def accept(self, listener: socket.socket, answers: bool) -> None:
        for _ in range(64):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.began = self.began or time.monotonic()
            connection.setblocking(False)
            self.open[connection.fileno()] = (connection, answers, b"")
            self.poll.register(connection, select.EPOLLIN)
            self.waiting += not answers

    def read(self, fd: int) -> None:
        connection, answers, before = self.open[fd]
        try:
            got = connection.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            got = b""
        if got and not answers:
            return
        if got:
            if not before:
                self.first.setdefault(got.split(b" ", 2)[1].decode("latin-1"), time.monotonic())
            request = before + got
            if not self.is_whole(request):
                self.open[fd] = (connection, answers, request)
                return
            with contextlib.suppress(OSError):
                connection.send(ANSWER)
            self.count += 1
        del self.open[fd]
        self.waiting -= not answers
        # By hand: a child that was just made has the file too, and it would be polled on.
        self.poll.unregister(fd)
        connection.close()

    def is_whole(self, request: bytes) -> bool:
        head, end, body = request.partition(b"\r\n\r\n")
        if not end:
            return False
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields.get(b"content-length", b"0")):
            return False
        name = fields[b"webhook-id"]
        self.ids[name] = self.ids.get(name, 0) + 1
        return True


class Client:
    """Requests on one connection that is kept."""

    def __init__(self, house: House):
        self.house, self.connection = house, None

    def ask(self, method: str, path: str, key: str = "", body: dict | None = None) -> tuple[int, bytes]:
        for last in (False, True):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.house.port, timeout=60)
            try:
                self.connection.request(method, path, json.dumps(body) if body else None, {"X-Api-Key": key} if key else {})
                answer = self.connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                self.connection = None
                if last:
                    raise
        raise AssertionError

    def made(self, path: str, key: str, body: dict) -> dict:
        status, text = self.ask("POST", path, key, body)
        assert status == 201, text
        return json.loads(text)

    def fail(self, check: str) -> float:
        """Milliseconds that the ping took."""
        begun = time.monotonic()
        status, _ = self.ask("GET", f"/ping/{check}/fail")
        assert status == 200, status
        return (time.monotonic() - begun) * 1_000


class World:
    """A server with projects and channels."""

    def __init__(self, house: House, receiver: Receiver, stored: Stored):
        self.house, self.receiver, self.stored = house, receiver, stored.of(house)
        self.client = Client(house)
        house.user("a@example.org", "--check-limit", "1000000")

    def project(self, name: str) -> str:
        """The read-write key of a new project."""
        return self.house.key(self.house.project("a@example.org", name), "read-write")

    def channel(self, key: str, url: str) -> str:
        call = {"url": url, "method": "POST"}
        made = self.client.made("/v1/channels", key, {"kind": "webhook", "name": url[-40:], "down": call, "up": call})
        return made["id"]

    def check(self, key: str, channels: str = "*") -> str:
        return self.client.made("/api/v3/checks/", key, {"name": "c", "channels": channels})["uuid"]

    def furnish(self, key: str, port: int, channels: int, checks: int, network: int = 1) -> list[str]:
        """Channels to one origin each, and checks that tell all of them."""
        for n in range(channels):
            self.channel(key, f"http://127.{network}.{1 + n // 250}.{1 + n % 250}:{port}/{n}")
        return [self.check(key) for _ in range(checks)]

    def rss_mib(self, field: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.house.server.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1_024

    def cpu_secs(self) -> float:
        """User and system time of the server's process."""
        fields = Path(f"/proc/{self.house.server.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Looks beside what is measured: pings of a check of its own, and the server's connections to PostgreSQL."""

    def __init__(self, world: World, check: str):
        self.world, self.check, self.ended = world, check, threading.Event()
        self.pings: list[float] = []
        self.connections: dict[str, int] = {}
        self.most = 0
        self.threads = [threading.Thread(target=self.ping)]
        if world.stored.cluster:
            self.threads.append(threading.Thread(target=self.count))

    def __enter__(self) -> "Watch":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def ping(self) -> None:
        client = Client(self.world.house)
        while not self.ended.wait(0.05):
            begun = time.monotonic()
            assert client.ask("GET", f"/ping/{self.check}")[0] == 200
            self.pings.append((time.monotonic() - begun) * 1_000)

    def count(self) -> None:
        sql = f"select application_name, count(*) from pg_stat_activity where datname = '{self.world.stored.database}'" \
            " and application_name like 'allswell%' group by 1"
        while not self.ended.wait(0.5):
            now = {}
            for line in self.world.stored.cluster.sql(sql).splitlines():
                name, number = line.split("|")
                now[name] = int(number)
                self.connections[name] = max(self.connections.get(name, 0), int(number))
            self.most = max(self.most, sum(now.values()))

    def bounds(self) -> dict[str, tuple[float, float]]:
        found = {f"ping p99 of {len(self.pings)}, ms": (percentile(self.pings, 0.99), 100.0)}
        if self.world.stored.cluster:
            print("connections to PostgreSQL: " + ", ".join(f"{name} {n}" for name, n in sorted(self.connections.items())))
            # None seen would mean that they were not looked for where they are.
            assert {"allswell", "allswell pings"} <= self.connections.keys(), self.connections
            found["connections to PostgreSQL in all"] = (self.most, CONNECTIONS_MAX)
        return found


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def single_alerts(world: World, key: str, count: int, pause: float) -> list[float]:
    """Single alerts to a healthy receiver: seconds from the answered ping to the first byte."""
    lags = []
    for n in range(count):
        path = f"/b/{key}/{n}"
        check = world.check(key, world.channel(key, f"http://127.0.0.1:{world.receiver.fast}{path}"))
        world.client.fail(check)
        answered = time.monotonic()
        end = answered + 60
        while path not in world.receiver.first and time.monotonic() < end:
            time.sleep(0.001)
        lags.append(max(0.0, world.receiver.first.get(path, end) - answered))
        time.sleep(max(0.0, pause - (time.monotonic() - answered)))
    return lags


def verdict(name: str, bounds: dict[str, tuple[float, float]]) -> bool:
    """Prints each figure beside its bound; whether all hold."""
    fine = True
    for what, (value, bound) in bounds.items():
        holds = value <= bound
        fine &= holds
        print(f"{name}: {what}: {value:.3f} (at most {bound:g}){'' if holds else '  TOO MUCH'}", flush=True)
    return fine


def beside(name: str, world: World, checks: list[str], alerts: int, small: bool) -> bool:
    """All of these checks fail, and nobody answers their alerts; another project sends single ones."""
    other = world.project("b")
    quiet = world.check(other, "")
    before = world.rss_mib()
    due = world.stored.number("select count(*) from deliveries")
    with Watch(world, quiet) as watch:
        for check in checks:
            world.client.fail(check)
        time.sleep(2)
        lags = single_alerts(world, other, alerts, 1.0)
    due = world.stored.number("select count(*) from deliveries") - due - alerts
    open_ = world.stored.number("select count(*) from deliveries where state in ('ready', 'leased')")
    print(f"{name}: {due} alerts due, {world.receiver.waiting} attempts under way")
    return verdict(
        name,
        {
            "longest from ping to first byte, s": (max(lags), 5.0 if small else 2.0),
            "p95 from ping to first byte, s": (percentile(lags, 0.95), 2.0 if small else 1.0),
            **watch.bounds(),
            "memory growth, MiB": (world.rss_mib("VmHWM") - before, 200.0),
            "alerts that are neither told nor open": (due - open_, 0),
        },
    )


def slow(world: World, small: bool) -> bool:
    """One project has its alerts due to targets that never answer; another sends single ones."""
    checks = world.furnish(world.project("a"), world.receiver.slow, *((20, 100) if small else (100, 100)))
    return beside("slow", world, checks, 10 if small else 50, small)


def crowd(world: World, small: bool) -> bool:
    """Three hundred projects have a hundred each: many small ones hold nobody up either."""
    checks = []
    for n in range(30 if small else 300):
        checks += world.furnish(world.project(f"a{n}"), world.receiver.slow, 10, 10, network=n % 250 + 1)
    return beside("crowd", world, checks, 10 if small else 50, small)


def idle(world: World, small: bool) -> bool:
    """Nothing else is under way: from the answered ping to the first byte."""
    lags = single_alerts(world, world.project("idle"), 20 if small else 100, 0.0)
    return verdict("idle", {"p99 from ping to first byte, s": (percentile(lags, 0.99), 0.25)})


def deadline(world: World, small: bool) -> bool:
    """Nothing else is under way: from the stored deadline of a silent check, two minutes after its ping, to the first byte."""
    key, count = world.project("deadline"), 20 if small else 100
    for n in range(count):
        channel = world.channel(key, f"http://127.0.0.1:{world.receiver.fast}/d/{n}")
        check = {"name": str(n), "timeout": 60, "grace": 60, "channels": channel}
        made = world.client.made("/api/v3/checks/", key, check)
        assert world.client.ask("GET", f"/ping/{made['uuid']}")[0] == 200
    deadlines = {name: int(at) / 1e6 for name, at in world.stored.rows("select name, deadline from checks where status = 1")}
    assert deadlines.keys() == {str(n) for n in range(count)}, deadlines
    to_monotonic = time.monotonic() - time.time()
    print(f"deadline: the last of {count} is in {max(deadlines.values()) - time.time():.0f} s", flush=True)
    end = max(deadlines.values()) + to_monotonic + 60
    while len(world.receiver.first) < count and time.monotonic() < end:
        time.sleep(0.1)
    lags = [world.receiver.first.get(f"/d/{name}", end) - to_monotonic - at for name, at in deadlines.items()]
    assert min(lags) > 0, "told before its deadline"
    return verdict("deadline", {"p99 to first byte, s": (percentile(lags, 0.99), 0.25)})


def bulk(world: World, small: bool) -> bool:
    """Many at once to 50 origins that answer at once. Then the same as a backlog that a server finds at its start, a
    part of it leased by a server that died."""
    checks = world.furnish(world.project("bulk"), world.receiver.fast, 50, 40 if small else 2_000)
    wanted = len(checks) * 50
    begun, cpu = time.monotonic(), world.cpu_secs()
    for check in checks:
        world.client.fail(check)
    print(f"bulk: the last ping was answered after {time.monotonic() - begun:.1f} s")
    fine = told("bulk", world, wanted, begun, cpu, small)
    world.house.kill()
    world.stored.change(
        "update deliveries set state = 'ready', attempts = 0, finished_at = null, last_outcome = null"
    )
    world.stored.change("delete from attempts")
    # One server alone gives back what another had, at once; beside others a lease has to lapse, as these have.
    left = 0 if world.stored.cluster else 3_600_000_000
    world.stored.change(
        f"update deliveries set state = 'leased', lease_owner = {world.stored.new_id()}, lease_until = next_at + {left}"
        " where id in (select id from deliveries order by id limit 1000)"
    )
    receiver = world.receiver
    receiver.count, receiver.began, receiver.ids = 0, 0.0, {}
    begun = time.monotonic()
    world.house.start()
    while not receiver.began and time.monotonic() - begun < 60:
        time.sleep(0.001)
    fine &= verdict("recovery", {"from the start to the first attempt, s": (receiver.began - begun, 5.0)})
    return told("recovery", world, wanted, receiver.began, 0.0, small) and fine


def told(name: str, world: World, wanted: int, begun: float, cpu: float, small: bool) -> bool:
    """Waits until each has one stored result; whether it was fast enough, and what came is what is stored."""
    receiver, stored = world.receiver, world.stored
    while receiver.count < wanted and time.monotonic() - begun < 600:
        time.sleep(0.02)
    received = wanted / (time.monotonic() - begun)
    results = "select count(*) from attempts a join deliveries d on d.shard = a.shard and d.id = a.delivery_id" \
        " where d.state = 'delivered' and a.http_status = 200"
    while stored.number("select count(*) from deliveries where state in ('ready', 'leased')") and time.monotonic() - begun < 600:
        time.sleep(0.05)
    took = time.monotonic() - begun
    cost = (world.cpu_secs() - cpu) * 1e6 / wanted
    attempts = stored.number(results)
    ids = {name for (name,) in stored.rows(f"select {stored.hex('id')} from deliveries where state = 'delivered'")}
    came = {name.decode().replace("-", "") for name in receiver.ids}
    twice = sum(count - 1 for count in receiver.ids.values())
    print(f"{name}: {attempts} of {wanted} stored, {attempts / took:.0f} a second (2,000 wanted), received {received:.0f} a second")
    print(f"{name}: {cost:.0f} µs of the server's CPU for each, {twice} received twice, {world.rss_mib('VmHWM'):.0f} MiB at most")
    same = ids == came and len(ids) == wanted == attempts and twice == 0
    if not same:
        print(f"{name}: {len(ids)} stored as delivered, {len(came)} received: NOT THE SAME")
    return same and (small or attempts / took >= 2_000)


def flight(world: World, small: bool) -> bool:
    """So many attempts under way at a time, and what each takes of memory."""
    projects, channels = (4, 20) if small else (8, 80)
    checks = []
    for n in range(projects):
        checks += world.furnish(world.project(f"a{n}"), world.receiver.slow, channels, 17, network=n + 1)
    before, wanted = world.rss_mib(), (1_000 if small else 10_000)
    begun = time.monotonic()
    for check in checks:
        world.client.fail(check)
    most, peak = 0, 0.0
    while most < wanted and time.monotonic() - begun < 60:
        most = max(most, world.receiver.waiting)
        time.sleep(0.01)
    took = time.monotonic() - begun
    time.sleep(1)
    peak = world.rss_mib("VmHWM")
    print(f"flight: {most} under way after {took:.1f} s, {peak - before:.0f} MiB more")
    bounds = {"KiB for each": ((peak - before) * 1_024 / max(most, 1), 64.0), "missing": (wanted - most, 0)}
    return verdict("flight", bounds)


SCENARIOS = {"slow": slow, "crowd": crowd, "idle": idle, "deadline": deadline, "bulk": bulk, "flight": flight}
# What a scenario sets beside the defaults.
SETTINGS = {
    "slow": {"DATABASE_CONNECTIONS": "1"}, "crowd": {"DATABASE_CONNECTIONS": "1"},
    "flight": {"DELIVERY_MAX_IN_FLIGHT": "22800", "DELIVERY_MAX_PER_PROJECT": "2850", "LIMITS_CONNECTIONS": "512"},
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--connections", help="of the pool of PostgreSQL")
    parser.add_argument("--postgres-set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the cluster")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default=",".join(SCENARIOS))
    arguments = parser.parse_args()
    fine = True
    cluster_settings = dict(setting.split("=", 1) for setting in arguments.postgres_set)
    for name in arguments.only.split(","):
        with stored_on(arguments.database, cluster_settings=cluster_settings) as stored:
            settings = {
                "OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false", "LIMITS_API_PER_KEY": "1000000",
                "DATABASE_CONNECTIONS": "5", **stored.settings, **SETTINGS.get(name, {}),
            }
            if arguments.connections:
                settings["DATABASE_CONNECTIONS"] = arguments.connections
            with House(settings=settings) as house:
                fine &= SCENARIOS[name](World(house, Receiver(), stored), arguments.small)
                # What waits for slow targets needs no farewell.
                house.kill()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
