"""A clock that a test sets while the server runs: Debian's `faketime`, told by a file that it reads anew each time.

Only the wall clock is moved. The clock that timers run by goes on as it does when somebody sets a machine's date.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path


def library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing: `make setup` installs Debian's package faketime"
    return str(found[0])


class Clock:
    """The wall clock of every process that is given `env`. Use as a context manager."""

    def __init__(self):
        handle, name = tempfile.mkstemp(prefix="allswell-clock-")
        os.close(handle)
        self.file = Path(name)
        self.ahead_secs = 0.0
        self.set(0)

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *_) -> None:
        self.file.unlink(missing_ok=True)

    @property
    def env(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_secs: float) -> None:
        """So far ahead of the true time, or behind it; at once."""
        self.ahead_secs = ahead_secs
        # A reader in between must not find half a number.
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead_secs:+.3f}\n")
        new.replace(self.file)

    def now_micros(self) -> int:
        """What it shows, as instants are stored."""
        return int((time.time() + self.ahead_secs) * 1e6)

    def step(self, secs: float) -> None:
        """Moves it, forward or back."""
        self.set(self.ahead_secs + secs)
