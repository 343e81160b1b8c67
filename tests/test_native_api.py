"""The native API of the real server on both databases: events as they happen, signed calls as the documentation has
them, answers that survive a restart."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))

from house import House  # noqa: E402
from postgres import settings_for  # noqa: E402


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(request):
    with settings_for(request.param) as settings, House(settings=settings) as h:
        h.user("alice@example.org")
        h.project_id = h.project("alice@example.org", "Home")
        h.write = h.key(h.project_id, "read-write")
        yield h


def call(house, method, path, fields=None, **headers):
    body = None if fields is None else json.dumps(fields).encode()
    headers = {"Authorization": f"Bearer {house.write}", "Content-Type": "application/json", **headers}
    status, answer = house.request(method, f"/v1/{path}", headers, body)
    return status, json.loads(answer) if answer else None


def made(house, **fields):
    status, check = call(house, "POST", "checks", fields)
    assert status == 201, check
    return check


class Listener:
    """Reads server-sent events."""

    def __init__(self, house, since=None):
        host = house.url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=20)
        headers = {"Authorization": f"Bearer {house.write}"}
        if since is not None:
            headers["Last-Event-ID"] = str(since)
        self.connection.request("GET", "/v1/events", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.getheader("content-type") == "text/event-stream"
        self.last = None
        # The first block greets and says where we begin.
        self.block()

    def block(self):
        fields = {}
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream ended"
            line = line.rstrip("\n")
            if not line:
                break
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        self.last = int(fields.get("id", self.last or 0))
        return fields

    def next(self):
        while True:
            fields = self.block()
            if "event" in fields:
                return fields["event"], json.loads(fields["data"])

    def close(self):
        self.connection.close()


def test_a_listener_is_told_what_happens_as_it_happens(house):
    listener = Listener(house)
    check = made(house, name="Backup")
    assert listener.next()[0] == "check"
    begun = time.monotonic()
    assert house.request("GET", f"/ping/{check['id']}")[0] == 200
    event, flip = listener.next()
    took = time.monotonic() - begun
    assert (event, flip["check"], flip["from"], flip["to"]) == ("flip", check["id"], "new", "up")
    assert flip["reason"]["code"] == "success"
    # Nobody waits for the next look of a loop: that would be up to a second.
    assert took < 0.9, took
    house.request("GET", f"/ping/{check['id']}/7")
    event, flip = listener.next()
    assert (flip["to"], flip["reason"]["data"]["cause"]) == ("down", {"exit_status": 7})
    listener.close()


def test_who_was_away_is_told_what_was_missed(house):
    listener = Listener(house)
    check = made(house, name="Reports")
    listener.next()
    seen = listener.last
    listener.close()
    for suffix in ("", "/fail", ""):
        house.request("GET", f"/ping/{check['id']}{suffix}")
    gone = made(house, name="short-lived")
    assert call(house, "DELETE", f"checks/{gone['id']}")[0] == 204
    again = Listener(house, since=seen)
    flips = [again.next() for _ in range(3)]
    assert [flip["to"] for _, flip in flips] == ["up", "down", "up"]
    assert [flip["seq"] for _, flip in flips] == [1, 2, 3]
    assert again.next() == ("check-deleted", {"id": gone["id"]})
    again.close()


def test_a_signed_call_by_the_documented_program(house):
    _, key = call(house, "POST", "signing-keys", {"kind": "read-write", "name": "ci"})
    env = {**os.environ, "ALLSWELL_KEY_ID": key["id"], "ALLSWELL_SECRET": key["secret"]}
    program = [sys.executable, str(HERE / "signed_call.py")]
    done = subprocess.run([*program, f"{house.url}/v1/checks?limit=1"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "items" in json.loads(done.stdout)
    body = json.dumps({"name": "signed"})
    done = subprocess.run([*program, f"{house.url}/v1/checks", "POST", body], env=env, capture_output=True, text=True)
    assert json.loads(done.stdout)["name"] == "signed", done.stderr
    env["ALLSWELL_SECRET"] += "x"
    done = subprocess.run([*program, f"{house.url}/v1/checks"], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and json.loads(done.stderr)["status"] == 401


def test_a_signed_call_by_the_documented_shell_lines(house):
    _, key = call(house, "POST", "signing-keys", {"name": "shell"})
    text = (HERE.parent / "docs" / "native-api.md").read_text()
    lines = re.search(r"In a shell:\n\n(.*?)\n\nIn Python", text, re.S).group(1)
    script = "\n".join(line.removeprefix("    ") for line in lines.splitlines())
    host = house.url.removeprefix("http://")
    script = script.replace("ID=… SECRET=ash_… HOST=hc.example.org", f"ID={key['id']} SECRET={key['secret']} HOST={host}")
    script = script.replace("https://", "http://").replace("curl ", "curl -sS ")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert "items" in json.loads(done.stdout), done.stdout + done.stderr


def test_a_repeat_finds_its_answer_after_a_restart(house):
    headers = {"Idempotency-Key": "once-and-for-all"}
    first = call(house, "POST", "keys", {"kind": "read-only"}, **headers)
    assert first[0] == 201
    house.kill()
    house.start()
    assert call(house, "POST", "keys", {"kind": "read-only"}, **headers) == first
    status, problem = call(house, "POST", "keys", {"kind": "ping"}, **headers)
    assert (status, problem["field"]) == (422, "Idempotency-Key")


def test_the_server_ends_at_once_although_somebody_listens(house):
    listener = Listener(house)
    begun = time.monotonic()
    house.stop()
    took = time.monotonic() - begun
    listener.close()
    house.start()
    assert took < 10, took


def test_a_check_made_by_its_first_ping_is_told_before_its_flip(house):
    ping_key = house.key(house.project_id, "ping")
    listener = Listener(house)
    assert house.request("GET", f"/ping/{ping_key}/nightly-dump?create=1")[0] == 201
    event, check = listener.next()
    assert (event, check["slug"]) == ("check", "nightly-dump")
    event, flip = listener.next()
    assert (event, flip["check"], flip["to"]) == ("flip", check["id"], "up")
    listener.close()


def test_the_operator_opens_a_project_whose_signing_key_has_ended(house):
    project = house.project("alice@example.org", "Locked")
    require = ("project", "require-hmac", "--project", project)
    refused = house.run(*require, "on")
    assert refused.returncode != 0 and "signing key" in refused.stderr
    key = house.key(project, "read-write")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(method, path, fields=None):
        body = None if fields is None else json.dumps(fields).encode()
        return house.request(method, f"/v1/{path}", headers, body)[0]

    assert ask("POST", "signing-keys", {"kind": "read-write"}) == 201
    assert house.cli_json(*require, "on")["require_hmac"] is True
    assert ask("GET", "checks") == 401
    assert house.cli_json(*require, "off")["require_hmac"] is False
    assert ask("GET", "checks") == 200


def test_a_stream_ends_with_its_key(house):
    made_key = house.cli_json("api-key", "create", "--project", house.project_id, "--scope", "read-only")
    host = house.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=25)
    connection.request("GET", "/v1/events", headers={"X-Api-Key": made_key["key"]})
    stream = connection.getresponse()
    assert stream.status == 200
    house.cli("api-key", "revoke", "--project", house.project_id, made_key["id"])
    # Ends by itself: the time-out of the connection is the bound.
    assert b"still here" not in stream.read()
    connection.close()
