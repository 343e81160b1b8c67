"""Clients that mean no good, and one that does: each kind a process of its own, so that none slows another down.

    python hostile.py KIND PORT CHECK SECS

runs one kind for so many seconds and prints what it saw as one line of JSON. Only the standard library is used,
chance comes from fixed seeds, and every connection goes to 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import resource
import socket
import sys
import threading
import time
from contextlib import suppress

HOST = "127.0.0.1"
CROWD = 5_000
GOOD_EVERY_SECS = 0.1
GOOD_WITHIN_SECS = 2.0


def allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        assert hard == resource.RLIM_INFINITY or hard >= wanted, f"this needs {wanted} open files: ulimit -Hn"
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def until_closed(s: socket.socket) -> bytes:
    """What the server still says. A reset is a way of closing too."""
    said = b""
    with suppress(OSError):
        while got := s.recv(65_536):
            said += got
    return said


def good(port: int, check: str, end: float) -> dict:
    """A ping every 100 ms, in turns on a new connection and on one that is kept. Late or refused is told."""
    answered, bad, slowest = 0, [], 0.0
    kept = http.client.HTTPConnection(HOST, port, timeout=GOOD_WITHIN_SECS)
    while time.monotonic() < end:
        begun = time.monotonic()
        new = http.client.HTTPConnection(HOST, port, timeout=GOOD_WITHIN_SECS)
        for connection in (new, kept):
            asked = time.monotonic()
            try:
                connection.request("GET", f"/ping/{check}")
                answer = connection.getresponse()
                said = (answer.status, answer.read())
                answered += said[0] == 200
            except OSError as error:
                said = (0, repr(error).encode())
            took = time.monotonic() - asked
            slowest = max(slowest, took)
            if said != (200, b"OK") or took > GOOD_WITHIN_SECS:
                bad.append((said[0], said[1].decode(errors="replace"), took))
        new.close()
        time.sleep(max(0.0, GOOD_EVERY_SECS - (time.monotonic() - begun)))
    kept.close()
    return {"answered": answered, "bad": bad[:10], "slowest_secs": slowest}


def noise(port: int, check: str, end: float) -> dict:
    """Random bytes, now and then with a beginning that looks like a request."""
    starts = [b"", b"", b"GET /ping/", b"POST / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    connections = accepted = 0
    for seed in range(1_000_000):
        if time.monotonic() >= end:
            break
        dice = random.Random(seed)
        with socket.create_connection((HOST, port), timeout=15) as s:
            connections += 1
            with suppress(OSError):
                s.sendall(dice.choice(starts) + dice.randbytes(dice.randrange(1, 20_000)))
                s.shutdown(socket.SHUT_WR)
            said = until_closed(s)
            # Nothing of this is a ping or a page.
            accepted += said.startswith(b"HTTP/1.1 2")
    return {"connections": connections, "accepted": accepted}


def heads(port: int, check: str, end: float) -> dict:
    """Heads of 64 kB to 1 MB, in one line and in many."""
    statuses: dict[str, int] = {}
    turn = 0
    while time.monotonic() < end:
        turn += 1
        line = b"x" * (1 << (16 + turn % 5)) if turn % 2 else b"a: b\r\nx-" * (1 << (13 + turn % 5))
        with socket.create_connection((HOST, port), timeout=15) as s:
            with suppress(OSError):
                s.sendall(b"GET /ping/%s HTTP/1.1\r\nhost: t\r\nx: %s\r\n\r\n" % (check.encode(), line))
            status = until_closed(s)[9:12].decode(errors="replace")
        statuses[status] = statuses.get(status, 0) + 1
    return {"statuses": statuses}


def flood(port: int, check: str, end: float) -> dict:
    """Bodies without an end at full speed: four say how long they are, four are chunked."""
    head = f"POST /ping/{check} HTTP/1.1\r\nhost: t\r\n".encode()
    block = b"y" * 65_536
    kinds = {
        "length": (b"content-length: 1000000000000000\r\n\r\n", block),
        "chunked": (b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + block + b"\r\n"),
    }
    told = {"answered": 0, "bytes": 0, "requests": 0}
    lock = threading.Lock()

    def send(first: bytes, more: bytes) -> None:
        while time.monotonic() < end:
            sent, said = 0, b""
            with socket.create_connection((HOST, port), timeout=15) as s:
                with suppress(OSError):
                    s.sendall(head + first)
                    while time.monotonic() < end:
                        s.sendall(more)
                        sent += len(more)
                # The server has closed. Its answer may be lost in the reset; then it was not heard.
                with suppress(OSError):
                    s.shutdown(socket.SHUT_WR)
                said = until_closed(s)
            with lock:
                told["requests"] += 1
                told["bytes"] += sent
                told["answered"] += said.startswith(b"HTTP/1.1 200")

    threads = [threading.Thread(target=send, args=kinds[kind]) for kind in kinds for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def crowd(port: int, check: str, end: float) -> dict:
    """5,000 connections that are held: silent ones, halves of heads, heads that come byte by byte, halves of bodies,
    and some that close their own half at once."""
    allow_open_files(CROWD + 100)
    kinds = ["silent", "half a head", "slow head", "half a body", "half open"]
    closed_by_server = dict.fromkeys(kinds, 0)
    opened = 0

    async def one(number: int) -> None:
        nonlocal opened
        kind = kinds[number % len(kinds)]
        reader, writer = await asyncio.open_connection(HOST, port)
        opened += 1
        head = f"POST /ping/{check} HTTP/1.1\r\nhost: t\r\ncontent-length: 9000\r\n".encode()
        with suppress(OSError):
            if kind == "half a head":
                writer.write(head)
            elif kind == "half a body":
                writer.write(head + b"\r\n" + b"z" * 4_000)
            elif kind == "half open":
                writer.write(head)
                writer.write_eof()
            await writer.drain()
            beginning = time.monotonic()
            for byte in head * 100:
                left = end - time.monotonic()
                if left <= 0:
                    break
                if kind == "slow head":
                    writer.write(bytes([byte]))
                if reader.at_eof():
                    break
                with suppress(asyncio.TimeoutError):
                    if not await asyncio.wait_for(reader.read(4096), min(left, 1.0)):
                        break
            closed_by_server[kind] += time.monotonic() < end and time.monotonic() > beginning
        writer.close()

    async def all_of_them() -> None:
        gate = asyncio.Semaphore(200)

        async def gated(number: int) -> None:
            # Not more than this at once in the listener's queue: one that is full would make the system drop some.
            async with gate:
                task = asyncio.create_task(one(number))
                await asyncio.sleep(0)
            await task

        await asyncio.gather(*(gated(number) for number in range(CROWD)), return_exceptions=True)

    asyncio.run(all_of_them())
    return {"opened": opened, "closed_by_server": closed_by_server}


if __name__ == "__main__":
    kind, port, check, secs = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    print(json.dumps({f.__name__: f for f in (good, noise, heads, flood, crowd)}[kind](port, check, time.monotonic() + secs)))
