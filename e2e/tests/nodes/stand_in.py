"""Stands in for the model server: the same routes and signals, without a model.

What it does is told by its environment: EXIT (status to end with at once), STUBBORN (ignores
SIGTERM), UNREADY and SICK (files that, while they exist, fail /ready and /health).
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        bad = {"/ready": os.environ.get("UNREADY"), "/health": os.environ.get("SICK")}
        marker = bad.get(self.path)
        self.send_response(503 if marker and Path(marker).exists() else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ)}).encode())

    def log_message(self, *_: object) -> None:
        pass


def end(_number: int, _frame: FrameType | None) -> None:
    print("drained", flush=True)
    raise SystemExit(0)


if status := int(os.environ.get("EXIT", "0")):
    print("the model does not fit", flush=True)
    sys.exit(status)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "STUBBORN" in os.environ else end)
print("serving", flush=True)
HTTPServer((os.environ["RUNTIME_HOST"], 5000), Answer).serve_forever()
