"""Random expressions, zones and starts. The same seed gives the same cases."""

import bisect
import dataclasses
import functools
import importlib.resources
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

# Zones whose clocks do something unusual, and a few that do not.
ZONES = """
    Africa/Cairo Africa/Casablanca Africa/El_Aaiun America/Asuncion America/Caracas America/Chicago
    America/Havana America/Los_Angeles America/New_York America/Nuuk America/Santiago America/Sao_Paulo
    America/Scoresbysund America/St_Johns Antarctica/Casey Antarctica/Macquarie Antarctica/Troll Asia/Amman
    Asia/Beirut Asia/Damascus Asia/Dhaka Asia/Gaza Asia/Hebron Asia/Jerusalem Asia/Kathmandu Asia/Kolkata
    Asia/Pyongyang Asia/Tehran Asia/Tokyo Asia/Ulaanbaatar Atlantic/Azores Australia/Lord_Howe
    Australia/Sydney Europe/Dublin Europe/Istanbul Europe/London Europe/Lisbon Europe/Moscow Europe/Riga
    Europe/Volgograd Pacific/Apia Pacific/Chatham Pacific/Easter Pacific/Fakaofo Pacific/Fiji
    Pacific/Kiritimati Pacific/Norfolk UTC Etc/GMT+5
""".split()

# Those that go wrong most often are drawn more often.
HARD = """
    Australia/Lord_Howe Antarctica/Troll America/Havana Asia/Beirut Asia/Gaza America/St_Johns Pacific/Apia
    America/Sao_Paulo Africa/Casablanca Asia/Amman America/Nuuk Antarctica/Casey Asia/Pyongyang
""".split()

ALL_ZONES = set((importlib.resources.files("tzdata") / "zones").read_text().split()) - {"Factory"}
ANY_ZONE = sorted(ALL_ZONES)

FIRST, LAST = datetime(1996, 1, 1, tzinfo=UTC), datetime(2045, 1, 1, tzinfo=UTC)
NEAR = timedelta(days=2)

# The longest expression that Healthchecks and we take.
LENGTH_MAX = 100


@dataclasses.dataclass(frozen=True)
class Case:
    expression: str
    zone: str
    after: datetime

    def line(self):
        # The strings a command line may carry: no tab and no line break inside a field.
        expression = self.expression.replace("\n", "\\n")
        return f"{expression}\t{self.zone}\t{self.after.isoformat().replace('+00:00', 'Z')}"

    def is_cron(self):
        return "\n" not in self.expression.strip() and len(self.expression.split()) == 5


@functools.cache
def changes(name):
    """Instants at which the clock of a zone changes, found by halving the days on which it does."""
    zone = ZoneInfo(name)
    found = []
    low, day = FIRST, timedelta(days=1)
    while low < LAST:
        high = low + day
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            left, right = low, high
            while right - left > timedelta(seconds=1):
                middle = left + timedelta(seconds=(right - left) // timedelta(seconds=2))
                same = middle.astimezone(zone).utcoffset() == left.astimezone(zone).utcoffset()
                left, right = (middle, right) if same else (left, middle)
            found.append(right)
        low = high
    return found


def changes_between(name, start, end):
    found = changes(name)
    return found[bisect.bisect_left(found, start) : bisect.bisect_right(found, end)]


def draw_zone(dice):
    return dice.choice(dice.choices([HARD, ZONES, ANY_ZONE], [45, 45, 10])[0])


def draw(dice):
    zone = draw_zone(dice)
    expression = cron(dice) if dice.random() < 0.6 else calendar(dice)
    while dice.random() < 0.12:
        expression = spoil(dice, expression)
    return Case(expression, zone, start(dice, zone))


def draw_for_systemd(dice):
    """One line without a zone of its own, to which the zone is added."""
    zone = draw_zone(dice)
    return Case(f"{calendar_line(dice)} {zone}", "UTC", start(dice, zone).replace(microsecond=0))


def start(dice, zone):
    found = changes(zone)
    if found and dice.random() < 0.7:
        after = dice.choice(found) + NEAR * dice.uniform(-1, 1)
        if dice.random() < 0.4:  # inside or right beside the odd hour
            after = dice.choice(found) + timedelta(minutes=dice.randint(-130, 130))
    else:
        after = FIRST + (LAST - FIRST) * dice.random()
    if dice.random() < 0.5:
        after = after.replace(second=0, microsecond=0)
    elif dice.random() < 0.8:
        after = after.replace(microsecond=0)
    return after


# Cron


def cron(dice):
    hour_near = [0, 0, 1, 1, 2, 2, 3, 3, 4, 23]
    minute = cron_field(dice, 0, 59, [0, 30], dice.choice([0.15, 0.5]))
    hour = cron_field(dice, 0, 23, hour_near, dice.choice([0.15, 0.5]))
    if dice.random() < 0.55:
        day, month, weekday = "*", "*", "*"
    else:
        day = cron_day(dice)
        month = cron_field(dice, 1, 12, [2, 3, 4, 10], 0.6, MONTHS)
        weekday = cron_weekday(dice)
    return " ".join([minute, hour, day, month, weekday])


MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
WEEKDAYS = "SUN MON TUE WED THU FRI SAT".split()


def cron_field(dice, low, high, favoured, stars, names=()):
    if dice.random() < stars:
        return "*" if dice.random() < 0.6 else f"*/{step(dice, high)}"
    return ",".join(cron_term(dice, low, high, favoured, names) for _ in range(dice.choice([1, 1, 1, 1, 2, 3])))


def cron_term(dice, low, high, favoured, names):
    value = lambda: dice.choice(favoured) if dice.random() < 0.5 else dice.randint(low, high)

    def text(number):
        if names and number - low < len(names) and dice.random() < 0.3:
            return dice.choice([str.upper, str.lower, str.title])(names[number - low])
        return str(number).zfill(dice.choice([1, 1, 1, 2]))

    roll = dice.random()
    if roll < 0.6:
        return text(value())
    if roll < 0.7:
        return f"{text(value())}/{step(dice, high)}"
    first, last = sorted([value(), value()])
    if roll < 0.9:
        return f"{text(first)}-{text(last)}"
    if roll < 0.97:
        return f"{text(first)}-{text(last)}/{step(dice, high)}"
    return dice.choice(["*", f"{text(last)}-{text(first)}", "*/2"])


def step(dice, high):
    return dice.choice([1, 2, 3, 5, 7, 10, 15, 20, 29, 30, high, high + 1, 10**12])


def cron_day(dice):
    if dice.random() < 0.35:
        return "*"
    if dice.random() < 0.25:
        return ",".join(dice.choice(["L", "LW", "l", "lw", "L/2", "15", "1"]) for _ in range(dice.choice([1, 1, 2])))
    return cron_field(dice, 1, 31, [1, 28, 29, 30, 31], 0.2)


def cron_weekday(dice):
    roll = dice.random()
    if roll < 0.4:
        return "*"
    if roll < 0.6:
        day = str(dice.randint(0, 7)) if dice.random() < 0.6 else dice.choice(WEEKDAYS)
        return dice.choice([f"{day}#{dice.randint(1, 5)}", f"{dice.randint(0, 7)}L", f"{day}#{dice.randint(0, 6)}"])
    return cron_field(dice, 0, 7, [0, 7, 1, 5], 0.2, WEEKDAYS)


# OnCalendar

SHORTHANDS = "minutely hourly daily weekly monthly quarterly semiannually annually yearly Daily HOURLY".split()
LONG = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def calendar(dice):
    lines = []
    for _ in range(dice.choice([1, 1, 1, 1, 2, 3])):
        line = calendar_line(dice)
        if dice.random() < 0.2:
            line += " " + dice.choice([dice.choice(ZONES), "Europe/Kiev", "US/Pacific", "EST", "Europe/Nowhere", "utc"])
        lines.append(line)
    while len("\n".join(lines)) > LENGTH_MAX and len(lines) > 1:
        lines.pop()
    return "\n".join(lines)[:LENGTH_MAX]


def calendar_line(dice):
    if dice.random() < 0.07:
        return dice.choice(SHORTHANDS)
    parts = []
    if dice.random() < 0.3:
        parts.append(calendar_weekdays(dice))
    if dice.random() < 0.6:
        parts.append(calendar_date(dice))
    if dice.random() < 0.9 or not parts:
        parts.append(calendar_time(dice))
    return " ".join(parts)


def calendar_weekdays(dice):
    def day():
        name = dice.choice(LONG)
        return dice.choice([name, name[:3], name[:3], name[:3].lower(), name.upper()])

    terms = []
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        first, last = sorted(dice.sample(range(7), 2))
        terms.append(dice.choice([day(), day(), f"{LONG[first][:3]}..{LONG[last][:3]}", f"{LONG[first]}-{LONG[last][:3]}"]))
    return ",".join(terms) + ("," if dice.random() < 0.1 else "")


def calendar_date(dice):
    month = calendar_field(dice, 1, 12, [2, 3, 4, 10], 0.6)
    roll = dice.random()
    if roll < 0.25:
        day = "~" + calendar_field(dice, 1, 31 if dice.random() < 0.2 else 28, [1, 2, 3, 7], 0.05)
    elif roll < 0.95:
        day = "-" + calendar_field(dice, 1, 31, [1, 28, 29, 30, 31], 0.45)
    else:
        day = dice.choice(["-", "~", "-~1", "-L", "--1", "-1-1"])
    if dice.random() < 0.25:
        return month + day
    year = "*" if dice.random() < 0.7 else calendar_field(dice, 1999, 2045, [24, 99, 70, 69, 2024, 2030], 0)
    return f"{year}-{month}{day}"


def calendar_time(dice):
    hour = calendar_field(dice, 0, 23, [0, 0, 1, 1, 2, 2, 3, 3, 4, 23], 0.3)
    minute = calendar_field(dice, 0, 59, [0, 30], 0.3)
    if dice.random() < 0.5:
        return f"{hour}:{minute}"
    return f"{hour}:{minute}:{calendar_field(dice, 0, 59, [0, 0, 0, 30], 0.2)}"


def calendar_field(dice, low, high, favoured, stars):
    if dice.random() < stars:
        return "*"
    terms = []
    for _ in range(dice.choice([1, 1, 1, 1, 2, 3])):
        value = lambda: dice.choice(favoured) if dice.random() < 0.5 else dice.randint(low, high)
        text = lambda number: str(number).zfill(dice.choice([1, 1, 2]))
        first, last = sorted([value(), value()])
        terms.append(
            dice.choices(
                [text(first), f"{text(first)}/{step(dice, high)}", f"{text(first)}..{text(last)}",
                 f"{text(first)}..{text(last)}/{step(dice, high)}", f"{text(last)}..{text(first)}", "*", "*/2"],
                [60, 12, 15, 7, 1, 0.5, 0.5],
            )[0]
        )
    return ",".join(terms)


# Spoiling

SPOILERS = "x * - .. / , : # L W ? 60 0 /0 ~ @ 1 é ſ MON jan Mon, ~1 ..5 /2 24 L, #2".split()
SPOILERS += ["", "", " ", "  ", "\u2003", "\x1c", "\n"]


def spoil(dice, expression):
    """A small change that mostly makes it wrong."""
    at = dice.randrange(len(expression) + 1)
    what = dice.choice(SPOILERS)
    cut = dice.choice([0, 0, 1, 2])
    return (expression[:at] + what + expression[at + cut :])[:LENGTH_MAX]
