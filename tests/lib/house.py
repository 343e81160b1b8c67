"""A house for one run of black-box tests: the real binary, a data directory of its own, a free loopback
port, and an end that is looked at.

Only the standard library is used. The house speaks to the binary through its command line and its port and
knows nothing of its insides. Whatever happens, the server is ended by its process id and the data directory
is removed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECS = 30
STOP_SECS = 30
COMMAND_SECS = 60


def binary() -> Path:
    """The binary under test: TEST_BINARY, or the debug build of this tree.

    The variable does not begin with ALLSWELL_, because the server refuses settings it does not know.
    """
    named = os.environ.get("TEST_BINARY")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(named).resolve() if named else (ROOT / target / "debug" / "allswell").resolve()


def free_port() -> int:
    """A port that was free a moment ago. Somebody else may take it: `House.start` then tries another."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class House:
    """One server on a data directory of its own. Use as a context manager.

    `server_env` is added to the environment of the server alone, `settings` (names without their prefix,
    such as LISTEN) to that of every command. `wrapper` is put before the server's command; it must become
    the server, whose process id is the one that is ended.
    """

    def __init__(
        self,
        server_env: dict[str, str] | None = None,
        settings: dict[str, str] | None = None,
        wrapper: list[str] | None = None,
    ):
        self.dir = Path(tempfile.mkdtemp(prefix="allswell-test-"))
        self.data = self.dir / "data"
        self.log = self.dir / "server.log"
        self.server_env = server_env or {}
        self.settings = settings or {}
        self.wrapper = wrapper or []
        self.server: subprocess.Popen | None = None
        self.port = 0

    def __enter__(self) -> "House":
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if self.server is not None:
                status = self.stop()
                if status != 0 and kind is None:
                    raise AssertionError(f"the server ended with status {status} after SIGTERM\n{self.tail()}")
        finally:
            self.remove()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def env(self) -> dict[str, str]:
        """What every command of this house sees: nothing of the caller's own settings, no proxy."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("ALLSWELL_") and not k.lower().endswith("_proxy")}
        env["ALLSWELL_LISTEN"] = f"127.0.0.1:{self.port}"
        env["ALLSWELL_SITE_URL"] = self.url
        env["ALLSWELL_DATA_DIR"] = str(self.data)
        env.update({f"ALLSWELL_{name}": value for name, value in self.settings.items()})
        return env

    # Start and end

    def start(self) -> None:
        """Start the server and wait until it is ready. A second start serves the same data and address."""
        if not binary().exists():
            raise SystemExit(f"{binary()} is not there: run `make build-debug` first, or set TEST_BINARY")
        first = self.port == 0
        for attempt in range(3):
            if first:
                self.port = free_port()
            with self.log.open("ab") as log:
                self.server = subprocess.Popen(
                    [*self.wrapper, str(binary()), "serve"],
                    env={**self.env(), **self.server_env},
                    cwd=self.dir,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C at the terminal goes to the test, which then ends the server in good order.
                    start_new_session=True,
                )
            if self._ready():
                return
            ended = self.server.poll()
            self.kill()
            taken = "address" in self.tail().lower() and "use" in self.tail().lower()
            if not (first and ended is not None and taken and attempt < 2):
                break
        raise RuntimeError(f"the server was not ready within {START_SECS} s\n{self.tail()}")

    def _ready(self) -> bool:
        end = time.monotonic() + START_SECS
        while time.monotonic() < end and self.server.poll() is None:
            # Our own server and no other that took the port: it must live before and after it answers.
            if self.get("/readyz")[0] == 200 and self.server.poll() is None:
                return True
            time.sleep(0.05)
        return False

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """End the server by its process id; its exit status."""
        assert self.server is not None, "the server is not running"
        self.server.send_signal(sig)
        try:
            status = self.server.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not end within {STOP_SECS} s of signal {sig}\n{self.tail()}") from None
        self.server = None
        return status

    def kill(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.server = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def tail(self, lines: int = 40) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "--- last lines of the server ---\n" + "\n".join(text.splitlines()[-lines:])

    # Speaking to it

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a GET; status 0 when nobody answers."""
        return self.request("GET", path, headers)

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of any request; status 0 when nobody answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.url + path, data=body, headers=headers or {}, method=method)
        try:
            with opener.open(request, timeout=10) as r:
                return r.status, r.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()
        except OSError:
            return 0, b""

    def run(self, *args: str) -> subprocess.CompletedProcess:
        """A command of the binary on this house's data, as an operator would give it beside the server."""
        return subprocess.run(
            [str(binary()), *args],
            env=self.env(),
            cwd=self.dir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECS,
        )

    def cli(self, *args: str) -> str:
        """Standard output of a command that must succeed."""
        done = self.run(*args)
        if done.returncode != 0:
            raise RuntimeError(f"allswell {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def cli_json(self, *args: str):
        text = self.cli(*args, "--json")
        try:
            return json.loads(text)
        except ValueError:
            raise RuntimeError(f"allswell {' '.join(args)} --json did not print JSON:\n{text}") from None

    # The people and things that most tests need

    def user(self, email: str, *more: str) -> None:
        """An account with a password nobody has to know."""
        password = self.dir / f"{email}.password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        self.cli_json("user", "create", "--email", email, "--password-file", str(password), *more)
        password.unlink()

    def project(self, owner: str, name: str) -> str:
        return self.cli_json("project", "create", "--owner", owner, "--name", name)["id"]

    def key(self, project: str, scope: str) -> str:
        return self.cli_json("api-key", "create", "--project", project, "--scope", scope)["key"]

    def channel(self, project: str, name: str) -> None:
        self.cli_json("channel", "create", "--project", project, "--kind", "silent", "--name", name)
