"""Webhook channels, through the real binary to a receiver that records every byte: placeholder by placeholder of
Healthchecks' section on webhooks, methods, signatures, secrets, tests, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
import socket
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402
from postgres import settings_for  # noqa: E402

WAIT_SECS = 20
# Everything a name can do: another placeholder, JSON, a URL's end, letters beyond Latin-1 and beyond 16 bits.
NAME = '$STATUS "q" \\ é☃😀 /?&#%'
BODY = b'line "one"\n$NAME \xff\n'


class Receiver:
    """Records requests as they came. A path with `/status/NNN/` is answered so."""

    def __init__(self):
        self.got: list[SimpleNamespace] = []
        self.changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("content-length") or 0)
                line = self.raw_requestline.decode("latin-1").split(" ")
                request = SimpleNamespace(
                    method=line[0],
                    target=line[1],
                    headers={name.lower(): value for name, value in self.headers.items()},
                    names=[name.lower() for name in self.headers.keys()],
                    body=self.rfile.read(length),
                    at=time.time(),
                )
                found = re.search(r"/status/(\d+)/", request.target)
                self.send_response(int(found.group(1)) if found else 200)
                self.end_headers()
                with receiver.changed:
                    receiver.got.append(request)
                    receiver.changed.notify_all()

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait(self, start: str, count: int = 1) -> list[SimpleNamespace]:
        """Requests whose target begins so, once there are `count`."""
        mine = lambda: [r for r in self.got if r.target.startswith(start)]  # noqa: E731
        with self.changed:
            assert self.changed.wait_for(lambda: len(mine()) >= count, WAIT_SECS), f"{start}: {mine()}"
            return mine()


@pytest.fixture(scope="module")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(request):
    reach = {"OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false"}
    with settings_for(request.param) as settings, House(settings={**reach, **settings}) as house:
        house.user("alice@example.org")
        house.project_id = house.project("alice@example.org", "Home")
        house.api_key = house.key(house.project_id, "read-write")
        yield house


COUNT = itertools.count(1)


def unique(_house) -> str:
    """The beginning of a path that no other test's begins with."""
    return f"t{next(COUNT)}-"


def api(house, method: str, path: str, body=None) -> tuple[int, dict]:
    headers = {"Authorization": f"Bearer {house.api_key}", "Content-Type": "application/json"}
    status, text = house.request(method, path, headers, None if body is None else json.dumps(body).encode())
    return status, json.loads(text) if text else {}


def channel(house, **fields) -> dict:
    status, made = api(house, "POST", "/v1/channels", {"kind": "webhook", "name": "hook", **fields})
    assert status == 201, made
    return made


def check(house, made: dict, **fields) -> dict:
    body = {"name": NAME, "slug": "db-backup", "tags": "prod  db db", "channels": made["id"], **fields}
    status, text = house.request(
        "POST", "/api/v3/checks/", {"X-Api-Key": house.api_key}, json.dumps(body).encode()
    )
    assert status == 201, text
    return json.loads(text)


def ping(house, made: dict, suffix: str = "", body: bytes | None = None) -> None:
    assert house.request("POST", f"/ping/{made['uuid']}{suffix}", None, body)[0] == 200


def shown(house, made: dict) -> dict:
    return json.loads(house.get(f"/api/v3/checks/{made['uuid']}", {"X-Api-Key": house.api_key})[1])


def standard_webhooks_verify(secret: str, request) -> bool:
    """Written after the standard's text and knowing nothing of ours."""
    key = base64.b64decode(secret[len("whsec_") :])
    content = b".".join(
        [request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), request.body]
    )
    good = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(request.headers["webhook-timestamp"])) < 60
    return fresh and f"v1,{good}" in request.headers["webhook-signature"].split(" ")


def guardian_verify(secret: str, request, prefix: str, lines: int) -> bool:
    path, _, query = request.target.partition("?")
    get = lambda name: request.headers[f"{prefix}-{name}".lower()]  # noqa: E731
    parts = [request.method, path, get("Timestamp"), get("Nonce"), query, hashlib.sha256(request.body).hexdigest()]
    if lines == 7:
        parts.append(hashlib.sha256(b"").hexdigest())
    good = hmac.new(secret.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(good, get("Signature"))


def quoted(text: str) -> str:
    return urllib.parse.quote(text)


def latin1(text: str) -> str:
    return text.encode("latin-1", "xmlcharrefreplace").decode("latin-1")


# Placeholder by placeholder


def values(house, made: dict) -> dict[str, str]:
    """What each placeholder must stand for after the failing ping, worked out from what the API says."""
    flips = json.loads(house.get(f"/api/v3/checks/{made['uuid']}/flips/", {"X-Api-Key": house.api_key})[1])["flips"]
    text = BODY.decode(errors="replace")
    return {
        "$CODE": made["uuid"],
        "$STATUS": "down",
        "$NOW": flips[0]["timestamp"],
        "$NAME": NAME,
        "$NAME_JSON": json.dumps(NAME),
        "$SLUG": "db-backup",
        "$TAGS": "prod  db db",
        "$TAG1": "prod",
        "$TAG2": "db",
        "$TAG3": "db",
        "$TAG4": "$TAG4",
        "$TAG10": "prod0",
        "$BODY": text,
        "$BODY_JSON": json.dumps(text),
        "$EXITSTATUS": "7",
        "$NOPE $$STATUS $": "$NOPE $down $",
        "${json:TAGS}": json.dumps(["prod", "db", "db"]),
        "${json:EXITSTATUS}": "7",
        "${other:X}": "${other:X}",
    }


# These hold nothing that has to be encoded, or are no placeholders in a URL.
PLAIN_IN_URL = {"$CODE", "$STATUS", "$SLUG", "$EXITSTATUS", "$BODY", "$BODY_JSON", "$TAG4"}
NONE_OUTSIDE_BODY = {"$BODY", "$BODY_JSON"}
PLACEHOLDERS = [
    "$CODE", "$STATUS", "$NOW", "$NAME", "$NAME_JSON", "$SLUG", "$TAGS", "$TAG1", "$TAG2", "$TAG3", "$TAG4", "$TAG10",
    "$BODY", "$BODY_JSON", "$EXITSTATUS", "$NOPE $$STATUS $", "${json:TAGS}", "${json:EXITSTATUS}", "${other:X}",
]  # fmt: skip


@pytest.fixture(scope="module")
def told(house, receiver):
    """One call with each placeholder in each place, and what it should be."""
    path = f"/{unique(house)}"
    query = "&".join(f"p{n}={p}" for n, p in enumerate(IN_URL))
    made = channel(
        house,
        down={
            "method": "POST",
            "url": receiver.url(f"{path}/$CODE/$SLUG?{query}"),
            "headers": {f"X-P{n}": p for n, p in enumerate(PLACEHOLDERS)} | {"X-Bare": "é½ ☃"},
            "body": "\x00".join(PLACEHOLDERS) + "\x00$JSON",
        },
    )
    a_check = check(house, made)
    ping(house, a_check, "/7", BODY)
    request = receiver.wait(path)[0]
    return SimpleNamespace(request=request, check=a_check, values=values(house, a_check))


# Spaces, and text that is no placeholder, would have to be encoded by whoever writes the URL.
IN_URL = [p for p in PLACEHOLDERS if " " not in p and "{other" not in p]


@pytest.mark.parametrize("placeholder", IN_URL)
def test_a_placeholder_in_the_url(told, placeholder):
    given = told.request.target.split("?", 1)[1].split("&")[IN_URL.index(placeholder)].split("=", 1)[1]
    value = placeholder if placeholder in NONE_OUTSIDE_BODY else told.values[placeholder]
    assert given == (value if placeholder in PLAIN_IN_URL else quoted(value))


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_a_placeholder_in_a_header(told, placeholder):
    value = placeholder if placeholder in NONE_OUTSIDE_BODY else told.values[placeholder]
    assert told.request.headers[f"x-p{PLACEHOLDERS.index(placeholder)}"] == latin1(value).strip()


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_a_placeholder_in_the_body(told, placeholder):
    parts = told.request.body.decode().split("\x00")
    assert parts[PLACEHOLDERS.index(placeholder)] == told.values[placeholder]


def test_the_check_itself_and_the_path(house, told):
    text = told.request.body.decode().split("\x00")[-1]
    document = json.loads(text)
    assert text == json.dumps(document), "as Python's json writes it: ASCII, with spaces"
    now = shown(house, told.check)
    assert document == now
    assert document["status"] == "down" and document["uuid"] == told.check["uuid"]
    assert told.request.target.startswith("/" + told.request.target.split("/")[1] + f"/{told.check['uuid']}/db-backup?")
    assert told.request.headers["x-bare"] == "é½ &#9731;", "Latin-1 on the wire, the rest as references"


def test_without_a_ping_body_or_exit_status_there_are_stand_ins(house, receiver):
    path = f"/{unique(house)}"
    made = channel(house, down={"url": receiver.url(path), "body": "[$BODY]|$BODY_JSON|$EXITSTATUS"})
    ping(house, check(house, made), "/fail")
    assert receiver.wait(path)[0].body == b'[]|""|-1'


def test_a_name_with_a_line_end_makes_no_header(house, receiver):
    path = f"/{unique(house)}"
    made = channel(house, down={"url": receiver.url(path), "headers": {"X-Name": "$NAME"}, "body": "x"})
    ping(house, check(house, made, name="a\r\nX-Evil: 1"), "/fail")
    request = receiver.wait(path)[0]
    assert "x-evil" not in request.headers
    assert request.headers["x-name"] == "a  X-Evil: 1"


# Methods, up and down


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_each_method_down_and_up(house, receiver, method):
    path = f"/{unique(house)}"
    call = lambda to: {"method": method, "url": receiver.url(f"{path}/{to}"), "body": "$STATUS $NAME"}  # noqa: E731
    made = channel(house, down=call("down"), up=call("up"))
    a_check = check(house, made, name="n")
    ping(house, a_check)
    ping(house, a_check, "/fail")
    receiver.wait(path, 1)
    ping(house, a_check)
    down, up = receiver.wait(path, 2)
    assert (down.method, up.method) == (method, method)
    assert (down.target, up.target) == (f"{path}/down", f"{path}/up")
    sent = (b"", b"") if method == "GET" else (b"down n", b"up n")
    assert (down.body, up.body) == sent
    assert down.headers["webhook-id"] != up.headers["webhook-id"]


def test_a_call_without_a_url_is_none(house, receiver):
    path = f"/{unique(house)}"
    made = channel(house, up={"url": receiver.url(path)})
    a_check = check(house, made)
    ping(house, a_check, "/fail")
    ping(house, a_check)
    (request,) = receiver.wait(path)
    assert json.loads(request.body)["type"] == "check.up"
    assert (made["tells_down"], made["tells_up"]) == (False, True)


def test_what_is_shown_of_a_url_is_what_is_called(house, receiver):
    path = f"/{unique(house)}"
    made = channel(house, down={"url": f"HTTP://0x7f.1:{receiver.port}{path}/$TAG1#$NAME"})
    assert made["down"]["url"] == receiver.url("/***")
    ping(house, check(house, made), "/fail")
    (request,) = receiver.wait(path)
    assert request.target == f"{path}/prod"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


def test_a_url_alone_posts_the_event(house, receiver):
    path = f"/{unique(house)}"
    made = channel(house, down={"url": receiver.url(path)})
    a_check = check(house, made)
    ping(house, a_check, "/3", b"x")
    (request,) = receiver.wait(path)
    event = json.loads(request.body)
    assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
    assert (event["check"], event["name"], event["status"], event["seq"]) == (a_check["uuid"], NAME, "down", 1)
    assert event["id"] == request.headers["webhook-id"]
    assert "missed" not in event


# Who it is from


def test_a_call_is_signed_and_its_id_stays_over_tries(house, receiver):
    path = f"/{unique(house)}/status/500/"
    made = channel(house, down={"url": receiver.url(path)})
    ping(house, check(house, made), "/fail")
    first, second = receiver.wait(path, 2)[:2]
    assert standard_webhooks_verify(made["secret"], first) and standard_webhooks_verify(made["secret"], second)
    assert not standard_webhooks_verify("whsec_" + base64.b64encode(bytes(32)).decode(), first)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["idempotency-key"] == f'"{first.headers["webhook-id"]}"'
    assert [r.headers["x-allswell-attempt"] for r in (first, second)] == ["1", "2"]
    assert first.body == second.body
    beside = hmac.new(made["secret"].encode(), first.body, hashlib.sha256).hexdigest()
    assert first.headers["x-webhook-signature"] == f"sha256={beside}"
    # It must not go on trying into the tests that follow.
    assert api(house, "DELETE", f"/v1/channels/{made['id']}")[0] == 204


@pytest.mark.parametrize(("form", "lines"), [("guardian-v1", 6), ("guardian-v2", 7)])
def test_the_guardian_forms_sign_method_and_url(house, receiver, form, lines):
    path = f"/{unique(house)}"
    made = channel(
        house,
        down={"method": "GET", "url": receiver.url(f"{path}/$TAG1?n=$NAME")},
        signing={"form": form, "secret": "0123456789abcdef é\n", "key_id": "k-1", "header_prefix": "X-My"},
    )
    assert ("signing.secret", "secret_space") in {(w["field"], w["rule"]) for w in made["warnings"]}
    ping(house, check(house, made), "/fail")
    (request,) = receiver.wait(path)
    assert guardian_verify("0123456789abcdef é\n", request, "X-My", lines)
    assert not guardian_verify("0123456789abcdef é\n", request, "X-My", 13 - lines)
    assert request.headers["x-my-key-id"] == "k-1" and len(request.headers["x-my-nonce"]) == 32
    assert "webhook-signature" not in request.headers


def test_a_secret_is_changed_without_a_gap(house, receiver):
    path = f"/{unique(house)}"
    made = channel(house, down={"url": receiver.url(path)})
    status, changed = api(house, "POST", f"/v1/channels/{made['id']}/rotate-secret", {"overlap_hours": 1})
    assert status == 200 and changed["secret"] != made["secret"]
    ping(house, check(house, made), "/fail")
    (request,) = receiver.wait(path)
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    assert standard_webhooks_verify(made["secret"], request) and standard_webhooks_verify(changed["secret"], request)
    last = house.cli_json(
        "channel", "rotate-secret", "--project", house.project_id, made["id"], "--overlap", "0"
    )
    house.cli("channel", "test", "--project", house.project_id, made["id"])
    request = receiver.wait(path, 2)[1]
    assert len(request.headers["webhook-signature"].split(" ")) == 1
    assert standard_webhooks_verify(last["secret"], request)


def test_nothing_is_signed_where_nobody_wants_it(house, receiver):
    path = f"/{unique(house)}"
    made = channel(house, down={"url": receiver.url(path)}, signing={"form": "none"})
    assert "secret" not in made
    ping(house, check(house, made), "/fail")
    (request,) = receiver.wait(path)
    assert not [name for name in request.names if "signature" in name]
    assert request.headers["webhook-id"]


# Named secrets


def test_a_named_secret_is_used_and_never_shown(house, receiver):
    path = f"/{unique(house)}"
    secret = "hunter2/?& é"
    assert api(house, "PUT", "/v1/secrets/token", {"value": secret})[0] == 201
    made = channel(
        house,
        down={
            "url": receiver.url(f"{path}?t=${{secret:token}}"),
            "headers": {"Authorization": "Bearer ${secret:token}"},
            "body": "t=${secret:token}",
        },
    )
    ping(house, check(house, made), "/fail")
    (request,) = receiver.wait(path)
    assert request.target == f"{path}?t={quoted(secret)}"
    assert request.headers["authorization"] == f"Bearer {secret}"
    assert request.body == f"t={secret}".encode()

    status, refused = api(house, "DELETE", "/v1/secrets/token")
    assert (status, refused["errors"][0]["rule"]) == (422, "in_use")
    done = house.run("secret", "delete", "--project", house.project_id, "token")
    assert done.returncode != 0 and done.stderr == f"allswell: name: channel {made['id']} uses it\n", done.stderr
    done = house.run("secret", "delete", "--project", house.project_id, "token", "--json")
    [fault] = json.loads(done.stderr)["errors"]
    assert done.stdout == "" and (fault["field"], fault["rule"]) == ("name", "in_use"), done.stderr
    for text in (
        json.dumps(api(house, "GET", "/v1/secrets")[1]),
        json.dumps(api(house, "GET", f"/v1/channels/{made['id']}")[1]),
        house.cli("secret", "list", "--project", house.project_id),
        house.cli("channel", "list", "--project", house.project_id),
        house.log.read_text(),
    ):
        assert "hunter2" not in text
    assert api(house, "DELETE", f"/v1/channels/{made['id']}")[0] == 204
    assert api(house, "DELETE", "/v1/secrets/token")[0] == 204


# Making, changing, testing, deleting


def test_the_command_line_makes_edits_tests_and_deletes(house, receiver):
    path = f"/{unique(house)}"
    project = ["--project", house.project_id]
    made = house.cli_json(
        "channel", "create", "webhook", *project, "--name", "cli",
        "--down-url", receiver.url(f"{path}/down?token=hunter2"), "--up-url", receiver.url(f"{path}/up"),
        "--header", "X-Team: $TAG1 ops", "--header", "X-Token: hunter2",
        "--method", "PUT", "--up-method", "GET", "--down-body", "down: $NAME",
    )  # fmt: skip
    assert "hunter2" not in json.dumps(made)
    assert made["down"]["url"] == f"http://127.0.0.1:{receiver.port}/***"
    tested = house.cli_json("channel", "test", *project, made["id"])
    assert (tested["state"], tested["attempts"]) == ("delivered", 1)
    (request,) = receiver.wait(f"{path}/down")
    assert request.method == "PUT" and request.body.startswith(b"down: TEST")
    assert request.headers["x-token"] == "hunter2"
    house.cli("channel", "test", *project, made["id"], "--status", "up")
    assert receiver.wait(f"{path}/up")[0].method == "GET"

    house.cli("channel", "edit", *project, made["id"], "--name", "other", "--remove-header", "X-Token", "--no-up",
              "--down-body", "new")  # fmt: skip
    after = house.cli_json("channel", "show", *project, made["id"])
    assert (after["name"], after["up"], after["down"]["method"]) == ("other", None, "PUT")
    assert list(after["down"]["headers"]) == ["X-Team"]
    house.cli("channel", "test", *project, made["id"])
    request = receiver.wait(f"{path}/down", 2)[1]
    assert request.body == b"new" and "x-token" not in request.headers and "token=hunter2" in request.target
    assert house.run("channel", "test", *project, made["id"], "--status", "up").returncode != 0

    house.cli("channel", "delete", *project, made["id"])
    assert made["id"] not in house.cli("channel", "list", *project)
    assert house.run("channel", "delete", *project, made["id"]).returncode != 0


def test_a_test_is_tried_once_and_its_result_shown(house, receiver):
    path = f"/{unique(house)}/status/503/"
    made = channel(house, down={"url": receiver.url(path)})
    status, test = api(house, "POST", f"/v1/channels/{made['id']}/test")
    assert status == 202
    end = time.monotonic() + WAIT_SECS
    while time.monotonic() < end:
        delivery = api(house, "GET", f"/v1/deliveries/{test['delivery']}")[1]
        if delivery.get("finished_at"):
            break
    assert delivery["attempts"] == 1 or len(delivery["attempts"]) == 1, delivery
    assert delivery["state"] == "exhausted", delivery
    done = house.run("channel", "test", "--project", house.project_id, made["id"])
    assert done.returncode != 0 and "503" in done.stdout, done.stdout + done.stderr
    assert len(receiver.wait(path, 2)) == 2


def test_the_command_line_says_why_a_test_did_not_arrive(house):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = channel(house, down={"url": f"http://127.0.0.1:{port}/"})
    done = house.run("channel", "test", "--project", house.project_id, made["id"])
    assert done.returncode != 0 and "connect" in done.stdout and "refused" in done.stdout, done.stdout
    done = house.run("channel", "test", "--project", house.project_id, made["id"], "--json")
    (attempt,) = json.loads(done.stdout)["tries"]
    assert attempt["outcome"] == "connect" and "refused" in attempt["detail"]["detail"], attempt


def test_what_will_break_is_said_when_it_is_saved(house, receiver):
    made = channel(
        house,
        down={
            "url": receiver.url("/never"),
            "headers": {"Content-Type": "application/json"},
            "body": '{"text": "$NAME"}',
        },
        up={"method": "GET", "url": receiver.url("/never")},
    )
    rules = {(w["field"], w["rule"]) for w in made["warnings"]}
    assert rules == {("down", "broken_json"), ("up", "url_not_signed")}


REFUSED = [
    ({"kind": "pigeon"}, "kind", "kind"),
    ({"name": ""}, "name", "required"),
    ({"name": "a\nb"}, "name", "characters"),
    ({}, "down.url", "required"),
    ({"down": {"url": "ftp://example.com/"}}, "down.url", "scheme"),
    ({"down": {"url": "http://user:pw@example.com/"}}, "down.url", "credentials"),
    ({"down": {"url": "nonsense"}}, "down.url", "syntax"),
    ({"down": {"url": "http://169.254.169.254/latest"}}, "down.url", "metadata"),
    ({"down": {"url": "http://localhost/"}}, "down.url", "name"),
    ({"down": {"url": "http://example.com:25/"}}, "down.url", "port"),
    ({"down": {"url": "http://exa mple.com/"}}, "down.url", "characters"),
    ({"down": {"url": "http://$NAME.example.com/"}}, "down.url", "placeholder"),
    ({"down": {"url": "http://example.com/${secret:none}"}}, "down.url", "secret"),
    ({"down": {"url": "http://example.com/${json:NOPE}"}}, "down.url", "placeholder"),
    ({"down": {"url": "http://example.com/", "method": "DELETE"}}, "down.method", "method"),
    ({"down": {"url": "http://example.com/", "headers": {"Host": "x"}}}, "down.headers.Host", "header_reserved"),
    ({"down": {"url": "http://example.com/", "headers": {"webhook-id": "x"}}}, "down.headers.webhook-id", "header_reserved"),
    ({"down": {"url": "http://example.com/", "headers": {"X Y": "x"}}}, "down.headers.X Y", "header_name"),
    ({"down": {"url": "http://example.com/", "headers": {"X-A": "a\r\nb"}}}, "down.headers.X-A", "characters"),
    ({"down": {"url": "http://example.com/", "body": "${secret:"}}, "down.body", "placeholder"),
    ({"down": {"url": "http://example.com/"}, "signing": {"form": "md5"}}, "signing.form", "form"),
    ({"down": {"url": "http://example.com/"}, "signing": {"secret": "short"}}, "signing.secret", "secret"),
    ({"down": {"url": "http://example.com/"}, "more": 1}, "more", "unknown"),
]


@pytest.mark.parametrize(("fields", "field", "rule"), REFUSED)
def test_a_refusal_names_the_field_and_the_rule_and_leaves_nothing(house, fields, field, rule):
    before = api(house, "GET", "/v1/channels")[1]
    status, refused = api(house, "POST", "/v1/channels", {"kind": "webhook", "name": "hook", **fields})
    assert status == 422
    assert (field, rule) in {(e["field"], e["rule"]) for e in refused["errors"]}, refused
    assert api(house, "GET", "/v1/channels")[1] == before


@pytest.mark.parametrize(
    ("name", "value", "field", "rule"),
    [
        ("a b", "x", "name", "secret_name"), ("x" * 65, "x", "name", "secret_name"), ("empty", "", "value", "required"),
        ("long", "x" * 4097, "value", "length"), ("number", 5, "value", "type"), ("zero", "a\0b", "value", "characters"),
    ],
)  # fmt: skip
def test_a_refused_secret_leaves_nothing(house, name, value, field, rule):
    before = api(house, "GET", "/v1/secrets")[1]
    status, refused = api(house, "PUT", f"/v1/secrets/{quoted(name)}", {"value": value})
    assert (status, refused["field"]) == (422, field)
    assert [(e["field"], e["rule"]) for e in refused["errors"]] == [(field, rule)]
    assert api(house, "GET", "/v1/secrets")[1] == before


def test_refusals_of_a_test_and_of_a_new_secret_name_the_field_and_the_rule(house, receiver):
    made = channel(house, down={"url": receiver.url("/never")})
    for path, body, field, rule in [
        ("test", {"status": "blue"}, "status", "word"),
        ("test", {"status": "up"}, "status", "status"),
        ("test", {"more": 1}, "more", "unknown"),
        ("rotate-secret", {"overlap_hours": 169}, "overlap_hours", "range"),
        ("rotate-secret", {"secret": "short"}, "secret", "secret"),
    ]:
        status, refused = api(house, "POST", f"/v1/channels/{made['id']}/{path}", body)
        assert (status, [(e["field"], e["rule"]) for e in refused["errors"]]) == (422, [(field, rule)]), refused
    shown = api(house, "GET", f"/v1/channels/{made['id']}")[1]
    assert shown["signing"] == made["signing"]


def test_the_command_line_names_the_setting_that_would_allow_a_target(house):
    house.settings["OUTBOUND_AUDIENCE"] = "strangers"
    try:
        done = house.run("channel", "create", "webhook", "--project", house.project_id, "--name", "x",
                         "--down-url", "http://10.1.2.3/")  # fmt: skip
    finally:
        house.settings["OUTBOUND_AUDIENCE"] = "us"
    assert done.returncode != 0
    assert "down.url" in done.stderr and "outbound" in done.stderr and "10.1.2.3" in done.stderr, done.stderr


def test_an_operators_secret_signs_the_header_of_the_operators_choice(receiver):
    settings = {"OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false"}
    seed = {"WEBHOOK_SIGNATURE_HEADER": "X-Seed-Signature", "WEBHOOK_SECRET": "correct-horse-battery-staple"}
    with House(server_env=seed, settings=settings) as house:
        house.user("alice@example.org")
        house.project_id = house.project("alice@example.org", "Home")
        house.api_key = house.key(house.project_id, "read-write")
        made = channel(house, down={"url": receiver.url("/seed")})
        status, refused = api(
            house, "POST", "/v1/channels",
            {"kind": "webhook", "name": "x", "down": {"url": receiver.url("/x"), "headers": {"X-Seed-Signature": "1"}}},
        )  # fmt: skip
        assert (status, refused["errors"][0]["rule"]) == (422, "header_reserved")
        ping(house, check(house, made), "/fail")
        (request,) = receiver.wait("/seed")
    good = hmac.new(seed["WEBHOOK_SECRET"].encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-seed-signature"] == f"sha256={good}"
    assert standard_webhooks_verify(made["secret"], request)
    assert "x-webhook-signature" not in request.headers
