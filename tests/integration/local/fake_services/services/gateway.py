"""Stand-in for the gateway: answers every GET, as /healthz does."""

import http.server
import os
import signal
import sys
import threading

from services.fake import log


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


host, _, port = os.environ["TUNESMITH_GATEWAY_LISTEN"].rpartition(":")
server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
log("service.started", name="gateway")
server.serve_forever()
log("service.stopped", name="gateway")
sys.exit(0)
