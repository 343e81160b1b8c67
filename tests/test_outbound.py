"""What the server may call: every vector of `tests/outbound/vectors.json` through the real binary.

Each run has a network namespace of its own in which every address of the set is at home, so nothing leaves the machine and
who was really reached tells allow from deny. One class runs with every proxy variable of the environment set to a trap.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BINARY = os.environ.get("TEST_BINARY", str(HERE.parent / "target/debug/allswell"))
# Who may not make a namespace alone may make one with users of its own.
NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]


@pytest.mark.parametrize(
    "arguments", [["--class", "webhook"], ["--class", "probe", "--trap"], ["--deliveries", "--trap"]], ids=lambda it: it[-2] + it[-1]
)
def test_every_vector_holds_through_the_binary(arguments):
    command = [*NAMESPACE, sys.executable, str(HERE / "outbound" / "run.py"), BINARY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems" in done.stdout and not done.stdout.startswith("0 runs"), done.stdout
