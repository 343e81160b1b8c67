"""An answered ping is on the disk: shown by a trace of the system calls of the real binary (DECISIONS 22).

kill -9 proves nothing here, since the system keeps what a dead process wrote. So the server runs under strace, one
ping is sent, and between its arrival and its answer there must be a write to the write-ahead log and then a flush of
that very file that succeeded. Run by `make garbage`.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House  # noqa: E402

CALLS = "fsync,fdatasync,write,pwrite64,writev,sendto,sendmsg,recvfrom,read"


@pytest.fixture
def traced_house(tmp_path):
    trace = tmp_path / "trace"
    # -D: the server stays our child, and is ended by its own process id. -y names the file of each descriptor.
    strace = ["strace", "-D", "-f", "-q", "-y", "-s", "300", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(trace)]
    with House(wrapper=strace) as h:
        h.trace = trace
        yield h


def lines_of_one_ping(house: House, check: str, body: str) -> list[str]:
    """The trace from the arrival of a ping to its answer. strace writes a line when a call has returned."""
    before = len(house.trace.read_text(errors="replace").splitlines())
    assert house.get(f"/ping/{check}?{body}") == (200, b"OK")
    end = time.monotonic() + 10
    while True:
        lines = house.trace.read_text(errors="replace").splitlines()[before:]
        came = [i for i, line in enumerate(lines) if f"GET /ping/{check}" in line]
        went = [i for i, line in enumerate(lines) if "HTTP/1.1 200 OK" in line]
        if came and went:
            assert len(came) == len(went) == 1 and came < went, lines
            return lines[came[0] : went[0] + 1]
        assert time.monotonic() < end, f"the trace does not show the ping\n{lines}"
        time.sleep(0.05)


def test_a_ping_is_flushed_to_the_disk_before_it_is_answered(traced_house):
    traced_house.user("alice@example.org")
    project = traced_house.project("alice@example.org", "Home")
    check = traced_house.cli_json("check", "create", "--project", project, "--name", "Backup")["id"]
    for turn in ("first", "second"):
        lines = lines_of_one_ping(traced_house, check, turn)
        writes = [i for i, line in enumerate(lines) if re.search(r"pwrite64\(\d+<[^>]*allswell\.db-wal>", line)]
        assert writes, lines
        assert flushed_at(lines) > writes[-1], "nothing was written to the log after its flush\n" + "\n".join(lines)
        print("\n".join(shortened(lines)))


def test_the_log_is_flushed_without_the_times_of_its_file(traced_house):
    """fdatasync and not fsync, which costs a journal's commit more: `.cargo/config.toml` says how that comes about."""
    calls = re.findall(r"(f\w*sync)\(\d+<[^>]*allswell\.db-wal>", traced_house.trace.read_text(errors="replace"))
    assert set(calls) == {"fdatasync"}, calls


def flushed_at(lines: list[str]) -> int:
    """Where the last flush of the log ended well. A call that another thread interrupts is told in two lines."""
    flushed, pending = -1, set()
    for i, line in enumerate(lines):
        thread = line.split()[0]
        if re.search(r"f(data)?sync\(\d+<[^>]*allswell\.db-wal>", line):
            if "unfinished" in line:
                pending.add(thread)
            elif line.endswith("= 0"):
                flushed = i
        elif thread in pending and re.search(r"<\.\.\. f(data)?sync resumed>.*= 0$", line):
            pending.discard(thread)
            flushed = i
    assert flushed >= 0, "the log was not flushed\n" + "\n".join(lines)
    return flushed


def shortened(lines: list[str]) -> list[str]:
    """For the eye: each line's beginning and its result."""
    return [f"{line[:70]} … {line.rpartition(' = ')[2][:12]}" for line in lines]
