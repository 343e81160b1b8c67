"""Every vector through the real binary, in a network namespace whose loopback holds every address of the set.

Public-looking addresses are there too, so what was really reached tells allow from deny, and nothing leaves the machine.
Run by `tests/test_outbound.py`, or by hand:

    unshare -n target/venv/bin/python tests/outbound/run.py target/debug/allswell [--only ID] [--class webhook]

`--deliveries` has them called by a running server's webhook channels instead of `allswell outbound check`.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from nameserver import Nameserver  # noqa: E402
from sink import Sink, plain  # noqa: E402

PORT, PROXY_PORT, DNS_PORT = 8080, 3128, 5300
PROXY_VARIABLES = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "FTP_PROXY"]


def make_world(addresses: list[str]) -> None:
    """Everything that lo takes. What it refuses (multicast, 0.0.0.0) nobody can be reached at."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"], check=False)
    lines = []
    for address in addresses:
        bits = "128 nodad" if ":" in address else "32"
        length, *rest = bits.split()
        lines.append(" ".join(["address", "add", f"{address}/{length}", "dev", "lo", *rest]))
    subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True, check=False)
    # Every other address is at home here too, so that a name with sixty of them reaches somebody.
    for family, network in (("-4", "11.1.0.0/24"), ("-6", "2606:4700::/32"), ("-6", "2a00::/16")):
        subprocess.run(["ip", family, "route", "add", "local", network, "dev", "lo"], check=False)


def filled(text: str, token: str) -> str:
    return text.replace("{port}", str(PORT)).replace("{token}", token).replace("{proxyport}", str(PROXY_PORT))


class Runner:
    def __init__(self, binary: str, trap: bool):
        file = json.loads((HERE / "vectors.json").read_text())
        self.vectors = file["vectors"]
        make_world(file["canary_addresses"])
        self.names = Nameserver(("127.0.0.1", DNS_PORT))
        self.sink, self.default_port = Sink(PORT), Sink(80)
        self.others = [Sink(port) for port in (22, 25, 143, 465, 6000)]
        self.proxy = Sink(PROXY_PORT)
        self.binary, self.trap = binary, trap
        self.directory = tempfile.mkdtemp()
        self.problems: list[str] = []

    def sinks(self) -> list[Sink]:
        return [self.sink, self.default_port, *self.others]

    def variables(self, vector: dict, token: str) -> dict[str, str]:
        variables = {
            "PATH": os.environ["PATH"],
            "ALLSWELL_DNS_NAMESERVERS": f"127.0.0.1:{DNS_PORT}",
            "ALLSWELL_OUTBOUND_HTTPS_ONLY": "false",
        }
        for key, value in vector.get("policy", {}).items():
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()
            variables[f"ALLSWELL_OUTBOUND_{key.upper()}"] = text
        if self.trap:
            variables |= {name: f"http://127.0.0.1:{PROXY_PORT}" for name in PROXY_VARIABLES}
            variables["RES_OPTIONS"] = "ndots:15"
            variables["LOCALDOMAIN"] = "ssrf.test"
        return variables | {name: filled(text, token) for name, text in vector.get("env", {}).items()}

    def command(self, vector: dict, kind: str, token: str) -> list[str] | None:
        url = filled(vector["url"], token)
        if vector.get("kind") and "://" not in url:
            url = f"http://{url}/"
        options = ["--class", kind, "--send", "--repeat", str(vector.get("attempts", 1))]
        if kind == "probe":
            options += ["--redirects", "5"]
        inject = vector.get("inject")
        if inject:
            value = filled(inject["value"], token)
            if "\0" in value:
                # No command line can say it.
                return None
            if inject["part"] == "path":
                url = f"http://pub.ssrf.test:{PORT}{value}"
            elif inject["part"] == "method":
                options += ["--method", value]
            elif inject["part"] == "header_name":
                options += ["--header", f"{value}:1"]
            else:
                options += ["--header", f"X-Test: {value}"]
        return [self.binary, "--json", "outbound", "check", *options, "--", url]

    def run(self, vector: dict, kind: str) -> None:
        token = secrets.token_hex(8)
        command = self.command(vector, kind, token)
        if command is None:
            return
        self.begin(vector, token)
        done = subprocess.run(
            command, env=self.variables(vector, token), cwd=self.directory, capture_output=True, text=True, timeout=100
        )
        try:
            told = json.loads(done.stdout) if done.stdout else {}
        except json.JSONDecodeError:
            told = {}
        if done.returncode not in (0, 1):
            self.problem(vector, kind, f"status {done.returncode}: {done.stderr}")
        self.judge(vector, kind, told)

    def begin(self, vector: dict, token: str) -> None:
        """Sets the world up for a vector, with nobody reached yet."""
        redirect_to = filled(vector.get("redirect_to", ""), token)
        alternative = redirect_to if vector.get("sink") == "altsvc" else ""
        for sink in self.sinks():
            sink.begin("" if alternative else redirect_to, alternative)
        self.proxy.begin()
        # Names of other vectors are there too: aliases lead to them.
        known = {f"lo.ssrf.test": {"A": ["127.0.0.1"]}}
        known |= {f"{name}.ssrf.test": entry for name, entry in vector.get("dns", {}).items()}
        self.names.set(known)

    def judge(self, vector: dict, kind: str, told: dict) -> None:
        reached = {plain(address) for sink in self.sinks() for address in sink.reached}
        targets = {plain(address) for address in vector.get("targets", [])}
        also = {plain(address) for address in vector.get("allow_also", [])}
        forbidden = {plain(address) for address in vector.get("forbidden", [])}
        sent = told.get("sent", [])
        expect = vector["expect"]
        wrong = []
        if expect == "allow":
            if not reached or not reached <= targets:
                wrong.append(f"reached {reached}, wanted {targets}")
            if not sent or any(one["status"] != 200 for one in sent):
                wrong.append("it was not answered")
        elif expect == "deny":
            if not reached <= also:
                wrong.append(f"reached {reached}")
            if not also and any(one["error"] is None for one in sent):
                wrong.append("it was answered")
        elif not reached <= targets | also:
            wrong.append(f"reached {reached}, wanted {targets | also}")
        if reached & forbidden:
            wrong.append(f"reached {reached & forbidden}, which is forbidden")
        if self.proxy.reached:
            wrong.append("the trap proxy was called")
        for where, head in [one for sink in self.sinks() for one in sink.requests]:
            names = {line.split(b":")[0].strip().lower().decode("latin-1") for line in head.split(b"\r\n")[1:]}
            bad = names & {name.lower() for name in vector.get("must_not_see", []) + vector.get("check_headers_absent", [])}
            if bad and (where not in also or "inject" in vector):
                wrong.append(f"{where} saw {bad}")
            if head.count(b"\r\n\r\n") > 1 or b"\n" in head.replace(b"\r\n", b""):
                wrong.append(f"{where} saw more than one head: {head!r}")
        for text in wrong:
            self.problem(vector, kind, f"{text}; {json.dumps(told)}")

    def problem(self, vector: dict, kind: str, text: str) -> None:
        self.problems.append(f"{vector['id']} ({vector['reason']}) as {kind}: {text}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--only", default="")
    parser.add_argument("--class", dest="kinds", action="append")
    parser.add_argument("--deliveries", action="store_true", help="by webhook channels of a running server")
    parser.add_argument("--trap", action="store_true", help="set every proxy variable to a trap")
    arguments = parser.parse_args()
    binary = str(Path(arguments.binary).resolve())
    count = 0
    if arguments.deliveries:
        from deliveries import Deliveries

        os.environ["TEST_BINARY"] = binary
        runner = Deliveries(binary, arguments.trap)
        count = runner.run_all([one for one in runner.vectors if one["id"].startswith(arguments.only)])
    else:
        runner = Runner(binary, arguments.trap)
        for kind in arguments.kinds or ["webhook", "probe"]:
            for vector in runner.vectors:
                if vector["id"].startswith(arguments.only):
                    runner.run(vector, kind)
                    count += 1
    for problem in runner.problems:
        print(problem)
    print(f"{count} runs, {len(runner.problems)} problems")
    return 1 if runner.problems else 0


if __name__ == "__main__":
    sys.exit(main())
