"""Writes the table of old zone names, src/schedule/zone_alias.rs, from the tz database.

    pip install tzdata
    python3 zone_aliases.py > .../src/schedule/zone_alias.rs && rustfmt --edition 2024 .../zone_alias.rs

A name is old if the tz database links it to another name and does not list it among the places of today
(zone.tab). Not old, although links: the names below, which distributions still install by default (Debian
moved the others to the package tzdata-legacy) and which people therefore still choose.
The four zones of US time without a place are no links, but are treated as old for the same reason.
"""

from importlib import resources

KEPT = set(
    """
    Africa/Timbuktu America/Atka America/Coral_Harbour America/Ensenada America/Montreal America/Nipigon
    America/Pangnirtung America/Porto_Acre America/Rainy_River America/Santa_Isabel America/Shiprock
    America/Thunder_Bay America/Virgin America/Yellowknife Asia/Chongqing Asia/Harbin Asia/Istanbul Asia/Kashgar
    Asia/Tel_Aviv Atlantic/Jan_Mayen Australia/Canberra Australia/Currie Australia/Yancowinna Etc/GMT+0 Etc/GMT-0
    Etc/GMT0 Etc/Greenwich Etc/UCT Etc/Universal Etc/Zulu Europe/Belfast Europe/Nicosia Europe/Tiraspol GMT
    Pacific/Johnston Pacific/Samoa Pacific/Yap UTC
    """.split()
)

PLACELESS = {
    "CST6CDT": "America/Chicago",
    "EST5EDT": "America/New_York",
    "MST7MDT": "America/Denver",
    "PST8PDT": "America/Los_Angeles",
}


def main():
    data = resources.files("tzdata") / "zoneinfo"
    lines = (data / "tzdata.zi").read_text().splitlines()
    edition = lines[0].removeprefix("# version ")
    links = {name: target for kind, target, name in (x.split() for x in lines if x.startswith("L "))}
    rows = [x.split("\t") for x in (data / "zone.tab").read_text().splitlines() if not x.startswith("#")]
    places = {row[2] for row in rows}

    def end(name):
        # A link may lead to a link; a name of today on the way is where to stop.
        while name in links and name not in places and name not in KEPT:
            name = links[name]
        return name

    old = {name: end(target) for name, target in links.items() if name not in places and name not in KEPT}
    old.update(PLACELESS)

    print("//! Old names of time zones and what they are called now. Made by `tests/schedules/zone_aliases.py`")
    print(f"//! (which says how) from edition {edition} of the tz database. Do not edit.")
    print()
    print("/// Old name and current name, in order of the old ones.")
    print("pub(super) const ALIASES: &[(&str, &str)] = &[")
    for name in sorted(old):
        print(f'    ("{name}", "{old[name]}"),')
    print("];")


if __name__ == "__main__":
    main()
