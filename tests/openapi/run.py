#!/usr/bin/env python3
"""Try what /api/v3/openapi.json and /v1/openapi.json say against the real server, with thousands of requests made up from them.

    target/venv-clients/bin/python tests/openapi/run.py [--database postgres] [--fresh] [schemathesis arguments...]

Starts the binary on a fresh data directory with a project, channels and a few checks, and runs schemathesis on it:
no server error, no answer that the document does not describe, no wrong request that is accepted, no route open
without its key. Bounded in time. The seed is always the same, so that a change is not blamed for what it did not do;
with `--fresh` it is a new one, printed and good for `--seed`.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

from house import House  # noqa: E402
from postgres import settings_for  # noqa: E402

METRICS_KEY = "openapi-metrics-key"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    # A schedule, a zone or a channel may fit the schema and still name nothing, so what is accepted is not tried
    # the other way round (positive_data_acceptance); the conformance suite does that.
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
]
SECS = 45
DOCUMENTS = ("/api/v3/openapi.json", "/v1/openapi.json")
SEED = 20260801


def main(args: list[str]) -> int:
    database = "sqlite"
    if args[:1] == ["--database"] and args[1:2] in (["sqlite"], ["postgres"]):
        database, args = args[1], args[2:]
    with settings_for(database) as settings:
        return run(args, settings)


def run(args: list[str], settings: dict[str, str]) -> int:
    fresh = "--fresh" in args
    args = [arg for arg in args if arg != "--fresh"]
    seed = [] if "--seed" in args else ["--seed", str(secrets.randbelow(2**32) if fresh else SEED)]
    with House(settings={"METRICS_KEY": METRICS_KEY, "LIMITS_WRONG_KEYS": "1000000", **settings}) as house:
        house.user("alice@example.org", "--check-limit", "100000")
        project = house.project("alice@example.org", "Home")
        for name in ("mail", "pager"):
            house.channel(project, name)
        key = house.key(project, "read-write")
        for name in ("Backup", "Reports"):
            check = house.cli_json("check", "create", "--project", project, "--name", name, "--tags", "prod")
            house.request("POST", f"/ping/{check['id']}/start", body=b"begins")
            house.request("POST", f"/ping/{check['id']}", body=b"done")
        return max(schemathesis(house, document, key, seed, args) for document in DOCUMENTS)


def schemathesis(house: House, document: str, key: str, seed: list[str], args: list[str]) -> int:
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "run", f"{house.url}{document}"]
    command += ["-H", f"X-Api-Key: {key}", "-H", f"X-Metrics-Key: {METRICS_KEY}"]
    # It never ends.
    command += ["--exclude-path", "/v1/events"]
    command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing,stateful"]
    command += ["--max-time", str(SECS), "--workers", "1", "--request-timeout", "10", "--no-color", *seed, *args]
    print("schemathesis", *[arg for arg in command[1:] if key not in arg], flush=True)
    env = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(house.dir / "hypothesis")}
    status = subprocess.run(command, cwd=house.dir, env=env, stdin=subprocess.DEVNULL, timeout=SECS + 600).returncode
    if status != 0:
        print(house.tail(), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
