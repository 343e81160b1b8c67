"""API keys by the command line, against the running server: made, listed, bound, renewed, ended."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from postgres import settings_for  # noqa: E402


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(request):
    with settings_for(request.param) as settings, House(settings=settings) as h:
        h.user("alice@example.org")
        h.project_id = h.project("alice@example.org", "Home")
        yield h


def make(house, *more, scope="read-write"):
    return house.cli_json("api-key", "create", "--project", house.project_id, "--scope", scope, *more)


def listed(house, key_id):
    keys = house.cli_json("api-key", "list", "--project", house.project_id)["keys"]
    return next(key for key in keys if key["id"] == key_id)


def status(house, key, path="/api/v3/checks/", **headers):
    return house.get(path, {"X-Api-Key": key, **headers})[0]


def regenerate(house, key_id, *more):
    return house.cli_json("api-key", "regenerate", "--project", house.project_id, key_id, *more)


def refused(house, *args):
    done = house.run("api-key", *args)
    assert done.returncode != 0
    return done.stderr


def test_a_key_is_shown_once_and_listed_without_its_text(house):
    made = make(house, "--name", "the office's")
    assert len(made["key"]) == 32 and made["key"].startswith("asw_")
    key = listed(house, made["id"])
    assert (key["name"], key["scope"], key["standing"], key["networks"]) == ("the office's", "read-write", "good", [])
    assert key["begins"] == made["key"][4:12]
    text = house.cli("api-key", "list", "--project", house.project_id)
    assert "the office's" in text and made["key"] not in text


def test_a_key_can_expire(house):
    made = make(house, "--expires-in", "30")
    left = datetime.fromisoformat(listed(house, made["id"])["expires_at"]) - datetime.now(timezone.utc)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
    assert status(house, made["key"]) == 200
    for days in ("0", "-1", "3651", "x"):
        assert "--expires-in" in refused(house, "create", "--project", house.project_id, "--scope", "read-only", f"--expires-in={days}")


def test_a_key_can_be_bound_to_networks(house):
    made = make(house, "--network", "192.0.2.0/24", "--network", "2001:db8::/32")
    assert listed(house, made["id"])["networks"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert status(house, made["key"]) == 401
    assert status(house, made["key"], **{"X-Forwarded-For": "192.0.2.7"}) == 200
    assert status(house, made["key"], **{"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}) == 401
    assert "the network is 192.0.2.0/24" in refused(house, "create", "--project", house.project_id, "--scope", "read-only", "--network", "192.0.2.7/24")
    assert "ping key" in refused(house, "create", "--project", house.project_id, "--scope", "ping", "--network", "192.0.2.0/24")


def test_a_revoked_key_opens_nothing_and_can_be_neither_revoked_nor_renewed_again(house):
    made = make(house)
    assert status(house, made["key"]) == 200
    house.cli("api-key", "revoke", "--project", house.project_id, made["id"])
    assert status(house, made["key"]) == 401
    assert listed(house, made["id"])["standing"] == "revoked"
    for verb in ("revoke", "regenerate"):
        assert "no key" in refused(house, verb, "--project", house.project_id, made["id"])


def test_a_renewed_key_replaces_the_old_one_at_once_or_after_an_overlap(house):
    made = make(house, "--name", "ci")
    second = regenerate(house, made["id"])
    assert (status(house, made["key"]), status(house, second["key"])) == (401, 200)
    old = listed(house, made["id"])
    assert (old["standing"], old["replaced_by"]) == ("replaced", second["id"])
    third = regenerate(house, second["id"], "--overlap", "24")
    assert (status(house, second["key"]), status(house, third["key"])) == (200, 200)
    assert listed(house, third["id"])["name"] == "ci"
    assert "--overlap" in refused(house, "regenerate", "--project", house.project_id, third["id"], "--overlap", "25")


def test_a_renewed_ping_key_pings(house):
    made = make(house, scope="ping")
    renewed = regenerate(house, made["id"], "--overlap", "1")
    for key in (made["key"], renewed["key"]):
        assert house.get(f"/ping/{key}/nightly?create=1")[0] in (200, 201)


def test_a_key_for_scrapers_reads_the_gauges_only(house):
    made = make(house, scope="metrics")
    assert made["key"].startswith("asm_")
    assert status(house, made["key"]) == 401
    assert house.get("/metrics/", {"Authorization": f"Bearer {made['key']}"})[0] == 200
    assert house.get(f"/projects/{house.project_id}/metrics/{made['key']}")[0] == 200
