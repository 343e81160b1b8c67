"""Clients that others wrote for Healthchecks, against the real binary.

Each does what its users do with it; what arrived is then looked up through our API. Versions are pinned
(requirements.txt, npm/package-lock.json, rust/Cargo.lock). Run by `make clients`, with the Python of
target/venv-clients.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "lib"))

from house import House  # noqa: E402


class Home:
    """A project with keys and channels, and eyes to see what arrived."""

    def __init__(self, house: House):
        self.house = house
        self.url = house.url
        house.user("alice@example.org")
        self.project = house.project("alice@example.org", "Home")
        for name in ("mail", "pager"):
            house.channel(self.project, name)
        self.key = house.key(self.project, "read-write")
        self.read_key = house.key(self.project, "read-only")
        self.ping_key = house.key(self.project, "ping")

    def check(self, name: str, slug: str = "") -> str:
        """The id of a new check."""
        return self.house.cli_json("check", "create", "--project", self.project, "--name", name, "--slug", slug)["id"]

    def ping_url(self, path: str) -> str:
        return f"{self.url}/ping/{path}"

    def api(self, path: str):
        status, body = self.house.get(f"/api/v3/{path}", {"X-Api-Key": self.key})
        assert status == 200, (path, status, body)
        return json.loads(body)

    def pings(self, check: str) -> list[dict]:
        """What arrived, oldest first."""
        return self.api(f"checks/{check}/pings/")["pings"][::-1]

    def types(self, check: str) -> list[str]:
        return [ping["type"] for ping in self.pings(check)]

    def body(self, check: str, n: int) -> str:
        status, body = self.house.get(f"/api/v3/checks/{check}/pings/{n}/body", {"X-Api-Key": self.key})
        assert status == 200, (status, body)
        return body.decode()

    def by_slug(self, slug: str) -> str:
        [check] = self.api(f"checks/?slug={slug}")["checks"]
        return check["uuid"]

    def run(self, *command: str, **more) -> subprocess.CompletedProcess:
        """A program with our environment, without proxies. It must end well."""
        done = subprocess.run(
            command, env=self.house.env() | more.pop("env", {}), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def home():
    with House() as house:
        yield Home(house)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# Lines of a shell

CURL = "curl -fsS -m 10 --retry 5 -o /dev/null"


@pytest.mark.parametrize(
    "line,types,bodies",
    [
        ("true && " + CURL + " $URL", ["success"], {}),
        ("false || " + CURL + " $URL/fail", ["fail"], {}),
        ("(exit 3); " + CURL + " $URL/$?", ["fail"], {}),
        ("true; " + CURL + " $URL/$?", ["success"], {}),
        (CURL + " $URL/start; sleep 0; " + CURL + " $URL", ["start", "success"], {}),
        ('m=$(echo "out ü"; echo err >&2) 2>&1; ' + CURL + ' --data-raw "$m" $URL/$?', ["success"], {1: "out ü"}),
        ("printf 'a\\nb\\n' | " + CURL + " --data-binary @- $URL/log", ["log"], {1: "a\nb\n"}),
        ("printf 'x%.0s' $(seq 1 200000) | " + CURL + " -T - $URL", ["success"], {1: "x" * 10_000}),
        ("curl -fsS -m 10 -I -o /dev/null $URL", ["success"], {}),
        ("curl -fsS -m 10 -A 'my job' -o /dev/null $URL?rid=5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70", ["success"], {}),
        ("wget -q -T 10 -t 3 -O /dev/null $URL", ["success"], {}),
        ("wget -q -T 10 -t 3 -O /dev/null --post-data='from wget' $URL/fail", ["fail"], {1: "from wget"}),
        ("wget -q -T 10 -t 3 --spider $URL", ["success"], {}),
    ],
)
def test_a_line_of_a_crontab(home, line, types, bodies):
    check = home.check("crontab")
    home.run("/bin/sh", "-c", line.replace("$URL", home.ping_url(check)))
    assert home.types(check) == types
    for n, body in bodies.items():
        assert home.body(check, n) == body


def test_a_line_that_makes_its_check(home):
    slug = f"made-{uuid.uuid4().hex[:8]}"
    done = home.run("/bin/sh", "-c", f"curl -fsS -m 10 '{home.ping_url(home.ping_key)}/{slug}/start?create=1'")
    assert done.stdout == "Created"
    assert home.types(home.by_slug(slug)) == ["start"]


# Python

def test_healthchecks_io(home):
    from healthchecks_io import (
        BadAPIRequestError, CheckCreate, CheckNotFoundError, CheckTrap, CheckUpdate, Client, HCAPIAuthError, NonUniqueSlugError,
    )

    for version in (1, 2, 3):
        where = dict(api_url=f"{home.url}/api/", ping_url=f"{home.url}/ping/", api_version=version)
        with Client(api_key=home.key, ping_key=home.ping_key, **where) as client:
            name = f"healthchecks-io v{version}"
            made = client.create_check(CheckCreate(name=name, tags="pypi prod", timeout=600, grace=120, channels="*", schedule="*/5 * * * *", tz="Europe/Riga"))
            assert (made.name, made.grace, made.status, made.n_pings) == (name, 120, "new", 0)
            assert len(made.channels.split(",")) == 2
            updated = client.update_check(made.uuid, CheckUpdate(desc="changed"))
            assert (updated.desc, updated.name) == ("changed", name)
            assert made.uuid in [check.uuid for check in client.get_checks(tags=["pypi", "prod"])]
            assert client.get_checks(tags=["pypi", "none"]) == []

            assert client.start_ping(uuid=made.uuid) == (True, "OK")
            assert client.success_ping(uuid=made.uuid, data="all is well") == (True, "OK")
            assert client.fail_ping(uuid=made.uuid, data="it broke") == (True, "OK")
            assert client.exit_code_ping(exit_code=3, uuid=made.uuid) == (True, "OK")
            pings = client.get_check_pings(made.uuid)
            assert [ping.type for ping in pings] == ["fail", "fail", "success", "start"]
            assert [ping.number_of_pings for ping in pings] == [4, 3, 2, 1]
            assert home.body(made.uuid, 3) == "it broke"
            assert client.get_check(made.uuid).status == "down"

            with CheckTrap(client, uuid=made.uuid) as trap:
                trap.add_log("a line")
            with pytest.raises(ValueError), CheckTrap(client, uuid=made.uuid):
                raise ValueError("within the trap")
            assert home.types(made.uuid)[4:] == ["start", "success", "start", "fail"]
            assert home.body(made.uuid, 6) == "a line" and "within the trap" in home.body(made.uuid, 8)

            assert {channel.name for channel in client.get_integrations()} == {"mail", "pager"}
            badges = client.get_badges()
            assert {"*", "pypi", "prod"} <= set(badges) and badges["*"].svg.startswith(home.url)
            assert client.pause_check(made.uuid).status == "paused"
            assert client.delete_check(made.uuid).name == name
            with pytest.raises(CheckNotFoundError):
                client.get_check(made.uuid)
            with pytest.raises(CheckNotFoundError):
                client.success_ping(uuid=made.uuid)
            with pytest.raises(BadAPIRequestError):
                client.create_check(CheckCreate(name="x" * 101))
        with Client(api_key="x" * 32, **where) as stranger, pytest.raises(HCAPIAuthError):
            stranger.get_checks()
        with Client(api_key=home.read_key, **where) as reader:
            assert all(check.uuid is None and check.unique_key for check in reader.get_checks())

    slug = f"twice-{uuid.uuid4().hex[:8]}"
    one = home.check("one", slug)
    with Client(api_key=home.key, ping_key=home.ping_key, **where) as client:
        assert client.success_ping(slug=slug, data="by slug") == (True, "OK")
        assert home.body(one, 1) == "by slug"
        home.check("two", slug)
        with pytest.raises(NonUniqueSlugError):
            client.success_ping(slug=slug)


def test_healthchecks_io_without_blocking(home):
    import asyncio

    from healthchecks_io import AsyncClient, CheckCreate, CheckTrap

    async def story():
        where = dict(api_url=f"{home.url}/api/", ping_url=f"{home.url}/ping/")
        async with AsyncClient(api_key=home.key, ping_key=home.ping_key, **where) as client:
            made = await client.create_check(CheckCreate(name="async"))
            async with CheckTrap(client, uuid=made.uuid):
                pass
            return made.uuid

    assert home.types(asyncio.run(story())) == ["start", "success"]


def test_healthchecks_decorator(home, caplog):
    from healthchecks_decorator import healthcheck

    check = home.check("decorated")

    @healthcheck(url=home.ping_url(check), send_start=True, send_diagnostics=True)
    def job(fails):
        if fails:
            raise RuntimeError("on purpose")
        return {"rows": 5}

    assert job(False) == {"rows": 5}
    with pytest.raises(RuntimeError):
        job(True)
    assert home.types(check) == ["start", "success", "start", "fail"]
    assert home.body(check, 2) == "rows=5"
    assert not caplog.records


def test_healthchecks_wrapper(home):
    import asyncio

    from healthchecks_wrapper.context_manager import HealthCheck

    check = home.check("wrapped")
    with HealthCheck(home.ping_url(check)):
        pass
    with HealthCheck(home.ping_url(check), suppress_exceptions=True):
        raise RuntimeError("on purpose")

    async def job():
        async with HealthCheck(home.ping_url(check)):
            pass

    asyncio.run(job())
    assert home.types(check) == ["start", "success", "start", "fail", "start", "success"]
    assert "RuntimeError: on purpose" in home.body(check, 4)


def test_runchecked(home, tmp_path):
    """Its log handler stays behind, so it runs in a process of its own."""
    check = home.check("run checked")
    story = """
import sys
from runchecked.health_checked_context import HealthCheckedContext
url, fails = sys.argv[1], len(sys.argv) > 2
with HealthCheckedContext(url, enable_tty_output=False) as context:
    context.run(["/bin/sh", "-c", "echo from the job; exit %d" % fails])
"""
    home.run(sys.executable, "-c", story, home.ping_url(check))
    home.run(sys.executable, "-c", story, home.ping_url(check), "fails")
    assert home.types(check) == ["success", "fail"]
    assert "from the job" in home.body(check, 1) and "Exit 1" in home.body(check, 2)


def test_borgmatic(home, tmp_path):
    """borgmatic itself, with a stand-in for borg: a run that ends well, and one that fails."""
    borg = tmp_path / "borg"
    borg.write_text('#!/bin/sh\ncase "$*" in *--version*) echo "borg 1.4.0" ;; *create*) exit ${BORG_FAILS:-0} ;; esac\n')
    borg.chmod(0o755)
    check = home.check("borg")
    slug = f"borg-{uuid.uuid4().hex[:8]}"
    for ping_url, more in ((home.ping_url(check), ""), (f"{home.ping_url(home.ping_key)}/{slug}", "    create_slug: true\n")):
        config = tmp_path / f"config-{len(more)}.yaml"
        config.write_text(
            f"source_directories: [{tmp_path}]\n"
            f"repositories: [{{path: {tmp_path}/repo}}]\n"
            f"local_path: {borg}\n"
            "encryption_passphrase: x\n"
            f"healthchecks:\n    ping_url: {ping_url}\n    send_logs: true\n{more}"
        )
        command = [str(Path(sys.executable).with_name("borgmatic")), "--config", str(config), "--verbosity", "1", "--monitoring-verbosity", "1", "create"]
        home.run(*command, env={"HOME": str(tmp_path)})
        failed = subprocess.run(command, env=home.house.env() | {"HOME": str(tmp_path), "BORG_FAILS": "2"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert failed.returncode != 0, failed.stdout
    for found in (check, home.by_slug(slug)):
        pings = home.pings(found)
        assert [ping["type"] for ping in pings] == ["start", "log", "success", "start", "log", "fail"]
        assert {ping["ua"] for ping in pings} == {"borgmatic"}
        assert "borg" in home.body(found, pings[-1]["n"]).lower()


# Elsewhere

def test_npm_healthchecks_io_client(home):
    done = home.run("node", str(HERE / "npm" / "client.mjs"), home.url, home.key)
    told = json.loads(done.stdout)
    assert told.pop("wrong_key") == 401
    assert set(told) == {"1", "2", "3"}
    for version, outcome in told.items():
        assert outcome == {
            "answers": ["OK"] * 4,
            "gone": 404,
            "desc": "changed",
            "listed": [f"npm v{version}"],
            "status": "up",
            "pings": ["success", "success", "fail", "start"],
            "flips": [1, 0],
            "integrations": ["mail", "pager"],
            "paused": "paused",
            "deleted": f"npm v{version}",
        }


def test_cargo_healthchecks(home):
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "clients"
    manifest = str(HERE / "rust" / "Cargo.toml")
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--manifest-path", manifest, "--target-dir", str(target)], check=True, stdin=subprocess.DEVNULL)
    done = home.run(str(target / "debug" / "allswell-client-tests"), home.url, home.key)
    told = json.loads(done.stdout)
    assert "cargo" in told.pop("listed")
    assert told == {
        "again": True,
        "existing": True,
        "answers": [True] * 4,
        "desc": "changed",
        "pings": ["success", "fail", "success", "start"],
        "agents": ["cargo's client"] * 4,
        "channels": ["mail", "pager"],
        "n_pings": 4,
        "paused": "paused",
        "deleted": "cargo",
        "gone": True,
        "wrong_key": True,
    }
