#!/usr/bin/env python3
"""How soon those who listen to /v1/events are told of a flip, seen from a client on the same machine.

    target/venv/bin/python tests/events_speed.py [--database postgres] [--listeners N] [--flips N]  (or `make events-speed`)

Starts the binary (TEST_BINARY) on a fresh data directory, lets N connections listen to one project, and makes a check
flip again and again by pings. Prints, in milliseconds from the first byte of the ping that was sent, when the ping was
answered, and when the first, the middle and the last listener had the flip: the median and the longest over all flips.
This client reads all connections itself, on the same machine. Exits 1 if the target is missed.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from postgres import settings_for  # noqa: E402

TARGET_MS = 100
PATIENCE_SECS = 20


class Crowd:
    """Those who listen: connections, and how often each was told of a flip."""

    def __init__(self, port: int, key: str, count: int):
        self.selector = selectors.DefaultSelector()
        self.told = [0] * count
        request = f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\n\r\n".encode()
        self.lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        greeted = [b""] * count
        for n, line in enumerate(self.lines):
            line.sendall(request)
            while b": listening" not in greeted[n]:
                part = line.recv(65536)
                greeted[n] += part
                if not part or (b"\r\n\r\n" in greeted[n] and not greeted[n].startswith(b"HTTP/1.1 200")):
                    raise SystemExit(f"listener {n}: {greeted[n][:300]!r}")
            line.setblocking(False)
            self.selector.register(line, selectors.EVENT_READ, n)

    def wait(self, flips: int, begun: float, *more: socket.socket) -> tuple[list[float], float]:
        """When each was told of that many flips, and when something came on the line `more`, in milliseconds."""
        times, answered = [], 0.0
        for line in more:
            self.selector.register(line, selectors.EVENT_READ, None)
        end = time.perf_counter() + PATIENCE_SECS
        while len(times) < len(self.lines) or not answered:
            for key, _ in self.selector.select(1):
                part = key.fileobj.recv(65536)
                now = (time.perf_counter() - begun) * 1000
                if not part:
                    raise SystemExit("the server closed a connection")
                if key.data is None:
                    answered = now
                    if not part.startswith(b"HTTP/1.1 200"):
                        raise SystemExit(f"a ping was answered with {part[:100]!r}")
                elif b"event: flip" in part:
                    self.told[key.data] += part.count(b"event: flip")
                    if self.told[key.data] == flips:
                        times.append(now)
            if time.perf_counter() > end:
                raise SystemExit(f"only {len(times)} of {len(self.lines)} listeners were told within {PATIENCE_SECS} s")
        for line in more:
            self.selector.unregister(line)
        return times, answered


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--listeners", type=int, default=500)
    parser.add_argument("--flips", type=int, default=50)
    options = parser.parse_args()
    with settings_for(options.database) as settings, House(settings=settings) as house:
        house.user("alice@example.org")
        project = house.project("alice@example.org", "Home")
        key = house.key(project, "read-write")
        headers = {"X-Api-Key": key, "Content-Type": "application/json"}
        status, body = house.request("POST", "/v1/checks", headers, b'{"name": "Backup"}')
        assert status == 201, body
        check = json.loads(body)["id"]
        crowd = Crowd(house.port, key, options.listeners)
        pinger = socket.create_connection(("127.0.0.1", house.port))
        pinger.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rows = []
        # The first few meet what was never used before.
        for flip in range(-3, options.flips):
            path = f"/ping/{check}" if flip % 2 else f"/ping/{check}/fail"
            begun = time.perf_counter()
            pinger.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            times, answered = crowd.wait(flip + 4, begun, pinger)
            if flip >= 0:
                rows.append((answered, times[0], statistics.median(times), times[-1]))
        print(f"{options.listeners} listeners, {options.flips} flips, {options.database}")
        print(f"{'':24} {'median ms':>10} {'longest ms':>10} {'target':>8}")
        names = ["the ping is answered", "the first is told", "half of them are told", "the last is told"]
        worst = 0.0
        for name, values in zip(names, zip(*rows)):
            worst = max(values)
            target = f"< {TARGET_MS}" if name == names[-1] else ""
            print(f"{name:24} {statistics.median(values):10.1f} {worst:10.1f} {target:>8}")
        return int(worst > TARGET_MS)


if __name__ == "__main__":
    sys.exit(main())
