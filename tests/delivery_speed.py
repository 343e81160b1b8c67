"""How fast alerts leave: beside a project whose targets never answer, idle, and in bulk.

    target/venv/bin/python tests/delivery_speed.py [--database postgres] [--small] [--only slow,idle,bulk]
                                                                                  (or `make bench-delivery`)

Each scenario starts a server of its own, on loopback, with a receiver in this process: so load, receiver and server
share the machine. A figure outside its bound fails the run; `--small` has the small form of `delivery.md` section 5.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from postgres import settings_for  # noqa: E402


class Receiver:
    """Takes connections on every loopback address. Port `slow` never answers; port `fast` answers at once."""

    def __init__(self):
        self.first: dict[str, float] = {}
        self.count = 0
        self.waiting = 0
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.main(ready)), daemon=True).start()
        assert ready.wait(10)

    async def main(self, ready: threading.Event) -> None:
        fast = await asyncio.start_server(self.answer, "0.0.0.0", 0, backlog=4096)
        slow = await asyncio.start_server(self.never, "0.0.0.0", 0, backlog=4096)
        self.fast, self.slow = (server.sockets[0].getsockname()[1] for server in (fast, slow))
        ready.set()
        await asyncio.Event().wait()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            self.first.setdefault(line.split()[1].decode(), time.monotonic())
            length = 0
            while (header := await reader.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            await reader.readexactly(length)
            self.count += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, IndexError):
            pass
        writer.close()

    async def never(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting += 1
        try:
            while await reader.read(65_536):
                pass
        except OSError:
            pass
        self.waiting -= 1
        writer.close()


class World:
    """A server with projects and channels."""

    def __init__(self, house: House, receiver: Receiver):
        self.house, self.receiver = house, receiver
        house.user("a@example.org", "--check-limit", "1000000")

    def project(self, name: str) -> tuple[str, str]:
        project = self.house.project("a@example.org", name)
        return project, self.house.key(project, "read-write")

    def channel(self, project: str, url: str) -> str:
        options = ["--name", url[-40:], "--down-url", url, "--up-url", url]
        return self.house.cli_json("channel", "create", "webhook", "--project", project, *options)["id"]

    def check(self, project: str, *channels: str) -> str:
        options = [part for channel in channels for part in ("--channel", channel)]
        return self.house.cli_json("check", "create", "--project", project, "--name", "c", *options)["id"]

    def fail(self, check: str, timeout: float = 10) -> float:
        """Milliseconds that the ping took."""
        begun = time.monotonic()
        status, _ = self.house.get(f"/ping/{check}/fail")
        assert status == 200, status
        return (time.monotonic() - begun) * 1_000

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.house.server.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1_024


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def single_alerts(world: World, project: str, count: int, pause: float) -> tuple[list[float], list[float]]:
    """Single alerts to a healthy receiver: seconds from the answered ping to the first byte, and of the pings."""
    lags, pings = [], []
    for n in range(count):
        path = f"/b/{project}/{n}"
        check = world.check(project, world.channel(project, f"http://127.0.0.1:{world.receiver.fast}{path}"))
        pings.append(world.fail(check))
        answered = time.monotonic()
        end = answered + 60
        while path not in world.receiver.first and time.monotonic() < end:
            time.sleep(0.001)
        lags.append(world.receiver.first.get(path, end) - answered)
        time.sleep(max(0.0, pause - (time.monotonic() - answered)))
    return lags, pings


def verdict(name: str, bounds: dict[str, tuple[float, float]]) -> bool:
    """Prints each figure beside its bound; whether all hold."""
    fine = True
    for what, (value, bound) in bounds.items():
        holds = value <= bound
        fine &= holds
        print(f"{name}: {what}: {value:.3f} (at most {bound:g}){'' if holds else '  TOO MUCH'}", flush=True)
    return fine


def slow(world: World, small: bool) -> bool:
    """Project A has its alerts due to targets that never answer; project B sends single ones."""
    channels, checks, alerts = (20, 100, 10) if small else (100, 100, 50)
    a, _ = world.project("a")
    b, _ = world.project("b")
    hooks = [world.channel(a, f"http://127.0.{1 + n // 250}.{1 + n % 250}:{world.receiver.slow}/{n}") for n in range(channels)]
    made = [world.check(a, *hooks) for _ in range(checks)]
    before = world.rss_mib()
    for check in made:
        world.fail(check)
    time.sleep(2)
    lags, pings = single_alerts(world, b, alerts, 1.0)
    print(f"slow: {channels * checks} alerts due, {world.receiver.waiting} attempts under way")
    return verdict(
        "slow",
        {
            "longest from ping to first byte, s": (max(lags), 5.0 if small else 2.0),
            "p95 from ping to first byte, s": (percentile(lags, 0.95), 2.0 if small else 1.0),
            "ping p99, ms": (percentile(pings, 0.99), 100.0),
            "memory growth, MiB": (world.rss_mib() - before, 200.0),
        },
    )


def idle(world: World, small: bool) -> bool:
    """Nothing else is under way: from the answered ping to the first byte."""
    project, _ = world.project("idle")
    lags, _ = single_alerts(world, project, 20 if small else 100, 0.0)
    return verdict("idle", {"p99 from ping to first byte, s": (percentile(lags, 0.99), 0.25)})


def bulk(world: World, small: bool) -> bool:
    """Many at once to receivers that answer at once: 50 origins."""
    checks = 40 if small else 2_000
    project, _ = world.project("bulk")
    hooks = [world.channel(project, f"http://127.0.0.{1 + n}:{world.receiver.fast}/{n}") for n in range(50)]
    made = [world.check(project, *hooks) for _ in range(checks)]
    begun, before = time.monotonic(), world.receiver.count
    for check in made:
        world.fail(check)
    wanted = checks * len(hooks)
    while world.receiver.count - before < wanted and time.monotonic() - begun < 600:
        time.sleep(0.01)
    rate = (world.receiver.count - before) / (time.monotonic() - begun)
    print(f"bulk: {world.receiver.count - before} of {wanted} received, {rate:.0f} a second (2,000 wanted)", flush=True)
    return world.receiver.count - before >= wanted and (small or rate >= 2_000)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default="slow,idle,bulk")
    arguments = parser.parse_args()
    scenarios = {"slow": slow, "idle": idle, "bulk": bulk}
    fine = True
    for name in arguments.only.split(","):
        with settings_for(arguments.database) as settings:
            with House(settings={**settings, "OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false", "DATABASE_CONNECTIONS": "5"}) as house:
                fine &= scenarios[name](World(house, Receiver()), arguments.small)
                # What waits for slow targets needs no farewell.
                house.kill()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
