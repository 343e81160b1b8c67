"""The command line, as somebody meets it who has just come: in the wrong directory, with a typo, with twelve jobs.

What a command prints for people is held here by its words; what it does is held elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))
from house import House, free_port  # noqa: E402
from stored import DATABASES, stored_on  # noqa: E402

NOBODY = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70"


@pytest.fixture
def house():
    with House() as h:
        yield h


@pytest.fixture
def no_house():
    """Commands in a directory where nothing is."""
    house = House()
    house.port = free_port()
    yield house
    house.remove()


# Every command that opens the database, and needs no more than its flags to come that far.
OPENERS = [
    ["project", "list"],
    ["project", "create", "--owner", "a@example.org", "--name", "x"],
    ["project", "require-hmac", "--project", NOBODY, "off"],
    ["project", "require-ping-key", "--project", NOBODY, "off"],
    ["user", "create", "--email", "a@example.org", "--password-file", "password"],
    ["start-link"],
    ["check", "create", "--project", NOBODY, "--name", "x"],
    ["check", "update", "--project", NOBODY, NOBODY, "--name", "y"],
    ["check", "list", "--project", NOBODY],
    ["check", "show", "--project", NOBODY, NOBODY],
    ["check", "pause", "--project", NOBODY, NOBODY],
    ["check", "resume", "--project", NOBODY, NOBODY],
    ["channel", "create", "silent", "--project", NOBODY, "--name", "x"],
    ["channel", "list", "--project", NOBODY],
    ["channel", "show", "--project", NOBODY, NOBODY],
    ["channel", "edit", "--project", NOBODY, NOBODY, "--name", "y"],
    ["channel", "test", "--project", NOBODY, NOBODY],
    ["channel", "rotate-secret", "--project", NOBODY, NOBODY],
    ["channel", "delete", "--project", NOBODY, NOBODY],
    ["delivery", "list", "--project", NOBODY],
    ["delivery", "again", "--project", NOBODY, NOBODY],
    ["secret", "set", "--project", NOBODY, "x", "--file", "password"],
    ["secret", "list", "--project", NOBODY],
    ["secret", "delete", "--project", NOBODY, "x"],
    ["api-key", "create", "--project", NOBODY, "--scope", "read-only"],
    ["api-key", "list", "--project", NOBODY],
    ["api-key", "revoke", "--project", NOBODY, NOBODY],
    ["api-key", "regenerate", "--project", NOBODY, NOBODY],
    ["keys", "list"],
    ["keys", "rotate"],
    ["keys", "retire", "first"],
    ["watchdog"],
]


def with_a_password(house: House) -> None:
    password = house.dir / "password"
    password.touch(mode=0o600)
    password.write_text("a long enough password\n")


def test_a_command_where_no_database_is_says_so_and_makes_nothing(no_house):
    with_a_password(no_house)
    for command in OPENERS:
        done = no_house.run(*command)
        said = f"{command}: {done.stdout}{done.stderr}"
        assert done.returncode == 1 and done.stdout == "", said
        assert f"there is no database yet at {no_house.data}/allswell.db" in done.stderr, said
        assert "allswell serve" in done.stderr and "--config" in done.stderr, said
        assert not no_house.data.exists(), said


def test_a_look_for_a_database_in_the_working_directory_names_the_whole_path(no_house):
    plain = no_house.env
    no_house.env = lambda: {k: v for k, v in plain().items() if k != "ALLSWELL_DATA_DIR"}
    done = no_house.run("project", "list")
    assert f"at {no_house.dir}/allswell-data/allswell.db;" in done.stderr, done.stderr
    assert not list(no_house.dir.iterdir())


def test_commands_can_follow_a_migration_before_the_first_start(no_house):
    no_house.cli("migrate")
    no_house.user("alice@example.org")
    project = no_house.project("alice@example.org", "Home")
    check = no_house.cli_json("check", "create", "--project", project, "--name", "Early")
    no_house.port = 0
    with no_house:
        assert no_house.get(f"/ping/{check['id']}") == (200, b"OK")


def test_a_command_makes_no_second_key_ring(no_house):
    no_house.cli("migrate")
    ring = no_house.data / "key-ring"
    ring.unlink()
    done = no_house.run("project", "list")
    assert done.returncode == 1 and f"there is no key ring at {ring}" in done.stderr, done.stderr
    assert not ring.exists()


@pytest.mark.parametrize("database", DATABASES)
def test_a_command_leaves_an_older_schema_to_the_server(database):
    with stored_on(database) as stored, House(settings=stored.settings) as house:
        stored.of(house)
        house.user("alice@example.org")
        # As an older server would have left it.
        newest = stored.number("select max(version) from schema_versions")
        stored.change(f"delete from schema_versions where version = {newest}")
        with_a_password(house)
        for command in OPENERS:
            done = house.run(*command)
            assert done.returncode == 1 and "allswell migrate" in done.stderr, f"{command}: {done.stdout}{done.stderr}"
        assert stored.number("select max(version) from schema_versions") == newest - 1


def test_a_database_server_without_a_schema_is_left_empty():
    with stored_on("postgres") as stored:
        house = House(settings=stored.settings)
        house.port = free_port()
        try:
            done = house.run("project", "list")
            assert done.returncode == 1 and "allswell migrate" in done.stderr, done.stderr
            assert stored.number("select count(*) from pg_tables where schemaname = 'public'") == 0
            assert not house.data.exists()
        finally:
            house.remove()
