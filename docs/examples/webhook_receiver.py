"""Receives AUM's webhooks, verifies each, and prints what happened. Needs Python, nothing else.

AUM_WEBHOOK_SECRET=aumw_… python webhook_receiver.py 9000
"""

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["AUM_WEBHOOK_SECRET"].encode()
seen = set()  # in a real receiver: a unique column of the table that the work is put into


def is_genuine(timestamp, signatures, body):
    """Whether the message was signed with our secret within the last five minutes."""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(time.time() - int(timestamp)) > 300:
        return False
    wanted = "v1=" + hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return any(hmac.compare_digest(wanted.encode(), given.strip().encode()) for given in signatures.split(","))


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not is_genuine(self.headers.get("X-AUM-Timestamp", ""), self.headers.get("X-AUM-Signature", ""), body):
            self.answer(401)
            return
        event = json.loads(body)
        if event["id"] not in seen:
            seen.add(event["id"])
            print(event["at"], event["type"], event["title"], flush=True)
        self.answer(204)  # at once; slow work belongs into a queue

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
