"""Plants each bug of this directory in a copy of the sources and asks the simulated world to find it.

    python3 crates/sim/mutations/run.py [--seeds 100] [--happenings 1500] [--apply-only | --build-only] [NAME ...]

Each bug is a patch whose first line says what is wrong, and whose third names the rules that it breaks, as rules.rs does:
"Breaks: CHAIN, STATE". It must apply, the copy must build, and a story of one of the first seeds must break one of these
rules; otherwise this ends with status 1. A story that breaks another rule finds nothing: it may be a false alarm. Before
that, the sources as they are must keep every rule. The copy and what is built of it stay in target/mutations.

--apply-only asks in an instant whether each patch fits the sources, --build-only in a minute or two whether each builds.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WORK = ROOT / "target" / "mutations"
COPY = WORK / "sources"
FOUND = re.compile(r"^seed (\d+) breaks the rule: (.*)$", re.MULTILINE)
RULE = re.compile(r'^pub\(crate\) const (\w+): &str =\s*"([^"]*)";', re.MULTILINE)
RULES = dict(RULE.findall((HERE.parent / "src" / "rules.rs").read_text()))


def run(*command: str, cwd: pathlib.Path = COPY, **more) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, text=True, capture_output=True, **more)


def copy_sources() -> None:
    """The tracked files as they are now, in a repository of their own so that patches are taken back whole."""
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "crates", "Cargo.toml",
                 "Cargo.lock", "rust-toolchain.toml", ".cargo", cwd=ROOT)
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, COPY / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            # With a time of its own: cargo must not take what it built of the last planted bug for these sources.
            shutil.copyfile(source, target)
    for command in (["init", "-q"], ["add", "-A"]):
        run("git", *command, check=True)


def breaks(patch: pathlib.Path) -> list[str]:
    """The names of the rules that a planted bug breaks; empty if its third line does not name them."""
    lines = patch.read_text().split("\n", 3)
    if len(lines) < 4 or not lines[0].strip() or lines[1] or not lines[2].startswith("Breaks: "):
        return []
    names = [name.strip() for name in lines[2].removeprefix("Breaks: ").split(",")]
    return names if all(name in RULES for name in names) else []


def apply_only(patches: list[pathlib.Path]) -> int:
    """Whether each patch fits the sources as they are; nothing is written."""
    unfit = 0
    for patch in patches:
        tried = run("git", "apply", "--check", str(patch), cwd=ROOT)
        trouble = tried.stderr.strip() if tried.returncode else ""
        if not trouble and not breaks(patch):
            trouble = "its first line must say what is wrong, and the third which rules of rules.rs it breaks"
        if trouble:
            unfit += 1
            print(f"{patch.stem}: does not apply any more\n{trouble}")
    print(f"{len(patches) - unfit} of {len(patches)} planted bugs apply")
    return 1 if unfit or not patches else 0


def build() -> str | None:
    """Builds the copy; what went wrong, if something did."""
    environment = dict(os.environ, CARGO_TARGET_DIR=str(WORK / "target"), CARGO_PROFILE_DEV_DEBUG="0")
    built = run("cargo", "build", "--quiet", "--locked", "--package", "allswell-sim", env=environment)
    return None if built.returncode == 0 else built.stderr


def take_back(patches: list[pathlib.Path]) -> None:
    for patch in reversed(patches):
        run("git", "apply", "-R", str(patch), check=True)


def build_only(patches: list[pathlib.Path]) -> int:
    """Whether the sources build with each patch: as many at once as fit beside each other, and one by one only if the
    compiler finds fault with them together."""
    copy_sources()
    bad, rest = 0, list(patches)
    while rest:
        together = [patch for patch in rest if run("git", "apply", str(patch)).returncode == 0]
        if not together:
            bad += len(rest)
            print("\n".join(f"{patch.stem}: does not apply any more" for patch in rest))
            break
        rest = [patch for patch in rest if patch not in together]
        trouble = build()
        take_back(together)
        if trouble is None:
            continue
        for patch in together:
            run("git", "apply", str(patch), check=True)
            trouble = build()
            take_back([patch])
            if trouble is not None:
                bad += 1
                print(f"{patch.stem}: does not build\n{trouble}", flush=True)
    print(f"{len(patches) - bad} of {len(patches)} planted bugs build")
    return 1 if bad or not patches else 0


def tell(first: int, seeds: int, happenings: int) -> list[tuple[int, str]]:
    """Tells stories until one breaks a rule; the seeds that broke one, and which."""
    told = run(str(WORK / "target" / "debug" / "allswell-sim"), "--seed", str(first), "--seeds", str(seeds),
               "--secs", "100000", "--happenings", str(happenings), "--quiet")
    found = FOUND.findall(told.stdout)
    if not found and told.returncode != 0:
        sys.exit(f"the stories ended with status {told.returncode}:\n{told.stdout}{told.stderr}")
    return [(int(seed), rule) for seed, rule in found]


def find(patch: pathlib.Path, seeds: int, happenings: int) -> tuple[int, str] | None:
    """The first story that breaks a rule which this bug breaks."""
    sentences = [RULES[name] for name in breaks(patch)]
    first = 1
    while first <= seeds and (broken := tell(first, seeds + 1 - first, happenings)):
        for seed, rule in broken:
            if rule in sentences:
                return seed, rule
            print(f"{patch.stem}: seed {seed} breaks a rule that it should not: {rule}", flush=True)
        first = max(seed for seed, _ in broken) + 1
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--happenings", type=int, default=1500)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--apply-only", action="store_true")
    only.add_argument("--build-only", action="store_true")
    parser.add_argument("names", nargs="*")
    wanted = parser.parse_args()
    patches = sorted(HERE.glob("*.patch"))
    if wanted.names:
        patches = [patch for patch in patches if patch.stem in wanted.names]
    if wanted.apply_only:
        return apply_only(patches)
    if wanted.build_only:
        return build_only(patches)
    copy_sources()
    if (trouble := build()) is not None:
        sys.exit(trouble)
    if broken := tell(1, wanted.seeds, wanted.happenings):
        sys.exit(f"without any planted bug seed {broken[0][0]} breaks the rule: {broken[0][1]}")
    print(f"no bug planted: {wanted.seeds} seeds keep every rule", flush=True)
    missed = []
    for patch in patches:
        begun = time.monotonic()
        if not breaks(patch):
            print(f"{patch.stem}: does not say which rules of rules.rs it breaks", flush=True)
            missed.append(patch.stem)
            continue
        applied = run("git", "apply", str(patch))
        if applied.returncode != 0:
            print(f"{patch.stem}: does not apply any more\n{applied.stderr}", flush=True)
            missed.append(patch.stem)
            continue
        trouble = build()
        found = find(patch, wanted.seeds, wanted.happenings) if trouble is None else None
        take_back([patch])
        seconds = time.monotonic() - begun
        if trouble is not None:
            missed.append(patch.stem)
            print(f"{patch.stem}: does not build\n{trouble}", flush=True)
        elif found is None:
            missed.append(patch.stem)
            print(f"{patch.stem}: NOT FOUND within {wanted.seeds} seeds ({seconds:.0f} s)", flush=True)
        else:
            print(f"{patch.stem}: seed {found[0]} ({seconds:.0f} s): {found[1]}", flush=True)
    print(f"{len(patches) - len(missed)} of {len(patches)} planted bugs found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
