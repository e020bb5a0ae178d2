"""Receives webhooks and holds what they say: checks signatures, takes repeats for repeats, answers quickly.

    HOMEROOM_WEBHOOK_SECRETS=whsec_… python webhook_receiver.py 8080

Needs standardwebhooks, and TLS in front of it. This one holds everything in memory; a real one writes the events into a
queue or a database before it answers, because whatever was answered with 204 is not sent again.
"""

# ruff: noqa: INP001 - a script that is run, not part of a package
from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from folding import Roster
from standardwebhooks import Webhook, WebhookVerificationError

MAX_BYTES = 4_000_000
KNOWN_IDS = 1_000


class Receiver:
    """Folds webhooks that are signed with one of some secrets: two of them while one takes the other's place."""

    def __init__(self, secrets: list[str]) -> None:
        self.roster = Roster()
        self.cursor = ""
        self._keys = [Webhook(secret) for secret in secrets]
        self._known: OrderedDict[str, None] = OrderedDict()
        self._turn = Lock()

    def take(self, headers: dict[str, str], body: bytes) -> bool:
        """Take a webhook; False for one that was not sent by Homeroom, or was altered, or is too old."""
        if not any(_verifies(key, headers, body) for key in self._keys):
            return False
        with self._turn:
            if headers["webhook-id"] not in self._known:
                self._fold(json.loads(body)["data"])
                self._known[headers["webhook-id"]] = None
                if len(self._known) > KNOWN_IDS:
                    self._known.popitem(last=False)
        return True

    def _fold(self, data: dict[str, Any]) -> None:
        for event in data["events"]:
            self.roster.fold(event["type"], event["source"], event["subject"], event["data"])
        self.cursor = data["cursor"] or self.cursor  # from here the pull feed would go on


def _verifies(key: Webhook, headers: dict[str, str], body: bytes) -> bool:
    try:
        key.verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def make_server(port: int, receiver: Receiver) -> ThreadingHTTPServer:
    """A server that hands what is posted to a receiver."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 20

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_BYTES:
                self.send_error(413)
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(204 if receiver.take(headers, self.rfile.read(length)) else 400)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name the server calls it by
            """Say nothing: addresses and bodies don't belong into logs."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    _secrets = os.environ["HOMEROOM_WEBHOOK_SECRETS"].split(",")
    make_server(int(sys.argv[1]), Receiver(_secrets)).serve_forever()
