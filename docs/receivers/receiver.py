"""Receives webhooks of rowcall: verifies each, takes it once, prints it.

WEBHOOK_SECRET=whsec_… python3 receiver.py [PORT]
"""
import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
TOLERANCE = 5 * 60  # seconds
MAX_BODY = 16 << 20


def verified(headers, body):
    """Whether one of the signatures was made of these bytes, lately."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    mac = hmac.new(KEY, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    want = b"v1," + base64.b64encode(mac.digest())
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(want, s) for s in signatures)


seen = set()  # in your program: a table, written in the transaction of the effect


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY:
            return self.answer(413)
        body = self.rfile.read(length)
        if not verified(self.headers, body):
            return self.answer(401)
        events = json.loads(body)
        for event in events if isinstance(events, list) else [events]:
            if (event["source"], event["id"]) in seen:
                continue  # it came before: say so with a 2xx
            seen.add((event["source"], event["id"]))
            print(event["type"], event.get("subject", ""), json.dumps(event.get("data")), flush=True)
        self.answer(204)  # only now: what was answered with 2xx does not come again

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
address = os.environ.get("LISTEN_HOST", "127.0.0.1")
ThreadingHTTPServer((address, port), Receiver).serve_forever()
