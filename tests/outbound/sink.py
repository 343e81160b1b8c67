"""Servers at every address of the namespace, which note who was reached and what was said.

A path `/r/STATUS/TOKEN` is answered with a redirect to where the runner says. What connects and says nothing is noted
too: a policy that judges after connecting would show.
"""

from __future__ import annotations

import ipaddress
import socket
import threading


def plain(address: str) -> str:
    """IPv4 addresses dressed as IPv6 without their dress."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip)


class Sink:
    """Listens on a port of all addresses, IPv4 and IPv6."""

    def __init__(self, port: int):
        self.reached: list[str] = []
        self.requests: list[tuple[str, bytes]] = []
        self.redirect_to = ""
        self.alternative = ""
        self.lock = threading.Lock()
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
            listener.listen(64)
            threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def begin(self, redirect_to: str = "", alternative: str = "") -> None:
        with self.lock:
            self.reached, self.requests = [], []
            self.redirect_to, self.alternative = redirect_to, alternative

    def accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            where = plain(connection.getsockname()[0])
            # Noted by the thread that accepts: when the caller has its answer, it is there.
            with self.lock:
                self.reached.append(where)
            threading.Thread(target=self.serve, args=(connection, where), daemon=True).start()

    def serve(self, connection: socket.socket, where: str) -> None:
        with connection:
            connection.settimeout(10)
            head = b""
            try:
                while b"\r\n\r\n" not in head and len(head) < 65536:
                    more = connection.recv(4096)
                    if not more:
                        return
                    head += more
                with self.lock:
                    self.requests.append((where, head))
                connection.sendall(self.answer(head))
            except OSError:
                pass

    def answer(self, head: bytes) -> bytes:
        path = head.split(b" ")[1].decode("latin-1")
        parts = path.split("/")
        extra, status = "", "200 OK"
        if len(parts) > 2 and parts[1] == "r" and parts[2].isdigit():
            status = f"{parts[2]} Whatever"
            if self.alternative:
                extra += f'Alt-Svc: h2="{self.alternative}"; ma=86400\r\n'
            if self.redirect_to:
                extra += f"Location: {self.redirect_to}\r\nRefresh: 0; url={self.redirect_to}\r\n"
        return f"HTTP/1.1 {status}\r\n{extra}Content-Length: 2\r\nConnection: close\r\n\r\nok".encode()
