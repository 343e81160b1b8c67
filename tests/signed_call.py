#!/usr/bin/env python3
"""Call the native API with a signature instead of a key that is sent (docs/native-api.md).

    ALLSWELL_KEY_ID=… ALLSWELL_SECRET=ash_… tests/signed_call.py https://hc.example.org/v1/checks [METHOD [BODY]]

Needs nothing but Python's own library. A test runs it against the real server.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from urllib.parse import urlsplit


def headers(method: str, url: str, body: bytes, key_id: str, secret: str) -> dict[str, str]:
    parts = urlsplit(url)
    timestamp, nonce = str(int(time.time())), str(uuid.uuid4())
    lines = [
        "allswell1", method, parts.netloc.lower(), parts.path, timestamp, nonce, parts.query,
        hashlib.sha256(body).hexdigest(), key_id,
    ]
    signature = hmac.new(secret.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
    return {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "X-Allswell-Key-Id": key_id,
        "X-Allswell-Timestamp": timestamp,
        "X-Allswell-Nonce": nonce,
        "X-Allswell-Signature": signature,
    }


def main(url: str, method: str = "GET", body: str = "") -> int:
    data = body.encode()
    signed = headers(method, url, data, os.environ["ALLSWELL_KEY_ID"], os.environ["ALLSWELL_SECRET"])
    request = urllib.request.Request(url, data=data or None, headers=signed, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            print(answer.read().decode())
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode(), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
