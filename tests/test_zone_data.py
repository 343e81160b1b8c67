"""Newer zone data: `tzdata.dir`, and deadlines that are worked out again when the rules have changed.

The directory is a copy of PyPI's tzdata in which Riga's clock has been exchanged for Tokyo's: a change of rules
that nobody could overlook.
"""

from __future__ import annotations

import importlib.resources
import shutil
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402


@pytest.fixture
def changed_zones(tmp_path) -> Path:
    zones = tmp_path / "zoneinfo"
    shutil.copytree(str(importlib.resources.files("tzdata") / "zoneinfo"), zones, ignore=shutil.ignore_patterns("__*"))
    shutil.copyfile(zones / "Asia" / "Tokyo", zones / "Europe" / "Riga")
    return zones


def next_noon(house: House) -> datetime:
    answer = house.cli_json("schedule", "next", "--expr", "0 12 * * *", "--tz", "Europe/Riga", "--after", "2026-01-10T00:00:00Z")
    return datetime.fromisoformat(answer["next"][0])


def test_a_directory_of_zones_takes_the_place_of_the_bundled_rules(changed_zones):
    with House() as house:
        assert next_noon(house) == datetime(2026, 1, 10, 10, tzinfo=timezone.utc)
        house.settings["TZDATA_DIR"] = str(changed_zones)
        assert next_noon(house) == datetime(2026, 1, 10, 3, tzinfo=timezone.utc)


def test_deadlines_are_worked_out_again_when_the_rules_have_changed(changed_zones):
    with House() as house:
        house.user("alice@example.org")
        project = house.project("alice@example.org", "Home")
        made = house.cli_json("check", "create", "--project", project, "--name", "Noon", "--schedule", "0 12 * * *", "--tz", "Europe/Riga")
        assert house.get(f"/ping/{made['id']}")[0] == 200

        def deadline() -> datetime:
            return datetime.fromisoformat(house.cli_json("check", "show", "--project", project, made["id"])["deadline"])

        def woken_at() -> datetime:
            shown = house.cli_json("check", "show", "--project", project, made["id"])
            return datetime.fromisoformat(shown["wake_up"])

        before = deadline()
        assert woken_at() == before
        assert house.stop() == 0
        house.settings["TZDATA_DIR"] = str(changed_zones)
        house.start()
        end = time.monotonic() + 10
        while woken_at() == before:
            assert time.monotonic() < end, "the stored wake-up still follows the old rules"
            time.sleep(0.05)
        assert woken_at() == deadline()
        # Noon in Tokyo is five or six hours before noon in Riga, or on the next day.
        assert (deadline() - before) % timedelta(days=1) in {timedelta(hours=24 - hours) for hours in (6, 7)}


def test_a_directory_without_zones_is_refused_with_a_sentence(tmp_path):
    house = House(settings={"TZDATA_DIR": str(tmp_path)})
    house.port = 1
    try:
        done = house.run("serve")
        assert done.returncode != 0
        assert "tzdata.dir" in done.stderr and "zoneinfo" in done.stderr, done.stderr
    finally:
        house.remove()


def test_a_damaged_zone_file_is_named(changed_zones):
    (changed_zones / "Europe" / "Paris").write_bytes(b"TZif2" + b"\0" * 20)
    house = House(settings={"TZDATA_DIR": str(changed_zones)})
    house.port = 1
    try:
        done = house.run("schedule", "next", "--expr", "daily")
        assert done.returncode != 0
        assert "Europe/Paris" in done.stderr, done.stderr
    finally:
        house.remove()


