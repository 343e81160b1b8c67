"""Compares our schedules with PyPI's cronsim and oncalendar, and with systemd where it is installed.

    pip install cronsim oncalendar tzdata
    python3 differential.py [--cases N] [--seed S] [--systemd N] [--jobs N] -- COMMAND...

COMMAND reads lines of EXPR<TAB>ZONE<TAB>AFTER (a line break in EXPR is written as the two characters \\n) and
answers each with a line of JSON, {"next": [three instants]} or {"error": "..."}, as
`allswell schedule next --stdin --count 3` does.

Random expressions, good and bad, meet random zones and starts; six starts in ten lie within two days of a
change of the zone's clock. Compared are acceptance and the next three instants. Every difference must be of a
kind that is named and recognised in `kinds.py`, which also has to show that ours is the right answer;
anything else fails the run. The zone rules of the reference come from PyPI's tzdata, for systemd also.

The last line reads "N passed, 0 failed".
"""

import os

# Before zoneinfo is imported: the rules of the tzdata package, not those of this machine.
os.environ["PYTHONTZPATH"] = ""

import argparse
import collections
import json
import multiprocessing
import random
import subprocess
import sys
import time

import cases
import kinds
import reference

UNEXPLAINED_SHOWN = 20


def ask(command, lines):
    """The answers of our command, one for each line."""
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"{command} ended with status {done.returncode}: {done.stderr[-2000:]}")
    answers = [json.loads(line) for line in done.stdout.rstrip("\n").split("\n")]
    if len(answers) != len(lines):
        sys.exit(f"{command} gave {len(answers)} answers to {len(lines)} lines")
    return answers


def compare(name, work, answers, theirs, tally):
    """Counts agreement and kinds of difference; returns what nothing explains."""
    unexplained = []
    for case, ours, other in zip(work, answers, theirs):
        if ours.get("next") == other.get("next"):
            tally[f"{name}: agree, {'refused' if 'error' in other else 'accepted'}"] += 1
            continue
        kind = kinds.explain(name, case, ours, other)
        if kind is None:
            unexplained.append((name, case, ours, other))
        else:
            tally[f"{name}: {kind}"] += 1
            tally.setdefault(("example", f"{name}: {kind}"), (case, ours, other))
    return unexplained


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000, help="cases against cronsim and oncalendar")
    parser.add_argument("--systemd", type=int, default=300, help="cases against systemd, if installed")
    parser.add_argument("--seed", type=int, default=None, help="default: the clock")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--examples", action="store_true", help="show one case of each kind of difference")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()

    seed = args.seed if args.seed is not None else time.time_ns() % 1_000_000
    print(f"seed {seed}, tzdata {reference.edition()}, {reference.versions()}", flush=True)
    dice = random.Random(seed)

    tally = collections.Counter()
    work = [cases.draw(dice) for _ in range(args.cases)]
    answers = ask(args.command, [case.line() for case in work])
    with multiprocessing.Pool(args.jobs) as pool:
        theirs = pool.map(reference.packages, work, chunksize=20)
        unexplained = compare("packages", work, answers, theirs, tally)

        if args.systemd and reference.systemd_installed():
            work = [cases.draw_for_systemd(dice) for _ in range(args.systemd)]
            answers = ask(args.command, [case.line() for case in work])
            theirs = pool.map(reference.systemd, work, chunksize=5)
            unexplained += compare("systemd", work, answers, theirs, tally)
        elif args.systemd:
            print("systemd-analyze is not installed: not compared")

    examples = {key[1]: tally.pop(key) for key in [key for key in tally if isinstance(key, tuple)]}
    for kind, count in sorted(tally.items(), key=lambda item: -item[1]):
        print(f"{count:7}  {kind}")
        if args.examples and kind in examples:
            show(*examples[kind])
    for name, case, ours, other in unexplained[:UNEXPLAINED_SHOWN]:
        print(f"UNEXPLAINED, {name}")
        show(case, ours, other)
    print(f"{sum(tally.values())} passed, {len(unexplained)} failed")
    sys.exit(1 if unexplained else 0)


def show(case, ours, other):
    print(f"         {case.line()!r}\n           ours   {ours}\n           theirs {other}")


if __name__ == "__main__":
    main()
