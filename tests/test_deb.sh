#!/usr/bin/env bash
# The Debian package: built, looked at, installed, started by its own unit's command as its own account, upgraded over
# itself, removed, purged. Run by `make deb-test`, as root, on a machine without a running Allswell of its own.
#
#   tests/test_deb.sh PACKAGE.deb
#
# Without systemd as the first process the unit is looked at by systemd-analyze, its system calls are compared with those
# that the server makes, and the server is started by hand as the unit would.
set -euo pipefail
deb=$(realpath "$1")
cd "$(dirname "$0")/.."

say() { printf 'deb: %s\n' "$*"; }
fail() { printf 'deb: FAILED: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail "this installs a package: run it as root"
! dpkg-query -W -f '${Status}' allswell 2>/dev/null | grep -q installed || fail "allswell is installed here already"
[ ! -e /var/lib/allswell ] || fail "/var/lib/allswell is there already"

work=$(mktemp -d)
server=
clean() {
  [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
  dpkg --purge allswell >/dev/null 2>&1 || true
  # Made by this test: it was looked for above.
  rm -rf /var/lib/allswell "$work"
  deluser --quiet --system allswell >/dev/null 2>&1 || true
}
trap clean EXIT

say "what is in it"
dpkg-deb --contents "$deb" | sed 's/root\/root/0\/0/' | awk '{ print $1, $2, $6 }' > "$work/contents"
grep -q -- '-rwxr-xr-x 0/0 ./usr/bin/allswell$' "$work/contents" || fail "the binary: $(cat "$work/contents")"
grep -q './lib/systemd/system/allswell.service$' "$work/contents" || fail "the unit"
[ "$(dpkg-deb --info "$deb" conffiles)" = /etc/allswell/allswell.toml ] || fail "the configuration is no conffile"
! grep -Eqv ' \./(usr|lib|etc)(/|$)| \./$' "$work/contents" || fail "something lies elsewhere"

say "what its documents link to is in it"
dpkg-deb --extract "$deb" "$work/tree"
documents=$work/tree/usr/share/doc/allswell
not_packed=(
  # For those who change the sources, and have them.
  CONTRIBUTING.md CONVENTIONS.md tests/clients
  # The server gives them to whoever asks, under the address that is the link's text.
  crates/web/src/api/openapi.json crates/web/src/native/openapi.json
)
(cd "$documents" && grep -roE --include='*.md' '\]\([^)[:space:]]+' .) | sed 's/:](/ /' >"$work/links"
[ "$(wc -l <"$work/links")" -gt 30 ] || fail "links are not found: $(cat "$work/links")"
while read -r file link; do
  [[ ! $link =~ ^([a-z]+:|#) ]] || continue
  to=$(realpath -ms "$documents/$(dirname "$file")/${link%%#*}")
  [ -e "$to" ] || echo "${to#"$documents"/}"
done <"$work/links" | sort -u >"$work/nowhere"
printf '%s\n' "${not_packed[@]}" | sort | diff - "$work/nowhere" \
  || fail "linked and not packed (>), or said to be so without need (<)"

say "install"
DEBIAN_FRONTEND=noninteractive dpkg --install "$deb" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
[ "$(stat -c '%U:%G %a' /var/lib/allswell)" = "allswell:allswell 700" ] || fail "the directory of data"
[ "$(stat -c '%U:%G %a' /etc/allswell/allswell.toml)" = "root:allswell 640" ] || fail "the configuration"
[ "$(getent passwd allswell | cut -d: -f7)" = /usr/sbin/nologin ] || fail "the account may log in"
unit=/lib/systemd/system/allswell.service
systemd-analyze verify "$unit" >"$work/verify" 2>&1 || fail "$(cat "$work/verify")"
! grep -F "$unit" "$work/verify" || fail "the unit has flaws"
exposure=$(systemd-analyze security --offline=true "$unit" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')
awk -v e="$exposure" 'BEGIN { exit !(e != "" && e < 2.0) }' || fail "exposure $exposure"
say "systemd-analyze security: $exposure"

as_the_unit() { (cd /var/lib/allswell && exec setpriv --reuid allswell --regid allswell --clear-groups --no-new-privs --bounding-set -all --inh-caps -all "$@"); }
command=$(sed -n 's/^ExecStart=//p' "$unit")
start() {
  # shellcheck disable=SC2086
  (cd /var/lib/allswell && umask 077 && exec setpriv --reuid allswell --regid allswell --clear-groups --no-new-privs --bounding-set -all --inh-caps -all "$@" $command) >"$work/server" 2>&1 &
  server=$!
  for _ in $(seq 300); do
    curl -fsS -o /dev/null --noproxy '*' http://127.0.0.1:8000/readyz 2>/dev/null && return
    kill -0 "$server" 2>/dev/null || fail "the server ended: $(cat "$work/server")"
    sleep 0.1
  done
  fail "the server is not ready: $(cat "$work/server")"
}
stop() {
  local pid=$server
  server=
  # Its only child is the server.
  kill -TERM $(cat "/proc/$pid/task/$pid/children")
  wait "$pid" || fail "the server ended badly: $(cat "$work/server")"
}

say "start as the unit does, and a ping"
start
as_the_unit sh -c 'umask 077; echo "a long enough password" > /var/lib/allswell/password'
tell() { as_the_unit allswell --config /etc/allswell/allswell.toml "$@"; }
tell user create --email alice@example.org --password-file password >/dev/null
project=$(tell project create --owner alice@example.org --name Home --json | sed 's/.*"id":"\([^"]*\)".*/\1/')
url=$(tell check create --project "$project" --name backup --json | sed 's/.*"ping_url":"\([^"]*\)".*/\1/')
allswell run --url "$url" -- echo hello >"$work/run" || fail "run"
[ "$(cat "$work/run")" = hello ] || fail "run: $(cat "$work/run")"
tell check list --project "$project" | grep -q up || fail "the check is not up"
for _ in $(seq 30); do tell watchdog >/dev/null 2>&1 && break; sleep 1; done
tell watchdog >"$work/log" || fail "the watchdog: $(cat "$work/log" "$work/server")"
[ "$(stat -c '%U %a' /var/lib/allswell/key-ring)" = "allswell 600" ] || fail "the key ring"
kill -TERM "$server"; wait "$server" || fail "the server ended badly: $(cat "$work/server")"; server=

if command -v strace >/dev/null; then
  say "the system calls that the server makes are those that the unit allows"
  names() { systemd-analyze syscall-filter "$@" | sed -n 's/^  *\([a-z0-9_@-]*\)$/\1/p' | while read -r name; do
    case $name in @*) names "$name" ;; *) echo "$name" ;; esac; done; }
  names @system-service | sort -u > "$work/allowed"
  { names @privileged; names @resources; } | sort -u > "$work/denied"
  # Allowed again by name in the unit, and what systemd always allows.
  { comm -23 "$work/allowed" "$work/denied"; sed -n 's/^SystemCallFilter=\([a-z].*\)/\1/p' "$unit" | tr ' ' '\n'
    printf '%s\n' execve exit exit_group rt_sigreturn sigreturn clock_nanosleep nanosleep clock_gettime; } | sort -u > "$work/may"
  start strace -f -qq -o /var/lib/allswell/trace
  allswell run --url "$url" -- echo hello >/dev/null
  stop
  # From the server's own start on: before it, setpriv is at work.
  sed -n '/execve("\/usr\/bin\/allswell"/,$p' /var/lib/allswell/trace | sed -nE 's/^[0-9]+ +([a-z_0-9]+)\(.*/\1/p' | sort -u > "$work/made"
  [ "$(wc -l < "$work/made")" -gt 20 ] || fail "no trace"
  more=$(comm -23 "$work/made" "$work/may")
  [ -z "$more" ] || fail "system calls that the unit forbids: $more"
fi

say "an upgrade keeps what was configured"
echo '# mine' >> /etc/allswell/allswell.toml
DEBIAN_FRONTEND=noninteractive dpkg --install "$deb" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
grep -q '# mine' /etc/allswell/allswell.toml || fail "the configuration was replaced"

say "remove keeps configuration and data, purge keeps the data and says so"
dpkg --remove allswell >"$work/log" 2>&1 || fail "$(cat "$work/log")"
[ ! -e /usr/bin/allswell ] && [ -e /etc/allswell/allswell.toml ] && [ -e /var/lib/allswell/allswell.db ] || fail "remove"
dpkg --purge allswell >"$work/log" 2>&1 || fail "$(cat "$work/log")"
grep -q "is kept" "$work/log" || fail "nothing was said of the data: $(cat "$work/log")"
[ ! -e /etc/allswell ] && [ -e /var/lib/allswell/key-ring ] || fail "purge: $(ls -l /etc/allswell 2>&1)"
rm -r /var/lib/allswell && deluser --quiet --system allswell

say "without data nothing is left"
dpkg --install "$deb" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
dpkg --purge allswell >"$work/log" 2>&1 || fail "$(cat "$work/log")"
[ ! -e /var/lib/allswell ] && [ ! -e /etc/allswell ] && ! getent passwd allswell >/dev/null || fail "something is left"
say "all is well"
