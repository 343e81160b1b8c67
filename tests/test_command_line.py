"""The command line, as somebody meets it who has just come: in the wrong directory, with a typo, with twelve jobs.

What a command prints for people is held here by its words; what it does is held elsewhere.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))
from house import House, binary, free_port  # noqa: E402
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


# Checks


class Home:
    """A project with commands on it."""

    def __init__(self, house: House):
        self.house = house
        house.user("alice@example.org")
        self.id = house.project("alice@example.org", "Home")

    def says(self, *command: str) -> str:
        """What a command prints for people; `check` and the rest take their project here."""
        return self.house.cli(*command, "--project", self.id)

    def json(self, *command: str):
        return self.house.cli_json(*command, "--project", self.id)

    def check(self, name: str, *flags: str) -> str:
        return self.json("check", "create", "--name", name, *flags)["id"]

    def channel(self, name: str) -> str:
        return self.json("channel", "create", "log", "--name", name)["id"]

    def ping(self, check: str, rest: str = "", body: bytes | None = None) -> None:
        assert self.house.request("POST", f"/ping/{check}{rest}", body=body) == (200, b"OK")


@pytest.fixture(scope="module", params=DATABASES)
def home(request):
    with stored_on(request.param) as stored, House(settings=stored.settings) as house:
        yield Home(house)


def test_a_check_shows_what_is_set_on_it_and_whom_it_tells(home):
    pager = home.channel("Pager")
    check = home.check("Dump", "--slug", "dump", "--tags", "prod db", "--description", "of the night", "--schedule", "5 3 * * 1-5",
                       "--tz", "Europe/Riga", "--grace", "600", "--max-run", "7200", "--channel", pager)  # fmt: skip
    home.ping(check, "/3", b"disk is full")
    shown = home.says("check", "show", check)
    for words in [
        "schedule: 5 3 * * 1-5 in Europe/Riga (", "; grace 10 min\n", "slug: dump\n", "tags: prod db\n",
        "description: of the night\n", "rule: a run may take 2 h\n", "tells: Pager (log)\n", ", exit status 3, 12 bytes\n",
    ]:  # fmt: skip
        assert words in shown, f"{words!r} is not in\n{shown}"
    value = home.json("check", "show", check)
    assert value["schedule"] == {"expression": "5 3 * * 1-5", "time_zone": "Europe/Riga"}
    assert (value["grace_secs"], value["tags"], value["methods"]) == (600, ["prod", "db"], "any")
    assert value["channels"] == [{"id": pager, "kind": "log", "name": "Pager", "enabled": True}]
    assert value["filters"]["start_keywords"] == "" and value["history"]["pings"][0]["exit_status"] == 3

    alone = home.check("Alone")
    shown = home.says("check", "show", alone)
    assert "schedule: a ping each 1 d; grace 1 h\n" in shown and "tells nobody" in shown and "--add-channel" in shown
    assert home.json("check", "show", alone)["schedule"] == {"every_secs": 86_400}


def test_a_list_tells_at_a_glance_how_checks_fare(home):
    check = home.check("Glance", "--slug", "glance", "--period", "3600")
    home.ping(check)
    never = home.check("Never pinged, with a longer name")
    lines = home.says("check", "list").splitlines()
    assert lines[0].split() == ["id", "status", "last", "ping", "expected", "down", "at", "slug", "name"]
    [line] = [line for line in lines if line.startswith(check)]
    shown = home.json("check", "show", check)
    seconds = [shown[key][:19] + "Z" for key in ("last_ping", "next_ping", "deadline")]
    assert line.split() == [check, "up", *seconds, "glance", "Glance"]
    [line] = [line for line in lines if line.startswith(never)]
    assert line.split(maxsplit=6) == [never, "new", "-", "-", "-", "-", "Never pinged, with a longer name"]
    assert {line.index("  ", 36) for line in lines[1:]} == {36}
    column = lines[0].index("name")
    assert all(line[column - 1] == " " != line[column] for line in lines), "\n".join(lines)
    [listed] = [one for one in home.json("check", "list")["checks"] if one["id"] == check]
    assert listed == {key: shown[key] for key in listed}


def test_a_body_is_given_as_it_came_and_shown_so_that_it_does_nothing(home):
    body = b"red \x1b[31m \xff\x00 end\n"
    check = home.check("Bodies")
    home.ping(check, "/fail", body)
    home.ping(check)
    command = [str(binary()), "check", "ping", "--project", home.id, check]
    done = subprocess.run([*command, "1"], env=home.house.env(), capture_output=True)
    assert (done.returncode, done.stdout) == (0, body) and b"fail" in done.stderr, done
    # On a terminal.
    ours, theirs = pty.openpty()
    done = subprocess.run([*command, "1"], env=home.house.env(), stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    shown = os.read(ours, 10_000)
    os.close(ours)
    assert done.returncode == 0 and b"\x1b" not in shown and b"\x00" not in shown, shown
    assert b"red \\u{1b}[31m" in shown and b"fail" in shown, shown
    value = home.json("check", "ping", check, "1")
    assert (value["kind"], value["body_bytes"], value["body"]) == ("fail", len(body), body.decode(errors="replace"))
    assert "it had no body" in home.says("check", "ping", check, "2")
    done = home.house.run("check", "ping", "--project", home.id, check, "3")
    assert done.returncode == 1 and "ping 3 is not in the log" in done.stderr


def test_a_check_that_nobody_has_heard_of_says_that_it_alerts_nobody(home):
    pager = home.channel("First")
    said = home.says("check", "create", "--name", "Fresh", "--channel", pager)
    waits = "waits for its first ping: nothing is expected of it and nobody is told until then"
    assert waits in said and "Note on" not in said, said
    check = said.split()[1]
    assert waits in home.says("check", "show", check)
    assert home.json("check", "show", check)["awaits_first_ping"] is True
    home.ping(check)
    assert waits not in home.says("check", "show", check)
    assert waits not in home.says("check", "pause", check)
    assert waits in home.says("check", "resume", check)


def test_a_check_without_a_channel_says_how_to_attach_one(home):
    pager = home.channel("Attached")
    said = home.says("check", "create", "--name", "Alone")
    check = said.split()[1]
    advice = f"allswell check update --project {home.id} {check} --add-channel CHANNEL"
    assert "tells nobody" in said and advice in said, said
    other = home.json("check", "create", "--name", "Other")
    assert [(note["field"], note["rule"]) for note in other["warnings"]] == [("channel", "nobody")]

    said = home.says("channel", "create", "silent", "--name", "Quiet")
    quiet = said.split()[1]
    assert f"allswell check update --project {home.id} CHECK --add-channel {quiet}" in said, said
    for channel in (pager, quiet, pager):
        assert "Note on" not in home.says("check", "update", check, "--add-channel", channel)
    assert {one["id"] for one in home.json("check", "show", check)["channels"]} == {pager, quiet}
    assert "tells nobody" in home.says("check", "update", check, "--channel", "none")
    # Of a change of something else nothing is said.
    assert "Note on" not in home.says("check", "update", check, "--name", "Still alone")

    empty = home.house.project("alice@example.org", "Empty")
    said = home.house.cli("check", "create", "--project", empty, "--name", "x", "--channel", "all")
    assert "the project has no channel" in said and "allswell channel create" in said, said


def test_a_slug_that_is_taken_is_said(home):
    first = home.json("check", "create", "--name", "One", "--slug", "cron-1")
    assert "slug" not in [note["field"] for note in first["warnings"]]
    said = home.says("check", "create", "--name", "Two", "--slug", "cron-1")
    assert f"Note on slug: cron-1 is the slug of check {first['id']} too" in said and "409" in said, said
    third = home.check("Three")
    notes = home.json("check", "update", third, "--slug", "cron-1")["warnings"]
    assert [(note["field"], note["rule"]) for note in notes] == [("slug", "taken")]
    assert "Note" not in home.says("check", "update", third, "--slug", "cron-3")


def test_doctor_counts_the_checks_that_tell_nobody():
    with House() as house:
        home = Home(house)
        told = home.channel("Log")
        home.check("Told", "--channel", told)
        findings = house.run("doctor", "--json").stdout
        assert "tell nobody" not in findings and "tells nobody" not in findings
        home.check("Untold")
        shown = house.run("doctor").stdout
        assert "1 of 2 checks tells nobody when it goes down" in shown, shown


def test_an_update_of_nothing_is_refused(home):
    check = home.check("Same")
    done = home.house.run("check", "update", "--project", home.id, check)
    assert done.returncode == 1 and "nothing was named" in done.stderr, done.stdout + done.stderr


# Flags and errors


def test_a_time_can_be_given_with_its_unit(home):
    check = home.check("Timed", "--period", "1h30m", "--grace", "5m", "--max-run", "2h")
    shown = home.json("check", "show", check)
    assert (shown["schedule"], shown["grace_secs"], shown["rules"]["max_run_secs"]) == ({"every_secs": 5_400}, 300, 7_200)
    for wrong in ("30", "1 hour", "2y"):
        done = home.house.run("check", "create", "--project", home.id, "--name", "x", "--period", wrong)
        assert done.returncode == 2 and "expected 1 min to 365 d, in seconds or with a unit" in done.stderr, done.stderr


def test_why_a_command_failed_is_json_where_that_was_asked_for(home):
    refused = ["channel", "create", "webhook", "--project", home.id, "--name", "x", "--down-url", "ftp://example.org/"]
    done = home.house.run(*refused)
    assert done.returncode == 1 and done.stderr.startswith("allswell: down.url: "), done.stderr
    plain = home.house.run(*refused, "--json")
    told = json.loads(plain.stderr)
    assert plain.stdout == "" and plain.returncode == 1
    assert [fault["field"] for fault in told["errors"]] == ["down.url"], told
    [rule] = [fault["rule"] for fault in told["errors"]]
    assert f"({rule})" not in done.stderr and done.stderr == f"allswell: {told['error']}\n"
    done = home.house.run("check", "show", "--project", home.id, NOBODY, "--json")
    assert "there is no check" in json.loads(done.stderr)["error"]


def test_a_typo_leads_to_nothing_that_nobody_types(no_house):
    for typo in ("rela", "replay", "relay2"):
        done = no_house.run(typo)
        assert done.returncode == 2 and "'relay'" not in done.stderr, done.stderr
    assert "relay\n" not in no_house.run("--help").stdout


def test_the_help_of_run_names_its_own_configuration_and_no_json(no_house):
    said = no_house.run("run", "--help").stdout
    assert "ALLSWELL_RUN_CONFIG" in said and "run.toml" in said and "allswell.toml" not in said, said
    assert "--json" not in said


# Words


def test_a_refused_test_says_why_once_and_times_have_one_form():
    with House() as house:
        home = Home(house)
        strict = dict(house.settings)
        # The command may make what the server then refuses to call.
        house.settings.update({"OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false"})
        hook = home.json("channel", "create", "webhook", "--name", "Hook", "--down-url", "http://10.1.2.3:8080/")["id"]
        house.settings = strict
        done = house.run("channel", "test", "--project", home.id, hook)
        assert done.returncode == 1 and done.stdout.startswith("blocked\n"), done.stdout
        assert done.stdout.count("Only https URLs can be called") == 1 and "https_only" in done.stdout, done.stdout

        home.json("api-key", "create", "--scope", "read-only", "--expires-in", "3")
        for command in (["delivery", "list"], ["channel", "list"], ["api-key", "list"]):
            said = home.says(*command)
            assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\b", said), said
            assert not re.search(r":\d\d(\.\d+|\+00:00)", said), said
        assert " 1 attempt " in home.says("delivery", "list")
        for value in (home.json("api-key", "list")["keys"][0]["created_at"], home.json("check", "create", "--name", "x")["since"]):
            assert value.endswith("Z"), value


def test_a_password_that_others_may_read_is_said(no_house):
    no_house.cli("migrate")
    password = no_house.dir / "password"
    password.write_text("a long enough password\n")
    for n, (mode, told) in enumerate([(0o644, True), (0o640, True), (0o600, False)]):
        password.chmod(mode)
        said = no_house.cli("user", "create", "--email", f"a{n}@example.org", "--password-file", str(password))
        assert ("Note on password-file" in said and f"{mode:o}" in said) == told, said


def test_a_bad_name_of_a_root_key_is_told_by_its_flag(no_house):
    done = no_house.run("keys", "generate", "--name", "bad name")
    assert done.returncode == 1 and done.stderr.startswith('allswell: --name: "bad name" is no name'), done.stderr
    assert "NAME:BASE64" not in done.stderr


def test_a_rotation_on_a_server_that_is_well_frightens_nobody(house):
    found = house.run("doctor").stdout
    assert "opens the one data key" in found, found
    done = house.run("keys", "rotate")
    assert done.returncode == 0, done.stderr
    for word in ("missing", "copy", " 0 %", ": 0"):
        assert word not in done.stderr, done.stderr
