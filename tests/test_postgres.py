"""Servers on PostgreSQL: two on one database, one whose database goes away, one behind a pooler, one that may not
change the schema. The real binary and real clusters; nothing here looks inside but `psql` at the rows.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from postgres import Cluster, free_port, identity  # noqa: E402

SPEED = 30
WAIT_SECS = 60
# Ours, three for pings and the one that listens.
CONNECTIONS_MAX = 14


@pytest.fixture
def cluster():
    with Cluster() as c:
        yield c


def until(done, what: str) -> None:
    end = time.monotonic() + WAIT_SECS
    while not done():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.1)


def commands(settings: dict[str, str]) -> House:
    """A house whose server is not started, for commands and refusals."""
    house = House(settings=settings)
    house.port = free_port()
    return house


class Project:
    """A project with keys, made by the command line of one house."""

    def __init__(self, house: House):
        self.house = house
        house.user("alice@example.org")
        self.id = house.project("alice@example.org", "Home")
        self.key = house.key(self.id, "read-write")
        self.ping_key = house.key(self.id, "ping")

    def check(self, name: str, house: House | None = None, **fields) -> str:
        body = json.dumps({"name": name, **fields}).encode()
        request = urllib.request.Request(
            (house or self.house).url + "/api/v3/checks/", data=body, headers={"X-Api-Key": self.key})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())["uuid"]

    def api(self, path: str, house: House | None = None):
        status, body = (house or self.house).get(f"/api/v3/checks/{path}", {"X-Api-Key": self.key})
        assert status == 200, (status, body)
        return json.loads(body)


def test_two_servers_share_one_database_and_find_each_silence_once(cluster):
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries, "libfaketime is missing: `make setup` installs Debian's package faketime"
    fast = {"LD_PRELOAD": str(libraries[0]), "FAKETIME": f"+0 x{SPEED}"}
    database = cluster.database()
    # Patience is counted by the fast clock too.
    settings = {"DATABASE_URL": cluster.url(database), "DATABASE_ACQUIRE_SECS": "300", "DATABASE_STATEMENT_SECS": "300"}
    with House(server_env=fast, settings=settings) as first:
        ring = {"KEYS_RING_FILE": str(first.data / "key-ring")}
        with House(server_env=fast, settings={**settings, **ring}) as second:
            project = Project(first)
            first.cli_json("channel", "create", "--project", project.id, "--kind", "log", "--name", "Log")
            houses = [first, second]
            checks = [
                project.check(f"job {n}", houses[n % 2], timeout=60, grace=60, channels="*") for n in range(20)
            ]
            for n, check in enumerate(checks):
                for turn in range(2):
                    assert houses[(n + turn) % 2].get(f"/ping/{check}") == (200, b"OK")
            until(lambda: all(project.api(c, second)["status"] == "down" for c in checks), first.tail)
            count = lambda text: int(cluster.sql(text, database))  # noqa: E731
            assert count("select count(*) from flips where to_status = 2") == len(checks)
            assert count("select count(*) from incidents") == len(checks)
            assert all(project.api(c)["n_pings"] == 2 for c in checks)
            until(lambda: count("select count(*) from deliveries where state = 'delivered'") == len(checks), first.tail)
            assert count("select count(*) from deliveries") == len(checks)
            said = [house.log.read_text() for house in houses]
            for check in checks:
                lines = [line for text in said for line in text.splitlines() if check in line and "delivery" in line]
                assert len(lines) == 1, lines
            assert not [line for text in said for line in text.splitlines() if "ERROR" in line]
            # The one that is left waits for nobody's pings any more.
            ended = lambda: count("select count(*) from awake where ended")  # noqa: E731
            assert (ended(), count("select count(*) from awake")) == (0, 2)
            assert second.stop() == 0, second.tail()
            assert ended() == 1


def test_five_connections_are_enough_for_alerts_that_nobody_answers_and_one_that_is(cluster):
    """Attempts hold none: 320 are under way, to 20 targets that take connections and never answer."""
    database = cluster.database()
    settings = {
        "DATABASE_URL": cluster.url(database), "DATABASE_CONNECTIONS": "1",
        "OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        listen = lambda host: stack.enter_context(socket.create_server((host, 0), backlog=64))  # noqa: E731
        silent, healthy = [listen(f"127.0.1.{n}") for n in range(1, 21)], listen("127.0.0.1")
        house = stack.enter_context(House(settings=settings))
        healthy.settimeout(WAIT_SECS)
        project = Project(house)

        def channel(listener: socket.socket) -> str:
            host, port = listener.getsockname()
            body = {"kind": "webhook", "name": host, "down": {"url": f"http://{host}:{port}/"}}
            status, text = house.request(
                "POST", "/v1/channels", {"X-Api-Key": project.key, "Content-Type": "application/json"}, json.dumps(body).encode())
            assert status == 201, text
            return json.loads(text)["id"]

        slow, told = ",".join(map(channel, silent)), channel(healthy)
        sql = "select application_name, count(*) from pg_stat_activity where application_name like 'allswell%' group by 1"
        counted = lambda: dict(line.split("|") for line in cluster.sql(sql, database).splitlines())  # noqa: E731
        most = 0
        for n in range(20):
            assert house.get(f"/ping/{project.check(f'job {n}', channels=slow)}/fail")[0] == 200
            most = max(most, sum(map(int, counted().values())))
        # Sixteen to each: they lie in the listeners' queues until the test is over.
        leased = lambda: int(cluster.sql("select count(*) from deliveries where state = 'leased'", database))  # noqa: E731
        until(lambda: leased() >= 320, house.tail)
        check = project.check("job", channels=told)
        begun = time.monotonic()
        assert house.get(f"/ping/{check}/fail")[0] == 200
        healthy.accept()[0].close()
        assert time.monotonic() - begun < 5
        now = counted()
        assert set(now) <= {"allswell", "allswell pings", "allswell listens"} and now["allswell"] == "1", now
        assert max(most, sum(map(int, now.values()))) <= 5, (most, now)
        # What waits for silent targets needs no farewell.
        house.kill()


def test_forty_at_once_on_two_servers_make_one_check_of_one_slug(cluster):
    settings = {"DATABASE_URL": cluster.url(cluster.database())}
    with House(settings=settings) as first:
        with House(settings={**settings, "KEYS_RING_FILE": str(first.data / "key-ring")}) as second:
            project = Project(first)
            answers = []
            start = threading.Barrier(40)

            def ping(house: House) -> None:
                start.wait()
                answers.append(house.get(f"/ping/{project.ping_key}/backup?create=1"))

            threads = [threading.Thread(target=ping, args=([first, second][n % 2],)) for n in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(status for status, _ in answers) == [200] * 39 + [201], answers
            checks = project.api("")["checks"]
            assert [(c["slug"], c["n_pings"]) for c in checks] == [("backup", 40)]


class Load:
    """Threads that ping as fast as they are answered, and remember what they were told."""

    def __init__(self, house: House, checks: list[str], threads: int = 8):
        self.house, self.checks = house, checks
        self.statuses: dict[int, int] = {}
        self.stored = {check: 0 for check in checks}
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, number: int) -> None:
        turn = number
        while not self.stop.is_set():
            check = self.checks[turn % len(self.checks)]
            turn += 1
            status, _ = self.house.get(f"/ping/{check}")
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
                self.stored[check] += status == 200
            if status != 200:
                time.sleep(0.05)

    def count(self, status: int) -> int:
        with self.lock:
            return self.statuses.get(status, 0)

    def wait_for(self, status: int, more: int) -> None:
        wanted = self.count(status) + more
        until(lambda: self.count(status) >= wanted, lambda: f"{self.statuses}, waiting for {status}\n{self.house.tail()}")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=["stopped", "quit", "killed"])
def test_no_answered_ping_is_lost_when_the_database_goes_away_and_comes_back(sig):
    with Cluster({"fsync": "on", "full_page_writes": "on"}) as cluster:
        database = cluster.database()
        with House(settings={"DATABASE_URL": cluster.url(database)}) as house:
            project = Project(house)
            checks = [project.check(f"job {n}") for n in range(10)]
            with Load(house, checks) as load:
                for _ in range(2):
                    load.wait_for(200, 100)
                    cluster.stop(sig)
                    load.wait_for(503, 20)
                    # What was found stands for a second.
                    until(lambda: house.get("/readyz")[0] == 503, "no word that it is not ready")
                    cluster.start()
                    load.wait_for(200, 100)
            assert set(load.statuses) == {200, 503}, load.statuses
            for check, answered in load.stored.items():
                # A ping whose answer was lost on the way may be stored; one that was answered must be.
                assert project.api(check)["n_pings"] >= answered
            rows = int(cluster.sql("select count(*) from pings", database))
            counted = int(cluster.sql("select sum(ping_count) from checks", database))
            assert rows == counted >= sum(load.stored.values())
            ours = "select count(*) from pg_stat_activity where application_name like 'allswell%'"
            assert int(cluster.sql(ours)) <= CONNECTIONS_MAX
            idle = ours + " and state like 'idle in transaction%'"
            until(lambda: int(cluster.sql(idle)) == 0, "a transaction was left open")


class Bouncer:
    """PgBouncer in transaction mode before a cluster: each transaction may get another connection."""

    def __init__(self, cluster: Cluster):
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        assert Path(program).exists(), "pgbouncer is missing: `make setup` installs it"
        self.port = free_port()
        dir = cluster.dir / "bouncer"
        dir.mkdir()
        dir.chmod(0o777)
        (dir / "users").write_text('"postgres" ""\n')
        (dir / "ini").write_text(
            f"[databases]\n* = host={cluster.dir} port={cluster.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nauth_type = any\n"
            f"auth_file = {dir}/users\npool_mode = transaction\ndefault_pool_size = 3\n"
            f"unix_socket_dir =\nlogfile = {dir}/log\npidfile = {dir}/pid\n"
        )
        self.process = subprocess.Popen([program, str(dir / "ini")], cwd="/", stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity())
        self.log = dir / "log"

    def __enter__(self) -> "Bouncer":
        until(self.answers, lambda: self.log.read_text() if self.log.exists() else "pgbouncer said nothing")
        return self

    def answers(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait(30)


def test_a_pooler_may_give_each_transaction_another_connection(cluster):
    database = cluster.database()
    with Bouncer(cluster) as bouncer:
        url = f"postgres://postgres@127.0.0.1:{bouncer.port}/{database}"
        with House(settings={"DATABASE_URL": url, "DATABASE_PREPARE": "false"}) as house:
            project = Project(house)
            checks = [project.check(f"job {n}") for n in range(10)]
            with Load(house, checks) as load:
                load.wait_for(200, 500)
            assert set(load.statuses) == {200}, (load.statuses, house.tail())
            assert [project.api(c)["n_pings"] for c in checks] == [load.stored[c] for c in checks]
            assert "ERROR" not in house.log.read_text()


def test_a_role_that_may_not_change_the_schema_can_serve(cluster):
    database = cluster.database()
    cluster.sql("create role server login; revoke create on schema public from public", database)
    as_owner = cluster.url(database)
    as_server = as_owner.replace("postgres@", "server@")

    # Nothing is there yet, and this role may not make it.
    for migrate, words in [("false", "allswell migrate"), ("true", "allswell migrate")]:
        house = commands({"DATABASE_URL": as_server, "DATABASE_MIGRATE": migrate})
        done = house.run("serve")
        house.remove()
        assert done.returncode != 0 and words in done.stderr and "panicked" not in done.stderr, done.stderr

    owner = commands({"DATABASE_URL": as_owner})
    assert owner.cli_json("migrate")["schema_version"] > 0
    owner.remove()
    cluster.sql("grant select, insert, update, delete on all tables in schema public to server", database)
    with House(settings={"DATABASE_URL": as_server, "DATABASE_MIGRATE": "false"}) as house:
        project = Project(house)
        check = project.check("job")
        assert house.get(f"/ping/{check}") == (200, b"OK")
        # Numbers of bodies come from a sequence, which no grant on tables is about.
        assert house.request("POST", f"/ping/{check}", body=b"a log") == (200, b"OK")
        assert project.api(check)["status"] == "up"


def test_a_newer_schema_is_refused_with_a_sentence_and_left_alone(cluster):
    database = cluster.database()
    house = commands({"DATABASE_URL": cluster.url(database)})
    house.cli("migrate")
    cluster.sql("insert into schema_versions values (999, 'later', '', 0)", database)
    done = house.run("serve")
    house.remove()
    assert done.returncode != 0 and "newer Allswell" in done.stderr and "999" in done.stderr, done.stderr
    assert cluster.sql("select max(version) from schema_versions", database) == "999"


def test_a_server_that_is_away_is_named_without_its_password():
    house = commands({"DATABASE_URL": f"postgres://u:canary@127.0.0.1:{free_port()}/d"})
    done = house.run("serve")
    shown = house.run("config", "show")
    house.remove()
    assert done.returncode != 0 and re.search(r"postgres://u:\*\*\*@127\.0\.0\.1:\d+/d", done.stderr), done.stderr
    assert "canary" not in done.stdout + done.stderr + shown.stdout + shown.stderr
