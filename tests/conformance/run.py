#!/usr/bin/env python3
"""Run the Healthchecks conformance suite against a server of our own making.

    target/venv/bin/python tests/conformance/run.py [--database postgres] [-n 4] [pytest arguments and test files...]

Starts the binary on a fresh data directory and a free loopback port, seeds it by its command line as the
suite's README asks, runs pytest, ends the server and looks at how it ended. The exit status is pytest's; it
is 1 if the tests passed but the server did not end well, or if a test was skipped.

Test files are named as in suite/shared/ (`test_ping.py`, or `test_ping.py::test_name`). This file needs the
standard library only; the Python that runs it must have pytest, pytest-xdist and requests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUITE = HERE / "suite"
sys.path.insert(0, str(HERE.parent / "lib"))

from house import House, free_port  # noqa: E402
from postgres import settings_for  # noqa: E402

# The whole of suite/shared/, so that a new file there is not forgotten here.
FILES = sorted(path.name for path in (SUITE / "shared").glob("test_*.py"))
# More than two minutes of waiting, and next to no work: runs beside the others, on the same server.
SLOW = "test_slow.py"
# The server's own metrics key, known to the server and to the tests.
METRICS_KEY = "conformance-metrics-key"


# `conf-hook` as the suite's README has it: every placeholder in every place.
HOOK_DOWN_QUERY = (
    "name=$NAME&status=$STATUS&tags=$TAGS&tag1=$TAG1&slug=$SLUG&exit=$EXITSTATUS&now=$NOW&body=$BODY&tag3=$TAG3"
)
HOOK_DOWN_BODY = "\n".join(
    [
        "code=$CODE",
        "status=$STATUS",
        "name=$NAME",
        "name_json=$NAME_JSON",
        "slug=$SLUG",
        "tags=$TAGS",
        "tag1=$TAG1",
        "tag2=$TAG2",
        "tag3=$TAG3",
        "exit=$EXITSTATUS",
        "now=$NOW",
        "json=$JSON",
        "body_json=$BODY_JSON",
        "unknown=$NOPE $$STATUS",
        "body=$BODY",
    ]
)


def hook(house: House, project: str, port: int) -> None:
    """The webhook channel of the suite's README, whose receiver listens on `port`."""
    config = {
        "down": {
            "method": "POST",
            "url": f"http://127.0.0.1:{port}/down/$CODE?{HOOK_DOWN_QUERY}",
            "headers": {"X-Name": "$NAME", "X-Status": "$STATUS $TAG1", "Content-Type": "text/x-conf"},
            "body": HOOK_DOWN_BODY,
        },
        "up": {
            "method": "GET",
            "url": f"http://127.0.0.1:{port}/up/$CODE?status=$STATUS",
            "body": "must not be sent",
        },
    }
    path = house.dir / "conf-hook.json"
    path.write_text(json.dumps(config))
    house.cli("channel", "create", "webhook", "--project", project, "--name", "conf-hook", "--from", str(path))


def seed(house: House) -> dict[str, str]:
    """What the suite's README asks the server to have, as the variables it reads."""
    house.user("alice@example.org")
    mine = house.project("alice@example.org", "Conformance")
    for name in ("conf-a", "conf-b", "conf-dup", "conf-dup"):
        house.channel(mine, name)
    hook_port = free_port()
    hook(house, mine, hook_port)

    # Another owner's project, for what one must not see.
    house.user("charlie@example.org")
    other = house.project("charlie@example.org", "Other")
    house.channel(other, "conf-other")

    # An owner who may not add a check.
    house.user("full@example.org", "--check-limit", "0")
    full = house.project("full@example.org", "Full")

    return {
        "BASE_URL": house.url,
        "PING_BASE": house.url + "/ping",
        "PROJECT_CODE": mine,
        "API_KEY": house.key(mine, "read-write"),
        "API_KEY_RO": house.key(mine, "read-only"),
        "PING_KEY": house.key(mine, "ping"),
        "API_KEY_2": house.key(other, "read-write"),
        "PING_KEY_2": house.key(other, "ping"),
        "API_KEY_FULL": house.key(full, "read-write"),
        "PING_KEY_FULL": house.key(full, "ping"),
        "METRICS_KEY": METRICS_KEY,
        "HOOK_PORT": str(hook_port),
        "HC_LEVEL": "4.4",
    }


def split(args: list[str]) -> tuple[list[str], list[str]]:
    """Test files and pytest's own arguments. Without files: all of FILES."""
    files = [a for a in args if a.startswith("test_")]
    rest = [a for a in args if not a.startswith("test_")]
    return files or FILES, rest


def without_workers(args: list[str]) -> list[str]:
    """The arguments without `-n N`: the slow tests share one story, which one process tells once."""
    kept, skip = [], False
    for arg in args:
        if not skip and arg != "-n":
            kept.append(arg)
        skip = arg == "-n"
    return kept


def skipped(report: Path) -> list[str]:
    """Names of the skipped tests in a JUnit report. A skipped test has shown nothing."""
    cases = xml.parse(report).getroot().iter("testcase")
    return [case.get("name", "?") for case in cases if case.find("skipped") is not None]


def begin(files: list[str], args: list[str], report: Path, env: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", "-q", "-rs", "-p", "no:cacheprovider", "--timeout", "900", *args]
    return subprocess.Popen(command + [f"shared/{f}" for f in files], cwd=SUITE, env=env, stdin=subprocess.DEVNULL)


def main(args: list[str]) -> int:
    database = "sqlite"
    if args[:1] == ["--database"] and args[1:2] in (["sqlite"], ["postgres"]):
        database, args = args[1], args[2:]
    files, rest = split(args)
    if database == "postgres" and not any(a.startswith("test_") for a in args):
        # What takes minutes of waiting is told once, on the other database.
        files = [f for f in files if f != SLOW]
    with settings_for(database) as settings:
        return run(files, rest, settings)


def run(files: list[str], rest: list[str], settings: dict[str, str]) -> int:
    slow = [f for f in files if f.startswith(SLOW)]
    quick = [f for f in files if f not in slow]
    # The receiver of the webhook tests is on this machine and speaks http.
    reach = {"OUTBOUND_AUDIENCE": "us", "OUTBOUND_HTTPS_ONLY": "false"}
    with House(settings={"METRICS_KEY": METRICS_KEY, **reach, **settings}) as house:
        env = {**house.env(), **seed(house)}
        runs = {}
        if slow:
            report = house.dir / "slow.xml"
            runs[report] = begin(slow, without_workers(rest), report, env)
        if quick:
            report = house.dir / "quick.xml"
            runs[report] = begin(quick, rest, report, env)
        status = max(run.wait() for run in runs.values())
        if status != 0:
            print(house.tail(80), file=sys.stderr)
            return status
        left_out = [name for report in runs for name in skipped(report)]
        if left_out:
            print(f"{len(left_out)} skipped, which counts as failed here: {', '.join(left_out)}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    # A server that did not end well is an AssertionError from House, and so a status of 1.
    os.environ.pop("PYTEST_ADDOPTS", None)
    sys.exit(main(sys.argv[1:]))
