"""A name server that lies: answers by script, UDP and TCP, TTL 0.

An entry is what the vectors' README says: `A`, `AAAA`, `CNAME`, `rcode`, `drop` (no answer at all), `owner` (records of
another name), and `sequence` or `alternate`: one entry per question, of which the last stays or which go round.
"""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import struct
import threading

A, CNAME, AAAA = 1, 5, 28


def encoded(name: str) -> bytes:
    labels = name.rstrip(".").encode("ascii", "replace").split(b".")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


class Nameserver:
    def __init__(self, address: tuple[str, int]):
        self.names: dict[str, dict] = {}
        self.turns: dict[tuple[str, int], int] = {}
        self.asked: list[str] = []
        self.lock = threading.Lock()
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                question, sock = self.request
                answer = outer.answer(question, udp=True)
                if answer:
                    sock.sendto(answer, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self):
                while len(length := self.rfile.read(2)) == 2:
                    answer = outer.answer(self.rfile.read(*struct.unpack("!H", length)), udp=False)
                    if answer:
                        self.wfile.write(struct.pack("!H", len(answer)) + answer)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        for server in (socketserver.ThreadingUDPServer(address, Udp), socketserver.ThreadingTCPServer(address, Tcp)):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def set(self, names: dict[str, dict]) -> None:
        with self.lock:
            self.names = {name.lower(): entry for name, entry in names.items()}
            self.turns = {}
            self.asked = []

    def entry(self, name: str, kind: int) -> dict | None:
        with self.lock:
            self.asked.append(name)
            entry = self.names.get(name)
            if entry is None:
                return None
            turn = self.turns.get((name, kind), 0)
            self.turns[name, kind] = turn + 1
            if "sequence" in entry:
                return entry["sequence"][min(turn, len(entry["sequence"]) - 1)]
            if "alternate" in entry:
                return entry["alternate"][turn % len(entry["alternate"])]
            return entry

    def answer(self, question: bytes, udp: bool) -> bytes | None:
        ident = question[:2]
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]])
            at += 1 + question[at]
        asked = question[12 : at + 5]
        kind = struct.unpack("!H", question[at + 1 : at + 3])[0]
        name = b".".join(labels).decode("ascii", "replace").lower()
        entry = self.entry(name, kind)
        if entry is not None and entry.get("drop"):
            return None
        rcode, records = (3, []) if entry is None else (entry.get("rcode", 0), self.records(name, kind, entry))
        truncated = udp and len(records) > 30
        flags = 0x8580 | rcode | (0x0200 if truncated else 0)
        records = [] if truncated else records
        head = ident + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
        return head + asked + b"".join(records)

    @staticmethod
    def records(name: str, kind: int, entry: dict) -> list[bytes]:
        def record(owner: str, kind: int, data: bytes) -> bytes:
            return encoded(owner) + struct.pack("!HHIH", kind, 1, 0, len(data)) + data

        records, owner = [], entry.get("owner", name)
        if "CNAME" in entry:
            records.append(record(owner, CNAME, encoded(entry["CNAME"])))
            owner = entry["CNAME"]
        if kind == A:
            records += [record(owner, A, ipaddress.IPv4Address(text).packed) for text in entry.get("A", [])]
        if kind == AAAA:
            records += [record(owner, AAAA, socket.inet_pton(socket.AF_INET6, text)) for text in entry.get("AAAA", [])]
        return records
