#!/usr/bin/env python3
"""An agent assist app for tests: takes utterances, and says what it was given.

    assist_app.py [PORT]

Prints `listening on HOST:PORT`. POST /utterances takes one; `GET /heard` gives all of them as a JSON list, each with
`authorization`, `idempotencyKey`, `utterance` and `answered`. The first delivery of a text that begins with `later:` is
answered 503, every delivery of one that begins with `never:` 400, as an app would that is busy, or cannot read it.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 512 * 1024
EVENTS = {"events": [{"type": "suggestion", "id": "s-1", "content": "spoken-words-of-the-app"}]}


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    heard = []
    lock = threading.Lock()

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        if self.path != "/utterances" or length > BODY_BYTES_MAX:
            return self.answer(404, {})
        utterance = json.loads(self.rfile.read(length))
        key = self.headers.get("idempotency-key")
        text = str(utterance.get("text", ""))
        with self.lock:
            is_first = all(each["idempotencyKey"] != key for each in self.heard)
            status = 503 if text.startswith("later:") and is_first else 400 if text.startswith("never:") else 200
            self.heard.append({
                "authorization": self.headers.get("authorization"),
                "idempotencyKey": key,
                "utterance": utterance,
                "answered": status,
            })
        return self.answer(status, EVENTS if status == 200 else {})

    def do_GET(self):
        if self.path != "/heard":
            return self.answer(404, {})
        with self.lock:
            heard = list(self.heard)
        return self.answer(200, heard)

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing: what was said is in its requests."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), App)
    print("listening on {}:{}".format(*server.server_address), flush=True)
    server.serve_forever()
