"""Keys are replaced while jobs report: on both databases, with `kill -9` of server and command in the midst, by two
servers at once. Nothing is lost, no live key or badge breaks, and no secret is ever on disk in the clear.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House, binary  # noqa: E402
from postgres import Cluster, program  # noqa: E402

WAIT_SECS = 90
BODIES = 1200


def until(done, what) -> None:
    end = time.monotonic() + WAIT_SECS
    while not done():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)


class Story:
    """A house with a project, keys, checks whose bodies are known, and a badge."""

    def __init__(self, house: House):
        self.house = house
        house.user("alice@example.org")
        self.project = house.project("alice@example.org", "Home")
        self.key = house.key(self.project, "read-write")
        self.reader = house.key(self.project, "read-only")
        self.ping_key = house.key(self.project, "ping")
        self.checks = [self.check(f"job-{n}") for n in range(8)]
        status, body = house.get("/api/v3/badges/", {"X-Api-Key": self.key})
        assert status == 200, body
        self.badges = json.loads(body)
        self.bodies: dict[tuple[str, int], bytes] = {}
        self.lock = threading.Lock()
        self.counts = {check: 0 for check in self.checks}

    def check(self, slug: str) -> str:
        body = json.dumps({"name": slug, "slug": slug, "timeout": 3600}).encode()
        status, answer = self.house.request("POST", "/api/v3/checks/", {"X-Api-Key": self.key}, body)
        assert status == 201, answer
        return json.loads(answer)["uuid"]

    def fill(self, count: int) -> None:
        for n in range(count):
            self.ping(self.checks[n % len(self.checks)], b"body %d of the filling " % n + os.urandom(40).hex().encode())

    def ping(self, check: str, body: bytes) -> bool:
        """Only one thread pings a check, so that the number of a ping is known."""
        status, _ = self.house.request("POST", f"/ping/{check}", None, body)
        if status == 200:
            with self.lock:
                self.counts[check] += 1
                self.bodies[check, self.counts[check]] = body
        return status == 200

    def pings(self, check: str) -> list[dict]:
        status, body = self.house.get(f"/api/v3/checks/{check}/pings/", {"X-Api-Key": self.key})
        assert status == 200, body
        return json.loads(body)["pings"]

    def all_is_there(self, house: House | None = None, of: int = 400) -> None:
        """Bodies read back as they were sent, keys open what they opened, badges are where they were."""
        house = house or self.house
        some = sorted(self.bodies)
        random.Random(1).shuffle(some)
        for check, n in some[:of]:
            # By the native API: the compatible one has the bodies of the newest hundred alone.
            got = house.get(f"/v1/checks/{check}/pings/{n}/body", {"X-Api-Key": self.key})
            assert got == (200, self.bodies[check, n]), (check, n, got, house.tail())
        assert house.get("/api/v3/checks/", {"X-Api-Key": self.reader})[0] == 200
        assert house.get(f"/ping/{self.ping_key}/by-slug?create=1")[0] in (200, 201)
        status, body = house.get("/api/v3/badges/", {"X-Api-Key": self.key})
        assert status == 200
        path = urlsplit(self.badges["badges"]["*"]["svg"]).path
        assert path == urlsplit(json.loads(body)["badges"]["*"]["svg"]).path
        assert house.get(path)[0] == 200


class Load:
    """Each check pinged by a thread of its own, as fast as it is answered; what was answered 200 is remembered. A server
    that is killed takes pings with it whose answer nobody heard: then the numbers are asked for again."""

    def __init__(self, story: Story):
        self.story = story
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(check,)) for check in story.checks[:4]]
        self.refused = 0

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, check: str) -> None:
        n = 0
        while not self.stop.is_set():
            n += 1
            if not self.story.ping(check, b"under load %d " % n + os.urandom(20).hex().encode()):
                self.refused += 1
                self.learn(check)

    def learn(self, check: str) -> None:
        """After an end: the number of the newest ping that was stored."""
        while not self.stop.is_set():
            status, body = self.story.house.get(f"/api/v3/checks/{check}", {"X-Api-Key": self.story.key})
            if status == 200:
                with self.story.lock:
                    self.story.counts[check] = json.loads(body)["n_pings"]
                return
            time.sleep(0.05)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request):
    # Under load for a minute, a check gets more pings than are kept by default.
    kept = {"RETENTION_PINGS_PER_CHECK": "1000000", "RETENTION_BODY_BYTES_PER_CHECK": "1000000000"}
    if request.param == "sqlite":
        yield kept
    else:
        with Cluster() as cluster:
            yield {"DATABASE_URL": cluster.url(cluster.database()), **kept}


def listed(house: House) -> dict:
    return house.cli_json("keys", "list")


def roots(house: House) -> dict[str, dict]:
    return {key["name"]: key for key in listed(house)["keys"]}


def spawn(house: House, *args: str) -> subprocess.Popen:
    return subprocess.Popen([str(binary()), *args], env=house.env(), cwd=house.dir, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_keys_are_replaced_under_load_and_the_old_root_key_can_go(settings):
    with House(settings=settings) as house:
        story = Story(house)
        story.fill(BODIES)
        ring = house.data / "key-ring"
        before, mode = ring.read_text(), ring.stat().st_mode
        with Load(story) as load:
            done = house.run("keys", "rotate", "--name", "second")
            assert done.returncode == 0, done.stderr
            assert "sealing values" in done.stderr or "done" in done.stderr, done.stderr
        assert load.refused == 0, house.tail()
        keys = roots(house)
        assert keys["second"]["active"] and keys["second"]["wraps"] > 0
        assert not keys["first"]["active"] and keys["first"]["wraps"] == 0
        assert "keys retire first" in done.stdout
        assert ring.stat().st_mode == mode and ring.read_text() != before
        story.all_is_there()

        refused = house.run("keys", "retire", "second")
        assert refused.returncode != 0 and "wraps" in refused.stderr
        house.cli("keys", "retire", "first")
        assert list(roots(house)) == ["second"]
        story.all_is_there()
        # Without what a process has at hand.
        assert house.stop() == 0
        house.start()
        story.all_is_there()
        assert story.ping(story.checks[0], b"later")
        story.all_is_there(of=10)
        acts = [line for line in house.log.read_text().splitlines() if "ERROR" in line]
        assert not acts, acts


def test_a_rotation_goes_on_after_kill_9_of_server_and_command(settings):
    with House(settings=settings) as house:
        story = Story(house)
        story.fill(BODIES)
        dice = random.Random(7)
        name = "second"
        phases = set()
        with Load(story):
            for round_ in range(6):
                command = spawn(house, "keys", "rotate", "--name", name)
                end = time.monotonic() + dice.uniform(0.3, 1.6)
                while time.monotonic() < end and command.poll() is None:
                    time.sleep(0.02)
                killed = command.poll() is None
                command.kill()
                command.wait()
                if round_ % 2 == 0:
                    house.kill()
                    house.start()
                rotation = listed(house)["rotation"]
                if rotation:
                    phases.add((rotation["to"], rotation["phase"]))
                    if rotation["finished"] and not killed:
                        name = f"root-{round_}"
            # The last one is carried to its end. On PostgreSQL a server that was killed is waited for until it must be
            # taken for dead.
            command = spawn(house, "keys", "rotate")
            _, err = command.communicate(timeout=2 * WAIT_SECS)
            assert command.returncode == 0, err
        assert phases, "nothing was ever under way"
        active = [key for key in roots(house).values() if key["active"]]
        assert len(active) == 1 and active[0]["name"] != "first"
        assert all(key["wraps"] == 0 for key in roots(house).values() if not key["active"])
        for key in list(roots(house).values()):
            if not key["active"]:
                house.cli("keys", "retire", key["name"])
        assert house.stop() == 0
        house.start()
        story.all_is_there()


def test_without_a_server_the_command_does_the_work(settings):
    with House(settings=settings) as house:
        story = Story(house)
        story.fill(60)
        assert house.stop() == 0
        answer = house.cli_json("keys", "rotate", "--retire")
        assert answer["retired"] == ["first"] and answer["values_unreadable"] == 0, answer
        assert list(roots(house)) == [answer["root_key"]]
        house.start()
        story.all_is_there()


def test_two_servers_learn_of_the_new_keys_while_they_run():
    with Cluster() as cluster:
        settings = {"DATABASE_URL": cluster.url(cluster.database())}
        with House(settings=settings) as first:
            copy = first.dir / "copy-of-the-ring"
            copy.write_text((first.data / "key-ring").read_text())
            copy.chmod(0o600)
            with House(settings={**settings, "KEYS_RING_FILE": str(copy)}) as second:
                story = Story(first)
                story.fill(100)
                story.all_is_there(second)
                command = spawn(first, "keys", "rotate", "--name", "second")
                try:
                    # The second server's ring is a file of its own: nothing may happen before it has the key too.
                    until(lambda: "second" in roots(first), "the key is not in the ring")
                    time_to_err = time.monotonic() + 3
                    while time.monotonic() < time_to_err:
                        assert listed(first)["rotation"] is None or listed(first)["rotation"]["phase"] == "announced"
                        assert command.poll() is None, command.communicate()
                    copy.write_text((first.data / "key-ring").read_text())
                    out, err = command.communicate(timeout=WAIT_SECS)
                finally:
                    command.kill()
                assert command.returncode == 0, err
                assert "waiting until each server has the new root key" in err
                for house in (first, second):
                    assert house.request("POST", f"/ping/{story.checks[0]}", None, b"both write")[0] == 200
                for house in (first, second):
                    story.all_is_there(house)
                    newest = story.pings(story.checks[0])[0]["n"]
                    for n in (newest, newest - 1):
                        got = house.get(f"/v1/checks/{story.checks[0]}/pings/{n}/body", {"X-Api-Key": story.key})
                        assert got == (200, b"both write")
                assert not [line for line in second.log.read_text().splitlines() if "ERROR" in line]


def test_a_ring_in_a_credential_is_used_and_left_alone():
    ring = subprocess.run([str(binary()), "keys", "generate"], capture_output=True, text=True, check=True).stdout
    house = House()
    credentials = house.dir / "credentials"
    credentials.mkdir()
    (credentials / "allswell.key-ring").write_text(ring)
    (credentials / "allswell.key-ring").chmod(0o400)
    plain = house.env
    house.env = lambda: {**plain(), "CREDENTIALS_DIRECTORY": str(credentials)}
    with house:
        assert listed(house)["ring"] == str(credentials / "allswell.key-ring")
        assert not (house.data / "key-ring").exists()
        story = Story(house)
        story.fill(5)
        more = subprocess.run([str(binary()), "keys", "generate", "--name", "next"], capture_output=True, text=True,
                              check=True).stdout
        # As the secret store would: one more line, and the server sees it.
        (credentials / "allswell.key-ring").chmod(0o600)
        (credentials / "allswell.key-ring").write_text(ring + more)
        done = house.run("keys", "rotate")
        assert done.returncode == 0, done.stderr
        assert roots(house)["next"]["active"]
        story.all_is_there()


CANARY = "canary-5be1c0ffee-yellow"


def forms(secret: str) -> list[bytes]:
    """A secret as it could stand somewhere: as it is, in hexadecimal, in base64 at each of three offsets, in UTF-16."""
    raw = secret.encode()
    found = [raw, raw.hex().encode(), raw.hex().upper().encode(), secret.encode("utf-16-le")]
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        found.append(encoded[4 if offset else 0:-4])
    return found


def files_with(directory: Path, needles: list[bytes]) -> list[str]:
    hits = []
    for path in directory.rglob("*"):
        if not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except OSError:
            continue
        hits += [f"{path}: {needle!r}" for needle in needles if needle in content]
    return hits


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_canary_in_every_secret_field_is_found_nowhere(database):
    """In no file of the database, its journal or write-ahead log, no dump, and no line of a log at the finest level."""
    cluster = Cluster() if database == "postgres" else None
    try:
        name = cluster.database() if cluster else ""
        settings = {"DATABASE_URL": cluster.url(name)} if cluster else {}
        settings["LOG_LEVEL"] = "trace"
        with House(settings=settings) as house:
            story = Story(house)
            # What is no secret must be found, or the search proves nothing.
            plain = story.check("plain-canary-4711")
            secrets = {"body": CANARY + "-body", "agent": CANARY + "-header"}
            assert house.request("POST", f"/ping/{plain}", {"X-Secret": secrets["agent"]}, secrets["body"].encode())[0] == 200
            log = house.request("POST", f"/ping/{plain}/log", None, (secrets["body"] + " line").encode())
            assert log[0] == 200
            secrets["api key"], secrets["read-only key"] = story.key, story.reader
            secrets["ping key"] = story.ping_key
            secrets["wrong key"] = CANARY + "-wrong-key"
            assert house.get("/api/v3/checks/", {"X-Api-Key": secrets["wrong key"]})[0] == 401
            secrets["bearer"] = CANARY + "-bearer"
            assert house.get("/metrics/", {"Authorization": "Bearer " + secrets["bearer"]})[0] >= 400
            ring = [line.split(":", 1)[1] for line in (house.data / "key-ring").read_text().splitlines() if ":" in line
                    and not line.startswith("#")]
            needles = [form for secret in secrets.values() for form in forms(secret)]
            needles += [key.encode() for key in ring] + [base64.b64decode(key) for key in ring]

            def look(when: str) -> None:
                places = [house.data]
                if cluster:
                    cluster.sql("checkpoint", name)
                    places.append(cluster.dir)
                    dump = house.dir / "dump"
                    dump.mkdir(exist_ok=True)
                    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
                    text = subprocess.run([program("pg_dump"), "-h", str(cluster.dir), "-p", str(cluster.port), "-U",
                                           "postgres", name], env=env, cwd="/", capture_output=True, check=True).stdout
                    (dump / "all.sql").write_bytes(text)
                    places.append(dump)
                hits = [hit for place in places for hit in files_with(place, needles) if "key-ring" not in hit]
                assert not hits, (when, hits[:5])
                found = [hit for place in places for hit in files_with(place, [b"plain-canary-4711"])]
                assert found, f"the search finds nothing {when}"
                log = house.log.read_bytes()
                assert b"plain-canary-4711" in log or len(log) > 500
                told = [needle for needle in needles if needle in log]
                assert not told, (when, told)

            look("before")
            ring_before = list(ring)
            assert house.run("keys", "rotate").returncode == 0
            ring = [line.split(":", 1)[1] for line in (house.data / "key-ring").read_text().splitlines() if ":" in line
                    and not line.startswith("#")]
            assert len(ring) == len(ring_before) + 1
            needles += [key.encode() for key in ring] + [base64.b64decode(key) for key in ring]
            look("after the rotation")
            # What was sent is there, in its own place.
            assert house.get(f"/api/v3/checks/{plain}/pings/1/body", {"X-Api-Key": story.key})[1].decode() == secrets["body"]
            assert house.stop(signal.SIGTERM) == 0
            look("after the end")
            house.start()
    finally:
        if cluster:
            cluster.remove()
