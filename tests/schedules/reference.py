"""What the others say: cronsim and oncalendar, used as Healthchecks uses them, and systemd."""

import importlib.metadata
import importlib.resources
import os
import re
import shutil
import signal
import subprocess
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from oncalendar import OnCalendar, OnCalendarError

COUNT = 3
# cronsim does not come back from some cases; everything else takes milliseconds.
LIMIT_SECS = 10


class TookTooLong(Exception):
    pass


def _too_long(*_):
    raise TookTooLong


def edition():
    text = (importlib.resources.files("tzdata") / "zoneinfo" / "tzdata.zi").read_text()
    return text.splitlines()[0].removeprefix("# version ")


def versions():
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ["cronsim", "oncalendar"])


def stamp(instant):
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def packages(case):
    """Acceptance from the year 2000 in UTC, then the next times in the zone of the check."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECS)
    try:
        return _packages(case)
    except TookTooLong:
        return {"error": "took too long", "kind": "too long"}
    except Exception as error:  # neither of the packages' own errors: a crash, to be told apart
        return {"error": repr(error), "kind": "crash"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _packages(case):
    try:
        if case.is_cron():
            next(CronSim(case.expression, datetime(2000, 1, 1)))
            times = CronSim(case.expression, case.after.astimezone(ZoneInfo(case.zone)))
        else:
            next(OnCalendar(case.expression, datetime(2000, 1, 1, tzinfo=UTC)))
            times = OnCalendar(case.expression, case.after.astimezone(ZoneInfo(case.zone)))
    except (CronSimError, OnCalendarError, StopIteration) as error:
        return {"error": repr(error)}
    found = []
    for _ in range(COUNT):
        try:
            found.append(stamp(next(times)))
        except StopIteration:
            break
    return {"next": found}


def systemd_installed():
    return shutil.which("systemd-analyze") is not None


def systemd(case):
    zones = str(importlib.resources.files("tzdata") / "zoneinfo")
    base = case.after.strftime("%Y-%m-%d %H:%M:%S UTC")
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"--iterations={COUNT}", f"--base-time={base}", case.expression],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TZ": "UTC", "TZDIR": zones, "LC_ALL": "C"},
    )
    if done.returncode != 0:
        return {"error": done.stderr.strip()}
    found = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+) (\S+) UTC", done.stdout)
    return {"next": [f"{day}T{time}Z" for day, time in found]}
