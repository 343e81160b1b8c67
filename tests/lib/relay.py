"""A mail relay on loopback that follows a script: what it says, what it waits for, when it shakes hands.

Only the standard library is used. What a client said is in `heard`, also of lines that the script did not wait for.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from pathlib import Path

PATIENCE_SECS = 30


def certificate(folder: Path, name: str = "IP:127.0.0.1") -> Path:
    """A certificate for `name` that vouches for itself, with its key beside it."""
    made = folder / (name.replace(":", "-") + ".pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=relay",
         "-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", made.with_suffix(".key"), "-out", made],
        check=True, capture_output=True,
    )
    return made


class Relay:
    """One relay; each connection gets the script from its beginning, but the second and further ones those of `later`, as
    far as there are some. Use as a context manager.

    An act is a string to say, a tuple ("hear", beginning), ("shake",), ("repeat", text) or ("close",). After the last one
    the relay reads until the client is gone, so that what should not have been said is heard.
    """

    def __init__(self, script: list, cert: Path | None = None, later: list[list] | None = None):
        self.script = script
        self.later = later or []
        self.context = None
        if cert is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(cert, cert.with_suffix(".key"))
        self.heard: list[str] = []
        self.strayed: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> "Relay":
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in [self.accepting, *self.threads]:
            thread.join(PATIENCE_SECS)
        if kind is None:
            assert not self.strayed, self.strayed

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_SECS)
            script = dict(enumerate(self.later, 1)).get(len(self.threads), self.script)
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: list) -> None:
        try:
            for act in script:
                if isinstance(act, str):
                    connection.sendall(act.encode())
                elif act[0] == "hear":
                    line = self._line(connection)
                    if not line.startswith(act[1]) or not line.endswith("\r\n"):
                        self.strayed.append(f"{act[1]!r} was awaited: {line!r}")
                        return
                elif act[0] == "shake":
                    connection = self.context.wrap_socket(connection, server_side=True)
                elif act[0] == "repeat":
                    while True:
                        connection.sendall(act[1].encode())
                elif act[0] == "close":
                    return
            while self._line(connection):
                pass
        except OSError:
            # The client left, or did not believe us.
            pass
        finally:
            connection.close()

    def _line(self, connection: socket.socket) -> str:
        line = b""
        while not line.endswith(b"\n"):
            byte = connection.recv(1)
            if not byte:
                break
            line += byte
        if line:
            self.heard.append(line.decode("latin-1"))
        return line.decode("latin-1")
