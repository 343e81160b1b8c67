"""The differences that are known, each with the function that recognises it.

A difference in times is explained only if a slow definition of the rules (`oracle`) agrees with ours, so that
a kind can never hide a fault of our own. The table in the documentation of `schedule` lists the same kinds.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import cases
import oracle


def explain(name, case, ours, other):
    """The kind of this difference, or None if nothing explains it."""
    if "error" in ours:
        return next((kind for kind, known in REFUSED_BY_US if known(case, ours, other)), None)
    if "error" in other:
        if other.get("kind") == "too long" and ours["next"] != oracle.times(case):
            return None
        known = REFUSED_BY_SYSTEMD if name == "systemd" else REFUSED_BY_PACKAGES
        return next((kind for kind, test in known if test(case, other)), None)
    if ours["next"] != oracle.times(case):
        return None
    known = TIMES_OF_SYSTEMD if name == "systemd" else TIMES_OF_PACKAGES
    return next((kind for kind, test in known if test(case, other)), None)


# Times


def second_pass(case, other):
    """Started in the second pass of a repeated hour, and given a time that is over."""
    names = {case.zone} | {line.split()[-1] for line in case.expression.strip().split("\n")}
    folded = any(case.after.astimezone(ZoneInfo(name)).fold for name in names & cases.ALL_ZONES)
    return folded and any(datetime.fromisoformat(time) <= case.after for time in other["next"])


def hour_ticks(case, other):
    """cronsim goes through wildcard jobs by the hour and from midnight. Where a change is not of whole hours,
    or touches midnight, it skips times that exist or gives times that do not match."""
    if not case.is_cron() or not oracle.is_wildcard(case.expression):
        return False
    last = max(datetime.fromisoformat(time) for time in other["next"] + [oracle.stamp(case.after)])
    zone = ZoneInfo(case.zone)
    for change in cases.changes_between(case.zone, case.after - timedelta(days=2), last + timedelta(days=2)):
        before = (change - timedelta(seconds=1)).astimezone(zone)
        after = change.astimezone(zone)
        shift = after.utcoffset() - before.utcoffset()
        on_the_hour = shift % timedelta(hours=1) == timedelta(0) and after.minute == 0
        wall = (before + timedelta(seconds=1)).replace(tzinfo=None)
        here = after.replace(tzinfo=None)
        midnights = {min(wall, here).date(), max(wall, here).date()}
        at_midnight = len(midnights) > 1 or min(wall, here).time().hour == 0 or max(wall, here).time().hour == 0
        if not on_the_hour or at_midnight:
            return True
    return False


def lines_by_wall(case, other):
    """oncalendar compares the next times of several lines by the wall clock of the check's zone, which in a
    repeated hour runs backwards."""
    last = max(datetime.fromisoformat(time) for time in other["next"] + [oracle.stamp(case.after)])
    zone = ZoneInfo(case.zone)
    near = cases.changes_between(case.zone, case.after - timedelta(days=1), last + timedelta(days=1))
    back = [at for at in near if at.astimezone(zone).fold]
    return "\n" in case.expression.strip() and bool(back)


TIMES_OF_PACKAGES = [
    ("the packages give a time that is over, when started in the second pass", second_pass),
    ("oncalendar compares lines by the wall clock in a repeated hour", lines_by_wall),
    ("cronsim ticks by the hour through changes at midnight or of parts of an hour", hour_ticks),
]


def near_change(case, other):
    """systemd asks mktime, which answers differently near a change: it may take the second pass of a repeated
    hour, or both, or move a time out of the skipped hour."""
    zone = case.expression.split()[-1]
    times = [datetime.fromisoformat(time) for time in other["next"]]
    times += [datetime.fromisoformat(time) for time in oracle.times(case)] + [case.after]
    day = timedelta(days=1, hours=3)
    return bool(cases.changes_between(zone, min(times) - day, max(times) + day))


def range_of_one(case, other):
    """`9..9/7` is 9, 16 and 23 for the package, as if it were `9/7`; systemd takes the range at its word."""
    return any(int(first) == int(last) for first, last in re.findall(r"(\d+)\.\.(\d+)/", case.expression))


def stepped_from_end(case, other):
    """`~5..28/3` begins at the 28th day from the end for the package, at the 5th for systemd."""
    return re.search(r"~[^ ]*\.\.\d+/", case.expression) is not None


def hours_over_month_end(case, other):
    """With a step in the hours, systemd runs over the end of a month and loses the first time of the next."""
    zone = ZoneInfo(case.expression.split()[-1])
    stepped = any("/" in word.split(":")[0] for word in case.expression.split() if ":" in word)
    months = [datetime.fromisoformat(time).astimezone(zone).month for time in oracle.times(case)]
    return stepped and len({case.after.astimezone(zone).month, *months}) > 1


TIMES_OF_SYSTEMD = [
    ("systemd loses the first time of a month with a step in the hours", hours_over_month_end),
    ("systemd takes a range of one with a step at its word", range_of_one),
    ("systemd steps through days from the end the other way", stepped_from_end),
    ("systemd treats the hours of a clock change differently", near_change),
]


# Acceptance

def over_by_2000(case, ours, other):
    """We refuse what has no time from the year 2000 on; systemd says "never" or gives an earlier one."""
    return "never comes" in ours["error"] and all(time < "2000" for time in other.get("next", []))


def capitals_ascii(case, ours, other):
    return not case.expression.isascii() and case.expression.upper().isascii()


REFUSED_BY_US = [
    ("systemd takes what is over by the year 2000", over_by_2000),
    ("cronsim takes letters whose capitals are ASCII", capitals_ascii),
]

REFUSED_BY_PACKAGES = [
    ("the package crashes", lambda case, other: other.get("kind") == "crash"),
    ("the package does not return", lambda case, other: other.get("kind") == "too long"),
]


def step_leaves_field(case, other):
    """systemd refuses a step with which nothing follows the first value; the package takes the value alone."""
    words = case.expression.split()[:-1]
    for word in words:
        if ":" in word:
            lasts = zip(word.split(":"), [23, 59, 59])
        elif re.match(r"[\d*]", word):
            parts = word.replace("~", "-").split("-")
            lasts = zip(reversed(parts), [31, 12, 2199])
        else:
            continue
        for part, last in lasts:
            year = year_in_full if last == 2199 else int
            for first, end, step in re.findall(r"(\d+)(?:\.\.(\d+))?/(\d+)", part):
                if year(first) + int(step) > (year(end) if end else last):
                    return True
    return False


def year_in_full(text):
    year = int(text)
    return year + (2000 if year < 70 else 1900 if year < 100 else 0)


def far_from_end(case, other):
    """systemd knows the first 28 days from the end only, and steps no further than the last day."""
    numbers = re.search(r"~(\S+)", case.expression)
    return numbers is not None and any(int(n) > 28 for n in re.findall(r"\d+", numbers.group(1)))


def list_from_end(case, other):
    """In a list of days from the end, systemd lowers its limit of 28 by 3 for each further term."""
    days = re.search(r"~(\S+)", case.expression)
    if days is None:
        return False
    limit = 28 - 3 * days.group(1).count(",")
    return any(int(number) > limit for number in re.findall(r"\d+", days.group(1)))


def step_from_end(case, other):
    """Steps towards the end of the month are bounded otherwise in systemd."""
    return re.search(r"~\S*/", case.expression) is not None


def range_of_one_second(case, other):
    """systemd takes `5..5` in every field but the seconds."""
    seconds = [word.split(":")[2] for word in case.expression.split() if word.count(":") == 2]
    return any(int(first) == int(last) for part in seconds for first, last in re.findall(r"(\d+)\.\.(\d+)", part))


def midnight_loop(case, other):
    """systemd gives up where a day has no midnight ("deadlock avoided")."""
    return "Resource deadlock avoided" in other["error"]


REFUSED_BY_SYSTEMD = [
    ("systemd gives up where midnight is skipped", midnight_loop),
    ("systemd refuses a range of one in the seconds", range_of_one_second),
    ("systemd refuses a step that leaves its field", step_leaves_field),
    ("systemd refuses days beyond the 28th from the end, in ranges also", far_from_end),
    ("systemd refuses lists of days from the end that reach far", list_from_end),
    ("systemd refuses some steps through days from the end", step_from_end),
]
