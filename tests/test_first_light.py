"""The story of a first day, told to the real binary by the tools that a user has: a crontab line, curl, and
the command line.

Run by `make first-light`. Nothing here looks inside. The parts that need minutes run under Debian's
`faketime`, which makes every clock of the server go 30 times as fast: the shortest period and grace together
are then four seconds. What the server decides is the same; the engine's own tests look at it second by second.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import pty
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House, binary  # noqa: E402
from postgres import Cluster  # noqa: E402

SPEED = 30
WAIT_SECS = 30


@pytest.fixture(scope="session")
def cluster():
    with Cluster() as c:
        yield c


@pytest.fixture(params=["sqlite", "postgres"])
def database(request):
    """What the server is told about its database."""
    if request.param == "sqlite":
        return {}
    cluster = request.getfixturevalue("cluster")
    return {"DATABASE_URL": cluster.url(cluster.database())}


@pytest.fixture
def house(database):
    with House(settings=database) as h:
        yield h


@pytest.fixture
def file_house():
    """A house whose database is a file in its data directory."""
    with House() as h:
        yield h


def until_said(house: House, words: str) -> None:
    end = time.monotonic() + WAIT_SECS
    while words not in house.log.read_text():
        assert time.monotonic() < end, house.tail()
        time.sleep(0.05)


@pytest.fixture
def fast_house(database):
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries, "libfaketime is missing: `make setup` installs Debian's package faketime"
    # Patience with the database is counted by the fast clock too.
    patience = {"DATABASE_ACQUIRE_SECS": "300", "DATABASE_STATEMENT_SECS": "300"}
    fast = {"LD_PRELOAD": str(libraries[0]), "FAKETIME": f"+0 x{SPEED}"}
    with House(server_env=fast, settings={**database, **patience}) as h:
        yield h


class Job:
    """A check with the keys to look at it, and the crontab line that pings it."""

    def __init__(self, house: House):
        self.house = house
        house.user("alice@example.org")
        self.project = house.project("alice@example.org", "Home")
        self.key = house.key(self.project, "read-write")
        made = house.cli_json("check", "create", "--project", self.project, "--name", "Nightly backup")
        self.id, self.ping_url = made["id"], made["ping_url"]

    def cron(self, command: str = "true", suffix: str = "") -> None:
        """What cron does with `5 3 * * * COMMAND && curl ...`: a shell with next to no environment."""
        line = f"{command} && curl -fsS -m 10 --retry 3 -o /dev/null {self.ping_url}{suffix}"
        bare = {"HOME": "/", "LOGNAME": "alice", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        subprocess.run(["/bin/sh", "-c", line], env=bare, check=True, stdin=subprocess.DEVNULL, timeout=60)

    def api(self, path: str = "") -> dict:
        status, body = self.house.get(f"/api/v3/checks/{self.id}{path}", {"X-Api-Key": self.key})
        assert status == 200, (status, body)
        return json.loads(body)

    def update(self, **fields) -> None:
        done = subprocess.run(
            ["curl", "-fsS", "-H", f"X-Api-Key: {self.key}", "--data", json.dumps(fields), f"{self.house.url}/api/v3/checks/{self.id}"],
            capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def ups(self) -> list[int]:
        """The flips, oldest first: 1 for up, 0 for anything else."""
        return [f["up"] for f in reversed(self.api("/flips/")["flips"])]

    def wait_for_flips(self, expected: list[int]) -> None:
        end = time.monotonic() + WAIT_SECS
        while self.ups() != expected:
            assert time.monotonic() < end, f"flips are {self.ups()}, not {expected}\n{self.house.tail()}"
            time.sleep(0.1)


def reasons(answer) -> list:
    """Every value under a key `reason`, however deep: the shape of the answer is the command's own affair."""
    if isinstance(answer, dict):
        return [v for k, v in answer.items() if k == "reason" and v] + [r for v in answer.values() for r in reasons(v)]
    if isinstance(answer, list):
        return [r for v in answer for r in reasons(v)]
    return []


def test_a_job_that_falls_silent_is_seen_down_with_its_reason(fast_house):
    job = Job(fast_house)
    job.update(timeout=60, grace=60)
    assert job.api()["status"] == "new"

    job.cron()
    assert (job.api()["n_pings"], job.ups()) == (1, [1])

    # The job stops here. Nobody asks for the flip: the server writes it by itself.
    job.wait_for_flips([1, 0])
    down = job.api()
    assert down["status"] == "down"
    flip = job.api("/flips/")["flips"][0]
    late = datetime.fromisoformat(flip["timestamp"]) - datetime.fromisoformat(down["last_ping"])
    assert late.total_seconds() == 120, "the flip bears the deadline, not the moment it was noticed"
    assert reasons(fast_house.cli_json("check", "show", "--project", job.project, job.id))

    job.cron()
    job.wait_for_flips([1, 0, 1])
    assert job.api()["status"] == "up"


def test_a_job_that_fails_is_down_at_once_and_its_output_is_kept(house):
    job = Job(house)
    job.cron("true", "/start")
    job.cron("true", "/1 --data-binary 'disk full'")
    check, ping = job.api(), job.api("/pings/")["pings"][0]
    assert (check["status"], ping["type"], job.ups()) == ("down", "fail", [0])
    body_path = ping["body_url"].removeprefix(house.url)
    assert house.get(body_path, {"X-Api-Key": job.key}) == (200, b"disk full")


def test_a_job_that_does_not_reach_its_curl_is_not_counted(house):
    job = Job(house)
    with pytest.raises(subprocess.CalledProcessError):
        job.cron("false")
    assert (job.api()["status"], job.api()["n_pings"]) == ("new", 0)


def test_what_was_answered_is_there_after_a_restart_and_after_a_kill(house):
    job = Job(house)
    job.cron()
    assert house.stop(signal.SIGTERM) == 0
    house.start()
    assert job.api()["n_pings"] == 1
    job.cron()
    house.kill()
    house.start()
    assert job.api()["n_pings"] == 2
    assert house.stop(signal.SIGINT) == 0
    house.start()


def test_a_second_signal_ends_what_the_first_one_waits_for(house):
    """A request whose body does not come may hold up the end for 20 seconds; who is in a hurry asks twice."""
    job = Job(house)
    with socket.create_connection(("127.0.0.1", house.port), timeout=30) as slow:
        slow.sendall(f"POST /ping/{job.id} HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nhalf".encode())
        # The server has taken it when it has answered somebody who came later.
        job.cron()
        house.server.send_signal(signal.SIGTERM)
        until_said(house, "SIGTERM: ending; requests in flight")
        with pytest.raises(subprocess.TimeoutExpired):
            house.server.wait(1)
        again = time.monotonic()
        assert house.stop(signal.SIGTERM) == 0
        assert time.monotonic() - again < 5, "it waited all the same"
        log = house.log.read_text()
        assert "SIGTERM: ending requests in flight" in log and "ended" in log, house.tail()
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(100) == b"", "it is no answer"
    house.start()
    assert job.api()["n_pings"] == 1


def test_a_hang_up_stops_nothing_and_says_how_settings_are_taken(house):
    job = Job(house)
    house.server.send_signal(signal.SIGHUP)
    until_said(house, "SIGHUP: nothing is read again")
    job.cron()
    assert house.stop(signal.SIGTERM) == 0
    house.start()
    assert job.api()["n_pings"] == 1


def test_a_server_whose_terminal_is_closed_ends_in_order(house):
    house.stop()
    ours, its = pty.openpty()
    with house.log.open("ab") as log:
        house.server = subprocess.Popen(
            # A session of its own, whose terminal this is: what a shell in a window has.
            ["setsid", "--ctty", str(binary()), "serve"],
            env=house.env(), cwd=house.dir, stdin=its, stdout=its, stderr=log, start_new_session=False,
        )
    os.close(its)
    try:
        end = time.monotonic() + WAIT_SECS
        while house.get("/readyz")[0] != 200:
            assert time.monotonic() < end and house.server.poll() is None, house.tail()
            time.sleep(0.05)
    finally:
        os.close(ours)
    assert house.server.wait(WAIT_SECS) == 0, house.tail()
    house.server = None
    log = house.log.read_text()
    assert "SIGHUP, its terminal was closed: ending" in log and "ended" in log, house.tail()
    house.start()


def test_a_second_server_on_one_data_directory_is_refused_with_a_sentence(file_house):
    second = file_house.run("serve")
    said = (second.stdout + second.stderr).strip()
    assert second.returncode != 0
    assert str(file_house.data) in said and "panicked" not in said, said
    assert file_house.get("/readyz")[0] == 200


def test_the_start_tells_a_newcomer_what_is_needed_in_six_lines(house):
    said = house.log.read_text()
    lines = said.splitlines()
    last = next(i for i, line in enumerate(lines) if "curl " in line)
    first = next(i for i, line in enumerate(lines) if "allswell" in line.lower())
    assert last - first < 6, said
    assert house.url in said
    assert re.search(rf"{re.escape(house.url)}/start/\S+", said), said
    assert str(house.data) in said, "where the key ring lies"


def test_the_data_directory_is_nobody_elses_to_read(house):
    Job(house).cron()
    open_to_others = [p for p in [house.data, *house.data.rglob("*")] if stat.S_IMODE(p.stat().st_mode) & 0o077]
    assert not open_to_others


def test_bodies_and_keys_are_found_nowhere_on_the_disk(house, cluster):
    job = Job(house)
    ping_key = house.key(job.project, "ping")
    canary = "canary-6f1d0b2e94"
    job.cron("true", f" --data-binary {canary}")
    assert house.get(f"/api/v3/checks/{job.id}/pings/1/body", {"X-Api-Key": job.key}) == (200, canary.encode())
    secrets_given = [s.encode() for s in (canary, ping_key, job.key)]
    cluster.sql("checkpoint")
    files = [*house.data.rglob("*"), *cluster.dir.rglob("*")]
    stored = {p: p.read_bytes() for p in files if p.is_file() and not p.is_socket()}
    assert not [(p, s) for p, text in stored.items() for s in secrets_given if s in text]
    assert not [s for s in secrets_given if s in house.log.read_bytes()]


def test_an_unknown_setting_is_refused_with_the_nearest_known_name(file_house):
    file_house.settings["LISTEM"] = "127.0.0.1:1"
    done = file_house.run("config", "check")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "ALLSWELL_LISTEM" in said and "ALLSWELL_LISTEN" in said, said


def test_the_configuration_is_not_called_valid_that_a_start_refuses(file_house):
    """What `config check` reads is what `serve` reads, and it makes nothing."""
    file_house.stop()
    gone = str(file_house.dir / "gone")
    for settings, word in [
        ({"WATCHDOG_URL": "hc-ping.com/x"}, "watchdog.url"),
        ({"KEYS_RING": "first:abc"}, "keys.ring"),
        ({"KEYS_RING_FILE": gone}, gone),
        ({"TZDATA_DIR": gone}, "tzdata.dir"),
        ({"OUTBOUND_EXTRA_CA_FILE": gone}, "outbound.extra_ca_file"),
        ({"DATABASE_URL": "postgres://nobody@db.example/x", "DATABASE_SSLROOTCERT": gone}, gone),
    ]:
        file_house.settings = {"DATA_DIR": gone, **settings}
        checked, started = file_house.run("config", "check"), file_house.run("serve")
        for done in (checked, started):
            assert done.returncode == 1 and word in done.stderr, (settings, done)
        assert "valid" not in checked.stdout, checked
        shutil.rmtree(gone, ignore_errors=True)
    file_house.settings = {"DATA_DIR": gone, "WATCHDOG_URL": "hc-ping.com/x", "TZDATA_DIR": gone}
    said = file_house.run("config", "check").stderr
    assert "watchdog.url" in said and "tzdata.dir" in said, "all of it is told at once"
    file_house.settings = {"DATA_DIR": gone}
    assert file_house.run("config", "check").returncode == 0
    assert not os.path.exists(gone)


def test_an_empty_key_ring_of_an_encrypted_database_is_to_be_put_back(house):
    job = Job(house)
    house.stop()
    ring = house.data / "key-ring"
    whole = ring.read_text()
    for text in ["", "# nothing\n"]:
        ring.write_text(text)
        done = house.run("serve")
        assert done.returncode == 1 and "Put the ring back" in done.stderr, done
        assert "generate" not in done.stderr, done
    ring.write_text(whole)
    house.start()
    assert job.api()["n_pings"] == 0


def test_a_data_directory_that_cannot_be_used_says_whose_it_is():
    """As somebody who is nobody here, if the tests are root, who may do all."""
    us = 65534 if os.geteuid() == 0 else os.geteuid()

    def serve(data: Path) -> str:
        env = {**os.environ, "ALLSWELL_DATA_DIR": str(data), "ALLSWELL_LISTEN": "127.0.0.1:0"}
        user = {"user": us} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [str(program), "serve"], env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, **user
        )
        assert done.returncode == 1, done
        return done.stderr

    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        home = Path(home)
        # Where the tests lie may be closed to others.
        program = home / "allswell"
        shutil.copy(binary(), program)
        file, theirs, open_dir = home / "file", home / "theirs", home / "open"
        file.write_text("x")
        said = serve(file)
        assert "data_dir" in said and "is a file" in said, said
        theirs.mkdir(mode=0o500)
        assert f"(uid {us})" in (said := serve(theirs / "data")) and "data_dir" in said, said
        said = serve(theirs)
        assert f"{theirs} " in said and f"uid {us}" in said and ("its own in data_dir" in said or "chmod" in said) and "chown" not in said, said
        open_dir.mkdir()
        os.chmod(open_dir, 0o777)
        (open_dir / "allswell.db.lock").touch(mode=0o400)
        said = serve(open_dir)
        assert f"{open_dir}/allswell.db.lock " in said and f"uid {us}" in said, said


def test_a_log_in_json_holds_nothing_else():
    with House(settings={"LOG_FORMAT": "json"}) as house:
        house.stop()
        lines = [json.loads(line) for line in house.log.read_text().splitlines()]
        said = [line["fields"]["message"] if "fields" in line else line["message"] for line in lines]
        for beginning in ["Allswell ", "Listening on 127.0.0.1:", "Start here within ", "Key ring: "]:
            assert any(message.startswith(beginning) for message in said), (beginning, said)
        house.start()


def test_the_start_page_names_the_configuration_that_the_server_has(tmp_path):
    """Whoever gives its commands elsewhere must not make a second database."""
    file = tmp_path / "my allswell.toml"
    file.write_text("")
    with House(server_env={"ALLSWELL_CONFIG": str(file)}) as house:
        link = re.search(r"Start here within .*?/start/(\w+)", house.log.read_text())[1]
        status, page = house.get(f"/start/{link}")
        assert status == 200
        text = html.unescape(page.decode())
        assert text.count(f"allswell --config '{file}' ") == 7 and "environment" not in text, text
        assert str(file) not in house.get("/")[1].decode(), "of no interest to strangers"


def test_behind_a_proxy_that_takes_a_path_away_every_link_leads_there():
    """The proxy asks for /static/… what a browser asks it for as /monitor/static/…."""
    with House(settings={"SITE_URL": "https://example.org/monitor"}) as house:
        for path, expected in [("/", 200), ("/nowhere", 404), ("/start/lapsed", 404)]:
            status, page = house.get(path)
            assert status == expected, path
            links = re.findall(r'(?:href|src)="(/[^"]*)"', page.decode())
            assert any(link.endswith("/static/allswell.css") for link in links), (path, links)
            for link in links:
                assert link.startswith("/monitor/"), (path, link)
                assert house.get(link.removeprefix("/monitor"))[0] == 200, (path, link)
        for path in ["/api/v3/checks", "/api/v1/channels", "/metrics", "/projects/x/metrics"]:
            opener = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))
            with pytest.raises(urllib.error.HTTPError) as met:
                opener.open(house.url + path + "?a=b", timeout=30)
            assert (met.value.code, met.value.headers["Location"]) == (301, f"/monitor{path}/?a=b")
        for path in ["/api/v3/openapi.json", "/v1/openapi.json"]:
            assert json.loads(house.get(path)[1])["servers"] == [{"url": "/monitor"}], path


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
