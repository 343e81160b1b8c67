"""The verifiers of docs/webhooks.md, taken out of the document and run against the vectors."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs/webhooks.md").read_text()


def example(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.S).group(1)


def cases() -> list[tuple[dict, bool]]:
    """Good calls of both vector files, and what somebody could make of them."""
    found = []
    for name in ("hmac_vectors.json", "signing_vectors.json"):
        for vector in json.loads((ROOT / "tests/vectors" / name).read_text())["standard_webhooks"]:
            body = base64.b64decode(vector["body_b64"]) if "body_b64" in vector else vector["body"].encode()
            at = int(vector["timestamp"])
            good = {
                "secret": vector["secret"],
                "id": vector["id"],
                "timestamp": str(at),
                "signature": vector["signature"],
                "body": body,
                "now": at,
            }
            other = "v1," + base64.b64encode(bytes(32)).decode()
            found += [
                (good, True),
                ({**good, "now": at + 300}, True),
                ({**good, "now": at - 300}, True),
                ({**good, "signature": f"{other} {good['signature']}"}, True),
                ({**good, "now": at + 301}, False),
                ({**good, "now": at - 301}, False),
                ({**good, "body": body + b" "}, False),
                ({**good, "id": good["id"] + "x"}, False),
                ({**good, "timestamp": str(at + 1)}, False),
                ({**good, "signature": other}, False),
                ({**good, "signature": good["signature"].replace("v1,", "v2,")}, False),
                ({**good, "secret": "whsec_" + base64.b64encode(bytes(24)).decode()}, False),
            ]
    assert len(found) == 6 * 12
    return found


def headers(case: dict) -> dict[str, str]:
    return {
        "webhook-id": case["id"],
        "webhook-timestamp": case["timestamp"],
        "webhook-signature": case["signature"],
    }


def test_python():
    scope: dict = {}
    exec(example("python"), scope)
    for case, good in cases():
        assert scope["verify"](case["secret"], headers(case), case["body"], now=case["now"]) is good, case


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_node():
    given = [
        {**case, "body": base64.b64encode(case["body"]).decode(), "headers": headers(case)} for case, _ in cases()
    ]
    program = example("javascript") + (
        "const cases = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify(cases.map((c) =>"
        " verify(c.secret, c.headers, Buffer.from(c.body, 'base64'), c.now))));"
    )
    done = subprocess.run(["node", "-e", program], input=json.dumps(given), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [good for _, good in cases()]


def test_rust():
    source = (ROOT / "crates/core/examples/verify_webhook.rs").read_text()
    code = re.search(r"// begin\n(.*?)// end\n", source, re.S).group(1).replace("#[rustfmt::skip]\n", "")
    assert code.strip() == example("rust").strip(), "the document and the example are two texts"
    lines = [
        "\t".join(
            [
                case["secret"],
                case["id"],
                case["timestamp"],
                case["signature"],
                base64.b64encode(case["body"]).decode(),
                str(case["now"]),
            ]
        )
        for case, _ in cases()
    ]
    command = ["cargo", "run", "-q", "--locked", "-p", "allswell-core", "--example", "verify_webhook"]
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ
    )
    assert done.stdout.split() == [str(good).lower() for _, good in cases()]
