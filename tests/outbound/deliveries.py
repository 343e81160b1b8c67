"""The vectors as webhook channels of a running server: each is saved by the API, tells of a check that fails, and is
called by the server's own delivery, or not.

A server runs for each set of settings that the vectors need.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from house import House  # noqa: E402
from run import PORT, Runner, filled  # noqa: E402

ATTEMPT_SECS = 60


class Deliveries(Runner):
    """Runs vectors through the deliveries of servers."""

    def run_all(self, vectors: list[dict]) -> int:
        by_settings: dict[str, list[dict]] = {}
        for vector in vectors:
            settings = self.variables(vector, "t")
            del settings["PATH"]
            by_settings.setdefault(json.dumps(settings), []).append(vector)
        for settings, group in by_settings.items():
            with House(server_env=json.loads(settings)) as house:
                house.user("a@example.org")
                project = house.project("a@example.org", "p")
                key = house.key(project, "read-write")
                for vector in group:
                    self.deliver(house, key, vector)
                    self.count += 1
                # What waits for its next try needs no farewell.
                house.kill()
        return self.count

    count = 0

    def channel(self, vector: dict, token: str) -> dict:
        """The channel as a user would make it."""
        url = filled(vector["url"], token)
        if vector.get("kind") and "://" not in url:
            url = f"http://{url}/"
        call = {"url": url, "method": "POST", "headers": {}, "body": "x"}
        inject = vector.get("inject")
        if inject:
            value = filled(inject["value"], token)
            if inject["part"] == "path":
                call["url"] = f"http://pub.ssrf.test:{PORT}{value}"
            elif inject["part"] == "method":
                call["method"] = value
            elif inject["part"] == "header_name":
                call["headers"] = {value: "1"}
            else:
                call["headers"] = {"X-Test": value}
        return {"kind": "webhook", "name": vector["id"], "down": call, "up": call}

    def deliver(self, house: House, key: str, vector: dict) -> None:
        token = secrets.token_hex(8)
        self.begin(vector, token)

        def ask(method: str, path: str, body: dict | None = None) -> tuple[int, bytes]:
            headers = {"X-Api-Key": key, "Content-Type": "application/json"}
            return house.request(method, path, headers, json.dumps(body).encode() if body is not None else None)

        status, text = ask("POST", "/v1/channels", self.channel(vector, token))
        if status == 400 or status == 422:
            told = {"refused": json.loads(text)}
            if not told["refused"].get("errors"):
                self.problem(vector, "delivery", f"a refusal that names no field: {text!r}")
            self.judge(vector, "delivery", told)
            return
        if status != 201:
            self.problem(vector, "delivery", f"status {status}: {text!r}")
            return
        channel = json.loads(text)["id"]
        status, text = ask("POST", "/api/v3/checks/", {"name": vector["id"], "channels": channel})
        assert status == 201, text
        check = json.loads(text)["uuid"]
        for n in range(1, vector.get("attempts", 1) + 1):
            # It goes down, and comes up, and so on: each time it is news.
            assert house.get(f"/ping/{check}" + ("/fail" if n % 2 else ""))[0] == 200
            sent = self.attempts(house, channel, n)
        self.judge(vector, "delivery", {"sent": sent})
        # Its next try would meet the names of another vector.
        assert ask("DELETE", f"/v1/channels/{channel}")[0] == 204

    def attempts(self, house: House, channel: str, wanted: int) -> list[dict]:
        """What is stored of the attempts, when there are as many."""
        sql = "select a.outcome, a.http_status from attempts a join deliveries d on d.shard = a.shard" \
            " and d.id = a.delivery_id where lower(hex(d.channel_id)) = ? order by a.started_at"
        end = time.monotonic() + ATTEMPT_SECS
        while time.monotonic() < end:
            with sqlite3.connect(f"file:{house.data / 'allswell.db'}?mode=ro", uri=True) as db:
                rows = db.execute(sql, [channel.replace("-", "")]).fetchall()
            if len(rows) >= wanted:
                return [{"error": None if outcome == "ok" else outcome, "status": status} for outcome, status in rows]
            time.sleep(0.02)
        raise AssertionError(f"{channel}: {len(rows)} of {wanted} attempts")
