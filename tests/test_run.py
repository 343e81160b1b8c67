"""`allswell run` against the real server, against servers that are away, slow or hostile, and on jobs of all kinds.

Run by `make run-tests`. One test for each promise of docs/run.md. Nothing here looks inside: jobs are shells and small
Python programs, and what is reported is read back by the API or seen by a server of this file.
"""

from __future__ import annotations

import ctypes
import fcntl
import http.server
import json
import os
import pty
import select
import signal
import socket
import ssl
import subprocess
import sys
import termios
import threading
import time
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import House, binary, free_port  # noqa: E402

CHECK = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70"
BODY_LIMIT = 2_000
WAIT = 30

# Whoever starts the tests in the background may have left signals ignored, and a shell cannot trap those:
# the jobs begin with every signal as it is by default.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP, signal.SIGCHLD):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


PR_SET_CHILD_SUBREAPER = 36


def children(pid: int) -> set[int]:
    """Those of a process that lives, of all its threads."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.update(map(int, task.read_text().split()))
        except OSError:
            pass
    return found


@pytest.fixture(autouse=True)
def nothing_outlives_its_test():
    """A job may ignore every signal, and its test may be broken off: what it leaves behind becomes ours and is killed,
    with what that leaves behind."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before = children(os.getpid())
    yield
    while left := children(os.getpid()) - before:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


class Server:
    """A server of ping addresses that keeps what it was sent. `answer(handler, number)` may answer as it likes."""

    def __init__(self, answer=None, tls: ssl.SSLContext | None = None, port: int = 0):
        self.seen: list[tuple[str, str, bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.seen.append((self.command, self.path, body))
                (answer or ok)(self, len(outer.seen))

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Quiet(("127.0.0.1", port), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def url(self, host="127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}/{CHECK}"

    def paths(self) -> list[str]:
        """What was asked for: start, an exit status."""
        return [path.split("?")[0].rsplit("/", 1)[1] for _, path, _ in self.seen]


def ok(handler, _number, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"OK")


def env(**more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ALLSWELL_") and not k.lower().endswith("_proxy")}
    return {**clean, "HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent", **more}


def allswell(*args: str) -> list[str]:
    return [str(binary()), "run", *args]


def run(*args: str, variables: dict[str, str] | None = None, **more) -> subprocess.CompletedProcess:
    more = {"capture_output": True, "timeout": 120, "stdin": subprocess.DEVNULL, **more}
    return subprocess.run(allswell(*args), env=env(**(variables or {})), **more)


def closed_url() -> str:
    return f"http://127.0.0.1:{free_port()}/{CHECK}"


def until(true, what: str, secs: float = WAIT):
    end = time.monotonic() + secs
    while not (value := true()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return value


def unread(pipe) -> int:
    """Bytes that wait in a pipe."""
    count = ctypes.c_int()
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count.value


# Against the real server


@pytest.fixture(scope="module")
def house():
    with House(settings={"LIMITS_PING_BODY_BYTES": str(BODY_LIMIT)}) as h:
        h.user("alice@example.org")
        h.project_id = h.project("alice@example.org", "Home")
        h.key_rw = {"X-Api-Key": h.key(h.project_id, "read-write")}
        h.ping_key = h.key(h.project_id, "ping")
        yield h


class Checked:
    def __init__(self, house: House, slug: str):
        self.house, self.slug = house, slug
        self.env = {"ALLSWELL_RUN_SERVER": f"{house.url}/ping", "ALLSWELL_RUN_PING_KEY": house.ping_key}

    def get(self, path: str):
        status, body = self.house.get(f"/api/v3/checks/{path}", self.house.key_rw)
        assert status == 200, (status, body)
        return body

    def check(self) -> dict:
        return next(c for c in json.loads(self.get(""))["checks"] if c["slug"] == self.slug)

    def pings(self) -> list[dict]:
        """The oldest first."""
        return json.loads(self.get(f"{self.check()['uuid']}/pings/"))["pings"][::-1]

    def body(self, n: int) -> bytes:
        return self.get(f"{self.check()['uuid']}/pings/{n}/body")


def test_a_job_is_reported_with_start_output_exit_status_and_run_id(house):
    job = Checked(house, "backup")
    done = run("--slug", job.slug, "--create", "--", "sh", "-c", "echo out; echo err >&2; exit 3", variables=job.env)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    start, end = job.pings()
    assert (start["type"], end["type"]) == ("start", "fail")
    assert start["rid"] == end["rid"] and uuid.UUID(start["rid"]).version == 4
    assert sorted(job.body(2).split()) == [b"err", b"out"]
    assert job.check()["status"] == "down"

    done = run("--slug", job.slug, "true", variables=job.env)
    assert done.returncode == 0
    assert job.check()["status"] == "up"
    assert job.pings()[3]["rid"] != end["rid"] and "duration" in job.pings()[3]


def test_by_id_and_by_a_whole_address_too(house):
    made = house.cli_json("check", "create", "--project", house.project_id, "--name", "By id", "--slug", "by-id")
    assert run("--server", f"{house.url}/ping", "--uuid", made["id"].upper(), "--", "true").returncode == 0
    assert run("--url", made["ping_url"] + "/", "--no-start", "--", "true").returncode == 0
    assert [ping["type"] for ping in Checked(house, "by-id").pings()] == ["start", "success", "success"]


def test_a_ping_key_beside_the_id_opens_a_check_whose_project_asks_for_it():
    with House() as house:
        house.user("alice@example.org")
        project = house.project("alice@example.org", "Home")
        key = house.key(project, "ping")
        made = house.cli_json("check", "create", "--project", project, "--name", "Guarded")
        house.cli("project", "require-ping-key", "--project", project, "on")
        by_id = ["--server", f"{house.url}/ping", "--uuid", made["id"], "true"]
        refused = run(*by_id)
        assert refused.returncode == 0 and b"wants the ping key" in refused.stderr, refused.stderr
        told = run(*by_id, variables={"ALLSWELL_RUN_PING_KEY": key})
        assert (told.returncode, told.stderr) == (0, b"")
        shown = house.cli_json("check", "show", "--project", project, made["id"])
        assert (shown["status"], shown["pings"]) == ("up", 2) and shown["last_success"], shown


def test_a_long_job_says_that_it_lives():
    with Server() as server:
        assert run("--url", server.url(), "--alive-every", "1", "sleep", "2.6").returncode == 0
        assert server.paths() == ["start", "alive", "alive", "0"]
        assert len({path.split("rid=")[1] for _, path, _ in server.seen}) == 1

    def unknown(handler, _number):
        ok(handler, 0, 404 if "/alive" in handler.path else 200)

    with Server(unknown) as server:
        done = run("--url", server.url(), "--alive-every", "1", "sleep", "2.6")
        assert server.paths() == ["start", "alive", "0"], "who takes none is asked once"
        assert b"still ran" in done.stderr

    def refusing_at_first(handler, number):
        ok(handler, 0, 404 if number == 1 else 200)

    with Server(refusing_at_first) as server:
        done = run("--url", server.url(), "--alive-every", "1", "sleep", "3.6")
        assert server.paths() == ["start", "start", "alive", "alive", "0"], "no word of a run that is not known"
        assert len({path.split("rid=")[1] for _, path, _ in server.seen}) == 1 and done.stderr == b"", done.stderr


def test_what_is_not_started_cannot_say_that_it_lives():
    with Server() as server:
        done = run("--url", server.url(), "--no-start", "--alive-every", "1", "sh", "-c", "echo ran; exit 3")
        assert (done.returncode, done.stdout) == (3, b"ran\n")
        assert b"needs the start" in done.stderr and b"unreported" in done.stderr, done.stderr
        assert server.seen == []


def test_what_is_to_be_made_is_said_in_the_address_and_a_refusal_is_told():
    def refusing(handler, _number):
        # In one piece, as servers send what is short.
        handler.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 29\r\n\r\ninvalid schedule: it is wrong")

    flags = ["--slug", "a", "--ping-key", "k", "--create", "--schedule", "5 3 * * *", "--tz", "Europe/Riga", "--grace", "900"]
    with Server(refusing) as server:
        done = run("--server", f"http://127.0.0.1:{server.port}/ping", *flags, "true")
        assert done.returncode == 0 and b"invalid schedule: it is wrong" in done.stderr, done.stderr
        assert "create=1&schedule=5%203%20%2A%20%2A%20%2A&tz=Europe%2FRiga&grace=900&rid=" in server.seen[0][1]


def test_the_end_of_long_output_is_what_is_kept(house):
    job = Checked(house, "talker")
    lines = "".join(f"line {n} ü\n" for n in range(100_000)).encode()
    done = run("--slug", job.slug, "--create", "--", sys.executable, "-c", "for n in range(100_000): print('line', n, 'ü')", variables={**job.env, "PYTHONIOENCODING": "utf-8"})
    assert done.stdout == lines
    # The server keeps the beginning of what it gets: it must have got no more than it keeps.
    kept = job.body(2)
    assert BODY_LIMIT - 2 <= len(kept) <= BODY_LIMIT and lines.endswith(kept)


def test_binary_output_passes_and_is_reported_as_it_is(house):
    job = Checked(house, "binary")
    done = run("--slug", job.slug, "--create", "--", sys.executable, "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)))", variables=job.env)
    assert done.stdout == bytes(range(256)) == job.body(2)


def test_the_settings_come_from_the_file_in_the_home(house, tmp_path):
    folder = tmp_path / ".config" / "allswell"
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(f'server = "{house.url}/ping"\nping_key = "{house.ping_key}"\ncreate = true\n')
    home = {k: v for k, v in env(HOME=str(tmp_path)).items() if k != "XDG_CONFIG_HOME"}
    done = subprocess.run(allswell("--slug", "from-file", "--", "true"), env=home, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [ping["type"] for ping in Checked(house, "from-file").pings()] == ["start", "success"]


# What passes through


def test_streams_and_status_pass_untouched():
    with Server() as server:
        for status in (0, 1, 2, 77, 126, 127, 128, 255):
            done = run("--url", server.url(), "--", "sh", "-c", f"cat; echo e >&2; exit {status}", input=b"in\0put", stdin=None)
            assert (done.returncode, done.stdout, done.stderr) == (status, b"in\0put", b"e\n")
            assert server.paths()[-2:] == ["start", str(status)]


def test_output_in_one_place_keeps_its_order(tmp_path):
    program = "import os\nfor n in range(3000): os.write(1 + n % 2, b'%d\\n' % n)"
    with Server() as server, (tmp_path / "log").open("w+b") as log:
        run("--url", server.url(), "--", sys.executable, "-c", program, capture_output=False, stdout=log, stderr=log)
        log.seek(0)
        assert log.read().split() == [b"%d" % n for n in range(3000)]
        assert server.seen[1][2].split()[-2000:] == [b"%d" % n for n in range(1000, 3000)]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
def test_a_job_that_is_killed_is_reported_and_we_end_by_the_same_signal(sig):
    with Server() as server:
        done = run("--url", server.url(), "--", "sh", "-c", f"echo last words; kill -{int(sig)} $$; sleep 60")
        assert (done.returncode, done.stdout) == (-sig, b"last words\n")
        assert server.paths() == ["start", str(128 + sig)]
        assert server.seen[1][2] == f"last words\n\nallswell run: ended by {sig.name}\n".encode()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_are_handed_on(sig):
    job = f"trap 'echo caught; exit 9' {int(sig)}; echo ready; while :; do sleep 0.05; done"
    with Server() as server:
        started = subprocess.Popen(allswell("--url", server.url(), "--", "sh", "-c", job), env=env(), stdout=subprocess.PIPE)
        assert started.stdout.readline() == b"ready\n"
        started.send_signal(sig)
        assert (started.stdout.read(), started.wait(WAIT)) == (b"caught\n", 9)
        until(lambda: server.paths() == ["start", "9"], "the report")


def test_a_hangup_is_handed_on_in_a_container_whose_session_began_outside():
    job = "trap 'echo caught; exit 9' HUP; kill -HUP $PPID; while :; do sleep 0.05; done"
    with Server() as server:
        inside = ["unshare", "--pid", "--fork", "sh", "-c", '"$@"; exit $?', "sh"]
        command = [*inside, *allswell("--url", server.url(), "--", "sh", "-c", job)]
        done = subprocess.run(command, env=env(), capture_output=True, timeout=WAIT)
        assert (done.returncode, done.stdout) == (9, b"caught\n"), done.stderr
        assert server.paths() == ["start", "9"]


def test_what_is_ignored_stays_ignored_as_by_nohup():
    with Server() as server:
        job = "import signal, sys; sys.exit(signal.getsignal(signal.SIGHUP) != signal.SIG_IGN)"
        nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *allswell("--url", server.url(), "--", sys.executable, "-c", job)]
        assert subprocess.run(nohup, env=env(), timeout=60).returncode == 0
        # Somebody who ignores SIGCHLD would lose the exit status.
        nobody = ["sh", "-c", 'trap "" CHLD; exec "$@"', "sh", *allswell("--url", server.url(), "--", "sh", "-c", "exit 5")]
        assert subprocess.run(nobody, env=env(), timeout=60).returncode == 5
        assert server.paths() == ["start", "0", "start", "5"]


def test_the_job_begins_with_nothing_of_ours():
    """Blocked and ignored signals, open files, working directory, limits, group and session are what they are without us."""
    # Signals above 31 are the C library's own, which ignores two of them in whatever it starts.
    look = "grep -E '^SigBlk|^Umask|^Nice' /proc/self/status; echo $((0x$(awk '/^SigIgn/ { print $2 }' /proc/self/status) & 0x7fffffff)); ls /proc/self/fd | wc -l; pwd; ulimit -a; ps -o pgid=,sid= -p $$; env | sort | grep -v ^_="
    with Server() as server:
        job = ["bash", "-c", look]
        for command in (job, ["bash", "-c", 'trap "" USR1; exec "$@"', "bash", *job]):
            plain = subprocess.run(command, env=env(), capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
            wrapped = subprocess.run([*command[:-3], *allswell("--url", server.url(), "--"), *job], env=env(), capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
            assert plain.returncode == 0 and (wrapped.stdout, wrapped.stderr) == (plain.stdout, plain.stderr)


def test_a_reader_that_goes_away_ends_the_job_as_without_us():
    with Server() as server:
        done = subprocess.run(
            ["bash", "-c", '"$@" | head -c 10; s=${PIPESTATUS[0]}; echo; echo $s', "bash", *allswell("--url", server.url(), "--", "yes")],
            env=env(), capture_output=True, timeout=60,
        )
        assert done.stdout.split() == [b"y"] * 5 + [str(128 + signal.SIGPIPE).encode()]
        assert server.paths() == ["start", str(128 + signal.SIGPIPE)]


def on_terminal(command: list[str]) -> tuple[int, int]:
    """The command under an interactive bash on a terminal of its own; its process id and our end of the terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.clear()
        os.environ.update(env(PS1="$ ", TERM="dumb", HISTFILE="/dev/null"))
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i", *command])
    return pid, fd


def heard(fd: int, word: bytes, so_far: bytes = b"") -> bytes:
    end = time.monotonic() + WAIT
    while word not in so_far:
        assert time.monotonic() < end, (word, so_far)
        if select.select([fd], [], [], 0.1)[0]:
            so_far += os.read(fd, 4096)
    return so_far


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def test_ctrl_c_and_ctrl_z_on_a_terminal_do_what_they_do_without_us():
    # It counts each SIGINT that it gets: one Ctrl-C is one.
    job = "import os,signal,time\nn=[0]\ndef f(*_): n[0]+=1\nsignal.signal(2,f)\nprint('RE'+'ADY',os.getpid(),'.',flush=True)\nend=time.time()+1.5\nwhile not n[0] or time.time()<end: time.sleep(0.05)\nprint('INTS',n[0],flush=True)"
    with Server() as server:
        pid, fd = on_terminal([])
        try:
            line = " ".join(allswell("--url", server.url(), "--", sys.executable, "-c"))
            os.write(fd, f'{line} "$JOB"; echo STAT"US" $?\n'.replace('"$JOB"', "'" + f"exec({job!r})".replace("'", "'\"'\"'") + "'").encode())
            got = heard(fd, b" .", heard(fd, b"READY"))
            job_pid = int(got.split(b"READY")[1].split()[0])
            os.write(fd, b"\x1a")
            got = heard(fd, b"Stopped", got)
            os.write(fd, b"fg\n")
            # Continued, it is in the foreground again and gets the next one.
            until(lambda: os.tcgetpgrp(fd) == os.getpgid(job_pid) and not is_stopped(job_pid), "the job goes on")
            os.write(fd, b"\x03")
            got = heard(fd, b"INTS 1", b"")
            os.write(fd, b"exit\n")
            until(lambda: server.paths() == ["start", "0"], f"the report: {server.paths()} {got}")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(fd)


def test_without_output_the_job_keeps_its_terminal():
    with Server() as server:
        pid, fd = on_terminal(["-c", " ".join([*allswell("--url", server.url(), "--no-output", "--", "sh", "-c"), "'test -t 0 && test -t 1 && test -t 2 && echo ALL''THREE'"])])
        heard(fd, b"ALLTHREE")
        os.waitpid(pid, 0)
        os.close(fd)
        until(lambda: server.paths() == ["start", "0"], "the report")
        assert server.seen[1][2] == b""


# Jobs that are no trouble


def test_a_daemon_that_keeps_the_output_open_neither_holds_us_up_nor_dies(tmp_path):
    word = tmp_path / "word"
    os.mkfifo(word)
    daemon = f"trap '' HUP; read x <{word}; echo first from behind; read x <{word}; echo second from behind"
    with Server() as server:
        started = subprocess.Popen(allswell("--url", server.url(), "--", "sh", "-c", f"({daemon}) & echo front; exit 4"), env=env(), stdout=subprocess.PIPE)
        # It waits for our word, and nobody waits for it.
        assert started.wait(WAIT) == 4
        assert server.paths() == ["start", "4"] and server.seen[1][2] == b"front\n"
        # What it says goes where it would have gone, and the stream ends with it.
        said = [started.stdout.readline()]
        for _ in range(2):
            word.write_text("go on\n")
            said.append(started.stdout.readline())
        assert said == [b"front\n", b"first from behind\n", b"second from behind\n"]
        assert started.stdout.read() == b""


def test_a_flood_is_neither_slowed_nor_kept():
    mib = 2_000
    with Server() as server:
        began = time.monotonic()
        started = subprocess.Popen(allswell("--url", server.url(), "--", "head", "-c", f"{mib}M", "/dev/zero"), env=env(), stdout=subprocess.DEVNULL)
        peak = 0
        while started.poll() is None:
            status = Path(f"/proc/{started.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
            time.sleep(0.02)
        secs = time.monotonic() - began
        assert started.returncode == 0 and secs < 20, secs
        assert 0 < peak < 40_000, f"{peak} kB"
        assert len(server.seen[1][2]) == 100_000 and server.paths() == ["start", "0"]


def test_a_reader_that_does_not_read_keeps_neither_signals_nor_the_report():
    with Server() as server:
        started = subprocess.Popen(allswell("--url", server.url(), "--", "sh", "-c", "trap 'exit 6' TERM; yes & wait"), env=env(), stdout=subprocess.PIPE)
        until(lambda: server.paths() == ["start"], "the start")
        full = fcntl.fcntl(started.stdout, fcntl.F_GETPIPE_SZ) - select.PIPE_BUF
        until(lambda: unread(started.stdout) >= full, "a pipe that nobody reads is full")
        started.terminate()
        until(lambda: server.paths() == ["start", "6"], "the report")
        started.stdout.close()
        assert started.wait(WAIT) == 6


def test_what_cannot_be_started_is_said_and_reported(tmp_path):
    (tmp_path / "plain").write_text("no program")
    with Server() as server:
        for program, status in (("no-such-program", 127), (str(tmp_path / "plain"), 126)):
            done = run("--url", server.url(), "--", program)
            assert done.returncode == status and program.encode() in done.stderr
            assert server.paths()[-1] == str(status) and program.encode() in server.seen[-1][2]


def test_a_full_disk_loses_output_and_not_the_job():
    with Server() as server, open("/dev/full", "wb") as full:
        done = run("--url", server.url(), "--", "sh", "-c", "echo told; sleep 0.2; echo more; exit 2", capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 2 and b"output of the job was lost" in done.stderr
        assert server.seen[1][2] == b"told\nmore\n"


def test_a_job_in_a_room_of_few_resources_still_runs():
    """Without open files or threads for us, the job runs all the same."""
    for limit in ("-n 8", "-n 6"):
        done = subprocess.run(
            ["bash", "-c", f'ulimit {limit}; exec "$@"', "bash", *allswell("--url", closed_url(), "--wait-secs", "1", "--quiet", "--", "sh", "-c", "exit 3")],
            env=env(), capture_output=True, timeout=60,
        )
        assert done.returncode == 3, (limit, done)


# Servers that are away, slow or hostile


def test_a_server_that_is_away_changes_nothing_and_is_said_at_the_end():
    began = time.monotonic()
    done = run("--url", closed_url(), "--wait-secs", "2", "--", "sh", "-c", "echo out; exit 4")
    assert (done.returncode, done.stdout) == (4, b"out\n") and time.monotonic() - began < 15
    assert done.stderr.count(b"\n") == 1 and b"was not reported" in done.stderr
    assert CHECK.encode() not in done.stderr
    assert run("--url", closed_url(), "--wait-secs", "1", "--quiet", "--", "true").stderr == b""


def test_a_server_that_comes_back_in_time_gets_the_report():
    port = free_port()
    started = subprocess.Popen(allswell("--url", f"http://127.0.0.1:{port}/{CHECK}", "--", "sh", "-c", "echo here; exit 1"), env=env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert started.stdout.readline() == b"here\n"
    until(lambda: not children(started.pid), "the end of the job")

    # The runner may not know yet that the job has ended, and try its start once more: that one finds no answer.
    def end_only(handler, number):
        if "/start" in handler.path:
            handler.close_connection = True
        else:
            ok(handler, number)

    with Server(end_only, port=port) as late:
        assert started.wait(WAIT) == 1
        assert late.paths()[-1] == "1" and late.paths().count("1") == 1 and late.seen[-1][2] == b"here\n"
    assert b"the start of the job was not reported" in started.stderr.read()


def test_a_server_that_is_busy_is_asked_again_and_one_that_says_no_is_not():
    def busy_twice(handler, number):
        ok(handler, number, 503 if number in (2, 3) else 200, Retry_After="0")

    with Server(busy_twice) as server:
        assert run("--url", server.url(), "--", "true").stderr == b""
        assert server.paths() == ["start", "0", "0", "0"]
    for status in (400, 404, 409, 410):
        with Server(lambda handler, number: ok(handler, number, status)) as server:  # noqa: B023
            done = run("--url", server.url(), "--", "sh", "-c", "exit 7")
            assert done.returncode == 7 and f"{status}".encode() in done.stderr
            assert server.paths() == ["start", "7"]


def test_an_old_server_that_knows_no_such_check_is_not_believed():
    def not_found(handler, _number):
        handler.send_response(200)
        handler.send_header("Content-Length", "14")
        handler.end_headers()
        handler.wfile.write(b"OK (not found)")

    with Server(not_found) as server:
        assert b"no such check" in run("--url", server.url(), "--", "true").stderr


def test_a_redirect_is_followed_with_the_body():
    with Server() as server:
        def moved(handler, _number):
            handler.send_response(301)
            handler.send_header("Location", f"http://127.0.0.1:{server.port}{handler.path}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with Server(moved) as old:
            assert run("--url", old.url(), "--", "echo", "moved").stderr == b""
        assert server.paths() == ["start", "0"] and server.seen[1][2] == b"moved\n"

    def round_and_round(handler, _number):
        handler.send_response(302)
        handler.send_header("Location", handler.path)
        handler.end_headers()

    with Server(round_and_round) as server:
        done = run("--url", server.url(), "--no-start", "--", "true")
        assert done.returncode == 0 and len(server.seen) == 4 and b"on and on" in done.stderr


def hostile(how):
    """A bare server: `how(connection)` does what it likes with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=lambda c=connection: quietly(how, c), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


def quietly(how, connection):
    try:
        how(connection)
    except OSError:
        pass


def drip(connection):
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def endless_head(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x: yyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 1000)


def endless_body(connection):
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
    while True:
        connection.sendall(b"y" * 65536)


HOSTILE = {
    "silent": lambda connection: time.sleep(60),
    "drip": drip,
    "endless head": endless_head,
    "endless body": endless_body,
    "garbage": lambda connection: connection.sendall(os.urandom(100_000)),
    "closes": lambda connection: connection.close(),
    "patience": lambda connection: [connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100) for _ in range(10_000)],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_server_neither_delays_the_job_nor_holds_it_beyond_the_bound(kind):
    with hostile(HOSTILE[kind]) as listener:
        began = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/{CHECK}"
        started = subprocess.Popen(allswell("--url", url, "--wait-secs", "3", "--quiet", "--", "sh", "-c", "echo at once; exit 5"), env=env(), stdout=subprocess.PIPE)
        assert started.stdout.readline() == b"at once\n"
        assert time.monotonic() - began < 4, "the start of the job waited for its report"
        assert started.wait(WAIT) == 5
        # Its own time and some for a busy machine.
        assert time.monotonic() - began < 3 + 7


def test_whoever_wants_an_end_need_not_wait_for_the_server():
    with hostile(HOSTILE["silent"]) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/{CHECK}"
        started = subprocess.Popen(allswell("--url", url, "--wait-secs", "60", "--", "sh", "-c", "exit 5"), env=env())
        time.sleep(1)
        assert started.poll() is None
        began = time.monotonic()
        started.terminate()
        assert started.wait(WAIT) == 5 and time.monotonic() - began < 20


def test_the_start_is_told_before_the_end_also_by_a_slow_server():
    def slow(handler, number):
        time.sleep(1 if number == 1 else 0)
        ok(handler, number)

    with Server(slow) as server:
        assert run("--url", server.url(), "--", "true").returncode == 0
        assert server.paths() == ["start", "0"]


# TLS, proxies, mistakes


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )
    return folder


def test_https_is_spoken_to_whom_the_system_trusts_and_to_nobody_else(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trust = {"SSL_CERT_FILE": str(certificate / "cert.pem")}
    with Server(tls=context) as server:
        assert run("--url", server.url("localhost"), "--", "echo", "secret", variables=trust).stderr == b""
        assert server.paths() == ["start", "0"] and server.seen[1][2] == b"secret\n"
        for url, variables in ((server.url("127.0.0.1"), trust), (server.url("localhost"), {})):
            done = run("--url", url, "--", "sh", "-c", "exit 3", variables=variables)
            assert done.returncode == 3 and b"certificate is not trusted" in done.stderr
        assert len(server.seen) == 2


def test_a_proxy_of_the_environment_is_used():
    with Server() as proxy:
        variables = {"http_proxy": f"127.0.0.1:{proxy.port}"}
        assert run("--url", f"http://ping.invalid/{CHECK}", "--", "true", variables=variables).stderr == b""
        assert [path.split("?")[0] for _, path, _ in proxy.seen] == [f"http://ping.invalid/{CHECK}/start", f"http://ping.invalid/{CHECK}/0"]


def test_a_login_in_the_address_is_used_and_never_printed():
    seen = []

    def keep(handler, number):
        seen.append(handler.headers["Authorization"])
        ok(handler, number, 404)

    with Server(keep) as server:
        done = run("--url", server.url().replace("http://", "http://alice:hunter2@"), "--", "true")
        assert seen[0] == "Basic YWxpY2U6aHVudGVyMg=="
        assert b"hunter2" not in done.stderr and CHECK.encode() not in done.stderr


def test_settings_that_cannot_be_used_are_said_and_the_job_runs(tmp_path):
    broken = tmp_path / "run.toml"
    broken.write_text('server = "hunter2')
    for args, variables in (
        ([], {}),
        (["--slug", "a"], {}),
        ([], {"ALLSWELL_RUN_URL": "hunter2"}),
        ([], {"ALLSWELL_RUN_CONFIG": str(broken)}),
        ([], {"ALLSWELL_RUN_CONFIG": "/nonexistent/run.toml"}),
    ):
        done = run(*args, "--", "sh", "-c", "echo ran; exit 3", variables=variables)
        assert (done.returncode, done.stdout) == (3, b"ran\n"), (args, variables)
        assert b"the job runs unreported" in done.stderr and b"hunter2" not in done.stderr
    # A mistake in a flag has somebody who sees it.
    assert run("--slugg", "a", "--", "sh", "-c", "echo ran").stdout == b""
