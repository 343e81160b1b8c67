"""The rules of schedules, slow and plain: every wall time of every day that matches, and when the clock shows
it. The sets of values come from the packages' parsers; how days and clock changes are treated is written here
anew."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from oncalendar import OnCalendar

COUNT = 3
DAY = timedelta(days=1)


def stamp(instant):
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def is_wildcard(expression):
    minute, hour, *_ = expression.split()
    return minute.startswith("*") or hour.startswith("*")


def shown(wall, zone):
    """The instants at which the clock of `zone` shows `wall`: one, two or none, the earlier one first."""
    instants = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(at for at in instants if at.astimezone(zone).replace(tzinfo=None, fold=0) == wall)


def after_gap(wall, zone):
    while not shown(wall, zone):
        wall += timedelta(minutes=1)
    return shown(wall, zone)[0]


def times(case):
    return [stamp(at) for at in (_cron(case) if case.is_cron() else _calendar(case))]


def _cron(case):
    zone = ZoneInfo(case.zone)
    job = CronSim(case.expression, datetime(2000, 1, 1))
    clock = [time(hour, minute) for hour in sorted(job.hours) for minute in sorted(job.minutes)]

    def matches(day):
        return day.month in job.months and job.match_day(day)

    def instants(wall):
        if is_wildcard(case.expression):
            return shown(wall, zone)
        return shown(wall, zone)[:1] or [after_gap(wall, zone)]

    first = case.after.astimezone(zone).date()
    return _walk(case.after, first, first.year + 50, matches, clock, instants)


def _calendar(case):
    found = set()
    for line in OnCalendar(case.expression, case.after.astimezone(ZoneInfo(case.zone))).iterators:
        rule = line.iterator
        zone = rule.fixup_tz or UTC
        clock = [time(h, m, s) for h in sorted(rule.hours) for m in sorted(rule.minutes) for s in sorted(rule.seconds)]

        def matches(day):
            in_year = day.year in rule.years and day.month in rule.months
            return in_year and rule.match_dow(day) and rule.match_dom(day)

        first = max(case.after.astimezone(zone).date(), date(1970, 1, 2))
        found.update(_walk(case.after, first, 2199, matches, clock, lambda wall: shown(wall, zone)[:1]))
    return sorted(found)[:COUNT]


def _walk(after, first, last_year, matches, clock, instants):
    """The first instants later than `after`, day by day. Days are finished two further than seems needed, as a
    change of the clock may show a later wall time earlier."""
    found, spare = set(), 2
    day = first - DAY
    while day.year <= last_year and spare:
        if matches(day):
            for moment in clock:
                found.update(at for at in instants(datetime.combine(day, moment)) if at > after)
                if len(found) > 4000:
                    break
        if len(found) >= COUNT:
            spare -= 1
        day += DAY
    return sorted(found)[:COUNT]
