"""`allswell doctor` against the real binary: what it says of a house in order, and of each thing that is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House, binary  # noqa: E402
from postgres import Cluster, free_port  # noqa: E402


def doctor(house: House, *args: str, **settings: str) -> tuple[int, dict]:
    """The exit status and the answer in JSON."""
    env = {**house.env(), **{f"ALLSWELL_{name}": value for name, value in settings.items()}}
    done = subprocess.run([str(binary()), "doctor", "--json", *args], env=env, cwd=house.dir, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == done.returncode
    return done.returncode, answer


def of(answer: dict, area: str, level: str | None = None) -> list[dict]:
    return [f for f in answer["findings"] if f["area"] == area and level in (None, f["level"])]


@pytest.fixture
def house():
    with House() as h:
        yield h


def test_a_house_in_order_has_no_failures_and_each_thing_has_a_line(house):
    status, answer = doctor(house)
    assert answer["failures"] == 0 and status in (0, 1), answer
    for area in ("configuration", "site_url", "data", "disk", "space", "files", "clock", "zones", "server", "schema",
                 "durability", "commit", "key ring", "keys"):
        assert of(answer, area), (area, answer)
    assert "a server runs" in of(answer, "server")[0]["found"]
    assert "FULL" in of(answer, "durability", "OK")[0]["found"]
    # What is wrong says what to do about it.
    for finding in answer["findings"]:
        assert finding["level"] in ("OK", "NOTE", "WARN", "FAIL")
        if finding["level"] in ("WARN", "FAIL"):
            assert finding["advice"] or finding["area"] == "configuration", finding
    lines = house.run("doctor").stdout.splitlines()
    assert lines[0].startswith("OK ") and "\x1b" not in "".join(lines)
    # The server noticed nothing, and nothing is left behind.
    assert house.get("/readyz")[0] == 200
    assert not [p for p in house.data.iterdir() if "doctor" in p.name]
    assert house.stop() == 0
    assert "no server runs" in of(doctor(house)[1], "server")[0]["found"]
    house.start()


def test_looking_makes_nothing(tmp_path):
    house = House()
    house.port = free_port()
    try:
        status, answer = doctor(house)
        assert status == 1 and of(answer, "data", "WARN") and of(answer, "database", "WARN"), answer
        assert not house.data.exists()
    finally:
        house.remove()


def test_a_configuration_that_is_wrong_is_a_failure(house):
    status, answer = doctor(house, LIMITS_INBOX="many")
    assert status == 2 and "LIMITS_INBOX" in of(answer, "configuration", "FAIL")[0]["found"]
    status, answer = doctor(house, TZDATA_DIR=str(house.dir))
    assert status == 2 and of(answer, "zones", "FAIL"), answer


def test_what_others_may_read_or_change_is_told(house):
    house.data.chmod(0o755)
    assert of(doctor(house)[1], "data", "WARN")
    house.data.chmod(0o777)
    status, answer = doctor(house)
    assert status == 2 and "chmod 700" in of(answer, "data", "FAIL")[0]["advice"]
    house.data.chmod(0o700)
    ring = house.data / "key-ring"
    ring.chmod(0o644)
    status, answer = doctor(house)
    assert status == 2 and "chmod 600" in of(answer, "key ring", "FAIL")[0]["advice"]
    ring.chmod(0o600)
    assert doctor(house)[1]["failures"] == 0


def test_a_ring_that_does_not_fit_is_told_and_unused_keys_are(house):
    ring = house.data / "key-ring"
    own = ring.read_text()
    generate = lambda name: subprocess.run(  # noqa: E731
        [str(binary()), "keys", "generate", "--name", name], capture_output=True, text=True, check=True).stdout
    ring.write_text(own + generate("spare"))
    notes = of(doctor(house)[1], "keys", "NOTE")
    assert any("spare" in note["found"] and "keys retire spare" in note["advice"] for note in notes), notes
    for text in (generate("first"), generate("other")):
        ring.write_text(text)
        status, answer = doctor(house)
        assert status == 2 and of(answer, "keys", "FAIL"), answer
    ring.unlink()
    status, answer = doctor(house)
    assert status == 2 and "missing" in of(answer, "keys", "FAIL")[0]["found"]
    assert not ring.exists(), "a new ring was made"
    ring.write_text(own)
    ring.chmod(0o600)
    assert doctor(house)[1]["failures"] == 0


def test_a_directory_in_memory_and_too_few_files_are_told(house):
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.fail("/dev/shm is missing, which every Linux has")
    there = shm / f"allswell-doctor-{os.getpid()}"
    try:
        shutil.copytree(house.data, there)
        there.chmod(0o700)
        status, answer = doctor(house, DATA_DIR=str(there))
        assert status == 2 and "in memory" in of(answer, "disk", "FAIL")[0]["found"], answer
    finally:
        shutil.rmtree(there, ignore_errors=True)
    done = subprocess.run(["bash", "-c", f"ulimit -n 256 && exec {binary()} doctor --json"], env=house.env(), cwd=house.dir,
                          capture_output=True, text=True, timeout=60)
    assert of(json.loads(done.stdout), "files", "WARN"), done.stdout


def test_plain_http_to_the_world_is_told(house):
    assert of(doctor(house)[1], "site_url", "NOTE")
    assert of(doctor(house, SITE_URL="http://up.example.org")[1], "site_url", "WARN")
    assert of(doctor(house, SITE_URL="https://up.example.org")[1], "site_url", "OK")


def test_postgres_is_asked_what_it_keeps_and_what_our_role_may():
    with Cluster({"full_page_writes": "on", "fsync": "on"}) as cluster:
        name = cluster.database()
        with House(settings={"DATABASE_URL": cluster.url(name)}) as house:
            status, answer = doctor(house)
            assert answer["failures"] == 0, answer
            assert of(answer, "durability", "OK") and of(answer, "postgres", "OK") and of(answer, "clocks", "OK")
            assert "superuser" in of(answer, "role", "WARN")[0]["found"]
            assert of(answer, "connections", "OK") and of(answer, "tls", "OK")
            assert "1 servers" in of(answer, "server", "OK")[0]["found"]

            cluster.sql("create role careful login")
            cluster.sql("grant pg_write_all_data, pg_read_all_data to careful")
            careful = cluster.url(name).replace("postgres@", "careful@")
            assert of(doctor(house, DATABASE_URL=careful)[1], "role", "OK")

            cluster.sql(f"alter database {name} set synchronous_commit = off")
            status, answer = doctor(house)
            assert status == 2 and "synchronous_commit off" in of(answer, "durability", "FAIL")[0]["found"]
            cluster.sql(f"alter database {name} reset synchronous_commit")
            assert of(doctor(house, DATABASE_CONNECTIONS="1000")[1], "connections", "FAIL")
            # Another program's clock: it runs an hour ahead of the server's.
            libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
            assert libraries, "libfaketime is missing: `make setup` installs Debian's package faketime"
            env = {**house.env(), "LD_PRELOAD": str(libraries[0]), "FAKETIME": "+3600s"}
            done = subprocess.run([str(binary()), "doctor", "--json"], env=env, cwd=house.dir, capture_output=True, text=True,
                                  timeout=60)
            behind = of(json.loads(done.stdout), "clocks", "FAIL")
            assert done.returncode == 2 and "behind" in behind[0]["found"], done.stdout
    gone = House(settings={"DATABASE_URL": f"postgres://postgres@127.0.0.1:{free_port()}/none"})
    gone.port = free_port()
    gone.data.mkdir(mode=0o700)
    try:
        status, answer = doctor(gone)
        assert status == 2 and of(answer, "database", "FAIL"), answer
    finally:
        gone.remove()


def test_an_older_schema_is_told_and_left_alone(house):
    assert house.stop() == 0
    database = house.data / "allswell.db"
    import sqlite3
    with sqlite3.connect(database) as db:
        db.execute("delete from schema_versions where version = (select max(version) from schema_versions)")
    status, answer = doctor(house)
    assert status == 2 and "allswell migrate" in of(answer, "database", "FAIL")[0]["advice"], answer
    with sqlite3.connect(database) as db:
        assert db.execute("select count(*) from schema_versions where version = 1").fetchone() == (1,)
        newest = db.execute("select max(version) from schema_versions").fetchone()[0]
    assert newest >= 1
    # Put it back as it was: the server of this house starts again with its own schema.
    shutil.rmtree(house.data)
    house.start()
