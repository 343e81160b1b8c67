"""What Prometheus is told: the figures move when what they count happens, and every figure that a rule, a panel or the
documentation names is there."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

from house import House, free_port  # noqa: E402
from postgres import Cluster, settings_for  # noqa: E402

WAIT_SECS = 60
SPEED = 30
NAME = re.compile(r"\ballswell_[a-z0-9_]+")


class Figures:
    """One scrape: values by name and labels, and the type of each family."""

    def __init__(self, port: int):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            text = answer.read().decode()
        assert text.endswith("# EOF\n")
        self.types: dict[str, str] = {}
        self.values: dict[str, float] = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"{name} is there twice"
                self.types[name] = kind
            elif not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                assert name not in self.values, f"{name} is there twice"
                self.values[name] = float(value)

    def names(self) -> set[str]:
        return {name.split("{", 1)[0] for name in self.values}

    def __getitem__(self, name: str) -> float:
        return self.values[name]


@pytest.fixture(scope="module")
def served():
    port = free_port()
    with House(settings={"METRICS_LISTEN": f"127.0.0.1:{port}"}) as house:
        until(lambda: "allswell_step_done_timestamp_seconds{step=\"tally\"}" in Figures(port).values, "no tally")
        yield house, port


def until(done, what) -> None:
    end = time.monotonic() + WAIT_SECS
    while not done():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.1)


def named(text: str) -> set[str]:
    return set(NAME.findall(text))


def test_each_figure_has_the_type_that_it_is(served):
    figures = Figures(served[1])
    for name in figures.names():
        if name.endswith("_total"):
            assert figures.types[name.removesuffix("_total")] == "counter", name
    for name, kind in figures.types.items():
        if kind == "counter":
            assert any(full.startswith(name + "_total") for full in figures.names()), f"{name} is a counter"
        if kind == "gauge":
            assert not re.search(r"(errors|evicted|refused|timed_out|requests|panics|lost)$", name), f"{name} only grows"
    assert figures.types["allswell_build"] == "info"
    assert figures.types["allswell_connections_open"] == figures.types["allswell_inbox_depth"] == "gauge"
    assert [n for n in figures.values if n.startswith("allswell_build_info{version=")]


def test_every_figure_that_rules_panels_and_paper_name_is_there_and_the_paper_names_all(served):
    there = Figures(served[1]).names()
    rules = (ROOT / "docs" / "alerts.yml").read_text()
    expressions = re.findall(r"^ +expr: (.+)$", rules, re.MULTILINE)
    assert len(expressions) == rules.count("- alert: ") >= 10
    for expression in expressions:
        assert named(expression) <= there, (expression, named(expression) - there)
        assert named(expression) or "up{" in expression
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 20
    for query in queries:
        assert named(query) and named(query) <= there, (query, named(query) - there)
    variables = [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    assert all(named(v) <= there for v in variables)
    paper = (ROOT / "docs" / "metrics.md").read_text()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in there}
    assert families - named(paper) == set(), "the paper does not name them"
    assert named(paper) - families == set(), "the paper names what is not there"


def labels_of(text: str) -> list[tuple[str, str, str]]:
    """Figures that a query selects by a label's value: name, label, words."""
    found = []
    for name, inside in re.findall(r"(allswell_[a-z0-9_]+)\{([^}]*)\}", text):
        found += [(name, label, words) for label, words in re.findall(r'(\w+)!?=~?"([^"]*)"', inside) if label != "instance"]
    return found


def test_the_labels_that_rules_and_panels_ask_for_are_there(served):
    values = Figures(served[1]).values
    texts = re.findall(r"^ +expr: (.+)$", (ROOT / "docs" / "alerts.yml").read_text(), re.MULTILINE)
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    texts += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = [one for text in texts for one in labels_of(text)]
    assert len(asked) >= 5
    for name, label, words in asked:
        for word in words.split("|"):
            if word == "listen":
                # It only waits, so that its step is never done: it is left out by the rules, and stands elsewhere.
                name = "allswell_step_errors_total"
            assert any(v.startswith(name) and f'{label}="{word}"' in v for v in values), (name, label, word)


def test_promtool_takes_the_rules(served):
    """With Debian's promtool where it is; the shape of the file is looked at in any case."""
    rules = (ROOT / "docs" / "alerts.yml").read_text()
    for block in rules.split("- alert: ")[1:]:
        for key in ("expr: ", "severity: ", "summary: ", "description: "):
            assert block.count(key) == 1, block
    assert "\t" not in rules
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "rules", str(ROOT / "docs" / "alerts.yml")], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_pings_are_counted_by_what_became_of_them(served):
    house, port = served
    house.user("alice@example.org")
    project = house.project("alice@example.org", "Home")
    key, ping_key = house.key(project, "read-write"), house.key(project, "ping")
    before = Figures(port)
    assert house.request("POST", f"/ping/{ping_key}/new?create=1")[0] == 201
    assert house.get(f"/ping/{ping_key}/new")[0] == 200
    assert house.get("/ping/00000000-0000-4000-8000-000000000000")[0] == 404
    body = json.dumps({"name": "x", "timeout": 3600}).encode()
    assert house.request("POST", "/api/v3/checks/", {"X-Api-Key": key}, body)[0] == 201
    after = Figures(port)
    for outcome in ("created", "stored", "not_found"):
        name = f'allswell_pings_total{{outcome="{outcome}"}}'
        assert after[name] - before[name] == 1, outcome
    assert after["allswell_ping_commit_seconds_count"] > before["allswell_ping_commit_seconds_count"]
    assert after["allswell_batch_pings_sum"] - before["allswell_batch_pings_sum"] == 3
    assert after["allswell_requests_total"] - before["allswell_requests_total"] == 4
    assert abs(after['allswell_step_done_timestamp_seconds{step="sweep"}'] - time.time()) < 30
    assert after["allswell_start_timestamp_seconds"] <= time.time() < after["allswell_start_timestamp_seconds"] + 3600


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_silences_deliveries_and_checks_are_counted(database):
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries, "libfaketime is missing: `make setup` installs Debian's package faketime"
    fast = {"LD_PRELOAD": str(libraries[0]), "FAKETIME": f"+0 x{SPEED}"}
    port = free_port()
    with settings_for(database) as settings:
        settings = {**settings, "METRICS_LISTEN": f"127.0.0.1:{port}"}
        if database == "postgres":
            settings |= {"DATABASE_ACQUIRE_SECS": "300", "DATABASE_STATEMENT_SECS": "300"}
        with House(server_env=fast, settings=settings) as house:
            house.user("alice@example.org")
            project = house.project("alice@example.org", "Home")
            key = house.key(project, "read-write")
            house.cli_json("channel", "create", "--project", project, "--kind", "log", "--name", "Log")
            for n in range(3):
                body = json.dumps({"name": f"job {n}", "timeout": 60, "grace": 60, "channels": "*"}).encode()
                status, answer = house.request("POST", "/api/v3/checks/", {"X-Api-Key": key}, body)
                assert status == 201
                assert house.get(f"/ping/{json.loads(answer)['uuid']}")[0] == 200
            until(lambda: Figures(port)['allswell_deliveries_total{outcome="delivered"}'] == 3, house.tail)
            figures = Figures(port)
            assert figures["allswell_checks_missed_total"] == 3
            until(lambda: Figures(port)['allswell_checks{status="down"}'] == 3, "three are down")
            assert Figures(port)['allswell_deliveries_waiting{state="ready"}'] == 0
            assert Figures(port)["allswell_sweep_lag_seconds"] < 60


def test_an_outage_of_the_database_is_counted():
    with Cluster() as cluster:
        port = free_port()
        settings = {"DATABASE_URL": cluster.url(cluster.database()), "METRICS_LISTEN": f"127.0.0.1:{port}",
                    "DATABASE_ACQUIRE_SECS": "1", "DATABASE_STATEMENT_SECS": "1"}
        with House(settings=settings) as house:
            house.user("alice@example.org")
            project = house.project("alice@example.org", "Home")
            ping_key = house.key(project, "ping")
            assert house.get(f"/ping/{ping_key}/job?create=1")[0] == 201
            before = Figures(port)
            cluster.stop(signal.SIGINT)
            assert house.get(f"/ping/{ping_key}/job")[0] == 503
            busy, unavailable = 'allswell_pings_total{outcome="busy"}', 'allswell_database_errors_total{kind="unavailable"}'
            until(lambda: Figures(port)[busy] > before[busy], "the refused ping is not counted")
            assert Figures(port)[unavailable] > before[unavailable]
            until(lambda: Figures(port)['allswell_step_errors_total{step="sweep"}'] > 0, "no failed step is counted")
            cluster.start()
            until(lambda: house.get(f"/ping/{ping_key}/job")[0] == 200, house.tail)


def test_without_the_setting_there_is_no_port_for_figures():
    with House() as house:
        status, body = house.get("/metrics")
        assert status in (401, 404) and b"allswell_" not in body
