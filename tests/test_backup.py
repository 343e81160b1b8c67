"""Backups of the SQLite database: made beside a running server, and a server that goes on from one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from postgres import Cluster  # noqa: E402


@pytest.fixture()
def house():
    with House() as house:
        yield house


def project(house: House) -> tuple[str, str, str]:
    """A project, one of its checks, and a key that reads."""
    secret = house.dir / "password"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    house.cli("user", "create", "--email", "a@example.org", "--password-file", str(secret), "--json")
    project = json.loads(house.cli("project", "create", "--owner", "a@example.org", "--name", "Home", "--json"))["id"]
    check = json.loads(house.cli("check", "create", "--project", project, "--name", "Backup", "--json"))["id"]
    key = json.loads(house.cli("api-key", "create", "--project", project, "--scope", "read-write", "--json"))["key"]
    return project, check, key


def pings(house: House, check: str, key: str) -> list[dict]:
    status, text = house.get(f"/api/v3/checks/{check}/pings/", {"X-Api-Key": key})
    assert status == 200, text
    return json.loads(text)["pings"]


def body(house: House, check: str, key: str, n: int) -> bytes:
    status, text = house.get(f"/api/v3/checks/{check}/pings/{n}/body", {"X-Api-Key": key})
    assert status == 200, text
    return text


def put_in_place(house: House, file: Path) -> None:
    for old in house.data.glob("allswell.db*"):
        old.unlink()
    shutil.copy(file, house.data / "allswell.db")


def test_a_server_goes_on_from_a_backup_that_was_made_beside_it(house):
    _, check, key = project(house)
    assert house.request("POST", f"/ping/{check}", body=b"kept")[0] == 200
    file = house.dir / "copy.db"
    told = json.loads(house.cli("backup", str(file), "--json"))
    assert told == {"file": str(file), "bytes": file.stat().st_size, "schema_version": told["schema_version"], "key_ring": str(house.data / "key-ring")}
    assert file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in house.dir.glob("copy.db*")] == ["copy.db"], "one file, nothing beside it"
    # What comes after is in the database and not in the copy.
    assert house.request("POST", f"/ping/{check}", body=b"later")[0] == 200
    assert len(pings(house, check, key)) == 2
    house.stop()
    put_in_place(house, file)
    house.start()
    assert [p["n"] for p in pings(house, check, key)] == [1]
    assert body(house, check, key, 1) == b"kept"
    assert house.request("POST", f"/ping/{check}")[0] == 200


def test_a_backup_holds_what_a_killed_server_left_in_its_log(house):
    _, check, key = project(house)
    assert house.request("POST", f"/ping/{check}", body=b"answered")[0] == 200
    house.server.send_signal(signal.SIGKILL)
    house.server.wait()
    house.server = None
    assert (house.data / "allswell.db-wal").stat().st_size > 0
    file = house.dir / "copy.db"
    house.cli("backup", str(file))
    put_in_place(house, file)
    house.start()
    assert body(house, check, key, 1) == b"answered"


def test_a_backup_takes_the_place_of_nothing_and_leaves_nothing_half(house):
    project(house)
    for file, sentence in [
        (house.data / "allswell.db", "is there already: name a new file"),
        (house.dir / "nowhere" / "copy.db", "could not copy"),
        (Path("/dev/full"), "is there already"),
    ]:
        done = house.run("backup", str(file))
        assert done.returncode == 1 and sentence in done.stderr, done
    link = house.dir / "link.db"
    link.symlink_to("/nonexistent/there")
    assert "is there already" in house.run("backup", str(link)).stderr
    assert not list(house.dir.glob("*.half")) and not list(house.data.glob("*.half"))


def test_a_damaged_database_makes_no_backup(house):
    project(house)
    house.stop()
    database = house.data / "allswell.db"
    with database.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 20))
    copy = house.dir / "copy.db"
    done = house.run("backup", str(copy))
    assert done.returncode == 1 and "could not copy" in done.stderr and not copy.exists(), done
    database.unlink()
    done = house.run("backup", str(copy))
    assert done.returncode == 1 and "there is no database yet" in done.stderr and not database.exists(), done
    house.start()


def test_postgresql_is_backed_up_by_its_own_means():
    with Cluster() as cluster, House(settings={"DATABASE_URL": cluster.url(cluster.database())}) as house:
        done = house.run("backup", str(house.dir / "copy.db"))
        assert done.returncode == 1 and "pg_dump" in done.stderr and not (house.dir / "copy.db").exists(), done
